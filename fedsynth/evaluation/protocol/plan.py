"""The plan of an evaluation: which tables, by which classifiers, on which split."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from fedsynth.errors import RefusedError
from fedsynth.evaluation.protocol.augmentation import WAYS, Way
from fedsynth.evaluation.protocol.classifiers.registry import NETWORKS, classifier_of
from fedsynth.evaluation.protocol.fidelity import Correction
from fedsynth.evaluation.protocol.size import SIZES, Size, SizeName
from fedsynth.evaluation.protocol.splits import SplitName

TableName = Literal["matrix", "augmentation", "transfer", "fidelity"]
TABLES: tuple[TableName, ...] = get_args(TableName)
SHARES = (0, 20, 40, 60, 80, 100)
"""Per cent of the real people of the transfer curve."""


@dataclass(frozen=True)
class ProtocolPlan:
    """What is asked; the defaults take minutes on two cores.

    `classifiers` answer in the matrix, `augmenting` under augmentation, `transferring` is pretrained. Empty means
    the usual ones: in the matrix random convolutions, boosting and the small network, in the others the network of
    the seed's paper for the kind of signal. `steps` are those of a network's training, None as `size` has them.
    """

    tables: tuple[TableName, ...] = TABLES
    classifiers: tuple[str, ...] = ("random-convolutions", "boosting", "small-cnn")
    augmenting: tuple[str, ...] = ()
    transferring: str = ""
    ways: tuple[Way, ...] = tuple(way for way in WAYS if way != "SMOTE")
    shares: tuple[int, ...] = SHARES
    split: SplitName = "person"
    folds: int = 3
    size: SizeName = "small"
    steps: int | None = None
    correction: Correction = "benjamini-hochberg"

    def check(self) -> None:
        """Refuse names that mean nothing, before anything is computed.

        Raises:
            RefusedError: with what there is.
        """
        for name in (*self.classifiers, *self.augmenting):
            classifier_of(name)
        if self.transferring and self.transferring not in NETWORKS:
            raise RefusedError(
                f"only a network has convolutions to freeze; {self.transferring!r} is none of: "
                f"{', '.join(NETWORKS)}"
            )
        for what, asked, known in (("table", self.tables, TABLES), ("way of augmentation", self.ways, WAYS)):
            if unknown := [name for name in asked if name not in known]:
                raise RefusedError(f"there is no {what} {unknown[0]!r}; there are: {', '.join(known)}")
        if not all(0 <= share <= 100 for share in self.shares):
            raise RefusedError("shares of real people are per cent, from 0 to 100")
        if self.steps is not None and self.steps < 1:
            raise RefusedError(f"a network cannot be trained by {self.steps} steps; ask for 1 or more")
        if self.folds < 2:
            raise RefusedError("people are parted into 2 folds or more")

    @property
    def extent(self) -> Size:
        """Return how large classifiers are and how long they train."""
        size = SIZES[self.size]
        return size if self.steps is None else replace(size, steps=self.steps)

    def to_plain(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)
