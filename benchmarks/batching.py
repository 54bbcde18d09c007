"""Adaptive batching beside what one would write by hand, and beside doing nothing.

    python benchmarks/batching.py

A page: 200 authors, their 1000 posts, the tags of each post, on embedded PostgreSQL through psycopg. Batching
has seen the page before, as it has in a service; the peer is `selectinload(…).selectinload(…)` at the query.
The other case is the one in which fetching ahead could only lose: of 1000 authors one has its posts read.

Both sides run in this process on the same database, in blocks that take turns, with Upshift installed only
during its own. A block's time is that of its fastest walk, for what disturbs a machine only ever adds; the
ratio is the median over the blocks' ratios. The garbage collector is on, as in a service, and has cleaned up
before each walk. SQLite is for comparison and not judged.
"""

from __future__ import annotations

import datetime as dt
import gc
import statistics
import sys
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from report import Case, progress, report
from sqlalchemy import Column, Engine, ForeignKey, Table, create_engine, event, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from upshift.sql import Batching
from upshift.testing.servers import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCKS = 12
PER_BLOCK = 5
WARMUP = 4

AUTHORS, POSTS, TAGS, TAGS_EACH = 200, 1_000, 50, 4
TIME_BAR, COUNT_BAR, ONE_BAR = 1.05, 1.0, 1.2


class Base(DeclarativeBase):
    pass


post_tag = Table(
    "post_tag",
    Base.metadata,
    Column("post_id", ForeignKey("post.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    joined: Mapped[dt.date]
    posts: Mapped[list[Post]] = relationship(order_by="Post.id")


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]
    views: Mapped[int]
    published: Mapped[dt.date]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), index=True)
    tags: Mapped[list[Tag]] = relationship(secondary=post_tag, order_by="Tag.id")


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def fill(engine: Engine) -> None:
    """Make the page's rows, and 1000 authors in all for the other case."""
    Base.metadata.create_all(engine)
    day = dt.date(2026, 1, 1)
    authors = [
        {"id": n, "name": f"author {n}", "email": f"{n}@example.org", "joined": day} for n in range(1, 1_001)
    ]
    posts = [
        {
            "id": n,
            "title": f"post {n}",
            "body": f"The body of post {n}. " * 10,
            "views": n * 7,
            "published": day + dt.timedelta(n % 300),
            "author_id": n % AUTHORS + 1,
        }
        for n in range(1, POSTS + 1)
    ]
    tagged = [
        {"post_id": n, "tag_id": (n * 7 + k * 11) % TAGS + 1}
        for n in range(1, POSTS + 1)
        for k in range(TAGS_EACH)
    ]
    with engine.begin() as connection:
        connection.execute(insert(Author), authors)
        connection.execute(insert(Post), posts)
        connection.execute(insert(Tag), [{"id": n, "name": f"tag {n}"} for n in range(1, TAGS + 1)])
        connection.execute(insert(post_tag), tagged)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")


PLAIN = select(Author).where(Author.id <= AUTHORS).order_by(Author.id)
BY_HAND = PLAIN.options(selectinload(Author.posts).selectinload(Post.tags))
ALL = select(Author).order_by(Author.id)


def page(session: Session, statement: object = PLAIN) -> list[object]:
    return [
        (
            author.name,
            [(post.title, post.published, [tag.name for tag in post.tags]) for post in author.posts],
        )
        for author in session.scalars(statement)
    ]


def page_by_hand(session: Session) -> list[object]:
    return page(session, BY_HAND)


def one_of_many(session: Session) -> list[object]:
    authors = session.scalars(ALL).all()
    return [post.title for post in authors[500 % AUTHORS].posts]


class Measured(NamedTuple):
    ours: float
    peer: float
    ratio: float
    our_statements: int
    peer_statements: int


def measure(engine: Engine, ours: Callable[..., object], peer: Callable[..., object]) -> Measured:
    """Let both sides take turns; times in milliseconds."""
    blocks = []
    for number in range(BLOCKS):
        if number % 2:
            peer_time = time_of(engine, peer)
        with batching(engine):
            our_time = time_of(engine, ours)
        if not number % 2:
            peer_time = time_of(engine, peer)
        blocks.append((our_time, peer_time))
    with batching(engine):
        our_statements = statements_of(engine, ours)
    return Measured(
        statistics.median(ours for ours, _ in blocks),
        statistics.median(peer for _, peer in blocks),
        statistics.median(ours / peer for ours, peer in blocks),
        our_statements,
        statements_of(engine, peer),
    )


@contextmanager
def batching(engine: Engine) -> Iterator[None]:
    installed = Batching([engine])
    try:
        yield
    finally:
        installed.close()


def run(engine: Engine, walk: Callable[..., object]) -> object:
    with Session(engine) as session:
        return walk(session)


def time_of(engine: Engine, walk: Callable[..., object]) -> float:
    """Milliseconds for the fastest walk of a block, once batching has learned and caches are warm."""
    for _ in range(WARMUP):
        run(engine, walk)
    best = float("inf")
    for _ in range(PER_BLOCK):
        gc.collect()
        started = perf_counter()
        run(engine, walk)
        best = min(best, perf_counter() - started)
    return best * 1_000


def statements_of(engine: Engine, walk: Callable[..., object]) -> int:
    """The number of statements of a walk, once batching has learned."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    for _ in range(WARMUP):
        run(engine, walk)
    event.listen(engine, "before_cursor_execute", note)
    run(engine, walk)
    event.remove(engine, "before_cursor_execute", note)
    return len(sent)


def cases(engine: Engine, where: str, *, is_judged: bool) -> Iterator[Case]:
    with Session(engine) as session:
        expected = page_by_hand(session)
    with batching(engine):
        assert run(engine, page) == expected
    progress(f"{where}: a page of {AUTHORS} authors, {POSTS} posts and their tags")
    measured = measure(engine, page, page_by_hand)
    name = f"authors, posts, tags on {where}"
    by_hand = "selectinload by hand"
    yield Case(
        name, measured.ours, measured.peer, by_hand, TIME_BAR if is_judged else None, "ms", measured.ratio
    )
    yield Case(name, measured.our_statements, measured.peer_statements, by_hand, COUNT_BAR, "statements")
    progress(f"{where}: one of 1000 authors")
    measured = measure(engine, one_of_many, one_of_many)
    name = f"one parent of 1000 on {where}"
    yield Case(
        name, measured.ours, measured.peer, "lazy", ONE_BAR if is_judged else None, "ms", measured.ratio
    )
    yield Case(name, measured.our_statements, measured.peer_statements, "lazy", COUNT_BAR, "statements")


def main() -> int:
    results: list[Case] = []
    Batching([]).close()  # on CPython 3.11 it has to come before the first objects
    with postgres() as server:
        engine = create_engine(server.url(driver="psycopg"))
        fill(engine)
        results += cases(engine, "PostgreSQL", is_judged=True)
        engine.dispose()
    engine = create_engine("sqlite://")
    fill(engine)
    results += cases(engine, "SQLite", is_judged=False)
    return report("batching", results, ("sqlalchemy", "psycopg"))


if __name__ == "__main__":
    sys.exit(main())
