"""Who asked for a query, for traces and logs."""

from __future__ import annotations

import dataclasses
from uuid import UUID


@dataclasses.dataclass(frozen=True)
class LineageContext:
    """The job that a query belongs to, and the run that started it.

    Examples
    --------
    >>> LineageContext(job_namespace="etl", job_name="nightly").labels()
    {'lineage.job_namespace': 'etl', 'lineage.job_name': 'nightly'}
    """

    job_namespace: str
    job_name: str
    parent_run_id: UUID | None = None
    parent_job_namespace: str | None = None
    parent_job_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("job_name", "job_namespace"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        given = [self.parent_run_id, self.parent_job_name, self.parent_job_namespace]
        if sum(value is not None for value in given) not in (0, 3):
            raise ValueError("a parent run needs parent_run_id, parent_job_namespace and parent_job_name")

    def labels(self) -> dict[str, str]:
        """As labels of the query."""
        return {f"lineage.{name}": str(value) for name, value in vars(self).items() if value is not None}
