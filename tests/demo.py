"""The whole job without an account: put an input, invoke, wait, and see the result; then a failure.

    python3 tests/demo.py

SageMaker and S3 are tests/emulator.py, in this process. In between it shows what went over the wire.
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

MODEL_SECONDS = 0.5  # so that there is something to wait for


def main() -> None:
    with Emulator(latency=MODEL_SECONDS) as emulator, client_of(emulator) as sagemaker:
        location = sagemaker.put_input(b'{"values": [3, 1, 4, 1, 5]}', "s3://my-bucket/in.json")
        show("put_input has put an input into S3", location)

        accepted = sagemaker.invoke_endpoint_async(
            EndpointName="my-endpoint", InputLocation=location, ContentType="application/json"
        )
        show_request(emulator)
        show_answer(accepted)

        result = sagemaker.wait(accepted)
        show("wait has the result, which the model wrote to OutputLocation", result.body.decode())

        accepted = sagemaker.invoke_endpoint_async(EndpointName="my-endpoint", Body="?!")
        try:
            sagemaker.wait(accepted)
        except smasync.InferenceError as error:
            show("InferenceError, for an input of which the model can make nothing", str(error))


def client_of(emulator: Emulator) -> smasync.Client:
    """A client of the emulator; for AWS, smasync.Client() finds all this as the AWS CLI does."""
    # Nothing of this machine's settings but its proxies, which loopback never goes through.
    proxies = {name: os.environ[name] for name in os.environ if name.lower().endswith("_proxy")}
    return smasync.Client(
        "us-east-1",
        endpoint_url=emulator.url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        environ={**proxies, "AWS_ENDPOINT_URL_S3": emulator.url},
    )


def show_request(emulator: Emulator) -> None:
    """The last request as it arrived, and what the emulator, reading it, knows to be signed."""
    received = emulator.requests[-1]
    verified = verify(received, emulator.accounts)
    head = received.head.decode().replace(", Sign", ",\r\n    Sign")  # Authorization is long
    show("This request arrived at SageMaker (its last header is one line)", head.rstrip())
    show("The canonical request, which is what gets signed", verified.canonical_request)
    show("The string to sign, whose last line is that text's SHA-256", verified.string_to_sign)


def show_answer(accepted: dict[str, Any]) -> None:
    """What the call returned, but for ResponseMetadata."""
    members = {name: accepted[name] for name in accepted if name != "ResponseMetadata"}
    show("The service answered that the inference is enqueued", json.dumps(members, indent=2))


def show(title: str, text: str) -> None:
    print(f"{title}:\n\n{textwrap.indent(text, '    ')}\n".replace("\r\n", "\n"), flush=True)


if __name__ == "__main__":
    main()
