"""README.md keeps its word: its programs run, print what it shows, and its tables are the module's.

The line before every fenced block is one of these comments:

    <!-- run -->             python, or sh of `python3 …`, `mkdir`, `cp` and `sed` commands: run
                             here, has to exit with 0
    <!-- output -->          all that the block before it prints on stdout; where README has `…`
                             there may be any text, and on a line of its own any lines
    <!-- not run: why -->    everything else; `<!-- not run: the file NAME -->` is the content of a
                             file that the programs find

Programs run once, in order, in a copy of the checkout, against one emulator; what one leaves
behind, a later one finds. Python blocks share their names, as in a session (each runs after those
before it, again, in an interpreter of its own). A command may end with `> FILE`.
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
import time
from pathlib import Path
from typing import NamedTuple

import emulator as emulated
import pytest
import vectors
from emulator import Emulator, environment

import smasync

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DEMO = "python3 tests/demo.py"
TESTS = (
    "python3 -m venv .venv && .venv/bin/python -m pip install -q pytest hypothesis"
    " && .venv/bin/python -m pytest -q"
)
PROGRAMS = {"python3": sys.executable, "mkdir": "mkdir", "cp": "cp", "sed": "sed"}
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
WORDS = " ".join(TEXT.split())
BLOCKS = blocks_of(TEXT)
RUN = [index for index, block in enumerate(BLOCKS) if block.runs]
FILE_MARKER = re.compile("<!-- not run: the file ([a-z.]+) -->")
FILES = {match[1]: block.text for block in BLOCKS if (match := FILE_MARKER.match(block.marker))}


def name_of(index):
    return f"line {BLOCKS[index].line}"


# --- Running


class Checkout:
    """A copy of the checkout with README's files, and an emulator for what runs in it."""

    def __init__(self, path, emulator):
        self.path = path
        shutil.copy(ROOT / "smasync.py", path)
        shutil.copytree(ROOT / "tests", path / "tests", ignore=lambda *_: ["__pycache__"])
        for name, text in FILES.items():
            (path / name).write_text(text, encoding="utf-8")
        system = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
        home = {"HOME": str(path), "USERPROFILE": str(path)}
        utf8 = {"PYTHONIOENCODING": "utf-8", "AWS_EC2_METADATA_DISABLED": "true"}
        self.environ = {**system, **home, **utf8, **environment(emulator)}

    def run(self, *arguments, program=sys.executable, stdin="", **more):
        """A `python3` with these arguments, or another program, ended."""
        return subprocess.run(
            [program, *arguments],
            cwd=self.path,
            env={**self.environ, **more},
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )

    def output(self, *arguments, **more):
        """What that prints on stdout; it has to exit with 0."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_block(self, index):
        """What a block prints; a python block after all those before it."""
        if BLOCKS[index].language == "sh":
            return "".join(map(self.run_command, filter(None, commands_of(BLOCKS[index].text))))
        python = [i for i in RUN if i <= index and BLOCKS[i].language == "python"]
        session = [[BLOCKS[i].line, BLOCKS[i].text] for i in python]
        printed = self.output("-W", "error", "-c", SESSION, stdin=json.dumps(session))
        return printed.partition(END)[2]

    def run_command(self, words):
        """What a command prints, if it does not go to a file."""
        program, *arguments = words
        assert program in PROGRAMS, f"{program}: is not run here; mark it not run"
        name = ""
        if arguments[-2:-1] == [">"]:
            *arguments, _, name = arguments
        printed = self.output(*arguments, program=PROGRAMS[program])
        if name:
            (self.path / name).write_text(printed, encoding="utf-8")
        return "" if name else printed


@pytest.fixture
def emulator():
    with Emulator() as running:
        yield running


@pytest.fixture
def checkout(emulator, tmp_path):
    return Checkout(tmp_path, emulator)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """By index, what each block that is run printed, or the AssertionError of one that failed."""
    found = {}
    with Emulator() as emulator:
        checkout = Checkout(tmp_path_factory.mktemp("checkout"), emulator)
        for index in RUN:
            try:
                found[index] = checkout.run_block(index)
            except AssertionError as error:
                found[index] = error
    return found


def assert_output(index, printed):
    """Compares with the <!-- output --> block that follows, if there is one."""
    following = BLOCKS[index + 1 : index + 2]
    if not following or following[0].marker != "<!-- output -->":
        return
    shown = following[0].text
    if not printed.endswith("\n"):
        printed += "\n"  # a result is printed as it is
    if not re.fullmatch("".join(map(pattern_of, shown.splitlines())), printed):
        assert printed == shown  # says where they differ


def pattern_of(line):
    """A pattern for what a line of an output block stands for."""
    parts = [re.escape(part) for part in line.split("…")]
    return r"(?:.*\n)*?" if line == "…" else ".*".join(parts) + r"\n"


@pytest.mark.parametrize("index", RUN, ids=name_of)
def test_a_block_runs_and_prints_what_readme_shows(printed, index):
    if isinstance(printed[index], AssertionError):
        raise printed[index]
    assert_output(index, printed[index])


def test_the_demo_does_the_whole_job_with_no_settings_of_this_machine_and_no_proxy(checkout):
    nowhere = "http://user:password@127.0.0.1:9"
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    variables = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
    settings = {"AWS_PROFILE": "nobody", "AWS_ACCESS_KEY_ID": ""}
    settings.update(dict.fromkeys((*names, *variables), nowhere))
    printed = checkout.output("tests/demo.py", **settings)
    shown = [
        "s3://my-bucket/in.json",
        "POST /endpoints/my-endpoint/async-invocations HTTP/1.1",
        "\n    POST\n    /endpoints/my-endpoint/async-invocations\n",
        "\n    AWS4-HMAC-SHA256\n",
        '"OutputLocation": "s3://async-output/',
        '{"count": 5, "mean": 2.8',
        "InferenceError",
        "the inference failed: the input holds neither numbers nor words",
    ]
    places = [printed.find(text) for text in shown]
    assert -1 not in places and places == sorted(places)
    assert printed.count("\n") < 70


def test_a_403_means_not_yet_to_wait_and_names_the_permission(emulator):
    emulator.may_list = False
    accepted = {
        "OutputLocation": "s3://async-output/none",
        "FailureLocation": "s3://async-output/no",
    }
    with smasync.Client(environ=environment(emulator)) as client:
        for look in (client.poll, lambda accepted: client.wait(accepted, timeout=0.3)):
            with pytest.raises(smasync.ClientError) as caught:
                look(accepted)
            assert caught.value.status == 403 and "s3:ListBucket" in caught.value.hint
        emulator.put("s3://async-output/none", b"here")
        assert client.wait(accepted).body == b"here"


def bulk(checkout, *flags):
    """Exit status and counts of bulk over the files m.jsonl and r.jsonl, and the results by line."""
    done = checkout.run("smasync.py", "bulk", "m.jsonl", "--results", "r.jsonl", "--quiet", *flags)
    counts = json.loads(done.stdout) if done.stdout else {}
    lines = (checkout.path / "r.jsonl").read_text(encoding="utf-8").splitlines()
    results = {entry["Line"]: entry for entry in map(json.loads, lines)}
    return done.returncode, counts, results


def test_bulk_writes_and_carries_on_as_readme_says(checkout, emulator):
    good = {"EndpointName": "my-endpoint", "Body": [1]}
    manifest = checkout.path / "m.jsonl"
    lines = [json.dumps(good), "", json.dumps({**good, "InferenceId": "own"}), json.dumps(good)]
    manifest.write_text("\n".join(lines), encoding="utf-8")
    emulator.fail_every(refuse_own)
    status, counts, results = bulk(checkout)
    assert (status, counts) == (254, {"Accepted": 2, "Failed": 1, "Left": 0})
    named = {name for names in cells_of("entry", "entry") for name in names}
    assert named == {name for result in results.values() for name in result}
    assert set(results[3]["Error"]) == {"Type", "Code", "Message"}
    assert results[3]["InferenceId"] == "own"
    assert results[4]["InferenceId"] == f"line-{results[4]['Hash']}-2"
    assert results[1]["InferenceId"] != results[4]["InferenceId"]

    sent = len(emulator.ledger)
    assert bulk(checkout)[:2] == (status, counts) and len(emulator.ledger) == sent
    emulator.fail_every(None)
    counts = {"Accepted": 3, "Failed": 0, "Left": 0}
    assert bulk(checkout, "--retry-failed")[:2] == (0, counts) and len(emulator.ledger) == sent + 1
    assert bulk(checkout)[:2] == (0, counts)
    manifest.write_text("\n".join([*lines[::-1], json.dumps({**good, "Body": [2]})]))
    assert bulk(checkout)[:2] == (0, {**counts, "Accepted": 4})
    assert len(emulator.ledger) == sent + 2


def refuse_own(received):
    own = received and received.header("X-Amzn-SageMaker-Inference-Id") == "own"
    return emulated.status(403, "AccessDeniedException", "no") if own else None


def flags_of(subcommand):
    """The flags of the first command in README that has that word, and their values."""
    commands = [
        words for block in BLOCKS if block.language == "sh" for words in commands_of(block.text)
    ]
    words = next(words for words in commands if subcommand in words)
    return {name: value for name, value in zip(words, words[1:]) if name.startswith("--")}


# --- The text


def test_readme_gives_the_two_commands():
    commands = [line for block in BLOCKS for line in block.text.splitlines()]
    commands = [line.partition("$ ")[2] if line[:2] == "$ " else line for line in commands]
    assert DEMO in commands and TESTS in commands
    assert commands.index(DEMO) < commands.index(TESTS)


def test_readme_shows_something_running():
    assert {BLOCKS[index].language for index in RUN} == {"python", "sh"}


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
    lines = BLOCKS[index].text.splitlines()
    for document in lines if ".jsonl -->" in BLOCKS[index].marker else ["\n".join(lines)]:
        json.loads(document)


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


def all_rows_of(text):
    """Each Markdown table, as a list with a dict of cells for each row."""
    found = []
    for table in re.findall(r"(?m)(?:^\|.*\n?)+", text):
        lines = [line.strip()[1:-1] for line in table.splitlines()]
        header, _, *rows = ([cell.strip() for cell in line.split("|")] for line in lines)
        found.append([dict(zip(header, row)) for row in rows])
    return found


def rows_of(text, first_header):
    """The rows of the first table whose first header cell is that."""
    return next((rows for rows in all_rows_of(text) if next(iter(rows[0])) == first_header), [])


def test_the_member_table_is_the_module_s():
    columns = ("member", "on the wire", "type", "minimum", "maximum")
    shown = [tuple(row.get(column) for column in columns) for row in rows_of(TEXT, "member")]
    places = {"label": "path", "payload": "body"}
    assert [
        (name, wire, kind, *(re.sub(r"[,_ \u00a0\u202f]", "", text or "") for text in limits))
        for name, wire, kind, *limits in shown
    ] == [
        (row.name, places.get(row.place, row.place), row.type, str(row.minimum), str(row.maximum))
        for row in smasync.INVOKE_ENDPOINT_ASYNC
    ]


def cells_of(first_header, column):
    """What stands in `code` in a column of a table, row by row."""
    return [re.findall("`(.+?)`", row[column]) for row in rows_of(TEXT, first_header)]


def test_the_errors_in_the_table_are_the_module_s():
    rows = list(zip(cells_of("error", "error"), cells_of("error", "whose fault")))
    own = (smasync.Error, *smasync.ClientError.__subclasses__())
    classes = [getattr(smasync, name) for name in smasync.__all__]
    classes = [each for each in classes if isinstance(each, type) and issubclass(each, Exception)]
    assert [name for (name,), _ in rows] == [e.__name__ for e in classes if e not in own]
    for (name,), attributes in rows:
        for attribute in attributes:
            assert hasattr(getattr(smasync, name)("message"), attribute.lstrip(".")), attribute
    for each in smasync.ClientError.__subclasses__():
        assert f"`{each.__name__}`" in TEXT


def test_the_outcomes_have_what_the_table_says():
    result = smasync.Result(b"", "text/plain", "s3://my-bucket/out", {})
    values = [result, smasync.InferenceError(""), smasync.ResultTimeout("")]
    outcomes = zip(values, cells_of("outcome", "outcome"), cells_of("outcome", "what it has"))
    for value, (name,), attributes in outcomes:
        assert type(value).__name__ == name and attributes
        assert [a for a in attributes if not hasattr(value, a.lstrip("."))] == []


def test_the_exit_statuses_in_the_table_are_the_module_s():
    shown = [int(row["exit status"]) for row in rows_of(TEXT, "exit status")]
    assert shown == sorted({0, *(status for _, status in smasync.EXIT_STATUS)})


def test_the_commands_in_the_table_are_the_module_s():
    options = {name: f"{own} {smasync.EVERYWHERE}".split() for name, _, own, _ in smasync.COMMANDS}
    rows = list(zip(cells_of("command", "command"), cells_of("command", "what it does")))
    assert {usage.split()[0] for (usage,), _ in rows} == set(options)
    for (usage,), mentioned in rows:
        name, *words = usage.split()
        flags = {word for word in (*words, *mentioned) if word.startswith("--")}
        assert flags <= set(options[name])


def test_each_command_is_run():
    commands = [
        words[2]
        for i in RUN
        for words in commands_of(BLOCKS[i].text)
        if "smasync.py" in words[1:2]
    ]
    assert {name for name, *_ in smasync.COMMANDS} <= set(commands)


SOURCE = (ROOT / "smasync.py").read_bytes()
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
FLOOR = re.search(r'requires-python = ">=(.+)"', PYPROJECT)[1]
STATUSES = sorted(status for status in smasync.TRANSIENT if isinstance(status, int))
BODY = next(row for row in smasync.INVOKE_ENDPOINT_ASYNC if row.name == "Body")
# What README says in words, made from the module's own constants.
SENTENCES = (
    f"{smasync.WAIT_SECONDS:.0f} by default",
    f"up to {BODY.maximum:,} bytes",
    f"tried up to {smasync.THROTTLED_TRIES} times",
    f"a line over {smasync.MAX_FILE_BYTES >> 20} MiB",
    f"{('no', 'one', 'two', 'three')[smasync.MAX_ATTEMPTS]} attempts in all",
    f"`--concurrency` lines ({smasync.CONCURRENCY} by default)",
    f"HTTP {', '.join(map(str, STATUSES[:-1]))} and {STATUSES[-1]}",
    f"has {('no', 'one', 'two', 'three', 'four')[SOURCE.decode().count('# === PART ')]} parts",
    f"It needs Python {FLOOR} or newer",
    f"renewed {smasync.ADVISORY_SECONDS // 60} minutes early",
    f"{smasync.MANDATORY_SECONDS // 60} minutes early, all calls wait",
    f"AWS's {len(vectors.CASES)} published signature vectors",
    f"**{smasync.__version__}**. The same job",
    f"a copy of version {smasync.__version__}, run",
)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_number_in_the_text_is_the_module_s(sentence):
    assert sentence in WORDS


def test_the_cuts_have_the_lines_and_bytes_of_the_table():
    rows = rows_of(TEXT, "you want")
    assert len(rows) == 4
    for row in rows:
        part = re.search("PART I+V?", row["cut it with"])
        cut = SOURCE[: SOURCE.index(f"\n# === {part[0]}:".encode()) + 1] if part else SOURCE
        assert (row["lines"], row["bytes"]) == (f"{cut.count(10):,}", f"{len(cut):,}")


def test_the_size_in_the_comparison_is_the_file_s():
    shown = {row[""]: row["smasync"] for row in rows_of(TEXT, "")}
    assert f"one file of {len(SOURCE) / 1000:.0f} kB" in shown["you install"]
    assert shown["there is to review"] == f"{SOURCE.count(10):,} lines"


def test_the_short_speed_tables_repeat_the_whole_one():
    """The whole one is what bench.py printed."""
    tables = [rows for rows in all_rows_of(TEXT) if "compared with" in rows[0]]
    short, whole = tables
    assert len(short) == 3 and len(whole) > 15
    for row in short:
        (same,) = (
            each for each in whole if each["smasync"] == row["smasync"]
            and each["compared with"] == row["compared with"]
        )  # fmt: skip
        assert same["ratio (min–max)"].split()[0] == row["ratio"]
    (compared,) = (row for row in rows_of(TEXT, "") if row[""] == "import and a client")
    (same,) = (row for row in short if row[""] == "import and `Client`")
    assert (compared["smasync"], f"boto3: {compared['boto3']}") == (
        same["smasync"], same["compared with"],
    )  # fmt: skip


def test_readme_is_short_unless_it_is_unfolded():
    folded = re.sub(r"(?ms)^<details>.*?^</details>$", "", TEXT)
    assert "<details>" not in folded and len(folded.splitlines()) <= 450


def test_version_and_licence_stand_at_the_top_of_the_file():
    top = SOURCE.decode().splitlines()[:15]
    text = " ".join(top)
    assert text.count(f"smasync {smasync.__version__}: ") == 1
    assert "# SPDX-License-Identifier: MIT" in top
    copyright = re.search("Copyright .*", (ROOT / "LICENSE").read_text())[0]
    assert f"# {copyright}" in top
    assert f"Python {FLOOR} or newer" in text and 'license = "MIT"' in PYPROJECT
    assert "python3 -m doctest smasync.py" in text and "SHA-256" in text


# --- What causes a wrong signature: the table, and how each row comes about


def resend(emulator, **changes):
    """A transport that changes the signed request, as a proxy could."""
    send = smasync.UrllibTransport(environ={})

    def transport(request, **options):
        changed = {name: change(getattr(request, name)) for name, change in changes.items()}
        return send(request._replace(**changed), **options)

    return transport


def refused(emulator, do=None, *, region="us-east-1", clock=time.time, **options):
    """Error and hint of a call, of put_input if `do` says so."""
    keys = {"aws_access_key_id": emulated.ACCESS_KEY_ID}
    keys["aws_secret_access_key"] = emulated.SECRET_ACCESS_KEY
    changes = {name: options.pop(name) for name in ("url", "headers", "body") if name in options}
    environ = {"AWS_ENDPOINT_URL": emulator.url}
    with smasync.Client(
        region, environ=environ, clock=clock, max_attempts=1,
        transport=resend(emulator, **changes), **{**keys, **options},
    ) as client, pytest.raises(smasync.ClientError) as raised:  # fmt: skip
        if do == "put":
            client.put_input(b"[1]", "s3://my-bucket/a b")
        else:
            client.invoke_endpoint_async(EndpointName="my-endpoint", Body=b"[1]")
    return f"{raised.value} {raised.value.hint}"


def signed_for(emulator, **options):
    """The refusal of a request that was signed by hand."""
    members = {"EndpointName": "my-endpoint", "Body": b"[1]"}
    request = smasync.serialize(members, emulator.url)
    keys = smasync.Credentials(emulated.ACCESS_KEY_ID, emulated.SECRET_ACCESS_KEY)
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    where = {"region": "us-east-1", "service": "sagemaker", "timestamp": timestamp, **options}
    response = smasync.UrllibTransport(environ={})(smasync.sign(request, keys, **where).request)
    return f"{response.header('x-amzn-errortype')} {response.body.decode()}"


def without(name):
    return lambda headers: tuple(pair for pair in headers if pair[0] != name)


def expired(emulator):
    emulator.accounts = {
        emulated.ACCESS_KEY_ID: emulated.Account(emulated.SECRET_ACCESS_KEY, None, 1)
    }
    return refused(emulator)


def denied(emulator):
    emulator.fail(emulated.status(403, "AccessDeniedException", "no permission for this action"))
    return refused(emulator)


def changed_type(headers):
    return tuple(
        (name, "text/csv" if name == "Content-Type" else value) for name, value in headers
    )


CAUSES = {  # what README's first column has, and a refusal that has it
    "line 7 of the canonical request": lambda it: refused(it, headers=changed_type),
    "line 2 of the canonical request": lambda it: refused(
        it, "put", url=lambda url: url.replace("%20", "%2520")),
    "line 3 of the canonical request": lambda it: refused(it, url=lambda url: url + "?x=1"),
    "differs": lambda it: refused(it, body=lambda body: b"[2]"),
    "the canonical requests are the same": lambda it: refused(it, aws_secret_access_key="another"),
    "Signature expired": lambda it: refused(it, clock=lambda: time.time() - 3600),
    "Signature not yet current": lambda it: refused(it, clock=lambda: time.time() + 3600),
    "RequestTimeTooSkewed": lambda it: refused(it, "put", clock=lambda: time.time() - 3600),
    "Credential should be scoped to a valid region": lambda it: refused(it, region="eu-west-1"),
    "Credential should be scoped to correct service": lambda it: signed_for(
        it, service="sagemaker-runtime"),
    "UnrecognizedClientException": lambda it: refused(it, aws_access_key_id="AKIDOTHER"),
    "ExpiredTokenException": expired,
    "MissingAuthenticationTokenException": lambda it: refused(it, headers=without("Authorization")),
    "IncompleteSignatureException": lambda it: refused(
        it, headers=lambda headers: (*headers, ("X-Amz-Added", "1"))),
    "AccessDeniedException": denied,
}  # fmt: skip


def test_the_table_of_causes_has_these():
    rows = [row["you see"] for row in rows_of(TEXT, "you see")]
    assert len(rows) >= 8
    shown = [words for row in rows for words in re.findall("`(.+?)`", row) or ["differs"]]
    assert shown == list(CAUSES)


@pytest.mark.parametrize("words", CAUSES)
def test_a_cause_shows_as_the_table_says(emulator, words):
    told = CAUSES[words](emulator)
    expected = (
        r"line \d+ of .* has '[0-9a-f]{64}', we have '[0-9a-f]{64}'"
        if words == "differs"
        else words
    )
    assert re.search(expected, told), told


# --- What AWS is told


def test_the_policy_allows_what_the_text_names():
    policy = next(
        json.loads(block.text) for block in BLOCKS if block.marker.endswith("a policy -->")
    )
    allowed = {statement["Action"]: statement["Resource"] for statement in policy["Statement"]}
    section = TEXT[TEXT.index("## The input") : TEXT.index("## Lambda")]
    assert set(allowed) == set(re.findall("`((?:sagemaker|s3):[A-Za-z]+)`", section))
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}
    for action, resource in allowed.items():
        bucket = re.fullmatch(r"arn:aws:s3:::([a-z-]+)(/\*)?", resource)
        assert bool(bucket) == action.startswith("s3:"), action
        if bucket:
            assert (bucket[2] is None) == (action == "s3:ListBucket"), action


MACHINE = json.loads(FILES["enqueue.asl.json"])
JSONPATH_ONLY = {
    "Parameters",
    "ResultSelector",
    "ResultPath",
    "InputPath",
    "OutputPath",
    "ItemsPath",
}


def machines_in(machine):
    """A state machine, and those inside its Map and Parallel states."""
    yield machine
    for state in machine["States"].values():
        inner = [state["ItemProcessor"]] if "ItemProcessor" in state else state.get("Branches", [])
        for each in inner:
            yield from machines_in(each)


def targets_of(state):
    """The names of the states that may follow a state."""
    rules = [state, *state.get("Catch", []), *state.get("Choices", [])]
    names = [rule[key] for rule in rules for key in ("Next", "Default") if key in rule]
    return set(names)


def objects_in(value):
    """Every object anywhere in a JSON document."""
    if isinstance(value, dict):
        yield value
    children = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    for child in children:
        yield from objects_in(child)


@pytest.mark.parametrize(
    "machine", [*machines_in(MACHINE)], ids=lambda machine: machine["StartAt"]
)
def test_states_follow_each_other(machine):
    states = machine["States"]
    followed = {machine["StartAt"]}.union(*map(targets_of, states.values()))
    assert followed == set(states)  # each target is there, and each state is one
    for name, state in states.items():
        ends = state["Type"] in ("Succeed", "Fail", "Choice")
        assert ("Next" in state) + (state.get("End") is True) == (not ends), name


def test_the_state_machine_speaks_one_language():
    assert MACHINE["QueryLanguage"] == "JSONata"
    for each in objects_in(MACHINE):
        assert each.get("QueryLanguage", "JSONata") == "JSONata"
        assert not JSONPATH_ONLY.intersection(each)
        assert [key for key in each if key.endswith((".$", "Path"))] == []
        for text in each.values():
            if isinstance(text, str):
                assert not text.startswith("$")
                assert text.startswith("{%") == text.endswith("%}") == ("$" in text)


def test_the_map_is_distributed_and_reads_and_writes_s3():
    states = [state for each in machines_in(MACHINE) for state in each["States"].values()]
    (manifest,) = (state for state in states if state["Type"] == "Map")
    assert manifest["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
    assert manifest["ItemReader"]["Resource"] == "arn:aws:states:::s3:getObject"
    assert manifest["ItemReader"]["ReaderConfig"] == {"InputType": "JSONL"}
    assert manifest["ResultWriter"]["Resource"] == "arn:aws:states:::s3:putObject"
    assert manifest["ResultWriter"]["WriterConfig"]["OutputType"] == "JSONL"
    source = manifest["ItemReader"]["Arguments"]
    assert f"put-input manifest.jsonl s3://{source['Bucket']}/{source['Key']}\n" in TEXT
    assert f"`{manifest['ResultWriter']['Arguments']['Prefix']}/`" in TEXT
    assert manifest["MaxConcurrency"] > 0 and 0 < manifest["ToleratedFailurePercentage"] < 100


def task():
    (found,) = (
        state
        for each in machines_in(MACHINE)
        for state in each["States"].values()
        if state["Type"] == "Task"
    )
    return found


def test_the_task_is_the_function_that_readme_creates():
    assert task()["Resource"] == "arn:aws:states:::lambda:invoke"
    name = task()["Arguments"]["FunctionName"].rpartition(":")[2]
    assert name == flags_of("create-function")["--function-name"]
    assert flags_of("create-state-machine")["--definition"] == "file://enqueue.asl.json"
    machine = flags_of("start-execution")["--state-machine-arn"].rpartition(":")[2]
    assert machine == flags_of("create-state-machine")["--name"]


def retried():
    return {name for rule in task()["Retry"] for name in rule["ErrorEquals"]}


def test_the_errors_that_are_tried_again_exist():
    own = {name for name in retried() if not name.startswith(("States.", "Lambda."))}
    assert len(own) == 4 and "has four of smasync's classes" in WORDS
    assert own and own <= set(smasync.__all__)
    assert all(issubclass(getattr(smasync, name), smasync.Error) for name in own)
    assert not own & {"ParamValidationError", "ConfigurationError", "CredentialsError", "Error"}


@pytest.mark.parametrize(
    "fault",
    [
        emulated.throttle(),
        emulated.status(500, "InternalFailure"),
        emulated.status(503, "ServiceUnavailable"),
        emulated.status(504),
        emulated.reset_after(),
    ],
    ids=lambda fault: f"{fault.kind} {fault.arguments}",
)
def test_what_may_pass_is_tried_again_by_the_state_machine(emulator, fault):
    emulator.fail(fault)
    client = smasync.Client(max_attempts=1, environ=environment(emulator))
    with client, pytest.raises(smasync.Error) as caught:
        client.invoke_endpoint_async(EndpointName="my-endpoint", Body=b"[1]")
    assert type(caught.value).__name__ in retried()  # Lambda reports the name of the class


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
