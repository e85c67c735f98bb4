"""What an error shows to anyone who looks at any of it: to find secrets that got out."""

from __future__ import annotations

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
