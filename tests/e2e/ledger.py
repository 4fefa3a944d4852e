"""A test HTTP server that writes down every request before it answers: the outside world of the kill tests.

    with Ledger() as world:
        world.on("/pay", status=200, body={"paid": True}, delay_s=0.2, times=1)
        ... agent calls world.url("/pay") ...
        assert [e.key for e in world.entries("/pay")] == [...]

Rules of a path are used in the order given, each `times` times (None: for ever); without a rule the answer is 200
with {"path": ..., "n": how many requests this path had}. What a rule may do: status, body, headers, delay_s,
redirect (a path or URL), hang (no answer until release() or the end, or until a threading.Event of its own is set),
drop (the connection is cut), first (only the first request with each Idempotency-Key: a repeat finds the next rule)."""
import json
import socket
import threading
import time
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit
from urllib.request import urlopen

from tm import wait_until

Entry = namedtuple("Entry", "n time_s method path query key headers body")
BODY_MAX = 8 << 20
SETTLE = "/-settle"  # Ledger.settle asks it: not written down


class Rule:
    def __init__(self, status=200, body=None, headers=None, delay_s=0, redirect=None, hang=False, drop=False,
                 times=None, first=False):
        self.status, self.body, self.headers = status, body, dict(headers or {})
        self.delay_s, self.redirect, self.hang, self.drop, self.left = delay_s, redirect, hang, drop, times
        self.keys = set() if first else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        ledger = self.server.ledger
        size = min(int(self.headers.get("Content-Length") or 0), BODY_MAX)
        url = urlsplit(self.path)
        if url.path == SETTLE:
            self.close_connection = True
            self.answer(Rule(body={}), None)
            return
        entry = ledger.write_down(self.command, url, dict(self.headers), self.rfile.read(size))
        rule = ledger.take_rule(url.path, entry.key)
        # The event ends the wait when the ledger closes.
        if rule.hang:
            ledger.count(-1)  # it waits for the test
            (rule.hang if isinstance(rule.hang, threading.Event) else ledger.released).wait()
            ledger.count(1)
        elif rule.delay_s:
            ledger.closing.wait(rule.delay_s)
        if rule.drop or ledger.closing.is_set():
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.answer(rule, entry)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any

    def answer(self, rule, entry):
        body = {"path": entry.path, "n": entry.n} if rule.body is None else rule.body
        if not isinstance(body, bytes):
            body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **rule.headers}
        status = rule.status
        if rule.redirect:
            headers["Location"] = rule.redirect
            status = status if 300 <= status < 400 else 302
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            # The caller was killed meanwhile; the request is in the ledger all the same.
            self.close_connection = True

    def log_message(self, *_):
        """The ledger is the log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def process_request(self, *args):
        self.ledger.count(1)
        super().process_request(*args)

    def process_request_thread(self, *args):
        try:
            super().process_request_thread(*args)
        finally:
            self.ledger.count(-1)

    def handle_error(self, *_):
        """A killed caller resets its connection; that is what these tests are about."""


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.released, self.closing = threading.Event(), threading.Event()
        self._entries, self._rules, self._counts, self._busy = [], {}, {}, 0
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.ledger = self
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def url(self, path="/"):
        host, port = self.server.server_address[:2]
        return f"http://{host}:{port}{path}"

    def on(self, path, **what):
        with self.lock:
            self._rules.setdefault(path, []).append(Rule(**what))
        return self

    def count(self, n):
        """Connections that are open and do not hang."""
        with self.lock:
            self._busy += n

    def settle(self, timeout_s=20):
        """Waits until everything that a killed caller sent is written down: what it connected before this request is
        accepted before it, and its connections end."""
        with urlopen(self.url(SETTLE), timeout=timeout_s) as answer:
            answer.read()
        wait_until(lambda: self._busy == 0, timeout_s, "the connections of the caller to end")

    def release(self):
        """Lets hanging requests be answered, and later ones not hang."""
        self.released.set()

    def take_rule(self, path, key):
        with self.lock:
            for rule in self._rules.get(path, []):
                if rule.keys is not None:
                    if key in rule.keys:
                        continue
                    rule.keys.add(key)
                if rule.left is None:
                    return rule
                if rule.left > 0:
                    rule.left -= 1
                    return rule
        return Rule()

    def write_down(self, method, url, headers, body):
        names = {k.lower(): v for k, v in headers.items()}
        with self.lock:
            n = self._counts[url.path] = self._counts.get(url.path, 0) + 1
            entry = Entry(n, time.time(), method, url.path, url.query, names.get("idempotency-key"), names, body)
            self._entries.append(entry)
        return entry

    def entries(self, path=None, method=None):
        with self.lock:
            return [e for e in self._entries if path in (None, e.path) and method in (None, e.method)]

    def wait(self, count, path=None, timeout_s=20):
        """The entries, once there are at least `count`."""
        wait_until(lambda: len(self.entries(path)) >= count, timeout_s,
                   f"{count} requests to {path or 'any path'}, saw {[(e.method, e.path) for e in self.entries()]}")
        return self.entries(path)
