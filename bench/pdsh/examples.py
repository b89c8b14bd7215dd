"""Writes `examples/pdsh/qN.yaml` from the scripts, so that the examples and the benchmark run the same queries.

    python -m bench.pdsh.examples [--check]
"""

from __future__ import annotations

import pathlib
import sys

from bench import pdsh

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "pdsh"


def text(number: int) -> str:
    script = pdsh.script(number)
    title, _, body = script.partition("\n")
    title = title.removeprefix("# PDS-H ").partition(":")[2].partition(".")[0].strip()
    lines = [
        f"# PDS-H query {number}: {title}. Made from bench/pdsh/q{number:02}.py by `python -m bench.pdsh.examples`.",
        "apiVersion: floe.dev/v1alpha1",
        "kind: DistributedQuery",
        f"metadata: {{name: pdsh-q{number}}}",
        "spec:",
        "  plan:",
        "    python:",
        "      script: |",
        *(f"        {line}".rstrip() for line in body.strip("\n").split("\n")),
        "  tables:",
        *(f'    {table}: {{format: parquet, uri: "data/{table}/*.parquet"}}' for table in pdsh.tables_of(number)),
    ]
    if "params.get(" in body:
        lines.append("  params: {scale_factor: 1}")
    lines.append("  compute: {workers: 2, cpus: 1, memory: 2Gi}")
    return "\n".join(lines) + "\n"


def main() -> int:
    check = "--check" in sys.argv[1:]
    EXAMPLES.mkdir(parents=True, exist_ok=True)
    stale = []
    for number in pdsh.QUERIES:
        path = EXAMPLES / f"q{number}.yaml"
        if not path.exists() or path.read_text() != text(number):
            stale.append(path.name)
            if not check:
                path.write_text(text(number))
    if check and stale:
        print(f"examples/pdsh is not what the scripts give: {', '.join(stale)}; run python -m bench.pdsh.examples")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
