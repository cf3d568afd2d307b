"""The registry: the command line's engines, each imported when first used."""

import subprocess
import sys

import pytest

from fedsynth.engines.registry import ENGINES, engine_of
from fedsynth.errors import StudyError

HEAVY = """
import sys
from fedsynth.engines.registry import engine_of
engine_of("in-process")
print({"flwr", "ray"} & set(sys.modules))
"""


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_can_be_called(name: str) -> None:
    assert callable(engine_of(name))


def test_an_unknown_engine_is_named_with_those_there_are() -> None:
    with pytest.raises(StudyError, match="no engine 'rays'; there are: in-process, simulation, deployment"):
        engine_of("rays")


def test_a_run_in_process_imports_neither_flower_nor_ray() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY], check=True, capture_output=True, text=True)

    assert done.stdout == "set()\n"
