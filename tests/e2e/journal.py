"""An independent reader of the journal: what docs/journal.md says, in a second implementation that shares no line with
the program. Kill tests feed it every record of `tidemark.<group>.runs` and the ledger of the test HTTP server.

    seen = journal.check(tm.journal(bootstrap, group))   # I1, I3, I5 as far as records show; AssertionError lists all
    assert seen.runs[run].end.type == "run.completed"
    assert seen.void                                     # a former owner's facts: in the log, never used
    journal.check_tide_mark(seen, tm.committed(...))     # I4
    repeated = journal.check_effects(ledger.entries())   # I3 as the world saw it
    journal.check_repeats(seen, ledger.entries(), task_of)   # and how often at most

The log must not have been cut: a run whose request is gone is reported."""
import re
from dataclasses import dataclass, field

REQUESTS = {"run.requested", "run.cancel", "run.suspend", "run.resume", "run.retry", "run.rewind", "run.purge",
            "event.delivered"}
ENDS = {"run.completed", "run.faulted", "run.cancelled"}
RESULTS = {"task.completed", "task.faulted"}
TASK_KEY = re.compile(r"^([0-9A-Za-z]+)(/.*)#(\d+)\.(\d+)\.(\d+)/([a-z.]+)@([0-9a-f]{16})$")
RUN_KEY = re.compile(r"^([0-9A-Za-z]+)/[!?]")


@dataclass
class Run:
    requests: list = field(default_factory=list)
    ends: list = field(default_factory=list)
    results: dict = field(default_factory=dict)  # (ref, visit, rewind, attempt) -> [Rec], the valid ones
    pin: int = -1  # the offset below which nothing is needed: the request, later the latest snapshot's `at`

    @property
    def end(self):
        return self.ends[0] if self.ends else None

    def outputs(self, ref):
        return [r.json.get("output") for (at, *_), found in self.results.items() if at == ref for r in found]


@dataclass
class Seen:
    runs: dict = field(default_factory=dict)
    void: list = field(default_factory=list)
    owners: dict = field(default_factory=dict)  # partition -> [owner Rec]
    settled: dict = field(default_factory=dict)  # (partition, offset of the request) -> reason
    broken: list = field(default_factory=list)

    def unfinished(self):
        return sorted(run for run, r in self.runs.items() if not r.ends and not self.all_settled(r))

    def all_settled(self, run):
        return all((r.partition, r.offset) in self.settled for r in run.requests)


def place(rec):
    return f"{rec.partition}/{rec.offset} {rec.key}"


def run_of(rec):
    m = TASK_KEY.match(rec.key) or RUN_KEY.match(rec.key)
    return m.group(1) if m else None


def fold(records):
    """Every record once, in offset order within its partition; rules that a single record can break are checked."""
    seen, latest, keys, requests = Seen(), {}, {}, {}
    for rec in sorted(records, key=lambda r: (r.partition, r.offset)):
        if rec.value is None:
            continue  # a tombstone: purge
        if rec.type == "owner":
            latest[rec.partition] = rec
            seen.owners.setdefault(rec.partition, []).append(rec)
        elif rec.type in REQUESTS:
            requests[rec.partition, rec.offset] = rec
            note_request(seen, rec)
        else:
            note_fact(seen, rec, latest.get(rec.partition), keys, requests)
    return seen


def note_request(seen, rec):
    if rec.type != "run.requested":
        return
    run = seen.runs.setdefault(run_of(rec), Run())
    run.requests.append(rec)
    run.pin = rec.offset if run.pin < 0 else run.pin


def note_fact(seen, rec, owner, keys, requests):
    if not owner or (rec.header("tm-epoch"), rec.header("tm-nonce")) != (str(owner.offset), owner.header("tm-nonce")):
        seen.void.append(rec)
        return
    if rec.key in keys:
        seen.broken.append(f"{place(rec)}: a fact key written twice, first at {keys[rec.key].offset}")
    keys[rec.key] = rec
    consumed = rec.header("tm-consumed")
    if consumed is not None and int(consumed) >= rec.offset:
        seen.broken.append(f"{place(rec)}: consumes offset {consumed}, which is not before it")
    elif consumed is not None and (rec.partition, int(consumed)) not in requests:
        seen.broken.append(f"{place(rec)}: consumes offset {consumed}, which is no request")
    if rec.type == "request.settled" and consumed is not None:
        seen.settled[rec.partition, int(consumed)] = rec.header("tm-status")
    apply_to_run(seen, rec)


def apply_to_run(seen, rec):
    run = seen.runs.get(run_of(rec)) if run_of(rec) else None
    if rec.type in ENDS | RESULTS | {"run.snapshot"} and run is None:
        seen.broken.append(f"{place(rec)}: a fact of a run that nothing requested")
    elif rec.type in ENDS:
        run.ends.append(rec)
    elif rec.type == "run.snapshot":
        run.pin = max(run.pin, int(rec.header("tm-at")))
    elif rec.type in RESULTS:
        m = TASK_KEY.match(rec.key)
        if not m:
            seen.broken.append(f"{place(rec)}: not the key of a task fact")
            return
        run.results.setdefault((m.group(2), int(m.group(3)), int(m.group(4)), int(m.group(5))), []).append(rec)
        if run.ends:
            seen.broken.append(f"{place(rec)}: a result after the run's end at {run.end.offset}")


def check(records, unfinished=()):
    """I1, I3, I5. `unfinished` names the runs that may still be under way."""
    seen = fold(records)
    for name, run in seen.runs.items():
        if len(run.ends) > 1:
            seen.broken.append(f"I1: {name} ended {len(run.ends)} times: {[place(r) for r in run.ends]}")
        for at, found in run.results.items():
            if len(found) > 1:
                seen.broken.append(f"I3: {name} {at} has {len(found)} valid results: {[place(r) for r in found]}")
        again = [r for r in run.requests[1:] if (r.partition, r.offset) not in seen.settled]
        if again and name not in unfinished:
            seen.broken.append(f"I1: {name} was requested again and that was not settled: {[place(r) for r in again]}")
    late = [name for name in seen.unfinished() if name not in unfinished]
    if late:
        seen.broken.append(f"I1: {len(late)} of {len(seen.runs)} runs have no end: {late[:10]}")
    for p, owners in seen.owners.items():
        nonces = [o.header("tm-nonce") for o in owners]
        if len(set(nonces)) != len(nonces):
            seen.broken.append(f"I5: partition {p}: a nonce was used for two ownerships")
    assert not seen.broken, f"{len(seen.broken)} rules broken:\n" + "\n".join(seen.broken[:40])
    return seen


def check_tide_mark(seen, committed, before=None):
    """I4: committed {partition: (offset, metadata)} passes no unfinished run and is not behind `before`."""
    pins = {}
    for name in seen.unfinished():
        run = seen.runs[name]
        p = run.requests[0].partition
        pins[p] = min(pins.get(p, run.pin), run.pin)
    bad = [f"partition {p}: committed {at}, but a run needs {pins[p]}" for p, (at, _) in committed.items()
           if p in pins and at > pins[p]]
    bad += [f"partition {p}: committed {committed[p][0]}, went back from {at}" for p, (at, _) in (before or {}).items()
            if p in committed and committed[p][0] < at]
    assert not bad, "I4: " + "; ".join(bad)


def check_effects(entries):
    """I3 as the world saw it: each call has a key, and calls with one key are one call. {key: how often} over 1."""
    first, count, bad = {}, {}, []
    for e in entries:
        what = (e.method, e.path, e.query, e.body)
        if not e.key:
            bad.append(f"{e.method} {e.path} without an Idempotency-Key")
        elif first.setdefault(e.key, what) != what:
            bad.append(f"key {e.key}: {what} after {first[e.key]}")
        count[e.key] = count.get(e.key, 0) + 1
    assert not bad, f"I3: {len(bad)} calls: " + "; ".join(bad[:10])
    return {key: n for key, n in count.items() if n > 1}


def owners_between(seen, partition, begin, end):
    """How many ownerships the log shows between two offsets, the one at `begin` included."""
    at = [o.offset for o in seen.owners.get(partition, [])]
    return sum(first < end and (i + 1 == len(at) or at[i + 1] > begin) for i, first in enumerate(at))


def calls_allowed(seen, run, name):
    """One call an attempt for each ownership in which it had no result yet: only who loses a partition while a call is
    under way can make another repeat it."""
    request, allowed = run.requests[0], 0
    begin = request.offset
    attempts = sorted((at[3], found[0].offset) for at, found in run.results.items() if at[0].endswith("/" + name))
    for _, end in attempts or [(1, float("inf"))]:
        allowed += owners_between(seen, request.partition, begin, end)
        begin = end
    return allowed


def check_repeats(seen, entries, task_of):
    """I3, exactly: no call is made on behalf of an ownership that knew of its result, or twice in one. task_of(entry) is
    its run and how the reference of its task ends, `call0` or `l/for/2/do/0/call0`. The log must be whole."""
    calls = {}
    for e in entries:
        calls[task_of(e)] = calls.get(task_of(e), 0) + 1
    bad = [f"{run} {name}: {n} calls, at most {allowed} allowed" for (run, name), n in calls.items()
           if n > (allowed := calls_allowed(seen, seen.runs[run], name))]
    assert not bad, f"I3: {len(bad)} tasks called too often: " + "; ".join(bad[:10])
