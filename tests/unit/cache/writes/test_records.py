"""Records of a journal: whatever is cut off, what stands before it is read, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.cache.writes.records import MAGIC, Done, OtherFormatError, Put, checked, pack, replay, unpack
from upshift.errors import CacheKeyError

KEYS = st.one_of(
    st.text(max_size=5), st.integers(-(2**63), 2**64 - 1), st.tuples(st.text(max_size=3), st.integers(0, 9))
)
RECORDS = st.lists(
    st.one_of(
        st.builds(Put, st.integers(0, 20), KEYS, st.binary(max_size=20)),
        st.builds(Done, st.lists(st.integers(0, 20), max_size=3).map(tuple)),
    ),
    max_size=10,
)


@given(RECORDS, st.data())
def test_a_file_that_ends_anywhere_has_the_records_that_are_whole(records, data):
    packed = [pack(each) for each in records]
    whole = MAGIC + b"".join(packed)
    length = data.draw(st.integers(0, len(whole)))
    found, cut = unpack(whole[:length])

    ends, count = len(MAGIC), 0
    while count < len(packed) and ends + len(packed[count]) <= length:
        ends += len(packed[count])
        count += 1
    assert found == records[:count]
    assert cut == (length - ends if length >= len(MAGIC) else length)


@given(RECORDS.filter(bool), st.data())
def test_a_byte_that_was_changed_ends_what_is_read(records, data):
    whole = bytearray(MAGIC + b"".join(map(pack, records)))
    place = data.draw(st.integers(len(MAGIC), len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    found, cut = unpack(bytes(whole))
    assert found == records[: len(found)]
    assert len(found) < len(records)
    assert cut > 0


@given(st.binary(max_size=200))
def test_no_content_is_an_error(data):
    assert unpack(data)[1] <= len(data)
    unpack(MAGIC + data)
    replay([data, MAGIC + data])


def test_a_file_of_zeros_at_its_end_has_none_there():
    data = MAGIC + pack(Put(1, "a", b"1"))
    assert unpack(data + bytes(64)) == ([Put(1, "a", b"1")], 64)


def test_a_file_of_another_format_is_left_as_it_is():
    with pytest.raises(OtherFormatError, match="format 2"):
        unpack(MAGIC[:-1] + b"\x02" + pack(Put(1, "a", b"1")))


def test_a_replay_has_the_last_write_of_each_key_in_order():
    first = MAGIC + pack(Put(1, "a", b"old")) + pack(Put(2, "b", b"2")) + pack(Put(3, "a", b"new"))
    assert replay([first]).writes == [Put(2, "b", b"2"), Put(3, "a", b"new")]


def test_what_was_flushed_is_not_replayed_unless_it_was_put_again():
    first = MAGIC + pack(Put(1, "a", b"1")) + pack(Put(2, "b", b"2"))
    second = MAGIC + pack(Put(3, "b", b"3")) + pack(Done((1, 2)))
    assert replay([first, second]).writes == [Put(3, "b", b"3")]


def test_a_write_that_was_carried_forward_is_flushed_by_its_number():
    data = MAGIC + pack(Put(1, "a", b"1")) + pack(Put(1, "a", b"1")) + pack(Done((1,)))
    assert replay([data]).writes == []


@given(KEYS)
def test_keys_come_back_as_they_were(key):
    ((record,), _) = unpack(MAGIC + pack(Put(1, checked(key), b"")))
    assert (record.key, type(record.key)) == (key, type(key))


@pytest.mark.parametrize(
    "key",
    [None, True, 1.0, b"a", ["a"], ("a", None), ("a", ("b",)), 2**64, -(2**63) - 1, "x" * 1001, "\ud800"],
)
def test_what_cannot_be_a_key_is_refused(key):
    with pytest.raises(CacheKeyError):
        checked(key)
