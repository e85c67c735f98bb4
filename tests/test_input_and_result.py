"""Section 12, Input and result: what put_input, poll and wait do, whatever S3 and the network do.

S3 is the emulator; where it has to be at a host of AWS's, or to say what the emulator never says, a
transport or a server of the test's. Time passes in `sleep`, unless a test is about the real clock.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import io
import json
import logging
import math
import os
import re
import socket
import time
from itertools import cycle
from pathlib import Path
from urllib.parse import quote, urlsplit

import emulator as emu
import pytest
from emulator import Account, Emulator
from hypothesis import example, given, settings
from hypothesis import strategies as st
from leaks import counted_memory, told
from raw_server import RawServer, answering, message, plain, read_head, wait_until

import smasync
from smasync import Client, ClientError, ParamValidationError, Response, TransportError

KEYS = smasync.Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN+with/odd=characters=="
TEMPORARY = smasync.Credentials("ASIAEXAMPLE", "temporary/SECRET+of40characters/EXAMPLE", TOKEN)
ACCOUNTS = {
    key.access_key_id: Account(key.secret_access_key, key.session_token)
    for key in (KEYS, TEMPORARY)
}
OUTPUT, FAILURE = "s3://bucket/output", "s3://bucket/failure"
ACCEPTED = {"OutputLocation": OUTPUT, "FailureLocation": FAILURE}
DATA, MIB = bytes(range(256)) * 4 + b"the end", 1 << 20
ALL, CUT = len(DATA), 400
REAL_TIME = {"monotonic": time.monotonic, "sleep": time.sleep}

# --- Tools


@pytest.fixture
def server():
    """An emulator that knows both pairs of keys; left without open connections."""
    with Emulator(accounts=ACCOUNTS, model=lambda body, kind: body[::-1]) as running:
        yield running
        wait_until(lambda: running.open_connections == 0)


class Timeline:
    """A clock that only sleep moves."""

    def __init__(self):
        self.now = 0.0
        self.seams = {"monotonic": lambda: self.now, "sleep": self.sleep}

    def sleep(self, seconds):
        self.now += seconds


def connected(url, **options):
    """A client whose SageMaker and S3 are both at the URL, and whose time passes in sleep."""
    environ = {"AWS_ENDPOINT_URL": url}
    given = {"credentials": KEYS, "environ": environ, "read_timeout": 5, **Timeline().seams}
    return Client("us-east-1", **{**given, **options})


@pytest.fixture
def client(server):
    with connected(server.url) as made:
        yield made


def offline(*steps, **options):
    """A client of no server, and what it asked; each step becomes of a request, the last of all."""
    requests, left = [], list(steps)

    def transport(request, *, timeout=None, sink=None):
        requests.append(request)
        step = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(step, BaseException):
            raise step
        response = step if isinstance(step, Response) else step(request)
        if sink is None or response.status not in (200, 206):
            return response
        sink.write(response.body)
        return response._replace(body=b"")

    given = {"region_name": "us-east-1", "credentials": KEYS, "environ": {}, **Timeline().seams}
    return Client(**{**given, "transport": transport, **options}), requests


def refusal(status, code, *headers, words="words"):
    body = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>"
    return Response(status, headers, body.encode())


def found(body, size=None):
    """S3's answer with an object, or with the first bytes of one of that size."""
    headers = (("Content-Length", str(size or len(body))), ("ETag", '"1"'))
    return Response(200, headers, body, complete=size is None)


NOT_THERE, STORED = refusal(404, "NoSuchKey"), Response(200, (), b"")
FORBIDDEN = AssertionError("nothing may be sent")


def header(request, name):
    return {key.lower(): value for key, value in request.headers}.get(name)


def signing(request):
    """Region and service that a request is signed for, and the names of the signed headers."""
    form = "/[0-9]{8}/(.+)/aws4_request, *SignedHeaders=([^,]+)"
    where, names = re.search(form, header(request, "authorization")).groups()
    return where, names.split(";")


def raised_by(kinds, function, *arguments, **options):
    with pytest.raises(kinds) as raised:
        function(*arguments, **options)
    return raised.value


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- Where S3 is asked

HOSTILE_LOCATIONS = [
    "https://bucket.s3.us-east-1.amazonaws.com/key", "https://s3.amazonaws.com/bucket/key", "//bucket/key",
    "http://169.254.169.254/latest/meta-data/", "bucket/key", "s3:/bucket/key", "S3://bucket/key", "s3://",
    " s3://bucket/key", "s3://bucket", "s3://bucket/", "s3:///key", "s3://ab/key", f"s3://{'a' * 64}/key",
    "s3://a..b/key", "s3://-abc/key", "s3://abc-/key", "s3://.abc/key", "s3://192.168.5.4/key",
    "s3://a_b/key", "s3://a%2eb/key", "s3://abc:443/key", "s3://user:password@abc/key", "s3://[::1]/key",
    "s3://evil.example#/key", "s3://evil.example?/key", "s3://evil\\.abc/key", "s3://bücket/key",
    "s3://１２３/key", "s3://abc\n/key", "s3://abc\r\nX-Evil: 1/key", "s3://abc/a\0b", "s3://abc/a\x7f",
    "s3://Bucket/key", "s3://abc/a\r\nX-Evil: 1", "s3://abc/\ud800", "", None, 5, b"s3://bucket/key",
]  # fmt: skip


@pytest.mark.parametrize("location", HOSTILE_LOCATIONS, ids=ascii)
def test_a_location_that_is_not_s3_bucket_key_is_refused_and_nothing_is_asked(location):
    client, _ = offline(FORBIDDEN)
    raised_by(ParamValidationError, client.put_input, b"", location)
    for look in (client.poll, client.wait):
        raised_by(ParamValidationError, look, {"OutputLocation": location})
        if location:  # no FailureLocation is none, and no error
            raised_by(ParamValidationError, look, {**ACCEPTED, "FailureLocation": location})


AWS = "https://bucket.s3.us-east-1.amazonaws.com/output"
PLACES = [
    # options of the client, or its environment; location; URL
    ({}, OUTPUT, AWS),
    ({}, "s3://my.bucket/a key", "https://s3.us-east-1.amazonaws.com/my.bucket/a%20key"),
    ({"region_name": "us-gov-west-1", "use_fips_endpoint": True}, "s3://123/k",
     "https://123.s3-fips.us-gov-west-1.amazonaws.com/k"),
    ({"AWS_ENDPOINT_URL_S3": "http://localhost:90/s3/"}, OUTPUT, "http://localhost:90/s3/bucket/output"),
    ({"endpoint_url": "https://sagemaker.example"}, OUTPUT, AWS),
]  # fmt: skip


@pytest.mark.parametrize("options, location, url", PLACES)
def test_the_bucket_is_in_the_host_but_with_a_dot_or_elsewhere_in_the_path(options, location, url):
    is_environ = any(name.startswith("AWS_") for name in options)
    client, requests = offline(STORED, **({"environ": options} if is_environ else options))
    assert client.put_input(b"", location) == location
    assert [request.url for request in requests] == [url]
    assert signing(requests[0])[0] == f"{client.region_name}/s3"
    assert header(requests[0], "host") == urlsplit(url).netloc


ANY_CHARACTER = st.characters(min_codepoint=32, blacklist_categories=("Cs", "Cc"))
ANY_KEY = st.lists(st.sampled_from("/.+?#%&=~ ") | ANY_CHARACTER, min_size=1, max_size=20)


def test_any_key_comes_back_and_is_encoded_once(server):
    @settings(max_examples=60)
    @given(ANY_KEY.map("".join))
    @example("/../a//b/./c/..")
    @example(" a+b?c#d%20%2F\u00a0😀")
    @example("..")
    def check(key):
        location = f"s3://bucket/{key.rstrip(' ')}x"
        server.objects.clear()
        assert client.put_input(DATA, location) == location
        assert list(server.objects) == [location], "its own verifier saw exactly that key"
        assert server.requests[-1].target == "/bucket/" + quote(location[12:], safe="/")
        assert client.poll({"OutputLocation": location})[::2] == (DATA, location)

    with connected(server.url, credentials=TEMPORARY) as client:
        check()


THERE = "eu-west-1"


def moved(status, region, where="header"):
    if where == "header":
        return refusal(status, "Moved", ("X-Amz-Bucket-Region", region))
    body = f"<Error><Code>Moved</Code><Region>{region}</Region></Error>"
    return Response(status, (), body.encode())


@pytest.mark.parametrize("where", ["header", "body"])
@pytest.mark.parametrize("status", [301, 307, 400])
def test_the_buckets_region_is_learnt_once(status, where):
    def answer(request):
        here = signing(request)[0] == "us-east-1/s3"
        return moved(status, THERE, where) if here else STORED

    client, requests = offline(answer)
    client.put_input(b"", "s3://bucket/a")
    client.poll({"OutputLocation": "s3://bucket/b"})
    client.wait({"OutputLocation": "s3://bucket/c"}, timeout=1)
    client.put_input(b"", "s3://another/d")
    here, there = "s3.us-east-1.amazonaws.com", f"s3.{THERE}.amazonaws.com"
    places = [f"bucket.{here}/a", *(f"bucket.{there}/{key}" for key in "abc")]
    places += [f"another.{here}/d", f"another.{there}/d"]  # each bucket has its own
    assert [request.url for request in requests] == [f"https://{place}" for place in places]


BAD_REGIONS = [
    "evil.example/", "evil.example", "a\r\nb", "x" * 64, "", "eu west", "a#", "a?b", "a@b", "a:80", "\u2170",
]  # fmt: skip
NOT_FOLLOWED = [(301, region, where) for region in BAD_REGIONS for where in ("header", "body")]
NOT_FOLLOWED += [(301, "eu-west-1\n", "header"), (307, " eu-west-1", "header")]
NOT_FOLLOWED += [(status, THERE, "header") for status in (302, 403, 409, 501)]
NOT_FOLLOWED += [(400, "us-east-1", "header")]  # which was asked


@pytest.mark.parametrize("status, region, where", NOT_FOLLOWED, ids=ascii)
def test_what_is_no_region_or_no_such_answer_is_not_followed(status, region, where):
    client, requests = offline(moved(status, region, where))
    is_region = region in ("", THERE, "us-east-1")  # "" stands for none
    kind = ClientError if is_region else smasync.ConfigurationError
    for count in (1, 2):  # nor is it remembered
        error = raised_by(kind, client.put_input, b"", OUTPUT)
        assert len(requests) == count and (is_region or "region of bucket" in str(error))


# --- The input


def test_a_transport_of_your_own_can_read_the_input_as_any_binary_file():
    read = []

    def transport(request, **_):
        read.append(io.BufferedReader(request.body()).read())
        return smasync.Response(200, (), b"")

    keys = smasync.Credentials("AKID", "secret")
    options = {"environ": {"HOME": "/no home"}, "transport": transport}
    smasync.Client("us-east-1", credentials=keys, **options).put_input(b"abc", OUTPUT)
    assert read == [b"abc"]


def opened(path, place=0, **options):
    file = open(path, "rb", **options)  # noqa: SIM115
    file.seek(place)
    return file


SOURCES = {
    "bytes": lambda path: path.read_bytes(),
    "memoryview of numbers": lambda path: memoryview(path.read_bytes()).cast("Q"),
    "str": str,
    "Path": Path,
    "file from the middle": lambda path: opened(path, 1000),
    "unbuffered file": lambda path: opened(path, 7, buffering=0),
}


@pytest.fixture
def source(tmp_path):
    """A file of 80,000 bytes."""
    path = tmp_path / "input"
    path.write_bytes(os.urandom(80_000))
    return path


@contextlib.contextmanager
def input_of(path, kind):
    """What put_input takes, and the bytes that it stands for; an open file has to stay open."""
    data, content = SOURCES[kind](path), path.read_bytes()
    is_file = hasattr(data, "read")
    yield data, content[data.tell() :] if is_file else content
    if is_file:
        assert not data.closed
        data.close()


@pytest.mark.parametrize("size", [0, 80_000, 3 * MIB])
@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_input_goes_out_with_its_length_and_hash(server, client, source, kind, size):
    source.write_bytes(os.urandom(size))
    with input_of(source, kind) as (data, content):
        assert client.put_input(data, OUTPUT) == OUTPUT
    (put,) = server.requests
    assert put.body == content == server.get(OUTPUT)
    assert put.values("content-length") == [str(len(content))]
    assert put.header("transfer-encoding") is None
    digest = hashlib.sha256(content)
    assert put.header("x-amz-content-sha256") == digest.hexdigest()
    assert put.header("x-amz-checksum-sha256") == base64.b64encode(digest.digest()).decode()
    assert {"x-amz-content-sha256", "x-amz-checksum-sha256"} <= {*signing(put)[1]}


OPTIONS = ("ContentType", "ServerSideEncryption", "SSEKMSKeyId")
SSE = "x-amz-server-side-encryption"
UPLOAD_HEADERS = [
    # OPTIONS, and the headers that they become
    (("", None, None), (None, None, None)),
    ((" text/csv ", None, None), ("text/csv", None, None)),
    (("text/csv; charset=utf-8", None, None), ("text/csv; charset=utf-8", None, None)),
    ((None, "AES256", None), (None, "AES256", None)),
    ((None, None, "key-1"), (None, "aws:kms", "key-1")),
    ((None, "aws:kms:dsse", "arn:aws:kms:k"), (None, "aws:kms:dsse", "arn:aws:kms:k")),
]
BAD_OPTIONS = [(name, value) for name in OPTIONS for value in ("a\r\nX-Evil: 1", "ü")]
BAD_OPTIONS += [("ContentType", value) for value in ("x" * 1025, 5, b"a")]
BAD_OPTIONS += [(OPTIONS[1], "a b"), (OPTIONS[2], "a b")]


@pytest.mark.parametrize("options, headers", UPLOAD_HEADERS)
def test_content_type_and_encryption_of_an_input_are_signed_headers(options, headers):
    client, requests = offline(STORED)
    client.put_input(DATA, OUTPUT, **dict(zip(OPTIONS, options)))
    for name, value in zip(("content-type", SSE, f"{SSE}-aws-kms-key-id"), headers):
        assert header(requests[0], name) == value
        assert (name in signing(requests[0])[1]) is (value is not None)


def test_a_transport_may_read_an_input_s_bytes_later_too():
    client, requests = offline(STORED)
    client.put_input(DATA, OUTPUT)
    for _ in range(2):
        with requests[0].body() as file:
            assert file.read() == DATA


@pytest.mark.parametrize("name, value", BAD_OPTIONS, ids=lambda value: ascii(value)[:20])
def test_an_option_that_no_header_can_have_is_refused(name, value):
    client, _ = offline(FORBIDDEN)
    error = raised_by(ParamValidationError, client.put_input, b"", OUTPUT, **{name: value})
    assert name in str(error)


UPLOAD_FAULTS = [
    [emu.status(500, "InternalError")], [emu.reset_before()], [emu.close_after()],
    [emu.throttle(), emu.reset_before()],
]  # fmt: skip


@pytest.mark.parametrize("kind", ["bytes", "Path", "file from the middle"])
@pytest.mark.parametrize("faults", UPLOAD_FAULTS, ids=lambda faults: faults[0].kind)
def test_each_attempt_sends_the_input_from_its_start(server, client, source, kind, faults):
    source.write_bytes(os.urandom(8 * MIB))  # so much that it is still under way
    server.bucket_regions["bucket"] = THERE  # which costs a request more
    server.fail(*faults)
    with input_of(source, kind) as (data, content):
        client.put_input(data, OUTPUT)
    assert server.get(OUTPUT) == content
    assert all(put.body == content for put in server.requests)
    assert len(server.requests) + faults.count(emu.reset_before()) == len(faults) + 2


@pytest.mark.parametrize("kind", ["Path", "file from the middle", "unbuffered file"])
@pytest.mark.parametrize("size", [2000, 80_000 + MIB], ids=["shrinks", "grows"])
def test_a_file_that_changes_while_it_is_sent_is_never_stored_short(server, source, kind, size):
    real = smasync.UrllibTransport(environ={}, read_timeout=0.5)

    def transport(request, **options):  # when the file has been read once
        os.truncate(source, size)
        return real(request, **options)

    with contextlib.closing(real), input_of(source, kind) as (data, content):
        client = connected(server.url, transport=transport)
        if size < len(content):
            raised_by(smasync.Error, client.put_input, data, OUTPUT)
            assert server.objects == {}
        else:
            client.put_input(data, OUTPUT)
            assert server.get(OUTPUT) == content
        client.put_input(b"next", OUTPUT)  # is not harmed by what was sent too much
    assert server.get(OUTPUT) == b"next"


MKFIFO = getattr(os, "mkfifo", os.mkdir)  # a folder where there is no such thing
NO_FILES = {
    # of what there is no input, or to what no result can go, or neither
    "a folder": ("in, out", lambda folder: folder),
    "a FIFO": ("in, out", lambda folder: MKFIFO(folder / "x") or folder / "x"),
    "a path with NUL": ("in, out", lambda folder: f"{folder}/a\0b"),
    "a path with half a character": ("in, out", lambda folder: f"{folder}/a\ud800"),
    "a text file": ("in, out", lambda folder: io.TextIOWrapper(io.BytesIO())),
    "content instead of a path": ("in", lambda folder: "1, 2\n" * 100_000),
    "a pipe": ("in", lambda folder: io.RawIOBase()),
    "a path in no folder": ("out", lambda folder: folder / "missing" / "result"),
    "a file open for reading": ("out", lambda folder: opened(folder / "input")),
}


@pytest.mark.parametrize("ways, make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_binary_file_is_refused_and_nothing_is_sent(tmp_path, source, ways, make):
    client, _ = offline(FORBIDDEN)
    file = make(tmp_path)
    if "in" in ways:
        raised_by(ParamValidationError, client.put_input, file, OUTPUT)
    if "out" in ways:
        raised_by(ParamValidationError, client.wait, ACCEPTED, file=file)
    getattr(file, "close", bool)()


# --- One look


def test_the_whole_job_with_the_longest_location_that_the_call_can_take(server):
    server.latency, location = 0.05, "s3://bucket/" + "k" * (1024 - len("s3://bucket/"))
    with connected(server.url, sleep=lambda seconds: server.drain()) as client:
        assert client.put_input(DATA, location) == location
        accepted = client.invoke_endpoint_async(EndpointName="x", InputLocation=location)
        result = client.wait(json.loads(json.dumps(accepted)))
        assert (result.body, result.location) == (DATA[::-1], accepted["OutputLocation"])
        for wrong in (location + "k", "s3://bucket/a "):  # a header's value loses its last space
            error = raised_by(ParamValidationError, client.put_input, DATA, wrong)
            assert "InputLocation" in str(error)


def test_a_look_finds_nothing_then_the_result(server, client):
    assert client.poll(ACCEPTED) is None
    assert [one.target for one in server.requests] == ["/bucket/output", "/bucket/failure"]
    for nothing in ({}, {"FailureLocation": None}, {"FailureLocation": ""}):
        assert client.poll({"OutputLocation": OUTPUT, **nothing}) is None
    assert [one.target for one in server.requests[2:]] == ["/bucket/output"] * 3
    server.put(OUTPUT, DATA, "application/json")
    result = client.poll(ACCEPTED)
    assert type(result) is smasync.Result
    assert result[:3] == (DATA, "application/json", OUTPUT)
    assert result.metadata["RetryAttempts"] == 0
    assert result.metadata["RequestId"] == result.metadata["HTTPHeaders"]["x-amz-request-id"] != ""


def test_a_failure_without_a_word_says_so(server, client):
    server.put(FAILURE, b" \n", "text/plain")
    error = raised_by(smasync.InferenceError, client.poll, ACCEPTED)
    assert "no reason given" in str(error)


@pytest.mark.parametrize("look", [Client.poll, Client.wait])
def test_a_failure_is_all_that_the_model_wrote_unless_there_is_a_result_too(server, client, look):
    words = "CUDA out of memory\nü".encode() + os.urandom(2 * MIB)
    server.put(FAILURE, words, "text/plain")
    error = raised_by(smasync.InferenceError, look, client, ACCEPTED)
    assert (error.location, error.body, error.content_type) == (FAILURE, words, "text/plain")
    assert "CUDA out of memory" in str(error) and len(str(error)) < 2000
    server.put(OUTPUT, DATA)
    assert look(client, ACCEPTED).body == DATA


BAD_WAITS = [({}, 9, "S3OutputPath"), ({"OutputLocation": None}, 9, "S3OutputPath")]
BAD_WAITS += [({"FailureLocation": FAILURE}, 9, "S3OutputPath")]
BAD_WAITS += [(accepted, 9, "") for accepted in (None, [], OUTPUT, 5)]
BAD_WAITS += [(ACCEPTED, wrong, "timeout") for wrong in (0, -1, math.nan, True, None, "5")]


@pytest.mark.parametrize("accepted, timeout, words", BAD_WAITS, ids=repr)
def test_what_cannot_be_waited_for_is_refused(accepted, timeout, words):
    client, _ = offline(FORBIDDEN)
    assert words in str(raised_by(ParamValidationError, client.wait, accepted, timeout=timeout))
    if accepted is not ACCEPTED:
        assert words in str(raised_by(ParamValidationError, client.poll, accepted))


MAY_NOT = "User: u is not authorized to perform: "
REFUSALS = [
    # status, code, S3's words, whether the result may still come, what the hint names
    (404, "NoSuchKey", "words", True, ""),
    (404, "NoSuchBucket", "words", False, ""),
    (403, "AccessDenied", "Access Denied", True, "s3:ListBucket"),
    (403, "AccessDenied", f"{MAY_NOT}s3:ListBucket on resource: b", True, "s3:ListBucket"),
    (403, "AccessDenied", f"{MAY_NOT}s3:GetObject on resource: o", False, "s3:GetObject"),
    (403, "AccessDenied", f"{MAY_NOT}kms:Decrypt on resource: k", False, "kms:Decrypt"),
    (403, "InvalidAccessKeyId", "words", False, ""),
    (416, "InvalidRange", "words", False, ""),
]


@pytest.mark.parametrize("status, code, words, waits, hint", REFUSALS)
def test_absence_is_told_from_trouble_that_ends_a_wait_at_once(status, code, words, waits, hint):
    client, requests = offline(refusal(status, code, words=words))
    if status == 404 and waits:
        assert client.poll(ACCEPTED) is None
        raised_by(smasync.ResultTimeout, client.wait, ACCEPTED, timeout=60)
    else:
        for look in (client.poll, client.wait):
            requests.clear()
            error = raised_by(ClientError, look, ACCEPTED)
            assert error.code == code and hint in error.hint
    assert len(requests) == 1 or waits and len(requests) > 4


# --- A wait


CHANCES = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20)


@settings(max_examples=40)
@given(st.floats(0, 4000), st.floats(0.01, 4000) | st.just(math.inf), CHANCES)
@example(seconds=60, timeout=900, chances=[0.0])
@example(seconds=3600, timeout=math.inf, chances=[0.999])
@example(seconds=900, timeout=900, chances=[0.5])
@example(seconds=59.8, timeout=60, chances=[0.5])
@example(seconds=5000, timeout=0.01, chances=[0.5])
def test_a_wait_looks_soon_not_often_and_until_its_deadline(seconds, timeout, chances):
    timeline, looks, limits, dice = Timeline(), [], [], cycle(chances)

    def transport(request, *, timeout=math.inf, sink=None):
        limits.append((timeline.now, timeout))
        if request.url.endswith("/failure"):
            return NOT_THERE
        looks.append(timeline.now)
        return found(b"done") if timeline.now >= seconds else NOT_THERE

    options = {"transport": transport, "random": lambda: next(dice), **timeline.seams}
    client, _ = offline(FORBIDDEN, **options)
    try:
        assert client.wait(ACCEPTED, timeout=timeout).body == b"done"
        assert looks[-1] - seconds <= min(0.15 * seconds + 1.5, 30)
    except smasync.ResultTimeout as error:
        assert seconds > timeout - 0.2 and isinstance(error, TimeoutError)
        assert (error.location, error.waited) == (OUTPUT, looks[-1])
        assert looks[-1] >= timeout - 0.2, "it looks once more at the end"
    assert looks[-1] <= timeout and len(looks) <= 20 + max(0, looks[-1] - 60) / 8
    assert all(limit > 0 and now + limit <= timeout + 0.001 for now, limit in limits)


@pytest.mark.parametrize("fault", [emu.stall(30), emu.drip(0.02)], ids=["silence", "drip"])
def test_a_wait_ends_at_its_deadline_by_the_real_clock(server, fault):
    server.fail_every(lambda received: fault)
    with connected(server.url, **REAL_TIME) as client:
        started = time.monotonic()
        error = raised_by(smasync.ResultTimeout, client.wait, ACCEPTED, timeout=0.3)
        assert time.monotonic() - started < 3, "and not after read_timeout"
    assert isinstance(error.__cause__, TransportError) and error.waited >= 0.2


PROXY = emu.status(503, body=b"<html>Bad gateway</html>")
TROUBLES = [
    PROXY,
    emu.throttle(),
    emu.reset_after(),
    emu.close_after(),
    emu.garbage(),
    emu.stall(9),
]


@pytest.mark.parametrize("fault", TROUBLES, ids=lambda fault: fault.kind)
def test_a_wait_survives_what_passes_and_logs_it_once(server, caplog, fault):
    server.put(OUTPUT, DATA)
    server.fail(*[fault] * 5)
    with connected(server.url, read_timeout=0.1) as client:
        assert client.wait(ACCEPTED).body == DATA
    assert len(server.requests) == 6
    (warning,) = warnings_in(caplog)
    assert OUTPUT in warning


@pytest.mark.parametrize("may_list", [True, False], ids=["404", "403"])
def test_what_appears_between_two_looks_ends_the_wait(server, caplog, may_list):
    def later(received):
        if timeline.now >= 60:
            server.put(*(OUTPUT, DATA) if may_list else (FAILURE, DATA))

    server.may_list, timeline = may_list, Timeline()
    server.fail_every(later)
    with connected(server.url, **timeline.seams) as client:
        if may_list:
            assert client.wait(ACCEPTED).body == DATA
        else:
            assert raised_by(smasync.InferenceError, client.wait, ACCEPTED).body == DATA
    assert 60 <= timeline.now <= 75 and len(warnings_in(caplog)) == (not may_list)


UNREACHABLE = TransportError("no way there", kind="connect", sent=False)
DENIED = refusal(403, "AccessDenied")
ENDINGS = {
    # what the looks meet; the error at the end, or behind the ResultTimeout, and its status
    "nothing yet": ([NOT_THERE], type(None), None),
    "500s": ([refusal(500, "InternalError")], ClientError, 500),
    "no way there": ([UNREACHABLE], TransportError, None),
    "403s": ([DENIED], ClientError, 403),
    "403s, and no way there in the end": ([DENIED, DENIED, UNREACHABLE], ClientError, 403),
}


@pytest.mark.parametrize("place", ["/output", "/failure"])
def test_a_403_at_one_place_counts_though_the_other_says_404(place):
    client, _ = offline(lambda request: DENIED if request.url.endswith(place) else NOT_THERE)
    assert "s3:ListBucket" in raised_by(ClientError, client.poll, ACCEPTED).hint
    assert raised_by(ClientError, client.wait, ACCEPTED, timeout=60).status == 403


@pytest.mark.parametrize("job", [ACCEPTED, {"OutputLocation": OUTPUT}], ids=["", "no failure"])
@pytest.mark.parametrize("steps, kind, status", ENDINGS.values(), ids=ENDINGS)
def test_a_wait_in_vain_says_where_how_long_and_what_was_wrong(caplog, job, steps, kind, status):
    timeline = Timeline()
    client, _ = offline(*steps, **timeline.seams)
    if status == 403:
        cause = raised_by(ClientError, client.wait, job, timeout=60)
        assert "s3:ListBucket" in cause.hint
    else:
        error = raised_by(smasync.ResultTimeout, client.wait, job, timeout=60)
        assert error.location == OUTPUT and error.waited == timeline.now and OUTPUT in str(error)
        assert ("there is no FailureLocation" in str(error)) is (job is not ACCEPTED), (
            "it cannot be seen"
        )
        cause = error.__cause__
        assert cause is None or str(cause) in str(error)
    assert isinstance(cause, kind) and getattr(cause, "status", None) == status
    assert 59.5 < timeline.now <= 60
    assert len(warnings_in(caplog)) == (cause is not None), "however often it looked"


# --- The way down

WHERES = ["memory", "path", "file"]  # a path that is a link, and stays one


def whole(data, size=None):
    """The answer with an object, or with the first bytes of one of that size."""
    length = f"Content-Length: {size or len(data)}"
    return message("HTTP/1.1 200 OK", 'ETag: "1"', length, body=data)


def part(start, stop):
    lines = [f"Content-Length: {stop - start}", f"Content-Range: bytes {start}-{stop - 1}/{ALL}"]
    return message("HTTP/1.1 206 Partial Content", 'ETag: "1"', *lines, body=DATA[start:stop])


def fetched(client, where, folder):
    """What a wait puts in memory, at a path, or behind what an open file has; that stays open."""
    path = folder / "result"
    if where == "memory":
        return client.wait(ACCEPTED).body
    if where == "path":
        path.symlink_to(folder / "target")
        result = client.wait(ACCEPTED, file=path)
        assert path.is_symlink() and result[:3] == (b"", "image/png", OUTPUT)
        assert result.metadata["HTTPStatusCode"] == 200, "that of the first answer"
        return path.read_bytes()
    with open(path, "wb") as file:
        file.write(b"before")
        assert client.wait(ACCEPTED, file=file).body == b""
        file.write(b"after")
    content = path.read_bytes()
    assert content.startswith(b"before") and content.endswith(b"after")
    return content[6:-5]


BREAKS = [(0, []), (1, []), (2 * MIB, []), (4 * MIB, [0, 1000, 1001, MIB + 7, MIB + 7, 3 * MIB])]


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("size, ends", BREAKS)
def test_a_result_goes_on_where_it_broke(server, client, tmp_path, where, size, ends):
    data = os.urandom(size)
    server.put(OUTPUT, data, "image/png")
    server.fail(*[emu.truncate(size - end) for end in ends])
    assert fetched(client, where, tmp_path) == data
    for one in server.requests:
        etag = server.objects[OUTPUT].etag if one.header("range") else None
        assert one.header("if-match") == etag
    if where != "memory":  # which comes in parts
        wanted = [f"bytes={end}-" if end else None for end in ends]
        assert [one.header("range") for one in server.requests] == [None, *wanted]


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("had", [0, CUT])
def test_a_replaced_result_comes_afresh_or_is_an_error(server, client, tmp_path, where, had):
    server.put(OUTPUT, bytes(ALL + 1))
    server.fail(emu.truncate(ALL + 1 - had))
    server.fail_every(lambda received: server.put(OUTPUT, DATA, "image/png"))
    if had:
        assert raised_by(ClientError, fetched, client, where, tmp_path).status == 412
    else:
        assert fetched(client, where, tmp_path) == DATA


@pytest.mark.parametrize("where", WHERES)
def test_everything_instead_of_a_range_is_an_error_and_no_result(tmp_path, where):
    answers = (whole(DATA[:CUT], ALL), whole(DATA))
    with answering(*answers, keep=False) as running, connected(running.url) as client:
        raised_by(TransportError, fetched, client, where, tmp_path)
    assert where == "file" or not (tmp_path / "result").exists()


def test_a_look_at_what_breaks_off_for_ever_has_an_end(server, client):
    server.put(OUTPUT, DATA)
    server.fail_every(lambda received: emu.truncate(1))
    error = raised_by(TransportError, client.poll, ACCEPTED)
    assert error.kind == "closed" and OUTPUT in str(error) and len(server.requests) < 10
    raised_by(TransportError, client.wait, ACCEPTED, timeout=60)


def test_a_download_that_has_begun_has_no_deadline():
    def late(data):
        yield data[:-1]
        time.sleep(0.4)
        yield data[-1:]

    answers = (late(whole(DATA[:CUT], ALL)), late(part(CUT, ALL)))
    with answering(*answers, keep=False) as running, connected(running.url, **REAL_TIME) as client:
        assert client.wait(ACCEPTED, timeout=0.3).body == DATA


def test_a_path_has_its_content_in_one_moment_and_nobody_else_reads_it_before(tmp_path):
    data, path, seen, modes = os.urandom(MIB), tmp_path / "result", [], set()
    path.write_bytes(b"old")
    path.chmod(0o600)

    def halves():
        yield whole(data)[: MIB // 2]
        wait_until(lambda: sum(file.stat().st_size for file in tmp_path.iterdir()) > MIB // 4)
        seen.append(path.read_bytes())
        modes.update(file.stat().st_mode & 0o777 for file in tmp_path.iterdir())
        yield whole(data)[MIB // 2 :]

    with answering(halves()) as running, connected(running.url) as client:
        client.wait(ACCEPTED, file=str(path))
    assert seen == [b"old"] and path.read_bytes() == data and os.listdir(tmp_path) == ["result"]
    assert os.name == "nt" or modes == {path.stat().st_mode & 0o777} == {0o600}


HALF = found(b"12345", size=10)
FINAL = TransportError("a certificate", kind="tls", retryable=False)
ENDS = {
    # what S3 answers, and what the wait ends in
    "nothing comes": ([NOT_THERE], smasync.ResultTimeout),
    "the model failed": ([NOT_THERE, found(b"words")], smasync.InferenceError),
    "vanishes half-way": ([HALF, NOT_THERE], ClientError),
    "breaks off for good": ([HALF, FINAL], TransportError),
    "Ctrl-C": ([HALF, KeyboardInterrupt()], KeyboardInterrupt),
}


@pytest.mark.parametrize("old", [{"result": b"old"}, {}], ids=["old", "new"])
@pytest.mark.parametrize("steps, kind", ENDS.values(), ids=ENDS)
def test_whatever_ends_a_wait_a_path_has_what_it_had(tmp_path, steps, kind, old):
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    timeline = Timeline()
    client, _ = offline(*steps, **timeline.seams)
    raised_by(kind, client.wait, ACCEPTED, timeout=60, file=tmp_path / "result")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
    assert timeline.now < 1 or kind is smasync.ResultTimeout, "what had begun is not waited for"


def test_a_file_may_take_a_part_at_a_time_and_its_error_is_not_the_network_s(server, client):
    class Sipping(io.BytesIO):
        def write(self, data):
            if self.tell() >= 20_000:
                raise OSError(errno.ENOSPC, "no space")
            return super().write(bytes(data)[:1000])

    server.put(OUTPUT, DATA * 30)
    file = Sipping()
    assert raised_by(OSError, client.wait, ACCEPTED, file=file).errno == errno.ENOSPC
    assert file.getvalue() == (DATA * 30)[:20_000] and len(server.requests) == 1


# --- Large bodies


@pytest.mark.parametrize("limit, drips", [(0.8, False), (0.2, True)], ids=["steady", "drips"])
def test_an_upload_has_the_time_limit_for_each_piece(limit, drips):
    size, pieces = 24 * MIB, (1000, 0.05) if drips else (65_536, 0.004)  # more than all buffers

    def serve(sock):
        left = size - len(read_head(sock).partition(b"\r\n\r\n")[2])
        while left and not running.closing.wait(pieces[1]):
            left -= len(sock.recv(min(left, pieces[0])))
        sock.sendall(plain(b""))

    options = {"read_timeout": limit, "max_attempts": 1, **REAL_TIME}
    with RawServer(serve) as running, connected(running.url, **options) as client:
        running._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        started = time.monotonic()
        if drips:
            error = raised_by(TransportError, client.put_input, bytes(size), OUTPUT)
            assert (error.kind, error.sent) == ("timeout", False)
        else:
            client.put_input(bytes(size), OUTPUT)
        assert (0.2 if drips else 1.2) < time.monotonic() - started < 30


@pytest.mark.parametrize("limit, drips", [(0.8, False), (0.2, True)], ids=["steady", "drips"])
def test_a_download_has_the_time_limit_for_each_piece(tmp_path, limit, drips):
    def slowly():
        yield whole(b"", 6 * MIB)
        for _ in range(6 * 16):
            yield bytes(10 if drips else MIB // 16)
            time.sleep(0.015)

    answers = (slowly(), message("HTTP/1.1 403 Forbidden", "Content-Length: 0"))
    options = {"read_timeout": limit, **REAL_TIME}
    with answering(*answers) as running, connected(running.url, **options) as client:
        started = time.monotonic()
        if drips:
            raised_by(ClientError, client.wait, ACCEPTED, file=tmp_path / "result")
        else:
            client.wait(ACCEPTED, file=tmp_path / "result")
            assert (tmp_path / "result").read_bytes() == bytes(6 * MIB)
        assert (0.2 if drips else 1.2) < time.monotonic() - started < 30
    assert len(running.requests) == 1 + drips


@pytest.mark.slow
@pytest.mark.cpython
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_gibibyte_needs_little_memory(tmp_path, way):
    def take(sock):
        left = 1024 * MIB - len(read_head(sock).partition(b"\r\n\r\n")[2])
        while left and (data := sock.recv(min(left, MIB))):
            left -= len(data)
        sock.sendall(plain(b""))

    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 1024 * MIB if way == "up" else 0)
    object_of_a_gibibyte = [whole(b"", 1024 * MIB), *[bytes(MIB)] * 1024]
    server = RawServer(take) if way == "up" else answering(object_of_a_gibibyte)
    with server as running, connected(running.url) as client, counted_memory() as peak:
        client.put_input(path, OUTPUT) if way == "up" else client.wait(ACCEPTED, file=path)
        assert peak() < 20 * MIB, "with the server's"
    assert path.stat().st_size == 1024 * MIB
    path.unlink()  # pytest would keep it for a while


# --- Secrets

CONTENT = b"the caller's own content"
SECRETS = (TEMPORARY.secret_access_key, TOKEN, CONTENT.decode())
ECHO = f"you sent {TEMPORARY.secret_access_key} and {TOKEN}"
ENTITIES = "".join(f"&#{ord(character)};" for character in ECHO)
TELLING = {
    "an echo in entities": emu.status(400, body=f"<M><Message>{ENTITIES}</Message></M>".encode()),
    "an echo in a header": emu.status(400, "Odd", headers=(("x-amz-note", ECHO),)),
    "a 403": emu.status(403, "AccessDenied", ECHO),
    "a wrong signature": None,
}


@pytest.mark.parametrize("fault", TELLING.values(), ids=TELLING)
def test_no_secret_and_no_content_is_in_an_error_a_repr_or_the_log(server, caplog, fault):
    log = caplog.at_level(logging.DEBUG, "smasync")
    with log, connected(server.url, credentials=TEMPORARY) as client:
        server.put(OUTPUT, CONTENT, "text/plain")
        result = client.wait(ACCEPTED)
        assert result.body == CONTENT
        server.fail_every(lambda received: fault)
        server.accounts[TEMPORARY.access_key_id] = Account("another secret", TOKEN)
        errors = [
            raised_by(smasync.Error, client.put_input, CONTENT, OUTPUT),
            raised_by(smasync.Error, client.poll, ACCEPTED),
            raised_by(smasync.Error, client.wait, ACCEPTED, timeout=5),
        ]
        texts = [*map(told, errors), repr(client), repr(result), caplog.text]
    texts += map(repr, caplog.records)
    assert "PutObject" in caplog.text and "GetObject" in caplog.text
    assert not [secret for secret in SECRETS if any(secret in text for text in texts)]
