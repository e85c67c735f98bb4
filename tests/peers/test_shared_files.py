"""botocore as an oracle for the shared files: the same profiles, keys and regions as boto3 finds.

Proves that files as people write them mean the same to both, and that each difference which
smasync wants is really there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import botocore.session
import pytest
from botocore.exceptions import ConfigParseError, NoRegionError
from oracles import ACCESS_KEY_ID, SECRET_ACCESS_KEY

import smasync

KEYS = (
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "region",
    "role_arn",
    "source_profile",
    "sso_session",
    "credential_process",
    "output",
)
REFUSED = "botocore refuses the whole file: "
DUPLICATE = REFUSED + "a duplicate; with smasync the last one wins"
COMMENT = "smasync strips comments after white space, as the SDKs in other languages do"
SPACES = "smasync takes the words of a header, whatever white space is before them"


class Row(NamedTuple):
    """Both files' texts, and why smasync reads them differently, if it does."""

    config: str = ""
    credentials: str = ""
    reason: str = ""


PAIR = "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalr/XUtn+FEMI=\n"
ROWS = {
    # --- as `aws configure` and the guides write them
    "what aws configure writes": Row(
        "[default]\nregion = us-west-2\noutput = json\n", f"[default]\n{PAIR}"
    ),
    "several profiles": Row(
        "[default]\nregion = us-west-2\n\n[profile dev]\nregion = eu-west-1\noutput = text\n",
        f"[default]\n{PAIR}\n[dev]\n{PAIR}aws_session_token = IQoJb3JpZ2luX2VjE==\n",
    ),
    "only the credentials file": Row("", f"[default]\n{PAIR}region = ap-south-1\n[ci]\n{PAIR}"),
    "only the config file": Row(f"[default]\n{PAIR}region = ap-south-1\n[profile ci]\n{PAIR}"),
    "a profile with region in both files": Row(
        "[profile dev]\nregion = eu-west-1\noutput = text\n", f"[dev]\n{PAIR}region = eu-west-2\n"
    ),
    "an empty region over one of the config file": Row(
        "[profile dev]\nregion = eu-west-1\n", "[dev]\nregion =\n"
    ),
    "a role with a source profile": Row(
        "[profile ops]\nrole_arn = arn:aws:iam::123456789012:role/Ops\nsource_profile = default\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/me\nregion = eu-central-1\n",
        f"[default]\n{PAIR}",
    ),
    "sso-session": Row(
        "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\n"
        "sso_region = eu-west-1\nsso_registration_scopes = sso:account:access\n"
        "[profile corp]\nsso_session = corp\nsso_account_id = 123456789012\n"
        "sso_role_name = Admin\nregion = eu-west-1\noutput = yaml\n"
    ),
    "names with spaces, as aws configure sso writes them": Row(
        "[sso-session 'Two Words']\nsso_region = eu-west-1\n"
        "sso_start_url = https://corp.awsapps.com/start\n"
        "[profile 'My Account.Admin-123456789012']\nsso_session = Two Words\nregion = eu-west-1\n"
    ),
    "a credential process with options": Row(
        '[profile vault]\ncredential_process = /opt/vault --role=dev --ttl 1h --as "me & you"\n'
    ),
    "nested blocks": Row(
        "[default]\nregion = us-west-2\ns3 =\n  max_concurrent_requests = 20\n"
        "  addressing_style = path\nservices = local\n[services local]\ns3 =\n"
        "  endpoint_url = http://localhost:4566\nsagemaker_runtime =\n"
        "  endpoint_url = http://localhost:4567\n"
    ),
    "a nested block with comments and blank lines": Row(
        "[default]\ns3 =\n\n    # slow line\n    max_concurrent_requests = 2\n\n"
        "    ; one = 1\n    use_accelerate_endpoint=true\n\nregion = us-west-2\n"
    ),
    # --- default
    "profile default after default": Row(
        "[default]\nregion = us-east-1\noutput = json\n[profile default]\nregion = us-west-2\n"
    ),
    "default after profile default": Row(
        "[profile default]\nregion = us-west-2\noutput = json\n[default]\nregion = us-east-1\n"
    ),
    "profile default in the credentials file": Row(
        "[default]\nregion = us-east-1\n", f"[profile default]\n{PAIR}"
    ),
    "the section DEFAULT": Row(
        "[DEFAULT]\nregion = eu-west-1\noutput = json\n[default]\noutput = text\n[profile x]\n",
        f"[DEFAULT]\nregion = eu-west-3\n[y]\n{PAIR}",
    ),
    "Default with a capital": Row("[Default]\nregion = us-east-1\n", f"[Default]\n{PAIR}"),
    # --- headers
    "a profile without its word": Row("[dev]\nregion = eu-west-1\n", f"[dev]\n{PAIR}"),
    "a word too much in the credentials file": Row("", f"[profile dev]\n{PAIR}[dev]\n{PAIR}"),
    "double quotes in headers": Row(
        '[profile "dev ops"]\nregion = eu-west-1\n', f'["dev ops"]\n{PAIR}[dev ops]\n{PAIR}'
    ),
    "a quoted name and the same one bare": Row(
        "[profile 'x']\nregion = eu-west-1\noutput = json\n[profile x]\nregion = eu-west-2\n"
    ),
    "spaces without quotes": Row(
        "[profile My Account]\nregion = eu-west-1\n", f"[My Account]\n{PAIR}"
    ),
    "a section of two words that is no profile": Row(
        "[my account]\nregion = eu-west-1\n[plugins cli]\nregion = x\n[Profile dev]\nregion = y\n",
        f"[my account]\n{PAIR}",
    ),
    "sections of one word": Row(
        "[plugins]\ncli_legacy_plugin_path = /x\n[preview]\ncloudfront = true\n[profile]\na = 1\n"
        "[profiledev]\nregion = eu-west-1\n[toggles]\n[profile x]\nregion = eu-west-1\n"
    ),
    "an odd quote in a name": Row(
        "[profile bob's]\nregion = eu-west-1\n[profile x]\nregion = eu-west-2\n",
        f"[bob's]\n{PAIR}",
    ),
    "a comment sign in a quoted name": Row(
        "[profile 'Team #2']\nregion = eu-west-1\n", f"[Team #2]\n{PAIR}"
    ),
    "odd characters in names": Row(
        "[profile a.b@c/d+e:f=g]\nregion = eu-west-1\n[profile é中]\nregion = eu-west-2\n"
        "[profile a\\b]\nregion = eu-west-3\n[profile a#b;c]\nregion = sa-east-1\n",
        f"[user@example.com]\n{PAIR}[é中]\n{PAIR}[a\\b]\n",
    ),
    "names that differ by case": Row(
        "[profile Dev]\nregion = eu-west-1\n[profile dev]\nregion = eu-west-2\n", f"[DEV]\n{PAIR}"
    ),
    "tabs and runs of spaces in a header": Row(
        "[profile\tx]\nregion = eu-west-1\n[profile   y]\nregion = eu-west-2\n"
    ),
    "text after the bracket": Row(
        "[default] the usual one\nregion = eu-west-1\n[profile x]:\nregion = eu-west-2\n",
        f"[x]# mine\n{PAIR}[y] // old\n{PAIR}",
    ),
    "a comment after the bracket": Row(
        "[default] # home\nregion = eu-west-1\n[profile x] ; work\nregion = eu-west-2\n"
    ),
    "a comment with brackets after a header": Row(
        "[profile x] # see [y]\nregion = eu-west-2\n", "", COMMENT
    ),
    "spaces in the brackets": Row("[ profile x ]\nregion = eu-west-2\n", f"[ x ]\n{PAIR}", SPACES),
    "a space before the bracket": Row(
        "[profile x ]\nregion = eu-west-2\n[default ]\nregion = eu-west-1\n", f"[y ]\n{PAIR}"
    ),
    "indented headers": Row(
        "  [default]\n  region = eu-west-1\n  [profile x]\n  region = eu-west-2\n"
    ),
    # --- keys and values
    "keys with colons": Row(
        "[default]\nregion: eu-west-1\noutput : json\n",
        "[default]\naws_access_key_id:AKID\naws_secret_access_key: a=b:c\n",
    ),
    "no space at all": Row(
        "[default]\nregion=eu-west-1\n",
        "[default]\naws_access_key_id=AKID\naws_secret_access_key=/a+b==\n",
    ),
    "signs of equality lined up": Row(
        "[default]\nregion                = eu-west-1\noutput\t\t=\tjson   \t\n"
    ),
    "upper-case keys": Row(
        "[default]\nREGION = eu-west-1\nOutput = json\n",
        "[default]\nAWS_ACCESS_KEY_ID = AKID\nAWS_SECRET_ACCESS_KEY = s\n",
    ),
    "keys in quotes": Row('[default]\n"region" = eu-west-1\n', "[default]\n'output' = json\n"),
    "values in quotes": Row(
        "[default]\noutput = \"json\"\n[profile x]\noutput = 'text'\n",
        "[default]\naws_access_key_id = \"AKID\"\naws_secret_access_key = 's'\n",
    ),
    "all keys indented by four spaces": Row(
        "[default]\n    region = eu-west-1\n    output = json\n",
        "[default]\n    aws_access_key_id = AKID\n    aws_secret_access_key = s\n",
    ),
    "all keys indented by tabs": Row("[default]\n\tregion = eu-west-1\n\toutput = json\n"),
    "one profile indented and another not": Row(
        "[default]\nregion = eu-west-1\n[profile x]\n    region = eu-west-2\n    output = json\n"
        "[profile y]\nregion = eu-west-3\n"
    ),
    "the first key alone indented": Row("[default]\n  region = eu-west-1\noutput = json\n"),
    "a second key indented, which continues the first": Row(
        "[default]\noutput = json\n  region = eu-west-1\n"
    ),
    "blank lines and white space inside": Row(
        "\n\n[default]\n\nregion = eu-west-1\n   \n\t\noutput = json\n\n\n[profile x]\n\n\n"
    ),
    "empty values": Row(
        "[default]\nregion =\noutput=\nrole_arn = \n", "[default]\naws_session_token =\n"
    ),
    "signs of equality in values": Row(
        "[default]\ncredential_process = env A=1 B==2 tool --x=y\n",
        "[default]\naws_session_token = FwoGZXIvYXdzE==\naws_secret_access_key = =a=\n",
    ),
    "percent and dollar signs": Row(
        "[default]\ncredential_process = tool --fmt %(region)s 100% %% ${HOME} $HOME ~\n"
    ),
    "letters beyond ASCII": Row(
        "# Zugänge\n[profile büro]\noutput = é中🙂\nregion = eu-west-1\n",
        f"# clés\n[büro]\n{PAIR}",
    ),
    "unknown keys": Row("[default]\ncolor = red\nregion = eu-west-1\nmy key = 1\n-x = 2\n"),
    "a region with a letter in upper case": Row("[default]\nregion = EU-west-1\n"),
    # --- comments
    "comment lines": Row(
        "# region = a\n; region = b\n[default]\n#region = c\n;region = d\n  # region = e\n"
        "region = eu-west-1\n# the end",
        f"#\n;\n[default]\n# old: aws_access_key_id = X\n{PAIR}",
    ),
    "comment signs within values": Row(
        "[default]\noutput = a#b;c\ncredential_process = tool --color=#fff;x\n",
        "[default]\naws_secret_access_key = ab#cd;ef\n",
    ),
    "a comment after a value": Row("[default]\nregion = eu-west-1 # Ireland\n", "", COMMENT),
    "a semicolon after a value": Row("[default]\noutput = json ; or text\n", "", COMMENT),
    "a comment after an empty value": Row("[default]\nregion = # later\n", "", COMMENT),
    "a comment among credentials": Row(
        "", f"[default]\n{PAIR}aws_session_token = t #x\n", COMMENT
    ),
    # --- lines and bytes
    "lines that end in CRLF": Row(
        "[default]\r\nregion = eu-west-1\r\n\r\n[profile x]\r\n    region = eu-west-2\r\n",
        "[default]\r\naws_access_key_id = AKID\r\naws_secret_access_key = s\r\n",
    ),
    "no line end at the end": Row("[default]\nregion = eu-west-1", "[x]\naws_access_key_id = A"),
    "empty files": Row(),
    "only comments and blank lines": Row("# nothing\n\n", "\n;\n"),
    "a byte-order mark": Row(
        "\ufeff[default]\nregion = eu-west-1\n", "", REFUSED + "it begins with a byte-order mark"
    ),
    "not UTF-8": Row(
        "# caf\udce9\n[default]\nregion = eu-west-1\n", "", REFUSED + "a byte is not UTF-8"
    ),
    # --- what botocore refuses, and what both do
    "a duplicate profile": Row(
        "[profile x]\nregion = eu-west-1\n[profile x]\nregion = eu-west-2\n", "", DUPLICATE
    ),
    "a duplicate profile among credentials": Row("", f"[x]\n{PAIR}[x]\n{PAIR}", DUPLICATE),
    "a duplicate key": Row("[default]\nregion = eu-west-1\nregion = eu-west-2\n", "", DUPLICATE),
    "a key twice, in upper and lower case": Row(
        "[default]\nregion = eu-west-1\nREGION = eu-west-2\n", "", DUPLICATE
    ),
    "a nested line without =": Row(
        "[default]\nregion = eu-west-1\ns3 =\n  path\n", "", REFUSED + "smasync reads no s3 block"
    ),
    "a line that is no property": Row("[default]\nregion = eu-west-1\nyes\n", f"[x]\n{PAIR}"),
    "a key without a section": Row("region = eu-west-1\n[default]\n", f"[x]\n{PAIR}"),
    "keys of the environment instead of a section": Row("", "export AWS_ACCESS_KEY_ID=AKID\n"),
    "JSON": Row("", '{"AccessKeyId": "AKID"}\n'),
    "a header without its end": Row("[default\nregion = eu-west-1\n", f"[x]\n{PAIR}"),
    "an empty header": Row("[]\nregion = eu-west-1\n"),
    "an empty key": Row("[default]\n= eu-west-1\n"),
}

Found = dict[str, tuple[dict[str, Any], "str | None"]]  # profile: its keys, a client's region


def chosen(properties: Any) -> dict[str, Any]:
    return {key: properties[key] for key in KEYS if key in properties}


def theirs() -> Found | str:
    """What botocore finds, or "refused"."""
    try:
        profiles = botocore.session.Session().full_config["profiles"]
    except ConfigParseError:
        return "refused"
    return {name: (chosen(found), region_of_theirs(name)) for name, found in profiles.items()}


LOADER = botocore.session.Session().get_component("data_loader")


def region_of_theirs(profile: str) -> str | None:
    session = botocore.session.Session(profile=profile)
    session.register_component("data_loader", LOADER)  # which remembers what it has read
    session.set_credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
    try:
        return str(session.create_client("sagemaker-runtime").meta.region_name)
    except (NoRegionError, ValueError):  # no region, or one that cannot be
        return None


def ours(environ: dict[str, str]) -> Found | str:
    """What smasync finds, or "refused"."""
    try:
        sections = smasync.load_profiles(environ)
    except smasync.ConfigurationError:
        return "refused"
    others = ("[", "sso-session ", "services ")
    return {
        name: (chosen(found), region_of_ours(name, environ))
        for name, found in sections.items()
        if not name.startswith(others)
    }


def region_of_ours(profile: str, environ: dict[str, str]) -> str | None:
    try:
        client = smasync.RuntimeClient(profile_name=profile, environ=environ)
    except smasync.ConfigurationError:
        return None
    return str(client.region_name)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_both_find_the_same_profiles_keys_and_regions(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {}
    for variable, text in (
        ("AWS_CONFIG_FILE", row.config),
        ("AWS_SHARED_CREDENTIALS_FILE", row.credentials),
    ):
        path = tmp_path / variable
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        monkeypatch.setenv(variable, str(path))
        environ[variable] = str(path)
    expected, found = theirs(), ours(environ)
    if not row.reason:
        assert found == expected
        return
    assert found != expected, f"there is no difference any more: {row.reason}"
    assert found != "refused"
    assert (expected == "refused") == row.reason.startswith(REFUSED)
