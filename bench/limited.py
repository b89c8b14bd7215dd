"""Queries whose worker processes are each held to a memory limit by a cgroup, as a pod would be, and what they take.

Works with the memory controller of cgroups v1 and v2, as root. `floe run` starts in a group of ours without a limit, which all of
its processes are born in, and every worker is moved to a group of its own as soon as it is seen there. What the kernel charged
before the move stays with the group it was born in, so it is measured: some MiB of a process that has only begun.

The kernel's peak of a group counts the page cache of the files that its processes read and write, which grows up to the limit
and is given back when memory is wanted. So the parts are looked at beside it: anonymous memory, and memory-backed files
(shmem), which cannot be given back.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import threading
import time

from tests import support

# Between two looks for new workers, and between two looks at what each takes.
SEEN_EVERY, MEASURED_EVERY = 0.002, 0.02


class NotHeld(Exception):
    """A limit cannot be enforced on this machine; says why."""


@dataclasses.dataclass
class Version:
    """What the files of a memory cgroup are called."""

    number: int
    base: pathlib.Path
    limit: str
    peak: str
    anonymous: str
    shmem: str
    # All pages of files, shmem among them.
    cache: str


# In version 1, `total_` counts the groups below as well: a worker's own children may have some.
VERSIONS = [
    Version(
        1,
        pathlib.Path("/sys/fs/cgroup/memory"),
        limit="memory.limit_in_bytes",
        peak="memory.max_usage_in_bytes",
        anonymous="total_rss",
        shmem="total_shmem",
        cache="total_cache",
    ),
    Version(2, pathlib.Path("/sys/fs/cgroup"), limit="memory.max", peak="memory.peak", anonymous="anon", shmem="shmem", cache="file"),
]


def counts(file: pathlib.Path) -> dict[str, int]:
    """A file of lines `name number`; nothing if it is not there."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, _, value in (line.partition(" ") for line in lines) if value.isdigit()}


@dataclasses.dataclass
class Group:
    """The memory cgroup of one worker."""

    path: pathlib.Path
    version: Version

    def parts(self) -> tuple[int, int, int]:
        """Bytes of anonymous memory, memory-backed files and page cache now."""
        stat, names = counts(self.path / "memory.stat"), self.version
        shmem = stat.get(names.shmem, 0)
        return stat.get(names.anonymous, 0), shmem, max(0, stat.get(names.cache, 0) - shmem)

    def peak(self) -> int | None:
        """The most that the kernel ever charged, or none if it does not tell (v2 before Linux 5.19)."""
        try:
            return int((self.path / self.version.peak).read_text())
        except OSError:
            return None

    def times_full(self) -> int:
        """How often the limit was reached, and the kernel looked for something to give back."""
        if self.version.number == 1:
            return int((self.path / "memory.failcnt").read_text())
        return counts(self.path / "memory.events").get("max", 0)

    def kills(self) -> int:
        name = "memory.oom_control" if self.version.number == 1 else "memory.events"
        return counts(self.path / name).get("oom_kill", 0)


class Limits:
    """A memory cgroup for each worker, below one of our own that is removed at the end."""

    def __init__(self, limit: int):
        self.limit = limit
        self.version, self.root = self._root()
        self.born = self.root / "run"
        self.born.mkdir()

    @staticmethod
    def _root() -> tuple[Version, pathlib.Path]:
        why = []
        for version in VERSIONS:
            root = version.base / f"floe-bench-{os.getpid()}"
            if not (version.base / "cgroup.procs").exists():
                why.append(f"v{version.number}: {version.base} is no cgroup")
                continue
            try:
                if version.number == 2:
                    (version.base / "cgroup.subtree_control").write_text("+memory")
                root.mkdir()
                if version.number == 2:
                    (root / "cgroup.subtree_control").write_text("+memory")
                return version, root
            except OSError as error:
                why.append(f"v{version.number}: {error}")
                if root.exists():
                    root.rmdir()
        raise NotHeld("; ".join(why))

    def processes(self) -> list[int]:
        """Those that have not been moved."""
        return [int(pid) for pid in (self.born / "cgroup.procs").read_text().split()]

    def hold(self, pid: int) -> Group:
        """Moves a worker to a group of its own and makes sure that it is held there."""
        path = self.root / str(pid)
        path.mkdir()
        (path / self.version.limit).write_text(str(self.limit))
        (path / "cgroup.procs").write_text(str(pid))
        held = (path / self.version.limit).read_text().strip()
        page = os.sysconf("SC_PAGE_SIZE")
        if int(held) != self.limit // page * page:
            raise NotHeld(f"{path / self.version.limit} is {held}")
        if str(pid) not in (path / "cgroup.procs").read_text().split():
            raise NotHeld(f"process {pid} is not in {path}")
        return Group(path, self.version)

    def clear(self) -> None:
        """Removes the groups of workers that have ended."""
        for group in self.root.iterdir():
            if group.is_dir() and group != self.born:
                try:
                    group.rmdir()
                except OSError:
                    pass

    def close(self) -> None:
        self.clear()
        for group in (self.born, self.root):
            try:
                group.rmdir()
            except OSError:
                pass


@dataclasses.dataclass
class Worker:
    """What one worker process took, in bytes: the largest of what was seen, and what the kernel says itself."""

    group: Group | None = None
    # Of the process: its anonymous memory, and the memory-backed files that it maps.
    own: int = 0
    mapped: int = 0
    # Anonymous memory and shmem right after the move to the group: at most this much is charged to no limit.
    before: int = 0
    # Of the group: these three, and the first two together, at any one time.
    anonymous: int = 0
    shmem: int = 0
    cache: int = 0
    kept: int = 0
    # What the kernel says when the worker has ended.
    peak: int | None = None
    times_full: int = 0
    kills: int = 0
    # Why the limit does not hold, if it does not.
    fault: str = ""

    def measure(self, pid: int) -> None:
        try:
            lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            fields = dict(line.split(":", 1) for line in lines if ":" in line)
            self.own = max(self.own, int(fields["RssAnon"].split()[0]) * 1024)
            self.mapped = max(self.mapped, int(fields["RssShmem"].split()[0]) * 1024)
        except (OSError, KeyError):
            pass
        if self.group is not None:
            anonymous, shmem, cache = self.group.parts()
            self.anonymous, self.shmem = max(self.anonymous, anonymous), max(self.shmem, shmem)
            self.cache, self.kept = max(self.cache, cache), max(self.kept, anonymous + shmem)

    def end(self) -> None:
        if self.group is not None:
            self.peak, self.times_full, self.kills = self.group.peak(), self.group.times_full(), self.group.kills()


def descendants(root: int) -> dict[int, list[str]]:
    """Processes below `root` with their command lines."""
    parents, commands = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
    found, grown = {root}, True
    while grown:
        new = {pid for pid, parent in parents.items() if parent in found} - found
        found, grown = found | new, bool(new)
    return {pid: commands[pid] for pid in found if pid in commands}


def is_worker(pid: int) -> bool:
    try:
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"worker" in command[1:2]


def watch(root: int, stop: threading.Event, limits: Limits | None, workers: dict[int, Worker]) -> None:
    measured = 0.0
    while not stop.wait(SEEN_EVERY if limits is not None else MEASURED_EVERY):
        for pid in limits.processes() if limits is not None else descendants(root):
            if pid in workers or not is_worker(pid):
                continue
            worker = workers[pid] = Worker()
            if limits is not None:
                try:
                    worker.group = limits.hold(pid)
                except (OSError, NotHeld) as error:
                    worker.fault = str(error)
                worker.measure(pid)
                worker.before = worker.own + worker.mapped
        if time.monotonic() - measured >= MEASURED_EVERY:
            measured = time.monotonic()
            for pid, worker in workers.items():
                worker.measure(pid)


@dataclasses.dataclass
class Run:
    seconds: float
    returncode: int
    # What `floe run -o json` says, and all that it says.
    outcome: dict
    output: str
    workers: list[Worker]

    @property
    def held(self) -> bool:
        return bool(self.workers) and all(worker.group is not None for worker in self.workers)

    @property
    def kills(self) -> int:
        return sum(worker.kills for worker in self.workers)


def outcome_of(stdout: str) -> dict:
    for line in reversed(stdout.splitlines()):
        try:
            return json.loads(line).get("outcome", {})
        except ValueError:
            continue
    return {}


def run(query: pathlib.Path, limits: Limits | None, timeout: float) -> Run:
    """Runs a query with `floe run`, its workers held to the limits if there are any."""
    workers: dict[int, Worker] = {}
    stop, begin = threading.Event(), time.perf_counter()
    command = [support.binary("floe"), "run", "--output", "json", str(query)]
    if limits is not None:
        command = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(limits.born / "cgroup.procs"), *command]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watcher = threading.Thread(target=watch, args=(child.pid, stop, limits, workers))
    watcher.start()
    try:
        stdout, stderr = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.terminate()
        stdout, stderr = child.communicate(timeout=60)
        stderr += f"\nstopped after {timeout} s"
    finally:
        stop.set()
        watcher.join()
    seconds = time.perf_counter() - begin
    for worker in workers.values():
        worker.end()
    if limits is not None:
        limits.clear()
    return Run(seconds, child.returncode, outcome_of(stdout), stderr or stdout, list(workers.values()))
