"""The engines by name; each carries out the plan in a run's folder and is imported when it is used."""

from importlib import import_module

from fedsynth.engines.protocol import Engine
from fedsynth.errors import StudyError

ENGINES = {
    "in-process": "fedsynth.engines.in_process",
    "simulation": "fedsynth.engines.simulation",
    "deployment": "fedsynth.engines.deployment",
}
"""The module of each engine; its `carry_out` is the engine. The first is the default."""


def engine_of(name: str) -> Engine:
    """Return an engine.

    Raises:
        StudyError: there is no such engine.
    """
    if name not in ENGINES:
        raise StudyError(f"there is no engine {name!r}; there are: {', '.join(ENGINES)}")
    engine: Engine = import_module(ENGINES[name]).carry_out
    return engine
