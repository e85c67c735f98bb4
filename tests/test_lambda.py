"""AWS Lambda: the zips that README builds, run as Lambda runs them.

README's commands build a function and a layer. Each is unpacked into a folder that cannot be written
to, and its handler runs in a bare interpreter, with the variables that Lambda sets and no HOME. The
emulator is SageMaker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest
from emulator import Account, Emulator, environment
from test_readme import BLOCKS, FILES, Checkout, commands_of, flags_of

EVENT = json.loads(FILES["event.json"])
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
TOKEN = "FwoGZXIvYXdzEXAMPLE//+="
REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
# What Lambda's own program does: it finds the handler, and calls it with the event and a context.
# It also notes each file that Python compiles because there is no .pyc that fits.
RUNTIME = """
import importlib, importlib.machinery, json, sys

folders, handler, event, request_id = json.load(sys.stdin)
loader, compiled = importlib.machinery.SourceFileLoader, []
compile_source = loader.source_to_code
def source_to_code(self, data, path, **options):
    compiled.append(path)
    return compile_source(self, data, path, **options)
loader.source_to_code = source_to_code

class Context:
    aws_request_id = request_id
    def get_remaining_time_in_millis(self):
        return 60_000

sys.path[:0] = folders
module, name = handler.split(".")
answer = getattr(importlib.import_module(module), name)(event, Context())
print(json.dumps({"answer": answer, "compiled": compiled, "from": sys.modules["smasync"].__file__}))
"""


def variables(emulator):
    """A function's environment, as Lambda sets it."""
    key_id, account = next(iter(emulator.accounts.items()))
    return {
        **environment(emulator),
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": account.secret_access_key,
        "AWS_SESSION_TOKEN": account.session_token,
        "AWS_LAMBDA_FUNCTION_NAME": "enqueue",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "_X_AMZN_TRACE_ID": TRACE,
    }


def invoked(emulator, handler, event, *folders):
    """What the handler answered, which files Python compiled for it, and where smasync was."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", RUNTIME],
        input=json.dumps([[str(folder) for folder in folders], handler, event, REQUEST_ID]),
        capture_output=True,
        cwd="/",
        env=variables(emulator),
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    shown = json.loads(done.stdout)
    own = [path for path in shown["compiled"] if path.startswith(tuple(map(str, folders)))]
    return shown["answer"], own, shown["from"]


def contents(folder):
    """Every file and folder within, with its time and its bytes."""
    paths = sorted(folder.rglob("*"))
    return [(p, p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in paths]


def make_read_only(folder):
    """Makes it read-only. Root can still write there, so the tests compare the contents too."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.fixture
def emulator():
    account = Account("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", TOKEN)
    with Emulator(accounts={"ASIAEXAMPLE": account}) as running:
        yield running


@pytest.fixture
def unpacked(emulator, tmp_path):
    """Builds a zip by README's commands; returns the folder that it is unpacked into.

    A test may make the folder read-only; at the end it is made writable again.
    """
    (tmp_path / "checkout").mkdir()
    checkout = Checkout(tmp_path / "checkout", emulator)
    checkout.run("-c", "import smasync")  # leaves a .pyc that goes by the time of the file
    folder = tmp_path / "unpacked"

    def build(name):
        building = f"-m zipfile -c {name} "
        (block,) = (block for block in BLOCKS if block.runs and building in block.text)
        for words in commands_of(block.text):
            checkout.run_command(words)
        with zipfile.ZipFile(checkout.path / name) as archive:
            archive.extractall(folder)
        for path in folder.rglob("smasync.py"):
            os.utime(path, (1e9, 1e9))  # a zip does not keep the exact time of a file
        return folder

    yield build
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def as_built(folder, pyc):
    pass


def without_pyc(folder, pyc):
    pyc.unlink()


def of_another_version(folder, pyc):
    pyc.rename(pyc.with_name("smasync.cpython-38.pyc"))


def in_another_version_s_format(folder, pyc):
    pyc.write_bytes(b"\0\0\r\n" + pyc.read_bytes()[4:])


def of_a_changed_file(folder, pyc):
    with (folder / "smasync.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")


@pytest.mark.parametrize(
    "change, compiles",
    [
        (as_built, False),
        (without_pyc, True),
        (of_another_version, True),
        (in_another_version_s_format, True),
        (of_a_changed_file, True),
    ],
)
def test_the_function_runs_and_is_compiled_only_without_its_own_pyc(
    unpacked, emulator, change, compiles
):
    task = unpacked("function.zip")
    (pyc,) = (task / "__pycache__").iterdir()
    assert {path.name for path in task.iterdir()} == {"smasync.py", "__pycache__"}
    change(task, pyc)
    make_read_only(task)
    before = contents(task)
    answer, compiled, place = invoked(
        emulator, flags_of("create-function")["--handler"], EVENT, task
    )
    assert answer["OutputLocation"] == emulator.ledger[-1].output_location
    assert compiled == ([place] if compiles else []) and place == str(task / "smasync.py")
    assert contents(task) == before
    (request,) = emulator.requests
    assert json.loads(request.body) == EVENT["Body"]
    assert request.header("x-amzn-trace-id") == TRACE
    assert request.header("x-amz-security-token") == TOKEN


def test_a_handler_of_your_own_finds_smasync_in_the_layer(unpacked, emulator, tmp_path):
    layer, task = unpacked("layer.zip"), tmp_path / "task"
    assert {path.name for path in layer.iterdir()} == {"python"}
    task.mkdir()
    (task / "summary.py").write_text(FILES["summary.py"], encoding="utf-8")
    make_read_only(layer)
    before = contents(layer)
    event = {"values": [2, 7]}
    answer, compiled, place = invoked(emulator, "summary.handler", event, task, layer / "python")
    assert answer["OutputLocation"] == emulator.ledger[-1].output_location
    assert answer["InferenceId"] == REQUEST_ID
    assert place == str(layer / "python" / "smasync.py")
    assert compiled == [str(task / "summary.py")]  # and not smasync
    assert contents(layer) == before and json.loads(emulator.requests[0].body) == event


def test_the_commands_for_aws_name_what_was_built():
    function, layer = flags_of("create-function"), flags_of("publish-layer-version")
    assert function["--zip-file"] == flags_of("update-function-code")["--zip-file"]
    for flags, name in ((function, "function.zip"), (layer, "layer.zip")):
        assert flags["--zip-file"] == f"fileb://{name}"
    assert function["--runtime"] == layer["--compatible-runtimes"]
