"""Federations of hosts, each started once for a module; everything ends with it."""

import compileall
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from federation import ROOT, Federation
from machine import why_not
from network import PORT, UPSTREAM, network


@pytest.fixture(scope="module")
def found() -> Iterator[Callable[..., Federation]]:
    """Return a function that founds a federation: provisioned, with its services, and every site with three users.

    It takes the names of the sites, and those of sites whose folders are disks of 48 MB of their own.
    """
    if reason := _no_nginx() or why_not():
        pytest.skip(reason)
    for name in ("fedsynth", "server", "client"):  # other users may not write there
        compileall.compile_dir(ROOT / name, quiet=2)
    with ExitStack() as stack:

        def start(sites: tuple[str, ...], *, small_disks: tuple[str, ...] = ()) -> Federation:
            hosts, address = stack.enter_context(network(("coordinator", *sites)))
            root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            root.chmod(0o755)
            one = Federation(root, address, sites=sites, hosts=hosts)
            (root / "runs").mkdir(mode=0o700)
            for place in (root / "runs", *(one.site(name) for name in small_disks)):
                stack.callback(subprocess.run, ["umount", "--lazy", place], check=False)
                _small_disk(place)
            stack.callback(one.end)
            one.provision()
            one.start_service(port=UPSTREAM)
            one.start_nginx(listen=f"{address.split(':')[0]}:{PORT}", upstream=UPSTREAM)
            one.start_sites()
            return one

        yield start


def _small_disk(place: Path) -> None:
    at = place.stat()
    options = f"size=48m,mode={at.st_mode & 0o777:o},uid={at.st_uid},gid={at.st_gid}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=False).returncode != 0:
        pytest.skip("this system mounts nothing")


def _no_nginx() -> str:
    if not shutil.which("nginx") and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-q", "nginx-light"], capture_output=True, check=False)
    return "" if shutil.which("nginx") else "nginx is not installed, and cannot be installed here"
