"""Section 4, Errors and answers: whose fault it was, and what an answer means in each spelling.

Proves that an answer of any status and content is read, as boto3 reads it; that an accepted job is
never taken for a failure, nor another server's page for a job; that errors carry their evidence as
attributes; and that a refused signature is explained without showing a secret.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smasync
from smasync import ClientError, Response, TransportError, deserialize

# --- The classes

ANSWER = {
    "Error": {"Message": "bad endpoint!", "Code": "ValidationError"},
    "ResponseMetadata": {"RequestId": "rid-1", "HTTPStatusCode": 400, "RetryAttempts": 0},
}
NO_ANSWER = {"response": {}, "operation_name": "", "code": "", "status": None, "request_id": "",
             "hint": "", "message": "words"}  # fmt: skip
REFUSED = {"response": ANSWER, "operation_name": "X", "hint": "do this"}
FAILED = {"location": "s3://b/k", "body": b"why", "content_type": "text/plain"}
CLASSES = {
    # name: (what else it is, attributes without evidence, evidence)
    "ParamValidationError": (ValueError, {"problems": ()}, {"problems": ("one", "two")}),
    "ConfigurationError": (Exception, {}, {}),
    "CredentialsError": (Exception, {"tried": ()}, {"tried": (("environment", "nothing"),)}),
    "TransportError": (OSError, {"kind": "protocol", "sent": True, "retryable": True},
                       {"kind": "timeout", "sent": False, "retryable": False}),
    "ClientError": (Exception, NO_ANSWER, REFUSED),
    "ValidationError": (ClientError, NO_ANSWER, REFUSED),
    "InternalFailure": (ClientError, NO_ANSWER, REFUSED),
    "ServiceUnavailable": (ClientError, NO_ANSWER, REFUSED),
    "InferenceError": (Exception, {"location": "", "body": b"", "content_type": ""}, FAILED),
    "ResultTimeout": (TimeoutError, {"location": "", "waited": 0.0},
                      {"location": "s3://b/k", "waited": 900.0}),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_is_made_from_a_message_alone_and_keeps_its_evidence_in_copies(name):
    kind, (base, defaults, evidence) = getattr(smasync, name), CLASSES[name]
    assert issubclass(kind, smasync.Error) and issubclass(kind, base)
    bare, error = kind("words"), kind("words", **evidence)
    assert (str(bare), bare.args) == ("words", ("words",))
    assert {name: getattr(bare, name) for name in defaults} == defaults
    for same in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(same), str(same)) == (kind, str(error))
        assert {name: getattr(same, name) for name in evidence} == evidence
    with pytest.raises(TypeError, match="has no 'other'"):
        kind("words", other=1)


@pytest.mark.parametrize("reached", [True, False, None])
def test_the_text_of_a_client_error_is_botocores(reached):
    metadata = {"RetryAttempts": 2, "MaxAttemptsReached": reached}
    response = {"Error": {"Message": "busy", "Code": "Slow"}, "ResponseMetadata": metadata}
    error = ClientError("", response=response, operation_name="Op", hint="wait")
    retried = " (reached max retries: 2)" if reached else ""
    assert str(error) == f"An error occurred (Slow) when calling the Op operation{retried}: busy"


# --- Success

OUTPUT = ("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out.json")
FAILURE = ("X-Amzn-SageMaker-FailureLocation", "s3://bucket/why.out")
OUT, ID = {"OutputLocation": OUTPUT[1]}, {"InferenceId": "id-1"}
ANSWERS = {
    "all": ((OUTPUT, FAILURE), b'{"InferenceId": "id-1"}', {**OUT, "FailureLocation": FAILURE[1], **ID}),
    "header alone": ((OUTPUT,), b"", OUT),
    "header in lower case": ((("x-amzn-sagemaker-outputlocation", OUTPUT[1]),), b"{}", OUT),
    "header and another page": ((OUTPUT,), b"<html>", OUT),
    "header and no object": ((OUTPUT,), b"[1]", OUT),
    "header and a body cut short": ((OUTPUT,), b'{"InferenceId": "id', OUT),
    "header and a letter cut short": ((OUTPUT,), b'{"InferenceId": "\xc3', OUT),
    "header and an id that is no text": ((OUTPUT,), b'{"InferenceId": 5}', OUT),
    "header of another name": ((("X-Amzn-SageMaker-New", "1"),), b"", {}),
    "JSON alone": ((), b'{"InferenceId": "id-1"}', ID),
    "JSON after a BOM": ((), b'\xef\xbb\xbf {"InferenceId": "id-1"}\r\n', ID),
    "empty JSON": ((), b"{}", {}),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "body", "members"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_2xx_with_a_header_or_json_of_sagemaker_is_success(headers, body, members):
    for status, complete in ((200, True), (202, False), (299, True)):
        answer = deserialize(Response(status, headers, body, complete))
        assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == status
        assert answer == members


NOT_SAGEMAKER = {
    "log-in page": b"<html>log in</html>",
    "empty": b"",
    "half an object": b'{"InferenceId": "id',
    "deep": b'{"a":' * 10_000,
}


@pytest.mark.parametrize("body", NOT_SAGEMAKER.values(), ids=NOT_SAGEMAKER.keys())
def test_another_2xx_is_a_protocol_error_that_is_not_retried(body):
    headers = (("Content-Type", "text/html"), ("x-amzn-requestid", "rid-1"))
    with pytest.raises(TransportError, match="HTTP 200 .*text/html.*SageMaker") as raised:
        deserialize(Response(200, headers, body))
    assert (raised.value.kind, raised.value.retryable) == ("protocol", False)


def test_metadata_has_what_a_bare_answer_can_say_in_boto3s_shape():
    headers = (("X-Amzn-RequestId", "rid-1"), ("Date", "today"), ("Via", "a"), ("VIA", "b"))
    assert deserialize(Response(202, headers, b"{}"))["ResponseMetadata"] == {
        "RequestId": "rid-1",
        "HTTPStatusCode": 202,
        "HTTPHeaders": {"x-amzn-requestid": "rid-1", "date": "today", "via": "a, b"},
    }


# --- Refusals

URI = "http://internal.amazon.com/coral/com.amazon.coral.validate/"
TYPE = "X-Amzn-ErrorType"


def refusal(status, headers=(), body=b""):
    """The error that an answer is read as."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ClientError) as raised:
        deserialize(Response(status, tuple(headers), content))
    return raised.value


REQUEST_IDS = {
    # names of headers, whose values are 0, 1, 2: the request id
    "x-amzn-requestid": "0",
    "X-Amz-RequestId": "0",
    "x-amz-request-id X-Amz-RequestId X-Amzn-RequestId": "2",
    "x-amz-request-id x-amz-requestid": "1",
    "x-amz-request-id x-request-id": "0",
    "x-request-id": "",
}


@pytest.mark.parametrize(("names", "found"), REQUEST_IDS.items())
def test_the_request_id_has_three_headers(names, found):
    headers = [(name, str(position)) for position, name in enumerate(names.split())]
    answer = deserialize(Response(202, tuple(headers), b"{}"))
    assert answer["ResponseMetadata"]["RequestId"] == found
    assert refusal(400, headers).request_id == found


CODES = {
    "header in lower case": ({"x-amzn-errortype": "FooError"}, {}, "FooError"),
    "header with namespace and URL": ({TYPE: f"aws.x.rest#FooError:{URI}"}, {}, "FooError"),
    "__type with namespace": ({}, {"__type": "com.amazonaws.x#FooError"}, "FooError"),
    "code with both": ({}, {"code": f"aws.x.rest#FooError:{URI}"}, "FooError"),
    "Code": ({}, {"Code": "FooError"}, "FooError"),
    "header before body": ({TYPE: "A"}, {"__type": "B", "code": "C", "Code": "D"}, "A"),
    "__type before code": ({}, {"Code": "D", "code": "C", "__type": "B"}, "B"),
    "code before Code": ({}, {"Code": "D", "code": "C"}, "C"),
    "empty header": ({TYPE: ""}, {"code": "C"}, "C"),
    "code that is null": ({}, {"code": None, "Code": "D"}, "D"),
    "code that is an object": ({}, {"__type": {"a": 1}, "code": "C"}, "C"),
    "nothing": ({}, {}, "418"),
    "nothing before the colon": ({TYPE: f":{URI}"}, {}, "418"),
}


@pytest.mark.parametrize(("headers", "body", "code"), CODES.values(), ids=CODES.keys())
def test_the_error_code_is_found_in_each_spelling(headers, body, code):
    error = refusal(418, headers.items(), {**body, "message": "words"})
    assert error.code == error.response["Error"]["Code"] == code
    assert (error.message, error.status) == ("words", 418)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ValidationError", 400, smasync.ValidationError),
        ("InternalFailure", 500, smasync.InternalFailure),
        ("ServiceUnavailable", 503, smasync.ServiceUnavailable),
        ("validationerror", 400, ClientError),
        ("BrandNewError", 499, ClientError),
    ],
)
def test_modelled_errors_have_classes_and_botocores_dict(code, status, kind):
    error = refusal(status, [(TYPE, code), ("x-amzn-requestid", "rid-1")], {"message": "bad!"})
    assert (type(error), error.operation_name) == (kind, "InvokeEndpointAsync")
    assert error.response.pop("Message", "") == ("bad!" if kind is not ClientError else "")
    assert error.response == {
        "Error": {"Code": code, "Message": "bad!"},
        "ResponseMetadata": {
            "RequestId": "rid-1",
            "HTTPStatusCode": status,
            "HTTPHeaders": {"x-amzn-errortype": code, "x-amzn-requestid": "rid-1"},
        },
    }


HTML = b"<html><body>503 Service Temporarily Unavailable</body></html>"
MESSAGES = {
    "message": (400, {"message": "wörds \U0001f600"}, "wörds \U0001f600"),
    "both": (400, {"Message": "more", "message": "words"}, "words"),
    "another case": (400, {"MESSAGE": "words"}, "words"),
    "null": (400, {"message": None}, ""),
    "none": (400, {"errorMessage": "words"}, ""),
    "a number": (400, {"message": 42}, "42"),
    "a list": (400, {"message": ["a"]}, ""),
    "HTML of a 503": (503, HTML, "Service Unavailable"),
    "HTML after a line": (500, b"\n<!DOCTYPE html>", "Internal Server Error"),
    "nothing": (502, b"", "Bad Gateway"),
    "white space": (504, b" \r\n", "Gateway Timeout"),
    "nothing, of a status without words": (599, b"", ""),
    "text": (400, b"no such thing", "no such thing"),
    "text of a 500": (500, b"broken", "broken"),
    "JSON that is no object": (400, b'["words"]', '["words"]'),
    "not UTF-8": (400, b"\xff", "\ufffd"),
    "a flood": (400, b"f" * 100_000, "f" * 4096),
}


@pytest.mark.parametrize(("status", "body", "message"), MESSAGES.values(), ids=MESSAGES.keys())
def test_the_message_is_what_can_be_said_of_the_body(status, body, message):
    error = refusal(status, (), body)
    assert type(error) is ClientError
    assert (error.message, error.code, error.status) == (message, str(status), status)


# --- Whatever comes

NESTED = {
    "objects": (b'{"a":', b"1", b"}"),
    "lists": (b"[", b"1", b"]"),
    "lists in the message": (b'{"message":' + b"[" * 9, b"1", b"]" * 9 + b"}"),
    "objects in the code": (b'{"code":', b'"C"', b"}"),
}


@pytest.mark.parametrize(("start", "middle", "end"), NESTED.values(), ids=NESTED.keys())
def test_json_of_any_depth_is_read(start, middle, end):
    for depth in [*range(10, 1100, 35), 3000, 100_000]:
        body = start * depth + middle + end * depth
        assert isinstance(str(refusal(400, (), body)), str)
        assert deserialize(Response(202, (OUTPUT,), body))["OutputLocation"] == OUTPUT[1]


names = st.sampled_from([TYPE, OUTPUT[0], "x-amzn-requestid", "Content-Type", "é"])
keys = st.sampled_from("__type code Code message Message InferenceId other".split())
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9))
values = st.one_of(leaves, st.lists(leaves, max_size=3), st.dictionaries(keys, leaves))
documents = st.dictionaries(keys, values, max_size=4).map(json.dumps)
contents = st.one_of(
    st.binary(max_size=50),
    documents.map(str.encode),
    documents.map(lambda document: document.encode()[:-1]),
    documents.map(lambda document: document.encode("utf-16")),
)


@settings(max_examples=80)
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
        assert not 200 <= status < 300 or isinstance(error, TransportError)
        answer = getattr(error, "response", {})
    else:
        assert 200 <= status < 300
    json.dumps(answer)


# --- What a client makes of a refusal: its hint, and S3's XML


def asked(call, answer):
    """The error of one call to which a service gives an answer, made from its request."""
    no_files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    secrets = smasync.Credentials("AKIDEXAMPLE", "a-secret-of-some-length", "SESSION-TOKEN")
    client = smasync.Client(
        "us-east-1", credentials=secrets, environ=no_files, max_attempts=1,
        transport=lambda request, **options: answer(request),
    )  # fmt: skip
    with pytest.raises(ClientError) as raised:
        call(client)
    assert not re.search("a-secret-of|SESSION-TOKEN|CONFIDENTIAL", repr(vars(raised.value)))
    return raised.value


def invoke(client):
    client.invoke_endpoint_async(
        EndpointName="my-endpoint", InputLocation="s3://b/k", CustomAttributes="CONFIDENTIAL"
    )


def put(client):
    client.put_input(b"{}", "s3://bucket/in.json")


CHANGES = {
    # what is other in the service's canonical request: (pattern, replacement, the hint)
    "method": ("^P[A-Z]+", "GET", "line 1 of the canonical request: the service has 'GET', we have 'P"),
    "path": ("^(.*)\n/", r"\1\n//", "line 2 of .* has '//.*', we have '/[a-z]"),
    "a header": ("\nhost:", "\nhost:proxy.", r"has 'host:proxy\.(.*)', we have 'host:\1'"),
    "a header missing": ("\nhost:.*", "", "has 'x-.*', we have 'host:"),
    "the payload": ("[0-9a-f]{64}$", "other", "line [0-9]+ of .* has 'other', we have '[0-9a-f]+'"),
    "the token": ("SESSION-TOKEN", "OTHER", "token"),
    "nothing": ("nothing", "", "the same; check the secret access key"),
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "new", "hint"), CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("call", [invoke, put])
def test_the_hint_is_the_first_line_that_differs(call, pattern, new, hint):
    def answer(request):
        content, once = (request.body, False) if call is invoke else (b"{}", True)
        theirs = smasync.canonical_request(
            request.method, request.url, request.headers, hashlib.sha256(content).hexdigest(),
            double_encode=not once, normalize_path=not once,
        )  # fmt: skip
        theirs = re.sub(pattern, new, theirs, count=1)
        code, said = "SignatureDoesNotMatch", f"<CanonicalRequest>{theirs}</CanonicalRequest>"
        if call is put:  # S3 says it in XML
            return Response(403, (), f"<Error><Code>{code}</Code>{said}</Error>".encode())
        said = f"The Canonical String for this request should have been\n'{theirs}'"
        body = json.dumps({"message": f"No.\n\n{said}\n\nThe String-to-Sign should ..."})
        return Response(403, ((TYPE, "InvalidSignatureException"),), body.encode())

    error = asked(call, answer)
    assert re.search(hint, error.hint), error.hint
    assert error.hint not in str(error)


HINTS = {
    "AccessDeniedException": "sagemaker:InvokeEndpointAsync",
    "UnrecognizedClientException": "the key is unknown",
    "ExpiredTokenException": "log in again",
    "RequestTimeTooSkewed": "set this machine's clock",
    "InvalidSignatureException": "^$",
}


@pytest.mark.parametrize(("code", "hint"), HINTS.items())
def test_a_code_has_its_hint(code, hint):
    error = asked(invoke, lambda request: Response(400, ((TYPE, code),), b'{"message": "No."}'))
    assert re.search(hint, error.hint)


DOCTYPE = "<!DOCTYPE e [<!ENTITY a 'b'>]>"
XML = {
    # what S3 answers: (body, code, message)
    "an error": ("<Error><Code>No</Code><Message>&lt;ü</Message></Error>", "No", "<ü"),
    "namespace and white space": ("\n<E xmlns='u:v'><Code> No </Code>\n</E>", "No", ""),
    "a byte-order mark": ("\ufeff<Error><Code>No</Code></Error>", "No", ""),
    "a document type": (f"{DOCTYPE}<E><Code>&a;</Code></E>", "403", f"{DOCTYPE}<E><Code>&a;</Code></E>"),
    "no end": ("<Error><Code>No</Code>", "403", "<Error><Code>No</Code>"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "code", "message"), XML.values(), ids=XML.keys())
def test_an_error_of_s3_is_read_and_a_document_type_is_not(body, code, message):
    error = asked(put, lambda request: Response(403, (), body.encode()))
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    ("theirs", "ours", "line"),
    [("a\nb", "a\nb\n", 3), ("a\nb\n", "a\nb", 3), ("a", "a\nb\nc", 2), ("", "", None)],
    ids=repr,
)
def test_a_line_too_many_or_too_few_is_the_difference(theirs, ours, line):
    told = smasync.mismatch({"CanonicalRequest": theirs}, ours)
    assert told.startswith(f"line {line} of the canonical request: ") if line else told == ""
