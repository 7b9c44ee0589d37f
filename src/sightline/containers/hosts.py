"""Who trains together: one process a GPU on every host, and what each must know to find the others.

The variables are torchrun's. Its agent itself is not used: it kills processes 30 seconds after SIGTERM, of the 120 that the
platform leaves them to save, and it has no words for what they said.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sightline.containers.opt_ml import Cluster
from sightline.errors import Problem, RunError
from sightline.processors import cores

PORT = 7777
"""Where the first host's first process listens, in jobs of several hosts. Theirs is a network of their own."""

PATIENCE_S = 900.0
"""How long host names may take to become known; AWS's toolkit waits as long."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")

Resolve = Callable[[str], object]


def address_of(host: str) -> object:
    """What a host's name stands for.

    Raises:
        OSError: nobody knows it.
    """
    return socket.getaddrinfo(host, None)


def wait_for_names(
    hosts: Sequence[str],
    *,
    patience_s: float = PATIENCE_S,
    resolve: Resolve = address_of,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Until all names are known: those of hosts that have just started may not be.

    Raises:
        RunError: all that still are not after `patience_s`.
    """
    began, wait, unknown = clock(), FIRST_WAIT_S, dict.fromkeys(hosts, "")
    while unknown:
        for host in list(unknown):
            try:
                resolve(host)
                del unknown[host]
            except OSError as error:
                unknown[host] = str(error)
        if unknown and clock() - began >= patience_s:
            fix = "Start the job again; if it stays so, check the DNS of its VPC."
            what = f"has no address after {patience_s:.0f} s"
            raise RunError.collected([Problem(f"host {host}", f"{what} ({why})", fix) for host, why in unknown.items()])
        if unknown:
            sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)


def gpu_count() -> int:
    """How many GPUs torch sees here. It is asked in a process of its own, so that this one stays small."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return 0
    asked = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    told = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    return int(told[-1]) if told and told[-1].isdigit() else 0


def environments(
    cluster: Cluster, count: int, environ: Mapping[str, str], interfaces: Sequence[str] | None = None
) -> list[dict[str, str]]:
    """What each of this host's `count` processes finds in its environment.

    interfaces: those that are here; None: asked of the system
    """
    plain = {key: value for key, value in environ.items() if key not in VARIABLES}
    plain |= {"PYTHONUNBUFFERED": "1", "TERMINAL_WIDTH": "200"}  # lines at once, and messages in one piece
    world = count * len(cluster.hosts)
    if world == 1:
        return [plain]
    alone = len(cluster.hosts) == 1
    address, port = ("127.0.0.1", free_port()) if alone else (cluster.hosts[0], PORT)
    common = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": cluster.rank, "MASTER_ADDR": address}
    plain.setdefault("OMP_NUM_THREADS", str(max(cores() // count, 1)))
    known = [name for _, name in socket.if_nameindex()] if interfaces is None else interfaces
    if not alone and cluster.interface in known:
        plain |= {"NCCL_SOCKET_IFNAME": cluster.interface, "GLOO_SOCKET_IFNAME": cluster.interface}
    told = {**common, "MASTER_PORT": port}
    return [
        {**plain, **{key: str(value) for key, value in told.items()}, "LOCAL_RANK": str(local), "RANK": str(rank)}
        for local, rank in enumerate(range(cluster.rank * count, (cluster.rank + 1) * count))
    ]


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
