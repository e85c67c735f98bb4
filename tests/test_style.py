"""The file as a text: its border, the taught path, its sections, sizes and names.

Each check reads smasync.py's syntax tree or its lines, or imports it in an interpreter of its own.
"""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import smasync

PATH = Path(__file__).resolve().parent.parent / "smasync.py"
SOURCE = PATH.read_text(encoding="utf-8")
LINES = SOURCE.splitlines()
TREE = ast.parse(SOURCE)
FUNCTIONS = [
    node for node in ast.walk(TREE) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
]
PART_II = "# === PART II"

# The budgets. They do not follow the file.
MAX_LINES, MAX_BYTES = 3600, 166_000
MAX_LINES_ABOVE = {"PART II": 1300, "PART III": 2720}
MAX_FUNCTIONS, MAX_NAMES = 230, 225
MAX_FUNCTION_LINES = 40
LONG_FUNCTION_LINES, MAX_LONG_FUNCTIONS = 30, 10
MAX_NESTING = 3
MAX_COLUMNS, MAX_TABLE_COLUMNS = 99, 110

# --- The border: what Part I may use

PURE_NAMES = {"Lock", "annotations", "lru_cache", "namedtuple"}
PURE_IMPORTS = {
    "hashlib",
    "hmac",
    "difflib",
    "re",
    "json",
    "http.HTTPStatus",
    "urllib.parse.unquote_to_bytes",
    "email.utils.parsedate_tz",
    "email.utils.mktime_tz",
    "urllib.parse.quote",
    "xml.etree.ElementTree.ParseError",
    "xml.etree.ElementTree.fromstring",
}
EFFECTS = set(
    """open input print exec eval compile breakpoint globals locals vars __import__ exit quit os io
    sys time datetime random secrets uuid socket ssl select http urllib subprocess threading signal
    pathlib tempfile shutil glob getpass platform logging importlib asyncio ctypes locale
    """.split()
)


def imports(node):
    """The full names that an import statement brings in."""
    prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return {prefix + alias.name for alias in node.names}


def tables(table):
    yield table
    for child in table.get_children():
        yield from tables(child)


def effects(source):
    """Every name or import in a piece of code through which it could reach the world."""
    import symtable  # CPython's alone

    tree = ast.parse(source)
    statements = [
        node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    at_the_top = [node for node in tree.body if node in statements]
    suspects = EFFECTS.union(
        *(
            {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            for node in at_the_top
        )
    ).difference(PURE_NAMES)
    found = {
        symbol.get_name()
        for table in tables(symtable.symtable(source, "part I", "exec"))
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module")
    }
    under_type_checking = {
        id(node)
        for branch in tree.body
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    inside = [
        node for node in statements
        if node not in at_the_top and id(node) not in under_type_checking
    ]  # fmt: skip
    return (found & suspects).union(*(imports(node) - PURE_IMPORTS for node in inside))


def part_i():
    return SOURCE[: SOURCE.index(f"\n{PART_II}")]


@pytest.mark.cpython
def test_part_i_reaches_no_clock_environment_file_socket_or_chance():
    assert effects(part_i()) == set()


def test_part_i_is_the_protocol_and_nothing_else():
    sections = re.findall(r"^# --- \d+\. (.+?) -+$", part_i(), re.MULTILINE)
    assert sections == [
        "Values", "Signature Version 4", "The operation", "Errors and answers", "Retry decisions",
        "Endpoints",
    ]  # fmt: skip


BAD = {
    "clock": ("import time\ndef f():\n    return time.time()", "time"),
    "clock by name": ("from time import time as now\ndef f():\n    return now()", "now"),
    "date": ("def f():\n    from datetime import datetime\n    return 1", "datetime.datetime"),
    "today": ("from datetime import datetime\nx = datetime.now()", "datetime"),
    "environment": ("import os\ndef f():\n    def g():\n        return os.environ", "os"),
    "environment by name": ("from os import environ\nx = [y for y in environ]", "environ"),
    "file": ("def f(path):\n    return open(path)", "open"),
    "file in a class": ("class C:\n    x = open('a')", "open"),
    "path": ("def f():\n    from pathlib import Path\n    return Path()", "pathlib.Path"),
    "socket": ("def f():\n    import socket", "socket"),
    "HTTP": ("def f():\n    import http.client", "http.client"),
    "URL": ("def f():\n    from urllib import request", "urllib.request"),
    "TLS": ("import ssl\ncontext = lambda: ssl.create_default_context()", "ssl"),
    "chance": ("def f():\n    from random import random\n    return random()", "random.random"),
    "secrets": ("import secrets as s\ndef f():\n    return s.token_hex()", "s"),
    "uuid": ("def f():\n    import uuid\n    return uuid.uuid4()", "uuid"),
    "process": ("if True:\n    import subprocess", "subprocess"),
    "date of mail": ("def f():\n    from email.utils import formatdate", "email.utils.formatdate"),
    "output": ("def f():\n    print(1)", "print"),
    "arguments": ("import sys\nx = sys.argv", "sys"),
    "hidden import": ("def f():\n    return __import__('os')", "__import__"),
}


@pytest.mark.cpython
@pytest.mark.parametrize(("source", "name"), BAD.values(), ids=BAD.keys())
def test_the_border_is_guarded(source, name):
    assert name in effects(source)


@pytest.mark.cpython
@pytest.mark.parametrize(
    "source",
    [
        "import os, time\ndef f(time, random):\n    return time * random",
        "def f():\n    import re\n    return re.escape('a')",
        "def f(open):\n    from urllib.parse import quote\n    return quote(open)",
    ],
)
def test_the_border_lets_through_what_is_pure(source):
    assert effects(source) == set()


# --- The taught path: what a student replaces at a prompt is what signs

REQUEST = smasync.Request("POST", "https://example.com/a b?c=d", (("X-Test", "1"),), b"body")
ZEROS = b"\0" * 32
REPLACED = {
    "canonical_request": lambda *args, **options: "x\ny\nz",
    "canonical_uri": lambda path, **options: "/replaced",
    "canonical_query": lambda query: "replaced=1",
    "canonical_headers": lambda headers: ("host:replaced\n", "host"),
    "uri_encode": lambda text, safe="": "replaced",
    "credential_scope": lambda timestamp, region, service: "20150830/replaced/x/aws4_request",
    "string_to_sign": lambda timestamp, scope, canonical: "replaced",
    "signing_key": lambda secret, scope: ZEROS,
    "sha256_of": lambda body: "replaced",
}
SIGNERS = {"sign": {}, "presign": {"expires": 60}}
secrets = (f"secret-{number}" for number in itertools.count())


def test_every_public_step_is_on_the_taught_path():
    names = smasync.__all__
    steps = names[names.index("canonical_request") : names.index("presign")]
    assert len(steps) == 8
    assert set(REPLACED) >= set(steps)


@pytest.mark.parametrize("known", [True, False], ids=["remembered", "new"])
@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("step", REPLACED)
def test_a_step_that_is_replaced_changes_the_signature(monkeypatch, step, signer, known):
    keys = smasync.Credentials("AKIDEXAMPLE", next(secrets))
    where = {"region": "us-east-1", "service": "x", "timestamp": "20150830T123600Z"}

    def signature():
        return getattr(smasync, signer)(REQUEST, keys, **where, **SIGNERS[signer]).signature

    before = signature()
    if not known:
        smasync.uri_encode.cache_clear()
        smasync.signing_key.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(smasync, step, REPLACED[step])
        assert signature() != before
    assert signature() == before


# --- Sizes


def length(function):
    return function.end_lineno - function.lineno + 1


def test_the_file_stays_within_its_budgets():
    names = [name for name in vars(smasync) if not name.startswith("__")]
    assert len(LINES) <= MAX_LINES
    assert len(SOURCE.encode()) <= MAX_BYTES
    assert len(FUNCTIONS) <= MAX_FUNCTIONS
    assert len(names) <= MAX_NAMES


@pytest.mark.parametrize(("part", "most"), MAX_LINES_ABOVE.items())
def test_a_part_ends_within_its_budget(part, most):
    (number,) = (n for n, line in enumerate(LINES) if line.startswith(f"# === {part}:"))
    assert number <= most


@pytest.mark.parametrize("name", ["sign", "presign"])
def test_a_signer_fits_on_a_screen(name):
    (function,) = (f for f in FUNCTIONS if f.name == name)
    assert length(function) <= MAX_FUNCTION_LINES


def test_no_function_is_long():
    long = [f"{f.name}: {length(f)}" for f in FUNCTIONS if length(f) > MAX_FUNCTION_LINES]
    assert long == []


def test_few_functions_are_even_close_to_it():
    long = [f"{f.name}: {length(f)}" for f in FUNCTIONS if length(f) > LONG_FUNCTION_LINES]
    assert len(long) <= MAX_LONG_FUNCTIONS, long


BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try)


def nesting(node, depth=0):
    """How deep blocks stand in blocks within one function; an elif is no deeper than its if."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        is_elif = (
            isinstance(node, ast.If)
            and node.orelse == [child]
            and isinstance(child, ast.If)
            and child.col_offset == node.col_offset
        )
        deeper = isinstance(child, BLOCKS) and not is_elif
        deepest = max(deepest, nesting(child, depth + deeper))
    return deepest


def test_blocks_are_nested_at_most_three_deep():
    assert {f.name: nesting(f) for f in FUNCTIONS if nesting(f) > MAX_NESTING} == {}


def test_nesting_is_counted_right():
    source = "def f():\n for a in b:\n  if a:\n   pass\n  elif b:\n   while c:\n    pass\n"
    assert nesting(ast.parse(source).body[0]) == 3


def test_lines_are_short():
    table, wide = False, []
    for number, line in enumerate(LINES, 1):
        table = line.strip() == "# fmt: off" or (table and line.strip() != "# fmt: on")
        if len(line) > (MAX_TABLE_COLUMNS if table else MAX_COLUMNS):
            wide.append(number)
    assert wide == []


# --- Sections


def test_sections_are_numbered_and_listed_in_the_docstring():
    marks = [line for line in LINES if re.match("# --- ", line)]
    assert [mark for mark in marks if len(mark) != 79] == []
    found = [re.fullmatch(r"# --- (\d+)\. (.+?) -+", mark).groups() for mark in marks]
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    listed = re.findall(r"^ +(\d+)\. (.+)$", smasync.__doc__, re.MULTILINE)
    assert listed == found


def test_each_section_has_its_file_of_tests():
    """tests/README.md lists them; each says at its top which section it is about."""
    table = (PATH.parent / "tests" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+)\. (.+?) \| `(.+?)` \|", table, re.MULTILINE)
    found = [re.fullmatch(r"# --- (\d+)\. (.+?) -+", line) for line in LINES]
    assert [row[:2] for row in rows] == [section.groups() for section in found if section]
    for number, title, name in rows:
        assert name == f"test_{title.lower().replace(' ', '_')}.py"
        text = (PATH.parent / "tests" / name).read_text(encoding="utf-8")
        assert text.startswith(f'"""Section {number}, {title}: ')


def test_parts_are_listed_in_the_docstring():
    marks = [re.fullmatch(r"# === (PART .+?) =+", line) for line in LINES]
    parts = [mark[1] for mark in marks if mark]
    assert parts == re.findall(r"^ +(PART .+)$", smasync.__doc__, re.MULTILINE)
    assert [part.partition(":")[0] for part in parts] == [
        f"PART {n}" for n in ("I", "II", "III", "IV")
    ]
    assert {len(mark[0]) for mark in marks if mark} == {79}


def test_a_section_opens_with_its_idea_in_at_most_eight_lines():
    for number, line in enumerate(LINES):
        if line.startswith("# --- "):
            idea = 0
            while LINES[number + 1 + idea].startswith("# "):
                idea += 1
            assert 1 <= idea <= 8, line


# --- Names, docstrings, annotations


def public(nodes):
    """(qualified name, node) of the functions, the classes, and what the exported ones have."""
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef) and node.name in smasync.__all__:
                yield from ((f"{node.name}.{name}", part) for name, part in public(node.body))


def test_everything_public_has_a_docstring():
    assert [name for name, node in public(TREE.body) if not ast.get_docstring(node)] == []


def unannotated(function):
    """The parameters without an annotation, and "return"."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    missing = [arg.arg for arg in named if arg and not arg.annotation]
    missing = [name for name in missing if name not in ("self", "cls")]
    return missing + ["return"] * (function.returns is None)


def test_every_function_is_annotated():
    assert {f.name: unannotated(f) for f in FUNCTIONS if unannotated(f)} == {}


def defined():
    """The line at which each name is bound at the top of the module."""
    lines = {}
    for node in TREE.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        for name in [*names, getattr(node, "name", "")]:
            lines.setdefault(name, node.lineno)
    return lines


def test_all_names_exist_and_stand_in_the_order_of_the_file():
    assert [name for name in smasync.__all__ if not hasattr(smasync, name)] == []
    assert len(set(smasync.__all__)) == len(smasync.__all__)
    assert sorted(smasync.__all__, key=defined().__getitem__) == list(smasync.__all__)


@pytest.mark.parametrize("effect", ["os.environ", "time.time"])
def test_an_effect_is_named_once(effect):
    module, _, attribute = effect.partition(".")
    uses = [
        node.lineno
        for node in ast.walk(TREE)
        if isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.value, ast.Name)
        and node.value.id == module
    ]
    assert len(uses) <= 1
    assert not re.search(rf"from {module} import .*\b{attribute}\b", SOURCE)


def test_nothing_is_left_to_do():
    assert re.findall(r"\b(TODO|FIXME|XXX|HACK)\b", SOURCE) == []


def test_no_check_is_an_assert():
    assert [node.lineno for node in ast.walk(TREE) if isinstance(node, ast.Assert)] == []


# --- Importing

SLOW = """urllib.request http.client ssl email argparse dataclasses logging subprocess asyncio
json re typing hashlib hmac _hashlib configparser shlex uuid random""".split()


def python(*arguments):
    """The standard error of a bare interpreter: no site hooks, no environment, nothing written."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", *arguments], capture_output=True, text=True, check=True
    )
    return done.stderr


@pytest.mark.cpython
@pytest.mark.parametrize(
    "more", ["", 'smasync.Client("us-east-1", environ={"HOME": "/no home"})'], ids=["", "client"]
)
def test_to_import_and_to_make_a_client_loads_nothing_slow(more):
    code = f"import sys; sys.path.insert(0, {str(PATH.parent)!r}); import smasync; {more}"
    loaded = re.findall(r"\| +(\S+)$", python("-X", "importtime", "-c", code), re.MULTILINE)
    assert "smasync" in loaded
    assert {"os", "encodings"} <= set(loaded)
    assert sorted(set(SLOW) & set(loaded)) == []


WATCH = """
import sys
def watch(event, args):
    if event.partition(".")[0] in {families}:
        print(event, args[0] if args else "", file=sys.stderr)
sys.path.insert(0, {root!r})
sys.addaudithook(watch)
{statement}
"""
FAMILIES = "open socket subprocess os tempfile shutil glob urllib http ftplib ctypes".split()


def is_loading(line):
    """Whether an event is the import system's: looking into directories, reading a module."""
    event, _, argument = line.partition(" ")
    path, library = Path(argument).resolve(), Path(ast.__file__).resolve().parent
    module = library in path.parents or path.name.partition(".")[0] == PATH.stem
    return event == "os.listdir" or (event == "open" and module)


def events(statement):
    """What an audit hook hears of a statement, besides the loading of modules."""
    code = WATCH.format(root=str(PATH.parent), families=FAMILIES, statement=statement)
    return [line for line in python("-c", code).splitlines() if not is_loading(line)]


def test_importing_opens_and_connects_nothing():
    assert events("import smasync") == []


@pytest.mark.parametrize(
    ("statement", "event"),
    [
        ("import os; open(os.devnull)", "open "),
        ("import socket; socket.socket()", "socket.__new__"),
        ("import subprocess, sys; subprocess.run([sys.executable, '-c', ''])", "subprocess.Popen"),
        pytest.param("import os; os.system('')", "os.system", marks=pytest.mark.cpython),
    ],
)
def test_the_hook_hears_what_it_listens_for(statement, event):
    assert any(line.startswith(event) for line in events(statement))
