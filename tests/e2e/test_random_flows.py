"""Random definitions under SIGKILL: their output and calls are those of the reference (reference.py), whatever dies
when. TIDEMARK_TEST_SEEDS=FROM:TO runs others than the fixed ones."""
import json
import os
import random
import time

import journal
from reference import Random

FIRST, LAST = (int(n) for n in os.environ.get("TIDEMARK_TEST_SEEDS", "1:30").split(":"))


def test_random_flows_resume_as_the_reference_says(group, broker, session, ledger):
    g = group(broker.bootstrap, partitions=2, session=session)
    flows = {n: Random(n, ledger, f"/{n}") for n in range(FIRST, LAST + 1)}
    g.apply(*(f.definition for f in flows.values()))
    node, moments, kills = g.serve("a", node_id=f"{g.name}-a").start(), random.Random(FIRST), 0
    runs = {}
    for i, n in enumerate(flows):
        runs[n] = g.start_run(f"t/r{n}", {"a": n})
        if i % 10 == 5:
            time.sleep(moments.random() / 5)  # the moment is what is random; nothing is waited for
            node.kill9()
            kills += 1
            node.start(60)
    ended = g.wait_ended(len(runs), 120)
    node.stop()
    g.check()
    journal.check_effects(ledger.entries(method="POST"))
    bad = [f"seed {n}: {what}" for n, f in flows.items() for what in differences(f, n, ended[runs[n]].end, kills, ledger)]
    assert not bad, "\n".join(bad)


def differences(flow, seed, end, kills, ledger):
    (kind, output), calls = flow.expect({"a": seed})
    if end.type != kind or (kind == "run.completed" and end.json["output"] != output):
        yield f"ended {end.type} {end.json}, expected {kind} {output}"
    seen = [e for e in ledger.entries() if e.path.startswith(f"/{seed}/")]
    if not len(calls) <= len(seen) <= len(calls) + kills:
        yield f"{len(seen)} calls, expected {len(calls)} and at most {kills} more"
    made = unrepeated([(e.path, json.loads(e.body) if e.body else None) for e in seen])
    if not resumes(made, unrepeated(calls), kills):
        yield f"calls {made}, expected {unrepeated(calls)} with at most {kills} kills"


def unrepeated(calls):
    return [c for i, c in enumerate(calls) if i == 0 or c != calls[i - 1]]


def resumes(made, calls, kills):
    """Whether `made` are the calls in their order, where a kill may go back to the first whose result the log did not
    have. What follows that one were only safe calls (without a body), which may run ahead of an acknowledgement; and
    what was done before it has its acknowledgement, so that no later kill goes back behind it."""
    places = {(-1, 0, 0)}  # the call that was made last, the first that may be made again, kills
    for call in made:
        found = set()
        for at, low, used in places:
            if at + 1 < len(calls) and calls[at + 1] == call:
                found.add((at + 1, low, used))
            back = at
            while used < kills and back >= low and all(body is None for _, body in calls[back + 1:at + 1]):
                if calls[back] == call:
                    found.add((back, back, used + 1))
                back -= 1
        places = found
    return any(at == len(calls) - 1 for at, _, _ in places)


def test_what_counts_as_resumed():
    post, get, other = ("/a", {"a": 1}), ("/b", None), ("/c", {"a": 1})
    assert resumes([post, get, post, get, other], [post, get, other], 1)
    assert not resumes([post, get, post, get, other], [post, get, other], 0)
    assert not resumes([post, other, post, other], [post, other], 9), "a result was acknowledged before the next POST"
    assert not resumes([post, get], [post, get, other], 1)
    assert not resumes([post, get, get, post, get, other], [post, get, other], 2), "what was acknowledged stays so"
    assert resumes([], [], 0)
