"""The harness itself: a kill test is worth as much as its ledger and its readers."""
import json
import sys
import threading
import urllib.error
import urllib.request

import pytest

import tm


def call(url, timeout_s=10, **more):
    with urllib.request.urlopen(urllib.request.Request(url, **more), timeout=timeout_s) as r:
        return r.status, json.loads(r.read() or b"null")


def test_ledger_writes_down_before_it_answers(ledger):
    ledger.on("/slow", hang=True)
    done = []
    t = threading.Thread(target=lambda: done.append(call(
        ledger.url("/slow?a=1"), data=b'{"x":1}', headers={"Idempotency-Key": "k1"}, method="POST")))
    t.start()
    entry = ledger.wait(1, "/slow")[0]
    assert (entry.method, entry.path, entry.query, entry.key, entry.body) == ("POST", "/slow", "a=1", "k1", b'{"x":1}')
    assert done == []
    ledger.release()
    t.join(10)
    assert done == [(200, {"path": "/slow", "n": 1})]


def test_ledger_rules_in_order(ledger):
    ledger.on("/a", status=503, times=1).on("/a", redirect="/b", times=1).on("/a", drop=True, times=1)
    with pytest.raises(urllib.error.HTTPError) as e:
        call(ledger.url("/a"))
    assert e.value.code == 503
    assert call(ledger.url("/a")) == (200, {"path": "/b", "n": 1})
    with pytest.raises((urllib.error.URLError, OSError)):
        call(ledger.url("/a"))
    assert call(ledger.url("/a")) == (200, {"path": "/a", "n": 4})


def script(text, tmp, **more):
    return tm.Node(sys.executable, ["-u", "-c", text], tmp, **more)


def test_node_tells_why_it_was_not_ready(tmp):
    n = script("import sys; print('no such file', file=sys.stderr); sys.exit(3)", tmp)
    with pytest.raises(AssertionError, match="(?s)ended with 3.*no such file"):
        n.start()


def test_node_stop_wants_status_0(tmp):
    n = script("import signal,sys,time; signal.signal(15, lambda *a: sys.exit(7)); "
               "print('listening on h:1'); time.sleep(60)", tmp)
    try:
        assert n.start().ready.groups() == ("h", "1")
        with pytest.raises(AssertionError, match="ended with 7 after SIGTERM"):
            n.stop()
    finally:
        n.close()


def test_node_start_again_waits_for_its_own_line(tmp):
    n = script("import os,time; print('listening on h:%d' % os.getpid()); time.sleep(60)", tmp)
    try:
        first = n.start().ready.group(2)
        n.kill9()
        assert n.start().ready.group(2) == str(n.pid) != first
    finally:
        n.close()


@pytest.mark.kafka
def test_kafka_keeps_acknowledged_records_over_a_kill(kafka, name):
    tm.create_topic(kafka.bootstrap, name, 2)
    acked = tm.produce(kafka.bootstrap, name, [(f"k{i}", f"v{i}") for i in range(50)], acks="all")
    kafka.kill9()
    kafka.start()
    tm.wait_until(lambda: tm.partitions_of(kafka.bootstrap, name) == [0, 1], 30, f"{name} after the restart")
    seen = [(r.partition, r.offset) for r in tm.read_all(kafka.bootstrap, name)]
    assert seen == sorted(acked)
