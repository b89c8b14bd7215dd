"""Puts the tables of PDS-H into the store in the cluster: at 0.1 for most tests, and at another scale for PDS-H itself.

    python -m tests.e2e.load [scale factor]
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

from tests.e2e import kube, store


def main() -> None:
    client = store.client()
    kube.wait("the store answers", 60, lambda: client.list_buckets())
    if store.BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=store.BUCKET)
    for scale in dict.fromkeys(["0.1", *sys.argv[1:]]):
        made = subprocess.run([kube.REPO / "tests" / "data", scale], check=True, stdout=subprocess.PIPE, text=True, timeout=900)
        store.upload_tables(pathlib.Path(made.stdout.strip().splitlines()[-1]), f"sf{scale}")


main()
