"""Made-up subjects of a release: from a stream of windows to names, in the order drawn."""

from dataclasses import dataclass

import numpy as np

from fedsynth.synthesis.windows import SyntheticStream


@dataclass(frozen=True)
class SyntheticSubject:
    """One made-up subject: windows of one label that belong together. It stands for no person.

    `values` are those of the study's conditions, in order, and `statements` those that it bears.
    """

    name: str
    label: str
    n_windows: int
    values: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()

    @property
    def borne(self) -> str:
        """Its statements in one cell, "n/a" where it bears none."""
        return ";".join(self.statements) or "n/a"


def subjects(windows: SyntheticStream) -> tuple[SyntheticSubject, ...]:
    """Name the made-up subjects in the order drawn."""
    width = max(4, len(str(len(windows.subject_windows))))
    names = tuple(windows.conditions.values())
    made = windows.subject_statements
    if made is None:
        made = np.zeros((len(windows.subject_windows), 0), dtype=np.int64)
    sizes = zip(windows.subject_labels, windows.subject_windows, windows.subject_values, made, strict=True)
    return tuple(
        SyntheticSubject(
            f"sub-syn{number:0{width}d}",
            windows.label_names[int(label)],
            int(size),
            tuple(of_one[int(value)] for of_one, value in zip(names, values, strict=True)),
            tuple(name for name, flag in zip(windows.statements, flags, strict=True) if flag),
        )
        for number, (label, size, values, flags) in enumerate(sizes, start=1)
    )
