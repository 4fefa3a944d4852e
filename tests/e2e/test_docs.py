"""The pages of docs/ against what they speak of: docs/journal.md against the table of types in engine/core/rec.c and
against schemas/."""
import json
import re
from pathlib import Path

import pytest

import schemas
from every_record import RESERVED

ROOT = Path(__file__).resolve().parents[2]
JOURNAL = (ROOT / "docs/journal.md").read_text()
REC = (ROOT / "engine/core/rec.c").read_text()
USUAL = {"tm-v", "tm-type", "tm-epoch", "tm-nonce"}


def types_of_the_program():
    """{type: (form of its key, is it a request)} in the order of the table."""
    rows = re.findall(r'\[REC_\w+\] = \{"([\w.]+)", "\w*", KEY_(\w+), (true|false)\}', REC)
    assert len(rows) == len(re.findall(r"^    \[REC_\w+\] =", REC, re.M)), "a row of the table has another form"
    return {name: (form.lower(), request == "true") for name, form, request in rows}


def section(title):
    m = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", JOURNAL, re.M | re.S)
    assert m, f"docs/journal.md has no section {title}"
    return m.group(1)


def rows(text):
    """Cells of the rows of all tables; `code` cells lose nothing."""
    return [[c.strip() for c in line.strip()[1:-1].split("|")] for line in text.splitlines()
            if line.startswith("|") and not line.startswith("|---")]


def documented():
    """{type: (form, is it a request, further headers, row)}"""
    requests, facts = section("Types").split("Facts, by the owner alone", 1)
    found = {}
    for text, request in ((requests, True), (facts, False)):
        for row in rows(text):
            if row[0].startswith("`"):
                assert row[0].strip("`") not in found, f"{row[0]} stands twice"
                found[row[0].strip("`")] = (row[1], request, set(re.findall(r"`([\w-]+)`", row[2])), row)
    return found


def test_the_table_of_types_is_that_of_the_program():
    assert {t: v[:2] for t, v in documented().items()} == types_of_the_program()
    assert list(documented()) == [*types_of_the_program()], "in the order of engine/core/rec.c"


def test_the_table_of_headers_is_that_of_the_program():
    written = set(re.findall(r'put\(s, "([\w-]+)"', REC))
    read = set(re.findall(r'sl_is\(name, "([\w-]+)"\)', REC))
    assert written and written == read
    assert {row[0].strip("`") for row in rows(section("Headers"))[1:]} == written


def test_every_type_that_is_written_has_a_schema_with_the_headers_of_the_table():
    known = schemas.Schemas()
    assert known.record_types() == set(types_of_the_program()) - RESERVED
    for t, (_, request, headers, _) in documented().items():
        if t in RESERVED:
            continue
        have = set(schemas.load(f"journal/{t}.json")["properties"]["headers"]["properties"])
        assert have - USUAL == headers, f"further headers of {t}"
        assert ("tm-nonce" in have) == (not request), t


def test_reserved_types_have_no_writer():
    """One that gets a writer needs a schema and a place in every_record.py."""
    for t in RESERVED:
        name = re.search(rf'\[(REC_\w+)\] = \{{"{re.escape(t)}"', REC).group(1)
        users = [p.name for p in (ROOT / "engine").rglob("*.c") if re.search(rf"\b{name}\b", p.read_text())]
        assert set(users) <= {"rec.c", "state.c"}, f"{t} is used by {users}"


def examples():
    text = re.search(r"```jsonl\n(.*?)```", section("Examples"), re.S).group(1)
    return [json.loads(line) for line in text.splitlines()]


def test_each_type_has_an_example_that_fits_its_schema():
    known, found = schemas.Schemas(), examples()
    assert sorted(e["headers"]["tm-type"] for e in found) == sorted(known.record_types())
    for e in found:
        assert known.problems(f"journal/{e['headers']['tm-type']}.json", e) == []


@pytest.mark.parametrize("path", schemas.paths())
def test_schemas_are_valid_and_say_what_they_are_for(path):
    schema = schemas.load(path)
    schemas.jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"].endswith("draft-07/schema#") and schema["title"]


# ---- docs/limits.md

LIMITS = (ROOT / "docs/limits.md").read_text()
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "ms": 1, "s": 1000, "min": 60_000, "hours": 3_600_000}


def limit_rows():
    """Not those of the page's last table, which is about one cause: tests/unit/faults."""
    text = LIMITS.split("## When memory runs out")[0]
    return [r for r in rows(text) if r[0] not in ("what", "of")]


def constants():
    """{name and FOLDER/name: the values of #define in engine/}"""
    found = {}
    for path in sorted((ROOT / "engine").rglob("*.[ch]*")):
        text = re.sub(r"\\\n", " ", path.read_text())
        for name, value in re.findall(r"^(?:#define|constexpr size_t) (\w+)[ \t=]+([^\n;]+)", text, re.M):
            value = re.sub(r"/\*.*?(\*/|$)", "", value).replace("(size_t)", "").strip()
            value = re.sub(r"\b(\d+)[uUlL]+\b", r"\1", value)
            if re.fullmatch(r"[\d\s()*+<-]+", value):
                for key in (name, f"{path.parent.name}/{name}"):
                    found.setdefault(key, set()).add(eval(value))  # digits and operators only
    return found


def settings():
    """{path: preset} of the configuration, and the defaults of topic settings of the embedded log."""
    text = (ROOT / "engine/config/config_fields.c").read_text()
    found = dict(re.findall(r'\{"([\w.]+)", FIELD_INT,[^{}]*?"(\d+)",\n', text))
    found.update(re.findall(r'\{"([\w.]+)", "(\d+)"', (ROOT / "engine/broker/topic_settings.c").read_text()))
    return {k: int(v) for k, v in found.items()}


def first_number(text):
    m = re.match(r"([\d,]+) ?(\w+)?", text)
    return int(m.group(1).replace(",", "")) * UNITS.get(m.group(2), 1)


def test_the_numbers_of_the_limits_are_those_of_the_program():
    known, set_ = constants(), settings()
    five = [r for r in limit_rows() if len(r) == 5]
    assert len(five) > 40
    for row in five:
        name = row[2].strip("`")
        values = {set_[name]} if name in set_ else known.get(name, set())
        assert len(values) == 1, f"{row[0]}: {name} is defined {len(values)} times"
        assert first_number(row[1]) in values, f"{row[0]}: the page says {row[1]}, {name} is {values}"


def test_each_limit_has_its_test():
    tests = {f"e2e: {n}" for p in (ROOT / "tests/e2e").glob("test_*.py") for n in
             re.findall(r"^def (test_\w+)", p.read_text(), re.M)}
    tests |= {f"{p.parent.name}: {n}" for p in (ROOT / "tests/unit").glob("*/*.c") for n in
              re.findall(r"^TEST\((\w+)\)", p.read_text(), re.M)}
    missing = [f"{r[0]}: {r[-1]}" for r in limit_rows() if r[-1] not in tests]
    assert not missing, "\n".join(missing)
