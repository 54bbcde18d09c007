"""Every code that a finding can have: what it is about, and where its page is.

The pages are `docs/findings/*.md`. The wheel carries a copy of them beside this module, so that
`upshift explain` tells the same offline.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from upshift.diagnose.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

_INSTALLED_PAGES = Path(__file__).with_name("pages")
_CHECKOUT_PAGES = Path(__file__).parents[3] / "docs" / "findings"


@dataclass(frozen=True, slots=True)
class Entry:
    """What there is to know of a code without an observation.

    Attributes:
        code: the code.
        severity: the worst that its findings can have.
        title: what is wrong, in a few words.
        summary: what that means, in one paragraph; the first of the code's page.
    """

    code: str
    severity: Severity
    title: str
    summary: str

    @property
    def page(self) -> str:
        """The code's page, in Markdown."""
        folder = _INSTALLED_PAGES if _INSTALLED_PAGES.is_dir() else _CHECKOUT_PAGES
        return (folder / f"{self.code}.md").read_text("utf-8")

    @property
    def url(self) -> str | None:
        """The page's address, below the `Documentation` URL of Upshift's metadata; None without one."""
        try:
            urls = metadata("upshift").get_all("Project-URL") or []
        except PackageNotFoundError:  # it runs from a checkout that is not installed
            return None
        for label, _, url in (each.partition(",") for each in urls):
            if label.strip() == "Documentation":
                return f"{url.strip().rstrip('/')}/findings/{self.code}.md"
        return None


CATALOGUE: Mapping[str, Entry] = {
    entry.code: entry
    for entry in (
        Entry(
            "UP101",
            Severity.ERROR,
            "Repeated statement (N+1)",
            "One request sends the same statement again and again from one line, once for each object that "
            "it walks over. Each execution costs a round trip to the database, so the request becomes slower "
            "with every row, although one statement could have brought them all.",
        ),
        Entry(
            "UP102",
            Severity.WARNING,
            "Slow statement",
            "A statement takes longer than the threshold, typically and not only now and then. Every request "
            "that sends it waits that long, and holds a connection of the pool meanwhile.",
        ),
        Entry(
            "UP103",
            Severity.WARNING,
            "Same statement, same parameters",
            "One request sends the same SELECT with the same parameters more than once, with nothing "
            "written between. The answer is known already, so each repetition is a round trip to the "
            "database for nothing.",
        ),
        Entry(
            "UP104",
            Severity.WARNING,
            "Unused eager load",
            "A statement loads a relationship together with its objects, by an option or by the mapping, and "
            "no request was seen to read it. Each request pays for a join or a statement more, and for "
            "objects that nobody looks at.",
        ),
        Entry(
            "UP105",
            Severity.WARNING,
            "Joined collections that multiply",
            "One SELECT loads two collections of the same objects by joins. Its rows are a product: each "
            "row of the one with each row of the other, so that ten books and ten prizes are a hundred "
            "rows for each author.",
        ),
        Entry(
            "UP106",
            Severity.INFO,
            "Wide columns never read",
            "A statement loads whole objects with a long text, a document or a blob in them, and no request "
            "was seen to read it. The database reads it from where it keeps wide values, sends it, and the "
            "driver builds it, for nothing.",
        ),
        Entry(
            "UP107",
            Severity.ERROR,
            "Reloads after a commit",
            "A commit expires all objects of its session, and then each of them is reloaded by a SELECT "
            "of its own when it is next read. The request becomes slower with every object that it shows "
            "after its commit.",
        ),
        Entry(
            "UP108",
            Severity.WARNING,
            "Commit for each row",
            "One request commits again and again from one line, a row or a few at a time. Each commit "
            "waits for the disk and costs round trips, so it takes longer than the rows themselves.",
        ),
        Entry(
            "UP109",
            Severity.WARNING,
            "Row-by-row insert",
            "One request inserts rows with a statement for each, from one line and in one transaction. "
            "One statement can carry them all, and saves a round trip for each row.",
        ),
        Entry(
            "UP201",
            Severity.WARNING,
            "Missing index",
            "A statement reads many rows to keep few, or sorts them, because no index serves its conditions "
            "and its order. The index that is named was built on trial: the planner used it, and the "
            "workload, executed on a copy, gained more by it than its writes paid for it.",
        ),
        Entry(
            "UP202",
            Severity.WARNING,
            "Deep OFFSET",
            "A page is taken deep in a table by OFFSET. The database reads all rows before it and throws "
            "them away, so a page costs more the deeper it lies.",
        ),
        Entry(
            "UP203",
            Severity.WARNING,
            "Count for each page",
            "A request takes a page of some rows with LIMIT, and counts all of them beside it. The page "
            "reads as many rows as it shows; the count reads every row that meets the conditions, again "
            "for each page.",
        ),
        Entry(
            "UP204",
            Severity.WARNING,
            "LIKE with a leading wildcard",
            "A text is searched by LIKE with a pattern that begins with a wildcard. No ordinary index "
            "serves that, so every row of the table is read and compared.",
        ),
        Entry(
            "UP205",
            Severity.WARNING,
            "Function on an indexed column",
            "A condition compares an indexed column through a function, such as lower(email) or "
            "date(created_at). The index holds the bare column, so it does not serve, and every row is "
            "read.",
        ),
        Entry(
            "UP206",
            Severity.WARNING,
            "Unbounded result",
            "A SELECT without LIMIT has returned many rows. It returns what the table has, so its time "
            "and its memory grow with the table.",
        ),
        Entry(
            "UP207",
            Severity.WARNING,
            "Implicit cast",
            "The planner casts an indexed column to another type before it compares it, since the value it "
            "is compared with is of that type. The index holds the column's own values, so it cannot answer "
            "the condition, and every row is read and cast.",
        ),
        Entry(
            "UP208",
            Severity.WARNING,
            "Stale planner statistics",
            "The planner expects ten times more or ten times fewer rows of a table than there are. It "
            "chooses indexes, joins and their order by these numbers, so a plan that would be right for its "
            "estimate is slow for the data.",
        ),
        Entry(
            "UP209",
            Severity.WARNING,
            "Plan regression",
            "The database answers a statement by another plan than before, and the new one costs or takes at "
            "least twice as much. Nothing in the application changed for that: an index may be gone, "
            "statistics may be stale, or a setting changed.",
        ),
        Entry(
            "UP210",
            Severity.WARNING,
            "Table bloat",
            "A large part of a table is space that holds no rows, or rows that are dead. Every scan reads "
            "it, every backup of the files carries it, and it takes the place of useful pages in memory.",
        ),
        Entry(
            "UP211",
            Severity.INFO,
            "Unused index",
            "No plan has used an index of some size since the server began to count, and it holds no rule. "
            "Every write to its table keeps it up, it takes room in the cache, and nothing reads it.",
        ),
        Entry(
            "UP212",
            Severity.INFO,
            "Duplicate index",
            "Another index of the table serves whatever this one serves: it has the same columns, or begins "
            "with them. Every write keeps up both.",
        ),
        Entry(
            "UP213",
            Severity.WARNING,
            "Invalid index",
            "The build of an index failed or was interrupted, and what it left is invalid: every write keeps "
            "it up, and no plan can use it.",
        ),
        Entry(
            "UP301",
            Severity.WARNING,
            "Large uncompressed response",
            "A large response of a kind that compresses well was sent as it is, to a client that said it "
            "accepts gzip. Compressed JSON has about a third of the size, and on a mobile connection the "
            "transfer is the larger part of what the user waits for.",
        ),
        Entry(
            "UP401",
            Severity.WARNING,
            "Long transaction",
            "A transaction stays open for long and does much, one thing after another. Until it ends it "
            "keeps its locks, and the database cannot remove old versions of any row.",
        ),
        Entry(
            "UP402",
            Severity.ERROR,
            "Idle in transaction",
            "A transaction that has written waits for something that is not the database: another "
            "service, a sleep, a computation. Its locks stay meanwhile, and whoever wants the same rows "
            "waits with it.",
        ),
        Entry(
            "UP403",
            Severity.WARNING,
            "Connection held while waiting",
            "A request holds a connection of the pool while no statement runs on it, as it waits for "
            "something else. The pool runs out for the other requests, although the database has little "
            "to do.",
        ),
        Entry(
            "UP404",
            Severity.ERROR,
            "Connection leak",
            "A connection was taken from its pool and not given back as it should: it was forgotten until "
            "Python's garbage collector came by, or it is in use for longer than any request should need "
            "one. The pool has one fewer for everybody else, and when all have leaked, requests wait until "
            "they time out.",
        ),
    )
}
"""The codes, by code."""
