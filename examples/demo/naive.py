"""What one writes on a Friday: a loop. usage: naive.py PACKAGES REPORT CALLS [KILL_AFTER]"""
import json
import os
import signal
import sys

import changelog

packages, report, calls = sys.argv[1:4]
kill_after = int(sys.argv[4]) if len(sys.argv) > 4 else 0
results = []
for line in open(packages, encoding="utf-8"):
    job = {**json.loads(line), "calls": calls}
    if job["changelog"] is None or job["package"] != job["lead"]:
        continue
    with changelog.call(job):
        found = changelog.read(job)
    found["score"] = found["fixes"] * 10 + found["cves"] * 2 + found["urgent"] * 5
    results.append(found)
    if len(results) == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
results.sort(key=lambda r: -r["score"])
with open(report, "w", encoding="utf-8") as f:
    f.writelines(f"{r['package']} {r['score']}\n" for r in results if r["fixes"])
