"""Hands a request's ids on: to other services, threads, jobs, and to Sentry.

Flows in: the open record.
Flows out: headers, contexts, and the tags of events.
"""

from upshift.telemetry.ids.clients import ClientHooks
from upshift.telemetry.ids.propagation import Propagation
from upshift.telemetry.ids.sentry import SentryTags

__all__ = ["ClientHooks", "Propagation", "SentryTags"]
