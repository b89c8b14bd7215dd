"""Compares what became of Polars' tests by Polars and by Floe with what is known."""

from __future__ import annotations

import json
import pathlib
import sys


def read_known(path: pathlib.Path) -> dict[str, str]:
    """Tests that may fail, each with its reason, which stands above them as a comment."""
    known, reason = {}, "?"
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            known[line] = reason
    return known


def write_known(path: pathlib.Path, known: dict[str, str]) -> None:
    by_reason: dict[str, list[str]] = {}
    for test, reason in known.items():
        by_reason.setdefault(reason, []).append(test)
    parts = [f"# {reason}\n" + "".join(f"{test}\n" for test in sorted(tests)) for reason, tests in sorted(by_reason.items())]
    path.write_text("\n".join(parts))


def main() -> int:
    alone, floe = (json.loads(pathlib.Path(path).read_text()) for path in sys.argv[1:3])
    path = pathlib.Path(sys.argv[3])
    known = read_known(path)
    # Without a query a test says nothing of Floe; one that fails by Polars, neither.
    wanted = [test for test, told in alone.items() if told["outcome"] == "passed" and floe.get(test, {}).get("queries")]
    failed = {test: floe[test].get("why", "") for test in wanted if floe[test]["outcome"] != "passed"}
    queries = sum(floe[test]["queries"] for test in wanted)
    if "--record" in sys.argv:
        write_known(path, {test: known.get(test, " ".join(why.split(": ", 1)[-1].split())[:100]) for test, why in failed.items()})
    new = {test: why for test, why in failed.items() if test not in known}
    mended = [test for test in known if test in wanted and test not in failed]
    for test, why in new.items():
        print(f"FAILED {test}\n    {why}")
    for test in mended:
        print(f"passes by now: {test}")
    print(
        f"upstream: {len(wanted) - len(failed)} of {len(wanted)} tests of Polars with lazy queries ({queries} queries) pass on Floe, "
        f"{len(failed) - len(new)} fail as known, {len(new)} fail, {len(mended)} pass by now"
    )
    return 1 if "--record" not in sys.argv and new else 0


if __name__ == "__main__":
    sys.exit(main())
