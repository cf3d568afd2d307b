"""Inside: results on real recordings stay in the house, so they are never written where something leaves it."""

from pathlib import Path

from fedsynth.errors import RefusedError
from fedsynth.places import place_for

_OUTWARD = {
    "privacy/statement.json": "a release",
    "run.json": "a run",
    "statement.json": "a run",
    "site.toml": "a site",
    "federation.toml": "a federation",
}
"""A file that tells what a folder is, and what that is."""


def place_inside(out: Path, *, apart_from: tuple[Path, ...]) -> Path:
    """Return where results may be written; writes nothing.

    Args:
        out: a folder to be, or one that holds an earlier evaluation.
        apart_from: folders of recordings and releases, which `out` must not lie in.

    Raises:
        RefusedError: it is, or lies in, a release, a run or a site.
        RunError: it lies among the recordings, or cannot be written to.
    """
    place = place_for(out)
    for folder in (place, *place.parents):
        for name, what in _OUTWARD.items():
            if (folder / name).is_file():
                raise RefusedError(
                    f"{out} is in {what}, and results on real recordings are not private: they would leave with "
                    "it. Nothing was computed or written; name a folder that stays in the house"
                )
    place_for(out, apart_from=[given for given in apart_from if given.is_dir()])
    return place
