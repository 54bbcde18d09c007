"""A queue with a bound, and a thread that empties it: for what goes to who may be slow, down or hanging.

Who puts never waits. The thread starts with the first thing put, not on import, so that a server may load the
application before it forks. A forked child starts with an empty queue and a thread of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Outbox(Generic[T]):
    """Hands things over in batches, from a thread of its own.

    Calls of `put` must not overlap; any thread may close.

    Args:
        deliver: takes a batch. It may take its time, and must not raise.
        finish: called in the thread when all is delivered at the end; it must not raise.
        size: the weight of what may wait.
        batch: the weight of a batch, and from which on nothing waits for more. What weighs more is one alone.
        seconds: how long things wait for others.

    Attributes:
        dropped: the weight of what found no room, or was left when the time to close was over.

    Example:
        >>> outbox = Outbox(print, lambda: print("finished"), size=10, batch=5, seconds=60.0)
        >>> for thing in "abc":
        ...     outbox.put(thing, weight=2)
        >>> outbox.close(deadline_seconds=10.0)
        ['a', 'b']
        ['c']
        finished
    """

    def __init__(
        self,
        deliver: Callable[[list[T]], None],
        finish: Callable[[], None],
        *,
        size: int,
        batch: int,
        seconds: float,
    ) -> None:
        self.dropped = 0
        self._deliver = deliver
        self._finish = finish
        self._size = size
        self._batch = batch
        self._seconds = seconds
        self._closed = False
        self._queue: _Queue[T] | None = None
        self._thread: threading.Thread | None = None

    def put(self, thing: T, weight: int) -> None:
        """Let a thing wait, or drop it when there is no room.

        Raises:
            RuntimeError: the system gives no thread.
        """
        if self._closed:
            self.dropped += weight
            return
        queue = self._queue
        if queue is None or self._thread is None or not self._thread.is_alive():  # as in a forked child
            queue = self._start()
        waiting = queue.weight
        if waiting and waiting + weight > self._size:
            self.dropped += weight
            return
        queue.put(thing, weight)
        if waiting + weight >= self._batch:
            queue.wake.set()

    def flush(self, deadline_seconds: float) -> bool:
        """Deliver what waits, and return when that is done; False where it takes longer than the deadline."""
        if self._closed or self._queue is None or self._thread is None or not self._thread.is_alive():
            return True
        delivered = threading.Event()
        self._queue.asked.append(delivered)
        self._queue.wake.set()
        return delivered.wait(deadline_seconds)

    def close(self, deadline_seconds: float) -> None:
        """Deliver what waits, and finish; what takes longer than the deadline is left behind.

        Calling it twice does nothing more.
        """
        if self._closed:
            return
        self._closed = True
        if self._queue is None or self._thread is None or not self._thread.is_alive():
            return
        self._queue.is_closing = True
        self._queue.wake.set()
        self._thread.join(deadline_seconds)
        if self._thread.is_alive():
            self._queue.is_abandoned = True
            self.dropped += self._queue.weight

    def _start(self) -> _Queue[T]:
        queue: _Queue[T] = _Queue()
        self._thread = threading.Thread(target=self._run, args=(queue,), name="upshift-outbox", daemon=True)
        self._thread.start()
        self._queue = queue
        return queue

    def _run(self, queue: _Queue[T]) -> None:
        is_last = False
        while not is_last:
            queue.wake.wait(self._seconds)
            queue.wake.clear()
            is_last = queue.is_closing  # before the queue is emptied: nothing is put when closing
            asked = [queue.asked.popleft() for _ in range(len(queue.asked))]
            while batch := queue.take(self._batch):
                self._deliver(batch)
            for delivered in asked:
                delivered.set()
        self._finish()


class _Queue(Generic[T]):
    """What one thread puts and another takes, without a lock that a fork could leave locked."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.asked: deque[threading.Event] = deque()
        self.is_closing = False
        self.is_abandoned = False
        self._things: deque[tuple[T, int]] = deque()
        self._put = 0  # each of these two numbers is written by one thread only
        self._taken = 0

    @property
    def weight(self) -> int:
        return self._put - self._taken

    def put(self, thing: T, weight: int) -> None:
        self._things.append((thing, weight))
        self._put += weight

    def take(self, most: int) -> list[T]:
        things = self._things
        batch: list[T] = []
        total = 0
        while things and not self.is_abandoned and (not batch or total + things[0][1] <= most):
            thing, weight = things.popleft()
            batch.append(thing)
            total += weight
        self._taken += total
        return batch
