#!/usr/bin/env python3
"""smasync: Amazon SageMaker's InvokeEndpointAsync in one file, with the standard library alone.

Hand-rolled Signature Version 4, restJson1 serialization and a urllib transport, written to be
vendored, to be copied into a Lambda layer, and to be read from top to bottom.
MIT licence; the text is in LICENSE, or at https://opensource.org/license/mit.

    import smasync

    with smasync.Client("us-east-1") as sagemaker:
        location = sagemaker.put_input("in.json", "s3://my-bucket/in.json")
        accepted = sagemaker.invoke_endpoint_async(
            EndpointName="my-endpoint", InputLocation=location
        )
        print(sagemaker.wait(accepted).body)

There are four parts; each uses only those above it. Cut the file before a part, and what is left
works: a signer and serializer; with Part II, a client; with Part III, the whole job.

    PART I: THE PROTOCOL
     1. Values
     2. Signature Version 4
     3. The operation
     4. Errors and answers
     5. Retry decisions
     6. Endpoints
    PART II: THE CLIENT
     7. Settings
     8. Transport
     9. Sending
    10. Credentials
    11. The client
    PART III: THE WHOLE JOB
    12. Input and result
    13. Many
    PART IV: THE COMMAND LINE
    14. Command line
    15. Bulk

How to read it. Part I is pure: it reads no clock, environment, file, socket or random number, so
you can try every line of it at a Python prompt. To learn how a request is signed, read section 2
and then run

    python3 smasync.py explain --example --endpoint-name my-endpoint \\
        --input-location s3://my-bucket/in.json

which prints each value of one signature in the order in which it is computed. Parts II to IV
reach the world through the parameters `environ`, `transport`, `clock`, `monotonic`, `sleep` and
`random`. `python3 -m doctest smasync.py` is the self-test of a copy.

What it leaves out: SageMaker's other operations, SigV4a, event streams, adaptive retries, login.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections import namedtuple
from functools import lru_cache
from threading import Lock

# Imports that cost milliseconds stand in the functions that use them: urllib.request 45 ms,
# http.client 30, argparse 15, typing 9, json 7, re 6, hashlib 4. Type names are for type checkers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import http.client
    import socket
    import ssl
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from logging import Logger
    from typing import Any, BinaryIO, Protocol, Self, Union

    Headers = tuple[tuple[str, str], ...]
    RequestBody = Union[bytes, Callable[[], BinaryIO]]
    Profile = dict[str, str]
    Profiles = dict[str, Profile]
    Options = tuple[tuple[str, dict[str, Any]], ...]
    Provider = Callable[[Any], Union["Credentials", None]]
    Environ = Mapping[str, str]
    Clock = Callable[[], float]

    class Transport(Protocol):
        def __call__(self, request: Request, *, timeout: float | None = None) -> Response: ...


__version__ = "0.1.0"

# === PART I: THE PROTOCOL ====================================================
__all__ = [
    "Request", "Response", "Credentials", "Signed",
    "sign", "canonical_request", "canonical_uri", "canonical_query", "canonical_headers",
    "uri_encode", "credential_scope", "string_to_sign", "signing_key", "presign",
    "INVOKE_ENDPOINT_ASYNC", "serialize",
    "Error", "ParamValidationError", "ConfigurationError", "CredentialsError", "TransportError",
    "ClientError", "ValidationError", "InternalFailure", "ServiceUnavailable", "InferenceError",
    "ResultTimeout", "deserialize", "resolve_endpoint",
]  # fmt: skip

# --- 1. Values ---------------------------------------------------------------
# What the sections pass to each other: an HTTP request, the answer to one, the credentials that
# sign a request, and a signed request with the working behind it. None of them can be changed;
# signing a request makes a new one. Each has a repr that may go into a log: it shows no secret,
# token, signature or body.


class Request(namedtuple("Request", "method url headers body", defaults=[b""])):
    """An HTTP request, before or after it is signed.

    `url` is as it goes over the wire, percent-encoded once. `headers` is a tuple of (name, value)
    pairs, sent in this order. `body` is bytes, or a function that opens it anew as a binary file.

    >>> Request("PUT", "https://a.example/", (("Authorization", "AWS4 ..."),), b"[]")
    <Request PUT https://a.example/, [('Authorization', '<hidden, 8 characters>')], body: 2 bytes>
    """

    __slots__ = ()
    method: str
    url: str
    headers: Headers
    body: RequestBody

    def __repr__(self) -> str:
        body = f"{len(self.body)} bytes" if isinstance(self.body, bytes) else "a stream"
        url = self.url.partition("?")[0] + ("?…" if "?" in self.url else "")
        return f"<Request {self.method} {url}, {shown_headers(self.headers)}, body: {body}>"


HIDDEN_HEADERS = frozenset(
    "authorization proxy-authorization x-amz-security-token x-amz-sso_bearer_token "
    "x-aws-ec2-metadata-token x-amzn-sagemaker-custom-attributes".split()
)


def shown_headers(headers: Headers) -> list[tuple[str, str]]:
    """The headers as a log may have them: the values of HIDDEN_HEADERS become their length."""
    return [
        (name, f"<hidden, {len(value)} characters>" if name.lower() in HIDDEN_HEADERS else value)
        for name, value in headers
    ]


class Response(namedtuple("Response", "status headers body complete", defaults=[True])):
    """The answer to a request.

    `headers` is a tuple of (name, value) pairs. `body` is bytes; `complete` is False if it was
    cut short, or is longer than the transport reads.
    """

    __slots__ = ()
    status: int
    headers: Headers
    body: bytes
    complete: bool

    def header(self, name: str, default: str | None = None) -> str | None:
        """The value of the first header of that name, ignoring case."""
        wanted = name.lower()
        return next((value for name, value in self.headers if name.lower() == wanted), default)

    def __repr__(self) -> str:
        size = f"{len(self.body)} bytes{'' if self.complete else ', cut short'}"
        return f"<Response {self.status}, {len(self.headers)} headers, {size}>"


class Credentials:
    """An access key: its id and its secret; if it is temporary, a session token and an expiry.

    `expires_at` is in epoch seconds. Raises CredentialsError for text that cannot be a key. It
    is not a tuple, so that nothing that walks through tuples (json.dumps, say) prints the secret.

    >>> Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    <Credentials AKIDEXAMPLE, no session token>
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None
    expires_at: float | None
    account_id: str | None

    def __init__(
        self,
        access_key_id: str,
        secret_access_key: str,
        session_token: str | None = None,
        expires_at: float | None = None,
        account_id: str | None = None,
    ) -> None:
        self.__dict__.update(
            access_key_id=checked_key("access_key_id", access_key_id),
            secret_access_key=checked_key("secret_access_key", secret_access_key),
            session_token=checked_key("session_token", session_token) if session_token else None,
            expires_at=expires_at,
            account_id=account_id,
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Credentials.{name} cannot be set; make new Credentials")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credentials) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        token = "a" if self.session_token else "no"
        return f"<Credentials {self.access_key_id}, {token} session token>"


def checked_key(name: str, text: str) -> str:
    """The text, if it is visible ASCII, as keys and tokens are; the error never quotes it."""
    if not isinstance(text, str) or not text:
        raise CredentialsError(f"{name} is missing: give both halves of the key pair, as text")
    wrong = [position for position, character in enumerate(text) if not "!" <= character <= "~"]
    if wrong:
        raise CredentialsError(
            f"{name}: the character at position {wrong[0]} of {len(text)} is not one that keys "
            "have; look for a line break or a space that was copied with it"
        )
    return text


class Signed(namedtuple("Signed", "request canonical_request string_to_sign signature")):
    """A signed request, ready to be sent, and the working that led to its signature."""

    __slots__ = ()
    request: Request
    canonical_request: str
    string_to_sign: str
    signature: str

    def __repr__(self) -> str:
        return f"<Signed {self.request!r}>"


# --- 2. Signature Version 4 --------------------------------------------------
# In: a request, credentials, region, service and time. Out: the signed request, and the working.
# Both sides know the secret; only a signature made with it travels. The service writes the request
# that it received in the same canonical form, signs that, and compares: it answers 403 if anything
# that is signed differs. sign() is the algorithm; its steps are the functions below it.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes
# Not signed, and neither is proxy-*: proxies and HTTP libraries add, change or drop these.
UNSIGNED_HEADERS = frozenset(
    "authorization user-agent x-amzn-trace-id connection expect transfer-encoding accept-encoding "
    "te trailer upgrade keep-alive baggage traceparent tracestate".split()
)
SIGNER_HEADERS = frozenset(["authorization", "x-amz-date", "x-amz-security-token"])


def sign(
    request: Request,
    credentials: Credentials,
    *,
    region: str,
    service: str,
    timestamp: str,
    double_encode: bool = True,
    normalize_path: bool = True,
    sign_body: bool = False,
    sign_session_token: bool = True,
    payload_hash: str | None = None,
) -> Signed:
    """The request with X-Amz-Date, Authorization and, if they are due, a session token and Host.

    `timestamp` is "20150830T123600Z", in UTC. The body's hash is always signed; `payload_hash`
    (hex, or "UNSIGNED-PAYLOAD") replaces it, and `sign_body` also sends it as a header. S3 wants
    `sign_body=True, double_encode=False, normalize_path=False`. `sign_session_token=False` adds
    the token after signing, as a few services want it.
    """
    payload_hash = payload_hash or sha256_of(request.body)
    token = session_token_of(credentials)
    added = [("X-Amz-Date", timestamp)]
    added += [("X-Amz-Content-Sha256", payload_hash)] if sign_body else []
    added += token if sign_session_token else []
    headers = headers_to_sign(request, added)
    canonical = canonical_request(
        request.method, request.url, headers, payload_hash,
        double_encode=double_encode, normalize_path=normalize_path,
    )  # fmt: skip
    signed_headers = canonical.split("\n")[-2]  # the line above the payload's hash
    scope = credential_scope(timestamp, region, service)
    to_sign = string_to_sign(timestamp, scope, canonical)
    signature = hmac_sha256(signing_key(credentials.secret_access_key, scope), to_sign).hex()
    headers += [] if sign_session_token else token
    headers.append(("Authorization", (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={signed_headers}, Signature={signature}"
    )))  # fmt: skip
    return Signed(request._replace(headers=tuple(headers)), canonical, to_sign, signature)


def sha256_of(body: RequestBody) -> str:
    """The body's SHA-256 in hex. A stream is not read: raises ParamValidationError (section 4)."""
    import hashlib

    if not isinstance(body, bytes):
        raise ParamValidationError("payload_hash: is required unless the body is bytes")
    return hashlib.sha256(body).hexdigest() if body else EMPTY_HASH


def session_token_of(credentials: Credentials) -> list[tuple[str, str]]:
    """Name and value of the session token; an empty list for long-term keys, which have none."""
    token = credentials.session_token
    return [("X-Amz-Security-Token", token)] if token else []


def headers_to_sign(request: Request, added: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The request's headers and the `added` ones, which replace those of an earlier sign()."""
    names = [name.lower() for name, _ in request.headers]
    replaced = SIGNER_HEADERS.union([name.lower() for name, _ in added])
    headers = [] if "host" in names else [("Host", split_url(request.url)[0])]
    headers += [pair for name, pair in zip(names, request.headers) if name not in replaced]
    return headers + added


def split_url(url: str) -> tuple[str, str, str]:
    """The value of the Host header, the path and the query, each as it goes over the wire.

    A port stays, unless it is the scheme's own: HTTP clients leave that one out. (urllib's
    urlsplit drops tabs and line breaks; what is signed would not be what is sent.)

    >>> split_url("https://example.com:443/a/b?c=d")
    ('example.com', '/a/b', 'c=d')
    """
    scheme, _, rest = url.partition("#")[0].partition("://")
    rest, _, query = rest.partition("?")
    host, _, path = rest.partition("/")
    default_port = ":443" if scheme == "https" else ":80"
    return host[: -len(default_port)] if host.endswith(default_port) else host, "/" + path, query


def canonical_request(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]],
    payload_hash: str,
    *,
    double_encode: bool = True,
    normalize_path: bool = True,
) -> str:
    """Step 1: method, path, query, headers, their names, and the payload's hash, a line each.

    Proxies may reorder headers and re-encode URLs, so both sides write them in one fixed form.

    >>> print(canonical_request("GET", "https://example.com/a%20b?y=2&x=1",
    ...                         [("Host", "example.com"), ("My-Header", " a   b ")], EMPTY_HASH))
    GET
    /a%2520b
    x=1&y=2
    host:example.com
    my-header:a b
    <BLANKLINE>
    host;my-header
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    """
    _, path, query = split_url(url)
    uri = canonical_uri(path, double_encode=double_encode, normalize_path=normalize_path)
    lines, signed_headers = canonical_headers(headers)
    return "\n".join([method, uri, canonical_query(query), lines, signed_headers, payload_hash])


def canonical_uri(path: str, *, double_encode: bool = True, normalize_path: bool = True) -> str:
    """The path without empty and dot segments, percent-encoded once more than on the wire.

    S3 alone takes the path as it is on the wire: it is the name of an object, dots and all.

    >>> canonical_uri("/a/./b//../c%20d/")
    '/a/c%2520d/'
    >>> canonical_uri("/a/./b//../c%20d/", double_encode=False, normalize_path=False)
    '/a/./b//../c%20d/'
    """
    if normalize_path and ("//" in path or "/." in path):
        segments: list[str] = []
        for segment in path.split("/"):
            if segment == "..":
                del segments[-1:]
            elif segment not in ("", "."):
                segments.append(segment)
        path = "/" + "/".join(segments) + ("/" if segments and path.endswith("/") else "")
    return uri_encode(path, safe="/") if double_encode else path


def canonical_query(query: str) -> str:
    """The parameters, names and values encoded anew, sorted by name and then by value.

    >>> canonical_query("b=2&a=x%2fy&a=&flag")
    'a=&a=x%2Fy&b=2&flag='
    """
    if not query:
        return ""
    from urllib.parse import unquote_to_bytes

    pairs = [part.partition("=") for part in query.split("&") if part]
    encoded = sorted(
        (uri_encode(unquote_to_bytes(name)), uri_encode(unquote_to_bytes(value)))
        for name, _, value in pairs
    )
    return "&".join(f"{name}={value}" for name, value in encoded)


def canonical_headers(headers: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """The lines of the signed headers, sorted by name, and their names joined by ";".

    Names are in lower case. Values of one name are joined by ",", in their order. ASCII
    white space is stripped from both ends, and each inner run becomes one space. A Content-Length
    of 0 is not signed, since some proxies drop it and some add it.

    >>> canonical_headers([("X-B", "2"), ("User-Agent", "me"), ("X-A", " 1   1 "), ("x-b", "3")])
    ('x-a:1 1\\nx-b:2,3\\n', 'x-a;x-b')
    """
    values: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        if name in UNSIGNED_HEADERS or name[:6] == "proxy-":
            continue
        value = b" ".join(value.encode().split()).decode()  # bytes.split(): ASCII white space only
        values[name] = f"{values[name]},{value}" if name in values else value
    if values.get("content-length") == "0":
        del values["content-length"]
    names = sorted(values)
    return "".join([f"{name}:{values[name]}\n" for name in names]), ";".join(names)


@lru_cache(maxsize=64)
def uri_encode(text: str | bytes, safe: str = "") -> str:
    """Each byte of the UTF-8 text as %XX, except for A-Z a-z 0-9 - . _ ~ and those in `safe`.

    Most calls repeat the same path, so the last 64 results are cached; for presigned URLs that
    includes the session token.

    >>> uri_encode("a b/ü~%!'()*")
    'a%20b%2F%C3%BC~%25%21%27%28%29%2A'
    """
    from urllib.parse import quote

    return quote(text, safe)


def credential_scope(timestamp: str, region: str, service: str) -> str:
    """Step 2: the day, the region and the service for which the signature is good.

    Raises ParamValidationError for another form of `timestamp`, and ConfigurationError for text
    that cannot be a region (section 6).

    >>> credential_scope("20150830T123600Z", "us-east-1", "sagemaker")
    '20150830/us-east-1/sagemaker/aws4_request'
    """
    day, clock = timestamp[:8], timestamp[9:15]
    digits = day + clock
    if timestamp != f"{day}T{clock}Z" or not (digits.isascii() and digits.isdigit()):
        raise ParamValidationError(
            f"timestamp: {timestamp!r} is not of the form '20150830T123600Z'"
        )
    return f"{day}/{check_region(region)}/{service}/aws4_request"


def string_to_sign(timestamp: str, scope: str, canonical: str) -> str:
    """Step 3: four lines, the last of which is the SHA-256 of the canonical request.

    >>> print(string_to_sign("20150830T123600Z", "20150830/us-east-1/sagemaker/aws4_request", ""))
    AWS4-HMAC-SHA256
    20150830T123600Z
    20150830/us-east-1/sagemaker/aws4_request
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    """
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{sha256_of(canonical.encode())}"


@lru_cache(maxsize=8)
def signing_key(secret_access_key: str, scope: str) -> bytes:
    """Step 4: the key for one day, region and service, so that no other use can be made of it.

    It is the same all day long, so the last eight keys are cached, each beside its secret and
    scope. Newer ones push them out; signing_key.cache_clear() forgets them at once.

    >>> signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    ...             "20150830/us-east-1/iam/aws4_request").hex()
    'c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9'
    """
    day, region, service, end = scope.split("/")  # the k… below are AWS's own names
    kDate = hmac_sha256(("AWS4" + secret_access_key).encode(), day)
    kRegion = hmac_sha256(kDate, region)
    kService = hmac_sha256(kRegion, service)
    kSigning = hmac_sha256(kService, end)
    return kSigning


def hmac_sha256(key: bytes, text: str) -> bytes:
    """Step 5, and each step of the key: the 32 bytes of HMAC with SHA-256 (RFC 2104)."""
    import hmac

    return hmac.new(key, text.encode(), "sha256").digest()


def presign(
    request: Request,
    credentials: Credentials,
    *,
    region: str,
    service: str,
    timestamp: str,
    expires: int,
    double_encode: bool = True,
    normalize_path: bool = True,
    sign_session_token: bool = True,
    payload_hash: str | None = None,
) -> Signed:
    """Like sign, but with the signature in the query: `.request.url` is the result.

    Whoever has the URL and sends the signed headers with it can make the request, for `expires`
    seconds (1 to 604800, a week) from `timestamp` on. S3 wants `payload_hash="UNSIGNED-PAYLOAD",
    double_encode=False, normalize_path=False`.
    """
    if type(expires) is not int or not 1 <= expires <= 604_800:
        raise ParamValidationError(f"expires: {expires} is not within 1 to 604800 seconds, a week")
    scope, token = credential_scope(timestamp, region, service), session_token_of(credentials)
    headers = headers_to_sign(request, [])
    query = [
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{credentials.access_key_id}/{scope}"),
        ("X-Amz-Date", timestamp), ("X-Amz-Expires", str(expires)),
        ("X-Amz-SignedHeaders", canonical_headers(headers)[1]),
    ]  # fmt: skip
    url = with_query(request.url, query + token if sign_session_token else query)
    canonical = canonical_request(
        request.method, url, headers, payload_hash or sha256_of(request.body),
        double_encode=double_encode, normalize_path=normalize_path,
    )  # fmt: skip
    to_sign = string_to_sign(timestamp, scope, canonical)
    signature = hmac_sha256(signing_key(credentials.secret_access_key, scope), to_sign).hex()
    url = with_query(url, [*([] if sign_session_token else token), ("X-Amz-Signature", signature)])
    signed = request._replace(url=url, headers=tuple(headers))
    return Signed(signed, canonical, to_sign, signature)


def with_query(url: str, parameters: list[tuple[str, str]]) -> str:
    """The URL with more parameters in its query."""
    url = url.partition("#")[0]
    query = "&".join(f"{name}={uri_encode(value)}" for name, value in parameters)
    return f"{url}{'&' if '?' in url else '?'}{query}"


# --- 3. The operation --------------------------------------------------------
# In: the members that a caller gives. Out: an unsigned request, or one ParamValidationError with
# all that is wrong. One table binds members to the wire and one loop walks it: to add a member is
# to add a row here and a keyword to RuntimeClient.invoke_endpoint_async. The rules are those of
# AWS's model for SageMaker Runtime (API version 2017-05-13); its protocol is restJson1:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointAsync.html
# https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html

SERVICE_IDS = {"sagemaker": "SageMaker Runtime", "s3": "S3", "sts": "STS"}
SIGNING_NAME = "sagemaker"
OPERATION = "InvokeEndpointAsync"


class Member(
    namedtuple("Member", "name place type minimum maximum pattern sensitive", defaults=["", False])
):
    """One row of the table.

    `place` is "label" (in the URI), "payload" (the body) or a header's name. `minimum` and
    `maximum` bound a string's characters, a blob's bytes, an integer's value. `pattern` has to
    match the whole string. Errors and logs do not quote a `sensitive` member.
    """

    __slots__ = ()


# fmt: off
INVOKE_ENDPOINT_ASYNC = (
    Member("EndpointName", "label", "string", 1, 63, r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"),
    Member("Body", "payload", "blob", 1, 128_000, sensitive=True),
    Member("InputLocation", "X-Amzn-SageMaker-InputLocation", "string", 1, 1024, r"(https|s3)://[^/]+(/.*)?"),
    Member("ContentType", "X-Amzn-SageMaker-Content-Type", "string", 0, 1024),
    Member("Accept", "X-Amzn-SageMaker-Accept", "string", 0, 1024),
    Member("CustomAttributes", "X-Amzn-SageMaker-Custom-Attributes", "string", 0, 1024, sensitive=True),
    Member("InferenceId", "X-Amzn-SageMaker-Inference-Id", "string", 1, 64, r"[!-~][ -~]*"),
    Member("S3OutputPathExtension", "X-Amzn-SageMaker-S3OutputPathExtension", "string", 1, 512,
           r"[a-zA-Z0-9!_.*'()/-]+"),
    Member("Filename", "X-Amzn-SageMaker-Filename", "string", 1, 32,
           r"[a-zA-Z0-9][a-zA-Z0-9_-]*(\.[a-zA-Z0-9_-]*)?"),
    Member("RequestTTLSeconds", "X-Amzn-SageMaker-RequestTTLSeconds", "integer", 60, 21_600),
    Member("InvocationTimeoutSeconds", "X-Amzn-SageMaker-InvocationTimeoutSeconds", "integer", 1, 3600),
)
# fmt: on
MEMBERS = {member.name: member for member in INVOKE_ENDPOINT_ASYNC}
TYPES: dict[str, Any] = {
    "string": (str,), "integer": (int,), "blob": (bytes, bytearray, memoryview, str),
}  # fmt: skip
UNITS = {"string": " characters", "blob": " bytes", "integer": ""}


def serialize(
    params: Mapping[str, Any], endpoint_url: str, *, parameter_validation: bool = True
) -> Request:
    """The unsigned request for the members in `params`; raises ParamValidationError.

    `parameter_validation=False` lifts the limits that the service could one day raise, and the
    rule of Body or InputLocation, but none of the checks that protect the wire.

    >>> serialize({"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json",
    ...            "RequestTTLSeconds": 3600}, "https://example.com").headers
    ... # doctest: +NORMALIZE_WHITESPACE
    (('X-Amzn-SageMaker-InputLocation', 's3://bucket/in.json'),
     ('X-Amzn-SageMaker-RequestTTLSeconds', '3600'), ('Content-Length', '0'))
    """
    values = validated(params, parameter_validation)
    body: bytes = values.pop("Body", b"")
    endpoint_name = values.pop("EndpointName")
    headers = [(MEMBERS[name].place, str(value).strip(" ")) for name, value in values.items()]
    if body:
        headers.append(("Content-Type", "application/octet-stream"))
    headers.append(("Content-Length", str(len(body))))
    url = f"{endpoint_url.rstrip('/')}/endpoints/{uri_encode(endpoint_name)}/async-invocations"
    return Request("POST", url, tuple(headers), body)


def validated(params: Mapping[str, Any], limits: bool) -> dict[str, Any]:
    """The members that go out, each as str, int or bytes; or one error with all that is wrong."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in params.items():
        member = MEMBERS.get(name)
        if member is None:
            problems.append(unknown_member(name))
        elif value is not None and not is_unsaid(member, value):
            try:
                values[name] = None  # given, right or wrong
                values[name] = plain_value(member, value, limits)
            except (TypeError, ValueError) as error:
                problems.append(f"{name}: {error}")
    if "EndpointName" not in values:
        problems.append("EndpointName: is required; give the endpoint's name")
    if limits and ("Body" in values) == ("InputLocation" in values):
        given = "both were given" if "Body" in values else "neither was given"
        problems.append(f"Body, InputLocation: exactly one of the two is required; {given}")
    if problems:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise ParamValidationError(f"Parameter validation failed:{listed}", problems=problems)
    return values


def unknown_member(name: object) -> str:
    """The problem of a member that does not exist, with the nearest one that does."""
    import difflib

    names = {known.lower(): known for known in MEMBERS}
    close = difflib.get_close_matches(str(name).lower(), names, 1)
    advice = f"did you mean {names[close[0]]}?" if close else f"known are {', '.join(MEMBERS)}"
    return f"{name}: unknown member; {advice}"


def is_unsaid(member: Member, value: object) -> bool:
    """Whether the value is empty, for a member that may be empty: it is not sent then."""
    return member.minimum == 0 and isinstance(value, str) and not value.strip(" ")


def plain_value(member: Member, value: Any, limits: bool) -> Any:
    """The value as str, int or bytes; raises TypeError or ValueError if it cannot be sent at all.

    With `limits` it also raises for what the model forbids. A binary file given as Body is read
    here, at most to one byte beyond the limit.
    """
    value = sendable_value(member, value, limits)
    if limits:
        check_limits(member, value)
    return value


def sendable_value(member: Member, value: Any, limits: bool) -> Any:
    """The value as str, int or bytes, whatever its size."""
    if member.type == "blob" and hasattr(value, "read"):
        value = read_blob(value, member.maximum + 1 if limits else -1)
    if type(value) is bool or not isinstance(value, TYPES[member.type]):
        names = " or ".join(kind.__name__ for kind in TYPES[member.type])
        raise TypeError(f"expected {names}, got {type(value).__name__}")
    if member.type == "integer":
        return int(value)
    if not isinstance(value, str):
        return bytes(value)
    value = str.__str__(value)  # the text itself, for an Enum that is a str too
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a lone surrogate at position {error.start}") from None
    return encoded if member.type == "blob" else checked_text(member, value)


def read_blob(file: BinaryIO, limit: int) -> bytes:
    """At most `limit` bytes of a file, which may return them in small pieces; -1 is no limit."""
    content = b""
    while limit < 0 or len(content) < limit:
        piece = file.read(limit - len(content) if limit >= 0 else -1)
        if not isinstance(piece, bytes):
            raise TypeError("the file is not open in binary mode; open it with 'rb'")
        if not piece:
            break
        content += piece
    return content


def checked_text(member: Member, value: str) -> str:
    """The text, if a request can carry it unchanged; raises ValueError."""
    if not (value.isascii() and value.isprintable()):
        import re

        beyond_ascii = member.name in ("InputLocation", "EndpointName")
        found = re.search(r"[\0-\x1f\x7f]" if beyond_ascii else r"[^ -~]", value)
        if found:
            control = found[0] < " " or found[0] == "\x7f"
            kind, why = ("control character", "allowed") if control else ("character", "ASCII")
            named = "" if member.sensitive else f" U+{ord(found[0]):04X}"
            raise ValueError(f"{kind}{named} at position {found.start()} is not {why}")
    if member.place == "label" and (value in ("", ".", "..") or "/" in value):
        place = f"{value[:63]!r}, from position {max(0, value.find('/'))}"
        raise ValueError(f"{place}, cannot be one segment of a URL's path")
    if member.name == "InputLocation" and value != value.strip(" "):
        raise ValueError(
            "white space at an end, which HTTP would drop; S3 would look for another key"
        )
    return value


def check_limits(member: Member, value: Any) -> None:
    """Raise ValueError for what the model forbids, and the service might one day allow."""
    import re

    size = value if isinstance(value, int) else len(value)
    if not member.minimum <= size <= member.maximum:
        is_over, unit = size > member.maximum, UNITS[member.type]
        which = f"over {member.maximum}" if is_over else f"under {member.minimum}"
        advice = "; put it in S3 and pass InputLocation" if is_over and unit == " bytes" else ""
        raise ValueError(f"{size}{unit} is {which}{advice}")
    if member.pattern and not re.fullmatch(member.pattern, value):
        start = re.match(member.pattern, value)
        position = start.end() if start else 0
        raise ValueError(
            f"the character at position {position} does not fit the pattern {member.pattern}"
        )


# --- 4. Errors and answers ---------------------------------------------------
# First the errors, one class for each answer to "whose fault is it?": your call, configuration or
# credentials, the way there, the service, the model. Then what reads an answer. In: a Response.
# Out: the dict that boto3 returns, or a ClientError with the dict that botocore puts into it. A
# 2xx with an X-Amzn-SageMaker-* header or a JSON object means that the inference is enqueued, even
# if the body was cut short. No body is too odd to be read.


class Error(Exception):
    """Base of every error that this module raises on purpose.

    Each can be made from a message alone. The evidence is in attributes, which are keywords when
    the error is made.
    """

    def __init__(self, message: str = "", **evidence: Any) -> None:
        super().__init__(message)
        for name, value in evidence.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no {name!r}")
            setattr(self, name, tuple(value) if isinstance(value, list) else value)


class ParamValidationError(Error, ValueError):
    """The call breaks the operation's rules; nothing was sent. `.problems` lists them all."""

    problems: tuple[str, ...] = ()


class ConfigurationError(Error):
    """A region, profile, endpoint, setting or config file is missing or malformed."""


class CredentialsError(Error):
    """No usable credentials. `.tried` has a pair (provider, what happened) for each provider."""

    tried: tuple[tuple[str, str], ...] = ()


class TransportError(Error, OSError):
    """There was no usable HTTP answer.

    `.kind` is "connect", "tls", "proxy", "timeout", "closed" or "protocol". `.sent` is False if
    the service cannot have received the request. `.retryable` is False if the same request would
    fail again in the same way. `.metadata` has RetryAttempts and Attempts, as ResponseMetadata.
    """

    kind: str = "protocol"
    sent: bool = True
    retryable: bool = True
    metadata: Mapping[str, Any] = {}


class ClientError(Error):
    """AWS said no. `.response` and `.operation_name` are those of botocore's ClientError.

    `.code` is the service's error code (the HTTP status as text if it gave none), `.message` its
    own words, `.status` the HTTP status, `.request_id` what AWS Support asks for. `.hint` says
    what to do next, if anything is known; it is not in str().
    """

    response: Mapping[str, Any] = {}
    operation_name: str = ""
    hint: str = ""

    def __init__(self, message: str = "", **evidence: Any) -> None:
        super().__init__(message, **evidence)
        self.response = self.response or {}
        error = self.response.get("Error") or {}
        self.code, self.message = str(error.get("Code", "")), str(error.get("Message", message))
        self.status: int | None = self.metadata.get("HTTPStatusCode")
        self.request_id = str(self.metadata.get("RequestId", ""))

    @property
    def metadata(self) -> dict[str, Any]:
        """The ResponseMetadata of `.response`."""
        found: dict[str, Any] = self.response.get("ResponseMetadata") or {}
        return found

    def __str__(self) -> str:
        if not self.response:
            return super().__str__()
        retried = ""
        if self.metadata.get("MaxAttemptsReached") and "RetryAttempts" in self.metadata:
            retried = f" (reached max retries: {self.metadata['RetryAttempts']})"
        what = f"An error occurred ({self.code}) when calling the {self.operation_name} operation"
        return f"{what}{retried}: {self.message}"


class ValidationError(ClientError):
    """HTTP 400: the service refuses the request as it is."""


class InternalFailure(ClientError):
    """HTTP 500: the service failed."""


class ServiceUnavailable(ClientError):
    """HTTP 503: the service is unavailable for now."""


class InferenceError(Error):
    """The model failed. `.body` is what it wrote to `.location`, of type `.content_type`."""

    location: str = ""
    body: bytes = b""
    content_type: str = ""


class ResultTimeout(Error, TimeoutError):
    """Still running: nothing at `.location` after `.waited` seconds."""

    location: str = ""
    waited: float = 0.0


MODELLED_ERRORS = {
    "ValidationError": ValidationError,
    "InternalFailure": InternalFailure,
    "ServiceUnavailable": ServiceUnavailable,
}
LOCATION_HEADERS = {
    "OutputLocation": "x-amzn-sagemaker-outputlocation",
    "FailureLocation": "x-amzn-sagemaker-failurelocation",
}
REQUEST_ID_HEADERS = ("x-amzn-requestid", "x-amz-requestid", "x-amz-request-id")
MAX_MESSAGE_CHARACTERS = 4096  # of a body that is not JSON: enough for any message, and no flood


def deserialize(response: Response) -> dict[str, Any]:
    """The answer in boto3's shape; raises ClientError, or TransportError for a 2xx of another's.

    >>> deserialize(Response(202, (("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out"),
    ...                            ("x-amzn-RequestId", "1-2-3")), b'{"InferenceId": "id-1"}'))
    ... # doctest: +NORMALIZE_WHITESPACE
    {'ResponseMetadata': {'RequestId': '1-2-3', 'HTTPStatusCode': 202, 'HTTPHeaders':
        {'x-amzn-sagemaker-outputlocation': 's3://bucket/out', 'x-amzn-requestid': '1-2-3'},
        'RetryAttempts': 0},
     'OutputLocation': 's3://bucket/out', 'InferenceId': 'id-1'}
    """
    body, metadata = json_object(response.body), response_metadata(response)
    headers = metadata["HTTPHeaders"]
    if not 200 <= response.status < 300:
        raise client_error(response, body, OPERATION)
    if body is None and not any(name.startswith("x-amzn-sagemaker-") for name in headers):
        page = " (text/html)" if "text/html" in headers.get("content-type", "") else ""
        raise TransportError(
            f"HTTP {response.status} from something other than SageMaker{page}: it has no "
            "X-Amzn-SageMaker header and no JSON object; look for a proxy or a log-in page",
            retryable=False,
        )
    answer: dict[str, Any] = {"ResponseMetadata": metadata}
    for member, name in LOCATION_HEADERS.items():
        if name in headers:
            answer[member] = headers[name]
    if body and isinstance(body.get("InferenceId"), str):
        answer["InferenceId"] = body["InferenceId"]
    return answer


def response_metadata(response: Response) -> dict[str, Any]:
    """What boto3 has as ResponseMetadata."""
    headers: dict[str, str] = {}
    for name, value in response.headers:
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return {
        "RequestId": next(filter(None, map(headers.get, REQUEST_ID_HEADERS)), ""),
        "HTTPStatusCode": response.status,
        "HTTPHeaders": headers,
        "RetryAttempts": 0,
    }


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, which is UTF-8; None for anything else."""
    import json

    try:
        value = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def xml_fields(body: bytes) -> dict[str, str]:
    """The text of each element by its name; {} for what is not XML, or has a DOCTYPE.

    >>> xml_fields(b"<Error><Code>AccessDenied</Code></Error>")
    {'Error': '', 'Code': 'AccessDenied'}
    """
    from xml.etree.ElementTree import ParseError, fromstring

    try:
        text = body.decode("utf-8-sig")
        if not text.lstrip().startswith("<") or "<!DOCTYPE" in text:
            return {}  # a document type can define entities that fill the memory
        elements = fromstring(text).iter()
    except (ParseError, ValueError, RecursionError):
        return {}
    return {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in elements}


def client_error(
    response: Response, body: dict[str, Any] | None, operation_name: str
) -> ClientError:
    """The error in an answer; `body` has its fields, None if it is not of the protocol."""
    metadata = response_metadata(response)
    code = error_code(metadata["HTTPHeaders"], body or {}) or str(response.status)
    message = error_message(response, body)
    error: dict[str, Any] = {
        "Error": {"Message": message, "Code": code},
        "ResponseMetadata": metadata,
    }
    if code in MODELLED_ERRORS:
        error["Message"] = message  # the one member that the model's error shapes have
    kind = MODELLED_ERRORS.get(code, ClientError)
    return kind(message, response=error, operation_name=operation_name)


def error_code(headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """The code, in each place that restJson1 has for it, without namespace and URL; or "".

    >>> error_code({"x-amzn-errortype": "ValidationError:http://internal.amazon.com/"}, {})
    'ValidationError'
    >>> error_code({}, {"__type": "com.amazonaws.sagemaker#InternalFailure"})
    'InternalFailure'
    """
    for text in (headers.get("x-amzn-errortype"), *map(body.get, ("__type", "code", "Code"))):
        if isinstance(text, (str, int)) and str(text):
            return str(text).partition(":")[0].rpartition("#")[2].strip()
    return ""


def error_message(response: Response, body: dict[str, Any] | None) -> str:
    """The service's words; for a body that is not a JSON object, what can be said of it."""
    if body is not None:
        spellings = ("message", "Message", *(key for key in body if key.lower() == "message"))
        found = next((body[key] for key in spellings if key in body), None)
        return found if isinstance(found, str) else "" if found is None else repr(found)
    text = response.body.decode("utf-8", "replace").strip()
    is_page = text[:9].lower().startswith(("<html", "<!doctype"))
    if response.status >= 500 and (is_page or not text):
        from http import HTTPStatus

        return next((status.phrase for status in HTTPStatus if status == response.status), "")
    if len(text) > MAX_MESSAGE_CHARACTERS:
        return f"{text[:MAX_MESSAGE_CHARACTERS]}… ({len(response.body)} bytes)"
    return text


# What to do about a code, where its message does not say so.
HINTS = {
    "AccessDeniedException": "allow sagemaker:InvokeEndpointAsync on the endpoint to this caller",
    "UnrecognizedClientException": "the key is unknown here: deleted, of another partition, or "
    "temporary and without its session token",
    "ExpiredTokenException": "the credentials have expired; log in again, or look at what renews "
    "them",
    "RequestTimeTooSkewed": "set the clock of this machine",
}
EXPECTED = "The Canonical String for this request should have been\n'"


def mismatch(error: Mapping[str, str], canonical: str) -> str:
    """Why the signature was refused: the first line in which the canonical requests differ.

    `error` is response["Error"], in which the service says what it expected: most services in the
    message, S3 in an element of its own. `canonical` is ours. "" if the service does not say.

    >>> text = EXPECTED + "POST\\n/a\\n'\\n\\nThe String-to-Sign ..."
    >>> mismatch({"Message": text}, "POST\\n/b\\n")
    "line 2 of the canonical request: the service has '/a', we have '/b'"
    """
    said = error.get("Message", "").partition(EXPECTED)[2]
    expected = error.get("CanonicalRequest") or said.rpartition("'\n\nThe String-to-Sign")[0]
    if not expected:
        return ""
    theirs, ours = (masked(text, HIDDEN_HEADERS).split("\n") for text in (expected, canonical))
    for number, (their, our) in enumerate(zip([*theirs, ""], [*ours, ""]), 1):
        if their != our:
            what = f"line {number} of the canonical request"
            return f"{what}: the service has {their!r}, we have {our!r}"
    return "the canonical requests are the same, so the secret key or the token is another one"


def masked(text: str, hidden: frozenset[str]) -> str:
    """The text, whose lines "name:value" show only the length of a header that is `hidden`."""
    lines = []
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        word = "token" if name.lower() == "x-amz-security-token" else "hidden"
        found = name.lower() in hidden
        lines.append(f"{name}: <{word}, {len(value.strip())} characters>" if found else line)
    return "\n".join(lines)


# --- 5. Retry decisions ------------------------------------------------------
# In: an error. Out: whether to try again, after how long, and at what cost. The rules are those of
# AWS's SDKs as of 2026. A quota, shared by all calls of a client, pays for each retry, so that
# clients do not triple the load of a service that fails. Nothing here sleeps or reads a clock.
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html

MAX_ATTEMPTS = 3  # the SDKs' "standard" mode: one call and at most two retries
MAX_BACKOFF_SECONDS = 20.0
RETRIES: dict[str, tuple[float, int]] = {
    # kind: the longest first delay in seconds, what a retry costs
    "transient": (0.05, 14),
    "throttle": (1.0, 5),
    "corrected": (0.05, 0),  # the next request has the right time, or other credentials
}
QUOTA = 500
TRANSIENT_STATUS = frozenset([500, 502, 503, 504])
TRANSIENT_CODES = frozenset(["RequestTimeout", "RequestTimeoutException"])
THROTTLE_CODES = frozenset(
    "Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException "
    "TooManyRequestsException ProvisionedThroughputExceededException RequestLimitExceeded "
    "TransactionInProgressException BandwidthLimitExceeded LimitExceededException SlowDown "
    "PriorRequestNotComplete EC2ThrottledException".split()
)
SKEW_CODES = frozenset(
    "RequestTimeTooSkewed InvalidSignatureException SignatureDoesNotMatch AuthFailure "
    "AccessDeniedException".split()
)
EXPIRED_CODES = frozenset(["ExpiredToken", "ExpiredTokenException"])
MAX_SKEW_SECONDS = 240  # AWS accepts 5 minutes; beyond 4 the clock is a likely cause of a refusal
SLOW_ROUND_TRIP_SECONDS = 900  # the Date of an answer this slow says nothing about our clock


def retry_kind(error: Error, *, skew: float | None = None, retry_sent: bool = True) -> str | None:
    """The row of RETRIES to which an error belongs; None if it is final.

    `skew` is how far off the signed time was, in seconds, if that is known. `retry_sent=False`
    makes a request final that was sent and got no answer: the service may have accepted it.

    >>> retry_kind(TransportError("no answer", kind="timeout", sent=True))
    'transient'
    >>> retry_kind(TransportError("no answer", kind="timeout", sent=True), retry_sent=False)
    """
    if isinstance(error, TransportError):
        return "transient" if error.retryable and (retry_sent or not error.sent) else None
    if not isinstance(error, ClientError):
        return None
    if error.code in THROTTLE_CODES or (error.status == 429 and error.code not in MODELLED_ERRORS):
        return "throttle"
    if error.code in TRANSIENT_CODES or error.status in TRANSIENT_STATUS:
        return "transient"
    if error.code in SKEW_CODES and abs(skew or 0) > MAX_SKEW_SECONDS:
        return "corrected"
    return None


def backoff(kind: str, retry: int, random: float, retry_after: str | None = None) -> float:
    """Seconds to wait before a retry; the first one is number 0, and `random` is in [0, 1).

    `retry_after` is the header x-amz-retry-after, in milliseconds.

    >>> [backoff("transient", retry, 1.0) for retry in range(4)]
    [0.05, 0.1, 0.2, 0.4]
    >>> backoff("transient", 0, 1.0, "10000")
    5.05
    """
    first_delay, _ = RETRIES[kind]
    delay: float = random * min(first_delay * 2**retry, MAX_BACKOFF_SECONDS)
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        return max(delay, min(int(retry_after[:9]) / 1000, delay + 5))
    return delay


class RetryQuota:
    """What a client may still spend on retries: 500 at first, never below 0, never above 500."""

    def __init__(self, available: int = QUOTA) -> None:
        self.available = available
        self._lock = Lock()

    def spend(self, cost: int) -> bool:
        """Take `cost`, if that much is available; whether it was."""
        with self._lock:
            if cost > self.available:
                return False
            self.available -= cost
            return True

    def refund(self, cost: int) -> None:
        """After a success: give back what its last retry cost, or 1 if it needed none."""
        with self._lock:
            self.available = min(QUOTA, self.available + (cost or 1))


def clock_skew(headers: Mapping[str, str], sent_at: float, received_at: float) -> float | None:
    """Seconds by which the service's clock is ahead of ours; both times are ours.

    None if the answer cannot tell: no Date, an Age (a cache answered), a slow round trip.

    >>> clock_skew({"date": "Sun, 30 Aug 2015 12:41:01 GMT"}, 1440938160.0, 1440938162.0)
    300.0
    """
    seconds = http_date(headers.get("date"))
    if seconds is None or "age" in headers or received_at - sent_at > SLOW_ROUND_TRIP_SECONDS:
        return None
    return seconds - (sent_at + received_at) / 2


@lru_cache(maxsize=16)  # many answers come within one second
def http_date(text: str | None) -> float | None:
    """Epoch seconds of an HTTP date; None for anything else."""
    from email.utils import mktime_tz, parsedate_tz

    try:
        parsed = parsedate_tz(text or "")
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


# --- 6. Endpoints ------------------------------------------------------------
# In: a region and two switches. Out: the URL of a service there, or of an object in S3, by the
# rules that AWS publishes with its SDKs. No host is built from unchecked text: a region is a host
# label, an endpoint URL has a scheme, a host, perhaps a port and a path.
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointAsync.html

# fmt: off
PARTITIONS = (
    # name, what its regions begin with, DNS suffix, dual-stack DNS suffix; the last row is the rest
    ("aws-cn", "cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("aws-us-gov", "us-gov-", "amazonaws.com", "api.aws"),
    ("aws-iso", "us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("aws-iso-b", "us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("aws-iso-e", "eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("aws-iso-f", "us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ("aws-eusc", "eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("aws", "", "amazonaws.com", "api.aws"),
)
HOSTS = {
    # service: plain, FIPS, dual-stack, both
    "sagemaker-runtime": ("runtime.sagemaker.{R}.{dns}", "runtime.sagemaker-fips.{R}.{dns}",
                          "runtime.sagemaker.{R}.{dual}", "runtime.sagemaker-fips.{R}.{dual}"),
    "s3": ("s3.{R}.{dns}", "s3-fips.{R}.{dns}", "s3.dualstack.{R}.{dns}", "s3-fips.dualstack.{R}.{dns}"),
    "sts": ("sts.{R}.{dns}", "sts-fips.{R}.{dns}", "sts.{R}.{dual}", "sts-fips.{R}.{dual}"),
    "sso": ("portal.sso.{R}.{dns}", "portal.sso-fips.{R}.{dns}",
            "portal.sso.{R}.{dual}", "portal.sso-fips.{R}.{dual}"),
}
FIPS_HOSTS = {
    # for FIPS alone, where a partition has another host
    ("sagemaker-runtime", "aws"): "runtime-fips.sagemaker.{R}.{dns}",
    ("sagemaker-runtime", "aws-us-gov"): "runtime.sagemaker.{R}.{dns}",
    ("sts", "aws-us-gov"): "sts.{R}.{dns}",
    ("sso", "aws-us-gov"): "portal.sso.{R}.{dns}",
}
# fmt: on


def resolve_endpoint(
    region: str | None,
    *,
    use_fips: bool = False,
    use_dualstack: bool = False,
    endpoint_url: str | None = None,
    service: str = "sagemaker-runtime",
) -> str:
    """The URL of a service ("sagemaker-runtime", "s3", "sts", "sso"); raises ConfigurationError.

    >>> resolve_endpoint("eu-west-1", use_dualstack=True)
    'https://runtime.sagemaker.eu-west-1.api.aws'
    """
    if not region:
        where = "pass region_name, or set AWS_REGION or the profile's region"
        raise ConfigurationError(f"no region: {where}")
    check_region(region)
    if endpoint_url is not None:
        if use_fips or use_dualstack:
            switch = "FIPS" if use_fips else "Dualstack"
            raise ConfigurationError(
                f"{switch} and a custom endpoint URL exclude each other; drop one"
            )
        return check_endpoint_url(endpoint_url)
    rows = (row for row in PARTITIONS if region.startswith(row[1]) or region == f"{row[0]}-global")
    partition, _, dns, dual = next(rows)
    if service == "s3" and partition == "aws-cn" and use_fips:
        raise ConfigurationError(f"S3 has no FIPS endpoint in {region}; do without FIPS")
    template = HOSTS[service][use_fips + 2 * use_dualstack]
    if use_fips and not use_dualstack:
        template = FIPS_HOSTS.get((service, partition), template)
    return "https://" + template.format(R=region, dns=dns, dual=dual)


LABEL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


def check_region(region: str, where: str = "region") -> str:
    """The region itself, if it is one host label; raises ConfigurationError."""
    if not isinstance(region, str) or not 1 <= len(region) <= 63 or not LABEL.issuperset(region):
        raise ConfigurationError(
            f"{where} {str(region)[:80]!r} is not a region: 1 to 63 letters, digits and hyphens"
        )
    return region


def check_endpoint_url(url: str, where: str = "endpoint URL") -> str:
    """The URL without a "/" at its end; raises ConfigurationError, which never quotes a password.

    >>> check_endpoint_url("http://localhost:8080/base/")
    'http://localhost:8080/base'
    """
    import re

    label = r"[A-Za-z0-9_-]{1,63}"
    host = rf"\[[0-9a-fA-F:.]+\]|({label}\.)*{label}\.?"
    form = rf"(?i:https?)://(?:{host})(?P<port>:[0-9]{{1,5}})?(/[^?#\\@]*)?"
    found = re.fullmatch(form, url) if isinstance(url, str) and url.isascii() else None
    port = int((found["port"] or ":443")[1:]) if found else 0
    if not 0 < port < 65536 or not url.isprintable() or " " in url:
        shown = str(url).rpartition("@")[2].partition("?")[0][:80]
        raise ConfigurationError(
            f"{where} …{shown!r} is malformed: it takes http or https, a host, perhaps a port (1 "
            "to 65535) and a path; no user, no query, no fragment"
        )
    return url.rstrip("/")


LOCATION = (  # no two dots in a row in the bucket's name, and no IPv4 address
    r"s3://(?![^/]*\.\.)(?!(?:\d+\.){3}\d+/)([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"
    r"/([^\0-\x1f\x7f\ud800-\udfff]+)"
)


def parse_location(location: str) -> tuple[str, str]:
    """Bucket and key of "s3://bucket/key"; raises ParamValidationError.

    >>> parse_location("s3://my-bucket/in/a b+ü.json")
    ('my-bucket', 'in/a b+ü.json')
    """
    import re

    found = re.fullmatch(LOCATION, location) if isinstance(location, str) else None
    if not found:
        shown = str(location).rpartition("@")[2].partition("?")[0][:80]
        raise ParamValidationError(
            f"location {shown!r} is not s3://bucket/key: the bucket's name has 3 to 63 lower-case "
            "letters, digits, dots and hyphens, the key is not empty and has no control characters"
        )
    return found[1], found[2]


def s3_url(endpoint_url: str, bucket: str, key: str, path_style: bool) -> str:
    """The URL of an object, whose bucket is in the host, or at the start of the path.

    >>> s3_url("https://s3.eu-west-1.amazonaws.com", "my-bucket", "a b/../c", path_style=False)
    'https://my-bucket.s3.eu-west-1.amazonaws.com/a%20b/../c'
    """
    scheme, _, host = endpoint_url.partition("://")
    where = f"{host}/{bucket}" if path_style else f"{bucket}.{host}"
    return f"{scheme}://{where}/{uri_encode(key, safe='/')}"


# === PART II: THE CLIENT =====================================================
__all__ += [
    "load_profiles", "UrllibTransport", "resolve_credentials", "RuntimeClient", "lambda_handler",
]  # fmt: skip

# --- 7. Settings -------------------------------------------------------------
# In: an environment and the two files that AWS's tools share. Out: each setting, and where it came
# from. configparser reads the files, as in boto3. An argument beats the environment, which beats
# the profile; an empty variable counts as unset. Setting x is AWS_X in the environment, unless
# PLACES says otherwise. The files are read when a client is made and when it loads credentials.
# https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html

MAX_FILE_BYTES = 1 << 20
SHARED_FILES = {
    # which: the variable that names it, where it is otherwise
    "config": ("AWS_CONFIG_FILE", "~/.aws/config"),
    "credentials": ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
}
PROFILE = "profile"
COMMENT = r"^([ \t]*\[[^]\n]*\]).*|(?<=\S)[ \t]+[#;].*"  # what follows a header, or a value
PLACES = {
    # setting: environment variables, and the profile, in the order of their precedence
    "profile": ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION", PROFILE),
    "ca_bundle": ("AWS_CA_BUNDLE", PROFILE, "REQUESTS_CA_BUNDLE"),
}


def load_profiles(environ: Environ) -> Profiles:
    """Both shared files merged, by profile name; keys in lower case.

    Other sections stand under their whole header ("sso-session x", "services x"). The value of a
    nested property is its raw text, a line break before each nested line. Raises
    ConfigurationError with file and line number.
    """
    return merged(*(read_shared_file(which, environ)[0] for which in SHARED_FILES))


def merged(config: Profiles, credentials: Profiles) -> Profiles:
    """The profiles of both files; per key the credentials file wins."""
    names = dict.fromkeys([*config, *credentials])
    return {name: {**config.get(name, {}), **credentials.get(name, {})} for name in names}


def read_shared_file(which: str, environ: Environ) -> tuple[Profiles, str]:
    """The profiles in the "config" or "credentials" file; why there are none, "" for no file."""
    variable, path = SHARED_FILES[which][0], shared_file_path(which, environ)
    try:
        text = read_text_file(path)
        sections = parse_shared_file(text, path) if text else {}  # to parse costs milliseconds
        return config_profiles(sections) if which == "config" and text else sections, ""
    except FileNotFoundError:
        return {}, f"{path}, which {variable} names, is missing" if environ.get(variable) else ""
    except (OSError, ValueError) as error:
        return {}, f"{path} cannot be read: {error}"


def shared_file_path(which: str, environ: Environ) -> str:
    """Where the "config" or "credentials" file is: "~" and $VARIABLES are replaced."""
    variable, default = SHARED_FILES[which]
    path = environ.get(variable) or default
    if "$" in path:
        from string import Template

        path = Template(path).safe_substitute(environ)
    return home_of(environ) + path[1:] if path.startswith(("~/", "~\\")) else path


def home_of(environ: Environ) -> str:
    """The home directory; without HOME the one that the system has for this user."""
    return environ.get("HOME") or environ.get("USERPROFILE") or os.path.expanduser("~")


def read_text_file(path: str) -> str:
    """The text of a small file, what is not UTF-8 replaced; raises OSError, ConfigurationError."""
    with open(path, "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: is over {MAX_FILE_BYTES} bytes; is it the right file?")
    return content.decode("utf-8-sig", "replace")


def parse_shared_file(text: str, path: str) -> Profiles:
    """The sections of a file by their headers; the last of two equal keys wins.

    >>> parse_shared_file("[profile dev]\\nRegion = eu-west-1 # home", "~/.aws/config")
    {'profile dev': {'region': 'eu-west-1'}}
    """
    import configparser
    import re

    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(re.sub(COMMENT, r"\1", text, flags=re.MULTILINE))
        return {header: dict(parser.items(header)) for header in parser.sections()}
    except configparser.MissingSectionHeaderError as error:
        line = error.lineno
    except configparser.ParsingError as error:
        line = error.errors[0][0]
    # raised here, since the parser's own error quotes what may be a secret
    raise ConfigurationError(f"{path}, line {line}: is neither [section] nor key = value")


def config_profiles(sections: Profiles) -> Profiles:
    """The sections of the config file: "[profile x]" is x; others lose the quotes in the header.

    >>> config_profiles({"profile 'a b'": {"region": "r"}, "sso-session 'c d'": {}, "plain": {}})
    {'a b': {'region': 'r'}, 'sso-session c d': {}, '[plain]': {}}
    """
    import shlex

    profiles: Profiles = {}
    for header, keys in sections.items():
        try:
            kind, *name = shlex.split(header) or [""]
        except ValueError:  # an odd number of quotes
            continue
        if len(name) == 1 and kind in (PROFILE, "sso-session", "services"):
            profiles[name[0] if kind == PROFILE else f"{kind} {name[0]}"] = keys
        else:
            profiles[header if header == "default" else f"[{header}]"] = keys
    return profiles


def environment(environ: Environ | None) -> Environ:
    """The mapping that was given, or the process's own environment."""
    return os.environ if environ is None else environ


class Settings:
    """Arguments, environment and one profile, asked for one setting at a time.

    `.sources` has where each setting that was asked for came from, `.unread` why a shared file
    was not read. Raises ConfigurationError for a profile that is named and is not there.
    """

    def __init__(
        self, environ: Environ, profile_name: str | None = None, **arguments: Any
    ) -> None:
        self.environ, self.profile_in_code = environ, profile_name
        self.arguments = {**arguments, PROFILE: profile_name or None}
        self.sources: dict[str, str] = {}
        files = {which: read_shared_file(which, environ) for which in SHARED_FILES}
        self.shared = {which: profiles for which, (profiles, _) in files.items()}
        self.unread = [reason for _, reason in files.values() if reason]
        self.profiles = merged(**self.shared)
        self.files = " and ".join(shared_file_path(which, environ) for which in SHARED_FILES)
        self.profile_name, self.profile = "default", self.profiles.get("default", {})
        name = self.get(PROFILE)
        if name and name not in self.profiles:
            there = "; ".join([", ".join(sorted(self.profiles)) or "none", *self.unread])
            from shlex import quote

            near = f"[profile {quote(name)}]" if f"[{name}]" in self.profiles else ""
            there += f"; write {near} for [{name}]" if near else ""
            by = self.sources[PROFILE]
            raise ConfigurationError(
                f"profile {name!r} ({by}) is not in {self.files}; there are: {there}"
            )
        if name:
            self.profile_name, self.profile = name, self.profiles[name]

    def get(self, setting: str) -> Any:
        """The setting, or None if nothing sets it."""
        profile = (f"profile {self.profile_name!r}", self.profile.get(setting))
        places = dict(
            profile
            if name == PROFILE
            else (f"environment variable {name}", self.environ.get(name))
            for name in PLACES.get(setting, (f"AWS_{setting.upper()}", PROFILE))
        )
        return self._first(setting, places)

    def _first(self, setting: str, places: Mapping[str, str | None]) -> Any:
        """The argument, or the first text of `places` that is not empty; notes its source."""
        argument = self.arguments.get(setting)
        found = [("argument", argument)] if argument is not None else []
        found += [(source, text) for source, text in places.items() if text]
        self.sources[setting], value = (*found, ("default", None))[0]
        return value

    def get_flag(self, setting: str) -> bool:
        """A setting that is "true" or "false"; False if nothing sets it."""
        text = str(self.get(setting) or False).lower()
        if text not in ("true", "false"):
            wrong = f"{self.get(setting)!r} is neither true nor false"
            raise ConfigurationError(f"{setting}, {self.sources[setting]}: {wrong}")
        return text == "true"

    def get_count(self, setting: str, default: int) -> int:
        """A setting that is a whole number above 0."""
        value = self.get(setting)
        text = str(default if value is None else value)
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
            wrong = f"{value!r} is not a number from 1 to 999999999"
            raise ConfigurationError(f"{setting}, {self.sources[setting]}: {wrong}")
        return int(text)

    def endpoint(self, service: str, region: str | None) -> str:
        """The URL of a service in a region, a configured one first; raises ConfigurationError."""
        setting = "endpoint" if service == "sagemaker-runtime" else f"{service} endpoint"
        name, here = service.replace("-", "_"), f"profile {self.profile_name!r}"
        section = f"services {self.profile.get('services') or ''}"
        places: dict[str, str | None] = {}
        if not self.get_flag("ignore_configured_endpoint_urls"):
            for variable in (f"AWS_ENDPOINT_URL_{name.upper()}", "AWS_ENDPOINT_URL"):
                places[f"environment variable {variable}"] = self.environ.get(variable)
            if section != "services " and section not in self.profiles:
                raise ConfigurationError(f"{here} names [{section}], which is not in {self.files}")
            nested = self.profiles.get(section, {}).get(name, "")
            if nested.startswith("\n"):
                keys = parse_shared_file(f"[x]{nested}", f"[{section}]")["x"]
                places[f"services section of {here}"] = keys.get("endpoint_url")
            places[here] = self.profile.get("endpoint_url")
        url = self._first(setting, places)
        if url is None:
            self.sources[setting] = "the region"
        else:
            check_endpoint_url(url, f"endpoint URL, {self.sources[setting]},")
        fips, dual = self.get_flag("use_fips_endpoint"), self.get_flag("use_dualstack_endpoint")
        return resolve_endpoint(
            region, use_fips=fips, use_dualstack=dual, endpoint_url=url, service=service
        )


# --- 8. Transport ------------------------------------------------------------
# In: a Request. Out: a Response of any status, or a TransportError that says what went wrong and
# whether the request can have arrived. A transport is any callable of that shape. In this one
# urllib.request chooses the proxy, http.client connects, writes and reads, and connections are
# kept for later requests. No redirect is followed: a signature is good for one host.

CONNECT_TIMEOUT_SECONDS = 10.0  # for each step: an address of the host with its tunnel, TLS
READ_TIMEOUT_SECONDS = 60.0  # botocore's
NO_LIMIT_SECONDS = 1e6  # eleven days: the longest time limit
NEVER = float("inf")  # a deadline
MAX_BODY_BYTES = 1 << 20  # of an answer in memory; SageMaker's have a few hundred bytes
PIECE_BYTES = 1 << 16  # of a file, sent or read at once
MAX_IDLE_CONNECTIONS = 64
MAX_IDLE_SECONDS = 50.0  # load balancers drop what is idle for 60 s, some without a word
HEAD = (  # of a request: without control characters in the first line, or half a line break
    r"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:[!-9;-~]+: [^\r\n\0\ud800-\udfff]*\r\n)+\r\n"
)
NEVER_PROXIED = (  # added to NO_PROXY: this machine, and what is next to it
    "localhost,127.0.0.1,[::1],169.254.169.254,169.254.170.2,169.254.170.23,[fd00:ec2::254],"
    "[fd00:ec2::23]"
)


class UrllibTransport:
    """Sends a Request and returns its Response; raises TransportError. Thread-safe.

    Time limits are in seconds: `connect_timeout` for each step of connecting, `read_timeout` for
    each piece that is sent, for the answer, and for each piece of one that goes to a `sink`.
    `ca_bundle` is a file of certificates, or False to accept any certificate: then anyone on the
    way can read and change everything, so do that on a test machine only. `environ` names the
    proxies.
    """

    def __init__(
        self, *, connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout: float = READ_TIMEOUT_SECONDS, ca_bundle: str | bool | None = None,
        environ: Environ | None = None, monotonic: Clock = time.monotonic,
    ) -> None:  # fmt: skip
        self._idle: list[tuple[object, float, TimedSocket]] = []
        self._lock = Lock()
        self._connect_timeout = checked_seconds("connect_timeout", connect_timeout)
        self._read_timeout = checked_seconds("read_timeout", read_timeout)
        self._ca_bundle, self._monotonic = ca_bundle, monotonic
        self._proxies = proxies(environment(environ))
        self._opener = lru_cache(None)(opener_with)
        self._tls_context = lru_cache(None)(lambda: tls_context(ca_bundle))  # reading CAs is slow
        if ca_bundle is False:
            import warnings

            warnings.warn("TLS certificates are not verified (verify=False)", stacklevel=2)

    def __call__(
        self, request: Request, *, timeout: float | None = None, sink: BinaryIO | None = None
    ) -> Response:
        """The answer; the body of a 200 or 206 goes to `sink` where there is one.

        `timeout`, in seconds, bounds the whole of it.
        """
        from http.client import HTTPException

        # The one function for NO_PROXY that takes a mapping. It is undocumented.
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

        deadline = self._monotonic() + (NEVER if timeout is None else timeout)
        route, sock, is_reusable = route_of(request), None, False
        try:
            direct = proxy_bypass_environment(route.host, self._proxies)
            opener = self._opener(route.type, None if direct else self._proxies.get(route.type))
            route.connect = self._kept_or_new
            sock = opener.open(route, timeout=deadline - self._monotonic())
            sock.limit, sock.deadline = self._read_timeout, deadline
            answer = ask(sock, route, request)
        except (OSError, HTTPException, UnicodeError) as error:  # the latter of a host's name
            failure = transport_error(route.stage, error, route.host, self._ca_bundle)
        else:
            body, complete = read_body(answer, sink if answer.status in (200, 206) else None, sock)
            is_reusable = complete and not answer.will_close and route.stage == "read"
            found = answer.getheaders()  # in Latin-1; AWS sends UTF-8
            headers = [(n, v.encode("latin-1").decode("utf-8", "replace")) for n, v in found]
            return Response(answer.status, tuple(headers), body, complete)
        finally:
            if sock and is_reusable:
                with self._lock:
                    self._idle.append((route.key, self._monotonic(), sock))
                self.close(MAX_IDLE_CONNECTIONS)
            elif sock:
                sock.hang_up()
        raise failure  # not from the error, which may quote what came

    def _kept_or_new(self, route: Any) -> TimedSocket:
        """The youngest kept connection that is still good, or a new one.

        `_tunnel_host` has the host behind a proxy; urllib's own handlers read it, too.
        """
        route.key = (
            os.getpid(),
            route.type,
            route.host,
            route._tunnel_host,
        )  # not another process's
        while True:
            with self._lock:
                places = range(len(self._idle) - 1, -1, -1)
                found = next((i for i in places if self._idle[i][0] == route.key), None)
                _, since, sock = (None, 0.0, None) if found is None else self._idle.pop(found)
            if sock is None:
                return self._connect(route, self._monotonic() + route.timeout)
            if self._monotonic() - since < MAX_IDLE_SECONDS and sock.is_quiet():
                return sock
            sock.hang_up()

    def close(self, keep: int = 0) -> None:
        """Close the kept connections but the `keep` youngest; the transport stays usable."""
        with self._lock:
            count = max(0, len(self._idle) - keep)
            dropped, self._idle = self._idle[:count], self._idle[count:]
        for _, _, sock in dropped:
            sock.hang_up()

    __del__ = close

    def _connect(self, route: Any, deadline: float) -> TimedSocket:
        """A new connection, through a proxy's tunnel and TLS where those are due."""
        context = self._tls_context() if route.type == "https" else None
        route.stage = "proxy" if route._tunnel_host else "connect"
        sock = self._reach(route, deadline)
        if context:
            route.stage = "tls"
            sock.settimeout(self._left(deadline))
            host, _ = host_and_port(route._tunnel_host or route.host, 443)
            sock = context.wrap_socket(sock, server_hostname=host)
        return TimedSocket(sock, self._monotonic)

    def _reach(self, route: Any, deadline: float) -> socket.socket:
        """A socket that http.client has connected to the first address that answers.

        It would go through the host's addresses itself, with the whole time limit for each.
        """
        import socket
        from http.client import HTTPConnection

        tunnel, failure = route._tunnel_host, OSError("the host has no address")
        server = host_and_port(route.host, 443 if route.type == "https" and not tunnel else 80)
        found: Any = socket.getaddrinfo(*server, type=socket.SOCK_STREAM)
        for *_, address in found:
            connection = HTTPConnection(address[0], address[1], self._left(deadline))
            if tunnel:
                connection.set_tunnel(*host_and_port(tunnel, 443), route.headers)
            try:
                connection.connect()
                sock, connection.sock = connection.sock, None
                return sock
            except OSError as error:
                failure = error
            finally:
                connection.close()
            if self._monotonic() >= deadline or proxy_refusal(failure):
                break
        try:
            raise failure
        finally:
            del failure  # whose traceback, this function's frame and a socket would stay together

    def _left(self, deadline: float) -> float:
        """The seconds that a step of connecting may take."""
        return max(min(self._connect_timeout, deadline - self._monotonic()), 0.001)


def opener_with(scheme: str, proxy: str | None) -> Any:
    """urllib's opener, which returns what `connect` of a request returns, a TimedSocket.

    It sees to the proxy, if there is one. No other handler is there, such as the one that follows
    redirects. Raises ConfigurationError, without the password, for a malformed proxy.
    """
    import re
    import urllib.request

    form = r"(http://)?([^/]*@)?(\[[0-9A-Fa-f:.]+\]|([\w-]{1,63}\.)*[\w-]{1,63}\.?)(:\d{1,5})?/?"
    found = re.fullmatch(form, proxy or "localhost")
    port = int((found[5] or ":80")[1:]) if found else 0
    if not 0 < port < 65536 or not is_visible(proxy or ""):
        wrong = "the URL is not http://[user:password@]host[:port]"
        raise ConfigurationError(f"{scheme.upper()}_PROXY: {wrong}")

    class KeepAliveHandler(urllib.request.BaseHandler):
        def http_open(self, route: Any) -> TimedSocket:
            sock: TimedSocket = route.connect(route)
            return sock

        https_open = http_open

    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.ProxyHandler({scheme: proxy} if proxy else {}))
    opener.add_handler(KeepAliveHandler())
    return opener


def route_of(request: Request) -> Any:
    """The request as urllib.request routes it; raises ParamValidationError for a malformed URL.

    It gets three attributes of ours: `connect`, the `key` of its connection, and its `stage`.
    """
    import urllib.request

    try:
        route: Any = urllib.request.Request(request.url, method=request.method)
        host, _ = host_and_port(route.host, 0)
        if route.type in ("http", "https") and host and "@" not in route.host:
            route.stage = "send"
            return route
    except ValueError:
        pass
    raise ParamValidationError("the URL is not of the form http[s]://host[:port]/path")


def ask(sock: TimedSocket, route: Any, request: Request) -> http.client.HTTPResponse:
    """Send a request, its headers as they were signed, and read the head of the answer.

    Raises OSError, HTTPException; ParamValidationError for what is not of the form HEAD.
    """
    import re
    from http.client import HTTPException, HTTPResponse
    from ssl import SSLError

    route.stage, headers = "send", request.headers
    if "host" not in [name.lower() for name, _ in headers]:
        headers = (("Host", split_url(request.url)[0]), *headers)
    if not route._tunnel_host:  # or the proxy's password would go through the tunnel
        headers += tuple(route.header_items())  # of which urllib has no other yet
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    head = "".join([f"{request.method} {route.selector} HTTP/1.1\r\n", *lines, "\r\n"])
    if not re.fullmatch(HEAD, head) or head.count("\n") != len(headers) + 2:  # none within one
        raise ParamValidationError("method, URL or a header: has what HTTP does not allow")
    for piece in pieces_of(head.encode(), request.body):
        try:
            sock.sendall(piece)
        except (ConnectionError, SSLError):
            break  # the service may have answered, and closed, before it had read all
    else:
        route.stage = "read"
    sock.allow()
    answer = HTTPResponse(sock, method=request.method)  # type: ignore[arg-type]
    answer.begin()
    if sock.ended:
        raise ConnectionResetError("the connection ended within the answer's head")
    if answer.status < 200:  # http.client passes over 100
        raise HTTPException("an interim answer")
    return answer


def pieces_of(head: bytes, body: RequestBody) -> Iterator[bytes]:
    """The bytes of a request; raises ParamValidationError for a file that cannot be read."""
    if isinstance(body, bytes):
        yield head + body
        return
    yield head
    try:
        with body() as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as error:
        raise ParamValidationError(f"the body cannot be read: {error}") from error


def read_body(
    answer: http.client.HTTPResponse, sink: BinaryIO | None, sock: TimedSocket
) -> tuple[bytes, bool]:
    """The body, and whether that is all of it: what fails here no longer hides the status."""
    from http.client import HTTPException

    pieces: list[bytes] = []
    keep: Callable[[bytes], object] = sink.write if sink else pieces.append
    left, is_cut = sys.maxsize if sink else MAX_BODY_BYTES, False
    while left >= 0 and not is_cut and not answer.isclosed():
        if sink:
            sock.allow()
        try:
            piece = answer.read(min(left + 1, PIECE_BYTES))
        except (OSError, HTTPException, ValueError):
            piece, is_cut = b"", True
        keep(piece)
        left -= len(piece)
    return b"".join(pieces)[:MAX_BODY_BYTES], not is_cut and left >= 0 and not answer.length


class TimedSocket(io.RawIOBase):
    """A connected socket with time limits, and with what http.client asks of a socket.

    `allow` gives what follows, be it one read or many, `limit` seconds, but no longer than until
    `deadline`: a server that sends a byte at a time does not prolong anything.
    """

    def __init__(self, sock: socket.socket, monotonic: Clock) -> None:
        self.sock, self.monotonic, self.limit, self.deadline = sock, monotonic, 0.0, NEVER
        self.until, self.ended, self.hang_up = 0.0, False, sock.close  # 0: do not wait
        self.reader = KeptReader(self, PIECE_BYTES)

    def allow(self) -> None:
        self.until = min(self.monotonic() + self.limit, self.deadline)

    def set_timeout(self) -> None:
        left = self.until and self.until - self.monotonic()
        if left <= 0 and self.until:
            raise TimeoutError("the time limit is over")
        if not left <= (self.sock.gettimeout() or 0) <= 1.01 * left or not left:
            self.sock.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self.allow()
        self.set_timeout()
        self.sock.sendall(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.set_timeout()
        count = self.sock.recv_into(buffer)
        self.ended = not count
        return count

    def readall(self) -> bytes:
        raise ValueError("http.client reads without bound where a chunk says that its size is -1")

    def makefile(self, _mode: str) -> BinaryIO:
        return self.reader

    def close(self) -> None:
        """Nothing, since a file's end would be that of the connection."""

    def is_quiet(self) -> bool:
        """Whether the other side has neither closed nor sent something that nobody asked for.

        Such bytes, which TLS or the reader may hold, would pass for the next answer.
        """
        from ssl import SSLWantReadError

        self.until = 0.0
        try:
            self.reader.peek(1)
        except OSError as error:
            return isinstance(error, (BlockingIOError, SSLWantReadError))
        return False


class KeptReader(io.BufferedReader):
    """What came over a connection; it outlives each answer, so that surplus bytes are noticed."""

    def close(self) -> None:
        """Nothing: http.client closes its file at the end of each answer."""


STAGES = {
    # stage: its kind of TransportError, words for it. Up to "send" the service cannot have all.
    "connect": ("connect", "cannot connect"),
    "proxy": ("proxy", "cannot connect through this proxy"),
    "tls": ("closed", "TLS handshake broken off"),
    "send": ("closed", "broken off before the request was sent"),
    "read": ("closed", "no answer"),
}


def transport_error(stage: str, error: Exception, host: str, ca_bundle: Any) -> TransportError:
    """The error that says what went wrong, at which of STAGES, and whether it may pass."""
    import socket
    import ssl

    kind, words = STAGES[stage]
    said = str(error) if isinstance(error, OSError) else ""  # the rest quotes the server
    advice, refusal = "", proxy_refusal(error)
    ended = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # the latter in Python 3.9
    if isinstance(error, (TimeoutError, socket.timeout)):
        kind = "timeout"
    elif isinstance(error, socket.gaierror):
        advice = "; check the region, the endpoint URL and the network's DNS"
    elif isinstance(error, ssl.SSLError) and not isinstance(error, ended):
        kind = "tls"
        if not ca_bundle:
            advice = "; for a private authority, set AWS_CA_BUNDLE to a file of its certificates"
    elif refusal[:3] == "407":
        advice = "; check user and password in the proxy's URL (Basic; not NTLM or Negotiate)"
    elif not isinstance(error, OSError) and stage == "read":
        kind, words = "protocol", "the answer is not HTTP"
    what = "".join(c if c.isprintable() else "?" for c in said[:200]) or type(error).__name__
    retryable = kind != "tls" and refusal[:1] != "4"
    text = f"{host}: {words}: {what}{advice}"
    return TransportError(text, kind=kind, sent=stage == "read", retryable=retryable)


def proxy_refusal(error: Exception) -> str:
    """The status with which a proxy refused a tunnel, as http.client's error has it; or ""."""
    return str(error).partition("Tunnel connection failed: ")[2]


def tls_context(ca_bundle: str | bool | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, certificates verified unless `ca_bundle` is False."""
    import ssl

    try:
        context = ssl.create_default_context(cafile=str(ca_bundle or "") or None)
    except OSError as error:
        raise ConfigurationError(f"CA bundle {ca_bundle}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_bundle:  # as botocore: the certificates of inspecting proxies often break strict rules
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca_bundle is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def checked_seconds(name: str, seconds: float) -> float:
    """A number of seconds above 0; raises ParamValidationError."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ParamValidationError(f"{name}: {seconds!r} is not a number of seconds above 0")
    return min(seconds, NO_LIMIT_SECONDS)


def proxies(environ: Environ) -> dict[str, str]:
    """What urllib.request.getproxies_environment makes of os.environ, of any mapping.

    "no" has the hosts that are asked without a proxy; {} if there is none.

    >>> proxies({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:2", "NO_PROXY": "*"})
    {'https': 'http://b:2', 'no': '*'}
    """
    found: dict[str, str] = {}
    for name in sorted(environ):  # lower case comes last, and wins
        if name == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
            continue  # in a CGI script it is a header that a stranger sent
        if name.lower() in ("http_proxy", "https_proxy", "no_proxy"):
            found[name.lower()[: -len("_proxy")]] = environ[name]
    if not found.get("http") and not found.get("https"):
        return {}
    if found.get("no") != "*":
        found["no"] = f"{found.get('no', '')},{NEVER_PROXIED}"
    return {scheme: url for scheme, url in found.items() if url}


def is_visible(text: str) -> bool:
    """Whether the text is ASCII without spaces and control characters."""
    return text.isascii() and text.isprintable() and " " not in text


@lru_cache(maxsize=100)
def host_and_port(text: str, default_port: int) -> tuple[str, int]:
    """The two halves of "host:port"; an IPv6 address loses its brackets."""
    from urllib.parse import urlsplit

    parts = urlsplit(f"//{text}")
    return parts.hostname or "", parts.port or default_port


# --- 9. Sending --------------------------------------------------------------
# In: a Call, which is one operation of any service. Out: what its `read` makes of the answer. This
# is the one loop for SageMaker, S3, STS, SSO, the container endpoint and IMDS: sign for the
# service's time, send, read, and try again if section 5 says so. Here are also the headers that
# AWS's SDKs add, the log, and what keeps secrets out of errors and logs.

DEBUG, WARNING = 10, 30  # logging's
system_clock = time.time


def random_fraction() -> float:
    """A random number in [0, 1)."""
    from random import random

    return random()


class Call:
    """One operation of a service, how to send it, and its attempts so far.

    `read` makes a dict with ResponseMetadata of a Response, or raises ClientError.
    """

    signing: Mapping[str, Any] = {}  # arguments of sign
    deadline = NEVER  # of all attempts, by the client's `monotonic`
    timeout = NEVER  # seconds, of one attempt
    max_attempts = MAX_ATTEMPTS
    is_near = False  # IMDS and the like: a failed connection is final
    retry_sent = retry_throttled = True
    sink: BinaryIO | None = None  # takes the body of a 200 or 206
    secrets: tuple[str, ...] = ()  # texts to hide, beside those in the headers
    invocation_id = ""
    sent = False  # whether the service can have received it
    skew, time_off = 0.0, 0.0  # with which it was signed; what of it the answer says was wrong

    def __init__(
        self, operation: str, request: Request, read: Callable[[Response], dict[str, Any]],
        get_credentials: Callable[..., Credentials | None] = lambda deadline, refused=None: None,
        **options: Any,
    ) -> None:  # fmt: skip
        self.operation, self.request, self.read = operation, request, read
        self.get_credentials = get_credentials
        self.credentials: Credentials | None = None  # None: it is not signed
        self.attempts: list[dict[str, Any]] = []
        vars(self).update(options)

    def hidden(self) -> list[str]:
        """What a service may echo and nobody may see: keys, tokens, HIDDEN_HEADERS, the body.

        Real ones have eight characters or more; a short one would be everywhere.
        """
        headers, body, keys = self.request.headers, self.request.body, self.credentials
        texts = [text for name, text in headers if name.lower() in HIDDEN_HEADERS]
        texts += [keys.secret_access_key, keys.session_token or ""] if keys else []
        texts += [body.decode("utf-8", "replace")] if isinstance(body, bytes) else []
        texts += [*self.secrets, *(" ".join(text.split()) for text in texts)]  # as when signed
        return sorted((text for text in texts if len(text) >= 8), key=len, reverse=True)

    def hide(self, value: Any) -> Any:
        """A text, or what has texts in it, with "(hidden)" for what is, and lengths in headers."""
        if isinstance(value, dict):
            return {name: self.hide(item) for name, item in value.items()}
        if type(value) is tuple:
            return tuple([self.hide(item) for item in value])
        if isinstance(value, str):
            for text in self.hidden():
                value = value.replace(text, "(hidden)")
            return masked(value, HIDDEN_HEADERS)
        return value

    def log(self, form: str, *values: Any) -> None:
        """Write to the log what may be written."""
        log = logger()
        if log:
            log.debug(form, *map(self.hide, values))


class Sender:
    """Sends calls through one transport; they share a retry quota and the clock's skew."""

    skew = 0.0  # seconds by which AWS's clock is ahead of ours

    def __init__(
        self, transport: Transport, environ: Environ, app_id: str | None = None,
        clock: Clock = system_clock, monotonic: Clock = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_fraction,
    ) -> None:  # fmt: skip
        self.transport, self.environ, self.quota = transport, environ, RetryQuota()
        self.clock, self.monotonic, self.sleep, self.random = clock, monotonic, sleep, random
        self.user_agent = user_agent(environ, app_id)

    def send(self, call: Call) -> dict[str, Any]:
        """The answer; raises ClientError, TransportError, CredentialsError."""
        call.attempts, call.sent, cost = [], False, 0
        call.credentials = call.get_credentials(call.deadline)
        while True:
            answer, error = self._attempt(call)
            if error is None:
                self.quota.refund(cost)
                return answer
            kind, may = self._retry_kind(call, error), len(call.attempts) < call.max_attempts
            cost = RETRIES[kind][1] if kind else 0
            if not kind or not may or not self.quota.spend(cost):
                if kind:
                    error.metadata["RetryQuotaReached" if may else "MaxAttemptsReached"] = True
                raise error
            retry_after = error.metadata.get("HTTPHeaders", {}).get("x-amz-retry-after")
            delay = backoff(kind, len(call.attempts) - 1, self.random(), retry_after)
            call.attempts[-1]["Delay"] = delay
            call.log("attempt %d: %s; next in %.3f s", len(call.attempts), error, delay)
            if self.monotonic() + delay >= call.deadline:
                text = f"{call.operation}: the time limit is over; the last attempt: {error}"
                evidence = {"sent": call.sent, "metadata": error.metadata}
                raise TransportError(text, kind="timeout", **evidence) from error
            self.sleep(delay)

    def _attempt(self, call: Call) -> tuple[dict[str, Any], Any]:
        """Sign, send and read once; returns the answer, or the error, less secrets.

        To raise it here would chain it to the one that has them.
        """
        started, sent_at = self.monotonic(), self.clock()
        known: dict[str, Any] = {"RetryAttempts": len(call.attempts)}
        signed = self.signed(call, sent_at)
        entry: dict[str, Any] = {"Outcome": "", "Seconds": 0.0, "Delay": 0.0}
        call.attempts.append(entry)
        answer: dict[str, Any] = {}
        failure: Any = None
        try:
            response = self._response(call, signed)
            known["ResponseAt"], call.sent = self.clock(), True
            entry["Outcome"], answer = str(response.status), call.read(response)
        except TransportError as error:
            failure, entry["Outcome"], call.sent = error, error.kind, call.sent or error.sent
            error.args, error.metadata = (call.hide(str(error)),), {}
        except ClientError as error:
            said = call.hide(error.response)
            message, code = said["Error"]["Message"], said["Error"]["Code"]
            hint = mismatch(said["Error"], call.hide(signed.canonical_request)) or HINTS.get(code)
            kind, name = type(error), call.operation
            failure = kind(message, response=said, operation_name=name, hint=hint or "")
            entry["Outcome"] = code
        entry["Seconds"] = self.monotonic() - started
        metadata = failure.metadata if failure else answer["ResponseMetadata"]
        if "HTTPHeaders" in metadata:
            known.update(self._timing(call, metadata["HTTPHeaders"], sent_at, known["ResponseAt"]))
        metadata.update(known, Attempts=call.attempts)
        return answer, failure

    def signed(self, call: Call, now: float) -> Signed:
        """The next attempt's request, signed for the time that the service has."""
        method, url, headers, body = call.request
        agent = ("User-Agent", self.user_agent)
        if call.credentials is None:
            return Signed(Request(method, url, (*headers, agent), body), "", "", "")
        if not call.invocation_id:
            from uuid import uuid4

            call.invocation_id = str(uuid4())
        count = f"attempt={len(call.attempts) + 1}; max={call.max_attempts}"
        headers += (("amz-sdk-invocation-id", call.invocation_id), agent)
        trace = self.environ.get("AWS_LAMBDA_FUNCTION_NAME") and self.environ.get(
            "_X_AMZN_TRACE_ID"
        )
        if trace:  # by which Lambda notices functions that call each other without end
            from urllib.parse import quote

            trace = quote(trace, errors="replace", safe="-=;:+&[]{}\"',")
            headers += (("X-Amzn-Trace-Id", trace),)
        request = Request(method, url, (*headers, ("amz-sdk-request", count)), body)
        call.skew, call.time_off = self.skew, 0.0
        timestamp = amz_date(int(now + call.skew))
        return sign(request, call.credentials, timestamp=timestamp, **call.signing)

    def _response(self, call: Call, signed: Signed) -> Response:
        """What the transport makes of the request; both go to the log."""
        left = min(call.timeout, call.deadline - self.monotonic())
        if left <= 0:
            raise TransportError("the time limit is over", kind="timeout", sent=False)
        options: dict[str, Any] = {} if left == NEVER else {"timeout": left}
        if call.sink is not None:
            options["sink"] = call.sink
        request, canonical, to_sign, _ = signed
        service = SERVICE_IDS.get(call.signing.get("service", ""), "unsigned")
        if logger():
            working = f"{canonical}\n{to_sign}\n{request!r}"
            call.log("%s, %s signed:\n%s", service, call.operation, working)
        response = self.transport(request, **options)
        if response.status >= 300:
            body = response.body
            for text in call.hidden():  # already here: an error may quote no more than a part
                body = body.replace(text.encode(), b"(hidden)")
            response = response._replace(body=body)
        if logger():
            call.log("answer: %r %s", response, tuple(shown_headers(response.headers)))
        return response

    def _timing(
        self, call: Call, headers: Mapping[str, str], sent_at: float, received_at: float
    ) -> dict[str, Any]:
        """What the answer says about the clocks; the next signature uses it."""
        skew = clock_skew(headers, sent_at, received_at)
        if skew is not None and call.credentials:  # IMDS and the like have this machine's clock
            self.skew, call.time_off = skew, skew - call.skew
        return {"ServerTime": http_date(headers.get("date")), "ClockSkew": skew}

    def _retry_kind(self, call: Call, error: ClientError | TransportError) -> str | None:
        """The row of RETRIES to go by; None if the error is final.

        Credentials that expired are renewed, once in a call, and then tried. A clock that is
        found wrong again in the same call is paid for.
        """
        *before, code = [entry["Outcome"] for entry in call.attempts]
        kind = retry_kind(error, skew=call.time_off, retry_sent=call.retry_sent)
        if isinstance(error, TransportError):
            error.sent = call.sent  # by this attempt or one before
        if kind == "throttle" and not call.retry_throttled or call.is_near and not call.sent:
            kind = None
        if kind == "corrected" and not SKEW_CODES.isdisjoint(before):
            kind = "transient"
        if code in EXPIRED_CODES and EXPIRED_CODES.isdisjoint(before):
            refused = call.credentials
            try:
                call.credentials = call.get_credentials(call.deadline, refused)
            except Exception as failure:  # what the service said is the better error to raise
                call.log("no other credentials: %s", type(failure).__name__)
            kind = kind if call.credentials == refused else "corrected"
        return kind


@lru_cache(maxsize=16)  # many signatures are made within one second
def amz_date(seconds: float) -> str:
    """Epoch seconds as a signature has them, "20150830T123600Z"."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def user_agent(environ: Environ, app_id: str | None) -> str:
    """Who calls, as AWS's SDKs write it: name#value, anything unusual in a value becoming "-"."""
    version = ".".join(map(str, sys.version_info[:3]))
    agent = f"smasync/{__version__} ua/2.1 os/{sys.platform} lang/python#{version}"
    agent += f" md/impl#{sys.implementation.name} api/sagemakerruntime"
    usual = frozenset("!#$%&'*+-.^_`|~")
    for name, text in (("exec-env", environ.get("AWS_EXECUTION_ENV")), ("app", app_id)):
        plain = [c if c in usual or (c.isascii() and c.isalnum()) else "-" for c in text or ""]
        agent += f" {name}/{''.join(plain)}" if text else ""
    return agent


def logger(level: int = DEBUG) -> Logger | None:
    """The logger "smasync" while it takes what has that level; logging is not imported for it."""
    logging = sys.modules.get("logging")
    found: Logger | None = logging.getLogger("smasync") if logging else None
    return found if found and found.isEnabledFor(level) else None


# --- 10. Credentials ---------------------------------------------------------
# In: settings. Out: Credentials. The chain is a tuple of providers, asked in order; a provider is
# a method that returns Credentials, or None if it is not configured, or raises if it is but does
# not work. That ends the search: a key from another place than the configured one is worse than
# none. Where does the key come from? Read CHAIN, and for a profile PROFILE_PROVIDERS.
# https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html

ADVISORY_SECONDS = 15 * 60  # before the end: one thread renews, and failure is tolerated
MANDATORY_SECONDS = 10 * 60  # before the end: all calls wait for it, and failure is raised
SERVICE_TIMEOUT_SECONDS, PROCESS_TIMEOUT_SECONDS = 20.0, 60.0  # the former for STS and SSO
CONTAINER_TIMEOUT_SECONDS, METADATA_ATTEMPTS = 2.0, 3  # botocore's
CONTAINER_URL = "http://169.254.170.2"  # ECS; EKS Pod Identity names its own in full
CONTAINER_HOSTS = frozenset(  # that may get the container's token unencrypted
    "localhost 127.0.0.1 ::1 169.254.170.2 169.254.170.23 fd00:ec2::23".split()
)
IMDS_URLS = {"ipv4": "http://169.254.169.254", "ipv6": "http://[fd00:ec2::254]"}
PROFILE_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
ENVIRONMENT_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                    "AWS_CREDENTIAL_EXPIRATION", "AWS_ACCOUNT_ID")  # fmt: skip
ANSWER_KEYS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AccountId")
ROLE_PARAMETERS = (
    # of AssumeRole, and its key in a profile
    ("RoleArn", "role_arn"), ("RoleSessionName", "role_session_name"),
    ("ExternalId", "external_id"), ("DurationSeconds", "duration_seconds"),
    ("SerialNumber", "mfa_serial"),
)  # fmt: skip


def resolve_credentials(
    profile_name: str | None = None, *, region_name: str | None = None,
    environ: Environ | None = None, transport: Transport | None = None,
    clock: Clock | None = None,
) -> Credentials:  # fmt: skip
    """The first credentials in the chain; raises CredentialsError, with what each provider found.

    A profile named here, in code, is asked instead of the environment. The region is for STS.
    """
    settings = Settings(environment(environ), profile_name, region=region_name)
    own = UrllibTransport(ca_bundle=settings.get("ca_bundle"), environ=settings.environ)
    sender = Sender(transport or own, settings.environ, clock=clock or system_clock)
    try:
        return CredentialChain(settings, sender).get()
    finally:
        own.close()


class CredentialChain:
    """The credentials of a client, loaded once, and again ahead of their end. Thread-safe.

    One thread at a time loads, `given` or the first that a provider has. Providers look into the
    environment, or `within` a profile, whose name is in `path` after those whose source it is.
    """

    current: Credentials | None = None
    deadline = NEVER  # of the requests of a load
    path: tuple[str, ...] = ()
    where, profile = "the environment", dict[str, str]()

    def __init__(
        self, settings: Settings, sender: Sender, prompt: Callable[[str], str] | None = None,
        given: Callable[[], Credentials] | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.environ, self.sources = settings, settings.environ, settings.sources
        self.region, self.sender, self.prompt = settings.get("region"), sender, prompt
        self.given, self.lock = given, Lock()

    def get(self, deadline: float = NEVER, refused: Credentials | None = None) -> Credentials:
        """Current credentials, others than those that were refused; raises what loading raises."""
        current, clock = self.current, self.sender.clock
        if current is None or current == refused:
            return self.renewed(current, deadline)
        left = (current.expires_at or NEVER) - clock()
        if left > ADVISORY_SECONDS:
            return current
        if left <= MANDATORY_SECONDS:
            return self.renewed(current, deadline)
        try:
            return self.renewed(
                current, (self.sender.monotonic() + deadline) / 2, is_advisory=True
            )
        except Exception:  # whatever a caller's function raises
            return current

    def renewed(
        self, old: Credentials | None, deadline: float, is_advisory: bool = False
    ) -> Credentials:
        """Others than the old ones, which another thread may have loaded meanwhile."""
        left, held = deadline - self.sender.monotonic(), False
        left = 0 if is_advisory else -1 if left == NEVER else max(left, 0)
        try:
            held = self.lock.acquire(timeout=left)
            if not held:
                text = "another thread loads credentials, and the time limit of the call is over"
                raise TransportError(text, kind="timeout", sent=False)
            if self.current is None or self.current == old:
                self.deadline = deadline
                loaded = self.given() if self.given else self.load()
                if not isinstance(loaded, Credentials):
                    kind = type(loaded).__name__
                    raise CredentialsError(f"credentials: got {kind} instead of Credentials")
                self.current = loaded
            return self.current
        finally:
            if held:
                self.lock.release()

    def load(self) -> Credentials:
        """The first credentials that a provider has, by the files as they are now."""
        known, tried = self.settings, []
        self.settings = settings = Settings(self.environ, known.profile_in_code, **known.arguments)
        in_profile = f"profile {settings.profile_name!r} in {settings.files}: "
        for name, provider, nothing in CHAIN:
            where = in_profile if name == PROFILE else ""
            if settings.profile_in_code and name in ("environment", "web identity"):
                tried.append((name, "passed over, since a profile is named in code"))
                continue
            try:
                found = provider(self)
                if found and (found.expires_at or NEVER) <= self.sender.clock():
                    raise CredentialsError("the credentials handed out have expired already")
            except Error as error:
                tried.append((name, f"{where}{error}"))
                if self.sender.monotonic() >= self.deadline:
                    text = f"{name}: {where}{error}"
                    raise TransportError(text, kind="timeout", sent=False) from error
                raise CredentialsError(f"{name}: {where}{error}", tried=tried) from error
            if found:
                self.sources["credentials"] = name
                return found
            tried.append((name, where + nothing))
        tried += [("shared files", reason) for reason in settings.unread]
        listed = "".join(f"\n- {name}: {what}" for name, what in tried)
        raise CredentialsError(f"no credentials found; looked in order at{listed}", tried=tried)

    def within(self, name: str) -> CredentialChain:
        """The same for a profile."""
        from copy import copy

        inner = copy(self)
        inner.path, inner.where = (*self.path, name), f"profile {name!r}"
        inner.profile = self.settings.profiles.get(name, {})
        return inner

    def from_environment(self) -> Credentials | None:
        return key_pair(self.environ, ENVIRONMENT_KEYS, "the environment")

    def from_profile(self) -> Credentials | None:
        """What the chosen profile leads to, or the one that this is within."""
        inner = self if self.path else self.within(self.settings.profile_name)
        return next(filter(None, (provider(inner) for provider in PROFILE_PROVIDERS)), None)

    def assumed_role(self) -> Credentials | None:
        """The role `role_arn`, assumed with the credentials of another profile or provider."""
        profile, where = self.profile, self.where
        source, kind = profile.get("source_profile"), profile.get("credential_source")
        is_web = "web_identity_token_file" in profile and not source and not kind
        if not profile.get("role_arn") or is_web:
            return None
        if source and not kind:
            inner, shown = self.within(source), " -> ".join((*self.path, source))
            if source not in self.settings.profiles:
                files = self.settings.files
                raise CredentialsError(f"source_profile {source!r} is not in {files} ({shown})")
            base = inner.static_keys()  # which come first in a source
            if source in self.path and not base:
                raise CredentialsError(f"the source profiles go round in a circle: {shown}")
            base = base or inner.from_profile()
        elif kind in CREDENTIAL_SOURCES and not source:
            base = CREDENTIAL_SOURCES[kind](self)
        else:
            either = f"either source_profile or credential_source: {', '.join(CREDENTIAL_SOURCES)}"
            raise CredentialsError(f"{where} has role_arn; beside it goes {either}")
        if not base:
            raise CredentialsError(f"{where}: {source or kind} has no credentials")
        form = {name: profile.get(key) for name, key in ROLE_PARAMETERS}
        if form["SerialNumber"]:
            from getpass import getpass

            question = f"MFA code for {form['SerialNumber']}: "
            if not self.prompt and not (sys.stdin and sys.stdin.isatty()):
                raise CredentialsError(f"{question}no terminal to ask on; pass prompt= to Client")
            form["TokenCode"] = (self.prompt or getpass)(question)
        return self.ask_sts("AssumeRole", form, base)

    def web_identity(self) -> Credentials | None:
        """The role for an OpenID Connect token in a file, of a profile or as EKS sets it."""
        names, values = ["web_identity_token_file", "role_arn", "role_session_name"], self.profile
        if not self.path:
            names, values = [f"AWS_{name.upper()}" for name in names], dict(self.environ)
        file, role_arn, session_name = (values.get(name) for name in names)
        if not file:
            return None
        if not role_arn:
            raise CredentialsError(f"{self.where} has {names[0]} but no {names[1]}; set both")
        token = token_in(file)
        form = {"RoleArn": role_arn, "RoleSessionName": session_name, "WebIdentityToken": token}
        return self.ask_sts("AssumeRoleWithWebIdentity", form, None)

    def ask_sts(
        self, action: str, form: dict[str, str | None], base: Credentials | None
    ) -> Credentials:
        """The credentials of a role, asked for with those of `base`, or unsigned.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
        """
        from urllib.parse import urlencode

        form = {"Action": action, "Version": "2011-06-15", **form}
        form["RoleSessionName"] = form["RoleSessionName"] or f"smasync-{self.sender.clock():.0f}"
        body = urlencode([pair for pair in form.items() if pair[1]]).encode()
        kind = "application/x-www-form-urlencoded; charset=utf-8"
        headers = (("Content-Type", kind), ("Content-Length", str(len(body))))
        request = Request("POST", self.settings.endpoint("sts", self.region) + "/", headers, body)
        signing, secrets = {"region": self.region, "service": "sts"}, form.get("WebIdentityToken")
        options: dict[str, Any] = {"signing": signing, "secrets": (secrets or "",)}
        answer = self.ask(action, request, get_credentials=lambda *_: base, **options)
        return credentials_in(answer, f"the answer to {action}")

    def static_keys(self) -> Credentials | None:
        """Keys that stand in a file, all from the same one, the credentials file first."""
        found = None
        for which in ("credentials", "config"):
            where = f"{self.where} in {shared_file_path(which, self.environ)}"
            keys = self.settings.shared[which].get(self.path[-1], {})
            found = found or key_pair(keys, PROFILE_KEYS, where)
        return found

    def sso(self) -> Credentials | None:
        """A role for the token that `aws sso login` left behind; only the AWS CLI renews that."""
        profile, sections = self.profile, self.settings.profiles
        session = profile.get("sso_session")
        if not session and not profile.get("sso_start_url"):
            return None
        if session and f"sso-session {session}" not in sections:
            raise CredentialsError(f"{self.where}: there is no section [sso-session {session}]")
        profile = {**profile, **sections.get(f"sso-session {session}", {})}
        needed = ("sso_start_url", "sso_region", "sso_account_id", "sso_role_name")
        missing = [key for key in needed if not profile.get(key)]
        if missing:
            raise CredentialsError(f"{self.where} is for SSO but lacks {', '.join(missing)}")
        start_url, region, account, role = (profile[key] for key in needed)
        check_region(region, f"{self.where}: sso_region")
        url = self.settings.endpoint("sso", region) + "/federation/credentials"
        url += f"?role_name={uri_encode(role)}&account_id={uri_encode(account)}"
        try:
            headers = (("x-amz-sso_bearer_token", self.sso_token(session or start_url)),)
            answer = self.ask("SSO GetRoleCredentials", Request("GET", url, headers))
        except (CredentialsError, ClientError) as error:
            if isinstance(error, ClientError) and error.status != 401:
                raise
            raise CredentialsError(f"{error}; {LOGIN_ADVICE.format(self.path[-1])}") from error
        return credentials_in(answer, "the SSO portal's answer")

    def sso_token(self, key: str) -> str:
        """The access token in the AWS CLI's cache, which is by session or start URL."""
        from hashlib import sha1

        file = sha1(key.encode(), usedforsecurity=False).hexdigest() + ".json"
        path = os.path.join(home_of(self.environ), ".aws", "sso", "cache", file)
        try:
            cached = json_object(read_text_file(path).encode()) or {}
        except OSError:
            cached = {}
        token, expires = cached.get("accessToken"), cached.get("expiresAt")
        if not isinstance(token, str) or not isinstance(expires, str):
            raise CredentialsError(f"no SSO token in {path}")
        if (epoch(expires) or 0.0) <= self.sender.clock():
            raise CredentialsError(f"the SSO token in {path} expired at {expires}")
        return checked_key(f"the SSO token in {path}", token)

    def process(self) -> Credentials | None:
        """What the program `credential_process` prints; it is run without a shell."""
        what, command = (
            f"credential_process of {self.where}",
            self.profile.get("credential_process"),
        )
        if not command:
            return None
        import shlex
        import subprocess

        seconds = min(PROCESS_TIMEOUT_SECONDS, self.deadline - self.sender.monotonic())
        try:
            done = subprocess.run(
                command if os.name == "nt" else shlex.split(command),  # Windows splits it itself
                stdin=subprocess.DEVNULL, capture_output=True, env=self.environ, timeout=seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            done = None  # no context for the next error, since this one quotes the whole command
        except (OSError, ValueError) as error:
            raise CredentialsError(f"{what}: cannot be run: {error}") from None
        if done is None:
            raise CredentialsError(f"{what}: no end after {seconds:.0f} s")
        if done.returncode or (json_object(done.stdout) or {}).get("Version") != 1:
            said, status = done.stderr.decode("utf-8", "replace").strip()[:1000], done.returncode
            wrong = f"ended with status {status}, without JSON of Version 1 on its stdout"
            raise CredentialsError(f"{what}: {wrong}: {said}")
        return credentials_in(done.stdout, what)

    def container(self) -> Credentials | None:
        """The endpoint that ECS, EKS Pod Identity or Greengrass names in the environment.

        The token never goes unencrypted to an unknown host.
        """
        relative = self.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or ""
        name = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
        url = CONTAINER_URL + relative if relative else self.environ.get(name) or ""
        if not url:
            return None
        if not is_visible(url) or (relative and relative[0] != "/"):
            raise CredentialsError(f"{name}, or …_RELATIVE_URI, which begins with /: is malformed")
        host, _ = host_and_port(split_url(check_endpoint_url(url.partition("?")[0], name))[0], 0)
        if not url.startswith("https:") and host not in CONTAINER_HOSTS:
            raise CredentialsError(f"{name}: {host[:80]!r} is neither https nor this machine")
        name = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
        file, token = self.environ.get(f"{name}_FILE"), self.environ.get(name) or ""
        token = token_in(file) if file else token
        if not token.isascii() or not token.isprintable():
            raise CredentialsError(f"{name} has a line break or the like")
        headers: Headers = (("Authorization", token),) if token else ()
        request = Request("GET", url, (("Accept", "application/json"), *headers))
        options: dict[str, Any] = {"near": CONTAINER_TIMEOUT_SECONDS, "secrets": (relative,)}
        answer = self.ask("container credentials", request, **options)
        return credentials_in(answer, "the container endpoint's answer")

    def imds(self) -> Credentials | None:
        """The role of the EC2 instance, by IMDSv2; None if there is none, or no IMDS."""
        settings, setting, step = self.settings, "ec2_metadata_service_endpoint", "IMDSv2 token"
        if settings.get_flag("ec2_metadata_disabled"):
            return None
        mode = settings.get(f"{setting}_mode") or "IPv4"
        url = settings.get(setting) or IMDS_URLS.get(mode.lower(), "")
        url = check_endpoint_url(url, f"{setting} (mode {mode!r})")
        headers: Headers = (
            ("x-aws-ec2-metadata-token-ttl-seconds", "21600"),
            ("Content-Length", "0"),
        )
        try:
            answer = self.ask(step, Request("PUT", url + "/latest/api/token", headers), near=1)
            token = checked_key("IMDS's token", answer.decode("utf-8", "replace").strip())
            headers, step = (("x-aws-ec2-metadata-token", token),), "IMDS role"
            url += "/latest/meta-data/iam/security-credentials/"
            answer = self.ask(step, Request("GET", url, headers), near=1)
            url += uri_encode(answer.strip().split(b"\n")[0])
            answer = self.ask("IMDS", Request("GET", url, headers), near=1)
        except TransportError as error:
            if error.sent:
                raise
            return None  # nothing is there: this is no EC2 instance
        except ClientError as error:
            if step == "IMDS role" and error.status == 404:
                return None  # the instance has none
            advice = IMDS_ADVICE if error.status in (403, 404, 405) else ""
            raise CredentialsError(f"{error}{advice}") from error
        return credentials_in(answer, "IMDS's answer")

    def ask(self, operation: str, request: Request, near: float = 0, **options: Any) -> bytes:
        """The body of an answer; `near`: the seconds of an attempt, for what is on this machine.

        The settings, which are named after IMDS, can give it more time and attempts.
        """
        options = {"deadline": self.deadline, "timeout": SERVICE_TIMEOUT_SECONDS, **options}
        if near:
            seconds = self.settings.get_count("metadata_service_timeout", 1)
            count = self.settings.get_count("metadata_service_num_attempts", 1)
            options.update(timeout=max(near, seconds), max_attempts=max(METADATA_ATTEMPTS, count))
        call = Call(operation, request, service_answer, is_near=near > 0, **options)
        body: bytes = self.sender.send(call)["Body"]
        return body


CREDENTIAL_SOURCES: dict[str, Provider] = {
    "Environment": CredentialChain.from_environment,
    "Ec2InstanceMetadata": CredentialChain.imds,
    "EcsContainer": CredentialChain.container,
}
PROFILE_PROVIDERS: tuple[Provider, ...] = (
    CredentialChain.assumed_role, CredentialChain.web_identity, CredentialChain.sso,
    CredentialChain.static_keys, CredentialChain.process,
)  # fmt: skip
CHAIN: tuple[tuple[str, Provider, str], ...] = (
    # name, provider, what it means if there is nothing
    ("environment", CredentialChain.from_environment, "there is no AWS_ACCESS_KEY_ID"),
    ("web identity", CredentialChain.web_identity, "there is no AWS_WEB_IDENTITY_TOKEN_FILE"),
    ("profile", CredentialChain.from_profile,
     "it has no role_arn, aws_access_key_id, sso_session or credential_process"),
    ("container", CredentialChain.container,
     "no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI"),
    ("instance metadata", CredentialChain.imds, "AWS_EC2_METADATA_DISABLED is true, or nothing is "
     "at 169.254.169.254, or the instance has no role"),
)  # fmt: skip
LOGIN_ADVICE = (
    "run: aws sso login --profile {0}; or set, in another profile, what renews by itself: "
    "credential_process = aws configure export-credentials --format process --profile {0}"
)
IMDS_ADVICE = (
    "; it is disabled, or has no version 2 (IMDSv2), the only one used here: look for a proxy, or "
    "an emulation that has version 1 alone"
)


def key_pair(values: Mapping[str, Any], names: tuple[str, ...], where: str) -> Credentials | None:
    """Credentials from some of `names`: key id, secret, and perhaps token, expiry, account.

    None if there is neither key.
    """
    key_id, secret, token, expiry, account, *_ = (
        *(values.get(n) or None for n in names),
        None,
        None,
    )
    if not key_id and not secret:
        return None
    if not key_id or not secret:
        there, missing = names[:2] if key_id else names[1::-1]
        raise CredentialsError(f"{where} has {there} but no {missing}; it takes both")
    for name, text in zip(names, (key_id, secret, token)):
        if str(text)[0] in "'\"":
            raise CredentialsError(f"{where}: {name} has quotes around it; take them away")
    try:
        return Credentials(key_id, secret, token, epoch(expiry), account)
    except CredentialsError as error:
        raise CredentialsError(f"{where}: {error}") from None


def service_answer(response: Response) -> dict[str, Any]:
    """ResponseMetadata and Body, which is bytes; raises ClientError, TransportError."""
    if not 200 <= response.status < 300:
        raise client_error(response, json_object(response.body) or xml_fields(response.body), "")
    if not response.complete:
        raise TransportError("the answer was cut short", kind="closed")
    return {"ResponseMetadata": response_metadata(response), "Body": response.body}


def credentials_in(answer: bytes, where: str) -> Credentials:
    """Credentials in an answer. All services call the five alike, but for case and "Token"."""
    fields: Any = json_object(answer) or xml_fields(answer)
    fields = fields.get("roleCredentials", fields)  # which SSO has around them
    fields = fields if isinstance(fields, dict) else {}
    found = {name[:1].upper() + name[1:]: value for name, value in fields.items()}
    if found.get("Code", "Success") != "Success":  # IMDS may answer so, with HTTP 200
        raise CredentialsError(f"{where} is {str(found['Code'])[:80]!r}")
    found = {"SessionToken": found.get("Token"), **found}
    credentials = key_pair(found, ANSWER_KEYS, where)
    if credentials is None:
        raise CredentialsError(f"{where} has no AccessKeyId and no SecretAccessKey")
    return credentials


def epoch(text: object) -> float | None:
    """Epoch seconds of an RFC 3339 time, or of SSO's number of milliseconds; None for none.

    >>> epoch("2015-08-30T12:36:00Z"), epoch("2015-08-30 12:36:00.5+00:00")
    (1440938160.0, 1440938160.0)
    """
    import re
    from datetime import datetime

    if not text:
        return None
    form = r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.\d{1,9})?([Zz]|UTC|[+-]\d\d:?\d\d)?"
    found = re.fullmatch(form, str(text), re.ASCII)
    date, clock, zone = found.groups("Z") if found else ("", "", "")
    try:  # fromisoformat knows all of this from Python 3.11 on only
        if isinstance(text, (int, float)):
            return text / 1000
        moment = f"{date} {clock} {zone.upper().replace('UTC', 'Z')}"
        return datetime.strptime(moment, "%Y-%m-%d %H:%M:%S %z").timestamp()
    except (ValueError, OverflowError):
        wrong = f"the expiration {str(text)[:40]!r} is not an RFC 3339 time"
        raise CredentialsError(wrong) from None


def token_in(path: str) -> str:
    """The token in a file, which is read anew each time, since it changes."""
    try:
        return checked_key(f"the token in {path}", read_text_file(path).rstrip("\r\n"))
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{path}: the token file cannot be read: {error}") from None


# --- 11. The client ----------------------------------------------------------
# In: an operation's members. Out: what the service answered, as a plain dict. This is where the
# sections above are put together, for one region and one set of credentials.


class RuntimeClient:
    """A client of SageMaker Runtime in one region. Thread-safe; a context manager.

    `credentials` is Credentials, or a callable that returns some. `verify` is a file of CA
    certificates, or False, which is unsafe. With `retry_sent=False` a request that was sent and
    got no answer, so that it may have been accepted, is not sent again. Raises
    ConfigurationError, CredentialsError. Opens no connection.
    """

    exceptions = sys.modules[__name__]  # has the error classes, as boto3's client.exceptions

    def __init__(
        self, region_name: str | None = None, *, profile_name: str | None = None,
        endpoint_url: str | None = None,
        credentials: Credentials | Callable[[], Credentials] | None = None,
        aws_access_key_id: str | None = None, aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None, use_fips_endpoint: bool | None = None,
        use_dualstack_endpoint: bool | None = None, max_attempts: int | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout: float = READ_TIMEOUT_SECONDS, verify: str | bool | None = None,
        parameter_validation: bool = True, retry_sent: bool = True,
        transport: Transport | None = None, environ: Environ | None = None,
        clock: Clock = system_clock, monotonic: Clock = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_fraction,
        prompt: Callable[[str], str] | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings = Settings(
            environment(environ), profile_name,
            region=region_name, endpoint=endpoint_url,
            use_fips_endpoint=use_fips_endpoint, use_dualstack_endpoint=use_dualstack_endpoint,
            max_attempts=max_attempts, ca_bundle=None if verify is True else verify,
        )  # fmt: skip
        self.sources, self.region_name = settings.sources, settings.get("region")
        self.endpoint_url = settings.endpoint("sagemaker-runtime", self.region_name)
        self._bucket_regions: dict[str, str] = {}  # for Part III
        self._retry_sent, self._validate = retry_sent, parameter_validation
        self.max_attempts = settings.get_count("max_attempts", MAX_ATTEMPTS)
        self._transport = transport or UrllibTransport(
            connect_timeout=connect_timeout, read_timeout=read_timeout, monotonic=monotonic,
            ca_bundle=settings.get("ca_bundle"), environ=settings.environ,
        )  # fmt: skip
        effects, app_id = (clock, monotonic, sleep, random), settings.get("sdk_ua_app_id")
        self._sender = Sender(self._transport, settings.environ, app_id, *effects)
        given = _given(credentials, (aws_access_key_id, aws_secret_access_key, aws_session_token))
        self._credentials = CredentialChain(settings, self._sender, prompt, given)
        if given:
            self.sources["credentials"] = "argument"

    def invoke_endpoint_async(
        self, /, *, EndpointName: str | None = None, InputLocation: str | None = None,
        Body: bytes | bytearray | memoryview | str | BinaryIO | None = None,
        ContentType: str | None = None, Accept: str | None = None,
        CustomAttributes: str | None = None, InferenceId: str | None = None,
        S3OutputPathExtension: str | None = None, Filename: str | None = None,
        RequestTTLSeconds: int | None = None, InvocationTimeoutSeconds: int | None = None,
        timeout: float | None = None, **unknown: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Enqueue one inference and return boto3's dict; the result will be at OutputLocation.

        `timeout`, in seconds, bounds the whole call: loading credentials, retries and pauses
        included. ResponseMetadata has, beside boto3's RequestId, HTTPStatusCode, HTTPHeaders and
        RetryAttempts: ServerTime, ResponseAt (epoch seconds, the service's clock and ours),
        ClockSkew (seconds that the service is ahead, or None), and Attempts, one entry an attempt:
        Outcome, Seconds, Delay (seconds waited before the next). Raises ParamValidationError,
        CredentialsError, TransportError (of kind "timeout" at the end of `timeout`), ClientError.
        """
        members = dict(locals())
        del members["self"], members["unknown"], members["timeout"]
        members.update(unknown)
        return self._sender.send(self._invocation(members, timeout))

    def explain(self, /, **members: Any) -> Signed:
        """What invoke_endpoint_async would send first; opens no connection to SageMaker."""
        call, now = self._invocation(members), self._sender.clock()
        call.credentials = self._credentials.get()
        return self._sender.signed(call, now)

    def _invocation(self, members: Mapping[str, Any], timeout: float | None = None) -> Call:
        deadline = NEVER
        if timeout is not None:
            deadline = self._sender.monotonic() + checked_seconds("timeout", timeout)
        request = serialize(members, self.endpoint_url, parameter_validation=self._validate)
        signing = {"region": self.region_name, "service": SIGNING_NAME}
        return Call(
            OPERATION, request, deserialize, self._credentials.get, signing=signing,
            deadline=deadline, max_attempts=self.max_attempts, retry_sent=self._retry_sent,
        )  # fmt: skip

    def close(self) -> None:
        """Close the connections that are kept; the client stays usable."""
        close = getattr(self._transport, "close", None)
        if close:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _given(
    credentials: Credentials | Callable[[], Credentials] | None, keys: tuple[str | None, ...]
) -> Callable[[], Credentials] | None:
    """A function that returns the credentials passed to Client, if any were."""
    if credentials is not None and any(keys):
        raise ConfigurationError("give either credentials or the three aws_… keys, not both")
    given = credentials or key_pair(dict(zip(PROFILE_KEYS, keys)), PROFILE_KEYS, "the call")
    if given is None and any(key is not None for key in keys):
        raise CredentialsError(
            "the call has an empty key, or aws_session_token without a key pair"
        )
    return given if given is None or callable(given) else lambda: given


LAMBDA_MARGIN_SECONDS = 1.0  # of a function's time, to report an error in
lambda_client = lru_cache(None)(lambda: RuntimeClient())  # which later invocations find again


def lambda_handler(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:
    """A Lambda function's handler: the event is the members; returns what the operation does.

    Body is base64 if it is a string, and is sent as JSON if it is an object or an array. Region,
    credentials and all else come from the function's environment. A second before the function's
    time is over the call ends with an error; if less than two are left, half-way.
    """
    members, timeout = members_in(event), None
    if hasattr(context, "get_remaining_time_in_millis"):
        left = context.get_remaining_time_in_millis() / 1000
        timeout = max(left - LAMBDA_MARGIN_SECONDS, left / 2, 0.001)
    return lambda_client().invoke_endpoint_async(timeout=timeout, **members)


def members_in(document: object) -> dict[str, Any]:
    """The members in what was JSON. Body is base64 if it is a string, else JSON to be sent."""
    if not isinstance(document, dict):
        raise ParamValidationError("the members are not a JSON object of names and values")
    if "timeout" in document:  # a keyword of the method, and no member
        raise ParamValidationError("timeout: is not a member of the operation")
    body = document.get("Body")
    if isinstance(body, str):
        return {**document, "Body": from_base64(body)}
    if not isinstance(body, (dict, list)):
        return dict(document)
    import json

    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return {**document, "Body": text.encode()}
    except (ValueError, RecursionError) as error:
        raise ParamValidationError(f"Body: cannot be sent as JSON: {error}") from None


def from_base64(text: str) -> bytes:
    """The bytes; raises ParamValidationError."""
    from base64 import b64decode

    try:
        return b64decode(text, validate=True)
    except ValueError:
        advice = "on the command line, use fileb://path or --cli-binary-format raw-in-base64-out"
        raise ParamValidationError(f"Body: is not base64; encode it; {advice}") from None


# === PART III: THE WHOLE JOB =================================================
__all__ += ["Client", "Result", "Outcome"]

# --- 12. Input and result ----------------------------------------------------
# In: bytes for a model, and what invoke_endpoint_async returned. Out: where the bytes are in S3,
# and what the model wrote. Nothing tells when a result is there, so wait looks again and again,
# with growing pauses and one deadline. A download that breaks off resumes.
# https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-check-predictions.html

WAIT_SECONDS = 900.0  # what a model may take when the request does not say more
MAX_POLL_SECONDS = 30.0
LAST_LOOK_SECONDS = 0.1  # left of the time limit for it
S3_SIGNING = {"double_encode": False, "normalize_path": False, "sign_body": True}
UPLOAD_PIECE_BYTES = 1 << 18
MAX_OBJECT_BYTES = 5 << 30  # that S3 takes in one PUT
CONCURRENCY = 16


class Client(RuntimeClient):
    """RuntimeClient, and the rest of the job: the input, the result, and many requests."""

    def put_input(
        self,
        data: bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO,
        location: str,
        *,
        ContentType: str | None = None,
        ServerSideEncryption: str | None = None,
        SSEKMSKeyId: str | None = None,
    ) -> str:
        """Put an input into S3 and return its location, which is for InputLocation.

        `data` is bytes, a file's path, or a seekable binary file, sent from where it stands; files
        are read twice and never held in memory, at most 5 GiB. What was at the location is
        replaced. Body takes up to 128,000 bytes without S3; all that is larger goes this way.
        ServerSideEncryption ("AES256", "aws:kms", "aws:kms:dsse") and the key are for buckets
        whose policy asks for them.
        Raises ParamValidationError, CredentialsError, TransportError, ClientError.
        """
        bucket, key = parse_location(location)
        location = f"s3://{bucket}/{key}"
        headers = upload_headers(location, ContentType, ServerSideEncryption, SSEKMSKeyId)
        upload: Any = _Upload(data)
        checksum = to_base64(bytes.fromhex(upload.sha256))  # which Object Lock asks for
        headers += (("Content-Length", str(upload.size)), ("x-amz-checksum-sha256", checksum))
        self._s3("PutObject", "PUT", location, headers, upload, payload_hash=upload.sha256)
        return location

    def poll(self, accepted: Mapping[str, Any]) -> Result | None:
        """Look once for the result of what invoke_endpoint_async returned; None: not there yet.

        Raises InferenceError when the model failed, ClientError with a hint when S3 does not tell,
        TransportError when S3 breaks off again and again, ParamValidationError for an answer
        without OutputLocation. A result that is there counts even when a failure is there too.
        """
        return self._look(locations_in(accepted), _Download(None), NEVER)

    def wait(
        self,
        accepted: Mapping[str, Any],
        *,
        timeout: float = WAIT_SECONDS,
        file: str | os.PathLike[str] | BinaryIO | None = None,
    ) -> Result:
        """The result, once it is there; `timeout` is in seconds.

        With `file` the body goes there in pieces: to a path in one moment, when all has come, or
        to a binary file from where it stands. Raises InferenceError when the model failed,
        ResultTimeout when there is nothing at the end; the ClientError instead when all that S3
        said was 403, and TransportError when a result had begun to come. While S3 cannot be
        reached the wait goes on; what waiting cannot mend is raised at once.
        """
        places, download = locations_in(accepted), waited_for(timeout, file)
        try:
            return self._wait(places, download, float(min(timeout, NO_LIMIT_SECONDS)))
        except BaseException:
            download.abandon()
            raise

    def invoke_many(
        self, requests: Iterable[Mapping[str, Any]], *, concurrency: int = CONCURRENCY
    ) -> Iterator[Outcome]:
        """Enqueue one inference for each mapping of members; one Outcome each, as they come.

        `requests` is read where the outcomes are, between two of them, at most 2 x `concurrency`
        (1 to 1000) ahead: one that is long in coming holds up the outcomes, and none may wait for
        an outcome. A request that the service throttles is tried up to 20 times, after pauses that
        grow. Whoever leaves the loop waits for what is on its way, whose outcomes are dropped.
        An exception in `requests` comes after all outcomes. Raises ParamValidationError.
        """
        if type(concurrency) is not int or not 1 <= concurrency <= 1000:
            raise ParamValidationError(f"concurrency: {concurrency!r} is not within 1 to 1000")
        return outcomes_of(self, iter(requests), concurrency)

    def _s3(
        self, operation: str, method: str, location: str, headers: Headers,
        body: RequestBody = b"", payload_hash: str = EMPTY_HASH, **options: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """What S3 answers, asked in the region where the bucket is."""
        bucket, key = parse_location(location)

        def ask(region: str) -> dict[str, Any]:
            endpoint = self._settings.endpoint("s3", region)
            own = self.sources["s3 endpoint"] != "the region"
            url = s3_url(endpoint, bucket, key, path_style=own or "." in bucket)
            request = Request(method, url, headers, body)
            where = {"region": region, "service": "s3", "payload_hash": payload_hash}
            call = Call(
                operation, request, s3_answer, self._credentials.get,
                signing={**S3_SIGNING, **where}, max_attempts=self.max_attempts, **options,
            )  # fmt: skip
            return self._sender.send(call)

        region = self._bucket_regions.get(bucket, self.region_name)
        try:
            return ask(region)
        except ClientError as error:
            elsewhere = bucket_region(error)
            if elsewhere is None or elsewhere == region:
                raise
        self._bucket_regions[bucket] = elsewhere
        return ask(elsewhere)

    def _absence(self, location: str, download: _Download, deadline: float) -> ClientError | None:
        """Download an object, in as many pieces as it takes; S3's words for it not being there."""
        broken = 0  # answers in a row, as many as a call has attempts
        while not download.complete:
            had, wanted = download.count, download.range()
            sink = download if download.to_file else None
            until = NEVER if download.begun else deadline  # of the wait, which is over by then
            try:
                answer = self._s3("GetObject", "GET", location, wanted, deadline=until, sink=sink)
            except ClientError as error:
                if download.ends_with(error):
                    break
                if error.status == 403 and denied_action(error):
                    error.hint = f"allow {denied_action(error)} to this caller"
                if download.begun or not is_absent(error):
                    raise
                return error
            download.take(answer, had)
            if download.complete or download.count - had >= MAX_BODY_BYTES:
                broken = 0
                continue
            broken += 1
            over = broken >= self.max_attempts or self._sender.monotonic() >= deadline
            if over or not self._sender.quota.spend(RETRIES["transient"][1]):
                so_far = f"broken off again and again, at byte {download.count} of {download.size}"
                raise TransportError(f"{location}: {so_far}; try later", kind="closed")
            self._sender.sleep(backoff("transient", broken - 1, self._sender.random()))
        return None

    def _look(
        self, places: tuple[str, str], download: _Download, deadline: float
    ) -> Result | None:
        """The result if it is there; raises InferenceError, and ClientError for a 403."""
        output, failure = places
        absences = [self._absence(output, download, deadline)]
        if download.complete:
            return download.result(output)
        if failure:
            reason = _Download(None)
            absences.append(self._absence(failure, reason, deadline))
            if reason.complete:
                raise inference_error(reason.result(failure))
        for absence in absences:
            if absence is not None and absence.status == 403:
                absence.hint = NO_LIST_HINT
                raise absence
        return None

    def _wait(self, places: tuple[str, str], download: _Download, timeout: float) -> Result:
        """Look, and look again, less and less often."""
        started = self._sender.monotonic()
        deadline = started + timeout if timeout < NO_LIMIT_SECONDS else NEVER
        trouble: ClientError | TransportError | None = None
        while True:
            try:
                result = self._look(places, download, deadline)
                if result is not None:
                    return result
                trouble = None
            except (ClientError, TransportError) as error:
                if not passes(error, download.begun):
                    raise
                log = None if trouble else logger(WARNING)
                if log:
                    log.warning("still waiting for %s: %s", places[0], error)
                if trouble is None or isinstance(error, ClientError):
                    trouble = error  # the last look may be cut short: what S3 said counts for more
            waited = self._sender.monotonic() - started
            left = timeout - LAST_LOOK_SECONDS - waited
            if left <= 0:
                break
            self._sender.sleep(min(polling_delay(waited, self._sender.random()), left))
        if trouble and (download.begun or trouble.metadata.get("HTTPStatusCode") == 403):
            raise trouble
        said = f" (the last look failed: {trouble})" if trouble else ""
        said = f"nothing at {places[0]} after {waited:.1f} s{said}: queued, or still running; "
        unseen = "a failure cannot be seen, since the endpoint has no S3FailurePath"
        said += "wait longer, or look again later" if places[1] else unseen
        raise ResultTimeout(said, location=places[0], waited=waited) from trouble


def s3_answer(response: Response) -> dict[str, Any]:
    """What S3 says, in boto3's shape but for Body, which is bytes; raises ClientError.

    `Complete` is False when the body was cut short, or was over the limit.
    """
    if not 200 <= response.status < 300:
        fields = xml_fields(response.body)
        refusal = client_error(response, fields if "Code" in fields else None, "")
        kept = ("CanonicalRequest", "Region")  # of what S3 says beside code and message
        refusal.response["Error"].update({key: fields[key] for key in kept if key in fields})
        raise refusal
    return {
        "ResponseMetadata": response_metadata(response),
        "Body": response.body,
        "ContentType": response.header("content-type", ""),
        "Complete": response.complete,
    }


def bucket_region(error: ClientError) -> str | None:
    """The region where S3 says that the bucket is, when it sends us there."""
    region = error.metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    region = region or error.response.get("Error", {}).get("Region") or ""
    elsewhere = error.status in (301, 307, 400) and LABEL.issuperset(region)
    return region if elsewhere and 0 < len(region) < 64 else None


NO_LIST_HINT = (
    "to a caller without s3:ListBucket S3 says 403 about an object that is not there yet; grant "
    "s3:ListBucket on the bucket, and s3:GetObject on its objects"
)


def is_absent(error: ClientError) -> bool:
    """Whether S3 says that the object is not there, or with 403 that it does not tell."""
    if error.status == 403:
        return error.code == "AccessDenied" and denied_action(error) in ("", "s3:ListBucket")
    return error.status == 404 and error.code != "NoSuchBucket"


def denied_action(error: ClientError) -> str:
    """The action that the caller may not perform, if S3 names it; else "".

    >>> denied_action(ClientError("User: u is not authorized to perform: kms:Decrypt on x"))
    'kms:Decrypt'
    """
    return (error.message.partition("not authorized to perform: ")[2].split() or [""])[0]


def polling_delay(waited: float, random: float) -> float:
    """Seconds until the next look for a result; `random` is in [0, 1).

    A result is seen at most 1.5 s and 12 % of the time it took too late, and never over 30 s.

    >>> [polling_delay(waited, 1.0) for waited in (0.0, 50.0, 600.0)]
    [1.5, 7.5, 30.0]
    """
    return min(1.5 + 0.12 * waited, MAX_POLL_SECONDS) * (0.9 + 0.1 * random)


class Result(namedtuple("Result", "body content_type location metadata")):
    """What the model wrote to `location`; `metadata` is S3's ResponseMetadata.

    `body` is b"" when the result went to a file.
    """

    __slots__ = ()
    body: bytes
    content_type: str
    location: str
    metadata: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Result {self.location}, {len(self.body)} bytes of {self.content_type!r}>"


def waited_for(timeout: float, file: str | os.PathLike[str] | BinaryIO | None) -> _Download:
    """Where a result will go; raises ParamValidationError for what wait cannot take."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ParamValidationError(f"timeout: {timeout!r} is not a number of seconds above 0")
    try:
        if isinstance(file, (str, os.PathLike)):
            os.stat(file)
    except OSError:
        pass  # a new file
    except ValueError as error:  # a NUL, or half a character
        raise ParamValidationError(f"file: {str(file)[:80]!r}: {error}") from None
    return _Download(file)


def passes(error: ClientError | TransportError, begun: bool) -> bool:
    """Whether what went wrong may be over at the next look, as a 403 is once there is a result."""
    absent = isinstance(error, ClientError) and is_absent(error)
    return retry_kind(error) is not None or (absent and not begun)


def upload_headers(
    location: str, content_type: str | None, encryption: str | None, kms_key: str | None
) -> Headers:
    """The headers of an upload; raises ParamValidationError, also for no InputLocation."""
    own = {"ServerSideEncryption": encryption, "SSEKMSKeyId": kms_key}
    for name, text in (("ContentType", content_type), *own.items()):
        if not isinstance(text or "", str):
            raise ParamValidationError(f"{name}: expected str, got {type(text).__name__}")
        if name in own and not is_visible(text or ""):
            raise ParamValidationError(f"{name}: has a space or a character that is not ASCII")
    for name, value in (("InputLocation", location), ("ContentType", content_type)):
        try:
            if value:
                check_limits(MEMBERS[name], checked_text(MEMBERS[name], value))
        except ValueError as error:
            raise ParamValidationError(f"{name}: {error}") from None
    pairs = (
        ("Content-Type", content_type),
        ("x-amz-server-side-encryption", encryption or (kms_key and "aws:kms")),
        ("x-amz-server-side-encryption-aws-kms-key-id", kms_key),
    )
    return tuple([(name, text) for name, text in pairs if text])


def to_base64(data: bytes) -> str:
    """The bytes as text."""
    from base64 import b64encode

    return b64encode(data).decode()


class _Upload:
    """What put_input sends, as a Request's body: read once to hash it, afresh for each attempt."""

    def __init__(self, data: Any) -> None:
        self.path = data if isinstance(data, (str, os.PathLike)) else None
        if self.path is not None and not os.path.isfile(self.path):
            raise ParamValidationError(
                f"{str(self.path)[:80]!r} is not the path of a file that can be read twice; what "
                "comes from a pipe has to be saved first, and text to be sent is text.encode()"
            )
        self.file: Any = data
        if isinstance(data, (bytes, bytearray, memoryview)):
            self.file = io.BytesIO(bytes(data))
        elif self.path is None and not (hasattr(data, "seekable") and data.seekable()):
            raise ParamValidationError(
                f"data: {type(data).__name__} cannot be read twice; save it to a file, or read it "
                "into bytes"
            )
        elif self.path is None and not isinstance(data.read(0), bytes):
            raise ParamValidationError("data: the file is open for text; open it with 'rb'")
        self.start = 0 if self.path is not None else self.file.tell()
        self.size = self.left = MAX_OBJECT_BYTES + 1
        import hashlib

        digest = hashlib.sha256()
        with self() as file:
            while piece := file.file.read(min(UPLOAD_PIECE_BYTES, self.left)):
                digest.update(piece)
                self.left -= len(piece)
        self.size, self.sha256 = self.size - self.left, digest.hexdigest()
        if self.left == 0:
            raise ParamValidationError(f"data: is over {MAX_OBJECT_BYTES} bytes")

    def __call__(self) -> _Upload:
        """The same from its start."""
        if self.path is not None:
            self.file = open(self.path, "rb")  # noqa: SIM115
        self.file.seek(self.start)
        self.left = self.size
        return self

    def read(self, count: int = -1) -> bytes:
        """As many bytes as were hashed, whatever becomes of the file in between."""
        piece: bytes = self.file.read(min(count, self.left) if count >= 0 else self.left)
        self.left -= len(piece)
        if not piece and self.left:
            raise ParamValidationError("data: became shorter while it was sent")
        return piece

    def __enter__(self) -> _Upload:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            self.file.close()


def locations_in(accepted: Mapping[str, Any]) -> tuple[str, str]:
    """OutputLocation and FailureLocation, checked; the latter is "" when there is none."""
    if not hasattr(accepted, "get"):
        raise ParamValidationError("give the dict that invoke_endpoint_async returned")
    if accepted.get("Error"):
        raise ParamValidationError("this request was not accepted, so that there is no result")
    output = accepted.get("OutputLocation") or ""
    failure = accepted.get("FailureLocation") or ""
    if not output:
        raise ParamValidationError(
            "there is no OutputLocation: the endpoint does not write its results to S3; give its "
            "AsyncInferenceConfig an S3OutputPath, or look where its SNS topic says"
        )
    parse_location(output)
    if failure:
        parse_location(failure)
    return output, failure


class _Download:
    """A result on its way to memory, or to a file; it goes on where a connection broke off.

    A path has its content in one moment, when all is there. The transport writes to it.
    """

    def __init__(self, file: Any) -> None:
        self.to_file, self.path, self.part = file is not None, "", ""
        self.file = io.BytesIO() if file is None else file
        if isinstance(file, (str, os.PathLike)):
            self.path, self.file = os.path.realpath(file), None
            folder, may = os.path.dirname(self.path), not os.path.exists(self.path)
            self.part = os.path.join(folder, f".{os.urandom(16).hex()}.part")
            may = (may or os.path.isfile(self.path)) and os.path.isdir(folder)
            if not may or not os.access(folder, os.W_OK):
                wrong = f"file: {self.path!r} is not a file, or its folder cannot be written to"
                raise ParamValidationError(wrong)
        elif file is not None:
            try:
                file.write(b"")
            except (AttributeError, TypeError, ValueError, OSError):
                wrong = "file: give a path, or a file that was opened with 'wb'"
                raise ParamValidationError(wrong) from None
        self.count, self.size, self.etag, self.content_type = 0, -1, "", ""  # -1: not known
        self.begun = self.complete = False
        self.metadata: dict[str, Any] = {}

    def range(self) -> Headers:
        """The headers that ask for what is missing."""
        if not self.count:
            return ()
        end = "" if self.to_file else str(self.count + MAX_BODY_BYTES - 1)
        headers: Headers = (("Range", f"bytes={self.count}-{end}"),)
        sendable = self.etag.isascii() and self.etag.isprintable()
        return (*headers, ("If-Match", self.etag)) if self.etag and sendable else headers

    def write(self, data: bytes) -> None:
        if self.file is None:
            self.file = open(self.part, "xb", buffering=0)  # noqa: SIM115
            if os.path.exists(self.path):  # who may not read the old content may not read this
                os.chmod(self.part, os.stat(self.path).st_mode & 0o777)
        view = memoryview(data)
        while view:  # an unbuffered file may take a part
            taken = self.file.write(view)
            if taken == 0:
                raise OSError("the file takes no more, and does not say why")
            view = view[len(view) if taken is None else taken :]
        self.count += len(data)

    def take(self, answer: dict[str, Any], had: int) -> None:
        """Add what an answer has, which was asked for from the byte `had` on."""
        metadata = answer["ResponseMetadata"]
        headers, status = metadata["HTTPHeaders"], metadata["HTTPStatusCode"]
        spot, _, total = headers.get("content-range", "").partition("/")
        if had:
            fits = status == 206 and spot.startswith(f"bytes {had}-")
            fits = fits and headers.get("etag", self.etag) == self.etag
        else:
            self.begun, self.metadata, self.content_type = True, metadata, answer["ContentType"]
            self.etag, self.size = headers.get("etag", ""), -1
            fits, total = status == 200, headers.get("content-length", "")
        size = int(total) if total.isascii() and total.isdigit() and len(total) < 20 else -1
        self.size = size if self.size < 0 else self.size
        self.write(answer["Body"])
        if not fits or size not in (-1, self.size) or self.count > self.size >= 0:
            raise TransportError(
                f"S3 sent something else than the object's bytes from {had} on: HTTP {status}, "
                f"{self.count} bytes of {self.size}; look again",
                retryable=False,
            )
        # The end of a part is not that of an object of unknown size.
        self.complete = answer["Complete"] and self.count >= self.size >= (0 if had else -1)

    def ends_with(self, error: ClientError) -> bool:
        """Whether there is no more, as S3 says when it was asked for more; then it is complete."""
        spot = error.metadata.get("HTTPHeaders", {}).get("content-range")
        ends = error.status == 416 and spot == f"bytes */{self.count}"
        self.complete = ends and self.begun and self.size in (-1, self.count)
        return self.complete

    def result(self, location: str) -> Result:
        """All is there."""
        if self.path:
            self.write(b"")
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            os.replace(self.part, self.path)
        body = b"" if self.to_file else self.file.getvalue()
        return Result(body, self.content_type, location, self.metadata)

    def abandon(self) -> None:
        """Leave nothing behind at a path."""
        if self.path and self.file is not None:
            self.file.close()
            if os.path.exists(self.part):
                os.remove(self.part)


def inference_error(found: Result) -> InferenceError:
    """The error for what a model wrote to FailureLocation."""
    text = found.body[:4000].decode("utf-8", "replace").strip()
    said = "".join(c if c.isprintable() else " " for c in text)[:1000]
    return InferenceError(
        f"the inference failed: {said or 'without a word'} ({found.location})",
        location=found.location,
        body=found.body,
        content_type=found.content_type,
    )


# --- 13. Many ----------------------------------------------------------------
# In: any iterable of requests. Out: one outcome for each, as they come. Whoever reads the outcomes
# feeds a pool of threads with the requests, so that few are held at a time.

THROTTLED_TRIES = 20  # of one request among many, whatever the quota says
NAP_SECONDS = 0.5  # the longest sleep of a thread that may be told meanwhile to end


class Outcome(namedtuple("Outcome", "index request answer error", defaults=[None, None])):
    """What became of one request of many: `answer` or `error`, the other one is None.

    `index` counts the requests from 0 in their order; `request` is the one that was given.
    """

    __slots__ = ()
    index: int
    request: Mapping[str, Any]
    answer: dict[str, Any] | None
    error: Exception | None

    def __repr__(self) -> str:
        return f"<Outcome {self.index}, {'accepted' if self.answer else self.error!r}>"


def outcomes_of(client: Client, requests: Iterator[Any], concurrency: int) -> Iterator[Outcome]:
    """The outcomes of invoke_many, from a pool of threads; none is left behind."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(concurrency)
    left: list[bool] = []  # not empty once nobody reads outcomes any more
    try:
        yield from fed(client, enumerate(requests), 2 * concurrency, pool, left)
    finally:
        left.append(True)
        pool.shutdown(cancel_futures=True)


def fed(
    client: Client, numbered: Iterator[tuple[int, Any]], most: int, pool: Any, left: list[bool]
) -> Iterator[Outcome]:
    """The outcomes as they come; between two of them at least one request goes to the pool."""
    from queue import SimpleQueue

    done: SimpleQueue[Outcome | BaseException] = SimpleQueue()
    failure: BaseException | None = None
    under_way = 0
    while True:
        has_room = under_way < most
        while has_room and failure is None:
            job, failure = taken(numbered)
            if job is None:
                numbered = iter(())  # not to be asked again: some would wait for ever
                break
            pool.submit(lambda *job: done.put(outcome_of(client, left, *job)), *job)
            under_way += 1
            has_room = under_way < most and done.empty()
        if not under_way:
            break
        outcome = done.get()
        under_way -= 1
        if isinstance(outcome, Outcome):
            yield outcome
        else:
            failure = outcome
    if failure:
        raise failure


def taken(source: Iterator[tuple[int, Any]]) -> tuple[tuple[int, Any] | None, Exception | None]:
    """The next of an iterator, None at its end; and what it raised instead."""
    try:
        return next(source, None), None
    except Exception as error:
        return None, error


def outcome_of(
    client: Client, left: list[bool], index: int, request: Any
) -> Outcome | BaseException:
    """What became of one request; what ends a thread is for the reader of the outcomes."""
    try:
        return Outcome(index, request, answer_to(client, left, index, request), None)
    except Exception as error:  # whatever it is, it is this request's
        return Outcome(index, request, None, error)
    except BaseException as failure:
        return failure


def answer_to(client: Client, left: list[bool], index: int, request: Any) -> dict[str, Any]:
    """The answer to one request, which backs off by itself while the service throttles it."""
    if not hasattr(request, "keys"):
        kind = type(request).__name__
        raise ParamValidationError(f"request {index}: expected a mapping, got {kind}")
    call, sender, retry = client._invocation(request), client._sender, 0
    call.retry_throttled = False
    while True:
        try:
            return sender.send(call)
        except ClientError as error:
            is_last = retry == THROTTLED_TRIES - 1 or left
            if retry_kind(error) != "throttle" or is_last:
                raise
            retry_after = error.metadata["HTTPHeaders"].get("x-amz-retry-after")
            pause = backoff("throttle", retry, sender.random(), retry_after)
            while pause > 0 and not left:
                sender.sleep(min(pause, NAP_SECONDS))
                pause -= NAP_SECONDS
            if left:
                raise  # nobody reads this outcome any more
        retry += 1


# === PART IV: THE COMMAND LINE ===============================================
__all__ += ["main"]

# --- 14. Command line --------------------------------------------------------
# In: the AWS CLI's flags under the AWS CLI's names. Out: what it prints, on stdout; all else on
# stderr; and its exit status. https://docs.aws.amazon.com/cli/latest/reference/sagemaker-runtime/

# fmt: off
EXIT_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    # the AWS CLI's, version 2, and two of our own; the first class that fits
    (ParamValidationError, 252), (ConfigurationError, 253), (CredentialsError, 253), (ClientError, 254),
    (InferenceError, 3), (ResultTimeout, 4), (KeyboardInterrupt, 130), (Error, 255), (OSError, 255),
)
# fmt: on
EXAMPLE_CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = 1440938160.0  # 20150830T123600Z, the date of AWS's published examples
TOKEN_HEADER = frozenset(("x-amz-security-token",))
ANSWER_MEMBERS = ("OutputLocation", "FailureLocation", "InferenceId")
EXAMPLE_INVOCATION_ID = "01234567-89ab-4cde-8f01-23456789abcd"
NO_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for name in ("stdout", "stderr"):  # whoever started us may have closed them
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal knows UTF-8
        status = _run(argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would say so at its end
        return 255


def _run(argv: list[str] | None) -> int:
    try:
        options = _parser().parse_args(argv)
        if options.debug:
            import logging

            logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
            logging.getLogger("smasync").setLevel(logging.DEBUG)
        return int(options.run(options) or 0)
    except SystemExit as end:  # argparse's --help, or its complaint
        return 252 if end.code else 0
    except BrokenPipeError:
        raise
    except (Error, OSError, KeyboardInterrupt) as error:
        print(f"smasync: {str(error) or 'interrupted'}", file=sys.stderr)
        if isinstance(error, ClientError) and error.hint:
            print(f"smasync: {error.hint}", file=sys.stderr)
        return next(status for kind, status in EXIT_STATUS if isinstance(error, kind))


def _parser() -> ArgumentParser:
    from argparse import ArgumentParser

    parser = ArgumentParser(prog="smasync", description="Amazon SageMaker's InvokeEndpointAsync.")
    parser.add_argument("--version", action="version", version=f"smasync {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, run, own, text in COMMANDS:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, query=None)
        for member in INVOKE_ENDPOINT_ASYNC if own[:1] == INPUT_OPTIONS[:1] else ():
            kind = int if member.type == "integer" else str
            command.add_argument(
                flag(member.name), dest=member.name, type=kind, metavar=kind.__name__
            )
        for option, details in (*own, *OPTIONS):
            command.add_argument(option, **details)
    return parser


# fmt: off
SECONDS: dict[str, Any] = {"type": float, "metavar": "SECONDS"}
SWITCH: dict[str, Any] = {"action": "store_true"}
OUTPUT_FILE: Options = (("--output-file", {"help": "where the result goes; stdout otherwise"}),)
OPTIONS: Options = (
    # what the AWS CLI takes with every command
    ("--region", {}), ("--profile", {}), ("--ca-bundle", {}), ("--color", {}),
    ("--endpoint-url", {"help": "SageMaker Runtime's; for wait and put-input, S3's"}),
    ("--debug", SWITCH), ("--no-verify-ssl", SWITCH), ("--no-paginate", SWITCH), ("--no-cli-pager", SWITCH),
    ("--output", {"choices": ("json", "text"), "default": "json"}),
    ("--cli-read-timeout", {"default": READ_TIMEOUT_SECONDS, **SECONDS}),
    ("--cli-connect-timeout", {"default": CONNECT_TIMEOUT_SECONDS, **SECONDS}),
)
INPUT_OPTIONS: Options = (
    # and with the members of an operation
    ("--cli-input-json", {}), ("--query", {"choices": ANSWER_MEMBERS}),
    ("--cli-binary-format", {"choices": ("base64", "raw-in-base64-out"), "default": "base64"}),
    ("--generate-cli-skeleton", {"nargs": "?", "const": "input", "choices": ("input", "output")}),
)
SKELETONS: dict[str, dict[str, Any]] = {
    "input": {row.name: {"string": "", "integer": 0}.get(row.type) for row in INVOKE_ENDPOINT_ASYNC},
    "output": dict.fromkeys(ANSWER_MEMBERS, ""),
}
# fmt: on


def flag(member: str) -> str:
    """The AWS CLI's flag for a member.

    >>> flag("S3OutputPathExtension"), flag("RequestTTLSeconds")
    ('--s3-output-path-extension', '--request-ttl-seconds')
    """
    import re

    words = re.findall(r"S3|TTL|[A-Z][a-z]+", member)
    return "--" + "-".join(words).lower()


def _run_invoke(options: Namespace) -> None:
    if options.generate_cli_skeleton:
        import json

        print(json.dumps(SKELETONS[options.generate_cli_skeleton], indent=4))
        return
    waits = options.timeout is not None
    if waits:
        waited_for(options.timeout, options.output_file)  # before anything is sent
    with _client(options) as client:
        answer = client.invoke_endpoint_async(**_members(options))
        del answer["ResponseMetadata"]
        print(_formatted(answer, options), file=sys.stderr if waits else sys.stdout)
        if waits:
            _show_result(client, answer, options)


def _show_result(client: Client, accepted: dict[str, Any], options: Namespace) -> None:
    """Wait for a result; its bytes go to --output-file, or to stdout."""
    result = client.wait(accepted, timeout=options.timeout, file=options.output_file or None)
    sys.stdout.flush()
    sys.stdout.buffer.write(result.body)
    sys.stdout.buffer.flush()


def _run_wait(options: Namespace) -> None:
    accepted = members_from_json(_parameter(options.cli_input_json or "{}"))
    for name in ("OutputLocation", "FailureLocation"):
        accepted[name] = getattr(options, name) or accepted.get(name)
    with _client(options, asks_s3_alone=True) as client:
        _show_result(client, accepted, options)


def _run_put_input(options: Namespace) -> None:
    members = {
        "ContentType": options.content_type,
        "ServerSideEncryption": options.sse,
        "SSEKMSKeyId": options.sse_kms_key_id,
    }
    with _client(options, asks_s3_alone=True) as client:
        print(client.put_input(options.file, options.location, **members))


def _run_explain(options: Namespace) -> None:
    if options.example:
        clock, keys = (lambda: EXAMPLE_TIME), EXAMPLE_CREDENTIALS
        client = Client(
            options.region or "us-east-1", credentials=keys, environ=NO_FILES, clock=clock
        )
        client._sender.user_agent = f"smasync/{__version__}"  # less what differs between machines
        call = client._invocation(_members(options))
        call.invocation_id, call.credentials = EXAMPLE_INVOCATION_ID, keys
        print(explanation(client._sender.signed(call, EXAMPLE_TIME)))
        return
    with _client(options) as client:
        signed = client.explain(**_members(options))
    for name, source in client.sources.items():
        if source != "default":
            print(f"{name} from: {source}")
    expires_at = client._credentials.get().expires_at
    if expires_at is not None:
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires_at))
        print(f"credentials end at: {end}")
    print(f"\n{explanation(signed)}")


# fmt: off
COMMANDS: tuple[tuple[str, Callable[[Namespace], object], Options, str], ...] = (
    ("invoke-endpoint-async", _run_invoke, (*INPUT_OPTIONS, *OUTPUT_FILE, (
        "--wait", {"dest": "timeout", "help": "go on to the result, for so long", **SECONDS}),
    ), "enqueue one inference and print where its result will be"),
    ("explain", _run_explain, (*INPUT_OPTIONS, (
        "--example", {**SWITCH, "help": "AWS's example keys and date; no account"}),
    ), "print every value of the signature of such a request; send nothing"),
    ("wait", _run_wait, (*OUTPUT_FILE, (
        "--output-location", {"dest": "OutputLocation", "metavar": "s3://bucket/key"}), (
        "--failure-location", {"dest": "FailureLocation", "metavar": "s3://bucket/key"}), (
        "--cli-input-json", {"help": "what invoke-endpoint-async printed"}), (
        "--timeout", {"default": WAIT_SECONDS, **SECONDS}),
    ), "wait for a result and print it"),
    ("put-input", _run_put_input, (("file", {"type": os.path.expanduser}), (
        "location", {"help": "s3://bucket/key"}), ("--content-type", {}), ("--sse-kms-key-id", {}), (
        "--sse", {"help": "AES256, aws:kms or aws:kms:dsse"}),
    ), "put a file into S3 and print its location"),
)
# fmt: on


def _client(options: Namespace, asks_s3_alone: bool = False) -> Client:
    """The client that the flags describe; --endpoint-url is of the service that a command asks."""
    url = options.endpoint_url
    if asks_s3_alone and url:
        check_endpoint_url(url, "--endpoint-url")
    client = Client(
        options.region, profile_name=options.profile, endpoint_url=None if asks_s3_alone else url,
        connect_timeout=options.cli_connect_timeout or NO_LIMIT_SECONDS,
        read_timeout=options.cli_read_timeout or NO_LIMIT_SECONDS,
        verify=False if options.no_verify_ssl else options.ca_bundle,
    )  # fmt: skip
    if asks_s3_alone:
        client._settings.arguments["s3 endpoint"] = url or None
    return client


def _members(options: Namespace) -> dict[str, Any]:
    """The members of --cli-input-json, and over them those of the command line."""
    members = members_from_json(_parameter(options.cli_input_json or "{}"))
    for member in INVOKE_ENDPOINT_ASYNC:
        value = getattr(options, member.name)
        value = _parameter(value) if isinstance(value, str) else value
        if member.type == "blob" and isinstance(value, str):
            raw = options.cli_binary_format == "raw-in-base64-out"
            value = value.encode() if raw else from_base64(value)
        if value is not None:
            members[member.name] = value
    return members


def members_from_json(text: str | bytes) -> dict[str, Any]:
    """The members in a JSON object; raises ParamValidationError."""
    import json

    if len(text) > MAX_FILE_BYTES:
        raise ParamValidationError(f"this is over {MAX_FILE_BYTES} bytes; put the input into S3")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParamValidationError(f"this is not JSON: {error}") from None
    return members_in(document)


def _parameter(text: str) -> str | bytes:
    """The text, or what is in the file that "file://path" names; bytes for "fileb://path"."""
    scheme, _, path = text.partition("://")
    if not text.startswith(("file://", "fileb://")):
        return text
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        return content if scheme == "fileb" else text_in(content)
    except UnicodeDecodeError:
        raise ParamValidationError(f"{text}: is not UTF-8 text; is fileb:// meant?") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", error)
        raise ParamValidationError(f"{path}: cannot be read: {why}") from None


def text_in(content: bytes) -> str:
    """The text of a file; a mark at its start says UTF-16, as PowerShell writes it, or UTF-8."""
    is_utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if is_utf_16 else "utf-8-sig")


def _formatted(answer: dict[str, Any], options: Namespace) -> str:
    """The answer as --output and --query want it."""
    import json

    if options.output == "json":
        return json.dumps(answer.get(options.query) if options.query else answer, indent=4)
    names = [options.query] if options.query else sorted(answer)
    text = "\t".join(str(answer.get(name)).replace("\t", "?") for name in names)
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in text)


def explanation(signed: Signed) -> str:
    """The values of one signature in the order in which they are computed, the token left out."""
    _, _, scope, canonical_hash = signed.string_to_sign.split("\n")
    request = signed.request
    parts = (
        ("Canonical request", masked(signed.canonical_request, TOKEN_HEADER)),
        ("SHA-256 of the canonical request", canonical_hash),
        ("Credential scope", scope),
        ("String to sign", signed.string_to_sign),
        ("Signature", signed.signature),
        ("Request", masked(request_text(request), TOKEN_HEADER)),
        ("The same with curl", curl_command(request)),
    )
    return "\n\n".join(f"--- {title}\n{text}" for title, text in parts)


def request_text(request: Request) -> str:
    """The bytes that go out, as text."""
    _, path, query = split_url(request.url)
    target = f"{path}?{query}" if query else path
    lines = [f"{request.method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    body = "" if request.body == b"" else (shown_body(request.body) or "<the body>")
    return "\n".join([*lines, "", body]).rstrip("\n")


def shown_body(body: RequestBody) -> str | None:
    """The body when it is short text that a terminal can show."""
    if not isinstance(body, bytes) or len(body) > 1024:
        return None
    text = body.decode("utf-8", "replace")
    return text if text.replace("\n", "").isprintable() and "\ufffd" not in text else None


def curl_command(request: Request) -> str:
    """A shell command that sends the request; the token is the shell's $AWS_SESSION_TOKEN."""
    from shlex import quote

    words = [f"curl -X {request.method} {quote(request.url)}"]
    for name, value in request.headers:
        token = name.lower() in TOKEN_HEADER
        header = f'"{name}: $AWS_SESSION_TOKEN"' if token else quote(f"{name}: {value}")
        words.append(f"-H {header}")
    if request.body:
        text = shown_body(request.body)
        words.append("--data-binary @BODY" if text is None else f"--data-raw {quote(text)}")
    return " \\\n  ".join(words)


# --- 15. Bulk ----------------------------------------------------------------
# In: a manifest, one JSON object of members a line. Out: a file of results, one line for each line
# of the manifest that was tried. Started again, it sends what has no result.


def _run_bulk(options: Namespace) -> int:
    """Enqueue what has no result yet; 254 when something failed, now or before."""
    for path in (options.manifest, options.results):
        if not os.path.isfile(path) and (path == options.manifest or os.path.exists(path)):
            raise ParamValidationError(f"{path}: is not a file that can be read more than once")
    with _client(options) as client, open(options.results, "a+b") as file:
        lock_file(file)
        bulk = _Bulk(options, file)
        client._credentials.get()  # without any, no line is to blame
        bulk.run(client)
    if isinstance(bulk.stopped, Error) and bulk.counts["Left"]:
        if bulk.same >= SAME_FAILURES:
            advice = "mend it and add --retry-failed, or leave those lines out and go on"
            print(f"smasync: {bulk.same} times the same error; {advice}", file=sys.stderr)
        raise bulk.stopped
    print(_formatted(bulk.counts, options))
    return 130 if bulk.stopped == "interrupted" else 254 if bulk.counts["Failed"] else 0


SAME_FAILURES = 100  # in a row, after which no more is sent


class _ManifestLine(dict):  # type: ignore[type-arg]
    """The members in one line of a manifest, none of them when `problem` says what is wrong."""

    number, digest = 0, ""
    problem: ParamValidationError | None = None


class _Bulk:
    """A manifest of JSON Lines, and the file that has a line for each of them that was tried.

    Those are not sent again, but with --retry-failed the ones that failed. A line is known by its
    number and its hash; raises ParamValidationError when the manifest changed under the results.
    """

    def __init__(self, options: Namespace, results: BinaryIO) -> None:
        self.options, self.failure, self.same, self.unwritten = options, "", 0, b""
        self.stopped: object = None
        self.known = {
            number: (digest, accepted)
            for number, digest, accepted in read_results(results)
            if accepted or not options.retry_failed
        }
        failed, self.to_do = sum(not ok for _, ok in self.known.values()), self.count_left()
        self.counts = {"Accepted": len(self.known) - failed, "Failed": failed, "Left": self.to_do}
        results.flush()
        self.results: Any = getattr(results, "raw")  # noqa: B009
        self.started = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def count_left(self) -> int:
        """How many lines have no result; those that have one must be what they were."""
        left, path = 0, self.options.manifest
        unseen = {number: digest for number, (digest, _) in self.known.items()}
        for number, _, digest in manifest_lines(path):
            if number not in unseen:
                left += 1
            elif unseen[number] == digest:
                del unseen[number]
        if unseen:
            raise ParamValidationError(
                f"{path}, line {min(unseen)}: is not the line that was tried before; restore it, "
                "or start with a new results file"
            )
        return left

    def run(self, client: Client) -> None:
        """Send what has no result, and write the results down; Ctrl-C ends the manifest."""
        from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal

        def stop(*_: object) -> None:
            self.stopped = self.stopped or "interrupted"
            signal(SIGINT, SIG_DFL)  # so that a second one ends the program

        heeded = getsignal(SIGINT) is default_int_handler
        try:
            if heeded:
                signal(SIGINT, stop)
        except ValueError:  # only the main thread may
            heeded = False
        try:
            concurrency = self.options.concurrency
            for outcome in client.invoke_many(self.to_send(), concurrency=concurrency):
                self.record(outcome)
                self.write()
                self.show_progress()
        finally:
            if heeded:
                signal(SIGINT, default_int_handler)
            self.write()
        self.show_progress(last=True)

    def to_send(self) -> Iterator[_ManifestLine]:
        """The members of each line that has no result; until there is a reason to stop."""
        for number, text, digest in manifest_lines(self.options.manifest):
            if self.stopped:
                return
            if number in self.known:
                continue
            line = _ManifestLine()
            line.number, line.digest = number, digest
            try:
                line.update(members_from_json(text))
            except ParamValidationError as error:
                line.problem = error
            if line.get("InferenceId") is None:
                line["InferenceId"] = f"line-{number}-{digest}"
            yield line

    def record(self, outcome: Outcome) -> None:
        """Make a line for the results of what became of one of the manifest."""
        import json

        line: Any = outcome.request
        answer, error = outcome.answer or {}, line.problem or outcome.error
        code = str(getattr(error, "code", ""))
        if isinstance(error, (CredentialsError, ConfigurationError)) or code in EXPIRED_CODES:
            self.stopped = self.stopped or error  # which is no line's fault
            return
        entry = {"Line": line.number, "Hash": line.digest, "InferenceId": line.get("InferenceId")}
        entry.update({name: answer[name] for name in ANSWER_MEMBERS if name in answer})
        if error is None:
            entry["RequestId"] = answer["ResponseMetadata"]["RequestId"]
        else:
            entry["Error"] = {"Type": type(error).__name__, "Code": code, "Message": str(error)}
        self.unwritten += json.dumps(entry).encode() + b"\n"
        self.counts["Failed" if error else "Accepted"] += 1
        self.counts["Left"] -= 1
        self.count_same(error)

    def write(self) -> None:
        """Append what was recorded; unbuffered, so that it outlives this process at once."""
        while self.unwritten:
            self.unwritten = self.unwritten[self.results.write(self.unwritten) :]

    def count_same(self, error: Exception | None) -> None:
        """Stop when a failure seems to have no end; what is a line's own counts for nothing."""
        if error is None:
            self.same = 0
        elif isinstance(error, (ClientError, TransportError)) and retry_kind(error) != "throttle":
            failure = error.code if isinstance(error, ClientError) else error.kind
            self.same = self.same + 1 if failure == self.failure else 1
            self.failure = failure
        if self.same >= SAME_FAILURES:
            self.stopped = self.stopped or error

    def show_progress(self, last: bool = False) -> None:
        """How far it is, on stderr: a bar on a terminal, else a line every few seconds."""
        terminal, now = self.terminal, time.monotonic()
        early = not last and now - self.shown < (0.2 if terminal else 5.0)
        if self.options.quiet or not self.to_do or early:
            return
        self.shown, left, seconds = now, self.counts["Left"], max(now - self.started, 1e-9)
        done = self.to_do - left
        text = f"{done} of {self.to_do}, {done / seconds:.0f}/s, {self.counts['Failed']} failed"
        if left:
            to_go = int(left * seconds / max(done, 1))
            text += f", {to_go // 60}:{to_go % 60:02} to go"
        line = f"\r[{'#' * (30 * done // self.to_do):<30}] {text:<60}" if terminal else text
        print(line, end="" if terminal and not last else "\n", file=sys.stderr, flush=True)


def manifest_lines(path: str) -> Iterator[tuple[int, bytes, str]]:
    """Number, text and hash of each line that is not blank; of one over the limit, the start."""
    import hashlib

    with open(path, "rb") as file:
        for number, text in enumerate(iter(lambda: file.readline(MAX_FILE_BYTES + 1), b""), 1):
            rest = text
            while len(rest) > MAX_FILE_BYTES and not rest.endswith(b"\n"):
                rest = file.readline(MAX_FILE_BYTES + 1)
            text = text if len(text) > MAX_FILE_BYTES else text.strip()
            if text:
                yield number, text, hashlib.sha256(text).hexdigest()[:32]


def read_results(file: BinaryIO) -> Iterator[tuple[int, str, bool]]:
    """Number, hash, and whether it was accepted, of each line tried; cuts a torn last line off."""
    import json

    file.seek(0)
    end, first = 0, b'{"Line": '
    for count, text in enumerate(file, 1):
        try:
            entry = json.loads(text)
            found = int(entry["Line"]), str(entry["Hash"]), "Error" not in entry
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            if text.endswith(b"\n") or not first.startswith(text[: len(first)]):
                raise ParamValidationError(
                    f"{file.name}, line {count}: is nothing that bulk wrote; is it the right file?"
                ) from None
            file.truncate(end)
            return
        if not text.endswith(b"\n"):
            file.write(b"\n")
        end += len(text)
        yield found


def lock_file(file: BinaryIO) -> None:
    """Keep a second bulk from the results, where the system has locks that end with a process."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock

        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        raise ParamValidationError(f"{file.name}: another bulk is writing to it") from None
    except (ImportError, OSError):
        return  # not on this system, or not on this file system


# fmt: off
COMMANDS += (
    ("bulk", _run_bulk, (("manifest", {"help": "one JSON object of members a line"}), (
        "--results", {"required": True, "help": "gets a line for each; what it has is not sent again"}), (
        "--concurrency", {"type": int, "default": CONCURRENCY}), (
        "--retry-failed", {**SWITCH, "help": "send what failed again, too"}), ("--quiet", SWITCH),
    ), "enqueue one inference for each line of a file; carries on where it stopped"),
)
# fmt: on


if __name__ == "__main__":
    sys.exit(main())
