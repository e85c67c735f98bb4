"""Errors and answers: whose fault it was, and what an answer means in each of its spellings.

No answer is too odd to be read, and an error's evidence is in its attributes.
"""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smasync
from smasync import ClientError, Response, TransportError, deserialize

# --- The classes

BASES = {
    smasync.ParamValidationError: (ValueError,),
    smasync.ConfigurationError: (),
    smasync.CredentialsError: (),
    smasync.TransportError: (OSError,),
    smasync.ClientError: (),
    smasync.ValidationError: (smasync.ClientError,),
    smasync.InternalFailure: (smasync.ClientError,),
    smasync.ServiceUnavailable: (smasync.ClientError,),
    smasync.InferenceError: (),
    smasync.ResultTimeout: (TimeoutError,),
}


@pytest.mark.parametrize(("kind", "bases"), BASES.items())
def test_one_base_and_the_builtin_that_python_programs_expect(kind, bases):
    assert issubclass(kind, (smasync.Error,))
    for base in bases:
        assert issubclass(kind, base)


def test_the_list_of_classes_is_complete():
    classes = {value for value in vars(smasync).values() if isinstance(value, type)}
    errors = {kind for kind in classes if issubclass(kind, smasync.Error)}
    assert errors == {smasync.Error, *BASES}


DEFAULTS = {
    smasync.Error: {},
    smasync.ParamValidationError: {"problems": ()},
    smasync.ConfigurationError: {},
    smasync.CredentialsError: {"tried": ()},
    smasync.TransportError: {"kind": "protocol", "sent": True},
    smasync.ClientError: {
        "response": {},
        "operation_name": "",
        "code": "",
        "message": "words",
        "status": None,
        "request_id": "",
        "hint": "",
    },
    smasync.InferenceError: {"location": "", "body": b"", "content_type": ""},
    smasync.ResultTimeout: {"location": "", "waited": 0.0},
}


@pytest.mark.parametrize(("kind", "attributes"), DEFAULTS.items())
def test_an_error_can_be_made_from_a_message_alone(kind, attributes):
    error = kind("words")
    assert str(error) == "words"
    assert error.args == ("words",)
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert isinstance(str(kind()), str)


ANSWER = {
    "Error": {"Message": "bad endpoint!", "Code": "ValidationError"},
    "ResponseMetadata": {"RequestId": "rid-1", "HTTPStatusCode": 400, "RetryAttempts": 0},
}
EVIDENCE = {
    smasync.ParamValidationError: {"problems": ("one", "two")},
    smasync.CredentialsError: {"tried": (("environment", "nothing"),)},
    smasync.TransportError: {"kind": "timeout", "sent": False},
    smasync.ValidationError: {"response": ANSWER, "operation_name": "InvokeEndpointAsync"},
    smasync.ClientError: {"response": ANSWER, "operation_name": "X", "hint": "do this"},
    smasync.InferenceError: {"location": "s3://b/k", "body": b"why", "content_type": "text/plain"},
    smasync.ResultTimeout: {"location": "s3://b/k", "waited": 900.0},
}


@pytest.mark.parametrize(("kind", "evidence"), EVIDENCE.items())
def test_the_evidence_outlives_copies_and_processes(kind, evidence):
    error = kind("words", **evidence)
    for same in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is kind
        assert str(same) == str(error)
        assert {name: getattr(same, name) for name in evidence} == evidence


def test_a_client_error_reads_its_response():
    error = smasync.ClientError("", response=ANSWER, operation_name="InvokeEndpointAsync")
    assert (error.code, error.message) == ("ValidationError", "bad endpoint!")
    assert (error.status, error.request_id) == (400, "rid-1")


@pytest.mark.parametrize(
    ("metadata", "inserted"),
    [
        ({}, ""),
        ({"RetryAttempts": 2}, ""),
        ({"RetryAttempts": 2, "MaxAttemptsReached": False}, ""),
        ({"RetryAttempts": 2, "MaxAttemptsReached": True}, " (reached max retries: 2)"),
        ({"MaxAttemptsReached": True}, ""),
    ],
)
def test_the_text_of_a_client_error_is_botocores(metadata, inserted):
    response = {"Error": {"Message": "busy", "Code": "Throttling"}, "ResponseMetadata": metadata}
    error = smasync.ClientError(
        "", response=response, operation_name="InvokeEndpointAsync", hint="wait"
    )
    assert str(error) == (
        "An error occurred (Throttling) when calling the InvokeEndpointAsync operation"
        f"{inserted}: busy"
    )


@pytest.mark.parametrize("response", [{}, {"Error": {}}, {"ResponseMetadata": {}}])
def test_a_client_error_can_be_made_from_any_response(response):
    error = smasync.ClientError("words", response=response)
    assert isinstance(str(error), str)
    assert (error.code, error.status) == ("", None)


# --- Answers

URI = "http://internal.amazon.com/coral/com.amazon.coral.validate/"
OUTPUT = ("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out.json")
FAILURE = ("X-Amzn-SageMaker-FailureLocation", "s3://bucket/why.out")


def refusal(status, headers=(), body=b""):
    """The error that an answer is read as."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ClientError) as raised:
        deserialize(Response(status, tuple(headers), content))
    return raised.value


# --- Success

ANSWERS = {
    "all": ((OUTPUT, FAILURE), b'{"InferenceId": "id-1"}', "OutputLocation FailureLocation"),
    "header alone": ((OUTPUT,), b"", "OutputLocation"),
    "header and another page": ((OUTPUT,), b"<html>", "OutputLocation"),
    "header and no object": ((OUTPUT,), b"[1]", "OutputLocation"),
    "JSON alone": ((), b'{"InferenceId": "id-1"}', ""),
    "JSON with more": ((), b'{"InferenceId": "id-1", "New": {}}', ""),
    "JSON after a BOM": ((), b'\xef\xbb\xbf {"InferenceId": "id-1"}\r\n', ""),
    "empty JSON": ((), b"{}", ""),
    "an id that is no text": ((OUTPUT,), b'{"InferenceId": 5}', "OutputLocation"),
    "headers in lower case": (
        (("x-amzn-sagemaker-outputlocation", OUTPUT[1]),),
        b"{}",
        "OutputLocation",
    ),
    "a header of another name": ((("X-Amzn-SageMaker-New", "1"),), b"", ""),
}


@pytest.mark.parametrize("status", [200, 202, 299])
@pytest.mark.parametrize(("headers", "body", "members"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_2xx_with_a_header_or_json_of_sagemaker_is_success(status, headers, body, members):
    answer = deserialize(Response(status, headers, body))
    expected = {"OutputLocation": OUTPUT[1], "FailureLocation": FAILURE[1]}
    expected = {name: expected[name] for name in members.split()}
    if b'"id-1"' in body:
        expected["InferenceId"] = "id-1"
    metadata = answer.pop("ResponseMetadata")
    assert answer == expected
    assert metadata["HTTPStatusCode"] == status


@pytest.mark.parametrize("body", [b"", b'{"InferenceId": "id', b'{"InferenceId": "\xc3'])
def test_an_answer_that_was_cut_short_is_success(body):
    answer = deserialize(Response(202, (OUTPUT,), body, complete=False))
    assert answer["OutputLocation"] == OUTPUT[1]
    assert "InferenceId" not in answer


NOT_SAGEMAKER = {
    "log-in page": b"<html>log in</html>",
    "empty": b"",
    "list": b"[]",
    "text in quotes": b'"accepted"',
    "null": b"null",
    "half an object": b'{"InferenceId": "id',
    "an object and a BOM": b'{"InferenceId": "id-1"}\xef\xbb\xbf',
    "deep": b'{"a":' * 10_000,
}


@pytest.mark.parametrize("body", NOT_SAGEMAKER.values(), ids=NOT_SAGEMAKER.keys())
def test_another_2xx_is_a_protocol_error(body):
    headers = (("Content-Type", "text/html"), ("x-amzn-requestid", "rid-1"))
    with pytest.raises(TransportError, match="HTTP 200 .*SageMaker.*text/html") as raised:
        deserialize(Response(200, headers, body))
    assert (raised.value.kind, raised.value.sent) == ("protocol", True)


def test_metadata_has_boto3s_shape():
    headers = (
        ("X-Amzn-RequestId", "rid-1"),
        ("Date", "today"),
        OUTPUT,
        ("Via", "a"),
        ("VIA", "b"),
    )
    assert deserialize(Response(202, headers, b"{}"))["ResponseMetadata"] == {
        "RequestId": "rid-1",
        "HTTPStatusCode": 202,
        "HTTPHeaders": {
            "x-amzn-requestid": "rid-1",
            "date": "today",
            "x-amzn-sagemaker-outputlocation": OUTPUT[1],
            "via": "a, b",
        },
        "RetryAttempts": 0,
    }


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("x-amzn-requestid", "0"),
        ("X-Amz-RequestId", "0"),
        ("x-amz-request-id", "0"),
        ("x-amz-request-id X-Amz-RequestId X-Amzn-RequestId", "2"),
        ("x-amz-request-id x-amz-requestid", "1"),
        ("x-request-id", ""),
    ],
)
def test_the_request_id_has_three_headers(names, found):
    headers = [(name, str(position)) for position, name in enumerate(names.split())]
    answer = deserialize(Response(202, tuple(headers), b"{}"))
    assert answer["ResponseMetadata"]["RequestId"] == found
    assert refusal(400, headers).request_id == found


# --- Refusals

TYPE = "X-Amzn-ErrorType"
CODES = {
    "header": ({TYPE: "FooError"}, {}, "FooError"),
    "header in lower case": ({"x-amzn-errortype": "FooError"}, {}, "FooError"),
    "header with URL": ({TYPE: f"FooError:{URI}"}, {}, "FooError"),
    "header with namespace and URL": ({TYPE: f"aws.x.rest#FooError:{URI}"}, {}, "FooError"),
    "__type": ({}, {"__type": "FooError"}, "FooError"),
    "__type with namespace": ({}, {"__type": "com.amazonaws.x#FooError"}, "FooError"),
    "__type with both": ({}, {"__type": f"aws.x.rest#FooError:{URI}"}, "FooError"),
    "code": ({}, {"code": "FooError"}, "FooError"),
    "code with both": ({}, {"code": f"aws.x.rest#FooError:{URI}"}, "FooError"),
    "Code": ({}, {"Code": "FooError"}, "FooError"),
    "header before body": ({TYPE: "A"}, {"__type": "B", "code": "C", "Code": "D"}, "A"),
    "__type before code": ({}, {"Code": "D", "code": "C", "__type": "B"}, "B"),
    "code before Code": ({}, {"Code": "D", "code": "C"}, "C"),
    "empty header": ({TYPE: ""}, {"code": "C"}, "C"),
    "code that is null": ({}, {"code": None, "Code": "D"}, "D"),
    "code that is an object": ({}, {"__type": {"a": 1}, "code": "C"}, "C"),
    "nothing": ({}, {}, "418"),
    "nothing but a message": ({}, {"message": "FooError"}, "418"),
    "lists": ({}, {"__type": [], "code": ["C"], "Code": {}}, "418"),
    "empty": ({TYPE: ""}, {"code": ""}, "418"),
    "nothing before the colon": ({TYPE: f":{URI}"}, {}, "418"),
}


@pytest.mark.parametrize(("headers", "body", "code"), CODES.values(), ids=CODES.keys())
def test_the_error_code_is_found_in_each_spelling(headers, body, code):
    error = refusal(418, headers.items(), {**body, "message": "words"})
    assert error.code == error.response["Error"]["Code"] == code
    assert (error.message, error.status) == ("words", 418)


MODELLED = {
    "ValidationError": (400, smasync.ValidationError),
    "InternalFailure": (500, smasync.InternalFailure),
    "ServiceUnavailable": (503, smasync.ServiceUnavailable),
    "validationerror": (400, ClientError),
    "AccessDeniedException": (403, ClientError),
    "ThrottlingException": (400, ClientError),
    "BrandNewError": (499, ClientError),
}


@pytest.mark.parametrize(("code", "status", "kind"), [(c, *rest) for c, rest in MODELLED.items()])
def test_modelled_errors_have_classes(code, status, kind):
    error = refusal(status, [(TYPE, code), ("x-amzn-requestid", "rid-1")], {"message": "bad!"})
    assert type(error) is kind
    assert error.operation_name == "InvokeEndpointAsync"
    assert str(error) == (
        f"An error occurred ({code}) when calling the InvokeEndpointAsync operation: bad!"
    )
    assert error.response["Error"] == {"Code": code, "Message": "bad!"}
    assert error.response["ResponseMetadata"] == {
        "RequestId": "rid-1",
        "HTTPStatusCode": status,
        "HTTPHeaders": {"x-amzn-errortype": code, "x-amzn-requestid": "rid-1"},
        "RetryAttempts": 0,
    }


def test_the_text_says_when_retries_were_used_up():
    error = refusal(503, [(TYPE, "ServiceUnavailable")], {"message": "busy"})
    error.response["ResponseMetadata"].update(RetryAttempts=2, MaxAttemptsReached=True)
    assert str(error) == (
        "An error occurred (ServiceUnavailable) when calling the InvokeEndpointAsync operation "
        "(reached max retries: 2): busy"
    )


MESSAGES = {
    "message": ({"message": "words"}, "words"),
    "Message": ({"Message": "words"}, "words"),
    "both": ({"Message": "more", "message": "words"}, "words"),
    "another case": ({"MESSAGE": "words"}, "words"),
    "empty": ({"message": ""}, ""),
    "null": ({"message": None}, ""),
    "missing": ({"code": "C"}, ""),
    "errorMessage is not one": ({"errorMessage": "words"}, ""),
    "beyond ASCII": ({"message": "wörds \U0001f600"}, "wörds \U0001f600"),
}


@pytest.mark.parametrize(("body", "message"), MESSAGES.values(), ids=MESSAGES.keys())
def test_the_message_is_found_in_each_spelling(body, message):
    assert refusal(400, (), body).message == message


@pytest.mark.parametrize("value", [42, 1.5, True, ["a"], {"a": 1}, []])
def test_a_message_that_is_no_text_becomes_text(value):
    error = refusal(400, (), {"message": value})
    assert isinstance(error.message, str)
    assert error.message in str(error)


HTML = b"<html><body>503 Service Temporarily Unavailable</body></html>"
PAGES = {
    "HTML 503": (503, HTML, "503", "Service Unavailable"),
    "HTML 500 after a line": (500, b"\n" + HTML, "500", "Internal Server Error"),
    "empty 500": (500, b"", "500", "Internal Server Error"),
    "empty 502": (502, b"", "502", "Bad Gateway"),
    "white 504": (504, b" \r\n", "504", "Gateway Timeout"),
    "text 400": (400, b"no such thing", "400", "no such thing"),
    "text 500": (500, b"broken", "500", "broken"),
    "cut short": (400, b'{"message": "wor', "400", '{"message": "wor'),
    "list": (400, b'["words"]', "400", '["words"]'),
    "not UTF-8": (400, b"\xff", "400", "\ufffd"),
}


@pytest.mark.parametrize(("status", "body", "code", "message"), PAGES.values(), ids=PAGES.keys())
def test_an_answer_that_is_no_json_object_is_an_error_by_its_status(status, body, code, message):
    error = refusal(status, (), body)
    assert type(error) is ClientError
    assert (error.code, error.message, error.status) == (code, message, status)


@pytest.mark.parametrize("status", [301, 302, 304, 307, 400, 404, 599, 600, 999, 199, 0])
def test_an_empty_answer_of_any_other_status_is_an_error(status):
    error = refusal(status)
    assert (error.code, error.status) == (str(status), status)


def test_a_header_names_the_code_of_an_answer_that_is_no_json():
    error = refusal(503, [(TYPE, "ServiceUnavailable")], HTML)
    assert type(error) is smasync.ServiceUnavailable


def test_a_flood_of_text_is_not_quoted_whole():
    error = refusal(400, (), b"flood " * 100_000)
    assert len(error.message) < 5000
    assert "600000 bytes" in error.message


DEPTHS = [*range(10, 1100, 7), 3000, 10_000, 100_000]
NESTED = {
    "objects": (b'{"a":', b"1", b"}"),
    "lists": (b"[", b"1", b"]"),
    "in the message": (b'{"message":', b"1", b"}"),
    "lists in the message": (b"[", b"1", b"]"),
    "in the code": (b'{"code":', b'"C"', b"}"),
}


@pytest.mark.parametrize("name", NESTED)
def test_json_of_any_depth_is_read(name):
    start, middle, end = NESTED[name]
    for depth in DEPTHS:
        body = start * depth + middle + end * depth
        if name == "lists in the message":
            body = b'{"message":' + body + b"}"
        assert isinstance(str(refusal(400, (), body)), str)
        answer = deserialize(Response(202, (OUTPUT,), body))
        assert answer["OutputLocation"] == OUTPUT[1]


# --- Whatever comes

names = st.one_of(
    st.sampled_from([TYPE, OUTPUT[0], "x-amzn-requestid", "Content-Type", "x-amzn-sagemaker-x"]),
    st.text(max_size=9),
)
keys = st.one_of(
    st.sampled_from("__type code Code message Message InferenceId".split()), st.text(max_size=3)
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9))
documents = st.dictionaries(
    keys, st.recursive(leaves, lambda some: st.one_of(st.lists(some), st.dictionaries(keys, some)))
)
contents = st.one_of(
    st.binary(max_size=50),
    documents.map(lambda document: json.dumps(document).encode()),
    documents.map(lambda document: json.dumps(document).encode()[:-1]),
    documents.map(lambda document: json.dumps(document).encode("utf-16")),
)


@given(
    status=st.one_of(st.integers(100, 599), st.integers(), st.sampled_from([200, 202, 204])),
    headers=st.lists(st.tuples(names, st.text(max_size=20)), max_size=4),
    body=contents,
    complete=st.booleans(),
)
def test_any_answer_is_a_success_or_an_error_of_ours(status, headers, body, complete):
    try:
        answer = deserialize(Response(status, tuple(headers), body, complete))
    except (ClientError, TransportError) as error:
        assert str(error)
        answer = getattr(error, "response", {})
        assert not 200 <= status < 300 or isinstance(error, TransportError)
    else:
        assert 200 <= status < 300
    json.dumps(answer)


# --- Why a signature was refused

OURS = "POST\n/a%20b\n\nhost:example.com\nx-amz-date:20150830T123600Z\n\nhost;x-amz-date\nhash"
CHANGES = {
    # what the service had instead, and the line that differs
    "method": ("POST", "PUT", 1),
    "path": ("/a%20b", "/a%2520b", 2),
    "header": ("host:example.com", "host:example.com:8080", 4),
    "header missing": ("x-amz-date:20150830T123600Z\n", "", 5),
    "signed headers": ("host;x-amz-date", "x-amz-date", 7),
    "payload": ("hash", "other", 8),
}


def in_message(theirs):
    return {"Message": f"No.\n\n{smasync.EXPECTED}{theirs}'\n\nThe String-to-Sign should ..."}


@pytest.mark.parametrize("told", [in_message, lambda theirs: {"CanonicalRequest": theirs}])
@pytest.mark.parametrize(("old", "new", "line"), CHANGES.values(), ids=CHANGES.keys())
def test_the_first_line_that_differs_is_named(told, old, new, line):
    theirs = OURS.replace(old, new, 1)
    hint = smasync.mismatch(told(theirs), OURS)
    want, have = theirs.split("\n")[line - 1], OURS.split("\n")[line - 1]
    where = f"line {line} of the canonical request"
    assert hint == f"{where}: the service has {want!r}, we have {have!r}"


def test_when_no_line_differs_the_key_is_another_one():
    assert "secret key or the token" in smasync.mismatch(in_message(OURS), OURS)


def test_when_the_service_does_not_say_there_is_no_hint():
    assert smasync.mismatch({"Message": "The signature does not match."}, OURS) == ""
    assert smasync.mismatch({}, OURS) == ""


def test_a_line_with_a_secret_is_compared_by_its_length():
    ours = OURS.replace("host:", "x-amz-security-token:hunter2\nhost:")
    theirs = ours.replace("hunter2", "hunter22")
    hint = smasync.mismatch(in_message(theirs), ours)
    assert "hunter2" not in hint
    assert "<token, 8 characters>" in hint and "<token, 7 characters>" in hint
