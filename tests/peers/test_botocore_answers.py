"""botocore as an oracle for what comes back: the dict, the error, the retries.

Both clients ask the same loopback server, which gives both the same bytes. Where they differ, a
table pins down in what: nothing else may.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.config import Config
from botocore.retries import standard
from emulator import Emulator, Fault, answer, close_after, garbage, reset_after
from oracles import TOKEN, boto3_client, hurried

import smasync

CALL: dict[str, Any] = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
TYPE = "x-amzn-errortype"
URI = "http://internal.amazon.com/coral/com.amazon.coral.validate/"
ID = ("x-amzn-RequestId", "rid-1")
OUTPUT = ("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out.json")
FAILURE = ("X-Amzn-SageMaker-FailureLocation", "s3://bucket/why.out")
HTML = b"<html><body>503 Service Temporarily Unavailable</body></html>"
Row = tuple[int, tuple[tuple[str, str], ...], bytes]


def wire(status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
    """The answer as bytes; without Date, by which smasync sets its clock and botocore does not."""
    length = () if status in (204, 304) else (("Content-Length", str(len(body))),)
    lines = [f"HTTP/1.1 {status} Reason"]
    lines += [f"{name}: {value}" for name, value in (*headers, *length, ("Connection", "close"))]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Both:
    """Both clients and their server."""

    def __init__(self, emulator: Emulator, attempts: int = 3) -> None:
        self.emulator = emulator
        self.delays: list[float] = []
        self.ours = smasync.Client(
            "us-east-1",
            credentials=TOKEN,
            environ={"AWS_ENDPOINT_URL": emulator.url},
            max_attempts=attempts,
            sleep=self.delays.append,
            random=random.random,  # botocore's too; `ask` seeds it
        )
        self.theirs = boto3_client(
            "sagemaker-runtime",
            emulator.url,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": attempts}),
        )
        self.their_delays = hurried(self.theirs, attempts)
        self.their_s3 = boto3_client(
            "s3",
            emulator.url,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        hurried(self.their_s3)

    def __enter__(self) -> Both:
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self.ours, self.theirs, self.their_s3):
            client.close()

    def ask(self, client: Any, *rows: Row) -> dict[str, Any]:
        """What `outcome` says of invoke_endpoint_async."""
        return self.outcome(lambda: client.invoke_endpoint_async(**CALL), *rows)

    def outcome(self, call: Callable[[], Any], *rows: Row) -> dict[str, Any]:
        """What comes of one call whose attempts get these answers, the last one again and again.

        A flat dict: of errors class, text and operation; the numbers of requests; the dict.
        """
        before, last = len(self.emulator.requests), [answer(wire(*rows[-1]))]
        self.emulator.fail(*(answer(wire(*row)) for row in rows[:-1]))
        self.emulator.fail_every(lambda _: last[0])
        found: dict[str, Any] = {}
        random.seed(0)
        try:
            document = call()
        except Exception as error:  # botocore's parsers raise whatever Python raises
            document = getattr(error, "response", {})
            found = {"class": type(error).__name__, "text": str(error)}
            found["operation"] = getattr(error, "operation_name", "")
        finally:
            self.emulator.fail_every(None)
        found["requests"] = len(self.emulator.requests) - before
        return {**found, **dict(flat(document, ""))}


def flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, leaf) of what is comparable in a document.

    smasync adds four entries to ResponseMetadata, which README lists; and RequestId is "" where
    botocore has no key.
    """
    ours = ("ServerTime", "ResponseAt", "ClockSkew", "Attempts")
    for name, child in value.items():
        where = f"{path}.{name}" if path else name
        if isinstance(child, dict) and name in ("Error", "ResponseMetadata", "HTTPHeaders"):
            yield from flat(child, where)
        elif not (name in ours and path == "ResponseMetadata") and (name, child) != (
            "RequestId",
            "",
        ):
            yield where, child


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(check_signatures=False) as running:
        yield running


@pytest.fixture
def both(emulator: Emulator) -> Iterator[Both]:
    with Both(emulator) as pair:
        yield pair


# --- Answers that are read alike ---------------------------------------------


def refusal(status: int, body: Any, *headers: tuple[str, str]) -> Row:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status, (ID, *headers), content


def page(status: int, body: bytes, *headers: tuple[str, str]) -> Row:
    """Without a request id, which botocore passes over when there is no body, or HTML."""
    return status, headers, body


def accepted(status: int, body: bytes, *headers: tuple[str, str]) -> Row:
    return status, headers, body


M = {"message": "words"}
X = (TYPE, "FooError")
SAME: dict[str, Row] = {
    # success
    "all members": accepted(202, b'{"InferenceId": "id-1"}', OUTPUT, FAILURE, ID),
    "no FailureLocation": accepted(202, b'{"InferenceId": "id-1"}', OUTPUT, ID),
    "no InferenceId": accepted(202, b"{}", OUTPUT, FAILURE, ID),
    "InferenceId alone": accepted(202, b'{"InferenceId": "id-1"}', ID),
    "InferenceId that is null": accepted(202, b'{"InferenceId": null}', OUTPUT, ID),
    "no members": accepted(202, b"{}", ID),
    "empty body": accepted(202, b"", OUTPUT, ID),
    "body that is no JSON": accepted(202, b"<html>", OUTPUT, ID),
    "members to come": accepted(202, b'{"New": {"a": 1}}', OUTPUT, ("X-Amzn-SageMaker-New", "1")),
    "moto's 200": accepted(200, b'{"InferenceId": "id-1"}', OUTPUT, FAILURE),
    "204": accepted(204, b"", OUTPUT, ID),
    "299": accepted(299, b"{}", OUTPUT, ID),
    "no request id": accepted(202, b"{}", OUTPUT),
    "header names in lower case": accepted(202, b"{}", (OUTPUT[0].lower(), OUTPUT[1]), ID),
    "a header twice": accepted(202, b"{}", OUTPUT, ("Via", "a"), ("VIA", "b")),
    "a location twice": accepted(202, b"{}", OUTPUT, OUTPUT),
    # where the code is
    "code in the header": refusal(400, M, X),
    "header with URL": refusal(400, M, (TYPE, f"FooError:{URI}")),
    "header with namespace": refusal(400, M, (TYPE, "aws.x.rest#FooError")),
    "header with both": refusal(400, M, (TYPE, f"aws.x.rest#FooError:{URI}")),
    "header twice": refusal(400, M, X, (TYPE, "BarError")),
    "__type": refusal(400, {"__type": "FooError", **M}),
    "__type with namespace": refusal(400, {"__type": "com.amazonaws.x#FooError", **M}),
    "__type with both": refusal(400, {"__type": f"aws.x.rest#FooError:{URI}", **M}),
    "code": refusal(400, {"code": "FooError", **M}),
    "code with both": refusal(400, {"code": f"aws.x.rest#FooError:{URI}", **M}),
    "Code": refusal(400, {"Code": "FooError", **M}),
    "code before Code": refusal(400, {"Code": "BarError", "code": "FooError", **M}),
    "header before body": refusal(400, {"__type": "A", "code": "B", "Code": "C", **M}, X),
    "no code": refusal(418, M),
    "no code and no message": refusal(418, {}),
    "__type before nothing": refusal(403, {"__type": "AccessDeniedException"}),
    # the message
    "Message": refusal(400, {"Message": "words"}, X),
    "message before Message": refusal(400, {"Message": "more", "message": "words"}, X),
    "empty message": refusal(400, {"message": ""}, X),
    "no message": refusal(400, {"other": 1}, X),
    "errorMessage is none": refusal(400, {"errorMessage": "words"}, X),
    "beyond ASCII": refusal(400, {"message": "wörds \U0001f600"}, X),
    "of many lines": refusal(403, {"message": "It should have been\n'POST\n/\n'\n"}, X),
    "long": refusal(400, {"message": "m" * 50_000}, X),
    # modelled errors, whose shapes have Message
    "ValidationError": refusal(400, {"Message": "words"}, (TYPE, "ValidationError")),
    "ValidationError with URL": refusal(
        400, {"Message": "words"}, (TYPE, f"ValidationError:{URI}")
    ),
    "ValidationError and more": refusal(
        400, {"Message": "w", "Extra": 1}, (TYPE, "ValidationError")
    ),
    "InternalFailure": refusal(500, {"Message": "words"}, (TYPE, "InternalFailure")),
    "ServiceUnavailable": refusal(503, {"Message": "words"}, (TYPE, "ServiceUnavailable")),
    "ValidationError by __type": refusal(400, {"__type": "ValidationError", "Message": "words"}),
    "code in another case": refusal(400, M, (TYPE, "validationerror")),
    # not of the protocol
    "empty 400": refusal(400, b""),
    "empty 403": refusal(403, b""),
    "empty 500": page(500, b""),
    "empty 503": page(503, b""),
    "empty 530": page(530, b""),
    "empty 301": refusal(301, b""),
    "302": refusal(302, M, ("Location", "http://localhost:1/")),
    "304": refusal(304, b""),
    "HTML 503": page(503, HTML),
    "HTML 502 after white space": page(502, b"\r\n " + HTML),
    "HTML 403": refusal(403, HTML),
    "text 400": refusal(400, b"no such thing"),
    "text 500": refusal(500, b"broken"),
    "cut short": refusal(400, b'{"message": "wor'),
    # retried
    "429, empty": page(429, b""),
    "429 with a message": refusal(429, M),
    "ThrottlingException": refusal(400, M, (TYPE, "ThrottlingException")),
    "504 with a code": refusal(504, M, X),
    "RequestTimeout": refusal(400, M, (TYPE, "RequestTimeout")),
    # not retried
    "501": refusal(501, M, X),
    "505, empty": page(505, b""),
    "ExpiredTokenException": refusal(403, M, (TYPE, "ExpiredTokenException")),
    "no request id in an error": (400, (X,), b'{"message": "words"}'),
}


@pytest.mark.parametrize("row", SAME.values(), ids=SAME.keys())
def test_an_answer_is_read_as_boto3_reads_it(both: Both, row: Row) -> None:
    assert both.ask(both.ours, row) == both.ask(both.theirs, row)
    assert both.delays == pytest.approx(both.their_delays)


# --- Answers that are not ----------------------------------------------------
# name: (answer, {where: (botocore's, smasync's)}); None is an entry that is not there. The text
# of an error follows from code and message, so it is listed only where it differs in more.

ERROR = "Error.Code", "Error.Message"
CODE, MESSAGE = ERROR
VALIDATION = (TYPE, "ValidationError")
LONG = b"m" * 5000
DIFFERENT: dict[str, tuple[Row, dict[str, tuple[Any, Any]]]] = {
    # botocore has the modelled member only as it is spelt in the model; smasync always
    "message of a modelled error": (refusal(400, M, VALIDATION), {"Message": (None, "words")}),
    "modelled error without message": (refusal(400, {}, VALIDATION), {"Message": (None, "")}),
    "both messages of a modelled error": (
        refusal(400, {"message": "words", "Message": "more"}, VALIDATION),
        {"Message": ("more", "words")},
    ),
    # errors of the service's other operations are plain ClientErrors in smasync
    "ModelError": (
        refusal(424, {"Message": "words"}, (TYPE, "ModelError")),
        {"class": ("ModelError", "ClientError"), "Message": ("words", None)},
    ),
    "ModelNotReadyException": (
        refusal(429, {"Message": "words"}, (TYPE, "ModelNotReadyException")),
        {"class": ("ModelNotReadyException", "ClientError"), "Message": ("words", None)},
    ),
    "InternalDependencyException": (
        refusal(530, {"Message": "words"}, (TYPE, "InternalDependencyException")),
        {"class": ("InternalDependencyException", "ClientError"), "Message": ("words", None)},
    ),
    # smasync takes __type before code, as AWS's SDK for Go does, and what is empty for absent
    "__type and code": (refusal(400, {"__type": "A", "code": "B", **M}), {CODE: ("B", "A")}),
    "empty header": (refusal(400, {"code": "C", **M}, (TYPE, "")), {CODE: ("", "C")}),
    "empty header alone": (refusal(400, M, (TYPE, "")), {CODE: ("", "400")}),
    "nothing before the colon": (refusal(400, M, (TYPE, f":{URI}")), {CODE: ("", "400")}),
    "empty code": (refusal(400, {"code": "", **M}), {CODE: ("", "400")}),
    "empty __type": (refusal(400, {"__type": "", **M}), {CODE: ("", "400")}),
    "__type that is null": (refusal(400, {"__type": None, **M}), {CODE: ("", "400")}),
    "code that is null": (refusal(400, {"code": None, "Code": "D", **M}), {CODE: ("400", "D")}),
    "white space in the header": (refusal(400, M, (TYPE, "A \t")), {CODE: ("A \t", "A")}),
    # code and message are always text in smasync
    "code that is a number": (refusal(400, {"code": 42, **M}), {CODE: (42, "42")}),
    "message that is a number": (refusal(400, {"message": 42}, X), {MESSAGE: (42, "42")}),
    "message that is a list": (refusal(400, {"message": ["a"]}, X), {MESSAGE: (["a"], "")}),
    "message that is null": (refusal(400, {"message": None}, X), {MESSAGE: (None, "")}),
    "message in another case": (refusal(400, {"MESSAGE": "words"}, X), {MESSAGE: ("", "words")}),
    # pages: the code of the header stands, HTML is not quoted, a flood is cut
    "empty 500 with a code": (
        page(500, b"", (TYPE, "InternalFailure")),
        {
            "class": ("ClientError", "InternalFailure"),
            CODE: ("500", "InternalFailure"),
            "Message": (None, "Internal Server Error"),
        },
    ),
    "HTML 503 with a code": (
        page(503, HTML, (TYPE, "FooError")),
        {CODE: ("503", "FooError")},
    ),
    "HTML with a doctype": (
        refusal(503, b"<!DOCTYPE html>" + HTML),
        {MESSAGE: ("<!DOCTYPE html>" + HTML.decode(), "Service Unavailable")},
    ),
    "HTML in capitals": (refusal(502, b"<HTML>x"), {MESSAGE: ("<HTML>x", "Bad Gateway")}),
    "HTML with an attribute": (
        refusal(502, b'<html lang="en">x'),
        {MESSAGE: ('<html lang="en">x', "Bad Gateway")},
    ),
    "white space around text": (refusal(400, b" text\n"), {MESSAGE: (" text\n", "text")}),
    "long text": (refusal(400, LONG), {MESSAGE: ("m" * 5000, "m" * 4096)}),
    "byte order mark": (
        refusal(400, b'\xef\xbb\xbf{"message": "words"}'),
        {MESSAGE: ('\ufeff{"message": "words"}', "words")},
    ),
    "300": (
        refusal(300, {}),
        {
            CODE: (None, "300"),
            MESSAGE: (None, ""),
            "text": (
                "An error occurred (Unknown) when calling the InvokeEndpointAsync operation: Unknown",
                "An error occurred (300) when calling the InvokeEndpointAsync operation: ",
            ),
        },
    ),
    # the id of a request, wherever it is
    "request id of a page": (page(503, HTML, ID), {"ResponseMetadata.RequestId": (None, "rid-1")}),
    "S3's request id": (
        (400, (X, ("x-amz-request-id", "rid-2")), b'{"message": "words"}'),
        {"ResponseMetadata.RequestId": (None, "rid-2")},
    ),
    "request id that AWS's SDK for Go knows": (
        (202, (OUTPUT, ("x-amz-requestid", "rid-3")), b"{}"),
        {"ResponseMetadata.RequestId": (None, "rid-3")},
    ),
    "S3's other id": (
        (202, (OUTPUT, ("x-amz-request-id", "rid-2"), ("x-amz-id-2", "host")), b"{}"),
        {"ResponseMetadata.HostId": ("host", None)},
    ),
    # what another protocol of AWS's has
    "x-amzn-query-error": (
        refusal(400, M, X, ("x-amzn-query-error", "A;Sender")),
        {"Error.QueryErrorCode": ("400", None), "Error.Type": ("Sender", None)},
    ),
    # header values are UTF-8 to smasync, as what it sends
    "location beyond ASCII": (
        (202, ((OUTPUT[0], "s3://bucket/é"), ID), b"{}"),
        {
            "OutputLocation": ("s3://bucket/Ã©", "s3://bucket/é"),
            f"ResponseMetadata.HTTPHeaders.{OUTPUT[0].lower()}": ("s3://bucket/Ã©", "s3://bucket/é"),
        },
    ),
    "InferenceId that is a number": (
        (202, (OUTPUT, ID), b'{"InferenceId": 5}'),
        {"InferenceId": (5, None)},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_an_answer_is_read_in_a_way_of_our_own(
    both: Both, row: Row, expected: dict[str, tuple[Any, Any]]
) -> None:
    theirs, ours = both.ask(both.theirs, row), both.ask(both.ours, row)
    names = [name for name in {**theirs, **ours} if name != "text" or name in expected]
    pairs = {name: (theirs.get(name), ours.get(name)) for name in names}
    assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == expected


# name: (answer, botocore's exception, smasync's code and message, None for a success)
CRASHES: dict[str, tuple[Row, str, Any]] = {
    "list": (refusal(400, ["words"]), "AttributeError", ("400", '["words"]')),
    "text": (refusal(400, "words"), "AttributeError", ("400", '"words"')),
    "number": (refusal(400, 42), "AttributeError", ("400", "42")),
    "null": (refusal(400, None), "AttributeError", ("400", "null")),
    "list in a 202": ((202, (OUTPUT,), b"[1]"), "AttributeError", None),
    "code that is a list": (refusal(400, {"code": ["C"], **M}), "TypeError", ("400", "words")),
    "__type that is a number": (refusal(400, {"__type": 42, **M}), "TypeError", ("42", "words")),
    "deep": (refusal(400, b"[" * 100_000), "RecursionError", ("400", "[" * 4096)),
    "deep in a 202": ((202, (OUTPUT,), b"[" * 100_000), "RecursionError", None),
    "not UTF-8": (refusal(400, b"\xff"), "UnicodeDecodeError", ("400", "\ufffd")),
    "not UTF-8 in a 202": ((202, (OUTPUT,), b"\xff"), "UnicodeDecodeError", None),
}  # fmt: skip


@pytest.mark.parametrize(("row", "theirs", "ours"), CRASHES.values(), ids=CRASHES.keys())
def test_an_answer_that_botocore_cannot_read_is_read(
    both: Both, row: Row, theirs: str, ours: Any
) -> None:
    assert both.ask(both.theirs, row)["class"] == theirs
    found = both.ask(both.ours, row)
    if ours is None:
        assert found["OutputLocation"] == OUTPUT[1] and "class" not in found
    else:
        assert (found["class"], found[CODE], found[MESSAGE]) == ("ClientError", *ours)


@pytest.mark.parametrize("body", [b"", HTML, b'"words"'], ids=["empty", "HTML", "text"])
def test_a_2xx_of_something_else_is_success_to_boto3_and_an_error_to_smasync(
    both: Both, body: bytes
) -> None:
    row = (200, (("Content-Type", "text/html"),), body)
    found = both.ask(both.theirs, row)
    assert "OutputLocation" not in found and found.get("class") in (None, "AttributeError")
    assert both.ask(both.ours, row)["class"] == "TransportError"


# --- Retries -----------------------------------------------------------------

OK = accepted(202, b'{"InferenceId": "id-1"}', OUTPUT, FAILURE, ID)
BUSY = refusal(503, {"Message": "busy"}, (TYPE, "ServiceUnavailable"))
SLOW = refusal(400, M, (TYPE, "ThrottlingException"))
WRONG = refusal(400, {"Message": "wrong"}, VALIDATION)


def later(text: str) -> Row:
    """503 that asks for so many milliseconds."""
    return page(503, b"", ("x-amz-retry-after", text))


SEQUENCES: dict[str, tuple[Row, ...]] = {
    "success after one": (BUSY, OK),
    "one after a throttle": (SLOW, OK),
    "used up": (BUSY, SLOW, BUSY),
    "used up by throttles": (SLOW, SLOW, SLOW),
    "final error on the second": (BUSY, WRONG),
    "asked to wait": (later("1500"), later("0"), BUSY),
    "asked to wait for long": (later("10000"), OK),
    "asked to wait a little longer than that": (later("5001"), OK),
    "asked in words": (later("soon"), later("-5"), BUSY),
    "asked for a fraction": (later("1.5"), OK),
}


@pytest.mark.parametrize("rows", SEQUENCES.values(), ids=SEQUENCES.keys())
def test_a_call_is_tried_again_as_boto3_does_it(both: Both, rows: tuple[Row, ...]) -> None:
    theirs = both.ask(both.theirs, *rows)
    assert both.ask(both.ours, *rows) == theirs
    assert both.delays == pytest.approx(both.their_delays)
    assert theirs["requests"] == len(rows) == theirs["ResponseMetadata.RetryAttempts"] + 1
    if "used up" in theirs.get("text", ""):
        assert "(reached max retries: 2)" in theirs["text"]


THROTTLES = standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES
TRANSIENT = standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES
OTHERS = ["", "ValidationError", "AccessDeniedException", "Throttled", "RequestExpired"]
CODES = sorted(
    {
        *THROTTLES,
        *TRANSIENT,
        *OTHERS,
        *smasync.THROTTLE_CODES,
        *{code for code in smasync.TRANSIENT if isinstance(code, str)},
    }
)


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503, 509])
@pytest.mark.parametrize("code", CODES)
def test_each_code_is_tried_again_as_often_as_boto3_does_it(
    both: Both, status: int, code: str
) -> None:
    row = refusal(status, {"Message": "words", **({"code": code} if code else {})})
    theirs, ours = both.ask(both.theirs, row), both.ask(both.ours, row)
    assert ours["requests"] == theirs["requests"]
    assert both.delays == pytest.approx(both.their_delays)


def test_the_quota_runs_out_alike(both: Both) -> None:
    # 500 at first: it pays for two retries of 17 calls, and of the 18th for one. Then successes
    # give some back, and throttles cost less.
    rows = [(BUSY,)] * 20 + [(OK,)] * 30 + [(BUSY, OK), (SLOW,)] * 5
    counts = [
        [both.ask(client, *row)["requests"] for row in rows] for client in (both.theirs, both.ours)
    ]
    assert counts[0] == counts[1]
    assert counts[0][:20] == [3] * 17 + [2, 1, 1]
    assert both.delays == pytest.approx(both.their_delays)


@pytest.mark.parametrize("fault", [reset_after(), close_after(), garbage()], ids=lambda f: f.kind)
def test_a_lost_answer_is_tried_again_as_boto3_does_it(
    both: Both, emulator: Emulator, fault: Fault
) -> None:
    for client in (both.theirs, both.ours):
        before = len(emulator.requests)
        emulator.fail(fault, fault)
        assert both.ask(client, OK)["OutputLocation"] == OUTPUT[1]
        assert len(emulator.requests) - before == 3
    assert len(both.delays) == len(both.their_delays) == 2


def test_the_retry_headers_are_boto3s(both: Both, emulator: Emulator) -> None:
    both.ask(both.theirs, BUSY)
    both.ask(both.ours, BUSY)
    theirs, ours = emulator.requests[-6:-3], emulator.requests[-3:]
    counts = [[r.header("amz-sdk-request") for r in requests] for requests in (theirs, ours)]
    # botocore says when it will stop waiting, from the second attempt on
    counts[0] = [text.rpartition("Z; ")[2] for text in counts[0]]
    assert counts[0] == counts[1] == [f"attempt={n}; max=3" for n in (1, 2, 3)]
    for requests in (theirs, ours):
        assert len({r.header("amz-sdk-invocation-id") for r in requests}) == 1


def test_boto3_says_that_the_retries_were_used_up_when_they_were_not_the_reason(
    emulator: Emulator,
) -> None:
    # It says so of whatever the last attempt brings: a final error, even a success.
    said = "ResponseMetadata.MaxAttemptsReached"
    for rows, attempts in (((BUSY, SLOW, WRONG), 3), ((BUSY, SLOW, OK), 3), ((OK,), 1)):
        with Both(emulator, attempts) as pair:
            theirs, ours = pair.ask(pair.theirs, *rows), pair.ask(pair.ours, *rows)
        assert theirs.pop(said) is True and said not in ours
        if "text" in ours:
            theirs["text"] = theirs["text"].replace(" (reached max retries: 2)", "")
        assert ours == theirs


# --- S3 ----------------------------------------------------------------------
# The one error that smasync's users see of S3 comes from put_input, and is PutObject's.

S3_ID = (("x-amz-request-id", "rid-1"), ("x-amz-id-2", "host-1"))


def s3_refusal(status: int, code: str, message: str, more: str = "", *headers: Any) -> Row:
    inside = f"<Code>{code}</Code><Message>{message}</Message>{more}<RequestId>rid-1</RequestId>"
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inside}<HostId>host-1</HostId></Error>'
    )
    return status, (*S3_ID, *headers), text.encode()


NO_BUCKET = "<BucketName>my-bucket</BucketName>"
ELSEWHERE = ("x-amz-bucket-region", "eu-central-1")
S3_SAME: dict[str, Row] = {
    "AccessDenied": s3_refusal(403, "AccessDenied", "Access Denied"),
    "NoSuchBucket": s3_refusal(404, "NoSuchBucket", "There is no such bucket", NO_BUCKET),
    "InvalidRequest": s3_refusal(400, "InvalidRequest", "bad"),
    "SignatureDoesNotMatch": s3_refusal(
        403, "SignatureDoesNotMatch", "not the same", "<StringToSign>AWS4\n2015</StringToSign>"
    ),
    "KMS.DisabledException": s3_refusal(400, "KMS.DisabledException", "arn:aws:kms is disabled"),
    "entities and beyond ASCII": s3_refusal(400, "FooError", "w&#246;rds &amp; \U0001f600"),
    "no request id": (403, (), s3_refusal(403, "AccessDenied", "Access Denied")[2]),
    "SlowDown": s3_refusal(503, "SlowDown", "Please reduce your request rate."),
    "InternalError": s3_refusal(500, "InternalError", "We encountered an error"),
    "RequestTimeout": s3_refusal(400, "RequestTimeout", "idle"),
    "empty 500": page(500, b""),
    "HTML 503": page(503, HTML),
    "region in a 400's body": s3_refusal(
        400, "AuthorizationHeaderMalformed", "there", "<Region>eu-central-1</Region>"
    ),
    "region in a 301's header": s3_refusal(301, "PermanentRedirect", "there", "", ELSEWHERE),
    "region in a 307's header": s3_refusal(307, "TemporaryRedirect", "there", "", ELSEWHERE),
    "region in a 400's header and body": s3_refusal(
        400, "AuthorizationHeaderMalformed", "there", "<Region>eu-central-1</Region>", ELSEWHERE
    ),
}
# name: (answer, {where: (botocore's, smasync's)})
S3_DIFFERENT: dict[str, tuple[Row, dict[str, tuple[Any, Any]]]] = {
    # botocore has a word of its own where S3 has none, and where it has one that is no XML
    "empty 403": (page(403, b""), {MESSAGE: ("Forbidden", "")}),
    "empty 404": (page(404, b""), {MESSAGE: ("Not Found", "")}),
    "text": (page(400, b"no such thing"), {MESSAGE: ("Bad Request", "no such thing")}),
    # an element is its text without the white space around it
    "white space": (s3_refusal(400, "A", " words\n"), {MESSAGE: (" words\n", "words")}),
    # with its namespace the element is none that botocore knows
    "namespace": (
        page(403, b'<Error xmlns="http://s3.amazonaws.com/"><Code>A</Code><Message>m</Message></Error>'),
        {CODE: ("", "A"), MESSAGE: ("", "m")},
    ),
    # boto3 wants the region in the body to believe a 400
    "region in a 400's header": (
        s3_refusal(400, "AuthorizationHeaderMalformed", "there", "", ELSEWHERE),
        {"requests": (1, 2)},
    ),
}  # fmt: skip


def comparable(outcome: dict[str, Any]) -> dict[str, Any]:
    """What smasync has of S3's errors: code and message.

    It has no classes for them, no HostId and no other elements, and does not count as a retry that
    it asked in another region.
    """
    metadata = ("ResponseMetadata.HTTPStatusCode", "ResponseMetadata.RequestId")
    kept = ("text", "requests", "operation", CODE, MESSAGE, *metadata)
    return {name: outcome[name] for name in kept if name in outcome}


def s3_outcomes(both: Both, row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
    """(botocore's, smasync's) of putting an object."""
    where = {"Bucket": "my-bucket", "Key": "in.json"}
    theirs = both.outcome(lambda: both.their_s3.put_object(**where, Body=b"x"), row)
    ours = both.outcome(lambda: both.ours.put_input(b"x", "s3://my-bucket/in.json"), row)
    return comparable(theirs), comparable(ours)


@pytest.mark.parametrize("row", S3_SAME.values(), ids=S3_SAME.keys())
def test_an_error_of_s3_is_read_as_boto3_reads_it(both: Both, row: Row) -> None:
    theirs, ours = s3_outcomes(both, row)
    assert ours == theirs
    assert theirs["operation"] == "PutObject"


@pytest.mark.parametrize(("row", "expected"), S3_DIFFERENT.values(), ids=S3_DIFFERENT.keys())
def test_an_error_of_s3_is_read_in_a_way_of_our_own(
    both: Both, row: Row, expected: dict[str, tuple[Any, Any]]
) -> None:
    theirs, ours = s3_outcomes(both, row)
    assert theirs.pop("text") and ours.pop("text")  # which follow from code and message
    pairs = {name: (theirs.get(name), ours.get(name)) for name in {**theirs, **ours}}
    assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == expected
