"""UP404: a connection that is not given back as it should.

One that was forgotten is an error: the garbage collector gave it back, and might have come later or, at an
asynchronous pool, could only throw it away. One that is held for long is a warning, as a report or a stream
may mean to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record.leak import Leak

CODE = "UP404"

_FIX = {
    "collected": (
        "take it in a `with` block: with engine.connect() as connection, with Session(engine) as session",
        "where the framework hands it out, yield it inside of that block",
    ),
    "held": (
        "end the session before what takes long: a call to another service, a sleep, a wait for work",
        "where it is meant to take long: pool_leak_seconds, or an engine of its own",
    ),
}


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each line whose connections leak, and each way they do."""
    for leak in observation.leaks:
        is_forgotten = leak.kind == "collected"
        yield Finding(
            code=CODE,
            severity=Severity.ERROR if is_forgotten else Severity.WARNING,
            title=_title(leak),
            site=leak.site,
            routes=leak.routes,
            evidence=_evidence(leak, observation.settings.pool.pool_leak_seconds),
            fix=_FIX[leak.kind],
            expect="the pool has its connections back: nobody waits for one that nobody uses",
            data={
                "pool": leak.pool,
                "kind": leak.kind,
                "count": leak.count,
                "open": leak.open,
                "longest_seconds": leak.seconds,
            },
        )


def _title(leak: Leak) -> str:
    how = "forgotten" if leak.kind == "collected" else f"held for {leak.seconds:.0f} s"
    return f"connection leak: {leak.count} of {leak.pool} {how}"


def _evidence(leak: Leak, threshold: float) -> tuple[str, ...]:
    if leak.kind == "collected":
        return (f"{leak.count} were given back by the garbage collector, after up to {leak.seconds:.1f} s",)
    return (f"{leak.count} in use for more than {threshold:g} s, {leak.open} of them still out",)
