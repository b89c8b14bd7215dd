"""`floe.ComputeContext`: a coordinator and workers that stay on a cluster, as an object of it."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
import uuid
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ContextDecorator
from typing import Any, Literal, Union

from floe import _html
from floe._api import CONTEXTS, GROUP, VERSION, api_errors, if_there, library
from floe._cluster import held_up
from floe._compute_direct import Direct, secrets
from floe._compute_same import check
from floe._compute_select import choose
from floe._compute_size import MOST_WORKERS, Described
from floe._compute_size import compute as compute_of
from floe._compute_status import ComputeContextStatus
from floe._context import set_compute_context
from floe._direct import DirectExecution
from floe._kubernetes import LABELS, TTL_SECONDS, Kubernetes, _no_ir
from floe._options import ignored
from floe._query import DirectQuery
from floe._request import Execution, Request
from floe._requirements import lines
from floe._retry import patiently
from floe._warn import warn
from floe.exceptions import ContextError, ContextWarning, IgnoredArgumentWarning

#: Between two looks at a context that starts.
LOOK_SECONDS = 0.3
#: A context that takes longer to start tells why.
QUIET_SECONDS = 20.0
Kubeconfig = Union[str, "os.PathLike[str]", None]


class ComputeContext(Described, Kubernetes, ContextDecorator):
    """A warm context of a cluster: a coordinator and workers that stay between queries, and follow the work in number.

    It is a `ComputeContext` object, made by `start` or by the first query. In a `with` block or as a decorator it is the context
    of queries that name none, started at its begin and stopped at its end. One without a name is stopped at the end of this
    process, too; one with a name outlives it, and other processes use it by that name.

    Parameters
    ----------
    name
        Name of the object. One that is there is used as it is; what is given here must then be as it has it.
    cpus, memory
        Size of each worker. A number for memory is in GiB; text is a quantity of Kubernetes.
    storage
        A number: GiB of disk of each worker, for shuffles. Text: a Secret with credentials for object stores.
    cluster_size
        The most workers.
    min_workers
        Workers that are kept until the context is idle. Left out, all of them.
    idle_timeout_mins
        Minutes without a query after which all workers go. The next query brings them back.
    max_queries
        Queries that run at once; more wait.
    fair_share
        The label of queries by whose values they share the workers evenly, such as `"user"`; with values that get more than one
        part, `{"label": "user", "weights": {"nightly": 3}}`. Left out, each query counts by itself.
    connection_mode
        `"proxy"`: queries are objects of the cluster, which outlive this process. `"direct"`: queries go to the coordinator over one
        open connection through the API server, which takes far less time; they end with the coordinator. Needs the rights to
        list `secrets` and to get and create `pods/portforward`.
    labels
        Labels of the object, as a mapping or as names.
    env_vars
        Environment variables of the pods.
    namespace, context, kubeconfig, image, ttl, compute, credentials, storage_options, requirements
        As those of `floe.Kubernetes`.
    cpu_architectures, instance_type, workspace, log_level, insecure
        Mean nothing here, and warn. `compute={"nodeSelector": …}` chooses machines.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        cpus: int | float | str | None = None,
        memory: int | str | None = None,
        storage: int | str | None = None,
        cluster_size: int | None = None,
        min_workers: int | None = None,
        idle_timeout_mins: int | None = None,
        max_queries: int | None = None,
        fair_share: str | Mapping[str, Any] | None = None,
        connection_mode: Literal["direct", "proxy"] = "proxy",
        labels: Mapping[str, str] | Sequence[str] | str | None = None,
        env_vars: Mapping[str, str] | None = None,
        namespace: str | None = None,
        credentials: Mapping[str, str] | Literal["environment", "plan"] | None = None,
        storage_options: Mapping[str, str] | None = None,
        context: str | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        image: str | None = None,
        ttl: int = TTL_SECONDS,
        compute: Mapping[str, Any] | None = None,
        requirements: str | os.PathLike[str] | Iterable[str] | None = None,
        cpu_architectures: object = None,
        instance_type: object = None,
        workspace: object = None,
        log_level: object = None,
        insecure: bool = False,
    ) -> None:
        if connection_mode not in ("direct", "proxy"):
            raise ValueError(f"connection_mode: {connection_mode!r} is neither 'direct' nor 'proxy'")
        for argument, number in (("cluster_size", cluster_size), ("max_queries", max_queries)):
            if number is not None and number < 1:
                raise ValueError(f"{argument}: {number} is below 1")
        meaningless = {
            "cpu_architectures": cpu_architectures,
            "instance_type": instance_type,
            "workspace": workspace,
            "log_level": log_level,
            "insecure": insecure or None,
        }
        for argument in (argument for argument, value in meaningless.items() if value is not None):
            warn(f"{argument} means nothing to a context of Floe", IgnoredArgumentWarning)
        if connection_mode == "direct" and ttl != TTL_SECONDS:
            ignored("ttl", "over a direct connection a query is no object; its rows make room for those of others")
        super().__init__(
            namespace,
            storage=storage if isinstance(storage, str) else None,
            credentials=credentials,
            storage_options=storage_options,
            context=context,
            kubeconfig=kubeconfig,
            ttl=ttl,
        )
        size = compute_of(compute, cpus, memory, storage, env_vars)
        if image is not None:
            size["image"] = image
        if requirements is not None:
            size["requirements"] = lines(requirements)
        self._size: dict[str, Any] = {"compute": size} if size else {}
        if cluster_size is not None or min_workers is not None:
            most = cluster_size or max(min_workers or 1, 1)
            self._size |= {"maxWorkers": most, "minWorkers": most if min_workers is None else min_workers}
        if idle_timeout_mins is not None:
            self._size["idleTimeoutSeconds"] = idle_timeout_mins * 60
        if max_queries is not None:
            self._size["maxQueriesAtOnce"] = max_queries
        if fair_share is not None:
            self._size["fairShare"] = {"label": fair_share} if isinstance(fair_share, str) else dict(fair_share)
        self._named = name is not None
        self._name = name or f"py-{uuid.uuid4().hex[:12]}"
        names = {labels: ""} if isinstance(labels, str) else labels or {}
        self._labels = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, "")
        self._direct = connection_mode == "direct"
        self._started = self._made = False
        self._setting: set_compute_context | None = None
        self._way = Direct(self)

    @property
    def name(self) -> str:
        """Name of the object."""
        return self._name

    @property
    def connection_mode(self) -> str:
        """How queries reach the coordinator."""
        return "direct" if self._direct else "proxy"

    def _read(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = None
        with api_errors(f"cannot read context {self._name}"), if_there():
            found = self._objects.get_namespaced_custom_object(GROUP, VERSION, self._namespace, CONTEXTS, self._name)
        return found

    def start(self, *, wait: bool = False) -> None:
        """Make the object, if it is not there. With `wait` return once it takes queries."""
        # At first it is told at once if nothing answers; later, what passes is waited for.
        found = patiently(self._read) if self._started else self._read()
        if found is None:
            found = self._create()
        # Once it is in use, others may change it.
        if not self._made and not self._started:
            self._use(found)
        self._started = True
        if wait:
            self._await_start()

    def _await_start(self) -> None:
        began, told = time.monotonic(), None
        while not (status := self._status_of(found := patiently(self._read))).is_started():
            why = held_up((found or {}).get("status") or {})
            if not status.is_available():
                raise ContextError(f"context {self._name} does not start: {why or status.name.lower()}")
            if why and why != told and time.monotonic() - began > QUIET_SECONDS:
                warn(f"context {self._name} has not started yet: {why}", ContextWarning)
                told = why
            time.sleep(LOOK_SECONDS)

    def _use(self, found: Mapping[str, Any]) -> None:
        """Takes a context that another made, if it is the one that is wanted. Its storage may be another: queries bring theirs."""
        check(self._name, self._size, found.get("spec") or {}, self._namespace)
        labels = found["metadata"].get("labels") or {}
        if lacking := [f"{key}={value}" for key, value in self._labels.items() if labels.get(key) != value]:
            text = f"labels: context {self._name} is there already, without {', '.join(lacking)}"
            warn(text, IgnoredArgumentWarning)

    def _create(self) -> dict[str, Any]:
        """Makes the object and gives it, or the one that another has made meanwhile."""
        kubernetes = library()
        spec = dict(self._size)
        if self._storage:
            spec["storage"] = self._storage
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "ComputeContext",
            "metadata": {"name": self._name, "labels": {**LABELS, **self._labels}},
            "spec": spec,
        }
        with api_errors(f"cannot create context {self._name}"):
            try:
                made: dict[str, Any] = self._objects.create_namespaced_custom_object(
                    GROUP, VERSION, self._namespace, CONTEXTS, body
                )
            except kubernetes.client.exceptions.ApiException as error:
                if error.status != 409 or (found := self._read()) is None:
                    raise
                return found
        self._made = True
        if not self._named:
            _unnamed.add(self)
        return made

    def stop(self, *, wait: bool = False) -> None:
        """Delete the object, and with it the pods. Queries that run there wait for a context of this name.

        With `wait` return once the object is gone.
        """
        self._way.close()
        with api_errors(f"cannot delete context {self._name}"), if_there():
            self._objects.delete_namespaced_custom_object(GROUP, VERSION, self._namespace, CONTEXTS, self._name)
        self._made = False
        _unnamed.discard(self)
        while wait and patiently(self._read) is not None:
            time.sleep(LOOK_SECONDS)

    def get_status(self) -> ComputeContextStatus:
        """Where the context is."""
        return self._status_of(self._read())

    def _status_of(self, found: Mapping[str, Any] | None) -> ComputeContextStatus:
        if found is None:
            return ComputeContextStatus.STOPPED if self._started else ComputeContextStatus.UNINITIALIZED
        if found["metadata"].get("deletionTimestamp"):
            return ComputeContextStatus.STOPPING
        status = found.get("status") or {}
        phase = status.get("phase", "Starting")
        if phase in ("Starting", "Failed"):
            return ComputeContextStatus[phase.upper()]
        busy = status.get("queriesRunning", 0) + status.get("queriesWaiting", 0) > 0
        return ComputeContextStatus.RUNNING if busy else ComputeContextStatus.IDLE

    @classmethod
    def list(
        cls, namespace: str | None = None, *, context: str | None = None, kubeconfig: Kubeconfig = None
    ) -> Sequence[tuple[ComputeContext, ComputeContextStatus]]:
        """All contexts of a namespace, and where each is."""
        with Kubernetes(namespace, context=context, kubeconfig=kubeconfig) as cluster:
            with api_errors("cannot list contexts"):
                found = cluster._objects.list_namespaced_custom_object(GROUP, VERSION, cluster.namespace, CONTEXTS)
        access: dict[str, Any] = {"namespace": namespace, "context": context, "kubeconfig": kubeconfig}
        contexts = [(cls(name=one["metadata"]["name"], **access), one) for one in found["items"]]
        return [(context, context._status_of(one)) for context, one in contexts]

    @classmethod
    def connect(
        cls,
        compute_id: str,
        namespace: str | None = None,
        *,
        context: str | None = None,
        kubeconfig: Kubeconfig = None,
        connection_mode: Literal["direct", "proxy"] = "proxy",
    ) -> ComputeContext:
        """Use a context that is there and takes queries, by its name."""
        access: dict[str, Any] = {"namespace": namespace, "context": context, "kubeconfig": kubeconfig}
        found = cls(name=compute_id, connection_mode=connection_mode, **access)
        status = found.get_status()
        if not status.is_available():
            state = "is not there" if status.is_uninitialized() else f"is {status.name.lower()}"
            raise ContextError(
                f"context {compute_id} {state}: ComputeContext.list tells which there are, start makes one"
            )
        found._started = True
        return found

    @classmethod
    def select(
        cls, namespace: str | None = None, *, context: str | None = None, kubeconfig: Kubeconfig = None
    ) -> ComputeContext | None:
        """Ask on the terminal which of the contexts that take queries to use. `q` chooses none."""
        listed = cls.list(namespace, context=context, kubeconfig=kubeconfig)
        return choose([(one, status) for one, status in listed if status.is_available()])

    def _described(self) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        found = self._read() if self._started or not self._size else None
        if found is None:
            return self._size, self._labels
        labels = found["metadata"].get("labels") or {}
        return found.get("spec") or {}, {key: value for key, value in labels.items() if key not in LABELS}

    def __enter__(self) -> ComputeContext:
        self.start()
        self._setting = set_compute_context(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._setting is not None:
            self._setting.__exit__(None, None, None)
            self._setting = None
        if self._made:
            self.stop()
        self._way.close()

    def close(self) -> None:
        """Close the connections. The context and its queries go on."""
        self._way.close()
        super().close()

    def _sized(self, request: Request) -> dict[str, Any]:
        for field in ("min_workers", "max_workers"):
            if getattr(request, field) is not None:
                warn(f"{field} means nothing to a context, whose workers are there already", IgnoredArgumentWarning)
        return {"contextRef": {"name": self._name}}

    def _planned_for(self, compute: dict[str, Any]) -> dict[str, Any]:
        """The workers that are there, or as many as there can be; as the coordinator plans."""
        found = self._read() if self._started or not self._size else None
        spec, status = (self._size, {}) if found is None else (found.get("spec") or {}, found.get("status") or {})
        size = {key: value for key, value in (spec.get("compute") or {}).items() if key in ("cpus", "memory")}
        ready = (status.get("workers") or {}).get("ready", 0)
        return {**size, "workers": ready or spec.get("maxWorkers", MOST_WORKERS)}

    def _submit(self, request: Request) -> Execution:
        if not self._started:
            self.start()
        if not self._direct:
            return super()._submit(request)
        # This way is open to nobody else, so that only who asks for it has credentials put apart.
        request, credentials = self._apart(request) if self._of_plan else (request, self._credentials)
        id, spec = str(uuid.uuid4()), self._spec(request)
        # The coordinator knows its own sizes.
        del spec["compute"], spec["ttlSecondsAfterFinished"]
        job = {"id": id, "name": request.name, "attempt": 1, "spec": spec, "secrets": secrets(self, spec, credentials)}
        return self._way.submit(id, job)

    def query(self, id: str) -> DirectQuery:
        """Take up a query that is there, by its id. One of a direct connection is there as long as its coordinator is."""
        if not self._direct:
            return super().query(id)
        execution = DirectExecution(self._way.serving(), id)
        execution.refresh()
        return DirectQuery(execution, _no_ir)

    def __repr__(self) -> str:
        return f"ComputeContext(name={self._name!r}, namespace={self._namespace!r}, {self._size})"

    def _repr_html_(self) -> str:
        found = self._read() or {}
        status, spec = found.get("status") or {}, found.get("spec") or self._size
        rows: dict[str, Any] = {
            "name": self._name,
            "namespace": self._namespace,
            "phase": status.get("phase", "not started"),
        }
        if why := held_up(status):
            rows["why"] = why
        rows["workers"] = (status.get("workers") or {}).get("summary", f"at most {spec.get('maxWorkers', 2)}")
        rows["queries"] = f"{status.get('queriesRunning', 0)} running, {status.get('queriesWaiting', 0)} waiting"
        rows |= {key: value for key, value in (spec.get("compute") or {}).items() if key in ("cpus", "memory")}
        return _html.card("floe.ComputeContext", _html.table(rows))


_unnamed: weakref.WeakSet[ComputeContext] = weakref.WeakSet()


@atexit.register
def _stop_unnamed() -> None:
    for context in [*_unnamed]:
        with contextlib.suppress(Exception):
            context.stop()
