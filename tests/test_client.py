"""The client: one call from its members to boto3's dict: signed, sent, retried, read and logged."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import io
import itertools
import json
import logging
import re
import string
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulator as emu
import pytest
from emulator import Account, Emulator, SignatureError
from hypothesis import given, settings
from hypothesis import strategies as st

import smasync
from smasync import (
    Client,
    ClientError,
    ConfigurationError,
    Credentials,
    CredentialsError,
    ParamValidationError,
    Response,
    TransportError,
)

KEYS = Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN+with/odd=characters=="
TEMPORARY = Credentials("ASIAEXAMPLE", "temporary/SECRET+of40characters/EXAMPLE", TOKEN)
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
INSTANT = 1_767_323_045.0  # 2026-01-02T03:04:05Z


@pytest.fixture
def server():
    """An emulator that knows both pairs of keys; left without open connections."""
    accounts = {
        key.access_key_id: Account(key.secret_access_key, key.session_token)
        for key in (KEYS, TEMPORARY)
    }
    with Emulator(accounts=accounts) as running:
        running.put("s3://bucket/in.json", b"[1, 2, 3]", "application/json")
        yield running


@contextlib.contextmanager
def connected(server, **options):
    """A client of the emulator that does not sleep."""
    options = {"credentials": KEYS, "environ": {}, "sleep": lambda seconds: None, **options}
    with Client("us-east-1", endpoint_url=server.url, **options) as client:
        yield client


@pytest.fixture
def client(server):
    with connected(server) as made:
        yield made


class Scripted:
    """A transport that gives each request the next of its answers, and remembers the requests."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []

    def __call__(self, request, *, timeout=None):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def headers(self, name):
        """The value of one header in each request."""
        return [header(request, name) for request in self.requests]


def header(request, name):
    """The value of the one header of that name, None when there is none."""
    values = [value for key, value in request.headers if key.lower() == name.lower()]
    assert len(values) < 2
    return values[0] if values else None


def accepted(*headers, status=202):
    location = ("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out")
    return Response(status, (location, *headers), b'{"InferenceId": "id"}')


def refused(status, code=None, *headers, message="words"):
    identity = (("x-amzn-errortype", code),) if code else ()
    return Response(status, (*identity, *headers), json.dumps({"message": message}).encode())


def forbidden(request, *, timeout=None):
    raise AssertionError(f"{request} was sent")


def scripted(*answers, **options):
    """(client, transport, the list of its delays); random() is 1."""
    transport, delays = Scripted(*answers), []
    defaults = {
        "credentials": KEYS,
        "environ": {},
        "transport": transport,
        "sleep": delays.append,
        "random": lambda: 1.0,
        "clock": lambda: INSTANT,
        "monotonic": lambda: 0.0,
    }
    return Client("us-east-1", **{**defaults, **options}), transport, delays


def wait_until(condition, seconds=5.0):
    """Returns once the condition holds; AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


# --- The answer

EXTRAS = {"ServerTime", "ResponseAt", "ClockSkew", "Attempts"}


def without_extras(metadata):
    """ResponseMetadata as boto3 has it."""
    assert set(metadata) >= EXTRAS
    return {name: value for name, value in metadata.items() if name not in EXTRAS}


def test_the_answer_is_boto3s(server, client):
    answer = client.invoke_endpoint_async(**CALL, InferenceId="my-id")
    inference = server.ledger[0]
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert {**answer, "ResponseMetadata": without_extras(answer["ResponseMetadata"])} == {
        "ResponseMetadata": {
            "RequestId": headers["x-amzn-requestid"],
            "HTTPStatusCode": 202,
            "HTTPHeaders": {
                "date": headers["date"],
                "x-amzn-requestid": headers["x-amzn-requestid"],
                "content-type": "application/json",
                "x-amzn-sagemaker-outputlocation": inference.output_location,
                "x-amzn-sagemaker-failurelocation": inference.failure_location,
                "content-length": str(len('{"InferenceId": "my-id"}')),
            },
            "RetryAttempts": 0,
        },
        "OutputLocation": inference.output_location,
        "FailureLocation": inference.failure_location,
        "InferenceId": "my-id",
    }
    assert uuid.UUID(headers["x-amzn-requestid"])
    assert json.loads(json.dumps(answer)) == answer, "plain JSON, to be stored"


def test_an_error_is_boto3s(server, client):
    server.fail(emu.status(400, "ValidationError", "bad endpoint!"))
    with pytest.raises(client.exceptions.ValidationError) as raised:
        client.invoke_endpoint_async(**CALL)
    error = raised.value
    headers = error.response["ResponseMetadata"]["HTTPHeaders"]
    metadata = without_extras(error.response["ResponseMetadata"])
    assert {**error.response, "ResponseMetadata": metadata} == {
        "Error": {"Message": "bad endpoint!", "Code": "ValidationError"},
        "ResponseMetadata": {
            "RequestId": headers["x-amzn-requestid"],
            "HTTPStatusCode": 400,
            "HTTPHeaders": {
                "date": headers["date"],
                "x-amzn-requestid": headers["x-amzn-requestid"],
                "content-type": "application/json",
                "x-amzn-errortype": "ValidationError",
                "content-length": str(len('{"message": "bad endpoint!"}')),
            },
            "RetryAttempts": 0,
        },
        "Message": "bad endpoint!",
    }
    assert error.operation_name == "InvokeEndpointAsync"
    assert (error.code, error.message, error.status) == ("ValidationError", "bad endpoint!", 400)
    assert error.request_id == headers["x-amzn-requestid"]
    assert str(error) == (
        "An error occurred (ValidationError) when calling the InvokeEndpointAsync operation: "
        "bad endpoint!"
    )


CLASSES = [
    ("ValidationError", 400),
    ("InternalFailure", 500),
    ("ServiceUnavailable", 503),
    ("ModelError", 424),
    ("AccessDeniedException", 403),
]


@pytest.mark.parametrize("code, status", CLASSES)
def test_errors_have_their_classes_at_client_exceptions(server, code, status):
    server.fail(emu.status(status, code, "words"))
    with connected(server, max_attempts=1) as client:
        expected = getattr(client.exceptions, code, client.exceptions.ClientError)
        with pytest.raises(client.exceptions.ClientError) as raised:
            client.invoke_endpoint_async(**CALL)
    assert type(raised.value) is expected
    assert expected is (getattr(smasync, code) if status in (400, 500, 503) else ClientError)


DEEP = b'{"message":' * 10_000 + b'"deep"' + b"}" * 10_000
PAGE = b"<html><h1>503 Service Temporarily Unavailable</h1></html>"
REFUSALS = {
    # name: (fault, status, code, part of the message)
    "header": (emu.status(400, "ModelError", "words"), 400, "ModelError", "words"),
    "__type": (emu.status(400, "a.b#E", "words", spelling="__type"), 400, "E", "words"),
    "code": (emu.status(400, "E:http://x/", "words", spelling="code"), 400, "E", "words"),
    "Code": (emu.status(400, "E", "words", spelling="Code"), 400, "E", "words"),
    "no code": (emu.status(400, "E", "words", spelling="none"), 400, "400", "words"),
    "page of a proxy": (emu.status(503, body=PAGE), 503, "503", "Service Unavailable"),
    "empty 500": (emu.status(500, body=b""), 500, "500", "Internal Server Error"),
    "not an object": (emu.status(400, body=b"[1]"), 400, "400", "[1]"),
    "not text": (emu.status(400, body=b"\xff\xfe\0"), 400, "400", ""),
    "deep JSON": (emu.status(400, body=DEEP), 400, "400", '{"message":'),
    "10 MiB": (emu.huge_body(10 << 20, 400), 400, "400", ""),
    "redirect": (emu.redirect("http://127.0.0.1:9/"), 302, "302", ""),
}


@pytest.mark.parametrize("fault, status, code, words", REFUSALS.values(), ids=REFUSALS)
def test_whatever_a_refusal_looks_like_it_is_a_client_error(server, fault, status, code, words):
    server.fail(fault)
    with connected(server, max_attempts=1) as client, pytest.raises(ClientError) as raised:
        client.invoke_endpoint_async(**CALL)
    assert (raised.value.status, raised.value.code) == (status, code)
    assert words in raised.value.message and len(str(raised.value)) < 10_000
    assert server.ledger == []


def test_a_refusal_cut_short_keeps_its_status(server):
    raw = b'HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{"message": "wor'
    server.fail(emu.answer(raw))
    with connected(server) as client, pytest.raises(ClientError) as raised:
        client.invoke_endpoint_async(**CALL)
    assert (raised.value.status, raised.value.code) == (400, "400")
    assert len(server.requests) == 1


REQUEST_IDS = ["x-amzn-requestid", "X-Amzn-RequestId", "x-amz-requestid", "x-amz-request-id"]


@pytest.mark.parametrize("name", REQUEST_IDS)
def test_the_request_id_is_found(name):
    client, _, _ = scripted(accepted((name, "id-1")), refused(400, "E", (name, "id-2")))
    assert client.invoke_endpoint_async(**CALL)["ResponseMetadata"]["RequestId"] == "id-1"
    with pytest.raises(ClientError) as raised:
        client.invoke_endpoint_async(**CALL)
    assert raised.value.request_id == "id-2"
    assert raised.value.response["ResponseMetadata"]["RequestId"] == "id-2"


def test_the_metadata_tells_of_every_attempt():
    now, seconds = [INSTANT], [100.0]
    date = ("Date", http_date(INSTANT + 31))

    def transport(request, *, timeout=None):
        now[0] += 2
        seconds[0] += 2.5
        return script(request)

    script = Scripted(refused(400, "ThrottlingException"), refused(500), accepted(date))
    client, _, delays = scripted(
        transport=transport, clock=lambda: now[0], monotonic=lambda: seconds[0]
    )
    metadata = client.invoke_endpoint_async(**CALL)["ResponseMetadata"]
    assert metadata["RetryAttempts"] == 2
    assert metadata["Attempts"] == [
        {"Outcome": "ThrottlingException", "Seconds": 2.5, "Delay": 1.0},
        {"Outcome": "500", "Seconds": 2.5, "Delay": 0.1},
        {"Outcome": "202", "Seconds": 2.5, "Delay": 0.0},
    ]
    assert delays == [1.0, 0.1]
    assert metadata["ServerTime"] == INSTANT + 31
    assert metadata["ResponseAt"] == INSTANT + 6
    assert metadata["ClockSkew"] == 31 - 5


def test_without_a_date_there_is_no_server_time():
    client, _, _ = scripted(accepted())
    metadata = client.invoke_endpoint_async(**CALL)["ResponseMetadata"]
    assert (metadata["ServerTime"], metadata["ClockSkew"]) == (None, None)
    assert metadata["ResponseAt"] == INSTANT


def test_the_last_error_tells_of_every_attempt():
    client, _, _ = scripted(refused(500), TransportError("gone", kind="closed"), refused(503))
    with pytest.raises(ClientError) as raised:
        client.invoke_endpoint_async(**CALL)
    metadata = raised.value.response["ResponseMetadata"]
    assert [entry["Outcome"] for entry in metadata["Attempts"]] == ["500", "closed", "503"]
    assert [entry["Delay"] for entry in metadata["Attempts"]] == [0.05, 0.1, 0.0]
    assert (metadata["RetryAttempts"], metadata["MaxAttemptsReached"]) == (2, True)


def test_a_202_cut_short_is_success_and_sent_once(server, client):
    server.fail(emu.truncate(5))
    answer = client.invoke_endpoint_async(**CALL)
    assert answer["OutputLocation"] == server.ledger[0].output_location
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    assert (len(server.ledger), len(server.requests)) == (1, 1)


def test_a_login_page_is_not_an_answer_and_not_asked_again(server, client):
    server.fail(emu.login_page())
    with pytest.raises(TransportError, match="log-in page") as raised:
        client.invoke_endpoint_async(**CALL)
    assert raised.value.kind == "protocol"
    assert len(server.requests) == 1


# --- What is sent


def test_the_invocation_id_is_one_uuid_for_all_attempts(server, client):
    server.fail(emu.throttle(), emu.status(500))
    client.invoke_endpoint_async(**CALL)
    client.invoke_endpoint_async(**CALL)
    ids = [received.header("amz-sdk-invocation-id") for received in server.requests]
    assert len(ids) == 4 and len(set(ids[:3])) == 1 and len(set(ids)) == 2
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_the_attempts_are_counted_in_the_request(server):
    server.fail(emu.throttle(), emu.status(500), emu.reset_after())
    with connected(server, max_attempts=5) as client:
        client.invoke_endpoint_async(**CALL)
    counts = [received.header("amz-sdk-request") for received in server.requests]
    assert counts == [f"attempt={number}; max=5" for number in (1, 2, 3, 4)]


def test_all_that_must_be_signed_is_signed_and_no_more(server):
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "f", "_X_AMZN_TRACE_ID": "Root=1"}
    with connected(server, credentials=TEMPORARY, environ=environ) as client:
        client.invoke_endpoint_async(EndpointName="e", Body=b"[1]", ContentType="text/csv")
    verified = emu.verify(server.requests[0], server.accounts)
    assert verified.signed_headers == (
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "content-length",
        "content-type",
        "host",
        "x-amz-date",
        "x-amz-security-token",
        "x-amzn-sagemaker-content-type",
    )
    sent = {name.lower() for name, _ in server.requests[0].headers}
    unsigned = sent.difference(verified.signed_headers)
    assert unsigned == {"authorization", "user-agent", "x-amzn-trace-id"}
    assert (verified.region, verified.service) == ("us-east-1", "sagemaker")


BODIES = {
    "bytes": (b"[1, 2]", b"[1, 2]"),
    "bytearray": (bytearray(b"[1, 2]"), b"[1, 2]"),
    "memoryview": (memoryview(b"[1, 2]")[1:], b"1, 2]"),
    "text": ("[1, 2] ü", "[1, 2] ü".encode()),
    "file": (io.BytesIO(b"[1, 2]"), b"[1, 2]"),
    "largest": (bytes(128_000), bytes(128_000)),
}


@pytest.mark.parametrize("body, expected", BODIES.values(), ids=BODIES)
def test_a_body_goes_out_with_its_length_type_and_hash_on_every_attempt(
    server, client, body, expected
):
    server.fail(emu.status(500), emu.reset_after())
    client.invoke_endpoint_async(EndpointName="e", Body=body)
    for received in server.requests:
        assert received.body == expected
        assert received.header("content-length") == str(len(expected))
        assert received.header("content-type") == "application/octet-stream"
        verified = emu.verify(received, server.accounts)
        assert verified.canonical_request.endswith(hashlib.sha256(expected).hexdigest())
    assert [inference.body for inference in server.ledger] == [expected]
    assert len(server.requests) == 3


def test_without_a_body_the_length_is_0_unsigned_and_there_is_no_type(server, client):
    client.invoke_endpoint_async(**CALL)
    received = server.requests[0]
    assert received.header("content-length") == "0"
    assert received.header("content-type") is None
    verified = emu.verify(received, server.accounts)
    assert "content-length" not in verified.signed_headers
    assert verified.canonical_request.endswith(hashlib.sha256(b"").hexdigest())


def test_no_header_is_sent_that_nobody_asked_for(server, client):
    client.invoke_endpoint_async(**CALL)
    names = sorted(name.lower() for name, _ in server.requests[0].headers)
    assert names == [
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "content-length",
        "host",
        "user-agent",
        "x-amz-date",
        "x-amzn-sagemaker-inputlocation",
    ]


AGENTS = {
    "plain": ({}, None, None),
    "application": ({"AWS_SDK_UA_APP_ID": "my-app"}, "app/my-app", None),
    "odd application": ({"AWS_SDK_UA_APP_ID": "my app/(ü)\r\nX: 1"}, "app/my-app------X--1", None),
    "Lambda": ({"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"}, None, "AWS_Lambda_python3.13"),
    "odd environment": ({"AWS_EXECUTION_ENV": "a b\tc"}, None, "a-b-c"),
    "empty": ({"AWS_EXECUTION_ENV": "", "AWS_SDK_UA_APP_ID": ""}, None, None),
}


@pytest.mark.parametrize("environ, app, execution", AGENTS.values(), ids=AGENTS)
def test_the_user_agent_says_who_calls(server, environ, app, execution):
    with connected(server, environ=environ) as client:
        client.invoke_endpoint_async(**CALL)
    agent = server.requests[0].header("user-agent")
    words = agent.split(" ")
    assert words[0] == f"smasync/{smasync.__version__}"
    assert [word for word in words if word.startswith("app/")] == ([app] if app else [])
    found = [word for word in words if word.startswith("exec-env/")]
    assert found == ([f"exec-env/{execution}"] if execution else [])
    assert all(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z/-]+", word) for word in words)


LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "my-function"}
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
TRACES = {
    "not in Lambda": ({"_X_AMZN_TRACE_ID": TRACE}, None),
    "no trace": (LAMBDA, None),
    "empty": ({**LAMBDA, "_X_AMZN_TRACE_ID": ""}, None),
    "nothing": ({}, None),
    "plain": ({**LAMBDA, "_X_AMZN_TRACE_ID": TRACE}, TRACE),
    "escaped": (
        {**LAMBDA, "_X_AMZN_TRACE_ID": "first\nsecond¼\t"}, "first%0Asecond%C2%BC%09",
    ),
    "left alone": (
        {**LAMBDA, "_X_AMZN_TRACE_ID": "aZ09_.~-=;:+&[]{}\"',"}, "aZ09_.~-=;:+&[]{}\"',",
    ),
    "space and per cent": ({**LAMBDA, "_X_AMZN_TRACE_ID": "a b%/"}, "a%20b%25%2F"),
}  # fmt: skip


@pytest.mark.parametrize("environ, value", TRACES.values(), ids=TRACES)
def test_the_trace_of_a_lambda_function_is_passed_on_unsigned(server, environ, value):
    with connected(server, environ=environ) as client:
        client.invoke_endpoint_async(**CALL)
    received = server.requests[0]
    assert received.header("x-amzn-trace-id") == value
    assert "x-amzn-trace-id" not in emu.verify(received, server.accounts).signed_headers


# --- Nothing is sent


def call(**members):
    return {**CALL, **members}


BAD_CALLS = {
    # name: (members, what each problem says)
    "no name": ({"InputLocation": "s3://b/k"}, ["EndpointName: .*required"]),
    "no input": ({"EndpointName": "e"}, ["Body, InputLocation: .*neither"]),
    "both inputs": (call(Body=b"1"), ["Body, InputLocation: .*both"]),
    "nothing": ({}, ["EndpointName: .*required", "Body, InputLocation: .*neither"]),
    "body too long": ({"EndpointName": "e", "Body": bytes(128_001)}, ["Body: 128001.*128000"]),
    "body empty": ({"EndpointName": "e", "Body": b""}, ["Body: 0 bytes"]),
    "name dots": (call(EndpointName=".."), ["EndpointName"]),
    "name slash": (call(EndpointName="a/b"), ["EndpointName"]),
    "name long": (call(EndpointName="a" * 64), ["EndpointName: 64.*63"]),
    "name empty": (call(EndpointName=""), ["EndpointName"]),
    "CR": (call(Accept="a\rb"), ["Accept: .*position 1"]),
    "LF": (call(Accept="a\nb"), ["Accept: .*position 1"]),
    "NUL": (call(Accept="ab\0"), ["Accept: .*position 2"]),
    "tab": (call(Accept="a\tb"), ["Accept: .*position 1"]),
    "folded": (call(CustomAttributes="ab\r\n c"), ["CustomAttributes: .*position 2"]),
    "emoji": (call(ContentType="text/😀"), ["ContentType: .*position 5"]),
    "TTL low": (call(RequestTTLSeconds=59), ["RequestTTLSeconds: 59.*60"]),
    "TTL high": (call(RequestTTLSeconds=21_601), ["RequestTTLSeconds: 21601.*21600"]),
    "TTL bool": (call(RequestTTLSeconds=True), ["RequestTTLSeconds: .*bool"]),
    "TTL text": (call(RequestTTLSeconds="60"), ["RequestTTLSeconds: .*str"]),
    "two dots": (call(Filename="a.b.c"), ["Filename: .*position 3"]),
    "line break last": (call(Filename="a\n"), ["Filename: .*position 1"]),
    "misspelt": (call(Endpointname="e"), ["Endpointname: .*EndpointName"]),
    "unknown": (call(Foo=1), ["Foo: unknown"]),
    "three": (
        call(EndpointName="-", RequestTTLSeconds=1, Filename="..."),
        ["EndpointName", "Filename", "RequestTTLSeconds"],
    ),
}


@pytest.mark.parametrize("members, problems", BAD_CALLS.values(), ids=BAD_CALLS)
def test_a_bad_call_lists_its_problems_and_sends_nothing(members, problems):
    client, _, delays = scripted(transport=forbidden)
    for method in (client.invoke_endpoint_async, client.explain):
        with pytest.raises(ParamValidationError) as raised:
            method(**members)
        found = {problem.partition(":")[0] for problem in raised.value.problems}
        assert found == {problem.partition(":")[0] for problem in problems}
        for pattern in problems:
            assert any(re.match(pattern, problem) for problem in raised.value.problems)
    assert delays == []


def test_sensitive_members_are_not_quoted_in_problems():
    client, _, _ = scripted(transport=forbidden)
    with pytest.raises(ParamValidationError) as raised:
        client.invoke_endpoint_async(
            EndpointName="e", Body="PRIVATE" * 20_000, CustomAttributes="CONFIDENTIAL\n"
        )
    assert len(raised.value.problems) == 2
    assert "PRIVATE" not in str(raised.value) and "CONFIDENTIAL" not in str(raised.value)


def test_limits_can_be_left_to_the_service_but_not_the_wire(server):
    with connected(server, parameter_validation=False) as client:
        with pytest.raises(client.exceptions.ValidationError, match="(?i)requestTTLSeconds"):
            client.invoke_endpoint_async(**CALL, RequestTTLSeconds=59)
        with pytest.raises(ParamValidationError, match="Accept"):
            client.invoke_endpoint_async(**CALL, Accept="a\r\nX-Evil: 1")
    assert len(server.requests) == 1


def configured(**options):
    given = {"region_name": "us-east-1", "transport": forbidden, "environ": {}, **options}
    return Client(given.pop("region_name"), **given).invoke_endpoint_async(**CALL)


BAD_CLIENTS = {
    "no region": ({"region_name": None}, ConfigurationError),
    "region of a stranger": ({"region_name": "evil.example/"}, ConfigurationError),
    "region with a line break": ({"region_name": "us-east-1\r\n"}, ConfigurationError),
    "URL with userinfo": ({"endpoint_url": "https://user@host"}, ConfigurationError),
    "URL with a query": ({"endpoint_url": "https://host/?a"}, ConfigurationError),
    "URL without host": ({"endpoint_url": "https://"}, ConfigurationError),
    "URL of ftp": ({"endpoint_url": "ftp://host"}, ConfigurationError),
    "URL with a large port": ({"endpoint_url": "http://host:99999"}, ConfigurationError),
    "URL and FIPS": (
        {"endpoint_url": "http://host", "use_fips_endpoint": True}, ConfigurationError,
    ),
    "half a pair": ({"aws_access_key_id": "AKID"}, CredentialsError),
    "other half": ({"aws_secret_access_key": "s"}, CredentialsError),
    "token alone": ({"aws_session_token": "t"}, CredentialsError),
    "key with a line break": (
        {"aws_access_key_id": "AKID\n", "aws_secret_access_key": "s"}, CredentialsError,
    ),
    "keys twice": (
        {"credentials": KEYS, "aws_access_key_id": "a", "aws_secret_access_key": "b"},
        ConfigurationError,
    ),
    "no keys": ({"environ": {"AWS_EC2_METADATA_DISABLED": "true"}}, CredentialsError),
    "half a pair in the environment": (
        {"environ": {"AWS_ACCESS_KEY_ID": "AKID"}}, CredentialsError,
    ),
    "unknown profile": ({"profile_name": "nobody"}, ConfigurationError),
    "no attempts": ({"credentials": KEYS, "max_attempts": 0}, ConfigurationError),
}  # fmt: skip


@pytest.mark.parametrize("options, error", BAD_CLIENTS.values(), ids=BAD_CLIENTS)
def test_a_bad_configuration_sends_nothing(tmp_path, options, error):
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config")}
    files["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "credentials")
    with pytest.raises(error) as raised:
        configured(**{**options, "environ": {**files, **options.get("environ", {})}})
    assert isinstance(raised.value, smasync.Error)


# --- Retries: the SDKs' own examples, with random() = 1

RETRIES = {
    # name: (answers, attempts at most, delays, spent from the quota, outcome of the call)
    "success after two": ([500, 500, 200], 3, [0.05, 0.1], 14, 200),
    "attempts used up": ([500, 500, 500], 3, [0.05, 0.1], 28, 500),
    "five attempts": ([500] * 5, 5, [0.05, 0.1, 0.2, 0.4], 56, 500),
    "each transient status": ([502, 503, 504, 500, 200], 5, [0.05, 0.1, 0.2, 0.4], 42, 200),
    "throttled": (["ThrottlingException", 200], 3, [1.0], 0, 200),
    "throttled twice": (["SlowDown", "SlowDown", 200], 3, [1.0, 2.0], 5, 200),
    "throttled for long": (["SlowDown"] * 7, 7, [1, 2, 4, 8, 16, 20], 30, "SlowDown"),
    "bare 429": ([429, 429, 429], 3, [1.0, 2.0], 10, 429),
    "of both kinds": (["SlowDown", 500, 200], 3, [1.0, 0.1], 5, 200),
    "other way round": ([500, "SlowDown", 200], 3, [0.05, 2.0], 14, 200),
    "timed-out request": (["RequestTimeout", 200], 3, [0.05], 0, 200),
    "final": (["ValidationError"], 3, [], 0, "ValidationError"),
    "final 501": ([501], 3, [], 0, 501),
    "final after one": ([500, "ValidationError"], 3, [0.05], 14, "ValidationError"),
    "no answer": (["closed", "timeout", 200], 3, [0.05, 0.1], 14, 200),
    "no connection": (["connect", 200], 3, [0.05], 0, 200),
    "never an answer": (["closed"] * 3, 3, [0.05, 0.1], 28, "closed"),
}


def answer_of(word):
    """What a table means by 200, 500, "SlowDown", "timeout", …"""
    if word == 200:
        return accepted()
    if isinstance(word, int):
        return refused(word)
    if word in ("connect", "closed", "timeout", "tls", "proxy", "protocol"):
        return TransportError("gone", kind=word, sent=word != "connect")
    return refused(400, word)


def outcome_of(client):
    """What became of one call, in the same words."""
    try:
        return client.invoke_endpoint_async(**CALL) and 200
    except ClientError as error:
        return int(error.code) if error.code.isdigit() else error.code
    except TransportError as error:
        return error.kind


def play(client, transport, *words):
    """The outcome of one call to which the service gives these answers, all of them."""
    transport.answers = [answer_of(word) for word in words]
    outcome = outcome_of(client)
    assert transport.answers == [], "answers that nobody asked for"
    return outcome


def left_of(client, transport):
    """What the quota still holds, found by spending it: 5 at a time, the rest filled up to 5."""
    count = 0
    while True:
        transport.answers = [answer_of("SlowDown"), answer_of("ValidationError")]
        if outcome_of(client) == "SlowDown":
            break
        count += 1
    for filled in range(1, 6):
        play(client, transport, 200)
        transport.answers = [answer_of("SlowDown"), answer_of("ValidationError")]
        if outcome_of(client) == "ValidationError":
            return 5 * count + 5 - filled
    raise AssertionError("five successes do not buy a retry")


def with_quota(amount, **options):
    """A client that has spent all but that amount."""
    client, transport, delays = scripted(**options)
    spent = 500 - amount
    throttles = next(n for n in range(14) if (spent - 5 * n) % 14 == 0 and spent >= 5 * n)
    for _ in range(throttles):
        play(client, transport, "SlowDown", "ValidationError")
    for _ in range((spent - 5 * throttles) // 14):
        play(client, transport, 500, "ValidationError")
    delays.clear()
    return client, transport, delays


@pytest.mark.parametrize("amount", [500, 486, 30, 20, 14, 5, 0])
def test_the_quota_can_be_measured(amount):
    client, transport, _ = with_quota(amount)
    assert left_of(client, transport) == amount


@pytest.mark.parametrize("words, most, pauses, spent, end", RETRIES.values(), ids=RETRIES)
def test_retries_follow_the_sdks(words, most, pauses, spent, end):
    client, transport, delays = scripted(max_attempts=most)
    assert play(client, transport, *words) == end
    assert delays == pytest.approx(pauses)
    assert left_of(client, transport) == 500 - spent


def test_with_one_attempt_there_is_no_retry():
    client, transport, delays = scripted(max_attempts=1)
    assert play(client, transport, 500) == 500
    assert (delays, transport.headers("amz-sdk-request")) == ([], ["attempt=1; max=1"])


QUOTAS = {
    # name: (quota at first, [(answers, outcome, quota afterwards)])
    "one retry": (14, [([500, 500], 500, 0)]),
    "not a second": (20, [([500, 500], 500, 6)]),
    "given back": (30, [([500, 500, 200], 200, 16), ([500, 200], 200, 16)]),
    "throttles are cheaper": (12, [(["SlowDown"] * 3, "SlowDown", 2)]),
    "nothing": (0, [([500], 500, 0), (["SlowDown"], "SlowDown", 0), ([200], 200, 1)]),
    "one by one": (10, [([200], 200, 11), ([200], 200, 12)]),
    "never above": (500, [([200], 200, 500), ([500, 200], 200, 500)]),
}


@pytest.mark.parametrize("amount, calls", QUOTAS.values(), ids=QUOTAS)
def test_the_quota_is_shared_by_the_calls_of_a_client(amount, calls):
    for number in range(1, len(calls) + 1):
        client, transport, _ = with_quota(amount, max_attempts=5)
        for words, end, _ in calls[:number]:
            assert play(client, transport, *words) == end
        assert left_of(client, transport) == calls[number - 1][2]


def test_an_exhausted_quota_raises_at_once_and_is_not_called_max_attempts():
    client, transport, delays = with_quota(0)
    transport.answers = [refused(503, "ServiceUnavailable")]
    with pytest.raises(client.exceptions.ServiceUnavailable) as raised:
        client.invoke_endpoint_async(**CALL)
    assert delays == []
    assert "MaxAttemptsReached" not in raised.value.response["ResponseMetadata"]
    assert "max retries" not in str(raised.value)


AFTERS = [
    ("1500", 1.5),
    ("0", 0.05),
    ("10000", 5.05),
    ("5050", 5.05),
    ("20", 0.05),
    ("invalid", 0.05),
    ("-1", 0.05),
    ("1.5", 0.05),
    ("", 0.05),
    ("²", 0.05),
    ("9" * 5000, 5.05),
]


@pytest.mark.parametrize("value, delay", AFTERS, ids=[value[:9] for value, _ in AFTERS])
def test_the_service_may_ask_for_a_longer_pause(value, delay):
    client, _, delays = scripted(refused(500, None, ("x-amz-retry-after", value)), accepted())
    client.invoke_endpoint_async(**CALL)
    assert delays == pytest.approx([delay])


def test_http_retry_after_is_ignored():
    client, _, delays = scripted(refused(500, None, ("Retry-After", "9")), accepted())
    client.invoke_endpoint_async(**CALL)
    assert delays == [0.05]


def test_the_pause_is_random():
    client, _, delays = scripted(refused(500), refused(500), accepted(), random=lambda: 0.25)
    client.invoke_endpoint_async(**CALL)
    assert delays == [0.0125, 0.025]


def test_max_attempts_are_told_in_boto3s_words(server, client):
    server.fail_every(lambda received: emu.status(503, "ServiceUnavailable", "busy"))
    with pytest.raises(client.exceptions.ServiceUnavailable) as raised:
        client.invoke_endpoint_async(**CALL)
    assert str(raised.value) == (
        "An error occurred (ServiceUnavailable) when calling the InvokeEndpointAsync operation "
        "(reached max retries: 2): busy"
    )
    assert raised.value.response["ResponseMetadata"]["MaxAttemptsReached"] is True
    assert len(server.requests) == 3


def test_success_after_retries_is_not_called_max_attempts(server, client):
    server.fail(emu.throttle(), emu.throttle())
    metadata = client.invoke_endpoint_async(**CALL)["ResponseMetadata"]
    assert "MaxAttemptsReached" not in metadata and metadata["RetryAttempts"] == 2


def test_the_environment_may_set_the_attempts(server):
    server.fail_every(lambda received: emu.status(500))
    with connected(server, environ={"AWS_MAX_ATTEMPTS": "4"}) as client:
        assert outcome_of(client) == 500
    assert len(server.requests) == 4


@pytest.mark.parametrize("retry_sent, times", [(True, 2), (False, 1)])
def test_an_ambiguous_failure_is_retried_unless_told_otherwise(server, retry_sent, times):
    server.fail(emu.accept_then_reset())
    with connected(server, retry_sent=retry_sent) as client:
        assert outcome_of(client) == (200 if retry_sent else "closed")
    assert (len(server.ledger), len(server.requests)) == (times, times)


UNSENT = {
    "connect": TransportError("refused", kind="connect", sent=False),
    "proxy": TransportError("busy", kind="proxy", sent=False),
    "broken off": TransportError("gone", kind="closed", sent=False),
    "throttle": refused(400, "ThrottlingException"),
    "503": refused(503, "ServiceUnavailable"),
}


@pytest.mark.parametrize("failure", UNSENT.values(), ids=UNSENT)
def test_what_was_certainly_not_accepted_is_always_retried(failure):
    client, transport, _ = scripted(failure, accepted(), retry_sent=False)
    assert outcome_of(client) == 200
    assert len(transport.requests) == 2


def test_a_failure_that_would_come_again_is_final():
    error = TransportError("bad certificate", kind="tls", sent=False, retryable=False)
    client, transport, delays = scripted(error)
    with pytest.raises(TransportError) as raised:
        client.invoke_endpoint_async(**CALL)
    assert raised.value is error
    assert (len(transport.requests), delays) == (1, [])


def test_a_refused_connection_is_tried_three_times(server):
    with connected(server) as client:
        server.close()
        with pytest.raises(TransportError) as raised:
            client.invoke_endpoint_async(**CALL)
    assert (raised.value.kind, raised.value.sent) == ("connect", False)


# --- Credentials that expire


def fresh(token):
    return Credentials("ASIAEXAMPLE", "secret", token)


EXPIRED = {
    # name: (credentials in turn, answers, outcome, tokens that were sent)
    "renewed": ("ab", ["ExpiredToken", 200], 200, "ab"),
    "in other words": ("ab", ["ExpiredTokenException", 200], 200, "ab"),
    "the same again": ("aa", ["ExpiredToken"], "ExpiredToken", "a"),
    "once only": ("abc", ["ExpiredToken", "ExpiredToken"], "ExpiredToken", "ab"),
    "after a failure": ("ab", [500, "ExpiredToken", 200], 200, "aab"),
    "before a failure": ("abbb", ["ExpiredToken", 500, 200], 200, "abb"),
    "before a throttle": ("abbb", ["ExpiredToken", "SlowDown", 200], 200, "abb"),
    "before a final error": (
        "abbb", ["ExpiredToken", "ValidationError"], "ValidationError", "ab",
    ),
}  # fmt: skip


@pytest.mark.parametrize("tokens, words, end, sent", EXPIRED.values(), ids=EXPIRED)
def test_an_expired_token_is_renewed_once(tokens, words, end, sent):
    loads = iter(tokens)
    client, transport, _ = scripted(credentials=lambda: fresh(next(loads)))
    assert play(client, transport, *words) == end
    assert transport.headers("x-amz-security-token") == list(sent)


def test_a_final_error_after_a_renewal_loads_no_credentials():
    loads = iter("ab")
    client, transport, _ = scripted(credentials=lambda: fresh(next(loads)))
    assert play(client, transport, "ExpiredToken", "ValidationError") == "ValidationError"


def test_credentials_are_loaded_once_for_many_calls():
    loads = []
    client, transport, _ = scripted(credentials=lambda: loads.append(1) or KEYS)
    assert loads == [], "a constructor does no work"
    for _ in range(5):
        play(client, transport, 200)
    assert loads == [1]


# --- Clock skew: the ten scenarios that AWS's SDKs share

DAY = 1_767_312_000  # 2026-01-02T00:00:00Z
SCENARIOS = {
    # name: (attempts at most, operations, skew afterwards); an operation is a list of attempts:
    # (sent, received, Date, status, code or Age, signed)
    "1 right": (3, [[("00:00:00", "00:00:02", "00:00:01", 200, "", "00:00:00")]], 0),
    "2 corrected": (3, [
        [
            ("00:00:00", "00:00:02", "00:05:01", 403, "RequestTimeTooSkewed", "00:00:00"),
            ("00:00:02", "00:00:04", "00:05:03", 200, "", "00:05:02"),
        ],
        [("00:01:00", "00:01:02", "00:06:01", 200, "", "00:06:00")],
    ], 300),
    "3 learned from a final error": (1, [
        [("00:00:00", "00:00:02", "00:05:01", 403, "RequestTimeTooSkewed", "00:00:00")],
    ], 300),
    "4 too slow to trust": (3, [
        [("00:00:00", "00:16:00", "00:10:00", 200, "", "00:00:00")],
        [("00:17:00", "00:17:02", "00:22:01", 200, "", "00:17:00")],
    ], 300),
    "5 forgotten": (3, [
        [("00:00:00", "00:00:02", "00:05:01", 200, "", "00:00:00")],
        [("00:00:00", "00:00:02", "00:00:01", 200, "", "00:05:00")],
    ], 0),
    "6 too small to blame": (3, [
        [("00:00:00", "00:00:02", "00:02:01", 400, "InvalidSignatureException", "00:00:00")],
    ], 120),
    "7 signature refused": (3, [
        [
            ("00:00:00", "00:00:02", "00:05:01", 400, "InvalidSignatureException", "00:00:00"),
            ("00:00:02", "00:00:04", "00:05:03", 200, "", "00:05:02"),
        ],
    ], 300),
    "8 no Date": (3, [
        [("00:00:00", "00:00:02", None, 403, "RequestTimeTooSkewed", "00:00:00")],
    ], 0),
    "9 from a cache": (3, [
        [("16:51:00", "16:51:02", "12:03:01", 200, 17280, "16:51:00")],
        [("16:51:10", "16:51:12", "16:56:11", 200, "", "16:51:10")],
    ], 300),
    "10 cache, then right": (3, [
        [("16:51:00", "16:51:02", "12:03:01", 200, 17280, "16:51:00")],
        [("16:51:10", "16:51:12", "16:51:11", 200, "", "16:51:10")],
    ], 0),
}  # fmt: skip


def at(text):
    """Epoch seconds of a time of that day."""
    hours, minutes, seconds = map(int, text.split(":"))
    return DAY + hours * 3600 + minutes * 60 + seconds


def amz_date(seconds):
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def http_date(seconds):
    return email.utils.formatdate(seconds, usegmt=True)


class Skewed:
    """A transport and a clock that act one operation's attempts."""

    def __init__(self):
        self.now, self.attempts, self.signed = 0.0, [], []

    def __call__(self, request, *, timeout=None):
        sent, received, date, status, extra, _ = self.attempts.pop(0)
        assert self.now == at(sent)
        self.now = at(received)
        self.signed.append(header(request, "x-amz-date"))
        headers = [("Date", http_date(at(date)))] if date else []
        if isinstance(extra, int):
            headers.append(("Age", str(extra)))
        if status == 200:
            return accepted(*headers, status=200)
        return refused(status, extra, *headers)


@pytest.mark.parametrize("most, operations, skew", SCENARIOS.values(), ids=SCENARIOS)
def test_clock_skew_follows_the_sdks(most, operations, skew):
    world = Skewed()
    client, _, _ = scripted(transport=world, clock=lambda: world.now, max_attempts=most)
    for operation in operations:
        world.now, world.attempts, world.signed = at(operation[0][0]), list(operation), []
        _, _, _, status, code, _ = operation[-1]
        assert outcome_of(client) == (200 if status == 200 else code)
        assert world.attempts == []
        assert world.signed == [amz_date(at(signed)) for *_, signed in operation]
    world.now = at("20:00:00")
    signed = client.explain(**CALL).request
    assert header(signed, "x-amz-date") == amz_date(at("20:00:00") + skew)


SKEW_CODES = """
RequestTimeTooSkewed InvalidSignatureException SignatureDoesNotMatch AuthFailure
AccessDeniedException
""".split()
OFFSETS = [(240, 1), (241, 2), (-240, 1), (-241, 2)]


@pytest.mark.parametrize("code", [*SKEW_CODES, "RequestExpired", "RequestInTheFuture"])
@pytest.mark.parametrize("offset, times", OFFSETS)
def test_only_more_than_four_minutes_are_blamed_for_some_codes(code, offset, times):
    date = ("Date", http_date(INSTANT + offset))
    client, transport, _ = scripted(refused(403, code, date), accepted())
    outcome_of(client)
    assert len(transport.requests) == (times if code in SKEW_CODES else 1)


@pytest.mark.parametrize("minutes", [10, -10])
def test_a_wrong_clock_is_corrected_on_the_way(minutes):
    with Emulator(clock=lambda: time.time() + 60 * minutes) as server, connected(server) as client:
        metadata = client.invoke_endpoint_async(**CALL)["ResponseMetadata"]
        assert metadata["RetryAttempts"] == 1
        assert metadata["ClockSkew"] == pytest.approx(60 * minutes, abs=5)
        assert client.invoke_endpoint_async(**CALL)["ResponseMetadata"]["RetryAttempts"] == 0
        assert (len(server.requests), len(server.ledger)) == (3, 2)


def test_four_minutes_are_accepted_as_they_are():
    with Emulator(clock=lambda: time.time() + 230) as server, connected(server) as client:
        assert client.invoke_endpoint_async(**CALL)["ResponseMetadata"]["RetryAttempts"] == 0


# --- explain


def stable(request):
    """The request without what differs from one call to the next."""
    changing = ("amz-sdk-invocation-id", "authorization")
    headers = [pair for pair in request.headers if pair[0].lower() not in changing]
    return request.method, request.url, headers, request.body


@pytest.mark.parametrize(
    "members", [CALL, {"EndpointName": "e", "Body": b"[1]", "Accept": "a/b"}], ids=["s3", "body"]
)
def test_explain_shows_what_is_sent_next(members):
    client, transport, _ = scripted(accepted(), credentials=TEMPORARY)
    signed = client.explain(**members)
    assert transport.requests == []
    client.invoke_endpoint_async(**members)
    (sent,) = transport.requests
    assert stable(signed.request) == stable(sent)
    ids = [header(request, "amz-sdk-invocation-id") for request in (signed.request, sent)]
    assert len(set(ids)) == 2 and all(uuid.UUID(text).version == 4 for text in ids)
    assert signed.signature in header(signed.request, "authorization")
    names = [[name for name, _ in request.headers] for request in (signed.request, sent)]
    assert names[0] == names[1]


def test_explain_opens_no_connection_and_would_be_accepted(server):
    with connected(server, credentials=TEMPORARY) as client:
        request = client.explain(**CALL).request
        assert server.connections == 0
        with contextlib.closing(smasync.UrllibTransport(environ={})) as transport:
            assert transport(request).status == 202


# --- Logging

SILENT = """
import sys
sys.path.insert(0, sys.argv[1])
import smasync

with smasync.Client(
    "us-east-1", endpoint_url=sys.argv[2], aws_access_key_id=sys.argv[3],
    aws_secret_access_key=sys.argv[4], environ={},
) as client:
    client.invoke_endpoint_async(EndpointName="e", InputLocation="s3://bucket/in.json")
assert "logging" not in sys.modules
"""


def test_logging_is_not_imported_for_a_call(server):
    home = str(Path(smasync.__file__).resolve().parent)
    keys = [KEYS.access_key_id, KEYS.secret_access_key]
    command = [sys.executable, "-W", "error", "-c", SILENT, home, server.url, *keys]
    server.fail(emu.throttle())
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (len(server.ledger), len(server.requests)) == (1, 2)


def test_the_log_shows_every_step(server, caplog):
    caplog.set_level(logging.DEBUG, "smasync")
    server.fail(emu.throttle())
    with connected(server, credentials=TEMPORARY) as client:
        answer = client.invoke_endpoint_async(**CALL)
        signed = client.explain(**CALL)
    scope = f"{amz_date(answer['ResponseMetadata']['ServerTime'])[:8]}/us-east-1/sagemaker"
    for text in (
        "SageMaker Runtime, InvokeEndpointAsync",
        "POST\n/endpoints/my-endpoint/async-invocations\n",  # canonical request
        "x-amzn-sagemaker-inputlocation:s3://bucket/in.json\n",
        f"AWS4-HMAC-SHA256\n{amz_date(answer['ResponseMetadata']['ServerTime'])[:4]}",
        scope,
        "attempt=1; max=3",  # the requests
        "attempt=2; max=3",
        "400",  # the answers
        "202",
        answer["ResponseMetadata"]["RequestId"],
        answer["OutputLocation"],
        "ThrottlingException",  # the retry
    ):
        assert text in caplog.text
    assert {record.name for record in caplog.records} == {"smasync"}
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert len(caplog.records) >= 5
    assert signed.signature not in caplog.text, "explain is no call"


def test_above_debug_nothing_is_logged(server, caplog):
    caplog.set_level(logging.INFO, "smasync")
    server.fail(emu.throttle())
    with connected(server) as client:
        client.invoke_endpoint_async(**CALL)
    assert caplog.records == []


SECRETS = (TEMPORARY.secret_access_key, TOKEN)


@pytest.mark.parametrize("size", ["short", "long"])
def test_the_log_has_no_secret_no_token_and_no_sensitive_member(server, caplog, size):
    caplog.set_level(logging.DEBUG, "smasync")
    body = "PRIVATE BODY " * (1 if size == "short" else 5000)
    server.fail(emu.throttle(), emu.status(400, "ValidationError", "words"))
    with connected(server, credentials=TEMPORARY) as client:
        members = {"EndpointName": "e", "Body": body, "CustomAttributes": "CONFIDENTIAL=1"}
        assert pytest.raises(ClientError, client.invoke_endpoint_async, **members)
    assert "attempt=2" in caplog.text
    for secret in (*SECRETS, "PRIVATE BODY", "CONFIDENTIAL"):
        assert secret not in caplog.text


ECHOES = {
    "message": lambda text: refused(400, "E", message=f"token {text} is bad"),
    "other words": lambda text: Response(400, (), f"<html>{text}</html>".encode()),
    "header": lambda text: refused(400, "E", ("x-echo", text)),
    "code": lambda text: refused(400, text),
    "retried": lambda text: refused(500, "E", ("x-echo", text), message=f"{text} again"),
}


@pytest.mark.parametrize("secret", SECRETS, ids=["secret key", "token"])
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_a_secret_that_the_service_echoes_is_hidden(caplog, echo, secret):
    caplog.set_level(logging.DEBUG, "smasync")
    client, _, _ = scripted(*[echo(secret)] * 3, credentials=TEMPORARY)
    with pytest.raises(ClientError) as raised:
        client.invoke_endpoint_async(**CALL)
    error = raised.value
    shown = [str(error), repr(error), error.message, error.code, repr(error.response), caplog.text]
    assert [text for text in shown if secret in text] == []
    assert [text for text in error.args if secret in str(text)] == []


def test_a_token_in_the_canonical_request_that_the_service_wanted_is_hidden(server, caplog):
    caplog.set_level(logging.DEBUG, "smasync")
    wrong = Credentials(TEMPORARY.access_key_id, "another-secret", TOKEN)
    with connected(server, credentials=wrong) as client, pytest.raises(ClientError) as raised:
        client.invoke_endpoint_async(**CALL)
    assert "The Canonical String for this request should have been" in raised.value.message
    assert TOKEN not in raised.value.message
    assert TOKEN not in caplog.text


def test_custom_attributes_that_the_service_echoes_are_not_logged(caplog):
    caplog.set_level(logging.DEBUG, "smasync")
    echo = "should have been\n'POST\n\nx-amzn-sagemaker-custom-attributes:CONFIDENTIAL=1\n'"
    client, _, _ = scripted(refused(500, "E", message=echo), accepted())
    client.invoke_endpoint_async(**CALL, CustomAttributes="CONFIDENTIAL=1")
    assert "CONFIDENTIAL" not in caplog.text


# --- Threads and connections


def test_sixteen_threads_share_one_client(server):
    with connected(server) as client:

        def calls(number):
            answers = [
                client.invoke_endpoint_async(**CALL, InferenceId=f"{number}-{count}")
                for count in range(50)
            ]
            return [answer["InferenceId"] for answer in answers]

        with ThreadPoolExecutor(16) as pool:
            ids = [text for found in pool.map(calls, range(16)) for text in found]
    assert ids == [f"{number}-{count}" for number in range(16) for count in range(50)]
    assert sorted(inference.inference_id for inference in server.ledger) == sorted(ids)
    sent = {
        inference.received.header("amz-sdk-invocation-id")
        for inference in server.ledger
    }  # fmt: skip
    assert (len(server.ledger), len(sent)) == (800, 800)
    assert server.connections <= 16


def test_threads_share_one_quota(server):
    server.fail_every(lambda received: emu.status(500))
    with connected(server) as client, ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: outcome_of(client), range(160))) == {500}
    assert len(server.requests) == 160 + 500 // 14


def test_threads_renew_expired_credentials_once():
    loads, lock = [], threading.Lock()
    arrived = threading.Barrier(8)

    def load():
        with lock:
            loads.append(1)
            return fresh("new" if len(loads) > 1 else "old")

    def transport(request, *, timeout=None):
        if header(request, "x-amz-security-token") == "old":
            arrived.wait(10)
            return refused(400, "ExpiredTokenException")
        return accepted()

    client, _, _ = scripted(transport=transport, credentials=load)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: outcome_of(client), range(8))) == {200}
    assert len(loads) == 2


CORRECTED = {
    # what the service refuses at first: whether it does, the answer to that
    "an expired token": (
        lambda request: header(request, "x-amz-security-token") == "old",
        refused(400, "ExpiredTokenException"),
    ),
    "a wrong clock": (
        lambda request: header(request, "x-amz-date") == amz_date(INSTANT),
        refused(403, "SignatureDoesNotMatch", ("Date", http_date(INSTANT + 600))),
    ),
}


@pytest.mark.parametrize("wrong, refusal", CORRECTED.values(), ids=CORRECTED)
def test_what_is_corrected_for_many_calls_at_once_costs_no_quota(wrong, refusal):
    count = 2 * (500 // 14)
    arrived, tokens = threading.Barrier(count), iter(["old", "new"])

    def transport(request, *, timeout=None):
        if not wrong(request):
            return accepted(("Date", http_date(INSTANT + 600)))
        arrived.wait(30)
        return refusal

    client, _, _ = scripted(transport=transport, credentials=lambda: fresh(next(tokens)))
    with ThreadPoolExecutor(count) as pool:
        assert set(pool.map(lambda _: outcome_of(client), range(count))) == {200}
    assert client._sender.quota.available == 500


def test_a_second_correction_of_the_clock_in_a_call_is_paid_for():
    """As with servers that disagree about the time."""
    dates = [("Date", http_date(INSTANT + seconds)) for seconds in (600, 0)]
    refusals = [refused(403, "SignatureDoesNotMatch", date) for date in dates]
    for later, left in ([accepted()], 500), ([refusals[1], refused(400, "ValidationError")], 486):
        client, _, _ = scripted(refusals[0], *later)
        outcome_of(client)
        assert client._sender.quota.available == left


def test_a_client_closes_its_connections_and_stays_usable(server):
    with connected(server) as client:
        client.invoke_endpoint_async(**CALL)
        assert server.open_connections == 1
    wait_until(lambda: server.open_connections == 0)
    client.invoke_endpoint_async(**CALL)
    client.close()
    wait_until(lambda: server.open_connections == 0)
    assert server.connections == 2


def test_a_client_closes_its_connections_after_an_error(server):
    with pytest.raises(ZeroDivisionError), connected(server) as client:
        client.invoke_endpoint_async(**CALL)
        raise ZeroDivisionError
    wait_until(lambda: server.open_connections == 0)


def test_a_transport_without_close_will_do():
    with scripted(accepted())[0] as client:
        assert outcome_of(client) == 200


def test_a_client_opens_nothing_before_its_first_call(server):
    with connected(server) as client:
        assert (client.endpoint_url, client.region_name) == (server.url, "us-east-1")
    assert server.connections == 0


def test_calls_over_tls_use_the_bundle_of_the_environment():
    with Emulator(tls=True) as server:
        environ = {"AWS_CA_BUNDLE": server.ca_bundle}
        with connected(server, environ=environ) as client:
            assert outcome_of(client) == 200
        with connected(server, verify=server.ca_bundle) as client:
            assert outcome_of(client) == 200
        warned = pytest.warns(UserWarning, match="verify=False")
        with warned, connected(server, verify=False) as client:
            assert outcome_of(client) == 200
        with connected(server) as client:
            assert outcome_of(client) == "tls"
        assert len(server.ledger) == 3


# --- Whatever is accepted goes over the wire unharmed

PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
LETTERS = string.ascii_letters + string.digits
KEY = st.text(
    st.one_of(st.sampled_from(" /%+?#&=~'\u00a0\u3000\u0085é"), st.characters(min_codepoint=0x20)),
    max_size=200,
).filter(lambda text: "\x7f" not in text and text == text.strip(" ") and encodable(text))
VALUE = st.one_of(
    st.text(PRINTABLE, max_size=80),
    st.sampled_from(
        ["", " ", "  a   b  ", ",", "a,b", '"', "a" * 1024, "=?utf-8?", "a: b;c", "%"]
    ),
)


def encodable(text):
    try:
        return bool(text.encode()) or True
    except UnicodeEncodeError:
        return False


NAME = st.from_regex(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,30}", fullmatch=True).filter(
    lambda text: len(text) <= 63 and text.isascii()
)
LOCATION = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["s3", "https"]),
    st.text(LETTERS + "-.", min_size=1, max_size=63),
    st.one_of(st.just(""), st.builds("/{}".format, KEY)),
).filter(lambda text: len(text) <= 1024)
BODY = st.one_of(
    st.binary(min_size=1, max_size=300), st.just(bytes(128_000)), st.text("aé😀\0\r\n", min_size=1)
)
INPUT = st.one_of(
    st.fixed_dictionaries({"InputLocation": LOCATION}), st.fixed_dictionaries({"Body": BODY})
)
OPTIONAL = st.fixed_dictionaries(
    {},
    optional={
        "ContentType": VALUE,
        "Accept": VALUE,
        "CustomAttributes": VALUE,
        "InferenceId": st.from_regex(r"[!-~][ -~]{0,63}", fullmatch=True),
        "S3OutputPathExtension": st.text(LETTERS + "!_.*'()/-", min_size=1, max_size=512),
        "Filename": st.from_regex(
            r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,15}(\.[a-zA-Z0-9_-]{0,15})?", fullmatch=True
        ),
        "RequestTTLSeconds": st.integers(60, 21_600),
        "InvocationTimeoutSeconds": st.integers(1, 3600),
    },
)
CALLS = st.builds(lambda name, *parts: {"EndpointName": name, **parts[0], **parts[1]},
                  NAME, INPUT, OPTIONAL)  # fmt: skip


def changed(received, signed_headers):
    """Every request that differs from the received one in one canonical value."""

    def but(**parts):
        names = ("method", "target", "headers", "body")
        return emu.Received(*({name: getattr(received, name) for name in names} | parts).values())

    yield but(method="PUT")
    yield but(target=received.target.replace("/async", "x/async"))
    yield but(target=received.target + "?a=b")
    yield but(body=received.body + b"x")
    for number, (name, value) in enumerate(received.headers):
        before, after = received.headers[:number], received.headers[number + 1 :]
        if name.lower() in signed_headers:
            yield but(headers=(*before, *after))
            yield but(headers=(*before, (name, value + "x"), *after))
            yield but(headers=(*before, (name, flipped(value)), *after))
        elif name.lower() == "authorization":
            yield but(headers=(*before, (name, value[:-1] + flipped(value[-1])), *after))
            yield but(headers=(*before, (name, value.replace("us-east-1", "us-east-2")), *after))


def flipped(value):
    """The text with another character at its end, one that any header may have."""
    return value[:-1] + ("1" if value[-1:] == "0" else "0")


@pytest.mark.parametrize("credentials", [KEYS, TEMPORARY], ids=["keys", "token"])
def test_any_valid_call_is_accepted_as_given_and_no_change_to_it_is(credentials):
    accounts = {
        credentials.access_key_id: Account(
            credentials.secret_access_key, credentials.session_token
        )
    }
    calls = []

    @settings(max_examples=500)
    @given(CALLS)
    def check(members):
        calls.append(members)
        answer = client.invoke_endpoint_async(**members)
        assert len(server.ledger) == len(server.requests) == len(calls)
        inference = server.ledger[-1]
        assert answer["OutputLocation"] == inference.output_location
        expected = {name: str(value).strip(" ") for name, value in members.items()}
        body = members.get("Body")
        expected.pop("Body", None)
        assert inference.members == {name: text for name, text in expected.items() if text}
        assert inference.body == (body.encode() if isinstance(body, str) else body)
        verified = emu.verify(inference.received, accounts)
        mutants = list(changed(inference.received, verified.signed_headers))
        assert len(mutants) > 3 * len(verified.signed_headers)
        for mutant in mutants:
            with pytest.raises(SignatureError):
                emu.verify(mutant, accounts)

    with Emulator(accounts=accounts, model=lambda body, kind: b"") as server:
        with connected(server, credentials=credentials) as client:
            check()
        assert server.connections == 1
    assert len(calls) >= 500


# --- Hints


class Altering:
    """A transport that changes the value of one header on the way."""

    def __init__(self, header):
        self.header, self.transport = header, smasync.UrllibTransport(environ={})
        self.close = self.transport.close

    def __call__(self, request, **options):
        changed = tuple((n, v + "!" if n == self.header else v) for n, v in request.headers)
        sent = smasync.Request(request.method, request.url, changed, request.body)
        return self.transport(sent, **options)


@pytest.mark.parametrize("operation", ["invoke_endpoint_async", "put_input"])
def test_the_hint_shows_what_was_changed_on_the_way(server, operation):
    altered = Altering("amz-sdk-request")
    environ = {"AWS_ENDPOINT_URL_S3": server.url}
    calls = {
        "put_input": lambda client: client.put_input(b"1", "s3://my-bucket/in"),
        "invoke_endpoint_async": lambda client: client.invoke_endpoint_async(**CALL),
    }
    made = connected(server, transport=altered, environ=environ)
    with made as client, pytest.raises(ClientError) as raised:
        calls[operation](client)
    hint = raised.value.hint
    assert "'amz-sdk-request:attempt=1; max=3!'" in hint
    assert "'amz-sdk-request:attempt=1; max=3'" in hint
    assert hint not in str(raised.value)


def test_a_wrong_secret_is_hinted_at_when_the_canonical_requests_agree(server):
    wrong = Credentials(TEMPORARY.access_key_id, "another-secret-of-some-length", TOKEN)
    with connected(server, credentials=wrong) as client, pytest.raises(ClientError) as raised:
        client.invoke_endpoint_async(**CALL)
    assert "the secret key or the token is another one" in raised.value.hint


def test_a_hint_hides_what_a_log_hides():
    mismatch = smasync.mismatch
    theirs = "POST\n/\n\nx-amzn-sagemaker-custom-attributes:CONFIDENTIAL=1\n"
    text = f"{smasync.EXPECTED}{theirs}'\n\nThe String-to-Sign should have been"
    hint = mismatch({"Message": text}, theirs.replace("=1", "=22"))
    assert "line 4" in hint
    assert "CONFIDENTIAL" not in hint


@pytest.mark.parametrize("code", smasync.HINTS)
def test_a_code_with_a_hint_has_it(code):
    client, _, _ = scripted(refused(403, code))
    with pytest.raises(ClientError) as raised:
        client.invoke_endpoint_async(**CALL)
    assert raised.value.hint == smasync.HINTS[code]


def invocation_ids(client, count):
    signed = [client.explain(**CALL) for _ in range(count)]
    return [dict(each.request.headers)["amz-sdk-invocation-id"] for each in signed]


def test_the_invocation_id_is_a_uuid_that_no_other_call_has():
    same = {"credentials": KEYS, "environ": {}, "clock": lambda: 1440938160.0}
    clients = [Client("us-east-1", **same) for _ in range(10)]
    texts = {text for client in clients for text in invocation_ids(client, 100)}
    found = {uuid.UUID(text) for text in texts}
    assert len(found) == 1000
    assert len(found) == 1000
    assert {str(each) for each in found} == texts
    assert {(each.version, each.variant) for each in found} == {(4, uuid.RFC_4122)}


FORKED = """
import os

import smasync

keys = smasync.Credentials("AKIDEXAMPLE", "secret")
client = smasync.Client("us-east-1", credentials=keys, environ={}, clock=lambda: 1440938160.0)
child = os.fork()
call = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
signed = [client.explain(**call) for _ in range(50)]
if child:
    os.waitpid(child, 0)  # so that nobody writes between the other's words
print(*[dict(each.request.headers)["amz-sdk-invocation-id"] for each in signed], flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_has_other_invocation_ids():
    command = [sys.executable, "-c", FORKED]
    root = Path(smasync.__file__).parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    ids = done.stdout.split()
    assert len(set(ids)) == len(ids) == 100


@pytest.mark.parametrize("later", [0.000_01, 0.004_096, 0.061_44, 1.0, 86_400.0])
def test_a_copy_of_a_process_has_other_invocation_ids_at_another_time(later):
    now = [1440938160.0]
    client = Client("us-east-1", credentials=KEYS, environ={}, clock=lambda: now[0])
    client._count = itertools.count()
    before = set(invocation_ids(client, 50))
    now[0], client._count = now[0] + later, itertools.count()
    assert before.isdisjoint(invocation_ids(client, 50))
