"""What the peers are asked, and how: calls, signers whose clock stands still, clients that keep
their requests to themselves.
"""

from __future__ import annotations

import datetime
import functools
import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import awscrt.auth
import awscrt.http
import boto3
import botocore.credentials
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.config import Config
from botocore.retries import standard
from hypothesis import strategies as st

from smasync import Credentials, Request, Signed, sign, split_url

ACCESS_KEY_ID = "AKIDEXAMPLE"  # the example pair of AWS's documentation
SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
TOKEN = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, "a/session+token==")
REGION = "eu-west-1"
TIMESTAMP, NOW = "20150830T123600Z", 1_440_938_160.0
S3: dict[str, Any] = {"double_encode": False, "normalize_path": False}

# --- Calls -------------------------------------------------------------------
# What AWS's model allows. White space beyond ASCII is left out of `calls`: botocore takes it for
# white space, which test_botocore.py shows, and AWS's own signer in C does not.

UNICODE_SPACES: Any = ("Zs", "Zl", "Zp")


def header_texts() -> st.SearchStrategy[str]:
    """Printable ASCII, rich in runs of spaces, at the ends too; at most 1024 characters."""
    odd = st.sampled_from([" ", "  ", "    ", "a  b", "; ", ",", "%20", '"', "\\"])
    plain = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
    mixed = st.lists(st.one_of(odd, plain), max_size=9).map("".join)
    return st.one_of(mixed, mixed, mixed, st.just("a  " * 341 + "b"))


def keys_of_objects(excluded: Any) -> st.SearchStrategy[str]:
    """Keys in S3, of any characters but those of the excluded categories."""
    odd = "/ // /../ ./ ? # %2F % + ~ é 😀".split() + [" ", "  "]
    odd += [] if "Zs" in excluded else ["\u00a0", "\u3000"]
    letters = st.text(st.characters(exclude_categories=("Cs", *excluded)), max_size=9)
    parts = st.lists(st.one_of(st.sampled_from(odd), letters), min_size=1, max_size=9)
    return parts.map("".join).filter(bool)


def input_locations(excluded: Any) -> st.SearchStrategy[str]:
    """Both schemes, any key; no ASCII white space at the end, which smasync refuses."""
    places = st.sampled_from(["s3://bucket/", "https://bucket.s3.eu-west-1.amazonaws.com/"])
    keys = keys_of_objects(("Cc", *excluded))
    return st.builds(lambda place, key: (place + key)[:1024].rstrip(" "), places, keys)


def sized(piece: bytes, size: int) -> bytes:
    return (piece * (size // len(piece) + 1))[:size]


bodies = st.one_of(
    st.binary(min_size=1, max_size=64),
    st.binary(min_size=1, max_size=64).map(bytearray),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
    st.builds(
        sized, st.binary(min_size=1, max_size=9), st.sampled_from([4096, 65_537, 127_999, 128_000])
    ),
)
optional_members = {
    "ContentType": header_texts(),
    "Accept": header_texts(),
    "CustomAttributes": header_texts(),
    "InferenceId": st.from_regex(r"[!-~][ -~]{0,63}", fullmatch=True),
    "S3OutputPathExtension": st.from_regex(r"[a-zA-Z0-9!_.*'()/-]{1,99}", fullmatch=True),
    "Filename": st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,9}(\.[a-zA-Z0-9_-]{0,9})?", fullmatch=True),
    "RequestTTLSeconds": st.integers(60, 21_600),
    "InvocationTimeoutSeconds": st.integers(1, 3600),
}  # fmt: skip
endpoint_names = st.one_of(
    st.from_regex(r"[a-zA-Z0-9](-{0,3}[a-zA-Z0-9]){0,14}", fullmatch=True), st.just("a" * 63)
)


def calls_with(excluded: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Members of valid calls, each with either a Body or an InputLocation."""
    sources = st.one_of(
        st.fixed_dictionaries({"Body": bodies}),
        st.fixed_dictionaries({"InputLocation": input_locations(excluded)}),
    )
    rest = st.fixed_dictionaries({"EndpointName": endpoint_names}, optional=optional_members)
    return st.builds(lambda source, others: {**source, **others}, sources, rest)


calls = calls_with(UNICODE_SPACES)
tokens = st.one_of(
    st.none(),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40),
    st.just("IQoJb3JpZ2luX2VjE" * 90),
)


def credentials(token: str | None) -> Credentials:
    return Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, token)


# --- Requests of any kind

own_headers = st.lists(
    st.tuples(st.from_regex(r"[Xx]-(Test|tEST)-[a-z0-9_.!~-]{1,9}", fullmatch=True), header_texts()),
    max_size=4,
    unique_by=lambda pair: pair[0].lower(),
)  # fmt: skip
repeated = st.lists(header_texts(), max_size=3).map(lambda texts: [("X-Same", t) for t in texts])
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
# Encoded the canonical way, and no name twice: botocore signs a query as it finds it, and keeps
# one value of each name when it presigns. Both orders agree on names in which "=" is encoded.
queries = st.dictionaries(words.filter(bool), words, max_size=4).map(
    lambda pairs: "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in pairs.items())
)
pieces = st.one_of(
    st.sampled_from([".", "..", "", "a%20b", "%2F", "%25", "!*'()@:;=$,"]), words.map(quote)
)
paths = st.lists(pieces, max_size=6).map(lambda parts: "/" + "/".join([*parts, "end"]))
paths_in_s3 = keys_of_objects(()).map(lambda key: "/" + quote(key, safe="/~"))
hosts = st.sampled_from(
    ["example.com", "example.com:443", "localhost:8080", "[::1]:9000", "[::1]"]
)


@st.composite
def requests(
    draw: Callable[..., Any], path: st.SearchStrategy[str], body: st.SearchStrategy[bytes]
) -> Request:
    """A request for any service; `path` is encoded once."""
    scheme = draw(st.sampled_from(["http", "https"]))
    query = draw(queries)
    url = f"{scheme}://{draw(hosts)}{draw(path)}{'?' + query if query else ''}"
    headers = tuple(draw(own_headers) + draw(repeated))
    return Request(draw(st.sampled_from(["GET", "PUT", "POST"])), url, headers, draw(body))


# --- Signers -----------------------------------------------------------------


class Working(NamedTuple):
    """A signature with its steps; `result` is the Authorization header or the presigned URL."""

    canonical_request: str
    string_to_sign: str
    signature: str
    result: str


def working(signed: Signed) -> Working:
    """What smasync computed."""
    result = dict(signed.request.headers).get("Authorization", signed.request.url)
    return Working(signed.canonical_request, signed.string_to_sign, signed.signature, result)


class Stopped(SigV4Auth):
    """Goes before one of botocore's signers: signs at TIMESTAMP, and notes its steps.

    `add_auth` sets the time of the request, and its next step is the one that is overridden here.
    """

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = TIMESTAMP
        super()._modify_request_before_signing(request)

    def signature(self, string_to_sign: str, request: AWSRequest) -> str:
        signature = super().signature(string_to_sign, request)
        self.steps = (self.canonical_request(request), string_to_sign, signature)
        return str(signature)


def botocore_keys(keys: Credentials) -> botocore.credentials.Credentials:
    return botocore.credentials.Credentials(
        keys.access_key_id, keys.secret_access_key, keys.session_token
    )


SIGNERS_OWN = frozenset(
    "host authorization x-amz-date x-amz-security-token x-amz-content-sha256".split()
)


def unsigned(request: Request) -> Iterator[tuple[str, str]]:
    """The headers that a signer is given, less those that it adds itself.

    A Content-Length of 0 is not among them: the SDKs add the length after they have signed, and
    smasync signs none of 0.
    """
    for name, value in request.headers:
        if name.lower() not in SIGNERS_OWN and (name.lower(), value) != ("content-length", "0"):
            yield name, value


def by_botocore(
    kind: type, request: Request, keys: Credentials, service: str, **options: Any
) -> Working:
    """The request signed by one of botocore's signers."""
    signer = type("Signer", (Stopped, kind), {})(botocore_keys(keys), service, REGION, **options)
    peers = AWSRequest(request.method, request.url, data=request.body)
    for name, value in unsigned(request):
        peers.headers[name] = value  # adds one, as email.message.Message does
    signer.add_auth(peers)
    return Working(*signer.steps, peers.headers.get("Authorization", peers.url))


def bytes_of(request: Request) -> bytes:
    """The body, which is no stream here."""
    assert isinstance(request.body, bytes)
    return request.body


def by_awscrt(
    request: Request, keys: Credentials, service: str, s3: bool = False, expires: int | None = None
) -> str:
    """The Authorization header, or the presigned URL, by AWS's signer in C; it shows no steps."""
    host, path, query = split_url(request.url)
    kinds, hashes = awscrt.auth.AwsSignatureType, awscrt.auth.AwsSignedBodyHeaderType
    kind = kinds.HTTP_REQUEST_QUERY_PARAMS if expires else kinds.HTTP_REQUEST_HEADERS
    hash_header = hashes.X_AMZ_CONTENT_SHA_256 if s3 and not expires else hashes.NONE
    config = awscrt.auth.AwsSigningConfig(
        algorithm=awscrt.auth.AwsSigningAlgorithm.V4,
        signature_type=kind,
        credentials_provider=awscrt.auth.AwsCredentialsProvider.new_static(
            keys.access_key_id, keys.secret_access_key, keys.session_token
        ),
        region=REGION,
        service=service,
        date=datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc),
        use_double_uri_encode=not s3,
        should_normalize_uri_path=not s3,
        signed_body_value="UNSIGNED-PAYLOAD" if s3 and expires else None,
        signed_body_header_type=hash_header,
        expiration_in_seconds=expires,
    )
    headers = awscrt.http.HttpHeaders([("Host", host), *unsigned(request)])
    target = f"{path}?{query}" if query else path
    peers = awscrt.http.HttpRequest(request.method, target, headers, io.BytesIO(bytes_of(request)))
    awscrt.auth.aws_sign_request(peers, config).result()
    if expires is None:
        return str(dict(peers.headers)["Authorization"])
    return f"{request.url[: request.url.index('/', 8)]}{peers.path}"


# --- boto3 -------------------------------------------------------------------


@functools.cache
def session() -> Any:
    """One for all: it reads botocore's data once."""
    return boto3.session.Session()


def boto3_client(service: str, url: str | None = None, **options: Any) -> Any:
    """A client of boto3's with the example keys."""
    settings: dict[str, Any] = {
        "region_name": REGION,
        "aws_access_key_id": ACCESS_KEY_ID,
        "aws_secret_access_key": SECRET_ACCESS_KEY,
        **options,
    }
    return session().client(service, endpoint_url=url, **settings)


class Stream(io.BytesIO):
    """A body as urllib3 hands it out."""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.read()


def captured(service: str, body: bytes = b"", **options: Any) -> tuple[Any, list[Any]]:
    """(client, its requests as they would go out); each gets the answer 200 with that body."""
    client, sent = boto3_client(service, aws_session_token=TOKEN.session_token, **options), []

    def keep(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, Stream(body))

    client.meta.events.register("before-send", keep)
    return client, sent


WHOLE_BODY = Config(
    # S3's own hash of the body, as smasync has it; not the trailing checksums of newer boto3s
    s3={"payload_signing_enabled": True},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    signature_version="s3v4",
)


def headers_of(request: AWSPreparedRequest) -> dict[str, str]:
    """The headers by their names in lower case."""
    return {
        name.lower(): value.decode() if isinstance(value, bytes) else value
        for name, value in request.headers.items()
    }


def body_of(request: AWSPreparedRequest) -> bytes:
    """The body, which boto3 has as one of several types."""
    body = request.body or b""
    if isinstance(body, io.BytesIO):
        return body.getvalue()
    return body.encode() if isinstance(body, str) else bytes(body)


ADDED_AFTER_SIGNING = ("amz-sdk-invocation-id", "amz-sdk-request", "content-length")


def signed_again(request: AWSPreparedRequest, service: str, **options: Any) -> str:
    """The Authorization header that smasync gives to what boto3 signed, at the time it did."""
    headers = headers_of(request)
    given = tuple(pair for pair in headers.items() if pair[0] not in ADDED_AFTER_SIGNING)
    again = sign(
        Request(request.method, request.url, given, body_of(request)),
        TOKEN,
        region=REGION,
        service=service,
        timestamp=headers["x-amz-date"],
        **options,
    )
    return dict(again.request.headers)["Authorization"]


def hurried(client: Any, attempts: int = 3) -> list[float]:
    """Makes a client of boto3's retry at once; the list takes the delays that it would have made.

    Its own handler decides, as ever: it is only called by one that says not to wait.
    """
    service = client.meta.service_model.service_id.hyphenize()
    handler, delays = standard.register_retry_handler(client, attempts), []

    def decide(**event: Any) -> float | None:
        delay = handler.needs_retry(**event)
        if delay is None:
            return None
        delays.append(delay)
        return 0.0

    name = f"needs-retry.{service}"
    client.meta.events.unregister(name, unique_id=f"retry-config-{service}")
    client.meta.events.register(name, decide)
    return delays
