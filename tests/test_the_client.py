"""Section 11, The client: from settings and members to boto3's dict, and `lambda_handler`.

Nearly all of it goes over a real socket to the emulator, which reads the request's bytes, checks
the signature with a verifier of its own, and keeps a ledger of what it accepted. So what is signed
is what is sent. `lambda_handler` runs in a process of its own, as in Lambda.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulator as emu
import pytest
from emulator import Account, Emulator
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_server import wait_until

import smasync
from smasync import ClientError, Credentials, ParamValidationError, RuntimeClient, TransportError

KEYS = Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
TEMPORARY = Credentials("ASIAEXAMPLE", "temporary/SECRET/EXAMPLE", "a/session+token==")
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}


@pytest.fixture
def server():
    """An emulator that knows both pairs of keys."""
    known = [(k.access_key_id, k.secret_access_key, k.session_token) for k in (KEYS, TEMPORARY)]
    accounts = {key_id: Account(secret, token) for key_id, secret, token in known}
    with Emulator(accounts=accounts, model=lambda body, kind: b"") as running:
        yield running


def connected(server, **options):
    """A client of the emulator that does not sleep."""
    options = {"credentials": KEYS, "environ": {}, "sleep": lambda seconds: None, **options}
    return RuntimeClient("us-east-1", endpoint_url=server.url, **options)


@pytest.fixture
def client(server):
    with connected(server) as made:
        yield made


# --- The answer


def boto3s_metadata(response, status):
    """ResponseMetadata as boto3 has it, and the one of this answer, taken out of it."""
    metadata = response.pop("ResponseMetadata")
    for name in ("ServerTime", "ResponseAt", "ClockSkew", "Attempts"):  # which boto3 lacks
        del metadata[name]
    metadata.pop("MaxAttemptsReached", None)
    headers = metadata["HTTPHeaders"]
    expected = {"RequestId": headers["x-amzn-requestid"], "HTTPStatusCode": status}
    return {**expected, "HTTPHeaders": headers, "RetryAttempts": 0}, metadata


def test_the_answer_is_boto3s(server, client):
    answer = client.invoke_endpoint_async(**CALL, InferenceId="my-id")
    assert json.loads(json.dumps(answer)) == answer, "plain JSON, to be stored"
    expected, metadata = boto3s_metadata(answer, 202)
    (inference,) = server.ledger
    assert metadata == expected and answer == {
        "OutputLocation": inference.output_location,
        "FailureLocation": inference.failure_location,
        "InferenceId": "my-id",
    }


ERRORS = [
    # code, status, class, a part of the hint
    ("ValidationError", 400, smasync.ValidationError, ""),
    ("InternalFailure", 500, smasync.InternalFailure, ""),
    ("ServiceUnavailable", 503, smasync.ServiceUnavailable, ""),
    ("AccessDeniedException", 403, ClientError, "sagemaker:InvokeEndpointAsync"),
]


@pytest.mark.parametrize("code, status, kind, hint", ERRORS, ids=[code for code, *_ in ERRORS])
def test_an_error_is_boto3s_and_has_its_class_and_hint(server, code, status, kind, hint):
    server.fail(emu.status(status, code, "some words"))
    with connected(server, max_attempts=1) as client:
        with pytest.raises(client.exceptions.ClientError) as raised:
            client.invoke_endpoint_async(**CALL)
        assert type(raised.value) is kind is getattr(client.exceptions, code, ClientError)
    error = raised.value
    response = dict(error.response)
    expected, metadata = boto3s_metadata(response, status)
    assert metadata == expected
    modelled = {} if kind is ClientError else {"Message": "some words"}
    assert response == {"Error": {"Message": "some words", "Code": code}, **modelled}
    assert (error.code, error.message, error.status) == (code, "some words", status)
    assert error.request_id == metadata["RequestId"]
    assert error.operation_name == "InvokeEndpointAsync"
    assert hint in error.hint and bool(hint) == bool(error.hint)


# --- The constructor

URL = "https://runtime.sagemaker.us-east-1.amazonaws.com"
FIPS = "https://runtime-fips.sagemaker.us-east-1.amazonaws.com"
DUAL = "https://runtime.sagemaker.us-east-1.api.aws"
SETTINGS = {
    # what: arguments, environment, an attribute of the client, its value
    "region": ({}, {"AWS_REGION": "eu-west-1"}, "region_name", "us-east-1"),
    "FIPS": ({"use_fips_endpoint": True}, {}, "endpoint_url", FIPS),
    "no FIPS": ({"use_fips_endpoint": False}, {"AWS_USE_FIPS_ENDPOINT": "true"}, "endpoint_url", URL),
    "dual-stack": ({"use_dualstack_endpoint": True}, {}, "endpoint_url", DUAL),
    "own URL": ({"endpoint_url": "http://a:1"}, {"AWS_ENDPOINT_URL": URL}, "endpoint_url", "http://a:1"),
    "attempts": ({"max_attempts": 5}, {"AWS_MAX_ATTEMPTS": "4"}, "max_attempts", 5),
}  # fmt: skip


@pytest.mark.parametrize("arguments, environ, name, value", SETTINGS.values(), ids=SETTINGS)
def test_an_argument_beats_the_environment(arguments, environ, name, value):
    assert getattr(RuntimeClient("us-east-1", environ=environ, **arguments), name) == value


BAD = {
    "no region": ({"region_name": None}, smasync.ConfigurationError),
    "region of a stranger": ({"region_name": "evil.example/"}, smasync.ConfigurationError),
    "URL and FIPS": ({"endpoint_url": URL, "use_fips_endpoint": True}, smasync.ConfigurationError),
    "no attempts": ({"max_attempts": 0}, smasync.ConfigurationError),
    "keys twice": ({"credentials": KEYS, "aws_access_key_id": "A"}, smasync.ConfigurationError),
    "half a pair": ({"aws_access_key_id": "A"}, smasync.CredentialsError),
    "empty token": ({"aws_session_token": ""}, smasync.CredentialsError),
    "read_timeout": ({"read_timeout": 0}, ParamValidationError),
    "connect_timeout": ({"connect_timeout": 0}, ParamValidationError),
}


@pytest.mark.parametrize("options, error", BAD.values(), ids=BAD)
def test_a_client_that_could_not_call_is_not_made(tmp_path, options, error):
    environ = {"HOME": str(tmp_path), "AWS_CONFIG_FILE": str(tmp_path / "config")}
    with pytest.raises(error):
        RuntimeClient(**{"region_name": "us-east-1", "environ": environ, **options})


def test_a_client_does_nothing_before_its_first_call(server):
    loads = []
    with connected(server, credentials=lambda: loads.append(1) or KEYS) as client:
        assert (loads, server.connections) == ([], 0)
        for _ in range(3):
            client.invoke_endpoint_async(**CALL)
    assert (loads, server.connections) == ([1], 1)


def test_keys_can_be_given_as_in_boto3(server):
    keys = {"aws_access_key_id": "ASIAEXAMPLE", "aws_session_token": TEMPORARY.session_token}
    keys["aws_secret_access_key"] = TEMPORARY.secret_access_key
    with connected(server, credentials=None, **keys) as client:
        client.invoke_endpoint_async(**CALL)
        assert client.sources["credentials"] == client.sources["endpoint"] == "argument"


def test_calls_over_tls_trust_the_bundle_of_the_argument_or_the_environment():
    with Emulator(tls=True) as server:
        environ = {"AWS_CA_BUNDLE": server.ca_bundle}
        for options in ({}, {"verify": True}, {"verify": server.ca_bundle, "environ": {}}):
            with connected(server, **{"environ": environ, **options}) as client:
                client.invoke_endpoint_async(**CALL)
        with pytest.warns(UserWarning, match="verify=False"):
            unsafe = connected(server, verify=False)
        with unsafe:
            unsafe.invoke_endpoint_async(**CALL)
        with connected(server) as client, pytest.raises(TransportError) as raised:
            client.invoke_endpoint_async(**CALL)
        assert (raised.value.kind, len(server.ledger)) == ("tls", 4)


# --- What is sent

ALWAYS = "amz-sdk-invocation-id amz-sdk-request host x-amz-date x-amz-security-token "
UNSIGNED = "authorization user-agent x-amzn-trace-id "
SENT = {
    # what: members, headers that are signed, those that are not
    "body": (
        {"EndpointName": "e", "Body": b"[1]", "ContentType": "text/csv"},
        ALWAYS + "content-length content-type x-amzn-sagemaker-content-type", UNSIGNED,
    ),
    "location": (CALL, ALWAYS + "x-amzn-sagemaker-inputlocation", UNSIGNED + "content-length"),
}  # fmt: skip


@pytest.mark.parametrize("members, signed, unsigned", SENT.values(), ids=SENT)
def test_all_that_must_be_signed_is_signed_and_no_more(server, members, signed, unsigned):
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "f", "_X_AMZN_TRACE_ID": "Root=1"}
    with connected(server, credentials=TEMPORARY, environ=environ) as client:
        client.invoke_endpoint_async(**members)
    (received,) = server.requests
    verified = emu.verify(received, server.accounts)
    assert set(verified.signed_headers) == set(signed.split())
    names = sorted(name.lower() for name, _ in received.headers)
    assert names == sorted([*signed.split(), *unsigned.split()])
    assert (verified.region, verified.service) == ("us-east-1", "sagemaker")


BODIES = {
    # what: Body, what arrives
    "bytes": (b"[1, 2]", b"[1, 2]"),
    "memoryview": (memoryview(bytearray(b"[1, 2]"))[1:], b"1, 2]"),
    "text": ("[1, 2] ü", "[1, 2] ü".encode()),
    "file": (io.BytesIO(b"[1, 2]"), b"[1, 2]"),
    "largest": (bytes(128_000), bytes(128_000)),
}


@pytest.mark.parametrize("body, arrives", BODIES.values(), ids=BODIES)
def test_a_body_is_the_same_on_every_attempt(server, client, body, arrives):
    server.fail(emu.status(500), emu.reset_after())
    client.invoke_endpoint_async(EndpointName="e", Body=body)
    assert [received.body for received in server.requests] == [arrives] * 3
    assert [inference.body for inference in server.ledger] == [arrives]


PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
KEY = st.text(st.sampled_from(" /%+?#&=~'\u00a0\u3000é😀") | PRINTABLE)
VALUE = st.text(PRINTABLE, max_size=80) | st.just("  a   b  ")
INPUT = st.one_of(
    st.builds(lambda key: {"InputLocation": f"s3://bucket/{key.strip(' ')}"}, KEY),
    st.builds(
        lambda body: {"Body": body}, st.binary(min_size=1) | st.text("aé\0\r\n", min_size=1)
    ),
)
OPTIONAL = {
    "ContentType": VALUE, "Accept": VALUE, "CustomAttributes": VALUE,
    "InferenceId": st.from_regex(r"[!-~][ -~]{0,63}", fullmatch=True),
    "S3OutputPathExtension": st.text("aB9!_.*'()/-", min_size=1),
    "Filename": st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,15}(\.[a-z]{0,9})?", fullmatch=True),
    "RequestTTLSeconds": st.integers(60, 21_600),
    "InvocationTimeoutSeconds": st.integers(1, 3600),
}  # fmt: skip
NAME = st.from_regex(r"[a-zA-Z0-9](-{0,2}[a-zA-Z0-9]){0,20}", fullmatch=True)
ANY_CALL = st.builds(
    lambda name, given, more: {"EndpointName": name, **given, **more},
    NAME, INPUT, st.fixed_dictionaries({}, optional=OPTIONAL),
)  # fmt: skip


@pytest.mark.parametrize("credentials", [KEYS, TEMPORARY], ids=["keys", "token"])
def test_any_valid_call_is_accepted_and_arrives_as_given(server, credentials):
    @settings(max_examples=60)
    @given(ANY_CALL)
    def check(members):
        answer = client.invoke_endpoint_async(**members)
        inference = server.ledger[-1]
        assert answer["OutputLocation"] == inference.output_location
        texts = {name: str(value).strip(" ") for name, value in members.items() if name != "Body"}
        assert inference.members == {name: text for name, text in texts.items() if text}
        body = members.get("Body")
        assert inference.body == (body.encode() if isinstance(body, str) else body)

    with connected(server, credentials=credentials) as client:
        check()
    assert len(server.ledger) == len(server.requests) and server.connections == 1


@pytest.mark.parametrize("wrong", ["Endpointname", "self", "unknown", "timeout"])
def test_what_is_no_member_is_an_error_and_nothing_is_sent(server, client, wrong):
    for method in (client.invoke_endpoint_async, client.explain):
        with pytest.raises(ParamValidationError, match=wrong):
            method(**CALL, **{wrong: 0})
    assert server.requests == []


def test_limits_can_be_left_to_the_service_but_not_the_wire(server):
    with connected(server, parameter_validation=False) as client:
        with pytest.raises(client.exceptions.ValidationError, match="requestTTLSeconds"):
            client.invoke_endpoint_async(**CALL, RequestTTLSeconds=59)
        with pytest.raises(ParamValidationError, match="Accept"):
            client.invoke_endpoint_async(**CALL, Accept="a\r\nX-Evil: 1")
    assert len(server.requests) == 1


def test_explain_opens_no_connection_and_shows_what_the_next_call_sends(server):
    now = time.time()
    with connected(server, credentials=TEMPORARY, clock=lambda: now) as client:
        signed = client.explain(**CALL)
        assert server.connections == 0
        client.invoke_endpoint_async(**CALL)
        with contextlib.closing(smasync.UrllibTransport(environ={})) as transport:
            assert transport(signed.request).status == 202
    sent, explained = (dict(received.headers) for received in server.requests)
    differing = {name for name in explained if explained[name] != sent.pop(name)}
    assert (sent, differing) == ({}, {"Authorization", "amz-sdk-invocation-id"})
    verified = emu.verify(server.requests[1], server.accounts)
    assert (signed.canonical_request, signed.string_to_sign) == verified[-2:]
    assert signed.signature in explained["Authorization"]


# --- Threads, and the end


def test_sixteen_threads_share_one_client(server, client):
    names = [str(number) for number in range(320)]

    def call(name):
        return client.invoke_endpoint_async(**CALL, InferenceId=name)["InferenceId"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, names)) == names, "each has its own answer"
    assert sorted(inference.inference_id for inference in server.ledger) == sorted(names)
    assert server.connections <= 16


def test_a_client_closes_its_connections_and_stays_usable(server):
    with pytest.raises(ZeroDivisionError), connected(server) as client:
        client.invoke_endpoint_async(**CALL)
        assert server.open_connections == 1
        raise ZeroDivisionError
    wait_until(lambda: server.open_connections == 0)
    client.invoke_endpoint_async(**CALL)
    client.close()
    wait_until(lambda: server.open_connections == 0)
    assert server.connections == 2


def test_any_callable_is_a_transport_and_need_not_have_close():
    answer = smasync.Response(202, (("X-Amzn-SageMaker-OutputLocation", "s3://b/out"),), b"")
    with RuntimeClient("us-east-1", environ={}, credentials=KEYS, transport=lambda _: answer) as c:
        assert c.invoke_endpoint_async(**CALL)["OutputLocation"] == "s3://b/out"


def run(server, program, text="", **environ):
    """What a Python program prints, in the environment of a user of the emulator."""
    inherited = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    own = {"PYTHONPATH": str(Path(smasync.__file__).parent), "AWS_EC2_METADATA_DISABLED": "true"}
    whole = {**inherited, **own, **emu.environment(server), **environ}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], input=text, timeout=60,
        env={name: value for name, value in whole.items() if value is not None},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


PROGRAM = """
import sys, smasync
client = smasync.RuntimeClient()
client.invoke_endpoint_async(EndpointName="e", InputLocation="s3://bucket/in.json")
assert "logging" not in sys.modules
"""


def test_a_program_that_closes_nothing_ends_in_silence_and_needs_no_logging(server):
    server.fail(emu.status(500))
    assert run(server, PROGRAM) == ""
    assert (len(server.ledger), len(server.requests)) == (1, 2)


# --- The members as JSON, and lambda_handler

JSON_BODIES = {
    # what: Body in JSON, what is sent or said
    "base64": ("AAECAw==", bytes(range(4))),
    "an object": ({"values": [1, "é", None]}, '{"values":[1,"é",null]}'.encode()),
    "an array": ([1.5, {"a": True}], b'[1.5,{"a":true}]'),
    "not base64": ("?", "is not base64"),
    "base64 in lines": ("AAEC\nAw==", "is not base64"),
    "no number": ([float("nan")], "cannot be sent as JSON"),
}


@pytest.mark.parametrize("body, sent", JSON_BODIES.values(), ids=JSON_BODIES)
def test_a_body_in_json_is_base64_or_json_to_be_sent(body, sent):
    document = {"EndpointName": "e", "Body": body}
    if isinstance(sent, bytes):
        assert smasync.members_in(document) == {"EndpointName": "e", "Body": sent}
    else:
        with pytest.raises(ParamValidationError, match=f"Body: {sent}"):
            smasync.members_in(document)


@pytest.mark.parametrize("document", [None, [CALL], "CALL"], ids=str)
def test_what_is_not_the_members_is_an_error(document):
    assert smasync.members_in(CALL) == CALL
    with pytest.raises(ParamValidationError, match="not a JSON object"):
        smasync.members_in(document)


# What Lambda does: it calls the handler for one event after the other, with the trace of each in
# the environment. Here each event comes with the seconds that are left.
LAMBDA = """
import json, os, sys
from smasync import lambda_handler

class Context:
    def __init__(self, seconds):
        self.get_remaining_time_in_millis = lambda: int(seconds * 1000)

for number, line in enumerate(sys.stdin):
    os.environ["_X_AMZN_TRACE_ID"] = f"Root={number}"
    event, seconds = json.loads(line)
    try:
        print(json.dumps(lambda_handler(event, Context(seconds) if seconds else object())))
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


def handled(server, *events, **environ):
    """What the handler returns, or the name and text of what it raises, for each event."""
    lines = "".join(json.dumps(event) + "\n" for event in events)
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "f", **environ}
    return [json.loads(line) for line in run(server, LAMBDA, lines, **environ).splitlines()]


def test_a_function_returns_what_the_operation_does_and_keeps_its_client(server):
    event = {**CALL, "RequestTTLSeconds": 60}
    first, wrong, second = handled(server, (event, 0), ({"EndpointName": "e"}, 0), (CALL, 1.0))
    assert wrong[0] == "ParamValidationError"
    locations = [inference.output_location for inference in server.ledger]
    assert [first["OutputLocation"], second["OutputLocation"]] == locations
    assert server.ledger[0].members == {**event, "RequestTTLSeconds": "60"}
    traces = [received.header("x-amzn-trace-id") for received in server.requests]
    assert (traces, server.connections) == (["Root=0", "Root=2"], 1)


def test_a_function_ends_with_an_error_before_its_time_is_over(server):
    """A second before; half-way where there are less than two left."""
    server.fail(*[emu.stall(20)] * 2)
    started = time.monotonic()
    results = handled(server, (CALL, 1.3), (CALL, 0.4))
    assert time.monotonic() - started < 15
    assert [kind for kind, _ in results] == ["TransportError"] * 2
    assert len(server.requests) == 2, "not asked again"


def test_a_silent_credential_endpoint_does_not_outlast_the_function(server):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/credentials"
        environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = url
        ((kind, said),) = handled(server, (CALL, 0.6), **environ)
    assert kind == "TransportError" and "container" in said
