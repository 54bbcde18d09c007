"""`upshift plan`: shows how a database answers a statement, with the worst node marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec
import sqlalchemy as sa

from upshift.cli.statements_of import ALL, statements_of
from upshift.diagnose.formats.display import one_line
from upshift.diagnose.formats.plan_tree import plan_tree
from upshift.errors import UpshiftError
from upshift.sql.engines import connected, engine_for
from upshift.sql.placeholders import Sample
from upshift.sql.plans.digest_text import explainable
from upshift.sql.plans.explain import ExplainRefusedError, first_line
from upshift.sql.plans.explanation import STATEMENT_SECONDS, explain_statement

if TYPE_CHECKING:
    from typing import TextIO

    from upshift.sql.plans.explanation import Explanation

_SHORTEST_DIGEST = 4


@click.command()
@click.argument("digest", required=False)
@click.option("--sql", help="The statement itself, instead of a digest.")
@click.option("--file", "file", type=click.File("r"), help="A file with the statement; - for standard input.")
@click.option(
    "--from",
    "target",
    metavar="TARGET",
    help="Where the digest's statement is known: an application's address, a recording, a saved document.",
)
@click.option(
    "--url",
    envvar=["UPSHIFT_DATABASE_URL", "DATABASE_URL"],
    help="The database; also from UPSHIFT_DATABASE_URL or DATABASE_URL.",
)
@click.option(
    "--analyze", is_flag=True, help="Execute it to measure it, if it is a SELECT that changes nothing."
)
@click.option(
    "--timeout",
    default=STATEMENT_SECONDS,
    show_default=True,
    type=click.FloatRange(0.001, 100_000),
    help="Seconds that the database may take.",
)
@click.option("--format", "form", type=click.Choice(["tree", "json"]), default="tree", show_default=True)
def plan(
    digest: str | None,
    *,
    sql: str | None,
    file: TextIO | None,
    target: str | None,
    url: str | None,
    analyze: bool,
    timeout: float,
    form: str,
) -> None:
    """Show how a database answers a statement.

    \b
    upshift plan --url postgresql://localhost/shop --sql "SELECT * FROM orders WHERE id = 7"
    upshift plan 1f0c9b2e --from http://127.0.0.1:8000 --url postgresql://localhost/shop
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    given = [each for each in (digest, sql, file) if each is not None]
    if len(given) != 1:
        raise click.UsageError("one of DIGEST, --sql and --file tells the statement")
    if url is None:
        raise click.UsageError("--url is missing: which database?")
    engine = engine_for(url)
    if digest is not None:
        if target is None:
            raise click.UsageError("--from is missing: where is the statement of this digest known?")
        sql = explainable(_statement_of(digest, target), engine.dialect.name)
    elif file is not None:
        sql = file.read()
    explanation = _explain(engine, sql or "", analyze=analyze, seconds=timeout)
    if form == "json":
        click.echo(msgspec.json.encode(explanation))
    else:
        click.echo(plan_tree(explanation), nl=False)


def _statement_of(digest: str, target: str) -> str:
    """Find a statement by its digest, or by the first digits of it, in the form that has no values."""
    if len(digest) < _SHORTEST_DIGEST:
        raise UpshiftError(
            f"{one_line(digest)} is too short for a digest: give {_SHORTEST_DIGEST} digits or more"
        )
    rows = statements_of(target, ALL).document.statements
    found = {row.digest: row.text for row in rows if row.digest.startswith(digest.lower())}
    if not found:
        raise UpshiftError(
            f"no statement there has the digest {one_line(digest)}: `upshift queries` lists them"
        )
    if len(found) > 1:
        raise UpshiftError(f"{len(found)} statements have digests that begin with {one_line(digest)}")
    return next(iter(found.values()))


def _explain(engine: sa.Engine, sql: str, *, analyze: bool, seconds: float) -> Explanation:
    try:
        with connected(engine) as connection:
            # The text is the reader's own, so a percent sign in it is one.
            style = "numeric_dollar" if engine.dialect.name == "postgresql" else None
            return explain_statement(
                connection, Sample(sql), paramstyle=style, analyze=analyze, seconds=seconds
            )
    except ExplainRefusedError as error:
        raise UpshiftError(f"the database does not explain it: {error}") from error
    except sa.exc.DBAPIError as error:
        raise UpshiftError(f"the database does not explain it: {first_line(error)}") from error
