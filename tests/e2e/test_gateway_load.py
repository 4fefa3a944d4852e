"""wrk as the client: what it was told is accepted is in the journal, and a node that is full says so and loses nothing."""
import json
import re
import subprocess

import tm
from group import agent
from http_api import address_of, ready

# Each thread counts for itself; `done` of wrk can read globals of a thread that are plain values.
SCRIPT = """
local threads = {}
accepted, later, other = 0, 0, 0
function setup(thread) table.insert(threads, thread) end
function init() wrk.method = "POST"; wrk.headers["Content-Type"] = "application/json"; wrk.body = '{"n":1}' end
function response(status)
  if status == 202 then accepted = accepted + 1
  elseif status == 429 or status == 503 then later = later + 1
  else other = other + 1 end
end
function done()
  local a, l, o = 0, 0, 0
  for _, t in ipairs(threads) do a = a + t:get("accepted"); l = l + t:get("later"); o = o + t:get("other") end
  io.write(string.format("COUNTS %d %d %d\\n", a, l, o))
end
"""


def wrk(node, path, script, connections, seconds):
    """(accepted, to come later, others, socket errors)"""
    done = subprocess.run(["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", script,
                           f"http://{address_of(node)}{path}"], text=True, capture_output=True, timeout=tm.PATIENCE_S)
    assert done.returncode == 0, done.stderr + done.stdout
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    return (*map(int, re.search(r"COUNTS (\d+) (\d+) (\d+)", done.stdout).groups()),
            sum(map(int, errors.groups())) if errors else 0)


def requests_in(g):
    return sum(r.type == "run.requested" for r in g.journal())


def test_what_wrk_was_told_is_accepted_is_done(group, embedded_log, tmp):
    g = group(embedded_log.bootstrap, partitions=2)
    g.apply(agent("set", [{"a": {"set": {"x": "${ .n }"}}}]))
    n = g.serve("a").start()
    ready(n)
    script = tmp / "post.lua"
    script.write_text(SCRIPT)
    accepted, later, other, errors = wrk(n, "/v1/agents/t/set/runs", script, 64, 2)
    assert accepted > 0 and other == 0 and errors == 0, (accepted, later, other, errors)
    # Requests whose answer was under way when wrk stopped are there too: one for each connection at most.
    assert accepted <= requests_in(g) <= accepted + 64
    g.wait_ended(accepted, 300)
    n.stop()
    g.check()


def test_a_full_node_says_later_and_keeps_what_it_accepted(group, embedded_log, tmp):
    g = group(embedded_log.bootstrap, partitions=1, runs={"active": 1, "waiting": 50})
    g.apply(agent("nap", [{"nap": {"wait": {"hours": 1}}}]))
    n = g.serve("a").start()
    http = ready(n)
    script = tmp / "post.lua"
    script.write_text(SCRIPT)
    accepted, later, other, errors = wrk(n, "/v1/agents/t/nap/runs", script, 16, 2)
    assert later > 0 and other == 0 and errors == 0, (accepted, later, other, errors)
    answer = http("POST", "/v1/agents/t/nap/runs", {})
    assert answer.problem(answer.status) and answer.status in (429, 503) and int(answer.headers["Retry-After"]) > 0
    assert accepted <= requests_in(g) <= accepted + 16 and json.loads(answer.body)["hint"]
    n.stop()
