"""What end-to-end tests need to speak about the program: the command line, nodes as processes, records of topics,
a test HTTP server with a ledger. Clients are those that others wrote; nothing here knows tidemark's sources."""
import json
import os
import re
import signal
import subprocess
import time
import uuid
import warnings
from collections import namedtuple
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from server import free_port

TAIL_CHARS = 4000
# No deadline of a test is shorter, whatever it says: it ends a wait for what will never come. How long something takes
# is no property of the program on a machine that is busy with other things.
PATIENCE_S = 120


def patience(timeout_s):
    return max(timeout_s, PATIENCE_S)


def wait_until(cond, timeout_s=PATIENCE_S, what="the condition", every_s=0.02):
    """Returns the first true value of cond(); fails by saying what was waited for and what was seen last."""
    timeout_s = patience(timeout_s)
    end = time.monotonic() + timeout_s
    while True:
        seen = cond()
        if seen:
            return seen
        if time.monotonic() >= end:
            raise AssertionError(f"waited {timeout_s} s for {what}; last seen: {seen!r}")
        time.sleep(every_s)


# ---- the command line

Done = namedtuple("Done", "status out err args")


class Cli:
    """cli("runs", "list") runs the command to its end. cli.json(...) also wants status 0 and one JSON value."""

    def __init__(self, binary, cwd, env=None):
        self.binary, self.cwd = str(binary), str(cwd)
        self.env = {**os.environ, "NO_COLOR": "1", **(env or {})}

    def __call__(self, *args, input=None, timeout_s=PATIENCE_S, status=None, env=None):
        args = [str(a) for a in args]
        p = subprocess.run([self.binary, *args], cwd=self.cwd, env={**self.env, **(env or {})}, input=input,
                           text=True, capture_output=True, timeout=patience(timeout_s))
        done = Done(p.returncode, p.stdout, p.stderr, args)
        if status is not None and p.returncode != status:
            raise AssertionError(f"tidemark {' '.join(args)}: status {p.returncode}, expected {status}\n"
                                 f"stdout: {p.stdout[-TAIL_CHARS:]}\nstderr: {p.stderr[-TAIL_CHARS:]}")
        return done

    def json(self, *args, status=0, **more):
        return json.loads(self(*args, status=status, **more).out)

    def jsonl(self, *args, status=0, **more):
        return [json.loads(line) for line in self(*args, status=status, **more).out.splitlines() if line]


# ---- processes

class Node:
    """One running tidemark process: a log, a dev or a serve.

    start() returns when a line of stdout matches `ready`; the match is in .ready. The output of all its starts is in
    out_path and err_path. stop() wants exit status 0, so that what a sanitizer finds at the end fails the test."""

    def __init__(self, binary, args, folder, name="node", ready=r"listening on (\S+):(\d+)", env=None, cwd=None):
        self.command = [str(binary), *map(str, args)]
        self.cwd = str(cwd or folder)
        self.name = name
        self.ready_re = re.compile(ready, re.M)
        self.env = {**os.environ, "NO_COLOR": "1", **(env or {})}
        self.out_path, self.err_path = Path(folder) / f"{name}.out", Path(folder) / f"{name}.err"
        self.process = self.ready = None
        self.stopped = False

    def start(self, timeout_s=30, env=None):
        assert not self.alive(), f"{self.name} runs already"
        begin = self.out_path.stat().st_size if self.out_path.exists() else 0
        with self.out_path.open("ab") as out, self.err_path.open("ab") as err:
            self.process = subprocess.Popen(self.command, cwd=self.cwd, env={**self.env, **(env or {})},
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            start_new_session=True)
        self.ready = wait_until(lambda: self._match(begin), timeout_s, f"{self.name} to print {self.ready_re.pattern}")
        return self

    def _match(self, begin):
        # The status first: what was written before the end is then surely seen below.
        status = self.process.poll()
        with self.out_path.open("rb") as f:
            f.seek(begin)
            m = self.ready_re.search(f.read().decode(errors="replace"))
        if not m and status is not None:
            raise AssertionError(f"{self.name} ended with {status} before it was ready\n{self.tail()}")
        return m

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def tail(self):
        texts = [p.read_text(errors="replace")[-TAIL_CHARS:] if p.exists() else "" for p in
                 (self.out_path, self.err_path)]
        return f"--- {self.name} stdout\n{texts[0]}\n--- {self.name} stderr\n{texts[1]}"

    def wait_exit(self, timeout_s=30):
        try:
            return self.process.wait(patience(timeout_s))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {patience(timeout_s)} s\n{self.tail()}") from None

    def stop(self, timeout_s=30):
        """SIGTERM, which drains."""
        if not self.alive():
            return
        self.cont()
        self.process.terminate()
        status = self.wait_exit(timeout_s)
        assert status == 0, f"{self.name} ended with {status} after SIGTERM\n{self.tail()}"

    def kill9(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.stopped = False

    def restart(self, timeout_s=30, env=None):
        self.stop()
        return self.start(timeout_s, env)

    def sigstop(self):
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def wait_stopped(self, timeout_s=30):
        """Until it has stopped itself, at a failpoint with TIDEMARK_FAILPOINT_SIGNAL=STOP."""
        wait_until(lambda: self.state() in "TZ", timeout_s, f"{self.name} to stop itself", every_s=0.05)
        assert self.state() == "T", f"{self.name} ended\n{self.tail()}"
        self.stopped = True

    def state(self):
        """As in ps: T is stopped, Z ended."""
        return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

    def cont(self):
        if self.stopped:
            self.process.send_signal(signal.SIGCONT)
            self.stopped = False

    def memory_bytes(self):
        """Resident memory now."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", text, re.M).group(1)) * 1024

    def close(self):
        """For fixtures: ends it and whatever it left behind in its own session; never fails."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all of them are gone already
        self.process.wait()


class EmbeddedLog(Node):
    """`tidemark log` on a folder; its port is kept over restarts, so that clients find it again. Port 0 would not do: while
    the log is down, the kernel may give its port to any connection."""

    def __init__(self, binary, folder, env=None):
        self.data = Path(folder) / "log-data"
        self.bootstrap = f"127.0.0.1:{free_port()}"
        super().__init__(binary, ["log", "--data", self.data, "--listen", self.bootstrap], folder, "log", env=env)

    def start(self, timeout_s=30, env=None):
        super().start(timeout_s, env)
        self.bootstrap = ":".join(self.ready.groups())
        return self


def folder_bytes(path):
    """Size of the files in a folder that others change meanwhile."""
    total = 0
    for f in Path(path).iterdir():
        try:
            total += f.stat().st_size
        except FileNotFoundError:
            pass  # removed since it was listed
    return total


# ---- topics and records

class Rec(namedtuple("Rec", "topic partition offset key value headers time_ms")):
    """A record; headers is a list of (name, text or None) in order."""

    def header(self, name):
        for k, v in self.headers:
            if k == name:
                return v
        return None

    @property
    def json(self):
        return json.loads(self.value)

    @property
    def type(self):
        return self.header("tm-type")


def _text(b):
    return None if b is None else b.decode(errors="surrogateescape")


def _rec(m):
    return Rec(m.topic(), m.partition(), m.offset(), _text(m.key()), m.value(),
               [(k, _text(v)) for k, v in m.headers() or []], m.timestamp()[1])


def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def create_topic(bootstrap, topic, partitions=1, config=None, timeout_s=PATIENCE_S):
    client = admin(bootstrap)  # kept until the result is there: a collected client cancels its requests
    made = client.create_topics([NewTopic(topic, partitions, 1, config=config or {})], operation_timeout=timeout_s)
    made[topic].result(timeout_s)
    wait_until(lambda: len(partitions_of(bootstrap, topic)) == partitions, timeout_s, f"{topic} in the metadata")


def alter_topic(bootstrap, topic, config, timeout_s=20):
    """Replaces the topic's settings, all of them: the only form that the embedded log knows."""
    client = admin(bootstrap)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asked = client.alter_configs([ConfigResource(ResourceType.TOPIC, topic, set_config=config)])
    for f in asked.values():
        f.result(timeout_s)


def partitions_of(bootstrap, topic):
    # Of all topics: asking for one by name would make it where topics are made on first use.
    t = admin(bootstrap).list_topics(timeout=PATIENCE_S).topics.get(topic)
    return [] if t is None or t.error else sorted(t.partitions)


def producer(bootstrap, **config):
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": 0,
                     **{k.replace("_", "."): v for k, v in config.items()}})


def produce(bootstrap, topic, records, timeout_s=PATIENCE_S, **config):
    """records: values, (key, value) or dicts of Producer.produce's arguments. Returns [(partition, offset)] in order."""
    p, acked = producer(bootstrap, **config), {}
    for i, r in enumerate(records):
        args = r if isinstance(r, dict) else dict(zip(("key", "value"), r)) if isinstance(r, tuple) else {"value": r}
        p.produce(topic, on_delivery=lambda e, m, i=i: acked.__setitem__(i, e or (m.partition(), m.offset())), **args)
        p.poll(0)
    left = p.flush(timeout_s)
    assert left == 0, f"{left} records of {topic} not acknowledged within {timeout_s} s"
    errors = [a for a in acked.values() if isinstance(a, KafkaError)]
    assert not errors, f"{len(errors)} of {len(acked)} records failed, the first: {errors[0]}"
    return [acked[i] for i in range(len(acked))]


def _lows(c, topic, partitions, timeout_s):
    """Where each partition begins, asked beforehand: an assignment to the beginning waits half a second for the client
    to learn who leads. Asked again while a broker that has just started has no leader."""
    def ask():
        try:
            return [TopicPartition(topic, p, c.get_watermark_offsets(TopicPartition(topic, p), timeout=5)[0])
                    for p in partitions]
        except KafkaException as e:
            last[:] = [e]
            return None

    last = []
    try:
        return wait_until(ask, timeout_s, f"the offsets of {topic}")
    except AssertionError as e:
        raise AssertionError(f"{e}; the last answer: {last}") from None


def read_all(bootstrap, topic, timeout_s=PATIENCE_S, isolation="read_uncommitted"):
    """Every record that the topic shows now, by partition and offset."""
    c = Consumer({"bootstrap.servers": bootstrap, "group.id": f"tm-test-{uuid.uuid4()}", "log_level": 0,
                  "enable.auto.commit": False, "enable.partition.eof": True, "isolation.level": isolation,
                  "fetch.wait.max.ms": 10, "auto.offset.reset": "earliest"})
    try:
        left = set(partitions_of(bootstrap, topic))
        assert left, f"no topic {topic} at {bootstrap}"
        c.assign(_lows(c, topic, left, timeout_s))
        records, end = [], time.monotonic() + timeout_s
        while left:
            assert time.monotonic() < end, f"{topic}: partitions {sorted(left)} not read to their end in {timeout_s} s"
            m = c.poll(0.2)
            if m is None:
                continue
            if not m.error():
                records.append(_rec(m))
            elif m.error().code() == KafkaError._PARTITION_EOF:
                left.discard(m.partition())
            else:
                raise KafkaException(m.error())
        return sorted(records, key=lambda r: (r.partition, r.offset))
    finally:
        c.close()


def journal(bootstrap, group):
    """All records of the group's journal; check_journal in tests says what must hold of them."""
    return read_all(bootstrap, f"tidemark.{group}.runs")


def _metadata(t):
    """The client reads metadata as a C string, which librdkafka does not end with a zero: what follows it may be no text."""
    try:
        return getattr(t, "metadata", None)
    except UnicodeDecodeError as e:
        return e.object[:e.start].decode()


def delete_records(bootstrap, topic, before):
    """Cuts partitions: {partition: first offset that stays}."""
    client = admin(bootstrap)
    for f in client.delete_records([TopicPartition(topic, p, o) for p, o in before.items()]).values():
        f.result(PATIENCE_S)


# What a broker says of a group while it has not read its offsets since its start.
NO_COORDINATOR_YET = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE,
                      KafkaError.COORDINATOR_LOAD_IN_PROGRESS)


def committed(bootstrap, group, topic):
    """{partition: (offset, metadata)} of a consumer group; offset -1001 where nothing is committed."""
    def ask():
        parts = [TopicPartition(topic, p) for p in partitions_of(bootstrap, topic)]
        try:
            return [{t.partition: (t.offset, _metadata(t)) for t in c.committed(parts, timeout=PATIENCE_S)}]
        except KafkaException as e:
            if e.args[0].code() not in NO_COORDINATOR_YET:
                raise
            return None

    c = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0, "enable.auto.commit": False})
    try:
        return wait_until(ask, what=f"the coordinator of {group}")[0]
    finally:
        c.close()


def event(type_, data=None, id_=None, source="/tests", key=None, **attributes):
    """Arguments of produce() for a CloudEvent in binary mode."""
    headers = [("ce_specversion", b"1.0"), ("ce_type", type_.encode()), ("ce_source", source.encode()),
               ("ce_id", (id_ or str(uuid.uuid4())).encode()), ("content-type", b"application/json")]
    headers += [(f"ce_{k}", str(v).encode()) for k, v in attributes.items()]
    made = {"value": json.dumps({} if data is None else data).encode(), "headers": headers}
    if key is not None:
        made["key"] = key
    return made
