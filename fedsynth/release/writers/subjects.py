"""Made-up subjects of a release: from a stream of windows to names, in the order drawn."""

from dataclasses import dataclass

from fedsynth.synthesis.windows import SyntheticStream


@dataclass(frozen=True)
class SyntheticSubject:
    """One made-up subject: windows of one label that belong together. It stands for no person."""

    name: str
    label: str
    n_windows: int


def subjects(windows: SyntheticStream) -> tuple[SyntheticSubject, ...]:
    """Name the made-up subjects in the order drawn."""
    width = max(4, len(str(len(windows.subject_windows))))
    sizes = zip(windows.subject_labels, windows.subject_windows, strict=True)
    return tuple(
        SyntheticSubject(f"sub-syn{number:0{width}d}", windows.label_names[int(label)], int(size))
        for number, (label, size) in enumerate(sizes, start=1)
    )
