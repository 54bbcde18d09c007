"""What a cache is made of at a moment: where its tokens are, and how that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["process", "page", "redis"]


@dataclass(frozen=True, slots=True)
class RedisState:
    """What one process knows of its Redis. Nobody is asked for it.

    Attributes:
        name: the cache's name there.
        server: the host and port, or the socket, that is asked; "" while none is found.
        is_usable: whether it is asked, and what it says is served.
        openings: how often failures have opened the circuit.
        reason: the last failure, in words; "" while it is usable.
        malformed: entries found there that could not be read.
        unannounced: transactions that returned though nobody could be told of them in time.
        owed: transactions whose end it has to be told yet.
    """

    name: str
    server: str
    is_usable: bool
    openings: int
    reason: str
    malformed: int
    unannounced: int
    owed: int


@dataclass(frozen=True, slots=True)
class ListenerState:
    """What is heard of writers outside of the application.

    Attributes:
        database: whose triggers tell, without a password.
        is_listening: whether it is heard.
        heard: notifications until now.
        faults: times when the connection was lost or could not be had, or a notification not understood.
    """

    database: str
    is_listening: bool
    heard: int
    faults: int


@dataclass(frozen=True, slots=True)
class CacheState:
    """What a cache is made of.

    Attributes:
        place: where its tokens are: in this process, in a page that the workers of a host share, or in Redis.
        page: the page; "" where there is none.
        entries: values in the memory of this process.
        bytes: what they take, about.
        watched: the engines whose statements it sees, without passwords.
        faults: times when the page could not be locked, or was full.
        redis: what is known of it; None where none is used.
        listeners: what is heard of writers outside of the application.
    """

    place: Place
    page: str
    entries: int
    bytes: int
    watched: tuple[str, ...] = ()
    faults: int = 0
    redis: RedisState | None = None
    listeners: tuple[ListenerState, ...] = ()
