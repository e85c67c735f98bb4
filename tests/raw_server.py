"""Servers on the loopback interface that send whatever bytes a test wants."""

from __future__ import annotations

import contextlib
import re
import socket
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
        self._listener.settimeout(0.02)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"
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

    def pump(self, source, target):
        """Copies what comes from the source to the target, until either ends."""
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
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
