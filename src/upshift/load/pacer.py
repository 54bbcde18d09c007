"""Waking up on time.

The loops' own timers tick in milliseconds (libuv's and epoll's resolution), as long as many answers take. A
Linux timerfd wakes the loop within some 50 µs of the moment asked for, without a spinning process that would
take the CPU from the server under test. `os.timerfd_create` came with Python 3.13 only, so this calls libc.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CLOCK_MONOTONIC = 1
"""The clock of `time.monotonic`."""
_TIMER_ABSTIME = 1


class Pacer:
    """Calls `wake` at moments of `time.monotonic`: one moment at a time, never much earlier or later.

    Where there is no timerfd, it falls back to the loop's timer; `wake` may then come up to a millisecond
    early, and has to ask again.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = wake
        self._timer = _Timer() if sys.platform == "linux" else None
        self._handle: asyncio.TimerHandle | None = None
        if self._timer is not None:
            self._loop.add_reader(self._timer.descriptor, wake)

    def wake_at(self, moment: float) -> None:
        """Replace the moment to wake at; one that has passed wakes at once."""
        if self._timer is not None:
            self._timer.set(moment)
        else:
            self._handle = self._loop.call_later(max(0.0, moment - time.monotonic()), self._wake)

    def close(self) -> None:
        """Wake no more. May be called twice."""
        if self._timer is not None:
            self._loop.remove_reader(self._timer.descriptor)
            self._timer.close()
            self._timer = None
        if self._handle is not None:
            self._handle.cancel()


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class _Timer:
    """A timerfd: its descriptor is readable from the moment set until the next one is set."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._spec = _Itimerspec()
        self._pointer = ctypes.byref(self._spec)
        self.descriptor = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    def set(self, moment: float) -> None:
        nanoseconds = round(moment * 1e9)
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._settime(self.descriptor, _TIMER_ABSTIME, self._pointer, None)

    def close(self) -> None:
        os.close(self.descriptor)
