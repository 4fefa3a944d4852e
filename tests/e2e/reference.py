"""Random definitions that end, and what docs/dsl.md says they do: a second, small interpreter in Python. Expressions
are made together with their meaning: E(jq text, function of `.`, `$context` and variables).

    flow = Random(seed, ledger, "/7"); flow.definition; flow.expect({"a": 1})  # ("run.completed", output), calls
"""
import random
from collections import namedtuple

from group import agent

E = namedtuple("E", "jq of")
SLOW_S = 0.15
Task = namedtuple("Task", "name kind wire run more")


class Fault(Exception):
    """An error of a task, `raise` or a failed call."""


class Leave(Exception):
    """`then: end`."""


def plus(n, m):
    return E(f"${{ . + {{a: ((.a + {n}) % {m})}} }}", lambda d, c, v: {**d, "a": (d["a"] + n) % m})


def from_context(n):
    return E(f"${{ . + {{a: (.a + (($context // {{c: {n}}}) | .c))}} }}",
             lambda d, c, v: {**d, "a": d["a"] + (c["c"] if c else n)})


def remainder(m, r):
    return E(f"${{ .a % {m} == {r} }}", lambda d, c, v: d["a"] % m == r)


class Random:
    def __init__(self, seed, ledger, path):
        self.r, self.ledger, self.path, self.count, self.fails = random.Random(seed), ledger, path, 0, {}
        self.tasks = self.list(3, ())
        self.definition = agent(f"r{path[1:]}", [{t.name: t.wire} for t in self.tasks])

    def name(self):
        self.count += 1
        return f"t{self.count}"

    def list(self, depth, scope):
        return [self.task(depth, scope) for _ in range(self.r.randint(1, 4))]

    def task(self, depth, scope):
        kinds = ["set", "set", "call", "raise" if scope and self.r.random() < 0.4 else "set"]
        kinds += ["do", "loop", "jump", "attempt", "attempt"] if depth else []
        name = self.name()
        wire, run = getattr(self, "make_" + self.r.choice(kinds))(name, depth, scope)
        more = {}
        for key, share, make in (("if", 0.15, lambda: remainder(2, self.r.randint(0, 1))),
                                 ("from", 0.15, lambda: plus(self.r.randint(1, 9), 50)),
                                 ("as", 0.15, lambda: plus(self.r.randint(1, 9), 50)),
                                 ("export", 0.25, lambda: E("${ {c: .a} }", lambda d, c, v: {"c": d["a"]}))):
            if self.r.random() < share and not (key == "as" and "output" in wire):
                more[key] = make()
        if "then" not in wire and self.r.random() < 0.08:
            wire["then"] = self.r.choice(["exit", "end", "continue"])
        where = {"if": lambda e: {"if": e.jq}, "from": lambda e: {"input": {"from": e.jq}},
                 "as": lambda e: {"output": {"as": e.jq}}, "export": lambda e: {"export": {"as": e.jq}}}
        for key, e in more.items():
            wire.update(where[key](e))
        return Task(name, None, wire, run, more)

    def make_set(self, _name, _depth, scope):
        e = from_context(self.r.randint(0, 5)) if self.r.random() < 0.3 else plus(self.r.randint(1, 9), 100)
        if scope and scope[-1] != "try" and self.r.random() < 0.5:
            x = scope[-1]
            e = E(f"${{ . + {{a: (.a + ${x})}} }}", lambda d, c, v: {**d, "a": d["a"] + v[x]})
        return {"set": e.jq}, lambda s, d, v: e.of(d, s.context, v)

    def make_call(self, name, _depth, scope):
        path = f"{self.path}/{name}"
        fails = self.r.choice([0, 0, 0, 1 << 30]) if scope else 0
        return self.call(path, fails)

    def call(self, path, fails):
        get = self.r.random() < 0.3
        self.fails[path] = fails
        if fails:
            self.ledger.on(path, status=503, delay_s=SLOW_S, times=None if fails > 99 else fails)
        self.ledger.on(path, delay_s=SLOW_S)  # so that a kill finds calls under way
        with_ = {"method": "get" if get else "post", "endpoint": self.ledger.url(path)}

        def run(s, d, _v):
            s.calls.append((path, None if get else {"a": d["a"]}))
            s.fails[path] = s.fails.get(path, fails) - 1
            if s.fails[path] >= 0:
                raise Fault
            return d
        return {"call": "http", "with": with_ if get else {**with_, "body": {"a": "${ .a }"}},
                "output": {"as": "${ $input }"}}, run

    def make_raise(self, *_):
        def run(*_):
            raise Fault
        return {"raise": {"error": {"type": "https://example.com/odd", "status": 409, "title": "odd"}}}, run

    def make_do(self, _name, depth, scope):
        tasks = self.list(depth - 1, scope)
        return {"do": wires(tasks)}, lambda s, d, v: s.list(tasks, d, v)[0]

    def make_loop(self, name, depth, scope):
        tasks, items, x = self.list(depth - 1, (*scope, f"x{name}")), list(range(self.r.randint(0, 3))), f"x{name}"
        stop = remainder(7, 3) if self.r.random() < 0.4 else None
        wire = {"for": {"each": x, "in": f"${{ {items} }}"}, "do": wires(tasks)}
        if stop:
            wire["while"] = f"${{ {stop.jq[3:-2]} | not }}"

        def run(s, d, v):
            for i in items:
                if stop and stop.of(d, s.context, v):
                    break
                d, left = s.list(tasks, d, {**v, x: i})
                if left:
                    break
            return d
        return wire, run

    def make_jump(self, name, depth, scope):
        """A list whose last task goes back to its second, some times."""
        k, times, body = f"k{name}", self.r.randint(1, 3), self.list(depth - 1, scope)
        tasks = [{"begin": {"set": f"${{ . + {{{k}: 0}} }}"}}, {"more": {"set": f"${{ . + {{{k}: (.{k} + 1)}} }}"}},
                 {"body": {"do": wires(body)}},
                 {"back": {"switch": [{"again": {"when": f"${{ .{k} < {times} }}", "then": "more"}}]}}]

        def run(s, d, v):
            d = {**d, k: 0}
            while True:
                d = s.list(body, {**d, k: d[k] + 1}, v)[0]
                if d[k] >= times:
                    return d
        return {"do": tasks}, run

    def make_attempt(self, name, depth, scope):
        few = self.r.random() < 0.4
        if few:
            n = self.r.randint(1, 2)
            wire, run = self.call(f"{self.path}/{name}", n)
            tasks, retries = [Task("once", None, wire, run, {})], n
        else:
            tasks, retries = self.list(depth - 1, (*scope, "try")), self.r.randint(0, 2)
        catch = {}
        if retries:
            catch["retry"] = {"delay": {"milliseconds": 20}, "limit": {"attempt": {"count": retries}}}
        after = self.list(depth - 1, scope) if self.r.random() < 0.6 else None
        if after:
            catch["do"] = wires(after)

        def attempt(s, d, v):
            begin = s.context
            for i in range(retries + 1):
                try:
                    return s.list(tasks, d, v)[0]
                except Fault:
                    if i < retries:
                        s.context = begin
            if after:
                return s.list(after, d, v)[0]
            if retries:
                raise Fault
            return d
        return {"try": wires(tasks), "catch": catch}, attempt

    def expect(self, data):
        s = State()
        try:
            return ("run.completed", s.list(self.tasks, data, {})[0]), s.calls
        except Leave as end:
            return ("run.completed", end.args[0]), s.calls
        except Fault:
            return ("run.faulted", None), s.calls


def wires(tasks):
    return [{t.name: t.wire} for t in tasks]


class State:
    def __init__(self):
        self.context, self.calls, self.fails = None, [], {}

    def list(self, tasks, d, v):
        """(output, whether `exit` left the list)"""
        for t in tasks:
            if "if" in t.more and not t.more["if"].of(d, self.context, v):
                continue
            d = t.more["from"].of(d, self.context, v) if "from" in t.more else d
            d = t.run(self, d, v)
            d = t.more["as"].of(d, self.context, v) if "as" in t.more else d
            self.context = t.more["export"].of(d, self.context, v) if "export" in t.more else self.context
            if t.wire.get("then") == "end":
                raise Leave(d)
            if t.wire.get("then") == "exit":
                return d, True
        return d, False
