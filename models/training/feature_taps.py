"""What the blocks of a U-Net compute, caught on the way for feature distillation.

Hooks hold on to modules, not to names, so that wrapping a network for several processes (which
puts ``module.`` before every name) changes nothing. A tap gives the tensor of the network's own
graph: with non-reentrant gradient checkpointing it carries gradient all the same; with the
reentrant kind it would silently not, and ``check_gradient`` refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgefusion.models.training.block_removal import removed_stages
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, slots=True)
class FeaturePair:
    """Names of two modules, of a teacher and its student, whose outputs should agree."""

    teacher: str
    student: str


def feature_pairs(teacher: nn.Module, student: nn.Module) -> tuple[FeaturePair, ...]:
    """BK-SDM's pairs, from the outermost stage inwards and out again.

    Base and Small: all down- and up-blocks. Tiny has no innermost stage, hence no downsampler in
    its last down-block, so there the last projection before it is compared. Raises InputError for
    networks that are no such pair.
    """
    configs: list[Any] = [teacher.config, student.config]
    removed = removed_stages(*configs)
    stages = len(configs[1]["block_out_channels"])
    down = [FeaturePair(f"down_blocks.{i}", f"down_blocks.{i}") for i in range(stages)]
    if removed:
        inner = f"down_blocks.{stages - 1}"
        down[-1] = FeaturePair(_last_output(teacher, inner), _last_output(student, inner))
    up = [FeaturePair(f"up_blocks.{i + removed}", f"up_blocks.{i}") for i in range(stages)]
    return (*down, *up)


def _last_output(network: nn.Module, block: str) -> str:
    """The last layer of a down-block before its downsampler."""
    module: Any = network.get_submodule(block)
    if getattr(module, "has_cross_attention", False):
        return f"{block}.attentions.{len(module.attentions) - 1}.proj_out"
    return f"{block}.resnets.{len(module.resnets) - 1}"


class FeatureTaps:
    """Catches outputs of the named modules of ``network`` (not yet wrapped) while it runs."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        self._caught: dict[str, torch.Tensor] | None = None
        for name in names:
            network.get_submodule(name).register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def catch(_module: nn.Module, _inputs: object, output: Any) -> None:
            if self._caught is not None:  # recomputation for backward runs outside of ``catching``
                # Down-blocks return (hidden states, states for the skip connections).
                self._caught[name] = output[0] if isinstance(output, tuple) else output

        return catch

    @contextmanager
    def catching(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """A mapping that holds, after the network ran inside of ``with``, outputs by name."""
        caught: dict[str, torch.Tensor] = {}
        self._caught = caught
        try:
            yield caught
        finally:
            self._caught = None


def check_gradient(features: Mapping[str, torch.Tensor]) -> None:
    """Raises InputError, naming it, for a feature without gradient: its loss would do nothing."""
    for name, feature in features.items():
        if not feature.requires_grad:
            raise InputError(
                f"the student's feature {name} carries no gradient; expected one, or its loss "
                "teaches nothing. Train all layers, and checkpoint gradients with "
                "use_reentrant=False (diffusers' enable_gradient_checkpointing does)."
            )
