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
     9. Credentials
    10. The client
    PART III: THE WHOLE JOB
    11. Input and result
    12. Many
    PART IV: THE COMMAND LINE
    13. Command line
    14. Bulk

How to read it. Part I is pure: it reads no clock, environment, file, socket or random number, so
you can try every line of it at a Python prompt. To learn how a request is signed, read section 2
and then run

    python3 smasync.py explain --example --endpoint-name my-endpoint \\
        --input-location s3://my-bucket/in.json

which prints each value of one signature in the order in which it is computed. Parts II to IV
reach the world through the parameters `environ`, `transport`, `clock`, `monotonic`, `sleep` and
`random`. `python3 -m doctest smasync.py` is the self-test of a copy.

What it leaves out: every other operation of SageMaker, SigV4a, event streams, adaptive retries,
and `aws login`.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
import time
from collections import namedtuple
from functools import lru_cache
from threading import Lock

# Imports that cost milliseconds stand in the functions that use them: over a bare interpreter
# urllib.request costs some 45 ms, http.client 30, argparse 15, json 7, re 6, and hashlib 4 and as
# many MiB. Type names are only ever read by type checkers (typing costs 9 ms).
TYPE_CHECKING = False
if TYPE_CHECKING:
    import http.client
    import socket
    import ssl
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from logging import Logger
    from threading import Thread
    from typing import Any, BinaryIO, Protocol, Self, Union

    Headers = tuple[tuple[str, str], ...]
    RequestBody = Union[bytes, Callable[[], BinaryIO]]
    Profile = dict[str, str]
    Profiles = dict[str, Profile]
    Options = tuple[tuple[str, dict[str, Any]], ...]

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

SERVICE_IDS = {"sagemaker": "SageMaker Runtime", "s3": "S3"}
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
# In: an environment and the two files that AWS's tools share. Out: each setting with the place it
# came from. An argument beats the environment, which beats the profile; an empty variable counts
# as unset. The files are read when a client is made and when credentials are renewed, at most
# 1 MiB of each; one that is missing says nothing.
# https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html

MAX_FILE_BYTES = 1 << 20
SHARED_FILES = {
    # which: the variable that names it, where it is otherwise
    "config": ("AWS_CONFIG_FILE", "~/.aws/config"),
    "credentials": ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
}
SETTINGS = {
    # key in the profile: environment variables, the first one wins
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "use_fips_endpoint": ("AWS_USE_FIPS_ENDPOINT",),
    "use_dualstack_endpoint": ("AWS_USE_DUALSTACK_ENDPOINT",),
    "ignore_configured_endpoint_urls": ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",),
    "max_attempts": ("AWS_MAX_ATTEMPTS",),
    "ca_bundle": ("AWS_CA_BUNDLE",),
    "ec2_metadata_disabled": ("AWS_EC2_METADATA_DISABLED",),
    "ec2_metadata_v1_disabled": ("AWS_EC2_METADATA_V1_DISABLED",),
    "ec2_metadata_service_endpoint": ("AWS_EC2_METADATA_SERVICE_ENDPOINT",),
    "ec2_metadata_service_endpoint_mode": ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",),
    "sdk_ua_app_id": ("AWS_SDK_UA_APP_ID",),
}
NAME_CHARACTERS = LABEL | frozenset("_/.%@:+")


def load_profiles(environ: Mapping[str, str]) -> Profiles:
    """Both shared files merged, by profile name; keys in lower case.

    Other sections stand under their whole header ("sso-session x", "services x"). The value of a
    nested property is its raw text, a line break before each nested line. Raises
    ConfigurationError with file and line number.
    """
    return merged(*(read_shared_file(which, environ) for which in SHARED_FILES))


def merged(config: Profiles, credentials: Profiles) -> Profiles:
    """The profiles of both files; per key the credentials file wins."""
    names = dict.fromkeys([*config, *credentials])
    return {name: {**config.get(name, {}), **credentials.get(name, {})} for name in names}


def shared_file_path(which: str, environ: Mapping[str, str]) -> str:
    """Where the "config" or "credentials" file is; "" when that depends on a HOME that is not."""
    variable, default = SHARED_FILES[which]
    path, home = environ.get(variable) or default, home_of(environ)
    return path if not path.startswith(("~/", "~\\")) else home and home + path[1:]


def home_of(environ: Mapping[str, str]) -> str:
    """The home directory; "" when there is none, as in some containers."""
    return environ.get("HOME") or environ.get("USERPROFILE") or ""


def read_shared_file(which: str, environ: Mapping[str, str]) -> Profiles:
    """The sections of the "config" or the "credentials" file."""
    path = shared_file_path(which, environ)
    return parse_shared_file(path and read_text_file(path) or "", which, path)


def read_text_file(path: str) -> str | None:
    """The UTF-8 text of a small file; None when there is none. Raises ConfigurationError."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: is over {MAX_FILE_BYTES} bytes; is it the right file?")
    text = content.decode("utf-8-sig", "replace")
    if text.count("\ufffd") > content.count("\ufffd".encode()):
        # the decoder's own error would quote what may be a secret
        raise ConfigurationError(f"{path}: cannot be read: it is not UTF-8 text")
    return text


def parse_shared_file(text: str, which: str, path: str) -> Profiles:
    """The sections of one file, `which` being "config" or "credentials".

    >>> parse_shared_file("[profile dev]\\nregion = eu-west-1 # home", "config", "~/.aws/config")
    {'dev': {'region': 'eu-west-1'}}
    """
    sections: Profiles = {}
    section: Profile | None = None
    target: Profile = {}  # the section, or what nobody reads
    key = ""
    for number, line in enumerate(text.split("\n"), 1):
        content, where, indented = line.strip(), f"{path}, line {number}", line[:1].isspace()
        if not content or (content[0] in "#;" and not (indented and key)):
            continue
        if indented and key:
            target[key] = _continued(target[key], content, where)
        elif indented:
            raise ConfigurationError(f"{where}: continues nothing; take the white space away")
        elif content[0] == "[":
            name, key = _section_name(content, which, where), ""
            section = sections.setdefault(name, {}) if name else {}
        elif section is None:
            raise ConfigurationError(f"{where}: stands before any [section]")
        else:
            key, value = _property(content, where)
            target = section if NAME_CHARACTERS.issuperset(key) else {}
            target[key] = value
    if "[default]" in sections:
        sections.setdefault("default", sections.pop("[default]"))
    return sections


def _section_name(content: str, which: str, where: str) -> str:
    """The profile's name, or the whole header of another section; "" when no tool accepts it.

    "[profile default]" is "default"; "[default]" of the config file keeps its brackets until it is
    known which of the two there are.
    """
    header, bracket, rest = content[1:].partition("]")
    if not bracket or rest.strip()[:1] not in ("", "#", ";"):
        raise ConfigurationError(f"{where}: a section is [name], and nothing after it")
    if which == "credentials":  # where [x] means what [profile x] means in the config file
        header = f"profile {header}"
    *kind, name = header.split() or [""]
    if not NAME_CHARACTERS.issuperset(name):
        return ""
    if kind in (["sso-session"], ["services"]):
        return f"{kind[0]} {name}"
    plain_default = not kind and name == "default"
    return name if kind == ["profile"] else "[default]" if plain_default else ""


def _property(content: str, where: str) -> tuple[str, str]:
    """Key, in lower case, and value of a line "key = value  # comment"."""
    import re

    key, equals, value = re.split(r"\s[#;]", content, maxsplit=1)[0].partition("=")
    if not equals or not key.strip():
        raise ConfigurationError(f"{where}: is not of the form key = value")
    return key.strip().lower(), value.strip()


def _continued(value: str, content: str, where: str) -> str:
    """A value with one more line; when it began empty, the lines are properties of their own."""
    if value[:1] in ("", "\n"):
        if content[0] in "#;":
            return value
        _property(content, where)
    return f"{value}\n{content}"


class Settings:
    """Arguments, environment and one profile, asked for one setting at a time.

    `.sources` has where each setting that was asked for came from. Raises ConfigurationError for a
    profile that was named and is not there.
    """

    def __init__(
        self, environ: Mapping[str, str], profile_name: str | None = None, **arguments: Any
    ) -> None:
        self.environ, self.arguments, self.named_in_code = environ, arguments, bool(profile_name)
        self.sources: dict[str, str] = {}
        named = {"in code": profile_name}
        for variable in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
            named[f"by {variable}"] = environ.get(variable)
        by, name = next(((by, name) for by, name in named.items() if name), ("", "default"))
        self.config, self.credentials = (read_shared_file(file, environ) for file in SHARED_FILES)
        self.profiles = merged(self.config, self.credentials)
        self.files = " and ".join(shared_file_path(file, environ) or file for file in SHARED_FILES)
        if by and (name not in self.profiles or " " in name):
            there = ", ".join(sorted(self.profiles)) or "none"
            raise ConfigurationError(
                f"profile {name!r}, named {by}, is not in {self.files}; there are: {there}"
            )
        self.profile_name, self.profile = name, self.profiles.get(name, {})

    def read_again(self) -> Settings:
        """The same, from the files as they are now."""
        name = self.profile_name if self.named_in_code else None
        return Settings(self.environ, name, **self.arguments)

    def get(self, setting: str) -> Any:
        """The setting, or None when nobody says anything."""
        places = self._variables(*SETTINGS[setting])
        places[f"profile {self.profile_name!r}"] = self.profile.get(setting)
        return self._first(setting, self.arguments.get(setting), places)

    def _variables(self, *names: str) -> dict[str, str | None]:
        return {f"environment variable {name}": self.environ.get(name) for name in names}

    def _first(self, setting: str, argument: Any, places: dict[str, str | None]) -> Any:
        """The argument, or the first text of `places` that is not empty; notes its source."""
        found = ((source, text) for source, text in places.items() if text)
        given = ("argument", argument) if argument is not None else None
        self.sources[setting], value = given or next(found, ("default", None))
        return value

    def get_flag(self, setting: str) -> bool:
        """A setting that is "true" or "false"; False when nobody says anything."""
        value = self.get(setting)
        text = "false" if value is None else str(value).lower()
        if text not in ("true", "false"):
            raise ConfigurationError(
                f"{setting}, {self.sources[setting]}: {value!r} is neither true nor false"
            )
        return text == "true"

    def get_count(self, setting: str, default: int) -> int:
        """A setting that is a whole number from 1 on."""
        value = self.get(setting)
        number = default if value is None else value
        if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10:
            number = int(number)
        if type(number) is not int or not 0 < number < 10**9:
            shown = "" if type(value) is int else f"{value!r} "
            raise ConfigurationError(
                f"{setting}, {self.sources[setting]}: {shown}is not a number from 1 to 999999999"
            )
        return number

    def endpoint(self, service: str, region: str | None) -> str:
        """The URL of a service in a region, a configured one first; raises ConfigurationError."""
        name, is_ours = service.replace("-", "_"), service == "sagemaker-runtime"
        setting = "endpoint" if is_ours else f"{service} endpoint"
        places: dict[str, str | None] = {}
        if not self.get_flag("ignore_configured_endpoint_urls"):
            here, key = f"profile {self.profile_name!r}", "endpoint_url"
            places = self._variables(f"AWS_ENDPOINT_URL_{name.upper()}", "AWS_ENDPOINT_URL")
            places[f"services section of {here}"] = self._services(name).get(key)
            places[here] = self.profile.get(key)
        argument = self.arguments.get("endpoint_url" if is_ours else setting)
        url = self._first(setting, argument, places)
        if url is None:
            self.sources[setting] = "the region"
        else:
            check_endpoint_url(url, f"endpoint URL, {self.sources[setting]},")
        fips, dual = self.get_flag("use_fips_endpoint"), self.get_flag("use_dualstack_endpoint")
        return resolve_endpoint(
            region, use_fips=fips, use_dualstack=dual, endpoint_url=url, service=service
        )

    def _services(self, service: str) -> Profile:
        """What the services section that the profile names has on a service."""
        name = self.profile.get("services", "")
        section = f"services {name}"
        if name and section not in self.config:
            raise ConfigurationError(
                f"profile {self.profile_name!r} names services = {name}, but there is no section "
                f"[{section}] in {shared_file_path('config', self.environ)}"
            )
        nested = self.config.get(section, {}).get(service, "")
        lines = nested[1:].split("\n") if nested[:1] == "\n" else []
        return dict(_property(line, section) for line in lines)


# --- 8. Transport ------------------------------------------------------------
# In: a Request. Out: a Response of any status, or a TransportError that says what went wrong and
# whether the request can have arrived. A transport is any callable of that shape. In this one
# urllib.request's own handlers see to proxies, http.client reads the answers; the signed headers
# are written byte by byte, and connections are kept for later requests. No redirect is followed: a
# signature is good for one host.

CONNECT_TIMEOUT_SECONDS = 10.0  # for each step: an address of the host, the proxy's yes, TLS
READ_TIMEOUT_SECONDS = 60.0  # botocore's, but for the whole exchange: a drip does not prolong it
MAX_BODY_BYTES = 1 << 20  # of an answer in memory; SageMaker's have a few hundred bytes
PIECE_BYTES = 1 << 14  # read or written at once; a TLS record's size
STRETCH_BYTES = 1 << 20  # of an upload or a streamed result, which have the time limit for each
NEVER = float("inf")  # a deadline
NO_LIMIT_SECONDS = 1e6  # eleven days: no time limit, for functions that want a number
IS_LINUX = sys.platform == "linux"
IPPROTO_TCP, TCP_INFO, SOL_SOCKET, SO_MEMINFO = 6, 11, 1, 55  # Linux's; socket has not all
WOULD_BLOCK = ("BlockingIOError", "SSLWantReadError", "SSLWantWriteError")  # ssl's own are names
MAX_IDLE_CONNECTIONS = 64
MAX_ROUTES = 1000  # remembered
MAX_IDLE_SECONDS = 50.0  # load balancers on the way drop what is idle for 60, some without a word
# IMDS and the container endpoints: on this machine or next to it, where no proxy can reach for us.
CONTAINER_HOSTS = frozenset(("169.254.170.2", "169.254.170.23", "fd00:ec2::23"))
METADATA_HOSTS = CONTAINER_HOSTS | {"169.254.169.254", "fd00:ec2::254"}


class _Wire(io.RawIOBase):
    """A connected socket with one deadline for whatever is read or written until the next one.

    To Python the socket never blocks: each time limit that Python gives it would take another
    call of the system, of which each lets go of the interpreter's lock.
    """

    closed = False  # which BufferedReader asks at each line; io's own answer takes a search

    def __init__(self, sock: socket.socket, monotonic: Callable[[], float]) -> None:
        import select

        sock.setblocking(False)
        self.sock, self.monotonic, self.ended = sock, monotonic, False
        self.deadline: float | None = None  # None: do not wait at all
        self.limit, self.moved, self.is_answer_due = 0.0, 0, False
        self.poll = select.poll() if hasattr(select, "poll") else None  # Windows has none
        self.polled: bool | None = None  # whether self.poll waits for room to write
        self.flags, self.kernel_limit = 0, 0.0  # with its flags neither recv nor send waits

    def allow(self, seconds: float) -> None:
        """Set the deadline, `seconds` from now."""
        self.limit, self.moved, self.deadline = seconds, 0, self.monotonic() + seconds

    def stretch(self, count: int) -> None:
        """Bytes of a large body went through: who moves enough of them has as long again."""
        before, self.moved = self.moved // STRETCH_BYTES, self.moved + count
        if self.moved // STRETCH_BYTES > before:
            self.deadline = self.monotonic() + self.limit

    def expect_answer(self) -> None:
        """All is sent, as far as we know: allow for what the system has still to send."""
        self.is_answer_due = True
        if self.deadline is not None and self.moved >= STRETCH_BYTES:
            from socket import SO_SNDBUF, SOL_SOCKET

            buffered = min(self.moved, self.sock.getsockopt(SOL_SOCKET, SO_SNDBUF))
            self.deadline += self.limit * buffered / STRETCH_BYTES

    def check_deadline(self, is_over: bool = False) -> float:
        """The seconds that are left; raises socket.timeout when none are."""
        left = 0.0 if self.deadline is None else self.deadline - self.monotonic()
        if is_over or (left <= 0 and self.deadline is not None):
            from socket import timeout  # an alias of TimeoutError from Python 3.10 on

            raise timeout("the time limit is over")
        return left

    def wait_for(self, error: OSError, writing: bool) -> None:
        """Wait for what an operation wants that would have blocked; raises any other error."""
        wanted = type(error).__name__  # TLS may have to write before it can read, and vice versa
        if wanted not in WOULD_BLOCK:
            raise error
        self.wait(wanted == "SSLWantWriteError" or (writing and wanted == "BlockingIOError"))

    def wait(self, writing: bool) -> None:
        """Wait until there is something to be read, or room to write."""
        seconds = self.check_deadline()
        if self.poll is None or self.polled != writing:
            import select
        if self.poll is None:
            read, write = [self.sock][writing:], [self.sock][:writing]
            ready: Any = any(select.select(read, write, [], seconds))
        else:
            if self.polled != writing:
                self.polled = writing
                self.poll.register(self.sock, select.POLLOUT if writing else select.POLLIN)
            ready = self.poll.poll(min(seconds, NO_LIMIT_SECONDS) * 1000)
        if not ready:
            self.check_deadline(is_over=True)

    def let_recv_wait(self) -> None:
        """From now on recv itself waits for an answer, in one call of the system. Linux alone.

        It is worth a tenth of the calls of 16 threads. Not within TLS: there one read may be many
        of the system's, each with the time limit anew, so that a drip would prolong it.
        """
        if IS_LINUX and type(self.sock).__module__ == "socket":  # gevent's must not wait
            from socket import MSG_DONTWAIT

            try:
                self.set_limit(self.limit)
            except OSError:
                return  # a system with another struct timeval
            self.flags = MSG_DONTWAIT
            os.set_blocking(self.sock.fileno(), True)

    def set_limit(self, seconds: float) -> None:
        """Set how long recv itself waits: half a percent more, for a next answer that is due in
        as long not to need another call of the system."""
        from socket import SO_RCVTIMEO, SOL_SOCKET
        from struct import pack

        self.kernel_limit = limit = 1.005 * min(seconds, NO_LIMIT_SECONDS)
        timeval = pack("ll", int(limit), max(1, int(limit % 1 * 1e6)))
        self.sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeval)

    def is_untouched(self) -> bool:
        """Whether the system has neither bytes nor an end for us: Linux can tell.

        A read that finds nothing tells it too, but lets go of the interpreter's lock, and to have
        that back takes a tenth of a call where 16 threads want it.
        """
        ask = self.sock.getsockopt
        try:
            return (
                IS_LINUX
                and ask(IPPROTO_TCP, TCP_INFO, 1) == b"\1"  # the state, which is "established"
                and ask(SOL_SOCKET, SO_MEMINFO, 4) == b"\0\0\0\0"  # bytes that wait to be read
                and not (hasattr(self.sock, "pending") and self.sock.pending())  # within TLS
            )
        except OSError:
            return False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        flags = self.flags
        if self.is_answer_due:
            self.is_answer_due = False
            if flags:
                flags, left = 0, self.check_deadline()
                if not left <= self.kernel_limit <= 1.01 * left:
                    self.set_limit(left)
            else:
                self.wait(writing=False)  # it cannot be here yet: to find that out takes longer
        elif self.deadline is not None:
            self.check_deadline()
        elif self.is_untouched():
            return None
        while True:
            try:
                count = self.sock.recv_into(buffer, len(buffer), flags)
            except OSError as error:
                if self.deadline is None and type(error).__name__ in WOULD_BLOCK:
                    return None
                self.wait_for(error, writing=False)
                flags = self.flags
                continue
            self.ended = count == 0
            return count


class _Line(io.BufferedReader):
    """A wire and what came over it but has not been read; to http.client, a socket and its file.

    It outlives each answer, so that bytes which nobody asked for are noticed, and not lost.
    """

    def __init__(self, wire: _Wire) -> None:
        import http.client

        super().__init__(wire)
        self.wire = wire
        self.http = http.client  # which each call needs: the statement takes longer than this

    def makefile(self, _mode: str) -> _Line:
        return self

    def close(self) -> None:
        """Nothing: http.client closes the file at the end of each answer."""

    def flush(self) -> None:
        """Nothing: there is nothing to flush, whatever state an answer is dropped in."""

    def hang_up(self) -> None:
        """Close the connection."""
        self.wire.sock.close()

    __del__ = hang_up

    def send(self, data: bytes) -> None:
        wire = self.wire
        left = data if len(data) <= PIECE_BYTES else memoryview(data)
        while left:
            wire.check_deadline()
            try:
                sent = wire.sock.send(left[:PIECE_BYTES], wire.flags)
            except OSError as error:
                wire.wait_for(error, writing=True)
                continue
            wire.stretch(sent)
            left = left[sent:]

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes; http.client takes a chunk's size of -1 for "all that ever comes"."""
        if size is None or size < 0:
            raise ValueError("a size below 0")
        return io.BufferedReader.read(self, size)

    def is_quiet(self) -> bool:
        """Whether the other side has neither closed nor sent something that nobody asked for."""
        self.wire.deadline = None  # so that nothing waits
        try:
            return not self.peek() and not self.wire.ended
        except OSError:
            return False


def route_to(scheme: str, host: str, proxies: Mapping[str, str]) -> tuple[str, bool, Headers]:
    """Where to connect for a host, whether that is a proxy, and what to tell it.

    It is the route that urllib.request takes, which knows the exceptions to the rule of a proxy.
    """
    if scheme not in proxies or is_local(host):
        return host, False, ()
    import urllib.request

    bypassed: Any = getattr(urllib.request, "proxy_bypass_environment")  # noqa: B009
    if bypassed(host, proxies):
        return host, False, ()
    check_proxy_url(proxies[scheme])
    asked = urllib.request.Request(f"{scheme}://{host}/")
    handler: Any = urllib.request.ProxyHandler(dict(proxies))
    getattr(handler, f"{scheme}_open")(asked)
    return asked.host, True, tuple(asked.header_items())


class _Destination:
    """What follows from a URL: where to connect, the Host header, and what to ask whom for."""

    def __init__(self, url: str, routes: Callable[[str, str], Any]) -> None:
        if not url.startswith(("http://", "https://")):
            raise ParamValidationError("the URL has to begin with http:// or https://")
        self.scheme, (self.host, self.target, query) = url.partition(":")[0], split_url(url)
        self.target += f"?{query}" if query or url.endswith("?") else ""
        self.server, self.is_proxy, self.proxy_headers = routes(self.scheme, self.host)
        self.headers: Headers = ()  # for the proxy; one that makes a tunnel has had them then
        if self.is_proxy and self.scheme == "http":
            self.headers, self.target = self.proxy_headers, f"http://{self.host}{self.target}"
        self.key = (self.scheme, self.server, self.host)  # of connections


class _Idle:
    """Lines waiting for their next request; the one used last is the first out."""

    def __init__(self) -> None:
        self.process, self.lock = os.getpid(), Lock()
        self.waiting: list[tuple[object, float, _Line]] = []

    def take(self, key: object, now: float) -> _Line | None:
        """A line for `key` that is still good; those found to be dead are closed."""
        while True:
            with self.lock:
                place = len(self.waiting) - 1
                while place >= 0 and self.waiting[place][0] != key:
                    place -= 1
                if place < 0:
                    return None
                _, since, line = self.waiting.pop(place)
            if now - since < MAX_IDLE_SECONDS and line.is_quiet():
                return line
            line.hang_up()

    def give(self, key: object, now: float, line: _Line) -> None:
        """Keep a line; those that have waited longest make room for it."""
        with self.lock:
            self.waiting.append((key, now, line))
        if len(self.waiting) > MAX_IDLE_CONNECTIONS:
            self.close(keep=MAX_IDLE_CONNECTIONS)

    def close(self, keep: int = 0) -> None:
        """Close all lines but the `keep` youngest."""
        with self.lock:
            surplus = self.waiting[: max(0, len(self.waiting) - keep)]
            del self.waiting[: len(surplus)]
        for _, _, line in surplus:
            line.hang_up()

    def forget(self, key: object) -> None:
        """Close the lines for `key`."""
        with self.lock:
            found = [entry for entry in self.waiting if entry[0] == key]
            self.waiting = [entry for entry in self.waiting if entry[0] != key]
        for _, _, line in found:
            line.hang_up()


class UrllibTransport:
    """Sends a Request and returns its Response; raises TransportError. Thread-safe.

    `connect_timeout` and `read_timeout` are seconds, the latter for each MiB of an upload or of
    what goes to a `sink`; a call's `timeout` bounds the sum of both. `ca_bundle`
    is a file of certificates, or False to accept any certificate: whoever sits between then reads
    and changes everything, so do that on a test machine only. `environ` names the proxies.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout: float = READ_TIMEOUT_SECONDS,
        ca_bundle: str | bool | None = None,
        environ: Mapping[str, str] | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle = _Idle()
        self.connect_timeout = _positive(connect_timeout)
        self.read_timeout = _positive(read_timeout)
        self.ca_bundle, self.max_body_bytes, self.monotonic = ca_bundle, max_body_bytes, monotonic
        known = proxies(environment(environ))
        routes = lru_cache(MAX_ROUTES)(lambda scheme, host: route_to(scheme, host, known))
        self._destination = lru_cache(100)(lambda url: _Destination(url, routes))
        self._tls_context: ssl.SSLContext | None = None

    def __call__(
        self, request: Request, *, timeout: float | None = None, sink: BinaryIO | None = None
    ) -> Response:
        """The answer; the body of a 200 or 206 goes to `sink` where there is one."""
        destination, now = self._destination(request.url), self.monotonic()
        until = now + timeout if timeout else NEVER
        if self._idle.process != os.getpid():
            self._idle = _Idle()  # after a fork; closing our copies changes nothing for the parent
        idle, key = self._idle, destination.key
        line = idle.take(key, now) or self._connect(destination, until)
        try:
            limit = self.read_timeout if until == NEVER else self._limit(self.read_timeout, until)
            line.wire.allow(limit)
            answer = _exchange(line, request, destination)
            body, complete = self._body(answer, sink, line)
        except BaseException:
            line.hang_up()
            idle.forget(key)  # lines that have waited as long may be as dead
            raise
        if complete and not answer.will_close:
            idle.give(key, self.monotonic(), line)
        else:
            line.hang_up()
        headers = tuple(answer.headers.raw_items())
        if not "".join(map("".join, headers)).isascii():
            headers = tuple([header_text(*pair) for pair in headers])
        return Response(answer.status, headers, body, complete)

    def close(self) -> None:
        """Close the connections that wait for another request; the transport stays usable."""
        self._idle.close()

    def __del__(self) -> None:
        for _, _, line in self._idle.waiting:
            line.hang_up()

    def _limit(self, seconds: float, until: float) -> float:
        """The seconds that a step may take, when all has to be over by `until`."""
        return max(min(seconds, until - self.monotonic()), 0.001)

    def _connect(self, to: _Destination, until: float) -> _Line:
        """A new connection, through a proxy's tunnel and TLS where those are due."""
        import socket
        from http.client import HTTPException
        from urllib.parse import urlsplit

        target, server = urlsplit(f"//{to.host}"), urlsplit(f"//{to.server}")
        tls = self._tls() if to.scheme == "https" else None
        tunnel = to.is_proxy and tls
        address = (ascii_host(server.hostname), server.port or (443 if tls and not tunnel else 80))
        stage, line = "connect", None
        try:
            wire = _Wire(self._socket(address, until), self.monotonic)
            line = _Line(wire)
            wire.allow(self._limit(self.connect_timeout, until))
            wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tunnel:
                stage = "proxy"
                _open_tunnel(line, to, target.hostname or "", target.port or 443)
                if not line.is_quiet():  # or what the proxy says would pass for what TLS protects
                    raise ConnectionResetError("it sent bytes of its own into the tunnel")
                wire.allow(self._limit(self.connect_timeout, until))
            if tls:
                stage = "tls"
                wire.sock.settimeout(wire.check_deadline())
                wire.sock = tls.wrap_socket(wire.sock, server_hostname=ascii_host(target.hostname))
                wire.sock.setblocking(False)
            else:
                wire.let_recv_wait()
        except BaseException as error:
            if line:
                line.hang_up()
            if isinstance(error, (OSError, HTTPException)) and not isinstance(error, Error):
                raise transport_error(stage, error, to.server) from error
            raise
        return line

    def _socket(self, address: tuple[str | bytes, int], until: float) -> socket.socket:
        """A connection to the first of the host's addresses that answers."""
        import socket

        failure: OSError = ConnectionRefusedError("the host has no address")
        found = socket.getaddrinfo(*address, 0, socket.SOCK_STREAM)
        for family, kind, protocol, _, place in found:
            sock = None
            try:
                sock = socket.socket(family, kind, protocol)
                sock.settimeout(self._limit(self.connect_timeout, until))
                sock.connect(place)
                return sock
            except OSError as error:
                failure = error
                if sock:
                    sock.close()
            if self.monotonic() >= until:
                break
        raise failure

    def _tls(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, certificates verified; built once: reading the CAs takes long."""
        if self._tls_context is None:
            import ssl

            try:
                context = ssl.create_default_context(cafile=str(self.ca_bundle or "") or None)
            except OSError as error:
                raise ConfigurationError(f"CA bundle {self.ca_bundle}: {error}") from error
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.ca_bundle is False:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._tls_context = context
        return self._tls_context

    def _body(
        self, answer: http.client.HTTPResponse, sink: BinaryIO | None, line: _Line
    ) -> tuple[bytes, bool]:
        """The body, and whether that is all of it: what fails here no longer hides the status."""
        pieces: list[bytes] = []
        keep, left, moved = pieces.append, self.max_body_bytes + 1, 0
        if sink is not None and answer.status in (200, 206):
            keep, left, moved = sink.write, sys.maxsize, 1  # type: ignore[assignment]
        cut = False
        while left > 0 and not cut:
            try:
                piece = answer.read(min(left, PIECE_BYTES))
            except (OSError, line.http.HTTPException, ValueError) as error:
                piece, cut = getattr(error, "partial", b""), True
            keep(piece)
            left -= len(piece)
            if sink is not None:
                line.wire.stretch(moved * len(piece))
            if answer.isclosed():
                break
        complete = not cut and left > 0 and not answer.length  # length: bytes still to come
        return b"".join(pieces)[: self.max_body_bytes], complete


def _open_tunnel(line: _Line, to: _Destination, host: str, port: int) -> None:
    """Have the proxy connect us; the standard library's own tunnel knows no time limit."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    line.send(head("CONNECT", target, to.proxy_headers, target))
    answer = _answer(line, "CONNECT")
    if not 200 <= answer.status < 300:
        advice = "; check user and password in the proxy's URL" if answer.status == 407 else ""
        raise TransportError(
            f"the proxy {to.server} does not connect to {target}: HTTP {answer.status}{advice}",
            kind="proxy", sent=False, retryable=answer.status >= 500,
        )  # fmt: skip


def _exchange(
    line: _Line, request: Request, destination: _Destination
) -> http.client.HTTPResponse:
    """Write the request, its headers as they were signed, and read the head of the answer."""
    headers, server = request.headers + destination.headers, destination.server
    start = head(request.method, destination.target, headers, destination.host)
    failure: OSError | None = None
    body = request.body
    for piece in [start + body] if isinstance(body, bytes) else _pieces(start, body):
        try:
            line.send(piece)
        except OSError as error:
            failure = error  # the service may have answered, and closed, before it had read all
            break
    line.wire.expect_answer()
    stage = "send" if failure else "read"
    try:
        answer = _answer(line, request.method)
        answer.will_close = answer.will_close or failure is not None
        return answer
    except OSError as error:
        raise transport_error(stage, failure or error, server) from (failure or error)
    except line.http.HTTPException as error:
        garbage = transport_error(stage, failure or error, server)
    raise garbage  # not from the error, which quotes the server


def _pieces(start: bytes, body: Callable[[], BinaryIO]) -> Iterator[bytes]:
    """The bytes of a request whose body is a file, as they are read."""
    yield start
    with body() as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def head(method: str, target: str, headers: Headers, host: str) -> bytes:
    """Request line and headers as they go out; raises ParamValidationError."""
    has_host, are_names = header_traits(*[name for name, _ in headers])
    headers = headers if has_host else (("Host", host), *headers)
    lines = list(map(": ".join, headers))
    text = "".join(lines)  # one look at all of it takes less time than one at each line
    plain = text.isascii() and "\r" not in text and "\n" not in text and "\0" not in text
    if not plain or not are_names:
        for (name, _), line in zip(headers, lines):
            check_line(f"header {name!r}", line, r"[!-9;-~]+: [^\r\n\0\ud800-\udfff]*")
    return "\r\n".join([request_line(method, target), *lines, "", ""]).encode()


@lru_cache(maxsize=100)
def header_traits(*names: str) -> tuple[bool, bool]:
    """Whether there is a Host, and whether all can be names of headers."""
    text = "".join(names)
    plain = text.isascii() and text.isprintable() and not {" ", ":"} & set(text)
    return "host" in map(str.lower, names), plain and all(names)


def check_line(what: str, line: str, form: str) -> str:
    """The line; raises ParamValidationError when it is not of that form."""
    import re

    if not re.fullmatch(form, line):
        raise ParamValidationError(f"{what}: has characters that HTTP does not allow")
    return line


@lru_cache(maxsize=100)
def request_line(method: str, target: str) -> str:
    """The first line of a request; raises ParamValidationError."""
    return check_line("method or URL", f"{method} {target} HTTP/1.1", r"[!-~]+ [!-~]+ HTTP/1\.1")


def _answer(line: Any, method: str) -> http.client.HTTPResponse:
    """The head of the answer, interim ones (1xx) passed over."""
    while True:
        answer: http.client.HTTPResponse = line.http.HTTPResponse(line, method=method)
        answer.begin()
        if line.wire.ended:
            raise ConnectionResetError("the connection ended within the answer's head")
        if answer.status == 101:
            raise line.http.HTTPException("nobody asked for another protocol")
        if answer.status >= 200:
            return answer


STAGES = {
    # stage: its kind of TransportError, words for it
    "connect": ("connect", "cannot connect"),
    "proxy": ("proxy", "the proxy does not connect us"),
    "tls": ("closed", "TLS handshake broken off"),
    "send": ("closed", "broken off before the request was sent"),
    "read": ("closed", "no answer"),
}


def transport_error(stage: str, error: Exception, host: str) -> TransportError:
    """The error that says what went wrong in which of STAGES, and whether it may pass by itself.

    Up to "send" the service certainly never had the whole request.
    """
    import socket
    import ssl

    kind, words = STAGES[stage]
    retryable, advice = True, ""
    ended = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # the latter in Python 3.9
    if isinstance(error, socket.timeout):
        kind = "timeout"
    elif isinstance(error, socket.gaierror):
        retryable = error.errno == socket.EAI_AGAIN
        advice = "; check the region, the endpoint URL and the network's DNS"
    elif isinstance(error, ssl.SSLError) and not isinstance(error, ended):
        kind, retryable = "tls", False
        advice = "; for a private authority, set AWS_CA_BUNDLE to a file of its certificates"
    elif not isinstance(error, OSError):
        kind, words = ("protocol", "the answer is not HTTP") if stage == "read" else (kind, words)
    said = str(error) if isinstance(error, OSError) else ""  # the rest quotes the server
    what = "".join(c if c.isprintable() else "?" for c in said) or type(error).__name__
    text = f"{host}: {words}: {what[:200]}{advice}"
    return TransportError(text, kind=kind, sent=stage == "read", retryable=retryable)


def _positive(seconds: float) -> float:
    if not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ConfigurationError(f"a time limit of {seconds!r} is not a number of seconds above 0")
    return min(seconds, NO_LIMIT_SECONDS)


def transports(
    settings: Settings, given: Transport | None, **options: Any
) -> tuple[Transport, Transport]:
    """A transport, and one that goes through no proxy; the one that was given stands for both."""
    ca_bundle = settings.get("ca_bundle")
    if given is not None:
        return given, given
    direct = UrllibTransport(ca_bundle=ca_bundle, environ={})
    return UrllibTransport(ca_bundle=ca_bundle, environ=settings.environ, **options), direct


def close_all(transports: Iterable[Transport]) -> None:
    """Close the connections that are kept, where a transport keeps some."""
    for transport in transports:
        getattr(transport, "close", lambda: None)()


def environment(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    """The mapping that was given, or the process's own environment."""
    return os.environ if environ is None else environ


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """What urllib.request.getproxies_environment makes of os.environ, of any mapping.

    >>> proxies({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:2", "NO_PROXY": "c"})
    {'no': 'c', 'https': 'http://b:2'}
    """
    found: dict[str, str] = {}
    for name in sorted(environ):  # upper case comes first, so that lower case wins
        scheme, _, word = name.lower().rpartition("_")
        if word != "proxy" or (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
            continue  # in a CGI script HTTP_PROXY is a header that a stranger sent
        found.pop(scheme, None)
        if environ[name]:
            found[scheme] = environ[name]
    return found


def check_proxy_url(url: str) -> None:
    """Raise ConfigurationError, without the password, unless urllib can use the proxy."""
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host = unquote(parts.hostname or "").encode("idna").decode()
        good = parts.scheme == "http" and host and parts.port != 0 and host.isprintable()
    except ValueError:
        good = False
    if not good or not url.isprintable() or ":/" in url.replace("://", ""):
        raise ConfigurationError("the proxy's URL is not http://[user:password@]host[:port]")


def is_local(host: str, others: frozenset[str] = METADATA_HOSTS) -> bool:
    """Whether a Host header names this machine itself, or one of the `others`."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    try:
        name = urlsplit(f"//{host}").hostname or ""
        address = ip_address("127.0.0.1" if name == "localhost" else name)
    except ValueError:
        return False
    return address.is_loopback or str(address) in others


def ascii_host(name: str | None) -> str | bytes:
    """A host's name, as bytes where those say all: for others Python loads 1 ms of Unicode."""
    return name.encode() if name and name.isascii() else name or ""


def header_text(name: str, value: str) -> tuple[str, str]:
    """A header, whose value http.client reads as Latin-1, as the UTF-8 that AWS sends."""
    try:
        return name, value.encode("latin-1").decode()
    except UnicodeError:
        return name, value


# --- 9. Credentials ----------------------------------------------------------
# In: settings. Out: Credentials. The chain is a tuple of providers, asked in order; a provider is
# a function that returns Credentials, or None when it is not configured, or raises when it is but
# does not work. That ends the search: a key from somewhere else than was asked for is worse than
# none. Where does the key come from? Read PROVIDERS, and for a profile PROFILE_PROVIDERS.
# https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html

ADVISORY_SECONDS = 15 * 60  # before the end: one thread renews, and failure is tolerated
MANDATORY_SECONDS = 10 * 60  # before the end: everybody waits for it, and failure is raised
SERVICE_TIMEOUT_SECONDS = 20.0  # STS and the SSO portal
METADATA_TIMEOUT_SECONDS = 1.0  # who is not on EC2 waits as long as this to learn it
PROCESS_TIMEOUT_SECONDS = 60.0
CONTAINER_URL = "http://169.254.170.2"  # ECS; EKS Pod Identity names its own in full
IMDS_URLS = {"ipv4": "http://169.254.169.254", "ipv6": "http://[fd00:ec2::254]"}
IMDS_PATHS = (
    "/latest/meta-data/iam/security-credentials-extended/",  # newer, with the account's id
    "/latest/meta-data/iam/security-credentials/",
)
system_clock = time.time


def random_fraction() -> float:
    """A random number in [0, 1)."""
    from random import random

    return random()


@lru_cache(maxsize=16)  # many signatures are made within one second
def amz_date(seconds: float) -> str:
    """Epoch seconds as a signature has them, "20150830T123600Z"."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def ask_on_terminal(question: str) -> str:
    """What somebody types; raises CredentialsError when nobody can."""
    if not (sys.stdin and sys.stdin.isatty()):
        raise CredentialsError(f"{question}no terminal to ask on; pass prompt= to Client")
    from getpass import getpass

    return getpass(question).strip()


class Lookup:
    """What a provider may use; `direct` is a transport without proxies, `old` what is renewed.

    `values` is what is asked, the environment or a profile, and `where` what errors call it.
    `path` has the profile's name, after those whose source it is.
    """

    def __init__(
        self,
        settings: Settings,
        region: str | None,
        transport: Transport,
        direct: Transport,
        clock: Callable[[], float] = system_clock,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_fraction,
        prompt: Callable[[str], str] = ask_on_terminal,
        old: Credentials | None = None,
    ) -> None:
        self.settings, self.region, self.old = settings, region, old
        self.transport, self.direct, self.prompt = transport, direct, prompt
        self.clock, self.sleep, self.random = clock, sleep, random
        self.values, self.where = settings.environ, "the environment"
        self.path: tuple[str, ...] = ()

    def within(self, profile_name: str) -> Lookup:
        """The same for a profile."""
        from copy import copy

        inner = copy(self)
        inner.values = self.settings.profiles.get(profile_name, {})
        inner.where, inner.path = f"profile {profile_name!r}", (*self.path, profile_name)
        return inner


def resolve_credentials(
    profile_name: str | None = None,
    *,
    region_name: str | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    clock: Callable[[], float] | None = None,
) -> Credentials:
    """The first credentials in the chain; raises CredentialsError, with what each provider found.

    A profile named here, in code, is asked instead of the environment. The region is for STS.
    """
    settings = Settings(environment(environ), profile_name, region=region_name)
    ways = transports(settings, transport)
    try:
        lookup = Lookup(settings, settings.get("region"), *ways, clock or system_clock)
        return first_in_chain(lookup)
    finally:
        close_all(ways)


def first_in_chain(lookup: Lookup) -> Credentials:
    """The first credentials that a provider has; its name becomes their source in the settings."""
    tried: list[tuple[str, str]] = []
    settings = lookup.settings
    profile = f"profile {settings.profile_name!r} in {settings.files}: "
    for name, provider, nothing in PROVIDERS:
        if settings.named_in_code and provider in (_from_environment, _web_identity):
            tried.append((name, "passed over, since a profile is named in code"))
            continue
        where = profile if name == "profile" else ""
        try:
            found = provider(lookup)
            if found:
                unexpired(found, lookup.clock)
                settings.sources["credentials"] = name
                return found
        except Error as error:
            tried.append((name, f"{where}{error}"))
            raise CredentialsError(f"{name}: {where}{error}", tried=tried) from error
        tried.append((name, where + nothing))
    listed = "".join(f"\n- {name}: {what}" for name, what in tried)
    raise CredentialsError(f"no credentials found; looked in order at{listed}", tried=tried)


def unexpired(credentials: Credentials, clock: Callable[[], float]) -> Credentials:
    """The credentials, which may have no end; raises CredentialsError when they are past it."""
    if credentials.expires_at is not None and credentials.expires_at <= clock():
        raise CredentialsError("the credentials handed out have expired already")
    return credentials


def _from_environment(lookup: Lookup) -> Credentials | None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
             "AWS_CREDENTIAL_EXPIRATION", "AWS_ACCOUNT_ID")  # fmt: skip
    return _key_pair(lookup.settings.environ, names, "the environment")


def _key_pair(values: Mapping[str, Any], names: tuple[str, ...], where: str) -> Credentials | None:
    """Credentials from some of `names`: key id, secret, and perhaps token, expiry, account.

    None when there is neither key.
    """
    key_id, secret, token, *more = (values.get(name) or None for name in names)
    expiry, account = more or (None, None)
    if not key_id and not secret:
        return None
    if not key_id or not secret:
        there, missing = names[:2] if key_id else names[1::-1]
        raise CredentialsError(f"{where} has {there} but no {missing}; it takes both")
    try:
        return Credentials(key_id, secret, token, epoch(expiry), account)
    except CredentialsError as error:
        raise CredentialsError(f"{where}: {error}") from None


def credentials_in(answer: bytes, where: str, account: str | None = None) -> Credentials:
    """Credentials in an answer. All services call the five alike, but for case and "Token"."""
    fields: Any = json_object(answer) or xml_fields(answer)
    fields = fields.get("roleCredentials", fields)  # which SSO has around them
    fields = fields if isinstance(fields, dict) else {}
    found = {name[:1].upper() + name[1:]: value for name, value in fields.items()}
    if found.get("Code", "Success") != "Success":  # IMDS may answer so, with HTTP 200
        raise CredentialsError(f"{where} is {str(found['Code'])[:80]!r}")
    found = {"SessionToken": found.get("Token"), "AccountId": account, **found}
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AccountId")
    credentials = _key_pair(found, names, where)
    if credentials is None:
        raise CredentialsError(f"{where} has no AccessKeyId and no SecretAccessKey")
    return credentials


def epoch(text: object) -> float | None:
    """Epoch seconds of an ISO 8601 time, or of SSO's number of milliseconds; None for none.

    >>> epoch("2015-08-30T12:36:00Z")
    1440938160.0
    """
    import re
    from datetime import datetime

    if not text:
        return None
    if isinstance(text, (int, float)) and 0 < text < 1e15:
        return text / 1000
    form = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(Z|UTC|[+-]\d\d:?\d\d)?"
    found = re.fullmatch(form, str(text), re.ASCII)
    moment, zone = found.groups("Z") if found else ("", "")
    try:  # fromisoformat knows offsets and fractions of any length from Python 3.11 on only
        moment += zone.replace("UTC", "Z")
        return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (ValueError, OverflowError):
        wrong = f"the expiration {str(text)[:40]!r} is not an ISO 8601 time"
        raise CredentialsError(wrong) from None


def _web_identity(lookup: Lookup) -> Credentials | None:
    """The role for an OpenID Connect token in a file, of a profile or as EKS sets it."""
    names = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"]
    if lookup.path:  # a profile calls them alike
        names = [name[len("AWS_") :].lower() for name in names]
    file, role_arn, session_name = (lookup.values.get(name) for name in names)
    if not file:
        return None
    if not role_arn:
        raise CredentialsError(f"{lookup.where} has {names[0]} but no {names[1]}; set both")
    token = _token_in(file)
    form = {"RoleArn": role_arn, "RoleSessionName": session_name, "WebIdentityToken": token}
    return _ask_sts(lookup, "AssumeRoleWithWebIdentity", form)


def _token_in(path: str) -> str:
    """The token in a file, which is read anew each time, since it changes."""
    text = read_text_file(path)
    if text is None:
        raise CredentialsError(f"{path}: there is no such token file")
    return checked_key(f"the token in {path}", text.rstrip("\r\n"))


def _from_profile(lookup: Lookup) -> Credentials | None:
    """What a profile leads to: the chosen one, or the one that `lookup` is already within."""
    inner = lookup if lookup.path else lookup.within(lookup.settings.profile_name)
    return next(filter(None, (provider(inner) for provider in PROFILE_PROVIDERS)), None)


def _assumed_role(lookup: Lookup) -> Credentials | None:
    """The role `role_arn`, assumed with the credentials of another profile or provider."""
    profile, where = lookup.values, lookup.where
    source, kind = profile.get("source_profile"), profile.get("credential_source")
    if not profile.get("role_arn"):
        return None
    if profile.get("web_identity_token_file") and not source and not kind:
        return None  # _web_identity is for that
    if source and not kind:
        base: Credentials | None = _from_source(lookup, source)
    elif kind in CREDENTIAL_SOURCES and not source:
        base = CREDENTIAL_SOURCES[kind](lookup)
    else:
        raise CredentialsError(
            f"{where} has role_arn; beside it goes either source_profile or credential_source, "
            f"the latter one of {', '.join(CREDENTIAL_SOURCES)}"
        )
    if not base:
        raise CredentialsError(f"{where}: credential_source {kind} has no credentials")
    form = {name: profile.get(key) for name, key in ROLE_PARAMETERS.items()}
    if form["SerialNumber"]:
        form["TokenCode"] = code = lookup.prompt(f"MFA code for {form['SerialNumber']}: ")
        if not (code.isascii() and code.isdigit()):
            raise CredentialsError(f"{where}: an MFA code is made of digits")
    return _ask_sts(lookup, "AssumeRole", form, base)


def _from_source(lookup: Lookup, name: str) -> Credentials:
    """What the profile leads to that a role names as its source; its own keys come first."""
    inner, settings = lookup.within(name), lookup.settings
    path = " -> ".join(inner.path)
    if name not in settings.profiles:
        raise CredentialsError(f"source_profile {name!r} is not in {settings.files} ({path})")
    static = _static_keys(inner)
    if name in lookup.path and not static:
        raise CredentialsError(f"the source profiles go round in a circle: {path}")
    found = static or _from_profile(inner)
    if not found:
        raise CredentialsError(f"source_profile {name!r} has no credentials ({path})")
    return found


def _ask_sts(
    lookup: Lookup, action: str, form: dict[str, str | None], base: Credentials | None = None
) -> Credentials:
    """The credentials of a role, asked for with those of `base`, or unsigned.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    from urllib.parse import urlencode

    form = {"Action": action, "Version": "2011-06-15", **form}
    form["RoleSessionName"] = form["RoleSessionName"] or f"smasync-{lookup.clock():.0f}"
    body = urlencode([pair for pair in form.items() if pair[1]]).encode()
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    headers = (("Content-Type", kind), ("Content-Length", str(len(body))))
    request = Request("POST", lookup.settings.endpoint("sts", lookup.region) + "/", headers, body)
    if base:
        timestamp, region = amz_date(int(lookup.clock())), str(lookup.region)
        signed = sign(request, base, region=region, service="sts", timestamp=timestamp)
        request = signed.request
    answer = _ask(lookup, request, action, secret=form.get("WebIdentityToken") or "")
    account = "".join(str(form["RoleArn"]).split(":")[4:5])
    return credentials_in(answer, f"the answer to {action}", account)


def _static_keys(lookup: Lookup) -> Credentials | None:
    """Keys that stand in a file, all from the same one, the credentials file first."""
    settings, found = lookup.settings, None
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    for which, file in (("credentials", settings.credentials), ("config", settings.config)):
        where = f"{lookup.where} in {shared_file_path(which, settings.environ)}"
        found = found or _key_pair(file.get(lookup.path[-1], {}), names, where)
    return found


def _sso(lookup: Lookup) -> Credentials | None:
    """A role for the token that `aws sso login` left behind; the AWS CLI is to renew that."""
    settings, profile, where = lookup.settings, lookup.values, lookup.where
    session = profile.get("sso_session")
    if not session and not profile.get("sso_start_url"):
        return None
    if session and f"sso-session {session}" not in settings.config:
        raise CredentialsError(f"{where}: there is no section [sso-session {session}]")
    profile = {**profile, **settings.config.get(f"sso-session {session}", {})}
    needed = ("sso_start_url", "sso_region", "sso_account_id", "sso_role_name")
    missing = [key for key in needed if not profile.get(key)]
    if missing:
        raise CredentialsError(f"{where} is for SSO but lacks {', '.join(missing)}")
    start_url, region, account, role = (profile[key] for key in needed)
    check_region(region, f"{where}: sso_region")
    url = settings.endpoint("sso", region) + "/federation/credentials"
    url += f"?role_name={uri_encode(role)}&account_id={uri_encode(account)}"
    try:
        token = _sso_token(lookup, session or start_url)
        request = Request("GET", url, (("x-amz-sso_bearer_token", token),))
        answer = _ask(lookup, request, "SSO GetRoleCredentials")
    except (CredentialsError, ConfigurationError, ClientError) as error:
        if isinstance(error, ClientError) and error.status != 401:
            raise
        login = f"aws sso login --profile {lookup.path[-1]}"
        raise CredentialsError(f"{error}; run: {login}") from error
    return credentials_in(answer, "the SSO portal's answer", account)


def _sso_token(lookup: Lookup, key: str) -> str:
    """The access token in the AWS CLI's cache, which is by session or start URL."""
    from hashlib import sha1

    home = home_of(lookup.settings.environ)
    file = sha1(key.encode(), usedforsecurity=False).hexdigest() + ".json"
    path = os.path.join(home, ".aws", "sso", "cache", file)
    cached = json_object((read_text_file(path) or "").encode() if home else b"") or {}
    token, expires = cached.get("accessToken"), cached.get("expiresAt")
    if not isinstance(token, str) or not isinstance(expires, str):
        raise CredentialsError(f"no SSO token in {path}")
    if (epoch(expires) or 0.0) <= lookup.clock():
        raise CredentialsError(f"the SSO token in {path} expired at {expires}")
    return checked_key(f"the SSO token in {path}", token)


def _process(lookup: Lookup) -> Credentials | None:
    """What the program `credential_process` prints; it is run without a shell."""
    command = lookup.values.get("credential_process")
    if not command:
        return None
    import shlex
    import subprocess

    what = f"credential_process of {lookup.where}"
    try:
        done = subprocess.run(
            shlex.split(command, posix=os.name == "posix"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROCESS_TIMEOUT_SECONDS,
            env=lookup.settings.environ,
        )
    except subprocess.TimeoutExpired:
        raise CredentialsError(f"{what}: no end after {PROCESS_TIMEOUT_SECONDS:.0f} s") from None
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{what}: cannot be run: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[:1000]
        raise CredentialsError(f"{what}: ended with status {done.returncode}: {said}")
    if (json_object(done.stdout) or {}).get("Version") != 1:
        raise CredentialsError(f"{what}: what it printed is not JSON with Version 1")
    return credentials_in(done.stdout, what)


def _from_container(lookup: Lookup) -> Credentials | None:
    """The endpoint that ECS, EKS Pod Identity or Greengrass names in the environment."""
    environ = lookup.settings.environ
    url = _container_url(environ)
    if not url:
        return None
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token = _token_in(environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
    if not token.isascii() or not token.isprintable():
        raise CredentialsError("AWS_CONTAINER_AUTHORIZATION_TOKEN has a line break or the like")
    headers: Headers = (("Authorization", token),) if token else ()
    request = Request("GET", url, (("Accept", "application/json"), *headers))
    answer = _ask(lookup, request, "container credentials", near=True)
    return credentials_in(answer, "the container endpoint's answer")


def _container_url(environ: Mapping[str, str]) -> str:
    """Where that is, "" for nowhere; the token never goes unencrypted to who knows whom."""
    relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    full = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    if relative and (relative[0] != "/" or not _is_visible(relative)):
        raise CredentialsError("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with /")
    if relative or not full:
        return CONTAINER_URL + relative if relative else ""
    plain = check_endpoint_url(full.partition("?")[0], "AWS_CONTAINER_CREDENTIALS_FULL_URI")
    host = split_url(plain)[0]
    near = full.startswith("https:") or is_local(host, CONTAINER_HOSTS)
    if not near or not _is_visible(full):
        raise CredentialsError(
            f"AWS_CONTAINER_CREDENTIALS_FULL_URI: {host[:80]!r} is neither https nor this machine"
        )
    return full


def _is_visible(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _from_imds(lookup: Lookup) -> Credentials | None:
    """The role of the EC2 instance; while IMDS fails, what it said last stays in use."""
    settings, last = lookup.settings, lookup.old
    if settings.get_flag("ec2_metadata_disabled"):
        return None
    setting = "ec2_metadata_service_endpoint"
    mode = settings.get(f"{setting}_mode") or "ipv4"
    if mode.lower() not in IMDS_URLS:
        raise ConfigurationError(f"{setting}_mode: {mode!r} is not IPv4 or IPv6")
    url = check_endpoint_url(settings.get(setting) or IMDS_URLS[mode.lower()], setting)
    try:
        last = _imds_role(lookup, url)
    except (ClientError, TransportError, CredentialsError) as error:
        if not last and isinstance(error, TransportError) and not error.sent:
            return None  # nobody there: this is no EC2 instance
        if not last:
            raise
    now = lookup.clock()
    if not last or last.expires_at is None or last.expires_at > now:
        return last
    later = now + ADVISORY_SECONDS + 300 + 300 * lookup.random()
    keys = (last.access_key_id, last.secret_access_key, last.session_token)
    return Credentials(*keys, later, last.account_id)


def _imds_role(lookup: Lookup, url: str, is_second: bool = False) -> Credentials | None:
    """The role's credentials; None when the instance has no role."""
    headers = _imds_token(lookup, url)
    for path in IMDS_PATHS:
        try:
            answer = _ask(lookup, Request("GET", url + path, headers), "IMDS", near=True)
            name = uri_encode(answer.strip().split(b"\n")[0])
            answer = _ask(lookup, Request("GET", url + path + name, headers), "IMDS", near=True)
            return credentials_in(answer, "IMDS's answer")
        except ClientError as error:
            if error.status == 401 and not is_second:  # a token may end between two requests
                return _imds_role(lookup, url, is_second=True)
            if error.status != 404:
                raise
    return None


def _imds_token(lookup: Lookup, url: str) -> Headers:
    """The header with IMDSv2's token; () where only version 1 answers and is not forbidden."""
    headers = (("x-aws-ec2-metadata-token-ttl-seconds", "21600"), ("Content-Length", "0"))
    request = Request("PUT", url + "/latest/api/token", headers)
    try:
        answer = _ask(lookup, request, "IMDS token", near=True)
        token = checked_key("IMDS's token", answer.decode("utf-8", "replace").strip())
        return (("x-aws-ec2-metadata-token", token),)
    except TransportError as error:
        if error.kind != "timeout" or not error.sent:
            raise
    except ClientError as error:
        if error.status == 403:
            raise CredentialsError("IMDS is disabled on this instance (HTTP 403)") from error
        if error.status not in (404, 405):
            raise
    if lookup.settings.get_flag("ec2_metadata_v1_disabled"):
        raise CredentialsError("IMDSv2 does not answer, and ec2_metadata_v1_disabled forbids v1")
    return ()


def _ask(
    lookup: Lookup, request: Request, operation: str, near: bool = False, secret: str = ""
) -> bytes:
    """The body of a service's 2xx answer, tried again as section 5 says.

    Raises TransportError, or ClientError without the `secret` and the hidden headers, which the
    service may echo. One that is `near` is asked through no proxy, and is there at once or never.
    """
    transport = lookup.direct if near else lookup.transport
    timeout = METADATA_TIMEOUT_SECONDS if near else SERVICE_TIMEOUT_SECONDS
    hidden = [value for name, value in request.headers if name.lower() in HIDDEN_HEADERS]
    retry = 0
    while True:
        try:
            response = transport(request, timeout=timeout)
            if 200 <= response.status < 300 and response.complete:
                return response.body
            fields = json_object(response.body) or xml_fields(response.body)
            raise client_error(response, without_secrets(fields, [secret, *hidden]), operation)
        except (ClientError, TransportError) as error:
            kind = retry_kind(error)
            absent = near and isinstance(error, TransportError) and not error.sent
            if kind is None or absent or retry == MAX_ATTEMPTS - 1:
                raise
        lookup.sleep(backoff(kind, retry, lookup.random()))
        retry += 1


ROLE_PARAMETERS = {
    # of AssumeRole: key in the profile
    "RoleArn": "role_arn",
    "RoleSessionName": "role_session_name",
    "ExternalId": "external_id",
    "DurationSeconds": "duration_seconds",
    "SerialNumber": "mfa_serial",
}
CREDENTIAL_SOURCES: dict[str, Callable[[Lookup], Credentials | None]] = {
    "Environment": _from_environment,
    "Ec2InstanceMetadata": _from_imds,
    "EcsContainer": _from_container,
}
PROFILE_PROVIDERS: tuple[Callable[[Lookup], Credentials | None], ...] = (
    _assumed_role, _web_identity, _sso, _static_keys, _process,
)  # fmt: skip
PROVIDERS: tuple[tuple[str, Callable[[Lookup], Credentials | None], str], ...] = (
    # name, provider, what it means when there is nothing
    ("environment", _from_environment, "there is no AWS_ACCESS_KEY_ID"),
    ("web identity", _web_identity, "there is no AWS_WEB_IDENTITY_TOKEN_FILE"),
    ("profile", _from_profile, "it has no role_arn, aws_access_key_id, sso_session or "
                               "credential_process"),
    ("container", _from_container, "no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI"),
    ("instance metadata", _from_imds, "AWS_EC2_METADATA_DISABLED is true, or nobody is at "
                                      "169.254.169.254, or the instance has no role"),
)  # fmt: skip


class RenewedCredentials:
    """Credentials loaded once, and again ahead of their end. Thread-safe, one load at a time."""

    def __init__(self, load: Callable[[], Credentials], clock: Callable[[], float]) -> None:
        self._load, self._clock = load, clock
        self.current: Credentials | None = None
        self._process, self._lock = os.getpid(), Lock()

    def get(self) -> Credentials:
        """The current credentials; raises what loading raises."""
        current = self.current
        if current is None or current.expires_at is None:
            return current or self._renew(current)
        left = current.expires_at - self._clock()
        is_renewed = self._lock.locked()  # by another thread
        if left > (MANDATORY_SECONDS if is_renewed else ADVISORY_SECONDS):
            return current
        try:
            return self._renew(current)
        except Exception:  # whatever a caller's function raises
            if left <= MANDATORY_SECONDS:
                raise
            return current

    def replace(self, refused: Credentials) -> bool:
        """Load anew what the service called expired; whether that made a difference."""
        return self._renew(refused) != refused

    def _renew(self, old: Credentials | None) -> Credentials:
        if self._process != os.getpid():  # a fork: the parent's thread never opens our copy
            self._process, self._lock = os.getpid(), Lock()
        with self._lock:
            if self.current is None or self.current == old:
                loaded = self._load()
                if not isinstance(loaded, Credentials):
                    kind = type(loaded).__name__
                    raise CredentialsError(f"credentials: got {kind} instead of Credentials")
                self.current = unexpired(loaded, self._clock)
            return self.current


# --- 10. The client ----------------------------------------------------------
# In: an operation's members. Out: what the service answered, as a plain dict. This is where the
# sections above are put together: serialize, sign, send, read, and decide whether to do it again.

DEBUG, WARNING = 10, 30  # logging's


class _Call:
    """What all attempts of one operation have in common.

    `sdk_headers` join those of the request, `read` makes the answer of a Response, `signing` are
    arguments of sign. No attempt begins or goes on after `deadline`. `sink` takes the body of a
    200 or 206.
    """

    def __init__(
        self, operation: str, request: Request, sdk_headers: Headers,
        read: Callable[[Response], dict[str, Any]], signing: Mapping[str, Any],
        deadline: float = NEVER, sink: _Download | None = None,
        retry_sent: bool = True, retry_throttled: bool = True,
    ) -> None:  # fmt: skip
        self.operation, self.request, self.sdk_headers = operation, request, sdk_headers
        self.read, self.signing, self.deadline = read, signing, deadline
        self.retry_sent, self.retry_throttled = retry_sent, retry_throttled
        self.skew = 0.0  # that the last attempt was signed with
        self.options: dict[str, Any] = {} if sink is None else {"sink": sink}  # of the transport


class RuntimeClient:
    """A client of SageMaker Runtime in one region. Thread-safe; a context manager.

    `credentials` is Credentials, or a callable that returns some. `verify` is a file of CA
    certificates, or False, which is unsafe. With `retry_sent=False` a request that was sent and
    got no answer, so that it may have been accepted, is not sent again. Raises
    ConfigurationError, CredentialsError. Opens no connection.
    """

    exceptions = sys.modules[__name__]  # has the error classes, as boto3's client.exceptions

    def __init__(
        self,
        region_name: str | None = None,
        *,
        profile_name: str | None = None,
        endpoint_url: str | None = None,
        credentials: Credentials | Callable[[], Credentials] | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        use_fips_endpoint: bool | None = None,
        use_dualstack_endpoint: bool | None = None,
        max_attempts: int | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout: float = READ_TIMEOUT_SECONDS,
        verify: str | bool | None = None,
        parameter_validation: bool = True,
        retry_sent: bool = True,
        transport: Transport | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_fraction,
        prompt: Callable[[str], str] = ask_on_terminal,
    ) -> None:
        self._settings = settings = Settings(
            environment(environ), profile_name, region=region_name, endpoint_url=endpoint_url,
            use_fips_endpoint=use_fips_endpoint, use_dualstack_endpoint=use_dualstack_endpoint,
            max_attempts=max_attempts, ca_bundle=None if verify is True else verify,
        )  # fmt: skip
        self._resolve(settings)
        self._clock, self._monotonic, self._sleep, self._random = clock, monotonic, sleep, random
        self._prompt, self._retry_sent, self._validate = prompt, retry_sent, parameter_validation
        keys = [aws_access_key_id, aws_secret_access_key, aws_session_token]
        self._credentials = RenewedCredentials(self._loader(_given(credentials, keys)), clock)
        self._transport, self._direct = transports(
            settings, transport,
            connect_timeout=connect_timeout, read_timeout=read_timeout, monotonic=monotonic,
        )  # fmt: skip

    def _resolve(self, settings: Settings) -> None:
        """Set what all calls share, but for credentials and connections."""
        self.sources, self._quota, self._skew = settings.sources, RetryQuota(), 0.0
        self.region_name = settings.get("region")
        self._signing = {"region": self.region_name, "service": SIGNING_NAME}
        self._bucket_regions: dict[str, str] = {}  # for Part III
        self.endpoint_url = settings.endpoint("sagemaker-runtime", self.region_name)
        self.max_attempts = settings.get_count("max_attempts", MAX_ATTEMPTS)
        self._user_agent = user_agent(settings.environ, settings.get("sdk_ua_app_id"))
        digits = os.urandom(10).hex()
        self._family = f"4{digits[:3]}-a{digits[3:6]}"  # of its calls; 4 and a: made by chance
        self._count = itertools.count(int(digits[9:], 16))
        self._in_lambda = bool(settings.environ.get("AWS_LAMBDA_FUNCTION_NAME"))

    def _loader(self, given: Callable[[], Credentials] | None) -> Callable[[], Credentials]:
        if given is None:
            return self._load_credentials
        self.sources["credentials"] = "argument"
        return given

    def _load_credentials(self) -> Credentials:
        """The first credentials in the chain, read afresh after the first time."""
        settings, source = self._settings, self.sources.get("credentials")
        if source:
            settings = settings.read_again()
        old = self._credentials.current if source == "instance metadata" else None
        credentials = first_in_chain(
            Lookup(
                settings, self.region_name, self._transport, self._direct, self._clock,
                self._sleep, self._random, self._prompt, old,
            )
        )  # fmt: skip
        self.sources["credentials"] = settings.sources["credentials"]
        return credentials

    def invoke_endpoint_async(
        self,
        *,
        EndpointName: str | None = None,
        InputLocation: str | None = None,
        Body: bytes | bytearray | memoryview | str | BinaryIO | None = None,
        ContentType: str | None = None,
        Accept: str | None = None,
        CustomAttributes: str | None = None,
        InferenceId: str | None = None,
        S3OutputPathExtension: str | None = None,
        Filename: str | None = None,
        RequestTTLSeconds: int | None = None,
        InvocationTimeoutSeconds: int | None = None,
        **unknown: Any,
    ) -> dict[str, Any]:
        """Enqueue one inference and return boto3's dict; the result will be at OutputLocation.

        ResponseMetadata has, beside boto3's RequestId, HTTPStatusCode, HTTPHeaders and
        RetryAttempts: ServerTime, ResponseAt (epoch seconds, the service's clock and ours),
        ClockSkew (seconds that the service is ahead, or None), and Attempts, one entry an attempt:
        Outcome, Seconds, Delay (seconds waited before the next). Raises ParamValidationError,
        CredentialsError, TransportError, ClientError.
        """
        members = dict(locals())
        del members["self"]
        members.update(members.pop("unknown"))
        return self._send(self._invocation(members))

    def explain(self, **members: Any) -> Signed:
        """What invoke_endpoint_async would send first; opens no connection to SageMaker."""
        call = self._invocation(members)
        return self._signed(call, self._credentials.get(), self._clock(), 1)

    def _invocation(self, members: Mapping[str, Any], invocation: str | None = None) -> _Call:
        request = serialize(members, self.endpoint_url, parameter_validation=self._validate)
        headers, retry_sent = self._sdk_headers(invocation), self._retry_sent
        return _Call(
            OPERATION, request, headers, deserialize, self._signing, retry_sent=retry_sent
        )

    def _send(self, call: _Call) -> dict[str, Any]:
        """Send, and send again as section 5 decides, until there is an answer or a final error."""
        attempts: list[dict[str, Any]] = []
        cost = 0
        while True:
            credentials = self._credentials.get()
            try:
                answer = self._attempt(call, credentials, attempts)
            except (ClientError, TransportError) as error:
                kind = self._retry_kind(call, error, credentials, attempts)
                if kind is None:
                    raise
                cost, delay = RETRIES[kind][1], self._delay(kind, error, attempts)
                if self._monotonic() + delay >= call.deadline:
                    raise
                self._sleep(delay)
            else:
                self._quota.refund(cost)
                return answer

    def _attempt(
        self, call: _Call, credentials: Credentials, attempts: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Sign, send and read once; adds to `attempts` how it went."""
        log, started, sent_at = logger(), self._monotonic(), self._clock()
        signed = self._signed(call, credentials, sent_at, len(attempts) + 1)
        if log:
            canonical = masked(signed.canonical_request, HIDDEN_HEADERS)
            operation = f"{SERVICE_IDS[call.signing['service']]}, {call.operation}"
            working = f"{canonical}\n{signed.string_to_sign}"
            log.debug("%s signed:\n%s\n%r", operation, working, signed.request)
        entry: dict[str, Any] = {"Outcome": "", "Seconds": 0.0, "Delay": 0.0}
        attempts.append(entry)
        metadata: dict[str, Any] = {"RetryAttempts": len(attempts) - 1, "Attempts": attempts}
        try:
            if call.deadline < NEVER:
                call.options["timeout"] = max(call.deadline - self._monotonic(), 0.001)
            response = self._transport(signed.request, **call.options)
            received_at = self._clock()
            if log:
                headers = without_secrets(response.headers, secrets_in(credentials))
                log.debug("answer: %r %s", response, shown_headers(headers))
            if not 200 <= response.status < 300:
                raise _refusal(call, response, credentials, signed.canonical_request)
            answer = call.read(response)
        except ClientError as error:
            entry["Outcome"] = error.code
            metadata.update(self._timing(error.metadata["HTTPHeaders"], sent_at, received_at))
            error.metadata.update(metadata)
            raise
        except TransportError as error:
            entry["Outcome"], error.metadata = error.kind, metadata
            error.args = (without_secrets(str(error), secrets_in(credentials)),)
            raise
        finally:
            entry["Seconds"] = self._monotonic() - started
        entry["Outcome"] = str(response.status)
        known = answer["ResponseMetadata"]
        known.update(metadata, **self._timing(known["HTTPHeaders"], sent_at, received_at))
        return answer

    def _sdk_headers(self, invocation: str | None = None) -> Headers:
        """What all attempts of a call have beside what says what is wanted.

        The invocation's id is a UUID that no other call has, nor one of a process that is a copy
        of this one: time, process, family and count. To ask the system for random bytes each time
        would let go of the interpreter's lock, for which many threads may be waiting.
        """
        time, process = int(self._clock() * 1e6) & 0xFFFFFFFF, os.getpid() & 0xFFFF
        own = f"{time:08x}-{process:04x}-{self._family}-{next(self._count):012x}"
        trace = trace_header(self._settings.environ) if self._in_lambda else ()
        return (
            ("amz-sdk-invocation-id", invocation or own), ("User-Agent", self._user_agent), *trace,
        )  # fmt: skip

    def _signed(self, call: _Call, credentials: Credentials, now: float, attempt: int) -> Signed:
        """One attempt's request, signed for the time that the service has."""
        request = call.request
        counted = ("amz-sdk-request", f"attempt={attempt}; max={self.max_attempts}")
        headers = (*request.headers, *call.sdk_headers, counted)
        request = Request(request.method, request.url, headers, request.body)
        call.skew = self._skew
        return sign(request, credentials, timestamp=amz_date(int(now + call.skew)), **call.signing)

    def _timing(
        self, headers: Mapping[str, str], sent_at: float, received_at: float
    ) -> dict[str, float | None]:
        """What the answer says about the clocks; the next signature uses it."""
        skew = clock_skew(headers, sent_at, received_at)
        if skew is not None:
            self._skew = skew
        server_time = http_date(headers.get("date"))
        return {"ServerTime": server_time, "ResponseAt": received_at, "ClockSkew": skew}

    def _retry_kind(
        self, call: _Call, error: ClientError | TransportError, credentials: Credentials,
        attempts: list[dict[str, Any]],
    ) -> str | None:  # fmt: skip
        """The row of RETRIES to go by; None when the error, the attempts or the quota say no.

        Credentials that expired are renewed, once in a call, and then tried. A clock that is
        found wrong again in the same call is paid for.
        """
        skew = error.metadata.get("ClockSkew")
        off = None if skew is None else skew - call.skew
        kind = retry_kind(error, skew=off, retry_sent=call.retry_sent)
        if kind == "throttle" and not call.retry_throttled:
            return None
        may = len(attempts) < self.max_attempts
        *before, code = [entry["Outcome"] for entry in attempts]
        if kind == "corrected" and not SKEW_CODES.isdisjoint(before):
            kind = "transient"
        if code in EXPIRED_CODES and EXPIRED_CODES.isdisjoint(before):
            kind = "corrected" if self._renewed(credentials) else kind
        spent = kind is not None and may and self._quota.spend(RETRIES[kind][1])
        if kind and not spent and isinstance(error, ClientError):
            error.metadata["RetryQuotaReached" if may else "MaxAttemptsReached"] = True
        return kind if spent else None

    def _renewed(self, refused: Credentials) -> bool:
        """Whether there are other credentials than those that the service called expired."""
        try:
            return self._credentials.replace(refused)
        except Exception as failure:  # what the service said is the better error to raise
            log = logger()
            if log:
                log.debug("no other credentials: %s", type(failure).__name__)
            return False

    def _delay(
        self, kind: str, error: ClientError | TransportError, attempts: list[dict[str, Any]]
    ) -> float:
        """Seconds to wait before the next attempt; noted with the last one."""
        retry_after = error.metadata.get("HTTPHeaders", {}).get("x-amz-retry-after")
        delay = backoff(kind, len(attempts) - 1, self._random(), retry_after)
        attempts[-1]["Delay"] = delay
        log = logger()
        if log:
            outcome = attempts[-1]["Outcome"]
            log.debug("attempt %d: %s, %s; next in %.3f s", len(attempts), outcome, kind, delay)
        return delay

    def close(self) -> None:
        """Close the connections that are kept; the client stays usable."""
        close_all((self._transport, self._direct))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _given(
    credentials: Credentials | Callable[[], Credentials] | None, keys: list[str | None]
) -> Callable[[], Credentials] | None:
    """A function that returns the credentials passed to Client, if any were."""
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    if credentials is not None and any(keys):
        raise ConfigurationError("give either credentials or the three aws_… keys, not both")
    given = credentials or _key_pair(dict(zip(names, keys)), names, "the call")
    if given is None and any(keys):
        raise CredentialsError("the call has aws_session_token but no key pair; add that")
    return given if given is None or callable(given) else lambda: given


def trace_header(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """X-Amzn-Trace-Id, by which Lambda notices functions that call each other without end."""
    from urllib.parse import quote

    trace = quote(environ.get("_X_AMZN_TRACE_ID") or "", errors="replace", safe="-=;:+&[]{}\"',")
    return [("X-Amzn-Trace-Id", trace)] if trace else []


def user_agent(environ: Mapping[str, str], app_id: str | None) -> str:
    """Who calls, as AWS's SDKs write it: name#value, anything unusual in a value becoming "-"."""
    version = ".".join(map(str, sys.version_info[:3]))
    facts = [("os", sys.platform), ("lang", f"python#{version}")]
    facts += [("md", f"impl#{sys.implementation.name}"), ("api", "sagemakerruntime")]
    facts += [("exec-env", environ.get("AWS_EXECUTION_ENV") or ""), ("app", app_id or "")]
    usual = frozenset("!#$%&'*+-.^_`|~")
    plain = [
        (name, "".join(c if c in usual or (c.isascii() and c.isalnum()) else "-" for c in text))
        for name, text in facts
    ]
    return f"smasync/{__version__} ua/2.1" + "".join(f" {n}/{text}" for n, text in plain if text)


def logger(level: int = DEBUG) -> Logger | None:
    """The logger "smasync" while it takes what has that level; logging is not imported for it."""
    logging = sys.modules.get("logging")
    found: Logger | None = logging.getLogger("smasync") if logging else None
    return found if found and found.isEnabledFor(level) else None


def _refusal(
    call: _Call, response: Response, credentials: Credentials, canonical: str
) -> ClientError:
    """The error that the call reads in the response, less secrets; `canonical` is for a hint.

    It does not quote sensitive members either, as do AWS's words about a signature.
    """
    secrets = secrets_in(credentials)
    body = without_secrets(response.body.decode("latin-1"), secrets).encode("latin-1")
    try:
        call.read(Response(response.status, response.headers, body, response.complete))
    except ClientError as refusal:
        kind, evidence = type(refusal), without_secrets(refusal.response, secrets)
    hint = mismatch(evidence["Error"], without_secrets(canonical, secrets))
    for part in (evidence, evidence["Error"]):
        for name in {"Message", "CanonicalRequest"}.intersection(part):
            part[name] = without_sensitive(part[name], call.request)
    return kind(
        evidence["Error"]["Message"], response=evidence, operation_name=call.operation,
        hint=hint or HINTS.get(evidence["Error"]["Code"], ""),
    )  # fmt: skip


def without_sensitive(words: str, request: Request) -> Any:
    """The same without the request's sensitive members: in canonical form, in quotes, or bare."""
    texts = [text for name, text in request.headers if name.lower() in HIDDEN_HEADERS]
    if isinstance(request.body, bytes) and request.body:
        texts.append(request.body.decode("utf-8", "replace"))
    for text in texts:
        words = words.replace(f"'{text}'", "<hidden>").replace(f'"{text}"', "<hidden>")
    return without_secrets(masked(words, HIDDEN_HEADERS), texts)


def secrets_in(credentials: Credentials) -> tuple[str, ...]:
    """What nobody else may see."""
    return credentials.secret_access_key, credentials.session_token or ""


def without_secrets(value: Any, secrets: Iterable[str]) -> Any:
    """The text, or what has texts in it, less the caller's own secrets: some services echo them.

    Real ones have 16 characters and more; a short one would be found all over the text.
    """
    if isinstance(value, dict):
        return {name: without_secrets(item, secrets) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(without_secrets(item, secrets) for item in value)
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "<hidden>") if len(secret) >= 16 else value
    return value


LAMBDA_MARGIN_SECONDS = 1.0  # of a function's time, to report an error in
# The client of lambda_handler, which later invocations find again.
_lambda_client: RuntimeClient | None = None


def lambda_handler(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:
    """A Lambda function's handler: the event is the members; returns what the operation does.

    Body is base64 when it is a string, and is sent as JSON when it is an object or an array.
    Region, credentials and all else come from the function's environment. A second before the
    function's time is over the call ends with an error; when less than two are left, half-way.
    """
    global _lambda_client
    _lambda_client = client = _lambda_client or RuntimeClient()
    call = client._invocation(members_in(event))
    if hasattr(context, "get_remaining_time_in_millis"):
        left = context.get_remaining_time_in_millis() / 1000
        call.deadline = client._monotonic() + max(left - LAMBDA_MARGIN_SECONDS, left / 2)
    return client._send(call)


def members_in(document: object) -> dict[str, Any]:
    """The members in what was JSON. Body is base64 when it is a string, else JSON to be sent."""
    if not isinstance(document, dict):
        raise ParamValidationError("the members are not a JSON object of names and values")
    members, body = dict(document), document.get("Body")
    if isinstance(body, str):
        members["Body"] = from_base64(body)
    elif isinstance(body, (dict, list)):
        import json

        try:
            members["Body"] = json.dumps(body, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise ParamValidationError(f"Body: cannot be sent as JSON: {error}") from None
    return members


def from_base64(text: str) -> bytes:
    """The bytes; raises ParamValidationError."""
    from base64 import b64decode

    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise ParamValidationError(
            "Body: is not base64; encode it, or in JSON give an object or array, on the command "
            "line fileb://path, or --cli-binary-format raw-in-base64-out beside it"
        ) from None


# === PART III: THE WHOLE JOB =================================================
__all__ += ["Client", "Result", "Outcome"]

# --- 11. Input and result ----------------------------------------------------
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
        SSEKMSKeyId: str | None = None,
    ) -> str:
        """Put an input into S3 and return its location, which is for InputLocation.

        `data` is bytes, a file's path, or a seekable binary file, sent from where it stands; files
        are read twice and never held in memory, at most 5 GiB. What was at the location is
        replaced. Body takes up to 128,000 bytes without S3; all that is larger goes this way.
        Raises ParamValidationError, CredentialsError, TransportError, ClientError.
        """
        bucket, key = parse_location(location)
        location = f"s3://{bucket}/{key}"
        headers = upload_headers(location, ContentType, SSEKMSKeyId)
        upload: Any = _Upload(data)
        headers += (("Content-Length", str(upload.size)),)
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
        return _Many(self, requests, concurrency).outcomes()

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
            signing, added = {**S3_SIGNING, **where}, self._sdk_headers()
            return self._send(_Call(operation, request, added, s3_answer, signing, **options))

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
                if download.begun or not is_absent(error):
                    raise
                return error
            download.take(answer, had)
            if download.complete or download.count - had >= MAX_BODY_BYTES:
                broken = 0
                continue
            broken += 1
            over = broken >= self.max_attempts or self._monotonic() >= deadline
            if over or not self._quota.spend(RETRIES["transient"][1]):
                so_far = f"broken off again and again, at byte {download.count} of {download.size}"
                raise TransportError(f"{location}: {so_far}; try later", kind="closed")
            self._sleep(backoff("transient", broken - 1, self._random()))
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
        started = self._monotonic()
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
            waited = self._monotonic() - started
            left = timeout - LAST_LOOK_SECONDS - waited
            if left <= 0:
                break
            self._sleep(min(polling_delay(waited, self._random()), left))
        if trouble and (download.begun or trouble.metadata.get("HTTPStatusCode") == 403):
            raise trouble
        said = f" (the last look failed: {trouble})" if trouble else ""
        said = f"nothing at {places[0]} after {waited:.1f} s{said}: queued, or still running; "
        said += "wait longer, or look again later"
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
        return error.code == "AccessDenied"
    return error.status == 404 and error.code != "NoSuchBucket"


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


def upload_headers(location: str, content_type: str | None, kms_key: str | None) -> Headers:
    """The headers of an upload; raises ParamValidationError, also for no InputLocation."""
    given = {"InputLocation": location, "ContentType": content_type or None}
    for name, text in (("ContentType", content_type), ("SSEKMSKeyId", kms_key)):
        if not isinstance(text or "", str):
            raise ParamValidationError(f"{name}: expected str, got {type(text).__name__}")
    for name, value in given.items():
        try:
            if value:
                check_limits(MEMBERS[name], checked_text(MEMBERS[name], value))
        except ValueError as error:
            raise ParamValidationError(f"{name}: {error}") from None
    if kms_key and not _is_visible(kms_key):
        raise ParamValidationError("SSEKMSKeyId: has a space or a character that is not ASCII")
    headers: Headers = (("Content-Type", content_type),) if content_type else ()
    if kms_key:
        headers += (("x-amz-server-side-encryption", "aws:kms"),)
        headers += (("x-amz-server-side-encryption-aws-kms-key-id", kms_key),)
    return headers


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


# --- 12. Many ----------------------------------------------------------------
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


class _Many:
    """One invoke_many: whoever reads the outcomes feeds the workers, who take what comes next."""

    def __init__(self, client: Client, requests: Iterable[Any], concurrency: int) -> None:
        from queue import SimpleQueue

        if type(concurrency) is not int or not 1 <= concurrency <= 1000:
            raise ParamValidationError(f"concurrency: {concurrency!r} is not within 1 to 1000")
        self.client, self.requests, self.concurrency = client, enumerate(requests), concurrency
        self.ended = self.left = False
        self.workers: list[Thread] = []
        self.under_way = 0  # requests that were read, and whose outcomes were not handed out
        self.kept = 0  # outcomes that were, and that a crash would lose; for their owner to count
        self.failure: BaseException | None = None  # ends the requests; raised after all outcomes
        self.to_do: SimpleQueue[tuple[int, Mapping[str, Any]] | None] = SimpleQueue()
        self.done: SimpleQueue[Outcome | BaseException] = SimpleQueue()

    def outcomes(self) -> Iterator[Outcome]:
        """Hand out what the workers did, until all is done; they have ended when this ends."""
        from threading import current_thread

        try:
            while self.feed():
                outcome = self.done.get()
                self.under_way -= 1
                if isinstance(outcome, Outcome):
                    yield outcome
                else:
                    self.failure, self.ended = outcome, True
        finally:
            self.left = True
            for _ in self.workers:
                self.to_do.put(None)
            own = current_thread() in self.workers  # collecting garbage
            for worker in self.workers:  # when the interpreter ends, none goes on any more
                if worker.ident and not own and not sys.is_finalizing():
                    worker.join()
        if self.failure:
            raise self.failure

    def feed(self) -> int:
        """Read one request, and more until something is done; returns how many are under way."""
        while not self.ended and self.under_way + self.kept < 2 * self.concurrency:
            try:
                request = next(self.requests, None)
            except Exception as failure:
                request, self.failure = None, failure
            if request is None:
                self.ended = True  # not to be asked again: some iterators would wait for ever
                break
            self.to_do.put(request)
            self.under_way += 1
            if len(self.workers) < self.concurrency:
                self.hire()
            if not self.done.empty():
                break
        return self.under_way

    def hire(self) -> None:
        """Start one more worker, or do with those that there are when the system has no more."""
        from threading import Thread

        self.workers.append(Thread(target=self.work, daemon=True))
        try:
            self.workers[-1].start()
        except RuntimeError:
            self.workers.pop()
            if not self.workers:
                raise

    def work(self) -> None:
        for index, request in iter(self.to_do.get, None):
            if self.left:
                break
            self.done.put(self.outcome(index, request))

    def outcome(self, index: int, request: Mapping[str, Any]) -> Outcome | BaseException:
        try:
            if not hasattr(request, "keys"):
                kind = type(request).__name__
                raise ParamValidationError(f"request {index}: expected a mapping, got {kind}")
            return Outcome(index, request, self.answer(request), None)
        except Exception as error:  # whatever it is, it is this request's
            return Outcome(index, request, None, error)
        except BaseException as failure:  # what ends a thread is raised where outcomes are read
            return failure

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request, which backs off by itself while the service throttles it."""
        client, call = self.client, self.client._invocation(request)
        call.retry_throttled = False
        retry = 0
        while True:
            try:
                return client._send(call)
            except ClientError as error:
                if retry_kind(error) != "throttle" or retry == THROTTLED_TRIES - 1:
                    raise
                retry_after = error.metadata["HTTPHeaders"].get("x-amz-retry-after")
                self.pause(backoff("throttle", retry, client._random(), retry_after))
                if self.left:
                    raise  # nobody reads this outcome any more
            retry += 1

    def pause(self, seconds: float) -> None:
        """Sleep, in naps: whoever leaves the loop does not wait for the whole pause."""
        while seconds > 0 and not self.left:
            self.client._sleep(min(seconds, NAP_SECONDS))
            seconds -= NAP_SECONDS


# === PART IV: THE COMMAND LINE ===============================================
__all__ += ["main"]

# --- 13. Command line --------------------------------------------------------
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
        answer = client._send(client._invocation(_members(options)))
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
    kind, key = options.content_type, options.sse_kms_key_id
    with _client(options, asks_s3_alone=True) as client:
        print(client.put_input(options.file, options.location, ContentType=kind, SSEKMSKeyId=key))


def _run_explain(options: Namespace) -> None:
    if options.example:
        clock, keys = (lambda: EXAMPLE_TIME), EXAMPLE_CREDENTIALS
        client = Client(options.region or "us-east-1", credentials=keys, environ={}, clock=clock)
        client._user_agent = f"smasync/{__version__}"  # less what differs between machines
        call = client._invocation(_members(options), EXAMPLE_INVOCATION_ID)
        print(explanation(client._signed(call, keys, EXAMPLE_TIME, 1)))
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
        "location", {"help": "s3://bucket/key"}), ("--content-type", {}), ("--sse-kms-key-id", {}),
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
        return content if scheme == "fileb" else content.decode()
    except UnicodeDecodeError:
        raise ParamValidationError(f"{text}: is not UTF-8 text; is fileb:// meant?") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", error)
        raise ParamValidationError(f"{path}: cannot be read: {why}") from None


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
    host, path, query = split_url(request.url)
    target = f"{path}?{query}" if query else path
    start = head(request.method, target, request.headers, host).decode().replace("\r\n", "\n")
    body = "" if request.body == b"" else (shown_body(request.body) or "<the body>")
    return (start + body).rstrip("\n")


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


# --- 14. Bulk ----------------------------------------------------------------
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
        from threading import current_thread, main_thread

        def stop(*_: object) -> None:
            self.stopped = self.stopped or "interrupted"
            signal(SIGINT, SIG_DFL)  # so that a second one ends the program

        heeded = getsignal(SIGINT) is default_int_handler and current_thread() is main_thread()
        if heeded:
            signal(SIGINT, stop)
        try:
            many = _Many(client, self.to_send(), self.options.concurrency)
            for outcome in many.outcomes():
                self.record(outcome)
                many.kept += 1
                if many.done.empty():
                    self.write()  # all that is done in one go: 1.08 times the lines a second
                    many.kept = 0
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
