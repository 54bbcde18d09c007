import pytest
from shopease.config import database_url, with_driver


def test_own_variable_wins_over_the_common_one() -> None:
    environment = {"DATABASE_URL": "sqlite:///common.db", "SHOPEASE_DATABASE_URL": "sqlite:///own.db"}
    assert database_url(environment).database == "own.db"
    del environment["SHOPEASE_DATABASE_URL"]
    assert database_url(environment).database == "common.db"


@pytest.mark.parametrize("environment", [{}, {"DATABASE_URL": ""}])
def test_missing_url_says_what_to_set(environment: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match="set SHOPEASE_DATABASE_URL or DATABASE_URL, for example"):
        database_url(environment)


@pytest.mark.parametrize(
    ("raw", "drivername"),
    [
        ("postgresql://localhost/shop", "postgresql+psycopg"),
        ("postgres://localhost/shop", "postgresql+psycopg"),
        ("postgresql+psycopg2://localhost/shop", "postgresql+psycopg2"),
        ("sqlite:///shop.db", "sqlite"),
    ],
)
def test_postgresql_gets_psycopg_unless_the_url_names_a_driver(raw: str, drivername: str) -> None:
    assert with_driver(raw).drivername == drivername
