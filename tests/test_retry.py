"""Retry decisions: which errors are worth another attempt, after how long, and at what price."""

from __future__ import annotations

import calendar
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smasync
from smasync import ClientError, Response, RetryQuota, TransportError, backoff, retry_kind


def client_error(status, code="", **headers):
    """The error that an answer of that status and code is read as."""
    fields = [("x-amzn-errortype", code)] if code else []
    fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
    with pytest.raises(ClientError) as raised:
        smasync.deserialize(Response(status, tuple(fields), b"{}"))
    return raised.value


def calls(answers, quota, max_attempts=3, retry_after=None):
    """One call against a list of answers: (its delays, the quota after each attempt)."""
    delays, levels, cost = [], [], 0
    for attempt, status in enumerate(answers):
        if status == 200:
            quota.refund(cost)
            levels.append(quota.available)
            break
        kind = retry_kind(
            client_error(*status) if isinstance(status, tuple) else client_error(status)
        )
        if kind is None or attempt + 1 >= max_attempts:
            break
        cost = smasync.RETRIES[kind][1]
        if not quota.spend(cost):
            break
        levels.append(quota.available)
        delays.append(round(backoff(kind, attempt, 1.0, retry_after), 9))
    return delays, levels


THROTTLED = (400, "Throttling")
CALLS = {
    # answers, attempts, quota at first: delays in seconds, quota after each attempt
    "success at once": ([200], 3, 500, [], [500]),
    "success at once, after others paid": ([200], 3, 400, [], [401]),
    "two retries and a success": ([500, 500, 200], 3, 500, [0.05, 0.1], [486, 472, 486]),
    "attempts used up": ([500] * 3, 3, 500, [0.05, 0.1], [486, 472]),
    "five attempts": ([500] * 5, 5, 500, [0.05, 0.1, 0.2, 0.4], [486, 472, 458, 444]),
    "quota of 14": ([500, 500, 200], 3, 14, [0.05], [0]),
    "quota of 20": ([500, 502, 200], 3, 20, [0.05], [6]),
    "quota of 13": ([500, 200], 3, 13, [], []),
    "quota of 30": ([500, 504, 200], 5, 30, [0.05, 0.1], [16, 2, 16]),
    "throttled": ([THROTTLED, 200], 3, 500, [1.0], [495, 500]),
    "throttled five times": ([THROTTLED] * 6, 6, 500, [1, 2, 4, 8, 16], [495, 490, 485, 480, 475]),
    "both": ([THROTTLED, 503, 200], 3, 500, [1.0, 0.1], [495, 481, 495]),
    "final error": ([400], 3, 500, [], []),
}


@pytest.mark.parametrize(
    ("answers", "attempts", "start", "delays", "levels"), CALLS.values(), ids=CALLS.keys()
)
def test_delays_and_quota_of_a_call(answers, attempts, start, delays, levels):
    assert calls(answers, RetryQuota(start), attempts) == (delays, levels)


def test_one_quota_serves_many_calls():
    quota = RetryQuota(30)
    assert calls([500, 500, 200], quota, 5)[1] == [16, 2, 16]
    assert calls([500, 200], quota, 5)[1] == [2, 16]
    assert calls([200], quota, 5)[1] == [17]


@pytest.mark.parametrize(
    ("kind", "retry", "most"),
    [
        ("transient", 0, 0.05),
        ("transient", 8, 12.8),
        ("transient", 9, 20.0),
        ("transient", 200, 20.0),
        ("throttle", 0, 1.0),
        ("throttle", 4, 16.0),
        ("throttle", 5, 20.0),
    ],
)
@pytest.mark.parametrize("chance", [0.0, 0.25, 0.999])
def test_a_delay_is_a_part_of_a_growing_limit(kind, retry, most, chance):
    assert backoff(kind, retry, chance) == pytest.approx(chance * most)


@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [
        ("1500", 1.5),
        ("0", 0.05),
        ("49", 0.05),
        ("51", 0.051),
        ("5050", 5.05),
        ("10000", 5.05),
        ("9" * 400, 5.05),
        ("invalid", 0.05),
        ("", 0.05),
        ("-1500", 0.05),
        ("+1500", 0.05),
        ("1.5", 0.05),
        ("1e3", 0.05),
        ("1_500", 0.05),
        ("0x5dc", 0.05),
        ("\u0661\u0665\u0660\u0660", 0.05),
        ("\u00b2", 0.05),
        (None, 0.05),
    ],
)
def test_the_service_may_ask_for_a_longer_delay(retry_after, delay):
    assert backoff("transient", 0, 1.0, retry_after) == pytest.approx(delay)
    assert calls([500, 200], RetryQuota(), 3, retry_after)[0] == [pytest.approx(delay)]


# --- Which errors

THROTTLES = """Throttling ThrottlingException ThrottledException RequestThrottledException
TooManyRequestsException ProvisionedThroughputExceededException TransactionInProgressException
RequestLimitExceeded BandwidthLimitExceeded LimitExceededException RequestThrottled SlowDown
PriorRequestNotComplete EC2ThrottledException""".split()
TRANSIENTS = ["RequestTimeout", "RequestTimeoutException"]


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
@pytest.mark.parametrize("code", THROTTLES)
def test_throttles_are_known_by_their_code(code, status):
    assert retry_kind(client_error(status, code)) == "throttle"


@pytest.mark.parametrize("status", [400, 408, 500])
@pytest.mark.parametrize("code", TRANSIENTS)
def test_transient_errors_are_known_by_their_code(code, status):
    assert retry_kind(client_error(status, code)) == "transient"


def test_the_code_tables_are_complete():
    assert sorted(smasync.THROTTLE_CODES) == sorted(THROTTLES)
    assert sorted(smasync.TRANSIENT_CODES) == sorted(TRANSIENTS)
    assert smasync.RETRIES == {
        "transient": (0.05, 14),
        "throttle": (1.0, 5),
        "corrected": (0.05, 0),
    }
    assert (smasync.QUOTA, smasync.MAX_ATTEMPTS, smasync.MAX_BACKOFF_SECONDS) == (500, 3, 20.0)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "", "transient"),
        (500, "InternalFailure", "transient"),
        (502, "", "transient"),
        (503, "ServiceUnavailable", "transient"),
        (504, "Whatever", "transient"),
        (500, "ValidationError", "transient"),
        (501, "", None),
        (505, "", None),
        (530, "InternalDependencyException", None),
        (400, "", None),
        (400, "ValidationError", None),
        (400, "throttling", None),
        (403, "AccessDeniedException", None),
        (404, "", None),
        (408, "", None),
        (424, "ModelError", None),
        (302, "", None),
        (400, "InternalFailure", None),
        (429, "", "throttle"),
        (429, "ModelNotReadyException", "throttle"),
        (429, "BrandNewError", "throttle"),
        (429, "ValidationError", None),
        (429, "InternalFailure", None),
        (429, "ServiceUnavailable", None),
    ],
)
def test_statuses_and_codes(status, code, kind):
    assert retry_kind(client_error(status, code)) == kind


@pytest.mark.parametrize("kind", ["connect", "tls", "proxy", "timeout", "closed", "protocol"])
def test_what_may_have_been_accepted_is_not_sent_again_when_told_so(kind):
    for sent in (True, False):
        error = TransportError("no answer", kind=kind, sent=sent)
        assert retry_kind(error) == retry_kind(error, retry_sent=True) == "transient"
        assert retry_kind(error, retry_sent=False) == (None if sent else "transient")


@pytest.mark.parametrize(
    "error",
    [
        smasync.Error("x"),
        smasync.ParamValidationError("x"),
        smasync.ConfigurationError("x"),
        smasync.CredentialsError("x"),
        smasync.InferenceError("x"),
        smasync.ResultTimeout("x"),
        ClientError("x"),
    ],
)
def test_other_errors_are_final(error):
    assert retry_kind(error) is None


# --- The quota

moves = st.lists(
    st.tuples(st.sampled_from(["spend", "refund"]), st.sampled_from([0, 1, 5, 14, 499, 500, 501]))
)


@given(start=st.integers(0, 500), moves=moves)
def test_a_quota_is_never_negative_and_never_above_500(start, moves):
    quota, expected = RetryQuota(start), start
    for move, cost in moves:
        if move == "spend":
            assert quota.spend(cost) == (cost <= expected)
            expected -= cost if cost <= expected else 0
        else:
            quota.refund(cost)
            expected = min(500, expected + (cost or 1))
        assert quota.available == expected
        assert 0 <= quota.available <= 500


def test_a_quota_is_fair_to_threads():
    quota, spent, seen = RetryQuota(), [], []
    start = threading.Barrier(16)

    def work():
        start.wait()
        for turn in range(2000):
            spent.append(quota.spend(5))
            if turn % 3 == 0:
                quota.refund(5)
            seen.append(quota.available)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spent) == 32_000
    assert 0 <= min(seen) <= max(seen) <= 500


def test_threads_spend_each_unit_once():
    quota, spent = RetryQuota(), []
    threads = [
        threading.Thread(target=lambda: spent.extend(quota.spend(1) for _ in range(100)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(spent), quota.available) == (500, 0)


# --- Clock skew

DAY = calendar.timegm((2026, 1, 1, 0, 0, 0))


def at(clock):
    """Epoch seconds of "HH:MM:SS" on the first of January 2026."""
    hours, minutes, seconds = map(int, clock.split(":"))
    return DAY + hours * 3600 + minutes * 60 + seconds


def answered(date, status=200, code="", age=None):
    headers = [("Date", f"Thu, 01 Jan 2026 {date} GMT")] if date else []
    headers += [("Age", age)] if age else []
    headers += [("x-amzn-errortype", code)] if code else []
    return Response(status, tuple(headers), b"{}")


TOO_SKEWED = (403, "RequestTimeTooSkewed")
INVALID = (400, "InvalidSignatureException")
SCENARIOS = {
    # each attempt: sent, received, answer; signed at; retried; skew afterwards
    "clock in time": (0, [("00:00:00", "00:00:02", answered("00:00:01"), "00:00:00", False, 0)]),
    "five minutes behind": (
        0,
        [
            ("00:00:00", "00:00:02", answered("00:05:01", *TOO_SKEWED), "00:00:00", True, 300),
            ("00:00:02", "00:00:04", answered("00:05:03"), "00:05:02", False, 300),
            ("00:01:00", "00:01:02", answered("00:06:01"), "00:06:00", False, 300),
        ],
    ),
    "too slow to trust": (
        0,
        [
            ("00:00:00", "00:16:00", answered("00:10:00"), "00:00:00", False, 0),
            ("00:17:00", "00:17:02", answered("00:22:01"), "00:17:00", False, 300),
        ],
    ),
    "clock set right": (
        300,
        [("00:00:00", "00:00:02", answered("00:00:01"), "00:05:00", False, 0)],
    ),
    "two minutes are no reason": (
        0,
        [("00:00:00", "00:00:02", answered("00:02:01", *INVALID), "00:00:00", False, 120)],
    ),
    "five minutes are a reason": (
        0,
        [
            ("00:00:00", "00:00:02", answered("00:05:01", *INVALID), "00:00:00", True, 300),
            ("00:00:02", "00:00:04", answered("00:05:03"), "00:05:02", False, 300),
        ],
    ),
    "ahead": (
        0,
        [
            ("00:10:00", "00:10:02", answered("00:05:01", *INVALID), "00:10:00", True, -300),
            ("00:10:02", "00:10:04", answered("00:05:03"), "00:05:02", False, -300),
        ],
    ),
    "no Date": (0, [("00:00:00", "00:00:02", answered("", *TOO_SKEWED), "00:00:00", False, 0)]),
    "from a cache": (
        0,
        [
            ("16:51:00", "16:51:02", answered("12:03:01", age="17280"), "16:51:00", False, 0),
            ("16:51:10", "16:51:12", answered("16:56:11"), "16:51:10", False, 300),
        ],
    ),
    "from a cache, clock in time": (
        0,
        [
            ("16:51:00", "16:51:02", answered("12:03:01", age="17280"), "16:51:00", False, 0),
            ("16:51:10", "16:51:12", answered("16:51:11"), "16:51:10", False, 0),
        ],
    ),
}


def lower_case(response):
    """The headers as HTTPHeaders has them."""
    return {name.lower(): value for name, value in response.headers}


@pytest.mark.parametrize(("skew", "attempts"), SCENARIOS.values(), ids=SCENARIOS.keys())
def test_clock_skew_scenarios(skew, attempts):
    for sent, received, response, signed, retried, afterwards in attempts:
        assert at(sent) + skew == at(signed)
        seen = smasync.clock_skew(lower_case(response), at(sent), at(received))
        skew = skew if seen is None else seen
        assert skew == afterwards
        if response.status == 200:
            continue
        error = client_error(response.status, response.header("x-amzn-errortype"))
        assert (retry_kind(error, skew=seen) == "corrected") == retried


SKEW_CODES = """RequestTimeTooSkewed InvalidSignatureException SignatureDoesNotMatch AuthFailure
AccessDeniedException""".split()


@pytest.mark.parametrize("code", SKEW_CODES)
@pytest.mark.parametrize(
    ("skew", "kind"),
    [
        (None, None),
        (0.0, None),
        (240.0, None),
        (-240.0, None),
        (240.5, "corrected"),
        (-240.5, "corrected"),
        (1e6, "corrected"),
    ],
)
def test_skew_is_a_reason_beyond_four_minutes(code, skew, kind):
    assert retry_kind(client_error(403, code), skew=skew) == kind


@pytest.mark.parametrize("code", ["RequestExpired", "RequestInTheFuture", "ValidationError", ""])
def test_skew_is_no_reason_for_other_errors(code):
    assert retry_kind(client_error(403, code), skew=1000.0) is None
    assert sorted(smasync.SKEW_CODES) == sorted(SKEW_CODES)


DATES = {
    "IMF-fixdate": ("Sun, 06 Nov 2016 08:49:37 GMT", 1478422177.0),
    "RFC 850": ("Sunday, 06-Nov-16 08:49:37 GMT", 1478422177.0),
    "asctime": ("Sun Nov  6 08:49:37 2016", 1478422177.0),
    "empty": ("", None),
    "garbage": ("yesterday", None),
    "number": ("1478422177", None),
    "ISO 8601": ("1994-11-06T08:49:37Z", None),
    "no such month": ("Sun, 06 Foo 1994 08:49:37 GMT", None),
    "half": ("Sun, 06 Nov", None),
    "far": ("Sun, 06 Nov 99999999999999 08:49:37 GMT", None),
}


@pytest.mark.parametrize(("text", "seconds"), DATES.values(), ids=DATES.keys())
def test_http_dates_are_read_in_their_three_forms(text, seconds):
    assert smasync.http_date(text) == seconds
    skew = smasync.clock_skew({"date": text}, 1478422100.0, 1478422100.0)
    assert skew == (None if seconds is None else 77.0)


@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,4} [A-Z][a-z]{2} [0-9: +-]*")))
def test_no_date_is_too_odd_to_read(text):
    seconds = smasync.http_date(text)
    assert seconds is None or isinstance(seconds, float)


@pytest.mark.parametrize(("seconds", "trusted"), [(900, True), (900.5, False), (0, True)])
def test_an_answer_of_a_slow_round_trip_says_nothing(seconds, trusted):
    headers = lower_case(answered("12:00:00"))
    skew = smasync.clock_skew(headers, at("12:00:00"), at("12:00:00") + seconds)
    assert skew == (-seconds / 2 if trusted else None)
