"""Where a `floe.ComputeContext` is, by the names of Polars Cloud."""

from __future__ import annotations

from enum import Enum


class ComputeContextStatus(Enum):
    """Where a `ComputeContext` is.

    >>> ComputeContextStatus.IDLE.is_started(), ComputeContextStatus.STOPPING.is_terminal()
    (True, False)
    """

    UNINITIALIZED = 0
    """It was not started."""
    STARTING = 1
    """No coordinator answers yet."""
    IDLE = 2
    """It takes queries, and runs none."""
    RUNNING = 3
    """It runs queries."""
    STOPPING = 4
    """Its pods are being removed."""
    STOPPED = 5
    """It was stopped, or deleted by another."""
    FAILED = 6
    """It cannot run as it is; the object's status says why."""

    def is_uninitialized(self) -> bool:
        """Whether it was not started yet."""
        return self is ComputeContextStatus.UNINITIALIZED

    def is_available(self) -> bool:
        """Whether it takes queries, which wait if need be."""
        return self in (ComputeContextStatus.STARTING, ComputeContextStatus.IDLE, ComputeContextStatus.RUNNING)

    def is_started(self) -> bool:
        """Whether a coordinator takes queries right now."""
        return self in (ComputeContextStatus.IDLE, ComputeContextStatus.RUNNING)

    def is_stopped(self) -> bool:
        """Whether it was stopped, or is about to be."""
        return self in (ComputeContextStatus.STOPPED, ComputeContextStatus.STOPPING)

    def is_failed(self) -> bool:
        """Whether it cannot run as it is."""
        return self is ComputeContextStatus.FAILED

    def is_terminal(self) -> bool:
        """Whether it stays as it is until someone starts or changes it."""
        return self in (ComputeContextStatus.STOPPED, ComputeContextStatus.FAILED)

    def __repr__(self) -> str:
        return self.name
