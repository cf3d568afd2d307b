"""Made-up subjects of a release: from a stream of windows to names, in the order drawn."""

from dataclasses import dataclass

from fedsynth.synthesis.windows import SyntheticStream


@dataclass(frozen=True)
class SyntheticSubject:
    """One made-up subject: windows of one label that belong together. It stands for no person.

    `values` are those of the study's conditions, in order.
    """

    name: str
    label: str
    n_windows: int
    values: tuple[str, ...] = ()


def subjects(windows: SyntheticStream) -> tuple[SyntheticSubject, ...]:
    """Name the made-up subjects in the order drawn."""
    width = max(4, len(str(len(windows.subject_windows))))
    names = tuple(windows.conditions.values())
    sizes = zip(windows.subject_labels, windows.subject_windows, windows.subject_values, strict=True)
    return tuple(
        SyntheticSubject(
            f"sub-syn{number:0{width}d}",
            windows.label_names[int(label)],
            int(size),
            tuple(of_one[int(value)] for of_one, value in zip(names, values, strict=True)),
        )
        for number, (label, size, values) in enumerate(sizes, start=1)
    )
