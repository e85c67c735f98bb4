"""Section 1, Values: they cannot be changed, they compare by content, and they keep secrets.

Proves that no repr, and nothing that walks through tuples, shows a secret, a token, a signature or
a body, and that text which cannot be a key is refused without being quoted.
"""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smasync import Credentials, CredentialsError, Request, Response, Signed

SECRET, TOKEN = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "SESSION/TOKEN=="
HIDDEN = """AUTHORIZATION x-amz-security-token X-Amzn-SageMaker-Custom-Attributes
X-Aws-Ec2-Metadata-Token x-amz-sso_bearer_token Proxy-Authorization""".split()
HEADERS = (("Host", "example.com"), *((name, "hunter2") for name in HIDDEN))
REQUEST = Request("POST", "https://example.com/a?X-Amz-Signature=hunter2", HEADERS, b"hunter2")
KEYS = Credentials("AKIDEXAMPLE", SECRET, TOKEN, 1440938160.0, "123456789012")
VALUES = [
    KEYS,
    REQUEST,
    Response(202, (("A", "1"),), b"hunter2", False),
    Signed(REQUEST, "canonical hunter2", "to sign hunter2", "hunter2"),
]
values = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)


def fields(value):
    return value._asdict() if isinstance(value, tuple) else dict(vars(value))


@values
def test_a_value_cannot_be_changed(value):
    for name, before in fields(value).items():
        with pytest.raises(AttributeError):
            setattr(value, name, "other")
        assert getattr(value, name) is before
    with pytest.raises(AttributeError):
        value.added = 1


@values
def test_a_value_equals_its_copies_and_no_other(value):
    kind, content = type(value), fields(value)
    pickled = pickle.loads(pickle.dumps(value))
    for same in (kind(**content), copy.copy(value), copy.deepcopy(value), pickled):
        assert same == value and type(same) is kind
    for name in content:
        assert kind(**{**content, name: "other"}) != value


@values
def test_a_repr_hides_secrets(value):
    for shown in (repr(value), str(value), f"{[value]}"):
        assert not [text for text in ("hunter2", SECRET, TOKEN) if text in shown]


def test_nothing_that_walks_through_tuples_spills_a_key():
    for walk in (json.dumps, tuple, dict):
        with pytest.raises(TypeError):
            walk(KEYS)


def test_a_repr_shows_what_a_log_needs():
    assert repr(KEYS) == "<Credentials AKIDEXAMPLE, a session token>"
    assert (
        repr(Credentials("AKIDEXAMPLE", SECRET)) == "<Credentials AKIDEXAMPLE, no session token>"
    )
    assert repr(REQUEST) == "<Request POST https://example.com/a?…, 7 headers, body: 7 bytes>"
    upload = Request("PUT", "https://example.com/", (), lambda: None)
    assert repr(upload) == "<Request PUT https://example.com/, 0 headers, body: a stream>"
    assert repr(VALUES[2]) == "<Response 202, 1 headers, 7 bytes, cut short>"
    assert repr(Response(200, (), b"")) == "<Response 200, 0 headers, 0 bytes>"


def test_fields_have_their_defaults():
    for keys in (Credentials("AKIDEXAMPLE", SECRET), Credentials("AKIDEXAMPLE", SECRET, "")):
        assert (keys.session_token, keys.expires_at, keys.account_id) == (None, None, None)
    assert Request("GET", "https://example.com/", ()).body == b""
    assert Response(200, (), b"").complete is True


WRONG = {"line feed": "\n", "carriage return": "\r\n", "space": " ", "tab": "\t", "NUL": "\0",
         "letter beyond ASCII": "é", "DEL": "\x7f", "half a character": "\ud800"}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("name", ["access_key_id", "secret_access_key", "session_token"])
def test_what_cannot_be_a_key_is_refused_and_not_quoted(name, wrong):
    for text in (f"hunter2{wrong}", f"{wrong}hunter2", f"hun{wrong}ter2"):
        with pytest.raises(CredentialsError, match=f"{name} has a character") as raised:
            Credentials(**{**fields(KEYS), name: text})
        assert "hun" not in str(raised.value)


@pytest.mark.parametrize("half", ["", None, 5, b"AKIDEXAMPLE"])
def test_half_a_pair_of_keys_is_refused(half):
    with pytest.raises(CredentialsError, match="access_key_id is missing"):
        Credentials(half, SECRET)
    with pytest.raises(CredentialsError, match="secret_access_key is missing"):
        Credentials("AKIDEXAMPLE", half)


@settings(max_examples=30)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_any_visible_ascii_text_can_be_a_key(text):
    keys = Credentials(text, text, text)
    assert (keys.access_key_id, keys.secret_access_key, keys.session_token) == (text,) * 3


def test_a_header_is_found_in_any_case_and_the_first_one_counts():
    response = Response(200, (("Date", "one"), ("DATE", "two"), ("X-Empty", "")), b"")
    assert response.header("date") == response.header("DaTe") == "one"
    assert response.header("x-empty", "default") == ""
    assert response.header("missing") is None
    assert response.header("missing", "default") == "default"
