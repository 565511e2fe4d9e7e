"""A port that a server will listen on, held for it from the moment its number is known.

A server that takes port 0 and says which needs none of this. It is for servers whose port somebody must know before
they start, or that come back at the same port.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

LOOPBACK = "127.0.0.1"


@contextmanager
def held_port(addresses: Sequence[str] = (LOOPBACK,)) -> Iterator[int]:
    """A port that nothing else is given at these addresses until the block ends.

    It is bound but not listened on: who connects is refused, and a server that sets SO_REUSEADDR, as every usual one
    does, can still listen there. The kernel gives a bound port to nobody who asks for any free one.
    """
    while True:
        with ExitStack() as sockets:
            try:
                port = _bind(sockets, addresses[0], 0)
                for address in addresses[1:]:
                    _bind(sockets, address, port)
            except OSError:  # taken at one of the other addresses
                continue
            yield port
            return


def _bind(sockets: ExitStack, address: str, port: int) -> int:
    bound = sockets.enter_context(socket.socket())
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((address, port))
    return int(bound.getsockname()[1])
