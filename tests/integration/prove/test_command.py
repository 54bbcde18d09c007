"""`upshift prove` tells what the comparison found, and says it again with its exit status."""

import json
import shlex

import pytest
from click.testing import CliRunner

from upshift.cli.commands import upshift

FEW = ["--pairs=1", "--requests=10", "--warmup=0", "--connections=2"]
DECISIVE = ["--pairs=4", "--requests=10", "--warmup=0", "--connections=2"]


@pytest.fixture
def prove(tiny):
    def run(*arguments, base=None, head=None):
        commands = {"base": base or tiny().argv, "head": head or tiny().argv}
        given = [f"--{name}={shlex.join(argv)}" for name, argv in commands.items()]
        return CliRunner().invoke(upshift, ["prove", *given, *arguments])

    return run


def test_the_table_has_a_part_for_each_path(prove):
    result = prove(*FEW, "--path=/a", "--path=/b")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("/")] == [
        "/a   10 requests a sample",
        "/b   10 requests a sample",
    ]
    assert sum(line.startswith("A/B  inconclusive  CPU per request") for line in lines) == 2
    assert lines[-1] == "too few pairs to decide 2 scenarios at 95% confidence: take at least 4"


def test_json_is_all_that_standard_output_has(prove):
    result = prove(*FEW, "--fail-on=slower", "--format=json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["verdict"] == "inconclusive"


def test_a_slower_head_fails_when_asked_to(prove, tiny):
    result = prove(*DECISIVE, "--fail-on=slower", head=tiny(work=100_000).argv)
    assert "SLOWER" in result.stdout
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "head", "message"),
    [
        (["--pairs=0"], None, "pairs is 0; it must be from 1 to 500"),
        (["--path=two words"], None, "the path 'two words' must start with /"),
        ([], ("git:main",), "git:main: variants from git are not there yet"),
        ([], ("uvicorn", "shop:app"), "the head command has no {port}"),
        ([], ("no-such-server", "{port}"), "cannot run no-such-server"),
    ],
)
def test_a_void_comparison_exits_with_2_and_the_reason(prove, arguments, head, message):
    result = prove(*FEW, *arguments, head=head)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
