"""Request ids and W3C trace context."""

import multiprocessing
import os
import re
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.record import Record
from upshift.record.identity import Ids, parse_traceparent, safe_request_id

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01".encode()


def identified(**headers):
    record = Record("GET", "/", 0.0)
    Ids().identify(
        record, {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    )
    return record


class TestTraceparent:
    def test_a_valid_one_is_read(self):
        assert parse_traceparent(VALID) == (TRACE, SPAN, True)

    @pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True)])
    def test_the_lowest_flag_tells_whether_the_caller_sampled(self, flags, sampled):
        assert parse_traceparent(VALID[:-2] + flags.encode()).is_sampled is sampled

    def test_a_later_version_may_say_more(self):
        assert parse_traceparent(b"cc" + VALID[2:] + b"-what-the-future") == (TRACE, SPAN, True)

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"garbage",
            VALID + b"-more",
            VALID + b"x",
            b"ff" + VALID[2:],
            VALID.upper(),
            VALID.replace(TRACE.encode(), b"0" * 32),
            VALID.replace(SPAN.encode(), b"0" * 16),
            VALID[:-1],
            b" " + VALID,
            VALID + b"\n",
            VALID.replace(b"-", b"_"),
            b"cc" + VALID[2:] + b"-" + b"x" * 1_000_000,
        ],
        ids=lambda value: repr(value[:70]),
    )
    def test_others_are_refused(self, value):
        assert parse_traceparent(value) is None

    @given(st.binary(max_size=80))
    def test_no_bytes_break_it(self, value):
        assert parse_traceparent(value) is None

    @given(
        st.sampled_from(["00", "01", "ff", "0g", "000"]),
        st.text("0af", min_size=31, max_size=33),
        st.text("0f", min_size=15, max_size=17),
        st.sampled_from(["00", "01", "1", "zz"]),
        st.sampled_from(["", "-", "-x", "x"]),
    )
    def test_it_accepts_what_the_recommendation_accepts(self, version, trace, span, flags, rest):
        value = f"{version}-{trace}-{span}-{flags}{rest}".encode()
        later = version != "00" or not rest
        assert (parse_traceparent(value) is not None) == bool(
            re.fullmatch(
                rb"(?!ff)[0-9a-f]{2}-(?!0{32}-)[0-9a-f]{32}-(?!0{16}-)[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", value
            )
            and later
        )


class TestRequestId:
    @pytest.mark.parametrize(
        "value", [b"a", b"7f3a-0", b"Root=1-67891233-abcdef012345678912345678", b"x" * 128]
    )
    def test_a_safe_one_is_taken(self, value):
        assert safe_request_id(value) == value.decode()

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"a b",
            b"a\r\nSet-Cookie: x=y",
            b"x" * 129,
            b"<script>",
            b"*/ DROP",
            "é".encode(),
            b"x" * 10**6,
        ],
    )
    def test_one_that_could_do_harm_is_not(self, value):
        assert safe_request_id(value) is None


class TestIdentify:
    def test_a_trace_gives_the_request_its_id(self):
        record = identified(traceparent=VALID.decode(), x_request_id="other")
        assert (record.request_id, record.trace_id, record.parent_span_id) == (TRACE, TRACE, SPAN)
        assert record.is_sampled is True
        assert re.fullmatch("[0-9a-f]{16}", record.span_id)
        assert record.span_id != SPAN

    def test_a_safe_request_id_is_taken_where_there_is_no_trace(self):
        record = identified(x_request_id="checkout-7", traceparent="garbage")
        assert record.request_id == "checkout-7"
        assert re.fullmatch("[0-9a-f]{32}", record.trace_id)

    def test_else_one_is_minted_that_starts_a_trace(self):
        record = identified(x_request_id="not safe")
        assert record.request_id == record.trace_id
        assert record.trace_id.endswith(record.span_id)
        assert (record.parent_span_id, record.is_sampled) == ("", None)


class TestMinting:
    def test_ids_are_valid_in_a_traceparent(self):
        ids = Ids()
        assert parse_traceparent(f"00-{ids.mint()}-{ids.mint_span()}-00".encode())

    def test_no_id_comes_twice(self):
        one, two = Ids(), Ids()
        assert len({each.mint() for _ in range(10_000) for each in (one, two)}) == 20_000

    def test_threads_that_mint_at_once_get_ids_of_their_own(self):
        ids, minted = Ids(), []
        threads = [Thread(target=lambda: minted.extend([ids.mint() for _ in range(5_000)])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(minted)) == 20_000

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_process_mints_ids_of_its_own(self):
        ids = Ids()
        ids.mint()
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=lambda: queue.put([ids.mint() for _ in range(100)]))
        child.start()
        minted = queue.get()
        child.join()
        assert not {ids.mint() for _ in range(100)} & set(minted)
        assert not {each[:16] for each in minted} & {ids.mint()[:16]}


class TestTraceState:
    def test_it_goes_with_a_valid_trace(self):
        assert identified(traceparent=VALID.decode(), tracestate="vendor=1").trace_state == "vendor=1"

    def test_without_a_valid_trace_there_is_none(self):
        assert identified(tracestate="vendor=1").trace_state == ""

    @pytest.mark.parametrize("value", ["", "a=\n", "a=\u00e9", "x" * 513])
    def test_one_that_could_not_be_passed_on_is_left_out(self, value):
        assert identified(traceparent=VALID.decode(), tracestate=value).trace_state == ""


def test_the_low_bits_of_minted_traces_are_spread():
    ids = Ids()
    low = [int(ids.mint()[-14:], 16) / 2**56 for _ in range(1_000)]
    assert all(any(tenth / 10 <= value < (tenth + 1) / 10 for value in low[-100:]) for tenth in range(10))
