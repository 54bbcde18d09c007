"""What a client carries from a request that wrote to its next one: a position, signed and with an end.

The text is of one length, so that whatever is longer is refused unread:

    version  timeline  lsn      end of validity   HMAC-SHA256 of all before
    1 byte   4 bytes   8 bytes  8 bytes (ms)      32 bytes                     → 71 characters of base64url

A position is no secret, but a client that could choose one could send all of its reads to the primary. A
token that is malformed, forged or over counts as none: the client reads what anybody reads.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import time
from typing import TYPE_CHECKING

from upshift.errors import SettingsError
from upshift.sql.replicas.position import Position

if TYPE_CHECKING:
    from collections.abc import Iterable

MIN_SECRET_BYTES = 16

_BODY = struct.Struct(">BIQQ")
_VERSION = 1
_PURPOSE = b"upshift.sql.replicas:"
"""Begins what is signed, so that no other signature with the same secret is one of these."""
_LENGTH = 71


class Tokens:
    """Makes and reads tokens.

    Args:
        secrets: the first one signs, all of them are believed. To change the secret put a new one before the
            old, and take the old away when its last tokens are over.

    Raises:
        SettingsError: there is no secret, or one is shorter than 16 bytes.

    Example:
        >>> tokens = Tokens(["correct horse battery staple"])
        >>> tokens.read(tokens.make(Position(1, 0x5000060), seconds=60))
        Position(timeline=1, lsn=83886176)
        >>> tokens.read("x" * 71) is None
        True
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._keys = tuple(secret.encode() for secret in secrets)
        if not self._keys or min(map(len, self._keys)) < MIN_SECRET_BYTES:
            raise SettingsError(
                f"replica_secrets (UPSHIFT_REPLICA_SECRETS) needs at least one secret of {MIN_SECRET_BYTES}"
                " bytes or more, the same for all workers"
            )

    def make(self, position: Position, seconds: float) -> str:
        """Return a token for a position, valid for so many seconds from now."""
        end = int((time.time() + seconds) * 1000)
        body = _BODY.pack(_VERSION, *position, end)
        signed = body + _sign(self._keys[0], body)
        return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()

    def read(self, token: str) -> Position | None:
        """Return the position in a token; None where it is no valid one."""
        if len(token) != _LENGTH or not token.isascii():
            return None
        try:
            signed = base64.b64decode(token + "=", altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        body, signature = signed[: _BODY.size], signed[_BODY.size :]
        if not any([hmac.compare_digest(signature, _sign(key, body)) for key in self._keys]):  # noqa: C419 - all, so that the time tells nothing
            return None
        version, timeline, lsn, end = _BODY.unpack(body)
        if version != _VERSION or end < time.time() * 1000:
            return None
        return Position(timeline, lsn)


def _sign(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + body, hashlib.sha256)
