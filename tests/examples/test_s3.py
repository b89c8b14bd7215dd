"""The example over an S3 store: tables, credentials from the environment, a sink committed there."""

from __future__ import annotations

import subprocess

import yaml

from tests import support


def test_s3_example(s3, workdir, data, monkeypatch):
    client, source = s3.client(), data("0.01")
    for table in ("nation", "region"):
        for path in (source / table).glob("*.parquet"):
            client.upload_file(str(path), "floe", f"{table}/{path.name}")
    query = support.load(support.REPO / "examples" / "s3.yaml")
    query["spec"]["storage"]["endpoint"] = s3.endpoint
    path = workdir / "s3.yaml"
    path.write_text(yaml.safe_dump(query, sort_keys=False))
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)

    # Twice: the second run replaces what the first one left.
    for _ in range(2):
        done = subprocess.run(
            [support.binary("floe"), "run", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert s3.secret not in done.stderr + done.stdout
    path.unlink()

    want = support.single_node(query, s3.credentials)
    got = support.read_sink(query["spec"]["sink"], s3.credentials, query["spec"]["storage"])
    support.assert_same(got, want, ordered=False)
    assert client.list_multipart_uploads(Bucket="floe").get("Uploads", []) == []
