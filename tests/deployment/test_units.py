"""The system's units: systemd reads them without a warning, little is exposed, and their commands exist."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fedsynth.site.policy import Policy

from .commands import parse, words_of

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
LARGEST_EXPOSURE = {"train": 0.8, "gate": 0.7, "link": 1.6, "coordinator": 1.3}
"""Of 10, as `systemd-analyze security` counts."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def role_of(unit: Path) -> str:
    return unit.stem.removeprefix("fedsynth-")


def commands_of(unit: Path) -> list[str]:
    return re.findall(r"^ExecStart=(.+)$", unit.read_text(encoding="utf-8"), flags=re.MULTILINE)


def settings_of(unit: Path) -> dict[str, list[str]]:
    """Return the settings of a unit, each with all that it was given."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def analyzed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *map(str, words)], check=False, capture_output=True, text=True)


def test_there_is_a_unit_for_everybody() -> None:
    assert {role_of(unit) for unit in SERVICES} == set(LARGEST_EXPOSURE)


@needs_systemd
def test_systemd_reads_the_units_without_a_warning(tmp_path: Path) -> None:
    program = tmp_path / "fedsynth"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in (*SERVICES, UNITS / "fedsynth.target"):
        text = unit.read_text(encoding="utf-8")
        (tmp_path / unit.name).write_text(text.replace("/opt/fedsynth/bin/fedsynth", str(program)))

    done = analyzed("verify", "--man=no", *sorted(tmp_path.glob("*.service")), tmp_path / "fedsynth.target")

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES, ids=role_of)
def test_little_is_exposed(unit: Path) -> None:
    done = analyzed("security", "--offline=true", "--no-pager", unit)

    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= LARGEST_EXPOSURE[role_of(unit)]


@pytest.mark.parametrize("unit", SERVICES, ids=role_of)
def test_the_command_of_a_unit_is_one_of_fedsynths(unit: Path) -> None:
    (command,) = commands_of(unit)

    assert command.startswith("/opt/fedsynth/bin/fedsynth ")
    parse(words_of(command))


def test_a_command_that_there_is_not_is_noticed() -> None:
    (command,) = commands_of(UNITS / "fedsynth-gate.service")

    for wrong in (command.replace("--users", "--people"), command.replace("start", "begin"), f"{command} more"):
        with pytest.raises(click.ClickException):
            parse(words_of(wrong))


@pytest.mark.parametrize("role", ["train", "gate"])
def test_only_the_link_has_a_network(role: str) -> None:
    settings = settings_of(UNITS / f"fedsynth-{role}.service")

    assert settings["PrivateNetwork"] == ["yes"]
    assert settings["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert settings["User"] == [f"fedsynth-{role}"]


def test_training_holds_nothing_and_sees_nothing_of_the_site() -> None:
    settings = settings_of(UNITS / "fedsynth-train.service")

    assert not {"StateDirectory", "LoadCredential", "EnvironmentFile"} & set(settings)
    assert "-/var/lib/fedsynth" in settings["InaccessiblePaths"][0].split()
    assert settings["ReadWritePaths"] == ["/run/fedsynth-train"]
    # Its convolutions are machine code that is written while it runs.
    assert "MemoryDenyWriteExecute" not in settings


@pytest.mark.parametrize("unit", SERVICES, ids=role_of)
def test_a_unit_bounds_its_memory_and_leaves_no_copy_of_it(unit: Path) -> None:
    settings = settings_of(unit)

    assert settings["MemoryMax"][0].endswith("G")
    assert (settings["MemorySwapMax"], settings["LimitCORE"]) == (["0"], ["0"])
    # Processes of a site recognise one another by user, whom another user namespace hides.
    assert role_of(unit) == "coordinator" or "PrivateUsers" not in settings


def test_training_may_use_what_a_step_may_use_by_the_rules() -> None:
    settings = settings_of(UNITS / "fedsynth-train.service")

    assert float(settings["MemoryMax"][0].removesuffix("G")) > Policy.model_fields["memory_gigabytes"].default


@pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("systemd-sysusers") and shutil.which("systemd-tmpfiles")),
    reason="takes root, systemd-sysusers and systemd-tmpfiles to make users and folders below another root",
)
def test_users_and_folders_are_made_so_that_a_socket_is_reached_by_one(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for kind, program in (("sysusers", ["systemd-sysusers"]), ("tmpfiles", ["systemd-tmpfiles", "--create"])):
        for name in ("site", "coordinator"):
            place = UNITS / f"fedsynth-{name}.{kind}.conf"
            subprocess.run([*program, f"--root={tmp_path}", place], check=True, capture_output=True)

    users = {
        line.split(":")[2]: line.split(":")[0] for line in (tmp_path / "etc" / "passwd").read_text().splitlines()
    }
    groups = {
        line.split(":")[2]: line.split(":")[0] for line in (tmp_path / "etc" / "group").read_text().splitlines()
    }

    def rights(place: str) -> tuple[str, str, str]:
        found = (tmp_path / place).stat()
        return users[str(found.st_uid)], groups[str(found.st_gid)], f"{stat.S_IMODE(found.st_mode):o}"

    assert rights("run/fedsynth-gate") == ("fedsynth-gate", "fedsynth-link", "710")
    assert rights("run/fedsynth-train") == ("fedsynth-train", "fedsynth-gate", "710")
    assert rights("var/lib/fedsynth/site") == ("fedsynth-gate", "fedsynth-gate", "700")
    assert rights("var/lib/fedsynth/link") == ("fedsynth-link", "fedsynth-link", "700")
    assert rights("var/lib/fedsynth/coordinator") == ("fedsynth-coordinator", "fedsynth-coordinator", "700")


WITHOUT_WRITABLE_CODE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, ctypes.c_ulong(1), 0, 0, 0) != 0:  # PR_SET_MDWE, Linux 6.3
    sys.exit(99)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
CONVOLUTION = "import torch; torch.nn.Conv1d(8, 8, 5)(torch.randn(4, 8, 64))"


def without_writable_code(program: str) -> subprocess.CompletedProcess[str]:
    """Run Python as MemoryDenyWriteExecute=yes would have it: no memory is written and then executed."""
    command = [sys.executable, "-c", WITHOUT_WRITABLE_CODE, program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 99:
        pytest.skip("the kernel has no PR_SET_MDWE (Linux 6.3)")
    return done


@pytest.mark.slow
@pytest.mark.parametrize("role", ["gate", "link"])
def test_gate_and_link_need_no_memory_that_is_written_and_executed(role: str) -> None:
    assert settings_of(UNITS / f"fedsynth-{role}.service")["MemoryDenyWriteExecute"] == ["yes"]

    program = f"import fedsynth.node.{role}; from fedsynth.node import confine; confine.keep_privileges_down()"
    done = without_writable_code(f"{program}; confine.hide_memory()")

    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_training_needs_it() -> None:
    # Where this passes one day, fedsynth-train.service can have MemoryDenyWriteExecute=yes.
    done = without_writable_code(CONVOLUTION)

    assert "could not create a primitive" in done.stderr
