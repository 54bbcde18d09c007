"""A request's ids on their way out and back in."""

import asyncio
import contextvars
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool

from upshift.record import Record
from upshift.record.identity import Ids, parse_traceparent
from upshift.sql.capture.capture import Capture
from upshift.telemetry.ids.propagation import Propagation, outgoing_headers
from upshift.telemetry.tracing.sampling import HeadSampling

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"

current: ContextVar[Record | None] = ContextVar("test_record", default=None)
language = ContextVar("language", default="en")


def identified(**headers) -> Record:
    record = Record("GET", "/orders/7", 0.0)
    Ids().identify(
        record, {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    )
    return record


@pytest.fixture
def propagation():
    return Propagation(current)


@pytest.fixture
def request_record():
    """A request that is open."""
    record = identified(x_request_id="checkout-7")
    token = current.set(record)
    yield record
    current.reset(token)


class TestOutgoingHeaders:
    def test_they_name_the_trace_and_the_requests_own_span(self):
        record = identified(traceparent=PARENT)
        assert outgoing_headers(record, is_sampled=True) == {
            "traceparent": f"00-{TRACE}-{record.span_id}-01",
            "X-Request-ID": TRACE,
        }

    def test_the_callers_trace_state_goes_with_its_trace(self):
        record = identified(traceparent=PARENT, tracestate="vendor=1")
        assert outgoing_headers(record, is_sampled=True)["tracestate"] == "vendor=1"
        assert "tracestate" not in outgoing_headers(identified(tracestate="vendor=1"), is_sampled=True)

    def test_a_job_hands_the_trace_state_on_too(self, propagation):
        with propagation.restore({"traceparent": PARENT, "tracestate": "vendor=1"}):
            assert propagation.headers()["tracestate"] == "vendor=1"

    def test_the_flag_is_the_decision_of_who_samples(self, request_record):
        def sent(rate):
            return Propagation(current, HeadSampling(rate)).headers()["traceparent"][-2:]

        assert (sent(0.0), sent(1.0)) == ("00", "01")
        request_record.is_sampled = True
        assert sent(0.0) == "01"
        request_record.is_sampled = False
        assert sent(1.0) == "00"

    def test_where_nothing_is_traced_the_callers_span_and_flag_are_handed_on(self):
        for flag in ("00", "01"):
            record = identified(traceparent=PARENT[:-2] + flag)
            assert outgoing_headers(record, is_sampled=None)["traceparent"] == PARENT[:-2] + flag

    def test_where_nothing_is_traced_and_nobody_called_it_is_the_requests_own(self, request_record):
        span = f"00-{request_record.trace_id}-{request_record.span_id}-00"
        assert outgoing_headers(request_record, is_sampled=None)["traceparent"] == span

    def test_a_record_without_ids_has_none(self):
        assert outgoing_headers(Record("GET", "/", 0.0), is_sampled=True) == {}

    @given(
        st.one_of(
            st.binary(max_size=200),
            st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True),
        ),
        st.one_of(st.binary(max_size=200), st.from_regex(rb"[A-Za-z0-9._-]{1,140}", fullmatch=True)),
        st.booleans(),
    )
    def test_whatever_came_in_what_goes_out_is_valid_and_safe(self, traceparent, request_id, is_sampled):
        record = Record("GET", "/", 0.0)
        Ids().identify(record, {b"traceparent": traceparent, b"x-request-id": request_id})
        headers = outgoing_headers(record, is_sampled=is_sampled)
        trace = parse_traceparent(headers["traceparent"].encode())
        assert trace == (record.trace_id, record.span_id, is_sampled)
        assert re.fullmatch(r"[A-Za-z0-9._~:@+=/-]{1,128}", headers["X-Request-ID"])
        if given_trace := parse_traceparent(traceparent):
            assert trace.trace_id == given_trace.trace_id


class TestRestore:
    def test_a_job_has_the_ids_that_its_request_sent(self, propagation, request_record):
        headers = propagation.headers()
        with propagation.restore(headers):
            job = current.get()
            assert (job.request_id, job.trace_id) == ("checkout-7", request_record.trace_id)
            assert propagation.headers() == headers
        assert current.get() is request_record

    def test_names_may_be_in_any_case(self, propagation):
        with propagation.restore({"TraceParent": PARENT, "x-request-ID": "a"}):
            assert (current.get().trace_id, current.get().request_id) == (TRACE, "a")
            assert current.get().is_sampled is True

    def test_without_valid_ids_there_are_minted_ones(self, propagation):
        with propagation.restore({"traceparent": "garbage", "X-Request-ID": "a b"}):
            job = current.get()
            assert re.fullmatch("[0-9a-f]{32}", job.trace_id)
            assert job.request_id == job.trace_id

    @given(
        st.dictionaries(st.text(max_size=20) | st.sampled_from(["traceparent", "X-Request-ID"]), st.text())
    )
    def test_no_headers_break_it(self, headers):
        propagation = Propagation(current)
        with propagation.restore(headers):
            sent = propagation.headers()
        assert parse_traceparent(sent["traceparent"].encode())
        assert sent["X-Request-ID"].isascii()

    def test_values_that_are_no_text_and_huge_ones_are_passed_over(self, propagation):
        with propagation.restore({"traceparent": None, "X-Request-ID": "x" * 1_000_000, 7: "seven"}):
            assert len(current.get().request_id) == 32

    def test_an_exception_leaves_and_the_record_before_is_back(self, propagation, request_record):
        with pytest.raises(RuntimeError), propagation.restore({}):
            raise RuntimeError
        assert current.get() is request_record


class TestCarry:
    def test_a_thread_pool_runs_it_with_the_ids_after_the_request_is_over(self, propagation):
        record = identified(x_request_id="checkout-7")
        token = current.set(record)
        job = propagation.carry(current.get)
        current.reset(token)
        record.route = "/orders/{order_id}"
        with ThreadPoolExecutor() as pool:
            seen = pool.submit(job).result()
        assert seen is not record
        assert (seen.request_id, seen.trace_id, seen.span_id) == (
            "checkout-7", record.trace_id, record.span_id,
        )  # fmt: skip
        assert seen.route == "/orders/{order_id}"
        assert current.get() is None

    def test_it_runs_many_times_and_at_once(self, propagation, request_record):
        barrier = threading.Barrier(4)

        def job(number):
            barrier.wait(10)
            return number, current.get().request_id

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(propagation.carry(job), range(4)))
        assert results == [(number, "checkout-7") for number in range(4)]

    def test_other_context_goes_along_and_changes_stay_within(self, propagation, request_record):
        token = language.set("zh")

        def job():
            before = language.get()
            language.set("de")
            return before

        assert propagation.carry(job)() == "zh"
        assert language.get() == "zh"
        language.reset(token)

    async def test_a_task_has_the_ids_and_leaves_the_request_alone(self, propagation, request_record):
        async def job(more):
            await asyncio.sleep(0)
            return current.get(), more

        seen, more = await asyncio.create_task(propagation.carry(job)(more=1))
        assert (seen.request_id, more) == ("checkout-7", 1)
        assert seen is not request_record
        assert current.get() is request_record

    async def test_a_cancelled_task_puts_the_record_back(self, propagation, request_record):
        started = asyncio.Event()

        async def job():
            started.set()
            await asyncio.sleep(60)

        context = contextvars.copy_context()
        task = asyncio.create_task(propagation.carry(job)(), context=context)
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert context[current] is request_record

    def test_what_it_calls_is_a_child_of_the_same_span_as_before(self):
        for sampling in (None, HeadSampling(1.0)):
            propagation = Propagation(current, sampling)
            with propagation.restore({"traceparent": PARENT}):
                current.get().span_id = "1" * 16
                assert propagation.carry(propagation.headers)() == propagation.headers()

    async def test_a_partial_of_a_coroutine_function_is_one(self, propagation, request_record):
        async def job(number):
            return current.get() is request_record, number

        assert await propagation.carry(partial(job, 1))() == (False, 1)

    def test_arguments_results_exceptions_and_the_name_are_the_functions(self, propagation, request_record):
        def job(a, *, b):
            """Say."""
            if b is None:
                raise KeyError(a)
            return a + b

        carried = propagation.carry(job)
        assert (carried(1, b=2), carried.__name__, carried.__doc__) == (3, "job", "Say.")
        with pytest.raises(KeyError):
            carried(1, b=None)
        assert propagation.carry(partial(job, 1))(b=1) == 2

    def test_outside_of_a_request_it_is_the_function_itself(self, propagation):
        assert propagation.carry(print) is print

    def test_what_the_application_said_of_the_request_is_the_jobs_own_copy(self, propagation, request_record):
        job = propagation.carry(lambda: current.get().context)
        for said in ({}, {"user": 7}):
            request_record.context = said
            assert job() == said
            assert job() is not said


class TestStatementsOfJobs:
    @pytest.fixture
    def engine(self):
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        capture = Capture([engine], current)
        yield engine
        capture.close()
        engine.dispose()

    def test_they_are_not_added_to_the_request(self, propagation, request_record, engine):
        def job():
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            return current.get()

        carried = propagation.carry(job)
        with ThreadPoolExecutor() as pool:
            seen = pool.submit(carried).result()
        assert request_record.statements == []
        assert (seen.statements, seen.statements_dropped) == ([], 1)
