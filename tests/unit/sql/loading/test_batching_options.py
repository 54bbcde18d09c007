"""What a query asked for beside its objects reaches a batched load as it reaches a lazy one."""

from __future__ import annotations

import warnings
from contextvars import ContextVar

import pytest
from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    column_property,
    contains_eager,
    defer,
    immediateload,
    joinedload,
    lazyload,
    load_only,
    mapped_column,
    noload,
    raiseload,
    relationship,
    selectinload,
    sessionmaker,
    subqueryload,
    undefer,
    with_loader_criteria,
)
from sqlalchemy.pool import StaticPool


class Base(DeclarativeBase):
    pass


class Owned:
    """A row of one of two tenants."""

    tenant: Mapped[int] = mapped_column()
    is_deleted: Mapped[bool] = mapped_column(default=False)


class Shop(Base):
    __tablename__ = "shop"
    id: Mapped[int] = mapped_column(primary_key=True)
    products: Mapped[list[Product]] = relationship(back_populates="shop", order_by="Product.id")
    dynamic: DynamicMapped[Product] = relationship(viewonly=True)
    write_only: WriteOnlyMapped[Product] = relationship(viewonly=True)
    raising: Mapped[list[Product]] = relationship(viewonly=True, lazy="raise")
    raising_on_sql: Mapped[list[Product]] = relationship(viewonly=True, lazy="raise_on_sql")


class EagerShop(Base):
    __table__ = Shop.__table__
    selected: Mapped[list[Product]] = relationship(viewonly=True, lazy="selectin", order_by="Product.id")
    immediate: Mapped[list[Product]] = relationship(viewonly=True, lazy="immediate", order_by="Product.id")


class Product(Owned, Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    notes: Mapped[str] = mapped_column(deferred=True)
    shop_id: Mapped[int] = mapped_column(ForeignKey("shop.id"))
    brand_id: Mapped[int] = mapped_column(ForeignKey("brand.id"))
    shop: Mapped[Shop] = relationship(back_populates="products")
    brand: Mapped[Brand | None] = relationship()
    reviews: Mapped[list[Review]] = relationship(order_by="Review.id")


class Brand(Owned, Base):
    __tablename__ = "brand"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    name_twice = column_property(name + name)


class Review(Owned, Base):
    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    words: Mapped[str]


@pytest.fixture(scope="module")
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Shop(id=n) for n in range(1, 21))
        session.add_all(Brand(id=n, name=f"brand {n}", tenant=n % 2, is_deleted=n == 3) for n in range(1, 7))
        session.add_all(
            Product(
                id=n,
                name=f"product {n}",
                notes=f"notes {n}",
                tenant=n // 2 % 2,
                shop_id=n % 20 + 1,
                brand_id=n % 6 + 1,
                is_deleted=n % 11 == 0,
            )
            for n in range(1, 101)
        )
        session.add_all(
            Review(id=n, product_id=n % 100 + 1, tenant=n % 2, words=f"words {n}") for n in range(1, 201)
        )
        session.commit()
    yield engine
    engine.dispose()


SHOPS = select(Shop).order_by(Shop.id)
PRODUCTS = select(Product).order_by(Product.id)


def products_of(statement):
    return lambda session: [[p.id for p in shop.products] for shop in session.scalars(statement)]


class TestLoaderCriteria:
    """The trap: a query of our own for the parents would load the rows of every tenant."""

    def test_rows_of_another_tenant_stay_away_from_collections(self, both):
        only_tenant_1 = with_loader_criteria(Product, Product.tenant == 1)
        ran = both(products_of(SHOPS.options(only_tenant_1)), times=2)
        assert ran.counts == (21, 2)
        assert all(id_ // 2 % 2 == 1 for ids in ran.batched.seen for id_ in ids)
        assert sum(map(len, ran.batched.seen)) == 50

    def test_rows_of_another_tenant_stay_away_from_many_to_one(self, both):
        products = PRODUCTS.options(with_loader_criteria(Brand, Brand.tenant == 1))
        ran = both(lambda s: [p.brand and p.brand.name for p in s.scalars(products)], times=2)
        assert {name for name in ran.batched.seen if name} == {"brand 1", "brand 3", "brand 5"}
        assert ran.counts[1] == 2  # and the brands that are filtered out are not asked for again and again

    def test_criteria_of_a_mixin(self, both):
        criteria = with_loader_criteria(Owned, lambda cls: cls.tenant == 0, include_aliases=True)

        def walk(session):
            shops = session.scalars(SHOPS.options(criteria))
            return [[(p.id, [r.id for r in p.reviews]) for p in shop.products] for shop in shops]

        ran = both(walk, times=2)
        assert ran.counts[1] == 3

    def test_criteria_of_a_lambda_with_a_closure(self, both):
        for tenant in (0, 1):
            criteria = with_loader_criteria(Product, lambda cls: cls.tenant == tenant)  # noqa: B023 - the point
            ran = both(products_of(SHOPS.options(criteria)))
            assert {id_ // 2 % 2 for ids in ran.batched.seen for id_ in ids} == {tenant}

    def test_two_tenants_in_one_session(self, both):
        def walk(session):
            return [
                products_of(
                    SHOPS.where(Shop.id % 2 == t).options(with_loader_criteria(Product, Product.tenant == t))
                )(session)
                for t in (0, 1)
            ]

        ran = both(walk, times=2)
        assert ran.counts == (22, 4)

    def test_two_tenants_by_turns(self, both):
        """Objects of two queries, read alternately, keep to their own queries' criteria."""

        def walk(session):
            groups = [
                session.scalars(
                    SHOPS.where(Shop.id % 2 == t).options(with_loader_criteria(Product, Product.tenant == t))
                ).all()
                for t in (0, 1)
            ]
            return [[p.id for p in shop.products] for pair in zip(*groups, strict=True) for shop in pair]

        both(walk, times=2)

    @pytest.mark.parametrize("skips_relationship_loads", [True, False])
    def test_criteria_of_a_do_orm_execute_hook(self, engine, both, skips_relationship_loads):
        """The recipe of SQLAlchemy's documentation, and its variant that adds criteria to every SELECT."""
        tenant = ContextVar("tenant", default=1)
        tenant_session = sessionmaker(engine, class_=type("TenantSession", (Session,), {}))

        @event.listens_for(tenant_session, "do_orm_execute")
        def filter_by_tenant(execution):
            if (
                execution.is_select
                and not execution.is_column_load
                and not (skips_relationship_loads and execution.is_relationship_load)
            ):
                execution.statement = execution.statement.options(
                    with_loader_criteria(Product, Product.tenant == tenant.get())
                )

        def walk(_session):
            with tenant_session() as session:
                return products_of(SHOPS)(session)

        ran = both(walk, times=2)
        assert ran.counts == (21, 2)
        assert sum(map(len, ran.batched.seen)) == 50

    def test_a_hook_that_looks_for_lazy_loads(self, engine, both):
        class HookedSession(Session):
            pass

        @event.listens_for(HookedSession, "do_orm_execute")
        def hide_deleted(execution):
            if execution.is_select and execution.lazy_loaded_from is not None:
                execution.statement = execution.statement.where(Product.is_deleted.is_(False))

        def walk(_session):
            with HookedSession(engine) as session:
                return products_of(SHOPS)(session)

        ran = both(walk, times=2)
        assert sum(map(len, ran.batched.seen)) == 91


class TestNestedOptions:
    def test_defer_below_a_lazy_load(self, both):
        def walk(session):
            shops = session.scalars(SHOPS.options(lazyload(Shop.products).defer(Product.name))).all()
            loaded = [["name" in p.__dict__ for p in shop.products] for shop in shops]
            return loaded, [p.name for p in shops[0].products]

        ran = both(walk, times=2)
        assert not any(flag for flags in ran.batched.seen[0] for flag in flags)

    def test_load_only_below_a_lazy_load(self, both):
        option = lazyload(Shop.products).load_only(Product.tenant)
        both(
            lambda s: [
                [sorted(p.__dict__) for p in shop.products] for shop in s.scalars(SHOPS.options(option))
            ]
        )

    def test_undefer_below_a_lazy_load(self, both):
        option = lazyload(Shop.products).undefer(Product.notes)
        ran = both(
            lambda s: [[p.notes for p in shop.products] for shop in s.scalars(SHOPS.options(option))], times=2
        )
        assert ran.counts == (21, 2)

    def test_options_of_a_many_to_one(self, both):
        option = lazyload(Product.brand).load_only(Brand.tenant)
        both(lambda s: [sorted(p.brand.__dict__) for p in s.scalars(PRODUCTS.options(option))])

    @pytest.mark.parametrize("load", [joinedload, selectinload, subqueryload, immediateload])
    def test_eager_loading_below_a_lazy_load(self, both, load):
        option = lazyload(Shop.products).options(load(Product.reviews), load(Product.brand))

        def walk(session):
            shops = session.scalars(SHOPS.options(option))
            return [[(p.brand.name, [r.id for r in p.reviews]) for p in shop.products] for shop in shops]

        both(walk, times=2)

    def test_criteria_of_a_nested_option(self, both):
        option = lazyload(Shop.products).selectinload(Product.reviews.and_(Review.tenant == 1))
        ran = both(
            lambda s: [
                [r.id for p in shop.products for r in p.reviews] for shop in s.scalars(SHOPS.options(option))
            ],
            times=2,
        )
        assert all(id_ % 2 for ids in ran.batched.seen for id_ in ids)

    def test_lazyload_with_criteria_stays_lazy(self, both):
        option = lazyload(Shop.products.and_(Product.tenant == 1))
        ran = both(products_of(SHOPS.options(option)), times=2)
        assert ran.batched == ran.lazy

    def test_lazyload_of_an_eager_relationship(self, both):
        shops = select(EagerShop).options(lazyload(EagerShop.selected)).order_by(EagerShop.id)
        ran = both(lambda s: [[p.id for p in shop.selected] for shop in s.scalars(shops)], times=2)
        assert ran.counts == (41, 22)  # `immediate` sends one for each, as it always does

    def test_deferred_foreign_key(self, both):
        products = PRODUCTS.options(defer(Product.brand_id))
        both(lambda s: [p.brand.name for p in s.scalars(products)], times=2)

    def test_load_only_without_the_foreign_key(self, both):
        products = PRODUCTS.options(load_only(Product.id))
        both(lambda s: [p.brand.name for p in s.scalars(products)], times=2)

    def test_eager_loads_stay_as_they_are(self, both):
        shops = SHOPS.options(selectinload(Shop.products).joinedload(Product.brand))
        ran = both(lambda s: [[p.brand.name for p in shop.products] for shop in s.scalars(shops)])
        assert ran.batched == ran.lazy

    def test_contains_eager_collections_are_kept(self, both):
        shops = (
            select(Shop)
            .join(Shop.products)
            .where(Product.tenant == 1)
            .options(contains_eager(Shop.products))
            .order_by(Shop.id)
        )

        def walk(session):
            return [[(p.id, p.brand.id) for p in shop.products] for shop in session.scalars(shops).unique()]

        both(walk, times=2)

    def test_column_properties_and_deferred_columns_are_not_relationships(self, both):
        both(lambda s: [(p.notes, p.brand.name_twice) for p in s.scalars(PRODUCTS.limit(10))], times=2)

    def test_undeferred_group_of_the_parents(self, both):
        products = PRODUCTS.options(undefer(Product.notes))
        both(lambda s: [(p.notes, p.brand.name) for p in s.scalars(products)], times=2)


class TestWhatIsNotLazy:
    @pytest.mark.parametrize("name", ["raising", "raising_on_sql"])
    def test_raising_relationships_raise(self, engine, batching, name):
        with Session(engine) as session:
            for shop in session.scalars(SHOPS):
                _ = shop.products
                with pytest.raises(InvalidRequestError, match="is not available due to lazy"):
                    getattr(shop, name)

    @pytest.mark.parametrize("sql_only", [True, False])
    def test_raiseload_option(self, engine, batching, sql_only):
        with Session(engine) as session:
            for shop in session.scalars(SHOPS.options(raiseload(Shop.products, sql_only=sql_only))):
                with pytest.raises(InvalidRequestError, match="is not available due to lazy"):
                    _ = shop.products

    def test_raiseload_below_a_lazy_load(self, engine, batching):
        with Session(engine) as session:
            for shop in session.scalars(SHOPS.options(lazyload(Shop.products).raiseload(Product.brand))):
                for product in shop.products:
                    with pytest.raises(InvalidRequestError, match="is not available due to lazy"):
                        _ = product.brand

    def test_a_loaded_sibling_does_not_open_what_another_query_closed(self, engine, batching):
        with Session(engine) as session:
            open_ = session.scalars(SHOPS.where(Shop.id < 10)).all()
            closed = session.scalars(SHOPS.where(Shop.id >= 10).options(raiseload(Shop.products))).all()
            assert sum(len(shop.products) for shop in open_) == 45
            with pytest.raises(InvalidRequestError):
                _ = closed[0].products

    def test_dynamic_relationships(self, both):
        ran = both(lambda s: [sorted(p.id for p in shop.dynamic) for shop in s.scalars(SHOPS)])
        assert ran.batched == ran.lazy

    def test_write_only_relationships(self, both):
        def walk(session):
            return [
                sorted(p.id for p in session.scalars(shop.write_only.select()))
                for shop in session.scalars(SHOPS)
            ]

        ran = both(walk)
        assert ran.batched == ran.lazy

    def test_immediateload(self, both):
        shops = SHOPS.options(immediateload(Shop.products))
        ran = both(products_of(shops))
        assert ran.batched == ran.lazy

    def test_enable_eagerloads_off(self, both):
        both(
            lambda s: [[p.id for p in x.selected] for x in s.query(EagerShop).enable_eagerloads(False)],
            times=2,
        )

    def test_noload(self, engine, batching):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated from 2.1 on
            option = noload(Shop.products)
        with Session(engine) as session:
            assert [shop.products for shop in session.scalars(SHOPS.options(option))] == [[]] * 20


class TestPopulateExisting:
    def test_values_that_wait_are_thrown_away(self, engine, both):
        def walk(session):
            shops = session.scalars(SHOPS).all()
            first = [[p.id for p in shop.products] for shop in shops[:3]]
            again = session.scalars(SHOPS.execution_options(populate_existing=True)).all()
            assert again == shops
            return first, [[p.id for p in shop.products] for shop in again]

        both(walk, times=2)

    def test_a_second_query_that_loads_eagerly(self, engine, both):
        def walk(session):
            shops = session.scalars(SHOPS).all()
            _ = [shop.products for shop in shops[:3]]
            session.scalars(SHOPS.options(selectinload(Shop.products))).all()
            return [[p.id for p in shop.products] for shop in shops]

        both(walk, times=2)
