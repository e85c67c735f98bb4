"""The main job without an account: enqueue two inferences, and show what went over the wire.

    python3 tests/demo.py

The service is tests/emulator.py, in this process.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emulator import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Emulator, verify  # noqa: E402

import smasync  # noqa: E402


def main() -> None:
    with Emulator() as emulator, client_of(emulator) as sagemaker:
        accepted = sagemaker.invoke_endpoint_async(
            EndpointName="my-endpoint", ContentType="application/json", Body=b"[3, 1, 4, 1, 5]"
        )
        show_request(emulator)
        show_answer(emulator, accepted)

        emulator.put("s3://my-bucket/hamlet.txt", b"to be or not to be", "text/plain")
        show("An input in S3, s3://my-bucket/hamlet.txt, says", "to be or not to be")
        accepted = sagemaker.invoke_endpoint_async(
            EndpointName="my-endpoint", InputLocation="s3://my-bucket/hamlet.txt"
        )
        show_answer(emulator, accepted)


def client_of(emulator: Emulator) -> smasync.Client:
    """A client of the emulator; for AWS, smasync.Client() finds all this as the AWS CLI does."""
    return smasync.Client(
        "us-east-1",
        endpoint_url=emulator.url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        # Nothing of this machine's settings but its proxies, which loopback never goes through.
        environ={k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")},
    )


def show_request(emulator: Emulator) -> None:
    """The last request as it arrived, and what the emulator, reading it, knows to be signed."""
    received = emulator.requests[-1]
    verified = verify(received, emulator.accounts)
    head = received.head.decode().replace(", Sign", ",\r\n    Sign")  # Authorization is long
    show("smasync sent this request (its last header is one line)", head + received.body.decode())
    show("The canonical request, which is what gets signed", verified.canonical_request)
    show("The string to sign, whose last line is that text's SHA-256", verified.string_to_sign)


def show_answer(emulator: Emulator, accepted: dict[str, Any]) -> None:
    """What the call returned, but for ResponseMetadata, and the object at its OutputLocation."""
    members = {name: accepted[name] for name in accepted if name != "ResponseMetadata"}
    show("The service answered that the inference is enqueued", json.dumps(members, indent=2))
    result = emulator.get(accepted["OutputLocation"])
    show("The model has written to OutputLocation", result.decode())


def show(title: str, text: str) -> None:
    print(f"{title}:\n\n{textwrap.indent(text, '    ')}\n".replace("\r\n", "\n"))


if __name__ == "__main__":
    main()
