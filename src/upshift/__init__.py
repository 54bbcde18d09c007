"""Upshift finds what makes a Python backend slow, fixes it, and proves the fix."""

from upshift.application import Upshift
from upshift.settings import Settings

__all__ = ["Settings", "Upshift"]
