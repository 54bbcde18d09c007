"""Every setting: one frozen section per room, each field also an argument and an `UPSHIFT_*` variable.

The argument's name is the field's, the variable's the same in capitals: `SqlSettings.batching` is
`Upshift(app, batching=True)` and `UPSHIFT_BATCHING`. An argument in code wins over the variable, the variable
over the default.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypedDict,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Environment = Literal["development", "production"]
LogFormat = Literal["off", "json", "ecs", "console"]
ServerTiming = Literal["off", "asked", "always"]


class Within(NamedTuple):
    """The least and the most that a number can be; whatever takes it can bear the most."""

    least: float
    most: float


Share = Annotated[float, Within(0, 1)]
Seconds = Annotated[float, Within(0, 1_000_000)]
Size = Annotated[int, Within(0, 10**15)]

SLOW_STATEMENT_SECONDS: dict[Environment, float] = {"development": 0.1, "production": 0.5}
"""What counts as a slow statement where nothing else is set."""

SLOW_REQUEST_SECONDS: dict[Environment, float] = {"development": 0.5, "production": 1.0}
"""What counts as a slow request where nothing else is set."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


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

    ring_size: Annotated[int, Within(0, 1_000_000)] = 512
    sample_rate: Share = 0.05
    packages: tuple[str, ...] = ()
    slow_request_seconds: Seconds | None = None

    def __post_init__(self) -> None:
        _check(self)


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
    slow_statement_seconds: Seconds | None = None
    sql_comments: bool = False

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class TrafficSettings:
    """What is done with responses.

    Attributes:
        compression: compress responses for clients that accept it.
        compression_minimum_bytes: bodies smaller than this are sent as they are.
    """

    compression: bool = False
    compression_minimum_bytes: Size = 1_000

    def __post_init__(self) -> None:
        _check(self)


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
        _check(self)
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
        log_rotate_bytes: size from which on a file is moved aside; 0 for never.
        log_rotate_count: files moved aside that are kept; 0 for never moving any.
        log_redact: names of fields whose values are never written, comma-separated in the variable.
    """

    log_format: LogFormat = "off"
    log_level: str = "INFO"
    access_log: bool = True
    log_sample_rate: Share = 1.0
    log_file: str = ""
    log_error_file: str = ""
    log_rotate_bytes: Size = 100_000_000
    log_rotate_count: Annotated[int, Within(0, 10_000)] = 5
    log_redact: tuple[str, ...] = ("authorization", "cookie", "password", "secret", "set-cookie", "token")

    def __post_init__(self) -> None:
        _check(self)
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
    trace_sample_rate: Share = 0.05

    def __post_init__(self) -> None:
        _check(self)


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
    health_timeout_seconds: Annotated[float, Within(0.001, 1_000_000)] = 2.0
    health_cache_seconds: Seconds = 1.0
    drain_seconds: Seconds = 0.0
    shutdown_seconds: Seconds = 10.0

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class DiagnoseSettings:
    """When a rule speaks.

    Attributes:
        repeated_statements: repetitions of a statement from one line in one request that make an N+1.
        large_response_bytes: uncompressed responses from this size on are worth compressing.
    """

    repeated_statements: Annotated[int, Within(1, 1_000_000)] = 3
    large_response_bytes: Size = 10_000

    def __post_init__(self) -> None:
        _check(self)


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

    def __post_init__(self) -> None:
        _check(self)

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
        given = {
            name: _parse(variables[variable_of(name)], kind)
            for _, name, kind in _fields()
            if variable_of(name) in variables
        }
        return cls().changed(cast("Arguments", given))

    def changed(self, arguments: Arguments) -> Settings:
        """Return these settings with some given as arguments.

        Raises:
            SettingsError: a setting cannot have its value.
            TypeError: there is no such setting.

        Example:
            >>> Settings().changed({"batching": True}).sql.batching
            True
        """
        owners = {name: section for section, name, _ in _fields()}
        sections: dict[str, dict[str, object]] = {}
        for name, value in arguments.items():
            if name not in owners:
                raise TypeError(f"there is no setting {name!r}{_nearest(name, owners)}")
            sections.setdefault(owners[name], {})[name] = value
        changed: dict[str, Any] = sections.pop("", {})
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
    for section, name, _ in _fields():
        variable = variable_of(name)
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
    known = {variable_of(name) for _, name, _ in _fields()}
    near = {
        name: difflib.get_close_matches(name, known, 1, 0.9)
        for name in variables
        if name.startswith("UPSHIFT_") and name not in known
    }
    return {name: matches[0] for name, matches in near.items() if matches}


def _fields() -> Iterator[tuple[str, str, Any]]:
    """Every setting's section, name and type; `environment` is in no section."""
    for section, kind in get_type_hints(Settings).items():
        if section == "environment":
            yield "", section, kind
        else:
            yield from ((section, name, each) for name, each in get_type_hints(kind).items())


def _nearest(name: str, names: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


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


def variable_of(name: str) -> str:
    """The variable of a setting.

    Example:
        >>> variable_of("batching")
        'UPSHIFT_BATCHING'
    """
    return f"UPSHIFT_{name.upper()}"


def _parse(text: str, kind: Any) -> bool | float | str | tuple[str, ...]:  # noqa: ANN401 - any type
    """Read a variable; a text that cannot be read stays what it is, and the check refuses it by name."""
    text = text.strip()
    if get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is bool:
        return text.lower() in _TRUE if text.lower() in _TRUE | _FALSE else text
    number = int if kind is int else float
    if number not in (kind, *get_args(kind)):
        return text
    try:
        return number(text)
    except ValueError:
        return text


def _check(section: object) -> None:
    """Refuse what a section's types do not allow: arguments come from code that nobody may have checked."""
    for name, kind in get_type_hints(type(section), include_extras=True).items():
        value = getattr(section, name)
        wanted = _wanted(value, kind)
        if wanted:
            raise SettingsError(f"{name} ({variable_of(name)}) is {value!r}; it can be {wanted}")


def _wanted(value: object, kind: Any) -> str:  # noqa: ANN401 - any type
    """What a setting of this type can be, in words; nothing where the value is such."""
    inner = get_args(kind)
    if NoneType in inner:
        return "" if value is None else _wanted(value, inner[0])
    if get_origin(kind) is Literal:
        fits, words = value in inner, " or ".join(inner)
    elif get_origin(kind) is Annotated:
        number, (least, most) = inner
        fits = isinstance(value, (int, number)) and not isinstance(value, bool) and least <= value <= most
        words = f"a {'whole ' if number is int else ''}number from {least} to {most}"
    elif get_origin(kind) is tuple:
        fits = isinstance(value, tuple) and all(isinstance(each, str) for each in value)
        words = "a tuple of texts, such as ('one', 'two')"
    elif kind is str:
        fits = isinstance(value, str) and not _UNWRITABLE.search(value)
        words = "a text without control characters"
    else:
        fits, words = isinstance(value, kind), "true or false" if kind is bool else f"a {kind.__name__}"
    return "" if fits else words
