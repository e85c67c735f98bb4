"""A signer for AWS's Signature Version 4, and a call to SageMaker that it signs.

This is one solution of tests/lesson.md. Write your own first, then compare.
"""

import hashlib
import hmac
import urllib.request
from urllib.parse import quote, unquote_to_bytes, urlsplit

# Step 1: hash a canonical request
CANONICAL_REQUEST = """\
POST
/endpoints/my-endpoint/async-invocations

amz-sdk-invocation-id:01234567-89ab-4cde-8f01-23456789abcd
amz-sdk-request:attempt=1; max=3
host:runtime.sagemaker.us-east-1.amazonaws.com
x-amz-date:20150830T123600Z
x-amzn-sagemaker-content-type:application/json
x-amzn-sagemaker-inputlocation:s3://my-bucket/in.json

amz-sdk-invocation-id;amz-sdk-request;host;x-amz-date;x-amzn-sagemaker-content-type;x-amzn-sagemaker-inputlocation
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"""


def sha256_hex(data):
    return hashlib.sha256(data).hexdigest()


# Step 2: headers
UNSIGNED_HEADERS = {
    *("authorization", "user-agent", "x-amzn-trace-id", "connection", "expect"),
    *("transfer-encoding", "accept-encoding", "te", "trailer", "upgrade", "keep-alive"),
}


def canonical_headers(headers):
    values = {}
    for name, value in headers:
        name = name.lower()
        if name not in UNSIGNED_HEADERS:
            values.setdefault(name, []).append(" ".join(value.split()))
    names = sorted(values)
    lines = [f"{name}:{','.join(values[name])}\n" for name in names]
    return "".join(lines), ";".join(names)


# Step 3: path and query
def canonical_uri(path, double_encode=True, normalize_path=True):
    if normalize_path:
        segments = []
        for segment in path.split("/"):
            if segment == "..":
                del segments[-1:]
            elif segment not in ("", "."):
                segments.append(segment)
        slash = "/" if segments and path.endswith("/") else ""
        path = "/" + "/".join(segments) + slash
    return quote(path, safe="/") if double_encode else path


def canonical_query(query):
    pairs = [part.partition("=") for part in query.split("&") if part]
    encoded = [(encode_once(name), encode_once(value)) for name, _, value in pairs]
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def encode_once(text):
    return quote(unquote_to_bytes(text), safe="")


# Step 4: string to sign, key, signature
def string_to_sign(timestamp, scope, canonical):
    return "\n".join(["AWS4-HMAC-SHA256", timestamp, scope, sha256_hex(canonical.encode())])


def signing_key(secret, scope):
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):  # kDate, kRegion, kService, kSigning
        key = hmac_sha256(key, part)
    return key


def signature(key, text):
    return hmac_sha256(key, text).hex()


def hmac_sha256(key, text):
    return hmac.new(key, text.encode(), "sha256").digest()


# Step 5: sign a request
def canonical_request(method, url, headers, body, double_encode=True, normalize_path=True):
    parts = urlsplit(url)
    uri = canonical_uri(parts.path or "/", double_encode, normalize_path)
    lines, names = canonical_headers(headers)
    query = canonical_query(parts.query)
    return "\n".join([method, uri, query, lines, names, sha256_hex(body)])


def sign(
    method, url, headers, body, *, access_key_id, secret, region, service, timestamp,
    session_token=None, double_encode=True, normalize_path=True,
):  # fmt: skip
    headers = [("Host", urlsplit(url).netloc), *headers, ("X-Amz-Date", timestamp)]
    if session_token:
        headers.append(("X-Amz-Security-Token", session_token))
    canonical = canonical_request(method, url, headers, body, double_encode, normalize_path)
    signed_headers = canonical.split("\n")[-2]
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    text = string_to_sign(timestamp, scope, canonical)
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, "
        f"SignedHeaders={signed_headers}, Signature={signature(signing_key(secret, scope), text)}"
    )
    return [*headers, ("Authorization", authorization)]


# Step 6: send it
def invoke(endpoint_url, endpoint_name, input_location, access_key_id, secret, region, timestamp):
    url = f"{endpoint_url}/endpoints/{quote(endpoint_name, safe='')}/async-invocations"
    headers = sign(
        "POST", url, [("X-Amzn-SageMaker-InputLocation", input_location)], b"",
        access_key_id=access_key_id, secret=secret,
        region=region, service="sagemaker", timestamp=timestamp,
    )  # fmt: skip
    request = urllib.request.Request(url, data=b"", headers=dict(headers), method="POST")
    with urllib.request.urlopen(request) as response:
        return response.headers["X-Amzn-SageMaker-OutputLocation"]


# Step 7: break it on purpose
PREDICTIONS = {"user agent": 5, "encoded twice": 2, "clock": None}
