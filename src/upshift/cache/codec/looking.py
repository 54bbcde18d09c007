"""What a kept value is, for people: told without the function that it belongs to, and without its classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from upshift.cache.codec.codec import _MODELS, _TAGGED, _TYPED, codec_for
from upshift.cache.codec.frame import FINGERPRINT_BYTES, unpack
from upshift.errors import CodecError

MAX_BYTES = 16 * 2**20
"""Bytes that are decompressed at most."""

FORMS = {_TYPED: "msgpack, by annotation", _MODELS: "JSON, by Pydantic", _TAGGED: "msgpack, with tags"}


class Seen(NamedTuple):
    """A value.

    Attributes:
        form: how it was written.
        size: bytes that it takes, once decompressed.
        is_readable: whether it could be read here.
        value: the value, as builtins where its own classes are not known; None where it could not be read.
        reason: why it could not.
    """

    form: str
    size: int
    is_readable: bool
    value: Any
    reason: str


def look(data: bytes) -> Seen:
    """Return what is known of a value that a codec has written.

    Raises:
        CodecError: it is none.

    Example:
        >>> from upshift.cache.codec import codec_for
        >>> look(codec_for(dict[str, float]).encode({"TWD": 32.5})).value
        {'TWD': 32.5}
    """
    form, payload = unpack(data, data[2 : 2 + FINGERPRINT_BYTES], MAX_BYTES)
    name = FORMS.get(form)
    if name is None:
        raise CodecError(f"a kept value is written in form {form}, which this version does not know")
    try:
        value = _read(form, payload)
    except Exception as error:  # noqa: BLE001 - of many kinds; the data may be anything
        return Seen(name, len(payload), is_readable=False, value=None, reason=str(error))
    return Seen(name, len(payload), is_readable=True, value=value, reason="")


def _read(form: int, payload: bytes) -> Any:
    if form == _TYPED:
        return msgspec.msgpack.decode(payload)
    if form == _MODELS:
        return msgspec.json.decode(payload)
    return codec_for(None)._forms[form].decode(payload, None)
