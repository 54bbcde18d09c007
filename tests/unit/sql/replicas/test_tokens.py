from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.errors import SettingsError
from upshift.sql.replicas.position import Position
from upshift.sql.replicas.tokens import Tokens

SECRET, OTHER = "a secret that all workers share", "another one, as long as it needs"
positions = st.builds(Position, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))


@given(positions)
def test_a_position_comes_back_as_it_was(position):
    tokens = Tokens([SECRET])
    assert tokens.read(tokens.make(position, 60)) == position


@given(st.text(max_size=200))
def test_no_text_makes_reading_fail(text):
    assert Tokens([SECRET]).read(text) is None


@given(positions, st.integers(0, 70), st.characters())
def test_a_changed_token_counts_as_none(position, at, character):
    tokens = Tokens([SECRET])
    token = tokens.make(position, 60)
    changed = token[:at] + character + token[at + 1 :]
    # The last character holds bits that are no part of the bytes.
    assert changed == token or at == 70 or tokens.read(changed) is None


@given(positions)
def test_each_bit_is_signed(position):
    import base64

    tokens = Tokens([SECRET])
    signed = bytearray(base64.urlsafe_b64decode(tokens.make(position, 60) + "="))
    for index in range(len(signed)):
        signed[index] ^= 1
        assert tokens.read(base64.urlsafe_b64encode(signed).rstrip(b"=").decode()) is None
        signed[index] ^= 1


def test_a_token_is_over_after_its_time(monkeypatch):
    tokens = Tokens([SECRET])
    token = tokens.make(Position(1, 2), 60)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 59)
    assert tokens.read(token) == Position(1, 2)
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert tokens.read(token) is None
    monkeypatch.setattr(time, "time", lambda: now - 86_400)  # the clock was set back
    assert tokens.read(token) == Position(1, 2)


def test_a_secret_is_changed_without_a_break():
    old, both, new = Tokens([OTHER]), Tokens([SECRET, OTHER]), Tokens([SECRET])
    assert both.read(old.make(Position(1, 2), 60)) == Position(1, 2)
    assert new.read(both.make(Position(1, 2), 60)) == Position(1, 2)
    assert new.read(old.make(Position(1, 2), 60)) is None


@pytest.mark.parametrize("secrets", [[], [""], ["short"], [SECRET, "short"]])
def test_a_weak_secret_is_refused(secrets):
    with pytest.raises(SettingsError, match="UPSHIFT_REPLICA_SECRETS"):
        Tokens(secrets)
