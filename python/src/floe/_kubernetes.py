"""`floe.Kubernetes`: queries as `DistributedQuery` objects of a cluster that has Floe's operator."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from floe import _binaries, _credentials, _html, _plan
from floe._api import GROUP, QUERIES, VERSION, api_errors, client, configuration, library
from floe._cluster import ClusterExecution
from floe._context import ClientContext
from floe._options import ignored
from floe._query import DirectQuery
from floe._request import Execution, Request
from floe._requirements import lines
from floe._warn import warn
from floe.exceptions import (
    ConnectionLostError,
    ContextError,
    IgnoredArgumentWarning,
    LocalFileError,
    PlanError,
    error_of,
)

#: An object holds about 1.5 MB, and base64 makes four bytes of three.
PLAN_BYTES = 1_000_000
#: So long a query stays after its end, if nothing else is said.
TTL_SECONDS = 3600
LABELS = {"app.kubernetes.io/created-by": "floe-python"}


def secret_name(query: str) -> str:
    """The Secret with the credentials of one query."""
    return f"{query}-storage"


class Kubernetes(ClientContext):
    """Queries on a Kubernetes with Floe: each has a coordinator and workers of its own while it runs.

    Access is kubectl's: the kubeconfig with its contexts and plugins, or the service account inside of a cluster. Needed are
    rights to create, get, watch, patch and delete `distributedqueries`, and for rows without a sink to list `secrets` and
    get and create `pods/portforward`.

    Parameters
    ----------
    namespace
        Namespace of the queries. Left out, that of the kubeconfig's context.
    workers
        Workers of a query.
    cpus, memory
        Size of each worker, as Kubernetes writes quantities.
    storage
        Name of a Secret with credentials for object stores, in the namespace.
    credentials
        Credentials for object stores, by the names of Polars' `storage_options`: each query gets them in a Secret that goes with
        it. `"environment"` takes those of this process' environment, `"plan"` those that the scans and sinks of each query have in
        their `storage_options`. Needs the right to create `secrets`. Not with `storage`.
    storage_options
        Further options for object stores, as Polars' `storage_options`; no credentials, which belong into the Secret.
    context, kubeconfig
        Another context or file than kubectl's own.
    image
        Image of coordinator and workers. Left out, the one that the operator was installed with.
    ttl
        Seconds after its end after which a query is deleted, if this process does not do it before.
    compute
        Further fields of `spec.compute`, such as `nodeSelector`.
    requirements
        Packages that the plan's Python functions import: a requirements file, or a list of its lines. The pods install them.
    """

    def __init__(
        self,
        namespace: str | None = None,
        *,
        workers: int | None = None,
        cpus: int | float | str = 1,
        memory: int | str = "2Gi",
        storage: str | None = None,
        credentials: Mapping[str, str] | Literal["environment", "plan"] | None = None,
        storage_options: Mapping[str, str] | None = None,
        context: str | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        image: str | None = None,
        ttl: int = TTL_SECONDS,
        compute: Mapping[str, Any] | None = None,
        requirements: str | os.PathLike[str] | Iterable[str] | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers: {workers} is below 1")
        kubernetes = library()
        self._compute: dict[str, Any] = {"cpus": str(cpus), "memory": str(memory), **(compute or {})}
        if image is not None:
            self._compute["image"] = image
        if requirements is not None:
            self._compute["requirements"] = lines(requirements)
        self._workers, self._ttl = workers, ttl
        self._storage: dict[str, Any] = {}
        if storage is not None and credentials is not None:
            raise ValueError("credentials: not with storage, the name of a Secret that has them")
        if isinstance(credentials, str) and credentials not in ("environment", "plan"):
            raise ValueError(
                f"credentials: {credentials!r} is neither 'environment' nor 'plan' nor a mapping of options"
            )
        #: Whether each query brings its own.
        self._of_plan = credentials == "plan"
        self._credentials: Mapping[str, str] | None = None
        if not isinstance(credentials, str):
            self._credentials = credentials
        elif credentials == "environment":
            self._credentials = _credentials.from_environment()
        if storage is not None:
            self._storage["secretRef"] = {"name": storage}
        if storage_options:
            if secrets := [name for name in storage_options if _credentials.is_secret(name)]:
                raise ValueError(
                    f"storage_options: {', '.join(secrets)} belong into credentials=, or into the Secret of storage="
                )
            self._storage["options"] = dict(storage_options)
        access, default = configuration(context, kubeconfig)
        self._client = client(access)
        self._objects = kubernetes.client.CustomObjectsApi(self._client)
        self._core = kubernetes.client.CoreV1Api(self._client)
        self._namespace = namespace or default

    @property
    def namespace(self) -> str:
        """Namespace of the queries."""
        return self._namespace

    def close(self) -> None:
        """Close the connections. Queries that run go on."""
        self._client.close()

    def __enter__(self) -> Kubernetes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spec(self, request: Request) -> dict[str, Any]:
        """The object's spec; refuses what cannot run on other machines, before anything is created."""
        spec = request.spec()
        if request.sql is None:
            spec["plan"] = self._plan(request)
        for name, table in spec.get("tables", {}).items():
            if _plan.is_local(table["uri"]):
                raise LocalFileError(
                    f"table {name} is {table['uri']}, a file of this machine, which the cluster does not see: use an object "
                    "store that it reaches"
                )
        spec["compute"] = self._sized(request)
        if self._storage:
            spec["storage"] = self._storage
        spec["ttlSecondsAfterFinished"] = {"succeeded": self._ttl, "failed": self._ttl}
        return spec

    def _sized(self, request: Request) -> dict[str, Any]:
        """What the query runs on."""
        if request.priority:
            ignored("priority", "each query has pods of its own; compute={'priorityClassName': …} says which go first")
        compute = dict(self._compute)
        if request.min_workers is not None or request.max_workers is not None:
            most = request.max_workers or max(request.min_workers or 1, self._workers or 1)
            compute |= {"maxWorkers": most, "minWorkers": request.min_workers or min(most, self._workers or most)}
        elif self._workers is not None:
            compute["workers"] = self._workers
        return compute

    def _planned_for(self, compute: dict[str, Any]) -> dict[str, Any]:
        """The workers that a plan is made for, in number and size."""
        return compute

    def _plan(self, request: Request) -> dict[str, Any]:
        """The bytes of a plan, inside of the object."""
        with contextlib.suppress(RecursionError):
            # A plan that is nested too deep for this look is one for the coordinator to judge.
            for does, path in _plan.local_paths(request.plan):
                instead = "use an object store that it reaches"
                if does != "writes":
                    instead = (
                        "put it into an object store that it reaches (floe.upload), or small frames into the plan (pl.read_… "
                        "instead of pl.scan_…)"
                    )
                raise LocalFileError(
                    f"the plan {does} {path}, a file of this machine, which the cluster does not see: {instead}"
                )
        if len(request.plan) > PLAN_BYTES:
            raise PlanError(
                f"the plan has {_html.size(len(request.plan))}, and an object of a cluster holds "
                f"{_html.size(PLAN_BYTES)}: put its frames into an object store and scan them"
            )
        return {"dsl": {"inline": base64.b64encode(request.plan).decode()}}

    def _apart(self, request: Request) -> tuple[Request, Mapping[str, str] | None]:
        """The query without credentials, which everyone could read in its object, and those that its Secret has."""
        request, carried = _credentials.apart(request)
        if not self._of_plan:
            _credentials.refuse(carried)
        if self._credentials is None and "secretRef" not in self._storage:
            if any(one.provider for one in carried):
                warn(
                    "credential_provider runs in this process, which does not read: give storage= or credentials=",
                    IgnoredArgumentWarning,
                )
            if not self._of_plan and any(one.secrets for one in carried):
                warn(
                    "the token of HuggingFace stays on this machine, and the query reads without: "
                    'credentials="plan" takes it along, or hf_token in the Secret of storage=',
                    IgnoredArgumentWarning,
                )
        return request, (_credentials.together(carried) or None) if self._of_plan else self._credentials

    def _object(self, name: str, request: Request, credentials: Mapping[str, str] | None) -> dict[str, Any]:
        spec = self._spec(request)
        if credentials is not None:
            spec["storage"] = {**self._storage, "secretRef": {"name": secret_name(name)}}
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "DistributedQuery",
            "metadata": {"name": name, "labels": dict(LABELS)},
            "spec": spec,
        }

    def _give_credentials(self, name: str, uid: str, credentials: Mapping[str, str]) -> None:
        """The query waits for its Secret, and takes it along when it goes."""
        owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "DistributedQuery", "name": name, "uid": uid}
        secret = {
            "metadata": {"name": secret_name(name), "labels": dict(LABELS), "ownerReferences": [owner]},
            "stringData": dict(credentials),
        }
        with api_errors(f"cannot create the Secret of query {name}"):
            self._core.create_namespaced_secret(self._namespace, secret)

    def _submit(self, request: Request) -> Execution:
        name = f"py-{uuid.uuid4().hex[:12]}"
        request, credentials = self._apart(request)
        execution = ClusterExecution(self, name, self._make(name, self._object(name, request, credentials)))
        if credentials is not None:
            try:
                self._give_credentials(name, execution._uid, credentials)
            except BaseException:
                with contextlib.suppress(ContextError):
                    execution.forget()
                raise
        return execution

    def _make(self, name: str, body: dict[str, Any]) -> str:
        """Makes the object and gives its UID. A connection that breaks before the answer is tried once more: nobody else has
        this name, so an object that is there was made by the first try."""
        kubernetes = library()
        for last in (False, True):
            try:
                with api_errors(f"cannot create query {name}"):
                    try:
                        made = self._objects.create_namespaced_custom_object(
                            GROUP, VERSION, self._namespace, QUERIES, body
                        )
                    except kubernetes.client.exceptions.ApiException as error:
                        if error.status != 409 or not last:
                            raise
                        made = self._objects.get_namespaced_custom_object(
                            GROUP, VERSION, self._namespace, QUERIES, name
                        )
                    return str(made["metadata"]["uid"])
            except ConnectionLostError:
                if last:
                    raise
        raise AssertionError("the last try returns or raises")

    def query(self, id: str) -> DirectQuery:
        """Take up a query that is there, by its id: one that another process started, or that a lost connection left behind."""
        execution = ClusterExecution(self, id)
        execution.refresh()
        return DirectQuery(execution, _no_ir)

    def _explain(self, request: Request, format: str) -> str:
        # Only a process of this machine sees this, so that credentials may stay where they are.
        spec = self._spec(request)
        spec["compute"] = self._planned_for(spec["compute"])
        job: dict[str, Any] = {"id": "explain", "name": request.name, "attempt": 1, "spec": spec}
        if self._credentials is not None:
            job["secrets"] = {"": dict(self._credentials)}
        with tempfile.NamedTemporaryFile("w", prefix="floe-job-", suffix=".json") as file:
            json.dump(job, file)
            file.flush()
            command = [_binaries.find("floe-runner"), "explain", "--job", file.name, "--format", format]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0 and not done.stdout:
            told = re.match(r"(?s)(\w+): (.*)", done.stderr.strip())
            parts = ("", done.stderr) if told is None else told.groups()
            raise error_of({"category": "User", "class": parts[0], "message": parts[1]})
        return done.stdout

    def _versions(self) -> dict[str, str]:
        kubernetes = library()
        with api_errors("the cluster does not answer"):
            told = kubernetes.client.VersionApi(self._client).get_code()
        return {"Kubernetes": told.git_version}

    def __repr__(self) -> str:
        return f"Kubernetes(namespace={self._namespace!r}, workers={self._workers}, {self._compute})"

    def _repr_html_(self) -> str:
        rows = {"namespace": self._namespace, "workers": self._workers or "two", **self._compute}
        return _html.card("floe.Kubernetes", _html.table(rows))


def _no_ir() -> str:
    raise ValueError("plan_type: a query that was taken up by its id has 'physical' only: its LazyFrame is not here")
