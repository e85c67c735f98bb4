"""Credentials: every provider of them, against services that hand them out and misbehave."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import credential_services as cs
import emulator as emu
import pytest
from credential_services import CredentialServices
from emulator import Account, Emulator

import smasync
from smasync import (
    Client,
    ConfigurationError,
    Credentials,
    CredentialsError,
    Response,
    TransportError,
    resolve_credentials,
)

CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
MODULE = Path(smasync.__file__).resolve()
ACCOUNT, ROLES = cs.ACCOUNT_ID, f"arn:aws:iam::{cs.ACCOUNT_ID}:role/"
ROLE = ROLES + "path/Work"
START_URL = "https://corp.awsapps.com/start"
BROKEN = (CredentialsError, ConfigurationError)
# what may stand in no message, repr or log line; it is in every secret and token of these tests
HIDDEN = re.compile(f"hush|hunter|{cs.SECRET_MARK}|emulated[A-Z]*TOKEN")
TOKEN, TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
RELATIVE, FULL = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"
ENDPOINT, MODE = "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
DISABLED, STS_AND_SSO = (
    "AWS_EC2_METADATA_DISABLED",
    ("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_SSO"),
)


def rows(names, table):
    """A case of the test for each row of a table, under the row's name."""
    return pytest.mark.parametrize(names, table.values(), ids=map(str, table))


def secret_of(name):
    return f"hush/{name}+".ljust(40, "0")


def key_lines(name):
    return f"aws_access_key_id = AKID{name}\naws_secret_access_key = {secret_of(name)}\n"


def key_variables(name):
    return {"AWS_ACCESS_KEY_ID": f"AKID{name}", "AWS_SECRET_ACCESS_KEY": secret_of(name)}


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.steps = [NOW]

    def __call__(self):
        return sum(self.steps)

    def advance(self, seconds):
        self.steps.append(seconds)  # which is safe in many threads


class Setup(NamedTuple):
    """What configures one provider; its texts are templates that Desk fills in."""

    origin: str  # what `Desk.origin` says of its credentials
    lines: str = ""  # in profile x
    sections: str = ""  # more of the config file
    variables: dict = {}  # noqa: RUF012
    service: str = ""  # which one is asked, a row of credential_services.PATHS
    named: str = ""  # a pattern for what its errors call it


SSO_ROLE = f"sso_account_id = {ACCOUNT}\nsso_role_name = Reader\n"
SSO_SESSION = f"[sso-session corp]\nsso_region = us-east-1\nsso_start_url = {START_URL}\n"
CHAIN = {
    # in the order in which they are asked
    "environment": Setup("AKIDenvironment", variables=key_variables("environment")),
    "web identity": Setup(
        "AssumeRoleWithWebIdentity", service="sts", named="web identity",
        variables={"AWS_WEB_IDENTITY_TOKEN_FILE": "{home}/web-token", "AWS_ROLE_ARN": ROLE},
    ),
    "profile": Setup("AKIDstatic", key_lines("static")),
    "container": Setup(
        "container", service="container", named="container", variables={FULL: "{url}/container"}
    ),
    "instance metadata": Setup(
        "imds", service="imds", named="IMDS|metadata", variables={ENDPOINT: "{url}", DISABLED: ""}
    ),
}  # fmt: skip
PROFILE = {
    # in the order in which they count
    "role": Setup(
        "AssumeRole", f"role_arn = {ROLE}\nsource_profile = base\n",
        "[profile base]\n" + key_lines("base"), service="sts", named="profile 'x'",
    ),
    "web identity": Setup(
        "AssumeRoleWithWebIdentity",
        f"role_arn = {ROLE}\nweb_identity_token_file = {{home}}/web-token\n",
        service="sts", named="profile 'x'",
    ),
    "SSO": Setup(
        "sso", "sso_session = corp\n" + SSO_ROLE, SSO_SESSION, service="sso", named="profile 'x'"
    ),
    "static keys": Setup("AKIDstatic", key_lines("static")),
    "process": Setup("AKIDprocess", "credential_process = {process}\n"),
}  # fmt: skip
LEGACY_SSO = PROFILE["SSO"]._replace(
    lines=f"sso_start_url = {START_URL}\nsso_region = us-east-1\n" + SSO_ROLE, sections=""
)
SETUPS = {
    **{name: setup for name, setup in CHAIN.items() if name != "profile"},
    **{f"profile: {name}": setup for name, setup in PROFILE.items()},
    "profile: legacy SSO": LEGACY_SSO,
}
REMOTE = {name: setup for name, setup in SETUPS.items() if setup.service}
ROTATED = ("web identity", "container", "instance metadata", "profile: role", "profile: SSO")
PAIR = {"Version": 1, "AccessKeyId": "AKIDprocess", "SecretAccessKey": secret_of("process")}


class Desk:
    """A home directory with everything that providers read, and the services that they ask.

    Without services its tests play them with a transport.
    """

    def __init__(self, home, services=None, clock=None):
        self.home, self.services, self.clock = home, services, clock or Clock()
        self.write("web-token", cs.WEB_TOKEN + "\n")
        self.write("credentials.json", json.dumps(PAIR))
        self.write("process.py", "print(open(__file__[:-10] + 'credentials.json').read())\n")
        for name in ("corp", START_URL):
            self.sso_token(name)
        self.environ = {"HOME": str(home), "AWS_REGION": "us-east-1", DISABLED: "true"}
        if services:
            self.environ |= dict.fromkeys(STS_AND_SSO, services.url)

    def write(self, name, content):
        """The path of a file in the home directory that now has this text, or these bytes."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path.as_posix()

    def filled(self, template):
        process = " ".join(f'"{Path(part).as_posix()}"' for part in (sys.executable, self.script))
        url = self.services.url if self.services else "http://127.0.0.1:9"
        values = {"home": self.home.as_posix(), "url": url, "process": process}
        return re.sub("{(home|url|process)}", lambda match: values[match[1]], template)

    @property
    def script(self):
        return self.home / "process.py"

    def config(self, text):
        self.write(".aws/config", self.filled(text))

    def sso_cache(self, name):
        digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        return self.home / ".aws" / "sso" / "cache" / f"{digest}.json"

    def sso_token(self, name, seconds=3600, **changes):
        """Leaves a token that lives so long where the AWS CLI would."""
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW + seconds))
        document = {"accessToken": cs.SSO_TOKEN, "expiresAt": end, "startUrl": START_URL}
        self.write(self.sso_cache(name), json.dumps({**document, **changes}))

    def configure(self, *setups, **variables):
        """Profile x and the environment of all these setups together."""
        lines = dict.fromkeys(line for setup in setups for line in setup.lines.splitlines())
        self.config("\n".join(["[profile x]", *lines, *(setup.sections for setup in setups)]))
        for given_variables in (*(setup.variables for setup in setups), variables):
            for name, text in given_variables.items():
                self.environ[name] = self.filled(text)
        if any(setup.lines for setup in setups):
            self.environ["AWS_PROFILE"] = "x"

    def extend(self, *links):
        """Adds profiles, as `chain_of` has them, to the config file."""
        self.config("\n".join([(self.home / ".aws/config").read_text(), *chain_of(*links)]))

    def resolve(self, profile_name=None, transport=None, **options):
        return resolve_credentials(
            profile_name, environ=self.environ, clock=self.clock, transport=transport, **options
        )

    def client(self, **options):
        """A client of the emulated SageMaker that does not sleep."""
        defaults = {"endpoint_url": self.services.url if self.services else None}
        defaults.update(environ=self.environ, clock=self.clock, sleep=lambda seconds: None)
        return Client("us-east-1", **{**defaults, **options})

    def origin(self, key_id):
        """The STS action or the service that handed out a key, else the key id itself."""
        made = [made for made in self.services.hand_outs if made.access_key_id == key_id]
        return made[0].parameters.get("Action", made[0].service) if made else key_id

    def resolved_origin(self, *arguments):
        return self.origin(self.resolve(*arguments).access_key_id)

    def asked(self):
        """The services that were sent anything."""
        return {service.split()[0] for service in cs.PATHS if self.services.requests_to(service)}


@pytest.fixture
def desk(tmp_path):
    clock, names = Clock(), ("environment", "static", "base", "process")
    accounts = {f"AKID{name}": Account(secret_of(name)) for name in names}
    with CredentialServices(clock=clock, accounts=accounts) as services:
        yield Desk(tmp_path / "home of a user", services, clock)


@pytest.fixture
def paper(tmp_path):
    """A Desk without services."""
    return Desk(tmp_path)


def key_id(client):
    """What the client signs with."""
    authorization = dict(client.explain(**CALL).request.headers)["Authorization"]
    return authorization.partition("Credential=")[2].partition("/")[0]


# --- failures, and what they may not say ---------------------------------------------------------


def all_of(error):
    """Every text of an error, of its causes, and of their tracebacks."""
    yield "".join(traceback.format_exception(type(error), error, error.__traceback__))
    while error is not None:
        yield f"{error}\n{error!r}\n{error.args}\n{getattr(error, 'tried', ())}"
        error = error.__cause__ or error.__context__


@pytest.fixture
def failing(caplog):
    """A function that returns the error that another function raises.

    It asserts that neither the error nor the debug log has anything secret.
    """

    def check(ask, *patterns, error=CredentialsError):
        with caplog.at_level(logging.DEBUG, "smasync"), pytest.raises(error) as raised:
            ask()
        for text in (*all_of(raised.value), caplog.text):
            assert not HIDDEN.search(text), text
        for pattern in patterns:
            assert re.search(pattern, str(raised.value), re.DOTALL), (pattern, str(raised.value))
        if isinstance(raised.value, CredentialsError):
            tried = raised.value.tried
            assert tried and all(isinstance(part, str) and part for pair in tried for part in pair)
            assert tried[-1][1] in str(raised.value)
        return raised.value

    return check


# --- which provider wins -------------------------------------------------------------------------


def subsets(setups):
    counts = range(1, len(setups) + 1)
    return [names for count in counts for names in itertools.combinations(setups, count)]


@pytest.mark.parametrize("names", subsets(CHAIN), ids=", ".join)
def test_of_all_that_are_configured_the_first_in_the_chain_wins_and_no_other_is_asked(desk, names):
    desk.configure(*(CHAIN[name] for name in names))
    first = CHAIN[names[0]]
    assert desk.resolved_origin() == first.origin
    assert desk.asked() == {first.service} - {""}


@pytest.mark.parametrize("names", subsets(PROFILE), ids=", ".join)
def test_within_a_profile_the_first_wins_and_no_other_and_no_follower_is_asked(desk, names):
    desk.write("process.py", f"open({str(desk.home / 'ran')!r}, 'w')\n{desk.script.read_text()}")
    followers = CHAIN["container"], CHAIN["instance metadata"]
    desk.configure(*(PROFILE[name] for name in names), *followers)
    first = PROFILE[names[0]]
    assert desk.resolved_origin() == first.origin
    assert (desk.home / "ran").exists() == (names == ("process",))
    assert desk.asked() == {first.service} - {""}


@pytest.mark.parametrize("name", ["environment", "web identity"])
def test_a_profile_named_in_code_skips_the_environment(desk, name):
    desk.configure(CHAIN[name], CHAIN["profile"])
    assert desk.resolved_origin() == CHAIN[name].origin
    assert desk.resolved_origin("x") == "AKIDstatic"
    desk.config("[profile x]\nregion = us-east-1\n")
    with pytest.raises(CredentialsError):  # and it does not lead back there
        desk.resolve("x")


@pytest.mark.parametrize("name", SETUPS)
def test_what_each_provider_gives_signs_a_call_and_nothing_secret_is_shown(desk, caplog, name):
    desk.configure(SETUPS[name], AWS_ACCOUNT_ID=ACCOUNT)
    with caplog.at_level(logging.DEBUG, "smasync"), desk.client() as client:
        client.invoke_endpoint_async(**CALL)
        credentials = desk.resolve()
    assert desk.services.ledger
    assert client.sources["credentials"] == name.partition(":")[0]
    assert credentials.expires_at == (NOW + 3600 if SETUPS[name].service else None)
    assert credentials.account_id == ACCOUNT or name not in ("environment", "container")
    assert not HIDDEN.search(caplog.text)
    assert not HIDDEN.search(f"{credentials!r} {credentials} {client!r} {client.sources}")
    end = time.monotonic() + 5
    while desk.services.open_connections and time.monotonic() < end:
        time.sleep(0.01)
    assert desk.services.open_connections == 0


# --- when credentials end, in words --------------------------------------------------------------

LATER = datetime(2099, 11, 29, 3, 15, tzinfo=timezone.utc).timestamp()
SAME_TIME = [
    "2099-11-29 03:15:00+00:00", "2099-11-29T03:15:00Z", "2099-11-29t03:15:00z",
    "2099-11-29T03:15:00+0000", "2099-11-29T04:15:00+01:00", "2099-11-28T22:45:00-04:30",
    "2099-11-29T03:15:00.5Z", "2099-11-29T03:15:00.123456789+00:00", "2099-11-29T03:15:00UTC",
]  # fmt: skip
NO_TIME = ["soon", "1767326645", "2026-13-02T04:04:05Z", "2026-01-02\n", "2099-11-29T03:15:00+1"]


def ending(desk, source, text):
    """Credentials of the environment or of a process now end so."""
    if source == "environment":
        desk.configure(CHAIN["environment"], AWS_CREDENTIAL_EXPIRATION=text)
    else:
        printing(desk, {**PAIR, "Expiration": text})


@pytest.mark.parametrize("source", ["environment", "process"])
@pytest.mark.parametrize("text", SAME_TIME)
def test_every_usual_way_to_write_the_end_of_credentials_is_understood(paper, source, text):
    ending(paper, source, text)
    assert paper.resolve().expires_at == pytest.approx(LATER, abs=1)


@pytest.mark.parametrize("source", ["environment", "process"])
@pytest.mark.parametrize("text", NO_TIME)
def test_an_end_that_is_no_time_is_an_error(paper, failing, source, text):
    ending(paper, source, text)
    failing(paper.resolve, f"{source}.*expiration")


# --- roles ---------------------------------------------------------------------------------------


def chain_of(*links):
    """`a:b` is a profile a with a role and source_profile b; `a:=X` has credential_source X; `a!`
    has keys of its own."""
    sections = []
    for link in links:
        name, colon, source = link.rstrip("!").partition(":")
        lines = [f"[profile {name}]"]
        if colon:
            kind = "credential_source" if source[:1] == "=" else "source_profile"
            lines += [f"role_arn = {ROLES}{name}", f"{kind} = {source.lstrip('=')}"]
        sections += [*lines, key_lines("base") if link.endswith("!") else ""]
    return sections


SOURCES = {
    # profiles, the first one is used: roles asked for, who signed the first request
    "a profile with keys": (["a:b", "b!"], ["a"], "AKIDbase"),
    "itself": (["a:a!"], ["a"], "AKIDbase"),
    "a role of a role": (["a:b", "b:c", "c!"], ["b", "a"], "AKIDbase"),
    "a role that is its own source": (["a:b", "b:b!"], ["a"], "AKIDbase"),
    "keys beside a role: the keys": (["a:b", "b:c!", "c!"], ["a"], "AKIDbase"),
    "keys beside a role at the start: the role": (["a:b!", "b!"], ["a"], "AKIDbase"),
    "the environment": (["a:=Environment"], ["a"], "AKIDenvironment"),
    "a role from the environment": (["a:b", "b:=Environment"], ["b", "a"], "AKIDenvironment"),
    "the container": (["a:=EcsContainer"], ["a"], "ASIACONTAINER"),
    "the instance": (["a:=Ec2InstanceMetadata"], ["a"], "ASIAIMDS"),
    "30 roles": (
        [*(f"p{i}:p{i + 1}" for i in range(30)), "p30!"], [f"p{i}" for i in range(29, -1, -1)],
        "AKIDbase",
    ),
}  # fmt: skip


@rows("links, roles, signer", SOURCES)
def test_a_role_is_assumed_with_the_credentials_of_its_source(desk, links, roles, signer):
    desk.configure(CHAIN["container"], CHAIN["instance metadata"])
    desk.extend(*links)
    first = links[0].partition(":")[0]
    if signer == "AKIDenvironment":
        desk.environ.update(key_variables("environment"))
        credentials = desk.resolve(first)
    else:
        desk.environ["AWS_PROFILE"] = first
        credentials = desk.resolve()
    made = [each for each in desk.services.hand_outs if each.service == "sts"]
    assert [each.role.rpartition("/")[2] for each in made] == roles
    assert made[0].signer.startswith(signer)
    given = [each.access_key_id for each in made]
    assert [*(each.signer for each in made[1:]), credentials.access_key_id] == given


@pytest.mark.parametrize("name", ["web identity", "SSO", "process"])
def test_the_source_of_a_role_may_be_any_other_kind_of_profile(desk, name):
    desk.configure(PROFILE[name])
    desk.extend("a:x")
    credentials, made = desk.resolve("a"), desk.services.hand_outs[-1]
    assert (made.access_key_id, made.role) == (credentials.access_key_id, f"{ROLES}a")
    assert desk.origin(made.signer) == PROFILE[name].origin


@pytest.mark.parametrize("name", PROFILE)
def test_as_a_source_a_profile_s_own_keys_come_first(desk, name):
    desk.configure(PROFILE[name], PROFILE["static keys"])
    desk.extend("a:x")
    desk.resolve("a")
    assert [made.signer for made in desk.services.hand_outs] == ["AKIDstatic"]


def test_the_three_keys_of_a_source_never_mix_two_files(desk):
    desk.config("\n".join([*chain_of("x:x"), key_lines("base"), "aws_session_token = hush"]))
    desk.write(".aws/credentials", "[x]\n" + key_lines("static"))
    desk.resolve("x")
    assert desk.services.hand_outs[0].signer == "AKIDstatic"
    assert desk.services.requests[0].header("x-amz-security-token") is None


SAID_OF_ROLES = {
    # what is set: setup, line in the profile, parameter of the request
    "external id": ("profile: role", "external_id = a/b+c:d=e@f", ("ExternalId", "a/b+c:d=e@f")),
    "duration": ("profile: role", "duration_seconds = 901", ("DurationSeconds", "901")),
    "session": ("profile: role", "role_session_name = me@work", ("RoleSessionName", "me@work")),
    "of a web identity": ("profile: web identity", "role_session_name = 7a", ("RoleSessionName", "7a")),
    "in the environment": ("web identity", "", ("RoleSessionName", "me")),
}  # fmt: skip


@rows("name, line, parameter", SAID_OF_ROLES)
def test_what_is_set_for_a_role_is_sent(desk, name, line, parameter):
    lines = f"{SETUPS[name].lines}{line}\n" if line else ""
    desk.configure(SETUPS[name]._replace(lines=lines), AWS_ROLE_SESSION_NAME="me")
    credentials = desk.resolve()
    assert parameter in desk.services.hand_outs[0].parameters.items()
    assert credentials.expires_at == NOW + (901 if "duration" in line else 3600)


@pytest.mark.parametrize("name", ["web identity", "profile: role", "profile: web identity"])
def test_a_role_is_asked_for_with_what_is_configured_and_nothing_else(desk, name):
    desk.configure(SETUPS[name])
    desk.resolve()
    parameters = dict(desk.services.hand_outs[0].parameters)
    assert parameters.pop("RoleSessionName").startswith("smasync-")
    assert parameters.pop("WebIdentityToken", cs.WEB_TOKEN) == cs.WEB_TOKEN
    assert parameters == {"Action": SETUPS[name].origin, "Version": "2011-06-15", "RoleArn": ROLE}
    signed = desk.services.requests[0].header("authorization") is not None
    assert signed == (name == "profile: role")
    assert desk.services.hand_outs[0].region == ("us-east-1" if signed else "")


ARN = f"role_arn = {ROLE}\n"
BAD_PROFILES = {
    # what is wrong: lines of profile x, what the error says
    "a role without a source": (ARN, "source_profile"),
    "both kinds of source": (
        ARN + "source_profile = base\ncredential_source = Environment",
        "source_profile.*credential_source",
    ),
    "a source that is not there": (ARN + "source_profile = nobody", "nobody"),
    "a source without credentials": (ARN + "source_profile = empty", "empty"),
    "a source with half a pair": (ARN + "source_profile = half", "half.*no aws_"),
    "itself": (ARN + "source_profile = x", "x -> x"),
    "a loop": (ARN + "source_profile = p-1", "x -> p-1 -> p-2 -> p-3 -> p-1"),
    "a loop further down": (ARN + "source_profile = p-0", "p-0 -> p-1 -> p-2 -> p-3 -> p-1"),
    "an unknown credential source": (
        ARN + "credential_source = Oracle",
        "credential_source.*Environment, Ec2InstanceMetadata, EcsContainer",
    ),
    "a credential source in the wrong case": (ARN + "credential_source = environment", "Environm"),
    "nothing in the environment": (ARN + "credential_source = Environment", "Environment"),
    "no container": (ARN + "credential_source = EcsContainer", "EcsContainer"),
    "no instance": (ARN + "credential_source = Ec2InstanceMetadata", "Ec2InstanceMetadata"),
    "a web identity without a role": ("web_identity_token_file = {home}/web-token", "role_arn"),
    "a web identity without a role, beside keys": (
        "web_identity_token_file = {home}/web-token\n" + key_lines("static"), "role_arn"
    ),
    "a token file that is not there": (
        ARN + "web_identity_token_file = {home}/nothing", "home of a user/nothing"
    ),
    "a token file that is a directory": (
        ARN + "web_identity_token_file = {home}", "home of a user"
    ),
    "SSO without a section": ("sso_session = nobody\n" + SSO_ROLE, "nobody"),
    "SSO without a region": ("sso_session = bare\n" + SSO_ROLE, "sso_region"),
    "SSO without an account": ("sso_session = corp\nsso_role_name = Reader", "sso_account_id"),
    "SSO without a role": (f"sso_session = corp\nsso_account_id = {ACCOUNT}", "sso_role_name"),
    "legacy SSO without a region": (f"sso_start_url = {START_URL}\n" + SSO_ROLE, "sso_region"),
    "a program that is not there": (
        "credential_process = /no/such/program --for me", "credential_process.*/no/such/program"
    ),
    "a quote that does not end": ("credential_process = program 'hunter2", "credential_process"),
    "half a pair": ("aws_access_key_id = AKIDhalf", "no aws_secret_access_key"),
}  # fmt: skip
MORE_SECTIONS = (
    f"[profile base]\n{key_lines('base')}[profile empty]\nregion = us-east-1\n[profile half]\n"
    f"aws_secret_access_key = hunter2\n{SSO_SESSION}"
    f"[sso-session bare]\nsso_start_url = {START_URL}\n"
    + "\n".join(chain_of("p-0:p-1", "p-1:p-2", "p-2:p-3", "p-3:p-1"))
)


@rows("lines, says", BAD_PROFILES)
def test_a_profile_that_is_configured_and_broken_is_an_error_and_not_passed_over(
    desk, failing, lines, says
):
    desk.configure(CHAIN["container"], AWS_PROFILE="x")
    if "EcsContainer" in lines:
        del desk.environ[FULL]
    desk.config(f"[profile x]\n{lines}\n{MORE_SECTIONS}")
    error = failing(desk.resolve, says, "'x'|'half'|x ->")
    assert ".aws/config" in str(error).replace(os.sep, "/")
    assert desk.services.requests == []


REFUSALS = {
    "profile: role": "AccessDenied.*not authorized",
    "web identity": "InvalidIdentityToken",
}


@pytest.mark.parametrize(("name", "says"), REFUSALS.items())
def test_a_role_that_may_not_be_assumed_says_so_in_sts_s_words(desk, failing, name, says):
    desk.configure(SETUPS[name])
    desk.services.demands[ROLE] = {"ExternalId": "other"}
    desk.services.web_tokens.clear()
    failing(desk.resolve, says, SETUPS[name].named)
    assert len(desk.services.requests) == 1


@pytest.mark.parametrize("seconds", [600, -600])
@pytest.mark.parametrize("code", [b"SignatureDoesNotMatch", b"RequestTimeTooSkewed"])
def test_a_role_is_asked_for_again_with_the_service_s_time_when_the_clock_here_is_off(
    desk, seconds, code
):
    desk.configure(PROFILE["role"])
    desk.services.clock = lambda: desk.clock() + seconds
    desk.services.fail_next("sts", cs.edited(b"SignatureDoesNotMatch", code))
    with desk.client() as client:
        answer = client.invoke_endpoint_async(**CALL)
    dates = [received.header("x-amz-date") for received in desk.services.requests]
    service_time = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(NOW + seconds))
    assert dates == ["20260102T030405Z", service_time, service_time]
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0  # SageMaker accepted the first one
    assert [made.service for made in desk.services.hand_outs] == ["sts"]
    desk.services.requests.clear()
    assert desk.resolved_origin() == "AssumeRole"
    assert len(desk.services.requests) == 2


# --- a second factor -----------------------------------------------------------------------------

SERIAL = f"arn:aws:iam::{ACCOUNT}:mfa/me"
WITH_MFA = PROFILE["role"]._replace(lines=f"{PROFILE['role'].lines}mfa_serial = {SERIAL}\n")


def test_a_second_factor_is_asked_for_once_and_sent(desk):
    desk.configure(WITH_MFA)
    questions = []

    def prompt(question):
        questions.append(question)
        return "123456"

    with desk.client(prompt=prompt) as client:
        client.invoke_endpoint_async(**CALL)
        client.invoke_endpoint_async(**CALL)
    parameters = desk.services.hand_outs[0].parameters
    assert (parameters["SerialNumber"], parameters["TokenCode"]) == (SERIAL, "123456")
    assert len(questions) == 1 and SERIAL in questions[0]


ELSEWHERE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import smasync
try:
    print(smasync.resolve_credentials(environ=json.loads(sys.argv[2])).access_key_id)
except smasync.CredentialsError as error:
    print(error)
"""


def elsewhere(desk, program, **options):
    """What another interpreter prints that is given smasync's directory and the environment."""
    command = [sys.executable, "-W", "ignore", "-c", program, str(MODULE.parent)]
    finished = subprocess.run(
        [*command, json.dumps(desk.environ)],
        capture_output=True, text=True, timeout=20, **options,
    )  # fmt: skip
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished.stdout


def test_nobody_to_ask_for_a_second_factor_is_an_error_that_names_it(desk):
    desk.configure(WITH_MFA)
    said = elsewhere(desk, ELSEWHERE, stdin=subprocess.DEVNULL, start_new_session=True)
    assert SERIAL in said
    assert desk.services.requests == []


# --- tokens in files -----------------------------------------------------------------------------

CONTAINER_TOKENS = {
    TOKEN_FILE: "{home}/web-token",
    TOKEN: "Bearer hunter4",
    FULL: "{url}/container",
}
TOKEN_FILES = {
    # whose file it is
    "web identity": CHAIN["web identity"],
    "container": CHAIN["container"]._replace(variables=CONTAINER_TOKENS),
}  # fmt: skip


def endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


NO_TOKENS = {
    "empty": b"",
    "only a line break": b"\r\n",
    "with a line break inside": b"hunter2\r\nX-Injected: hunter3",
    "with NUL": b"hunter2\0hunter3",
    "not UTF-8": b"hunter2\xff\xfehunter3",
    "beyond ASCII": "hunter2é".encode(),
    "of 2 MiB": b"hunter2 " * 262_144,
    "missing": Path.unlink,
    **({"/dev/zero": endless} if os.name == "posix" else {}),
}


@rows("setup", TOKEN_FILES)
@rows("content", NO_TOKENS)
def test_a_file_that_cannot_hold_a_token_is_named_and_nothing_is_sent(
    desk, failing, setup, content
):
    desk.configure(setup, **CHAIN["instance metadata"].variables)
    content(desk.home / "web-token") if callable(content) else desk.write("web-token", content)
    failing(desk.resolve, "web-token")
    assert desk.services.requests == []


@pytest.mark.parametrize("name", ["web identity", "container"])
def test_a_token_file_is_read_again_for_each_request_without_the_line_break_at_its_end(desk, name):
    desk.configure(TOKEN_FILES[name])
    with desk.client() as client:
        for token, end in (("hush-one", ""), ("hush-two", "\n"), ("hush-three", "\r\n")):
            desk.write("web-token", token + end)
            desk.services.container_authorization = token
            desk.services.web_tokens = {token}
            key_id(client)
            desk.clock.advance(3600)
    assert len(desk.services.hand_outs) == 3


def test_a_role_in_the_environment_is_nothing_without_a_token_file_and_the_reverse_is_an_error(
    desk, failing
):
    desk.configure(CHAIN["container"], AWS_ROLE_ARN=ROLE)
    assert desk.resolved_origin() == "container"
    desk.configure(CHAIN["web identity"], CHAIN["container"], AWS_ROLE_ARN="")
    failing(desk.resolve, "AWS_ROLE_ARN")


# --- SSO -----------------------------------------------------------------------------------------

SSO_SETUPS = {"session": (PROFILE["SSO"], "corp"), "legacy": (LEGACY_SSO, START_URL)}


NO_CACHES = {
    # what is wrong: changes of its members, or other contents, or what is done to the file
    "missing": Path.unlink,
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "expired": {"seconds": -1},
    "expired right now": {"seconds": 0},
    "expired, with a good refresh token": {
        "seconds": -1, "refreshToken": "hush", "clientId": "x", "clientSecret": "hush",
        "registrationExpiresAt": "2099-01-01T00:00:00Z", "region": "us-east-1",
    },
    "without a token": {"accessToken": None},
    "without an end": {"expiresAt": None},
    "an end that is no date": {"expiresAt": "soon"},
    "not JSON": b"hunter2",
    "not an object": b'["hunter2"]',
    "10,000 deep": b"[" * 10_000,
    "not UTF-8": b"\xff\xfe",
    "a token that is a number": {"accessToken": 7},
    "a token with a line break": {"accessToken": "hunter2\r\nX-Injected: hunter3"},
    "a token beyond ASCII": {"accessToken": "hunter2é"},
}  # fmt: skip
LOGIN = (
    "aws sso login --profile x.*"
    "credential_process = aws configure export-credentials --format process --profile x"
)


@rows("setup, cache", SSO_SETUPS)
@rows("change", NO_CACHES)
def test_an_sso_token_that_is_over_or_no_good_says_what_to_run_and_sends_nothing(
    desk, failing, setup, cache, change
):
    desk.configure(setup, CHAIN["container"])
    if isinstance(change, dict):
        desk.sso_token(cache, **change)
    elif isinstance(change, bytes):
        desk.write(desk.sso_cache(cache), change)
    else:
        change(desk.sso_cache(cache))
    failing(desk.resolve, LOGIN)
    assert desk.services.requests == []


@rows("setup, cache", SSO_SETUPS)
def test_what_the_portal_refuses_is_an_error_in_its_words_and_an_unknown_token_says_what_to_run(
    desk, failing, setup, cache
):
    desk.configure(setup)
    desk.services.sso_tokens.clear()
    failing(desk.resolve, "UnauthorizedException", LOGIN)
    desk.services.sso_tokens.add(cs.SSO_TOKEN)
    desk.configure(setup._replace(lines=setup.lines.replace("Reader", "Nobody")))
    failing(desk.resolve, "ForbiddenException", "profile 'x'")
    assert len(desk.services.requests) == 2


@rows("setup, cache", SSO_SETUPS)
def test_the_portal_is_asked_with_the_token_without_a_signature_and_the_cache_stays_as_it_is(
    desk, setup, cache
):
    role, path = "Read & write=all/é", desk.sso_cache(cache)
    path.chmod(0o400)
    before = (path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.iterdir()))
    desk.configure(setup._replace(lines=setup.lines.replace("Reader", role)))
    desk.resolve()
    (received,) = desk.services.requests_to("sso")
    assert desk.services.hand_outs[0].parameters == {"role_name": role, "account_id": ACCOUNT}
    assert received.header("x-amz-sso_bearer_token") == cs.SSO_TOKEN
    assert received.header("authorization") is None
    assert before == (path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.iterdir()))


# --- a process -----------------------------------------------------------------------------------


def printing(desk, document, script=""):
    """Makes the process print this; a str as it is."""
    text = document if isinstance(document, str) else json.dumps(document)
    desk.write("credentials.json", text)
    if script:
        desk.write("process.py", script)
    desk.configure(PROFILE["process"])


def without(name):
    return {key: value for key, value in PAIR.items() if key != name}


def test_a_process_gives_a_pair_and_may_say_more_about_it(paper):
    printing(paper, PAIR)
    assert paper.resolve() == Credentials("AKIDprocess", secret_of("process"))
    more = {"SessionToken": "hush", "Expiration": "2026-01-02T04:04:05Z", "AccountId": ACCOUNT}
    printing(paper, {**PAIR, **more, "Comment": "ignored"})
    expected = ("AKIDprocess", secret_of("process"), "hush", NOW + 3600, ACCOUNT)
    assert paper.resolve() == Credentials(*expected)


BAD_OUTPUTS = {
    "nothing": ("", "JSON"),
    "not JSON": ("hunter2", "JSON"),
    "not JSON, with a secret": (json.dumps(PAIR)[:-1], "JSON"),
    "not an object": (["hunter2"], "JSON"),
    "10,000 deep": ('{"Version":' * 10_000, "JSON"),
    "no version": (without("Version"), "Version"),
    "version 2": ({**PAIR, "Version": 2}, "Version"),
    "version as text": ({**PAIR, "Version": "one"}, "Version"),
    "no key id": (without("AccessKeyId"), "no AccessKeyId"),
    "no secret": (without("SecretAccessKey"), "no SecretAccessKey"),
    "a secret that is a number": ({**PAIR, "SecretAccessKey": 12}, "secret"),
    "a secret with a line break": ({**PAIR, "SecretAccessKey": "hunter2\nhunter3"}, "secret"),
    "a secret in quotes": ({**PAIR, "SecretAccessKey": "'hunter2'"}, "quotes"),
    "an end that is a number": ({**PAIR, "Expiration": 5}, "expired"),
    "already expired": ({**PAIR, "Expiration": "2026-01-02T03:04:04Z"}, "expired already"),
}


@rows("document, says", BAD_OUTPUTS)
def test_what_a_process_may_not_print_is_an_error_that_does_not_quote_it(
    paper, failing, document, says
):
    printing(paper, document)
    failing(paper.resolve, says, "profile 'x'")


def test_a_process_that_fails_is_quoted_from_its_error_output_alone(paper, failing):
    script = paper.script.read_text() + "import sys; sys.exit('please run corp-login first')"
    printing(paper, PAIR, script)
    failing(paper.resolve, "please run corp-login first", "credential_process")


def test_a_process_is_no_shell_s_and_is_not_given_our_input(paper):
    script = (
        "import json, sys\n"
        f"with open({str(paper.home / 'argv.json')!r}, 'w') as file:\n"
        "    json.dump([*sys.argv[1:], sys.stdin.read() if sys.stdin else ''], file)\n"
    )
    printing(paper, PAIR, script + paper.script.read_text())
    words = ["a b", "x;touch", "$HOME", "`id`", "&&", "|", ">", "*", "~", "é"]
    quoted = " ".join(f'"{word}"' if " " in word else word for word in words)
    paper.config(f"[profile x]\ncredential_process = {{process}} {quoted}\n")
    assert elsewhere(paper, ELSEWHERE, input="for others") == "AKIDprocess\n"
    assert json.loads((paper.home / "argv.json").read_text()) == [*words, ""]


WINDOWS = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import smasync

def run(command, **options):
    print(json.dumps([command, options.get("shell", False)]))
    pair = {"Version": 1, "AccessKeyId": "AKIDprocess", "SecretAccessKey": "hush"}
    return subprocess.CompletedProcess(command, 0, json.dumps(pair).encode(), b"")

os.name, subprocess.run = "nt", run
print(smasync.resolve_credentials(environ=json.loads(sys.argv[2])).access_key_id)
"""


def test_on_windows_the_line_of_a_process_is_handed_over_as_it_is_for_the_system_to_split(paper):
    line = r'"C:\Program Files\corp\login.exe" --as "DOMAIN\me" --path C:\new\table'
    paper.configure(PROFILE["process"]._replace(lines=f"credential_process = {line}\n"))
    first, second = elsewhere(paper, WINDOWS).splitlines()
    assert (json.loads(first), second) == ([line, False], "AKIDprocess")


@pytest.mark.slow
def test_a_process_that_does_not_end_is_ended_after_a_minute(paper, failing):
    printing(paper, PAIR, "import time; time.sleep(600)")
    failing(paper.resolve, "credential_process.*60")


# --- services that a test plays ------------------------------------------------------------------


class Recorder:
    """A transport that plays every service well, and keeps what it was sent and with what
    timeout; `answers` come first, errors being raised."""

    XML = (
        "<R xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><X><Credentials>"
        "<AccessKeyId>ASIAfake</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>"
        "<SessionToken>hush</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        "</Credentials></X></R>"
    )
    JSON = (
        '{"AccessKeyId": "ASIAfake", "SecretAccessKey": "hush", "Token": "hush", '
        '"Expiration": "2099-01-01T00:00:00Z", "Code": "Success"}'
    )
    SSO = '{"roleCredentials":{"accessKeyId":"A","secretAccessKey":"hush","expiration":4e12}}'

    def __init__(self, *answers):
        self.answers, self.requests, self.timeouts = list(answers), [], []

    def __call__(self, request, *, timeout=None):
        self.requests.append(request)
        self.timeouts.append(timeout)
        answer = self.answers.pop(0) if self.answers else self.played(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def played(self, request):
        path = urlsplit(request.url).path
        texts = {"/": self.XML, "/federation/credentials": self.SSO, "/latest/api/token": "hush"}
        text = texts.get(path) or ("role" if path.endswith("/") else self.JSON)
        return Response(200, (), text.encode())

    def urls(self):
        return [request.url for request in self.requests]

    def origin(self):
        """Scheme and host that all requests went to."""
        (found,) = {"{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in self.urls()}
        return found


BARE = {"HOME": "/no/such/home", DISABLED: "true"}


def bare_resolve(transport, environ):
    """Credentials of an environment without files."""
    return resolve_credentials(environ={**BARE, **environ}, transport=transport)


# --- a container ---------------------------------------------------------------------------------

URIS = """
http://169.254.170.23/v1/credentials http://[fd00:ec2::23]/v1/credentials http://169.254.170.2/x
http://127.0.0.1:9911/x?y=z http://localhost:9911/x http://[::1]:9911/x https://example.com/x
""".split()
CONTAINERS = {
    # variables: the URL that is asked
    "relative": ({RELATIVE: "/v2/credentials/x-1"}, "http://169.254.170.2/v2/credentials/x-1"),
    "relative with a query": ({RELATIVE: "/get?id=x"}, "http://169.254.170.2/get?id=x"),
    "relative wins": ({RELATIVE: "/a", FULL: "https://b/"}, "http://169.254.170.2/a"),
    **{uri: ({FULL: uri}, uri) for uri in URIS},
}


@rows("environ, url", CONTAINERS)
def test_a_container_is_asked_at_its_address(environ, url):
    transport = Recorder()
    bare_resolve(transport, environ)
    (request,) = transport.requests
    assert (request.method, request.url, request.body) == ("GET", url, b"")


REFUSED_URIS = r"""
http://evil.example/x http://localhost.evil.example/x http://localhostevil.example/x
http://127.0.0.1.evil.example/x http://evil-localhost/x http://127.0.0.1@evil.example/x
http://127.0.0.1:80@evil.example/x http://hunter2:hunter3@127.0.0.1/x
https://hunter2:hunter3@evil.example/x http://evil.example\@127.0.0.1/x
http://127.0.0.1\@evil.example/x http://evil.example#@127.0.0.1/x http://evil.example?@127.0.0.1/
http://169.254.170.3/x http://0.0.0.0/x http://10.0.0.1/x
http://[::ffff:10.0.0.1]/x http://2852039166/x http://0251.0376.0252.0002/x ftp://127.0.0.1/x
file:///etc/passwd 127.0.0.1/x http:///x http://127.0.0.1/é http://127.0.0．1/x
http://127.0.0.1:99999/x http://127.0.0.1:http/x http://[::1/x
""".split()
REFUSED_PATHS = [
    "@evil.example/x", ".evil.example/x", ":8080/x", "3/x", "v2/credentials",
    "http://evil.example/x", "/x\r\nHost: evil.example", "/x HTTP/1.1", "/é", " /x",
]  # fmt: skip
REFUSED_TOKENS = ["hunter2\r\nX-Injected: 1", "hunter2\n", "hunter2\0", "hunter2\x7f"]
REFUSED = [
    *({FULL: uri} for uri in REFUSED_URIS),
    *({FULL: "http://127.0.0.1/x" + end} for end in ("\r\nX-Injected: 1", "\t", " HTTP/1.1")),
    *({RELATIVE: path} for path in REFUSED_PATHS),
    *({RELATIVE: "/x", TOKEN: token} for token in REFUSED_TOKENS),
]


@pytest.mark.parametrize("environ", REFUSED, ids=str)
def test_a_hostile_container_setting_is_refused_before_any_request(failing, environ):
    transport = Recorder()
    failing(lambda: bare_resolve(transport, environ), "AWS_CONTAINER_")
    assert transport.requests == []


AUTHORIZATIONS = {
    # variables: what the endpoint is sent
    "none": ({}, None),
    "token": ({TOKEN: "Basic hush"}, "Basic hush"),
    "file": ({TOKEN_FILE: "{home}/pod-token"}, "hush-from-file"),
    "file before token": ({TOKEN: "Basic hush", TOKEN_FILE: "{home}/pod-token"}, "hush-from-file"),
    "empty ones": ({TOKEN: "", TOKEN_FILE: ""}, None),
}


@rows("variables, sent", AUTHORIZATIONS)
def test_the_container_is_shown_the_token_or_the_token_of_the_file(desk, failing, variables, sent):
    desk.write("pod-token", "hush-from-file")
    desk.configure(CHAIN["container"], **variables, **CHAIN["instance metadata"].variables)
    desk.services.container_authorization = sent
    desk.resolve()
    (received,) = desk.services.requests_to("container")
    assert received.header("authorization") == sent
    assert received.header("accept") == "application/json"
    desk.services.container_authorization = "Basic other"
    failing(desk.resolve, "401|Unauthorized", "container")
    assert desk.asked() == {"container"}


@pytest.mark.parametrize("name", ["container", "instance metadata"])
def test_no_proxy_is_asked_for_what_is_on_this_machine(desk, name):
    with Emulator() as proxy:
        variables = dict.fromkeys(["HTTP_PROXY", "http_proxy", "ALL_PROXY"], proxy.url)
        desk.configure(CHAIN[name], **variables)
        desk.resolve()
        assert proxy.requests == []


# --- the instance metadata service ---------------------------------------------------------------


def test_imds_is_asked_with_a_token(desk):
    desk.configure(CHAIN["instance metadata"])
    desk.resolve()
    first, *others = desk.services.requests
    assert (first.method, first.target) == ("PUT", "/latest/api/token")
    assert first.header("x-aws-ec2-metadata-token-ttl-seconds") == "21600"
    paths = [received.target.rpartition("/")[::2] for received in others]
    directory = "/latest/meta-data/iam/security-credentials"
    assert paths == [(directory, ""), (directory, "instance-role")]
    tokens = {received.header("x-aws-ec2-metadata-token") for received in others}
    assert tokens == set(desk.services.imds_tokens)


NO_IMDS_TOKENS = {
    # what the token call meets: fault, what the error says, how often it is made
    "403": (emu.status(403), "IMDS.*disabled", 1),
    "404": (emu.status(404), "IMDSv2.*version 1", 1),
    "405": (emu.status(405), "IMDSv2.*version 1", 1),
    "400": (emu.status(400), "IMDS.*400|400.*IMDS", 1),
    "silence, as in a container behind one hop too many": (emu.stall(30), "instance metadata", 3),
}


@rows("chosen, says, count", NO_IMDS_TOKENS)
def test_imds_that_gives_no_token_is_an_error_and_nothing_is_asked_without_one(
    desk, failing, chosen, says, count
):
    desk.configure(CHAIN["instance metadata"])
    desk.services.fail_always("imds token", chosen)
    started = time.monotonic()
    failing(desk.resolve, says)
    assert time.monotonic() - started < 6
    assert [received.method for received in desk.services.requests] == ["PUT"] * count


def test_an_instance_without_a_role_is_not_configured(desk, failing):
    desk.configure(CHAIN["instance metadata"])
    desk.services.imds_role = None
    failing(desk.resolve, "no credentials found.*instance metadata.*no role")


@pytest.mark.parametrize("value", ["true", "True"])
def test_imds_can_be_switched_off(desk, failing, value):
    desk.configure(CHAIN["instance metadata"], **{DISABLED: value})
    failing(desk.resolve, DISABLED)
    assert desk.services.requests == []


SETTING = DISABLED.lower()[4:-9] + "_service_endpoint"
IMDS_PLACES = {
    # lines in the profile, variables: where IMDS is asked
    "nothing said": ("", {}, "http://169.254.169.254"),
    "IPv6": ("", {MODE: "IPv6"}, "http://[fd00:ec2::254]"),
    "ipv6": ("", {MODE: "ipv6"}, "http://[fd00:ec2::254]"),
    "endpoint with a slash": ("", {ENDPOINT: "http://127.0.0.1:99/"}, "http://127.0.0.1:99"),
    "endpoint before mode": ("", {ENDPOINT: "http://h:99", MODE: "IPv6"}, "http://h:99"),
    "profile's mode": (f"{SETTING}_mode = IPv6", {}, "http://[fd00:ec2::254]"),
    "variable before profile": (f"{SETTING} = http://h:98", {ENDPOINT: "http://h:99"}, "http://h:99"),
}  # fmt: skip


@rows("lines, variables, where", IMDS_PLACES)
def test_imds_is_asked_where_the_settings_say(paper, lines, variables, where):
    paper.config(f"[default]\n{lines}\n")
    paper.environ.update({DISABLED: "false", **variables})
    transport = Recorder()
    paper.resolve(transport=transport)
    assert transport.origin() == where
    assert [urlsplit(url).path[:8] for url in transport.urls()] == ["/latest/"] * 3


@pytest.mark.parametrize(
    "variables",
    [
        {MODE: "IPv5"},
        {ENDPOINT: "169.254.169.254"},
        {ENDPOINT: "http://hunter2:hunter3@evil.example"},
        {ENDPOINT: "http://127.0.0.1\r\n"},
        {DISABLED: "perhaps"},
        *({"AWS_METADATA_SERVICE_TIMEOUT": text} for text in ("0", "-1", "1.5", "long")),
        {"AWS_METADATA_SERVICE_NUM_ATTEMPTS": "0"},
    ],
    ids=str,
)
def test_a_malformed_setting_of_imds_is_an_error_before_any_request(failing, variables):
    transport = Recorder()
    failing(lambda: bare_resolve(transport, {DISABLED: "", **variables}), "metadata_")
    assert transport.requests == []


TRIES = {
    # lines in the profile, variables: seconds and number of tries of IMDS, of the container
    "nothing said": ("", {}, (1, 3), (2, 3)),
    "less": ("", ("1", "2"), None, (2, 3)),
    "more": ("", ("5", "4"), (5, 4), (5, 4)),
    "in the profile": (
        "metadata_service_timeout = 4\nmetadata_service_num_attempts = 6", {}, (4, 6), (4, 6)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ["container", "instance metadata"])
@rows("lines, variables, imds, container", TRIES)
def test_how_long_and_how_often_a_service_next_door_is_asked_can_be_set(
    paper, lines, variables, imds, container, name
):
    paper.configure(CHAIN[name])
    paper.config(f"[default]\n{lines}\n")
    names = ("AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS")
    paper.environ.update(zip(names, variables))
    transport = Recorder(*[TransportError("silent", kind="timeout", sent=True)] * 9)
    with paper.client(transport=transport) as client, pytest.raises(CredentialsError):
        client.explain(**CALL)
    seconds, count = container if name == "container" else imds or (1, len(transport.timeouts))
    assert transport.timeouts == [seconds] * count


@pytest.mark.parametrize("kind", ["connect", "timeout"])
@pytest.mark.parametrize("name", ["container", "instance metadata"])
def test_where_nothing_is_next_door_one_try_finds_that_out(paper, failing, name, kind):
    paper.configure(CHAIN[name])
    transport = Recorder(*[TransportError("no route", kind=kind, sent=False)] * 9)
    at = "169.254.169.254" if name != "container" else "no route"
    failing(lambda: paper.resolve(transport=transport), name, at)
    assert len(transport.requests) == 1


def test_a_container_that_takes_its_time_is_waited_for(desk):
    times = {"AWS_METADATA_SERVICE_TIMEOUT": "5", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "3"}
    desk.configure(CHAIN["container"], **times)
    desk.services.fail_always("container", cs.slow(1.4))
    assert desk.resolved_origin() == "container"
    assert len(desk.services.requests) == 1


def test_a_call_s_time_limit_holds_while_a_container_is_silent(desk, failing):
    desk.configure(CHAIN["container"])
    desk.services.fail_always("container", emu.stall(30))
    started = time.monotonic()
    with desk.client() as client:
        call = lambda: client.invoke_endpoint_async(**CALL, timeout=0.5)  # noqa: E731
        failing(call, error=(CredentialsError, TransportError))
    assert 0.4 < time.monotonic() - started < 1.5


def test_a_call_s_time_limit_ends_a_credential_process_and_its_arguments_stay_unsaid(
    desk, failing
):
    desk.write("process.py", "import time\ntime.sleep(30)\n")
    desk.config("[profile x]\ncredential_process = {process} --password hunter2\n")
    started = time.monotonic()
    with desk.client(profile_name="x") as client:
        call = lambda: client.invoke_endpoint_async(**CALL, timeout=0.5)  # noqa: E731
        error = failing(call, "credential_process.*no end after", error=TransportError)
    assert (error.kind, error.sent) == ("timeout", False)
    assert "hunter2" not in str(error) and time.monotonic() - started < 5


def test_the_path_of_a_container_s_credentials_is_not_in_the_log(paper, caplog):
    path = "/v2/credentials/0123456789abcdef"
    paper.environ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = path
    answer = Response(200, (), json.dumps({**PAIR, "Token": "t" * 20}).encode())
    with caplog.at_level("DEBUG", logger="smasync"):
        paper.resolve(transport=Recorder(answer))
    assert "container credentials" in caplog.text and "0123456789abcdef" not in caplog.text


def test_imds_that_could_not_get_the_role_says_why(desk, failing):
    desk.configure(CHAIN["instance metadata"])
    refusal = b'{"Code": "AssumeRoleUnauthorizedAccess", "Message": "EC2 cannot assume the role"}'
    desk.services.fail_next("imds", cs.text(refusal))
    failing(desk.resolve, "AssumeRoleUnauthorizedAccess")


# --- hosts ---------------------------------------------------------------------------------------

FIPS, DUAL = {"AWS_USE_FIPS_ENDPOINT": "true"}, {"AWS_USE_DUALSTACK_ENDPOINT": "true"}
PLACES = {
    # region, switches: what follows "sts" and "portal.sso"
    "plain": ("eu-west-1", {}, ".eu-west-1.amazonaws.com"),
    "FIPS, dual-stack": ("us-east-1", {**FIPS, **DUAL}, "-fips.us-east-1.api.aws"),
    "dual-stack": ("cn-north-1", DUAL, ".cn-north-1.api.amazonwebservices.com.cn"),
    "FIPS": ("us-gov-west-1", FIPS, ".us-gov-west-1.amazonaws.com"),
}


@pytest.mark.parametrize("given_by", ["environment", "arguments"])
@pytest.mark.parametrize("name", ["web identity", "profile: role", "profile: SSO"])
@rows("region, switches, host", PLACES)
def test_services_are_asked_in_their_region_at_the_host_that_the_switches_name(
    paper, name, region, switches, host, given_by
):
    setup, is_sso = SETUPS[name], name == "profile: SSO"
    sections, transport = setup.sections.replace("us-east-1", region), Recorder()
    paper.configure(setup._replace(sections=sections))
    here = "sa-east-1" if is_sso else region
    if given_by == "environment":
        paper.environ.update(switches)
        paper.resolve(transport=transport, region_name=here)
    else:
        arguments = dict.fromkeys((name.lower()[4:] for name in switches), True)
        arguments.update(clock=paper.clock, environ=paper.environ, transport=transport)
        key_id(Client(here, **arguments))
    assert transport.origin() == ("https://portal.sso" if is_sso else "https://sts") + host
    authorization = dict(transport.requests[0].headers).get("Authorization", "")
    assert (f"/{region}/sts/aws4_request" in authorization) == (name == "profile: role")


@pytest.mark.parametrize("name", ["role", "SSO"])
def test_a_service_in_a_region_has_20_seconds_and_is_tried_again(paper, name):
    paper.configure(PROFILE[name])
    transport = Recorder(TransportError("no route", kind="connect", sent=False))
    paper.resolve(transport=transport)
    assert transport.timeouts == [20, 20]


SERVICES = "[services dev]\nsts =\n  endpoint_url = http://h:1\nsso =\n  endpoint_url = http://h:2"
IGNORED = {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
URLS = {
    # lines of the profile, variables: STS's URL, SSO's URL; None is the usual one
    "nothing": ("", {}, None, None),
    "its own": ("", {STS_AND_SSO[0]: "http://h:3"}, "http://h:3", None),
    "another's": ("", {"AWS_ENDPOINT_URL_S3": "http://h:3"}, None, None),
    "everybody's": ("", {"AWS_ENDPOINT_URL": "http://h:3"}, "http://h:3", "http://h:3"),
    "services section": ("services = dev", {}, "http://h:1", "http://h:2"),
    "variable before section": ("services = dev", {STS_AND_SSO[0]: "http://h:3"}, "http://h:3", "http://h:2"),
    "profile's": ("endpoint_url = http://h:4", {}, "http://h:4", "http://h:4"),
    "ignored": ("services = dev\nendpoint_url = http://h:4", IGNORED, None, None),
}  # fmt: skip


@rows("lines, variables, sts, sso", URLS)
def test_an_endpoint_that_is_configured_is_used(paper, lines, variables, sts, sso):
    for name, url, usual in (("role", sts, "sts"), ("SSO", sso, "portal.sso")):
        setup, transport = PROFILE[name], Recorder()
        sections = setup.sections + SERVICES
        paper.configure(setup._replace(lines=setup.lines + lines, sections=sections), **variables)
        paper.resolve(transport=transport)
        assert transport.origin() == (url or f"https://{usual}.us-east-1.amazonaws.com")


BAD_REGIONS = [
    "evil.example/", "evil.example", "us-east-1.evil.example", "us-east-1/", "us-east-1@evil",
    "us-east-1:80", "us east 1", "us-east-1#!", "us-east-1?", "é", "x" * 64, "us-east-1\\",
    "%2e", "us_east_1", "us-east-1\n  x",
]  # fmt: skip


@pytest.mark.parametrize("name", ["role", "SSO"])
@pytest.mark.parametrize("region", BAD_REGIONS)
def test_a_region_that_is_no_host_label_is_refused_before_any_request(
    paper, failing, region, name
):
    setup, transport = PROFILE[name], Recorder()
    sections = setup.sections.replace("us-east-1", region)
    lines = setup.lines + ("" if name == "SSO" else f"region = {region}\n")
    paper.configure(setup._replace(sections=sections, lines=lines), AWS_REGION="")
    failing(lambda: paper.resolve(transport=transport), "region", error=BROKEN)
    assert transport.requests == []


def test_a_role_without_a_region_is_an_error_that_asks_for_one(paper, failing):
    paper.configure(PROFILE["role"], AWS_REGION="")
    failing(lambda: paper.resolve(transport=Recorder(AssertionError)), "region")


# --- services that fail --------------------------------------------------------------------------

GARBAGE = b'{"SecretAccessKey": "hunter2", <SecretAccessKey>hunter3'
FAULTS = {
    # what happens: the fault, how many requests it takes
    "403": (emu.status(403, "AccessDeniedException", "not you"), 1),
    "500 for ever": (emu.status(500, "InternalFailure"), 3),
    "503 for ever": (emu.status(503, "ServiceUnavailable"), 3),
    "garbage": (cs.text(GARBAGE), 1),
    "garbage with 403": (cs.text(GARBAGE, 403), 1),
    "nothing": (cs.text(b""), 1),
    "a login page": (emu.login_page(), 1),
    "JSON that is a list": (cs.text(b'["hunter2"]'), 1),
    "an empty object": (cs.text(b"{}"), 1),
    "empty XML": (cs.text(b"<a/>"), 1),
    "3 MiB": (emu.huge_body(3 << 20), 3),
    "3 MiB with 403": (emu.huge_body(3 << 20, 403), 1),
    "JSON 10,000 deep": (cs.nested_json(10_000), 1),
    "XML 10,000 deep": (cs.nested_xml(10_000), 1),
    "not HTTP": (emu.garbage(), 3),
    "resets": (emu.reset_after(), 3),
    "a redirect": (emu.redirect("http://127.0.0.1:9/"), 1),
    "a body cut short": (emu.truncate(30), 3),
}


@pytest.mark.parametrize("name", REMOTE)
@rows("chosen, count", FAULTS)
def test_a_service_that_fails_is_an_error_of_its_provider_and_the_search_stops(
    desk, failing, name, chosen, count
):
    others = {} if name == "instance metadata" else CHAIN["instance metadata"].variables
    desk.configure(REMOTE[name], **others)
    desk.services.fail_always(REMOTE[name].service, chosen)
    error = failing(desk.resolve, REMOTE[name].named)
    assert error.tried[-1][0] == name.partition(":")[0]
    assert len(desk.services.requests_to(REMOTE[name].service)) == count
    assert desk.asked() == {REMOTE[name].service}
    assert desk.services.hand_outs == [] or chosen.kind == "truncate"


MEMBERS = {
    # in JSON and XML answers alike: one member's name, what stands in its place
    "no key id": ("AccessKeyId", None),
    "no secret": ("SecretAccessKey", None),
    "a secret with a line break": ("SecretAccessKey", r"hunter2\nhunter3"),
    "a secret beyond ASCII": ("SecretAccessKey", "hunter2é"),
    "an empty secret": ("SecretAccessKey", ""),
    "a token with a space": ("(?:Session)?Token", "hunter2 hunter3"),
    "an end that is no date": ("Expiration", "soon"),
    "an end that has been": ("Expiration", "2026-01-02T03:04:04Z"),
}


def replaced(name, text, service):
    """The good answer with another text for one member, or without it."""
    if service == "sts":
        pattern = f"<({name})>.*?</{name}>"
        new = "" if text is None else f"<\\1>{text}</\\1>".replace(r"\n", "&#10;")
    else:
        pattern = rf'(?i)"({name})": ("[^"]*"|[0-9]+)'
        new = '"Other": ""' if text is None else f'"\\1": "{text}"'.replace(r"\n", r"\\n")
    return cs.edited(pattern.encode(), new.encode())


@pytest.mark.parametrize("name", REMOTE)
@rows("member, text", MEMBERS)
def test_credentials_that_are_none_are_not_used(desk, failing, name, member, text):
    desk.configure(REMOTE[name])
    chosen = replaced(member, text, REMOTE[name].service)
    desk.services.fail_always(REMOTE[name].service, chosen)
    failing(desk.resolve, REMOTE[name].named)
    assert desk.services.hand_outs


PASSING = {
    "500": emu.status(500),
    "503": emu.status(503),
    "throttle": emu.status(429, "Throttling"),
    "reset": emu.reset_after(),
}


@pytest.mark.parametrize("name", REMOTE)
@rows("chosen", PASSING)
def test_a_failure_that_passes_by_itself_is_tried_again(desk, name, chosen):
    desk.configure(REMOTE[name])
    desk.services.fail_next(REMOTE[name].service, chosen, chosen)
    with desk.client() as client:
        assert desk.origin(key_id(client)) == REMOTE[name].origin
    assert len(desk.services.requests_to(REMOTE[name].service)) == 3


@pytest.mark.parametrize("name", REMOTE)
def test_what_a_service_echoes_of_a_request_has_no_secret_when_it_is_shown(desk, failing, name):
    desk.configure(REMOTE[name])
    if name == "container":
        token = "Basic hush-authorization-of-the-container"
        desk.environ[TOKEN] = desk.services.container_authorization = token
    desk.services.fail_always(REMOTE[name].service, cs.echo())
    failing(desk.resolve)


def test_the_session_token_of_a_source_is_not_shown_when_sts_echoes_it(desk, failing):
    desk.config("\n".join(chain_of("a:b", "b:c", "c!")))
    desk.services.fail_next("sts", cs.slow(0.001), cs.echo())
    failing(lambda: desk.resolve("a"), "AccessDenied")


# --- when nothing answers ------------------------------------------------------------------------


def test_the_error_when_nothing_answers_lists_what_each_provider_looked_for(paper, failing):
    error = failing(paper.resolve)
    assert [provider for provider, _ in error.tried] == list(CHAIN)
    profile = r"'default' in .*\.aws/config and .*\.aws/credentials"
    parts = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", profile, RELATIVE, DISABLED]
    for pattern, (provider, what) in zip(parts, error.tried):
        assert re.search(pattern, what.replace(os.sep, "/"))
        assert f"\n- {provider}: {what}" in str(error)


# --- the cost of what is not configured ----------------------------------------------------------

WATCHED = """
import json, sys
home, environ, seen = sys.argv[2], json.loads(sys.stdin.read()), set()
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(home):
        seen.add(str(arguments[0])[len(home) + 1:].replace(chr(92), "/"))
    if event in ("socket.connect", "subprocess.Popen"):
        seen.add(event)
sys.path.insert(0, sys.argv[1])
sys.addaudithook(hook)
import smasync
try:
    smasync.resolve_credentials(environ=environ)
except smasync.CredentialsError:
    seen.add("none")
print(json.dumps(sorted(seen)))
"""
WATCH = {
    # setup: what is done, beside reading the shared files
    "nothing": (Setup(""), ["none"]),
    "environment": (CHAIN["environment"], []),
    "web identity": (CHAIN["web identity"], ["web-token", "socket.connect"]),
    "static keys": (PROFILE["static keys"], []),
    "role": (PROFILE["role"], ["socket.connect"]),
    "SSO": (PROFILE["SSO"], ["the cache", "socket.connect"]),
    "process": (PROFILE["process"], ["subprocess.Popen"]),
    "container": (CHAIN["container"], ["socket.connect"]),
}


@rows("setup, done", WATCH)
def test_what_is_not_configured_opens_nothing_and_asks_nobody(desk, setup, done):
    desk.services.clock = time.time
    desk.configure(setup)
    desk.sso_token("corp", time.time() - NOW + 3600)
    desk.write(".aws/credentials", "[other]\n" + key_lines("static"))
    finished = subprocess.run(
        [sys.executable, "-c", WATCHED, str(MODULE.parent), str(desk.home)],
        input=json.dumps(desk.environ), capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert finished.stderr == ""
    cache = desk.sso_cache("corp").relative_to(desk.home).as_posix()
    expected = [cache if name == "the cache" else name for name in done]
    assert json.loads(finished.stdout) == sorted([".aws/config", ".aws/credentials", *expected])


# --- credentials that end ------------------------------------------------------------------------

THREADS, ROUNDS, LIFETIME = 16, 63, 1800.0


@pytest.mark.parametrize("name", ROTATED)
def test_a_thousand_calls_across_three_expiries_are_each_signed_with_what_is_valid(desk, name):
    desk.configure(REMOTE[name])
    desk.services.lifetime = LIFETIME
    desk.sso_token("corp", 10 * LIFETIME)
    barrier = threading.Barrier(THREADS)

    def work(client):
        for _ in range(ROUNDS):
            barrier.wait(20)
            desk.clock.advance(4000 / (THREADS * ROUNDS))
            client.invoke_endpoint_async(**CALL)

    with desk.client() as client, ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work, client) for _ in range(THREADS)]:
            future.result(60)
    services = desk.services
    sent = [received for received in services.requests if "async-invocations" in received.target]
    assert len(services.ledger) == len(sent) == THREADS * ROUNDS  # none was refused as expired
    assert sum(made.expires_at <= desk.clock() for made in services.hand_outs) == 3
    starts = [made.at for made in services.hand_outs]
    assert all(later - earlier >= LIFETIME - 900 for earlier, later in zip(starts, starts[1:]))
    assert len(starts) == 5  # at first, and 15 minutes before the end of each of four
    assert len(services.requests_to(REMOTE[name].service)) == len(starts)


def test_credentials_of_the_environment_that_end_are_read_again(paper):
    paper.configure(CHAIN["environment"], AWS_CREDENTIAL_EXPIRATION="2026-01-02T04:04:05Z")
    client = paper.client()
    assert key_id(client) == "AKIDenvironment"
    paper.environ.update(key_variables("static"))
    paper.environ["AWS_CREDENTIAL_EXPIRATION"] = "2026-01-02T06:04:05Z"
    assert key_id(client) == "AKIDenvironment"
    paper.clock.advance(3600)
    assert key_id(client) == "AKIDstatic"


def test_a_source_that_ends_is_asked_again_for_its_role(desk):
    desk.configure(PROFILE["SSO"])
    desk.extend("a:x")
    desk.sso_token("corp", 10 * 3600)
    with desk.client(profile_name="a") as client:
        for _ in range(3):
            client.invoke_endpoint_async(**CALL)
            desk.clock.advance(3600)
    assert [made.service for made in desk.services.hand_outs] == ["sso", "sts"] * 3
