"""Signature Version 4: AWS's vectors, golden signatures of the operation, and properties.

The properties hold a signer against the verifier of `emulator`, which was written separately.
"""

from __future__ import annotations

import hashlib
import random
import re
from urllib.parse import quote, unquote

import emulator
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

import smasync
from smasync import Credentials, Request, presign, sign

KEYS = Credentials(vectors.ACCESS_KEY_ID, vectors.SECRET_ACCESS_KEY)
TOKEN = Credentials(vectors.ACCESS_KEY_ID, vectors.SECRET_ACCESS_KEY, "a/session+token==")
WHERE = {"region": "us-east-1", "service": "sagemaker", "timestamp": "20150830T123600Z"}
S3 = {"double_encode": False, "normalize_path": False}

# --- AWS's vectors: 38 cases, in header and in query form


def signed_case(case, form):
    method, _, target = case.request.partition(" ")
    request = Request(method, f"https://{vectors.HOST}{target}", case.headers, case.body.encode())
    keys = Credentials(vectors.ACCESS_KEY_ID, vectors.SECRET_ACCESS_KEY, case.token or None)
    where = {**WHERE, "service": vectors.SERVICE, "normalize_path": case.normalize}
    where["sign_session_token"] = case.sign_token
    if form == "header":
        return sign(request, keys, sign_body=case.sign_body, **where)
    return presign(request, keys, expires=vectors.EXPIRES, **where)


CHECKS = {f"{case.name}-{form}": (case, form) for case in vectors.CASES for form in case.facts}


@pytest.mark.parametrize(("case", "form"), CHECKS.values(), ids=CHECKS.keys())
def test_vectors(case, form):
    signed = signed_case(case, form)
    expected = case.canonical_request(form)
    names, signature = expected.split("\n")[-2], case.facts[form][1]
    assert signed.canonical_request == expected
    assert signed.string_to_sign == case.string_to_sign(form)
    assert signed.signature == signature
    headers = dict(signed.request.headers)
    if form == "header":
        credential = f"Credential={vectors.ACCESS_KEY_ID}/{vectors.SCOPE}"
        rest = f"SignedHeaders={names}, Signature={signature}"
        assert headers["Authorization"] == f"AWS4-HMAC-SHA256 {credential}, {rest}"
        assert headers.get("X-Amz-Security-Token", "") == case.token
        return
    pairs = signed.request.url.partition("?")[2].split("&")
    assert sorted(pair for pair in pairs if pair.startswith("X-Amz-")) == sorted(
        case._replace(sign_token=True).query(names) + [f"X-Amz-Signature={signature}"]
    )
    assert "Authorization" not in headers


def test_the_suite_is_complete():
    assert len({case.name for case in vectors.CASES}) == 38
    assert len(CHECKS) == 76


# --- Golden vectors of the operation itself

INPUT = ("X-Amzn-SageMaker-InputLocation", "s3://bucket/in.json")
GOLDEN = {
    "input location": (
        ("my-endpoint", (INPUT,), b"", None),
        "c27b2cb9b63235ba9af918d500028983cb53e76538237ae363b7caa4f9e074d0",
        "3ab1491bdb15327cc10320e62e4a89c3ed5c40f95e261a01880470d4408ed8e5",
    ),
    "token and retry headers": (
        (
            "my-endpoint",
            (
                INPUT,
                ("amz-sdk-invocation-id", "01234567-89ab-4cde-8f01-23456789abcd"),
                ("amz-sdk-request", "attempt=1; max=3"),
            ),
            b"",
            "TOKEN",
        ),
        "e3fd3a9cb0ba7e43dd87e031d701da001cd5cbf87fc31eeaaff2aa1ca5093383",
        "0a5da3b2b25c6a32942f0440090daa0cc7fde677ced43066622d76a7559d23d0",
    ),
    "body": (
        (
            "my-endpoint",
            (
                ("X-Amzn-SageMaker-Content-Type", "application/json"),
                ("Content-Type", "application/octet-stream"),
                ("Content-Length", "7"),
            ),
            b'{"a":1}',
            None,
        ),
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
    keys = Credentials(vectors.ACCESS_KEY_ID, vectors.SECRET_ACCESS_KEY, token)
    signed = sign(request, keys, **WHERE)
    assert signed.string_to_sign.rpartition("\n")[2] == digest
    assert signed.signature == signature


def test_path_is_encoded_twice_and_once_for_s3():
    path = "/endpoints/a%20b%2F%C3%BC~%25/async-invocations"
    twice = "/endpoints/a%2520b%252F%25C3%25BC~%2525/async-invocations"
    for options, canonical in (({}, twice), (S3, path)):
        text = smasync.canonical_request("GET", f"https://x{path}", (), "", **options)
        assert text.split("\n")[1] == canonical


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
bodies = st.binary(max_size=40)
hosts = st.sampled_from(["example.com", "localhost:8080", "[::1]:9000", "[::1]", "a.b:443"])


@st.composite
def requests(draw, path=paths, bodies=bodies):
    """A request as it would be sent; its Content-Length is right."""
    body = draw(bodies)
    headers = draw(own_headers) + draw(repeated) + [("Content-Length", str(len(body)))]
    query = draw(queries)
    url = f"{draw(st.sampled_from(['http', 'https']))}://{draw(hosts)}{draw(path)}"
    method = draw(st.sampled_from(["GET", "PUT", "POST", "HEAD"]))
    return Request(method, f"{url}?{query}" if query else url, tuple(headers), body)


def in_header(request, keys=TOKEN, **changed):
    return sign(request, keys, **{**WHERE, **changed})


def in_query(request, keys=TOKEN, **changed):
    return presign(request, keys, expires=900, **{**WHERE, **changed})


def s3_in_header(request, keys=TOKEN, **changed):
    return sign(request, keys, sign_body=True, **{**WHERE, **S3, "service": "s3", **changed})


def s3_in_query(request, keys=TOKEN, **changed):
    options = {**WHERE, **S3, "service": "s3", "payload_hash": "UNSIGNED-PAYLOAD", **changed}
    return presign(request, keys, expires=900, **options)


FORMS = [
    pytest.param(in_header, paths, id="header"),
    pytest.param(in_query, paths, id="query"),
    pytest.param(s3_in_header, keys_in_s3, id="s3-header"),
    pytest.param(s3_in_query, keys_in_s3, id="s3-query"),
]


def wire(request):
    """The request as raw bytes."""
    rest = request.url.partition("://")[2]
    lines = [f"{request.method} /{rest.partition('/')[2]} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    return "\r\n".join([*lines, "", ""]).encode() + request.body


def accounts(keys=TOKEN):
    return {keys.access_key_id: emulator.Account(keys.secret_access_key, keys.session_token)}


def verify(request, keys=TOKEN):
    return emulator.verify(emulator.parse_request(wire(request)), accounts(keys))


def with_header(request, position, value):
    headers = list(request.headers)
    headers[position] = (headers[position][0], value)
    return Request(request.method, request.url, tuple(headers), request.body)


def mutations(request):
    """(what, request with one canonical value changed), for each value that there is."""
    url, headers, body = request.url, request.headers, request.body
    yield "method", Request("DELETE", url, headers, body)
    path, mark, query = url.partition("?")
    yield "path", Request(request.method, f"{path}x{mark}{query}", headers, body)
    yield "query", Request(request.method, f"{url}{'&' if mark else '?'}added=1", headers, body)
    yield "header added", Request(request.method, url, (*headers, ("X-Amz-Added", "1")), body)
    for position, (name, value) in enumerate(headers):
        if name not in ("Authorization", "Content-Length"):
            yield name, with_header(request, position, f"{value}x")
        if name.lower().startswith("x-"):
            fewer = headers[:position] + headers[position + 1 :]
            yield f"{name} removed", Request(request.method, url, fewer, body)
    if body:
        flipped = body[:-1] + bytes([body[-1] ^ 1])
        yield "body", Request(request.method, url, headers, flipped)


# --- The properties


@pytest.mark.parametrize(("signer", "path"), FORMS)
@given(data=st.data())
def test_the_verifier_accepts_what_was_signed_and_rejects_each_change(signer, path, data):
    signed = signer(data.draw(requests(path)))
    verified = verify(signed.request)
    assert verified.canonical_request == signed.canonical_request
    assert verified.string_to_sign == signed.string_to_sign
    for what, mutant in mutations(signed.request):
        if what == "body" and signer is s3_in_query:
            continue  # UNSIGNED-PAYLOAD says so
        with pytest.raises(emulator.SignatureError):
            verify(mutant)
            pytest.fail(f"accepted with another {what}")
    others = (
        Credentials(TOKEN.access_key_id, "anotherSecret", TOKEN.session_token),
        Credentials(TOKEN.access_key_id, TOKEN.secret_access_key, "another"),
        Credentials("AKIDOTHER", TOKEN.secret_access_key, TOKEN.session_token),
    )
    for other in others:
        with pytest.raises(emulator.SignatureError):
            verify(signed.request, other)


CLAIMS = {"us-east-1": "us-east-2", "20150830": "20150831", "T123600Z": "T123601Z"}


@pytest.mark.parametrize(("old", "new"), CLAIMS.items())
@given(request=requests())
def test_the_verifier_rejects_a_claim_for_another_time_or_place(old, new, request):
    signed = in_header(request).request
    moved = tuple((name, value.replace(old, new)) for name, value in signed.headers)
    presigned = in_query(request).request
    url = presigned.url.replace(old, new)
    for mutant in (
        Request(signed.method, signed.url, moved, signed.body),
        Request(signed.method, url, presigned.headers, signed.body),
    ):
        with pytest.raises(emulator.SignatureError):
            verify(mutant)


@pytest.mark.parametrize(("signer", "path"), FORMS)
@given(data=st.data())
def test_any_change_to_a_canonical_value_changes_the_signature(signer, path, data):
    request = data.draw(requests(path))
    signature = signer(request).signature
    for what, mutant in mutations(request):
        if what != "body" or signer is not s3_in_query:
            assert signer(mutant).signature != signature, what
    for changed in (
        {"region": "us-east-2"},
        {"service": "other"},
        {"timestamp": "20150830T123601Z"},
        {"timestamp": "20150831T123600Z"},
        {"keys": Credentials(TOKEN.access_key_id, "anotherSecret", TOKEN.session_token)},
        {"keys": Credentials(TOKEN.access_key_id, TOKEN.secret_access_key, "another")},
        {"payload_hash": "0" * 64},
    ):
        assert signer(request, **changed).signature != signature, changed


@pytest.mark.parametrize(("signer", "path"), FORMS)
@given(data=st.data())
def test_signing_is_deterministic(signer, path, data):
    request = data.draw(requests(path))
    assert signer(request) == signer(request)


@given(request=requests(), seed=st.integers())
def test_header_order_and_case_do_not_matter(request, seed):
    chance = random.Random(seed)
    names = [name for name, _ in request.headers]
    order = sorted(names, key=lambda name: chance.random())
    values = {name: [v for n, v in request.headers if n == name] for name in names}
    shuffled = [(name.swapcase(), values[name].pop(0)) for name in order]
    other = Request(request.method, request.url, tuple(shuffled), request.body)
    assert in_header(other).signature == in_header(request).signature
    assert in_query(other).signature == in_query(request).signature


@pytest.mark.parametrize("options", [{}, {"sign_body": True}, {"sign_session_token": False}])
@given(request=requests())
def test_signing_twice_is_signing_once(options, request):
    once = in_header(request, **options)
    assert in_header(once.request, **options) == once
    other = in_header(in_header(request, timestamp="20200101T000000Z").request, KEYS, **options)
    assert other.request == in_header(request, KEYS, **options).request


FREE = """accept-encoding authorization baggage connection expect keep-alive te traceparent
tracestate trailer transfer-encoding upgrade user-agent User-Agent x-amzn-trace-id
proxy-authenticate proxy-authorization proxy-connection proxy-anything""".split()


@pytest.mark.parametrize("name", FREE)
@settings(max_examples=20)
@given(request=requests(), value=header_values)
def test_what_a_proxy_may_change_is_not_signed(name, request, value):
    more = Request(request.method, request.url, (*request.headers, (name, value)), request.body)
    assert in_header(more).signature == in_header(request).signature
    assert in_query(more).signature == in_query(request).signature
    signed = in_header(request).request
    if name not in ("authorization", "transfer-encoding"):
        verify(Request(signed.method, signed.url, (*signed.headers, (name, value)), signed.body))


def test_all_other_headers_are_signed():
    assert set(FREE) >= smasync.UNSIGNED_HEADERS
    names = ["Accept", "amz-sdk-request", "amz-sdk-invocation-id", "Content-Type", "Proxy", "Via"]
    signed = smasync.canonical_headers([(name, "1") for name in names])[1]
    assert signed == ";".join(sorted(name.lower() for name in names))


@given(requests(bodies=st.just(b"")))
def test_a_content_length_of_zero_is_not_signed(request):
    headers = tuple(pair for pair in request.headers if pair[0] != "Content-Length")
    without = Request(request.method, request.url, headers)
    assert in_header(without).signature == in_header(request).signature
    assert "content-length" not in in_header(request).canonical_request.split("\n")[-2]


@pytest.mark.parametrize("headers", [[], [("User-Agent", "me")], [("Content-Length", "0")]])
def test_where_nothing_is_signed_there_is_no_line(headers):
    assert smasync.canonical_headers(headers) == ("", "")


def test_a_content_length_above_zero_is_signed():
    assert smasync.canonical_headers([("Content-Length", "7")])[1] == "content-length"


@given(st.text(letters), st.sampled_from(["", "/", "/:"]))
def test_uri_encode_round_trips(text, safe):
    encoded = smasync.uri_encode(text, safe)
    assert unquote(encoded) == text
    assert encoded == quote(text, safe)
    assert re.fullmatch(rf"([A-Za-z0-9._~{safe}-]|%[0-9A-F]{{2}})*", encoded)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("  a   b  ", "a b"),
        ("a\t\tb", "a b"),
        ("a\n  b", "a b"),
        ("a\r\n\tb", "a b"),
        ("a\x0b\x0cb", "a b"),
        ("\u00a0a\u00a0\u00a0b", "\u00a0a\u00a0\u00a0b"),
        ("a\u3000\u3000b\u3000", "a\u3000\u3000b\u3000"),
        ("a\u2003 \u2003b", "a\u2003 \u2003b"),
        ("a\x85b\x1c\x1fc", "a\x85b\x1c\x1fc"),
        ("a \u00a0  b", "a \u00a0 b"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_only_white_space_of_ascii_collapses(value, canonical):
    assert smasync.canonical_headers([("x", value)])[0] == f"x:{canonical}\n"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/", "example.com"),
        ("https://example.com", "example.com"),
        ("https://example.com?a=b", "example.com"),
        ("https://example.com:443/", "example.com"),
        ("http://example.com:80/", "example.com"),
        ("http://example.com:443/", "example.com:443"),
        ("https://example.com:80/", "example.com:80"),
        ("https://example.com:8443/", "example.com:8443"),
        ("https://example.com:4430/", "example.com:4430"),
        ("http://[::1]/", "[::1]"),
        ("http://[::1]:80/", "[::1]"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("https://[fe80::443]/", "[fe80::443]"),
    ],
)
def test_host_has_a_port_unless_it_is_the_default(url, host):
    for signed in (in_header(Request("GET", url, ())), in_query(Request("GET", url, ()))):
        assert dict(signed.request.headers)["Host"] == host
        assert f"\nhost:{host}\n" in signed.canonical_request


def test_a_host_that_was_given_is_kept():
    signed = in_header(Request("GET", "https://localhost:9000/", (("host", "example.com"),)))
    assert [v for n, v in signed.request.headers if n.lower() == "host"] == ["example.com"]
    assert "\nhost:example.com\n" in signed.canonical_request


def test_secrets_stay_out_of_repr():
    request = Request("POST", "https://example.com/a", (("X-Amz-Security-Token", "OLD"),), b"BODY")
    for value in (in_header(request), in_header(request).request, in_query(request), TOKEN):
        for secret in (TOKEN.session_token, quote(TOKEN.session_token, ""), "OLD", "BODY"):
            assert secret not in repr(value)
        assert TOKEN.secret_access_key not in repr(value)
        assert in_header(request).signature not in repr(value)
        assert in_query(request).signature not in repr(value)


TIMESTAMPS = [
    "", "2015-08-30T12:36:00Z", "20150830", "20150830T123600", "20150830T123600z",
    "20150830T123600Z\n", " 20150830T123600Z", "2015083OT123600Z", "20150830 123600Z",
    "20150830T12360\u0660Z", "+2150830T123600Z", "20150830T-23600Z",
]  # fmt: skip


@pytest.mark.parametrize("timestamp", TIMESTAMPS)
def test_a_malformed_timestamp_is_refused(timestamp):
    for signer in (in_header, in_query):
        with pytest.raises(smasync.ParamValidationError, match="timestamp"):
            signer(Request("GET", "https://example.com/", ()), timestamp=timestamp)


@pytest.mark.parametrize("region", ["", "us/east", "us-east-1\n", "a" * 64])
def test_a_malformed_region_is_refused(region):
    for signer in (in_header, in_query):
        with pytest.raises(smasync.ConfigurationError, match="region"):
            signer(Request("GET", "https://example.com/", ()), region=region)


@pytest.mark.parametrize("expires", [0, -1, 604_801, 1.5, 3600.0, True, "3600", None])
def test_an_expiry_that_is_no_whole_second_of_a_week_is_refused(expires):
    with pytest.raises(smasync.ParamValidationError, match="expires"):
        presign(Request("GET", "https://example.com/", ()), KEYS, expires=expires, **WHERE)


@pytest.mark.parametrize("expires", [1, 604_800])
def test_an_expiry_may_be_a_second_or_a_week(expires):
    signed = presign(Request("GET", "https://example.com/", ()), KEYS, expires=expires, **WHERE)
    assert f"&X-Amz-Expires={expires}&" in signed.request.url


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


def test_a_request_is_not_changed_by_signing():
    request = Request("POST", "https://example.com/", (("X-Test", "  a  "),), b"x")
    copy = Request("POST", "https://example.com/", (("X-Test", "  a  "),), b"x")
    signed = in_header(request)
    assert request == copy
    assert signed.request != request
    assert ("X-Test", "  a  ") in signed.request.headers


def test_signing_key_is_derived_through_date_region_and_service():
    key = smasync.signing_key(vectors.SECRET_ACCESS_KEY, "20120215/us-east-1/iam/aws4_request")
    assert key.hex() == "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"


def test_few_keys_are_remembered_and_not_for_ever():
    smasync.signing_key.cache_clear()
    for day in range(10, 30):
        smasync.signing_key("a secret", f"201502{day}/us-east-1/iam/aws4_request")
    assert smasync.signing_key.cache_info().currsize == 8
    smasync.signing_key.cache_clear()
    assert smasync.signing_key.cache_info().currsize == 0


def test_the_hash_of_no_bytes_is_written_down_right():
    assert hashlib.sha256(b"").hexdigest() == smasync.EMPTY_HASH
