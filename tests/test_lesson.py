"""tests/lesson.md and tests/check.py: the lesson's blocks run, and the check finds what is wrong.

Blocks have README's markers (test_readme.py says which) and run in a copy of the checkout, where
the reference solution, tests/mysigner.py, is the student's file: python blocks each by itself, sh
blocks in a real shell. The check is run on the reference, and on copies with one mistake.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys

import check
import pytest
from test_readme import ROOT, blocks_of, pattern_of, problem

import smasync

TEXT = (ROOT / "tests" / "lesson.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "tests" / "mysigner.py").read_text(encoding="utf-8")
BLOCKS = blocks_of(TEXT)
mysigner = check.load(ROOT / "tests" / "mysigner.py")  # not the student's, beside smasync.py
FUNCTIONS = {
    name: value
    for name, value in vars(mysigner).items()
    if inspect.isfunction(value) and value.__module__ == "mysigner"
}
RUN = [index for index, block in enumerate(BLOCKS) if block.runs]


def name_of(index):
    return f"line {BLOCKS[index].line}"


class Checkout:
    """A copy of the checkout with a mysigner.py, whose `python3` is the one that runs the tests."""

    def __init__(self, path, solution=REFERENCE):
        self.path = path
        shutil.copy(ROOT / "smasync.py", path)
        shutil.copytree(ROOT / "tests", path / "tests", ignore=lambda *_: ["__pycache__", "peers"])
        (path / "mysigner.py").write_text(solution, encoding="utf-8")
        (path / "bin").mkdir()
        python3 = path / "bin" / "python3"
        python3.write_text(f'#!/bin/sh\nexec "{sys.executable}" -B -W error "$@"\n')
        python3.chmod(0o755)
        search = f"{path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        nowhere = dict.fromkeys(("http_proxy", "HTTP_PROXY"), "http://127.0.0.1:9")
        self.environ = {**os.environ, **nowhere, "PATH": search, "PYTHONIOENCODING": "utf-8"}

    def run(self, *command):
        """A command, ended."""
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.environ,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )

    def output(self, *command):
        """What a command prints on stdout; it has to exit with 0 and to say nothing on stderr."""
        done = self.run(*command)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    def run_block(self, index):
        """What a block prints."""
        program = ["sh", "-eu"] if BLOCKS[index].language == "sh" else ["python3"]
        return self.output(*program, "-c", BLOCKS[index].text)

    def check(self, *arguments):
        """Exit status and stdout of check.py, which never shows a traceback."""
        done = self.run("python3", "tests/check.py", *arguments)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("checkout"))


# --- The lesson's blocks


@pytest.mark.parametrize("index", RUN, ids=name_of)
def test_a_block_runs_and_prints_what_the_lesson_shows(checkout, index):
    assert shutil.which("openssl"), "the lesson needs the command openssl; install OpenSSL"
    printed = checkout.run_block(index)
    following = BLOCKS[index + 1 : index + 2]
    if following and following[0].marker == "<!-- output -->":
        shown = following[0].text
        if not re.fullmatch("".join(map(pattern_of, shown.splitlines())), printed):
            assert printed == shown  # says where they differ


@pytest.mark.parametrize("index", range(len(BLOCKS)), ids=name_of)
def test_every_block_has_a_marker(index):
    assert problem(BLOCKS, index) is None


def test_each_step_is_run_and_each_has_the_command_that_checks_it():
    steps = TEXT.split("\n## Step ")[1:]
    assert [step[0] for step in steps] == [str(number) for number in check.STEPS]
    for step in steps:
        command = f"python3 tests/check.py mysigner.py {step[0]}"
        assert f"Check: `{command}`" in step or f"```sh\n{command}\n```" in step
        blocks = blocks_of(step)
        assert step[0] == "6" or any(block.runs for block in blocks)


def test_every_function_of_the_steps_is_described_with_its_parameters():
    words = " ".join(TEXT.split())
    heads = {name: f"{name}{inspect.signature(value)}" for name, value in FUNCTIONS.items()}
    missing = [name for name, head in heads.items() if f"`{head}`" not in words]
    assert missing == ["encode_once", "hmac_sha256"]  # helpers of this solution alone


def test_the_names_in_the_text_are_those_of_the_module_and_the_check():
    places = re.findall(r"(?s)In `smasync\.py`: (.+?)\n\n", TEXT)
    names = {name for place in places for name in re.findall(r"`([A-Za-z_0-9]+)`", place)}
    assert "canonical_uri" in names
    assert {name for name in names if not hasattr(smasync, name)} <= {"explain"}
    assert "explain" in [name for name, *_ in smasync.COMMANDS]
    assert hasattr(smasync, "mismatch") and hasattr(smasync.ClientError("m"), "hint")
    labels = re.findall(r"(?m)^\| ([A-Z]\w+) \|", TEXT)
    assert labels == [*dict.fromkeys(check.labels_of(check.EXAMPLE))]
    assert mysigner.UNSIGNED_HEADERS <= smasync.UNSIGNED_HEADERS
    assert [name for name in mysigner.UNSIGNED_HEADERS if f"`{name}`" not in TEXT] == []
    assert "smasync" not in re.sub('""".*?"""', "", REFERENCE, flags=re.DOTALL)


# --- The check


def test_the_reference_is_right_in_all_seven_steps(checkout):
    status, printed = checkout.check("mysigner.py")
    steps = [line for line in printed.splitlines() if line.startswith("step ")]
    assert (status, steps) == (0, [f"step {number}: right" for number in range(1, 8)])


def test_one_step_is_checked_alone(checkout):
    assert checkout.check("mysigner.py", "3") == (0, "step 3: right\n")


def line_of(text):
    """The number of the first line of the reference that has the text."""
    return REFERENCE[: REFERENCE.index(text)].count("\n") + 1


BROKEN = {
    # the mistake: the step, what to replace, by what, what the check says
    "a newline at the end": (
        1,
        'b7852b855"""',
        'b7852b855\n"""',
        ["CANONICAL_REQUEST", "line 13, after HashedPayload", "expected: (there is no such line)"],
    ),
    "names are not sorted": (
        2,
        "sorted(values)",
        "list(values)",
        ["CanonicalHeaders", "expected: 'host:example.com'", "yours:    'x-amz-date:2015"],
    ),
    "the path is encoded once": (
        3,
        'quote(path, safe="/") if double_encode else path',
        "path",
        ["CanonicalUri", "expected: '/example%20space/'", "yours:    '/example space/'"],
    ),
    "pairs are sorted as joined texts": (
        3,
        '"&".join(f"{name}={value}" for name, value in sorted(encoded))',
        '"&".join(sorted(f"{name}={value}" for name, value in encoded))',
        ["CanonicalQueryString", "Param=Value2&Param-3=Value3'", "Param-3=Value3&Param=Value2'"],
    ),
    "AWS4 is left out": (
        4,
        '"AWS4" + secret',
        "secret",
        ["signing_key(", "kSigning", 'without "AWS4"', "expected: '3e37d864a77314d1"],
    ),
    "keys are in hex": (
        4,
        "key = hmac_sha256(key, part)",
        "key, last = hmac_sha256(key, part), part == scope.split('/')[-1]\n"
        "        key = key if last else key.hex().encode()",
        ["signing_key(", "kSigning", "take digest(), not hexdigest()"],
    ),
    "the session token is not signed": (
        5,
        '"user-agent", "x-amzn-trace-id"',
        '"user-agent", "x-amz-security-token", "x-amzn-trace-id"',
        [
            "get-vanilla-with-session-token",
            "CanonicalHeaders",
            "expected: 'x-amz-security-token:6e86291e",
            "yours:    ''",
        ],
    ),
    "the scope has the whole timestamp": (
        5,
        "{timestamp[:8]}/",
        "{timestamp}/",
        [
            "Authorization",
            "Credential\n",
            "yours:    'AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/2015",
        ],
    ),
    "options are not passed on": (
        5,
        "headers, body, double_encode, normalize_path)",
        "headers, body, normalize_path=normalize_path)",
        ["S3", "Authorization of sign(", "Signature\n"],
    ),
    "a header is signed and not returned": (
        5,
        '[*headers, ("Authorization", authorization)]',
        '[*headers[:-1], ("Authorization", authorization)]',
        ["signed x-amz-date: 20150830T123600Z, and returned (there is no such line)"],
    ),
    "the first pair is Authorization": (
        5,
        '[*headers, ("Authorization", authorization)]',
        '[("Authorization", authorization), *headers]',
        ["returned X-Amz-Date last; Authorization comes last"],
    ),
    "a header is not among the unsigned": (
        2,
        '"trailer", ',
        "",
        ["UNSIGNED_HEADERS has no 'trailer'"],
    ),
    "key and text are swapped": (
        4,
        "hmac.new(key, text.encode(), ",
        "hmac.new(text.encode(), key, ",
        ["yours is from the text as the key"],
    ),
    "the header is added after signing": (
        6,
        """    request = urllib.request.Request(url""",
        """    headers = sign(
        "POST", url, [], b"", access_key_id=access_key_id, secret=secret,
        region=region, service="sagemaker", timestamp=timestamp,
    ) + [("X-Amzn-SageMaker-InputLocation", input_location)]
    request = urllib.request.Request(url""",
        ["sent X-Amzn-SageMaker-InputLocation, but did not sign it"],
    ),
    "urllib sends GET": (
        6,
        'data=b"", headers=dict(headers), method="POST"',
        "headers=dict(headers)",
        ["line 1, HTTPMethod", "arrived: 'GET'", "signed:  'POST'"],
    ),
    "an error is caught": (
        6,
        """    with urllib.request.urlopen(request) as response:
        return""",
        """    request.data, request.method = None, "GET"
    from contextlib import suppress
    with suppress(OSError), urllib.request.urlopen(request) as response:
        return""",
        ["line 1, HTTPMethod", "arrived: 'GET'"],
    ),
    "the endpoint's name is missing": (
        6,
        "/endpoints/{quote(endpoint_name, safe='')}/async-invocations",
        "/endpoints/async-invocations",
        ["HTTPError", "urlopen(request)", "the answer: "],
    ),
    "a prediction is wrong": (
        7,
        '"encoded twice": 2',
        '"encoded twice": 3',
        ["encoded twice: you predicted 3, it is 2, CanonicalUri"],
    ),
    "a function has another name": (3, "canonical_uri", "uri", ["there is no canonical_uri"]),
    "a type is wrong": (2, '"".join(lines), ";"', '";"', ["not a tuple (lines, names)"]),
    "text is bytes": (
        4,
        "text).hex()",
        "text)",
        ["signature(", "expected a value of type str, got b'"],
    ),
    "the code raises": (
        2,
        "    values = {}\n",
        "    values = None\n",
        [
            "AttributeError",
            f"mysigner.py, line {line_of('values.setdefault')}: values.setdefault(",
        ],
    ),
    "a parameter is missing": (
        3,
        "canonical_uri(path, double_encode=True, normalize_path=True):",
        "canonical_uri(path, double_encode=True):\n    normalize_path = True",
        ["TypeError", f"mysigner.py, line {line_of('def canonical_uri')}, where it is defined"],
    ),
    "the file has a syntax error": (1, "import hmac", "import", ["mysigner.py, line 7:"]),
    "the file does not run": (
        1,
        "import hmac",
        "import hmacs",
        ["ModuleNotFoundError", "line 7:"],
    ),
}


@pytest.mark.parametrize(("step", "old", "new", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_mistake_is_found_in_its_step_and_named(tmp_path, step, old, new, said):
    assert REFERENCE.count(old) >= 1
    status, printed = Checkout(tmp_path, REFERENCE.replace(old, new)).check("mysigner.py")
    steps = [line[:12] for line in printed.splitlines() if line.startswith("step ")]
    right = [f"step {number}: righ" for number in range(1, step)]
    assert (status, steps) == (1, [*right, f"step {step}: wron"])
    wrong = printed[printed.index(f"step {step}: wrong") :]
    assert [text for text in said if text not in wrong] == []


def test_each_step_has_a_mistake_that_is_found():
    assert {step for step, *_ in BROKEN.values()} == set(check.STEPS)


def test_an_empty_file_is_where_the_lesson_begins(tmp_path):
    status, printed = Checkout(tmp_path, "").check("mysigner.py")
    expected = "step 1: wrong: there is no CANONICAL_REQUEST in mysigner.py yet\n"
    assert (status, printed) == (1, expected)


@pytest.mark.parametrize(
    "arguments",
    [[], ["none.py"], ["tests"], ["mysigner.py", "0"], ["mysigner.py", "8"]]
    + [["mysigner.py", "two"], ["mysigner.py", "1", "2"]],
    ids=" ".join,
)
def test_wrong_usage_is_told_apart_from_a_wrong_step(checkout, arguments):
    assert checkout.check(*arguments) == (2, "")
