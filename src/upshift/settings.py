"""Every setting: one frozen section per room, each field also an `UPSHIFT_*` variable.

The variable's name is the field's, in capitals: `SqlSettings.batching` is `UPSHIFT_BATCHING`. An argument in
code wins over the variable, the variable over the default.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

Environment = Literal["development", "production"]
LogFormat = Literal["off", "json", "ecs", "console"]
ServerTiming = Literal["off", "asked", "always"]

SLOW_STATEMENT_SECONDS: dict[Environment, float] = {"development": 0.1, "production": 0.5}
"""What counts as a slow statement where nothing else is set."""

SLOW_REQUEST_SECONDS: dict[Environment, float] = {"development": 0.5, "production": 1.0}
"""What counts as a slow request where nothing else is set."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_NUMBERS = frozenset({"int", "float", "float | None"})


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What is kept of requests.

    Attributes:
        ring_size: requests kept in full, the latest.
        sample_rate: share of ordinary requests kept, from 0 to 1; failed and slow ones are kept always.
        packages: top-level packages whose lines count as the application's though they are installed among
            libraries; comma-separated in the variable. The package that creates the `Upshift` always counts.
        slow_request_seconds: what counts as slow; None takes `SLOW_REQUEST_SECONDS` by environment.
    """

    ring_size: int = 512
    sample_rate: float = 0.05
    packages: tuple[str, ...] = ()
    slow_request_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_share(self, "sample_rate")


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """What is done with statements.

    Attributes:
        batching: answer lazy loads by cohort.
        keep_parameters: keep the parameters of statements in memory. They may hold personal data.
        slow_statement_seconds: what counts as slow; None takes `SLOW_STATEMENT_SECONDS` by environment.
        sql_comments: end each statement with a comment that names its route, request id and trace
            (sqlcommenter), for the database's own logs.
    """

    batching: bool = False
    keep_parameters: bool = False
    slow_statement_seconds: float | None = None
    sql_comments: bool = False


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
    """What is counted, and told to who asks.

    Attributes:
        service: the service's name in logs, traces and the names of shared files.
        metrics: count requests and statements, and answer scrapes.
        metrics_path: where scrapes are answered, unless the application has a route there; empty for nowhere.
        metrics_file: the file in which the workers of one server add up their counts; empty for one that is
            found by server process, see `upshift.telemetry.shared_path.find_path`.
        server_timing: tell each answer's times in its `Server-Timing` header: never, to requests with an
            `X-Server-Timing` header, or always. Whoever reads it learns how busy the database is.
    """

    service: str = "app"
    metrics: bool = True
    metrics_path: str = "/metrics"
    metrics_file: str = ""
    server_timing: ServerTiming = "off"

    def __post_init__(self) -> None:
        _check_choices(self)
        if self.metrics_path and not self.metrics_path.startswith("/"):
            raise SettingsError(
                f"metrics_path (UPSHIFT_METRICS_PATH) is {self.metrics_path!r}; a path starts with a slash"
            )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, how and where to.

    Attributes:
        log_format: `json` lines, `ecs` (JSON with the field names of the Elastic Common Schema), coloured
            `console` lines, or `off`: the application's logging is left as it is.
        log_level: the level from which on records are written, by its name in `logging`.
        access_log: write one line for each request.
        log_sample_rate: share of ordinary requests with an access line; failed and slow ones always have one.
        log_file: a file to write to, beside nothing else; empty for standard error.
        log_error_file: a further file that takes errors only; empty for none.
        log_rotate_bytes: size from which on a file is moved aside.
        log_rotate_count: files moved aside that are kept.
        log_redact: names of fields whose values are never written, comma-separated in the variable.
    """

    log_format: LogFormat = "off"
    log_level: str = "INFO"
    access_log: bool = True
    log_sample_rate: float = 1.0
    log_file: str = ""
    log_error_file: str = ""
    log_rotate_bytes: int = 100_000_000
    log_rotate_count: int = 5
    log_redact: tuple[str, ...] = ("authorization", "cookie", "password", "secret", "set-cookie", "token")

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_share(self, "log_sample_rate")
        levels = logging.getLevelNamesMapping()
        if self.log_level not in levels:
            raise SettingsError(
                f"log_level (UPSHIFT_LOG_LEVEL) is {self.log_level!r}; it can be {', '.join(levels)}"
            )


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Which requests are traced; where spans go to is OpenTelemetry's own settings (`OTEL_*`).

    Attributes:
        tracing: export spans, through OpenTelemetry's SDK.
        trace_sample_rate: share of the requests that start a trace and are exported; failed and slow ones
            always are, and so is what the caller has sampled.
    """

    tracing: bool = False
    trace_sample_rate: float = 0.05

    def __post_init__(self) -> None:
        _check_share(self, "trace_sample_rate")


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """How probes are answered, and how the process starts and ends.

    Attributes:
        health: answer `/livez`, `/readyz`, `/startupz` and `/health`, where the application has
            no such route.
        health_timeout_seconds: how long a check may take.
        health_cache_seconds: how long the result of a check serves further probes.
        drain_seconds: how long after SIGTERM requests are still accepted while `/readyz` tells that no more
            should come; as long as load balancers take to notice.
        shutdown_seconds: the deadline for stopping what was registered and for the last flush.
    """

    health: bool = True
    health_timeout_seconds: float = 2.0
    health_cache_seconds: float = 1.0
    drain_seconds: float = 0.0
    shutdown_seconds: float = 10.0


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
    logs: LogSettings = field(default_factory=LogSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    diagnose: DiagnoseSettings = field(default_factory=DiagnoseSettings)

    @property
    def slow_statement_seconds(self) -> float:
        """The threshold in force: the one set, or the environment's."""
        chosen = self.sql.slow_statement_seconds
        return SLOW_STATEMENT_SECONDS[self.environment] if chosen is None else chosen

    @property
    def slow_request_seconds(self) -> float:
        """The threshold in force: the one set, or the environment's."""
        chosen = self.record.slow_request_seconds
        return SLOW_REQUEST_SECONDS[self.environment] if chosen is None else chosen

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
        name = variable_of(each.name)
        if name in variables:
            values[each.name] = _parse(name, variables[name], str(each.type))
    return replace(section, **values)


def variable_of(name: str) -> str:
    """The variable of a setting.

    Example:
        >>> variable_of("batching")
        'UPSHIFT_BATCHING'
    """
    return f"UPSHIFT_{name.upper()}"


def _parse(name: str, text: str, kind: str) -> bool | float | str | tuple[str, ...]:
    text = text.strip()
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == "bool":
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise SettingsError(f"{name} is {text!r}; it can be true or false")
    if kind not in _NUMBERS:
        return text
    try:
        number = int(text) if kind == "int" else float(text)
    except ValueError:
        number = -1
    if number < 0 or not math.isfinite(number):
        raise SettingsError(f"{name} is {text!r}; it must be a number from 0 up")
    return number


def _check_share(section: Any, name: str) -> None:  # noqa: ANN401 - any section
    value = getattr(section, name)
    if not 0 <= value <= 1:
        raise SettingsError(f"{name} ({variable_of(name)}) is {value}; it can be 0 to 1")


def _check_choices(section: Any) -> None:  # noqa: ANN401 - any section
    for name, kind in get_type_hints(type(section)).items():
        choices = get_args(kind)
        value = getattr(section, name)
        if choices and all(isinstance(each, str) for each in choices) and value not in choices:
            raise SettingsError(f"{name} ({variable_of(name)}) is {value!r}; it can be {', '.join(choices)}")
