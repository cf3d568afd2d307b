"""The page of the ECG study: what held, tables and figures, in words that follow from the numbers."""

from fedsynth.evaluation.protocol.measures import MACRO_AUROC, MACRO_F1
from fedsynth.evaluation.protocol.replicates import Replicates
from fedsynth.evaluation.protocol.run import BOTH, PRETRAINED, REAL, SCRATCH, SYNTHETIC, matrix_cell, transfer_cell
from fedsynth.evaluation.protocol.tables import Number, Table, tables_of
from fedsynth.report.experiment import ExperimentPage, Section
from fedsynth.report.experiment_figures import Dot, dots_svg, figures_of
from kit.findings import costs, findings
from kit.study import SECONDS, computing, filled, notice
from kit.trials import EACH_NOISE, FEATURES, LEARNED, MERGED, NETWORK, ONE_NOISE, Trial


def gains_table(found: list[Trial]) -> Table:
    """Return what each generator's windows give, cohort by cohort."""
    rows: list[tuple[str | Number, ...]] = []
    for one in found:
        cells = {
            kind: one.cells.found[matrix_cell(NETWORK, kind, REAL)].measures for kind in (SYNTHETIC, REAL, BOTH)
        }
        gain = cells[BOTH][MACRO_F1].minus(cells[REAL][MACRO_F1])
        numbers = [Number.of(cells[kind][MACRO_F1]) for kind in (REAL, SYNTHETIC, BOTH)]
        share = (cells[SYNTHETIC][MACRO_AUROC].value - 0.5) / max(cells[REAL][MACRO_AUROC].value - 0.5, 1e-9)
        rows.append((one.cohort, one.arm.name, *numbers, Number.of(gain, signed=True), f"{100 * share:.0f} %"))
    head = ("cohort", "generator", "real", "synthetic", "both", "both − real", "share of real's AUROC above chance")
    return Table("Macro-F1 on real people held out, residual network", head, tuple(rows))


def transfer_table(found: list[Trial]) -> Table:
    """Return the transfer curves of all generators on the merged cohorts, and training from scratch beside them."""
    mine = [one for one in found if "transfer" in one.question.plan.tables]
    if not mine:
        return Table("", (), ())
    shares = mine[0].question.plan.shares

    def row(name: str, one: Trial, start: str) -> tuple[str | Number, ...]:
        cells = (one.cells.found.get(transfer_cell(NETWORK, start, share)) for share in shares)
        return (name, *("" if cell is None else Number.of(cell.measures[MACRO_F1]) for cell in cells))

    rows = [row(one.arm.name, one, PRETRAINED) for one in mine] + [row(SCRATCH, mine[0], SCRATCH)]
    head = ("pretrained on", *(f"{share} %" for share in shares))
    return Table(f"Macro-F1, {mine[0].cohort}: convolutions frozen, head trained", head, tuple(rows))


def page_of(found: list[Trial], *, is_real: bool) -> ExperimentPage:
    """Return the page."""
    cohorts = list(dict.fromkeys(one.cohort for one in found))
    sections = [
        Section("What held, and what did not", _findings(found)),
        Section(
            "The published figures beside ours",
            (
                "The paper reports its findings in words and bars: augmenting one set barely helps, on the "
                "merged set "
                "all measures rise, and Time-VQVAE is best in fine-tuning, below a classifier that saw real data. "
                f"Here {'one cohort is' if is_real else 'cohorts are'} simulated and some hundred people large "
                f"instead of ten thousand, networks take {found[0].cells.question['layers']} steps from a public "
                "prior instead of long training from scratch, and one split stands "
                "for 20 repetitions: intervals are over people, not over trainings.",
            ),
            (claims_table(found),),
        ),
        Section("Trained on one, tested on another", tables=(gains_table(found),), figures=_dots(found, cohorts)),
        Section("Pretrained on synthetic windows, by share of the real people", tables=(transfer_table(found),)),
    ]
    for one in found:
        if "transfer" in one.question.plan.tables:
            tables = [table for table in tables_of(one.question, one.cells) if table.title.startswith("Transfer")]
            drawn_here = figures_of(one.question, one.cells).get("transfer", ())
            named = tuple(figure.replace("transfer", f"transfer-{len(sections)}") for figure in drawn_here)
            sections.append(Section(f"{one.cohort}: {one.arm.name}", tables=tuple(tables), figures=named))
    seconds = sum(one.cells.more.get(SECONDS, 0) for one in found)
    return ExperimentPage(
        kicker="The seeds, reproduced: 12-lead ECG",
        title="Does synthetic ECG help, alone and on merged cohorts?",
        notice=notice("PTB-XL" if is_real else ""),
        lead=(
            f"{len(found[0].question.names)} rhythms, ten seconds; of the simulated people a third of every rhythm "
            f"is held out{', of PTB-XL folds 9 and 10 where they are there' if is_real else ''}.",
        ),
        facts={
            "people": ", ".join(f"{name}: {_people(found, name)}" for name in cohorts),
            "time": computing(seconds),
        },
        sections=filled(sections),
    )


def _findings(found: list[Trial]) -> tuple[str, ...]:
    """Say whether the paper's findings came back, and what privacy and federation cost on merged cohorts."""
    said: list[str] = []

    def macro(one: Trial, cell: str) -> Replicates:
        return one.cells.found[cell].measures[MACRO_F1]

    def on(one: Trial, kind: str) -> Replicates:
        return macro(one, matrix_cell(NETWORK, kind, REAL))

    for cohort in dict.fromkeys(one.cohort for one in found):
        mine = [one for one in found if one.cohort == cohort]
        said += findings(
            f"{cohort}: adding synthetic windows raises macro-F1",
            {one.arm.name: on(one, BOTH).minus(on(one, REAL)) for one in mine},
        )
        said += costs(
            f"{cohort}, macro-F1 with synthetic windows in place of real ones",
            {one.arm.name: on(one, SYNTHETIC).minus(on(one, REAL)) for one in mine},
        )
    merged = {one.arm: one for one in found if one.cohort == MERGED}
    for words, kind in (("synthetic alone", SYNTHETIC), ("both", BOTH)):
        pairs = {
            what: on(merged[arm], kind).minus(on(merged[base], kind))
            for arm, base, what in (
                (ONE_NOISE, FEATURES, "the promise of ε = 8 with one noise for all hospitals"),
                (EACH_NOISE, FEATURES, "the promise of ε = 8 with the noise of each of four hospitals"),
                (LEARNED[3], LEARNED[0], "averaging diffwave over four hospitals"),
            )
            if arm in merged and base in merged
        }
        said += costs(f"{MERGED}, {words}", pairs)
    for one in merged.values():
        plan = one.question.plan
        if "transfer" in plan.tables:
            said += findings(
                f"{MERGED}, pretrained on “{one.arm.name}”, then heads trained on a share of the real people: "
                "better than from scratch",
                {
                    f"{share} %": macro(one, transfer_cell(NETWORK, PRETRAINED, share)).minus(
                        macro(one, transfer_cell(NETWORK, SCRATCH, share))
                    )
                    for share in plan.shares
                    if share
                },
            )
    return tuple(said)


def claims_table(found: list[Trial]) -> Table:
    """Return the paper's finding, and whether it holds here: the gain of adding synthetic windows, by cohort."""
    rows: list[tuple[str | Number, ...]] = []
    for one in found:
        if one.arm.is_private:
            continue
        both, real = (one.cells.found[matrix_cell(NETWORK, kind, REAL)].measures[MACRO_F1] for kind in (BOTH, REAL))
        gain = Number.of(both.minus(real), signed=True)
        claim = "rises" if one.cohort == "merged" else "barely changes"
        said = "rises" if gain.low > 0 else "falls" if gain.high < 0 else "not told from nothing"
        rows.append((one.arm.name, one.cohort, claim, said, gain))
    return Table("Adding synthetic windows", ("generator", "cohort", "published", "here", "macro-F1"), tuple(rows))


def _dots(found: list[Trial], cohorts: list[str]) -> tuple[str, ...]:
    figures = []
    for number, cohort in enumerate(cohorts):
        dots = []
        for one in found:
            if one.cohort == cohort:
                cells = [
                    one.cells.found[matrix_cell(NETWORK, kind, REAL)].measures[MACRO_F1] for kind in (BOTH, REAL)
                ]
                dots.append(Dot(one.arm.name, Number.of(cells[0].minus(cells[1]), signed=True)))
        figures.append(dots_svg(f"gain-{number}", dots, axis=f"macro-F1, both − real, {cohort}"))
    return tuple(figures)


def _people(found: list[Trial], cohort: str) -> int:
    fold = next(one for one in found if one.cohort == cohort).question.split.folds[0]
    return fold.train.n_people + fold.test.n_people
