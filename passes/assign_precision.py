"""The precision of every op: ``fp16``, or ``w8a16`` (INT8 weights, INT16 activations).

The paper runs the text encoder and the image decoder in FP16 and the U-Net in W8A16. Rules override
that for ops by name, scope or operator. Weights of FP16 ops are stored in FP16 here, with a Cast to
float32 behind them: ONNX Runtime keeps computing in float32; rounding activations is the business
of the executor. Host ops keep float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import numpy as np

from edgefusion.compiler.frontend.placement import host_nodes
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.compiler.graph.names import PRECISION
from edgefusion.compiler.graph.weights import Array, Values
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.pipeline_roles import ROLE_PRECISION, role_of

FP16 = "fp16"
W8A16 = "w8a16"

FP16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class AssignPrecision:
    """Annotate ops with a precision and store FP16 weights.

    ``default`` is for all ops ('' = by component); ``rules`` are (pattern, precision) pairs, shell
    patterns matched against name, scope and operator; the first that matches decides.
    """

    default: str = ""
    rules: tuple[tuple[str, str], ...] = ()

    name: ClassVar[str] = "assign-precision"

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """Change ``graph`` in place.

        Raises:
            InputError: a weight that is not finite or exceeds FP16.
            UsageError: a rule or default that is no precision.
        """
        default = self._default_of(context.component)
        for precision in (default, *(precision for _, precision in self.rules)):
            if precision not in (FP16, W8A16):
                raise UsageError(
                    f"expected precision '{FP16}' or '{W8A16}', got '{precision}'; "
                    "correct the recipe"
                )
        remarks = Remarks(self.name)
        on_host = host_nodes(graph, context.machine)
        halves: dict[Tensor, Tensor] = {}
        for node in graph.nodes:
            if node in on_host:
                continue
            precision, why = self.of(node, context.component)
            node.annotations[PRECISION] = precision
            remarks.matched(node, f"{precision} ({why})")
            if precision == FP16:
                _store_halves(graph, node, halves)
        return remarks.result()

    def of(self, node: Node, component: str) -> tuple[str, str]:
        """The precision that ``node`` of ``component`` gets, and why."""
        for pattern, precision in self.rules:
            if _matches(node, pattern):
                return precision, f"rule '{pattern}'"
        return self._default_of(component), f"default of {component or 'graphs'}"

    def _default_of(self, component: str) -> str:
        return self.default or ROLE_PRECISION[role_of(component)]


def _matches(node: Node, pattern: str) -> bool:
    return any(fnmatchcase(text, pattern) for text in (node.name, node.scope, node.op))


def _store_halves(graph: Graph, node: Node, halves: dict[Tensor, Tensor]) -> None:
    """Read FP16 copies of the float constants that ``node`` computes with."""
    if node.op in ("Resize", "Clip", "Pad"):
        return  # their constants are settings, not values
    for index, tensor in enumerate(node.inputs):
        if tensor.is_absent or not tensor.is_constant or tensor.dtype != np.float32:
            continue
        saturate = _is_mask(node, index)
        if tensor not in halves:
            halves[tensor] = _half(graph, node, tensor, saturate=saturate)
        node.set_input(index, halves[tensor])


def _is_mask(node: Node, index: int) -> bool:
    """Whether operand ``index`` is added to scores before a softmax."""
    if kind_and_tokens(node.op)[0] == "Attention":
        return index == 3
    reader = node.output.only_consumer
    return node.op == "Add" and reader is not None and reader.op == "Softmax"


def _half(graph: Graph, node: Node, tensor: Tensor, *, saturate: bool) -> Tensor:
    """A Cast to float32 of ``tensor`` in FP16."""
    values = tensor.lazy
    check_finite(tensor, node, limit=None if saturate else FP16_MAX)
    stored = graph.deferred_constant(
        f"{tensor.name}_fp16", tensor.shape, np.dtype(np.float16), lambda: _to_half(values)
    )
    result = graph.tensor(f"{tensor.name}_fp32", tensor.shape, tensor.dtype)
    to = {"to": 1}  # TensorProto.FLOAT
    name = f"{tensor.name}_cast"
    cast = graph.add("Cast", [stored], [result], to, source=[node], name=name, before=node)
    cast.annotations[PRECISION] = FP16
    return result


def _to_half(values: Values) -> Array:
    """FP16 values; a mask's minus infinity becomes the lowest number, which softmax cannot tell."""
    return np.clip(values.load(), -FP16_MAX, FP16_MAX).astype(np.float16)


def check_finite(tensor: Tensor, node: Node, limit: float | None) -> None:
    """InputError if the constant ``tensor`` holds NaN, or more than ``limit`` (None: infinity)."""
    values = tensor.values()
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    layer = f"layer '{node.scope or node.name}' ({', '.join(node.origin)})"
    if np.isnan(low) or np.isnan(high):
        raise InputError(
            f"weight '{tensor.name}' of {layer} holds NaN; check the checkpoint, "
            "training may have diverged"
        )
    if limit is not None and max(-low, high) > limit:
        worst = max(-low, high)
        raise InputError(
            f"weight '{tensor.name}' of {layer} reaches {worst:g}, expected at most {limit:g}, the "
            "largest FP16 number; rescale the layer or give it precision w8a16 in the recipe"
        )
