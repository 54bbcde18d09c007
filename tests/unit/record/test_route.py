"""Route templates of the frameworks as they are installed, and of scopes as other versions leave them."""

import pytest
from fastapi import APIRouter, FastAPI
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles

from upshift.record import RouteTemplates


async def answer(request):
    return PlainTextResponse("ok")


async def other(request):
    return PlainTextResponse("other")


def fastapi_app():
    """A FastAPI application with every way of adding a route."""
    app = FastAPI()

    @app.get("/orders/{order_id}")
    @app.get("/receipts/{order_id}")
    async def order(order_id: int):
        return order_id

    lines = APIRouter(prefix="/lines")

    @lines.get("/{line_id}")
    def line(line_id: int):
        return line_id

    orders = APIRouter(prefix="/v1")
    orders.include_router(lines, prefix="/orders/{order_id}")
    app.include_router(orders, prefix="/api")
    shelf = APIRouter()
    shelf.add_route("/plain/{word}", answer)
    app.include_router(shelf, prefix="/shelf")
    app.add_route("/plain/{word}", other)

    admin = FastAPI()

    @admin.get("/users/{user_id}")
    async def user(user_id: int):
        return user_id

    app.mount("/admin", admin)
    return app


def starlette_app(directory="."):
    """A Starlette application with routes, mounts in mounts, and a mount with a parameter."""
    tenant = [Route("/orders/{order_id:int}", answer), Mount("/reports", routes=[Route("/{name}", answer)])]
    hidden = Starlette(routes=[Route("/cell/{number}", other)])
    return Starlette(
        routes=[
            Route("/", answer),
            Route("/orders/{order_id:int}", answer),
            Route("/also/{order_id:int}", answer),
            Mount("/static", StaticFiles(directory=directory)),
            Mount("/tenants/{tenant}", routes=tenant),
            Mount("/hidden", CORSMiddleware(hidden, allow_origins=["*"])),
            Mount("/api", fastapi_app()),
        ]
    )


async def template_of(app, path, *, method="GET", root_path="", forget_route=False, templates=None):
    """The template that is found after `app` served the request."""
    scopes = []

    async def keeping(scope, receive, send):
        scopes.append(scope)
        await app(scope, receive, send)

    transport = ASGITransport(keeping, root_path=root_path)
    async with AsyncClient(transport=transport, base_url="http://shop") as client:
        await client.request(method, path)
    if forget_route:
        scopes[0].pop("route", None)
    return (templates or RouteTemplates()).find(scopes[0])


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/orders/7", "/orders/{order_id}"),
        ("/receipts/7", "/receipts/{order_id}"),
        ("/api/v1/orders/7/lines/3", "/api/v1/orders/{order_id}/lines/{line_id}"),
        ("/shelf/plain/word", "/shelf/plain/{word}"),
        ("/plain/word", "/plain/{word}"),
        ("/docs", "/docs"),
        ("/openapi.json", "/openapi.json"),
        ("/admin/users/3", "/admin/users/{user_id}"),
        ("/admin/docs", "/admin/docs"),
        ("/admin/nowhere", "/admin/{path}"),
        ("/nowhere", None),
        ("/orders/7/", None),  # a redirect to the path without the slash
    ],
)
async def test_fastapi(path, template):
    assert await template_of(fastapi_app(), path) == template


@pytest.mark.parametrize("forget_route", [False, True], ids=["starlette of today", "starlette before 1.7"])
@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/", "/"),
        ("/orders/7", "/orders/{order_id:int}"),
        ("/also/7", "/also/{order_id:int}"),
        ("/tenants/acme/orders/7", "/tenants/{tenant}/orders/{order_id:int}"),
        ("/tenants/tenants/orders/7", "/tenants/{tenant}/orders/{order_id:int}"),
        ("/tenants/acme/reports/week", "/tenants/{tenant}/reports/{name}"),
        ("/tenants/acme/nowhere", "/tenants/{tenant}/{path}"),
        ("/static/missing.css", "/static/{path}"),
        ("/hidden/cell/7", "/hidden/cell/{number}"),
        ("/nowhere", None),
    ],
)
async def test_starlette(path, template, forget_route):
    assert await template_of(starlette_app(), path, forget_route=forget_route) == template


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/api/orders/7", "/api/orders/{order_id}"),
        ("/api/docs", "/api/docs"),
        ("/api/admin/users/3", "/api/admin/users/{user_id}"),
        ("/api/nowhere", "/api/{path}"),
    ],
)
async def test_fastapi_mounted_in_starlette(path, template):
    assert await template_of(starlette_app(), path) == template


async def test_a_method_that_the_route_does_not_serve_still_has_its_template():
    assert await template_of(fastapi_app(), "/orders/7", method="DELETE") == "/orders/{order_id}"
    assert await template_of(starlette_app(), "/orders/7", method="DELETE") == "/orders/{order_id:int}"


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
async def test_the_path_of_a_proxy_is_no_part_of_the_template():
    proxied = FastAPI(root_path="/shop")
    proxied.add_api_route("/orders/{order_id}", lambda order_id: order_id)
    assert await template_of(proxied, "/orders/7") == "/orders/{order_id}"
    assert (
        await template_of(fastapi_app(), "/shop/admin/users/3", root_path="/shop") == "/admin/users/{user_id}"
    )


async def test_a_mounts_parameter_out_of_sight_gives_no_template_rather_than_the_clients_words():
    hidden = Starlette(routes=[Mount("/{tenant}", routes=[Route("/orders", answer)])])
    app = Starlette(routes=[Mount("/t", CORSMiddleware(hidden, allow_origins=["*"]))])
    assert await template_of(app, "/t/acme/orders") is None


async def test_an_application_that_is_no_framework_has_no_templates():
    async def bare(scope, receive, send):
        await PlainTextResponse("ok")(scope, receive, send)

    assert await template_of(bare, "/anything") is None


def test_an_endpoint_that_comes_without_its_route_is_searched_for_once():
    app = Starlette(routes=[Route("/orders/{order_id}", answer)])
    scope = {"path": "/orders/7", "endpoint": answer, "app": app}
    templates = RouteTemplates()
    assert templates.find(scope) == "/orders/{order_id}"
    app.router.routes.clear()
    assert templates.find(scope) == "/orders/{order_id}"


async def test_a_router_without_an_application_is_searched_too():
    router = Router(routes=[Route("/orders/{order_id}", answer)])
    assert await template_of(router, "/orders/7", forget_route=True) == "/orders/{order_id}"


async def test_a_mounts_parameter_of_the_same_name_as_the_routes_is_no_label_either():
    app = Starlette(routes=[Mount("/shops/{id}", routes=[Route("/orders/{id}", answer)])])
    assert await template_of(app, "/shops/3/orders/7") == "/shops/{id}/orders/{id}"


async def test_an_unhashable_endpoint_has_its_template():
    class Unhashable:
        __hash__ = None

        async def __call__(self, scope, receive, send):
            await PlainTextResponse("ok")(scope, receive, send)

    app = Starlette(routes=[Route("/odd/{name}", Unhashable())])
    assert await template_of(app, "/odd/one", forget_route=True) == "/odd/{name}"


async def test_litestar_leaves_a_path_template():
    assert (
        RouteTemplates().find({"path": "/orders/7", "path_template": "/orders/{order_id}"})
        == "/orders/{order_id}"
    )


async def test_litestar_below_a_mount_has_the_mounts_prefix():
    async def litestar(scope, receive, send):
        scope["path_template"] = "/orders/{order_id}"
        await PlainTextResponse("ok")(scope, receive, send)

    app = Starlette(routes=[Mount("/lite", litestar)])
    assert await template_of(app, "/lite/orders/7") == "/lite/orders/{order_id}"


async def test_a_middleware_on_a_route_changes_nothing():
    cors = Middleware(CORSMiddleware, allow_origins=["*"])
    app = Starlette(routes=[Route("/orders/{order_id}", answer, middleware=[cors])])
    assert await template_of(app, "/orders/7") == "/orders/{order_id}"
