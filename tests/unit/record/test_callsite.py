"""Which line of a stack is the application's."""

import inspect
import json
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from upshift.record import CallSite, CallSites
from upshift.record import callsite as module
from upshift.record.callsite import MAX_FILES, MAX_FRAMES

HERE = __file__
OWN = str(Path(inspect.getfile(CallSites)).resolve())


def line_of(text):
    """The line number of the only line of this file that contains `text`."""
    lines = Path(HERE).read_text().splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if text in line and "line_of" not in line]
    return number


def compiled(file, source):
    """The names of a module that seems to be `file`."""
    names = {"find": lambda: CallSites().find(inspect.currentframe())}
    exec(compile(textwrap.dedent(source), file, "exec"), names)
    return names


def test_the_frame_itself_is_the_call_site_when_it_is_the_applications():
    site = CallSites().find(inspect.currentframe())  # marker: found here
    assert site == CallSite(
        HERE,
        line_of("# marker: found here"),
        "test_the_frame_itself_is_the_call_site_when_it_is_the_applications",
    )


def test_the_function_is_named_with_its_class():
    class Orders:
        def list_all(self):
            return CallSites().find(inspect.currentframe())

    assert Orders().list_all().function.endswith("Orders.list_all")


@pytest.mark.parametrize(
    "library",
    [
        "/venv/lib/python3.12/site-packages/sqlalchemy/engine/base.py",
        "/usr/lib/python3/dist-packages/sqlalchemy/engine/base.py",
        "<string>",
        "<frozen importlib._bootstrap>",
        OWN,
    ],
)
def test_frames_of_libraries_and_of_upshift_are_skipped(library):
    call = compiled(library, "def call(function):\n    return function()\n")["call"]
    frames = []

    def innermost():
        frames.append(inspect.currentframe())

    call(innermost)
    library_frame = frames[0].f_back
    assert library_frame.f_code.co_filename == library
    site = CallSites().find(library_frame)
    assert (site.file, site.function) == (HERE, "test_frames_of_libraries_and_of_upshift_are_skipped")


def test_frames_of_the_standard_library_are_skipped():
    sites = []

    def hook(value):
        caller = inspect.currentframe().f_back
        assert caller.f_code.co_filename == json.encoder.__file__
        sites.append(CallSites().find(caller))

    json.dumps(object(), default=hook)  # marker: through json
    assert [(site.file, site.line) for site in sites] == [(HERE, line_of("# marker: through json"))]


def test_a_folder_that_only_begins_like_a_library_is_the_applications():
    beside = str(Path(OWN).parent.parent) + "_shop/orders.py"
    frame = compiled(beside, "def call():\n    import inspect\n    return inspect.currentframe()\n")["call"]()
    assert CallSites().find(frame).file == beside


def test_without_an_application_frame_nothing_is_found():
    with ThreadPoolExecutor(1) as pool:  # a thread's stack has only the standard library below
        frame = pool.submit(sys._getframe).result()
    assert CallSites().find(frame) is None
    assert CallSites().find(None) is None


def test_a_stack_deeper_than_the_bound_has_no_call_site():
    library = "/x/site-packages/deep.py"
    source = """
        import sys
        def down(depth):
            return sys._getframe() if depth == 0 else down(depth - 1)
    """
    down = compiled(library, source)["down"]
    assert CallSites().find(down(MAX_FRAMES - 2)) is not None
    assert CallSites().find(down(MAX_FRAMES + 1)) is None


def test_file_names_remembered_are_bounded_and_further_ones_still_found():
    sites = CallSites()
    frame_of = "def call():\n    import sys\n    return sys._getframe()\n"
    sites._is_application = {f"/made/up/{number}.py": False for number in range(MAX_FILES)}
    frame = compiled("/shop/minted.py", frame_of)["call"]()
    assert sites.find(frame).file == "/shop/minted.py"
    assert len(sites._is_application) == MAX_FILES


def test_a_call_site_reads_as_file_line_and_function():
    assert str(CallSite("shop/orders.py", 42, "list_orders")) == "shop/orders.py:42 list_orders"


def test_a_virtual_environment_inside_the_project_is_a_librarys(tmp_path):
    """The application's folder may hold the environment; its libraries are no part of it."""
    package = tmp_path / "shop" / ".venv" / "lib" / "site-packages" / "library.py"
    package.parent.mkdir(parents=True)
    package.write_text("def call(function):\n    return function()\n")
    main = tmp_path / "shop" / "main.py"
    main.write_text(
        textwrap.dedent("""
        import inspect, sys
        from upshift.record import CallSites
        import library

        def handler():
            return library.call(lambda: CallSites().find(inspect.currentframe().f_back))

        print(handler().function)
        """)
    )
    paths = [str(package.parent), *(path for path in sys.path if path)]
    done = subprocess.run(
        [sys.executable, str(main)],
        env={"PYTHONPATH": ":".join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "handler\n"


def test_a_place_has_one_call_site_however_often_it_is_found(tmp_path):
    sites = CallSites()
    code = compile(
        "def here():\n    return frame()\n\n\ndef there():\n    return frame(), frame()\n",
        tmp_path / "app.py",
        "exec",
    )
    names = {"frame": lambda: sites.find(sys._getframe(1))}
    exec(code, names)
    first, again = names["here"](), names["here"]()
    assert first is again
    assert first == (str(tmp_path / "app.py"), 2, "here")
    two = names["there"]()
    assert two[0] == two[1] == (str(tmp_path / "app.py"), 6, "there")


def test_code_that_is_minted_has_its_own_call_sites_and_cannot_grow_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_SITES", 3)
    sites = CallSites()
    names = {"frame": lambda: sites.find(sys._getframe(1))}
    for number in range(10):
        exec(compile(f"def f{number}():\n    return frame()", tmp_path / f"{number}.py", "exec"), names)
        assert names.pop(f"f{number}")() == (str(tmp_path / f"{number}.py"), 2, f"f{number}")
    assert len(sites._sites) == 3
