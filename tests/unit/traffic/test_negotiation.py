"""How headers about codings are read and rewritten."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upshift.traffic import accepts_gzip, is_compressible
from upshift.traffic.negotiation import (
    MAX_ACCEPT_ENCODING,
    Preference,
    gzip_tag,
    plain_tags,
    preference,
    with_vary,
)


@pytest.mark.parametrize(
    "accept_encoding",
    [
        "gzip",
        "GZip",
        "x-gzip",
        "gzip, deflate, br, zstd",
        "br;q=1.0, gzip;q=0.8, *;q=0.1",
        "gzip;q=0.001",
        "gzip ; Q=0.5",
        "*",
        "*;q=0.5",
        "deflate, *",
        "gzip, identity",
        "identity;q=0.5, gzip;q=0.5",
        " , gzip ,",
        "gzip, b@d",
    ],
)
def test_gzip_is_wanted_where_it_is_as_welcome_as_any_answer_we_have(accept_encoding):
    assert preference(accept_encoding) is Preference.GZIP


@pytest.mark.parametrize(
    "accept_encoding",
    [
        "",
        "br",
        "gzip;q=0",
        "gzip;q=0.000",
        "x-gzip;q=0",
        "gzip;q=0, *",
        "*;q=0",
        "identity",
        "identity, gzip;q=0.9",
        "gzip;q=0.2, *;q=0.7",
        "identity;q=0, gzip;q=0",
        "notgzip",
        "gzipped",
        "gzip2, x-gzip2",
    ],
)
def test_the_plain_form_is_wanted_where_gzip_is_refused_absent_or_less_welcome(accept_encoding):
    assert preference(accept_encoding) is Preference.IDENTITY


@pytest.mark.parametrize(
    "accept_encoding", ["identity;q=0, gzip", "gzip, *;q=0", "gzip;q=0.1, identity;q=0.0", "identity;q=0, *"]
)
def test_only_gzip_is_wanted_where_the_plain_form_is_refused(accept_encoding):
    assert preference(accept_encoding) is Preference.GZIP_ONLY


@pytest.mark.parametrize(
    "accept_encoding",
    [
        "gzip;q=2",
        "gzip;q=-1",
        "gzip;q=nan",
        "gzip;q=1e0",
        "gzip;q=0.1234",
        "gzip;q=",
        "gzip;level=9",
        "gzip q=1",
        "gzip;",
    ],
)
def test_a_garbled_member_counts_as_absent(accept_encoding):
    assert preference(accept_encoding) is Preference.IDENTITY


def test_a_header_of_hostile_length_is_answered_without_a_coding():
    assert preference("gzip," * MAX_ACCEPT_ENCODING) is Preference.IDENTITY


@given(st.text(max_size=200))
@example("gzip;q=" + "0" * 190)
def test_no_header_raises_and_gzip_is_never_sent_to_who_does_not_name_it(accept_encoding):
    if accepts_gzip(accept_encoding):
        assert "gzip" in accept_encoding.lower() or "*" in accept_encoding


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html; charset=utf-8",
        "text/plain",
        "TEXT/CSV",
        "application/json",
        "application/json;charset=utf-8",
        "application/problem+json",
        "application/vnd.api+json",
        "application/atom+xml",
        "application/javascript",
        "application/x-ndjson",
        "image/svg+xml",
        "application/wasm",
    ],
)
def test_text_and_its_kin_are_compressible(content_type):
    assert is_compressible(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "image/png",
        "image/jpeg",
        "video/mp4",
        "application/zip",
        "application/gzip",
        "application/pdf",
        "application/octet-stream",
        "font/woff2",
        "application/grpc",
        "multipart/byteranges",
        "text/event-stream",
        "Text/Event-Stream; charset=utf-8",
        "nonsense",
    ],
)
def test_what_does_not_shrink_or_may_not_wait_is_not(content_type):
    assert not is_compressible(content_type)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], [(b"vary", b"Accept-Encoding")]),
        ([(b"vary", b"Cookie, Origin")], [(b"vary", b"Cookie, Origin, Accept-Encoding")]),
        ([(b"vary", b"")], [(b"vary", b"Accept-Encoding")]),
        (
            [(b"vary", b"Cookie"), (b"vary", b"Origin")],
            [(b"vary", b"Cookie, Accept-Encoding"), (b"vary", b"Origin")],
        ),
        ([(b"Vary", b"accept-encoding")], [(b"Vary", b"accept-encoding")]),
        (
            [(b"vary", b"Cookie"), (b"vary", b"Accept-Encoding")],
            [(b"vary", b"Cookie"), (b"vary", b"Accept-Encoding")],
        ),
        ([(b"vary", b"*")], [(b"vary", b"*")]),
        ([(b"vary", b"X-Accept-Encoding")], [(b"vary", b"X-Accept-Encoding, Accept-Encoding")]),
    ],
)
def test_vary_is_merged_and_not_repeated(headers, expected):
    assert with_vary(headers) == expected
    assert with_vary(expected) == expected


tags = st.text(st.characters(min_codepoint=0x23, max_codepoint=0x7E), max_size=20).map(
    lambda text: text.encode()
)


@given(st.lists(tags, min_size=1), st.booleans())
def test_a_list_of_gzip_tags_becomes_the_applications_own_again(opaque, weak):
    own = [b'"' + tag + b'"' for tag in opaque if not tag.endswith(b"-gzip")]
    prefix = b"W/" if weak else b""
    sent = b", ".join(prefix + gzip_tag(tag) for tag in own)
    assert plain_tags(sent) == b", ".join(prefix + tag for tag in own)


@pytest.mark.parametrize("etag", [b'W/"abc"', b"abc", b'"', b"", b'"abc'])
def test_weak_and_malformed_tags_stay_as_they_are(etag):
    assert gzip_tag(etag) == etag
