"""The journal as runs, read with kcat: the rules of docs/journal.md in the few lines that a reader needs. A fact counts
if epoch and nonce are those of the latest `owner` before it in its partition; anything else is void."""
import json
import subprocess

END = {"run.completed": "completed", "run.faulted": "faulted", "run.cancelled": "cancelled"}


def consume(brokers, topic):
    """All records of a topic up to now, in partition and offset order."""
    out = subprocess.run(["kcat", "-C", "-b", brokers, "-t", topic, "-o", "beginning", "-e", "-q", "-J"],
                         check=True, capture_output=True, text=True).stdout
    records = [json.loads(line) for line in out.splitlines()]
    return sorted(records, key=lambda r: (r["partition"], r["offset"]))


def headers(record):
    h = record.get("headers") or []
    return dict(zip(h[::2], h[1::2]))


class Journal:
    """runs: id -> {id, agent, version, key, feed, status, output, error, begun, ended}; the last two
    are the record times in ms of its first fact and of its end, 0: none yet."""

    def __init__(self, brokers, group="main"):
        self.runs, self.voids, self.records = {}, 0, 0
        partition, owner = None, None
        for r in consume(brokers, f"tidemark.{group}.runs"):
            if r["partition"] != partition:
                partition, owner = r["partition"], None
            self.records += 1
            h = headers(r)
            kind = h.get("tm-type", "")
            if kind == "owner":
                owner = (str(r["offset"]), h.get("tm-nonce"))
            elif kind == "run.requested":
                self._requested(r, h)
            elif "tm-epoch" not in h:
                continue
            elif (h["tm-epoch"], h.get("tm-nonce")) != owner:
                self.voids += 1
            else:
                self._fact(r, kind)

    def _requested(self, r, h):
        value = json.loads(r["payload"])
        feed = h.get("tm-src", "").rpartition(":")[0]
        self.runs.setdefault(run_of(r), {
            "id": run_of(r), "agent": value.get("agent"), "version": value.get("version"), "key": value.get("key"),
            "feed": feed, "status": "pending", "output": None, "error": None, "begun": 0, "ended": 0,
        })

    def _fact(self, r, kind):
        run = self.runs.get(run_of(r))
        if run is None:
            return
        run["begun"] = run["begun"] or r["ts"]
        if kind == "run.started":
            run["status"] = "running"
        if kind in END:
            value = json.loads(r["payload"]) if r.get("payload") else {}
            run.update(status=END[kind], output=value.get("output"), error=value.get("error"), ended=r["ts"])

    def of(self, agent, feed="live", status=None):
        """Runs of one agent, woken by one feed."""
        return [r for r in self.runs.values()
                if r["agent"] == f"demo/{agent}" and r["feed"] == feed and status in (None, r["status"])]


def run_of(record):
    return (record.get("key") or "").split("/", 1)[0]
