"""Every shape of relationship: a batched walk sees what a lazy walk sees, in far fewer statements."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Table,
    and_,
    create_engine,
    func,
    select,
)
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    aliased,
    attribute_keyed_dict,
    foreign,
    joinedload,
    mapped_column,
    registry,
    relationship,
    remote,
    selectinload,
)
from sqlalchemy.pool import StaticPool

AUTHORS = 30
POSTS_EACH = 4


class Base(DeclarativeBase):
    pass


post_tag = Table(
    "post_tag",
    Base.metadata,
    Column("post_id", ForeignKey("post.id"), index=True),
    Column("tag_id", ForeignKey("tag.id")),
)
friendship = Table(
    "friendship",
    Base.metadata,
    Column("one_id", ForeignKey("author.id"), primary_key=True),
    Column("other_id", ForeignKey("author.id"), primary_key=True),
)


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    country: Mapped[str | None]
    city: Mapped[str | None]
    posts: Mapped[list[Post]] = relationship(back_populates="author", order_by="Post.id")
    newest_first: Mapped[list[Post]] = relationship(
        viewonly=True, order_by=lambda: (Post.length.desc(), Post.id.desc())
    )
    posts_as_set: Mapped[set[Post]] = relationship(viewonly=True)
    posts_by_title: Mapped[dict[str, Post]] = relationship(
        viewonly=True, collection_class=attribute_keyed_dict("title")
    )
    long_posts: Mapped[list[Post]] = relationship(
        viewonly=True,
        primaryjoin=lambda: and_(Author.id == foreign(Post.author_id), Post.length > 50),
        order_by=lambda: Post.id,
    )
    profile: Mapped[Profile | None] = relationship(back_populates="author", uselist=False)
    place: Mapped[Place | None] = relationship()
    # Neither end is a primary key.
    compatriots: Mapped[list[Author]] = relationship(
        viewonly=True,
        uselist=True,
        primaryjoin=lambda: foreign(Author.country) == remote(Author.country),
        order_by=lambda: remote(Author.id),
    )
    friends: Mapped[list[Author]] = relationship(
        secondary=friendship,
        primaryjoin=lambda: Author.id == friendship.c.one_id,
        secondaryjoin=lambda: Author.id == friendship.c.other_id,
        order_by=lambda: Author.id,
    )


class Profile(Base):
    __tablename__ = "profile"
    id: Mapped[int] = mapped_column(primary_key=True)
    motto: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="profile")


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    length: Mapped[int]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="posts")
    tags: Mapped[list[Tag]] = relationship(secondary=post_tag, order_by="Tag.id", back_populates="posts")


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(secondary=post_tag, order_by="Post.id", back_populates="tags")


class Place(Base):
    __tablename__ = "place"
    country: Mapped[str] = mapped_column(primary_key=True)
    city: Mapped[str] = mapped_column(primary_key=True)
    streets: Mapped[list[Street]] = relationship(back_populates="place", order_by="Street.name")


Author.__table__.append_constraint(ForeignKeyConstraint(["country", "city"], ["place.country", "place.city"]))


class Street(Base):
    __tablename__ = "street"
    name: Mapped[str] = mapped_column(primary_key=True)
    country: Mapped[str] = mapped_column(primary_key=True)
    city: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[Place] = relationship(back_populates="streets")
    __table_args__ = (ForeignKeyConstraint(["country", "city"], ["place.country", "place.city"]),)


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    children: Mapped[list[Node]] = relationship(back_populates="parent", order_by="Node.id")
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side=[id])


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[list[Line]] = relationship(back_populates="order", order_by="Line.item_id")
    item_names = association_proxy("lines", "item_name")


class Line(Base):
    __tablename__ = "line"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    quantity: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="lines")
    item: Mapped[Item] = relationship()
    item_name = association_proxy("item", "name")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Unhashable(Base):
    """Equal to everything, and without a hash: only identity may tell such objects apart."""

    __tablename__ = "unhashable"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("unhashable.id"))
    owned: Mapped[list[Unhashable]] = relationship(order_by="Unhashable.id", back_populates="owner")
    owner: Mapped[Unhashable | None] = relationship(remote_side=[id], back_populates="owned")
    __hash__ = None

    def __eq__(self, other):
        return True

    def __bool__(self):
        return False


class Record(MappedAsDataclass, Base, unsafe_hash=False):
    __tablename__ = "record"
    id: Mapped[int] = mapped_column(primary_key=True)
    tracks: Mapped[list[Track]] = relationship(default_factory=list, order_by="Track.id")


class Track(MappedAsDataclass, Base):
    __tablename__ = "track"
    id: Mapped[int] = mapped_column(primary_key=True)
    record_id: Mapped[int | None] = mapped_column(ForeignKey("record.id"), default=None)


ranked = select(
    Post,
    func.row_number().over(order_by=(Post.length.desc(), Post.id), partition_by=Post.author_id).label("rank"),
).subquery()
RankedPost = aliased(Post, ranked)
Author.two_longest = relationship(
    RankedPost,
    viewonly=True,
    primaryjoin=and_(RankedPost.author_id == Author.id, ranked.c.rank <= 2),
    order_by=RankedPost.id,
)


@pytest.fixture(scope="module")
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        add_blog(session)
        session.add_all(Node(id=n, parent_id=n // 3 or None) for n in range(1, 122))
        items = [Item(id=n, name=f"item {n}") for n in range(1, 11)]
        session.add_all(
            Order(
                id=n,
                lines=[Line(item=items[(n + k * k) % 10], quantity=k) for k in range(n % 4) if k * k < 10],
            )
            for n in range(1, 31)
        )
        session.add_all(items)
        session.add_all(Unhashable(id=n, owner_id=n // 4 or None) for n in range(1, 41))
        session.add_all(Record(id=n, tracks=[Track(id=n * 10 + k) for k in range(3)]) for n in range(1, 21))
        session.commit()
    yield engine
    engine.dispose()


def add_blog(session):
    places = [Place(country=c, city=f"{c}{n}") for c in "ABC" for n in range(4)]
    session.add_all(places)
    session.add_all(
        Street(name=f"street {n}", country=place.country, city=place.city)
        for place in places
        for n in range(3)
    )
    tags = [Tag(id=n, name=f"tag {n}") for n in range(1, 9)]
    session.add_all(tags)
    session.flush()
    authors = []
    for n in range(1, AUTHORS + 1):
        place = None if n % 7 == 0 else places[n % len(places)]
        author = Author(id=n, name=f"author {n}", place=place)
        if n % 5:
            author.profile = Profile(id=n, motto=f"motto {n}")
        if n % 6:
            author.posts = [
                Post(
                    id=n * 10 + k,
                    title=f"post {k}",
                    length=n * 7 % 80 + k * 10,
                    tags=[
                        tags[n * j % 8]
                        for j in range(1, k + 1)
                        if len({n * i % 8 for i in range(1, j + 1)}) == j
                    ],
                )
                for k in range(POSTS_EACH)
            ]
        authors.append(author)
    session.add_all(authors)
    session.add_all(Post(id=n, title="orphan", length=1) for n in range(1, 10))
    session.flush()
    for n, author in enumerate(authors):
        author.friends = [authors[(n * k + k) % AUTHORS] for k in range(n % 4)]


def all_of(model):
    return select(model).order_by(*model.__mapper__.primary_key)


class TestEqualsLazy:
    """The learned number of statements is the one that a hand-written `selectinload` would send."""

    def test_one_to_many(self, both):
        ran = both(lambda s: [(a.id, [p.title for p in a.posts]) for a in s.scalars(all_of(Author))])
        assert ran.counts == (31, 4)

    def test_many_to_one(self, both):
        ran = both(lambda s: [p.author and p.author.name for p in s.scalars(all_of(Post))], times=2)
        assert ran.counts == (26, 2)

    def test_many_to_one_that_is_null_sends_nothing(self, both):
        orphans = all_of(Post).where(Post.author_id.is_(None))
        assert both(lambda s: [p.author for p in s.scalars(orphans)]).counts == (1, 1)

    def test_one_to_one_from_the_side_without_the_key(self, both):
        ran = both(lambda s: [a.profile and a.profile.motto for a in s.scalars(all_of(Author))], times=2)
        assert ran.counts == (31, 2)

    def test_one_to_one_from_the_side_with_the_key(self, both):
        ran = both(lambda s: [p.author.name for p in s.scalars(all_of(Profile))], times=2)
        assert ran.counts == (25, 2)

    def test_many_to_many(self, both):
        ran = both(lambda s: [[t.name for t in p.tags] for p in s.scalars(all_of(Post))], times=2)
        assert ran.counts == (110, 2)

    def test_many_to_many_from_the_other_side(self, both):
        ran = both(lambda s: [[p.id for p in t.posts] for t in s.scalars(all_of(Tag))], times=2)
        assert ran.counts == (9, 2)

    def test_many_to_many_of_one_class(self, both):
        ran = both(lambda s: [[f.id for f in a.friends] for a in s.scalars(all_of(Author))], times=2)
        assert ran.counts == (31, 2)

    def test_a_secondary_table_that_names_a_row_twice(self, engine, both):
        twice = [{"post_id": n, "tag_id": n} for n in (1, 2, 3, 4)] * 2
        with engine.begin() as connection:
            connection.execute(post_tag.insert(), twice)
        try:
            both(lambda s: [[t.name for t in p.tags] for p in s.scalars(all_of(Post))], times=2)
        finally:
            with engine.begin() as connection:
                connection.execute(post_tag.delete().where(post_tag.c.post_id < 10))

    def test_three_levels(self, both):
        def walk(session):
            authors = session.scalars(all_of(Author))
            return [[(p.id, [t.name for t in p.tags]) for p in a.posts] for a in authors]

        assert both(walk, times=2).counts == (131, 3)

    def test_as_many_statements_as_selectinload(self, engine, both, statements):
        def walk(session):
            return [[t.name for p in a.posts for t in p.tags] for a in session.scalars(all_of(Author))]

        by_hand = all_of(Author).options(selectinload(Author.posts).selectinload(Post.tags))
        with statements(engine) as sent, Session(engine) as session:
            seen = [[t.name for p in a.posts for t in p.tags] for a in session.scalars(by_hand)]
        ran = both(walk, times=2)
        assert ran.batched.seen == seen
        assert len(ran.batched.statements) == len(sent)

    def test_a_page_from_the_middle_is_loaded_from_where_it_begins(self, both):
        ran = both(lambda s: [len(p.tags) for p in s.scalars(select(Post).order_by(Post.id)).all()[90:100]])
        assert ran.counts == (1 + 10, 1 + 3)

    def test_composite_foreign_key(self, both):
        ran = both(lambda s: [a.place and a.place.city for a in s.scalars(all_of(Author))], times=2)
        assert ran.counts == (13, 2)

    def test_composite_primary_key(self, both):
        ran = both(lambda s: [[st.name for st in p.streets] for p in s.scalars(all_of(Place))], times=2)
        assert ran.counts == (13, 2)

    def test_join_condition_of_ones_own(self, both):
        ran = both(lambda s: [[p.id for p in a.long_posts] for a in s.scalars(all_of(Author))], times=2)
        assert ran.counts == (31, 2)

    def test_join_condition_without_a_primary_key(self, both):
        ran = both(lambda s: [[c.id for c in a.compatriots] for a in s.scalars(all_of(Author))], times=2)
        assert ran.counts == (31, 2)

    def test_relationship_to_an_aliased_class(self, both):
        """SQLAlchemy documentation, "Row-Limited Relationships with Window Functions"."""
        ran = both(lambda s: [[p.id for p in a.two_longest] for a in s.scalars(all_of(Author))], times=2)
        assert {len(ids) for ids in ran.batched.seen} == {0, 2}
        assert ran.counts == (31, 2)

    def test_order_of_the_relationship(self, both):
        ran = both(lambda s: [[p.id for p in a.newest_first] for a in s.scalars(all_of(Author))])
        assert any(ids != sorted(ids) for ids in ran.batched.seen)

    def test_set_collection(self, both):
        ran = both(lambda s: [{p.id for p in a.posts_as_set} for a in s.scalars(all_of(Author))], times=2)
        assert ran.counts == (31, 2)

    def test_dict_collection(self, both):
        def walk(session):
            return [
                {title: post.id for title, post in author.posts_by_title.items()}
                for author in session.scalars(all_of(Author))
            ]

        assert both(walk, times=2).counts == (31, 2)

    def test_association_object_through_proxies(self, both):
        ran = both(lambda s: [list(o.item_names) for o in s.scalars(all_of(Order))], times=3)
        assert ran.counts == (41, 3)

    def test_classes_without_hash_that_are_equal_to_everything(self, both):
        def walk(session):
            nodes = session.scalars(all_of(Unhashable)).all()
            return [[child.id for child in node.owned] for node in nodes], [
                None if node.owner is None else node.owner.id for node in nodes
            ]

        assert both(walk, times=2).counts == (41, 2)

    def test_dataclasses(self, both):
        ran = both(lambda s: [[t.id for t in r.tracks] for r in s.scalars(all_of(Record))], times=2)
        assert ran.counts == (21, 2)

    def test_imperative_mapping(self, engine, both):
        class Plain:
            pass

        class PlainPost:
            pass

        mapping = registry()
        mapping.map_imperatively(PlainPost, Post.__table__)
        mapping.map_imperatively(
            Plain,
            Author.__table__,
            properties={"posts": relationship(PlainPost, order_by=Post.__table__.c.id, viewonly=True)},
        )
        ran = both(lambda s: [[p.id for p in a.posts] for a in s.scalars(all_of(Plain))], times=2)
        assert ran.counts == (31, 2)
        mapping.dispose()


class TestTrees:
    def test_down_depth_first(self, both):
        def subtree(node):
            return [node.id, [subtree(child) for child in node.children]]

        ran = both(lambda s: subtree(s.get(Node, 1)), times=2)
        # The root and one for each level, for the leaves' empty ones as well.
        assert ran.counts == (82, 6)

    def test_up(self, both):
        def ancestors(node):
            return [] if node is None else [node.id, *ancestors(node.parent)]

        leaves = select(Node).where(Node.id > 90).order_by(Node.id)
        ran = both(lambda s: [ancestors(n) for n in s.scalars(leaves).all()], times=2)
        assert ran.counts == (19, 5)

    def test_siblings_of_each_node(self, both):
        def walk(session):
            nodes = session.scalars(all_of(Node))
            return [[s.id for s in node.parent.children] for node in nodes if node.parent]

        both(walk, times=2)


class TestQueries:
    def test_objects_that_came_along_by_joinedload(self, both):
        posts = all_of(Post).options(joinedload(Post.author))
        ran = both(
            lambda s: [
                p.author and p.author.profile.motto
                for p in s.scalars(posts)
                if p.author_id and p.author.id % 5
            ],
            times=2,
        )
        assert ran.counts == (21, 2)

    def test_objects_that_came_along_by_selectinload(self, both):
        authors = all_of(Author).options(selectinload(Author.posts))
        ran = both(lambda s: [[t.id for p in a.posts for t in p.tags] for a in s.scalars(authors)], times=2)
        assert ran.counts == (102, 3)

    def test_two_entities_a_row(self, both):
        rows = select(Post, Author).join(Post.author).order_by(Post.id)
        ran = both(
            lambda s: [([t.id for t in p.tags], a.profile and a.profile.id) for p, a in s.execute(rows)],
            times=2,
        )
        assert ran.counts == (126, 3)

    def test_one_class_by_two_paths_of_a_query(self, both):
        other = aliased(Author)
        rows = select(Author, other).join(other, other.id == Author.id + 1).order_by(Author.id)
        both(lambda s: [(len(a.posts), len(b.posts)) for a, b in s.execute(rows)], times=2)

    def test_aliased_entity(self, both):
        alias = aliased(Author)
        ran = both(
            lambda s: [[p.id for p in a.posts] for a in s.scalars(select(alias).order_by(alias.id))], times=2
        )
        assert ran.counts == (31, 2)

    def test_entity_of_a_subquery(self, both):
        inner = select(Author).where(Author.id < 20).limit(15).subquery()
        alias = aliased(Author, inner)
        ran = both(
            lambda s: [[p.id for p in a.posts] for a in s.scalars(select(alias).order_by(alias.id))], times=2
        )
        assert ran.counts == (16, 2)

    def test_entity_of_a_statement(self, both):
        statement = select(Author).from_statement(select(Author.__table__).order_by(Author.__table__.c.id))
        ran = both(lambda s: [[p.id for p in a.posts] for a in s.scalars(statement)], times=2)
        assert ran.counts == (31, 2)

    def test_legacy_query(self, both):
        ran = both(lambda s: [[p.id for p in a.posts] for a in s.query(Author).order_by(Author.id)], times=2)
        assert ran.counts == (31, 2)

    def test_core_statements_of_a_session_pass(self, both):
        ran = both(lambda s: s.execute(select(func.count()).select_from(Author.__table__)).scalar())
        assert ran.counts == (1, 1)

    def test_streaming(self, both):
        stream = all_of(Author).execution_options(yield_per=7)
        ran = both(lambda s: [[p.id for p in a.posts] for a in s.scalars(stream)], times=2)
        assert ran.counts == (31, 6)


class TestOverFetch:
    def test_one_object_alone_costs_what_lazy_costs(self, both):
        ran = both(lambda s: [p.id for p in s.get(Author, 3).posts], times=3)
        assert ran.batched == ran.lazy

    def test_one_of_many_costs_what_lazy_costs(self, both):
        def walk(session):
            authors = session.scalars(all_of(Author)).all()
            return [p.id for p in authors[17].posts], len(session.identity_map)

        ran = both(walk, times=3)
        assert ran.batched == ran.lazy

    def test_batches_grow_with_the_reads(self, engine, batching):
        with Session(engine) as session:
            authors = session.scalars(all_of(Author)).all()
            loaded = []
            for author in authors:
                _ = author.posts
                loaded.append(sum(isinstance(o, Post) for o in session.identity_map.values()) // POSTS_EACH)
        # 25 of 30 authors have posts: one alone, then eight at a time, then the rest.
        assert sorted(set(loaded)) == [1, 8, 25]

    def test_objects_of_the_identity_map_are_not_loaded_again(self, engine, batching, statements):
        with Session(engine) as session:
            kept = session.scalars(select(Author).where(Author.id > 3)).all()
            posts = session.scalars(all_of(Post)).all()
            with statements(engine) as sent:
                names = [p.author.name for p in posts if p.author]
        assert len(kept) == 27
        assert len(names) == 100
        assert len(sent) == 2  # authors 1 (alone), then 2 and 3

    def test_a_row_that_is_not_there_is_asked_for_once(self, engine, both):
        with engine.begin() as connection:
            connection.execute(Post.__table__.update().where(Post.id < 10).values(author_id=999))
        try:
            ran = both(lambda s: [p.author for p in s.scalars(select(Post).where(Post.id < 10))])
        finally:
            with engine.begin() as connection:
                connection.execute(Post.__table__.update().where(Post.id < 10).values(author_id=None))
        assert ran.lazy.seen == [None] * 9
        assert ran.counts == (10, 3)
