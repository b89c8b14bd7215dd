"""Apache's own Iceberg REST catalog on loopback, built once into the cache directory. Needs Java 17 and Maven."""

from __future__ import annotations

import collections.abc
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).parent
SOURCES = [HERE / "pom.xml", HERE / "Rest.java"]


def missing() -> str | None:
    """What is not on this machine."""
    return next((program for program in ("java", "javac", "mvn") if shutil.which(program) is None), None)


def build() -> pathlib.Path:
    """The directory with the classes and the libraries."""
    cache = pathlib.Path(os.environ.get("FLOE_CACHE", pathlib.Path.home() / ".cache" / "floe"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()[:12]
    made = cache / f"iceberg-rest-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(f"{made}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "Rest.class").exists():
            made.mkdir(exist_ok=True)
            shutil.copy(HERE / "pom.xml", made)
            run = lambda *command: subprocess.run(command, cwd=made, check=True, stdin=subprocess.DEVNULL, timeout=1200)
            run("mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib")
            run("javac", "-cp", "lib/*", "-d", ".", str(HERE / "Rest.java"))
    return made


@contextlib.contextmanager
def serve(directory: pathlib.Path, warehouse: str | None = None) -> collections.abc.Iterator[str]:
    """Serves a new catalog whose database is in `directory`, and gives its address. It ends with this process."""
    made = build()
    warehouse = warehouse or (directory / "warehouse").as_uri()
    command = ["java", "-Xmx256m", "-cp", f"{made}:{made}/lib/*", "Rest", str(directory / "catalog.db"), warehouse]
    with open(directory / "catalog.log", "w") as log:
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        for line in server.stdout:
            if line.startswith("port "):
                break
        else:
            raise RuntimeError(f"the catalog did not start: {(directory / 'catalog.log').read_text()[-2000:]}")
        yield f"http://127.0.0.1:{int(line.split()[1])}"
    finally:
        server.stdin.close()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()
