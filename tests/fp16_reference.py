"""What a small network computes in FP16, written apart from the kernels, in float64.

Everything is float64 but for one rounding to FP16 where an instruction stores a result. A
reference comes with a tolerance for each element: what a last-place difference in any result on the
way (FP32 instead of float64 inside the kernels) can do to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.network.network import Network
from edgefusion.runtime.isa import DType, Role
from tests.function_reference import reference

F64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


def half_network(network: Network) -> Network:
    """``network`` of INT16 activations in FP16: no scales, FP32 statistics, named constants."""
    tensors = {}
    for name, tensor in network.tensors.items():
        if tensor.role is Role.TABLE:
            continue
        dtype = DType.FP32 if tensor.shape[:1] == (2,) and len(tensor.shape) == 2 else DType.FP16
        constant = name if tensor.role is Role.WEIGHT else ""
        tensors[name] = replace(tensor, dtype=dtype, scale_tensor="", constant=constant)
    return replace(network, tensors=tensors)


def draw(network: Network, seed: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
    """Random inputs and constants, FP16 values in FP32 arrays; statistics fit the input x."""
    rng = np.random.default_rng(seed)
    drawn = {
        t.name: rounded(rng.standard_normal(t.shape) * (0.1 if t.role is Role.WEIGHT else 1.0))
        for t in network.tensors.values()
        if t.role in (Role.INPUT, Role.WEIGHT)
    }
    if "stats" in drawn:
        x = drawn["x"].reshape(-1, drawn["x"].shape[-1])
        drawn["stats"] = np.stack([x.sum(axis=0), (x**2).sum(axis=0)])
    arrays = {name: values.astype(np.float32) for name, values in drawn.items()}
    inputs = {n: v for n, v in arrays.items() if network.tensors[n].role is Role.INPUT}
    return inputs, {n: v for n, v in arrays.items() if n not in inputs}


def rounded(values: Array) -> F64:
    """To FP16 and back."""
    return values.astype(np.float16).astype(np.float64)


def ulp(values: Array) -> F64:
    """The distance of neighbouring FP16 numbers at ``values``."""
    _, exponent = np.frexp(np.abs(values).astype(np.float64))
    return np.asarray(2.0 ** (np.maximum(exponent, -13) - 11))


Attributes = Mapping[str, Any]


def evaluate(network: Network, values: Mapping[str, Array]) -> tuple[F64, F64]:
    """Result ``y`` of a network of one op, and its tolerance, both float64 of y's shape."""
    (op,) = network.ops
    known = {name: value.astype(np.float64) for name, value in values.items()}
    shape = network.tensor("y").shape
    result, tolerance = _KINDS[op.kind.name](op.kind.attributes, known, shape)
    for step in op.epilogue:
        if step.is_statistics:
            continue
        if step.operand:
            exact = result + known[step.operand]
        else:
            exact = reference(step.function, result)
            ends = [reference(step.function, result + sign * tolerance) for sign in (-1.0, 1.0)]
            tolerance = np.max([np.abs(end - exact) for end in ends], axis=0)
        result = rounded(exact)
        tolerance = tolerance + ulp(result)
    return result, np.broadcast_to(tolerance, result.shape)


def _once(exact: F64, blur: F64 | float = 0.0) -> tuple[F64, F64]:
    """One rounding of what FP32 arithmetic gets wrong by ``blur`` at most."""
    result = rounded(exact)
    return result, ulp(result) + blur


def chain_error(terms: int, magnitude: F64) -> F64:
    """Largest error of an FP32 chain of products whose absolute values sum to ``magnitude``."""
    return np.asarray((terms + 2) * 2.0**-24 * magnitude)


def _product(a: F64, b: F64, bias: F64 | float = 0.0) -> tuple[F64, F64]:
    return _once(a @ b + bias, chain_error(a.shape[-1], np.abs(a) @ np.abs(b) + np.abs(bias)))


def _same(exact: F64) -> tuple[F64, F64]:
    return exact, np.zeros(())


def _conv(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    x, w = v["x"][0], _all_channels(v["w"], a["groups"])
    factor, (sh, sw) = a["upsample"], a["strides"]
    pads = a["pads"]
    x = x.repeat(factor, axis=0).repeat(factor, axis=1)
    x = np.pad(x, ((pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))
    rows, columns = shape[1:3]
    y = np.broadcast_to(v["bias"], (rows, columns, len(w)))
    magnitude = np.abs(y)
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            window = x[i : i + (rows - 1) * sh + 1 : sh, j : j + (columns - 1) * sw + 1 : sw]
            y = y + window @ w[:, :, i, j].T
            magnitude = magnitude + np.abs(window) @ np.abs(w[:, :, i, j].T)
    return _once(y[None], chain_error(w[0].size, magnitude[None]))


def _transposed_conv(
    a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]
) -> tuple[F64, F64]:
    """Each pixel times the whole kernel, turned back as ONNX has it, added up where it falls."""
    x, w = v["x"][0], v["w"][:, :, ::-1, ::-1]
    (sh, sw), (top, left, *_), (height, width, _) = a["strides"], a["pads"], x.shape
    y = np.zeros((2, shape[1] + top + w.shape[2] + sh, shape[2] + left + w.shape[3] + sw, len(w)))
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            rows = slice(i, i + (height - 1) * sh + 1, sh)
            columns = slice(j, j + (width - 1) * sw + 1, sw)
            y[0, rows, columns] += x @ w[:, :, i, j].T
            y[1, rows, columns] += np.abs(x) @ np.abs(w[:, :, i, j].T)
    y = y[:, top : top + shape[1], left : left + shape[2]]
    magnitude = y[1] + np.abs(v["bias"])
    return _once((y[0] + v["bias"])[None], chain_error(w[0].size, magnitude[None]))


def _all_channels(w: F64, groups: int) -> F64:
    """Filters over the channels of all groups: zeros but for their own."""
    made = np.zeros((len(w), groups * w.shape[1], *w.shape[2:]))
    for g in range(groups):
        filters = slice(g * len(w) // groups, (g + 1) * len(w) // groups)
        made[filters, g * w.shape[1] : (g + 1) * w.shape[1]] = w[filters]
    return made


def shared_heads(
    x: npt.NDArray[Any], q: npt.NDArray[Any], heads: int, k: npt.NDArray[Any] | None = None
) -> list[npt.NDArray[Any]]:
    """The heads of keys, or of values beside the keys ``k``, that each of ``heads`` queries has."""
    group = q.shape[-1] // (x if k is None else k).shape[-1]
    return [part for part in np.split(x[0], heads // group, axis=-1) for _ in range(group)]


def _attention(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    heads, scale = a["heads"], a["scale"]
    parts, tolerances = [], []
    q = np.split(v["q"][0], heads, axis=-1)
    k, values = shared_heads(v["k"], v["q"], heads), shared_heads(v["v"], v["q"], heads, v["k"])
    masks = [None] * heads
    if "mask" in v:
        mask = v["mask"]
        masks = list(np.broadcast_to(mask.reshape(-1, *mask.shape[-2:]), (heads, *mask.shape[-2:])))
    for qh, kh, vh, own in zip(q, k, values, masks, strict=True):
        scores = rounded(qh @ kh.T * np.float32(scale))
        blur = ulp(scores) + chain_error(qh.shape[1], np.abs(qh) @ np.abs(kh.T)) * scale
        if own is not None:
            scores = rounded(scores + own)
            blur = blur + ulp(scores)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights = rounded(powers / powers.sum(axis=1, keepdims=True))
        result = rounded(weights @ vh)
        # A score off by its last place moves all weights of its row by that factor.
        factor = blur.max(axis=1, keepdims=True)
        spread = (ulp(weights) + 2.0 * factor * weights) @ np.abs(vh)
        parts.append(result)
        chain = chain_error(len(vh), weights @ np.abs(vh))
        tolerances.append(spread + ulp(result) + chain)
    return np.concatenate(parts, axis=-1)[None], np.concatenate(tolerances, axis=-1)[None]


def _group_norm(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    groups = a["groups"]
    x = v["x"].reshape(-1, groups, shape[-1] // groups)
    mean, variance = x.mean(axis=(0, 2), keepdims=True), x.var(axis=(0, 2), keepdims=True)
    y = ((x - mean) / np.sqrt(variance + a["epsilon"])).reshape(shape)
    return _once(reference("silu", y * v["gamma"] + v["beta"]))


def _layer_norm(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    x = v["x"]
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return _once((x - mean) / np.sqrt(variance + a["epsilon"]) * v["gamma"] + v["beta"])


def _rms_norm(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    x = v["x"]
    square = (x**2).mean(axis=-1, keepdims=True)
    return _once(x / np.sqrt(square + a["epsilon"]) * v["gamma"])


def _softmax(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    powers = np.exp(v["x"] - v["x"].max(axis=-1, keepdims=True))
    return _once(powers / powers.sum(axis=-1, keepdims=True))


def _glu(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    value, gate = np.split(v["x"], 2, axis=-1)
    return _once(value * reference(a["function"], gate))


def _slice(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    """From each start to the end of its axis."""
    return _same(v["x"][tuple(map(slice, a["starts"], v["x"].shape, a["steps"]))])


def _pool(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    x = np.pad(v["x"][0], ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    rows, columns = shape[1:3]
    windows = [
        x[i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] for i in range(3) for j in range(3)
    ]
    return _same(np.max(windows, axis=0)[None])


def _reduce(a: Attributes, v: Mapping[str, F64], shape: tuple[int, ...]) -> tuple[F64, F64]:
    """Partial sums are FP16 too: a rounding a tile, and no case here has more than three."""
    x = v["x"].reshape(-1, shape[-1])
    largest = np.abs(x.cumsum(axis=0)).max(axis=0) / len(x)
    return rounded(x.mean(axis=0)).reshape(shape), (3.0 * ulp(largest)).reshape(shape)


_KINDS: Mapping[str, Callable[..., tuple[F64, F64]]] = {
    "conv": _conv,
    "transposed_conv": _transposed_conv,
    "matmul": lambda a, v, shape: _product(v["x"], v["w"], v["bias"]),
    "batch_matmul": lambda a, v, shape: _product(v["x"], v["other"]),
    "attention": _attention,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "softmax": _softmax,
    "unary": lambda a, v, shape: _once(reference(a["function"], v["x"])),
    "binary": lambda a, v, shape: _once(v["x"] + v["other"]),
    "glu": _glu,
    "concat": lambda a, v, shape: _same(np.concatenate([v["x"], v["other"]], axis=a["axis"])),
    "slice": _slice,
    "transpose": lambda a, v, shape: _same(v["x"].transpose(a["perm"])),
    "resize": lambda a, v, shape: _same(v["x"].repeat(2, axis=1).repeat(2, axis=2)),
    "pool": _pool,
    "reduce": _reduce,
    "host": lambda a, v, shape: _once(2.0 * v["x"]),
}
