import math
from collections import deque
from typing import get_args, get_type_hints

import pytest

from upshift.errors import SettingsError
from upshift.settings import (
    Arguments,
    LogSettings,
    RecordSettings,
    Settings,
    explain_settings,
    misspelt_variables,
    variable_of,
)


def test_without_variables_everything_has_its_default():
    settings = Settings.from_environment({})

    assert settings == Settings()
    assert settings.sql.batching is False


def test_a_variable_is_named_as_its_field():
    settings = Settings.from_environment(
        {"UPSHIFT_BATCHING": "yes", "UPSHIFT_RING_SIZE": "7", "UPSHIFT_SAMPLE_RATE": "0.5"}
    )

    assert settings.sql.batching is True
    assert (settings.record.ring_size, settings.record.sample_rate) == (7, 0.5)


@pytest.mark.parametrize(("environment", "seconds"), [("development", 0.1), ("production", 0.5)])
def test_the_threshold_of_slow_statements_follows_the_environment(environment, seconds):
    settings = Settings.from_environment({"UPSHIFT_ENVIRONMENT": environment})

    assert settings.slow_statement_seconds == seconds


def test_a_threshold_that_is_set_wins_over_the_environments():
    settings = Settings.from_environment(
        {"UPSHIFT_ENVIRONMENT": "production", "UPSHIFT_SLOW_STATEMENT_SECONDS": "0.02"}
    )

    assert settings.slow_statement_seconds == 0.02


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UPSHIFT_BATCHING", "maybe"),
        ("UPSHIFT_BATCHING", ""),
        ("UPSHIFT_RING_SIZE", "1.5"),
        ("UPSHIFT_RING_SIZE", "-1"),
        ("UPSHIFT_RING_SIZE", "99999999999999999999"),
        ("UPSHIFT_HEALTH_TIMEOUT_SECONDS", "0"),
        ("UPSHIFT_SAMPLE_RATE", "nan"),
        ("UPSHIFT_SAMPLE_RATE", "inf"),
        ("UPSHIFT_SAMPLE_RATE", "1.5"),
        ("UPSHIFT_SLOW_STATEMENT_SECONDS", "100ms"),
        ("UPSHIFT_ENVIRONMENT", "prod"),
    ],
)
def test_a_value_that_a_setting_cannot_have_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({name: value})


def test_other_variables_are_not_read():
    assert Settings.from_environment({"PATH": "/bin", "UPSHIFT_UNKNOWN": "x"}) == Settings()


def test_a_path_is_taken_as_it_is_written():
    assert (
        Settings.from_environment({"UPSHIFT_METRICS_PATH": "/internal"}).telemetry.metrics_path == "/internal"
    )
    assert Settings.from_environment({"UPSHIFT_METRICS_PATH": ""}).telemetry.metrics_path == ""


def test_a_path_without_a_slash_is_refused_by_the_variable_s_name():
    with pytest.raises(SettingsError, match="UPSHIFT_METRICS_PATH"):
        Settings.from_environment({"UPSHIFT_METRICS_PATH": "metrics"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UPSHIFT_LOG_FORMAT", "xml"),
        ("UPSHIFT_LOG_LEVEL", "LOUD"),
        ("UPSHIFT_LOG_SAMPLE_RATE", "2"),
        ("UPSHIFT_TRACE_SAMPLE_RATE", "-1"),
        ("UPSHIFT_SERVER_TIMING", "sometimes"),
        ("UPSHIFT_DRAIN_SECONDS", "5s"),
        ("UPSHIFT_LOG_ROTATE_COUNT", "many"),
    ],
)
def test_settings_of_telemetry_are_refused_by_name_too(name, value):
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({name: value})


@pytest.mark.parametrize(("environment", "seconds"), [("development", 0.5), ("production", 1.0)])
def test_the_threshold_of_slow_requests_follows_the_environment(environment, seconds):
    settings = Settings.from_environment({"UPSHIFT_ENVIRONMENT": environment})
    assert settings.slow_request_seconds == seconds
    assert settings.changed({"slow_request_seconds": 0.2}).slow_request_seconds == 0.2


def test_every_setting_can_be_given_as_an_argument():
    explained = explain_settings(Settings(), {})
    assert [each.name for each in explained] == list(get_type_hints(Arguments))


def test_an_argument_wins_over_the_variable():
    settings = Settings.from_environment({"UPSHIFT_BATCHING": "true", "UPSHIFT_RING_SIZE": "7"})
    changed = settings.changed({"batching": False, "environment": "production"})
    assert (changed.sql.batching, changed.record.ring_size, changed.environment) == (False, 7, "production")


def test_an_argument_that_is_no_setting_is_refused_with_the_nearest():
    with pytest.raises(TypeError, match="did you mean 'batching'"):
        Settings().changed({"batchng": True})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("environment", "prod"),
        ("sample_rate", 7),
        ("sample_rate", -0.1),
        ("log_format", "xml"),
        ("slow_request_seconds", "1"),
        ("slow_request_seconds", -1),
        ("slow_statement_seconds", math.nan),
        ("slow_statement_seconds", True),
        ("drain_seconds", math.inf),
        ("shutdown_seconds", None),
        ("health_timeout_seconds", 0),
        ("log_redact", "token"),
        ("log_redact", (b"token",)),
        ("packages", "shop"),
        ("packages", (5,)),
        ("batching", "false"),
        ("batching", 0),
        ("log_file", 5),
        ("log_file", "shop\0.log"),
        ("log_level", 20),
        ("metrics_path", None),
        ("service", "shop\nforged"),
        ("ring_size", -1),
        ("ring_size", 1.5),
        ("ring_size", True),
        ("ring_size", 10**20),
        ("log_rotate_count", -1),
        ("log_rotate_count", 10**9),
    ],
)
def test_an_argument_that_its_setting_cannot_have_is_refused_by_both_its_names(name, value):
    with pytest.raises(SettingsError, match=rf"^{name} \({variable_of(name)}\) is .*; it can be "):
        Settings().changed({name: value})


@pytest.mark.parametrize("name", get_type_hints(Arguments))
def test_no_setting_can_be_any_object(name):
    with pytest.raises(SettingsError, match=variable_of(name)):
        Settings().changed({name: object()})


@pytest.mark.parametrize("name", ["slow_request_seconds", "slow_statement_seconds"])
def test_a_threshold_can_be_left_to_the_environment(name):
    assert getattr(Settings().changed({name: 9}).changed({name: None}), name) == getattr(Settings(), name)


def test_the_largest_ring_is_one_that_a_deque_can_have():
    _, (_, most) = get_args(get_type_hints(RecordSettings, include_extras=True)["ring_size"])
    assert deque(maxlen=Settings().changed({"ring_size": most}).record.ring_size).maxlen == most


def test_every_setting_made_by_itself_is_checked_too():
    with pytest.raises(SettingsError, match="UPSHIFT_LOG_REDACT"):
        LogSettings(log_redact="token")


def test_each_setting_tells_where_it_came_from():
    variables = {"UPSHIFT_RING_SIZE": "7", "UPSHIFT_SERVICE": "shop", "UPSHIFT_PACKAGES": "a, b"}
    settings = Settings.from_environment(variables).changed({"service": "till"})
    explained = {each.name: (each.value, each.source) for each in explain_settings(settings, variables)}
    assert explained["ring_size"] == ("7", "variable")
    assert explained["service"] == ("till", "argument")
    assert explained["packages"] == ("a,b", "variable")
    assert explained["metrics"] == ("true", "default")


def test_a_threshold_that_the_environment_decides_is_told_as_it_is_in_force():
    explained = explain_settings(Settings().changed({"environment": "production"}), {})
    shown = {each.name: (each.value, each.source) for each in explained}
    assert shown["environment"] == ("production", "argument")
    assert shown["slow_request_seconds"] == ("1.0", "default")


def test_a_password_in_a_url_is_masked():
    settings = Settings().changed({"log_file": "scheme://user:secret@host/path"})
    shown = {each.name: each.value for each in explain_settings(settings, {})}
    assert shown["log_file"] == "scheme://user:***@host/path"


def test_a_misspelt_variable_is_told_and_other_programs_variables_are_not():
    variables = {
        "UPSHIFT_LOG_FORMATT": "json",
        "UPSHIFT_PORT": "tcp://10.0.0.7:80",
        "UPSHIFT_SERVICE_HOST": "x",
    }
    assert misspelt_variables(variables) == {"UPSHIFT_LOG_FORMATT": "UPSHIFT_LOG_FORMAT"}
