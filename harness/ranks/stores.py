"""Make stores that clean up after themselves, and TCP stores without a race for the port.

A port that was free a moment ago may be taken now. So the kernel chooses the port for the very
socket that then serves, on the loopback address only.
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
    """A TCP store that serves on a port of the kernel's choice; read it from the store's `port`.

    Args:
        addr: the host name or address to serve on.
        world_size: number of stores that connect to it, this one included; None for any number.
        is_master: must be true: a client has to be told the port, so make it with
            `torch.distributed.TCPStore`.
        timeout: how long the store's operations wait, also for the workers to connect.
        wait_for_workers: whether to wait here until all have connected.
        jit_class: accepted for PyTorch's signature; torch no longer has such a class.
        use_libuv: whether torch's libuv server is used.

    Raises:
        ValueError: if `is_master` is false or `jit_class` is true.
        torch.distributed.DistStoreError: if the workers did not connect in time.
    """
    if not is_master:
        raise ValueError(
            "create_tcp_store() makes the store that serves; a client is made with "
            "torch.distributed.TCPStore(addr, port, is_master=False)"
        )
    if jit_class:
        raise ValueError("torch has no TorchScript class for stores any more; leave jit_class out")
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
            # The store owns the descriptor from here on, and closes it.
            master_listen_fd=listener.detach(),
            use_libuv=use_libuv and _libuv_takes_sockets(),
        )


def _libuv_takes_sockets() -> bool:
    """Whether torch's libuv server can listen on a socket that it is given; since torch 2.7."""
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
    """A TCP store for any number of clients; it ends with its object.

    Args:
        timeout: how long its operations wait.
        host: the address to serve on.
    """
    return create_tcp_store(host, None, timeout=timeout, wait_for_workers=False)


def connect(port: int, timeout: timedelta = DEFAULT_TIMEOUT, host: str = LOOPBACK) -> TCPStore:
    """A client of the store that serves on this port."""
    from torch._C._distributed_c10d import TCPStore

    return TCPStore(host, port, None, False, timeout, wait_for_workers=False)


@contextlib.contextmanager
def tcp_store(timeout: timedelta = DEFAULT_TIMEOUT) -> Iterator[TCPStore]:
    """A TCP store on the loopback address, gone at the end of the block.

    The block gets a client of the server, so that the server ends with the block whoever still
    holds the store.

    Args:
        timeout: how long its operations wait.
    """
    server: TCPStore | None = serve(timeout)
    assert server is not None
    try:
        yield connect(server.port, timeout)
    finally:
        server = None  # it stops with the last reference


@contextlib.contextmanager
def file_store(
    world_size: int,
    path: str | os.PathLike[str] | None = None,
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Iterator[FileStore]:
    """A store in a file, which is removed at the end of the block.

    Args:
        world_size: number of processes that use the file.
        path: the file; by default a new one in this session's own temp folder.
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
    """A store in the memory of this process, for worlds whose ranks are threads.

    Args:
        timeout: how long its operations wait.
    """
    from torch._C._distributed_c10d import HashStore

    store = HashStore()
    store.set_timeout(timeout)
    yield store
