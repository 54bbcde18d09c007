"""Objects from the cache: each session's own, as a query would have brought them, and never stale."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import ForeignKey, create_engine, event, inspect, select, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    scoped_session,
    selectinload,
    sessionmaker,
    with_loader_criteria,
)
from sqlalchemy.pool import StaticPool

from upshift.cache import Cache
from upshift.cache.entities import Entities, with_cached_get
from upshift.cache.entities.sessions import Places
from upshift.errors import CacheKeyError


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int] = mapped_column(default=0)
    tenant: Mapped[str] = mapped_column(default="a")
    reviews: Mapped[list[Review]] = relationship(back_populates="product", order_by="Review.id")


class Review(Base):
    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    stars: Mapped[int]
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    product: Mapped[Product] = relationship(back_populates="reviews")


class Line(Base):
    __tablename__ = "line"
    order_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}", connect_args={"timeout": 30})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Product(id=number, name=f"product {number}") for number in range(1, 6))
        session.add_all([Review(stars=5, product_id=1), Review(stars=3, product_id=1)])
        session.add(Line(order_id=1, number=2, text="hose"))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def cache(engine):
    cache = Cache()
    cache.watch([engine])
    yield cache
    cache.close()


@pytest.fixture
def sent(engine):
    statements = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    return statements


@pytest.fixture
def products(cache):
    return Entities(cache, Product)


def warm(engine, products, *keys):
    for key in keys:
        with Session(engine) as session:
            products.get(session, key)


def test_an_object_is_read_once_and_belongs_to_each_session(engine, products, sent):
    warm(engine, products, 1)
    sent.clear()
    with Session(engine) as one, Session(engine) as other:
        first, second = products.get(one, 1), products.get(other, 1)
        assert first.name == second.name == "product 1"
        assert first is not second
        assert (first in one, second in other) == (True, True)
        assert one.get(Product, 1) is first
    assert sent == []


def test_a_miss_sends_one_statement_and_brings_a_persistent_object(engine, products, sent):
    with Session(engine) as session:
        found = products.get(session, 1)
        assert inspect(found).persistent
        assert not inspect(found).modified
        assert session.get(Product, 1) is found
    assert len(sent) == 1


def test_that_there_is_none_is_kept_until_there_is_one(engine, products, sent):
    warm(engine, products, 9)
    sent.clear()
    with Session(engine) as session:
        assert products.get(session, 9) is None
        assert sent == []
        session.add(Product(id=9, name="new"))
        session.commit()
    with Session(engine) as session:
        assert products.get(session, 9).name == "new"


def test_a_commit_ends_what_is_kept(engine, products):
    warm(engine, products, 1)
    with Session(engine) as session:
        products.get(session, 1).price = 7
        session.commit()
    with Session(engine) as session:
        assert products.get(session, 1).price == 7


def test_what_an_object_has_not_loaded_is_loaded_lazily(engine, products, sent):
    warm(engine, products, 1)
    with Session(engine) as session:
        found = products.get(session, 1)
        sent.clear()
        assert [each.stars for each in found.reviews] == [5, 3]
    assert len(sent) == 1


def test_a_change_is_flushed_as_that_of_any_object(engine, products):
    warm(engine, products, 1)
    with Session(engine) as session:
        found = products.get(session, 1)
        found.name = "changed"
        assert session.dirty
        session.commit()
        assert found.name == "changed"


def test_an_object_that_the_session_has_is_not_touched(engine, products):
    warm(engine, products, 1)
    with Session(engine) as session:
        mine = session.get(Product, 1)
        session.commit()
        mine.name = "changed"
        assert products.get(session, 1) is mine
        assert products.select(session, select(Product).where(Product.id == 1)) == [mine]
        assert mine.name == "changed"


def test_what_a_session_had_read_before_is_not_kept_as_if_it_were_new(engine, products):
    statement = select(Product).where(Product.id == 1)
    with Session(engine, expire_on_commit=False) as session:
        old = session.get(Product, 1)
        session.commit()
        with Session(engine) as other:
            other.execute(update(Product).values(price=7))
            other.commit()
        assert products.select(session, statement) == [old]
        assert old.price == 0
    with Session(engine) as session:
        assert products.select(session, statement)[0].price == 7


def test_a_session_with_changes_asks_the_database(engine, cache, products, sent):
    warm(engine, products, 1, 2)
    with Session(engine) as session:
        session.add(Product(id=9, name="pending"))
        sent.clear()
        assert products.get(session, 1).name == "product 1"
        assert products.get(session, 9).name == "pending"
        assert "INSERT" in sent[0]
        assert products.get(session, 2).name == "product 2"
        session.rollback()
    assert cache.statistics()[products.namespace].hits == 0


def test_a_session_that_has_written_sees_what_it_wrote_and_keeps_it_from_others(engine, products):
    warm(engine, products, 1)
    with Session(engine) as session:
        session.execute(update(Product).values(price=7))
        assert products.get(session, 1).price == 7
        assert products.get_many(session, [1, 2])[1].price == 7
        assert products.select(session, select(Product).where(Product.id == 3))[0].price == 7
        session.rollback()
    with Session(engine) as session:
        assert [products.get(session, 1).price] == [0]
        assert [each.price for each in products.get_many(session, [1, 2])] == [0, 0]
        assert products.select(session, select(Product).where(Product.id == 3))[0].price == 0


def test_a_session_that_another_thread_has_written_with_does_so_too(engine, products):
    warm(engine, products, 1)
    with Session(engine) as session:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(session.execute, update(Product).values(price=7)).result()
        assert products.get(session, 1).price == 7


def test_a_session_with_an_older_snapshot_asks_the_database(engine, cache, products):
    warm(engine, products, 1)
    with Session(engine) as session:
        session.scalars(select(Review)).all()
        assert products.get(session, 1).name == "product 1"
        assert cache.statistics()[products.namespace].hits == 0
        session.expunge_all()
        session.rollback()
        assert products.get(session, 1).name == "product 1"
        assert cache.statistics()[products.namespace].hits == 1


def test_many_come_in_order_and_are_kept_one_by_one(engine, products, sent):
    warm(engine, products, 3)
    sent.clear()
    with Session(engine) as session:
        found = products.get_many(session, [3, 1, 9, 1])
        assert [each and each.id for each in found] == [3, 1, None, 1]
        assert found[1] is found[3]
    assert len(sent) == 1
    sent.clear()
    with Session(engine) as session:
        assert products.get(session, 1).id == 1
        assert [each and each.id for each in products.get_many(session, [9, 3])] == [None, 3]
        assert products.get_many(session, []) == []
    assert sent == []


def test_many_are_taken_from_the_session_first(engine, products):
    with Session(engine) as session:
        mine = session.get(Product, 2)
        mine.name = "changed"
        assert products.get_many(session, [2, 1])[0] is mine


def test_lists_are_kept_by_statement_and_parameters(engine, products, sent):
    def ids(least):
        with Session(engine) as session:
            statement = select(Product).where(Product.id >= least).order_by(Product.id.desc())
            return [each.id for each in products.select(session, statement)]

    assert ids(4) == [5, 4]
    sent.clear()
    assert ids(4) == [5, 4]
    assert sent == []
    assert ids(5) == [5]
    assert len(sent) == 1


def test_a_list_ends_with_any_write_to_its_table(engine, products):
    statement = select(Product).where(Product.price == 0).order_by(Product.id)
    for _ in range(2):
        with Session(engine) as session:
            assert len(products.select(session, statement)) == 5
    with Session(engine) as session:
        session.get(Product, 1).price = 7
        session.commit()
    with Session(engine) as session:
        assert [each.id for each in products.select(session, statement)] == [2, 3, 4, 5]


def test_options_are_loaded_with_it_and_part_of_what_it_depends_on(engine, cache, sent):
    products = Entities(cache, Product, options=[selectinload(Product.reviews)])
    for _ in range(3):
        warm(engine, products, 1)
    with Session(engine) as session:
        products.get_many(session, [1, 2])
    sent.clear()
    with Session(engine) as session:
        assert [each.stars for each in products.get(session, 1).reviews] == [5, 3]
    assert sent == []
    with Session(engine) as session:
        session.add(Review(stars=1, product_id=1))
        session.commit()
    with Session(engine) as session:
        assert [each.stars for each in products.get(session, 1).reviews] == [5, 3, 1]


def test_statements_with_other_options_are_other_lists(engine, products):
    plain, eager = select(Product), select(Product).options(selectinload(Product.reviews))
    for _ in range(3):
        with Session(engine) as session:
            assert "reviews" in inspect(products.select(session, plain)[0]).unloaded
        with Session(engine) as session:
            assert "reviews" not in inspect(products.select(session, eager)[0]).unloaded


@pytest.mark.parametrize(
    "statement",
    [
        select(Product).with_for_update(),
        select(Product).execution_options(populate_existing=True),
        select(Product).options(with_loader_criteria(Product, Product.id < 3)),
        select(Product).options(selectinload(Product.reviews.and_(Review.stars > 3))),
    ],
)
def test_a_statement_that_says_more_than_what_it_selects_is_sent(engine, products, sent, statement):
    for _ in range(3):
        with Session(engine) as session:
            products.select(session, statement)
    assert sum("FROM product" in each for each in sent) == 3


@pytest.mark.parametrize(
    "statement", [select(Review), select(Product.id), select(Product, Review), update(Product), "SELECT 1"]
)
def test_a_list_of_something_else_is_refused(engine, products, statement):
    with (
        Session(engine) as session,
        pytest.raises(CacheKeyError, match=r"a list of Product is that of select"),
    ):
        products.select(session, statement)


def test_keys_of_several_columns(engine, cache, sent):
    lines = Entities(cache, Line)
    for key in ((1, 2), (1, 2), [1, 2]):
        with Session(engine) as session:
            assert lines.get(session, key).text == "hose"
    assert len(sent) == 1
    with Session(engine) as session:
        assert lines.get(session, {"order_id": 1, "number": 2}).text == "hose"
        assert [each.text for each in lines.get_many(session, [(1, 2)])] == ["hose"]


def test_an_engine_that_is_not_watched_has_nothing_kept(cache, products):
    other = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(other)
    with Session(other) as session:
        session.add(Product(id=1, name="elsewhere"))
        session.commit()
    for name in ("elsewhere", "renamed"):
        with Session(other) as session:
            session.execute(update(Product).values(name=name))
            session.commit()
        with Session(other) as session:
            assert products.get(session, 1).name == name
    counted = cache.statistics()[products.namespace]
    assert counted.refused == {"no engine that the cache watches has been asked": 2}
    other.dispose()


def test_two_databases_never_answer_for_each_other(engine, cache, products):
    others = [create_engine("sqlite://", poolclass=StaticPool) for _ in range(2)]
    cache.watch(others)
    for number, other in enumerate(others):
        Base.metadata.create_all(other)
        with Session(other) as session:
            session.add(Product(id=1, name=f"other {number}"))
            session.commit()
    names = []
    for each in (engine, *others) * 2:
        with Session(each) as session:
            names.append(products.get(session, 1).name)
    assert names == ["product 1", "other 0", "other 1"] * 2
    for other in others:
        other.dispose()


@pytest.mark.parametrize(
    "other",
    ["postgresql+psycopg://b@/shop?host=/one", "postgresql+psycopg://a@/shop?host=/two",
     "postgresql+psycopg://a@/shop?host=/one&options=-csearch_path%3Dtaipei"],
)  # fmt: skip
def test_neither_do_those_of_another_user_socket_or_schema(other):
    engines = [
        create_engine(each) for each in ("postgresql+psycopg://a@/shop?host=/one&password=secret", other)
    ]
    sessions = [Session(each) for each in engines]

    one, two = (Places().of(each, inspect(Product)) for each in sessions)

    assert one != two
    assert "secret" not in one


def test_what_a_session_may_see_is_told_by_vary(engine, cache):
    make = sessionmaker(engine)

    @event.listens_for(make, "do_orm_execute")
    def only_own(execution):
        tenant = execution.session.info["tenant"]
        execution.statement = execution.statement.options(
            with_loader_criteria(Product, Product.tenant == tenant)
        )

    products = Entities(cache, Product, vary=lambda session: session.info["tenant"])
    for tenant, seen in (("a", True), ("b", False)) * 3:
        with make(info={"tenant": tenant}) as session:
            assert (products.get(session, 1) is not None) is seen
    assert cache.statistics()[products.namespace].hits == 4


def test_what_cannot_be_kept_is_asked_for_each_time(engine, cache, products):
    def spoil(product, _):
        product.callback = print

    event.listen(Product, "load", spoil)
    try:
        for _ in range(2):
            with Session(engine) as session:
                assert products.get(session, 1).name == "product 1"
                assert products.get_many(session, [1, 2])[1].name == "product 2"
                assert len(products.select(session, select(Product))) == 5
    finally:
        event.remove(Product, "load", spoil)
    assert cache.statistics()[products.namespace].fills == 0


def test_a_registry_of_sessions_will_do(engine, products):
    registry = scoped_session(sessionmaker(engine))
    assert products.get(registry, 1).name == "product 1"
    assert products.get_many(registry, [1])[0].id == 1
    assert len(products.select(registry, select(Product))) == 5
    registry.remove()


def test_threads_share_one_load(engine, products, sent):
    ready = threading.Barrier(8)

    def read():
        ready.wait()
        with Session(engine) as session:
            return id(products.get(session, 1))

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(read) for _ in range(8)]:
            each.result()
    assert len(sent) < 8


def test_what_nobody_holds_goes_away(engine, products):
    warm(engine, products, 1)
    with Session(engine) as session:
        products.get(session, 1)
        gc.collect()
        assert not list(session.identity_map)


class TestGet:
    """`session.get` of sessions that are told."""

    @pytest.fixture
    def make(self, engine, products):
        return sessionmaker(engine, class_=with_cached_get(Session, products))

    def test_it_is_answered(self, make, sent):
        for _ in range(3):
            with make() as session:
                assert session.get(Product, 1).name == "product 1"
                assert session.get_one(Product, 1).id == 1
        assert len(sent) == 1

    def test_other_classes_are_as_before(self, make, sent):
        for _ in range(2):
            with make() as session:
                assert session.get(Review, 1).stars == 5
        assert len(sent) == 2

    @pytest.mark.parametrize(
        "options",
        [
            {"with_for_update": True},
            {"populate_existing": True},
            {"options": [selectinload(Product.reviews)]},
            {"identity_token": 0},
            {"execution_options": {"a": 1}},
        ],
    )
    def test_who_asks_for_more_asks_the_database(self, make, sent, options):
        for _ in range(2):
            with make() as session:
                session.get(Product, 1, **options)
        assert len([each for each in sent if "FROM product" in each]) == 2

    def test_it_sees_the_own_writes(self, make):
        with make() as session:
            session.get(Product, 1).price = 7
            session.flush()
            session.expunge_all()
            assert session.get(Product, 1).price == 7
            session.rollback()
        with make() as session:
            assert session.get(Product, 1).price == 0

    def test_entities_answer_such_sessions_as_well(self, make, products):
        for _ in range(2):
            with make() as session:
                assert products.get(session, 1).name == "product 1"
                assert products.get(session, {"id": 1}).name == "product 1"
