"""Training in several processes: which rows each one gets, and how all of them fail and end at once."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from predictor.errors import InputError

T = TypeVar("T")

# How long a process waits for another one that downloads data or writes a checkpoint.
_TIMEOUT = timedelta(minutes=30)


class SharedError(InputError):
    """An error that every process raises, so that none waits for another."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one model together, as one of them sees them; a group of one is the usual case.

    The collective methods must be called by every process, and in the same order: `join`, `data_parallel`, `sum`,
    `all_gather`, `run_on_main`, `shared_errors` and `check_same`.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Counts the processes of this machine from 0."""

    @classmethod
    @contextmanager
    def join(cls) -> Iterator["ProcessGroup"]:
        """Yield the group that torchrun's environment variables describe, and leave it afterwards.

        Without torchrun, or with one process, it is a group of one. A process that has joined already gets the same
        group again. Only the main process prints, since all would print the same. A process can join only once: the
        store in which processes find each other keeps the addresses of those that left.
        """
        env = os.environ
        if int(env.get("WORLD_SIZE", "1")) == 1:
            yield cls()
            return
        group = cls(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env["LOCAL_RANK"]))
        if dist.is_initialized():
            yield group
            return
        # Gradients go over nccl where there are GPUs; everything else that is exchanged is small and on the CPU.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=_TIMEOUT)
        try:
            with open(os.devnull, "w") as nowhere, nullcontext() if group.is_main else redirect_stdout(nowhere):
                try:
                    yield group
                except (InputError, SystemExit):
                    group.all_gather("")  # torchrun kills the others once one ends: let the main process print why
                    raise
                group.all_gather("")
        finally:
            gc.collect()  # reference cycles may still hold the process group; see `data_parallel`
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0

    def use_own_gpu(self) -> None:
        """Make the GPU of this process its default device, where there are GPUs.

        Raises:
            InputError: the machine runs more processes than it has GPUs.
        """
        if self.size == 1 or not torch.cuda.is_available():
            return
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if here > torch.cuda.device_count():
            raise InputError(
                f"{here} processes cannot share the {torch.cuda.device_count()} GPUs of this machine: "
                f"run torchrun with --nproc-per-node {torch.cuda.device_count()}"
            )
        torch.cuda.set_device(self.local_rank)

    def shard(self, batch: list[int]) -> tuple[list[int], float]:
        """Return this process's rows of a batch, and their weight: 1, or 0 for a row that only fills the place.

        The shards partition the batch. A process for which no row is left takes the first one with weight 0, since
        gradients are averaged over all processes and each must compute one. Rows are sorted by length, so taking every
        n-th row makes shards of about the same size.
        """
        rows = batch[self.rank :: self.size]
        return (rows, 1.0) if rows else (batch[:1], 0.0)

    def data_parallel(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the model with gradients averaged over all processes, and the main process's weights in each.

        Drop the returned model before leaving the group: torch 2.13 sometimes deadlocks where DistributedDataParallel
        has the last reference to the process group, which it frees while it holds the GIL.
        """
        if self.size == 1:
            return model
        # With a static graph a backbone may have parameters that its classifier never uses.
        return DistributedDataParallel(model, forward_sync_buffers=False, static_graph=True)

    def sum(self, *values: float) -> list[float]:
        """Add up each number over all processes; every process gets the same bits."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def all_gather(self, value: T) -> list[T]:
        """Return the value of each process, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def run_on_main(self, action: Callable[[], T]) -> T:
        """Call the action in the main process, and return its result in every process.

        Raises:
            SharedError: the action raised an InputError; it has the same message.
        """
        if self.size == 1:
            return action()
        box: list[Any] = [None, ""]
        if self.is_main:
            try:
                box = [action(), ""]
            except InputError as error:
                box = [None, str(error)]
        dist.broadcast_object_list(box, src=0)
        if box[1]:
            raise SharedError(box[1])
        result: T = box[0]
        return result

    @contextmanager
    def shared_errors(self) -> Iterator[None]:
        """Raise in every process what one of them raises in the block.

        The block must call no collective method, unless that fails in all processes at the same place.

        Raises:
            SharedError: a process raised an InputError; the message is that of the lowest rank that did.
        """
        mine = ""
        try:
            yield
        except SharedError:
            raise
        except InputError as error:
            if self.size == 1:
                raise
            mine = str(error)
        sentences = [sentence for sentence in self.all_gather(mine) if sentence]
        if sentences:
            raise SharedError(sentences[0])

    def check_same(self, job: Any) -> None:
        """Check that all processes are about to do the same job; otherwise they would wait for each other forever.

        Raises:
            SharedError: one of them has another job.
        """
        jobs = self.all_gather(job)
        for rank, other in enumerate(jobs):
            if other != jobs[0]:
                raise SharedError(
                    f"process {rank} has other data, backbone or settings than process 0: "
                    "give the same --data and options on every machine"
                )
