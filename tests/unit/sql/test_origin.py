"""Whose line is found: first by walking, then by what that has taught of the text."""

from __future__ import annotations

import pytest

from upshift.record import CallSites
from upshift.sql import origin as module
from upshift.sql.origin import Origins

LIBRARY = """
def send(origins, text, depth=0):
    return send(origins, text, depth - 1) if depth else origins.of(text)

def load(origins, text, depth=0):
    return send(origins, text, depth)
"""
"""What lies in no file is a library's."""

made: dict = {}
exec(compile(LIBRARY, "<library>", "exec"), made)
send, load = made["send"], made["load"]

SQL = "SELECT 1"


@pytest.fixture
def origins():
    return Origins(CallSites(), first=1)


def test_the_line_is_that_of_the_application(origins):
    sites = {send(origins, SQL, depth=2) for _ in range(3)}
    assert [(site.file, site.function) for site in sites] == [
        (__file__, "test_the_line_is_that_of_the_application.<locals>.<setcomp>")
    ]


def test_what_was_learned_of_a_text_spares_the_walk(origins, monkeypatch):
    def ask():
        return send(origins, SQL, depth=2)

    first = ask()
    monkeypatch.setattr(Origins, "_walk", None)
    assert ask() == first


def test_one_text_from_several_lines_has_the_line_of_each(origins):
    def one():
        return send(origins, SQL)

    def other():
        return send(origins, SQL)

    for _ in range(3):
        assert one().function.endswith("one")
        assert other().function.endswith("other")


def test_one_text_through_several_calls_has_the_line_of_each(origins):
    def through(call, depth):
        return call(origins, SQL, depth)

    def deeper(call, depth):
        return through(call, depth)

    for depth in (0, 3, 1, 3, 0):
        for call in (send, load):
            for ask in (through, deeper):
                assert ask(call, depth).function.endswith("through")


def test_a_line_between_the_librarys_frames_is_the_nearest(origins):
    inner = {"ask": lambda: send(origins, SQL)}
    exec(compile("def again(ask): return ask()", "<library>", "exec"), inner)

    def outer():
        return inner["again"](inner["ask"])

    def direct():
        return load(origins, SQL)

    for _ in range(3):
        assert direct().function.endswith("direct")
        assert outer().function.endswith("<lambda>")


def test_a_line_that_is_seen_for_the_first_time_is_found_where_another_is_known(origins):
    def known():
        return send(origins, SQL)

    assert known().function.endswith("known")

    def unknown():
        return send(origins, SQL)

    assert unknown().function.endswith("unknown")


def test_texts_that_are_remembered_are_bounded(origins, monkeypatch):
    monkeypatch.setattr(module, "MAX_TEXTS", 10)
    for number in range(100):
        assert send(origins, f"SELECT {number}").file == __file__
    assert 0 < len(origins._depths) <= 10


def test_a_huge_text_is_not_remembered(origins):
    assert send(origins, SQL + " " * module.MAX_TEXT).file == __file__
    assert not origins._depths
