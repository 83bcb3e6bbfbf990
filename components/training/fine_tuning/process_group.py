"""Training in more than one process: who learns from which rows, and how all of them fail and end together."""

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

# A process may wait this long for another one that downloads data or writes a checkpoint.
_PATIENCE = timedelta(minutes=30)


class AgreedError(InputError):
    """An error that every process knows of, so that nobody waits for anybody."""


@dataclass(frozen=True)
class World:
    """One process among those that train one model together; by itself, the only one.

    All but `rank`, `size` and `local_rank` must be called by every process in the same order.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Counts the processes of this machine from 0."""

    @classmethod
    @contextmanager
    def join(cls) -> Iterator["World"]:
        """Yield the world that torchrun's environment variables describe, and leave it afterwards.

        Without torchrun, or with one process, there is nothing to join. Inside a world that was joined already, it is
        that one. Only the first process prints: what all of them have to say is the same. A process joins once in its
        life: the store where processes find each other remembers the addresses of those that left.
        """
        env = os.environ
        if int(env.get("WORLD_SIZE", "1")) == 1:
            yield cls()
            return
        world = cls(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env["LOCAL_RANK"]))
        if dist.is_initialized():
            yield world
            return
        # Gradients go over nccl where there are GPUs; the words that processes exchange are small and stay off them.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
        try:
            with open(os.devnull, "w") as nowhere, nullcontext() if world.first else redirect_stdout(nowhere):
                try:
                    yield world
                except (InputError, SystemExit):
                    world.gather("")  # torchrun kills the rest when one ends: let the first process say why
                    raise
                world.gather("")
        finally:
            gc.collect()  # what is still part of a cycle holds the process group too; see `parallel`
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def take_gpu(self) -> None:
        """Make this process's GPU the default one, where there are GPUs.

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

    def share(self, batch: list[int]) -> tuple[list[int], float]:
        """Return this process's rows of a batch, and how much they count: 1, or 0 for a row on loan.

        The shares partition the batch. A process that finds no row left borrows one that counts nothing, since all
        must compute a gradient for any to get one. Rows come sorted by length, so every n-th row makes fair shares.
        """
        rows = batch[self.rank :: self.size]
        return (rows, 1.0) if rows else (batch[:1], 0.0)

    def parallel(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the model with gradients averaged over all processes, and the first one's weights in each.

        Let go of it before the world is left: torch 2.13 deadlocks now and then where the last to hold the process
        group is DistributedDataParallel, which frees it with Python's lock held.
        """
        if self.size == 1:
            return model
        # A static graph lets a backbone have parameters that its classifier never uses.
        return DistributedDataParallel(model, forward_sync_buffers=False, static_graph=True)

    def sum(self, *values: float) -> list[float]:
        """Add up each number over all processes; every one gets the same bits."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def gather(self, value: T) -> list[T]:
        """Return the value of each process, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def once(self, action: Callable[[], T]) -> T:
        """Let the first process act, and return its result in every process.

        Raises:
            AgreedError: the action raised an InputError; this is its sentence.
        """
        if self.size == 1:
            return action()
        box: list[Any] = [None, ""]
        if self.first:
            try:
                box = [action(), ""]
            except InputError as error:
                box = [None, str(error)]
        dist.broadcast_object_list(box, src=0)
        if box[1]:
            raise AgreedError(box[1])
        result: T = box[0]
        return result

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise in every process what one of them raises inside.

        What stands inside either needs no other process, or fails in all of them at the same place.

        Raises:
            AgreedError: a process raised an InputError; this is the sentence of the first that did.
        """
        mine = ""
        try:
            yield
        except AgreedError:
            raise
        except InputError as error:
            if self.size == 1:
                raise
            mine = str(error)
        sentences = [sentence for sentence in self.gather(mine) if sentence]
        if sentences:
            raise AgreedError(sentences[0])

    def agree(self, job: Any) -> None:
        """Make sure that all processes are about to do the same job; otherwise they would wait for each other forever.

        Raises:
            AgreedError: one of them has another job.
        """
        jobs = self.gather(job)
        for rank, other in enumerate(jobs):
            if other != jobs[0]:
                raise AgreedError(
                    f"process {rank} has other data, backbone or settings than process 0: "
                    "give the same --data and options on every machine"
                )
