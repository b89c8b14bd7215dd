"""Names of Polars Cloud that Floe has nothing for, and what to use instead."""

from __future__ import annotations

_ACCOUNTS = "there are no accounts and machines to rent: access is that of your kubeconfig"
_CONNECTION = "access is that of your kubeconfig: floe.Kubernetes(context=, kubeconfig=)"

#: Name: what to do.
ABSENT = {
    "ClientOptions": _CONNECTION,
    "ClusterContext": "floe.Local has processes of this machine, floe.Kubernetes pods for each query, and "
    "floe.ComputeContext pods that stay",
    "Config": "arguments of contexts and queries, or set_compute_context for a whole session",
    "LogLevelModel": "the operator and its pods have their own log levels: see docs/observe.md",
    "Organization": _ACCOUNTS,
    "ProviderType": _ACCOUNTS,
    "QueryCloudObserver": "DirectQuery and QueryResult tell how a query goes, and OpenTelemetry traces: see docs/observe.md",
    "QueryDetail": "QueryResult has rows, stages and location, stage_statistics() their rows, bytes and time",
    "QueryInfo": "QueryResult has the same by itself: head, n_rows_total, stages, location, plan()",
    "QueryPlanTiming": "traces have the times of planning: see docs/observe.md",
    "TLSOptions": _CONNECTION,
    "Workspace": _ACCOUNTS,
    "WorkspaceDefaultComputeSpecs": _ACCOUNTS,
    "WorkspaceProviderAWS": _ACCOUNTS,
    "WorkspaceStatus": _ACCOUNTS,
    "authenticate": _ACCOUNTS,
    "cli_main": "the command is `floe`",
    "login": _ACCOUNTS,
}


def refuse(name: str) -> AttributeError:
    """The error of a name that the package does not have."""
    if name in ABSENT:
        return AttributeError(f"floe.{name} of Polars Cloud is not there; {ABSENT[name]}", name=name)
    return AttributeError(f"module 'floe' has no attribute {name!r}", name=name)
