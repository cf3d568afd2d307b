"""The registry: the command line's engines, each imported when first used."""

import subprocess
import sys
from typing import get_args

from fedsynth.cli.rehearse import EngineName
from fedsynth.engines.registry import ENGINES

HEAVY = "import sys; import fedsynth.engines.registry; print({'flwr', 'ray'} & set(sys.modules))"


def test_every_engine_of_the_command_line_is_there() -> None:
    assert tuple(ENGINES) == get_args(EngineName)


def test_a_run_in_process_imports_neither_flower_nor_ray() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY], check=True, capture_output=True, text=True)

    assert done.stdout == "set()\n"
