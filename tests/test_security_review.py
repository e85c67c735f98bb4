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
print(json.dumps([statuses, heard]))
"""


def child(home, *steps, **environ):
    """The exit statuses of the steps, and what was heard; in a session without a terminal."""
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
        statuses, heard = child(home, *([*step, None] for step in steps.values()))
    ports = {str(urlsplit(server.url).port) for server in (plain, tls)}
    statuses = dict(zip(steps, statuses))
    yield SimpleNamespace(home=home, statuses=statuses, heard=heard, plain=plain, ports=ports)


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
    text = str(path).replace(f"{home}/.aws/", "~/.aws/").replace(f"{home}/", "").replace("$NAME", "")
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
    found = smasync.proxies({name: "x" for name in table_names("variable")})
    assert set(found) == {"https", "http", "no"}
