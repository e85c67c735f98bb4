"""What smasync costs beside boto3, awscrt and the standard library's own floor: one table.

    python tests/bench.py              # some minutes, with a Python that has the group "peers"
    python tests/bench.py --quick      # whether it still runs; its figures are worth little
    python tests/bench.py --row 5      # one row, while working on it

Machines differ, and this one is busy with other things. So each contestant runs in a fresh
process, the contestants of a row in turns, several times in a round, of which each one's least
disturbed counts; a ratio is taken within a round, and the table has the median of all rounds'
ratios, with the least and the greatest.
boto3 runs as `pip install boto3` leaves it: without awscrt, which it would import just in case.

Left out: other Pythons than the one that runs this, other machines' network, Windows.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import http.client
import importlib.metadata
import importlib.util
import json
import os
import platform
import py_compile
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple
from urllib.parse import urlsplit

TESTS = Path(__file__).resolve().parent
CERTIFICATE = str(TESTS / "loopback.pem")  # for localhost
PYTHON = [sys.executable, "-I"]  # for all alike: no PYTHON… variables, no user's packages

CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)

REGION = "us-east-1"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzE" + "x/+=" * 146 + "end",  # 600 bytes, as from a role
}
MEMBERS = {
    "EndpointName": "my-endpoint",
    "InputLocation": "s3://my-bucket/inputs/0123456789abcdef.json",
    "ContentType": "application/json",
}
ALL_MEMBERS = {
    **MEMBERS,
    "Accept": "application/json",
    "CustomAttributes": "tenant=one;trace=0123456789abcdef",
    "InferenceId": "0123456789abcdef",
    "RequestTTLSeconds": 3600,
    "InvocationTimeoutSeconds": 900,
}

Figures = dict[tuple[str, str], float]  # (what was measured, of whom): how much


# --- 1. The server -----------------------------------------------------------
# It says yes to every request, as the real service does, and does nothing else, so that it is the
# clients that are measured: in a process of its own, with a thread for each connection.

BODY = b'{"InferenceId":"5e6a4c1e-3a56-4d0c-9d5b-0a4f4c9d7b11"}'


@functools.lru_cache(maxsize=2)
def answer(second: int) -> bytes:
    """The answer of one second: nothing in it but Date changes."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
    head = f"""HTTP/1.1 202 Accepted
x-amzn-RequestId: 2c0f9a4e-7d0b-4f1c-8f3e-6b1d2a3c4e5f
X-Amzn-SageMaker-OutputLocation: s3://my-bucket/outputs/0123456789abcdef.out
X-Amzn-SageMaker-FailureLocation: s3://my-bucket/failures/0123456789abcdef.out
Date: {date}
Content-Type: application/json
Content-Length: {len(BODY)}

"""
    return head.replace("\n", "\r\n").encode() + BODY


def serve(delay: float, tls: bool) -> None:
    """Prints the port, and answers `delay` seconds late, until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    if context:
        context.load_cert_chain(CERTIFICATE)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(listener, delay, context), daemon=True).start()
    sys.stdin.read()


def accept(listener: socket.socket, delay: float, context: ssl.SSLContext | None) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=converse, args=(sock, delay, context), daemon=True).start()


def converse(sock: socket.socket, delay: float, context: ssl.SSLContext | None) -> None:
    """Answers one connection's requests until the client has had enough."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        line = context.wrap_socket(sock, server_side=True) if context else sock
        with line:
            rest = read_request(line, b"")
            while rest is not None:
                if delay:
                    time.sleep(delay)
                line.sendall(answer(int(time.time())))
                rest = read_request(line, rest)


def read_request(sock: socket.socket, data: bytes) -> bytes | None:
    """Reads one whole request, of which `data` has come already; what came after it, or None."""
    while b"\r\n\r\n" not in data:
        if not (piece := sock.recv(65_536)):
            return None
        data += piece
    head, _, data = data.partition(b"\r\n\r\n")
    _, _, length = head.lower().partition(b"\r\ncontent-length:")
    size = int(length.partition(b"\r\n")[0] or 0)
    while len(data) < size:
        if not (piece := sock.recv(65_536)):
            return None
        data += piece
    return data[size:]


def cores() -> list[int]:
    """Those that a process may be bound to; none where the system cannot do that."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextlib.contextmanager
def on_core(number: int) -> Iterator[None]:
    """Processes started within the block run on that core alone, where the system can do that."""
    all_cores = cores()
    if all_cores:
        os.sched_setaffinity(0, [all_cores[number]])
    try:
        yield
    finally:
        if all_cores:
            os.sched_setaffinity(0, all_cores)


@contextlib.contextmanager
def server(delay: float = 0.0, tls: bool = False) -> Iterator[str]:
    """The URL of a server that runs until the block ends, or this process does."""
    command = [*PYTHON, __file__, "--serve", json.dumps([delay, tls])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        yield f"{'https://localhost' if tls else 'http://127.0.0.1'}:{port}"


# --- 2. The setting ----------------------------------------------------------


class Setting(NamedTuple):
    """What the measurements share; `scale` divides the numbers of calls."""

    directory: Path  # has smasync.py, compiled, and what is written while measuring
    ca_bundle: str
    http: str
    https: str
    slow: str  # http, and takes 20 ms to answer
    scale: int


@contextlib.contextmanager
def setting(smasync: Path, scale: int) -> Iterator[Setting]:
    """The servers and the files, for as long as the block runs."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        py_compile.compile(str(shutil.copy(smasync, directory / "smasync.py")), doraise=True)
        http, https = (stack.enter_context(server(tls=tls)) for tls in (False, True))
        slow = stack.enter_context(server(delay=0.02))
        yield Setting(directory, write_ca_bundle(directory), http, https, slow, scale)


def write_ca_bundle(directory: Path) -> str:
    """A file of this machine's certificate authorities, and of the server's certificate.

    Reading so many takes longer than the TLS handshake: with a small file row 3 would flatter.
    """
    places = (ssl.get_default_verify_paths().cafile, *CA_BUNDLES)
    found = next((place for place in places if place and os.path.exists(place)), None)
    if found is None:
        import certifi

        found = certifi.where()
    text = Path(found).read_text("utf-8") + Path(CERTIFICATE).read_text("utf-8")
    path = directory / "ca-bundle.pem"
    path.write_text(text.partition("-----BEGIN PRIVATE KEY")[0], "utf-8")
    return str(path)


def environment(setting: Setting) -> dict[str, str]:
    """The contestants' environment: keys and CA bundle, and nothing of this machine's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_") and not name.lower().endswith("_proxy")
    }
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {
        **kept, **KEYS, **nowhere,
        "AWS_CA_BUNDLE": setting.ca_bundle, "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


def run(command: list[str], setting: Setting) -> str:
    """The standard output of a fresh process; what it complains of is shown."""
    done = subprocess.run(
        command, env=environment(setting), stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def contestant(name: str, setting: Setting, **options: Any) -> dict[str, Any]:
    """What one of CONTESTANTS returns, run in a process of its own."""
    text = json.dumps({"directory": str(setting.directory), **options})
    result: dict[str, Any] = json.loads(
        run([*PYTHON, __file__, "--contestant", name, text], setting)
    )
    return result


def turns(names: tuple[str, ...], number: int) -> tuple[str, ...]:
    """The order in a round: every other one backwards, lest one always comes after another."""
    return names[::-1] if number % 2 else names


# --- 3. Rows 1 to 3: whole processes -----------------------------------------
# From outside, start and end of the interpreter included, and a bare interpreter's time taken off.
# The code is given with -c: this file's own imports must not weigh.

RUNS = 7  # of each code in a round; the fastest counts
PEAK = """
try:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
except OSError:
    import resource, sys
    print(resource.getrusage(0).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
"""
OURS = "import sys; sys.path.insert(0, given['directory']); import smasync"
BOTO3 = "import sys; sys.modules['awscrt'] = None; import boto3"
START = {
    "bare": "",
    "smasync": f"{OURS}; smasync.Client({REGION!r})",
    "boto3": f"{BOTO3}; boto3.client('sagemaker-runtime', region_name={REGION!r})",
}
ENDPOINT = "endpoint_url=given['url']"
CALL = f"client.invoke_endpoint_async(**{MEMBERS!r})['OutputLocation']"
FIRST_ANSWER = {
    "bare": "",
    "smasync": f"{OURS}; client = smasync.Client({REGION!r}, {ENDPOINT}); {CALL}",
    "urlopen": """
import ssl, urllib.request
context = ssl.create_default_context(cafile=given["ca_bundle"])
url, headers = given["url"] + given["path"], given["headers"]
request = urllib.request.Request(url, headers=headers, method="POST")
with urllib.request.urlopen(request, context=context) as answer:
    answer.read()
""",
    "boto3": f"{BOTO3}; client = boto3.client("
    f"'sagemaker-runtime', region_name={REGION!r}, {ENDPOINT}); {CALL}",
}


def start(setting: Setting, number: int) -> Figures:
    """Milliseconds and peak MiB of import and client, over a bare interpreter's."""
    spent = processes(START, {}, setting, number)
    bare_ms, bare_kib = spent.pop("bare")
    figures = {("start", name): ms - bare_ms for name, (ms, _) in spent.items()}
    return {**figures, **{("peak", n): (kib - bare_kib) / 1024 for n, (_, kib) in spent.items()}}


def first_answer(setting: Setting, number: int) -> Figures:
    """Milliseconds of a process that makes one call over https, over a bare interpreter's."""
    given = contestant("presigned", setting, url=setting.https)
    given.update(url=setting.https, ca_bundle=setting.ca_bundle)
    spent = processes(FIRST_ANSWER, given, setting, number)
    bare_ms, _ = spent.pop("bare")
    return {("first answer", name): ms - bare_ms for name, (ms, _) in spent.items()}


def processes(
    codes: dict[str, str], given: dict[str, Any], setting: Setting, number: int
) -> dict[str, tuple[float, float]]:
    """Least milliseconds and median peak KiB of a process for each code, which prints its peak."""
    given = {**given, "directory": str(setting.directory)}
    times: dict[str, list[float]] = {name: [] for name in codes}
    peaks: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(max(3, RUNS // setting.scale)):
        for name in turns(tuple(codes), number):
            began = time.perf_counter()
            peak = run([*PYTHON, "-c", f"{given=}\n{codes[name]}{PEAK}"], setting)
            times[name].append((time.perf_counter() - began) * 1e3)
            peaks[name].append(float(peak))
    return {name: (min(times[name]), statistics.median(peaks[name])) for name in codes}


# --- 4. Row 4: signatures ----------------------------------------------------
# Timed is what turns an unsigned request and a point in time into a signed request. The requests
# are made beforehand, as many as a signer that changes them in place needs. Each signature is of
# another second of one and the same day, so that whoever keeps the day's key may use it; today
# only smasync does.

SIGNATURES = 2_000
BATCHES = 10
OWN_HEADERS = {"x-amz-date", "x-amz-security-token", "authorization", "content-length"}


def signing(setting: Setting, number: int) -> Figures:
    """Microseconds of one signature; the headers signed must be the same for all."""
    figures, signed = {}, set()
    for name in turns(("smasync", "botocore", "awscrt", "floor"), number):
        result = contestant(f"sign {name}", setting, count=SIGNATURES // setting.scale)
        figures["sign", name] = result["microseconds"]
        signed.add(result["signed"])
    if len(signed) != 1:
        raise RuntimeError(f"the signers did not sign the same: {signed}")
    return figures


def unsigned(smasync: Any, url: str, members: dict[str, Any]) -> Any:
    """The request of an invocation, without its signature."""
    request = smasync.Client(REGION, endpoint_url=url).explain(**members).request
    headers = tuple(pair for pair in request.headers if pair[0].lower() not in OWN_HEADERS)
    return smasync.Request(request.method, request.url, headers, request.body)


def all_headers(smasync: Any) -> Any:
    return unsigned(smasync, f"https://runtime.sagemaker.{REGION}.amazonaws.com", ALL_MEMBERS)


def seconds_of_today(count: int) -> list[float]:
    now = time.time()
    return [now - now % 86_400 + i for i in range(count)]


def sign_smasync(options: dict[str, Any]) -> dict[str, Any]:
    smasync = load(options)
    request, keys = all_headers(smasync), smasync.Credentials(*KEYS.values())

    def sign(now: float) -> Any:
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        return smasync.sign(request, keys, region=REGION, service="sagemaker", timestamp=date)

    seconds = seconds_of_today(options["count"])
    signed = dict(sign(seconds[0]).request.headers)
    return {"signed": signed_headers(signed), "microseconds": each(sign, lambda: seconds)}


def sign_floor(options: dict[str, Any]) -> dict[str, Any]:
    """What no signer can do without: SHA-256 of the canonical request, and one HMAC."""
    import hashlib
    import hmac

    smasync = load(options)
    keys = smasync.Credentials(*KEYS.values())
    signed = smasync.sign(
        all_headers(smasync), keys, region=REGION, service="sagemaker",
        timestamp="20150830T123600Z",
    )  # fmt: skip
    canonical, rest = signed.canonical_request.encode(), signed.string_to_sign.encode()
    key = bytes(32)

    def sign(_: float) -> None:
        hashlib.sha256(canonical).hexdigest()
        hmac.digest(key, rest, "sha256").hex()

    seconds = seconds_of_today(options["count"])
    result = each(sign, lambda: seconds)
    return {"signed": signed_headers(dict(signed.request.headers)), "microseconds": result}


def sign_botocore(options: dict[str, Any]) -> dict[str, Any]:
    sys.modules["awscrt"] = None  # type: ignore[assignment]
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = all_headers(load(options))
    signer = SigV4Auth(Credentials(*KEYS.values()), "sagemaker", REGION)  # it reads the clock

    def fresh() -> Any:
        return AWSRequest(request.method, request.url, dict(request.headers), data=b"")

    first = fresh()
    signer.add_auth(first)
    microseconds = each(signer.add_auth, lambda: [fresh() for _ in range(options["count"])])
    return {"signed": signed_headers(first.headers), "microseconds": microseconds}


def sign_awscrt(options: dict[str, Any]) -> dict[str, Any]:
    """A configuration is for one point in time, so that making it is part of each signature."""
    from datetime import datetime, timezone

    from awscrt import auth
    from awscrt.http import HttpHeaders, HttpRequest

    request = all_headers(load(options))
    path = urlsplit(request.url).path
    provider = auth.AwsCredentialsProvider.new_static(*KEYS.values())

    def fresh(second: float) -> Any:
        headers = HttpHeaders(list(request.headers))
        return HttpRequest(request.method, path, headers), datetime.fromtimestamp(second, utc)

    def sign(pair: Any) -> Any:
        config = auth.AwsSigningConfig(
            algorithm=auth.AwsSigningAlgorithm.V4, credentials_provider=provider, region=REGION,
            service="sagemaker", date=pair[1],
            signed_body_value=auth.AwsSignedBodyValue.EMPTY_SHA256,
        )  # fmt: skip
        return auth.aws_sign_request(pair[0], config).result()

    utc, seconds = timezone.utc, seconds_of_today(options["count"])
    first = dict(sign(fresh(seconds[0])).headers)
    microseconds = each(sign, lambda: [fresh(second) for second in seconds])
    return {"signed": signed_headers(first), "microseconds": microseconds}


def each(sign: Callable[[Any], object], prepare: Callable[[], list[Any]]) -> float:
    """Microseconds of one call with one of the things prepared: the least of BATCHES."""
    spent = []
    for _ in range(BATCHES):
        things = prepare()
        began = time.perf_counter()
        for thing in things:
            sign(thing)
        spent.append((time.perf_counter() - began) / len(things) * 1e6)
    return min(spent)


def signed_headers(headers: Any) -> str:
    return str(headers["Authorization"]).partition("SignedHeaders=")[2].partition(",")[0]


# --- 5. Rows 5 to 7, 10 and 11: calls ----------------------------------------
# Calls over connections that are kept, after some to warm up. Each client function returns a
# function that makes what one thread calls again and again.
#
# One thread and its server take turns. Left to itself the system moves them between one core and
# two, from one moment to the next, and on two a call of anybody's takes some 40 µs longer: a core
# that slept has to be woken, twice in each call. So row 5 has both on one core, where work alone
# counts, and row 11 on two, as where a network lies between; the targets are the same. More threads
# keep all cores awake, and are left to the system.

TRIES = 3  # of each client in a round; the best of each figure counts
CALLS = {
    # threads: calls of each thread
    1: {"smasync": 1_000, "http.client": 1_500, "boto3": 300},
    16: {"smasync": 100, "http.client": 150, "boto3": 40},
    64: {"smasync": 25, "http.client": 25, "boto3": 12},
}
Caller = Callable[[], Callable[[], object]]


def one_thread(setting: Setting, number: int) -> Figures:
    with on_core(0), server() as url:
        return calls(setting, number, url, 1)


def one_thread_apart(setting: Setting, number: int) -> Figures:
    if len(cores()) < 2:
        return {}
    with contextlib.ExitStack() as stack:
        with on_core(1):
            url = stack.enter_context(server())
        with on_core(0):
            return calls(setting, number, url, 1, " apart")


def sixteen_threads(setting: Setting, number: int) -> Figures:
    return calls(setting, number, setting.http, 16)


def within_tls(setting: Setting, number: int) -> Figures:
    return calls(setting, number, setting.https, 16, " tls")


def waiting_threads(setting: Setting, number: int) -> Figures:
    return calls(setting, number, setting.slow, 64)


def calls(setting: Setting, number: int, url: str, threads: int, how: str = "") -> Figures:
    """Calls a second, 99th percentile in milliseconds, CPU milliseconds of 1,000 calls."""
    figures: Figures = {}
    for _ in range(TRIES):
        for name in turns(tuple(CALLS[threads]), number):
            count = max(5, CALLS[threads][name] // setting.scale)
            result = contestant(f"call {name}", setting, url=url, threads=threads, calls=count)
            for what, value in result.items():
                key, better = (f"{what} {threads}{how}", name), max if what == "calls" else min
                figures[key] = better(figures.get(key, value), value)
    return figures


def call_smasync(options: dict[str, Any]) -> Caller:
    client = load(options).Client(REGION, endpoint_url=options["url"])
    return lambda: lambda: client.invoke_endpoint_async(**MEMBERS)


def call_boto3(options: dict[str, Any]) -> Caller:
    sys.modules["awscrt"] = None  # type: ignore[assignment]
    import boto3
    from botocore.config import Config

    config = Config(max_pool_connections=options["threads"])
    client = boto3.client(
        "sagemaker-runtime", region_name=REGION, endpoint_url=options["url"], config=config
    )
    return lambda: lambda: client.invoke_endpoint_async(**MEMBERS)


def call_http_client(options: dict[str, Any]) -> Caller:
    """The floor: one request, signed beforehand, and a connection for each thread."""
    request, url = presigned(options), urlsplit(options["url"])
    connect: Callable[[str], http.client.HTTPConnection] = http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
        connect = functools.partial(http.client.HTTPSConnection, context=context)

    def make() -> Callable[[], object]:
        connection = connect(url.netloc)

        def call() -> bytes:
            connection.request("POST", request["path"], headers=request["headers"])
            return connection.getresponse().read()

        return call

    return make


def presigned(options: dict[str, Any]) -> dict[str, Any]:
    """Path and headers of one call, signed."""
    client = load(options).Client(REGION, endpoint_url=options["url"])
    request = client.explain(**MEMBERS).request
    return {"path": urlsplit(request.url).path, "headers": dict(request.headers)}


def timed(make: Caller, options: dict[str, Any]) -> dict[str, float]:
    """What the threads did together, from the moment when all of them were warm."""
    threads, count = options["threads"], options["calls"]
    ready, latencies = threading.Barrier(threads + 1), []

    def work() -> None:
        call, own = make(), []
        for _ in range(max(5, count // 10)):
            call()
        ready.wait()
        for _ in range(count):
            began = time.perf_counter()
            call()
            own.append(time.perf_counter() - began)
        latencies.extend(own)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    began, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.join()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if len(latencies) != threads * count:
        raise RuntimeError("a thread failed; its error is above")
    p99 = sorted(latencies)[int(len(latencies) * 0.99)] * 1e3
    done = len(latencies)
    return {"calls": done / seconds, "p99": p99, "cpu": cpu * 1e6 / done}


# --- 6. Row 8: many calls ----------------------------------------------------

SOAK_CALLS = 10_000


def soak(setting: Setting, _: int) -> Figures:
    """How 10,000 calls change the process: cost of a call, memory, living objects."""
    count = max(2, SOAK_CALLS // setting.scale // 1_000) * 1_000
    result = contestant("soak", setting, url=setting.http, calls=count)
    return {(what, "smasync"): value for what, value in result.items()}


def soaked(options: dict[str, Any]) -> dict[str, float]:
    call = call_smasync(options)()
    thousand(call)
    size, objects = resident_mib(), living_objects()
    costs = [thousand(call) for _ in range(options["calls"] // 1_000)]
    size, objects = resident_mib() - size, living_objects() - objects
    return {"drift": costs[-1] / costs[0], "growth": size, "objects": objects}


def thousand(call: Callable[[], object]) -> float:
    """CPU seconds of 100 calls: of 1,000, those that were disturbed least."""
    spent = []
    for _ in range(10):
        began = time.process_time()
        for _ in range(100):
            call()
        spent.append(time.process_time() - began)
    return min(spent)


def resident_mib() -> float:
    """Memory in use now; where only the peak is known, the peak, which grows no later."""
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def living_objects() -> int:
    gc.collect()
    return len(gc.get_objects())


# --- 7. Row 9: bulk ----------------------------------------------------------

BULK_LINES = 10_000
BULK_THREADS = 16
WRONG_USAGE = 252  # the exit status for a command that there is not


def bulk(setting: Setting, number: int) -> Figures:
    """Lines a second of the command beside calls a second of as many threads."""
    lines = BULK_LINES // setting.scale
    start_up = bulk_seconds(setting, 1, f"{number}-1")
    if start_up is None:
        return {}
    all_lines = bulk_seconds(setting, lines, f"{number}-all") or 0.0
    count = lines // BULK_THREADS
    options = {"url": setting.http, "threads": BULK_THREADS, "calls": count}
    result = contestant("call smasync", setting, **options)
    return {
        ("bulk", "smasync"): (lines - 1) / (all_lines - start_up),
        ("bulk", "16 threads"): result["calls"],
    }


def bulk_seconds(setting: Setting, lines: int, name: str) -> float | None:
    """The time of a whole process that sends so many lines; None when there is no such command."""
    manifest = setting.directory / f"{name}-manifest.jsonl"
    manifest.write_text(f"{json.dumps(MEMBERS)}\n" * lines, "utf-8")
    results = setting.directory / f"{name}-results.jsonl"
    command = [
        *PYTHON, str(setting.directory / "smasync.py"), "bulk", str(manifest),
        "--results", str(results), "--concurrency", str(BULK_THREADS),
        "--endpoint-url", setting.http, "--region", REGION,
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, env=environment(setting), capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode == WRONG_USAGE:
        return None
    if done.returncode:
        raise RuntimeError(f"bulk ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds


# --- 8. The table ------------------------------------------------------------


class Line(NamedTuple):
    """One comparison: a figure of ours, and the same of another.

    `better` is how many times better than the other's ours should be at least; `at_most` bounds
    our own figure.
    """

    row: int
    text: str
    figure: str
    other: str
    unit: str
    better: float | None = None
    at_most: float | None = None


# fmt: off
LINES = (
    Line(1, "import and `Client`, over bare Python", "start", "boto3", "ms", better=25),
    Line(2, "peak memory of that, over bare Python", "peak", "boto3", "MiB", at_most=3),
    Line(3, "process to its first answer, https, over bare Python", "first answer", "boto3", "ms", better=3),
    Line(3, "the same", "first answer", "urlopen", "ms", better=0.83),
    Line(4, "one signature", "sign", "botocore", "µs", better=4),
    Line(4, "the same", "sign", "awscrt", "µs"),
    Line(4, "the same; the floor is its SHA-256 and HMAC alone", "sign", "floor", "µs"),
    Line(5, "calls, 1 thread and server on 1 core", "calls 1", "http.client", "calls/s", better=0.35),
    Line(5, "the same", "calls 1", "boto3", "calls/s", better=2.5),
    Line(11, "calls, 1 thread and server on 2 cores", "calls 1 apart", "http.client", "calls/s", better=0.35),
    Line(11, "the same", "calls 1 apart", "boto3", "calls/s", better=2.5),
    Line(6, "calls, 16 threads, one client", "calls 16", "http.client", "calls/s", better=0.35),
    Line(6, "the same", "calls 16", "boto3", "calls/s", better=2.5),
    Line(6, "their 99th percentile", "p99 16", "boto3", "ms"),
    Line(10, "calls, 16 threads, one client, https", "calls 16 tls", "http.client", "calls/s"),
    Line(10, "the same", "calls 16 tls", "boto3", "calls/s"),
    Line(7, "CPU of 1,000 calls, 64 threads, answers after 20 ms", "cpu 64", "boto3", "ms", better=3),
    Line(7, "the same", "cpu 64", "http.client", "ms"),
    Line(8, "10,000 calls: CPU of the last 1,000 over that of the first", "drift", "", "", at_most=1.05),
    Line(8, "memory they leave behind", "growth", "", "MiB", at_most=0.3),
    Line(8, "objects they leave behind", "objects", "", "", at_most=0),
    Line(9, "`bulk` of 10,000 lines, 16 workers", "bulk", "16 threads", "calls/s", better=0.7),
)
MEASURES: tuple[tuple[tuple[int, ...], Callable[[Setting, int], Figures]], ...] = (
    # the rows that it fills, and what measures them once
    ((1, 2), start), ((3,), first_answer), ((4,), signing), ((5,), one_thread),
    ((6,), sixteen_threads), ((7,), waiting_threads), ((8,), soak), ((9,), bulk), ((10,), within_tls),
    ((11,), one_thread_apart),
)
# fmt: on


def table(rounds: list[Figures], rows: list[int]) -> str:
    head = "| | | smasync | compared with | ratio (min–max) | target | reached |"
    lines = [cells(line, rounds) for line in LINES if line.row in rows]
    return "\n".join([head, "|--:|---|--:|--:|--:|--:|---|", *map(" | ".join, lines)])


def cells(line: Line, rounds: list[Figures]) -> list[str]:
    """One row of the table; a figure that could not be measured is "not there"."""
    ours, theirs = values(rounds, line.figure, "smasync"), values(rounds, line.figure, line.other)
    if not ours:
        return [f"| {line.row}", line.text, "not there", "", "", target(line), " |"]
    median, beside, better, ratio = statistics.median(ours), "", 1.0, ""
    if theirs:
        ratios = sorted(times_better(a, b, line.unit) for a, b in zip(ours, theirs))
        better = statistics.median(ratios)
        ratio = f"{better:.3g} ({ratios[0]:.3g}–{ratios[-1]:.3g})"
        beside = f"{line.other}: {shown(statistics.median(theirs), line.unit)}"
    mine, verdict = shown(median, line.unit), f"{reached(line, median, better)} |"
    return [f"| {line.row}", line.text, mine, beside, ratio, target(line), verdict]


def values(rounds: list[Figures], figure: str, whose: str) -> list[float]:
    return [figures[figure, whose] for figures in rounds if (figure, whose) in figures]


def reached(line: Line, ours: float, better: float) -> str:
    if line.better is None and line.at_most is None:
        return ""
    enough = line.better is None or better >= line.better
    little = line.at_most is None or ours <= line.at_most
    return "yes" if enough and little else "no"


def times_better(ours: float, theirs: float, unit: str) -> float:
    return ours / theirs if unit == "calls/s" else theirs / ours


def target(line: Line) -> str:
    if line.at_most is not None:
        return f"≤ {line.at_most:g} {line.unit}".strip()
    return "" if line.better is None else f"≥ {line.better:g}"


def shown(value: float, unit: str) -> str:
    """A figure with three digits, or all of those before the point.

    >>> shown(3.14159, "ms"), shown(31415.9, "calls/s"), shown(-0.0, "")
    ('3.14 ms', '31,416 calls/s', '0')
    """
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value + 0.0:.3g}"
    return f"{digits} {unit}".strip()


def machine(rounds: int) -> str:
    """On what, and with which versions, the figures came about."""
    names = ("boto3", "botocore", "awscrt")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    version, openssl = platform.python_version(), ssl.OPENSSL_VERSION
    return (
        f"{cpu_model()}, {os.cpu_count()} cores; {platform.system()} {platform.release()}; "
        f"{platform.python_implementation()} {version}, {openssl}; {', '.join(versions)}. "
        f"Rounds: {rounds}."
    )


def cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# --- 9. Command line ---------------------------------------------------------

CLIENTS: dict[str, Callable[[dict[str, Any]], Caller]] = {
    "call smasync": call_smasync, "call boto3": call_boto3, "call http.client": call_http_client,
}  # fmt: skip
CONTESTANTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "sign smasync": sign_smasync, "sign botocore": sign_botocore, "sign awscrt": sign_awscrt,
    "sign floor": sign_floor, "presigned": presigned, "soak": soaked,
}  # fmt: skip


def load(options: dict[str, Any]) -> Any:
    """The module smasync that is measured."""
    sys.path.insert(0, options["directory"])
    import smasync

    return smasync


def compete(name: str, text: str) -> None:
    """What a contestant's process does: print its figures as JSON."""
    options = json.loads(text)
    client = CLIENTS.get(name)
    print(json.dumps(timed(client(options), options) if client else CONTESTANTS[name](options)))


def main() -> int:
    options = parsed()
    if options.serve:
        serve(*json.loads(options.serve))
        return 0
    if options.contestant:
        compete(*options.contestant)
        return 0
    missing = [name for name in ("boto3", "awscrt") if not importlib.util.find_spec(name)]
    if missing:
        where = f"{sys.executable} -m pip install --group peers"
        print(f"bench.py: no {' and no '.join(missing)} here; first {where}", file=sys.stderr)
        return 1
    rows = options.row or [line.row for line in LINES]
    rounds = options.rounds or (1 if options.quick else 7)
    with setting(options.smasync, 10 if options.quick else 1) as place:
        figures = [one_round(place, number, rows) for number in range(rounds)]
    print(f"{table(figures, rows)}\n\n{machine(rounds)}")
    return 0


def one_round(setting: Setting, number: int, rows: list[int]) -> Figures:
    figures: Figures = {}
    for fills, measure in MEASURES:
        if set(fills).intersection(rows):
            print(f"round {number + 1}: {measure.__name__}", file=sys.stderr)
            figures.update(measure(setting, number))
    return figures


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="smasync beside boto3, awscrt and the floor.")
    add = parser.add_argument
    add("--rounds", type=int, help="how often all is measured; default 7")
    add("--quick", action="store_true", help="one round of a tenth of the calls")
    add("--row", type=int, action="append", help="only this row of the table; can be repeated")
    add(
        "--smasync", type=Path, default=TESTS.parent / "smasync.py", help="another copy to measure"
    )
    add("--serve", help=argparse.SUPPRESS)
    add("--contestant", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
