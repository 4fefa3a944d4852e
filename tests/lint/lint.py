"""./run lint: the rules of the house that a compiler does not check. Prints FILE:LINE: what is wrong and the way out;
exit status 1 when there is a finding. Each rule is one function below that yields (line, message) of one file.

`lint.py FILE...` looks at those files only."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Each folder may include only itself and those before it.
ORDER = ["base", "loop", "broker", "config", "log", "flow", "core", "sched", "tasks", "triggers", "node", "view",
         "gateway", "observe", "cli"]
# Folders that only the named ones may use: the engine speaks to its log by the Kafka protocol, embedded or not.
PRIVATE_TO = {"broker": {"cli"}}

BANNED = {
    "strcpy": "buf_put or memcpy with a checked length",
    "stpcpy": "buf_put or memcpy with a checked length",
    "strcat": "buf_put",
    "strncpy": "memcpy with a checked length",
    "strncat": "buf_put",
    "sprintf": "snprintf or buf_printf",
    "vsprintf": "vsnprintf",
    "strtok": "slices of engine/base",
    "atoi": "text_ or slice_ parsers, which report what is wrong",
    "atol": "text_ or slice_ parsers, which report what is wrong",
    "atoll": "text_ or slice_ parsers, which report what is wrong",
    "atof": "text_ or slice_ parsers, which report what is wrong",
    "gets": "fgets",
    "system": "child_ of engine/loop",
    "popen": "child_ of engine/loop",
    "alloca": "the arena",
    "tmpnam": "mkstemp",
    "mktemp": "mkstemp",
}
FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 90
TEXT_SUFFIXES = {".c", ".h", ".cc", ".py", ".sh", ".md", ".txt", ".yaml", ".yml", ".json", ".xml", ".cmake", ".toml"}

# Places and services of one particular machine have no business in the repository.
PLACES = [
    (re.compile(r"(?<![\w.])/(?:work|root)/[\w.]"), "a path of one machine; make it relative or a variable"),
    (re.compile(r"(?<![\w.])/home/(?!user\b|you\b)[a-z]\w*/"), "a path of one machine; make it relative"),
    (re.compile(r"\b(?:deb\.debian|archive\.ubuntu|security\.debian|pypi|pythonhosted|registry\.npmjs|repo1?\.maven|"
                r"repo\.maven|proxy\.golang|static\.crates)\.(?:org|com|apache\.org)\b"),
     "the host of a package registry; leave that to the client's own configuration"),
]


def blank_comments_and_strings(text):
    """The same text with comments and literals blanked; line breaks stay, so that lines keep their numbers."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return token.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def folder_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "engine" and len(parts) > 2 else None


def rule_layers(path, text, _code):
    folder = folder_of(path)
    if not folder:
        return
    if folder not in ORDER:
        yield 1, f"engine/{folder} is not in the order of folders; add it to ORDER in tests/lint/lint.py"
        return
    for number, line in enumerate(text.splitlines(), 1):
        m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not m:
            continue
        name = m.group(1)
        if ".." in name:
            yield number, f'include "{name}": write it from engine/ on'
            continue
        used = name.split("/")[0] if "/" in name else folder
        if used not in ORDER:
            yield number, f'include "{name}": engine/{used} is not a folder of the house'
        elif ORDER.index(used) > ORDER.index(folder):
            yield number, f"{folder} may not look up to {used}; pass in what it needs or move the code"
        elif used != folder and used in PRIVATE_TO and folder not in PRIVATE_TO[used]:
            yield number, f"{used} may be used only by {', '.join(sorted(PRIVATE_TO[used]))}"
        elif used != folder and name.endswith("_int.h"):
            yield number, f"{name} is private to {used}"


def rule_banned(path, _text, code):
    names = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    for number, line in enumerate(code.splitlines(), 1):
        for m in names.finditer(line):
            yield number, f"{m.group(1)} is banned; use {BANNED[m.group(1)]}"


def rule_fileops(path, _text, code):
    """The log's files are touched only through its table of system calls, so that a test sees every one of them."""
    if folder_of(path) != "broker" or path.name in {"fileops.c", "fileops.h"}:
        return
    names = re.compile(r"(?<![\w.>])(open(?:at)?|creat|fopen|p?write[v]?|fwrite|p?readv?|f?truncate(?:64)?|fallocate|"
                       r"f(?:data)?sync|rename(?:at2?)?|unlink(?:at)?|mkdir(?:at)?|rmdir|(?:fd)?opendir|[fl]?stat(?:at)?|"
                       r"access|flock|file_(?:read|write_atomic)|dir_make|fd_write_all)\s*\(")
    for number, line in enumerate(code.splitlines(), 1):
        for m in names.finditer(line):
            if not re.search(r"\b(?:event_fd|wake_fd)\b", line):  # an eventfd is no file
                yield number, f"{m.group(1)} past the table; call it through struct fileops (broker/fileops.h)"


def rule_exit(path, _text, code):
    """Only a command ends the program; a child between fork and exec leaves by _exit."""
    if folder_of(path) in (None, "cli"):
        return
    for number, line in enumerate(code.splitlines(), 1):
        if re.search(r"(?<![\w.>])exit\s*\(", line):
            yield number, "exit below cli; return an error to the caller"


def rule_opening_comment(path, text, _code):
    if not text.lstrip().startswith("/*"):
        yield 1, "opens without a comment; say purpose, owning thread, states and invariants"


def rule_file_length(path, text, _code):
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield FILE_LINES_MAX, f"{lines} lines, at most {FILE_LINES_MAX}; divide it by what changes together"


def rule_function_length(path, _text, code):
    """A function's body begins with a brace in the first column and ends with one (clang-format sees to that)."""
    start = None
    for number, line in enumerate(code.splitlines(), 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            if number - start - 1 > FUNCTION_LINES_MAX:
                yield start, f"function of {number - start - 1} lines, at most {FUNCTION_LINES_MAX}; divide it"
            start = None


def rule_places(path, text, _code):
    if path.resolve() == Path(__file__).resolve():
        return
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, why in PLACES:
            m = pattern.search(line)
            if m:
                yield number, f'"{m.group()}": {why}'


def rule_white_space(path, text, _code):
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip():
            yield number, "white space at the end of the line"
        if "\t" in line and path.suffix in {".c", ".h", ".cc", ".py"}:
            yield number, "a tab; indent by spaces"
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "no line break at the end of the file"


C_RULES = [rule_layers, rule_banned, rule_fileops, rule_exit, rule_opening_comment, rule_file_length, rule_function_length]
TEXT_RULES = [rule_places, rule_white_space]


def tracked():
    out = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                         capture_output=True).stdout.decode()
    return [ROOT / name for name in out.split("\0") if name and (ROOT / name).is_file()]


def is_script(path):
    if path.suffix == ".sh":
        return True
    if path.suffix:
        return False
    with path.open("rb") as f:
        return bool(re.match(rb"#!.*\b(ba)?sh\b", f.readline(200)))


def check_file(path):
    """All findings of one file as (line, message)."""
    c_file = path.suffix in {".c", ".h", ".cc"}
    if path.suffix not in TEXT_SUFFIXES and not is_script(path):
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        return [(1, f"not UTF-8 at byte {e.start}")]
    code = blank_comments_and_strings(text) if c_file else ""
    found = []
    # Inputs of tests may be anything on purpose.
    if "corpus" not in path.parts:
        for rule in TEXT_RULES + (C_RULES if c_file else []):
            found += rule(path, text, code)
    return sorted(found)


def check_readmes():
    found = []
    for folder in sorted(p for p in (ROOT / "engine").iterdir() if p.is_dir()):
        if any(folder.glob("*.c")) and not (folder / "README.md").is_file():
            found.append((folder, 1, "no README.md; half a page: what is here, who may use it, where to begin"))
    return found


def run_tool(args, what):
    """A tool prints its own findings; returns 1 if it had any."""
    done = subprocess.run(args, cwd=ROOT, text=True, capture_output=True)
    if done.returncode == 0:
        return 0
    print((done.stdout + done.stderr).strip())
    print(f"lint: {what}")
    return 1


def check_format(c_files):
    """One line a file: the first place that differs, instead of clang-format's three lines for each."""
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *map(str, c_files)], cwd=ROOT, text=True,
                          capture_output=True)
    if done.returncode == 0:
        return []
    first = {}
    for m in re.finditer(r"^(/[^:\n]+):(\d+):\d+: error:", done.stderr, re.M):
        first.setdefault(Path(m.group(1)), int(m.group(2)))
    if not first:
        raise SystemExit(f"lint: clang-format failed: {done.stderr.strip()}")
    return [(path, line, "not formatted from here on; ./run fmt mends it") for path, line in sorted(first.items())]


def check_tools(files):
    bad = 0
    scripts = [str(p) for p in files if is_script(p)]
    python = [str(p) for p in files if p.suffix == ".py"]
    if scripts and shutil.which("shellcheck"):
        bad += run_tool(["shellcheck", "-x", *scripts], "shellcheck has findings")
    if python:
        bad += run_tool([sys.executable, "-m", "pyflakes", *python], "pyflakes has findings")
    return bad


def main(names):
    files = [Path(n).resolve() for n in names] or tracked()
    found = [(p, line, message) for p in files for line, message in check_file(p)]
    c_files = [p for p in files if p.suffix in {".c", ".h", ".cc"}]
    if c_files:
        found += check_format(c_files)
    if not names:
        found += check_readmes()
    for path, line, message in sorted(found):
        print(f"{path.relative_to(ROOT)}:{line}: {message}")
    bad = check_tools(files) + len(found)
    print(f"lint: {len(files)} files, {bad} findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
