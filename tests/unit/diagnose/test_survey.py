"""Driving an application's GET routes, with values found in its own answers."""

import asyncio
from enum import StrEnum
from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Query
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Mount, Route

from upshift.diagnose import Driving, survey


def nothing():
    return {}


async def drive(app, **options):
    asked = []
    result = await survey(app, app, Driving(**options), on_progress=asked.append)
    return result, [each.removeprefix("GET ") for each in asked]


async def test_an_id_found_in_a_list_is_asked_for():
    app = FastAPI()
    app.get("/products")(lambda: {"items": [{"id": 7, "name": "x"}, {"id": 9, "name": "y"}]})
    app.get("/products/{product_id}")(lambda product_id: {})

    result, asked = await drive(app)

    assert asked == ["/products", "/products/7", "/products/9"]
    assert (result.routes, result.requests, result.skipped) == (2, 3, [])


async def test_a_nested_things_id_serves_the_route_of_that_thing():
    app = FastAPI()
    app.get("/products")(lambda: [{"id": 1, "seller": {"id": 42}}])
    app.get("/sellers/{id}/dashboard")(nothing)

    _, asked = await drive(app)

    assert "/sellers/42/dashboard" in asked


async def test_a_foreign_key_serves_the_parameter_of_that_name():
    app = FastAPI()
    app.get("/orders")(lambda: [{"number": 5, "user_id": "u-1"}])
    app.get("/users/{user_id}")(lambda user_id: {})

    _, asked = await drive(app)

    assert "/users/u-1" in asked


async def test_routes_are_found_along_a_chain_of_answers():
    app = FastAPI()
    app.get("/stations")(lambda: [{"id": "s1"}])
    app.get("/stations/{station_id}")(lambda station_id: {"connectors": [{"id": "c1"}]})
    app.get("/connectors/{connector_id}")(lambda connector_id: {})

    result, asked = await drive(app)

    assert asked[-1] == "/connectors/c1"
    assert result.routes == 3


async def test_values_are_percent_encoded():
    app = FastAPI()
    app.get("/tags")(lambda: [{"slug": "a/b c?d"}])
    app.get("/tags/{slug}")(lambda slug: {})

    _, asked = await drive(app)

    assert asked[-1] == "/tags/a%2Fb%20c%3Fd"


async def test_of_many_values_a_few_are_asked_for_spread_over_them():
    app = FastAPI()
    app.get("/things")(lambda: [{"id": i} for i in range(40)])
    app.get("/things/{thing_id}")(lambda thing_id: {})

    _, asked = await drive(app, samples=3)

    assert asked[1:] == ["/things/0", "/things/19", "/things/39"]


async def test_given_values_come_before_found_ones():
    app = FastAPI()
    app.get("/users")(lambda: [{"id": 1}])
    app.get("/users/{user_id}")(lambda user_id: {})

    _, asked = await drive(app, values={"user_id": [99]})

    assert asked == ["/users", "/users/99"]


async def test_a_route_with_no_known_value_is_skipped_with_the_way_out():
    app = FastAPI()
    app.get("/files/{name}")(lambda name: {})

    result, asked = await drive(app)

    assert asked == []
    assert result.skipped[0].route == "GET /files/{name}"
    assert "name" in result.skipped[0].reason
    assert "--values" in result.skipped[0].reason


async def test_an_integer_nobody_knows_is_guessed_from_its_schema():
    app = FastAPI()

    @app.get("/users/{user_id}")
    def user(user_id: int):
        return {}

    _, asked = await drive(app)

    assert asked == ["/users/1"]


async def test_a_required_query_parameter_takes_what_its_schema_suggests():
    class Sort(StrEnum):
        PRICE = "price"
        NAME = "name"

    app = FastAPI()

    @app.get("/search")
    def search(sort: Sort, minimum: Annotated[int, Query(ge=5)]):
        return {}

    _, asked = await drive(app)

    assert asked[0] == "/search?sort=price&minimum=5"


async def test_each_choice_of_an_optional_parameter_is_tried_once():
    class Sort(StrEnum):
        PRICE = "price"
        NAME = "name"

    app = FastAPI()

    @app.get("/items")
    def items(sort: Sort = Sort.PRICE, in_stock: bool = False):
        return {}

    _, asked = await drive(app)

    assert asked == ["/items", "/items?sort=name", "/items?in_stock=true"]


async def test_routes_of_included_routers_and_of_mounts_are_driven():
    router = APIRouter(prefix="/api")
    router.get("/a")(nothing)
    app = FastAPI()
    app.include_router(router)
    _, asked = await drive(app)

    inner = [Route("/b", lambda request: JSONResponse({}))]
    _, asked_of_mount = await drive(Starlette(routes=[Mount("/sub", routes=inner)]))

    assert asked == ["/api/a"]
    assert asked_of_mount == ["/sub/b"]


async def test_a_route_that_needs_a_login_is_skipped_with_the_header_to_give():
    app = FastAPI()

    @app.get("/me")
    def me():
        raise HTTPException(401)

    result, _ = await drive(app)

    assert "--header" in result.skipped[0].reason


def redirecting(location, status=302):
    app = FastAPI()
    app.get("/me")(lambda: RedirectResponse(location, status))
    return app


@pytest.mark.parametrize("status", [302, 303, 307])
@pytest.mark.parametrize(
    "location",
    [
        "/login",
        "/login?next=/me",
        "/accounts/log-in/",
        "/users/sign_in",
        "https://accounts.shop.example/o/oauth2/auth?client_id=1",
        "https://sso.shop.example/",
    ],
)
async def test_a_route_that_sends_strangers_to_a_login_is_skipped_with_the_header_to_give(location, status):
    result, _ = await drive(redirecting(location, status))

    assert result.routes == 0
    assert "--header" in result.skipped[0].reason


@pytest.mark.parametrize("location", ["/authors/5", "/news?from=/login", "/blogging", "/signings", ""])
async def test_a_route_that_sends_elsewhere_has_answered(location):
    result, _ = await drive(redirecting(location))

    assert (result.routes, result.skipped) == (1, [])


async def test_headers_are_sent_with_every_request():
    app = FastAPI()

    app.get("/me")(nothing)

    async def guarded(scope, receive, send):
        assert (b"authorization", b"Bearer x") in scope["headers"]
        await app(scope, receive, send)

    result = await survey(app, guarded, Driving(headers={"Authorization": "Bearer x"}))

    assert result.routes == 1


async def test_an_application_error_is_told_and_ends_nothing():
    app = FastAPI()

    @app.get("/broken")
    def broken():
        raise RuntimeError("no\nluck")

    app.get("/sound")(nothing)

    result, _ = await drive(app)

    assert result.routes == 1
    assert result.failures == ["GET /broken answered 500: RuntimeError: no"]


async def test_a_route_that_never_answers_is_left_after_the_timeout():
    app = FastAPI()

    @app.get("/hang")
    async def hang():
        await asyncio.Event().wait()

    app.get("/sound")(nothing)

    result, _ = await drive(app, answer_seconds=0.1)

    assert result.routes == 1
    assert "no complete answer" in result.skipped[0].reason


@pytest.mark.parametrize("body", [b"", b"{", b"[[[[", b'"text"', b"\xff"])
async def test_an_answer_that_is_no_json_teaches_nothing_and_breaks_nothing(body):
    async def odd(scope, receive, send):
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": body})

    app = Starlette(routes=[Route("/odd", lambda request: None)])

    result = await survey(app, odd)

    assert result.routes == 1
