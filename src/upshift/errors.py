"""The exceptions that Upshift raises.

Every one is an `UpshiftError`, so a caller that wants them all catches one name::

    UpshiftError
    ├── SettingsError            a setting or an UPSHIFT_* variable has a value it cannot have
    ├── MissingExtraError        an optional dependency is not installed; names the extra to install
    ├── ApplicationLoadError     `module:app` did not import, or is no ASGI application
    ├── DatabaseUnavailableError the database refused the connection or did not answer
    ├── IndexAdviceError         an index could not be created, verified or removed
    ├── MaintenanceError         a table or an index could not be maintained, or another session is at it
    ├── RecordingError           a recording cannot be made, or a file is none that can be read
    ├── CacheKeyError            no key can be made from a cached function's parameters or arguments
    ├── CacheUnreachableError    nothing was committed, as the cache's Redis could not be told of it
    ├── CodecError               a value cannot be kept as bytes, or bytes are no value of that kind
    ├── WriteBehindError         a write is not acknowledged: the disk did not take it, or it was closed
    │   └── WriteBehindFullError … as there was no room for it; it is certain not to be written
    ├── ServerUnavailableError   an embedded server could not be had or did not start
    ├── LoadError                a load test cannot run as asked
    └── ProofError               a comparison is void: a variant did not start, died or misbehaved

Each message says what was wrong, where, and what to do.
"""

from __future__ import annotations


class UpshiftError(Exception):
    """Base of every exception that Upshift raises on purpose."""


class SettingsError(UpshiftError):
    """A setting, or the `UPSHIFT_*` variable it came from, has a value it cannot have."""


class MissingExtraError(UpshiftError):
    """An optional dependency is missing.

    Args:
        feature: what needs it, as the reader would say it.
        extra: the extra that brings it.

    Example:
        >>> str(MissingExtraError("index advice", "find"))
        "index advice needs an optional dependency: pip install 'upshift[find]'"
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: pip install 'upshift[{extra}]'")
        self.extra = extra


class ApplicationLoadError(UpshiftError):
    """The application named on the command line cannot be loaded."""


class DatabaseUnavailableError(UpshiftError):
    """The database refused the connection, or did not answer in time."""


class IndexAdviceError(UpshiftError):
    """An index could not be created, verified or removed."""


class MaintenanceError(UpshiftError):
    """A table or an index could not be analysed, vacuumed or reindexed, or another session is at it."""


class RecordingError(UpshiftError):
    """A recording cannot be made there, or a file is no recording that this Upshift can read."""


class CacheKeyError(UpshiftError, TypeError):
    """No key can be made for a cached function, from its parameters or from the arguments of a call."""


class CodecError(UpshiftError):
    """A value cannot be kept as bytes and come back as it was, or bytes are none of such a value."""


class WriteBehindError(UpshiftError):
    """A write is not acknowledged: the disk did not take it, or the write-behind has been closed."""


class WriteBehindFullError(WriteBehindError):
    """There was no room for a write in time. It is not written."""


class CacheUnreachableError(UpshiftError):
    """A transaction was refused before COMMIT, as the cache's Redis could not be told what it writes.

    Only `Cache(…, unreachable="refuse")` raises it. Roll back, and try again when Redis is there.
    """


class ServerUnavailableError(UpshiftError):
    """An embedded PostgreSQL or Valkey server could not be had or did not start."""


class LoadError(UpshiftError):
    """A load test cannot run as asked."""


class ProofError(UpshiftError):
    """A comparison is void: a variant did not start, died under load, or the machine was too noisy."""
