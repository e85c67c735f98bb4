"""Section 7, Settings: the files that AWS's tools share, and each setting from its strongest place.

Proves that the two files are found and read as boto3 reads them, that a file which cannot be read
stops nobody who does not need it, that errors name the file and the line and never quote it, and
that every setting comes from the strongest place that has it.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smasync import ConfigurationError, CredentialsError, RuntimeClient, load_profiles

FILES = {"config": "AWS_CONFIG_FILE", "credentials": "AWS_SHARED_CREDENTIALS_FILE"}
CALL = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG"}
ALONE = {"AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def files(tmp_path):
    """A function that writes the two files and returns the environment that names them."""

    def write(config="", credentials="", **environ):
        for which, text in (("config", config), ("credentials", credentials)):
            (tmp_path / which).write_bytes(text.encode() if isinstance(text, str) else text)
            environ[FILES[which]] = str(tmp_path / which)
        return environ

    return write


# --- the files' syntax ---------------------------------------------------------------------------

HEADERS = {
    # a header of each file: where its keys are found
    "config": {
        "[default]": "default", "[profile default]": "default", "[profile x]": "x",
        "[profile   x]": "x", "[profile\tx]": "x", "  [profile x]": "x", "[profile x] y": "x",
        "[profile x]z = 1": "x", "[profile x] # see [y]": "x", "[profile Dev]": "Dev",
        "[profile 'Two Words']": "Two Words", '[profile "c d"]': "c d", "[profile é]": "é",
        "[profile aZ0-_/.%@:+!]": "aZ0-_/.%@:+!", "[profile 'Team #2']": "Team #2",
        "[profile a;b]": "a;b", "[sso-session 'Two Words']": "sso-session Two Words",
        "[services s]": "services s", "[x]": "[x]", "[plugins x]": "[plugins x]",
        "[profile]": "[profile]", "[profile a b]": "[profile a b]", "[Profile x]": "[Profile x]",
    },
    "credentials": {
        "[x]": "x", " [x] y": "x", "[x];c": "x", "[x #3]": "x #3", "[my account]": "my account",
        "[é]": "é", "[profile x]": "profile x", "['y z']": "'y z'", "[it's]": "it's",
    },
}  # fmt: skip
ROWS = [(which, *row) for which, headers in HEADERS.items() for row in headers.items()]


@pytest.mark.parametrize(("which", "header", "name"), ROWS)
def test_a_header_names_a_profile_or_another_section(files, which, header, name):
    assert load_profiles(files(**{which: f"{header}\na = 1"})) == {name: {"a": "1"}}
    assert load_profiles(files(**{which: header})) == {name: {}}


PROPERTIES = {
    # what it shows: (lines of a section, its keys and values)
    "any indent": ("    a = 1\n    b = 2\n\n    c = 3", {"a": "1", "b": "2", "c": "3"}),
    "any case, the last one wins": ("Region = 1\nREGION = 2", {"region": "2"}),
    "colons": ("a: 1\nb : c=2\nd = e:3", {"a": "1", "b": "c=2", "d": "e:3"}),
    "comment lines": ("# one\n  ; two\n#a = 1\na = 3\n  # c = 4", {"a": "3"}),
    "comments": ("a = 1 # c\nb = 2 ; c\nc = # c\nd = 5 #;# c", {"a": "1", "b": "2", "c": "", "d": "5"}),
    "no comments": ("a=b#c\nd=e;f\ng=#h", {"a": "b#c", "d": "e;f", "g": "#h"}),
    "as they stand": ("a==1=\nb = %(a)s 9% ${X}\nc = \"d\"", {"a": "=1=", "b": "%(a)s 9% ${X}", "c": '"d"'}),
    "white space and other letters": ("a = \t é中 🙂 \t\nb =", {"a": "é中 🙂", "b": ""}),
    "more lines": ("a = 1\n  2\t# c\n\t[3]\n d = 4\nb = 5", {"a": "1\n2\n[3]\nd = 4", "b": "5"}),
    "nested": ("s3 =\n  One = 1\n  # not = this\n  two=2\na = 1", {"s3": "\nOne = 1\ntwo=2", "a": "1"}),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "properties"), PROPERTIES.values(), ids=PROPERTIES.keys())
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_properties_are_read_as_boto3_reads_them(files, lines, properties, newline):
    text = f"[profile x]\n{lines}\n".replace("\n", newline)
    assert load_profiles(files(text, text)) == {"x": properties, "profile x": properties}


BOTH = {
    # what it shows: (config, credentials, profiles)
    "the last default wins": ("[default]\na=1\nb=1\n[profile default]\na=2", "", {"default": {"a": "2"}}),
    "credentials win per key": (
        "[default]\na = 1\nb = 1\n[profile y]\na = 9", "[default]\nB = 2\nc = 2",
        {"default": {"a": "1", "b": "2", "c": "2"}, "y": {"a": "9"}},
    ),
    "the section DEFAULT is part of every other in its file": (
        "[DEFAULT]\na = 1\n[profile x]\nb = 2", "[y]", {"x": {"a": "1", "b": "2"}, "y": {}}
    ),
    "equal sections merge": ("", "[x]\na = 1\nb = 1\n[y]\n[x]\nb = 2", {"x": {"a": "1", "b": "2"}, "y": {}}),
    "half a quotation": ("[profile it's]\na = 1\n[profile x]", "", {"[profile it's]": {"a": "1"}, "x": {}}),
    "byte-order marks": ("\ufeff[profile x]\na = 1", "\ufeff# c\n[x]\nb = 2", {"x": {"a": "1", "b": "2"}}),
    "what is not UTF-8": (b"# caf\xe9\n[profile x]\nb = \xe9", "", {"x": {"b": "\ufffd"}}),
}  # fmt: skip


@pytest.mark.parametrize(("config", "credentials", "profiles"), BOTH.values(), ids=BOTH.keys())
def test_both_files_are_merged_as_boto3_merges_them(files, config, credentials, profiles):
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
@pytest.mark.parametrize("which", FILES)
@pytest.mark.parametrize(("text", "line"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_with_its_line_and_not_quoted(files, text, line, which, newline):
    environ = files(**{which: text.replace("HEADER", "[default]").replace("\n", newline)})
    with pytest.raises(ConfigurationError) as raised:
        load_profiles(environ)
    error = raised.value
    assert re.match(re.escape(environ[FILES[which]]) + rf", line {line}\b", str(error))
    assert "hunter" not in "".join(traceback.format_exception(type(error), error, None))


@pytest.mark.parametrize("which", FILES)
def test_a_file_of_1_mib_is_read_and_no_longer_one(files, which):
    content = b"[profile x]\na = 1\n".ljust(1 << 20, b"#")
    assert list(load_profiles(files(**{which: content})).values()) == [{"a": "1"}]
    environ = files(**{which: content + b"\n"})
    with pytest.raises(ConfigurationError, match=re.escape(environ[FILES[which]])):
        load_profiles(environ)


PIECES = ["[", "]", "=", ":", "#", ";", " ", "\t", "\n", "\r\n", "\ufeff", "é", "a", "b =", "  c", "'",
          '"', "[profile x]\n", "[DEFAULT]\n", "[default]\n", "s3 =\n  a = 1\n", "%", "$a"]  # fmt: skip
contents = st.lists(st.sampled_from(PIECES)).map("".join) | st.binary()


def test_any_file_is_read_or_refused(files):
    @settings(max_examples=60)
    @given(which=st.sampled_from(list(FILES)), content=contents)
    def check(which, content):
        with contextlib.suppress(ConfigurationError):
            for properties in load_profiles(files(**{which: content})).values():
                for key, value in properties.items():
                    assert key and key == key.lower() and value == value.rstrip()

    check()


# --- where the files are -------------------------------------------------------------------------

DEFAULT, OTHER = {"x": {"a": "1", "b": "2"}}, {"y": {"c": "3", "d": "4"}}


@pytest.fixture
def home(tmp_path):
    """A home directory with both files where the tools look for them, and two others."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile x]\na = 1")
    (tmp_path / ".aws" / "credentials").write_text("[x]\nb = 2")
    (tmp_path / "one").write_text("[profile y]\nc = 3")
    (tmp_path / "two").write_text("[y]\nd = 4")
    return tmp_path


@pytest.mark.parametrize(
    ("config", "credentials", "profiles"),
    [
        ("", "", DEFAULT),
        ("HERE/one", "HERE/two", OTHER),
        ("~/one", "~/two", OTHER),
        ("$TOP/one", "${TOP}/two", OTHER),
        ("~/$ONE", "$TILDE/two", OTHER),
        ("~other/one", "HERE/one/none", {}),
    ],
)
@pytest.mark.parametrize("variable", ["HOME", "USERPROFILE"])
def test_variables_name_the_files(home, variable, config, credentials, profiles):
    environ = {variable: str(home), "TOP": str(home), "ONE": "one", "TILDE": "~"}
    assert load_profiles(environ) == DEFAULT
    for name, path in zip(FILES.values(), (config, credentials)):
        environ[name] = path.replace("HERE", str(home))
    assert load_profiles(environ) == profiles


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"AWS_CONFIG_FILE": "~/.aws/config"}])
def test_without_home_it_is_the_system_s(home, monkeypatch, environ):
    monkeypatch.setenv("HOME", str(home))
    assert load_profiles(environ) == DEFAULT


def chain(environ):
    """The error of a search for credentials in such an environment."""
    with pytest.raises(CredentialsError) as raised:
        RuntimeClient("us-east-1", environ=environ).explain(**CALL)
    return str(raised.value)


@pytest.mark.parametrize("which", FILES)
@pytest.mark.parametrize("how", ["a directory", "a file for its folder"])
def test_a_file_that_cannot_be_read_stops_only_who_needs_it(tmp_path, which, how):
    path, environ = tmp_path / ".aws" / which, {"HOME": str(tmp_path), **ALONE}
    path.mkdir(parents=True) if how == "a directory" else path.parent.write_text("")
    assert RuntimeClient("us-east-1", environ={**environ, **KEYS}).explain(**CALL)
    assert load_profiles(environ) == {}
    assert re.search(rf"shared files: .*directory: {str(path)!r}", chain(environ))


@pytest.mark.parametrize("variable", FILES.values())
def test_a_file_that_is_missing_is_said_to_be(tmp_path, variable):
    environ = {"HOME": str(tmp_path), variable: str(tmp_path / "none"), **ALONE}
    missing = f"No such file or directory: {str(tmp_path / 'none')!r}"
    assert RuntimeClient("us-east-1", environ={**environ, **KEYS}).region_name == "us-east-1"
    assert missing in chain(environ)
    with pytest.raises(ConfigurationError, match=re.escape(missing)):
        RuntimeClient("us-east-1", profile_name="x", environ=environ)


# --- each setting from the first place that has it -----------------------------------------------


def host_of(client):
    return client.endpoint_url.partition("://")[2]


def sent_by(client, name):
    return dict(client.explain(**CALL).request.headers)[name]


PLAIN = "runtime.sagemaker.us-west-2.amazonaws.com"
FIPS = "runtime-fips.sagemaker.us-west-2.amazonaws.com"
DUAL = "runtime.sagemaker.us-west-2.api.aws"

# A place is "argument NAME", a variable, "profile KEY", "services" or "default". Each setting has
# its places from the strongest to the weakest, what is written there, and what comes of it.
PRECEDENCE = {
    "region": (lambda client: client.region_name, [
        ("argument region_name", "eu-west-1", "eu-west-1"), ("AWS_REGION", "eu-west-2", "eu-west-2"),
        ("AWS_DEFAULT_REGION", "eu-west-3", "eu-west-3"), ("profile region", "eu-west-4", "eu-west-4"),
    ]),
    "endpoint": (host_of, [
        ("argument endpoint_url", "http://one:1/", "one:1"),
        ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "http://two/", "two"),
        ("AWS_ENDPOINT_URL", "http://three", "three"),
        ("services", "http://four # comment", "four"),
        ("profile endpoint_url", "http://five", "five"), ("default", "", PLAIN),
    ]),
    "use_fips_endpoint": (host_of, [
        ("argument use_fips_endpoint", True, FIPS), ("AWS_USE_FIPS_ENDPOINT", "false", PLAIN),
        ("profile use_fips_endpoint", "true", FIPS), ("default", "", PLAIN),
    ]),
    "use_dualstack_endpoint": (host_of, [
        ("argument use_dualstack_endpoint", False, PLAIN), ("AWS_USE_DUALSTACK_ENDPOINT", "true", DUAL),
        ("profile use_dualstack_endpoint", "False", PLAIN),
    ]),
    "max_attempts": (lambda client: sent_by(client, "amz-sdk-request")[15:], [
        ("argument max_attempts", 7, "7"), ("AWS_MAX_ATTEMPTS", "6", "6"),
        ("profile max_attempts", "1", "1"), ("default", "", "3"),
    ]),
    "sdk_ua_app_id": (lambda client: sent_by(client, "User-Agent").partition(" app/")[2], [
        ("AWS_SDK_UA_APP_ID", "one", "one"), ("profile sdk_ua_app_id", "two", "two"), ("default", "", ""),
    ]),
    "ca_bundle": (lambda client: "known by its source", [
        (place, "some.pem", "known by its source") for place in
        ("argument verify", "AWS_CA_BUNDLE", "profile ca_bundle", "REQUESTS_CA_BUNDLE", "default")
    ]),
}  # fmt: skip
STEPS = {
    f"{setting}, {places[at][0]}": (setting, look, places[at:], [name for name, *_ in places[:at]])
    for setting, (look, places) in PRECEDENCE.items()
    for at in range(len(places))
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


SOURCES = {"argument": "argument", "profile": "profile 'x'", "default": "the region|default",
           "services": "services section of profile 'x'"}  # fmt: skip


@pytest.mark.parametrize(("setting", "look", "places", "stronger"), STEPS.values(), ids=STEPS)
def test_the_strongest_place_wins_and_an_empty_one_counts_as_unset(
    files, setting, look, places, stronger
):
    place, _, result = places[0]
    source = SOURCES.get(place.split()[0], f"environment variable {place}")
    empty = [(name, None if "argument" in name else "") for name in stronger if name != "services"]
    for client in (placed(files, *places), placed(files, *empty, *places)):
        assert look(client) == result
        assert re.fullmatch(source, client.sources[setting])


# --- the profile ---------------------------------------------------------------------------------

PROFILES = "[default]\nregion=r-1\n[profile one]\nregion=r-2\n[profile 'Two Words']\nregion=r-3"
NAMED = [
    # the argument, AWS_PROFILE, AWS_DEFAULT_PROFILE; the region of the profile that counts
    ("one", "Two Words", "Two Words", "r-2"), ("default", "one", "", "r-1"),
    (None, "one", "Two Words", "r-2"), (None, "", "Two Words", "r-3"),
    (None, "my account", "", "r-4"), ("", "", "", "r-1"),
]  # fmt: skip


@pytest.mark.parametrize(("argument", "first", "second", "region"), NAMED)
def test_the_profile_is_the_one_named_first(files, argument, first, second, region):
    variables = {"AWS_PROFILE": first, "AWS_DEFAULT_PROFILE": second}
    environ = files(PROFILES, "[my account]\nregion = r-4", **variables)
    assert RuntimeClient(profile_name=argument, environ=environ).region_name == region


@pytest.mark.parametrize("by", ["argument", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_an_unknown_profile_is_an_error_that_lists_the_known_ones(files, by):
    environ, name = files(PROFILES, "[three]\na = 1"), "nobody" if by == "argument" else None
    parts = ["'nobody'", by, "Two Words, default, one, three", *environ.values()]
    with pytest.raises(ConfigurationError) as raised:
        RuntimeClient(profile_name=name, environ={by: "nobody", **environ})
    assert [part for part in parts if part not in str(raised.value)] == []


def test_a_section_that_lacks_the_word_profile_is_listed_under_its_header(files):
    with pytest.raises(ConfigurationError, match=re.escape("there are: [dev]")):
        RuntimeClient(profile_name="dev", environ=files("[dev]\nregion = eu-west-1"))


# --- the endpoint URL ----------------------------------------------------------------------------

IGNORED = "ignore_configured_endpoint_urls"
IGNORING = [("true", "", PLAIN), ("True", "false", PLAIN), ("", "true", PLAIN),
            ("false", "true", "two"), ("", "false", "two")]  # fmt: skip


@pytest.mark.parametrize(("variable", "text", "host"), IGNORING)
def test_configured_endpoint_urls_can_be_ignored(files, variable, text, host):
    argument, *others = PRECEDENCE["endpoint"][1]
    others += [(f"AWS_{IGNORED.upper()}", variable), (f"profile {IGNORED}", text)]
    assert host_of(placed(files, *others)) == host
    assert host_of(placed(files, argument, *others)) == "one:1"
    if host == PLAIN:  # what is ignored does not exclude FIPS
        assert host_of(placed(files, ("argument use_fips_endpoint", True), *others)) == FIPS


@pytest.mark.parametrize(
    "services", ["", "[profile s]", "[services t]", "[services s]\nsagemaker_runtime =\n  hunter2"]
)
def test_a_services_section_that_is_missing_or_broken_is_named_and_not_quoted(files, services):
    environ = files(f"[default]\nregion = us-west-2\nservices = s\n{services}")
    with pytest.raises(ConfigurationError, match=re.escape("[services s]")) as raised:
        RuntimeClient(environ=environ)
    assert "hunter2" not in str(raised.value)


def test_a_services_section_without_the_service_says_nothing(files):
    for more in ("", "s3 =\n  endpoint_url = http://s3", "sagemaker_runtime =\n  a = 1"):
        config = f"[default]\nservices = s\nendpoint_url = http://p\n[services s]\n{more}"
        assert host_of(RuntimeClient("us-west-2", environ=files(config))) == "p"


# --- text that cannot be what it should be -------------------------------------------------------

URL_PLACES = [place for place, *_ in PRECEDENCE["endpoint"][1][:-1]]
FLAGS = [f"profile {key}" for key in ("use_fips_endpoint", "use_dualstack_endpoint", IGNORED)]
FLAGS += [place.replace("profile ", "AWS_").upper() for place in FLAGS]
# what it should be: (its places, texts that it cannot be, part of the error)
BAD = {
    "a switch": (FLAGS, ["yes", "1", "tr ue", "None"], "true"),
    "a count": (
        ["argument max_attempts", "AWS_MAX_ATTEMPTS", "profile max_attempts"],
        ["0", "-1", "three", "1.5", "+3", "٣", "3 4", "1" * 10, "1" * 5000], "number",
    ),
    "a count in code": (["argument max_attempts"], [0, -1, 1.5, True], "number"),
    "a region": (
        ["argument region_name", "AWS_REGION", "AWS_DEFAULT_REGION", "profile region"],
        ["us-east-1\n  X: y", "evil.example/", "a@b", "us_east_1", "é", "a" * 64], "not a region",
    ),
    "an endpoint URL": (
        URL_PLACES, ["ftp://x", "http://u:hunter2@x", "http://x:99999", "http://"], "endpoint URL",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("places", "texts", "part"), BAD.values(), ids=BAD.keys())
def test_a_text_that_cannot_be_meant_is_an_error_that_names_its_source(files, places, texts, part):
    for place, text in itertools.product(places, texts):
        with pytest.raises(ConfigurationError, match=part) as raised:
            placed(files, (place, text))
        source = {"argument": "", "profile": "profile 'x'"}.get(place.split()[0], place)
        assert part == "not a region" or source in str(raised.value)
        assert "hunter2" not in str(raised.value)


def test_an_empty_profile_name_names_no_profile(tmp_path):
    (tmp_path / "config").write_text("[profile dev]\nregion = eu-west-1\n")
    environ = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_PROFILE": "dev"}
    assert RuntimeClient(profile_name="", environ=environ).region_name == "eu-west-1"
