"""Hooks for forks that do not keep their objects alive."""

from __future__ import annotations

import gc
import os
import weakref

import pytest

from upshift.record.fork import after_fork


class Counting:
    def __init__(self):
        self.calls = 0
        after_fork(self.call)

    def call(self):
        self.calls += 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_method_is_called_in_the_child_and_not_in_the_parent():
    counting = Counting()
    child = os.fork()
    if child == 0:
        os._exit(10 + counting.calls)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 11
    assert counting.calls == 0


def test_the_hook_does_not_keep_the_object():
    counting = Counting()
    reference = weakref.ref(counting)
    del counting
    gc.collect()
    assert reference() is None
