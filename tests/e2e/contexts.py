"""Contexts of the end-to-end tests: making and changing them, waiting for what they tell, queries that borrow them."""

from __future__ import annotations

from tests.e2e import kube, store
from tests.e2e.queries import GROUPS, ROOMY

SMALL = {"cpus": "50m", "memory": "384Mi", "coordinator": {"cpus": "50m", "memory": "640Mi", "scratch": "512Mi"}}
# For queries that stand at a gate.
LARGER = {**SMALL, "memory": ROOMY}
COUNT = "SELECT l_suppkey, count(*) AS n FROM lineitem GROUP BY l_suppkey"


class Contexts:
    """The contexts of one namespace."""

    def __init__(self, queries):
        self.queries, self.namespace = queries, queries.namespace

    def create(self, name: str = "warm", **spec) -> None:
        spec = {"minWorkers": 1, "maxWorkers": 2, "compute": SMALL, "storage": store.STORAGE, **spec}
        body = {"apiVersion": "floe.dev/v1alpha1", "kind": "ComputeContext", "metadata": {"name": name}, "spec": spec}
        kube.create("computecontexts", self.namespace, body)

    def status(self, name: str = "warm") -> dict:
        return (kube.get("computecontexts", self.namespace, name) or {}).get("status") or {}

    def wait(self, what: str, ask, limit_seconds: float = 60, name: str = "warm") -> dict:
        def now():
            status = self.status(name)
            return status if status and ask(status) else None

        return kube.wait(
            f"{name}: {what}", limit_seconds, now, lambda: f"last: {self.status(name)}\n{kube.story(self.namespace)}"
        )

    def ready(self, workers: int = 1) -> dict:
        return self.wait(f"{workers} workers", lambda status: status.get("workers", {}).get("ready", 0) >= workers)

    def pods(self, role: str | None = None, name: str = "warm") -> list[dict]:
        return kube.items("pods", self.namespace, f"floe.dev/context={name}" + (f",floe.dev/role={role}" if role else ""))

    def revision(self, number: int) -> list[dict]:
        """The pods of one coordinator and its workers."""
        return [pod for pod in self.pods() if pod["metadata"]["labels"]["floe.dev/attempt"] == str(number)]

    def events(self, name: str = "warm") -> list[dict]:
        return self.queries.events(name)

    def change(self, name: str = "warm", **spec) -> None:
        kube.patch("computecontexts", self.namespace, name, {"spec": spec})

    def delete(self, name: str = "warm") -> None:
        kube.request("DELETE", kube.path("computecontexts", self.namespace, name))

    def nothing_left(self) -> None:
        for one in kube.items("computecontexts", self.namespace):
            self.delete(one["metadata"]["name"])
        kube.wait("no pods of contexts", 60, lambda: not kube.items("pods", self.namespace, "floe.dev/context"))

    def query(self, script: str = GROUPS, **more) -> dict:
        spec = self.queries.spec(script, **more)
        spec["compute"] = {"contextRef": {"name": "warm"}}
        # The context has it.
        del spec["storage"]
        return spec

    def sql(self, **more) -> dict:
        return {**self.query(), "plan": {"sql": COUNT}, **more}
