"""Hosts with addresses of their own: network namespaces on one bridge, where the kernel lets a test make them."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from federation import Host

_NETWORK = "10.213.77"
PORT, UPSTREAM = 9443, 9091


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network of namespaces can be made here: {done.stderr.strip()[:200]}")


@contextmanager
def network(names: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Host], str]]:
    """Yield a host for each name, the first of which is the coordinator, and the coordinator's address.

    Every host is a network namespace: a loopback of its own, and one address on a bridge that leads nowhere else.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    mark = secrets.token_hex(2)
    bridge, spaces = f"fsb{mark}", {name: f"fs{mark}-{name}" for name in names}
    try:
        _do("ip", "netns", "add", f"{bridge}")
        _do("ip", "-n", bridge, "link", "add", "br0", "type", "bridge")
        _do("ip", "-n", bridge, "link", "set", "br0", "up")
        for number, space in enumerate(spaces.values(), start=1):
            wire = f"fs{mark}{number}"
            _do("ip", "netns", "add", space)
            _do("ip", "link", "add", wire, "netns", bridge, "type", "veth", "peer", "name", "eth0", "netns", space)
            _do("ip", "-n", bridge, "link", "set", wire, "master", "br0", "up")
            _do("ip", "-n", space, "link", "set", "lo", "up")
            _do("ip", "-n", space, "addr", "add", f"{_NETWORK}.{number}/24", "dev", "eth0")
            _do("ip", "-n", space, "link", "set", "eth0", "up")
        hosts = {name: Host(name, ("ip", "netns", "exec", space)) for name, space in spaces.items()}
        yield hosts, f"{_NETWORK}.1:{PORT}"
    finally:
        for space in (*spaces.values(), bridge):
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
