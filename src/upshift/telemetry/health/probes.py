"""What answers probes: one small ASGI application a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from upshift.telemetry.answer import MAX_QUERY, TEXT, Answer, send_answer
from upshift.telemetry.health.rendering import health_json, phase_line, result_line, unknown_lines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from upshift.telemetry.health.health import Health


class Query(NamedTuple):
    """What a probe asks for.

    Attributes:
        is_verbose: whether to list every check.
        exclude: names of checks to leave out.
    """

    is_verbose: bool
    exclude: tuple[str, ...]


def probe_endpoints(health: Health) -> dict[str, ASGIApp]:
    """Return what answers each path, for `upshift.telemetry.endpoints.Endpoints`.

    | path | answers | 503 |
    |---|---|---|
    | `/livez` | that the event loop turns | never |
    | `/readyz` | whether requests should come here | a critical check fails, starting, draining |
    | `/startupz` | whether the start is complete | starting |
    | `/health` | everything, as JSON | a critical check fails |

    Example:
        >>> from upshift.settings import HealthSettings
        >>> from upshift.telemetry.health import Health
        >>> list(probe_endpoints(Health(HealthSettings())))
        ['/livez', '/readyz', '/startupz', '/health']
    """

    async def live(query: Query) -> Answer:
        return _plain("livez", query, ["[+]loop ok"], query.exclude, is_ok=True)

    async def ready(query: Query) -> Answer:
        if health.phase != "serving":  # no check could change the answer
            return _plain("readyz", query, [phase_line(health.phase)], is_ok=False)
        report = await health.report(query.exclude)
        lines = [phase_line(report.phase), *map(result_line, report.results)]
        return _plain("readyz", query, lines, report.unknown, is_ok=report.is_ready)

    async def started(query: Query) -> Answer:
        is_started = health.phase != "starting"
        line = phase_line("serving" if is_started else "starting")
        return _plain("startupz", query, [line], query.exclude, is_ok=is_started)

    async def summary(query: Query) -> Answer:
        report = await health.report(query.exclude)
        status, body = health_json(report)
        return Answer(503 if status == "fail" else 200, b"application/health+json", body)

    answers = {"/livez": live, "/readyz": ready, "/startupz": started, "/health": summary}
    return {path: _endpoint(answer) for path, answer in answers.items()}


def _endpoint(answer: Callable[[Query], Awaitable[Answer]]) -> ASGIApp:
    async def endpoint(scope: Scope, _receive: Receive, send: Send) -> None:
        await send_answer(await answer(_read(scope.get("query_string", b""))), scope, send)

    return endpoint


def _read(query_string: bytes) -> Query:
    if not query_string:
        return Query(is_verbose=False, exclude=())
    pairs = parse_qsl(query_string[:MAX_QUERY].decode("latin-1"), keep_blank_values=True)
    exclude = dict.fromkeys(value for name, value in pairs if name == "exclude")
    return Query("verbose" in dict(pairs), tuple(exclude))


def _plain(
    name: str, query: Query, lines: Sequence[str], unknown: Sequence[str] = (), *, is_ok: bool
) -> Answer:
    """Answer `ok`, or line by line when asked to, and always when something is wrong."""
    if is_ok and not query.is_verbose:
        lines = ["ok"]
    shown = [*lines, *unknown_lines(unknown)]
    if query.is_verbose or not is_ok:
        shown.append(f"{name} check {'passed' if is_ok else 'failed'}")
    return Answer(200 if is_ok else 503, TEXT, "\n".join(shown).encode("utf-8", "replace"))
