from dataclasses import replace

from rich.console import Console

from upshift.load import table


def shown(report):
    console = Console(width=110, color_system=None)
    with console.capture() as capture:
        console.print(table(report))
    return capture.get()


def test_rates_errors_and_latencies_are_shown(report):
    text = shown(report)
    assert "2.0/s of 2.5/s asked" in text
    assert "5: 4 answered, 3 ok, 3.5 kB received" in text
    assert "timeout 1, http 404 1" in text
    assert "200 µs CPU per request" in text
    [row] = [line for line in text.splitlines() if line.startswith("GET /a")]
    assert row.split()[2:] == ["4", "2", "2175.0", "250.0", *["10000.0"] * 5]


def test_a_late_generator_voids_the_run(report):
    assert "void" not in shown(report)
    assert "void" in shown(replace(report, lagging=True, lag_p99=0.004))


def test_an_interrupted_run_says_so(report):
    assert "interrupted, 7 requests unfinished" in shown(replace(report, interrupted=True, unfinished=7))


def test_a_sum_is_shown_for_several_names(report):
    assert "\nall" not in shown(report)
    assert "\nall" in shown(replace(report, by_request={"a": report, "b": report}))


def test_a_run_without_any_answer_can_be_shown(report):
    nothing = replace(
        report, sent=0, completed=0, ok=0, latency=None, asked_rate=None, lag_p99=None, received_bytes=0
    )
    assert "-" in shown(replace(nothing, by_request={"GET /a": nothing}))


def test_names_are_never_read_as_markup(report):
    assert "[bold]/x" in shown(replace(report, by_request={"[bold]/x": report}))
