"""What becomes of the queries of a soak: how each is written, what is done to it, and how it has to end. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

# So many groups does the table of SF 0.1 have: every success gives as many rows.
ROWS = 1000
SMALL = """
result = scan("lineitem").group_by("l_suppkey").agg(pl.len().alias("n"))
"""
# Stays for longer than its deadline.
ENDLESS = """
import time
time.sleep(3600)
result = scan("lineitem")
"""
FAILING = """
raise ValueError("as it has to be")
result = None
"""
# How often each fate comes, of a hundred.
WEIGHTS = {"succeeds": 45, "held": 10, "cancelled": 10, "deleted": 10, "script": 8, "data": 7, "deadline": 5, "waits": 5}


@dataclass
class Fate:
    """One query."""

    name: str
    kind: str
    # Seconds after its creation at which something is done to it, and what.
    acts: list[tuple[float, str]] = field(default_factory=list)
    workers: int = 1

    def spec(self, base: dict) -> dict:
        """Its spec over that of a query that succeeds."""
        spec = base | {"backoffLimit": 50, "plan": {"python": {"script": SMALL}}}
        if self.kind == "script":
            spec["plan"] = {"python": {"script": FAILING}}
            spec.pop("tables", None)
        if self.kind == "data":
            tables = {name: table | {"uri": table["uri"].replace("sf0.1", "not-there")} for name, table in base["tables"].items()}
            spec["tables"] = tables
        if self.kind == "deadline":
            spec["plan"] = {"python": {"script": ENDLESS, "timeoutSeconds": 3600}}
            spec["activeDeadlineSeconds"] = 10
        if self.kind == "waits":
            spec["after"] = [{"query": f"{self.name}-before", "condition": "Ended"}]
        return spec

    def fault(self, status: dict | None) -> str | None:
        """What is wrong with its end: None if it is as it has to be. A query that is gone has no status."""
        if self.kind == "deleted":
            return None if status is None else f"is there still: {status.get('phase')}"
        if status is None:
            return "is gone"
        phase, reason = status.get("phase"), status.get("reason")
        want = {
            "script": [("Failed", "BadScript")],
            "data": [("Failed", "MissingData")],
            "deadline": [("Failed", "Deadline")],
            # The commit may have been faster.
            "cancelled": [("Cancelled", "Cancelled"), ("Succeeded", "Completed")],
        }.get(self.kind, [("Succeeded", "Completed")])
        if (phase, reason) not in want:
            return f"ended as {phase} ({reason}): {status.get('message')}"
        if phase == "Succeeded" and status.get("rows") != ROWS:
            return f"has {status.get('rows')} rows"
        return None


def draw(count: int, seed: int) -> list[Fate]:
    """So many queries, the same for the same seed."""
    luck = random.Random(seed)
    made = []
    for number in range(count):
        kind = luck.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        at = round(luck.uniform(0, 12), 1)
        acts = {
            "held": [(at, "suspend"), (at + 5, "resume")],
            "cancelled": [(at, "cancel")],
            "deleted": [(at, "delete")],
            "waits": [(at, "make-before")],
        }.get(kind, [])
        made.append(Fate(f"soak-{number}", kind, acts, luck.choice([1, 1, 2])))
    return made


FAULTS = {"coordinator": 4, "worker": 4, "operator": 2, "api-server": 1, "etcd": 1}


def faults(seconds: float, every: float, seed: int, has_control_plane: bool) -> list[tuple[float, str]]:
    """When what is killed. The API server and etcd only where they can be started again."""
    luck = random.Random(seed + 1)
    kinds = {kind: weight for kind, weight in FAULTS.items() if has_control_plane or kind not in ("api-server", "etcd")}
    at, made = 0.0, []
    while (at := at + luck.expovariate(1 / every)) < seconds:
        made.append((round(at, 1), luck.choices(list(kinds), list(kinds.values()))[0]))
    return made
