"""botocore's endpoint rule sets as an oracle: every region it knows, each service, both switches."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import botocore.session
import pytest
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from oracles import boto3_client

import smasync

SERVICES = ("sagemaker-runtime", "s3", "sts", "sso")
SWITCHES = tuple(itertools.product([False, True], repeat=2))
LOADER = botocore.session.Session().get_component("data_loader")
PARTITIONS = LOADER.load_data("partitions")
REGIONS = [region for row in PARTITIONS["partitions"] for region in row["regions"]]

# "aws-global" is no region: it is how botocore spells the hosts that S3 and STS had before they
# had regions. Nobody can have an endpoint there, and smasync takes it for one more region.
GLOBAL_HOSTS = {
    # service, (FIPS, dual-stack): botocore's host
    ("s3", (False, False)): "s3.amazonaws.com",
    ("s3", (False, True)): "s3.dualstack.us-east-1.amazonaws.com",
    ("s3", (True, False)): "s3-fips.us-east-1.amazonaws.com",
    ("s3", (True, True)): "s3-fips.dualstack.us-east-1.amazonaws.com",
    ("sts", (False, False)): "sts.amazonaws.com",
}


@functools.cache
def rules(service: str) -> Any:
    return EndpointProvider(LOADER.load_service_model(service, "endpoint-rule-set-1"), PARTITIONS)


def theirs(service: str, region: str | None, fips: bool, dual: bool, **more: Any) -> str | None:
    """The URL by the rule set, of S3 without a bucket; None where it is an error."""
    switches = {"UseFIPS": fips, "UseDualStack": dual}
    try:
        return str(rules(service).resolve_endpoint(Region=region, **switches, **more).url)
    except EndpointProviderError:
        return None


def ours(service: str, region: str | None, fips: bool, dual: bool, **more: Any) -> str | None:
    options = {"use_fips": fips, "use_dualstack": dual, **more}
    try:
        return smasync.resolve_endpoint(region, service=service, **options)
    except smasync.ConfigurationError:
        return None


def test_there_are_regions_in_every_partition() -> None:
    assert {row["id"] for row in PARTITIONS["partitions"]} == {
        row[0] for row in smasync.PARTITIONS
    }
    assert len(REGIONS) > 50 and {"us-east-1", "cn-north-1", "aws-global"} <= set(REGIONS)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("region", REGIONS)
def test_each_region_has_the_endpoints_of_the_rule_set(service: str, region: str) -> None:
    for switches in SWITCHES:
        expected = theirs(service, region, *switches)
        if region == "aws-global" and (service, switches) in GLOBAL_HOSTS:
            assert expected == f"https://{GLOBAL_HOSTS[service, switches]}"
            expected = ours(service, "us-east-9", *switches).replace("us-east-9", "aws-global")
        assert ours(service, region, *switches) == expected


def test_the_regions_of_endpoints_json_are_no_others() -> None:
    session = botocore.session.Session()
    found = {
        region
        for partition in session.get_available_partitions()
        for service in SERVICES
        for region in session.get_available_regions(service, partition)
    }
    assert len(found) > 30 and found <= set(REGIONS)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "region",
    "us-west-99 xx-central-1 cn-west-9 us-gov-south-9 us-isob-west-9 eusc-de-west-9".split(),
)
def test_a_region_that_is_not_known_yet_is_guessed_alike(service: str, region: str) -> None:
    for switches in SWITCHES:
        assert ours(service, region, *switches) == theirs(service, region, *switches)


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("service", ["sagemaker-runtime", "sts", "sso"])
def test_an_endpoint_url_excludes_the_switches_alike(
    service: str, switches: tuple[bool, bool]
) -> None:
    url = "http://localhost:8080"
    given = ours(service, "us-east-1", *switches, endpoint_url=url)
    assert given == theirs(service, "us-east-1", *switches, Endpoint=url)
    assert (given == url) != any(switches)


@pytest.mark.parametrize("service", SERVICES)
def test_without_a_region_there_is_no_endpoint(service: str) -> None:
    assert theirs(service, None, False, False) is None
    assert ours(service, None, False, False) is None


def test_boto3_itself_still_has_the_global_host_of_s3_in_us_east_1() -> None:
    # A default of its configuration, not of the rule set; the regional host serves the same.
    assert (
        boto3_client("s3", region_name="us-east-1").meta.endpoint_url == "https://s3.amazonaws.com"
    )
    assert ours("s3", "us-east-1", False, False) == "https://s3.us-east-1.amazonaws.com"
