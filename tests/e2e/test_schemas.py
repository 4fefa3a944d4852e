"""A recorded journal against schemas/: every record fits the schema of its type, every type of record occurs, and
nothing that a schema does not know is let through."""
import copy
import json
import re

import pytest
import yaml

import every_record
import journal
import schemas
import tm

CHUNKED = {"part.state", "run.snapshot"}


def as_object(rec, value):
    headers = dict(rec.headers)
    assert len(headers) == len(rec.headers), f"{rec.key}: a header twice: {rec.headers}"
    return {"key": rec.key, "headers": headers, "value": value}


def objects(records):
    """[(type, record as the schemas see it)]; a value in several pieces is put together, each piece has its own head."""
    found, pieces = [], {}
    for r in records:
        if r.type in CHUNKED:
            pieces.setdefault((r.type, r.key.rsplit(".", 1)[0], r.header("tm-nonce")), []).append(r)
        else:
            found.append((r.type, as_object(r, r.json)))
    for (type_, _, _), parts in pieces.items():
        value = json.loads(b"".join(p.value for p in parts))
        found += [(type_, as_object(p, value)) for p in parts]
    return found


@pytest.fixture(scope="module")
def known():
    return schemas.Schemas()


def strangers(value, path=()):
    """The record once more for each of its objects that is not free-form, with a member that no schema knows."""
    free = {"input", "output", "context", "last", "raw", "in", "event", "origin", "visits", "floors", "items", "base"}
    if isinstance(value, dict) and not (path and path[-1] in free):
        yield path
        for k, v in value.items():
            yield from strangers(v, (*path, k))


def with_stranger(record, path):
    made = copy.deepcopy(record)
    at = made
    for k in path:
        at = at[k]
    at["strange"] = 1
    return made


def test_every_record_of_a_run_fits_its_schema(group, embedded_log, ledger, known):
    g = every_record.record(group, embedded_log, ledger)
    records = g.journal()
    found = objects(records)
    bad = [f"{t} {o['key']}: {p}" for t, o in found for p in known.problems(f"journal/{t}.json", o)]
    assert not bad, "\n".join(bad[:20])
    types = {t for t, _ in found}
    assert types == known.record_types(), "a type without a record, or without a schema"
    assert any(o["headers"].get("tm-chunk") for t, o in found if t == "run.snapshot"), "no value in pieces was seen"
    assert [r.header("tm-status") for r in records if r.header("tm-up-to")] == ["no run waits for it"]
    # One of each with a member that the schema does not know is refused, wherever it stands.
    once = {t: o for t, o in found if t != "event.delivered"}  # any event's attributes
    passed = [f"{t} {'/'.join(path)}" for t, o in once.items() for path in strangers(o)
              if not known.problems(f"journal/{t}.json", with_stranger(o, path))]
    assert not passed, f"an unknown member passed in {passed}"
    journal.check(records, journal.fold(records).unfinished())
    check_letters(g, known)
    check_events(g, known)


def check_letters(g, known):
    letters = {r.header("tm-dlq-kind"): r for r in every_record.letters(g)}
    assert set(letters) == {"event", "run"}
    for kind, r in letters.items():
        o = as_object(r, r.json if kind == "run" else r.value.decode())
        assert known.problems("dead-letter.json", o) == []
        assert known.problems("dead-letter.json", with_stranger(o, ())) != []
        o["headers"]["tm-dlq-strange"] = "1"
        assert known.problems("dead-letter.json", o) != []
        assert known.problems("journal/common.json#/definitions/problem", json.loads(r.header("tm-dlq-error"))) == []


def check_events(g, known):
    told = [r for r in tm.read_all(g.bootstrap, g.topic) if r.header("ce_type") == "t.told"]
    assert len(told) == 2  # the run and its fork
    for r in told:
        o = as_object(r, r.json)
        assert known.problems("event.json", o) == []
        o["headers"]["Strange"] = "1"
        assert known.problems("event.json", o) != []


# ---- the configuration

ROOT = schemas.FOLDER.parent
CONFIGS = [*ROOT.glob("config/tidemark.yaml"), *ROOT.glob("examples/*/config/tidemark.yaml")]
TOPICS = [*ROOT.glob("topics/*.yaml"), *ROOT.glob("examples/*/topics/*.yaml")]
GOOD = {"group": "g", "kafka": {"bootstrap.servers": "127.0.0.1:1"}}
BAD = [
    {**GOOD, "jurnal": {"partitions": 4}},
    {**GOOD, "journal": {"partitions": 0}},
    {**GOOD, "journal": {"partitions": "4"}},
    {**GOOD, "journal": {"history": 7}},
    {**GOOD, "journal": {"histry": "7d"}},
    {**GOOD, "node": {"session": "soon"}},
    {**GOOD, "log": {"level": "loud"}},
    {**GOOD, "group": "a group"},
    {**GOOD, "group": ["g"]},
    {**GOOD, "kafka": {"acks": "1"}},
    {**GOOD, "kafka": {"sasl.password": {"secrets": "x"}}},
    {**GOOD, "topics": {"tidemark.x": {}}},
    {**GOOD, "topics": {"a/b": {}}},
    {**GOOD, "topics": {"orders": {"partitions": 10001}}},
    {**GOOD, "topics": {"orders": {"from": "middle"}}},
    {**GOOD, "topics": {"orders": {"types": []}}},
    {**GOOD, "topics": {"orders": {"retention": "week"}}},
    {**GOOD, "topics": {"orders": {"config": {"cleanup.policy": ["compact"]}}}},
]


def test_the_configurations_here_fit_their_schema(known):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/config.md").read_text(), re.S)
    assert CONFIGS and TOPICS and blocks
    values = [yaml.safe_load(p.read_text()) or {} for p in CONFIGS] + [yaml.safe_load(blocks[0]), GOOD]
    for value in values:
        assert known.problems("tidemark.json", value) == [], value
    for path in TOPICS:
        assert known.problems("topic.json", yaml.safe_load(path.read_text())) == [], path


@pytest.mark.parametrize("value", BAD, ids=lambda v: json.dumps({k: x for k, x in v.items() if GOOD.get(k) != x}))
def test_the_schema_refuses_what_the_program_refuses(cli, tmp, known, value):
    path = tmp / "bad.yaml"
    path.write_text(json.dumps(value))
    done = cli("serve", "--config", path, status=2)
    assert f"{path}:1:" in done.err and "hint:" in done.err
    assert known.problems("tidemark.json", value) != []
