"""Calls of the API server: how it is reached, how long one may take, and its errors in its own words."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

from floe.exceptions import ConnectionLostError, ContextError, PlanError

GROUP, VERSION, QUERIES, CONTEXTS = "floe.dev", "v1alpha1", "distributedqueries", "computecontexts"
#: How long a call may take to connect, and to be answered: one that hangs is one that fails.
CALL_SECONDS = (5.0, 30.0)
#: Answers of an API server, or of what stands before it, that the next one may not give; 0 is none at all.
_PASSING = (0, 408, 410, 429, 500, 502, 503, 504)


def library() -> Any:
    """The client library, which only these contexts need."""
    try:
        return importlib.import_module("kubernetes")
    except ImportError as error:
        raise ContextError("floe.Kubernetes needs the client library of Kubernetes: pip install kubernetes") from error


def client(configuration: Any) -> Any:
    """A client whose calls all have a time limit; the library's own wait for ever for a server that takes a connection and
    says nothing."""
    configuration.retries = _tries()
    made = library().client.ApiClient(configuration)
    send = made.rest_client.request

    def limited(*arguments: Any, _request_timeout: Any = None, **named: Any) -> Any:
        return send(*arguments, _request_timeout=_request_timeout or CALL_SECONDS, **named)

    made.rest_client.request = limited
    return made


def _tries() -> Any:
    """As the library: a connection that breaks is tried again. One whose time was over has had its try."""
    import urllib3

    class Tries(urllib3.Retry):
        def increment(
            self,
            method: str | None = None,
            url: str | None = None,
            response: Any = None,
            error: Exception | None = None,
            _pool: Any = None,
            _stacktrace: Any = None,
        ) -> Any:
            if isinstance(error, urllib3.exceptions.ReadTimeoutError):
                raise error
            return super().increment(method, url, response, error, _pool, _stacktrace)

    return Tries(3)


@contextlib.contextmanager
def if_there() -> Iterator[None]:
    """Passes over what the API server does not have. Not all versions of the library have a class for that."""
    try:
        yield
    except library().client.ApiException as error:
        if error.status != 404:
            raise


@contextlib.contextmanager
def api_errors(what: str) -> Iterator[None]:
    """Errors of the API server in its own words."""
    import urllib3

    kubernetes = library()
    try:
        yield
    except kubernetes.client.ApiException as error:
        try:
            message = json.loads(error.body)["message"]
        except (TypeError, ValueError, KeyError):
            message = error.reason or str(error)
        if error.status == 401:
            message = f"{message}: the credentials of the kubeconfig are refused or have expired"
        raised: type[ContextError | PlanError] = ConnectionLostError if error.status in _PASSING else ContextError
        raise (PlanError if error.status == 422 else raised)(f"{what}: {message}") from error
    except urllib3.exceptions.HTTPError as error:
        # Of several tries, why the last one failed.
        why = getattr(error, "reason", None) or error
        raise ConnectionLostError(f"{what}: the API server does not answer: {why}") from error


class _PluginErrors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if (text := record.getMessage()).startswith("exec: "):
            self.said.append(text)


@contextlib.contextmanager
def _plugin_errors() -> Iterator[list[str]]:
    """What the client library logs of a plugin that gives no credentials: it goes on without any."""
    handler = _PluginErrors()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.said
    finally:
        logging.getLogger().removeHandler(handler)


def configuration(context: str | None, kubeconfig: str | os.PathLike[str] | None) -> tuple[Any, str]:
    """How to reach the cluster, and the namespace where none is named."""
    kubernetes = library()
    found = kubernetes.client.Configuration()
    path = None if kubeconfig is None else os.fspath(kubeconfig)
    try:
        with _plugin_errors() as said:
            kubernetes.config.load_kube_config(path, context=context, client_configuration=found)
        if said and not found.api_key and not found.cert_file:
            raise ContextError(f"the kubeconfig cannot be used: {said[-1]}")
        contexts, active = kubernetes.config.list_kube_config_contexts(path)
        chosen = next((one for one in contexts if one["name"] == context), active)
        return found, chosen["context"].get("namespace", "default")
    except kubernetes.config.ConfigException as error:
        if path is not None or context is not None:
            raise ContextError(f"the kubeconfig cannot be used: {error}") from error
        try:
            kubernetes.config.load_incluster_config(client_configuration=found)
        except kubernetes.config.ConfigException:
            raise ContextError(f"no cluster is configured: {error}") from error
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace") as file:
            return found, file.read().strip()
