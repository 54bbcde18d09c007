"""Every setting: one frozen section per room, each field also an `UPSHIFT_*` variable.

The variable's name is the field's, in capitals: `SqlSettings.batching` is `UPSHIFT_BATCHING`. An argument in
code wins over the variable, the variable over the default.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

Environment = Literal["development", "production"]

SLOW_STATEMENT_SECONDS: dict[Environment, float] = {"development": 0.1, "production": 0.5}
"""What counts as a slow statement where nothing else is set."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What is kept of requests.

    Attributes:
        ring_size: requests kept in full, the latest.
        sample_rate: share of ordinary requests kept, from 0 to 1; failed and slow ones are kept always.
        packages: top-level packages whose lines count as the application's though they are installed among
            libraries; comma-separated in the variable. The package that creates the `Upshift` always counts.
    """

    ring_size: int = 512
    sample_rate: float = 0.05
    packages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.sample_rate <= 1:
            raise SettingsError(f"sample_rate (UPSHIFT_SAMPLE_RATE) is {self.sample_rate}; it can be 0 to 1")


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """What is done with statements.

    Attributes:
        batching: answer lazy loads by cohort.
        keep_parameters: keep the parameters of statements in memory. They may hold personal data.
        slow_statement_seconds: what counts as slow; None takes `SLOW_STATEMENT_SECONDS` by environment.
    """

    batching: bool = False
    keep_parameters: bool = False
    slow_statement_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TrafficSettings:
    """What is done with responses.

    Attributes:
        compression: compress responses for clients that accept it.
        compression_minimum_bytes: bodies smaller than this are sent as they are.
    """

    compression: bool = False
    compression_minimum_bytes: int = 1_000


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is told of what was recorded.

    Attributes:
        metrics: count requests and statements, and answer scrapes.
        metrics_path: where scrapes are answered, unless the application has a route there; empty for nowhere.
    """

    metrics: bool = True
    metrics_path: str = "/metrics"

    def __post_init__(self) -> None:
        if self.metrics_path and not self.metrics_path.startswith("/"):
            raise SettingsError(
                f"metrics_path (UPSHIFT_METRICS_PATH) is {self.metrics_path!r}; a path starts with a slash"
            )


@dataclass(frozen=True, slots=True)
class DiagnoseSettings:
    """When a rule speaks.

    Attributes:
        repeated_statements: repetitions of a statement from one line in one request that make an N+1.
        large_response_bytes: uncompressed responses from this size on are worth compressing.
    """

    repeated_statements: int = 3
    large_response_bytes: int = 10_000


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one `Upshift`.

    Attributes:
        environment: `development` or `production`; sets defaults that differ between them.

    Example:
        >>> Settings.from_environment({"UPSHIFT_BATCHING": "true"}).sql.batching
        True
    """

    environment: Environment = "development"
    record: RecordSettings = field(default_factory=RecordSettings)
    sql: SqlSettings = field(default_factory=SqlSettings)
    traffic: TrafficSettings = field(default_factory=TrafficSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    diagnose: DiagnoseSettings = field(default_factory=DiagnoseSettings)

    @property
    def slow_statement_seconds(self) -> float:
        """The threshold in force: the one set, or the environment's."""
        chosen = self.sql.slow_statement_seconds
        return SLOW_STATEMENT_SECONDS[self.environment] if chosen is None else chosen

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from `UPSHIFT_*` variables.

        Args:
            variables: the variables; the process's own where none are given.

        Raises:
            SettingsError: a variable has a value that its setting cannot have.
        """
        variables = os.environ if variables is None else variables
        settings = cls()
        name = variables.get("UPSHIFT_ENVIRONMENT", settings.environment)
        environment = next((each for each in SLOW_STATEMENT_SECONDS if each == name), None)
        if environment is None:
            raise SettingsError(
                f"UPSHIFT_ENVIRONMENT is {name!r}; it can be {' or '.join(SLOW_STATEMENT_SECONDS)}"
            )
        sections = {
            section.name: _read_section(getattr(settings, section.name), variables)
            for section in fields(cls)
            if section.name != "environment"
        }
        return replace(settings, environment=environment, **sections)


def _read_section(section: Any, variables: Mapping[str, str]) -> Any:  # noqa: ANN401 - any section
    values = {}
    for each in fields(section):
        name = f"UPSHIFT_{each.name.upper()}"
        if name in variables:
            values[each.name] = _parse(name, variables[name], str(each.type))
    return replace(section, **values)


def _parse(name: str, text: str, kind: str) -> bool | float | str | tuple[str, ...]:
    text = text.strip()
    if kind == "str":
        return text
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == "bool":
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise SettingsError(f"{name} is {text!r}; it can be true or false")
    try:
        number = int(text) if kind == "int" else float(text)
    except ValueError:
        number = -1
    if number < 0 or not math.isfinite(number):
        raise SettingsError(f"{name} is {text!r}; it must be a number from 0 up")
    return number
