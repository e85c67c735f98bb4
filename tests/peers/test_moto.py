"""smasync against moto's server: a SageMaker Runtime and an S3 that others wrote.

moto checks no signature, and its answers are not SageMaker's to the letter (200 instead of 202).
What it is asked to answer with is queued over its own API; a failure stands at FailureLocation.
"""

from __future__ import annotations

import io
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from moto.server import ThreadedMotoServer
from oracles import ACCESS_KEY_ID, SECRET_ACCESS_KEY, TOKEN, boto3_client, keys_of_objects

import smasync
from smasync import ClientError, InferenceError, ParamValidationError, Result

REGION = "us-east-1"
BUCKET = "my-bucket"
NUMBERS = b'{"values": [3, 1, 4, 1, 5]}'
CALL: dict[str, Any] = {"EndpointName": "my-endpoint", "ContentType": "application/json"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """moto's server, with a bucket for the inputs."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3_client("s3", url, region_name=REGION).create_bucket(Bucket=BUCKET)
    yield url
    server.stop()


def environ(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_REGION": REGION,
    }


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[smasync.Client]:
    with smasync.Client(environ=environ(url)) as client:
        yield client


@pytest.fixture(scope="module")
def s3(url: str) -> Any:
    """boto3's view of moto's S3."""
    return boto3_client("s3", url, region_name=REGION)


@pytest.fixture
def place() -> str:
    """A location that nothing is at; moto gives the same result for the same input."""
    return f"s3://{BUCKET}/{uuid4()}/in.json"


def next_results(url: str, *results: dict[str, Any]) -> None:
    """Queues what the next new inputs lead to."""
    document = json.dumps({"region": REGION, "results": results}).encode()
    request = urllib.request.Request(
        f"{url}/moto-api/static/sagemaker/async-endpoint-results",
        document,
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


def bucket_and_key(location: str) -> dict[str, str]:
    bucket, _, key = location.partition("://")[2].partition("/")
    return {"Bucket": bucket, "Key": key}


# --- Invoking


def test_an_invocation_is_accepted(client: smasync.Client, place: str) -> None:
    accepted = client.invoke_endpoint_async(**CALL, InputLocation=place, InferenceId="my-id")
    assert accepted["InferenceId"] == "my-id"
    assert accepted["OutputLocation"].startswith("s3://sagemaker-output-")
    assert accepted["FailureLocation"].startswith("s3://sagemaker-output-")
    assert accepted["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert accepted["ResponseMetadata"]["RetryAttempts"] == 0


def test_the_same_call_of_boto3s_gets_the_same_answer(
    client: smasync.Client, url: str, place: str
) -> None:
    call = {**CALL, "InputLocation": place, "InferenceId": "my-id"}
    theirs = boto3_client("sagemaker-runtime", url, region_name=REGION).invoke_endpoint_async(
        **call
    )
    ours = client.invoke_endpoint_async(**call)
    members = ("OutputLocation", "FailureLocation", "InferenceId")
    assert [ours[name] for name in members] == [theirs[name] for name in members]
    assert set(theirs["ResponseMetadata"]) - set(ours["ResponseMetadata"]) == set()


# --- Inputs


def test_an_input_is_put_where_boto3_finds_it(client: smasync.Client, s3: Any, place: str) -> None:
    assert client.put_input(NUMBERS, place, ContentType="application/json") == place
    got = s3.get_object(**bucket_and_key(place))
    assert got["Body"].read() == NUMBERS
    assert got["ContentType"] == "application/json"


# smasync puts nothing at a location that could not be an InputLocation: no space at the end
@settings(max_examples=50)
@given(key=keys_of_objects(("Cc",)).filter(lambda key: not key.endswith(" ")))
def test_an_input_of_any_key_is_found(client: smasync.Client, s3: Any, key: str) -> None:
    location = f"s3://{BUCKET}/keys/{key}"
    assert client.put_input(key.encode(), location) == location
    assert s3.get_object(Bucket=BUCKET, Key=f"keys/{key}")["Body"].read() == key.encode()


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_an_input_is_bytes_a_path_or_a_file(
    client: smasync.Client, s3: Any, place: str, tmp_path: Path, size: int
) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    path = tmp_path / "input"
    path.write_bytes(content)
    for data in (content, bytearray(content), path, str(path), io.BytesIO(content)):
        client.put_input(data, place)
        assert s3.get_object(**bucket_and_key(place))["Body"].read() == content
        s3.delete_object(**bucket_and_key(place))


def test_an_input_is_encrypted_with_the_key_that_is_named(
    client: smasync.Client, s3: Any, place: str
) -> None:
    client.put_input(NUMBERS, place, SSEKMSKeyId="alias/my-key")
    head = s3.head_object(**bucket_and_key(place))
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"].endswith("alias/my-key")


def test_an_input_in_a_bucket_that_is_not_there_is_s3s_error(client: smasync.Client) -> None:
    with pytest.raises(ClientError) as raised:
        client.put_input(NUMBERS, "s3://no-such-bucket/in.json")
    assert (raised.value.code, raised.value.status) == ("NoSuchBucket", 404)
    assert raised.value.operation_name == "PutObject"


# --- Results


def test_the_whole_job_ends_with_the_result(client: smasync.Client, url: str, place: str) -> None:
    next_results(url, {"data": '{"mean": 2.8}'})
    location = client.put_input(NUMBERS, place, ContentType="application/json")
    accepted = client.invoke_endpoint_async(**CALL, InputLocation=location)
    result = client.wait(accepted, timeout=30)
    assert isinstance(result, Result)
    assert json.loads(result.body) == {"mean": 2.8}
    assert result.location == accepted["OutputLocation"]
    assert result.content_type
    assert result.metadata["HTTPStatusCode"] == 200
    assert client.poll(accepted).body == result.body


def test_a_result_goes_to_a_file(
    client: smasync.Client, url: str, place: str, tmp_path: Path
) -> None:
    data = "0123456789" * 300_000
    next_results(url, {"data": data})
    accepted = client.invoke_endpoint_async(**CALL, InputLocation=place)
    result = client.wait(accepted, timeout=30, file=tmp_path / "result")
    assert (tmp_path / "result").read_text() == data
    assert (result.body, result.location) == (b"", accepted["OutputLocation"])


def test_a_failure_is_an_inference_error(client: smasync.Client, url: str, place: str) -> None:
    next_results(url, {"is_failure": True, "data": "the model ran out of memory"})
    accepted = client.invoke_endpoint_async(**CALL, InputLocation=place)
    for look in (client.poll, lambda accepted: client.wait(accepted, timeout=30)):
        with pytest.raises(InferenceError) as raised:
            look(accepted)
        assert raised.value.body == b"the model ran out of memory"
        assert raised.value.location == accepted["FailureLocation"]


def test_results_come_to_those_who_asked_for_them(
    client: smasync.Client, url: str, place: str
) -> None:
    next_results(url, *({"data": f"result {n}"} for n in range(9)))
    answers = [
        client.invoke_endpoint_async(**CALL, InputLocation=f"{place}/{n}") for n in range(9)
    ]
    found = [client.wait(answer, timeout=30).body for answer in reversed(answers)]
    assert found == [f"result {n}".encode() for n in reversed(range(9))]


def test_a_result_that_is_not_there_yet_is_none_until_it_is(
    client: smasync.Client, s3: Any, place: str
) -> None:
    accepted = {"OutputLocation": place, "FailureLocation": f"{place}.failure"}
    assert client.poll(accepted) is None
    with pytest.raises(smasync.ResultTimeout) as raised:
        client.wait(accepted, timeout=0.5)
    assert raised.value.location == place
    s3.put_object(**bucket_and_key(place), Body=b"late", ContentType="text/plain")
    result = client.poll(accepted)
    assert (result.body, result.content_type) == (b"late", "text/plain")


def test_an_empty_result_is_a_result(client: smasync.Client, s3: Any, place: str) -> None:
    s3.put_object(**bucket_and_key(place), Body=b"")
    assert client.wait({"OutputLocation": place}, timeout=30).body == b""


def test_without_output_location_there_is_nothing_to_wait_for(client: smasync.Client) -> None:
    with pytest.raises(ParamValidationError, match="OutputLocation"):
        client.wait({"InferenceId": "my-id"})


# --- Credentials


def test_a_role_is_assumed_of_motos_sts(url: str, tmp_path: Path, place: str) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile work]\nrole_arn = arn:aws:iam::123456789012:role/Work\nsource_profile = base\n"
        f"[profile base]\naws_access_key_id = {TOKEN.access_key_id}\n"
        f"aws_secret_access_key = {TOKEN.secret_access_key}\n"
    )
    variables = {**environ(url), "AWS_CONFIG_FILE": str(config)}
    found = smasync.resolve_credentials("work", environ=variables)
    assert found.access_key_id.startswith("ASIA") and found.session_token
    assert found.expires_at > time.time() + 600
    with smasync.Client(profile_name="work", environ=variables) as client:
        assert client.invoke_endpoint_async(**CALL, InputLocation=place)["OutputLocation"]
