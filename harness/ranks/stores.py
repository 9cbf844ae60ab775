"""Create stores that clean up after themselves, and TCP stores without a race for the port.

The usual way is to find a free port and then serve on it, but another process may take the port in
between. Here the kernel chooses the port when the socket is bound, and the same socket serves.
Stores listen on the loopback address only, so that other hosts cannot connect.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from harness.ranks import folders

if TYPE_CHECKING:
    from torch._C._distributed_c10d import FileStore, HashStore, TCPStore

LOOPBACK = "127.0.0.1"
DEFAULT_TIMEOUT = timedelta(minutes=5)


def create_tcp_store(
    addr: str = "localhost",
    world_size: int | None = 1,
    is_master: bool = True,
    timeout: timedelta = DEFAULT_TIMEOUT,
    wait_for_workers: bool = True,
    jit_class: bool = False,
    use_libuv: bool = True,
) -> TCPStore:
    """Return a TCP store that serves on a free port; `store.port` is its number.

    Args:
        addr: the host name or address to serve on.
        world_size: the number of stores that connect, including this one; None for any number.
        is_master: must be true. A client needs a port, so create it with
            `torch.distributed.TCPStore`.
        timeout: how long the store's operations wait, and how long the workers may take to connect.
        wait_for_workers: whether to wait until all workers have connected.
        jit_class: only for PyTorch's signature; torch no longer has such a class.
        use_libuv: whether to use torch's libuv server.

    Raises:
        ValueError: if `is_master` is false or `jit_class` is true.
        torch.distributed.DistStoreError: if the workers did not connect in time.
    """
    if not is_master:
        raise ValueError(
            "create_tcp_store() creates a server; create a client with "
            "torch.distributed.TCPStore(addr, port, is_master=False)"
        )
    if jit_class:
        raise ValueError("torch no longer has a TorchScript class for stores; omit jit_class")
    from torch._C._distributed_c10d import TCPStore

    with _listening_socket(addr) as listener:
        port = listener.getsockname()[1]
        return TCPStore(
            addr,
            port,
            world_size,
            True,
            timeout=timeout,
            wait_for_workers=wait_for_workers,
            # From here on the store owns the descriptor, and closes it.
            master_listen_fd=listener.detach(),
            use_libuv=use_libuv and _libuv_takes_sockets(),
        )


def _libuv_takes_sockets() -> bool:
    """Whether torch's libuv server accepts `master_listen_fd`; since torch 2.7."""
    import torch

    return tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 7)


def _listening_socket(addr: str) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        addr, 0, family=socket.AF_INET, type=socket.SOCK_STREAM
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError:
        listener.close()
        raise
    return listener


def serve(timeout: timedelta = DEFAULT_TIMEOUT, host: str = LOOPBACK) -> TCPStore:
    """Return a TCP store for any number of clients; it serves as long as the object exists.

    Args:
        timeout: how long its operations wait.
        host: the address to serve on.
    """
    return create_tcp_store(host, None, timeout=timeout, wait_for_workers=False)


def connect(port: int, timeout: timedelta = DEFAULT_TIMEOUT, host: str = LOOPBACK) -> TCPStore:
    """Return a client of the store that serves on this port."""
    from torch._C._distributed_c10d import TCPStore

    return TCPStore(host, port, None, False, timeout, wait_for_workers=False)


@contextlib.contextmanager
def tcp_store(timeout: timedelta = DEFAULT_TIMEOUT) -> Iterator[TCPStore]:
    """Provide a TCP store on the loopback address; the server stops at the end of the block.

    The block gets a client. So the server stops even if somebody keeps a reference to the store.

    Args:
        timeout: how long its operations wait.
    """
    server: TCPStore | None = serve(timeout)
    assert server is not None
    try:
        yield connect(server.port, timeout)
    finally:
        server = None  # torch stops the server with the last reference


@contextlib.contextmanager
def file_store(
    world_size: int,
    path: str | os.PathLike[str] | None = None,
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Iterator[FileStore]:
    """Provide a store in a file, and remove the file at the end of the block.

    Args:
        world_size: the number of processes that use the file.
        path: the file; by default a new one in the harness's temp folder.
        timeout: how long its operations wait.
    """
    from torch._C._distributed_c10d import FileStore

    folder = folders.new_test_folder("store") if path is None else None
    file = folder / "file" if folder is not None else Path(os.fspath(path or ""))
    store = FileStore(str(file), world_size)
    store.set_timeout(timeout)
    try:
        yield store
    finally:
        del store
        file.unlink(missing_ok=True)
        if folder is not None:
            folders.remove(folder)


@contextlib.contextmanager
def hash_store(timeout: timedelta = DEFAULT_TIMEOUT) -> Iterator[HashStore]:
    """Provide a store in the memory of this process, for thread ranks.

    Args:
        timeout: how long its operations wait.
    """
    from torch._C._distributed_c10d import HashStore

    store = HashStore()
    store.set_timeout(timeout)
    yield store
