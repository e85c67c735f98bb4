"""Every fault at every moment of a call: who gets what, and what is left behind.

A fault meets a call at one moment of it, once ("recovers": the next attempt finds all well) or
each time ("persists"). MATRIX has a row for each moment and fault, which says for both what the
caller gets, how often the service was asked, how many inferences it accepted, what is left of the
quota for retries, and how many connections are kept. After each cell the same client does one more
call, and then no connection, no file descriptor and no thread may be left. The last test is a
soak: sixteen threads, one client, and a fault in every fifth answer.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import math
import os
import random
import socket
import ssl
import struct
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple

import emulator as emu
import pytest
from emulator import Connection, Emulator, Fault, Received, Reply

from smasync import Client, ClientError, Credentials, TransportError, UrllibTransport

KEYS = Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
BEYOND = "https://sagemaker.invalid"  # RFC 2606: only a proxy knows the way there
LARGE = {"EndpointName": "my-endpoint", "Body": bytes(16 << 20)}  # more than all buffers take in
MAX_ATTEMPTS = 3
LONG_SECONDS = 60.0  # how long a server is silent: longer than any client waits
PATIENT_SECONDS = 30.0  # a client's time limit where nobody is silent, however slow the machine
HASTY_SECONDS = 0.1  # its time limit for an attempt that has to run into it

# --- 1. Faults that the emulator lacks


@emu.fault
def close_before(connection: Connection) -> None:
    """An end as soon as the request's first bytes are there."""
    raise emu.Disconnected


@emu.fault
def stall_before(connection: Connection) -> None:
    """No more than the request's first bytes is read, until the caller has given up."""
    server: Any = connection.emulator
    server.given_up.wait(LONG_SECONDS)
    raise emu.Disconnected


@emu.fault
def answer_before(connection: Connection) -> None:
    """503 and an end, before the request is read; then what comes is thrown away."""
    reply = emu.json_error(503, "ServiceUnavailable", "later")
    connection.send(reply.encode(connection.emulator.clock(), keep_alive=False) + reply.body)
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection.sock, socket.SHUT_WR)
        while socket.socket.recv(connection.sock, 1 << 20):
            pass
    raise emu.Disconnected


@emu.fault
def answer_and_leave(connection: Connection) -> None:
    """503 as if the connection stayed, and its end, which is RST where bytes are left unread."""
    reply = emu.json_error(503, "ServiceUnavailable", "later")
    connection.send(reply.encode(connection.emulator.clock()) + reply.body)
    raise emu.Disconnected


EARLY = {"reset_before", "close_before", "stall_before", "answer_before", "answer_and_leave"}


@emu.fault
def cut(connection: Connection, place: str, end: str) -> None:
    """The request is accepted; of the good answer comes what is before a place in it."""
    reply = connection.handle()
    data = connection.encode(reply)
    head = len(data) - len(reply.body)
    places = {"start": 0, "status line": 12, "head": head // 2, "body": head + 5}
    connection.send(data[: places[place]])
    finish(connection, end)


def finish(connection: Connection, end: str) -> None:
    """What comes last: "FIN", "RST" or "silence"."""
    if end == "RST":
        connection.reset()
    if end == "silence":
        connection.idle(LONG_SECONDS)


@emu.fault
def accept_then(connection: Connection, then: Fault) -> Reply | None:
    """The request is accepted, and then something else happens all the same."""
    connection.handle()
    return emu.FAULTS[then.kind](connection, *then.arguments, **then.options)


@emu.fault
def endless_body(connection: Connection) -> None:
    """The good answer's head, and then 64 MiB, which a client has to have enough of."""
    head = connection.encode(connection.handle()._replace(body=b""))
    connection.send(head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
    for _ in range(64):
        connection.send(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
    connection.send(b"0\r\n\r\n")


@emu.fault
def answer_with_more(connection: Connection, more: bytes) -> None:
    """The good answer, and bytes behind it that nobody asked for; the connection stays."""
    connection.send(connection.encode(connection.handle()) + more)
    while connection.exchange():
        pass


@emu.fault
def meet(connection: Connection, all_here: threading.Barrier) -> Reply:
    """The good answer, once so many requests are under way on connections of their own."""
    reply = connection.handle()
    all_here.wait(PATIENT_SECONDS)
    return reply


@emu.fault
def leave(
    connection: Connection,
    all_here: threading.Barrier,
    told: threading.Event,
    last: bytes,
    end: str,
) -> None:
    """The same, and the connection's end once it is idle."""
    data = connection.encode(connection.handle())
    all_here.wait(PATIENT_SECONDS)
    connection.send(data)
    told.wait(PATIENT_SECONDS)
    connection.send(last)
    finish(connection, end)


@emu.fault
def tunnel(connection: Connection, port: int) -> None:
    """What a good proxy does: to its client it is now whoever listens on the port."""
    with socket.create_connection(("127.0.0.1", port)) as beyond:
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=pump, args=(beyond, connection.sock))
        back.start()
        pump(connection.sock, beyond)
        back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copies until one of the two ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


# Instead of a TLS handshake. RST comes of itself when bytes are there that nobody has read.


def hang_up(sock: socket.socket) -> None:
    """An end, whatever the client has sent by then."""


def hang_up_on_hello(sock: socket.socket) -> None:
    sock.recv(65_536)


def reset_on_hello(sock: socket.socket) -> None:
    sock.recv(65_536)
    layout = "hh" if os.name == "nt" else "ii"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(layout, 1, 0))


def half_a_hello(sock: socket.socket) -> None:
    sock.recv(65_536)
    sock.sendall(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76")


def say_nothing(sock: socket.socket) -> None:
    while sock.recv(65_536):
        pass


def alert(sock: socket.socket) -> None:
    sock.recv(65_536)
    sock.sendall(b"\x15\x03\x03\x00\x02\x02\x28")  # handshake_failure


def speak_http(sock: socket.socket) -> None:
    sock.recv(65_536)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


# Instead of a server: sockets that hold its port.


def nobody() -> list[socket.socket]:
    """A port where nobody listens."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return [sock]


def full_house() -> list[socket.socket]:
    """A port where somebody listens, but has no room for another connection."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    sockets = [listener]
    with contextlib.suppress(socket.timeout):
        while True:
            sockets.append(socket.create_connection(listener.getsockname(), 0.2))
    return sockets


# --- 2. The matrix
# A cell is: what the caller gets; how many attempts were made; how many whole requests the service
# saw; how many inferences it accepted (2 and 3 are duplicates); the quota left; connections kept.
# What the caller gets is an answer's status, a ClientError's code, or a TransportError's kind and
# whether the request was sent.

CONNECT, PROXY, TLS, SENDING = "connect", "proxy's tunnel", "TLS", "while it is sent"
UNREAD, READ, ACCEPTED = "before it is read", "after it was read", "after it was accepted"
LINE, HEAD, BODY = "in the status line", "in the headers", "in the body"
IDLE, REUSED = "idle connection", "reused connection"
UNCONNECTED = (CONNECT, PROXY, TLS)


class Row(NamedTuple):
    """What happens at a moment, and the cells as texts.

    Without `persists` both worlds are the same. `careful` are the cells with retry_sent=False: one
    for both, two apart by "|", none where they are as without it. `seconds` is the time limit of
    an attempt that meets the fault. `next` is what the caller gets when it calls again after all
    that.
    """

    moment: str
    name: str
    how: Any
    recovers: str
    persists: str = ""
    careful: str = ""
    seconds: float = PATIENT_SECONDS
    next: str = "202"

    def __str__(self) -> str:
        return f"{self.moment}: {self.name}"

    def expected(self, world: str, retry_sent: bool = True) -> Cell:
        texts = [self.recovers, self.persists or self.recovers]
        if self.careful and not retry_sent:
            texts = self.careful.split("|")
        got, *numbers = texts[0 if world == "recovers" else -1].rsplit(None, 5)
        return Cell(got.strip(), *map(int, numbers))


class Cell(NamedTuple):
    got: str
    attempts: int
    requests: int
    accepted: int
    quota: int
    kept: int


def limit(kind: str) -> float:
    """The time limit for an attempt that ends so: a silent server costs no more than that."""
    return HASTY_SECONDS if kind == "timeout" else PATIENT_SECONDS


def unsent(moment: str, name: str, how: Any, kind: str) -> Row:
    """The service cannot have received any of it: always retried."""
    return Row(moment, name, how, AGAIN, f"{kind} unsent 3 0 0 472 0", seconds=limit(kind))


def lost(
    moment: str,
    name: str,
    how: Any,
    kind: str,
    requests: int = 1,
    accepted: int = 1,
    kept: int = 0,
) -> Row:
    """No answer: the service saw so many of a request, and accepted so many, in each attempt."""
    recovers = f"202 2 {1 + requests} {1 + accepted} 500 1"
    persists = f"{kind} sent 3 {3 * requests} {3 * accepted} 472 0"
    careful = f"{kind} sent 1 {requests} {accepted} 500"
    careful = f"{careful} 0|{careful} {kept}"
    return Row(moment, name, how, recovers, persists, careful, limit(kind))


def said(moment: str, name: str, how: Any, code: str, quota: int = 472, kept: int = 1) -> Row:
    """The service says no, and may say otherwise: retried."""
    return Row(moment, name, how, "202 2 2 1 500 1", f"{code} 3 3 0 {quota} {kept}")


def raw(status: str, *headers: str, body: bytes = b"") -> Fault:
    """Exactly such an answer, and nothing is accepted."""
    return emu.answer("\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body)


REQUEST_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CUT_503 = raw("503 Sorry", "x-amzn-errortype: ServiceUnavailable", "Content-Length: 9", body=b"{")
CUT_400 = raw("400 No", "x-amzn-errortype: ValidationError", "Content-Length: 9", body=b"{")
CUT_JSON = raw("202 Accepted", "Content-Length: 40", body=b'{"InferenceId": "')
ENDLESS = raw("202 Accepted", f"X-Endless: {'x' * 80_000}", "Content-Length: 0")
SWITCH = raw("101 Switching Protocols", "Upgrade: h2c")
HUGE = 2 << 20
AGAIN = "202 2 1 1 500 1"
# fmt: off
ROWS = (
    unsent(CONNECT, "refused", nobody, "connect"),
    unsent(CONNECT, "nobody accepts", full_house, "timeout"),

    unsent(PROXY, "RST", emu.reset_after(), "proxy"),
    unsent(PROXY, "FIN", emu.close_after(), "proxy"),
    unsent(PROXY, "silence", emu.stall(LONG_SECONDS), "timeout"),
    unsent(PROXY, "garbage", emu.garbage(), "proxy"),
    unsent(PROXY, "502", emu.status(502), "proxy"),
    Row(PROXY, "407", emu.status(407), "proxy unsent 1 0 0 500 0"),

    unsent(TLS, "ends at once", hang_up, "closed"),
    unsent(TLS, "FIN", hang_up_on_hello, "closed"),
    unsent(TLS, "RST", reset_on_hello, "closed"),
    unsent(TLS, "FIN in a record", half_a_hello, "closed"),
    unsent(TLS, "silence", say_nothing, "timeout"),
    Row(TLS, "alert", alert, "tls unsent 1 0 0 500 0"),
    Row(TLS, "HTTP instead", speak_http, "tls unsent 1 0 0 500 0"),
    Row(TLS, "untrusted certificate", None, "tls unsent 1 0 0 500 0", next="tls unsent"),

    unsent(SENDING, "RST", emu.reset_before(), "closed"),
    unsent(SENDING, "closed unread", close_before(), "closed"),
    unsent(SENDING, "silence", stall_before(), "timeout"),
    Row(SENDING, "503", answer_before(), AGAIN, "ServiceUnavailable 3 0 0 472 0"),
    Row(SENDING, "503 and RST", answer_and_leave(), AGAIN, "ServiceUnavailable 3 0 0 472 0"),

    lost(UNREAD, "RST", emu.reset_before(), "closed", 0, 0),
    lost(UNREAD, "FIN", close_before(), "closed", 0, 0),
    lost(UNREAD, "silence", stall_before(), "timeout", 0, 0),
    Row(UNREAD, "503", answer_before(), AGAIN, "ServiceUnavailable 3 0 0 472 0"),

    lost(READ, "RST", emu.reset_after(), "closed", 1, 0),
    lost(READ, "FIN", emu.close_after(), "closed", 1, 0),
    lost(READ, "silence", emu.stall(LONG_SECONDS), "timeout", 1, 0),
    lost(READ, "garbage", emu.garbage(), "protocol", 1, 0),
    lost(READ, "101", SWITCH, "protocol", 1, 0),
    lost(READ, "100 for ever", emu.continue_forever(), "timeout", 1, 0),
    said(READ, "500", emu.status(500, "InternalFailure"), "InternalFailure"),
    said(READ, "502", emu.status(502), "502"),
    said(READ, "503", emu.status(503, "ServiceUnavailable"), "ServiceUnavailable"),
    said(READ, "504", emu.status(504), "504"),
    said(READ, "503 of 2 MiB", emu.huge_body(HUGE, 503), "503", kept=0),
    said(READ, "throttled", emu.throttle(), "ThrottlingException", quota=490),
    said(READ, "429", emu.status(429), "429", quota=490),
    Row(READ, "400", emu.status(400, "ValidationError"), "ValidationError 1 1 0 500 1"),
    Row(READ, "403", emu.status(403, "AccessDeniedException"), "AccessDeniedException 1 1 0 500 1"),
    Row(READ, "deep JSON", emu.deep_json(10_000), "400 1 1 0 500 1"),
    Row(READ, "redirect", emu.redirect("http://127.0.0.1:9/"), "302 1 1 0 500 1"),
    Row(READ, "log-in page", emu.login_page(), "protocol sent 1 1 0 500 1"),
    Row(READ, "200 of 2 MiB", emu.huge_body(HUGE), "protocol sent 1 1 0 500 0"),

    lost(ACCEPTED, "RST", emu.accept_then_reset(), "closed"),
    lost(ACCEPTED, "FIN", cut("start", "FIN"), "closed"),
    lost(ACCEPTED, "silence", cut("start", "silence"), "timeout"),
    lost(ACCEPTED, "garbage", accept_then(emu.garbage()), "protocol"),
    lost(ACCEPTED, "100 for ever", accept_then(emu.continue_forever()), "timeout"),
    Row(ACCEPTED, "503 all the same", accept_then(emu.status(503)), "202 2 2 2 500 1", "503 3 3 3 472 1"),
    Row(ACCEPTED, "504 all the same", accept_then(emu.status(504)), "202 2 2 2 500 1", "504 3 3 3 472 1"),
    Row(ACCEPTED, "log-in page", accept_then(emu.login_page()), "protocol sent 1 1 1 500 1"),
    # Each Date is believed, so that the next signature is refused, whose own Date mends that.
    Row(ACCEPTED, "Date an hour off", emu.skewed(3600), "202 1 1 1 500 1"),

    lost(LINE, "FIN", cut("status line", "FIN"), "closed"),
    lost(LINE, "RST", cut("status line", "RST"), "closed"),
    lost(LINE, "silence", cut("status line", "silence"), "timeout"),
    lost(HEAD, "FIN", cut("head", "FIN"), "closed"),
    lost(HEAD, "RST", cut("head", "RST"), "closed"),
    lost(HEAD, "silence", cut("head", "silence"), "timeout"),
    lost(HEAD, "a byte every 50 ms", emu.drip(0.05), "timeout"),
    lost(HEAD, "an endless one", accept_then(ENDLESS), "protocol"),

    # The head of a 202 says all: it is never asked for again.
    Row(BODY, "FIN", cut("body", "FIN"), "202 1 1 1 500 0"),
    Row(BODY, "FIN a byte too early", emu.truncate(1), "202 1 1 1 500 0"),
    Row(BODY, "FIN before it", emu.truncate(1 << 20), "202 1 1 1 500 0"),
    Row(BODY, "RST", cut("body", "RST"), "202 1 1 1 500 0"),
    # The time limit is for the whole answer, and the head has to get through.
    Row(BODY, "silence", cut("body", "silence"), "202 1 1 1 500 0", seconds=0.6),
    Row(BODY, "a byte every 50 ms", emu.slow_body(0.05), "202 1 1 1 500 0", seconds=0.6),
    Row(BODY, "64 MiB", endless_body(), "202 1 1 1 500 0"),
    Row(BODY, "more than asked for", answer_with_more(b"{}"), "202 1 1 1 500 1"),
    Row(BODY, "FIN, and no header", accept_then(CUT_JSON), "protocol sent 1 1 1 500 0"),
    said(BODY, "FIN, of a 503", CUT_503, "ServiceUnavailable", kept=0),
    Row(BODY, "FIN, of a 400", CUT_400, "ValidationError 1 1 0 500 0"),

    # Here "persists" are three idle connections in that state, as many as there are attempts.
    Row(IDLE, "FIN with each answer", emu.close_idle(), "202 1 1 1 500 1"),
    Row(IDLE, "FIN", (b"", "FIN"), "202 1 1 1 500 1"),
    Row(IDLE, "RST", (b"", "RST"), "202 1 1 1 500 1"),
    Row(IDLE, "408 and FIN", (REQUEST_TIMEOUT, "FIN"), "202 1 1 1 500 1"),
    lost(REUSED, "RST, unread", emu.reset_before(), "closed", 0, 0, kept=2),
    lost(REUSED, "RST", emu.reset_after(), "closed", 1, 0, kept=2),
    lost(REUSED, "FIN", emu.close_after(), "closed", 1, 0, kept=2),
    lost(REUSED, "silence", emu.stall(LONG_SECONDS), "timeout", 1, 0, kept=2),
    lost(REUSED, "RST, accepted", emu.accept_then_reset(), "closed", kept=2),
)
# fmt: on
# Other systems answer when the queue of a listener is full, and drop what has arrived when a RST
# comes behind it.
ON_LINUX = {f"{CONNECT}: nobody accepts", f"{SENDING}: 503 and RST"}
MATRIX = tuple(row for row in ROWS if sys.platform == "linux" or str(row) not in ON_LINUX)
WORLDS = {"recovers": 1, "persists": math.inf}  # how many attempts meet the fault
# A service that says no is believed, also where it is a gateway that cannot know: retry_sent is
# about requests that got no answer.
BELIEVED = {"503 all the same", "504 all the same"}


# --- 3. One cell


class Server(Emulator):
    """An emulator where one fault happens so many times, if need be before a request is read."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.fault: Fault | None = None
        self.times: float = 0
        self.met = 0
        self.given_up = threading.Event()

    def meets(self) -> bool:
        """Whether the fault happens once more; it is counted."""
        if self.times < 1:
            return False
        self.times, self.met = self.times - 1, self.met + 1
        return True

    def next_fault(self, received: Received | None) -> Fault | None:
        if self.fault and (self.fault.kind in EARLY) == (received is None) and self.meets():
            return self.fault
        return super().next_fault(received)


class Door:
    """Stands where the emulator has its TLS context, and does something else than a handshake."""

    def __init__(self, server: Server, action: Callable[[socket.socket], None]) -> None:
        self.server, self.action, self.context = server, action, server.tls_context

    def wrap_socket(self, sock: socket.socket, **options: Any) -> ssl.SSLSocket:
        if self.server.meets():
            self.action(sock)
            raise ConnectionAbortedError
        return self.context.wrap_socket(sock, **options)


class Observed(NamedTuple):
    """A cell; what the next call gets; connections, file descriptors, threads that are left."""

    cell: Cell
    next: str
    left: tuple[int, int, int]


class Stage:
    """One cell's server and client, and the fault between them; a context manager."""

    def __init__(self, row: Row, times: float, retry_sent: bool, tls: bool) -> None:
        self.row, self.times, self.attempts = row, times, 0
        self.error: Exception | None = None  # its traceback keeps alive what a failure left open
        self.blockers = row.how() if row.moment == CONNECT else []
        self.server = self.front = self.service(tls or row.moment in (PROXY, TLS))
        if row.moment == PROXY:
            self.front = self.proxy()
        self.transport = self.way()
        self.client = Client(
            "us-east-1",
            endpoint_url=BEYOND if row.moment == PROXY else self.server.url,
            credentials=KEYS,
            environ={},
            transport=self.transport,
            retry_sent=retry_sent,
            max_attempts=MAX_ATTEMPTS,
            parameter_validation=row.moment != SENDING,
            sleep=self.pause,
            random=lambda: 0.0,
        )

    def service(self, tls: bool) -> Server:
        """The service; it waits where something else holds its port."""
        port = self.blockers[0].getsockname()[1] if self.blockers else 0
        large = self.row.moment == SENDING
        server = Server(tls=tls, port=port, check_signatures=not large)
        if large:
            server.routes.insert(0, server.routes[0]._replace(handler=take_any_size))
        return server if self.blockers else server.start()

    def proxy(self) -> Server:
        """A proxy before the service."""
        port = int(self.server.url.rpartition(":")[2])
        proxy = Server().start()
        proxy.fail_every(lambda received: tunnel(port))
        return proxy

    def way(self) -> UrllibTransport:
        """The client's way to the service, whose certificate it trusts unless that is the fault."""
        if self.front is not self.server:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that no certificate is for BEYOND
                return UrllibTransport(environ={"https_proxy": self.front.url}, ca_bundle=False)
        return UrllibTransport(environ={}, ca_bundle=self.row.how and self.server.ca_bundle)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()
        self.heal()
        self.front.close()
        self.server.close()

    @property
    def connections(self) -> int:
        """How many there are to whom the client talks."""
        return max(self.front.open_connections, self.server.open_connections)

    @contextlib.contextmanager
    def no_longer_than(self, seconds: float) -> Iterator[None]:
        """Ends the server after that, lest a client without a time limit hang for ever."""
        timer = threading.Timer(seconds, self.front.close)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def limit(self, seconds: float) -> None:
        """The client's time limit from now on, for the step that the fault is in."""
        connecting = self.row.moment in UNCONNECTED
        self.transport._connect_timeout = seconds if connecting else PATIENT_SECONDS
        self.transport._read_timeout = PATIENT_SECONDS if connecting else seconds

    def pause(self, seconds: float) -> None:
        """Between two attempts: no server is so slow that it still has to meet the first one."""
        self.attempts += 1
        eventually(lambda: self.blockers or self.front.met >= min(self.attempts, self.times))
        if self.attempts >= self.times:
            self.heal()

    def set_the_trap(self) -> None:
        """From here on the fault waits for the call."""
        server, row = self.server, self.row
        if row.moment == TLS and row.how:
            server.tls_context = Door(server, row.how)
        elif isinstance(row.how, Fault):
            self.front.fault = row.how
        self.limit(PATIENT_SECONDS)
        if row.moment == REUSED:
            self.leave_idle(meet)
        self.front.times = self.times
        if row.moment == IDLE:
            self.go_idle()
        self.limit(row.seconds)

    def go_idle(self) -> None:
        """Idle connections that the server has ended."""
        if self.server.fault:
            outcome(self.client, self.server, CALL)
        else:
            told = threading.Event()
            self.leave_idle(lambda all_here: leave(all_here, told, *self.row.how))
            told.set()
        eventually(lambda: not self.connections)

    def leave_idle(self, make: Callable[[threading.Barrier], Fault]) -> None:
        """Idle connections, as many as attempts shall fail, made by calls at the same time."""
        count = int(min(self.times, MAX_ATTEMPTS))
        self.server.fail(*[make(threading.Barrier(count))] * count)
        with ThreadPoolExecutor(count) as pool:
            calls = [pool.submit(outcome, self.client, self.server, CALL) for _ in range(count)]
            assert [call.result()[0] for call in calls] == ["202"] * count

    def heal(self) -> None:
        """The fault is over."""
        self.front.times = 0
        self.front.given_up.set()
        self.limit(PATIENT_SECONDS)
        if self.blockers:
            for sock in self.blockers:
                sock.close()
            self.blockers = []
            self.server.start()

    def play(self) -> tuple[Cell, str, int]:
        """The cell, what the next call gets, and connections left when the client is closed."""
        server, client = self.server, self.client
        self.set_the_trap()
        requests, accepted = len(server.requests), len(server.ledger)
        call = LARGE if self.row.moment == SENDING else CALL
        got, attempts, self.error = outcome(client, server, call)
        kept = len(self.transport._idle)
        ended = self.row.moment == IDLE and server.fault and server.times  # by this answer, too
        self.heal()
        # The server is done with all that it got when it has no more connections than the client.
        eventually(lambda: self.connections <= (0 if ended else kept))
        requests, accepted = len(server.requests) - requests, len(server.ledger) - accepted
        cell = Cell(got, attempts, requests, accepted, client._sender.quota.available, kept)
        again = outcome(client, server, CALL)[0]
        client.close()
        eventually(lambda: not self.connections, 5)
        return cell, again, self.connections


def take_any_size(emulator: Emulator, received: Received, match: Any) -> Reply:
    """The service as it would be if it had no limit."""
    received.body = received.body[:1]
    return emu.invoke_endpoint_async(emulator, received, match)


def outcome(
    client: Client, server: Emulator, call: dict[str, Any]
) -> tuple[str, int, Exception | None]:
    """What a caller gets, in how many attempts, and the error."""
    try:
        answer = client.invoke_endpoint_async(**call)
    except TransportError as error:
        words = f"{error.kind} {'sent' if error.sent else 'unsent'}"
        return words, len(error.metadata["Attempts"]), error
    except ClientError as error:
        return error.code, len(error.metadata["Attempts"]), error
    metadata, location = answer["ResponseMetadata"], answer.get("OutputLocation")
    ours = any(inference.output_location == location for inference in server.ledger)
    words = f"{metadata['HTTPStatusCode']}{'' if ours else ' of nobody'}"
    return words, len(metadata["Attempts"]), None


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether the condition comes to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def open_files() -> int:
    """How many file descriptors are open; how many sockets, where the system does not say."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))
    things = gc.get_objects()
    return sum(isinstance(thing, socket.socket) and thing.fileno() >= 0 for thing in things)


@contextlib.contextmanager
def counting_leaks() -> Iterator[Callable[[], tuple[int, int]]]:
    """A function that says how many file descriptors and threads there are more than before."""
    files, threads = open_files(), set(threading.enumerate())

    def leaks() -> tuple[int, int]:
        return max(0, open_files() - files), len(set(threading.enumerate()) - threads)

    yield leaks


def observe(row: Row, world: str, retry_sent: bool = True, tls: bool = False) -> Observed:
    """Plays one cell of the matrix."""
    with counting_leaks() as leaks:
        with Stage(row, WORLDS[world], retry_sent, tls) as stage, stage.no_longer_than(60):
            cell, again, connections = stage.play()
        eventually(lambda: leaks() == (0, 0), 5)
        return Observed(cell, again, (connections, *leaks()))


# --- 4. The matrix, checked

every_row = pytest.mark.parametrize("row", MATRIX, ids=str)
every_world = pytest.mark.parametrize("world", WORLDS)
CLEAN = (0, 0, 0)


@every_row
@every_world
def test_each_fault_ends_as_the_matrix_says_and_leaves_nothing(row, world):
    assert observe(row, world) == (row.expected(world), row.next, CLEAN)


@every_row
@every_world
def test_with_retry_sent_false_nothing_is_accepted_twice(row, world):
    seen = observe(row, world, retry_sent=False)
    assert seen == (row.expected(world, retry_sent=False), row.next, CLEAN)
    assert seen.cell.accepted <= 1 or row.name in BELIEVED


@pytest.mark.parametrize("row", [row for row in MATRIX if row.moment not in UNCONNECTED], ids=str)
@every_world
def test_over_tls_each_fault_ends_the_same(row, world):
    assert observe(row, world, tls=True) == (row.expected(world), row.next, CLEAN)


def test_every_fault_has_a_row():
    faults = [row.how for row in ROWS if isinstance(row.how, Fault)]
    inner = [thing for fault in faults for thing in fault.arguments if isinstance(thing, Fault)]
    ours = {
        name
        for name, action in emu.FAULTS.items()
        if action.__module__ in (emu.__name__, __name__)
    }
    helpers = {"meet", "leave", "tunnel"}  # which do nothing wrong, or with arguments of a cell
    assert {fault.kind for fault in faults + inner} == ours - helpers


# --- 5. Soak
# The fault of a request depends on SEED, its InferenceId and the number of its attempt alone, so
# that a run can be repeated, whatever the threads do.

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "30"))
SEED = 2026
THREADS = 16
SHARE = 0.2  # of the answers
SOAK_LIMIT_SECONDS = 0.5
SOAK_FAULTS = (
    emu.status(500, "InternalFailure"),
    emu.status(502),
    emu.status(503, "ServiceUnavailable"),
    emu.status(429),
    emu.status(400, "ValidationError"),
    emu.throttle(),
    emu.redirect("http://127.0.0.1:9/"),
    emu.login_page(),
    emu.deep_json(5000),
    emu.huge_body(2 << 20, 503),
    emu.reset_after(),
    emu.close_after(),
    emu.stall(LONG_SECONDS),
    emu.garbage(),
    emu.continue_forever(),
    CUT_400,
    CUT_503,
    SWITCH,
    # From here on the request is accepted.
    emu.accept_then_reset(),
    emu.drip(0.05),
    emu.slow_body(0.05),
    emu.truncate(),
    emu.close_idle(),
    emu.skewed(60),
    accept_then(emu.garbage()),
    accept_then(ENDLESS),
    accept_then(CUT_JSON),
    *[cut(place, end) for place in ("start", "head", "body") for end in ("FIN", "RST", "silence")],
)
CODES = {
    *("InternalFailure", "ServiceUnavailable", "ValidationError", "ThrottlingException"),
    *("502", "429", "302", "400", "503"),
}
AMBIGUOUS = {"timeout", "closed", "protocol"}  # outcomes of attempts that may have been accepted
SOAKS = {
    # name: (retry_sent, TLS, share of the time)
    "plain": (True, False, 1.0),
    "TLS": (True, True, 0.25),
    "retry_sent=False": (False, False, 0.25),
}


class Ended(NamedTuple):
    """One call: the answer or the error, and the outcomes of its attempts."""

    inference_id: str
    answer: dict[str, Any] | None
    error: TransportError | ClientError | None
    outcomes: list[str]
    quota: int

    @property
    def kind(self) -> str:
        """As in the matrix."""
        if isinstance(self.error, ClientError):
            return self.error.code
        if self.error is None:
            return "answer"
        return f"{self.error.kind} {'sent' if self.error.sent else 'unsent'}"


def soak_fault(received: Received) -> Fault | None:
    """The fault of a request, None for most."""
    attempt = received.header("amz-sdk-request")
    chance = random.Random(f"{SEED} {inference_id(received)} {attempt}")
    return chance.choice(SOAK_FAULTS) if chance.random() < SHARE else None


def inference_id(received: Received) -> str:
    return received.header("x-amzn-sagemaker-inference-id") or ""


def call_once(client: Client, name: str) -> Ended:
    try:
        answer = client.invoke_endpoint_async(**CALL, InferenceId=name)
    except (TransportError, ClientError) as error:
        outcomes = [entry["Outcome"] for entry in error.metadata["Attempts"]]
        return Ended(
            name, None, error.with_traceback(None), outcomes, client._sender.quota.available
        )
    outcomes = [entry["Outcome"] for entry in answer["ResponseMetadata"]["Attempts"]]
    return Ended(name, answer, None, outcomes, client._sender.quota.available)


def soak(
    server: Emulator, retry_sent: bool, seconds: float
) -> tuple[list[Ended], tuple[int, int, int]]:
    """All calls, and connections, file descriptors and threads that are left when it is over."""
    calls: list[Ended] = []
    with counting_leaks() as leaks:
        client = Client(
            "us-east-1",
            endpoint_url=server.url,
            credentials=KEYS,
            environ={},
            verify=server.ca_bundle,
            read_timeout=SOAK_LIMIT_SECONDS,
            retry_sent=retry_sent,
            sleep=lambda seconds: None,
        )
        end = time.monotonic() + seconds

        def work(thread: int) -> None:
            count = 0
            while time.monotonic() < end:
                calls.append(call_once(client, f"{thread}-{count}"))
                count += 1

        with ThreadPoolExecutor(THREADS) as pool:
            for future in [pool.submit(work, thread) for thread in range(THREADS)]:
                future.result()
        client.close()
        eventually(lambda: not server.open_connections and leaks() == CLEAN[1:])
        return calls, (server.open_connections, *leaks())


def show_figures(name: str, server: Emulator, calls: list[Ended], duplicates: int) -> None:
    """What pytest -s shows."""
    kinds = collections.Counter(call.kind for call in calls)
    retried = sum(len(call.outcomes) - 1 for call in calls)
    lowest = min(call.quota for call in calls)
    print(
        f"\nsoak, {name}: {len(calls)} calls, {kinds.pop('answer', 0)} answers, {retried} retries"
    )
    print(f"  requests seen {len(server.requests)}, on {server.connections} connections;", end=" ")
    print(f"accepted {len(server.ledger)}, duplicates {duplicates}, lowest quota {lowest}")
    print("  errors:", ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))


@pytest.mark.slow
@pytest.mark.parametrize("name", SOAKS)
def test_every_call_of_a_soak_is_accounted_for(name):
    retry_sent, tls, share = SOAKS[name]
    with Emulator(tls=tls) as server:
        server.fail_every(soak_fault)
        calls, left = soak(server, retry_sent, SOAK_SECONDS * share)
    accepted = collections.defaultdict(list)
    for inference in server.ledger:
        accepted[inference.inference_id].append(inference.output_location)
    duplicates = sum(len(locations) - 1 for locations in accepted.values())
    show_figures(name, server, calls, duplicates)
    seen = collections.Counter(map(inference_id, server.requests))
    for call in calls:
        check(call, accepted.pop(call.inference_id, []), seen.pop(call.inference_id, 0))
    assert not accepted and not seen, "of calls that nobody made"
    assert left == CLEAN
    assert len({call.kind for call in calls}) > 3, "too short to tell"
    assert (duplicates > 0) == retry_sent


def check(call: Ended, accepted: list[str], seen: int) -> None:
    """Whether the caller was told the truth about one call; `accepted` are its results' places."""
    ambiguous = sum(outcome in AMBIGUOUS for outcome in call.outcomes)
    assert 1 <= len(call.outcomes) <= MAX_ATTEMPTS and 0 <= call.quota <= 500
    assert seen <= len(call.outcomes)
    if call.answer is not None:
        assert call.answer["OutputLocation"] in accepted
        assert call.answer.get("InferenceId", call.inference_id) == call.inference_id
        assert call.outcomes[-1] == "202" and 1 <= len(accepted) <= ambiguous + 1
        return
    if isinstance(call.error, ClientError):
        assert call.error.code in CODES and call.outcomes[-1] == call.error.code
        assert len(accepted) <= ambiguous
        return
    assert isinstance(call.error, TransportError) and call.error.kind in AMBIGUOUS
    assert call.outcomes[-1] == call.error.kind
    assert len(accepted) <= ambiguous - (not call.error.sent)
