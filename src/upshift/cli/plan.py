"""`upshift plan`: shows how a database answers a statement, with the worst node marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec
import sqlalchemy as sa

from upshift.cli.asking import ask
from upshift.cli.statements_of import ALL, statements_of
from upshift.diagnose.formats.display import one_line
from upshift.diagnose.formats.plan_tree import plan_runs, plan_tree
from upshift.errors import UpshiftError
from upshift.sql.engines import connected, engine_for
from upshift.sql.placeholders import Sample
from upshift.sql.plans.digest_text import explainable
from upshift.sql.plans.document import decode_plans
from upshift.sql.plans.explain import ExplainRefusedError, first_line
from upshift.sql.plans.explanation import STATEMENT_SECONDS, explain_statement

if TYPE_CHECKING:
    from typing import TextIO

    from upshift.sql import Explanation, StatementPlans

PLANS_PATH = "/upshift/queries/plans"
"""Where an application tells of its plans, unless `queries_path` is another."""

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

    Without --url, a digest's plan is the one that the application has kept, with its history.

    \b
    upshift plan --url postgresql://localhost/shop --sql "SELECT * FROM orders WHERE id = 7"
    upshift plan 1f0c9b2e --from http://127.0.0.1:8000
    upshift plan 1f0c9b2e --from monday.recording --url postgresql://localhost/shop
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    given = [each for each in (digest, sql, file) if each is not None]
    if len(given) != 1:
        raise click.UsageError("one of DIGEST, --sql and --file tells the statement")
    if digest is not None and target is not None and "://" in target and url is None:
        _show_kept(_kept_by(target, digest), form)
        return
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


def _kept_by(target: str, digest: str) -> StatementPlans:
    """The plans of a statement that an application has kept."""
    body = ask(target, PLANS_PATH, {"digest": digest})
    try:
        found = decode_plans(body).statements
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpshiftError(f"{one_line(target)} does not tell of plans: {one_line(str(error))}") from error
    if not found:
        raise UpshiftError(
            f"no plan of {one_line(digest)} was kept there, as it was not slow; --url asks the database"
        )
    if len(found) > 1:
        raise UpshiftError(f"{len(found)} statements have digests that begin with {one_line(digest)}")
    return found[0]


def _show_kept(plans: StatementPlans, form: str) -> None:
    if form == "json":
        click.echo(msgspec.json.encode(plans))
        return
    click.echo(one_line(plans.digest.text))
    click.echo(plan_tree(plans.explanation), nl=False)
    click.echo(plan_runs(plans), nl=False)


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
