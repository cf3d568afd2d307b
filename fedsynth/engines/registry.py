"""The engines by name; each carries out the plan in a run's folder and is imported when first used."""

from importlib import import_module
from pathlib import Path

from fedsynth.engines.in_process import in_process
from fedsynth.engines.protocol import Engine
from fedsynth.progress import Progress


def _later(module: str) -> Engine:
    def carry_out(folder: Path, progress: Progress) -> None:
        import_module(module).carry_out(folder, progress)

    return carry_out


ENGINES: dict[str, Engine] = {
    "in-process": in_process,
    "simulation": _later("fedsynth.engines.simulation"),
    "deployment": _later("fedsynth.engines.deployment"),
}
