"""Faults: everything that is wrong with the recordings of a site, in one message for the site's own eyes."""

from collections.abc import Iterator
from contextlib import contextmanager

from fedsynth.errors import RecordingError
from fedsynth.recordings.participants import Entry, UnknownLabelError, labels_found

_CAUSES_SHOWN = 4


class Faults:
    """Gathers what is wrong with the recordings of a site, by their places in name order.

    `labels` are the raw labels that were met and whose they are; only those that several people have are shown.
    """

    def __init__(self) -> None:
        self.found: dict[int, str] = {}
        self.labels: list[Entry] = []
        self._unknown = False

    @contextmanager
    def of(self, number: int) -> Iterator[None]:
        """Note a recording that is refused, and go on."""
        try:
            yield
        except RecordingError as error:
            self.found[number] = str(error)
            self._unknown |= isinstance(error, UnknownLabelError)

    def table(self, total: int) -> str:
        """Return a line for each recording that is refused: its place in name order, and the cause."""
        width = len(str(total))
        return "\n".join(f"  {number:>{width}}  {cause}" for number, cause in self.found.items())

    def said(self, site: str, total: int, *, command: str) -> str:
        """Put it into one sentence, with the first few causes, and how to find the names of the files."""
        labels = f" ({labels_found(self.labels)})" if self._unknown else ""
        number, cause = next(iter(self.found.items()))
        first = f"recording {number} of {total} (in name order): {cause}"
        if len(self.found) == 1:
            return (
                f"site {site!r}: {first}{labels}. Nothing was written; beside the site's folder, its name is shown "
                f"by: {command}"
            )
        others: dict[str, list[str]] = {}
        for place, why in list(self.found.items())[1:]:
            others.setdefault(why, []).append(str(place))
        shown = [f"{', '.join(places)}: {why}" for why, places in list(others.items())[:_CAUSES_SHOWN]]
        rest = f"; {len(others) - _CAUSES_SHOWN} more causes are in the table above" * (len(others) > _CAUSES_SHOWN)
        return (
            f"site {site!r}: {len(self.found)} of {total} recordings cannot be used{labels}. {first}; "
            f"{'; '.join(shown)}{rest}. Nothing was written; beside the site's folder, their names are shown by: "
            f"{command}"
        )
