"""Peers see nothing of this machine: no keys, no profile, no proxy. Set before any is imported."""

from __future__ import annotations

import os

for name in list(os.environ):
    if name.startswith(("AWS_", "BOTO_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ.update(
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    AWS_EC2_METADATA_DISABLED="true",
    # awscrt is a peer of its own here; boto3 is to be what it is without it: pure Python.
    BOTO_DISABLE_CRT="true",
)
