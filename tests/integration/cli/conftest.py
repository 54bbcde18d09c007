"""Small applications in folders of their own, for commands that boot one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOP = """
import os
from fastapi import FastAPI, HTTPException
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

engine = create_engine(os.environ["DATABASE_URL"])
app = FastAPI()

class Base(DeclarativeBase): pass

class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list["Book"]] = relationship()

class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    title: Mapped[str]

@app.get("/authors")
def authors():
    with Session(engine) as session:
        return [
            {"id": author.id, "books": len(author.books)}
            for author in session.scalars(select(Author).order_by(Author.id).limit(20))
        ]

@app.get("/authors/{author_id}")
def author(author_id: int):
    with Session(engine) as session:
        return {"id": session.get_one(Author, author_id).id}

@app.get("/me")
def me():
    raise HTTPException(401)

def fill():
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Author(id=i) for i in range(1, 501))
        session.flush()
        session.add_all(Book(author_id=i % 500 + 1, title="t" * 40) for i in range(5000))
        session.commit()
"""


@pytest.fixture
def run(tmp_path):
    """Run `upshift` in the folder of the application; gives the finished process."""

    def run(*arguments, timeout=100, **variables):
        return subprocess.run(
            [sys.executable, "-m", "upshift", *arguments],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def shop(tmp_path) -> Path:
    """A shop on SQLite with an N+1 on `Author.books` and no index on `book.author_id`."""
    (tmp_path / "shop.py").write_text(SHOP)
    _fill(tmp_path, f"sqlite:///{tmp_path / 'shop.db'}")
    return tmp_path


@pytest.fixture
def shop_on_postgres(tmp_path, postgres_database) -> str:
    """The same shop on PostgreSQL; gives its URL."""
    (tmp_path / "shop.py").write_text(SHOP)
    _fill(tmp_path, postgres_database)
    return postgres_database


def _fill(folder: Path, url: str) -> None:
    subprocess.run(
        [sys.executable, "-c", "import shop; shop.fill()"],
        cwd=folder,
        env={**os.environ, "DATABASE_URL": url},
        check=True,
    )
