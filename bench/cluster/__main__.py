"""What a query costs on Kubernetes beyond its work, and what thousands of them cost the operator.

    python -m bench.cluster [latency|load|contexts ...] [--queries 1000 5000] [--write]

`latency`: from apply to Succeeded for a tiny query with images present, and where the time goes, by timestamps.
`load`: DistributedQuery objects whose pods are played by a fake kubelet (fakekubelet/): the operator's memory, time from a
query's creation to its pods, none stuck.
`contexts`: from a query's creation to its end on a warm context, alone and 200 of 20 users at once; memory of its pods at rest.
Ends with 1 when queries are stuck or a tiny one takes too long (contexts.py). All run on the cluster that KUBECONFIG names, where
tests/e2e/install has put Floe.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import sys

from bench.cluster import contexts, latency, load
from bench.report import revision

RESULTS = pathlib.Path(__file__).parents[1] / "results"


def machine() -> dict:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    loads = os.getloadavg()[0]
    return {
        "cores": os.cpu_count(), "memoryGiB": round(memory), "kernel": platform.release(), "revision": revision(),
        "loadBefore": round(loads, 1),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["latency", "load", "contexts", []], default=["latency", "load", "contexts"])
    parser.add_argument("--queries", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results")
    args = parser.parse_args()
    figures = {"machine": machine()}
    if "latency" in args.what:
        figures["latency"] = latency.measure(args.repeats)
    if "load" in args.what:
        figures["load"] = [load.measure(count, args.workers) for count in args.queries]
    if "contexts" in args.what:
        figures["contexts"] = contexts.measure(args.repeats)
    print(json.dumps(figures, indent=1))
    if args.write:
        path = RESULTS / "cluster.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | figures, indent=1) + "\n")
    bad = [f"{one['stuck']} queries are stuck" for one in figures.get("load", []) if one["stuck"]]
    bad += contexts.too_slow(figures["contexts"]) if "contexts" in figures else []
    for words in bad:
        print(f"bench: {words}", file=sys.stderr)
    return 1 if bad else 0


sys.exit(main())
