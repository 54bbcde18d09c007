"""UP106: a wide column that is loaded with its objects, and read in no sampled request."""

from __future__ import annotations

from sqlalchemy import JSON, LargeBinary, Text, select
from sqlalchemy.orm import DeclarativeBase, Mapped, defer, load_only, mapped_column

SAMPLED = {"use_sample_rate": 1.0, "unused_samples": 4, "times": 5}


class Base(DeclarativeBase):
    pass


class Article(Base):
    __tablename__ = "article"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(default="An article")
    teaser: Mapped[str] = mapped_column(Text, default="Short.")
    body: Mapped[str] = mapped_column(Text)
    picture: Mapped[bytes | None] = mapped_column(LargeBinary)
    layout: Mapped[dict | None] = mapped_column(JSON)


def fill_bodies(session):
    session.add_all(Article(body="long " * 2_000) for _ in range(4))


def fill_all(session):
    layout = {f"block {n}": "left" for n in range(300)}
    session.add_all(Article(body="long " * 2_000, picture=b"\0" * 5_000, layout=layout) for _ in range(4))


def fill_short(session):
    session.add_all(Article(body="Short as well.") for _ in range(4))


def test_a_body_of_which_only_the_title_is_shown(corpus):
    def work(session):
        articles = session.scalars(select(Article).limit(9))  # UP106
        assert {article.title for article in articles} == {"An article"}

    corpus.work(corpus.sqlite(Base, fill_bodies), work, **SAMPLED)


def test_blobs_and_documents_on_postgresql(corpus):
    async def work(session):
        articles = await session.scalars(select(Article).limit(9))  # UP106
        assert {len(article.body) for article in articles} == {10_000}

    corpus.work(corpus.async_postgres(Base, fill_all), work, **SAMPLED)


def test_a_body_that_is_shown(corpus):
    def work(session):
        articles = session.scalars(select(Article).limit(9))
        assert {len(article.body) for article in articles} == {10_000}

    corpus.work(corpus.sqlite(Base, fill_bodies), work, **SAMPLED)


def test_a_body_that_one_request_of_many_shows(corpus):
    requests = []

    def work(session):
        requests.append(1)
        articles = session.scalars(select(Article).limit(9)).all()
        assert {article.title for article in articles} == {"An article"}
        if len(requests) == 2:
            assert articles[0].body

    corpus.work(corpus.sqlite(Base, fill_bodies), work, **SAMPLED | {"times": 12})


def test_texts_that_are_short(corpus):
    def work(session):
        articles = session.scalars(select(Article).limit(9))
        assert {article.title for article in articles} == {"An article"}

    corpus.work(corpus.sqlite(Base, fill_short), work, **SAMPLED)


def test_columns_that_the_query_names(corpus):
    def work(session):
        without = session.scalars(select(Article).options(defer(Article.body)).limit(9))
        alone = session.scalars(select(Article).options(load_only(Article.title)).limit(8))
        assert {article.title for article in (*without, *alone)} == {"An article"}
        assert session.execute(select(Article.id, Article.title).limit(9)).all()

    corpus.work(corpus.sqlite(Base, fill_bodies), work, **SAMPLED)


def test_objects_that_are_read_in_a_way_that_is_not_seen(corpus):
    def work(session):
        articles = session.scalars(select(Article).limit(9))
        assert {len(vars(article)["body"]) for article in articles} == {10_000}

    corpus.work(corpus.sqlite(Base, fill_bodies), work, **SAMPLED)
