"""What processes must know to find each other, and waiting for names."""

import socket

import pytest

from sightline.containers.hosts import VARIABLES, environments, free_port, wait_for_names
from sightline.containers.opt_ml import ALONE, Cluster
from sightline.errors import RunError

TWO = Cluster("algo-2", ("algo-1", "algo-2"), "eth0")


def test_ranks_go_on_from_host_to_host() -> None:
    found = environments(TWO, 4, {"HOME": "/root"}, ["lo", "eth0"])
    assert [one["RANK"] for one in found] == ["4", "5", "6", "7"]
    assert [one["LOCAL_RANK"] for one in found] == ["0", "1", "2", "3"]
    assert {one["WORLD_SIZE"] for one in found} == {"8"}
    assert {(one["MASTER_ADDR"], one["MASTER_PORT"]) for one in found} == {("algo-1", "7777")}
    assert {one["GLOO_SOCKET_IFNAME"] for one in found} == {one["NCCL_SOCKET_IFNAME"] for one in found} == {"eth0"}
    assert {one["HOME"] for one in found} == {"/root"}


def test_an_interface_that_is_not_here_is_not_named() -> None:
    assert "GLOO_SOCKET_IFNAME" not in environments(TWO, 1, {}, ["lo"])[0]


def test_one_process_is_alone_whatever_it_inherits() -> None:
    (found,) = environments(ALONE, 1, {"RANK": "3", "WORLD_SIZE": "8"})
    assert not found.keys() & set(VARIABLES)


def test_several_on_one_host_meet_on_a_free_port() -> None:
    first, second = environments(ALONE, 2, {"OMP_NUM_THREADS": "3"})
    assert first["MASTER_ADDR"] == "127.0.0.1"
    assert first["MASTER_PORT"] == second["MASTER_PORT"] != "7777"
    assert first["OMP_NUM_THREADS"] == "3"


class Names:
    """Host names that become known at a time; a clock that only sleeping moves."""

    def __init__(self, **known_at: float) -> None:
        self.known_at, self.now, self.asked = known_at, 0.0, 0

    def resolve(self, host: str) -> object:
        self.asked += 1
        if self.now < self.known_at[host]:
            raise socket.gaierror(-2, "Name or service not known")
        return host

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, patience_s: float) -> None:
        wait_for_names(
            list(self.known_at), patience_s=patience_s, resolve=self.resolve, sleep=self.sleep, clock=lambda: self.now
        )


def test_names_are_waited_for() -> None:
    names = Names(a=0, b=20)
    names.wait(60)
    assert 20 <= names.now <= 32
    assert names.asked < 12, "the longer it takes, the rarer it asks"


def test_names_that_never_come_are_told_together() -> None:
    names = Names(a=0, b=1e9, c=1e9)
    with pytest.raises(RunError) as caught:
        names.wait(60)
    text = str(caught.value)
    assert "host b: has no address after 60 s ([Errno -2] Name or service not known)" in text
    assert "host c" in text
    assert "host a" not in text
    assert names.now < 80


def test_this_machines_own_name_is_known() -> None:
    wait_for_names(["localhost"], patience_s=0)
    assert 0 < free_port() < 65536
