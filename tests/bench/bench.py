"""Runs the benchmarks: each tests/bench/bench_NAME.py is a program of its own that prints one JSON object a line:

    {"bench": "four steps", "case": "64 in flight", "who": "tidemark, set", "value": 5210.4, "unit": "runs/s",
     "better": "more", "peer": false, "more": {"p50_ms": 11.9}}

`value` is the figure of the table, `more` what else was measured, `better` ("more" or "less", where it makes sense)
says which way. Rows of one bench and case stand side by side: for each `peer` the table says how much better or worse
ours are. A peer that could not be had is a row with "value": null and a "reason", and the table says so. A line that is
not such an object, or an exit status other than 0, fails the whole. All lines go to build/bench.json with the
machine's size, and as a table to stdout. Arguments name the benchmarks to run (all by default); rows of the others stay
in build/bench.json as they were; `table` prints all that is there as Markdown. TIDEMARK_BIN is the program, a release build."""
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "build/bench.json"
LIMIT_S = 900


def machine():
    """What a reader must know to compare: the size of the machine, not its name."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory_kib = int(re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M).group(1))
    return {"cores": len(os.sched_getaffinity(0)), "cpu": cpu.group(1) if cpu else platform.machine(),
            "memory_gib": round(memory_kib / 2**20, 1), "kernel": platform.release(),
            "file_system": file_system(ROOT / "build"), "load_before": round(os.getloadavg()[0], 1)}


def file_system(path):
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], text=True, capture_output=True)
    return done.stdout.strip() or "unknown"


def parse(line, source):
    try:
        row = json.loads(line)
        if row["value"] is None and not row.get("reason"):
            raise ValueError("a row without a value needs its reason")
        return {"source": source, "bench": str(row["bench"]), "case": str(row["case"]),
                "who": str(row.get("who", "tidemark")), "peer": bool(row.get("peer")),
                "value": None if row["value"] is None else float(row["value"]), "unit": str(row["unit"]),
                "better": row.get("better"), "reason": row.get("reason"), "more": dict(row.get("more") or {})}
    except (ValueError, KeyError, TypeError) as e:
        raise SystemExit(f"bench: {source} printed a line that is no result ({e!r}): {line[:200]}") from None


def run_one(path):
    print(f"bench: {path.stem} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        done = subprocess.run([sys.executable, str(path)], stdout=subprocess.PIPE, text=True, timeout=LIMIT_S,
                              cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests/e2e'}:{ROOT / 'tests/kafka'}"})
    except subprocess.TimeoutExpired:
        raise SystemExit(f"bench: {path.stem} took more than {LIMIT_S} s") from None
    rows = [parse(line, path.stem) for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not rows:
        raise SystemExit(f"bench: {path.stem} ended with status {done.returncode} after {len(rows)} results")
    print(f"bench: {path.stem} took {time.monotonic() - start:.0f} s", file=sys.stderr)
    return rows


# ---- the table

def shown(value):
    if isinstance(value, list):
        return " ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def by_group(rows):
    groups = {}
    for r in rows:
        groups.setdefault((r["source"], r["bench"], r["case"]), []).append(r)
    return groups.values()


def ratio(row, group):
    """How ours of the group do beside this peer: `3.4x` of one, `set 3.4x, call POST 1.8x` of several; below 1 the
    peer is better."""
    if not row["peer"] or not row["value"] or row["better"] not in ("more", "less"):
        return ""
    ours = [r for r in group if not r["peer"] and r["value"]]
    times = [r["value"] / row["value"] if row["better"] == "more" else row["value"] / r["value"] for r in ours]
    names = [r["who"].removeprefix("tidemark").lstrip(", ") + " " if len(ours) > 1 else "" for r in ours]
    return ", ".join(f"{n}{t:.2g}x" if t < 100 else f"{n}{t:.0f}x" for n, t in zip(names, times))


def line_of(row, group, first):
    also = ", ".join(f"{k} {shown(v)}" for k, v in row["more"].items())
    what = (row["bench"], row["case"]) if first else ("", "")
    if row["value"] is None:
        return (*what, row["who"], "not measured", "", "", row["reason"])
    return (*what, row["who"], shown(row["value"]), row["unit"], ratio(row, group), also)


def table(rows):
    cells = [("benchmark", "case", "who", "result", "unit", "ours beside it", "also")]
    for group in by_group(rows):
        cells += [line_of(r, group, r is group[0]) for r in group]
    widths = [max(len(c[i]) for c in cells) for i in range(6)]
    return "\n".join("  ".join(c[i].rjust(widths[i]) if i == 3 else c[i].ljust(widths[i]) for i in range(6)) + "  " +
                     c[6] for c in cells).replace(" \n", "\n")


def markdown(rows):
    """The same for docs/benchmarks.md."""
    lines = ["| benchmark | case | who | result | ours beside it | also |", "|---|---|---|---|---|---|"]
    for group in by_group(rows):
        for r in group:
            bench, case, who, value, unit, beside, also = line_of(r, group, r is group[0])
            lines.append("| " + " | ".join((bench, case, who, f"{value} {unit}".strip(), beside, also)) + " |")
    return "\n".join(lines)


def kept(names):
    """Rows of the last run of those benchmarks that are not run now."""
    try:
        return [r for r in json.loads(OUT.read_text())["results"] if r["source"] not in names]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # none yet, or of an older shape: they are measured anew


def main(names):
    if names == ["table"]:
        print(markdown(json.loads(OUT.read_text())["results"]))
        return
    programs = {p.stem[len("bench_"):]: p for p in sorted(HERE.glob("bench_*.py"))}
    unknown = [n for n in names if n not in programs]
    if unknown or not programs:
        raise SystemExit(f"bench: no benchmark {', '.join(unknown) or 'at all'}; there are: {', '.join(programs)}")
    if not os.access(os.environ.get("TIDEMARK_BIN", ""), os.X_OK):
        raise SystemExit("bench: TIDEMARK_BIN names no program; ./run bench builds it and sets it")
    size, chosen = machine(), [p for name, p in programs.items() if not names or name in names]
    rows = [row for path in chosen for row in run_one(path)]
    everything = kept({p.stem for p in chosen}) + rows
    OUT.write_text(json.dumps({"machine": size, "time": time.time(), "results": everything}, indent=1) + "\n")
    print(", ".join(f"{k} {v}" for k, v in size.items()))
    print(table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
