"""`fedsynth evaluate`: what synthetic windows are worth beside real ones; for whoever may see the real ones."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from fedsynth.cli.answer import when_stopped
from fedsynth.cli.progress import progress, remark


def evaluate(
    real: Annotated[
        Path, typer.Argument(help="recordings of one hospital, a folder of several, or an archive (npz)")
    ],
    synthetic: Annotated[Path, typer.Argument(help="a release, or an archive (npz) of any generator's windows")],
    out: Annotated[Path, typer.Option(help="folder of the results; it must stay in the house")],
    study: Annotated[
        Path | None, typer.Option(help="how recordings are read; the release's own study, if not said")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="person, leave-one-out, given (whom the study held out) or leaky (marked on every table)"
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option(help="parts that people are dealt into, for the splits person and leaky")
    ] = 3,
    tables: Annotated[
        str, typer.Option(help="by commas, of: matrix, augmentation, transfer, fidelity")
    ] = "matrix,augmentation,transfer,fidelity",
    classifiers: Annotated[
        str,
        typer.Option(
            help="of the matrix, by commas, of: random-convolutions, boosting, small-cnn, cnn-bilstm, resnet, "
            "sigxnet, pca-mlp, ica-mlp, lda-mlp"
        ),
    ] = "random-convolutions,boosting,small-cnn",
    network: Annotated[
        str, typer.Option(help="of augmentation and transfer; cnn-bilstm for EEG and resnet for ECG, if not said")
    ] = "",
    smote: Annotated[bool, typer.Option("--smote", help="augment by SMOTE too; needs fedsynth\\[smote]")] = False,
    size: Annotated[str, typer.Option(help="of classifiers: small, paper (hours), or quick, to try it")] = "small",
    correction: Annotated[
        str, typer.Option(help="of p-values for being many: benjamini-hochberg or holm")
    ] = "benjamini-hochberg",
    positive: Annotated[
        str | None, typer.Option(help="the label whose F1 is told; the study's, if not said")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="of all recordings: uV, mV or V")] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="read what links lead to")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Train and test on real and synthetic windows, by person. Reads real recordings exactly: NOT private."""
    from fedsynth.evaluation.protocol.augmentation import WAYS
    from fedsynth.evaluation.protocol.cells import NOTICE
    from fedsynth.evaluation.protocol.plan import ProtocolPlan
    from fedsynth.experiments.evaluate import JSON, Asked
    from fedsynth.experiments.evaluate import evaluate as carry_out
    from fedsynth.recordings.options import SiteOptions

    words: Any = {
        "split": (split, (None, "person", "leave-one-out", "given", "leaky")),
        "size": (size, ("small", "paper", "quick")),
        "correction": (correction, ("benjamini-hochberg", "holm")),
        "unit": (unit, (None, "uV", "mV", "V")),
    }
    for name, (word, known) in words.items():
        if word not in known:
            raise typer.BadParameter(f"--{name} is {word!r}, not one of: {', '.join(filter(None, known))}")
    plan = ProtocolPlan(
        tables=cast(Any, _listed(tables)),
        classifiers=_listed(classifiers),
        augmenting=(network,) if network else (),
        transferring=network,
        ways=tuple(way for way in WAYS if smote or way != "SMOTE"),
        folds=folds,
        size=cast(Any, size),
        correction=cast(Any, correction),
    )
    asked = Asked(
        real=real,
        synthetic=synthetic,
        plan=plan,
        split=cast(Any, split),
        study=study,
        positive=positive,
        options=SiteOptions(unit=cast(Any, unit), follow_links=follow_links),
        out=out,
    )
    remark(f"{NOTICE}\n")
    stopped = f"what was computed is in {out / JSON}; the same command goes on from there"
    with progress() as tell, when_stopped(lambda: stopped):
        found = carry_out(asked, progress=tell)
    if as_json:
        body = {
            "notice": NOTICE,
            "split": found.question.split.name,
            "leaky": bool(found.question.split.mark),
            "scores": {score.name: [score.value, score.low, score.high] for score in found},
            "page": str(found.page),
        }
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    sys.stdout.write(f"{found}\n\nPage: {found.page}\n")


def _listed(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())
