"""What fetch plans and the watching of attributes take from SQLAlchemy beyond its public API."""

from __future__ import annotations

import pytest
from sqlalchemy import ForeignKey, create_engine, event, insert, select
from sqlalchemy.engine.result import ChunkedIteratorResult
from sqlalchemy.event.api import _event_key
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

from upshift.sql.fetch_plans.changes import CASCADING, is_changed, tells_of
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


class TestChangesOfASession:
    """It notes each change in one of three containers, at the moment when it is pending."""

    @pytest.fixture
    def told(self, session):
        authors = session.scalars(select(Author)).all()
        told = []
        tells_of(session).append(lambda: told.append(len(session.identity_map._modified)))
        return session, authors, told

    def test_an_attribute_that_is_set(self, told):
        session, authors, told = told
        authors[0].id = 9
        assert told == [0]  # before it is noted
        assert session.identity_map._modified == {instance_state(authors[0])}
        assert list(session.dirty) == [authors[0]]

    def test_a_collection_that_is_changed(self, told):
        _, authors, told = told
        authors[0].posts.append(Post(id=9))
        assert told

    def test_an_object_that_is_added(self, told):
        session, _, told = told
        new = Author(id=9)
        session.add(new)
        assert told == [0]
        assert instance_state(new) in session._new
        assert list(session.new) == [new]

    def test_an_object_that_is_deleted(self, told):
        session, authors, told = told
        session.delete(authors[0])
        assert told
        assert instance_state(authors[0]) in session._deleted
        assert list(session.deleted) == [authors[0]]

    def test_flushing_and_rolling_back_keep_the_containers(self, told):
        session, authors, told = told
        before = session.identity_map._modified, session._new, session._deleted
        session.add(Author(id=9))
        session.delete(authors[1].posts[0])
        session.flush()
        session.rollback()
        assert all(
            one is other
            for one, other in zip(
                before, (session.identity_map._modified, session._new, session._deleted), strict=True
            )
        )
        assert not is_changed(session)

    @pytest.mark.parametrize("name", [each for each in CASCADING if hasattr(Session, each)])
    def test_methods_that_look_at_what_is_loaded(self, told, name):
        session, authors, told = told
        getattr(session, name)([authors[0]] if name.endswith("_all") else authors[0])
        assert told

    def test_a_session_that_is_used_again_after_it_was_closed(self, told):
        session, _, told = told
        session.close()
        tells_of(session).append(lambda: told.append("again"))
        session.add(Author(id=9))
        assert told == ["again"]


def test_an_option_that_does_not_propagate_stays_behind(session):
    option = selectinload(Author.posts)
    assert option.propagate_to_loaders
    option.propagate_to_loaders = False
    author = session.scalars(select(Author).options(option)).first()
    assert "posts" in vars(author)
    assert instance_state(author).load_options == ()
    assert instance_state(author.posts[0]).load_options == ()


def test_an_option_that_propagates_is_remembered(session):
    author = session.scalars(select(Author).options(selectinload(Author.posts))).first()
    assert len(instance_state(author).load_options) == 1
    (post,) = author.posts
    assert instance_state(post).load_path.path[1] is Author.__mapper__.relationships["posts"]


def test_a_listener_can_be_put_before_sqlalchemys_own(session):
    """Before the one by which a change of one side changes the other."""

    class Local(DeclarativeBase):
        pass

    class Whole(Local):
        __tablename__ = "whole"
        id: Mapped[int] = mapped_column(primary_key=True)
        parts = relationship("Part", back_populates="whole")

    class Part(Local):
        __tablename__ = "part"
        id: Mapped[int] = mapped_column(primary_key=True)
        whole_id: Mapped[int] = mapped_column(ForeignKey("whole.id"))
        whole = relationship("Whole", back_populates="parts")

    seen = []

    def listener(_state, whole, *_rest, **_key):
        seen.append(len(whole.obj().parts) if hasattr(whole, "obj") else len(whole.parts))
        return whole

    Local.registry.configure()
    _event_key(Part.whole, "set", listener).base_listen(insert=True)
    whole = Whole()
    Part(whole=whole)
    event.remove(Part.whole, "set", listener)
    Part(whole=whole)
    assert seen == [0]
    assert len(whole.parts) == 2


def test_an_identity_map_has_the_latest_last_and_lets_objects_out_and_in(session):
    authors = session.scalars(select(Author).order_by(Author.id)).all()
    posts = [author.posts[0] for author in authors]
    identities = session.identity_map
    assert [each.obj() for each in identities.all_states()][5:] == posts
    state = instance_state(posts[0])
    assert identities._dict.get(state.key) is state
    identities.safe_discard(state)
    assert state.key not in identities
    assert state.session_id == session.hash_key
    identities.add(state)
    assert identities.get(state.key) is posts[0]
    assert not is_changed(session)


def test_a_modified_object_is_noted_again_when_it_comes_in(session):
    author = session.scalars(select(Author)).first()
    author.id = 9
    state = instance_state(author)
    session.identity_map.safe_discard(state)
    assert not is_changed(session)
    session.identity_map.add(state)
    assert session.identity_map._modified == {state}
