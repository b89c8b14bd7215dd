"""Fixtures of the Python tests: data, a clean directory to run in."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

REPO = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(REPO))


@pytest.fixture(scope="session")
def data():
    """data(scale_factor) -> directory of the PDS-H tables, made when missing."""

    def make(scale_factor: str) -> pathlib.Path:
        done = subprocess.run(
            [REPO / "tests" / "data", scale_factor], check=True, stdout=subprocess.PIPE, text=True, timeout=600
        )
        return pathlib.Path(done.stdout.strip().splitlines()[-1])

    return make


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """An empty current directory with the repository's examples in it, as `examples/...` in their URIs wants."""
    (tmp_path / "examples").symlink_to(REPO / "examples")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    left = [path.name for path in tmp_path.iterdir() if path.name not in ("examples", "data", "out")]
    assert not left, f"the query left files behind: {left}"


@dataclasses.dataclass
class S3:
    endpoint: str
    key: str = "floe"
    secret: str = "floe-secret"
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_REGION": self.region}

    @property
    def credentials(self) -> dict[str, str]:
        return {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret}

    @property
    def storage(self) -> dict:
        """As `spec.storage` has it, without credentials."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "options": {"aws_allow_http": "true", "aws_virtual_hosted_style_request": "false"},
        }

    def client(self):
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def server(command: list[str], url: str, log: pathlib.Path):
    """A server until the end of the block, once it answers at `url` with whatever it likes."""
    with log.open("w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        for _ in range(300):
            assert child.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server with a bucket `floe`."""
    directory, port = tmp_path_factory.mktemp("s3"), free_port()
    subprocess.run([REPO / "tests" / "s3-server.sh", "build"], check=True, stdout=subprocess.DEVNULL, timeout=900)
    store = S3(f"http://127.0.0.1:{port}")
    command = [REPO / "tests" / "s3-server.sh", "run", directory / "data", str(port)]
    with server(command, store.endpoint, directory / "log"):
        store.client().create_bucket(Bucket="floe")
        yield store


@pytest.fixture(scope="session")
def s3_tables_of(s3, data):
    """Puts the PDS-H tables at a scale factor in the bucket; gives their prefix."""

    def put(scale_factor: str) -> str:
        client, source = s3.client(), data(scale_factor)
        for path in source.rglob("*.parquet"):
            client.upload_file(str(path), "floe", f"sf{scale_factor}/{path.relative_to(source)}")
        return f"s3://floe/sf{scale_factor}"

    return functools.cache(put)


@pytest.fixture(scope="session")
def s3_tables(s3_tables_of):
    """The PDS-H tables at scale factor 0.1 in the bucket; gives their prefix."""
    return s3_tables_of("0.1")


def pytest_configure(config):
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
