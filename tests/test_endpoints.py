"""Endpoints: the host of every partition, service and switch, and text that must not be one."""

from __future__ import annotations

import pytest

import smasync

# region, service, f(ips) and d(ual-stack), host: as in the rule sets that AWS publishes
HOSTS = """
us-east-1 sagemaker-runtime - runtime.sagemaker.us-east-1.amazonaws.com
us-east-1 sagemaker-runtime f runtime-fips.sagemaker.us-east-1.amazonaws.com
us-east-1 sagemaker-runtime d runtime.sagemaker.us-east-1.api.aws
us-east-1 sagemaker-runtime fd runtime.sagemaker-fips.us-east-1.api.aws
us-east-1 sts - sts.us-east-1.amazonaws.com
us-east-1 sts f sts-fips.us-east-1.amazonaws.com
us-east-1 sts d sts.us-east-1.api.aws
us-east-1 sts fd sts-fips.us-east-1.api.aws
us-east-1 sso - portal.sso.us-east-1.amazonaws.com
us-east-1 sso f portal.sso-fips.us-east-1.amazonaws.com
us-east-1 sso d portal.sso.us-east-1.api.aws
us-east-1 sso fd portal.sso-fips.us-east-1.api.aws
us-east-1 s3 - s3.us-east-1.amazonaws.com
us-east-1 s3 f s3-fips.us-east-1.amazonaws.com
us-east-1 s3 d s3.dualstack.us-east-1.amazonaws.com
us-east-1 s3 fd s3-fips.dualstack.us-east-1.amazonaws.com
cn-north-1 sagemaker-runtime - runtime.sagemaker.cn-north-1.amazonaws.com.cn
cn-north-1 sagemaker-runtime f runtime.sagemaker-fips.cn-north-1.amazonaws.com.cn
cn-north-1 sagemaker-runtime d runtime.sagemaker.cn-north-1.api.amazonwebservices.com.cn
cn-north-1 sagemaker-runtime fd runtime.sagemaker-fips.cn-north-1.api.amazonwebservices.com.cn
cn-north-1 sts - sts.cn-north-1.amazonaws.com.cn
cn-north-1 sts f sts-fips.cn-north-1.amazonaws.com.cn
cn-north-1 sts d sts.cn-north-1.api.amazonwebservices.com.cn
cn-north-1 sts fd sts-fips.cn-north-1.api.amazonwebservices.com.cn
cn-north-1 sso - portal.sso.cn-north-1.amazonaws.com.cn
cn-north-1 sso f portal.sso-fips.cn-north-1.amazonaws.com.cn
cn-north-1 sso d portal.sso.cn-north-1.api.amazonwebservices.com.cn
cn-north-1 sso fd portal.sso-fips.cn-north-1.api.amazonwebservices.com.cn
cn-north-1 s3 - s3.cn-north-1.amazonaws.com.cn
cn-north-1 s3 d s3.dualstack.cn-north-1.amazonaws.com.cn
us-gov-west-1 sagemaker-runtime - runtime.sagemaker.us-gov-west-1.amazonaws.com
us-gov-west-1 sagemaker-runtime f runtime.sagemaker.us-gov-west-1.amazonaws.com
us-gov-west-1 sagemaker-runtime d runtime.sagemaker.us-gov-west-1.api.aws
us-gov-west-1 sagemaker-runtime fd runtime.sagemaker-fips.us-gov-west-1.api.aws
us-gov-west-1 sts - sts.us-gov-west-1.amazonaws.com
us-gov-west-1 sts f sts.us-gov-west-1.amazonaws.com
us-gov-west-1 sts d sts.us-gov-west-1.api.aws
us-gov-west-1 sts fd sts-fips.us-gov-west-1.api.aws
us-gov-west-1 sso - portal.sso.us-gov-west-1.amazonaws.com
us-gov-west-1 sso f portal.sso.us-gov-west-1.amazonaws.com
us-gov-west-1 sso d portal.sso.us-gov-west-1.api.aws
us-gov-west-1 sso fd portal.sso-fips.us-gov-west-1.api.aws
us-gov-west-1 s3 - s3.us-gov-west-1.amazonaws.com
us-gov-west-1 s3 f s3-fips.us-gov-west-1.amazonaws.com
us-gov-west-1 s3 d s3.dualstack.us-gov-west-1.amazonaws.com
us-gov-west-1 s3 fd s3-fips.dualstack.us-gov-west-1.amazonaws.com
us-iso-east-1 sagemaker-runtime - runtime.sagemaker.us-iso-east-1.c2s.ic.gov
us-iso-east-1 sagemaker-runtime f runtime.sagemaker-fips.us-iso-east-1.c2s.ic.gov
us-iso-east-1 sagemaker-runtime d runtime.sagemaker.us-iso-east-1.api.aws.ic.gov
us-iso-east-1 sagemaker-runtime fd runtime.sagemaker-fips.us-iso-east-1.api.aws.ic.gov
us-iso-east-1 sts - sts.us-iso-east-1.c2s.ic.gov
us-iso-east-1 sts f sts-fips.us-iso-east-1.c2s.ic.gov
us-iso-east-1 sts d sts.us-iso-east-1.api.aws.ic.gov
us-iso-east-1 sts fd sts-fips.us-iso-east-1.api.aws.ic.gov
us-iso-east-1 sso - portal.sso.us-iso-east-1.c2s.ic.gov
us-iso-east-1 sso f portal.sso-fips.us-iso-east-1.c2s.ic.gov
us-iso-east-1 sso d portal.sso.us-iso-east-1.api.aws.ic.gov
us-iso-east-1 sso fd portal.sso-fips.us-iso-east-1.api.aws.ic.gov
us-iso-east-1 s3 - s3.us-iso-east-1.c2s.ic.gov
us-iso-east-1 s3 f s3-fips.us-iso-east-1.c2s.ic.gov
us-iso-east-1 s3 d s3.dualstack.us-iso-east-1.c2s.ic.gov
us-iso-east-1 s3 fd s3-fips.dualstack.us-iso-east-1.c2s.ic.gov
us-isob-east-1 sagemaker-runtime - runtime.sagemaker.us-isob-east-1.sc2s.sgov.gov
us-isob-east-1 sagemaker-runtime f runtime.sagemaker-fips.us-isob-east-1.sc2s.sgov.gov
us-isob-east-1 sagemaker-runtime d runtime.sagemaker.us-isob-east-1.api.aws.scloud
us-isob-east-1 sagemaker-runtime fd runtime.sagemaker-fips.us-isob-east-1.api.aws.scloud
us-isob-east-1 sts - sts.us-isob-east-1.sc2s.sgov.gov
us-isob-east-1 sts f sts-fips.us-isob-east-1.sc2s.sgov.gov
us-isob-east-1 sts d sts.us-isob-east-1.api.aws.scloud
us-isob-east-1 sts fd sts-fips.us-isob-east-1.api.aws.scloud
us-isob-east-1 sso - portal.sso.us-isob-east-1.sc2s.sgov.gov
us-isob-east-1 sso f portal.sso-fips.us-isob-east-1.sc2s.sgov.gov
us-isob-east-1 sso d portal.sso.us-isob-east-1.api.aws.scloud
us-isob-east-1 sso fd portal.sso-fips.us-isob-east-1.api.aws.scloud
us-isob-east-1 s3 - s3.us-isob-east-1.sc2s.sgov.gov
us-isob-east-1 s3 f s3-fips.us-isob-east-1.sc2s.sgov.gov
us-isob-east-1 s3 d s3.dualstack.us-isob-east-1.sc2s.sgov.gov
us-isob-east-1 s3 fd s3-fips.dualstack.us-isob-east-1.sc2s.sgov.gov
eu-isoe-west-1 sagemaker-runtime - runtime.sagemaker.eu-isoe-west-1.cloud.adc-e.uk
eu-isoe-west-1 sagemaker-runtime f runtime.sagemaker-fips.eu-isoe-west-1.cloud.adc-e.uk
eu-isoe-west-1 sagemaker-runtime d runtime.sagemaker.eu-isoe-west-1.api.cloud-aws.adc-e.uk
eu-isoe-west-1 sagemaker-runtime fd runtime.sagemaker-fips.eu-isoe-west-1.api.cloud-aws.adc-e.uk
eu-isoe-west-1 sts - sts.eu-isoe-west-1.cloud.adc-e.uk
eu-isoe-west-1 sts f sts-fips.eu-isoe-west-1.cloud.adc-e.uk
eu-isoe-west-1 sts d sts.eu-isoe-west-1.api.cloud-aws.adc-e.uk
eu-isoe-west-1 sts fd sts-fips.eu-isoe-west-1.api.cloud-aws.adc-e.uk
eu-isoe-west-1 sso - portal.sso.eu-isoe-west-1.cloud.adc-e.uk
eu-isoe-west-1 sso f portal.sso-fips.eu-isoe-west-1.cloud.adc-e.uk
eu-isoe-west-1 sso d portal.sso.eu-isoe-west-1.api.cloud-aws.adc-e.uk
eu-isoe-west-1 sso fd portal.sso-fips.eu-isoe-west-1.api.cloud-aws.adc-e.uk
eu-isoe-west-1 s3 - s3.eu-isoe-west-1.cloud.adc-e.uk
eu-isoe-west-1 s3 f s3-fips.eu-isoe-west-1.cloud.adc-e.uk
eu-isoe-west-1 s3 d s3.dualstack.eu-isoe-west-1.cloud.adc-e.uk
eu-isoe-west-1 s3 fd s3-fips.dualstack.eu-isoe-west-1.cloud.adc-e.uk
us-isof-south-1 sagemaker-runtime - runtime.sagemaker.us-isof-south-1.csp.hci.ic.gov
us-isof-south-1 sagemaker-runtime f runtime.sagemaker-fips.us-isof-south-1.csp.hci.ic.gov
us-isof-south-1 sagemaker-runtime d runtime.sagemaker.us-isof-south-1.api.aws.hci.ic.gov
us-isof-south-1 sagemaker-runtime fd runtime.sagemaker-fips.us-isof-south-1.api.aws.hci.ic.gov
us-isof-south-1 sts - sts.us-isof-south-1.csp.hci.ic.gov
us-isof-south-1 sts f sts-fips.us-isof-south-1.csp.hci.ic.gov
us-isof-south-1 sts d sts.us-isof-south-1.api.aws.hci.ic.gov
us-isof-south-1 sts fd sts-fips.us-isof-south-1.api.aws.hci.ic.gov
us-isof-south-1 sso - portal.sso.us-isof-south-1.csp.hci.ic.gov
us-isof-south-1 sso f portal.sso-fips.us-isof-south-1.csp.hci.ic.gov
us-isof-south-1 sso d portal.sso.us-isof-south-1.api.aws.hci.ic.gov
us-isof-south-1 sso fd portal.sso-fips.us-isof-south-1.api.aws.hci.ic.gov
us-isof-south-1 s3 - s3.us-isof-south-1.csp.hci.ic.gov
us-isof-south-1 s3 f s3-fips.us-isof-south-1.csp.hci.ic.gov
us-isof-south-1 s3 d s3.dualstack.us-isof-south-1.csp.hci.ic.gov
us-isof-south-1 s3 fd s3-fips.dualstack.us-isof-south-1.csp.hci.ic.gov
eusc-de-east-1 sagemaker-runtime - runtime.sagemaker.eusc-de-east-1.amazonaws.eu
eusc-de-east-1 sagemaker-runtime f runtime.sagemaker-fips.eusc-de-east-1.amazonaws.eu
eusc-de-east-1 sagemaker-runtime d runtime.sagemaker.eusc-de-east-1.api.amazonwebservices.eu
eusc-de-east-1 sagemaker-runtime fd runtime.sagemaker-fips.eusc-de-east-1.api.amazonwebservices.eu
eusc-de-east-1 sts - sts.eusc-de-east-1.amazonaws.eu
eusc-de-east-1 sts f sts-fips.eusc-de-east-1.amazonaws.eu
eusc-de-east-1 sts d sts.eusc-de-east-1.api.amazonwebservices.eu
eusc-de-east-1 sts fd sts-fips.eusc-de-east-1.api.amazonwebservices.eu
eusc-de-east-1 sso - portal.sso.eusc-de-east-1.amazonaws.eu
eusc-de-east-1 sso f portal.sso-fips.eusc-de-east-1.amazonaws.eu
eusc-de-east-1 sso d portal.sso.eusc-de-east-1.api.amazonwebservices.eu
eusc-de-east-1 sso fd portal.sso-fips.eusc-de-east-1.api.amazonwebservices.eu
eusc-de-east-1 s3 - s3.eusc-de-east-1.amazonaws.eu
eusc-de-east-1 s3 f s3-fips.eusc-de-east-1.amazonaws.eu
eusc-de-east-1 s3 d s3.dualstack.eusc-de-east-1.amazonaws.eu
eusc-de-east-1 s3 fd s3-fips.dualstack.eusc-de-east-1.amazonaws.eu
"""


@pytest.mark.parametrize("row", HOSTS.split("\n")[1:-1])
def test_each_partition_has_its_hosts(row):
    region, service, switches, host = row.split()
    url = smasync.resolve_endpoint(
        region, use_fips="f" in switches, use_dualstack="d" in switches, service=service
    )
    assert url == f"https://{host}"


@pytest.mark.parametrize("use_dualstack", [False, True])
def test_s3_has_no_fips_host_in_china(use_dualstack):
    with pytest.raises(smasync.ConfigurationError, match="S3 has no FIPS endpoint in cn-north-1"):
        smasync.resolve_endpoint(
            "cn-north-1", use_fips=True, use_dualstack=use_dualstack, service="s3"
        )


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-west-99", "runtime.sagemaker.us-west-99.amazonaws.com"),
        ("xx-central-1", "runtime.sagemaker.xx-central-1.amazonaws.com"),
        ("cn-west-9", "runtime.sagemaker.cn-west-9.amazonaws.com.cn"),
        ("us-gov-south-9", "runtime.sagemaker.us-gov-south-9.amazonaws.com"),
        ("us-isob-west-9", "runtime.sagemaker.us-isob-west-9.sc2s.sgov.gov"),
        ("aws-cn-global", "runtime.sagemaker.aws-cn-global.amazonaws.com.cn"),
        ("aws-iso-b-global", "runtime.sagemaker.aws-iso-b-global.sc2s.sgov.gov"),
        ("a" * 63, "runtime.sagemaker." + "a" * 63 + ".amazonaws.com"),
    ],
)
def test_a_region_that_is_not_known_yet_belongs_to_the_partition_of_its_name(region, host):
    assert smasync.resolve_endpoint(region) == f"https://{host}"


@pytest.mark.parametrize("region", [None, ""])
def test_without_a_region_the_error_says_where_to_set_it(region):
    with pytest.raises(smasync.ConfigurationError, match="no region: .*AWS_REGION"):
        smasync.resolve_endpoint(region)
    with pytest.raises(smasync.ConfigurationError, match="no region"):
        smasync.resolve_endpoint(region, endpoint_url="http://localhost:8080")


@pytest.mark.parametrize(
    "region",
    [
        *("evil.example/", "us-east-1\r\nX-Injected: 1", "us-east-1\n", "\nus-east-1", "\0"),
        *("us east 1", "us.east.1", "us_east_1", "us-east-1@evil", "us-east-1:80", "us-east-1#"),
        *("us-east-1?", "ü-east-1", "u\u0660-east-1", "a" * 64, 5),
    ],
)
def test_a_region_is_one_host_label(region):
    with pytest.raises(smasync.ConfigurationError, match="is not a region: .*1 to 63"):
        smasync.resolve_endpoint(region)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("https://[::1]:8443/base/path/", "https://[::1]:8443/base/path"),
        ("https://[::1]", "https://[::1]"),
        ("HTTPS://Example.com:65535", "HTTPS://Example.com:65535"),
        ("https://vpce-1.runtime.sagemaker.us-east-1.vpce.amazonaws.com",) * 2,
        ("http://a_name:1/%7Euser", "http://a_name:1/%7Euser"),
    ],
)
def test_an_endpoint_url_is_used_as_it_is_given(given, used):
    assert smasync.resolve_endpoint("us-east-1", endpoint_url=given) == used


@pytest.mark.parametrize(
    ("switch", "name"), [("use_fips", "FIPS"), ("use_dualstack", "[Dd]ual-?stack")]
)
def test_an_endpoint_url_excludes_the_switches(switch, name):
    with pytest.raises(smasync.ConfigurationError, match=f"{name}.* custom endpoint"):
        smasync.resolve_endpoint(
            "us-east-1", endpoint_url="http://localhost:8080", **{switch: True}
        )


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
    with pytest.raises(smasync.ConfigurationError, match="endpoint URL .* is malformed") as raised:
        smasync.resolve_endpoint("us-east-1", endpoint_url=url)
    assert "hunter2" not in str(raised.value)


# --- Locations in S3


@pytest.mark.parametrize(
    ("location", "bucket", "key"),
    [
        ("s3://my-bucket/in.json", "my-bucket", "in.json"),
        ("s3://a.dotted.bucket/a b+%2F/../c//", "a.dotted.bucket", "a b+%2F/../c//"),
        ("s3://bucket//", "bucket", "/"),
        ("s3://bucket/a..b/1.2.3.4/x?y#z", "bucket", "a..b/1.2.3.4/x?y#z"),
        ("s3://1.2.3/été/\U0001f600", "1.2.3", "été/\U0001f600"),
        ("s3://" + "b" * 63 + "/k", "b" * 63, "k"),
    ],
)
def test_a_location_is_a_bucket_and_a_key(location, bucket, key):
    assert smasync.parse_location(location) == (bucket, key)


@pytest.mark.parametrize(
    "location",
    [
        *(
            "",
            "s3://",
            "s3://bucket",
            "s3://bucket/",
            "s3:///key",
            "bucket/key",
            "file:///k",
            None,
            5,
        ),
        *(
            "s3://ab/k",
            "s3://Bucket/k",
            "s3://a..b/k",
            "s3://1.2.3.4/k",
            "s3://-ab/k",
            "s3://ab-/k",
        ),
        *(
            "s3://user@bucket/k",
            "s3://bucket:80/k",
            "s3://bucket\n/k",
            "s3://bucket/k\n",
            b"s3://b/k",
        ),
        *("s3://bucket/\0", "s3://bucket/\ud800", "S3://bucket/k", "s3://" + "b" * 64 + "/k"),
        "https://bucket.s3.amazonaws.com/key",
    ],
)
def test_anything_else_is_no_location(location):
    with pytest.raises(smasync.ParamValidationError, match="is not s3://bucket/key"):
        smasync.parse_location(location)


@pytest.mark.parametrize(
    "location", ["https://user:hunter2@b/k", "s3://b/k?X-Amz-Signature=hunter2\n"]
)
def test_a_location_is_quoted_without_what_may_be_secret(location):
    with pytest.raises(smasync.ParamValidationError) as raised:
        smasync.parse_location(location)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("path_style", "url"),
    [
        (False, "https://bucket.s3.us-east-1.amazonaws.com/a%20b/../c%2B"),
        (True, "https://s3.us-east-1.amazonaws.com/bucket/a%20b/../c%2B"),
    ],
)
def test_the_url_of_an_object_has_its_key_encoded_once(path_style, url):
    endpoint = smasync.resolve_endpoint("us-east-1", service="s3")
    assert smasync.s3_url(endpoint, "bucket", "a b/../c+", path_style) == url
