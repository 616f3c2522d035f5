"""What a kind of network has to answer: its library's class, its graph, names and static shapes.

A kind knows nothing of the pipeline that it is part of (``models.families``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgefusion.models.config_file import pair
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgefusion.models.config_file import ConfigFile

CONTEXT_TOKENS = 77
"""CLIP's context length, where no text encoder says another."""


MASKED_SCORE = -10000.0
"""Added to the scores of tokens that are not attended to, as diffusers does."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the parts of a pipeline share. ``latent`` is (height, width); None where each network's
    own configuration decides. ``timestep_dtype`` is what the scheduler's timesteps take."""

    latent: tuple[int, int] | None = None
    context_tokens: int = CONTEXT_TOKENS
    timestep_dtype: Literal["int64", "float32"] = "int64"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name, static shape and element type, by torch's name of it."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs in the order of the graph module's arguments, and outputs in that of its results."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def examples(self) -> tuple[torch.Tensor, ...]:
        """Inputs of the right shapes; values do not matter to an export, but are valid indices."""
        import torch

        return tuple(torch.ones(p.shape, dtype=getattr(torch, p.dtype)) for p in self.inputs)


def halvings(config: ConfigFile, usual_levels: int) -> int:
    """How often a network of pictures halves their sides, by the levels of its configuration.

    Raises InputError, naming the key, for nonsense.
    """
    channels = config.values.get("block_out_channels", [0] * usual_levels)
    if not isinstance(channels, list) or not channels:
        raise config.error("block_out_channels", "expected a list, the channels of each level.")
    return len(channels) - 1


class NetworkKind(ABC):
    """One class of a library, as the graph that is compiled of it."""

    class_name: ClassVar[str]
    """As model_index.json names it."""
    library: ClassVar[Literal["diffusers", "transformers"]]
    title: ClassVar[str] = "network"
    """As messages call it."""
    usual_levels: ClassVar[int] = 1
    """Of a network of pictures: sizes that it works at, where its configuration does not say."""

    def library_class(self) -> Any:
        """The class by ``class_name``, imported."""
        return getattr(import_module(self.library), self.class_name)

    def check(self, config: ConfigFile) -> None:  # noqa: B027
        """Raises InputError, naming file and key, for a configuration that cannot be compiled."""

    def divisor(self, config: ConfigFile) -> int:
        """What the sides of a network's picture have to divide by.

        Raises InputError, naming the key, for nonsense.
        """
        return int(2 ** halvings(config, self.usual_levels))

    def padding(self, config: ConfigFile) -> int | None:  # noqa: ARG002
        """The token that a text encoder takes for none; None where it reads all alike."""
        return None

    def part(self, module: nn.Module) -> nn.Module:
        """What of a ``module`` is compiled: with its ``config``, and its names of weights."""
        return module

    @abstractmethod
    def graph(self, part: nn.Module) -> nn.Module:
        """``part`` with plain tensors, one positional argument an input, and plain results."""

    @abstractmethod
    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """Names and shapes of the graph of a part with ``config`` (attributes by name). Raises
        InputError where neither ``sizes`` nor the configuration says how large it is."""

    def exported_name(self, port: str, _config: Any, /) -> str:
        """What optimum calls the input or output ``port`` of a network with this configuration."""
        return port

    def own_size(self, config: Any) -> tuple[int, int]:
        """The (height, width) that a configuration states: of the latent, a decoder's of its
        images."""
        size = pair(config.sample_size)
        if size is None:
            raise InputError(
                f"{self.class_name}: config.json has sample_size {config.sample_size!r}; expected "
                "one whole number or a pair [height, width]. Set it and try again."
            )
        return size
