"""The sizes of a `floe.ComputeContext`: from arguments to the object's spec, and from a spec back to properties."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

#: What the object has where its spec says nothing.
MOST_WORKERS = 2


def whole(quantity: object, unit: str = "") -> int | str | None:
    """A quantity of Kubernetes as a whole number of `unit`, or as it is written where it is none.

    >>> whole("4"), whole("16Gi", "Gi"), whole("500m"), whole("2048Mi", "Gi"), whole(None)
    (4, 16, '500m', 2, None)
    """
    if quantity is None:
        return None
    text = str(quantity)
    if unit == "Gi" and (found := re.fullmatch(r"(\d+)Mi", text)) and int(found[1]) % 1024 == 0:
        return int(found[1]) // 1024
    found = re.fullmatch(rf"(\d+){unit}", text)
    return text if found is None else int(found[1])


def compute(
    base: Mapping[str, Any] | None,
    cpus: float | str | None,
    memory: int | str | None,
    storage: int | str | None,
    env_vars: Mapping[str, str] | None,
) -> dict[str, Any]:
    """`spec.compute` of a context; numbers for memory and disk are in GiB.

    >>> compute(None, 4, 16, 100, {"A": "1"})["scratch"]
    {'size': '100Gi'}
    """
    size = dict(base or {})
    for field, text in (("cpus", cpus), ("memory", f"{memory}Gi" if isinstance(memory, int) else memory)):
        if text is not None:
            size[field] = str(text)
    if isinstance(storage, int):
        size["scratch"] = {**size.get("scratch", {}), "size": f"{storage}Gi"}
    if env_vars:
        size["env"] = [*size.get("env", ()), *({"name": key, "value": value} for key, value in env_vars.items())]
    return size


class Described(ABC):
    """What a context tells of itself by the names of Polars Cloud: as the object that is there says, or as it would be made."""

    @abstractmethod
    def _described(self) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """Spec and labels of the object, or those that it would get."""

    def _field(self, *path: str) -> Any:
        found: Any = self._described()[0]
        for name in path:
            found = (found or {}).get(name)
        return found

    @property
    def cpus(self) -> int | str | None:
        """CPUs of each worker: a number if it is whole, else as Kubernetes writes it (`"500m"`)."""
        return whole(self._field("compute", "cpus"))

    @property
    def memory(self) -> int | str | None:
        """Memory of each worker: a number if it is whole GiB, else as Kubernetes writes it."""
        return whole(self._field("compute", "memory"), "Gi")

    @property
    def storage(self) -> int | str | None:
        """Disk of each worker for shuffles, as `memory`. The Secret of the object stores is not meant."""
        return whole(self._field("compute", "scratch", "size"), "Gi")

    @property
    def cluster_size(self) -> int:
        """The most workers."""
        return int(self._field("maxWorkers") or MOST_WORKERS)

    @property
    def env_vars(self) -> dict[str, str]:
        """Environment variables of the pods that have a value of their own, not one of a Secret."""
        return {one["name"]: one["value"] for one in self._field("compute", "env") or () if "value" in one}

    @property
    def labels(self) -> Sequence[str]:
        """Names of the object's labels, without those that Floe gives to all."""
        return sorted(self._described()[1])

    def register(self, name: str) -> None:
        """Not there: an object of the cluster has its name from the start."""
        raise NotImplementedError(f"register: name the context when you make it, ComputeContext(name={name!r}, …)")

    def unregister(self) -> None:
        """Not there: a context and its name go together."""
        raise NotImplementedError("unregister: stop() deletes the context, and its name with it")
