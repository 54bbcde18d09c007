"""What fetch plans and the watching of attributes take from SQLAlchemy beyond its public API."""

from __future__ import annotations

import pytest
from sqlalchemy import ForeignKey, create_engine, event, insert, select
from sqlalchemy.engine.result import ChunkedIteratorResult
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    loading,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.orm.attributes import InstrumentedAttribute, instance_state
from sqlalchemy.pool import StaticPool

from upshift.sql.uses.watch import Watch


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    posts: Mapped[list[Post]] = relationship()


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


@pytest.fixture
def session():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Author), [{"id": n} for n in range(1, 6)])
        connection.execute(insert(Post), [{"id": n, "author_id": n} for n in range(1, 6)])
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_the_numbers_of_executions_come_from_one_counter(session):
    before = loading._new_runid()
    author = session.scalars(select(Author)).first()
    assert before < instance_state(author).runid < loading._new_runid()


def test_a_lazy_loads_objects_have_a_number_of_their_own(session):
    author = session.scalars(select(Author)).first()
    between = loading._new_runid()
    assert instance_state(author).runid < between < instance_state(author.posts[0]).runid


@pytest.mark.parametrize("size", [None, 2])
def test_rows_come_in_chunks_that_can_be_wrapped(session, size):
    seen = []

    def listener(execution):
        result = execution.invoke_statement()
        assert isinstance(result, ChunkedIteratorResult)
        assert result._source_supports_scalars
        assert result._yield_per == size
        seen.append(result)
        return result

    event.listen(session, "do_orm_execute", listener)
    statement = select(Author)
    if size:
        statement = statement.execution_options(yield_per=size)
    result = session.execute(statement)
    chunks = list(seen[0].chunks(size))
    assert [len(each) for each in chunks] == ([2, 2, 1] if size else [5])
    assert all(isinstance(each, Author) for chunk in chunks for each in chunk)
    result.close()


def test_a_statement_names_its_entity_before_it_runs():
    assert select(Author)._propagate_attrs["plugin_subject"].mapper is Author.__mapper__
    assert "plugin_subject" not in select(Author.__table__)._propagate_attrs


def test_an_options_elements_tell_their_path_and_strategy():
    (option,) = select(Author).options(selectinload(Author.posts))._with_options
    (element,) = option.context
    assert dict(element.strategy)["lazy"] == "selectin"
    assert Author.__mapper__.relationships["posts"] in element.path.path
    assert element.propagate_to_loaders


def test_an_attribute_can_be_given_a_subclass_of_its_class(session):
    """It reads as the plain one, and statements with it are found in the cache."""
    statement = select(Author).join(Author.posts)
    plain = statement._generate_cache_key()
    watch = Watch(Author.__mapper__.relationships["posts"], lambda *_: None)
    try:
        assert type(vars(Author)["posts"]) is not InstrumentedAttribute
        assert Author.posts.property is Author.__mapper__.relationships["posts"]
        assert select(Author).join(Author.posts)._generate_cache_key() == plain
        assert [len(each.posts) for each in session.scalars(select(Author).join(Author.posts))] == [1] * 5
    finally:
        watch.stop()
    assert type(vars(Author)["posts"]) is InstrumentedAttribute
