"""What happens to requests and responses on their way: today, compression.

Flows in: ASGI requests on their way to the application, and its responses.
Flows out: the same responses, in the coding that suits the client. Nothing here knows routes or statements.
"""

from upshift.traffic.compression import Compression
from upshift.traffic.negotiation import accepts_gzip, is_compressible

__all__ = ["Compression", "accepts_gzip", "is_compressible"]
