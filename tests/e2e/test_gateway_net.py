"""The HTTP interface on a network: TLS, pages of other sites, clients that are slow, loud or malformed."""
import errno
import json
import os
import re
import socket
import subprocess
import threading
from http.client import HTTPException

import pytest
import tm
from group import agent
from http_api import Http, address_of

SET = [{"a": {"set": {"x": "${ .n }"}}}]
RUNS = "/v1/agents/t/set/runs"
PAGE = "https://app.example.com"


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, timeout=tm.PATIENCE_S)


def make_cert(folder, name, *more):
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "30", "-nodes",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert, *more)
    key.chmod(0o600)
    return cert, key


def curl(*args, input=None):
    """(status, body) of a request; status 0 when there was no answer."""
    done = subprocess.run(["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *map(str, args)], text=True,
                          capture_output=True, input=input, timeout=tm.PATIENCE_S)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@pytest.fixture
def site(group, broker):
    """make(http={...}) is (group, node) with the agent t/set; all nodes are stopped at the end."""
    nodes = []

    def make(**http):
        g = group(broker.bootstrap, http={"listen": "127.0.0.1:0", **http})
        g.apply(agent("set", SET))
        nodes.append(g.serve(f"n{len(nodes)}").start())
        return g, nodes[-1]

    yield make
    for n in nodes:
        n.stop()


def test_tls_serves_who_trusts_its_certificate(site, tmp):
    cert, key = make_cert(tmp, "good")
    key.chmod(0o644)
    g, n = site(tls={"cert": str(cert), "key": str(key)})
    url = "https://" + re.search(r"^http  https://(\S+)", n.out_path.read_text(), re.M).group(1)
    assert "everyone on this machine may read the private key" in n.err_path.read_text()
    tm.wait_until(lambda: curl("--cacert", cert, f"{url}/readyz")[0] == 200, what="the node to be ready")
    token = g.json("keys", "create", "app", "--scope", "publish,read")["token"]
    ask = ["--cacert", cert, "-H", "@-", f"{url}{RUNS}", "--json", '{"n": 7}']
    tm.wait_until(lambda: curl("--cacert", cert, f"{url}/v1/agents")[0] == 401, what="the key to count")
    assert curl(*ask, input="X: y")[0] == 401
    status, body = curl(*ask, input=f"Authorization: Bearer {token}")
    assert status == 202, body
    ended = g.wait_ended(1)
    assert list(ended) == [json.loads(body)["id"]]
    run = ["runs", "show", json.loads(body)["id"], "--server", url]
    assert "completed" in g.run_cli(*run, "--ca", cert, env={"TIDEMARK_TOKEN": token}, status=0).out
    for more in ([], ["--ca", tmp / "none.pem"]):
        said = g.run_cli(*run, *more, env={"TIDEMARK_TOKEN": token}).err
        assert f"the certificate of {url} is not trusted" in said and "hint: --ca FILE" in said
    assert curl(f"{url}/healthz")[0] == 0, "a certificate that nobody signed was believed"
    assert curl(url.replace("https", "http") + "/healthz")[0] in (0, 400)
    with socket.create_connection(url[8:].rsplit(":", 1), timeout=tm.PATIENCE_S) as s:
        try:
            s.sendall(os.urandom(2000))
            s.shutdown(socket.SHUT_WR)
            while s.recv(1000):
                pass
        except OSError as e:  # closed with a reset, which may come at any of these
            assert e.errno in (errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE), e
    assert curl("--cacert", cert, f"{url}/healthz")[0] == 200


def test_tls_that_can_not_work_is_told_before_anything_is_served(group, broker, tmp):
    cert, key = make_cert(tmp, "good")
    other, _ = make_cert(tmp, "other")
    locked, garbage = tmp / "locked.key", tmp / "garbage.pem"
    openssl("pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:x")
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    g = group(broker.bootstrap)

    def refused(**tls):
        path = tmp / "tls.yaml"
        path.write_text(json.dumps({**g.config, "http": {"listen": "127.0.0.1:0", "tls": {k: str(v) for k, v
                                                                                        in tls.items()}}}))
        done = g.run_cli("serve", "--config", path, "--data", tmp / "data-tls", status=2)
        assert "hint: " in done.err and "ready" not in done.out
        return done.err

    assert "no key" in refused(cert=cert)
    assert "no cert" in refused(key=key)
    assert "http.tls.key" in refused(cert=cert, key=tmp / "none.key") and "none.key" in refused(cert=cert, key=tmp / "none.key")
    assert "does not belong" in refused(cert=other, key=key)
    assert "passphrase" in refused(cert=cert, key=locked)
    said = refused(cert=garbage, key=key)
    assert "http.tls.cert" in said and "garbage.pem" in said and "no certificate" in said
    assert "no private key" in refused(cert=cert, key=cert)


def test_pages_of_other_sites_may_ask_only_when_they_are_listed(site):
    g, n = site(cors=[PAGE])
    http = Http(n)
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be ready")
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type"}
    a = http("OPTIONS", RUNS, Origin=PAGE, **asked)
    assert (a.status, a.body) == (204, "") and a.headers["Vary"] == "Origin"
    assert a.headers["Access-Control-Allow-Origin"] == PAGE and "POST" in a.headers["Access-Control-Allow-Methods"]
    assert a.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert int(a.headers["Access-Control-Max-Age"]) > 0 and a.headers["Allow"] == "POST, OPTIONS"
    other = http("OPTIONS", RUNS, Origin="https://evil.example", **asked)
    assert other.status == 204 and not [h for h in other.headers if h.lower().startswith("access-control")]
    assert other.headers["Vary"] == "Origin"
    made = http("POST", RUNS, {"n": 1}, Origin=PAGE)
    assert made.status == 202 and made.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Location" in made.headers["Access-Control-Expose-Headers"]
    refused = http("POST", RUNS, {"n": 1}, Origin="https://evil.example")
    assert refused.problem(403) and "Access-Control-Allow-Origin" not in refused.headers
    g.cli("keys", "create", "app", "--scope", "read", status=0)
    tm.wait_until(lambda: http.get("/v1/agents", Origin=PAGE).status == 401, what="the key to count")
    assert http("OPTIONS", RUNS, Origin=PAGE, **asked).status == 204  # a browser sends no key with it
    assert http.get("/v1/agents", Origin=PAGE).headers["Access-Control-Allow-Origin"] == PAGE
    assert http("OPTIONS", "*").status == 204 and http("OPTIONS", "/none").problem(404)


def test_without_a_list_no_page_may_ask(site):
    _, n = site()
    http = Http(n)
    for a in (http("OPTIONS", RUNS, Origin=PAGE, Access_Control_Request_Method="POST"), http.get("/healthz", Origin=PAGE)):
        assert a.status in (200, 204)
        assert not [h for h in a.headers if h.lower().startswith("access-control")], a.headers.items()


def test_slow_clients_are_dropped_while_others_are_served(site):
    """Far more connections than there may be, each sending a byte now and then: normal clients are served meanwhile."""
    g, n = site(connections=32, request="1h")  # so that only their number drops them
    host, port = address_of(n).rsplit(":", 1)
    tm.wait_until(lambda: Http(n).get("/readyz").status == 200, what="the node to be ready")
    stop, count = threading.Event(), 150
    text = f"POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\nX: ".encode() + b"a" * 100000
    dropped = [0]

    def served(*args, **headers):
        """On a connection of its own. On a busy machine it may be taken for a slow one, before its request is there."""
        def ask():
            try:
                http = Http(n)
                return http(*args, **headers)
            except (OSError, HTTPException):
                return None
            finally:
                http.close()
        return tm.wait_until(ask, what="a normal client to be served")

    def crawl():
        socks = []
        while not stop.is_set():
            while len(socks) < count:
                s = socket.create_connection((host, int(port)), timeout=tm.PATIENCE_S)
                s.setblocking(False)
                socks.append([s, 0])
            for pair in list(socks):
                s, at = pair
                try:
                    s.send(text[at:at + 1 + at % 90])
                    pair[1] += 1 + at % 90
                except (BlockingIOError, InterruptedError):
                    pass
                except OSError:  # cut off
                    s.close()
                    socks.remove(pair)
                    dropped[0] += 1
            stop.wait(0.02)
        for s, _ in socks:
            s.close()

    t = threading.Thread(target=crawl)
    t.start()
    try:
        tm.wait_until(lambda: dropped[0] > 0, what="the first to be dropped")
        for i in range(40):
            assert served("POST", RUNS, {"n": i}, Idempotency_Key=f"k{i}").json["id"]
        tm.wait_until(lambda: served("GET", "/healthz").status == 200 and dropped[0] > 2 * count,
                      what="many to be dropped")
    finally:
        stop.set()
        t.join(tm.PATIENCE_S)
    g.wait_ended(40)


def raw(n, data, shut=True):
    """What the node answers to these bytes, up to its closing the connection or its first whole answer."""
    with socket.create_connection(address_of(n).rsplit(":", 1), timeout=tm.PATIENCE_S) as s:
        try:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # closed before all of it was sent
        seen = b""
        try:
            while b"\r\n\r\n" not in seen and (more := s.recv(65536)):
                seen += more
        except OSError:
            pass
        return seen.decode(errors="replace")


def test_what_is_too_large_or_malformed_is_refused_and_harms_nobody(site):
    g, n = site(body=64, request="2s")
    http = Http(n)
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be ready")
    assert http.get("/healthz", X_Large="a" * 17000).problem(431)
    assert Http(n).get("/" + "a" * 3000).problem(414)
    assert http.get("/v1/agents", Accept="text/html").problem(406) and http.get("/v1/agents", Accept="*/*").status == 200
    assert http("POST", RUNS, b"<a/>", Content_Type="text/xml").problem(415)
    assert "65536" in Http(n)("POST", RUNS, b"x" * 65537).problem(413)["detail"]
    head = f"POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks = 2 * f"9c40\r\n{'x' * 40000}\r\n"
    assert raw(n, f"{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n".encode()).startswith("HTTP/1.1 413 ")
    smuggled = "GET /v1/agents HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for text in (f"{head}Content-Length: {len(smuggled)}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
                 f"{head}Content-Length: 2\r\nContent-Length: {len(smuggled) + 2}\r\n\r\n{{}}{smuggled}",
                 f"{head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", f"{head}Content-Length : 2\r\n\r\n{{}}",
                 f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n",
                 f"POST {RUNS}?key=%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 "GET /healthz HTTP/1.1\r\n\r\n", "GET /healthz\r\n\r\n", "\r\n" * 1000, "A" * 100000, "GET / HTTP/9.9\r\n\r\n"):
        seen = raw(n, text.encode())
        assert not re.match(r"HTTP/1\.\d 2", seen), (text[:200], seen)
    for size in (1, 100, 10000, 200000):
        seen = raw(n, os.urandom(size))
        assert not re.match(r"HTTP/1\.\d 2", seen), seen
    assert http.get("/healthz").status == 200 and http.start("t/set", {"n": 1})["id"]
    g.wait_ended(1)
    assert not [r for r in g.journal() if r.type == "run.requested"][1:], "one of these became a run"
