"""Installing, uninstalling, several at once, faults, threads and memory."""

from __future__ import annotations

import gc
import logging
import threading
import warnings
import weakref
from contextlib import closing

import pytest
import sqlalchemy
from sqlalchemy import ForeignKey, create_engine, event, inspect, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy.pool import StaticPool

from upshift.sql.loading import preload
from upshift.sql.loading.ahead import waiting_in
from upshift.sql.loading.batching import Batching
from upshift.sql.loading.installing import UncoveredSQLAlchemyWarning
from upshift.sql.loading.preload import MAX_WALKS


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    posts: Mapped[list[Post]] = relationship(back_populates="author", order_by="Post.id")


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="posts")


AUTHORS = select(Author).order_by(Author.id)
LAZY, LEARNING = 21, 4  # statements of a whole walk


def make_engine(url="sqlite://", **arguments):
    engine = create_engine(url, **arguments)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Author(id=n) for n in range(1, 21))
        session.flush()
        session.add_all(Post(id=n, author_id=n % 20 + 1) for n in range(1, 61))
        session.commit()
    return engine


@pytest.fixture
def engine():
    engine = make_engine(poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield engine
    engine.dispose()


@pytest.fixture
def other_engine():
    engine = make_engine(poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield engine
    engine.dispose()


@pytest.fixture
def walk(statements):
    """Read all posts of all authors; return the number of statements it took."""

    def walk(engine, session_class=Session):
        with statements(engine) as sent, session_class(engine) as session:
            authors = session.scalars(AUTHORS).all()
            assert [[p.id for p in a.posts] for a in authors] == [
                [20, 40, 60],
                *([n, n + 20, n + 40] for n in range(1, 20)),
            ]
        return len(sent)

    return walk


class TestInstalling:
    def test_engines_that_were_not_given_stay_lazy(self, engine, other_engine, walk):
        with closing(Batching([engine])):
            assert walk(engine) == LEARNING
            assert walk(other_engine) == LAZY

    def test_an_engine_that_takes_the_place_of_a_dead_one_stays_lazy(self, walk):
        """Identities of objects are used again once the objects are gone."""
        with closing(Batching([create_engine("sqlite://")])):
            gc.collect()
            for _ in range(20):
                engine = make_engine(poolclass=StaticPool)
                assert walk(engine) == LAZY
                engine.dispose()

    def test_copies_of_an_engine_with_other_options_are_served(self, engine, walk):
        with closing(Batching([engine])):
            assert walk(engine.execution_options(isolation_level="SERIALIZABLE")) == LEARNING

    def test_sessions_bound_to_a_connection_are_served(self, engine, walk):
        with closing(Batching([engine])), engine.connect() as connection:
            assert walk(connection) == LEARNING

    def test_session_classes_made_later_are_served(self, engine, walk):
        with closing(Batching([engine])):
            assert walk(engine, type("Mine", (Session,), {})) == LEARNING

    def test_sessions_with_a_bind_for_each_class(self, engine, other_engine):
        with (
            closing(Batching([engine])) as batching,
            Session(binds={Author: engine, Post: engine}) as session,
        ):
            assert len([a.posts for a in session.scalars(AUTHORS)]) == 20
        assert batching.faults == 0

    def test_two_of_them_on_two_engines(self, engine, other_engine, walk):
        one, other = Batching([engine]), Batching([other_engine])
        assert (walk(engine), walk(other_engine)) == (LEARNING, LEARNING)
        one.close()
        assert (walk(engine), walk(other_engine)) == (LAZY, 2)
        other.close()
        assert (walk(engine), walk(other_engine)) == (LAZY, LAZY)

    def test_two_of_them_on_one_engine(self, engine, walk):
        one, other = Batching([engine]), Batching([engine])
        assert walk(engine) <= LEARNING
        one.close()
        assert walk(engine) <= LEARNING
        other.close()
        assert (one.faults, other.faults) == (0, 0)

    def test_what_one_of_two_threw_away_the_other_forgets_too(self, engine):
        """Each has listeners of its own: closing one takes none of the other's."""
        one, other = Batching([engine]), Batching([engine])
        one.close()
        with closing(other), Session(engine) as session:
            authors = session.scalars(AUTHORS).all()
            _ = authors[0].posts, authors[1].posts
            assert waits_in(authors[4])
            session.expire(authors[4], ["posts"])
            assert not waits_in(authors[4])

    def test_without_engines_it_serves_nobody(self, engine, walk):
        with closing(Batching([])):
            assert walk(engine) == LAZY


class TestClosing:
    def test_loads_are_lazy_again(self, engine, walk):
        batching = Batching([engine])
        walk(engine)
        batching.close()
        assert not batching.active
        assert walk(engine) == LAZY

    def test_values_that_wait_are_thrown_away(self, engine, statements):
        batching = Batching([engine])
        with Session(engine) as session:
            authors = session.scalars(AUTHORS).all()
            _ = authors[0].posts, authors[1].posts
            assert waits_in(authors[4])
            batching.close()
            assert not any(map(waits_in, authors))
            with statements(engine) as sent:
                assert [p.id for p in authors[4].posts] == [4, 24, 44]
            assert len(sent) == 1

    def test_no_listener_is_left(self, engine):
        def listeners():
            names = ("do_orm_execute", "before_flush", "after_transaction_end")
            return [len(list(getattr(Session().dispatch, name))) for name in names] + [
                len(list(getattr(Author.__mapper__.class_manager.dispatch, name)))
                for name in ("expire", "pickle")
            ]

        before = listeners()
        batching = Batching([engine])
        assert listeners() == [count + 1 for count in before]
        batching.close()
        assert listeners() == before

    def test_twice_does_nothing_more(self, engine):
        batching = Batching([engine])
        batching.close()
        batching.close()

    def test_it_can_be_collected(self, engine, walk):
        batching = Batching([engine])
        walk(engine)
        batching.close()
        gone = weakref.ref(batching)
        del batching
        gc.collect()
        assert gone() is None


class TestVersions:
    @pytest.mark.parametrize("version", ["2.2.0", "3.0.0b1", "1.4.54"])
    def test_an_uncovered_version_stays_lazy_with_one_warning(self, engine, walk, monkeypatch, version):
        monkeypatch.setattr(sqlalchemy, "__version__", version)
        with pytest.warns(UncoveredSQLAlchemyWarning, match=version) as caught:
            batching = Batching([engine])
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert not batching.active
        assert walk(engine) == LAZY
        batching.close()

    def test_a_covered_version_gives_no_warning(self, engine):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Batching([engine]).close()


class TestFaults:
    def test_a_fault_of_ours_leaves_the_load_lazy(self, engine, walk, monkeypatch, caplog):
        def break_(*_args, **_kwargs):
            raise ZeroDivisionError("ours")

        monkeypatch.setattr(preload, "load_related", break_)
        with closing(Batching([engine])) as batching, caplog.at_level(logging.DEBUG):
            assert walk(engine) == LAZY
        assert batching.faults == 19
        assert [record.name for record in caplog.records] == ["upshift.sql"]
        assert "ZeroDivisionError: ours" in caplog.text

    def test_so_does_one_while_the_batch_is_chosen(self, engine, walk, monkeypatch):
        monkeypatch.setattr(preload, "instance_dict", None)
        with closing(Batching([engine])) as batching:
            assert walk(engine) == LAZY
        assert batching.faults > 0

    def test_an_error_of_the_database_is_the_applications(self, engine, caplog):
        with closing(Batching([engine])) as batching, Session(engine) as session:
            authors = session.scalars(AUTHORS).all()
            _ = authors[0].posts
            session.connection().exec_driver_sql("DROP TABLE post")
            with pytest.raises(OperationalError, match="no such table"):
                _ = authors[1].posts
        assert batching.faults == 0
        assert not caplog.records

    def test_an_interrupt_is_passed_on(self, engine, monkeypatch):
        def interrupt(*_args, **_kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(preload, "load_related", interrupt)
        with closing(Batching([engine])), Session(engine) as session:
            authors = session.scalars(AUTHORS).all()
            _ = authors[0].posts
            with pytest.raises(KeyboardInterrupt):
                _ = authors[1].posts

    def test_a_disconnect_is_the_applications(self, engine):
        with closing(Batching([engine])) as batching, Session(engine) as session:
            authors = session.scalars(AUTHORS).all()
            _ = authors[0].posts
            session.connection().connection.driver_connection.close()
            with pytest.raises(DBAPIError):
                _ = authors[1].posts
            session.invalidate()
        assert batching.faults == 0


class TestReentrancy:
    def test_a_listener_that_loads_lazily_within_a_load(self, engine, walk):
        seen = []

        def read_author(post, _context):
            seen.append(len(post.author.posts) if "posts" in post.author.__dict__ else post.author.id)

        event.listen(Post, "load", read_author, restore_load_context=True)
        try:
            with closing(Batching([engine])) as batching:
                for _ in range(3):
                    walk(engine)
        finally:
            event.remove(Post, "load", read_author)
        assert len(seen) == 180
        assert batching.faults == 0

    def test_a_listener_that_writes_within_a_load(self, engine):
        """What was fetched before the write does not wait beyond it."""
        done = []

        def write(post, context):
            if post.id == 3 and not done:
                done.append(context.session.execute(Post.__table__.insert().values(id=100, author_id=8)))

        event.listen(Post, "load", write, restore_load_context=True)
        try:
            with closing(Batching([engine])), Session(engine) as session:
                authors = session.scalars(AUTHORS).all()
                for author in authors[:2]:
                    _ = author.posts
                assert done
                assert [p.id for p in authors[7].posts] == [7, 27, 47, 100]
        finally:
            event.remove(Post, "load", write)


class TestMemory:
    def test_nothing_waits_when_the_session_is_gone(self, engine):
        with closing(Batching([engine])):
            with Session(engine) as session:
                authors = session.scalars(AUTHORS).all()
                _ = authors[0].posts, authors[1].posts
                assert any(map(waits_in, authors))
            assert not any(map(waits_in, authors))

    def test_a_session_that_nobody_closed_gives_no_more_values(self, engine):
        def load():
            session = Session(engine)
            authors = session.scalars(AUTHORS).all()
            _ = authors[0].posts, authors[1].posts
            return authors

        with closing(Batching([engine])):
            authors = load()
            gc.collect()
            with pytest.raises(DetachedInstanceError):
                _ = authors[4].posts

    def test_sessions_and_objects_are_collected(self, engine):
        with closing(Batching([engine])) as batching:
            session = Session(engine)
            authors = session.scalars(AUTHORS).all()
            _ = authors[0].posts, authors[1].posts
            gone = [weakref.ref(one) for one in (session, authors[4], inspect(authors[4]))]
            del session, authors
            gc.collect()  # the session, and with it what is known of it
            gc.collect()  # what that was
            assert [ref() for ref in gone] == [None, None, None]
            assert len(batching._sessions) == 0

    def test_a_long_stream_keeps_nothing(self, engine, other_engine):
        """Objects that were read, or that nobody holds any more, leave nothing in the session's walks."""
        with engine.begin() as connection:
            connection.execute(Author.__table__.insert(), [{"id": n} for n in range(100, 5_100)])
        stream = AUTHORS.execution_options(yield_per=100)
        with closing(Batching([engine])) as batching, Session(engine) as session:
            for number, author in enumerate(session.scalars(stream)):
                if number % 10 == 0:
                    _ = author.posts
                if number == 4_900:
                    gc.collect()
                    (loads,) = batching._sessions.values()
                    assert sum(len(walk._values) + len(walk.mates) for walk in loads._walks.values()) <= 1_300
                    assert sum(isinstance(one, Author) for one in gc.get_objects()) <= 200

    def test_walks_are_bounded(self, engine):
        with closing(Batching([engine])) as batching, Session(engine) as session:
            for _ in range(MAX_WALKS + 50):
                author = session.get(Author, 1)
                _ = author.posts
                session.expunge_all()
            (loads,) = batching._sessions.values()
            assert len(loads._walks) == MAX_WALKS

    def test_values_of_an_evicted_walk_are_thrown_away(self, engine, monkeypatch):
        monkeypatch.setattr(preload, "MAX_WALKS", 1)
        with closing(Batching([engine])), Session(engine) as session:
            authors = session.scalars(AUTHORS).all()
            _ = authors[0].posts, authors[1].posts
            assert waits_in(authors[4])
            _ = session.get(Post, 60, populate_existing=True).author
            posts = session.scalars(select(Post).where(Post.author_id > 15)).all()
            _ = [post.author for post in posts], session.get(Author, 20).posts
            assert [p.id for p in authors[4].posts] == [4, 24, 44]


class TestThreads:
    def test_each_with_a_session_of_its_own(self, tmp_path):
        engine = make_engine(f"sqlite:///{tmp_path}/threads.db")
        failures = []

        def work():
            try:
                for _ in range(5):
                    with Session(engine) as session:
                        authors = session.scalars(AUTHORS).all()
                        assert [len(a.posts) for a in authors] == [3] * 20
                        assert all(p.author is a for a in authors for p in a.posts)
            except BaseException as error:  # noqa: BLE001 - told by the main thread
                failures.append(error)

        with closing(Batching([engine])) as batching:
            threads = [threading.Thread(target=work) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        engine.dispose()
        assert failures == []
        assert batching.faults == 0

    def test_a_session_handed_from_thread_to_thread(self, engine):
        seen = []
        with closing(Batching([engine])), Session(engine) as session:
            authors = session.scalars(AUTHORS).all()
            for author in authors:
                thread = threading.Thread(target=lambda a=author: seen.append(len(a.posts)))
                thread.start()
                thread.join()
        assert seen == [3] * 20


class TestMapping:
    def test_classes_mapped_later_are_served(self, engine):
        with closing(Batching([engine])), Session(engine) as session:

            class Later(Base):
                __table__ = Author.__table__
                posts: Mapped[list[Post]] = relationship(viewonly=True, order_by="Post.id")

            later = session.scalars(select(Later).order_by(Later.id)).all()
            _ = later[0].posts, later[1].posts
            assert waits_in(later[4])
            session.expire(later[4], ["posts"])
            assert not waits_in(later[4])


def waits_in(one):
    return any(waiting_in(inspect(one), key) for key in inspect(one).callables)
