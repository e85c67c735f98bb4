"""A folder to work in and an emulator to talk to, for tests of smasync's commands."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from emulator import environment
from raw_server import wait_until

import smasync

MODULE = Path(smasync.__file__).resolve()
PROGRAM = (sys.executable, "-W", "error", str(MODULE))
KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
INVOKE = ("invoke-endpoint-async", "--endpoint-name", "my-endpoint")
LOCATED = (*INVOKE, "--input-location", "s3://my-bucket/in.json")
NAMES = ("OutputLocation", "FailureLocation", "InferenceId")
BULK = ("bulk", "manifest.jsonl", "--results", "results.jsonl")
PATIENCE = 60.0  # seconds until something that ought to happen at once is given up
# Windows starts no socket without SYSTEMROOT; nothing else of the test's environment is used.
BARE = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}


class Done(NamedTuple):
    """What became of a command."""

    status: int
    out: bytes
    err: str


class Desk:
    """Runs commands in a folder, and in an environment that points to the emulator alone."""

    def __init__(self, emulator, home):
        self.emulator, self.home = emulator, home
        self.manifest, self.results_file = home / "manifest.jsonl", home / "results.jsonl"
        emulator.put("s3://my-bucket/in.json", b"[1, 2, 3]", "application/json")

    def environ(self, more):
        """A complete environment; a variable given as None is left out."""
        home = {"HOME": str(self.home), "USERPROFILE": str(self.home)}
        off = {"AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(MODULE.parent)}
        environ = {**BARE, **environment(self.emulator), **home, **off, **more}
        return {name: value for name, value in environ.items() if value is not None}

    def main(self, *arguments, **environ):
        """What became of smasync.main(), called in this process."""
        wanted = self.environ(environ)
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.home)
            for name in os.environ.keys() - wanted.keys():
                patch.delenv(name)
            for name, value in wanted.items():
                patch.setenv(name, value)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = smasync.main([str(argument) for argument in arguments])
        assert type(status) is int
        err.flush()
        return ended(status, out.buffer.getvalue(), err.buffer.getvalue())

    def start(self, *arguments, program=PROGRAM, environ=None, **options):
        """`python3 smasync.py …`, which heeds Ctrl-C even where this process ignores it."""
        command = [*program, *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        options.update(env=self.environ(environ or {}), cwd=self.home)
        heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(command, **options)
        finally:
            signal.signal(signal.SIGINT, heeded)

    def process(self, *arguments, **options):
        """What became of a process."""
        with self.start(*arguments, **options) as running:
            return end_of(running)

    def on_terminal(self, *arguments, **options):
        """What became of a process whose stderr is a terminal."""
        terminal, theirs = os.openpty()
        with self.start(*arguments, stderr=theirs, **options) as running:
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):  # which is how a terminal ends on Linux
                while piece := os.read(terminal, 65_536):
                    shown += piece
            os.close(terminal)
            return end_of(running, shown)

    @property
    def answer(self):
        """What the service said when it accepted its last inference."""
        inference = self.emulator.ledger[-1]
        names = ("output_location", "failure_location", "inference_id")
        return dict(zip(NAMES, (getattr(inference, name) for name in names)))

    @property
    def ids(self):
        """Of all that the service accepted, in order."""
        return [inference.inference_id for inference in self.emulator.ledger]

    @property
    def results(self):
        """The entries that bulk wrote, each of which has to be whole."""
        text = self.results_file.read_bytes() if self.results_file.exists() else b""
        assert text.endswith(b"\n") or not text
        return [json.loads(line) for line in text.splitlines()]

    def bulk(self, *flags, **environ):
        return self.main(*BULK, "--quiet", *flags, **environ)

    def carries_on(self, lines, twice=0):
        """Asserts that the next bulk sends the rest; so many at most were sent twice in all."""
        self.emulator.fail_every(None)
        assert self.bulk() == (0, counts(lines, 0, 0), "")
        assert sorted(entry["Line"] for entry in self.results) == list(range(1, lines + 1))
        assert {entry["InferenceId"] for entry in self.results} == set(self.ids)
        assert len(set(self.ids)) == lines and len(self.ids) <= lines + twice

    @contextlib.contextmanager
    def held(self, count):
        """A bulk of which so many requests are under way, and what releases the answers."""
        gate, waiting = threading.Semaphore(0), []

        def hold(received):
            waiting.append(received)
            gate.acquire(timeout=PATIENCE)

        self.emulator.fail_every(hold)
        with self.start(*BULK, "--quiet", "--concurrency", count) as running:
            try:
                wait_until(lambda: len(waiting) == count, PATIENCE)
                yield gate, running
            finally:
                running.kill()
                gate.release(1000)


def ended(status, out, err):
    text = (err or b"").decode().replace("\r\n", "\n")
    assert "Traceback" not in text and "ResourceWarning" not in text, text
    return Done(status, out or b"", text)


def end_of(running, shown=None):
    """Waits for the end of a process; one that has none is killed."""
    try:
        out, err = running.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    return ended(running.returncode, out, err if shown is None else shown)


def good(done):
    """The stdout of a command that went well, and that said nothing else."""
    assert (done.status, done.err) == (0, ""), done
    return done.out.decode().replace(os.linesep, "\n")


def failed(done, status, words, out=b"", hint=False):
    """One message on stderr, with these words: usage before it, list items or a hint after it."""
    assert (done.status, done.out) == (status, out), done
    assert all(line.isprintable() for line in done.err.split("\n")), done.err
    before, *after = re.split(r"(?m)^smasync.*?: ", done.err)
    assert re.fullmatch(r"(usage: .*\n( .*\n)*)?", before), done.err
    assert len(after) == 1 + hint and re.fullmatch(r".{10,}\n(- .*\n)*", after[0]), done.err
    assert re.search(words, after[0]), done.err


def counts(accepted, failed, left):
    """What bulk prints on stdout."""
    document = {"Accepted": accepted, "Failed": failed, "Left": left}
    return json.dumps(document, indent=4).encode() + b"\n"
