"""The engine, and one session a request."""

import os
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from shopease.config import database_url

engine = create_engine(database_url(os.environ))
new_session = sessionmaker(engine)


def get_session() -> Iterator[Session]:
    with new_session() as session:
        yield session


DatabaseSession = Annotated[Session, Depends(get_session)]
