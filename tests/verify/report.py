"""Checks many random plans with new seeds, in every setting of random.settings, and keeps a table of what came out.

    python -m tests.verify.report [--plans 20000] [--seed S] [--minutes M] [--batch 500] [--faults DIR] [--write]

Plans are checked in batches, in turn by setting, until there are enough or the time is over; `--write` keeps the table in
bench/results/random.md after each batch. Every difference that tests/verify/expected.yaml does not know is listed with the command
that makes its plan again, and with `--faults` written to a directory with a smaller plan that has it, too. Ends with 1 then.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from bench.report import machine
from tests import support

HERE = pathlib.Path(__file__).parent
TABLE = support.REPO / "bench/results/random.md"
EXPECT = HERE / "expected.yaml"


@dataclasses.dataclass
class Setting:
    name: str
    version: str
    share: int
    execution: str
    seed: int = 0
    plans: int = 0
    ran: int = 0
    staged: int = 0
    distributed: int = 0
    seconds: float = 0.0
    outcomes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    known: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    # What is not known, each with its outcome, and what differs.
    faults: list[dict] = dataclasses.field(default_factory=list)

    def command(self, first: int, count: int) -> list[str]:
        return [
            "floe-runner", "verify", "--random", str(count), "--seed", str(self.seed), "--from", str(first),
            "--oracle", "python", "--oracle-version", self.version, "--execution", self.execution,
        ]  # fmt: skip

    def run(self, count: int, faults: pathlib.Path | None) -> None:
        """Checks the next plans."""
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            # Files that the plans scan are kept there, named by the plans' indices: a directory for each seed.
            more = ["--shrink", str(faults / str(self.seed))] if faults else []
            command = [*self.command(self.plans, count), "--expect", str(EXPECT), "--json", report.name, *more]
            command[0] = support.binary(command[0])
            child = subprocess.run(command, capture_output=True, text=True)
            text = pathlib.Path(report.name).read_text()
            if child.returncode not in (0, 1) or not text:
                raise SystemExit(f"{' '.join(command)} ended with {child.returncode}: {child.stderr[-2000:]}")
        self.add(json.loads(text))

    def add(self, report: dict) -> None:
        self.plans += report["plans"]
        self.ran += report["ran"]
        self.staged += report["staged"]
        self.distributed += report["distributed"]
        self.seconds += report["seconds"]
        for one in report["checked"]:
            if one.get("expected"):
                self.known[one["expected"]] += 1
            elif one["outcome"] in HARMLESS:
                self.outcomes[one["outcome"]] += 1
            else:
                self.outcomes["fault"] += 1
                self.faults.append(one)


# The outcomes that are no faults (runner/src/verify/class.rs), as the JSON names them.
HARMLESS = {"equal": "equal", "failed-alike": "failed alike", "not-promised": "not promised", "could-not-be-read": "could not be read"}


def settings() -> list[Setting]:
    lines = [line for line in (HERE / "random.settings").read_text().splitlines() if line and not line.startswith("#")]
    found = [line.split(maxsplit=3) for line in lines]
    return [Setting(name, version, int(share), execution) for name, version, share, execution in found]


def shell(command: list[str]) -> str:
    return " ".join(f"'{word}'" if "{" in word else word for word in command)


def table(all_of: list[Setting], about: dict, date: str) -> str:
    total = sum(one.plans for one in all_of)
    faults = [(one, fault) for one in all_of for fault in one.faults]
    known = sum((one.known for one in all_of), collections.Counter())
    lines = [
        "# Random plans",
        "",
        f"{total:,} random plans, distributed over three workers, beside single-node Polars of the same Rust version and the Python wheel",
        "that is named ([docs/verify.md](../../docs/verify.md)). Made by `make verify-report`:",
        f"revision {about['revision']}, {date}, {about['cpu']}, {about['cpus']} CPUs. *In stages*: of the plans that ran, those in more than",
        "one stage; *distributed*: those of them without a node on one worker. *Known* differences are those of",
        "[expected.yaml](../../tests/verify/expected.yaml); *failed alike*: both sides refuse the plan with the same error.",
        "",
    ]
    head = ["setting", "wheel", "spec.execution", "seed", "plans", *HARMLESS.values(), "known", "order differs", "other faults",
            "in stages", "distributed"]  # fmt: skip
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * 4 + "---:|" * (len(head) - 4)]
    for one in all_of:
        order = sum(fault["outcome"] == "order-differs" for fault in one.faults)
        cells = [one.name, one.version, f"`{one.execution}`", str(one.seed), str(one.plans)]
        cells += [str(one.outcomes[name]) for name in HARMLESS]
        cells += [str(one.known.total()), str(order), str(len(one.faults) - order)]
        cells += [f"{count / max(1, one.ran):.1%}" for count in (one.staged, one.distributed)]
        lines.append("| " + " | ".join(cells) + " |")
    if known:
        lines += ["", "Known differences between versions:", "", "| plans | what |", "|---:|---|"]
        lines += [f"| {count} | {what} |" for what, count in known.most_common()]
    lines += ["", "No other difference." if not faults else "Differences that are not known:", ""]
    for setting, fault in faults:
        # The index is that in all plans of the seed: `--from` makes this one again.
        index = int(fault["plan"].rsplit("-", 1)[-1].split(".")[0])
        detail = " ".join((fault.get("detail") or "").split())[:400].replace("`", "'")
        lines += [f"- {fault['outcome']}: `{detail}`", f"  `{shell(setting.command(index, 1))}`"]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=20_000, help="of all settings together")
    parser.add_argument("--seed", type=int, default=None, help="of the first setting; the others take the following ones (default: new)")
    parser.add_argument("--minutes", type=float, default=None, help="stop after the batch in which this time is over")
    parser.add_argument("--batch", type=int, default=500, help="plans of a setting before the next has its turn")
    parser.add_argument("--faults", type=pathlib.Path, default=None, help="write plans that differ, and shrunk ones, to this directory")
    parser.add_argument("--write", action="store_true", help=f"keep the table in {TABLE.relative_to(support.REPO)}")
    args = parser.parse_args()

    seed = args.seed if args.seed is not None else random.randrange(10**6)
    all_of = settings()
    for place, one in enumerate(all_of):
        one.seed = seed + place
    wanted = args.plans / sum(1 / one.share for one in all_of)
    about, date, end = machine(), time.strftime("%Y-%m-%d"), time.monotonic() + 60 * (args.minutes or 10**6)
    print(f"seed {seed}", flush=True)
    while time.monotonic() < end:
        # The setting that is furthest behind.
        one = min(all_of, key=lambda one: one.plans * one.share)
        left = round(wanted / one.share) - one.plans
        if left <= 0:
            break
        one.run(min(args.batch // one.share, left), args.faults)
        if args.write:
            TABLE.write_text(table(all_of, about, date))
        print(f"{one.name}: {one.plans} plans, {one.known.total()} known, {len(one.faults)} not, {one.seconds:.0f} s", flush=True)
    print(table(all_of, about, date))
    return 1 if any(one.faults for one in all_of) else 0


if __name__ == "__main__":
    sys.exit(main())
