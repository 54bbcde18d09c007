import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.errors import LoadError
from upshift.load.request import Request, aim


def rendered(url, *requests):
    target, aimed = aim(url, requests)
    return [request.render(target) for request in aimed]


def test_a_request_is_rendered_as_http():
    [wire] = rendered("http://localhost:8000", Request("GET", "/a?b=1"))
    assert wire == (
        b"GET /a?b=1 HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: upshift-load\r\nAccept: */*\r\n\r\n"
    )


def test_a_body_brings_its_length():
    [wire] = rendered("http://h", Request("POST", "/a", body=b"hello"))
    assert b"\r\nContent-Length: 5\r\n" in wire
    assert wire.endswith(b"\r\n\r\nhello")


def test_a_post_without_a_body_says_so():
    [wire] = rendered("http://h", Request("POST", "/a"))
    assert b"\r\nContent-Length: 0\r\n" in wire


def test_a_given_header_replaces_ours_whatever_its_case():
    [wire] = rendered("http://h", Request("GET", "/a", headers={"host": "other", "ACCEPT": "text/html"}))
    assert b"\r\nhost: other\r\nUser-Agent: upshift-load\r\nACCEPT: text/html\r\n" in wire
    assert wire.lower().count(b"host:") == 1


def test_without_requests_the_url_itself_is_asked_for():
    [wire] = rendered("http://h/v1/items?x=1#part")
    assert wire.startswith(b"GET /v1/items?x=1 HTTP/1.1\r\n")


def test_a_request_without_a_path_asks_for_the_url_itself():
    _, [request] = aim("http://h/v1/", [Request(method="POST")])
    assert request.path == "/v1/"
    assert request.name == "POST /v1/"


def test_a_path_goes_below_the_urls_own():
    _, [request] = aim("http://h/v1/", [Request("GET", "/items")])
    assert request.path == "/v1/items"
    assert request.name == "GET /items"


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("http://localhost", "localhost", 80, "localhost"),
        ("https://localhost", "localhost", 443, "localhost"),
        ("http://[::1]:8000", "::1", 8000, "[::1]:8000"),
        ("http://BÜCHER.example:80/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example:80"),
    ],
)
def test_a_url_names_host_and_port(url, host, port, authority):
    target, _ = aim(url, [])
    assert (target.host, target.port, target.authority) == (host, port, authority)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:8000", "no URL to send requests to"),
        ("ftp://localhost", "no URL to send requests to"),
        ("http://", "no URL to send requests to"),
        ("http://localhost:99999", "no URL"),
        ("http://[::1", "no URL"),
        ("http://a..b", "no URL"),
        ("http://me:secret@localhost", "credentials"),
    ],
)
def test_a_url_that_cannot_be_loaded_is_refused(url, reason):
    with pytest.raises(LoadError, match=reason):
        aim(url, [])


def test_a_query_belongs_to_one_path():
    with pytest.raises(LoadError, match="move the query"):
        aim("http://h/?x=1", [Request("GET", "/a")])


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "a"},
        {"path": "/a b"},
        {"path": "/a\r\nX: 1"},
        {"path": "/ä"},
        {"method": "GET /"},
        {"method": ""},
        {"method": "CONNECT"},
        {"headers": {"X": "1\r\nY: 2"}},
        {"headers": {"X": "\0"}},
        {"headers": {"X": "€"}},
        {"headers": {"X Y": "1"}},
        {"headers": {"": "1"}},
        {"headers": {"Content-Length": "7"}},
        {"headers": {"transfer-encoding": "chunked"}},
        {"weight": 0},
        {"weight": float("nan")},
        {"weight": float("inf")},
    ],
)
def test_a_request_that_would_break_the_wire_is_refused(fields):
    with pytest.raises(LoadError):
        Request(**fields)


def test_the_refusal_of_a_path_shows_its_encoding():
    with pytest.raises(LoadError, match="/caf%C3%A9%20au%20lait"):
        Request("GET", "/café au lait")


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text()), st.binary())
def test_no_input_smuggles_a_second_request(path, method, headers, body):
    try:
        request = Request(method, path, headers, body)
    except LoadError:
        return
    [wire] = rendered("http://h", request)
    head, _, rest = wire.partition(b"\r\n\r\n")
    assert rest == body
    assert b"\n" not in head.replace(b"\r\n", b"")
    lines = head.split(b"\r\n")
    assert len(lines[0].split(b" ")) == 3
    assert len(lines) <= 1 + 4 + len(headers)
