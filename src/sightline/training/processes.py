"""The processes that train together: one, or several that `torchrun` has started, on one host or many.

Every process walks through the same steps with its share of each batch. What they must agree on goes through here.
"""

import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn

from sightline.errors import ConfigError, RunError
from sightline.tensors import choose_device

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others in one exchange; reading a large data set on a slow disk takes some of them long."""

SIOCGIFADDR = 0x8915
"""Linux's request for an interface's address (netdevice(7))."""

BACKENDS = "cpu:gloo,cuda:nccl"
"""Who carries what: decisions and results travel as CPU tensors, gradients where the model is."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among its peers. rank: 0 to count - 1; local_rank: among those of this host, of which there are `here`."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    here: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def device(self, asked: str, configured: str) -> torch.device:
        """As `choose_device`; each process of a host gets a GPU of its own.

        Raises:
            ConfigError: there are fewer GPUs than processes on this host.
        """
        device = choose_device(asked, configured)
        if str(device) != "cuda" or self.count == 1:  # "cuda:1" was asked for by its number
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise ConfigError(
                "torchrun",
                f"starts process {self.local_rank + 1} on a host with {torch.cuda.device_count()} GPUs",
                "Lower --nproc-per-node to the number of GPUs.",
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def most(self, values: Sequence[float]) -> list[float]:
        """The largest of each value among all processes."""
        if self.count == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX)
        return numbers.tolist()

    def mean(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The mean of each number over all processes; all have the same names."""
        if self.count == 1:
            return dict(numbers)
        values = torch.tensor(list(numbers.values()), dtype=torch.float64)
        distributed.all_reduce(values)
        return dict(zip(numbers, (values / self.count).tolist(), strict=True))

    def gather(self, part: T) -> list[T]:
        """Every process's `part`, in the order of their ranks."""
        if self.count == 1:
            return [part]
        parts: list[T | None] = [None] * self.count
        distributed.all_gather_object(parts, part)
        return parts  # type: ignore[return-value]  # all are filled now

    def from_first(self, value: T) -> T:
        """The first process's `value`."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the first one's buffers: the running statistics of batch norms differ, and one set is saved."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)


@contextmanager
def joined(environ: Mapping[str, str] = os.environ) -> Iterator[Processes]:
    """This process among those that `torchrun` started (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE); alone without it."""
    count = int(environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environ]
    if missing:
        raise ConfigError(
            "WORLD_SIZE", f"is {count}, and {', '.join(missing)} is not set", "Start with torchrun, or unset WORLD_SIZE."
        )
    local, here = int(environ.get("LOCAL_RANK", "0")), int(environ.get("LOCAL_WORLD_SIZE", "1"))
    processes = Processes(int(environ["RANK"]), count, local, here)
    name = interface_towards(environ["MASTER_ADDR"])
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)  # gloo has no other argument for it
    with connection_told(processes, f"cannot find the others at {environ['MASTER_ADDR']}:{environ['MASTER_PORT']}"):
        distributed.init_process_group(BACKENDS if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        with connection_told(processes, "lost the others"):
            yield processes
    finally:
        distributed.destroy_process_group()


@contextmanager
def connection_told(processes: Processes, what: str) -> Iterator[None]:
    """The exchange that fails inside the block as a `RunError`; torch has one class of its own for it, and RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, distributed.DistError) and not any(word in text for word in ("gloo", "NCCL", "DDP")):
            raise
        raise RunError(
            f"process {processes.rank} of {processes.count}",
            f"{what} ({text.splitlines()[0]})",
            "If one of them has ended, its own message says why; else check the network between the hosts, "
            "and name the interface in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME.",
        ) from error


def interface_towards(address: str) -> str | None:
    """The network interface over which `address` is reached. gloo would take the one of the host's own name, which is often
    the loopback, where other hosts find nobody. None where it cannot be told."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # a datagram socket sends nothing by this
            own = probe.getsockname()[0]
            for _, name in socket.if_nameindex():
                if address_of(probe, name) == own:
                    return name
    except OSError:
        return None
    return None


def address_of(probe: socket.socket, interface: str) -> str | None:
    """The IPv4 address of a network interface (Linux)."""
    try:
        import fcntl

        request = struct.pack("256s", interface[:15].encode())
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)[20:24])
    except (ImportError, OSError):
        return None
