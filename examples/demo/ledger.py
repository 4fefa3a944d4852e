"""What became of the packages, from the journal and the scripts' own notes.

usage: ledger.py wait BROKERS PACKAGES            until every package has its end; says how far it is
       ledger.py show BROKERS PACKAGES CALLS NAIVE_CALLS KILLED_MS
       ledger.py wait-agent BROKERS AGENT FEED COUNT  until that many runs of the agent ended
       ledger.py diff BROKERS FEED PACKAGE        what another feed of the reviewer says, by package; PACKAGE was before it"""
import collections
import sys
import time

import journal

GIVE_UP_S = 240


def fail(text, hint):
    sys.exit(f"ledger: {text}\n     hint: {hint}")


def wait(done):
    """done(journal, say) -> bool, asked about once a second."""
    brokers, until, tty = sys.argv[2], time.time() + GIVE_UP_S, sys.stdout.isatty()
    while time.time() < until:
        state = {}
        if done(journal.Journal(brokers), state):
            print(("\r" if tty else "") + state["text"])
            return
        if tty:
            print("\r" + state["text"], end="", flush=True)
        time.sleep(0.7)
    fail(f"not done after {GIVE_UP_S} s: {state['text']}", "build/demo/engine.log says what the engine was doing")


def ended(runs):
    return [r for r in runs if r["status"] not in ("pending", "running")]


def chosen(j):
    return [r for r in j.of("planner", status="completed") if r["output"]["read"]]


def all_done(count):
    def done(j, state):
        planned, read, reviewed = (ended(j.of(a)) for a in ("planner", "researcher", "reviewer"))
        faults = sum(r["status"] != "completed" for r in planned + read)
        wanted = len(chosen(j))
        state["text"] = (f"  planned {len(planned)}/{count}, read {len(read)}/{wanted}, reviewed {len(reviewed)}/{wanted}"
                         + (f", faulted {faults}" if faults else ""))
        return len(planned) == count and len(reviewed) + faults >= wanted
    return done


def calls_of(path):
    """(calls begun, calls that came to their end, distinct pieces of work) of a notes file."""
    starts, ends, keys = 0, 0, collections.Counter()
    with open(path, encoding="ascii") as f:
        for line in f:
            _, what, package, key = line.split()
            starts += what == "start"
            ends += what == "end"
            keys[(package, key)] += what == "start"
    return starts, ends, len(keys)


def show(brokers, packages, calls, naive, killed_ms):
    j = journal.Journal(brokers)
    with open(packages, encoding="utf-8") as f:
        count = sum(1 for _ in f)
    runs = [r for a in ("planner", "researcher", "reviewer") for r in j.of(a)]
    done = {a: {r["key"] for r in j.of(a, status="completed")} for a in ("planner", "reviewer")}
    lost = count - len(done["planner"]) + sum(r["key"] not in done["reviewer"] for r in chosen(j))
    starts, _, work = calls_of(calls)
    n_starts, _, _ = calls_of(naive)
    n_work, killed = len(chosen(j)), int(killed_ms)
    rows = [
        ("", "tidemark", "naive loop"),
        ("changelogs to read", len(chosen(j)), n_work),
        ("script calls made", starts, n_starts),
        ("  of these repeated", starts - work, n_starts - n_work),
        ("runs ended before the kill, kept", sum(0 < r["ended"] < killed for r in runs), 0),
        ("runs under way, resumed after it", sum(0 < r["begun"] < killed <= r["ended"] for r in runs), 0),
        ("packages lost", lost, "0 (by starting again)"),
        ("journal records / void ones", f"{j.records} / {j.voids}", "-"),
    ]
    for name, ours, theirs in rows:
        print(f"  {name:<36} {ours!s:>12} {theirs!s:>22}")
    if lost:
        fail(f"{lost} packages have no result", "tidemark runs list --where status=faulted; tidemark dlq list")


def diff(brokers, feed, left_out):
    j = journal.Journal(brokers)
    before = {r["key"]: r["output"] for r in j.of("reviewer", status="completed") if r["key"] != left_out}
    after = {r["key"]: r["output"] for r in j.of("reviewer", feed, "completed") if r["key"] in before}

    def places(reviews):
        ranked = sorted((k for k in reviews if reviews[k]["fixes"]), key=lambda k: (-reviews[k]["score"], k))
        return {k: i + 1 for i, k in enumerate(ranked)}

    old, new = places(before), places(after)
    moved = sorted((k for k in new if old.get(k) != new[k]), key=lambda k: new[k])
    print(f"  {len(after)} packages reviewed again, {len(moved)} of {len(new)} with fixes changed their place; the first ten:")
    for k in moved[:10]:
        print(f"  {k:<28} place {old.get(k, '-')!s:>3} -> {new[k]:>3}   score {before[k]['score']:>4} -> {after[k]['score']:>4}")
    missing = set(before) - set(after)
    if missing:
        fail(f"{len(missing)} packages were not reviewed again", "tidemark replays list")


def wait_agent(agent, feed, count):
    def done(j, state):
        n = len(ended(j.of(agent, feed)))
        state["text"] = f"  {agent}: {n}/{count}"
        return n >= count
    return done


def main():
    what, args = sys.argv[1], sys.argv[3:]
    if what == "wait":
        with open(args[0], encoding="utf-8") as f:
            wait(all_done(sum(1 for _ in f)))
    elif what == "wait-agent":
        wait(wait_agent(args[0], args[1], int(args[2])))
    elif what == "show":
        show(sys.argv[2], *args)
    elif what == "diff":
        diff(sys.argv[2], *args)
    else:
        sys.exit(__doc__)


main()
