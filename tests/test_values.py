"""Values: they cannot be changed, they compare by content, and their reprs hide secrets."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smasync import Credentials, CredentialsError, Request, Response, Signed

SECRET, TOKEN = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "SESSION/TOKEN=="
HEADERS = (
    ("Host", "example.com"),
    ("AUTHORIZATION", "Signature=hunter2"),
    ("x-amz-security-token", "hunter2"),
    ("X-Amzn-SageMaker-Custom-Attributes", "hunter2"),
    ("X-Aws-Ec2-Metadata-Token", "hunter2"),
    ("x-amz-sso_bearer_token", "hunter2"),
    ("Proxy-Authorization", "hunter2"),
)
REQUEST = Request("POST", "https://example.com/a?X-Amz-Signature=hunter2", HEADERS, b"hunter2")
VALUES = {
    "Credentials": Credentials("AKIDEXAMPLE", SECRET, TOKEN, 1440938160.0, "123456789012"),
    "Request": REQUEST,
    "Response": Response(202, (("A", "1"),), b"hunter2", False),
    "Signed": Signed(REQUEST, "canonical hunter2", "to sign hunter2", "hunter2"),
}
values = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())


def fields(value):
    return value._asdict() if hasattr(value, "_asdict") else vars(value)


@values
def test_a_value_cannot_be_changed(value):
    for name, before in list(fields(value).items()):
        with pytest.raises(AttributeError):
            setattr(value, name, "other")
        assert getattr(value, name) is before
    with pytest.raises(AttributeError):
        value.added = 1


@values
def test_a_value_is_compared_by_its_content(value):
    same = type(value)(*fields(value).values())
    for copied in (
        same,
        copy.copy(value),
        copy.deepcopy(value),
        pickle.loads(pickle.dumps(value)),
    ):
        assert copied == value
        assert type(copied) is type(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Response(200, (), b""), Response(202, (), b"")),
        (Response(200, (), b""), Response(200, (), b"", False)),
        (Request("GET", "https://x/", ()), Request("PUT", "https://x/", ())),
        (Request("GET", "https://x/", ()), Request("GET", "https://x/", (), b"a")),
        (Credentials("A", "b"), Credentials("A", "c")),
        (Credentials("A", "b"), Credentials("A", "b", "t")),
    ],
)
def test_a_value_with_another_field_is_another_value(one, other):
    assert one != other


@values
def test_a_repr_hides_secrets(value):
    for secret in ("hunter2", SECRET, TOKEN):
        assert secret not in repr(value)
        assert secret not in str(value)
        assert secret not in f"{[value]}"


def test_nothing_that_walks_tuples_spills_a_secret():
    keys = VALUES["Credentials"]
    with pytest.raises(TypeError):
        json.dumps(keys)
    with pytest.raises(TypeError):
        tuple(keys)
    assert SECRET not in json.dumps({"keys": keys}, default=repr)


def test_a_repr_shows_what_a_log_needs():
    assert repr(VALUES["Credentials"]).startswith("<Credentials AKIDEXAMPLE, ")
    assert "no session token" in repr(Credentials("AKIDEXAMPLE", SECRET))
    assert "POST https://example.com/a?…" in repr(REQUEST)
    assert "('Host', 'example.com')" in repr(REQUEST)
    assert "<hidden, 7 characters>" in repr(REQUEST)
    assert "body: 7 bytes" in repr(REQUEST)
    assert "body: a stream" in repr(Request("PUT", "https://example.com/", (), lambda: None))
    assert repr(VALUES["Response"]) == "<Response 202, 1 headers, 7 bytes, cut short>"


def test_fields_have_their_defaults():
    keys = Credentials("AKIDEXAMPLE", SECRET)
    assert (keys.session_token, keys.expires_at, keys.account_id) == (None, None, None)
    assert Request("GET", "https://example.com/", ()).body == b""
    assert Response(200, (), b"").complete is True


@pytest.mark.parametrize("token", [None, ""])
def test_an_empty_session_token_is_none(token):
    assert Credentials("AKIDEXAMPLE", SECRET, token).session_token is None


WRONG = {"line feed": "\n", "carriage return": "\r\n", "space": " ", "tab": "\t", "NUL": "\0",
         "letter beyond ASCII": "é", "DEL": "\x7f", "half a character": "\ud800"}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("name", ["access_key_id", "secret_access_key", "session_token"])
def test_what_cannot_be_a_key_is_refused_and_not_quoted(name, wrong):
    keys = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "b", "session_token": "c"}
    for value in (f"hunter2{wrong}", f"{wrong}hunter2", f"hun{wrong}ter2"):
        with pytest.raises(CredentialsError, match=f"{name}: .*position [037] of") as raised:
            Credentials(**{**keys, name: value})
        assert "hun" not in str(raised.value)


@pytest.mark.parametrize("half", ["", None, 5, b"AKIDEXAMPLE"])
def test_half_a_pair_of_keys_is_refused(half):
    with pytest.raises(CredentialsError, match="access_key_id is missing"):
        Credentials(half, SECRET)
    with pytest.raises(CredentialsError, match="secret_access_key is missing"):
        Credentials("AKIDEXAMPLE", half)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_any_visible_text_can_be_a_key(text):
    keys = Credentials(text, text, text)
    assert (keys.access_key_id, keys.secret_access_key, keys.session_token) == (text,) * 3


def test_a_header_is_found_in_any_case_and_the_first_one_counts():
    response = Response(200, (("Date", "one"), ("DATE", "two"), ("X-Empty", "")), b"")
    assert response.header("date") == response.header("DaTe") == "one"
    assert response.header("x-empty", "default") == ""
    assert response.header("missing") is None
    assert response.header("missing", "default") == "default"
