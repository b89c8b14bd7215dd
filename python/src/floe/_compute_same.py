"""Whether a context that is there is the one that a `floe.ComputeContext` would make: every field that it names, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from floe.exceptions import ContextError

#: Fields that are amounts, which can be written in several ways.
_AMOUNTS = {"cpus", "cpuLimit", "memory", "size", "scratch"}
_UNITS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
#: The argument that a field comes from, where it is not `compute`.
_ARGUMENTS = {
    "compute.cpus": "cpus",
    "compute.memory": "memory",
    "compute.scratch.size": "storage",
    "compute.env": "env_vars",
    "compute.image": "image",
    "compute.requirements": "requirements",
    "fairShare": "fair_share",
    "idleTimeoutSeconds": "idle_timeout_mins",
    "maxQueriesAtOnce": "max_queries",
    "maxWorkers": "cluster_size",
    "minWorkers": "min_workers",
}


def amount(quantity: object) -> Decimal | None:
    """The number that a quantity of Kubernetes stands for; none if it is no quantity.

    >>> amount("16Gi") == amount("16384Mi"), amount("0.5") == amount("500m"), amount("much")
    (True, True, None)
    """
    found = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)", str(quantity))
    if found is None or (unit := found[2]) not in {*_UNITS, *_BINARY} or found[1].count(".") > 1:
        return None
    return Decimal(found[1]) * (Decimal(1024) ** _BINARY[unit] if unit in _BINARY else Decimal(10) ** _UNITS[unit])


def check(name: str, wanted: Mapping[str, Any], there: Mapping[str, Any], namespace: str) -> None:
    """Raises an error that names what of a context differs from what is wanted."""
    if told := list(_differences(wanted, there, "")):
        raise ContextError(
            f"context {name} is there already and differs: {'; '.join(told)}. To use it as it is, leave these arguments out; to "
            f"have it changed, `kubectl edit cc {name} -n {namespace}`, or stop() it first; or give this one another name"
        )


def _differences(wanted: Mapping[str, Any], there: Mapping[str, Any], path: str) -> Iterator[str]:
    for field, want in wanted.items():
        has, where = there.get(field), f"{path}{field}"
        if where == "compute.env":
            yield from _variables(want, has or [])
        elif isinstance(want, Mapping) and isinstance(has, Mapping):
            yield from _differences(want, has, f"{where}.")
        elif not _same(want, has, field in _AMOUNTS):
            argument = _ARGUMENTS.get(where, where.partition(".")[0])
            yield f"{argument}: spec.{where} is {'left out' if has is None else repr(has)}, not {want!r}"


def _same(want: Any, has: Any, is_amount: bool = False) -> bool:
    """Whether all that is wanted is there; the API server puts defaults beside it."""
    if isinstance(want, Mapping):
        return isinstance(has, Mapping) and all(
            _same(value, has.get(key), key in _AMOUNTS) for key, value in want.items()
        )
    if isinstance(want, (list, tuple)):
        return isinstance(has, list) and len(want) == len(has) and all(map(_same, want, has))
    if is_amount and (number := amount(want)) is not None:
        return number == amount(has)
    return bool(want == has)


def _variables(wanted: list[dict[str, Any]], there: list[dict[str, Any]]) -> Iterator[str]:
    """Names only: values may be secrets."""
    has = {one["name"]: one for one in there}
    for one in wanted:
        if one["name"] not in has:
            yield f"env_vars: {one['name']} is not in spec.compute.env"
        elif not _same(one, has[one["name"]]):
            yield f"env_vars: {one['name']} has another value in spec.compute.env"
