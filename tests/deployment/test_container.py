"""The image and its compose file: three users, networks for one, nothing written, and wheels by hash."""

import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from .commands import parse

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text(encoding="utf-8"))
USERS = {"link": "6501:6501", "gate": "6502:6502", "train": "6503:6503"}


def mounted(role: str) -> dict[str, str]:
    """Return where a container has which volume, and how (`rw` or `ro`)."""
    found = {}
    for volume in COMPOSE["services"][role]["volumes"]:
        source, _, how = volume.split(":") if volume.count(":") == 2 else (*volume.split(":"), "rw")
        found[source] = how
    return found


def instructions() -> list[tuple[str, str]]:
    """Return the Containerfile's instructions with their words."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r" *\\\n +", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


@pytest.mark.parametrize("role", USERS)
def test_each_process_is_a_user_of_its_own_that_may_do_nothing(role: str) -> None:
    service = COMPOSE["services"][role]

    assert service["user"] == USERS[role]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode", "ports", "expose"} & set(service)
    assert service["mem_limit"] == service["memswap_limit"]
    assert service["pids_limit"] <= 256
    assert service["ulimits"]["core"] == 0


def test_only_the_link_has_a_network() -> None:
    assert {role: COMPOSE["services"][role].get("network_mode") for role in USERS} == {
        "train": "none",
        "gate": "none",
        "link": None,
    }


def test_nobody_sees_more_of_the_site_than_it_needs() -> None:
    assert mounted("train") == {"train-socket": "rw"}
    assert mounted("gate") == {"gate-socket": "rw", "train-socket": "ro", "/var/lib/fedsynth/site": "rw"}
    assert mounted("link") == {"gate-socket": "ro", "/var/lib/fedsynth/link": "ro"}


@pytest.mark.parametrize("role", USERS)
def test_the_command_of_a_container_is_one_of_fedsynths(role: str) -> None:
    words = COMPOSE["services"][role]["command"]

    parse(words)
    assert f"--as={role}" in words
    assert f"--users={','.join(user.split(':')[0] for user in USERS.values())}" in words


def test_the_image_is_nobodys_and_its_wheels_are_taken_by_hash() -> None:
    found = instructions()
    installs = [part for name, rest in found if name == "RUN" for part in rest.split("&&") if "pip install" in part]

    assert [rest for name, rest in found if name == "USER"] == ["6503:6503"]
    assert len(installs) == 2
    for install in installs:
        assert {"--require-hashes", "--no-index", "--only-binary"} <= set(install.split())
    assert not any(word in rest for _, rest in found for word in ("curl", "wget", "apt-get", "http://", "https://"))
    assert {name for name, _ in found} <= {
        *("ARG", "FROM", "SHELL", "COPY", "RUN", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD")
    }
    assert "cyclonedx-py environment" in " ".join(rest for _, rest in found)


def test_sockets_folders_in_the_image_are_those_of_the_units() -> None:
    text = " ".join(rest for _, rest in instructions())

    assert "install -d -o 6502 -g 6501 -m 0710 /run/fedsynth-gate" in text
    assert "install -d -o 6503 -g 6502 -m 0710 /run/fedsynth-train" in text


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed here")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", str(CONTAINERFILE)], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


def test_a_lock_names_the_wheel_by_its_hash(lock: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "fedsynth-0.2.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")

    line = lock.pinned(wheel)

    assert line.startswith("fedsynth==0.2.0 \\\n    --hash=sha256:")
    assert re.search(r"sha256:([0-9a-f]{64})\n$", line)
    wheel.write_bytes(b"another")
    assert lock.pinned(wheel) != line
    with pytest.raises(SystemExit, match="no wheel of fedsynth"):
        lock.pinned(tmp_path / "other-1.0-py3-none-any.whl")


def test_packages_are_resolved_with_hashes_and_fetched_by_them(lock: ModuleType, tmp_path: Path) -> None:
    assert {"--generate-hashes", "compile"} <= set(lock.resolving("-", index=None))
    assert {"--require-hashes", "--only-binary", "--no-deps"} <= set(
        lock.fetching(tmp_path, "lock.txt", index="https://index.example/simple")
    )
