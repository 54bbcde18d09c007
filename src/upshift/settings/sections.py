"""The sections: one for each room, with its defaults."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

from upshift.errors import SettingsError
from upshift.settings.checks import Seconds, Share, Size, Within, check, variable_of

Environment = Literal["development", "production"]
LogFormat = Literal["off", "json", "ecs", "console"]
ServerTiming = Literal["off", "asked", "always"]
ExplainSlow = Literal["off", "plan", "analyze"]
FetchPlanning = Literal["off", "learn"]
PoolSizing = Literal["fixed", "auto"]
Connections = Annotated[int, Within(1, 10_000)]


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
        check(self)


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """What is done with statements.

    Attributes:
        batching: answer lazy loads by cohort.
        batching_shadow: load lazily as well, give the application that, and tell where batching differs.
        fetch_plans: `learn` which relationships are read of a statement's objects, and fetch them with it the
            next time; or `off`.
        use_sample_rate: share of requests in which it is watched what is read of the objects that statements
            load, from 0 to 1.
        keep_parameters: keep the parameters of statements in memory. They may hold personal data.
        slow_statement_seconds: what counts as slow; None takes `SLOW_STATEMENT_SECONDS` by environment.
        sql_comments: end each statement with a comment that names its route, request id and trace
            (sqlcommenter), for the database's own logs.
        explain_slow: have slow statements explained, after their requests and on a connection of its own:
            not at all, planned only, or SELECTs that change nothing executed once more to measure them.
        queries_path: where callers on the same machine are told of the statements, unless the application has
            a route there; empty for nowhere.
    """

    batching: bool = False
    batching_shadow: bool = False
    fetch_plans: FetchPlanning = "off"
    use_sample_rate: Share = 0.01
    keep_parameters: bool = False
    slow_statement_seconds: Seconds | None = None
    sql_comments: bool = False
    explain_slow: ExplainSlow = "plan"
    queries_path: str = "/upshift/queries"

    def __post_init__(self) -> None:
        check(self)
        _check_path("queries_path", self.queries_path)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What is done for the connection pools of engines.

    Attributes:
        pool_sizing: `auto` finds the number of connections that serves best, and follows when it changes;
            `fixed` leaves pools as they are.
        pool_min_size: the least that `auto` chooses.
        pool_max_size: the most that `auto` chooses; it never takes more than the server has left.
        pool_checks: replace connections before the server ends them, and ask those that have idled.
        pool_ping_idle_seconds: how long a connection may idle without being asked; 0 for never asking.
        pool_lifetime_seconds: how old a connection may become; 0 for as old as the server lets it.
        pool_warm: connections of each pool that are opened before the application serves; 0 for none.
        pool_warm_seconds: how long the start waits for them.
        pool_leak_seconds: how long a connection may be in use before it counts as leaked; 0 for no limit.
        pools_path: where callers on the same machine are told who has connections and who waits, unless the
            application has a route there; empty for nowhere.
    """

    pool_sizing: PoolSizing = "fixed"
    pool_min_size: Connections = 2
    pool_max_size: Connections = 50
    pool_checks: bool = False
    pool_ping_idle_seconds: Seconds = 30.0
    pool_lifetime_seconds: Seconds = 1_800.0
    pool_warm: Annotated[int, Within(0, 10_000)] = 0
    pool_warm_seconds: Seconds = 5.0
    pool_leak_seconds: Seconds = 60.0
    pools_path: str = "/upshift/pools"

    def __post_init__(self) -> None:
        check(self)
        _check_path("pools_path", self.pools_path)
        if self.pool_min_size > self.pool_max_size:
            raise SettingsError(
                f"pool_min_size is {self.pool_min_size}, above pool_max_size, {self.pool_max_size}"
            )


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """What a request's reads from replicas have to know; without `replicas` it is of no effect.

    Attributes:
        replica_carrier: how a client carries what it wrote to its next request: a cookie, the header
            `X-Upshift-Position`, or not at all.
        replica_secrets: sign the tokens: the first one does, all are believed. The same for all workers.
        replica_token_seconds: how long a token is valid.
        replica_methods: methods of requests that read from replicas.
    """

    replica_carrier: Literal["cookie", "header", "off"] = "cookie"
    replica_secrets: tuple[str, ...] = ()
    replica_token_seconds: Seconds = 60.0
    replica_methods: tuple[str, ...] = ("GET", "HEAD", "OPTIONS")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What is told of the cache; without `cache` it is of no effect.

    Attributes:
        cache_path: where callers on the same machine are told of the cache, and end values by POST, unless
            the application has a route there; empty for nowhere.
    """

    cache_path: str = "/upshift/cache"

    def __post_init__(self) -> None:
        check(self)
        _check_path("cache_path", self.cache_path)


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
        check(self)


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
        check(self)
        _check_path("metrics_path", self.metrics_path)


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
        check(self)
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
        check(self)


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
        check(self)


@dataclass(frozen=True, slots=True)
class DiagnoseSettings:
    """When a rule speaks.

    Attributes:
        repeated_statements: repetitions of a statement from one line in one request that make an N+1;
            likewise of reloads, commits and inserts.
        unused_samples: sampled requests that have loaded something before it is told that none read it.
        wide_column_bytes: average bytes from which on a column is worth leaving out.
        large_response_bytes: uncompressed responses from this size on are worth compressing.
        costly_statement_seconds: what a statement does badly is a warning where it takes this long, on
            average, and for information where it does not.
        deep_offset_rows: rows that an OFFSET skips, from which on a page is deep.
        unbounded_rows: rows of a result without a LIMIT, from which on it is large.
        idle_connection_seconds: how long a request may hold a connection without a statement.
        long_transaction_seconds: from when on a transaction is long.
    """

    repeated_statements: Annotated[int, Within(1, 1_000_000)] = 3
    unused_samples: Annotated[int, Within(1, 1_000_000)] = 20
    wide_column_bytes: Size = 1_000
    large_response_bytes: Size = 10_000
    costly_statement_seconds: Seconds = 0.01
    deep_offset_rows: Annotated[int, Within(1, 1_000_000_000)] = 1_000
    unbounded_rows: Annotated[int, Within(1, 1_000_000_000)] = 1_000
    idle_connection_seconds: Seconds = 0.25
    long_transaction_seconds: Seconds = 1.0

    def __post_init__(self) -> None:
        check(self)


class Arguments(TypedDict, total=False):
    """Every setting as an argument of `Upshift`; a test keeps it equal to the sections."""

    environment: Environment
    ring_size: int
    sample_rate: float
    packages: tuple[str, ...]
    slow_request_seconds: float | None
    batching: bool
    batching_shadow: bool
    fetch_plans: FetchPlanning
    use_sample_rate: float
    keep_parameters: bool
    slow_statement_seconds: float | None
    sql_comments: bool
    explain_slow: ExplainSlow
    queries_path: str
    pool_sizing: PoolSizing
    pool_min_size: int
    pool_max_size: int
    pool_checks: bool
    pool_ping_idle_seconds: float
    pool_lifetime_seconds: float
    pool_warm: int
    pool_warm_seconds: float
    pool_leak_seconds: float
    pools_path: str
    replica_carrier: Literal["cookie", "header", "off"]
    replica_secrets: tuple[str, ...]
    replica_token_seconds: float
    replica_methods: tuple[str, ...]
    cache_path: str
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
    unused_samples: int
    wide_column_bytes: int
    large_response_bytes: int
    costly_statement_seconds: float
    deep_offset_rows: int
    unbounded_rows: int
    idle_connection_seconds: float
    long_transaction_seconds: float


def _check_path(name: str, path: str) -> None:
    if path and not path.startswith("/"):
        raise SettingsError(f"{name} ({variable_of(name)}) is {path!r}; a path starts with a slash")
