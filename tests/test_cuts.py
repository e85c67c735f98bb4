"""The cuts: what stands above a part works alone, as a file in an empty directory."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import credential_services as services
import emulator as emu
import pytest

import smasync

SOURCE = (Path(__file__).resolve().parent.parent / "smasync.py").read_text(encoding="utf-8")
CUTS = ["PART II", "PART III", "PART IV"]


@pytest.fixture
def cut(tmp_path):
    """A function that runs Python where cut.py, the file up to a part, is the only file."""

    def run(part, *arguments, **environ):
        text = SOURCE[: SOURCE.index(f"\n# === {part}:")]
        (tmp_path / "cut.py").write_text(text, encoding="utf-8")
        command = [sys.executable, "-B", "-W", "error", *arguments]
        environ = {"PYTHONUTF8": "1", "HOME": str(tmp_path / "none"), **environ}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environ)

    yield run
    assert [path.name for path in tmp_path.iterdir()] == ["cut.py"]


PROTOCOL = """
from cut import *

keys = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
members = {"EndpointName": "my-endpoint", "InputLocation": "s3://bucket/in.json"}
request = serialize(members, resolve_endpoint("us-east-1"))
request = request._replace(headers=request.headers[:1])
signed = sign(request, keys, region="us-east-1", service="sagemaker", timestamp="20150830T123600Z")
print(signed.signature)
output = ("X-Amzn-SageMaker-OutputLocation", "s3://bucket/out.json")
print(deserialize(Response(202, (output,), b"{}"))["OutputLocation"])
"""


def test_part_i_alone_serializes_signs_and_reads_an_answer(cut):
    done = cut("PART II", "-c", PROTOCOL)
    assert (done.returncode, done.stderr) == (0, "")
    golden = "3ab1491bdb15327cc10320e62e4a89c3ed5c40f95e261a01880470d4408ed8e5"
    assert done.stdout.split() == [golden, "s3://bucket/out.json"]


CLIENT = """
from cut import RuntimeClient

with RuntimeClient() as client:
    accepted = client.invoke_endpoint_async(
        EndpointName="my-endpoint", InputLocation="s3://bucket/in.json", timeout=30
    )
print(accepted["OutputLocation"], client.sources["credentials"])
"""
ROLE = f"arn:aws:iam::{services.ACCOUNT_ID}:role/Work"


def test_parts_i_and_ii_alone_make_a_call_with_the_role_of_a_profile(cut, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "config").write_text(
        f"[profile work]\nrole_arn = {ROLE}\nsource_profile = base\nregion = us-east-1\n"
    )
    keys = (emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
    (home / "credentials").write_text(
        f"[base]\naws_access_key_id = {keys[0]}\naws_secret_access_key = {keys[1]}\n"
    )
    with services.CredentialServices() as running:
        done = cut(
            "PART III", "-c", CLIENT, AWS_ENDPOINT_URL=running.url, AWS_PROFILE="work",
            AWS_CONFIG_FILE=str(home / "config"),
            AWS_SHARED_CREDENTIALS_FILE=str(home / "credentials"),
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        (hand_out,), (inference,) = running.hand_outs, running.ledger
        assert (hand_out.role, hand_out.signer) == (ROLE, keys[0])
        assert done.stdout.split() == [inference.output_location, "profile"]
        signed = running.requests[-1].header("authorization")
        assert f"Credential={hand_out.access_key_id}/" in signed


WHOLE_JOB = """
from cut import Client

with Client() as client:
    location = client.put_input(b"[3, 1, 4]", "s3://my-bucket/in.json", ContentType="text/plain")
    accepted = client.invoke_endpoint_async(EndpointName="my-endpoint", InputLocation=location)
    result = client.wait(accepted, timeout=60)
    outcomes = client.invoke_many([{"EndpointName": "my-endpoint", "Body": b"[1]"}] * 3)
    print(result.location, result.body.decode(), len([each for each in outcomes if each.answer]))
"""


def test_parts_i_to_iii_alone_do_the_whole_job(cut):
    with emu.Emulator(model=lambda body, kind: body[::-1]) as running:
        done = cut("PART IV", "-c", WHOLE_JOB, **emu.environment(running))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.split() == [running.ledger[0].output_location, "]4", ",1", ",3[", "3"]
        assert len(running.ledger) == 4


@pytest.mark.parametrize("part", CUTS)
def test_a_cut_passes_its_doctests(cut, part):
    done = cut(part, "-m", "doctest", "-v", "cut.py")
    assert done.returncode == 0, done.stdout[-2000:]
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert int(passed[1]) >= SOURCE[: SOURCE.index(f"\n# === {part}:")].count(">>>") > 20


@pytest.mark.parametrize("part", CUTS)
def test_a_cut_exports_what_it_has(cut, part):
    done = cut(part, "-c", "from cut import *; print(*sorted(vars()))")
    exported = {name for name in done.stdout.split() if not name.startswith("__")}
    tree = ast.parse(SOURCE[: SOURCE.index(f"\n# === {part}:")])
    bound = [getattr(node, "target", None) or node.targets[0] for node in tree.body
             if isinstance(node, (ast.Assign, ast.AugAssign))]  # fmt: skip
    assert sum(ast.unparse(target) == "__all__" for target in bound) == 1 + CUTS.index(part)
    assert exported and exported < set(smasync.__all__)
    last = ["resolve_endpoint", "lambda_handler", "Outcome"][CUTS.index(part)]
    assert exported == set(smasync.__all__[: smasync.__all__.index(last) + 1])
