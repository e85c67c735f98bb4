"""A copy of the file works wherever it is put: zips, read-only folders, other names, odd interpreters.

Each case runs a copy in an interpreter of its own, with a bare environment, and compares what it
prints with the signature that the file has on every machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from emulator import Emulator, environment

import smasync

MODULE = Path(smasync.__file__).resolve()
SIGNATURE = "2af7c0c9556151283d407ec3477d2d307ef5a09aa0a188213f5aa2f88058fdc2"
MEMBERS = ["--endpoint-name", "my-endpoint", "--input-location", "s3://my-bucket/in.json"]
EXAMPLE = ["explain", "--example", *MEMBERS, "--content-type", "application/json"]
BARE = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
MAIN = "import sys; sys.path.insert(0, sys.argv.pop(1)); import smasync; sys.exit(smasync.main())"


def printed(*command, cwd=None, **environ):
    """What a command prints that ends well and complains of nothing."""
    environ = {**BARE, **environ}
    done = subprocess.run(command, capture_output=True, cwd=cwd, env=environ, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


@pytest.fixture
def copy(tmp_path):
    """A copy of the file, alone in a folder."""
    (tmp_path / "place").mkdir()
    return Path(shutil.copy(MODULE, tmp_path / "place"))


@pytest.mark.parametrize(
    "flags", [["-W", "error"], ["-O"], ["-OO"], ["-I", "-S"], ["-X", "dev"], ["-bb"]], ids=" ".join
)
def test_it_runs_under_any_flag_of_the_interpreter(copy, flags):
    assert SIGNATURE in printed(sys.executable, *flags, copy, *EXAMPLE)


ASCII_ALONE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, ASCII_ALONE, {"PYTHONIOENCODING": "latin-1"}])
def test_it_runs_in_a_locale_that_is_not_utf_8(copy, locale):
    assert SIGNATURE in printed(sys.executable, copy, *EXAMPLE, **locale)


def test_what_a_terminal_cannot_show_is_escaped(copy):
    key = ["explain", "--example", *MEMBERS[:-1], "s3://my-bucket/é.json"]
    environ = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "ascii"}
    assert r"s3://my-bucket/\xe9.json" in printed(sys.executable, copy, *key, **environ)


def test_it_runs_from_a_zip(copy, tmp_path):
    archive = tmp_path / "layer.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(copy, "smasync.py")
    command = [sys.executable, "-I", "-S", "-c", MAIN, str(archive), *EXAMPLE]
    assert SIGNATURE in printed(*command, cwd=tmp_path)


def test_it_runs_where_nothing_can_be_written_and_without_a_home(copy):
    """Root may write to any folder; so a file stands where Python would make __pycache__."""
    (copy.parent / "__pycache__").touch()
    copy.parent.chmod(0o555)
    command = [sys.executable, "-c", MAIN, str(copy.parent), *EXAMPLE]
    try:
        assert SIGNATURE in printed(*command, cwd=copy.parent, HOME=str(copy.parent / "none"))
        names = sorted(path.name for path in copy.parent.iterdir())
        assert names == ["__pycache__", "smasync.py"]
    finally:
        copy.parent.chmod(0o755)


def test_a_renamed_copy_works_as_a_module_a_client_and_a_command(copy):
    (copy.parent / "vendor").mkdir()
    vendored = copy.rename(copy.parent / "vendor" / "_sm.py")
    assert SIGNATURE in printed(sys.executable, vendored, *EXAMPLE)
    assert SIGNATURE in printed(sys.executable, "-m", "vendor._sm", *EXAMPLE, cwd=copy.parent)
    program = """
from vendor import _sm
with _sm.Client("us-east-1") as client:
    accepted = client.invoke_endpoint_async(EndpointName="my-endpoint", Body=b"[1, 2]")
    print(client.wait(accepted).body.decode(), _sm.Client.__module__)
    try:
        client.poll({})
    except client.exceptions.ParamValidationError as error:
        print(type(error).__module__)
"""
    with Emulator() as emulator:
        given = {**environment(emulator), "PYTHONPATH": str(copy.parent)}
        shown = printed(sys.executable, "-W", "error", "-c", program, **given)
        assert '"count": 2' in shown and shown.split()[-2:] == ["vendor._sm", "vendor._sm"]
        agent = emulator.requests[0].header("user-agent")
    assert agent.startswith(f"smasync/{smasync.__version__} ")
