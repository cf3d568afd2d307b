"""Scores of an evaluation, as the rest of the package knows them."""

from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.measures import MACRO_AUROC, MACRO_F1
from fedsynth.evaluation.protocol.run import BOTH, REAL, SYNTHETIC, Question, matrix_cell
from fedsynth.evaluation.score import Score


def scores_of(question: Question, cells: Cells) -> tuple[Score, ...]:
    """Return macro-F1 and macro-AUROC of each classifier and kind of training windows, tested on real windows."""
    found = []
    about = f"exact, tested on real windows, split {question.split.name!r} {question.split.mark}".strip()
    for name in question.plan.classifiers:
        for trained in (SYNTHETIC, REAL, BOTH):
            cell = cells.found.get(matrix_cell(name, trained, REAL))
            if cell is None:
                continue
            for measure in (MACRO_F1, MACRO_AUROC):
                one = cell.measures[measure]
                told = f"{measure}, {name}, trained on {trained}"
                found.append(Score(told, one.value, one.low, one.high, 1, "real", about))
    return tuple(found)
