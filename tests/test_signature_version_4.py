"""Section 2, Signature Version 4: what is signed, and that it is AWS's signature.

Proves each step against AWS's own 38 vectors, in header and in query form, and against signatures
of this operation that other signers agree on. For generated requests, a verifier that was written
separately (the emulator's) accepts what was signed, and nothing that differs from it.
"""

from __future__ import annotations

import random
import re
from urllib.parse import quote, unquote

import emulator
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

import smasync
from smasync import Credentials, Request, canonical_headers, presign, sign

KEYS = Credentials(vectors.ACCESS_KEY_ID, vectors.SECRET_ACCESS_KEY)
TOKEN = Credentials(vectors.ACCESS_KEY_ID, vectors.SECRET_ACCESS_KEY, "a/session+token==")
WHERE = {"region": "us-east-1", "service": "sagemaker", "timestamp": "20150830T123600Z"}
S3 = {"double_encode": False, "normalize_path": False}
PLAIN = Request("GET", "https://example.com/", ())


def in_header(request, keys=TOKEN, **changed):
    return sign(request, keys, **{**WHERE, **changed})


def in_query(request, keys=TOKEN, **changed):
    return presign(request, keys, **{**WHERE, "expires": 900, **changed})


def s3_in_header(request, keys=TOKEN, **changed):
    return in_header(request, keys, **{**S3, "sign_body": True, "service": "s3", **changed})


def s3_in_query(request, keys=TOKEN, **changed):
    options = {**S3, "service": "s3", "payload_hash": "UNSIGNED-PAYLOAD", **changed}
    return in_query(request, keys, **options)


# --- AWS's vectors: 38 cases, in header and in query form

CHECKS = {f"{case.name}-{form}": (case, form) for case in vectors.CASES for form in case.facts}


@pytest.mark.parametrize(("case", "form"), CHECKS.values(), ids=CHECKS.keys())
def test_each_step_of_aws_s_vectors(case, form):
    method, _, target = case.request.partition(" ")
    request = Request(method, f"https://{vectors.HOST}{target}", case.headers, case.body.encode())
    keys = Credentials(vectors.ACCESS_KEY_ID, vectors.SECRET_ACCESS_KEY, case.token or None)
    where = {"service": vectors.SERVICE, "normalize_path": case.normalize}
    where["sign_session_token"] = case.sign_token
    if form == "header":
        signed = in_header(request, keys, sign_body=case.sign_body, **where)
    else:
        signed = in_query(request, keys, expires=vectors.EXPIRES, **where)
    expected, signature = case.canonical_request(form), case.facts[form][1]
    names, headers = expected.split("\n")[-2], dict(signed.request.headers)
    assert signed.canonical_request == expected
    assert signed.string_to_sign == case.string_to_sign(form)
    assert signed.signature == signature
    if form == "header":
        credential = f"Credential={vectors.ACCESS_KEY_ID}/{vectors.SCOPE}"
        rest = f"SignedHeaders={names}, Signature={signature}"
        assert headers["Authorization"] == f"AWS4-HMAC-SHA256 {credential}, {rest}"
        assert headers.get("X-Amz-Security-Token", "") == case.token
    else:
        pairs = signed.request.url.partition("?")[2].split("&")
        own = case._replace(sign_token=True).query(names) + [f"X-Amz-Signature={signature}"]
        assert sorted(pair for pair in pairs if pair.startswith("X-Amz-")) == sorted(own)
        assert "Authorization" not in headers


def test_no_vector_is_missing():
    assert len({case.name for case in vectors.CASES}) == 38
    assert len(CHECKS) == 76


# --- Signatures of the operation itself, on which botocore and other signers agree

INPUT = ("X-Amzn-SageMaker-InputLocation", "s3://bucket/in.json")
CALL_ID = ("amz-sdk-invocation-id", "01234567-89ab-4cde-8f01-23456789abcd")
COUNT = ("amz-sdk-request", "attempt=1; max=3")
INPUT_TYPE = ("X-Amzn-SageMaker-Content-Type", "application/json")
BODY_HEADERS = (("Content-Type", "application/octet-stream"), ("Content-Length", "7"))
GOLDEN = {
    # (endpoint's name, headers, body, token), SHA-256 of the canonical request, signature
    "input location": (
        ("my-endpoint", (INPUT,), b"", None),
        "c27b2cb9b63235ba9af918d500028983cb53e76538237ae363b7caa4f9e074d0",
        "3ab1491bdb15327cc10320e62e4a89c3ed5c40f95e261a01880470d4408ed8e5",
    ),
    "token and retry headers": (
        ("my-endpoint", (INPUT, CALL_ID, COUNT), b"", "TOKEN"),
        "e3fd3a9cb0ba7e43dd87e031d701da001cd5cbf87fc31eeaaff2aa1ca5093383",
        "0a5da3b2b25c6a32942f0440090daa0cc7fde677ced43066622d76a7559d23d0",
    ),
    "body": (
        ("my-endpoint", (INPUT_TYPE, *BODY_HEADERS), b'{"a":1}', None),
        "23d57ff383b3a25fe9646b759aa4e0b94ed7ddfdccde03337c9b0e611fd14941",
        "3fbd24b7b0e58702ac02af36196ac599aa493925396e4d442b584f0c902820c0",
    ),
    "odd endpoint name": (
        ("a%20b%2F%C3%BC~%25", (INPUT,), b"", None),
        "7531fb238242904223722c95b42d2a7441a4592d1798887ba0a948ab0b28698f",
        "8b98ed09a3c944413938ba47d895d0e295e9b83a94a270d685c1516eb7769285",
    ),
}


@pytest.mark.parametrize(("given", "digest", "signature"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden_signatures(given, digest, signature):
    label, headers, body, token = given
    host = "https://runtime.sagemaker.us-east-1.amazonaws.com"
    request = Request("POST", f"{host}/endpoints/{label}/async-invocations", headers, body)
    signed = in_header(request, Credentials(KEYS.access_key_id, KEYS.secret_access_key, token))
    assert signed.string_to_sign.rpartition("\n")[2] == digest
    assert signed.signature == signature


def test_eight_signing_keys_are_remembered_until_they_are_cleared():
    for day in range(10, 30):
        smasync.signing_key("a secret", f"201502{day}/us-east-1/iam/aws4_request")
    assert smasync.signing_key.cache_info().currsize == 8
    smasync.signing_key.cache_clear()
    assert smasync.signing_key.cache_info().currsize == 0


# --- What the properties are about: any request that this module could be asked to sign

letters = st.characters(exclude_categories=("Cc", "Cs"))
words = st.text(st.one_of(letters, st.sampled_from("  %+&=/~*'()\u00a0\u3000é\U0001f600")))
header_values = words.map(lambda text: text.strip(" "))
header_names = st.from_regex(r"[Xx]-(Test|tEST)-[a-z0-9_.!~-]{1,9}", fullmatch=True)
own_headers = st.lists(
    st.tuples(header_names, header_values), max_size=4, unique_by=lambda pair: pair[0].lower()
)
repeated = st.lists(header_values, max_size=3).map(lambda vs: [("X-Repeated", v) for v in vs])
pieces = st.one_of(
    st.sampled_from([".", "..", "", "a%20b", "%2F", "!*'()@:;=+$,"]), words.map(quote)
)
# A path that ends in a dot segment is left out: RFC 3986 keeps its last slash, the SDKs drop it.
paths = st.lists(pieces).map(lambda parts: "/" + "/".join([*parts, "end"]))
keys_in_s3 = words.map(lambda text: "/" + quote(text))
parameters = st.one_of(
    st.tuples(words, words).map(lambda pair: "=".join(map(quote, pair))),
    st.sampled_from(["", "flag", "=", "a=b=c", "a=%2f", "a=%zz", "A=1", "a=1", "!=*"]),
)
queries = st.lists(parameters.filter(lambda text: "X-Amz-" not in text), max_size=4).map("&".join)
hosts = st.sampled_from(["example.com", "localhost:8080", "[::1]:9000", "[::1]", "a.b:443"])


@st.composite
def requests(draw, path=paths):
    """A request as it would be sent; its Content-Length is right."""
    body = draw(st.binary(max_size=40))
    headers = draw(own_headers) + draw(repeated) + [("Content-Length", str(len(body)))]
    query = draw(queries)
    url = f"{draw(st.sampled_from(['http', 'https']))}://{draw(hosts)}{draw(path)}"
    method = draw(st.sampled_from(["GET", "PUT", "POST", "HEAD"]))
    return Request(method, f"{url}?{query}" if query else url, tuple(headers), body)


FORMS = {
    "header": (in_header, paths),
    "query": (in_query, paths),
    "s3 header": (s3_in_header, keys_in_s3),
    "s3 query": (s3_in_query, keys_in_s3),
}
forms = pytest.mark.parametrize(("signer", "path"), FORMS.values(), ids=FORMS.keys())
few = settings(max_examples=40)


def verify(request, keys=TOKEN):
    """What the emulator's verifier finds in the request's bytes."""
    rest = request.url.partition("://")[2]
    lines = [f"{request.method} /{rest.partition('/')[2]} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    raw = "\r\n".join([*lines, "", ""]).encode() + request.body
    accounts = {keys.access_key_id: emulator.Account(keys.secret_access_key, keys.session_token)}
    return emulator.verify(emulator.parse_request(raw), accounts)


def mutations(request):
    """(what, request with one canonical value changed), for each value that there is."""
    url, headers, body = request.url, request.headers, request.body
    yield "method", request._replace(method="DELETE")
    path, mark, query = url.partition("?")
    yield "path", request._replace(url=f"{path}x{mark}{query}")
    yield "query", request._replace(url=f"{url}{'&' if mark else '?'}added=1")
    yield "header added", request._replace(headers=(*headers, ("X-Amz-Added", "1")))
    for position, (name, value) in enumerate(headers):
        before, after = headers[:position], headers[position + 1 :]
        if name not in ("Authorization", "Content-Length"):
            yield name, request._replace(headers=(*before, (name, f"{value}x"), *after))
        if name.lower().startswith("x-"):
            yield f"{name} removed", request._replace(headers=before + after)
    if body:
        yield "body", request._replace(body=body[:-1] + bytes([body[-1] ^ 1]))


OTHER_SECRET = Credentials(TOKEN.access_key_id, "anotherSecret", TOKEN.session_token)
OTHER_TOKEN = Credentials(TOKEN.access_key_id, TOKEN.secret_access_key, "another")
OTHER_ID = Credentials("AKIDOTHER", TOKEN.secret_access_key, TOKEN.session_token)
CLAIMS = {"us-east-1": "us-east-2", "20150830": "20150831", "T123600Z": "T123601Z"}


def claims(request):
    """(what, request that says it was signed for another place or time)."""
    for old, new in CLAIMS.items():
        headers = tuple((name, value.replace(old, new)) for name, value in request.headers)
        yield old, request._replace(url=request.url.replace(old, new), headers=headers)


@forms
@few
@given(data=st.data())
def test_a_verifier_accepts_what_was_signed_and_rejects_each_change(signer, path, data):
    signed = signer(data.draw(requests(path)))
    verified = verify(signed.request)
    assert verified.canonical_request == signed.canonical_request
    assert verified.string_to_sign == signed.string_to_sign
    for what, mutant in [*mutations(signed.request), *claims(signed.request)]:
        if what == "body" and signer is s3_in_query:
            continue  # UNSIGNED-PAYLOAD says so
        with pytest.raises(emulator.SignatureError):
            verify(mutant)
            pytest.fail(f"accepted with another {what}")
    for other in (OTHER_ID, OTHER_SECRET, OTHER_TOKEN):
        with pytest.raises(emulator.SignatureError):
            verify(signed.request, other)


@forms
@few
@given(data=st.data())
def test_any_change_to_a_canonical_value_changes_the_signature(signer, path, data):
    request = data.draw(requests(path))
    signed = signer(request)
    assert signer(request) == signed
    for what, mutant in mutations(request):
        if what != "body" or signer is not s3_in_query:
            assert signer(mutant).signature != signed.signature, what
    for changed in (
        *({"region": "us-east-2"}, {"service": "other"}, {"payload_hash": "0" * 64}),
        *({"timestamp": "20150830T123601Z"}, {"timestamp": "20150831T123600Z"}),
        *({"keys": OTHER_SECRET}, {"keys": OTHER_TOKEN}),
    ):
        assert signer(request, **changed).signature != signed.signature, changed


@few
@given(request=requests(), seed=st.integers())
def test_header_order_and_case_do_not_matter(request, seed):
    names = [name for name, _ in request.headers]
    order = random.Random(seed).sample(names, len(names))
    values = {name: [v for n, v in request.headers if n == name] for name in names}
    shuffled = [(name.swapcase(), values[name].pop(0)) for name in order]
    other = request._replace(headers=tuple(shuffled))
    assert in_header(other).signature == in_header(request).signature
    assert in_query(other).signature == in_query(request).signature


@pytest.mark.parametrize("options", [{}, {"sign_body": True}, {"sign_session_token": False}])
@few
@given(request=requests())
def test_signing_twice_is_signing_once(options, request):
    once = in_header(request, **options)
    assert in_header(once.request, **options) == once
    earlier = in_header(request, timestamp="20200101T000000Z").request
    assert in_header(earlier, KEYS, **options) == in_header(request, KEYS, **options)


@given(st.text(letters), st.sampled_from(["", "/", "/:"]))
def test_uri_encode_round_trips(text, safe):
    encoded = smasync.uri_encode(text, safe)
    assert unquote(encoded) == text
    assert re.fullmatch(rf"([A-Za-z0-9._~{safe}-]|%[0-9A-F]{{2}})*", encoded)


# --- Which headers are signed, and in which form

FREE = """accept-encoding authorization baggage connection expect keep-alive te traceparent
tracestate trailer transfer-encoding upgrade user-agent User-Agent x-amzn-trace-id
proxy-authenticate proxy-authorization proxy-connection proxy-anything""".split()
SIGNED = """accept amz-sdk-invocation-id amz-sdk-request cache-control content-encoding
content-type proxy range via x-amz-date""".split()


@pytest.mark.parametrize("name", FREE)
def test_what_a_proxy_may_change_is_not_signed(name):
    request = Request("POST", "https://example.com/", (INPUT,), b"{}")
    more = request._replace(headers=(INPUT, (name, "any")))
    assert in_header(more).signature == in_header(request).signature
    assert in_query(more).signature == in_query(request).signature


def test_all_other_headers_are_signed():
    assert canonical_headers([(name.title(), "1") for name in SIGNED])[1] == ";".join(SIGNED)


LINES = {
    "nothing": ([], ""),
    "nothing signed": ([("User-Agent", "me")], ""),
    "Content-Length of 0": ([("Content-Length", "0")], ""),
    "Content-Length above 0": ([("Content-Length", "7")], "content-length:7\n"),
    "order of names and of values": ([("B", "2"), ("a", "1"), ("b", "3")], "a:1\nb:2,3\n"),
    "spaces": ([("x", "  a   b  ")], "x:a b\n"),
    "other white space of ASCII": ([("x", "a\t\tb\r\n\tc\x0b\x0cd")], "x:a b c d\n"),
    "nothing but spaces": ([("x", "   ")], "x:\n"),
    "no-break spaces": ([("x", "\u00a0\u00a0b \u00a0  c")], "x:\u00a0\u00a0b \u00a0 c\n"),
    "wide spaces": ([("x", "\u3000\u3000b\u2003\u2003c")], "x:\u3000\u3000b\u2003\u2003c\n"),
    "separators": ([("x", "a\x85b\x1c\x1fc")], "x:a\x85b\x1c\x1fc\n"),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "lines"), LINES.values(), ids=LINES.keys())
def test_the_lines_of_headers(headers, lines):
    names = dict.fromkeys(line.partition(":")[0] for line in lines.split("\n")[:-1])
    assert canonical_headers(headers) == (lines, ";".join(names))


HOSTS = """
https://example.com example.com
https://example.com?a=b example.com
https://example.com:443/ example.com
http://example.com:80/ example.com
http://example.com:443/ example.com:443
https://example.com:80/ example.com:80
https://example.com:4430/ example.com:4430
http://[::1]:80/ [::1]
http://[::1]:8080/ [::1]:8080
https://[fe80::443]/ [fe80::443]
"""


@pytest.mark.parametrize("row", HOSTS.split("\n")[1:-1])
def test_host_has_a_port_unless_it_is_the_default(row):
    url, host = row.split()
    for signer in (in_header, in_query):
        signed = signer(Request("GET", url, ()))
        assert dict(signed.request.headers)["Host"] == host
        assert f"\nhost:{host}\n" in signed.canonical_request
        given = signer(Request("GET", url, (("host", "given"),)))
        assert [v for n, v in given.request.headers if n.lower() == "host"] == ["given"]


def test_a_path_is_encoded_twice_and_for_s3_once():
    path = "/endpoints/a%20b%2F%C3%BC~%25/../async-invocations"
    assert smasync.canonical_uri(path) == "/endpoints/async-invocations"
    assert smasync.canonical_uri(path, normalize_path=False) == path.replace("%", "%25")
    assert smasync.canonical_uri(path, **S3) == path


# --- What is refused, and what is left alone

MALFORMED = {
    "timestamp": [
        "", "2015-08-30T12:36:00Z", "20150830", "20150830T123600", "20150830T123600z",
        "20150830T123600Z\n", " 20150830T123600Z", "2015083OT123600Z", "20150830 123600Z",
        "20150830T12360\u0660Z", "+2150830T123600Z", "20150830T-23600Z",
    ],
    "region": ["", "us/east", "us-east-1\n", "a" * 64],
    "expires": [0, -1, 604_801, 1.5, 3600.0, True, "3600", None],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in MALFORMED.items() for value in values]
)
def test_a_malformed_argument_is_refused(name, value):
    error = smasync.ConfigurationError if name == "region" else smasync.ParamValidationError
    for signer in (in_query,) if name == "expires" else (in_header, in_query):
        with pytest.raises(error, match=name):
            signer(PLAIN, **{name: value})


@pytest.mark.parametrize("expires", [1, 604_800])
def test_an_expiry_may_be_a_second_or_a_week(expires):
    assert f"&X-Amz-Expires={expires}&" in in_query(PLAIN, expires=expires).request.url


def test_a_stream_is_signed_by_its_hash_and_not_opened():
    def opened():
        raise AssertionError("signing opened the stream")

    request = Request("PUT", "https://example.com/key", (), opened)
    for signer in (in_header, in_query):
        with pytest.raises(smasync.ParamValidationError, match="payload_hash"):
            signer(request)
    signed = in_header(request, payload_hash="a" * 64, sign_body=True)
    assert signed.request.body is opened
    assert dict(signed.request.headers)["X-Amz-Content-Sha256"] == "a" * 64
    assert signed.canonical_request.endswith("\n" + "a" * 64)
