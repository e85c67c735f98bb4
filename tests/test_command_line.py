"""Section 14, Command line: its flags, what it prints and where, and its exit statuses.

Most commands run as smasync.main() in this process; where a process makes the difference (signals,
closed files, terminals, logging) it is one of its own. The service is the emulator.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from desk import INVOKE, KEY_ID, LOCATED, PATIENCE, PROGRAM, SECRET, Desk, end_of, failed, good
from emulator import Account, Emulator, answer, garbage, stall, status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_server import wait_until

import smasync

CERTIFICATE = str(Path(__file__).with_name("loopback.pem"))
JSON_LOCATED = (*LOCATED[1:], "--content-type", "application/json")
EXAMPLE = ("explain", "--example", *JSON_LOCATED)
EXAMPLE_SIGNATURE = "2af7c0c9556151283d407ec3477d2d307ef5a09aa0a188213f5aa2f88058fdc2"
TOKEN = "FwoGZXIvYXdzEExample/Token+with=signs"
RAW = ("--cli-binary-format", "raw-in-base64-out")
NOWHERE = "http://127.0.0.1:9/nowhere"
PRIVATE = "patient-42"
EVERY_BYTE = bytes(range(256)) + b"\r\n\n\x1a\x00"
RESULT = "s3://async-output/x.out"
NO_KEYS = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
NO_REGION = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}


@pytest.fixture
def desk(tmp_path):
    with Emulator() as emulator:
        yield Desk(emulator, tmp_path)


def in_json(answer):
    return json.dumps(answer, indent=4) + "\n"


# --- Flags

MEMBER_FLAGS = (  # the AWS CLI's flag, the member it sets, a value
    ("--endpoint-name", "EndpointName", "my-endpoint"),
    ("--input-location", "InputLocation", "s3://my-bucket/in.json"),
    ("--body", "Body", "eyJhIjogMX0="),
    ("--content-type", "ContentType", "application/json"),
    ("--accept", "Accept", "text/csv"),
    ("--custom-attributes", "CustomAttributes", "tenant=7; note='$HOME \"x\"'"),
    ("--inference-id", "InferenceId", "job 42"),
    ("--s3-output-path-extension", "S3OutputPathExtension", "runs/today"),
    ("--filename", "Filename", "result.json"),
    ("--request-ttl-seconds", "RequestTTLSeconds", "3600"),
    ("--invocation-timeout-seconds", "InvocationTimeoutSeconds", "900"),
)
EVERY_COMMAND = """--help --region --profile --ca-bundle --no-verify-ssl --endpoint-url --debug
    --output --cli-read-timeout --cli-connect-timeout """
MEMBERS = " ".join(flag for flag, _, _ in MEMBER_FLAGS)
MEMBERS += " --cli-input-json --cli-binary-format"
FLAGS = {
    "invoke-endpoint-async": MEMBERS + " --query --wait --output-file",
    "explain": MEMBERS + " --example",
    "wait": "--output-location --failure-location --cli-input-json --timeout --output-file",
    "put-input": "--content-type --sse --sse-kms-key-id",
    "bulk": "--results --concurrency --retry-failed --quiet",
}


@pytest.mark.parametrize("command", FLAGS)
def test_help_lists_these_flags_and_no_others(desk, command):
    listed = set(re.findall(r"--[a-z0-9-]+", good(desk.main(command, "--help"))))
    assert listed == set((EVERY_COMMAND + FLAGS[command]).split())


@pytest.mark.parametrize("absent", ["InputLocation", "Body"])
def test_every_member_flag_arrives_in_its_member(desk, absent):
    members = {member.name for member in smasync.INVOKE_ENDPOINT_ASYNC}
    assert {name for _, name, _ in MEMBER_FLAGS} == members
    rows = [row for row in MEMBER_FLAGS if row[1] != absent]
    good(desk.main(INVOKE[0], *(word for flag, _, text in rows for word in (flag, text))))
    (inference,) = desk.emulator.ledger
    assert inference.members == {name: text for _, name, text in rows if name != "Body"}
    assert inference.body == (b'{"a": 1}' if absent == "InputLocation" else None)


SNOW = '{"InputLocation": "s3://my-bucket/\u2603"}'
AT_SNOW = ("InputLocation", "s3://my-bucket/\u2603")
JSON_FILE, BODY = ("--cli-input-json", "file://given"), ("--body", "YQ==")
BEATEN = ("--cli-input-json", '{"Body": [1, null], "EndpointName": "x", "Accept": "b/c"}')
GIVEN = {  # flags, what is in the file that they name, and the body or the member that arrives
    "a body is base64": (("--body", "AAH/"), b"", b"\0\1\xff"),
    "or text if told so": (("--body", "n\u00e9", *RAW), b"", b"n\xc3\xa9"),
    "bytes that are no text": (("--body", "n\udcff", *RAW), b"", b"n\xff"),
    "bytes of a file": (("--body", "fileb://given"), EVERY_BYTE * 490, EVERY_BYTE * 490),
    "base64 in a file": (("--body", "file://given"), b"YWJj", b"abc"),
    "text of a file": (("--body", "file://given", *RAW), b"YWJj", b"YWJj"),
    "a file from home": (("--accept", "file://~/given", *BODY), b"a/b", ("Accept", "a/b")),
    "no file's name": (("--filename", "fileb", *BODY), b"", ("Filename", "fileb")),
    "JSON with base64": (("--cli-input-json", '{"Body": "AAH/"}'), b"", b"\0\1\xff"),
    "JSON with an object": (JSON_FILE, b'{"Body": {"a": ["\\u00e9"]}}', b'{"a":["\xc3\xa9"]}'),
    "JSON in UTF-8": (JSON_FILE, SNOW.encode(), AT_SNOW),
    "UTF-8 with a mark": (JSON_FILE, SNOW.encode("utf-8-sig"), AT_SNOW),
    "a flag beats JSON": ((*BEATEN, "--accept", "a/b"), b"", ("Accept", "a/b")),
    "what it leaves": ((*BEATEN, "--accept", "a/b"), b"", b"[1,null]"),
}


@pytest.mark.parametrize("case", GIVEN)
def test_parameters_are_read_as_the_aws_cli_reads_them(desk, case):
    flags, content, expected = GIVEN[case]
    (desk.home / "given").write_bytes(content)
    good(desk.main(*INVOKE, *flags))
    (inference,) = desk.emulator.ledger
    assert inference.endpoint_name == "my-endpoint"
    if isinstance(expected, bytes):
        assert inference.body == expected
    else:
        assert inference.members[expected[0]] == expected[1]


# --- Output


@pytest.mark.parametrize("member", [None, "OutputLocation", "FailureLocation", "InferenceId"])
def test_the_answer_is_printed_as_the_aws_cli_prints_it(desk, member):
    query = ("--query", member) if member else ()
    as_json = good(desk.main(*LOCATED, *query))
    assert as_json == in_json(desk.answer[member] if member else desk.answer)
    as_text = good(desk.main(*LOCATED, *query, "--output", "text"))
    values = [text for name, text in sorted(desk.answer.items()) if member in (None, name)]
    assert as_text == "\t".join(values) + "\n"


ODD_ANSWERS = {  # flags, and what is printed of an answer with an odd InferenceId alone
    ("--query", "FailureLocation"): "null\n",
    ("--query", "FailureLocation", "--output", "text"): "None\n",
    ("--query", "InferenceId"): '"a\\tb\\u001b[2J"\n',
    ("--query", "InferenceId", "--output", "text"): "a?b?[2J\n",
}


@pytest.mark.parametrize("flags", ODD_ANSWERS, ids=" ".join)
def test_what_the_answer_lacks_is_null_and_control_characters_are_escaped(desk, flags):
    body = b'{"InferenceId": "a\\tb\\u001b[2J"}'
    head = f"HTTP/1.1 202 Accepted\r\nContent-Length: {len(body)}\r\n\r\n"
    desk.emulator.fail(answer(head.encode() + body))
    assert good(desk.main(*LOCATED, *flags)) == ODD_ANSWERS[flags]


def test_what_a_service_says_cannot_command_the_terminal(desk):
    desk.emulator.fail(status(400, "ValidationError", "\x1b]0;title\x07 two\nlines"))
    done = desk.main(*LOCATED)
    assert done.err.endswith(": ?]0;title? two\nlines\n") and done.status == 254
    action = "<Message>not authorized to perform: \x9b2Jkms:Decrypt on it</Message>"
    text = f"<Error><Code>AccessDenied</Code>{action}</Error>".encode()
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    desk.emulator.fail(answer(head + text))
    waited = desk.main("wait", "--output-location", RESULT, "--timeout", "0.2")
    assert waited.err.endswith("\nsmasync: allow ?2Jkms:Decrypt to this caller\n")
    assert waited.status == 254 and "\x9b" not in waited.err


def test_no_command_shows_a_secret_and_debug_writes_to_stderr(desk):
    """Not the secret key, the token, CustomAttributes or the body."""
    desk.emulator.accounts = {KEY_ID: Account(SECRET, TOKEN)}
    (desk.home / "in").write_text(PRIVATE)
    line = {"EndpointName": "x", "Body": [PRIVATE], "CustomAttributes": PRIVATE}
    (desk.home / "manifest").write_text(f'{json.dumps(line)}\n{{"Body": "{PRIVATE}\n')
    echo = f"your token is {TOKEN}, your secret {SECRET}, your attributes {PRIVATE}"
    desk.emulator.fail(status(400, "ValidationError", echo))
    told = ""
    for command, exit_status in (
        (("bulk", "manifest", "--results", "results"), 254),
        (("explain", *JSON_LOCATED, "--custom-attributes", "tenant-7"), 0),
        (("put-input", "in", "s3://my-bucket/x"), 0),
        (("wait", "--output-location", RESULT, "--timeout", "0.2"), 4),
        ((*INVOKE, "--body", PRIVATE, *RAW, "--custom-attributes", PRIVATE, "--wait", "60"), 0),
    ):
        done = desk.process(*command, "--debug", environ={"AWS_SESSION_TOKEN": TOKEN})
        assert done.status == exit_status and b"DEBUG" not in done.out, done
        assert ("AWS4-HMAC-SHA256" in done.err) == (command[0] != "explain"), done
        told += done.out.decode() * (command[0] != INVOKE[0]) + done.err
    told += (desk.home / "results").read_text()
    assert "(hidden)" in told and "answer: <Response 202" in told
    for secret in (SECRET, TOKEN, PRIVATE, base64.b64encode(PRIVATE.encode()).decode()):
        assert secret not in told


# --- Where to, and as whom

TLS = {  # flags, exit status, what is said
    "flag": (("--ca-bundle", CERTIFICATE), 0, ""),
    "not verified": (("--no-verify-ssl",), 0, "not verified"),
    "unknown": ((), 255, "certificate verify failed.*AWS_CA_BUNDLE"),
    "missing": (("--ca-bundle", "missing.pem"), 253, "CA bundle missing.pem: "),
}


@pytest.mark.parametrize("case", TLS)
def test_tls_is_verified_unless_told_otherwise(tmp_path, case):
    flags, exit_status, words = TLS[case]
    with Emulator(tls=True) as emulator:
        program = (sys.executable, PROGRAM[-1])  # a warning is no error
        done = Desk(emulator, tmp_path).process(*LOCATED, *flags, program=program)
    assert (done.status, len(emulator.ledger)) == (exit_status, exit_status == 0)
    assert re.search(words, done.err) and bool(done.err) == bool(words)


def test_a_time_limit_is_settable_and_0_is_none_as_in_the_aws_cli(desk):
    for which in ("read", "connect"):
        good(desk.main(*LOCATED, f"--cli-{which}-timeout", "0", AWS_MAX_ATTEMPTS="1"))
    desk.emulator.fail(stall(30))
    started = time.monotonic()
    done = desk.main(*LOCATED, "--cli-read-timeout", "0.2", AWS_MAX_ATTEMPTS="1")
    failed(done, 255, "no answer: .*(timed out|time limit)")
    assert time.monotonic() - started < 15


# --- Exit statuses

WAIT = ("wait", "--output-location", "s3://my-bucket/k")
USAGE = {  # arguments: what the message says; 252 for each, and nothing is sent
    (): "required: COMMAND",
    ("frobnicate",): "invalid choice: 'frobnicate'",
    (*LOCATED, "--generate-cli-skeleton"): "unrecognized arguments: --generate",
    (*LOCATED, "--color", "off"): "unrecognized arguments: --color",
    (*LOCATED, "--region"): "--region: expected one argument",
    (*LOCATED, "--output", "yaml"): "--output: invalid choice: 'yaml'",
    (*LOCATED, "--request-ttl-seconds", "soon"): "--request-ttl-seconds: invalid int value",
    (*LOCATED, "--request-ttl-seconds", "59"): r"\n- RequestTTLSeconds: 59 is outside 60 to 21600",
    (*LOCATED, "--query", "ResponseMetadata"): "--query: .*ResponseMetadata.*OutputLocation",
    (*LOCATED, "--body", "YQ=="): "exactly one of the two.*both were given",
    (*LOCATED, "--accept", "file://missing"): "missing: cannot be read: .*No such file",
    (*LOCATED, "--accept", "file://latin"): "latin: not UTF-8; .*use fileb://",
    ("invoke-endpoint-async",): r"\n- EndpointName: is required.*\n- Body, InputLocation: ",
    (*INVOKE, "--body", "not base64!"): "Body: is not base64.*raw-in-base64-out",
    (*INVOKE, "--body", "fileb://big"): "Body: .*outside 1 to 128000; put .* S3",
    (*INVOKE, "--cli-input-json", "{"): "not JSON",
    (*INVOKE, "--cli-input-json", "file://big"): "over 1048576 bytes",
    (*INVOKE, "--cli-input-json", '{"Body": %s}' % ("[" * 9000)): "not JSON",
    (*LOCATED, "--wait", "0"): "--wait: 0.0 ",
    (*LOCATED, "--wait", "nan"): "--wait: nan ",
    (*LOCATED, "--wait", "60", "--output-file", "."): "is not a file",
    (*LOCATED, "--wait", "60", "--output-file", "no/x"): "No such file",
    (*LOCATED, "--output-file", "x"): "add --wait SECONDS",
    ("wait",): "no OutputLocation",
    ("wait", "--cli-input-json", '{"Error": {"Code": "x"}}'): "not an answer of",
    ("wait", "--cli-input-json", '{"OutputLocation": 5}'): "location '5' is not s3://bucket/key",
    ("wait", "--output-location", "https://x.example/b/k"): "is not s3://bucket/key",
    (*WAIT, "--failure-location", "s3://me@bucket/k"): "is not s3://bucket/key",
    (*WAIT, "--timeout", "-1"): "timeout: -1",
    ("put-input", "latin", "/etc/passwd"): "is not s3://bucket/key",
    ("put-input", "latin", "s3://b-1/k", "--sse", "a b"): "ServerSideEncryption",
    ("put-input", "-", "s3://my-bucket/k"): "save a pipe's data",
}  # fmt: skip


@pytest.mark.parametrize("arguments", USAGE, ids=lambda words: " ".join(words)[:70] or "nothing")
def test_252_for_what_was_asked_wrongly(desk, arguments):
    (desk.home / "latin").write_bytes(b"caf\xe9")
    (desk.home / "big").write_bytes(bytes(2_000_000))
    failed(desk.main(*arguments), 252, USAGE[arguments])
    assert not desk.emulator.requests
    assert sorted(path.name for path in desk.home.iterdir()) == ["big", "latin"]


SETUP = {  # arguments, changes to the environment, what the message says; 253 for each
    "no region": (LOCATED, NO_REGION, "no region: .*AWS_REGION"),
    "no credentials": (LOCATED, NO_KEYS, "no credentials found(.*\n)+- profile: "),
    "malformed file": (LOCATED, {"AWS_CONFIG_FILE": "malformed"}, "malformed, line 1: "),
    "password": ((*LOCATED, "--endpoint-url", "http://me:pw@x"), {}, "malformed"),
    "S3's endpoint": ((*WAIT, "--endpoint-url", "http://me:pw@x"), {}, "endpoint URL, argument,.*malf"),
}  # fmt: skip


@pytest.mark.parametrize("case", SETUP)
def test_253_for_what_is_set_up_wrongly(desk, case):
    arguments, environ, words = SETUP[case]
    (desk.home / "malformed").write_text("region = us-east-1\n")
    done = desk.main(*arguments, **environ)
    failed(done, 253, words)
    assert not desk.emulator.requests and "pw" not in done.err


AN_ERROR = "^An error occurred .* calling the InvokeEndpointAsync.*"
REFUSALS = {  # what the service does, the exit status, what the message says
    "400": (status(400, "ValidationError", "x not found"), 254, f"{AN_ERROR}: x not found"),
    "403": (status(403, "AccessDeniedException", "not you"), 254, f"{AN_ERROR}: not you"),
    "500": (status(500, "InternalFailure", "oops"), 254, rf"{AN_ERROR}retries: 1\): oops"),
    "no HTTP": (garbage(), 255, "."),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_254_for_what_the_service_refuses_and_255_without_an_answer(desk, case):
    fault, exit_status, words = REFUSALS[case]
    desk.emulator.fail(fault, fault)
    done = desk.main(*LOCATED, AWS_MAX_ATTEMPTS="2")
    failed(done, exit_status, words, hint=case == "403")
    assert ("smasync: allow sagemaker:InvokeEndpointAsync on " in done.err) == (case == "403")


def test_the_status_is_that_of_the_process_and_a_terminal_need_not_know_unicode(desk):
    assert good(desk.process("--version")) == f"smasync {smasync.__version__}\n"
    failed(desk.process("frobnicate"), 252, "invalid choice")
    snow = (*EXAMPLE, "--input-location", "s3://my-bucket/\u2603")
    assert "/\\u2603\n" in good(desk.process(*snow, environ={"PYTHONIOENCODING": "ascii"}))


if os.name == "posix":

    def test_130_for_ctrl_c_while_the_service_is_silent(desk):
        desk.emulator.fail(stall(60))
        with desk.start(*LOCATED) as running:
            wait_until(lambda: desk.emulator.requests, PATIENCE)
            running.send_signal(signal.SIGINT)
            assert end_of(running) == (130, b"", "smasync: interrupted\n")

    @pytest.mark.parametrize("arguments", [LOCATED, ("--help",)], ids=["answer", "help"])
    def test_255_for_a_closed_pipe(desk, arguments):
        reading, writing = os.pipe()
        os.close(reading)
        done = desk.process(*arguments, stdout=writing)
        os.close(writing)
        assert (done.status, done.err) == (255, "")

    @pytest.mark.parametrize(
        "arguments", [EXAMPLE, (*LOCATED, "--wait", "60")], ids=["", "--wait"]
    )
    def test_255_for_a_full_disk_behind_stdout(desk, arguments):
        command = f"{shlex.join([*PROGRAM, *arguments])} > /dev/full"
        done = desk.process(command, program=("sh", "-c"))
        assert done.status == 255 and "smasync: [Errno 28] No space left" in done.err
        assert "Traceback" not in done.err and "ignored" not in done.err


WORDS = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=12)
ALL_FLAGS = sorted({*EVERY_COMMAND.split(), *MEMBERS.split(), "--example"})


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(ALL_FLAGS) | WORDS, max_size=6))
def test_main_returns_a_known_status_whatever_it_is_asked(desk, words):
    words = [word for word in words if not word.startswith("--d")]  # no --debug: it would stay
    done = desk.main("explain", "--example", *words)
    assert done.status in (0, 252, 253, 255)
    assert bool(done.out) == (done.status == 0) and bool(done.err) == (done.status != 0)


# --- explain


def sections(text):
    """The parts of explain's output: title -> text, "" for what stands before the first."""
    before, *parts = re.split(r"(?:\A|\n\n)--- (.*)\n", text[:-1])
    return {"": before, **dict(zip(parts[::2], parts[1::2]))}


STEPS = [
    "1. Create a canonical request", "Not signed", "2. Create a hash of the canonical request",
    "3. Create a string to sign", "4. Derive a signing key",
    "5. Calculate the signature: HMAC-SHA256(kSigning, string to sign)",
    "6. Add the signature to the request", "The same with curl",
]  # fmt: skip
SCOPE = "20150830/us-east-1/sagemaker/aws4_request"


def unlabelled(text):
    """The lines of a part of explain's output, without their labels."""
    return "\n".join([line[25:] for line in text.split("\n")])


def test_the_example_prints_the_published_signature_in_the_order_of_its_computation(desk):
    text = good(desk.main(*EXAMPLE))
    parts = sections(text)
    assert list(parts) == ["", *STEPS]
    canonical, to_sign = unlabelled(parts[STEPS[0]]), unlabelled(parts[STEPS[3]])
    assert parts[STEPS[2]] == hashlib.sha256(canonical.encode()).hexdigest()
    assert to_sign == f"AWS4-HMAC-SHA256\n20150830T123600Z\n{SCOPE}\n{parts[STEPS[2]]}"
    key = f"AWS4{smasync.EXAMPLE_CREDENTIALS.secret_access_key}".encode()
    names = ("kDate", "kRegion", "kService", "kSigning")
    for name, text in zip(names, SCOPE.split("/")):
        key = hmac.new(key, text.encode(), "sha256").digest()
        (shown,) = re.findall(f'(?m)^{name} .*, "{text}"\\)\n += ([0-9a-f]+)$', parts[STEPS[4]])
        assert shown == key.hex()
    secret = smasync.EXAMPLE_CREDENTIALS.secret_access_key
    assert parts[STEPS[4]].startswith(f'kDate    = HMAC-SHA256("AWS4{secret}", "20150830")\n')
    assert " \n" not in text
    signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
    assert parts[STEPS[5]] == signature == EXAMPLE_SIGNATURE
    assert f"Signature={EXAMPLE_SIGNATURE}" in parts[STEPS[6]]


def test_the_example_labels_each_line_and_says_what_is_not_signed_and_why(desk):
    parts = sections(good(desk.main(*EXAMPLE)))
    labels = [line.partition("|")[0].strip() for line in parts[STEPS[0]].splitlines()]
    assert labels[:4] == [
        "HTTPMethod", "CanonicalUri", "CanonicalQueryString", "CanonicalHeaders",
    ]  # fmt: skip
    assert labels[-2:] == ["SignedHeaders", "HashedPayload"] and not any(labels[4:-2])
    signed = unlabelled(parts[STEPS[0]]).split("\n")[-2].split(";")
    sent = [line.partition(":")[0] for line in parts[STEPS[6]].splitlines()[1:]]
    reasons = [line.split("|") for line in parts["Not signed"].splitlines()]
    assert [name.strip() for name, _ in reasons] == [n for n in sent if n.lower() not in signed]
    why = {name.strip(): reason.strip() for name, reason in reasons}
    assert why["Authorization"] == "it carries the signature" and len(why) == 3
    assert "when it is 0" in why["Content-Length"] and why["User-Agent"].startswith("proxies")
    assert f"User-Agent: smasync/{smasync.__version__}\n" in parts[STEPS[6]]


def test_the_example_shows_the_hard_rules(desk):
    """A run of spaces collapses where it is signed, not where it is sent; the body is hashed."""
    key = desk.main(*EXAMPLE[:2], *INVOKE[1:], "--input-location", "s3://my-bucket/a  b")
    parts = sections(good(key))
    assert "inputlocation:s3://my-bucket/a b" in parts[STEPS[0]]
    assert "InputLocation: s3://my-bucket/a  b" in parts[STEPS[6]]
    parts = sections(good(desk.main(*EXAMPLE, "--custom-attributes", "tenant-7")))
    assert all("tenant-7" in parts[STEPS[number]] for number in (0, 6, 7))
    body = "[1, 'ü\x1b']"
    parts = sections(good(desk.main(*EXAMPLE[:2], *INVOKE[1:], "--body", body, *RAW)))
    assert unlabelled(parts[STEPS[0]]).endswith(hashlib.sha256(body.encode()).hexdigest())
    assert f"content-length:{len(body.encode())}\n" in unlabelled(parts[STEPS[0]])
    assert parts[STEPS[6]].endswith(r"""[1, '\xc3\xbc\x1b']""")  # no byte for a terminal to obey


def test_the_example_is_the_same_everywhere_and_does_not_even_load_the_network(desk):
    here = {"AWS_PROFILE": "nobody", "AWS_SDK_UA_APP_ID": "app", "AWS_CONFIG_FILE": "missing"}
    # PyPy's hashlib loads the network, so what is there without smasync does not count.
    before = "import hashlib, sys; before = '_socket' in sys.modules"
    after = (
        "import smasync; smasync.main(sys.argv[1:]); print(('_socket' in sys.modules) > before)"
    )
    program = f"{before}; {after}"
    told = good(desk.process(*EXAMPLE, program=(sys.executable, "-c", program)))
    assert told == good(desk.main(*EXAMPLE, **here)) + "False\n"


def test_explain_shows_no_secret_and_opens_no_connection(desk):
    members = (*INVOKE[1:], "--body", "a body", "--custom-attributes", "tenant-7", *RAW)
    parts = sections(good(desk.main("explain", *members, AWS_SESSION_TOKEN=TOKEN)))
    key = smasync.signing_key(SECRET, unlabelled(parts[STEPS[3]]).split("\n")[2])
    shown = (TOKEN, SECRET, key.hex(), base64.b64encode(key).decode(), repr(key))
    for secret in (*shown, "a body", "tenant-7"):
        assert secret not in str(parts)
    rounds = parts[STEPS[4]].split("\n")
    assert rounds[0].startswith('kDate    = HMAC-SHA256("AWS4" + secret access key, "')
    assert [line.split()[0] for line in rounds] == ["kDate", "kRegion", "kService", "kSigning"]
    assert all(re.fullmatch(r'k\w+ +=  ?HMAC-SHA256\([^()]+, "[\w-]+"\)', line) for line in rounds)
    for length in (len(TOKEN), len("tenant-7")):
        shown = f"<hidden, {length} characters>"
        assert parts[STEPS[0]].count(shown) == parts[STEPS[6]].count(shown) == 1
    assert parts[STEPS[6]].endswith("\n\n<the body>")
    assert desk.emulator.connections == 0


OF_A_PROFILE = {**NO_REGION, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": None}
PROVENANCE = {  # flags, environment: what is said of region, endpoint, credentials, their end
    "environment": (
        (), {"AWS_CREDENTIAL_EXPIRATION": "2099-01-02T03:04:05Z"},
        "AWS_REGION", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "environment", "2099-01-02T03:04:05Z"),
    "flags": (
        ("--region", "us-west-2", "--endpoint-url", "http://x"), {},
        "argument", "argument", "environment"),
    "profile": (("--profile", "dev"), OF_A_PROFILE, "profile 'dev'", "the region", "profile"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROVENANCE)
def test_explain_says_where_settings_come_from(desk, case):
    flags, environ, *sources = PROVENANCE[case]
    (desk.home / ".aws").mkdir()
    (desk.home / ".aws" / "config").write_text("[profile dev]\nregion = eu-west-1\n")
    keys = "aws_access_key_id = AKIDDEV\naws_secret_access_key = dev-secret\n"
    (desk.home / ".aws" / "credentials").write_text(f"[dev]\n{keys}")
    preface = sections(good(desk.main("explain", *JSON_LOCATED, *flags, **environ)))[""]
    names = ("region from: ", "endpoint from: ", "credentials from: ", "credentials end at: ")
    for name, source in zip(names, sources):
        assert re.search(f"(?m)^{name}.*{source}", preface), preface
    assert preface.count("credentials end") == (len(sources) == 4) and "default" not in preface


if shutil.which("curl") and shutil.which("sh"):
    ATTRIBUTES = "'\"$HOME`id`\\ ;"
    CURL = {  # flags, and the member or body that arrives
        "location": (("--input-location", "s3://my-bucket/a b/é&c='d'"), "s3://my-bucket/a b/é&c='d'"),
        "quotes": (("--input-location", "s3://b/'\"$HOME`id`\\ ;"), "s3://b/'\"$HOME`id`\\ ;"),
        "attributes": (("--body", "a", "--custom-attributes", ATTRIBUTES), ATTRIBUTES),
        "lines": (("--body", "two\nlines, <it's $5>\n"), b"two\nlines, <it's $5>\n"),
    }  # fmt: skip

    @pytest.mark.parametrize("case", CURL)
    def test_the_curl_command_sends_the_printed_request(desk, case):
        flags, expected = CURL[case]
        desk.emulator.accounts = {KEY_ID: Account(SECRET, TOKEN)}
        explain = ("explain", *INVOKE[1:], *flags, *RAW)
        parts = sections(good(desk.main(*explain, AWS_SESSION_TOKEN=TOKEN)))
        if isinstance(expected, bytes):
            (desk.home / "BODY").write_bytes(expected)
        elif "--body" in flags:
            (desk.home / "BODY").write_text("a")
        command = f"{parts['The same with curl']} -sS -m 20 -w '\\n%{{http_code}}'"
        hidden = {"AWS_SESSION_TOKEN": TOKEN, "CUSTOM_ATTRIBUTES": ATTRIBUTES}
        environ = desk.environ({"PATH": os.environ["PATH"], **hidden})
        told = subprocess.check_output(["sh", "-c", command], env=environ, cwd=desk.home)
        assert told.endswith(b"\n202"), told
        (inference,) = desk.emulator.ledger
        assert expected in (inference.body, *inference.members.values())
        raw = inference.received.raw.decode().replace("\r\n", "\n")
        request = parts[STEPS[6]].replace("<the body>", (inference.body or b"").decode())
        for value in hidden.values():
            request = request.replace(f"<hidden, {len(value)} characters>", value)
        assert all(f"{line}\n" in f"{raw}\n" for line in request.split("\n"))


# --- wait, and --wait


def fail_model(body, content_type):
    raise ValueError("the input holds a dragon")


@pytest.mark.parametrize("before", [None, b"old" * 1000], ids=["new", "replaced"])
def test_a_result_goes_byte_for_byte_to_stdout_or_to_a_file(desk, before):
    desk.emulator.put(RESULT, EVERY_BYTE * 5000)
    wait = ("wait", "--output-location", RESULT)
    assert desk.main(*wait) == (0, EVERY_BYTE * 5000, "")
    if before:
        (desk.home / "out.bin").write_bytes(before)
    assert desk.main(*wait, "--output-file", "out.bin") == (0, b"", "")
    assert (desk.home / "out.bin").read_bytes() == EVERY_BYTE * 5000
    assert sorted(path.name for path in desk.home.iterdir()) == ["out.bin"]


def test_wait_takes_what_invoke_endpoint_async_printed_and_flags_beat_it(desk):
    printed = good(desk.main(*LOCATED))
    (desk.home / "job.json").write_text(printed)
    result = desk.emulator.get(desk.answer["OutputLocation"])
    for job in ("file://job.json", printed):
        assert desk.main("wait", "--cli-input-json", job) == (0, result, "")
    desk.emulator.put(RESULT, b"good")
    flags = ("--output-location", RESULT)
    assert desk.main("wait", "--cli-input-json", printed, *flags).out == b"good"


def test_with_wait_the_result_goes_to_stdout_or_a_file_and_the_answer_to_stderr(desk):
    desk.emulator.model = lambda body, kind: EVERY_BYTE
    done = desk.main(*LOCATED, "--wait", "60", "--output-file", "out.bin", "--output", "text")
    values = [text for _, text in sorted(desk.answer.items())]
    assert done == (0, b"", "\t".join(values) + "\n")
    assert (desk.home / "out.bin").read_bytes() == EVERY_BYTE
    desk.emulator.latency = 0.2
    done = desk.main(*LOCATED, "--wait", "60")
    assert done == (0, EVERY_BYTE, in_json(desk.answer))


def test_3_for_a_failed_inference_and_the_answer_is_kept(desk):
    desk.emulator.model = fail_model
    done = desk.main(*LOCATED, "--wait", "60", "--output-file", "out.bin")
    said, _, message = done.err.partition("smasync: ")
    assert (done.status, done.out, said) == (3, b"", in_json(desk.answer))
    assert message.startswith("the inference failed: the input holds a dragon (s3://")
    failed(desk.main("wait", "--cli-input-json", said), 3, "the inference failed: the input holds")
    assert not list(desk.home.iterdir())


def test_4_for_an_inference_that_is_still_running_and_can_be_waited_for_again(desk):
    may_end, model = threading.Event(), desk.emulator.model
    desk.emulator.model = lambda *given: may_end.wait(60) and model(*given)
    desk.emulator.latency = 0.01
    started = time.monotonic()
    done = desk.main(*LOCATED, "--wait", "0.3", "--output-file", "out.bin")
    assert time.monotonic() - started >= 0.15
    said, _, message = done.err.partition("smasync: ")
    assert (done.status, done.out, said) == (4, b"", in_json(desk.answer))
    assert message.startswith(f"nothing at {desk.answer['OutputLocation']} after ")
    assert not list(desk.home.iterdir()) and len(desk.emulator.ledger) == 1
    may_end.set()
    desk.emulator.drain()
    assert b'"count": 3' in desk.main("wait", "--cli-input-json", said).out


def test_254_with_a_hint_for_those_who_may_not_list(desk):
    desk.emulator.may_list = False
    done = desk.main(*WAIT, "--timeout", "0.2")
    failed(done, 254, "AccessDenied", hint=True)
    assert "s3:ListBucket" in done.err


CLOSED = {  # arguments, what of theirs is closed, what is on stdout and on stderr
    "no stdout": (("wait", "--output-location", RESULT), ">&-", b"", ""),
    "no stderr": (("wait", "--output-location", RESULT), "2>&-", EVERY_BYTE, ""),
    "neither": (("wait", "--output-location", RESULT), ">&- 2>&-", b"", ""),
    "--wait without stdout": ((*LOCATED, "--wait", "60"), ">&-", b"", "the answer"),
    "--wait without stderr": ((*LOCATED, "--wait", "60"), "2>&-", None, ""),  # of the emulator
}

if os.name == "posix":

    def test_on_a_terminal_stderr_says_for_how_long_it_has_waited_and_wipes_it(desk):
        desk.emulator.latency = 0.4
        done = desk.on_terminal(*LOCATED, "--wait", "60")
        assert done.status == 0 and b'"count": 3' in done.out
        assert done.err.startswith(in_json(desk.answer))
        told = done.err[len(in_json(desk.answer)) :]
        look = r"\rwaited [0-9]{1,2} s; next try in [0-9]{1,2} s\r {28,30}\r"
        assert re.fullmatch(f"({look}){{1,2}}", told), told

    @pytest.mark.parametrize("case", CLOSED)
    def test_wait_works_where_stdout_or_stderr_is_closed(desk, case):
        arguments, closed, out, err = CLOSED[case]
        desk.emulator.put(RESULT, EVERY_BYTE)
        done = desk.process(f"{shlex.join([*PROGRAM, *arguments])} {closed}", program=("sh", "-c"))
        out = desk.emulator.get(desk.answer["OutputLocation"]) if out is None else out
        assert done == (0, out, in_json(desk.answer) if err else "")


NOTEBOOK = """
import sys, smasync
class Cell:  # a stdout that takes text alone
    text = ""
    def write(self, text):
        self.text += text
    def flush(self):
        pass
cell = sys.stdout = Cell()
status = smasync.main(sys.argv[1:])
sys.__stdout__.buffer.write(f"{status} {cell.text}".encode())
"""


def test_where_stdout_takes_no_bytes_the_text_of_the_result_is_printed(desk):
    desk.emulator.put(RESULT, "né\n".encode() + b"\xff")
    wait = ("wait", "--output-location", RESULT)
    done = desk.process(*wait, program=(sys.executable, "-c", NOTEBOOK))
    assert good(done) == "0 né\n\ufffd"


# --- put-input


@pytest.mark.parametrize("key", ["a b/é&c='d'+%20.json", "../x/./☃?acl#x"])
def test_the_printed_location_is_what_input_location_takes(desk, key):
    (desk.home / "in").write_bytes(b"[5, 6, 7, 8]")
    printed = good(desk.main("put-input", "in", f"s3://my-bucket/{key}"))
    assert printed == f"s3://my-bucket/{key}\n"
    good(desk.main(*INVOKE, "--input-location", printed[:-1]))
    assert b'"count": 4' in desk.emulator.get(desk.answer["OutputLocation"])


def test_an_input_arrives_byte_for_byte_as_what_it_is_and_encrypted(desk):
    (desk.home / "in.bin").write_bytes(EVERY_BYTE * 5000)
    put = ("put-input", "~/in.bin", "s3://my-bucket/x", "--content-type", "text/csv")
    good(desk.main(*put, "--sse", "aws:kms:dsse", "--sse-kms-key-id", "alias/my-key"))
    stored = desk.emulator.objects["s3://my-bucket/x"]
    assert (stored.body, stored.content_type) == (EVERY_BYTE * 5000, "text/csv")
    header = desk.emulator.requests[-1].header
    assert header("x-amz-server-side-encryption") == "aws:kms:dsse"
    assert header("x-amz-server-side-encryption-aws-kms-key-id") == "alias/my-key"


@pytest.mark.parametrize("of_s3", [None, NOWHERE], ids=["unset", "another"])
def test_endpoint_url_is_s3_s_for_commands_that_ask_s3_alone(desk, of_s3):
    where = ("--endpoint-url", desk.emulator.url)
    environ = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": NOWHERE, "AWS_ENDPOINT_URL_S3": of_s3}
    (desk.home / "in").write_bytes(b"x")
    assert good(desk.main("put-input", "in", RESULT, *where, **environ)) == f"{RESULT}\n"
    assert desk.main("wait", "--output-location", RESULT, *where, **environ) == (0, b"x", "")


def test_endpoint_url_with_wait_is_sagemaker_s(desk):
    where = ("--endpoint-url", desk.emulator.url, "--wait")
    environ = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": NOWHERE, "AWS_MAX_ATTEMPTS": "1"}
    assert desk.main(*LOCATED, *where, "60", **environ).status == 0
    assert desk.main(*LOCATED, *where, "0.3", **environ, AWS_ENDPOINT_URL_S3=NOWHERE).status == 4
    assert len(desk.emulator.ledger) == 2
