"""Transport: the bytes that go out, the connections they use, and every way in which that fails."""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import io
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulator as emu
import pytest
from emulator import Emulator
from hypothesis import given, settings
from hypothesis import strategies as st

import smasync
from smasync import (
    ConfigurationError,
    Credentials,
    ParamValidationError,
    Request,
    Response,
    TransportError,
    UrllibTransport,
    ascii_host,
)

MIB = 1 << 20
NOWHERE = "sagemaker.invalid"  # RFC 2606: no DNS has it, only the proxies below know the way
PASSWORD = "pa55-w0rd"


@pytest.fixture(params=["Linux", "elsewhere"], autouse=True)
def system(request, monkeypatch):
    """Each test also without what Linux alone has: its word on idle lines, and recv that waits."""
    if request.param == "elsewhere":
        monkeypatch.setattr(smasync, "IS_LINUX", False)


@pytest.fixture
def server():
    """An emulator with one object, that takes any signature; left without open connections."""
    with Emulator(check_signatures=False) as running:
        running.put("s3://bucket/key", b"hello world", "text/plain")
        yield running
        gc.collect()  # a socket that nobody closed is a ResourceWarning now, and so an error
        wait_until(lambda: running.open_connections == 0)


@pytest.fixture
def transport():
    made = UrllibTransport(connect_timeout=5, read_timeout=5, environ={})
    yield made
    made.close()


@pytest.fixture
def hasty():
    made = UrllibTransport(connect_timeout=0.4, read_timeout=0.4, environ={})
    yield made
    made.close()


def get(url, path="/bucket/key", method="GET"):
    return Request(method, url + path, (("Accept", "*/*"),))


def wait_until(condition, seconds=5.0):
    """Returns once the condition holds; AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def failure(transport, request, kind, *, sent, **options):
    """The TransportError that the request ends in, of that kind."""
    started = time.monotonic()
    with pytest.raises(TransportError) as raised:
        transport(request, **options)
    assert time.monotonic() - started < 4, "no time limit cut this off"
    assert (raised.value.kind, raised.value.sent) == (kind, sent), str(raised.value)
    assert isinstance(raised.value, OSError)
    return raised.value


# --- Servers made by hand


class RawServer:
    """Calls serve(sock) for each connection, in a thread of its own; a context manager."""

    def __init__(self, serve):
        self.serve, self.connections, self.requests = serve, 0, []
        self.closing = threading.Event()
        self._sockets, self._threads = [], []

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._start(self._accept)
        return self

    def __exit__(self, *exc):
        self.closing.set()
        self._threads[0].join(5)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _start(self, target, *arguments):
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self):
        while not self.closing.is_set():
            with contextlib.suppress(socket.timeout):
                sock, _ = self._listener.accept()
                self.connections += 1
                self._sockets.append(sock)
                self._start(self._run, sock)

    def _run(self, sock):
        with sock, contextlib.suppress(OSError):
            self.serve(sock)

    def read_request(self, sock):
        """Reads and remembers one request; b"" when the client has gone."""
        raw = read_head(sock)
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", raw)
        size = raw.find(b"\r\n\r\n") + 4 + int(length[1] if length else 0)
        while raw and len(raw) < size:
            raw += sock.recv(65_536)
        if raw:
            self.requests.append(raw)
        return raw

    def pump(self, source, target):
        """Copies what comes from the source to the target, until either ends."""
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65_536)
                if not data:
                    break
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def read_head(sock):
    raw = b""
    while b"\r\n\r\n" not in raw:
        data = sock.recv(65_536)
        if not data:
            return b""
        raw += data
    return raw


def answering(*answers, keep=True):
    """A RawServer that gives its n-th request the n-th answer, the last one ever after."""

    def serve(sock):
        while running.read_request(sock):
            sock.sendall(answers[min(len(running.requests), len(answers)) - 1])
            if not keep:
                return

    running = RawServer(serve)
    return running


def proxy(target_port, answer=b"HTTP/1.1 200 Connection established\r\n\r\n"):
    """A RawServer that forwards everything to the port, CONNECT only if its answer says 200."""

    def serve(sock):
        head = read_head(sock)
        running.requests.append(head)
        is_connect = head.startswith(b"CONNECT ")
        if is_connect:
            sock.sendall(answer)
        if is_connect and b" 200 " not in answer:
            return
        with socket.create_connection(("127.0.0.1", target_port)) as upstream:
            if not is_connect:
                upstream.sendall(head)
            running._sockets.append(upstream)
            running._start(running.pump, upstream, sock)
            running.pump(sock, upstream)

    running = RawServer(serve)
    return running


def free_port():
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def message(*lines, body=b""):
    """An HTTP answer of these lines and this body."""
    return "\r\n".join([*lines, "", ""]).encode() + body


def plain(body):
    return message("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", body=body)


# --- What goes over the wire


def signed_request(url, body=b"", path="/endpoints/e/async-invocations", headers=()):
    credentials = Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY, "TOKEN")
    length = (("Content-Length", str(len(body))),)
    return smasync.sign(
        Request("POST", url + path, (*headers, *length), body),
        credentials,
        region="us-east-1",
        service="sagemaker",
        timestamp="20150830T123600Z",
    ).request


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


PATHS = [
    "/bucket/a%20b",
    "/bucket//double//",
    "//bucket/key",
    "/bucket/../up/./here/..",
    "/bucket/a%2Fb%2fc",
    "/bucket/~!$&'()*+,;=:@",
    "/bucket/%E2%82%AC",
    "/bucket/key?",
    "/bucket/key?versionId=a%2Bb&x&y=",
    "/bucket/key?a=http://other.invalid/?b//c",
    "/http://other.invalid/",
    "/bucket/%",
    "/",
]


@pytest.mark.parametrize("path", PATHS)
def test_an_odd_path_arrives_as_it_was_given(server, transport, path):
    transport(get(server.url, path))
    assert server.requests[0].target == path


def test_any_path_arrives_as_it_was_given(server, transport):
    @settings(max_examples=200)
    @given(st.text("/.%aZ0~!$&'()*+,;=:@?[]", max_size=30))
    def check(path):
        transport(get(server.url, "/" + path))
        assert server.requests[-1].target == "/" + path

    check()


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


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\r\nX-Evil: 1", "a\r\n b", "\0", "SECRET\n"])
def test_a_header_value_with_a_line_break_or_nul_is_refused_unsent(server, transport, value):
    request = Request("GET", server.url + "/", (("X-Good", "1"), ("X-Bad", value)))
    with pytest.raises(ParamValidationError, match="X-Bad") as raised:
        transport(request)
    assert value.strip() not in str(raised.value) or value == "\0"
    assert "SECRET" not in str(raised.value) and "Evil" not in str(raised.value)
    assert server.requests == []


MALFORMED = {
    "line break in a name": ("/", "GET", (("X-Bad\r\nX-Evil", "1"),)),
    "half a character in a value": ("/", "GET", (("X-Bad", "\ud800"),)),
    "space in the URL": ("/a b", "GET", ()),
    "line break in the URL": ("/a\r\nX-Evil: 1", "GET", ()),
    "non-ASCII in the URL": ("/ü", "GET", ()),
    "line break in the method": ("/", "GET / HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET", ()),
}


@pytest.mark.parametrize("path, method, headers", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused_unsent_and_no_proxy_is_blamed(
    server, transport, path, method, headers
):
    with pytest.raises(smasync.Error) as raised:
        transport(Request(method, server.url + path, headers))
    assert "proxy" not in str(raised.value)
    assert server.requests == []


# --- Connections


def test_a_thousand_calls_open_one_connection(server, transport):
    request = get(server.url)
    assert {transport(request).body for _ in range(1000)} == {b"hello world"}
    assert (server.connections, len(server.requests)) == (1, 1000)


def test_sixteen_threads_open_at_most_sixteen_connections(server, transport):
    def calls(number):
        server.put(f"s3://bucket/{number}", b"%d" % number)
        return {transport(get(server.url, f"/bucket/{number}")).body for _ in range(50)}

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(calls, range(16))) == [{b"%d" % number} for number in range(16)]
    assert len(server.requests) == 800
    assert 1 <= server.connections <= 16


def test_hosts_and_schemes_do_not_share_connections(server, transport):
    with answering(plain(b"another")) as other:
        bodies = [transport(get(url)).body for url in (server.url, other.url, server.url)]
    assert bodies == [b"hello world", b"another", b"hello world"]


def test_a_connection_that_the_server_closed_is_noticed_before_reuse(server, transport):
    server.fail(emu.close_idle())
    assert transport(get(server.url)).body == b"hello world"
    wait_until(lambda: server.open_connections == 0)
    assert transport(get(server.url)).body == b"hello world"
    assert (server.connections, len(server.requests)) == (2, 2)


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
        with pytest.raises(TransportError) as raised:
            transport(get(running.url), timeout=0.4)
        took = time.monotonic() - began
        over.set()
    assert (raised.value.kind, len(running.requests)) == ("timeout", 3)
    assert 0.39 < took < 10


def test_a_connection_with_stray_bytes_is_not_used_again(transport):
    stray = threading.Event()

    def serve(sock):
        while running.read_request(sock):
            sock.sendall(plain(b"number %d" % len(running.requests)))
            if len(running.requests) == 1:
                sock.sendall(plain(b"stray"))
                stray.set()

    with RawServer(serve) as running:
        assert transport(get(running.url)).body == b"number 1"
        assert stray.wait(5)
        assert transport(get(running.url)).body == b"number 2"
        transport.close()


def test_bytes_behind_an_answer_are_never_taken_for_the_next(transport):
    with answering(plain(b"first") + plain(b"stray"), plain(b"second")) as running:
        assert [transport(get(running.url)).body for _ in "12"] == [b"first", b"second"]
        transport.close()


@pytest.mark.parametrize(
    "pause, connections", [(1, 1), (20, 1), (3600, 2)], ids=["young", "middle", "old"]
)
def test_an_idle_connection_has_an_age_limit(server, pause, connections):
    now = [1000.0]
    transport = UrllibTransport(environ={}, monotonic=lambda: now[0])
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
import os, sys
sys.path.insert(0, sys.argv[1])
import smasync

transport = smasync.UrllibTransport(environ={}, ca_bundle=sys.argv[3])

def call():
    request = smasync.Request("GET", sys.argv[2] + "/bucket/key", ())
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

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    def test_after_a_fork_each_process_has_its_own_connection(tls):
        with Emulator(check_signatures=False, tls=tls) as server:
            server.put("s3://bucket/key", b"hello world")
            home = str(Path(smasync.__file__).resolve().parent)
            command = [sys.executable, "-W", "error", "-c", FORK, home, server.url]
            done = subprocess.run(
                [*command, server.ca_bundle], capture_output=True, text=True, timeout=20
            )
            assert (done.returncode, done.stderr) == (0, "")
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
CHUNKED = ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
ANSWERS = {
    # name: (raw answer, method, status, body, complete, connection kept)
    "length": (plain(b"hello"), "GET", 200, b"hello", True, True),
    "long": (plain(LONG), "GET", 200, LONG, True, True),
    "length 0": (plain(b""), "GET", 200, b"", True, True),
    "no reason": (
        message("HTTP/1.1 200", "Content-Length: 2", body=b"ok"), "GET", 200, b"ok", True, True,
    ),
    "204": (message("HTTP/1.1 204 No Content"), "GET", 204, b"", True, True),
    "304": (message("HTTP/1.1 304 Not Modified"), "GET", 304, b"", True, True),
    "HEAD": (message("HTTP/1.1 200 OK", "Content-Length: 5"), "HEAD", 200, b"", True, True),
    "HEAD 404": (message("HTTP/1.1 404 No", "Content-Length: 5"), "HEAD", 404, b"", True, True),
    "chunked": (
        message(*CHUNKED, body=b"5\r\nhello\r\n6;x=1\r\n world\r\n0\r\nTrailer: 1\r\n\r\n"),
        "GET", 200, b"hello world", True, True,
    ),
    "chunked long": (
        message(*CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(LONG), LONG)),
        "GET", 200, LONG, True, True,
    ),
    "continue first": (
        message("HTTP/1.1 100 Continue") * 3 + plain(b"hello"), "GET", 200, b"hello", True, True,
    ),
    "until close": (message("HTTP/1.1 200 OK", body=b"hello"), "GET", 200, b"hello", True, False),
    "until close, long": (message("HTTP/1.1 200 OK", body=LONG), "GET", 200, LONG, True, False),
    "HTTP/1.0": (message("HTTP/1.0 200 OK", body=b"hello"), "GET", 200, b"hello", True, False),
    "connection close": (
        message("HTTP/1.1 200 OK", "Content-Length: 5", "Connection: close", body=b"hello"),
        "GET", 200, b"hello", True, False,
    ),
    "connection close, long": (
        message(
            "HTTP/1.1 200 OK", f"Content-Length: {len(LONG)}", "Connection: close", body=LONG
        ),
        "GET", 200, LONG, True, False,
    ),
    "short": (
        message("HTTP/1.1 200 OK", "Content-Length: 9", body=b"hello"),
        "GET", 200, b"hello", False, False,
    ),
    "short, long": (
        message("HTTP/1.1 200 OK", f"Content-Length: {len(LONG) + 1}", body=LONG),
        "GET", 200, LONG, False, False,
    ),
    "short to nothing": (
        message("HTTP/1.1 503 Sorry", "Content-Length: 9"), "GET", 503, b"", False, False,
    ),
    "no last chunk": (
        message(*CHUNKED, body=b"5\r\nhello\r\n"), "GET", 200, b"hello", False, False,
    ),
    "malformed chunk": (
        message(*CHUNKED, body=b"5\r\nhello\r\nzz\r\n"), "GET", 200, b"hello", False, False,
    ),
}  # fmt: skip


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


def test_a_body_that_ends_within_a_chunk_has_at_least_the_chunks_before(transport):
    raw = message(*CHUNKED, body=b"5\r\nhello\r\n6\r\n wo")
    with answering(raw, keep=False) as running:
        response = transport(get(running.url))
    assert response.body in (b"hello", b"hello wo") and not response.complete


@pytest.mark.parametrize(
    "raw, text",
    [("é日".encode(), "é日"), (b"\xe9", "é"), (b"a  b", "a  b"), (b"", "")],
    ids=["utf-8", "latin-1", "ascii", "empty"],
)
def test_header_values_are_read_as_utf_8_where_they_are(transport, raw, text):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Note: " + raw + b"\r\n\r\n"
    with answering(head) as running:
        response = transport(get(running.url))
        transport.close()
    assert response.headers == (("Content-Length", "0"), ("X-Note", text))


@pytest.mark.parametrize(
    "size, complete", [(MIB - 1, True), (MIB, True), (MIB + 1, False), (10 * MIB, False)]
)
def test_a_body_in_memory_is_kept_up_to_one_mebibyte(server, transport, size, complete):
    server.fail(emu.huge_body(size))
    response = transport(get(server.url))
    assert (len(response.body), response.complete) == (min(size, MIB), complete)
    assert transport(get(server.url)).body == b"hello world", "the rest is nobody's answer"


@pytest.mark.parametrize("missing", [1, 3, 11])
def test_a_truncated_body_is_marked(server, transport, missing):
    server.fail(emu.truncate(missing))
    response = transport(get(server.url))
    assert (response.status, response.complete) == (200, False)
    assert response.body == b"hello world"[:-missing]


def test_a_body_that_drips_is_cut_off_and_keeps_its_status(server, hasty):
    server.fail(emu.slow_body(0.1))
    started = time.monotonic()
    response = hasty(get(server.url))
    assert time.monotonic() - started < 2
    assert (response.status, response.complete) == (200, False)
    assert b"hello world".startswith(response.body) and len(response.body) < 11


# --- The sink


@pytest.mark.parametrize("size", [0, 11, 3 * MIB])
def test_a_sink_takes_the_whole_body_of_a_200(server, transport, size):
    data, sink = os.urandom(size), io.BytesIO()
    server.put("s3://bucket/large", data)
    response = transport(get(server.url, "/bucket/large"), sink=sink)
    assert (response.status, response.body, response.complete) == (200, b"", True)
    assert sink.getvalue() == data


def test_a_sink_takes_the_body_of_a_206(server, transport):
    sink = io.BytesIO()
    request = Request("GET", server.url + "/bucket/key", (("Range", "bytes=6-"),))
    assert (transport(request, sink=sink).status, sink.getvalue()) == (206, b"world")


@pytest.mark.parametrize("code", [202, 302, 403, 404, 503])
def test_a_sink_takes_no_other_body(server, transport, code):
    sink = io.BytesIO()
    server.fail(emu.status(code, "SomeCode", "words"))
    response = transport(get(server.url), sink=sink)
    assert (response.status, sink.getvalue()) == (code, b"")
    assert b"words" in response.body


def test_a_truncated_body_in_a_sink_is_marked(server, transport):
    sink = io.BytesIO()
    server.fail(emu.truncate(3))
    assert transport(get(server.url), sink=sink).complete is False
    assert sink.getvalue() == b"hello wo"


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


BODIES = {
    "cannot be opened": (OSError(errno.ENOENT, "no such file"), OSError, "no such file"),
    "was closed": (ValueError("closed file"), ValueError, "closed file"),
}


@pytest.mark.parametrize("cause, error, words", BODIES.values(), ids=BODIES)
def test_an_error_of_the_uploaded_file_is_raised_as_it_is(server, hasty, cause, error, words):
    def open_body():
        raise cause

    headers = (("Content-Length", "5"),)
    with pytest.raises(error, match=words) as raised:
        hasty(Request("PUT", server.url + "/bucket/key", headers, open_body))
    assert not isinstance(raised.value, smasync.Error)
    assert server.requests == []


# --- What fails after the request was sent

FAULTS = {
    "garbage": (emu.garbage(), "protocol"),
    "reset before it was read": (emu.reset_before(), "closed"),
    "reset after it was read": (emu.reset_after(), "closed"),
    "reset after it was accepted": (emu.accept_then_reset(), "closed"),
    "closed without an answer": (emu.close_after(), "closed"),
    "silence": (emu.stall(30), "timeout"),
    "a byte every 100 ms": (emu.drip(0.1), "timeout"),
    "100 Continue for ever": (emu.continue_forever(), "timeout"),
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("fault, kind", FAULTS.values(), ids=FAULTS)
def test_without_an_answer_the_request_may_have_arrived(fault, kind, tls):
    with Emulator(check_signatures=False, tls=tls) as server:
        transport = UrllibTransport(
            connect_timeout=2, read_timeout=0.5, environ={}, ca_bundle=server.ca_bundle
        )
        server.fail(fault)
        error = failure(transport, get(server.url), kind, sent=True)
        assert error.retryable
        assert server.url.partition("://")[2] in str(error)
        gc.collect()
        wait_until(lambda: server.open_connections == 0)


HEADS = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "no number": message("HTTP/1.1 abc OK"),
    "number too long": message("HTTP/1.1 2000 OK"),
    "unknown version": message("HTTP/9.9 200 OK"),
    "endless status line": b"HTTP/1.1 200 " + b"x" * 80_000,
    "endless header": message("HTTP/1.1 200 OK", "X-Long: " + "x" * 80_000),
    "many headers": message("HTTP/1.1 200 OK", *(f"X-{number}: 1" for number in range(500))),
}


@pytest.mark.parametrize("raw", HEADS.values(), ids=HEADS)
def test_what_is_not_http_is_a_protocol_error(transport, raw):
    with answering(raw, keep=False) as running:
        failure(transport, get(running.url), "protocol", sent=True)


@pytest.mark.parametrize("size", [20, 32, 52, 57])
def test_an_answer_that_ends_within_its_head_is_not_taken_for_whole(transport, size):
    raw = message("HTTP/1.1 202 Accepted", "X-Output: s3://bucket/key", "Content-Length: 0")
    with answering(raw[:size], keep=False) as running:
        try:
            complete = transport(get(running.url)).complete
        except TransportError as error:
            assert error.kind in ("closed", "protocol") and error.sent
        else:
            assert not complete


def test_a_calls_own_timeout_is_shorter_than_the_transports(server):
    transport = UrllibTransport(environ={}, read_timeout=30)
    server.fail(emu.stall(30))
    failure(transport, get(server.url), "timeout", sent=True, timeout=0.3)


def test_a_calls_own_timeout_does_not_prolong_the_transports(server, hasty):
    server.fail(emu.stall(30))
    failure(hasty, get(server.url), "timeout", sent=True, timeout=30)


def test_a_reused_connection_has_the_whole_time_again(server, transport):
    transport = UrllibTransport(environ={}, read_timeout=0.5)
    for _ in range(4):
        server.fail(emu.status(200))
        transport(get(server.url))
        time.sleep(0.2)
    assert server.connections == 1
    transport.close()


def test_after_an_error_the_next_call_has_a_new_connection(server, transport):
    transport(get(server.url))
    server.fail(emu.reset_after())
    failure(transport, get(server.url), "closed", sent=True)
    assert transport(get(server.url)).body == b"hello world"
    assert server.connections == 2


# --- What fails before the request was sent


def test_a_refused_connection_is_a_connect_error(transport):
    error = failure(transport, get(f"http://127.0.0.1:{free_port()}"), "connect", sent=False)
    assert error.retryable


def test_a_name_that_there_is_not_is_final(transport):
    with pytest.raises(socket.gaierror) as resolver:
        socket.getaddrinfo(NOWHERE, 80)
    error = failure(transport, get(f"https://{NOWHERE}"), "connect", sent=False)
    assert error.retryable == (resolver.value.errno == socket.EAI_AGAIN)
    assert NOWHERE in str(error) and "check the region" in str(error)


@pytest.mark.parametrize(
    "label",
    [pytest.param("a" * 64, id="too long"), "", pytest.param("b\u00fccher", id="beyond ASCII")],
)
def test_a_name_that_cannot_be_is_not_found_like_any_other(transport, label):
    failure(transport, get(f"http://www.{label}.invalid"), "connect", sent=False)


@pytest.mark.parametrize("name", ["localhost", "::1", "xn--bcher-kva.example"])
def test_a_plain_hosts_name_is_looked_up_without_unicodes_tables(name):
    assert ascii_host(name) == name.encode()


@pytest.mark.parametrize("name", ["b\u00fccher.example", "", None])
def test_any_other_hosts_name_is_left_to_the_standard_library(name):
    assert ascii_host(name) == (name or "")


def test_a_call_over_tls_loads_no_unicode_tables(tls_server):
    program = f"""
import sys
from smasync import Request, UrllibTransport
transport = UrllibTransport(environ={{}}, ca_bundle={tls_server.ca_bundle!r})
body = transport(Request("GET", {tls_server.url + "/bucket/key"!r}, (), b"")).body
print(body.decode(), "encodings.idna" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(smasync.__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "hello world False\n", done.stderr


@pytest.fixture
def tls_server():
    with Emulator(check_signatures=False, tls=True) as running:
        running.put("s3://bucket/key", b"hello world")
        yield running
        gc.collect()
        wait_until(lambda: running.open_connections == 0)


def test_a_certificate_that_does_not_verify_is_a_tls_error(tls_server, transport):
    error = failure(transport, get(tls_server.url), "tls", sent=False)
    assert "AWS_CA_BUNDLE" in str(error) and not error.retryable
    assert tls_server.requests == []


@pytest.mark.parametrize("verified", [True, False], ids=["ca_bundle", "unverified"])
def test_tls_connections_are_kept_alive(tls_server, verified):
    transport = UrllibTransport(environ={}, ca_bundle=verified and tls_server.ca_bundle)
    assert {transport(get(tls_server.url)).body for _ in range(50)} == {b"hello world"}
    assert tls_server.connections == 1
    transport.close()


def test_a_tls_connection_that_the_server_closed_is_noticed_before_reuse(tls_server):
    transport = UrllibTransport(environ={}, ca_bundle=tls_server.ca_bundle)
    tls_server.fail(emu.close_idle())
    transport(get(tls_server.url))
    wait_until(lambda: tls_server.open_connections == 0)
    assert transport(get(tls_server.url)).body == b"hello world"
    assert len(tls_server.requests) == 2
    transport.close()


def test_a_long_answer_over_tls_is_whole(tls_server):
    transport = UrllibTransport(environ={}, ca_bundle=tls_server.ca_bundle)
    tls_server.put("s3://bucket/long", LONG)
    for _ in range(3):
        assert transport(get(tls_server.url, "/bucket/long")).body == LONG
    transport.close()


def test_a_server_without_tls_never_sees_the_request(server, transport):
    with pytest.raises(TransportError) as raised:
        transport(get(server.url.replace("http:", "https:")))
    assert raised.value.kind in ("tls", "closed") and raised.value.sent is False
    assert server.requests == []


HANDSHAKES = {
    "closes": (lambda sock: None, ("tls", "closed")),
    "is silent": (lambda sock: sock.recv(9999) and sock.recv(9999), ("timeout",)),
    "alerts": (lambda sock: sock.sendall(b"\x15\x03\x03\x00\x02\x02\x28"), ("tls", "closed")),
}


@pytest.mark.parametrize("serve, kinds", HANDSHAKES.values(), ids=HANDSHAKES)
def test_a_handshake_that_fails_has_sent_nothing(hasty, serve, kinds):
    with RawServer(serve) as running, pytest.raises(TransportError) as raised:
        started = time.monotonic()
        hasty(get(running.url.replace("http:", "https:")))
    assert time.monotonic() - started < 3
    assert raised.value.kind in kinds and raised.value.sent is False


BUNDLES = {
    "missing": lambda folder: folder / "no-such-bundle.pem",
    "empty": lambda folder: folder / "empty.pem",
    "not a bundle": lambda folder: folder / "text.pem",
    "a folder": lambda folder: folder,
}


@pytest.mark.parametrize("make", BUNDLES.values(), ids=BUNDLES)
def test_an_unusable_ca_bundle_is_named(tls_server, tmp_path, make):
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "text.pem").write_text("This is no certificate.\n")
    bundle = str(make(tmp_path))
    transport = UrllibTransport(environ={}, ca_bundle=bundle)
    with pytest.raises(ConfigurationError, match=re.escape(bundle)):
        transport(get(tls_server.url))
    assert tls_server.requests == []


# --- An answer while the request is still under way

TOO_LARGE = message("HTTP/1.1 413 Too Large", "Content-Length: 2", "Connection: close", body=b"no")


def upload(url, size=5 * MIB):
    return Request("PUT", url + "/b/k", (("Content-Length", str(size)),), bytes(size))


def test_an_early_answer_that_the_server_lets_us_read_is_returned(transport):
    def serve(sock):
        read_head(sock)
        sock.sendall(TOO_LARGE)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 20):
            pass

    with RawServer(serve) as running:
        response = transport(upload(running.url))
    assert (response.status, response.body) == (413, b"no")


def test_an_early_answer_and_a_reset_is_an_answer_or_was_not_sent(transport):
    def serve(sock):
        sock.recv(1000)
        sock.sendall(TOO_LARGE)

    with RawServer(serve) as running:
        try:
            response = transport(upload(running.url))
        except TransportError as error:
            assert (error.kind, error.sent) == ("closed", False)
        else:
            assert response.status == 413


def test_a_server_that_takes_nothing_in_has_not_got_the_request(hasty):
    with RawServer(lambda sock: running.closing.wait(10)) as running:
        failure(hasty, upload(running.url, 50 * MIB), "timeout", sent=False)


def test_a_reset_while_the_request_is_under_way_has_not_sent_it(transport):
    def serve(sock):
        sock.recv(1000)

    with RawServer(serve) as running:
        failure(transport, upload(running.url, 50 * MIB), "closed", sent=False)


# --- Proxies


def through(running, scheme="http", login=f"user:{PASSWORD}@", **options):
    """A transport that goes through the server for everything, and a variable more."""
    environ = {f"{scheme.upper()}_PROXY": f"http://{login}127.0.0.1:{running.port}"}
    environ.update(options.pop("environ", {}))
    return UrllibTransport(environ=environ, connect_timeout=2, read_timeout=2, **options)


BASIC = b"Basic " + base64.b64encode(f"user:{PASSWORD}".encode())


def proxy_authorization(head):
    found = re.findall(rb"(?im)^proxy-authorization: *(.*?)\r$", head)
    return found[0] if len(found) == 1 else found


def test_https_goes_through_a_tunnel_and_the_password_stays_at_the_proxy(tls_server):
    port = int(tls_server.url.rpartition(":")[2])
    with proxy(port) as running:
        transport = through(running, "https", ca_bundle=False)
        request = signed_request(f"https://{NOWHERE}", b"{}")
        for _ in range(3):
            assert transport(request).status in (202, 400)
        assert {received.raw for received in tls_server.requests} == {wire(request)}
        transport.close()
    assert running.requests[0].startswith(b"CONNECT %b:443 HTTP/1." % NOWHERE.encode())
    assert proxy_authorization(running.requests[0]) == BASIC
    assert (running.connections, tls_server.connections, len(running.requests)) == (1, 1, 1)


def test_a_tunnel_keeps_the_port_of_the_url(tls_server):
    with proxy(int(tls_server.url.rpartition(":")[2])) as running:
        transport = through(running, "https", login="", ca_bundle=False)
        assert transport(get(f"https://{NOWHERE}:8443")).body == b"hello world"
        transport.close()
    assert running.requests[0].startswith(b"CONNECT %b:8443 HTTP/1." % NOWHERE.encode())
    assert proxy_authorization(running.requests[0]) == []


def test_what_a_proxy_says_before_tls_begins_is_no_answer_of_the_services(tls_server):
    smuggled = message("HTTP/1.1 202 Accepted", "Content-Length: 2", body=b"{}")
    with proxy(
        int(tls_server.url.rpartition(":")[2]), message("HTTP/1.1 200 OK") + smuggled
    ) as it:
        transport = through(it, "https", ca_bundle=False)
        failure(transport, get(f"https://{NOWHERE}"), "proxy", sent=False)
    assert tls_server.requests == []


def test_a_certificate_is_verified_through_a_tunnel_too(tls_server):
    with proxy(int(tls_server.url.rpartition(":")[2])) as running:
        transport = through(running, "https", ca_bundle=tls_server.ca_bundle)
        error = failure(transport, get(f"https://{NOWHERE}"), "tls", sent=False)
    assert PASSWORD not in str(error)
    assert tls_server.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_without_host_gets_that_of_its_url_not_the_proxys(scheme):
    with Emulator(check_signatures=False, tls=scheme == "https") as origin:
        with proxy(int(origin.url.rpartition(":")[2])) as running:
            transport = through(running, scheme, ca_bundle=False)
            transport(get(f"{scheme}://{NOWHERE}:8443"))
            transport.close()
        assert origin.requests[0].header("host") == f"{NOWHERE}:8443"


@pytest.mark.parametrize("login", ["", f"user:{PASSWORD}@"], ids=["open", "with password"])
def test_http_goes_through_a_proxy_in_absolute_form(server, login):
    with proxy(int(server.url.rpartition(":")[2])) as running:
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
    with proxy(int(server.url.rpartition(":")[2])) as running:
        transport = through(running, login="us%40er:p%3Aa%2Fss@")
        transport(get(f"http://{NOWHERE}"))
        transport.close()
    expected = b"Basic " + base64.b64encode(b"us@er:p:a/ss")
    assert proxy_authorization(running.requests[0]) == expected


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "Http_Proxy"])
def test_a_proxy_may_be_given_without_a_scheme(server, name):
    with proxy(int(server.url.rpartition(":")[2])) as running:
        transport = UrllibTransport(environ={name: f"127.0.0.1:{running.port}"})
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
    with proxy(int(server.url.rpartition(":")[2])) as running:
        transport = through(running, environ={name: value})
        with contextlib.nullcontext() if proxied else pytest.raises(TransportError):
            assert transport(get(f"http://{NOWHERE}")).body == b"hello world"
        transport.close()
    assert len(running.requests) == proxied


def test_a_proxy_is_for_its_scheme_only(server):
    with proxy(int(server.url.rpartition(":")[2])) as running:
        transport = through(running, "https")
        failure(transport, get(f"http://{NOWHERE}"), "connect", sent=False)
    assert running.requests == []


def test_in_a_cgi_script_the_proxy_header_of_a_stranger_is_ignored(server):
    with proxy(int(server.url.rpartition(":")[2])) as running:
        transport = through(running, environ={"REQUEST_METHOD": "GET"})
        failure(transport, get(f"http://{NOWHERE}"), "connect", sent=False)
    assert running.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost"])
def test_loopback_is_reached_behind_a_configured_proxy(server, host):
    with proxy(int(server.url.rpartition(":")[2])) as running:
        transport = through(running)
        assert transport(get(server.url.replace("127.0.0.1", host))).body == b"hello world"
        transport.close()
    assert running.requests == []


LOCAL = """
[::1] 127.8.8.8 169.254.169.254 169.254.170.2 169.254.170.23 [fd00:ec2::254] [fd00:ec2::23]
[FD00:EC2::254] [fd00:ec2:0::254]
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
    # name: (the proxy's answer, retryable)
    "407": (message("HTTP/1.1 407 Proxy Authentication Required"), False),
    "403": (message("HTTP/1.1 403 Forbidden", "Content-Length: 2", body=b"no"), False),
    "502": (message("HTTP/1.1 502 Bad Gateway"), True),
    "hangs up": (b"", True),
    "garbage": (b"\x16\x03\x03 no proxy\r\n\r\n", True),
}


@pytest.mark.parametrize("answer, retryable", REFUSALS.values(), ids=REFUSALS)
def test_a_proxy_that_refuses_is_a_proxy_error(answer, retryable):
    with proxy(0, answer) as running:
        transport = through(running, "https")
        error = failure(transport, get(f"https://{NOWHERE}"), "proxy", sent=False)
        assert error.retryable == retryable
    assert PASSWORD not in str(error) and BASIC.decode() not in str(error)
    assert len(running.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_named_without_its_password(scheme):
    port = free_port()
    environ = {"HTTP_PROXY": f"http://user:{PASSWORD}@127.0.0.1:{port}"}
    environ["HTTPS_PROXY"] = environ["HTTP_PROXY"]
    transport = UrllibTransport(environ=environ)
    with pytest.raises(TransportError, match=f"127.0.0.1:{port}") as raised:
        transport(get(f"{scheme}://{NOWHERE}"))
    assert raised.value.kind in ("connect", "proxy") and raised.value.sent is False
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize(
    "drip", [b"x", b"HTTP/1.1 200 OK\r\nX-A: 1\r\n"], ids=["status line", "headers"]
)
def test_a_proxy_that_drips_is_cut_off(drip):
    def serve(sock):
        read_head(sock)
        sock.sendall(drip)
        for _ in range(30):
            sock.sendall(b"X")
            if running.closing.wait(0.1):
                return

    with RawServer(serve) as running:
        environ = {"https_proxy": running.url}
        transport = UrllibTransport(environ=environ, connect_timeout=0.4, read_timeout=0.4)
        started = time.monotonic()
        with pytest.raises(TransportError) as raised:
            transport(get(f"https://{NOWHERE}"))
    assert time.monotonic() - started < 2
    assert (raised.value.kind, raised.value.sent) == ("timeout", False)


PROXY_URLS = {
    "no host": f"http://user:{PASSWORD}@",
    "port is a word": f"http://user:{PASSWORD}@proxy.invalid:{PASSWORD}",
    "port too large": f"http://user:{PASSWORD}@proxy.invalid:99999",
    "half an address": f"http://user:{PASSWORD}@[::1",
    "one slash": f"http:/user:{PASSWORD}@proxy.invalid",
    "socks": f"socks5://user:{PASSWORD}@127.0.0.1:1080",
    "socks with DNS": f"socks5h://user:{PASSWORD}@127.0.0.1:1080",
    "ftp": f"ftp://user:{PASSWORD}@proxy.invalid",
    "line break": f"http://user:{PASSWORD}@proxy.invalid\r\nX-Evil: 1",
    "empty label": f"http://user:{PASSWORD}@proxy..invalid",
}


@pytest.mark.parametrize("url", PROXY_URLS.values(), ids=PROXY_URLS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_malformed_proxy_is_a_configuration_error_without_its_password(scheme, url):
    with pytest.raises(ConfigurationError, match="proxy") as raised:
        UrllibTransport(environ={f"{scheme}_proxy": url})(get(f"{scheme}://{NOWHERE}"))
    shown = [raised.value, raised.value.__cause__]
    assert PASSWORD not in "".join(map(str, shown))
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_an_answer_is_a_response():
    with answering(plain(b"hi")) as running:
        transport = UrllibTransport(environ={})
        assert transport(get(running.url)) == Response(200, (("Content-Length", "2"),), b"hi")
        transport.close()
