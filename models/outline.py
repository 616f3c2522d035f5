"""A network apart from its weights: a module without values, and what gives them one at a time.

Checkpoints of gigabytes are exported without ever being whole in memory; what computes in torch is
``filled``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

Values = Callable[[str], "torch.Tensor"]
"""A parameter's values by its name in a module, float32 on the CPU."""


@dataclass(frozen=True, slots=True)
class Outline:
    """``module`` in evaluation mode, with its parameters on the meta device and real buffers;
    ``values`` gives each parameter's, read or drawn anew at each call."""

    module: nn.Module
    values: Values

    def filled(self) -> nn.Module:
        """``module``, whose parameters are replaced by their values."""
        self._replace(self.values)
        return self.module

    def stand_ins(self) -> dict[int, str]:
        """Parameters are replaced by float32 ones on the CPU that are never written, and so take
        no memory until they are read; their names by the addresses of their data."""
        import torch

        shapes = dict(self.module.named_parameters())
        names: dict[int, str] = {}

        def stand_in(name: str) -> torch.Tensor:
            made = torch.empty(shapes[name].shape)
            names[made.data_ptr()] = name
            return made

        self._replace(stand_in)
        return names

    def _replace(self, values: Values) -> None:
        """A parameter of several names stays one, and has the values of the first."""
        from torch import nn

        made: dict[int, nn.Parameter] = {}
        for name, owner, leaf, parameter in list(_places(self.module)):
            if id(parameter) not in made:
                made[id(parameter)] = nn.Parameter(values(name), requires_grad=False)
            setattr(owner, leaf, made[id(parameter)])


def _places(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """Every name of every parameter, what it is an attribute of and by which name."""
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owner, _, leaf = name.rpartition(".")
        yield name, module.get_submodule(owner), leaf, parameter


def without_values(make: Callable[[], nn.Module]) -> nn.Module:
    """What ``make`` makes, with its parameters on the meta device, those of several names as one;
    buffers are real, for they are computed and not always stored."""
    from accelerate import init_empty_weights
    from transformers import PreTrainedModel

    with init_empty_weights(include_buffers=False):
        module = make()
    if isinstance(module, PreTrainedModel):
        module.tie_weights()
    return module.requires_grad_(False).eval()


def finite(values: Values, where: str) -> Values:
    """``values``, which raise InputError, naming the first such weight, for NaN and infinities."""

    def checked(name: str) -> torch.Tensor:
        import torch

        tensor = values(name)
        if not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise InputError(
                f"{where}: the weight {name} holds {bad} NaN or infinite values of "
                f"{tensor.numel()}; expected finite numbers. The checkpoint is damaged or its "
                "training diverged: use an earlier one."
            )
        return tensor

    return checked
