"""Where the database is."""

from collections.abc import Mapping

from sqlalchemy import URL, make_url

VARIABLES = ("SHOPEASE_DATABASE_URL", "DATABASE_URL")


def database_url(environment: Mapping[str, str]) -> URL:
    for variable in VARIABLES:
        if value := environment.get(variable):
            return with_driver(value)
    raise RuntimeError(
        f"ShopEase needs a database: set {' or '.join(VARIABLES)}, "
        "for example postgresql://localhost/shopease or sqlite:///shopease.db"
    )


def with_driver(raw: str) -> URL:
    """Read a URL; where it names no PostgreSQL driver, the driver is psycopg."""
    url = make_url(raw)
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg")
    return url
