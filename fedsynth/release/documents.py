"""The papers beside the data: README with a dataset card, licence, citation and how to verify.

Everything is written from the study, the promise and the synthetic windows; no clock, no machine, no path.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_never

from fedsynth.errors import StudyError
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.croissant import croissant
from fedsynth.release.file_format import TABLE
from fedsynth.release.licenses import LICENSES
from fedsynth.release.load import WINDOWS
from fedsynth.release.manifest import sha256_of
from fedsynth.release.signature import NAMESPACE, PublicKey
from fedsynth.release.writers.subjects import subjects
from fedsynth.study import Study
from fedsynth.synthesis.windows import SyntheticStream


def write_documents(
    out: Path,
    *,
    study: Study,
    statement: PrivacyStatement,
    windows: SyntheticStream,
    public_key: PublicKey,
    doubtful: Sequence[str] = (),
) -> None:
    """Write the papers of a release whose data set (`write_dataset`) stands in `out` already.

    `doubtful` are the labels whose private count cannot be told from nobody.

    Raises:
        StudyError: the study names a licence that is not in `LICENSES`.
    """
    check_license(study)
    digests = {path: sha256_of(out, path) for path in (WINDOWS, TABLE)}
    texts = {
        "README.md": readme(study=study, statement=statement, windows=windows, doubtful=doubtful),
        "LICENSE": license_text(study),
        "CITATION.cff": citation(study),
        "croissant.json": _json(croissant(study=study, statement=statement, digests=digests)),
        "privacy/statement.json": statement.to_json(),
        "integrity/HOWTO-VERIFY.md": how_to_verify(public_key, publisher=study.release.publisher),
    }
    for name, text in texts.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(text, encoding="utf-8", newline="\n")


def check_license(study: Study) -> None:
    """Refuse a licence we have no text for.

    Raises:
        StudyError: with the licences that are known.
    """
    if study.release.license not in LICENSES:
        raise StudyError(
            f"release.license is {study.release.license!r}; known here: {', '.join(LICENSES)}. Nothing was written"
        )


def readme(
    *, study: Study, statement: PrivacyStatement, windows: SyntheticStream, doubtful: Sequence[str] = ()
) -> str:
    """Say what a release is, what was promised, how it is loaded and what it must not be used for."""
    title = _one_line(study.title or study.name)
    table = "\n".join(f"| {label} | {n} |" for label, n in zip(windows.label_names, windows.counts(), strict=True))
    people = subjects(windows)
    low, high = study.signal.bandpass
    license_name, license_url, _ = LICENSES[study.release.license]
    uncovered = "\n".join(f"- {what}" for what in statement.excludes)
    return f"""{card(study)}
# {title}

{origin(study=study, statement=statement)}
No recording, and no part of one, was written into this folder.

Published by {_one_line(study.release.publisher)}. Study `{study.name}`; {license_name} ({license_url}).

## How it was made

- Training: {statement.made.training}
- Setting: {statement.made.setting}
- People: {statement.made.people}
- Windows: SHA-256 `{statement.made.windows}` (`{WINDOWS}`); every score in the report is of these

## What was promised

{statement.sentence()}

- Privacy unit: **{statement.unit}**, {statement.adjacency} adjacency
- Composes over: {statement.composes}
- Overlap between sites: {statement.overlap}
- Trust model: {statement.trust}; assumed: {statement.assumes}
- Accountants: {statement.accountant}; checked against {statement.second_accountant}

Not covered by the promise:

{uncovered}

`privacy/statement.json` lists every event behind these numbers, by site.

## Load it

```python
import numpy as np
data = np.load("{WINDOWS}", allow_pickle=False)
X, y, names = data["X"], data["y"], data["label_names"]  # X: (window, channel, time) in microvolts
```

{windows.n_windows} windows of {study.windows.n_times} samples at {windows.sfreq:g} Hz, amplitudes within
{study.signal.range_uv:g} uV, channels {", ".join(windows.channels)}. These are counts of synthetic windows; the
study chose them, and they tell nothing about how many people were recorded:

| label | windows |
|---|---|
{table}
{_doubts(doubtful)}
`{TABLE}` holds the same, a row for each window: `datasets.load_dataset` and `mlcroissant` find it by this
page and by `croissant.json`. {_files(study)}

Windows of one synthetic subject belong together: they resemble each other as windows of one person do, and have
one label. `data["subject"]` numbers the {len(people)} subjects from 0, which is `{people[0].name}`. Keep a
subject's windows on one side when you split the data. A synthetic subject stands for no person, and how many there
are is the study's choice.
{_conditions(study)}
## What it must not be used for

- No clinical use: no diagnosis, no treatment, no decision about a person, no calibration of a medical device.
- No statement about the people who were recorded, and no attempt to find one of them.
- No proof that a method works on patients: confirm every result on real recordings.

## Known limits

- `report/index.html` says how good the windows are, with intervals, and where they fail. Read it first.
- Two windows of a subject share what tells subjects apart, and nothing else: they do not continue each other, and
  their order in a file says nothing.
- The recordings were filtered to {low:g} to {high:g} Hz and cut to windows; nothing slower, faster or longer than a
  window was learned.
- Rare patterns are the first that noise hides; groups that were few at the sites may be missing or wrong.
- Differential privacy bounds what is learned about one {statement.unit}. It does not hide what is true of many.
- The labels are those the sites' recordings carried; the generator inherits their errors.

## Is it genuine?

`fedsynth verify` on this folder, or, without our software, `integrity/HOWTO-VERIFY.md`.
"""


def _conditions(study: Study) -> str:
    """Say what was drawn for which covariates and statements, if any."""
    said = ""
    if study.conditions:
        names, asked = ", ".join(study.conditions), ", ".join(study.release.conditions)
        how = f"The study chose how often each {asked} is drawn" if asked else "They are as frequent as counted"
        said += f"""
Each subject was drawn for covariates ({names}); `participants.tsv` has the words. `data["conditions"]`, whose
columns are `data["condition_names"]`, indexes the rows of `data["condition_values"]`. {how}, with
noise. What a covariate does to the features is one effect for all labels, as far as noise left it.
"""
    if study.statements:
        said += f"""
A window bears one label, `y`, and any of {len(study.statements.names)} statements: `data["Y"]` (window, statement)
holds 0 or 1 of each of `data["statement_names"]`. Statements are as frequent in a label, and with one another,
as counted, with noise; what each does to the features is one effect, as far as noise left it. Those that few bore
at the sites may be missing or do nothing. No score says how well statements are told from the windows.
"""
    return said


def _doubts(labels: Sequence[str]) -> str:
    """Say which labels may be nobody's."""
    if not labels:
        return ""
    named = ", ".join(f"`{_one_line(label)}`" for label in labels)
    return f"""
**No evidence of anybody: {named}.** The private count behind the label cannot be told from zero. Its windows may
come from the public prior alone: take them for no example of that label.
"""


def card(study: Study) -> str:
    """Return the block of YAML by which `datasets.load_dataset` finds the table; strings are quoted as JSON."""
    return f"""---
pretty_name: {_quoted(study.title or study.name)}
license: {study.release.license.lower()}
tags:
- {study.signal.modality}
- synthetic
- differential-privacy
configs:
- config_name: default
  data_files:
  - split: train
    path: {TABLE}
---
"""


def origin(*, study: Study, statement: PrivacyStatement) -> str:
    """Say in a sentence what the windows were drawn from: never that sites trained what they did not."""
    windows, sites = f"Synthetic {study.signal.modality.upper()} windows", len(statement.sites)
    if statement.made.is_trained:
        return f"{windows}, drawn from a generator that {sites} sites trained together under differential privacy."
    return (
        f"{windows}, drawn from simulated waveforms by statistics (the anchor) that "
        f"{sites} sites\nsummed under differential privacy. No gradient step was taken: the family "
        f"`{study.family.name}` was not trained on a recording."
    )


def _files(study: Study) -> str:
    most = f"at most {study.release.windows_per_subject} windows of one label to"
    match study.signal.modality:
        case "ecg":
            return f"""The same windows are WFDB records (`wfdb/`), {most} a record, one after another,
{study.windows.n_times} samples each, in the order of the archive; an annotation at a window's start names its
label."""
        case "eeg":
            return f"""The same windows are EDF files in a BIDS layout (`sub-syn*/eeg/`), {most}
a file, one data record each, in the order of the archive; annotations and `events.tsv` name their labels."""
        case other:
            assert_never(other)


def license_text(study: Study) -> str:
    """Name the licence and where its legal code stands."""
    name, url, meaning = LICENSES[study.release.license]
    title, publisher = _one_line(study.title or study.name), _one_line(study.release.publisher)
    return f"""{title}, published by {publisher}

This data set is under {name} (SPDX: {study.release.license}).

{meaning}
That is a summary. The licence itself, which is what binds, stands at

    {url}legalcode

The data set comes without any warranty. It is synthetic, and it is not fit for clinical use.
"""


def citation(study: Study) -> str:
    """Write `CITATION.cff` (Citation File Format 1.2.0); strings are quoted as JSON, which YAML contains."""
    return f"""cff-version: 1.2.0
message: "If you use this synthetic data set, please cite it."
type: dataset
title: {_quoted(study.title or study.name)}
authors:
  - name: {_quoted(study.release.publisher)}
license: {study.release.license}
version: {_quoted(study.digest[:12])}
keywords:
  - {study.signal.modality.upper()}
  - synthetic data
  - differential privacy
"""


def how_to_verify(public_key: PublicKey, *, publisher: str) -> str:
    """Explain verification with our software and with OpenSSH and coreutils alone."""
    return f"""# How to verify this release

It was signed by {_one_line(publisher)} with this key ({public_key.fingerprint}):

    {public_key.line} {NAMESPACE}

A key that comes with the data proves only that the data was not changed since somebody signed it. Get the key, or
its fingerprint, from the publisher in another way, and compare.

## With fedsynth

Save the line above as `publisher.pub`, outside this folder, and run

    fedsynth verify RELEASE --key publisher.pub

It works offline. It names what was changed, added, removed, renamed or linked, and exits with 4 if anything was.
`--key` also takes an `allowed_signers` file as OpenSSH defines it, with the identity `{NAMESPACE}`.

## With one file of Python

`deploy/verify_release.py` in the project's sources needs Python 3.9 and the package `cryptography`, is short enough
to be read first, and shares no code with fedsynth. Take it from the project, not from whoever gave you the data:

    python verify_release.py RELEASE --key publisher.pub

## Without our software

In this folder (the file `allowed_signers` goes outside of it):

    echo '{NAMESPACE} {public_key.line}' > ../allowed_signers
    ssh-keygen -Y verify -f ../allowed_signers -I {NAMESPACE} -n {NAMESPACE} \\
        -s integrity/SHA256SUMS.sig < integrity/SHA256SUMS
    sha256sum --check --strict --quiet integrity/SHA256SUMS

The first command must say `Good "{NAMESPACE}" signature`, the second nothing at all.

**`sha256sum` does not see a file that was added.** This lists what stands here without being in the list; it must
print three names, the files in `integrity/` that cannot cover themselves, and no other:

    export LC_ALL=C
    find . ! -type d | cut -c 3- | sort > ../found.txt
    cut -c 67- integrity/SHA256SUMS | sort | comm -23 ../found.txt -

`integrity/release.dsse.json` is an in-toto statement in a DSSE envelope, by the same key: the same digests, the
privacy promise, the study's digest, the version of the code and where each site's ledger stood. Any in-toto tool
reads it; its key id is the fingerprint above.
"""


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    """Keep a title or a name from adding lines or markup to a page."""
    return "".join(letter for letter in " ".join(text.split()) if letter not in "<>`[]|")
