"""HTTP responses that are answered before the application runs, and never stale (RFC 9111).

Flows in: requests, and the application's responses with what was read for them.
Flows out: the stored bytes, 304 where the client has them already, or what the application says.

What a response depends on is gathered as for a cached function, in a `Reading` that is set before the
application runs. Threads in which it runs synchronous code get a copy of the context, so statements sent
there are seen as well. Each hit compares the tokens of that with those of now, so the guarantee is the
cache's (`upshift.cache.tokens`); a client that was told nothing else has to ask before it uses its own copy.
"""

from upshift.cache.responses.responses import Responses

__all__ = ["Responses"]
