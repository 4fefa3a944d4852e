"""API keys on running nodes: who is let in, who is not any more, how often; and that no token is anywhere but in the
hands of who was given it."""
import json
import re
import threading
from http.client import HTTPConnection

import pytest
import tm
from group import agent
from http_api import Http, address_of

SET = [{"a": {"set": {"x": "${ .n }"}}}]
RUNS = "/v1/agents/t/set/runs"
NOBODY = "/v1/runs/0000w3fzgj6j86c99rb7232qwzc3hg"  # an id of no run: 404 for who is let in


def make_key(g, name, *scopes, **flags):
    """The whole answer of `keys create`: token, id, ..."""
    more = [text for k, v in flags.items() for text in (f"--{k}", str(v))]
    return g.json("keys", "create", name, "--scope", ",".join(scopes), *more)


def serve(g, name, *args, **more):
    n = g.serve(name, **more) if not args else g.make_node("serve", "--config", g.path, "--data", g.tmp / f"data-{name}",
                                                           *args, name=name, ready=r"^ready: ", **more)
    n.start()
    http = Http(n)
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be ready")
    tm.wait_until(lambda: http.get(NOBODY).status != 503, what="the keys to be read")
    return n, http


def closed(n):
    """Waits until the node knows of a key: before, it is open, and every token does."""
    tm.wait_until(lambda: Http(n).get(NOBODY).status == 401, what="a key to count")


def first_line(n, method, path, token=None):
    """The status of a request without a body; what follows (a stream has no end) is not read."""
    c = HTTPConnection(*address_of(n).rsplit(":", 1), timeout=tm.PATIENCE_S)
    c.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
    status = c.getresponse().status
    c.close()
    return status


@pytest.fixture
def g(group, broker):
    made = group(broker.bootstrap)
    made.apply(agent("set", SET))
    return made


def test_a_key_is_needed_from_the_moment_there_is_one_and_none_after_the_last(g):
    n, http = serve(g, "a")
    assert http.start("t/set", {"n": 1})["id"]  # no key, a loopback address: open
    key = make_key(g, "app", "publish", "read")
    tm.wait_until(lambda: http.get(NOBODY).status == 401, what="the key to count")
    p = http("POST", RUNS, "{}")
    assert p.problem(401) and p.headers["WWW-Authenticate"] == 'Bearer realm="tidemark"'
    assert Http(n, token="tm_00000000_" + "A" * 43).get(NOBODY).problem(401)
    assert http.get(NOBODY, Authorization="Basic YTpi").problem(401)
    assert http.get("/nothing/here").problem(401) and http("DELETE", "/v1/agents").problem(401)
    assert http.get("/healthz").status == http.get("/readyz").status == 200
    good = Http(n, token=key["token"])
    assert good.start("t/set", {"n": 2})["id"] and good.get(NOBODY).problem(404)
    assert good.get("/nothing/here").problem(404)
    g.cli("keys", "revoke", "app", "--yes", status=0)
    tm.wait_until(lambda: http.get(NOBODY).status == 404, what="the node to be open again")
    g.wait_ended(2)
    n.stop()


def test_a_token_opens_until_it_is_retired_and_both_open_meanwhile(g):
    n, _ = serve(g, "a")
    first = make_key(g, "app", "read", expires="90d")
    old, other = Http(n, token=first["token"]), None
    tm.wait_until(lambda: old.get(NOBODY).status == 404, what="the first token")
    second = g.json("keys", "rotate", "app")
    other = Http(n, token=second["token"])
    tm.wait_until(lambda: other.get(NOBODY).status == 404, what="the second token")
    assert old.get(NOBODY).status == 404 and first["token"] != second["token"]
    assert "expiresAt" in first["tokens"][0] and "expiresAt" not in second["tokens"][1]
    full = g.cli("keys", "rotate", "app", status=4)
    assert first["id"] in full.err and second["id"] in full.err
    g.cli("keys", "retire", "app", first["id"], status=0)
    tm.wait_until(lambda: old.get(NOBODY).status == 401, what="the first token to end")
    assert other.get(NOBODY).status == 404
    assert "only token" in g.cli("keys", "retire", "app", second["id"], status=4).err
    n.stop()


def test_a_key_revoked_in_use_ends_on_both_nodes(g):
    """Clients that ask all the time on kept connections: from some moment on everything is refused."""
    nodes = [serve(g, name) for name in "ab"]
    key = make_key(g, "app", "publish", "read")
    keep = make_key(g, "keep", "read")
    users = [Http(n, token=key["token"]) for n, _ in nodes]
    for n, _ in nodes:
        closed(n)
    for http in users:
        tm.wait_until(lambda http=http: http.get(NOBODY).status == 404, what="the key to count")
    seen, stop = [[], []], threading.Event()

    def use(http, into):
        while not stop.is_set() and into[-3:] != [401, 401, 401]:
            into.append(http("POST", RUNS, {"n": len(into)}).status)

    threads = [threading.Thread(target=use, args=pair) for pair in zip(users, seen)]
    for t in threads:
        t.start()
    tm.wait_until(lambda: all(len(s) > 20 for s in seen), what="some requests on each node")
    g.cli("keys", "revoke", "app", "--yes", status=0)
    for t in threads:
        t.join(tm.PATIENCE_S)
    stop.set()
    for s in seen:
        at = s.index(401)
        assert at > 20 and set(s[:at]) == {202} and set(s[at:]) == {401}, s
    assert Http(nodes[0][0], token=keep["token"]).get(NOBODY).status == 404
    g.wait_ended(sum(s.count(202) for s in seen))
    for n, _ in nodes:
        n.stop()


def test_a_rate_is_kept_on_each_node_and_says_when_to_ask_again(g):
    n, _ = serve(g, "a")
    slow, fast = make_key(g, "slow", "read", rate=1, burst=5), make_key(g, "fast", "read")
    a, b = Http(n, token=slow["token"]), Http(n, token=fast["token"])
    closed(n)
    tm.wait_until(lambda: b.get(NOBODY).status == 404, what="the second one to count")
    seen = [a.get(NOBODY) for _ in range(60)]
    full = [x for x in seen if x.status == 429]
    assert [x.status for x in seen[:3]] == [404] * 3 and full, [x.status for x in seen]
    assert full[0].problem(429) and int(full[0].headers["Retry-After"]) == 1
    assert {b.get(NOBODY).status for _ in range(60)} == {404}
    tm.wait_until(lambda: a.get(NOBODY).status == 404, what="the rate to allow one more", every_s=0.5)
    n.stop()


def test_failures_of_one_address_are_slowed_and_good_tokens_are_not(g):
    n, http = serve(g, "a")
    key = make_key(g, "app", "read")
    good = Http(n, token=key["token"])
    closed(n)
    assert good.get(NOBODY).status == 404
    seen = []
    tm.wait_until(lambda: seen.append(http.get(NOBODY)) or seen[-1].status == 429, what="a 429", every_s=0)
    assert int(seen[-1].headers["Retry-After"]) >= 1 and seen[-1].problem(429)
    assert {x.status for x in seen[:-1]} == {401} and len(seen) > 50
    assert {good.get(NOBODY).status for _ in range(50)} == {404}
    said = re.findall(r'event="request refused" peer=127.0.0.1 status=401', n.err_path.read_text())
    assert 1 <= len(said) < len(seen), "refusals are told, but not each of them"
    n.stop()


def test_an_address_for_others_needs_a_key_or_a_word(g):
    """A node does not begin to listen to everyone without keys; with one it does, and without any again it refuses."""
    refused = g.cli("serve", "--http", "0.0.0.0:0", "--data", g.tmp / "data-r", status=5)
    assert "no loopback address" in refused.err and "keys create" in refused.err and "--insecure" in refused.err
    n, http = serve(g, "i", "--http", "0.0.0.0:0", "--insecure")
    assert http.get(NOBODY).status == 404
    n.stop()
    key = make_key(g, "app", "read")
    n = g.make_node("serve", "--config", g.path, "--data", g.tmp / "data-k", "--http", "0.0.0.0:0", name="k",
                    ready=r"^ready: ").start()
    good, http = Http(n, token=key["token"]), Http(n)
    tm.wait_until(lambda: good.get(NOBODY).status == 404, what="the key to count")
    assert http.get(NOBODY).problem(401)
    g.cli("keys", "revoke", "app", "--yes", status=0)
    tm.wait_until(lambda: good.get(NOBODY).status == 401, what="the key to end")
    assert "no API key" in http.get(NOBODY).problem(401)["detail"]
    assert http.get("/healthz").status == 200
    n.stop()


def test_a_page_of_another_site_does_nothing_on_an_open_node(g):
    n, http = serve(g, "a")
    at = address_of(n)
    assert http("POST", RUNS, b"", Origin="http://evil.example").problem(403)
    assert http("POST", RUNS, b"", Origin="null").problem(403)
    assert http.get(NOBODY, Host="evil.example").problem(403)  # a name that was made to point here
    assert http.get(NOBODY, Origin=f"http://{at}", Host=at).status == 404
    assert not g.journal() or not [r for r in g.journal() if r.type == "run.requested"]
    n.stop()


def test_every_route_wants_its_scope(g):
    """All routes of /openapi.json with a key of each scope: none is forgotten."""
    n, http = serve(g, "a")
    keys = {scope: make_key(g, scope, scope)["token"] for scope in ("publish", "read", "operate", "admin")}
    users = {scope: Http(n, token=t) for scope, t in keys.items()}
    closed(n)
    for user in users.values():
        tm.wait_until(lambda user=user: user.get("/nothing/here").status == 404, what="the key to count")
    routes = [(path, method.upper(), route) for path, methods in users["read"].get("/openapi.json").json["paths"].items()
              for method, route in methods.items() if method in ("get", "put", "post", "delete", "patch")]
    assert len(routes) > 20
    public = {path for path, _, route in routes if "x-scope" not in route}
    assert public <= {"/healthz", "/readyz", "/openapi.json"}, public
    for path, method, route in routes:
        filled = re.sub(r"{(\w+)}", lambda m: {"id": NOBODY[9:], "partition": "0", "offset": "0"}.get(m[1], "none"), path)
        seen = {scope: first_line(n, method, filled, t) for scope, t in keys.items()}
        alone = first_line(n, method, filled)
        scope = route.get("x-scope")
        refused = {s for s, status in seen.items() if status == 403}
        assert refused == ({"publish", "read", "operate"} - {scope} if scope else set()), (method, path, seen)
        assert 401 not in seen.values() and alone in ((401, 429) if scope else (200, 503)), (method, path, seen, alone)
    n.stop()


def test_tokens_are_in_no_topic_and_in_no_line(g, cli, broker):
    n, http = serve(g, "a")
    made = [make_key(g, "one", "admin"), make_key(g, "two", "read", rate=5)]
    shown = g.cli("keys", "create", "three", "--scope", "read", status=0)
    tokens = [k["token"] for k in made] + [shown.out.strip()]
    assert re.fullmatch(r"tm_[0-9a-z]{8}_[A-Za-z0-9_-]{43}", tokens[2]) and tokens[2] not in shown.err
    tokens.append(g.json("keys", "rotate", "one")["token"])
    closed(n)
    for t in tokens:
        tm.wait_until(lambda t=t: Http(n, token=t).get(NOBODY).status == 404, what="the key to count")
        wrong = t[:-1] + ("A" if t[-1] != "A" else "B")
        assert Http(n, token=wrong).get(NOBODY).status == 401
        assert Http(n, token=t)("PATCH", f"/{t}", t.encode()).status in (404, 405)
    listed = g.cli("keys", "list", "-o", "json", status=0)
    n.stop()
    records = [r for topic in ("keys", "runs", "agents", "marks", "dlq")
               for r in tm.read_all(g.bootstrap, f"tidemark.{g.name}.{topic}")]
    everything = [listed.out, n.err_path.read_text(), n.out_path.read_text()] + [f"{r.key} {r.value} {r.headers}" for r in records]
    kept = [json.loads(r.value) for r in records if str(r.key).find("key/") >= 0 and r.value]
    assert {k["name"] for k in kept} == {"one", "two", "three"}
    for t in tokens:
        assert not [x for x in everything if t[12:] in x], "a token's secret was found"
    assert "sha256" not in listed.out


def test_keys_changed_by_two_at_once_end_in_one_of_their_states(g):
    """Rotations beside each other, and a revocation among them: nobody's token works that was not printed, two at most
    are there, and revoked is revoked."""
    for round_ in range(3):
        name = f"k{round_}"
        make_key(g, name, "read")
        done, threads = [], []
        for i in range(4):
            threads.append(threading.Thread(target=lambda: done.append(g.cli("keys", "rotate", name, "-o", "json"))))
        if round_:
            threads.insert(2, threading.Thread(target=lambda: g.cli("keys", "revoke", name, "--yes", status=0)))
        for t in threads:
            t.start()
        for t in threads:
            t.join(tm.PATIENCE_S)
        left = [k for k in g.json("keys", "list") if k["name"] == name]
        assert {d.status for d in done} <= {0, 3, 4}, done
        if round_:
            assert not left, left
        else:
            ids = {t["id"] for t in left[0]["tokens"]}
            printed = {json.loads(d.out)["id"] for d in done if d.status == 0}
            assert len(ids) == 2 and printed <= ids, (left, done)


def test_a_table_of_keys_that_would_forget_is_refused_and_mended(g):
    table = f"tidemark.{g.name}.keys"
    make_key(g, "app", "read")
    tm.alter_topic(g.bootstrap, table, {"cleanup.policy": "delete"})
    refused = g.cli("serve", "--data", g.tmp / "data-r", status=2)
    assert table in refused.err and "cleanup.policy" in refused.err and "topics apply" in refused.err
    g.cli("topics", "apply", status=0)
    n, http = serve(g, "a")
    assert http.get(NOBODY).problem(401)
    n.stop()


def test_a_key_that_is_damaged_opens_nothing_for_anyone(g):
    n, http = serve(g, "a")
    tm.produce(g.bootstrap, f"tidemark.{g.name}.keys", [("key/odd", b"{", [])])
    tm.wait_until(lambda: http.get(NOBODY).status == 401, what="the record to count")
    assert 'event="an API key can\'t be used" key=odd' in n.err_path.read_text()
    assert "(damaged)" in g.cli("keys", "list", status=0).out
    assert "damaged" in g.cli("keys", "rotate", "odd", status=2).err
    g.cli("keys", "revoke", "odd", "--yes", status=0)
    tm.wait_until(lambda: http.get(NOBODY).status == 404, what="the node to be open again")
    n.stop()
