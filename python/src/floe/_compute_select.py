"""Chooses one of the contexts of a cluster on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from floe.exceptions import ContextError

if TYPE_CHECKING:
    from floe._compute import ComputeContext
    from floe._compute_status import ComputeContextStatus


def choose(contexts: Sequence[tuple[ComputeContext, ComputeContextStatus]]) -> ComputeContext | None:
    """The context whose number is typed in; none for `q`, or where the input ends."""
    if not contexts:
        raise ContextError("no context takes queries: ComputeContext(…).start() makes one")
    width = max(len(context.name) for context, _ in contexts)
    print(f"{'#':>3}  {'name':<{width}}  {'status':<8}  {'cpus':<6} {'memory':<8} workers")
    for number, (context, status) in enumerate(contexts, 1):
        cpus, size = context.cpus or "", context.memory or ""
        memory = f"{size} GiB" if isinstance(size, int) else size
        print(
            f"{number:>3}  {context.name:<{width}}  {status.name.lower():<8}  {cpus:<6} {memory:<8} {context.cluster_size}"
        )
    while True:
        try:
            typed = input(f"context (1 to {len(contexts)}, or q): ").strip()
        except EOFError:
            return None
        if typed == "q":
            return None
        if typed.isdigit() and 1 <= int(typed) <= len(contexts):
            return contexts[int(typed) - 1][0]
