"""Small networks whose ops form groups of several kinds, on machines of little SRAM."""

from __future__ import annotations

from edgefusion.compiler.network.network import Epilogue, Network
from edgefusion.compiler.ops.conv import Conv
from edgefusion.compiler.ops.elementwise import Binary, Unary
from edgefusion.compiler.ops.norm import GroupNorm
from edgefusion.runtime.isa import DType, Role
from edgefusion.runtime.target import load_target
from tests.lowering_cases import NetworkBuilder

MACHINE = load_target("exynos2400").machine
SMALL = MACHINE.with_values(sram_bytes=128 * 1024)
"""Holds none of the maps below whole, but stripes of several."""


def conv_chain(height: int = 48, width: int = 32, channels: int = 32) -> Network:
    """Two convolutions with a function between them, and a sum with what the first one read."""
    b = NetworkBuilder()
    shape = (1, height, width, channels)
    b.add("x", *shape, role=Role.INPUT)
    for name in ("w1", "w2"):
        b.weight(name, channels, channels, 3, 3)
    for name in ("a", "b", "c"):
        b.add(name, *shape)
    b.add("y", *shape, role=Role.OUTPUT)
    pads = {"strides": (1, 1), "pads": (1, 1, 1, 1)}
    b.op("conv1", Conv(x="x", w="w1", **pads), "a")
    b.op("silu", Unary(x="a", function="silu"), "b")
    b.op("conv2", Conv(x="b", w="w2", **pads), "c")
    b.op("sum", Binary(a="c", b="x", function="add"), "y")
    return b.build("chain")


def norm_chain(height: int = 48, width: int = 32, channels: int = 32) -> Network:
    """A convolution that collects statistics, the normalisation that needs them all, and what
    reads it."""
    b = NetworkBuilder()
    shape = (1, height, width, channels)
    b.add("x", *shape, role=Role.INPUT)
    for name in ("w1", "w2"):
        b.weight(name, channels, channels, 3, 3)
    for name in ("gamma", "beta"):
        b.add(name, channels, dtype=DType.FP32, role=Role.WEIGHT)
    b.add("a", *shape)
    b.add("stats", 2, channels, dtype=DType.INT64)
    b.add("n", *shape)
    b.add("y", *shape, role=Role.OUTPUT)
    pads = {"strides": (1, 1), "pads": (1, 1, 1, 1)}
    b.op("conv1", Conv(x="x", w="w1", **pads), "a", (Epilogue("stats", "stats"),))
    norm = GroupNorm(
        x="a", gamma="gamma", beta="beta", stats=("stats",), groups=8, epsilon=1e-5, function="silu"
    )
    b.op("norm", norm, "n")
    b.op("conv2", Conv(x="n", w="w2", **pads), "y")
    return b.build("norms")


CASES = {"chain": conv_chain(), "norms": norm_chain()}
