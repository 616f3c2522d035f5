"""Where trials run: processes of this machine, or a Dask cluster that is there.

A worker that dies loses what it was computing and nothing else: Dask gives that job to another one,
and a local one is started again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, Future, LocalCluster, wait
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from edgefusion.runtime.errors import DoesNotFitError, InputError
from edgefusion.runtime.progress import Say, silent

_PATIENCE_S = 60
_DEATHS = 3
"""So often a job may take its worker with it before it counts as too large."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Workers to give jobs to; ``slots`` of them run at a time."""

    client: Client
    slots: int

    def submit(self, compute: Callable[..., Any], job: Any) -> Future[Any]:
        """Begin a job. A second one like it is computed again: its trial is another."""
        return self.client.submit(compute, job, pure=False)

    def first_done(self, futures: list[Future[Any]]) -> list[tuple[Future[Any], Any]]:
        """Wait for one or more to end; each with what it returned.

        Raises what the job raised, DoesNotFitError for one that its workers did not survive,
        InputError where the scheduler is gone.
        """
        try:
            done = wait(  # type: ignore[no-untyped-call]
                futures, return_when="FIRST_COMPLETED"
            ).done
            return [(future, future.result()) for future in futures if future in done]
        except KilledWorker as error:
            raise DoesNotFitError(
                f"{_DEATHS + 1} workers died computing one trial, probably for want of memory. "
                "What was finished is kept: repeat the command with fewer --workers."
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise InputError(
                f"the Dask scheduler is gone ({type(error).__name__}). What was finished is kept: "
                "repeat the command, and it goes on."
            ) from error


@contextmanager
def local_workers(count: int) -> Iterator[Workers]:
    """``count`` processes of this machine, or a thread of this one for 0."""
    settings = {
        "distributed.scheduler.allowed-failures": _DEATHS,
        "distributed.comm.timeouts.connect": f"{_PATIENCE_S}s",
    }
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        cluster = stack.enter_context(
            LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=max(count, 1),
                threads_per_worker=1,
                processes=count > 0,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # not the one that others take, too
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL,
            )
        )
        client = stack.enter_context(Client(cluster))  # type: ignore[no-untyped-call]
        yield Workers(client, max(count, 1))


@contextmanager
def cluster_workers(address: str, progress: Say = silent) -> Iterator[Workers]:
    """Those of a scheduler that is there. Raises InputError where none answers."""
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)  # what it would log is told as an error
    try:
        client = Client(address, timeout=f"{_PATIENCE_S}s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`, "
            "or leave --scheduler out."
        ) from error
    with client:
        progress(f"waiting for workers of {address}")
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_S)
        except TimeoutError as error:
            raise InputError(
                f"the scheduler at {address} has no workers; start some with `dask worker "
                f"{address}`, where edgefusion is installed."
            ) from error
        slots = sum(client.nthreads().values())  # type: ignore[no-untyped-call]
        yield Workers(client, slots)
