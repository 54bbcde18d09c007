"""The demo's report as one HTML file: no script, no address outside of itself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from upshift.errors import UpshiftError

if TYPE_CHECKING:
    from pathlib import Path

    from upshift.cli.demo.result import Result, Row
    from upshift.diagnose import Finding

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d9dee4; --paper: #fff;
  --before: #b4bcc6; --after: #1f7a4d; --error: #b3261e; --warning: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa5b1; --line: #353c44; --paper: #15181c;
  --before: #5b6570; --after: #4fc38a; --error: #ff8a80; --warning: #e5b454; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.soft { color: var(--soft); } .headline { font-size: 3rem; font-weight: 700; color: var(--after); line-height: 1.2; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { font-weight: 600; color: var(--soft); } th:first-child, td:first-child { text-align: left; }
.bar { display: block; height: .55rem; border-radius: 2px; margin: 2px 0; }
.before { background: var(--before); } .after { background: var(--after); }
td.bars { min-width: 12rem; } code { font: 13px ui-monospace, monospace; }
article { border-left: 3px solid var(--line); padding: .1rem 0 .1rem .9rem; margin: .9rem 0; }
article.error { border-color: var(--error); } article.warning { border-color: var(--warning); }
article p { margin: .15rem 0; } pre { white-space: pre-wrap; font: 13px ui-monospace, monospace; margin: .2rem 0; }
"""


def check_place(file: Path) -> None:
    """Make sure that the report can be written, before minutes are spent on what it is to say.

    Raises:
        UpshiftError: it cannot.
    """
    try:
        is_new = not file.exists()
        with file.open("ab"):
            pass
        if is_new:
            file.unlink()
    except OSError as error:
        raise _unwritable(file, error) from error


def write_page(file: Path, result: Result) -> None:
    """Write the report.

    Raises:
        UpshiftError: the file cannot be written.
    """
    try:
        file.write_text(_page(result), "utf-8")
    except OSError as error:
        raise _unwritable(file, error) from error


def _unwritable(file: Path, error: OSError) -> UpshiftError:
    return UpshiftError(f"the report cannot be written to {file}: {error.strerror}")


def _page(result: Result) -> str:
    name = escape(result.manifest.name)
    design = result.comparison.design
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Upshift: {name}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{name}, found, fixed and proved</h1>
<p class="soft">{escape(result.database)} · {design.pairs} pairs of fresh processes · {result.seconds:.0f} s</p>
<p><span class="headline">{result.speedup:.1f}×</span><br>
less CPU per request ({result.counted}), geometric mean over {len(result.rows())} endpoints; not one line of {name} was
changed, and all {len(result.before.bodies)} answers compared are the same.</p>
<h2>Before and after</h2>
<div class="scroll"><table>
<thead><tr><th>endpoint</th><th>CPU per request</th><th>statements</th><th>rows</th><th>p50 ms</th><th>p95 ms</th>
<th>CPU ms</th><th>requests/s</th><th>KB sent</th><th>CPU ratio [interval]</th><th>verdict</th></tr></thead>
<tbody>
{"".join(_row(row) for row in result.rows())}
</tbody></table></div>
<p class="soft">Intervals cover the truth with {design.confidence:.0%} over all endpoints together. Samples alternate at
random between the variants. A/A: {result.control}. Percentiles are of a closed load of {design.connections} connections.</p>
{_stored(result)}<h2>{len(result.before.findings)} findings</h2>
{"".join(_finding(finding) for finding in result.before.findings)}
<h2>Indexes built, on a copy of the database</h2>
<pre>{escape(chr(10).join(f"{sql};" for sql in result.indexes))}</pre>
</body>
</html>
"""


def _stored(result: Result) -> str:
    if result.stored is None:
        return ""
    agreement = result.stored.agreement
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in result.stored_rows()
    )
    return f"""<h2>With responses stored as well</h2>
<p><span class="headline">{result.total_speedup:.0f}×</span><br>
less CPU per request than at the start ({result.counted}), geometric mean, while another process wrote to the data
({result.stored.writes} commits). None of {agreement.compared} answers compared during {agreement.writes} further commits was
stale; {agreement.hits} of them were stored ones.</p>
<div class="scroll"><table>
<thead><tr><th>endpoint</th><th>CPU ms</th><th>p50 ms</th><th>requests/s</th><th>CPU ratio [interval]</th><th>verdict</th>
<th>in all</th></tr></thead>
<tbody>
{rows}</tbody></table></div>
<p class="soft">Each figure is with the other fixes → with responses stored as well; “in all” is against the start. A/A:
{result.stored_control}.</p>
"""


def _row(row: Row) -> str:
    cells = (
        row.statements,
        row.rows,
        row.p50,
        row.p95,
        row.cpu,
        row.rate,
        row.kilobytes,
        row.ratio,
        row.verdict,
    )
    return (
        f"<tr><td>{escape(row.name)}</td>"
        f'<td class="bars"><span class="bar before" style="width:100%"></span>'
        f'<span class="bar after" style="width:{row.share:.1%}"></span></td>'
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>\n"
    )


def _finding(finding: Finding) -> str:
    return (
        f'<article class="{finding.severity.label}">'
        f"<p><strong>{escape(finding.code)}</strong> {escape(finding.title)}</p>"
        f"<p class='soft'><code>{escape(str(finding.site or ''))}</code> {escape(', '.join(finding.routes))}</p>"
        f"<pre>{escape(chr(10).join(finding.fix))}</pre>"
        f"<p class='soft'>{escape(finding.expect)}</p></article>\n"
    )
