"""The scripts that run within the server: each is one step of the protocol, and nothing comes between.

Keys of one cache have one hash tag, so they are on one node of a cluster. What is random comes from the
caller, as Lua's numbers in a server are the same each time. A server that is out of memory refuses a script's
first write if that takes memory, and none after it: so those that must not fail begin with a deletion.

The intents are one key, a hash:

===========  ================================================================================================
fence        the fence that it belongs to: where it is another than there is, intents have been lost
run          the run of the server that wrote this
opens        when stamps are given again, in milliseconds of the server's clock
now          when the last process told that it is there, by the same clock
t:<tag>      the transactions that are about to write the tag, each followed by when its intent ends
s:<id>       a transaction that was settled before its announcement came, and how long to remember that
===========  ================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.cache.redis.wire import Mget, Script, bulk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from upshift.cache.redis.wire import Command

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
"""

_INTENTS = """
local function intents(tag)
  local found = {}
  for id, ends in string.gmatch(redis.call('HGET', KEYS[2], 't:' .. tag) or '', '(%S+) (%S+)') do
    if tonumber(ends) > now then found[id] = ends end
  end
  return found
end
local function keep(tag, intents)
  local line = {}
  for id, ends in pairs(intents) do line[#line + 1] = id .. ' ' .. ends end
  if #line == 0 then return redis.call('HDEL', KEYS[2], 't:' .. tag) end
  return redis.call('HSET', KEYS[2], 't:' .. tag, table.concat(line, ' '))
end
"""

_BEAT = Script(
    _NOW
    + """
local fence = redis.call('GET', KEYS[1])
local known = redis.call('HMGET', KEYS[2], 'fence', 'run', 'now', 'swept')
local run = ARGV[4]
local is_other = run ~= '' and known[2] ~= run
local went_back = known[3] and now + 100 < tonumber(known[3])
if not fence or fence ~= known[1] or is_other or went_back then
  redis.call('DEL', KEYS[1])
  fence = ARGV[1]
  if run == '' then run = known[2] or '' end
  redis.call('HSET', KEYS[2], 'fence', fence, 'run', run, 'opens', text(now + ARGV[3]), 'now', text(now))
  redis.call('SET', KEYS[1], fence, 'PX', ARGV[2])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.pcall('HSET', KEYS[2], 'now', text(now))
end
if tonumber(known[4] or 0) + 60000 < now then
  redis.pcall('HSET', KEYS[2], 'swept', text(now))
  local all = redis.call('HGETALL', KEYS[2])
  for at = 1, #all, 2 do
    local kind, last = string.match(all[at], '^([st]):'), 0
    local ends = kind == 't' and '%S+ (%S+)' or '%S+'
    for each in string.gmatch(all[at + 1], ends) do last = math.max(last, tonumber(each) or 0) end
    if kind and last <= now then redis.call('HDEL', KEYS[2], all[at]) end
  end
end
return fence
"""
)

_STAMP = Script(
    _NOW
    + _INTENTS
    + """
local fence = redis.call('GET', KEYS[1])
local known = redis.call('HMGET', KEYS[2], 'fence', 'opens')
if not fence or fence ~= known[1] or now < tonumber(known[2]) then return {} end
local answer = {fence}
for at = 3, #KEYS do
  local token = redis.call('GET', KEYS[at])
  if token then
    redis.call('PEXPIRE', KEYS[at], ARGV[2])
  elseif next(intents(ARGV[at])) == nil then
    local kept = redis.pcall('SET', KEYS[at], ARGV[1], 'PX', ARGV[2])
    token = not kept.err and ARGV[1]
  end
  answer[#answer + 1] = token
end
return answer
"""
)

_ANNOUNCE = Script(
    _NOW
    + _INTENTS
    + """
for at = 3, #KEYS do redis.call('DEL', KEYS[at]) end
if redis.call('HEXISTS', KEYS[2], 's:' .. ARGV[1]) == 1 then return 0 end
for at = 3, #KEYS do
  local found = intents(ARGV[at])
  found[ARGV[1]] = text(now + ARGV[2])
  keep(ARGV[at], found)
end
return 1
"""
)

_SETTLE = Script(
    _NOW
    + _INTENTS
    + """
local came_first = false
redis.call('HDEL', KEYS[2], 's:' .. ARGV[1])
for at = 3, #KEYS do
  local found = intents(ARGV[at])
  if found[ARGV[1]] then
    found[ARGV[1]] = nil
    keep(ARGV[at], found)
  else
    came_first = true
    redis.call('DEL', KEYS[at])
  end
end
if came_first then redis.call('HSET', KEYS[2], 's:' .. ARGV[1], text(now + ARGV[2])) end
return 1
"""
)

_FILL = Script(
    """
local is_current = redis.call('GET', KEYS[1]) == ARGV[1]
for at = 4, #KEYS do
  is_current = is_current and redis.call('GET', KEYS[at]) == ARGV[at + 1]
end
if is_current then redis.pcall('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
if redis.call('GET', KEYS[3]) == ARGV[4] then redis.call('DEL', KEYS[3]) end
return is_current and 1 or 0
"""
)

_CLAIM = Script("""
local claimed = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return claimed and (claimed.err or 1) or 0
""")

_RELEASE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")


MAX_KNOWN = 10_000
"""Keys of tokens that are remembered as they are sent."""


class _Bulks(dict[str, bytes]):
    """Keys of tokens as they are sent, by their tags.

    Args:
        prefix: how they begin.
    """

    def __init__(self, prefix: bytes) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, tag: str) -> bytes:
        if len(self) >= MAX_KNOWN:
            self.clear()
        made = self[tag] = bulk(self._prefix + tag.encode("utf-8", "surrogatepass"))
        return made


class Keys:
    """Names of the keys of one cache.

    Args:
        name: the cache's name; those of one name on one server share what they keep.

    Example:
        >>> Keys("shop").token("table:product")
        b'{upshift:shop}:t:table:product'
    """

    def __init__(self, name: str) -> None:
        self.prefix = f"{{upshift:{name}}}:".encode()
        self.fence = self.prefix + b"fence"
        self.intents = self.prefix + b"intents"
        self._token = self.prefix + b"t:"
        self._fence_bulk = bulk(self.fence)
        self._bulks = _Bulks(self._token)

    def token(self, tag: str) -> bytes:
        """Return the key of a tag's token."""
        return self._token + tag.encode("utf-8", "surrogatepass")

    def tokens(self, tags: Iterable[str]) -> list[bytes]:
        """Return the keys of tags' tokens."""
        return [self.token(tag) for tag in tags]

    def look(self, tags: Iterable[str], *entries: bytes) -> Command:
        """Return the command that reads the fence, entries by their keys, and the tokens of tags."""
        return Mget([self._fence_bulk, *map(bulk, entries), *map(self._bulks.__getitem__, tags)])


def beat(keys: Keys, new_fence: bytes, fence_ms: int, closed_ms: int, run: str) -> Command:
    """Tell that a process is there; the answer is the fence, which is a new one where it had ended."""
    return _BEAT.call([keys.fence, keys.intents], new_fence, fence_ms, closed_ms, run)


def stamp(keys: Keys, tags: Sequence[str], new_token: bytes, token_ms: int) -> Command:
    """Read tokens, made where there are none; the answer is the fence and them, or nothing while closed."""
    return _STAMP.call([keys.fence, keys.intents, *keys.tokens(tags)], new_token, token_ms, *_encoded(tags))


def announce(keys: Keys, tags: Sequence[str], transaction: str, intent_ms: int) -> Command:
    """Note intents, and take tokens away."""
    return _ANNOUNCE.call(
        [keys.fence, keys.intents, *keys.tokens(tags)], transaction, intent_ms, *_encoded(tags)
    )


def settle(keys: Keys, tags: Sequence[str], transaction: str, remember_ms: int) -> Command:
    """Remove intents; where one is not there, the token of its tag ends."""
    return _SETTLE.call(
        [keys.fence, keys.intents, *keys.tokens(tags)], transaction, remember_ms, *_encoded(tags)
    )


def fill(  # noqa: PLR0913, PLR0917 - what an entry has
    keys: Keys,
    entry: bytes,
    claimed: bytes,
    fence: bytes,
    tokens: dict[str, bytes],
    value: bytes,
    ttl_ms: int,
    owner: str,
) -> Command:
    """Keep an entry whose tokens are current, and give its claim up; the answer tells whether they are."""
    return _FILL.call(
        [keys.fence, entry, claimed, *keys.tokens(tokens)], fence, value, ttl_ms, owner, *tokens.values()
    )


def claim(key: bytes, owner: str, ms: int) -> Command:
    """Claim a load; the answer is 1, 0 where it is another's, or a text where the server takes no claims."""
    return _CLAIM.call([key], owner, ms)


def release(key: bytes, owner: str) -> Command:
    """Give a claim up that is the owner's still."""
    return _RELEASE.call([key], owner)


def _encoded(tags: Iterable[str]) -> list[bytes]:
    return [tag.encode("utf-8", "surrogatepass") for tag in tags]
