"""What a context tells of a query, whichever way it learned it: from a coordinator's HTTP port or an object's status."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, final

ENDED = ("Succeeded", "Failed", "Cancelled")


@final
class QueryStatus(enum.Enum):
    """Where a query is.

    >>> QueryStatus.SUCCESS.is_done()
    True
    """

    QUEUED = 0
    """It waits for others to end, or for its pods."""
    SCHEDULED = 1
    """It is planned."""
    INPROGRESS = 2
    """It runs."""
    SUCCESS = 3
    """It succeeded."""
    FAILED = 4
    """It failed."""
    CANCELED = 5
    """It was cancelled."""

    def is_done(self) -> bool:
        """Whether the query has ended, however."""
        return self in (QueryStatus.SUCCESS, QueryStatus.FAILED, QueryStatus.CANCELED)

    def __str__(self) -> str:
        return self.name


_STATUS = {
    "Waiting": QueryStatus.QUEUED,
    "Pending": QueryStatus.QUEUED,
    "Suspended": QueryStatus.QUEUED,
    "Starting": QueryStatus.QUEUED,
    "Planning": QueryStatus.SCHEDULED,
    "Running": QueryStatus.INPROGRESS,
    "Committing": QueryStatus.INPROGRESS,
    "Succeeded": QueryStatus.SUCCESS,
    "Failed": QueryStatus.FAILED,
    "Cancelled": QueryStatus.CANCELED,
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a query: what it does and how far it is."""

    id: int
    label: str = ""
    deps: tuple[int, ...] = ()
    exchange: str = ""
    state: str = "waiting"
    tasks_done: int = 0
    tasks_total: int = 0
    attempts: int = 0
    rows: int = 0
    bytes: int = 0
    #: None where nobody says.
    elapsed_ms: int | None = None


@dataclasses.dataclass
class Report:
    """A query at one moment."""

    phase: str = "Waiting"
    stages: dict[int, Stage] = dataclasses.field(default_factory=dict)
    workers: tuple[str, ...] = ()
    #: How many queries start before it.
    ahead: int | None = None
    #: What holds it up: one word for it, and a sentence.
    held_up: str | None = None
    #: Rows, bytes, files and times of a query that succeeded.
    outcome: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    single_worker: tuple[str, ...] = ()

    @property
    def status(self) -> QueryStatus:
        """The phase, as Polars Cloud names it."""
        return _STATUS.get(self.phase, QueryStatus.INPROGRESS)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.phase in ENDED

    def planned(self, plan: dict[str, Any]) -> None:
        """Takes the stages of a plan in; those of a former one go."""
        infos = plan.get("stages", [])
        self.stages = {
            info["id"]: Stage(
                info["id"], info.get("label", ""), tuple(info.get("deps", [])), info.get("exchange", ""),
                tasks_total=info.get("tasks") or 0,
            )
            for info in infos
        }  # fmt: skip
        self.single_worker = tuple(f"{one['node']}: {one['reason']}" for one in plan.get("singleWorker", []))
        self.phase = "Running"

    def progress(self, told: dict[str, Any]) -> None:
        """Takes in how far a stage is."""
        stage = self.stages.get(told["id"], Stage(told["id"]))
        self.stages[told["id"]] = dataclasses.replace(
            stage,
            label=told.get("label") or stage.label,
            deps=tuple(told.get("dependsOn", stage.deps)),
            state=told.get("state", "waiting"),
            attempts=told.get("attempts", stage.attempts),
            tasks_done=told.get("tasksDone", 0),
            tasks_total=told.get("tasksTotal", 0) or stage.tasks_total,
            rows=told.get("rows", 0),
            bytes=told.get("bytes", 0),
            elapsed_ms=told.get("elapsedMs", stage.elapsed_ms),
        )

    def done(self, outcome: dict[str, Any]) -> None:
        """Takes in how the query succeeded."""
        self.phase, self.outcome = "Succeeded", outcome
        for told in outcome.get("stages", []):
            stage = self.stages.get(told["id"], Stage(told["id"]))
            self.stages[told["id"]] = dataclasses.replace(
                stage,
                label=told.get("label") or stage.label,
                state="done",
                tasks_done=told["tasks"],
                tasks_total=told["tasks"],
                attempts=told.get("attempts", 0),
                rows=told.get("rows", 0),
                bytes=told.get("bytes", 0),
                elapsed_ms=told.get("elapsedMs"),
            )
        self.warnings = tuple(outcome.get("warnings", ()))
        if outcome.get("fellBack"):
            fell = f"the stages failed, and the query ran again on one worker: {outcome['fellBack']}"
            self.warnings = (*self.warnings, fell)

    def failed(self, error: dict[str, Any]) -> None:
        """Takes in how the query failed."""
        self.phase = "Cancelled" if str(error.get("category", "")).lower() == "cancelled" else "Failed"
        self.error = error
        self.stages = {
            id: dataclasses.replace(stage, state="failed") if stage.state == "running" else stage
            for id, stage in self.stages.items()
        }

    @classmethod
    def of(cls, told: dict[str, Any]) -> Report:
        """From the answer of a coordinator's status endpoint."""
        report = cls()
        if told.get("plan"):
            report.planned(told["plan"])
        report.phase = told.get("phase", "Planning")
        report.workers = tuple(told.get("workers", ()))
        report.ahead = told.get("ahead")
        for stage in told.get("stages", []):
            report.progress(stage)
        if told.get("outcome"):
            report.done(told["outcome"])
        if told.get("error"):
            report.failed(told["error"])
        return report
