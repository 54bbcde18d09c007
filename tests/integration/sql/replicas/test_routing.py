"""Which server a session's statements go to, on a real primary with two real streaming replicas."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, selectinload, sessionmaker

from .conftest import Cluster, Item, NewReplicas, Tag, wait_for

SERVER = "current_setting('unix_socket_directories')"


@pytest.fixture(scope="module")
def where(cluster: Cluster):
    """Tell which server a statement of a session goes to, by a column that names it."""
    names = {server.host: name for name, server in zip(("primary", "near", "far"), cluster, strict=True)}

    def ask(session: Session, statement=None) -> str:
        column = sa.func.current_setting("unix_socket_directories")
        return names[session.scalar(sa.select(column) if statement is None else statement)]

    return ask


@pytest.fixture
def replicas(cluster: Cluster, new_replicas: NewReplicas):
    cluster.caught_up()
    return new_replicas(cluster.primary, cluster.near)


@pytest.fixture
def new_session(replicas):
    return sessionmaker(class_=replicas.session_class)


def test_a_read_goes_to_a_replica(new_session, where):
    with new_session() as session:
        assert where(session) == "near"


def test_a_transaction_that_reads_stays_on_one_replica(cluster, new_replicas, where):
    replicas = new_replicas(*cluster)
    for _ in range(10):
        with replicas.session_class() as session:
            assert len({where(session) for _ in range(5)}) == 1


def test_reads_are_spread_over_the_replicas_by_those_that_are_open(cluster, new_replicas, where):
    replicas = new_replicas(*cluster)
    with ExitStack() as stack:
        sessions = [stack.enter_context(replicas.session_class()) for _ in range(25)]
        assert {where(session) for session in sessions} == {"near", "far"}
        assert sum(state.open_transactions for state in replicas.states()) == 25
    assert sum(state.open_transactions for state in replicas.states()) == 0


def test_what_follows_a_flush_stays_on_the_primary(new_session, where):
    with new_session() as session:
        session.add(Item(name="new"))
        session.flush()

        assert where(session) == "primary"
        session.rollback()
        assert where(session) == "near"


def test_dml_and_what_follows_goes_to_the_primary(new_session, where):
    with new_session() as session:
        session.execute(sa.update(Item).where(Item.id == 1).values(name="changed"))

        assert where(session) == "primary"
        session.rollback()


def test_a_session_that_has_committed_a_write_goes_on_at_the_primary(new_session, where):
    with new_session() as session:
        session.execute(sa.update(Item).where(Item.id == 2).values(name="changed"))
        session.commit()

        assert where(session) == "primary"


def test_a_commit_without_a_write_leaves_the_session_to_the_replicas(new_session, where):
    with new_session() as session:
        session.scalars(sa.select(Item)).all()
        session.commit()

        assert where(session) == "near"


@pytest.mark.parametrize(
    "statement",
    [
        sa.select(Item.id).where(Item.id == 1).with_for_update(),
        sa.select(Item.id).where(Item.id == 1).with_for_update(read=True),
        sa.select(Item.id).where(sa.exists(sa.select(Tag.id).with_for_update())),
        sa.select(sa.func.nextval("counter")),
        sa.select(sa.Sequence("counter").next_value()),
        sa.select(sa.literal_column("nextval('counter')")),
        sa.select(sa.func.pg_advisory_xact_lock(7)),
        sa.select(sa.func.txid_current()),
        sa.text("SELECT nextval('counter')"),
        sa.text("SELECT 1 -- who knows"),
        sa.text("SELECT id FROM item FOR SHARE"),
        sa.text("WITH a AS (UPDATE item SET name = 'x' WHERE id = 3 RETURNING id) SELECT * FROM a"),
        sa.select(sa.update(Item).where(Item.id == 3).values(name="x").returning(Item.id).cte("gone").c.id),
        sa.select(Item.id).with_statement_hint("FOR UPDATE"),
        sa.select(Item.id).prefix_with("ALL"),
    ],
    ids=str,
)
def test_what_is_not_proved_to_read_goes_to_the_primary(new_session, where, statement):
    with new_session() as session:
        session.execute(statement).all()

        assert where(session) == "primary"


@pytest.mark.parametrize(
    "statement",
    [
        sa.select(Item).where(Item.id.in_(sa.select(Tag.item_id))),
        sa.select(sa.func.count()).select_from(Item),
        sa.select(sa.func.twice(Item.id)),
        sa.select(sa.func.coalesce(sa.func.max(Item.id), 0), sa.func.now(), sa.func.random()),
        sa.union_all(sa.select(Item.id), sa.select(Tag.id)),
        sa.text("SELECT count(*), max(id) FROM item WHERE name LIKE 'item%' AND id IN (1, 2)"),
        sa.select(Item).from_statement(sa.text("SELECT * FROM item ORDER BY id LIMIT 3")),
        sa.select(Item.id).order_by(sa.text("name DESC")),
        sa.select(sa.func.row_number().over(partition_by=Item.name, order_by=Item.id)),
    ],
    ids=str,
)
def test_what_is_proved_to_read_goes_to_a_replica(new_session, where, statement):
    with new_session() as session:
        session.execute(statement).all()

        assert where(session) == "near"


def test_a_read_that_writes_behind_its_back_is_run_on_the_primary(cluster, new_session, where):
    with new_session() as session:
        assert (
            session.execute(sa.select(sa.text("number")).select_from(sa.table("numbered"))).scalar_one() > 0
        )

        assert where(session) == "primary"
        session.commit()


def test_get_for_update_goes_to_the_primary(new_session, where):
    with new_session() as session:
        assert session.get(Item, 4, with_for_update=True).name == "item 4"
        assert where(session) == "primary"


def test_an_object_from_a_replica_is_flushed_to_the_primary(cluster, new_session, where):
    with new_session() as session:
        item = session.get(Item, 5)
        assert where(session) == "near"
        item.name = "changed"
        session.commit()
        assert item.name == "changed"  # refreshed on the primary
        assert where(session) == "primary"
        item.name = "item 5"
        session.commit()


def test_lazy_loads_and_refreshes_after_a_write_are_on_the_primary(cluster, new_session, where):
    with cluster.paused(cluster.near), new_session() as session:
        item = session.get(Item, 6)
        session.add(Tag(id=1006, item_id=6, name="added"))
        session.flush()
        assert [tag.name for tag in item.tags] == ["tag 6", "added"]
        session.refresh(item)
        session.rollback()


def test_eager_loads_are_where_their_parents_are(cluster, new_session, where):
    with new_session() as session:
        items = session.scalars(sa.select(Item).options(selectinload(Item.tags)).order_by(Item.id)).all()
        assert items[9].tags[0].name == "tag 10"
        assert where(session) == "near"


def test_rows_are_streamed_from_the_replica_while_the_primary_is_written(new_session, where):
    with new_session() as session:
        rows = session.execute(sa.select(Item.id).order_by(Item.id).execution_options(yield_per=5))
        for (number,) in rows:
            session.add(Tag(item_id=number, name="streamed"))
            session.flush()
        assert session.scalar(sa.select(sa.func.count()).where(Tag.name == "streamed")) >= 50
        session.rollback()


def test_an_update_of_what_a_lagging_replica_showed_is_found_by_its_version(cluster, new_session):
    with cluster.paused(cluster.near):
        with new_session() as session:
            session.execute(sa.update(Item).where(Item.id == 8).values(version=Item.version + 1))
            session.commit()
        with new_session() as session:
            session.get(Item, 8).name = "decided on old data"
            with pytest.raises(sa.orm.exc.StaleDataError):
                session.commit()


def test_savepoints_and_two_phase_transactions_are_on_the_primary(new_session, where):
    with new_session() as session:
        assert where(session) == "near"
        with session.begin_nested():
            assert where(session) == "primary"
        assert where(session) == "primary"
    with new_session(twophase=True) as session:
        assert session.replicas.choose is not None
        assert session.get_bind(clause=sa.select(1)) is session.replicas.engine


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_transactions_with_one_snapshot_are_on_the_primary(cluster, new_replicas, where, level):
    replicas = new_replicas(
        cluster.primary, cluster.near, engine={"isolation_level": level} if level != "SERIALIZABLE" else {}
    )
    with replicas.session_class() as session:
        if level == "SERIALIZABLE":
            session.connection(execution_options={"isolation_level": level})
        assert where(session) == "primary"


def test_the_application_may_ask_for_the_primary(replicas, new_session, where):
    with new_session() as session, replicas.primary():
        assert where(session) == "primary"
    with new_session() as session:
        assert where(session) == "near"
        with replicas.primary():
            assert where(session) == "primary"
        assert where(session) == "primary"  # a transaction moves once


def test_asking_for_the_dialect_binds_a_session_to_nothing(new_session, where):
    with new_session() as session:
        assert session.get_bind().dialect.name == "postgresql"
        assert where(session) == "near"


def test_a_session_that_was_asked_before_belongs_to_the_visit_that_uses_it(replicas, new_session, where):
    with new_session() as session:
        session.get_bind(clause=sa.select(1))
        with replicas.visit(reads_replicas=False):
            assert where(session) == "primary"


def test_a_session_bound_to_a_connection_is_left_on_it(replicas, new_session, where):
    with replicas.engine.connect() as connection, new_session(bind=connection) as session:
        assert where(session) == "primary"
        session.add(Item(name="test"))
        session.flush()
        session.rollback()


def test_sessions_of_one_visit_see_what_another_has_written(cluster, replicas, new_session, where):
    with replicas.visit(), new_session() as reader, new_session() as writer:
        assert where(reader) == "near"
        writer.execute(sa.update(Item).where(Item.id == 9).values(name="written"))
        writer.commit()
        assert where(reader) == "primary"
    with new_session() as session:
        assert where(session) == "near"


def test_a_visit_reads_from_one_replica(cluster, new_replicas, where):
    replicas = new_replicas(*cluster)
    with replicas.visit():
        seen = set()
        for _ in range(20):
            with replicas.session_class() as session:
                seen.add(where(session))
    assert len(seen) == 1


def test_a_visit_after_a_position_reads_from_a_replica_that_has_it(cluster, new_replicas, where):
    replicas = new_replicas(*cluster, longest_lag_seconds=60)
    with cluster.paused(cluster.far):
        with replicas.session_class() as session:
            session.execute(sa.update(Item).where(Item.id == 11).values(name="positioned"))
            session.commit()
        position = replicas.position()
        seen = set()

        def is_read_from_near() -> bool:
            with replicas.visit(after=position), replicas.session_class() as session:
                seen.add(where(session))
                assert session.get(Item, 11).name == "positioned"
            return "near" in seen

        wait_for(is_read_from_near)
    assert seen <= {"primary", "near"}


def test_a_closed_replicas_sends_everything_to_the_primary(replicas, new_session, where):
    replicas.close()
    with new_session() as session:
        assert where(session) == "primary"
