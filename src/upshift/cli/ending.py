"""How a process ends that ran code of others: soon, whatever thread of that code still waits for something.

Python waits for every thread when it ends, also for one that waits for a database which never answers; and
while it waits, Ctrl-C is a traceback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import NoReturn

END_SECONDS = 2.0
"""How long threads and exit handlers may take once the command is done."""


class Unhurried(SystemExit):
    """The end of a command whose threads and exit handlers may take their time, as a server's may."""


def leave(status: int) -> NoReturn:
    """End the process as `sys.exit` does, after `END_SECONDS` without those that hold it up."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader is gone
            stream.flush()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(status))  # all has been said
    last = threading.Timer(END_SECONDS, os._exit, [status])
    last.daemon = True
    last.start()
    sys.exit(status)
