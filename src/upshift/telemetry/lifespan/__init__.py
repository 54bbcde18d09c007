"""How the process starts and ends: what lives as long as it serves, and the way out on SIGTERM.

Flows in: the server's lifespan messages and signals, and what the application adds.
Flows out: starts, stops and last calls, in order and before a deadline.
"""

from upshift.telemetry.lifespan.lifespan import Lifespan

__all__ = ["Lifespan"]
