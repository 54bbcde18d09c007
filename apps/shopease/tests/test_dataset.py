"""Loading the data set, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from shopease.config import with_driver
from shopease.dataset import AlreadyLoadedError, load, main
from shopease.models import Base, Category, Review
from sqlalchemy import Engine, create_engine, func, insert, inspect, select

from upshift.testing.servers import PostgresServer

TINY = 0.005


@pytest.fixture(params=["postgresql", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
        yield engine
        engine.dispose()
        return
    server: PostgresServer = request.getfixturevalue("server")
    server.create_database("loading")
    engine = create_engine(with_driver(server.url("loading")))
    yield engine
    engine.dispose()
    server.drop_database("loading")


def count(engine: Engine, model: type[Base]) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(model))


def test_load_reports_what_is_in_the_tables(engine: Engine) -> None:
    counts = load(engine, scale=TINY)
    assert counts["reviews"] == count(engine, Review) == 500
    assert set(counts) == set(Base.metadata.tables)


def test_load_refuses_tables_with_rows_and_leaves_them_alone(engine: Engine) -> None:
    load(engine, scale=TINY)
    with pytest.raises(AlreadyLoadedError, match=r"has rows already, in .*reviews.*--reset"):
        load(engine, scale=0.01)
    assert count(engine, Review) == 500


def test_load_fills_tables_that_are_there_and_empty(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    load(engine, scale=TINY)
    assert count(engine, Review) == 500


def test_reset_replaces_what_is_there(engine: Engine) -> None:
    load(engine, scale=TINY)
    load(engine, scale=0.01, reset=True)
    assert count(engine, Review) == 1_000


def test_next_row_gets_the_next_id(engine: Engine) -> None:
    load(engine, scale=TINY)
    with engine.begin() as connection:
        added = connection.execute(insert(Category).values(slug="wine", name="Wine"))
    assert added.inserted_primary_key == (17,)


def test_schema_is_that_of_the_models(engine: Engine) -> None:
    load(engine, scale=TINY)
    found = inspect(engine)
    for table in Base.metadata.sorted_tables:
        parents = {
            key["constrained_columns"][0]: key["referred_table"] for key in found.get_foreign_keys(table.name)
        }
        assert parents == {key.parent.name: key.column.table.name for key in table.foreign_keys}
        assert found.get_pk_constraint(table.name)["constrained_columns"] == ["id"]


def test_failed_load_leaves_no_rows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(scale: float) -> dict[str, Iterator[tuple]]:
        rows = generated(scale)
        return rows | {"order_items": fail()}

    def fail() -> Iterator[tuple]:
        yield 1, 1, 1, 1, 100
        raise KeyboardInterrupt

    from shopease import dataset

    generated = dataset.generate
    monkeypatch.setattr(dataset, "generate", broken)
    with pytest.raises(KeyboardInterrupt):
        load(engine, scale=TINY)
    with engine.connect() as connection:
        assert dataset.filled_tables(connection) == []


def test_command_loads_and_says_how_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--url", f"sqlite:///{tmp_path / 'shop.db'}", "--scale", "0.005"])
    assert "500 reviews" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "scale", "message"),
    [
        ("postgresql://127.0.0.1:1/shop", "0.005", "connection"),
        ("sqlite:///{directory}/missing/shop.db", "0.005", "unable to open database file"),
        ("sqlite:///{directory}/shop.db", "0", "not between"),
        ("no url", "0.005", "Could not parse"),
    ],
)
def test_command_ends_with_a_message(tmp_path: Path, url: str, scale: str, message: str) -> None:
    with pytest.raises(SystemExit, match=f"was not loaded: .*{message}"):
        main(["--url", url.format(directory=tmp_path), "--scale", scale])
