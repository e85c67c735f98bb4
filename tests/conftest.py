"""Makes a plain checkout testable on any machine: imports, hypothesis, and no settings of yours."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

# Tests see neither your ~/.aws nor your variables for AWS and proxies.
os.environ["HOME"] = os.environ["USERPROFILE"] = str(TESTS / "no home")
for name in [*os.environ]:
    if name.startswith("AWS_") or name.lower().endswith("_proxy"):
        del os.environ[name]

set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))  # its own caches
settings.register_profile(
    "checkout",
    deadline=None,
    database=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("checkout")


def pytest_collection_modifyitems(config, items):
    """Leave out the tests marked as cpython elsewhere, so that one command serves each Python."""
    if platform.python_implementation() != "CPython":
        left_out = [item for item in items if item.get_closest_marker("cpython")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
