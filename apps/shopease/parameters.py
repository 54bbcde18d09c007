"""Parameters that several routes take, with the bounds that the columns have."""

from typing import Annotated

from fastapi import Path, Query

LARGEST_INTEGER = 2**31 - 1

Id = Annotated[int, Path(ge=1, le=LARGEST_INTEGER)]
Slug = Annotated[str, Path(pattern=r"^[a-z0-9-]+$", max_length=60)]
Cents = Annotated[int, Query(ge=0, le=LARGEST_INTEGER)]
PageNumber = Annotated[int, Query(ge=1, le=1_000)]
