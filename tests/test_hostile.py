"""What a broken server, environment or caller sends, and that it does no harm and leaks nothing.

The servers are real ones on the loopback interface.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import subprocess
import sys
from pathlib import Path

import emulator as emu
import pytest
from emulator import Emulator
from leaks import has_trace, told
from raw_server import RawServer, message

import smasync
from smasync import (
    Client,
    ClientError,
    Credentials,
    CredentialsError,
    ParamValidationError,
    TransportError,
    UrllibTransport,
)

MODULE = Path(smasync.__file__).resolve()
BUNDLE = str(Path(__file__).with_name("loopback.pem"))
KEYS = Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
KEYS_IN_ENVIRON = {
    "AWS_ACCESS_KEY_ID": KEYS.access_key_id,
    "AWS_SECRET_ACCESS_KEY": KEYS.secret_access_key,
}
# Windows starts no socket without SYSTEMROOT; nothing else of this process's environment is used.
BARE = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}


def rows(names, table):
    """A case of the test for each row of a table, under the row's name."""
    return pytest.mark.parametrize(names, table.values(), ids=table.keys())


class Player(RawServer):
    """Gives each request the same answer; ends the connection after it if `ends`."""

    def __init__(self, answer, ends=False):
        super().__init__(self.play)
        self.answer, self.ends = answer, ends

    def play(self, sock):
        while self.read_request(sock):
            sock.sendall(self.answer)
            if self.ends:
                return


@pytest.fixture
def server():
    with Emulator() as running:
        yield running


@contextlib.contextmanager
def connected(url, **options):
    """A client of the URL that does not sleep."""
    defaults = {"credentials": KEYS, "environ": {}, "sleep": lambda seconds: None}
    limits = {"connect_timeout": 3, "read_timeout": 3, "verify": BUNDLE}
    with Client("us-east-1", endpoint_url=url, **{**defaults, **limits, **options}) as client:
        yield client


@contextlib.contextmanager
def playing(answer, ends=False, **options):
    """A Player of the answer, and a client of it."""
    with Player(answer, ends) as running, connected(running.url, **options) as client:
        yield running, client


def location(client):
    """The name of the result of one more call."""
    answer = client.invoke_endpoint_async(**CALL)
    return answer["OutputLocation"].replace("s3://bucket/", "")


def raised_by(function, *kinds):
    """The error that the function ends in."""
    with pytest.raises(kinds) as raised:
        function()
    return raised.value


# --- Members that are not quite what they seem


class Location(str, enum.Enum):
    INPUT = "s3://bucket/in.json"


class Limit(enum.IntEnum):
    HOUR = 3600


class PlainLimit(int, enum.Enum):
    HOUR = 3600


DISGUISED = {
    "an enumeration of texts": ("InputLocation", Location.INPUT, "s3://bucket/in.json"),
    "an IntEnum": ("RequestTTLSeconds", Limit.HOUR, "3600"),
    "an enumeration of numbers": ("RequestTTLSeconds", PlainLimit.HOUR, "3600"),
}


@rows("member, value, text", DISGUISED)
def test_what_was_checked_is_what_goes_out(server, member, value, text):
    with connected(server.url) as client:
        client.invoke_endpoint_async(**{**CALL, member: value})
    assert server.ledger[0].members[member] == text


class Pieces:
    """A file whose read(n) returns a piece of its own size, whatever n is.

    It has `count` pieces; more than `most` reads are an AssertionError.
    """

    def __init__(self, size, count, most):
        self.size, self.count, self.most, self.reads = size, count, most, 0

    def read(self, size=-1):
        self.reads += 1
        assert self.reads <= self.most, "it reads on and on"
        return b"x" * self.size if self.reads <= self.count else b""


@pytest.mark.parametrize("size, most", [(10, 12_802), (1, 128_002), (1 << 20, 2)])
def test_a_file_without_an_end_is_too_large_after_so_many_reads(server, size, most):
    file = Pieces(size, sys.maxsize, most)
    with connected(server.url) as client, pytest.raises(ParamValidationError, match="Body.*over"):
        client.invoke_endpoint_async(EndpointName="my-endpoint", Body=file)
    assert server.requests == []


def test_a_file_that_comes_in_small_pieces_is_sent_whole(server):
    with connected(server.url) as client:
        client.invoke_endpoint_async(EndpointName="my-endpoint", Body=Pieces(10, 25, 26))
    assert server.ledger[0].body == b"x" * 250


# --- Broken chunks

CHUNKS = [b"-1\r\n{}\r\n0\r\n\r\n", b"1" * 70_000 + b"\r\n", b"1\r\n{\r\nzz\r\n}\r\n0\r\n\r\n"]
CHUNKED = ("HTTP/1.1 202 Accepted", "Transfer-Encoding: chunked")
LOCATED = (*CHUNKED, "X-Amzn-SageMaker-OutputLocation: s3://bucket/first")


@pytest.mark.parametrize("chunks", CHUNKS, ids=["size -1", "too long a line", "garbage"])
def test_a_202_in_broken_chunks_is_sent_once_and_success_if_it_has_a_location(chunks):
    with playing(message(*LOCATED, body=chunks), ends=True) as (running, client):
        assert location(client) == "first"
        assert len(running.requests) == 1
    with playing(message(*CHUNKED, body=chunks), ends=True) as (running, client):
        assert raised_by(lambda: location(client), TransportError).kind == "protocol"
        assert len(running.requests) == 1


# --- Secrets that the other side echoes

# Real tokens have some hundred characters, "/", "+" and "=" among them.
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//" + "".join(f"{n:03}/a+B" for n in range(60)) + "=="
LONG_TOKEN = TOKEN + "".join(f"{n:04}/Y+z" for n in range(700)) + "=="
SECRETS = {
    "token": (Credentials("ASIAEXAMPLE", "secret/OF+40/characters", TOKEN), TOKEN),
    "long token": (Credentials("ASIAEXAMPLE", "secret/OF+40/characters", LONG_TOKEN), LONG_TOKEN),
    "secret key": (KEYS, KEYS.secret_access_key),
}


def as_json(secret, text="bad token {}!"):
    return json.dumps({"message": text.format(secret)}).encode()


ECHOES = {
    # what: from a secret, the headers and the body of a 403
    "in the message": lambda secret: ((), as_json(secret)),
    "slashes escaped": lambda secret: ((), as_json(secret).replace(b"/", b"\\/")),
    "all escaped": lambda secret: ((), b'{"message":"%b"}' % escaped(secret)),
    "as an object": lambda secret: ((), json.dumps({"message": {"was": secret}}).encode()),
    "as a list": lambda secret: ((), json.dumps([secret]).encode()),
    "as plain text": lambda secret: ((), secret.encode()),
    "across the cut": lambda secret: ((), b"x" * 4086 + secret.encode() + b"x" * 4096),
    "across the cut, by a few": lambda secret: ((), b"x" * 4080 + secret.encode() + b"x" * 4096),
    "in the code": lambda secret: ((), json.dumps({"__type": secret}).encode()),
    "in the header of the code": lambda secret: ((f"x-amzn-errortype: {secret}",), b"{}"),
    "in the request id": lambda secret: ((f"x-amzn-RequestId: {secret}",), b"{}"),
    "in another header": lambda secret: ((f"X-Echo: before {secret} after",), b"{}"),
}


def escaped(secret):
    return "".join(f"\\u{ord(c):04x}" for c in secret).encode()


@rows("echo", ECHOES)
@rows("keys, secret", SECRETS)
def test_no_trace_of_a_secret_is_left_in_a_client_error(keys, secret, echo):
    headers, body = echo(secret)
    length = f"Content-Length: {len(body)}"
    answer = message("HTTP/1.1 403 Forbidden", *headers, length, body=body)
    with playing(answer, credentials=keys) as (_, client):
        error = raised_by(lambda: location(client), ClientError)
    assert error.status == 403
    assert not has_trace(told(error), secret)
    assert not has_trace(json.dumps(error.response), secret)
    assert not has_trace(error.code + error.message + error.request_id, secret)


NOT_AN_ANSWER = {
    # what: from a secret, all bytes of something that is no answer of the service's
    "a status line of nothing else": lambda secret: f"{secret}\r\n\r\n".encode(),
    "a status line of another protocol": lambda secret: f"HTTP/9 {secret}\r\n\r\n".encode(),
    "a status that is no number": lambda secret: message(f"HTTP/1.1 {secret} OK"),
    "the version": lambda secret: message(f"HTTP/{secret} 200 OK"),
    "the type of a log-in page": lambda secret: message(
        "HTTP/1.1 200 OK", f"Content-Type: {secret}", "Content-Length: 2", body=b"hi"
    ),
    "the type of a log-in page, cut": lambda secret: message(
        "HTTP/1.1 200 OK",
        f"Content-Type: text/html; charset=utf-8; of={'x' * 30}{secret}",
        "Content-Length: 2",
        body=b"hi",
    ),
}


@rows("make", NOT_AN_ANSWER)
@rows("keys, secret", SECRETS)
def test_no_trace_of_a_secret_is_left_in_a_transport_error(keys, secret, make):
    with playing(make(secret), True, credentials=keys, max_attempts=1) as (_, client):
        error = raised_by(lambda: location(client), TransportError)
    assert error.kind == "protocol"
    assert not has_trace(told(error), secret)


# --- Credentials that end

EXPIRED = emu.status(403, "ExpiredTokenException", "The token is expired")


@pytest.mark.parametrize(
    "failure", [CredentialsError("no"), OSError("no"), KeyError("no")], ids=repr
)
@pytest.mark.parametrize("max_attempts", [3, 1])
def test_when_reloading_fails_the_services_own_error_is_raised(server, failure, max_attempts):
    loads = []

    def load():
        loads.append(1)
        if len(loads) > 1:
            raise failure
        return KEYS

    server.fail(EXPIRED)
    with connected(server.url, credentials=load, max_attempts=max_attempts) as client:
        error = raised_by(lambda: location(client), ClientError)
    assert (error.code, error.message) == ("ExpiredTokenException", "The token is expired")
    assert len(server.requests) == 1
    assert len(loads) == 2


# --- Settings


def test_an_empty_profile_name_names_no_profile(server, tmp_path):
    (tmp_path / "config").write_text("[profile dev]\nregion = eu-west-1\n")
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "HOME": str(tmp_path)}
    environ = {**KEYS_IN_ENVIRON, **files}
    with connected(server.url, credentials=None, profile_name="", environ=environ) as client:
        client.invoke_endpoint_async(**CALL)
        assert client.sources["credentials"] == "environment"
    assert smasync.resolve_credentials("", environ=environ) == KEYS
    named = Client(profile_name="", environ={**environ, "AWS_PROFILE": "dev"})
    assert named.region_name == "eu-west-1"


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
@pytest.mark.parametrize("value", [None, 0, -1, 0.0, float("nan"), "5", b"5", [5]], ids=repr)
def test_a_time_limit_that_is_no_number_above_0_is_refused(name, value):
    for make in (UrllibTransport, lambda **options: Client("us-east-1", **options)):
        with pytest.raises(ParamValidationError, match=f"{name}.*seconds above 0"):
            make(environ={}, **{name: value})


@pytest.mark.parametrize("surrogate", ["\udcff", "\udc80", "\ud800", "\udfff"], ids=ascii)
def test_half_a_character_in_lambdas_trace_stops_no_call(server, surrogate):
    environ = {
        "AWS_LAMBDA_FUNCTION_NAME": "function",
        "_X_AMZN_TRACE_ID": f"Root=1-5759e988;Parent={surrogate};Sampled=1",
    }
    with connected(server.url, environ=environ) as client:
        client.invoke_endpoint_async(**CALL)
    assert len(server.ledger) == 1
    (trace,) = server.requests[0].values("x-amzn-trace-id")
    assert trace.isascii() and trace.startswith("Root=1-5759e988;Parent=")


# --- What is left behind, and what is printed

UNCLOSED = """
import gc, sys
sys.path.insert(0, sys.argv[1])
import smasync

def client():
    keys = smasync.Credentials(*sys.argv[4:6])
    url, bundle = sys.argv[2:4]
    made = smasync.Client(
        "us-east-1", endpoint_url=url, credentials=keys, verify=bundle, environ={}
    )
    made.invoke_endpoint_async(EndpointName="e", InputLocation="s3://bucket/in.json")
    return made

client()
gc.collect()
until_the_end = client()
"""


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_client_that_nobody_closed_leaves_no_warning(tls):
    with Emulator(tls=tls) as server:
        command = [sys.executable, "-W", "error", "-c", UNCLOSED, str(MODULE.parent), server.url]
        command += [BUNDLE, KEYS.access_key_id, KEYS.secret_access_key]
        done = subprocess.run(command, env=BARE, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(server.ledger) == 2


CONTROLS = {
    "escape": "\x1b[31m\x1b]0;title\x07",
    "one-byte escape": "\x9b31m\x85",
    "backspace and delete": "\x08\x08\x7f",
    "tab and vertical tab": "\t\x0b\x0c",
    "NUL": "\x00",
    "line separators": "\u2028\u2029\x1c\x1d\x1e",
    "direction": "\u202e\u2066",
}


@pytest.mark.parametrize("query", [(), ("--query", "OutputLocation")], ids=["all", "query"])
@rows("controls", CONTROLS)
def test_text_for_the_terminal_has_no_control_character_of_the_services(tmp_path, controls, query):
    body = json.dumps({"InferenceId": f"id{controls}\r\nid"}).encode()
    headers = [f"X-Amzn-SageMaker-OutputLocation: s3://bucket/out{controls}put"]
    headers += [f"X-Amzn-SageMaker-FailureLocation: f{controls}", f"Content-Length: {len(body)}"]
    answer = message("HTTP/1.1 202 Accepted", *headers, body=body)
    with Player(answer) as running:
        environ = {**BARE, **KEYS_IN_ENVIRON, "PYTHONIOENCODING": "utf-8"}
        environ.update(AWS_REGION="us-east-1", AWS_ENDPOINT_URL=running.url)
        environ.update(HOME=str(tmp_path), USERPROFILE=str(tmp_path))
        command = [
            sys.executable,
            str(MODULE),
            "invoke-endpoint-async",
            "--output",
            "text",
            *query,
        ]
        command += ["--endpoint-name", "my-endpoint", "--input-location", "s3://bucket/in.json"]
        done = subprocess.run(command, env=environ, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    line = done.stdout.replace(os.linesep.encode(), b"\n").decode()
    fields = line[:-1].split("\t")
    assert line[-1] == "\n" and all(field.isprintable() for field in fields)
    assert len(fields) == (1 if query else 3)
    assert fields[-1].startswith("s3://bucket/out") and fields[-1].endswith("put")
