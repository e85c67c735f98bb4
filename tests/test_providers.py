"""Credentials: every provider of credentials, against services that hand them out and misbehave."""

from __future__ import annotations

import contextlib
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, NamedTuple
from urllib.parse import parse_qs, urlsplit

import credential_services as cs
import emulator as emu
import pytest
from credential_services import CredentialServices
from emulator import Account, Emulator, Fault
from hypothesis import given, settings
from hypothesis import strategies as st

import smasync
from smasync import (
    Client,
    ConfigurationError,
    Credentials,
    CredentialsError,
    Request,
    Response,
    TransportError,
    resolve_credentials,
)

CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
MODULE = Path(smasync.__file__).resolve()
ACCOUNT, ROLE = cs.ACCOUNT_ID, f"arn:aws:iam::{cs.ACCOUNT_ID}:role/path/Work"
ROLES = f"arn:aws:iam::{cs.ACCOUNT_ID}:role/"
START_URL = "https://corp.awsapps.com/start"
BROKEN = (CredentialsError, ConfigurationError)
# what may stand in no message, repr or log line; it is in every secret and token of these tests
HIDDEN = re.compile("hush|hunter|" + "|".join((cs.SECRET_MARK, "emulated[A-Z]*TOKEN")))


def secret_of(name: str) -> str:
    return f"hush/{name}+".ljust(40, "0")


def key_lines(name: str) -> str:
    return f"aws_access_key_id = AKID{name}\naws_secret_access_key = {secret_of(name)}\n"


def key_variables(name: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": f"AKID{name}", "AWS_SECRET_ACCESS_KEY": secret_of(name)}


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now, self.lock = NOW, threading.Lock()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds


class Setup(NamedTuple):
    """What configures one provider; its texts are templates that Desk fills in."""

    origin: str  # what `Desk.origin` says of its credentials
    lines: str = ""  # in profile x
    sections: str = ""  # more of the config file
    variables: dict[str, str] = {}  # noqa: RUF012
    service: str = ""  # which one is asked, a row of credential_services.PATHS
    named: str = ""  # a pattern for what its errors call it


WEB = {"AWS_WEB_IDENTITY_TOKEN_FILE": "{home}/web-token", "AWS_ROLE_ARN": ROLE}
SSO_ROLE = f"sso_account_id = {ACCOUNT}\nsso_role_name = Reader\n"
SSO_SESSION = f"[sso-session corp]\nsso_region = us-east-1\nsso_start_url = {START_URL}\n"
IMDS_ON = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}", "AWS_EC2_METADATA_DISABLED": ""}
CHAIN = {
    # in the order in which they are asked
    "environment": Setup("AKIDenvironment", variables=key_variables("environment")),
    "web identity": Setup(
        "AssumeRoleWithWebIdentity", variables=WEB, service="sts", named="(?i)web.?identity"
    ),
    "profile": Setup("AKIDstatic", key_lines("static")),
    "container": Setup(
        "container",
        variables={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/container"},
        service="container",
        named="(?i)container",
    ),
    "IMDS": Setup("imds", variables=IMDS_ON, service="imds", named="(?i)imds|metadata"),
}
PROFILE = {
    # in the order in which they count
    "role": Setup(
        "AssumeRole",
        f"role_arn = {ROLE}\nsource_profile = base\n",
        "[profile base]\n" + key_lines("base"),
        service="sts",
        named="AssumeRole|role",
    ),
    "web identity": Setup(
        "AssumeRoleWithWebIdentity",
        f"role_arn = {ROLE}\nweb_identity_token_file = {{home}}/web-token\n",
        service="sts",
        named="(?i)web.?identity",
    ),
    "SSO": Setup(
        "sso",
        "sso_session = corp\n" + SSO_ROLE,
        SSO_SESSION,
        service="sso",
        named="(?i)sso|GetRoleCredentials",
    ),
    "static keys": Setup("AKIDstatic", key_lines("static")),
    "process": Setup(
        "AKIDprocess", "credential_process = {process}\n", named="credential_process"
    ),
}
LEGACY_SSO = PROFILE["SSO"]._replace(
    lines=f"sso_start_url = {START_URL}\nsso_region = us-east-1\n" + SSO_ROLE, sections=""
)
SETUPS = {
    **CHAIN,
    **{f"profile: {name}": setup for name, setup in PROFILE.items()},
    "profile: legacy SSO": LEGACY_SSO,
}
del SETUPS["profile"]


def provider_of(name: str) -> str:
    """What smasync calls the provider of a row of SETUPS."""
    return name.partition(":")[0].replace("IMDS", "metadata")


REMOTE = {name: setup for name, setup in SETUPS.items() if setup.service}
PROCESS_DOCUMENT = {
    "Version": 1,
    "AccessKeyId": "AKIDprocess",
    "SecretAccessKey": secret_of("process"),
}


class Desk:
    """A home directory with everything that providers read, and the services that they ask."""

    def __init__(self, home: Path, services: CredentialServices, clock: Clock) -> None:
        self.home, self.services, self.clock = home, services, clock
        self.write("web-token", cs.WEB_TOKEN + "\n")
        self.write("credentials.json", json.dumps(PROCESS_DOCUMENT))
        self.write("process.py", "print(open(__file__[:-10] + 'credentials.json').read())\n")
        for name in ("corp", START_URL):
            self.sso_token(name)
        self.environ = {
            "HOME": str(home),
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_STS": services.url,
            "AWS_ENDPOINT_URL_SSO": services.url,
        }

    def write(self, name: str, text: str | bytes) -> str:
        """The path of a file in the home directory that now has this text."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path.as_posix()

    def filled(self, template: str) -> str:
        process = " ".join(f'"{Path(part).as_posix()}"' for part in self.process("process.py"))
        values = {"home": self.home.as_posix(), "url": self.services.url, "process": process}
        return re.sub("{(home|url|process)}", lambda match: values[match[1]], template)

    def process(self, script: str) -> tuple[str, str]:
        """A command that runs a script of the home directory."""
        return sys.executable, str(self.home / script)

    def config(self, text: str) -> None:
        self.write(".aws/config", self.filled(text))

    def sso_cache(self, name: str) -> Path:
        digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        return self.home / ".aws" / "sso" / "cache" / f"{digest}.json"

    def sso_token(self, name: str, seconds: float = 3600, **changes: object) -> None:
        """Leaves a token that lives so long where the AWS CLI would."""
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW + seconds))
        document = {"accessToken": cs.SSO_TOKEN, "expiresAt": end, "startUrl": START_URL}
        path = self.sso_cache(name)
        self.write(str(path.relative_to(self.home)), json.dumps({**document, **changes}))

    def configure(self, *setups: Setup, **variables: str) -> Desk:
        """Profile x and the environment of all these setups together."""
        lines = dict.fromkeys(line for setup in setups for line in setup.lines.splitlines())
        self.config("\n".join(["[profile x]", *lines, *(setup.sections for setup in setups)]))
        for given_variables in (*(setup.variables for setup in setups), variables):
            for name, text in given_variables.items():
                self.environ[name] = self.filled(text)
        if any(setup.lines for setup in setups):
            self.environ["AWS_PROFILE"] = "x"
        return self

    def resolve(self, profile_name: str | None = None, **options: Any) -> Credentials:
        return resolve_credentials(profile_name, environ=self.environ, clock=self.clock, **options)

    def client(self, **options: Any) -> Client:
        """A client of the emulated SageMaker that does not sleep."""
        defaults = {
            "endpoint_url": self.services.url,
            "environ": self.environ,
            "clock": self.clock,
            "sleep": lambda seconds: None,
        }
        return Client("us-east-1", **{**defaults, **options})

    def origin(self, credentials: Credentials) -> str:
        """The STS action or the service that handed them out, else the key id."""
        for made in self.services.hand_outs:
            if made.access_key_id == credentials.access_key_id:
                return made.parameters.get("Action", made.service)
        return credentials.access_key_id

    def asked(self) -> set[str]:
        """The services that were sent anything."""
        return {service for service in cs.PATHS if self.services.requests_to(service)}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = Clock()
    names = ("environment", "static", "base", "process")
    accounts = {f"AKID{name}": Account(secret_of(name)) for name in names}
    with CredentialServices(clock=clock, accounts=accounts) as services:
        home = tmp_path / "home of a user"
        yield Desk(home, services, clock)


def key_id(client: Client) -> str:
    """What the client signs with."""
    authorization = dict(client.explain(**CALL).request.headers)["Authorization"]
    return authorization.partition("Credential=")[2].partition("/")[0]


# --- failures, and what they may not say ---------------------------------------------------------


def all_of(error: BaseException | None) -> Iterator[str]:
    """Every text of an error, of its causes, and of their tracebacks."""
    if error:
        yield "".join(traceback.format_exception(type(error), error, error.__traceback__))
    while error is not None:
        yield f"{error}\n{error!r}\n{error.args}\n{getattr(error, 'tried', ())}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.fixture
def failing(caplog: pytest.LogCaptureFixture) -> Callable[..., Any]:
    """A function that returns the error that another function raises.

    It asserts that neither the error nor the debug log has anything secret.
    """

    def check(ask: Callable[[], object], error: Any = CredentialsError, *patterns: str) -> Any:
        with caplog.at_level(logging.DEBUG, "smasync"), pytest.raises(error) as raised:
            ask()
        for text in (*all_of(raised.value), caplog.text):
            assert not HIDDEN.search(text), text
        for pattern in patterns:
            assert re.search(pattern, str(raised.value), re.DOTALL), (pattern, str(raised.value))
        if isinstance(raised.value, CredentialsError):
            tried = raised.value.tried
            assert tried
            assert all(isinstance(part, str) and part for pair in tried for part in pair)
            assert tried[-1][1] in str(raised.value)
        return raised.value

    return check


# --- which provider wins -------------------------------------------------------------------------


def subsets(setups: dict[str, Setup]) -> list[tuple[str, ...]]:
    return [
        names
        for count in range(1, len(setups) + 1)
        for names in itertools.combinations(setups, count)
    ]


@pytest.mark.parametrize("names", subsets(CHAIN), ids=", ".join)
def test_of_all_that_are_configured_the_first_in_the_chain_wins_and_no_other_is_asked(desk, names):
    desk.configure(*(CHAIN[name] for name in names))
    first = CHAIN[names[0]]
    assert desk.origin(desk.resolve()) == first.origin
    assert desk.asked() - {"imds token"} == ({first.service} - {""})


@pytest.mark.parametrize("names", subsets(PROFILE), ids=", ".join)
def test_within_a_profile_the_first_wins_and_no_other_is_asked(desk, names):
    desk.write("process.py", f"open({str(desk.home / 'ran')!r}, 'w').close()\n")
    desk.configure(*(PROFILE[name] for name in names))
    first = PROFILE[names[0]]
    if names == ("process",):
        with pytest.raises(CredentialsError):  # it prints nothing
            desk.resolve()
    else:
        assert desk.origin(desk.resolve()) == first.origin
    assert (desk.home / "ran").exists() == (names == ("process",))
    assert desk.asked() == {first.service} - {""}


@pytest.mark.parametrize("name", [name for name, setup in SETUPS.items() if setup.lines])
def test_a_profile_that_is_configured_comes_before_container_and_imds(desk, name):
    desk.configure(SETUPS[name], CHAIN["container"], CHAIN["IMDS"])
    assert desk.origin(desk.resolve()) == SETUPS[name].origin


@pytest.mark.parametrize("name", ["environment", "web identity"])
def test_a_profile_named_in_code_skips_the_environment(desk, name):
    desk.configure(CHAIN[name], CHAIN["profile"])
    assert desk.origin(desk.resolve()) == CHAIN[name].origin
    assert desk.origin(desk.resolve("x")) == "AKIDstatic"


def test_a_profile_named_in_code_that_has_no_keys_does_not_lead_back_to_the_environment(desk):
    desk.config("[profile x]\nregion = us-east-1\n")
    desk.configure(CHAIN["environment"], CHAIN["web identity"])
    desk.config("[profile x]\nregion = us-east-1\n")
    with pytest.raises(CredentialsError):
        desk.resolve("x")
    assert desk.asked() == set()


@pytest.mark.parametrize("name", SETUPS)
def test_keys_in_the_call_ask_nobody(desk, name):
    desk.configure(SETUPS[name])
    arguments = {"aws_access_key_id": "AKIDcall", "aws_secret_access_key": "hush"}
    with desk.client(**arguments) as client:
        assert key_id(client) == "AKIDcall"
    assert desk.services.requests == []


@pytest.mark.parametrize("name", SETUPS)
def test_a_client_signs_with_what_the_provider_gives_and_says_where_it_is_from(desk, name):
    desk.configure(SETUPS[name])
    with desk.client() as client:
        client.invoke_endpoint_async(**CALL)
        assert desk.services.ledger
        assert provider_of(name) in client.sources["credentials"]


@pytest.mark.parametrize("name", REMOTE)
def test_every_remote_provider_says_when_its_credentials_end(desk, name):
    desk.configure(REMOTE[name])
    assert desk.resolve().expires_at == NOW + 3600


ACCOUNTS_KNOWN = {
    "environment": {"AWS_ACCOUNT_ID": ACCOUNT},
    "web identity": {},
    "container": {},
    "IMDS": {},
    "profile: role": {},
    "profile: web identity": {},
    "profile: SSO": {},
    "profile: legacy SSO": {},
}


@pytest.mark.parametrize(("name", "variables"), ACCOUNTS_KNOWN.items(), ids=ACCOUNTS_KNOWN.keys())
def test_the_account_is_known_where_the_source_gives_it(desk, name, variables):
    desk.configure(SETUPS[name], **variables)
    assert desk.resolve().account_id == ACCOUNT


@pytest.mark.parametrize("name", REMOTE)
def test_resolving_leaves_no_connection_behind(desk, name):
    desk.configure(REMOTE[name])
    desk.resolve()
    end = time.monotonic() + 5
    while desk.services.open_connections and time.monotonic() < end:
        time.sleep(0.01)
    assert desk.services.open_connections == 0


# --- the environment's keys ----------------------------------------------------------------------

DATES = {
    "2026-01-02T04:04:05Z": NOW + 3600,
    "2026-01-02T04:04:05+00:00": NOW + 3600,
    "2026-01-02T05:04:05+01:00": NOW + 3600,
    "2026-01-02T04:04:05.500Z": NOW + 3600.5,
    "2026-01-02T04:04:05.5Z": NOW + 3600.5,
    "2026-01-02T04:04:05.123456789Z": NOW + 3600.1,
    "2026-01-02T04:04:05+0000": NOW + 3600,
}


@pytest.mark.parametrize(("text", "seconds"), DATES.items(), ids=DATES.keys())
def test_the_keys_in_the_environment_may_have_an_end(desk, text, seconds):
    desk.configure(CHAIN["environment"], AWS_CREDENTIAL_EXPIRATION=text)
    assert desk.resolve().expires_at == pytest.approx(seconds, abs=1)


@pytest.mark.parametrize("text", ["soon", "1767326645", "2026-13-02T04:04:05Z", "2026-01-02\n"])
def test_an_end_in_the_environment_that_is_no_date_is_an_error(desk, failing, text):
    desk.configure(CHAIN["environment"], AWS_CREDENTIAL_EXPIRATION=text)
    failing(desk.resolve, BROKEN, "(?i)environment.*expiration")


# --- roles ---------------------------------------------------------------------------------------


def chain_of(*links: str) -> list[str]:
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


def roles_asked(desk: Desk) -> list[str]:
    """The last part of each role that was handed out by STS, in order; asserts that each request
    was signed by the credentials of the one before."""
    made = [each for each in desk.services.hand_outs if each.service == "sts"]
    for before, after in zip(made, made[1:]):
        assert after.signer == before.access_key_id
    return [each.role.rpartition("/")[2] for each in made]


# profiles, the first one is used: roles asked for, who signed the first request
SOURCES = {
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
}


@pytest.mark.parametrize("named", ["in code", "by AWS_PROFILE"])
@pytest.mark.parametrize(("links", "roles", "signer"), SOURCES.values(), ids=SOURCES.keys())
def test_a_role_is_assumed_with_the_credentials_of_its_source(desk, links, roles, signer, named):
    desk.configure(CHAIN["container"], CHAIN["IMDS"])
    desk.config("\n".join(chain_of(*links)))
    if signer == "AKIDenvironment":
        desk.environ.update(key_variables("environment"))
    if named == "by AWS_PROFILE" and signer != "AKIDenvironment":
        desk.environ["AWS_PROFILE"] = "a"
        credentials = desk.resolve()
    else:
        credentials = desk.resolve("a")
    assert roles_asked(desk) == roles
    assert desk.services.hand_outs[-len(roles)].signer.startswith(signer)
    assert credentials.access_key_id == desk.services.hand_outs[-1].access_key_id


def test_roles_may_be_as_deep_as_the_file_goes(desk):
    depth = 30
    desk.config("\n".join(chain_of(*(f"p{i}:p{i + 1}" for i in range(depth)), f"p{depth}!")))
    desk.resolve("p0")
    assert roles_asked(desk) == [f"p{i}" for i in reversed(range(depth))]


@pytest.mark.parametrize("name", ["web identity", "SSO", "process"])
def test_the_source_of_a_role_may_be_any_other_kind_of_profile(desk, name):
    desk.configure(PROFILE[name])
    desk.config("\n".join([(desk.home / ".aws/config").read_text(), *chain_of("a:x")]))
    credentials = desk.resolve("a")
    made = desk.services.hand_outs[-1]
    assert (made.access_key_id, made.role) == (credentials.access_key_id, f"{ROLES}a")
    signer = Credentials(made.signer, "hush")
    assert desk.origin(signer) == PROFILE[name].origin


@pytest.mark.parametrize("name", PROFILE)
def test_as_a_source_a_profile_s_own_keys_come_first(desk, name):
    desk.configure(PROFILE[name], PROFILE["static keys"])
    desk.config("\n".join([(desk.home / ".aws/config").read_text(), *chain_of("a:x")]))
    desk.resolve("a")
    assert [made.signer for made in desk.services.hand_outs] == ["AKIDstatic"]


@pytest.mark.parametrize("where", ["credentials", "config"])
def test_a_profile_with_a_role_itself_as_source_and_keys_signs_as_the_role(desk, where):
    desk.config("\n".join(chain_of("x:x!" if where == "config" else "x:x")))
    if where == "credentials":
        desk.write(".aws/credentials", "[x]\n" + key_lines("base"))
    desk.environ["AWS_PROFILE"] = "x"
    with desk.client() as client:
        client.invoke_endpoint_async(**CALL)
        assert key_id(client) == desk.services.hand_outs[0].access_key_id
    assert desk.services.hand_outs[0].signer == "AKIDbase"


def test_the_three_keys_of_a_source_never_mix_two_files(desk):
    desk.services.accounts["AKIDstatic"] = Account(secret_of("static"))
    desk.config("\n".join([*chain_of("x:x"), key_lines("base"), "aws_session_token = hush"]))
    desk.write(".aws/credentials", "[x]\n" + key_lines("static"))
    desk.resolve("x")
    assert desk.services.hand_outs[0].signer == "AKIDstatic"
    assert desk.services.requests[0].header("x-amz-security-token") is None


PARAMETERS = {
    # line in the profile: parameter of the request
    "external_id = a/b+c:d=e@f": ("ExternalId", "a/b+c:d=e@f"),
    "duration_seconds = 901": ("DurationSeconds", "901"),
    "role_session_name = me@work": ("RoleSessionName", "me@work"),
}


@pytest.mark.parametrize(("line", "parameter"), PARAMETERS.items(), ids=PARAMETERS.keys())
def test_what_the_profile_says_of_a_role_is_sent(desk, line, parameter):
    role = PROFILE["role"]
    desk.configure(role._replace(lines=f"{role.lines}{line}\n"))
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


def test_the_environment_may_name_the_session_of_its_web_identity(desk):
    desk.configure(CHAIN["web identity"], AWS_ROLE_SESSION_NAME="job-7")
    desk.resolve()
    assert desk.services.hand_outs[0].parameters["RoleSessionName"] == "job-7"


LOOPS = {
    "of one": (["a:a"], "a.*a"),
    "of two": (["a:b", "b:a"], "a.*b.*a"),
    "of three": (["a:b", "b:c", "c:a"], "a.*b.*c.*a"),
    "further down": (["a:b", "b:c", "c:d", "d:c"], "c.*d.*c"),
    "of one, further down": (["a:b", "b:b"], "b.*b"),
}


@pytest.mark.parametrize(("links", "loop"), LOOPS.values(), ids=LOOPS.keys())
def test_a_loop_of_sources_is_an_error_that_prints_the_loop(desk, failing, links, loop):
    long_names = [re.sub("[a-d]", r"p-\g<0>", text) for text in (*links, loop)]
    desk.config("\n".join(chain_of(*long_names[:-1])))
    failing(lambda: desk.resolve("p-a"), BROKEN, long_names[-1])
    assert desk.services.requests == []


# what is wrong: (lines of profile x, what the error says)
BAD_PROFILES = {
    "a role without a source": (f"role_arn = {ROLE}", "source_profile"),
    "both kinds of source": (
        f"role_arn = {ROLE}\nsource_profile = base\ncredential_source = Environment",
        "source_profile.*credential_source|credential_source.*source_profile",
    ),
    "a source that is not there": (f"role_arn = {ROLE}\nsource_profile = nobody", "nobody"),
    "a source without credentials": (f"role_arn = {ROLE}\nsource_profile = empty", "empty"),
    "a source with half a pair": (f"role_arn = {ROLE}\nsource_profile = half", "half.*no aws_"),
    "an unknown credential source": (
        f"role_arn = {ROLE}\ncredential_source = Oracle",
        "credential_source.*Environment, Ec2InstanceMetadata, EcsContainer",
    ),
    "a credential source in the wrong case": (
        f"role_arn = {ROLE}\ncredential_source = environment",
        "Environment",
    ),
    "nothing in the environment": (
        f"role_arn = {ROLE}\ncredential_source = Environment",
        "(?i)environment",
    ),
    "no container": (f"role_arn = {ROLE}\ncredential_source = EcsContainer", "(?i)container"),
    "no instance": (
        f"role_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata",
        "(?i)metadata|imds",
    ),
    "a web identity without a role": ("web_identity_token_file = {home}/web-token", "role_arn"),
    "a web identity without a role, beside keys": (
        "web_identity_token_file = {home}/web-token\n" + key_lines("static"),
        "role_arn",
    ),
    "a token file that is not there": (
        f"role_arn = {ROLE}\nweb_identity_token_file = {{home}}/nothing",
        "home of a user/nothing",
    ),
    "a token file that is a directory": (
        f"role_arn = {ROLE}\nweb_identity_token_file = {{home}}",
        "home of a user",
    ),
    "SSO without a section": ("sso_session = nobody\n" + SSO_ROLE, "nobody"),
    "SSO without a region": ("sso_session = bare\n" + SSO_ROLE, "sso_region"),
    "SSO without an account": ("sso_session = corp\nsso_role_name = Reader", "sso_account_id"),
    "SSO without a role": (f"sso_session = corp\nsso_account_id = {ACCOUNT}", "sso_role_name"),
    "legacy SSO without a region": (f"sso_start_url = {START_URL}\n" + SSO_ROLE, "sso_region"),
    "a program that is not there": (
        "credential_process = /no/such/program --for me",
        "credential_process.*/no/such/program|/no/such/program.*credential_process",
    ),
    "a quote that does not end": ("credential_process = program 'hunter2", "credential_process"),
    "half a pair": ("aws_access_key_id = AKIDhalf", "no aws_secret_access_key"),
}
MORE_SECTIONS = (
    "[profile base]\n"
    + key_lines("base")
    + "[profile empty]\nregion = us-east-1\n[profile half]\naws_secret_access_key = hunter2\n"
    + SSO_SESSION
    + f"[sso-session bare]\nsso_start_url = {START_URL}\n"
)


@pytest.mark.parametrize(("lines", "says"), BAD_PROFILES.values(), ids=BAD_PROFILES.keys())
def test_a_profile_that_is_configured_and_broken_is_an_error_and_not_passed_over(
    desk, failing, lines, says
):
    desk.configure(CHAIN["container"])
    if "EcsContainer" in lines:
        del desk.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    desk.config(f"[profile x]\n{lines}\n{MORE_SECTIONS}")
    desk.environ["AWS_PROFILE"] = "x"
    failing(desk.resolve, BROKEN, says, "'x'|'half'|x ->")
    assert desk.services.requests == []


def test_a_duration_that_is_no_number_is_an_error(desk, failing):
    role = PROFILE["role"]
    desk.configure(role._replace(lines=f"{role.lines}duration_seconds = long\n"))
    failing(desk.resolve, BROKEN, "(?i)duration_?seconds")
    assert desk.services.hand_outs == []


def test_the_error_of_a_profile_names_file_and_profile(desk, failing):
    desk.config("[profile x-1]\nsso_session = corp\nsso_role_name = Reader\n" + SSO_SESSION)
    path = str(desk.home / ".aws")
    error = failing(lambda: desk.resolve("x-1"), BROKEN, "x-1", "sso_account_id")
    assert path in str(error).replace("/.aws", os.sep + ".aws")


def test_a_role_that_may_not_be_assumed_says_so_in_sts_s_words(desk, failing):
    desk.configure(PROFILE["role"])
    desk.services.demands[ROLE] = {"ExternalId": "other"}
    failing(desk.resolve, CredentialsError, "AccessDenied", "not authorized", "profile '?x'?")
    assert len(desk.services.requests) == 1


# --- a second factor -----------------------------------------------------------------------------

SERIAL = f"arn:aws:iam::{ACCOUNT}:mfa/me"
WITH_MFA = PROFILE["role"]._replace(lines=f"{PROFILE['role'].lines}mfa_serial = {SERIAL}\n")


def test_a_second_factor_is_asked_for_and_sent(desk):
    desk.configure(WITH_MFA)
    questions = []

    def prompt(*arguments: Any) -> str:
        questions.append(" ".join(map(str, arguments)))
        return "123456"

    with desk.client(prompt=prompt) as client:
        client.invoke_endpoint_async(**CALL)
        client.invoke_endpoint_async(**CALL)
    parameters = desk.services.hand_outs[0].parameters
    assert (parameters["SerialNumber"], parameters["TokenCode"]) == (SERIAL, "123456")
    assert len(questions) == 1
    assert SERIAL in questions[0]


@pytest.mark.parametrize("code", ["", "hunter2", "123456&Action=x", "１２３４５６"])
def test_a_code_that_cannot_be_one_gets_no_credentials(desk, failing, code):
    desk.configure(WITH_MFA)
    with desk.client(prompt=lambda *arguments: code) as client:
        failing(lambda: client.explain(**CALL))
    assert [received for received in desk.services.requests if b"Action=x" in received.body] == []
    assert desk.services.hand_outs == []


def test_nobody_to_ask_for_a_second_factor_is_an_error_that_names_it(desk):
    desk.configure(WITH_MFA)
    said = resolved_elsewhere(desk, stdin=subprocess.DEVNULL, start_new_session=True)
    assert SERIAL in said
    assert desk.services.requests == []


# --- web identity --------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_line_break_at_the_end_of_a_token_file_is_not_sent(desk, end):
    desk.configure(CHAIN["web identity"])
    desk.write("web-token", cs.WEB_TOKEN + end)
    desk.resolve()
    assert desk.services.hand_outs[0].parameters["WebIdentityToken"] == cs.WEB_TOKEN


BAD_TOKENS = {
    "empty": b"",
    "only a line break": b"\r\n",
    "with a line break inside": b"hunter2\r\nX-Injected: hunter3",
    "with NUL": b"hunter2\0hunter3",
    "not UTF-8": b"hunter2\xff\xfehunter3",
    "beyond ASCII": "hunter2é".encode(),
    "of 2 MiB": b"hunter2 " * 262_144,
}
TOKEN_FILES = {
    # whose file: setup, variable that names it
    "web identity": CHAIN["web identity"],
    "container": CHAIN["container"]._replace(
        variables={
            **CHAIN["container"].variables,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{home}/web-token",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Bearer hunter4",
        }
    ),
}


@pytest.mark.parametrize("setup", TOKEN_FILES.values(), ids=TOKEN_FILES.keys())
@pytest.mark.parametrize("content", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_a_file_that_cannot_hold_a_token_is_named_and_nothing_is_sent(
    desk, failing, setup, content
):
    desk.configure(setup)
    desk.write("web-token", content)
    failing(desk.resolve, BROKEN, "web-token")
    assert desk.services.requests == []


@pytest.mark.parametrize("setup", TOKEN_FILES.values(), ids=TOKEN_FILES.keys())
def test_a_token_file_that_is_not_there_is_an_error_and_nothing_is_sent(desk, failing, setup):
    desk.configure(setup, **CHAIN["IMDS"].variables)
    (desk.home / "web-token").unlink()
    failing(desk.resolve, BROKEN, "web-token")
    assert desk.services.requests == []


if os.name == "posix":

    @pytest.mark.parametrize("setup", TOKEN_FILES.values(), ids=TOKEN_FILES.keys())
    @pytest.mark.parametrize("size", [10 * 2**30, None], ids=["10 GiB, sparse", "/dev/zero"])
    def test_a_token_file_without_end_is_refused(desk, failing, setup, size):
        desk.configure(setup)
        path = desk.home / "web-token"
        if size is None:
            path.unlink()
            path.symlink_to("/dev/zero")
        else:
            os.truncate(path, size)
        failing(desk.resolve, BROKEN, "web-token")
        assert desk.services.requests == []

    @pytest.mark.parametrize("size", [10 * 2**30, None], ids=["10 GiB, sparse", "/dev/zero"])
    def test_an_sso_cache_without_end_is_refused(desk, failing, size):
        desk.configure(PROFILE["SSO"])
        path = desk.sso_cache("corp")
        if size is None:
            path.unlink()
            path.symlink_to("/dev/zero")
        else:
            os.truncate(path, size)
        failing(desk.resolve, BROKEN, "(?i)sso")
        assert desk.services.requests == []


def test_the_token_file_is_read_again_for_each_request(desk):
    desk.configure(CHAIN["web identity"])
    desk.services.web_tokens = {"first-token", "second-token"}
    desk.write("web-token", "first-token\n")
    with desk.client() as client:
        key_id(client)
        desk.write("web-token", "second-token\n")
        desk.clock.advance(3600)
        key_id(client)
    tokens = [made.parameters["WebIdentityToken"] for made in desk.services.hand_outs]
    assert tokens == ["first-token", "second-token"]


def test_a_token_file_in_the_environment_without_a_role_is_an_error(desk, failing):
    desk.configure(CHAIN["web identity"], CHAIN["container"], AWS_ROLE_ARN="")
    failing(desk.resolve, BROKEN, "AWS_ROLE_ARN")
    assert desk.services.requests == []


def test_a_role_in_the_environment_without_a_token_file_says_nothing(desk):
    desk.configure(CHAIN["container"], AWS_ROLE_ARN=ROLE)
    assert desk.origin(desk.resolve()) == "container"


def test_a_token_that_sts_does_not_know_is_an_error_in_its_words(desk, failing):
    desk.configure(CHAIN["web identity"])
    desk.services.web_tokens.clear()
    failing(desk.resolve, CredentialsError, "InvalidIdentityToken", "(?i)web.?identity")


# --- SSO -----------------------------------------------------------------------------------------

SSO_SETUPS = {"session": (PROFILE["SSO"], "corp"), "legacy": (LEGACY_SSO, START_URL)}
SSO_KINDS = pytest.mark.parametrize(("setup", "cache"), SSO_SETUPS.values(), ids=SSO_SETUPS.keys())
BAD_CACHES: dict[str, Callable[[Desk, str], Any]] = {
    "missing": lambda desk, name: desk.sso_cache(name).unlink(),
    "of another session": lambda desk, name: desk.sso_cache(name).rename(desk.home / "other"),
    "expired": lambda desk, name: desk.sso_token(name, -1),
    "expired right now": lambda desk, name: desk.sso_token(name, 0),
    "without a token": lambda desk, name: desk.sso_token(name, accessToken=None),
    "without an end": lambda desk, name: desk.sso_token(name, expiresAt=None),
    "an end that is no date": lambda desk, name: desk.sso_token(name, expiresAt="soon"),
    "not JSON": lambda desk, name: desk.sso_cache(name).write_text("hunter2"),
    "not an object": lambda desk, name: desk.sso_cache(name).write_text('["hunter2"]'),
    "10,000 deep": lambda desk, name: desk.sso_cache(name).write_text("[" * 10_000),
    "not UTF-8": lambda desk, name: desk.sso_cache(name).write_bytes(b"\xff\xfe"),
    "a token that is a number": lambda desk, name: desk.sso_token(name, accessToken=7),
    "a token with a line break": lambda desk, name: desk.sso_token(
        name, accessToken="hunter2\r\nX-Injected: hunter3"
    ),
    "a token beyond ASCII": lambda desk, name: desk.sso_token(name, accessToken="hunter2é"),
}


@SSO_KINDS
@pytest.mark.parametrize("spoil", BAD_CACHES.values(), ids=BAD_CACHES.keys())
def test_an_sso_token_that_is_no_good_says_how_to_log_in_and_sends_nothing(
    desk, failing, setup, cache, spoil
):
    desk.configure(setup, CHAIN["container"])
    spoil(desk, cache)
    failing(desk.resolve, CredentialsError, "aws sso login --(profile x|sso-session corp)")
    assert desk.services.requests == []


@SSO_KINDS
def test_an_sso_token_that_the_portal_does_not_know_says_how_to_log_in(
    desk, failing, setup, cache
):
    desk.configure(setup)
    desk.services.sso_tokens.clear()
    failing(desk.resolve, CredentialsError, "aws sso login --(profile x|sso-session corp)")
    assert len(desk.services.requests) == 1


@SSO_KINDS
def test_the_portal_is_asked_for_the_role_with_the_token_and_without_a_signature(
    desk, setup, cache
):
    lines = setup.lines.replace("Reader", "Read & write=all/é")
    desk.configure(setup._replace(lines=lines))
    desk.resolve()
    (received,) = desk.services.requests_to("sso")
    assert desk.services.hand_outs[0].parameters == {
        "role_name": "Read & write=all/é",
        "account_id": ACCOUNT,
    }
    assert received.header("x-amz-sso_bearer_token") == cs.SSO_TOKEN
    assert received.header("authorization") is None


@SSO_KINDS
def test_a_role_that_the_user_does_not_have_is_an_error_in_the_portal_s_words(
    desk, failing, setup, cache
):
    desk.configure(setup._replace(lines=setup.lines.replace("Reader", "Nobody")))
    failing(desk.resolve, CredentialsError, "ForbiddenException|No access", "profile '?x'?")


@SSO_KINDS
def test_the_cache_is_read_and_never_written(desk, setup, cache):
    desk.configure(setup)
    directory = desk.sso_cache(cache).parent

    def state() -> list[tuple[str, bytes, int]]:
        return sorted(
            (path.name, path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()
        )

    before = state()
    desk.sso_cache(cache).chmod(0o400)
    desk.resolve()
    assert state() == before


# --- a process -----------------------------------------------------------------------------------


def printing(desk: Desk, document: object, script: str = "") -> None:
    """Makes the process print this; a str as it is."""
    text = document if isinstance(document, str) else json.dumps(document)
    desk.write("credentials.json", text)
    if script:
        desk.write("process.py", script)
    desk.configure(PROFILE["process"])


def test_a_process_may_say_everything_about_its_credentials(desk):
    more = {
        "SessionToken": "hush/token",
        "Expiration": "2026-01-02T04:04:05Z",
        "AccountId": ACCOUNT,
        "Comment": "ignored",
    }
    printing(desk, {**PROCESS_DOCUMENT, **more})
    expected = ("AKIDprocess", secret_of("process"), "hush/token", NOW + 3600, ACCOUNT)
    assert desk.resolve() == Credentials(*expected)


def test_a_process_need_not_give_more_than_a_pair(desk):
    printing(desk, PROCESS_DOCUMENT)
    assert desk.resolve() == Credentials("AKIDprocess", secret_of("process"))


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in PROCESS_DOCUMENT.items() if key != name}


BAD_OUTPUTS = {
    "nothing": ("", "credential_process"),
    "not JSON": ("hunter2", "JSON"),
    "not JSON, with a secret": (json.dumps(PROCESS_DOCUMENT)[:-1], "JSON"),
    "not an object": (["hunter2"], "credential_process"),
    "10,000 deep": ('{"Version":' * 10_000, "credential_process"),
    "no version": (without("Version"), "Version"),
    "version 2": ({**PROCESS_DOCUMENT, "Version": 2}, "Version"),
    "version as text": ({**PROCESS_DOCUMENT, "Version": "one"}, "Version"),
    "no key id": (without("AccessKeyId"), "AccessKeyId|access_key_id"),
    "no secret": (without("SecretAccessKey"), "SecretAccessKey|secret_access_key"),
    "a secret that is a number": (
        {**PROCESS_DOCUMENT, "SecretAccessKey": 12},
        "SecretAccessKey|secret_access_key",
    ),
    "a secret with a line break": (
        {**PROCESS_DOCUMENT, "SecretAccessKey": "hunter2\nhunter3"},
        "SecretAccessKey|secret_access_key",
    ),
    "an end that is no date": ({**PROCESS_DOCUMENT, "Expiration": "soon"}, "(?i)expiration"),
    "an end that is a number": ({**PROCESS_DOCUMENT, "Expiration": 5}, "(?i)expir|ended"),
    "already expired": (
        {**PROCESS_DOCUMENT, "Expiration": "2026-01-02T03:04:04Z"},
        "(?i)expired|ended",
    ),
}


@pytest.mark.parametrize(("document", "says"), BAD_OUTPUTS.values(), ids=BAD_OUTPUTS.keys())
def test_what_a_process_may_not_print_is_an_error_that_does_not_quote_it(
    desk, failing, document, says
):
    printing(desk, document)
    failing(desk.resolve, CredentialsError, says, "profile '?x'?")


def test_a_process_that_fails_is_quoted_from_its_error_output_alone(desk, failing):
    printing(
        desk,
        PROCESS_DOCUMENT,
        "import sys; print(open(__file__[:-10] + 'credentials.json').read())\n"
        "sys.exit('please run corp-login first')",
    )
    failing(desk.resolve, CredentialsError, "please run corp-login first", "credential_process")


def test_a_process_is_no_shell_s(desk):
    words = ["a b", "x;touch", "$HOME", "`id`", "&&", "|", ">", "*", "~", "é"]
    script = (
        "import json, sys\n"
        f"with open({str(desk.home / 'argv.json')!r}, 'w') as file:\n"
        "    json.dump(sys.argv[1:], file)\n"
        "print(open(__file__[:-10] + 'credentials.json').read())\n"
    )
    printing(desk, PROCESS_DOCUMENT, script)
    quoted = " ".join(f'"{word}"' if " " in word else word for word in words)
    lines = desk.filled(f"credential_process = {{process}} {quoted}")
    desk.config(f"[profile x]\n{lines}\n")
    desk.resolve()
    assert json.loads((desk.home / "argv.json").read_text()) == words


@pytest.mark.slow
def test_a_process_that_does_not_end_is_ended_after_a_minute(desk, failing):
    script = (
        "import os, time\n"
        f"with open({str(desk.home / 'pid')!r}, 'w') as file:\n"
        "    file.write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    printing(desk, PROCESS_DOCUMENT, script)
    failing(desk.resolve, CredentialsError, "no end after 60 s", "credential_process")
    if os.name == "posix":
        with pytest.raises(ProcessLookupError):
            os.kill(int((desk.home / "pid").read_text()), 0)


def resolved_elsewhere(desk: Desk, **options: Any) -> str:
    """What another interpreter prints when it resolves: the key id, or the error."""
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import smasync\n"
        "environ = json.load(open(sys.argv[2]))\n"
        "try: print(smasync.resolve_credentials(environ=environ).access_key_id)\n"
        "except smasync.CredentialsError as error: print(error)"
    )
    path = desk.write("environ.json", json.dumps(desk.environ))
    finished = subprocess.run(
        [sys.executable, "-c", program, str(MODULE.parent), path],
        capture_output=True, text=True, timeout=20, **options,
    )  # fmt: skip
    assert finished.stderr == ""
    return finished.stdout


def test_a_process_is_not_given_our_input(desk):
    script = (
        "import json, sys\n"
        "text = json.load(open(__file__[:-10] + 'credentials.json'))\n"
        "text['AccessKeyId'] += str(len(sys.stdin.read()) if sys.stdin else 0)\n"
        "print(json.dumps(text))\n"
    )
    printing(desk, PROCESS_DOCUMENT, script)
    assert resolved_elsewhere(desk, input="for others") == "AKIDprocess0\n"


# --- a container ---------------------------------------------------------------------------------


class Recorder:
    """A transport that plays every service well, and keeps what it was sent and with what
    timeout; `answers` come first, errors being raised."""

    XML = (
        "<R xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><{0}Result><Credentials>"
        "<AccessKeyId>ASIAfake</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>"
        "<SessionToken>hush</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        "</Credentials></{0}Result></R>"
    )

    def __init__(self, *answers: Response | Exception) -> None:
        self.answers, self.requests, self.timeouts = list(answers), [], []

    def __call__(self, request: Request, *, timeout: float | None = None) -> Response:
        self.requests.append(request)
        self.timeouts.append(timeout)
        answer = self.answers.pop(0) if self.answers else self.played(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def played(self, request: Request) -> Response:
        path = urlsplit(request.url).path
        if request.method == "POST":
            (action,) = self.form()["Action"]
            return Response(200, (), self.XML.format(action).encode())
        if path == "/federation/credentials":
            names = ("accessKeyId", "secretAccessKey", "sessionToken")
            role = {**dict(zip(names, ["ASIAfake", "hush", "hush"])), "expiration": 4e12}
            return Response(200, (), json.dumps({"roleCredentials": role}).encode())
        if path == "/latest/api/token":
            return Response(200, (), b"hush")
        if path.endswith("/"):
            return Response(200, (), b"role")
        names = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration", "Code")
        values = ["ASIAfake", "hush", "hush", "2099-01-01T00:00:00Z", "Success"]
        return Response(200, (), json.dumps(dict(zip(names, values))).encode())

    def form(self) -> dict[str, list[str]]:
        """The parameters of the last request."""
        body = self.requests[-1].body
        assert isinstance(body, bytes)
        return parse_qs(body.decode(), strict_parsing=True)

    def urls(self) -> list[str]:
        return [request.url for request in self.requests]

    def origin(self) -> str:
        """Scheme and host that all requests went to."""
        (found,) = {"{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in self.urls()}
        return found


BARE = {"AWS_EC2_METADATA_DISABLED": "true"}
RELATIVE, FULL = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN, TOKEN_FILE = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
CONTAINERS = {
    # variables: the URL that is asked
    "relative": ({RELATIVE: "/v2/credentials/x-1"}, "http://169.254.170.2/v2/credentials/x-1"),
    "relative with a query": ({RELATIVE: "/get?id=x"}, "http://169.254.170.2/get?id=x"),
    "relative wins": ({RELATIVE: "/a", FULL: "https://b/"}, "http://169.254.170.2/a"),
    "EKS pod identity": (
        {FULL: "http://169.254.170.23/v1/credentials"},
        "http://169.254.170.23/v1/credentials",
    ),
    "EKS pod identity, IPv6": (
        {FULL: "http://[fd00:ec2::23]/v1/credentials"},
        "http://[fd00:ec2::23]/v1/credentials",
    ),
    "ECS": ({FULL: "http://169.254.170.2/x"}, "http://169.254.170.2/x"),
    "loopback": ({FULL: "http://127.0.0.1:9911/x?y=z"}, "http://127.0.0.1:9911/x?y=z"),
    "loopback by name": ({FULL: "http://localhost:9911/x"}, "http://localhost:9911/x"),
    "loopback, IPv6": ({FULL: "http://[::1]:9911/x"}, "http://[::1]:9911/x"),
    "HTTPS anywhere": ({FULL: "https://example.com/x"}, "https://example.com/x"),
}


def fake_resolve(
    transport: Recorder, environ: dict[str, str], profile_name: str | None = None, **options: Any
) -> Credentials:
    return resolve_credentials(
        profile_name,
        environ={**BARE, **environ},
        transport=transport,
        clock=lambda: NOW,
        **options,
    )


@pytest.mark.parametrize(("environ", "url"), CONTAINERS.values(), ids=CONTAINERS.keys())
def test_a_container_is_asked_at_its_address(environ, url):
    transport = Recorder()
    fake_resolve(transport, environ)
    (request,) = transport.requests
    assert (request.method, request.url, request.body) == ("GET", url, b"")


REFUSED_URIS = {
    "another host": "http://evil.example/x",
    "a name that begins with localhost": "http://localhost.evil.example/x",
    "a name that begins with localhost, at once": "http://localhostevil.example/x",
    "a name that begins with an address": "http://127.0.0.1.evil.example/x",
    "a name that ends with localhost": "http://evil-localhost/x",
    "a user": "http://127.0.0.1@evil.example/x",
    "a user and a password": "http://127.0.0.1:80@evil.example/x",
    "a user before the good host": "http://hunter2:hunter3@127.0.0.1/x",
    "a user with HTTPS": "https://hunter2:hunter3@evil.example/x",
    "a back slash": "http://evil.example\\@127.0.0.1/x",
    "a back slash behind": "http://127.0.0.1\\@evil.example/x",
    "a fragment": "http://evil.example#@127.0.0.1/x",
    "a query for a host": "http://evil.example?@127.0.0.1/",
    "the instance's metadata": "http://169.254.169.254/x",
    "the next address": "http://169.254.170.3/x",
    "every address": "http://0.0.0.0/x",
    "a private address": "http://10.0.0.1/x",
    "an address mapped into IPv6": "http://[::ffff:10.0.0.1]/x",
    "an address as one number": "http://2852039166/x",
    "an address in octal": "http://0251.0376.0252.0002/x",
    "another scheme": "ftp://127.0.0.1/x",
    "a file": "file:///etc/passwd",
    "no scheme": "127.0.0.1/x",
    "no host": "http:///x",
    "a line break": "http://127.0.0.1/x\r\nX-Injected: 1",
    "a space": "http://127.0.0.1/x HTTP/1.1",
    "a tab in the host": "http://127.0.\t0.1/x",
    "beyond ASCII": "http://127.0.0.1/é",
    "a full-width dot": "http://127.0.0．1/x",
    "a port that is none": "http://127.0.0.1:99999/x",
    "a port that is a name": "http://127.0.0.1:http/x",
    "brackets that do not end": "http://[::1/x",
}
REFUSED_PATHS = {
    "a user": "@evil.example/x",
    "a name": ".evil.example/x",
    "a port": ":8080/x",
    "a number": "3/x",
    "no slash": "v2/credentials",
    "a URL": "http://evil.example/x",
    "a line break": "/x\r\nHost: evil.example",
    "a space": "/x HTTP/1.1",
    "beyond ASCII": "/é",
    "white space before": " /x",
}
REFUSED = [
    *((f"full: {name}", {FULL: uri}) for name, uri in REFUSED_URIS.items()),
    *((f"relative: {name}", {RELATIVE: path}) for name, path in REFUSED_PATHS.items()),
    *(
        (f"token: {token!r}", {RELATIVE: "/x", TOKEN: token})
        for token in ("hunter2\r\nX-Injected: 1", "hunter2\n", "hunter2\0", "hunter2\x7f")
    ),
]


@pytest.mark.parametrize("environ", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_hostile_container_setting_is_refused_before_any_request(failing, environ):
    transport = Recorder()
    failing(lambda: fake_resolve(transport, environ), BROKEN, "AWS_CONTAINER_")
    assert transport.requests == []


AUTHORITIES = st.text(st.sampled_from("localhst127.0@:[]\\/?#evi%\t \r\n"), max_size=24)
ALLOWED = {"127.0.0.1", "::1", "localhost", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"}


@settings(max_examples=400)
@given(AUTHORITIES, st.sampled_from(["http://", "http://127.0.0.1", "http://localhost"]))
def test_whatever_the_full_uri_says_plain_http_goes_to_no_other_host(text, begin):
    transport = Recorder()
    with contextlib.suppress(*BROKEN):
        fake_resolve(transport, {FULL: begin + text})
    for url in transport.urls():
        host = urlsplit(url).hostname or ""
        assert host in ALLOWED or re.fullmatch(r"127\.\d+\.\d+\.\d+", host)
        assert not set("@\\\t\r\n ").intersection(urlsplit(url).netloc)


@settings(max_examples=400)
@given(st.text(st.characters(max_codepoint=0x17F), max_size=20), st.sampled_from(["", "/"]))
def test_whatever_the_relative_uri_says_the_host_stays_the_same(text, begin):
    transport = Recorder()
    with contextlib.suppress(*BROKEN):
        fake_resolve(transport, {RELATIVE: begin + text})
    for url in transport.urls():
        assert url.startswith("http://169.254.170.2/")
        assert urlsplit(url).netloc == "169.254.170.2"
        assert url.isascii() and url.isprintable() and " " not in url


AUTHORIZATIONS = {
    # variables: what the endpoint is sent
    "none": ({}, None),
    "token": ({TOKEN: "Basic hush"}, "Basic hush"),
    "file": ({TOKEN_FILE: "{home}/pod-token"}, "hush-from-file"),
    "file before token": ({TOKEN: "Basic hush", TOKEN_FILE: "{home}/pod-token"}, "hush-from-file"),
    "empty ones": ({TOKEN: "", TOKEN_FILE: ""}, None),
}


@pytest.mark.parametrize(("variables", "sent"), AUTHORIZATIONS.values(), ids=AUTHORIZATIONS.keys())
def test_the_container_is_shown_the_token_or_the_token_of_the_file(desk, variables, sent):
    desk.write("pod-token", "hush-from-file")
    desk.configure(CHAIN["container"], **variables)
    desk.services.container_authorization = sent
    desk.resolve()
    (received,) = desk.services.requests_to("container")
    assert received.header("authorization") == sent
    assert received.header("accept") == "application/json"


def test_the_container_s_token_file_is_read_again_for_each_request(desk):
    desk.configure(CHAIN["container"], **{TOKEN_FILE: "{home}/pod-token"})
    with desk.client() as client:
        for token in ("hush-one", "hush-two"):
            desk.write("pod-token", token)
            desk.services.container_authorization = token
            key_id(client)
            desk.clock.advance(3600)
    assert len(desk.services.hand_outs) == 2


def test_a_token_that_the_container_refuses_is_an_error(desk, failing):
    desk.configure(CHAIN["container"], **{TOKEN: "Basic hush", **IMDS_ON})
    desk.services.container_authorization = "Basic other"
    failing(desk.resolve, CredentialsError, "401|Unauthorized", "(?i)container")
    assert desk.asked() == {"container"}


@pytest.mark.parametrize("name", ["container", "IMDS"])
def test_no_proxy_is_asked_for_what_is_on_this_machine(desk, name):
    with Emulator() as proxy:
        variables = dict.fromkeys(["HTTP_PROXY", "http_proxy", "ALL_PROXY"], proxy.url)
        desk.configure(CHAIN[name], **variables)
        desk.resolve()
        assert proxy.requests == []


# --- the instance metadata service ---------------------------------------------------------------

IMDS_PATH = "/latest/meta-data/iam/security-credentials"


def imds_lines(desk: Desk) -> list[str]:
    """Method, path and whether there was a token, of each request to IMDS."""
    return [
        f"{received.method} {received.target.replace(IMDS_PATH, '…')}"
        + (" with token" if received.header("x-aws-ec2-metadata-token") else "")
        for received in desk.services.requests_to("imds")
    ]


def test_imds_is_asked_with_a_token_and_at_the_extended_path_first(desk):
    desk.configure(CHAIN["IMDS"])
    desk.resolve()
    assert imds_lines(desk) == [
        "PUT /latest/api/token",
        "GET …-extended/ with token",
        "GET …-extended/instance-role with token",
    ]
    first = desk.services.requests[0]
    assert first.header("x-aws-ec2-metadata-token-ttl-seconds") == "21600"


def test_an_instance_without_the_extended_path_is_asked_at_the_old_one(desk):
    desk.configure(CHAIN["IMDS"])
    desk.services.imds_extended = False
    assert desk.resolve().account_id is None
    assert imds_lines(desk)[-2:] == ["GET …/ with token", "GET …/instance-role with token"]


@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("code", [404, 405])
def test_an_instance_that_knows_no_tokens_is_asked_without(desk, code, extended):
    desk.configure(CHAIN["IMDS"])
    desk.services.imds_token_status, desk.services.imds_v1 = code, True
    desk.services.imds_extended = extended
    desk.resolve()
    assert "with token" not in " ".join(imds_lines(desk))


def test_an_instance_whose_token_call_times_out_is_asked_without(desk):
    """As it happens in a container behind one hop too many."""
    desk.configure(CHAIN["IMDS"])
    desk.services.imds_v1 = True
    desk.services.fail_always("imds token", emu.stall(30))
    started = time.monotonic()
    desk.resolve()
    assert time.monotonic() - started < 8
    assert "with token" not in " ".join(imds_lines(desk))


V1_OFF = {
    "variable": ("", {"AWS_EC2_METADATA_V1_DISABLED": "true"}),
    "variable, upper case": ("", {"AWS_EC2_METADATA_V1_DISABLED": "TRUE"}),
    "profile": ("ec2_metadata_v1_disabled = true", {}),
}


@pytest.mark.parametrize("code", [404, 405])
@pytest.mark.parametrize(("lines", "variables"), V1_OFF.values(), ids=V1_OFF.keys())
def test_where_version_1_is_off_nothing_is_asked_without_a_token(
    desk, failing, lines, variables, code
):
    desk.configure(CHAIN["IMDS"]._replace(lines=lines), **variables)
    desk.services.imds_token_status, desk.services.imds_v1 = code, True
    failing(desk.resolve, CredentialsError, "(?i)imds|metadata")
    assert {line.split()[0] for line in imds_lines(desk)} == {"PUT"}


@pytest.mark.parametrize(("code", "says"), [(403, "(?i)disabled"), (400, "400")])
def test_a_token_call_that_is_refused_is_no_reason_to_go_on_without(desk, failing, code, says):
    desk.configure(CHAIN["IMDS"])
    desk.services.imds_token_status, desk.services.imds_v1 = code, True
    failing(desk.resolve, CredentialsError, says, "(?i)imds|metadata")
    assert imds_lines(desk) == ["PUT /latest/api/token"]


@pytest.mark.parametrize("after", [0, 1], ids=["the role's name", "the credentials"])
def test_a_token_that_is_refused_is_replaced(desk, after):
    desk.configure(CHAIN["IMDS"])
    desk.services.fail_next("imds", *[cs.slow(0.001)] * after, emu.status(401))
    desk.resolve()
    assert imds_lines(desk).count("PUT /latest/api/token") == 2


def test_tokens_that_are_always_refused_end_in_an_error(desk, failing):
    desk.configure(CHAIN["IMDS"])
    desk.services.fail_always("imds", emu.status(401))
    failing(desk.resolve, CredentialsError, "401", "(?i)imds|metadata")
    assert len(desk.services.requests) <= 9


def test_an_instance_without_a_role_is_not_configured(desk, failing):
    desk.configure(CHAIN["IMDS"])
    desk.services.imds_role = None
    failing(desk.resolve, CredentialsError, "(?i)imds|metadata", "(?i)role|404")


IMDS_OFF = {
    "true": {"AWS_EC2_METADATA_DISABLED": "true"},
    "True": {"AWS_EC2_METADATA_DISABLED": "True"},
}


@pytest.mark.parametrize("variables", IMDS_OFF.values(), ids=IMDS_OFF.keys())
def test_imds_can_be_switched_off(desk, failing, variables):
    desk.configure(CHAIN["IMDS"], **variables)
    failing(desk.resolve, CredentialsError, "AWS_EC2_METADATA_DISABLED")
    assert desk.services.requests == []


ENDPOINT, MODE = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
IMDS_PLACES = {
    # lines in the profile, variables: where IMDS is asked
    "nothing said": ("", {}, "http://169.254.169.254"),
    "IPv4": ("", {MODE: "IPv4"}, "http://169.254.169.254"),
    "IPv6": ("", {MODE: "IPv6"}, "http://[fd00:ec2::254]"),
    "ipv6": ("", {MODE: "ipv6"}, "http://[fd00:ec2::254]"),
    "endpoint": ("", {ENDPOINT: "http://127.0.0.1:99"}, "http://127.0.0.1:99"),
    "endpoint with a slash": ("", {ENDPOINT: "http://127.0.0.1:99/"}, "http://127.0.0.1:99"),
    "endpoint before mode": (
        "", {ENDPOINT: "http://127.0.0.1:99", MODE: "IPv6"}, "http://127.0.0.1:99"
    ),
    "profile's mode": (
        "ec2_metadata_service_endpoint_mode = IPv6", {}, "http://[fd00:ec2::254]"
    ),
    "profile's endpoint": (
        "ec2_metadata_service_endpoint = http://127.0.0.1:98", {}, "http://127.0.0.1:98"
    ),
    "variable before profile": (
        "ec2_metadata_service_endpoint = http://127.0.0.1:98",
        {ENDPOINT: "http://127.0.0.1:99"},
        "http://127.0.0.1:99",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "variables", "where"), IMDS_PLACES.values(), ids=IMDS_PLACES.keys()
)
def test_imds_is_asked_where_the_settings_say_with_short_timeouts(
    tmp_path, lines, variables, where
):
    (tmp_path / "config").write_text(f"[default]\n{lines}\n")
    environ = {"AWS_CONFIG_FILE": str(tmp_path / "config"), **variables}
    transport = Recorder()
    fake_resolve(transport, {**environ, "AWS_EC2_METADATA_DISABLED": "false"})
    assert transport.origin() == where
    assert [urlsplit(url).path[:8] for url in transport.urls()] == ["/latest/"] * 3
    assert all(timeout is not None and timeout <= 1 for timeout in transport.timeouts)


@pytest.mark.parametrize(
    "variables",
    [
        {MODE: "IPv5"},
        {ENDPOINT: "169.254.169.254"},
        {ENDPOINT: "http://hunter2:hunter3@evil.example"},
        {ENDPOINT: "http://127.0.0.1\r\n"},
        {"AWS_EC2_METADATA_DISABLED": "perhaps"},
    ],
    ids=str,
)
def test_a_malformed_setting_of_imds_is_an_error_before_any_request(failing, variables):
    transport = Recorder()
    environ = {"AWS_EC2_METADATA_DISABLED": "", **variables}
    failing(lambda: fake_resolve(transport, environ), BROKEN, "(?i)ec2_metadata")
    assert transport.requests == []


NOT_THERE = {
    "no way there": TransportError("no route", kind="connect", sent=False),
    "a time limit while connecting": TransportError("timeout", kind="timeout", sent=False),
}


@pytest.mark.parametrize("error", NOT_THERE.values(), ids=NOT_THERE.keys())
def test_a_machine_without_imds_is_told_so_after_few_tries(failing, error):
    transport = Recorder(*[error] * 20)
    failing(
        lambda: fake_resolve(transport, {"AWS_EC2_METADATA_DISABLED": ""}),
        CredentialsError,
        "(?i)imds|metadata",
        "169.254.169.254",
    )
    assert 1 <= len(transport.requests) <= 4


@pytest.mark.parametrize(
    "name", ["../../user-data", "a\r\nb", "a/b", "", "é", "x" * 5000, "a?b=c", "a#b", "a b"]
)
def test_no_name_of_a_role_leads_to_another_path(failing, name):
    token, role = Response(200, (), b"hush"), Response(200, (), name.encode())
    transport = Recorder(token, role)
    with contextlib.suppress(CredentialsError):
        fake_resolve(transport, {"AWS_EC2_METADATA_DISABLED": ""})
    assert len(transport.requests) >= 2
    for url in transport.urls()[2:]:
        assert re.fullmatch(r"/latest/meta-data/iam/[a-z-]+/[\w+=,.@%-]*", urlsplit(url).path)
        assert (urlsplit(url).query, urlsplit(url).fragment) == ("", "")
        assert ".." not in urlsplit(url).path.split("/")


def test_imds_that_could_not_get_the_role_says_why(desk, failing):
    desk.configure(CHAIN["IMDS"])
    refusal = b'{"Code": "AssumeRoleUnauthorizedAccess", "Message": "EC2 cannot assume the role"}'
    desk.services.fail_next("imds", cs.slow(0.001), cs.text(refusal))
    failing(desk.resolve, CredentialsError, "AssumeRoleUnauthorizedAccess")


def test_credentials_of_imds_stay_in_use_while_nobody_answers_there(desk):
    desk.configure(CHAIN["IMDS"])
    with Emulator() as closed:
        url = closed.url
    with desk.client() as client:
        first = key_id(client)
        good, desk.environ[ENDPOINT] = desk.environ[ENDPOINT], url
        for seconds in (3600 - 14 * 60, 5 * 60, 10 * 60):
            desk.clock.advance(seconds)
            assert key_id(client) == first
        desk.environ[ENDPOINT] = good
        desk.clock.advance(30 * 60)
        assert key_id(client) != first


def test_imds_is_asked_again_at_once_as_long_as_its_credentials_have_not_ended(desk):
    desk.configure(CHAIN["IMDS"])
    with desk.client() as client:
        first = key_id(client)
        desk.services.fail_always("imds", emu.status(403))
        desk.clock.advance(3600 - 14 * 60)
        assert key_id(client) == first
        desk.services.fail_always("imds", None)
        assert key_id(client) != first


# --- hosts ---------------------------------------------------------------------------------------

FIPS, DUAL = {"AWS_USE_FIPS_ENDPOINT": "true"}, {"AWS_USE_DUALSTACK_ENDPOINT": "true"}
PLACES = {
    # region, switches: what follows "sts" and "portal.sso"
    "plain": ("eu-west-1", {}, ".eu-west-1.amazonaws.com"),
    "FIPS": ("us-east-1", FIPS, "-fips.us-east-1.amazonaws.com"),
    "dual-stack": ("us-east-1", DUAL, ".us-east-1.api.aws"),
    "both": ("us-east-1", {**FIPS, **DUAL}, "-fips.us-east-1.api.aws"),
    "China": ("cn-north-1", {}, ".cn-north-1.amazonaws.com.cn"),
    "China, dual-stack": ("cn-north-1", DUAL, ".cn-north-1.api.amazonwebservices.com.cn"),
    "GovCloud": ("us-gov-west-1", {}, ".us-gov-west-1.amazonaws.com"),
    "GovCloud, FIPS": ("us-gov-west-1", FIPS, ".us-gov-west-1.amazonaws.com"),
    "GovCloud, both": ("us-gov-west-1", {**FIPS, **DUAL}, "-fips.us-gov-west-1.api.aws"),
}
PLACE_ROWS = pytest.mark.parametrize(
    ("region", "switches", "host"), PLACES.values(), ids=PLACES.keys()
)


class Paper:
    """Config files and a cached SSO token for tests without services."""

    def __init__(self, home: Path) -> None:
        self.home, self.environ = home, {"HOME": str(home)}

    def config(self, text: str) -> dict[str, str]:
        """The environment under which the config file has this text."""
        (self.home / ".aws").mkdir(exist_ok=True)
        (self.home / ".aws" / "config").write_text(text, encoding="utf-8")
        (self.home / "token").write_text("hush")
        cache = self.home / ".aws" / "sso" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        document = {"accessToken": "hush", "expiresAt": "2099-01-01T00:00:00Z"}
        digest = hashlib.sha1(b"corp", usedforsecurity=False).hexdigest()
        (cache / f"{digest}.json").write_text(json.dumps(document))
        return self.environ

    def role(self, more: str = "", sections: str = "") -> dict[str, str]:
        return self.config(
            f"[profile x]\nrole_arn = {ROLE}\nsource_profile = base\n{more}\n"
            f"[profile base]\n{key_lines('base')}{sections}"
        )

    def sso(self, region: str, more: str = "") -> dict[str, str]:
        return self.config(
            f"[profile x]\nsso_session = corp\n{SSO_ROLE}{more}\n"
            f"[sso-session corp]\nsso_region = {region}\nsso_start_url = {START_URL}\n"
        )


@pytest.fixture
def paper(tmp_path: Path) -> Paper:
    return Paper(tmp_path)


@PLACE_ROWS
@pytest.mark.parametrize("kind", ["role", "web identity"])
def test_sts_is_asked_in_the_region_at_its_host(paper, region, switches, host, kind):
    environ = {**paper.role(), **switches}
    if kind == "web identity":
        environ.update({"AWS_WEB_IDENTITY_TOKEN_FILE": str(paper.home / "token")})
        environ.update({"AWS_ROLE_ARN": ROLE})
    transport = Recorder()
    fake_resolve(transport, environ, "x" if kind == "role" else None, region_name=region)
    (request,) = transport.requests
    assert request.url.rstrip("/") == "https://sts" + host
    authorization = dict(request.headers).get("Authorization", "")
    assert (f"/{region}/sts/aws4_request" in authorization) == (kind == "role")


@PLACE_ROWS
def test_switches_given_to_the_client_hold_for_sts_too(paper, region, switches, host):
    transport = Recorder()
    client = Client(
        region, profile_name="x", environ=paper.role(), transport=transport,
        use_fips_endpoint="AWS_USE_FIPS_ENDPOINT" in switches or None,
        use_dualstack_endpoint="AWS_USE_DUALSTACK_ENDPOINT" in switches or None,
    )  # fmt: skip
    client.explain(EndpointName="e", InputLocation="s3://bucket/key")
    (request,) = transport.requests
    assert request.url.rstrip("/") == "https://sts" + host


@PLACE_ROWS
def test_the_sso_portal_is_asked_in_its_own_region_at_its_host(paper, region, switches, host):
    transport = Recorder()
    environ = {**paper.sso(region), **switches, "AWS_REGION": "ap-south-1"}
    fake_resolve(transport, environ, "x", region_name="sa-east-1")
    assert transport.origin() == "https://portal.sso" + host


@pytest.mark.parametrize("kind", ["role", "SSO"])
def test_a_service_in_a_region_has_more_time_than_one_on_this_machine(paper, kind):
    transport = Recorder(TransportError("no route", kind="connect", sent=False))
    environ = paper.role() if kind == "role" else paper.sso("us-east-1")
    fake_resolve(transport, environ, "x", region_name="us-east-1")
    assert transport.timeouts == [20, 20]


ENDS = ['"soon"', "1e400", "NaN", "1" + "0" * 400, "-5", "true"]


@pytest.mark.parametrize("end", ENDS)
def test_an_end_from_the_portal_that_is_no_time_is_an_error(paper, failing, end):
    role = {"accessKeyId": "ASIAfake", "secretAccessKey": "hush", "expiration": "END"}
    text = json.dumps({"roleCredentials": role}).replace('"END"', end)
    transport = Recorder(Response(200, (), text.encode()))
    environ = paper.sso("us-east-1")
    failing(lambda: fake_resolve(transport, environ, "x"), CredentialsError, "(?i)expir")


@pytest.mark.parametrize("body", ['{"roleCredentials": ["hunter2"]}', '{"roleCredentials": 7}'])
def test_an_answer_of_the_portal_without_a_role_is_an_error(paper, failing, body):
    transport = Recorder(Response(200, (), body.encode()))
    environ = paper.sso("us-east-1")
    failing(
        lambda: fake_resolve(transport, environ, "x"), CredentialsError, "portal.*(?i:accessKeyId)"
    )


REGIONS = {
    # profile's region, variable, argument: the one used
    "profile": ("eu-west-1", None, None, "eu-west-1"),
    "variable before profile": ("eu-west-1", "eu-west-2", None, "eu-west-2"),
    "argument before all": ("eu-west-1", "eu-west-2", "eu-west-3", "eu-west-3"),
}


@pytest.mark.parametrize(
    ("profile", "variable", "argument", "used"), REGIONS.values(), ids=REGIONS.keys()
)
def test_sts_is_asked_in_the_profile_s_or_the_chosen_region(
    paper, profile, variable, argument, used
):
    environ = {**paper.role(f"region = {profile}"), "AWS_REGION": variable or ""}
    transport = Recorder()
    fake_resolve(transport, environ, "x", region_name=argument)
    assert transport.origin() == f"https://sts.{used}.amazonaws.com"


def test_a_role_without_a_region_is_an_error_that_asks_for_one(paper, failing):
    transport = Recorder()
    failing(lambda: fake_resolve(transport, paper.role(), "x"), BROKEN, "region")
    assert transport.requests == []


SERVICES = "[services dev]\nsts =\n  endpoint_url = http://127.0.0.1:91\nsso =\n" + (
    "  endpoint_url = http://127.0.0.1:92\n"
)
URLS = {
    # lines of the profile, variables: STS's URL, SSO's URL; None is the usual one
    "nothing": ("", {}, None, None),
    "one service's": ("", {"AWS_ENDPOINT_URL_STS": "http://h:1"}, "http://h:1", None),
    "the other's": ("", {"AWS_ENDPOINT_URL_SSO": "http://h:2"}, None, "http://h:2"),
    "everybody's": ("", {"AWS_ENDPOINT_URL": "http://h:3"}, "http://h:3", "http://h:3"),
    "services section": ("services = dev", {}, "http://127.0.0.1:91", "http://127.0.0.1:92"),
    "variable before section": (
        "services = dev", {"AWS_ENDPOINT_URL_STS": "http://h:1"}, "http://h:1",
        "http://127.0.0.1:92",
    ),
    "profile's": ("endpoint_url = http://h:4", {}, "http://h:4", "http://h:4"),
    "ignored": (
        "services = dev\nendpoint_url = http://h:4",
        {"AWS_ENDPOINT_URL_STS": "http://h:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        None, None,
    ),
    "another service's": ("", {"AWS_ENDPOINT_URL_S3": "http://h:5"}, None, None),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "variables", "sts", "sso"), URLS.values(), ids=URLS.keys())
def test_an_endpoint_that_is_configured_is_used(paper, lines, variables, sts, sso):
    environ = {**paper.role(lines, SERVICES), "AWS_REGION": "us-east-1", **variables}
    transport = Recorder()
    fake_resolve(transport, environ, "x")
    assert transport.origin() == (sts or "https://sts.us-east-1.amazonaws.com")
    paper.sso("eu-west-1", f"{lines}\n{SERVICES}")
    transport = Recorder()
    fake_resolve(transport, environ, "x")
    assert transport.origin() == (sso or "https://portal.sso.eu-west-1.amazonaws.com")


BAD_REGIONS = [
    "evil.example/", "evil.example", "us-east-1.evil.example", "us-east-1/", "us-east-1@evil",
    "us-east-1:80", "us east 1", "us-east-1#", "us-east-1?", "é", "x" * 64, "us-east-1\\",
    "%2e", "us_east_1",
]  # fmt: skip


@pytest.mark.parametrize("region", BAD_REGIONS)
@pytest.mark.parametrize("where", ["sso_region", "region", "AWS_REGION", "argument"])
def test_a_region_that_is_no_host_label_is_refused_before_any_request(
    paper, failing, region, where
):
    region = region.replace("#", "#!") if where in ("region", "sso_region") else region
    argument = None
    if where == "sso_region":
        environ = paper.sso(region)
    elif where == "region":
        environ = paper.role(f"region = {region}")
    else:
        environ = {**paper.role(), **({"AWS_REGION": region} if where == "AWS_REGION" else {})}
        argument = region if where == "argument" else None
    transport = Recorder()
    failing(lambda: fake_resolve(transport, environ, "x", region_name=argument), BROKEN, "region")
    assert transport.requests == []


def test_a_region_with_a_line_break_is_refused_before_any_request(paper, failing):
    transport = Recorder()
    environ = paper.role()
    failing(
        lambda: fake_resolve(transport, environ, "x", region_name="us-east-1\n"), BROKEN, "region"
    )
    assert transport.requests == []


LETTERS = [chr(number) for number in range(33, 0x300)]
VISIBLE = st.text(  # "#" and ";" begin comments in the file
    st.sampled_from([each for each in LETTERS if each.isprintable() and each not in "#;"]),
    min_size=1,
    max_size=40,
)


def test_whatever_the_names_are_the_services_are_sent_them_unharmed(tmp_path):
    paper = Paper(tmp_path)

    @settings(max_examples=60)
    @given(VISIBLE, VISIBLE)
    def check(role: str, account: str) -> None:
        paper.config(
            f"[profile x]\nsso_session = corp\nsso_account_id = {account}\n"
            f"sso_role_name = {role}\n[sso-session corp]\nsso_region = us-east-1\n"
            f"sso_start_url = {START_URL}\n[profile y]\nrole_arn = {role}\n"
            f"external_id = {account}\nsource_profile = base\n[profile base]\n{key_lines('base')}"
        )
        for name in ("x", "y"):
            transport = Recorder()
            try:
                fake_resolve(transport, paper.environ, name, region_name="us-east-1")
            except BROKEN:  # may be refused, if nothing is sent
                assert transport.requests == []
                continue
            (request,) = transport.requests
            if name == "x":
                query = parse_qs(urlsplit(request.url).query, strict_parsing=True)
                assert query == {"role_name": [role], "account_id": [account]}
            else:
                form = transport.form()
                assert (form["RoleArn"], form["ExternalId"]) == ([role], [account])

    check()


# --- services that fail --------------------------------------------------------------------------

GARBAGE = b'{"SecretAccessKey": "hunter2", <SecretAccessKey>hunter3'
# what happens: (fault, the most requests that it may take)
FAULTS: dict[str, tuple[Fault, int]] = {
    "403": (emu.status(403, "AccessDeniedException", "not you"), 1),
    "400": (emu.status(400, "InvalidRequest", "what?"), 1),
    "500 for ever": (emu.status(500, "InternalFailure"), 3),
    "503 for ever": (emu.status(503, "ServiceUnavailable"), 3),
    "garbage": (cs.text(GARBAGE), 3),
    "garbage with 403": (cs.text(GARBAGE, 403), 1),
    "bytes": (cs.text(b"\xff\xfe\x00"), 3),
    "nothing": (cs.text(b""), 3),
    "a login page": (emu.login_page(), 3),
    "JSON that is a list": (cs.text(b'["hunter2"]'), 3),
    "JSON that is a text": (cs.text(b'"hunter2"'), 3),
    "JSON that is null": (cs.text(b"null"), 3),
    "an empty object": (cs.text(b"{}"), 3),
    "empty XML": (cs.text(b"<a/>"), 3),
    "3 MiB": (emu.huge_body(3 << 20), 3),
    "3 MiB with 403": (emu.huge_body(3 << 20, 403), 1),
    "JSON 10,000 deep": (cs.nested_json(10_000), 3),
    "JSON 10,000 deep with 403": (cs.nested_json(10_000, 403), 1),
    "XML 10,000 deep": (cs.nested_xml(10_000), 3),
    "XML 10,000 deep with 403": (cs.nested_xml(10_000, 403), 1),
    "not HTTP": (emu.garbage(), 3),
    "resets": (emu.reset_after(), 3),
    "silent closes": (emu.close_after(), 3),
    "a redirect": (emu.redirect("http://127.0.0.1:9/"), 1),
    "a body cut short": (emu.truncate(30), 3),
}
MEMBERS = {
    # in JSON and XML answers alike: one member's name, what stands in its place
    "no key id": ("AccessKeyId", None),
    "no secret": ("SecretAccessKey", None),
    "a secret with a line break": ("SecretAccessKey", r"hunter2\nhunter3"),
    "a secret beyond ASCII": ("SecretAccessKey", "hunter2é"),
    "an empty secret": ("SecretAccessKey", ""),
    "a token with a space": ("(?:Session)?Token", "hunter2 hunter3"),
    "an end that is no date": ("Expiration", "soon"),
}


def replaced(name: str, text: str | None, service: str) -> Fault:
    """The good answer with another text for one member, or without it."""
    if service == "sts":
        pattern = f"<({name})>.*?</{name}>"
        new = "" if text is None else f"<\\1>{text}</\\1>".replace(r"\n", "&#10;")
    else:
        pattern = rf'(?i)"({name})": ("[^"]*"|[0-9]+)'
        new = '"Other": ""' if text is None else f'"\\1": "{text}"'.replace(r"\n", r"\\n")
    return cs.edited(pattern.encode(), new.encode())


def shut(desk: Desk, setup: Setup, chosen: Fault) -> None:
    """Each request for credentials fails so; IMDS's token and role name are still good."""
    desk.services.fail_always(setup.service, chosen)


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize(("chosen", "most"), FAULTS.values(), ids=FAULTS.keys())
def test_a_service_that_fails_is_an_error_of_its_provider(desk, failing, name, chosen, most):
    desk.configure(REMOTE[name])
    shut(desk, REMOTE[name], chosen)
    error = failing(desk.resolve)
    assert provider_of(name) in error.tried[-1][0]
    asked = desk.services.requests_to(REMOTE[name].service)
    assert 1 <= len(asked) <= (most if name != "IMDS" else 3 * most)
    assert desk.services.hand_outs == [] or chosen.kind == "truncate"


SOME_FAULTS = {
    "refuses": emu.status(403),
    "talks nonsense": cs.text(GARBAGE),
    "breaks off": emu.reset_after(),
}


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize("chosen", SOME_FAULTS.values(), ids=SOME_FAULTS.keys())
def test_the_error_of_a_service_says_which_provider_and_which_profile_asked_it(
    desk, failing, name, chosen
):
    desk.configure(REMOTE[name])
    shut(desk, REMOTE[name], chosen)
    pattern = "profile '?x'?" if "profile" in name else REMOTE[name].named
    failing(desk.resolve, CredentialsError, pattern)


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize(("member", "text"), MEMBERS.values(), ids=MEMBERS.keys())
def test_credentials_that_are_none_are_not_used(desk, failing, name, member, text):
    desk.configure(REMOTE[name])
    chosen = replaced(member, text, REMOTE[name].service)
    desk.services.fail_always(REMOTE[name].service, chosen)
    failing(desk.resolve, CredentialsError, REMOTE[name].named)
    assert desk.services.hand_outs


@pytest.mark.parametrize("name", [name for name in REMOTE if name != "IMDS"])
def test_credentials_that_have_already_expired_are_not_used(desk, failing, name):
    desk.configure(REMOTE[name])
    desk.services.fail_always(REMOTE[name].service, cs.expired(60))
    patterns = ["profile '?x'?"] if "profile" in name else [REMOTE[name].named]
    failing(desk.resolve, CredentialsError, "(?i)expired|ended", *patterns)


@pytest.mark.parametrize(
    "name", [name for name, setup in REMOTE.items() if setup.service == "sts"]
)
def test_xml_with_a_doctype_is_refused(desk, failing, name):
    desk.configure(REMOTE[name])
    desk.services.fail_always("sts", cs.doctype())
    failing(desk.resolve)


PASSING = {"500": emu.status(500), "503": emu.status(503), "reset": emu.reset_after()}


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.parametrize("chosen", PASSING.values(), ids=PASSING.keys())
def test_a_failure_that_passes_by_itself_is_tried_again(desk, name, failures, chosen):
    if name == "IMDS" and failures == 2:
        failures = 1  # it has fewer tries
    desk.configure(REMOTE[name])
    desk.services.fail_next(REMOTE[name].service, *[chosen] * failures)
    assert desk.origin(desk.resolve()) == REMOTE[name].origin
    asked = len(desk.services.requests_to(REMOTE[name].service))
    assert asked == failures + (3 if name == "IMDS" else 1)


@pytest.mark.parametrize("name", REMOTE)
def test_a_slow_service_is_waited_for(desk, name):
    desk.configure(REMOTE[name])
    desk.services.fail_always(REMOTE[name].service, cs.slow(0.1))
    assert desk.origin(desk.resolve()) == REMOTE[name].origin


@pytest.mark.parametrize(
    "name", [name for name, setup in REMOTE.items() if setup.service in ("sts", "sso")]
)
def test_a_throttle_is_waited_out_by_the_rule_for_every_retry(desk, name):
    desk.configure(REMOTE[name])
    throttle = emu.status(400, "Throttling", "Rate exceeded")
    if REMOTE[name].service == "sso":
        throttle = emu.status(429, "TooManyRequestsException", "Rate exceeded")
    desk.services.fail_next(REMOTE[name].service, throttle)
    delays: list[float] = []
    with desk.client(sleep=delays.append, random=lambda: 1.0) as client:
        key_id(client)
    assert delays == [1.0]


@pytest.mark.parametrize("name", REMOTE)
def test_what_a_service_echoes_of_a_request_has_no_secret_when_it_is_shown(desk, failing, name):
    desk.configure(REMOTE[name])
    if name == "container":
        token = "Basic hush-authorization-of-the-container"
        desk.environ[TOKEN] = desk.services.container_authorization = token
    shut(desk, REMOTE[name], cs.echo())
    failing(desk.resolve)


def test_the_session_token_of_a_source_is_not_shown_when_sts_echoes_it(desk, failing):
    desk.config("\n".join(chain_of("a:b", "b:c", "c!")))
    desk.services.fail_next("sts", cs.slow(0.001), cs.echo())
    failing(lambda: desk.resolve("a"), CredentialsError, "AccessDenied")


@pytest.mark.parametrize("name", SETUPS)
def test_nothing_secret_is_logged_when_all_goes_well(desk, caplog, name):
    desk.configure(SETUPS[name])
    with caplog.at_level(logging.DEBUG, "smasync"), desk.client() as client:
        client.invoke_endpoint_async(**CALL)
        credentials = desk.resolve()
    assert not HIDDEN.search(caplog.text)
    assert not HIDDEN.search(f"{credentials!r} {credentials} {client!r} {client.sources}")


def test_nothing_that_listens_is_an_error_that_names_the_address(desk, failing):
    with Emulator() as closed:
        url = closed.url
    for name, setup in REMOTE.items():
        variables = {"AWS_ENDPOINT_URL_STS": url, "AWS_ENDPOINT_URL_SSO": url}
        if name == "container":
            variables[FULL] = url + "/container"
        if name == "IMDS":
            variables[ENDPOINT] = url
        desk.environ = {key: desk.environ[key] for key in ("HOME", "AWS_REGION")}
        desk.environ["AWS_EC2_METADATA_DISABLED"] = "true"
        desk.configure(setup, **variables)
        address = re.escape(url.rpartition("/")[2])
        failing(desk.resolve, CredentialsError, *([address] if name != "IMDS" else []))


# --- when nothing answers ------------------------------------------------------------------------


def test_the_error_when_nothing_answers_lists_what_each_provider_looked_for(desk, failing):
    error = failing(desk.resolve)
    names = [provider.lower() for provider, _ in error.tried]
    order = ["environment", "web", "profile", "container", "metadata|imds"]
    places = [
        [position for position, name in enumerate(names) if re.search(pattern, name)]
        for pattern in order
    ]
    assert places == [[0], [1], [2], [3], [4]]
    looked_for = [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "'default'",
        "AWS_CONTAINER_CREDENTIALS_",
        "AWS_EC2_METADATA_DISABLED",
    ]
    for text, (_, what) in zip(looked_for, error.tried):
        assert text in what
    for path in (".aws/config", ".aws/credentials"):
        assert path in error.tried[2][1].replace(os.sep, "/")
    position = 0
    for provider, what in error.tried:
        position = str(error).index(f"{provider}: {what}", position)


@pytest.mark.parametrize("name", REMOTE)
def test_the_error_of_a_broken_provider_stops_there(desk, failing, name):
    others = {} if name == "IMDS" else CHAIN["IMDS"].variables
    desk.configure(REMOTE[name], **others)
    shut(desk, REMOTE[name], emu.status(403, "AccessDenied"))
    error = failing(desk.resolve, CredentialsError, REMOTE[name].named)
    assert re.search(REMOTE[name].named, " ".join(error.tried[-1]))
    assert desk.asked() - {"imds token"} == {REMOTE[name].service}


# --- the cost of what is not configured ----------------------------------------------------------

WATCHED = """
import json, sys
home, environ = sys.argv[2], json.loads(sys.stdin.read())
opened, calls = [], []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(home):
        opened.append(str(arguments[0])[len(home) + 1:].replace(chr(92), "/"))
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        calls.append(event)
sys.path.insert(0, sys.argv[1])
sys.addaudithook(hook)
import smasync
try:
    smasync.resolve_credentials(environ=environ)
except smasync.CredentialsError:
    calls.append("none")
print(json.dumps([opened, sorted(set(calls))]))
"""
SHARED = [".aws/config", ".aws/credentials"]
WATCH = {
    # setup: files opened beside the shared ones, calls made
    "nothing": (Setup(""), [], ["none"]),
    "environment": (CHAIN["environment"], [], []),
    "web identity": (CHAIN["web identity"], ["web-token"], ["socket.connect"]),
    "static keys": (PROFILE["static keys"], [], []),
    "role": (PROFILE["role"], [], ["socket.connect"]),
    "SSO": (PROFILE["SSO"], ["the cache"], ["socket.connect"]),
    "process": (PROFILE["process"], [], ["subprocess.Popen"]),
    "container": (CHAIN["container"], [], ["socket.connect"]),
}


@pytest.mark.parametrize(("setup", "files", "calls"), WATCH.values(), ids=WATCH.keys())
def test_a_provider_that_is_not_configured_opens_nothing_twice_and_asks_nobody(
    desk, setup, files, calls
):
    desk.services.clock = time.time
    desk.configure(setup)
    desk.sso_token("corp", time.time() - NOW + 3600)
    desk.write(".aws/credentials", "[other]\n" + key_lines("static"))
    finished = subprocess.run(
        [sys.executable, "-c", WATCHED, str(MODULE.parent), str(desk.home)],
        input=json.dumps(desk.environ), capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert finished.stderr == ""
    opened, called = json.loads(finished.stdout)
    cache = desk.sso_cache("corp").relative_to(desk.home).as_posix()
    expected = SHARED + [cache if name == "the cache" else name for name in files]
    assert sorted(opened) == sorted(expected)
    assert [call for call in called if call != "socket.getaddrinfo"] == calls


# --- credentials that end ------------------------------------------------------------------------

ROTATED = ("web identity", "container", "IMDS", "profile: role", "profile: SSO")
THREADS, ROUNDS, LIFETIME = 16, 63, 1800.0


@pytest.mark.parametrize("name", ROTATED)
def test_a_thousand_calls_across_three_expiries_are_each_signed_with_what_is_valid(desk, name):
    desk.configure(REMOTE[name])
    desk.services.lifetime = LIFETIME
    desk.sso_token("corp", 10 * LIFETIME)
    barrier = threading.Barrier(THREADS)
    step = 4000 / (THREADS * ROUNDS)  # seconds that each call takes

    def work(client: Client) -> list[float]:
        seen = []
        for _ in range(ROUNDS):
            barrier.wait(20)
            desk.clock.advance(step)
            seen.append(client.invoke_endpoint_async(**CALL)["ResponseMetadata"]["ResponseAt"])
        return seen

    with desk.client() as client, ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work, client) for _ in range(THREADS)]:
            assert len(future.result(60)) == ROUNDS
    services = desk.services
    calls = [inference.received for inference in services.ledger]
    sent = [received for received in services.requests if "async-invocations" in received.target]
    assert len(calls) == len(sent) == THREADS * ROUNDS  # none was refused as expired
    ends = [made.expires_at for made in services.hand_outs]
    assert sum(end <= desk.clock.now for end in ends) == 3
    starts = [made.at for made in services.hand_outs]
    assert all(later - earlier >= LIFETIME - 900 for earlier, later in zip(starts, starts[1:]))
    assert len(starts) == 5  # at first, and 15 minutes before the end of each of four
    per_load = 3 if name == "IMDS" else 1
    assert len(services.requests_to(REMOTE[name].service)) == per_load * len(starts)


@pytest.mark.parametrize("name", ROTATED)
def test_16_threads_that_start_together_ask_once(desk, name):
    desk.configure(REMOTE[name])
    desk.services.fail_always(REMOTE[name].service, cs.slow(0.05))
    barrier = threading.Barrier(THREADS)

    def first(client: Client) -> str:
        barrier.wait(20)
        return key_id(client)

    with desk.client() as client, ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(first, client) for _ in range(THREADS)]
        assert len({future.result(20) for future in futures}) == 1
    assert len(desk.services.hand_outs) == 1


@pytest.mark.parametrize("name", ROTATED)
def test_a_failure_15_minutes_ahead_is_tolerated_and_10_minutes_ahead_it_is_not(
    desk, failing, name
):
    desk.configure(REMOTE[name])
    with desk.client() as client:
        first = key_id(client)
        shut(desk, REMOTE[name], emu.status(403, "AccessDenied"))
        desk.clock.advance(3600 - 14 * 60)
        assert key_id(client) == first
        desk.clock.advance(5 * 60)
        if name == "IMDS":  # which is known to recover
            assert key_id(client) == first
        else:
            failing(lambda: client.explain(**CALL), CredentialsError, REMOTE[name].named)
        desk.services.fail_always(REMOTE[name].service, None)
        desk.clock.advance(20 * 60)
        desk.sso_token("corp", 10 * 3600)
        assert key_id(client) != first


IMDS_FAILURES = {
    "500": ("imds", emu.status(500)),
    "500 for the token": ("imds token", emu.status(500)),
    "resets": ("imds", emu.reset_after()),
    "garbage": ("imds", cs.text(b"hunter2")),
    "credentials that ended": ("imds", cs.expired(60)),
}


@pytest.mark.parametrize(("service", "chosen"), IMDS_FAILURES.values(), ids=IMDS_FAILURES.keys())
def test_credentials_of_imds_past_their_date_stay_in_use_while_imds_fails(desk, service, chosen):
    desk.configure(CHAIN["IMDS"])
    with desk.client() as client:
        first = key_id(client)
        desk.services.fail_always(service, chosen)
        desk.clock.advance(3600 + 60)
        assert key_id(client) == first or chosen.kind == "expired"
        asked = len(desk.services.requests)
        for _ in range(50):  # and IMDS is not asked again at once
            key_id(client)
        assert len(desk.services.requests) <= asked + 12
        desk.services.fail_always(service, None)
        desk.clock.advance(30 * 60)
        recovered = key_id(client)
        assert recovered == desk.services.hand_outs[-1].access_key_id != first
        assert desk.services.hand_outs[-1].expires_at > desk.clock.now


def test_credentials_of_the_environment_that_end_are_read_again(desk):
    desk.configure(CHAIN["environment"], AWS_CREDENTIAL_EXPIRATION="2026-01-02T04:04:05Z")
    with desk.client() as client:
        assert key_id(client) == "AKIDenvironment"
        desk.environ.update(key_variables("static"))
        desk.environ["AWS_CREDENTIAL_EXPIRATION"] = "2026-01-02T06:04:05Z"
        assert key_id(client) == "AKIDenvironment"
        desk.clock.advance(3600)
        assert key_id(client) == "AKIDstatic"


def test_a_source_that_ends_is_asked_again_for_its_role(desk):
    desk.configure(PROFILE["SSO"])
    desk.config("\n".join([(desk.home / ".aws/config").read_text(), *chain_of("a:x")]))
    desk.environ["AWS_PROFILE"] = "a"
    desk.sso_token("corp", 10 * 3600)
    with desk.client() as client:
        for _ in range(3):
            client.invoke_endpoint_async(**CALL)
            desk.clock.advance(3600)
    services = [made.service for made in desk.services.hand_outs]
    assert services == ["sso", "sts"] * 3


# --- explain -------------------------------------------------------------------------------------

EXPLAINED = [name for name in SETUPS if name != "profile: process"]


@pytest.mark.parametrize("name", EXPLAINED)
def test_explain_says_whose_credentials_they_are_and_when_they_end(desk, name):
    desk.services.clock = time.time
    desk.configure(SETUPS[name])
    for session in ("corp", START_URL):
        desk.sso_token(session, time.time() - NOW + 3600)
    location = ["--endpoint-name", "e", "--input-location", "s3://bucket/in"]
    finished = subprocess.run(
        [sys.executable, str(MODULE), "explain", *location],
        env={**desk.environ, "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")},
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, output
    lines = [line for line in output.splitlines() if "credentials" in line.lower()]
    assert any(provider_of(name) in line for line in lines), output
    if SETUPS[name].service:
        made = desk.services.hand_outs[-1]
        assert made.iso(made.expires_at) in output
    assert not HIDDEN.search(output)
