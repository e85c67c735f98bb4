"""The main job without an account: enqueue two inferences, and show what went over the wire.

    python3 tests/demo.py

The service is tests/emulator.py, in this process. Against AWS, leave out `endpoint_url`, the
keys and `environ`: they then come from where the AWS CLI has them.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import smasync  # noqa: E402
from emulator import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Emulator, verify  # noqa: E402


def main() -> None:
    # Of this machine's settings only the proxies: a client on loopback goes past them.
    environ = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
    with Emulator() as emulator, smasync.Client(
        "us-east-1",
        endpoint_url=emulator.url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        environ=environ,
    ) as sagemaker:
        by_body = sagemaker.invoke_endpoint_async(
            EndpointName="my-endpoint", ContentType="application/json", Body=b"[3, 1, 4, 1, 5]"
        )
        show_request(emulator)
        show_answer(emulator, by_body)

        text = b"to be or not to be"
        emulator.put("s3://my-bucket/hamlet.txt", text, "text/plain")
        show("Next, an input in S3: s3://my-bucket/hamlet.txt, which says", text.decode())
        by_location = sagemaker.invoke_endpoint_async(
            EndpointName="my-endpoint", InputLocation="s3://my-bucket/hamlet.txt"
        )
        show_answer(emulator, by_location)


def show_request(emulator: Emulator) -> None:
    """The last request as its bytes arrived, and what its signature says was signed."""
    received = emulator.requests[-1]
    head = received.head.decode().rstrip().replace(", S", ",\r\n    S")  # a long Authorization
    show("The request, byte for byte (one line folded)", f"{head}\r\n\r\n{received.body.decode()}")
    verified = verify(received, emulator.accounts)
    show("Its canonical request, which the signature covers", verified.canonical_request)
    show("The string to sign: when, for whom, and that text's hash", verified.string_to_sign)


def show_answer(emulator: Emulator, accepted: dict[str, str]) -> None:
    """The answer that the client returned, and the object at its OutputLocation."""
    members = {name: accepted[name] for name in accepted if name != "ResponseMetadata"}
    show("The answer: the inference is enqueued", json.dumps(members, indent=2))
    result = emulator.get(accepted["OutputLocation"])
    show("What the model wrote to OutputLocation", result.decode())


def show(title: str, text: str) -> None:
    lines = "\n".join(text.splitlines())
    print(f"{title}:\n\n{textwrap.indent(lines, '    ')}\n")


if __name__ == "__main__":
    main()
