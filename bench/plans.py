"""Writes the 22 queries as serialized plans over a data directory.

    python -m bench.plans --data DIR --out DIR [--scale-factor 1]
"""

from __future__ import annotations

import argparse
import pathlib

from bench import pdsh


def write(data: str, out: pathlib.Path, scale_factor: float, queries=pdsh.QUERIES) -> dict[int, pathlib.Path]:
    out.mkdir(parents=True, exist_ok=True)
    paths = {}
    for number in queries:
        paths[number] = out / f"q{number:02}.bin"
        paths[number].write_bytes(pdsh.query(number, data, scale_factor).serialize())
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--scale-factor", type=float, default=1.0)
    args = parser.parse_args()
    write(args.data, args.out, args.scale_factor)
