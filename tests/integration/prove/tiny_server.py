"""A small real HTTP server whose faults can be asked for: python tiny_server.py PORT NAME=VALUE…

work=N        CPU per request, in iterations of a loop
delay=S       seconds each request sleeps
status=N      status of every answer
warming=N     how many requests are answered 503 before the first that is not
die_after=N   requests after which the process ends with status 3
upstream=PORT asked once for every request
pids=FILE     where this process, and its child, write their ids
paths=FILE    where the path of every request is written
child=1       fork a child that ignores SIGTERM
deaf=1        ignore SIGTERM
say=TEXT      printed to standard error at the start
"""

import itertools
import os
import signal
import socket
import sys
import time
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

PORT, *ARGUMENTS = sys.argv[1:]
OPTIONS = dict(argument.split("=", 1) for argument in ARGUMENTS)
NUMBER = itertools.count(1)


class Handler(StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        while line := self.rfile.readline():
            if "paths" in OPTIONS:
                append("paths", line.split()[1].decode())
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer(next(NUMBER)))


class Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        """A client that hangs up is no error."""


def answer(number):
    if number > int(OPTIONS.get("die_after", sys.maxsize)):
        say("out of cheese\n")
        os._exit(3)
    for _ in range(int(OPTIONS.get("work", 0))):
        pass
    time.sleep(float(OPTIONS.get("delay", 0)))
    if "upstream" in OPTIONS:
        with socket.create_connection(("127.0.0.1", int(OPTIONS["upstream"]))) as upstream:
            upstream.sendall(b"GET / HTTP/1.1\r\n\r\n")
            upstream.recv(1024)
    warm = number > int(OPTIONS.get("warming", 0))
    status = int(OPTIONS.get("status", 200)) if warm else 503
    body = f"{Path.cwd()} {os.environ.get('FLAVOUR')}"
    return f"HTTP/1.1 {status} So\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def say(text):
    sys.stderr.write(text)
    sys.stderr.flush()


def append(option, line):
    with Path(OPTIONS[option]).open("a") as file:
        file.write(f"{line}\n")


def write_pid():
    if "pids" in OPTIONS:
        append("pids", os.getpid())


say(OPTIONS.get("say", ""))
if "child" in OPTIONS and os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write_pid()
    time.sleep(60)
    sys.exit()
if "deaf" in OPTIONS:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
write_pid()
Server(("127.0.0.1", int(PORT)), Handler).serve_forever()
