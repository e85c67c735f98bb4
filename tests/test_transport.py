"""Section 8, Transport: the bytes that go out, the connections they use, and how all that can fail.

What was signed is what is sent; no call gets another call's answer; time limits hold; an error says
what failed and whether the request was sent, and shows no secret. All servers are real ones.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import gc
import io
import json
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import emulator as emu
import pytest
import raw_server
from emulator import Emulator
from hypothesis import given, settings
from hypothesis import strategies as st
from leaks import has_trace, open_things, told
from raw_server import LOOPBACK, RawServer, answering, message, plain, proxy, wait_until

import smasync
from smasync import ConfigurationError, ParamValidationError, Request, TransportError

MIB, PIECE = 1 << 20, smasync.PIECE_BYTES
NOWHERE = "sagemaker.invalid"  # RFC 2606: no DNS has it, only the proxies below know the way
PASSWORD = "pa55-w0rd"
free_port, hang_up, reset = raw_server.free_port, raw_server.hang_up, raw_server.reset
KEYS = smasync.Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}

pytestmark = pytest.mark.filterwarnings("ignore:TLS certificates are not verified")


def rows(names, table, **options):
    """A case of the test for each row of the table, under the row's name."""
    return pytest.mark.parametrize(names, table.values(), ids=table.keys(), **options)


TLS = {"plain": False, "TLS": True}
plain_and_tls = rows("server", TLS, indirect=True)
over_tls = rows("server", {"TLS": True}, indirect=True)


@pytest.fixture
def server(request):
    """An emulator with one object, that takes any signature; left without open connections."""
    with Emulator(check_signatures=False, tls=getattr(request, "param", False)) as running:
        running.put("s3://bucket/key", b"hello world", "text/plain")
        yield running
        gc.collect()  # a socket that nobody closed is a ResourceWarning now, and so an error
        wait_until(lambda: running.open_connections == 0)


@pytest.fixture
def transport():
    with contextlib.closing(made(5)) as transport:
        yield transport


def made(seconds, ca_bundle=LOOPBACK, **options):
    """A transport with that limit for each step."""
    options = {"environ": {}, "ca_bundle": ca_bundle, **options}
    return smasync.UrllibTransport(connect_timeout=seconds, read_timeout=seconds, **options)


def get(url, path="/bucket/key", method="GET"):
    return Request(method, url + path, (("Accept", "*/*"),))


def port_of(server):
    return int(server.url.rpartition(":")[2])


def failure(transport, request, kind, *, sent, **options):
    """The TransportError that the request soon ends in, of that kind."""
    started = time.monotonic()
    with pytest.raises(TransportError) as raised:
        transport(request, **options)
    assert time.monotonic() - started < 5, "no time limit cut this off"
    assert (raised.value.kind, raised.value.sent) == (kind, sent), str(raised.value)
    return raised.value


def run(program, *arguments):
    """What a program prints that can import smasync, in an interpreter of its own."""
    path = str(Path(smasync.__file__).resolve().parent)
    source = f"import sys\nsys.path.insert(0, {path!r})\n{program}"
    command = [sys.executable, "-W", "error", "-c", source, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


# --- What is sent


def signed_request(url, body=b"", path="/endpoints/e/async-invocations", headers=()):
    credentials = smasync.Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY, "TOKEN")
    request = Request("POST", url + path, (*headers, ("Content-Length", str(len(body)))), body)
    scope = {"region": "us-east-1", "service": "sagemaker", "timestamp": "20150830T123600Z"}
    return smasync.sign(request, credentials, **scope).request


def wire(request, target=None):
    """The bytes that the request has to be."""
    target = target or "/" + request.url.split("/", 3)[3]
    lines = [f"{name}: {value}" for name, value in request.headers]
    return message(f"{request.method} {target} HTTP/1.1", *lines, body=request.body)


HEADERS = {
    "several of one name": (("X-A", "1"), ("x-b", "2"), ("X-a", "3")),
    "utf-8": (("X-Key", "s3://bucket/ü/日本/😀"),),
    "latin-1 and beyond": (("X-Key", "é\u0085\u00a0\u3000x"),),
    "inner spaces": (("X-Key", "a   b\tc"),),
    "empty": (("X-Empty", ""),),
    "odd case": (("x-AmZn-sagemaker-INPUTLOCATION", "s3://b/k"), ("user-agent", "smasync/1")),
}


@rows("headers", HEADERS)
def test_what_was_signed_goes_out_and_nothing_else(transport, headers):
    with answering(plain(b"")) as running:
        bodies = (b"", b'{"a": 1}', bytes(range(256)) * 300)
        requests = [signed_request(running.url, body, headers=headers) for body in bodies]
        assert [transport(request).status for request in requests] == [200] * 3
        assert running.requests == [wire(request) for request in requests]


PATHS = """
/bucket/a%20b /bucket//double// //bucket/key /bucket/../up/./here/.. /bucket/a%2Fb%2fc
/bucket/~!$&'()*+,;=:@ /bucket/%E2%82%AC /bucket/key? /bucket/key?versionId=a%2Bb&x&y=
/bucket/key?a=http://other.invalid/?b//c /http://other.invalid/ /bucket/% /
""".split()


def test_any_path_arrives_as_it_was_given(server, transport):
    @settings(max_examples=100)
    @given(st.sampled_from(PATHS) | st.text("/.%aZ0~!$&'()*+,;=:@?[]").map("/".__add__))
    def check(path):
        transport(get(server.url, path))
        assert server.requests[-1].target == path
        assert server.requests[-1].values("Host") == [server.url[7:]]

    check()


def test_a_streamed_body_is_opened_afresh_for_each_request_and_closed(server, transport):
    data, opened = os.urandom(5 * PIECE + 1), []

    def open_body():
        opened.append(io.BytesIO(data))
        return opened[-1]

    headers = (("Content-Length", str(len(data))),)
    for _ in range(2):
        assert transport(Request("PUT", server.url + "/b/k", headers, open_body)).status == 200
        assert server.requests[-1].body == data
    assert [file.closed for file in opened] == [True, True]


MALFORMED = {
    # name: (method, URL or its path, headers)
    "a carriage return": ("GET", "/", (("X-Good", "1"), ("X-Bad", "SECRET\rb"))),
    "a header in a header": ("GET", "/", (("X-Bad", "SECRET\r\nX-Evil: 1"),)),
    "NUL": ("GET", "/", (("X-Bad", "SECRET\0"),)),
    "half a character": ("GET", "/", (("X-Bad", "SECRET\ud800"),)),
    "a line break in the method": ("GET / HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET", "/", ()),
    "non-ASCII in the URL": ("GET", "/SECRETü", ()),
    "no host": ("GET", "http:///SECRET", ()),
    "a user in the URL": ("GET", "http://SECRET@127.0.0.1/", ()),
    "a port that is too large": ("GET", "http://127.0.0.1:99999/SECRET", ()),
    "half an address": ("GET", "http://[::1/SECRET", ()),
    "another scheme": ("GET", "ftp://127.0.0.1/SECRET", ()),
}


@rows("method, url, headers", MALFORMED)
def test_a_malformed_request_is_neither_sent_nor_quoted(server, transport, method, url, headers):
    with pytest.raises(ParamValidationError) as raised:
        transport(Request(method, server.url + url if url[0] == "/" else url, headers))
    assert "SECRET" not in str(raised.value) and "\n" not in str(raised.value)
    assert server.requests == []


@pytest.mark.parametrize("name", [os.devnull, f"{os.devnull}/no"])
def test_an_uploaded_file_that_cannot_be_read_is_the_callers_error(server, transport, name):
    headers, body = (("Content-Length", "900000"),), lambda: io.FileIO(name, "wb")
    with pytest.raises(ParamValidationError, match="the body cannot be read"):
        transport(Request("PUT", server.url + "/b/k", headers, body))
    assert server.requests == []


# --- Connections


@plain_and_tls
@pytest.mark.parametrize("threads", [1, 8])
def test_threads_get_their_own_answers_on_at_most_a_connection_each(server, transport, threads):
    def calls(number):
        body = b"%d" % number * 99_999
        server.put(f"s3://bucket/{number}", body)
        return {transport(get(server.url, f"/bucket/{number}")).body == body for _ in range(25)}

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(calls, range(threads))) == [{True}] * threads
    assert 1 <= server.connections <= threads


def test_hosts_and_schemes_do_not_share_connections(transport):
    hosts = [answering(plain(b"%d" % n), tls=n == 2) for n in range(3)]
    with hosts[0], hosts[1], hosts[2]:
        bodies = [transport(get(host.url)).body for host in [*hosts, *hosts]]
    assert bodies == [b"0", b"1", b"2"] * 2


STRAY = plain(b"stray")
WHILE_IDLE = {
    # name: (the first answer, and what comes behind it; how the connection ends, if it does)
    "FIN": ([plain(b"first")], hang_up),
    "RST": ([plain(b"first")], reset),
    "an answer in the same piece": ([plain(b"first") + STRAY], None),
    "an answer behind a record of TLS": ([plain(bytes(16_300)) + STRAY], None),
}


@rows("tls", TLS)
@rows("pieces, end", WHILE_IDLE)
def test_a_connection_that_ended_or_has_more_bytes_is_not_used_again(transport, pieces, end, tls):
    def serve(sock):
        while running.read_request(sock):
            if len(running.requests) > 1:
                sock.sendall(plain(b"second"))
                continue
            for piece in pieces:
                sock.sendall(piece)
            if end:
                assert answered.wait(5)
                end(sock)
            done.set()

    answered, done = threading.Event(), threading.Event()
    with RawServer(serve, tls) as running:
        assert transport(get(running.url)).status == 200
        answered.set()
        assert done.wait(5)
        assert transport(get(running.url)).body == b"second"
        assert (running.connections, len(running.requests)) == (2, 2)


@pytest.mark.parametrize("more, connections", [(-1, 1), (0, 2)])
def test_an_idle_connection_has_an_age_limit(server, more, connections):
    now = [1000.0]
    with contextlib.closing(made(5, monotonic=lambda: now[0])) as transport:
        transport(get(server.url))
        now[0] += smasync.MAX_IDLE_SECONDS + more
        transport(get(server.url))
        assert server.connections == connections


def test_the_number_of_idle_connections_is_bounded_and_close_closes_them(server, transport):
    count = smasync.MAX_IDLE_CONNECTIONS + 6
    together = threading.Barrier(count)
    sink = SimpleNamespace(write=lambda data: together.wait(10))
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: transport(get(server.url), sink=sink), range(count)))
    assert server.connections == count
    wait_until(lambda: server.open_connections == smasync.MAX_IDLE_CONNECTIONS)
    transport.close()
    wait_until(lambda: server.open_connections == 0)
    assert transport(get(server.url)).status == 200, "it stays usable"


UNCLOSED = """
import os, smasync

def call(transport=None):
    transport = transport or smasync.UrllibTransport(environ={}, ca_bundle=sys.argv[2])
    assert transport(smasync.Request("GET", sys.argv[1] + "/bucket/key", ())).status == 200
    return transport

call()
transport = call()
child = os.fork() if hasattr(os, "fork") else 0
call(call(transport))
assert not child or os.waitpid(child, 0)[1] == 0, "the child failed"
"""


@over_tls
def test_connections_that_nobody_closed_leave_no_warning_and_no_fork_uses_them(server):
    run(UNCLOSED, server.url, LOOPBACK)
    assert server.connections == (3 if hasattr(os, "fork") else 2)


# --- Answers

LONG = bytes(range(256)) * 2000
OK, CHUNKED = "HTTP/1.1 200 OK", message("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
ENDS, CONTINUE = "Connection: close", message("HTTP/1.1 100 Continue")
SIZED, LAST = f"Content-Length: {len(LONG)}", b"0\r\nTrailer: 1\r\n\r\n"
# fmt: off
ANSWERS = {
    # name: (raw answer, method, status, body, complete, connection kept)
    "length": (plain(b"hello"), "GET", 200, b"hello", True, True),
    "long": (plain(LONG), "GET", 200, LONG, True, True),
    "204": (message("HTTP/1.1 204 No Content"), "GET", 204, b"", True, True),
    "206": (message("HTTP/1.1 206 Part", SIZED, body=LONG), "GET", 206, LONG, True, True),
    "HEAD": (message(OK, "Content-Length: 5"), "HEAD", 200, b"", True, True),
    "chunked": (CHUNKED + b"5\r\nhello\r\n3;x=1\r\n\r\n!\r\n" + LAST, "GET", 200, b"hello\r\n!", True, True),
    "chunked long": (CHUNKED + b"%x\r\n%b\r\n" % (len(LONG), LONG) + LAST, "GET", 200, LONG, True, True),
    "continue first": (CONTINUE * 3 + plain(b"hello"), "GET", 200, b"hello", True, True),
    "until close": (message(OK, body=LONG), "GET", 200, LONG, True, False),
    "HTTP/1.0": (message("HTTP/1.0 200 OK", body=b"hello"), "GET", 200, b"hello", True, False),
    "close": (message(OK, "Content-Length: 5", ENDS, body=b"hello"), "GET", 200, b"hello", True, False),
    "short, long": (message(OK, SIZED, body=LONG[:-1]), "GET", 200, LONG[:-1], False, False),
    "short to nothing": (message("HTTP/1.1 503 Sorry", "Content-Length: 9"), "GET", 503, b"", False, False),
}
# fmt: on


@rows("tls", TLS)
@rows("raw, method, status, body, complete, kept", ANSWERS)
def test_an_answer_is_read_to_its_end(transport, raw, method, status, body, complete, kept, tls):
    with answering(raw, keep=kept, tls=tls) as running:
        for sink in (None, io.BytesIO()):
            response = transport(get(running.url, method=method), sink=sink)
            assert (response.status, response.complete) == (status, complete)
            taken = sink.getvalue() if sink else response.body
            assert (len(taken), taken) == (len(body), body)
        assert running.connections == (1 if kept else 2)


@pytest.mark.parametrize("code", [201, 301, 302, 307, 400, 403, 404, 407, 429, 500, 503, 599])
def test_no_status_is_raised_or_followed_and_its_body_goes_to_no_sink(transport, code):
    headers = {"X-Note": "é  日", "X-Empty": "", "x-note": "again", "Content-Length": "5"}
    headers["Location"] = f"http://127.0.0.1:{free_port()}/"
    lines = [f"{name}: {value}" for name, value in headers.items()]
    with answering(message(f"HTTP/1.1 {code} So", *lines, body=b"words")) as running:
        sink = io.BytesIO()
        response = transport(get(running.url, method="POST"), sink=sink)
        assert len(running.requests) == 1
    assert response == smasync.Response(code, tuple(headers.items()), b"words", True)
    assert sink.getvalue() == b""


BROKEN = [b"5\r\nhello\r\n", b"5\r\nhello\r\nzz\r\n wo", b"5\r\nhello\r\n6\r\n wo", b"1" * 70_000]


@pytest.mark.parametrize("chunks", BROKEN, ids=["no end", "no number", "cut", "long line"])
def test_broken_chunks_leave_the_status_and_are_never_complete(transport, chunks):
    with answering(CHUNKED + chunks, keep=False) as running:
        for sink in (None, io.BytesIO()):
            response = transport(get(running.url), sink=sink)
            assert (response.status, response.complete) == (200, False)
            assert b"hello wo".startswith(sink.getvalue() if sink else response.body)


def test_a_chunk_of_size_minus_one_is_not_all_that_the_server_has(transport):
    def serve(sock):
        running.read_request(sock)
        sock.sendall(CHUNKED + b"-1\r\n")
        for _ in range(64):
            taken.append(sock.sendall(bytes(MIB)))

    taken = []
    with RawServer(serve) as running:
        assert transport(get(running.url)).complete is False
    assert len(taken) < 32


@pytest.mark.parametrize("over", [0, 1, 9 * MIB])
def test_a_body_in_memory_is_kept_up_to_one_mebibyte(server, transport, over):
    server.fail(emu.huge_body(smasync.MAX_BODY_BYTES + over))
    response = transport(get(server.url))
    assert (len(response.body), response.complete) == (smasync.MAX_BODY_BYTES, not over)
    assert transport(get(server.url)).body == b"hello world", "the rest is nobody's answer"


@pytest.mark.parametrize(
    "error", [OSError("full"), ValueError("no"), KeyboardInterrupt()], ids=repr
)
def test_an_error_of_the_sink_is_raised_as_it_is(server, transport, error):
    def write(data):
        raise error

    with pytest.raises(type(error)) as raised:
        transport(get(server.url), sink=SimpleNamespace(write=write))
    assert raised.value is error
    wait_until(lambda: server.open_connections == 0)


# --- What is no answer

LONG_TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//" + "".join(f"{n:03}/a+B" for n in range(60)) + "=="
NO_HTTP = {
    "another protocol": f"SSH-2.0-OpenSSH_9.6 {LONG_TOKEN}\r\n\r\n".encode(),
    "no number": message(f"HTTP/1.1 {LONG_TOKEN} OK"),
    "unknown version": message(f"HTTP/{LONG_TOKEN} 200 OK"),
    "endless header": message(OK, "X-Long: " + "x" * 80_000),
    "101": message("HTTP/1.1 101 Switching Protocols", "Upgrade: h2c"),
    "102 before it": message("HTTP/1.1 102 Processing") + plain(b"hello"),
}


@rows("raw", NO_HTTP)
def test_what_is_no_plain_http_is_a_protocol_error_that_quotes_nothing(transport, raw):
    with answering(raw, plain(b"second")) as running:
        error = failure(transport, get(running.url), "protocol", sent=True)
        assert transport(get(running.url)).body == b"second"
        assert running.connections == 2
    assert error.retryable and not has_trace(told(error), LONG_TOKEN)
    assert str(error).startswith(f"127.0.0.1:{running.port}: the answer is not HTTP: ")


def test_an_end_within_the_head_is_an_error_wherever_it_is(transport):
    raw = message("HTTP/1.1 202 Accepted", "X-Output: s3://bucket/key", "Content-Length: 0")
    with answering(*(raw[:size] for size in range(len(raw))), keep=False) as running:
        for size in range(len(raw)):
            with pytest.raises(TransportError) as raised:
                transport(get(running.url))
            assert raised.value.kind in ("closed", "protocol") and raised.value.sent, raw[:size]


# --- Time limits


def test_each_call_on_a_connection_has_its_own_time_limit(transport):
    delays = iter([0.0, 0.7, 30.0])

    def serve(sock):
        while running.read_request(sock) and not running.closing.wait(next(delays)):
            sock.sendall(plain(b"answer"))

    with RawServer(serve) as running:
        assert transport(get(running.url), timeout=0.5).body == b"answer"
        assert transport(get(running.url), timeout=20).body == b"answer"
        failure(transport, get(running.url), "timeout", sent=True, timeout=0.2)
    assert (running.connections, len(running.requests)) == (1, 3)


SLOW = [(False, None, False), (True, None, True), (True, 0.4, True)]


@pytest.mark.parametrize("in_file, timeout, complete", SLOW)
def test_the_time_limit_is_for_each_piece_of_a_streamed_result(in_file, timeout, complete):
    def serve(sock):
        running.read_request(sock)
        sock.sendall(message(OK, f"Content-Length: {7 * PIECE}"))
        for _ in range(7):
            running.closing.wait(0.1)
            sock.sendall(bytes(PIECE))

    with RawServer(serve) as running, contextlib.closing(made(0.5)) as transport:
        sink = io.BytesIO() if in_file else None
        response = transport(get(running.url), sink=sink, timeout=timeout)
        assert (response.status, response.complete) == (200, complete)


def test_a_call_whose_time_is_over_sends_no_more(server):
    def body():
        now[0] += 9
        return io.BytesIO(b"{}")

    now, headers = [1000.0], (("Content-Length", "2"),)
    with contextlib.closing(made(30, monotonic=lambda: now[0])) as transport:
        request = Request("PUT", server.url + "/b/k", headers, body)
        failure(transport, request, "timeout", sent=False, timeout=8)
    assert server.requests == []


def upload(url, size):
    headers = (("Content-Length", str(size)),)
    return Request("PUT", url + "/b/k", headers, lambda: io.BytesIO(bytes(size)))


def test_the_time_limit_is_for_each_piece_of_an_upload():
    def serve(sock):
        left = 16 * MIB - len(raw_server.read_head(sock).partition(b"\r\n\r\n")[2])
        while left > 0:
            until = max(0, left - MIB)
            running.closing.wait(0.08)
            while left > until:
                left -= len(sock.recv(left - until)) or left
        sock.sendall(plain(b"thanks"))

    started = time.monotonic()
    with RawServer(serve) as running, contextlib.closing(made(1.0)) as transport:
        assert transport(upload(running.url, 16 * MIB)).body == b"thanks"
    assert time.monotonic() - started > 1.2


def answer_early(sock):
    """An answer before all of the request was read."""
    head = ("HTTP/1.1 503 Later", "x-amzn-errortype: ServiceUnavailable", "Content-Length: 2")
    sock.sendall(message(*head, ENDS, body=b"{}"))
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(MIB):
        pass


ENDINGS = [(reset, "closed"), (hang_up, "closed"), (None, "timeout"), (answer_early, "")]


@pytest.mark.parametrize("end, kind", ENDINGS, ids=["RST", "FIN", "silence", "an answer"])
def test_a_failure_while_the_request_is_sent_says_that_it_was_not(end, kind):
    def serve(sock):
        raw_server.read_head(sock)
        end(sock) if end else running.closing.wait(30)

    with RawServer(serve) as running, contextlib.closing(made(5 if end else 0.3)) as transport:
        request = upload(running.url, 16 * MIB)
        if end is answer_early:
            assert transport(request)[::2] == (503, b"{}")
        else:
            assert failure(transport, request, kind, sent=False).retryable


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
def test_a_time_limit_is_a_number_of_seconds_above_0(name):
    for value in (None, 0, -1, True, float("nan"), "5", [5]):
        with pytest.raises(ParamValidationError, match=f"{name}.*seconds above 0"):
            smasync.UrllibTransport(environ={}, **{name: value})


# --- The way to the server

UNREACHABLE = {
    # name: (scheme, proxy, address where nobody is, kind of the error)
    "refused": ("http", None, "127.0.0.1:PORT", "connect"),
    "no such name": ("http", None, f"{NOWHERE}:PORT", "connect"),
    "proxy refused": ("http", "127.0.0.1:PORT", NOWHERE, "connect"),
    "tunnel refused": ("https", "127.0.0.1:PORT", NOWHERE, "proxy"),
    "no such proxy": ("https", "proxy.invalid:PORT", NOWHERE, "proxy"),
}


@rows("scheme, way, address, kind", UNREACHABLE)
def test_who_cannot_be_reached_is_named_and_tried_again(scheme, way, address, kind):
    port = str(free_port())
    address, way = address.replace("PORT", port), (way or "").replace("PORT", port)
    environ = {f"{scheme}_proxy": f"http://user:{PASSWORD}@{way}"} if way else {}
    options = {"environ": environ, "credentials": KEYS, "sleep": lambda seconds: None}
    client = smasync.RuntimeClient("us-east-1", endpoint_url=f"{scheme}://{address}", **options)
    error = failure(lambda call: client.invoke_endpoint_async(**call), CALL, kind, sent=False)
    assert [attempt["Outcome"] for attempt in error.metadata["Attempts"]] == [kind] * 3
    assert error.retryable and str(error).startswith(f"{way or address}: cannot connect")
    assert ("check the region" in str(error)) == ("invalid" in (way or address))
    assert not has_trace(told(error), PASSWORD, 8)


ADDRESSES = """
import json, socket, time
import smasync

look_up, (port, cases) = socket.getaddrinfo, json.loads(sys.argv[1])

def resolve(host, port, *rest, **options):  # this process's DNS
    if not addresses:
        raise OSError(f"port {port}")
    hosts = addresses if host.endswith(".invalid") else [host]
    return [entry for host in hosts for entry in look_up(host, port, *rest, **options)]

socket.getaddrinfo = resolve
for case, (url, addresses, connect_timeout, timeout, expected) in cases.items():
    transport = smasync.UrllibTransport(connect_timeout=connect_timeout, environ={})
    request, began = smasync.Request("GET", url.replace("PORT", port), ()), time.monotonic()
    try:
        said = str(transport(request, timeout=timeout).status)
    except smasync.TransportError as error:
        said = error.kind if addresses else str(error)
    transport.close()
    if said != expected or time.monotonic() - began > 4:
        print(f"{case}: {said} after {time.monotonic() - began} s")
"""
SILENT, DEAD, GOOD = "127.0.0.2", "127.0.0.3", "127.0.0.1"
HOSTS = {
    # name: (URL, addresses, connect_timeout, timeout, what comes)
    "443": ("https://a.invalid/", [], 30, None, "a.invalid: cannot connect: port 443"),
    "80": ("http://a.invalid/", [], 30, None, "a.invalid: cannot connect: port 80"),
    "the first refuses": ("http://a.invalid:PORT/", [DEAD, GOOD], 30, None, "200"),
    "the first is silent": ("http://a.invalid:PORT/", [SILENT, GOOD], 0.3, None, "200"),
    "all are silent": ("http://a.invalid:PORT/", [SILENT, SILENT], 0.2, None, "timeout"),
    "no time for one": ("http://a.invalid:PORT/", [SILENT] * 99, 30, 0.2, "timeout"),
    "no time for two": ("http://a.invalid:PORT/", [SILENT] * 99, 0.2, 0.3, "timeout"),
}

if sys.platform == "linux":  # others have no 127.0.0.2

    def test_the_addresses_of_a_host_are_tried_in_turn_within_the_time_limits():
        with answering(plain(b"hello")) as running:
            silent = raw_server.full_house(SILENT, running.port)
            assert run(ADDRESSES, json.dumps([str(running.port), HOSTS])) == ""
            for sock in silent:
                sock.close()


# --- TLS


@over_tls
def test_a_certificate_that_does_not_verify_is_a_tls_error(server):
    error = failure(made(5, None), get(server.url), "tls", sent=False)
    assert "AWS_CA_BUNDLE" in str(error) and not error.retryable
    with proxy(port_of(server)) as running, through(running, "https", "", LOOPBACK) as tunnelled:
        error = failure(tunnelled, get(f"https://{NOWHERE}"), "tls", sent=False)
    assert "AWS_CA_BUNDLE" not in str(error) and not error.retryable
    assert server.requests == []


@over_tls
def test_without_verification_there_is_one_warning_and_any_certificate_will_do(server):
    with pytest.warns(UserWarning, match="verify=False") as caught:
        transport = made(5, False)
        assert transport(get(server.url)).body == b"hello world"
        transport.close()
    assert len(caught) == 1


@over_tls
@pytest.mark.parametrize("name", ["missing.pem", "text.pem", "folder"])
def test_an_unusable_ca_bundle_is_named(server, tmp_path, name):
    (tmp_path / "text.pem").write_text("This is no certificate.\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match=re.escape(str(tmp_path / name))):
        made(5, str(tmp_path / name))(get(server.url))


@over_tls
def test_a_bundle_of_the_users_is_trusted_though_its_certificates_are_not_strict(server, tmp_path):
    # An inspecting proxy's CA, which Python 3.13 refuses: basicConstraints are not critical.
    chain = Path(__file__).with_name("inspector.pem")
    server.tls_context = emu.server_context(str(chain))
    bundle = tmp_path / "ca.pem"
    bundle.write_text(re.split(r"(?=-----BEGIN)", chain.read_text())[-1])
    strict = ssl.create_default_context(cafile=str(bundle))
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    sock = socket.create_connection(("127.0.0.1", port_of(server)))
    with sock, pytest.raises(ssl.SSLError):
        strict.wrap_socket(sock, server_hostname="localhost")
    with contextlib.closing(made(5, str(bundle))) as transport:
        assert transport(get(server.url)).body == b"hello world"
    error = failure(made(5), get(server.url), "tls", sent=False)
    assert str(error).startswith("localhost:") and "AWS_CA_BUNDLE" not in str(error)


# --- Proxies


@contextlib.contextmanager
def through(running, scheme, login=f"user:{PASSWORD}@", ca_bundle=False):
    """A transport that goes through the server for everything of a scheme."""
    environ = {f"{scheme.upper()}_PROXY": f"http://{login}127.0.0.1:{running.port}"}
    with contextlib.closing(made(5, ca_bundle, environ=environ)) as transport:
        yield transport


LOGINS = [("", []), ("user:pw@", ["user:pw"]), ("us%40er:p%3Aa%2Fss@", ["us@er:p:a/ss"])]


@plain_and_tls
@pytest.mark.parametrize("login, sent", LOGINS)
def test_a_proxy_gets_a_tunnel_for_https_and_else_the_whole_url(server, login, sent):
    scheme = server.url.partition(":")[0]
    port = ":8443" if sent else ""
    request = signed_request(f"{scheme}://{NOWHERE}{port}", b"{}", path="//a%2Fb/../c?x=%2F")
    expected = wire(request, target=None if scheme == "https" else request.url)
    with proxy(port_of(server)) as running, through(running, scheme, login) as transport:
        for _ in range(2):
            transport(request)
        transport(get(f"{scheme}://{NOWHERE}{port}"))
    assert server.requests.pop().header("host") == f"{NOWHERE}{port}"
    asked = running.requests[0]
    if scheme == "https":
        assert asked.startswith(f"CONNECT {NOWHERE}{port or ':443'} HTTP/1.".encode())
        assert {received.raw for received in server.requests} == {expected}, "no password in it"
    else:
        assert asked == server.requests[1].raw
        assert re.sub(rb"(?i)proxy-authorization: .*?\r\n", b"", asked) == expected
    logins = re.findall(rb"(?im)^proxy-authorization: Basic (.*?)\r$", asked)
    assert [base64.b64decode(text).decode() for text in logins] == sent
    assert (running.connections, server.connections, len(server.requests)) == (1, 1, 2)


@over_tls
def test_what_a_proxy_says_before_tls_begins_is_no_answer_of_the_services(server):
    forged = message("HTTP/1.1 202 Accepted", "Content-Length: 2", body=b"{}")
    running = proxy(port_of(server), message(OK) + forged)
    with running, through(running, "https") as transport, contextlib.suppress(TransportError):
        assert transport(get(f"https://{NOWHERE}")).body == b"hello world"


ENVIRONMENTS = {
    # the variables: whether http://sagemaker.invalid goes through the proxy
    "Http_Proxy=PROXY": True,
    "HTTP_PROXY=http://x.invalid http_proxy=http://PROXY/": True,
    "HTTP_PROXY=http://PROXY http_proxy=": False,
    "HTTPS_PROXY=http://PROXY": False,
    "HTTP_PROXY=http://PROXY REQUEST_METHOD=GET": False,  # of a stranger, in a CGI script
    "http_proxy=http://PROXY REQUEST_METHOD=GET": True,
    "http_proxy=PROXY NO_PROXY=sagemaker.invalid": False,
    "http_proxy=PROXY NO_PROXY=*": False,
    "http_proxy=PROXY no_proxy=example.com": True,
}


@pytest.mark.parametrize("variables, proxied", ENVIRONMENTS.items())
def test_the_environment_says_what_goes_through_a_proxy(server, variables, proxied):
    with proxy(port_of(server)) as running:
        given = re.sub(r"(?<=[=/])PROXY", f"127.0.0.1:{running.port}", variables)
        environ = dict(pair.split("=") for pair in given.split())
        with contextlib.closing(made(5, environ=environ)) as transport:
            if proxied:
                assert transport(get(f"http://{NOWHERE}")).body == b"hello world"
            else:
                failure(transport, get(f"http://{NOWHERE}"), "connect", sent=False)
    assert len(running.requests) == proxied


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_this_machine_and_the_metadata_services_are_never_proxied(scheme):
    local = "127.0.0.1 localhost LocalHost [::1] 169.254.169.254 169.254.170.2 169.254.170.23"
    with answering(plain(b"")) as running, through(running, scheme) as transport:
        for host in [*local.split(), "[fd00:ec2::254]", "[fd00:ec2::23]", "[FD00:EC2::254]"]:
            with pytest.raises(TransportError):
                transport(get(f"{scheme}://{host}:{free_port()}"), timeout=0.05)
        assert running.requests == []


REFUSALS = {
    # name: (the proxy's answer, retryable, words of the error)
    "407": (message("HTTP/1.1 407 Proxy Authentication Required"), False, "not NTLM or Negotiate"),
    "403 in colour": (message("HTTP/1.1 403 \x1b[31mNo\x07"), False, "403 ?[31mNo?"),
    "502": (message("HTTP/1.1 502 Bad Gateway"), True, "502"),
}


@rows("answer, retryable, words", REFUSALS)
def test_a_proxy_that_refuses_is_a_proxy_error(answer, retryable, words):
    with proxy(0, answer) as running, through(running, "https") as transport:
        error = failure(transport, get(f"https://{NOWHERE}"), "proxy", sent=False)
    assert error.retryable == retryable and words in str(error)
    assert str(error).startswith(f"127.0.0.1:{running.port}: ")
    assert not has_trace(told(error), PASSWORD, 8)
    assert not has_trace(told(error), base64.b64encode(f"user:{PASSWORD}".encode()).decode())
    assert len(running.requests) == 1


BAD_PROXIES = """
http://LOGIN http://LOGINhost:LOGIN http://LOGINhost:0 http://LOGINhost:65536 http://LOGIN[::1
http:/LOGINhost https://LOGINhost socks5h://LOGINhost http://LOGINhost\\nX:1 http://LOGINa..b
""".split()


@pytest.mark.parametrize("url", BAD_PROXIES)
def test_a_malformed_proxy_is_a_configuration_error_without_its_password(url):
    url = url.replace("LOGIN", f"user:{PASSWORD}@").replace("\\n", "\r\n")
    for scheme in ("http", "https"):
        with pytest.raises(ConfigurationError, match=f"{scheme.upper()}_PROXY") as raised:
            made(5, environ={f"{scheme}_proxy": url})(get(f"{scheme}://{NOWHERE}"))
        assert not has_trace(told(raised.value), PASSWORD, 8)


# --- Each fault, through a client


def then(end, words=b""):
    """A fault before the service reads anything: words instead of an answer, and an end."""

    def fault(sock):
        sock.recv(65_536)
        sock.sendall(words)
        end(sock)

    return fault


@emu.fault
def accepted(connection, count=None, end="FIN", chunks=b""):
    """The request is accepted; so many bytes of the good answer are sent, or its head and chunks."""
    data = connection.encode(connection.handle())
    if chunks:
        data = data.replace(b"Content-Length:", b"Transfer-Encoding: chunked\r\nX-Length:")
        data = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + chunks
    connection.send(data[:count])
    if end == "RST":
        connection.reset()
    if end == "silence":
        connection.idle(60)


CUT = message("HTTP/1.1 503 Sorry", "x-amzn-errortype: Busy", "Content-Length: 9", body=b"{")
HELLO, ALERT = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76", b"\x15\x03\x03\x00\x02\x02\x28"
HUGE = b"400000\r\n" + bytes(4 * MIB)
ALWAYS, NEVER = True, False
UNCLEAR = None  # tried again unless retry_sent=False
FAULTS = {
    # name: (fault, what the caller gets, whether it is tried again, whole requests and inferences
    # that the service had of each attempt)
    "proxy, RST": (then(reset), "proxy unsent", ALWAYS, 0, 0),
    "proxy, silence": (raw_server.silence, "timeout unsent", ALWAYS, 0, 0),
    "proxy, 407": (then(hang_up, message("HTTP/1.1 407 No")), "proxy unsent", NEVER, 0, 0),
    "TLS, FIN": (then(hang_up), "closed unsent", ALWAYS, 0, 0),
    "TLS, FIN in a record": (then(hang_up, HELLO), "closed unsent", ALWAYS, 0, 0),
    "TLS, silence": (raw_server.silence, "timeout unsent", ALWAYS, 0, 0),
    "TLS, an alert": (then(hang_up, ALERT), "tls unsent", NEVER, 0, 0),
    "TLS, HTTP instead": (then(hang_up, CUT), "tls unsent", NEVER, 0, 0),
    "unread, FIN": (then(hang_up), "closed sent", UNCLEAR, 0, 0),
    "unread, 503": (answer_early, "ServiceUnavailable", ALWAYS, 0, 0),
    "read, RST": (emu.reset_after(), "closed sent", UNCLEAR, 1, 0),
    "read, garbage": (emu.garbage(), "protocol sent", UNCLEAR, 1, 0),
    "read, 100 for ever": (emu.continue_forever(), "timeout sent", UNCLEAR, 1, 0),
    "read, log-in page": (emu.login_page(), "protocol sent", NEVER, 1, 0),
    "read, 500": (emu.status(500, "InternalFailure"), "InternalFailure", ALWAYS, 1, 0),
    "read, 503, cut": (emu.answer(CUT), "Busy", ALWAYS, 1, 0),
    "read, throttled": (emu.throttle(), "ThrottlingException", ALWAYS, 1, 0),
    "read, 400": (emu.status(400, "ValidationError"), "ValidationError", NEVER, 1, 0),
    "read, redirect": (emu.redirect("http://127.0.0.1:9/"), "302", NEVER, 1, 0),
    "accepted, RST": (emu.accept_then_reset(), "closed sent", UNCLEAR, 1, 1),
    "accepted, FIN": (accepted(0), "closed sent", UNCLEAR, 1, 1),
    "accepted, silence": (accepted(0, "silence"), "timeout sent", UNCLEAR, 1, 1),
    "head, FIN": (accepted(150), "closed sent", UNCLEAR, 1, 1),
    "head, a byte every 50 ms": (emu.drip(0.05), "timeout sent", UNCLEAR, 1, 1),
    # The head of a 202 says all: the call is not repeated.
    "body, FIN": (accepted(-20), "202", NEVER, 1, 1),
    "body, RST": (accepted(-20, "RST"), "202", NEVER, 1, 1),
    "body, silence": (accepted(-20, "silence"), "202", NEVER, 1, 1),
    "body, broken chunks": (accepted(chunks=b"zz\r\n"), "202", NEVER, 1, 1),
    "body, 4 MiB": (accepted(chunks=HUGE), "202", NEVER, 1, 1),
}
WORLDS = {
    # name: (how many of two attempts meet the fault, retry_sent, TLS and a kept connection)
    "once": (1, True, False),
    "twice": (2, True, True),
    "twice, retry_sent=False": (2, False, False),
}


def called(client, **members):
    """What a caller gets, the outcomes of its attempts, and the place of the result."""
    try:
        answer = client.invoke_endpoint_async(**CALL, **members)
        got, metadata = "202", answer["ResponseMetadata"]
    except TransportError as error:
        got, metadata = f"{error.kind} {'sent' if error.sent else 'unsent'}", error.metadata
    except smasync.ClientError as error:
        got, metadata = error.code, error.metadata
    outcomes = [attempt["Outcome"] for attempt in metadata["Attempts"]]
    return got, outcomes, answer["OutputLocation"] if got == "202" else None


@contextlib.contextmanager
def behind_faults(place, due, tls):
    """A service that the faults that are due stand before; its URL, and the variables for it."""

    def serve(sock):
        due.pop()(sock) if due else front.forward(sock, port)

    tls = tls or place in ("proxy", "TLS")
    with Emulator(tls=tls) as server, proxy(port_of(server)) as tunnel, RawServer(serve) as front:
        server.fail_every(lambda received: due.pop() if due else None)
        url, port = server.url, port_of(server)
        if place in ("TLS", "unread"):
            url = url.replace(str(port), str(front.port))
        if place == "proxy":
            url, port = f"https://{NOWHERE}", tunnel.port
        yield server, url, {"https_proxy": front.url} if place == "proxy" else {}


@rows("times, retry_sent, kept", WORLDS)
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_ends_as_the_table_says_and_leaves_nothing(name, times, retry_sent, kept):
    def transport(request, *, timeout=None):
        tried.append(request)
        return real(request, timeout=hasty if due else 30)

    def pause(seconds):  # until the service has met the fault
        wait_until(lambda: len(due) <= max(0, times - len(tried)))

    fault, outcome, repeated, requests, inferences = FAULTS[name]
    place, before, due, tried = name.split(",")[0], open_things(), [], []
    kept = kept and isinstance(fault, emu.Fault)
    hasty = 0.15 if "timeout" in outcome else 0.5 if place == "body" else 30
    options = {"transport": transport, "sleep": pause, "retry_sent": retry_sent}
    with behind_faults(place, due, kept) as (server, url, environ):
        options.update(endpoint_url=url, credentials=KEYS, environ={}, max_attempts=2)
        client = smasync.RuntimeClient("us-east-1", **options)
        real = made(30, not environ and LOOPBACK, environ=environ)
        for _ in range(kept):
            called(client)
        tried.clear()
        due += [fault] * times
        got, outcomes, location = called(client)
        due.clear()
        assert called(client)[::2] == ("202", server.ledger[-1].output_location)
        assert location in (None, *(inference.output_location for inference in server.ledger))
        real.close()
        wait_until(lambda: not server.open_connections)
    tries = 2 if (retry_sent if repeated is UNCLEAR else repeated) else 1
    met, well = min(times, tries), max(0, tries - times)
    assert got == ("202" if well else outcome)
    assert outcomes == [outcome.split()[0]] * met + ["202"] * well
    assert len(server.requests) - 1 - kept == requests * met + well
    assert len(server.ledger) - 1 - kept == inferences * met + well
    wait_until(lambda: open_things() <= before)


@pytest.mark.slow
@pytest.mark.parametrize("retry_sent, tls", [(True, False), (True, True), (False, False)])
def test_each_of_many_threads_is_told_the_truth_about_its_calls(retry_sent, tls):
    def fault_of(received):
        chance = random.Random(received.header("x-amzn-sagemaker-inference-id"))
        return chance.choice(faults) if chance.random() < 0.3 else None

    def call(number):
        return str(number), *called(client, InferenceId=str(number))

    faults = [fault for fault, *_ in FAULTS.values() if isinstance(fault, emu.Fault)]
    before, results = open_things(), collections.defaultdict(list)
    options = {"environ": {}, "read_timeout": 0.5, "verify": LOOPBACK, "retry_sent": retry_sent}
    with Emulator(tls=tls) as server:
        server.fail_every(fault_of)
        options.update(endpoint_url=server.url, credentials=KEYS, sleep=lambda seconds: None)
        client = smasync.RuntimeClient("us-east-1", **options)
        with client, ThreadPoolExecutor(16) as pool:
            calls = list(pool.map(call, range(1000)))
    for inference in server.ledger:
        results[inference.inference_id].append(inference.output_location)
    for number, got, outcomes, location in calls:
        unclear = [word for word in outcomes if word in ("timeout", "closed", "protocol")]
        assert len(results[number]) <= (len(unclear) + (got == "202") if retry_sent else 1)
        assert location in results[number] if got == "202" else outcomes[-1] == got.split()[0]
    assert len(results) == 1000 and len({got for _, got, *_ in calls}) > 6
    wait_until(lambda: open_things() <= before)
