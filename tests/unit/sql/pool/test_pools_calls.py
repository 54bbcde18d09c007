"""The work of observing one use of a connection, counted in Python calls, so that a slow-down needs no clock.

A count that rises on purpose is changed here, with the reason in the changelog.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextvars import ContextVar
from pathlib import Path

import pytest
from sqlalchemy import create_engine, literal, select
from sqlalchemy.pool import QueuePool

import upshift
from upshift.record import CallSites, Record
from upshift.sql.capture.transactions import Transactions
from upshift.sql.pool.pools import Pools

OURS = str(Path(upshift.__file__).parent)


class Silent:
    """Its calls are not Upshift's own, so they do not count here; see `test_database`."""

    def connection_returned(self, checkout):
        pass

    def connection_created(self, pool, seconds):
        pass

    def connection_timed_out(self, pool):
        pass


@pytest.fixture
def call_sites():
    return CallSites()


@pytest.fixture
def calls(call_sites):
    """A function that counts Upshift's own Python calls of some work on an engine, and SQLAlchemy's."""
    engine = create_engine("sqlite://", poolclass=QueuePool)

    def count(work, *, observed=True):
        current = ContextVar("current", default=None)
        current.set(Record("GET", "/", 0.0))
        pools = Pools([engine], current, Silent(), call_sites=call_sites) if observed else None
        transactions = Transactions([engine], pools.checkouts, lambda *_: None) if pools is not None else None
        ours, theirs = Counter(), Counter()

        def note(frame, event, _argument):
            if event == "call":
                file = frame.f_code.co_filename
                if file.startswith(OURS):
                    ours[frame.f_code.co_qualname] += 1
                elif "sqlalchemy" in file:
                    theirs[frame.f_code.co_qualname] += 1

        try:
            for _ in range(3):
                work(engine)
            sys.setprofile(note)
            try:
                work(engine)
            finally:
                sys.setprofile(None)
        finally:
            if pools is not None:
                transactions.close()
                pools.close()
        return ours, theirs

    yield count
    engine.dispose()


def take(engine):
    engine.raw_connection().close()


def read(engine):
    with engine.connect() as connection:
        connection.execute(select(literal(1)))


CHECKOUT = {
    "Pools._connecting.<locals>.observed_connect": 1,
    "Checkout.__init__": 1,
    "Origins.of": 1,
    "CallSites.find_known": 1,
    "Pools._returning.<locals>.observed_return": 1,
}


def test_a_checkout_and_checkin_cost_five_python_calls_two_of_which_find_the_line(calls):
    ours, _ = calls(take)
    assert ours == Counter(CHECKOUT) + Counter(["Transactions._ending.<locals>.observed_end"])  # the reset


def test_a_transaction_costs_two_and_one_to_tell_how_it_was_rolled_back(calls):
    ours, _ = calls(read)
    assert ours == Counter(CHECKOUT) + Counter(
        {
            "Transactions._beginning.<locals>.observed_begin": 1,
            "Transactions._ending.<locals>.observed_end": 1,
            "_kind_of_rollback": 1,
        }
    )


@pytest.mark.parametrize("work", [take, read])
def test_sqlalchemy_takes_no_slower_path(calls, work):
    assert calls(work)[1] == calls(work, observed=False)[1]


def test_the_count_is_the_same_each_time(calls):
    assert calls(read) == calls(read)
