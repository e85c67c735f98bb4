"""Servers on the loopback interface that send whatever bytes a test wants."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
import time
from pathlib import Path

import emulator as emu

LOOPBACK = str(Path(__file__).with_name("loopback.pem"))  # the emulator's certificate


def wait_until(condition, seconds=5.0):
    """Returns once the condition holds; AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class RawServer:
    """Calls serve(sock) for each connection, in a thread of its own; a context manager."""

    def __init__(self, serve, tls=False):
        self.serve, self.connections, self.requests = serve, 0, []
        self.context = emu.server_context(LOOPBACK) if tls else None
        self.closing = threading.Event()
        self._sockets, self._threads = [], []

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"
        self._start(self._accept)
        return self

    def __exit__(self, *exc):
        self.closing.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes accept()
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
        while True:
            sock, _ = self._listener.accept()
            if self.closing.is_set():
                return sock.close()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._start(self._run, sock)

    def _run(self, sock):
        with contextlib.suppress(OSError):
            if self.context:
                sock = self.context.wrap_socket(sock, server_side=True)
            self._sockets.append(sock)
            with sock:
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

    def forward(self, sock, port, first=b""):
        """Copies in both directions between the socket and whoever listens on the port."""
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            self._sockets.append(upstream)
            upstream.sendall(first)
            self._start(pump, upstream, sock)
            pump(sock, upstream)


def pump(source, target):
    """Copies what comes from the source to the target, until either ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def read_head(sock):
    """All up to the end of a request's head, if not more; b"" when the client has gone."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        data = sock.recv(65_536)
        if not data:
            return b""
        raw += data
    return raw


def answering(*answers, keep=True, tls=False):
    """A RawServer that gives its n-th request the n-th answer, the last one ever after.

    An answer is bytes, or several that are sent one by one.
    """

    def serve(sock):
        while running.read_request(sock):
            answer = answers[min(len(running.requests), len(answers)) - 1]
            for piece in [answer] if isinstance(answer, bytes) else answer:
                sock.sendall(piece)
            if not keep:
                return

    running = RawServer(serve, tls)
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
        running.forward(sock, target_port, b"" if is_connect else head)

    running = RawServer(serve)
    return running


def reset(sock):
    """Ends the connection with RST instead of FIN."""
    layout = "hh" if os.name == "nt" else "ii"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(layout, 1, 0))
    sock.close()


def hang_up(sock):
    """Ends the connection with FIN, TLS or not."""
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def silence(sock):
    """Reads on, and says nothing, until the other side ends the connection."""
    while sock.recv(65_536):
        pass


def full_house(address, port):
    """A listener with no room for another connection, and what fills it: who connects waits."""
    sockets = [socket.socket()]
    sockets[0].bind((address, port))
    sockets[0].listen(0)
    with contextlib.suppress(socket.timeout):
        while True:
            sockets.append(socket.create_connection(sockets[0].getsockname(), 0.2))
    return sockets


def free_port():
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def message(*lines, body=b""):
    """An HTTP answer of these lines and this body."""
    return "\r\n".join([*lines, "", ""]).encode() + body


def plain(body):
    return message("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", body=body)
