"""`upshift settings` tells what is in force, and why."""

import json

import pytest
from click.testing import CliRunner

from upshift.cli.commands import upshift


@pytest.fixture
def told(monkeypatch):
    def tell(*arguments, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(upshift, ["settings", *arguments])

    return tell


def test_every_setting_has_a_line_with_its_variable(told):
    result = told(UPSHIFT_RING_SIZE="7")
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("ring_size")]
    assert line.split() == ["ring_size", "7", "variable", "UPSHIFT_RING_SIZE"]


def test_the_settings_of_an_application_show_its_arguments(told, tmp_path):
    (tmp_path / "explained_shop.py").write_text(
        "from starlette.applications import Starlette\n"
        "from upshift import Upshift\n"
        "app = Starlette()\n"
        "up = Upshift(app, service='shop', sample_rate=0.5)\n"
    )
    result = told("explained_shop:app", "--app-dir", str(tmp_path), "--format", "json")
    shown = {each["name"]: (each["value"], each["source"]) for each in json.loads(result.stdout)}
    assert shown["service"] == ("shop", "argument")
    assert shown["sample_rate"] == ("0.5", "argument")
    assert shown["ring_size"] == ("512", "default")


def test_an_application_without_upshift_is_told(told, tmp_path):
    (tmp_path / "plain_shop.py").write_text("async def app(scope, receive, send): ...\n")
    result = told("plain_shop:app", "--app-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "makes no Upshift" in result.stderr


def test_a_wrong_value_is_told_with_its_variable(told):
    result = told(UPSHIFT_LOG_FORMAT="xml")
    assert (result.exit_code, "UPSHIFT_LOG_FORMAT" in result.stderr) == (2, True)


def test_a_misspelt_variable_is_told_with_the_right_one(told):
    result = told(UPSHIFT_BATCHNG="true")
    assert "UPSHIFT_BATCHNG is no setting; did you mean UPSHIFT_BATCHING?" in result.stderr
