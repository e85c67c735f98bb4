"""A loopback Amazon SageMaker Runtime and a small Amazon S3, for tests and for trying things out.

    python3 tests/emulator.py              # prints the environment variables a client needs

One HTTP/1.1 server answers InvokeEndpointAsync and S3's PUT, GET and HEAD of an object. It reads
the request's bytes off the socket itself, checks the signature from those bytes with a verifier of
its own, runs a small model, writes the result or the failure to its S3, keeps a ledger of what it
accepted, and misbehaves when told to. It shares no code with smasync: they meet on the wire.

    with Emulator() as emulator:
        emulator.fail(throttle(), reset_after())       # what happens to the next two requests
        ...                                            # point a client at emulator.url
        emulator.ledger, emulator.requests, emulator.objects

Left out: chunked bodies, HTTP/2, listing and deleting objects, virtual-hosted buckets.
"""

from __future__ import annotations

import argparse
import calendar
import collections
import contextlib
import dataclasses
import email.utils
import functools
import hashlib
import hmac
import http.client
import inspect
import json
import math
import os
import re
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, NamedTuple, NoReturn, Union
from urllib.parse import quote, unquote, unquote_to_bytes
from xml.sax.saxutils import escape

ACCESS_KEY_ID = "AKIDEXAMPLE"  # the example pair of AWS's documentation
SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

# --- 1. Requests -------------------------------------------------------------
# RFC 9112 without mercy: what a proxy and a server could read in two ways is refused.

MAX_HEAD_BYTES = 65_536
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rf"({TOKEN}) ([!-~]+) HTTP/1\.[01]")
HEADER_LINE = re.compile(rf"({TOKEN}):[ \t]*(.*)")
BROKEN_LINE = re.compile(rb"(?<!\r)\n|\r[^\n]|\0")  # bare LF, bare CR, NUL
CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Received:
    """One complete request: method, target as on the request line, headers in order, body.

    Header names keep their case; values are UTF-8 with surrogateescape, without the white space
    around them. `raw` is the request byte for byte.
    """

    def __init__(
        self,
        method: str,
        target: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes = b"",
        raw: bytes = b"",
        *,
        head: bytes = b"",
    ) -> None:
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.head = head or raw[: len(raw) - len(body)]

    def __repr__(self) -> str:
        return f"<Received {self.method} {self.target}, {len(self.body)} body bytes>"

    @property
    def raw(self) -> bytes:
        return self.head + self.body

    def values(self, name: str) -> list[str]:
        """Every value of one header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The values of one header joined by commas, or None when it is absent."""
        values = self.values(name)
        return ",".join(values) if values else None

    @property
    def path(self) -> str:
        """The path as it is on the wire, still encoded."""
        return re.sub(r"^https?://[^/?]*", "", self.target).partition("?")[0] or "/"

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def keep_alive(self) -> bool:
        wanted = (self.header("connection") or "").lower()
        return wanted != "close" and b" HTTP/1.0\r\n" not in self.head[:MAX_HEAD_BYTES]


def parse_request(raw: bytes) -> Received:
    """A whole request as a Received; ValueError says what is malformed."""
    head, separator, body = raw.partition(b"\r\n\r\n")
    if not separator:
        raise ValueError("no empty line after the headers")
    received = parse_head(head + separator)
    if len(body) != content_length(received):
        raise ValueError(f"Content-Length and a body of {len(body)} bytes differ")
    received.body = body
    return received


def parse_head(head: bytes) -> Received:
    """A Received without its body, from the bytes up to and with the empty line."""
    if BROKEN_LINE.search(head) or CONTROLS.search(head):
        raise ValueError("a control character in the head")
    first, *lines = head[:-4].decode("utf-8", "surrogateescape").split("\r\n")
    request_line = REQUEST_LINE.fullmatch(first)
    if not request_line:
        raise ValueError("malformed request line")
    headers = tuple(map(parse_header, lines))
    method, target = request_line.groups()
    received = Received(method, target, headers, head=head)
    content_length(received)
    return received


def parse_header(line: str) -> tuple[str, str]:
    """(name, value) of one header line; folded lines and odd names are a ValueError."""
    match = HEADER_LINE.fullmatch(line)
    if not match:
        raise ValueError(f"malformed header line {line[:40]!r}")
    return match[1], match[2].rstrip(" \t")


def content_length(received: Received) -> int:
    """How many body bytes follow the head; ValueError when that could be read in two ways."""
    names = [name.lower() for name, _ in received.headers]
    if (
        "transfer-encoding" in names
        or names.count("content-length") > 1
        or names.count("host") > 1
    ):
        raise ValueError("Transfer-Encoding, or two Content-Length or Host headers")
    value = received.header("content-length")
    if value is None:
        return 0
    if not re.fullmatch("[0-9]{1,15}", value):
        raise ValueError(f"malformed Content-Length {value[:40]!r}")
    return int(value)


# --- 2. Signature Version 4 --------------------------------------------------
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
# read from the service's side: rebuild what the client must have signed, and compare.

UNSIGNED = "UNSIGNED-PAYLOAD"
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your "
    "AWS Secret Access Key and signing method. Consult the service documentation for details."
)


class SignatureError(Exception):
    """Why a request is not who it says it is; code as the service spells it."""

    def __init__(
        self, code: str, message: str, canonical_request: str = "", string_to_sign: str = ""
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message
        self.canonical_request, self.string_to_sign = canonical_request, string_to_sign


class Account(NamedTuple):
    """What the service knows of one access key; expires_at in epoch seconds."""

    secret_access_key: str
    session_token: str | None = None
    expires_at: float | None = None


class Verified(NamedTuple):
    """Who signed a request, for what, and the two strings that were signed."""

    access_key_id: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    canonical_request: str
    string_to_sign: str


class Claim(NamedTuple):
    """What a request says about its own signature."""

    access_key_id: str
    scope: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    token: str | None
    lifetime: float | None  # seconds, of a presigned URL
    payload_hash: str | None  # as declared, for S3
    query: tuple[tuple[str, str], ...]  # encoded pairs, the signature taken out

    @property
    def region(self) -> str:
        return self.scope.split("/")[1]

    @property
    def service(self) -> str:
        return self.scope.split("/")[2]


def verify(
    received: Received,
    accounts: Mapping[str, Account],
    *,
    now: float | None = None,
    max_skew: float = 300.0,
    allow_unsigned_token: bool = False,
) -> Verified:
    """Who signed the request; SignatureError when that cannot be proven.

    Without `now` no clock is consulted. `allow_unsigned_token` accepts a session token that was
    added after signing, as a few services (not SageMaker) want it.
    """
    claim = read_claim(received)
    account = find_account(claim, accounts, now)
    check_signed_headers(claim, received, allow_unsigned_token)
    check_clock(claim, now, max_skew)
    payload_hash = accepted_payload_hash(claim, received)
    verified = rebuild(claim, received, payload_hash)
    if signature_matches(claim, verified, account):
        return verified
    if allow_unsigned_token and claim.lifetime is not None:
        without = tuple(pair for pair in claim.query if pair[0] != "X-Amz-Security-Token")
        second = rebuild(claim._replace(query=without), received, payload_hash)
        if signature_matches(claim, second, account):
            return second
    raise SignatureError("InvalidSignatureException", MISMATCH, *verified[-2:])


def incomplete(message: str) -> SignatureError:
    return SignatureError("IncompleteSignatureException", message)


def read_claim(received: Received) -> Claim:
    """The Claim in the Authorization header or in the query."""
    query = canonical_pairs(received.query)
    authorization = received.header("authorization")
    in_query = any(name in ("X-Amz-Algorithm", "X-Amz-Signature") for name, _ in query)
    if authorization is None and not in_query:
        message = "Missing Authentication Token"
        raise SignatureError("MissingAuthenticationTokenException", message)
    if authorization is not None and in_query:
        raise incomplete("Authorization both in the header and in the query")
    if authorization is None:
        return query_claim(received, query)
    return header_claim(received, authorization, query)


def header_claim(received: Received, text: str, query: tuple[tuple[str, str], ...]) -> Claim:
    """The Claim of `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`."""
    algorithm, _, rest = text.partition(" ")
    fields = [field.strip(" ").partition("=")[::2] for field in rest.split(",")]
    if sorted(name for name, _ in fields) != ["Credential", "Signature", "SignedHeaders"]:
        raise incomplete("Authorization header requires Credential, SignedHeaders and Signature")
    return make_claim(
        algorithm,
        dict(fields),
        received.header("x-amz-date") or "",
        token=received.header("x-amz-security-token"),
        payload_hash=received.header("x-amz-content-sha256"),
        query=query,
    )


def query_claim(received: Received, query: tuple[tuple[str, str], ...]) -> Claim:
    """The Claim of a presigned URL."""
    fields = {name[6:]: unquote(value) for name, value in query if name.startswith("X-Amz-")}
    names = [name for name, _ in query if name.startswith("X-Amz-")]
    wanted = {"Credential", "SignedHeaders", "Signature", "Date", "Expires", "Algorithm"}
    if not wanted <= set(fields) or len(names) != len(set(names)):
        raise incomplete(
            "a presigned URL requires each of X-Amz-" + ", X-Amz-".join(sorted(wanted))
        )
    if not re.fullmatch("[0-9]{1,6}", fields["Expires"]) or int(fields["Expires"]) > 604_800:
        raise incomplete("X-Amz-Expires must be between 0 and 604800 seconds")
    declared = received.header("x-amz-content-sha256")
    return make_claim(
        fields["Algorithm"],
        fields,
        fields["Date"],
        token=fields.get("Security-Token"),
        lifetime=float(fields["Expires"]),
        payload_hash=declared or fields.get("Content-Sha256", UNSIGNED),
        query=tuple(pair for pair in query if pair[0] != "X-Amz-Signature"),
    )


def make_claim(algorithm: str, fields: Mapping[str, str], timestamp: str, **rest: Any) -> Claim:
    """A well-formed Claim, whichever way it was written."""
    key_id, _, scope = fields["Credential"].partition("/")
    names = fields["SignedHeaders"].split(";")
    checks = (
        (algorithm == "AWS4-HMAC-SHA256", f"Unsupported AWS 'algorithm': '{algorithm[:40]}'"),
        (re.fullmatch("[0-9]{8}/[!-.0-~]+/[!-.0-~]+/aws4_request", scope), "malformed scope"),
        (re.fullmatch("[0-9]{8}T[0-9]{6}Z", timestamp), "X-Amz-Date must be YYYYMMDDTHHMMSSZ"),
        (scope[:8] == timestamp[:8], "Date in Credential scope does not match X-Amz-Date"),
        (names == sorted(set(names)) and all(names), "SignedHeaders must be sorted and unique"),
        (re.fullmatch(r"[!-@\[-~]+", fields["SignedHeaders"]), "SignedHeaders in lower case"),
        (re.fullmatch("[0-9a-f]{64}", fields["Signature"]), "Signature must be 64 hex digits"),
    )
    for passed, message in checks:
        if not passed:
            raise incomplete(message)
    optional: dict[str, Any] = {"token": None, "lifetime": None, **rest}
    return Claim(key_id, scope, tuple(names), fields["Signature"], timestamp, **optional)


def find_account(claim: Claim, accounts: Mapping[str, Account], now: float | None) -> Account:
    """The account of the claim's key, if the token is its own and has not expired."""
    account = accounts.get(claim.access_key_id)
    given, wanted = (claim.token or ""), (account and account.session_token) or ""
    same = hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())
    if account is None or not same:
        message = "The security token included in the request is invalid."
        raise SignatureError("UnrecognizedClientException", message)
    if now is not None and account.expires_at is not None and account.expires_at <= now:
        message = "The security token included in the request is expired"
        raise SignatureError("ExpiredTokenException", message)
    return account


def check_signed_headers(claim: Claim, received: Received, allow_unsigned_token: bool) -> None:
    """IncompleteSignatureException unless host and every x-amz- header is signed."""
    present = {name.lower() for name, _ in received.headers}
    required = {name for name in present if name.startswith("x-amz-")} | {"host"}
    if allow_unsigned_token:
        required.discard("x-amz-security-token")
    missing = required.difference(claim.signed_headers)
    if missing:
        raise incomplete(f"'{', '.join(sorted(missing))}' must be in SignedHeaders")


def check_clock(claim: Claim, now: float | None, max_skew: float) -> None:
    """InvalidSignatureException when the request is too old or from the future."""
    try:
        signed = calendar.timegm(time.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise incomplete("X-Amz-Date is not a date") from None
    if now is None:
        return
    age, minutes = (max_skew if claim.lifetime is None else claim.lifetime), max_skew / 60
    if signed < now - age:
        limit = f"{timestamp_of(now - age)} ({timestamp_of(now)} - {age / 60:g} min.)"
        message = f"Signature expired: {claim.timestamp} is now earlier than {limit}"
        raise SignatureError("InvalidSignatureException", message)
    if signed > now + max_skew:
        limit = f"{timestamp_of(now + max_skew)} ({timestamp_of(now)} + {minutes:g} min.)"
        message = f"Signature not yet current: {claim.timestamp} is still later than {limit}"
        raise SignatureError("InvalidSignatureException", message)


def timestamp_of(seconds: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def accepted_payload_hash(claim: Claim, received: Received) -> str:
    """The last line of the canonical request; for S3 what the client declared, if it is true."""
    if claim.service != "s3":
        return hashlib.sha256(received.body).hexdigest()
    if claim.payload_hash is None:
        raise incomplete("Missing required header for this request: x-amz-content-sha256")
    if claim.payload_hash not in (UNSIGNED, hashlib.sha256(received.body).hexdigest()):
        message = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise SignatureError("XAmzContentSHA256Mismatch", message)
    return claim.payload_hash


def rebuild(claim: Claim, received: Received, payload_hash: str) -> Verified:
    """What the client must have signed, from the request as it arrived."""
    lines = [received.method, canonical_path(received.path, claim.service)]
    lines.append("&".join(f"{name}={value}" for name, value in sorted(claim.query)))
    for name in claim.signed_headers:
        values = [re.sub("[ \t\r\n\f\v]+", " ", value) for value in received.values(name)]
        if values:
            lines.append(f"{name}:" + ",".join(value.strip(" ") for value in values))
    lines += ["", ";".join(claim.signed_headers), payload_hash]
    request = "\n".join(lines)
    digest = hashlib.sha256(request.encode("utf-8", "surrogateescape")).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{claim.timestamp}\n{claim.scope}\n{digest}"
    who = (claim.access_key_id, claim.region, claim.service)
    return Verified(*who, claim.signed_headers, request, to_sign)


def canonical_path(path: str, service: str) -> str:
    """The path encoded once for S3; for the others dot segments removed, then encoded again."""
    if service == "s3":
        return quote(unquote_to_bytes(path.encode("utf-8", "surrogateescape")), safe="/")
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    slash = "/" if kept and path.rsplit("/", 1)[1] in ("", ".", "..") else ""
    return quote(("/" + "/".join(kept) + slash).encode("utf-8", "surrogateescape"), safe="/")


def canonical_pairs(query: str) -> tuple[tuple[str, str], ...]:
    """The query's (name, value) pairs, decoded and encoded again the one canonical way."""
    pairs = (part.partition("=")[::2] for part in query.split("&") if part)
    return tuple((canonical_text(name), canonical_text(value)) for name, value in pairs)


def canonical_text(text: str) -> str:
    return quote(unquote_to_bytes(text.encode("utf-8", "surrogateescape")), safe="")


def signature_matches(claim: Claim, verified: Verified, account: Account) -> bool:
    key = signing_key(account.secret_access_key, claim.scope)
    expected = hmac.new(key, verified.string_to_sign.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, claim.signature)


@functools.lru_cache(maxsize=64)
def signing_key(secret_access_key: str, scope: str) -> bytes:
    key = ("AWS4" + secret_access_key).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


# --- 3. Answers --------------------------------------------------------------

Headers = tuple[tuple[str, str], ...]


class Reply(NamedTuple):
    """An answer to be; Date, Content-Length and Connection are added when it is sent."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    date_offset: float = 0.0  # seconds by which the Date header is wrong

    def encode(self, now: float, *, keep_alive: bool = True) -> bytes:
        """The answer's head, ready to be sent before the body."""
        reason = http.client.responses.get(self.status, "Unknown")
        date = email.utils.formatdate(now + self.date_offset, usegmt=True)
        lines = [f"HTTP/1.1 {self.status} {reason}", f"Date: {date}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(self.body)}"]
        lines += [] if keep_alive else ["Connection: close"]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def json_reply(status: int, document: object, *headers: tuple[str, str]) -> Reply:
    """A restJson1 answer with a request id."""
    body = json.dumps(document).encode()
    identity = ("x-amzn-RequestId", str(uuid.uuid4()))
    return Reply(status, (identity, ("Content-Type", "application/json"), *headers), body)


def json_error(
    status: int, code: str | None, message: str, headers: Headers = (), spelling: str = "header"
) -> Reply:
    """A restJson1 error; spelling says where its code stands: header, __type, code, Code, none."""
    if code is None or spelling == "none":
        return json_reply(status, {"message": message}, *headers)
    if spelling == "header":
        return json_reply(status, {"message": message}, ("x-amzn-errortype", code), *headers)
    return json_reply(status, {spelling: code, "message": message}, *headers)


def xml_error(
    status: int,
    code: str | None,
    message: str,
    headers: Headers = (),
    elements: Mapping[str, str] = MappingProxyType({}),
) -> Reply:
    """An S3 error; elements are further children of <Error>."""
    request_id = uuid.uuid4().hex[:16].upper()
    fields = {"Code": code or "", "Message": message, **elements, "RequestId": request_id}
    inside = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in fields.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inside}</Error>'
    identity = (("x-amz-request-id", request_id), ("Content-Type", "application/xml"))
    return Reply(status, (*identity, *headers), body.encode("utf-8", "backslashreplace"))


# --- 4. SageMaker Runtime ----------------------------------------------------
# The operation's input shape in botocore's service-2.json, as a table: one row a header member.

MAX_BODY_BYTES = 128_000
ENDPOINT_NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"
ASCII = r"[\x00-\x7f]*"


class Member(NamedTuple):
    """One header member: smallest and largest length, or value when the pattern is of a number."""

    name: str
    header: str
    low: int
    high: int
    pattern: str


MEMBERS = (
    Member("InputLocation", "InputLocation", 1, 1024, r"(https|s3)://([^/]+)/?(.*)"),
    Member("ContentType", "Content-Type", 0, 1024, ASCII),
    Member("Accept", "Accept", 0, 1024, ASCII),
    Member("CustomAttributes", "Custom-Attributes", 0, 1024, ASCII),
    Member("InferenceId", "Inference-Id", 1, 64, r"[!-~][ -~]*"),
    Member(
        "S3OutputPathExtension",
        "S3OutputPathExtension",
        1,
        512,
        r"(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+",
    ),
    Member("Filename", "Filename", 1, 32, r"(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9_.-]*"),
    Member("RequestTTLSeconds", "RequestTTLSeconds", 60, 21_600, "[0-9]{1,9}"),
    Member("InvocationTimeoutSeconds", "InvocationTimeoutSeconds", 1, 3600, "[0-9]{1,9}"),
)


class Inference(NamedTuple):
    """One accepted request; members are those that came as text, under AWS's names."""

    inference_id: str
    endpoint_name: str
    members: dict[str, str]
    body: bytes | None
    input_location: str | None
    received: Received
    accepted_at: float
    output_location: str
    failure_location: str


def invoke_endpoint_async(emulator: Emulator, received: Received, match: re.Match[str]) -> Reply:
    """202 and an entry in the ledger, or why not."""
    problem = sagemaker_auth_problem(emulator, received)
    if problem:
        return json_error(403, problem.code, problem.message)
    members, problems = read_members(received, unquote(match[1], errors="surrogateescape"))
    if problems:
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected"
        return json_error(400, "ValidationError", f"{count}: {'; '.join(problems)}")
    inference = new_inference(emulator, received, members)
    emulator.accept(inference)
    return json_reply(
        202,
        {"InferenceId": inference.inference_id},
        ("X-Amzn-SageMaker-OutputLocation", inference.output_location),
        ("X-Amzn-SageMaker-FailureLocation", inference.failure_location),
    )


def sagemaker_auth_problem(emulator: Emulator, received: Received) -> SignatureError | None:
    """The reason to answer 403, worded as the service words it, or None."""
    if not emulator.check_signatures:
        return None
    code = "InvalidSignatureException"
    try:
        verified = verify(received, emulator.accounts, now=emulator.clock())
    except SignatureError as error:
        if error.canonical_request:
            error.message += (
                "\n\nThe Canonical String for this request should have been\n"
                f"'{error.canonical_request}'\n\n"
                f"The String-to-Sign should have been\n'{error.string_to_sign}'\n"
            )
        return error
    if verified.service != "sagemaker":
        return SignatureError(code, "Credential should be scoped to correct service: 'sagemaker'.")
    if verified.region != emulator.region:
        return SignatureError(code, "Credential should be scoped to a valid region.")
    return None


def read_members(received: Received, endpoint_name: str) -> tuple[dict[str, str], list[str]]:
    """The members that came as text, and what is wrong with the request."""
    members, problems = {"EndpointName": endpoint_name}, []
    if not re.fullmatch(ENDPOINT_NAME, endpoint_name) or len(endpoint_name) > 63:
        problems.append(constraint("EndpointName", f"satisfy pattern {ENDPOINT_NAME}, at most 63"))
    for member in MEMBERS:
        values = received.values("X-Amzn-SageMaker-" + member.header)
        problems += [text for value in values for text in member_problems(member, value)]
        if values:
            members[member.name] = values[0]
        if len(values) > 1:
            problems.append(constraint(member.name, "be given once"))
    if len(received.body) > MAX_BODY_BYTES:
        problems.append(constraint("Body", f"have length at most {MAX_BODY_BYTES}"))
    if bool(received.body) == ("InputLocation" in members):
        problems.append("Exactly one of Body and InputLocation must be given")
    return members, problems


def member_problems(member: Member, value: str) -> Iterator[str]:
    """What the service would say about one header member's value."""
    if not re.fullmatch(member.pattern, value) or re.search("[\udc80-\udcff]", value):
        yield constraint(member.name, f"satisfy regular expression pattern: {member.pattern}")
    elif member.pattern.startswith("[0-9]"):
        if not member.low <= int(value) <= member.high:
            yield constraint(member.name, f"have value from {member.low} to {member.high}")
    elif not member.low <= len(value) <= member.high:
        yield constraint(member.name, f"have length from {member.low} to {member.high}")


def constraint(name: str, text: str) -> str:
    return (
        f"Value at '{name[0].lower()}{name[1:]}' failed to satisfy constraint: Member must {text}"
    )


def new_inference(emulator: Emulator, received: Received, members: dict[str, str]) -> Inference:
    """The ledger's entry for a request that passed every check."""
    identity = str(uuid.uuid4())
    name = members.get("Filename", f"{identity}.out")
    prefix = members.get("S3OutputPathExtension", "").strip("/")
    bucket = f"s3://{emulator.output_bucket}/"
    return Inference(
        inference_id=members.get("InferenceId", identity),
        endpoint_name=members["EndpointName"],
        members=members,
        body=received.body or None,
        input_location=members.get("InputLocation"),
        received=received,
        accepted_at=emulator.clock(),
        output_location=f"{bucket}{prefix}/{name}" if prefix else f"{bucket}{name}",
        failure_location=f"{bucket}failures/{identity}-error.out",
    )


def run_model(emulator: Emulator, inference: Inference) -> None:
    """Leaves an object at the inference's OutputLocation, or at its FailureLocation."""
    try:
        body, kind = model_input(emulator, inference)
        result = emulator.model(body, kind)
    except Exception as error:  # whatever a model raises is the inference's failure
        emulator.put(inference.failure_location, str(error or repr(error)).encode(), "text/plain")
        return
    output = result if isinstance(result, tuple) else (result, "application/octet-stream")
    emulator.put(inference.output_location, *output)


def model_input(emulator: Emulator, inference: Inference) -> tuple[bytes, str]:
    """(bytes, content type) of the Body, or of the object at InputLocation."""
    kind = inference.members.get("ContentType")
    if inference.body is not None:
        return inference.body, kind or "application/octet-stream"
    stored = emulator.objects.get(object_name(inference.input_location or ""))
    if stored is None:
        raise LookupError(f"NoSuchKey: there is no object at {inference.input_location}")
    return stored.body, kind or stored.content_type


def object_name(location: str) -> str:
    """`s3://bucket/key` of an s3:// location or of an https:// one, in either style of S3's."""
    path_style = re.fullmatch(r"https://s3[.-][^/]+/([^/]+)/(.*)", location)
    match = path_style or re.fullmatch(r"https://([^/]+?)\.s3[.-][^/]+/(.*)", location)
    return f"s3://{match[1]}/{unquote(match[2])}" if match else location


def default_model(body: bytes, content_type: str) -> tuple[bytes, str]:
    """Statistics of the numbers in JSON, CSV or plain text, or counts of the text's words."""
    text = body.decode("utf-8")
    if "json" in content_type or text.lstrip()[:1] in ("{", "["):
        answer = statistics(list(numbers_in(json.loads(text))))
    else:
        answer = describe_text(text)
    return json.dumps(answer).encode(), "application/json"


def describe_text(text: str) -> dict[str, object]:
    """Statistics when every comma- or space-separated field is a number, else word counts."""
    try:
        return statistics([float(field) for field in re.split(r"[,;\s]+", text.strip(" ,;\r\n"))])
    except ValueError:
        words = re.findall(r"\w+", text.lower())
    if not words:
        raise ValueError("the input holds neither numbers nor words")
    return {"count": len(words), "words": dict(collections.Counter(words).most_common())}


def numbers_in(document: object) -> Iterator[float]:
    """Every number anywhere in a JSON document."""
    if isinstance(document, (int, float)) and not isinstance(document, bool):
        yield document
    elif isinstance(document, (list, dict)):
        children = document.values() if isinstance(document, dict) else document
        for child in children:
            yield from numbers_in(child)


def statistics(numbers: list[float]) -> dict[str, object]:
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError("the input holds no numbers, or numbers that are not finite")
    mean = math.fsum(numbers) / len(numbers)
    ends = {"minimum": min(numbers), "maximum": max(numbers)}
    return {"count": len(numbers), "mean": mean, **ends}


# --- 5. S3 -------------------------------------------------------------------
# Path style only. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html

S3_CODES = {
    "MissingAuthenticationTokenException": (403, "AccessDenied"),
    "IncompleteSignatureException": (400, "AuthorizationHeaderMalformed"),
    "UnrecognizedClientException": (403, "InvalidAccessKeyId"),
    "ExpiredTokenException": (400, "ExpiredToken"),
    "InvalidSignatureException": (403, "SignatureDoesNotMatch"),
    "XAmzContentSHA256Mismatch": (400, "XAmzContentSHA256Mismatch"),
}


@dataclasses.dataclass(frozen=True)
class StoredObject:
    """One object of the emulated S3; metadata are its x-amz-meta- headers, in lower case."""

    body: bytes
    content_type: str = "application/octet-stream"
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'


def s3(emulator: Emulator, received: Received, match: re.Match[str]) -> Reply:
    """PUT, GET or HEAD of one object, or S3's XML for what is wrong."""
    bucket, key = match[1], unquote(match[2], errors="surrogateescape")
    if emulator.check_signatures:
        try:
            verified = verify(received, emulator.accounts, now=emulator.clock())
        except SignatureError as error:
            return s3_auth_error(error)
        if verified.service != "s3":
            return xml_error(403, "AccessDenied", "Credential should be scoped to service 's3'.")
        wanted = emulator.bucket_regions.get(bucket, emulator.region)
        if verified.region != wanted:
            return wrong_region(verified.region, wanted)
    return S3_METHODS[received.method](emulator, received, f"s3://{bucket}/{key}")


def s3_auth_error(error: SignatureError) -> Reply:
    """A SignatureError in S3's words."""
    status, code = S3_CODES[error.code]
    if error.message.startswith(("Signature expired", "Signature not yet")):
        return xml_error(403, "RequestTimeTooSkewed", error.message)
    if code != "SignatureDoesNotMatch":
        return xml_error(status, code, error.message)
    evidence = {"CanonicalRequest": error.canonical_request, "StringToSign": error.string_to_sign}
    return xml_error(status, code, error.message, elements=evidence)


def wrong_region(given: str, wanted: str) -> Reply:
    message = (
        f"The authorization header is malformed; the region '{given}' is wrong; "
        f"expecting '{wanted}'"
    )
    headers = (("x-amz-bucket-region", wanted),)
    return xml_error(400, "AuthorizationHeaderMalformed", message, headers, {"Region": wanted})


def put_object(emulator: Emulator, received: Received, name: str) -> Reply:
    metadata = {
        key.lower()[11:]: value
        for key, value in received.headers
        if key.lower().startswith("x-amz-meta-")
    }
    kind = received.header("content-type") or "binary/octet-stream"
    emulator.objects[name] = stored = StoredObject(received.body, kind, metadata)
    return Reply(200, (("x-amz-request-id", uuid.uuid4().hex), ("ETag", stored.etag)))


def get_object(emulator: Emulator, received: Received, name: str) -> Reply:
    """The object, or the part of it that Range asks for; HEAD is the same without a body."""
    stored = emulator.objects.get(name)
    if stored is None:
        return missing_object(emulator, name)
    headers = (
        ("x-amz-request-id", uuid.uuid4().hex),
        ("ETag", stored.etag),
        ("Content-Type", stored.content_type),
        ("Accept-Ranges", "bytes"),
        *((f"x-amz-meta-{key}", value) for key, value in stored.metadata.items()),
    )
    if received.header("if-match") not in (None, stored.etag):
        return xml_error(412, "PreconditionFailed", "The object is not the one of If-Match")
    wanted = re.fullmatch("bytes=([0-9]+)-([0-9]*)", received.header("range") or "")
    if not wanted:
        return Reply(200, headers, stored.body)
    size, start = len(stored.body), int(wanted[1])
    if start >= size:
        return xml_error(416, "InvalidRange", "The requested range is not satisfiable")
    part = stored.body[start : int(wanted[2] or size) + 1]
    spot = ("Content-Range", f"bytes {start}-{start + len(part) - 1}/{size}")
    return Reply(206, (*headers, spot), part)


def missing_object(emulator: Emulator, name: str) -> Reply:
    """404, or what S3 tells those who may not list the bucket."""
    if not emulator.may_list:
        return xml_error(403, "AccessDenied", "Access Denied")
    key = name.encode("utf-8", "replace").decode().split("/", 3)[3]
    return xml_error(404, "NoSuchKey", "The specified key does not exist.", elements={"Key": key})


S3_METHODS = {"PUT": put_object, "GET": get_object, "HEAD": get_object}


# --- 6. Routes ---------------------------------------------------------------
# The first row whose method and path match has the request. Its last column writes the errors that
# faults ask for.

Handler = Callable[["Emulator", Received, "re.Match[str]"], Reply]


class Route(NamedTuple):
    """A row: patterns of the method and of the encoded path, who answers, who words errors."""

    method: str
    path: str
    handler: Handler
    error: Callable[..., Reply]


def unknown(emulator: Emulator, received: Received, match: re.Match[str]) -> Reply:
    return json_error(404, "UnknownOperationException", f"nothing at {received.path}")


ROUTES = (
    Route("POST", "/endpoints/([^/]*)/async-invocations", invoke_endpoint_async, json_error),
    Route("PUT|GET|HEAD", "/([^/]+)/(.+)", s3, xml_error),
    Route(".*", ".*", unknown, json_error),
)


# --- 7. Faults ---------------------------------------------------------------
# A fault is a function of the connection, which holds the request. The Reply that it returns is
# sent as any other; None ends the connection. `connection.handle()` is the good answer, and what
# makes the emulator accept the request.


@dataclasses.dataclass(frozen=True)
class Fault:
    """What shall happen to one request: a name in FAULTS and that function's arguments."""

    kind: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Action = Callable[..., Union[Reply, None]]
FAULTS: dict[str, Action] = {}


def fault(action: Action) -> Callable[..., Fault]:
    """Enters an action into FAULTS; returns the function that makes such a Fault."""
    signature = inspect.signature(action)
    FAULTS[action.__name__] = action

    def factory(*arguments: Any, **options: Any) -> Fault:
        signature.bind(None, *arguments, **options)
        return Fault(action.__name__, arguments, options)

    factory.__doc__ = action.__doc__
    return factory


@fault
def status(
    connection: Connection,
    code: int,
    error_code: str | None = None,
    message: str = "",
    headers: Headers = (),
    body: bytes | None = None,
    spelling: str = "header",
) -> Reply:
    """An error without accepting; spelling (not for S3): header, __type, code, Code or none."""
    if connection.route.error is json_error:
        reply = json_error(code, error_code, message, tuple(headers), spelling)
    else:
        reply = connection.route.error(code, error_code, message, tuple(headers))
    return reply if body is None else reply._replace(body=body)


@fault
def throttle(connection: Connection) -> Reply:
    """400 ThrottlingException, or S3's 503 SlowDown."""
    if connection.route.error is xml_error:
        return xml_error(503, "SlowDown", "Please reduce your request rate.")
    return json_error(400, "ThrottlingException", "Rate exceeded")


@fault
def reset_before(connection: Connection) -> NoReturn:
    """RST as soon as the request's first bytes are there."""
    connection.reset()


@fault
def reset_after(connection: Connection) -> NoReturn:
    """RST after the whole request was read; nothing is accepted."""
    connection.reset()


@fault
def accept_then_reset(connection: Connection) -> NoReturn:
    """The request is accepted, and instead of an answer comes RST."""
    connection.handle()
    connection.reset()


@fault
def close_after(connection: Connection) -> None:
    """A clean end after the request was read; no answer, nothing accepted."""


@fault
def stall(connection: Connection, seconds: float) -> None:
    """Silence, then a clean end; nothing accepted."""
    connection.idle(seconds)


@fault
def drip(connection: Connection, interval: float) -> None:
    """The good answer, a byte every interval seconds."""
    connection.drip(connection.encode(connection.handle()), interval)


@fault
def slow_body(connection: Connection, interval: float = 0.05) -> None:
    """The good answer, its head at once, its body a byte every interval seconds."""
    reply = connection.handle()
    data = connection.encode(reply)
    connection.send(data[: len(data) - len(reply.body)])
    connection.drip(reply.body, interval)


@fault
def truncate(connection: Connection, n: int = 1) -> None:
    """The good answer with the full Content-Length, but without the body's last n bytes."""
    reply = connection.handle()
    data = connection.encode(reply)
    connection.send(data[: len(data) - min(n, len(reply.body))])


@fault
def garbage(connection: Connection) -> None:
    """Bytes that are not HTTP, then a clean end."""
    connection.send(b"\x15\x03\x01\x00\x02\x02\x46 this is not HTTP\r\n\r\n")


@fault
def continue_forever(connection: Connection, interval: float = 0.01) -> None:
    """`100 Continue` again and again until the client hangs up."""
    while True:
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.idle(interval)


@fault
def huge_body(connection: Connection, size: int, code: int = 200) -> Reply:
    """An answer of that status with a body of that size; nothing accepted."""
    return Reply(code, (("Content-Type", "application/octet-stream"),), bytes(size))


@fault
def redirect(connection: Connection, location: str, code: int = 302) -> Reply:
    """302 to the location."""
    return Reply(code, (("Location", location),))


@fault
def login_page(connection: Connection) -> Reply:
    """200 and the page of a captive portal."""
    page = b"<!DOCTYPE html><html><title>Welcome</title><form>Please log in</form></html>\n"
    return Reply(200, (("Content-Type", "text/html"),), page)


@fault
def deep_json(connection: Connection, depth: int) -> Reply:
    """400 with JSON nested that deep."""
    body = b'{"message":' * depth + b'"deep"' + b"}" * depth
    return Reply(400, (("Content-Type", "application/json"),), body)


@fault
def close_idle(connection: Connection) -> None:
    """The good answer as if the connection stayed open, and its end at once."""
    connection.send(connection.encode(connection.handle()))


@fault
def answer(connection: Connection, raw: bytes) -> None:
    """Exactly these bytes, then a clean end; nothing accepted."""
    connection.send(raw)


@fault
def skewed(connection: Connection, seconds: float) -> Reply:
    """The good answer, its Date header off by that many seconds."""
    return connection.handle()._replace(date_offset=seconds)


# --- 8. Connections ----------------------------------------------------------


class Disconnected(Exception):
    """The client, or the emulator's own close, ended the connection."""


class Connection:
    """One client's connection: reads requests, answers each, in a thread of its own."""

    def __init__(self, emulator: Emulator, sock: socket.socket) -> None:
        self.emulator, self.sock = emulator, sock
        self.buffer = b""
        self.received = Received("", "", ())
        self.route, self.match = emulator.find_route(self.received)
        self.thread = threading.Thread(target=self.run, name="emulator connection", daemon=True)

    def run(self) -> None:
        """Serves the connection to its end; only a fault of the emulator's own is reported."""
        try:
            self.open()
            while self.exchange():
                pass
        except Disconnected:
            pass
        except Exception:
            traceback.print_exc()
        finally:
            self.sock.close()
            self.emulator.forget(self)

    def open(self) -> None:
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.emulator.tls_context:
                self.sock = tls = self.emulator.tls_context.wrap_socket(
                    self.sock, server_side=True, do_handshake_on_connect=False
                )
                tls.do_handshake()  # here, where hang_up() can reach it
        except OSError as error:
            raise Disconnected from error

    def exchange(self) -> bool:
        """Answers one request; True when another may follow."""
        self.buffer = self.buffer or self.receive()
        early = self.emulator.next_fault(None)
        if early:
            FAULTS[early.kind](self)
        try:
            self.received = self.read_request()
        except ValueError as error:
            return self.refuse(str(error))
        self.route, self.match = self.emulator.find_route(self.received)
        self.emulator.requests.append(self.received)
        chosen = self.emulator.next_fault(self.received)
        if chosen is None:
            return self.reply(self.handle())
        self.emulator.note(f"{self.received.method} {self.received.target}: {chosen.kind}")
        result = FAULTS[chosen.kind](self, *chosen.arguments, **chosen.options)
        return result is not None and self.reply(result)

    def handle(self) -> Reply:
        """The answer of the emulated service, whatever then becomes of it."""
        try:
            reply = self.route.handler(self.emulator, self.received, self.match)
        except Exception:
            traceback.print_exc()
            reply = self.route.error(500, "InternalFailure", traceback.format_exc())
        self.emulator.note(f"{self.received.method} {self.received.target}: {reply.status}")
        return reply

    def reply(self, reply: Reply) -> bool:
        self.send(self.encode(reply))
        return self.received.keep_alive

    def encode(self, reply: Reply) -> bytes:
        """The whole answer as bytes; without the body when the request was HEAD."""
        head = reply.encode(self.emulator.clock(), keep_alive=self.received.keep_alive)
        return head if self.received.method == "HEAD" else head + reply.body

    def refuse(self, reason: str) -> bool:
        """Says 400, and takes in what is still under way, lest the answer be lost to a RST."""
        self.emulator.note(f"malformed request: {reason}")
        reply = Reply(400, (("Content-Type", "text/plain"),), f"Bad Request: {reason}\n".encode())
        self.send(reply.encode(self.emulator.clock(), keep_alive=False) + reply.body)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
            self.sock.settimeout(1.0)
            while socket.socket.recv(self.sock, 65_536):
                pass
        return False

    def read_request(self) -> Received:
        """One request off the socket; ValueError when it is malformed."""
        while b"\r\n\r\n" not in self.buffer:
            if BROKEN_LINE.search(self.buffer) or len(self.buffer) > MAX_HEAD_BYTES:
                raise ValueError("a broken line, or a head that is too long")
            self.buffer += self.receive()
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD_BYTES:
            raise ValueError("a head that is too long")
        received = parse_head(head + separator)
        size = content_length(received)
        if len(rest) < size and (received.header("expect") or "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts, missing = [rest[:size]], size - len(rest)
        while missing > 0:
            parts.append(self.receive(min(missing, 1 << 20)))
            missing -= len(parts[-1])
        received.body, self.buffer = b"".join(parts), rest[size:]
        return received

    def receive(self, size: int = 65_536) -> bytes:
        try:
            data = self.sock.recv(size)
        except OSError as error:
            raise Disconnected from error
        if not data:
            raise Disconnected
        return data

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Disconnected from error

    def drip(self, data: bytes, interval: float) -> None:
        for i in range(len(data)):
            self.send(data[i : i + 1])
            self.idle(interval)

    def idle(self, seconds: float) -> None:
        """Waits; raises Disconnected as soon as either side hangs up."""
        self.sock.settimeout(seconds)
        try:
            early = socket.socket.recv(self.sock, 1, socket.MSG_PEEK)
        except (socket.timeout, BlockingIOError):
            return
        except OSError as error:
            raise Disconnected from error
        finally:
            self.sock.settimeout(None)
        if not early or self.emulator.tls_context or self.emulator.closing.wait(seconds):
            raise Disconnected

    def reset(self) -> NoReturn:
        """Ends the connection with RST instead of FIN."""
        layout = "hh" if os.name == "nt" else "ii"
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(layout, 1, 0))
        finally:
            self.sock.close()
        raise Disconnected

    def hang_up(self) -> None:
        """Wakes the connection's thread, whatever it waits for; called from another thread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


# --- 9. The emulator ---------------------------------------------------------

Model = Callable[[bytes, str], Union[bytes, tuple[bytes, str]]]
FaultChooser = Callable[[Union[Received, None]], Union[Fault, None]]


class Emulator:
    """The server and all it remembers; a context manager, or start() and close().

    `latency` is how many seconds after the answer the model runs; at 0 it has run before the
    answer is sent. Later models run one after another, in one thread.
    """

    def __init__(
        self,
        *,
        model: Model = default_model,
        accounts: Mapping[str, Account] | None = None,
        region: str = "us-east-1",
        clock: Callable[[], float] = time.time,
        latency: float = 0.0,
        tls: bool = False,
        output_bucket: str = "async-output",
        check_signatures: bool = True,
        log: Callable[[str], None] | None = None,
        port: int = 0,
    ) -> None:
        self.model, self.region, self.clock, self.latency = model, region, clock, latency
        self.output_bucket, self.check_signatures, self.log = output_bucket, check_signatures, log
        self.accounts = dict(accounts or {ACCESS_KEY_ID: Account(SECRET_ACCESS_KEY)})
        self.ca_bundle = str(Path(__file__).with_name("loopback.pem"))
        self.routes = list(ROUTES)
        self.bucket_regions: dict[str, str] = {}  # of buckets that are not in `region`
        self.may_list = True  # False: a missing key is 403, as without s3:ListBucket
        self.requests: list[Received] = []
        self.ledger: list[Inference] = []
        self.objects: dict[str, StoredObject] = {}
        self.connections = 0
        self.closing = threading.Event()
        self.tls_context = server_context(self.ca_bundle) if tls else None
        self._port = port
        self._lock = threading.Lock()
        self._faults: collections.deque[Fault] = collections.deque()
        self._chooser: FaultChooser | None = None
        self._open: set[Connection] = set()
        self._jobs: collections.deque[tuple[float, Inference]] = collections.deque()
        self._running = 0
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def start(self) -> Emulator:
        """The emulator itself, listening."""
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name != "nt":  # there it would let two servers share the port
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self._port))
        self._listener.listen(256)
        self._port = self._listener.getsockname()[1]
        for target in (self._accept_connections, self._run_models):
            thread = threading.Thread(
                target=target, name=f"emulator {target.__name__}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        return self

    __enter__ = start

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops serving: no thread and no socket is left. Models still to run are dropped."""
        if self.closing.is_set() or not self._threads:
            return
        self.closing.set()
        with self._changed:
            self._changed.notify_all()
        with contextlib.suppress(OSError):  # wakes accept()
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.hang_up()
        for connection in connections:
            connection.thread.join(5)

    @property
    def url(self) -> str:
        return f"{'https://localhost' if self.tls_context else 'http://127.0.0.1'}:{self._port}"

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    def fail(self, *faults: Fault) -> None:
        """Appends to the queue from which each request takes its fault."""
        with self._lock:
            self._faults.extend(faults)

    def fail_every(self, function: FaultChooser | None) -> None:
        """Asks the function for the fault of each complete request that finds the queue empty."""
        self._chooser = function

    def next_fault(self, received: Received | None) -> Fault | None:
        """The fault of a request; None for `received` takes only one that precedes reading."""
        with self._lock:
            if self._faults and (received or self._faults[0].kind == "reset_before"):
                return self._faults.popleft()
        return self._chooser(received) if received and self._chooser else None

    def find_route(self, received: Received) -> tuple[Route, re.Match[str]]:
        """The first row that matches, and the match of its path."""
        for route in self.routes:
            match = re.fullmatch(route.path, received.path)
            if match and re.fullmatch(route.method, received.method):
                return route, match
        raise LookupError(f"no route for {received.method} {received.path}")

    def put(
        self, location: str, body: bytes, content_type: str = "application/octet-stream"
    ) -> None:
        """Stores an object without HTTP."""
        self.objects[location] = StoredObject(body, content_type)

    def get(self, location: str) -> bytes:
        """An object's bytes; KeyError when there is none."""
        return self.objects[location].body

    def accept(self, inference: Inference) -> None:
        """Enters it into the ledger, and runs the model now or later."""
        with self._changed:
            self.ledger.append(inference)
            self._running += 1
            if self.latency > 0:
                self._jobs.append((time.monotonic() + self.latency, inference))
                self._changed.notify_all()
        if self.latency <= 0:
            self._run_model(inference)

    def drain(self, timeout: float = 10) -> None:
        """Waits until every accepted inference has its result; TimeoutError after `timeout`."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._running, timeout):
                raise TimeoutError(f"{self._running} models still running after {timeout} s")

    def note(self, text: str) -> None:
        if self.log:
            self.log(text)

    def forget(self, connection: Connection) -> None:
        with self._lock:
            self._open.discard(connection)

    def _run_model(self, inference: Inference) -> None:
        try:
            run_model(self, inference)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _run_models(self) -> None:
        """Runs each waiting model when its time has come, until the emulator closes."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self.closing.is_set())
                if self.closing.is_set():
                    return
                due, inference = self._jobs.popleft()
            if self.closing.wait(max(0.0, due - time.monotonic())):
                return
            self._run_model(inference)

    def _accept_connections(self) -> None:
        """Starts a thread for each connection, until the emulator closes."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                if self.closing.wait(0.01):
                    return
                traceback.print_exc()
                continue
            if self.closing.is_set():
                sock.close()
                return
            connection = Connection(self, sock)
            with self._lock:
                self._open.add(connection)
                self.connections += 1
            connection.thread.start()


def server_context(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate)
    return context


# --- 10. Command line --------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C; the environment to set goes to stdout, what happens to stderr."""
    parser = argparse.ArgumentParser(description="A loopback SageMaker Runtime and S3.")
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument(
        "--latency", type=float, default=0.0, help="seconds until a result is there"
    )
    arguments = parser.parse_args(argv)

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with Emulator(port=arguments.port, latency=arguments.latency, log=log) as emulator:
        verb, unset = ("set", "set {}=") if os.name == "nt" else ("export", "unset {}")
        for name, value in environment(emulator).items():
            print(f"{verb} {name}={value}", flush=True)
        for name in ELSEWHERE:
            print(unset.format(name), flush=True)
        log("Serving; Ctrl-C ends it.")
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            return 0


# Variables of a shell that would point a client elsewhere, or go badly with the emulator's key.
ELSEWHERE = """AWS_SESSION_TOKEN AWS_PROFILE AWS_DEFAULT_PROFILE AWS_USE_FIPS_ENDPOINT
    AWS_USE_DUALSTACK_ENDPOINT AWS_IGNORE_CONFIGURED_ENDPOINT_URLS""".split()


def environment(emulator: Emulator) -> dict[str, str]:
    """The variables that point any AWS client at the emulator."""
    key_id, account = next(iter(emulator.accounts.items()))
    return {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": emulator.url,
        "AWS_ENDPOINT_URL_S3": emulator.url,
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": account.secret_access_key,
        "AWS_REGION": emulator.region,
        "AWS_DEFAULT_REGION": emulator.region,
    }


if __name__ == "__main__":
    sys.exit(main())
