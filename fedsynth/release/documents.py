"""The papers beside the data: README, licence, citation, Croissant description and how to verify.

Everything is written from the study, the promise and the synthetic windows; no clock, no machine, no path.
"""

import json
from pathlib import Path
from typing import Any, assert_never

from fedsynth.errors import StudyError
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.file_format import format_of
from fedsynth.release.load import WINDOWS
from fedsynth.release.manifest import sha256_of
from fedsynth.release.signature import NAMESPACE, PublicKey
from fedsynth.release.writers.dataset import subjects
from fedsynth.study import Study
from fedsynth.synthesis.windows import SyntheticStream

LICENSES = {
    "CC0-1.0": (
        "CC0 1.0 Universal",
        "https://creativecommons.org/publicdomain/zero/1.0/",
        "The publisher waives all copyright and related rights in this data set worldwide, as far as the law "
        "allows. You may copy, change, distribute and use it, for any purpose, without asking.",
    ),
    "CC-BY-4.0": (
        "Creative Commons Attribution 4.0 International",
        "https://creativecommons.org/licenses/by/4.0/",
        "You may copy, change, distribute and use this data set, for any purpose, provided that you name the "
        "publisher, link to the licence and say what you changed.",
    ),
}
"""The licences a release can carry: name, address of the legal code, and what it means in two sentences."""


def write_documents(
    out: Path,
    *,
    study: Study,
    statement: PrivacyStatement,
    windows: SyntheticStream,
    public_key: PublicKey,
) -> None:
    """Write the papers of a release whose data set (`write_dataset`) stands in `out` already.

    Raises:
        StudyError: the study names a licence that is not in `LICENSES`.
    """
    check_license(study)
    texts = {
        "README.md": readme(study=study, statement=statement, windows=windows),
        "LICENSE": license_text(study),
        "CITATION.cff": citation(study),
        "croissant.json": _json(croissant(study=study, statement=statement, sha256=sha256_of(out, WINDOWS))),
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


def readme(*, study: Study, statement: PrivacyStatement, windows: SyntheticStream) -> str:
    """Say what a release is, what was promised, how it is loaded and what it must not be used for."""
    title = _one_line(study.title or study.name)
    table = "\n".join(f"| {label} | {n} |" for label, n in zip(windows.label_names, windows.counts(), strict=True))
    people = subjects(windows)
    low, high = study.signal.bandpass
    license_name, license_url, _ = LICENSES[study.release.license]
    return f"""# {title}

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

{_files(study)}

Windows of one synthetic subject belong together: they resemble each other as windows of one person do, and have
one label. `data["subject"]` numbers the {len(people)} subjects from 0, which is `{people[0].name}`. Keep a
subject's windows on one side when you split the data. A synthetic subject stands for no person, and how many there
are is the study's choice.

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
{study.windows.n_times} samples each, in the order of the archive."""
        case "eeg":
            return f"""The same windows are EDF files in a BIDS layout (`sub-syn*/eeg/`), {most}
a file, one data record each, in the order of the archive."""
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


def croissant(*, study: Study, statement: PrivacyStatement, sha256: str) -> dict[str, Any]:
    """Describe the release in Croissant 1.0 (docs.mlcommons.org/croissant/docs/croissant-spec.html)."""
    _, license_url, _ = LICENSES[study.release.license]
    made = statement.made
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": study.name,
        "description": f"{study.title or study.name}. Synthetic windows with a differential privacy promise; "
        f"X (window, channel, time) in microvolts at {study.signal.sfreq:g} Hz, y the labels. "
        f"How it was made: {made.training}; {made.setting}; {made.people}.",
        "license": license_url,
        "version": "1.0.0",
        "citeAs": f"{study.release.publisher}: {study.title or study.name} (study {study.digest[:12]})",
        "creator": {"@type": "sc:Organization", "name": study.release.publisher},
        "keywords": [study.signal.modality.upper(), "synthetic data", "differential privacy"],
        "isLiveDataset": False,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "windows.npz",
                "name": "windows.npz",
                "description": "NumPy archive: X, y, subject, label_names, channels, sfreq, unit",
                "contentUrl": WINDOWS,
                "encodingFormat": "application/zip",
                "sha256": sha256,
            },
            _file_set(study),
        ],
    }


def _file_set(study: Study) -> dict[str, Any]:
    kind = format_of(study.signal.modality)
    name = f"{kind.name.lower()}-{kind.unit}s"
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": f"the same windows in {kind.name}, one {kind.unit} per synthetic subject",
        "encodingFormat": kind.encoding,
        "includes": kind.includes,
    }


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


_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
