"""AWS's own signer in C as a second oracle: no word in common with botocore's in Python.

It shows no steps, and takes no white space but ASCII's for white space, so here there is more.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import (
    NOW,
    REGION,
    S3,
    TIMESTAMP,
    by_awscrt,
    calls_with,
    credentials,
    paths,
    paths_in_s3,
    requests,
    tokens,
    working,
)

import smasync
from smasync import Request, presign, sign

WHERE: dict[str, Any] = {"region": REGION, "timestamp": TIMESTAMP}


@settings(max_examples=1000)
@given(call=calls_with(()), token=tokens)
def test_a_call_is_signed_as_awscrt_signs_it(call: dict[str, Any], token: str | None) -> None:
    keys = credentials(token)
    client = smasync.Client(REGION, credentials=keys, environ={}, clock=lambda: NOW)
    signed = client.explain(**call)
    assert working(signed).result == by_awscrt(signed.request, keys, "sagemaker")


@settings(max_examples=500)
@given(request=requests(paths, st.binary(max_size=40)), token=tokens)
def test_any_request_is_signed_as_awscrt_signs_it(request: Request, token: str | None) -> None:
    keys = credentials(token)
    signed = sign(request, keys, service="execute-api", **WHERE)
    assert working(signed).result == by_awscrt(request, keys, "execute-api")


@settings(max_examples=500)
@given(request=requests(paths_in_s3, st.binary(max_size=40)), token=tokens)
def test_any_request_to_s3_is_signed_as_awscrt_signs_it(
    request: Request, token: str | None
) -> None:
    keys = credentials(token)
    signed = sign(request, keys, service="s3", sign_body=True, **WHERE, **S3)
    assert working(signed).result == by_awscrt(request, keys, "s3", s3=True)


expiries = st.sampled_from([1, 900, 604_800])


@settings(max_examples=500)
@given(request=requests(paths, st.binary(max_size=40)), token=tokens, expires=expiries)
def test_a_presigned_url_is_awscrts(request: Request, token: str | None, expires: int) -> None:
    keys = credentials(token)
    signed = presign(request, keys, service="execute-api", expires=expires, **WHERE)
    theirs = by_awscrt(request, keys, "execute-api", expires=expires)
    assert sorted(signed.request.url.split("&")) == sorted(theirs.split("&"))


@settings(max_examples=500)
@given(request=requests(paths_in_s3, st.binary(max_size=40)), token=tokens, expires=expiries)
def test_a_presigned_url_of_s3_is_awscrts(
    request: Request, token: str | None, expires: int
) -> None:
    keys = credentials(token)
    options: dict[str, Any] = {
        **WHERE,
        **S3,
        "payload_hash": "UNSIGNED-PAYLOAD",
        "expires": expires,
    }
    signed = presign(request, keys, service="s3", **options)
    theirs = by_awscrt(request, keys, "s3", s3=True, expires=expires)
    assert sorted(signed.request.url.split("&")) == sorted(theirs.split("&"))
