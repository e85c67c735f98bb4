"""Credentials: who is asked for them, in which order, and how those that end are renewed."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smasync import (
    Client,
    ClientError,
    ConfigurationError,
    Credentials,
    CredentialsError,
    Response,
    TransportError,
    resolve_credentials,
)

CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
NAMES = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
VARIABLES = tuple(name.upper() for name in NAMES)
ACCEPTED = Response(202, (("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out"),), b"")
FILES = {"config": "AWS_CONFIG_FILE", "credentials": "AWS_SHARED_CREDENTIALS_FILE"}
HEADERS = {"config": "[profile x]", "credentials": "[x]"}
SECONDS = 10  # to wait for another thread before the test fails
NOW = 1440938160.0


def rows(names, table):
    """A case of the test for each row of a table, under the row's name."""
    return pytest.mark.parametrize(names, table.values(), ids=table.keys())


def keys(name, token=False):
    """Three texts that say whose they are; the last is None unless there is a token."""
    return (f"AKID-{name}", f"SECRET-{name}", f"TOKEN-{name}" if token else None)


@pytest.fixture
def files(tmp_path):
    """A function that writes key triples into the two files, under profile x, and returns the
    environment that names them, and nothing that could lead to other credentials."""

    def write(**triples):
        environ = {"AWS_EC2_METADATA_DISABLED": "true"}
        for which, variable in FILES.items():
            environ[variable] = str(tmp_path / which)
            pairs = zip(NAMES, triples.get(which, ()))
            lines = [HEADERS[which], *(f"{name}={text}" for name, text in pairs if text)]
            (tmp_path / which).write_bytes("\n".join(lines).encode())
        return environ

    return write


def variables(triple):
    return {name: text for name, text in zip(VARIABLES, triple) if text}


def used(client):
    """Key id and token that a client signs with; asserts that the signature is the secret's."""
    signed = client.explain(**CALL)
    headers = dict(signed.request.headers)
    key_id = headers["Authorization"].partition("Credential=")[2].partition("/")[0]
    key = ("AWS4" + key_id.replace("AKID", "SECRET")).encode()
    for part in [*signed.string_to_sign.split("\n")[2].split("/"), signed.string_to_sign]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert signed.signature == key.hex()
    return key_id, headers.get("X-Amz-Security-Token")


# --- who is asked first --------------------------------------------------------------------------

CALLABLE = {"credentials": lambda: Credentials(*keys("callable"))}
RECORD = {"credentials": Credentials(*keys("record", token=True))}
EXPLICIT = dict(zip(NAMES, keys("explicit", token=True)))
BOTH, IN_CODE, IN_ENVIRON = "credentials config", {"profile_name": "x"}, {"AWS_PROFILE": "x"}
CHAIN = {
    # what it shows: (arguments, whether the environment has keys, more variables, files that have
    # keys in profile x; whose keys are used, what the client says of their source)
    "keys in the call": (EXPLICIT, True, {}, BOTH, "explicit", "argument"),
    "a record": (RECORD, True, {}, BOTH, "record", "argument"),
    "a callable": (CALLABLE, True, {}, BOTH, "callable", "argument"),
    "arguments beat a profile in code": (
        {**EXPLICIT, **IN_CODE}, True, {}, "credentials", "explicit", "argument"
    ),
    "the environment": ({}, True, {}, "", "environment", "environment"),
    "the environment beats AWS_PROFILE": ({}, True, IN_ENVIRON, BOTH, "environment", "environment"),
    "a profile in code beats the environment": (IN_CODE, True, {}, BOTH, "credentials", "profile"),
    "so it does from config": (IN_CODE, True, {}, "config", "config", "profile"),
    "AWS_PROFILE": ({}, False, IN_ENVIRON, BOTH, "credentials", "profile"),
    "empty variables are none": (
        {}, False, {**IN_ENVIRON, **dict.fromkeys(VARIABLES, "")}, "config", "config", "profile"
    ),
}  # fmt: skip


@rows("arguments, in_environment, more, which, whose, source", CHAIN)
def test_the_first_in_the_chain_that_has_keys_wins(
    files, arguments, in_environment, more, which, whose, source
):
    environ = {**files(**{name: keys(name) for name in which.split()}), **more}
    if in_environment:
        environ.update(variables(keys("environment")))
    client = Client("us-east-1", environ=environ, **arguments)
    token = "TOKEN-" + whose if whose in ("explicit", "record") else None
    assert used(client) == ("AKID-" + whose, token)
    assert source in client.sources["credentials"]
    if source != "argument":
        resolved = resolve_credentials(arguments.get("profile_name"), environ=environ)
        assert resolved == Credentials(*keys(whose))


def test_the_default_profile_is_asked_when_none_is_named(files, tmp_path):
    environ = files()
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKID-d\naws_secret_access_key = SECRET-d # comment\n"
    )
    assert resolve_credentials(environ=environ) == Credentials("AKID-d", "SECRET-d")


@pytest.mark.parametrize("given", [CALLABLE, RECORD], ids=["a callable", "a record"])
@pytest.mark.parametrize("name", NAMES)
def test_keys_and_credentials_in_one_call_are_an_error(files, name, given):
    with pytest.raises(ConfigurationError, match="not both"):
        Client("us-east-1", environ=files(), **given, **{name: "text"})


# --- three keys of one place ---------------------------------------------------------------------

PAIR, TRIPLE, TOKEN = (True, True, False), (True, True, True), (False, False, True)
NOTHING = (False, False, False)
MIXED = {
    # what it shows: (what the environment, the credentials file and the config file have; whose
    # keys are used, whether with a token)
    "no token from config": (NOTHING, PAIR, TRIPLE, "credentials", False),
    "no pair from config for a token": (NOTHING, TRIPLE, PAIR, "credentials", True),
    "config alone": (NOTHING, NOTHING, TRIPLE, "config", True),
    "no token from a file": (PAIR, TRIPLE, TRIPLE, "environment", False),
    "all from the environment": (TRIPLE, PAIR, PAIR, "environment", True),
    "a token beside a triple in config": (NOTHING, TOKEN, TRIPLE, "config", True),
    "a token beside a pair in config": (NOTHING, TOKEN, PAIR, "config", False),
    "a token in the environment": (TOKEN, PAIR, NOTHING, "credentials", False),
    "tokens beside a pair in config": (TOKEN, TOKEN, PAIR, "config", False),
}


def chosen(name, parts):
    return tuple(text if part else None for text, part in zip(keys(name, token=True), parts))


@rows("environment, credentials, config, whose, token", MIXED)
def test_the_three_keys_come_from_one_place(files, environment, credentials, config, whose, token):
    triples = {"credentials": chosen("credentials", credentials)}
    environ = files(config=chosen("config", config), **triples)
    environ.update(variables(chosen("environment", environment)), AWS_PROFILE="x")
    assert resolve_credentials(environ=environ) == Credentials(*keys(whose, token))


def test_a_token_in_the_environment_is_none_of_the_keys_in_the_call(files):
    environ = {**files(), **variables(keys("environment", token=True))}
    arguments = dict(zip(NAMES[:2], keys("call")))
    assert used(Client("us-east-1", environ=environ, **arguments)) == ("AKID-call", None)


def placed(files, place, triple, **arguments):
    """A function that asks for credentials where `place` has these three, and weaker places have
    good ones; and the names of the three there."""
    weaker = ("the call", "the environment", "credentials", "config")
    weaker = weaker[weaker.index(place) + 1 :]
    triples = {which: keys(which) for which in FILES if which in weaker}
    if place in FILES:
        triples[place] = triple
    environ = {**files(**triples), "AWS_PROFILE": "x"}
    if "the environment" in weaker:
        environ.update(variables(keys("environment")))
    if place == "the environment":
        environ.update(variables(triple))
    if place == "the call":
        arguments = dict(zip(NAMES, triple))
        return lambda: Client("us-east-1", environ=environ, **arguments).explain(**CALL), NAMES
    names = VARIABLES if place == "the environment" else NAMES
    return lambda: resolve_credentials(environ=environ), names


def refusal_of(ask, match=""):
    """The CredentialsError that a function raises; asserts that nothing of it quotes a key."""
    with pytest.raises(CredentialsError, match=match) as raised:
        ask()
    error = raised.value
    while error is not None:
        assert "hunter" not in f"{error} {error!r} {getattr(error, 'tried', '')}"
        error = error.__cause__ or error.__context__
    return str(raised.value)


PLACES = pytest.mark.parametrize("place", ["the call", "the environment", "credentials", "config"])


@PLACES
@pytest.mark.parametrize("token", [None, "TOKEN"])
@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("empty", [None, ""])
def test_half_a_pair_is_an_error_that_names_the_other_half(files, place, missing, empty, token):
    triple = ["AKIDEXAMPLE", "hunter2", token]
    triple[missing] = empty
    ask, names = placed(files, place, triple)
    text = refusal_of(ask, f"no {names[missing]}")
    assert place in text
    assert ("'x'" in text) == (place in FILES)


def test_a_session_token_in_the_call_needs_its_keys_there(files):
    environ = {**files(), **variables(keys("environment"))}
    arguments = {"environ": environ, "aws_session_token": "hunter2"}
    ask = Client("us-east-1", environ=environ).explain  # good keys elsewhere do not help
    assert ask(**CALL)
    refusal_of(lambda: Client("us-east-1", **arguments).explain(**CALL), "the call.*aws_session")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_empty_keys_in_the_call_are_an_error_and_not_the_environment_s(files, count):
    environ = {**files(), **dict(zip(VARIABLES, keys("environment")))}
    environ.pop(VARIABLES[2])
    arguments = dict.fromkeys(NAMES[:count], "")
    refusal_of(lambda: Client("us-east-1", environ=environ, **arguments), "empty key")


@pytest.mark.parametrize("place", ["the environment", "credentials", "config"])
def test_a_session_token_alone_is_no_credentials(files, place):
    triple = (None, None, "hunter2")
    environ = files(**({place: triple} if place in FILES else {}))
    environ.update(variables(triple) if place not in FILES else {}, AWS_PROFILE="x")
    refusal_of(lambda: resolve_credentials(environ=environ), "no credentials found")


# --- text that cannot be a key -------------------------------------------------------------------

WRONG = {
    "a space": " ", "a tab": "\t", "a line feed": "\n", "a carriage return": "\r", "NUL": "\0",
    "DEL": "\x7f", "a letter beyond ASCII": "é", "a no-break space": "\xa0",
}  # fmt: skip


@PLACES
@pytest.mark.parametrize("which", [0, 1, 2])
@rows("wrong", WRONG)
def test_a_character_that_keys_do_not_have_is_named_and_the_key_is_not_quoted(
    files, place, which, wrong
):
    triple = ["AKIDEXAMPLE", "SECRET", "TOKEN"]
    triple[which] = f"hunter2{wrong}hunter3"
    if place in FILES:  # a line break in a file is a continuation line
        triple[which] = triple[which].replace("\n", "\n  ")
    text = refusal_of(placed(files, place, triple)[0], "position 7 of 15")
    assert place in text
    assert NAMES[which][4:] in text


@PLACES
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_keys_with_quotes_around_them_are_refused_with_those_words(files, place, which, quote):
    triple = ["AKIDEXAMPLE", "SECRET", "TOKEN"]
    triple[which] = f"{quote}hunter2{quote}"
    ask, names = placed(files, place, triple)
    assert place in refusal_of(ask, f"{names[which]} has quotes around it")


visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).filter(
    lambda text: text[0] not in "'\""
)


def test_any_visible_text_is_taken_as_it_is(files):
    @given(visible, visible, st.none() | visible)
    def check(key_id, secret, token):
        triple = (key_id, secret, token)
        environ = {**files(), **variables(triple)}
        assert resolve_credentials(environ=environ) == Credentials(*triple)
        for which in FILES:
            environ = files(**{which: triple})
            assert resolve_credentials("x", environ=environ) == Credentials(*triple)

    check()


# --- when nobody has any -------------------------------------------------------------------------


def tried_by(*arguments, **options):
    """The error when credentials cannot be resolved, as its text and its dict of providers."""
    with pytest.raises(CredentialsError) as raised:
        resolve_credentials(*arguments, **options)
    return str(raised.value), dict(raised.value.tried)


def test_when_nothing_answers_the_error_says_what_was_looked_for(files):
    environ = {**files(), "AWS_PROFILE": "x"}
    text, found = tried_by(environ=environ)
    assert list(found)[:3] == ["environment", "web identity", "profile"]
    for part in ("'x'", "aws_access_key_id", *(environ[name] for name in FILES.values())):
        assert part in found["profile"]
    assert all(f"{provider}: {what}" in text for provider, what in found.items())


def test_when_a_profile_is_named_in_code_the_error_says_why_the_environment_is_not_used(files):
    environ = {**files(), **variables(keys("environment"))}
    assert "named in code" in tried_by("x", environ=environ)[1]["environment"]


@pytest.mark.parametrize("which", FILES)
@pytest.mark.parametrize("is_there", [True, False], ids=["a directory", "missing"])
def test_files_that_cannot_be_read_say_nothing_but_to_who_finds_no_credentials(
    files, tmp_path, which, is_there
):
    environ = files()
    (tmp_path / which).unlink()
    if is_there:
        (tmp_path / which).mkdir()
    text, _ = tried_by(environ=environ)
    assert f"{tmp_path / which} cannot be read" in text or (not is_there and FILES[which] in text)
    environ.update(variables(keys("environment")))
    assert resolve_credentials(environ=environ) == Credentials(*keys("environment"))


def test_a_provider_that_fails_ends_the_search_and_is_the_last_one_tried(files):
    environ = {**files(credentials=("AKID", None, None), config=keys("config"))}
    text, found = tried_by(environ={**environ, "AWS_PROFILE": "x"})
    assert list(found) == ["environment", "web identity", "profile"]
    assert text == f"profile: {found['profile']}"
    _, found = tried_by(environ={**environ, "AWS_ACCESS_KEY_ID": "AKID"})
    assert list(found) == ["environment"]


def test_a_client_without_credentials_can_be_made_and_cannot_call(files):
    sent = []
    client = Client("us-east-1", environ=files(), transport=sent.append)
    with pytest.raises(CredentialsError) as raised:
        client.invoke_endpoint_async(**CALL)
    assert len(raised.value.tried) > 1
    assert not sent


# --- credentials that are renewed ----------------------------------------------------------------


class Loader:
    """A callable that gives the credentials of each load in turn, the last one for ever; an
    exception among them is raised."""

    def __init__(self, *answers):
        self.answers, self.calls = answers, 0

    def __call__(self):
        self.calls += 1
        answer = self.answers[min(self.calls, len(self.answers)) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


def until(name, minutes=60.0):
    """Credentials that end so many minutes from NOW."""
    return Credentials(*keys(name, token=True), expires_at=NOW + minutes * 60)


@pytest.fixture
def renewing(files):
    """A function that makes a client of a loader, and returns it with its clock."""

    def make(load, **more):
        clock = Clock()
        arguments = {"transport": lambda request, **_: ACCEPTED, **more}
        client = Client(
            "us-east-1", environ=files(), credentials=load, clock=clock, sleep=lambda _: None,
            random=lambda: 0.0, **arguments,
        )  # fmt: skip
        return client, clock

    return make


def whose(client):
    return used(client)[0].replace("AKID-", "")


def test_a_callable_is_called_once_and_not_before_it_is_needed(renewing):
    load = Loader(Credentials(*keys("one")), Credentials(*keys("two")))
    client, clock = renewing(load)
    assert load.calls == 0
    for _ in range(5):
        client.invoke_endpoint_async(**CALL)
        assert whose(client) == "one"
        clock.now += 86400
    assert load.calls == 1


LEFT = {
    "an hour": (60, "one", 1), "just over 15 minutes": (15.02, "one", 1),
    "just under 15 minutes": (14.98, "two", 2), "just over 10": (10.02, "two", 2),
    "just under 10": (9.98, "two", 2), "nothing": (0, "two", 2),
    "less than nothing": (-5, "two", 2),
}  # fmt: skip


@rows("minutes, name, calls", LEFT)
def test_credentials_are_renewed_15_minutes_before_they_end(renewing, minutes, name, calls):
    load = Loader(until("one", 60), until("two", 600))
    client, clock = renewing(load)
    assert whose(client) == "one"
    clock.now += (60 - minutes) * 60
    for _ in range(3):
        assert whose(client) == name
        assert load.calls == calls


FAILURES = {kind.__name__: kind("try later") for kind in (CredentialsError, OSError, RuntimeError)}
failures = rows("failure", FAILURES)


@failures
def test_a_failure_between_15_and_10_minutes_is_tolerated_and_tried_again(renewing, failure):
    load = Loader(until("one", 60), failure, failure, until("two", 600))
    client, clock = renewing(load)
    assert whose(client) == "one"
    clock.now += 46 * 60
    assert [whose(client) for _ in range(3)] == ["one", "one", "two"]
    assert load.calls == 4


@failures
@pytest.mark.parametrize("minutes", [51, 59, 61])
def test_a_failure_at_first_and_in_the_last_10_minutes_is_raised_and_tried_again(
    renewing, failure, minutes
):
    load = Loader(failure, until("one", 60), failure, failure, until("two", 600))
    client, clock = renewing(load)
    for step, name in ((0, "one"), (minutes * 60, ""), (0, "two")):
        clock.now += step
        with pytest.raises(type(failure), match="try later"):
            client.invoke_endpoint_async(**CALL)
        if name:
            assert whose(client) == name
    assert load.calls == 5


def test_a_callable_that_returns_none_is_an_error_that_says_so(renewing):
    client, _ = renewing(lambda: None)
    with pytest.raises(CredentialsError, match="NoneType"):
        client.invoke_endpoint_async(**CALL)


class SlowLoader(Loader):
    """A loader that gives a second thread the time to come in beside the first one."""

    def __init__(self, *answers):
        super().__init__(*answers)
        self.inside, self.crowd, self.beside = 0, threading.Event(), threading.Lock()

    def __call__(self):
        with self.beside:
            self.inside += 1
            if self.inside > 1:
                self.crowd.set()
        self.crowd.wait(0.1)
        with self.beside:
            self.inside -= 1
        return super().__call__()


def at_once(function, threads=16):
    """What the function returns in each of so many threads that start together."""
    barrier = threading.Barrier(threads)

    def run(_):
        barrier.wait(SECONDS)
        return function()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_16_threads_load_once_and_renew_once_in_the_last_10_minutes(renewing):
    load = SlowLoader(until("one", 60), until("two", 600), until("three", 600))
    client, clock = renewing(load)
    assert at_once(lambda: whose(client)) == ["one"] * 16
    assert (load.calls, load.crowd.is_set()) == (1, False)
    clock.now += 55 * 60
    assert at_once(lambda: whose(client)) == ["two"] * 16
    assert (load.calls, load.crowd.is_set()) == (2, False)


class HeldLoader(Loader):
    """A loader whose second load waits until it is let go."""

    def __init__(self, *answers):
        super().__init__(*answers)
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self):
        answer = super().__call__()
        if self.calls > 1:
            self.entered.set()
            assert self.go.wait(SECONDS)
        return answer


@pytest.fixture
def held(renewing):
    """A function of the minutes that are over, which returns a client, its loader and the pool in
    which a thread renews the credentials, until the loader is let go."""
    load = HeldLoader(until("one", 60), until("two", 600))
    client, clock = renewing(load)
    assert whose(client) == "one"
    with ThreadPoolExecutor(2) as pool:

        def renew(minutes):
            clock.now += minutes * 60
            future = pool.submit(whose, client)
            assert load.entered.wait(SECONDS)
            return client, load, pool, future

        yield renew
        load.go.set()
    assert whose(client) == "two"
    assert load.calls == 2


def test_between_15_and_10_minutes_one_thread_renews_and_no_other_waits(held):
    client, load, _, renews = held(46)
    assert at_once(lambda: whose(client)) == ["one"] * 16
    assert not renews.done()
    load.go.set()
    assert renews.result(SECONDS) == "two"


def test_in_the_last_10_minutes_everybody_waits(held):
    client, load, pool, renews = held(51)
    waits, returned = pool.submit(whose, client), threading.Event()
    waits.add_done_callback(lambda _: returned.set())
    assert not returned.wait(0.1)
    load.go.set()
    assert [renews.result(SECONDS), waits.result(SECONDS)] == ["two", "two"]


def test_who_waits_for_another_thread_waits_no_longer_than_its_call_may_take(held):
    client, _, _, renews = held(51)
    started = time.monotonic()
    with pytest.raises(TransportError) as raised:
        client.invoke_endpoint_async(**CALL, timeout=0.2)
    assert 0.1 < time.monotonic() - started < 2
    assert (raised.value.kind, raised.value.sent, renews.done()) == ("timeout", False, False)


# --- credentials that the service calls expired --------------------------------------------------


def test_nothing_is_sent_after_the_time_limit_that_loading_used_up(renewing):
    now, sent = [0.0], []

    def load():
        now[0] += 2
        return until("slow")

    def transport(request, **_):
        sent.append(request)
        return ACCEPTED

    client, _ = renewing(load, monotonic=lambda: now[0], transport=transport)
    with pytest.raises(TransportError) as raised:
        client.invoke_endpoint_async(**CALL, timeout=0.5)
    assert (raised.value.kind, raised.value.sent, sent) == ("timeout", False, [])


class Service:
    """A transport that answers with each of these in turn, and keeps whose keys it was sent."""

    def __init__(self, *answers):
        self.answers, self.signers = list(answers), []

    def __call__(self, request, *, timeout=None):
        text = dict(request.headers)["Authorization"].partition("AKID-")[2]
        self.signers.append(text.partition("/")[0])
        return self.answers.pop(0)


def refusal(code, status=400):
    return Response(status, (("x-amzn-errortype", code),), b'{"message": "no"}')


EXPIRED, BUSY = refusal("ExpiredTokenException"), refusal("ServiceUnavailable", 503)
DENIED, OTHER_CODE = refusal("AccessDeniedException", 403), refusal("ExpiredToken", 403)
RELOADS = {
    # what it shows: (answers; whose keys each load gives; how many loads there are; whose keys are
    # sent; the error's code)
    "changed": ([EXPIRED, ACCEPTED], "one two three", 2, "one two", None),
    "changed, under the other code": ([OTHER_CODE, ACCEPTED], "one two three", 2, "one two", None),
    "unchanged": ([EXPIRED, ACCEPTED], "one one two", 2, "one", "ExpiredTokenException"),
    "changed, and refused too": (
        [EXPIRED, EXPIRED, ACCEPTED], "one two three", 2, "one two", "ExpiredTokenException"
    ),
    "after another failure": ([BUSY, EXPIRED, ACCEPTED], "one two three", 2, "one one two", None),
    "before another failure": ([EXPIRED, BUSY, ACCEPTED], "one two three", 2, "one two two", None),
    "on the last attempt": (
        [BUSY, BUSY, EXPIRED, ACCEPTED], "one two three", 2, "one one one",
        "ExpiredTokenException",
    ),
    "another code": ([DENIED, ACCEPTED], "one two three", 1, "one", "AccessDeniedException"),
}  # fmt: skip


@rows("answers, loaded, loads, sent, code", RELOADS)
def test_expired_credentials_are_reloaded_once_and_tried_if_they_changed(
    renewing, answers, loaded, loads, sent, code
):
    load, service = Loader(*map(until, loaded.split())), Service(*answers)
    client, _ = renewing(load, transport=service)
    if code is None:
        metadata = client.invoke_endpoint_async(**CALL)["ResponseMetadata"]
        assert metadata["RetryAttempts"] == len(sent.split()) - 1
    else:
        with pytest.raises(ClientError) as raised:
            client.invoke_endpoint_async(**CALL)
        assert raised.value.code == code
    assert service.signers == sent.split()
    assert load.calls == loads


def test_16_threads_that_are_refused_reload_once(renewing):
    barrier = threading.Barrier(16)
    signers = []

    def transport(request, *, timeout=None):
        if "AKID-two" in dict(request.headers)["Authorization"]:
            signers.append("two")
            return ACCEPTED
        barrier.wait(SECONDS)
        signers.append("one")
        return EXPIRED

    load = SlowLoader(until("one"), until("two"), until("three"))
    client, _ = renewing(load, transport=transport)
    answers = at_once(lambda: client.invoke_endpoint_async(**CALL))
    assert [answer["ResponseMetadata"]["RetryAttempts"] for answer in answers] == [1] * 16
    assert sorted(signers) == ["one"] * 16 + ["two"] * 16
    assert load.calls == 2


@pytest.mark.parametrize("which", FILES)
@pytest.mark.parametrize("argument", ["x", None], ids=["profile in code", "AWS_PROFILE"])
def test_keys_that_were_written_to_the_file_meanwhile_are_used(files, which, argument):
    signers = []

    def transport(request, *, timeout=None):
        signers.append(dict(request.headers)["X-Amz-Security-Token"])
        files(**{which: keys("new", token=True)})
        return EXPIRED if len(signers) == 1 else ACCEPTED

    environ = {**files(**{which: keys("old", token=True)}), **({} if argument else IN_ENVIRON)}
    client = Client(
        "us-east-1", profile_name=argument, environ=environ, transport=transport,
        sleep=lambda _: None,
    )  # fmt: skip
    client.invoke_endpoint_async(**CALL)
    client.invoke_endpoint_async(**CALL)
    assert signers == ["TOKEN-old", "TOKEN-new", "TOKEN-new"]


@pytest.mark.parametrize("arguments", [EXPLICIT, IN_CODE], ids=["in the call", "in a file"])
def test_keys_that_expired_and_are_the_same_as_before_are_sent_once(files, arguments):
    service = Service(EXPIRED, ACCEPTED)
    environ = files(credentials=keys("explicit", token=True))
    client = Client("us-east-1", environ=environ, transport=service, **arguments)
    with pytest.raises(ClientError, match="ExpiredTokenException"):
        client.invoke_endpoint_async(**CALL)
    assert service.signers == ["explicit"]
