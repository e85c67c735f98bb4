"""Settings: the files that AWS's tools share, and each setting from the first that has it.

Proves that the two files are found and read as boto3 reads them, that a file which cannot be read
stops nobody who does not need it, that errors name the file and the line and never quote it, and
that every setting comes from the strongest place that has it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import textwrap
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smasync
from smasync import ConfigurationError, CredentialsError, RuntimeClient, load_profiles

FILES = {"config": "AWS_CONFIG_FILE", "credentials": "AWS_SHARED_CREDENTIALS_FILE"}
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG"}
ALONE = {"AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(autouse=True)
def system_home(tmp_path, monkeypatch):
    """The home directory of the process, for environments without HOME: an empty one."""
    (tmp_path / "system").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "system"))
    return tmp_path / "system"


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
    "sections without properties": ("[profile x]", "[y]", {"x": {}, "y": {}}),
    "the last of default and profile default wins whole": (
        "[default]\na = 1\nb = 1\n[profile default]\na = 2", "", {"default": {"a": "2"}}
    ),
    "the last of profile default and default wins whole": (
        "[profile default]\na = 2\nb = 2\n[default]\na = 1", "[default]\nc = 3",
        {"default": {"a": "1", "c": "3"}},
    ),
    "names with spaces": (
        "[sso-session 'Two Words']\na = 1\n[profile 'My Account.Admin']\nb = 2\n"
        '[profile "c d"]\ne = 3\n[services "s t"]\nf = 4', "[my account]\ng = 5",
        {"sso-session Two Words": {"a": "1"}, "My Account.Admin": {"b": "2"}, "c d": {"e": "3"},
         "services s t": {"f": "4"}, "my account": {"g": "5"}},
    ),
    "white space in a header": (
        "[profile   x]\na = 1\n[profile\ty]\nb = 2", "", {"x": {"a": "1"}, "y": {"b": "2"}}
    ),
    "names of any characters, case kept": (
        "[profile aZ0-_/.%@:+!]\nA = 1\n[profile Dev]\nb = 2\n[profile dev]\nb = 3", "[é]\nc = 4",
        {"aZ0-_/.%@:+!": {"a": "1"}, "Dev": {"b": "2"}, "dev": {"b": "3"}, "é": {"c": "4"}},
    ),
    "sections that are no profile": (
        "[x]\na = 1\n[plugins x]\nb = 2\n[profile]\nc = 3\n[my account]\nd = 4\n[profile a b]\n"
        "e = 5\n[Profile y]\nf = 6\n[profile it's]\ng = 7\n[sso-session s]\nh = 8", "",
        {"[x]": {"a": "1"}, "[plugins x]": {"b": "2"}, "[profile]": {"c": "3"},
         "[my account]": {"d": "4"}, "[profile a b]": {"e": "5"}, "[Profile y]": {"f": "6"},
         "sso-session s": {"h": "8"}},
    ),
    "a header of the credentials file is the name": (
        "", "[profile x]\na = 1\n['y z']\nb = 2", {"profile x": {"a": "1"}, "'y z'": {"b": "2"}}
    ),
    "the section DEFAULT is part of every other": (
        "[DEFAULT]\na = 1\n[profile x]\nb = 2", "[y]\nc = 3",
        {"x": {"a": "1", "b": "2"}, "y": {"c": "3"}},
    ),
    "keys in any case, the last duplicate wins": (
        "[profile x]\nRegion = 1\nREGION = 2\nb = 3", "[x]\nB = 4",
        {"x": {"region": "2", "b": "4"}},
    ),
    "duplicate sections merge": (
        "[profile x]\na = 1\nb = 1\n[profile y]\nc = 1\n[profile x]\nb = 2",
        "[y]\nd = 1\n[y]\ne = 2",
        {"x": {"a": "1", "b": "2"}, "y": {"c": "1", "d": "1", "e": "2"}},
    ),
    "credentials win per key": (
        "[profile x]\na = 1\nb = 1\n[profile y]\na = 9", "[x]\nb = 2\nc = 2",
        {"x": {"a": "1", "b": "2", "c": "2"}, "y": {"a": "9"}},
    ),
    "all keys indented, and those of another profile": (
        "[default]\n    a = 1\n    b = 2\n\n    c = 3\n[profile x]\nd = 4",
        "[x]\ne = 5\n[y]\n\tf = 6",
        {"default": {"a": "1", "b": "2", "c": "3"}, "x": {"d": "4", "e": "5"}, "y": {"f": "6"}},
    ),
    "indented headers": (
        "  [profile x]\n  a = 1\n  [profile y]\n  b = 2", "", {"x": {"a": "1"}, "y": {"b": "2"}}
    ),
    "colons": (
        "[profile x]\na: 1\nb : c=2\nd = e:3", "", {"x": {"a": "1", "b": "c=2", "d": "e:3"}}
    ),
    "text after the bracket": (
        "[profile x] y\na = 1\n[profile y]z = 1\nb = 2\n[profile z] # see [x]\nc = 3",
        "[t];c\nd = 4",
        {"x": {"a": "1"}, "y": {"b": "2"}, "z": {"c": "3"}, "t": {"d": "4"}},
    ),
    "comment lines": (
        "# one\n  ; two\n[profile x]\n#a = 1\n;b = 2\na = 3\n  # c = 4", "", {"x": {"a": "3"}}
    ),
    "a comment after white space": (
        "[profile x]\na = 1 # c\nb = 2 ; c\nc = 3\t# c\nd = # c\ne = 5 #;# c\nf = 6\n  7 # c", "",
        {"x": {"a": "1", "b": "2", "c": "3", "d": "", "e": "5", "f": "6\n7"}},
    ),
    "no comment without white space": (
        "[profile x]\na=b#c\nd=e;f\ng=#h\ni=j#k # l", "",
        {"x": {"a": "b#c", "d": "e;f", "g": "#h", "i": "j#k"}},
    ),
    "a header whose name has a comment sign": (
        "[profile 'Team #2']\na = 1\n[profile a;b]\nc = 2", "[x #3]\nd = 3",
        {"Team #2": {"a": "1"}, "a;b": {"c": "2"}, "x #3": {"d": "3"}},
    ),
    "values as they stand": (
        "[profile x]\na==1=\nb = %(a)s 100% ${HOME}\nc = \"d\"\ne = \t é中 🙂 \ufffd \t\nf =", "",
        {"x": {"a": "=1=", "b": "%(a)s 100% ${HOME}", "c": '"d"', "e": "é中 🙂 \ufffd", "f": ""}},
    ),
    "a continuation appends a line": (
        "[profile x]\na = 1\n  2\n\t[3]\nb = 4", "[x]\nc = 5\n d = 6",
        {"x": {"a": "1\n2\n[3]", "b": "4", "c": "5\nd = 6"}},
    ),
    "nested properties": (
        "[profile x]\ns3 =\n  One = 1\n  # not = this\n  two=2\na = 1", "",
        {"x": {"s3": "\nOne = 1\ntwo=2", "a": "1"}},
    ),
    "lines that end in CRLF": (
        "[profile x]\r\na = 1 # c\r\n\r\nb =\r\n  c = 3\r\n", "[x]\r\nd = 4\r\n",
        {"x": {"a": "1", "b": "\nc = 3", "d": "4"}},
    ),
    "a byte-order mark": (
        "\ufeff[profile x]\na = 1", "\ufeff# c\n[x]\nb = 2", {"x": {"a": "1", "b": "2"}}
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "credentials", "profiles"), SYNTAX.values(), ids=SYNTAX.keys())
def test_files_are_read_as_boto3_reads_them(files, config, credentials, profiles):
    assert load_profiles(files(config, credentials)) == profiles


# what is wrong: (text, with HEADER for a good section; number of the line that is to blame)
BROKEN = {
    "a property before any section": ("\n# c\nhunter2 = 1\nHEADER", 3),
    "a section without its bracket": ("HEADER\na = 1\n[hunter2\nb = 1", 3),
    "a line without =": ("HEADER\na = 1\n\nhunter2", 4),
    "a line whose = is in a comment": ("HEADER\nhunter2 # = 1", 2),
    "an empty key": ("HEADER\na = 1\n= hunter2", 3),
    "two lines": ("HEADER\nhunter2\na = 1\nhunter3", 2),
    "UTF-16": ("\ufffd\ufffd[\x00x\x00]\x00\nhunter2", 1),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("which", "header"), [("config", "[profile x]"), ("credentials", "[x]")])
@pytest.mark.parametrize(("text", "line"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_with_its_line_and_not_quoted(
    files, text, line, which, header, newline
):
    text = text.replace("HEADER", header).replace("\n", newline)
    environ = files(**{which: text})
    with pytest.raises(ConfigurationError) as raised:
        load_profiles(environ)
    error = raised.value
    assert re.match(re.escape(environ[FILES[which]]) + rf", line {line}\b", str(error))
    assert "hunter" not in "".join(traceback.format_exception(type(error), error, None))


def test_a_broken_services_section_is_named_and_not_quoted(files):
    config = "[default]\nservices = s\n[services s]\nsagemaker_runtime =\n  hunter2"
    with pytest.raises(ConfigurationError, match=re.escape("[services s]")) as raised:
        RuntimeClient("us-east-1", environ=files(config))
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("which", FILES)
def test_a_file_of_1_mib_is_read_and_no_longer_one(files, which):
    start = b"[profile x]\na = 1\n"
    content = start + b"#" * ((1 << 20) - len(start))
    assert list(load_profiles(files(**{which: content})).values()) == [{"a": "1"}]
    environ = files(**{which: content + b"\n"})
    with pytest.raises(ConfigurationError, match=re.escape(environ[FILES[which]])):
        load_profiles(environ)


def test_what_is_not_utf_8_harms_nothing_else(files):
    config = "# café\n[profile x]\na = 1\nname = é\n[profile é]\nb = 2".encode("latin-1")
    assert load_profiles(files(config))["x"] == {"a": "1", "name": "\ufffd"}


PIECES = ["[", "]", "=", ":", "#", ";", " ", "\t", "\n", "\r\n", "\ufeff", "é", "a", "b =", "  c"]
PIECES += ["'", '"', "[profile x]\n", "[DEFAULT]\n", "[default]\n", "s3 =\n  a = 1\n", "%", "$a"]


@pytest.mark.parametrize("which", FILES)
def test_any_file_is_read_or_refused(tmp_path_factory, which):
    path = tmp_path_factory.mktemp("read") / "file"

    @given(st.lists(st.sampled_from(PIECES)).map("".join).map(str.encode) | st.binary())
    def check(content):
        path.write_bytes(content)
        try:
            profiles = load_profiles({FILES[which]: str(path)})
        except ConfigurationError:
            return
        for properties in profiles.values():
            for key, value in properties.items():
                assert key and key == key.lower() and value == value.rstrip()

    check()


# --- where the files are -------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    """A home directory with both files where the tools look for them, and two others."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile x]\na = 1")
    (tmp_path / ".aws" / "credentials").write_text("[x]\nb = 2")
    (tmp_path / "one").write_text("[profile y]\nc = 3")
    (tmp_path / "two").write_text("[y]\nd = 4")
    return tmp_path


DEFAULT, OTHER = {"x": {"a": "1", "b": "2"}}, {"y": {"c": "3", "d": "4"}}


@pytest.mark.parametrize(
    ("config", "credentials", "profiles"),
    [
        (None, None, DEFAULT),
        ("", "", DEFAULT),
        ("HERE/one", "HERE/two", OTHER),
        ("~/one", "~/two", OTHER),
        ("$TOP/one", "${TOP}/two", OTHER),
        ("~/$ONE", "$TILDE/two", OTHER),
        ("$NOT_THERE/one", "HERE/two", {"y": {"d": "4"}}),
        ("~other/one", "HERE/none", {}),
        ("HERE/one/none", "HERE/none", {}),
    ],
)
@pytest.mark.parametrize("variable", ["HOME", "USERPROFILE"])
def test_variables_name_the_files(home, variable, config, credentials, profiles):
    names = {"config": config, "credentials": credentials}
    environ = {variable: str(home), "TOP": str(home), "ONE": "one", "TILDE": "~"}
    for which, path in names.items():
        if path is not None:
            environ[FILES[which]] = path.replace("HERE", str(home))
    assert load_profiles(environ) == profiles


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"AWS_CONFIG_FILE": "~/.aws/config"}])
def test_without_home_it_is_the_system_s(home, monkeypatch, environ):
    monkeypatch.setenv("HOME", str(home))
    assert load_profiles(environ) == DEFAULT


# --- a file that cannot be read ------------------------------------------------------------------


@contextlib.contextmanager
def nobody():
    """As a user without rights, if this process is root, whom no mode stops."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def chain(environ):
    """The error of a search for credentials in such an environment."""
    with pytest.raises(CredentialsError) as raised:
        RuntimeClient("us-east-1", environ={**ALONE, **environ}).explain(**CALL)
    return str(raised.value)


@pytest.mark.parametrize("which", FILES)
@pytest.mark.parametrize("how", ["a mode", "a directory", "a file for its folder"])
def test_a_file_that_cannot_be_read_stops_only_who_needs_it(tmp_path, which, how):
    folder, path = tmp_path / ".aws", tmp_path / ".aws" / which
    environ, as_who = {"HOME": str(tmp_path), **ALONE}, contextlib.nullcontext
    # before: nothing to complain of, and what is imported late is there for nobody, too
    RuntimeClient("us-east-1", environ={**environ, **KEYS}).explain(**CALL)
    assert not re.search("cannot be read|missing", chain(environ))
    if how == "a directory":
        path.mkdir(parents=True)
    elif how == "a file for its folder":
        folder.write_text("")
    else:
        folder.mkdir()
        path.write_text("[default]\nregion = eu-west-1")
        path.chmod(0)
        as_who = nobody
    with as_who():
        client = RuntimeClient("us-east-1", environ={**environ, **KEYS})
        assert client.explain(**CALL).request.url.startswith("https://runtime.sagemaker.us-east-1")
        assert load_profiles(environ) == {}
        assert f"{path} cannot be read" in chain(environ)


@pytest.mark.parametrize("variable", FILES.values())
def test_a_file_that_is_named_and_missing_is_said_to_be(tmp_path, variable):
    environ = {variable: str(tmp_path / "none"), **ALONE}
    missing = f"{tmp_path / 'none'}, which {variable} names, is missing"
    assert RuntimeClient("us-east-1", environ={**environ, **KEYS}).region_name == "us-east-1"
    assert missing in chain(environ)
    with pytest.raises(ConfigurationError, match=re.escape(missing)):
        RuntimeClient("us-east-1", profile_name="x", environ=environ)


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
    return headers_of(client)["user-agent"].partition(" app/")[2]


def origin_of_ca_bundle(client):
    return client.sources["ca_bundle"]


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
    "endpoint": (host_of, [
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
        ("profile max_attempts", "1", "1"),
        ("default", "", "3"),
    ]),
    "application id": (application_of, [
        ("AWS_SDK_UA_APP_ID", "one", "one"),
        ("profile sdk_ua_app_id", "two", "two"),
        ("default", "", ""),
    ]),
    "CA bundle": (origin_of_ca_bundle, [
        ("argument verify", "one.pem", "argument"),
        ("AWS_CA_BUNDLE", "two.pem", "environment variable AWS_CA_BUNDLE"),
        ("profile ca_bundle", "three.pem", "profile 'x'"),
        ("REQUESTS_CA_BUNDLE", "four.pem", "environment variable REQUESTS_CA_BUNDLE"),
        ("default", "", "default"),
    ]),
}  # fmt: skip
STEPS = {
    f"{setting}, {places[first][0]}": (look, places[first:], places[:first])
    for setting, (look, places) in PRECEDENCE.items()
    for first in range(len(places))
}


def placed(files, *places):
    """A client whose settings are written in all these places at once; the profile is named x."""
    arguments, environ, config, services = {}, {"AWS_PROFILE": "x", **KEYS}, "[profile x]\n", ""
    for place, text, *_ in places:
        if place.startswith("argument "):
            arguments[place.split()[1]] = text
        elif place.startswith("profile "):
            config += f"{place.split()[1]} = {text}\n"
        elif place == "services":
            config += "services = s\n"
            services = f"[services s]\nsagemaker_runtime =\n  endpoint_url = {text}\n"
        elif place != "default":
            environ[place] = text
    if not any("region" in place.lower() for place, *_ in places):
        environ["AWS_REGION"] = "us-west-2"
    return RuntimeClient(environ=files(config + services, **environ), **arguments)


@pytest.mark.parametrize(("look", "here", "stronger"), STEPS.values(), ids=STEPS.keys())
def test_the_strongest_place_wins_and_an_empty_one_counts_as_unset(files, look, here, stronger):
    assert look(placed(files, *here)) == here[0][2]
    emptied = [
        (place, None if place.startswith("argument ") else "")
        for place, *_ in stronger
        if place != "services"
    ]
    assert look(placed(files, *emptied, *here)) == here[0][2]


@pytest.mark.parametrize("setting", ["region", "endpoint"])
def test_a_client_knows_where_a_setting_came_from(files, setting):
    names = {"argument": "argument", "profile": "profile 'x'", "default": "the region"}
    places = PRECEDENCE[setting][1]
    for first, (place, *_) in enumerate(places):
        source = placed(files, *places[first:]).sources[setting]
        assert names.get(place.split()[0], place) in source


def test_the_files_are_read_when_a_client_is_made(files):
    environ = files("[default]\nregion = eu-west-1")
    before = RuntimeClient(environ=environ)
    files("[default]\nregion = ap-south-1")
    assert before.region_name == "eu-west-1"
    assert RuntimeClient(environ=environ).region_name == "ap-south-1"


# --- the profile ---------------------------------------------------------------------------------

PROFILES = """
    [default]
    region = eu-west-1
    [profile one]
    region = eu-west-2
    [profile 'Two Words']
    region = eu-west-3
"""


@pytest.mark.parametrize(
    ("argument", "environ", "region"),
    [
        ("one", {"AWS_PROFILE": "Two Words", "AWS_DEFAULT_PROFILE": "Two Words"}, "eu-west-2"),
        ("default", {"AWS_PROFILE": "one"}, "eu-west-1"),
        (None, {"AWS_PROFILE": "one", "AWS_DEFAULT_PROFILE": "Two Words"}, "eu-west-2"),
        (None, {"AWS_PROFILE": "", "AWS_DEFAULT_PROFILE": "Two Words"}, "eu-west-3"),
        (None, {"AWS_PROFILE": "my account"}, "eu-north-1"),
        ("", {"AWS_PROFILE": "", "AWS_DEFAULT_PROFILE": ""}, "eu-west-1"),
    ],
)
def test_the_profile_is_the_one_named_first(files, argument, environ, region):
    environ = files(PROFILES, "[my account]\nregion = eu-north-1", **environ)
    assert RuntimeClient(profile_name=argument, environ=environ).region_name == region


def test_the_session_of_a_profile_may_have_spaces_in_its_name(files):
    config = "[default]\nsso_session = Two Words\n[sso-session 'Two Words']\nsso_region = r"
    assert "lacks sso_start_url" in chain(files(config))  # so that it was found


@pytest.mark.parametrize(
    ("argument", "environ", "named"),
    [
        ("nobody", {}, "argument"),
        (None, {"AWS_PROFILE": "nobody"}, "AWS_PROFILE"),
        (None, {"AWS_DEFAULT_PROFILE": "nobody"}, "AWS_DEFAULT_PROFILE"),
    ],
)
def test_an_unknown_profile_is_an_error_that_lists_the_known_ones(files, argument, environ, named):
    environ = files(PROFILES, "[three]\na = 1", **environ)
    with pytest.raises(ConfigurationError) as raised:
        RuntimeClient("us-east-1", profile_name=argument, environ=environ)
    names = ("default, one, three", *(environ[variable] for variable in FILES.values()))
    for part in ("'nobody'", named, *names):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("name", "there", "right"),
    [("dev", "[dev]", "[profile dev]"), ("my account", "[my account]", "[profile 'my account']")],
)
def test_a_section_where_a_profile_is_meant_is_named(files, name, there, right):
    with pytest.raises(ConfigurationError) as raised:
        RuntimeClient(profile_name=name, environ=files(f"{there}\nregion = eu-west-1"))
    assert there in str(raised.value) and right in str(raised.value)


# --- the endpoint URL ----------------------------------------------------------------------------

IGNORED = "ignore_configured_endpoint_urls"


@pytest.mark.parametrize(
    ("variable", "text", "url"),
    [
        ("true", "", f"https://{PLAIN}"),
        ("True", "false", f"https://{PLAIN}"),
        ("", "true", f"https://{PLAIN}"),
        ("false", "true", "http://two"),
        ("", "false", "http://two"),
    ],
)
def test_configured_endpoint_urls_can_be_ignored_and_an_argument_cannot(
    files, variable, text, url
):
    argument, *others = PRECEDENCE["endpoint"][1]
    others += [(f"AWS_{IGNORED.upper()}", variable), (f"profile {IGNORED}", text)]
    assert placed(files, *others).endpoint_url == url
    assert host_of(placed(files, argument, *others)) == "one:1"
    if url.startswith("https"):  # what is ignored does not exclude FIPS
        assert host_of(placed(files, ("argument use_fips_endpoint", True), *others)) == FIPS


@pytest.mark.parametrize(
    "services", ["[services t]\nsagemaker_runtime =\n  endpoint_url = http://x", "", "[profile s]"]
)
def test_a_services_section_that_is_not_there_is_an_error(files, services):
    environ = files(f"[default]\nregion = us-west-2\nservices = s\n{services}")
    with pytest.raises(ConfigurationError, match=re.escape("[services s]")) as raised:
        RuntimeClient(environ=environ)
    assert environ["AWS_CONFIG_FILE"] in str(raised.value)


def test_a_services_section_without_the_service_says_nothing(files):
    config = "[default]\nservices = s\nendpoint_url = http://p\n[services s]\n"
    for others in ("", "s3 =\n  endpoint_url = http://s3\n", "sagemaker_runtime =\n  other = 1\n"):
        assert host_of(RuntimeClient("us-west-2", environ=files(config + others))) == "p"


URL_PLACES = [place for place, *_ in PRECEDENCE["endpoint"][1][:-1]]


@pytest.mark.parametrize("place", URL_PLACES)
def test_fips_and_an_endpoint_url_exclude_each_other(files, place):
    for switch in (("argument use_fips_endpoint", True), ("AWS_USE_FIPS_ENDPOINT", "true")):
        with pytest.raises(ConfigurationError, match="FIPS and a custom endpoint"):
            placed(files, (place, "http://x"), switch)


def test_an_argument_for_one_service_changes_no_other_s_endpoint():
    environ = {f"AWS_{IGNORED.upper()}": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    found = smasync.Settings(environ, None, **{"s3 endpoint": "http://127.0.0.1:8"})
    assert found.endpoint("s3", "us-east-1") == "http://127.0.0.1:8"
    assert found.endpoint("sts", "us-east-1") == "https://sts.us-east-1.amazonaws.com"
    assert found.endpoint("sagemaker-runtime", "us-east-1").endswith(".amazonaws.com")


# --- text that cannot be what it should be -------------------------------------------------------

FLAGS = ("use_fips_endpoint", "use_dualstack_endpoint", IGNORED)
# what it should be: (its places, texts that it cannot be, part of the error)
BAD = {
    "a switch": (
        [place for key in FLAGS for place in (f"AWS_{key.upper()}", f"profile {key}")],
        ["yes", "1", "tr ue", "None"], "true",
    ),
    "a count": (
        ["argument max_attempts", "AWS_MAX_ATTEMPTS", "profile max_attempts"],
        ["0", "-1", "three", "1.5", "+3", "٣", "3 4", "1" * 5000], "number",
    ),
    "a count in code": (["argument max_attempts"], [0, -1, 1.5, True], "number"),
    "a region": (
        ["argument region_name", "AWS_REGION", "AWS_DEFAULT_REGION", "profile region"],
        ["us-east-1\n  X: y", "evil.example/", "a@b", "us_east_1", "é", "a" * 64], "not a region",
    ),
    "a region in code": (["argument region_name"], ["us-east-1\r\n"], "not a region"),
    "an endpoint URL": (
        URL_PLACES, ["ftp://x", "http://u:hunter2@x", "http://x:99999", "x", "http://"],
        "endpoint URL",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("places", "texts", "part"), BAD.values(), ids=BAD.keys())
def test_a_text_that_cannot_be_meant_is_an_error_that_names_its_source(files, places, texts, part):
    for place in places:
        names = {"argument": "", "profile": "profile 'x'"}
        source = names.get(place.split()[0], place) if part != "not a region" else ""
        for text in texts:
            with pytest.raises(ConfigurationError, match=part) as raised:
                placed(files, (place, text))
            assert source in str(raised.value)
            assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("region", [None, ""])
def test_no_region_at_all_is_an_error_that_says_where_to_set_it(files, region):
    environ = files("[default]\nregion =", AWS_REGION="", AWS_DEFAULT_REGION="")
    with pytest.raises(ConfigurationError, match="region_name.*AWS_REGION.*profile"):
        RuntimeClient(region, environ=environ)


# --- the CA bundle -------------------------------------------------------------------------------


@pytest.fixture
def https():
    """The URL of a port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    gc.collect()  # a connection that was left open is an error here


@pytest.mark.parametrize("place", [place for place, *_ in PRECEDENCE["CA bundle"][1][:-1]])
def test_a_ca_bundle_that_is_none_is_an_error_at_the_first_call(files, tmp_path, https, place):
    for name, content in {"missing": None, "empty": b"", "text": b"no certificate"}.items():
        path = tmp_path / f"{name}.pem"
        if content is not None:
            path.write_bytes(content)
        with (
            placed(files, (place, str(path)), ("argument endpoint_url", https)) as client,
            pytest.raises(ConfigurationError, match=re.escape(str(path))),
        ):
            client.invoke_endpoint_async(**CALL)
