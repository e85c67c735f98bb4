"""The packages: a wheel and an sdist have what belongs in them and nothing else, and work.

flit_core builds both in a copy of the checkout, as pip would, and pip installs the wheel. Beside
them, what README says of boto3's packages is measured.
"""

from __future__ import annotations

import email
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest

import smasync

ROOT = Path(smasync.__file__).resolve().parent
NAME = f"smasync-{smasync.__version__}"
INFO = f"{NAME}.dist-info"
SIGNATURE = "2af7c0c9556151283d407ec3477d2d307ef5a09aa0a188213f5aa2f88058fdc2"
MEMBERS = "--endpoint-name my-endpoint --input-location s3://my-bucket/in.json".split()
EXAMPLE = ["explain", "--example", *MEMBERS, "--content-type", "application/json"]
BUILD = "import sys, flit_core.buildapi as api; print(api.build_{}(sys.argv[1]))"


def printed(*command: object, cwd: Path) -> str:
    """What a command prints that ends well; it sees no settings of pip's and of Python's."""
    hidden = ("PIP_", "PYTHON")
    environ = {name: text for name, text in os.environ.items() if not name.startswith(hidden)}
    environ["HOME"] = str(cwd)  # pip runs other programs, some of which write there
    done = subprocess.run(
        [*map(str, command)], capture_output=True, cwd=cwd, env=environ, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Packages(NamedTuple):
    """The paths of both."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    folder = tmp_path_factory.mktemp("packages")
    ignore = shutil.ignore_patterns(".git", ".venv", ".peers", "*cache*")
    shutil.copytree(ROOT, folder / "checkout", ignore=ignore)
    assert (folder / "checkout" / "tests").is_dir()  # a builder could take them
    names = [
        printed(sys.executable, "-c", BUILD.format(kind), folder, cwd=folder / "checkout")
        for kind in ("wheel", "sdist")
    ]
    return Packages(*(folder / name.strip() for name in names))


@pytest.fixture(scope="module")
def metadata(packages: Packages) -> Message:
    with zipfile.ZipFile(packages.wheel) as wheel:
        return email.message_from_string(wheel.read(f"{INFO}/METADATA").decode())


def test_the_wheel_has_the_module_its_licence_and_what_a_wheel_needs(packages: Packages) -> None:
    needed = "METADATA RECORD WHEEL entry_points.txt licenses/LICENSE".split()
    with zipfile.ZipFile(packages.wheel) as wheel:
        assert sorted(wheel.namelist()) == sorted(
            ["smasync.py", *(f"{INFO}/{name}" for name in needed)]
        )
        assert wheel.read("smasync.py") == Path(smasync.__file__).read_bytes()
        assert wheel.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert packages.wheel.name == f"{NAME}-py3-none-any.whl"


def test_the_sdist_has_the_module_and_what_builds_it_and_no_tests(packages: Packages) -> None:
    with tarfile.open(packages.sdist) as sdist:
        files = [member.name for member in sdist.getmembers() if not member.isdir()]
    names = "LICENSE PKG-INFO README.md pyproject.toml smasync.py".split()
    assert sorted(files) == [f"{NAME}/{name}" for name in names]
    assert packages.sdist.name == f"{NAME}.tar.gz"


def test_the_metadata_is_the_module_s(metadata: Message) -> None:
    assert metadata["Version"] == smasync.__version__
    assert metadata["Requires-Dist"] is None
    assert metadata["License-Expression"] == "MIT"
    assert str(metadata.get_payload()).strip() == (ROOT / "README.md").read_text("utf-8").strip()


def test_the_metadata_names_each_python_from_the_oldest_on(metadata: Message) -> None:
    found = re.findall(r"Python :: 3\.(\d+)$", "\n".join(metadata.get_all("Classifier", [])), re.M)
    minors = [int(minor) for minor in found]
    assert metadata["Requires-Python"] == f">=3.{minors[0]}"
    assert minors == list(range(minors[0], minors[-1] + 1)) and minors[0] < minors[-1]


def test_the_wheel_installs_a_command_that_works(packages: Packages, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    printed(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    programs = venv / ("Scripts" if os.name == "nt" else "bin")
    install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", packages.wheel]
    printed(programs / "python", *install, cwd=tmp_path)
    version = printed(programs / "smasync", "--version", cwd=tmp_path)
    assert version.strip() == f"smasync {smasync.__version__}"
    assert SIGNATURE in printed(programs / "smasync", *EXAMPLE, cwd=tmp_path)


def distributions_of(name: str) -> dict[str, importlib.metadata.Distribution]:
    """A package and all that it needs, by name."""
    found = {name: importlib.metadata.distribution(name)}
    for requirement in found[name].requires or []:
        if "extra ==" not in requirement:
            found.update(distributions_of(re.split("[^A-Za-z0-9._-]", requirement)[0]))
    return found


def test_boto3_is_as_large_as_readme_says() -> None:
    found = distributions_of("boto3")
    paths = [
        Path(str(distribution.locate_file(file)))
        for distribution in found.values()
        for file in distribution.files or []
        if file.suffix != ".pyc"
    ]
    size = sum(path.stat().st_size for path in paths if path.exists())
    lines = sum(path.read_bytes().count(b"\n") for path in paths if path.suffix == ".py")
    text = (ROOT / "README.md").read_text("utf-8")
    said = re.search(r"\| (\d+) packages of more than (\d+) MB \|", text)
    reviewed = re.search(r"\| more than ([\d,]+) lines \|", text)
    assert said and reviewed
    assert len(found) == int(said[1]) and size > int(said[2]) * 1_000_000
    assert lines > int(reviewed[1].replace(",", ""))
