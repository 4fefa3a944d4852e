"""Fixtures of the end-to-end tests.

A test that takes `broker` or `bootstrap` runs twice: on the embedded log in ./run test, on Apache Kafka (marker kafka)
in ./run test kafka. TIDEMARK_BIN names the program, TIDEMARK_TEST_BOOTSTRAP another Kafka to use for the second."""
import os
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests/kafka")]

import server  # noqa: E402
import tm  # noqa: E402
from group import Group  # noqa: E402
from ledger import Ledger  # noqa: E402

# Reports of the sanitizers must fail the test and not be mistaken for an exit status of tidemark's own.
os.environ.setdefault("ASAN_OPTIONS", "exitcode=99:detect_stack_use_after_return=1")
os.environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1:exitcode=99")


@pytest.fixture(scope="session")
def tidemark_bin():
    path = Path(os.environ.get("TIDEMARK_BIN", ROOT / "build/asan/tidemark"))
    if not os.access(path, os.X_OK):
        pytest.fail(f"no program at {path}; ./run build asan makes it, TIDEMARK_BIN names another", pytrace=False)
    return path


@pytest.fixture
def free_port():
    """A port that was free a moment ago; prefer port 0 where the program can pick."""
    return server.free_port()


@pytest.fixture
def tmp(tmp_path):
    return tmp_path


@pytest.fixture
def name():
    """A name no other test has: for topics and groups, since a Kafka is shared by all tests of a session."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def cli(tidemark_bin, tmp):
    return tm.Cli(tidemark_bin, tmp)


@pytest.fixture
def ledger():
    with Ledger() as made:
        yield made


@pytest.fixture
def node(tidemark_bin, tmp):
    """node("serve", "--config", path, name="a", ready=REGEX): a process that ends with the test; start it yourself."""
    made = []

    def make(*args, **more):
        more.setdefault("name", f"node{len(made)}")
        made.append(tm.Node(tidemark_bin, args, tmp, **more))
        return made[-1]

    yield make
    for n in made:
        n.close()


@pytest.fixture
def group(cli, node, tmp, name):
    """group(bootstrap, partitions=..., session=...): a tidemark group with a topic and a configuration of its own."""
    made = []

    def make(bootstrap, **more):
        made.append(Group(cli, node, tmp, bootstrap, f"{name}{len(made) or ''}", **more))
        return made[-1]

    return make


@pytest.fixture
def session(broker):
    """The shortest session time-out that the broker allows."""
    return "2s" if isinstance(broker, tm.EmbeddedLog) else "6s"


@pytest.fixture
def embedded_log(tidemark_bin, tmp):
    log = tm.EmbeddedLog(tidemark_bin, tmp)
    try:
        yield log.start()
        # Not in `finally`: a failed test need not also complain about its log's end.
        log.stop()
    finally:
        log.close()


@pytest.fixture(scope="session")
def kafka_session():
    kafka = server.Kafka()
    try:
        yield kafka.start()
    finally:
        kafka.close()


@pytest.fixture
def kafka(kafka_session):
    """The session's Kafka, alive again if the test before killed it."""
    if kafka_session.process.poll() is not None:
        kafka_session.start()
    return kafka_session


class Foreign:
    """A Kafka that someone else runs; tests that kill their broker cannot use it."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request):
    """Has bootstrap, kill9(), start(), stop(), restart(); the data outlives a kill."""
    if request.param == "embedded":
        return request.getfixturevalue("embedded_log")
    if "TIDEMARK_TEST_BOOTSTRAP" in os.environ:
        return Foreign(os.environ["TIDEMARK_TEST_BOOTSTRAP"])
    return request.getfixturevalue("kafka")


@pytest.fixture
def bootstrap(broker):
    return broker.bootstrap
