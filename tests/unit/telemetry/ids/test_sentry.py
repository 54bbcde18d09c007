"""What Sentry's events say of the request, with the real SDK and a transport that keeps them."""

import gc
import sys
import weakref
from contextvars import ContextVar

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from upshift.record import Record, Recorder, SocketRecorder
from upshift.record.identity import Ids
from upshift.telemetry.ids.sentry import SentryTags

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Memory(Transport):
    def __init__(self):
        super().__init__()
        self.events = []

    def capture_envelope(self, envelope):
        self.events.append(envelope.get_event())


@pytest.fixture
def events():
    """The events of a client that patches nothing; `sentry_sdk.init` would stay for the whole process."""
    transport = Memory()
    client = sentry_sdk.Client(
        "http://key@127.0.0.1:9/1",
        transport=transport,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(client)
        yield transport.events
    client.close(timeout=1)


@pytest.fixture
def current():
    return ContextVar("current", default=None)


@pytest.fixture
def tags(current):
    tags = SentryTags(current)
    yield tags
    tags.close()


@pytest.fixture
def record(current):
    record = Record("GET", "/orders/7", 0.0)
    Ids().identify(record, {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()})
    record.request_id = "checkout-7"
    record.route = "/orders/{order_id}"
    token = current.set(record)
    yield record
    current.reset(token)


class TestTags:
    def test_an_event_within_a_request_names_it(self, events, tags, record):
        sentry_sdk.capture_message("something odd")
        assert events[0]["tags"] == {
            "request_id": "checkout-7",
            "trace_id": TRACE,
            "http.route": "/orders/{order_id}",
        }

    def test_one_outside_of_a_request_has_no_tags(self, events, tags):
        sentry_sdk.capture_message("something odd")
        assert not events[0].get("tags")

    def test_the_applications_own_tags_stay(self, events, tags, record):
        sentry_sdk.get_isolation_scope().set_tag("request_id", "mine")
        sentry_sdk.get_isolation_scope().set_tag("tenant", "acme")
        sentry_sdk.capture_message("something odd")
        assert events[0]["tags"]["request_id"] == "mine"
        assert events[0]["tags"]["tenant"] == "acme"
        assert events[0]["tags"]["trace_id"] == TRACE

    def test_the_route_of_an_open_request_is_asked_for(self, events, current, record):
        record.route = None
        tags = SentryTags(current, lambda record: "/orders/{id}" + "x" * 500)
        sentry_sdk.capture_message("something odd")
        assert events[0]["tags"]["http.route"] == ("/orders/{id}" + "x" * 500)[:200]
        tags.close()

    def test_a_route_that_is_not_known_has_no_tag(self, events, tags, record):
        record.route = None
        sentry_sdk.capture_message("something odd")
        assert "http.route" not in events[0]["tags"]

    def test_two_applications_in_one_process_tag_their_own(self, events, tags, record):
        others = SentryTags(ContextVar("others", default=None))
        sentry_sdk.capture_message("something odd")
        assert events[0]["tags"]["request_id"] == "checkout-7"
        others.close()


class TestExceptionsThatHaveLeft:
    """Where Sentry's integrations catch them: outside of the recorder, with no record open."""

    async def capture(self, recorder, scope):
        async def receive():
            return {"type": "websocket.connect"}

        async def send(message): ...

        try:
            await recorder(scope, receive, send)
        except ZeroDivisionError as error:
            sentry_sdk.capture_exception(error)

    async def app(self, scope, receive, send):
        1 / 0  # noqa: B018 - the exception

    async def test_one_of_a_request_names_it(self, events, tags, current):
        records = []
        recorder = Recorder(self.app, records.append, current)
        await self.capture(
            recorder,
            {
                "type": "http",
                "method": "GET",
                "path": "/",
                "headers": [],
                "endpoint": 1,
                "path_template": "/p",
            },
        )
        assert events[0]["tags"] == {
            "request_id": records[0].request_id,
            "trace_id": records[0].trace_id,
            "http.route": "/p",
        }

    async def test_one_of_a_connection_names_it(self, events, tags, current):
        sockets = []
        recorder = SocketRecorder(self.app, sockets.append, current)
        await self.capture(recorder, {"type": "websocket", "path": "/", "headers": []})
        assert events[0]["tags"]["request_id"] == sockets[0].request_id

    async def test_one_of_another_application_is_left_alone(self, events, tags):
        recorder = Recorder(self.app, lambda record: None, ContextVar("others", default=None))
        await self.capture(recorder, {"type": "http", "method": "GET", "path": "/", "headers": []})
        assert not events[0].get("tags")

    async def test_of_one_application_in_another_each_tags_its_own(self, events, tags, current):
        inner, outer = [], []
        others = SentryTags(ContextVar("others", default=None))
        nested = Recorder(Recorder(self.app, inner.append, current), outer.append, others._current)
        await self.capture(nested, {"type": "http", "method": "GET", "path": "/", "headers": []})
        assert events[0]["tags"]["request_id"] == inner[0].request_id  # the first to tag; its tags stay
        tags.close()
        await self.capture(nested, {"type": "http", "method": "GET", "path": "/", "headers": []})
        assert events[1]["tags"]["request_id"] == outer[1].request_id
        others.close()


class TestLifetime:
    def test_without_sentry_nothing_is_installed_or_imported(self, current, monkeypatch):
        for name in [name for name in sys.modules if name.partition(".")[0] == "sentry_sdk"]:
            monkeypatch.delitem(sys.modules, name)
        tags = SentryTags(current)
        tags.look()
        assert not tags.is_installed
        assert "sentry_sdk" not in sys.modules
        tags.close()

    def test_an_application_that_imports_sentry_after_us_is_seen_at_the_next_look(
        self, events, current, record, monkeypatch
    ):
        module = sys.modules["sentry_sdk.scope"]
        monkeypatch.delitem(sys.modules, "sentry_sdk.scope")
        tags = SentryTags(current)
        monkeypatch.setitem(sys.modules, "sentry_sdk.scope", module)
        tags.look()
        tags.look()
        sentry_sdk.capture_message("something odd")
        assert events[0]["tags"]["request_id"] == "checkout-7"
        tags.close()

    def test_after_close_events_are_as_before(self, events, tags, record):
        before = list(sys.modules["sentry_sdk.scope"].global_event_processors)
        tags.close()
        tags.close()
        tags.look()
        sentry_sdk.capture_message("something odd")
        assert not events[0].get("tags")
        assert len(sys.modules["sentry_sdk.scope"].global_event_processors) == len(before) - 1

    def test_after_close_sentry_keeps_nothing_of_ours_alive(self, current):
        tags = SentryTags(current)
        tags.close()
        alive = weakref.ref(tags)
        del tags
        gc.collect()
        assert alive() is None


def test_a_fault_is_counted_logged_once_and_the_event_is_sent(events, current, record, caplog):
    def route_of(record):
        raise RuntimeError("routes have gone")

    tags = SentryTags(current, route_of)
    sentry_sdk.capture_message("first")
    sentry_sdk.capture_message("second")
    assert [event["message"] for event in events] == ["first", "second"]
    assert tags.faults == 2
    assert len([each for each in caplog.records if each.name == "upshift.telemetry"]) == 1
    tags.close()
