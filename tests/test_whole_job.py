"""The whole job's S3 part: an input goes up, and its result, however large and late, comes down.

Locations, hosts and answers (sections 4 and 6), the pace of polling (7), time limits of large
bodies (9), and Client's put_input, poll and wait (11). Where time has to pass, it passes in
`sleep`; where S3 has to be somewhere else than here, `transport` says what it was asked.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import hashlib
import io
import itertools
import json
import logging
import math
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Callable
from urllib.parse import quote, urlsplit

import emulator as emu
import pytest
from emulator import Account, Emulator
from hypothesis import example, given, settings
from hypothesis import strategies as st
from leaks import told
from raw_server import RawServer, free_port, message, plain, read_head, wait_until

import smasync
from smasync import (
    Client,
    ClientError,
    ConfigurationError,
    Credentials,
    InferenceError,
    ParamValidationError,
    Request,
    Response,
    Result,
    ResultTimeout,
    TransportError,
    UrllibTransport,
)

KEYS = Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN+with/odd=characters=="
TEMPORARY = Credentials("ASIAEXAMPLE", "temporary/SECRET+of40characters/EXAMPLE", TOKEN)
OUTPUT, FAILURE = "s3://bucket/output", "s3://bucket/failure"
ACCEPTED = {"OutputLocation": OUTPUT, "FailureLocation": FAILURE}
CALL = {"EndpointName": "my-endpoint"}
DATA, MIB = bytes(range(256)) * 4 + b"the end", 1 << 20

# --- Tools


@pytest.fixture
def server():
    """An emulator that knows both pairs of keys; left without open connections."""
    accounts = {
        key.access_key_id: Account(key.secret_access_key, key.session_token)
        for key in (KEYS, TEMPORARY)
    }
    with Emulator(accounts=accounts, model=lambda body, kind: body[::-1]) as running:
        yield running
        gc.collect()  # a socket that nobody closed is a ResourceWarning now, and so an error
        wait_until(lambda: running.open_connections == 0)


class Timeline:
    """A clock that only sleep moves; what is due at some second happens on the way."""

    def __init__(self, *events: tuple[float, Callable[[], object]]) -> None:
        self.now, self.events = 0.0, sorted(events, key=lambda event: event[0])

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.events and self.events[0][0] <= self.now:
            self.events.pop(0)[1]()

    @property
    def seams(self) -> dict[str, Any]:
        return {"monotonic": self.monotonic, "sleep": self.sleep}


REAL_TIME = {"monotonic": time.monotonic, "sleep": time.sleep}


@contextlib.contextmanager
def connected(url: str, **options: Any) -> Iterator[Client]:
    """A client whose SageMaker and S3 are both at the URL, and whose time passes in sleep."""
    given = {"credentials": KEYS, "environ": {"AWS_ENDPOINT_URL": url}, **Timeline().seams}
    limits = {"connect_timeout": 5, "read_timeout": 5}
    with Client("us-east-1", **{**given, **limits, **options}) as client:
        yield client


@pytest.fixture
def client(server):
    with connected(server.url) as made:
        yield made


class Fake:
    """A transport that asks a function for each Response, and remembers what was sent."""

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        self.answer, self.requests, self.timeouts = answer, [], []

    def __call__(
        self, request: Request, *, timeout: float | None = None, sink: Any = None
    ) -> Response:
        self.requests.append(request)
        self.timeouts.append(timeout)
        response = self.answer(request)
        if sink is None or response.status not in (200, 206):
            return response
        sink.write(response.body)
        return Response(response.status, response.headers, b"", response.complete)

    @property
    def urls(self) -> list[str]:
        return [request.url for request in self.requests]


def offline(answer: Callable[[Request], Response], **options: Any) -> tuple[Client, Fake]:
    """A client that reaches nothing but the function."""
    fake = Fake(answer)
    given = {"region_name": "us-east-1", "credentials": KEYS, "environ": {}, **Timeline().seams}
    return Client(**{**given, "transport": fake, **options}), fake


def refusal(status: int, code: str, *headers: tuple[str, str], words: str = "words") -> Response:
    """S3's error."""
    body = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>"
    return Response(status, headers, body.encode())


def found(body: bytes = b"", *headers: tuple[str, str]) -> Response:
    return Response(200, (("Content-Length", str(len(body))), *headers), body)


def not_there(request: Request) -> Response:
    return refusal(404, "NoSuchKey")


def stored(request: Request) -> Response:
    return found()


def forbidden(request: Request) -> Response:
    raise AssertionError(f"{request} was sent")


def header(request: Request, name: str) -> str | None:
    """The value of the one header of that name, None when there is none."""
    values = [value for key, value in request.headers if key.lower() == name.lower()]
    assert len(values) < 2
    return values[0] if values else None


def scope(request: Request) -> str:
    """Region and service that a request is signed for."""
    match = re.search(
        "Credential=[^/]+/[0-9]{8}/(.+)/aws4_request,", header(request, "authorization")
    )
    return match[1]


def gets(server: Emulator, location: str = OUTPUT) -> int:
    """How often the emulator was asked for an object."""
    target = location.replace("s3:/", "")
    return [(one.method, one.target) for one in server.requests].count(("GET", target))


def raised_by(function: Callable[[], object], *kinds: type[BaseException]) -> Any:
    """The error that the function ends in."""
    with pytest.raises(kinds) as raised:
        function()
    return raised.value


def soonest(function: Callable[[], object]) -> float:
    """Seconds that the function takes when nothing else keeps the machine: the best of three."""
    durations = []
    for _ in range(3):
        started = time.monotonic()
        function()
        durations.append(time.monotonic() - started)
    return min(durations)


# --- Locations

BUCKETS = ["bucket", "my.dotted.bucket", "s3-files", "s3.files.s3", "xn--bcher-kva", "123"]


GOOD_BUCKETS = [*BUCKETS, "abc", "a" * 63, "a--b", "0-9", "1.2.3", "1.2.3.4.5", "1.2.3.x", "a.b"]
BAD_BUCKETS = [
    "", "a", "ab", "a" * 64, "Bucket", "bucKet", "a..b", "..", "a.b..", ".abc", "abc.", "-abc", "abc-",
    "192.168.5.4", "1.2.3.4", "a_b", "a b", " abc", "abc ", "abc\n", "a\r\nb", "abc\0", "\tabc", "bücket",
    "１２３", "abc\u0130", "evil#", "evil?", "evil#.abc", "@", "a@b", "user:password@abc", "abc:443", "a%2eb",
    "a\\b", "[::1]", "*", "a,b", "a;b", "a+b", "a=b", "~abc", "%41bc", "\ud800bc",
]  # fmt: skip


@pytest.mark.parametrize("bucket", GOOD_BUCKETS)
def test_a_good_bucket_is_asked(bucket):
    client, s3 = offline(stored)
    assert client.put_input(b"", f"s3://{bucket}/key") == f"s3://{bucket}/key"
    assert len(s3.urls) == 1


def refused_everywhere(location: object) -> None:
    """Asserts that nothing is asked for because of a location, wherever it stands."""
    client, s3 = offline(not_there)
    calls = [lambda: client.put_input(b"", location)]
    places = [{"OutputLocation": location}]
    if location:  # no FailureLocation is none, and no error
        places.append({"OutputLocation": OUTPUT, "FailureLocation": location})
    for place in places:
        calls.append(lambda place=place: client.poll(place))
        calls.append(lambda place=place: client.wait(place, timeout=1))
    for call in calls:
        raised_by(call, ParamValidationError)
    assert s3.urls == []


@pytest.mark.parametrize("bucket", BAD_BUCKETS, ids=ascii)
def test_a_bad_bucket_is_refused_however_it_is_spelled(bucket):
    refused_everywhere(f"s3://{bucket}/key")
    refused_everywhere(f"https://s3.amazonaws.com/{bucket}/key")
    if bucket:  # without one it is the same as above, of a bucket named "key"
        refused_everywhere(f"https://{bucket}.s3.eu-west-1.amazonaws.com/key")


HOSTILE_LOCATIONS = [
    "https://evil.example/x",
    "https://evil.example/bucket/key",
    "https://evil.example/s3.amazonaws.com/bucket/key",
    "https://evil.example/bucket.s3.amazonaws.com/key",
    "https://s3.amazonaws.com.evil.example/bucket/key",
    "https://bucket.s3.amazonaws.com.evil.example/key",
    "https://bucket.s3.evil.amazonaws.com./key",
    "https://bucket.s3.us-east-1.amazonaws.com./key",
    "https://bucket.s3.eu.west.1.amazonaws.com/key",
    "https://s3.evil.example/bucket/key",
    "https://evils3.amazonaws.com/bucket/key",
    "https://s3xamazonaws.com/bucket/key",
    "https://s3.us-east-1xamazonaws.com/bucket/key",
    "https://s3.amazonawsxcom/bucket/key",
    "https://ec2.us-east-1.amazonaws.com/bucket/key",
    "https://amazonaws.com/bucket/key",
    "https://s3/bucket/key",
    "https://user:password@s3.amazonaws.com/bucket/key",
    "https://user:password@bucket.s3.amazonaws.com/key",
    "https://s3.amazonaws.com@evil.example/bucket/key",
    "https://bucket.s3.amazonaws.com:443@evil.example/key",
    "https://evil.example@bucket.s3.amazonaws.com/key",
    "https://evil.example\\@bucket.s3.amazonaws.com/key",
    "https://evil.example\\.s3.amazonaws.com/key",
    "https://bucket.s3.amazonaws.com\\@evil.example/key",
    "https://evil.example#.s3.amazonaws.com/key",
    "https://evil.example?.s3.amazonaws.com/key",
    "https://evil.example%2F.s3.amazonaws.com/key",
    "https://bucket.s3.amazonaws.com:443/key",
    "https://s3.amazonaws.com:8443/bucket/key",
    "https://s3.amazonaws.com:/bucket/key",
    "https://BUCKET.s3.amazonaws.com/key",
    "https://bucket.s3.amazonaws.com\r\n/key",
    "https://bucket.s3.amazonaws.com\n/key",
    "https://127.0.0.1/bucket/key",
    "https://[::1]/bucket/key",
    "https://169.254.169.254/latest/meta-data/",
    "https://bucket.s3.amazonaws.com",
    "https://bucket.s3.amazonaws.com/",
    "https://s3.amazonaws.com/bucket",
    "https://s3.amazonaws.com/bucket/",
    "https://s3.amazonaws.com//bucket/key",
    "https://bucket.s3.amazonaws.com/key?versionId=1",
    "https://bucket.s3.amazonaws.com/key#part",
    "https://bucket.s3.amazonaws.com/a%00",
    "https://bucket.s3.amazonaws.com/a%0D%0AX-Evil:%201",
    "https://bucket.s3.amazonaws.com/a%7Fb",
    "https://bucket.s3.amazonaws.com/%C3",
    "https://bucket.s3.amazonaws.com/%ED%A0%80",
    "https:///key",
    "https://",
    "http://bucket.s3.amazonaws.com/key",
    "http://169.254.169.254/latest/meta-data/",
    "ftp://bucket/key",
    "file:///etc/passwd",
    "file://bucket/etc/passwd",
    "gopher://bucket/key",
    "//bucket/key",
    "/bucket/key",
    "bucket/key",
    "s3:/bucket/key",
    "s3:bucket/key",
    "s3://",
    "s3://bucket",
    "s3://bucket/",
    "s3:///key",
    "s3://bucket\r\nX-Evil: 1/key",
    " s3://bucket/key",
    "arn:aws:s3:::bucket/key",
    "",
    None,
    5,
    b"s3://bucket/key",
    ["s3://bucket/key"],
]


@pytest.mark.parametrize("location", HOSTILE_LOCATIONS, ids=ascii)
def test_a_hostile_location_is_refused_and_nothing_contacted(location):
    refused_everywhere(location)


PIECES = st.sampled_from(
    "s3:// https:// http:// / // s3 s3. s3- -fips .dualstack . .. bucket a.b us-east-1 amazonaws.com "
    ".amazonaws.com .amazonaws.com.cn evil.example @ : :443 # ? % %2F %00 %0D%0A \\ user:pw@ key ü".split()
    + ["\r\n", "\0", " ", "\ud800", "\u3002", "．"]
)


@settings(max_examples=1000)
@given(st.lists(PIECES, max_size=12).map("".join))
@example("https://evil.example/.s3.amazonaws.com/key")
@example("s3://evil.example/key")
def test_whatever_the_location_only_s3_is_asked(location):
    client, s3 = offline(not_there)
    with contextlib.suppress(ParamValidationError):
        client.poll({"OutputLocation": location})
    for url in s3.urls:
        assert re.fullmatch(r"([a-z0-9-]+\.)?s3\.us-east-1\.amazonaws\.com", urlsplit(url).netloc)
        assert re.fullmatch("[!-~]+", url) and "#" not in url and "?" not in url


# --- Hosts

HOSTS = [
    # region, FIPS, dual-stack, host
    ("us-east-1", False, False, "s3.us-east-1.amazonaws.com"),
    ("us-east-1", True, False, "s3-fips.us-east-1.amazonaws.com"),
    ("us-east-1", False, True, "s3.dualstack.us-east-1.amazonaws.com"),
    ("us-east-1", True, True, "s3-fips.dualstack.us-east-1.amazonaws.com"),
    ("eu-central-2", False, False, "s3.eu-central-2.amazonaws.com"),
    ("us-gov-west-1", False, False, "s3.us-gov-west-1.amazonaws.com"),
    ("us-gov-west-1", True, False, "s3-fips.us-gov-west-1.amazonaws.com"),
    ("us-gov-west-1", True, True, "s3-fips.dualstack.us-gov-west-1.amazonaws.com"),
    ("cn-north-1", False, False, "s3.cn-north-1.amazonaws.com.cn"),
    ("cn-north-1", False, True, "s3.dualstack.cn-north-1.amazonaws.com.cn"),
    ("us-iso-east-1", False, False, "s3.us-iso-east-1.c2s.ic.gov"),
    ("us-iso-east-1", True, False, "s3-fips.us-iso-east-1.c2s.ic.gov"),
    ("us-isob-east-1", False, False, "s3.us-isob-east-1.sc2s.sgov.gov"),
    ("eu-isoe-west-1", False, False, "s3.eu-isoe-west-1.cloud.adc-e.uk"),
    ("us-isof-south-1", False, False, "s3.us-isof-south-1.csp.hci.ic.gov"),
    ("eusc-de-east-1", False, False, "s3.eusc-de-east-1.amazonaws.eu"),
]


@pytest.mark.parametrize("region, fips, dualstack, host", HOSTS)
def test_the_bucket_is_in_the_host_unless_it_has_a_dot(region, fips, dualstack, host):
    switches = {"use_fips_endpoint": fips, "use_dualstack_endpoint": dualstack}
    client, s3 = offline(stored, region_name=region, **switches)
    client.put_input(b"", "s3://bucket/a key")
    client.put_input(b"", "s3://my.bucket/a key")
    assert s3.urls == [f"https://bucket.{host}/a%20key", f"https://{host}/my.bucket/a%20key"]
    assert [scope(request) for request in s3.requests] == [f"{region}/s3"] * 2
    assert header(s3.requests[0], "host") == f"bucket.{host}"


AWS = "https://bucket.s3.us-east-1.amazonaws.com/key"
IGNORE = {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
CUSTOM = {
    # the environment: what the URL of an object begins with
    "AWS_ENDPOINT_URL_S3=http://localhost:9000": "http://localhost:9000",
    "AWS_ENDPOINT_URL=https://minio.example/": "https://minio.example",
    "AWS_ENDPOINT_URL_S3=https://a.example/s3/": "https://a.example/s3",
    "AWS_ENDPOINT_URL=https://a.example AWS_ENDPOINT_URL_S3=https://b.example": "https://b.example",
    "AWS_ENDPOINT_URL_S3=https://s3.eu-west-1.amazonaws.com": "https://s3.eu-west-1.amazonaws.com",
}


@pytest.mark.parametrize("variables, url", CUSTOM.items(), ids=CUSTOM)
def test_a_custom_endpoint_has_the_bucket_in_the_path(variables, url):
    environ = dict(variable.split("=") for variable in variables.split())
    client, s3 = offline(stored, environ=environ)
    client.put_input(b"", "s3://bucket/key")
    assert s3.urls == [f"{url}/bucket/key"]
    assert scope(s3.requests[0]) == "us-east-1/s3"


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint_url": "https://sagemaker.example"},
        {"environ": {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "https://sagemaker.example"}},
        {"environ": {"AWS_ENDPOINT_URL_S3": "https://a.example", **IGNORE}},
    ],
    ids=["argument", "environment", "ignored"],
)
def test_an_endpoint_that_is_not_s3s_does_not_move_s3(options):
    client, s3 = offline(stored, **options)
    client.put_input(b"", "s3://bucket/key")
    assert s3.urls == [AWS]


@pytest.mark.parametrize("dualstack", [False, True])
def test_without_a_fips_host_in_china_nothing_is_sent(dualstack):
    switches = {"use_fips_endpoint": True, "use_dualstack_endpoint": dualstack}
    client, s3 = offline(stored, region_name="cn-north-1", **switches)
    for call in (lambda: client.put_input(b"", OUTPUT), lambda: client.wait(ACCEPTED)):
        assert "FIPS" in str(raised_by(call, ConfigurationError))
    assert s3.urls == []


# --- Keys

CONTROLS = "".join(map(chr, [*range(32), 127]))
NASTY = st.sampled_from(
    [
        *"/.+?#%&=;:@$,!*'()~\\<>\"{}[]^`|aZ0 ",
        "//",
        "..",
        "/../",
        "./",
        "%2F",
        "%00",
        "%",
        "\u00a0",
        "\u0085",
    ]
    + ["\u2028", "\u200b", "\ufeff", "\uffff", "é", "e\u0301", "日本", "😀", "\U0010ffff"]
)
ANY_CHARACTER = st.characters(blacklist_categories=("Cs",), blacklist_characters=CONTROLS)
ANY_KEY = st.one_of(
    st.lists(NASTY, min_size=1, max_size=20).map("".join),
    st.text(ANY_CHARACTER, min_size=1, max_size=100),
).filter(lambda key: not key.endswith(" "))


@pytest.mark.parametrize("keys", [KEYS, TEMPORARY], ids=["long-term keys", "temporary keys"])
def test_any_key_comes_back_and_is_encoded_once(server, keys):
    @settings(max_examples=150)
    @given(ANY_KEY, st.binary(max_size=20))
    @example("/../a//b/./c/..", b"")
    @example(" a+b?c#d%20%2F\u00a0😀", b"x")
    @example("..", b"x")
    def check(key, body):
        server.objects.clear()
        location = f"s3://bucket/{key}"
        assert client.put_input(body, location) == location
        put = server.requests[-1]
        assert list(server.objects) == [location], "its own verifier saw exactly that key"
        assert put.target == "/bucket/" + quote(key, safe="/")
        assert put.header("x-amz-content-sha256") == hashlib.sha256(body).hexdigest()
        signed = re.search("SignedHeaders=([^,]+)", put.header("authorization"))[1]
        assert "x-amz-content-sha256" in signed.split(";")
        result = client.poll({"OutputLocation": location})
        assert (result.body, result.location) == (body, location)
        assert server.requests[-1].target == put.target

    with connected(server.url, credentials=keys) as client:
        check()


@pytest.mark.parametrize("wrong", [*CONTROLS, "\ud800", "\udfff", "\udc80x"], ids=ascii)
def test_a_key_with_a_control_character_or_half_a_character_is_refused(wrong):
    for key in (f"a{wrong}b", wrong, f"key{wrong}"):
        refused_everywhere(f"s3://bucket/{key}")


def test_an_input_whose_key_ends_in_a_space_is_refused():
    client, s3 = offline(stored)
    error = raised_by(lambda: client.put_input(b"", "s3://bucket/a "), ParamValidationError)
    assert "InputLocation" in str(error)
    assert s3.urls == []


def test_an_input_has_a_location_that_fits_the_later_call(server, client):
    longest = "s3://bucket/" + "k" * (1024 - len("s3://bucket/"))
    client.invoke_endpoint_async(**CALL, InputLocation=client.put_input(DATA, longest))
    assert server.get(server.ledger[0].output_location) == DATA[::-1]
    raised_by(lambda: client.put_input(DATA, longest + "k"), ParamValidationError)
    assert list(server.objects) == [longest, server.ledger[0].output_location]


@pytest.mark.parametrize("key", ["key", "a b/../ü//+%"])
def test_a_head_request_that_is_signed_for_s3_is_accepted(server, key):
    server.put(f"s3://bucket/{key}", DATA)
    transport = UrllibTransport(environ={})
    for keys, status in ((KEYS, 200), (Credentials(KEYS.access_key_id, "x" * 40), 403)):
        url = smasync.s3_url(server.url, "bucket", key, path_style=True)
        request = Request("HEAD", url, ())
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        where = {"region": "us-east-1", "service": "s3", "timestamp": now}
        how = {"double_encode": False, "normalize_path": False, "sign_body": True}
        response = transport(smasync.sign(request, keys, **where, **how).request)
        assert (response.status, response.body, response.complete) == (status, b"", True)
    transport.close()


# --- The bucket's region

THERE = "eu-west-1"


def moved(status: int, region: str, where: str = "header") -> Response:
    """The answer that names another region, in its header or in its body."""
    if where == "header":
        return refusal(status, "Moved", ("X-Amz-Bucket-Region", region))
    body = f"<Error><Code>Moved</Code><Region>{region}</Region></Error>"
    return Response(status, (), body.encode())


@pytest.mark.parametrize("where", ["header", "body"])
@pytest.mark.parametrize("status", [301, 307, 400])
def test_the_buckets_region_is_learnt_once(status, where):
    def answer(request: Request) -> Response:
        return found() if scope(request) == f"{THERE}/s3" else moved(status, THERE, where)

    client, s3 = offline(answer)
    client.put_input(b"", "s3://bucket/a")
    client.poll({"OutputLocation": "s3://bucket/b"})
    client.wait({"OutputLocation": "s3://bucket/c"}, timeout=1)
    here, there = "s3.us-east-1.amazonaws.com", f"s3.{THERE}.amazonaws.com"
    paths = [f"{here}/a", f"{there}/a", f"{there}/b", f"{there}/c"]
    assert s3.urls == [f"https://bucket.{path}" for path in paths]
    client.put_input(b"", "s3://another/a")
    assert s3.urls[4].startswith(f"https://another.{here}/"), "each bucket has its own"


def test_an_upload_to_another_region_arrives_whole(server, client, tmp_path):
    server.bucket_regions["bucket"] = THERE
    (tmp_path / "input").write_bytes(DATA)
    for number in range(3):
        client.put_input(tmp_path / "input", f"s3://bucket/{number}")
        assert server.get(f"s3://bucket/{number}") == DATA
    assert len(server.requests) == 4


PADDED_REGIONS = ["eu-west-1\n", "\r\n eu-west-1", " eu-west-1"]  # XML may be written like that
BAD_REGIONS = [
    "evil.example/", "evil.example", "eu-west-1.evil.example", "a\r\nb", "x" * 64, "", "eu west",
    "a/b", "a#", "a?b", "a@b", "a:80", "ü", "eu_west_1", "\u2170",
]  # fmt: skip


PLACES_OF_REGIONS = [
    *[(region, "header") for region in BAD_REGIONS + PADDED_REGIONS],
    *[(region, "body") for region in BAD_REGIONS],
]


@pytest.mark.parametrize("status", [301, 307, 400])
@pytest.mark.parametrize("region, where", PLACES_OF_REGIONS, ids=ascii)
def test_a_malformed_region_is_not_followed(region, where, status):
    client, s3 = offline(lambda request: moved(status, region, where))
    for call in (lambda: client.put_input(b"", OUTPUT), lambda: client.wait(ACCEPTED)):
        error = raised_by(call, ClientError)
        assert (error.status, error.code) == (status, "Moved")
    assert {urlsplit(url).netloc for url in s3.urls} == {"bucket.s3.us-east-1.amazonaws.com"}
    assert len(s3.urls) == 2


@pytest.mark.parametrize("status", [302, 403, 404, 409, 501])
def test_a_region_in_another_answer_says_nothing(status):
    client, s3 = offline(lambda request: moved(status, THERE))
    assert raised_by(lambda: client.put_input(b"", OUTPUT), ClientError).status == status
    assert len(s3.urls) == 1


def test_the_region_that_was_asked_is_not_asked_again():
    client, s3 = offline(lambda request: moved(400, "us-east-1"))
    assert raised_by(lambda: client.put_input(b"", OUTPUT), ClientError).code == "Moved"
    assert len(s3.urls) == 1


def test_two_regions_that_send_us_to_each_other_are_asked_once_each():
    def elsewhere(request: Request) -> Response:
        return moved(301, THERE if scope(request).startswith("us-east-1") else "us-east-1")

    client, s3 = offline(elsewhere)
    for calls in (1, 2, 3):
        assert raised_by(lambda: client.wait(ACCEPTED), ClientError).status == 301
        assert len(s3.urls) <= 2 * calls


# --- What S3 says

HOSTILE_XML = [
    b"",
    b"   ",
    b"\xff\xfe<\0a\0/\0>\0",
    "<?xml version='1.0' encoding='utf-16'?><Code>x</Code>".encode("utf-16"),
    b"not XML",
    b"<Error><Code>x</Code>",
    b"<Error><Code>x</Error></Code>",
    b"<Code>\0</Code>",
    b"<a xmlns:x='y'><z:b/></a>",
    b"<!DOCTYPE Error><Error><Code>x</Code></Error>",
    b"<?xml version='1.0'?><!DOCTYPE e [<!ENTITY a 'b'>]><Error><Code>&a;</Code></Error>",
    b"<!DOCTYPE e SYSTEM 'file:///etc/passwd'><Error><Code>x</Code></Error>",
    b"\xef\xbb\xbf<!DOCTYPE e><Error><Code>x</Code></Error>",
    b'{"Code": "x"}',
]


@pytest.mark.parametrize("body", HOSTILE_XML)
def test_what_is_no_plain_xml_has_no_fields(body):
    assert smasync.xml_fields(body) == {}


def test_the_fields_of_xml_have_neither_namespace_nor_white_space():
    text = (
        "<?xml version='1.0'?><E xmlns='u:v'><Code> a </Code>\n<M>&lt;ü&#x1F600;</M><Empty/></E>"
    )
    fields = {"E": "", "Code": "a", "M": "<ü😀", "Empty": ""}
    assert smasync.xml_fields(text.encode()) == fields
    assert smasync.xml_fields(b"\xef\xbb\xbf" + text.encode()) == fields
    assert smasync.xml_fields(b"<a>" * 100_000 + b"</a>" * 100_000) == {"a": ""}


XML_PIECES = [
    b"<",
    b">",
    b"</a>",
    b"<a>",
    b"&amp;",
    b"&",
    b"<![CDATA[",
    b"]]>",
    b"<?x",
    b"<!--",
    b"\xff",
]


@given(
    st.one_of(st.binary(), st.lists(st.sampled_from(XML_PIECES)).map(b"".join)),
    st.integers(200, 599),
)
def test_any_answer_of_s3_is_an_answer_or_a_client_error(body, status):
    response = Response(status, (("x-amz-request-id", "ID"),), body)
    if status < 300:
        answer = smasync.s3_answer(response)
        assert (answer["Body"], answer["Complete"]) == (body, True)
        assert answer["ResponseMetadata"]["RequestId"] == "ID"
    else:
        error = raised_by(lambda: smasync.s3_answer(response), ClientError)
        assert (error.status, error.request_id) == (status, "ID")


def test_an_error_of_s3_has_its_code_words_and_id(server, client):
    server.fail(emu.status(409, "OperationAborted", "a < b & ü"))
    error = raised_by(lambda: client.put_input(b"", OUTPUT), ClientError)
    assert (error.status, error.code, error.message) == (409, "OperationAborted", "a < b & ü")
    assert error.request_id and error.operation_name == "PutObject"
    says = "An error occurred (OperationAborted) when calling the PutObject operation: a < b & ü"
    assert str(error) == says


ABSENCES = [
    # status, code, whether that is no more than an object that is not there
    (404, "NoSuchKey", True),
    (404, "404", True),
    (404, "NoSuchVersion", True),
    (404, "NoSuchBucket", False),
    (403, "AccessDenied", True),
    (403, "403", False),
    (403, "InvalidAccessKeyId", False),
    (403, "SignatureDoesNotMatch", False),
    (403, "RequestTimeTooSkewed", False),
    (400, "NoSuchKey", False),
    (410, "Gone", False),
    (301, "PermanentRedirect", False),
    (412, "PreconditionFailed", False),
]


@pytest.mark.parametrize("status, code, absent", ABSENCES)
def test_absence_is_told_from_trouble(status, code, absent):
    error = raised_by(lambda: smasync.s3_answer(refusal(status, code)), ClientError)
    assert smasync.is_absent(error) is absent
    client, s3 = offline(lambda request: refusal(status, code))
    if absent and status == 404:
        assert client.poll(ACCEPTED) is None
    else:
        assert raised_by(lambda: client.poll(ACCEPTED), ClientError).code == code
    if not absent:
        del s3.requests[:]
        assert raised_by(lambda: client.wait(ACCEPTED, timeout=60), ClientError).code == code
        assert len(s3.requests) == 1, "an error that does not pass ends the wait at once"


# --- The input


def opened(path: Path, place: int = 0, **options: Any) -> Any:
    """The file, open and standing at that place."""
    file = open(path, "rb", **options)  # noqa: SIM115
    file.seek(place)
    return file


SOURCES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "memoryview of numbers": lambda path: memoryview(path.read_bytes()).cast("Q"),
    "str": str,
    "Path": Path,
    "file": opened,
    "file from the middle": lambda path: opened(path, 1000),
    "file at its end": lambda path: opened(path, path.stat().st_size),
    "unbuffered file": lambda path: opened(path, 7, buffering=0),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
}
TWICE = ["bytes", "Path", "file from the middle", "BytesIO"]


@pytest.fixture
def source(tmp_path):
    """A file of 80,000 bytes."""
    path = tmp_path / "input"
    path.write_bytes(os.urandom(80_000))
    return path


@contextlib.contextmanager
def input_of(path: Path, kind: str) -> Iterator[tuple[Any, bytes]]:
    """What put_input takes, and the bytes that it stands for; an open file has to stay open."""
    data, content = SOURCES[kind](path), path.read_bytes()
    is_file = hasattr(data, "read")
    yield data, content[data.tell() :] if is_file else content
    if is_file:
        assert not data.closed
        data.close()


@pytest.mark.parametrize("size", [0, 8, 16_384, 80_000, 3 * MIB])
@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_input_goes_out_with_its_length_and_hash(server, client, source, kind, size):
    source.write_bytes(os.urandom(size))
    with input_of(source, kind) as (data, content):
        assert client.put_input(data, OUTPUT) == OUTPUT
    (put,) = server.requests
    assert put.body == content == server.get(OUTPUT)
    assert put.values("content-length") == [str(len(content))]
    assert put.header("transfer-encoding") is None
    assert put.header("x-amz-content-sha256") == hashlib.sha256(content).hexdigest()


KMS = "x-amz-server-side-encryption"
ARN = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
UPLOAD_HEADERS = [
    ({}, {}),
    ({"ContentType": None, "SSEKMSKeyId": None}, {}),
    ({"ContentType": ""}, {}),
    ({"ContentType": "text/csv; charset=utf-8"}, {"content-type": "text/csv; charset=utf-8"}),
    ({"SSEKMSKeyId": ARN}, {KMS: "aws:kms", f"{KMS}-aws-kms-key-id": ARN}),
]


@pytest.mark.parametrize("options, headers", UPLOAD_HEADERS)
def test_content_type_and_key_of_an_input_are_signed_headers(server, client, options, headers):
    client.put_input(DATA, OUTPUT, **options)
    (put,) = server.requests
    names = ("content-type", KMS, f"{KMS}-aws-kms-key-id")
    assert {name: put.header(name) for name in names if put.header(name) is not None} == headers
    signed = re.search("SignedHeaders=([^,]+)", put.header("authorization"))[1].split(";")
    assert set(headers) <= set(signed)


UPLOAD_FAULTS = {
    "500": [emu.status(500, "InternalError")],
    "slow down": [emu.throttle()],
    "reset while it is sent": [emu.reset_before()],
    "reset once it was sent": [emu.reset_after()],
    "closed without an answer": [emu.close_after()],
    "two in a row": [emu.status(503, "ServiceUnavailable"), emu.reset_before()],
}


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("faults", UPLOAD_FAULTS.values(), ids=UPLOAD_FAULTS)
def test_each_attempt_sends_the_input_from_its_start(server, client, source, kind, faults):
    source.write_bytes(os.urandom(8 * MIB))  # so much that it is still under way
    server.fail(*faults)
    with input_of(source, kind) as (data, content):
        client.put_input(data, OUTPUT)
    assert server.get(OUTPUT) == content
    assert all(put.body == content for put in server.requests)
    assert len(server.requests) + faults.count(emu.reset_before()) == len(faults) + 1


@pytest.mark.parametrize("kind", TWICE)
def test_an_input_that_never_arrives_is_an_error_and_its_file_closed(server, client, source, kind):
    server.fail(*[emu.status(500, "InternalError")] * 3)
    with input_of(source, kind) as (data, _):
        assert raised_by(lambda: client.put_input(data, OUTPUT), ClientError).status == 500
    assert server.objects == {} and len(server.requests) == 3


class Meddler:
    """A transport before which something happens once, when the input has been hashed."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.meddle = [meddle]
        self.transport = UrllibTransport(environ={}, read_timeout=5)
        self.close = self.transport.close

    def __call__(self, request: Request, **options: Any) -> Response:
        while self.meddle:
            self.meddle.pop()()
        return self.transport(request, **options)


CHANGING = ["Path", "file from the middle", "unbuffered file"]


@pytest.mark.parametrize("kind", CHANGING)
def test_no_more_of_a_growing_file_goes_out_than_was_promised(source, kind):
    def serve(sock: socket.socket) -> None:
        running.read_request(sock)
        sock.sendall(plain(b""))
        while more := sock.recv(65_536):
            running.requests[-1] += more

    def grow() -> None:
        with open(source, "ab") as file:
            file.write(bytes(MIB))

    with RawServer(serve) as running, input_of(source, kind) as (data, content):
        with connected(running.url, transport=Meddler(grow)) as client:
            client.put_input(data, OUTPUT)
        assert source.stat().st_size == 80_000 + MIB
    (put,) = running.requests
    assert put.partition(b"\r\n\r\n")[2] == content


@pytest.mark.parametrize("size", [0, 1001, 79_999])
@pytest.mark.parametrize("kind", CHANGING)
def test_a_file_that_shrinks_is_an_error_and_nothing_is_stored(server, source, kind, size):
    meddler = Meddler(lambda: os.truncate(source, size))
    with connected(server.url, transport=meddler) as client:
        with input_of(source, kind) as (data, _):
            error = raised_by(lambda: client.put_input(data, OUTPUT), ParamValidationError)
        assert "shorter" in str(error)
        assert server.objects == {} and server.requests == []
        assert client.put_input(b"next", OUTPUT) == OUTPUT
    assert server.get(OUTPUT) == b"next"


@pytest.mark.parametrize("kind", CHANGING)
def test_a_file_whose_content_changes_is_refused_by_its_hash(server, source, kind):
    meddler = Meddler(lambda: source.write_bytes(bytes(80_000)))
    with connected(server.url, transport=meddler) as client, input_of(source, kind) as (data, _):
        error = raised_by(lambda: client.put_input(data, OUTPUT), ClientError)
    assert error.code == "XAmzContentSHA256Mismatch"
    assert server.objects == {}


def fifo(folder: Path) -> Path:
    """The path of a FIFO; of nothing, where there is no such thing."""
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "fifo")
    return folder / "fifo"


def pipe(folder: Path) -> Any:
    """The end of a pipe that one reads from."""
    reading, writing = os.pipe()
    os.close(writing)
    return os.fdopen(reading, "rb")


NO_INPUTS: dict[str, Callable[[Path], Any]] = {
    "FIFO": fifo,
    "directory": lambda folder: folder,
    "missing file": lambda folder: str(folder / "missing"),
    "content instead of a path": lambda folder: '{"a": 1}',
    "much content instead of a path": lambda folder: "1, 2\n" * 100_000,
    "empty path": lambda folder: "",
    "path with NUL": lambda folder: "a\0b",
    "path with half a character": lambda folder: "a\ud800",
    "pipe": pipe,
    "text file": lambda folder: open(folder / "text", encoding="utf-8"),  # noqa: SIM115
    "StringIO": lambda folder: io.StringIO("text"),
    "None": lambda folder: None,
    "number": lambda folder: 5,
    "list": lambda folder: [b"a"],
    "dict": lambda folder: {"a": 1},
}


@pytest.mark.parametrize("make", NO_INPUTS.values(), ids=NO_INPUTS)
def test_what_cannot_be_read_twice_as_bytes_is_refused(tmp_path, make):
    (tmp_path / "text").write_text("text")
    client, s3 = offline(stored)
    with contextlib.ExitStack() as stack:
        data = make(tmp_path)
        if isinstance(data, io.IOBase):
            stack.enter_context(data)
        if (tmp_path / "fifo").exists():  # whoever opens it, although nobody may, shall not hang
            other_end = os.open(tmp_path / "fifo", os.O_RDWR)
            stack.callback(os.close, other_end)
        raised_by(lambda: client.put_input(data, OUTPUT), ParamValidationError)
    assert s3.urls == []


BAD_OPTIONS = [
    {"ContentType": "text/csv\r\nX-Evil: 1"},
    {"ContentType": "ü"},
    {"ContentType": "x" * 1025},
    {"ContentType": 5},
    {"ContentType": b"text/csv"},
    {"SSEKMSKeyId": "a b"},
    {"SSEKMSKeyId": "a\r\nX-Evil: 1"},
    {"SSEKMSKeyId": "ü"},
    {"SSEKMSKeyId": 5},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=lambda options: ascii(options)[:40])
def test_an_odd_content_type_or_key_is_refused(options):
    client, s3 = offline(stored)
    error = raised_by(lambda: client.put_input(b"", OUTPUT, **options), ParamValidationError)
    assert str(error).startswith(tuple(options))
    assert s3.urls == []


class Claimed(bytes):
    """Bytes that say they are so many."""

    count = 0

    def __len__(self) -> int:
        return self.count


class Vast:
    """A seekable binary file that has as many bytes as it says, none of which take time."""

    def __init__(self, size: int) -> None:
        self.size, self.place = size, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def read(self, count: int = -1) -> bytes:
        piece, left = Claimed(), self.size - self.place
        piece.count = left if count < 0 else min(count, left)
        self.place += piece.count
        return piece


def test_an_input_has_at_most_five_gibibytes():
    client, s3 = offline(stored)
    client.put_input(Vast(5 << 30), OUTPUT)
    assert [header(request, "Content-Length") for request in s3.requests] == [str(5 << 30)]
    error = raised_by(lambda: client.put_input(Vast((5 << 30) + 1), OUTPUT), ParamValidationError)
    assert str(5 << 30) in str(error)
    assert len(s3.requests) == 1


# --- One look


def test_the_whole_job(server):
    server.latency = 0.05
    with connected(server.url, sleep=lambda seconds: server.drain()) as client:
        location = client.put_input(DATA, "s3://bucket/in put")
        accepted = client.invoke_endpoint_async(**CALL, InputLocation=location)
        result = client.wait(json.loads(json.dumps(accepted)))
    assert (result.body, result.location) == (DATA[::-1], accepted["OutputLocation"])


def test_a_look_finds_nothing_then_the_result(server, client):
    assert client.poll(ACCEPTED) is None
    assert gets(server, OUTPUT) == gets(server, FAILURE) == 1
    server.put(OUTPUT, DATA, "application/json")
    result = client.poll(ACCEPTED)
    assert type(result) is Result
    assert (result.body, result.content_type, result.location) == (
        DATA,
        "application/json",
        OUTPUT,
    )
    assert (result.metadata["HTTPStatusCode"], result.metadata["RetryAttempts"]) == (200, 0)
    assert result.metadata["RequestId"] == result.metadata["HTTPHeaders"]["x-amz-request-id"] != ""
    assert [attempt["Outcome"] for attempt in result.metadata["Attempts"]] == ["200"]


def test_a_failure_is_what_the_model_wrote(server, client):
    words = "CUDA out of memory\nü"
    server.put(FAILURE, words.encode(), "text/plain")
    for look in (client.poll, client.wait):
        error = raised_by(lambda look=look: look(ACCEPTED), InferenceError)
        assert (error.location, error.body, error.content_type) == (
            FAILURE,
            words.encode(),
            "text/plain",
        )
        assert "CUDA out of memory" in str(error) and "\n" not in str(error)


def test_a_failure_of_any_size_is_read_whole(server, client):
    words = os.urandom(2 * MIB + 5)
    server.put(FAILURE, words)
    error = raised_by(lambda: client.wait(ACCEPTED), InferenceError)
    assert error.body == words and len(str(error)) < 2000


def test_a_result_counts_even_when_there_is_a_failure_too(server, client):
    server.put(FAILURE, b"first try")
    server.put(OUTPUT, DATA)
    assert client.poll(ACCEPTED).body == client.wait(ACCEPTED).body == DATA
    assert gets(server, FAILURE) == 0


def test_without_a_failure_location_only_the_output_is_looked_for(server, client):
    for nothing in ({}, {"FailureLocation": None}, {"FailureLocation": ""}):
        assert client.poll({"OutputLocation": OUTPUT, **nothing}) is None
    assert len(server.requests) == gets(server) == 3


def test_without_the_right_to_list_a_look_says_which_right_is_missing(server, client):
    server.may_list = False
    error = raised_by(lambda: client.poll(ACCEPTED), ClientError)
    assert (error.status, error.code) == (403, "AccessDenied")
    assert "s3:ListBucket" in error.hint and error.hint not in str(error)
    server.put(FAILURE, b"words")
    assert raised_by(lambda: client.poll(ACCEPTED), InferenceError).body == b"words"
    server.put(OUTPUT, DATA)
    assert client.poll(ACCEPTED).body == DATA


NO_OUTPUT = [{}, {"OutputLocation": None}, {"OutputLocation": ""}, {"FailureLocation": FAILURE}]


@pytest.mark.parametrize("accepted", [*NO_OUTPUT, None, [], "s3://bucket/output", 5], ids=repr)
def test_an_answer_that_says_no_place_is_said_so(accepted):
    client, s3 = offline(not_there)
    for look in (client.poll, client.wait):
        error = raised_by(lambda look=look: look(accepted), ParamValidationError)
        assert ("S3OutputPath" in str(error)) is isinstance(accepted, dict)
    assert s3.urls == []


def test_an_endpoint_without_an_output_path_is_recognised_in_its_answer():
    answer = Response(202, (("x-amzn-RequestId", "id"),), b'{"InferenceId": "id"}')
    client, s3 = offline(lambda request: answer)
    accepted = client.invoke_endpoint_async(**CALL, InputLocation=OUTPUT)
    assert "S3OutputPath" in str(raised_by(lambda: client.wait(accepted), ParamValidationError))
    assert len(s3.urls) == 1


# --- The pace of a wait


@given(st.floats(0, 4000), st.floats(0, 1, exclude_max=True))
def test_the_next_look_is_never_far_off(waited, chance):
    delay, most = smasync.polling_delay(waited, chance), min(1.5 + 0.15 * waited, 30)
    assert most / 2 < delay <= most
    assert smasync.polling_delay(waited, 0.0) < smasync.polling_delay(waited, 0.5)


def job(
    seconds: float, chances: Iterable[float], timeout: float
) -> tuple[Any, list[float], list[tuple[float, float | None]]]:
    """A wait for a job that takes so long: result or error, when it looked, each (time, limit)."""
    timeline, looks, limits, dice = Timeline(), [], [], itertools.cycle(chances)

    def answer(request: Request) -> Response:
        limits.append((timeline.now, s3.timeouts[-1]))
        if request.url.endswith("/failure"):
            return not_there(request)
        looks.append(timeline.now)
        return found(b"done") if timeline.now >= seconds else not_there(request)

    client, s3 = offline(answer, random=lambda: next(dice), **timeline.seams)
    try:
        return client.wait(ACCEPTED, timeout=timeout), looks, limits
    except ResultTimeout as error:
        return error, looks, limits


CHANCES = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=50)


@given(st.floats(1, 3600), CHANCES)
@example(1, [0.0])
@example(3600, [0.999])
def test_a_result_is_seen_soon_after_it_is_there(seconds, chances):
    result, looks, _ = job(seconds, chances, timeout=math.inf)
    assert result.body == b"done"
    assert looks[-1] - seconds <= min(0.15 * seconds + 1.5, 30)


@given(CHANCES)
@example([0.0])
@example([0.999])
def test_a_job_of_a_minute_is_seen_in_time_with_twenty_looks_at_most(chances):
    _, looks, _ = job(60, chances, timeout=900)
    assert len(looks) <= 20
    assert looks[-1] <= 60 * 1.15


@given(st.floats(0, 4000), st.floats(0.01, 4000), CHANCES)
@example(seconds=900, timeout=900, chances=[0.5])
@example(seconds=59.8, timeout=60, chances=[0.5])
@example(seconds=5000, timeout=0.01, chances=[0.5])
def test_a_wait_looks_until_its_deadline_and_never_after_it(seconds, timeout, chances):
    outcome, looks, limits = job(seconds, chances, timeout)
    assert max(looks) <= timeout
    assert all(limit > 0 and now + limit <= timeout + 0.001 for now, limit in limits)
    if seconds <= timeout - 0.2:
        assert outcome.body == b"done"
    if seconds > timeout:
        assert (outcome.location, outcome.waited) == (OUTPUT, max(looks))
        assert max(looks) >= timeout - 0.2, "it looks once more at the end"
        assert isinstance(outcome, TimeoutError)


def test_a_wait_may_have_no_limit():
    seconds = 50_000
    result, looks, limits = job(seconds, [0.5], timeout=math.inf)
    assert result.body == b"done" and looks[-1] <= seconds + 30
    assert {limit for _, limit in limits} == {None}


@pytest.mark.parametrize(
    "timeout", [0, -1, -math.inf, math.nan, True, False, None, "5", b"5"], ids=repr
)
def test_what_is_no_time_limit_is_refused(timeout):
    client, s3 = offline(forbidden)
    error = raised_by(lambda: client.wait(ACCEPTED, timeout=timeout), ParamValidationError)
    assert str(error).startswith("timeout")
    assert s3.urls == []


# --- Trouble during a wait

TROUBLES = {
    "500s": [emu.status(500, "InternalError")] * 8,
    "500s without a word": [emu.status(500, body=b"")] * 8,
    "503s of a proxy": [emu.status(503, body=b"<html>Bad gateway</html>")] * 8,
    "throttles": [emu.throttle()] * 8,
    "429s": [emu.status(429, "TooManyRequestsException")] * 8,
    "resets": [emu.reset_after()] * 8,
    "ends without an answer": [emu.close_after()] * 8,
    "garbage": [emu.garbage()] * 8,
    "silence": [emu.stall(30)] * 4,
}


@pytest.mark.parametrize("faults", TROUBLES.values(), ids=TROUBLES)
def test_a_wait_survives_what_passes(server, caplog, faults):
    server.put(OUTPUT, DATA)
    server.fail(*faults)
    with connected(server.url, read_timeout=0.2) as client:
        result = client.wait(ACCEPTED)
    assert result.body == DATA
    assert len(server.requests) == len(faults) + 1
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1 and OUTPUT in warnings[0].getMessage()


@pytest.mark.parametrize("seconds", [0.5, 10, 100])
def test_a_result_that_appears_between_two_looks_is_found(server, seconds):
    timeline = Timeline((seconds, lambda: server.put(OUTPUT, DATA)))
    with connected(server.url, **timeline.seams) as client:
        assert client.wait(ACCEPTED).body == DATA
    assert seconds <= timeline.now <= seconds * 1.15 + 1.5


def test_a_failure_that_appears_between_two_looks_ends_the_wait(server):
    timeline = Timeline((10, lambda: server.put(FAILURE, b"words")))
    with connected(server.url, **timeline.seams) as client:
        assert raised_by(lambda: client.wait(ACCEPTED), InferenceError).body == b"words"
    assert timeline.now <= 13


def test_a_wait_goes_on_while_s3_cannot_be_reached():
    port = free_port()
    later = Emulator(port=port)
    later.put(OUTPUT, DATA)
    timeline = Timeline((300, later.start))
    try:
        with connected(f"http://127.0.0.1:{port}", **timeline.seams) as client:
            assert client.wait(ACCEPTED).body == DATA
    finally:
        later.close()
    assert 300 <= timeline.now <= 330


def test_a_403_that_becomes_a_result_is_a_result(server, caplog):
    server.may_list = False
    timeline = Timeline((60, lambda: server.put(OUTPUT, DATA)))
    with connected(server.url, **timeline.seams) as client:
        assert client.wait(ACCEPTED).body == DATA
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1 and "AccessDenied" in warnings[0].getMessage()


def test_a_403_to_the_end_is_raised_and_was_logged_once(server, caplog):
    server.may_list, timeline = False, Timeline()
    with connected(server.url, **timeline.seams) as client:
        error = raised_by(lambda: client.wait(ACCEPTED, timeout=60), ClientError)
    assert 59.5 < timeline.now <= 60
    assert (error.status, error.code) == (403, "AccessDenied") and "s3:ListBucket" in error.hint
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1


ENDINGS = {
    # what the looks meet: kind and status of the error behind the ResultTimeout
    "nothing yet": (lambda request: refusal(404, "NoSuchKey"), None, None),
    "500s": (lambda request: refusal(500, "InternalError"), ClientError, 500),
    "throttles": (lambda request: refusal(503, "SlowDown"), ClientError, 503),
    "no way there": (None, TransportError, None),
}


@pytest.mark.parametrize("answer, kind, status", ENDINGS.values(), ids=ENDINGS)
def test_a_wait_in_vain_says_where_how_long_and_what_the_last_trouble_was(answer, kind, status):
    def unreachable(request: Request) -> Response:
        raise TransportError("no way there", kind="connect", sent=False)

    timeline = Timeline()
    client, s3 = offline(answer or unreachable, **timeline.seams)
    error = raised_by(lambda: client.wait(ACCEPTED, timeout=60), ResultTimeout)
    assert error.location == OUTPUT and error.waited == timeline.now and 59.5 < timeline.now <= 60
    assert OUTPUT in str(error)
    cause = error.__cause__
    assert isinstance(cause, kind or type(None))
    assert cause is None or (str(cause) in str(error) and getattr(cause, "status", None) == status)


# --- The deadline of a wait, by a real clock


def silent(sock: socket.socket) -> None:
    """Takes the request and everything else, and says nothing."""
    while sock.recv(65_536):
        pass


def dripping(sock: socket.socket) -> None:
    """The head of an answer, a byte every 20 ms."""
    read_head(sock)
    for byte in message("HTTP/1.1 404 Not Found", "Content-Length: 0", *["X-A: 1"] * 100):
        sock.sendall(bytes([byte]))
        time.sleep(0.02)


@contextlib.contextmanager
def speechless(serve: Callable[[socket.socket], None], scheme: str = "http") -> Iterator[str]:
    """The URL of such a server."""
    with RawServer(serve) as running:
        yield f"{scheme}://127.0.0.1:{running.port}"


@contextlib.contextmanager
def crowded() -> Iterator[str]:
    """The URL of a server whose queue is full, so that a connection to it is never made."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


STALLS = {
    "no answer": lambda: speechless(silent),
    "an answer that drips": lambda: speechless(dripping),
    "no TLS handshake": lambda: speechless(silent, "https"),
    "no connection": crowded,
}


@pytest.mark.parametrize("stall", STALLS.values(), ids=STALLS)
def test_a_wait_ends_at_its_deadline_whatever_stalls(stall):
    with stall() as url, connected(url, **REAL_TIME) as client:

        def wait() -> None:
            error = raised_by(lambda: client.wait(ACCEPTED, timeout=0.3), ResultTimeout)
            assert isinstance(error.__cause__, TransportError)
            assert error.waited >= 0.2 and error.location == OUTPUT

        assert 0.2 <= soonest(wait) <= 0.5


def test_a_download_that_stalls_beyond_the_deadline_is_given_up():
    def serve(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(message("HTTP/1.1 200 OK", "Content-Length: 1000"))
        silent(sock)

    hasty = {"read_timeout": 0.3, **REAL_TIME}
    with RawServer(serve) as running, connected(running.url, **hasty) as client:
        started = time.monotonic()
        raised_by(lambda: client.wait(ACCEPTED, timeout=0.3), TransportError, ResultTimeout)
        assert time.monotonic() - started < 4, "it goes on for ever so many time limits"


# --- The way down

VERSION = '"version 1"'
WHERES = ["memory", "path", "file"]


def asked(raw: bytes) -> tuple[int, int | None]:
    """First byte and, exclusive, last one that a request's Range asks for."""
    match = re.search(rb"\r\nRange: bytes=([0-9]+)-([0-9]*)\r\n", raw)
    if not match:
        return 0, None
    return int(match[1]), int(match[2]) + 1 if match[2] else None


def whole(data: bytes, *lines: str, size: int | None = None, etag: str = VERSION) -> bytes:
    """The answer with all of an object, whose size may be said to be another."""
    length = f"Content-Length: {len(data) if size is None else size}"
    return message("HTTP/1.1 200 OK", f"ETag: {etag}", *lines, length, body=data)


def part(
    data: bytes, start: int, stop: int, spot: str | None = None, etag: str = VERSION
) -> bytes:
    """The answer with a part of an object, whose place may be said to be another."""
    spot = f"bytes {start}-{stop - 1}/{len(data)}" if spot is None else spot
    lines = [f"ETag: {etag}", f"Content-Length: {stop - start}", f"Content-Range: {spot}"]
    head = message("HTTP/1.1 206 Partial Content", *lines if spot else lines[:2])
    return head + data[start:stop]


def breaking(data: bytes, *ends: int, reset: bool = False) -> RawServer:
    """A server of one object, whose n-th answer breaks off at the n-th of those places."""

    def serve(sock: socket.socket) -> None:
        start, stop = asked(running.read_request(sock))
        stop = min(stop or len(data), len(data))
        end = min([*ends[len(running.requests) - 1 :][:1], stop])
        answer = part(data, start, stop) if start else whole(data)
        sock.sendall(answer[: len(answer) - (stop - end)])
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    running = RawServer(serve)
    return running


def playing(*scripts: Iterable[Any]) -> RawServer:
    """A server that plays the n-th script to its n-th request, the last one ever after.

    A script has bytes to send and functions to call; at its end the connection ends.
    """

    def serve(sock: socket.socket) -> None:
        if running.read_request(sock):
            for step in scripts[min(len(running.requests), len(scripts)) - 1]:
                step() if callable(step) else sock.sendall(step)

    running = RawServer(serve)
    return running


def fetched(client: Client, where: str, folder: Path) -> bytes:
    """What a wait puts in memory, at a path or behind what an open file has; files stay open."""
    if where == "memory":
        return client.wait(ACCEPTED).body
    if where == "path":
        result = client.wait(ACCEPTED, file=folder / "result")
        content = (folder / "result").read_bytes()
    else:
        with open(folder / "result", "w+b") as file:
            file.write(b"before")
            result = client.wait(ACCEPTED, file=file)
            file.write(b"after")
        content = (folder / "result").read_bytes()
        assert content.startswith(b"before") and content.endswith(b"after")
        content = content[6:-5]
    assert (result.body, result.location) == (b"", OUTPUT)
    return content


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 3])
@pytest.mark.parametrize("where", WHERES)
def test_a_result_of_any_size_comes_whole(server, client, tmp_path, where, size):
    data = os.urandom(size)
    server.put(OUTPUT, data, "image/png")
    assert fetched(client, where, tmp_path) == data
    windows = max(1, -(-size // MIB)) if where == "memory" else 1
    assert gets(server) == len(server.requests) == windows
    for number, request in enumerate(server.requests[1:], 1):
        assert asked(request.head) == (number * MIB, (number + 1) * MIB)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("where", WHERES)
def test_a_broken_download_goes_on_where_it_broke(tmp_path, where, reset):
    data = os.urandom(4 * MIB + 5)
    ends = (0, 1000, 1001, MIB + 7, MIB + 7, 3 * MIB)
    with breaking(data, *ends, reset=reset) as running, connected(running.url) as client:
        assert fetched(client, where, tmp_path) == data
        assert len(running.requests) > len(ends)
        for raw in running.requests:
            assert (b"\r\nIf-Match: " + VERSION.encode() in raw) is bool(asked(raw)[0])
        if where != "memory" and not reset:
            starts = [asked(raw)[0] for raw in running.requests]
            assert starts == [0, *ends], "no byte is asked for twice"


def test_a_result_has_the_metadata_of_its_first_answer(tmp_path):
    head = ("x-amz-request-id: FIRST", "Content-Type: image/png")
    scripts = [whole(DATA[:100], *head, size=len(DATA))], [part(DATA, 100, len(DATA))]
    with playing(*scripts) as running, connected(running.url) as client:
        result = client.wait(ACCEPTED, file=tmp_path / "result")
    assert (result.content_type, result.metadata["RequestId"]) == ("image/png", "FIRST")
    assert (result.metadata["HTTPStatusCode"], len(running.requests)) == (200, 2)


ALL, CUT = len(DATA), 400


@pytest.mark.parametrize("where", WHERES)
def test_a_download_that_broke_before_its_first_byte_begins_afresh(tmp_path, where):
    old, etag = whole(b"", size=ALL * 2), '"version 2"'
    new, rest = whole(DATA[:CUT], size=ALL, etag=etag), part(DATA, CUT, ALL, etag=etag)
    with playing([old], [new], [rest]) as running, connected(running.url) as client:
        assert fetched(client, where, tmp_path) == DATA
    assert b'If-Match: "version 2"' in running.requests[2]


LIES = {
    # what is answered to "the rest from byte 400 on, please"
    "everything": whole(DATA),
    "everything, as a part": part(DATA, 0, ALL),
    "a part before it": part(DATA, 300, ALL),
    "a part behind it": part(DATA, 500, ALL),
    "a part of no place": part(DATA, CUT, ALL, spot=""),
    "a part of other units": part(DATA, CUT, ALL, spot=f"items {CUT}-{ALL - 1}/{ALL}"),
    "a part of no order": part(DATA, CUT, ALL, spot=f"bytes {CUT}"),
    "a part of a shorter object": part(DATA, CUT, 700, spot=f"bytes {CUT}-699/700"),
    "a part of a longer object": part(DATA, CUT, ALL, spot=f"bytes {CUT}-{ALL - 1}/{ALL + 1}"),
    "a part of another version": part(DATA, CUT, ALL, etag='"version 2"'),
    "more than there is": part(DATA + b"more", CUT, ALL + 4, spot=f"bytes {CUT}-{ALL + 3}/{ALL}"),
    "another version is there": message("HTTP/1.1 412 Precondition Failed", "Content-Length: 0"),
    "there is no such part": message("HTTP/1.1 416 Range Not Satisfiable", "Content-Length: 0"),
    "nothing is there": message("HTTP/1.1 404 Not Found", "Content-Length: 0"),
    "nothing at all": message("HTTP/1.1 204 No Content"),
}


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_wrong_answer_to_a_range_is_an_error_and_no_result(tmp_path, lie, where):
    (tmp_path / "result").write_bytes(b"old")
    scripts = [whole(DATA[:CUT], size=ALL)], [lie]
    with playing(*scripts) as running, connected(running.url) as client:
        raised_by(lambda: fetched(client, where, tmp_path), TransportError, ClientError)
        assert len(running.requests) >= 2
    assert os.listdir(tmp_path) == ["result"]
    if where == "path":
        assert (tmp_path / "result").read_bytes() == b"old"


def chunked(data: bytes, etag: str = VERSION) -> bytes:
    """The answer with an object that does not say its size, and breaks off."""
    head = message("HTTP/1.1 200 OK", f"ETag: {etag}", "Transfer-Encoding: chunked")
    return head + f"{len(data):x}\r\n".encode() + data + b"\r\n"


def no_more(spot: str) -> bytes:
    line = f"Content-Range: {spot}"
    return message("HTTP/1.1 416 Range Not Satisfiable", line, "Content-Length: 0")


OPEN_PART = part(DATA, CUT, 700, spot=f"bytes {CUT}-699/*")
REST = part(DATA, 700, ALL, spot=f"bytes 700-{ALL - 1}/*")
OPEN_ENDS = {
    # what follows a part of an object of unknown size
    "nothing": [message("HTTP/1.1 503 Slow Down", "Content-Length: 0")],
    "no more of a longer one": [no_more(f"bytes */{ALL}")],
    "no more of no size": [REST, no_more("bytes */*")],
}


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("answers", OPEN_ENDS.values(), ids=OPEN_ENDS)
def test_a_part_of_an_object_of_unknown_size_is_not_its_end(tmp_path, answers, where):
    scripts = [chunked(DATA[:CUT])], [OPEN_PART], *[[answer] for answer in answers]
    with playing(*scripts) as running, connected(running.url) as client:
        raised_by(lambda: fetched(client, where, tmp_path), TransportError, ClientError)


def test_a_416_to_the_first_question_is_no_result():
    with playing([no_more("bytes */0")]) as running, connected(running.url) as client:
        assert raised_by(lambda: client.poll(ACCEPTED), ClientError).status == 416


@pytest.mark.parametrize("etag", ['"versi\xf6n"', '"a\tb"', ""], ids=ascii)
def test_only_an_etag_that_is_printable_ascii_is_sent_back(etag):
    first, rest = whole(DATA[:CUT], size=ALL, etag=etag), part(DATA, CUT, ALL, etag=etag)
    with playing([first], [rest]) as running, connected(running.url) as client:
        assert client.wait(ACCEPTED).body == DATA
        assert len(running.requests) == 2 and b"If-Match" not in running.requests[1]


def test_a_version_whose_etag_cannot_be_sent_back_is_told_from_another():
    first, rest = whole(DATA[:CUT], size=ALL, etag='"\xf6"'), part(DATA, CUT, ALL, etag='"\xe4"')
    with playing([first], [rest]) as running, connected(running.url) as client:
        raised_by(lambda: client.wait(ACCEPTED), TransportError)


@pytest.mark.parametrize("where", WHERES)
def test_a_part_that_nobody_asked_for_is_no_result(tmp_path, where):
    with playing([part(DATA, CUT, ALL)]) as running, connected(running.url) as client:
        raised_by(lambda: fetched(client, where, tmp_path), TransportError, ResultTimeout)


@pytest.mark.parametrize("where", WHERES)
def test_a_result_that_is_replaced_on_the_way_is_an_error(server, client, tmp_path, where):
    def replace(received: emu.Received | None) -> None:
        server.put(OUTPUT, bytes(len(DATA)))

    server.put(OUTPUT, DATA)
    server.fail(emu.truncate(len(DATA) - CUT))
    server.fail_every(replace)
    error = raised_by(lambda: fetched(client, where, tmp_path), ClientError)
    assert (error.status, error.code) == (412, "PreconditionFailed")


@pytest.mark.parametrize("where", WHERES)
def test_a_result_that_never_has_its_size_is_an_error_in_the_end(tmp_path, where):
    lines = [
        f"ETag: {VERSION}",
        "Content-Length: 9",
        f"Content-Range: bytes {ALL}-{ALL + 8}/{ALL + 9}",
    ]
    nothing = message("HTTP/1.1 206 Partial Content", *lines)
    scripts = [whole(DATA, size=ALL + 9)], [nothing]
    with playing(*scripts) as running, connected(running.url) as client:
        error = raised_by(lambda: fetched(client, where, tmp_path), TransportError)
        assert OUTPUT in str(error) and len(running.requests) < 100
    assert not (tmp_path / "result").exists() or where == "file"


@pytest.mark.parametrize("seconds", [0, 1], ids=["closes", "stalls"])
def test_a_look_at_what_breaks_off_for_ever_has_an_end_and_leaves_quota(seconds):
    def serve(sock: socket.socket) -> None:
        start, _ = asked(running.read_request(sock))
        answer = part(DATA, start, ALL) if start else whole(DATA)
        sock.sendall(answer[: len(answer) - (ALL - start - 100)])
        time.sleep(seconds)

    options = {"read_timeout": 0.3, **REAL_TIME}
    with RawServer(serve) as running, connected(running.url, **options) as client:
        error = raised_by(lambda: client.poll(ACCEPTED), TransportError)
        assert error.kind == "closed" and OUTPUT in str(error)
        assert len(running.requests) == 3 and client._sender.quota.available >= 500 - 2 * 14


@pytest.mark.parametrize("old", [b"old", None])
def test_a_path_has_its_content_in_one_moment(tmp_path, old):
    data, path, seen = os.urandom(MIB), tmp_path / "result", []
    if old:
        path.write_bytes(old)

    def look() -> None:
        wait_until(lambda: sum(file.stat().st_size for file in tmp_path.iterdir()) > MIB // 4)
        seen.append(path.read_bytes() if path.exists() else None)

    answer = whole(data)
    script = [answer[: MIB // 2], look, answer[MIB // 2 :]]
    with playing(script) as running, connected(running.url) as client:
        client.wait(ACCEPTED, file=str(path))
    assert seen == [old]
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["result"]


def test_an_interrupted_download_leaves_what_was_there(tmp_path):
    def interrupt(seconds: float) -> None:
        interrupted.append(os.listdir(tmp_path))
        raise KeyboardInterrupt

    (tmp_path / "result").write_bytes(b"old")
    script, interrupted = [whole(DATA[:CUT], size=ALL)], []
    with playing(script) as running, connected(running.url, sleep=interrupt) as client:
        wait = lambda: client.wait(ACCEPTED, file=tmp_path / "result")  # noqa: E731
        raised_by(wait, KeyboardInterrupt)
    assert len(interrupted[0]) == 2, "it was under way"
    assert os.listdir(tmp_path) == ["result"]
    assert (tmp_path / "result").read_bytes() == b"old"


def test_a_wait_in_vain_leaves_what_was_there(server, tmp_path):
    (tmp_path / "result").write_bytes(b"old")
    with connected(server.url) as client:
        raised_by(
            lambda: client.wait(ACCEPTED, timeout=5, file=tmp_path / "result"), ResultTimeout
        )
        server.put(FAILURE, b"words")
        raised_by(lambda: client.wait(ACCEPTED, file=tmp_path / "result"), InferenceError)
    assert os.listdir(tmp_path) == ["result"]
    assert (tmp_path / "result").read_bytes() == b"old"


if os.name == "posix":

    @pytest.mark.parametrize(
        "size, most", [(5, 1), (5000, 4000), (20_000, 16_384), (MIB, 300_001)]
    )
    def test_a_full_disk_is_an_error_that_leaves_what_was_there(
        server, client, tmp_path, size, most
    ):
        import resource

        server.put(OUTPUT, os.urandom(size))
        (tmp_path / "result").write_bytes(b"old")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))  # that a file may have
        try:
            error = raised_by(lambda: client.wait(ACCEPTED, file=tmp_path / "result"), OSError)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert error.errno == errno.EFBIG
        assert os.listdir(tmp_path) == ["result"]
        assert (tmp_path / "result").read_bytes() == b"old"


if os.name == "posix":

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o400])
    def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
        path, modes = tmp_path / "result", []
        path.write_bytes(b"old")
        path.chmod(mode)

        def look() -> None:
            wait_until(lambda: len(os.listdir(tmp_path)) == 2)
            (half,) = (file for file in tmp_path.iterdir() if file != path)
            wait_until(lambda: half.stat().st_size)
            modes.append(half.stat().st_mode & 0o777)

        data = os.urandom(MIB)
        answer = whole(data)
        script = [answer[: MIB // 2], look, answer[MIB // 2 :]]
        with playing(script) as running, connected(running.url) as client:
            client.wait(ACCEPTED, file=path)
        assert modes == [mode], "nobody else reads it while it comes"
        assert path.stat().st_mode & 0o777 == mode and path.read_bytes() == data


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(server, client, tmp_path, there):
    server.put(OUTPUT, DATA)
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(Path("folder", "target"))
    client.wait(ACCEPTED, file=link)
    assert link.is_symlink() and target.read_bytes() == DATA
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]
    assert os.listdir(tmp_path / "folder") == ["target"]


def test_a_path_may_have_the_longest_name_that_there_is(server, client, tmp_path):
    server.put(OUTPUT, DATA)
    client.wait(ACCEPTED, file=tmp_path / ("n" * 255))
    assert (tmp_path / ("n" * 255)).read_bytes() == DATA


class Sipping(io.BytesIO):
    """A file that takes some bytes at a time, as an unbuffered one may."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data)[:1000])


class Mute(io.BytesIO):
    """A file whose write says nothing, as many a home-made one's."""

    def write(self, data: Any) -> Any:
        assert self.tell() < 1_000_000, "the same again and again"
        super().write(data)


@pytest.mark.parametrize("make", [io.BytesIO, Sipping, Mute])
def test_a_result_goes_to_a_file_of_any_make(server, client, make):
    data = os.urandom(100_000)
    server.put(OUTPUT, data)
    file = make(b"before")
    file.seek(6)
    client.wait(ACCEPTED, file=file)
    assert file.getvalue() == b"before" + data


def closed_folder(folder: Path) -> Path:
    """A path in a folder that may not be written to; root may, so for root one that is not there."""
    (folder / "closed").mkdir(mode=0o555)
    return folder / ("missing" if os.access(folder / "closed", os.W_OK) else "closed") / "result"


def wrapped_text(folder: Path) -> Any:
    return tempfile.NamedTemporaryFile("w", dir=folder)  # noqa: SIM115


NO_FILES: dict[str, Callable[[Path], Any]] = {
    "folder that is not there": lambda folder: folder / "missing" / "result",
    "folder that is a file": lambda folder: str(folder / "plain" / "result"),
    "folder that is closed": closed_folder,
    "folder": lambda folder: folder,
    "FIFO": lambda folder: fifo(folder) if hasattr(os, "mkfifo") else folder,
    "empty path": lambda folder: "",
    "path with NUL": lambda folder: folder / "a\0b",
    "path with half a character": lambda folder: f"{folder}/a\ud800",
    "text file": lambda folder: open(folder / "text", "w"),  # noqa: SIM115
    "wrapped text file": wrapped_text,
    "StringIO": lambda folder: io.StringIO(),
    "file open for reading": lambda folder: opened(folder / "plain"),
    "bytes": lambda folder: b"result",
    "number": lambda folder: 1,
    "True": lambda folder: True,
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_a_file_that_cannot_take_the_result_is_refused_before_the_wait(tmp_path, make):
    (tmp_path / "plain").write_bytes(b"old")
    client, s3 = offline(stored)
    file = make(tmp_path)
    try:
        raised_by(lambda: client.wait(ACCEPTED, file=file), ParamValidationError)
    finally:
        getattr(file, "close", lambda: None)()
    assert s3.urls == []
    assert (tmp_path / "plain").read_bytes() == b"old"


# --- Large bodies have the time limit for each MiB

LIMIT_SECONDS = 1.0
STEADY_SECONDS = 0.4  # for each MiB
IN_TIME = {"read_timeout": LIMIT_SECONDS, **REAL_TIME}


def pace(moved: Iterator[int], seconds: float = STEADY_SECONDS) -> None:
    """Lets bytes through, steadily: a MiB in so many seconds."""
    due = time.monotonic()
    for count in moved:
        due += seconds * count / MIB
        time.sleep(max(0.0, due - time.monotonic()))


def received(sock: socket.socket, size: int) -> Iterator[int]:
    """Takes that many bytes; how many came each time."""
    while size > 0:
        count = len(sock.recv(16_384))
        size = size - count if count else 0
        yield count


def sent(sock: socket.socket, data: bytes) -> Iterator[int]:
    """Sends the bytes; how many each time."""
    for start in range(0, len(data), 16_384):
        sock.sendall(data[start : start + 16_384])
        yield 16_384


class Reluctant(RawServer):
    """A server with a small buffer, so that not much more is on its way than it has read."""

    def __enter__(self) -> Reluctant:
        super().__enter__()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        return self


@pytest.fixture
def limited():
    transport = UrllibTransport(read_timeout=LIMIT_SECONDS, environ={})
    yield transport
    transport.close()


def test_a_slow_but_steady_upload_is_not_cut_off():
    size = 32 * MIB  # many times what the system has still to send when all is written

    def serve(sock: socket.socket) -> None:
        pace(received(sock, size - len(read_head(sock).partition(b"\r\n\r\n")[2])), 0.08)
        sock.sendall(plain(b""))

    with Reluctant(serve) as running, connected(running.url, **IN_TIME) as client:
        started = time.monotonic()
        client.put_input(bytes(size), OUTPUT)
        assert time.monotonic() - started > 2 * LIMIT_SECONDS
        assert running.connections == 1


def test_a_slow_but_steady_download_is_not_cut_off(tmp_path):
    data = os.urandom(8 * MIB)

    def serve(sock: socket.socket) -> None:
        running.read_request(sock)
        pace(sent(sock, whole(data)))

    with RawServer(serve) as running, connected(running.url, **IN_TIME) as client:
        started = time.monotonic()
        client.wait(ACCEPTED, file=tmp_path / "result")
        assert time.monotonic() - started > 2 * LIMIT_SECONDS
        assert len(running.requests) == 1
    assert (tmp_path / "result").read_bytes() == data


def test_an_upload_that_drips_is_cut_off(limited):
    def serve(sock: socket.socket) -> None:
        for _ in range(600):
            sock.recv(1000)
            running.closing.wait(0.05)

    size = 16 * MIB  # more than all buffers on the way
    with Reluctant(serve) as running:
        headers = (("Content-Length", str(size)),)
        request = Request("PUT", running.url + "/b/k", headers, lambda: io.BytesIO(bytes(size)))
        started = time.monotonic()
        error = raised_by(lambda: limited(request), TransportError)
        assert LIMIT_SECONDS <= time.monotonic() - started < 20 * LIMIT_SECONDS
    assert (error.kind, error.sent) == ("timeout", False)


def test_a_download_that_drips_is_cut_off(limited):
    def serve(sock: socket.socket) -> None:
        running.read_request(sock)
        sock.sendall(whole(b"", size=16 * MIB))
        for _ in range(600):
            sock.sendall(bytes(1000))
            running.closing.wait(0.05)

    with RawServer(serve) as running:
        started = time.monotonic()
        response = limited(Request("GET", running.url + "/b/k", ()), sink=io.BytesIO())
        assert LIMIT_SECONDS <= time.monotonic() - started < 10 * LIMIT_SECONDS
    assert (response.status, response.complete) == (200, False)


# --- Memory

GIB = 1 << 30
MEMORY = """
import resource, sys
import smasync

def memory(field):
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(field)) << 10
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

url, job, path = sys.argv[1:]
keys = smasync.Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
with smasync.Client("us-east-1", credentials=keys, environ={"AWS_ENDPOINT_URL": url}) as client:
    before = memory("VmRSS")
    if job == "upload":
        client.put_input(path, "s3://bucket/large")
    else:
        client.wait({"OutputLocation": "s3://bucket/large"}, file=path)
    print(memory("VmHWM") - before)
"""


def growth_of(url: str, job: str, path: Path) -> int:
    """Bytes by which the peak of a process's memory is above what it had before the job."""
    command = [sys.executable, "-c", MEMORY, url, job, str(path)]
    environ = {**os.environ, "PYTHONPATH": str(Path(smasync.__file__).parent)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    print(f"{job} of 1 GiB: the peak of memory is up by {int(done.stdout) / MIB:.1f} MiB")
    return int(done.stdout)


def take_gibibyte(running: RawServer, sock: socket.socket) -> None:
    """Takes PUT requests, and remembers size and hash of each body, but no body."""
    while head := read_head(sock):
        head, _, start = head.partition(b"\r\n\r\n")
        size, digest = int(re.search(rb"Content-Length: ([0-9]+)", head)[1]), hashlib.sha256(start)
        left, promised = size - len(start), re.search(rb"(?i)sha256: ([0-9a-f]{64})", head)[1]
        while left:
            data = sock.recv(min(left, MIB))
            digest.update(data)
            left -= len(data)
        assert promised == digest.hexdigest().encode()
        running.requests.append(size)
        sock.sendall(plain(b""))


@pytest.mark.slow
def test_a_gibibyte_goes_up_in_little_memory(tmp_path):
    path = tmp_path / "input"
    with open(path, "wb") as file:
        file.truncate(GIB)
    with RawServer(lambda sock: take_gibibyte(running, sock)) as running:
        assert growth_of(running.url, "upload", path) < 40 * MIB
    assert running.requests == [GIB]


@pytest.mark.slow
def test_a_gibibyte_comes_down_in_little_memory(tmp_path):
    block = os.urandom(MIB)

    def serve(sock: socket.socket) -> None:
        while running.read_request(sock):
            sock.sendall(whole(b"", size=GIB))
            for _ in range(GIB // MIB):
                sock.sendall(block)

    path = tmp_path / "result"
    with RawServer(serve) as running:
        assert growth_of(running.url, "download", path) < 40 * MIB
    assert path.stat().st_size == GIB
    with open(path, "rb") as file:
        assert all(file.read(MIB) == block for _ in range(GIB // MIB))
    path.unlink()  # pytest would keep it for a while


# --- Secrets

SECRETS = {"secret": TEMPORARY.secret_access_key, "token": TOKEN}
CONTENT = b"the caller's own content"


def s3_says(fault: Any) -> Callable[[Emulator], None]:
    return lambda server: server.fail(*[fault] * 6)


ECHO = "you sent {secret} and {token}".format(**SECRETS)
ENTITIES = "".join(f"&#{ord(character)};" for character in ECHO)
TELLING = {
    "an echo": s3_says(emu.status(400, "Odd", ECHO)),
    "an echo in entities": s3_says(
        emu.status(400, body=f"<M><Message>{ENTITIES}</Message></M>".encode())
    ),
    "an echo in a header": s3_says(emu.status(400, "Odd", headers=(("x-amz-note", ECHO),))),
    "an echo in a page": s3_says(emu.status(400, body=f"<html>{ECHO}".encode())),
    "a 403": s3_says(emu.status(403, "AccessDenied", ECHO)),
    "500s": s3_says(emu.status(500, "InternalError", ECHO)),
    "garbage": s3_says(emu.garbage()),
    "a wrong signature": lambda server: server.accounts.update(
        {TEMPORARY.access_key_id: Account("another secret", TOKEN)}
    ),
}


@pytest.mark.parametrize("prepare", TELLING.values(), ids=TELLING)
def test_no_secret_is_in_an_error_or_the_log(server, caplog, prepare):
    prepare(server)
    calls = [
        lambda client: client.put_input(CONTENT, OUTPUT),
        lambda client: client.poll(ACCEPTED),
        lambda client: client.wait(ACCEPTED, timeout=5),
    ]
    texts, log = [], caplog.at_level(logging.DEBUG, "smasync")
    with log, connected(server.url, credentials=TEMPORARY) as client:
        for call in calls:
            error = raised_by(lambda call=call: call(client), smasync.Error)
            texts += [told(error), repr(client)]
    texts += [caplog.text, *map(repr, caplog.records)]
    assert "PutObject" in caplog.text and "GetObject" in caplog.text
    for secret in (*SECRETS.values(), CONTENT.decode()):
        assert not any(secret in text for text in texts)


def test_what_the_model_wrote_is_in_no_repr_and_not_in_the_log(server, caplog):
    server.put(OUTPUT, CONTENT, "text/plain")
    log = caplog.at_level(logging.DEBUG, "smasync")
    with log, connected(server.url, credentials=TEMPORARY) as client:
        result = client.wait(ACCEPTED)
    assert result.body == CONTENT
    for text in (repr(result), str(result), caplog.text):
        assert not any(secret in text for secret in (*SECRETS.values(), CONTENT.decode()))
    assert "GetObject" in caplog.text


@pytest.mark.parametrize("refusal", [(404, "NoSuchKey"), (403, "AccessDenied")])
def test_a_result_that_vanishes_half_way_is_not_waited_for(refusal):
    status, code = refusal
    gone = Response(status, (), f"<Error><Code>{code}</Code></Error>".encode())
    answers = [Response(200, (("Content-Length", "10"),), b"12345", False)]
    naps: list[float] = []
    client = smasync.Client(
        "us-east-1", credentials=smasync.Credentials("AKIDEXAMPLE", "secret"), environ={},
        transport=lambda request, **options: answers.pop() if answers else gone, sleep=naps.append,
    )  # fmt: skip
    with pytest.raises(smasync.ClientError) as raised:
        client.wait({"OutputLocation": "s3://my-bucket/out"})
    assert raised.value.code == code
    assert sum(naps) < 1


def test_a_last_look_that_is_cut_short_does_not_hide_the_403():
    now, looks = [0.0], []
    denied = Response(403, (), b"<Error><Code>AccessDenied</Code></Error>")

    def slow(request: Any, *, timeout: float) -> Response:
        looks.append(timeout)
        now[0] += min(timeout, 0.15)  # a network on which the last look has too little time
        if timeout < 0.15:
            raise smasync.TransportError("no answer", kind="timeout")
        return denied

    client = smasync.Client(
        "us-east-1", credentials=smasync.Credentials("AKIDEXAMPLE", "secret"), environ={},
        transport=slow, monotonic=lambda: now[0], random=lambda: 0.5,
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    )  # fmt: skip
    with pytest.raises(smasync.ClientError) as raised:
        client.wait({"OutputLocation": "s3://my-bucket/out"}, timeout=10)
    assert min(looks) < 0.15 < max(looks)
    assert "s3:ListBucket" in raised.value.hint


def test_a_file_that_takes_nothing_is_an_error_and_no_endless_loop(server, client):
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            return 0

    server.put(OUTPUT, DATA)
    assert "takes no more" in str(raised_by(lambda: client.wait(ACCEPTED, file=Full()), OSError))


def test_an_upload_without_a_time_limit_ends(server):
    with connected(server.url, read_timeout=math.inf) as client:
        client.put_input(bytes(6 * MIB), "s3://bucket/input")
    assert list(server.objects) == ["s3://bucket/input"]


# --- What buckets and their policies ask for ------------------------------------------------------

ENCRYPTED = {
    # (ServerSideEncryption, SSEKMSKeyId): the headers
    ("AES256", None): ("AES256", None),
    ("aws:kms", None): ("aws:kms", None),
    ("aws:kms:dsse", "key-1"): ("aws:kms:dsse", "key-1"),
    (None, "key-1"): ("aws:kms", "key-1"),
    (None, None): (None, None),
}


@pytest.mark.parametrize("given, sent", ENCRYPTED.items(), ids=str)
def test_an_input_is_encrypted_as_the_bucket_s_policy_asks(given, sent):
    client, s3 = offline(stored)
    client.put_input(b"x", OUTPUT, ServerSideEncryption=given[0], SSEKMSKeyId=given[1])
    names = ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id")
    assert tuple(header(s3.requests[0], name) for name in names) == sent
    signed = str(header(s3.requests[0], "authorization"))
    assert [name in signed for name in names] == [text is not None for text in sent]


@pytest.mark.parametrize("name", ["ServerSideEncryption", "SSEKMSKeyId"])
@pytest.mark.parametrize("value", ["a b", "ü", "a\n", 1])
def test_an_encryption_that_no_header_can_have_is_refused(name, value):
    client, s3 = offline(stored)
    raised_by(lambda: client.put_input(b"x", OUTPUT, **{name: value}), ParamValidationError)
    assert s3.requests == []


@pytest.mark.parametrize("data", [b"", DATA])
def test_an_input_goes_with_the_signed_checksum_that_object_lock_asks_for(server, client, data):
    client.put_input(data, OUTPUT)
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    (put,) = server.requests
    assert put.header("x-amz-checksum-sha256") == checksum
    assert "x-amz-checksum-sha256" in put.header("authorization")


DENIED = {
    # what S3 says with its 403: whether the result may still come, and what the hint names
    "Access Denied": (True, "s3:ListBucket"),
    "User: u is not authorized to perform: s3:ListBucket on resource: b": (True, "s3:ListBucket"),
    "User: u is not authorized to perform: kms:Decrypt on resource: k": (False, "kms:Decrypt"),
    "User: u is not authorized to perform: s3:GetObject on resource: o": (False, "s3:GetObject"),
}


@pytest.mark.parametrize("words, expected", DENIED.items(), ids=DENIED)
def test_a_403_that_names_another_action_ends_a_wait_at_once(words, expected):
    may_come, action = expected
    client, s3 = offline(lambda request: refusal(403, "AccessDenied", words=words))
    error = raised_by(lambda: client.wait(ACCEPTED, timeout=60), ClientError)
    assert (len(s3.requests) > 2) == may_come
    assert action in error.hint


def test_the_end_of_a_wait_says_that_a_failure_cannot_be_seen():
    client, _ = offline(not_there)
    accepted = {"OutputLocation": OUTPUT}
    error = raised_by(lambda: client.wait(accepted, timeout=5), ResultTimeout)
    assert "S3FailurePath" in str(error)
    error = raised_by(
        lambda: client.wait({**accepted, "FailureLocation": OUTPUT}, timeout=5), ResultTimeout
    )
    assert "S3FailurePath" not in str(error)
