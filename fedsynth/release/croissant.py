"""Croissant: from a study, its promise and the digests of a release's files to a description that programs read.

Croissant 1.1 with its responsible-AI vocabulary (docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html). The
record set reads `data/ml/windows.parquet`, one record for each window.
"""

from collections.abc import Mapping
from typing import Any

from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.file_format import TABLE, format_of
from fedsynth.release.licenses import LICENSES
from fedsynth.release.load import WINDOWS
from fedsynth.study import Study

_TABLE_ID = "windows.parquet"


def croissant(*, study: Study, statement: PrivacyStatement, digests: Mapping[str, str]) -> dict[str, Any]:
    """Describe a release.

    Args:
        study: what was agreed.
        statement: what was spent; its sentence is what is said of personal information.
        digests: the SHA-256 of the archive and of the table, by their paths.
    """
    _, license_url, _ = LICENSES[study.release.license]
    made = statement.made
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
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
        **responsible_ai(study, statement),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "windows.npz",
                "name": "windows.npz",
                "description": "NumPy archive: X, y, subject, label_names, channels, sfreq, unit"
                + (", conditions, condition_names, condition_values" if study.conditions else "")
                + (", Y, statement_names" if study.statements else ""),
                "contentUrl": WINDOWS,
                "encodingFormat": "application/zip",
                "sha256": digests[WINDOWS],
            },
            _file_set(study),
            {
                "@type": "cr:FileObject",
                "@id": _TABLE_ID,
                "name": _TABLE_ID,
                "description": "Parquet table of the same windows, a row for each",
                "contentUrl": TABLE,
                "encodingFormat": "application/x-parquet",
                "sha256": digests[TABLE],
            },
        ],
        "recordSet": [record_set(study)],
    }


def record_set(study: Study) -> dict[str, Any]:
    """Say what a row of the table holds."""
    low, high = study.signal.bandpass
    shape = (len(study.signal.channels), study.windows.n_times)
    fields = [
        _field("window", "sc:Integer", "number of the window in the order drawn, from 0"),
        _field("subject", "sc:Integer", "number of the made-up subject the window belongs to, from 0"),
        _field("participant_id", "sc:Text", "name of that subject in participants.tsv"),
        _field("y", "sc:Integer", "the label's number, from 0: " + ", ".join(study.labels.names)),
        _field("label", "sc:Text", "the label for which the window was drawn"),
        *(
            _field(name, "sc:Text", f"the {name} for which the window was drawn: {', '.join(plan.names)}")
            for name, plan in study.conditions.items()
        ),
        *(
            [_field("statements", "sc:Text", "statements for which the window was drawn, parted by semicolons")]
            if study.statements
            else []
        ),
        _field(
            "X",
            "sc:Float",
            f"microvolts of channels {', '.join(study.signal.channels)}, {shape[1]} samples each at "
            f"{study.signal.sfreq:g} Hz, {low:g} to {high:g} Hz",
        )
        | {"isArray": True, "arrayShape": ",".join(map(str, shape))},
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "windows",
        "name": "windows",
        "description": "one record for each synthetic window",
        "key": {"@id": "windows/window"},
        "field": fields,
    }


def responsible_ai(study: Study, statement: PrivacyStatement) -> dict[str, Any]:
    """Say where the data comes from, what it may be used for, and what is wrong with it (Croissant RAI 1.0)."""
    low, high = study.signal.bandpass
    return {
        "rai:dataCollection": "No data was collected for this release. Its windows were drawn from a generator "
        f"that {len(statement.sites)} sites fitted under differential privacy; the recordings stayed there.",
        "rai:dataCollectionType": "Synthetic data drawn from a generator",
        "rai:dataCollectionRawData": "Recordings at the sites, which are not part of the release",
        "rai:dataPreprocessingProtocol": f"Recordings were filtered to {low:g} to {high:g} Hz and cut to windows "
        f"of {study.windows.n_times} samples at {study.signal.sfreq:g} Hz; amplitudes lie within "
        f"{study.signal.range_uv:g} microvolts.",
        "rai:dataAnnotationProtocol": "A window's label is the one for which it was drawn. The labels' meaning is "
        "that of the sites' recordings; nobody looked at the windows.",
        "rai:dataUseCases": "Development, teaching and pretraining of methods that are confirmed on real "
        "recordings. No clinical use, no statement about the people recorded, no attempt to find one of them.",
        "rai:dataBiases": "Groups that were few at the sites may be missing or wrong, because noise hides them "
        "first. How many windows a label has is the study's choice, not its frequency.",
        "rai:dataLimitations": "Windows of a subject do not continue each other; nothing slower, faster or longer "
        "than a window was learned. Only what the report scores was measured.",
        "rai:dataSocialImpact": "Signals can be shared that could not leave the sites. Differential privacy bounds "
        f"what is learned about one {statement.unit}; it does not hide what is true of many.",
        "rai:personalSensitiveInformation": "No recording of a person, and no part of one, is in the release. "
        + statement.sentence(),
        "rai:dataReleaseMaintenancePlan": "A release is signed and never changed; a correction is another one.",
    }


def _field(name: str, data_type: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"windows/{name}",
        "name": name,
        "description": description,
        "dataType": data_type,
        "source": {"fileObject": {"@id": _TABLE_ID}, "extract": {"column": name}},
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


# The context of Croissant 1.1, word for word as mlcroissant 1.1 writes it.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
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
