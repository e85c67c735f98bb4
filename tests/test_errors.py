"""Section 1: whose fault it was, said by the class, and the evidence, kept in attributes."""

from __future__ import annotations

import copy
import pickle

import pytest

import smasync

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
