"""Section 9, Sending: the one loop that signs, sends, reads and tries again, for every service.

Most tests give the client a `World`: a transport that answers each attempt with the next of its
answers, and the clocks around it. So pauses, signing times and the quota are compared exactly with
the examples that AWS's SDKs share. Then: the headers that the SDKs add, the time limit of a call,
the log, and that neither an error nor the log shows what is secret.
"""

from __future__ import annotations

import email.utils
import json
import logging
import re
import time
import uuid

import emulator as emu
import pytest
from leaks import has_trace, told

import smasync
from smasync import Client, ClientError, Credentials, CredentialsError, Response, TransportError

TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN+with/odd=characters=="
KEYS = Credentials("ASIAEXAMPLE", "temporary/SECRET+of40characters/EXAMPLE", TOKEN)
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
INSTANT = 1_767_323_045  # 2026-01-02T03:04:05Z


class World:
    """A transport that gives each request the next of its answers, and the clocks around it.

    An answer is a Response, an error to raise, a function that makes one, or a word for one. Each
    takes `seconds`.
    """

    def __init__(self, *answers, seconds=0):
        self.answers, self.requests, self.timeouts = list(answers), [], []
        self.pauses, self.now, self.seconds = [], INSTANT, seconds

    def __call__(self, request, *, timeout=None):
        self.requests.append(request)
        self.timeouts.append(timeout)
        self.now += self.seconds
        answer = self.answers.pop(0)
        answer = answer() if callable(answer) else answer_of(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def client(self, **options):
        """A client in this world, in which random() is 1."""
        defaults = {
            "credentials": KEYS, "environ": {}, "transport": self, "sleep": self.sleep,
            "random": lambda: 1.0, "clock": lambda: self.now,
            "monotonic": lambda: self.now - INSTANT + 1000,
        }  # fmt: skip
        return Client("us-east-1", **{**defaults, **options})

    def sent(self, name):
        """The value of that header in each request, None where there is none."""
        found = [[v for n, v in each.headers if n.lower() == name] for each in self.requests]
        return [", ".join(values) or None for values in found]


def answer_of(word):
    """What a table means by 202, 500, "SlowDown", "closed", …; anything else is itself."""
    if word == 202:
        return accepted()
    if isinstance(word, int):
        return refused(word)
    if word in ("connect", "closed", "timeout"):
        return TransportError("no answer", kind=word, sent=word != "connect")
    return refused(400, word) if isinstance(word, str) else word


def accepted(*headers):
    location = ("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out")
    return Response(202, (location, *headers), b'{"InferenceId": "id"}')


def refused(status, code="", *headers, message="words"):
    identity = (("x-amzn-errortype", code),) if code else ()
    return Response(status, (*identity, *headers), json.dumps({"message": message}).encode())


def date(seconds):
    return "Date", email.utils.formatdate(seconds, usegmt=True)


def amz_date(seconds):
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def outcome_of(client, **members):
    """What became of one call, in the words of the tables."""
    try:
        answer = client.invoke_endpoint_async(**{**CALL, **members})
        return answer["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        return int(error.code) if error.code.isdigit() else error.code
    except TransportError as error:
        return error.kind


def error_of(client, kind=ClientError, **members):
    with pytest.raises(kind) as raised:
        client.invoke_endpoint_async(**{**CALL, **members})
    return raised.value


def quota_of(client, world):
    """What is left of the quota, found by spending it: 5 at a time, the rest filled up to 5."""
    fives, filled = 0, 0
    for _ in range(110):
        world.answers[:] = ["SlowDown", "ValidationError"]
        if outcome_of(client) == "SlowDown":
            world.answers[:] = [202]
            filled += outcome_of(client) == 202
        elif filled:
            return 5 * fives + 5 - filled
        else:
            fives += 1
    raise AssertionError("a quota of more than 500, or none")


# --- What is tried again, when, and at what price

RETRIES = {
    # what: answers, attempts at most, pauses, spent of the quota, outcome of the call
    "success after two": ([500, 500, 202], 3, [0.05, 0.1], 14, 202),
    "attempts used up": ([500, 500, 500], 3, [0.05, 0.1], 28, 500),
    "five attempts": ([500] * 5, 5, [0.05, 0.1, 0.2, 0.4], 56, 500),
    "throttled twice": (["SlowDown", "SlowDown", 202], 3, [1.0, 2.0], 5, 202),
    "throttled for long": (["SlowDown"] * 7, 7, [1, 2, 4, 8, 16, 20], 30, "SlowDown"),
    "of both kinds": (["SlowDown", 500, 202], 3, [1.0, 0.1], 5, 202),
    "other way round": ([500, "SlowDown", 202], 3, [0.05, 2.0], 14, 202),
    "final": (["ValidationError"], 3, [], 0, "ValidationError"),
    "final after one": ([500, "ValidationError"], 3, [0.05], 14, "ValidationError"),
    "no answer": (["closed", "timeout", 202], 3, [0.05, 0.1], 14, 202),
    "no connection": (["connect", 202], 3, [0.05], 0, 202),
    "asked to wait": ([refused(500, "", ("x-amz-retry-after", "1500")), 202], 3, [1.5], 0, 202),
    "asked by HTTP": ([refused(500, "", ("Retry-After", "9")), 202], 3, [0.05], 0, 202),
    "a page of a proxy": ([Response(200, (), b"<html>")], 3, [], 0, "protocol"),
    "a bad certificate": ([TransportError("bad", kind="tls", retryable=False)], 3, [], 0, "tls"),
    "an answer cut short": ([accepted()._replace(body=b'{"I', complete=False)], 3, [], 0, 202),
}


@pytest.mark.parametrize("answers, most, pauses, spent, end", RETRIES.values(), ids=RETRIES)
def test_retries_follow_the_sdks(answers, most, pauses, spent, end):
    world = World(*answers)
    client = world.client(max_attempts=most)
    assert outcome_of(client) == end
    assert (world.answers, world.pauses) == ([], pauses)
    counts = [f"attempt={number}; max={most}" for number in range(1, len(answers) + 1)]
    assert world.sent("amz-sdk-request") == counts
    assert quota_of(client, world) == 500 - spent


def test_all_calls_of_a_client_share_one_quota_and_success_refills_it():
    world = World(*[500] * 200)
    client = world.client()
    assert [outcome_of(client) for _ in range(30)] == [500] * 30
    assert len(world.requests) == 30 + 35, "500 // 14 retries"
    world.answers, world.pauses = [503], []
    error = error_of(client)
    metadata = error.response["ResponseMetadata"]
    assert metadata["RetryQuotaReached"] and "MaxAttemptsReached" not in metadata
    assert "max retries" not in str(error) and world.pauses == []
    world.answers = [202, 202, 202, 202, 500, 202]
    assert [outcome_of(client) for _ in range(5)] == [202] * 5, "14 are there again"


SENT = {
    # what: retry_sent, answers, outcome, whether its error says that the request was sent
    "no answer": (False, ["closed"], "closed", True),
    "refused": (False, ["SlowDown", 503, 202], 202, None),
    "not connected": (False, ["connect", "connect", 202], 202, None),
    "never connected": (False, ["connect"] * 3, "connect", False),
    "refused before": (False, [500, "connect", "connect"], "connect", True),
    "no answer before": (True, ["closed", "connect", "connect"], "connect", True),
}


@pytest.mark.parametrize("retry_sent, answers, end, sent", SENT.values(), ids=SENT)
def test_with_retry_sent_false_nothing_is_accepted_twice(retry_sent, answers, end, sent):
    world = World(*answers)
    client = world.client(retry_sent=retry_sent)
    if sent is None:
        assert outcome_of(client) == end
    else:
        error = error_of(client, TransportError)
        assert (error.kind, error.sent) == (end, sent)
    assert world.answers == []


# --- What the caller is told of it


def test_the_metadata_tells_of_every_attempt():
    world = World("SlowDown", 500, accepted(date(INSTANT + 38)), seconds=2)
    client = world.client(random=lambda: 0.5)
    metadata = client.invoke_endpoint_async(**CALL)["ResponseMetadata"]
    assert metadata["RetryAttempts"] == 2 and "MaxAttemptsReached" not in metadata
    assert metadata["Attempts"] == [
        {"Outcome": "SlowDown", "Seconds": 2, "Delay": 0.5},
        {"Outcome": "500", "Seconds": 2, "Delay": 0.05},
        {"Outcome": "202", "Seconds": pytest.approx(2), "Delay": 0.0},
    ]
    assert metadata["ServerTime"] == INSTANT + 38
    assert metadata["ResponseAt"] == pytest.approx(INSTANT + 6.55)
    assert metadata["ClockSkew"] == pytest.approx(38 - 5.55)


def test_the_last_error_tells_of_every_attempt_in_boto3s_words():
    error = error_of(World(500, "closed", refused(503, "Busy", message="busy")).client())
    assert str(error) == (
        "An error occurred (Busy) when calling the InvokeEndpointAsync operation "
        "(reached max retries: 2): busy"
    )
    metadata = error.response["ResponseMetadata"]
    assert [entry["Outcome"] for entry in metadata["Attempts"]] == ["500", "closed", "Busy"]
    assert (metadata["RetryAttempts"], metadata["MaxAttemptsReached"]) == (2, True)
    metadata = error_of(World(500, 500, "timeout").client(), TransportError).metadata
    assert [entry["Outcome"] for entry in metadata["Attempts"]] == ["500", "500", "timeout"]
    assert (metadata["RetryAttempts"], metadata["MaxAttemptsReached"]) == (2, True)


# --- Credentials that have expired

EXPIRED = {
    # what: tokens of the credentials in turn, answers, outcome, tokens that are sent, quota spent
    "renewed": ("ab", ["ExpiredToken", 202], 202, "ab", 0),
    "the same again": ("aa", ["ExpiredTokenException"], "ExpiredTokenException", "a", 0),
    "once only": ("abc", ["ExpiredTokenException", "ExpiredToken"], "ExpiredToken", "ab", 0),
    "after a failure": ("ab", [500, "ExpiredToken", 202], 202, "aab", 13),
    "before a failure": ("ab", ["ExpiredToken", 500, 500], 500, "abb", 14),
    "when renewing fails": ("a", ["ExpiredToken"], "ExpiredToken", "a", 0),
}


@pytest.mark.parametrize("tokens, answers, end, sent, spent", EXPIRED.values(), ids=EXPIRED)
def test_an_expired_token_is_renewed_once_at_no_cost(tokens, answers, end, sent, spent):
    loads, world = iter(tokens), World(*answers)
    client = world.client(credentials=lambda: Credentials("ASIAEXAMPLE", "secret", next(loads)))
    assert outcome_of(client) == end
    assert (world.answers, world.sent("x-amz-security-token")) == ([], list(sent))
    assert quota_of(client, world) == 500 - spent


# --- A wrong clock

SKEWED, REFUSED = "RequestTimeTooSkewed", "InvalidSignatureException"
SCENARIOS = {
    # what: attempts at most, skew afterwards, operations; an operation is a list of attempts:
    # (sent, answered, Date, answer, signed), in seconds
    "behind": (3, 300, [[(0, 2, 301, SKEWED, 0), (2, 4, 303, 202, 302)], [(9, 9, 309, 202, 309)]]),
    "ahead": (3, -300, [[(600, 602, 301, REFUSED, 600), (602, 604, 303, 202, 302)]]),
    "learned from a final error": (1, 300, [[(0, 2, 301, SKEWED, 0)]]),
    "too slow to trust": (3, 300, [[(0, 960, 600, 202, 0)], [(1020, 1022, 1321, 202, 1020)]]),
    "set right meanwhile": (3, 0, [[(0, 2, 301, 202, 0)], [(10, 12, 11, 202, 310)]]),
    "too small to blame": (3, 120, [[(0, 2, 121, REFUSED, 0)]]),
    "no Date": (3, 0, [[(0, 2, None, SKEWED, 0)]]),
    "from a cache": (3, 300, [[(0, 2, -9999, "cached", 0)], [(10, 12, 311, 202, 10)]]),
    "another error": (3, 300, [[(0, 2, 301, "Denied", 0)]]),
}


@pytest.mark.parametrize("most, skew, operations", SCENARIOS.values(), ids=SCENARIOS)
def test_clock_skew_follows_the_sdks(most, skew, operations):
    world = World()
    client = world.client(max_attempts=most, random=lambda: 0.0)

    def attempt(sent, answered, dated, word, _):
        def give():
            assert world.now == INSTANT + sent
            world.now = INSTANT + answered
            headers = [] if dated is None else [date(INSTANT + dated)]
            if word == "cached":
                return accepted(*headers, ("Age", "9999"))
            return accepted(*headers) if word == 202 else refused(403, word, *headers)

        return give

    for operation in operations:
        world.now, world.requests = INSTANT + operation[0][0], []
        world.answers = [attempt(*row) for row in operation]
        end = operation[-1][3]
        assert outcome_of(client) == (202 if end == "cached" else end)
        assert world.sent("x-amz-date") == [amz_date(INSTANT + row[4]) for row in operation]
    headers = dict(client.explain(**CALL).request.headers)
    assert headers["X-Amz-Date"] == amz_date(world.now + skew)


def test_a_time_that_another_call_has_corrected_meanwhile_is_corrected_at_no_cost():
    right = accepted(date(INSTANT + 600))

    def refuse_after_another_call():
        world.answers[:0] = [right]
        assert outcome_of(client) == 202
        return refused(403, REFUSED, date(INSTANT + 600))

    world = World(refuse_after_another_call, right)
    client = world.client()
    assert outcome_of(client) == 202
    assert quota_of(client, world) == 500


def test_a_time_that_is_wrong_again_is_paid_for():
    """Servers that disagree about the time could go on for ever."""
    world = World(*[refused(403, REFUSED, date(INSTANT + wrong)) for wrong in (600, 0)], "Denied")
    client = world.client()
    assert outcome_of(client) == "Denied"
    assert quota_of(client, world) == 500 - 14


# --- The headers that AWS's SDKs add


def test_the_invocation_id_is_one_uuid_for_all_attempts_and_another_for_each_call():
    world = World("SlowDown", 500, 202, 202)
    client = world.client()
    assert (outcome_of(client), outcome_of(client)) == (202, 202)
    ids = world.sent("amz-sdk-invocation-id")
    assert len(set(ids[:3])) == 1 and len(set(ids)) == 2
    assert [str(uuid.UUID(text, version=4)) for text in ids] == ids


AGENTS = {
    # what: environment, what the user agent ends with
    "plain": ({}, ""),
    "both": ({"AWS_EXECUTION_ENV": "E", "AWS_SDK_UA_APP_ID": "A"}, " exec-env/E app/A"),
    "odd": ({"AWS_SDK_UA_APP_ID": "my app/(ü1)\r\nX: 1`~"}, " app/my-app---1---X--1`~"),
    "empty": ({"AWS_EXECUTION_ENV": "", "AWS_SDK_UA_APP_ID": ""}, ""),
}


@pytest.mark.parametrize("environ, end", AGENTS.values(), ids=AGENTS)
def test_the_user_agent_says_who_calls(environ, end):
    world = World(202)
    assert outcome_of(world.client(environ=environ)) == 202
    known = rf"smasync/{smasync.__version__} ua/2\.1 os/\w+ lang/python#3\.\d+\.\d+ md/impl#\w+ "
    found = re.fullmatch(known + "api/sagemakerruntime( .+)?", world.sent("user-agent")[0])
    assert found and (found[1] or "") == end


TRACES = {
    # what: AWS_LAMBDA_FUNCTION_NAME, _X_AMZN_TRACE_ID, the header
    "not in Lambda": ("", "Root=1", ""),
    "no trace": ("f", "", ""),
    "left alone": ("f", "aZ09_.~-=;:+&[]{}\"',", None),
    "escaped": ("f", "first\nsecond¼\t %/", "first%0Asecond%C2%BC%09%20%25%2F"),
    "half a character": ("f", "Root=1\udcff", "Root=1%3F"),
}


@pytest.mark.parametrize("function, trace, header", TRACES.values(), ids=TRACES)
def test_the_trace_of_a_lambda_function_is_passed_on_unsigned(function, trace, header):
    world = World(202)
    environ = {"AWS_LAMBDA_FUNCTION_NAME": function, "_X_AMZN_TRACE_ID": trace}
    assert outcome_of(world.client(environ=environ)) == 202
    assert world.sent("x-amzn-trace-id") == [(trace if header is None else header) or None]
    assert "trace" not in world.sent("authorization")[0]


# --- The time limit of a call


def test_each_attempt_may_take_what_is_left_of_the_calls_time_limit():
    world = World("SlowDown", "SlowDown", 202, 202, seconds=3)
    client = world.client()
    assert (outcome_of(client, timeout=10), outcome_of(client)) == (202, 202)
    assert world.timeouts == [10, 10 - 3 - 1, 10 - 6 - 1 - 2, None]


LIMITS = {
    # what: seconds, answers, whether the request was sent
    "shorter than the pause": (0.75, ["SlowDown"], True),
    "as long as the pause": (1.0, ["SlowDown"], True),
    "never connected": (0.05, ["connect"], False),
}


@pytest.mark.parametrize("seconds, answers, sent", LIMITS.values(), ids=LIMITS)
def test_no_pause_outlasts_the_time_limit(seconds, answers, sent):
    world = World(*answers)
    error = error_of(world.client(), TransportError, timeout=seconds)
    assert (error.kind, error.sent, world.answers) == ("timeout", sent, [])
    assert f"the time limit is over; the last attempt: {error.__cause__}" in str(error)
    assert len(error.metadata["Attempts"]) == len(answers) == len(world.pauses) + 1


def test_nothing_is_sent_when_loading_credentials_took_the_whole_time():
    world = World()
    client = world.client(credentials=lambda: world.sleep(2) or KEYS)
    error = error_of(client, TransportError, timeout=2)
    assert (error.kind, error.sent, world.requests) == ("timeout", False, [])


def test_a_silent_service_is_left_at_the_time_limit():
    with emu.Emulator() as server:
        server.fail(emu.stall(20))
        with Client("us-east-1", endpoint_url=server.url, credentials=KEYS, environ={}) as client:
            error = error_of(client, TransportError, timeout=0.2)
        assert (error.kind, error.sent, len(server.requests)) == ("timeout", True, 1)


# --- The same loop for other services

ROLE = "[default]\nrole_arn = r\nsource_profile = base\n[profile base]\n"
ROLE += "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n"
STS_ANSWER = b"<A><AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey></A>"
IMDS_ANSWER = b'{"Code": "Success", "AccessKeyId": "A", "SecretAccessKey": "s"}'
LATE = date(INSTANT + 600)


def without_keys(tmp_path, config=""):
    """Options of a client that has to ask for credentials."""
    (tmp_path / "config").write_text(config)
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "HOME": str(tmp_path)}
    return {"credentials": None, "environ": files}


def test_sts_and_s3_are_asked_by_the_same_rules_and_show_the_same_clock(tmp_path):
    skewed = refused(403, "SignatureDoesNotMatch", LATE)
    sts = [500, skewed, Response(200, (LATE,), STS_ANSWER)]
    world = World(*sts, refused(503, "SlowDown"), Response(200, (), b""))
    client = world.client(**without_keys(tmp_path, ROLE))
    client.put_input(b"1", "s3://my-bucket/in")
    assert world.pauses == [0.05, 0.1, 1.0]
    counts = [f"attempt={number}; max=3" for number in (1, 2, 3, 1, 2)]
    assert world.sent("amz-sdk-request") == counts
    times = [amz_date(INSTANT + seconds) for seconds in (0, 0, 600, 600, 601)]
    assert world.sent("x-amz-date") == times


def test_the_metadata_service_is_asked_unsigned_and_its_clock_is_none(tmp_path):
    bodies = [b"TOKEN", b"my-role", IMDS_ANSWER]
    world = World(500, "timeout", *[Response(200, (LATE,), body) for body in bodies], 202)
    assert outcome_of(world.client(**without_keys(tmp_path))) == 202
    assert world.pauses == [0.05, 0.1]
    for name in ("authorization", "amz-sdk-request", "amz-sdk-invocation-id"):
        assert [value is None for value in world.sent(name)] == [True] * 5 + [False]
    assert all(agent.startswith("smasync/") for agent in world.sent("user-agent"))
    assert world.sent("x-amz-date")[-1] == amz_date(INSTANT)


def test_where_there_is_no_metadata_service_nobody_waits_for_it(tmp_path):
    world = World("connect")
    error = error_of(world.client(**without_keys(tmp_path)), CredentialsError)
    assert "no credentials found" in str(error)
    assert (len(world.requests), world.pauses) == (1, [])


def test_a_refused_signature_has_a_hint_that_shows_the_line_that_was_changed_on_the_way():
    canonical = "POST\n/elsewhere\n"
    said = f"The Canonical String for this request should have been\n'{canonical}'\n\n"
    error = error_of(World(refused(403, REFUSED, message=f"{said}The String-to-Sign")).client())
    assert "has '/elsewhere', we have '/endpoints/my-endpoint/async-invocations'" in error.hint


# --- The log

LOGGED = [
    "SageMaker Runtime, InvokeEndpointAsync",
    "POST\n/endpoints/my-endpoint/async-invocations\n",  # the canonical request
    "x-amzn-sagemaker-inputlocation:s3://bucket/in.json\n",
    "AWS4-HMAC-SHA256\n20260102T030406Z\n20260102/us-east-1/sagemaker/aws4_request\n",
    *("attempt=1; max=3", "attempt=2; max=3", "<Response 400", "<Response 202"),
    *("1-2-3", "s3://bucket/out"),  # of the answer's headers
    "attempt 1: An error occurred (SlowDown)",
    "next in 1.000 s",
]


def test_the_log_shows_every_step_at_debug_and_nothing_above(caplog):
    world = World("SlowDown", 202, "SlowDown", accepted(("x-amzn-RequestId", "1-2-3")))
    client = world.client()
    caplog.set_level(logging.INFO, "smasync")
    assert (outcome_of(client), caplog.records) == (202, [])
    caplog.set_level(logging.DEBUG, "smasync")
    assert outcome_of(client) == 202
    explained = client.explain(**CALL)
    assert [text for text in LOGGED if text not in caplog.text] == []
    assert {(record.name, record.levelno) for record in caplog.records} == {("smasync", 10)}
    assert explained.signature not in caplog.text, "explain is no call"


# --- Secrets

PRIVATE = "PRIVATE   words of a customer/1"
SECRETS = {
    # what: members of the call, what a service echoes
    "secret key": ({}, KEYS.secret_access_key),
    "token": ({}, TOKEN),
    "attributes": ({"CustomAttributes": PRIVATE}, PRIVATE),
    "attributes as they are signed": ({"CustomAttributes": PRIVATE}, " ".join(PRIVATE.split())),
    "body": ({"InputLocation": None, "Body": PRIVATE.encode()}, PRIVATE),
}
ECHOES = {
    # where: from the secret, the headers and the body of an answer
    "message": lambda secret: ((), json.dumps({"message": f"bad token {secret}!"})),
    "message, escaped": lambda secret: ((), json.dumps({"message": secret}).replace("/", "\\/")),
    "an object": lambda secret: ((), json.dumps({"message": {"was": secret}})),
    "other words": lambda secret: ((), f"<html>{secret}</html>"),
    "every character escaped": lambda secret: (
        (),
        '{"message": "' + "".join(f"\\u{ord(c):04x}" for c in secret) + '"}',
    ),
    "across the cut": lambda secret: ((), "x" * 4086 + secret + "x" * 4096),
    "code": lambda secret: ((("x-amzn-errortype", secret),), "{}"),
    "request id": lambda secret: ((("x-amzn-RequestId", secret),), "{}"),
    "another header": lambda secret: ((("X-Echo", f"a {secret} b"),), "{}"),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("members, secret", SECRETS.values(), ids=SECRETS)
def test_a_secret_that_the_service_echoes_is_in_no_error_and_no_log(caplog, members, secret, echo):
    caplog.set_level(logging.DEBUG, "smasync")
    headers, body = echo(secret)
    world = World(*[Response(status, headers, body.encode()) for status in (500, 403)])
    error = error_of(world.client(), **members)
    assert error.status == 403 and "attempt 1: " in caplog.text
    for text in (told(error), json.dumps(error.response), error.hint, caplog.text):
        assert not has_trace(text, secret)


def test_a_secret_that_a_transport_quotes_is_in_no_error_and_no_log(caplog):
    caplog.set_level(logging.DEBUG, "smasync")
    answers = [TransportError(f"odd bytes: {TOKEN}", kind="protocol") for _ in range(3)]
    error = error_of(World(*answers).client(), TransportError)
    assert "(hidden)" in str(error)
    assert not has_trace(told(error) + caplog.text, TOKEN)


def test_short_attributes_are_hidden_where_a_canonical_request_is_quoted(caplog):
    caplog.set_level(logging.DEBUG, "smasync")
    echo = "should have been\n'POST\n\nx-amzn-sagemaker-custom-attributes:k=7\n'"
    world = World(*[refused(status, "E", message=echo) for status in (500, 403)])
    error = error_of(world.client(), CustomAttributes="k=7")
    assert "attempt=2" in caplog.text and "custom-attributes" in caplog.text
    assert "k=7" not in caplog.text + told(error)


def test_a_text_too_short_to_be_a_secret_does_not_blot_out_the_services_words():
    client = World(refused(400, "E", message="an error in words")).client()
    assert error_of(client, InputLocation=None, Body=b"error").message == "an error in words"
