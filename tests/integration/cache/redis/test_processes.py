"""Several processes on one PostgreSQL and one Valkey, which is stopped, emptied, killed and started again."""

from __future__ import annotations

import contextlib
import mmap
import signal
import struct
import subprocess
import sys
import time

import pytest
from redis import Redis
from sqlalchemy import create_engine, text

from tests.unit.cache.redis.conftest import wait_until
from upshift.testing.servers.binaries import find_valkey

WORKERS = 3

WORKER = (
    f"WORKERS = {WORKERS}"
    """
import asyncio, mmap, os, random, struct, sys, threading, time
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from upshift import Cache

database, redis, page, number, lease = sys.argv[1:6]
number = int(number)
file = os.open(page, os.O_RDWR)
board = mmap.mmap(file, 4096)          # 0: whether to go on; from 64 on: what each has had acknowledged
engine = create_engine(database, pool_size=2)
asynchronous = create_async_engine(database, pool_size=4)
cache = Cache(redis, lease=lease or None)
cache.watch([engine, asynchronous])
stale, writes = [], [0]

def goes_on():
    return board[0]

def floor():
    return max(struct.unpack_from("<q", board, 64 + 8 * each)[0] for each in range(WORKERS))

@cache.cached(namespace="sync")
def version(key: int) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT version FROM counter WHERE id = :id"), {"id": key})

@cache.cached(namespace="async")
async def version_async(key: int) -> int:
    async with asynchronous.connect() as connection:
        return await connection.scalar(text("SELECT version FROM counter WHERE id = :id"), {"id": key})

def judge(seen, least):
    if seen < least:
        stale.append((seen, least))

def keep_reading():
    while goes_on():
        least = floor()
        judge(version(1), least)

async def keep_reading_async():
    async def one():
        while goes_on():
            least = floor()
            judge(await version_async(1), least)
    await asyncio.gather(*(one() for _ in range(4)))
    await asynchronous.dispose()

def write_one():
    with engine.begin() as connection:
        new = connection.scalar(
            text("UPDATE counter SET version = version + 1 WHERE id = 1 RETURNING version")
        )
    struct.pack_into("<q", board, 64 + 8 * number, new)
    writes[0] += 1

def keep_writing():
    while goes_on():
        write_one()
        time.sleep(random.uniform(0.0, 0.3))  # so that a stale value has time to be seen

while not cache.statistics()["sync"].hits:
    version(1)
print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=each) for each in (keep_reading, keep_writing)]
for each in threads:
    each.start()
asyncio.run(keep_reading_async())
for each in threads:
    each.join()
hits = sum(each.hits for each in cache.statistics().values())
cache.close()
print(writes[0], hits, len(stale), stale[:3], flush=True)
"""
)


class Valkey:
    """A server at a place of its own, that can be killed and started again."""

    def __init__(self, folder):
        self.socket = folder / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [
                find_valkey(),
                "--port",
                "0",
                "--unixsocket",
                self.socket,
                "--save",
                "",
                "--dir",
                self.socket.parent,
            ],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def _answers(self):
        with contextlib.suppress(Exception), Redis.from_url(self.url) as client:
            return client.ping()
        return False


@pytest.fixture
def redis(tmp_path_factory):
    server = Valkey(tmp_path_factory.mktemp("v"))
    server.start()
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.kill()


@pytest.fixture
def counter(postgres_database):
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE counter (id int PRIMARY KEY, version bigint)"))
        connection.execute(text("INSERT INTO counter VALUES (1, 0)"))
    engine.dispose()
    return postgres_database


def stop_shortly(redis):
    redis.process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)  # the circuits open, and the fence lives
    redis.process.send_signal(signal.SIGCONT)


def stop_for_longer_than_the_fence(redis):
    redis.process.send_signal(signal.SIGSTOP)
    time.sleep(1.6)
    redis.process.send_signal(signal.SIGCONT)


def empty(redis):
    with Redis.from_url(redis.url) as client:
        client.flushall()


def kill_and_start_again(redis):
    redis.kill()
    redis.start()


def drop_connections(redis):
    with Redis.from_url(redis.url) as client:
        client.client_kill_filter(_type="normal", skipme=True)


TROUBLES = [
    stop_shortly,
    stop_shortly,
    stop_shortly,
    empty,
    drop_connections,
    stop_for_longer_than_the_fence,
    kill_and_start_again,
]


@pytest.mark.parametrize(
    ("lease", "troubles"), [("", TROUBLES), ("200ms", TROUBLES[2:4])], ids=["strict", "leased"]
)
def test_nothing_is_older_than_the_last_commit_whatever_becomes_of_redis(
    counter, redis, tmp_path, lease, troubles
):
    page = tmp_path / "board"
    page.write_bytes(bytes(4096))
    with page.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as board:
        board[0] = 1
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, counter, redis.url, page, str(number), lease],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(WORKERS)
        ]
        for each in workers:
            assert each.stdout.readline() == "ready\n"
        for each in workers:
            each.stdin.write("go\n")
            each.stdin.flush()
        for trouble in troubles:
            time.sleep(1.0)
            trouble(redis)
        time.sleep(1.5)
        board[0] = 0
        told = [each.communicate(timeout=60)[0].split(maxsplit=3) for each in workers]
        version = max(struct.unpack_from("<q", board, 64 + 8 * each)[0] for each in range(WORKERS))

    assert [each.returncode for each in workers] == [0] * WORKERS
    writes, hits, stale = (sum(int(each[place]) for each in told) for place in range(3))
    assert writes == version
    assert hits > 100
    if not lease:
        assert stale == 0, told


STAMPEDE = """
import asyncio, sys
from upshift import Cache

redis, log = sys.argv[1:3]
cache = Cache(redis, timeout="5s")  # the machine may be busy with other things
remote = cache._shared._shared.remote

@cache.cached(ttl="1h")
async def report(key: int) -> dict[str, int]:
    if key:
        with open(log, "a") as file:
            file.write(f"{key}\\n")
    await asyncio.sleep(0.2)
    return {"key": key}

async def main():
    while not cache.statistics()["__main__.report"].hits:
        await report(0)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        fence, openings = remote.heart.fence, remote.circuit.openings
        answers = await asyncio.gather(*(report(int(line)) for _ in range(2_500)))
        assert answers == [{"key": int(line)}] * 2_500
        print((remote.heart.fence, remote.circuit.openings) == (fence, openings), flush=True)
    cache.close()

asyncio.run(main())
"""


def test_ten_thousand_misses_in_four_processes_run_the_function_once(redis, tmp_path):
    log = tmp_path / "runs"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", STAMPEDE, redis.url, log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert [each.stdout.readline() for each in workers] == ["ready\n"] * 4
    for key in range(1, 6):
        for each in workers:
            each.stdin.write(f"{key}\n")
            each.stdin.flush()
        told = [each.stdout.readline() for each in workers]
        if told == ["True\n"] * 4:
            break
        # On a machine that is very busy no heartbeat has passed for a second, and nothing could be kept.
    for each in workers:
        each.communicate(timeout=60)

    assert [each.returncode for each in workers] == [0] * 4
    if told != ["True\n"] * 4:
        pytest.skip("no heartbeat could pass for a second, five times")
    assert log.read_text().split().count(str(key)) == 1
