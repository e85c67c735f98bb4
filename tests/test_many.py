"""Section 13, Many: invoke_many has one Outcome for each request, and leaves nothing behind.

Transports are functions, clocks are fake, and threads meet at barriers and events: no test hopes
that one thing takes less time than another.
"""

from __future__ import annotations

import collections
import random
import signal
import threading
import time

import emulator as emu
import pytest
from emulator import Emulator
from hypothesis import given, settings
from hypothesis import strategies as st
from leaks import counted_memory
from raw_server import wait_until

import smasync
from smasync import Client, ClientError, Outcome, ParamValidationError, Response, TransportError

KEYS = smasync.Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
PATIENCE = 30.0  # seconds until what ought to happen at once is given up
TRIES = 20  # of a throttled request


def calls(count):
    """That many good requests, each with its index as InferenceId."""
    return [{**CALL, "InferenceId": str(number)} for number in range(count)]


def index_of(request):
    return int(dict(request.headers)["X-Amzn-SageMaker-Inference-Id"])


def accept(request, *, timeout=None):
    """A transport to a service that accepts everything, and tells what."""
    name = index_of(request)
    headers = (("X-Amzn-SageMaker-OutputLocation", f"s3://bucket/{name}"),)
    return Response(202, headers, b'{"InferenceId": "%d"}' % name)


def refused(status, code, *headers):
    return Response(status, (("x-amzn-errortype", code), *headers), b'{"message": "words"}')


THROTTLE = refused(400, "ThrottlingException")


def client_of(transport, **options):
    """A client that does not sleep; random() is 0.5."""
    given = {"credentials": KEYS, "environ": {}, "sleep": bool, "random": lambda: 0.5, **options}
    return Client("us-east-1", transport=transport, **given)


def many(client, requests, concurrency=16):
    """All outcomes, in the order of the requests."""
    return sorted(client.invoke_many(requests, concurrency=concurrency), key=lambda one: one.index)


def assert_complete(outcomes, requests):
    """One outcome for each request, with the very request, and its own answer or an error."""
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(requests)))
    for index, request, answer, error in outcomes:
        assert request is requests[index]
        assert isinstance(error, Exception) is (answer is None)
        assert answer is None or answer["InferenceId"] == str(index) and error is None


MAKES = st.sampled_from([list, tuple, iter, collections.deque, lambda calls: (c for c in calls)])


@settings(max_examples=25)
@given(st.integers(0, 60), st.integers(1, 20), st.sets(st.integers(0, 59)), MAKES)
def test_each_request_has_one_outcome_with_its_own_answer_or_error(count, concurrency, bad, make):
    def transport(request, *, timeout=None):
        return refused(400, "ModelError") if index_of(request) in bad else accept(request)

    requests = calls(count)
    outcomes = many(client_of(transport), make(requests), concurrency)
    assert_complete(outcomes, requests)
    failed = {outcome.index: outcome.error.code for outcome in outcomes if outcome.error}
    assert failed == dict.fromkeys(bad & set(range(count)), "ModelError")


def test_outcomes_come_in_the_order_of_the_answers():
    told = [threading.Event() for _ in range(4)]

    def transport(request, *, timeout=None):
        assert told[index_of(request)].wait(PATIENCE)
        return accept(request)

    outcomes = client_of(transport).invoke_many(calls(4), concurrency=4)
    for number in (2, 0, 3, 1):
        told[number].set()
        assert next(outcomes).index == number
    assert list(outcomes) == []


@pytest.mark.parametrize("options", [{"concurrency": 1}, {"concurrency": 2}, {}], ids=str)
def test_so_many_are_under_way_and_as_many_more_are_taken_but_no_more(options):
    concurrency = options.get("concurrency", 16)
    all_here, under_way, most, taken, outcomes = threading.Barrier(concurrency), [], [], [], []

    def requests():
        assert threading.current_thread() is reader
        for request in calls(6 * concurrency):
            taken.append(request)
            assert len(taken) - len(outcomes) <= 2 * concurrency
            yield request

    def transport(request, *, timeout=None):
        under_way.append(request)
        most.append(len(under_way))
        wait_until(lambda: len(taken) >= 2 * concurrency, PATIENCE)
        all_here.wait(PATIENCE)
        under_way.remove(request)
        return accept(request)

    reader = threading.current_thread()
    for outcome in client_of(transport).invoke_many(requests(), **options):
        outcomes.append(outcome)
    assert_complete(outcomes, taken)
    assert all(outcome.answer for outcome in outcomes)
    assert len(taken) == 6 * concurrency and max(most) == concurrency


@pytest.mark.parametrize("concurrency", [0, -1, 1001, True, "3", 2.0, None], ids=repr)
def test_what_cannot_be_is_refused_at_the_call(concurrency):
    with pytest.raises(ParamValidationError, match="concurrency"):
        client_of(accept).invoke_many([], concurrency=concurrency)
    with pytest.raises(TypeError):
        client_of(accept).invoke_many(5)
    assert_complete(many(client_of(accept), requests := calls(3), 1000), requests)


WRONG = {
    # a request, or what its transport raises; and what the error of its outcome says
    "no members": ({}, "EndpointName: is required"),
    "a misspelt member": ({**CALL, "Endpointname": "x"}, "did you mean EndpointName"),
    "None": (None, "expected a mapping, got NoneType"),
    "no way there": (TransportError("gone", kind="tls", retryable=False), "gone"),
    "a fault in somebody's transport": (ZeroDivisionError("zero"), "zero"),
}


@pytest.mark.parametrize("wrong, words", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_request_is_its_outcome_and_the_others_go_on(wrong, words):
    is_error = isinstance(wrong, Exception)

    def transport(request, *, timeout=None):
        if is_error and index_of(request) == 3:
            raise wrong
        return accept(request)

    requests = calls(8)
    requests[3] = requests[3] if is_error else wrong
    requests[4] = collections.ChainMap(requests[4], {})  # any mapping is a request
    outcomes = many(client_of(transport), requests, 2)
    assert_complete(outcomes, requests)
    assert [outcome.index for outcome in outcomes if outcome.error] == [3]
    with pytest.raises(type(wrong) if is_error else ParamValidationError, match=words):
        raise outcomes[3].error


class Stop(BaseException):
    """What `except Exception` does not catch, as SystemExit and the time limits of others."""


@pytest.mark.parametrize("concurrency", [1, 2, 16])
@pytest.mark.parametrize("kind", [KeyError, Stop, KeyboardInterrupt])
def test_what_the_requests_raise_comes_after_all_outcomes_or_ends_the_loop(kind, concurrency):
    def transport(request, *, timeout=None):
        if kind is Stop and index_of(request) == 3:  # which ends a thread
            raise kind
        return accept(request)

    def broken():
        yield from requests
        if kind is not Stop:
            raise kind

    before, requests, outcomes = set(threading.enumerate()), calls(20), []
    with pytest.raises(kind):
        for outcome in client_of(transport).invoke_many(broken(), concurrency=concurrency):
            outcomes.append(outcome)
    assert set(threading.enumerate()) <= before
    if kind is KeyError:
        assert_complete(outcomes, requests)


def test_an_outcome_is_frozen_and_does_not_show_the_request():
    body = {"Body": b"patient 42"}
    outcomes = Outcome(3, body, {"InferenceId": "x"}), Outcome(4, body, None, KeyError("x"))
    assert [*map(repr, outcomes)] == ["<Outcome 3, 'accepted'>", "<Outcome 4, KeyError('x')>"]
    with pytest.raises(AttributeError):
        outcomes[0].answer = {}


# --- Throttling


class World:
    """A clock that only sleep moves; script says what answers the n-th try of a request."""

    def __init__(self, script):
        self.script, self.now, self.sent = script, 0.0, []
        self.client = client_of(self.send, monotonic=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds):
        self.now += seconds

    def send(self, request, *, timeout=None):
        index = index_of(request)
        before = [number for _, number in self.sent].count(index)
        self.sent.append((self.now, index))
        return self.script(index, before) or accept(request)

    def pauses(self):
        return [after - before for (before, _), (after, _) in zip(self.sent, self.sent[1:])]


def test_a_throttled_request_is_tried_so_often_outside_the_quota():
    world = World(lambda index, before: THROTTLE)
    assert all(outcome.error for outcome in many(world.client, calls(30), 1))
    world.script = lambda index, before: None if before == 2 else refused(500, "InternalFailure")
    answer = world.client.invoke_endpoint_async(**CALL, InferenceId="99")
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2, "it leaves the quota to others"
    world.script = lambda index, before: THROTTLE
    for _ in range(200):  # until no quota is left for any retry
        with pytest.raises(ClientError) as raised:
            world.client.invoke_endpoint_async(**CALL, InferenceId="0")
    assert raised.value.metadata["RetryAttempts"] == 0
    for times in (TRIES - 1, TRIES):
        world.script = lambda index, before, times=times: THROTTLE if before < times else None
        world.sent.clear()
        outcomes = many(world.client, calls(4), 3)
        assert len(outcomes) == 4 and len(world.sent) == 4 * TRIES
        assert all((outcome.error is None) is (times < TRIES) for outcome in outcomes)


THROTTLES = [
    # status, code, how often a request is sent when that is always the answer
    (429, "", TRIES),
    (503, "SlowDown", TRIES),
    (500, "InternalFailure", 3),
    (400, "ValidationError", 1),
    (429, "ValidationError", 1),
]


@pytest.mark.parametrize("status, code, tries", THROTTLES)
def test_only_throttling_has_so_many_tries(status, code, tries):
    world = World(lambda index, before: refused(status, code))
    (outcome,) = many(world.client, calls(1), 1)
    assert isinstance(outcome.error, ClientError) and len(world.sent) == tries


def test_pauses_grow_and_the_service_may_ask_for_more():
    world = World(lambda index, before: THROTTLE)
    many(world.client, calls(1), 1)
    assert world.pauses() == pytest.approx([0.5, 1, 2, 4, 8] + [10] * (TRIES - 6))
    # 5 s beyond our own pause at most; what is no number of milliseconds says nothing
    for asked, pause in ("100", 0.5), ("3000", 3), ("60000", 5.5), ("soon", 0.5), ("-5", 0.5):
        answer = refused(400, "ThrottlingException", ("x-amz-retry-after", asked))
        world = World(lambda index, before, answer=answer: None if before else answer)
        many(world.client, calls(1), 1)
        assert world.pauses() == pytest.approx([pause])


# --- Leaving

# CPython closes a generator that nobody uses at once; other Pythons do so later, in any thread.
closing = pytest.mark.parametrize("closes", [True, pytest.param(False, marks=pytest.mark.cpython)])


def leave_after_one(outcomes, closes):
    for _ in outcomes:
        break
    if closes:
        outcomes.close()


@closing
@pytest.mark.parametrize("concurrency", [1, 16])
def test_whoever_leaves_the_loop_leaves_no_thread_and_no_request_behind(concurrency, closes):
    before, requests, sent, answered = set(threading.enumerate()), iter(calls(100)), [], []

    def transport(request, *, timeout=None):
        sent.append(index_of(request))
        time.sleep(0.002)
        answered.append(index_of(request))
        return accept(request)

    leave_after_one(client_of(transport).invoke_many(requests, concurrency=concurrency), closes)
    assert set(threading.enumerate()) <= before
    assert sorted(sent) == sorted(answered), "what is under way is waited for"
    assert len(sent) <= 100 - len(list(requests)) <= 1 + 2 * concurrency


@closing
def test_what_waits_to_be_sent_again_is_not_once_the_loop_was_left(closes):
    both_sent, throttled, sent, slept = threading.Barrier(2), threading.Event(), [], []

    def sleep(seconds):
        slept.append(seconds)
        throttled.set()
        time.sleep(0.1)

    def transport(request, *, timeout=None):
        sent.append(index_of(request))
        if len(sent) <= 2:
            both_sent.wait(PATIENCE)
        if index_of(request):
            return refused(400, "ThrottlingException", ("x-amz-retry-after", "60000"))
        assert throttled.wait(PATIENCE)
        return accept(request)

    client = client_of(transport, sleep=sleep)
    leave_after_one(client.invoke_many(calls(2), concurrency=2), closes)
    assert sorted(sent) == [0, 1] and sum(slept) < 5, "nobody waits for the whole pause"


if hasattr(signal, "pthread_kill"):

    def test_ctrl_c_ends_the_loop_and_leaves_no_thread():
        def transport(request, *, timeout=None):
            if index_of(request) == 20:  # while the loop waits for an outcome
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.01)
            return accept(request)

        before = set(threading.enumerate())
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                list(client_of(transport).invoke_many(calls(1000), concurrency=4))
        finally:
            signal.signal(signal.SIGINT, handler)
        assert set(threading.enumerate()) <= before


FAULTS = [
    emu.throttle(), emu.status(500, "InternalFailure"), emu.status(400, "ValidationError", "words"),
    emu.reset_after(), emu.close_after(), emu.garbage(), emu.close_idle(),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_with_random_faults_each_request_has_an_outcome_and_the_ledger_agrees(seed):
    silently, dice = collections.Counter(), random.Random(seed)

    def chance(received):
        if dice.random() < 0.05:  # accepted, and no answer says so
            silently[received.header("x-amzn-sagemaker-inference-id")] += 1
            return emu.accept_then_reset()
        return dice.choice(FAULTS) if dice.random() < 0.15 else None

    requests, options = calls(300), {"credentials": KEYS, "environ": {}, "sleep": bool}
    with Emulator() as server:
        server.fail_every(chance)
        with Client("us-east-1", endpoint_url=server.url, **options) as client:
            outcomes = many(client, requests)
    assert_complete(outcomes, requests)
    accepted = collections.Counter(one.inference_id for one in server.ledger)
    places = {one.output_location: one.inference_id for one in server.ledger}
    for index, _, answer, _ in outcomes:
        assert accepted[str(index)] == (answer is not None) + silently[str(index)]
        assert answer is None or places[answer["OutputLocation"]] == str(index)
    assert sum(outcome.answer is not None for outcome in outcomes) > 200


@pytest.mark.slow
@pytest.mark.cpython
def test_many_requests_need_no_more_memory_than_a_few():
    """A leak of 50 bytes a request would be found."""

    def run(count):
        rows = ({**CALL, "InferenceId": str(number)} for number in range(count))
        return sum(outcome.answer is not None for outcome in client.invoke_many(rows))

    client = client_of(accept)
    run(1000)  # what is loaded and remembered at first is no growth
    with counted_memory() as peak:
        assert run(20_000) == 20_000 and peak() < 1_000_000
