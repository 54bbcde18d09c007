"""What happened: the record of one request.

Flows in: ASGI requests (through `Recorder`) and statements (from `upshift.sql.capture.capture`).
Flows out: a `Record` per request, handed to whoever subscribed when it closes.
"""

from upshift.record.attach import Attachment
from upshift.record.backlog import Backlog
from upshift.record.callsite import CallSite, CallSites
from upshift.record.closing import Closing, CountedSeries, Kind
from upshift.record.histogram import Histogram
from upshift.record.keeper import Keeper
from upshift.record.lookup import find_record
from upshift.record.method import METHODS, known_method
from upshift.record.model import MAX_STATEMENTS, LazyLoad, ObjectLoad, Record, Statement
from upshift.record.pool import Gap, Hold, PoolState, Transaction
from upshift.record.recorder import Recorder
from upshift.record.replica import ReplicaState
from upshift.record.route import RouteTemplates
from upshift.record.socket import Socket, SocketRecorder, of_requests

__all__ = [
    "MAX_STATEMENTS",
    "METHODS",
    "Attachment",
    "Backlog",
    "CallSite",
    "CallSites",
    "Closing",
    "CountedSeries",
    "Gap",
    "Histogram",
    "Hold",
    "Keeper",
    "Kind",
    "LazyLoad",
    "ObjectLoad",
    "PoolState",
    "Record",
    "Recorder",
    "ReplicaState",
    "RouteTemplates",
    "Socket",
    "SocketRecorder",
    "Statement",
    "Transaction",
    "find_record",
    "known_method",
    "of_requests",
]
