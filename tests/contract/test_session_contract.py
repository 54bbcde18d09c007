"""The private parts of SQLAlchemy's session that `upshift.sql.replicas.session` leans on."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session, declarative_base

Base = declarative_base()


class Item(Base):
    __tablename__ = "item"
    id = sa.Column(sa.Integer, primary_key=True)


class Noting(Session):
    """Notes what is asked of the calls that routing overrides."""

    def __init__(self, *engines):
        super().__init__()
        self.engines = engines
        self.chosen = engines[0]
        self.clauses = []
        self.connected = []

    def get_bind(self, mapper=None, *, clause=None, **_options):
        self.clauses.append(clause)
        return self.chosen

    def _connection_for_bind(self, engine, *arguments, **options):
        self.connected.append(engine)
        return super()._connection_for_bind(engine, *arguments, **options)


def session() -> Noting:
    engines = [sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool) for _ in range(2)]
    for engine in engines:
        Base.metadata.create_all(engine)
    return Noting(*engines)


def test_get_bind_is_given_each_statement_that_is_executed():
    with session() as noting:
        noting.execute(sa.select(Item))
        noting.scalars(sa.select(Item))
        noting.scalar(sa.text("SELECT 1"))
        noting.get(Item, 1)
        noting.query(Item).all()
        assert len(noting.clauses) == 5
        assert all(clause is not None for clause in noting.clauses)


def test_a_flush_asks_for_a_bind_without_a_statement():
    with session() as noting:
        noting.add(Item())
        noting.flush()
        assert noting.clauses[0] is None


def test_a_statement_asks_for_its_bind_and_then_connects_to_it():
    with session() as noting:
        noting.execute(sa.select(Item))
        assert noting.connected == [noting.engines[0]]


def test_a_connection_can_be_taken_out_of_a_transaction():
    with session() as noting:
        noting.execute(sa.select(Item))
        connections = noting._transaction._connections
        connection = connections.pop(noting.engines[0])[0]
        connections.pop(connection)
        connection.close()
        noting.chosen = noting.engines[1]
        noting.add(Item())
        noting.commit()
        assert noting.execute(sa.select(sa.func.count(Item.id))).scalar_one() == 1


def test_a_statement_keeps_its_cache_key():
    statement = sa.select(Item).where(Item.id == 1)
    assert statement._generate_cache_key() is statement._generate_cache_key()
    assert hash(statement._generate_cache_key().key) == hash(
        sa.select(Item).where(Item.id == 2)._generate_cache_key().key
    )
