"""Each rule of lint.py finds what it is for and leaves its good twin alone."""
import pytest

import lint

C_HEAD = "/* What this is for. */\n"


def lines(rule, text, folder="core", name="x.c"):
    path = lint.ROOT / "engine" / folder / name
    return [line for line, _ in rule(path, text, lint.blank_comments_and_strings(text))]


@pytest.mark.parametrize("folder, include, bad", [
    ("core", "base/buf.h", False),
    ("core", "part_int.h", False),
    ("base", "loop/loop.h", True),
    ("core", "core/../node/node.h", True),
    ("core", "flow/parse_int.h", True),
    ("core", "nowhere/x.h", True),
    ("node", "broker/broker.h", True),
    ("cli", "broker/broker.h", False),
])
def test_includes_only_look_down(folder, include, bad):
    assert lines(lint.rule_layers, f'{C_HEAD}#include "{include}"\n', folder) == ([2] if bad else [])


@pytest.mark.parametrize("code, bad", [
    ("    sprintf(b, x);", True),
    ("    snprintf(b, n, x);", False),
    ("    s->system(x);", False),
    ('    log("system(x)"); /* gets(x) */', False),
    ("    return system (x);", True),
])
def test_banned_functions(code, bad):
    assert lines(lint.rule_banned, C_HEAD + code + "\n") == ([2] if bad else [])


@pytest.mark.parametrize("code, bad", [
    ("    fsync(fd);", True),
    ("    rc = file_write_atomic(path, s, e);", True),
    ("    o->rename(o, from, to);", False),
    ("    while (write(s->event_fd, &one, sizeof one) < 0)", False),
])
def test_files_of_the_log_are_touched_through_its_table(code, bad):
    assert lines(lint.rule_fileops, C_HEAD + code + "\n", "broker") == ([2] if bad else [])
    assert lines(lint.rule_fileops, C_HEAD + code + "\n", "core") == []
    assert lines(lint.rule_fileops, C_HEAD + code + "\n", "broker", "fileops.c") == []


def test_exit_is_for_commands_only():
    assert lines(lint.rule_exit, "exit(1);\n_exit(1);\n") == [1]
    assert lines(lint.rule_exit, "exit(1);\n", "cli") == []


def test_function_and_file_length():
    body = "int f(void)\n{\n" + "    x();\n" * lint.FUNCTION_LINES_MAX
    assert lines(lint.rule_function_length, body + "}\n") == []
    assert lines(lint.rule_function_length, body + "    x();\n}\n") == [2]
    assert lines(lint.rule_file_length, "\n" * lint.FILE_LINES_MAX) == []
    assert lines(lint.rule_file_length, "\n" * (lint.FILE_LINES_MAX + 1)) == [lint.FILE_LINES_MAX]


def test_opening_comment():
    assert lines(lint.rule_opening_comment, C_HEAD + "int x;\n") == []
    assert lines(lint.rule_opening_comment, "int x;\n") == [1]


@pytest.mark.parametrize("text, bad", [
    ("see /" + "work/main/x", True),
    ("cd /" + "home/jane/src", True),
    ("https://" + "pypi" + ".org/simple", True),
    ("docs/network/workers and /usr/share/doc", False),
])
def test_places(text, bad):
    assert lines(lint.rule_places, text + "\n") == ([1] if bad else [])
