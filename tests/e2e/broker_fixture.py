"""What the tests of the broker share: consumers with fast heartbeats, a producer that runs while the broker dies,
and C programs' librdkafka 2.0.2 (the system's) by way of kcat."""
import threading
import time

from confluent_kafka import Consumer

import tm


def consumer(bootstrap, group, **config):
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "session.timeout.ms": 30000, "heartbeat.interval.ms": 500,
                     "log_level": 0,
                     **{k if callable(v) else k.replace("_", "."): v for k, v in config.items()}})


def poll_until(consumers, cond, timeout_s, what):
    """Polls all of them in turn until cond() holds; returns the values received."""
    timeout_s = tm.patience(timeout_s)
    got, end = [], time.monotonic() + timeout_s
    while not cond(got):
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}; got {len(got)} records"
        for c in consumers:
            m = c.poll(0.05)
            if m is not None and not m.error():
                got.append(m.value().decode())
    return got


class SteadyProducer:
    """Produces numbers one after the other in a thread and keeps what was acknowledged, in order."""

    def __init__(self, bootstrap, topic, **config):
        self.acked, self.failed, self.sent = [], [], 0
        self.topic, self.stop_now = topic, threading.Event()
        self.p = tm.producer(bootstrap, message_timeout_ms=300000, **config)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop_now.is_set():
            try:
                self.p.produce(self.topic, str(self.sent), partition=0, on_delivery=self.delivered)
                self.sent += 1
            except BufferError:
                pass  # full while the broker is away: the poll below waits
            self.p.poll(0.001 if len(self.p) < 1000 else 0.1)

    def delivered(self, error, m):
        if error:
            self.failed.append(str(error))
        else:
            self.acked.append((m.offset(), m.value().decode()))

    def finish(self, timeout_s=60):
        self.stop_now.set()
        self.thread.join(tm.patience(timeout_s))
        assert self.p.flush(tm.patience(timeout_s)) == 0, f"{len(self.p)} records still unacknowledged"
        return self.acked
