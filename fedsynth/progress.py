"""Progress: how work tells that it goes on."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (what is done, steps done, steps in all)."""

NOTE = ", so far "
"""Parts what is done from a remark on it that may be another one the next time."""

StepProgress = Callable[[int, int], None]
"""Called with (steps done, steps in all), where what is done is known."""
