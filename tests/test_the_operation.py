"""Section 3, The operation: from a caller's members to an unsigned request, or to one error.

Proves that what AWS's model allows is accepted and nothing else, that an error lists all that is
wrong and never quotes a sensitive member, that each member goes where the service looks for it,
and that no member can forge a header or a path, validation or not.
"""

from __future__ import annotations

import enum
import io
import re
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smasync import INVOKE_ENDPOINT_ASYNC, ParamValidationError, serialize

URL = "https://runtime.sagemaker.us-east-1.amazonaws.com"
LOCATION = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
BODY = {"EndpointName": "my-endpoint", "Body": b'{"a":1}'}
HEADERS = {
    "InputLocation": ("X-Amzn-SageMaker-InputLocation", "s3://bucket/in.json"),
    "ContentType": ("X-Amzn-SageMaker-Content-Type", "text/csv"),
    "Accept": ("X-Amzn-SageMaker-Accept", "application/json"),
    "CustomAttributes": ("X-Amzn-SageMaker-Custom-Attributes", "c000b4f9; a=b"),
    "InferenceId": ("X-Amzn-SageMaker-Inference-Id", "id 1"),
    "S3OutputPathExtension": ("X-Amzn-SageMaker-S3OutputPathExtension", "a/b"),
    "Filename": ("X-Amzn-SageMaker-Filename", "out.json"),
    "RequestTTLSeconds": ("X-Amzn-SageMaker-RequestTTLSeconds", 3600),
    "InvocationTimeoutSeconds": ("X-Amzn-SageMaker-InvocationTimeoutSeconds", 900),
}


def problems(params, **options):
    """What is wrong with the members; each problem stands in the message too."""
    with pytest.raises(ParamValidationError) as raised:
        serialize(params, URL, **options)
    assert isinstance(raised.value.problems, tuple)
    for problem in raised.value.problems:
        assert problem in str(raised.value)
    return raised.value.problems


def good(name, value):
    """Members that are right but for one."""
    return {**(BODY if name == "Body" else LOCATION), name: value}


# --- What is refused, and in which words

WRONG = [
    # member, its value, what the problem says after the member's name
    ("EndpointName", None, "is required"),
    ("EndpointName", "", "position 0 .* nor . or .."),
    ("EndpointName", "..", "position 0 .* nor . or .."),
    ("EndpointName", "a/b", "position 1 .* nor . or .."),
    ("EndpointName", "a" * 64, "64 characters is outside 1 to 63"),
    ("EndpointName", "ab-", "position 2.*pattern"),
    ("EndpointName", "-ab", "position 0.*pattern"),
    ("EndpointName", b"a", "expected str, got bytes"),
    ("Body", b"", "0 bytes is outside 1 to 128000"),
    ("Body", io.BytesIO(), "0 bytes is outside 1 to 128000"),
    ("Body", b"x" * 128_001, "128001 bytes is outside 1 to 128000; put .* S3, as InputLocation"),
    ("Body", [1, 2], "expected bytes.*, got list"),
    ("Body", io.StringIO("a"), "the file.*binary mode.*'rb'"),
    ("Body", "ab\ud800", ".*position 2: surrogates not allowed"),
    ("InputLocation", "", "0 characters is outside 1 to 1024"),
    ("InputLocation", "file:///x", ".*pattern"),
    ("InputLocation", "s3:///key", ".*pattern"),
    ("InputLocation", "s3://b/k ", "position 8 .* no space at an end"),
    ("InputLocation", " s3://b/k", "position 0 .* no space at an end"),
    ("ContentType", "text/\U0001f600", "position 5 cannot be sent; it takes printable ASCII"),
    ("ContentType", "text\u00a0", "position 4 cannot be sent; it takes printable ASCII"),
    ("Accept", "a" * 1025, "1025 characters is outside 0 to 1024"),
    ("Accept", 5, "expected str, got int"),
    ("CustomAttributes", "naïve", "position 2 cannot be sent; it takes printable ASCII"),
    ("InferenceId", "", "0 characters is outside 1 to 64"),
    ("InferenceId", " a", ".*position 0.*pattern"),
    ("S3OutputPathExtension", "", "0 characters is outside 1 to 512"),
    ("S3OutputPathExtension", "s3://b", ".*position 2.*pattern"),
    ("Filename", "a.tar.gz", ".*position 5.*pattern"),
    ("Filename", ".a", ".*position 0.*pattern"),
    ("RequestTTLSeconds", 59, "59 is outside 60 to 21600"),
    ("RequestTTLSeconds", 21_601, "21601 is outside 60 to 21600"),
    ("RequestTTLSeconds", True, "expected int, got bool"),
    ("RequestTTLSeconds", "60", "expected int, got str"),
    ("Endpointname", "a", r"unknown member; did you mean EndpointName\?"),
    ("ContentTyp", "a", r"unknown member; did you mean ContentType\?"),
    ("Zzz", 1, "unknown member; .*EndpointName.*InvocationTimeoutSeconds"),
    (5, 1, "unknown member"),
]


@pytest.mark.parametrize(
    ("name", "value", "words"), WRONG, ids=[f"{name}: {words}" for name, _, words in WRONG]
)
def test_a_member_is_refused_in_words_that_say_what_is_wrong(name, value, words):
    (problem,) = problems(good(name, value))
    assert re.match(f"{name}: {words}", problem)


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"EndpointName": "a"}, "neither was given"),
        ({"EndpointName": "a", "Body": None, "InputLocation": None}, "neither was given"),
        ({**LOCATION, **BODY}, "both were given"),
    ],
)
def test_exactly_one_of_body_and_input_location_is_required(params, found):
    exactly = "Body, InputLocation: exactly one of the two is required"
    assert problems(params) == (f"{exactly}; {found}",)


def test_all_problems_are_listed_at_once():
    found = problems({"Accept": 1, "Filename": "a.b.c", "Body": b"", "Acept": 1})
    names = [problem.partition(":")[0] for problem in found]
    assert names == ["Accept", "Filename", "Body", "Acept", "EndpointName"]


SECRET = "hunter2"
QUOTES = {
    "control character": good("CustomAttributes", f"{SECRET}\n{SECRET}"),
    "emoji": good("CustomAttributes", f"{SECRET}\U0001f600"),
    "too long": good("CustomAttributes", SECRET * 200),
    "wrong type": good("CustomAttributes", [SECRET]),
    "half a character": good("CustomAttributes", f"{SECRET}\ud800"),
    "body of a wrong type": good("Body", [SECRET]),
    "body too long": good("Body", SECRET * 20_000),
    "body in a text file": good("Body", io.StringIO(SECRET)),
    "beside another mistake": {**BODY, "CustomAttributes": SECRET, "Body": SECRET, "Filename": ""},
    "under another name": good("CustomAttribute", SECRET),
}


@pytest.mark.parametrize("params", QUOTES.values(), ids=QUOTES.keys())
def test_sensitive_members_are_never_quoted(params):
    text = str(problems(params))
    assert not [part for part in (SECRET, "U+1F600", "\U0001f600") if part in text]


# --- With and without validation

CONTROLS = ["\r", "\n", "\0", "\t", "\x7f", "\r\n b"]
STARTS = {"EndpointName": "name", "InputLocation": "s3://bucket/key"}


@pytest.mark.parametrize(
    "name", [member.name for member in INVOKE_ENDPOINT_ASYNC if member.type == "string"]
)
@pytest.mark.parametrize("validation", [True, False], ids=["validation", "none"])
def test_a_control_character_is_refused_always(name, validation):
    start = STARTS.get(name, "value")
    for text in [f"{start}{control}{end}" for control in CONTROLS for end in ("end", "")]:
        (problem,) = problems(good(name, text), parameter_validation=validation)
        assert problem.startswith(f"{name}: position {len(start)} cannot be sent; it takes ")


LIFTED = {
    "EndpointName of 64": good("EndpointName", "a" * 64),
    "EndpointName with a space": good("EndpointName", "a b"),
    "InputLocation elsewhere": good("InputLocation", "gs://bucket/key"),
    "TTL of a second": good("RequestTTLSeconds", 1),
    "long Accept": good("Accept", "a" * 2000),
    "two dots": good("Filename", "a.tar.gz"),
    "large Body": good("Body", b"x" * 128_001),
    "large file": good("Body", io.BytesIO(b"x" * 128_001)),
    "both inputs": {**LOCATION, **BODY},
    "neither input": {"EndpointName": "a"},
}


@pytest.mark.parametrize("params", LIFTED.values(), ids=LIFTED.keys())
def test_limits_are_lifted_without_validation(params):
    request = serialize(params, URL, parameter_validation=False)
    sent = dict(request.headers)
    for name, value in params.items():
        assert name not in HEADERS or sent[HEADERS[name][0]] == str(value)
    assert request.body in ((b'{"a":1}', b"x" * 128_001) if "Body" in params else (b"",))


KEPT = {
    "no EndpointName": {"InputLocation": "s3://b/k"},
    "empty EndpointName": good("EndpointName", ""),
    "dots": good("EndpointName", ".."),
    "slash": good("EndpointName", "a/b"),
    "half a character": good("EndpointName", "\ud800"),
    "emoji": good("ContentType", "\U0001f600"),
    "text for a number": good("RequestTTLSeconds", "60\r\nX-Injected: 1"),
    "truth for a number": good("RequestTTLSeconds", True),
    "list for a Body": good("Body", [1]),
    "a member that cannot be sent": good("Endpointname", "a"),
}


@pytest.mark.parametrize("params", KEPT.values(), ids=KEPT.keys())
def test_the_wire_is_protected_without_validation(params):
    assert problems(params, parameter_validation=False)


segments = st.text(st.characters(exclude_categories=("Cs",), min_codepoint=32), min_size=1)


@settings(max_examples=50)
@given(segments.filter(lambda name: not set(name) & {"/", "\x7f"} and name not in (".", "..")))
def test_an_endpoint_name_is_percent_encoded(name):
    request = serialize(good("EndpointName", name), URL, parameter_validation=False)
    assert request.url == f"{URL}/endpoints/{quote(name, safe='')}/async-invocations"


# --- What goes where


def test_each_member_has_its_header():
    params = {name: value for name, (_, value) in HEADERS.items()}
    request = serialize({"EndpointName": "my-endpoint", **params}, URL)
    expected = [(header, str(value)) for header, value in HEADERS.values()]
    assert sorted(request.headers) == sorted([*expected, ("Content-Length", "0")])
    assert (request.method, request.body) == ("POST", b"")
    assert request.url == f"{URL}/endpoints/my-endpoint/async-invocations"


def test_every_member_of_the_model_is_in_the_table_once():
    names = [member.name for member in INVOKE_ENDPOINT_ASYNC]
    assert sorted(names) == sorted([*HEADERS, "EndpointName", "Body"])


EMPTY = [(name, "") for name in ("ContentType", "Accept", "CustomAttributes")]


@pytest.mark.parametrize(("name", "value"), [(name, None) for name in HEADERS] + EMPTY)
def test_none_is_not_sent_and_nor_is_an_empty_value_where_the_model_allows_one(name, value):
    params = BODY if name == "InputLocation" else LOCATION
    assert serialize({**params, name: value}, URL) == serialize(params, URL)


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("Accept", "  a   b ", "a   b"),
        ("InputLocation", *["s3://bucket/été/\U0001f600\u00a0\u3000.json"] * 2),
    ],
)
def test_spaces_at_the_ends_are_trimmed_and_any_letter_of_a_key_is_kept(name, value, sent):
    headers = dict(serialize(good(name, value), URL).headers)
    assert headers[HEADERS[name][0]] == sent


def test_an_endpoint_url_keeps_its_path():
    request = serialize(LOCATION, "http://localhost:8080/base/")
    assert request.url == "http://localhost:8080/base/endpoints/my-endpoint/async-invocations"


class DrippingFile(io.BytesIO):
    """A binary file that gives at most three bytes at a time, as a pipe or a socket may."""

    def read(self, size=-1):
        return super().read(3)


CONTENT = b"h\xc3\xa9!!"
BODIES = {
    "bytes": CONTENT,
    "bytearray": bytearray(CONTENT),
    "part of a memoryview": memoryview(b"_%b_" % CONTENT)[1:-1],
    "text": "hé!!",
    "file": io.BytesIO(CONTENT),
    "file that gives little at a time": DrippingFile(CONTENT),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_goes_out_as_it_is(body):
    request = serialize(good("Body", body), URL)
    assert request.body == CONTENT and type(request.body) is bytes
    type_and_length = (("Content-Type", "application/octet-stream"), ("Content-Length", "5"))
    assert request.headers == type_and_length


class CountingFile(io.BytesIO):
    """A file that adds up how much of it was asked for."""

    asked = 0

    def read(self, size=-1):
        assert size is not None and size >= 0, "asked for all there is"
        self.asked += size
        return super().read(size)


def test_a_file_is_read_to_one_byte_past_the_limit_at_most():
    file = CountingFile(b"x" * 1_000_000)
    assert re.search("Body: .*outside 1 to 128000", problems(good("Body", file))[0])
    assert file.tell() == file.asked == 128_001


# --- The rules, written down a second time from the model, and compared on any value

TEXT_RULES = {
    "EndpointName": (1, 63, r"\A[a-zA-Z0-9](-*[a-zA-Z0-9])*\Z"),
    "InputLocation": (1, 1024, r"\A(https|s3)://([^/]+)/?(.*)\Z"),
    "ContentType": (0, 1024, r"\A[\x00-\x7f]*\Z"),
    "Accept": (0, 1024, r"\A[\x00-\x7f]*\Z"),
    "CustomAttributes": (0, 1024, r"\A[\x00-\x7f]*\Z"),
    "InferenceId": (1, 64, r"\A[!-~][ -~]*\Z"),
    "S3OutputPathExtension": (1, 512, r"\A(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+\Z"),
    "Filename": (1, 32, r"\A(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9\-_\.]*\Z"),
}
NUMBER_RULES = {"RequestTTLSeconds": (60, 21_600), "InvocationTimeoutSeconds": (1, 3600)}
others = st.sampled_from([b"a", 5, 60.0, True, False, ["a"], {"a": "b"}, "60", ("a",)])
characters = st.sampled_from(list("aZ0-./:_~ !") + ["\n", "\r", "\0", "\t", "\x7f", "é", "\u3000"])


def model_allows(name, value):
    """Whether the model allows the value, and HTTP can carry it unchanged."""
    if name in NUMBER_RULES:
        low, high = NUMBER_RULES[name]
        return type(value) is int and low <= value <= high
    low, high, pattern = TEXT_RULES[name]
    if not isinstance(value, str):
        return False
    clean = not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", value)
    kept = name != "InputLocation" or value == value.strip(" ")
    return clean and kept and low <= len(value) <= high and bool(re.search(pattern, value))


def values(name):
    """Values that fit, nearly fit, are as long as just allowed, or have nothing to do with it."""
    if name in NUMBER_RULES:
        low, high = NUMBER_RULES[name]
        edges = st.sampled_from([low - 1, low, low + 1, high - 1, high, high + 1, -low, 0])
        return st.one_of(edges, st.integers(low, high), st.integers(), others)
    low, high, pattern = TEXT_RULES[name]
    fitting = st.from_regex(pattern)
    start = "s3://" if name == "InputLocation" else ""
    lengths = st.sampled_from([0, low, high - 1, high, high + 1])
    sized = st.builds(lambda c, n: (start + c * n)[:n], characters, lengths)
    at = st.integers(0, 9)
    broken = st.builds(lambda text, at, c: text[:at] + c + text[at:], fitting, at, characters)
    return st.one_of(fitting, sized, broken, st.text(max_size=9), others)


def accepted(params):
    """The request; or None, when the error is about nothing but one member."""
    try:
        return serialize(params, URL)
    except ParamValidationError as error:
        assert len(error.problems) == 1
        return None


@pytest.mark.parametrize("name", [*TEXT_RULES, *NUMBER_RULES])
@settings(max_examples=60)
@given(data=st.data())
def test_a_member_is_accepted_exactly_when_the_model_allows_it(name, data):
    value = data.draw(values(name))
    request = accepted(good(name, value))
    assert (request is not None) == model_allows(name, value)
    if request and name in HEADERS:
        assert dict(request.headers).get(HEADERS[name][0]) == (str(value).strip(" ") or None)


sizes = st.one_of(st.integers(0, 20), st.sampled_from([127_999, 128_000, 128_001]))
kinds = st.sampled_from([bytes, bytearray, memoryview, io.BytesIO, bytes.decode])


@settings(max_examples=40)
@given(letter=st.sampled_from("xé"), size=sizes, kind=kinds)
def test_a_body_is_accepted_exactly_when_the_model_allows_it(letter, size, kind):
    content = (letter * size).encode()
    request = accepted(good("Body", kind(content)))
    assert (request is not None) == (1 <= len(content) <= 128_000)
    assert request is None or request.body == content


# --- odd values ---------------------------------------------------------------------------------

Text = enum.Enum("Text", {"INPUT": "s3://bucket/other.json"}, type=str)
Number = enum.IntEnum("Number", {"HOUR": 3600})
Plain = enum.Enum("Plain", {"HOUR": 3600}, type=int)


@pytest.mark.parametrize("value", [Text.INPUT, Number.HOUR, Plain.HOUR], ids=repr)
def test_of_an_enumeration_the_value_is_sent_that_was_checked(value):
    member = "InputLocation" if isinstance(value, str) else "RequestTTLSeconds"
    members = {"EndpointName": "e", "InputLocation": "s3://bucket/in.json", member: value}
    headers = serialize(members, "https://example.com").headers
    assert (f"X-Amzn-SageMaker-{member}", str(value.value)) in headers


class Pieces:
    """A file whose read(n) returns pieces of its own size, whatever n is."""

    def __init__(self, size, count):
        self.size, self.left = size, count

    def read(self, size=-1):
        self.left -= 1
        return b"x" * self.size if self.left >= 0 else b""


@pytest.mark.parametrize("size, count", [(10, 25), (10, 10**9), (1 << 20, 10**9)])
def test_a_file_in_pieces_is_sent_whole_or_refused_without_reading_on(size, count):
    file = Pieces(size, count)
    members = {"EndpointName": "e", "Body": file}
    if count == 25:
        assert serialize(members, "https://example.com").body == b"x" * 250
    else:
        with pytest.raises(ParamValidationError, match="outside"):
            serialize(members, "https://example.com")
        assert count - file.left <= 12_802
