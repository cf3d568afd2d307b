"""The environment of peers that pin other versions than ours: build/peers/venv, made by pip.

python benchmarks/peers/environment.py
"""

import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "peers" / "venv"
PYTHON = FOLDER / "bin" / "python"
PACKAGES = ("smartnoise-synth==1.0.8", "torch==2.13.0")


def main() -> int:
    """Make the environment and install the peers; return pip's exit code."""
    venv.create(FOLDER, with_pip=True, clear=True)
    install = [str(PYTHON), "-m", "pip", "install", "--quiet", *PACKAGES]
    return subprocess.run(install, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
