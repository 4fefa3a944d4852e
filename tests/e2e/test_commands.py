"""Completion in bash and zsh themselves, forms of output, and commands that no other test uses."""
import json
import re
import socket
import subprocess
import time

import pytest
import yaml

import tm
from group import agent

# The completion asks a log that answers within 300 ms; a loaded machine under a sanitizer may take longer.
PATIENT = {"TIDEMARK_COMPLETION_MS": "30000"}
ECHO = agent("echo", [{"a": {"set": {"n": "${ .n }"}}}], "t.echo", input={"from": "${ .[0] }"})

BASH = """
source <("$1" completion bash) || exit 9
COMP_LINE=$2 COMP_POINT=${#2}
COMP_WORDS=("$1") COMP_CWORD=0
read -ra rest <<<"${2#* }"
COMP_WORDS+=("${rest[@]}")
[[ $2 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_tidemark
printf '%s\\n' "${COMPREPLY[@]}"
"""
# _describe and _files are the completion system's; what they are given is what is looked at.
ZSH = """
_describe() { print -rl -- "${(@P)4}" }
_files() { print -r -- "FILES $*" }
source <("$1" completion zsh) || exit 9
words=("$1" "${(@s: :)${2#* }}") CURRENT=$#words
_tidemark
"""


def ask(shell, script, binary, line, cwd):
    p = subprocess.run([*shell, script, "test", str(binary), line], cwd=cwd, text=True, capture_output=True, timeout=60)
    assert p.returncode in (0, 1) and p.stderr == "", (p.returncode, p.stderr)
    return [x for x in p.stdout.split("\n") if x]


@pytest.fixture
def bash(tidemark_bin, tmp, monkeypatch):
    monkeypatch.setenv("TIDEMARK_COMPLETION_MS", PATIENT["TIDEMARK_COMPLETION_MS"])
    return lambda line: ask(["bash", "--norc", "-c"], BASH, tidemark_bin, line, tmp)


@pytest.fixture
def zsh(tidemark_bin, tmp, monkeypatch):
    monkeypatch.setenv("TIDEMARK_COMPLETION_MS", PATIENT["TIDEMARK_COMPLETION_MS"])
    return lambda line: ask(["zsh", "-f", "-c"], ZSH, tidemark_bin, line, tmp)


def commands(cli):
    """What stands before the summary of each command in the help."""
    return [line[2:42].strip() for line in cli("help", status=0).out.splitlines() if line.startswith("  ")]


def test_bash_completes_commands_flags_values_and_files(bash, cli, tmp):
    (tmp / "agent.yaml").write_text("x")
    (tmp / "agents").mkdir()
    assert bash("tidemark runs li") == ["list"]
    assert bash("tidemark r") == ["run", "runs", "replays"]
    assert bash("tidemark runs list -o j") == ["json", "jsonl"]
    assert bash("tidemark runs list -o ") == ["table", "json", "jsonl", "yaml"]
    assert bash("tidemark runs list --li") == ["--limit"]
    assert bash("tidemark runs list --where st") == ["status="]
    assert bash("tidemark dlq list --where ") == ["agent=", "kind=", "run=", "feed=", "origin="]
    assert bash("tidemark log --sync i") == ["interval"]
    assert sorted(bash("tidemark check ag")) == ["agent.yaml", "agents"]
    assert bash("tidemark serve --apply ag") == ["agents"]
    assert bash("tidemark completion z") == ["zsh"]
    assert bash("tidemark nosuch x") == []
    # The first words of all commands in the help, and no other.
    assert set(bash("tidemark ")) == {line.split()[0] for line in commands(cli)}


def test_zsh_completes_the_same_with_what_it_means(zsh, tmp):
    assert zsh("tidemark runs li") == ["list:runs, folded from the journal"]
    assert zsh("tidemark runs list -o j") == ["json", "jsonl"]
    assert zsh("tidemark runs list --format=x") == []
    assert zsh("tidemark log --sync=i") == ["--sync=interval"]
    assert zsh("tidemark check ag") == ["FILES "]
    assert zsh("tidemark serve --apply ") == ["FILES -/"]


def test_completion_knows_the_names_of_the_log(bash, zsh, group, embedded_log):
    g = group(embedded_log.bootstrap)
    g.apply(ECHO)
    n = g.serve("a").start()
    run = g.start_run("t/echo", [{"n": 1}])
    g.cli("marks", "set", "before", status=0)
    g.wait_ended(1)
    at = f"--brokers {g.bootstrap} --group {g.name} "
    assert bash(f"tidemark agents show {at}") == ["t/echo"]
    assert bash(f"tidemark runs show {at}{run[:6]}") == [run]
    assert bash(f"tidemark events tail {at}{g.topic[:8]}") == [g.topic]
    assert bash(f"tidemark marks delete {at}") == ["before"]
    assert bash(f"tidemark runs start --brokers={g.bootstrap} --group={g.name} t/") == ["t/echo"]
    assert zsh(f"tidemark agents show {at}t") == ["t/echo"]
    n.stop()


def test_completion_without_a_log_is_quick_and_silent(tidemark_bin, tmp):
    """A broker that takes connections and says nothing: the time is up, and nothing is printed."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = "127.0.0.1:%d" % mute.getsockname()[1]
        began = time.monotonic()
        assert ask(["bash", "--norc", "-c"], BASH, tidemark_bin, f"tidemark agents show --brokers {address} ", tmp) == []
        assert time.monotonic() - began < 10


def test_every_command_has_help_and_refuses_unknown_flags(cli):
    for line in commands(cli):
        words = []
        for word in line.split():
            if not re.fullmatch("[a-z]+", word) or len(words) == 2:
                break
            words.append(word)
        seen = cli(*words, "--help", status=0).out
        assert seen.startswith(f"usage: tidemark {' '.join(words)}") and "--timeout" in seen, line
    for words in (("dev",), ("runs", "list"), ("dlq", "redrive", "0/0")):
        done = cli(*words, "--nosuch", status=2)
        assert "unknown flag --nosuch" in done.err and "hint:" in done.err
    assert "unknown flag --force" in cli("dlq", "redrive", "0/0", "--force", status=2).err


def test_yaml_output_is_that_of_json(group, embedded_log):
    g = group(embedded_log.bootstrap)
    g.apply(ECHO)
    for words in (("agents", "list"), ("agents", "show", "t/echo"), ("topics", "list"), ("topics", "show", g.topic),
                  ("runs", "list"), ("marks", "list")):
        as_json = json.loads(g.cli(*words, "-o", "json", status=0).out)
        assert yaml.safe_load(g.cli(*words, "-o", "yaml", status=0).out) == as_json, words


def test_topics_are_deleted_only_when_meant(group, embedded_log):
    g = group(embedded_log.bootstrap)
    g.publish([tm.event("t.x"), tm.event("t.x")])
    done = g.cli("topics", "delete", g.topic, status=2)
    assert "--yes" in done.err and tm.partitions_of(g.bootstrap, g.topic) == [0, 1]
    assert "2 records would be deleted" in g.cli("topics", "delete", g.topic, "--dry-run", status=0).out
    assert "belongs to tidemark" in g.cli("topics", "delete", f"tidemark.{g.name}.runs", "--yes", status=2).err
    assert "2 records" in g.cli("topics", "delete", g.topic, "--yes", status=0).out
    tm.wait_until(lambda: tm.partitions_of(g.bootstrap, g.topic) == [], 20, "the topic to be gone")
    g.cli("topics", "delete", g.topic, "--yes", status=3)


def test_a_topic_that_is_not_declared_is_not_applied(group, embedded_log):
    g = group(embedded_log.bootstrap)
    assert "declared" in g.cli("topics", "apply", "nosuch", status=3).err
    assert g.topic in g.cli("topics", "apply", g.topic, "--dry-run", status=0).out
