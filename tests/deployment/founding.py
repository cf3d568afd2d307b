"""A federation of hosts: provisioned, with its services and three users at every site; it ends with a test."""

import compileall
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from federation import ROOT, Federation
from machine import why_not
from network import PORT, UPSTREAM, network


@contextmanager
def founded(sites: tuple[str, ...], *, small_disks: tuple[str, ...] = ()) -> Iterator[Federation]:
    """Yield a federation whose sites run; a test is skipped, with the reason, where that cannot be had.

    Args:
        sites: their names.
        small_disks: sites whose folder is a disk of 48 MB of its own, as the coordinator's runs are in any case.
    """
    if reason := why_no_nginx() or why_not():
        pytest.skip(reason)
    for name in ("fedsynth", "server", "client"):  # other users may not write there
        compileall.compile_dir(ROOT / name, quiet=2)
    with ExitStack() as stack:
        hosts, address = stack.enter_context(network(("coordinator", *sites)))
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root.chmod(0o755)
        one = Federation(root, address, sites=sites, hosts=hosts)
        (root / "runs").mkdir(mode=0o700)
        for place in (root / "runs", *(one.site(name) for name in small_disks)):
            _small_disk(place)
            stack.callback(subprocess.run, ["umount", "--lazy", place], check=False)
        stack.callback(one.end)
        one.provision()
        one.start_service(port=UPSTREAM)
        one.start_nginx(listen=f"{address.split(':')[0]}:{PORT}", upstream=UPSTREAM)
        one.start_sites()
        yield one


def _small_disk(place: Path) -> None:
    at = place.stat()
    options = f"size=48m,mode={at.st_mode & 0o777:o},uid={at.st_uid},gid={at.st_gid}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=False).returncode != 0:
        pytest.skip("this system mounts nothing")


def why_no_nginx() -> str:
    """Return why there is no nginx, or nothing; it is installed where that is possible."""
    if not shutil.which("nginx") and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-q", "nginx-light"], capture_output=True, check=False)
    return "" if shutil.which("nginx") else "nginx is not installed, and cannot be installed here"


def why_no_namespaces() -> str:
    """Return why root's namespaces over an overlay of this machine cannot be had; empty where they can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "namespaces and overlays need root"
    if not shutil.which("unshare") or "overlay" not in Path("/proc/filesystems").read_text():
        return "this system has no overlays"
    if subprocess.run(["unshare", "--cgroup", "--pid", "--fork", "--mount", "true"], check=False).returncode:
        return "this system gives no namespaces"
    return ""
