"""Transport: the bytes that go out, the connections they use, and every way in which that fails."""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import io
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulator as emu
import pytest
from emulator import Emulator
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_server import (
    LOOPBACK,
    RawServer,
    answering,
    free_port,
    message,
    plain,
    proxy,
    read_head,
    wait_until,
)

import smasync
from smasync import (
    ConfigurationError,
    Credentials,
    ParamValidationError,
    Request,
    Response,
    TransportError,
    UrllibTransport,
)

MIB, PIECE = 1 << 20, 1 << 16
NOWHERE = "sagemaker.invalid"  # RFC 2606: no DNS has it, only the proxies below know the way
PASSWORD = "pa55-w0rd"

pytestmark = pytest.mark.filterwarnings("ignore:TLS certificates are not verified")
plain_and_tls = pytest.mark.parametrize(
    "server", [False, True], ids=["plain", "TLS"], indirect=True
)
over_tls = pytest.mark.parametrize("server", [True], ids=["TLS"], indirect=True)


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


@pytest.fixture
def hasty():
    with contextlib.closing(made(0.4)) as transport:
        yield transport


def made(seconds, ca_bundle=LOOPBACK, **options):
    """A transport with that limit for each step."""
    options = {"environ": {}, "ca_bundle": ca_bundle, **options}
    return UrllibTransport(connect_timeout=seconds, read_timeout=seconds, **options)


def get(url, path="/bucket/key", method="GET"):
    return Request(method, url + path, (("Accept", "*/*"),))


def port_of(server):
    return int(server.url.rpartition(":")[2])


def failure(transport, request, kind, *, sent, seconds=4.0, **options):
    """The TransportError that the request ends in, of that kind, within so many seconds."""
    started = time.monotonic()
    with pytest.raises(TransportError) as raised:
        transport(request, **options)
    assert time.monotonic() - started < seconds, "no time limit cut this off"
    assert (raised.value.kind, raised.value.sent) == (kind, sent), str(raised.value)
    assert isinstance(raised.value, OSError)
    return raised.value


def run(program, *arguments):
    """What a program prints that can import smasync, in an interpreter of its own."""
    path = str(Path(smasync.__file__).resolve().parent)
    source = f"import sys\nsys.path.insert(0, {path!r})\n{program}"
    command = [sys.executable, "-W", "error", "-c", source, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def signed_request(url, body=b"", path="/endpoints/e/async-invocations", headers=()):
    credentials = Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY, "TOKEN")
    length = (("Content-Length", str(len(body))),)
    request = Request("POST", url + path, (*headers, *length), body)
    scope = {"region": "us-east-1", "service": "sagemaker", "timestamp": "20150830T123600Z"}
    return smasync.sign(request, credentials, **scope).request


def wire(request, target=None):
    """The bytes that the request has to be."""
    target = target or "/" + request.url.split("/", 3)[3]
    lines = [f"{request.method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    return message(*lines, body=request.body)


HEADERS = {
    "none": (),
    "several of one name": (("X-A", "1"), ("x-b", "2"), ("X-a", "3")),
    "utf-8": (("X-Key", "s3://bucket/ü/日本/😀"),),
    "latin-1 and beyond": (("X-Key", "é\u0085\u00a0\u3000x"),),
    "inner spaces": (("X-Key", "a   b"),),
    "empty": (("X-Empty", ""),),
    "odd case": (("x-AmZn-sagemaker-INPUTLOCATION", "s3://b/k"), ("user-agent", "smasync/1")),
    "tab": (("X-Key", "a\tb"),),
}


@pytest.mark.parametrize("body", [b"", b'{"a": 1}', bytes(range(256)) * 300], ids=len)
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_the_signed_headers_go_out_in_their_order_and_nothing_else(transport, headers, body):
    with answering(plain(b"")) as raw:
        request = signed_request(raw.url, body, headers=headers)
        assert transport(request).status == 200
        assert raw.requests == [wire(request)]


def test_a_request_without_host_gets_one_and_nothing_else(server, transport):
    transport(Request("GET", server.url + "/bucket/key", ()))
    assert server.requests[0].headers == (("Host", server.url[7:]),)


PATHS = """
/bucket/a%20b /bucket//double// //bucket/key /bucket/../up/./here/.. /bucket/a%2Fb%2fc
/bucket/~!$&'()*+,;=:@ /bucket/%E2%82%AC /bucket/key? /bucket/key?versionId=a%2Bb&x&y=
/bucket/key?a=http://other.invalid/?b//c /http://other.invalid/ /bucket/% /
""".split()


def test_any_path_arrives_as_it_was_given(server, transport):
    def check(path):
        transport(get(server.url, path))
        assert server.requests[-1].target == path

    for path in PATHS:
        check(path)
    paths = st.text("/.%aZ0~!$&'()*+,;=:@?[]", max_size=30).map("/".__add__)
    settings(max_examples=200)(given(paths)(check))()


@pytest.mark.parametrize("size", [1, 70_000, 5 * MIB])
def test_a_streamed_body_is_opened_afresh_for_each_request_and_closed(server, transport, size):
    data, opened = os.urandom(size), []

    def open_body():
        opened.append(io.BytesIO(data))
        return opened[-1]

    headers = (("Content-Length", str(size)),)
    for _ in range(2):
        assert transport(Request("PUT", server.url + "/b/k", headers, open_body)).status == 200
        assert server.requests[-1].body == data
    assert [file.closed for file in opened] == [True, True]
    assert server.requests[0].values("Transfer-Encoding") == []


EVIL = "SECRET\r\nX-Evil: 1"
MALFORMED = {
    # name: (method, URL or its path, headers)
    "a carriage return": ("GET", "/", (("X-Good", "1"), ("X-Bad", "SECRET\rb"))),
    "a line feed": ("GET", "/", (("X-Bad", "SECRET\nb"),)),
    "a header in a header": ("GET", "/", (("X-Bad", EVIL),)),
    "a folded header": ("GET", "/", (("X-Bad", "SECRET\r\n b"),)),
    "a line feed at the end": ("GET", "/", (("X-Bad", "SECRET\n"),)),
    "NUL": ("GET", "/", (("X-Bad", "SECRET\0"),)),
    "half a character": ("GET", "/", (("X-Bad", "SECRET\ud800"),)),
    "a line break in a name": ("GET", "/", (("X-Bad\r\nX-Evil", "1"),)),
    "a line break in the method": ("GET / HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET", "/", ()),
    "a line break in the URL": ("GET", f"/a{EVIL}", ()),
    "a space in the URL": ("GET", "/SECRET b", ()),
    "non-ASCII in the URL": ("GET", "/SECRETü", ()),
    "no host": ("GET", "http:///SECRET", ()),
    "a port that is a word": ("GET", "http://127.0.0.1:SECRET/", ()),
    "a port that is too large": ("GET", "http://127.0.0.1:99999/SECRET", ()),
    "half an address": ("GET", "http://[::1/SECRET", ()),
    "another scheme": ("GET", "ftp://127.0.0.1/SECRET", ()),
    "no scheme": ("GET", "127.0.0.1/SECRET", ()),
}


@pytest.mark.parametrize("method, url, headers", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused_unsent_and_not_quoted(
    server, transport, method, url, headers
):
    url = server.url + url if url.startswith("/") else url
    with pytest.raises(ParamValidationError) as raised:
        transport(Request(method, url, headers))
    text = str(raised.value)
    assert "SECRET" not in text and "\n" not in text and "proxy" not in text
    assert server.requests == []


# --- Connections


def test_a_thousand_calls_open_one_connection(server, transport):
    request = get(server.url)
    assert {transport(request).body for _ in range(1000)} == {b"hello world"}
    assert (server.connections, len(server.requests)) == (1, 1000)


@plain_and_tls
def test_sixteen_threads_open_at_most_sixteen_connections(server, transport):
    def calls(number):
        server.put(f"s3://bucket/{number}", b"%d" % number)
        return {transport(get(server.url, f"/bucket/{number}")).body for _ in range(50)}

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(calls, range(16))) == [{b"%d" % number} for number in range(16)]
    assert len(server.requests) == 800
    assert 1 <= server.connections <= 16


def test_hosts_and_schemes_do_not_share_connections(server, transport):
    with answering(plain(b"another")) as other, answering(plain(b"third"), tls=True) as third:
        urls = (server.url, other.url, third.url, server.url)
        bodies = [transport(get(url)).body for url in urls]
        transport.close()
    assert bodies == [b"hello world", b"another", b"third", b"hello world"]


@plain_and_tls
def test_a_connection_that_the_server_closed_is_noticed_before_reuse(server, transport):
    server.fail(emu.close_idle())
    assert transport(get(server.url)).body == b"hello world"
    wait_until(lambda: server.open_connections == 0)
    assert transport(get(server.url)).body == b"hello world"
    assert (server.connections, len(server.requests)) == (2, 2)


STRAY = {
    # name: the first answer, and what comes behind it
    "in one piece": plain(b"first") + plain(b"stray"),
    "half of one": plain(b"first") + plain(b"stray")[:30],
    "apart": (plain(b"first"), plain(b"stray")),
    "in small pieces": (plain(b"first"), *[b"HTTP/1.1 200 OK\r\n\r\n"] * 20),
    "behind a record of TLS": plain(bytes(16_300)) + plain(b"stray"),
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("first", STRAY.values(), ids=STRAY)
def test_bytes_behind_an_answer_end_the_connection(transport, first, tls):
    with answering(first, plain(b"second"), tls=tls) as running:
        assert transport(get(running.url)).status == 200
        time.sleep(0.05)  # until all is here
        assert transport(get(running.url)).body == b"second"
        assert running.connections == 2
        transport.close()


@pytest.mark.parametrize("pause, connections", [(1, 1), (20, 1), (3600, 2)])
def test_an_idle_connection_has_an_age_limit(server, pause, connections):
    now = [1000.0]
    transport = made(5, monotonic=lambda: now[0])
    transport(get(server.url))
    now[0] += pause
    transport(get(server.url))
    assert server.connections == connections
    wait_until(lambda: server.open_connections == 1)
    transport.close()


def test_the_number_of_idle_connections_is_bounded(server, transport):
    together = threading.Barrier(100)

    class Sink(io.BytesIO):
        def write(self, data):
            together.wait(10)
            return len(data)

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(lambda _: transport(get(server.url), sink=Sink()), range(100)))
    assert server.connections == 100
    wait_until(lambda: 0 < server.open_connections < 100)
    transport(get(server.url))
    assert server.connections == 100, "some are kept"


def test_close_closes_and_the_transport_stays_usable(server, transport):
    for connections in (1, 2):
        assert transport(get(server.url)).status == 200
        assert server.connections == connections
        transport.close()
        wait_until(lambda: server.open_connections == 0)


FORK = """
import os, smasync

transport = smasync.UrllibTransport(environ={}, ca_bundle=sys.argv[2])

def call():
    request = smasync.Request("GET", sys.argv[1] + "/bucket/key", ())
    assert transport(request).body == b"hello world"

call()
child = os.fork()
if not child:
    failed = 1
    try:
        call()
        call()
        transport.close()
        failed = 0
    finally:
        os._exit(failed)
assert os.waitpid(child, 0)[1] == 0, "the child failed"
call()
transport.close()
"""

if hasattr(os, "fork"):

    @plain_and_tls
    def test_after_a_fork_each_process_has_its_own_connection(server):
        run(FORK, server.url, LOOPBACK)
        assert (server.connections, len(server.requests)) == (2, 4)


# --- Answers


def test_a_redirect_is_an_answer_and_not_followed(server, transport):
    server.fail(emu.redirect(server.url + "/bucket/key"))
    response = transport(get(server.url, "/bucket/other"))
    assert (response.status, response.header("location")) == (302, server.url + "/bucket/key")
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [201, 202, 301, 400, 401, 403, 404, 407, 429, 500, 503, 599])
def test_no_status_is_raised(server, transport, code):
    server.fail(emu.status(code, "SomeCode", "words"))
    response = transport(get(server.url, method="POST"))
    assert (response.status, response.complete) == (code, True)
    assert b"words" in response.body


LONG = bytes(range(256)) * 2000
OK, CHUNKED = "HTTP/1.1 200 OK", ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
ENDS, CONTINUE = "Connection: close", message("HTTP/1.1 100 Continue")
SIZED = f"Content-Length: {len(LONG)}"
# fmt: off
ANSWERS = {
    # name: (raw answer, method, status, body, complete, connection kept)
    "length": (plain(b"hello"), "GET", 200, b"hello", True, True),
    "long": (plain(LONG), "GET", 200, LONG, True, True),
    "length 0": (plain(b""), "GET", 200, b"", True, True),
    "no reason": (message("HTTP/1.1 200", "Content-Length: 2", body=b"ok"), "GET", 200, b"ok", True, True),
    "204": (message("HTTP/1.1 204 No Content"), "GET", 204, b"", True, True),
    "304": (message("HTTP/1.1 304 Not Modified"), "GET", 304, b"", True, True),
    "HEAD": (message(OK, "Content-Length: 5"), "HEAD", 200, b"", True, True),
    "HEAD 404": (message("HTTP/1.1 404 No", "Content-Length: 5"), "HEAD", 404, b"", True, True),
    "chunked": (message(*CHUNKED, body=b"5\r\nhello\r\n6;x=1\r\n world\r\n0\r\nTrailer: 1\r\n\r\n"),
                "GET", 200, b"hello world", True, True),
    "chunked long": (message(*CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(LONG), LONG)),
                     "GET", 200, LONG, True, True),
    "continue first": (CONTINUE * 3 + plain(b"hello"), "GET", 200, b"hello", True, True),
    "until close": (message(OK, body=b"hello"), "GET", 200, b"hello", True, False),
    "until close, long": (message(OK, body=LONG), "GET", 200, LONG, True, False),
    "HTTP/1.0": (message("HTTP/1.0 200 OK", body=b"hello"), "GET", 200, b"hello", True, False),
    "close": (message(OK, "Content-Length: 5", ENDS, body=b"hello"), "GET", 200, b"hello", True, False),
    "close, long": (message(OK, SIZED, ENDS, body=LONG), "GET", 200, LONG, True, False),
    "short": (message(OK, "Content-Length: 9", body=b"hello"), "GET", 200, b"hello", False, False),
    "short, long": (message(OK, SIZED, body=LONG[:-1]), "GET", 200, LONG[:-1], False, False),
    "short to nothing": (message("HTTP/1.1 503 Sorry", "Content-Length: 9"), "GET", 503, b"", False, False),
}
# fmt: on


@pytest.mark.parametrize(
    "raw, method, status, body, complete, kept", ANSWERS.values(), ids=ANSWERS
)
def test_an_answer_is_read_to_its_end_and_no_further(
    transport, raw, method, status, body, complete, kept
):
    with answering(raw, keep=kept) as running:
        for _ in range(2):
            response = transport(get(running.url, method=method))
            assert (response.status, response.complete) == (status, complete)
            assert (len(response.body), response.body) == (len(body), body)
        assert running.connections == (1 if kept else 2)
        transport.close()


CHUNKS = {
    "no last chunk": b"5\r\nhello\r\n",
    "a malformed chunk": b"5\r\nhello\r\nzz\r\n wo",
    "an end within a chunk": b"5\r\nhello\r\n6\r\n wo",
}


@pytest.mark.parametrize("in_file", [False, True], ids=["memory", "sink"])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_broken_chunks_leave_the_status_and_are_never_complete(transport, chunks, in_file):
    sink = io.BytesIO() if in_file else None
    with answering(message(*CHUNKED, body=chunks), keep=False) as running:
        response = transport(get(running.url), sink=sink)
    assert (response.status, response.complete) == (200, False)
    body = response.body + (sink.getvalue() if sink else b"")
    assert b"hello wo".startswith(body)


def test_a_chunk_of_size_minus_one_is_not_all_that_the_server_has(transport):
    def serve(sock):
        running.read_request(sock)
        sock.sendall(message(*CHUNKED, body=b"-1\r\n"))
        for _ in range(64):
            sock.sendall(bytes(MIB))
            taken.append(MIB)

    taken = []
    with RawServer(serve) as running:
        assert transport(get(running.url)).complete is False
    assert len(taken) < 32


@pytest.mark.parametrize("text", ["é日", "a  b", ""], ids=["UTF-8", "ASCII", "nothing"])
def test_header_values_are_read_as_utf_8(transport, text):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Note: " + text.encode() + b"\r\n\r\nhi"
    with answering(head) as running:
        response = transport(get(running.url))
        transport.close()
    assert response == Response(200, (("Content-Length", "2"), ("X-Note", text)), b"hi")


@pytest.mark.parametrize(
    "size, complete", [(MIB - 1, True), (MIB, True), (MIB + 1, False), (10 * MIB, False)]
)
def test_a_body_in_memory_is_kept_up_to_one_mebibyte(server, transport, size, complete):
    server.fail(emu.huge_body(size))
    response = transport(get(server.url))
    assert (len(response.body), response.complete) == (min(size, MIB), complete)
    assert transport(get(server.url)).body == b"hello world", "the rest is nobody's answer"


@plain_and_tls
@pytest.mark.parametrize("missing", [1, 3, 11])
@pytest.mark.parametrize("in_file", [False, True], ids=["memory", "sink"])
def test_a_truncated_body_is_marked(server, transport, missing, in_file):
    sink = io.BytesIO() if in_file else None
    server.fail(emu.truncate(missing))
    response = transport(get(server.url), sink=sink)
    assert (response.status, response.complete) == (200, False)
    assert response.body + (sink.getvalue() if sink else b"") == b"hello world"[:-missing]


# --- The sink


@plain_and_tls
@pytest.mark.parametrize("size", [0, 10, 3 * MIB])
@pytest.mark.parametrize("start, status", [(0, 200), (6, 206)])
def test_a_sink_takes_the_whole_body_of_a_200_or_206(server, transport, size, start, status):
    data, sink = os.urandom(start + size + 1), io.BytesIO()
    server.put("s3://bucket/large", data)
    wanted = (("Range", f"bytes={start}-"),) if start else ()
    response = transport(Request("GET", server.url + "/bucket/large", wanted), sink=sink)
    assert (response.status, response.body, response.complete) == (status, b"", True)
    assert sink.getvalue() == data[start:]


@pytest.mark.parametrize("code", [202, 302, 403, 404, 503])
def test_a_sink_takes_no_other_body(server, transport, code):
    sink = io.BytesIO()
    server.fail(emu.status(code, "SomeCode", "words"))
    response = transport(get(server.url), sink=sink)
    assert (response.status, sink.getvalue()) == (code, b"")
    assert b"words" in response.body


def closed_file():
    file = io.BytesIO()
    file.close()
    return file


class BrokenSink(io.BytesIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, data):
        raise self.error


SINKS = {
    "disk full": (BrokenSink(OSError(errno.ENOSPC, "disk full")), OSError, "disk full"),
    "closed": (closed_file(), ValueError, "closed file"),
    "interrupted": (BrokenSink(KeyboardInterrupt("now")), KeyboardInterrupt, "now"),
}


@pytest.mark.parametrize("sink, error, words", SINKS.values(), ids=SINKS)
def test_an_error_of_the_sink_is_raised_as_it_is(server, transport, sink, error, words):
    with pytest.raises(error, match=words) as raised:
        transport(get(server.url), sink=sink)
    assert not isinstance(raised.value, smasync.Error)
    wait_until(lambda: server.open_connections == 0)


class BrokenFile(io.RawIOBase):
    """Some bytes, and then an error."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def read(self, size=-1):
        if not self.count:
            raise OSError(errno.EIO, "the disk is broken")
        self.count -= 1
        return bytes(PIECE)


def raising(error):
    raise error


FILES = {
    "cannot be opened": (lambda: raising(OSError(errno.ENOENT, "no such file")), "no such file"),
    "was closed": (lambda: raising(ValueError("closed file")), "closed file"),
    "cannot be read": (lambda: BrokenFile(0), "the disk is broken"),
    "cannot be read any more": (lambda: BrokenFile(3), "the disk is broken"),
}


@pytest.mark.parametrize("open_body, words", FILES.values(), ids=FILES)
def test_an_error_of_the_uploaded_file_says_so_at_once(server, transport, open_body, words):
    request = Request(
        "PUT", server.url + "/bucket/key", (("Content-Length", "900000"),), open_body
    )
    started = time.monotonic()
    with pytest.raises((OSError, ValueError), match=words):
        transport(request)
    assert time.monotonic() - started < 2
    assert server.requests == []


# --- What fails after the request was sent

HEADS = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "no number": message("HTTP/1.1 abc OK"),
    "number too long": message("HTTP/1.1 2000 OK"),
    "unknown version": message("HTTP/9.9 200 OK"),
    "endless status line": b"HTTP/1.1 200 " + b"x" * 80_000,
    "endless header": message(OK, "X-Long: " + "x" * 80_000),
    "many headers": message(OK, *(f"X-{number}: 1" for number in range(500))),
    "101": message("HTTP/1.1 101 Switching Protocols", "Upgrade: h2c"),
    "102 before it": message("HTTP/1.1 102 Processing") + plain(b"hello"),
    "103 before it": message("HTTP/1.1 103 Early Hints", "Link: </a>") + plain(b"hello"),
}


@pytest.mark.parametrize("raw", HEADS.values(), ids=HEADS)
def test_what_is_no_plain_http_is_a_protocol_error_and_the_end_of_the_connection(transport, raw):
    with answering(raw, plain(b"second")) as running:
        failure(transport, get(running.url), "protocol", sent=True)
        assert transport(get(running.url)).body == b"second"
        assert running.connections == 2
        transport.close()


def test_an_end_within_the_head_is_an_error_wherever_it_is(transport):
    raw = message("HTTP/1.1 202 Accepted", "X-Output: s3://bucket/key", "Content-Length: 0")
    for size in range(len(raw)):
        with answering(raw[:size], keep=False) as running, pytest.raises(TransportError) as raised:
            transport(get(running.url))
        assert raised.value.kind in ("closed", "protocol") and raised.value.sent, raw[:size]


LIMITS = {"the call's": (30, 0.4), "the transport's": (0.4, 30), "either": (0.4, 0.4)}


@pytest.mark.parametrize("read_timeout, timeout", LIMITS.values(), ids=LIMITS)
def test_the_shorter_time_limit_ends_a_call(server, read_timeout, timeout):
    transport = UrllibTransport(environ={}, read_timeout=read_timeout)
    server.fail(emu.stall(30))
    failure(transport, get(server.url), "timeout", sent=True, seconds=2, timeout=timeout)


def test_each_call_on_a_connection_has_its_own_time_limit(transport):
    delays = iter([0.0, 0.6, 30.0])
    over = threading.Event()

    def serve(sock):
        while running.read_request(sock) and not over.wait(next(delays)):
            sock.sendall(plain(b"answer"))

    with RawServer(serve) as running:
        assert transport(get(running.url), timeout=0.3).body == b"answer"
        assert transport(get(running.url), timeout=20).body == b"answer"
        began = time.monotonic()
        failure(transport, get(running.url), "timeout", sent=True, timeout=0.4)
        assert time.monotonic() - began > 0.39
        over.set()
    assert (running.connections, len(running.requests)) == (1, 3)


SLOW = {
    # name: (to a sink, the call's time limit, whether it is read to its end)
    "in memory": (False, None, False),
    "to a sink": (True, None, True),
    "to a sink, in a call with a limit": (True, 0.7, False),
}


@pytest.mark.parametrize("in_file, timeout, complete", SLOW.values(), ids=SLOW)
def test_the_time_limit_is_for_each_piece_of_a_streamed_result(in_file, timeout, complete):
    def serve(sock):
        running.read_request(sock)
        sock.sendall(message(OK, f"Content-Length: {10 * PIECE}"))
        for _ in range(10):
            running.closing.wait(0.15)
            sock.sendall(bytes(PIECE))

    started = time.monotonic()
    with RawServer(serve) as running:
        response = made(0.6)(
            get(running.url), sink=io.BytesIO() if in_file else None, timeout=timeout
        )
        assert (response.status, response.complete) == (200, complete)
        assert complete or time.monotonic() - started < 1.3


def test_an_answer_before_all_of_an_upload_was_sent_is_returned(transport):
    def serve(sock):
        read_head(sock)
        sock.sendall(message("HTTP/1.1 413 Too Large", "Content-Length: 2", ENDS, body=b"no"))
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(MIB):
            pass

    with RawServer(serve) as running:
        response = transport(upload(running.url, 50 * MIB))
    assert (response.status, response.body) == (413, b"no")


def upload(url, size):
    headers = (("Content-Length", str(size)),)
    return Request("PUT", url + "/b/k", headers, lambda: io.BytesIO(bytes(size)))


def test_the_time_limit_is_for_each_piece_of_an_upload():
    count, size = 16, 2 * MIB

    def serve(sock):
        raw = read_head(sock).partition(b"\r\n\r\n")[2]
        left = count * size - len(raw)
        while left > 0:
            until = max(0, left - size)
            running.closing.wait(0.1)
            while left > until:
                left -= len(sock.recv(left - until)) or left
        sock.sendall(plain(b"thanks"))

    started = time.monotonic()
    with RawServer(serve) as running:
        transport = made(1.0)
        assert transport(upload(running.url, count * size)).body == b"thanks"
        transport.close()
    assert time.monotonic() - started > 1.4


# --- What fails before the request was sent


LOOK_UPS = """
import smasync

names = []
sys.addaudithook(lambda event, args: event == "socket.getaddrinfo" and names.append(args[0]))
keys = smasync.Credentials("AKIDEXAMPLE", "secret")
url = f"https://{sys.argv[1]}"
client = smasync.RuntimeClient(
    "us-east-1", endpoint_url=url, credentials=keys, environ={}, sleep=lambda seconds: None
)
try:
    client.invoke_endpoint_async(EndpointName="e", InputLocation="s3://bucket/in.json")
except smasync.TransportError as error:
    print(names.count(sys.argv[1]), error.kind, error.sent, error)
"""


def test_a_name_that_does_not_resolve_is_looked_up_again_and_then_explained():
    said = run(LOOK_UPS, NOWHERE)
    assert said.startswith(f"3 connect False {NOWHERE}: ") and "check the region" in said


def full_house(address, port=0):
    """A listener with no room for another connection, and what fills it: who connects waits."""
    sockets = [socket.socket()]
    sockets[0].bind((address, port))
    sockets[0].listen(0)
    with contextlib.suppress(socket.timeout):
        while True:
            sockets.append(socket.create_connection(sockets[0].getsockname(), 0.2))
    return sockets


ADDRESSES = """
import json, socket, time
import smasync

look_up, (name, port, addresses, connect_timeout, timeout) = socket.getaddrinfo, json.loads(sys.argv[1])

def resolve(host, *rest, **options):  # this process's DNS
    hosts = addresses if host == name else [host]
    return [entry for host in hosts for entry in look_up(host, *rest, **options)]

socket.getaddrinfo = resolve
transport = smasync.UrllibTransport(connect_timeout=connect_timeout, environ={})
began = time.monotonic()
try:
    said = transport(smasync.Request("GET", f"http://{name}:{port}/", ()), timeout=timeout).status
except smasync.TransportError as error:
    said = error.kind
transport.close()
print(said, time.monotonic() - began < 2)
"""
SILENT, DEAD, GOOD = "127.0.0.2", "127.0.0.3", "127.0.0.1"
HOSTS = {
    # name: (addresses, connect_timeout, timeout, what comes within two seconds)
    "the first refuses": ([DEAD, GOOD], 10, None, "200"),
    "all refuse": ([DEAD, DEAD], 10, None, "connect"),
    "the first two are silent": ([SILENT, SILENT, GOOD], 0.3, None, "200"),
    "all are silent": ([SILENT, SILENT], 0.3, None, "timeout"),
    "the call's limit is within one": ([SILENT] * 9, 10, 0.4, "timeout"),
    "the call's limit is between two": ([SILENT] * 9, 0.3, 0.4, "timeout"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="others have no 127.0.0.2")
def test_the_addresses_of_a_host_are_tried_in_turn_within_the_time_limits():
    with answering(plain(b"hello")) as running:
        silent = full_house(SILENT, running.port)
        for case, (addresses, connect_timeout, timeout, expected) in HOSTS.items():
            what = [NOWHERE, running.port, addresses, connect_timeout, timeout]
            assert (case, run(ADDRESSES, json.dumps(what))) == (case, f"{expected} True")
        for sock in silent:
            sock.close()


# --- TLS


@over_tls
def test_a_certificate_that_does_not_verify_is_a_tls_error(server):
    error = failure(made(5, None), get(server.url), "tls", sent=False)
    assert "AWS_CA_BUNDLE" in str(error) and not error.retryable
    assert server.requests == []


@over_tls
def test_tls_connections_are_kept_alive_and_long_answers_whole(server, transport):
    server.put("s3://bucket/long", LONG)
    assert {transport(get(server.url)).body for _ in range(50)} == {b"hello world"}
    assert {transport(get(server.url, "/bucket/long")).body for _ in range(3)} == {LONG}
    assert server.connections == 1


@over_tls
def test_without_verification_there_is_one_warning_and_any_certificate_will_do(server):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport = made(5, False)
        assert transport(get(server.url)).body == b"hello world"
        transport.close()
        assert transport(get(server.url)).body == b"hello world"
        transport.close()
    assert [(warning.category, "verify=False" in str(warning.message)) for warning in caught] == [
        (UserWarning, True)
    ]


BUNDLES = {
    "missing": lambda folder: folder / "no-such-bundle.pem",
    "empty": lambda folder: folder / "empty.pem",
    "not a bundle": lambda folder: folder / "text.pem",
    "a folder": lambda folder: folder,
}


@over_tls
@pytest.mark.parametrize("make", BUNDLES.values(), ids=BUNDLES)
def test_an_unusable_ca_bundle_is_named(server, tmp_path, make):
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "text.pem").write_text("This is no certificate.\n")
    bundle = str(make(tmp_path))
    with pytest.raises(ConfigurationError, match=re.escape(bundle)):
        made(5, bundle)(get(server.url))
    assert server.requests == []


# What an inspecting proxy has: a CA whose basicConstraints are not critical, and certificates
# without key identifiers. Python's strict verification, the default from 3.13 on, refuses both.
INSPECTOR = """
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = CA:TRUE
[leaf]
subjectAltName = DNS:localhost
"""
MAKE_INSPECTOR = """
req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=Inspector -config cnf -extensions ca
req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=localhost -config cnf
x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 2 -extfile cnf -extensions leaf -out leaf.pem
"""  # noqa: E501
CALL = """
import smasync

transport = smasync.UrllibTransport(environ={}, ca_bundle=sys.argv[2])
try:
    print(transport(smasync.Request("GET", sys.argv[1] + "/bucket/key", ())).status)
except smasync.TransportError as error:
    print(error.kind, error)
transport.close()
"""


@pytest.fixture(scope="module")
def inspector(tmp_path_factory):
    """The folder with the CA's ca.pem, and chain.pem for a server."""
    folder = tmp_path_factory.mktemp("inspector")
    (folder / "cnf").write_text(INSPECTOR)
    for line in MAKE_INSPECTOR.strip().splitlines():
        command = ["openssl", *line.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    chain = (folder / "leaf.key").read_text() + (folder / "leaf.pem").read_text()
    (folder / "chain.pem").write_text(chain)
    return folder


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
@over_tls
def test_a_bundle_of_the_users_is_trusted_though_its_certificates_are_not_strict(
    server, inspector
):
    server.tls_context = emu.server_context(inspector / "chain.pem")
    strict = ssl.create_default_context(cafile=inspector / "ca.pem")
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    address = ("127.0.0.1", port_of(server))
    with pytest.raises(ssl.SSLError), socket.create_connection(address) as sock:
        strict.wrap_socket(sock, server_hostname="localhost")
    assert run(CALL, server.url, inspector / "ca.pem") == "200"
    said = run(CALL, server.url, LOOPBACK)
    assert said.startswith("tls localhost:") and "AWS_CA_BUNDLE" not in said


# --- Proxies


def through(running, scheme="http", login=f"user:{PASSWORD}@", ca_bundle=False, **environ):
    """A transport that goes through the server for everything of a scheme."""
    url = f"http://{login}127.0.0.1:{running.port}"
    return made(2, ca_bundle, environ={f"{scheme.upper()}_PROXY": url, **environ})


BASIC = b"Basic " + base64.b64encode(f"user:{PASSWORD}".encode())


def proxy_authorization(head):
    found = re.findall(rb"(?im)^proxy-authorization: *(.*?)\r$", head)
    return found[0] if len(found) == 1 else found


@over_tls
def test_https_goes_through_a_tunnel_and_the_password_stays_at_the_proxy(server):
    with proxy(port_of(server)) as running:
        transport = through(running, "https")
        request = signed_request(f"https://{NOWHERE}", b"{}")
        for _ in range(3):
            assert transport(request).status in (202, 400)
        assert {received.raw for received in server.requests} == {wire(request)}
        transport.close()
    assert running.requests[0].startswith(b"CONNECT %b:443 HTTP/1." % NOWHERE.encode())
    assert proxy_authorization(running.requests[0]) == BASIC
    assert (running.connections, server.connections, len(running.requests)) == (1, 1, 1)


@over_tls
def test_a_tunnel_keeps_the_port_of_the_url(server):
    with proxy(port_of(server)) as running:
        transport = through(running, "https", login="")
        assert transport(get(f"https://{NOWHERE}:8443")).body == b"hello world"
        transport.close()
    assert running.requests[0].startswith(b"CONNECT %b:8443 HTTP/1." % NOWHERE.encode())
    assert proxy_authorization(running.requests[0]) == []


@over_tls
def test_what_a_proxy_says_before_tls_begins_is_no_answer_of_the_services(server):
    smuggled = message("HTTP/1.1 202 Accepted", "Content-Length: 2", body=b"{}")
    with proxy(port_of(server), message(OK) + smuggled) as running:
        transport = through(running, "https")
        with contextlib.suppress(TransportError):
            assert transport(get(f"https://{NOWHERE}")).body == b"hello world"
        transport.close()


@over_tls
def test_a_certificate_is_verified_through_a_tunnel_too(server):
    with proxy(port_of(server)) as running:
        transport = through(running, "https", ca_bundle=LOOPBACK)
        error = failure(transport, get(f"https://{NOWHERE}"), "tls", sent=False)
    assert PASSWORD not in str(error) and "AWS_CA_BUNDLE" not in str(error)
    assert server.requests == []


@plain_and_tls
def test_a_request_without_host_gets_that_of_its_url_not_the_proxys(server):
    scheme = server.url.partition(":")[0]
    with proxy(port_of(server)) as running:
        transport = through(running, scheme)
        transport(get(f"{scheme}://{NOWHERE}:8443"))
        transport.close()
    assert server.requests[0].header("host") == f"{NOWHERE}:8443"


@pytest.mark.parametrize("login", ["", f"user:{PASSWORD}@"], ids=["open", "with password"])
def test_http_goes_through_a_proxy_in_absolute_form(server, login):
    with proxy(port_of(server)) as running:
        transport = through(running, login=login)
        request = signed_request(f"http://{NOWHERE}", b"{}", path="/bucket//a%2Fb/../c?x=%2F")
        for _ in range(3):
            transport(request)
        transport.close()
    (raw,) = {received.raw for received in server.requests}
    expected = wire(request, target=request.url)
    assert re.sub(rb"(?i)proxy-authorization: .*?\r\n", b"", raw) == expected
    assert proxy_authorization(raw) == (BASIC if login else [])
    assert (running.connections, len(server.requests)) == (1, 3)


def test_a_password_is_decoded_before_it_is_sent(server):
    with proxy(port_of(server)) as running:
        transport = through(running, login="us%40er:p%3Aa%2Fss@")
        transport(get(f"http://{NOWHERE}"))
        transport.close()
    expected = b"Basic " + base64.b64encode(b"us@er:p:a/ss")
    assert proxy_authorization(running.requests[0]) == expected


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "Http_Proxy"])
@pytest.mark.parametrize("url", ["127.0.0.1:{}", "http://127.0.0.1:{}/"])
def test_a_proxy_may_be_given_without_a_scheme_and_with_a_slash(server, name, url):
    with proxy(port_of(server)) as running:
        transport = made(2, environ={name: url.format(running.port)})
        assert transport(get(f"http://{NOWHERE}")).body == b"hello world"
        transport.close()


NO_PROXY = {
    "the name": (NOWHERE, False),
    "the domain": (".invalid", False),
    "the domain without a dot": ("invalid", False),
    "everything": ("*", False),
    "among others": (f"example.com, {NOWHERE}", False),
    "another": ("example.com", True),
    "part of the name": ("maker.invalid", True),
}


@pytest.mark.parametrize("value, proxied", NO_PROXY.values(), ids=NO_PROXY)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy_is_honoured(server, name, value, proxied):
    with proxy(port_of(server)) as running:
        transport = through(running, **{name: value})
        with contextlib.nullcontext() if proxied else pytest.raises(TransportError):
            assert transport(get(f"http://{NOWHERE}")).body == b"hello world"
        transport.close()
    assert len(running.requests) == proxied


UNPROXIED = {
    # name: (scheme of the variable, other variables)
    "for another scheme": ("https", {}),
    "of a stranger, in a CGI script": ("http", {"REQUEST_METHOD": "GET"}),
}


@pytest.mark.parametrize("scheme, environ", UNPROXIED.values(), ids=UNPROXIED)
def test_a_proxy_that_is_not_for_this_is_not_asked(server, scheme, environ):
    with proxy(port_of(server)) as running:
        transport = through(running, scheme, **environ)
        failure(transport, get(f"http://{NOWHERE}"), "connect", sent=False)
    assert running.requests == []


LOCAL = """
127.0.0.1 localhost LocalHost [::1] 169.254.169.254 169.254.170.2 169.254.170.23
[fd00:ec2::254] [fd00:ec2::23] [FD00:EC2::254]
""".split()


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_this_machine_and_the_metadata_services_are_never_proxied(scheme, host):
    with answering(plain(b"")) as running:
        transport = through(running, scheme)
        with contextlib.suppress(TransportError):
            transport(get(f"{scheme}://{host}:{free_port()}"), timeout=0.2)
        transport.close()
    assert running.requests == []


REFUSALS = {
    # name: (the proxy's answer, retryable, words of the error)
    "407": (message("HTTP/1.1 407 Proxy Authentication Required"), False, "not NTLM or Negotiate"),
    "403": (message("HTTP/1.1 403 Forbidden", "Content-Length: 2", body=b"no"), False, "403"),
    "502": (message("HTTP/1.1 502 Bad Gateway"), True, "502"),
    "hangs up": (b"", True, "cannot connect through this proxy"),
    "garbage": (b"\x16\x03\x03 no proxy\r\n\r\n", True, "cannot connect through this proxy"),
}


@pytest.mark.parametrize("answer, retryable, words", REFUSALS.values(), ids=REFUSALS)
def test_a_proxy_that_refuses_is_a_proxy_error(answer, retryable, words):
    with proxy(0, answer) as running:
        transport = through(running, "https")
        error = failure(transport, get(f"https://{NOWHERE}"), "proxy", sent=False)
        assert error.retryable == retryable and words in str(error)
        assert f"127.0.0.1:{running.port}" in str(error)
    assert PASSWORD not in str(error) and BASIC.decode() not in str(error)
    assert len(running.requests) == 1


@pytest.mark.parametrize("scheme, kind", [("http", "connect"), ("https", "proxy")])
@pytest.mark.parametrize("host", ["127.0.0.1", "proxy.invalid"])
def test_a_proxy_that_is_not_there_is_named_without_its_password(host, scheme, kind):
    host = f"{host}:{free_port()}"
    transport = made(5, environ={f"{scheme}_proxy": f"http://user:{PASSWORD}@{host}"})
    error = failure(transport, get(f"{scheme}://{NOWHERE}"), kind, sent=False)
    assert host in str(error) and PASSWORD not in str(error) and error.retryable


PROXY_URLS = {
    "no host": f"http://user:{PASSWORD}@",
    "port is a word": f"http://user:{PASSWORD}@proxy.invalid:{PASSWORD}",
    "port too large": f"http://user:{PASSWORD}@proxy.invalid:99999",
    "half an address": f"http://user:{PASSWORD}@[::1",
    "one slash": f"http:/user:{PASSWORD}@proxy.invalid",
    "TLS": f"https://user:{PASSWORD}@127.0.0.1:443",
    "socks": f"socks5://user:{PASSWORD}@127.0.0.1:1080",
    "socks with DNS": f"socks5h://user:{PASSWORD}@127.0.0.1:1080",
    "ftp": f"ftp://user:{PASSWORD}@proxy.invalid",
    "line break": f"http://user:{PASSWORD}@proxy.invalid\r\nX-Evil: 1",
    "empty label": f"http://user:{PASSWORD}@proxy..invalid",
}


@pytest.mark.parametrize("url", PROXY_URLS.values(), ids=PROXY_URLS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_malformed_proxy_is_a_configuration_error_without_its_password(scheme, url):
    with pytest.raises(ConfigurationError, match=f"{scheme.upper()}_PROXY") as raised:
        made(2, environ={f"{scheme}_proxy": url})(get(f"{scheme}://{NOWHERE}"))
    shown = [raised.value, raised.value.__cause__]
    assert PASSWORD not in "".join(map(str, shown))
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
