import pytest

from upshift.errors import SettingsError
from upshift.settings import Settings


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
