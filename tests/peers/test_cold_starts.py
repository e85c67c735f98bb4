"""A cold start: from the start of a process to the handler's first answer, beside boto3.

Each start is a fresh process, as when AWS Lambda starts a function. The contestants take turns, so
that whatever else the machine does slows down all of them. The table is printed even though pytest
captures what tests print.
"""

from __future__ import annotations

import json
import py_compile
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from emulator import Emulator, environment

import smasync

ROUNDS = 7
EVENT = {"EndpointName": "my-endpoint", "InputLocation": "s3://my-bucket/in.json"}
HANDLERS = {
    "smasync": "from smasync import lambda_handler as handler",
    "boto3": """
import boto3
sagemaker = boto3.client("sagemaker-runtime")
def handler(event):
    return sagemaker.invoke_endpoint_async(**event)
""",
}
START = """
import json, sys
sys.path[:0] = sys.argv[1:]
{handler}
print(handler(json.load(sys.stdin))["OutputLocation"])
"""


def seconds_to_answer(emulator: Emulator, handler: str, folder: Path) -> float:
    """How long a fresh process takes from its start to its end, right after the answer."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", START.format(handler=HANDLERS[handler]), str(folder)],
        input=json.dumps(EVENT),
        capture_output=True,
        env={**environment(emulator), "AWS_LAMBDA_FUNCTION_NAME": "enqueue"},
        encoding="utf-8",
        timeout=120,
    )
    took = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == emulator.ledger[-1].output_location
    return took


def test_a_cold_start_with_a_pyc_is_quicker_than_boto3_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {name: tmp_path / name for name in ("with", "without")}
    for folder in folders.values():
        folder.mkdir()
        shutil.copy(smasync.__file__, folder / "smasync.py")
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    py_compile.compile(str(folders["with"] / "smasync.py"), invalidation_mode=checked)
    contestants = {
        "smasync with its .pyc": ("smasync", folders["with"]),
        "smasync without": ("smasync", folders["without"]),
        "boto3": ("boto3", folders["without"]),
    }
    took: dict[str, list[float]] = {name: [] for name in contestants}
    with Emulator() as emulator:
        for _ in range(ROUNDS):
            for name, (handler, folder) in contestants.items():
                took[name].append(seconds_to_answer(emulator, handler, folder))
        assert len(emulator.ledger) == ROUNDS * len(contestants)
    medians = {name: statistics.median(seconds) for name, seconds in took.items()}
    first = medians["smasync with its .pyc"]
    with capsys.disabled():
        print(f"\n\n{'process to first answer':<24} {'median':>9} {'ratio':>7}")
        for name, seconds in medians.items():
            print(f"{name:<24} {seconds * 1e3:>6.0f} ms {seconds / first:>7.2f}")
    assert first < medians["boto3"]
