"""Many requests: invoke_many and Outcome; and lambda_handler.

Transports are functions, clocks are fake, and threads meet at barriers and events: no test hopes
that one thing takes less time than another. A loop that has no end fails its test.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import emulator as emu
import pytest
from emulator import Emulator, Fault, Received, environment
from hypothesis import given, settings
from hypothesis import strategies as st

import smasync
from smasync import (
    THROTTLED_TRIES,
    Client,
    ClientError,
    Credentials,
    CredentialsError,
    Outcome,
    ParamValidationError,
    Request,
    Response,
    TransportError,
)

MODULE = Path(smasync.__file__).resolve()
KEYS = Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
PATIENCE = 60.0  # seconds until something that ought to happen at once is given up

few = settings(max_examples=40)


def inference_id(request: Request) -> str:
    return dict(request.headers)["X-Amzn-SageMaker-Inference-Id"]


def index_of(request: Request) -> int:
    return int(inference_id(request))


def calls(count: int) -> list[dict[str, Any]]:
    """That many good requests, each with its index as InferenceId."""
    return [{**CALL, "InferenceId": str(number)} for number in range(count)]


def accept(request: Request, *, timeout: float | None = None) -> Response:
    """A transport to a service that accepts everything, and tells what."""
    location = ("X-Amzn-SageMaker-OutputLocation", f"s3://bucket/{inference_id(request)}")
    return Response(202, (location,), json.dumps({"InferenceId": inference_id(request)}).encode())


def refused(status: int, code: str, *headers: tuple[str, str]) -> Response:
    return Response(status, (("x-amzn-errortype", code), *headers), b'{"message": "words"}')


def throttling(*headers: tuple[str, str]) -> Response:
    return refused(400, "ThrottlingException", *headers)


def client_of(transport: Callable[..., Response], **options: Any) -> Client:
    """A client that does not sleep; random() is 0.5."""
    defaults: dict[str, Any] = {
        "credentials": KEYS, "environ": {}, "sleep": lambda seconds: None, "random": lambda: 0.5
    }  # fmt: skip
    return Client("us-east-1", transport=transport, **{**defaults, **options})


def within(function: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What a function returns, or raises; AssertionError when it has no end."""
    ends: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            ends.append((function(), None))
        except BaseException as error:
            ends.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert ends, f"no end after {seconds} seconds"
    result, error = ends[0]
    if error is not None:
        raise error
    return result


def many(client: Client, requests: Iterable[Any], concurrency: int = 16) -> list[Outcome]:
    """All outcomes, in the order in which they came."""
    found: list[Outcome] = within(
        lambda: list(client.invoke_many(requests, concurrency=concurrency))
    )
    return found


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def by_index(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: outcome.index)


def assert_complete(outcomes: list[Outcome], requests: list[Any]) -> None:
    """One outcome for each request, with the very request, and its own answer or an error."""
    assert [outcome.index for outcome in by_index(outcomes)] == list(range(len(requests)))
    for outcome in outcomes:
        assert type(outcome) is Outcome and outcome.request is requests[outcome.index]
        assert (outcome.answer is None) == isinstance(outcome.error, Exception)
        if outcome.answer is not None:
            assert outcome.error is None
            assert outcome.answer["InferenceId"] == str(outcome.index)


# --- Outcomes

ITERABLES: dict[str, Callable[[list[Any]], Iterable[Any]]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "generator": lambda requests: (request for request in requests),
    "dict's values": lambda requests: dict(enumerate(requests)).values(),
    "deque": collections.deque,
}


@few
@given(st.integers(0, 60), st.integers(1, 20), st.sets(st.integers(0, 59)), st.data())
def test_each_request_has_one_outcome_with_its_own_answer_or_error(count, concurrency, bad, data):
    def transport(request, *, timeout=None):
        return refused(400, "ModelError") if index_of(request) in bad else accept(request)

    requests = calls(count)
    iterable = ITERABLES[data.draw(st.sampled_from(sorted(ITERABLES)))](requests)
    outcomes = many(client_of(transport), iterable, concurrency)
    assert_complete(outcomes, requests)
    failed = {outcome.index: outcome.error.code for outcome in outcomes if outcome.error}
    assert failed == dict.fromkeys(bad & set(range(count)), "ModelError")


@few
@given(st.permutations(range(6)))
def test_outcomes_come_in_the_order_of_the_answers(order):
    told = [threading.Event() for _ in order]

    def transport(request, *, timeout=None):
        assert told[index_of(request)].wait(PATIENCE)
        return accept(request)

    outcomes = client_of(transport).invoke_many(calls(len(order)), concurrency=len(order))
    for number in order:
        told[number].set()
        assert within(lambda: next(outcomes)).index == number
    assert within(lambda: list(outcomes)) == []


@pytest.mark.parametrize("concurrency", [1, 2, 16])
def test_requests_are_taken_as_outcomes_are_handed_out(concurrency):
    taken, asked, reader = [0], [0], threading.current_thread()

    def requests():
        for request in calls(200):
            assert threading.current_thread() is reader
            taken[0] += 1
            assert taken[0] - asked[0] <= 2 * concurrency
            yield request

    outcomes = client_of(accept).invoke_many(requests(), concurrency=concurrency)
    for turn in range(200):
        next(outcomes)
        asked[0] += 1
        if turn % 50 == 0:  # a consumer that takes a rest: nobody reads ahead
            before = taken[0]
            time.sleep(0.02)
            assert taken[0] == before
    assert within(lambda: list(outcomes)) == [] and taken[0] == 200


@pytest.mark.parametrize("concurrency", [1, 3])
def test_while_nothing_is_done_twice_as_many_are_taken_as_are_under_way(concurrency):
    taken, told, requests = [0], threading.Event(), calls(20)

    def counted() -> Iterator[dict[str, Any]]:
        for request in requests:
            taken[0] += 1
            yield request

    def transport(request, *, timeout=None):
        assert told.wait(PATIENCE)
        return accept(request)

    outcomes = client_of(transport).invoke_many(counted(), concurrency=concurrency)
    found: list[Outcome] = []
    reader = threading.Thread(target=lambda: found.extend(outcomes), daemon=True)
    reader.start()
    wait_until(lambda: taken[0] >= 2 * concurrency)
    time.sleep(0.02)
    assert taken[0] == 2 * concurrency
    told.set()
    reader.join(PATIENCE)
    assert_complete(found, requests)


@pytest.mark.parametrize("concurrency", [1, 2, 16])
def test_so_many_requests_are_under_way_and_never_more(concurrency):
    all_here, lock = threading.Barrier(concurrency), threading.Lock()
    under_way, most = [0], [0]

    def transport(request, *, timeout=None):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        all_here.wait(PATIENCE)
        with lock:
            under_way[0] -= 1
        return accept(request)

    requests = calls(6 * concurrency)
    assert_complete(many(client_of(transport), requests, concurrency), requests)
    assert most == [concurrency]


def test_without_a_concurrency_it_is_16():
    all_here = threading.Barrier(16)

    def transport(request, *, timeout=None):
        all_here.wait(PATIENCE)
        return accept(request)

    assert len(within(lambda: list(client_of(transport).invoke_many(calls(32))))) == 32


CONCURRENCIES = [0, -1, 1001, 10**30, True, "3", 2.0, None]


@pytest.mark.parametrize("concurrency", CONCURRENCIES, ids=repr)
def test_a_concurrency_out_of_range_is_refused_at_the_call(concurrency):
    taken = iter(calls(3))
    with pytest.raises(ParamValidationError, match="concurrency"):
        client_of(accept).invoke_many(taken, concurrency=concurrency)
    assert len(list(taken)) == 3


@pytest.mark.parametrize("concurrency", [1, 1000])
def test_the_range_of_concurrency_includes_its_ends(concurrency):
    requests = calls(5)
    assert_complete(many(client_of(accept), requests, concurrency), requests)


BAD_REQUESTS: dict[str, tuple[Any, str]] = {
    # what is wrong: the request, and what its error says
    "no members": ({}, "EndpointName: is required"),
    "neither input": ({"EndpointName": "x"}, "Body, InputLocation: .*neither"),
    "both inputs": ({**CALL, "Body": b"x"}, "Body, InputLocation: .*both"),
    "a misspelt member": ({**CALL, "Endpointname": "x"}, "did you mean EndpointName"),
    "a wrong type": ({**CALL, "RequestTTLSeconds": "60"}, "expected int"),
    "out of range": ({**CALL, "RequestTTLSeconds": 59}, "59 is under 60"),
    "Body of no type": ({"EndpointName": "x", "Body": object()}, "Body: expected"),
    "None": (None, "expected a mapping, got NoneType"),
    "a number": (5, "expected a mapping, got int"),
    "text": ("EndpointName", "expected a mapping, got str"),
    "pairs": ([("EndpointName", "x")], "expected a mapping, got list"),
}


def test_a_bad_request_is_one_failed_outcome_and_the_others_go_on():
    sent = []

    def transport(request, *, timeout=None):
        sent.append(inference_id(request))
        return accept(request)

    bad = [request for request, _ in BAD_REQUESTS.values()]
    good = [{**CALL, "InferenceId": str(2 * number + 1)} for number in range(len(bad))]
    requests = [request for pair in zip(bad, good) for request in pair]
    outcomes = by_index(many(client_of(transport), requests, 4))
    assert_complete(outcomes, requests)
    for outcome, (_, words) in zip(outcomes[::2], BAD_REQUESTS.values()):
        with pytest.raises(ParamValidationError, match=words):
            raise outcome.error
    assert all(outcome.answer for outcome in outcomes[1::2])
    assert sorted(sent) == sorted(request["InferenceId"] for request in good)


def test_any_mapping_is_a_request():
    requests = [MappingProxyType(calls(2)[0]), collections.ChainMap({"InferenceId": "1"}, CALL)]
    outcomes = many(client_of(accept), requests)
    assert_complete(outcomes, requests)
    assert all(outcome.answer for outcome in outcomes)


ERRORS: dict[str, Exception] = {
    "transport": TransportError("gone", kind="tls", retryable=False),
    "credentials": CredentialsError("none"),
    "somebody's transport": ZeroDivisionError("a fault in it"),
    "a file as Body": MemoryError(),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_whatever_goes_wrong_with_a_request_is_its_outcome_and_the_others_go_on(error):
    def transport(request, *, timeout=None):
        if index_of(request) == 3:
            raise error
        return accept(request)

    requests = calls(8)
    outcomes = many(client_of(transport), requests, 2)
    assert_complete(outcomes, requests)
    assert [outcome.error for outcome in by_index(outcomes)] == [None] * 3 + [error] + [None] * 4


class Stop(BaseException):
    """What `except Exception` does not catch, as SystemExit and the time limits of others."""


def test_what_ends_a_thread_ends_the_loop_and_is_raised_there():
    def transport(request, *, timeout=None):
        if index_of(request) == 3:
            raise Stop
        return accept(request)

    outcomes = client_of(transport).invoke_many(calls(8), concurrency=2)
    with pytest.raises(Stop):
        within(lambda: list(outcomes), 10.0)


def test_what_ends_a_thread_ends_the_loop_while_another_request_is_being_taken():
    taking, taken, stops = threading.Event(), [0], [Stop()]

    def transport(request, *, timeout=None):
        assert taking.wait(PATIENCE)
        if stops:
            raise stops.pop()
        return accept(request)

    def requests():
        for request in itertools.cycle(calls(1)):
            taken[0] += 1
            yield request
            taking.set()
            time.sleep(0.2)

    outcomes = client_of(transport).invoke_many(requests(), concurrency=2)
    with pytest.raises(Stop):
        within(lambda: collections.deque(outcomes, 0), 10.0)
    assert taken[0] <= 2


@few
@given(st.integers(0, 40), st.integers(1, 8), st.sampled_from([KeyError("x"), OSError("x")]))
def test_what_the_iterable_raises_comes_after_all_outcomes(count, concurrency, failure):
    requests, outcomes = calls(count), []

    def broken() -> Iterator[dict[str, Any]]:
        yield from requests
        raise failure

    def collect() -> None:
        for outcome in client_of(accept).invoke_many(broken(), concurrency=concurrency):
            outcomes.append(outcome)

    with pytest.raises(type(failure)) as raised:
        within(collect)
    assert raised.value is failure
    assert_complete(outcomes, requests)


def test_what_ends_a_program_ends_the_loop_at_once_when_it_comes_while_a_request_is_read():
    told = threading.Event()

    def requests() -> Iterator[dict[str, Any]]:
        yield from calls(3)
        told.set()
        raise KeyboardInterrupt

    def transport(request, *, timeout=None):
        assert told.wait(PATIENCE)
        return accept(request)

    before = set(threading.enumerate())
    outcomes = client_of(transport).invoke_many(requests(), concurrency=2)
    with pytest.raises(KeyboardInterrupt):
        within(lambda: next(outcomes))
    assert set(threading.enumerate()) <= before


def test_what_is_no_iterable_is_refused_at_the_call():
    with pytest.raises(TypeError):
        client_of(accept).invoke_many(5)


def test_one_client_serves_several_loops_at_once():
    client, requests = client_of(accept), calls(40)
    loops = [client.invoke_many(requests, concurrency=3) for _ in range(3)]
    shares = within(lambda: list(zip(*loops)))
    for outcomes in zip(*shares):
        assert_complete(list(outcomes), requests)


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        (Outcome(3, {"Body": b"patient 42"}, {"InferenceId": "x"}), "<Outcome 3, 'accepted'>"),
        (Outcome(4, {"Body": b"patient 42"}, None, KeyError("x")), "<Outcome 4, KeyError('x')>"),
    ],
    ids=["answer", "error"],
)
def test_an_outcome_is_frozen_and_does_not_show_the_request(outcome, shown):
    assert repr(outcome) == shown
    with pytest.raises(AttributeError):
        outcome.answer = {}
    assert (outcome.answer is None) != (outcome.error is None)


# --- Throttling


class World:
    """A clock that only sleeping moves, and a transport that notes when it was asked for what.

    `script` says what becomes of a request, given its index and how often it was sent before;
    None is acceptance.
    """

    def __init__(self, script: Callable[[int, int], Response | None]) -> None:
        self.script, self.now, self.lock = script, 0.0, threading.Lock()
        self.sent: list[tuple[float, int]] = []

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        with self.lock:
            self.now += seconds

    def transport(self, request: Request, *, timeout: float | None = None) -> Response:
        index = index_of(request)
        with self.lock:
            before = [number for _, number in self.sent].count(index)
            self.sent.append((self.now, index))
        return self.script(index, before) or accept(request)

    def client(self, **options: Any) -> Client:
        monotonic = {"monotonic": lambda: self.now, "sleep": self.sleep}
        return client_of(self.transport, **{**monotonic, **options})


def spend_quota(client: Client, world: World) -> None:
    """Fails until the client has no quota left for any retry."""
    script, world.script = world.script, lambda index, before: throttling()
    for _ in range(200):
        with pytest.raises(ClientError) as raised:
            client.invoke_endpoint_async(**CALL, InferenceId="0")
        if raised.value.metadata["RetryAttempts"] == 0:
            break
    assert raised.value.metadata["RetryQuotaReached"]
    world.script = script
    world.sent.clear()


@pytest.mark.parametrize("spent", [False, True], ids=["full quota", "no quota"])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_throttled_request_is_tried_so_often_whatever_the_quota_says(concurrency, spent):
    world = World(lambda index, before: throttling() if index == 1 else None)
    client = world.client()
    if spent:
        spend_quota(client, world)
    requests = calls(4)
    outcomes = by_index(many(client, requests, concurrency))
    assert_complete(outcomes, requests)
    assert [outcome.index for outcome in outcomes if outcome.error] == [1]
    assert outcomes[1].error.code == "ThrottlingException"
    sent = collections.Counter(index for _, index in world.sent)
    assert sent == {0: 1, 1: THROTTLED_TRIES, 2: 1, 3: 1}


@few
@given(st.integers(0, THROTTLED_TRIES - 1), st.integers(1, 4), st.integers(1, 6))
def test_a_throttled_request_is_accepted_in_the_end(times, concurrency, count):
    """The last ones of an iterable too, when there is nothing more to take from it."""
    world = World(lambda index, before: throttling() if before < times else None)
    requests = calls(count)
    outcomes = many(world.client(), requests, concurrency)
    assert_complete(outcomes, requests)
    assert all(outcome.answer for outcome in outcomes)
    assert len(world.sent) == count * (times + 1)


THROTTLES = {
    # answer: how often a request is sent when that is always the answer
    "ThrottlingException": (throttling(), THROTTLED_TRIES),
    "429 without a code": (Response(429, (), b""), THROTTLED_TRIES),
    "503 SlowDown": (refused(503, "SlowDown"), THROTTLED_TRIES),
    "503": (refused(503, "ServiceUnavailable"), 3),
    "500": (refused(500, "InternalFailure"), 3),
    "400": (refused(400, "ValidationError"), 1),
    "429 of the model's": (refused(429, "ValidationError"), 1),
}


@pytest.mark.parametrize("case", THROTTLES)
def test_only_throttling_has_so_many_tries(case):
    answer, tries = THROTTLES[case]
    world = World(lambda index, before: answer)
    (outcome,) = many(world.client(), calls(1), 1)
    assert isinstance(outcome.error, ClientError) and len(world.sent) == tries


def test_throttling_of_many_leaves_the_quota_to_others():
    world = World(lambda index, before: throttling() if index < 30 else None)
    client = world.client()
    assert all(outcome.error for outcome in many(client, calls(30), 1))
    world.script = lambda index, before: None if before == 2 else refused(500, "InternalFailure")
    answer = client.invoke_endpoint_async(**CALL, InferenceId="99")
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2


PAUSES = {
    # x-amz-retry-after: seconds until the next try; without it half of one, for random() is 0.5
    None: 0.5,
    "100": 0.5,
    "3000": 3.0,
    "60000": 5.5,  # no more than 5 s beyond our own
    "soon": 0.5,
    "-5": 0.5,
}


@pytest.mark.parametrize("retry_after", PAUSES, ids=str)
def test_the_pause_is_the_one_that_the_service_asks_for(retry_after):
    headers = [("x-amz-retry-after", retry_after)] if retry_after else []
    answer = throttling(*headers)
    world = World(lambda index, before: answer if (index, before) == (1, 0) else None)
    many(world.client(), calls(3), 1)
    times = [at for at, _ in world.sent]
    assert [index for _, index in world.sent] == [0, 1, 1, 2]
    assert times[:2] == [0, 0]
    assert times[2] == pytest.approx(PAUSES[retry_after])


def test_pauses_grow_and_the_quota_does_not_end_them():
    world = World(lambda index, before: throttling())
    many(world.client(), calls(1), 1)
    times = [at for at, _ in world.sent]
    apart = [after - before for before, after in zip(times, times[1:])]
    assert apart == pytest.approx([0.5, 1, 2, 4, 8] + [10] * (THROTTLED_TRIES - 6))


def test_a_throttled_request_does_not_slow_the_others():
    others_done, answered = threading.Event(), []

    def sleep(seconds: float) -> None:
        assert others_done.wait(PATIENCE), "the others wait for the one that was throttled"

    def transport(request: Request, *, timeout: float | None = None) -> Response:
        if index_of(request) == 0 and not others_done.is_set():
            return throttling()
        answered.append(index_of(request))
        if len(answered) == 20:
            others_done.set()
        return accept(request)

    requests = calls(21)
    assert_complete(many(client_of(transport, sleep=sleep), requests, 2), requests)
    assert answered[-1] == 0


class Limit:
    """A service's limit: so many requests a second, and a few at once; the rest is throttled."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.left, self.at = rate, burst, burst, time.monotonic()
        self.throttled, self.lock = 0, threading.Lock()

    def __call__(self, received: Received | None) -> Fault | None:
        with self.lock:
            now = time.monotonic()
            self.left = min(self.burst, self.left + (now - self.at) * self.rate)
            self.at = now
            if self.left >= 1:
                self.left -= 1
                return None
            self.throttled += 1
            return emu.throttle()


def test_a_service_with_a_limit_accepts_all_and_is_not_asked_much_more_often_than_it_allows():
    """On the real clock; a slow machine only makes it easier."""
    limit = Limit(rate=150, burst=20)
    requests = calls(300)
    with Emulator() as server, connected(server, sleep=time.sleep, random=random.random) as client:
        server.fail_every(limit)
        outcomes = many(client, requests, 16)
        assert_complete(outcomes, requests)
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        assert len(server.ledger) == 300
    assert 0 < limit.throttled < 150


# --- Leaving


def close(outcomes: Iterator[Outcome]) -> None:
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]


def break_out(outcomes: Iterator[Outcome]) -> None:
    for _ in outcomes:
        break
    del outcomes


def drop(outcomes: Iterator[Outcome]) -> None:
    next(outcomes)
    del outcomes


def fail(outcomes: Iterator[Outcome]) -> None:
    with contextlib.suppress(ZeroDivisionError):
        for _ in outcomes:
            raise ZeroDivisionError
    del outcomes


def interrupt(outcomes: Iterator[Outcome]) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        for _ in outcomes:
            raise KeyboardInterrupt
    del outcomes


def consume(outcomes: Iterator[Outcome]) -> None:
    collections.deque(outcomes, 0)


LEAVING = (close, break_out, drop, fail, interrupt)


@pytest.mark.parametrize("leave", [*LEAVING, consume])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_whoever_leaves_the_loop_leaves_no_thread_and_no_request_behind(leave, concurrency):
    before, requests = set(threading.enumerate()), iter(calls(500))
    sent: list[int] = []
    answered: list[int] = []

    def transport(request, *, timeout=None):
        sent.append(index_of(request))
        time.sleep(0.002)
        answered.append(index_of(request))
        return accept(request)

    client = client_of(transport)
    within(lambda: leave(client.invoke_many(requests, concurrency=concurrency)))
    assert set(threading.enumerate()) <= before
    assert sorted(sent) == sorted(answered), "what is under way is waited for"
    taken = 500 - len(list(requests))
    assert len(sent) <= taken
    assert len(sent) == 500 if leave is consume else taken <= 1 + 2 * concurrency


@pytest.mark.parametrize("leave", LEAVING)
def test_a_loop_is_left_while_a_request_is_being_taken(leave):
    """The iterable takes its time for the second one, and never ends."""
    before, taken = set(threading.enumerate()), [0]

    def requests():
        for request in itertools.cycle(calls(1)):
            taken[0] += 1
            yield request
            time.sleep(0.2)

    outcomes = [client_of(accept).invoke_many(requests(), concurrency=2)]
    within(lambda: leave(outcomes.pop()), 10.0)
    assert set(threading.enumerate()) <= before
    assert taken[0] <= 2


@pytest.mark.parametrize("end", ["nothing", "close", "del"])
def test_a_loop_that_was_never_begun_has_no_thread_and_takes_nothing(end):
    before, requests = set(threading.enumerate()), iter(calls(5))
    outcomes = client_of(accept).invoke_many(requests)
    if end == "close":
        outcomes.close()
    elif end == "del":
        del outcomes
    assert set(threading.enumerate()) <= before
    assert len(list(requests)) == 5


@pytest.mark.parametrize("leave", LEAVING)
def test_what_waits_to_be_sent_again_is_not_once_the_loop_was_left(leave):
    """Its outcome would be nobody's; and nobody waits for the whole pause of 6 s."""
    both_sent, throttled, sent = threading.Barrier(2), threading.Event(), []

    def sleep(seconds: float) -> None:
        throttled.set()
        time.sleep(seconds / 2)

    def transport(request, *, timeout=None):
        sent.append(index_of(request))
        if len(sent) <= 2:
            both_sent.wait(PATIENCE)
        if index_of(request):
            return throttling(("x-amz-retry-after", "60000"))
        assert throttled.wait(PATIENCE)
        return accept(request)

    client = client_of(transport, sleep=sleep, random=lambda: 1.0)  # a pause of 6 s
    before = set(threading.enumerate())
    within(lambda: leave(client.invoke_many(calls(2), concurrency=2)))
    assert set(threading.enumerate()) <= before
    assert sorted(sent) == [0, 1]


PROGRAM = f"""
import sys, threading, time
sys.path.insert(0, {str(MODULE.parent)!r})
from smasync import Client, Response

def accept(request, *, timeout=None):
    time.sleep(0.01)
    return Response(202, (("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out"),), b"{{}}")

client = Client("us-east-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
                environ={{}}, transport=accept)
call = {{"EndpointName": "x", "InputLocation": "s3://bucket/in"}}
outcomes = client.invoke_many(call for _ in range(10**9))
"""
ENDS = {
    # how a program ends in the middle of a loop: its exit status, and the end of its stderr
    "the end of the program": ("next(outcomes)", 0, ""),
    "sys.exit": ("for _ in outcomes: sys.exit(7)", 7, ""),
    "an error": ("for _ in outcomes: 1 / 0", 1, "ZeroDivisionError: division by zero\n"),
    "a cycle that only the end collects": (
        "import gc; gc.disable(); next(outcomes); ring = [outcomes]; ring.append(ring)\n"
        "del outcomes, ring",
        0,
        "",
    ),
    "a cycle of the program's": ("next(outcomes); ring = [outcomes]; ring.append(ring)", 0, ""),
}


def run_program(text: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", PROGRAM + text]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("case", ENDS)
def test_a_program_that_ends_in_the_middle_of_a_loop_ends(case):
    text, status, last = ENDS[case]
    done = run_program(text)
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.endswith(last) and bool(done.stderr) == bool(last), done.stderr


FEW_THREADS = """
import resource
threading.stack_size(1 << 30)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
most = used + {threads} * (1 << 30) + (1 << 29)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
outcomes = client.invoke_many([call] * 40)
"""

if sys.platform == "linux":  # which counts the threads' stacks as memory

    def test_without_any_thread_the_loop_says_so():
        done = run_program(FEW_THREADS.format(threads=0) + "next(outcomes)")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.endswith("RuntimeError: can't start new thread\n")


if os.name == "posix":

    def interruptible(command: list[str], **options: Any) -> subprocess.Popen[str]:
        """A process that heeds SIGINT, even when this one was started in the background."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            pipe = subprocess.PIPE
            return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)
        finally:
            signal.signal(signal.SIGINT, before)

    def test_ctrl_c_ends_the_loop_and_leaves_no_thread():
        text = PROGRAM + (
            "try:\n"
            "    for count, outcome in enumerate(outcomes):\n"
            "        if count == 20: print('running', flush=True)\n"
            "except KeyboardInterrupt:\n"
            "    del outcomes\n"
            "    print('interrupted', threading.active_count())\n"
        )
        with interruptible([sys.executable, "-W", "error", "-c", text]) as running:
            assert running.stdout.readline() == "running\n"
            running.send_signal(signal.SIGINT)
            printed, complaint = running.communicate(timeout=PATIENCE)
        assert (running.returncode, printed, complaint) == (0, "interrupted 1\n", "")


# --- Over the emulator


@contextlib.contextmanager
def connected(server: Emulator, **options: Any) -> Iterator[Client]:
    """A client of the emulator that does not sleep."""
    options = {"credentials": KEYS, "environ": {}, "sleep": lambda seconds: None, **options}
    with Client("us-east-1", endpoint_url=server.url, **options) as client:
        yield client


class Chance:
    """Random faults, and which request had one that accepts it without an answer."""

    FAULTS = (
        emu.throttle(),
        emu.status(500, "InternalFailure"),
        emu.status(503, "ServiceUnavailable"),
        emu.status(400, "ValidationError", "words"),
        emu.reset_after(),
        emu.close_after(),
        emu.garbage(),
        emu.close_idle(),
    )

    def __init__(self, seed: int) -> None:
        self.seed, self.attempts = seed, itertools.count()
        self.silently: collections.Counter[str] = collections.Counter()

    def __call__(self, received: Received | None) -> Fault | None:
        assert received
        name = received.header("x-amzn-sagemaker-inference-id") or ""
        dice = random.Random(f"{self.seed} {name} {next(self.attempts)}")
        if dice.random() < 0.05:
            self.silently[name] += 1
            return emu.accept_then_reset()
        return dice.choice(self.FAULTS) if dice.random() < 0.15 else None


@pytest.mark.parametrize("seed", range(3))
def test_with_random_faults_each_request_has_an_outcome_and_the_ledger_agrees(seed):
    chance, requests = Chance(seed), calls(400)
    with Emulator() as server, connected(server) as client:
        server.fail_every(chance)
        outcomes = by_index(many(client, requests, 16))
        server.fail_every(None)
        ledger = list(server.ledger)
    assert_complete(outcomes, requests)
    accepted = collections.Counter(inference.inference_id for inference in ledger)
    places = {inference.output_location: inference.inference_id for inference in ledger}
    for outcome in outcomes:
        name = str(outcome.index)
        answered = outcome.answer is not None
        assert accepted[name] == answered + chance.silently[name]
        if outcome.answer is not None:
            assert places[outcome.answer["OutputLocation"]] == name
        else:
            assert isinstance(outcome.error, (ClientError, TransportError))
    assert sum(outcome.answer is not None for outcome in outcomes) > 300


MEMORY = f"""
import sys
sys.path.insert(0, {str(MODULE.parent)!r})
from smasync import Client, Response

def peak():
    try:
        with open("/proc/self/status") as file:
            return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        import resource
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 2**10)

answer = Response(202, (("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out"),), b"{{}}")
client = Client("us-east-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
                environ={{}}, transport=lambda request, *, timeout=None: answer)

def run(count):
    rows = ({{"EndpointName": "x", "Body": b"%d" % number}} for number in range(count))
    return sum(outcome.answer is not None for outcome in client.invoke_many(rows))

run(1)  # what is loaded at the first call is no growth
before = peak()
print(run(int(sys.argv[1])), peak() - before)
"""

if os.name == "posix":

    @pytest.mark.slow
    def test_many_requests_need_no_more_memory_than_a_few():
        """With SOAK_REQUESTS=1000000 a million. A leak of 42 bytes a request would be found."""
        requests = int(os.environ.get("SOAK_REQUESTS", "250000"))
        command = [sys.executable, "-W", "error", "-c", MEMORY, str(requests)]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        assert (done.returncode, done.stderr) == (0, "")
        count, growth = done.stdout.split()
        seconds = time.monotonic() - started
        print(f"{requests:,} requests: {float(growth):.1f} MiB above the start, {seconds:.0f} s")
        assert int(count) == requests
        assert float(growth) < 10


# --- lambda_handler

# What the Lambda runtime does: it imports the module by its file's name, finds the handler by its
# own, and calls it for one event after the other, with the trace of each in the environment.
RUNTIME = """
import gc, importlib, json, os, sys
module, name = os.environ["_HANDLER"].rsplit(".", 1)
handler = getattr(importlib.import_module(module), name)
smasync = sys.modules["smasync"]

class Context:
    aws_request_id, memory_limit_in_mb = "52fdfc07", 128

if os.environ.get("SECONDS_LEFT"):
    left = float(os.environ["SECONDS_LEFT"])
    Context.get_remaining_time_in_millis = lambda self: int(left * 1000)

for number, line in enumerate(sys.stdin):
    os.environ["_X_AMZN_TRACE_ID"] = f"Root=1-{number}"
    try:
        print(json.dumps(["returned", handler(json.loads(line), Context())]))
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        print(json.dumps(["raised", kinds, str(error)]))
print(sum(type(thing) is smasync.RuntimeClient for thing in gc.get_objects()))
"""


def function(server: Emulator, events: list[Any], **environ: str | None) -> tuple[list[Any], int]:
    """What a function made of smasync.py returns or raises for each event; how many clients."""
    bare = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    whole: dict[str, str | None] = {
        **bare,
        **environment(server),
        "PYTHONPATH": str(MODULE.parent),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_LAMBDA_FUNCTION_NAME": "enqueue",
        "_HANDLER": "smasync.lambda_handler",
        **environ,
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNTIME],
        env={name: value for name, value in whole.items() if value is not None},
        input="".join(json.dumps(event) + "\n" for event in events),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    *results, clients = map(json.loads, done.stdout.splitlines())
    return results, clients


@pytest.fixture
def server():
    with Emulator() as running:
        yield running


BODIES: dict[str, tuple[Any, bytes]] = {
    # Body in the event, and what arrives
    "base64": (base64.b64encode(bytes(range(256))).decode(), bytes(range(256))),
    "an object": ({"values": [1, "é", None]}, '{"values":[1,"é",null]}'.encode()),
    "an array": ([1.5, {"a": True}], b'[1.5,{"a":true}]'),
}


def test_an_event_s_body_is_base64_or_json_to_be_sent(server):
    events = [{"EndpointName": "x", "Body": body} for body, _ in BODIES.values()]
    results, _ = function(server, events)
    assert [how for how, _ in results] == ["returned"] * len(BODIES)
    assert [inference.body for inference in server.ledger] == [sent for _, sent in BODIES.values()]


def test_an_event_is_the_members_and_the_answer_is_the_operation_s(server):
    members = {**CALL, "ContentType": "text/csv", "RequestTTLSeconds": 60, "InferenceId": "my-id"}
    ((_, answer),), _ = function(server, [members])
    (inference,) = server.ledger
    assert inference.members == {**members, "RequestTTLSeconds": "60"}
    assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 202
    assert answer == {
        "OutputLocation": inference.output_location,
        "FailureLocation": inference.failure_location,
        "InferenceId": "my-id",
    }


def test_a_silent_credential_endpoint_does_not_outlast_the_function(server):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/credentials"
        nowhere = dict.fromkeys(
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        )
        started = time.monotonic()
        environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "SECONDS_LEFT": "1.5", **nowhere}
        ((how, kinds, said),), _ = function(server, [CALL], **environ)
        assert time.monotonic() - started < 4  # with the interpreter's start; it would be 6
    assert how == "raised" and "TransportError" in kinds and "container" in said


def test_one_client_and_one_connection_serve_all_invocations(server):
    events: list[Any] = [CALL] * 5
    events[2] = {"EndpointName": "x"}  # an error does not cost the client
    results, clients = function(server, events)
    assert [how for how, *_ in results] == ["returned"] * 2 + ["raised"] + ["returned"] * 2
    assert (clients, server.connections, len(server.ledger)) == (1, 1, 4)


def test_each_invocation_passes_on_its_own_trace(server):
    function(server, [CALL] * 3)
    traces = [received.header("x-amzn-trace-id") for received in server.requests]
    assert traces == ["Root=1-0", "Root=1-1", "Root=1-2"]


BAD_EVENTS: dict[str, tuple[Any, str]] = {
    "null": (None, "not a JSON object"),
    "an array": ([CALL], "not a JSON object"),
    "text": ("EndpointName", "not a JSON object"),
    "a number": (5, "not a JSON object"),
    "an empty object": ({}, "EndpointName: is required"),
    "a misspelt member": ({**CALL, "endpointName": "x"}, "did you mean EndpointName"),
    "not base64": ({"EndpointName": "x", "Body": "?"}, "base64"),
    "Body is a number": ({"EndpointName": "x", "Body": 5}, "Body: expected"),
    "Body is empty": ({"EndpointName": "x", "Body": ""}, "Body: 0 bytes is under 1"),
    "Body has no number": ({"EndpointName": "x", "Body": [float("nan")]}, "Body: cannot be sent"),
}


def test_a_wrong_event_is_a_param_validation_error_and_nothing_is_sent(server):
    results, _ = function(server, [event for event, _ in BAD_EVENTS.values()])
    assert len(results) == len(BAD_EVENTS)
    for (how, kinds, message), (_, words) in zip(results, BAD_EVENTS.values()):
        assert (how, kinds[0]) == ("raised", "ParamValidationError") and words in message
    assert server.requests == []


def test_what_the_service_refuses_is_raised_in_its_class(server):
    server.fail(emu.status(400, "ValidationError", "words"), emu.status(403, "AccessDenied", "no"))
    results, _ = function(server, [CALL, CALL])
    assert [kinds[0] for _, kinds, _ in results] == ["ValidationError", "ClientError"]
    assert all("ClientError" in kinds and "Error" in kinds for _, kinds, _ in results)


def test_a_function_without_a_region_says_so_each_time(server):
    no_region = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}
    results, clients = function(server, [CALL, CALL], **no_region)
    assert [kinds[0] for _, kinds, _ in results] == ["ConfigurationError"] * 2
    assert clients == 0 and server.requests == []


@pytest.mark.parametrize("left", ["1.4", "0.4"])
def test_an_error_is_raised_before_the_function_s_time_is_over(server, left):
    """The service is silent for longer than the function has, and not asked again."""
    server.fail(emu.stall(20), emu.stall(20))
    started = time.monotonic()
    results, _ = function(server, [CALL], SECONDS_LEFT=left)
    assert time.monotonic() - started < 15
    assert [(how, kinds[0]) for how, kinds, _ in results] == [("raised", "TransportError")]
    assert len(server.requests) == 1


def test_a_function_with_little_time_left_still_calls(server):
    results, _ = function(server, [CALL] * 2, SECONDS_LEFT="1.0")
    assert [how for how, *_ in results] == ["returned"] * 2


# --- What reads the requests


class AskedOnce:
    """Requests that must not be asked again after their end, as one that waits for a queue."""

    def __init__(self, count: int) -> None:
        self.left, self.asked_again = iter(calls(count)), False
        self.ended = False

    def __iter__(self) -> AskedOnce:
        return self

    def __next__(self) -> dict[str, Any]:
        self.asked_again = self.asked_again or self.ended
        try:
            return next(self.left)
        except StopIteration:
            self.ended = True
            raise


@pytest.mark.parametrize("count", [0, 1, 5, 50])
def test_requests_are_not_asked_again_after_their_end(count):
    requests = AskedOnce(count)
    outcomes = within(lambda: list(client_of(accept).invoke_many(requests, concurrency=2)))
    assert sorted(outcome.index for outcome in outcomes) == list(range(count))
    assert requests.ended and not requests.asked_again


def test_who_is_slow_with_outcomes_does_not_keep_the_workers_waiting():
    read, sent = [0], []

    def requests() -> Iterator[dict[str, Any]]:
        for call in calls(40):
            read[0] += 1
            yield call

    def transport(request: Request, *, timeout: float | None = None) -> Response:
        sent.append(request)
        while read[0] < 4:
            time.sleep(0.001)  # until as many are read as may be
        return accept(request)

    outcomes = client_of(transport).invoke_many(requests(), concurrency=2)
    for handed_out in range(1, 30):
        next(outcomes)
        give_up = time.monotonic() + PATIENCE
        while len(sent) < read[0] and time.monotonic() < give_up:
            time.sleep(0.001)  # all that was read has been answered, and its outcome waits
        assert read[0] >= handed_out + 2
    outcomes.close()
    assert read[0] <= 29 + 2 * 2
