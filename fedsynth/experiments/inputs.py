"""Inputs of an evaluation: from a release, a folder of recordings or a NumPy archive to windows with people.

An archive (npz) holds `X` in microvolts (window, channel, time), `y` (window,) and `subject` (window,); where no
study goes with it also `sfreq`, `channels`, `label_names` and `modality`. `held_out` (window,), where it is there,
says whose windows are tested and never trained on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RefusedError, StudyError
from fedsynth.evaluation.protocol.material import Material
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.progress import Progress
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.people import people_of
from fedsynth.rehearsal.sites import Held, take_sites
from fedsynth.release.load import Release, load_release
from fedsynth.site.holdings import groups_of
from fedsynth.study import Study, load_study, parse_study


@dataclass(frozen=True)
class Given:
    """Windows of one kind; `held_out` (window,) flags whose never trained the generator, where that is known."""

    windows: Material
    held_out: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Frame:
    """What both kinds of windows must look like: shape, label names, and the label that is looked at."""

    shape: Shape
    names: tuple[str, ...]
    positive: int
    study: Study | None = None


def frame_of(synthetic: Path | Release, *, study: Path | None, positive: str | None) -> Frame:
    """Return what windows look like: as the study says, else the release's own study, else the archive.

    Raises:
        StudyError: the study.
        ReleaseError: the release.
        RefusedError: an archive that does not say, or a label that there is not.
    """
    read = load_study(study) if study is not None else None
    if read is None and (isinstance(synthetic, Release) or synthetic.is_dir()):
        release = synthetic if isinstance(synthetic, Release) else load_release(synthetic)
        read = parse_study(release.study_text, source="the release's study")
    if read is not None:
        names, shape = read.labels.names, shape_of(read)
        usual = read.labels.positive
    else:
        assert isinstance(synthetic, Path)
        names, shape = _described(synthetic)
        usual = names[-1]
    wanted = positive or usual
    if wanted not in names:
        raise RefusedError(f"there is no label {wanted!r}; there are: {', '.join(names)}")
    return Frame(shape, names, names.index(wanted), read)


def read_real(path: Path, frame: Frame, *, options: SiteOptions, staging: Path, progress: Progress) -> Given:
    """Read real windows: an archive, one hospital's folder of recordings, or a folder of several hospitals.

    Of recordings it is known who was held out, by the study's own rule.

    Raises:
        StudyError: recordings without a study.
        RecordingError: the recordings.
        RefusedError: an archive without what is needed.
    """
    if path.is_file():
        return _archive(path, frame.names, frame)
    if not path.exists():
        raise RefusedError(f"{path} is not there; name a folder of recordings, or an archive (npz)")
    if frame.study is None:
        raise StudyError(f"{path} holds recordings, and no study says how they are read; name it with --study")
    study, folder = frame.study, path
    named = study.cohort.sites
    if not (named and all((path / name).is_dir() for name in named)):
        # One hospital's folder: it is read as the only site beside no other.
        update = {"cohort": study.cohort.model_copy(update={"sites": (path.name,), "least_sites": 1})}
        study, folder = study.model_copy(update=update), path.parent
    sites = take_sites(folder, study=study, people=1.0, staging=staging, progress=progress, options=options)
    return _joined(list(sites.values()), study)


def read_synthetic(source: Path | Release, names: tuple[str, ...]) -> Given:
    """Read synthetic windows: a release, or an archive of any generator's.

    Raises:
        ReleaseError: no release, or a damaged one.
        RefusedError: an archive without what is needed.
    """
    if isinstance(source, Path) and source.is_file():
        return _archive(source, names)
    release = source if isinstance(source, Release) else load_release(source)
    return Given(Material(release.X, numbers_of(release.y, release.label_names, names), release.subject))


def numbers_of(labels: NDArray[Any], of: tuple[str, ...], names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return labels as numbers of `names`, given as words or as numbers of `of`.

    Raises:
        RefusedError: a label that `names` does not hold; it is counted, not named.
    """
    words = labels.astype(str) if labels.dtype.kind not in "iu" else None
    if words is None:
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(of):
            raise RefusedError(f"a label is a number outside 0 to {len(of) - 1}; labels are: {', '.join(of)}")
        words = np.array(of)[labels]
    unknown = set(words.tolist()) - set(names)
    if unknown:
        raise RefusedError(f"{len(unknown)} labels of the windows are none of: {', '.join(names)}")
    return np.array([names.index(word) for word in words.tolist()], dtype=np.int64)


def _joined(held: list[Held], study: Study) -> Given:
    """Put sites together: people of different sites are different people."""
    people: list[NDArray[np.int64]] = []
    flags: list[NDArray[np.bool_]] = []
    shape = (0, len(study.signal.channels), study.windows.n_times)
    signals = [np.empty(shape, dtype=np.float32)]
    first = 0
    for one in held:
        numbers = one.windows.recordings
        mine = np.array(people_of(one.recordings), dtype=np.int64)[numbers]
        people.append(mine + first)
        first += int(mine.max(initial=-1)) + 1
        signals += [one.rows(number) for number in dict.fromkeys(numbers.tolist())]
        groups = np.array(groups_of(one.recordings, held_out=study.training.held_out), dtype=object)
        flags.append((groups == "held-out")[numbers])
    signal = np.concatenate(signals)
    labels = np.concatenate([one.windows.labels for one in held])
    return Given(Material(signal, labels, np.concatenate(people)), np.concatenate(flags).astype(bool))


def _open(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RefusedError(f"{path} is no NumPy archive (npz) that can be read ({type(error).__name__})") from error


def _archive(path: Path, names: tuple[str, ...], frame: Frame | None = None) -> Given:
    """Read an archive; what it says of channels and rate must be what `frame` says."""
    arrays = _open(path)
    missing = [name for name in ("X", "y", "subject") if name not in arrays]
    if missing:
        raise RefusedError(f"{path} has no {' and no '.join(missing)}; docs/evaluate.md says what is read")
    if frame is not None:
        _check_said(path, arrays, frame.shape)
    if arrays["X"].dtype.kind not in "iuf":
        raise RefusedError(f"{path}: X holds {arrays['X'].dtype} and not real numbers; write it in microvolts")
    own = tuple(str(name) for name in arrays["label_names"]) if "label_names" in arrays else names
    people = np.unique(arrays["subject"], return_inverse=True)[1].astype(np.int64).reshape(arrays["subject"].shape)
    flags = arrays["held_out"].astype(bool) if "held_out" in arrays else None
    signal = arrays["X"].astype(np.float32)
    return Given(Material(signal, numbers_of(arrays["y"], own, names), people), flags)


def _check_said(path: Path, arrays: dict[str, NDArray[Any]], shape: Shape) -> None:
    """Refuse windows of other channels or another rate, where the archive says what they are.

    Raises:
        RefusedError: with what both say.
    """
    if "sfreq" in arrays and abs(float(arrays["sfreq"]) - shape.sfreq) > 1e-3 * shape.sfreq:
        raise RefusedError(
            f"{path}: its windows have {float(arrays['sfreq']):g} Hz, the synthetic ones {shape.sfreq:g} Hz; "
            "resample one of them"
        )
    mine = tuple(str(name) for name in arrays["channels"]) if "channels" in arrays else shape.channels
    if [name.casefold() for name in mine] != [name.casefold() for name in shape.channels]:
        raise RefusedError(
            f"{path}: its channels are {', '.join(mine)}, those of the synthetic windows "
            f"{', '.join(shape.channels)}; bring them into one order"
        )


def _described(path: Path) -> tuple[tuple[str, ...], Shape]:
    arrays = _open(path)
    needed = ("X", "sfreq", "channels", "label_names", "modality")
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise RefusedError(f"{path} does not say {', '.join(missing)}; add that to the archive, or name a --study")
    names = tuple(str(name) for name in arrays["label_names"])
    modality, sfreq = str(arrays["modality"]), float(arrays["sfreq"])
    if len(set(names)) != len(names):
        raise RefusedError(f"{path}: label_names holds one name twice; name every label once")
    if not 0 < sfreq < np.inf:
        raise RefusedError(f"{path}: sfreq is {sfreq:g}; write how many samples a second has, in Hz")
    if modality not in ("eeg", "ecg"):
        raise RefusedError(f"{path}: modality is {modality!r}, not eeg or ecg")
    channels = tuple(str(name) for name in arrays["channels"])
    n_times = int(arrays["X"].shape[-1])
    band = (0.0, sfreq / 2)
    return names, Shape(channels, n_times, sfreq, band, len(names), "eeg" if modality == "eeg" else "ecg")
