"""One recording taken in: from its file to a part, a store of its windows alone, and what is told of it."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.excerpt import Keep, Told, excerpt, filtering_of
from fedsynth.recordings.gate import MissingChannelError
from fedsynth.recordings.identity import Identity, Token, identity
from fedsynth.recordings.participants import Entry
from fedsynth.recordings.readers.arrangement import WITHOUT_LABEL, Place
from fedsynth.recordings.readers.reading import Reading, Seen
from fedsynth.recordings.readers.samples import Notes
from fedsynth.recordings.readers.site import WITHOUT_CHANNEL
from fedsynth.recordings.store.digests import Crc32
from fedsynth.recordings.store.file import StoreWriter
from fedsynth.recordings.store.index import StoreShape


@dataclass(frozen=True)
class Setting:
    """What is the same for all recordings of a site.

    `token` stands for names and digests, `group` tells a person's group by the name, and `key` seals parts.
    """

    reading: Reading
    token: Token
    group: Callable[[str], str]
    key: bytes | None = field(default=None, repr=False)

    @property
    def shape(self) -> StoreShape:
        """What all windows have in common."""
        study = self.reading.study
        return StoreShape(study.signal.channels, study.windows.n_times, study.signal.sfreq, study.labels.names)


@dataclass(frozen=True)
class Job:
    """A recording to be taken in: its number in name order, place and owner, and where its part goes."""

    number: int
    place: Place
    entry: Entry
    source: str
    part: Path | None


@dataclass(frozen=True)
class Recorded:
    """What is known of a recording that was taken in; of its samples nothing.

    `labels` are those of its windows, shape (window,), `covariates` are its stratum and statements, and
    `amplitudes` of its channels as recorded, in microvolts. It is `Known` (`fedsynth.recordings.people`).
    """

    identity: Identity
    group: str
    source: str = field(repr=False)
    n_times: int
    amplitudes: tuple[float, ...]
    remarks: tuple[str, ...]
    labels: NDArray[np.int64] = field(repr=False)
    told: Told
    covariates: tuple[int, ...] = field(default=(0,), repr=False)

    @property
    def subject(self) -> str:
        """Whose it is."""
        return self.identity.subject

    @property
    def digest(self) -> str:
        """Of all data."""
        return self.identity.digest

    @property
    def known_by(self) -> frozenset[str]:
        """All digests."""
        return self.identity.known_by

    @property
    def used(self) -> frozenset[str]:
        """Fingerprints of the study's channels."""
        return self.identity.used

    @property
    def badness(self) -> float:
        """The share of its windows that are left out for artefacts."""
        return 1 - len(self.labels) / self.told.placed if self.told.placed else 0.0

    def unshown(self) -> "Recorded":
        """Return it without the window that is shown."""
        return replace(self, told=replace(self.told, shown=self.told.shown[:, :0]))

    def to_bytes(self) -> bytes:
        """Write it, but for the labels, which stand in the index."""
        who, told = self.identity, self.told
        body = {
            "identity": [who.subject, who.digest, sorted(who.known_by), sorted(who.used)],
            "group": self.group,
            "source": self.source,
            "n_times": self.n_times,
            "amplitudes": list(self.amplitudes),
            "remarks": list(self.remarks),
            "placed": told.placed,
            "broken": [[rule, channel, count] for (rule, channel), count in told.broken.items()],
            "spectrum": [len(told.spectrum), _packed(told.spectrum, "<f4")],
            "shown": [len(told.shown), _packed(told.shown, "<f2")],
            "rules": list(told.shown_rules),
            "covariates": list(self.covariates),
        }
        return json.dumps(body, separators=(",", ":")).encode("utf-8")

    @classmethod
    def from_bytes(cls, data: bytes, *, labels: tuple[int, ...]) -> "Recorded":
        """Read what `to_bytes` wrote."""
        body: dict[str, Any] = json.loads(data)
        subject, digest, known_by, used = body["identity"]
        spectrum = body["spectrum"]
        if isinstance(spectrum[0], int):  # numbers in clear were written by versions before
            spectrum = _unpacked(spectrum, "<f4")
        told = Told(
            placed=body["placed"],
            broken={(rule, channel): count for rule, channel, count in body["broken"]},
            spectrum=np.array(spectrum, dtype=np.float64),
            shown=_unpacked(body["shown"], "<f2").astype(np.float32),
            shown_rules=tuple(body["rules"]),
        )
        return cls(
            identity=Identity(subject, digest, frozenset(known_by), frozenset(used)),
            group=body["group"],
            source=body["source"],
            n_times=body["n_times"],
            amplitudes=tuple(body["amplitudes"]),
            remarks=tuple(body["remarks"]),
            labels=np.array(labels, dtype=np.int64),
            told=told,
            covariates=tuple(body.get("covariates", (0,))),
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a recording: taken in, left out for a reason, or refused. `labels` are the raw ones met."""

    number: int
    recorded: Recorded | None = None
    left_out: str = ""
    fault: RecordingError | None = None
    labels: tuple[Entry, ...] = field(default=(), repr=False)


def take(job: Job, setting: Setting) -> Outcome:
    """Take a recording in; what is refused writes nothing.

    Raises:
        OSError: the part cannot be written.
    """
    labels: list[Entry] = []
    try:
        found = setting.reading.look(job.place, job.entry, labels)
        recorded = None if found is None else _write(job, found, setting)
    except MissingChannelError as error:
        if setting.reading.study.signal.missing == "refuse":
            return Outcome(job.number, fault=error, labels=tuple(labels))
        return Outcome(job.number, left_out=WITHOUT_CHANNEL, labels=tuple(labels))
    except RecordingError as error:
        return Outcome(job.number, fault=error, labels=tuple(labels))
    return Outcome(job.number, recorded, "" if recorded else WITHOUT_LABEL, labels=tuple(labels))


def _packed(rows: NDArray[np.floating], kind: str) -> str:
    return base64.b64encode(rows.astype(kind).tobytes()).decode("ascii")


def _unpacked(packed: tuple[int, str], kind: str) -> NDArray[np.floating]:
    count, data = packed
    flat = np.frombuffer(base64.b64decode(data), kind)
    return flat.reshape(count, -1) if count else flat.reshape(0, 0)


def _write(job: Job, found: Seen, setting: Setting) -> Recorded:
    if job.part is None:
        return _cut(job, found, setting, keep=lambda _: None)
    new = job.part.with_suffix(".new")
    new.unlink(missing_ok=True)
    writer = StoreWriter(new, shape=setting.shape, key=setting.key, digest=Crc32)
    try:
        recorded = _cut(job, found, setting, keep=writer.keep)
        writer.end_recording(
            person=0, labels=recorded.labels, facts=recorded.to_bytes(), covariates=recorded.covariates
        )
        # Whoever finds a part holds it against its checksum, so that what a loss of power spoils is read again.
        writer.finish(sync=False)
        new.replace(job.part)
    except BaseException:
        writer.abandon()
        new.unlink(missing_ok=True)
        raise
    return recorded


def _cut(job: Job, found: Seen, setting: Setting, *, keep: Keep) -> Recorded:
    study, request, seen = setting.reading.study, setting.reading.request, found.seen
    cut = excerpt(
        lambda: (piece.in_microvolts() for piece in seen.read(Notes())),
        total=seen.n_times,
        gaps=seen.gaps,
        bearer=found.bearer,
        filtering=filtering_of(study.signal, sfreq=request.sfreq, recorded=request.channels),
        names=request.channels,
        study=study,
        keep=keep,
    )
    recorded = Recorded(
        identity=identity(
            found.subject, seen.digest, seen.fingerprints, n_used=len(request.channels), token=setting.token
        ),
        group=setting.group(found.subject),
        source=job.source,
        n_times=seen.n_times,
        amplitudes=tuple(fact.amplitude for fact in seen.channels),
        remarks=seen.remarks,
        labels=cut.labels,
        told=cut.told,
        covariates=found.covariates,
    )
    return recorded if cut.told.shown_rules else recorded.unshown()
