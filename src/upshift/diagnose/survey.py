"""Drives the GET routes of an application, in process, so that the rules have something to read.

Routes without parameters come first. Their answers give values for the parameters of others, and so on until
no route is left that can be asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec

from upshift.diagnose.asgi_client import Response, get
from upshift.diagnose.operations import Operation, Parameter, get_operations
from upshift.diagnose.report import Skipped
from upshift.diagnose.values import Scalar, Values, as_json_scalar, spread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from starlette.types import ASGIApp

MAX_VARIANTS = 8
"""Requests for the optional parameters of one route."""

NEEDS_LOGIN = 'needs a login: --header "Authorization: …"'

_LOGIN = re.compile(r"\b(log|sign)[-_]?(in|on)\b|\b(auth|authorize|oauth2?|sso|session/new)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driving:
    """How an application is asked.

    Attributes:
        headers: sent with every request.
        values: values by parameter name; they come before those found in answers.
        samples: requests to a route with parameters.
        answer_seconds: how long one answer may take.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    samples: int = 5
    answer_seconds: float = 30.0


@dataclass(slots=True)
class Survey:
    """What driving an application came to.

    Attributes:
        routes: operations that answered.
        requests: requests sent.
        skipped: operations that could not be driven, and why.
        failures: requests that the application answered with an error of its own.
    """

    routes: int = 0
    requests: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def survey(
    app: ASGIApp,
    serve: ASGIApp,
    driving: Driving | None = None,
    *,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Survey:
    """Ask every GET route for a few of the things it knows.

    Args:
        app: the application, whose routes are read.
        serve: the application as it is to be asked, an observed one for example.
        driving: how it is to be asked.
        on_progress: is told each request.
    """
    driving = driving or Driving()
    known = Values(driving.values)
    result = Survey()

    async def ask(target: str) -> Response:
        on_progress(f"GET {target}")
        result.requests += 1
        headers = {"accept": "application/json", "accept-encoding": "gzip", **driving.headers}
        return await get(serve, target, headers, answer_seconds=driving.answer_seconds)

    waiting = sorted(get_operations(app), key=lambda operation: operation.template.count("{"))
    while waiting:
        ready = [operation for operation in waiting if _paths(operation, known, driving.samples)]
        if not ready:
            break
        for operation in ready:
            waiting.remove(operation)
            await _drive(ask, operation, list(_targets(operation, known, driving.samples)), known, result)
    for operation in waiting:
        result.skipped.append(Skipped(operation.name, _what_is_missing(operation, known)))
    return result


async def _drive(
    ask: Callable[[str], Awaitable[Response]],
    operation: Operation,
    targets: list[str],
    known: Values,
    result: Survey,
) -> None:
    answered = False
    refusals: set[str] = set()
    for target in targets:
        try:
            response = await ask(target)
        except TimeoutError as error:
            refusals.add(str(error))
            break
        if response.error is not None or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            cause = f": {type(response.error).__name__}: {response.error}" if response.error else ""
            result.failures.append(f"GET {target} answered {response.status or 500}{_first_line(cause)}")
            refusals.add(f"answered {response.status or 500}")
        elif _needs_login(response):
            refusals.add(NEEDS_LOGIN)
            break
        elif response.status >= HTTPStatus.BAD_REQUEST:
            refusals.add(f"answered {response.status}")
        else:
            answered = True
            if "json" in response.headers.get("content-type", ""):
                known.gather(operation.template, _decoded(response.body))
    if answered:
        result.routes += 1
    else:
        result.skipped.append(Skipped(operation.name, "; ".join(sorted(refusals)) or "nothing to ask for"))


def _needs_login(response: Response) -> bool:
    """Whether it was refused to a stranger, or sent to a page that is called a login's."""
    if response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return True
    # The query often says where from, so it is not read.
    place, _, _ = response.headers.get("location", "").partition("?")
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST
    return is_redirect and _LOGIN.search(place) is not None


def _targets(operation: Operation, known: Values, samples: int) -> Iterator[str]:
    """Yield paths with queries: plain ones for several things, then the choices of optional parameters."""
    needed = {
        parameter.name: _query_value(parameter, known, operation)
        for parameter in operation.parameters
        if not parameter.in_path and parameter.required
    }
    paths = _paths(operation, known, samples)
    for path in paths:
        yield _with_query(path, needed)
    variants = (
        {**needed, parameter.name: choice}
        for parameter in operation.parameters
        if not parameter.in_path
        for choice in parameter.choices()
        if choice != parameter.schema.get("default")
    )
    for query in islice(variants, MAX_VARIANTS):
        yield _with_query(paths[0], query)


def _paths(operation: Operation, known: Values, samples: int) -> list[str]:
    """Return the paths that can be asked for; none while a value is missing."""
    if any(
        _query_value(parameter, known, operation) is None
        for parameter in operation.parameters
        if not parameter.in_path and parameter.required
    ):
        return []
    columns = []
    for parameter in operation.parameters:
        if parameter.in_path:
            found = spread(known.of(parameter.name, operation.template), samples)
            suggestion = parameter.suggestion()
            if not found and suggestion is not None:
                found = [suggestion]
            if not found:
                return []
            columns.append((parameter.name, found))
    paths = []
    for i in range(max((len(found) for _, found in columns), default=1)):
        path = operation.template
        for name, found in columns:
            path = path.replace("{" + name + "}", quote(as_json_scalar(found[i % len(found)]), safe=""))
        paths.append(path)
    return paths


def _query_value(parameter: Parameter, known: Values, operation: Operation) -> Any:  # noqa: ANN401 - JSON
    return next(iter(known.of(parameter.name, operation.template)), parameter.suggestion())


def _what_is_missing(operation: Operation, known: Values) -> str:
    missing = [
        parameter.name
        for parameter in operation.parameters
        if parameter.required and not known.of(parameter.name, operation.template)
    ]
    return f"no value known for {', '.join(missing)}: give some with --values"


def _with_query(path: str, query: Mapping[str, Any]) -> str:
    return f"{path}?{urlencode({k: as_json_scalar(v) for k, v in query.items()})}" if query else path


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
