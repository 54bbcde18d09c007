"""`upshift find` and `upshift index apply`, as a user runs them."""

import json

import pytest
from sqlalchemy import create_engine, inspect


def url(shop):
    return f"sqlite:///{shop / 'shop.db'}"


def indexed_columns(url):
    engine = create_engine(url)
    try:
        return [index["column_names"] for index in inspect(engine).get_indexes("book")]
    finally:
        engine.dispose()


def line_of(shop, text):
    lines = (shop / "shop.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_an_n_plus_one_is_found_at_its_line_and_fails_the_command(run, shop):
    finished = run("find", "shop:app", DATABASE_URL=url(shop))

    assert finished.returncode == 1
    assert f"UP101 error   shop.py:{line_of(shop, 'len(author.books)')} authors" in finished.stdout
    assert "select(Author).options(selectinload(Author.books))" in finished.stdout


def test_fail_on_never_always_ends_well(run, shop):
    assert run("find", "shop:app", "--fail-on", "never", DATABASE_URL=url(shop)).returncode == 0


def test_a_route_that_needs_a_login_is_told_with_the_header_to_give(run, shop):
    finished = run("find", "shop:app", DATABASE_URL=url(shop))

    assert "1 skipped" in finished.stdout
    assert "--header" in finished.stdout


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_a_document_is_all_that_standard_output_has(run, shop, form):
    finished = run("find", "shop:app", "--format", form, DATABASE_URL=url(shop))

    assert json.loads(finished.stdout)


def test_a_fix_that_is_on_is_not_advised_again(run, shop):
    finished = run("find", "shop:app", "--fail-on", "error", DATABASE_URL=url(shop), UPSHIFT_BATCHING="true")

    assert "UP101" not in finished.stdout
    assert finished.returncode == 0


def test_findings_lead_to_indexes_and_back(run, shop_on_postgres, tmp_path):
    found = run("find", "shop:app", "--format", "json", DATABASE_URL=shop_on_postgres)
    (tmp_path / "findings.json").write_text(found.stdout)

    applied = run("index", "apply", "--from", "findings.json", "--url", shop_on_postgres)
    again = run("find", "shop:app", DATABASE_URL=shop_on_postgres)
    built = indexed_columns(shop_on_postgres)
    undone = run("index", "apply", "--undo", "--url", shop_on_postgres)

    assert (applied.returncode, undone.returncode) == (0, 0), applied.stderr + undone.stderr
    assert built == [["author_id"]]
    assert "UP201" not in again.stdout
    assert indexed_columns(shop_on_postgres) == []


def test_looking_for_indexes_leaves_none_behind(run, shop_on_postgres):
    found = run("find", "shop:app", DATABASE_URL=shop_on_postgres)

    assert "UP201" in found.stdout
    assert indexed_columns(shop_on_postgres) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere:app",), "No module named 'nowhere'"),
        (("shop:nothing",), "has no 'nothing'"),
        (("shop",), "module:app"),
        (("shop:app", "--header", "no colon"), "write 'Name: value'"),
        (("shop:app", "--values", "shop.py"), "is not TOML"),
    ],
)
def test_bad_input_is_told_in_one_line(run, shop, arguments, told):
    finished = run("find", *arguments, DATABASE_URL=url(shop))

    assert finished.returncode == 2
    assert told in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_database_that_is_down_is_told_in_one_line(run, shop):
    finished = run("find", "shop:app", DATABASE_URL="postgresql+psycopg://u:secret@127.0.0.1:1/shop")

    assert finished.returncode == 2
    assert "cannot connect to postgresql" in finished.stderr
    assert "secret" not in finished.stderr


def test_a_database_that_is_down_is_told_before_the_application_starts(run, shop):
    with (shop / "shop.py").open("a") as module:
        module.write("""
from contextlib import asynccontextmanager
@asynccontextmanager
async def lifespan(app):
    with engine.connect():
        yield
app.router.lifespan_context = lifespan
""")
    finished = run("find", "shop:app", DATABASE_URL="postgresql+psycopg://u:secret@127.0.0.1:1/shop")

    assert finished.returncode == 2
    assert finished.stderr.startswith("upshift: cannot connect to postgresql")
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("async def app(scope, receive, send): ...", "it tells no GET routes"),
        ("from fastapi import FastAPI; app = FastAPI()", "it tells no GET routes"),
        (
            """
from fastapi import FastAPI, HTTPException
app = FastAPI()
@app.get('/me')
def me():
    raise HTTPException(401)
""",
            "none answered as it should",
        ),
    ],
)
def test_an_application_of_which_nothing_was_seen_does_not_pass(run, tmp_path, source, told):
    (tmp_path / "shop.py").write_text(source)

    finished = run("find", "shop:app", "--format", "json", "--fail-on", "never")

    assert finished.returncode == 2
    assert finished.stderr.startswith(f"upshift: shop:app was not judged: {told}")
    assert json.loads(finished.stdout)["findings"] == []
