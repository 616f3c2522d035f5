"""Parameters and multiply-accumulates of a preset's networks, counted without their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from edgefusion.models.components import VaeDecoder, as_graph, example_inputs, signature
from edgefusion.models.operation_count import OperationCount, count_operations

if TYPE_CHECKING:
    from edgefusion.models.architectures import Architecture, Component


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """Of one network, evaluated once at its own size, batch 1."""

    parameters: int
    operations: OperationCount


def network_cost(architecture: Architecture, component: Component) -> NetworkCost:
    """Built and evaluated on torch's meta device: shapes alone, no memory."""
    with torch.device("meta"):
        module: Any = getattr(architecture, component).build()
        if component == "vae_decoder":
            module = VaeDecoder(module)
    return module_cost(module, component)


def module_cost(module: Any, component: Component) -> NetworkCost:
    """As ``network_cost``, of a ``component`` that was loaded; it is moved to the meta device."""
    module.to("meta")
    with torch.device("meta"):
        network = as_graph(component, module)
        inputs = [tensor.to("meta") for tensor in example_inputs(signature(component, module))]
        operations = count_operations(lambda: network(*inputs))
    return NetworkCost(sum(p.numel() for p in module.parameters()), operations)
