"""The way of `connection_mode="direct"`: from a context to the coordinator that serves it, past the objects of the cluster."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from floe._api import api_errors
from floe._direct import DirectExecution
from floe._forward import Forwarded
from floe._retry import patiently
from floe.exceptions import ContextBusyError, ContextError, ResultGoneError

if TYPE_CHECKING:
    from floe._compute import ComputeContext

#: So long it is trusted that a coordinator still serves.
TRUST_SECONDS = 5.0


class Direct:
    """One open connection to the coordinator that takes a context's queries."""

    def __init__(self, context: ComputeContext) -> None:
        self._context = context
        self._coordinator: Forwarded | None = None
        self._pod, self._trusted_until = "", 0.0

    def submit(self, id: str, job: Mapping[str, Any]) -> DirectExecution:
        """Gives the coordinator a job."""
        body = json.dumps(job).encode()
        coordinator = self.serving()
        try:
            coordinator.json("POST", "/api/v1/queries", body)
        except ContextBusyError:
            raise
        except (ContextError, ResultGoneError):
            # It may have been replaced, or has taken the job in all the same.
            self.close()
            coordinator = self.serving()
            try:
                coordinator.report(id)
            except ResultGoneError:
                coordinator.json("POST", "/api/v1/queries", body)
        return DirectExecution(coordinator, id)

    def serving(self) -> Forwarded:
        """The coordinator, through the API server; waits until there is one."""
        if self._coordinator is not None and time.monotonic() < self._trusted_until:
            return self._coordinator
        context = self._context
        context.start(wait=True)
        found = patiently(context._read) or {}
        pod = f"{context.name}-g{(found.get('status') or {}).get('serving', 0)}-c"
        if self._coordinator is None or pod != self._pod:
            token = self._token()
            self.close()
            self._coordinator, self._pod = Forwarded(context._core, context.namespace, pod, token), pod
        self._trusted_until = time.monotonic() + TRUST_SECONDS
        return self._coordinator

    def _token(self) -> str:
        context = self._context

        def listed() -> Any:
            with api_errors(f"cannot read the token of context {context.name}"):
                selector = f"floe.dev/context={context.name}"
                return context._core.list_namespaced_secret(context.namespace, label_selector=selector).items

        own = [one for one in patiently(listed) if one.metadata.name.startswith(f"{context.name}-context")]
        tokens = [one.data["token"] for one in own if "token" in (one.data or {})]
        if not tokens:
            raise ContextError(f"context {context.name} has no token yet")
        return base64.b64decode(tokens[0]).decode()

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        if self._coordinator is not None:
            self._coordinator.close()
        self._coordinator, self._trusted_until = None, 0.0


def secrets(
    context: ComputeContext, spec: dict[str, Any], credentials: Mapping[str, str] | None
) -> dict[str, dict[str, str]]:
    """What the operator would have put into a job: credentials by the name of the storage, which `spec` then lacks."""
    if credentials is not None:
        spec.setdefault("storage", context._storage)
        return {"": dict(credentials)}
    storage = spec.get("storage") or ((patiently(context._read) or {}).get("spec") or {}).get("storage")
    if not storage:
        return {}
    spec["storage"] = {key: value for key, value in storage.items() if key != "secretRef"}
    if "secretRef" not in storage:
        return {}
    named = storage["secretRef"]["name"]

    def read() -> Any:
        with api_errors(f"cannot read the Secret {named}"):
            return context._core.read_namespaced_secret(named, context.namespace).data or {}

    return {"": {key: base64.b64decode(value).decode() for key, value in patiently(read).items()}}
