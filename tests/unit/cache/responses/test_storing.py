"""Which answers are stored, and what of them: RFC 9111 §3, and what is careful beyond it."""

from __future__ import annotations

import pytest

from .asking import JSON, App, ask

COOKIE = (b"cookie", b"session=1")
AUTHORIZATION = (b"authorization", b"Bearer x")


async def is_stored(cache, app, *request_headers, **told):
    cache.responses("/things*", **told)
    served = cache.responses.around(app)
    first = await ask(served, "/things", *request_headers)
    second = await ask(served, "/things", *request_headers)
    assert first.is_complete
    assert second.is_complete
    assert first.status == second.status == app.status
    assert (first.body == second.body) is (app.runs == 1 or b"%d" not in app.body)
    return app.runs == 1


@pytest.mark.parametrize(
    ("headers", "is_so"),
    [
        ([], True),
        ([(b"cache-control", b"max-age=60")], True),
        ([(b"cache-control", b"max-age=0")], False),
        ([(b"cache-control", b"max-age=60, s-maxage=0")], False),
        ([(b"cache-control", b"max-age=0, s-maxage=60")], True),
        ([(b"cache-control", b"max-age=soon")], False),
        ([(b"cache-control", b"max-age=60, must-revalidate, proxy-revalidate")], True),
        ([(b"Cache-Control", b"NO-STORE")], False),
        ([(b"cache-control", b"max-age=60"), (b"cache-control", b"no-store")], False),
        ([(b"cache-control", b"no-cache")], False),
        ([(b"cache-control", b'no-cache="set-cookie"')], False),
        ([(b"cache-control", b"private")], False),
        ([(b"cache-control", b'private="x-user"')], False),
        ([(b"expires", b"Thu, 01 Jan 1970 00:00:00 GMT")], False),
        ([(b"expires", b"0")], False),
        ([(b"expires", b"Thu, 01 Jan 2099 00:00:00 GMT")], True),
        ([(b"cache-control", b"max-age=60"), (b"age", b"59")], True),
        ([(b"cache-control", b"max-age=60"), (b"age", b"60")], False),
        ([(b"vary", b"*")], False),
        ([(b"vary", b"Accept, *")], False),
        ([(b"vary", b"Accept")], True),
        ([(b"vary", b", ".join(b"X-%d" % number for number in range(20)))], False),
        ([(b"set-cookie", b"session=1")], False),
        ([(b"content-range", b"bytes 0-1/2")], False),
        ([(b"transfer-encoding", b"chunked")], False),
        ([(b"content-type", b"text/event-stream")], False),
        ([(b"cache-control", b'\xff\x00;;=,"')], True),
    ],
)
async def test_what_its_header_fields_say(cache, headers, is_so):
    app = App(*headers)
    if headers and headers[0][0] == b"content-type":
        app.headers = ()
        app = _of_type(headers[0])

    assert await is_stored(cache, app) is is_so


def _of_type(content_type):
    class Typed(App):
        async def __call__(self, scope, receive, send):
            async def typed_send(message):
                if message["type"] == "http.response.start":
                    others = [each for each in message["headers"] if each != JSON]
                    message = {**message, "headers": [*others, content_type]}
                await send(message)

            await super().__call__(scope, receive, typed_send)

    return Typed()


@pytest.mark.parametrize("status", [201, 203, 301, 400, 404, 500, 503])
async def test_what_went_another_way_is_stored_only_if_told(cache, status):
    assert not await is_stored(cache, App(status=status))


@pytest.mark.parametrize("status", [301, 404])
async def test_it_is_if_told(cache, status):
    assert await is_stored(cache, App(status=status), statuses=[200, status])


@pytest.mark.parametrize(
    ("pieces", "length", "is_so"), [(3, True, True), (3, False, False), (1, False, True)]
)
async def test_a_body_in_pieces_is_a_stream_where_its_length_is_not_told(cache, pieces, length, is_so):
    assert await is_stored(cache, App(pieces=pieces, length=length)) is is_so


async def test_a_stream_is_stored_if_told(cache):
    assert await is_stored(cache, App(pieces=3, length=False), streams=True)


async def test_a_stream_of_events_never_is(cache):
    assert not await is_stored(
        cache, _of_type((b"content-type", b"text/event-stream; charset=utf-8")), streams=True
    )


async def test_a_cookie_is_stored_if_told(cache):
    assert await is_stored(cache, App((b"set-cookie", b"language=zh")), cookies=True)


@pytest.mark.parametrize(("size", "is_so"), [(1_000, True), (1_001, False)])
@pytest.mark.parametrize("length", [True, False])
async def test_what_is_too_large_is_not(cache, size, is_so, length):
    app = App(body=b"x" * size, pieces=4, length=length)

    assert await is_stored(cache, app, max_bytes=1_000, streams=True) is is_so


@pytest.mark.parametrize("length", [b"3", b"300", b"-1", b"many", b"9" * 5_000])
async def test_what_tells_its_length_wrongly_is_not(cache, length):
    assert not await is_stored(cache, App((b"content-length", length), length=False))


@pytest.mark.parametrize("asked_with", [COOKIE, AUTHORIZATION])
@pytest.mark.parametrize(
    ("headers", "is_so"),
    [
        ([], False),
        ([(b"cache-control", b"max-age=60")], False),
        ([(b"cache-control", b"public")], True),
        ([(b"cache-control", b"s-maxage=60")], True),
        ([(b"cache-control", b"public, private")], False),
    ],
)
async def test_who_names_himself_shares_only_what_says_that_it_is_for_everybody(
    cache, asked_with, headers, is_so
):
    assert await is_stored(cache, App(*headers), asked_with) is is_so


@pytest.mark.parametrize("asked_with", [COOKIE, AUTHORIZATION])
async def test_he_is_not_given_what_was_stored_for_others(cache, asked_with):
    cache.responses("/things")
    app = App()
    served = cache.responses.around(app)
    await ask(served)

    assert (await ask(served, "/things", asked_with)).body == b"run 2"
    assert (await ask(served)).body == b"run 1"


async def test_what_varies_by_the_cookie_is_stored_for_each(cache):
    cache.responses("/things")
    app = App((b"vary", b"Cookie"))
    served = cache.responses.around(app)

    bodies = [(await ask(served, "/things", (b"cookie", name))).body for name in (b"a", b"b", b"a", b"b")]

    assert bodies == [b"run 1", b"run 2", b"run 1", b"run 2"]


@pytest.mark.parametrize("name", [b"x-api-key", b"x-auth-token", b"x-forwarded-user"])
async def test_what_a_key_opens_is_given_to_nobody_without_it(cache, name):
    cache.responses("/things")
    served = cache.responses.around(App())

    bodies = [
        (await ask(served, "/things", *headers)).body for headers in ([(name, b"key")], [], [(name, b"")])
    ]

    assert bodies == [b"run 1", b"run 2", b"run 3"]


async def test_to_vary_by_authorization_is_not_enough(cache):
    assert not await is_stored(cache, App((b"vary", b"Authorization")), AUTHORIZATION)


async def test_with_an_identity_what_is_private_is_stored_for_each(cache):
    cache.responses("/things", identity=lambda request: request.headers.get("authorization"))
    app = App((b"cache-control", b"private, max-age=60"))
    served = cache.responses.around(app)

    def bearer(name):
        return (b"authorization", b"Bearer " + name)

    bodies = [(await ask(served, "/things", bearer(name))).body for name in (b"a", b"b", b"a", b"b")]
    assert bodies == [b"run 1", b"run 2", b"run 1", b"run 2"]
    assert (await ask(served)).body == b"run 3"  # nobody in particular
    assert (await ask(served)).body == b"run 4"  # for whom nothing private is stored


async def test_an_identity_of_none_makes_nobody_share_what_is_his(cache):
    cache.responses("/things", identity=lambda _: None)
    app = App()
    served = cache.responses.around(app)

    bodies = [(await ask(served, "/things", AUTHORIZATION)).body for _ in range(2)]

    assert bodies == [b"run 1", b"run 2"]


@pytest.mark.parametrize(
    "header",
    [
        (b"x-forwarded-host", b"evil.example"),
        (b"x-forwarded-proto", b"gopher"),
        (b"x-forwarded-prefix", b"/evil"),
        (b"x-original-url", b"/admin"),
        (b"x-rewrite-url", b"/admin"),
        (b"x-http-method-override", b"DELETE"),
        (b"origin", b"https://evil.example"),
        (b"host", b"evil.example"),
    ],
)
async def test_nobody_can_put_an_address_of_his_into_what_others_are_given(cache, header):
    cache.responses("/things")
    app = App()
    served = cache.responses.around(app)
    await ask(served, "/things", header)

    assert (await ask(served)).body == b"run 2"


async def test_what_tells_of_one_answer_only_is_not_stored(cache):
    cache.responses("/things")
    app = App(
        (b"X-Request-ID", b"1"),
        (b"Connection", b"X-Hop, close"),
        (b"x-hop", b"1"),
        (b"Server-Timing", b"db;dur=5"),
        (b"ratelimit-remaining", b"7"),
        (b"x-shop", b"Taipei"),
    )
    served = cache.responses.around(app)

    first, second = await ask(served), await ask(served)

    assert {"x-request-id", "x-hop", "server-timing", "x-shop"} <= first.headers.keys()
    assert second.headers.keys() - first.headers.keys() == {"age"}
    assert first.headers.keys() - second.headers.keys() == {
        "x-request-id", "connection", "x-hop", "server-timing", "ratelimit-remaining",
    }  # fmt: skip


async def test_clients_that_were_told_nothing_have_to_ask_before_they_use_their_copy(cache):
    cache.responses("/things")
    served = cache.responses.around(App())

    assert (await ask(served)).headers["cache-control"] == "no-cache"
    assert (await ask(served)).headers["cache-control"] == "no-cache"


async def test_what_is_for_one_is_not_for_caches_on_the_way(cache):
    cache.responses("/things", identity=lambda _: "Mei")
    served = cache.responses.around(App())

    assert (await ask(served)).headers["cache-control"] == "private, no-cache"


async def test_what_the_application_says_is_not_touched(cache):
    cache.responses("/things", vary=["accept-language"])
    app = App((b"etag", b'W/"7"'), (b"cache-control", b"max-age=60"), (b"vary", b"Accept-Language"))
    served = cache.responses.around(app)

    for _ in range(2):
        answer = await ask(served)
        said = {name: answer.headers[name] for name in ("etag", "cache-control", "vary")}
        assert said == {"etag": 'W/"7"', "cache-control": "max-age=60", "vary": "Accept-Language"}


async def test_others_are_told_what_it_is_said_to_vary_by(cache):
    cache.responses("/things", vary=["Accept-Language"])
    served = cache.responses.around(App())

    assert (await ask(served)).headers["vary"] == "Accept-Language"


async def test_what_answers_vary_by_is_learned(cache):
    cache.responses("/things")
    app = App((b"vary", b"Accept-Language"))
    served = cache.responses.around(app)

    def language(name):
        return (b"accept-language", name)

    bodies = [(await ask(served, "/things", language(name))).body for name in (b"zh", b"de", b"zh", b"de")]

    assert bodies == [b"run 1", b"run 2", b"run 1", b"run 2"]


async def test_a_key_that_is_too_long_is_not_kept(cache):
    cache.responses("/things")
    app = App()
    served = cache.responses.around(app)
    target = "/things?q=" + "x" * 9_000

    await ask(served, target)
    await ask(served, target)

    assert app.runs == 2
    assert not cache._memory.entries


async def test_the_memory_that_hostile_requests_take_is_bounded():
    from upshift.cache import Cache

    cache = Cache(max_bytes=200_000)
    cache.responses("/things")
    served = cache.responses.around(App((b"vary", b"Accept-Encoding, X-Anything")))
    for number in range(2_000):
        await ask(served, f"/things?page={number}", (b"x-anything", b"%d" % number), host=b"h%d" % number)

    assert cache._memory.bytes <= 200_000
    assert cache.statistics()["/things"].evictions > 1_000
    cache.close()
