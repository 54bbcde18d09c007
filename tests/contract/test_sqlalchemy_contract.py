"""What Upshift takes from SQLAlchemy beyond its public API, one test for each thing.

It runs on the oldest and on the newest supported version (`make contract`). A failure names what a release
has changed, and the module that has to follow; until then `is_covered` in
`upshift.sql.loading.selectin` keeps batching off.
"""

from __future__ import annotations

import inspect as python_inspect
import sys
from types import SimpleNamespace

import pytest
from sqlalchemy import ForeignKey, create_engine, event, insert, inspect, select
from sqlalchemy.engine import cursor as sa_cursor
from sqlalchemy.engine.default import DefaultDialect, DefaultExecutionContext
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Mapper,
    Session,
    immediateload,
    joinedload,
    mapped_column,
    query_expression,
    relationship,
    selectinload,
    strategies,
)
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.orm.base import PASSIVE_NO_RESULT, PASSIVE_OFF
from sqlalchemy.orm.context import FromStatement, QueryContext
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.orm.state import InstanceState
from sqlalchemy.pool import StaticPool
from sqlalchemy.util import await_only, greenlet_spawn, immutabledict
from sqlalchemy.util.concurrency import in_greenlet

from upshift.sql.loading.claim import NAMES
from upshift.sql.loading.selectin import is_covered, result_of


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    posts: Mapped[list[Post]] = relationship(back_populates="author", order_by="Post.id")
    post_count: Mapped[int | None] = query_expression()


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="posts")


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Author), [{"id": n} for n in (1, 2, 3)])
        connection.execute(insert(Post), [{"id": n, "author_id": n % 2 + 1} for n in range(1, 7)])
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine):
    with Session(engine) as session:
        yield session


def parameters(function):
    return tuple(python_inspect.signature(function).parameters)


def test_batching_knows_this_version():
    assert is_covered()


class TestCapture:
    @pytest.mark.parametrize(
        ("name", "positions"),
        [
            ("do_execute", ("self", "cursor", "statement", "parameters", "context")),
            ("do_executemany", ("self", "cursor", "statement", "parameters", "context")),
            ("do_execute_no_params", ("self", "cursor", "statement", "context")),
        ],
    )
    def test_the_dialects_execute_calls_have_these_parameters(self, name, positions):
        assert parameters(getattr(DefaultDialect, name)) == positions

    @pytest.mark.parametrize("name", ["do_execute", "do_executemany", "do_execute_no_params"])
    def test_they_are_looked_up_on_the_dialect_at_each_execution_and_called_by_position(self, engine, name):
        called = []
        method = getattr(engine.dialect, name)

        def wrapper(*arguments):
            called.append(arguments)
            method(*arguments)

        setattr(engine.dialect, name, wrapper)
        with engine.begin() as connection:
            if name == "do_executemany":
                connection.execute(insert(Author), [{"id": 8}, {"id": 9}])
            elif name == "do_execute":
                connection.execute(select(Author.id)).all()
            else:
                connection.execution_options(no_parameters=True).exec_driver_sql("SELECT 1").all()
        ((cursor, sql, *rest),) = called
        assert hasattr(cursor, "description")
        assert isinstance(sql, str)
        assert isinstance(rest[-1], DefaultExecutionContext)
        assert len(rest) == (1 if name == "do_execute_no_params" else 2)

    def test_two_frames_of_sqlalchemy_lie_between_the_dialect_and_the_connections_method(self, engine):
        frames = []
        execute = engine.dialect.do_execute

        def wrapper(cursor, statement, arguments, context):
            frame = sys._getframe(1)
            while frame.f_code.co_filename != __file__:
                frames.append(frame.f_code.co_name)
                frame = frame.f_back
            execute(cursor, statement, arguments, context)

        engine.dialect.do_execute = wrapper
        with engine.connect() as connection:
            connection.execute(select(Author.id)).all()
        assert frames[:2] == ["_exec_single_context", "_execute_context"]

    def test_a_dialects_first_connection_has_no_autobegin(self):
        seen = []

        class Note:
            def __call__(self, connection):
                seen.append(connection._allow_autobegin)

        engine = create_engine("sqlite://")
        engine.dialect.initialize = Note()
        with engine.connect() as connection:
            seen.append(connection._allow_autobegin)
            context = connection.execute(select(1)).context
            assert context.root_connection is connection
        engine.dispose()
        assert seen == [False, True]

    def test_the_default_fetch_strategy_has_no_state_and_can_be_a_base_beside_another(self):
        class Statement:
            __slots__ = ("rows",)

        class Sent(Statement, sa_cursor.CursorFetchStrategy):
            __slots__ = ()

        assert not hasattr(Sent(), "__dict__")
        assert type(sa_cursor._DEFAULT_FETCH) is sa_cursor.CursorFetchStrategy

    def test_a_fetch_strategy_has_these_methods(self):
        strategy = sa_cursor.ResultFetchStrategy
        assert parameters(strategy.fetchall) == ("self", "result", "dbapi_cursor")
        assert parameters(strategy.fetchmany) == ("self", "result", "dbapi_cursor", "size")
        assert parameters(strategy.fetchone) == ("self", "result", "dbapi_cursor", "hard_close")
        assert parameters(strategy.yield_per) == ("self", "result", "dbapi_cursor", "num")
        assert parameters(strategy.soft_close) == ("self", "result", "dbapi_cursor")
        assert parameters(strategy.hard_close) == ("self", "result", "dbapi_cursor")
        assert parameters(strategy.handle_exception) == ("self", "result", "dbapi_cursor", "err")
        assert strategy.alternate_cursor_description is None
        public = {name for name in dir(strategy) if not name.startswith("_")}
        assert public == {
            "alternate_cursor_description",
            "fetchall",
            "fetchmany",
            "fetchone",
            "handle_exception",
            "hard_close",
            "soft_close",
            "yield_per",
        }

    def test_an_execution_has_the_default_strategy_until_somebody_sets_another(self):
        assert DefaultExecutionContext.cursor_fetch_strategy is sa_cursor._DEFAULT_FETCH
        assert DefaultExecutionContext._is_server_side is False

    def test_a_result_reads_through_the_strategy_of_its_execution(self, engine):
        class Noting(sa_cursor.CursorFetchStrategy):
            seen = 0

            def fetchall(self, result, dbapi_cursor):
                self.seen += 1
                return super().fetchall(result, dbapi_cursor)

        strategy = Noting()
        execute = engine.dialect.do_execute

        def wrapper(cursor, statement, arguments, context):
            execute(cursor, statement, arguments, context)
            context.cursor_fetch_strategy = strategy

        engine.dialect.do_execute = wrapper
        with engine.connect() as connection:
            result = connection.execute(select(Author.id))
            assert result.cursor_strategy is strategy
            assert len(result.all()) == 3
        assert strategy.seen == 1

    def test_the_buffered_strategy_takes_the_cursor_and_the_execution_options(self):
        positions = parameters(sa_cursor.BufferedRowCursorFetchStrategy.__init__)
        assert positions[:3] == ("self", "dbapi_cursor", "execution_options")

    def test_a_loaders_statement_tells_its_path_and_the_object_it_is_for(self, engine, session):
        contexts = []
        event.listen(engine, "after_cursor_execute", lambda *arguments: contexts.append(arguments[4]))
        author = session.get(Author, 1)
        assert author.posts
        _, lazy = contexts
        assert lazy.execution_options["_sa_orm_load_options"]._lazy_loaded_from is inspect(author)
        assert lazy.invoked_statement._compile_options._current_path.prop is Author.posts.property

    def test_an_eager_loaders_statement_tells_its_path_and_no_object(self, engine, session):
        contexts = []
        event.listen(engine, "after_cursor_execute", lambda *arguments: contexts.append(arguments[4]))
        session.scalars(select(Author).options(selectinload(Author.posts))).all()
        _, eager = contexts
        assert eager.execution_options["_sa_orm_load_options"]._lazy_loaded_from is None
        assert eager.invoked_statement._compile_options._current_path.prop is Author.posts.property

    def test_a_load_by_key_has_the_mappers_parameter_and_its_class(self, engine, session):
        contexts = []
        event.listen(engine, "after_cursor_execute", lambda *arguments: contexts.append(arguments[4]))
        session.get(Author, 1)
        session.scalars(select(Author).where(Author.id == 1)).all()
        get, query = contexts
        assert "pk_1" in get.compiled_parameters[0]
        assert get.invoked_statement._propagate_attrs["plugin_subject"] is inspect(Author)
        assert "pk_1" not in query.compiled_parameters[0]

    def test_a_compiled_query_tells_the_collections_that_it_joins_and_its_columns(self, engine, session):
        contexts = []
        event.listen(engine, "after_cursor_execute", lambda *arguments: contexts.append(arguments[4]))
        session.scalars(select(Author).options(joinedload(Author.posts))).unique().all()
        session.scalars(select(Author)).all()
        joined, plain = (context.compiled for context in contexts)
        assert joined.compile_state.multi_row_eager_loaders is True
        assert plain.compile_state.multi_row_eager_loaders is False
        (path,) = (key[1] for key in joined.compile_state.attributes if key[0] == "eager_row_processor")
        assert path == (inspect(Author), Author.posts.property)
        keys = [
            any(getattr(each, "primary_key", False) for each in column.objects)
            for column in joined._result_columns
        ]
        assert keys == [True, True, False]

    def test_a_reload_tells_the_object_and_why(self, engine, session):
        options = []
        event.listen(
            engine,
            "after_cursor_execute",
            lambda *arguments: options.append(arguments[4].execution_options["_sa_orm_load_options"]),
        )
        expired = []
        author = session.get(Author, 1)
        event.listen(engine, "before_cursor_execute", lambda *_: expired.append(inspect(author).expired))
        session.commit()
        assert author.id == 1
        session.refresh(author)
        (_, reload, refresh) = options
        assert options[0]._refresh_state is None
        assert reload._refresh_state is refresh._refresh_state is inspect(author)
        assert (reload._is_user_refresh, refresh._is_user_refresh) == (False, True)
        assert expired == [True, True]

    def test_a_query_is_told_from_loaders_by_its_options_or_by_its_path(self, engine, session):
        contexts = []
        event.listen(engine, "after_cursor_execute", lambda *arguments: contexts.append(arguments[4]))
        author = session.get(Author, 1)
        session.refresh(author)
        session.scalars(select(Author)).all()
        assert len(contexts) == 3
        for context in contexts:
            if "_sa_orm_load_options" in context.execution_options:
                assert not context.invoked_statement._compile_options._current_path


class TestState:
    def test_objects_of_one_result_share_a_number_and_others_do_not(self, session):
        first = session.scalars(select(Author)).all()
        second = session.scalars(select(Post)).all()
        runs = [{inspect(one).runid for one in objects} for objects in (first, second)]
        assert [len(run) for run in runs] == [1, 1]
        assert runs[0] != runs[1]
        assert None not in runs[0] | runs[1]

    def test_objects_of_one_result_share_options_and_path(self, session):
        one, other, *_ = map(inspect, session.scalars(select(Author)).all())
        assert one.load_options is other.load_options
        assert one.load_path == other.load_path
        assert one.load_path.path == (inspect(Author),)

    def test_a_new_object_belongs_to_no_result(self):
        state = inspect(Author(id=7))
        assert (state.runid, state.key, state.session_id) == (None, None, None)

    def test_a_key_has_the_shard_third(self, session):
        assert inspect(session.get(Author, 1)).key == (Author, (1,), None)

    def test_loaders_of_single_attributes_are_none_at_first_and_nobodys(self, session):
        assert inspect(session.get(Author, 1)).callables == immutabledict()

    def test_a_loader_of_a_single_attribute_is_called_by_the_first_read(self, session):
        author = session.get(Author, 1)
        state = inspect(author)
        calls = []

        def loader(asking, passive):
            calls.append((asking, passive))
            del asking.callables["posts"]
            return []

        state.callables = {"posts": loader}
        assert author.posts == author.posts == []
        assert calls == [(state, PASSIVE_OFF)]

    def test_a_loader_may_leave_it_to_the_lazy_one(self, session):
        author = session.get(Author, 1)
        state = inspect(author)
        lazy = state.manager["posts"].impl.callable_
        state.callables = {"posts": lazy}
        assert [post.id for post in author.posts] == [2, 4, 6]

    def test_expiring_an_object_takes_its_loaders_and_expiring_an_attribute_does_not_have_to(self, session):
        author = session.get(Author, 1)
        inspect(author).callables = {"posts": lambda *_: []}
        session.expire(author)
        assert "posts" not in inspect(author).callables

    def test_states_know_their_session(self, session):
        author = session.get(Author, 1)  # held here: a state lets go of its session with its object
        state = instance_state(author)
        assert state.session_id == session.hash_key
        assert state.session is session
        session.expunge_all()
        assert (state.session_id, state.session) == (None, None)

    def test_a_state_has_a_dict_for_what_is_not_in_its_slots(self):
        state = InstanceState.__new__(InstanceState)
        for name in NAMES:
            setattr(state, name, None)
        assert set(vars(state)) >= set(NAMES)


class TestSession:
    def test_the_identity_map_gives_all_states_and_finds_objects_by_key(self, session):
        authors = session.scalars(select(Author)).all()
        states = session.identity_map.all_states()
        assert {state.obj() for state in states} == set(authors)
        assert len(session.identity_map) == 3
        key = inspect(authors[0]).key
        assert key in session.identity_map
        assert session.identity_map.get(key) is authors[0]
        assert session.identity_map.get(None) is None

    def test_states_come_in_the_order_they_were_loaded(self, session):
        authors = session.scalars(select(Author).order_by(Author.id.desc())).all()
        assert [state.obj() for state in session.identity_map.all_states()] == list(authors)

    def test_it_tells_whether_it_is_clean_and_whether_it_is_flushing(self, session):
        seen = []
        event.listen(session, "before_flush", lambda flushing, *_: seen.append(flushing._flushing))
        assert session._is_clean()
        session.add(Author(id=9))
        assert not session._is_clean()
        session._autoflush()
        assert session._is_clean()
        assert (seen, session._flushing) == ([True], False)

    def test_autoflush_is_off_when_the_session_says_so(self, session):
        session.add(Author(id=9))
        with session.no_autoflush:
            session._autoflush()
        assert not session._is_clean()

    def test_a_lazy_load_passes_the_execute_hook_and_takes_its_result(self, session):
        executions = []
        other = session.get(Post, 1)
        author = session.get(Author, 1)

        def answer(execution):
            executions.append(execution)
            return result_of([other])

        event.listen(session, "do_orm_execute", answer)
        assert author.posts == [other]
        (execution,) = executions
        assert execution.lazy_loaded_from is inspect(author)
        assert execution.loader_strategy_path.prop is Author.posts.property
        assert execution.load_options._autoflush is True
        assert "sa_top_level_orm_context" not in execution.execution_options

    def test_a_refresh_passes_the_execute_hook_and_takes_its_result(self, session):
        post = session.get(Post, 1)
        session.expire(post)
        executions = []

        def answer(execution):
            executions.append(execution)
            set_committed_value(post, "id", 1)
            set_committed_value(post, "author_id", 77)
            return result_of([post])

        event.listen(session, "do_orm_execute", answer)
        assert post.author_id == 77
        assert not inspect(post).expired
        (execution,) = executions
        assert execution.lazy_loaded_from is None
        assert execution.load_options._refresh_state is inspect(post)
        assert execution.load_options._is_user_refresh is False
        assert execution.load_options._version_check is False
        assert execution.statement._compile_options._only_load_props >= {"id", "author_id"}

    def test_a_select_of_columns_may_say_that_it_refreshes(self, session):
        """`upshift.sql.loading.refresh` makes its statements so."""
        seen = []
        event.listen(session, "do_orm_execute", lambda execution: seen.append(execution.is_column_load))
        statement = select(Author.id)
        session.execute(statement)
        statement._compile_options = FromStatement._compile_options + {"_for_refresh_state": True}
        session.execute(statement)
        assert seen == [False, True]

    def test_a_query_may_give_an_attribute_its_expression(self):
        """`upshift.sql.loading.refresh` leaves the refreshes of such objects to SQLAlchemy."""
        assert Author.id.impl.accepts_scalar_loader
        assert not Author.post_count.impl.accepts_scalar_loader

    def test_a_refresh_that_is_asked_for_is_told_apart(self, session):
        author = session.get(Author, 1)
        executions = []
        event.listen(session, "do_orm_execute", executions.append)
        session.refresh(author)
        session.refresh(author, with_for_update=True)
        assert [each.load_options._is_user_refresh for each in executions] == [True, True]

    def test_the_strategies_that_options_ask_for_are_kept_by_the_objects(self, session):
        author = session.scalars(select(Author).options(selectinload(Author.posts))).first()
        (option,) = inspect(author).load_options
        assert (("lazy", "selectin"),) in [element.strategy for element in option.context]

    def test_immediate_loading_is_told_from_lazy_loading_by_its_options(self, session):
        executions = []
        event.listen(session, "do_orm_execute", executions.append)
        session.scalars(select(Author).where(Author.id == 1).options(immediateload(Author.posts))).all()
        load = executions[-1]
        assert load.lazy_loaded_from is not None
        assert "sa_top_level_orm_context" in load.execution_options

    @pytest.mark.parametrize("name", ["do_orm_execute", "before_flush", "after_transaction_end"])
    def test_it_has_these_events(self, name):
        listener = lambda *_: None  # noqa: E731 - the same object is needed twice
        event.listen(Session, name, listener, raw=True)
        event.remove(Session, name, listener)

    @pytest.mark.parametrize("name", ["expire", "pickle"])
    def test_mappers_have_these_events(self, name):
        listener = lambda *_: None  # noqa: E731 - the same object is needed twice
        event.listen(Mapper, name, listener, raw=True)
        event.remove(Mapper, name, listener)


class Slot:
    """What the selectin loader takes in place of a state: all that it asks of one."""

    def __init__(self, state):
        self.key, self.dict, self.state, self.value = state.key, state.dict, state, None

    def get_impl(self, _key):
        return self

    def set_committed_value(self, _state, _dict, value):
        self.value = value

    def __getattr__(self, name):
        return getattr(self.state, name)


def load_into_slots(session, attribute, objects):
    """Run the selectin loader as `loading.selectin` does, on a context that has only what it reads."""
    slots = [Slot(inspect(one)) for one in objects]
    statement = SimpleNamespace(_with_options=())
    context = SimpleNamespace(
        session=session,
        populate_existing=False,
        query=statement,
        user_passed_query=statement,
        compile_state=SimpleNamespace(select_statement=statement),
        _loader_strategy_options=lambda: (),
    )
    options = QueryContext.default_load_options + {"_lazy_loaded_from": slots[0].state}
    loader = attribute._get_strategy((("lazy", "selectin"),))
    loader._load_for_path(
        context,
        attribute.parent._path_registry,
        [(slot, True) for slot in slots],
        None,
        loader.entity,
        None,
        None,
        immutabledict({"_sa_orm_load_options": options, "ours": True}),
    )
    return slots


class TestLoaders:
    def test_the_selectin_loader_takes_these_parameters(self):
        loader = getattr(strategies, "_SelectInLoader", None) or strategies.SelectInLoader
        assert parameters(loader._load_for_path) == (
            "self",
            "context",
            "path",
            "states",
            "load_only",
            "effective_entity",
            "loadopt",
            "recursion_depth",
            "execution_options",
        )
        assert loader._chunksize == 500

    def test_it_is_a_relationships_strategy_and_has_its_entity(self, session):
        session.scalars(select(Author)).all()
        loader = Author.posts.property._get_strategy((("lazy", "selectin"),))
        assert loader.entity.mapper is inspect(Post)

    def test_it_loads_into_what_stands_for_the_states(self, session):
        authors = session.scalars(select(Author).order_by(Author.id)).all()
        slots = load_into_slots(session, Author.posts.property, authors)
        assert [[post.id for post in slot.value] for slot in slots] == [[2, 4, 6], [1, 3, 5], []]
        assert all("posts" not in inspect(author).dict for author in authors)

    def test_it_loads_references_likewise(self, session):
        posts = session.scalars(select(Post).order_by(Post.id)).all()
        slots = load_into_slots(session, Post.author.property, posts)
        assert [slot.value.id for slot in slots] == [2, 1, 2, 1, 2, 1]

    def test_its_statement_carries_the_execution_options_given(self, engine, session):
        contexts = []
        authors = session.scalars(select(Author)).all()
        event.listen(engine, "after_cursor_execute", lambda *arguments: contexts.append(arguments[4]))
        load_into_slots(session, Author.posts.property, authors)
        (context,) = contexts
        assert context.execution_options["ours"] is True
        assert context.execution_options["_sa_orm_load_options"]._lazy_loaded_from is inspect(authors[0])

    def test_load_options_have_these_names(self):
        options = QueryContext.default_load_options
        changed = options + {"_invoke_all_eagers": False, "_autoflush": False, "_lazy_loaded_from": None}
        assert (options._invoke_all_eagers, options._autoflush) == (True, True)
        assert (changed._invoke_all_eagers, changed._autoflush, changed._lazy_loaded_from) == (
            False,
            False,
            None,
        )

    def test_the_lazy_loader_tells_whether_it_asks_by_identity(self, session):
        session.scalars(select(Post)).all()
        to_one = Post.author.property
        loader = to_one._get_strategy((("lazy", "select"),))
        assert to_one.direction is MANYTOONE
        assert loader.use_get
        target = to_one.mapper
        assert [loader._equated_columns[column].key for column in target.primary_key] == ["author_id"]
        assert target.identity_key_from_primary_key((1,)) == (Author, (1,), None)
        assert not Author.posts.property._get_strategy((("lazy", "select"),)).use_get

    def test_a_mapper_tells_whether_it_reads_from_a_subquery(self):
        assert (
            inspect(Post).with_polymorphic in (None, ([], None)) or inspect(Post).with_polymorphic[1] is None
        )

    def test_a_simple_result_takes_filters_by_one_of_these_names(self):
        names = parameters(SimpleResultMetaData.__init__)
        assert {"_create_unique_filters", "_unique_filters"} & set(names)

    def test_a_loader_that_has_nothing_says_so(self):
        assert PASSIVE_NO_RESULT is not None
        assert PASSIVE_OFF != PASSIVE_NO_RESULT


async def test_awaiting_works_in_greenlets_only_and_one_can_tell():
    async def answer():
        return 42

    def work():
        return in_greenlet(), await_only(answer())

    assert not in_greenlet()
    assert await greenlet_spawn(work) == (True, 42)
