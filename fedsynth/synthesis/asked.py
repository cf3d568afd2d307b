"""Asked: which made-up subjects a drawing shall have, and what that makes of their noise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fedsynth.anchors.anchor import Anchor, FeatureDraw, covariate_width
from fedsynth.anchors.asked import asked_shares, bent, differing, moved
from fedsynth.condition_plan import check_weights
from fedsynth.errors import StudyError
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import shape_of
from fedsynth.study import Study

Bend = Callable[[Tensor], Tensor]
"""From what subjects share of noise, shape (subject, number), to the same of subjects that were asked for."""


@dataclass(frozen=True)
class Asked:
    """Made-up subjects by covariates and by features; nothing asked is everything as the private sums left it.

    `conditions` are weights by condition and value. `features` are quantiles between which subjects lie, among
    those of their label and their covariates, by names of the codec: 0.9 and 0.9 is one place, 0.8 and 1 a fifth.
    `statements` are borne by all subjects, beside what they bear by chance.
    """

    conditions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    features: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    statements: tuple[str, ...] = ()

    def bends(self, study: Study, anchor: Anchor) -> list[Bend | None]:
        """Return for each label what leads to the subjects that are asked for; None where nothing is.

        Raises:
            StudyError: a condition, a value or a feature that the study does not have, or quantiles that are none.
        """
        shape = shape_of(study)
        if not self.conditions and not self.features and not self.statements:
            return [None] * shape.n_labels
        self._check(study)
        draw = FeatureDraw(anchor, shape)
        shares = anchor.strata if self.conditions else None
        wanted = None if shares is None else asked_shares(shares, study.condition_values, self.conditions)
        first = covariate_width(shape) + 1
        made = [study.statements.names.index(name) for name in self.statements] if study.statements else []

        def bend_of(label: int) -> Bend:
            rows = differing(draw, shape, label=label, names=tuple(self.features)) if self.features else None

            def bend(theirs: Tensor) -> Tensor:
                after = theirs.clone()
                if shares is not None and wanted is not None:
                    after[:, 0] = bent(theirs[:, 0], counted=shares[label], asked=wanted[label])
                if made and draw.statements is not None:
                    mine = slice(covariate_width(shape) - shape.n_statements, covariate_width(shape))
                    after[:, mine] = draw.statements.bearing(theirs[:, mine], label=label, statements=made)
                if rows is not None:
                    mine = slice(first, first + rows.shape[1])
                    after[:, mine] = moved(theirs[:, mine], rows, between=tuple(self.features.values()))
                return after

            return bend

        return [bend_of(label) for label in range(shape.n_labels)]

    def _check(self, study: Study) -> None:
        try:
            check_weights(self.conditions, study.conditions)
        except ValueError as error:
            raise StudyError(f"{error}. Nothing was drawn") from None
        borne = study.statements.names if study.statements else ()
        if strange := [name for name in self.statements if name not in borne]:
            raise StudyError(f"{strange[0]!r} is none of the study's statements. Nothing was drawn")
        known = codec_of(shape_of(study)).directions if self.features else {}
        if unknown := [name for name in self.features if name not in known]:
            raise StudyError(
                f"{unknown[0]!r} is no feature that a subject can be asked by; there are: {', '.join(known)}. "
                "Nothing was drawn"
            )
        if any(not 0 <= low <= high <= 1 for low, high in self.features.values()):
            raise StudyError("quantiles of a feature are two rising numbers from 0 to 1. Nothing was drawn")
