"""Learned plans, as people and programs read them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from sqlalchemy.orm import Mapper

    from upshift.record import CallSite
    from upshift.sql.fetch_plans.plan import Path, Plans


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLoad:
    """One relationship that is fetched with a statement's objects.

    Attributes:
        path: the way to it from the statement's class: `Order.items.product`.
        fetched: values fetched of late.
        used: values of those that were read.
    """

    path: str
    fetched: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    """What is fetched with the objects of one statement.

    Attributes:
        operation: method and route of the requests that send it.
        site: the line that executes it.
        root: the class that it is for.
        options: the loader options that would do the same, as Python.
        loads: the relationships.
        models: the classes that the options name, by name, with the module of each.
    """

    operation: str
    site: CallSite
    root: str
    options: tuple[str, ...]
    loads: tuple[LearnedLoad, ...]
    models: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        document = asdict(self)
        document["site"] = dict(zip(("file", "line", "function"), self.site, strict=True))
        return document


def learned_plans(plans: Plans) -> tuple[FetchPlan, ...]:
    """Describe the plans that are fetched, by route and line."""
    learned = []
    for place, plan in plans.active():
        paths = list(plan.active())
        # A path within a longer one is loaded by that one's option.
        ends = [
            path for path in paths if not any(each[: len(path)] == path for each in paths if each != path)
        ]
        nodes = {path: node for path in paths if (node := plan.node(path)) is not None}
        eager = {path for path, node in nodes.items() if node.is_eager}
        classes = {place.root.class_, *(each.parent.class_ for path in paths for each in path)}
        options = [option for path in ends for option in options_for(place.root, path, eager)]
        learned.append(
            FetchPlan(
                operation=place.operation,
                site=place.site,
                root=place.root.class_.__name__,
                options=tuple(dict.fromkeys(options)),
                loads=tuple(
                    LearnedLoad(path=_dotted(place.root, path), fetched=node.fetched, used=node.used)
                    for path, node in nodes.items()
                    if path not in eager
                ),
                models={each.__name__: each.__module__ for each in sorted(classes, key=lambda c: c.__name__)},
            )
        )
    learned.sort(key=lambda each: (each.operation, each.site, each.root, each.options))
    return tuple(learned)


def options_for(root: Mapper[Any], path: Path, eager: Container[Path] = ()) -> Sequence[str]:
    """Return the loader options that load a path of relationships with objects of a class.

    What the application loads eagerly stays as it is, by `defaultload`. A relationship of a subclass needs
    that class loaded as well: `of_type` within a path, and `selectin_polymorphic` where the statement itself
    is for the base class.
    """
    parts = []
    for number, relationship in enumerate(path):
        owner = relationship.parent
        attribute = f"{owner.class_.__name__}.{relationship.key}"
        if number + 1 < len(path) and not relationship.mapper.isa(path[number + 1].parent):
            attribute += f".of_type({path[number + 1].parent.class_.__name__})"
        load = "defaultload" if path[: number + 1] in eager else "selectinload"
        parts.append(f"{load}({attribute})")
    chain = ".".join(parts)
    first = path[0].parent
    if not root.isa(first):
        # Else the option is taken, and does nothing: the query knows no columns of the subclass.
        return (f"selectin_polymorphic({root.class_.__name__}, [{first.class_.__name__}])", chain)
    return (chain,)


def _dotted(root: Mapper[Any], path: Path) -> str:
    return ".".join((root.class_.__name__, *(each.key for each in path)))
