"""The queue with a bound and a thread of its own."""

import threading
import time

import pytest

from upshift.telemetry.tracing.outbox import Outbox


class Delivered:
    """What was delivered; `gate` holds it back."""

    def __init__(self):
        self.batches = []
        self.is_finished = False
        self.under_way = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.threads = set()

    def deliver(self, batch):
        self.threads.add(threading.current_thread().name)
        self.under_way.set()
        self.gate.wait(20)
        self.batches.append(batch)

    def finish(self):
        self.is_finished = True


@pytest.fixture
def delivered():
    delivered = Delivered()
    yield delivered
    delivered.gate.set()


def outbox_to(delivered, size=100, batch=10, seconds=60.0):
    return Outbox(delivered.deliver, delivered.finish, size=size, batch=batch, seconds=seconds)


class TestBatches:
    def test_all_is_delivered_in_order_before_it_finishes(self, delivered):
        outbox = outbox_to(delivered)
        for number in range(25):
            outbox.put(number, 1)
        outbox.close(20.0)
        assert [each for batch in delivered.batches for each in batch] == list(range(25))
        assert max(map(len, delivered.batches)) <= 10
        assert (delivered.is_finished, outbox.dropped) == (True, 0)

    def test_a_full_batch_does_not_wait(self, delivered):
        outbox = outbox_to(delivered)
        outbox.put("all", 10)
        assert delivered.under_way.wait(20)
        outbox.close(20.0)

    def test_one_thing_does_not_wait_longer_than_asked(self, delivered):
        outbox = outbox_to(delivered, seconds=0.01)
        outbox.put("one", 1)
        assert delivered.under_way.wait(20)
        outbox.close(20.0)

    def test_what_is_heavier_than_a_batch_goes_alone(self, delivered):
        outbox = outbox_to(delivered)
        for name, weight in (("light", 1), ("heavy", 50), ("light", 1)):
            outbox.put(name, weight)
        outbox.close(20.0)
        assert ["heavy"] in delivered.batches

    def test_what_is_heavier_than_all_room_goes_when_nothing_else_waits(self, delivered):
        outbox = outbox_to(delivered, size=5, batch=5)
        outbox.put("huge", 1_000)
        outbox.close(20.0)
        assert delivered.batches == [["huge"]]


class TestBounds:
    def test_without_room_it_is_dropped_and_counted(self, delivered):
        delivered.gate.clear()
        outbox = outbox_to(delivered)
        outbox.put("under way", 10)
        assert delivered.under_way.wait(20)
        for number in range(1_000):
            outbox.put(number, 1)
        assert outbox.dropped == 900
        delivered.gate.set()
        outbox.close(20.0)
        assert sum(map(len, delivered.batches)) == 101

    def test_after_close_nothing_is_taken_and_no_thread_starts(self, delivered):
        outbox = outbox_to(delivered)
        outbox.close(1.0)
        outbox.put("late", 3)
        assert (outbox.dropped, delivered.threads) == (3, set())

    def test_nothing_starts_before_something_is_put(self, delivered):
        before = threading.active_count()
        outbox = outbox_to(delivered)
        assert threading.active_count() == before
        outbox.close(0.0)
        assert not delivered.is_finished


class TestClosing:
    def test_a_delivery_that_hangs_is_left_behind_and_the_rest_counted(self, delivered):
        delivered.gate.clear()
        outbox = outbox_to(delivered)
        outbox.put("under way", 10)
        assert delivered.under_way.wait(20)
        outbox.put("waits", 7)
        started = time.monotonic()
        outbox.close(0.05)
        outbox.close(60.0)
        assert time.monotonic() - started < 15
        assert outbox.dropped == 7

    def test_what_was_left_behind_is_not_delivered_later(self, delivered):
        delivered.gate.clear()
        outbox = outbox_to(delivered)
        outbox.put("under way", 10)
        assert delivered.under_way.wait(20)
        outbox.put("waits", 7)
        outbox.close(0.0)
        delivered.gate.set()
        outbox._thread.join(20)
        assert delivered.batches == [["under way"]]
        assert delivered.is_finished

    def test_the_thread_ends(self, delivered):
        outbox = outbox_to(delivered)
        outbox.put("one", 1)
        outbox.close(20.0)
        assert not outbox._thread.is_alive()


class TestFlush:
    def test_what_waits_is_delivered_when_it_returns_and_more_can_follow(self, delivered):
        outbox = outbox_to(delivered)
        for round_number in range(3):
            outbox.put(round_number, 1)
            assert outbox.flush(20.0)
            assert [each for batch in delivered.batches for each in batch] == list(range(round_number + 1))
        outbox.close(20.0)
        assert outbox.dropped == 0

    def test_it_returns_by_the_deadline(self, delivered):
        outbox = outbox_to(delivered)
        delivered.gate.clear()
        outbox.put(1, 1)
        assert not outbox.flush(0.05)

    def test_without_a_thread_there_is_nothing_to_wait_for(self, delivered):
        outbox = outbox_to(delivered)
        assert outbox.flush(0.0)
        outbox.close(0.0)
        assert outbox.flush(0.0)
