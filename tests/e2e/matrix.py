"""What tests/e2e/test_matrix.py is made of: one group that does everything a run can do, nodes in it that are killed or
stopped at a named place, and what must hold of topics and ledgers afterwards.

    world = World(group(...), ledger, folds)     # agents applied
    world.publish()                              # a batch: every kind of effect, a fault, a run that is held, a request
    victim.die_at("append/owner:1"); world.look("append/owner:1")
    world.release(); victim.node.start(); world.wait_ended(); victim.node.stop()
    world.check(victim.node)"""
import hashlib
import json
import re
import signal
import threading
from collections import Counter, namedtuple
from urllib.parse import parse_qs

import journal
import tm
from folds import NAMED
from group import agent, post

ENDS = {"work": "run.completed", "bad": "run.faulted", "hold": "run.completed", "asked": "run.completed"}
EFFECTS = {"look", "pay", "step", "item", "shaky", "write", "tell", "last", "boom", "gate", "after", "call"}
Call = namedtuple("Call", "key task body")  # one effect that happened, whatever its kind


def get(url, **more):
    return {"call": "http", "with": {"method": "get", "endpoint": url, "query": {"n": "${ .n }"}}, **more}


def definitions(ledger, calls_path):
    """`work` has a safe call, world-changing ones that depend on each other's answers, loops by `switch` and by `for`, a
    retry, a process and an event; `bad` faults and leaves a dead letter; `hold` is under way for as long as a test
    wants; `asked` has no event."""
    url, first, same = ledger.url, {"from": "${ .[0] }"}, {"output": {"as": "${ $input }"}}
    begin = {"begin": {"set": {"n": "${ .n }"}}}
    write = {"command": f'printf "%s %s %s\\n" "$TIDEMARK_IDEMPOTENCY_KEY" "$TIDEMARK_RUN_ID" "$1" >>{calls_path}',
             "arguments": ["${ .n }"]}
    work = [
        begin,
        {"look": get(url("/look"), output={"as": "${ {n: $input.n, seen: .n} }"})},
        {"pay": {**post(url("/pay"), {"n": "${ .n }", "seen": "${ .seen }"}),
                 "output": {"as": "${ {n: $input.n, i: 0, paid: .n} }"}}},
        {"step": {**post(url("/step"), {"n": "${ .n }", "i": "${ .i }", "paid": "${ .paid }"}),
                  "output": {"as": "${ {n: $input.n, i: ($input.i + 1), paid: $input.paid} }"}}},
        {"again": {"switch": [{"more": {"when": "${ .i < 2 }", "then": "step"}}, {"no": {"then": "continue"}}]}},
        {"each": {"for": {"each": "x", "in": "${ [7, 8] }"},
                  "do": [{"item": {**post(url("/item"), {"n": "${ .n }", "x": "${ $x }"}), **same}}]}},
        {"tried": {"try": [{"shaky": {**post(url("/shaky"), {"n": "${ .n }"}), **same}}],
                   "catch": {"errors": {"with": {"status": 503}},
                             "retry": {"delay": {"milliseconds": 1}, "limit": {"attempt": {"count": 5}}}}}},
        {"write": {"run": {"shell": write}, **same}},
        {"tell": {"emit": {"event": {"with": {"type": "m.told", "data": {"n": "${ .n }"}}}}, **same}},
        {"last": post(url("/last"), {"n": "${ .n }", "paid": "${ .paid }"})},
    ]
    bad = [begin, {"boom": post(url("/boom"), {"n": "${ .n }"})}]
    hold = [begin, {"gate": {**get(url("/gate")), **same}}, {"after": post(url("/after"), {"n": "${ .n }"})}]
    asked = [{"call": post(url("/call"), {"n": "${ .n }"})}]
    return [agent("work", work, "m.work", input=first), agent("bad", bad, "m.bad", input=first),
            agent("hold", hold, "m.hold", input=first), agent("asked", asked)]


class World:
    def __init__(self, group, ledger, folds):
        self.g, self.ledger, self.folds = group, ledger, folds
        self.calls_path = group.tmp / "calls"
        self.gate = threading.Event()
        ledger.on("/gate", hang=self.gate).on("/boom", status=500).on("/shaky", status=503, first=True)
        self.batches, self.expected, self.asked = 0, Counter(), {}
        self.records, self.commits, self.lost, self.lows = {}, [], Counter(), {}
        group.apply(*definitions(ledger, self.calls_path))

    def publish(self, work=2):
        """One batch, before or while a node runs; the request without an event is sent twice under one id."""
        b, self.batches = self.batches, self.batches + 1
        events = [("m.hold", "hold")] + [("m.work", "work")] * work + [("m.bad", "bad")]
        self.g.publish([tm.event(t, {"n": f"{b}.{i}"}, id_=f"{b}.{i}", key=f"{b}.{i}")
                        for i, (t, _) in enumerate(events)])
        for _, name in events:
            self.expected[name] += 1
        self.ask(f"{b}.asked")
        self.ask(f"{b}.asked")
        return self

    def ask(self, name, **more):
        run = self.g.cli("runs", "start", "t/asked", "--id", name, "--input", json.dumps({"n": name}), **more)
        if run.status == 0:
            before = self.asked.setdefault(name, run.out.strip())
            assert before == run.out.strip(), f"--id {name} gave {before} and {run.out.strip()}"
            self.expected["asked"] = len(self.asked)
        return run

    def release(self):
        """Lets the runs of `hold` go on, for ever."""
        self.gate.set()

    # ---- witnesses

    def read(self):
        """All records ever seen, also those that have been cut away since."""
        now = self.g.journal()
        self.lows = {p: min(r.offset for r in now if r.partition == p) for p in {r.partition for r in now}}
        for r in now:
            self.records[r.partition, r.offset] = r
        return [self.records[at] for at in sorted(self.records)]

    def calls(self, seen):
        """Every effect that happened, by its own witness: the HTTP server, a file, a topic."""
        found, run_of = [], {n_of(run): name for name, run in seen.runs.items()}
        for e in self.ledger.entries():
            key = e.key
            if e.method == "GET":  # only world-changing calls carry a key
                n, task = parse_qs(e.query)["n"][0], e.path[1:]
                key = idempotency_key(run_of[n], f"/do/1/{task}", 0)
            found.append(Call(key, e.path[1:], e.query + e.body.decode()))
        if self.calls_path.exists():
            for text in self.calls_path.read_text().splitlines():
                key, run, n = text.split()
                found.append(Call(key, "write", f"{run} {n}"))
        for r in tm.read_all(self.g.bootstrap, self.g.topic):
            if r.header("ce_type") == "m.told":
                found.append(Call(r.header("ce_id"), "tell", r.value.decode()))
        return found

    # ---- checks

    def look(self, point, settled=True):
        """At a kill: what holds of a log that was left in the middle. Calls whose result is not there are lost: they, and
        only they, may be made once more."""
        if settled:
            self.ledger.settle()
        seen = journal.fold(self.read())
        assert not seen.broken, f"{point}: {seen.broken}"
        self.note_commit(seen)
        self.lost = Counter(c.key for c in self.calls(seen)) - results_of(seen)
        return seen

    def note_commit(self, seen):
        """I4 at this moment, and that the starting point which the commit names has not been cut away."""
        now = self.g.committed()
        journal.check_tide_mark(seen, now, self.commits[-1] if self.commits else None)
        for p, (_, metadata) in now.items():
            named = NAMED.match(metadata or "")
            assert not named or int(named.group(1)) >= self.lows[p], f"{metadata} is named, the log begins at {self.lows}"
        self.commits.append(now)

    def wait_ended(self, timeout_s=90):
        """All runs that were asked for; from records that may have been cut meanwhile."""
        want = sum(self.expected.values())

        def ended():
            return sum(1 for r in journal.fold(self.read()).runs.values() if r.ends) >= want

        tm.wait_until(ended, timeout_s, f"{want} runs to end", every_s=0.1)

    def check(self, *nodes, owners=2, late=()):
        """I1 to I6 when everything has ended and the nodes have left. `late`: keys that may have one call more. `owners`:
        how many ownerships the test made; each one more (a machine so slow that a session ended, a log that died under
        a living node) may have repeated what was under way."""
        records = self.read()
        seen = journal.check(records)
        self.note_commit(seen)
        self.check_runs(seen)
        calls = self.calls(seen)
        more = max(0, sum(map(len, seen.owners.values())) - owners)
        self.check_repeats(seen, calls, more, late(seen) if callable(late) else late)
        self.check_evidence(seen)
        self.check_letters(seen)
        found = self.folds.check(records)
        for committed in self.commits:
            self.folds.check_committed(found, committed)
        assert sum(f.voids for f in found.values()) == len(seen.void)
        live = self.folds.check_live(found, *[n.err_path for n in nodes])
        assert live, "no live state was compared"
        return seen

    def check_runs(self, seen):
        """I1: what was asked for is there, once, with the end that it must have."""
        got = Counter()
        for name, run in seen.runs.items():
            kind = run.requests[0].json["agent"].split("/")[1]
            got[kind] += 1
            assert run.end.type == ENDS[kind], f"I1: {kind} {name} ended as {run.end.type}: {run.end.value}"
        assert got == self.expected, f"I1: runs {dict(got)}, expected {dict(self.expected)}"
        missing = set(self.asked.values()) - set(seen.runs)
        assert not missing, f"I1: runs whose id was printed are lost: {missing}"

    def check_repeats(self, seen, calls, more, late):
        """I2 and I3: each result has one call, and besides them there are only the calls that were lost at kills; the
        same key has the same body. What a killed node's process did after the look is not known at the kill."""
        results, count, first = results_of(seen), Counter(c.key for c in calls), {}
        for c in calls:
            before = first.setdefault(c.key, c)
            assert before.body == c.body, f"I3: {c} was called before as {before}"
        bad = []
        for key in set(results) | set(count):
            unseen = key in late or (key in first and first[key].task in ("write", "tell"))
            most = results[key] + self.lost[key] + unseen + more
            if not results[key] <= count[key] <= most:
                bad.append(f"{first.get(key, key)}: {count[key]} calls, {results[key]} results, {self.lost[key]} lost")
        assert not bad, f"I2, I3: {bad}"

    def check_injected(self, point, run):
        """The call that the failpoint cut: not yet made at `effect`, made and lost at `effect-done`, so made twice."""
        name = point.split("/")[0]
        seen = journal.fold(self.read())
        calls = Counter(c.key for c in self.calls(seen))
        cut = [key for key in keys_of(seen, run) if self.lost[key]]
        if name == "effect":
            assert not cut, f"{point}: {run} had made a call already"
        elif name == "effect-done":
            assert len(cut) == 1, f"{point}: {run} had {cut} under way"
            assert calls[cut[0]] == results_of(seen)[cut[0]] + 1, f"{point}: {run} did not repeat {cut[0]} once"

    def check_evidence(self, seen):
        """I5: what a call was made from is the valid result in the log, not one that was lost or void."""
        paid, looked = {}, {}
        for run in seen.runs.values():
            if not run.requests[0].json["agent"].endswith("/work"):
                continue
            n = n_of(run)
            looked[n], = [o["seen"] for o in run.outputs("/do/1/look")]
            paid[n], = [o["paid"] for o in run.outputs("/do/2/pay")]
        for path, made in (("/pay", looked), ("/step", paid), ("/last", paid)):
            for e in self.ledger.entries(path):
                what = json.loads(e.body)
                given = what["seen" if path == "/pay" else "paid"]
                assert given == made[what["n"]], f"I5: {path} {what} was begun on a result that the log does not have"

    def check_letters(self, seen):
        """One dead letter a faulted run; repeats have the same key and value."""
        letters = {}
        for r in tm.read_all(self.g.bootstrap, f"tidemark.{self.g.name}.dlq"):
            letters.setdefault(r.header("tm-dlq-run"), set()).add((r.key, r.value))
        faulted = {name for name, run in seen.runs.items() if run.end.type == "run.faulted"}
        assert set(letters) == faulted, f"letters of {set(letters)}, faulted {faulted}"
        assert all(len(v) == 1 for v in letters.values()), letters


def n_of(run):
    """The number that a run's input has."""
    given = run.requests[0].json["input"]
    return (given[0] if isinstance(given, list) else given)["n"]


def idempotency_key(run, ref, visit, rewind=0):
    """docs/journal.md: a hash of what the task is, so that a repeat has the same."""
    h = hashlib.sha256()
    for part in (run, ref, str(visit), str(rewind)):
        h.update(len(part.encode()).to_bytes(4, "big") + part.encode())
    return h.hexdigest()[:32]


def results_of(seen):
    """{idempotency key: number of valid results} of effects; attempts of one task have one key."""
    return Counter(idempotency_key(run, ref, visit, rewind) for run, r in seen.runs.items()
                   for (ref, visit, rewind, _) in r.results if ref.rsplit("/", 1)[1] in EFFECTS)


def keys_of(seen, run):
    return {idempotency_key(run, ref, visit, rewind) for (ref, visit, rewind, _) in seen.runs[run].results}


def next_keys(before, after):
    """Of each run that `before` knows, the effect that came next."""
    keys = set()
    for run, was in before.runs.items():
        new = [at for at in after.runs[run].results if at not in was.results and at[0].rsplit("/", 1)[1] in EFFECTS]
        new.sort(key=lambda at: after.runs[run].results[at][0].offset)
        keys |= {idempotency_key(run, *at[:3]) for at in new[:1]}
    return keys


class Victim:
    """A node with failpoints. A static member has its partitions again at once when it is started anew."""

    def __init__(self, group, name="a", static=True):
        self.fired = group.tmp / f"failpoints-{name}"
        self.node = group.serve(name, node_id=f"{group.name}-{name}" if static else None)

    def start_armed(self, point, stop=False):
        """Starts it and returns at once: it may die before it is ready."""
        ready, self.node.ready_re = self.node.ready_re, re.compile("")
        self.node.start(env={"TIDEMARK_FAILPOINT": point, "TIDEMARK_FAILPOINT_LOG": str(self.fired),
                             "TIDEMARK_FAILPOINT_SIGNAL": "STOP" if stop else "KILL"})
        self.node.ready_re = ready

    def fired_lines(self):
        return self.fired.read_text().splitlines() if self.fired.exists() else []

    def die_at(self, point, timeout_s=60):
        """Started armed, it must end by SIGKILL at this point. Returns what was passing: a run, or nothing."""
        before = len(self.fired_lines())
        self.start_armed(point)
        status = self.node.wait_exit(timeout_s)
        assert status == -signal.SIGKILL, f"{point}: ended with {status}\n{self.node.tail()}"
        return self.what_fired(point, before)

    def stop_at(self, point, timeout_s=60):
        """The same with SIGSTOP: it stands at this point until node.cont()."""
        before = len(self.fired_lines())
        self.start_armed(point, stop=True)
        tm.wait_until(lambda: len(self.fired_lines()) > before or not self.node.alive(), timeout_s, f"{point} to fire")
        self.node.stopped = True
        return self.what_fired(point, before)

    def what_fired(self, point, before):
        lines = self.fired_lines()[before:]
        assert len(lines) == 1, f"{point}: fired {lines}\n{self.node.tail()}"
        word, name, *subject = lines[0].split(" ", 2)
        assert (word, name) == ("failpoint", point.split(":")[0]), lines
        return subject[0] if subject else None
