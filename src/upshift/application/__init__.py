"""`Upshift`: one object that wires the rooms to one application. It holds no logic of its own."""

from upshift.application.upshift import Upshift

__all__ = ["Upshift"]
