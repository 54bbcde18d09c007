"""`Settings`: the sections together, read from arguments and variables."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints

from upshift.settings.checks import check, variable_of
from upshift.settings.sections import (
    Arguments,
    CacheSettings,
    DiagnoseSettings,
    Environment,
    HealthSettings,
    LogSettings,
    PoolSettings,
    RecordSettings,
    ReplicaSettings,
    SqlSettings,
    TelemetrySettings,
    TracingSettings,
    TrafficSettings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SLOW_STATEMENT_SECONDS: dict[Environment, float] = {"development": 0.1, "production": 0.5}
"""What counts as a slow statement where nothing else is set."""

SLOW_REQUEST_SECONDS: dict[Environment, float] = {"development": 0.5, "production": 1.0}
"""What counts as a slow request where nothing else is set."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


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
    pool: PoolSettings = field(default_factory=PoolSettings)
    replicas: ReplicaSettings = field(default_factory=ReplicaSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    traffic: TrafficSettings = field(default_factory=TrafficSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    logs: LogSettings = field(default_factory=LogSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    diagnose: DiagnoseSettings = field(default_factory=DiagnoseSettings)

    def __post_init__(self) -> None:
        check(self)

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
        shown = "***" if name in _SECRETS and value else _shown(value)
        rows.append(Explained(name, variable, shown, source))
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


_SECRETS = frozenset({"replica_secrets"})
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
