"""The text of a study file, once it is known to be one."""

from pathlib import Path


def read_study(study: Path) -> str:
    """Return the text of a study file.

    Raises:
        StudyError: it is none.
    """
    from fedsynth.study import load_study

    load_study(study)
    return study.read_text(encoding="utf-8")
