"""README's chapter for the security reviewer says what happens: no less, and no more.

A process runs every command and every way to credentials, against services on the loopback interface.
An audit hook hears its files, connections and processes; its os.environ notes who asks for what. Each
file there has the name that README's table has for it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import logging
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import credential_services as cs
import emulator as emu
import pytest
from audited import BY_OPENSSL, FULL, KEYS, PATIENCE, child, furnish, steps_of
from leaks import has_trace
from raw_server import wait_until

import smasync

ROOT = Path(__file__).resolve().parent.parent
SOURCE = (ROOT / "smasync.py").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHAPTER = re.search(r"(?ms)^## For the security reviewer\n(.*?)(?=^## |\Z)", README)[1]
IS_PYPY = sys.implementation.name == "pypy"  # its hooks hear less, its standard library does more
OF_PYPY = {("/dev/urandom", "read"), "PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}


def are(found, listed):
    """Whether what was found is what is listed."""
    return found - OF_PYPY <= listed if IS_PYPY else found == listed


def table(header, column=1):
    """(name, text of another cell) for each `name` in the first cells of a table of the chapter."""
    lines = re.search(rf"(?m)^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", CHAPTER)[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(name, row[column]) for row in rows for name in re.findall("`(.+?)`", row[0])}


def names_in(header):
    return {name for name, _ in table(header)}


# --- What a process does


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    home = tmp_path_factory.mktemp("home").resolve()
    with cs.CredentialServices() as plain, cs.CredentialServices(tls=True) as tls:
        furnish(home, plain.url)
        plain.container_authorization = "authorization"
        steps = steps_of(home, plain, tls)
        statuses, heard, threads = child(home, *steps.values())
    return SimpleNamespace(
        home=home, statuses=dict(zip(steps, statuses)), heard=heard, threads=threads, plain=plain,
        ports={str(urlsplit(server.url).port) for server in (plain, tls)},
    )  # fmt: skip


def of(heard, event):
    return [args for name, *args in heard if name == event]


def test_each_step_went_as_it_should(audit):
    failed = dict.fromkeys(("lost", "container without a token", "names of files alone"), 253)
    failed.update({"the model fails": 3, "still running": 4, "no authority": 255})
    assert audit.statuses == {name: failed.get(name, 0) for name in audit.statuses}


OPENED = {"r": "read", "x": "created", "a+": "read, appended", "None": "read, written"}
OPENED["ab"] = "appended"
CHANGED = {"os.chmod": "mode set", "os.rename": "renamed", "os.remove": "removed"}


def file_events(audit):
    """(path, what was done to it) of each file that is neither Python's own nor the module."""
    library = Path(ast.__file__).resolve().parent
    for path, mode, _ in of(audit.heard, "open"):
        if library not in Path(path).resolve().parents and not is_module(path):
            yield from ((path, verb) for verb in OPENED[mode].split(", ") if not path.isdigit())
    for event, verb in CHANGED.items():
        yield from ((args[0], verb) for args in of(audit.heard, event))
    yield from ((args[1], "replaced") for args in of(audit.heard, "os.rename"))


def is_module(path):
    return Path(path).name.startswith("smasync.")


def name_of(path, home):
    text = path.replace(f"{home}/.aws/", "~/.aws/").replace(f"{home}/", "").replace("$NAME", "")
    return re.sub("[0-9a-f]{16,}", "…", text)


def test_files_are_those_of_the_table(audit):
    rows = {(name, verb) for name, verbs in table("file") for verb in verbs.split(", ")}
    by_openssl = {(name, verb) for name, verb in rows if verb == "read by OpenSSL"}
    assert {name for name, _ in by_openssl} == BY_OPENSSL | {
        "OPENSSL_CONF",
        "verify",
        "--ca-bundle",
    }
    found = {(name_of(path, audit.home), verb) for path, verb in file_events(audit)}
    assert are(found, rows - by_openssl)


def test_openssl_reads_its_configuration_when_a_request_is_signed(tmp_path):
    fifo = tmp_path / "OPENSSL_CONF"
    os.mkfifo(fifo)
    command = [sys.executable, str(ROOT / "smasync.py"), "explain", "--example", "--body", "WzFd"]
    command += ["--endpoint-name", "e"]
    environ = {**os.environ, "OPENSSL_CONF": str(fifo)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as running:
        wait_until(lambda: is_read(fifo), PATIENCE)
        assert running.wait(PATIENCE) == 0


def is_read(fifo):
    with contextlib.suppress(OSError):  # which says that nobody does
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return True
    return False


def test_nothing_else_is_done_to_files_connections_and_processes(audit):
    known = {"open", *CHANGED, "fcntl.flock", "subprocess.Popen", "os.posix_spawn"}
    known |= {"socket.__new__", "socket.getaddrinfo", "socket.connect"}
    of_imports = {"os.listdir", "os.scandir"}
    assert {event for event, *_ in audit.heard} - of_imports - {"variable"} <= known


def test_the_only_process_is_the_profile_s_and_has_no_shell(audit):
    started = of(audit.heard, "subprocess.Popen")
    (program, argv, _, environ), lost = (s for s in started if not (IS_PYPY and s[0] == "uname"))
    assert program == f"{audit.home}/program" and lost[0] == "no-such-program"
    assert ast.literal_eval(argv) == [program, "a b", "$HOME;c"] and "AWS_REGION" in environ


def test_connections_go_to_the_configured_endpoints_and_the_proxy_alone(audit):
    asked = {(host, port) for host, port, *_ in of(audit.heard, "socket.getaddrinfo")}
    assert {host for host, _ in asked} == {"127.0.0.1", "localhost"}
    assert {port for _, port in asked} == audit.ports
    addresses = [ast.literal_eval(args[1]) for args in of(audit.heard, "socket.connect")]
    assert {str(address[1]) for address in addresses} == audit.ports
    assert [r for r in audit.plain.requests if r.target.startswith("http://elsewhere.example/")]


CGI, PROXIES = "REQUEST_METHOD", {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
SINCE_3_14 = {"PYTHON_COLORS", "NO_COLOR", "FORCE_COLOR", "TERM"}
FROM_A_COPY = {"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"}
BY_C = {"SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF"}


def test_variables_are_those_of_the_table(audit):
    """Each of them was asked for while it was not there, but those found in another way."""
    asked = {name for (name,) in of(audit.heard, "variable")}
    expected = names_in("variable") - PROXIES - FROM_A_COPY - BY_C
    assert are(asked, expected - (SINCE_3_14 if sys.version_info < (3, 14) else set()))
    sessions = [made.parameters.get("RoleSessionName") for made in audit.plain.hand_outs]
    assert "my-session" in sessions
    found = smasync.proxies(dict.fromkeys(names_in("variable") - {CGI}, "x"))
    assert set(found) == {"https", "http", "no"}


def test_the_variables_that_are_found_in_another_way_are_in_the_table():
    homes = {"HOME", "USERPROFILE"}
    listed = table("variable", 2)
    for place, names in {
        "environ": homes | PROXIES | FROM_A_COPY,
        "process": homes | {"NO_PROXY", CGI, "SSLKEYLOGFILE"} | BY_C | SINCE_3_14,
    }.items():
        assert names <= {name for name, where in listed if where == place}


OWN = {"HOME": "/no home", "AWS_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1", **KEYS}
HTTP, TLS = ({"AWS_ENDPOINT_URL": f"{scheme}://127.0.0.2:9"} for scheme in ("http", "https"))
PROXIED = {**HTTP, "HTTP_PROXY": "http://127.0.0.1:9"}
PROCESS = {"HOME": "/no home", "NO_PROXY": "", "AWS_PROFILE": "nobody", "AWS_REGION": "x"}
OF_THE_PROCESS = {
    # what: environ=, the process's NO_PROXY, what is read of the process's, where it connects
    "nothing": (HTTP, "*", set(), "127.0.0.2"),
    "a home": ({**HTTP, "HOME": ""}, "*", {"HOME"}, "127.0.0.2"),
    "proxies": (PROXIED, "", {"NO_PROXY", CGI}, "127.0.0.1"),
    "a host without a proxy": (PROXIED, "127.0.0.2", {"NO_PROXY", CGI}, "127.0.0.2"),
    "keys of TLS": (TLS, "*", {"SSLKEYLOGFILE"}, "127.0.0.2"),
}


@pytest.mark.parametrize("what", OF_THE_PROCESS)
def test_a_client_with_its_own_environ_reads_what_the_table_says(tmp_path, what):
    own, no_proxy, names, host = OF_THE_PROCESS[what]
    _, heard, _ = child(tmp_path, [{**PROCESS, "NO_PROXY": no_proxy}, [], {**OWN, **own}])
    others = set(PROCESS) - names if CGI in names else set()  # which urllib passes, before 3.13
    assert are({name for (name,) in of(heard, "variable")} - others, names)
    assert {args[0] for args in of(heard, "socket.getaddrinfo")} == {host}
    assert names <= {name for name, place in table("variable", 2) if place == "process"}


# --- What a client does, heard at its seams

BODY = b"hush: the input 1 2 3"
PRESIGNED = "https://bucket.example/in.json?X-Amz-Signature=0123456789abcdef0123456789abcdef"
LONG_TERM = smasync.Credentials(*KEYS.values())
PLACES = (
    # variables that lead to credentials, in a real region
    {"AWS_PROFILE": "role"},
    {"AWS_PROFILE": "sso"},
    {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"},
    {FULL: "http://169.254.170.23/v1/credentials"},
    {FULL: "http://[fd00:ec2::23]/v1/credentials"},
    {FULL: "http://localhost/container"},
    {FULL: "https://example.com/container"},
    {},
)


class Rerouted:
    """A transport that takes all requests to the services, and notes their hosts and threads."""

    def __init__(self, url):
        self.url, self.hosts, self.threads = url, set(), set()
        self.real = smasync.UrllibTransport(environ={})

    def __call__(self, request, **options):
        self.threads.add(threading.current_thread())
        host = urlsplit(request.url).netloc
        self.hosts.add(host)
        bucket, is_s3, _ = host.partition(".s3.")  # the emulator wants it in the path
        where = f"{self.url}/{bucket}" if is_s3 else self.url
        headers = [pair for pair in request.headers if pair[0].lower() != "host"]
        request = request._replace(
            url=where + request.url.partition(host)[2], headers=(*headers, ("Host", host))
        )
        return self.real(request, **options)


def whole_job(services, transport, home):
    """Calls with each kind of credentials, and all that a client does; the threads of two kinds."""
    options = {"transport": transport, "sleep": lambda seconds: None}
    for more in PLACES:
        environ = {"HOME": str(home), "AWS_REGION": "us-east-1", **more}
        smasync.Client(environ=environ, **options).invoke_endpoint_async(
            EndpointName="e", Body=BODY
        )
    environ = {"HOME": str(home), "AWS_REGION": "us-east-1"}
    client = smasync.Client(credentials=LONG_TERM, environ=environ, **options)
    for bucket in ("my-bucket", "my.bucket"):
        location = client.put_input(BODY, f"s3://{bucket}/in.json")
        accepted = client.invoke_endpoint_async(EndpointName="e", InputLocation=location)
        assert client.poll(accepted)
    services.fail(*[emu.status(503, "SlowDown")] * client.max_attempts)
    client.wait(accepted)
    client.invoke_endpoint_async(EndpointName="e", InputLocation=PRESIGNED)
    client.explain(EndpointName="e", Body=BODY)
    alone, transport.threads = transport.threads, set()
    requests = [{"EndpointName": "e", "Body": BODY}] * 9
    assert all(outcome.answer for outcome in client.invoke_many(requests))
    return alone, transport.threads


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """Hosts, threads and log records of a whole job, and the secrets in it."""
    home, records, root = tmp_path_factory.mktemp("home").resolve(), [], logging.getLogger()
    handler, level = logging.Handler(), root.level
    handler.emit = records.append
    root.addHandler(handler)
    root.setLevel(1)
    try:
        with cs.CredentialServices(check_signatures=False) as services:
            furnish(home, services.url)
            transport = Rerouted(services.url)
            alone, many = whole_job(services, transport, home)
            transport.real.close()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    accounts = [made.account for made in services.hand_outs]
    secrets = [emu.SECRET_ACCESS_KEY, cs.SSO_TOKEN, BODY.decode(), *services.imds_tokens]
    secrets += [text for each in accounts for text in (each.secret_access_key, each.session_token)]
    return SimpleNamespace(
        hosts=transport.hosts, records=records, secrets=secrets, alone=alone, many=many
    )


def test_hosts_are_those_of_the_table(heard):
    hosts = {re.sub(r"^[a-z-]+\.s3\.", "BUCKET.s3.", host) for host in heard.hosts}
    assert {host.replace("us-east-1", "REGION") for host in hosts} == names_in("host")


def test_only_invoke_many_has_threads_and_they_end_with_it(heard, audit):
    main = threading.main_thread()
    assert heard.alone == {main} and heard.many and main not in heard.many
    assert not any(thread.is_alive() for thread in heard.many)
    assert audit.threads == ["MainThread"]


def test_the_log_is_the_logger_smasync_at_debug_and_one_warning_of_a_wait(heard):
    assert {record.name for record in heard.records} == {"smasync"}
    (warning,) = (record for record in heard.records if record.levelno != logging.DEBUG)
    assert warning.levelno == logging.WARNING and "s3://async-output/" in warning.getMessage()


def test_the_log_has_no_secret_no_body_and_no_signature_but_input_locations(heard):
    text = "\n".join(record.getMessage() for record in heard.records)
    assert [secret for secret in heard.secrets if has_trace(text, secret)] == []
    assert PRESIGNED in text and "Signature=" not in text.replace(PRESIGNED, "")


# --- What the file does not have

NODES = [*ast.walk(ast.parse(SOURCE))]
IMPORTS = [node for node in NODES if isinstance(node, (ast.Import, ast.ImportFrom))]
IMPORTED = [
    name
    for node in IMPORTS
    for name in (
        [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
    )
]
MODULES = {name.partition(".")[0] for name in IMPORTED}
STANDARD = set(
    """__future__ argparse base64 collections concurrent configparser contextlib copy datetime
    difflib email functools getpass hashlib hmac http io json logging os queue random re shlex
    signal socket ssl string subprocess sys threading time typing urllib uuid warnings xml fcntl
    """.split()
)


def test_all_imports_are_of_the_standard_library():
    assert MODULES <= STANDARD <= getattr(sys, "stdlib_module_names", STANDARD)  # from 3.10 on
    assert not any(node.level for node in IMPORTS if isinstance(node, ast.ImportFrom))


def test_no_text_becomes_code_and_no_function_has_a_computed_name():
    used = {ast.unparse(node) for node in NODES if isinstance(node, (ast.Name, ast.Attribute))}
    assert not used & {"eval", "exec", "compile", "__import__", "globals", "breakpoint", "input"}
    assert not used & {"os.system", "os.popen", "os.fork", "sys.settrace", "sys.addaudithook"}
    calls = [node for node in NODES if isinstance(node, ast.Call)]
    assert not [keyword for call in calls for keyword in call.keywords if keyword.arg == "shell"]
    gets = [call for call in calls if ast.unparse(call.func) == "getattr"]
    assert {len(call.args) for call in gets} == {3}  # with a default: these look for data


def test_nothing_of_other_modules_is_replaced_but_closed_streams_and_bulk_s_signal():
    targets = [target for node in NODES for target in getattr(node, "targets", [])]
    parts = [part for target in targets for part in getattr(target, "elts", [target])]
    texts = {ast.unparse(part) for part in parts if isinstance(part, ast.Attribute)}
    found = {text for text in texts if text.partition(".")[0] in MODULES}
    assert found == {"sys.stdout", "sys.stderr"}
    functions = [node for node in NODES if isinstance(node, ast.FunctionDef)]
    assert len([f for f in functions if "from signal import" in ast.unparse(f)]) == 1


def test_http_without_tls_is_the_default_for_metadata_addresses_alone():
    docstrings = [node.value for node in NODES if isinstance(node, ast.Expr)]
    constants = [node for node in NODES if isinstance(node, ast.Constant)]
    texts = [str(node.value) for node in constants if node not in docstrings]
    found = {url for text in texts for url in re.findall(r"http://\w[\w.]*", text)}
    assert found == {"http://169.254.170.2", "http://169.254.169.254"}


# --- The rest of the chapter


def test_what_you_should_know_is_so():
    environ, dates = {"HOME": "/no home"}, []

    def transport(request, **_):
        dates.append(dict(request.headers)["X-Amz-Date"])
        return smasync.Response(400, (("Date", "Fri, 01 Jan 2038 00:00:00 GMT"),), b"")

    options = {"environ": environ, "credentials": LONG_TERM, "transport": transport}
    options["endpoint_url"] = "http://example.com"  # of which no warning comes
    client = smasync.Client("us-east-1", **options)
    for _ in range(2):
        with pytest.raises(smasync.ClientError):
            client.invoke_endpoint_async(EndpointName="e", Body=b"1")
    assert dates[1].startswith("20380101")
    with pytest.warns(UserWarning, match="not verified"):
        smasync.Client("us-east-1", verify=False, environ=environ)
    assert emu.SECRET_ACCESS_KEY.encode() in pickle.dumps(LONG_TERM)
    assert smasync.signing_key.cache_info().currsize


def test_the_sections_to_read_are_sections():
    named = re.findall(r"`(\d+\. .+?)`", " ".join(CHAPTER.split()))
    assert len(named) == 6 and set(named) <= set(re.findall(r"(?m)^# --- (.+?) -+$", SOURCE))


def test_a_copy_is_verified_as_the_chapter_says(tmp_path):
    shutil.copy(ROOT / "smasync.py", tmp_path)
    first, *others = re.search(r"```sh\n(.*?)\n```", CHAPTER, re.DOTALL)[1].splitlines()
    shown = re.fullmatch(r'echo "([0-9a-f]{64})  smasync\.py" \| sha256sum -c', first)[1]
    own = hashlib.sha256((ROOT / "smasync.py").read_bytes()).hexdigest()
    assert shown == own
    commands = [[sys.executable, *shlex.split(line)[1:]] for line in others]
    printed = [subprocess.check_output(each, cwd=tmp_path, text=True) for each in commands]
    assert printed == ["", f"smasync {smasync.__version__}\n"]
