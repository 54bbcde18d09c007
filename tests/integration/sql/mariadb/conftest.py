"""A real MariaDB, where it is installed; else these tests are skipped."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from upshift.testing.servers import mariadb
from upshift.testing.servers.mariadb_server import MariadbServer


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(50))


class Sale(Base):
    __tablename__ = "sale"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customer.id"))
    note: Mapped[str] = mapped_column(sa.String(50))
    customer: Mapped[Customer] = relationship()


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariadbServer]:
    if shutil.which("mariadbd") is None:
        pytest.skip("MariaDB is not installed (Debian's package mariadb-server has it)")
    if find_spec("pymysql") is None or find_spec("aiomysql") is None:
        pytest.skip("its drivers are not installed: pip install 'upshift[mysql]'")
    with mariadb() as server:
        yield server


@pytest.fixture(scope="module")
def shop(mariadb_server: MariadbServer) -> str:
    """The name of a database with forty sales of as many customers."""
    name = f"shop_{secrets.token_hex(4)}"
    mariadb_server.create_database(name)
    engine = sa.create_engine(mariadb_server.url(name, driver="pymysql"))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        numbers = range(1, 41)
        connection.execute(sa.insert(Customer), [{"id": i, "name": f"customer {i}"} for i in numbers])
        connection.execute(sa.insert(Sale), [{"id": i, "customer_id": i, "note": "x"} for i in numbers])
    engine.dispose()
    return name
