"""Settings: the files that AWS's tools share, and each setting from the first that has it."""

from __future__ import annotations

import configparser
import gc
import re
import socket
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smasync
from smasync import Client, ConfigurationError, load_profiles

FILES = {"config": "AWS_CONFIG_FILE", "credentials": "AWS_SHARED_CREDENTIALS_FILE"}
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG"}


@pytest.fixture
def files(tmp_path):
    """A function that writes the two files and returns the environment that names them."""

    def write(config="", credentials="", **environ):
        texts = {"config": config, "credentials": credentials}
        for which, text in texts.items():
            text = textwrap.dedent(text) if isinstance(text, str) else text
            path = tmp_path / which
            path.write_bytes(text.encode() if isinstance(text, str) else text)
            environ.setdefault(FILES[which], str(path))
        return environ

    return write


# --- the files' syntax ---------------------------------------------------------------------------

# what it shows: (config, credentials, profiles)
SYNTAX = {
    "empty files": ("", "", {}),
    "a profile in config": ("[profile x]\na = 1", "", {"x": {"a": "1"}}),
    "default in config": ("[default]\na = 1", "", {"default": {"a": "1"}}),
    "profile default in config": ("[profile default]\na = 1", "", {"default": {"a": "1"}}),
    "bare names in credentials": (
        "", "[x]\na = 1\n[default]\nb = 2", {"x": {"a": "1"}, "default": {"b": "2"}}
    ),
    "a section without properties": ("[profile x]", "[y]", {"x": {}, "y": {}}),
    "profile default wins over default before it": (
        "[default]\na = 1\nb = 1\n[profile default]\na = 2", "", {"default": {"a": "2"}}
    ),
    "profile default wins over default after it": (
        "[profile default]\na = 2\n[default]\na = 1\nb = 1", "", {"default": {"a": "2"}}
    ),
    "profile default wins over default, and credentials over both": (
        "[default]\na = 1\n[profile default]\na = 2\nb = 2", "[default]\nb = 3",
        {"default": {"a": "2", "b": "3"}},
    ),
    "white space around names": (
        "[  profile   x  ]\na = 1\n[profile\ty]\nb = 1\n[ default ]\nc = 1", "[  z\t]\nd = 1",
        {"x": {"a": "1"}, "y": {"b": "1"}, "default": {"c": "1"}, "z": {"d": "1"}},
    ),
    "profile names keep their case": (
        "[profile Dev]\na = 1\n[profile dev]\na = 2", "", {"Dev": {"a": "1"}, "dev": {"a": "2"}}
    ),
    "every character that a name may have": (
        "[profile aZ0-_/.%@:+]\naZ0-_/.%@:+ = 1", "", {"aZ0-_/.%@:+": {"az0-_/.%@:+": "1"}}
    ),
    "keys in any case": (
        "[profile x]\nReGiOn = 1", "[x]\nA = 2", {"x": {"region": "1", "a": "2"}}
    ),
    "the last duplicate of a key wins": (
        "[profile x]\na = 1\nA = 2\nb = 3\na = 4", "", {"x": {"a": "4", "b": "3"}}
    ),
    "duplicate sections merge": (
        "[profile x]\na = 1\nb = 1\n[profile y]\nc = 1\n[profile x]\nb = 2", "",
        {"x": {"a": "1", "b": "2"}, "y": {"c": "1"}},
    ),
    "duplicate sections merge in credentials": (
        "", "[x]\na = 1\n[x]\nb = 2\na = 3", {"x": {"a": "3", "b": "2"}}
    ),
    "credentials win per key": (
        "[profile x]\na = 1\nb = 1\n[profile y]\na = 9", "[x]\nb = 2\nc = 2",
        {"x": {"a": "1", "b": "2", "c": "2"}, "y": {"a": "9"}},
    ),
    "comment lines": ("# one\n; two\n[profile x]\n#a = 1\n;b = 2\na = 3", "", {"x": {"a": "3"}}),
    "a comment after white space": (
        "[profile x]\na = 1 # c\nb = 2 ; c\nc = 3\t# c\nd = 4\t; c\ne = # c\nf = 5 #;# c", "",
        {"x": {"a": "1", "b": "2", "c": "3", "d": "4", "e": "", "f": "5"}},
    ),
    "no comment without white space": (
        "[profile x]\na=b#c\nd=e;f\ng=#h\ni=j#k # l", "",
        {"x": {"a": "b#c", "d": "e;f", "g": "#h", "i": "j#k"}},
    ),
    "a comment after a header": (
        "[profile x] # c\na = 1\n[profile y];c\nb = 2", "[z]# c\nc = 3",
        {"x": {"a": "1"}, "y": {"b": "2"}, "z": {"c": "3"}},
    ),
    "white space around key and value": ("[profile x]\na   =\t 1 \t", "", {"x": {"a": "1"}}),
    "no white space": ("[profile x]\na=1\nb==1=", "", {"x": {"a": "1", "b": "=1="}}),
    "an empty value": ("[profile x]\na =\nb = 1", "", {"x": {"a": "", "b": "1"}}),
    "letters beyond ASCII in a value": ("[profile x]\na = é中 🙂", "", {"x": {"a": "é中 🙂"}}),
    "a replacement character in a value": ("[profile x]\na = \ufffd", "", {"x": {"a": "\ufffd"}}),
    "a continuation appends a line": (
        "[profile x]\na = 1\n  2\n\t3\nb = 4", "[x]\nc = 5\n 6",
        {"x": {"a": "1\n2\n3", "b": "4", "c": "5\n6"}},
    ),
    "a continuation keeps its comment": (
        "[profile x]\na = 1 # c\n  2 # kept\n  b = 3 ; kept", "",
        {"x": {"a": "1\n2 # kept\nb = 3 ; kept"}},
    ),
    "a continuation that looks like a header": (
        "[profile x]\na = 1\n  [profile y]\n  b = 2", "", {"x": {"a": "1\n[profile y]\nb = 2"}}
    ),
    "an indented comment that continues nothing": (
        "  # c\n[profile x]\n  ; c\na = 1", "", {"x": {"a": "1"}}
    ),
    "blank lines between": (
        "\n[profile x]\n\na = 1\n\n  2\n \t \n  3\n\nb = 4\n\n", "",
        {"x": {"a": "1\n2\n3", "b": "4"}},
    ),
    "nested properties": (
        "[profile x]\ns3 =\n  One = 1\n\n  two=2\na = 1", "",
        {"x": {"s3": "\nOne = 1\ntwo=2", "a": "1"}},
    ),
    "an indented comment among nested properties": (
        "[profile x]\ns3 =\n  # not = this\n  one = 1\n  ; nor this\n  two = 2", "",
        {"x": {"s3": "\none = 1\ntwo = 2"}},
    ),
    "profile names that no tool accepts, with all their keys": (
        "[profile a b]\nq = 1\n[profile é]\nq = 1\n  2\n[profile x]\na = 1\n"
        "[profile \"y\"]\nq = 1\n"
        "[profile]\nq = 1\n[profilex]\nq = 1\n[]\nq = 1\n[profile a!]\nq =\n  r = 1", "",
        {"x": {"a": "1"}},
    ),
    "names that no tool accepts in credentials": (
        "", "[a b]\nq = 1\n[é]\nq = 1\n[x]\na = 1\n[]\nq = 1\n[a!]\nq = 1", {"x": {"a": "1"}}
    ),
    "property names that no tool accepts": (
        "[profile x]\na b = 1\né = 1\n  2\na = 1\nb! = 1\n\"c\" = 1\nd =\n  e = 1", "",
        {"x": {"a": "1", "d": "\ne = 1"}},
    ),
    "a profile header in credentials": ("", "[profile x]\nq = 1\n[y]\na = 1", {"y": {"a": "1"}}),
    "a bare name in config": ("[x]\nq = 1\n[profile y]\na = 1", "", {"y": {"a": "1"}}),
    "other sections, under their whole header": (
        "[sso-session x]\na = 1\n[ services  x ]\ns3 =\n  b = 2\n[profile x]\nc = 3", "",
        {"sso-session x": {"a": "1"}, "services x": {"s3": "\nb = 2"}, "x": {"c": "3"}},
    ),
    "other sections are none in credentials": (
        "", "[sso-session x]\na = 1\n[services x]\nb = 2", {}
    ),
    "a section of a kind to come": (
        "[plugins x]\nq = 1\n[profile y]\na = 1", "", {"y": {"a": "1"}}
    ),
    "lines that end in CRLF": (
        "[profile x]\r\na = 1 # c\r\n\r\n  2\r\nb =\r\n  c = 3\r\n", "[x]\r\nd = 4\r\n",
        {"x": {"a": "1\n2", "b": "\nc = 3", "d": "4"}},
    ),
    "a byte-order mark": (
        "\ufeff[profile x]\na = 1", "\ufeff# c\n[x]\nb = 2", {"x": {"a": "1", "b": "2"}}
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "credentials", "profiles"), SYNTAX.values(), ids=SYNTAX.keys())
def test_files_are_read_as_the_sdks_read_them(files, config, credentials, profiles):
    assert load_profiles(files(config, credentials)) == profiles


# what is wrong: (text, with HEADER for a good section; number of the line that is to blame)
BROKEN = {
    "a property before any section": ("\n# c\na = 1\nHEADER", 3),
    "a section without its bracket": ("HEADER\na = 1\n[profile y\nb = 1", 3),
    "a section without its bracket, and a comment": ("HEADER\n[y # c", 2),
    "text after a section's bracket": ("HEADER\n[y] z", 2),
    "a value after a section's bracket": ("[y] = 1", 1),
    "a line without =": ("HEADER\na = 1\n\nb", 4),
    "a line whose = is in a comment": ("HEADER\na # = 1", 2),
    "an empty key": ("HEADER\n= 1", 2),
    "an empty key after a good one": ("HEADER\na = 1\n=", 3),
    "a continuation of nothing": ("  a = 1\nHEADER", 1),
    "a continuation of a section": ("HEADER\n\n\ta = 1", 3),
    "a continuation of a second section": ("HEADER\na = 1\nHEADER\n  2", 4),
    "a nested line without =": ("HEADER\ns3 =\n  a = 1\n  b", 4),
    "a nested line with an empty key": ("HEADER\ns3 =\n\n  = 1", 4),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("which", "header"), [("config", "[profile x]"), ("credentials", "[x]")])
@pytest.mark.parametrize(("text", "line"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_with_its_line(files, text, line, which, header, newline):
    text = text.replace("HEADER", header).replace("\n", newline)
    environ = files(**{which: text.encode()})
    with pytest.raises(ConfigurationError) as raised:
        load_profiles(environ)
    assert re.match(re.escape(environ[FILES[which]]) + rf", line {line}\b", str(raised.value))


@pytest.mark.parametrize("variable", FILES.values())
def test_a_file_that_is_a_directory_is_an_error(files, tmp_path, variable):
    environ = files(**{variable: str(tmp_path)})
    with pytest.raises(ConfigurationError, match=re.escape(str(tmp_path))):
        load_profiles(environ)


UNREADABLE = {
    "over 1 MiB": b"#" * (1 << 20) + b"\n",
    "not UTF-8": "[profile é]".encode("latin-1"),
    "not UTF-8, beside a replacement character": b"[profile \xef\xbf\xbd\xef\xbf]",
    "UTF-16": "[profile x]\na = 1".encode("utf-16"),
}


@pytest.mark.parametrize("which", FILES)
@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_file_that_cannot_be_text_is_an_error(files, content, which):
    environ = files(**{which: content})
    with pytest.raises(ConfigurationError, match=re.escape(environ[FILES[which]])):
        load_profiles(environ)


def test_a_file_of_exactly_1_mib_is_read(files):
    start = b"[profile x]\na = 1\n"
    content = start + b"#" * ((1 << 20) - len(start))
    assert load_profiles(files(content)) == {"x": {"a": "1"}}


# --- where the files are -------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    """A home directory with both files where the tools look for them."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile x]\na = 1")
    (tmp_path / ".aws" / "credentials").write_text("[x]\nb = 2")
    return tmp_path


@pytest.mark.parametrize("variable", ["HOME", "USERPROFILE"])
def test_the_files_are_in_the_home_directory(home, variable):
    assert load_profiles({variable: str(home)}) == {"x": {"a": "1", "b": "2"}}


def test_variables_name_the_files_and_a_tilde_is_the_home_directory(home):
    (home / "one").write_text("[profile y]\nc = 3")
    (home / "two").write_text("[y]\nd = 4")
    named = {"AWS_CONFIG_FILE": "~/one", "AWS_SHARED_CREDENTIALS_FILE": "~/two"}
    assert load_profiles({"HOME": str(home), **named}) == {"y": {"c": "3", "d": "4"}}
    named["AWS_SHARED_CREDENTIALS_FILE"] = str(home / "two")
    assert load_profiles({"HOME": str(home), **named}) == {"y": {"c": "3", "d": "4"}}


def test_an_empty_variable_names_no_file(home):
    empty = dict.fromkeys(FILES.values(), "")
    assert load_profiles({"HOME": str(home), **empty}) == {"x": {"a": "1", "b": "2"}}


def test_a_tilde_with_a_name_is_not_this_home_directory(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "homeother").mkdir()
    (tmp_path / "homeother" / "config").write_text("[profile x]\na = 1")
    environ = {"HOME": str(tmp_path / "home"), "AWS_CONFIG_FILE": "~other/config"}
    assert load_profiles(environ) == {}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HOME": ""},
        {"HOME": "HERE"},
        {"AWS_CONFIG_FILE": "~/config"},
        {"AWS_CONFIG_FILE": "HERE/none", "AWS_SHARED_CREDENTIALS_FILE": "HERE/none"},
        {"AWS_CONFIG_FILE": "HERE/file/none"},
    ],
    ids=["no home", "empty home", "empty directory", "~ without home", "no file", "no directory"],
)
def test_files_that_are_not_there_say_nothing(tmp_path, environ):
    (tmp_path / "file").write_text("")
    environ = {key: text.replace("HERE", str(tmp_path)) for key, text in environ.items()}
    assert load_profiles(environ) == {}
    client = Client("us-east-1", environ=environ)
    assert client.endpoint_url == "https://runtime.sagemaker.us-east-1.amazonaws.com"


def test_one_file_is_enough(home):
    (home / ".aws" / "config").unlink()
    assert load_profiles({"HOME": str(home)}) == {"x": {"b": "2"}}


# --- properties ----------------------------------------------------------------------------------

NAME = "abcdefghijklmnopqrstuvwxyz0123456789-_/.%@:+"
PIECES = ["[", "]", "=", "#", ";", " ", "\t", "\n", "\r\n", "\ufeff", "é", "a", "b =", "  c"]
PIECES += [
    "profile ",
    "[profile x]\n",
    "[x]\n",
    "[default]\n",
    "[services y]\n",
    "s3 =\n  a = 1\n",
]
any_text = st.one_of(
    st.text().map(str.encode),
    st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode()),
    st.binary(),
)
names = st.text(NAME + NAME[:26].upper(), min_size=1, max_size=9)
keys = st.text(NAME, min_size=1, max_size=9)
characters = st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp"))
later_words = st.text(characters, min_size=1, max_size=9)
words = later_words.filter(lambda word: word[0] not in "#;")
values = st.lists(words, max_size=3).map(" ".join)
continuations = st.builds(
    lambda first, others: " ".join([first, *others]), words, st.lists(later_words, max_size=2)
)
long_values = st.builds(
    lambda first, lines: "\n".join([first, *lines] if first else [first]),
    values,
    st.lists(continuations, max_size=3),
)


def profiles_of(value):
    return st.dictionaries(names, st.dictionaries(keys, value, max_size=4), max_size=4)


def rendered(profiles, which, noise):
    """The text of a file with these profiles; `noise` has something to add at each line's end."""
    lines = []
    for name, properties in profiles.items():
        lines.append(f"[profile {name}]" if which == "config" else f"[{name}]")
        for key, value in properties.items():
            lines.extend(f"{key} = {value}".replace("\n", "\n  ").split("\n"))
    return "".join(line + noise[number % len(noise)] for number, line in enumerate(lines))


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A function that reads profiles from the bytes of one file."""
    path = tmp_path_factory.mktemp("read") / "file"

    def read(content, which):
        path.write_bytes(content)
        return load_profiles({FILES[which]: str(path)})

    return read


@pytest.mark.parametrize("which", FILES)
def test_any_file_is_read_or_refused(read, which):
    @given(any_text)
    def check(content):
        try:
            profiles = read(content, which)
        except ConfigurationError:
            return
        for name, properties in profiles.items():
            assert name and name == name.strip()
            for key, value in properties.items():
                assert key and key == key.lower() and set(key) <= set(NAME)
                assert value == value.rstrip()

    check()


@pytest.mark.parametrize("which", FILES)
def test_what_was_written_is_read(read, which):
    @given(
        profiles_of(long_values),
        st.lists(st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n", " \n", "\n# c\n"]), min_size=1),
    )
    def check(profiles, noise):
        assert read(rendered(profiles, which, noise).encode(), which) == profiles

    check()


@pytest.mark.parametrize("which", FILES)
def test_plain_files_mean_what_configparser_makes_of_them(read, which):
    @given(profiles_of(values), st.lists(st.sampled_from(["\n", "\n\n", "\n# c\n"]), min_size=1))
    def check(profiles, noise):
        text = rendered(profiles, which, noise)
        parser = configparser.RawConfigParser(delimiters="=", default_section="]")
        parser.read_string(text)
        prefix = "profile " if which == "config" else ""
        theirs = {name[len(prefix) :]: dict(parser[name]) for name in parser if name != "]"}
        assert read(text.encode(), which) == theirs

    check()


# --- each setting from the first place that has it -----------------------------------------------


def headers_of(client):
    return {name.lower(): value for name, value in client.explain(**CALL).request.headers}


def region_of(client):
    return client.region_name


def host_of(client):
    return client.endpoint_url.partition("://")[2]


def attempts_of(client):
    return headers_of(client)["amz-sdk-request"].partition("max=")[2]


def application_of(client):
    return headers_of(client)["user-agent"].rpartition(" app/")[2]


PLAIN = "runtime.sagemaker.us-west-2.amazonaws.com"
FIPS = "runtime-fips.sagemaker.us-west-2.amazonaws.com"
DUAL = "runtime.sagemaker.us-west-2.api.aws"

# A place is "argument NAME", a variable, "profile KEY", "services" or "default". Each setting
# lists its places from the strongest to the weakest, with what is written there and what comes
# of it.
PRECEDENCE = {
    "region": (region_of, [
        ("argument region_name", "eu-west-1", "eu-west-1"),
        ("AWS_REGION", "eu-west-2", "eu-west-2"),
        ("AWS_DEFAULT_REGION", "eu-west-3", "eu-west-3"),
        ("profile region", "eu-north-1", "eu-north-1"),
    ]),
    "endpoint URL": (host_of, [
        ("argument endpoint_url", "http://one:1/", "one:1"),
        ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "http://two/", "two"),
        ("AWS_ENDPOINT_URL", "http://three", "three"),
        ("services", "http://four # comment", "four"),
        ("profile endpoint_url", "http://five", "five"),
        ("default", "", PLAIN),
    ]),
    "FIPS": (host_of, [
        ("argument use_fips_endpoint", True, FIPS),
        ("AWS_USE_FIPS_ENDPOINT", "false", PLAIN),
        ("profile use_fips_endpoint", "true", FIPS),
        ("default", "", PLAIN),
    ]),
    "no FIPS": (host_of, [
        ("argument use_fips_endpoint", False, PLAIN),
        ("AWS_USE_FIPS_ENDPOINT", "TRUE", FIPS),
        ("profile use_fips_endpoint", "False", PLAIN),
    ]),
    "dual-stack": (host_of, [
        ("argument use_dualstack_endpoint", True, DUAL),
        ("AWS_USE_DUALSTACK_ENDPOINT", "false", PLAIN),
        ("profile use_dualstack_endpoint", "true", DUAL),
        ("default", "", PLAIN),
    ]),
    "no dual-stack": (host_of, [
        ("argument use_dualstack_endpoint", False, PLAIN),
        ("AWS_USE_DUALSTACK_ENDPOINT", "true", DUAL),
        ("profile use_dualstack_endpoint", "false", PLAIN),
    ]),
    "max attempts": (attempts_of, [
        ("argument max_attempts", 7, "7"),
        ("AWS_MAX_ATTEMPTS", "6", "6"),
        ("profile max_attempts", "5", "5"),
        ("default", "", "3"),
    ]),
    "application id": (application_of, [
        ("AWS_SDK_UA_APP_ID", "one", "one"),
        ("profile sdk_ua_app_id", "two", "two"),
    ]),
}  # fmt: skip
STEPS = {
    f"{setting}, {places[first][0]}": (look, places[first:], places[:first])
    for setting, (look, places) in PRECEDENCE.items()
    for first in range(len(places))
}


def placed(files, places):
    """A client whose settings are written in all these places at once; the profile is named x."""
    arguments, environ, config, services = {}, {"AWS_PROFILE": "x", **KEYS}, "[profile x]\n", ""
    for place, text, _ in places:
        if place.startswith("argument "):
            arguments[place.split()[1]] = text
        elif place.startswith("profile "):
            config += f"{place.split()[1]} = {text}\n"
        elif place == "services":
            config += "services = s\n"
            services = f"[services s]\nsagemaker_runtime =\n  endpoint_url = {text}\n"
        elif place != "default":
            environ[place] = text
    if not any("region" in place.lower() for place, _, _ in places):
        environ["AWS_REGION"] = "us-west-2"
    return Client(environ=files(config + services, **environ), **arguments)


@pytest.mark.parametrize(("look", "here", "_"), STEPS.values(), ids=STEPS.keys())
def test_the_strongest_place_that_has_a_setting_wins(files, look, here, _):
    assert look(placed(files, here)) == here[0][2]


WEAKER = {name: step for name, step in STEPS.items() if step[2]}


@pytest.mark.parametrize(("look", "here", "before"), WEAKER.values(), ids=WEAKER.keys())
def test_an_empty_variable_or_property_counts_as_unset(files, look, here, before):
    emptied = [
        (place, None if place.startswith("argument ") else "", "")
        for place, _, _ in before
        if place != "services"
    ]
    assert look(placed(files, [*emptied, *here])) == here[0][2]


SOURCES = {
    name: (setting, places)
    for setting, title in (("region", "region"), ("endpoint", "endpoint URL"))
    for name, (_, places, _) in STEPS.items()
    if name.startswith(f"{title}, ")
}


@pytest.mark.parametrize(("setting", "places"), SOURCES.values(), ids=SOURCES.keys())
def test_a_client_knows_where_a_setting_came_from(files, setting, places):
    source = placed(files, places).sources[setting]
    place = places[0][0]
    expected = {"argument": "argument", "profile": "profile 'x'", "default": "the region"}
    assert expected.get(place.split()[0], place) in source


def test_there_are_no_switches_unless_somebody_asks(files):
    client = Client("us-west-2", environ=files())
    assert host_of(client) == PLAIN
    assert " app/" not in headers_of(Client("us-west-2", environ=files(**KEYS)))["user-agent"]


def test_both_switches_may_be_on(files):
    environ = files(AWS_USE_FIPS_ENDPOINT="true", AWS_USE_DUALSTACK_ENDPOINT="true")
    assert (
        host_of(Client("us-west-2", environ=environ)) == "runtime.sagemaker-fips.us-west-2.api.aws"
    )


# --- the profile ---------------------------------------------------------------------------------

PROFILES = """
    [default]
    region = eu-west-1
    [profile one]
    region = eu-west-2
    [profile two]
    region = eu-west-3
"""


@pytest.mark.parametrize(
    ("argument", "environ", "region"),
    [
        ("one", {"AWS_PROFILE": "two", "AWS_DEFAULT_PROFILE": "two"}, "eu-west-2"),
        ("default", {"AWS_PROFILE": "two"}, "eu-west-1"),
        (None, {"AWS_PROFILE": "one", "AWS_DEFAULT_PROFILE": "two"}, "eu-west-2"),
        (None, {"AWS_PROFILE": "", "AWS_DEFAULT_PROFILE": "two"}, "eu-west-3"),
        (None, {"AWS_DEFAULT_PROFILE": "two"}, "eu-west-3"),
        (None, {"AWS_PROFILE": "", "AWS_DEFAULT_PROFILE": ""}, "eu-west-1"),
        (None, {}, "eu-west-1"),
    ],
)
def test_the_profile_is_the_one_named_first(files, argument, environ, region):
    client = Client(profile_name=argument, environ=files(PROFILES, **environ))
    assert client.region_name == region


@pytest.mark.parametrize(
    ("argument", "environ", "named"),
    [
        ("nobody", {}, "in code"),
        (None, {"AWS_PROFILE": "nobody"}, "AWS_PROFILE"),
        (None, {"AWS_DEFAULT_PROFILE": "nobody"}, "AWS_DEFAULT_PROFILE"),
    ],
)
def test_an_unknown_profile_is_an_error_that_lists_the_known_ones(files, argument, environ, named):
    environ = files(PROFILES, "[three]\na = 1", **environ)
    with pytest.raises(ConfigurationError) as raised:
        Client("us-east-1", profile_name=argument, environ=environ)
    text = str(raised.value)
    for part in ("'nobody'", named, *(environ[variable] for variable in FILES.values())):
        assert part in text
    assert "default, one, three, two" in text


def test_an_unknown_profile_is_an_error_where_there_are_no_files():
    for environ in ({}, {"HOME": ""}):
        with pytest.raises(ConfigurationError, match="'nobody'.*config.*credentials"):
            Client("us-east-1", profile_name="nobody", environ=environ)


def test_a_section_of_another_kind_is_no_profile(files):
    environ = files("[services s]\ns3 =\n  endpoint_url = http://x\n[sso-session t]\na = 1")
    for name in ("services s", "sso-session t"):
        with pytest.raises(ConfigurationError, match=name):
            Client("us-east-1", profile_name=name, environ=environ)


def test_a_profile_of_the_credentials_file_is_enough(files):
    environ = files("", "[x]\nregion = eu-west-1")
    assert Client(profile_name="x", environ=environ).region_name == "eu-west-1"


# --- the endpoint URL ----------------------------------------------------------------------------

URLS = """
    [profile x]
    region = us-west-2
    services = s
    endpoint_url = http://profile
    IGNORE
    [services s]
    s3 =
      endpoint_url = http://s3
    sagemaker_runtime =
      endpoint_url = http://services
"""
VARIABLES = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://one", "AWS_ENDPOINT_URL": "http://two"}


@pytest.mark.parametrize(
    ("variable", "line", "url"),
    [
        ("true", "", f"https://{PLAIN}"),
        ("True", "ignore_configured_endpoint_urls = false", f"https://{PLAIN}"),
        ("", "ignore_configured_endpoint_urls = true", f"https://{PLAIN}"),
        ("false", "ignore_configured_endpoint_urls = true", "http://one"),
        ("", "ignore_configured_endpoint_urls = false", "http://one"),
    ],
)
def test_configured_endpoint_urls_can_be_ignored_and_an_argument_cannot(
    files, variable, line, url
):
    config = URLS.replace("IGNORE", line)
    environ = files(config, **VARIABLES, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=variable)
    assert Client(profile_name="x", environ=environ).endpoint_url == url
    client = Client(profile_name="x", environ=environ, endpoint_url="http://argument")
    assert client.endpoint_url == "http://argument"


def test_an_endpoint_url_that_is_ignored_does_not_exclude_fips(files):
    environ = files(AWS_ENDPOINT_URL="http://one", AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true")
    assert host_of(Client("us-west-2", environ=environ, use_fips_endpoint=True)) == FIPS


@pytest.mark.parametrize(
    "services",
    ["[services other]\nsagemaker_runtime =\n  endpoint_url = http://x", "", "[profile s]"],
    ids=["another name", "none", "a profile of that name"],
)
def test_a_services_section_that_is_not_there_is_an_error(files, services):
    environ = files(f"[default]\nregion = us-west-2\nservices = s\n{services}")
    with pytest.raises(ConfigurationError) as raised:
        Client(environ=environ)
    assert "[services s]" in str(raised.value)
    assert environ["AWS_CONFIG_FILE"] in str(raised.value)


def test_a_services_section_without_the_service_says_nothing(files):
    config = "[default]\nservices = s\nendpoint_url = http://p\n[services s]\n"
    for others in ("", "s3 =\n  endpoint_url = http://s3\n", "sagemaker_runtime =\n  other = 1\n"):
        assert host_of(Client("us-west-2", environ=files(config + others))) == "p"


@pytest.mark.parametrize(
    "text", ["ftp://x", "http://u:hunter2@x", "http://x:99999", "x", "http://"]
)
@pytest.mark.parametrize("place", [place for place, _, _ in PRECEDENCE["endpoint URL"][1][:-1]])
def test_a_malformed_endpoint_url_is_an_error_that_names_its_source(files, place, text):
    with pytest.raises(ConfigurationError) as raised:
        placed(files, [(place, text, "")])
    source = {"argument": "endpoint URL", "profile": "profile 'x'"}.get(place.split()[0], place)
    assert source in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("place", [place for place, _, _ in PRECEDENCE["endpoint URL"][1][:-1]])
@pytest.mark.parametrize("switch", ["argument use_fips_endpoint", "AWS_USE_FIPS_ENDPOINT"])
def test_fips_and_an_endpoint_url_exclude_each_other(files, place, switch):
    on = True if switch.startswith("argument") else "true"
    with pytest.raises(ConfigurationError, match="FIPS and a custom endpoint"):
        placed(files, [(place, "http://x", ""), (switch, on, "")])


# --- text that cannot be what it should be -------------------------------------------------------

BAD_FLAGS = ["yes", "1", "truee", "tr ue", "none", "None"]
FLAGS = {
    "use_fips_endpoint": "AWS_USE_FIPS_ENDPOINT",
    "use_dualstack_endpoint": "AWS_USE_DUALSTACK_ENDPOINT",
    "ignore_configured_endpoint_urls": "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
}


@pytest.mark.parametrize("text", BAD_FLAGS)
@pytest.mark.parametrize(("key", "variable"), FLAGS.items())
def test_a_switch_is_true_or_false_and_nothing_else(files, key, variable, text):
    for place, source in ((variable, variable), (f"profile {key}", "profile 'x'")):
        with pytest.raises(ConfigurationError) as raised:
            placed(files, [(place, text, "")])
        assert source in str(raised.value)
        assert repr(text) in str(raised.value)


@pytest.mark.parametrize("text", ["0", "-1", "three", "1.5", "+3", "٣", "3 4", "0x3", "1e1"])
def test_a_count_is_a_whole_number_above_0(files, text):
    places = {"AWS_MAX_ATTEMPTS": "AWS_MAX_ATTEMPTS", "profile max_attempts": "profile 'x'"}
    for place, source in places.items():
        with pytest.raises(ConfigurationError) as raised:
            placed(files, [(place, text, "")])
        assert source in str(raised.value)
        assert repr(text) in str(raised.value)


@pytest.mark.parametrize("count", [0, -1, 1.5, "three", True])
def test_an_argument_that_is_no_count_is_an_error(files, count):
    with pytest.raises(ConfigurationError, match="max_attempts, argument"):
        placed(files, [("argument max_attempts", count, "")])


def test_a_count_of_1_means_one_attempt(files):
    assert attempts_of(placed(files, [("AWS_MAX_ATTEMPTS", "1", "")])) == "1"


@pytest.mark.parametrize("region", [None, ""])
def test_no_region_at_all_is_an_error_that_says_where_to_set_it(files, region):
    environ = files("[default]\nregion =", AWS_REGION="", AWS_DEFAULT_REGION="")
    with pytest.raises(ConfigurationError, match="region_name.*AWS_REGION.*profile"):
        Client(region, environ=environ)


REGIONS = [
    "us-east-1\r\n",
    "us-east-1\r\nX: y",
    "evil.example/",
    "a@b",
    "us_east_1",
    "é",
    "a" * 64,
]


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_that_is_no_host_label_is_refused_wherever_it_is_from(files, region):
    places = [("argument region_name", region, ""), ("AWS_REGION", region, "")]
    places.append(("AWS_DEFAULT_REGION", region, ""))
    if region.isprintable():
        places.append(("profile region", region, ""))
    else:  # a line break in a file is a continuation line
        places.append(("profile region", region.replace("\r\n", "\r\n  ") + "z", ""))
    for place in places:
        with pytest.raises(ConfigurationError, match="not a region"):
            placed(files, [place])


def test_the_line_end_in_a_file_is_no_part_of_the_region(files):
    assert Client(environ=files("[default]\r\nregion = us-west-2\r\n")).region_name == "us-west-2"


# --- settings that show when a request is sent ---------------------------------------------------


@pytest.fixture
def https():
    """The URL of a port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    gc.collect()  # a connection that was left open is an error here


@pytest.mark.parametrize(
    "content", [None, b"", b"no certificate"], ids=["missing", "empty", "text"]
)
@pytest.mark.parametrize(
    "places",
    [
        ("argument verify", "AWS_CA_BUNDLE", "profile ca_bundle"),
        ("AWS_CA_BUNDLE", "profile ca_bundle"),
        ("profile ca_bundle",),
    ],
    ids=lambda places: places[0],
)
def test_a_ca_bundle_that_is_none_is_an_error_at_the_first_call(
    files, tmp_path, https, places, content
):
    path = tmp_path / "first.pem"
    if content is not None:
        path.write_bytes(content)
    written = [(place, str(tmp_path / "other.pem"), "") for place in places[1:]]
    written += [(places[0], str(path), ""), ("argument endpoint_url", https, "")]
    with placed(files, written) as client, pytest.raises(ConfigurationError) as raised:
        client.invoke_endpoint_async(**CALL)
    assert str(path) in str(raised.value)


def test_a_ca_bundle_is_not_asked_for_without_https(files):
    answer = smasync.Response(202, (("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out"),), b"")
    environ = files(AWS_CA_BUNDLE="/none", AWS_REGION="us-west-2", **KEYS)
    client = Client(environ=environ, transport=lambda request, **_: answer)
    assert client.invoke_endpoint_async(**CALL)["OutputLocation"] == "s3://bucket/out"


def test_the_user_agent_that_is_sent_names_the_application(files):
    sent = []

    def transport(request, *, timeout=None):
        sent.append(dict(request.headers)["User-Agent"])
        return smasync.Response(202, (("X-Amzn-SageMaker-OutputLocation", "s3://b/o"),), b"")

    environ = files(AWS_REGION="us-west-2", AWS_SDK_UA_APP_ID="my app/1 é", **KEYS)
    Client(environ=environ, transport=transport).invoke_endpoint_async(**CALL)
    assert len(sent) == 1
    assert sent[0].startswith(f"smasync/{smasync.__version__} ")
    assert sent[0].split(" ")[-1] == "app/my-app-1--"


def test_the_files_are_read_when_a_client_is_made(files):
    environ = files(PROFILES)
    before = Client(environ=environ)
    files("[default]\nregion = ap-south-1")
    assert before.region_name == "eu-west-1"
    assert Client(environ=environ).region_name == "ap-south-1"


def test_an_argument_for_one_service_changes_no_other_s_endpoint():
    environ = {
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    found = smasync.Settings(environ, None, **{"s3 endpoint": "http://127.0.0.1:8"})
    assert found.endpoint("s3", "us-east-1") == "http://127.0.0.1:8"
    assert found.endpoint("sts", "us-east-1") == "https://sts.us-east-1.amazonaws.com"
    assert found.endpoint("sagemaker-runtime", "us-east-1").endswith(".amazonaws.com")
