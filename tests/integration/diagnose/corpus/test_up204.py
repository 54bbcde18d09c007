"""UP204: LIKE with a leading wildcard."""

from __future__ import annotations

from sqlalchemy import Index, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)


def fill(session):
    session.execute(insert(Author), [{"name": f"author {number}"} for number in range(50)])


def fill_and_index(session):
    fill(session)
    session.execute(text("CREATE EXTENSION pg_trgm"))
    index = Index(None, Author.name, postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"})
    Author.__table__.indexes.discard(index)
    index.name = "ix_author_trigrams"
    index.create(session.connection())


def test_contains(corpus):
    def work(session):
        session.scalars(select(Author).where(Author.name.contains("hor 4"))).all()  # UP204

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_pattern_without_case_in_a_parameter(corpus):
    async def work(session):
        (await session.scalars(select(Author).where(Author.name.ilike("%HOR 4%")))).all()  # UP204

    corpus.work(corpus.async_postgres(Base, fill), work)


def test_a_suffix_in_a_text_of_the_applications_own(corpus):
    def work(session):
        session.execute(text("SELECT id FROM author WHERE name LIKE :x"), {"x": "%4"}).all()  # UP204

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_prefix(corpus):
    def work(session):
        session.scalars(select(Author).where(Author.name.startswith("author 4"))).all()
        session.scalars(select(Author).where(Author.name.like("author 4%"))).all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_percent_sign_that_is_compared(corpus):
    def work(session):
        session.scalars(select(Author).where(Author.name == "%hor 4")).all()

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_column_with_a_trigram_index(corpus):
    def work(session):
        session.scalars(select(Author).where(Author.name.ilike("%hor 4%"))).all()

    corpus.work(corpus.postgres(Base, fill_and_index), work, catalog=True)
