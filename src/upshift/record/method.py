"""The request methods that are told apart wherever requests are counted.

A client can send any word for a method, so a table by method has room for the known ones only.
"""

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""The methods of RFC 9110, PATCH of RFC 5789, and QUERY: those that OpenTelemetry's conventions know."""

OTHER_METHOD = "_OTHER"
"""The name that all others share, by the same conventions."""


def known_method(method: str) -> str:
    """Return the method, or the name of all others.

    Example:
        >>> known_method("GET"), known_method("BREW")
        ('GET', '_OTHER')
    """
    return method if method in METHODS else OTHER_METHOD
