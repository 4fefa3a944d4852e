"""Reading one Debian changelog, and the note that each call leaves. Used by the researcher's script task and by the
naive loop, so that both do the same work."""
import contextlib
import gzip
import os
import re
import time
from email.utils import parsedate_to_datetime

HEAD = re.compile(r"^(\S+) \(([^)]+)\) ([^;]+);.*urgency=([A-Za-z]+)")
TAIL = re.compile(r"^ -- .*>  (.+)$")
CVE = re.compile(r"CVE-\d{4}-\d{4,}")


@contextlib.contextmanager
def call(job):
    """Appends one line at the start and one at the end of the work to the file job["calls"]."""
    key = os.environ.get("TIDEMARK_IDEMPOTENCY_KEY", "-")
    note(job["calls"], "start", job["package"], key)
    yield
    note(job["calls"], "end", job["package"], key)


def note(path, what, package, key):
    with open(path, "a", encoding="ascii") as f:  # one write below PIPE_BUF: lines of parallel calls don't mix
        f.write(f"{time.time():.3f} {what} {package} {key}\n")


def entries(path):
    """(version, distributions, urgency, date, text) of each entry, newest first."""
    head, text = None, []
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as f:
        for line in f:
            m = HEAD.match(line)
            if m:
                head, text = m.groups(), []
                continue
            text.append(line)
            m = TAIL.match(line)
            if m and head:
                yield head[1], head[2], head[3].lower(), date(m[1]), "".join(text)
                head = None


def date(text):
    try:
        return parsedate_to_datetime(text.strip()).date().isoformat()
    except (TypeError, ValueError):  # some changelogs of the nineties have dates of their own
        return ""


def read(job):
    """What happened since job["since"] (a date): security fixes, urgent ones, CVE ids."""
    fixes, urgent, cves, ever, newest = 0, 0, set(), set(), ""
    for _, distributions, urgency, day, text in entries(job["changelog"]):
        ids = set(CVE.findall(text))
        ever |= ids
        newest = max(newest, day)
        if day < job["since"] or not (ids or "-security" in distributions):
            continue
        fixes += 1
        urgent += urgency in ("high", "critical", "emergency")
        cves |= ids
    return {
        **{k: job[k] for k in ("package", "source", "version", "changelog", "packages")},
        "newest": newest, "fixes": fixes, "urgent": urgent, "cves": len(cves), "cvesEver": len(ever),
    }
