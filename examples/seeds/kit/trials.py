"""What the ECG study compares: generators, and a trial of each on a cohort."""

from dataclasses import dataclass

from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.run import Question
from kit.arms import Arm

FEATURES = Arm("features, no privacy", family="diffwave")
LEARNED = tuple(
    Arm(f"every layer of {family}, {where}", family=family, layers="all", hospitals=hospitals, rows=16)
    for family, where, hospitals in (
        ("diffwave", "in one place", 1),
        ("time-diffusion", "in one place", 1),
        ("time-vqvae", "in one place", 1),
        ("diffwave", "four hospitals", 4),
    )
)
ONE_NOISE = Arm("features, ε = 8, secure sums", family="diffwave", epsilon=8.0)
EACH_NOISE = Arm("features, ε = 8, each hospital's noise", family="diffwave", epsilon=8.0, hospitals=4)
ARMS = (FEATURES, *LEARNED, ONE_NOISE, EACH_NOISE)
EVERYWHERE = (FEATURES, *LEARNED[:3])
"""On every cohort; the others on the merged one."""
NETWORK = "resnet"
MERGED = "merged"


@dataclass(frozen=True)
class Trial:
    """One cohort and one generator: what is asked, and what was found."""

    cohort: str
    arm: Arm
    question: Question
    cells: Cells
