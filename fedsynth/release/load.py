"""Load a release: from a folder to arrays, labels, statement and scores; needs NumPy and no other package."""

import html
import json
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import MissingPackageError, ReleaseError, RunError, StatementError
from fedsynth.evaluation.score import Metric
from fedsynth.montage import scalp_position
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.binding import ARCHIVE
from fedsynth.release.verify import STATEMENT, Reprice, Verified, verify_release

if TYPE_CHECKING:
    import mne
    import pandas as pd

_HEAD_METRES = 0.095  # the radius of MNE-Python's own spherical head
WINDOWS = ARCHIVE


@dataclass(frozen=True, repr=False)
class Release:
    """A release on disk; arrays are read when they are first asked for.

    Nothing here was verified until `verify` was called: whoever wrote the folder decides what these say.
    """

    folder: Path
    reprice: Reprice | None = field(default=None, compare=False)

    @cached_property
    def X(self) -> NDArray[np.float32]:  # noqa: N802  # the name in the archive, and scikit-learn's
        """Return the windows in microvolts, shape (window, channel, time)."""
        windows: NDArray[np.float32] = self._arrays["X"]
        return windows

    @cached_property
    def y(self) -> NDArray[np.int64]:
        """Return each window's label as a number, shape (window,); `label_names` has the words."""
        labels: NDArray[np.int64] = self._arrays["y"]
        return labels

    @cached_property
    def subject(self) -> NDArray[np.int64]:
        """Return which made-up subject each window belongs to, shape (window,)."""
        subject: NDArray[np.int64] = self._arrays["subject"]
        return subject

    @cached_property
    def labels(self) -> NDArray[np.str_]:
        """Return each window's label as a word, shape (window,)."""
        return np.array(self.label_names)[self.y]

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """Return the labels that `y` counts."""
        return tuple(str(name) for name in self._arrays["label_names"])

    @cached_property
    def conditions(self) -> dict[str, NDArray[np.str_]]:
        """Return for each covariate of the study which value each window was drawn for, shape (window,)."""
        arrays = self._arrays
        if "conditions" not in arrays:
            return {}
        names, values = arrays["condition_names"], arrays["condition_values"]
        return {str(name): values[place][arrays["conditions"][:, place]] for place, name in enumerate(names)}

    @cached_property
    def Y(self) -> NDArray[np.int64]:  # noqa: N802  # scikit-learn's name for many labels
        """Return 0 or 1 of each of `statement_names`, shape (window, statement); none where the study has none."""
        none = np.zeros((len(self.y), 0), dtype=np.int64)
        made: NDArray[np.int64] = self._arrays.get("Y", none)
        return made

    @cached_property
    def statement_names(self) -> tuple[str, ...]:
        """Return the statements that `Y` has a column for."""
        return tuple(str(name) for name in self._arrays.get("statement_names", ()))

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Return the channels' names in the order of `X`."""
        return tuple(str(name) for name in self._arrays["channels"])

    @cached_property
    def sfreq(self) -> float:
        """Return the sampling rate in Hz."""
        return float(self._arrays["sfreq"])

    @cached_property
    def study_text(self) -> str:
        """Return the study file as it was agreed, comments included."""
        return self._text("provenance/study.toml")

    @cached_property
    def study(self) -> dict[str, Any]:
        """Return the study as plain data."""
        try:
            return tomllib.loads(self.study_text)
        except tomllib.TOMLDecodeError as error:
            raise ReleaseError(f"{self.folder}: provenance/study.toml is not TOML") from error

    @cached_property
    def modality(self) -> str:
        """Return "eeg" or "ecg"."""
        return str(self.study.get("signal", {}).get("modality", ""))

    @cached_property
    def statement(self) -> PrivacyStatement:
        """Return the privacy statement."""
        try:
            return PrivacyStatement.from_json(self._text(STATEMENT))
        except (RunError, StatementError) as error:
            raise ReleaseError(f"{self.folder}: {STATEMENT} is no privacy statement ({error})") from error

    @cached_property
    def scores(self) -> tuple[Metric, ...]:
        """Return every number of the report, with its interval, its direction and where it comes from."""
        try:
            return tuple(Metric(**row) for row in json.loads(self._text("report/metrics.json")))
        except (ValueError, TypeError) as error:
            raise ReleaseError(f"{self.folder}: report/metrics.json is no list of metrics") from error

    def verify(self, key: Path | str | None = None, *, seen: Path | str | None = None) -> Verified:
        """Check that every file is what the publisher signed.

        Args:
            key: the publisher's public key, from somewhere else than the release.
            seen: a file that remembers the ledgers of releases verified before.

        Raises:
            VerificationError: with the cause.
        """
        return verify_release(
            self.folder,
            key=None if key is None else Path(key),
            seen=None if seen is None else Path(seen),
            reprice=self.reprice,
        )

    def to_epochs(self) -> "mne.EpochsArray":
        """Return the windows as MNE-Python epochs in volts, with labels as event ids; needs `mne`.

        Epochs are in the order of `X`. EEG channels of known places stand on a sphere of 95 mm.

        Raises:
            MissingPackageError: MNE-Python is not installed.
        """
        try:
            import mne
        except ModuleNotFoundError as error:
            raise MissingPackageError("to_epochs needs MNE-Python: pip install 'fedsynth[recordings]'") from error
        info = mne.create_info(list(self.channels), self.sfreq, self.modality or "eeg")
        n_times = self.X.shape[2]
        events = np.column_stack([np.arange(len(self.y)) * n_times, np.zeros_like(self.y), self.y + 1])
        ids = {name: number + 1 for number, name in enumerate(self.label_names)}
        present = {name: number for name, number in ids.items() if number in events[:, 2]}
        epochs = mne.EpochsArray(self.X * 1e-6, info, events, event_id=present, verbose="error")
        if self.modality == "eeg":
            places = {name: place for name in self.channels if (place := scalp_position(name)) is not None}
            on_head = {name: _HEAD_METRES * np.array(place) for name, place in places.items()}
            epochs.set_montage(mne.channels.make_dig_montage(on_head, coord_frame="head"), on_missing="ignore")
        return epochs

    def to_dataframe(self) -> "pd.DataFrame":
        """Return one row for each sample, as MNE-Python's `Epochs.to_data_frame` does; needs `pandas`.

        Columns: window, subject, label, covariates, time in seconds, then each channel in microvolts.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise MissingPackageError("to_dataframe needs pandas: pip install pandas") from error
        n_windows, n_channels, n_times = self.X.shape
        rows = np.repeat(np.arange(n_windows), n_times)
        samples = self.X.transpose(0, 2, 1).reshape(-1, n_channels)
        return pd.DataFrame(
            {
                "window": rows,
                "subject": self.subject[rows],
                "label": self.labels[rows],
                **{name: values[rows] for name, values in self.conditions.items()},
                "time": np.tile(np.arange(n_times) / self.sfreq, n_windows),
                **{name: samples[:, place] for place, name in enumerate(self.channels)},
            }
        )

    def __repr__(self) -> str:
        """Say what it holds in one line."""
        n_windows, n_channels, n_times = self.X.shape
        return (
            f"Release({n_windows} windows x {n_channels} channels x {n_times / self.sfreq:g} s at "
            f"{self.sfreq:g} Hz, "
            f"labels {', '.join(self.label_names)})"
        )

    def _repr_html_(self) -> str:
        n_windows, n_channels, n_times = self.X.shape
        counts = np.bincount(self.y, minlength=len(self.label_names))
        rows = {
            "Windows": f"{n_windows}, of {len(np.unique(self.subject))} made-up subjects",
            "Labels": ", ".join(f"{name} ({n})" for name, n in zip(self.label_names, counts, strict=True)),
            "Signal": f"{n_channels} {self.modality.upper()} channels in microvolts, "
            f"{n_times / self.sfreq:g} s at {self.sfreq:g} Hz",
            "Promise": self.statement.sentence(),
            "Verified": "not yet: call .verify(key)",
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in rows.items()
        )
        return f"<table><caption>Synthetic release {html.escape(str(self.folder))}</caption>{cells}</table>"

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        try:
            with np.load(self.folder / WINDOWS, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, KeyError) as error:
            raise ReleaseError(f"{self.folder}: {WINDOWS} cannot be read ({type(error).__name__})") from error

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ReleaseError(f"{self.folder}: {name} cannot be read ({type(error).__name__})") from error


def load_release(folder: Path | str, *, reprice: Reprice | None = None) -> Release:
    """Open a release; nothing is verified and no array is read yet.

    Args:
        folder: the release.
        reprice: adds its events up by an accountant when it is verified, where one is installed.

    Raises:
        ReleaseError: the folder holds no archive of windows or no statement.
    """
    place = Path(folder)
    missing = [name for name in (WINDOWS, STATEMENT) if not (place / name).is_file()]
    if missing:
        raise ReleaseError(f"{place} is no release: it has no {' and no '.join(missing)}")
    return Release(place, reprice)
