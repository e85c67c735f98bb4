"""Section 10, Credentials: who is asked for them, in which order, and when they are renewed.

The services that hand them out (STS, SSO, container, IMDS) are fakes on the loopback interface that
check what they are sent. `Rerouted` takes there what is for the real addresses.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import credential_services as cs
import emulator as emu
import pytest
from leaks import let_go, told
from raw_server import wait_until

import smasync
from smasync import Credentials, CredentialsError, RuntimeClient, TransportError

CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
NOW, LATER = 1_767_323_045.0, 4_099_605_300.0  # 2026-01-02T03:04:05Z, 2099-11-29T03:15:00Z
SECONDS = 10  # to wait for another thread before the test fails
NAMES = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
VARIABLES = tuple(name.upper() for name in NAMES)
TOKEN, TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
RELATIVE, FULL = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"
ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
DISABLED, WEB_FILE = "AWS_EC2_METADATA_DISABLED", "AWS_WEB_IDENTITY_TOKEN_FILE"
# what may stand in no error and no log; it is in every secret and token of these tests
HIDDEN = re.compile(f"hush|hunter|{cs.SECRET_MARK}|emulated[A-Z]*TOKEN")


def rows(names, table):
    """A case of the test for each row of a table, under the row's name."""
    return pytest.mark.parametrize(names, table.values(), ids=map(str, table))


def secret_of(name):
    return f"hush/{name}+%s%%(x)s=#;:".ljust(40, "0")


def key_lines(name):
    return f"aws_access_key_id = AKID{name}\naws_secret_access_key = {secret_of(name)}\n"


def key_variables(name):
    return dict(zip(VARIABLES, (f"AKID{name}", secret_of(name))))


# --- a machine with credentials ------------------------------------------------------------------


class Setup(NamedTuple):
    """One way to come by credentials. In its texts, {home} and {process} are filled in."""

    origin: str  # what Desk.origin says of its credentials
    lines: str = ""  # in profile x
    sections: str = ""  # more of the config file
    variables: dict = {}  # noqa: RUF012
    service: str = ""  # which one is asked, a row of credential_services.PATHS


ROLES, BASE_TOKEN = f"arn:aws:iam::{cs.ACCOUNT_ID}:role/", "hush-session-token-of-base"
SERIAL = f"arn:aws:iam::{cs.ACCOUNT_ID}:mfa/me"
ARN, WEB_LINE = f"role_arn = {ROLES}path/Work\n", "web_identity_token_file = {home}/web-token\n"
BASE = f"{key_lines('base')}aws_session_token = {BASE_TOKEN}\n"
WEB_VARIABLES = {WEB_FILE: "{home}/web-token", "AWS_ROLE_ARN": f"{ROLES}path/Work"}
SSO_ROLE = f"sso_account_id = {cs.ACCOUNT_ID}\nsso_role_name = Read & write/é\n"
START_URL = "https://corp.awsapps.com/start"
LEGACY = f"sso_start_url = {START_URL}\nsso_region = us-east-1\n" + SSO_ROLE
SESSION = "[sso-session {}]\nsso_region = us-east-1\nsso_start_url = https://d-1/start\n"
POD_URL, POD_TOKEN = "http://169.254.170.23/v1/credentials", "Basic hush-token-of-the-pod"
POD_VARIABLES = {FULL: POD_URL, TOKEN_FILE: "{home}/web-token", TOKEN: POD_TOKEN}
CHAIN = {
    # in the order in which they are asked
    "environment": Setup("AKIDenvironment", variables=key_variables("environment")),
    "web identity": Setup("AssumeRoleWithWebIdentity", variables=WEB_VARIABLES, service="sts"),
    "profile": Setup("AKIDstatic", key_lines("static")),
    "container": Setup("container", variables={FULL: POD_URL, TOKEN: POD_TOKEN}, service="container"),
    "instance metadata": Setup("imds", variables={DISABLED: ""}, service="imds"),
}  # fmt: skip
PROFILE = {
    # in the order in which they count
    "role": Setup("AssumeRole", ARN + "source_profile = base\n", f"[profile base]\n{BASE}", service="sts"),
    "web identity of a profile": Setup("AssumeRoleWithWebIdentity", ARN + WEB_LINE, service="sts"),
    "SSO": Setup("sso", "sso_session = corp\n" + SSO_ROLE, SESSION.format("corp"), service="sso"),
    "static keys": Setup("AKIDstatic", key_lines("static")),
    "process": Setup("AKIDprocess", "credential_process = {process}\n"),
}  # fmt: skip
SETUPS = {**CHAIN, **PROFILE, "legacy SSO": Setup("sso", LEGACY, service="sso")}
PRINTED = {
    "Version": 1, "AccessKeyId": "AKIDprocess", "SecretAccessKey": secret_of("process"),
    "SessionToken": "hush-token", "Expiration": "2026-01-02T04:04:05Z", "AccountId": cs.ACCOUNT_ID,
}  # fmt: skip
NO_JSON = "status 0, without JSON of Version 1"


class Clock:
    now = NOW

    def __call__(self):
        return self.now


class Rerouted:
    """A transport that takes every request to the services; raises its `failures` first."""

    def __init__(self, url):
        self.url, self.real = url, smasync.UrllibTransport(environ={})
        self.close = self.real.close
        self.requests, self.timeouts, self.failures = [], [], []

    def __call__(self, request, *, timeout=None):
        self.requests.append(request)
        self.timeouts.append(timeout)
        if self.failures:
            raise self.failures.pop(0)
        method, url, headers, body = request
        host = urlsplit(url).netloc
        headers = (*(pair for pair in headers if pair[0].lower() != "host"), ("Host", host))
        here = smasync.Request(method, self.url + url.partition(host)[2], headers, body)
        return self.real(here, timeout=timeout)


class Desk:
    """A home directory, an environment and services: all that credentials can come from."""

    def __init__(self, home, services, clock):
        self.home, self.services, self.clock = home, services, clock
        self.transport = Rerouted(services.url)
        self.environ = {"HOME": str(home), "AWS_REGION": "us-east-1", DISABLED: "true"}
        self.write("web-token", cs.WEB_TOKEN + "\n")
        self.printing(PRINTED)
        self.sso_token("corp")
        self.sso_token(START_URL)

    def write(self, name, content):
        """Gives a file in the home directory this text, or these bytes."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def printing(self, document, more=""):
        """Makes the process print this, and then run more; a str is printed as it is."""
        text = document if isinstance(document, str) else json.dumps(document)
        self.write("output", text)
        script = f"home = {str(self.home)!r}\nprint(open(home + '/output').read(), flush=True)\n"
        self.write("process.py", f"{script}open(home + '/ran', 'w').close()\n{more}")

    def sso_token(self, name, content=None, **changes):
        """Leaves a token, or other content, where the AWS CLI would for this session or URL."""
        document = {"accessToken": cs.SSO_TOKEN, "expiresAt": "2026-01-02T23:00:00Z", **changes}
        digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        self.write(f".aws/sso/cache/{digest}.json", content or json.dumps(document))

    def configure(self, *setups, more="", **variables):
        """Profile x and the environment of all these setups together; more of the config file."""
        lines = dict.fromkeys(line for setup in setups for line in setup.lines.splitlines())
        sections = [*(setup.sections for setup in setups), more]
        self.write(".aws/config", self.filled("\n".join(["[profile x]", *lines, *sections])))
        if lines:
            self.environ["AWS_PROFILE"] = "x"
        for some in (*(setup.variables for setup in setups), variables):
            self.environ.update({name: self.filled(text) for name, text in some.items()})

    def filled(self, template):
        parts = (sys.executable, self.home / "process.py")
        process = " ".join(f'"{Path(part).as_posix()}"' for part in parts)
        return template.replace("{home}", self.home.as_posix()).replace("{process}", process)

    def resolve(self, profile_name=None, **options):
        options = {"transport": self.transport, "clock": self.clock, **options}
        return smasync.resolve_credentials(profile_name, environ=self.environ, **options)

    def client(self, **options):
        """A client of the emulated SageMaker that does not sleep."""
        defaults = {"environ": self.environ, "clock": self.clock, "sleep": lambda seconds: None}
        return RuntimeClient(**{**defaults, "transport": self.transport, **options})

    def origin(self, key_id):
        """The STS action or the service that handed out a key, else the key id itself."""
        made = {made.access_key_id: made for made in self.services.hand_outs}.get(key_id)
        return made.parameters.get("Action", made.service) if made else key_id

    def asked(self):
        """The services that were sent anything."""
        return {service.split()[0] for service in cs.PATHS if self.services.requests_to(service)}


@pytest.fixture
def desk(tmp_path):
    clock, tokens = Clock(), {"base": BASE_TOKEN, "process": PRINTED["SessionToken"]}
    names = ("environment", "static", *tokens)
    accounts = {f"AKID{n}": emu.Account(secret_of(n), tokens.get(n)) for n in names}
    with cs.CredentialServices(clock=clock, accounts=accounts) as services:
        services.container_authorization = POD_TOKEN
        made = Desk(tmp_path / "home of a user", services, clock)
        yield made
        made.transport.close()


@pytest.fixture
def failing(caplog):
    """A function that returns the error of another, and finds no secret in it or in the log."""

    def check(ask, *patterns, error=CredentialsError):
        with caplog.at_level("DEBUG", "smasync"), pytest.raises(error) as raised:
            ask()
        for text in (told(raised.value), caplog.text):
            assert not HIDDEN.search(text), text
        for pattern in patterns:
            assert re.search(pattern, str(raised.value), re.DOTALL), (pattern, str(raised.value))
        return raised.value

    return check


def signed(client):
    """Key id and session token that a client signs with."""
    return signature_of(client.explain(**CALL).request)


def signature_of(request):
    headers = dict(request.headers)
    key_id = headers["Authorization"].partition("Credential=")[2].partition("/")[0]
    return key_id, headers.get("X-Amz-Security-Token")


# --- the chain -----------------------------------------------------------------------------------

ORDER = [(table, name) for table in (CHAIN, PROFILE) for name in table]


@pytest.mark.parametrize("table, name", ORDER, ids=[name for _, name in ORDER])
def test_the_first_that_is_configured_wins_and_no_other_is_asked(desk, table, name):
    followers = list(table.values())[list(table).index(name) :]
    desk.configure(*followers, CHAIN["container"], CHAIN["instance metadata"])
    if name == "instance metadata":
        desk.environ[FULL] = ""
    assert desk.origin(desk.resolve().access_key_id) == table[name].origin
    assert desk.asked() == {table[name].service} - {""}
    assert (desk.home / "ran").exists() == (name == "process")


IN_X, ENVIRONMENT = {"AWS_PROFILE": "x"}, key_variables("environment")
EMPTY = dict.fromkeys([*VARIABLES, *WEB_VARIABLES, "AWS_PROFILE", RELATIVE, FULL], "")
TRIPLE = ("AKIDgiven", "hush", "hush-token")


@rows("arguments, variables, expected", {
    # what is set: (arguments, variables, key id and token that are used)
    "nothing": ({}, {}, ("AKIDdefault", None)),
    "empty variables": ({}, EMPTY, ("AKIDdefault", None)),
    "a token alone": ({}, {VARIABLES[2]: "hush"}, ("AKIDdefault", None)),
    "AWS_PROFILE": ({}, IN_X, ("AKIDstatic", None)),
    "AWS_PROFILE and keys": ({}, {**IN_X, **ENVIRONMENT}, ("AKIDenvironment", None)),
    "a profile in code": ({"profile_name": "x"}, {"AWS_PROFILE": "no"}, ("AKIDstatic", None)),
    "that and keys": ({"profile_name": "x"}, ENVIRONMENT, ("AKIDstatic", None)),
    "that and a web identity": ({"profile_name": "x"}, WEB_VARIABLES, ("AKIDstatic", None)),
    "a pair in code": (dict(zip(NAMES, TRIPLE[:2])), {VARIABLES[2]: "hush"}, ("AKIDgiven", None)),
    "three keys in code": (dict(zip(NAMES, TRIPLE)), ENVIRONMENT, TRIPLE[::2]),
    "credentials in code": ({"credentials": Credentials(*TRIPLE)}, ENVIRONMENT, TRIPLE[::2]),
    "a function in code": ({"credentials": lambda: Credentials(*TRIPLE)}, ENVIRONMENT, TRIPLE[::2]),
})  # fmt: skip
def test_code_beats_the_environment_which_beats_the_profile(desk, arguments, variables, expected):
    desk.configure(more=f"{key_lines('static')}[default]\n{key_lines('default')}", **variables)
    client = desk.client(**arguments)
    assert signed(client) == expected
    where = {"AKIDgiven": "argument", "AKIDenvironment": "environment"}
    assert client.sources["credentials"] == where.get(expected[0], "profile")
    assert desk.services.requests == []


@pytest.mark.parametrize("name", SETUPS)
def test_what_each_provider_gives_signs_a_call_and_nothing_secret_is_shown(desk, caplog, name):
    desk.configure(SETUPS[name], AWS_ACCOUNT_ID=cs.ACCOUNT_ID)
    with caplog.at_level("DEBUG", "smasync"), desk.client() as client:
        client.invoke_endpoint_async(**CALL)
        credentials = desk.resolve()
    assert len(desk.services.ledger) == 1
    assert client.sources["credentials"] == (name if name in CHAIN else "profile")
    is_lasting = SETUPS[name].origin in ("AKIDenvironment", "AKIDstatic")
    assert credentials.expires_at == (None if is_lasting else NOW + 3600)
    has_account = name in ("environment", "container", "process")
    assert credentials.account_id == (cs.ACCOUNT_ID if has_account else None)
    assert not HIDDEN.search(f"{caplog.text} {credentials!r} {client!r} {client.sources}")


def test_when_nobody_has_credentials_the_error_says_what_each_provider_looked_for(desk, failing):
    desk.write(".aws/credentials/file", "")  # so that credentials is a directory
    desk.configure()
    error = failing(lambda: desk.client().invoke_endpoint_async(**CALL), "no credentials found")
    patterns = {
        "environment": "AWS_ACCESS_KEY_ID", "web identity": WEB_FILE,
        "profile": r"'default' in .*\.aws.config and .*\.aws.credentials.*aws_access_key_id",
        "container": RELATIVE, "instance metadata": f"{DISABLED}.*no role",
        "shared files": r"Is a directory: '.*\.aws.credentials'",
    }  # fmt: skip
    assert [name for name, _ in error.tried] == list(patterns)
    for name, what in error.tried:
        assert re.search(patterns[name], what) and f"\n- {name}: {what}" in str(error)
    tried = dict(failing(lambda: desk.resolve("x")).tried)
    assert (
        "the code names a profile" in tried["environment"] and "skipped" in tried["web identity"]
    )
    assert desk.services.requests == []


def chosen(name, parts):
    """The keys that the letters i, s and t (id, secret, token) ask for, None for the others."""
    triple = (f"AKID{name}", f"hush-{name}", f"hush-token-{name}")
    return tuple(text if letter in parts else None for letter, text in zip("ist", triple))


def placed(desk, **triples):
    """Puts these keys into the environment and into profile x of the two files."""
    environment = zip(VARIABLES, triples.get("environment", ()))
    desk.environ.update({name: text for name, text in environment if text is not None}, **IN_X)
    for which, header in (("credentials", "[x]"), ("config", "[profile x]")):
        pairs = zip(NAMES, triples.get(which, ()))
        lines = [f"{name} = {text}" for name, text in pairs if text is not None]
        desk.write(f".aws/{which}", "\n".join([header, *lines]))


@rows("environment, credentials, config, place, parts", {
    # what it shows: (keys in the environment, the credentials file, config; whose are used, which)
    "the environment first": ("is", "ist", "ist", "environment", "is"),
    "a token in the environment is none of a file's keys": ("t", "is", "", "credentials", "is"),
    "the credentials file first": ("", "ist", "is", "credentials", "ist"),
    "no token from config": ("", "is", "ist", "credentials", "is"),
    "tokens alone, beside config": ("t", "t", "is", "config", "is"),
})  # fmt: skip
def test_the_three_keys_come_from_one_place(desk, environment, credentials, config, place, parts):
    given = {"environment": environment, "credentials": credentials, "config": config}
    placed(desk, **{name: chosen(name, letters) for name, letters in given.items()})
    assert desk.resolve() == Credentials(*chosen(place, parts))


@pytest.mark.parametrize("place", ["the call", "environment", "credentials", "config"])
@rows("triple, says", {
    # what is wrong: (the three keys; what the error says, with the names of the keys there)
    "no secret": (("AKID", None, "hunter2"), "has {0} but no {1}"),
    "no key id": ((None, "hunter2", None), "has {1} but no {0}"),
    "an empty secret": (("AKID", "", None), "has {0} but no {1}"),
    "a space in the id": (("hunter2 hunter3", "hush", None), "access_key_id has a character"),
    "DEL in the secret": (("AKID", "hunter2\x7fhunter3", None), "secret_access_key has a character"),
    "a token beyond ASCII": (("AKID", "hush", "hunter2éhunter3"), "session_token has a character"),
})  # fmt: skip
def test_wrong_keys_are_an_error_that_quotes_none(desk, failing, place, triple, says):
    weaker = {"the call": "environment"}.get(place, "config")
    placed(desk, **{weaker: chosen(weaker, "is"), place: triple})
    arguments = dict(zip(NAMES, triple)) if place == "the call" else {}
    names = VARIABLES if place == "environment" else NAMES
    failing(lambda: signed(desk.client(**arguments)), place, says.format(*names))


TIMES = """
2099-11-29 03:15:00+00:00, 2099-11-29T03:15:00Z, 2099-11-29t03:15:00z, 2099-11-29T03:15:00+0000,
2099-11-29T03:15:00, 2099-11-29T03:15:00UTC, 2099-11-29T04:15:00+01:00, 2099-11-28T22:45:00-04:30,
2099-11-29T03:15:00.123456789+00:00
""".split(",")


def test_every_usual_way_to_write_the_end_of_credentials_is_understood(desk):
    for text in TIMES:
        desk.configure(CHAIN["environment"], AWS_CREDENTIAL_EXPIRATION=text.strip())
        assert desk.resolve().expires_at == LATER, text


# --- what is configured and broken ---------------------------------------------------------------

BAD_TOKENS = {
    "empty": b"\r\n",
    "with-a-line-break": b"hunter2\r\nX-Injected: hunter3",
    "not-UTF-8": b"hunter2\xff\xfehunter3",
    "beyond-ASCII": "hunter2é".encode(),
    "of-1-MiB": b"hunter2" * 150_000,
}
BAD_CACHES = {
    # name of the session: content of its file, or changes of the members
    "expired": {"expiresAt": "2026-01-02T03:04:05Z", "refreshToken": "hush", "clientId": "x"},
    "token-missing": {"accessToken": None},
    "end-malformed": {"expiresAt": "soon"},
    "token-with-a-line-break": {"accessToken": "hunter2\r\nX-Injected: hunter3"},
    "not-JSON": {"content": b"hunter2"},
    "not-an-object": {"content": b'["hunter2"]'},
}
LOGIN = "aws sso login --profile x.*aws configure export-credentials --format process --profile x"
BAD_URIS = r"""
http://evil.example/x http://localhost.evil.example/x http://127.0.0.1.evil.example/x
http://127.0.0.1@evil.example/x http://127.0.0.1:80@evil.example/x
https://hunter2:hunter3@evil.example/x http://127.0.0.1\@evil.example/x
http://evil.example#@127.0.0.1/x http://evil.example?@127.0.0.1/ http://169.254.170.3/x
http://[::ffff:10.0.0.1]/x http://2852039166/x ftp://127.0.0.1/x file:///etc/passwd 127.0.0.1/x
http:///x http://127.0.0.1/é http://127.0.0．1/x http://127.0.0.1:99999/x http://[::1/x
""".split()
BAD_CONTAINERS = [
    *({FULL: uri} for uri in BAD_URIS),
    *({FULL: f"http://127.0.0.1/x{end}"} for end in ("\r\nX-Injected: 1", " HTTP/1.1")),
    *({RELATIVE: path} for path in ("@evil.example/x", ".evil.example/x", ":8080/x", "v2/x")),
    *({RELATIVE: f"/x{end}"} for end in ("\r\nHost: evil.example", " HTTP/1.1", "é")),
    *({TOKEN: f"hunter2{end}"} for end in ("\r\nX-Injected: 1", "\n", "\x7f", "é")),
]
BAD_REGIONS = ("evil.example/", "us-east-1@evil", "us-east-1.evil.example", "é", "x" * 64, "")
IMDS = {FULL: "", DISABLED: ""}
MORE_SECTIONS = "\n".join([
    *(SESSION.format(name) for name in ("corp", "nobody", *BAD_CACHES)),
    f"[sso-session bare]\nsso_region = us-east-1\n[profile base]\n{BASE}[profile empty]",
    f"[profile p]\n{ARN}source_profile = q\n[profile q]\n{ARN}source_profile = p",
])  # fmt: skip


@rows("lines, variables, says", {
    # what is wrong: (lines of profile x, variables, what the error says)
    "a role without a source": (ARN, {}, "'x' has role_arn; .*source_profile"),
    "two sources": (ARN + "source_profile = base\ncredential_source = Environment", {}, "either"),
    "a source that is not there": (ARN + "source_profile = nobody", {}, "nobody.*x -> nobody"),
    "a source without keys": (ARN + "source_profile = empty", {}, "empty has no credentials"),
    "itself, without keys": (ARN + "source_profile = x", {}, "loop: x -> x$"),
    "a circle": (ARN + "source_profile = p", {}, "loop: x -> p -> q -> p$"),
    "an unknown kind": (ARN + "credential_source = environment", {}, "Environment, Ec2Inst.*EcsContainer"),
    "no environment": (ARN + "credential_source = Environment", {}, "'x': Environment has no"),
    "no instance": (ARN + "credential_source = Ec2InstanceMetadata", {}, "'x': Ec2Instance"),
    "no terminal": (PROFILE["role"].lines + "mfa_serial = me", {}, "me: no terminal.*prompt="),
    "a token file without a role": (WEB_LINE + key_lines("static"), {}, "'x' has .* no role_arn"),
    "that in the environment": ("", {WEB_FILE: "{home}/web-token"}, f"{WEB_FILE}.* no AWS_ROLE_ARN"),
    "no token file": ("", {**WEB_VARIABLES, WEB_FILE: "{home}/no/file"}, "no.file"),
    **{f"a token file, {bad}": ("", {**WEB_VARIABLES, WEB_FILE: f"{{home}}/{bad}"}, bad)
       for bad in BAD_TOKENS},
    **{f"a container's file, {bad}": ("", {TOKEN_FILE: f"{{home}}/{bad}"}, bad) for bad in BAD_TOKENS},
    "SSO without its section": ("sso_session = no\n" + SSO_ROLE, {}, "'x'.*sso-session no"),
    "SSO without a start URL": ("sso_session = bare\n" + SSO_ROLE, {}, "'x'.*lacks sso_start_url$"),
    "SSO without a region": (f"sso_start_url = {START_URL}\n" + SSO_ROLE, {}, "lacks sso_region$"),
    "SSO without a role": ("sso_session = corp", {}, "lacks sso_account_id, sso_role_name$"),
    "SSO without a login": ("sso_session = nobody\n" + SSO_ROLE, {}, f"no valid SSO token.*{LOGIN}"),
    **{f"SSO, {bad}": (f"sso_session = {bad}\n" + SSO_ROLE, {}, LOGIN) for bad in BAD_CACHES},
    "no such program": ("credential_process = /no/such/program", {}, "cannot be run.*no/such/program"),
    "a quote that does not end": ("credential_process = program 'hunter2", {}, "cannot be run"),
    **{f"end {text}": ("", {**ENVIRONMENT, "AWS_CREDENTIAL_EXPIRATION": text}, f"'{text}' is not")
       for text in ("soon", "1767326645", "2026-13-02T04:04:05Z", "2099-11-29T03:15:00,1Z")},
    "over": ("", {**ENVIRONMENT, "AWS_CREDENTIAL_EXPIRATION": "2026-01-02T03:04:05Z"}, "have expired"),
    **{str(variables): ("", variables, "AWS_CONTAINER_") for variables in BAD_CONTAINERS},
    **{f"STS's region {region!r}": (PROFILE["role"].lines, {"AWS_REGION": region}, "region")
       for region in BAD_REGIONS},
    **{f"SSO's region {region!r}": (LEGACY.replace("us-east-1", region), {}, "region")
       for region in BAD_REGIONS},
    "IMDS's URL": ("", {**IMDS, ENDPOINT: "http://hunter2:hunter3@h"}, "metadata_service_endpoint"),
    "IMDS's switch": ("", {**IMDS, DISABLED: "perhaps"}, "metadata_disabled"),
    "IMDS's time limit": ("", {**IMDS, "AWS_METADATA_SERVICE_TIMEOUT": "1.5"}, "service_timeout"),
})  # fmt: skip
def test_a_broken_setting_ends_the_search(desk, failing, monkeypatch, lines, variables, says):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for name, content in BAD_TOKENS.items():
        desk.write(name, content)
    for name, changes in BAD_CACHES.items():
        desk.sso_token(name, **changes)
    desk.configure(CHAIN["container"], Setup("", lines, MORE_SECTIONS), **variables)
    error = failing(desk.resolve, says)
    assert str(error) == "{}: {}".format(*error.tried[-1])
    assert desk.transport.requests == []


# --- roles ---------------------------------------------------------------------------------------


def profiles(text):
    """a:b is a profile a with a role and source_profile b, or credential_source =b; a! has keys."""
    sections = []
    for part in text.split():
        name, colon, source = part.rstrip("!").partition(":")
        kind = "credential_source" if source[:1] == "=" else "source_profile"
        role = f"role_arn = {ROLES}{name}\n{kind} = {source.lstrip('=')}" if colon else ""
        sections.append(f"[profile {name}]\n{role}\n{BASE if part.endswith('!') else ''}")
    return "\n".join(sections)


SOURCES = {
    # profiles, of which a is used: (roles asked for, whose keys sign the first request, what
    # profile x is)
    "a:b b!": ("a", "AKIDbase", ""),
    "a:a!": ("a", "AKIDbase", ""),
    "a:b b:c c:d d:e e!": ("d c b a", "AKIDbase", ""),
    "a:b b:b!": ("a", "AKIDbase", ""),
    "a:b b:c! c!": ("a", "AKIDbase", ""),  # the keys of a source, before its role
    "a:b! b!": ("a", "AKIDbase", ""),  # the role of the profile that is used, before its keys
    "a:=Environment": ("a", "AKIDenvironment", ""),
    "a:b b:=Environment": ("b a", "AKIDenvironment", ""),
    "a:=EcsContainer": ("a", "container", ""),
    "a:=Ec2InstanceMetadata": ("a", "imds", ""),
    "a:x ": ("a", "AssumeRoleWithWebIdentity", "web identity of a profile"),
    "a:x  ": ("a", "sso", "SSO"),
    "a:x   ": ("a", "AKIDprocess", "process"),
}


@pytest.mark.parametrize("text, roles, signer, x", [(text, *row) for text, row in SOURCES.items()])
def test_a_role_is_assumed_with_the_credentials_of_its_source(desk, text, roles, signer, x):
    others = [CHAIN["environment"], CHAIN["container"], CHAIN["instance metadata"]]
    desk.configure(*others, *([PROFILE[x]] if x else []), more=profiles(text))
    credentials = desk.resolve("a")
    made = [each for each in desk.services.hand_outs if len(each.role) == len(ROLES) + 1]
    assert " ".join(each.role[len(ROLES) :] for each in made) == roles
    assert desk.origin(made[0].signer) == signer
    given = [each.access_key_id for each in made]
    assert [*(each.signer for each in made[1:]), credentials.access_key_id] == given


@rows("name, line, variables, more", {
    # what is set: (setup, line in the profile, variables, what is sent beside the usual)
    "nothing": ("role", "", {}, {}),
    "external id": ("role", "external_id = a/b+c:d=e@f", {}, {"ExternalId": "a/b+c:d=e@f"}),
    "duration": ("role", "duration_seconds = 901", {}, {"DurationSeconds": "901"}),
    "session": ("role", "role_session_name = me@work", {}, {"RoleSessionName": "me@work"}),
    "MFA": ("role", f"mfa_serial = {SERIAL}", {}, {"SerialNumber": SERIAL, "TokenCode": "123456"}),
    "nothing, web identity": ("web identity", "", {}, {}),
    "its session": ("web identity", "", {"AWS_ROLE_SESSION_NAME": "me"}, {"RoleSessionName": "me"}),
    "in a profile": ("web identity of a profile", "role_session_name = 7a", {}, {"RoleSessionName": "7a"}),
})  # fmt: skip
def test_a_role_is_asked_for_once_with_what_is_set(desk, name, line, variables, more):
    desk.configure(SETUPS[name]._replace(lines=SETUPS[name].lines + line), **variables)
    questions = []
    with desk.client(prompt=lambda text: questions.append(text) or "123456") as client:
        client.invoke_endpoint_async(**CALL)
        client.invoke_endpoint_async(**CALL)
    (made,) = desk.services.hand_outs
    usual = {
        "Action": SETUPS[name].origin,
        "Version": "2011-06-15",
        "RoleArn": ROLES + "path/Work",
    }
    usual |= {} if name == "role" else {"WebIdentityToken": cs.WEB_TOKEN}
    assert made.parameters == {**usual, "RoleSessionName": f"smasync-{NOW:.0f}", **more}
    assert made.signer == ("AKIDbase" if name == "role" else "")
    assert [SERIAL in text for text in questions] == [True] * ("SerialNumber" in more)


@pytest.mark.parametrize("seconds", [600, -600, -7200])  # the last is longer than the role lasts
def test_sts_is_asked_again_by_its_own_time_when_the_clock_here_is_off(desk, seconds):
    desk.configure(PROFILE["role"])
    desk.services.clock = lambda: desk.clock() + seconds
    with desk.client() as client:
        client.invoke_endpoint_async(**CALL)
    dates = [received.header("x-amz-date") for received in desk.services.requests]
    its_time = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(NOW + seconds))
    assert dates == ["20260102T030405Z", its_time, its_time]  # SageMaker accepted the first one


# --- a process -----------------------------------------------------------------------------------


@rows("document, more, says", {
    # what it does: (what it prints, what else it does, what the error says)
    "nothing": ("", "", NO_JSON),
    "half": (json.dumps(PRINTED)[:-1], "", NO_JSON),
    "not an object": (["hunter2"], "", NO_JSON),
    "another version": ({**PRINTED, "Version": 2}, "", NO_JSON),
    "a secret that is a number": ({**PRINTED, "SecretAccessKey": 12}, "", "secret_access_key is missing"),
    "a secret with a line break": (
        {**PRINTED, "SecretAccessKey": "hunter2\nhunter3"}, "", "secret_access_key has a character"),
    "a failure": (PRINTED, "import sys; sys.exit('run corp-login')", "status 1.*: run corp-login"),
})  # fmt: skip
def test_of_a_process_that_fails_stderr_alone_is_quoted(desk, failing, document, more, says):
    desk.configure(PROFILE["process"])
    desk.printing(document, more)
    failing(desk.resolve, "credential_process of profile 'x'", says)


def test_a_process_gets_its_words_without_a_shell_the_environment_and_not_our_input(desk):
    seen = "[*sys.argv[1:], sys.stdin.read(), os.environ['AWS_PROFILE']]"
    more = f"import json, os, sys\njson.dump({seen}, open(home + '/seen', 'w'))\n"
    desk.printing({**PRINTED, "Expiration": None}, more)
    words = ["a b", "x;touch", "$HOME", "`id`", "&&", "|", ">", "*", "~", "é"]
    quoted = " ".join(f'"{word}"' for word in words)
    desk.configure(Setup("", f"credential_process = {{process}} {quoted}"))
    command = [sys.executable, "-c", "import smasync; smasync.resolve_credentials()"]
    environ = {**desk.environ, "LC_ALL": "C.UTF-8"}  # which CPython chooses by itself
    there = Path(smasync.__file__).parent
    subprocess.run(command, cwd=there, env=environ, input=b"hush", timeout=60, check=True)
    assert json.loads((desk.home / "seen").read_text()) == [*words, "", "x"]


def test_a_process_that_does_not_end_is_ended_with_the_call_or_after_a_minute(desk):
    assert smasync.PROCESS_TIMEOUT_SECONDS == 60
    desk.configure(PROFILE["process"])
    desk.printing(PRINTED, "import time; time.sleep(600)")
    with desk.client() as client, pytest.raises(TransportError) as raised:
        client.invoke_endpoint_async(**CALL, timeout=0.4)
    assert raised.value.kind == "timeout"
    assert re.search("credential_process.*killed after 0 s", str(raised.value))


# --- where and how services are asked ------------------------------------------------------------

ECS, METADATA = "http://169.254.170.2", "/latest/api/token"
PORTAL = "/federation/credentials?role_name=Read%20%26%20write%2F%C3%A9&account_id=123456789012"
POD_URIS = f"""
{POD_URL} http://[fd00:ec2::23]/v1/credentials {ECS}/container https://example.com/container
http://127.0.0.1:9911/container?y=z http://localhost:9911/container http://[::1]:9911/container
""".split()
DEV = "[services dev]\nsts =\n  endpoint_url = http://h:1\nsso =\n  endpoint_url = http://h:2\n"
FIPS, STS_URL = {"AWS_USE_FIPS_ENDPOINT": "true"}, {"AWS_ENDPOINT_URL_STS": "http://h:3"}
IN_CODE = {"use_fips_endpoint": True, "use_dualstack_endpoint": True}


@rows("name, line, variables, arguments, url", {
    # what is set: (setup, a line of its profile, variables, arguments, the first URL)
    **{f"container {uri}": ("container", "", {FULL: uri}, {}, uri) for uri in POD_URIS},
    "container, relative": ("container", "", {RELATIVE: "/container/hush"}, {}, f"{ECS}/container/hush"),
    "IMDS": ("instance metadata", "", {}, {}, f"http://169.254.169.254{METADATA}"),
    "IMDS, URL": ("instance metadata", "", {ENDPOINT: "http://h:9/"}, {}, f"http://h:9{METADATA}"),
    "STS": ("role", "", {}, {}, "https://sts.eu-west-1.amazonaws.com/"),
    "STS, FIPS": ("role", "", FIPS, {}, "https://sts-fips.eu-west-1.amazonaws.com/"),
    "STS, in code": ("role", "", {}, IN_CODE, "https://sts-fips.eu-west-1.api.aws/"),
    "STS, variable": ("role", "services = dev\n", STS_URL, {}, "http://h:3/"),
    "STS, services": ("role", "services = dev\n", {}, {}, "http://h:1/"),
    "STS, region in code": ("role", "", {}, {"region_name": "cn-north-1"}, "https://sts.cn-north-1.amazonaws.com.cn/"),
    "STS is not SageMaker": ("role", "", {}, {"endpoint_url": "http://h"}, "https://sts.eu-west-1.amazonaws.com/"),
    "SSO": ("SSO", "", {}, {}, f"https://portal.sso.us-east-1.amazonaws.com{PORTAL}"),
    "SSO, in code": ("legacy SSO", "", {}, IN_CODE, f"https://portal.sso-fips.us-east-1.api.aws{PORTAL}"),
    "SSO, services": ("SSO", "services = dev\n", STS_URL, {}, f"http://h:2{PORTAL}"),
})  # fmt: skip
def test_each_service_is_asked_at_its_address(desk, caplog, name, line, variables, arguments, url):
    setup = SETUPS[name]
    setup = setup._replace(lines=setup.lines and setup.lines + line)
    desk.configure(setup, more=DEV, AWS_REGION="eu-west-1", **variables)
    limits = {"container": 2, "instance metadata": 1}
    if name not in limits:  # what is far is tried again when it cannot be reached
        desk.transport.failures = [TransportError("no route", kind="connect", sent=False)]
    with caplog.at_level("DEBUG", "smasync"), desk.client(**arguments) as client:
        assert desk.origin(signed(client)[0]) == setup.origin
    region = arguments.get("region_name", "eu-west-1") if name == "role" else ""
    assert desk.services.hand_outs[0].region == region
    assert desk.transport.requests[0].url == url
    assert len({urlsplit(request.url).netloc for request in desk.transport.requests}) == 1
    assert set(desk.transport.timeouts) == {limits.get(name, 20)}
    assert name != "container" or dict(desk.transport.requests[0].headers)["Accept"]
    assert not HIDDEN.search(caplog.text)  # nor the secret path that ECS has


@pytest.mark.parametrize("switch, count", [("False", 2), ("True", 0)])
def test_an_instance_without_a_role_or_imds_has_no_credentials(desk, failing, switch, count):
    desk.configure(CHAIN["instance metadata"], **{DISABLED: switch})
    desk.services.imds_role = None
    failing(desk.resolve, "no credentials found.*instance metadata: AWS_EC2_METADATA_DISABLED")
    assert len(desk.transport.requests) == count


@pytest.mark.parametrize("name", ["instance metadata", "container"])
@rows("sent, limits, imds, container", {
    # what happens: (how the connection fails, what is set; the time limits of IMDS, of a container)
    "silence": (True, {}, [1] * 3, [2] * 3),
    "silence, less set": (True, ("1", "2"), [1] * 3, [2] * 3),
    "silence, more set": (True, ("5", "4"), [5] * 4, [5] * 4),
    "no connection": (False, ("5", "4"), [5], [5]),
})  # fmt: skip
def test_what_is_near_is_asked_shortly(desk, failing, name, sent, limits, imds, container):
    names = ("AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS")
    desk.configure(CHAIN[name], **dict(zip(names, limits)))
    desk.transport.failures = [TransportError("silent", kind="timeout", sent=sent)] * 9
    is_absent = name == "instance metadata" and not sent
    says = "no credentials found.*nothing is at 169.254" if is_absent else f"{name}: .*silent"
    failing(lambda: signed(desk.client()), says)
    assert desk.transport.timeouts == (container if name == "container" else imds)


@pytest.mark.parametrize("variables", [WEB_VARIABLES, POD_VARIABLES], ids=["web", "container"])
def test_a_token_file_is_read_for_each_request_without_the_line_break_at_its_end(desk, variables):
    desk.configure(**variables)
    with desk.client() as client:
        for token, end in (("hush-one", ""), ("hush-two", "\n"), ("hush-three", "\r\n")):
            desk.write("web-token", token + end)
            desk.services.container_authorization = token
            desk.services.web_tokens = {token}
            signed(client)
            desk.clock.now += 3600
    assert len(desk.services.hand_outs) == 3


@pytest.mark.parametrize("name", ["container", "instance metadata"])
def test_what_is_on_this_machine_is_asked_without_a_proxy_and_the_connection_is_closed(desk, name):
    with emu.Emulator() as proxy:
        desk.configure(CHAIN[name], HTTP_PROXY=proxy.url, http_proxy=proxy.url)
        here = {"container": (FULL, "/container"), "instance metadata": (ENDPOINT, "")}[name]
        desk.environ.update({here[0]: desk.services.url + here[1], TOKEN: ""})
        desk.services.container_authorization = None
        assert desk.origin(desk.resolve(transport=None).access_key_id) == CHAIN[name].origin
        assert proxy.requests == []
    let_go()
    wait_until(lambda: desk.services.open_connections == 0)


# --- services that fail --------------------------------------------------------------------------


def replaced(name, text, service):
    """The good answer with another text for one member, or without it."""
    if service == "sts":
        pattern, new = f"<({name})>.*?</{name}>", text and f"<\\1>{text}</\\1>"
    else:
        pattern, new = rf'(?i)"({name})": ("[^"]*"|[0-9]+)', text and f'"\\1": "{text}"'
    return cs.edited(pattern.encode(), (new or '"Other": ""').encode())


GARBAGE = b'{"SecretAccessKey": "hunter2", <SecretAccessKey>hunter3'
FAULTS = {
    # what happens to any service: (the fault, how many requests it takes)
    "403 that repeats all that was sent": (cs.echo(), 1),
    "500 for ever": (emu.status(500, "InternalFailure"), 3),
    "garbage": (cs.text(GARBAGE), 1),
    "garbage with 403": (cs.text(GARBAGE, 403), 1),
    "a login page": (emu.login_page(), 1),
    "SSO's frame around nothing": (cs.text(b'{"roleCredentials": []}'), 1),
    "3 MiB": (emu.huge_body(3 << 20), 3),
    "JSON 10,000 deep": (cs.text(b'{"AccessKeyId":' * 10_000), 1),
    "not HTTP": (emu.garbage(), 3),
    "a redirect": (emu.redirect("http://127.0.0.1:9/"), 1),
    "a body cut short": (emu.truncate(30), 3),
}
MEMBERS = {
    # what is wrong with an answer: (a member's name in JSON and XML, what stands in its place)
    "no key id": ("AccessKeyId", ""),
    "a secret beyond ASCII": ("SecretAccessKey", "hunter2é"),
    "a token with a space": ("(?:Session)?Token", "hunter2 hunter3"),
    "an end that is no date": ("Expiration", "soon"),
    "an end that has been": ("Expiration", "2026-01-02T03:04:05Z"),
}
UNASSUMED = cs.text(b'{"Code": "AssumeRoleUnauthorizedAccess"}')
SERVICES = {"role": "sts", "SSO": "sso", "container": "container", "instance metadata": "imds"}


@rows("name, service, chosen, count, says", {
    # (setup, the service that fails, how, how many requests that takes, what the error says)
    **{f"{name}: {what}": (name, service, *row, "")
       for name, service in SERVICES.items() for what, row in FAULTS.items()},
    **{f"{name}: {what}": (name, service, replaced(*row, service), 1, "")
       for name, service in SERVICES.items() for what, row in MEMBERS.items()},
    "STS": ("role", "sts", emu.status(403, "AccessDenied", "not you"), 1, "AccessDenied.*not you$"),
    "SSO": ("SSO", "sso", emu.status(403, "ForbiddenException", "not you"), 1, "not you$"),
    "SSO's token": ("SSO", "sso", emu.status(401, "UnauthorizedException"), 1, LOGIN),
    **{f"IMDS: {what}": ("instance metadata", service, chosen, 1, what) for what, service, chosen in [
        ("403.*is IMDS disabled", "imds token", emu.status(403)),
        ("404.*without version 2", "imds token", emu.status(404)),
        ("400.*IMDSv2 token operation", "imds token", emu.status(400)),
        ("IMDS's token has a character", "imds token", cs.text(b"hunter2 3")),
        ("401.*IMDS role", "imds role", emu.status(401)),
        ("'AssumeRoleUnauthorizedAccess'", "imds", UNASSUMED),
    ]},
})  # fmt: skip
def test_a_service_that_fails_ends_the_search(desk, failing, name, service, chosen, count, says):
    desk.configure(SETUPS[name], CHAIN["instance metadata"])
    desk.services.fail_always(service, chosen)
    error = failing(lambda: signed(desk.client()), says)
    assert error.tried[-1][0] == (name if name in CHAIN else "profile")
    assert len(desk.services.requests_to(service)) == count
    assert desk.asked() == {service.split()[0]}


@pytest.mark.parametrize("name", SERVICES)
@rows("chosen", {"503": emu.status(503), "429": emu.status(429), "reset": emu.reset_after()})
def test_a_failure_that_passes_by_itself_is_tried_again(desk, name, chosen):
    desk.configure(SETUPS[name])
    desk.services.fail_next(SERVICES[name], chosen, chosen)
    assert desk.origin(signed(desk.client())[0]) == SETUPS[name].origin
    assert len(desk.services.requests_to(SERVICES[name])) == 3


# --- renewal -------------------------------------------------------------------------------------


class Loader:
    """A function that gives the credentials of each load in turn, or raises; the last for ever.

    Each load takes some `seconds`, or until it is let go, so that other threads may come in.
    """

    def __init__(self, *answers):
        self.answers, self.seconds, self.calls = answers, 0.0, 0
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self):
        self.calls += 1
        answer = self.answers[min(self.calls, len(self.answers)) - 1]
        if self.seconds:
            self.entered.set()
            self.go.wait(self.seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer


ACCEPTED = smasync.Response(202, (("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out"),), b"")
EXPIRED = smasync.Response(400, (("x-amzn-errortype", "ExpiredTokenException"),), b"{}")


def until(name, minutes=60.0):
    """Credentials that end so many minutes from NOW."""
    return Credentials(f"AKID{name}", "hush", "hush", NOW + minutes * 60 if minutes else None)


def renewing(load, transport=lambda request, **_: ACCEPTED, **options):
    """A client of these credentials, and its clock."""
    options.update(environ={}, credentials=load, transport=transport, clock=Clock())
    return RuntimeClient("us-east-1", sleep=lambda _: None, **options), options["clock"]


@pytest.mark.parametrize(
    "left, expected", [(901, "one"), (900, "two"), (600, "two"), (-300, "two"), (None, "one")]
)
def test_credentials_are_loaded_when_needed_and_15_minutes_before_they_end(left, expected):
    load = Loader(until("one", left and 60), until("two", 600))
    client, clock = renewing(load)
    assert load.calls == 0
    assert [signed(client)[0] for _ in range(2)] == ["AKIDone"] * 2
    clock.now += 3600 - (left or -1e9)
    assert [signed(client)[0] for _ in range(3)] == [f"AKID{expected}"] * 3
    assert load.calls == (1 if expected == "one" else 2)


@pytest.mark.parametrize("kind", [CredentialsError, OSError])
@pytest.mark.parametrize("left", [601, 600, -60])
def test_a_failure_is_tolerated_until_10_minutes_before_the_end_and_tried_again(kind, left):
    failure = kind("try later")
    load = Loader(failure, until("one"), failure, failure, until("two", 600))
    client, clock = renewing(load)
    with pytest.raises(kind, match="try later"):
        client.invoke_endpoint_async(**CALL)
    assert signed(client)[0] == "AKIDone"
    clock.now += 3600 - left
    for _ in range(2):
        if left > 600:
            assert signed(client)[0] == "AKIDone"
        else:
            with pytest.raises(kind, match="try later"):
                client.invoke_endpoint_async(**CALL)
    assert (signed(client)[0], load.calls) == ("AKIDtwo", 5)


def test_a_function_that_returns_none_is_an_error_that_says_so():
    with pytest.raises(CredentialsError, match="NoneType instead of Credentials"):
        signed(renewing(lambda: None)[0])


def at_once(function, threads=16):
    """What the function returns in each of so many threads that start together."""
    barrier = threading.Barrier(threads)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda _: barrier.wait(SECONDS) * 0 or function(), range(threads)))


@pytest.mark.parametrize("why", ["they end", "the service refuses them"])
def test_one_of_16_threads_renews_and_all_use_that(why):
    refused, signers = set(), []

    def transport(request, **_):
        signers.append(signature_of(request)[0])
        return EXPIRED if signers[-1] in refused else ACCEPTED

    load = Loader(until("one"), until("two", 600), until("three", 600))
    load.seconds = 0.1
    client, clock = renewing(load, transport)
    at_once(lambda: client.invoke_endpoint_async(**CALL))
    assert (set(signers), load.calls) == ({"AKIDone"}, 1)
    if why == "they end":
        clock.now += 3600 - 600
    else:
        refused.add("AKIDone")
    at_once(lambda: client.invoke_endpoint_async(**CALL))
    assert (signers.count("AKIDtwo"), load.calls) == (16, 2)


@pytest.mark.parametrize("left", [900, 600])
def test_while_one_thread_renews_others_wait_in_the_last_10_minutes_no_longer_than_they_may(left):
    load = Loader(until("one"), until("two", 600))
    client, clock = renewing(load)
    assert signed(client)[0] == "AKIDone"
    load.seconds, clock.now = SECONDS, clock.now + 3600 - left
    with ThreadPoolExecutor(1) as pool:
        renews, started = pool.submit(signed, client), time.monotonic()
        assert load.entered.wait(SECONDS)
        if left > 600:
            assert at_once(lambda: signed(client)[0]) == ["AKIDone"] * 16
        else:
            with pytest.raises(TransportError, match="another thread loads") as raised:
                client.invoke_endpoint_async(**CALL, timeout=0.2)
            assert (raised.value.kind, raised.value.sent) == ("timeout", False)
            assert 0.15 < time.monotonic() - started < 5
        assert not renews.done()
        load.go.set()
    assert (signed(client)[0], load.calls) == ("AKIDtwo", 2)


def test_the_files_are_read_again_when_the_service_calls_their_token_expired(desk):
    signers = []

    def transport(request, **_):
        signers.append(signature_of(request)[0])
        desk.configure(more=key_lines("new"))
        return EXPIRED if len(signers) == 1 else ACCEPTED

    desk.configure(more=key_lines("old"))
    desk.client(profile_name="x", transport=transport).invoke_endpoint_async(**CALL)
    assert signers == ["AKIDold", "AKIDnew"]


def test_the_source_of_a_role_is_asked_again_with_its_role(desk):
    desk.configure(PROFILE["SSO"], more=profiles("a:x"))
    with desk.client(profile_name="a") as client:
        for _ in range(3):
            client.invoke_endpoint_async(**CALL)
            desk.clock.now += 3600
    assert [made.service for made in desk.services.hand_outs] == ["sso", "sts"] * 3


def test_nothing_is_sent_after_the_time_limit_that_loading_used_up():
    now, sent = [0.0], []
    load = lambda: now.append(2.0) or until("slow")  # noqa: E731
    client, _ = renewing(load, sent.append, monotonic=lambda: now[-1])
    with pytest.raises(TransportError) as raised:
        client.invoke_endpoint_async(**CALL, timeout=0.5)
    assert (raised.value.kind, raised.value.sent, sent) == ("timeout", False, [])


@pytest.mark.parametrize("name", ["container", "process"])
def test_a_call_s_time_limit_holds_over_loading(desk, failing, name):
    arguments = " --password hunter2" if name == "process" else ""
    desk.configure(SETUPS[name]._replace(lines=SETUPS[name].lines.strip() + arguments))
    desk.printing(PRINTED, "import time; time.sleep(30)")
    desk.services.fail_always("container", emu.stall(30))
    started, client = time.monotonic(), desk.client()
    limited = {**CALL, "timeout": 0.3}
    error = failing(lambda: client.invoke_endpoint_async(**limited), name, error=TransportError)
    assert 0.25 < time.monotonic() - started < 5
    assert (error.kind, error.sent) == ("timeout", False)


def test_a_time_limit_that_ends_between_two_answers_of_imds_is_no_missing_role():
    def transport(request, *, timeout):
        now[0] += 1
        return smasync.Response(200, (), b"token")

    now = [0.0]
    options = {"environ": {}, "transport": transport, "monotonic": lambda: now[0]}
    with pytest.raises(TransportError) as raised:
        RuntimeClient("us-east-1", **options).invoke_endpoint_async(**CALL, timeout=0.5)
    assert (raised.value.kind, raised.value.sent) == ("timeout", False)


def test_to_renew_ahead_of_time_takes_half_of_a_call_s_time_limit_at_most(desk):
    desk.configure(CHAIN["container"])
    with desk.client() as client:
        client.invoke_endpoint_async(**CALL)
        desk.clock.now += 3600 - 900
        desk.services.fail_always("container", emu.stall(30))
        client.invoke_endpoint_async(**CALL, timeout=1)
    assert len(desk.services.ledger) == 2 and len(desk.services.hand_outs) == 1
