"""Whatever is found in an application here is found in a recording of it as well.

Each case of the corpus is recorded while it runs, and the rules read the recording too. They must find the
same: every field of every finding, but that files are told relative to the folder of the process. What else
an observation has, such as index advice or leaks of the pool, is not in a recording, nor what is found in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from upshift import Upshift
from upshift.diagnose import Finding, Observation, diagnose
from upshift.diagnose.formats.display import relative
from upshift.diagnose.recorded import observe
from upshift.record import CallSite
from upshift.record.recording import Recording, RecordingWriter


@pytest.fixture(autouse=True)
def recorded_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    recordings: dict[Upshift, RecordingWriter] = {}
    make, look = Upshift.__init__, Upshift.observation

    def recording_init(self: Upshift, *arguments, **settings) -> None:
        make(self, *arguments, **settings)
        recordings[self] = self.record_to(tmp_path / f"{len(recordings)}.recording", records_per_second=10**6)

    def compared_observation(self: Upshift) -> Observation:
        live = look(self)
        if self in recordings:
            writer = recordings.pop(self)
            writer.close()
            recording = Recording(writer.path)
            recorded = observe(recording)
            assert (recorded.remarks, writer.dropped) == ((), 0)
            seen = Observation(records=live.records, statements=live.statements, settings=live.settings)
            assert told(diagnose(recorded.observation)) == told(diagnose(seen))
        return live

    monkeypatch.setattr(Upshift, "__init__", recording_init)
    monkeypatch.setattr(Upshift, "observation", compared_observation)
    yield
    for writer in recordings.values():
        writer.close()


def told(findings: tuple[Finding, ...]) -> list[Finding]:
    """The findings without what differs by the folder: the beginnings of paths, and the order by them."""
    told = [
        replace(each, site=each.site and placed(each.site), also=tuple(sorted(map(placed, each.also))))
        for each in findings
    ]
    return sorted(told, key=lambda each: (each.code, each.site or ("", 0, "")))


def placed(site: CallSite) -> CallSite:
    return site._replace(file=relative(site.file))
