"""What makes a finding the same finding in the next run, though lines have moved and numbers have changed."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING

from upshift.diagnose.formats.display import enclosing, relative

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from upshift.diagnose.finding import Finding

CAUSES = ("relationship", "digest", "name")
"""The keys of a finding's `data` that name its cause: a relationship, a statement, an index."""


def fingerprints(findings: Iterable[Finding], root: Path | None = None) -> Iterator[str]:
    """Yield a fingerprint for each finding: of its code, file, function and cause, but not of its line.

    Findings that share all these are numbered in their order.
    """
    seen: Counter[str] = Counter()
    for finding in findings:
        site = finding.site
        place = (relative(site.file, root), enclosing(site.function)) if site else finding.routes
        cause = (f"{key}={finding.data[key]}" for key in CAUSES if finding.data.get(key))
        text = "\0".join([finding.code, *place, *cause])
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        seen[digest] += 1
        yield f"{digest}:{seen[digest]}"
