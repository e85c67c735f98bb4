"""Section 5, Retry decisions: which errors are worth another attempt, when, and at what price.

Proves the rules that AWS's SDKs share since 2026, as a user of a client meets them: what is tried
again and what is final, how long the pauses are, what the quota allows, and for which time a
request is signed when this machine's clock is wrong. Services, clocks and chance are made up.
"""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smasync
from smasync import Response, TransportError

CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
NO_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
DAY = 1_767_225_600  # 2026-01-01T00:00:00Z


class World:
    """A client, and the service, the clock and the chance that it meets."""

    def __init__(self, chance=1.0, **options):
        self.now, self.answers, self.pauses, self.signed = DAY, iter(()), [], []
        self.client = smasync.RuntimeClient(
            "us-east-1", credentials=smasync.Credentials("AKIDEXAMPLE", "secret"),
            environ=NO_FILES, transport=self, clock=lambda: self.now, sleep=self.pauses.append,
            random=lambda: chance, **options,
        )  # fmt: skip

    def __call__(self, request, **options):
        self.signed.append(dict(request.headers)["X-Amz-Date"])
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def invoke(self, *_):
        with contextlib.suppress(smasync.Error):
            self.client.invoke_endpoint_async(**CALL)

    def call(self, *answers):
        """The pauses of one call to which the service gives these answers, as far as needed."""
        self.pauses.clear()
        self.answers = iter(answers)
        self.invoke()
        return list(self.pauses)


def answer(status, code="", **headers):
    fields = [("x-amzn-errortype", code)] if code else []
    fields += [(name.replace("_", "-"), text) for name, text in headers.items()]
    return Response(status, tuple(fields), b"{}")


def dated(seconds, status=202, code="", **headers):
    return answer(status, code, date=formatdate(DAY + seconds, usegmt=True), **headers)


DONE, FAILED, THROTTLED, FINAL = answer(202), answer(500), answer(400, "SlowDown"), answer(400)
PAUSES = {"transient": [0.05], "throttle": [1.0], "final": []}  # before a second attempt

# --- Which errors

THROTTLES = """Throttling ThrottlingException ThrottledException RequestThrottledException
TooManyRequestsException ProvisionedThroughputExceededException TransactionInProgressException
RequestLimitExceeded BandwidthLimitExceeded LimitExceededException RequestThrottled SlowDown
PriorRequestNotComplete EC2ThrottledException""".split()
KINDS = {  # each answer: its status, and its code if it has one
    "throttle": "429 429:ModelNotReadyException 429:BrandNewError",
    "transient": "500 502 503 504 400:RequestTimeout 408:RequestTimeout 504:BrandNewError "
    "400:RequestTimeoutException 500:InternalFailure 500:ValidationError 503:ServiceUnavailable",
    "final": "302 400 404 408 501 505 400:ValidationError 400:InternalFailure 400:throttling "
    "403:AccessDeniedException 424:ModelError 530:InternalDependencyException "
    "429:ValidationError 429:InternalFailure 429:ServiceUnavailable",
}
ANSWERS = [(kind, words) for kind in KINDS for words in KINDS[kind].split()]
ANSWERS += [("throttle", f"{status}:{code}") for code in THROTTLES for status in (400, 429, 503)]


@pytest.mark.parametrize(("kind", "words"), ANSWERS)
def test_statuses_and_codes(kind, words):
    status, _, code = words.partition(":")
    assert World().call(answer(int(status), code), DONE) == PAUSES[kind]


@pytest.mark.parametrize("kind", ["connect", "tls", "proxy", "timeout", "closed", "protocol"])
@pytest.mark.parametrize("retryable", [True, False])
@pytest.mark.parametrize("retry_sent", [True, False])
def test_without_an_answer_it_is_tried_again_unless_told_otherwise(kind, retryable, retry_sent):
    for sent in (True, False):
        error = TransportError("no answer", kind=kind, sent=sent, retryable=retryable)
        again = retryable and (retry_sent or not sent)
        assert World(retry_sent=retry_sent).call(error, DONE) == ([0.05] if again else [])
    assert World().call(smasync.ConfigurationError("another error"), DONE) == []


# --- Pauses

TRANSIENT = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0]
THROTTLE = [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


@pytest.mark.parametrize("chance", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(("failure", "most"), [(FAILED, TRANSIENT), (THROTTLED, THROTTLE)])
def test_a_pause_is_a_random_part_of_a_growing_limit(failure, most, chance):
    pauses, attempts = pytest.approx([chance * limit for limit in most]), len(most) + 1
    assert World(chance, max_attempts=attempts).call(*[failure] * 99) == pauses
    assert len(World(chance).call(*[failure] * 99)) == 2  # three attempts


NO_NUMBERS = ["invalid", "", "-1500", "+1500", "1.5", "1e3", "1_500", "\u0661\u0665\u0660\u0660"]
RETRY_AFTER = {"1500": 1.5, "51": 0.051, "5050": 5.05, "10000": 5.05, "9" * 400: 5.05,
               **dict.fromkeys(["0", "49", *NO_NUMBERS], 0.05)}  # fmt: skip


@pytest.mark.parametrize(("text", "pause"), RETRY_AFTER.items())
def test_the_service_may_ask_for_up_to_five_seconds_more(text, pause):
    failure = answer(500, x_amz_retry_after=text, retry_after="9")
    assert World().call(failure, DONE) == pytest.approx([pause])


# --- The quota of 500, which all calls of a client share

FAILURES = {FAILED: (0.05, 14), THROTTLED: (1.0, 5)}  # what a first pause and each retry cost


def expected_pauses(calls, attempts):
    """The rules once more: the pauses of each call, when the answers to each are known."""
    quota, pauses = 500, []
    for answers in calls:
        cost, paused = 0, []
        for retry, given_answer in enumerate(answers):
            if given_answer is DONE:
                quota = min(500, quota + (cost or 1))
            first, cost = FAILURES.get(given_answer, (0, 501))
            if retry + 1 == attempts or cost > quota:
                break
            quota -= cost
            paused.append(first * 2**retry)
        pauses.append(paused)
    return pauses


answers_to_a_call = st.lists(st.sampled_from([FAILED, THROTTLED, FINAL, DONE]), max_size=3)
EMPTYING = [[FAILED] * 4] * 36 + [[THROTTLED] * 4] * 3  # the quota, when nothing succeeds


@settings(max_examples=25)
@given(calls=st.lists(answers_to_a_call, max_size=20), attempts=st.integers(2, 4))
def test_the_quota_pays_for_retries_and_is_never_below_0_or_above_500(calls, attempts):
    calls = [[DONE]] * 9 + [[*some, DONE, FINAL] for some in calls]
    calls += EMPTYING + [[DONE]] * 9 + EMPTYING
    world = World(max_attempts=attempts)
    assert [world.call(*answers) for answers in calls] == expected_pauses(calls, attempts)


def test_threads_spend_each_unit_once():
    world = World(max_attempts=2)
    world.answers = iter([FAILED] * 1000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(world.invoke, range(160)))
    assert len(world.signed) == 160 + 500 // 14


# --- The clock

TOO_SKEWED, INVALID = (403, "RequestTimeTooSkewed"), (400, "InvalidSignatureException")
SCENARIOS = {
    # all in seconds; each attempt: sent (None: at once, as a retry), received, the answer, the
    # time for which the request was signed
    "behind": [(0, 2, dated(301, *TOO_SKEWED), 0), (None, 4, dated(303), 302)],
    "ahead": [(600, 602, dated(301, *INVALID), 600), (None, 604, dated(303), 302)],
    "little, and learned": [(0, 2, dated(121, *INVALID), 0), (60, 62, dated(181), 180)],
    "too slow to trust": [(0, 901, dated(600), 0), (1020, 1022, dated(1321), 1020)],
    "slow": [(0, 900, dated(750), 0), (960, 962, dated(1261), 1260)],
    "right again": [(0, 2, dated(301), 0), (10, 12, dated(11), 310), (20, 22, dated(21), 20)],
    "no Date": [(0, 2, answer(*TOO_SKEWED), 0)],
    "from a cache": [(0, 2, dated(-9000, age="9301"), 0), (10, 12, dated(311), 10)],
}  # fmt: skip


@pytest.mark.parametrize("attempts", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_a_request_is_signed_for_the_time_that_the_service_has(attempts):
    def answers():
        for _, received, given_answer, _ in attempts:
            world.now = DAY + received
            yield given_answer

    world = World()
    world.answers = answers()
    for start in [sent for sent, *_ in attempts if sent is not None]:
        world.now = DAY + start
        world.invoke()
    signed = [time.gmtime(DAY + for_time) for *_, for_time in attempts]
    assert world.signed == [time.strftime("%Y%m%dT%H%M%SZ", moment) for moment in signed]
    assert world.pauses == [0.05 for sent, *_ in attempts if sent is None]


SKEW_CODES = """RequestTimeTooSkewed InvalidSignatureException SignatureDoesNotMatch AuthFailure
AccessDeniedException""".split()
OTHER_CODES = ["RequestExpired", "RequestInTheFuture", "ValidationError", ""]


@pytest.mark.parametrize("code", [*SKEW_CODES, *OTHER_CODES])
@pytest.mark.parametrize("seconds", [0, 240, -240, 241, -241, 1_000_000])
def test_the_clock_is_blamed_beyond_four_minutes_for_some_codes(code, seconds):
    blamed = code in SKEW_CODES and abs(seconds) > 240
    assert World().call(dated(seconds, 403, code), DONE) == ([0.05] if blamed else [])


def test_a_corrected_clock_costs_nothing():
    world = World()
    for answers in EMPTYING:
        world.call(*answers)
    assert world.call(FAILED, DONE) == []
    assert world.call(dated(300, *TOO_SKEWED), DONE) == [0.05]


DATES = ["Thu, 01 Jan 2026 00:01:17 GMT", "Thursday, 01-Jan-26 00:01:17 GMT",
         "Thu Jan  1 00:01:17 2026"]  # fmt: skip
NO_DATES = ["", "yesterday", "1478422177", "2026-01-01T00:01:17Z", "Thu, 01 Foo 2026 00:01:17 GMT",
            "Thu, 01 Jan", "Thu, 01 Jan 99999999999999 00:01:17 GMT"]  # fmt: skip


def clocks(date):
    """What the metadata says of the service's clock."""
    world = World()
    world.answers = iter([answer(202, date=date)])
    metadata = world.client.invoke_endpoint_async(**CALL)["ResponseMetadata"]
    return metadata["ServerTime"], metadata["ClockSkew"]


@pytest.mark.parametrize("text", DATES + NO_DATES)
def test_http_dates_are_read_in_their_three_forms(text):
    assert clocks(text) == ((DAY + 77.0, 77.0) if text in DATES else (None, None))


@settings(max_examples=40)
@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,4} [A-Z][a-z]{2} [0-9: +-]*")))
def test_no_date_is_too_odd_to_read(text):
    assert all(value is None or isinstance(value, float) for value in clocks(text))
