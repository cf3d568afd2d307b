"""Run as root in namespaces of its own: take the steps of a Containerfile, and run what its entrypoint is.

    build.py CONTAINERFILE CONTEXT STAGE PYTHON

The base image is this machine, of which nothing is written, with the Python below PYTHON in /usr/local, where
images of Python have it. What was seen is printed as JSON.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

CONTAINERFILE, CONTEXT, STAGE, PYTHON = map(Path, sys.argv[1:])
TRAIN = yaml.safe_load(CONTAINERFILE.with_name("compose.yaml").read_text(encoding="utf-8"))["services"]["train"]


def do(*words: object, **how: Any) -> None:
    subprocess.run([*map(str, words)], check=True, stdout=sys.stderr, **how)


def stage(name: str, below: str = "") -> Path:
    """Mount a root file system over others, with what programs expect of a kernel."""
    upper, work, root = (STAGE / f"{name}-{part}" for part in ("upper", "work", "root"))
    for folder in (upper, work, root):
        folder.mkdir()
    do("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={below}/,upperdir={upper},workdir={work}", root)
    do("mount", "-t", "proc", "proc", root / "proc")
    do("mount", "--rbind", "/dev", root / "dev")
    do("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "tmp")
    return root


def base() -> str:
    """Make the base image, and return where it lies, for what is mounted over it."""
    do("mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", STAGE)  # one layer may not lie within another
    root = stage("base")
    copied = (
        f"tar -C {PYTHON} --exclude='site-packages/*' --exclude='*/test' -c bin lib | tar -C {root}/usr/local -x"
    )
    do("bash", "-o", "pipefail", "-c", copied)
    (root / "etc/ld.so.conf.d/000-python.conf").write_text("/usr/local/lib\n")
    do("ldconfig", "-r", root)
    do("chmod", "-R", "a+rX", root / "usr/local")
    return f"{STAGE / 'base-upper'}:"


def carried_out() -> tuple[Path, dict[str, str], dict[str, str]]:
    """Take every step; return the last stage's root, its environment, and what else the file says."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    below, stages, said, shell = base(), dict[str, Path](), dict[str, str](), ["/bin/sh", "-c"]
    environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for line in filter(None, re.sub(r" *\\\n +", " ", text).splitlines()):
        name, _, rest = line.partition(" ")
        words = shlex.split(rest)
        if name == "FROM":
            root = stages[words[-1]] = stage(f"stage-{len(stages)}", below)
        elif name == "SHELL":
            shell = json.loads(rest)
        elif name == "COPY" and words[0].startswith("--from="):
            do("cp", "-a", f"{stages[words[0].partition('=')[2]]}{words[1]}", f"{root}{words[2]}")
        elif name == "COPY":
            do("cp", "-r", CONTEXT / words[0], f"{root}{words[1]}")
        elif name == "RUN":
            do("chroot", root, *shell, rest, env=environment)
        elif name == "ENV":
            environment |= dict(word.split("=", 1) for word in words)
        else:
            said[name] = rest
    return root, environment, said


def rights(folder: Path) -> list[object]:
    found = folder.stat()
    return [found.st_uid, found.st_gid, f"{found.st_mode & 0o7777:o}"]


def main() -> None:
    root, environment, said = carried_out()
    seen: dict[str, object] = {
        "user": said["USER"],
        "sbom": json.loads((root / "opt/fedsynth/sbom.cdx.json").read_text()),
        "tools": sorted(path.name for path in root.glob("opt/*") if path.name == "tools")
        + sorted(path.name for path in root.glob("opt/fedsynth/bin/pip*")),
        "sockets": {name: rights(root / "run" / name) for name in ("fedsynth-gate", "fedsynth-train")},
    }
    # As compose.yaml has it: the file system is only read, but for a volume that takes its rights from the image.
    (volume,) = [one.partition(":")[2] for one in TRAIN["volumes"]]
    (uid, gid, mode), place = rights(root / volume.lstrip("/")), root / volume.lstrip("/")
    do("mount", "-o", "remount,bind,ro", root)
    do("mount", "-t", "tmpfs", "-o", f"uid={uid},gid={gid},mode={mode}", "tmpfs", place)
    user, group = TRAIN["user"].split(":")
    down = [
        "setpriv",
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
    ]
    inside, entry = [shutil.which("chroot") or "chroot", str(root), *down, "--"], json.loads(said["ENTRYPOINT"])

    def say(*words: str) -> str:
        done = subprocess.run([*inside, *words], env=environment, capture_output=True, text=True, check=False)
        return done.stdout

    seen["says"] = say(*entry, *json.loads(said["CMD"]))
    seen["ids"] = say("sh", "-c", "id -u; id -g; tail -n +3 /proc/net/dev | cut -d: -f1")
    seen["written"] = say("sh", "-c", "for one in / /opt /usr /etc /var/tmp; do touch $one/x && echo $one; done")
    process = subprocess.Popen(
        [*inside, *entry, *TRAIN["command"]], env=environment, stderr=subprocess.PIPE, text=True
    )
    ends = time.monotonic() + 60
    while not (place / "train.sock").exists() and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.1)
    seen["listens"] = (place / "train.sock").exists()
    process.terminate()
    seen["said"] = process.communicate(timeout=60)[1]
    seen["code"] = process.returncode
    json.dump(seen, sys.stdout)


main()
