"""Exceptions in one line: nothing secret, nothing long, nothing that breaks a line."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.telemetry.error_text import MAX_TEXT, describe, shorten

PASSWORDS = st.text(string.ascii_letters + string.digits + "!#$%^*+~./:@-_", min_size=6, max_size=30)


@given(PASSWORDS, st.sampled_from(["postgresql+asyncpg", "redis", "amqp"]))
def test_no_password_of_a_url_is_shown(password, scheme):
    text = describe(OSError(f"cannot connect to {scheme}://shop:{password}@db.internal:5432/shop, refused"))
    assert text == f"OSError: cannot connect to {scheme}://***@db.internal:5432/shop, refused"


@given(
    PASSWORDS.map(lambda secret: secret + "Zq7"),
    st.sampled_from(
        [
            "host=db password={} dbname=shop", "PGPASSWORD={}", '{{"api_key": "{}"}}', "token: {}",
            "'secret'='{}'",
            "Authorization: Bearer {}", "authorization: {}", "sent Bearer {}", "client_secret={}&x=1",
        ]
    ),
)  # fmt: skip
def test_no_named_secret_is_shown(secret, pattern):
    shown = shorten(pattern.format(secret))
    assert secret not in shown
    assert "***" in shown


@given(st.text())
def test_any_text_becomes_one_short_printable_line(text):
    shown = shorten(text)
    assert len(shown) <= MAX_TEXT
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ConnectionRefusedError(111, "refused"), "ConnectionRefusedError: [Errno 111] refused"),
        (ValueError(), "ValueError"),
        (ValueError("\n\nfirst\nsecond"), "ValueError: first"),
        (OSError('password authentication failed for user "shop"'),
         'OSError: password authentication failed for user "shop"'),
        (OSError("line\x1b[31m red"), "OSError: line [31m red"),
    ],
)  # fmt: skip
def test_what_helps_is_left(error, shown):
    assert describe(error) == shown


def test_a_huge_text_is_read_at_its_start_only():
    assert shorten("://" * 1_000_000).startswith("://")
    assert len(shorten("x" * 10_000_000)) == MAX_TEXT


def test_an_exception_that_cannot_be_written_is_named():
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    assert describe(MuteError()) == "MuteError"
