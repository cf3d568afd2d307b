"""Faults: everything that is wrong with the recordings of a site, in one message for the site's own eyes."""

from collections.abc import Iterator
from contextlib import contextmanager

from fedsynth.errors import RecordingError
from fedsynth.recordings.participants import Entry, UnknownLabelError, labels_found


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

    def said(self, site: str, total: int, *, command: str) -> str:
        """Put all of it into one message, and how to find the names of the files behind."""
        labels = f" ({labels_found(self.labels)})" if self._unknown else ""
        if len(self.found) == 1:
            [(number, cause)] = self.found.items()
            return (
                f"site {site!r}: recording {number} of {total} (in name order): {cause}{labels}. Nothing was "
                f"written; beside the site's folder, its name is shown by: {command}"
            )
        width = len(str(total))
        table = "\n".join(f"  {number:>{width}}  {cause}" for number, cause in self.found.items())
        return (
            f"site {site!r}: {len(self.found)} of {total} recordings cannot be used{labels}. Nothing was written. "
            f"By place in name order:\n{table}\nBeside the site's folder, their names are shown by: {command}"
        )
