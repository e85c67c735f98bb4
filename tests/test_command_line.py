"""Command line: real processes, their flags, what they print and where, and their exit statuses."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import inspect
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from emulator import Account, Emulator, answer, environment, garbage, login_page, stall, status
from hypothesis import given
from hypothesis import strategies as st

import smasync

MODULE = Path(smasync.__file__).resolve()
CERTIFICATE = Path(__file__).with_name("loopback.pem")
KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEExample/Token+with=signs"
INVOKE = ("invoke-endpoint-async", "--endpoint-name", "my-endpoint")
LOCATED = (*INVOKE, "--input-location", "s3://my-bucket/in.json")
JSON_LOCATED = (*LOCATED[1:], "--content-type", "application/json")
EXAMPLE = ("explain", "--example", *JSON_LOCATED)
EXAMPLE_SIGNATURE = "2af7c0c9556151283d407ec3477d2d307ef5a09aa0a188213f5aa2f88058fdc2"
# Windows starts no socket without SYSTEMROOT; nothing else of this process's environment is used.
BARE = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}

# the AWS CLI's flag, the member it sets, a value
MEMBER_FLAGS = (
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
OTHER_FLAGS = """
    --ca-bundle --cli-binary-format --cli-connect-timeout --cli-input-json --cli-read-timeout
    --color --debug --endpoint-url --generate-cli-skeleton --no-cli-pager --no-paginate
    --no-verify-ssl --output --profile --query --region
""".split()


@pytest.fixture
def emulator():
    with Emulator() as running:
        yield running


@pytest.fixture
def run(emulator, tmp_path):
    """Runs a command against the emulator, in an environment with nothing else in it."""

    def run(*arguments, **environ):
        return process(arguments, environ_of(emulator, tmp_path, **environ), cwd=tmp_path)

    return run


def environ_of(emulator, home, **more):
    """A complete environment; a variable given as None is left out."""
    environ = {
        **BARE,
        **environment(emulator),
        "HOME": str(home),
        "USERPROFILE": str(home),
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }
    return {name: value for name, value in environ.items() if value is not None}


def process(arguments, environ, warnings="error", **options):
    """What became of `python3 smasync.py …`; a warning would be on its stderr."""
    command = [sys.executable, "-W", warnings, str(MODULE), *map(str, arguments)]
    return subprocess.run(
        command, env=environ, capture_output=True, encoding="utf-8", timeout=60, **options
    )


def good(done):
    """The stdout of a command that went well, and that said nothing else."""
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def failed(done, exit_status, words, hint=""):
    """Nothing on stdout, one message on stderr: usage before it, list items and a hint after it."""
    assert "Traceback" not in done.stderr, done.stderr
    assert all(line.isprintable() for line in done.stderr.split("\n")), done.stderr
    assert (done.returncode, done.stdout) == (exit_status, ""), done
    before, *after = re.split(r"(?m)^smasync.*?: ", done.stderr)
    assert re.fullmatch(r"(usage: .*\n( .*\n)*)?", before), done.stderr
    assert after[1:] == ([f"{hint}\n"] if hint else []), done.stderr
    assert re.fullmatch(r".{10,}\n(- .*\n)*", after[0]), done.stderr
    assert re.search(words, after[0], re.IGNORECASE), done.stderr


# --- Flags


def test_every_member_has_a_flag_in_the_table_above_a_row_and_a_keyword():
    names = {name for _, name, _ in MEMBER_FLAGS}
    call = inspect.signature(smasync.Client.invoke_endpoint_async).parameters.values()
    keywords = {parameter.name for parameter in call if parameter.kind == parameter.KEYWORD_ONLY}
    assert keywords == {*names, "timeout"}
    assert {member.name for member in smasync.INVOKE_ENDPOINT_ASYNC} == names


@pytest.mark.parametrize("command", ["invoke-endpoint-async", "explain"])
def test_help_lists_every_flag_of_the_aws_cli(command):
    listed = set(re.findall(r"--[a-z0-9-]+", good(process((command, "--help"), BARE))))
    assert listed >= {flag for flag, _, _ in MEMBER_FLAGS} | set(OTHER_FLAGS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_members_is_read_as_powershell_writes_it(run, emulator, tmp_path, encoding):
    path = tmp_path / "members.json"
    path.write_text('{"EndpointName": "e", "InputLocation": "s3://b/\u00fc"}', encoding=encoding)
    good(run("invoke-endpoint-async", "--cli-input-json", f"file://{path}"))
    assert emulator.ledger[0].members["InputLocation"] == "s3://b/\u00fc"


@pytest.mark.parametrize("source", ["Body", "InputLocation"])
def test_every_member_flag_arrives_in_its_member(run, emulator, source):
    absent = {"Body": "InputLocation", "InputLocation": "Body"}[source]
    rows = [row for row in MEMBER_FLAGS if row[1] != absent]
    good(run("invoke-endpoint-async", *(word for flag, _, text in rows for word in (flag, text))))
    (inference,) = emulator.ledger
    assert inference.members == {name: text for _, name, text in rows if name != "Body"}
    assert inference.body == (b'{"a": 1}' if source == "Body" else None)


def test_version_is_the_module_s():
    assert good(process(["--version"], BARE)) == f"smasync {smasync.__version__}\n"


def test_other_flags_of_the_aws_cli_are_accepted(run, emulator):
    good(run(*LOCATED, "--no-paginate", "--no-cli-pager", "--color", "off"))
    assert len(emulator.ledger) == 1


# --- Output


def expected_answer(emulator):
    (inference,) = emulator.ledger
    return {
        "OutputLocation": inference.output_location,
        "FailureLocation": inference.failure_location,
        "InferenceId": inference.inference_id,
    }


def test_json_is_indented_by_4_and_without_metadata(run, emulator):
    printed = good(run(*LOCATED))
    assert printed == json.dumps(expected_answer(emulator), indent=4) + "\n"
    assert good(run(*LOCATED, "--output", "json")).count("\n    ") == 3


def test_text_is_the_values_in_key_order_between_tabs(run, emulator):
    printed = good(run(*LOCATED, "--output", "text"))
    assert printed == "\t".join(text for _, text in sorted(expected_answer(emulator).items())) + (
        "\n"
    )


@pytest.mark.parametrize("member", ["OutputLocation", "FailureLocation", "InferenceId"])
@pytest.mark.parametrize("output", ["json", "text"])
def test_query_prints_one_member(run, emulator, member, output):
    printed = good(run(*LOCATED, "--query", member, "--output", output))
    value = expected_answer(emulator)[member]
    assert printed == {"json": f'"{value}"\n', "text": f"{value}\n"}[output]


@pytest.mark.parametrize(("output", "nothing"), [("json", "null\n"), ("text", "None\n")])
def test_query_for_a_member_that_the_answer_lacks(run, emulator, output, nothing):
    head = "HTTP/1.1 202 Accepted\r\nX-Amzn-SageMaker-OutputLocation: s3://b/k\r\n"
    emulator.fail(answer(f"{head}Content-Length: 2\r\n\r\n{{}}".encode()))
    assert good(run(*LOCATED, "--query", "FailureLocation", "--output", output)) == nothing


@pytest.mark.parametrize(
    ("flags", "secret"),
    [((), TOKEN), ((), SECRET), (("--custom-attributes", "tenant-7"), "tenant-7")],
)
def test_debug_goes_to_stderr_and_shows_no_secret(run, emulator, flags, secret):
    emulator.accounts = {KEY_ID: Account(SECRET, TOKEN)}
    done = run(*LOCATED, *flags, "--debug", AWS_SESSION_TOKEN=TOKEN)
    printed = json.dumps(expected_answer(emulator), indent=4) + "\n"
    assert (done.returncode, done.stdout) == (0, printed)
    assert "AWS4-HMAC-SHA256" in done.stderr and "answer: <Response 202" in done.stderr
    assert secret not in done.stderr


def test_debug_does_not_show_the_body(run):
    body = ("--body", "patient 42", "--cli-binary-format", "raw-in-base64-out")
    done = run(*INVOKE, *body, "--debug")
    assert done.returncode == 0 and "AWS4-HMAC-SHA256" in done.stderr
    assert "patient 42" not in done.stderr


# --- Parameters


def test_body_is_base64_as_the_aws_cli_v2_has_it(run, emulator):
    good(run(*INVOKE, "--body", base64.b64encode(bytes(range(256))).decode()))
    assert emulator.ledger[0].body == bytes(range(256))


def test_body_is_text_with_raw_in_base64_out(run, emulator):
    good(run(*INVOKE, "--body", "né", "--cli-binary-format", "raw-in-base64-out"))
    assert emulator.ledger[0].body == "né".encode()


@pytest.mark.parametrize("binary_format", ["base64", "raw-in-base64-out"])
def test_body_from_fileb_is_the_file_byte_for_byte(run, emulator, tmp_path, binary_format):
    (tmp_path / "in.bin").write_bytes(b"\r\n\0\xff" + bytes(127_996))
    good(run(*INVOKE, "--body", "fileb://in.bin", "--cli-binary-format", binary_format))
    assert emulator.ledger[0].body == b"\r\n\0\xff" + bytes(127_996)


def test_body_from_file_is_text_in_the_binary_format(run, emulator, tmp_path):
    (tmp_path / "in.b64").write_text("YWJj")
    good(run(*INVOKE, "--body", "file://in.b64"))
    good(run(*INVOKE, "--body", "file://in.b64", "--cli-binary-format", "raw-in-base64-out"))
    assert [inference.body for inference in emulator.ledger] == [b"abc", b"YWJj"]


def test_file_parameters_are_read_relative_absolute_and_from_home(run, emulator, tmp_path):
    (tmp_path / "text").write_text("s3://my-bucket/in.json")
    for path in ("text", str(tmp_path / "text"), "~/text"):
        good(run(*INVOKE, "--input-location", f"file://{path}"))
    locations = [inference.input_location for inference in emulator.ledger]
    assert locations == ["s3://my-bucket/in.json"] * 3


def test_cli_input_json_is_text_or_a_file(run, emulator, tmp_path):
    members = {"EndpointName": "from-json", "InputLocation": "s3://b/k", "RequestTTLSeconds": 60}
    (tmp_path / "in.json").write_text(json.dumps(members))
    good(run("invoke-endpoint-async", "--cli-input-json", json.dumps(members)))
    good(run("invoke-endpoint-async", "--cli-input-json", "file://in.json"))
    for inference in emulator.ledger:
        assert inference.members == {**members, "RequestTTLSeconds": "60"}


def test_the_command_line_overrides_cli_input_json(run, emulator):
    members = {"EndpointName": "from-json", "InputLocation": "s3://b/k", "Accept": "text/csv"}
    good(run(*INVOKE, "--cli-input-json", json.dumps(members), "--accept", "text/plain"))
    (inference,) = emulator.ledger
    assert inference.members == {
        "EndpointName": "my-endpoint", "InputLocation": "s3://b/k", "Accept": "text/plain"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "sent"), [("AAH/", b"\0\1\xff"), ({"a": ["é", 1.5]}, None), ([1, {"b": None}], None)]
)
def test_body_in_json_is_base64_or_json_to_be_sent(run, emulator, given, sent):
    good(run(*INVOKE, "--cli-input-json", json.dumps({"Body": given})))
    body = emulator.ledger[0].body
    assert body == sent if isinstance(given, str) else json.loads(body) == given


@pytest.mark.parametrize("arguments", [(), ("input",), ("output",)])
def test_skeletons_are_json_with_all_members_and_need_nothing(arguments):
    flags = ("invoke-endpoint-async", "--generate-cli-skeleton", *arguments)
    members = json.loads(good(process(flags, BARE)))
    if arguments == ("output",):
        assert sorted(members) == ["FailureLocation", "InferenceId", "OutputLocation"]
        assert set(members.values()) == {""}
    else:
        blank = {"string": "", "integer": 0, "blob": None}
        assert members == {
            member.name: blank[member.type] for member in smasync.INVOKE_ENDPOINT_ASYNC
        }


# --- Where to, and as whom


def test_endpoint_url_beats_the_environment(run, emulator):
    url = "http://127.0.0.1:9/nowhere"
    good(run(*LOCATED, "--endpoint-url", emulator.url, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=url))
    assert len(emulator.ledger) == 1


def test_region_beats_the_environment(run, emulator):
    emulator.region = "eu-central-1"
    failed(run(*LOCATED, AWS_REGION="us-east-1"), 254, "scoped to a valid region")
    good(run(*LOCATED, "--region", "eu-central-1", AWS_REGION="us-east-1"))


def test_profile_beats_the_keys_in_the_environment(run, emulator, tmp_path):
    emulator.accounts = {"AKIDOTHER": Account("other-secret")}
    emulator.region = "eu-west-3"
    (tmp_path / "config").write_text(
        f"[profile other]\nregion = eu-west-3\nendpoint_url = {emulator.url}\n"
        "aws_access_key_id = AKIDOTHER\naws_secret_access_key = other-secret\n"
    )
    names = ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "AWS_REGION", "AWS_DEFAULT_REGION")
    unset = dict.fromkeys(names)
    good(run(*LOCATED, "--profile", "other", AWS_CONFIG_FILE=str(tmp_path / "config"), **unset))
    assert len(emulator.ledger) == 1


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        (("--ca-bundle", CERTIFICATE), {}),
        (("--no-verify-ssl",), {}),
        ((), {"AWS_CA_BUNDLE": str(CERTIFICATE)}),
    ],
)
def test_tls_with_a_private_authority(tmp_path, flags, environ):
    with Emulator(tls=True) as emulator:
        environ = environ_of(emulator, tmp_path, **environ)
        done = process((*LOCATED, *flags), environ, warnings="default")
        assert done.returncode == 0 and len(emulator.ledger) == 1
        assert done.stderr.count("not verified") == ("--no-verify-ssl" in flags)


@pytest.mark.parametrize(
    ("flags", "exit_status", "words"),
    [
        ((), 255, "certificate verify failed.*AWS_CA_BUNDLE"),
        (("--ca-bundle", "missing.pem"), 253, "CA bundle missing.pem: "),
    ],
)
def test_tls_is_verified_unless_told_otherwise(tmp_path, flags, exit_status, words):
    with Emulator(tls=True) as emulator:
        done = process((*LOCATED, *flags), environ_of(emulator, tmp_path), cwd=tmp_path)
        assert not emulator.requests
    failed(done, exit_status, words)


def test_time_limits_are_settable(run, emulator):
    emulator.fail(stall(30))
    started = time.monotonic()
    done = run(*LOCATED, "--cli-read-timeout", "0.3", AWS_MAX_ATTEMPTS="1")
    failed(done, 255, "no answer: .*(timed out|time limit)")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("which", ["read", "connect"])
def test_a_time_limit_of_0_is_none_as_in_the_aws_cli(run, which):
    good(run(*LOCATED, f"--cli-{which}-timeout", "0", AWS_MAX_ATTEMPTS="1"))


# --- Exit statuses

USAGE = {  # arguments: what the message says; 252 for each, and nothing is sent
    (): "required: COMMAND",
    ("frobnicate",): "invalid choice: 'frobnicate'",
    ("--endpoint-name", "x"): "required: COMMAND|invalid choice|unrecognized",
    (*LOCATED, "--bogus"): "unrecognized arguments: --bogus",
    (*LOCATED, "stray"): "unrecognized arguments: stray",
    (*LOCATED, "--region"): "--region: expected one argument",
    (*LOCATED, "--output", "yaml"): "--output: invalid choice: 'yaml'",
    (*LOCATED, "--cli-binary-format", "hex"): "--cli-binary-format: invalid choice: 'hex'",
    (*LOCATED, "--request-ttl-seconds", "soon"): "--request-ttl-seconds: invalid int value",
    (*LOCATED, "--cli-read-timeout", "soon"): "--cli-read-timeout: invalid float value",
    (*LOCATED, "--request-ttl-seconds", "59"): r"\n- RequestTTLSeconds: 59 is under 60",
    (*LOCATED, "--query", "Bogus"): "--query: .*Bogus.*OutputLocation",
    (*LOCATED, "--query", "ResponseMetadata"): "--query: .*ResponseMetadata.*OutputLocation",
    (*LOCATED, "--body", "YQ=="): "exactly one of the two.*both were given",
    (*LOCATED, "--accept", "file://missing"): "missing: .*no such file",
    (*LOCATED, "--accept", "file://."): r"\.: .*(directory|denied)",
    (*LOCATED, "--accept", "file://latin"): "latin: .*utf-8",
    ("invoke-endpoint-async",): r"\n- EndpointName: is required.*\n- Body, InputLocation: ",
    INVOKE: r"\n- Body, InputLocation: .*neither was given",
    (*INVOKE, "--body", "not base64!"): "Body: is not base64.*raw-in-base64-out",
    (*INVOKE, "--body", "fileb://missing"): "missing: .*no such file",
    (*INVOKE, "--body", "fileb://."): r"\.: .*(directory|denied)",
    (*INVOKE, "--body", "fileb://big"): "Body: .*over 128000; put it in S3",
    (*INVOKE, "--cli-input-json", "{"): "not JSON",
    (*INVOKE, "--cli-input-json", "[]"): "not a JSON object",
    (*INVOKE, "--cli-input-json", "file://missing"): "missing: .*no such file",
    (*INVOKE, "--cli-input-json", '{"Body": "?"}'): "Body: is not base64",
    (*INVOKE, "--cli-input-json", '{"Endpointname": "x"}'): "Endpointname: .*mean EndpointName",
    (*INVOKE, "--cli-input-json", '{"RequestTTLSeconds": "60"}'): "expected int, got str",
    (*INVOKE, "--cli-input-json", '{"Body": %s}' % ("[" * 9000)): "not JSON",
}  # fmt: skip


@pytest.mark.parametrize(
    "arguments", USAGE, ids=lambda words: " ".join(words[-2:])[:60] or "nothing"
)
def test_252_for_what_was_asked_wrongly(run, emulator, tmp_path, arguments):
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "big").write_bytes(bytes(2_000_000))
    failed(run(*arguments), 252, USAGE[arguments])
    assert not emulator.requests


NO_KEYS = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
NO_REGION = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}
SETUP = {  # flags, changes to the environment, what the message says; 253 for each
    "no region": ((), NO_REGION, "no region: .*AWS_REGION"),
    "no credentials": ((), NO_KEYS, "no credentials found(.*\n)+- profile: "),
    "half a pair": ((), {"AWS_SECRET_ACCESS_KEY": None}, "AWS_SECRET_ACCESS_KEY"),
    "a copied line break": ((), {"AWS_SECRET_ACCESS_KEY": "abc\n"}, "position 3 of 4"),
    "unknown profile": (("--profile", "nobody"), {}, "profile 'nobody'.*there are: none"),
    "unknown AWS_PROFILE": ((), {"AWS_PROFILE": "nobody"}, "'nobody'.* AWS_PROFILE"),
    "malformed file": ((), {"AWS_CONFIG_FILE": "malformed"}, "malformed, line 1: "),
    "unreadable file": (("--profile", "x"), {"AWS_CONFIG_FILE": "."}, "cannot be read"),
    "malformed region": (("--region", "evil.example/"), {}, "'evil.example/' is not a region"),
    "malformed endpoint": (("--endpoint-url", "ftp://x"), {}, "'ftp://x' is malformed"),
    "password in endpoint": (("--endpoint-url", "http://me:pw@x"), {}, "malformed"),
}


@pytest.mark.parametrize("case", SETUP)
def test_253_for_what_is_set_up_wrongly(run, emulator, tmp_path, case):
    flags, environ, words = SETUP[case]
    (tmp_path / "malformed").write_text("region = us-east-1\n")
    done = run(*LOCATED, *flags, **environ)
    failed(done, 253, words)
    assert not emulator.requests and "pw" not in done.stderr


REFUSALS = {  # what the service does, what the message says; 254 for each
    "400": (status(400, "ValidationError", "Endpoint x not found"), "ValidationError.*x not fo"),
    "403": (status(403, "AccessDeniedException", "not you"), "AccessDeniedException.*: not you"),
    "500": (status(500, "InternalFailure", "oops"), r"InternalFailure.*max retries: 1\): oops"),
    "503 with HTML": (status(503, body=b"<html>"), r"\(503\)"),
    "302": (answer(b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n"), r"\(302\)"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_254_for_what_the_service_refuses(run, emulator, case):
    fault, words = REFUSALS[case]
    emulator.fail(fault, fault)
    done = run(*LOCATED, AWS_MAX_ATTEMPTS="2")
    words = f"^An error occurred .* calling the InvokeEndpointAsync.*{words}|{words}"
    failed(done, 254, words, smasync.HINTS["AccessDeniedException"] if case == "403" else "")


def test_254_for_a_wrong_secret(run):
    done = run(*LOCATED, AWS_SECRET_ACCESS_KEY="wrong")
    assert (done.returncode, done.stdout) == (254, "")
    assert done.stderr.startswith("smasync: An error occurred (InvalidSignatureException)")


@pytest.mark.parametrize("fault", [garbage(), login_page()], ids=lambda fault: fault.kind)
def test_255_for_an_answer_that_is_none(run, emulator, fault):
    emulator.fail(fault, fault)
    failed(run(*LOCATED, AWS_MAX_ATTEMPTS="2"), 255, ".")


def test_255_for_a_refused_connection(run):
    with socket.socket() as unheard:  # bound, and nobody listens
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        failed(run(*LOCATED, "--endpoint-url", url), 255, "cannot connect: .*refused")


if os.name == "posix":

    def test_130_for_ctrl_c_while_the_service_is_silent(emulator, tmp_path):
        emulator.fail(stall(60))
        command = [sys.executable, "-W", "error", str(MODULE), *LOCATED]
        # A shell that runs this in the background has us ignore SIGINT; the child must not.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            running = subprocess.Popen(
                command,
                env=environ_of(emulator, tmp_path),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
        finally:
            signal.signal(signal.SIGINT, before)
        with running:
            deadline = time.monotonic() + 30
            while not emulator.requests and time.monotonic() < deadline:
                time.sleep(0.01)
            running.send_signal(signal.SIGINT)
            printed, complaint = running.communicate(timeout=30)
        assert (running.returncode, printed, complaint) == (130, "", "smasync: interrupted\n")

    @pytest.mark.parametrize(
        "arguments",
        [LOCATED, EXAMPLE, ("--help",), ("explain", "--help"), ("--version",)],
        ids=lambda words: " ".join(words)[:30],
    )
    def test_a_closed_pipe_is_no_traceback(emulator, tmp_path, arguments):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-W", "error", str(MODULE), *arguments],
            env=environ_of(emulator, tmp_path),
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (255, b"")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_without_unicode_is_no_traceback(run, encoding):
    flags = ("--endpoint-name", "x", "--input-location", "s3://my-bucket/☃")
    done = run("explain", "--example", *flags, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "s3://my-bucket/" in done.stdout


# --- main() in this process

WORDS = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=12)
FLAG_WORDS = st.sampled_from([flag for flag, _, _ in MEMBER_FLAGS] + OTHER_FLAGS + ["--example"])


def quietly(arguments):
    """(exit status, stdout, stderr) of main() called here."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        result = smasync.main(list(arguments))
    return result, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("arguments", "exit_status"),
    [
        ([], 252),
        (["--help"], 0),
        (["--version"], 0),
        (["explain", "--help"], 0),
        (["nonsense"], 252),
        (EXAMPLE, 0),
        (["explain", "--example"], 252),
        ([*EXAMPLE, "--region", "a/b"], 253),
    ],
)
def test_main_returns_the_status(arguments, exit_status):
    result, out, err = quietly(arguments)
    assert result == exit_status and type(result) is int
    assert bool(out) == (exit_status == 0) and bool(err) == (exit_status != 0)


@given(st.lists(FLAG_WORDS | WORDS, max_size=6))
def test_main_returns_a_known_status_whatever_it_is_asked(words):
    words = [word for word in words if not word.startswith("--d")]  # no --debug: it would stay
    result, out, err = quietly(["explain", "--example", *words])
    assert type(result) is int and result in (0, 252, 253, 255)
    assert bool(out) == (result == 0) and "Traceback" not in err


# --- explain


def sections(text):
    """The parts of explain's output: title -> text, "" for what stands before the first."""
    before, *parts = re.split(r"(?:\A|\n\n)--- (.*)\n", text[:-1])
    return {"": before, **dict(zip(parts[::2], parts[1::2]))}


def test_the_example_prints_the_published_signature_with_an_empty_environment():
    parts = sections(good(process(EXAMPLE, BARE)))
    assert parts["Signature"] == EXAMPLE_SIGNATURE
    assert f"Signature={EXAMPLE_SIGNATURE}" in parts["Request"]


def test_the_example_is_the_same_everywhere(emulator, tmp_path):
    environs = [{**BARE, "PYTHONHASHSEED": seed} for seed in ("0", "1", "2", "random")]
    environs.append({**BARE, "TZ": "Asia/Tokyo", "AWS_PROFILE": "nobody", "AWS_REGION": "x-y-1"})
    environs.append(environ_of(emulator, tmp_path, AWS_SDK_UA_APP_ID="app", AWS_MAX_ATTEMPTS="7"))
    printed = {good(process(EXAMPLE, environ, cwd=tmp_path)) for environ in environs}
    assert len(printed) == 1


def test_the_example_does_not_even_load_the_network():
    program = "import sys, smasync; smasync.main(sys.argv[1:]); print('_socket' in sys.modules)"
    command = [sys.executable, "-c", program, *EXAMPLE]
    printed = subprocess.check_output(command, env=BARE, cwd=MODULE.parent, encoding="utf-8")
    assert EXAMPLE_SIGNATURE in printed and printed.endswith("\nFalse\n")


def test_explain_prints_values_in_the_order_of_their_computation():
    text = good(process(EXAMPLE, BARE))
    parts = sections(text)
    canonical, to_sign = parts["Canonical request"], parts["String to sign"]
    digest = parts["SHA-256 of the canonical request"]
    scope, signature = parts["Credential scope"], parts["Signature"]
    assert hashlib.sha256(canonical.encode()).hexdigest() == digest
    assert to_sign == f"AWS4-HMAC-SHA256\n20150830T123600Z\n{scope}\n{digest}"
    key = smasync.signing_key(SECRET, scope)
    assert hmac.new(key, to_sign.encode(), "sha256").hexdigest() == signature
    places = [text.index(value) for value in (canonical, digest, scope, to_sign, signature)]
    assert places == sorted(places)
    assert list(parts)[-2:] == ["Request", "The same with curl"]


def test_explain_shows_neither_token_nor_secret_nor_signing_key(run):
    done = run("explain", *JSON_LOCATED, "--debug", AWS_SESSION_TOKEN=TOKEN)
    assert done.returncode == 0, done
    scope = sections(done.stdout)["Credential scope"]
    key = smasync.signing_key(SECRET, scope)
    for secret in (TOKEN, SECRET, key.hex(), base64.b64encode(key).decode(), repr(key)):
        assert secret not in done.stdout + done.stderr
    shown = f"<token, {len(TOKEN)} characters>"
    assert sections(done.stdout)["Canonical request"].count(shown) == 1
    assert sections(done.stdout)["Request"].count(shown) == 1
    assert "$AWS_SESSION_TOKEN" in sections(done.stdout)["The same with curl"]


def test_explain_opens_no_connection(run, emulator):
    good(run("explain", *JSON_LOCATED))
    assert emulator.connections == 0


PROVENANCE = {  # flags, changes to the environment: what is said of region, endpoint, credentials
    "environment": ((), {}, "AWS_REGION", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "environment"),
    "flags": (
        ("--region", "us-west-2", "--endpoint-url", "http://localhost:9"),
        {},
        "argument|--region",
        "argument|--endpoint-url",
        "environment",
    ),
    "second variable": (
        (),
        {
            "AWS_REGION": "",
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": None,
            "AWS_ENDPOINT_URL": "http://x",
        },
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL$",
        "environment",
    ),
    "profile": (
        ("--profile", "dev"),
        {**NO_REGION, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": None},
        "profile 'dev'",
        "the region",
        "profile",
    ),
}


@pytest.mark.parametrize("case", PROVENANCE)
def test_explain_says_where_settings_come_from(run, tmp_path, case):
    flags, environ, *sources = PROVENANCE[case]
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile dev]\nregion = eu-west-1\n")
    (tmp_path / ".aws" / "credentials").write_text(
        "[dev]\naws_access_key_id = AKIDDEV\naws_secret_access_key = dev-secret\n"
    )
    preface = sections(good(run("explain", *JSON_LOCATED, *flags, **environ)))[""]
    for name, source in zip(("region", "endpoint", "credentials"), sources):
        assert re.search(f"(?m)^{name} from: .*({source})", preface), preface


# --- The curl command


def read_curl(command):
    """(method, URL, headers, body) of a curl command line, as curl understands it."""
    program, *words = shlex.split(command)
    assert program == "curl"
    method, url, headers, body = "", "", [], ""
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            name, _, value = words.pop(0).partition(":")
            headers.append((name, value.strip(" ")))
        elif word in ("--data-binary", "--data-raw"):
            body = words.pop(0)
            assert word == "--data-raw" or body[:1] != "@", "curl would read a file of that name"
        elif word != "\n":  # what shlex makes of a line that goes on in the next one
            assert not word.startswith("-") and not url
            url = word
    return method, url, headers, body


def read_request(text):
    """(method, target, headers, body) of the request that explain prints."""
    head, _, body = text.partition("\n\n")
    first, *lines = head.split("\n")
    method, target, _ = first.split(" ")
    return method, target, [tuple(line.split(": ", 1)) for line in lines], body


def agreement(text):
    """Asserts that the two requests in explain's output are one; returns its headers."""
    parts = sections(text)
    method, url, headers, body = read_curl(parts["The same with curl"])
    location = urlsplit(url)
    shown_method, target, shown_headers, shown_body = read_request(parts["Request"])
    assert (method, url.partition(location.netloc)[2]) == (shown_method, target)
    assert dict(shown_headers)["Host"] == location.netloc
    token = "X-Amz-Security-Token"
    assert [name for name, _ in headers] == [name for name, _ in shown_headers]
    for (name, value), (_, shown) in zip(headers, shown_headers):
        assert value == ("$AWS_SESSION_TOKEN" if name == token else shown)
    assert body.rstrip("\n") == shown_body  # line breaks at its end cannot be seen
    return dict(headers)


def test_the_curl_command_is_the_printed_request(run):
    assert "X-Amz-Security-Token" not in agreement(good(process(EXAMPLE, BARE)))
    done = run("explain", *JSON_LOCATED, AWS_SESSION_TOKEN=TOKEN)
    assert agreement(good(done))["X-Amz-Security-Token"] == "$AWS_SESSION_TOKEN"


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)


@given(PRINTABLE.filter(str.strip), PRINTABLE | st.sampled_from(["@in.json", "<a/>", "--", "\n"]))
def test_the_curl_command_is_the_printed_request_whatever_is_in_it(attributes, body):
    members = {"EndpointName": "x", "CustomAttributes": attributes}
    members["Body"] = base64.b64encode(body.encode()).decode()
    done = quietly(["explain", "--example", "--cli-input-json", json.dumps(members)])
    assert done[0] == 0 and agreement(done[1])


if shutil.which("curl") and shutil.which("sh"):

    @pytest.mark.parametrize(
        "flags",
        [
            ("--input-location", "s3://my-bucket/a b/é&c='d'"),
            ("--input-location", "s3://b/k", "--custom-attributes", "'\"$HOME`id`\\ ;"),
            ("--body", '{"a": "it\'s $5"}'),
            ("--body", "@in.json"),
            ("--body", "<a>xml</a>"),
            ("--body", "two\nlines\n"),
        ],
        ids=" ".join,
    )
    def test_the_curl_command_works(run, emulator, tmp_path, flags):
        emulator.accounts = {KEY_ID: Account(SECRET, TOKEN)}
        raw = ("--cli-binary-format", "raw-in-base64-out")
        printed = good(run("explain", *INVOKE[1:], *flags, *raw, AWS_SESSION_TOKEN=TOKEN))
        command = printed.partition("--- The same with curl\n")[2].rstrip("\n")
        (tmp_path / "in.json").write_text("not this")
        told = subprocess.run(
            ["sh", "-c", f"{command} -sS -m 20 -w '\\n%{{http_code}}'"],
            env={"PATH": os.environ["PATH"], "AWS_SESSION_TOKEN": TOKEN, "HOME": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert told.stdout.endswith("\n202"), told
        (inference,) = emulator.ledger
        given = {"--body": (inference.body or b"").decode()}
        given["--input-location"] = inference.input_location
        assert given[flags[0]] == flags[1]


@pytest.mark.parametrize("word", ["file", "fileb"])
def test_a_value_that_is_called_file_is_no_file(run, word):
    said = good(run(*EXAMPLE, "--filename", word))
    assert f"x-amzn-sagemaker-filename:{word}\n" in said
