"""Where a release came from: the study as it was agreed, the environment, and the code that ran.

Never a noise seed, a machine's name, a user or a path.
"""

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path

import fedsynth
from fedsynth.release.claim import Code

PACKAGES = (
    "cryptography",
    "dp-accounting",
    "edfio",
    "flwr",
    "mne",
    "numpy",
    "opacus",
    "safetensors",
    "scikit-learn",
    "scipy",
    "torch",
)


def write_provenance(out: Path, *, study_text: str, code: Code) -> None:
    """Write `provenance/study.toml`, `environment.txt` and `code.json`."""
    folder = out / "provenance"
    folder.mkdir()
    body = {"name": "fedsynth", "version": code.version, "source_sha256": code.source_digest}
    texts = {
        "study.toml": study_text,
        "environment.txt": environment(),
        "code.json": json.dumps(body, indent=2) + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def environment() -> str:
    """List Python and the packages a release depends on, one `name==version` a line."""
    lines = [f"python=={platform.python_version()}", f"system=={platform.system()}-{platform.machine()}"]
    return "".join(f"{line}\n" for line in [*lines, *(f"{name}=={_version(name)}" for name in PACKAGES)])


def code_in_use() -> Code:
    """Return fedsynth's version and the digest over its source: SHA-256 of the lines `digest  path`, sorted."""
    root = Path(str(fedsynth.__file__)).parent
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root).as_posix()}\n"
        for path in sorted(root.rglob("*.py"))
    ]
    return Code(_version("fedsynth"), hashlib.sha256("".join(lines).encode()).hexdigest())


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
