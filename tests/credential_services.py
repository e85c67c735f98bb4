"""The services that hand out credentials, on the emulator's port: STS, SSO, container, IMDS.

    with CredentialServices(lifetime=900) as services:
        services.fail_next("sts", status(503, "ServiceUnavailable"))
        ...                                     # point a client at services.url
        services.hand_outs, services.requests_to("sts")

Each answer is a new key pair, known to the emulator until it expires: what is signed with it is
verified, and refused afterwards. A service that wants a signature or a token checks it.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import emulator as emu
from emulator import Connection, Fault, Headers, Received, Reply, Route, fault, json_reply

ACCOUNT_ID = "123456789012"
SECRET_MARK, TOKEN_MARK = "emulatedSECRET", "emulatedTOKEN"  # in each secret and session token
WEB_TOKEN = "eyJhbGciOi.emulatedWEBTOKEN.c2lnbmF0dXJl"
SSO_TOKEN = "aoal-emulatedSSOTOKEN"
PATHS = {
    # service: the paths that are its own; the first row that matches has the request
    "sts": "/",
    "sso": "/federation/credentials",
    "container": "/container(/.*)?|/v1/credentials|/v2/credentials/.+",
    "imds token": "/latest/api/token",
    "imds role": "/latest/meta-data/iam/security-credentials/",
    "imds": "/latest/.*",
}


class HandOut(NamedTuple):
    """One pair of keys that a service gave away; signer and region of the request, if signed."""

    service: str
    role: str  # an ARN for STS, else a name or a path
    access_key_id: str
    account: emu.Account
    parameters: Mapping[str, str]
    signer: str = ""
    region: str = ""

    @property
    def expires_at(self) -> float:
        return self.account.expires_at or 0.0

    def json(self, token_name: str = "Token") -> dict[str, str]:
        """The four members that all services but SSO have."""
        return {
            "AccessKeyId": self.access_key_id,
            "SecretAccessKey": self.account.secret_access_key,
            token_name: self.account.session_token or "",
            "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.expires_at)),
        }


class CredentialServices(emu.Emulator):
    """An Emulator that also hands out credentials; `lifetime` is how many seconds they live."""

    def __init__(self, *, lifetime: float = 3600.0, **options: Any) -> None:
        super().__init__(**options)
        self.lifetime = lifetime
        self.hand_outs: list[HandOut] = []
        self.web_tokens, self.sso_tokens = {WEB_TOKEN}, {SSO_TOKEN}
        self.container_authorization: str | None = None  # what it insists on
        self.imds_role: str | None = "instance-role"
        self.imds_tokens: dict[str, float] = {}  # token: its end
        self.routes[:0] = CREDENTIAL_ROUTES
        self._mutex = threading.Lock()
        self._due: dict[str, Iterator[Fault]] = {}

    def fail_next(self, service: str, *faults: Fault) -> None:
        """What happens to the next requests to one service, a row of PATHS."""
        self._due[checked(service)] = iter(faults)

    def fail_always(self, service: str, chosen: Fault) -> None:
        """What happens to each request to one service from now on."""
        self._due[checked(service)] = itertools.repeat(chosen)

    def next_fault(self, received: Received | None) -> Fault | None:
        service = received and service_of(received)
        chosen = next(self._due.get(service or "", iter(())), None)
        return chosen or super().next_fault(received)

    def requests_to(self, service: str) -> list[Received]:
        """What a row of PATHS was sent, whatever became of it."""
        checked(service)
        return [received for received in list(self.requests) if service_of(received) == service]

    def hand_out(
        self, service: str, role: str, parameters: Mapping[str, str],
        lifetime: float | None = None, signer: str = "", region: str = "",
    ) -> HandOut:  # fmt: skip
        """A new pair of keys, from now on an account of the emulator's."""
        with self._mutex:
            number = len(self.hand_outs) + 1
            expires_at = float(int(self.clock() + (lifetime or self.lifetime)))
            secret = f"{SECRET_MARK}/{number:04d}+{uuid.uuid4().hex[:20]}"
            token = f"{TOKEN_MARK}//{uuid.uuid4().hex}+{number}=="
            account = emu.Account(secret, token, expires_at)
            key_id = f"ASIA{service.upper():X<9}{number:07d}"
            made = HandOut(service, role, key_id, account, parameters, signer, region)
            self.accounts[key_id] = account
            self.hand_outs.append(made)
        return made


def checked(service: str) -> str:
    assert service in PATHS, f"{service!r} is none of {', '.join(PATHS)}"
    return service


def service_of(received: Received) -> str | None:
    """The row of PATHS that a request belongs to."""
    rows = (name for name, path in PATHS.items() if re.fullmatch(path, received.path))
    return next(rows, None)


# --- 1. STS ------------------------------------------------------------------
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html

STS_CODES = {
    # of the emulator's SignatureError: the code that STS has for it
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ExpiredTokenException": "ExpiredToken",
    "InvalidSignatureException": "SignatureDoesNotMatch",
}
STS_PARAMETERS = {
    # name: pattern of its value
    "Action": "AssumeRole|AssumeRoleWithWebIdentity",
    "Version": "2011-06-15",
    "RoleArn": r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]{1,512}",
    "RoleSessionName": r"[\w+=,.@-]{2,64}",
    "DurationSeconds": "9[0-9][0-9]|[1-9][0-9]{3,4}",
    "ExternalId": r"[\w+=,.@:/-]{2,1224}",
    "SerialNumber": r"[\w+=/:,.@-]{9,256}",
    "TokenCode": "[0-9]{6}",
    "WebIdentityToken": "[!-~]{4,20000}",
}
REQUIRED = {"Action", "Version", "RoleArn", "RoleSessionName"}
SIGNED_ONLY = {"ExternalId", "SerialNumber", "TokenCode"}


class Refused(Exception):
    """(status, code, message) of an error to answer with."""


def sts(services: CredentialServices, received: Received, match: re.Match[str]) -> Reply:
    """The answer to AssumeRole or AssumeRoleWithWebIdentity, or STS's XML for what is wrong."""
    try:
        form = read_form(received)
        signer, region = "", ""
        if form["Action"] == "AssumeRole":
            signer, region = sts_signer(services, received)
        elif form["WebIdentityToken"] not in services.web_tokens:
            raise Refused(400, "InvalidIdentityToken", "The ID Token is not a valid JWT.")
    except Refused as refused:
        return sts_error(*refused.args)
    lifetime = float(form.get("DurationSeconds", 0)) or None
    made = services.hand_out("sts", form["RoleArn"], form, lifetime, signer, region)
    return Reply(200, (("Content-Type", "text/xml"),), sts_answer(form, made).encode())


def read_form(received: Received) -> dict[str, str]:
    """The parameters in the body, each of them once and as the API wants it."""
    kind = received.header("content-type") or ""
    try:
        if received.query or not kind.startswith("application/x-www-form-urlencoded"):
            raise ValueError
        pairs = parse_qsl(received.body.decode(), keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise Refused(400, "MalformedInput", "the body is not a form") from None
    form = dict(pairs)
    is_web = form.get("Action") == "AssumeRoleWithWebIdentity"
    required = REQUIRED | ({"WebIdentityToken"} if is_web else set())
    allowed = required | {"DurationSeconds"} | (set() if is_web else SIGNED_ONLY)
    if len(form) != len(pairs) or not required <= set(form) <= allowed:
        raise Refused(400, "ValidationError", f"missing, repeated or unknown: {sorted(form)}")
    for name, value in form.items():
        if not re.fullmatch(STS_PARAMETERS[name], value, re.ASCII):
            raise Refused(400, "ValidationError", f"Value at '{name}' failed its constraint")
    if ("SerialNumber" in form) != ("TokenCode" in form):
        raise Refused(403, "AccessDenied", "must provide both MFA serial number and code")
    return form


def sts_signer(services: CredentialServices, received: Received) -> tuple[str, str]:
    """Who signed, and for which region."""
    try:
        verified = emu.verify(received, services.accounts, now=services.clock())
    except emu.SignatureError as error:
        raise Refused(403, STS_CODES.get(error.code, error.code), error.message) from None
    if verified.service != "sts":
        raise Refused(403, "SignatureDoesNotMatch", "Credential should be scoped to 'sts'.")
    return verified.access_key_id, verified.region


def sts_answer(form: Mapping[str, str], made: HandOut) -> str:
    """The XML of a success."""
    action, members = form["Action"], made.json("SessionToken").items()
    keys = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in members)
    return (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n'
        f"  <{action}Result>\n    <AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:x</AssumedRoleId>"
        f"</AssumedRoleUser>\n    <Credentials>{keys}</Credentials>\n  </{action}Result>\n"
        f"  <ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>\n"
        f"</{action}Response>\n"
    )


def sts_error(status: int, code: str | None, message: str, headers: Headers = ()) -> Reply:
    """An error in STS's XML."""
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n  <Error>\n'
        f"    <Type>{'Receiver' if status >= 500 else 'Sender'}</Type>\n"
        f"    <Code>{escape(code or '')}</Code>\n    <Message>{escape(message)}</Message>\n"
        f"  </Error>\n  <RequestId>{uuid.uuid4()}</RequestId>\n</ErrorResponse>\n"
    )
    return Reply(status, (("Content-Type", "text/xml"), *headers), body.encode())


# --- 2. The SSO portal -------------------------------------------------------
# https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html


def sso(services: CredentialServices, received: Received, match: re.Match[str]) -> Reply:
    """The role's credentials for a token that is known."""
    pairs = parse_qsl(received.query, keep_blank_values=True)
    query = dict(pairs)
    if sorted(name for name, _ in pairs) != ["account_id", "role_name"]:
        return sso_error(400, "InvalidRequestException", "role_name and account_id, once each")
    if received.header("authorization"):
        return sso_error(400, "InvalidRequestException", "this operation is not signed")
    if received.header("x-amz-sso_bearer_token") not in services.sso_tokens:
        return sso_error(401, "UnauthorizedException", "Session token not found or invalid")
    made = services.hand_out("sso", query["role_name"], query)
    document = {
        "accessKeyId": made.access_key_id,
        "secretAccessKey": made.account.secret_access_key,
        "sessionToken": made.account.session_token,
        "expiration": int(made.expires_at * 1000),
    }
    return json_reply(200, {"roleCredentials": document})


def sso_error(status: int, code: str | None, message: str, headers: Headers = ()) -> Reply:
    kind = (("x-amzn-errortype", code),) if code else ()
    return json_reply(status, {"message": message, "__type": code}, *kind, *headers)


# --- 3. The container endpoint -----------------------------------------------
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html


def container(services: CredentialServices, received: Received, match: re.Match[str]) -> Reply:
    """The task's credentials, for the Authorization that the emulator was told to insist on."""
    if received.header("authorization") != services.container_authorization:
        return container_error(401, "Unauthorized", "the Authorization header is not the task's")
    made = services.hand_out("container", received.path, dict(parse_qsl(received.query)))
    role = {"RoleArn": f"arn:aws:iam::{ACCOUNT_ID}:role/task", "AccountId": ACCOUNT_ID}
    return json_reply(200, {**role, **made.json()})


def container_error(status: int, code: str | None, message: str, headers: Headers = ()) -> Reply:
    document = {"code": code, "message": message, "HTTPErrorCode": status}
    return json_reply(status, document, *headers)


# --- 4. The instance metadata service ----------------------------------------
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html


def imds_token(services: CredentialServices, received: Received, match: re.Match[str]) -> Reply:
    """A session token that lives as long as was asked for."""
    seconds = received.header("x-aws-ec2-metadata-token-ttl-seconds") or ""
    is_good = re.fullmatch("[0-9]{1,5}", seconds) and 1 <= int(seconds) <= 21_600
    if not is_good or received.header("x-forwarded-for") or received.body:
        return imds_error(400)
    token = f"emulatedIMDSTOKEN-{uuid.uuid4().hex}=="
    services.imds_tokens[token] = services.clock() + int(seconds)
    return Reply(200, (("Content-Type", "text/plain"),), token.encode())


def imds(services: CredentialServices, received: Received, match: re.Match[str]) -> Reply:
    """The name of the instance's role, or its credentials under that name."""
    token, role = received.header("x-aws-ec2-metadata-token"), match[1]
    if services.clock() >= services.imds_tokens.get(token or "", 0.0):
        return imds_error(401)
    if services.imds_role is None or role not in ("", services.imds_role):
        return imds_error(404)
    if not role:
        return Reply(200, (("Content-Type", "text/plain"),), services.imds_role.encode())
    document = {
        "Code": "Success",
        "Type": "AWS-HMAC",
        **services.hand_out("imds", role, {}).json(),
    }
    return Reply(200, (("Content-Type", "text/plain"),), json.dumps(document, indent=2).encode())


def imds_error(status: int, code: str | None = "", text: str = "", headers: Headers = ()) -> Reply:
    """An error as a page, as IMDS has them."""
    title = f"{status} - {text or code or 'Error'}"
    page = f'<?xml version="1.0"?>\n<html><head><title>{escape(title)}</title></head></html>\n'
    return Reply(status, (("Content-Type", "text/html"), *headers), page.encode())


CREDENTIAL_ROUTES = (
    Route("POST", PATHS["sts"], sts, sts_error),
    Route("GET", PATHS["sso"], sso, sso_error),
    Route("GET", PATHS["container"], container, container_error),
    Route("PUT", PATHS["imds token"], imds_token, imds_error),
    Route("GET", PATHS["imds role"] + "([^/]*)", imds, imds_error),
    Route(".*", PATHS["imds"], lambda *_: imds_error(404), imds_error),
)


# --- 5. Faults ---------------------------------------------------------------
# Beside the emulator's own: what a service that hands out credentials can get wrong.


@fault
def text(connection: Connection, body: bytes, code: int = 200) -> Reply:
    """These bytes as the body; nothing is handed out."""
    return Reply(code, (("Content-Type", "text/plain"),), body)


@fault
def echo(connection: Connection, code: int = 403) -> Reply:
    """An error whose message is the whole request, secrets and all."""
    message = connection.received.raw.decode("utf-8", "replace")
    return connection.route.error(code, "AccessDenied", message)


@fault
def edited(connection: Connection, pattern: bytes, replacement: bytes) -> Reply:
    """The good answer with each match of the pattern replaced."""
    reply = connection.handle()
    return reply._replace(body=re.sub(pattern, replacement, reply.body, flags=re.DOTALL))
