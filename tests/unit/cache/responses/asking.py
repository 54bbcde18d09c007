"""An application that tells how often it ran, and a client that asks it as a server would."""

from __future__ import annotations

import asyncio

JSON = (b"content-type", b"application/json")


class Answer:
    """What a server was told to send."""

    def __init__(self):
        self.messages = []

    async def send(self, message):
        self.messages.append(message)

    @property
    def status(self):
        return self.messages[0]["status"]

    @property
    def headers(self):
        """Header values by name; those of a repeated field are joined."""
        fields = {}
        for name, value in self.messages[0]["headers"]:
            key = name.decode("latin-1").lower()
            fields[key] = f"{fields[key]}, {value.decode()}" if key in fields else value.decode("latin-1")
        return fields

    @property
    def body(self):
        return b"".join(each.get("body", b"") for each in self.messages[1:])

    @property
    def is_complete(self):
        return not self.messages[-1].get("more_body", False)


class App:
    """Answers each request with what it is told, and how often it has run."""

    def __init__(self, *headers, status=200, body=b"run %d", pieces=1, length=True):
        self.headers = headers
        self.status = status
        self.body = body
        self.pieces = pieces
        self.length = length
        self.runs = 0
        self.scopes = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.error = None
        self.after = None

    async def __call__(self, scope, receive, send):
        self.runs += 1
        run = self.runs
        self.scopes.append({**scope})
        scope["endpoint"], scope["path_template"] = self, "/template"
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        body = self.body % run if b"%d" in self.body else self.body
        headers = [JSON, *self.headers]
        if self.length:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for number in range(self.pieces):
            piece = body[len(body) * number // self.pieces : len(body) * (number + 1) // self.pieces]
            await send({"type": "http.response.body", "body": piece, "more_body": number + 1 < self.pieces})
        if self.after is not None:
            await self.after()


def scope_of(target="/things", *headers, method="GET", scheme="http", host=b"shop.example", root_path=""):
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": query.encode("latin-1"),
        "headers": [(b"host", host), *headers],
        "client": ("203.0.113.7", 50_000),
        "server": ("shop.example", 80),
    }


async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}


async def ask(app, target="/things", *headers, **about):
    answer = Answer()
    await app(scope_of(target, *headers, **about), receive, answer.send)
    return answer
