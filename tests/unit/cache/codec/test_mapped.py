"""Mapped objects as bytes: what comes back is as a query would have loaded it, and nobody else's."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import (
    JSON,
    ForeignKey,
    LargeBinary,
    Numeric,
    String,
    create_engine,
    event,
    insert,
    inspect,
    literal,
    select,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict, MutableList
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    MappedAsDataclass,
    Session,
    attribute_keyed_dict,
    column_property,
    composite,
    defer,
    joinedload,
    mapped_column,
    query_expression,
    reconstructor,
    relationship,
    selectinload,
    undefer,
    validates,
    with_expression,
)
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy.pool import StaticPool
from sqlalchemy.types import TypeDecorator

from upshift.cache.codec import codec_for
from upshift.errors import CodecError


class Status(enum.Enum):
    ACTIVE = "active"
    HIDDEN = "hidden"


class Grade(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Money:
    cents: int
    currency: str = "TWD"


class MoneyType(TypeDecorator[Money]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else f"{value.cents} {value.currency}"

    def process_result_value(self, value, dialect):
        return None if value is None else Money(int(value.split()[0]), value.split()[1])


class GradeType(TypeDecorator[Grade]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else str(int(value))

    def process_result_value(self, value, dialect):
        return None if value is None else Grade(int(value))


@dataclass
class Size:
    width: int
    height: int


class Base(DeclarativeBase):
    pass


class Category(Base):
    __tablename__ = "category"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("category.id"))
    parent: Mapped[Category | None] = relationship(remote_side=[id], back_populates="children")
    children: Mapped[list[Category]] = relationship(back_populates="parent", order_by="Category.id")
    products: Mapped[list[Product]] = relationship(back_populates="category", order_by="Product.id")


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    weight: Mapped[float | None]
    is_active: Mapped[bool] = mapped_column(default=True)
    status: Mapped[Status] = mapped_column(default=Status.ACTIVE)
    grade: Mapped[Grade | None] = mapped_column(GradeType)
    shown_price: Mapped[Money | None] = mapped_column(MoneyType)
    code: Mapped[UUID | None]
    made_on: Mapped[dt.date | None]
    made_at: Mapped[dt.datetime | None]
    opens: Mapped[dt.time | None]
    takes: Mapped[dt.timedelta | None]
    image: Mapped[bytes | None] = mapped_column(LargeBinary)
    details: Mapped[dict | list | None] = mapped_column(JSON)
    attributes: Mapped[dict | None] = mapped_column(MutableDict.as_mutable(JSON))
    sizes: Mapped[list | None] = mapped_column(MutableList.as_mutable(JSON))
    manual: Mapped[str | None] = mapped_column(deferred=True)
    notes: Mapped[str | None] = mapped_column(deferred=True)
    width: Mapped[int | None]
    height: Mapped[int | None]
    size: Mapped[Size] = composite("width", "height")
    rank: Mapped[int | None] = query_expression()
    category_id: Mapped[int | None] = mapped_column(ForeignKey("category.id"))
    category: Mapped[Category | None] = relationship(back_populates="products")
    reviews: Mapped[list[Review]] = relationship(back_populates="product", order_by="Review.id")
    tags: Mapped[set[Tag]] = relationship()
    tag_names: AssociationProxy[list[str]] = association_proxy("tags", "name")
    labels: Mapped[dict[str, Label]] = relationship(collection_class=attribute_keyed_dict("name"))
    history: DynamicMapped[Label] = relationship(viewonly=True)

    def __init__(self, **values):
        super().__init__(**values)
        self.was_made_by_hand = True

    @reconstructor
    def count_loads(self):
        self.loads = getattr(self, "loads", 0) + 1

    @hybrid_property
    def double(self):
        return self.price * 2

    @validates("name")
    def refuse_empty(self, _, name):
        assert name
        return name


class Review(Base):
    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    stars: Mapped[int]
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id", ondelete="CASCADE"))
    product: Mapped[Product] = relationship(back_populates="reviews")


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))


class Label(Base):
    __tablename__ = "label"
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "dog"
    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    barks: Mapped[bool]
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Cat(Animal):
    lives: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Point(MappedAsDataclass, Base):
    __tablename__ = "point"
    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int] = mapped_column(default=0)
    doubled: Mapped[int] = column_property(select(1).scalar_subquery())


FULL = {
    "name": "瓦斯",
    "price": Decimal("12.50"),
    "weight": 1.5,
    "status": Status.HIDDEN,
    "grade": Grade.HIGH,
    "shown_price": Money(1250),
    "code": UUID(int=7),
    "made_on": dt.date(2026, 1, 2),
    "made_at": dt.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - SQLite has no zones
    "opens": dt.time(9, 30),
    "takes": dt.timedelta(hours=1, microseconds=5),
    "image": b"\x00\xff",
    "details": {"a": [1, None, {"b": 2.5}]},
    "attributes": {"colour": "red"},
    "sizes": [1, 2],
    "manual": "a long text",
    "width": 3,
    "height": 4,
}
COLUMNS = [name for name in FULL if name != "manual"]


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        root = Category(id=1, name="all")
        gas = Category(id=2, name="gas", parent=root)
        full = Product(id=1, category=gas, **FULL)
        full.reviews = [Review(stars=5), Review(stars=3)]
        full.tags = {Tag(name="hot"), Tag(name="new")}
        full.labels = {each: Label(name=each, text=each.upper()) for each in ("en", "zh")}
        session.add_all([full, Product(id=2, name="hose", price=Decimal(3))])
        session.add_all([Dog(name="Rex", barks=True), Cat(name="Tom", lives=9), Point(id=1, x=5)])
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine):
    with Session(engine) as session:
        yield session


@pytest.fixture
def statements(engine):
    sent = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
    return sent


def copy(value, annotation=None, session=None):
    codec = codec_for(annotation)
    return codec.decode(codec.encode(value), session)


def test_every_type_of_column_comes_back(session):
    product = session.get(Product, 1)

    again = copy(product)

    assert {name: getattr(again, name) for name in COLUMNS} == {name: FULL[name] for name in COLUMNS}
    assert [type(getattr(again, each)) for each in COLUMNS] == [
        type(getattr(product, each)) for each in COLUMNS
    ]
    assert (again.double, again.size) == (Decimal("25.00"), Size(3, 4))


def test_it_is_another_object_that_is_detached_and_unmodified(session):
    product = session.get(Product, 1)

    again = copy(product)

    state = inspect(again)
    assert again is not product
    assert state.detached
    assert not state.modified
    assert state.identity == (1,)
    assert state.key == inspect(product).key
    assert not hasattr(again, "was_made_by_hand")
    assert (product.loads, again.loads) == (1, 1)


def test_mutable_values_are_tracked(session):
    again = copy(session.get(Product, 1))
    assert not inspect(again).modified
    again.attributes["colour"] = "blue"
    assert inspect(again).attrs.attributes.history.has_changes()
    again = copy(session.get(Product, 1))
    again.sizes.append(3)
    assert inspect(again).modified


@pytest.mark.parametrize("annotation", [None, list[Product], "list"])
def test_lists_come_back_in_their_order(session, annotation):
    products = session.scalars(select(Product).order_by(Product.id.desc())).all()
    again = copy(products, annotation)
    assert [each.id for each in again] == [2, 1]
    assert again[0].weight is None


@pytest.mark.parametrize("annotation", [Product | None, None])
def test_nothing_is_nothing(annotation):
    assert copy(None, annotation) is None
    assert copy([], annotation) == []


def test_columns_beyond_what_a_query_loads_stay_unloaded(session):
    again = copy(session.get(Product, 1))
    assert inspect(again).unloaded >= {"manual", "notes", "category", "reviews", "tags", "labels"}
    with pytest.raises(DetachedInstanceError):
        _ = again.manual
    with pytest.raises(DetachedInstanceError):
        _ = again.reviews


def test_deferred_columns_are_loaded_one_by_one_in_a_session(engine, session, statements):
    codec = codec_for(Product)
    data = codec.encode(session.get(Product, 1))
    with Session(engine) as other:
        again = codec.decode(data)
        other.add(again)
        statements.clear()
        assert again.manual == "a long text"
        assert "notes" in inspect(again).unloaded
    assert len(statements) == 1


def test_a_column_that_a_query_left_out_is_loaded_in_a_session(engine, session):
    product = session.scalars(select(Product).options(defer(Product.name)).filter_by(id=1)).one()
    again = copy(product)
    with pytest.raises(DetachedInstanceError):
        _ = again.name
    with Session(engine) as other:
        other.add(again)
        assert again.name == FULL["name"]


def test_a_column_that_a_query_put_in_is_there(session):
    statement = select(Product).options(undefer(Product.manual), with_expression(Product.rank, literal(9)))
    again = copy(session.scalars(statement.filter_by(id=1)).one())
    assert (again.manual, again.rank) == ("a long text", 9)


def test_loaded_relationships_are_loaded(session):
    statement = select(Product).options(
        joinedload(Product.category).joinedload(Category.parent),
        selectinload(Product.reviews),
        selectinload(Product.tags),
        selectinload(Product.labels),
    )
    first, second = copy(session.scalars(statement.order_by(Product.id)).all(), list[Product])

    assert first.category.parent.name == "all"
    assert [each.stars for each in first.reviews] == [5, 3]
    assert {each.name for each in first.tags} == {"hot", "new"} == set(first.tag_names)
    assert first.labels["zh"].text == "ZH"
    assert (second.category, second.reviews, second.tags, second.labels) == (None, [], set(), {})
    assert not any(inspect(each).modified for each in (first, first.category, *first.reviews, *first.tags))
    with pytest.raises(DetachedInstanceError):
        _ = first.category.products


def test_what_was_one_object_is_one_again_through_cycles(session):
    statement = select(Category).options(
        selectinload(Category.products).selectinload(Product.category), selectinload(Category.children)
    )
    root, gas = copy(session.scalars(statement.order_by(Category.id)).all())
    assert root.children == [gas]
    assert gas.products[0].category is gas


def test_a_long_chain_is_no_trouble(engine):
    links = [{"id": number, "name": "link", "parent_id": number - 1} for number in range(10, 1_510)]
    with Session(engine) as session:
        session.execute(insert(Category), links)
        chain = session.scalars(select(Category).where(Category.id >= 10)).all()
        assert chain[0].parent is None
        for each in chain:
            _ = each.parent
        again = copy(session.get(Category, 1_509))
    count = 1
    while again := again.parent:
        count += 1
    assert count == 1_500


def test_collections_keep_what_changes_them(session):
    again = copy(session.scalars(select(Product).options(selectinload(Product.reviews))).first())
    review = Review(stars=1)
    again.reviews.append(review)
    assert review.product is again
    assert inspect(again).attrs.reviews.history.added == [review]


def test_subclasses_come_back_as_themselves(session):
    animals = session.scalars(select(Animal).order_by(Animal.id)).all()

    dog, cat = copy(animals, list[Animal])

    assert (type(dog), type(cat)) == (Dog, Cat)
    assert (dog.name, cat.name) == ("Rex", "Tom")
    assert "barks" in inspect(dog).unloaded


def test_what_a_query_for_the_base_left_out_is_loaded_in_a_session(engine, session):
    dog = copy(session.scalars(select(Animal)).first())
    with Session(engine) as other:
        other.add(dog)
        assert dog.barks is True


def test_a_class_that_is_a_dataclass_too_comes_back(session):
    point = copy(session.get(Point, 1), Point)
    assert (point.x, point.doubled) == (5, 1)
    assert inspect(point).detached


def test_rows_with_objects_come_back(session):
    rows = session.execute(select(Product, Category.name).join(Category)).all()
    again = copy(rows)
    assert again[0].Product.id == 1
    assert again[0][1] == again[0].name == "gas"
    assert copy(rows[0])._mapping["name"] == "gas"
    assert [name for _, name in again] == ["gas"]


def test_objects_in_other_containers_come_back(session):
    product, other = session.scalars(select(Product).order_by(Product.id)).all()
    value = {"best": product, "all": (product, other), "none": None, "by": {1: product}}
    again = copy(value)
    assert again["best"] is again["all"][0] is again["by"][1]
    assert again["all"][1].name == "hose"


def test_an_attribute_that_is_not_mapped_comes_back(session):
    product = session.get(Product, 1)
    product.badge = ("new", 1)
    assert copy(product).badge == ("new", 1)


def test_in_a_session_they_are_its_own(engine, session):
    codec = codec_for(list[Product])
    statement = select(Product).options(selectinload(Product.reviews)).order_by(Product.id)
    data = codec.encode(session.scalars(statement).all())
    with Session(engine) as other:
        there = []
        event.listen(other, "loaded_as_persistent", lambda _, one: there.append(type(one)))
        first, second = codec.decode(data, other)
        assert first in other
        assert first.reviews[0] in other
        assert other.get(Product, 2) is second
        assert first.category.name == "gas"
        assert not other.dirty
        assert there == [Product, Product, Review, Review, Category]
        first.name = "other"
        other.commit()
        assert first.name == "other"


def test_an_object_that_the_session_has_stays_as_it_is(engine, session, statements):
    codec = codec_for(list[Product])
    data = codec.encode(session.scalars(select(Product).order_by(Product.id)).all())
    with Session(engine) as other:
        mine, expired = other.get(Product, 1), other.get(Product, 2)
        mine.name = "changed"
        other.expire(expired)
        statements.clear()
        first, second = codec.decode(data, other)
        assert (first, second) == (mine, expired)
        assert mine.name == "changed"
        assert inspect(mine).modified
        assert inspect(expired).expired
        assert statements == []


def test_two_sessions_never_share_an_object(engine, session):
    codec = codec_for(Product)
    data = codec.encode(session.get(Product, 1))
    with Session(engine) as one, Session(engine) as other:
        assert codec.decode(data, one) is not codec.decode(data, other)


def test_times_in_zones_keep_them(session):
    product = session.get(Product, 1)
    for zone in (dt.UTC, ZoneInfo("Asia/Taipei"), ZoneInfo("UTC"), dt.timezone(dt.timedelta(hours=2))):
        session.expire_all()
        _ = product.name
        product.__dict__["made_at"] = dt.datetime(2026, 7, 1, 12, tzinfo=zone)
        again = copy(product).made_at
        assert (again, again.tzinfo) == (product.made_at, zone)


def test_a_moment_that_no_clock_shows_keeps_its_hour(session):
    product = session.get(Product, 1)
    moment = dt.datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    product.__dict__["made_at"] = moment
    assert copy(product).made_at.hour == 2


@pytest.mark.parametrize("value", [10**30, Decimal("NaN"), Decimal("sNaN"), [1, (2, 3)], {1: 2}, 5])
def test_rare_values_come_back(session, value):
    product = session.get(Product, 1)
    product.__dict__["price"] = value
    again = copy(product).price
    assert repr(again) == repr(value)


def changed(session):
    product = session.get(Product, 1)
    product.name = "other"
    return product


def new(session):
    product = Product(name="new", price=1)
    session.add(product)
    return product


def expired(session):
    product = session.get(Product, 1)
    session.commit()
    return product


def deleted(session):
    product = session.get(Product, 2)
    session.delete(product)
    session.flush()
    return product


def keyless(session):
    product = session.get(Product, 1)
    session.expire(product, ["id"])
    return product


def changed_behind(session):
    product = session.scalars(select(Product).options(joinedload(Product.category))).first()
    product.category.name = "other"
    return [product]


def odd(session):
    product = session.get(Product, 1)
    product.callback = print
    return product


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (changed, "Product cannot be cached: it has changes that are not flushed"),
        (new, "it is not in the database yet"),
        (expired, "it was expired by a commit: return it before that, or with expire_on_commit=False"),
        (deleted, "it is deleted"),
        (keyless, "its key is not loaded"),
        (changed_behind, "Category cannot be cached: it has changes"),
        (odd, r"a builtins\.builtin_function_or_method cannot be cached as bytes"),
    ],
)
def test_what_is_not_as_the_database_has_it_is_refused(session, make, message):
    with session.no_autoflush, pytest.raises(CodecError, match=message):
        codec_for(list[Product]).encode(make(session))
    session.rollback()


def test_a_listener_that_wants_a_query_makes_a_miss_and_no_crash(session):
    def listener(product, context):
        context.session  # noqa: B018

    codec = codec_for(Product)
    data = codec.encode(session.get(Product, 1))
    event.listen(Product, "load", listener)
    try:
        with pytest.raises(CodecError, match="cannot be read"):
            codec.decode(data)
    finally:
        event.remove(Product, "load", listener)


def test_a_detached_copy_can_be_merged(engine, session):
    again = copy(session.get(Product, 1))
    with Session(engine) as other:
        merged = other.merge(again, load=False)
        assert merged.name == FULL["name"]
        with pytest.raises(InvalidRequestError, match="already present"):
            other.add(again)
