"""A machine in a folder: the users and folders of a site as deploy/ makes them, and its units' command lines."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from commands import words_of

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
LINK, GATE, TRAIN = 6501, 6502, 6503
USERS = {"fedsynth-link": LINK, "fedsynth-gate": GATE, "fedsynth-train": TRAIN, "root": 0}
ROLES = {"train": TRAIN, "gate": GATE, "link": LINK}
"""The users of a site's processes, in the order in which they are started."""


def as_user(uid: int, command: list[str], *, network: bool) -> list[str]:
    """Return a command line that another user runs, as a unit of the system would have it."""
    alone = ["unshare", "--mount", *([] if network else ["--net"])]
    down = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs"]
    down += ["--bounding-set=-all", "--", *command]
    return [*alone, "sh", "-c", f'{way_to_python()} exec "$@"', "sh", *down]


def way_to_python() -> str:
    """Return what makes this interpreter reachable for others where it lies in a folder that only root enters."""
    home = Path(sys.base_prefix).resolve()
    closed = next((one for one in reversed(home.parents) if not one.stat().st_mode & 0o001), None)
    if closed is None:
        return ""
    aside = "/mnt"
    return (
        f"mount --bind {home} {aside} && mount -t tmpfs -o mode=755 tmpfs {closed} && mkdir -p {home} && "
        f"mount --bind {aside} {home} &&"
    )


def why_not() -> str:
    """Return why three users cannot be had here, or nothing."""
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("setpriv", "unshare")):
        return "takes root, setpriv and unshare to make three users"
    probe = as_user(TRAIN, [sys.executable, "-c", "import fedsynth"], network=False)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if subprocess.run(probe, check=False, env=environment, cwd="/", capture_output=True).returncode != 0:
        return "another user cannot read this installation, or the system lets no process leave its network"
    return ""


class Machine:
    """A folder in the place of a machine's root."""

    def __init__(self, root: Path) -> None:
        """Make the folders of a site below `root`, which every user may enter."""
        self.root = root
        for line in (UNITS / "fedsynth-site.tmpfiles.conf").read_text(encoding="utf-8").splitlines():
            if line.startswith("d "):
                _, place, mode, owner, group, _ = line.split()
                folder = root / place.lstrip("/")
                folder.mkdir(parents=True)
                os.chown(folder, USERS[owner], USERS[group])
                folder.chmod(int(mode, 8))
        for folder in ("run", "var", "var/lib"):
            (root / folder).chmod(0o755)

    @property
    def site(self) -> Path:
        """Return the site's folder, the gate's alone."""
        return self.root / "var" / "lib" / "fedsynth" / "site"

    @property
    def link(self) -> Path:
        """Return the folder with the link's copy of the kit."""
        return self.root / "var" / "lib" / "fedsynth" / "link"

    def place(self, text: str) -> str:
        """Return a text with the folders of a machine below this root."""
        return re.sub(r"(?<![\w.])/(run|var/lib)/fedsynth", rf"{self.root}/\1/fedsynth", text)

    def command(self, role: str) -> list[str]:
        """Return a unit's command, below this root, with users by number."""
        text = (UNITS / f"fedsynth-{role}.service").read_text(encoding="utf-8")
        (line,) = re.findall(r"^ExecStart=(.+)$", text, flags=re.MULTILINE)
        words = words_of(self.place(line))
        at = words.index("--users") + 1
        words[at] = ",".join(str(USERS[name]) for name in words[at].split(","))
        return [sys.executable, "-m", "fedsynth", *words]

    def socket(self, role: str) -> Path:
        """Return the socket of a role."""
        return self.root / "run" / f"fedsynth-{role}" / f"{role}.sock"

    def give_kit_to_link(self) -> None:
        """Copy to the link what it needs of the kit, as the administrator's page says."""
        names = ("revoked.toml", "federation.toml", "authority.pem", "tls.pem", "tls.key", "node.key")
        for name in names:
            shutil.copyfile(self.site / "federation" / name, self.link / name)
            os.chown(self.link / name, LINK, LINK)
            (self.link / name).chmod(0o600)
