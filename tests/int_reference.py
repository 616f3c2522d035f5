"""Small networks of one op with INT16 values: what goes in, and the scales that fit them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.network.network import Network, stage_names
from edgefusion.compiler.network.ranges import Range
from edgefusion.compiler.network.scales import assign_scales, measured_tensors
from edgefusion.compiler.ops.attention import Attention
from edgefusion.runtime.isa import Role
from tests.fp16_reference import draw, evaluate, half_network, shared_heads

Array = npt.NDArray[Any]


def named_constants(network: Network) -> Network:
    """``network`` with the values of all its constants in the bundle, under their own names."""
    tensors = {
        name: replace(t, constant=name) if t.role is Role.WEIGHT else t
        for name, t in network.tensors.items()
    }
    return replace(network, tensors=tensors)


def draw_integers(network: Network, seed: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
    """Real inputs, and constants as stored: INT8 weights with the scales of their channels."""
    inputs, constants = draw(half_network(network), seed)
    for name, tensor in network.tensors.items():
        if tensor.scale_tensor:
            w = constants[name]
            axes = tuple(range(1, w.ndim)) if w.ndim == 4 else tuple(range(w.ndim - 1))
            scale = np.abs(w).max(axis=axes) / 127.0
            shape = (-1, 1, 1, 1) if w.ndim == 4 else (1, -1)
            constants[name] = np.rint(w / scale.reshape(shape)).astype(np.int8)
            constants[tensor.scale_tensor] = scale.astype(np.float32)
    return inputs, constants


def real_values(network: Network, values: Mapping[str, Array]) -> dict[str, Array]:
    """``values`` with weights as the real numbers that they stand for."""
    real = dict(values)
    for name, tensor in network.tensors.items():
        if tensor.scale_tensor:
            scale = values[tensor.scale_tensor]
            real[name] = values[name] * scale.reshape((-1, 1, 1, 1) if real[name].ndim == 4 else -1)
    return real


def fitting_scales(network: Network, values: Mapping[str, Array]) -> dict[str, float]:
    """Scales from the ranges that ``values`` (real numbers) and the results of them have."""
    (op,) = network.ops
    half = half_network(network)
    ranges: dict[str, float] = {
        name: float(np.abs(value).max()) for name, value in values.items() if value.size
    }
    for i, name in enumerate(stage_names(op)):
        steps = [step for step in op.epilogue if not step.is_statistics][:i]
        part = replace(half, ops=(replace(op, epilogue=tuple(steps)),))
        ranges[name] = float(np.abs(evaluate(part, values)[0]).max())
    if isinstance(op.kind, Attention):
        heads, scale = op.kind.heads, op.kind.scale
        q = np.split(values["q"][0], heads, axis=-1)
        k = shared_heads(values["k"], values["q"], heads)
        scores = [np.abs(qh @ kh.T).max() * scale for qh, kh in zip(q, k, strict=True)]
        ranges[f"{op.name}:scores_in"] = float(max(scores))
        ranges[f"{op.name}:scores_masked"] = float(max(scores)) + ranges.get("mask", 0.0)
    wanted = {name: ranges[name] for name in measured_tensors(network)}
    return assign_scales(network, {name: Range(-r, r) for name, r in wanted.items()})


def draw_scaled(network: Network) -> tuple[dict[str, float], dict[str, Array], dict[str, Array]]:
    """Scales that fit what ``draw_integers`` draws, and the drawn inputs and constants."""
    inputs, constants = draw_integers(network)
    scales = fitting_scales(network, real_values(network, inputs | constants))
    if "stats" in inputs:  # sums of squares are in steps of x
        x = np.rint(inputs["x"].reshape(-1, inputs["x"].shape[-1]) / scales["x"]).astype(np.int64)
        inputs["stats"] = np.stack([x.sum(axis=0), (x**2).sum(axis=0)])
    return scales, inputs, constants
