"""What probes are told, asked over ASGI."""

import json
import re

import httpx
import pytest
import trio
from starlette.responses import PlainTextResponse

from upshift.settings import HealthSettings
from upshift.telemetry.endpoints import Endpoints
from upshift.telemetry.health import Health, disk_check, probe_endpoints


class Process:
    """A process with an application, and a phase that the test sets."""

    def __init__(self):
        self.phase = "serving"
        self.health = Health(HealthSettings(health_cache_seconds=0.0), lambda: self.phase)
        self._app = Endpoints(PlainTextResponse("the application"), probe_endpoints(self.health))

    async def ask(self, path, method="GET"):
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
            return await http.request(method, path)

    async def told(self, path):
        answer = await self.ask(path)
        # How long a check took is not the test's business.
        return answer.status_code, re.sub(r"\d+\.\d ms", "T", answer.text).splitlines()


def failing():
    raise ConnectionError("cannot connect to postgresql://shop:rosebud@db/shop\n[SQL: SELECT 'private']")


@pytest.fixture
def process():
    return Process()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
async def test_what_is_in_order_says_ok(process, path):
    answer = await process.ask(path)
    assert (answer.status_code, answer.text) == (200, "ok")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/livez", "/readyz?verbose", "/startupz", "/health"])
async def test_head_has_the_same_headers_and_no_body(process, path):
    get, head = await process.ask(path), await process.ask(path, "HEAD")
    assert head.content == b""
    assert (head.status_code, dict(head.headers)) == (get.status_code, dict(get.headers))


async def test_other_methods_and_paths_are_the_application_s(process):
    for path, method in (("/readyz", "POST"), ("/readyz/", "GET"), ("/", "GET")):
        assert (await process.ask(path, method)).text == "the application"


async def test_life_depends_on_nothing(process):
    called = []
    process.health.check("db", lambda: called.append(1))
    process.health.check("gone", failing)
    for phase in ("starting", "serving", "draining"):
        process.phase = phase
        assert await process.told("/livez?verbose") == (200, ["[+]loop ok", "livez check passed"])
    assert not called


@pytest.mark.parametrize(
    ("phase", "started", "ready"), [("starting", 503, 503), ("serving", 200, 200), ("draining", 200, 503)]
)
async def test_each_phase_has_its_answers(process, phase, started, ready):
    process.phase = phase
    assert (await process.ask("/startupz")).status_code == started
    assert (await process.ask("/readyz")).status_code == ready


async def test_who_drains_says_so_without_asking_its_dependencies(process):
    called = []
    process.health.check("db", lambda: called.append(1))
    process.phase = "draining"
    assert await process.told("/readyz") == (503, ["[-]shutdown under way", "readyz check failed"])
    assert not called


async def test_a_failed_critical_check_is_told_in_full_without_its_secrets(process):
    process.health.check("disk", lambda: "90 % free")
    process.health.check("search", failing, critical=False)
    process.health.check("db", failing)
    told = "ConnectionError: cannot connect to postgresql://***@db/shop"
    assert await process.told("/readyz") == (
        503,
        [
            "[+]startup ok",
            "[+]disk ok T: 90 % free",
            f"[!]search failed (not critical) T: {told}",
            f"[-]db failed T: {told}",
            "readyz check failed",
        ],
    )


async def test_a_check_that_is_not_critical_leaves_it_ready(process):
    process.health.check("search", failing, critical=False)
    assert await process.told("/readyz") == (200, ["ok"])


async def test_each_check_can_be_left_out(process):
    process.health.check("db", failing)
    process.health.check("cache", failing)
    assert (await process.ask("/readyz?exclude=db")).status_code == 503
    assert await process.told("/readyz?exclude=db&exclude=cache&verbose") == (
        200,
        ["[+]startup ok", "readyz check passed"],
    )


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
async def test_a_name_to_leave_out_that_is_no_check_s_is_told_and_no_error(process, path):
    assert await process.told(f"{path}?exclude=databse") == (200, ["ok", "[?]no check is named 'databse'"])


@pytest.mark.parametrize(
    "query",
    [
        "exclude=" + "%00%ff%0a<script>" * 200,
        "&".join(f"exclude={number}" for number in range(5_000)),
        "exclude=" + "x" * 60_000,
        "&&==;%%&verbose=&exclude",
    ],
    ids=["bytes", "many", "long", "broken"],
)
async def test_a_hostile_query_gets_a_short_answer(process, query):
    for path in ("/livez", "/readyz", "/startupz", "/health"):
        answer = await process.ask(f"{path}?{query}")
        assert answer.status_code == 200
        assert len(answer.content) < 3_000
        assert answer.text.isascii()
        assert len(answer.text.splitlines()) <= 14


async def test_the_summary_is_health_json(process):
    process.health.check("disk", disk_check("/", minimum_free_bytes=0))
    process.health.check("search", failing, critical=False)
    answer = await process.ask("/health")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/health+json")
    document = json.loads(answer.content)
    assert document["status"] == "warn"
    disk, search = (document["checks"][f"{name}:responseTime"] for name in ("disk", "search"))
    assert len(disk) == len(search) == 1
    assert disk[0].pop("observedValue") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", disk[0].pop("time"))
    assert disk[0].pop("detail").endswith("bytes free")
    assert disk[0] == {
        "componentId": "disk",
        "componentType": "system",
        "observedUnit": "ms",
        "status": "pass",
    }
    assert search[0]["output"] == "ConnectionError: cannot connect to postgresql://***@db/shop"


async def test_the_summary_fails_with_a_critical_check(process):
    process.health.check("db", failing)
    answer = await process.ask("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "fail")
    answer = await process.ask("/health?exclude=db&exclude=x")
    assert (answer.status_code, answer.json()["status"]) == (200, "pass")
    assert answer.json()["notes"] == ["[?]no check is named 'x'"]


async def test_the_summary_of_who_drains_warns_as_nothing_is_broken(process):
    process.phase = "draining"
    answer = await process.ask("/health")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "warn", "notes": ["draining"], "checks": {}},
    )


def test_under_trio_all_is_told_as_under_asyncio(process):
    async def pay():
        await trio.lowlevel.checkpoint()
        return "2 providers"

    process.health.check("disk", lambda: "90 % free")
    process.health.check("payments", pay)
    assert trio.run(process.told, "/readyz?verbose") == (
        200,
        [
            "[+]startup ok",
            "[+]disk ok T: 90 % free",
            "[+]payments ok T: 2 providers",
            "readyz check passed",
        ],
    )
    process.health.check("db", failing)
    assert [
        trio.run(process.ask, path).status_code for path in ("/livez", "/startupz", "/readyz", "/health")
    ] == [200, 200, 503, 503]
