"""Finds what must not get out or stay behind: secrets in errors, and open files and threads."""

from __future__ import annotations

import os
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


def open_things():
    """How many files and sockets are open, where the system says it, and how many threads run."""
    files = os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else []
    return len(files) + threading.active_count()
