"""Small networks of several ops, for tests of fusion groups: what they compute does not matter, but
all the ways in which ops hang together do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from edgefusion.compiler.lowering import planner
from edgefusion.compiler.lowering.answers import Answers, Question
from edgefusion.compiler.lowering.group_search import Choice
from edgefusion.compiler.lowering.lower import Lowered, lower
from edgefusion.compiler.network.kind import Kind
from edgefusion.compiler.network.network import Epilogue, Network
from edgefusion.compiler.network.ranges import Range
from edgefusion.compiler.network.scales import assign_scales, measured_tensors, with_scales
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.ops.conv import Conv
from edgefusion.compiler.ops.elementwise import Binary, Glu, Unary
from edgefusion.compiler.ops.matmul import MatMul
from edgefusion.compiler.ops.movement import Concat, Reshape
from edgefusion.compiler.ops.norm import GroupNorm, LayerNorm
from edgefusion.compiler.ops.transposed_conv import TransposedConv
from edgefusion.compiler.schedule.schedule import Schedule, schedule_named
from edgefusion.runtime.executor import Execution, Executor
from edgefusion.runtime.isa import DType, Role
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.machine import Machine
from tests.fp16_reference import half_network, rounded
from tests.int_reference import named_constants
from tests.lowering_cases import NetworkBuilder

KIB = 1024
LARGEST = 6.0
"""Every range: values are drawn and normalised so that few lie beyond."""


@dataclass
class ChainBuilder:
    """Builds networks op by op; each method returns the name of the op's result."""

    b: NetworkBuilder = field(default_factory=NetworkBuilder)
    sums: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def input(self, *shape: int) -> str:
        """An input."""
        return self.b.add(f"in{len(self.b.tensors)}", *shape, role=Role.INPUT)

    def _op(self, kind: Kind, *shape: int, steps: tuple[Epilogue, ...] = ()) -> str:
        self.count += 1
        name = f"{kind.name}{self.count}"
        self.b.op(name, kind, self.b.add(f"t{self.count}", *shape), steps)
        return f"t{self.count}"

    def _steps(self, channels: int, add: str, function: str, stats: bool) -> tuple[Epilogue, ...]:
        steps = [Epilogue(function)] if function else []
        steps += [Epilogue("add", add)] if add else []
        if stats:
            name = self.b.add(f"s{self.count + 1}", 2, channels, dtype=DType.INT64)
            self.sums[f"t{self.count + 1}"] = name
            steps.append(Epilogue("stats", name))
        return tuple(steps)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.b.tensors[name].shape

    def conv(
        self,
        x: str,
        channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        upsample: int = 1,
        add: str = "",
        function: str = "",
        stats: bool = False,
    ) -> str:
        """A convolution that pads by half its kernel."""
        _, height, width, inner = self.shape(x)
        pad, n = kernel // 2, self.count + 1
        self.b.weight(f"w{n}", channels, inner, kernel, kernel)
        self.b.add(f"b{n}", channels, dtype=DType.INT64, role=Role.WEIGHT)
        kind = Conv(
            x=x,
            w=f"w{n}",
            bias=f"b{n}",
            strides=(stride, stride),
            pads=(pad,) * 4,
            upsample=upsample,
        )
        rows, columns = (
            (size * upsample + 2 * pad - kernel) // stride + 1 for size in (height, width)
        )
        steps = self._steps(channels, add, function, stats)
        return self._op(kind, 1, rows, columns, channels, steps=steps)

    def transposed(
        self, x: str, channels: int, *, kernel: int = 4, stride: int = 2, stats: bool = False
    ) -> str:
        """A transposed convolution whose result is ``stride`` times as large."""
        _, height, width, inner = self.shape(x)
        n, cut = self.count + 1, kernel - stride
        self.b.weight(f"w{n}", channels, inner, kernel, kernel)
        self.b.add(f"b{n}", channels, dtype=DType.INT64, role=Role.WEIGHT)
        pads = (cut // 2, cut // 2, cut - cut // 2, cut - cut // 2)
        kind = TransposedConv(x=x, w=f"w{n}", bias=f"b{n}", strides=(stride, stride), pads=pads)
        steps = self._steps(channels, "", "", stats)
        return self._op(kind, 1, height * stride, width * stride, channels, steps=steps)

    def linear(self, x: str, channels: int, *, add: str = "", function: str = "") -> str:
        """A matrix product with weights."""
        n, inner = self.count + 1, self.shape(x)[-1]
        self.b.weight(f"w{n}", inner, channels)
        self.b.add(f"b{n}", channels, dtype=DType.INT64, role=Role.WEIGHT)
        steps = self._steps(channels, add, function, False)
        kind = MatMul(x=x, w=f"w{n}", bias=f"b{n}")
        return self._op(kind, *self.shape(x)[:-1], channels, steps=steps)

    def _parameters(self, channels: int) -> tuple[str, str]:
        n = self.count + 1
        for name in (f"gamma{n}", f"beta{n}"):
            self.b.add(name, channels, dtype=DType.FP32, role=Role.WEIGHT)
        return f"gamma{n}", f"beta{n}"

    def group_norm(self, x: str, *, groups: int = 4) -> str:
        """With SiLU; takes the statistics of x where its op has made them."""
        gamma, beta = self._parameters(self.shape(x)[-1])
        kind = GroupNorm(
            x=x,
            gamma=gamma,
            beta=beta,
            stats=(self.sums[x],) if x in self.sums else (),
            groups=groups,
            epsilon=1e-5,
            function="silu",
        )
        return self._op(kind, *self.shape(x))

    def layer_norm(self, x: str) -> str:
        """Along the last axis."""
        gamma, beta = self._parameters(self.shape(x)[-1])
        return self._op(LayerNorm(x=x, gamma=gamma, beta=beta, epsilon=1e-5), *self.shape(x))

    def attention(self, q: str, k: str, v: str, heads: int) -> str:
        """Heads side by side in columns."""
        scale = float((self.shape(q)[-1] // heads) ** -0.5)
        return self._op(Attention(q=q, k=k, v=v, heads=heads, scale=scale), *self.shape(q))

    def glu(self, x: str) -> str:
        """The first half times the GELU of the second."""
        *leading, columns = self.shape(x)
        return self._op(Glu(x=x, function="gelu"), *leading, columns // 2)

    def unary(self, x: str, function: str) -> str:
        """Element by element."""
        return self._op(Unary(x=x, function=function), *self.shape(x))

    def add(self, a: str, b: str) -> str:
        """A sum of two tensors."""
        return self._op(Binary(a=a, b=b, function="add"), *self.shape(a))

    def concat(self, *parts: str) -> str:
        """Along the last axis."""
        columns = sum(self.shape(part)[-1] for part in parts)
        axis = len(self.shape(parts[0])) - 1
        return self._op(Concat(parts=parts, axis=axis), *self.shape(parts[0])[:-1], columns)

    def view(self, x: str, *shape: int) -> str:
        """The same bytes under another shape."""
        return self._op(Reshape(x=x), *shape)

    def build(self, *outputs: str) -> Network:
        """The network that makes ``outputs``."""
        for name in outputs:
            self.b.add(name, *self.shape(name), role=Role.OUTPUT)
        return named_constants(self.b.build())


def conv_chain(height: int = 20, width: int = 16, channels: int = 32) -> Network:
    """Three convolutions in a row."""
    c = ChainBuilder()
    x = c.conv(c.input(1, height, width, 8), channels, function="silu")
    x = c.conv(x, channels, kernel=5, function="relu")
    return c.build(c.conv(x, 8))


def residual_block(height: int = 20, width: int = 16, channels: int = 32) -> Network:
    """norm, conv, norm, conv, addition: the block of which image models are made."""
    c = ChainBuilder()
    x = c.conv(c.input(1, height, width, 4), channels, stats=True)
    h = c.conv(c.group_norm(x), channels, stats=True)
    h = c.conv(c.group_norm(h), channels, add=x, stats=True)
    return c.build(c.conv(c.group_norm(h), 4))


def wide_tail(height: int = 24, width: int = 20, channels: int = 16) -> Network:
    """The end of a decoder: maps that are large beside their filters, a GroupNorm between."""
    c = ChainBuilder()
    x = c.conv(c.input(1, height // 2, width // 2, 4), channels, function="silu")
    h = c.conv(x, channels, upsample=2, stats=True)
    return c.build(c.conv(c.group_norm(h), 4, function="silu"))


def normed_skip(height: int = 20, width: int = 16, channels: int = 24) -> Network:
    """A skip and what comes back from half the size, concatenated, normalised and added to."""
    c = ChainBuilder()
    x = c.conv(c.input(1, height, width, 8), channels, stats=True)
    h = c.conv(c.group_norm(x), channels, stride=2, function="silu")
    whole = c.concat(c.conv(h, 2 * channels, upsample=2), x)
    short = c.conv(whole, 8, kernel=1)
    return c.build(c.conv(c.group_norm(whole, groups=6), 8, add=short))


def heavy_tail(height: int = 20, width: int = 16, channels: int = 128) -> Network:
    """Filters that are large beside the maps: they need more of SRAM than there is."""
    c = ChainBuilder()
    x = c.conv(c.input(1, height, width, 8), channels, kernel=1, stats=True)
    return c.build(c.conv(c.group_norm(x), channels, add=x))


def down_and_up(height: int = 20, width: int = 16, channels: int = 24) -> Network:
    """Stride two, upsampling by two, and a skip over both, concatenated."""
    c = ChainBuilder()
    x = c.conv(c.input(1, height, width, 8), channels, function="silu")
    h = c.conv(x, channels, stride=2, function="silu")
    h = c.conv(h, channels, function="silu")
    h = c.conv(h, channels, upsample=2)
    return c.build(c.conv(c.concat(h, x), 8, kernel=1))


def up_by_phases(height: int = 10, width: int = 8, channels: int = 24) -> Network:
    """A transposed convolution between convolutions, with statistics, and one of stride three."""
    c = ChainBuilder()
    x = c.conv(c.input(1, height, width, 8), channels, function="silu")
    x = c.transposed(x, channels, stats=True)
    x = c.conv(c.group_norm(x), channels, kernel=1)
    return c.build(c.conv(c.transposed(x, 8, kernel=5, stride=3), 4))


def transformer(tokens: int = 96, channels: int = 32, heads: int = 2) -> Network:
    """Attention with LayerNorm, then a gated feed-forward network, each with its addition."""
    c = ChainBuilder()
    x = c.linear(c.input(1, tokens, channels), channels)
    n = c.layer_norm(x)
    q, k, v = (c.linear(n, channels) for _ in range(3))
    x = c.linear(c.attention(q, k, v, heads), channels, add=x)
    h = c.glu(c.linear(c.layer_norm(x), 8 * channels))
    return c.build(c.linear(h, channels, add=x))


def image_transformer(height: int = 8, width: int = 12, channels: int = 32) -> Network:
    """The same on the pixels of an image, between convolutions."""
    c = ChainBuilder()
    x = c.conv(c.input(1, height, width, 4), channels, stats=True)
    t = c.linear(c.view(c.group_norm(x), 1, height * width, channels), channels)
    n = c.layer_norm(t)
    t = c.linear(c.attention(n, n, n, 2), channels, add=t)
    t = c.linear(c.glu(c.linear(c.layer_norm(t), 4 * channels)), channels, add=t)
    y = c.add(c.view(t, 1, height, width, channels), x)
    return c.build(c.conv(c.unary(y, "silu"), 4))


def prompted(tokens: int = 96, channels: int = 32, prompt: int = 24, inner: int = 48) -> Network:
    """Two cross-attentions, whose keys and values need not be computed again while the prompt is
    the same."""
    c = ChainBuilder()
    x, context = c.input(1, tokens, channels), c.input(1, 1, prompt, inner)
    states = c.unary(c.linear(c.view(context, 1, prompt, inner), inner), "silu")
    for _ in range(2):
        k, v = (c.linear(states, channels) for _ in range(2))
        q = c.linear(c.layer_norm(x), channels)
        x = c.linear(c.attention(q, k, v, 2), channels, add=x)
    return replace(c.build(x), constant_inputs=(context,))


CASES: Mapping[str, Callable[[], Network]] = {
    "convs": conv_chain,
    "residual": residual_block,
    "wide tail": wide_tail,
    "down and up": down_and_up,
    "normed skip": normed_skip,
    "heavy tail": heavy_tail,
    "up by phases": up_by_phases,
    "transformer": transformer,
    "image transformer": image_transformer,
    "prompted": prompted,
}


def drawn_values(
    network: Network, seed: int = 0
) -> tuple[dict[str, float], dict[str, Array], dict[str, Array]]:
    """Scales (none for FP16), inputs and constants; filters keep the magnitude of what they see."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    for name, t in network.tensors.items():
        values = rounded(rng.standard_normal(t.shape)).astype(np.float32)
        if t.role is Role.INPUT:
            inputs[name] = values
        elif t.role is Role.WEIGHT:
            if name.startswith("w"):
                depth = t.elements // (t.shape[0] if len(t.shape) == 4 else t.shape[-1])
                values = rounded(values / np.sqrt(depth)).astype(np.float32)
            elif name.startswith("gamma"):
                values = rounded(1.0 + 0.2 * values).astype(np.float32)
            else:
                values = rounded(0.2 * values).astype(np.float32)
            if t.scale_tensor:
                axes = (1, 2, 3) if len(t.shape) == 4 else (0,)
                scale = np.abs(values).max(axis=axes, keepdims=True) / 127.0
                values = np.rint(values / scale).astype(np.int8)
                constants[t.scale_tensor] = scale.reshape(-1).astype(np.float32)
            constants[name] = values
    integer = any(t.dtype is DType.INT16 for t in network.tensors.values())
    # Steps that differ, as what is concatenated has.
    largest = [LARGEST * (1 + place % 3 / 4) for place in range(len(network.tensors))]
    ranges = {
        name: Range(-most, most)
        for name, most in zip(measured_tensors(network), largest, strict=False)
    }
    return (assign_scales(network, ranges) if integer else {}), inputs, constants


@dataclass(frozen=True)
class Run:
    """A network compiled and executed."""

    lowered: Lowered
    execution: Execution


EVERYTHING = schedule_named("pipelined")
"""With all that groups may do."""


def execute(network: Network, machine: Machine, schedule: Schedule) -> Run:
    """Compile and execute ``network`` on drawn values, verified on the way."""
    scales, inputs, constants = drawn_values(network)
    lowered = lower(network, machine, schedule)
    program = with_scales(lowered.program, scales)
    return Run(lowered, Executor(program, machine, constants).run(inputs))


def in_half(network: Network) -> Network:
    """The same in FP16."""
    return half_network(network)


def ways(lowered: Lowered) -> set[str]:
    """Which ways to save traffic a plan takes, by name."""
    groups = lowered.plan.groups
    members = [member for group in groups for member in group.members]
    taken = {
        "group": any(len(group.members) > 1 for group in groups),
        "kept": any(group.loop.rolling & group.loop.kept for group in groups),
        "shared": any(group.loop.shared for group in groups),
        "single": any(group.loop.single for group in groups),
        "swept": any(group.loop.sweeps > 1 for group in groups),
        "twice": any(member.record.endswith(":statistics") for member in members),
        "split": any(member.tiling.splits for member in members),
        "gated": any(member.absorbed for member in members),
        "resident": any(residency.alone for residency in lowered.plan.residencies),
        "replaced": any(residency.over for residency in lowered.plan.residencies),
        "near": any(not residency.alone for residency in lowered.plan.residencies),
    }
    return {way for way, here in taken.items() if here}


@contextmanager
def any_plan(seed: int) -> Iterator[None]:
    """Within it, plans are not the cheapest but any that are legal: costs are drawn."""
    rng = np.random.default_rng(seed)
    choice = Answers.choice

    def drawn(self: Answers, question: Question) -> Choice | None:
        found, ops = choice(self, question), question.ops
        return found and replace(found, time_ps=int(rng.integers(10**9)) * len(ops), dma_ps=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answers, "choice", drawn)
        patch.setattr(Answers, "least_cost", lambda self, question: 0.0)
        patch.setattr(planner, "bus_ps", lambda nbytes, machine: 0)
        yield
