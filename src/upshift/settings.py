"""Every setting: one frozen section per room, each field also an argument and an `UPSHIFT_*` variable.

The argument's name is the field's, the variable's the same in capitals: `SqlSettings.batching` is
`Upshift(app, batching=True)` and `UPSHIFT_BATCHING`. An argument in code wins over the variable, the variable
over the default.
"""

from __future__ import annotations

import difflib
import logging
import math
import os
import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, get_args, get_type_hints

from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
            found by server process, see `upshift.telemetry.sharing.path.find_path`.
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


class Arguments(TypedDict, total=False):
    """Every setting as an argument of `Upshift`; a test keeps it equal to the sections."""

    environment: Environment
    ring_size: int
    sample_rate: float
    packages: tuple[str, ...]
    slow_request_seconds: float | None
    batching: bool
    keep_parameters: bool
    slow_statement_seconds: float | None
    sql_comments: bool
    compression: bool
    compression_minimum_bytes: int
    service: str
    metrics: bool
    metrics_path: str
    metrics_file: str
    server_timing: ServerTiming
    log_format: LogFormat
    log_level: str
    access_log: bool
    log_sample_rate: float
    log_file: str
    log_error_file: str
    log_rotate_bytes: int
    log_rotate_count: int
    log_redact: tuple[str, ...]
    tracing: bool
    trace_sample_rate: float
    health: bool
    health_timeout_seconds: float
    health_cache_seconds: float
    drain_seconds: float
    shutdown_seconds: float
    repeated_statements: int
    large_response_bytes: int


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
            raise _wrong_environment(name)
        sections = {
            section.name: _read_section(getattr(settings, section.name), variables)
            for section in fields(cls)
            if section.name != "environment"
        }
        return replace(settings, environment=environment, **sections)

    def changed(self, arguments: Arguments) -> Settings:
        """Return these settings with some given as arguments.

        Raises:
            SettingsError: a setting cannot have its value.
            TypeError: there is no such setting.

        Example:
            >>> Settings().changed({"batching": True}).sql.batching
            True
        """
        owners = {each.name: section for section, each in _fields()}
        sections: dict[str, dict[str, object]] = {}
        for name, value in arguments.items():
            if name not in owners:
                raise TypeError(f"there is no setting {name!r}{_nearest(name, owners)}")
            sections.setdefault(owners[name], {})[name] = value
        changed: dict[str, Any] = sections.pop("", {})
        if changed.get("environment", "production") not in SLOW_STATEMENT_SECONDS:
            raise _wrong_environment(changed["environment"])
        for section, values in sections.items():
            changed[section] = replace(getattr(self, section), **values)
        return replace(self, **changed)


class Explained(NamedTuple):
    """A setting in force.

    Attributes:
        name: its name as an argument.
        variable: its name as a variable.
        value: its value as text; a password in a URL is masked.
        source: where the value came from: `argument`, `variable` or `default`.
    """

    name: str
    variable: str
    value: str
    source: Literal["argument", "variable", "default"]


def explain_settings(settings: Settings, variables: Mapping[str, str]) -> tuple[Explained, ...]:
    """Tell every setting in force, and where it came from.

    Example:
        >>> variables = {"UPSHIFT_BATCHING": "true"}
        >>> explained = explain_settings(Settings.from_environment(variables), variables)
        >>> [each for each in explained if each.name == "batching"]
        [Explained(name='batching', variable='UPSHIFT_BATCHING', value='true', source='variable')]
    """
    by_variables = Settings.from_environment(variables)
    rows = []
    for section, each in _fields():
        name, variable = each.name, variable_of(each.name)
        value = getattr(getattr(settings, section) if section else settings, name)
        expected = getattr(getattr(by_variables, section) if section else by_variables, name)
        if value is None:  # the environment decides
            value = expected = getattr(settings, name)
        source: Literal["argument", "variable", "default"]
        source = "argument" if value != expected else "variable" if variable in variables else "default"
        rows.append(Explained(name, variable, _shown(value), source))
    return tuple(rows)


def misspelt_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables that are no settings but look like one, with that one.

    Other programs' variables may start with `UPSHIFT_`: Kubernetes sets such for a service of that name.

    Example:
        >>> misspelt_variables({"UPSHIFT_BATCHNG": "true", "UPSHIFT_SERVICE_HOST": "10.0.0.7"})
        {'UPSHIFT_BATCHNG': 'UPSHIFT_BATCHING'}
    """
    known = {variable_of(each.name) for _, each in _fields()}
    near = {
        name: difflib.get_close_matches(name, known, 1, 0.9)
        for name in variables
        if name.startswith("UPSHIFT_") and name not in known
    }
    return {name: matches[0] for name, matches in near.items() if matches}


def _fields() -> Iterator[tuple[str, Any]]:
    """Every setting's field, with the name of its section; `environment` is in none."""
    for each in fields(Settings):
        if each.name == "environment":
            yield "", each
        else:
            yield from ((each.name, setting) for setting in fields(getattr(Settings(), each.name)))


def _nearest(name: str, names: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _wrong_environment(name: object) -> SettingsError:
    return SettingsError(f"UPSHIFT_ENVIRONMENT is {name!r}; it can be {' or '.join(SLOW_STATEMENT_SECONDS)}")


_CREDENTIALS = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*(?=@)")


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case None:
            return ""
        case tuple():
            value = ",".join(map(str, value))
    return _CREDENTIALS.sub(r"\1:***", str(value))


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
