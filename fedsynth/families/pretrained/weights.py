"""Weights that ship: from a family's name to a source's tensors, half precision on disk, single in use."""

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load as read_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from fedsynth.errors import StudyError
from fedsynth.study import Modality


def weights_file(name: str, modality: Modality) -> str:
    """Return the name of the file of a family's weights for a modality."""
    return f"{name}-{modality}.safetensors"


def load(module: nn.Module, *, name: str, modality: Modality) -> None:
    """Fill a module with the weights that ship.

    Raises:
        StudyError: they are missing, or of another version of the network.
    """
    state = _read(weights_file(name, modality))
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    if {key: tuple(value.shape) for key, value in state.items()} != wanted:
        raise StudyError(
            f"the pretrained weights of {name} for {modality} belong to another version of its network; "
            "rebuild them with `make priors`"
        )
    module.load_state_dict(dict(state))


def write(module: nn.Module, place: Path) -> None:
    """Write a module's weights in half precision."""
    state = {key: value.to(torch.float16).contiguous() for key, value in module.state_dict().items()}
    place.write_bytes(to_safetensors(state))


def parse(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file of weights in single precision."""
    return {key: value.to(torch.float32) for key, value in read_safetensors(data).items()}


@lru_cache(maxsize=8)
def _read(name: str) -> dict[str, Tensor]:
    place = files("fedsynth.priors").joinpath(name)
    if not place.is_file():
        raise StudyError(f"the pretrained weights {name} are not installed; rebuild them with `make priors`")
    return parse(place.read_bytes())
