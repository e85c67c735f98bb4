"""Checks a signer that you write in tests/lesson.md: says "right", or which line differs.

    python3 tests/check.py mysigner.py          # all steps, up to the first that is wrong
    python3 tests/check.py mysigner.py 3        # one step

Expected values come from smasync, from AWS's signature vectors, and from the emulator. Exit status:
0 if every step that was checked is right, 1 if one is wrong, 2 for wrong usage.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import importlib.util
import json
import os
import re
import socket
import socketserver
import sys
import threading
import traceback
import urllib.error
from itertools import zip_longest
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import vectors  # noqa: E402
from emulator import Emulator, SignatureError, verify  # noqa: E402

import smasync  # noqa: E402

KEY_ID, SECRET = vectors.ACCESS_KEY_ID, vectors.SECRET_ACCESS_KEY
TIMESTAMP, NOW = "20150830T123600Z", 1440938160.0
TEN_MINUTES_EARLIER = "20150830T122600Z"
SCOPE = "20150830/us-east-1/sagemaker/aws4_request"
EMPTY_HASH = hashlib.sha256(b"").hexdigest()
INPUT_LOCATION = ("X-Amzn-SageMaker-InputLocation", "s3://my-bucket/in.json")

# --- Telling the student -----------------------------------------------------


class Wrong(Exception):
    """What the student has to know about a step that is wrong."""


def compare(what, expected, got, labels, sides=("expected:", "yours:   ")):
    """Raises Wrong with the first line in which two texts differ; `labels` names the lines."""
    if type(got) is not type(expected):
        kind = type(expected).__name__
        raise Wrong(f"{what}: expected a value of type {kind}, got {shortened(repr(got))}")
    lines = zip_longest(lines_of(expected), lines_of(got))
    for number, (wanted, given) in enumerate(lines, 1):
        if wanted != given:
            label = labels[number - 1] if number <= len(labels) else f"after {labels[-1]}"
            raise Wrong(
                f"{what}\n  line {number}, {label}\n"
                f"    {sides[0]} {shown(wanted)}\n    {sides[1]} {shown(given)}"
            )


def lines_of(value):
    return value.split("\n") if isinstance(value, str) else [value]


def shown(line):
    if line is None:
        return "(there is no such line)"
    return repr(line.hex()) if isinstance(line, bytes) else repr(line)


def shortened(text):
    return text if len(text) <= 120 else f"{text[:120]}…"


def labels_of(canonical):
    """AWS's name for each line of a canonical request; the empty line belongs to the headers."""
    headers = ["CanonicalHeaders"] * (len(lines_of(canonical)) - 5)
    first = ["HTTPMethod", "CanonicalUri", "CanonicalQueryString"]
    return [*first, *headers, "SignedHeaders", "HashedPayload"]


STRING_TO_SIGN = ["Algorithm", "RequestDateTime", "CredentialScope", "HashedCanonicalRequest"]


# --- The student's file ------------------------------------------------------


def load(path):
    """The student's module; raises Wrong if Python cannot run the file."""
    spec = importlib.util.spec_from_file_location("mysigner", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise Wrong(f"{path.name}, line {error.lineno}: {error.msg}: {line}") from None
    except (Exception, SystemExit) as error:
        raise Wrong(f"{path.name} does not run: {blamed(error, path)}") from None
    return module


def named(student, name, *kinds):
    """What the student's file has under that name, which has to be of one of these types."""
    if not hasattr(student, name):
        raise Wrong(f"there is no {name} in {Path(student.__file__).name} yet")
    value = getattr(student, name)
    if kinds and not isinstance(value, kinds):
        raise Wrong(f"{name} is of type {type(value).__name__}, not {kinds[0].__name__}")
    return value


def call(student, name, *arguments, **options):
    """The call as text, and what the student's function returned."""
    function = named(student, name)
    listed = [shortened(repr(value)) for value in arguments]
    listed += [f"{key}={shortened(repr(value))}" for key, value in options.items()]
    text = f"{name}({', '.join(listed)})"
    if not callable(function):
        raise Wrong(f"{name} is of type {type(function).__name__}, not a function")
    try:
        return text, function(*arguments, **options)
    except (Exception, SystemExit) as error:
        where = blamed(error, Path(student.__file__), function)
        raise Wrong(f"{text} raised {where}") from error


def blamed(error, path, function=None):
    """The error's type and text, and the student's line that it came from."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    text = f"{type(error).__name__}: {error}"
    if frames:
        text += f"\n  {path.name}, line {frames[-1].lineno}: {frames[-1].line}"
    elif hasattr(function, "__code__"):  # the arguments do not fit
        text += f"\n  {path.name}, line {function.__code__.co_firstlineno}, where it is defined"
    return text


@contextlib.contextmanager
def recorded(student):
    """A list to which each canonical request is added that the student's signer makes."""
    original, made = named(student, "canonical_request"), []

    def recording(*arguments, **options):
        canonical = original(*arguments, **options)
        made.extend([canonical] if isinstance(canonical, str) else [])
        return canonical

    student.canonical_request = recording
    try:
        yield made
    finally:
        student.canonical_request = original


@contextlib.contextmanager
def unsigned(student, names):
    """For a while, the student's UNSIGNED_HEADERS are these."""
    original = student.UNSIGNED_HEADERS
    student.UNSIGNED_HEADERS = names
    try:
        yield
    finally:
        student.UNSIGNED_HEADERS = original


# --- Steps 1 to 4: the pieces ------------------------------------------------

EXAMPLE_URL = (
    "https://runtime.sagemaker.us-east-1.amazonaws.com/endpoints/my-endpoint/async-invocations"
)
EXAMPLE_HEADERS = (
    ("amz-sdk-invocation-id", "01234567-89ab-4cde-8f01-23456789abcd"),
    ("amz-sdk-request", "attempt=1; max=3"),
    ("Host", "runtime.sagemaker.us-east-1.amazonaws.com"),
    ("X-Amz-Date", TIMESTAMP),
    ("X-Amzn-SageMaker-Content-Type", "application/json"),
    INPUT_LOCATION,
)
EXAMPLE = smasync.canonical_request("POST", EXAMPLE_URL, EXAMPLE_HEADERS, EMPTY_HASH)


def step_1(student):
    """A canonical request, and its hash."""
    compare("CANONICAL_REQUEST", EXAMPLE, named(student, "CANONICAL_REQUEST"), labels_of(EXAMPLE))
    for data in (b"", EXAMPLE.encode()):
        what, got = call(student, "sha256_hex", data)
        compare(what, hashlib.sha256(data).hexdigest(), got, ["the hash"])


HEADERS = (
    [("Host", "example.com")],
    [("X-Amz-Date", TIMESTAMP), ("Host", "example.com")],
    [("Host", "example.com"), ("My-Header", "  a   b  ")],
    [("Host", "example.com"), ("My-Header", "a\n  b\t c")],
    [("My-Header", "2"), ("Host", "example.com"), ("my-header", "3"), ("MY-HEADER", "1")],
    [("User-Agent", "me"), ("Authorization", "AWS4 ..."), ("Host", "example.com")],
    [("X-2", "b"), ("X-10", "a"), ("X", ""), ("Host", "example.com:8080")],
)


UNSIGNED = """authorization user-agent connection expect accept-encoding transfer-encoding te trailer
    upgrade keep-alive x-amzn-trace-id""".split()


def step_2(student):
    """The canonical headers; step 7 needs them to obey UNSIGNED_HEADERS."""
    names = named(student, "UNSIGNED_HEADERS", set, frozenset)
    for name in UNSIGNED:
        if name not in names:
            raise Wrong(f"UNSIGNED_HEADERS has no {name!r}; names are in lower case")
    for headers in HEADERS:
        check_headers(student, headers, smasync.canonical_headers(headers))
    with unsigned(student, names | {"my-header"}):
        expected = smasync.canonical_headers(HEADERS[0])
        check_headers(student, HEADERS[2], expected, " with 'my-header' in UNSIGNED_HEADERS")


def check_headers(student, headers, expected, when=""):
    what, got = call(student, "canonical_headers", [*headers])
    if not isinstance(got, tuple) or len(got) != 2:
        raise Wrong(f"{what} returned {shortened(repr(got))}, not a tuple (lines, names)")
    compare(f"lines of {what}{when}", expected[0], got[0], ["CanonicalHeaders"] * 9)
    compare(f"names of {what}{when}", expected[1], got[1], ["SignedHeaders"])


PATHS = ("/", "/a%20b", "/a/./b//../c%20d/", "/~user/(1)*", "/../a")
QUERIES = (
    "",
    "b=2&a=1",
    "a=2&a=1",
    "a=x%2fy&flag",
    "a=1+1",
    "a=1%202",
    "a=%FF",
    "a=b=c",
    "Param-3=c&Param=b",
)


def step_3(student):
    """Path and query: of AWS's vectors, and some more."""
    requests = [(*target_of(case), case.normalize, *case.canonical) for case in vectors.CASES]
    for path, query, normalize, uri, canonical in requests:
        options = {} if normalize else {"normalize_path": False}
        check_uri(student, path, uri, options)
        check_query(student, query, canonical)
    for path in PATHS:
        for options in ({}, {"double_encode": False}, {"normalize_path": False}):
            check_uri(student, path, smasync.canonical_uri(path, **options), options)
    for query in QUERIES:
        check_query(student, query, smasync.canonical_query(query))


def target_of(case):
    """Path and query of one of AWS's vectors."""
    path, _, query = case.request.partition(" ")[2].partition("?")
    return path, query


def check_uri(student, path, expected, options):
    what, got = call(student, "canonical_uri", path, **options)
    compare(what, expected, got, ["CanonicalUri"])


def check_query(student, query, expected):
    what, got = call(student, "canonical_query", query)
    compare(what, expected, got, ["CanonicalQueryString"])


def step_4(student):
    """The string to sign, the signing key, and the signature."""
    text = smasync.string_to_sign(TIMESTAMP, SCOPE, EXAMPLE)
    what, got = call(student, "string_to_sign", TIMESTAMP, SCOPE, EXAMPLE)
    compare(what, text, got, STRING_TO_SIGN)
    for scope in (SCOPE, "20150830/eu-west-1/iam/aws4_request"):
        key = smasync.signing_key(SECRET, scope)
        what, got = call(student, "signing_key", SECRET, scope)
        with_hint = f"{what}{slip(scope, got)}"
        compare(with_hint, key, got, ["kSigning in hex"])
    key = smasync.signing_key(SECRET, SCOPE)
    what, got = call(student, "signature", key, text)
    compare(what, smasync.hmac_sha256(key, text).hex(), got, ["Signature"])


def slip(scope, key):
    """What the student did instead, if the wrong key tells it."""
    secret, parts = f"AWS4{SECRET}", scope.split("/")
    slips = {
        'the secret without "AWS4" before it': chained(SECRET, parts),
        "kService: the last round is missing": chained(secret, parts[:-1]),
        "a key of a key in hex: take digest(), not hexdigest()": chained(secret, parts, in_hex),
        "keys in hex: take digest(), not hexdigest()": chained(secret, parts, all_in_hex),
        "the text as the key, and the key as the text": chained(secret, parts, swapped),
    }
    return next((f"; yours is from {text}" for text, made in slips.items() if made == key), "")


def chained(secret, parts, round_of=smasync.hmac_sha256):
    key = secret.encode()
    for part in parts:
        key = round_of(key, part)
    return key


def in_hex(key, part):
    made = smasync.hmac_sha256(key, part)
    return made if part == "aws4_request" else made.hex().encode()


def all_in_hex(key, part):
    return smasync.hmac_sha256(key, part).hex().encode()


def swapped(key, part):
    return hmac.new(part.encode(), key, "sha256").digest()


# --- Step 5: a signature -----------------------------------------------------

KEYS = {"access_key_id": KEY_ID, "secret": SECRET}
HASH_HEADER = "X-Amz-Content-Sha256"


def step_5(student):
    """Each of AWS's vectors in header form, and a request as S3 wants it."""
    for case in vectors.CASES:
        with told_about(f"AWS's vector {case.name}"):
            check_vector(student, case)
    with told_about("a request to S3, with double_encode=False and normalize_path=False"):
        check_s3(student, "https://my-bucket.s3.us-east-1.amazonaws.com/a//in%20put.json")
    with told_about("a request to S3 at a port, without a path"):
        check_s3(student, "https://my-bucket.s3.us-east-1.amazonaws.com:8443")


@contextlib.contextmanager
def told_about(text):
    """Puts the request's name before the message."""
    try:
        yield
    except Wrong as wrong:
        raise Wrong(f"{text}: {wrong}") from None


def check_vector(student, case):
    method, _, target = case.request.partition(" ")
    body, headers = case.body.encode(), [*case.headers]
    if case.sign_body:
        headers.append((HASH_HEADER, hashlib.sha256(body).hexdigest()))
    where = {"region": vectors.REGION, "service": vectors.SERVICE, "timestamp": vectors.TIMESTAMP}
    if case.token and case.sign_token:
        where["session_token"] = case.token
    options = {} if case.normalize else {"normalize_path": False}
    canonical = case.canonical_request("header")
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{vectors.SCOPE}, "
        f"SignedHeaders={lines_of(canonical)[-2]}, Signature={case.facts['header'][1]}"
    )
    request = (method, f"https://{vectors.HOST}{target}", headers, body)
    check_signer(student, request, where, options, canonical, authorization)


def check_s3(student, url):
    headers = [(HASH_HEADER, EMPTY_HASH)]
    where = {"region": "us-east-1", "service": "s3", "timestamp": TIMESTAMP}
    options = {"double_encode": False, "normalize_path": False}
    request = smasync.Request("GET", url, tuple(headers))
    signed = smasync.sign(request, smasync.Credentials(KEY_ID, SECRET), **where, **options)
    authorization = dict(signed.request.headers)["Authorization"]
    known = (signed.canonical_request, authorization)
    check_signer(student, ("GET", url, headers, b""), where, options, *known)


def check_signer(student, request, where, options, canonical, authorization):
    """The student's canonical request, and then what sign() returns."""
    method, url, headers, body = request
    own = [("Host", urlsplit(url).netloc), *headers, ("X-Amz-Date", where["timestamp"])]
    if "session_token" in where:
        own.append(("X-Amz-Security-Token", where["session_token"]))
    what, got = call(student, "canonical_request", method, url, [*own], body, **options)
    compare(what, canonical, got, labels_of(canonical))
    with recorded(student) as made:
        what, got = call(
            student, "sign", method, url, [*headers], body, **KEYS, **where, **options
        )
    check_signed(what, own, authorization, got)
    if not made:
        raise Wrong(f"{what} did not call canonical_request")


def check_signed(what, own, authorization, got):
    """The headers that sign() returned: those that it was given, its own, Authorization."""
    sent = headers_in(what, got)
    given = sent.pop("authorization", None)
    if given is None:
        raise Wrong(f"{what} returned no Authorization: {shortened(repr(got))}")
    texts = [text.replace(", ", "\n") for text in (authorization, given)]
    compare(f"Authorization of {what}", *texts, ["Credential", "SignedHeaders", "Signature"])
    for name, value in headers_in(what, own).items():
        if sent.get(name) != value:
            raise Wrong(f"{what} signed {name}: {value}, and returned {shown(sent.get(name))}")
    if got[-1][0].lower() != "authorization":
        raise Wrong(f"{what} returned {got[-1][0]} last; Authorization comes last")


def headers_in(what, pairs):
    """A dict of the pairs, names in lower case."""
    try:
        pairs[-1:]  # a list or a tuple, not an iterator
        return {name.lower(): value + "" for name, value in pairs}
    except (TypeError, ValueError, AttributeError):  # no pairs, or not of str
        text = shortened(repr(pairs))
        raise Wrong(f"{what} returned {text}, not a list of pairs (name, value)") from None


# --- Step 6: a request over a socket -----------------------------------------


def step_6(student):
    """The emulator accepts what the student sends, and the student reads the answer."""
    with Emulator(clock=lambda: NOW) as emulator, recorded(student) as made:
        arguments = (emulator.url, "another-endpoint", INPUT_LOCATION[1], KEY_ID, SECRET)
        try:
            what, got = call(student, "invoke", *arguments, "us-east-1", TIMESTAMP)
        except Wrong as wrong:
            explain_refusal(emulator, made)
            raise Wrong(f"{wrong}{answer_of(wrong.__cause__)}") from None
        if not emulator.ledger:
            explain_refusal(emulator, made)
            raise Wrong(f"{what} returned {shown(got)}, but the emulator accepted no request")
        if INPUT_LOCATION[0].lower() not in emulator.requests[-1].header("authorization"):
            raise Wrong(f"{what} sent {INPUT_LOCATION[0]}, but did not sign it")
        compare(what, emulator.ledger[-1].output_location, got, ["OutputLocation"])


def explain_refusal(emulator, made):
    """Raises Wrong if the canonical requests of the last request differ."""
    expected = expected_by(emulator)
    if expected and made:
        what = "the request that arrived is not the one that you signed"
        compare(what, expected, made[-1], labels_of(expected), ("arrived:", "signed: "))


def expected_by(emulator):
    """The canonical request of the last request as it arrived, if its signature is refused."""
    try:
        if emulator.requests:
            verify(emulator.requests[-1], emulator.accounts)
    except SignatureError as error:
        return error.canonical_request
    return ""


def answer_of(error):
    """What the emulator said, if the student's exception has its answer."""
    if not isinstance(error, urllib.error.HTTPError):
        return ""
    with error:
        return f"\n  the answer: {error.read().decode()}"


# --- Step 7: three breaks ----------------------------------------------------


def step_7(student):
    """Makes three breaks with the student's signer, shows each 403, compares the predictions."""
    predictions = named(student, "PREDICTIONS", dict)
    for name, make in BREAKS.items():
        if name not in predictions:
            raise Wrong(f"PREDICTIONS has no {name!r}")
        with Emulator(clock=lambda: NOW) as emulator, recorded(student) as made:
            status, error = make(student, emulator)
            canonical, expected = made[-1] if made else "", expected_by(emulator)
        print(f"--- {name}: {status}\n{error_text(error)}")
        print(
            f"mismatch: {smasync.mismatch(error, canonical) or '(the answer has no canonical request)'}\n"
        )
        if status != 403:
            raise Wrong(f"{name}: the emulator answered {status}, not 403; do steps 2 to 5 first")
        check_prediction(name, predictions[name], expected, canonical)


def check_prediction(name, predicted, expected, canonical):
    """The number that the student predicted, and the first line that differs."""
    lines = zip_longest(lines_of(expected), lines_of(canonical))
    differ = [number for number, (theirs, ours) in enumerate(lines, 1) if theirs != ours]
    first = differ[0] if expected and differ else None
    if predicted != first:
        label = f", {labels_of(expected)[first - 1]}" if first else ": the lines are the same"
        raise Wrong(f"{name}: you predicted {predicted!r}, it is {first!r}{label}")


def error_text(error):
    """The fields of an error, and the canonical request that S3 puts beside the message."""
    fields = ("Code", "Message", "CanonicalRequest")
    return "\n".join(f"{field}: {error[field]}" for field in fields if error.get(field))


def changed_user_agent(student, emulator):
    headers = [("User-Agent", "mysigner"), INPUT_LOCATION]
    names = named(student, "UNSIGNED_HEADERS", set, frozenset) - {"user-agent"}
    with proxy_of(emulator) as url, unsigned(student, names):
        return send_signed(
            student, "POST", f"{url}/endpoints/my-endpoint/async-invocations", headers
        )


def path_encoded_twice(student, emulator):
    url = f"{emulator.url}/my-bucket/in%20put.json"
    options = {"service": "s3", "double_encode": True, "normalize_path": False}
    return send_signed(student, "GET", url, [(HASH_HEADER, EMPTY_HASH)], **options)


def clock_ten_minutes_slow(student, emulator):
    url = f"{emulator.url}/endpoints/my-endpoint/async-invocations"
    return send_signed(student, "POST", url, [INPUT_LOCATION], timestamp=TEN_MINUTES_EARLIER)


BREAKS = {
    "user agent": changed_user_agent,
    "encoded twice": path_encoded_twice,
    "clock": clock_ten_minutes_slow,
}


def send_signed(student, method, url, headers, **options):
    """Has the student sign a request, sends it; the status, and the error as smasync has it."""
    options = {"region": "us-east-1", "service": "sagemaker", "timestamp": TIMESTAMP, **options}
    what, signed = call(student, "sign", method, url, headers, b"", **KEYS, **options)
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, parts.path, headers=headers_in(what, signed))
        answer = connection.getresponse()
        return answer.status, error_in(answer.headers, answer.read())


def error_in(headers, body):
    """Code and message of an answer: JSON from SageMaker, XML from S3."""
    if body.startswith(b"<?xml"):
        return {element.tag: element.text for element in ElementTree.fromstring(body)}
    message = json.loads(body).get("message", "")
    return {"Code": headers.get("x-amzn-errortype", ""), "Message": message}


class Proxy(socketserver.StreamRequestHandler):
    """Passes one request without a body on, with another User-Agent, and the answer back."""

    timeout = 10

    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.rfile.readline()
        head = re.sub(rb"(?im)^User-Agent:[^\r]*", b"User-Agent: mysigner via proxy", head)
        head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        with socket.create_connection(self.server.emulator, timeout=10) as service:
            service.sendall(head)
            while data := service.recv(65536):
                self.wfile.write(data)


@contextlib.contextmanager
def proxy_of(emulator):
    """The URL of a proxy in front of the emulator."""
    parts = urlsplit(emulator.url)
    with socketserver.TCPServer(("127.0.0.1", 0), Proxy) as server:
        server.emulator = parts.hostname, parts.port
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


# --- Command line ------------------------------------------------------------

STEPS = dict(enumerate((step_1, step_2, step_3, step_4, step_5, step_6, step_7), 1))


def main(arguments):
    """The exit status."""
    numbers = [str(number) for number in STEPS]
    if len(arguments) not in (1, 2) or any(word not in numbers for word in arguments[1:]):
        print(
            f"usage: python3 tests/check.py FILE [STEP], STEP from 1 to {len(STEPS)}",
            file=sys.stderr,
        )
        return 2
    path = Path(arguments[0]).resolve()
    if not path.is_file():
        print(
            f"{arguments[0]}: there is no such file; make it, empty to begin with", file=sys.stderr
        )
        return 2
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"  # urllib's calls stay on this machine
    sys.dont_write_bytecode = True
    chosen = [int(word) for word in arguments[1:]] or list(STEPS)
    return 0 if all(is_right(path, number) for number in chosen) else 1


def is_right(path, number):
    """Checks one step of the student's file, and prints the outcome."""
    try:
        STEPS[number](load(path))
    except Wrong as wrong:
        print(f"step {number}: wrong: {wrong}")
        return False
    print(f"step {number}: right")
    return True


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal that is not UTF-8
    sys.exit(main(sys.argv[1:]))
