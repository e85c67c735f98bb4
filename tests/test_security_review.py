"""README's chapter for the security reviewer says what happens: no less, and no more.

A process runs every command and every way to credentials, against services on the loopback interface.
An audit hook hears its files, connections and processes; its os.environ notes who asks for what. Each
file here has the name that README's table has for it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import logging
import os
import pickle
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import credential_services as cs
import emulator as emu
import pytest
from leaks import has_trace
from raw_server import wait_until

import smasync

ROOT = Path(__file__).resolve().parent.parent
PEM = Path(__file__).with_name("loopback.pem")
PEM_HASH = "ce275665.0"  # openssl x509 -hash: under this name OpenSSL looks for it in a directory
TREE = ast.parse((ROOT / "smasync.py").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHAPTER = re.search(r"(?ms)^## For the security reviewer\n(.*?)(?=^## |\Z)", README)[1]
PATIENCE = 60  # seconds
PROGRAM = (sys.executable, "-W", "error", str(ROOT / "smasync.py"))
CGI = "REQUEST_METHOD"
KEY, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
ROLE = "arn:aws:iam::123456789012:role/audited"
BY_OPENSSL = {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle", "SSL_CERT_FILE", "SSL_CERT_DIR"}
SINCE_3_14 = {"PYTHON_COLORS", "NO_COLOR", "FORCE_COLOR", "TERM"}
BY_NAME_S_END = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}  # of all names, those that end so
FROM_A_COPY = {"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"}


def table(header, column=1):
    """By each `code` in the first cells of a table of the chapter, the text of another cell."""
    lines = re.search(rf"(?m)^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", CHAPTER)[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(name, cells[column]) for cells in rows for name in re.findall("`(.+?)`", cells[0])]


# Runs steps [environ, argv, own]: main(argv), or with `own` as environ= a call and a `wait`.
CHILD = r"""
import json, os, sys, threading, time
FAMILIES = "open os shutil tempfile glob subprocess socket fcntl pty ctypes urllib ftplib".split()
heard, statuses, listening, every_name = [], [], False, False

def hook(event, args):
    if listening and event.partition(".")[0] in FAMILIES:
        heard.append([event, *map(str, args)])

class Watched(type(os.environ)):
    def __getitem__(self, name):
        try:
            found = super().__getitem__(name)
        except KeyError:
            found = None
        if listening and (found is None or every_name):
            heard.append(["variable", name])
        return super().__getitem__(name) if found is None else found

def type_code(terminal):
    while True:
        os.write(terminal, b"123456\n")
        time.sleep(0.05)

def call(own):
    try:
        smasync.Client(environ=own).invoke_endpoint_async(EndpointName="e", Body=b"[1]")
    except smasync.Error:
        return 1
    return 0

sys.path.insert(0, sys.argv[1])
sys.addaudithook(hook)
import smasync
os.environ.__class__ = Watched
for environ, argv, own in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(environ)
    if "mfa" in argv:
        ours, theirs = os.openpty()
        sys.stdin = os.fdopen(theirs)
        threading.Thread(target=type_code, args=[ours], daemon=True).start()
    every_name, listening = bool(own), True
    statuses.append(call(own) if own else smasync.main(argv))
    listening = False
print()
print(json.dumps([statuses, heard, [t.name for t in threading.enumerate() if not t.daemon]]))
"""


def child(home, *steps, **environ):
    """Exit statuses of the steps, what was heard, threads left; in a session without a terminal."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOT)], input=json.dumps(steps), cwd=home, text=True,
        capture_output=True, timeout=PATIENCE, start_new_session=True, env={**os.environ, **environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


CONFIG = """
[profile role]
role_arn = {role}
source_profile = static
[profile mfa]
role_arn = {role}
source_profile = static
mfa_serial = arn:aws:iam::123456789012:mfa/me
[profile web]
role_arn = {role}
web_identity_token_file = {home}/web_identity_token_file
[profile sso]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = dev
[sso-session corp]
sso_region = us-east-1
sso_start_url = https://corp.example
[profile process]
credential_process = {home}/program 'a b' $HOME;c
[profile lost]
credential_process = no-such-program
[profile bundle]
ca_bundle = {home}/ca_bundle
[profile metadata]
ec2_metadata_service_endpoint = {url}
"""
INVOKE = ("invoke-endpoint-async", "--cli-input-json", "file://FILE")
WAIT = ("--wait", "60", "--output-file", "OUTPUT")


def furnish(home, keys, url):
    """A home with a file for each row of the table, and with the program that prints `keys`."""
    (home / ".aws/sso/cache").mkdir(parents=True)
    lines = [f"{name.lower()} = {text}\n" for name, text in keys.items()]
    sso = {"accessToken": cs.SSO_TOKEN, "expiresAt": "2099-01-01T00:00:00Z"}
    printed = {"Version": 1, "AccessKeyId": keys[KEY], "SecretAccessKey": keys[SECRET]}
    files = {
        ".aws/config": CONFIG.format(role=ROLE, home=home, url=url),
        ".aws/credentials": "".join(["[static]\n", *lines, "[bundle]\n", *lines]),
        f".aws/sso/cache/{hashlib.sha1(b'corp').hexdigest()}.json": json.dumps(sso),
        "web_identity_token_file": cs.WEB_TOKEN,
        "AWS_WEB_IDENTITY_TOKEN_FILE": cs.WEB_TOKEN,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "authorization",
        "program": f"#!/bin/sh\necho '{json.dumps(printed)}'\n",
        "DATA": "[1, 2]", "OUTPUT": "older",
        "FILE": '{"EndpointName": "e", "Body": "WzFd", "RequestTTLSeconds": 60}',
        "MANIFEST": '{"EndpointName": "e", "Body": [1]}\n' * 2,
    }  # fmt: skip
    files.update({name: PEM.read_text() for name in BY_OPENSSL if name != "SSL_CERT_DIR"})
    files.update({f"SSL_CERT_DIR/{PEM_HASH}": PEM.read_text()})
    (home / "SSL_CERT_DIR").mkdir()
    for name, text in files.items():
        (home / name).write_text(text)
    (home / "program").chmod(0o755)


def steps_of(home, plain, tls):
    """By name: what is done, with what environment."""
    base = {"HOME": str(home), "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": plain.url}
    off = {**base, "AWS_EC2_METADATA_DISABLED": "true"}
    named = {name: str(home / name) for name in table_names("file") if (home / name).exists()}
    token_file = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
    container = {**off, "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{plain.url}/container"}
    web = {"AWS_WEB_IDENTITY_TOKEN_FILE": named["AWS_WEB_IDENTITY_TOKEN_FILE"]}
    web.update(AWS_ROLE_ARN=ROLE, AWS_ROLE_SESSION_NAME="my-session")
    keys = {**off, KEY: emu.ACCESS_KEY_ID, SECRET: emu.SECRET_ACCESS_KEY}
    over_tls = {**keys, "AWS_ENDPOINT_URL": tls.url, "AWS_MAX_ATTEMPTS": "1"}
    profiles = ("role", "mfa", "web", "sso", "process", "lost")
    files = {name: f"{home}/{name}" for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    files["AWS_CONFIG_FILE"] += "$NAME"
    proxied = {**keys, "HTTP_PROXY": plain.url, "AWS_MAX_ATTEMPTS": "1", "_X_AMZN_TRACE_ID": "x"}
    bad = [*INVOKE, "--body", "ISEh", *WAIT]  # neither numbers nor words
    return {
        **{name: (off, [*INVOKE, "--profile", name]) for name in profiles},
        "web identity": ({**off, **web}, INVOKE),
        "container": ({**container, token_file: named[token_file]}, INVOKE),
        "container without token": (container, INVOKE),
        "imds": ({**base, "AWS_EC2_METADATA_SERVICE_ENDPOINT": plain.url}, INVOKE),
        "imds by a profile": (base, [*INVOKE, "--profile", "metadata"]),
        "nothing but names of files": (files, INVOKE),
        "put": (keys, ["put-input", "DATA", "s3://my-bucket/in.json"]),
        "wait": (keys, [*INVOKE, "--body", "fileb://FILE", *WAIT]),
        "model fails": (keys, bad),
        "bulk": (keys, ["bulk", "MANIFEST", "--results", "RESULTS", "--quiet"]),
        "proxy": (proxied, [*INVOKE, "--endpoint-url", "http://elsewhere.example"]),
        "help": (keys, ["--help"]),
        "unverified": (over_tls, INVOKE),
        "ca_bundle": (over_tls, [*INVOKE, "--profile", "bundle"]),
        **{name: ({**over_tls, name: named[name]}, INVOKE) for name in BY_OPENSSL - {"ca_bundle"}},
        "SSLKEYLOGFILE": (
            {**over_tls, "AWS_CA_BUNDLE": str(PEM), "SSLKEYLOGFILE": str(home / "SSLKEYLOGFILE")},
            INVOKE,
        ),
    }  # fmt: skip


def table_names(header):
    return {name for name, _ in table(header)}


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    home = tmp_path_factory.mktemp("home").resolve()
    with cs.CredentialServices() as plain, cs.CredentialServices(tls=True) as tls:
        furnish(home, {KEY: emu.ACCESS_KEY_ID, SECRET: emu.SECRET_ACCESS_KEY}, plain.url)
        plain.container_authorization = "authorization"
        steps = steps_of(home, plain, tls)
        statuses, heard, threads = child(home, *([*step, None] for step in steps.values()))
    ports = {str(urlsplit(server.url).port) for server in (plain, tls)}
    statuses = dict(zip(steps, statuses))
    return SimpleNamespace(
        home=home, statuses=statuses, heard=heard, threads=threads, plain=plain, ports=ports
    )


def test_each_step_went_as_it_should(audit):
    failed = {"lost": 253, "container without token": 253, "nothing but names of files": 253}
    failed.update({"model fails": 3, "unverified": 255})
    assert audit.statuses == {name: failed.get(name, 0) for name in audit.statuses}


DONE = {"r": "read", "x": "created", "a+": "read, appended", "None": "read, written"}
DONE.update(ab="appended")


def file_events(audit):
    """(name in the table, what was done to it) of each file outside Python's own folders."""
    library = Path(ast.__file__).resolve().parent
    for event, *args in audit.heard:
        path = (audit.home / args[0]).resolve()
        if library in path.parents or path.stem.startswith("smasync") or args[0].isdigit():
            continue
        done = {"open": DONE[args[1]] if event == "open" else "", "os.chmod": "mode set"}
        done.update({"os.rename": "renamed", "os.remove": "removed"})
        if event in done:
            yield name_of(path, audit.home), done[event]
        if event == "os.rename":
            yield name_of(Path(args[1]), audit.home), "replaced"


def name_of(path, home):
    text = (
        str(path).replace(f"{home}/.aws/", "~/.aws/").replace(f"{home}/", "").replace("$NAME", "")
    )
    return re.sub("[0-9a-f]{16,}", "…", text)


def test_files_are_those_of_the_table(audit):
    by_us = [row for row in table("file") if "by OpenSSL" not in row[1]]
    expected = {(name, verb) for name, verbs in by_us for verb in verbs.split(", ")}
    found = {(name, verb) for name, verbs in file_events(audit) for verb in verbs.split(", ")}
    assert found == expected


def test_nothing_else_is_done_to_files_connections_and_processes(audit):
    imports = {"os.listdir", "os.scandir"}
    known = {"open", "os.chmod", "os.rename", "os.remove", "fcntl.flock", "subprocess.Popen"}
    known |= {"os.posix_spawn", "socket.__new__", "socket.getaddrinfo", "socket.connect"}
    assert {event for event, *_ in audit.heard} - imports - {"variable"} <= known
    assert [event for event, *_ in audit.heard].count("fcntl.flock") == 1  # of bulk


def test_the_only_process_is_the_profile_s_and_has_no_shell(audit):
    started = [args for event, *args in audit.heard if event == "subprocess.Popen"]
    program, argv, _, environ = started[0]
    assert program == f"{audit.home}/program" and ast.literal_eval(argv)[1:] == ["a b", "$HOME;c"]
    assert "AWS_ENDPOINT_URL" in environ
    assert [args[0] for args in started[1:]] == ["no-such-program"]


def test_connections_go_to_the_configured_endpoints_and_to_a_proxy_alone(audit):
    asked = {tuple(args[:2]) for event, *args in audit.heard if event == "socket.getaddrinfo"}
    assert {host for host, _ in asked} == {"127.0.0.1", "localhost"}
    assert {port for _, port in asked} == audit.ports
    connected = [args[1] for event, *args in audit.heard if event == "socket.connect"]
    assert {str(ast.literal_eval(address)[1]) for address in connected} == audit.ports
    assert [r for r in audit.plain.requests if r.target.startswith("http://elsewhere.example/")]


@pytest.mark.parametrize("name", sorted(BY_OPENSSL - {"SSL_CERT_DIR"}) + ["SSL_CERT_DIR"])
def test_openssl_reads_the_certificates_of_the_table(audit, name):
    assert audit.statuses["unverified"] == 255 and audit.statuses[name] == 0
    assert name in table_names("file")


def test_openssl_reads_its_configuration_when_a_request_is_signed(tmp_path):
    fifo = tmp_path / "OPENSSL_CONF"
    os.mkfifo(fifo)
    command = [*PROGRAM, "explain", "--example", "--endpoint-name", "e", "--body", "WzFd"]
    with subprocess.Popen(
        command, env={**os.environ, "OPENSSL_CONF": str(fifo)}, stdout=subprocess.DEVNULL
    ) as running:
        wait_until(lambda: opened_for_reading(fifo), PATIENCE)
        assert running.wait(PATIENCE) == 0


def opened_for_reading(fifo):
    with contextlib.suppress(OSError):  # while nobody reads
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return True
    return False


def test_variables_are_those_of_the_table(audit):
    asked = {args[0] for event, *args in audit.heard if event == "variable"}
    (form,) = [made.parameters for made in audit.plain.hand_outs if made.role == ROLE][-1:]
    assert form["RoleSessionName"] == "my-session"  # one that is found, among those of a copy
    expected = table_names("variable") - BY_NAME_S_END - FROM_A_COPY
    expected -= {"SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF"}  # which OpenSSL reads
    if sys.version_info < (3, 14):
        expected -= SINCE_3_14
    assert asked == expected
    found = smasync.proxies(dict.fromkeys((expected | BY_NAME_S_END) - {CGI}, "x"))
    assert set(found) == {"https", "http", "no"}


OWN = {"HOME": "/no home", KEY: emu.ACCESS_KEY_ID, SECRET: emu.SECRET_ACCESS_KEY}
OWN.update(AWS_REGION="us-east-1", AWS_MAX_ATTEMPTS="1", AWS_ENDPOINT_URL="http://127.0.0.2:9")
PROXY = {"HTTP_PROXY": "http://127.0.0.1:9"}
PROCESS = {"HOME": "/no home", "NO_PROXY": "", "AWS_PROFILE": "nobody", "AWS_REGION": "eu-west-1"}
FROM_THE_PROCESS = {
    # what: the call's own environment, the process's, what is read of the latter, where it connects
    "nothing": (OWN, PROCESS, set(), "127.0.0.2"),
    "a home": ({**OWN, "HOME": ""}, PROCESS, {"HOME"}, "127.0.0.2"),
    "proxy variables": ({**OWN, **PROXY}, PROCESS, {*PROCESS, CGI}, "127.0.0.1"),
    "a host without a proxy": (
        {**OWN, **PROXY}, {**PROCESS, "NO_PROXY": "127.0.0.2"}, {*PROCESS, CGI}, "127.0.0.2",
    ),
    "keys of TLS": (
        {**OWN, "AWS_ENDPOINT_URL": "https://127.0.0.2:9"}, PROCESS, {"SSLKEYLOGFILE"}, "127.0.0.2",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("own", "process", "names", "host"), FROM_THE_PROCESS.values(), ids=FROM_THE_PROCESS
)
def test_with_its_own_environ_a_client_reads_of_the_process_s_what_the_table_says(
    tmp_path, own, process, names, host
):
    statuses, heard, _ = child(tmp_path, [process, [], own])
    assert statuses == [1]  # nothing listens there
    assert {args[0] for event, *args in heard if event == "variable"} == names
    assert {args[0] for event, *args in heard if event == "socket.getaddrinfo"} == {host}
    assert names - set(PROCESS) <= {
        name for name, place in table("variable", 2) if place == "process"
    }


# --- What a client does, heard at its seams

CREDENTIALS = smasync.Credentials(emu.ACCESS_KEY_ID, emu.SECRET_ACCESS_KEY)
FULL = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
BODY = b"hush: the input 1 2 3"
PRESIGNED = "https://bucket.example/in.json?X-Amz-Signature=0123456789abcdef0123456789abcdef"
PLACES = {
    # where credentials come from in a real region: environment
    "role": {"AWS_PROFILE": "role"},
    "sso": {"AWS_PROFILE": "sso"},
    "ECS": {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"},
    "EKS": {FULL: "http://169.254.170.23/v1/credentials"},
    "EKS, IPv6": {FULL: "http://[fd00:ec2::23]/v1/credentials"},
    "this machine": {FULL: "http://localhost/container"},
    "elsewhere by TLS": {FULL: "https://example.com/container"},
    "IMDS": {},
}


class Rerouted:
    """A transport that takes all requests to the services, and notes their hosts and threads."""

    def __init__(self, url):
        self.url, self.hosts, self.threads = url, set(), set()
        self.real = smasync.UrllibTransport(environ={})

    def __call__(self, request, **options):
        self.threads.add(threading.current_thread())
        host = urlsplit(request.url).netloc
        self.hosts.add(host)
        headers = tuple(pair for pair in request.headers if pair[0].lower() != "host")
        url = self.url + request.url.partition(host)[2]
        if ".s3." in host:  # the emulator wants the bucket in the path
            url = f"{self.url}/{host.partition('.s3.')[0]}{request.url.partition(host)[2]}"
        return self.real(request._replace(url=url, headers=(*headers, ("Host", host))), **options)


@contextlib.contextmanager
def every_record():
    """What all loggers say."""
    records, root = [], logging.getLogger()
    handler = logging.Handler()
    handler.emit = records.append
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        yield records
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """Hosts, log records and threads of calls with each kind of credentials, and of a whole job."""
    home = tmp_path_factory.mktemp("home").resolve()
    with cs.CredentialServices(check_signatures=False) as services, every_record() as records:
        furnish(home, {KEY: emu.ACCESS_KEY_ID, SECRET: emu.SECRET_ACCESS_KEY}, services.url)
        transport = Rerouted(services.url)
        options = {"transport": transport, "sleep": lambda seconds: None}
        for environ in PLACES.values():
            environ = {"HOME": str(home), "AWS_REGION": "us-east-1", **environ}
            client = smasync.Client(environ=environ, **options)
            client.invoke_endpoint_async(EndpointName="e", Body=BODY)
        client = smasync.Client(
            "us-east-1", credentials=CREDENTIALS, environ={"HOME": ""}, **options
        )
        for bucket in ("my-bucket", "my.bucket"):
            location = client.put_input(BODY, f"s3://{bucket}/in.json")
            accepted = client.invoke_endpoint_async(EndpointName="e", InputLocation=location)
            client.poll(accepted)
            services.fail(*[emu.status(503, "SlowDown")] * client.max_attempts)
            client.wait(accepted)
        client.invoke_endpoint_async(EndpointName="e", InputLocation=PRESIGNED)
        client.explain(EndpointName="e", Body=BODY)
        alone, transport.threads = transport.threads, set()
        assert [
            one.error for one in client.invoke_many([{"EndpointName": "e", "Body": BODY}] * 9)
        ] == [None] * 9
        transport.real.close()
    secrets = [emu.SECRET_ACCESS_KEY, cs.WEB_TOKEN, cs.SSO_TOKEN, BODY.decode()]
    secrets += [
        *services.imds_tokens,
        *(made.account.session_token for made in services.hand_outs),
    ]
    secrets += [made.account.secret_access_key for made in services.hand_outs]
    return SimpleNamespace(
        hosts=transport.hosts,
        records=records,
        secrets=secrets,
        alone=alone,
        many=transport.threads,
    )


def test_hosts_are_those_of_the_table(heard):
    hosts = {re.sub(r"^[a-z-]+\.s3\.", "BUCKET.s3.", host) for host in heard.hosts}
    assert {host.replace("us-east-1", "REGION") for host in hosts} == table_names("host")


def test_only_invoke_many_has_threads_and_they_end_with_it(heard, audit):
    assert heard.alone == {threading.main_thread()} and threading.main_thread() not in heard.many
    assert heard.many and not any(thread.is_alive() for thread in heard.many)
    assert audit.threads == ["MainThread"]


def test_the_log_is_the_logger_smasync_at_debug_and_a_warning_of_a_wait(heard):
    assert {(record.name, record.levelname) for record in heard.records} == {
        ("smasync", "DEBUG"), ("smasync", "WARNING"),
    }  # fmt: skip
    warnings = [record for record in heard.records if record.levelno > logging.DEBUG]
    assert {record.funcName for record in warnings} == {"_wait"} and len(warnings) == 2


def test_the_log_has_no_secret_no_body_and_no_signature_but_input_locations(heard):
    text = "\n".join(record.getMessage() for record in heard.records)
    assert [secret for secret in heard.secrets if has_trace(text, secret)] == []
    assert "Signature=" not in text.replace(PRESIGNED, "") and PRESIGNED in text


# --- What the file does not have

NODES = [*ast.walk(TREE)]
CODE = ast.unparse(TREE)
IMPORTS = [node for node in NODES if isinstance(node, (ast.Import, ast.ImportFrom))]
MODULES = {
    name.partition(".")[0]
    for node in IMPORTS
    for name in (
        [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
    )
}
ALL_OF_3_9 = set(
    """__future__ argparse base64 collections concurrent configparser contextlib copy datetime
    difflib email fcntl functools getpass hashlib hmac http io json logging os queue random re
    shlex signal socket ssl string subprocess sys threading time typing urllib uuid warnings xml
    """.split()
)


def test_all_imports_are_of_the_standard_library():
    assert {node.level for node in IMPORTS if isinstance(node, ast.ImportFrom)} == {0}
    assert MODULES <= ALL_OF_3_9 <= getattr(sys, "stdlib_module_names", ALL_OF_3_9)
    assert not MODULES & {"pickle", "marshal", "shelve", "ctypes", "importlib", "tempfile", "pty"}


def test_no_text_becomes_code_and_no_name_is_computed():
    names = {node.id for node in NODES if isinstance(node, ast.Name)}
    assert not names & {"eval", "exec", "compile", "__import__", "globals", "breakpoint", "input"}
    attributes = {ast.unparse(node) for node in NODES if isinstance(node, ast.Attribute)}
    assert not attributes & {
        "os.system",
        "os.popen",
        "os.fork",
        "sys.addaudithook",
        "sys.settrace",
    }
    calls = [node for node in NODES if isinstance(node, ast.Call)]
    assert [c.lineno for c in calls for keyword in c.keywords if keyword.arg == "shell"] == []
    gets = [call for call in calls if ast.unparse(call.func) == "getattr"]
    assert gets and {len(call.args) for call in gets} == {3}  # data with a default, no functions


def test_nothing_of_other_modules_is_replaced_but_streams_that_are_closed():
    targets = [t for node in NODES if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in NODES if isinstance(node, (ast.AugAssign, ast.AnnAssign))]
    texts = {ast.unparse(t) for target in targets for t in getattr(target, "elts", [target])}
    assert {text for text in texts if text.partition(".")[0] in MODULES and "." in text} == {
        "sys.stdout", "sys.stderr",
    }  # fmt: skip
    heeding = [
        f.name for f in NODES if isinstance(f, ast.FunctionDef) and "from signal" in ast.unparse(f)
    ]
    assert heeding == ["run"] and CODE.count("import signal") == 0


def test_http_without_tls_is_the_default_for_metadata_addresses_alone():
    documented = [
        ast.get_docstring(n, clean=False)
        for n in NODES
        if hasattr(n, "body")
        and isinstance(n.body, list)
        and not isinstance(n, (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.ExceptHandler))
    ]
    texts = [n.value for n in NODES if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    found = {
        url
        for text in texts
        if text not in documented
        for url in re.findall(r"http://\w[\w.]*", text)
    }
    assert found == {"http://169.254.170.2", "http://169.254.169.254"}


# --- The rest of the chapter


def test_a_url_without_tls_gives_no_warning_and_verify_false_gives_one():
    options = {"credentials": CREDENTIALS, "environ": {"HOME": "/no home"}}
    smasync.Client(
        "us-east-1", endpoint_url="http://example.com", **options
    )  # warnings are errors
    with pytest.warns(UserWarning, match="not verified"):
        smasync.Client("us-east-1", verify=False, **options)


def test_memory_and_pickles_hold_secrets_as_the_chapter_says():
    assert emu.SECRET_ACCESS_KEY.encode() in pickle.dumps(CREDENTIALS)
    smasync.signing_key.cache_clear()
    smasync.signing_key("a secret", "20150830/us-east-1/iam/aws4_request")
    assert smasync.signing_key.cache_info().currsize == 1


def test_the_sections_to_read_are_sections():
    sections = re.findall(
        r"(?m)^# --- (.+?) -+$", (ROOT / "smasync.py").read_text(encoding="utf-8")
    )
    named = re.findall(r"`(\d+\. .+?)`", CHAPTER)
    assert named and set(named) <= set(sections)


def test_a_copy_is_verified_as_the_chapter_says(tmp_path):
    first, *others = re.search(r"```sh\n(.*?)\n```", CHAPTER, re.DOTALL)[1].splitlines()
    shown = re.fullmatch(r'echo "([0-9a-f]{64})  smasync\.py" \| sha256sum -c', first)[1]
    own = (ROOT / "smasync.py").read_bytes()
    assert shown in ("0" * 64, hashlib.sha256(own).hexdigest())  # zeros: no release
    (tmp_path / "smasync.py").write_bytes(own)
    printed = []
    for line in others:
        program, *arguments = shlex.split(line)
        assert program == "python3"
        printed.append(
            subprocess.check_output([sys.executable, *arguments], cwd=tmp_path, text=True)
        )
    assert printed == ["", f"smasync {smasync.__version__}\n"]
