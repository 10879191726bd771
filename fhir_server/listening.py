"""Sockets that a process listens on, bound before it serves so that processes may share them."""

import socket

from fhir_server.outcomes import Unavailable


def listening(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A TCP socket bound to an address; `shared` lets another process bind it too. Raises Unavailable when taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        raise Unavailable(f"Nothing can listen on {host}:{port}: {error.strerror}") from error
    bound.setblocking(False)
    return bound
