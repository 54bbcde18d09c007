"""Stored answers of a small application beside its own, while another process writes to its data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from upshift.cli.demo.agreement import find_agreement
from upshift.cli.demo.manifest import Endpoint, Manifest
from upshift.cli.demo.writing import writing
from upshift.errors import ApplicationLoadError

WRITER = """
import sqlite3
from sqlalchemy.orm import Session
from shop import Book, engine

def work(random):
    with Session(engine) as session:
        session.add(Book(author_id=random.randint(1, 20), title="new"))
        session.commit()

def work_unseen(random):
    with sqlite3.connect(engine.url.database) as connection:
        connection.execute("INSERT INTO book (author_id, title) VALUES (1, 'new')")
    connection.close()

def fail(random):
    raise LookupError("nothing to sell")
"""


@pytest.fixture
def url(shop):
    (shop / "writer.py").write_text(WRITER)
    url = f"sqlite:///{shop / 'stored.db'}"
    subprocess.run(
        [sys.executable, "-c", "import shop; shop.fill()"],
        cwd=shop,
        env={**os.environ, "DATABASE_URL": url},
        check=True,
    )
    return url


@pytest.fixture
def manifest(shop):
    return Manifest(
        name="Shop",
        app="shop:app",
        app_dir=str(shop),
        load="dataset",
        database_url_variable="DATABASE_URL",
        endpoint=(Endpoint("author list", ("/authors",)), Endpoint("author", ("/authors/1", "/authors/2"))),
        responses=("/authors*",),
        write="writer:work",
    )


def naming(manifest, write):
    return Manifest(
        **{each: getattr(manifest, each) for each in manifest.__struct_fields__} | {"write": write}
    )


def test_stored_answers_are_those_of_the_application_while_another_process_writes(
    manifest, url, tmp_path: Path
):
    found = find_agreement(manifest, url, tmp_path / "cache.page", seconds=3.0)

    assert found.bodies.keys() == {"/authors", "/authors/1", "/authors/2"}
    assert found.stale == ()
    assert found.writes > 2
    assert found.compared >= found.hits > 2


def test_a_writer_that_nobody_is_told_of_is_found(manifest, url, tmp_path: Path):
    found = find_agreement(naming(manifest, "writer:work_unseen"), url, tmp_path / "cache.page", seconds=3.0)

    assert found.stale == ("/authors",)


def test_a_writer_that_fails_is_told_with_what_it_said(manifest, url, tmp_path: Path):
    with (
        pytest.raises(ApplicationLoadError, match="could not be written to: LookupError: nothing to sell"),
        writing(naming(manifest, "writer:fail"), url, tmp_path / "cache.page", per_second=5.0),
    ):
        pass
