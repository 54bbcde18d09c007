"""A variant is a command that can be started on any port."""

import pytest

from upshift.errors import ProofError
from upshift.prove import Variant


def test_the_port_replaces_every_placeholder():
    variant = Variant("base", ("env", "PORT={port}", "serve", "--port={port}"))
    assert variant.command(8080) == ("env", "PORT=8080", "serve", "--port=8080")


def test_other_braces_are_the_commands_own():
    variant = Variant("base", ("serve", '{"port": {port}}', "{}", "{0}"))
    assert variant.command(1) == ("serve", '{"port": 1}', "{}", "{0}")


def test_a_line_is_split_as_a_shell_splits_words_but_nothing_in_it_is_run():
    variant = Variant.parse("head", "serve 'my app' --port {port} $HOME `id` ; rm")
    assert variant.argv == ("serve", "my app", "--port", "{port}", "$HOME", "`id`", ";", "rm")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("uvicorn shop:app --port 8000", r"the head command has no \{port\}: uvicorn shop:app --port 8000"),
        ("", "the head command is empty"),
        ("serve 'shop --port {port}", "the head command cannot be read .*No closing quotation"),
        ("git:main", "git:main: variants from git are not there yet"),
    ],
)
def test_a_line_that_starts_no_server_is_refused_with_what_to_do(command, message):
    with pytest.raises(ProofError, match=message):
        Variant.parse("head", command)
