"""One Apache Kafka of its own: KRaft, one node, free ports, a temporary folder; started, killed and stopped by pid.

For tests (conftest.py makes one for the session) and by hand:
    build/venv/bin/python tests/kafka/server.py      prints `listening on HOST:PORT`, runs until interrupted
The jars come from `./run test kafka` (tests/kafka/pom.xml), in build/kafka/lib or $TIDEMARK_KAFKA_LIB."""
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 180
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=1000
"""


class KafkaError(Exception):
    """Kafka could not be had; the message ends with the way out."""


def free_port():
    """A port that is free now and stays so: none that the kernel hands out to connections or to those who ask for port 0,
    so that a server which is down finds its port free when it comes back."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = range(10000, low) if low >= 12000 else range(high + 1, 65536)
    for port in random.SystemRandom().sample(ports or range(10000, 65536), 200):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue  # someone's already; the next one
            return port
    raise OSError("no free port among 200 tried")


class Kafka:
    """start() returns once clients get metadata. kill9() and restart() keep the data; close() removes it.

    `java`: options of the virtual machine in place of those for tests; `folder`: where its own folder is made."""

    def __init__(self, java=None, folder=None):
        # -XX:+UseSerialGC and C1 only: a test's broker shares two cores with what it tests.
        self.java = java or ["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        self.lib = Path(os.environ.get("TIDEMARK_KAFKA_LIB", ROOT / "build/kafka/lib"))
        if not any(self.lib.glob("kafka_2*.jar")):
            raise KafkaError(f"no jars of Apache Kafka in {self.lib}; run ./run test kafka, which fetches them")
        if not shutil.which("java"):
            raise KafkaError("no java on PATH; Debian's package is default-jre-headless")
        self.dir = Path(tempfile.mkdtemp(prefix="tidemark-kafka-", dir=folder))
        self.port, controller = free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.config = self.dir / "server.properties"
        self.config.write_text(PROPERTIES.format(port=self.port, controller=controller, data=self.dir / "data"))
        self.output = self.dir / "kafka.out"
        self.process = None

    def _java(self, options, *args):
        return ["java", *options, "-Xshare:auto", "-cp", f"{self.lib}/*", *args]

    def format(self):
        tool = self._java(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"], "kafka.tools.StorageTool")
        cluster = subprocess.run([*tool, "random-uuid"], check=True, text=True, capture_output=True, cwd=self.dir)
        done = subprocess.run([*tool, "format", "-t", cluster.stdout.split()[-1], "-c", str(self.config)], text=True,
                              capture_output=True, cwd=self.dir)
        if done.returncode:
            raise KafkaError(f"StorageTool format failed: {done.stdout}{done.stderr}")

    def start(self):
        if not (self.dir / "data").exists():
            self.format()
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(self._java(self.java, "kafka.Kafka", str(self.config)), cwd=self.dir,
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            start_new_session=True)
        self._wait_ready()
        return self

    def _wait_ready(self):
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        end = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise KafkaError(f"Kafka ended with {self.process.returncode}: {self.tail()}")
            try:
                if admin.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                # Refused while it starts; the deadline above bounds the tries.
                time.sleep(0.1)
        self.stop()
        raise KafkaError(f"Kafka was not ready within {READY_TIMEOUT_S} s: {self.tail()}")

    def tail(self, size=2000):
        return self.output.read_text(errors="replace")[-size:] if self.output.exists() else ""

    def kill9(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s=20):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill9()

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


def main():
    kafka = Kafka()
    try:
        kafka.start()
        print(f"listening on {kafka.bootstrap}", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        kafka.process.wait()
        print(kafka.tail(), file=sys.stderr)
        return 1
    except KafkaError as e:
        print(f"kafka: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        kafka.close()


if __name__ == "__main__":
    sys.exit(main())
