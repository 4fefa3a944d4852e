"""The description of the interface: it is what the program says of itself, a valid OpenAPI 3.1 document, and what a node
does: schemathesis makes requests from it and holds the answers against it."""
import json
import subprocess
import sys
from pathlib import Path

import tm
from group import agent
from http_api import Http
from openapi_spec_validator import validate

ROOT = Path(__file__).resolve().parents[2]
# What a schema cannot say (an agent's definition, a mark that is not there) is refused with 400, 404 or 409 all the same;
# requests of an unknown method are test_gateway_auth.py's.
LEFT_OUT = "unsupported_method,positive_data_acceptance"


def test_the_document_is_what_the_program_says(cli):
    said = cli("openapi", status=0).out
    kept = (ROOT / "docs/openapi.json").read_text()
    assert said == kept, "docs/openapi.json: write it again by `tidemark openapi > docs/openapi.json`"
    document = json.loads(said)
    validate(document)
    ids = [o["operationId"] for path in document["paths"].values() for o in path.values()]
    assert len(set(ids)) == len(ids)
    for path in document["paths"].values():
        for o in path.values():
            assert o["summary"][0].isupper() and not o["summary"].endswith("."), o["summary"]
            assert ("security" in o) == ("x-scope" in o), o["operationId"]


def test_a_node_does_what_the_document_says(group, embedded_log):
    g = group(embedded_log.bootstrap)
    g.apply(agent("set", [{"a": {"set": {"x": 1}}}]))
    n = g.serve("a").start()
    http = Http(n)
    assert http.get("/openapi.json").json == json.loads((ROOT / "docs/openapi.json").read_text())
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be ready")
    done = subprocess.run([Path(sys.executable).parent / "schemathesis", "run", f"http://{http.address}/openapi.json",
                           "--seed", "1", "--max-examples", "4", "--phases", "coverage,fuzzing", "--workers", "2",
                           "--exclude-checks", LEFT_OUT, "--exclude-path-regex", "stream$", "--request-timeout", "60", "--no-color"],
                          cwd=g.tmp, text=True, capture_output=True, timeout=280)
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
    assert http.get("/healthz").status == 200
    n.stop()
