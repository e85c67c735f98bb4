"""The operation: what is accepted, what is refused and in which words, and where each member goes."""

from __future__ import annotations

import io
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smasync
from smasync import ParamValidationError, serialize

URL = "https://runtime.sagemaker.us-east-1.amazonaws.com"
LOCATION = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
BODY = {"EndpointName": "my-endpoint", "Body": b'{"a":1}'}
NAMES = {member.name: member for member in smasync.INVOKE_ENDPOINT_ASYNC}


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


# --- Bad input: (members, what the message says of each problem)

REFUSED = {
    "EndpointName missing": ({"InputLocation": "s3://b/k"}, ["EndpointName: .*required"]),
    "EndpointName None": (good("EndpointName", None), ["EndpointName: .*required"]),
    "EndpointName empty": (good("EndpointName", ""), ["EndpointName: ''.* segment"]),
    "EndpointName dot": (good("EndpointName", "."), [r"EndpointName: '\.'.* segment"]),
    "EndpointName dots": (good("EndpointName", ".."), [r"EndpointName: '\.\.'.* segment"]),
    "EndpointName slash": (good("EndpointName", "a/b"), ["EndpointName: 'a/b'.* segment"]),
    "EndpointName long": (
        good("EndpointName", "a" * 64),
        ["EndpointName: 64 characters.* over 63"],
    ),
    "EndpointName hyphen last": (good("EndpointName", "ab-"), ["EndpointName: .*position 2"]),
    "EndpointName hyphen first": (good("EndpointName", "-ab"), ["EndpointName: .*position 0"]),
    "EndpointName bytes": (good("EndpointName", b"a"), ["EndpointName: expected str, got bytes"]),
    "no input": ({"EndpointName": "a"}, ["Body, InputLocation: exactly one.* neither"]),
    "input None": (
        {"EndpointName": "a", "Body": None, "InputLocation": None},
        ["Body, InputLocation: exactly one.* neither"],
    ),
    "both inputs": ({**LOCATION, **BODY}, ["Body, InputLocation: exactly one.* both"]),
    "Body empty": (good("Body", b""), ["Body: 0 bytes.* under 1"]),
    "Body empty text": (good("Body", ""), ["Body: 0 bytes.* under 1"]),
    "Body empty file": (good("Body", io.BytesIO()), ["Body: 0 bytes.* under 1"]),
    "Body long": (
        good("Body", b"x" * 128_001),
        ["Body: 128001 bytes.* over 128000; put it in S3 and pass InputLocation"],
    ),
    "Body long text": (good("Body", "é" * 64_001), ["Body: 128002 bytes.* over 128000"]),
    "Body list": (good("Body", [1, 2]), ["Body: expected bytes.*, got list"]),
    "Body dict": (good("Body", {"a": 1}), ["Body: expected bytes.*, got dict"]),
    "Body text file": (good("Body", io.StringIO("a")), ["Body: .*binary mode.*'rb'"]),
    "Body half a character": (good("Body", "ab\ud800"), ["Body: .*surrogate at position 2"]),
    "InputLocation empty": (good("InputLocation", ""), ["InputLocation: 0 characters.* under 1"]),
    "InputLocation long": (
        good("InputLocation", "s3://b/" + "k" * 1018),
        ["InputLocation: 1025 characters.* over 1024"],
    ),
    "InputLocation file": (good("InputLocation", "file:///x"), ["InputLocation: .*pattern"]),
    "InputLocation no bucket": (good("InputLocation", "s3:///key"), ["InputLocation: .*pattern"]),
    "InputLocation space last": (
        good("InputLocation", "s3://b/k "),
        ["InputLocation: white space"],
    ),
    "InputLocation space first": (
        good("InputLocation", " s3://b/k"),
        ["InputLocation: white space"],
    ),
    "ContentType emoji": (
        good("ContentType", "text/\U0001f600"),
        [r"ContentType: .*U\+1F600 at position 5.* ASCII"],
    ),
    "ContentType no-break space": (
        good("ContentType", "text\u00a0"),
        [r"ContentType: .*U\+00A0 at position 4.* ASCII"],
    ),
    "ContentType long": (good("ContentType", "a" * 1025), ["ContentType: 1025 .*over 1024"]),
    "Accept long": (good("Accept", "a" * 1025), ["Accept: 1025 characters.* over 1024"]),
    "Accept int": (good("Accept", 5), ["Accept: expected str, got int"]),
    "CustomAttributes long": (
        good("CustomAttributes", "a" * 1025),
        ["CustomAttributes: 1025 characters.* over 1024"],
    ),
    "InferenceId empty": (good("InferenceId", ""), ["InferenceId: 0 characters.* under 1"]),
    "InferenceId long": (good("InferenceId", "a" * 65), ["InferenceId: 65 characters.* over 64"]),
    "InferenceId space first": (good("InferenceId", " a"), ["InferenceId: .*position 0"]),
    "S3OutputPathExtension empty": (
        good("S3OutputPathExtension", ""),
        ["S3OutputPathExtension: 0 characters.* under 1"],
    ),
    "S3OutputPathExtension long": (
        good("S3OutputPathExtension", "a" * 513),
        ["S3OutputPathExtension: 513 characters.* over 512"],
    ),
    "S3OutputPathExtension location": (
        good("S3OutputPathExtension", "s3://b"),
        ["S3OutputPathExtension: .*position 2.*pattern"],
    ),
    "Filename two dots": (good("Filename", "a.tar.gz"), ["Filename: .*position 5.*pattern"]),
    "Filename dot first": (good("Filename", ".a"), ["Filename: .*position 0.*pattern"]),
    "Filename long": (good("Filename", "a" * 33), ["Filename: 33 characters.* over 32"]),
    "TTL 59": (good("RequestTTLSeconds", 59), ["RequestTTLSeconds: 59.* under 60"]),
    "TTL 21601": (good("RequestTTLSeconds", 21_601), ["RequestTTLSeconds: 21601.* over 21600"]),
    "TTL True": (good("RequestTTLSeconds", True), ["RequestTTLSeconds: expected int, got bool"]),
    "TTL text": (good("RequestTTLSeconds", "60"), ["RequestTTLSeconds: expected int, got str"]),
    "TTL float": (good("RequestTTLSeconds", 60.0), ["RequestTTLSeconds: expected int, got float"]),
    "timeout 0": (good("InvocationTimeoutSeconds", 0), ["InvocationTimeoutSeconds: 0.* under 1"]),
    "timeout 3601": (
        good("InvocationTimeoutSeconds", 3601),
        ["InvocationTimeoutSeconds: 3601.* over 3600"],
    ),
    "unknown, a slip of case": (
        good("Endpointname", "a"),
        [r"Endpointname: unknown member; did you mean EndpointName\?"],
    ),
    "unknown, a slip of spelling": (
        good("ContentTyp", "a"),
        [r"ContentTyp: unknown member; did you mean ContentType\?"],
    ),
    "unknown, nothing like it": (
        good("Zzz", 1),
        ["Zzz: unknown member; .*EndpointName.*InvocationTimeoutSeconds"],
    ),
    "unknown, no text": (good(5, 1), ["5: unknown member"]),
    "three at once": (
        {**LOCATION, "Endpointname": "a", "RequestTTLSeconds": 59, "Accept": "a\n"},
        ["Endpointname: unknown", r"Accept: .*U\+000A at position 1", "RequestTTLSeconds: 59"],
    ),
    "five at once": (
        {"Accept": 1, "Filename": "a.b.c", "Body": b"", "Acept": 1},
        [
            "Acept: unknown",
            "EndpointName: .*required",
            "Accept: expected",
            "Filename: ",
            "Body: 0",
        ],
    ),
}


@pytest.mark.parametrize(("params", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_refused_in_words_that_say_what_is_wrong(params, expected):
    found = problems(params)
    assert len(found) == len(expected), found
    for pattern in expected:
        assert any(re.search(pattern, problem) for problem in found), (pattern, found)


STRINGS = [member.name for member in NAMES.values() if member.type == "string"]
CONTROLS = {"CR": "\r", "LF": "\n", "NUL": "\0", "tab": "\t", "DEL": "\x7f", "folded": "\r\n b"}
VALUES = {"EndpointName": "name", "InputLocation": "s3://bucket/key"}


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.parametrize("validation", [True, False])
def test_a_control_character_is_refused_always(name, control, validation):
    start = VALUES.get(name, "value")
    for value in (f"{start}{control}end", f"{start}{control}"):
        found = problems(good(name, value), parameter_validation=validation)
        assert re.fullmatch(
            rf"{name}: .*control character.* at position {len(start)}\b.*", found[0]
        )


PATTERNED = ["EndpointName", "InputLocation", "InferenceId", "S3OutputPathExtension", "Filename"]


@pytest.mark.parametrize("name", PATTERNED)
def test_a_newline_at_the_end_does_not_slip_past_a_pattern(name):
    value = VALUES.get(name, "value")
    assert serialize(good(name, value), URL)
    assert f"{name}: " in "".join(problems(good(name, f"{value}\n")))


@pytest.mark.parametrize("name", [name for name in STRINGS if name != "InputLocation"])
def test_letters_beyond_ascii_are_refused(name):
    found = problems(good(name, "naïve"))
    assert any(problem.startswith(f"{name}: ") and "position 2" in problem for problem in found)


SECRET = "hunter2"
QUOTES = {
    "control character": good("CustomAttributes", f"{SECRET}\n{SECRET}"),
    "emoji": good("CustomAttributes", f"{SECRET}\U0001f600"),
    "too long": good("CustomAttributes", SECRET * 200),
    "wrong type": good("CustomAttributes", [SECRET]),
    "half a character": good("CustomAttributes", f"{SECRET}\ud800"),
    "body of a wrong type": good("Body", [SECRET]),
    "body too long": good("Body", SECRET * 20_000),
    "body with half a character": good("Body", f"{SECRET}\ud800"),
    "body in a text file": good("Body", io.StringIO(SECRET)),
    "beside another mistake": {**BODY, "CustomAttributes": SECRET, "Body": SECRET, "Filename": ""},
    "under another name": good("CustomAttribute", SECRET),
}


@pytest.mark.parametrize("params", QUOTES.values(), ids=QUOTES.keys())
def test_sensitive_members_are_never_quoted(params):
    text = str(problems(params))
    assert SECRET not in text
    assert "U+1F600" not in text
    assert "\U0001f600" not in text


# --- What may pass without validation, and what may not

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
    assert serialize(params, URL, parameter_validation=False)


KEPT = {
    "no EndpointName": {"InputLocation": "s3://b/k"},
    "empty EndpointName": good("EndpointName", ""),
    "dots": good("EndpointName", ".."),
    "dot": good("EndpointName", "."),
    "slash": good("EndpointName", "a/b"),
    "slashes around": good("EndpointName", "a/../b"),
    "half a character": good("EndpointName", "\ud800"),
    "emoji": good("ContentType", "\U0001f600"),
    "text for a number": good("RequestTTLSeconds", "60\r\nX-Injected: 1"),
    "truth for a number": good("RequestTTLSeconds", True),
    "bytes for text": good("Accept", b"a"),
    "list for a Body": good("Body", [1]),
    "a member that cannot be sent": good("Endpointname", "a"),
}


@pytest.mark.parametrize("params", KEPT.values(), ids=KEPT.keys())
def test_the_wire_is_protected_without_validation(params):
    assert problems(params, parameter_validation=False)


segments = st.text(st.characters(exclude_categories=("Cs",), min_codepoint=32), min_size=1)


@given(segments.filter(lambda name: not set(name) & {"/", "\x7f"} and name not in (".", "..")))
def test_an_endpoint_name_is_percent_encoded(name):
    request = serialize(good("EndpointName", name), URL, parameter_validation=False)
    assert request.url == f"{URL}/endpoints/{quote(name, safe='')}/async-invocations"


# --- What goes where

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


def test_each_member_has_its_header():
    params = {name: value for name, (_, value) in HEADERS.items()}
    request = serialize({"EndpointName": "my-endpoint", **params}, URL)
    expected = {header: str(value) for header, value in HEADERS.values()}
    assert dict(request.headers) == {**expected, "Content-Length": "0"}
    assert len(request.headers) == len(expected) + 1
    assert (request.method, request.body) == ("POST", b"")
    assert request.url == f"{URL}/endpoints/my-endpoint/async-invocations"


def test_every_member_of_the_model_is_in_the_table_once():
    assert sorted(NAMES) == sorted([*HEADERS, "EndpointName", "Body"])
    assert len(smasync.INVOKE_ENDPOINT_ASYNC) == 11
    assert {name for name, member in NAMES.items() if member.sensitive} == {
        "Body",
        "CustomAttributes",
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("EndpointName", "Body")])
def test_none_is_absent(name):
    params = {**(BODY if name == "InputLocation" else LOCATION)}
    assert serialize({**params, name: None}, URL) == serialize(params, URL)


@pytest.mark.parametrize("name", ["ContentType", "Accept", "CustomAttributes"])
def test_an_empty_value_is_not_sent_where_the_model_allows_it(name):
    assert serialize({**LOCATION, name: ""}, URL) == serialize(LOCATION, URL)


def test_the_ends_of_a_value_are_trimmed_and_its_inner_spaces_kept():
    headers = dict(serialize({**LOCATION, "Accept": "  a   b "}, URL).headers)
    assert headers["X-Amzn-SageMaker-Accept"] == "a   b"


def test_an_input_location_may_have_any_letter():
    location = "s3://bucket/été/\U0001f600\u00a0\u3000.json"
    headers = dict(serialize({**LOCATION, "InputLocation": location}, URL).headers)
    assert headers["X-Amzn-SageMaker-InputLocation"] == location


@pytest.mark.parametrize("base", ["http://localhost:8080/base", "http://localhost:8080/base/"])
def test_an_endpoint_url_keeps_its_path(base):
    request = serialize(LOCATION, base)
    assert request.url == "http://localhost:8080/base/endpoints/my-endpoint/async-invocations"


class DrippingFile(io.RawIOBase):
    """A binary file that gives at most three bytes at a time, as a pipe or a socket may."""

    def __init__(self, content):
        self.rest = content

    def readable(self):
        return True

    def readinto(self, buffer):
        piece, self.rest = self.rest[:3], self.rest[3:]
        buffer[: len(piece)] = piece
        return len(piece)


BODIES = {
    "bytes": "hé!!".encode(),
    "bytearray": bytearray("hé!!".encode()),
    "memoryview": memoryview("hé!!".encode()),
    "part of a memoryview": memoryview("_hé!!_".encode())[1:-1],
    "text": "hé!!",
    "file": io.BytesIO("hé!!".encode()),
    "file that gives little at a time": DrippingFile("hé!!".encode()),
    "buffered pipe": io.BufferedReader(DrippingFile("hé!!".encode())),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_goes_out_as_it_is(body):
    request = serialize(good("Body", body), URL)
    assert request.body == b"h\xc3\xa9!!"
    assert type(request.body) is bytes
    assert request.headers == (
        ("Content-Type", "application/octet-stream"),
        ("Content-Length", "5"),
    )


@pytest.mark.parametrize("size", [1, 128_000])
def test_a_body_may_have_any_size_up_to_the_limit(size):
    for body in (b"x" * size, io.BytesIO(b"x" * size)):
        request = serialize(good("Body", body), URL)
        assert len(request.body) == size
        assert dict(request.headers)["Content-Length"] == str(size)


class CountingFile(io.BytesIO):
    """A file that adds up how much of it was asked for."""

    asked = 0

    def read(self, size=-1):
        assert size is not None and size >= 0, "asked for all there is"
        self.asked += size
        return super().read(size)


def test_a_file_is_read_to_one_byte_past_the_limit_at_most():
    file = CountingFile(b"x" * 1_000_000)
    assert re.search("Body: .*over 128000", problems(good("Body", file))[0])
    assert file.tell() == file.asked == 128_001


# --- The rules, written down a second time from the model, and compared on any value

PRINTABLE = r"[\x00-\x7f]*"
TEXT_RULES = {
    "EndpointName": (1, 63, r"\A[a-zA-Z0-9](-*[a-zA-Z0-9])*\Z"),
    "InputLocation": (1, 1024, r"\A(https|s3)://([^/]+)/?(.*)\Z"),
    "ContentType": (0, 1024, rf"\A{PRINTABLE}\Z"),
    "Accept": (0, 1024, rf"\A{PRINTABLE}\Z"),
    "CustomAttributes": (0, 1024, rf"\A{PRINTABLE}\Z"),
    "InferenceId": (1, 64, r"\A[!-~][ -~]*\Z"),
    "S3OutputPathExtension": (1, 512, r"\A(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+\Z"),
    "Filename": (1, 32, r"\A(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9\-_\.]*\Z"),
}
NUMBER_RULES = {"RequestTTLSeconds": (60, 21_600), "InvocationTimeoutSeconds": (1, 3600)}
others = st.sampled_from([b"a", 5, 60.0, True, False, ["a"], {"a": "b"}, "60", ("a",)])
characters = st.sampled_from(list("aZ0-./:_~ !") + ["\n", "\r", "\0", "\t", "\x7f", "é", "\u3000"])


def model_allows_text(name, value):
    low, high, pattern = TEXT_RULES[name]
    if not isinstance(value, str):
        return False
    if low == 0 and not value.strip(" "):
        return True  # not sent
    clean = not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", value)
    kept = name != "InputLocation" or value == value.strip(" ")
    return clean and kept and low <= len(value) <= high and bool(re.search(pattern, value))


def model_allows_number(name, value):
    low, high = NUMBER_RULES[name]
    return type(value) is int and low <= value <= high


def texts(name):
    """Values that fit, nearly fit, are as long as just allowed, or have nothing to do with it."""
    low, high, pattern = TEXT_RULES[name]
    fitting = st.from_regex(pattern)
    start = "s3://" if name == "InputLocation" else ""
    lengths = st.sampled_from([0, low, high - 1, high, high + 1])
    sized = st.builds(lambda c, n: (start + c * n)[:n], characters, lengths)
    broken = st.builds(
        lambda text, at, c: text[: at % (len(text) + 1)] + c + text[at % (len(text) + 1) :],
        fitting,
        st.integers(0, 99),
        characters,
    )
    return st.one_of(fitting, sized, broken, st.text(max_size=9), others)


def accepted(params):
    """The request; or None, when the error is about nothing but one member."""
    try:
        return serialize(params, URL)
    except ParamValidationError as error:
        assert len({problem.partition(":")[0] for problem in error.problems}) == 1
        return None


@pytest.mark.parametrize("name", TEXT_RULES)
@given(data=st.data())
def test_text_is_accepted_exactly_when_the_model_allows_it(name, data):
    value = data.draw(texts(name))
    request = accepted(good(name, value))
    assert (request is not None) == model_allows_text(name, value)
    if request and name in HEADERS:
        sent = value.strip(" ") or None
        assert dict(request.headers).get(HEADERS[name][0]) == sent


@pytest.mark.parametrize("name", NUMBER_RULES)
@given(data=st.data())
def test_a_number_is_accepted_exactly_when_the_model_allows_it(name, data):
    low, high = NUMBER_RULES[name]
    edges = st.sampled_from([low - 1, low, low + 1, high - 1, high, high + 1, -low, 0])
    value = data.draw(st.one_of(edges, st.integers(low, high), st.integers(), others))
    request = accepted(good(name, value))
    assert (request is not None) == model_allows_number(name, value)
    if request:
        assert dict(request.headers)[HEADERS[name][0]] == str(value)


bodies = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20),
    st.sampled_from([0, 1, 127_999, 128_000, 128_001]).map(bytes),
    st.sampled_from([63_999, 64_000, 64_001]).map(lambda size: "é" * size),
)
kinds = st.sampled_from([bytes, bytearray, memoryview, io.BytesIO])


@given(content=bodies, kind=kinds)
def test_a_body_is_accepted_exactly_when_the_model_allows_it(content, kind):
    content_bytes = content.encode() if isinstance(content, str) else content
    value = content if isinstance(content, str) else kind(content)
    request = accepted(good("Body", value))
    assert (request is not None) == (1 <= len(content_bytes) <= 128_000)
    assert request is None or request.body == content_bytes
