"""A TCP relay between a client and a server, which a test cuts: now, after so many bytes, or for good."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading

#: How soon a cut is noticed.
TICK_SECONDS = 0.02
RESET = struct.pack("ii", 1, 0)


class Relay:
    """Listens on a port of loopback and passes connections on."""

    def __init__(self, host: str, port: int):
        self._to = (host, port)
        self.port = 0
        #: Connections that were cut, and those that were let through.
        self.cuts = self.connections = 0
        self._reset = True
        self._limit: int | None = None
        self._generation = 0
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Takes connections (again), on the port that it had."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=32)
        listener.settimeout(TICK_SECONDS)
        self.port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Cuts all connections and takes no more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self.cut()

    def cut(self, reset: bool = True) -> None:
        """Cuts the connections that there are: by a reset, or as if the other side had closed them in order."""
        self._reset = reset
        self._generation += 1

    def cut_after(self, limit: int | None) -> None:
        """From now on cuts each connection that has brought the client so many bytes."""
        self._limit = limit

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                # Closed meanwhile.
                return
            threading.Thread(target=self._serve, args=(client, self._generation), daemon=True).start()

    def _serve(self, client: socket.socket, generation: int) -> None:
        with client:
            try:
                server = socket.create_connection(self._to, timeout=10)
            except OSError:
                return
            self.connections += 1
            with server, contextlib.suppress(OSError):
                whole = self._pass_on(client, server, generation)
                if not whole:
                    self.cuts += 1
                    if self._reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _pass_on(self, client: socket.socket, server: socket.socket, generation: int) -> bool:
        """Until one side closes (true), or the connection is cut."""
        other = {client: server, server: client}
        for side in other:
            side.settimeout(TICK_SECONDS)
        down = 0
        while generation == self._generation:
            for side in select.select([client, server], [], [], TICK_SECONDS)[0]:
                data = side.recv(65536)
                if not data:
                    return True
                if side is server:
                    down += len(data)
                    if self._limit is not None and down > self._limit:
                        return False
                while data and generation == self._generation:
                    with contextlib.suppress(TimeoutError):
                        data = data[other[side].send(data) :]
        return False
