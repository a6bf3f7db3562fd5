"""Several processes that train one network together, as torchrun starts them.

It rests on torch.distributed: its DistributedDataParallel, its fully_shard, its collectives.
"""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn

from ngs.errors import InputError
from ngs.train.config import TrainConfig
from ngs.train.models import stages

ENGINES = ("ddp", "fsdp")
"""How processes share a network: each holds all of it, or a part of each parameter."""
SHARDABLE = ("ngs", "ngs-rescaled", "ngs-factor", "ngs-factor-rescaled", "sgd", "sgd-nesterov")
"""Optimizers that are known to be right where every process holds a part of each parameter."""
PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others in one exchange."""
MEETINGS = itertools.count()
"""Times that this process has met the others: every meeting has a table of its own."""
LOST = ("connection closed by peer", "connection reset", "broken pipe", "timed out", "gloo", "nccl")
"""What torch's errors say where another process is gone; in lower case."""


class PeerLostError(RuntimeError):
    """Another process of the run has ended, and this one cannot go on without it."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, and this one's place among them.

    Every process draws the same batches and takes its own part of each, so that a step is that of
    one process with the whole batch (where no batch normalisation looks at parts). With one process
    every method does nothing, or the obvious.

    Attributes:
        rank: of this process, from 0.
        count: of all.
        engine: ``"ddp"``, every process holds the network and the gradients are averaged; or
            ``"fsdp"``, every process holds a part of each parameter, gradient and velocity.
        backend: what carries the exchange, ``"gloo"`` or ``"nccl"``; ``""`` in one process.
    """

    rank: int = 0
    count: int = 1
    engine: str = "ddp"
    backend: str = ""

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    @property
    def together(self) -> bool:
        """Whether there is an exchange at all."""
        return bool(self.backend)

    @property
    def sharded(self) -> bool:
        """Whether a process holds parts of the parameters."""
        return self.together and self.engine == "fsdp"

    def check(self, config: TrainConfig) -> None:
        """Raise InputError where several processes cannot do what a run is to do."""
        if not self.together:
            return
        if self.count > config.batch_size:
            raise InputError(
                f"batch-size must be at least the {self.count} processes, got {config.batch_size}"
            )
        if config.guard != "off":
            raise InputError(f"guard {config.guard} is for runs of one process: leave it off")
        if config.compile:
            raise InputError("compile is for runs of one process: train with --no-compile")
        if not self.sharded:
            return
        if config.optimizer not in SHARDABLE:
            raise InputError(
                f"fsdp needs one of {', '.join(SHARDABLE)}, got {config.optimizer}: take it, or "
                "--parallel ddp"
            )
        for name, off in (("train_last", 0), ("whitening_epochs", 0), ("average", 0.0)):
            if getattr(config, name) != off:
                raise InputError(f"{name.replace('_', '-')} does not go with fsdp: give ddp")
        if config.precision == "float16":
            raise InputError("precision float16 does not go with fsdp: take bfloat16 or float32")

    def shard(self, model: nn.Module) -> None:
        """Leave this process its part of each parameter; does nothing except with ``"fsdp"``."""
        if self.sharded:
            from torch.distributed.fsdp import fully_shard

            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            for stage in stages(model):
                fully_shard(stage if len(stage) > 1 else stage[0])
            fully_shard(model)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return what the images go through, so that gradients are those of the whole batch."""
        if not self.together or self.sharded:
            return model
        return nn.parallel.DistributedDataParallel(model)

    def part(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return this process's part of a batch."""
        return torch.tensor_split(tensor, self.count)[self.rank]

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes, the same in each."""
        if self.together:
            distributed.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set in any process."""
        if self.together:
            votes = torch.tensor(flags, dtype=torch.int32)
            distributed.all_reduce(votes, distributed.ReduceOp.MAX)  # on the CPU, by gloo
            return tuple(map(bool, votes.tolist()))
        return flags

    def gathered(self, columns: torch.Tensor, places: torch.Tensor, length: int) -> torch.Tensor:
        """Return the columns ``(k, length)`` of which this process knows those at ``places``."""
        if not self.together:
            return columns
        whole = columns.new_zeros(len(columns), length)
        whole[:, places.to(columns.device)] = columns
        return self.total(whole)

    def same_buffers(self, model: nn.Module) -> None:
        """Give every process the buffers of the first: running means of batch normalisation.

        DistributedDataParallel does so by itself at every step.
        """
        if self.sharded:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def gather_anew(self, model: nn.Module) -> None:
        """Let the next forward pass gather the parameters as they are now.

        After a forward pass without a backward pass fully_shard keeps what it has gathered, while
        an optimizer moves the parts: to the iterate, say.
        """
        if self.sharded:
            for module in model.modules():
                getattr(module, "reshard", lambda: None)()

    def whole(self, state: Any) -> Any:
        """Return a state with whole tensors where a process holds parts; all must ask for it."""
        if isinstance(state, torch.Tensor):
            full = getattr(state, "full_tensor", None)
            return state if full is None else full()
        if isinstance(state, Mapping):
            return {key: self.whole(value) for key, value in state.items()}
        if isinstance(state, list | tuple):
            return type(state)(self.whole(value) for value in state)
        return state

    def parts_like(self, state: Any, like: Any) -> Any:
        """Return a tensor as parts, as ``like`` has them; the inverse of :meth:`whole`."""
        if self.sharded and hasattr(like, "device_mesh") and state.shape == like.shape:
            from torch.distributed.tensor import distribute_tensor

            return distribute_tensor(state.to(like.device), like.device_mesh, like.placements)
        return state

    def vary(self, seed: int, step: int) -> None:
        """Let this process draw random numbers of its own from here on (for dropout)."""
        if self.rank:
            torch.manual_seed((seed + 1) * 1_000_003 + step * self.count + self.rank)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the first process pass alone, and then the others: it may fetch files."""
        if self.together and not self.main:
            distributed.barrier()
        yield
        if self.together and self.main:
            distributed.barrier()


def started() -> bool:
    """Return whether torchrun has started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def restarted() -> bool:
    """Return whether torchrun has started it anew, after an accident."""
    return started() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def join(engine: str, device: str = "auto") -> Iterator[Processes]:
    """Meet the other processes that torchrun has started, until the end of the block.

    Outside of torchrun there is one process, and nothing to meet.

    Args:
        engine: one of :data:`ENGINES`.
        device: name of the device, as in :class:`ngs.train.config.TrainConfig`; on CUDA each
            process of a machine takes the device of its local rank.

    Raises:
        InputError: the engine is unknown, or there are more processes than devices.
        PeerLostError: another process has ended inside the block.
    """
    if engine not in ENGINES:
        raise InputError(f"parallel must be one of {', '.join(ENGINES)}, got {engine!r}")
    if not started():
        yield Processes(engine=engine)
        return
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    if cuda:
        place, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= there:
            raise InputError(
                f"torchrun started more processes than the {there} CUDA devices of this machine: "
                f"give --nproc-per-node {there}, or --device cpu"
            )
        torch.cuda.set_device(place)
    _meet("cpu:gloo,cuda:nccl" if cuda else "gloo")
    name = "nccl" if cuda else "gloo"
    processes = Processes(distributed.get_rank(), distributed.get_world_size(), engine, name)
    try:
        yield processes
    except RuntimeError as error:
        if processes.count > 1 and is_lost(error):
            raise PeerLostError("another process of this run has ended") from error
        raise
    finally:
        distributed.destroy_process_group()


def _meet(backend: str) -> None:
    """Form the group of all processes."""
    if os.environ.get("GROUP_WORLD_SIZE") != "1":
        distributed.init_process_group(backend, timeout=PATIENCE)
        return
    # torchrun keeps the table of addresses over a restart, and a process may read an address of
    # the run that has broken (pytorch #135712). On one machine the count of restarts tells the runs
    # apart; over several machines it does not, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 helps.
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous  # not in a torch without it

    table, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    attempt = f"ngs-{os.environ['TORCHELASTIC_RESTART_COUNT']}-{next(MEETINGS)}"
    distributed.init_process_group(
        backend,
        store=PrefixStore(attempt, table),
        rank=rank,
        world_size=count,
        timeout=PATIENCE,
    )


def is_lost(error: RuntimeError) -> bool:
    """Return whether torch reports that another process is gone."""
    text = str(error).lower()
    backend = isinstance(error, distributed.DistBackendError | distributed.DistNetworkError)
    return backend or any(phrase in text for phrase in LOST)
