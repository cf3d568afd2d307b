"""The card of the weights that ship: what they are, what made them, and how well they do what they are asked.

    python -m fedsynth.priors.card FOLDER

Everything is measured on simulated windows of shapes that pretraining did not use.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.families.pretrained.base import Body, SourceFamily
from fedsynth.families.pretrained.weights import weights_file
from fedsynth.modalities.codec import Codec
from fedsynth.modalities.registry import MODALITIES, codec_of
from fedsynth.modalities.shape import Shape
from fedsynth.priors.pretrain import PRETRAINED
from fedsynth.rng import torch_generator
from fedsynth.source_code import code_in_use
from fedsynth.study import Modality

SHAPES: dict[Modality, Shape] = {
    "eeg": Shape(("held out",), 192, 120.0, (0.5, 42.0), 1, modality="eeg"),
    "ecg": Shape(("held out",), 960, 120.0, (0.5, 42.0), 1, "ecg"),
}
_WINDOWS = 400

_TEXT = """# Weights of the pretrained sources

Small generators of single waveforms, for the families `vae-ldm`, `diffwave`, `time-diffusion` and `time-vqvae`;
`docs/priors.md` says how they are used.

- **Data:** simulated EEG (`fedsynth.modalities.eeg.simulator`) and simulated ECG noise
  (`fedsynth.modalities.ecg.simulator`),
  drawn from public seeds while training. No recording, and nothing fitted to one, was involved; using these weights
  costs no epsilon.
- **Seeds:** `public_seed("source", family, modality)` for initial weights, `torch_generator("pretraining", family,
  stage)` for batches and noise.
- **Code:** the digest below is that of everything that ran when this card was written; `make priors` builds the
  weights again, with the same bytes on the same machine and versions.
- **Format:** safetensors, half precision; used in single precision.
- **Licence:** Apache-2.0, as the project.
- **Limits:** waveforms of windows between 0.5 and 10 s and pass bands up to 120 Hz were trained on; others are
  extrapolation. The ECG sources draw what the median beat leaves, not beats. Nothing here knows a disease.

Code: `{code}`. PyTorch {torch}.

Missed is the mean absolute error of a codec feature of a drawn window against the one asked for, in standard
deviations of that feature over simulated windows; {count} windows of a shape that pretraining did not use. The
codec's own decoder has the simulator at hand and keeps the best of what it draws.

| file | bytes | missed, all features | missed, waveform shape | SHA-256 |
|---|---|---|---|---|
{rows}
"""

Draw = Callable[[Tensor], Tensor]


def missed(codec: Codec, asked: Tensor, draw: Draw) -> Tensor:
    """Return each feature's mean absolute error in standard deviations, shape (feature,)."""
    with torch.no_grad():
        got = codec.features(draw(asked))
    return (got - asked).abs().mean(dim=0) / asked.std(dim=0).clamp_min(1e-6)


def source_draw(family: SourceFamily, shape: Shape) -> Draw:
    """Return how a family with the weights that are installed draws windows for features, with public noise."""
    body = family.build(shape, prior_anchor(shape))["body"]
    assert isinstance(body, Body)
    width = family.noise_width(shape) - body.draw.width
    zero_shifts = body.source.zero_shifts(_WINDOWS)

    def draw(asked: Tensor) -> Tensor:
        noise = torch.randn(len(asked), width, generator=torch_generator("card", family.name))
        return body.decode(asked, noise, zero_shifts)

    return draw


def codec_draw(shape: Shape) -> Draw:
    """Return how the codec's own decoder draws windows for features, with public noise."""
    codec = codec_of(shape)
    decoder = codec.decoder()

    def draw(asked: Tensor) -> Tensor:
        noise = torch.randn(len(asked), codec.noise_width, generator=torch_generator("card", "bank"))
        windows: Tensor = decoder(asked, noise)
        return windows

    return draw


def rows(folder: Path) -> list[str]:
    """Return the table's rows for the weights in a folder, which must be those that are installed."""
    table = []
    for modality in MODALITIES:
        shape = SHAPES[modality]
        codec = codec_of(shape)
        asked = codec.features(codec.simulate(_WINDOWS))
        for family in PRETRAINED:
            data = (folder / weights_file(family.name, modality)).read_bytes()
            told = _numbers(missed(codec, asked, source_draw(family, shape)), codec)
            digest = hashlib.sha256(data).hexdigest()
            table.append(f"| `{weights_file(family.name, modality)}` | {len(data)} | {told} | `{digest}` |")
        own = _numbers(missed(codec, asked, codec_draw(shape)), codec)
        table.append(f"| the codec's own decoder, {modality} | | {own} | |")
    return table


def _numbers(errors: Tensor, codec: Codec) -> str:
    waveform = f"{float(errors[-codec.n_waveform :].mean()):.2f}" if codec.n_waveform else ""
    return f"{float(errors.mean()):.2f} | {waveform}"


def main(arguments: list[str]) -> None:
    """Write the card beside the weights."""
    folder = Path(arguments[0])
    told = {
        "code": str(code_in_use()),
        "torch": torch.__version__,
        "count": _WINDOWS,
        "rows": "\n".join(rows(folder)),
    }
    (folder / "CARD.md").write_text(_TEXT.format(**told), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
