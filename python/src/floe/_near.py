"""The straight way to a coordinator, for a client that runs in the same cluster: to the address of its pod, past the API server.

Elsewhere it is not tried: another network may have that address, too, and its owner would be shown the query's token.
"""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from floe._api import api_errors
from floe.exceptions import ContextError

#: Time allowed to connect: a NetworkPolicy that does not admit the client leaves it without an answer.
CONNECT_SECONDS = 1.0


def is_near(server: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs in the cluster of that API server.

    >>> is_near("https://10.43.0.1:443", {"KUBERNETES_SERVICE_HOST": "10.43.0.1"})
    True
    >>> is_near("https://example.org:6443", {"KUBERNETES_SERVICE_HOST": "10.43.0.1"})
    False
    >>> is_near("https://10.43.0.1:443", {})
    False
    """
    own = environment.get("KUBERNETES_SERVICE_HOST")
    host = urlsplit(server).hostname or ""
    names = ("kubernetes.default", "kubernetes.default.svc")
    return bool(own) and (host == own or host in names or host.startswith("kubernetes.default.svc."))


def address(core: Any, namespace: str, pod: str) -> str | None:
    """The pod's address; none if it has none, or this client may not read pods."""
    try:
        with api_errors(f"cannot read pod {pod}"):
            found = core.read_namespaced_pod(pod, namespace)
    except ContextError:
        return None
    if found.status is None or found.metadata.deletion_timestamp is not None:
        return None
    ip: str | None = found.status.pod_ip
    return ip


def connect(host: str, port: int, silence: float) -> http.client.HTTPConnection | None:
    """An open connection; none if the pod is not reached."""
    connection = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
    except OSError:
        return None
    connection.timeout = silence
    connection.sock.settimeout(silence)
    return connection
