"""`cache.writes`: start and end with the application, and what options can be."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from upshift import Cache, Upshift
from upshift.errors import SettingsError, WriteBehindError


def test_an_application_flushes_what_waits_when_it_ends(tmp_path):
    table, app = {}, Starlette()
    up = Upshift(app, cache=Cache())
    stock = up.cache.writes.behind("stock", table.update, folder=tmp_path, delay="1h")
    with TestClient(app):
        stock.put("hose", 3)
        assert table == {}
    assert table == {"hose": 3}
    with pytest.raises(WriteBehindError, match="closed"):
        stock.put("hose", 2)
    up.close()


def test_an_application_flushes_what_a_killed_process_left_before_anything_is_put(tmp_path):
    table, app = {}, Starlette()
    left = Cache().writes.behind("stock", table.update, folder=tmp_path, delay="1h")
    left.put("hose", 3)
    assert left.close(0.0) == 1

    up = Upshift(app, cache=Cache())
    stock = up.cache.writes.behind("stock", table.update, folder=tmp_path)
    with TestClient(app):
        assert stock.flush(10) == 0
        assert table == {"hose": 3}
    assert stock.statistics().replayed == 1
    up.close()


def test_a_cache_that_is_closed_flushes(tmp_path):
    table, cache = {}, Cache()
    cache.writes.behind("stock", table.update, folder=tmp_path, delay="1h").put("hose", 3)
    cache.close()
    assert table == {"hose": 3}


def test_it_can_be_started_again(tmp_path):
    table, cache = {}, Cache()
    stock = cache.writes.behind("stock", table.update, folder=tmp_path)
    for number in range(3):
        with stock:
            stock.put("hose", number)
        assert table == {"hose": number}


def test_two_of_a_name_are_an_error(tmp_path):
    cache = Cache()
    cache.writes.behind("stock", print, folder=tmp_path)
    with pytest.raises(SettingsError, match="already"):
        cache.writes.behind("stock", print, folder=tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "x" * 200, "a\n"])
def test_a_name_that_is_no_folder_is_refused(name, tmp_path):
    with pytest.raises(SettingsError, match="no name"):
        Cache().writes.behind(name, print, folder=tmp_path)


@pytest.mark.parametrize("option", ["max_entries", "max_bytes", "max_batch", "attempts", "delay", "timeout"])
def test_an_option_that_is_not_positive_is_refused(option, tmp_path):
    with pytest.raises(SettingsError):
        Cache().writes.behind("stock", print, folder=tmp_path, **{option: 0})


def test_a_folder_that_others_can_write_to_is_refused(tmp_path):
    (tmp_path / "stock").mkdir()
    (tmp_path / "stock").chmod(0o777)
    with pytest.raises(SettingsError, match="writable by nobody else"):
        Cache().writes.behind("stock", print, folder=tmp_path).start()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be made"):
        Cache().writes.behind("stock", print, folder=tmp_path / "file").start()


def test_a_journal_of_another_version_is_left_as_it_is(tmp_path):
    left = Cache().writes.behind("stock", print, folder=tmp_path, delay="1h")
    left.put("hose", 3)
    left.close(0.0)
    (segment,) = (tmp_path / "stock").glob("*.journal")
    data = bytearray(segment.read_bytes())
    data[8] = 9
    segment.write_bytes(data)
    with pytest.raises(SettingsError, match="another version of Upshift"):
        Cache().writes.behind("stock", print, folder=tmp_path).start()
    assert segment.read_bytes() == data
