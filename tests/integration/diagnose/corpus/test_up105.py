"""UP105: joined eager loads of several collections."""

from __future__ import annotations

from sqlalchemy import ForeignKey, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship, selectinload

AUTHORS, EACH = 5, 6


class Base(DeclarativeBase):
    pass


class Publisher(Base):
    __tablename__ = "publisher"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship(back_populates="publisher")


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship()
    prizes: Mapped[list[Prize]] = relationship()


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    publisher_id: Mapped[int] = mapped_column(ForeignKey("publisher.id"))
    publisher: Mapped[Publisher] = relationship(back_populates="books")
    chapters: Mapped[list[Chapter]] = relationship()


class Chapter(Base):
    __tablename__ = "chapter"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))


class Prize(Base):
    __tablename__ = "prize"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


def fill(session):
    authors = range(1, AUTHORS + 1)
    session.execute(insert(Publisher), [{"id": 1}])
    session.execute(insert(Author), [{"id": number} for number in authors])
    session.execute(insert(Book), [{"author_id": n, "publisher_id": 1} for n in authors for _ in range(EACH)])
    session.execute(insert(Prize), [{"author_id": n} for n in authors for _ in range(EACH)])
    session.execute(insert(Chapter), [{"book_id": 1 + n % (AUTHORS * EACH)} for n in range(200)])


def fill_few(session):
    session.execute(insert(Publisher), [{"id": 1}])
    session.execute(insert(Author), [{"id": number} for number in range(1, 61)])
    session.execute(insert(Book), [{"author_id": number, "publisher_id": 1} for number in range(1, 61)])
    session.execute(insert(Prize), [{"author_id": number} for number in range(1, 61)])


def test_two_collections_of_one_object(corpus):
    def work(session):
        authors = select(Author).options(joinedload(Author.books), joinedload(Author.prizes))
        assert len(session.scalars(authors).unique().all()) == AUTHORS  # UP105

    corpus.work(corpus.sqlite(Base, fill), work)


def test_two_collections_of_a_page_on_postgresql(corpus):
    async def work(session):
        page = select(Author).options(joinedload(Author.books), joinedload(Author.prizes)).limit(4)
        (await session.scalars(page)).unique().all()  # UP105

    corpus.work(corpus.async_postgres(Base, fill), work)


def test_one_collection(corpus):
    def work(session):
        session.scalars(select(Author).options(joinedload(Author.books))).unique().all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_collection_within_another(corpus):
    def work(session):
        chapters = joinedload(Author.books).joinedload(Book.chapters)
        session.scalars(select(Author).options(chapters)).unique().all()

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_collection_and_what_its_objects_belong_to(corpus):
    def work(session):
        publishers = joinedload(Author.books).joinedload(Book.publisher)
        session.scalars(select(Author).options(publishers)).unique().all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_two_collections_of_which_one_is_selected(corpus):
    def work(session):
        authors = select(Author).options(joinedload(Author.books), selectinload(Author.prizes))
        session.scalars(authors).unique().all()

    corpus.work(corpus.postgres(Base, fill), work)


def test_two_collections_with_one_object_each(corpus):
    def work(session):
        authors = select(Author).options(joinedload(Author.books), joinedload(Author.prizes))
        session.scalars(authors).unique().all()

    corpus.work(corpus.sqlite(Base, fill_few), work)
