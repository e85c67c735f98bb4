"""Section 15, Bulk: each line of a manifest is sent once, and has a result.

That holds however the manifest is edited between two runs, and whatever stops one: refused keys,
Ctrl-C, a full disk, a kill. The service is the emulator, and its ledger has the last word.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import random
import re
import shlex
import signal
import time

import pytest
from desk import BULK, KEY_ID, PATIENCE, PROGRAM, SECRET, Desk, counts, end_of, failed
from emulator import Emulator, reset_after, status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leaks import counted_memory
from raw_server import wait_until

import smasync

LINE = b'{"EndpointName": "my-endpoint", "InputLocation": "s3://my-bucket/in.json"}\n'
ACCEPTED = "Line Hash Copy InferenceId OutputLocation FailureLocation RequestId".split()
FAILED = "Line Hash Copy InferenceId Error".split()
A_RESULT = b'{"Line": 1, "Hash": "x"}\n'
ONE_BY_ONE = ("--concurrency", "1")
NO_KEYS = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


@pytest.fixture
def desk(tmp_path):
    with Emulator() as emulator:
        yield Desk(emulator, tmp_path)


# --- Results

BODIES = {  # Body in the manifest, and what arrives
    '"NCw1"': b"4,5", '{"values": [3, "é"]}': '{"values":[3,"é"]}'.encode(), "[1.5, 2]": b"[1.5,2]",
}  # fmt: skip


def test_each_line_has_a_result_which_wait_takes(desk):
    text = "".join(f'{{"EndpointName": "x", "Body": {body}}}\n' for body in BODIES)
    desk.manifest.write_text(text, encoding="utf-8")
    assert desk.bulk(*ONE_BY_ONE) == (0, counts(3, 0, 0), "")
    assert [inference.body for inference in desk.emulator.ledger] == list(BODIES.values())
    for line, (entry, inference) in enumerate(zip(desk.results, desk.emulator.ledger), 1):
        assert list(entry) == ACCEPTED
        assert (entry["Line"], entry["InferenceId"]) == (line, inference.inference_id)
        assert entry["FailureLocation"] == inference.failure_location
        assert re.fullmatch("[0-9a-f-]{36}", entry["RequestId"])
        waited = desk.main("wait", "--cli-input-json", json.dumps(entry))
        assert waited == (0, desk.emulator.get(inference.output_location), "")


LARGEST = LINE[:-1].ljust(smasync.MAX_FILE_BYTES - 1)
BAD_LINES = {  # a line, and what its error says
    "not JSON": (b"{", "not JSON"),
    "not UTF-8": (b'{"EndpointName": "caf\xe9"}', "not JSON"),
    "too deep": (b'{"Body": ' + b"[" * 100_000, "not JSON"),
    "bad base64": (b'{"EndpointName": "x", "Body": "?"}', "base64"),
    "no number": (b'{"EndpointName": "x", "Body": {"a": NaN}}', "Body: cannot be sent as JSON"),
}


def test_a_bad_line_is_a_failed_line_and_the_others_go_on(desk):
    bad = [line for line, _ in BAD_LINES.values()]
    lines = [line for each in bad for line in (each, LINE[:-1])]
    desk.manifest.write_bytes(b"\n".join([*lines, LARGEST]))
    count = len(bad)
    assert desk.bulk() == (254, counts(count + 1, count, 0), "")
    entries = sorted(desk.results, key=lambda entry: entry["Line"])
    for entry, (_, words) in zip(entries[::2], BAD_LINES.values()):
        assert list(entry) == FAILED and list(entry["Error"]) == ["Type", "Code", "Message"]
        assert (entry["Error"]["Type"], entry["Error"]["Code"]) == ("ParamValidationError", "")
        assert words in entry["Error"]["Message"]
    assert all(list(entry) == ACCEPTED for entry in [*entries[1::2], entries[-1]])
    assert len(desk.emulator.requests) == len(desk.emulator.ledger) == count + 1


@pytest.mark.cpython
def test_a_manifest_with_a_line_over_the_limit_is_refused_before_anything_is_sent(desk):
    desk.manifest.write_bytes(LINE + b" " * (1 << 25) + b"\n" + LINE)
    with counted_memory() as peak:
        status, out, err = desk.bulk()
        assert (status, out, desk.emulator.requests) == (252, b"", [])
        assert "line 2: over 1048576 bytes" in err
        assert peak() < 1 << 23


DENIED = status(403, "AccessDeniedException", "not you")
REFUSALS = {  # what the service does, and Type, Code and a part of Message
    "refused": (DENIED, ("ClientError", "AccessDeniedException", "not you$")),
    "no answer": (reset_after(), ("TransportError", "", "no answer|closed|reset")),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_in_the_results_and_150_equal_ones_do_not_stop_it(desk, case):
    fault, told = REFUSALS[case]
    desk.emulator.fail_every(lambda received: fault)
    desk.manifest.write_bytes(LINE * 150)
    assert desk.bulk(AWS_MAX_ATTEMPTS="1") == (254, counts(0, 150, 0), "")
    for entry in desk.results:
        assert all(map(re.search, told, entry["Error"].values())), entry


# --- Which line is which

REFUSED = b'{"EndpointName": "refused", "InputLocation": "s3://b/k"}'
NOT_ASCII = '{"EndpointName":"b","InputLocation":"s3://b/\u2603"}'.encode()
TEXTS = [LINE[:-1], NOT_ASCII, b'{"EndpointName":"b","Body":[1]}', REFUSED, b"{", b""]
ENDS = st.sampled_from([b"\n", b"\r\n", b"  \n", b"\t\r\n"])
LINES = st.lists(st.tuples(st.sampled_from(TEXTS), ENDS), max_size=7)
MANIFESTS = st.tuples(st.booleans(), LINES, st.booleans())


def refuse(received):
    return status(400, "ValidationError", "no") if "/refused/" in received.target else None


def numbers_of(texts):
    """(text, which copy of it) of each line that is not blank, and its number."""
    numbers = {}
    for number, text in enumerate(texts, 1):
        if text:
            numbers[text, sum(text == other for other, _ in numbers) + 1] = number
    return numbers


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MANIFESTS, MANIFESTS)
def test_what_has_a_result_is_not_sent_again_however_the_manifest_is_edited(desk, first, second):
    """The second manifest is any edit of the first: lines moved, added, removed, corrected."""
    desk.emulator.fail_every(refuse)
    desk.results_file.unlink(missing_ok=True)
    tried = set()
    for (mark, lines, ended), flags in ((first, ()), (second, ()), (second, ("--retry-failed",))):
        text = b"".join(line + end for line, end in lines)
        desk.manifest.write_bytes(b"\xef\xbb\xbf" * mark + (text if ended else text.rstrip()))
        numbers = numbers_of(line for line, _ in lines)
        bad = {key for key in numbers if key[0] in (REFUSED, b"{")}
        expected = numbers.keys() - (tried - bad if flags else tried)
        desk.emulator.ledger.clear()
        before, good = len(desk.results), len(numbers) - len(bad)
        assert desk.bulk(*flags) == (254 if bad else 0, counts(good, len(bad), 0), "")
        entries = {(entry["Hash"], entry["Copy"]): entry for entry in desk.results[before:]}
        assert len(entries) == len(desk.results[before:]) == len(expected)
        for line, copy in expected:
            digest = hashlib.sha256(line).hexdigest()[:32]
            entry = entries[digest, copy]
            assert entry["Line"] == numbers[line, copy]
            assert entry["InferenceId"] == (None if line == b"{" else f"line-{digest}-{copy}")
        accepted = [entry["InferenceId"] for entry in entries.values() if "Error" not in entry]
        assert sorted(desk.ids) == sorted(accepted)
        tried |= expected


A, B, C, SPOILT = (LINE.replace(b"in.json", word) for word in (b"a", b"b", b"c", b"\xff"))
EDITS = {  # a manifest, what became of it, and how many of its lines the second run sends
    "moved": ([A, B, C], [C, A, B], 0),
    "added above": ([A, B], [C, A, B], 1),
    "blank lines": ([A, B], [b"", A, b" ", b"\t", B, b""], 0),
    "a second copy": ([A, B], [A, A, B], 1),
    "of two copies one removed": ([A, A, B], [B, A], 0),
    "corrected": ([A, SPOILT, C], [A, B, C], 1),
}


@pytest.mark.parametrize("case", EDITS)
def test_of_an_edited_manifest_only_what_is_new_is_sent(desk, case):
    before, after, sent = EDITS[case]
    desk.manifest.write_bytes(b"".join(before))
    desk.bulk()
    desk.emulator.ledger.clear()
    desk.manifest.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(line.strip() for line in after))
    left = len(list(filter(bytes.strip, after)))
    assert desk.bulk() == (0, counts(left, 0, 0), ""), "failures of lines that are gone count not"
    assert len(desk.ids) == sent


def test_an_id_of_ones_own_is_kept_and_null_is_none(desk):
    own, null = (LINE.replace(b"}", b', "InferenceId": %s}' % i) for i in (b'"job 42"', b"null"))
    desk.manifest.write_bytes(own + null)
    assert desk.bulk(*ONE_BY_ONE).status == 0
    assert desk.ids == [entry["InferenceId"] for entry in desk.results]
    assert desk.ids[0] == "job 42" and re.fullmatch("line-[0-9a-f]{32}-1", desk.ids[1])


def test_results_of_version_0_1_0_are_read(desk):
    """They have no Copy: each is of the first one."""
    digest = hashlib.sha256(LINE.strip()).hexdigest()[:32]
    old = json.dumps({"Line": 1, "Hash": digest, "InferenceId": "x", "RequestId": "y"})
    desk.results_file.write_text(old)
    desk.manifest.write_bytes(LINE * 2)
    assert desk.bulk() == (0, counts(2, 0, 0), "")
    assert desk.ids == [f"line-{digest}-2"] and len(desk.results) == 2


def test_failed_lines_are_sent_again_only_when_asked(desk):
    desk.manifest.write_bytes(LINE * 6)
    faults = iter([status(400, "ValidationError", "words"), None] * 3)
    desk.emulator.fail_every(lambda received: next(faults))
    assert desk.bulk(*ONE_BY_ONE) == desk.bulk(*ONE_BY_ONE) == (254, counts(3, 3, 0), "")
    desk.emulator.fail_every(None)
    assert desk.bulk("--retry-failed") == desk.bulk() == (0, counts(6, 0, 0), "")
    assert desk.bulk("--retry-failed").status == 0, "of two results the later one counts"
    assert sorted(entry["Line"] for entry in desk.results[6:]) == [1, 3, 5]


# --- What is refused whole


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_manifest_in_utf_16_is_refused_whole(desk, encoding):
    desk.results_file.write_bytes(A_RESULT)
    desk.manifest.write_bytes((LINE.decode() * 3).replace("\n", "\r\n").encode(encoding))
    failed(desk.bulk(), 252, r"manifest\.jsonl, line 1: not UTF-8; save the file as UTF-8")
    assert desk.results_file.read_bytes() == A_RESULT and not desk.emulator.requests


NOT_RESULTS = [b"words\n", b"[1]\n", b"\n", b"[" * 100_000 + b"\n", b'{"Line": 1}\n']
NOT_RESULTS += [b'{"Line": 1, "Hash": "x", "Copy": "y"}\n', LINE, LINE[:-1], bytes(range(11, 256))]


@pytest.mark.parametrize("text", NOT_RESULTS, ids=range(len(NOT_RESULTS)))
def test_results_that_bulk_did_not_write_are_refused_and_left_alone(desk, text):
    """Nobody wants to lose a file because its name was given by mistake."""
    desk.manifest.write_bytes(LINE * 2)
    for results in (text, A_RESULT + text):
        desk.results_file.write_bytes(results)
        failed(desk.bulk(), 252, r"results\.jsonl, line [12]: not written by bulk")
        assert desk.results_file.read_bytes() == results and not desk.emulator.requests


CANNOT = {  # arguments, environment, exit status, what is said; nothing is sent
    "no manifest": (("bulk", "missing", "--results", "r"), {}, 252, "missing: no such file"),
    "a folder of results": ((*BULK[:3], "."), {}, 252, r"\.: no such file"),
    "no folder": ((*BULK[:3], "missing/r"), {}, 255, "missing/r"),
    "its own results": ((*BULK[:3], "manifest.jsonl"), {}, 252, "not written by bulk"),
    "concurrency 0": ((*BULK, "--concurrency", "0"), {}, 252, "concurrency: 0 "),
    "no credentials": (BULK, NO_KEYS, 253, "no credentials"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_be_done_is_said_before_anything_is_sent(desk, case):
    arguments, environ, exit_status, words = CANNOT[case]
    desk.manifest.write_bytes(LINE * 2)
    failed(desk.main(*arguments, **environ), exit_status, words)
    assert desk.manifest.read_bytes() == LINE * 2 and not desk.emulator.requests
    assert not any(path.stat().st_size for path in desk.home.glob("r*"))


# --- Progress

PROGRESS = r"[0-9]+ of [0-9]+, [0-9]+ failed"


def test_the_summary_is_on_stdout_and_progress_on_stderr(desk):
    desk.manifest.write_bytes(LINE * 3 + b"{\n")
    done = desk.main(*BULK, "--output", "text")
    assert (done.status, done.out) == (254, b"3\t1\t0\n")
    assert re.fullmatch("4 of 4, 1 failed\n", done.err), done.err
    assert desk.main(*BULK) == (254, counts(3, 1, 0), ""), "nothing to do, nothing to say"


@pytest.mark.slow
def test_a_long_run_says_every_few_seconds_how_far_it_is(desk):
    desk.emulator.fail_every(lambda received: time.sleep(0.8))
    desk.manifest.write_bytes(LINE * 8)
    first, *_, last = told = desk.main(*BULK, *ONE_BY_ONE).err.splitlines()
    assert re.fullmatch(PROGRESS, first) and len(told) <= 4
    assert re.fullmatch(PROGRESS, last) and last.startswith("8 of 8, ")


if os.name == "posix":

    def test_on_a_terminal_it_says_how_far_it_is_unless_it_is_to_be_quiet(desk):
        desk.manifest.write_bytes(LINE * 3)
        done = desk.on_terminal(*BULK, *ONE_BY_ONE)
        assert done[:2] == (0, counts(3, 0, 0))
        assert re.fullmatch(rf"{PROGRESS}\r?\n", done.err) and done.err.startswith("3 of 3")
        desk.results_file.unlink()
        assert desk.on_terminal(*BULK, "--quiet") == (0, counts(3, 0, 0), "")


# --- Stopped, and started again

REFUSED_KEYS = """UnrecognizedClientException InvalidClientTokenId InvalidSignatureException
    MissingAuthenticationToken MissingAuthenticationTokenException ExpiredToken
    ExpiredTokenException""".split()


@pytest.mark.parametrize("code", REFUSED_KEYS)
def test_keys_that_are_refused_stop_it_and_no_line_is_to_blame(desk, code):
    refusal = status(403, code, "these keys are refused")
    desk.emulator.fail_every(lambda received: refusal if len(desk.ids) >= 3 else None)
    desk.manifest.write_bytes(LINE * 300)
    done = desk.bulk("--concurrency", "2")
    sent = len(desk.ids)
    assert (done.status, done.out) == (254, counts(sent, 0, 300 - sent))
    assert f"({code})" in done.err and "these keys are refused" in done.err
    assert 3 <= sent < 10 and len(desk.emulator.requests) < 30
    desk.manifest.write_bytes(LINE * 20)
    desk.carries_on(20)


def test_a_result_that_was_cut_anywhere_is_cut_off_and_its_line_sent_again(desk):
    """What a crash, or a full disk, leaves behind."""
    desk.manifest.write_bytes(LINE * 3)
    desk.bulk(*ONE_BY_ONE)
    results = desk.results_file.read_bytes()
    start, name = results[:-1].rindex(b"\n") + 1, desk.ids[2]
    for cut in [*range(start, len(results) - 1, 13), len(results) - 2, len(results) - 1]:
        desk.emulator.ledger.clear()
        desk.results_file.write_bytes(results[:cut])
        assert desk.bulk() == (0, counts(3, 0, 0), ""), cut
        assert desk.ids == ([name] if cut < len(results) - 1 else []), "but for the line break"
        assert desk.results_file.read_bytes().startswith(results[:start])
        assert [entry["Line"] for entry in desk.results] == [1, 2, 3]


if os.name == "posix":

    def test_credentials_that_vanish_stop_it_and_no_line_is_to_blame(desk):
        """They are good for two minutes, so they are renewed before each request."""
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))
        keys = {"Version": 1, "AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "Expiration": end}
        file = desk.home / "keys"
        file.write_text(json.dumps(keys))
        (desk.home / "config").write_text("[default]\ncredential_process = cat keys\n")
        desk.emulator.fail_every(lambda received: file.unlink() if len(desk.ids) == 2 else None)
        desk.manifest.write_bytes(LINE * 10)
        done = desk.bulk(*ONE_BY_ONE, **NO_KEYS, AWS_CONFIG_FILE="config")
        failed(done, 253, "keys: No such file", out=counts(3, 0, 7))
        desk.carries_on(10)

    def test_a_second_bulk_on_the_same_results_is_refused(desk):
        desk.manifest.write_bytes(LINE * 6)
        with desk.held(2) as (gate, running):
            failed(desk.bulk(), 252, r"results\.jsonl: another bulk is writing to it")
            gate.release(1000)
            assert end_of(running) == (0, counts(6, 0, 0), "")
        desk.carries_on(6)

    def test_ctrl_c_ends_it_when_what_is_under_way_is_written_down(desk):
        desk.manifest.write_bytes(LINE * 60)
        with desk.held(4) as (gate, running):
            running.send_signal(signal.SIGINT)
            while running.poll() is None:  # the answers come one by one
                gate.release()
                time.sleep(0.02)
            done, count = end_of(running), len(desk.results)
        assert done == (130, counts(count, 0, 60 - count), "smasync: interrupted\n")
        assert 4 <= count < 30
        desk.carries_on(60)

    def test_a_second_ctrl_c_ends_it_at_once(desk):
        desk.manifest.write_bytes(LINE * 60)
        with desk.held(4) as (gate, running):
            running.send_signal(signal.SIGINT)
            gate.release()
            wait_until(lambda: desk.results, PATIENCE)  # it has heard the first one, and goes on
            running.send_signal(signal.SIGINT)
            done = end_of(running)  # the requests under way would be waited for a minute
        assert done.status in (130, -signal.SIGINT) and len(desk.results) == 1
        desk.carries_on(60, twice=2 * 4)

    def test_a_full_disk_is_said_and_the_next_run_carries_on(desk):
        desk.manifest.write_bytes(LINE * 20)
        # 4 blocks are 2 or 4 KiB; a result has some 400 bytes
        words = shlex.join([*PROGRAM, *BULK, "--quiet", *ONE_BY_ONE])
        done = desk.process(f"ulimit -f 4; exec {words}", program=("sh", "-c"))
        failed(done, 255, "File too large")
        assert 0 < desk.results_file.read_bytes().count(b"\n") < len(desk.ids) < 20
        desk.carries_on(20, twice=3)


MANY_KILLS = pytest.param(2000, 10, 16, marks=pytest.mark.slow)


@pytest.mark.parametrize(("lines", "kills", "concurrency"), [(150, 2, 8), MANY_KILLS])
def test_killed_again_and_again_it_loses_no_line(desk, lines, kills, concurrency):
    """Each line has one result; sent twice is only what a run that was killed had no result of."""
    marks = sorted(random.sample(range(1, lines - 50), kills))
    desk.emulator.fail_every(lambda received: time.sleep(0.003))
    desk.manifest.write_bytes(LINE * lines)
    limbo = []
    for mark in marks:
        begun = len(desk.ids)
        with desk.start(*BULK, "--quiet", "--concurrency", str(concurrency)) as running:
            wait_until(lambda mark=mark: len(desk.ids) >= mark, PATIENCE)
            running.kill()
            running.communicate()
        wait_until(lambda: not desk.emulator.open_connections, PATIENCE)
        whole = desk.results_file.read_bytes().rpartition(b"\n")[0]
        recorded = {json.loads(line)["InferenceId"] for line in whole.splitlines()}
        limbo.append([name for name in desk.ids[begun:] if name not in recorded])
    assert all(len(names) <= 2 * concurrency for names in limbo)
    again = collections.Counter(name for names in limbo for name in names)
    desk.carries_on(lines, twice=sum(again.values()))
    assert collections.Counter(desk.ids) == collections.Counter(set(desk.ids)) + again
    print(f"{lines} lines, killed at {marks}: {sum(again.values())} sent twice")
