"""UP301: a large response, uncompressed."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


class Base(DeclarativeBase):
    pass


def test_large_json(corpus):
    def answer(request):  # UP301
        return JSONResponse(["word"] * 10_000)

    corpus.app(Starlette(routes=[Route("/", answer)]), "/", engine=corpus.sqlite(Base))


def test_large_json_that_is_compressed(corpus):
    def answer(request):
        return JSONResponse(["word"] * 10_000)

    corpus.app(Starlette(routes=[Route("/", answer)]), "/", engine=corpus.sqlite(Base), compression=True)


def test_small_json(corpus):
    def answer(request):
        return JSONResponse(["word"] * 10)

    corpus.app(Starlette(routes=[Route("/", answer)]), "/", engine=corpus.sqlite(Base))
