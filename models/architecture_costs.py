"""Parameters and multiply-accumulates of a preset's networks, counted without their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from edgefusion.models.families.registry import family_named
from edgefusion.models.operation_count import OperationCount, count_operations

if TYPE_CHECKING:
    from edgefusion.models.architectures import Architecture
    from edgefusion.models.families.family import Part
    from edgefusion.models.networks.kind import Sizes


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """Of one network, evaluated once at its own size, batch 1."""

    parameters: int
    operations: OperationCount


def network_cost(architecture: Architecture, component: str) -> NetworkCost:
    """Built and evaluated on torch's meta device: shapes alone, no memory."""
    family = family_named(architecture.family)
    part = architecture.part(family.part(component))
    with torch.device("meta"):
        module = part.kind.part(architecture.networks[component].build())
    return module_cost(module, part, family.usual_sizes)


def module_cost(module: Any, part: Part, sizes: Sizes) -> NetworkCost:
    """As ``network_cost``, of a ``part`` that was loaded; it is moved to the meta device."""
    module.to("meta")
    with torch.device("meta"):
        network = part.kind.graph(module).eval()
        ports = part.kind.signature(module.config, part.sized(sizes))
        inputs = [tensor.to("meta") for tensor in ports.examples()]
        operations = count_operations(lambda: network(*inputs))
    return NetworkCost(sum(p.numel() for p in module.parameters()), operations)
