"""Who simulates the shards: this process, processes of this machine (one per GPU where there are any), or Dask's.

Each is a `concurrent.futures.Executor`, and so may the caller's own be.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from powsim_kernels import BackendUnavailable

Answer = TypeVar("Answer")
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Serial(Executor):
    """Runs what it is given at once, in this process."""

    def submit(self, fn: Callable[..., Answer], /, *args: Any, **kwargs: Any) -> Future[Answer]:
        """Return a future that is done. What is no Exception, such as KeyboardInterrupt, is raised."""
        future: Future[Answer] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whatever it is, the future's owner gets it
            future.set_exception(error)
        return future


@contextlib.contextmanager
def processes(workers: int, devices: list[str] | None = None) -> Iterator[Executor]:
    """Yield a pool of worker processes, started afresh (spawn); when the block ends they end, whatever they are at.

    devices: one worker is started for each, and sees that CUDA device alone, as its number 0.
    They also end when this process is killed: each watches a pipe whose other end only this process holds.
    """
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    queue = context.SimpleQueue()
    for device in devices or []:
        queue.put(device)
    count = len(devices) if devices else workers
    pool = ProcessPoolExecutor(count, context, initializer=prepare, initargs=(reader, queue if devices else None))
    try:
        yield pool
    finally:
        writer.close()
        pool.shutdown(wait=True, cancel_futures=True)
        reader.close()
        queue.close()


def prepare(lifeline: Connection, devices: Any) -> None:
    """Make this process a worker: it takes a device if there are any, and ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal's processes; the parent decides
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    if devices is not None:
        os.environ[VISIBLE] = devices.get()  # read by CUDA when it first starts, which is after this


def _end_with(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)  # no tidying up: a shard in flight is lost, and nothing of it is on disk


def cuda_devices(environment: Mapping[str, str], count: Callable[[], int]) -> list[str]:
    """Return the CUDA devices to give a worker each, in CUDA's own names.

    environment: where CUDA_VISIBLE_DEVICES stands, those it names are taken. count: how many there are otherwise.
    Raises BackendUnavailable where there are none.
    """
    named = environment.get(VISIBLE)
    found = [name.strip() for name in named.split(",")] if named is not None else list(map(str, range(count())))
    found = [name for name in found if name and name != "-1"]
    if not found:
        raise BackendUnavailable(f"no CUDA device to work on: unset {VISIBLE}, or use --backend cpu")
    return found


class Dask(Executor):
    """Dask's own executor, and whether its scheduler is lost: then some of its futures never end."""

    def __init__(self, client: Any) -> None:
        self._client, self._executor = client, client.get_executor(pure=False)

    def submit(self, fn: Callable[..., Answer], /, *args: Any, **kwargs: Any) -> Future[Answer]:
        """Return the future of a call on one of the cluster's workers."""
        future: Future[Answer] = self._executor.submit(fn, *args, **kwargs)
        return future

    @property
    def lost(self) -> bool:
        """Return whether the scheduler is gone for good; while the client still tries to reach it, it is not."""
        return self._client.status in ("closing", "closed")


@contextlib.contextmanager
def dask(address: str) -> Iterator[Executor]:
    """Yield the executor of a Dask cluster. Raises BackendUnavailable where it cannot be had.

    Its workers need the same powsim, and the files that scenarios name, under the same paths.
    """
    try:
        from distributed import Client
    except ImportError:
        raise BackendUnavailable("distributed is not installed: run `pip install 'powsim[cluster]'`") from None
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # a time-out is an OSError
        raise BackendUnavailable(f"no Dask scheduler answers at {address[:200]}: {str(error)[:200]}") from error
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        with client:
            yield Dask(client)
    except (KilledWorker, CommClosedError, FutureCancelledError, CancelledError) as error:
        raise BrokenExecutor(
            f"the Dask cluster at {address[:200]} failed: {str(error)[:200] or 'it is gone'}"
        ) from error
