"""Patterns of paths, and what a rule refuses to be told."""

from __future__ import annotations

import pytest

from upshift.cache import Cache
from upshift.cache.responses.rules import IDENTIFYING, MAX_PATH, MAX_PATHS, MAX_VARYING, Rule, Rules
from upshift.errors import SettingsError


def rule_of(pattern, *, tags=(), **told):
    options = {"seconds": None, "identity": None, "vary": (), "statuses": (200,), "max_bytes": 1_000}
    options |= {"streams": False, "cookies": False, "store": Cache()._store(pattern)}
    return Rule(pattern, tags=tags, **(options | told))


@pytest.mark.parametrize(
    ("pattern", "path", "is_meant"),
    [
        ("/products", "/products", True),
        ("/products", "/products/", False),
        ("/products*", "/products", True),
        ("/products*", "/products/7/reviews", True),
        ("/products*", "/product", False),
        ("/products/{id}", "/products/7", True),
        ("/products/{id}", "/products/", False),
        ("/products/{id}", "/products/7/reviews", False),
        ("/products/{id}/*", "/products/7/reviews/1", True),
        ("/products/{id}", "/products/a\nb", True),
        ("*/products", "/api/v1/products", True),
        ("*", "/", True),
        ("/a.c", "/abc", False),
        ("/a+(b)", "/a+(b)", True),
        ("/{id}.json", "/7.json", True),
        ("/{id}.json", "/7xjson", False),
    ],
)
def test_which_paths_a_pattern_is_for(pattern, path, is_meant):
    assert rule_of(pattern).matches(path) is is_meant


@pytest.mark.parametrize("pattern", ["products", "", "/{a}/{a}", "https://shop.example/products"])
def test_what_is_no_pattern_of_paths_is_refused(pattern):
    with pytest.raises(SettingsError, match="path"):
        rule_of(pattern)


def test_a_tag_cannot_name_what_is_not_in_the_path():
    with pytest.raises(SettingsError, match=r"has no \{number\}"):
        rule_of("/products/{id}", tags=["product:{number}"])


@pytest.mark.parametrize("status", [100, 199, 206, 304, 600])
def test_no_part_of_an_answer_can_be_stored(status):
    with pytest.raises(SettingsError, match=str(status)):
        rule_of("/products", statuses=[200, status])


def test_tags_take_their_names_from_the_path():
    rule = rule_of("/shops/{shop}/products/{id}", tags=["shop:{shop}", "menu"])

    assert rule.tags_of("/shops/taipei/products/7") == ["shop:taipei", "menu"]


def test_an_answer_cannot_vary_by_any_number_of_fields():
    rule = rule_of("/products")

    assert rule.learn(frozenset({b"accept-encoding"}))
    assert not rule.learn(frozenset(b"x-%d" % number for number in range(MAX_VARYING)))
    assert rule.names[-2:] == (b"x-forwarded-proto", b"accept-encoding")


def test_an_identity_that_is_awaited_is_refused():
    async def identity(request): ...

    with pytest.raises(SettingsError, match="use def"):
        rule_of("/products", identity=identity)


def test_credentials_are_known_where_answers_vary_by_them():
    rule = rule_of("/products")
    assert rule.credentials == IDENTIFYING

    rule.learn(frozenset({b"cookie", b"authorization"}))
    assert rule.credentials == IDENTIFYING - {b"cookie"}  # RFC 9111 §3.5 asks for more than Vary
    assert rule_of("/products", vary=["Authorization"]).credentials == IDENTIFYING - {b"authorization"}


@pytest.fixture
def rules():
    rules = Rules()
    rules.add(rule_of("/products*"))
    return rules


def test_the_rule_of_a_path_is_remembered_also_where_there_is_none(rules):
    rule = rules.find("/products/7")

    assert rule.pattern == "/products*"
    assert rules.find("/others") is None
    assert rules.known == {"/products/7": rule, "/others": None}


def test_a_rule_that_is_added_later_counts_for_paths_that_have_been_looked_for(rules):
    rules.find("/others")
    rules.add(rule_of("/others"))

    assert "/others" not in rules.known
    assert rules.find("/others").pattern == "/others"


def test_no_number_and_no_length_of_paths_fills_the_memory(rules):
    for number in range(MAX_PATHS + 1):
        rules.find(f"/products/{number}")
    long = "/products/" + "7" * MAX_PATH

    assert rules.find(long).pattern == "/products*"
    assert long not in rules.known
    assert len(rules.known) <= MAX_PATHS
