"""boto3's own clients against tests/emulator.py: a server that AWS's client takes for AWS's.

What accepts boto3's requests, refuses its wrong ones and is understood by it is a fair server to
smasync as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from emulator import Account, Emulator, accept_then_reset, status, throttle, verify
from hypothesis import given, settings
from oracles import (
    ACCESS_KEY_ID,
    KEYS,
    NOW,
    SECRET_ACCESS_KEY,
    TOKEN,
    boto3_client,
    calls,
    hurried,
    keys_of_objects,
)

import smasync

BUCKET = "my-bucket"
NUMBERS = b'{"values": [3, 1, 4, 1, 5]}'
PATH_STYLE = {"addressing_style": "path"}  # the emulator has one host for all buckets


class Boto3(NamedTuple):
    """Both clients that the whole job takes."""

    sagemaker: Any
    s3: Any


def boto3_of(emulator: Emulator, **keys: Any) -> Boto3:
    options = {"region_name": emulator.region, **keys}
    return Boto3(
        boto3_client("sagemaker-runtime", emulator.url, **options),
        boto3_client("s3", emulator.url, config=Config(s3=PATH_STYLE), **options),
    )


def smasync_of(emulator: Emulator) -> smasync.Client:
    environ = {"AWS_ENDPOINT_URL": emulator.url}
    return smasync.Client(emulator.region, credentials=KEYS, environ=environ)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Emulator, Boto3]]:
    """One emulator with its clients, for many examples."""
    with Emulator() as running:
        yield running, boto3_of(running)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def boto3(emulator: Emulator) -> Boto3:
    return boto3_of(emulator)


def refused(call: Any, *arguments: Any, **options: Any) -> tuple[int, str]:
    """(HTTP status, code) of the ClientError that a call raises."""
    with pytest.raises(ClientError) as raised:
        call(*arguments, **options)
    response = raised.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def place(location: str) -> dict[str, str]:
    """Bucket and Key of an s3:// location."""
    bucket, _, key = location.partition("://")[2].partition("/")
    return {"Bucket": bucket, "Key": key}


# --- The whole job


def test_an_input_in_s3_is_put_invoked_and_its_result_is_got(
    emulator: Emulator, boto3: Boto3
) -> None:
    where = {"Bucket": BUCKET, "Key": "in/ä b+c.json"}
    put = boto3.s3.put_object(**where, Body=NUMBERS, ContentType="application/json")
    accepted = boto3.sagemaker.invoke_endpoint_async(
        EndpointName="my-endpoint",
        InputLocation=f"s3://{BUCKET}/in/ä b+c.json",
        InferenceId="my id",
        S3OutputPathExtension="some/where",
        Filename="result.json",
    )
    emulator.drain()
    assert accepted["InferenceId"] == "my id"
    assert accepted["OutputLocation"] == "s3://async-output/some/where/result.json"
    assert accepted["ResponseMetadata"]["HTTPStatusCode"] == 202
    got = boto3.s3.get_object(**place(accepted["OutputLocation"]))
    assert json.loads(got["Body"].read())["mean"] == 2.8
    assert got["ContentType"] == "application/json"
    assert put["ETag"] == boto3.s3.head_object(**where)["ETag"]
    assert refused(boto3.s3.get_object, **place(accepted["FailureLocation"])) == (404, "NoSuchKey")


def test_a_body_is_invoked_and_its_result_is_got(emulator: Emulator, boto3: Boto3) -> None:
    accepted = boto3.sagemaker.invoke_endpoint_async(
        EndpointName="my-endpoint", Body=NUMBERS, ContentType="application/json"
    )
    emulator.drain()
    (inference,) = emulator.ledger
    assert (inference.body, inference.input_location) == (NUMBERS, None)
    assert accepted["InferenceId"] == inference.inference_id
    got = boto3.s3.get_object(**place(accepted["OutputLocation"]))["Body"].read()
    assert json.loads(got)["count"] == 5


def test_a_failing_model_leaves_a_failure(emulator: Emulator, boto3: Boto3) -> None:
    accepted = boto3.sagemaker.invoke_endpoint_async(EndpointName="my-endpoint", Body=b"!")
    emulator.drain()
    failure = boto3.s3.get_object(**place(accepted["FailureLocation"]))
    assert b"neither numbers nor words" in failure["Body"].read()
    assert failure["ContentType"] == "text/plain"
    assert refused(boto3.s3.head_object, **place(accepted["OutputLocation"])) == (404, "404")


def test_what_one_client_puts_the_other_gets(emulator: Emulator, boto3: Boto3) -> None:
    with smasync_of(emulator) as client:
        location = client.put_input(NUMBERS, f"s3://{BUCKET}/ä  b+c", ContentType="text/x  y")
        got = boto3.s3.get_object(**place(location))
        assert (got["Body"].read(), got["ContentType"]) == (NUMBERS, "text/x  y")
        boto3.s3.put_object(**place(location), Body=b"another", ContentType="text/plain")
        found = client.poll({"OutputLocation": location})
    assert (found.body, found.content_type) == (b"another", "text/plain")


def test_one_client_waits_for_what_the_other_invoked(emulator: Emulator, boto3: Boto3) -> None:
    call: dict[str, Any] = {"EndpointName": "my-endpoint", "ContentType": "application/json"}
    accepted = boto3.sagemaker.invoke_endpoint_async(**call, Body=NUMBERS)
    failed = boto3.sagemaker.invoke_endpoint_async(**call, Body=b"!")
    emulator.drain()
    with smasync_of(emulator) as client:
        assert json.loads(client.wait(accepted, timeout=30).body)["mean"] == 2.8
        with pytest.raises(smasync.InferenceError) as raised:
            client.wait(failed, timeout=30)
    assert raised.value.location == failed["FailureLocation"]


@settings(max_examples=300)
@given(call=calls)
def test_any_call_of_boto3s_is_accepted_as_it_was_meant(
    shared: tuple[Emulator, Boto3], call: dict[str, Any]
) -> None:
    emulator, boto3 = shared
    boto3.sagemaker.invoke_endpoint_async(**call)
    inference = emulator.ledger.pop()
    body = call.pop("Body", None)
    body = body.encode() if isinstance(body, str) else body
    assert inference.body == (None if body is None else bytes(body))
    # boto3 sends "" for a member that says nothing; numbers come as text
    expected = {name: str(value).strip(" ") for name, value in call.items()}
    assert inference.members == expected


@settings(max_examples=300)
@given(key=keys_of_objects(()))
def test_an_object_of_any_key_comes_back(shared: tuple[Emulator, Boto3], key: str) -> None:
    emulator, boto3 = shared
    where = {"Bucket": BUCKET, "Key": key}
    content = key.encode()
    boto3.s3.put_object(**where, Body=content, Metadata={"note": "a  b"})
    got = boto3.s3.get_object(**where)
    assert (got["Body"].read(), got["Metadata"]) == (content, {"note": "a  b"})
    assert emulator.get(f"s3://{BUCKET}/{key}") == content
    emulator.objects.clear()


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
def test_an_object_of_any_size_comes_back(boto3: Boto3, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    boto3.s3.put_object(Bucket=BUCKET, Key="key", Body=content)
    got = boto3.s3.get_object(Bucket=BUCKET, Key="key")
    assert got["Body"].read() == content
    part = boto3.s3.get_object(Bucket=BUCKET, Key="key", Range="bytes=0-9") if size else got
    assert part["ContentLength"] == min(size, 10)


# --- What is refused


def test_a_missing_object_is_404_and_403_to_those_who_may_not_list(
    emulator: Emulator, boto3: Boto3
) -> None:
    where = {"Bucket": BUCKET, "Key": "missing"}
    assert refused(boto3.s3.head_object, **where) == (404, "404")
    assert refused(boto3.s3.get_object, **where) == (404, "NoSuchKey")
    with pytest.raises(boto3.s3.exceptions.NoSuchKey):
        boto3.s3.get_object(**where)
    emulator.may_list = False
    assert refused(boto3.s3.head_object, **where) == (403, "403")
    assert refused(boto3.s3.get_object, **where) == (403, "AccessDenied")


WRONG = {
    # what: (keys, SageMaker's code, S3's code)
    "secret": (
        {"aws_secret_access_key": "another"},
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
    ),
    "key": (
        {"aws_access_key_id": "AKIDOTHER"},
        "UnrecognizedClientException",
        "InvalidAccessKeyId",
    ),
    "token": (
        {"aws_session_token": "another"},
        "UnrecognizedClientException",
        "InvalidAccessKeyId",
    ),
}


@pytest.mark.parametrize(("keys", "code", "s3_code"), WRONG.values(), ids=WRONG.keys())
def test_what_is_signed_with_the_wrong_keys_is_refused(
    emulator: Emulator, keys: dict[str, str], code: str, s3_code: str
) -> None:
    boto3 = boto3_of(emulator, **keys)
    call: dict[str, Any] = {"EndpointName": "my-endpoint", "Body": NUMBERS}
    assert refused(boto3.sagemaker.invoke_endpoint_async, **call) == (403, code)
    put = {"Bucket": BUCKET, "Key": "key", "Body": b"x"}
    assert refused(boto3.s3.put_object, **put) == (403, s3_code)
    assert emulator.ledger == [] and emulator.objects == {}


def test_what_is_signed_for_another_region_is_refused(emulator: Emulator) -> None:
    boto3 = boto3_of(emulator, region_name="us-west-2")
    call: dict[str, Any] = {"EndpointName": "my-endpoint", "Body": NUMBERS}
    code = "InvalidSignatureException"
    assert refused(boto3.sagemaker.invoke_endpoint_async, **call) == (403, code)


def test_boto3_learns_a_bucket_s_region_from_the_refusal(emulator: Emulator, boto3: Boto3) -> None:
    emulator.bucket_regions["far"] = "eu-central-1"
    boto3.s3.put_object(Bucket="far", Key="key", Body=b"x")
    regions = [request.header("authorization").split("/")[2] for request in emulator.requests]
    assert regions == ["us-east-1", "eu-central-1"]
    assert emulator.get("s3://far/key") == b"x"


def test_a_session_token_is_checked(emulator: Emulator) -> None:
    emulator.accounts[ACCESS_KEY_ID] = Account(SECRET_ACCESS_KEY, TOKEN.session_token)
    call: dict[str, Any] = {"EndpointName": "my-endpoint", "Body": NUMBERS}
    with_token = boto3_of(emulator, aws_session_token=TOKEN.session_token)
    assert with_token.sagemaker.invoke_endpoint_async(**call)["OutputLocation"]
    code = "UnrecognizedClientException"
    assert refused(boto3_of(emulator).sagemaker.invoke_endpoint_async, **call) == (403, code)
    emulator.accounts[ACCESS_KEY_ID] = Account(SECRET_ACCESS_KEY, TOKEN.session_token, NOW)
    code = "ExpiredTokenException"
    assert refused(with_token.sagemaker.invoke_endpoint_async, **call) == (403, code)


def test_what_is_malformed_is_a_validation_error_of_boto3s(boto3: Boto3) -> None:
    errors = boto3.sagemaker.exceptions
    with pytest.raises(errors.ValidationError, match="2 validation errors detected"):
        boto3.sagemaker.invoke_endpoint_async(EndpointName="a" * 64)


def test_boto3_and_smasync_are_verified_from_the_same_canonical_request(
    emulator: Emulator, boto3: Boto3
) -> None:
    """But for time and what smasync signs beyond boto3."""
    call: dict[str, Any] = {"EndpointName": "my-endpoint", "InputLocation": "s3://my-bucket/ä  b"}
    boto3.sagemaker.invoke_endpoint_async(**call)
    with smasync_of(emulator) as client:
        client.invoke_endpoint_async(**call)
    requests = [verify(request, emulator.accounts) for request in emulator.requests]
    theirs, ours = (
        [
            line
            for line in verified.canonical_request.split("\n")
            if not line.startswith(("x-amz-date:", "amz-sdk-"))
        ]
        for verified in requests
    )
    theirs.remove("host;x-amz-date;x-amzn-sagemaker-inputlocation")
    assert theirs == ours


# --- Faults


@pytest.mark.parametrize("times", [1, 2])
def test_boto3_tries_again_after_throttles(emulator: Emulator, boto3: Boto3, times: int) -> None:
    for client in boto3:
        hurried(client)
    emulator.fail(*[throttle()] * times)
    accepted = boto3.sagemaker.invoke_endpoint_async(EndpointName="my-endpoint", Body=NUMBERS)
    assert accepted["ResponseMetadata"]["RetryAttempts"] == times
    emulator.fail(*[throttle()] * times)
    put = boto3.s3.put_object(Bucket=BUCKET, Key="key", Body=b"x")
    assert put["ResponseMetadata"]["RetryAttempts"] == times
    assert len(emulator.requests) == 2 * (times + 1) and len(emulator.ledger) == 1


def test_boto3_gives_up_after_three_throttles(emulator: Emulator, boto3: Boto3) -> None:
    hurried(boto3.sagemaker)
    emulator.fail(*[throttle()] * 3)
    with pytest.raises(
        ClientError, match=r"\(ThrottlingException\) .* \(reached max retries: 2\)"
    ):
        boto3.sagemaker.invoke_endpoint_async(EndpointName="my-endpoint", Body=NUMBERS)
    assert len(emulator.requests) == 3 and emulator.ledger == []


def test_boto3_enqueues_twice_when_an_answer_is_lost(emulator: Emulator, boto3: Boto3) -> None:
    hurried(boto3.sagemaker)
    emulator.fail(accept_then_reset())
    boto3.sagemaker.invoke_endpoint_async(
        EndpointName="my-endpoint", Body=NUMBERS, InferenceId="same"
    )
    assert [inference.inference_id for inference in emulator.ledger] == ["same", "same"]


def test_a_fault_s_status_code_and_message_reach_boto3(emulator: Emulator, boto3: Boto3) -> None:
    for spelling in ("header", "__type", "code", "Code"):
        emulator.fail(status(404, "FooError", "no such endpoint", spelling=spelling))
        with pytest.raises(ClientError, match=r"\(FooError\).*: no such endpoint"):
            boto3.sagemaker.invoke_endpoint_async(EndpointName="my-endpoint", Body=NUMBERS)


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_clock_that_is_off_stops_boto3_and_not_smasync(
    emulator: Emulator, boto3: Boto3, seconds: int
) -> None:
    real = emulator.clock
    emulator.clock = lambda: real() + seconds
    call: dict[str, Any] = {"EndpointName": "my-endpoint", "Body": NUMBERS}
    code = "InvalidSignatureException"
    assert refused(boto3.sagemaker.invoke_endpoint_async, **call) == (403, code)
    with smasync_of(emulator) as client:
        accepted = client.invoke_endpoint_async(**call)
    assert accepted["ResponseMetadata"]["RetryAttempts"] == 1
