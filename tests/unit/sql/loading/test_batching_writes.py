"""Whatever a session does between a batch and a read, the read gives what a lazy load then would give."""

from __future__ import annotations

import copy
import pickle
from contextlib import closing

import pytest
from sqlalchemy import ForeignKey, create_engine, delete, event, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    backref,
    foreign,
    make_transient,
    make_transient_to_detached,
    mapped_column,
    relationship,
    remote,
    selectinload,
    undefer,
)
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy.pool import StaticPool

from upshift.sql.loading.ahead import waiting_in
from upshift.sql.loading.batching import Batching


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    biography: Mapped[str | None] = mapped_column(deferred=True)
    posts: Mapped[list[Post]] = relationship(
        back_populates="author", order_by="Post.id", cascade="all, delete-orphan"
    )
    drafts: Mapped[list[Post]] = relationship(
        viewonly=True,
        order_by="Post.id",
        primaryjoin=lambda: (Author.id == Post.author_id) & Post.title.contains("draft"),
    )


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="posts")


class Folder(Base):
    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("folder.id"))
    parent: Mapped[Folder | None] = relationship(
        remote_side=[id], backref=backref("children", order_by="Folder.id")
    )


def with_savepoints(engine):
    """Have SQLAlchemy send BEGIN: the driver's own comes too late for savepoints (its documentation)."""

    @event.listens_for(engine, "connect")
    def leave_transactions_alone(connection, _record):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")

    return engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = with_savepoints(create_engine(f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/blog.db"))

    @event.listens_for(engine, "connect")
    def write_fast(connection, _record):
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA synchronous = off")

    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def refill(engine):
    with Session(engine) as session:
        for model in (Post, Author, Folder):
            session.execute(delete(model))
        session.add_all(Author(id=n, name=f"author {n}") for n in range(1, 13))
        session.flush()
        session.add_all(
            Post(id=n, title=f"{'draft' if n % 3 else 'post'} {n}", author_id=n % 12 + 1)
            for n in range(1, 37)
        )
        session.add_all(Folder(id=n, parent_id=n // 3 or None) for n in range(1, 30))
        session.commit()


AUTHORS = select(Author).order_by(Author.id)
POSTS = select(Post).order_by(Post.id)


def titles(author):
    return [post.title for post in author.posts]


def still_waiting(objects):
    return [one for one in objects if any(waiting_in(inspect(one), key) for key in inspect(one).callables)]


@pytest.fixture
def same(engine):
    """Play a scene twice, lazily and batched, each on fresh data, and compare what it saw.

    A scene loads the authors, reads the posts of the first two, and goes on from there: the posts of others
    are waiting then.
    """

    def play(scene, **session_arguments):
        seen = []
        for is_batched in (False, True):
            refill(engine)
            with closing(Batching([engine] if is_batched else [])) as batching:  # noqa: SIM117 - the session ends first
                with Session(engine, **session_arguments) as session:
                    authors = session.scalars(AUTHORS).all()
                    for author in authors[:2]:
                        _ = author.posts
                    assert bool(still_waiting(authors)) is is_batched
                    seen.append(scene(session, authors))
            assert batching.faults == 0
        assert seen[0] == seen[1]
        return seen[1]

    return play


class TestFlush:
    def test_a_new_child_is_in_the_collection(self, same):
        def scene(session, authors):
            session.add(Post(id=100, title="new", author_id=4))
            session.flush()
            return titles(authors[3])

        assert "new" in same(scene)

    def test_a_pending_child_is_flushed_by_the_read(self, same):
        def scene(session, authors):
            session.add(Post(id=100, title="new", author_id=4))
            return titles(authors[3])

        assert "new" in same(scene)

    def test_a_pending_child_is_not_flushed_without_autoflush(self, same):
        def scene(session, authors):
            with session.no_autoflush:
                session.add(Post(id=100, title="new", author_id=4))
                return titles(authors[3]), session.new != []

        assert "new" not in same(scene)[0]

    def test_a_session_without_autoflush(self, same):
        def scene(session, authors):
            session.add(Post(id=100, title="new", author_id=4))
            before = titles(authors[3])
            session.flush()
            return before, titles(authors[4])

        same(scene, autoflush=False)

    def test_a_child_that_moved(self, same):
        def scene(session, authors):
            authors[0].posts[0].author_id = 5
            return titles(authors[4]), titles(authors[5])

        same(scene)

    def test_a_child_that_moved_by_backref(self, same):
        def scene(session, authors):
            authors[0].posts[0].author = authors[4]
            return titles(authors[4]), titles(authors[5])

        same(scene)

    def test_a_child_that_moved_by_backref_without_autoflush(self, same):
        def scene(session, authors):
            with session.no_autoflush:
                authors[0].posts[0].author = authors[4]
                return titles(authors[4]), titles(authors[5])

        same(scene)

    def test_a_child_appended_before_the_collection_was_read(self, same):
        def scene(session, authors):
            with session.no_autoflush:
                Post(id=100, title="new", author=authors[4])
                return titles(authors[4])

        assert "new" in same(scene)

    def test_a_deleted_child(self, same):
        def scene(session, authors):
            session.delete(session.get(Post, 4))
            return [titles(a) for a in authors]

        same(scene)

    def test_a_deleted_parent(self, same):
        def scene(session, authors):
            session.delete(authors[4])
            session.flush()
            return session.scalars(select(Post.id).order_by(Post.id)).all(), [titles(a) for a in authors[5:]]

        same(scene)

    def test_a_cascade_that_needs_the_collection(self, same):
        def scene(session, authors):
            for author in authors[3:6]:
                session.delete(author)
            session.commit()
            return session.scalars(select(Post.id).order_by(Post.id)).all()

        same(scene)

    def test_a_replaced_collection(self, same):
        def scene(session, authors):
            authors[4].posts = [Post(id=100, title="only")]
            session.flush()
            session.expire(authors[4], ["posts"])
            return [titles(a) for a in authors], session.scalars(select(Post.id).order_by(Post.id)).all()

        same(scene)

    def test_every_read_followed_by_a_write(self, same):
        def scene(session, authors):
            for author in authors:
                author.name = f"{author.name} {len(author.posts)}"
            session.commit()
            return [a.name for a in authors]

        same(scene)

    def test_bulk_methods(self, same):
        def scene(session, authors):
            session.bulk_insert_mappings(Post, [{"id": 100, "title": "new", "author_id": 4}])
            session.bulk_save_objects([Post(id=101, title="new too", author_id=5)])
            return [titles(a) for a in authors]

        assert any("new" in posts for posts in same(scene))

    def test_a_flush_that_fails(self, same):
        def scene(session, authors):
            session.add(Post(id=1, title="again"))
            with pytest.raises(IntegrityError):
                _ = authors[4].posts
            session.rollback()
            return [titles(a) for a in authors]

        with pytest.warns(Warning, match="conflicts with persistent instance"):
            same(scene)

    def test_a_listener_that_fails_a_flush(self, engine, same):
        calls = []

        def refuse(_session, _context, _objects):
            calls.append(1)
            raise ValueError("no")

        def scene(session, authors):
            event.listen(session, "before_flush", refuse)
            session.add(Post(id=100, title="new", author_id=6))
            with pytest.raises(ValueError, match="no"):
                _ = authors[4].posts
            return calls.pop(), calls

        assert same(scene) == (1, [])

    def test_listeners_that_load_during_a_flush(self, same):
        def scene(session, authors):
            seen = []

            def look(mapper, connection, target):
                seen.append([titles(a) for a in authors[3:7]])
                for author in authors[3:7]:
                    session.expire(author, ["posts"])

            event.listen(Post, "before_insert", look)
            event.listen(Post, "after_insert", look)
            try:
                session.add_all(Post(id=100 + n, title="new", author_id=4 + n) for n in range(3))
                session.flush()
            finally:
                event.remove(Post, "before_insert", look)
                event.remove(Post, "after_insert", look)
            return seen, [titles(a) for a in authors]

        same(scene)


class TestStatements:
    @pytest.mark.parametrize(
        "statement",
        [
            insert(Post).values(id=100, title="new", author_id=5),
            insert(Post).values(id=100, title="new", author_id=5).returning(Post.id),
            insert(Post.__table__).values(id=100, title="new", author_id=5),
            update(Post).where(Post.id == 4).values(author_id=6),
            update(Post).where(Post.id == 4).values(author_id=6).execution_options(synchronize_session=False),
            delete(Post).where(Post.id == 4),
            delete(Post.__table__).where(Post.__table__.c.id == 4),
            text("UPDATE post SET author_id = 6 WHERE id = 4"),
            text("DELETE FROM post WHERE id = 4"),
        ],
        ids=str,
    )
    def test_dml(self, same, statement):
        def scene(session, authors):
            session.execute(statement)
            return [sorted(p.id for p in a.posts) for a in authors]

        same(scene)

    def test_from_statement_with_dml(self, same):
        def scene(session, authors):
            new = insert(Post).values(id=100, title="new", author_id=5).returning(Post)
            session.scalars(select(Post).from_statement(new)).all()
            return [sorted(p.id for p in a.posts) for a in authors]

        same(scene)

    def test_legacy_query_dml(self, same):
        def scene(session, authors):
            session.query(Post).filter(Post.id == 4).update({"author_id": 6})
            session.query(Post).filter(Post.id == 5).delete()
            return [sorted(p.id for p in a.posts) for a in authors]

        same(scene)

    def test_a_select_throws_nothing_away(self, same):
        def scene(session, authors):
            before = len(still_waiting(authors))
            session.scalars(select(Author.name)).all()
            return before == len(still_waiting(authors))

        assert same(scene)


class TestTransactions:
    def test_commit(self, same):
        def scene(session, authors):
            session.commit()
            assert not still_waiting(authors)
            return [titles(a) for a in authors]

        same(scene)

    def test_commit_without_expiry(self, engine, same):
        def scene(session, authors):
            session.commit()
            assert not still_waiting(authors)
            with engine.begin() as connection:
                connection.execute(insert(Post.__table__).values(id=100, title="new", author_id=5))
            return [titles(a) for a in authors]

        assert any("new" in posts for posts in same(scene, expire_on_commit=False))

    def test_rollback(self, same):
        def scene(session, authors):
            session.rollback()
            assert not still_waiting(authors)
            return [titles(a) for a in authors]

        same(scene)

    def test_rollback_of_a_write(self, same):
        def scene(session, authors):
            session.add(Post(id=100, title="new", author_id=5))
            during = [titles(a) for a in authors]
            session.rollback()
            return during, [titles(a) for a in authors]

        same(scene)

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_savepoint(self, same, end):
        def scene(session, authors):
            savepoint = session.begin_nested()
            session.execute(insert(Post).values(id=100, title="new", author_id=5))
            during = titles(authors[4]), titles(authors[5])
            getattr(savepoint, end)()
            return during, [titles(a) for a in authors]

        same(scene)

    def test_values_of_a_savepoint_do_not_outlive_its_rollback(self, same):
        def scene(session, authors):
            savepoint = session.begin_nested()
            session.execute(insert(Post).values(id=100, title="new", author_id=9))
            during = [titles(a) for a in authors[2:5]]
            savepoint.rollback()
            return during, [titles(a) for a in authors]

        same(scene)

    def test_batches_after_a_commit_and_a_new_query(self, engine, batching, statements):
        refill(engine)
        with Session(engine) as session:
            for _ in range(3):
                authors = session.scalars(AUTHORS).all()
                with statements(engine) as sent:
                    for author in authors:
                        _ = author.posts
                session.commit()
        assert len(sent) == 1

    def test_a_session_used_again_after_close(self, same):
        def scene(session, authors):
            session.close()
            authors = session.scalars(AUTHORS).all()
            return [titles(a) for a in authors]

        same(scene)


class TestObjects:
    def test_expired_attribute(self, same):
        def scene(session, authors):
            session.expire(authors[4], ["posts"])
            assert authors[4] not in still_waiting(authors)
            session.connection().execute(insert(Post.__table__).values(id=100, title="new", author_id=5))
            return titles(authors[4])

        assert "new" in same(scene)

    def test_expired_object(self, same):
        def scene(session, authors):
            session.expire(authors[4])
            assert authors[4] not in still_waiting(authors)
            return titles(authors[4])

        same(scene)

    def test_expire_all(self, same):
        def scene(session, authors):
            session.expire_all()
            assert not still_waiting(authors)
            return [titles(a) for a in authors]

        same(scene)

    @pytest.mark.parametrize("names", [None, ["posts"], ["name"], ["name", "posts"]])
    def test_refresh(self, same, names):
        def scene(session, authors):
            session.connection().execute(insert(Post.__table__).values(id=100, title="new", author_id=5))
            session.refresh(authors[4], names)
            return ("posts" in authors[4].__dict__, "posts" in (names or ())) and (
                titles(authors[4]) if names is None or "posts" in names else None
            )

        same(scene)

    @pytest.mark.parametrize("again", [Session.refresh, Session.expire])
    def test_a_foreign_key_that_was_loaded_again(self, engine, again):
        seen = []
        for is_batched in (False, True):
            refill(engine)
            with closing(Batching([engine] if is_batched else [])), Session(engine) as session:
                posts = session.scalars(select(Post).order_by(Post.id)).all()
                assert [post.author.name for post in posts[:2]] == ["author 2", "author 3"]
                session.connection().execute(
                    update(Post.__table__).values(author_id=11).where(Post.__table__.c.id == 3)
                )
                again(session, posts[2], ["author_id"])
                seen.append([post.author.name for post in posts])

        assert seen[0] == seen[1]
        assert seen[1][2] == "author 11"

    def test_a_value_does_not_come_back_when_an_attribute_is_expired_again(self, same):
        def scene(session, authors):
            session.scalars(AUTHORS.options(selectinload(Author.posts))).all()
            session.connection().execute(insert(Post.__table__).values(id=100, title="new", author_id=5))
            session.expire(authors[4], ["posts"])
            return titles(authors[4])

        assert "new" in same(scene)

    def test_modified_parent(self, same):
        def scene(session, authors):
            authors[4].name = "changed"
            return [titles(a) for a in authors]

        same(scene)

    def test_modified_parent_without_autoflush(self, same):
        def scene(session, authors):
            with session.no_autoflush:
                authors[4].name = "changed"
                return [titles(a) for a in authors]

        same(scene)

    def test_changed_foreign_key(self, same):
        def scene(session, authors):
            folders = session.scalars(select(Folder).order_by(Folder.id)).all()
            seen = [f.parent and f.parent.id for f in folders[:5]]
            folders[20].parent_id = 2
            folders[21].parent = folders[1]
            folders[22].parent_id = None
            folders[23].parent_id = 999
            with session.no_autoflush:
                return seen, [f.parent and f.parent.id for f in folders]

        same(scene)

    def test_expunged_parent(self, same):
        def scene(session, authors):
            session.expunge(authors[4])
            with pytest.raises(DetachedInstanceError) as caught:
                _ = authors[4].posts
            return str(caught.value).split(" at ")[0]

        same(scene)

    def test_expunged_child(self, same):
        """An eager value would be detached as well; a lazy load brings a fresh object."""

        def scene(session, authors):
            post = session.get(Post, 4)
            session.expunge(post)
            return [session.is_modified(p) or p in session for p in authors[4].posts], post in authors[
                4
            ].posts

        assert same(scene)[1] is False

    def test_closed_session(self, same):
        def scene(session, authors):
            session.close()
            assert not still_waiting(authors)
            with pytest.raises(DetachedInstanceError):
                _ = authors[4].posts

        same(scene)

    def test_expunge_all_and_add_again(self, same):
        def scene(session, authors):
            session.expunge_all()
            session.add(authors[4])
            return titles(authors[4]), all(post in session for post in authors[4].posts)

        assert same(scene)[1] is True

    def test_object_moved_to_another_session(self, engine, same):
        def scene(session, authors):
            session.expunge(authors[4])
            with Session(engine) as other:
                other.add(authors[4])
                return titles(authors[4]), all(post in other for post in authors[4].posts)

        assert same(scene)[1] is True

    def test_merge_into_another_session_without_loading(self, engine, same):
        def scene(session, authors):
            with Session(engine) as other:
                merged = other.merge(authors[4], load=False)
                return titles(merged), all(post in other for post in merged.posts), titles(authors[4])

        assert same(scene)[1] is True

    def test_merge_into_another_session(self, engine, same):
        def scene(session, authors):
            with Session(engine) as other:
                merged = other.merge(authors[4])
                return titles(merged), all(post in other for post in merged.posts), titles(authors[4])

        same(scene)

    def test_merge_onto_an_object_with_a_value_that_waits(self, same):
        def scene(session, authors):
            session.merge(Author(id=5, name="merged", posts=[Post(id=4, title="merged")]))
            session.flush()
            return [(a.name, titles(a)) for a in authors]

        same(scene)

    def test_transient_and_pending_objects(self, same):
        def scene(session, authors):
            transient, pending = Author(id=100, name="transient"), Author(id=101, name="pending")
            session.add(pending)
            before = transient.posts, pending.posts
            session.flush()
            return before, pending.posts, Post(id=102, title="x", author_id=5).author

        same(scene)

    def test_pending_object_with_a_foreign_key(self, same):
        def scene(session, authors):
            post = Post(id=100, title="new", author_id=5)
            session.add(post)
            with session.no_autoflush:
                before = post.author
            session.flush()
            session.expire(post, ["author"])
            return before, post.author is authors[4]

        same(scene)

    def test_make_transient(self, same):
        def scene(session, authors):
            session.expunge(authors[4])
            make_transient(authors[4])
            before = authors[4].posts
            session.expunge(authors[5])
            make_transient(authors[5])
            make_transient_to_detached(authors[5])
            session.add(authors[5])
            return before, titles(authors[5])

        same(scene)


class TestCopies:
    def test_a_pickle_holds_nothing_of_ours(self, same):
        def scene(session, authors):
            pickled = pickle.dumps(authors[4])
            assert b"upshift" not in pickled
            twin = pickle.loads(pickled)
            with pytest.raises(DetachedInstanceError):
                _ = twin.posts
            session.expunge(authors[4])
            session.add(twin)
            return titles(twin), titles(authors[5])

        same(scene)

    def test_pickling_takes_nothing_away(self, same):
        def scene(session, authors):
            before = len(still_waiting(authors))
            pickle.dumps(authors)
            return before == len(still_waiting(authors))

        assert same(scene)

    def test_a_deep_copy(self, same):
        def scene(session, authors):
            twin = copy.deepcopy(authors[4])
            with pytest.raises(DetachedInstanceError):
                _ = twin.posts
            return titles(authors[4])

        same(scene)

    def test_a_loader_of_the_applications_own_is_pickled(self, engine, batching):
        refill(engine)
        with Session(engine) as session:
            author = session.scalars(AUTHORS.options(undefer(Author.biography))).first()
            twin = pickle.loads(pickle.dumps(author))
            assert (twin.name, twin.biography) == ("author 1", None)


class TestHistory:
    def test_histories_of_unread_attributes(self, same):
        def scene(session, authors):
            state = inspect(authors[4])
            return (
                state.attrs.posts.history.unchanged,
                [p.id for p in state.attrs.posts.load_history().unchanged],
                session.is_modified(authors[4]),
                "posts" in state.unloaded,
            )

        same(scene)

    def test_setting_an_unread_attribute_finds_the_old_value(self, same):
        def scene(session, authors):
            authors[4].posts = []
            session.flush()
            return session.scalars(select(Post.id).order_by(Post.id)).all()

        same(scene)

    def test_setting_an_unread_many_to_one(self, same):
        def scene(session, authors):
            folders = session.scalars(select(Folder).order_by(Folder.id)).all()
            _ = [f.parent for f in folders[:5]]
            folders[20].parent = folders[3]
            history = inspect(folders[20]).attrs.parent.history
            session.flush()
            return len(history.added), [[c.id for c in f.children] for f in folders]

        same(scene)


class TestWhatDmlChangedBehindTheSession:
    """A lazy load asks by the columns as the object has them, not by those of its row."""

    @pytest.fixture
    def seats(self):
        class Local(DeclarativeBase):
            pass

        class Seat(Local):
            __tablename__ = "seat"
            id: Mapped[int] = mapped_column(primary_key=True)
            row: Mapped[int]
            neighbours: Mapped[list[Seat]] = relationship(
                primaryjoin=lambda: foreign(Seat.row) == remote(Seat.row),
                viewonly=True,
                uselist=True,
                order_by=lambda: remote(Seat.id),
            )

        engine = with_savepoints(create_engine("sqlite://", poolclass=StaticPool))
        Local.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(Seat), [{"id": n, "row": n % 3} for n in range(1, 31)])
        yield engine, Seat
        engine.dispose()

    def walk(self, engine, seat, *, reads_before, savepoint):
        moved = update(seat.__table__).where(seat.id.in_([7, 20])).values(row=0)
        with Session(engine) as session:
            seats = session.scalars(select(seat).order_by(seat.id)).all() if not savepoint else []
            seen = [[one.id for one in each.neighbours] for each in seats[:reads_before]]
            with session.begin_nested() as nested:
                session.execute(moved)
                if savepoint:
                    seats = session.scalars(select(seat).order_by(seat.id)).all()
                    nested.rollback()
            return seen + [[one.id for one in each.neighbours] for each in seats]

    @pytest.mark.parametrize("savepoint", [False, True])
    @pytest.mark.parametrize("reads_before", [0, 3])
    def test_a_sibling_asks_by_the_columns_that_it_has(self, seats, reads_before, savepoint):
        engine, seat = seats
        lazy = self.walk(engine, seat, reads_before=reads_before, savepoint=savepoint)
        with closing(Batching([engine])) as batching:
            for _ in range(2):
                assert self.walk(engine, seat, reads_before=reads_before, savepoint=savepoint) == lazy
            assert batching.faults == 0

    def test_what_was_loaded_since_is_batched(self, seats, statements):
        engine, seat = seats
        with closing(Batching([engine])), Session(engine) as session, statements(engine) as sent:
            session.execute(update(seat.__table__).values(row=1))
            for each in session.scalars(select(seat).order_by(seat.id)):
                assert len(each.neighbours) == 30
        assert len(sent) < 7
