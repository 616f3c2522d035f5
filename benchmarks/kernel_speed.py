"""Integer GEMM several ways: whether each is exact, and how fast.

Shapes are those of a U-Net at 64x64 latents: convolutions as [pixels, taps x channels, channels],
and both products of attention for a tile of 512 queries. Ways: the executor's (packing included),
float64 BLAS, FP32 BLAS on planes of 8 bits in blocks of 512, and ONNX Runtime's MatMulInteger u8 x
s8 on planes of 8 bits. FP32 BLAS on the same shape, which is not exact, is what to compare with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort

from edgefusion.runtime.kernels import gemm
from edgefusion.runtime.kernels.contract import Array
from edgefusion.toolchain.machine_info import machine_info

SHAPES: tuple[tuple[int, int, int, type], ...] = (
    (4096, 2880, 320, np.int8),
    (1024, 5760, 640, np.int8),
    (256, 11520, 1280, np.int8),
    (512, 40, 4096, np.int16),
    (512, 4096, 40, np.int16),
)
REPEATS = 7
"""The best of so many runs is reported: others share the processor."""

Way = Callable[[Array, Array], Array]


def planes(a: Array) -> tuple[Array, Array]:
    """(high, low) with a = 256 * high + low and low in [0, 255]."""
    return a.astype(np.int32) >> 8, a.astype(np.int32) & 255


def executor(a: Array, b: Array) -> Array:
    """The executor's GEMM."""
    total = np.empty((len(a), b.shape[1]), np.int64)
    gemm.accumulate(gemm.matrix_rows(a), b[None], total, add=False)
    return total


def float64(a: Array, b: Array) -> Array:
    """One float64 product."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def float32_planes(a: Array, b: Array) -> Array:
    """FP32 products of 8-bit planes over blocks of 512 terms: below 2^24, summed in float64."""
    parts = [(b.astype(np.float32), 0)]
    if b.dtype == np.int16:
        high, low = planes(b)
        parts = [(high.astype(np.float32), 8), (low.astype(np.float32), 0)]
    total = np.zeros((len(a), b.shape[1]))
    for left, up in zip(planes(a), (8, 0), strict=True):
        x = left.astype(np.float32)
        for right, more in parts:
            block = 512 if b.dtype == np.int8 else 256
            for start in range(0, a.shape[1], block):
                part = x[:, start : start + block] @ right[start : start + block]
                total += np.ldexp(part, up + more)
    return total.astype(np.int64)


def ort_integer(a: Array, b: Array) -> Array:
    """MatMulInteger u8 x s8 on both planes of ``a``; only for INT8 weights."""
    session = _session()
    high, low = planes(a)
    feeds = ((high + 128).astype(np.uint8), low.astype(np.uint8))
    upper, lower = (session.run(None, {"a": f, "b": b})[0].astype(np.int64) for f in feeds)
    correction = 128 * b.sum(axis=0, dtype=np.int64)
    made: Array = 256 * (upper - correction) + lower
    return made


def float32(a: Array, b: Array) -> Array:
    """FP32 BLAS, not exact."""
    made: Array = a.astype(np.float32) @ b.astype(np.float32)
    return made


WAYS: Mapping[str, Way] = {
    "executor": executor,
    "float64": float64,
    "float32_planes": float32_planes,
    "ort_u8s8": ort_integer,
    "float32_inexact": float32,
}


def _session() -> Any:
    if "session" not in _CACHE:
        node = oh.make_node("MatMulInteger", ["a", "b"], ["y"])
        kinds = onnx.TensorProto
        graph = oh.make_graph(
            [node],
            "g",
            [
                oh.make_tensor_value_info("a", kinds.UINT8, ["m", "k"]),
                oh.make_tensor_value_info("b", kinds.INT8, ["k", "n"]),
            ],
            [oh.make_tensor_value_info("y", kinds.INT32, ["m", "n"])],
        )
        model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 13)], ir_version=9)
        _CACHE["session"] = ort.InferenceSession(model.SerializeToString())
    return _CACHE["session"]


_CACHE: dict[str, Any] = {}


def measure(m: int, k: int, n: int, dtype: type) -> list[dict[str, Any]]:
    """A row for each way: exact on extreme operands, and GMAC/s on random ones."""
    rng = np.random.default_rng(0)
    limits = (-127, 128) if dtype is np.int8 else (-32768, 32768)
    a = rng.integers(-32768, 32768, (m, k)).astype(np.int16)
    b: Array = rng.integers(*limits, (k, n)).astype(dtype)
    extreme_a = np.where(a[:8] < 0, -32768, 32767).astype(np.int16)
    extreme_b: Array = np.where(b < 0, limits[0], limits[1] - 1).astype(dtype)
    extreme_b[:, ::2] = limits[1] - 1
    expected = extreme_a.astype(np.int64) @ extreme_b.astype(np.int64)
    rows = []
    for name, way in WAYS.items():
        if name == "ort_u8s8" and dtype is not np.int8:
            continue
        best = float("inf")
        for _ in range(REPEATS):
            start = time.perf_counter()
            way(a, b)
            best = min(best, time.perf_counter() - start)
        rows.append(
            {
                "m": m,
                "k": k,
                "n": n,
                "way": name,
                "exact": bool(np.array_equal(way(extreme_a, extreme_b), expected)),
                "gmac_per_s": round(m * k * n / best / 1e9, 1),
            }
        )
    return rows


def measure_all() -> dict[str, Any]:
    """All shapes, JSON-ready."""
    rows = [row for shape in SHAPES for row in measure(*shape)]
    return {"schema_version": 1, "machine": machine_info(), "rows": rows}


def main() -> None:
    """Print the table."""
    for row in measure_all()["rows"]:
        shape = f"{row['m']}x{row['k']}x{row['n']}"
        exact = "exact" if row["exact"] else "inexact"
        print(f"{shape:16} {row['way']:16} {row['gmac_per_s']:8.1f} GMAC/s  {exact}")


if __name__ == "__main__":
    main()
