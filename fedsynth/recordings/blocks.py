"""Blocks: which stretches of a recording filters must see at once, so that windows come out as from the whole.

A filter forgets: what lies farther from a window than its margin moves it by less than rounding does. A recording
that is long is therefore filtered in stretches around its windows, and one that is short as a whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsynth.recordings.filters import in_band, margin
from fedsynth.recordings.reference import derive

BLOCK_SAMPLES = 1 << 22
"""In all channels together; a recording that has no more is filtered as a whole."""

_Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Filtering:
    """How samples become those of windows: matrix of the reference, notch and band in Hz, and ratio of rates."""

    sfreq: float
    bandpass: tuple[float, float]
    ratio: tuple[int, int] = (1, 1)
    notch: float | None = None
    matrix: NDArray[np.float64] | None = None

    @property
    def margin(self) -> int:
        """How many samples beside a window must be seen."""
        return margin(self.sfreq, bandpass=self.bandpass, notch=self.notch, ratio=self.ratio)


@dataclass(frozen=True)
class Block:
    """Samples `first` to before `last` as recorded, and the windows (from, to) that are cut from them.

    Both are counted from where a stretch without gaps begins: at sample `begin` of the recording.
    """

    first: int
    last: int
    windows: tuple[int, int]
    begin: int = 0


def blocks_of(
    starts: NDArray[np.int64], *, n_times: int, total: int, n_channels: int, filtering: Filtering
) -> list[Block]:
    """Part a recording.

    Args:
        starts: of windows at the study's rate, shape (window,), in the order of time.
        n_times: of a window, at that rate.
        total: samples of the recording.
        n_channels: as recorded.
        filtering: tells margins.

    Returns:
        Blocks in the order of time, each of whole windows; they may overlap.
    """
    most = max(1, BLOCK_SAMPLES // n_channels)
    if not len(starts):
        return []
    if total <= most:
        return [Block(0, total, (0, len(starts)))]
    up, down = filtering.ratio
    beside = filtering.margin
    found: list[Block] = []
    for number, start in enumerate(starts.tolist()):
        first = max(0, (start * down // up - beside) // down * down)
        last = min(total, -(-(start + n_times) * down // up) + beside)
        if found and first <= found[-1].last and last - found[-1].first <= most:
            before = found[-1]
            found[-1] = Block(before.first, max(before.last, last), (before.windows[0], number + 1))
        else:
            found.append(Block(first, last, (number, number + 1)))
    return found


def stretches_for(pieces: Iterator[_Rows], blocks: list[Block]) -> Iterator[tuple[Block, _Rows]]:
    """Yield every block with its samples, shape (channel, time), holding no more than one of them at a time.

    All pieces are gone through, whatever the blocks are.
    """
    held: list[_Rows] = []
    offset = at = 0
    waiting = list(blocks)
    for piece in pieces:
        at += piece.shape[1]
        if waiting and at > waiting[0].begin + waiting[0].first:
            held.append(piece)
        else:
            offset = at
        while waiting and waiting[0].begin + waiting[0].last <= at:
            block = waiting.pop(0)
            shift = block.begin - offset
            joined = np.concatenate(held, axis=1) if len(held) != 1 else held[0]
            yield block, joined[:, block.first + shift : block.last + shift]
            if not waiting or waiting[0].begin + waiting[0].first >= at:
                held, offset = [], at
            else:
                cut = max(0, waiting[0].begin + waiting[0].first - offset)
                held, offset = [joined[:, cut:].copy()], offset + cut


def filtered(block: Block, samples: _Rows, *, total: int, filtering: Filtering) -> tuple[_Rows, int]:
    """Filter a block and bring it to the study's rate.

    Args:
        block: to be filtered.
        samples: of it, as recorded.
        total: samples of the recording, or of the stretch without gaps that the block lies in.
        filtering: how.

    Returns:
        Samples at the study's rate, shape (channel, time), and the number of the first of them in the recording.
    """
    up, down = filtering.ratio
    there = in_band(
        derive(samples, filtering.matrix),
        sfreq=filtering.sfreq,
        bandpass=filtering.bandpass,
        notch=filtering.notch,
        ratio=filtering.ratio,
        begins=block.first == 0,
        ends=block.last == total,
    )
    return there, block.first // down * up
