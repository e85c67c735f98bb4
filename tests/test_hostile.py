"""What a hostile or broken server, proxy, environment or caller sends, and that it does no harm.

The servers are real ones on the loopback interface, with and without TLS.
"""

from __future__ import annotations

import contextlib
import enum
import gc
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import emulator as emu
import pytest
from emulator import Emulator
from test_transport import NOWHERE, PASSWORD, RawServer, message

import smasync
from smasync import (
    Client,
    ClientError,
    ConfigurationError,
    Credentials,
    CredentialsError,
    ParamValidationError,
    Request,
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


class Player(RawServer):
    """Gives its n-th request the n-th answer, the last one ever after.

    An answer is a tuple of bytes to send and seconds to wait; None in it ends the connection.
    """

    def __init__(self, *answers, tls=False):
        super().__init__(self.play)
        self.answers, self.tls = answers, emu.server_context(BUNDLE) if tls else None

    def __enter__(self):
        super().__enter__()
        self.url = f"https://localhost:{self.port}" if self.tls else self.url
        return self

    def play(self, sock):
        with self.tls.wrap_socket(sock, server_side=True) if self.tls else sock as wrapped:
            while self.read_request(wrapped):
                for part in self.answers[min(len(self.requests), len(self.answers)) - 1]:
                    if part is None:
                        return
                    time.sleep(part) if isinstance(part, float) else wrapped.sendall(part)


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
def playing(*answers, tls=False, **options):
    """A Player of the answers, and a client of it."""
    with Player(*answers, tls=tls) as running, connected(running.url, **options) as client:
        yield running, client


def accepted(name, *lines, body=b"{}"):
    """The 202 of an inference whose result will be at s3://bucket/name."""
    location = f"X-Amzn-SageMaker-OutputLocation: s3://bucket/{name}"
    length = f"Content-Length: {len(body)}"
    return message("HTTP/1.1 202 Accepted", location, *lines, length, body=body)


def padded(name, size):
    """The same, `size` bytes long."""
    body = b"{}" + b" " * (size - len(accepted(name)) - 99)
    body += b" " * (size - len(accepted(name, body=body)))
    assert len(accepted(name, body=body)) == size
    return accepted(name, body=body)


def location(client):
    """The name of the result of one more call."""
    answer = client.invoke_endpoint_async(**CALL)
    return answer["OutputLocation"].replace("s3://bucket/", "")


def chain(error):
    """The error, and all errors behind it."""
    behind = [linked for linked in (error.__cause__, error.__context__) if linked is not None]
    return [error, *(deeper for linked in behind for deeper in chain(linked))]


def told(error):
    """All that an error and those behind it say, to whoever looks at any of it."""
    texts = traceback.format_exception(type(error), error, error.__traceback__)
    for link in chain(error):
        texts += [str(link), repr(link), repr(link.args), repr(vars(link))]
    return "\n".join(texts)


def raised_by(function, *kinds):
    """The error that the function ends in."""
    with pytest.raises(kinds) as raised:
        function()
    return raised.value


# --- Interim answers

CONTINUE = message("HTTP/1.1 100 Continue")
PROCESSING = message("HTTP/1.1 102 Processing")
HINT = "X-Amzn-SageMaker-OutputLocation: s3://bucket/hint"
HINTS = message("HTTP/1.1 103 Early Hints", "Link: </a.css>; rel=preload", HINT)
INTERIM = {
    "102": (PROCESSING, 0.1),
    "103": (HINTS,),
    "several": (PROCESSING, PROCESSING, 0.1, HINTS),
    "mixed with 100": (CONTINUE, PROCESSING, CONTINUE, 0.1, HINTS, CONTINUE),
    "of an unknown number": (message("HTTP/1.1 199 Anything", "X-A: 1"),),
}


@pytest.mark.parametrize("together", [False, True], ids=["apart", "in one segment"])
@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
def test_interim_answers_are_passed_over(interim, together):
    answers = [(*interim, accepted(name)) for name in ("first", "second", "third")]
    if together:
        answers = [(b"".join(part for part in a if part != 0.1),) for a in answers]
    with playing(*answers) as (running, client):
        assert [location(client) for _ in answers] == ["first", "second", "third"]
    assert (running.connections, len(running.requests)) == (1, 3)


@pytest.mark.parametrize("behind", [b"", accepted("smuggled")], ids=["alone", "with an answer"])
def test_a_switch_of_protocols_is_an_error_and_the_end_of_the_connection(behind):
    switch = message("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: h2c")
    answers = ((switch + behind,), (accepted("second"),))
    with playing(*answers, max_attempts=1) as (running, client):
        error = raised_by(lambda: location(client), TransportError)
        assert (error.kind, error.sent) == ("protocol", True)
        assert location(client) == "second"
    assert (running.connections, len(running.requests)) == (2, 2)


# --- Bytes behind an answer

SMUGGLED = accepted("smuggled")
BEHIND = {
    "a whole answer": accepted("first") + SMUGGLED,
    "two whole answers": accepted("first") + SMUGGLED * 2,
    "half an answer": accepted("first") + SMUGGLED[: len(SMUGGLED) // 2],
    "an interim answer": accepted("first") + HINTS,
    "an empty line": accepted("first") + b"\r\n",
    "one byte behind 8,192": padded("first", 8192) + b"H",
    "an answer behind 8,192": padded("first", 8192) + SMUGGLED,
    "an answer across 8,192": padded("first", 8190) + SMUGGLED,
    "an answer behind 16,000": padded("first", 16_000) + SMUGGLED,  # as much as a TLS record has
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("first", BEHIND.values(), ids=BEHIND)
def test_bytes_behind_an_answer_never_become_the_next_calls_answer(first, tls):
    with playing((first,), (accepted("second"),), tls=tls) as (running, client):
        assert [location(client), location(client)] == ["first", "second"]
    assert (running.connections, len(running.requests)) == (2, 2)


# --- Members that are not quite what they seem


class Location(str, enum.Enum):
    INPUT = "s3://bucket/in.json"


class Limit(enum.IntEnum):
    HOUR = 3600


class PlainLimit(int, enum.Enum):
    HOUR = 3600


class Liar(str):
    """Says one thing when it is checked, and another when it is written."""

    def __str__(self):
        return "x\r\nInjected: 1"

    __repr__ = __str__

    def __format__(self, spec):
        return str(self)

    def strip(self, *characters):
        return str(self)

    def encode(self, *arguments):
        return str(self).encode()


class LyingNumber(int):
    def __str__(self):
        return "60\r\nInjected: 1"

    __repr__ = __str__

    def __format__(self, spec):
        return str(self)


DISGUISED = {
    "an enumeration of texts": ("InputLocation", Location.INPUT, "s3://bucket/in.json"),
    "an IntEnum": ("RequestTTLSeconds", Limit.HOUR, "3600"),
    "an enumeration of numbers": ("RequestTTLSeconds", PlainLimit.HOUR, "3600"),
    "a number that lies": ("InvocationTimeoutSeconds", LyingNumber(900), "900"),
    "a location that lies": ("InputLocation", Liar("s3://bucket/a"), "s3://bucket/a"),
    "attributes that lie": ("CustomAttributes", Liar("tenant=7"), "tenant=7"),
    "an id that lies": ("InferenceId", Liar("job 7"), "job 7"),
    "a label that lies": ("EndpointName", Liar("other-endpoint"), "other-endpoint"),
}


@pytest.mark.parametrize("member, value, text", DISGUISED.values(), ids=DISGUISED)
def test_what_was_checked_is_what_goes_out(server, member, value, text):
    with connected(server.url) as client:
        client.invoke_endpoint_async(**{**CALL, member: value})
    assert server.ledger[0].members[member] == text
    assert b"injected" not in server.requests[0].raw.lower()


def test_a_body_that_lies_goes_out_as_it_was_checked(server):
    with connected(server.url) as client:
        client.invoke_endpoint_async(EndpointName="my-endpoint", Body=Liar("hello"))
    assert server.ledger[0].body == b"hello"


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


# --- Proxies


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_tls_is_refused_and_never_gets_the_password_in_the_clear(scheme):
    with Player((accepted("first"),)) as running:
        proxy = f"https://user:{PASSWORD}@127.0.0.1:{running.port}"

        def call():
            with connected(f"{scheme}://{NOWHERE}", environ={f"{scheme}_proxy": proxy}) as client:
                location(client)

        error = raised_by(call, ConfigurationError)
    assert (running.connections, running.requests) == (0, [])
    assert "proxy" in str(error) and PASSWORD not in told(error)


# --- Broken chunks

CHUNKS = {
    "negative": b"-5\r\n{}\r\n0\r\n\r\n",
    "minus one": b"-1\r\n{}\r\n0\r\n\r\n",
    "huge": b"F" * 20 + b"\r\n{}\r\n0\r\n\r\n",
    "huger": b"F" * 5000 + b"\r\n{}\r\n0\r\n\r\n",
    "too long a line": b"1" * 70_000 + b"\r\n",
    "garbage": b"zz\r\n{}\r\n0\r\n\r\n",
    "not ASCII": b"\xff\r\n{}\r\n0\r\n\r\n",
    "none": b"\r\n{}\r\n0\r\n\r\n",
    "garbage after a good one": b"1\r\n{\r\nzz\r\n}\r\n0\r\n\r\n",
}
CHUNKED = ("HTTP/1.1 202 Accepted", "Transfer-Encoding: chunked")
LOCATED = (*CHUNKED, "X-Amzn-SageMaker-OutputLocation: s3://bucket/first")


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_a_202_in_broken_chunks_is_an_answer_that_is_not_complete(chunks):
    with Player((message(*LOCATED, body=chunks), None)) as running:
        transport = UrllibTransport(environ={}, connect_timeout=3, read_timeout=3)
        response = transport(Request("GET", running.url + "/", ()))
        transport.close()
    assert (response.status, response.complete) == (202, False)


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_a_202_in_broken_chunks_is_success_and_sent_once(chunks):
    with playing((message(*LOCATED, body=chunks), None)) as (running, client):
        assert location(client) == "first"
    assert len(running.requests) == 1


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_broken_chunks_of_something_else_are_no_answer_and_not_asked_for_again(chunks):
    with playing((message(*CHUNKED, body=chunks), None)) as (running, client):
        error = raised_by(lambda: location(client), TransportError)
    assert error.kind == "protocol"
    assert len(running.requests) == 1


# --- URLs

BAD_URLS = (
    """
https://a..b https://. https://.a https://a.. http://[::1 http://[]
""".split()
    + ["https://" + "a" * 64, f"https://{'a' * 64}.example.com"]
)


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_host_that_cannot_be_is_a_configuration_error_when_the_client_is_made(url):
    with pytest.raises(ConfigurationError, match="endpoint URL"):
        Client("us-east-1", endpoint_url=url, credentials=KEYS, environ={})
    with pytest.raises(ConfigurationError, match="AWS_ENDPOINT_URL"):
        Client("us-east-1", credentials=KEYS, environ={"AWS_ENDPOINT_URL": url})


@pytest.mark.parametrize(
    "url",
    ["http://[::1]:8080", "http://[::1]", "https://[fd00:ec2::254]/x", "https://a.b.", "http://a"]
    + ["https://" + "a" * 63 + ".example.com", "http://[::ffff:127.0.0.1]"],
)
def test_a_host_that_can_be_is_taken_as_it_is(url):
    assert Client("us-east-1", endpoint_url=url, environ={}).endpoint_url == url


STRANGE_URLS = {
    "another scheme": "ftp://h/?X-Amz-Signature=S3CRET",
    "a file": "file:///etc/passwd?X-Amz-Signature=S3CRET",
    "no scheme": "h/x?X-Amz-Signature=S3CRET",
    "no scheme, a port": "h:80/x?X-Amz-Signature=S3CRET",
    "nothing": "",
}


@pytest.mark.parametrize("environ", [{}, {"http_proxy": "http://h:1"}], ids=["direct", "proxy"])
@pytest.mark.parametrize("url", STRANGE_URLS.values(), ids=STRANGE_URLS)
def test_a_url_of_another_kind_is_refused_without_the_signature_in_the_text(url, environ):
    transport = UrllibTransport(environ=environ)
    error = raised_by(lambda: transport(Request("GET", url, ())), ParamValidationError)
    assert "S3CRET" not in told(error).replace(repr(url), "")


# --- Secrets that the other side echoes

# Real tokens have some hundred characters, "/", "+" and "=" among them.
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//" + "".join(f"{n:03}/a+B" for n in range(60)) + "=="
LONG_TOKEN = TOKEN + "".join(f"{n:04}/Y+z" for n in range(700)) + "=="
SECRETS = {
    "token": (Credentials("ASIAEXAMPLE", "secret/OF+40/characters", TOKEN), TOKEN),
    "long token": (Credentials("ASIAEXAMPLE", "secret/OF+40/characters", LONG_TOKEN), LONG_TOKEN),
    "secret key": (KEYS, KEYS.secret_access_key),
}


def has_trace(text, secret, length=12):
    """Whether any piece of the secret is in the text, JSON's escapes or not."""
    plain = text.replace("\\", "")
    return any(secret[i : i + length] in plain for i in range(len(secret) - length + 1))


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


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("keys, secret", SECRETS.values(), ids=SECRETS)
def test_no_trace_of_a_secret_is_left_in_a_client_error(keys, secret, echo):
    headers, body = echo(secret)
    length = f"Content-Length: {len(body)}"
    answer = message("HTTP/1.1 403 Forbidden", *headers, length, body=body)
    with playing((answer,), credentials=keys) as (_, client):
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


@pytest.mark.parametrize("make", NOT_AN_ANSWER.values(), ids=NOT_AN_ANSWER)
@pytest.mark.parametrize("keys, secret", SECRETS.values(), ids=SECRETS)
def test_no_trace_of_a_secret_is_left_in_a_transport_error(keys, secret, make):
    with playing((make(secret), None), credentials=keys, max_attempts=1) as (_, client):
        error = raised_by(lambda: location(client), TransportError)
    assert error.kind == "protocol"
    assert not has_trace(told(error), secret)


# --- Credentials that end, and a fork in the middle

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


FORK = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
import smasync

parent, loading, release = os.getpid(), threading.Event(), threading.Event()

def load():
    if os.getpid() == parent:
        loading.set()
        release.wait(10)
    return smasync.Credentials(*sys.argv[3:5])

def call():
    client.invoke_endpoint_async(EndpointName="e", InputLocation="s3://bucket/in.json")

url = sys.argv[2]
client = smasync.Client("us-east-1", endpoint_url=url, credentials=load, environ={})
thread = threading.Thread(target=call, daemon=True)
thread.start()
assert loading.wait(10)
child = os.fork()
if not child:
    signal.alarm(3)
    failed = 1
    try:
        call()
        failed = 0
    finally:
        os._exit(failed)
failed = os.waitpid(child, 0)[1]
release.set()
thread.join(10)
client.close()
sys.exit(failed != 0)
"""

if hasattr(os, "fork"):

    def test_a_fork_while_credentials_are_loaded_leaves_the_child_able_to_load_them(server):
        keys = (KEYS.access_key_id, KEYS.secret_access_key)
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
        command += [str(MODULE.parent), server.url, *keys]
        done = subprocess.run(command, env=BARE, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(server.ledger) == 2


# --- Settings


@pytest.mark.parametrize("digits", [10, 11, 4000, 5000])
def test_a_number_of_attempts_of_so_many_digits_is_refused(digits):
    environ = {"AWS_MAX_ATTEMPTS": "1" * digits}
    with pytest.raises(ConfigurationError, match="max_attempts"):
        Client("us-east-1", credentials=KEYS, environ=environ)
    with pytest.raises(ConfigurationError, match="max_attempts"):
        Client("us-east-1", credentials=KEYS, environ={}, max_attempts=10 ** (digits - 1))


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
    with pytest.raises(ConfigurationError, match="time limit"):
        Client("us-east-1", credentials=KEYS, environ={}, **{name: value})
    with pytest.raises(ConfigurationError, match="time limit"):
        UrllibTransport(environ={}, **{name: value})


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
        gc.collect()


def test_an_error_says_that_the_quota_of_retries_is_spent(server):
    server.fail_every(lambda received: emu.status(500, "InternalFailure"))
    spent = []
    with connected(server.url) as client:
        for _ in range(40):
            metadata = raised_by(lambda: location(client), ClientError).metadata
            spent.append(metadata.get("RetryQuotaReached"))
            assert ("MaxAttemptsReached" in metadata) != ("RetryQuotaReached" in metadata)
    assert spent[0] is None and spent[-1] is True
    assert metadata["RetryAttempts"] == 0


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
@pytest.mark.parametrize("controls", CONTROLS.values(), ids=CONTROLS)
def test_text_for_the_terminal_has_no_control_character_of_the_services(tmp_path, controls, query):
    body = json.dumps({"InferenceId": f"id{controls}\r\nid"}).encode()
    answer = accepted(
        f"out{controls}put", f"X-Amzn-SageMaker-FailureLocation: f{controls}", body=body
    )
    with Player((answer,)) as running:
        environ = {
            **BARE,
            **KEYS_IN_ENVIRON,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": running.url,
            "HOME": str(tmp_path),
            "USERPROFILE": str(tmp_path),
            "PYTHONIOENCODING": "utf-8",
        }
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
