"""What UTF-8 cannot carry is replaced, wherever in a value it is, and nothing else is."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from upshift.record.encodable import encodable

texts = st.text(st.characters())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
)


@given(values, st.sampled_from(["replace", "backslashreplace"]))
def test_every_value_can_be_encoded_and_one_that_could_be_is_the_same(value, errors):
    plain = encodable(value, errors)

    assert json.dumps(plain, ensure_ascii=False).encode("utf-8")
    assert encodable(plain, errors) == plain
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return
    assert plain == value
