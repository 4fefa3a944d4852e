"""I6 on what a real group wrote: tests/tools/foldcheck, a program with the product's own fold, begins at the log's start
and at every part.state and compares; what the nodes logged of their live states at debug level must agree too.

    folds = Folds(tidemark_bin, tmp)
    found = folds.check(records)             # {partition: Found}; fails when two starting points differ
    folds.check_live(found, node.err_path)   # how many live states were compared
    folds.check_committed(found, committed)  # what commits name is a starting point that was there"""
import json
import re
import subprocess
from collections import namedtuple
from pathlib import Path

Found = namedtuple("Found", "starts digests compared voids")
LIVE = re.compile(r"partition state when (owned|left).*partition=(\d+) next=(\d+) digest=([0-9a-f]{16})")
NAMED = re.compile(r"^part\.state (\d+) (\d+) (\d+)")


def line(rec):
    value = None if rec.value is None else rec.value.decode()
    return json.dumps({"offset": rec.offset, "time": rec.time_ms, "key": rec.key, "value": value,
                       "headers": rec.headers})


class Folds:
    def __init__(self, tidemark_bin, tmp):
        self.program, self.tmp = Path(tidemark_bin).parent / "tests/foldcheck", tmp

    def check(self, records):
        """Every record of a journal that was never cut, or all records ever seen of one that was."""
        found = {}
        for p in sorted({r.partition for r in records}):
            path = self.tmp / f"fold-{p}.jsonl"
            path.write_text("".join(line(r) + "\n" for r in records if r.partition == p))
            done = subprocess.run([str(self.program), str(path)], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"I6: partition {p}: status {done.returncode}\n{done.stderr[-6000:]}"
            seen = json.loads(done.stdout)
            starts = [(s["at"], s["first"], s["last"]) for s in seen["starts"]]
            found[p] = Found(starts, {n: d for n, _, d in seen["prefixes"]}, seen["compared"], seen["voids"])
        return found

    def check_live(self, found, *logs):
        """What each node held when it became the owner and when it left, against the fold of that prefix."""
        compared = 0
        for path in logs:
            for what, p, at, digest in LIVE.findall(path.read_text(errors="replace")):
                want = found[int(p)].digests.get(int(at)) if int(p) in found else None
                if int(at) == 0 or want is None:
                    continue  # nothing folded yet, or a prefix that ends between two records
                assert digest == want, f"I6: {path.name} {what} {p} at {at} with state {digest}, the fold has {want}"
                compared += 1
        return compared

    def check_committed(self, found, committed):
        for p, (at, metadata) in committed.items():
            if not NAMED.match(metadata or ""):
                continue
            # What the client gives may have bytes behind its end (tm._metadata).
            named = [s for s in found[p].starts if metadata.startswith(f"part.state {s[0]} {s[1]} {s[2]}")]
            assert named, f"I6: partition {p}: committed {metadata}, there are {found[p].starts}"
            assert named[0][0] <= at, f"I6: partition {p}: the starting point {metadata} is above the mark {at}"
