"""The GET operations that an application offers, and the parameters that they need.

FastAPI tells all in its OpenAPI schema. Of plain Starlette routes the paths are known, and no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.routing import Mount, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from starlette.types import ASGIApp

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path or query parameter.

    Attributes:
        name: its name.
        in_path: whether it is part of the path.
        required: whether a request without it is refused.
        schema: its JSON schema; empty where nothing is known.
    """

    name: str
    in_path: bool
    required: bool
    schema: Mapping[str, Any]

    def choices(self) -> tuple[Any, ...]:
        """Return the values that the schema itself names: an enumeration's, or both of a boolean."""
        for schema in (self.schema, *self.schema.get("anyOf", ())):
            if "enum" in schema:
                return tuple(schema["enum"])
            if schema.get("type") == "boolean":
                return (True, False)
        return ()

    def suggestion(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value that the schema suggests; None for none.

        That is its default, an example, a choice, or for an integer the smallest one allowed, as things are
        commonly numbered from there.
        """
        examples = self.schema.get("examples") or (None,)
        for value in (self.schema.get("default"), self.schema.get("example"), examples[0], *self.choices()):
            if value is not None:
                return value
        return self.schema.get("minimum", 1) if self.schema.get("type") == "integer" else None


@dataclass(frozen=True, slots=True)
class Operation:
    """A GET route.

    Attributes:
        template: the path with its parameters in braces.
        parameters: what it takes.
    """

    template: str
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        """Method and template, as findings and records name it."""
        return f"GET {self.template}"


def get_operations(app: ASGIApp) -> tuple[Operation, ...]:
    """Return the GET operations of an application; none where it does not tell its routes."""
    openapi = getattr(app, "openapi", None)
    if callable(openapi):
        return tuple(_of_schema(openapi()))
    return tuple(_of_routes(getattr(app, "routes", ()), ""))


def _of_schema(schema: Mapping[str, Any]) -> Iterator[Operation]:
    for template, methods in schema.get("paths", {}).items():
        operation = methods.get("get")
        if operation is None:
            continue
        told = [
            Parameter(
                name=each["name"],
                in_path=each["in"] == "path",
                required=each.get("required", False),
                schema=_resolved(each.get("schema", {}), schema),
            )
            for each in operation.get("parameters", ())
            if each["in"] in {"path", "query"}
        ]
        # An endpoint need not take what its path names.
        untold = set(_PARAMETER.findall(template)) - {each.name for each in told}
        parameters = (*told, *(_in_path(name) for name in sorted(untold)))
        yield Operation(template, parameters)


def _resolved(parameter: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a `$ref`, as enumerations have one."""
    name = parameter.get("$ref", "").rpartition("/")[2]
    resolved: Mapping[str, Any] = schema.get("components", {}).get("schemas", {}).get(name, parameter)
    return {**resolved, **{key: value for key, value in parameter.items() if key != "$ref"}}


def _of_routes(routes: Iterable[Any], prefix: str) -> Iterator[Operation]:
    for route in routes:
        if isinstance(route, Mount):
            yield from _of_routes(route.routes, prefix + route.path)
        elif isinstance(route, Route) and "GET" in (route.methods or ()):
            path = prefix + route.path
            template = _PARAMETER.sub(r"{\1}", path)
            yield Operation(template, tuple(map(_in_path, _PARAMETER.findall(path))))


def _in_path(name: str) -> Parameter:
    return Parameter(name, in_path=True, required=True, schema={})
