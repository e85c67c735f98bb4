"""The whole job on the command line: bulk, wait, put-input, and --wait.

Each command runs as a program of its own; where hundreds are needed, one program runs main() for
all of them. The service is the emulator, in this process, and its ledger has the last word.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from emulator import Account, Emulator, Fault, Received, environment, reset_after, status, throttle
from hypothesis import given, settings
from hypothesis import strategies as st

import smasync

MODULE = Path(smasync.__file__).resolve()
KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEExample/Token+with=signs"
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://my-bucket/in.json"}
INVOKE = ("invoke-endpoint-async", "--endpoint-name", "my-endpoint")
LOCATED = (*INVOKE, "--input-location", "s3://my-bucket/in.json")
BULK = ("bulk", "manifest.jsonl", "--results", "results.jsonl")
COUNTS = ("Accepted", "Failed", "Left")
PATIENCE = 60.0  # seconds until something that ought to happen at once is given up
# Windows starts no socket without SYSTEMROOT; nothing else of this process's environment is used.
BARE = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}


class Done(NamedTuple):
    """What became of a command."""

    status: int
    out: bytes
    err: str


class Desk:
    """A folder to work in, and an environment that points to the emulator and has nothing else."""

    def __init__(self, emulator: Emulator, home: Path) -> None:
        self.emulator, self.home = emulator, home

    def environ(self, more: dict[str, str | None]) -> dict[str, str]:
        """A complete environment; a variable given as None is left out."""
        home = {"HOME": str(self.home), "USERPROFILE": str(self.home)}
        off = {"AWS_EC2_METADATA_DISABLED": "true"}
        environ: dict[str, str | None] = {
            **BARE, **environment(self.emulator), **home, **off, **more
        }  # fmt: skip
        return {name: value for name, value in environ.items() if value is not None}

    def start(self, *arguments: object, **environ: str | None) -> subprocess.Popen[bytes]:
        """`python3 smasync.py …`, which heeds SIGINT even where this process ignores it."""
        command = [sys.executable, "-W", "error", str(MODULE), *map(str, arguments)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        main_thread = threading.current_thread() is threading.main_thread()
        before = main_thread and signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(command, env=self.environ(environ), cwd=self.home, **pipes)
        finally:
            if main_thread:
                signal.signal(signal.SIGINT, before)

    def run(self, *arguments: object, **environ: str | None) -> Done:
        with self.start(*arguments, **environ) as running:
            return end_of(running)

    def write(self, manifest: bytes) -> None:
        (self.home / "manifest.jsonl").write_bytes(manifest)

    @property
    def results(self) -> list[dict[str, Any]]:
        """The entries of the results file, each of which has to be whole."""
        text = (self.home / "results.jsonl").read_bytes()
        assert text.endswith(b"\n") or not text
        return [json.loads(line) for line in text.splitlines()]

    @property
    def ids(self) -> list[str]:
        """Of all that the service accepted, in order."""
        return [inference.inference_id for inference in self.emulator.ledger]


def end_of(running: subprocess.Popen[bytes]) -> Done:
    """Waits for the end of a command; one that has none is killed."""
    try:
        out, err = running.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    complaint = err.decode().replace("\r\n", "\n")
    assert "Traceback" not in complaint and "Warning" not in complaint, complaint
    return Done(running.returncode, out, complaint)


def manifest_of(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def same_lines(count: int) -> bytes:
    """That many equal lines."""
    return manifest_of(*[CALL] * count)


def counts(accepted: int, failed: int, left: int) -> bytes:
    """What bulk prints on stdout."""
    text = json.dumps(dict(zip(COUNTS, (accepted, failed, left))), indent=4)
    return f"{text}\n".replace("\n", os.linesep).encode()


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def said(done: Done, exit_status: int, words: str) -> None:
    """Nothing on stdout, and one message on stderr with these words."""
    assert (done.status, done.out) == (exit_status, b""), done
    assert done.err.startswith("smasync: ") and done.err.count("smasync: ") == 1, done.err
    assert re.search(words, done.err), done.err


@pytest.fixture
def desk(tmp_path):
    with Emulator() as emulator:
        emulator.put("s3://my-bucket/in.json", b"[1, 2, 3]", "application/json")
        yield Desk(emulator, tmp_path)


# --- Many commands in one program

# Reads a line for each command: the files to write before it, and its arguments; answers with its
# exit status, its stdout, its stderr, and the results file.
MANY = """
import contextlib, io, json, pathlib, sys
import smasync
for line in sys.stdin:
    files, arguments = json.loads(line)
    for name, text in files.items():
        pathlib.Path(name).unlink(missing_ok=True)
        if text is not None:
            pathlib.Path(name).write_bytes(text.encode("latin-1"))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = smasync.main(arguments)
    results = pathlib.Path("results.jsonl")
    left = results.read_bytes().decode("latin-1") if results.exists() else None
    print(json.dumps([status, out.getvalue(), err.getvalue(), left]), flush=True)
"""


class Program:
    """A desk whose commands run in one process."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.emulator = desk, desk.emulator
        environ = {**desk.environ({}), "PYTHONPATH": str(MODULE.parent)}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", MANY],
            env=environ,
            cwd=desk.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, *arguments: str, **files: bytes | None) -> tuple[Done, bytes]:
        """What became of a command, and the results file after it; None removes a file."""
        named = {
            f"{name}.jsonl": None if content is None else content.decode("latin-1")
            for name, content in files.items()
        }
        watchdog = threading.Timer(PATIENCE, self.process.kill)
        watchdog.start()
        try:
            assert self.process.stdin and self.process.stdout
            self.process.stdin.write(json.dumps([named, arguments]) + "\n")
            self.process.stdin.flush()
            exit_status, out, err, left = json.loads(self.process.stdout.readline())
        finally:
            watchdog.cancel()
        return Done(exit_status, out.encode(), err), (left or "").encode("latin-1")

    def bulk(
        self, manifest: bytes, results: bytes | None = None, *flags: str
    ) -> tuple[Done, list[dict[str, Any]], bytes]:
        """What became of bulk, the entries that it added, and all of the results file."""
        done, left = self.run(*BULK, *flags, manifest=manifest, results=results)
        return done, [json.loads(line) for line in left[len(results or b"") :].splitlines()], left

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def shared_program(tmp_path_factory):
    with Emulator() as emulator:
        program = Program(Desk(emulator, tmp_path_factory.mktemp("program")))
        try:
            yield program
        finally:
            program.close()


@pytest.fixture
def program(shared_program):
    """The program, and its service as if nothing had happened."""
    forget(shared_program.emulator)
    return shared_program


def forget(emulator: Emulator) -> None:
    """Makes it as new."""
    emulator.fail_every(None)
    emulator.ledger.clear()
    emulator.requests.clear()
    emulator.objects.clear()


# --- Results

ACCEPTED = ["Line", "Hash", "InferenceId", "OutputLocation", "FailureLocation", "RequestId"]
FAILED = ["Line", "Hash", "InferenceId", "Error"]


def test_each_line_has_a_result_which_wait_takes(desk):
    bodies: list[Any] = [[1, 2], {"values": [3]}, base64.b64encode(b"4,5").decode()]
    lines = [{"EndpointName": "my-endpoint", "Body": body} for body in bodies]
    desk.write(manifest_of(*lines))
    done = desk.run(*BULK)
    assert (done.status, done.out) == (0, counts(3, 0, 0))
    inferences = {inference.inference_id: inference for inference in desk.emulator.ledger}
    assert sorted(entry["Line"] for entry in desk.results) == [1, 2, 3]
    for entry in desk.results:
        inference = inferences[entry["InferenceId"]]
        assert list(entry) == ACCEPTED
        assert entry["OutputLocation"] == inference.output_location
        assert entry["FailureLocation"] == inference.failure_location
        waited = desk.run("wait", "--cli-input-json", json.dumps(entry))
        assert waited == (0, desk.emulator.get(entry["OutputLocation"]), "")
        assert json.loads(waited.out)["count"] == [2, 1, 2][entry["Line"] - 1]


def test_a_request_id_is_the_service_s(program):
    _, (entry,), _ = program.bulk(same_lines(1))
    assert re.fullmatch("[0-9a-f-]{36}", entry["RequestId"])


BODIES: dict[str, tuple[Any, bytes]] = {
    # Body in the manifest, and what arrives
    "base64": (base64.b64encode(bytes(range(256))).decode(), bytes(range(256))),
    "an object": ({"values": [1, "é", None]}, '{"values":[1,"é",null]}'.encode()),
    "an empty object": ({}, b"{}"),
    "an array": ([1.5, {"a": True}], b'[1.5,{"a":true}]'),
}


def test_a_body_is_base64_or_json_to_be_sent(program):
    lines = [{"EndpointName": "x", "Body": body} for body, _ in BODIES.values()]
    done, entries, _ = program.bulk(manifest_of(*lines), None, "--concurrency", "1")
    assert done.status == 0 and len(entries) == len(lines)
    sent = [inference.body for inference in program.emulator.ledger]
    assert sent == [body for _, body in BODIES.values()]


BAD_LINES: dict[str, tuple[bytes, str]] = {
    # a line, and what its error says
    "not JSON": (b"{", "not JSON"),
    "two objects": (b"{} {}", "not JSON"),
    "not UTF-8": (b'{"EndpointName": "caf\xe9"}', "not JSON"),
    "too deep": (b'{"Body": ' + b"[" * 100_000, "not JSON"),
    "an array": (b"[1]", "not a JSON object"),
    "text": (b'"EndpointName"', "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "no members": (b"{}", "EndpointName: is required"),
    "a misspelt member": (b'{"Endpointname": "x"}', "did you mean EndpointName"),
    "bad base64": (b'{"EndpointName": "x", "Body": "?"}', "base64"),
    "an empty body": (b'{"EndpointName": "x", "Body": ""}', "Body: 0 bytes is under 1"),
    "a bad id": (b'{"EndpointName": "x", "Body": [], "InferenceId": ""}', "InferenceId: "),
    "a number as text": (
        b'{"EndpointName": "x", "Body": [], "RequestTTLSeconds": "60"}',
        "RequestTTLSeconds: expected int",
    ),
    "no number": (b'{"EndpointName": "x", "Body": {"a": NaN}}', "Body: cannot be sent as JSON"),
    "infinite": (b'{"EndpointName": "x", "Body": [1, -Infinity]}', "Body: cannot be sent as JSON"),
    "too long": (b'{"Body": "' + bytes(smasync.MAX_FILE_BYTES), "over 1048576 bytes"),
    "too much white space": (b" " * smasync.MAX_FILE_BYTES + b"{}", "over 1048576 bytes"),
}


def test_a_bad_line_is_a_failed_line_and_the_others_go_on(program):
    bad = [line for line, _ in BAD_LINES.values()]
    good = json.dumps(CALL).encode()
    done, entries, _ = program.bulk(
        b"\n".join(line for pair in zip(bad, [good] * 99) for line in pair)
    )
    assert (done.status, json.loads(done.out)) == (
        254, {"Accepted": len(bad), "Failed": len(bad), "Left": 0},
    )  # fmt: skip
    entries.sort(key=lambda entry: entry["Line"])
    for entry, (_, words) in zip(entries[::2], BAD_LINES.values()):
        assert list(entry) == FAILED and list(entry["Error"]) == ["Type", "Code", "Message"]
        assert (entry["Error"]["Type"], entry["Error"]["Code"]) == ("ParamValidationError", "")
        assert words in entry["Error"]["Message"]
    assert [list(entry) for entry in entries[1::2]] == [ACCEPTED] * len(bad)
    assert len(program.emulator.requests) == len(program.emulator.ledger) == len(bad)


def test_a_line_of_the_largest_size_is_sent_and_one_byte_more_is_not(program):
    line = json.dumps({**CALL, "Accept": "x"}).encode().ljust(smasync.MAX_FILE_BYTES - 1) + b"\n"
    done, entries, _ = program.bulk(line + b" " + line + line.rstrip(), None, "--concurrency", "1")
    assert json.loads(done.out) == {"Accepted": 2, "Failed": 1, "Left": 0}
    assert [entry["Line"] for entry in entries if "Error" in entry] == [2]


def test_a_line_without_an_end_is_not_held_in_memory(tmp_path):
    with open(tmp_path / "manifest", "wb") as file:
        file.truncate(1 << 26)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + json.dumps(CALL).encode())
    tracemalloc.start()
    try:
        (_, start, _), last = smasync.manifest_lines(str(tmp_path / "manifest"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(start) == smasync.MAX_FILE_BYTES + 1 and last[:2] == (2, json.dumps(CALL).encode())
    assert peak < 1 << 24


REFUSALS: dict[str, tuple[Fault, tuple[str, str, str]]] = {
    # what the service does, and Type, Code and a part of Message
    "400": (
        status(400, "ValidationError", "no such endpoint"),
        ("ValidationError", "ValidationError", "no such endpoint"),
    ),
    "403": (
        status(403, "AccessDeniedException", "not you"),
        ("ClientError", "AccessDeniedException", "not you"),
    ),
    "500": (status(500, "InternalFailure", "oops"), ("InternalFailure", "InternalFailure", "oops")),
    "no answer": (reset_after(), ("TransportError", "", "no answer|closed|reset")),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_in_the_results_with_its_code_and_words(program, case):
    fault, (kind, code, words) = REFUSALS[case]

    def refuse_second(received: Received | None) -> Fault | None:
        assert received
        return fault if received.header("x-amzn-sagemaker-inference-id") == "second" else None

    program.emulator.fail_every(refuse_second)
    lines = [{**CALL, "InferenceId": name} for name in ("first", "second", "third")]
    done, entries, _ = program.bulk(manifest_of(*lines))
    assert (done.status, json.loads(done.out)["Failed"]) == (254, 1)
    (entry,) = [entry for entry in entries if "Error" in entry]
    assert (entry["Line"], entry["InferenceId"]) == (2, "second")
    assert (entry["Error"]["Type"], entry["Error"]["Code"]) == (kind, code)
    assert re.search(words, entry["Error"]["Message"])


def test_throttled_lines_are_accepted_in_the_end(program):
    times: collections.Counter[str] = collections.Counter()

    def throttle_once(received: Received | None) -> Fault | None:
        assert received
        name = received.header("x-amzn-sagemaker-inference-id") or ""
        times[name] += 1
        return throttle() if times[name] == 1 else None

    program.emulator.fail_every(throttle_once)
    done, entries, _ = program.bulk(same_lines(4))
    assert (done.status, len(entries), set(times.values())) == (0, 4, {2})


BLANK = st.sampled_from([b"", b" ", b"\t", b"\x0c"])
LETTERS = st.characters(min_codepoint=33, exclude_categories=["Cs", "Cc"])
GOOD = st.builds(
    lambda key, ascii_only: json.dumps(
        {**CALL, "InputLocation": f"s3://b/{key}"}, ensure_ascii=ascii_only
    ).encode(),
    st.text(LETTERS, min_size=1, max_size=5),
    st.booleans(),
)
BAD = st.sampled_from([b"{", b"[]", b"x"])
MANIFESTS = st.lists(st.tuples(BLANK | GOOD | BAD, st.sampled_from([b"\n", b"\r\n"])), max_size=8)


@settings(max_examples=60)
@given(MANIFESTS, st.booleans(), st.booleans())
def test_line_numbers_are_those_of_the_file_however_it_is_written(
    shared_program, lines, mark, ended
):
    forget(shared_program.emulator)
    if mark and lines:  # a byte order mark belongs to the first line
        lines = [(json.dumps(CALL).encode(), lines[0][1]), *lines[1:]]
    manifest = (b"\xef\xbb\xbf" if mark and lines else b"") + b"".join(map(b"".join, lines))
    manifest = manifest if ended else manifest.rstrip(b"\r\n")
    good = {n for n, (line, _) in enumerate(lines, 1) if line.startswith(b'{"')}
    bad = {n for n, (line, _) in enumerate(lines, 1) if line.strip()} - good
    done, entries, results = shared_program.bulk(manifest)
    expected = {"Accepted": len(good), "Failed": len(bad), "Left": 0}
    assert (done.status, json.loads(done.out)) == (254 if bad else 0, expected)
    assert sorted(entry["Line"] for entry in entries) == sorted(good | bad)
    assert {entry["Line"] for entry in entries if "Error" in entry} == bad
    sent = {inference.members["InputLocation"] for inference in shared_program.emulator.ledger}
    assert sent == {json.loads(line)["InputLocation"] for line, _ in lines if line[:2] == b'{"'}
    assert shared_program.bulk(manifest, results)[1] == [], "nothing is left to be tried"


# --- Inference ids


def test_ids_are_the_same_each_time_and_differ_even_for_equal_lines(program):
    runs = []
    for _ in range(2):
        _, entries, _ = program.bulk(same_lines(20))
        runs.append({entry["Line"]: entry["InferenceId"] for entry in entries})
    assert runs[0] == runs[1] and len(set(runs[0].values())) == 20
    ids = [inference.inference_id for inference in program.emulator.ledger]
    assert sorted(ids) == sorted([*runs[0].values(), *runs[1].values()])
    assert all(re.fullmatch("[!-~]{1,64}", name) for name in ids)


def test_ids_are_the_same_after_a_failure_and_whatever_the_other_lines_are(program):
    program.emulator.fail_every(lambda received: status(400, "ValidationError", "words"))
    _, failed, results = program.bulk(same_lines(2))
    program.emulator.fail_every(None)
    _, accepted, _ = program.bulk(same_lines(3), results, "--retry-failed")
    ids = {entry["Line"]: entry["InferenceId"] for entry in accepted}
    assert {entry["Line"]: entry["InferenceId"] for entry in failed}.items() <= ids.items()
    _, others, _ = program.bulk(manifest_of({**CALL, "Accept": "x"}, CALL))
    assert {entry["Line"]: entry["InferenceId"] for entry in others}[2] == ids[2] != ids[1]


def test_an_id_of_ones_own_is_kept(program):
    done, entries, _ = program.bulk(manifest_of({**CALL, "InferenceId": "job 42"}, CALL))
    assert done.status == 0
    names = {entry["Line"]: entry["InferenceId"] for entry in entries}
    assert names[1] == "job 42" != names[2]
    assert sorted(names.values()) == sorted(i.inference_id for i in program.emulator.ledger)


def test_an_id_that_is_null_is_none(program):
    line = manifest_of({**CALL, "InferenceId": None})
    ids = [program.bulk(line)[1][0]["InferenceId"] for _ in range(2)]
    assert ids[0] == ids[1], "known again, as of any line without an id"


# --- The summary and progress

PROGRESS = r"[0-9]+ of [0-9]+, [0-9]+/s, [0-9]+ failed(, [0-9]+:[0-9]{2} to go)?"


def test_the_summary_is_on_stdout_and_progress_on_stderr(desk):
    desk.write(same_lines(3) + b"{\n")
    done = desk.run(*BULK)
    assert (done.status, done.out) == (254, counts(3, 1, 0))
    assert re.fullmatch(f"({PROGRESS}\n)+", done.err), done.err
    assert re.search(r"(?m)^4 of 4, [0-9]+/s, 1 failed\n\Z", done.err)


def test_quiet_says_nothing_but_the_summary(desk):
    desk.write(same_lines(3))
    assert desk.run(*BULK, "--quiet") == (0, counts(3, 0, 0), "")


def test_an_empty_manifest_is_done(program):
    for manifest in (b"", b"\n\n"):
        done, entries, _ = program.bulk(manifest)
        assert (done.status, entries) == (0, [])
        assert json.loads(done.out) == {"Accepted": 0, "Failed": 0, "Left": 0}


def test_the_summary_as_text_is_the_values_in_key_order(program):
    done, _, _ = program.bulk(same_lines(2) + b"{\n", None, "--output", "text")
    assert done.out == b"2\t1\t0\n"


def test_a_long_run_says_every_few_seconds_how_far_it_is(desk):
    """Lines come so slowly that two pauses of the progress fit in."""
    desk.emulator.fail_every(lambda received: time.sleep(0.8))
    desk.write(same_lines(8))
    done = desk.run(*BULK, "--concurrency", "1")
    *before, last = done.err.splitlines()
    assert all(re.fullmatch(PROGRESS, line) for line in [*before, last]), done.err
    numbers = [int(line.split(" ")[0]) for line in before]
    assert 1 <= len(before) <= 3 and numbers == sorted(set(numbers)) and 0 < numbers[0] < 8
    assert all("to go" in line for line in before) and last.startswith("8 of 8, ")


if os.name == "posix":
    import pty

    def on_terminal(desk: Desk, *arguments: str) -> tuple[int, bytes, str]:
        """Exit status, stdout, and what a terminal got as stderr."""
        terminal, theirs = pty.openpty()
        command = [sys.executable, "-W", "error", str(MODULE), *arguments]
        with subprocess.Popen(
            command, env=desk.environ({}), cwd=desk.home, stdout=subprocess.PIPE, stderr=theirs
        ) as running:
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):  # which is how a terminal ends on Linux
                while piece := os.read(terminal, 65_536):
                    shown += piece
            os.close(terminal)
            out, _ = running.communicate(timeout=PATIENCE)
        return running.returncode, out, shown.decode()

    def test_on_a_terminal_there_is_a_bar(desk):
        desk.emulator.fail_every(lambda received: time.sleep(0.3))
        desk.write(same_lines(4))
        exit_status, out, shown = on_terminal(desk, *BULK, "--concurrency", "1")
        assert (exit_status, out) == (0, counts(4, 0, 0))
        nothing, *bars = shown.rstrip("\r\n").split("\r")
        assert nothing == "" and len(bars) >= 2
        for bar in bars:
            assert re.fullmatch(rf"\[(#*) *\] {PROGRESS} *", bar), bar
            assert len(bar) < 100 and bar.index("]") == 31
        lengths = [bar.count("#") for bar in bars]
        assert lengths == sorted(lengths) and lengths[-1] == 30
        assert shown.endswith("\n") and shown.count("\n") == 1

    def test_on_a_terminal_quiet_is_quiet_too(desk):
        desk.write(same_lines(2))
        assert on_terminal(desk, *BULK, "--quiet") == (0, counts(2, 0, 0), "")


# --- Started again


def test_started_again_it_sends_nothing_that_has_a_result(desk):
    desk.write(same_lines(5) + b"{\n")
    first = desk.run(*BULK)
    results = (desk.home / "results.jsonl").read_bytes()
    for _ in range(2):
        again = desk.run(*BULK)
        assert (again.status, again.out) == (first.status, first.out) == (254, counts(5, 1, 0))
    assert len(desk.emulator.requests) == 5
    assert (desk.home / "results.jsonl").read_bytes() == results


def test_failed_lines_are_sent_again_only_when_asked(program):
    manifest = same_lines(6)
    bad = {"n": 0}

    def every_second(received: Received | None) -> Fault | None:
        bad["n"] += 1
        return status(400, "ValidationError", "words") if bad["n"] % 2 else None

    program.emulator.fail_every(every_second)
    _, first, results = program.bulk(manifest, None, "--concurrency", "1")
    program.emulator.fail_every(None)
    done, entries, _ = program.bulk(manifest, results)
    assert (done.status, entries) == (254, [])
    assert json.loads(done.out) == {"Accepted": 3, "Failed": 3, "Left": 0}
    done, entries, results = program.bulk(manifest, results, "--retry-failed")
    assert (done.status, json.loads(done.out)) == (0, {"Accepted": 6, "Failed": 0, "Left": 0})
    failed = sorted(entry["Line"] for entry in first if "Error" in entry)
    assert sorted(entry["Line"] for entry in entries) == failed == [1, 3, 5]
    done, entries, _ = program.bulk(manifest, results)
    assert (done.status, entries) == (0, []), "of two results the later one counts"
    assert json.loads(done.out)["Accepted"] == 6
    done, entries, _ = program.bulk(manifest, results, "--retry-failed")
    assert (done.status, entries) == (0, [])


def test_a_failed_line_may_be_corrected_and_tried_again(program):
    _, _, results = program.bulk(same_lines(2) + b"{\n")
    done, entries, _ = program.bulk(same_lines(3), results, "--retry-failed")
    assert (done.status, [entry["Line"] for entry in entries]) == (0, [3])


def test_lines_that_were_added_are_sent(program):
    _, _, results = program.bulk(same_lines(3).rstrip(b"\n"))
    done, entries, _ = program.bulk(same_lines(5), results)
    assert (done.status, sorted(entry["Line"] for entry in entries)) == (0, [4, 5])


CHANGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    # what became of a manifest of four lines of which all, but for the last, have a result
    "edited": lambda lines: [lines[0], lines[1].replace(b"two", b"2"), *lines[2:]],
    "deleted": lambda lines: [lines[0], *lines[2:]],
    "inserted above": lambda lines: [lines[3], *lines],
    "a blank line inserted": lambda lines: [b"", *lines],
    "swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "shortened": lambda lines: lines[:2],
    "blanked": lambda lines: [lines[0], b"", *lines[2:]],
    "emptied": lambda lines: [],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_changed_under_its_results_is_refused(program, change):
    lines = [
        json.dumps({**CALL, "Accept": word}).encode() for word in "one two three four".split()
    ]
    _, _, results = program.bulk(b"\n".join(lines[:3]))
    program.emulator.requests.clear()
    changed = b"".join(line + b"\n" for line in CHANGES[change](lines))
    done, entries, left = program.bulk(changed, results)
    said(done, 252, r"manifest\.jsonl.*: (is not the line|has lost lines) .*new results file")
    assert (entries, left, program.emulator.requests) == ([], results, [])


@pytest.mark.parametrize("ends", [(b"\n", b"\r\n"), (b"\r\n", b"\n"), (b"\n", b"  \n")])
def test_white_space_at_the_end_of_a_line_is_no_change(program, ends):
    line = json.dumps(CALL).encode()
    _, _, results = program.bulk((line + ends[0]) * 2)
    done, entries, _ = program.bulk((line + ends[1]) * 2, results)
    assert (done.status, entries) == (0, [])


def test_a_result_that_was_cut_anywhere_is_cut_off_and_its_line_sent_again(program):
    """At each byte of the last one: what a crash, or a full disk, leaves behind."""
    manifest = same_lines(3)
    _, _, results = program.bulk(manifest, None, "--concurrency", "1")
    start = results[:-1].rindex(b"\n") + 1
    for cut in range(start, len(results) + 1):
        forget(program.emulator)
        done, left = program.run(*BULK, manifest=manifest, results=results[:cut])
        assert (done.status, json.loads(done.out)["Accepted"]) == (0, 3), cut
        sent = [inference.inference_id for inference in program.emulator.ledger]
        whole = cut >= len(results) - 1  # but for the line break, perhaps
        again = json.loads(results[start:])["InferenceId"]
        assert sent == ([] if whole else [again]), cut
        assert left.startswith(results[:start]) and left.endswith(b"\n")
        entries = [json.loads(line) for line in left.splitlines()]
        assert [entry["Line"] for entry in entries] == [1, 2, 3]


NOT_RESULTS: dict[str, bytes] = {
    "words": b"garbage\n",
    "an object": b"{}\n",
    "an array": b"[1]\n",
    "a number": b"5\n",
    "a line that is none": b'{"Line": "x", "Hash": "y"}\n',
    "no hash": b'{"Line": 1}\n',
    "blank": b"\n",
    "bytes": b"\x00\xff\n",
    "too deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("case", NOT_RESULTS)
def test_results_that_bulk_did_not_write_are_refused_and_left_alone(program, case, place):
    manifest = same_lines(3)
    _, _, results = program.bulk(manifest.splitlines(keepends=True)[0] * 2)
    program.emulator.requests.clear()
    lines = results.splitlines(keepends=True)
    spoilt = b"".join([*lines[:place], NOT_RESULTS[case], *lines[place:]])
    done, left = program.run(*BULK, manifest=manifest, results=spoilt)
    said(done, 252, rf"results\.jsonl, line {place + 1}: is nothing that bulk wrote")
    assert (left, program.emulator.requests) == (spoilt, [])


OTHER_FILES = {
    "words": b"no line break at the end of this",
    "JSON": b'{"EndpointName": "x", "InputLocation": "s3://b/k"}',
    "bytes": bytes(range(11, 256)),
}


@pytest.mark.parametrize("case", OTHER_FILES)
def test_another_file_of_one_line_is_no_torn_result(program, case):
    """Nobody wants to lose a file because its name was given by mistake."""
    done, left = program.run(*BULK, manifest=same_lines(1), results=OTHER_FILES[case])
    assert (done.status, left) == (252, OTHER_FILES[case])
    assert program.emulator.requests == []


@pytest.mark.parametrize("manifest", [same_lines(2), same_lines(1)[:-1]], ids=["two", "one"])
def test_a_manifest_is_not_its_own_results(desk, manifest):
    desk.write(manifest)
    said(desk.run("bulk", "manifest.jsonl", "--results", "manifest.jsonl"), 252, "manifest")
    assert (desk.home / "manifest.jsonl").read_bytes() == manifest
    assert desk.emulator.requests == []


# --- What cannot be read or written


def folder(path: Path) -> None:
    path.mkdir()


MANIFEST_PROBLEMS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": folder,
}
RESULT_PROBLEMS: dict[str, Callable[[Path], object]] = {"a folder": folder}
if os.name == "posix":
    MANIFEST_PROBLEMS["a pipe"] = RESULT_PROBLEMS["a pipe"] = os.mkfifo


@pytest.mark.parametrize("case", MANIFEST_PROBLEMS)
def test_a_manifest_that_is_no_file_is_refused(desk, case):
    MANIFEST_PROBLEMS[case](desk.home / "manifest.jsonl")
    said(desk.run(*BULK), 252, r"manifest\.jsonl: is not a file")
    assert desk.emulator.requests == [] and not (desk.home / "results.jsonl").exists()


@pytest.mark.parametrize("case", RESULT_PROBLEMS)
def test_results_that_are_no_file_are_refused_and_nothing_is_sent(desk, case):
    RESULT_PROBLEMS[case](desk.home / "results.jsonl")
    desk.write(same_lines(2))
    done = desk.run(*BULK)
    said(done, done.status, ".")
    assert done.status in (252, 255) and desk.emulator.requests == []


def test_results_in_a_folder_that_is_missing_are_refused_and_nothing_is_sent(desk):
    desk.write(same_lines(2))
    done = desk.run("bulk", "manifest.jsonl", "--results", "missing/results.jsonl")
    said(done, done.status, "missing")
    assert done.status in (252, 255) and desk.emulator.requests == []


@pytest.mark.parametrize(
    "flags",
    [
        ("--concurrency", "0"),
        ("--concurrency", "1001"),
        ("--concurrency", "-1"),
        ("--concurrency", "many"),
        ("--bogus",),
        ("--endpoint-name", "x"),
    ],
    ids=" ".join,
)
def test_wrong_flags_are_refused_and_nothing_is_sent(program, flags):
    done, entries, _ = program.bulk(same_lines(2), None, *flags)
    assert (done.status, done.out, entries) == (252, b"", []) and done.err
    assert program.emulator.requests == []


def test_results_have_to_be_named(desk):
    desk.write(same_lines(1))
    done = desk.run("bulk", "manifest.jsonl")
    assert (done.status, done.out) == (252, b"") and "--results" in done.err
    assert desk.emulator.requests == []


# --- Credentials

NO_KEYS: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


def test_without_credentials_no_line_is_to_blame(desk):
    desk.write(same_lines(3) + b"{\n")
    said(desk.run(*BULK, **NO_KEYS), 253, "no credentials")
    assert desk.results == [] and desk.emulator.requests == []
    assert desk.run(*BULK).out == counts(3, 1, 0)


def test_without_a_region_no_line_is_to_blame(desk):
    desk.write(same_lines(3))
    said(desk.run(*BULK, AWS_REGION=None, AWS_DEFAULT_REGION=None), 253, "no region")
    assert not (desk.home / "results.jsonl").exists() or desk.results == []


PROCESS = """
import json, sys, time
path = sys.argv[1]
with open(path, "a") as file:
    file.write("x")
if len(open(path).read()) > 4:
    sys.exit("the ticket is over")
end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))
print(json.dumps({"Version": 1, "AccessKeyId": sys.argv[2], "SecretAccessKey": sys.argv[3],
                  "Expiration": end}))
"""


def test_credentials_that_vanish_stop_it_and_no_line_is_to_blame(desk):
    """They are good for two minutes, so they are renewed before each request, a few times."""
    (desk.home / "process.py").write_text(PROCESS)
    words = [sys.executable, desk.home / "process.py", desk.home / "count", KEY_ID, SECRET]
    process = " ".join(f'"{Path(word).as_posix()}"' for word in words[:3])
    (desk.home / "config").write_text(
        f"[default]\ncredential_process = {process} {KEY_ID} {SECRET}\n"
    )
    own: dict[str, str | None] = {**NO_KEYS, "AWS_CONFIG_FILE": str(desk.home / "config")}
    desk.write(same_lines(10))
    done = desk.run(*BULK, "--concurrency", "1", "--quiet", **own)
    said(done, 253, "the ticket is over")
    assert 0 < len(desk.results) < 10 and all("Error" not in entry for entry in desk.results)
    assert sorted(entry["InferenceId"] for entry in desk.results) == sorted(desk.ids)
    done = desk.run(*BULK)
    assert (done.status, done.out) == (0, counts(10, 0, 0))
    assert len(desk.ids) == len(set(desk.ids)) == 10


def test_credentials_that_the_service_calls_expired_stop_it_and_no_line_is_to_blame(desk):
    desk.emulator.accounts = {KEY_ID: Account(SECRET, TOKEN)}
    expired = status(403, "ExpiredTokenException", "the security token is expired")
    desk.emulator.fail_every(lambda received: expired if len(desk.ids) >= 3 else None)
    desk.write(same_lines(50))
    done = desk.run(*BULK, "--concurrency", "1", "--quiet", AWS_SESSION_TOKEN=TOKEN)
    assert done.status in (253, 254) and "expired" in done.err
    assert len(desk.results) == 3 and all("Error" not in entry for entry in desk.results)
    assert len(desk.emulator.requests) < 20
    desk.emulator.fail_every(None)
    assert desk.run(*BULK, AWS_SESSION_TOKEN=TOKEN).out == counts(50, 0, 0)
    assert len(desk.ids) == len(set(desk.ids)) == 50


# --- Failures without an end

DENIED = status(403, "AccessDeniedException", "not you")
ENDLESS: dict[str, tuple[Fault, int, str]] = {
    # what becomes of each request, the exit status, and what is said
    "refused": (DENIED, 254, "AccessDeniedException.*not you"),
    "broken": (reset_after(), 255, "no answer|closed|reset"),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_one_failure_without_an_end_stops_it_and_retry_failed_goes_on(desk, case):
    fault, exit_status, words = ENDLESS[case]
    desk.emulator.fail_every(lambda received: fault if len(desk.ids) >= 3 else None)
    desk.write(same_lines(3) + b"{\n" + same_lines(200))
    flags = ("--concurrency", "1", "--quiet")
    done = desk.run(*BULK, *flags, AWS_MAX_ATTEMPTS="1")
    assert (done.status, done.out) == (exit_status, b"")
    assert re.search(words, done.err) and "--retry-failed" in done.err
    assert (case == "refused") == ("allow sagemaker:InvokeEndpointAsync" in done.err)
    failed = sum("Error" in entry for entry in desk.results)
    assert smasync.SAME_FAILURES < failed <= smasync.SAME_FAILURES + 1 + 2
    desk.emulator.fail_every(None)
    assert desk.run(*BULK, *flags) == (254, counts(204 - failed, failed, 0), "")
    assert desk.run(*BULK, *flags, "--retry-failed") == (254, counts(203, 1, 0), "")


def test_one_failure_until_the_end_is_no_reason_to_stop(program):
    program.emulator.fail_every(lambda received: DENIED)
    manifest = same_lines(smasync.SAME_FAILURES)
    done, entries, _ = program.bulk(manifest, None, "--concurrency", "1", "--quiet")
    assert (done.status, done.err) == (254, "")
    assert json.loads(done.out) == {"Accepted": 0, "Failed": len(entries), "Left": 0}


def test_an_outage_stops_it(desk):
    desk.write(same_lines(200))
    nowhere = ("--endpoint-url", "http://127.0.0.1:9")
    done = desk.run(*BULK, *nowhere, "--quiet", AWS_MAX_ATTEMPTS="1")
    assert done.status == 255 and "cannot connect" in done.err and "--retry-failed" in done.err
    assert len(desk.results) < 200
    assert desk.run(*BULK, "--retry-failed").out == counts(200, 0, 0)


def test_failures_that_differ_pass_or_are_a_line_s_own_do_not_stop_it(desk):
    """One success in fifty, two codes in turn, lines that cannot be sent: all go to the end."""
    number = iter(range(10**6))

    def every_fiftieth(received: Received | None) -> Fault | None:
        return DENIED if next(number) % 50 else None

    def in_turn(received: Received | None) -> Fault | None:
        return DENIED if next(number) % 2 else status(400, "ValidationError", "words")

    for fault, line in ((every_fiftieth, CALL), (in_turn, CALL), (None, {"EndpointName": "x"})):
        desk.emulator.fail_every(fault)
        desk.write(manifest_of(*[line] * 250))
        (desk.home / "results.jsonl").unlink(missing_ok=True)
        done = desk.run(*BULK, "--quiet", "--concurrency", "1")
        assert done.status == 254 and json.loads(done.out)["Left"] == 0


# --- Interrupted


class Gate:
    """Holds each request until somebody opens it for one, or for all."""

    def __init__(self) -> None:
        self.permits, self.free, self.held = threading.Semaphore(0), threading.Event(), 0
        self.lock = threading.Lock()

    def __call__(self, received: Received | None) -> None:
        with self.lock:
            self.held += 1
        while not self.free.is_set() and not self.permits.acquire(timeout=0.05):
            pass
        with self.lock:
            self.held -= 1


@contextlib.contextmanager
def held(desk: Desk, count: int, *flags: str) -> Iterator[tuple[Gate, subprocess.Popen[bytes]]]:
    """A bulk of which so many requests are under way and have no answer."""
    gate = Gate()
    desk.emulator.fail_every(gate)  # type: ignore[arg-type]
    with desk.start(*BULK, "--concurrency", str(count), *flags) as running:
        try:
            wait_until(lambda: gate.held == count)
            yield gate, running
        finally:
            gate.free.set()
            running.kill()


if os.name == "posix":

    def test_a_second_bulk_on_the_same_results_is_refused(desk):
        desk.write(same_lines(6))
        with held(desk, 2) as (gate, running):
            said(desk.run(*BULK), 252, r"results\.jsonl: another bulk is writing to it")
            gate.free.set()
            assert end_of(running)[:2] == (0, counts(6, 0, 0))
        assert len(desk.emulator.requests) == 6
        assert desk.run(*BULK)[:2] == (0, counts(6, 0, 0))

    def test_ctrl_c_ends_it_when_what_is_under_way_is_written_down(desk):
        desk.write(same_lines(60))
        with held(desk, 4) as (gate, running):
            running.send_signal(signal.SIGINT)
            while running.poll() is None:  # the answers come one by one
                gate.permits.release()
                time.sleep(0.05)
            done = end_of(running)
        recorded = desk.results
        assert (done.status, done.out) == (130, counts(len(recorded), 0, 60 - len(recorded)))
        assert 4 <= len(recorded) < 30
        assert sorted(entry["InferenceId"] for entry in recorded) == sorted(desk.ids)
        desk.emulator.fail_every(None)
        assert desk.run(*BULK)[:2] == (0, counts(60, 0, 0))
        assert len(desk.ids) == len(set(desk.ids)) == 60

    def test_a_second_ctrl_c_ends_it_at_once(desk):
        desk.write(same_lines(60))
        with held(desk, 4, "--quiet") as (gate, running):
            running.send_signal(signal.SIGINT)
            gate.permits.release()
            wait_until(lambda: desk.results)  # it has heard the first one, and goes on
            running.send_signal(signal.SIGINT)
            running.wait(15)  # the requests under way would be waited for a minute
            assert running.returncode in (130, -signal.SIGINT)
            assert b"Traceback" not in running.stderr.read()
        assert len(desk.results) == 1
        desk.emulator.fail_every(None)
        assert desk.run(*BULK)[:2] == (0, counts(60, 0, 0))
        assert len(set(desk.ids)) == 60


# --- Killed


class Kills(NamedTuple):
    """What kills in the middle led to."""

    duplicates: int
    most_in_one: int
    torn: int


def kill_again_and_again(desk: Desk, lines: int, marks: list[int], concurrency: int) -> Kills:
    """Bulk, killed when so many lines were accepted, and started again, until all is done.

    Asserts that each line has one result, and that what is in the ledger twice was accepted by a
    run that was killed, and had no result yet.
    """
    desk.emulator.fail_every(lambda received: time.sleep(0.003))  # type: ignore[arg-type]
    desk.write(same_lines(lines))
    flags, results = ("--concurrency", str(concurrency)), desk.home / "results.jsonl"
    limbo: list[list[str]] = []
    torn = 0
    for mark in marks:
        begun = len(desk.emulator.ledger)
        with desk.start(*BULK, *flags) as running:
            wait_until(lambda mark=mark: len(desk.emulator.ledger) >= mark)
            running.kill()
            running.communicate()
        wait_until(lambda: not desk.emulator.open_connections)
        whole, _, rest = (results.read_bytes() if results.exists() else b"").rpartition(b"\n")
        recorded = {json.loads(line)["InferenceId"] for line in whole.splitlines()}
        limbo.append([name for name in desk.ids[begun:] if name not in recorded])
        torn += bool(rest)
    done = desk.run(*BULK, *flags)
    assert (done.status, done.out) == (0, counts(lines, 0, 0))
    assert sorted(entry["Line"] for entry in desk.results) == list(range(1, lines + 1))
    names = {entry["InferenceId"]: 1 for entry in desk.results}
    assert len(names) == lines
    again = collections.Counter(name for names in limbo for name in names)
    assert collections.Counter(desk.ids) == collections.Counter(names) + again
    assert all(len(names) <= 2 * concurrency for names in limbo)
    return Kills(sum(again.values()), max(map(len, limbo)), torn)


def test_killed_and_started_again_it_answers_each_line_once(desk):
    kill_again_and_again(desk, 150, [1, 40, 100], 8)


@pytest.mark.slow
def test_of_5000_lines_and_ten_kills_no_line_is_lost(desk):
    seed = random.randrange(10**6)
    marks = sorted(random.Random(seed).sample(range(1, 4900), 10))
    print(f"seed {seed}, killed at {marks}")
    started = time.monotonic()
    kills = kill_again_and_again(desk, 5000, marks, 16)
    print(
        f"5,000 lines, 10 kills, 16 at once: {kills.duplicates} accepted twice, at most "
        f"{kills.most_in_one} in one kill; {kills.torn} torn results; "
        f"{time.monotonic() - started:.0f} s"
    )


# --- wait

EVERY_BYTE = bytes(range(256)) + b"\r\n\n\x1a\x00"


def accepted(desk: Desk, **members: Any) -> dict[str, str]:
    """What the service answered, from the ledger of its last inference."""
    inference = desk.emulator.ledger[-1]
    return {
        "OutputLocation": inference.output_location,
        "FailureLocation": inference.failure_location,
        "InferenceId": inference.inference_id,
    }


def fail_model(body: bytes, content_type: str) -> bytes:
    raise ValueError("the input holds a dragon")


def test_a_result_is_on_stdout_byte_for_byte(desk):
    desk.emulator.put("s3://async-output/x.out", EVERY_BYTE)
    assert desk.run("wait", "--output-location", "s3://async-output/x.out") == (0, EVERY_BYTE, "")


@pytest.mark.parametrize("before", [None, b"old" * 1000], ids=["new", "replaced"])
def test_a_result_goes_to_a_file_byte_for_byte(desk, before):
    desk.emulator.put("s3://async-output/x.out", EVERY_BYTE * 5000)
    if before:
        (desk.home / "out.bin").write_bytes(before)
    where = ("--output-location", "s3://async-output/x.out", "--output-file", "out.bin")
    assert desk.run("wait", *where) == (0, b"", "")
    assert (desk.home / "out.bin").read_bytes() == EVERY_BYTE * 5000
    assert sorted(path.name for path in desk.home.iterdir()) == ["out.bin"]


def test_wait_takes_what_invoke_endpoint_async_printed(desk):
    printed = desk.run(*LOCATED)
    (desk.home / "job.json").write_bytes(printed.out)
    result = desk.emulator.get(json.loads(printed.out)["OutputLocation"])
    for job in ("file://job.json", printed.out.decode()):
        assert desk.run("wait", "--cli-input-json", job) == (0, result, "")


def test_flags_of_wait_beat_its_json(desk):
    desk.emulator.put("s3://async-output/good", b"good")
    flags = ("--output-location", "s3://async-output/good")
    job = json.dumps({"OutputLocation": "s3://async-output/other", "RequestId": 5})
    assert desk.run("wait", "--cli-input-json", job, *flags).out == b"good"


def test_a_result_is_waited_for(desk):
    desk.emulator.latency = 1.0
    printed = desk.run(*LOCATED)
    assert desk.emulator.objects.keys() == {"s3://my-bucket/in.json"}
    done = desk.run("wait", "--cli-input-json", printed.out.decode())
    assert (done.status, json.loads(done.out)["count"], done.err) == (0, 3, "")


def test_3_for_a_failed_inference(desk):
    desk.emulator.model = fail_model
    printed = desk.run(*LOCATED)
    file = ("--output-file", "out.bin")
    done = desk.run("wait", "--cli-input-json", printed.out.decode(), *file)
    said(done, 3, "the inference failed: the input holds a dragon")
    assert not list(desk.home.glob("out.bin*"))


def test_4_for_an_inference_that_is_still_running(desk):
    where = ("--output-location", "s3://async-output/none", "--output-file", "out.bin")
    started = time.monotonic()
    said(desk.run("wait", *where, "--timeout", "0.5"), 4, "nothing at s3://async-output/none")
    assert 0.4 < time.monotonic() - started < 30
    assert not list(desk.home.glob("out.bin*"))


def test_254_with_a_hint_for_those_who_may_not_list(desk):
    desk.emulator.may_list = False
    where = ("--output-location", "s3://async-output/none")
    done = desk.run("wait", *where, "--timeout", "0.3")
    assert (done.status, done.out) == (254, b"")
    assert "AccessDenied" in done.err and "s3:ListBucket" in done.err


BAD_WAITS: dict[str, tuple[tuple[str, ...], str]] = {
    # flags, and what the message says; 252 for each, and nothing is sent
    "nothing": ((), "no OutputLocation"),
    "an array": (("--cli-input-json", "[]"), "not a JSON object"),
    "not JSON": (("--cli-input-json", "{"), "not JSON"),
    "a missing file": (("--cli-input-json", "file://missing"), "missing"),
    "a failed line": (("--cli-input-json", '{"Error": {"Code": "x"}}'), "there is no"),
    "0 seconds": (("--output-location", "s3://bucket/k", "--timeout", "0"), "timeout: 0"),
    "negative": (("--output-location", "s3://bucket/k", "--timeout", "-1"), "timeout: -1"),
    "not a number": (("--output-location", "s3://bucket/k", "--timeout", "nan"), "timeout: nan"),
    "words": (("--output-location", "s3://bucket/k", "--timeout", "soon"), "invalid float"),
    "a folder": (("--output-location", "s3://bucket/k", "--output-file", "."), "not a file"),
    "no folder": (("--output-location", "s3://bucket/k", "--output-file", "no/x"), "folder"),
}


@pytest.mark.parametrize("case", BAD_WAITS)
def test_252_for_a_wait_that_cannot_be(program, case):
    flags, words = BAD_WAITS[case]
    done, _ = program.run("wait", *flags)
    assert (done.status, done.out) == (252, b"") and words in done.err
    assert program.emulator.requests == []


HOSTILE: dict[str, Any] = {
    "http": "http://async-output.s3.amazonaws.com/x",
    "another host": "https://evil.example/bucket/key",
    "a host that looks right": "https://bucket.s3.us-east-1.amazonaws.com.evil.example/key",
    "a user": "https://s3.amazonaws.com@evil.example/bucket/key",
    "no bucket": "s3:///key",
    "no key": "s3://bucket",
    "an empty key": "s3://bucket/",
    "a bucket with a port": "s3://bucket:99/key",
    "a bucket with a user": "s3://me@bucket/key",
    "a file": "file:///etc/passwd",
    "a path": "/etc/passwd",
    "a line break": "s3://bucket/key\r\nX-Injected: 1",
    "a query": "https://bucket.s3.us-east-1.amazonaws.com/key?acl",
    "upper case": "s3://Bucket/key",
    "a number": 5,
    "an array": ["s3://bucket/key"],
    "an object": {"s3": "bucket"},
}


@pytest.mark.parametrize("member", ["OutputLocation", "FailureLocation"])
@pytest.mark.parametrize("case", HOSTILE)
def test_252_for_a_hostile_location_and_nothing_is_asked(program, case, member):
    job = {"OutputLocation": "s3://bucket/key", member: HOSTILE[case]}
    done, _ = program.run("wait", "--cli-input-json", json.dumps(job), "--timeout", "1")
    said(done, 252, "location .* is not s3://bucket/key")
    assert program.emulator.requests == [] and "\r" not in done.err


# --- invoke-endpoint-async --wait


def test_with_wait_the_result_is_on_stdout_and_the_answer_on_stderr(desk):
    desk.emulator.model = lambda body, kind: EVERY_BYTE
    desk.emulator.latency = 0.2
    done = desk.run(*LOCATED, "--wait", "60")
    assert (done.status, done.out) == (0, EVERY_BYTE)
    assert json.loads(done.err) == accepted(desk)


def test_with_wait_the_result_goes_to_a_file(desk):
    desk.emulator.model = lambda body, kind: EVERY_BYTE
    done = desk.run(*LOCATED, "--wait", "60", "--output-file", "out.bin", "--output", "text")
    assert (done.status, done.out) == (0, b"")
    assert done.err == "\t".join(text for _, text in sorted(accepted(desk).items())) + "\n"
    assert (desk.home / "out.bin").read_bytes() == EVERY_BYTE


def test_with_wait_a_failed_inference_is_3_and_the_answer_is_kept(desk):
    desk.emulator.model = fail_model
    done = desk.run(*LOCATED, "--wait", "60")
    answer, _, message = done.err.partition("smasync: ")
    assert (done.status, done.out) == (3, b"")
    assert json.loads(answer) == accepted(desk) and "a dragon" in message


def test_with_wait_a_running_inference_is_4_and_can_be_waited_for_again(desk):
    desk.emulator.latency = 3.0
    done = desk.run(*LOCATED, "--wait", "0.3")
    answer, _, message = done.err.partition("smasync: ")
    assert (done.status, done.out) == (4, b"") and "nothing at s3://async-output/" in message
    assert json.loads(answer) == accepted(desk)
    again = desk.run("wait", "--cli-input-json", answer)
    assert (again.status, json.loads(again.out)["count"]) == (0, 3)
    assert len(desk.emulator.ledger) == 1


@pytest.mark.parametrize(
    "flags",
    [
        ("--wait", "0"),
        ("--wait", "-1"),
        ("--wait", "nan"),
        ("--wait", "soon"),
        ("--wait", "60", "--output-file", "."),
        ("--wait", "60", "--output-file", "missing/out.bin"),
    ],
    ids=" ".join,
)
def test_252_for_a_wait_that_cannot_be_before_anything_is_sent(program, flags):
    done, _ = program.run(*LOCATED, *flags)
    assert (done.status, done.out) == (252, b"")
    assert program.emulator.requests == []


# --- put-input

KEYS = ("in.json", "a b/é&c='d'+%20.json", "../x/./y", "100%", "☃", "k?acl#x")


@pytest.mark.parametrize("key", KEYS)
def test_the_printed_location_is_what_input_location_takes(program, key):
    location = f"s3://my-bucket/{key}"
    put, _ = program.run("put-input", "in.jsonl", location, **{"in": b"[5, 6, 7, 8]"})
    assert (put.status, put.out.decode(), put.err) == (0, f"{location}\n", "")
    done, _ = program.run(*INVOKE, "--input-location", put.out.decode().rstrip("\n"))
    assert done.status == 0
    (inference,) = program.emulator.ledger
    assert inference.input_location == location
    assert json.loads(program.emulator.get(inference.output_location))["count"] == 4


def test_an_input_arrives_byte_for_byte_and_as_what_it_is(desk):
    (desk.home / "in.bin").write_bytes(EVERY_BYTE * 5000)
    (desk.home / "empty").write_bytes(b"")
    kms = ("--content-type", "text/csv", "--sse-kms-key-id", "alias/my-key")
    assert desk.run("put-input", "~/in.bin", "s3://my-bucket/x", *kms).status == 0
    stored = desk.emulator.objects["s3://my-bucket/x"]
    assert (stored.body, stored.content_type) == (EVERY_BYTE * 5000, "text/csv")
    received = desk.emulator.requests[-1]
    assert received.header("x-amz-server-side-encryption-aws-kms-key-id") == "alias/my-key"
    assert desk.run("put-input", desk.home / "empty", "s3://my-bucket/empty").status == 0
    assert desk.emulator.get("s3://my-bucket/empty") == b""


@pytest.mark.parametrize("case", HOSTILE)
def test_252_for_a_hostile_place_to_put_to(program, case):
    place = HOSTILE[case]
    done, _ = program.run("put-input", "manifest.jsonl", str(place), manifest=b"x")
    said(done, 252, "location .* is not s3://bucket/key")
    assert program.emulator.requests == []


NOT_FILES = ["-", "missing", "."] + (["/dev/stdin", "pipe"] if os.name == "posix" else [])


@pytest.mark.parametrize("name", NOT_FILES)
def test_252_for_an_input_that_cannot_be_read_twice_with_what_to_do(desk, name):
    if os.name == "posix":
        os.mkfifo(desk.home / "pipe")
    command = [sys.executable, "-W", "error", str(MODULE), "put-input", name, "s3://my-bucket/x"]
    done = subprocess.run(
        command, env=desk.environ({}), cwd=desk.home, input=b"x", capture_output=True, timeout=60
    )
    said(Done(done.returncode, done.stdout, done.stderr.decode()), 252, "has to be saved first")
    assert desk.emulator.requests == []


def test_254_when_s3_refuses_an_input(desk):
    (desk.home / "in").write_bytes(b"x")
    desk.emulator.fail(status(403, "AccessDenied", "not you"))
    said(desk.run("put-input", "in", "s3://my-bucket/x"), 254, "AccessDenied.*PutObject.*not you")


# --- The endpoint of S3

NOWHERE = "http://127.0.0.1:9/nowhere"
ENDPOINTS: dict[str, dict[str, str | None]] = {
    # what the environment says, which --endpoint-url overrides
    "nothing": {"AWS_ENDPOINT_URL_S3": None},
    "another one of S3": {"AWS_ENDPOINT_URL_S3": NOWHERE},
    "one for all": {"AWS_ENDPOINT_URL_S3": None, "AWS_ENDPOINT_URL": NOWHERE},
    "to be ignored": {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
}


@pytest.mark.parametrize("case", ENDPOINTS)
def test_endpoint_url_is_s3_s_for_commands_that_ask_s3_alone(desk, case):
    where = ("--endpoint-url", desk.emulator.url)
    environ = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": NOWHERE, **ENDPOINTS[case]}
    (desk.home / "in").write_bytes(b"x")
    put = desk.run("put-input", "in", "s3://my-bucket/x", *where, **environ)
    assert (put.status, desk.emulator.get("s3://my-bucket/x")) == (0, b"x"), put
    job = ("--output-location", "s3://my-bucket/x")
    assert desk.run("wait", *job, *where, **environ) == (0, b"x", "")


def test_endpoint_url_with_wait_is_sagemaker_s(desk):
    where = ("--endpoint-url", desk.emulator.url)
    environ: dict[str, str | None] = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": NOWHERE}
    assert desk.run(*LOCATED, "--wait", "60", *where, **environ).status == 0
    environ = {"AWS_ENDPOINT_URL_S3": NOWHERE, "AWS_MAX_ATTEMPTS": "1"}
    assert desk.run(*LOCATED, "--wait", "0.3", *where, **environ).status == 4
    assert len(desk.emulator.ledger) == 2


@pytest.mark.parametrize("command", [("wait", "--output-location"), ("put-input", "in")])
def test_a_malformed_endpoint_of_s3_is_called_by_its_flag(desk, command):
    done = desk.run(*command, "s3://my-bucket/x", "--endpoint-url", "http://me:pw@x")
    said(done, 253, "--endpoint-url .*malformed")
    assert "pw" not in done.err


# --- Secrets

PRIVATE = "patient-42"


class Quoting:
    """A service that refuses, and quotes what it was sent."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, received: Received | None) -> Fault:
        assert received
        value = received.header("x-amzn-sagemaker-custom-attributes") or ""
        canonical = f"POST\n/\n\nhost:x\nx-amzn-sagemaker-custom-attributes:{value}\n\nhost\nhash"
        expected = f"{smasync.EXPECTED}{canonical}'\n\nThe String-to-Sign should have been"
        body = received.body.decode()
        self.words = [expected, f"Value '{value}' at 'customAttributes' failed", f"no: {body}"]
        return status(400, "ValidationError", "\n".join(self.words))


@pytest.mark.parametrize("attributes", [PRIVATE, f"{PRIVATE}, ward 7, bed 3"])
def test_results_do_not_quote_what_is_sensitive_though_the_service_does(desk, attributes):
    quoting = Quoting()
    desk.emulator.fail_every(quoting)
    line = {"EndpointName": "x", "Body": ["patient-43 and more"], "CustomAttributes": attributes}
    desk.write(manifest_of(line))
    assert desk.run(*BULK, "--quiet").status == 254
    told = (desk.home / "results.jsonl").read_text()
    assert "<hidden, " in told and "host:x" in told
    printed = desk.run(*INVOKE, "--cli-input-json", json.dumps(line), "--debug")
    assert printed.status == 254 and "of the canonical request: the service has" in printed.err
    for text in (told, printed.err):
        assert "at 'customAttributes' failed" in text
        assert "patient-" not in text and "patient-" in quoting.words[0]


def test_no_command_shows_a_secret(desk):
    """Not the secret key, the token, CustomAttributes or the body: not even to --debug."""
    desk.emulator.accounts = {KEY_ID: Account(SECRET, TOKEN)}
    line = {"EndpointName": "x", "Body": [PRIVATE], "CustomAttributes": PRIVATE}
    wrong = {**line, "CustomAttributes": f"{PRIVATE}\n", "RequestTTLSeconds": 1}
    desk.write(manifest_of(line, wrong, line) + b'{"Body": "' + PRIVATE.encode() + b"\n")
    echo = status(400, "ValidationError", f"your token is {TOKEN}, your secret {SECRET}")
    desk.emulator.fail(echo)
    (desk.home / "in").write_bytes(PRIVATE.encode())
    where = ("--output-location", "s3://async-output/none", "--timeout", "0.2")
    told = ""
    for command, exit_status in (
        ((*BULK, "--concurrency", "1"), 254),
        ((*BULK, "--retry-failed"), 254),
        (("put-input", "in", "s3://my-bucket/x"), 0),
        (("wait", *where), 4),
        ((*LOCATED, "--custom-attributes", PRIVATE, "--wait", "60"), 0),
    ):
        for flags in ((), ("--debug",)):
            done = desk.run(*command, *flags, AWS_SESSION_TOKEN=TOKEN)
            assert done.status == exit_status, done
            told += done.out.decode() + done.err
    told += (desk.home / "results.jsonl").read_text()
    assert "(hidden)" in told and "AWS4-HMAC-SHA256" in told
    for secret in (SECRET, TOKEN, PRIVATE, base64.b64encode(PRIVATE.encode()).decode()):
        assert secret not in told
