#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 the smasync authors
"""smasync 1.0.0: Amazon SageMaker's InvokeEndpointAsync in one file of standard-library Python.

Signature Version 4, restJson1 and a urllib transport, to be vendored, to be copied into a Lambda
layer, and to be read from top to bottom. It needs Python 3.9 or newer, and nothing else.

To check a copy, run `python3 -m doctest smasync.py`, and compare its SHA-256 with the one in the
project's README.md. The licence is MIT: https://opensource.org/license/mit

    import smasync

    with smasync.Client("us-east-1") as sagemaker:
        location = sagemaker.put_input("in.json", "s3://my-bucket/in.json")
        accepted = sagemaker.invoke_endpoint_async(
            EndpointName="my-endpoint", InputLocation=location
        )
        print(sagemaker.wait(accepted).body)

Each of the four parts uses only those above it, so you can cut the file before any part:
Part I is a signer and serializer, Part II makes it a client, Part III does the whole job.

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

Part I reads no clock, environment, file, socket or random number, so you can try every line of it
at a Python prompt. To learn how a request is signed, read section 2 and run

    python3 smasync.py explain --example --endpoint-name my-endpoint \\
        --input-location s3://my-bucket/in.json

which prints each value of one signature, in the order of its computation. In Parts II to IV
`environ`, `transport`, `clock`, `monotonic`, `sleep` and `random` are parameters, for tests.

What it leaves out: SageMaker's other operations, SigV4a, event streams, adaptive retries, login.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections import namedtuple
from functools import cached_property, lru_cache
from threading import Lock

# Slow imports are inside the functions that use them: urllib.request 45 ms,
# http.client 30, argparse 15, typing 9, json 7, re 6, hashlib 4. Type names are for type checkers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import http.client
    import socket
    import ssl
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from logging import Logger
    from typing import Any, BinaryIO, Self, Union

    Headers = tuple[tuple[str, str], ...]
    RequestBody = Union[bytes, Callable[[], BinaryIO]]
    Profiles = dict[str, dict[str, str]]
    Provider = Callable[[Any], Union["Credentials", None]]
    Environ = Mapping[str, str]
    Clock = Callable[[], float]
    Transport = Callable[..., "Response"]


__version__ = "1.0.0"

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
# What the sections pass to each other: an HTTP request, its answer, credentials, and a signed
# request with its working. None of them can be changed; signing a request makes a new one. Each
# repr is fit for logs: it shows no secret, token, signature or body.


class Request(namedtuple("Request", "method url headers body", defaults=[b""])):
    """An HTTP request, before or after it is signed.

    `url` is as it goes over the wire, percent-encoded once. `headers` is a tuple of (name, value)
    pairs, sent in this order. `body` is bytes, or a function that opens it anew as a binary file.

    >>> Request("PUT", "https://a.example/?x=1", (("Authorization", "AWS4 ..."),), b"[]")
    <Request PUT https://a.example/?…, 1 headers, body: 2 bytes>
    """

    __slots__ = ()
    method: str
    url: str
    headers: Headers
    body: RequestBody

    def __repr__(self) -> str:
        body = f"{len(self.body)} bytes" if isinstance(self.body, bytes) else "a stream"
        url = self.url.partition("?")[0] + ("?…" if "?" in self.url else "")
        return f"<Request {self.method} {url}, {len(self.headers)} headers, body: {body}>"


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
        self, access_key_id: str, secret_access_key: str, session_token: str | None = None,
        expires_at: float | None = None, account_id: str | None = None,
    ) -> None:  # fmt: skip
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
        raise CredentialsError(f"{name} is missing, or is not text")
    if not is_visible(text):
        raise CredentialsError(
            f"{name} has a character that no key has; look for a copied line break or space"
        )
    return text


def is_visible(text: str) -> bool:
    """Whether the text is ASCII without spaces and control characters."""
    return text.isascii() and text.isprintable() and " " not in text


def printable(text: str) -> str:
    """The text with "?" for control characters."""
    return "".join([c if c.isprintable() or c == "\n" else "?" for c in text])


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
# Both sides know the secret; only its id and a signature travel. The service puts the request that
# it received into the same canonical form, signs it, and compares: if anything signed differs, or
# the time is minutes off, it answers 403. sign() is the algorithm; the functions below are its
# steps, as AWS numbers them.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes
# Not signed, and neither is proxy-*: proxies and HTTP libraries add, change or drop these.
UNSIGNED_HEADERS = frozenset(
    "authorization user-agent x-amzn-trace-id connection expect transfer-encoding accept-encoding "
    "te trailer upgrade keep-alive baggage traceparent tracestate".split()
)


def sign(
    request: Request, credentials: Credentials, *,
    region: str, service: str, timestamp: str,
    double_encode: bool = True, normalize_path: bool = True, sign_body: bool = False,
    sign_session_token: bool = True, payload_hash: str | None = None,
) -> Signed:  # fmt: skip
    """The request with X-Amz-Date, Authorization and, where needed, a session token and Host.

    `timestamp` is "20150830T123600Z", in UTC. The canonical request ends in the body's hash, or
    in `payload_hash` (hex, or "UNSIGNED-PAYLOAD"); `sign_body` also sends that as a header. S3
    wants `sign_body=True, double_encode=False, normalize_path=False`.
    `sign_session_token=False` adds the token after signing, as a few services want it.
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
    """The request's headers, less an earlier sign()'s three, and the `added` ones."""
    names = [name.lower() for name, _ in request.headers]
    replaced = {"authorization", "x-amz-date", "x-amz-security-token"}
    replaced.update([name.lower() for name, _ in added])
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
    if host.endswith(default_port):
        host = host[: -len(default_port)]
    return host, "/" + path, query


def canonical_request(
    method: str, url: str, headers: Iterable[tuple[str, str]], payload_hash: str, *,
    double_encode: bool = True, normalize_path: bool = True,
) -> str:  # fmt: skip
    """Step 1: method, path, query, headers, an empty line, their names, the payload's hash.

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

    Only S3 signs the path as it is on the wire: it is an object's name, dots included.

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
    """The non-empty parts, encoded anew, sorted by name and then by value.

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

    Most calls repeat the same path, so the last 64 results are cached, with presign's session
    tokens among them.

    >>> uri_encode("a b/ü~%!'()*")
    'a%20b%2F%C3%BC~%25%21%27%28%29%2A'
    """
    from urllib.parse import quote

    return quote(text, safe)


def credential_scope(timestamp: str, region: str, service: str) -> str:
    """For step 3: the day, the region and the service that the signing key is for.

    Raises ParamValidationError for another form of `timestamp`, and ConfigurationError for text
    that cannot be a region (section 6).

    >>> credential_scope("20150830T123600Z", "us-east-1", "sagemaker")
    '20150830/us-east-1/sagemaker/aws4_request'
    """
    day, clock = timestamp[:8], timestamp[9:15]
    digits = day + clock
    if timestamp != f"{day}T{clock}Z" or not (digits.isascii() and digits.isdigit()):
        raise ParamValidationError(f"timestamp: {timestamp!r} is not like '20150830T123600Z'")
    return f"{day}/{check_region(region)}/{service}/aws4_request"


def string_to_sign(timestamp: str, scope: str, canonical: str) -> str:
    """Steps 2 and 3: four lines, the last of which is the SHA-256 of the canonical request.

    >>> print(string_to_sign("20150830T123600Z", "20150830/us-east-1/sagemaker/aws4_request", ""))
    AWS4-HMAC-SHA256
    20150830T123600Z
    20150830/us-east-1/sagemaker/aws4_request
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    """
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{sha256_of(canonical.encode())}"


@lru_cache(maxsize=8)
def signing_key(secret_access_key: str, scope: str) -> bytes:
    """Step 4: the key for one day, region and service; it signs for no other.

    It stays the same all day, so the last eight keys are cached, with their secrets and scopes.
    signing_key.cache_clear() forgets them.

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
    """Step 5, and each round of step 4: the 32 bytes of HMAC with SHA-256 (RFC 2104)."""
    import hmac

    return hmac.new(key, text.encode(), "sha256").digest()


def presign(
    request: Request, credentials: Credentials, *,
    region: str, service: str, timestamp: str, expires: int,
    double_encode: bool = True, normalize_path: bool = True,
    sign_session_token: bool = True, payload_hash: str | None = None,
) -> Signed:  # fmt: skip
    """Like sign, but with the signature in the query: `.request.url` is the result.

    Anybody who has the URL, and sends the signed headers with it, can make the request for
    `expires` seconds (1 to 604800, a week) from `timestamp` on. S3 wants
    `payload_hash="UNSIGNED-PAYLOAD", double_encode=False, normalize_path=False`.
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
    late = [] if sign_session_token else token
    url = with_query(url, [*late, ("X-Amz-Signature", signature)])
    signed = request._replace(url=url, headers=tuple(headers))
    return Signed(signed, canonical, to_sign, signature)


def with_query(url: str, parameters: list[tuple[str, str]]) -> str:
    """The URL with more parameters in its query."""
    url = url.partition("#")[0]
    query = "&".join(f"{name}={uri_encode(value)}" for name, value in parameters)
    return f"{url}{'&' if '?' in url else '?'}{query}"


# --- 3. The operation --------------------------------------------------------
# In: a call's members (parameters). Out: an unsigned request, or one ParamValidationError that
# lists every problem. One table maps the members to the wire. To add a member, add a row here and
# a keyword to RuntimeClient.invoke_endpoint_async. The rules are those of AWS's model for
# SageMaker Runtime (API version 2017-05-13); its protocol is restJson1:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointAsync.html
# https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html

SERVICE_IDS = {"sagemaker": "SageMaker Runtime", "s3": "S3", "sts": "STS"}
SIGNING_NAME = "sagemaker"
OPERATION = "InvokeEndpointAsync"

# `place` is "label" (in the URI), "payload" (the body) or a header's name. The limits apply to a
# string's characters, a blob's bytes, an integer's value; `pattern` to the whole text.
Member = namedtuple("Member", "name place type minimum maximum pattern", defaults=[""])
# fmt: off
INVOKE_ENDPOINT_ASYNC = (
    Member("EndpointName", "label", "string", 1, 63, r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"),
    Member("Body", "payload", "blob", 1, 128_000),
    Member("InputLocation", "X-Amzn-SageMaker-InputLocation", "string", 1, 1024, r"(https|s3)://[^/]+(/.*)?"),
    Member("ContentType", "X-Amzn-SageMaker-Content-Type", "string", 0, 1024),
    Member("Accept", "X-Amzn-SageMaker-Accept", "string", 0, 1024),
    Member("CustomAttributes", "X-Amzn-SageMaker-Custom-Attributes", "string", 0, 1024),
    Member("InferenceId", "X-Amzn-SageMaker-Inference-Id", "string", 1, 64, r"[!-~][ -~]*"),
    Member("S3OutputPathExtension", "X-Amzn-SageMaker-S3OutputPathExtension", "string", 1, 512,
           r"[a-zA-Z0-9!_.*'()/-]+"),
    Member("Filename", "X-Amzn-SageMaker-Filename", "string", 1, 32,
           r"[a-zA-Z0-9][a-zA-Z0-9_-]*(\.[a-zA-Z0-9_-]*)?"),
    Member("RequestTTLSeconds", "X-Amzn-SageMaker-RequestTTLSeconds", "integer", 60, 21_600),
    Member("InvocationTimeoutSeconds", "X-Amzn-SageMaker-InvocationTimeoutSeconds", "integer", 1, 3600),
)
TYPES: dict[str, Any] = {
    # type: what may be given, the unit of its limits
    "string": ((str,), " characters"),
    "integer": ((int,), ""),
    "blob": ((bytes, bytearray, memoryview, str), " bytes"),
}
UNSENDABLE = {
    # what cannot be sent unchanged, what can; all others: printable ASCII
    "EndpointName": (r"[\0-\x1f\x7f\ud800-\udfff/]|\A\.{0,2}\Z", "no / or control character, nor . or .."),
    "InputLocation": (r"[\0-\x1f\x7f\ud800-\udfff]|\A | \Z", "no control character, no space at an end"),
}
# fmt: on
MEMBERS = {member.name: member for member in INVOKE_ENDPOINT_ASYNC}


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
    texts = {MEMBERS[name].place: str(value).strip(" ") for name, value in values.items()}
    headers = [(name, text) for name, text in texts.items() if text]
    if body:
        headers.append(("Content-Type", "application/octet-stream"))
    headers.append(("Content-Length", str(len(body))))
    url = f"{endpoint_url.rstrip('/')}/endpoints/{uri_encode(endpoint_name)}/async-invocations"
    return Request("POST", url, tuple(headers), body)


def validated(params: Mapping[str, Any], limits: bool) -> dict[str, Any]:
    """The members to send, each as str, int or bytes; raises one error with every problem."""
    given = {name: value for name, value in params.items() if value is not None}
    values, problems = {}, []
    for name, value in given.items():
        try:
            values[name] = sendable_value(name, value, limits)
        except (TypeError, ValueError) as error:
            problems.append(f"{name}: {error}")
    if "EndpointName" not in given:
        problems.append("EndpointName: is required; give the endpoint's name")
    if limits and ("Body" in given) == ("InputLocation" in given):
        which = "both were given" if "Body" in given else "neither was given"
        problems.append(f"Body, InputLocation: exactly one of the two is required; {which}")
    if problems:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise ParamValidationError(f"Parameter validation failed:{listed}", problems=problems)
    return values


def sendable_value(name: str, value: Any, limits: bool) -> Any:
    """The value as str, int or bytes; raises TypeError or ValueError if it cannot be sent.

    A binary file given as Body is read here; with `limits`, to one byte beyond the maximum.
    """
    if name not in MEMBERS:
        import difflib

        close = difflib.get_close_matches(str(name), MEMBERS, 1)
        advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(MEMBERS)}"
        raise ValueError(f"unknown member; {advice}")
    member = MEMBERS[name]
    kinds, _ = TYPES[member.type]
    if member.type == "blob" and hasattr(value, "read"):
        value = read_blob(value, member.maximum + 1) if limits else value.read()
    if type(value) is bool or not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"expected {names}, got {type(value).__name__}")
    if member.type == "string":
        value = str.__str__(value)  # the text itself, for an Enum that is a str too
    elif member.type == "integer":
        value = int(value)
    else:
        value = value.encode() if isinstance(value, str) else bytes(value)
    check_value(member, value, limits)
    return value


def read_blob(file: BinaryIO, limit: int) -> bytes:
    """At most `limit` bytes of a file, which may return them in small pieces."""
    content = b""
    while len(content) < limit:
        piece = file.read(limit - len(content))
        if not isinstance(piece, bytes):
            raise TypeError("the file is not open in binary mode; open it with 'rb'")
        if not piece:
            break
        content += piece
    return content


def check_value(member: Member, value: Any, limits: bool) -> None:
    """Raise ValueError for what cannot be sent and, with `limits`, what the model forbids."""
    import re

    unsendable, allowed = UNSENDABLE.get(member.name, (r"[^ -~]", "printable ASCII"))
    found = re.search(unsendable, value) if member.type == "string" else None
    if found:
        raise ValueError(f"position {found.start()} cannot be sent; it takes {allowed}")
    if not limits:
        return
    size = value if isinstance(value, int) else len(value)
    if not member.minimum <= size <= member.maximum:
        _, unit = TYPES[member.type]
        advice = "; put a larger input in S3, as InputLocation" if member.type == "blob" else ""
        raise ValueError(f"{size}{unit} is outside {member.minimum} to {member.maximum}{advice}")
    if member.pattern and not re.fullmatch(member.pattern, value):
        fits = re.match(member.pattern, value)
        at = fits.end() if fits else 0
        raise ValueError(f"position {at} does not fit the pattern {member.pattern}")


# --- 4. Errors and answers ---------------------------------------------------
# First the errors, one class for each cause: your call, configuration, credentials, the network,
# the service, the model. Then the reading of answers. In: a Response. Out: the dict that boto3
# returns, or a ClientError like botocore's. A 2xx with a header X-Amzn-SageMaker-* or a JSON
# object means that the inference is enqueued, even if the body is cut.


class Error(Exception):
    """Base of every error that this module raises on purpose.

    An error is made from a message alone, or with evidence: keywords that become attributes.
    """

    def __init__(self, message: str = "", **evidence: Any) -> None:
        super().__init__(message)
        for name, value in evidence.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no {name!r}")
            setattr(self, name, tuple(value) if isinstance(value, list) else value)


class ParamValidationError(Error, ValueError):
    """The call is not valid; nothing was sent. `.problems` lists everything wrong."""

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
    """AWS refused. `.response` and `.operation_name` are those of botocore's ClientError.

    `.code` is the service's error code (the HTTP status as text if it gave none), `.message` its
    own words, `.status` the HTTP status, `.request_id` what AWS Support asks for. `.hint` says
    what to do next, if anything is known; it is not in str().
    """

    response: Mapping[str, Any] = {}
    operation_name: str = ""
    hint: str = ""

    def __init__(self, message: str = "", **evidence: Any) -> None:
        super().__init__(message, **evidence)
        error = self.response.get("Error", {})
        self.metadata: dict[str, Any] = self.response.get("ResponseMetadata", {})
        self.code, self.message = str(error.get("Code", "")), str(error.get("Message", message))
        self.status: int | None = self.metadata.get("HTTPStatusCode")
        self.request_id = str(self.metadata.get("RequestId", ""))

    def __str__(self) -> str:
        if not self.response:
            return super().__str__()
        retried = ""
        if self.metadata.get("MaxAttemptsReached"):
            retried = f" (reached max retries: {self.metadata.get('RetryAttempts')})"
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
    """No result at `.location` after `.waited` seconds."""

    location: str = ""
    waited: float = 0.0


MODELLED_ERRORS = {kind.__name__: kind for kind in ClientError.__subclasses__()}
MAX_MESSAGE_CHARACTERS = 4096  # from a body that is not JSON


def deserialize(response: Response) -> dict[str, Any]:
    """The answer in boto3's shape; raises ClientError, or TransportError if a proxy answered.

    >>> deserialize(Response(202, (("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out"),
    ...                            ("x-amzn-RequestId", "1-2-3")), b'{"InferenceId": "id-1"}'))
    ... # doctest: +NORMALIZE_WHITESPACE
    {'ResponseMetadata': {'RequestId': '1-2-3', 'HTTPStatusCode': 202, 'HTTPHeaders':
        {'x-amzn-sagemaker-outputlocation': 's3://bucket/out', 'x-amzn-requestid': '1-2-3'}},
     'OutputLocation': 's3://bucket/out', 'InferenceId': 'id-1'}
    """
    body, metadata = json_object(response.body), response_metadata(response)
    headers = metadata["HTTPHeaders"]
    if not 200 <= response.status < 300:
        raise client_error(response, body, OPERATION)
    if body is None and not any(name.startswith("x-amzn-sagemaker-") for name in headers):
        raise TransportError(
            f"HTTP {response.status} ({headers.get('content-type')}) without an X-Amzn-SageMaker "
            "header or a JSON object is not SageMaker's; look for a proxy or a log-in page",
            retryable=False,
        )
    members = {
        "OutputLocation": headers.get("x-amzn-sagemaker-outputlocation"),
        "FailureLocation": headers.get("x-amzn-sagemaker-failurelocation"),
        "InferenceId": (body or {}).get("InferenceId"),
    }
    found = {name: value for name, value in members.items() if isinstance(value, str)}
    return {"ResponseMetadata": metadata, **found}


def response_metadata(response: Response) -> dict[str, Any]:
    """boto3's ResponseMetadata, without RetryAttempts, which the client adds."""
    headers: dict[str, str] = {}
    for name, value in response.headers:
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    names = ("x-amzn-requestid", "x-amz-requestid", "x-amz-request-id")
    request_id = next(filter(None, map(headers.get, names)), "")
    return {"RequestId": request_id, "HTTPStatusCode": response.status, "HTTPHeaders": headers}


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, which is UTF-8; None for anything else."""
    import json

    try:
        value = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def xml_fields(body: bytes) -> dict[str, str]:
    """The text of each element, by name; {} for what is not XML, or has a DOCTYPE.

    >>> xml_fields(b"<Error><Code>AccessDenied</Code></Error>")
    {'Error': '', 'Code': 'AccessDenied'}
    """
    from xml.etree.ElementTree import ParseError, fromstring

    try:
        text = body.decode("utf-8-sig")
        if "<!DOCTYPE" in text:  # its entities can fill the memory
            return {}
        elements = fromstring(text).iter()
    except (ParseError, ValueError, RecursionError):
        return {}
    return {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in elements}


def client_error(response: Response, body: dict[str, Any] | None, operation: str) -> ClientError:
    """The error in an answer; `body` has its fields, or is None if they cannot be read."""
    metadata = response_metadata(response)
    code = error_code(metadata["HTTPHeaders"], body or {}) or str(response.status)
    message = error_message(response, body)
    error = {"Message": message, "Code": code}
    said: dict[str, Any] = {"Error": error, "ResponseMetadata": metadata}
    kind = MODELLED_ERRORS.get(code, ClientError)
    if kind is not ClientError:
        said["Message"] = message  # the one member that the model's error shapes have
    return kind(message, response=said, operation_name=operation)


def error_code(headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """The first code where restJson1 allows one, without namespace and URL; or "".

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
    """The service's message; without a JSON object, the body's text or the status's name."""
    if body is not None:
        spellings = [key for key in sorted(body) if key.lower() == "message"]
        found = body[spellings[-1]] if spellings else None  # "message" before "Message"
        return str(found) if isinstance(found, (str, int, float)) else ""
    text = response.body.decode("utf-8", "replace").strip()
    is_page = text[:9].lower().startswith(("<html", "<!doctype"))
    if response.status >= 500 and (is_page or not text):
        from http import HTTPStatus

        return next((status.phrase for status in HTTPStatus if status == response.status), "")
    return text[:MAX_MESSAGE_CHARACTERS]


# What to do about an error code whose message does not say it.
HINTS = {
    "AccessDeniedException": "allow sagemaker:InvokeEndpointAsync on the endpoint to this caller",
    "UnrecognizedClientException": "the key is unknown here: deleted, of another partition, in "
    "quotes, or with no session token or a wrong one",
    "ExpiredTokenException": "log in again, or check what renews the credentials",
    "RequestTimeTooSkewed": "set this machine's clock",
}
EXPECTED = "The Canonical String for this request should have been\n'"


def mismatch(error: Mapping[str, str], canonical: str) -> str:
    """Why the signature was refused: the first line in which the canonical requests differ.

    `error` is response["Error"], which quotes what the service expected: in the message, or for
    S3 in an element of its own. `canonical` is ours. "" if the service does not quote it.

    >>> text = EXPECTED + "POST\\n/a\\n'\\n\\nThe String-to-Sign ..."
    >>> mismatch({"Message": text}, "POST\\n/b\\n")
    "line 2 of the canonical request: the service has '/a', we have '/b'"
    """
    said = error.get("Message", "").partition(EXPECTED)[2]
    expected = error.get("CanonicalRequest") or said.rpartition("'\n\nThe String-to-Sign")[0]
    if not expected:
        return ""
    lines = zip([*expected.split("\n"), None], [*canonical.split("\n"), None])
    for number, (their, our) in enumerate(lines, 1):
        if their != our:
            what = f"line {number} of the canonical request"
            return f"{what}: the service has {their!r}, we have {our!r}"
    return "the canonical requests are the same; check the secret access key"


HIDDEN_HEADERS = frozenset(
    "authorization proxy-authorization x-amz-security-token x-amz-sso_bearer_token "
    "x-aws-ec2-metadata-token x-amzn-sagemaker-custom-attributes".split()
)


def masked(text: str, hidden: frozenset[str] = HIDDEN_HEADERS) -> str:
    """The text, where lines "name:value" of `hidden` names show only the value's length."""
    lines = []
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        if name.lower() in hidden:
            line = f"{name}: <hidden, {len(value.strip())} characters>"
        lines.append(line)
    return "\n".join(lines)


# --- 5. Retry decisions ------------------------------------------------------
# In: an error. Out: whether to try again, after how long, and at what cost. The rules are those of
# AWS's SDKs as of 2026. Each retry costs part of a budget that all calls of a client share, so
# that clients do not triple the load of a failing service.
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html

MAX_ATTEMPTS = 3  # the SDKs' "standard" mode: one call and at most two retries
MAX_BACKOFF_SECONDS = 20.0
RETRIES: dict[str, tuple[float, int]] = {
    # kind: the longest first delay in seconds, what a retry costs
    "transient": (0.05, 14),
    "throttle": (1.0, 5),
    "corrected": (0.05, 0),  # the next has the right time, or (section 9) new credentials
}
QUOTA = 500
TRANSIENT = frozenset([500, 502, 503, 504, "RequestTimeout", "RequestTimeoutException"])
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
MAX_SKEW_SECONDS = 240  # AWS accepts 5 minutes; beyond 4 the clock may be why it refuses
SLOW_ROUND_TRIP_SECONDS = 900  # the Date of an answer this slow says nothing about our clock


def retry_kind(error: Error, *, skew: float | None = None, retry_sent: bool = True) -> str | None:
    """The row of RETRIES for an error; None if it is final.

    `skew` is how many seconds the signed time was off, if known. With `retry_sent=False` a request
    that was sent and got no answer is final: the service may have accepted it.

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
    if error.code in TRANSIENT or error.status in TRANSIENT:
        return "transient"
    if error.code in SKEW_CODES and abs(skew or 0) > MAX_SKEW_SECONDS:
        return "corrected"
    return None


def backoff(kind: str, retry: int, random: float, retry_after: str | None = None) -> float:
    """Seconds to wait before a retry; the first one is number 0, and `random` is in [0, 1).

    `retry_after` (x-amz-retry-after, in milliseconds) adds 5 s at most.

    >>> [backoff("transient", retry, 1.0) for retry in range(4)]
    [0.05, 0.1, 0.2, 0.4]
    >>> backoff("transient", 0, 1.0, "10000")
    5.05
    """
    delay: float = random * min(RETRIES[kind][0] * 2**retry, MAX_BACKOFF_SECONDS)
    if retry_after and retry_after.isascii() and retry_after.isdigit():
        return max(delay, min(int(retry_after[:9]) / 1000, delay + 5))
    return delay


class RetryQuota:
    """A client's retry budget: QUOTA at first, and never more."""

    def __init__(self) -> None:
        self.available, self._lock = QUOTA, Lock()

    def spend(self, cost: int) -> bool:
        """Take `cost` and return True, if that much is available."""
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
    """Seconds by which the service's clock is ahead of ours; both times are by our clock.

    None if it cannot be told: no Date, an Age (a cache answered), a slow round trip.

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
# rules that AWS publishes with its SDKs. No host is built from unchecked text: a region is one
# host label; an endpoint URL has a scheme, a host, and perhaps a port and a path.
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointAsync.html

# fmt: off
PARTITIONS = (
    # partition, its regions' prefix, DNS suffix, and the dual-stack (IPv6) one; last, the rest
    ("aws-cn", "cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("aws-us-gov", "us-gov-", "amazonaws.com", "api.aws"),
    ("aws-iso", "us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("aws-iso-b", "us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("aws-iso-e", "eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("aws-iso-f", "us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ("aws-eusc", "eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("aws", "", "amazonaws.com", "api.aws"),
)
HOSTS = {"sagemaker-runtime": "runtime.sagemaker", "s3": "s3", "sts": "sts", "sso": "portal.sso"}
FIPS_HOSTS = {
    # FIPS without dual-stack: the hosts that do not end in "-fips"
    ("sagemaker-runtime", "aws"): "runtime-fips.sagemaker",
    ("sagemaker-runtime", "aws-us-gov"): "runtime.sagemaker",
    ("sts", "aws-us-gov"): "sts",
    ("sso", "aws-us-gov"): "portal.sso",
}
# fmt: on


def resolve_endpoint(
    region: str | None, *, use_fips: bool = False, use_dualstack: bool = False,
    endpoint_url: str | None = None, service: str = "sagemaker-runtime",
) -> str:  # fmt: skip
    """The URL of a service ("sagemaker-runtime", "s3", "sts", "sso"); raises ConfigurationError.

    >>> resolve_endpoint("eu-west-1", use_dualstack=True)
    'https://runtime.sagemaker.eu-west-1.api.aws'
    """
    if not region:
        raise ConfigurationError("no region: use region_name, AWS_REGION or the profile's region")
    check_region(region)
    if endpoint_url is not None:
        if use_fips or use_dualstack:
            raise ConfigurationError("an endpoint URL excludes FIPS and dual-stack; drop either")
        return check_endpoint_url(endpoint_url)
    rows = (row for row in PARTITIONS if region.startswith(row[1]) or region == f"{row[0]}-global")
    partition, _, dns, dual = next(rows)
    if service == "s3" and partition == "aws-cn" and use_fips:
        raise ConfigurationError(f"S3 has no FIPS endpoint in {region}; do without FIPS")
    host = f"{HOSTS[service]}-fips" if use_fips else HOSTS[service]
    if use_fips and not use_dualstack:
        host = FIPS_HOSTS.get((service, partition), host)
    if service == "s3" and use_dualstack:
        host, dual = f"{host}.dualstack", dns
    return f"https://{host}.{region}.{dual if use_dualstack else dns}"


def check_region(region: str, where: str = "region") -> str:
    """The region itself, if it is one host label; raises ConfigurationError."""
    text = f"{region}"
    letters = isinstance(region, str) and text.replace("-", "")
    if not (letters and letters.isascii() and letters.isalnum() and len(text) <= 63):
        raise ConfigurationError(
            f"{where} {text[:80]!r} is not a region: 1 to 63 letters, digits and hyphens"
        )
    return region


def check_endpoint_url(url: str, where: str = "endpoint URL") -> str:
    """The URL without a "/" at its end; raises ConfigurationError, which never quotes a password.

    >>> check_endpoint_url("http://localhost:8080/base/")
    'http://localhost:8080/base'
    """
    import re

    label = r"[\w-]{1,63}"
    host = rf"\[[0-9a-fA-F:.]+\]|({label}\.)*{label}\.?"
    form = rf"(?i:https?)://({host})(:(?P<port>[0-9]{{1,5}}))?(/[^?#\\@\0- \x7f]*)?"
    found = re.fullmatch(form, url) if isinstance(url, str) and url.isascii() else None
    if not found or not 0 < int(found["port"] or 443) < 65536:
        shown = str(url).rpartition("@")[2].partition("?")[0][:80]
        raise ConfigurationError(
            f"{where} …{shown!r} is malformed: write http[s]://host[:port][/path], with a port "
            "from 1 to 65535; no user, query or fragment"
        )
    return url.rstrip("/")


def parse_location(location: str) -> tuple[str, str]:
    """Bucket and key of "s3://bucket/key"; raises ParamValidationError.

    >>> parse_location("s3://my-bucket/in/a b+ü.json")
    ('my-bucket', 'in/a b+ü.json')
    """
    import re

    # no two dots in a row in the bucket's name, and no IPv4 address
    bucket = r"(?![^/]*\.\.)(?!(?:\d+\.){3}\d+/)([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"
    form = rf"s3://{bucket}/([^\0-\x1f\x7f\ud800-\udfff]+)"
    found = re.fullmatch(form, location) if isinstance(location, str) else None
    if not found:
        shown = str(location).rpartition("@")[2].partition("?")[0][:80]
        raise ParamValidationError(
            f"location {shown!r} is not s3://bucket/key: a bucket has 3 to 63 lower-case letters, "
            "digits, dots and hyphens; a key is not empty and has no control character"
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
# In: an environment and the two files that AWS's tools share. Out: each setting, and its source.
# configparser reads the files, as in boto3. An argument beats the environment, which beats the
# profile; an empty variable counts as unset. Setting x is AWS_X in the environment, unless PLACES
# says otherwise. The files are read when a client is made and when it loads credentials.
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

    Other sections keep their whole header ("sso-session x", "services x"); nested properties
    are raw text. Raises ConfigurationError with file and line number.
    """
    no_choice = dict.fromkeys(PLACES[PROFILE], "")  # a named profile might not be there
    return Settings({**environ, **no_choice}).profiles


def expanded(path: str, environ: Environ) -> str:
    """The path with $VARIABLES and "~" replaced; without HOME, "~" is the system's home."""
    if "$" in path:
        from string import Template

        path = Template(path).safe_substitute(environ)
    home = environ.get("HOME") or environ.get("USERPROFILE") or os.path.expanduser("~")
    return home + path[1:] if path.startswith(("~/", "~\\")) else path


def read_text_file(path: str) -> str:
    """The text of a small file, read as UTF-8; raises OSError, ConfigurationError."""
    with open(path, "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: is over {MAX_FILE_BYTES} bytes; is it the right file?")
    return content.decode("utf-8-sig", "replace")


def parse_shared_file(text: str, path: str) -> Profiles:
    """The sections of a file by header; of two equal keys the last wins.

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
    # Raised here, because the parser's error quotes the line, which may be a secret.
    raise ConfigurationError(f"{path}, line {line}: is neither [section] nor key = value")


def config_name(header: str) -> str:
    """The profile or section that [header] begins; in the config file only "profile x" is x.

    >>> [config_name(header) for header in ("profile 'a b'", "sso-session 'c d'", "plain")]
    ['a b', 'sso-session c d', '[plain]']
    """
    import shlex

    try:
        words = shlex.split(header)
    except ValueError:  # an odd number of quotes
        words = []
    if len(words) == 2 and words[0] in (PROFILE, "sso-session", "services"):
        return words[1] if words[0] == PROFILE else " ".join(words)
    return header if header == "default" else f"[{header}]"


def environment(environ: Environ | None) -> Environ:
    """The mapping that was given, or the process's own environment."""
    return os.environ if environ is None else environ


class Settings:
    """Arguments, environment and one profile, asked for one setting at a time.

    `.sources` says where each came from, `.shared` has path and profiles of each file, `.unread`
    why a file was not read. Raises ConfigurationError if a named profile does not exist.
    """

    def __init__(self, environ: Environ | None, **arguments: Any) -> None:
        self.environ, self.arguments = environment(environ), arguments
        self.sources, self.unread = dict[str, str](), list[str]()
        self.shared: list[tuple[str, Profiles]] = []
        self.profiles: Profiles = {}
        for which in SHARED_FILES:  # the credentials file is the last, and wins per key
            self._read(which)
        self.files = " and ".join(path for path, _ in self.shared)
        self.profile_name = self.get(PROFILE) or "default"
        self.profile = self.profiles.get(self.profile_name, {})
        self.here, source = f"profile {self.profile_name!r}", self.sources[PROFILE]
        if self.profile_name not in self.profiles and source != "default":
            there = "; ".join([", ".join(sorted(self.profiles)) or "none", *self.unread])
            text = f"{self.here} ({source}) is not in {self.files}; there are: {there}"
            raise ConfigurationError(text)

    def _read(self, which: str) -> None:
        """Add what is in the "config" or "credentials" file."""
        variable, default = SHARED_FILES[which]
        path = expanded(self.environ.get(variable) or default, self.environ)
        sections: Profiles = {}
        try:
            text = read_text_file(path)
            sections = parse_shared_file(text, path) if text else {}
        except (OSError, ValueError) as error:
            self.unread.append(str(error))
        if which == "config":
            sections = {config_name(header): keys for header, keys in sections.items()}
        self.shared.append((path, sections))
        for name, keys in sections.items():
            self.profiles[name] = {**self.profiles.get(name, {}), **keys}

    def get(self, setting: str) -> Any:
        """The setting, or None if nothing sets it."""
        places: dict[str, str | None] = {}
        for name in PLACES.get(setting, (f"AWS_{setting.upper()}", PROFILE)):
            if name == PROFILE:
                places[self.here] = self.profile.get(setting)
            else:
                places[f"environment variable {name}"] = self.environ.get(name)
        return self.first(setting, places, "default")

    def first(self, setting: str, places: dict[str, str | None], otherwise: str) -> Any:
        """The argument, else the first text that is not empty; notes its source."""
        source, value = "argument", self.arguments.get(setting)
        if value is None:
            found = (place for place in places.items() if place[1])
            source, value = next(found, (otherwise, None))
        self.sources[setting] = source
        return value

    def get_flag(self, setting: str) -> bool:
        """A setting that is "true" or "false"; False if nothing sets it."""
        value = self.get(setting) or False
        text = str(value).lower()
        if text not in ("true", "false"):
            where = f"{setting}, {self.sources[setting]}"
            raise ConfigurationError(f"{where}: {value!r} is neither true nor false")
        return text == "true"

    def get_count(self, setting: str, default: int) -> int:
        """A setting that is a whole number above 0."""
        value = self.get(setting)
        text = str(default if value is None else value)
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
            where = f"{setting}, {self.sources[setting]}"
            raise ConfigurationError(f"{where}: {value!r} is not a number from 1 to 999999999")
        return int(text)

    def endpoint(self, service: str, region: str | None) -> str:
        """The URL of a service in a region, or the configured one."""
        setting = "endpoint" if service == "sagemaker-runtime" else f"{service} endpoint"
        name, section = service.replace("-", "_"), f"services {self.profile.get('services')}"
        places: dict[str, str | None] = {}
        if not self.get_flag("ignore_configured_endpoint_urls"):
            for variable in (f"AWS_ENDPOINT_URL_{name.upper()}", "AWS_ENDPOINT_URL"):
                places[f"environment variable {variable}"] = self.environ.get(variable)
            if self.profile.get("services") and section not in self.profiles:
                raise ConfigurationError(f"{self.here}: [{section}] is not in {self.files}")
            nested = self.profiles.get(section, {}).get(name, "").partition("\n")[2]
            keys = parse_shared_file(f"[x]\n{nested}", f"[{section}]")["x"] if nested else {}
            places[f"services section of {self.here}"] = keys.get("endpoint_url")
            places[self.here] = self.profile.get("endpoint_url")
        url = self.first(setting, places, "the region")
        if url is not None:
            check_endpoint_url(url, f"endpoint URL, {self.sources[setting]},")
        return resolve_endpoint(
            region, endpoint_url=url, service=service,
            use_fips=self.get_flag("use_fips_endpoint"),
            use_dualstack=self.get_flag("use_dualstack_endpoint"),
        )  # fmt: skip


# --- 8. Transport ------------------------------------------------------------
# In: a Request. Out: a Response of any status, or a TransportError that says what went wrong and
# whether the request can have arrived. A transport is any callable of that shape that takes
# `timeout` and `sink`. In this one, urllib.request chooses the proxy, http.client connects and
# reads, and connections are reused. Redirects are not followed: a signature is valid for one host.

CONNECT_TIMEOUT_SECONDS = 10.0  # for each step: an address and its tunnel, TLS
READ_TIMEOUT_SECONDS = 60.0  # botocore's
NO_LIMIT_SECONDS = 1e6  # eleven days: the longest time limit
NEVER = float("inf")  # a deadline
MAX_BODY_BYTES = 1 << 20  # of an answer in memory
PIECE_BYTES = 1 << 16  # of a file, sent or read at once
MAX_IDLE_CONNECTIONS = 64
MAX_IDLE_SECONDS = 50.0  # load balancers close connections that are idle for 60 s
HEAD = (  # of a request: no control character in the first line, no lone CR or LF
    r"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:[!-9;-~]+: [^\r\n\0\ud800-\udfff]*\r\n)+\r\n"
)
PROXY = r"(http://)?([!-.0-~]*@)?(\[[0-9A-Fa-f:.]+\]|[\w-]+(\.[\w-]+)*\.?)(:(?P<port>\d{1,5}))?/?"
NEAR_HOSTS = (  # this machine, and the metadata services next to it
    "localhost 127.0.0.1 ::1 169.254.169.254 169.254.170.2 169.254.170.23 fd00:ec2::254 "
    "fd00:ec2::23 [::1] [fd00:ec2::254] [fd00:ec2::23]"
).split()


class UrllibTransport:
    """Sends a Request and returns its Response; raises TransportError. Thread-safe.

    Time limits are in seconds: `connect_timeout` for each step of connecting, `read_timeout` for
    each piece sent, for the answer, and for each piece of one that goes to a `sink`.
    `ca_bundle` is a file of certificates, or False to accept any: then anybody on the network
    path can read and change everything. `environ` names the proxies.
    """

    def __init__(
        self, *, connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout: float = READ_TIMEOUT_SECONDS, ca_bundle: str | bool | None = None,
        environ: Environ | None = None, monotonic: Clock = time.monotonic,
    ) -> None:  # fmt: skip
        self._idle: list[TimedSocket] = []
        self._lock = Lock()
        self._connect_timeout = checked_seconds("connect_timeout", connect_timeout)
        self._read_timeout = checked_seconds("read_timeout", read_timeout)
        self._ca_bundle, self._monotonic = ca_bundle, monotonic
        self._proxies = proxies(environment(environ))
        if ca_bundle is False:
            import warnings

            warnings.warn("TLS certificates are not verified (verify=False)", stacklevel=2)

    def __call__(
        self, request: Request, *, timeout: float | None = None, sink: BinaryIO | None = None
    ) -> Response:
        """The answer within `timeout` seconds, except a body that goes to a `sink` (200, 206)."""
        from http.client import HTTPException

        deadline = self._monotonic() + (NEVER if timeout is None else timeout)
        route, sock, is_reusable = route_of(request, self._proxies), None, False
        try:
            sock = self._connection(route, deadline)
            sock.limit, sock.deadline = self._read_timeout, deadline
            answer = ask(sock, route, request)
        except (OSError, HTTPException, UnicodeError) as error:  # UnicodeError: bad host name
            failure = transport_error(route, error, self._ca_bundle)
        else:
            body, complete = read_body(answer, sink if answer.status in (200, 206) else None, sock)
            is_reusable = complete and not answer.will_close and route.stage == "no answer"
            found = answer.getheaders()  # in Latin-1; AWS sends UTF-8
            headers = [(n, v.encode("latin-1").decode("utf-8", "replace")) for n, v in found]
            return Response(answer.status, tuple(headers), body, complete)
        finally:
            if sock and is_reusable:
                sock.idle_since = self._monotonic()
                with self._lock:
                    self._idle.append(sock)
                self.close(MAX_IDLE_CONNECTIONS)
            elif sock:
                sock.close()
        raise failure  # no `from error`: it may quote the answer

    def _connection(self, route: Any, deadline: float) -> TimedSocket:
        """The most recently used idle connection that still works, or a new one."""
        key = (os.getpid(), route.type, route.host, route._tunnel_host)  # not a parent's
        while True:
            with self._lock:
                kept = [sock for sock in self._idle if sock.key == key]
                if kept:
                    self._idle.remove(kept[-1])
            if not kept:
                return TimedSocket(self._connect(route, deadline), key, self._monotonic)
            if kept[-1].is_good():
                return kept[-1]
            kept[-1].close()

    def close(self, keep: int = 0) -> None:
        """Close idle connections, except the `keep` newest; the transport stays usable."""
        with self._lock:
            while len(self._idle) > keep:
                self._idle.pop(0).close()

    __del__ = close

    def _connect(self, route: Any, deadline: float) -> Any:
        """A new socket, with a proxy's tunnel and TLS where needed."""
        context = self._tls_context if route.type == "https" else None
        route.stage = f"cannot connect{' through this proxy' if route._tunnel_host else ''}"
        sock = self._reach(route, deadline)
        if context:
            route.stage = "TLS handshake broken off"
            sock.settimeout(self._left(deadline))
            host, _ = host_and_port(route._tunnel_host or route.host, 443)
            sock = context.wrap_socket(sock, server_hostname=host)
        return sock

    def _reach(self, route: Any, deadline: float) -> Any:
        """A socket to the first address that answers; http.client would exceed the deadline."""
        import socket
        from http.client import HTTPConnection

        tunnel = route._tunnel_host
        server = host_and_port(route.host, 443 if route.type == "https" and not tunnel else 80)
        found: Any = socket.getaddrinfo(*server, type=socket.SOCK_STREAM)
        while True:
            host, port, *_ = found.pop(0)[-1]
            connection = HTTPConnection(host, port, self._left(deadline))
            if tunnel:
                connection.set_tunnel(*host_and_port(tunnel, 443), route.headers)
            try:
                connection.connect()
                sock, connection.sock = connection.sock, None
                return sock
            except OSError as error:
                is_over = self._monotonic() >= deadline or not found
                if is_over or "Tunnel connection failed" in str(error):
                    raise
            finally:
                connection.close()

    def _left(self, deadline: float) -> float:
        return max(min(self._connect_timeout, deadline - self._monotonic()), 0.001)

    @cached_property  # reading the authorities is slow
    def _tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, certificates verified unless `ca_bundle` is False."""
        import ssl

        ca_bundle = self._ca_bundle
        try:
            context = ssl.create_default_context(cafile=str(ca_bundle or "") or None)
        except OSError as error:
            raise ConfigurationError(f"CA bundle {ca_bundle}: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if ca_bundle:  # like botocore: inspecting proxies' certificates often break strict rules
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if ca_bundle is False:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


def route_of(request: Request, proxies: Mapping[str, str]) -> Any:
    """The request as urllib.request routes it, through a proxy if there is one for it.

    The transport adds an attribute, `stage`. Raises ParamValidationError, ConfigurationError.
    """
    import re
    import urllib.request

    # Two undocumented names: this, the only function for NO_PROXY that takes a mapping, and
    # `_tunnel_host`, the host behind a proxy, which urllib's own handlers read.
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    try:
        route: Any = urllib.request.Request(request.url, method=request.method)
        host = "@" not in (route.host or "@") and host_and_port(route.host, 0)[0]
    except ValueError:
        host = ""
    if not host or route.type not in ("http", "https"):
        raise ParamValidationError("the URL is not of the form http[s]://host[:port]/path")
    proxy = proxies.get(route.type)
    if proxy and not proxy_bypass_environment(route.host, proxies):
        found = re.fullmatch(PROXY, proxy, re.ASCII)
        if not found or not 0 < int(found["port"] or 80) < 65536:
            text = f"{route.type.upper()}_PROXY: the URL is not http://[user:password@]host[:port]"
            raise ConfigurationError(text)
        urllib.request.ProxyHandler({}).proxy_open(route, proxy, route.type)
    return route


def ask(sock: TimedSocket, route: Any, request: Request) -> http.client.HTTPResponse:
    """Send a request with its headers as signed, and read the answer's status and headers."""
    import re
    from http.client import HTTPException, HTTPResponse
    from ssl import SSLError

    route.stage, headers = "broken off before the request was sent", request.headers
    if "host" not in [name.lower() for name, _ in headers]:
        headers = (("Host", split_url(request.url)[0]), *headers)
    if not route._tunnel_host:  # the proxy's password must not go through the tunnel
        headers += tuple(route.header_items())
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    head = "".join([f"{request.method} {route.selector or '/'} HTTP/1.1\r\n", *lines, "\r\n"])
    if not re.fullmatch(HEAD, head) or head.count("\n") != len(headers) + 2:  # no injected line
        raise ParamValidationError("method, URL or a header has a character HTTP does not allow")
    for piece in pieces_of(head.encode(), request.body):
        try:
            sock.sendall(piece)
        except (ConnectionError, SSLError):
            break  # the service may have answered early
    else:
        route.stage = "no answer"  # from here on, the service may have received it
    sock.allow()
    answer = HTTPResponse(sock, method=request.method)  # type: ignore[arg-type]
    answer.begin()
    if sock.ended:
        raise ConnectionResetError("the connection ended within the answer's head")
    if answer.status < 200:  # http.client skips 100
        raise HTTPException("an interim answer")
    return answer


def pieces_of(head: bytes, body: RequestBody) -> Iterator[bytes]:
    """The bytes of a request."""
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
    """The body, and whether it is complete: an error here does not hide the status."""
    from http.client import HTTPException

    kept = io.BytesIO()
    left, is_cut = sys.maxsize if sink else MAX_BODY_BYTES, False
    while left >= 0 and not is_cut and not answer.isclosed():
        if sink:
            sock.deadline = NEVER
            sock.allow()
        try:
            piece = answer.read(min(left + 1, PIECE_BYTES))
        except (OSError, HTTPException, ValueError):
            piece, is_cut = b"", True
        (sink or kept).write(piece)
        left -= len(piece)
    return kept.getvalue()[:MAX_BODY_BYTES], not is_cut and left >= 0 and not answer.length


class TimedSocket(io.RawIOBase):
    """A connected socket with time limits, and what http.client asks of a socket."""

    limit = idle_since = until = 0.0  # until 0: do not wait
    deadline, ended = NEVER, False

    def __init__(self, sock: socket.socket, key: object, monotonic: Clock) -> None:
        self.sock, self.key, self.monotonic = sock, key, monotonic
        self.reader = KeptReader(self, PIECE_BYTES)

    def allow(self) -> None:
        """Start a time limit for what is read next: `limit` seconds, at most to `deadline`."""
        self.until = min(self.monotonic() + self.limit, self.deadline)

    def set_timeout(self) -> None:
        left = self.until and self.until - self.monotonic()
        if left <= 0 and self.until:
            raise TimeoutError("the time limit is over")
        if not left <= (self.sock.gettimeout() or 0) <= 1.01 * left:
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
        raise ValueError("http.client reads without bound when a chunk's size is -1")

    def makefile(self, _mode: str) -> BinaryIO:
        return self.reader

    def close(self) -> None:
        self.sock.close()

    def is_good(self) -> bool:
        """Whether it can be reused: briefly idle, still open, no unexpected bytes."""
        from ssl import SSLWantReadError

        self.until = 0.0
        try:
            self.reader.peek(1)
        except (BlockingIOError, SSLWantReadError):
            return self.monotonic() - self.idle_since < MAX_IDLE_SECONDS
        except OSError:
            pass
        return False


class KeptReader(io.BufferedReader):
    """A connection's reader, kept between answers, so that surplus bytes are noticed."""

    def close(self) -> None:
        """Do nothing: http.client closes its file after each answer."""


def transport_error(route: Any, error: Exception, ca_bundle: Any) -> TransportError:
    """The error that says what went wrong, where, and whether a retry can help."""
    import socket
    import ssl

    stage, sent, kind = route.stage, route.stage == "no answer", "closed"
    if stage.startswith("cannot connect"):
        kind = "proxy" if route._tunnel_host else "connect"
    said = str(error) if isinstance(error, OSError) else ""  # the rest quotes the server
    advice, refusal = "", said.partition("Tunnel connection failed: ")[2]  # http.client's words
    ended = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
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
    elif not isinstance(error, OSError) and sent:
        kind, stage = "protocol", "the answer is not HTTP"
    what = printable(said[:200]) or type(error).__name__
    retryable = kind != "tls" and refusal[:1] != "4"
    text = f"{route.host}: {stage}: {what}{advice}"
    return TransportError(text, kind=kind, sent=sent, retryable=retryable)


def checked_seconds(name: str, seconds: float) -> float:
    """The seconds, at most NO_LIMIT_SECONDS; raises ParamValidationError."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ParamValidationError(f"{name}: {seconds!r} is not a number of seconds above 0")
    return min(seconds, NO_LIMIT_SECONDS)


def proxies(environ: Environ) -> dict[str, str]:
    """urllib.request.getproxies_environment for any mapping; "no": the hosts without a proxy.

    >>> proxies({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:2", "NO_PROXY": "*"})
    {'https': 'http://b:2', 'no': '*'}
    """
    found: dict[str, str] = {}
    for name in sorted(environ):  # lower case comes last, and wins
        scheme, _, end = name.lower().partition("_")
        if end == "proxy" and (name != "HTTP_PROXY" or "REQUEST_METHOD" not in environ):
            found[scheme] = environ[name]
    if found.get("no") != "*":
        found["no"] = ",".join([found.get("no", ""), *NEAR_HOSTS])
    return {scheme: url for scheme, url in found.items() if url}


@lru_cache(maxsize=100)
def host_and_port(text: str, default_port: int) -> tuple[str, int]:
    """The two halves of "host:port"; an IPv6 address loses its brackets."""
    from urllib.parse import urlsplit

    parts = urlsplit(f"//{text}")
    return parts.hostname or "", parts.port or default_port


# --- 9. Sending --------------------------------------------------------------
# In: a Call, which is one operation of any service. Out: what its `read` makes of the answer. One
# loop serves SageMaker, S3, STS, SSO, the container endpoint and IMDS: sign with the service's
# time, send, read, and try again if section 5 says so. Errors and the log show no secret.

DEBUG = 10  # logging's
system_clock = time.time


def random_fraction() -> float:
    """A random number in [0, 1)."""
    from random import random

    return random()


class Call:
    """An operation and its attempts; `read` makes a dict of a Response, or raises ClientError."""

    signing: Mapping[str, Any] = {}  # arguments of sign
    deadline = NEVER  # of all attempts
    timeout = NEVER  # of one attempt
    max_attempts = MAX_ATTEMPTS
    is_near = False  # IMDS and the like: a failed connection is final
    retry_sent = retry_throttled = True
    sink: BinaryIO | None = None  # takes the body of a 200 or 206
    secrets: tuple[str, ...] = ()  # to hide, like those in headers
    sent = False  # whether the service may have received it
    skew = 0.0  # with which it was signed

    def __init__(
        self, operation: str, request: Request, read: Callable[[Response], dict[str, Any]],
        get_credentials: Callable[..., Credentials | None] = lambda *_: None,
        **options: Any,
    ) -> None:  # fmt: skip
        from uuid import uuid4

        self.operation, self.request, self.read = operation, request, read
        self.get_credentials, self.invocation_id = get_credentials, str(uuid4())
        self.credentials: Credentials | None = None  # None: it is not signed
        self.attempts: list[dict[str, Any]] = []
        vars(self).update(options)

    def hidden(self) -> list[str]:
        """The texts to hide in a service's message, longest first; short ones are left."""
        headers, body, keys = self.request.headers, self.request.body, self.credentials
        texts = [text for name, text in headers if name.lower() in HIDDEN_HEADERS]
        texts += [keys.secret_access_key, keys.session_token or ""] if keys else []
        texts += [body.decode("utf-8", "replace")] if isinstance(body, bytes) else []
        texts += [*self.secrets, *(" ".join(text.split()) for text in texts)]  # as when signed
        return sorted((text for text in texts if len(text) >= 8), key=len, reverse=True)

    def hide(self, value: Any) -> Any:
        """A text, or the texts in a dict, without secrets."""
        if isinstance(value, dict):
            return {name: self.hide(item) for name, item in value.items()}
        if isinstance(value, str):
            for text in self.hidden():
                value = value.replace(text, "(hidden)")
            return masked(value)
        return value

    def log(self, form: str, *values: Any) -> None:
        log = logger()
        if log and log.isEnabledFor(DEBUG):
            log.debug("%s", self.hide(form % values))


class Sender:
    """Sends calls through one transport, with one retry quota and one clock skew."""

    skew = 0.0  # seconds that AWS's clock is ahead

    def __init__(
        self, transport: Transport, settings: Settings, clock: Clock = system_clock,
        monotonic: Clock = time.monotonic, sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_fraction,
    ) -> None:  # fmt: skip
        self.transport, self.environ, self.quota = transport, settings.environ, RetryQuota()
        self.clock, self.monotonic, self.sleep, self.random = clock, monotonic, sleep, random
        self.user_agent = user_agent(settings.environ, settings.get("sdk_ua_app_id"))

    def now(self) -> float:
        """Epoch seconds by AWS's clock, as far as it is known."""
        return self.clock() + self.skew

    def send(self, call: Call) -> dict[str, Any]:
        """The answer; raises ClientError, TransportError, CredentialsError."""
        call.attempts, call.sent, cost = [], False, 0
        call.credentials = call.get_credentials(call.deadline)
        while True:
            answer, error = self._attempt(call)
            if error is None:
                self.quota.refund(cost)
                return answer
            kind = self._retry_kind(call, error)
            if not kind:
                raise error
            cost, may = RETRIES[kind][1], len(call.attempts) < call.max_attempts
            if not may or not self.quota.spend(cost):
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
        """Sign, send and read once; the answer, or an error without secrets."""
        started, sent_at = self.monotonic(), self.clock()
        received_at, signed = sent_at, self.signed(call, sent_at)
        answer: dict[str, Any] = {}
        failure: Any = None
        try:
            response = self._response(call, signed)
            received_at, call.sent = self.clock(), True
            outcome, answer = str(response.status), call.read(response)
        except TransportError as error:
            failure, outcome, call.sent = error, error.kind, call.sent or error.sent
            error.args, error.metadata = (call.hide(str(error)),), {}
        except ClientError as error:
            said, text = call.hide(error.response), call.hide(error.message)
            failure = type(error)(text, response=said, operation_name=call.operation)
            hint = mismatch(said["Error"], call.hide(signed.canonical_request))
            outcome, failure.hint = failure.code, hint or HINTS.get(failure.code, "")
        seconds = self.monotonic() - started
        call.attempts.append({"Outcome": outcome, "Seconds": seconds, "Delay": 0.0})
        metadata = failure.metadata if failure else answer["ResponseMetadata"]
        headers = metadata.get("HTTPHeaders")
        if headers is not None:
            date, skew = headers.get("date"), clock_skew(headers, sent_at, received_at)
            metadata.update(ResponseAt=received_at, ServerTime=http_date(date), ClockSkew=skew)
            if skew is not None and call.credentials:  # of signed calls only
                self.skew = skew
        metadata.update(RetryAttempts=len(call.attempts) - 1, Attempts=call.attempts)
        return answer, failure

    def signed(self, call: Call, now: float) -> Signed:
        """The next attempt's request, signed with the service's time."""
        method, url, headers, body = call.request
        agent, call.skew = ("User-Agent", self.user_agent), self.skew
        if call.credentials is None:
            return Signed(Request(method, url, (*headers, agent), body), "", "", "")
        count = f"attempt={len(call.attempts) + 1}; max={call.max_attempts}"
        headers += (("amz-sdk-invocation-id", call.invocation_id), agent)
        trace = self.environ.get("_X_AMZN_TRACE_ID")
        if trace and self.environ.get("AWS_LAMBDA_FUNCTION_NAME"):
            from urllib.parse import quote

            # Lambda detects recursive calls by it.
            trace = quote(trace, errors="replace", safe="-=;:+&[]{}\"',")
            headers += (("X-Amzn-Trace-Id", trace),)
        request = Request(method, url, (*headers, ("amz-sdk-request", count)), body)
        timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now + call.skew))
        return sign(request, call.credentials, timestamp=timestamp, **call.signing)

    def _response(self, call: Call, signed: Signed) -> Response:
        """The answer to a request; both are logged."""
        left = min(call.timeout, call.deadline - self.monotonic())
        if left <= 0:
            raise TransportError("the time limit is over", kind="timeout", sent=False)
        options: dict[str, Any] = {} if left == NEVER else {"timeout": left}
        if call.sink:
            options["sink"] = call.sink
        request, canonical, to_sign, _ = signed
        service = SERVICE_IDS.get(call.signing.get("service", ""), "unsigned")
        call.log("%s, %s\n%r\n%s\n%s", service, call.operation, request, canonical, to_sign)
        response = self.transport(request, **options)
        if response.status >= 300:
            body = response.body
            for text in call.hidden():  # before an error quotes it
                body = body.replace(text.encode(), b"(hidden)")
            response = response._replace(body=body)
        headers = "\n".join([f"{name}:{value}" for name, value in response.headers])
        call.log("answer: %r\n%s", response, headers)
        return response

    def _retry_kind(self, call: Call, error: ClientError | TransportError) -> str | None:
        """The row of RETRIES, or None if the error is final. Renews expired credentials."""
        *before, code = [entry["Outcome"] for entry in call.attempts]
        kind = retry_kind(error, skew=self.skew - call.skew, retry_sent=call.retry_sent)
        if isinstance(error, TransportError):
            error.sent = call.sent  # in this attempt or an earlier one
        if kind == "throttle" and not call.retry_throttled or call.is_near and not call.sent:
            kind = None
        if kind == "corrected" and not SKEW_CODES.isdisjoint(before):
            kind = "transient"  # a call corrects the clock once
        if code in EXPIRED_CODES and EXPIRED_CODES.isdisjoint(before):
            refused = call.credentials
            try:
                call.credentials = call.get_credentials(call.deadline, refused)
            except Exception as failure:  # the service's error says more
                call.log("no other credentials: %s", type(failure).__name__)
            kind = kind if call.credentials == refused else "corrected"
        return kind


def user_agent(environ: Environ, app_id: str | None) -> str:
    """The User-Agent, in the form of AWS's SDKs; "-" replaces unusual characters."""
    version = ".".join(map(str, sys.version_info[:3]))
    agent = f"smasync/{__version__} ua/2.1 os/{sys.platform} lang/python#{version}"
    agent += f" md/impl#{sys.implementation.name} api/sagemakerruntime"
    for name, text in (("exec-env", environ.get("AWS_EXECUTION_ENV")), ("app", app_id)):
        if text:
            import re

            agent += f" {name}/" + re.sub(r"[^\w!#$%&'*+.^`|~-]", "-", text, flags=re.ASCII)
    return agent


def logger() -> Logger | None:
    """The logger "smasync", if the program has imported logging."""
    logging = sys.modules.get("logging")
    return logging.getLogger("smasync") if logging else None


# --- 10. Credentials ---------------------------------------------------------
# In: settings. Out: Credentials. The chain is a tuple of providers, asked in order. A provider is
# a method that returns Credentials, or None if it is not configured. If a configured provider
# fails, the search ends with its error: no other identity is used by accident. CHAIN has the
# order, and PROFILE_PROVIDERS the order within a profile.
# https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html

ADVISORY_SECONDS = 15 * 60  # before they expire: one thread renews, errors are ignored
MANDATORY_SECONDS = 10 * 60  # before they expire: all calls wait, errors are raised
SERVICE_TIMEOUT_SECONDS = 20.0  # of an attempt at STS and SSO
PROCESS_TIMEOUT_SECONDS = 60.0
PROFILE_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
ENVIRONMENT_KEYS = (*map(str.upper, PROFILE_KEYS), "AWS_CREDENTIAL_EXPIRATION", "AWS_ACCOUNT_ID")
ANSWER_KEYS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AccountId")
ROLE_KEYS = ("role_arn", "role_session_name", "external_id", "duration_seconds")


def resolve_credentials(
    profile_name: str | None = None, *, region_name: str | None = None,
    environ: Environ | None = None, transport: Transport | None = None,
    clock: Clock | None = None,
) -> Credentials:  # fmt: skip
    """The chain's first credentials; raises CredentialsError with what each provider found.

    With `profile_name` the environment's keys are not used. The region is for STS.
    """
    settings = Settings(environ, profile=profile_name or None, region=region_name)
    own = UrllibTransport(ca_bundle=settings.get("ca_bundle"), environ=settings.environ)
    try:
        sender = Sender(transport or own, settings, clock or system_clock)
        return CredentialChain(settings, sender).get()
    finally:
        own.close()


class CredentialChain:
    """A client's credentials, loaded once and renewed before they expire. Thread-safe."""

    current: Any = None  # Credentials, once loaded
    deadline = NEVER  # of the requests of a load
    path: tuple[str, ...] = ()  # the chosen profile and its sources; the last is read
    where, profile = "the environment", dict[str, str]()

    def __init__(
        self, settings: Settings, sender: Sender, prompt: Callable[[str], str] | None = None,
        given: Credentials | Callable[[], Credentials] | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.environ, self.sources = settings, settings.environ, settings.sources
        self.region, self.sender, self.prompt = settings.get("region"), sender, prompt
        self.given, self.lock = given, Lock()

    def get(self, deadline: float = NEVER, refused: Credentials | None = None) -> Credentials:
        """Credentials that have not expired and were not `refused`."""
        current, now, left = self.current, self.sender.monotonic(), 0.0
        if current and current != refused:
            left = (current.expires_at or NEVER) - self.sender.now()
        must = left <= MANDATORY_SECONDS
        wait = min(max(deadline - now, 0), NO_LIMIT_SECONDS) if must else 0
        if left <= ADVISORY_SECONDS and self.lock.acquire(timeout=wait):
            try:
                if self.current is current:  # no other thread has loaded new ones
                    self.deadline = deadline if must else (now + deadline) / 2
                    self.current = self.load()
            except Exception:  # of any kind, from a caller's function
                if must:
                    raise
            finally:
                self.lock.release()
        elif must:
            text = "the call's time limit is over, while another thread loads credentials"
            raise TransportError(text, kind="timeout", sent=False)
        newest: Credentials = self.current
        return newest

    def load(self) -> Credentials:
        """The given credentials, or the first that a provider has. Reads the files again."""
        given = self.given
        if given:
            self.sources["credentials"] = "argument"
            given = given() if callable(given) else given
            if not isinstance(given, Credentials):
                kind = type(given).__name__
                raise CredentialsError(f"credentials: got {kind} instead of Credentials")
            return given
        tried: list[tuple[str, str]] = []
        self.settings = settings = Settings(self.environ, **self.settings.arguments)
        for name, provider, nothing in CHAIN:
            where = f"{settings.here} in {settings.files}: " if name == PROFILE else ""
            if settings.arguments[PROFILE] and name in ("environment", "web identity"):
                tried.append((name, "skipped, because the code names a profile"))
                continue
            try:
                found = provider(self)
                if found and (found.expires_at or NEVER) <= self.sender.now():
                    raise CredentialsError("the credentials that it returned have expired")
            except Error as error:
                tried.append((name, f"{where}{error}"))
                text = ": ".join(tried[-1])
                if self.sender.monotonic() >= self.deadline:
                    raise TransportError(text, kind="timeout", sent=False) from error
                raise CredentialsError(text, tried=tried) from error
            if found:
                self.sources["credentials"] = name
                return found
            tried.append((name, where + nothing))
        tried += [("shared files", reason) for reason in settings.unread]
        listed = "".join(f"\n- {name}: {what}" for name, what in tried)
        raise CredentialsError(f"no credentials found; looked in order at{listed}", tried=tried)

    def within(self, name: str) -> CredentialChain:
        """A copy whose providers look into a profile instead of the environment."""
        from copy import copy

        inner = copy(self)
        inner.path, inner.where = (*self.path, name), f"profile {name!r}"
        inner.profile = self.settings.profiles.get(name, {})
        return inner

    def from_environment(self) -> Credentials | None:
        return key_pair(self.environ, ENVIRONMENT_KEYS, "the environment")

    def from_profile(self) -> Credentials | None:
        """The credentials of the chosen profile, or of the one that this is within."""
        inner = self if self.path else self.within(self.settings.profile_name)
        return next(filter(None, (provider(inner) for provider in PROFILE_PROVIDERS)), None)

    def assumed_role(self) -> Credentials | None:
        """The role `role_arn`, with the credentials of another profile or provider."""
        profile = self.profile
        source, kind = profile.get("source_profile"), profile.get("credential_source", "")
        is_web = "web_identity_token_file" in profile and not source and not kind
        if not profile.get("role_arn") or is_web:
            return None
        if (source and kind) or (not source and kind not in CREDENTIAL_SOURCES):
            either = f"source_profile or credential_source: {', '.join(CREDENTIAL_SOURCES)}"
            raise CredentialsError(f"{self.where} has role_arn; set either, not both: {either}")
        base = self.from_source(source) if source else CREDENTIAL_SOURCES[kind](self)
        if not base:
            raise CredentialsError(f"{self.where}: {source or kind} has no credentials")
        form = {key.title().replace("_", ""): profile.get(key) for key in ROLE_KEYS}  # RoleArn
        serial = profile.get("mfa_serial")
        if serial:
            from getpass import getpass

            question = f"MFA code for {serial}: "
            if not self.prompt and not (sys.stdin and sys.stdin.isatty()):
                raise CredentialsError(f"{question}no terminal to ask on; pass prompt= to Client")
            form.update(SerialNumber=serial, TokenCode=(self.prompt or getpass)(question))
        return self.ask_sts("AssumeRole", form, base)

    def from_source(self, source: str) -> Credentials | None:
        """The credentials of a source profile; its static keys come first."""
        inner, settings = self.within(source), self.settings
        shown = " -> ".join(inner.path)
        if source not in settings.profiles:
            raise CredentialsError(
                f"source_profile {source!r} is not in {settings.files} ({shown})"
            )
        keys = inner.static_keys()
        if source in self.path and not keys:
            raise CredentialsError(f"the source profiles form a loop: {shown}")
        return keys or inner.from_profile()

    def web_identity(self) -> Credentials | None:
        """The role for an OpenID Connect token in a file, which a profile or EKS names."""
        names, values = ["web_identity_token_file", "role_arn", "role_session_name"], self.profile
        if not self.path:
            names, values = [f"AWS_{name.upper()}" for name in names], dict(self.environ)
        file, role, session = (values.get(name) for name in names)
        if not file:
            return None
        if not role:
            raise CredentialsError(f"{self.where} has {names[0]} but no {names[1]}")
        form = {"RoleArn": role, "RoleSessionName": session, "WebIdentityToken": token_in(file)}
        return self.ask_sts("AssumeRoleWithWebIdentity", form, None)

    def ask_sts(self, action: str, form: dict[str, Any], base: Credentials | None) -> Credentials:
        """The credentials of a role; the request is signed with `base`, or unsigned."""
        from urllib.parse import urlencode

        form = {"Action": action, "Version": "2011-06-15", **form}
        form["RoleSessionName"] = form["RoleSessionName"] or f"smasync-{self.sender.clock():.0f}"
        body = urlencode([pair for pair in form.items() if pair[1]]).encode()
        kind = "application/x-www-form-urlencoded; charset=utf-8"
        headers = (("Content-Type", kind), ("Content-Length", str(len(body))))
        request = Request("POST", self.settings.endpoint("sts", self.region) + "/", headers, body)
        answer = self.ask(
            action, request, get_credentials=lambda *_: base,
            signing={"region": self.region, "service": "sts"},
            secrets=(form.get("WebIdentityToken", ""),),
        )  # fmt: skip
        return credentials_in(answer, f"the answer to {action}")

    def static_keys(self) -> Credentials | None:
        """The keys in the credentials file, or else in the config file; never mixed."""
        found = None
        for path, profiles in reversed(self.settings.shared):
            keys = profiles.get(self.path[-1], {})
            found = found or key_pair(keys, PROFILE_KEYS, f"{self.where} in {path}")
        return found

    def sso(self) -> Credentials | None:
        """A role for the token of `aws sso login`, which only the AWS CLI renews."""
        session, profiles = self.profile.get("sso_session"), self.settings.profiles
        section = f"sso-session {session}"
        if not session and not self.profile.get("sso_start_url"):
            return None
        if session and section not in profiles:
            raise CredentialsError(f"{self.where}: there is no section [{section}]")
        profile = {**self.profile, **profiles.get(section, {})}
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
            name = self.path[-1]
            raise CredentialsError(
                f"{error}; run: aws sso login --profile {name}; or let the AWS CLI renew them, by "
                "another profile with credential_process = aws configure export-credentials "
                f"--format process --profile {name}"
            ) from error
        return credentials_in(answer, "the SSO portal's answer")

    def sso_token(self, key: str) -> str:
        """The token in the AWS CLI's cache, whose key is the session or the start URL."""
        from hashlib import sha1

        name = sha1(key.encode(), usedforsecurity=False).hexdigest()
        path = expanded(f"~/.aws/sso/cache/{name}.json", self.environ)
        try:
            cached = json_object(read_text_file(path).encode()) or {}
        except OSError:
            cached = {}
        token, expires = cached.get("accessToken"), epoch(cached.get("expiresAt"))
        if not isinstance(token, str) or not expires or expires <= self.sender.now():
            raise CredentialsError(f"no valid SSO token in {path}")
        return checked_key(f"the SSO token in {path}", token)

    def process(self) -> Credentials | None:
        """What `credential_process` prints; it is run without a shell."""
        command = self.profile.get("credential_process")
        what = f"credential_process of {self.where}"
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
            wrong = ""
        except subprocess.TimeoutExpired:
            wrong = f"killed after {seconds:.0f} s"
        except (OSError, ValueError) as error:
            wrong = f"cannot be run: {error}"
        if wrong:  # raised here: the errors above quote the command, which may have a secret
            raise CredentialsError(f"{what}: {wrong}")
        if done.returncode or (json_object(done.stdout) or {}).get("Version") != 1:
            said, status = done.stderr.decode("utf-8", "replace").strip()[:1000], done.returncode
            wrong = f"status {status}, without JSON of Version 1 on stdout"
            raise CredentialsError(f"{what}: {wrong}: {said}")
        return credentials_in(done.stdout, what)

    def container(self) -> Credentials | None:
        """The endpoint that ECS, EKS Pod Identity or Greengrass names in the environment."""
        relative = self.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or ""
        name = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
        url = f"http://169.254.170.2{relative}" if relative else self.environ.get(name) or ""
        if not url:
            return None
        if not is_visible(url) or (relative and relative[0] != "/"):
            raise CredentialsError(f"{name}, or …_RELATIVE_URI, which begins with /, is malformed")
        host, _ = host_and_port(split_url(check_endpoint_url(url.partition("?")[0], name))[0], 0)
        if not url.startswith("https:") and host not in NEAR_HOSTS:
            raise CredentialsError(f"{name}: {host[:80]!r} is not local; use https")
        name = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
        file = self.environ.get(f"{name}_FILE")
        token = token_in(file) if file else self.environ.get(name) or ""
        if not token.isascii() or not token.isprintable():
            raise CredentialsError(f"{name} is not printable ASCII")
        headers: Headers = (("Authorization", token),) if token else ()
        request = Request("GET", url, (("Accept", "application/json"), *headers))
        answer = self.ask("container credentials", request, near=2, secrets=(relative,))
        return credentials_in(answer, "the container endpoint's answer")

    def imds(self) -> Credentials | None:
        """The EC2 instance's role, from IMDSv2; None if there is no role or no IMDS."""
        if self.settings.get_flag("ec2_metadata_disabled"):
            return None
        setting = "ec2_metadata_service_endpoint"
        url = check_endpoint_url(self.settings.get(setting) or "http://169.254.169.254", setting)
        headers: Headers = (("x-aws-ec2-metadata-token-ttl-seconds", "21600"),)
        request = Request("PUT", f"{url}/latest/api/token", (*headers, ("Content-Length", "0")))
        url += "/latest/meta-data/iam/security-credentials/"
        try:
            answer = self.ask("IMDSv2 token", request, near=1)
            token = checked_key("IMDS's token", answer.decode("utf-8", "replace").strip())
            headers = (("x-aws-ec2-metadata-token", token),)
            answer = self.ask("IMDS role", Request("GET", url, headers), near=1)
            url += uri_encode(answer.strip().split(b"\n")[0])
            answer = self.ask("IMDS", Request("GET", url, headers), near=1)
        except TransportError as error:
            if error.sent or self.sender.monotonic() >= self.deadline:
                raise
            return None  # nothing answers: this is no EC2 instance
        except ClientError as error:
            if error.operation_name == "IMDS role" and error.status == 404:
                return None  # the instance has no role
            advice = "is IMDS disabled, or without version 2 (required)?"
            raise CredentialsError(f"{error}; {advice}") from error
        return credentials_in(answer, "IMDS's answer")

    def ask(self, operation: str, request: Request, near: float = 0, **options: Any) -> bytes:
        """The answer's body; `near`: an attempt's seconds at IMDS or the container endpoint."""
        options = {"deadline": self.deadline, "timeout": SERVICE_TIMEOUT_SECONDS, **options}
        if near:
            seconds = self.settings.get_count("metadata_service_timeout", 1)
            count = self.settings.get_count("metadata_service_num_attempts", 1)
            options.update(timeout=max(near, seconds), max_attempts=max(MAX_ATTEMPTS, count))
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


def key_pair(values: Mapping[str, Any], names: tuple[str, ...], where: str) -> Credentials | None:
    """Credentials from the values of these names; None if there is neither key."""
    key_id, secret, token, expiry, account = (*map(values.get, names), None, None)[:5]
    if not key_id and not secret:
        return None
    if not key_id or not secret:
        there, missing = names[:2] if key_id else names[1::-1]
        raise CredentialsError(f"{where} has {there} but no {missing}")
    try:
        return Credentials(key_id, secret, token, epoch(expiry), account or None)
    except CredentialsError as error:
        raise CredentialsError(f"{where}: {error}") from None


def service_answer(response: Response, is_object: bool = False) -> dict[str, Any]:
    """ResponseMetadata, Body, and Complete, which is False only for an object of S3."""
    if 200 <= response.status < 300:
        if not response.complete and not is_object:
            raise TransportError("the answer was cut short", kind="closed")
        metadata = response_metadata(response)
        return {"ResponseMetadata": metadata, "Body": response.body, "Complete": response.complete}
    fields = xml_fields(response.body)
    # Without fields the error quotes the body, which may be a secret if it is not S3's.
    said = json_object(response.body) or (None if is_object and "Code" not in fields else fields)
    refusal = client_error(response, said, "")
    kept = ("CanonicalRequest", "Region")  # of what S3 says beside code and message
    refusal.response["Error"].update({key: fields[key] for key in kept if key in fields})
    raise refusal


def credentials_in(answer: bytes, where: str) -> Credentials:
    """The credentials in an answer. Services differ only in case, and in "Token"."""
    fields: Any = json_object(answer) or xml_fields(answer)
    fields = fields.get("roleCredentials", fields)  # SSO's
    fields = fields if isinstance(fields, dict) else {}
    found = {name[:1].upper() + name[1:]: value for name, value in fields.items()}
    if found.get("Code", "Success") != "Success":  # IMDS may answer so, with HTTP 200
        raise CredentialsError(f"{where} is {str(found['Code'])[:80]!r}")
    credentials = key_pair({"SessionToken": found.get("Token"), **found}, ANSWER_KEYS, where)
    if credentials is None:
        raise CredentialsError(f"{where} has no AccessKeyId and no SecretAccessKey")
    return credentials


def epoch(text: object) -> float | None:
    """Epoch seconds of an RFC 3339 time, or of SSO's milliseconds; None if there is none.

    >>> epoch("2015-08-30T12:36:00Z"), epoch("2015-08-30 12:36:00.5+00:00")
    (1440938160.0, 1440938160.0)
    """
    from datetime import datetime

    if not text:
        return None
    try:  # before Python 3.11 fromisoformat reads less
        if isinstance(text, (int, float)):
            return text / 1000
        day, clock, rest = str(text)[:10], str(text)[11:19], str(text)[19:]
        zone = rest.lstrip(".0123456789").upper().replace("UTC", "Z") or "Z"
        return datetime.strptime(f"{day} {clock} {zone}", "%Y-%m-%d %H:%M:%S %z").timestamp()
    except (ValueError, OverflowError):
        wrong = f"the expiration {str(text)[:40]!r} is not an RFC 3339 time"
        raise CredentialsError(wrong) from None


def token_in(path: str) -> str:
    """The token in a file, read anew each time."""
    try:
        return checked_key(f"the token in {path}", read_text_file(path).rstrip("\r\n"))
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{path}: the token file cannot be read: {error}") from None


# --- 11. The client ----------------------------------------------------------
# In: an operation's members. Out: the service's answer, as a plain dict. A client joins the
# sections above for one region and one set of credentials.


class RuntimeClient:
    """A client of SageMaker Runtime in one region. Thread-safe; a context manager.

    `credentials` is Credentials, or a callable that returns some. `verify` is a file of CA
    certificates, or False, which is unsafe. With `retry_sent=False` a request that got no answer,
    but may have been accepted, is not sent again. Making a client opens no connection. Raises
    ConfigurationError, CredentialsError.
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
            environ, profile=profile_name or None, region=region_name, endpoint=endpoint_url,
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
        self._sender = Sender(self._transport, settings, clock, monotonic, sleep, random)
        keys = (aws_access_key_id, aws_secret_access_key, aws_session_token)
        if keys != (None, None, None):
            if credentials is not None:
                raise ConfigurationError("give credentials or the three aws_… keys, not both")
            credentials = key_pair(dict(zip(PROFILE_KEYS, keys)), PROFILE_KEYS, "the call")
            if not credentials:
                raise CredentialsError("the call has an empty key, or a token without its keys")
        self._credentials = CredentialChain(settings, self._sender, prompt, credentials)

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
        included. Beside boto3's keys, ResponseMetadata has ServerTime, ResponseAt (epoch seconds,
        the service's clock and ours), ClockSkew (seconds that the service is ahead, or None), and
        Attempts, one entry an attempt: Outcome, Seconds, Delay (seconds before the next). Raises
        ParamValidationError, CredentialsError, ClientError, TransportError (of kind "timeout" at
        the end of `timeout`).
        """
        members = dict(locals())
        del members["self"], members["unknown"], members["timeout"]
        return self._sender.send(self._invocation({**members, **unknown}, timeout))

    def explain(self, /, **members: Any) -> Signed:
        """What invoke_endpoint_async would send first; opens no connection to SageMaker."""
        call, now = self._invocation(members), self._sender.clock()
        call.credentials = self._credentials.get()
        return self._sender.signed(call, now)

    def _invocation(self, members: Mapping[str, Any], timeout: float | None = None) -> Call:
        seconds = NEVER if timeout is None else checked_seconds("timeout", timeout)
        deadline = self._sender.monotonic() + seconds
        request = serialize(members, self.endpoint_url, parameter_validation=self._validate)
        signing = {"region": self.region_name, "service": SIGNING_NAME}
        return Call(
            OPERATION, request, deserialize, self._credentials.get, signing=signing,
            deadline=deadline, max_attempts=self.max_attempts, retry_sent=self._retry_sent,
        )  # fmt: skip

    def close(self) -> None:
        """Close the connections that are kept; the client stays usable."""
        if hasattr(self._transport, "close"):
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


lambda_client = lru_cache(None)(RuntimeClient)  # kept for later invocations


def lambda_handler(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:
    """A Lambda function's handler: takes the members as its event, returns the operation's dict.

    Body is base64 if it is a string, and is sent as JSON if it is an object or an array. Region,
    credentials and the rest come from the function's environment. The call times out
    one second before the function does, or half-way if less than two seconds are left.
    """
    client, timeout = lambda_client(), None
    if hasattr(context, "get_remaining_time_in_millis"):
        left = context.get_remaining_time_in_millis() / 1000
        timeout = max(left - 1.0, left / 2, 0.001)
    return client._sender.send(client._invocation(members_in(event), timeout))


def members_in(document: object) -> dict[str, Any]:
    """The members in a JSON document. Body is base64 if it is a string, else sent as JSON."""
    if not isinstance(document, dict):
        raise ParamValidationError("the members are not a JSON object of names and values")
    members = dict(document)
    body = members.get("Body")
    if isinstance(body, str):
        members["Body"] = from_base64(body)
    elif isinstance(body, (dict, list)):
        import json

        try:
            text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            members["Body"] = text.encode()
        except (ValueError, RecursionError) as error:
            raise ParamValidationError(f"Body: cannot be sent as JSON: {error}") from None
    return members


def from_base64(text: str) -> bytes:
    """The bytes; raises ParamValidationError."""
    from base64 import b64decode

    try:
        return b64decode(text, validate=True)
    except ValueError:
        advice = "on the command line, fileb://path or --cli-binary-format raw-in-base64-out"
        text = f"Body: is not base64; give base64, an object or an array; {advice}"
        raise ParamValidationError(text) from None


# === PART III: THE WHOLE JOB =================================================
__all__ += ["Client", "Result", "Outcome"]

# --- 12. Input and result ----------------------------------------------------
# In: an input for the model, and later what invoke_endpoint_async returned. Out: the input's
# location in S3, and what the model wrote. S3 does not say when an object appears, so wait asks
# again with growing pauses, until one deadline. A broken download resumes.
# https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-check-predictions.html

WAIT_SECONDS = 900.0  # a model's default limit
CONCURRENCY = 16


class Client(RuntimeClient):
    """RuntimeClient, and the rest of the job: the input, the result, and many requests."""

    def put_input(
        self, data: bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO,
        location: str, *, ContentType: str | None = None,
        ServerSideEncryption: str | None = None, SSEKMSKeyId: str | None = None,
    ) -> str:  # fmt: skip
        """Put an input into S3 and return its location, which is for InputLocation.

        `data` is bytes, a file's path, or a seekable binary file, sent from where it stands; a
        file is read twice and never held in memory. An object at the location is replaced. Use it
        for inputs larger than Body's 128,000 bytes. ServerSideEncryption ("AES256", "aws:kms",
        "aws:kms:dsse") and SSEKMSKeyId are for buckets whose policy asks for them. Raises
        ParamValidationError, CredentialsError, TransportError, ClientError, OSError.
        """
        from base64 import b64encode
        from functools import partial
        from hashlib import sha256

        parse_location(location)
        members = {"EndpointName": "x", "InputLocation": location, "ContentType": ContentType}
        serialize(members, "")  # raises for characters that cannot be sent
        if not is_visible(f"{ServerSideEncryption}{SSEKMSKeyId}"):
            raise ParamValidationError("ServerSideEncryption, SSEKMSKeyId: use visible ASCII only")
        with input_file(data) as file:
            start, digest = file.tell(), sha256()
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
            size = file.tell() - start
            encryption = ServerSideEncryption or (SSEKMSKeyId and "aws:kms")
            headers = (
                ("Content-Type", (ContentType or "").strip(" ")), ("Content-Length", str(size)),
                ("x-amz-checksum-sha256", b64encode(digest.digest()).decode()),  # for Object Lock
                ("x-amz-server-side-encryption", encryption),
                ("x-amz-server-side-encryption-aws-kms-key-id", SSEKMSKeyId),
            )  # fmt: skip
            given = tuple([(name, str(text)) for name, text in headers if text])
            body = partial(BoundedReader, file, start, size)
            self._s3("PUT", location, given, body, digest.hexdigest())
        return location

    def poll(self, accepted: Mapping[str, Any]) -> Result | None:
        """Look once for the result of an answer of invoke_endpoint_async; None: not there yet.

        Raises InferenceError when the model failed, ClientError with a hint when S3 answers 403,
        TransportError when downloads keep breaking, ParamValidationError for an answer without
        OutputLocation. If there are both a result and a failure, the result counts.
        """
        return self._look(locations_in(accepted), Download(None), NEVER)

    def wait(
        self, accepted: Mapping[str, Any], *, timeout: float = WAIT_SECONDS,
        file: str | os.PathLike[str] | BinaryIO | None = None,
    ) -> Result:  # fmt: skip
        """The result, as soon as it is there; `timeout` is in seconds.

        With `file` the body goes there: to a path, where it appears atomically once complete, or
        to a binary file from where it stands. Raises InferenceError when the model failed, and
        ResultTimeout after `timeout`; or instead ClientError when S3's last answer was 403, and
        TransportError when a download had begun. While S3 cannot be reached, the wait continues.
        Errors that waiting cannot fix are raised at once.
        """
        timeout, places = checked_seconds("timeout", timeout), locations_in(accepted)
        with Download(file) as download:
            return self._wait(places, download, timeout)

    def invoke_many(
        self, requests: Iterable[Mapping[str, Any]], *, concurrency: int = CONCURRENCY
    ) -> Iterator[Outcome]:
        """Enqueue one inference for each mapping of members; yield an Outcome as each ends.

        `requests` is read in the caller's thread, between two outcomes, at most 2 x `concurrency`
        (1 to 1000) ahead. So a slow iterator delays outcomes, and it must not wait for one. A
        throttled request is tried up to 20 times, with growing pauses. Leaving the loop waits for
        the requests under way and drops their outcomes. An exception of `requests` is raised after
        all outcomes. Raises ParamValidationError.
        """
        if type(concurrency) is not int or not 1 <= concurrency <= 1000:
            raise ParamValidationError(f"concurrency: {concurrency!r} is not within 1 to 1000")
        return outcomes_of(self, iter(requests), concurrency)

    def _s3(
        self, method: str, location: str, headers: Headers, body: Any = b"",
        payload_hash: str = EMPTY_HASH, **options: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """S3's answer, asked for in the bucket's region."""
        bucket, key = parse_location(location)
        asked: list[str] = []
        while True:
            region = self._bucket_regions.get(bucket, self.region_name)
            asked.append(region)
            endpoint = self._settings.endpoint("s3", region)
            own = self.sources["s3 endpoint"] != "the region"
            url = s3_url(endpoint, bucket, key, path_style=own or "." in bucket)
            signing: dict[str, Any] = {"region": region, "service": "s3", "sign_body": True}
            signing.update(payload_hash=payload_hash, double_encode=False, normalize_path=False)
            call = Call(
                f"{method.title()}Object", Request(method, url, headers, body),
                lambda response: service_answer(response, is_object=True), self._credentials.get,
                signing=signing, max_attempts=self.max_attempts, **options,
            )  # fmt: skip
            try:
                return self._sender.send(call)
            except ClientError as error:  # which may name the bucket's region
                elsewhere = error.metadata["HTTPHeaders"].get("x-amz-bucket-region")
                elsewhere = elsewhere or error.response["Error"].get("Region") or region
                if error.status not in (301, 307, 400) or elsewhere in asked:
                    raise
                self._bucket_regions[bucket] = check_region(elsewhere, f"the region of {bucket}")

    def _fetch(self, location: str, download: Download, deadline: float) -> ClientError | None:
        """Download an object, resuming as needed; returns S3's error if it is not there."""
        broken = 0  # answers in a row that brought less than 1 MiB
        while True:
            had, etag = download.count, download.metadata["HTTPHeaders"].get("etag", "")
            wanted = (("Range", f"bytes={had}-"), ("If-Match", etag)) if had else ()
            until = NEVER if download.begun else deadline  # of the wait, which is over by then
            try:
                answer = self._s3("GET", location, wanted, deadline=until, sink=download)
            except ClientError as error:
                if action := denied_action(error):
                    error.hint = f"allow {action} to this caller"
                if download.begun or not is_absent(error):
                    raise
                return error
            download.take(answer, had)
            if download.complete:
                return None
            broken = 0 if download.count - had >= MAX_BODY_BYTES else broken + 1
            if broken == self.max_attempts:
                text = f"{location}: the download keeps breaking, now at byte {had}; try later"
                raise TransportError(text, kind="closed")
            self._sender.sleep(backoff("transient", broken, self._sender.random()))

    def _look(self, places: tuple[str, str], download: Download, deadline: float) -> Result | None:
        """The result if it is there; raises InferenceError, and ClientError for a 403."""
        output, failure = places
        absence = self._fetch(output, download, deadline)
        if download.complete:
            return download.result(output)
        if failure:
            reason = Download(None)
            unseen = self._fetch(failure, reason, deadline)
            if reason.complete:
                body, kind, *_ = reason.result(failure)
                text = printable(body[:1000].decode("utf-8", "replace").strip())
                evidence = {"location": failure, "body": body, "content_type": kind}
                raise InferenceError(
                    f"the inference failed: {text or 'no reason given'} ({failure})", **evidence
                )
            absence = absence if absence and absence.status == 403 else unseen
        if absence and absence.status == 403:
            needed = "s3:ListBucket on the bucket, and s3:GetObject on its objects"
            absence.hint = f"allow {needed}; without the first, S3 says 403 instead of 404"
            raise absence
        return None

    def _wait(self, places: tuple[str, str], download: Download, timeout: float) -> Result:
        """Look until there is a result, with growing pauses."""
        started = self._sender.monotonic()
        trouble: ClientError | TransportError | None = None
        while True:
            try:
                if result := self._look(places, download, started + timeout):
                    return result
                trouble = None
            except (ClientError, TransportError) as error:
                is_hidden = isinstance(error, ClientError) and is_absent(error)
                if retry_kind(error) is None and (download.begun or not is_hidden):
                    raise
                if not trouble and (log := logger()):
                    log.warning("still waiting for %s: %s", places[0], error)
                if trouble is None or isinstance(error, ClientError):
                    trouble = error  # S3's answer says more than a last look that was cut short
            waited = self._sender.monotonic() - started
            left = timeout - 0.1 - waited  # which leaves a moment for the last look
            if left <= 0:
                break
            # A result is seen at most 1.5 s + 12 % of its time late, and never more than 30 s.
            pause = min(1.5 + 0.12 * waited, 30.0) * (0.9 + 0.1 * self._sender.random())
            self._sender.sleep(min(pause, left))
        if trouble and (download.begun or trouble.metadata.get("HTTPStatusCode") == 403):
            raise trouble
        why = f"the last look failed: {trouble}" if trouble else "queued, or still running"
        unseen = "a failure would not show: there is no FailureLocation"
        advice = "wait longer, or look again later" if places[1] else unseen
        text = f"nothing at {places[0]} after {waited:.1f} s: {why}; {advice}"
        raise ResultTimeout(text, location=places[0], waited=waited) from trouble


def input_file(data: Any) -> Any:
    """A context manager for a binary file: `data` is one, or bytes, or a path."""
    from contextlib import nullcontext

    if isinstance(data, (bytes, bytearray, memoryview)):
        data = io.BytesIO(bytes(data))
    if isinstance(data, (str, os.PathLike)) and os.path.isfile(data):
        return open(data, "rb")
    if hasattr(data, "seekable") and data.seekable() and isinstance(data.read(0), bytes):
        return nullcontext(data)
    right = "bytes, a file's path, nor a file opened with 'rb'; save a pipe's data first"
    raise ParamValidationError(f"data: {str(data)[:80]!r} is neither {right}")


class BoundedReader(io.RawIOBase):
    """`left` bytes of a file from `start` on, though it may have grown; the file stays open."""

    def __init__(self, file: BinaryIO, start: int, left: int) -> None:
        self.file, self.left = file, left
        file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.file.read(min(len(buffer), self.left))
        buffer[: len(piece)] = piece
        self.left -= len(piece)
        return len(piece)


def is_absent(error: ClientError) -> bool:
    """Whether the object is absent (404), or S3 hides whether it is (403)."""
    if error.status == 403:
        return error.code == "AccessDenied" and denied_action(error) in ("", "s3:ListBucket")
    return error.status == 404 and error.code != "NoSuchBucket"


def denied_action(error: ClientError) -> str:
    """The action that the caller may not perform, such as kms:Decrypt; "" if S3 names none."""
    return error.message.partition("not authorized to perform: ")[2].partition(" ")[0]


def locations_in(accepted: Mapping[str, Any]) -> tuple[str, str]:
    """OutputLocation and FailureLocation, checked; the second is "" if there is none."""
    if not hasattr(accepted, "get") or accepted.get("Error"):
        raise ParamValidationError("this is not an answer of invoke_endpoint_async")
    output, failure = accepted.get("OutputLocation"), accepted.get("FailureLocation") or ""
    if not output:
        advice = "if the answer has none, set S3OutputPath in the endpoint's AsyncInferenceConfig"
        raise ParamValidationError(f"there is no OutputLocation: pass it; {advice}")
    for location in filter(None, (output, failure)):
        parse_location(location)
    return output, failure


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


class Download(io.RawIOBase):
    """A download from S3 into memory, a binary file, or a path.

    The transport writes to it. For a path, the bytes go to a file beside it until all are there;
    `close` removes that file. Raises ParamValidationError, OSError.
    """

    count, begun, complete = 0, False, False
    path = part = ""

    def __init__(self, file: Any) -> None:
        self.to_memory = file is None
        self.metadata: dict[str, Any] = {"HTTPHeaders": {}}  # of the first answer
        self.file: Any = io.BytesIO() if file is None else file
        try:
            if isinstance(file, (str, os.PathLike)):
                path = os.path.realpath(file)
                if os.path.exists(path) and not os.path.isfile(path):
                    raise ValueError(f"{path!r} is not a file")
                self.part = f"{path}.{os.urandom(8).hex()}.part"
                self.file, self.path = open(self.part, "xb"), path  # noqa: SIM115
                if os.path.exists(path):  # keep its permissions
                    os.chmod(self.part, os.stat(path).st_mode & 0o777)
            self.file.write(b"")
        except (AttributeError, TypeError, ValueError, OSError) as error:
            right = "give a path, or a file opened with 'wb'"
            raise ParamValidationError(f"file: {error}; {right}") from None

    def write(self, data: Any) -> None:
        left = memoryview(data)
        while left:  # an unbuffered file may take a part
            left = left[self.file.write(left) or len(left) :]
        self.count += len(data)

    def take(self, answer: dict[str, Any], had: int) -> None:
        """Note the answer to a request for the bytes from `had` on."""
        if not had:
            self.metadata = answer["ResponseMetadata"]
        elif answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            text = f"S3 sent the whole object instead of the bytes from {had} on"
            raise TransportError(text, retryable=False)
        self.write(answer["Body"])  # of a transport that knows no sink
        self.begun, self.complete = True, answer["Complete"]

    def result(self, location: str) -> Result:
        """The result, once complete; a path gets its file now."""
        if self.path:
            self.file.close()
            os.replace(self.part, self.path)
        body = self.file.getvalue() if self.to_memory else b""
        kind = self.metadata["HTTPHeaders"].get("content-type", "")
        return Result(body, kind, location, self.metadata)

    def close(self) -> None:
        if self.path:
            try:
                self.file.close()
            finally:
                if os.path.exists(self.part):
                    os.remove(self.part)


# --- 13. Many ----------------------------------------------------------------
# In: any iterable of requests. Out: one outcome for each, as they end. A pool of threads sends
# them. Requests are read only as outcomes are taken, so that few are held at a time.

THROTTLED_TRIES = 20  # of one request among many, whatever the quota says


class Outcome(namedtuple("Outcome", "index request answer error", defaults=[None, None])):
    """The outcome of one request: `answer` or `error`; the other is None.

    `index` counts the requests from 0, in their order; `request` is the one that was given.
    """

    __slots__ = ()
    index: int
    request: Mapping[str, Any]
    answer: dict[str, Any] | None
    error: Exception | None

    def __repr__(self) -> str:
        return f"<Outcome {self.index}, {'accepted' if self.answer else self.error!r}>"


def outcomes_of(client: Client, requests: Iterator[Any], concurrency: int) -> Iterator[Outcome]:
    """The outcomes of invoke_many; no thread is left when it ends."""
    from concurrent.futures import ThreadPoolExecutor
    from queue import SimpleQueue

    pool, most = ThreadPoolExecutor(concurrency), 2 * concurrency
    done: SimpleQueue[Any] = SimpleQueue()
    under_way: dict[Any, tuple[int, Any]] = {}  # a future, and the request that it answers
    left: list[bool] = []  # not empty once the caller has left the loop
    failure: list[Exception] = []
    jobs = enumerate(requests)

    def feed() -> None:
        try:
            for index, request in jobs if len(under_way) < most and not failure else ():
                future = pool.submit(answer_to, client, left, request)
                under_way[future] = index, request
                future.add_done_callback(done.put)
                if len(under_way) == most or not done.empty():
                    break
        except Exception as error:  # of the iterator; raised after all outcomes
            failure.append(error)

    try:
        feed()
        while under_way:
            future = done.get()
            error = future.exception()
            if error and not isinstance(error, Exception):
                raise error  # KeyboardInterrupt, for example
            yield Outcome(*under_way.pop(future), None if error else future.result(), error)
            feed()
    finally:
        left.append(True)
        pool.shutdown(cancel_futures=True)
    if failure:
        raise failure[0]


def answer_to(client: Client, left: list[bool], request: Any) -> dict[str, Any]:
    """The answer to one request; while it is throttled, it alone backs off."""
    if not hasattr(request, "keys"):
        raise ParamValidationError(f"expected a mapping, got {type(request).__name__}")
    call, sender, retry = client._invocation(request), client._sender, 0
    call.retry_throttled = False
    while True:
        try:
            return sender.send(call)
        except ClientError as error:
            if retry_kind(error) != "throttle" or retry == THROTTLED_TRIES - 1:
                raise
            retry_after = error.metadata["HTTPHeaders"].get("x-amz-retry-after")
            pause = backoff("throttle", retry, sender.random(), retry_after)
            while pause > 0 and not left:  # short sleeps: the caller may leave the loop
                sender.sleep(min(pause, 0.5))
                pause -= 0.5
            if left:
                raise  # this outcome is dropped
        retry += 1


# === PART IV: THE COMMAND LINE ===============================================
__all__ += ["main"]

# --- 14. Command line --------------------------------------------------------
# In: the AWS CLI's flags, under its names. Out: what it prints, on stdout; everything else on
# stderr; and its exit status. https://docs.aws.amazon.com/cli/latest/reference/sagemaker-runtime/

EXIT_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    # those of AWS CLI v2, and 3 and 4; the first class that fits
    (ParamValidationError, 252), (ConfigurationError, 253), (CredentialsError, 253),
    (ClientError, 254), (InferenceError, 3), (ResultTimeout, 4), (KeyboardInterrupt, 130),
    (Exception, 255),
)  # fmt: skip
EXAMPLE_CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = 1440938160.0  # 20150830T123600Z, the date of AWS's published examples
HIDDEN_IN_EXPLAIN = {
    # header: the shell's variable that stands for its value
    "x-amz-security-token": "$AWS_SESSION_TOKEN",
    "x-amzn-sagemaker-custom-attributes": "$CUSTOM_ATTRIBUTES",
}
UNSIGNED = {
    # header: why it is not signed; User-Agent's reason is that of all others, too
    "authorization": "it carries the signature",
    "content-length": "when it is 0, some proxies drop it and some add it",
    "user-agent": "proxies and HTTP libraries may add, change or drop it",
}
ANSWER_MEMBERS = ("OutputLocation", "FailureLocation", "InferenceId")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # A stream that is closed is None.
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal knows UTF-8
    try:
        options = _parser().parse_args(argv)
        if options.debug:
            import logging

            logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
            logging.getLogger("smasync").setLevel(logging.DEBUG)
        status = int(options.run(options) or 0)
    except SystemExit as end:  # --help, or argparse's usage error
        status = 252 if end.code else 0
    except (Error, OSError, KeyboardInterrupt) as error:
        if not isinstance(error, BrokenPipeError):  # no reader now
            text = str(error) or "interrupted"
            if isinstance(error, ClientError) and error.hint:
                text += f"\nsmasync: {error.hint}"
            print(f"smasync: {printable(text)}", file=sys.stderr)
        status = next(status for kind, status in EXIT_STATUS if isinstance(error, kind))
    try:
        sys.stdout.flush()
    except OSError as error:  # as above, or the disk is full
        if not isinstance(error, BrokenPipeError):
            print(f"smasync: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python reports it again as it ends
        status = 255
    return status


def _parser() -> ArgumentParser:
    import re
    from argparse import ArgumentParser

    parser = ArgumentParser(prog="smasync", description="Amazon SageMaker's InvokeEndpointAsync.")
    parser.add_argument("--version", action="version", version=f"smasync {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, run, arguments, text in COMMANDS:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, query=None)
        for member in INVOKE_ENDPOINT_ASYNC if "--cli-binary" in arguments else ():
            words = re.findall("S3|TTL|[A-Z][a-z]+", member.name)
            flag, kind = "-".join(words).lower(), int if member.type == "integer" else str
            names = {"dest": member.name, "metavar": kind.__name__}
            command.add_argument(f"--{flag}", type=kind, **names)
        for argument in f"{arguments} {EVERYWHERE}".split():
            command.add_argument(argument, **ARGUMENTS.get(argument, {}))
    return parser


SECONDS: dict[str, Any] = {"type": float, "metavar": "SECONDS"}
SWITCH: dict[str, Any] = {"action": "store_true"}
EVERYWHERE = """--region --profile --endpoint-url --output --ca-bundle --no-verify-ssl
    --cli-read-timeout --cli-connect-timeout --debug"""
ARGUMENTS: dict[str, dict[str, Any]] = {
    # argument: its options for argparse
    "--endpoint-url": {"help": "SageMaker Runtime's; for wait and put-input, S3's"},
    "--output": {"choices": ("json", "text"), "default": "json"},
    "--no-verify-ssl": SWITCH, "--debug": SWITCH, "--quiet": SWITCH,
    "--cli-read-timeout": {"default": READ_TIMEOUT_SECONDS, **SECONDS},
    "--cli-connect-timeout": {"default": CONNECT_TIMEOUT_SECONDS, **SECONDS},
    "--cli-binary-format": {"choices": ("base64", "raw-in-base64-out"), "default": "base64"},
    "--cli-input-json": {"help": "the members; for wait, what invoke-endpoint-async printed"},
    "--query": {"choices": ANSWER_MEMBERS},
    "--wait": {"dest": "timeout", "help": "then wait this long for the result", **SECONDS},
    "--output-file": {"help": "where the result goes; stdout otherwise"},
    "--example": {"help": "use AWS's example keys and date; no account", **SWITCH},
    "--output-location": {"dest": "OutputLocation", "metavar": "s3://bucket/key"},
    "--failure-location": {"dest": "FailureLocation", "metavar": "s3://bucket/key"},
    "--timeout": {"default": WAIT_SECONDS, **SECONDS},
    "file": {"type": os.path.expanduser}, "location": {"help": "s3://bucket/key"},
    "--sse": {"help": "AES256, aws:kms or aws:kms:dsse"},
    "manifest": {"help": "one JSON object of members a line"},
    "--results": {"required": True, "help": "a file; lines that it has are skipped"},
    "--concurrency": {"type": int, "default": CONCURRENCY},
    "--retry-failed": {"help": "send failed lines again", **SWITCH},
}  # fmt: skip


def _run_invoke(options: Namespace) -> None:
    waits = options.timeout is not None
    timeout = checked_seconds("--wait", options.timeout) if waits else 0.0
    if options.output_file and not waits:
        raise ParamValidationError("--output-file is for the result; add --wait SECONDS")
    with _client(options, waiting()) as client, Download(options.output_file) as download:
        answer = client._sender.send(client._invocation(_members(options)))
        del answer["ResponseMetadata"]
        print(_formatted(answer, options), file=sys.stderr if waits else sys.stdout)
        if waits:
            print_result(client._wait(locations_in(answer), download, timeout))


def _run_wait(options: Namespace) -> None:
    accepted, file = _members(options), options.output_file
    with _client(options, waiting(), s3_alone=True) as client:
        print_result(client.wait(accepted, timeout=options.timeout, file=file))


def print_result(result: Result) -> None:
    """Print a result's bytes, or its text where stdout takes no bytes, as in a notebook."""
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.flush()
        sys.stdout.buffer.write(result.body)
    else:
        print(result.body.decode("utf-8", "replace"), end="")


def waiting() -> Callable[[float], None]:
    """time.sleep; on a terminal, one that shows on stderr how long the command has waited."""
    started = time.monotonic()

    def sleep(seconds: float) -> None:
        text = f"\rwaited {time.monotonic() - started:.0f} s; next try in {seconds:.0f} s"
        print(text, end="", file=sys.stderr, flush=True)
        time.sleep(seconds)
        print("\r" + " " * len(text), end="\r", file=sys.stderr, flush=True)

    return sleep if sys.stderr.isatty() else time.sleep


def _run_put_input(options: Namespace) -> None:
    encryption = {"ServerSideEncryption": options.sse, "SSEKMSKeyId": options.sse_kms_key_id}
    with _client(options, s3_alone=True) as client:
        file, location, kind = options.file, options.location, options.content_type
        print(client.put_input(file, location, ContentType=kind, **encryption))


def _run_explain(options: Namespace) -> None:
    if options.example:
        no_files = {variable: os.devnull for variable, _ in SHARED_FILES.values()}
        keys, region = EXAMPLE_CREDENTIALS, options.region or "us-east-1"
        client = Client(region, credentials=keys, environ=no_files)
        client._sender.user_agent = f"smasync/{__version__}"  # the same on every machine
        call = client._invocation(_members(options))
        call.invocation_id, call.credentials = "01234567-89ab-4cde-8f01-23456789abcd", keys
        print(explanation(client._sender.signed(call, EXAMPLE_TIME), keys.secret_access_key))
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


def _client(
    options: Namespace, sleep: Callable[[float], None] = time.sleep, s3_alone: bool = False
) -> Client:
    """The client for these flags; with `s3_alone`, --endpoint-url is S3's."""
    client = Client(
        options.region, profile_name=options.profile, sleep=sleep,
        endpoint_url=None if s3_alone else options.endpoint_url,
        connect_timeout=options.cli_connect_timeout or NO_LIMIT_SECONDS,
        read_timeout=options.cli_read_timeout or NO_LIMIT_SECONDS,
        verify=False if options.no_verify_ssl else options.ca_bundle,
    )  # fmt: skip
    if s3_alone:
        client._settings.arguments["s3 endpoint"] = options.endpoint_url
    return client


def _members(options: Namespace) -> dict[str, Any]:
    """The members of --cli-input-json, and those of the other flags, which win."""
    members = members_from_json(_parameter(options.cli_input_json or "{}"))
    for name in (*MEMBERS, *ANSWER_MEMBERS):
        value = getattr(options, name, None)
        value = _parameter(value) if isinstance(value, str) else value
        if name == "Body" and isinstance(value, str):
            raw = options.cli_binary_format == "raw-in-base64-out"
            value = value.encode("utf-8", "surrogateescape") if raw else from_base64(value)
        if value is not None:
            members[name] = value
    return members


def members_from_json(text: str | bytes) -> dict[str, Any]:
    """The members in a JSON object; raises ParamValidationError."""
    import json

    if len(text) > MAX_FILE_BYTES:
        raise ParamValidationError(f"over {MAX_FILE_BYTES} bytes of JSON; put the input into S3")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParamValidationError(f"not JSON: {error}") from None
    return members_in(document)


def _parameter(text: str) -> str | bytes:
    """The text, or what is in the file that "file://path" names; bytes for "fileb://path"."""
    scheme, _, path = text.partition("://")
    if not text.startswith(("file://", "fileb://")):
        return text
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        return content if scheme == "fileb" else content.decode("utf-8-sig")
    except UnicodeDecodeError:
        advice = "save it as UTF-8, or use fileb:// for bytes"
        raise ParamValidationError(f"{text}: not UTF-8; {advice}") from None
    except (OSError, ValueError) as error:
        raise ParamValidationError(f"{text}: cannot be read: {error}") from None


def _formatted(answer: dict[str, Any], options: Namespace) -> str:
    """The answer in the form that --output and --query ask for."""
    import json

    if options.output == "json":
        return json.dumps(answer.get(options.query) if options.query else answer, indent=4)
    names = [options.query] if options.query else sorted(answer)
    return "\t".join([printable(str(answer.get(name))) for name in names])


def explanation(signed: Signed, secret: str = "") -> str:
    """One signature as a lesson, with AWS's names for its steps and their parts.

    With a `secret`, the example's, every value is shown; without it, nothing secret.
    """
    request, hidden = signed.request, frozenset(() if secret else HIDDEN_IN_EXPLAIN)
    canonical = masked(signed.canonical_request, hidden).split("\n")
    labels = ["HTTPMethod", "CanonicalUri", "CanonicalQueryString", "CanonicalHeaders"]
    labels += [""] * (len(canonical) - 6) + ["SignedHeaders", "HashedPayload"]
    names = [name for name, _ in request.headers if name.lower() not in canonical[-2].split(";")]
    reasons = [UNSIGNED.get(name.lower(), UNSIGNED["user-agent"]) for name in names]
    to_sign = signed.string_to_sign.split("\n")
    parts = ("Algorithm", "RequestDateTime", "CredentialScope", "HashedCanonicalRequest")
    sent = [f"{request.method} {split_url(request.url)[1]} HTTP/1.1"]
    sent += [f"{name}: {value}" for name, value in request.headers]
    if request.body:
        sent += ["", str(request.body)[2:-1] if secret else "<the body>"]
    steps = (
        ("1. Create a canonical request", labelled(labels, canonical)),
        ("Not signed", labelled(names, reasons)),
        ("2. Create a hash of the canonical request", to_sign[3]),
        ("3. Create a string to sign", labelled(parts, to_sign)),
        ("4. Derive a signing key", key_derivation(to_sign[2], secret)),
        ("5. Calculate the signature: HMAC-SHA256(kSigning, string to sign)", signed.signature),
        ("6. Add the signature to the request", masked("\n".join(sent), hidden)),
        ("The same with curl", curl_command(request, hidden)),
    )
    return "\n\n".join(f"--- {title}\n{text}" for title, text in steps)


def labelled(labels: Iterable[str], lines: Iterable[str]) -> str:
    """Each line after its label."""
    return "\n".join([f"{label:22} | {line}".rstrip() for label, line in zip(labels, lines)])


def key_derivation(scope: str, secret: str) -> str:
    """The four rounds of the signing key, with their values if there is a secret."""
    key, lines = f"AWS4{secret}".encode(), []
    before = f'"AWS4{secret}"' if secret else '"AWS4" + secret access key'
    for name, text in zip(("kDate", "kRegion", "kService", "kSigning"), scope.split("/")):
        key = hmac_sha256(key, text)
        lines.append(f'{name:8} = HMAC-SHA256({before}, "{text}")')
        lines += [f"{'':8} = {key.hex()}"] if secret else []
        before = name
    return "\n".join(lines)


def curl_command(request: Request, hidden: frozenset[str]) -> str:
    """A shell command that sends the request; hidden values are the shell's variables."""
    from shlex import quote

    words = [f"curl -X {request.method} {quote(request.url)}"]
    for name, value in request.headers:
        variable = HIDDEN_IN_EXPLAIN[name.lower()] if name.lower() in hidden else ""
        words.append("-H " + (f'"{name}: {variable}"' if variable else quote(f"{name}: {value}")))
    words += ["--data-binary @BODY"] if request.body else []
    return " \\\n  ".join(words)


# --- 15. Bulk ----------------------------------------------------------------
# In: a manifest, one JSON object of members a line. Out: a file with a result for each line.
# Started again, it sends the lines without a result. A line is identified by its text, and by its
# number among equal lines: you can add, move, remove and correct lines between two runs.

KEY_CODES = EXPIRED_CODES | {  # the keys are refused: bulk stops, no line has failed
    "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
    "MissingAuthenticationToken", "MissingAuthenticationTokenException",
}  # fmt: skip


def _run_bulk(options: Namespace) -> int:
    """Enqueue what has no result yet; 254 when a line failed, in this run or before."""
    for path in (options.manifest, options.results):
        if not os.path.isfile(path) and (path == options.manifest or os.path.exists(path)):
            raise ParamValidationError(f"{path}: no such file, or not one that can be read twice")
    with _client(options) as client, open(options.results, "a+b") as results:
        lock_file(results)
        bulk = _Bulk(options, results)
        client._credentials.get()  # without credentials, no line is tried
        bulk.run(client)
    print(_formatted(bulk.counts, options))
    if bulk.stopped and bulk.counts["Left"]:
        raise bulk.stopped
    return 254 if bulk.counts["Failed"] else 0


class _Bulk:
    """A manifest, and the file of results that says which of its lines were tried."""

    def __init__(self, options: Namespace, results: BinaryIO) -> None:
        from collections import Counter

        self.options, self.results = options, results
        self.stopped: BaseException | None = None
        self.under_way: dict[int, dict[str, Any]] = {}  # index of an outcome: its entry
        known = known_results(results).items()
        self.known = {line: ok for line, ok in known if ok or not options.retry_failed}
        lines = manifest_lines(options.manifest)
        found = Counter(self.known.get((digest, copy)) for *_, digest, copy in lines)
        self.counts = {"Accepted": found[True], "Failed": found[False], "Left": found[None]}
        self.to_do, self.shown = found[None], time.monotonic()

    def run(self, client: Client) -> None:
        """Send the lines without a result, and write their results.

        Ctrl-C waits for the requests under way; a second one ends the program.
        """
        from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal
        from threading import current_thread, main_thread

        def stop(*_: object) -> None:
            self.stopped = self.stopped or KeyboardInterrupt()
            signal(SIGINT, SIG_DFL)

        ours = getsignal(SIGINT) is default_int_handler and current_thread() is main_thread()
        if ours:
            signal(SIGINT, stop)
        try:
            concurrency = self.options.concurrency
            for outcome in client.invoke_many(self.requests(), concurrency=concurrency):
                self.record(self.under_way.pop(outcome.index), outcome.answer, outcome.error)
                self.show_progress()
        finally:
            if ours:
                signal(SIGINT, default_int_handler)
        self.show_progress(is_last=True)

    def requests(self) -> Iterator[dict[str, Any]]:
        """The members of each line without a result, until there is a reason to stop."""
        index = 0
        for number, text, digest, copy in manifest_lines(self.options.manifest):
            if self.stopped:
                return
            if (digest, copy) in self.known:
                continue
            entry = {"Line": number, "Hash": digest, "Copy": copy, "InferenceId": None}
            try:
                members = members_from_json(text)
            except ParamValidationError as error:
                self.record(entry, None, error)
                continue
            if members.get("InferenceId") is None:
                members["InferenceId"] = f"line-{digest}-{copy}"
            self.under_way[index] = {**entry, "InferenceId": members["InferenceId"]}
            yield members
            index += 1

    def record(self, entry: dict[str, Any], answer: dict[str, Any] | None, error: Any) -> None:
        """Append the result of a line, and flush it to the file."""
        import json

        code = str(getattr(error, "code", ""))
        if isinstance(error, (CredentialsError, ConfigurationError)) or code in KEY_CODES:
            self.stopped = self.stopped or error
            return
        if answer:
            entry.update(answer)
            entry["RequestId"] = entry.pop("ResponseMetadata")["RequestId"]
        else:
            entry["Error"] = {"Type": type(error).__name__, "Code": code, "Message": str(error)}
        self.results.write(json.dumps(entry).encode() + b"\n")
        self.results.flush()
        self.counts["Failed" if error else "Accepted"] += 1
        self.counts["Left"] -= 1

    def show_progress(self, is_last: bool = False) -> None:
        """Print the progress on stderr, every few seconds and at the end."""
        now, left = time.monotonic(), self.counts["Left"]
        if self.options.quiet or not self.to_do or not (is_last or now - self.shown >= 5.0):
            return
        self.shown, failed = now, self.counts["Failed"]
        text = f"{self.to_do - left} of {self.to_do}, {failed} failed"
        print(text, file=sys.stderr, flush=True)


def manifest_lines(path: str) -> Iterator[tuple[int, bytes, str, int]]:
    """Number, text, hash and copy of each line that is not blank."""
    import hashlib

    copies: dict[str, int] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_FILE_BYTES + 1), b""), 1):
            where = f"{path}, line {number}"
            if len(line) > MAX_FILE_BYTES:
                raise ParamValidationError(f"{where}: over {MAX_FILE_BYTES} bytes")
            if b"\0" in line:
                raise ParamValidationError(f"{where}: not UTF-8; save the file as UTF-8")
            text = line.removeprefix(b"\xef\xbb\xbf").strip()  # a byte-order mark
            if text:
                digest = hashlib.sha256(text).hexdigest()[:32]
                copies[digest] = copies.get(digest, 0) + 1
                yield number, text, digest, copies[digest]


def known_results(file: BinaryIO) -> dict[tuple[str, int], bool]:
    """For hash and copy of each line tried, whether it was accepted; cuts off a torn last line."""
    import json

    known: dict[tuple[str, int], bool] = {}
    file.seek(0)
    end, first = 0, b'{"Line": '
    for count, text in enumerate(file, 1):
        try:
            entry = json.loads(text)
            known[str(entry["Hash"]), int(entry.get("Copy", 1))] = "Error" not in entry
        except (ValueError, KeyError, TypeError, RecursionError):
            if text.endswith(b"\n") or not first.startswith(text[: len(first)]):
                wrong = f"line {count}: not written by bulk; is it the right file?"
                raise ParamValidationError(f"{file.name}, {wrong}") from None
            file.truncate(end)
            return known
        if not text.endswith(b"\n"):
            file.write(b"\n")
        end += len(text)
    return known


def lock_file(file: BinaryIO) -> None:
    """Lock the results against a second bulk, if the system can."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock

        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        raise ParamValidationError(f"{file.name}: another bulk is writing to it") from None
    except (ImportError, OSError):
        return  # it has no such locks here


COMMANDS: tuple[tuple[str, Callable[[Namespace], object], str, str], ...] = (
    # name, function, arguments (with --cli-binary-format also the members), help
    ("invoke-endpoint-async", _run_invoke,
     "--cli-input-json --cli-binary-format --query --output-file --wait",
     "enqueue one inference and print where its result will be"),
    ("explain", _run_explain, "--cli-input-json --cli-binary-format --example",
     "show how a request is signed, step by step, without sending it"),
    ("wait", _run_wait,
     "--output-location --failure-location --cli-input-json --timeout --output-file",
     "wait for a result and print it"),
    ("put-input", _run_put_input, "file location --content-type --sse --sse-kms-key-id",
     "put a file into S3 and print its location"),
    ("bulk", _run_bulk, "manifest --results --concurrency --retry-failed --quiet",
     "enqueue one inference for each line of a file; continues where it stopped"),
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
