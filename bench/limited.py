"""Queries whose worker processes are each held to a memory limit by a cgroup, as a pod would be, and what they take.

Works with cgroups v1 and v2, as root; where they cannot be had the peaks are only watched.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time

from tests import support


class Limits:
    """A memory cgroup per process, below one of our own."""

    def __init__(self, limit: int, enforce: bool = True):
        self.limit = limit
        self.root = None
        if not enforce:
            return
        for base, file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            root = pathlib.Path(base) / f"floe-bench-{os.getpid()}"
            if not (pathlib.Path(base) / "cgroup.procs").exists():
                continue
            try:
                root.mkdir()
            except OSError:
                continue
            self.root, self.file = root, file
            return

    def hold(self, pid: int) -> None:
        if self.root is None:
            return
        group = self.root / str(pid)
        try:
            group.mkdir()
            (group / self.file).write_text(str(self.limit))
            (group / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            print(f"memory: no limit for process {pid}: {error}", file=sys.stderr)

    def kills(self) -> int:
        count = 0
        for group in self.root.iterdir() if self.root else []:
            if group.is_dir():
                for name in ("memory.oom_control", "memory.events"):
                    file = group / name
                    for line in file.read_text().splitlines() if file.exists() else []:
                        key, _, value = line.partition(" ")
                        count += int(value) if key == "oom_kill" else 0
        return count

    def close(self) -> None:
        if self.root is not None:
            for group in [*self.root.iterdir(), self.root]:
                if group.is_dir():
                    try:
                        group.rmdir()
                    except OSError:
                        pass


@dataclasses.dataclass
class Peak:
    own: int = 0  # anonymous memory
    shared: int = 0  # memory-backed files that it maps


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


def watch(root: int, stop: threading.Event, limits: Limits, peaks: dict[int, Peak]) -> None:
    while not stop.wait(0.02):
        for pid, command in descendants(root).items():
            if "worker" not in command[1:]:
                continue
            if pid not in peaks:
                peaks[pid] = Peak()
                limits.hold(pid)
            try:
                fields = dict(
                    line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
                )
                peak = peaks[pid]
                peak.own = max(peak.own, int(fields["RssAnon"].split()[0]) * 1024)
                peak.shared = max(peak.shared, int(fields["RssShmem"].split()[0]) * 1024)
            except (OSError, KeyError):
                continue


@dataclasses.dataclass
class Run:
    seconds: float
    returncode: int
    output: str
    peaks: list[Peak]
    oom_kills: int

    @property
    def own(self) -> int:
        return max((peak.own for peak in self.peaks), default=0)

    @property
    def shared(self) -> int:
        return max((peak.shared for peak in self.peaks), default=0)


def run(query: pathlib.Path, limits: Limits, timeout: float) -> Run:
    """Runs a query with `floe run`; what it says at the end is in `output`."""
    peaks: dict[int, Peak] = {}
    stop, before, begin = threading.Event(), limits.kills(), time.perf_counter()
    command = [support.binary("floe"), "run", str(query)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watcher = threading.Thread(target=watch, args=(child.pid, stop, limits, peaks))
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
    return Run(seconds, child.returncode, stderr + stdout, list(peaks.values()), limits.kills() - before)
