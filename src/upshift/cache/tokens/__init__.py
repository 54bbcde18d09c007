"""Tokens: how a cache knows that what it holds is what the database says. The protocol *intent + token*.

The guarantee
    *What a hit returns is at least as new as the last commit that was acknowledged before the read began.*
    Acknowledged means that COMMIT has returned to whoever asked for it. Nothing is promised of a
    transaction that is still open: its writer sees its own writes by leaving the cache out.

The protocol
    What an entry depends on are *tags*: tables, rows, or names that the application gives. A tag has a
    token, and the intents of transactions that are about to commit a write to it.

    ===========  =============================================================================================
    announce     Before COMMIT, for each tag written: the intent is noted, and the token is gone.
    settle       After COMMIT has returned, or a rollback: the intent is removed. With the last one a new
                 token comes, one that never was before.
    stamp        Before a value is loaded: the tokens of its tags are read. Where one is gone, what is loaded
                 may be returned, and is not kept.
    hit          An entry carries the stamp of its loading. It is served if each tag has the very token still.
    ===========  =============================================================================================

    A token that is gone is handed to nobody, so a hit need not ask for intents: it compares tokens. That is
    what makes it as cheap as a dictionary.

Why a hit is never stale
    Let transaction W write tag t and commit at time c, and let a read that began after c hit entry E. E was
    stamped at some time s with t's token, which t has still. So no transaction announced t between s and
    the read, as an announcement ends the token for good. W announced before c. Was that before s? Then W
    had settled before s too, or there would have been no token to stamp with; so s lies after c, and E was
    loaded from a snapshot that has W. Was it after s? Then t's token is not E's, and E is no hit.

What it leans on
    A1. Every writer announces: it commits through a hooked engine. (What the database itself tells, by
        triggers, is told after COMMIT, and seen a little late: see `upshift.cache.triggers`.)
    A2. An entry's tags cover all that its value was computed from.
    A3. The stamp is older than the snapshot that the value is read from, and the snapshot holds nothing
        uncommitted.
    A4. An announcement that was acknowledged is not forgotten while its intent lasts. A tag without intents
        may be forgotten at any time: it comes back with a new token, and that only makes misses.
    A5. An intent whose transaction never settled ends after a time; by then it has committed or never will.

    Where COMMIT fails in a way that leaves open whether it happened, the intent is not settled: nobody
    knows what to say. It ends by A5, and until then what depends on the tag is read from the database.

Why nothing simpler will do
    Each of these serves stale values in a schedule of two or three steps, and
    `tests/unit/cache/tokens/test_model.py` finds one for each:

    - *Delete after commit.* A reader loads the old row, the writer commits and deletes, the reader fills:
      stale until its time is up. This is every cache-aside library there is. Deleting before the commit, or
      before and after, loses the same race on the other side; so do leases (Nishtala et al., "Scaling
      Memcache at Facebook", NSDI 2013) between COMMIT and the deletion, and for good when the writer dies
      there.
    - *A version that counts up.* It starts again when its key is evicted, and an old entry has the right
      number.
    - *No intents.* Between COMMIT and the new token a reader is served the old value; if the writer is
      killed there, all are, for good.
    - *Stamping after the query.* The token is newer than the value.
    - *Settling without announcing.* The time between COMMIT and settling again.

    Precedents: leases, above; TAO's (Bronson et al., USENIX ATC 2013) versioned invalidations; the intents
    are those of write-ahead logging: say what you are about to do, where a crash cannot lose it.

Carriers
    Where tokens live decides who shares a cache: `local` is for one process, `page` for those of a host.
    All carriers have the four operations of `Carrier`, and pass the same tests.
"""

from upshift.cache.tokens.carrier import Carrier
from upshift.cache.tokens.listened import ListenedTokens
from upshift.cache.tokens.local import LocalTokens
from upshift.cache.tokens.page import PageTokens
from upshift.cache.tokens.workers import tokens_of

__all__ = ["Carrier", "ListenedTokens", "LocalTokens", "PageTokens", "tokens_of"]
