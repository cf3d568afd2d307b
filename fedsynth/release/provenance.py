"""Where a release came from: the study as it was agreed, the environment, and the code that ran.

Never a noise seed, a machine's name, a user or a path.
"""

import json
import platform
from pathlib import Path

from fedsynth.source_code import Code, version_of

LISTED = (
    "cryptography",
    "dp-accounting",
    "edfio",
    "flwr",
    "mne",
    "numpy",
    "opacus",
    "pyarrow",
    "safetensors",
    "scikit-learn",
    "scipy",
    "torch",
)


def write_provenance(out: Path, *, study_text: str, code: Code) -> None:
    """Write `provenance/study.toml`, `environment.txt` and `code.json`."""
    folder = out / "provenance"
    folder.mkdir()
    body = {"name": "fedsynth", "version": code.version, "source_sha256": code.digest}
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
    return "".join(f"{line}\n" for line in [*lines, *(f"{name}=={version_of(name)}" for name in LISTED)])
