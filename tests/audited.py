"""Runs smasync in a process that tells what it did: its files, connections, processes, variables.

furnish(home, services.url)        # files for each kind of credentials, and for each command
statuses, heard, threads = child(home, [environ, argv, None], ...)
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import credential_services as cs
import emulator as emu

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60  # seconds
KEYS = {"AWS_ACCESS_KEY_ID": emu.ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": emu.SECRET_ACCESS_KEY}
PEM = Path(__file__).with_name("loopback.pem")
PEM_HASH = "ce275665.0"  # openssl x509 -hash: so OpenSSL calls it in a directory
BY_OPENSSL = {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle", "SSL_CERT_FILE", "SSL_CERT_DIR"}
FULL = "AWS_CONTAINER_CREDENTIALS_FULL_URI"

# Takes steps [environ, argv, own] from stdin: main(argv), or one call with `own` as environ=.
# It hears of os.environ the names that are not there, and with `own` all names.
CHILD = r"""
import contextlib, json, os, sys, threading, time
FAMILIES = "open os shutil tempfile glob subprocess socket fcntl pty ctypes urllib ftplib".split()
heard, statuses, listening, own = [], [], False, None

def hook(event, args):
    if listening and event.partition(".")[0] in FAMILIES:
        heard.append([event, *map(str, args)])

class Watched(type(os.environ)):
    def __getitem__(self, name):
        try:
            found = super().__getitem__(name)
        except KeyError:
            heard.append(["variable", name])
            raise
        if listening and own:
            heard.append(["variable", name])
        return found

def type_code(terminal):
    while True:
        os.write(terminal, b"123456\n")
        time.sleep(0.05)

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
    listening = True
    with contextlib.suppress(smasync.Error):
        if own:
            smasync.Client(environ=own).invoke_endpoint_async(EndpointName="e", Body=b"[1]")
        else:
            statuses.append(smasync.main(argv))
    listening = False
print()
print(json.dumps([statuses, heard, [t.name for t in threading.enumerate() if not t.daemon]]))
"""


def child(home, *steps):
    """Exit statuses of the steps, what was heard, threads left; in a session without a terminal."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", CHILD, str(ROOT)], input=json.dumps(steps), cwd=home, text=True,
        capture_output=True, timeout=PATIENCE, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


ROLE = "arn:aws:iam::123456789012:role/audited"
CONFIG = f"""
[profile role]
role_arn = {ROLE}
source_profile = static
[profile mfa]
role_arn = {ROLE}
source_profile = static
mfa_serial = arn:aws:iam::123456789012:mfa/me
[profile web]
role_arn = {ROLE}
web_identity_token_file = HOME/web_identity_token_file
[profile sso]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = dev
[sso-session corp]
sso_region = us-east-1
sso_start_url = https://corp.example
[profile process]
credential_process = HOME/program 'a b' $HOME;c
[profile lost]
credential_process = no-such-program
[profile bundle]
ca_bundle = HOME/ca_bundle
[profile metadata]
ec2_metadata_service_endpoint = URL
"""
INVOKE = ("invoke-endpoint-async", "--cli-input-json", "file://FILE")
WAIT = ("--wait", "60", "--output-file", "OUTPUT")


def furnish(home, url):
    """Makes a file for each row of the table, and a program that prints keys."""
    lines = "".join(f"{name.lower()} = {text}\n" for name, text in KEYS.items())
    id_and_secret = dict(zip(("AccessKeyId", "SecretAccessKey"), KEYS.values()))
    printed = json.dumps({"Version": 1, **id_and_secret})
    token = {"accessToken": cs.SSO_TOKEN, "expiresAt": "2099-01-01T00:00:00Z"}
    certificate = PEM.read_text()
    contents = {
        ".aws/config": CONFIG.replace("HOME/", f"{home}/").replace("URL", url),
        ".aws/credentials": f"[static]\n{lines}[bundle]\n{lines}",
        f".aws/sso/cache/{hashlib.sha1(b'corp').hexdigest()}.json": json.dumps(token),
        "web_identity_token_file": cs.WEB_TOKEN,
        "AWS_WEB_IDENTITY_TOKEN_FILE": cs.WEB_TOKEN,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "authorization",
        "program": f"#!/bin/sh\necho '{printed}'\n",
        "DATA": "[1, 2]", "OUTPUT": "older",
        "FILE": '{"EndpointName": "e", "Body": "WzFd", "RequestTTLSeconds": 60}',
        "MANIFEST": '{"EndpointName": "e", "Body": [1]}\n' * 2,
        **dict.fromkeys(BY_OPENSSL - {"SSL_CERT_DIR"}, certificate),
        f"SSL_CERT_DIR/{PEM_HASH}": certificate,
    }  # fmt: skip
    for name, text in contents.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (home / "program").chmod(0o755)


def steps_of(home, plain, tls):
    """By name: [environ, argv, own] of what is done; a variable names the file that is named so."""

    def files(*names):
        return {name: str(home / name) for name in names}

    base = {"HOME": str(home), "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": plain.url}
    off = {**base, "AWS_EC2_METADATA_DISABLED": "true"}
    keys = {**off, **KEYS}
    web = {"AWS_ROLE_ARN": ROLE, "AWS_ROLE_SESSION_NAME": "my-session"}
    web.update(files("AWS_WEB_IDENTITY_TOKEN_FILE"))
    container = {**off, FULL: f"{plain.url}/container"}
    token = files("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    shared = files("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
    shared["AWS_CONFIG_FILE"] += "$NAME"
    proxy = {"HTTP_PROXY": plain.url, "_X_AMZN_TRACE_ID": "x"}
    over_tls = {**keys, "AWS_ENDPOINT_URL": tls.url, "AWS_MAX_ATTEMPTS": "1"}
    key_log = {"AWS_CA_BUNDLE": str(PEM), **files("SSLKEYLOGFILE")}
    steps = {
        "web identity": ({**off, **web}, INVOKE),
        "container": ({**container, **token}, INVOKE),
        "container without a token": (container, INVOKE),
        "imds": ({**base, "AWS_EC2_METADATA_SERVICE_ENDPOINT": plain.url}, INVOKE),
        "imds by a profile": (base, [*INVOKE, "--profile", "metadata"]),
        "names of files alone": (shared, INVOKE),
        "put": (keys, ["put-input", "DATA", "s3://my-bucket/in.json"]),
        "wait": (keys, [*INVOKE, "--body", "fileb://FILE", *WAIT]),
        "the model fails": (keys, [*INVOKE, "--body", "ISEh", *WAIT]),
        "bulk": (keys, ["bulk", "MANIFEST", "--results", "RESULTS", "--quiet"]),
        "proxy": ({**keys, **proxy}, [*INVOKE, "--endpoint-url", "http://elsewhere.example"]),
        "help": (keys, ["--help"]),
        "explain": (keys, ["explain", *INVOKE[1:]]),
        "still running": (
            keys,
            ["wait", "--output-location", "s3://my-bucket/none", "--timeout", "0.1"],
        ),
        "no authority": (over_tls, INVOKE),
        "ca_bundle": (over_tls, [*INVOKE, "--profile", "bundle"]),
        "key log": ({**over_tls, **key_log}, INVOKE),
    }
    for profile in ("role", "mfa", "web", "sso", "process", "lost"):
        steps[profile] = off, [*INVOKE, "--profile", profile]
    for name in BY_OPENSSL - {"ca_bundle"}:
        steps[name] = {**over_tls, **files(name)}, INVOKE
    return {name: [*step, None] for name, step in steps.items()}
