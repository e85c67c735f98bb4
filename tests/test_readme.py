"""README.md keeps its word: its programs run, print what it shows, and its table is the module's.

The line before every fenced block is one of these comments:

    <!-- run -->             python, or sh of `python3 …` commands: run here, has to exit with 0
    <!-- output -->          all that the block before it prints on stdout; where README has `…`
                             there may be any text, and on a line of its own any lines
    <!-- not run: why -->    everything else

Programs run in order, in a copy of the checkout, against the emulator (which has the input
s3://my-bucket/in.json, as the copy has in.json); python blocks share their names, as in a session.
The table whose first column is headed `member` has the columns `on the wire` (`path`, `body`, or
the header), `type`, `minimum` and `maximum`, whatever else it has.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from emulator import Emulator, environment

import smasync

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
INPUT = b'{"values": [3, 1, 4, 1, 5]}'
DEMO = "python3 tests/demo.py"
TESTS = (
    "python3 -m venv .venv && .venv/bin/python -m pip install -q pytest hypothesis"
    " && .venv/bin/python -m pytest -q"
)
END = "<!-- end -->\n"
# Runs the blocks given on stdin, [line, text] each, and prints END before the last one.
SESSION = """if True:
    import json, sys
    *before, last = json.load(sys.stdin)
    names = {"__name__": "__main__"}
    for line, text in before:
        exec(compile("\\n" * line + text, "README.md", "exec"), names)
    print("<!-- end -->")
    exec(compile("\\n" * last[0] + last[1], "README.md", "exec"), names)
"""


class Block(NamedTuple):
    """One fenced block; `line` is that of its opening fence, `marker` the line before it."""

    line: int
    marker: str
    language: str
    text: str

    @property
    def runs(self) -> bool:
        return self.marker == "<!-- run -->"


def blocks_of(text):
    """The fenced blocks of a Markdown text, in order."""
    found = []
    for match in re.finditer(r"(?ms)^(```+|~~~+)(.*?)\n(.*?)^\1$", text):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(line, before.strip(), match[2].strip(), match[3]))
    return found


def problem(blocks, index):
    """What is wrong with the marker of a block, or None."""
    block, before = blocks[index], blocks[index - 1] if index else None
    if re.fullmatch(r"<!-- not run: \w.*\w.* -->", block.marker):
        return None
    if block.marker == "<!-- output -->":
        return None if before and before.runs else "follows no block that is run"
    if not block.runs:
        return f"has {block.marker!r} before it, which is none of the three markers"
    if block.language not in ("python", "sh"):
        return f"is to be run, and is neither python nor sh but {block.language!r}"
    return None


def commands_of(text):
    """The command lines of an sh block, as lists of words; a "$ " before them is a prompt."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line.partition("$ ")[2] if line[:2] == "$ " else line) for line in lines]


def prose_of(text):
    """The text without its fenced blocks and `code`."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^(```+|~~~+).*?^\1$", "", text))


TEXT = README.read_text(encoding="utf-8") if README.exists() else ""
BLOCKS = blocks_of(TEXT)
PYTHON = [index for index, block in enumerate(BLOCKS) if block.runs and block.language == "python"]
SHELL = [index for index, block in enumerate(BLOCKS) if block.runs and block.language == "sh"]


def name_of(index):
    return f"line {BLOCKS[index].line}"


# --- Running


@pytest.fixture
def emulator():
    with Emulator() as running:
        running.put("s3://my-bucket/in.json", INPUT, "application/json")
        yield running


@pytest.fixture
def run(emulator, tmp_path):
    """Runs `python3` with some arguments in a copy of the checkout; its stdout."""
    shutil.copy(ROOT / "smasync.py", tmp_path)
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=lambda *_: ["__pycache__"])
    (tmp_path / "in.json").write_bytes(INPUT)
    system = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    utf8 = {"PYTHONIOENCODING": "utf-8", "AWS_EC2_METADATA_DISABLED": "true"}
    environ = {**system, **home, **utf8, **environment(emulator)}

    def run(*arguments, stdin="", **more):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**environ, **more},
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def assert_output(index, printed):
    """Compares with the <!-- output --> block that follows, if there is one."""
    following = BLOCKS[index + 1 : index + 2]
    if not following or following[0].marker != "<!-- output -->":
        return
    shown = following[0].text
    if not re.fullmatch("".join(map(pattern_of, shown.splitlines())), printed):
        assert printed == shown  # says where they differ


def pattern_of(line):
    """A pattern for what a line of an output block stands for."""
    parts = [re.escape(part) for part in line.split("…")]
    return r"(?:.*\n)*?" if line == "…" else ".*".join(parts) + r"\n"


@pytest.mark.parametrize("index", PYTHON, ids=name_of)
def test_python_runs_and_prints_what_readme_shows(run, index):
    session = [[BLOCKS[i].line, BLOCKS[i].text] for i in PYTHON if i <= index]
    printed = run("-W", "error", "-c", SESSION, stdin=json.dumps(session))
    assert_output(index, printed.partition(END)[2])


@pytest.mark.parametrize("index", SHELL, ids=name_of)
def test_commands_run_and_print_what_readme_shows(run, index):
    printed = []
    for program, *arguments in filter(None, commands_of(BLOCKS[index].text)):
        assert program == "python3", f"{program}: only python3 is run here; mark it not run"
        printed.append(run(*arguments))
    assert_output(index, "".join(printed))


def test_the_demo_needs_none_of_this_machine_s_settings_and_no_proxy(run):
    nowhere = "http://user:password@127.0.0.1:9"
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    settings = {"AWS_PROFILE": "nobody", "AWS_ACCESS_KEY_ID": "", "AWS_ENDPOINT_URL": nowhere}
    printed = run("tests/demo.py", **dict.fromkeys(names, nowhere), **settings)
    assert '"count": 5, "mean": 2.8' in printed and '"to": 2, "be": 2' in printed


# --- The text


def test_readme_gives_the_two_commands():
    commands = [line for block in BLOCKS for line in block.text.splitlines()]
    commands = [line.partition("$ ")[2] if line[:2] == "$ " else line for line in commands]
    assert DEMO in commands and TESTS in commands
    assert commands.index(DEMO) < commands.index(TESTS)


def test_readme_shows_something_running():
    assert PYTHON and SHELL


@pytest.mark.parametrize("index", range(len(BLOCKS)), ids=name_of)
def test_every_block_has_a_marker(index):
    assert problem(BLOCKS, index) is None


def test_no_fence_is_left_open():
    fences = [line for line in TEXT.splitlines() if line.lstrip().startswith(("```", "~~~"))]
    assert len(fences) == 2 * len(BLOCKS)


@pytest.mark.parametrize(
    "index", [i for i, block in enumerate(BLOCKS) if block.language == "json"], ids=name_of
)
def test_json_is_json(index):
    json.loads(BLOCKS[index].text)


def test_links_lead_somewhere():
    prose = prose_of(TEXT)
    headings = re.findall(r"(?m)^#+ +(.*?) *$", TEXT)
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    targets = re.findall(r"\]\(<?([^)>\s]+)", prose) + re.findall(r"(?m)^\[.+?\]: +(\S+)", prose)
    for target in targets:
        if not re.match("[a-z]+:", target):
            path, _, anchor = target.partition("#")
            assert (ROOT / path).exists(), target
            assert path or anchor in slugs, target


def rows_of(text, first_header):
    """The Markdown table whose first header cell is that: a dict of cells without ` a row."""
    tables = re.findall(r"(?m)(?:^\|.*\n?)+", text)
    for table in tables:
        header, _, *rows = (
            [cell.strip().strip("`").strip() for cell in line.strip().strip("|").split("|")]
            for line in table.splitlines()
        )
        if header[0] == first_header:
            return [dict(zip(header, row)) for row in rows]
    return []


def test_the_member_table_is_the_module_s():
    columns = ("member", "on the wire", "type", "minimum", "maximum")
    shown = [tuple(row.get(column) for column in columns) for row in rows_of(TEXT, "member")]
    places = {"label": "path", "payload": "body"}
    assert [
        (name, wire, kind, *(re.sub(r"[,_ \u00a0\u202f]", "", text or "") for text in limits))
        for name, wire, kind, *limits in shown
    ] == [
        (row.name, row.header or places[row.place], row.type, str(row.minimum), str(row.maximum))
        for row in smasync.INVOKE_ENDPOINT_ASYNC
    ]


# --- The convention itself

SAMPLES = {  # README: what is wrong with its last block
    "<!-- run -->\n```python\n1\n```\n": None,
    "<!-- run -->\n\n```sh\npython3\n```\n": None,
    "<!-- run -->\n```sh\nx\n```\n<!-- output -->\n```text\ny\n```\n": None,
    "<!-- not run: needs an AWS account -->\n```sh\nx\n```\n": None,
    "```sh\nx\n```\n": "none of the three markers",
    "text\n~~~\nx\n~~~\n": "none of the three markers",
    "<!-- not run: -->\n```sh\nx\n```\n": "none of the three markers",
    "<!-- run -->\n```json\n1\n```\n": "neither python nor sh",
    "<!-- output -->\n```text\nx\n```\n": "follows no block that is run",
    "<!-- not run: so -->\n```sh\nx\n```\n<!-- output -->\n```\ny\n```\n": "follows no block",
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_block_without_a_valid_marker_is_a_problem(sample):
    blocks = blocks_of(sample)
    found = problem(blocks, len(blocks) - 1)
    assert found is SAMPLES[sample] is None or SAMPLES[sample] in found
