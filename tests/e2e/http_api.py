"""The HTTP interface of a node as tests speak to it: kept connections, JSON in and out, answers whole."""
import http.client
import json
import re
from collections import namedtuple

import tm


class Answer(namedtuple("Answer", "status headers body")):
    @property
    def json(self):
        return json.loads(self.body)

    def problem(self, status):
        """The problem details of a refusal: it has a hint, and nothing of the program's inside."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["Content-Type"] == "application/problem+json", self.headers
        p = self.json
        assert p["status"] == status and p["title"] and p["detail"] and p["hint"], p
        assert "/engine/" not in self.body and ".c:" not in self.body, p
        return p


class Http:
    """http = Http(node): http("POST", "/v1/...", {...}) is an Answer. One kept connection."""

    def __init__(self, where, token=None, timeout_s=tm.PATIENCE_S):
        self.address = address_of(where) if hasattr(where, "out_path") else where
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        host, port = self.address.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)

    def __call__(self, method, path, body=None, **headers):
        """`headers` by their names with _ for -; a body that is no text or bytes goes as JSON."""
        sent = {**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        if body is not None and not any(k.lower() == "content-type" for k in sent):
            sent["Content-Type"] = "application/json"
        self.connection.request(method, path, body, sent)
        r = self.connection.getresponse()
        return Answer(r.status, r.headers, r.read().decode())

    def get(self, path, **headers):
        return self("GET", path, **headers)

    def start(self, agent, data=None, query="", **headers):
        a = self("POST", f"/v1/agents/{agent}/runs{query}", {} if data is None else data, **headers)
        assert a.status in (200, 202), (a.status, a.body)
        return a.json

    def close(self):
        self.connection.close()


def address_of(node):
    """HOST:PORT that the node's latest start printed."""
    return re.findall(r"^http  http://(\S+)", node.out_path.read_text(), re.M)[-1]


def ready(node, **more):
    """An Http of a node that takes work: it reaches the log, and knows the agents."""
    http = Http(node, **more)
    tm.wait_until(lambda: http.get("/readyz").status == 200, what=f"{node.name} to be ready")
    return http
