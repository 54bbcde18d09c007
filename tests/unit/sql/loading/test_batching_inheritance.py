"""Objects of several classes in one result, and relationships that lead to several classes."""

from __future__ import annotations

import pytest
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.ext.declarative import AbstractConcreteBase, ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    configure_mappers,
    lazyload,
    mapped_column,
    relationship,
    selectin_polymorphic,
    with_polymorphic,
)
from sqlalchemy.pool import StaticPool


class Base(DeclarativeBase):
    pass


class Company(Base):
    __tablename__ = "company"
    id: Mapped[int] = mapped_column(primary_key=True)
    staff: Mapped[list[Employee]] = relationship(back_populates="company", order_by="Employee.id")
    managers: Mapped[list[Manager]] = relationship(viewonly=True, order_by="Employee.id")
    engineers: Mapped[list[Engineer]] = relationship(viewonly=True, order_by="Employee.id")


class Employee(Base):
    """Joined-table inheritance below (Manager), single-table inheritance below that (Engineer, Intern)."""

    __tablename__ = "employee"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    company_id: Mapped[int] = mapped_column(ForeignKey("company.id"))
    company: Mapped[Company] = relationship(back_populates="staff")
    tasks: Mapped[list[Task]] = relationship(order_by="Task.id", back_populates="assignee")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}


class Manager(Employee):
    __tablename__ = "manager"
    id: Mapped[int] = mapped_column(ForeignKey("employee.id"), primary_key=True)
    budget: Mapped[int]
    # The same name means something else for an engineer.
    work: Mapped[list[Report]] = relationship(order_by="Report.id")
    deputy_id: Mapped[int | None] = mapped_column(ForeignKey("manager.id"))
    deputy: Mapped[Manager | None] = relationship(
        foreign_keys=deputy_id, remote_side=lambda: Manager.__table__.c.id
    )
    __mapper_args__ = {"polymorphic_identity": "manager", "inherit_condition": id == Employee.id}


class Engineer(Employee):
    language: Mapped[str | None]
    work: Mapped[list[Task]] = relationship(viewonly=True, order_by="Task.id")
    __mapper_args__ = {"polymorphic_identity": "engineer"}


class Intern(Engineer):
    mentor_id: Mapped[int | None] = mapped_column(ForeignKey("employee.id"))
    mentor: Mapped[Engineer | None] = relationship(
        foreign_keys=mentor_id, remote_side=lambda: Employee.__table__.c.id
    )
    __mapper_args__ = {"polymorphic_identity": "intern", "inherit_condition": None}


class Task(Base):
    __tablename__ = "task"
    id: Mapped[int] = mapped_column(primary_key=True)
    assignee_id: Mapped[int] = mapped_column(ForeignKey("employee.id"))
    assignee: Mapped[Employee] = relationship(back_populates="tasks", foreign_keys=assignee_id)
    managed_by: Mapped[Manager | None] = relationship(viewonly=True, foreign_keys=assignee_id)


class Report(Base):
    __tablename__ = "report"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("manager.id"))


class Depot(Base):
    __tablename__ = "depot"
    id: Mapped[int] = mapped_column(primary_key=True)
    trucks: Mapped[list[Truck]] = relationship(order_by="Truck.id", back_populates="depot")
    vehicles: Mapped[list[Vehicle]] = relationship(viewonly=True, order_by="Vehicle.id")
    circles: Mapped[list[Circle]] = relationship(viewonly=True, order_by="Circle.id")


class Vehicle(ConcreteBase, Base):
    __tablename__ = "vehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    depot_id: Mapped[int] = mapped_column(ForeignKey("depot.id"))
    depot: Mapped[Depot] = relationship(viewonly=True)
    __mapper_args__ = {"polymorphic_identity": "vehicle", "concrete": True}


class Truck(Vehicle):
    __tablename__ = "truck"
    id: Mapped[int] = mapped_column(primary_key=True)
    depot_id: Mapped[int] = mapped_column(ForeignKey("depot.id"))
    depot: Mapped[Depot] = relationship(back_populates="trucks")
    __mapper_args__ = {"polymorphic_identity": "truck", "concrete": True}


class Trip(Base):
    __tablename__ = "trip"
    id: Mapped[int] = mapped_column(primary_key=True)
    vehicle_id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"))
    truck_id: Mapped[int] = mapped_column(ForeignKey("truck.id"))
    vehicle: Mapped[Vehicle] = relationship()
    truck: Mapped[Truck] = relationship()


class Shape(AbstractConcreteBase, Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    strict_attrs = True


class Circle(Shape):
    __tablename__ = "circle"
    radius: Mapped[int]
    depot_id: Mapped[int] = mapped_column(ForeignKey("depot.id"))
    depot: Mapped[Depot] = relationship(viewonly=True)
    __mapper_args__ = {"polymorphic_identity": "circle", "concrete": True}


class Square(Shape):
    __tablename__ = "square"
    side: Mapped[int]
    depot_id: Mapped[int] = mapped_column(ForeignKey("depot.id"))
    depot: Mapped[Depot] = relationship(viewonly=True)
    __mapper_args__ = {"polymorphic_identity": "square", "concrete": True}


@pytest.fixture(scope="module")
def engine():
    configure_mappers()
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Company(id=n) for n in range(1, 11))
        for n in range(1, 61):
            company = n % 10 + 1
            name = f"employee {n}"
            match n % 4:
                case 0:
                    deputy = n - 4 if n > 20 else None
                    session.add(Manager(id=n, name=name, company_id=company, budget=n, deputy_id=deputy))
                    session.flush()
                    session.add_all(Report(id=n * 10 + k, author_id=n) for k in range(n % 3))
                case 1:
                    session.add(Engineer(id=n, name=name, company_id=company, language=f"language {n}"))
                case 2:
                    session.add(Intern(id=n, name=name, company_id=company, mentor_id=n - 1))
                case _:
                    session.add(Employee(id=n, name=name, company_id=company))
            session.flush()
            session.add_all(Task(id=n * 10 + k, assignee_id=n) for k in range(n % 5))
        session.add_all(Depot(id=n) for n in range(1, 6))
        session.flush()
        session.add_all(Vehicle(id=n, depot_id=n % 5 + 1) for n in range(1, 21))
        session.add_all(Truck(id=n, depot_id=n % 5 + 1) for n in range(21, 41))
        session.flush()
        session.add_all(Trip(id=n, vehicle_id=n, truck_id=20 + n) for n in range(1, 21))
        session.add_all(Circle(id=n, depot_id=n % 5 + 1, radius=n) for n in range(1, 21))
        session.add_all(Square(id=n, depot_id=n % 5 + 1, side=n) for n in range(21, 41))
        session.commit()
    yield engine
    engine.dispose()


def all_of(model):
    return select(model).order_by(model.id)


def ids(objects):
    return [(type(one).__name__, one.id) for one in objects]


class TestParents:
    def test_relationship_of_the_base_class(self, both):
        ran = both(lambda s: [ids(e.tasks) for e in s.scalars(all_of(Employee))], times=2)
        assert ran.counts == (61, 2)

    def test_many_to_one_of_the_base_class(self, both):
        ran = both(lambda s: [e.company.id for e in s.scalars(all_of(Employee))], times=2)
        assert ran.counts == (11, 2)

    def test_one_name_for_different_relationships(self, both):
        """A value that was loaded for managers' `work` must not wait in an engineer's."""
        both(lambda s: [ids(e.work) for e in s.scalars(all_of(Employee)) if hasattr(e, "work")], times=2)

    def test_relationship_of_one_subclass_among_others(self, both):
        def walk(session):
            return [
                e.mentor and e.mentor.id for e in session.scalars(all_of(Employee)) if isinstance(e, Intern)
            ]

        both(walk, times=2)

    def test_many_to_one_of_a_joined_subclass(self, both):
        both(lambda s: [m.deputy and m.deputy.name for m in s.scalars(all_of(Manager))], times=2)

    @pytest.mark.parametrize("of_base_class", [True, False])
    def test_with_polymorphic(self, both, of_base_class):
        everyone = with_polymorphic(Employee, [Manager, Engineer])
        statement = select(everyone).order_by(everyone.id)

        def walk(session):
            return [
                ids(e.tasks) if of_base_class else ids(getattr(e, "work", []))
                for e in session.scalars(statement)
            ]

        both(walk, times=2)

    def test_selectin_polymorphic(self, both):
        statement = all_of(Employee).options(selectin_polymorphic(Employee, [Manager, Engineer]))
        both(lambda s: [ids(getattr(e, "work", [])) for e in s.scalars(statement)], times=2)

    def test_children_of_lazily_loaded_polymorphic_objects_are_one_cohort(self, both):
        def walk(session):
            return [ids(e.tasks) for c in session.scalars(all_of(Company)) for e in c.staff]

        ran = both(walk, times=2)
        assert ran.counts == (71, 3)

    def test_and_with_options_too(self, both):
        companies = all_of(Company).options(lazyload(Company.staff).lazyload(Employee.tasks))

        def walk(session):
            return [ids(e.tasks) for c in session.scalars(companies) for e in c.staff]

        ran = both(walk, times=2)
        assert ran.counts == (71, 3)


class TestTargets:
    def test_polymorphic_collection(self, both):
        ran = both(lambda s: [ids(c.staff) for c in s.scalars(all_of(Company))], times=2)
        assert ran.counts == (11, 2)

    def test_collection_of_a_joined_subclass(self, both):
        ran = both(lambda s: [ids(c.managers) for c in s.scalars(all_of(Company))], times=2)
        assert ran.counts == (11, 2)

    def test_collection_of_a_single_table_subclass(self, both):
        ran = both(lambda s: [ids(c.engineers) for c in s.scalars(all_of(Company))], times=2)
        assert ran.counts == (11, 2)

    def test_polymorphic_many_to_one(self, both):
        ran = both(lambda s: [ids([t.assignee]) for t in s.scalars(all_of(Task))], times=2)
        assert ran.counts == (49, 2)

    def test_many_to_one_to_a_subclass_that_the_row_is_not_of(self, both):
        ran = both(lambda s: [t.managed_by and t.managed_by.id for t in s.scalars(all_of(Task))], times=2)
        assert ran.counts[1] == 2
        assert None in ran.batched.seen

    def test_many_to_one_to_an_object_of_another_class_in_the_session(self, both):
        def walk(session):
            everyone = session.scalars(all_of(Employee)).all()
            return len(everyone), [t.managed_by and t.managed_by.id for t in session.scalars(all_of(Task))]

        ran = both(walk)
        assert ran.counts == (2, 2)


class TestConcrete:
    @pytest.mark.parametrize("model", [Vehicle, Truck])
    def test_concrete_parents(self, both, model):
        ran = both(lambda s: [(ids([v]), v.depot.id) for v in s.scalars(all_of(model))], times=2)
        assert ran.counts[1] <= 3

    @pytest.mark.parametrize("name", ["trucks", "vehicles"])
    def test_targets_read_from_a_polymorphic_union_stay_lazy(self, both, name):
        """SQLAlchemy 2.0's selectin loader brings the rows of every parent for each of them."""
        ran = both(lambda s: [ids(getattr(d, name)) for d in s.scalars(all_of(Depot))], times=2)
        assert ran.batched == ran.lazy

    def test_concrete_targets_read_from_their_table(self, both):
        ran = both(lambda s: [ids(d.circles) for d in s.scalars(all_of(Depot))], times=2)
        assert ran.counts == (6, 2)

    def test_many_to_one_read_from_a_polymorphic_union_stays_lazy(self, both):
        ran = both(lambda s: [ids([t.vehicle, t.truck]) for t in s.scalars(all_of(Trip))], times=2)
        assert ran.counts == (41, 41)

    @pytest.mark.parametrize("model", [Shape, Circle, Square])
    def test_abstract_concrete_parents(self, both, model):
        ran = both(lambda s: [(ids([v]), v.depot.id) for v in s.scalars(all_of(model))], times=2)
        assert ran.counts[1] <= 3
