"""Finds what must not get out or stay behind: secrets in errors, open files, threads, memory."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import traceback


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


def has_trace(text, secret, length=12):
    """Whether any piece of the secret is in the text, JSON's escapes or not."""
    plain = text.replace("\\", "")
    return any(secret[i : i + length] in plain for i in range(len(secret) - length + 1))


def let_go():
    """Frees what is no longer used. CPython counts references, and has done so at once."""
    if not hasattr(sys, "getrefcount"):
        gc.collect()


@contextlib.contextmanager
def counted_memory():
    """Yields a function: the most bytes that Python's objects took since. CPython counts them."""
    import tracemalloc

    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def open_things():
    """How many files and sockets are open, where the system says it, and how many threads run."""
    let_go()
    files = os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else []
    return len(files) + threading.active_count()
