"""docs/http.md: each route of the description has an example there, and all of them work when they are typed."""
import json
import os
import re
from pathlib import Path

import server
import walk

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/http.md"


def shown():
    """{(method, path without query)} of the page's curl commands."""
    found = set()
    for kind, _, body in walk.blocks(PAGE.read_text()):
        for line in body.splitlines() if kind == "sh" else ():
            for path in re.findall(r"\$T(/[^\s\"?)|]*)", line):
                method = re.search(r"-X (\w+)", line)
                found.add((method.group(1) if method else "GET", path.replace("$L", "0/0")))
    return found


def test_each_route_has_an_example_and_each_example_a_route():
    paths = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
    routes = {(m.upper(), p): re.compile(re.sub(r"\{\w+\}", "[^/]+", p)) for p, o in paths.items() for m in o}
    examples = shown()
    missing = [r for r, form in routes.items() if not any(m == r[0] and form.fullmatch(p) for m, p in examples)]
    unknown = [e for e in examples if not any(m == e[0] and form.fullmatch(e[1]) for (m, _), form in routes.items())]
    assert not missing, f"docs/http.md has no example of {missing}"
    assert not unknown, f"docs/http.md shows what is no route: {unknown}"


def test_the_page_is_true(tmp, tidemark_bin):
    log, http = server.free_port(), server.free_port()
    env = {"PATH": f"{tidemark_bin.resolve().parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    replace = {"tidemark dev agents &": f"tidemark dev agents --port {log} --http 127.0.0.1:{http} &", "127.0.0.1:8274": f"127.0.0.1:{http}"}
    assert walk.walk(PAGE, tmp, env, replace) >= 28
