"""README.md walked through in an empty folder, and the page of each example in a copy of the examples."""
import os
import shutil
from pathlib import Path

import pytest

import server
import walk

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(p for p in ROOT.glob("examples/*/README.md") if any(b[0] == "sh" for b in walk.blocks(p.read_text())))


@pytest.fixture
def place(tidemark_bin):
    """Environment and replacements of a walk: the program on the PATH, ports that are free."""
    log, web = server.free_port(), server.free_port()
    env = {"PATH": f"{tidemark_bin.resolve().parent}:{os.environ['PATH']}", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    return env, {"tidemark dev": f"tidemark dev --port {log}", "127.0.0.1:9092": f"127.0.0.1:{log}",
                 "127.0.0.1:8000": f"127.0.0.1:{web}", "http.server 8000": f"http.server {web}"}


def test_the_readme_is_true(tmp, place):
    env, replace = place
    assert walk.walk(ROOT / "README.md", tmp, env, replace) >= 6


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda p: p.parent.name)
def test_the_page_of_an_example_is_true(page, tmp, place):
    env, replace = place
    shutil.copytree(ROOT / "examples", tmp / "examples", ignore=shutil.ignore_patterns(".tidemark"))
    for path in (tmp / "examples").rglob("*.yaml"):
        text = path.read_text()
        for old in ("127.0.0.1:9092", "127.0.0.1:8000"):
            text = text.replace(old, replace[old])
        path.write_text(text)
    assert walk.walk(page, tmp, env, replace) >= 2


def test_every_example_has_commands_that_are_walked():
    """The demo has a command of its own, ./run demo."""
    walked = {p.parent.name for p in EXAMPLES}
    assert walked == {p.name for p in (ROOT / "examples").iterdir() if p.is_dir()} - {"demo"}
    listed = (ROOT / "examples/README.md").read_text()
    assert all(f"[{name}]({name})" in listed for name in walked)
