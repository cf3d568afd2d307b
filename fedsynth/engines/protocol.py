"""What an engine is: it carries out the run in a folder."""

from collections.abc import Callable
from pathlib import Path

from fedsynth.progress import Progress

Engine = Callable[[Path, Progress], None]
