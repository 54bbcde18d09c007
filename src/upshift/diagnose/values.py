"""Values for parameters, gathered from the application's own answers.

`{"products": [{"id": 7, "seller": {"id": 3}}]}` tells that 7 is a product's `id` and 3 a seller's, so
`/products/{product_id}` can be asked for 7 and `/sellers/{id}` for 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_VALUES = 50
"""Values kept for each name."""

MAX_NODES = 20_000
"""Parts of one answer that are read."""

Scalar = str | int | float | bool


def singular(noun: str) -> str:
    """Return the singular of an English plural, by the common endings.

    Example:
        >>> [singular(noun) for noun in ("products", "categories", "order_items", "address")]
        ['product', 'category', 'order_item', 'address']
    """
    noun = noun.lower().replace("-", "_")
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith(("sses", "xes", "ches", "shes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun


class Values:
    """Known values by name: of a parameter (`product_id`), or of a thing and its attribute (`product`, `id`).

    Args:
        given: values by parameter name, from the user; they come first.

    Example:
        >>> values = Values()
        >>> values.gather("/products", {"items": [{"id": 7}]})
        >>> values.of("product_id", "/products/{product_id}")
        [7]
    """

    def __init__(self, given: Mapping[str, Sequence[Scalar]] | None = None) -> None:
        self._given = dict(given or {})
        self._known: dict[tuple[str, str], dict[Scalar, None]] = {}

    def gather(self, template: str, answer: object) -> None:
        """Take the values out of a JSON answer.

        Args:
            template: the path template that gave it.
            answer: the decoded JSON.
        """
        statics = [part for part in template.split("/") if part and not part.startswith("{")]
        noun = singular(statics[-1]) if statics else ""
        todo: list[tuple[str, object]] = [(noun, answer)]
        for _ in range(MAX_NODES):
            if not todo:
                return
            noun, node = todo.pop()
            if isinstance(node, list):
                todo += ((noun, item) for item in reversed(node))
            elif isinstance(node, dict):
                for key, value in reversed(node.items()):
                    if isinstance(value, dict | list):
                        # {"items": […]} is a page of whatever the path is about.
                        todo.append((noun if key in _WRAPPERS else singular(key), value))
                for key, value in node.items():
                    if isinstance(value, str | int) and not isinstance(value, bool):
                        self._add(noun, key, value)
                        self._add("", key, value)

    def of(self, name: str, template: str) -> list[Scalar]:
        """Return the known values of a path's parameter, the likeliest first."""
        if name in self._given:
            return list(self._given[name])
        before = template.partition("{" + name + "}")[0]
        statics = [part for part in before.split("/") if part and not part.startswith("{")]
        thing, _, attribute = name.rpartition("_")
        candidates = [(thing, attribute), (singular(statics[-1]), name)] if statics else [(thing, attribute)]
        candidates.append(("", name))
        found: dict[Scalar, None] = {}
        for candidate in candidates:
            found.update(self._known.get(candidate, {}))
        return list(found)

    def _add(self, noun: str, attribute: str, value: Scalar) -> None:
        known = self._known.setdefault((noun, attribute), {})
        if len(known) < MAX_VALUES:
            known[value] = None


_WRAPPERS = frozenset({"items", "results", "data", "rows", "content", "records"})


def spread(values: Iterable[Scalar], most: int) -> list[Scalar]:
    """Return at most `most` of the values, the first and the last among them, evenly spread.

    Example:
        >>> spread(range(100), 3)
        [0, 49, 99]
    """
    known = list(values)
    if len(known) <= most:
        return known
    return [known[i * (len(known) - 1) // (most - 1)] for i in range(most)] if most > 1 else known[:1]


def as_json_scalar(value: Any) -> str:  # noqa: ANN401 - any JSON scalar
    """Return a value as a URL carries it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
