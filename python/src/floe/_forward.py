"""A coordinator's port: straight where this process reaches its pod, else through the API server, as `kubectl port-forward`
reaches it: past network policies and without an ingress.

The client library's own port-forward reads ahead of its reader without a limit, does not tell when a connection is reset, and
while it opens one other threads cannot use the client. So this speaks to the WebSocket itself.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import io
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any, cast

from floe import _near, _retry
from floe._http import SILENCE_SECONDS, Coordinator
from floe.exceptions import ConnectionLostError, ContextError, ResultGoneError

PORT = 7071
#: Time allowed to open a connection.
CONNECT_SECONDS = 30.0
PROTOCOL = "v4.channel.k8s.io"
#: The first byte of a message, its channel: the port's data, or an error.
DATA, ERROR = 0, 1
_PART_BYTES = 256 << 10


class Forwarded(Coordinator):
    """Speaks to the coordinator in a pod."""

    def __init__(self, core: Any, namespace: str, pod: str, token: str) -> None:
        super().__init__("coordinator", PORT, token)
        self._core, self._configuration = core, core.api_client.configuration
        self._namespace, self._pod = namespace, pod
        #: The pod's address; empty until it is asked for, none where there is no straight way.
        self._address: str | None = "" if _near.is_near(self._configuration.host) else None

    def _patience(self) -> _retry.Patience:
        return _retry.Patience()

    def _connection(self) -> http.client.HTTPConnection:
        return self._straight() or _Connection(self._configuration, self._namespace, self._pod)

    def _straight(self) -> http.client.HTTPConnection | None:
        """A connection past the API server. Once there is none, it is not tried again: only the API server can tell whether the
        pod is there at all."""
        if self._address == "":
            self._address = _near.address(self._core, self._namespace, self._pod)
        opened = _near.connect(self._address, PORT, SILENCE_SECONDS) if self._address else None
        if opened is None:
            self._address = None
        return opened


class _Connection(http.client.HTTPConnection):
    def __init__(self, configuration: Any, namespace: str, pod: str) -> None:
        super().__init__("coordinator", PORT, timeout=SILENCE_SECONDS)
        self._configuration, self._namespace, self._pod = configuration, namespace, pod

    def connect(self) -> None:
        # It implements what http.client needs of a socket.
        self.sock = cast(Any, _Port(self._open()))

    def _open(self) -> Any:
        """A WebSocket to the pod's port."""
        configuration = self._configuration
        library: Any = importlib.import_module("websocket")
        path = f"/api/v1/namespaces/{self._namespace}/pods/{self._pod}/portforward?ports={PORT}"
        url = "ws" + configuration.host.removeprefix("http").rstrip("/") + path
        header = [f"sec-websocket-protocol: {PROTOCOL}"]
        if token := configuration.get_api_key_with_prefix("BearerToken", alias="authorization"):
            header.append(f"authorization: {token}")
        options: dict[str, Any] = {"header": header, "timeout": CONNECT_SECONDS}
        if configuration.proxy or configuration.proxy_headers:
            proxies = importlib.import_module("kubernetes.stream.ws_client")
            options = proxies.websocket_proxycare(options, configuration, url, None)
        opened = library.WebSocket(sslopt=_tls(configuration), skip_utf8_validation=True)
        what = f"cannot reach port {PORT} of pod {self._pod}"
        try:
            opened.connect(url, **options)
        except library.WebSocketBadStatusException as error:
            raise self._refused(what, error) from error
        except (library.WebSocketException, OSError) as error:
            raise ConnectionLostError(f"{what}: {error}") from error
        opened.settimeout(SILENCE_SECONDS)
        return opened

    def _refused(self, what: str, error: Any) -> Exception:
        """What the API server says when it opens no connection."""
        status, message = error.status_code, str(error)
        with contextlib.suppress(TypeError, ValueError, KeyError):
            message = json.loads(error.resp_body)["message"]
        if status == 404:
            return ResultGoneError(f"pod {self._pod} is gone, and with it the query and its rows: {message}")
        if status == 401:
            return ContextError(f"{what}: {message}: the credentials of the kubeconfig are refused or have expired")
        # The kubelet does not answer, or the pod does not run: either may be temporary.
        return ConnectionLostError(f"{what}: {message}") if status >= 500 else ContextError(f"{what}: {message}")


def _tls(configuration: Any) -> dict[str, Any]:
    """How the API server is known, as the client library's configuration says."""
    if not configuration.verify_ssl:
        options: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE}
    else:
        options = {"cert_reqs": ssl.CERT_REQUIRED}
        if configuration.ssl_ca_cert:
            options["ca_certs"] = configuration.ssl_ca_cert
        if configuration.assert_hostname is not None:
            options["check_hostname"] = configuration.assert_hostname
    for option, value in (
        ("certfile", configuration.cert_file),
        ("keyfile", configuration.key_file),
        ("server_hostname", configuration.tls_server_name),
    ):
        if value:
            options[option] = value
    return options


class _Port:
    """The pod's port, by the names of a socket."""

    def __init__(self, opened: Any) -> None:
        self._socket, self._library = opened, importlib.import_module("websocket")
        # Each channel begins with the number of its port.
        self._begun: set[int] = set()
        self._rest = memoryview(b"")
        self._readers, self._closed = 0, False

    @property
    def family(self) -> int:
        return int(self._socket.sock.family) if self._socket.sock is not None else socket.AF_UNSPEC

    def setsockopt(self, *option: Any) -> None:
        self._socket.sock.setsockopt(*option)

    def sendall(self, data: bytes) -> None:
        whole = memoryview(data)
        with self._broken():
            for at in range(0, len(whole), _PART_BYTES):
                self._socket.send_binary(bytes((DATA,)) + whole[at : at + _PART_BYTES])

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_Reader(self), _PART_BYTES)

    def read_into(self, buffer: memoryview) -> int:
        """Waits until there are bytes; 0 when the port was closed."""
        while not self._rest:
            message = self._receive()
            if message is None:
                return 0
            channel = message[0]
            if channel not in self._begun:
                self._begun.add(channel)
            elif channel == ERROR:
                raise ConnectionError(bytes(message[1:]).decode(errors="replace"))
            else:
                self._rest = memoryview(message)[1:]
        count = min(len(self._rest), len(buffer))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _receive(self) -> bytes | None:
        """The next message; none when the other side closes."""
        codes = self._library.ABNF
        while True:
            with self._broken():
                code, frame = self._socket.recv_data_frame(True)
            if code == codes.OPCODE_CLOSE:
                return None
            if code == codes.OPCODE_BINARY and frame.data:
                data: bytes = frame.data
                return data

    @contextlib.contextmanager
    def _broken(self) -> Iterator[None]:
        """Errors as those of a socket."""
        try:
            yield
        except self._library.WebSocketTimeoutException as error:
            raise TimeoutError(f"the API server was silent for {SILENCE_SECONDS:g} s") from error
        except (self._library.WebSocketException, OSError) as error:
            raise ConnectionError(f"the connection through the API server broke: {error}") from error

    def close(self) -> None:
        """As a socket's: what was made of it reads on."""
        self._closed = True
        self._end()

    def left(self) -> None:
        """A reader is closed."""
        self._readers -= 1
        self._end()

    def _end(self) -> None:
        if self._closed and self._readers <= 0:
            # Skip the closing handshake: nobody would wait for the answer.
            self._socket.shutdown()


class _Reader(io.RawIOBase):
    """The bytes that come from the port."""

    def __init__(self, port: _Port) -> None:
        self._port = port

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._port.read_into(memoryview(buffer).cast("B"))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._port.left()
