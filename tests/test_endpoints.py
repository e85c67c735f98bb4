"""Section 6, Endpoints: the host of every partition, service and switch, and objects in S3.

Proves the hosts against the rules that AWS publishes, and that no request goes to a host that was
built from text which is no region, no bucket or no endpoint URL; errors quote no password.
"""

from __future__ import annotations

import os

import pytest

import smasync
from smasync import ConfigurationError, ParamValidationError, Response, resolve_endpoint

# --- Hosts, as in AWS's rules: R is the region, D and DUAL are the partition's suffixes

SUFFIXES = {
    # a region of the partition: D, DUAL
    "us-east-1": ("amazonaws.com", "api.aws"),
    "cn-north-1": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "us-gov-west-1": ("amazonaws.com", "api.aws"),
    "us-iso-east-1": ("c2s.ic.gov", "api.aws.ic.gov"),
    "us-isob-east-1": ("sc2s.sgov.gov", "api.aws.scloud"),
    "eu-isoe-west-1": ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    "us-isof-south-1": ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    "eusc-de-east-1": ("amazonaws.eu", "api.amazonwebservices.eu"),
    # regions that are not known yet belong to the partition of their name
    "us-west-99": ("amazonaws.com", "api.aws"),
    "xx-central-1": ("amazonaws.com", "api.aws"),
    "cn-west-9": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "us-isob-west-9": ("sc2s.sgov.gov", "api.aws.scloud"),
    "aws-cn-global": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "aws-iso-b-global": ("sc2s.sgov.gov", "api.aws.scloud"),
    "a" * 63: ("amazonaws.com", "api.aws"),
}
RULES = {
    # service, and f(ips), d(ual-stack) or both: host
    "sagemaker-runtime": "runtime.sagemaker.R.D",
    "sagemaker-runtime f": "runtime.sagemaker-fips.R.D",
    "sagemaker-runtime d": "runtime.sagemaker.R.DUAL",
    "sagemaker-runtime fd": "runtime.sagemaker-fips.R.DUAL",
    "sts": "sts.R.D",
    "sts f": "sts-fips.R.D",
    "sts d": "sts.R.DUAL",
    "sts fd": "sts-fips.R.DUAL",
    "sso": "portal.sso.R.D",
    "sso f": "portal.sso-fips.R.D",
    "sso d": "portal.sso.R.DUAL",
    "sso fd": "portal.sso-fips.R.DUAL",
    "s3": "s3.R.D",
    "s3 f": "s3-fips.R.D",
    "s3 d": "s3.dualstack.R.D",
    "s3 fd": "s3-fips.dualstack.R.D",
}
EXCEPTIONS = {
    "us-east-1 sagemaker-runtime f": "runtime-fips.sagemaker.R.D",
    "us-west-99 sagemaker-runtime f": "runtime-fips.sagemaker.R.D",
    "xx-central-1 sagemaker-runtime f": "runtime-fips.sagemaker.R.D",
    f"{'a' * 63} sagemaker-runtime f": "runtime-fips.sagemaker.R.D",
    "us-gov-west-1 sagemaker-runtime f": "runtime.sagemaker.R.D",
    "us-gov-west-1 sts f": "sts.R.D",
    "us-gov-west-1 sso f": "portal.sso.R.D",
}
NO_FIPS = ("cn-north-1", "cn-west-9", "aws-cn-global")  # in S3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("region", SUFFIXES)
def test_each_partition_has_its_hosts(region, rule):
    service, _, switches = rule.partition(" ")
    options = {"use_fips": "f" in switches, "use_dualstack": "d" in switches, "service": service}
    if service == "s3" and "f" in switches and region in NO_FIPS:
        with pytest.raises(ConfigurationError, match=f"S3 has no FIPS endpoint in {region}"):
            resolve_endpoint(region, **options)
        return
    host = EXCEPTIONS.get(f"{region} {rule}", RULES[rule])
    for letters, text in zip(("DUAL", "D", "R"), (*reversed(SUFFIXES[region]), region)):
        host = host.replace(f".{letters}", f".{text}")
    assert resolve_endpoint(region, **options) == f"https://{host}"


@pytest.mark.parametrize("region", [None, ""])
@pytest.mark.parametrize("url", [None, "http://localhost:8080"])
def test_without_a_region_the_error_says_where_to_set_it(region, url):
    with pytest.raises(ConfigurationError, match="no region: .*AWS_REGION"):
        resolve_endpoint(region, endpoint_url=url)


NO_REGIONS = {
    "a path": "evil.example/",
    "a header": "us-east-1\r\nX-Injected: 1",
    "line break after": "us-east-1\n",
    "line break before": "\nus-east-1",
    "NUL": "\0",
    "space": "us east 1",
    "dot": "us.east.1",
    "underscore": "us_east_1",
    "user": "us-east-1@evil",
    "port": "us-east-1:80",
    "fragment": "us-east-1#",
    "query": "us-east-1?",
    "other letters": "ü-east-1",
    "other digits": "us-east-\u0661",
    "too long": "a" * 64,
    "far too long": "a" * 5000,
    "hyphens alone": "---",
    "a number": 5,
}


@pytest.mark.parametrize("region", NO_REGIONS.values(), ids=NO_REGIONS.keys())
def test_a_region_is_one_host_label(region):
    with pytest.raises(ConfigurationError, match="is not a region: .*1 to 63") as raised:
        resolve_endpoint(region)
    assert len(str(raised.value)) < 200


# --- Endpoint URLs


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("https://[::1]:8443/base/path/", "https://[::1]:8443/base/path"),
        ("https://[::1]", "https://[::1]"),
        ("HTTPS://Example.com:65535", "HTTPS://Example.com:65535"),
        ("http://a_name:1/%7Euser", "http://a_name:1/%7Euser"),
    ],
)
def test_an_endpoint_url_is_used_as_it_is_given(given, used):
    assert resolve_endpoint("us-east-1", endpoint_url=given) == used


@pytest.mark.parametrize("switch", ["use_fips", "use_dualstack"])
def test_an_endpoint_url_excludes_the_switches(switch):
    with pytest.raises(ConfigurationError, match="an endpoint URL excludes FIPS and dual-stack"):
        resolve_endpoint("us-east-1", endpoint_url="http://localhost:8080", **{switch: True})


MALFORMED = {
    "userinfo": "https://user:hunter2@example.com",
    "user alone": "https://user@example.com",
    "@ in the password": "https://user:hunter2@hunter2@example.com",
    "slash in the password": "https://user:hunter2/hunter2@example.com",
    "userinfo and a bad port": "https://user:hunter2@example.com:99999",
    "userinfo and no host": "https://user:hunter2@",
    "userinfo and white space": "https://user:hunter2 @example.com ",
    "userinfo in the path": "https://example.com/user:hunter2@x",
    "query": "https://example.com?token=hunter2",
    "query after a path": "https://example.com/base?token=hunter2",
    "empty query": "https://example.com?",
    "fragment": "https://example.com#fragment",
    "no host": "https://",
    "no host, a path": "https:///base",
    "no host, a port": "https://:8080",
    "no scheme": "example.com",
    "scheme alone": "https:",
    "relative": "//example.com",
    "ftp": "ftp://example.com",
    "file": "file:///etc/passwd",
    "port 99999": "https://example.com:99999",
    "port 65536": "https://example.com:65536",
    "port 0": "https://example.com:0",
    "port of letters": "https://example.com:http",
    "port of other digits": "https://example.com:\u0661",
    "negative port": "https://example.com:-1",
    "space in the host": "https://exam ple.com",
    "space before": " https://example.com",
    "space after": "https://example.com ",
    "space in the path": "https://example.com/a b",
    "newline after": "https://example.com\n",
    "newline in the host": "https://exam\nple.com",
    "carriage return and header": "https://example.com/\r\nX-Injected: 1",
    "tab": "https://example.com/\t",
    "backslash": "https://example.com\\@evil.example",
    "letter beyond ASCII": "https://exämple.com",
    "open bracket": "https://[::1",
    "name in brackets": "https://[example]",
    "empty": "",
    "bytes": b"https://example.com",
}


@pytest.mark.parametrize("url", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_endpoint_url_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError, match="endpoint URL .* is malformed") as raised:
        resolve_endpoint("us-east-1", endpoint_url=url)
    assert "hunter2" not in str(raised.value)


# --- Objects in S3


def put(location):
    """Where put_input sends its request."""
    urls = []

    def transport(request, **options):
        urls.append(request.url)
        return Response(200, (), b"")

    client = smasync.Client(
        "us-east-1", credentials=smasync.Credentials("AKIDEXAMPLE", "secret"), transport=transport,
        environ={"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull},
    )  # fmt: skip
    try:
        assert client.put_input(b"{}", location) == location
    except ParamValidationError:
        assert urls == []
        raise
    return urls[0]


HOST = "s3.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("s3://my-bucket/in.json", f"my-bucket.{HOST}/in.json"),
        ("s3://a.dotted.bucket/a", f"{HOST}/a.dotted.bucket/a"),
        ("s3://bucket/a b+%2F/../c//", f"bucket.{HOST}/a%20b%2B%252F/../c//"),
        ("s3://bucket//", f"bucket.{HOST}//"),
        ("s3://bucket/a..b/1.2.3.4/x?y#z", f"bucket.{HOST}/a..b/1.2.3.4/x%3Fy%23z"),
        ("s3://1.2.3/\u00e9", f"{HOST}/1.2.3/%C3%A9"),
        ("s3://" + "b" * 63 + "/k", "b" * 63 + f".{HOST}/k"),
    ],
)
def test_a_location_is_a_bucket_and_a_key_that_is_encoded_once(location, url):
    assert put(location) == f"https://{url}"


NO_LOCATIONS = [
    *("", "s3://", "s3://bucket", "s3://bucket/", "s3:///key", "bucket/key", "file:///k", None, 5),
    *("s3://ab/k", "s3://Bucket/k", "s3://a..b/k", "s3://1.2.3.4/k", "s3://-ab/k", "s3://ab-/k"),
    *("s3://user@bucket/k", "s3://bucket:80/k", "s3://bucket\n/k", "s3://bucket/k\n", b"s3://b/k"),
    *("s3://bucket/\0", "s3://bucket/\ud800", "S3://bucket/k", "s3://" + "b" * 64 + "/k"),
    *("https://user:hunter2@b/k", "s3://b/k?X-Amz-Signature=hunter2\n"),
]


@pytest.mark.parametrize("location", NO_LOCATIONS)
def test_anything_else_is_no_location_and_nothing_is_sent(location):
    with pytest.raises(ParamValidationError, match="is not s3://bucket/key") as raised:
        put(location)
    assert "hunter2" not in str(raised.value)
