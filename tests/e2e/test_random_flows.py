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
    made = [(e.path, json.loads(e.body) if e.body else None) for e in seen]
    if unrepeated(made) != unrepeated(calls):
        yield f"calls {unrepeated(made)}, expected {unrepeated(calls)}"


def unrepeated(calls):
    return [c for i, c in enumerate(calls) if i == 0 or c != calls[i - 1]]
