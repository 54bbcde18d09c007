"""Names as PostgreSQL writes them in plans: quoted where they have to be."""

NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
"""A regular expression for one."""


def unquoted(name: str) -> str:
    """Return a name as the catalog has it.

    Example:
        >>> print(unquoted('"24"" screen"'), unquoted("orders"))
        24" screen orders
    """
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
