"""`Codec`: values of one annotation as bytes, in the quickest form that brings them back as they were."""

from __future__ import annotations

import typing
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from upshift.cache.codec.copies import Copies, holds_mapped
from upshift.cache.codec.frame import pack, unpack
from upshift.cache.codec.instances import is_same
from upshift.cache.codec.mapped.gathering import Gathering, Graph
from upshift.cache.codec.mapped.plan import Plans
from upshift.cache.codec.mapped.restoring import Restored
from upshift.cache.codec.shape import Shape, shape_of
from upshift.cache.codec.tagged import Tagged
from upshift.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

COMPRESS_FROM = 16 * 1024
"""Bytes from which on a payload is compressed: what is smaller comes in TCP's first window anyway."""

MAX_BYTES = 16 * 2**20
"""Bytes that a payload may have before it is compressed."""

_TYPED, _MODELS, _TAGGED = 1, 2, 3

_NOTHING_MAPPED = b"\x92\xc0"
"""How a pair begins in msgpack whose first is None: here, that there is no graph of mapped objects."""


class _Form(Protocol):
    """A way of writing values. Errors are of many kinds; the codec makes one kind of them.

    Attributes:
        is_exact: whether whatever can be written comes back as it was.
    """

    is_exact: bool

    def encode(self, value: Any) -> bytes: ...

    def decode(self, data: bytes, session: Session | None) -> Any: ...

    def has_mapped(self, data: bytes, value: Any) -> bool: ...


class _Typed:
    """By msgspec, from the annotation alone."""

    is_exact = False

    def __init__(self, annotation: Any) -> None:
        self.encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
        self._decode = msgspec.msgpack.Decoder(annotation).decode

    def decode(self, data: bytes, _: Session | None) -> Any:
        return self._decode(data)

    def has_mapped(self, data: bytes, value: Any) -> bool:  # noqa: ARG002 - no such class is in its annotation
        return False


class _Models:
    """By Pydantic, from the annotation alone."""

    is_exact = False

    def __init__(self, annotation: Any) -> None:
        from pydantic import TypeAdapter

        self._adapter: Any = TypeAdapter(annotation)

    def encode(self, value: Any) -> bytes:
        written: bytes = self._adapter.dump_json(value, by_alias=True, warnings="error")
        return written

    def decode(self, data: bytes, _: Session | None) -> Any:
        return self._adapter.validate_json(data)

    def has_mapped(self, data: bytes, value: Any) -> bool:  # noqa: ARG002 - it does not tell
        return holds_mapped(value)


class _WithObjects:
    """With tags, and with what is mapped in it."""

    def __init__(self, shape: Shape, plans: Plans) -> None:
        advice = "name its class in the function's return annotation, or return builtins"
        self._tagged = Tagged(shape.classes, advice)
        self.is_exact = not shape.classes  # a class may do in its own way what makes an instance
        self._plans = plans
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(tuple[Graph | None, msgspec.Raw])
        self._tree_decoder = msgspec.msgpack.Decoder(ext_hook=self._tagged.hook)

    def encode(self, value: Any) -> bytes:
        gathering = Gathering(self._plans)
        tree = msgspec.Raw(self._tagged.encode(value, gathering))
        return self._encoder.encode((gathering.graph() if gathering else None, tree))

    def decode(self, data: bytes, session: Session | None) -> Any:
        if data.startswith(_NOTHING_MAPPED):
            return self._tree_decoder.decode(data[2:])
        graph, tree = self._decoder.decode(data)
        objects = Restored(graph, self._plans, session) if graph is not None else None
        return self._tagged.decode(tree, objects)

    def has_mapped(self, data: bytes, value: Any) -> bool:  # noqa: ARG002 - to look at it takes longer
        return not data.startswith(_NOTHING_MAPPED)


class Codec:
    """Writes the values of a function as bytes, and makes values from them again.

    It is made of the annotation when it is first used, so classes that are declared later may be named in it.
    One codec may be used by any number of threads.

    Args:
        annotation: what the values are; None where nobody says.
        plans: what is known of mapped classes, to be shared by the codecs of a cache.
        compress_from: bytes from which on a value is compressed.
        max_bytes: bytes that a value may take before that.
    """

    def __init__(
        self,
        annotation: object = None,
        *,
        plans: Plans | None = None,
        compress_from: int = COMPRESS_FROM,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._annotation = annotation
        self._plans = plans or Plans()
        self._compress_from = compress_from
        self._max_bytes = max_bytes

    def encode(self, value: object) -> bytes:
        """Return a value as bytes.

        Raises:
            CodecError: it would not come back as it is, or is too large; the message says what to do.
        """
        form, payload = self._encoded(value)
        return pack(form, self._shape.fingerprint, payload, self._compress_from, self._max_bytes)

    def decode(self, data: bytes, session: Session | None = None) -> Any:
        """Return the value that was written: a new one for each call.

        Args:
            data: the bytes.
            session: where mapped objects belong, as if it had loaded them: one that it has already is taken
                as it is there. They are detached where none is given.

        Raises:
            CodecError: the bytes are damaged, or were written for values of another shape.
        """
        return self._read(data, session)[0]

    def shareable(self, data: bytes) -> Any:
        """Return what all who ask can be answered by: the value, or `Copies` where something in it is mapped.

        Args:
            data: the value as bytes.

        Raises:
            CodecError: see `decode`.
        """
        value, has_mapped = self._read(data, None)
        return Copies(data, self, value) if has_mapped else value

    def _read(self, data: bytes, session: Session | None) -> tuple[Any, bool]:
        """Return a value, and whether it has something mapped in it."""
        number, payload = unpack(data, self._shape.fingerprint, self._max_bytes)
        try:
            form = self._forms[number]
            value = form.decode(payload, session)
            return value, form.has_mapped(payload, value)
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"a kept value cannot be read: {error}") from error

    @cached_property
    def _shape(self) -> Shape:
        return shape_of(self._annotation)

    @cached_property
    def _forms(self) -> dict[int, _Form]:
        """The forms that there are for the annotation, the quickest first."""
        forms: dict[int, _Form] = {}
        if self._shape.is_closed:
            _add(forms, _TYPED, lambda: _Typed(self._annotation))
        elif self._shape.has_models:
            _add(forms, _MODELS, lambda: _Models(self._annotation))
        return forms | {_TAGGED: _WithObjects(self._shape, self._plans)}

    def _encoded(self, value: object) -> tuple[int, bytes]:
        """Return the number of the first form that brings a value back as it is, and what it makes of it."""
        failure: Exception | None = None
        for number, form in self._forms.items():
            try:
                payload = form.encode(value)
                if form.is_exact or is_same(value, form.decode(payload, None)):
                    return number, payload
            except Exception as error:  # noqa: BLE001 - of many kinds, some of the values' own
                failure = error
        if isinstance(failure, CodecError):
            raise failure
        kind = type(value)
        raise CodecError(
            f"a {kind.__module__}.{kind.__qualname__} would not come back as it is"
            f"{f' ({failure})' if failure else ''}: return builtins, dataclasses or Structs"
        ) from failure


def codec_for(annotation: object = None, *, plans: Plans | None = None) -> Codec:
    """Return the codec of values that are annotated like this.

    Args:
        annotation: a function's return annotation, resolved (`return_annotation_of`); None where it has none.
        plans: what is known of mapped classes, to be shared by the codecs of a cache.

    Example:
        >>> codec = codec_for(dict[str, tuple[int, ...]])
        >>> codec.decode(codec.encode({"sizes": (1, 2)}))
        {'sizes': (1, 2)}
        >>> codec_for(list[int]).decode(codec.encode({"sizes": (1, 2)}))
        Traceback (most recent call last):
            ...
        upshift.errors.CodecError: a kept value is of another shape than its annotation is now
    """
    return Codec(annotation, plans=plans)


def return_annotation_of(function: Callable[..., Any]) -> object:
    """Return what a function's values are annotated as; None where that is not said, or cannot be told.

    Example:
        >>> def prices() -> list[int]: ...
        >>> return_annotation_of(prices)
        list[int]
    """
    try:
        return typing.get_type_hints(function, include_extras=True).get("return")
    except (NameError, TypeError, AttributeError):  # of names that are there for type checkers only
        return None


def _add(forms: dict[int, _Form], number: int, make: Callable[[], _Form]) -> None:
    with suppress(Exception):  # what msgspec or Pydantic do not know is written with tags
        forms[number] = make()
