"""`fedsynth draw`: made-up subjects of a finished run by label, covariates and features, as one archive."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fedsynth.cli.answer import when_stopped
from fedsynth.cli.progress import progress


def draw(
    run: Annotated[Path, typer.Argument(help="the run folder that `fedsynth rehearse` wrote")],
    out: Annotated[Path, typer.Option(help="the archive (npz), laid out as a release's; must be new")],
    label: Annotated[
        list[str] | None, typer.Option(help="draw windows of this label; may be said again; all, if not said")
    ] = None,
    windows: Annotated[int, typer.Option(min=1, max=1_000_000, help="of each label")] = 200,
    per_subject: Annotated[int, typer.Option(min=1, max=10_000, help="windows of one made-up subject")] = 25,
    condition: Annotated[
        list[str] | None,
        typer.Option(help="draw subjects of these values alike: age=60-to-75,75-and-over; may be said again"),
    ] = None,
    statement: Annotated[
        list[str] | None, typer.Option(help="draw subjects who bear this statement; may be said again")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            help="draw subjects at this quantile of a feature among their label's, or between two: alpha=0.9, "
            "rate=0.8:1; may be said again"
        ),
    ] = None,
    draw_seed: Annotated[int, typer.Option(min=0, help="another one draws other subjects")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Draw subjects who are asked for. It costs no privacy; the windows are not scored, signed or released."""
    from fedsynth.coordinator.run_folder import RunFolder
    from fedsynth.errors import RefusedError, StudyError
    from fedsynth.synthesis.archive import bounded, write_npz
    from fedsynth.synthesis.asked import Asked

    asked = Asked(
        {name: dict.fromkeys(values.split(","), 1.0) for name, values in _pairs(condition, "--condition")},
        {name: _quantiles(values) for name, values in _pairs(feature, "--feature")},
        tuple(statement or ()),
    )
    if out.exists():
        raise RefusedError(
            f"something is at {out}, and it was left as it is; name another place. Nothing was drawn"
        )
    with progress() as tell, when_stopped(lambda: f"the run is as it was, and nothing was written to {out}"):
        folder = RunFolder(run)
        study, promise = folder.study(), folder.statement()
        names = study.labels.names
        if unknown := set(label or ()) - set(names):
            raise StudyError(
                f"{sorted(unknown)[0]!r} is no label; there are: {', '.join(names)}. Nothing was drawn"
            )
        counts = [windows if not label or name in label else 0 for name in names]
        stream = folder.generator().stream(
            per_label=counts,
            seed=f"draw {draw_seed}",
            windows_per_subject=per_subject,
            asked=asked,
            progress=lambda done, total: tell("drawing windows", done, total),
        )
        staging = out.with_name(f".{out.name}.new")
        write_npz(staging, windows=bounded(stream, modality=study.signal.modality, range_uv=study.signal.range_uv))
        staging.replace(out)
    subjects = len(stream.subject_windows)
    if as_json:
        body = {"archive": str(out), "windows": stream.n_windows, "subjects": subjects, "epsilon": promise.epsilon}
        sys.stdout.write(json.dumps(body | {"private": promise.is_private}, indent=2, default=str) + "\n")
        return
    sys.stdout.write(f"{out}: {stream.n_windows} synthetic windows of {subjects} made-up subjects\n")
    said = promise.sentence() if promise.is_private else "Nothing is promised: guard them as you guard recordings."
    sys.stdout.write(f"{said}\nThey are not those that were scored, and no release.\n")


def _pairs(said: Sequence[str] | None, option: str) -> list[tuple[str, str]]:
    found = [one.partition("=") for one in said or ()]
    for name, equals, value in found:
        if not (name and equals and value):
            raise typer.BadParameter(f"{option} is NAME=VALUE, and {name!r} is not")
    if len({name for name, _, _ in found}) < len(found):
        raise typer.BadParameter(f"{option} says something of one name twice")
    return [(name, value) for name, _, value in found]


def _quantiles(value: str) -> tuple[float, float]:
    low, colon, high = value.partition(":")
    try:
        return float(low), float(high if colon else low)
    except ValueError:
        raise typer.BadParameter(
            f"--feature wants a number from 0 to 1, or two parted by a colon: {value!r}"
        ) from None
