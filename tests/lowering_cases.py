"""Small networks of one op each, one for every lowering rule, for tests of tiling and lowering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edgefusion.compiler.network.kind import Kind, Use
from edgefusion.compiler.network.network import Epilogue, NetOp, Network
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.ops.conv import Conv
from edgefusion.compiler.ops.elementwise import Binary, Glu, Softmax, Unary
from edgefusion.compiler.ops.matmul import BatchMatMul, MatMul
from edgefusion.compiler.ops.movement import Concat, Host, Resize, Slice, Transpose
from edgefusion.compiler.ops.norm import GroupNorm, LayerNorm, RmsNorm
from edgefusion.compiler.ops.pooling import Pool, Reduce
from edgefusion.compiler.ops.transposed_conv import TransposedConv
from edgefusion.runtime.isa import DType, Role


@dataclass
class NetworkBuilder:
    """Collects tensors and ops; the first tensors added as inputs are the network's inputs."""

    tensors: dict[str, NetTensor] = field(default_factory=dict)
    ops: list[NetOp] = field(default_factory=list)

    def add(
        self, name: str, *shape: int, dtype: DType = DType.INT16, role: Role = Role.ACTIVATION
    ) -> str:
        self.tensors[name] = NetTensor(name, shape, dtype, role)
        return name

    def weight(self, name: str, *shape: int, dtype: DType = DType.INT8) -> str:
        scale = f"{name}.scale"
        channels = shape[0] if len(shape) == 4 else shape[-1]
        self.tensors[scale] = NetTensor(scale, (channels,), DType.FP32, Role.TABLE, scale)
        self.tensors[name] = NetTensor(name, shape, dtype, Role.WEIGHT, name, scale)
        return name

    def op(
        self,
        name: str,
        kind: Kind,
        output: str,
        epilogue: tuple[Epilogue, ...] = (),
    ) -> None:
        self.ops.append(NetOp(name, kind, (output,), epilogue, (f"onnx_{name}",)))

    def build(self, name: str = "case") -> Network:
        inputs = tuple(n for n, t in self.tensors.items() if t.role is Role.INPUT)
        outputs = tuple(n for n, t in self.tensors.items() if t.role is Role.OUTPUT)
        return Network(name, self.tensors, tuple(self.ops), inputs, outputs)


def conv_case(
    height: int = 24,
    width: int = 20,
    channels_in: int = 48,
    channels_out: int = 96,
    *,
    kernel: int = 3,
    stride: int = 1,
    pad: int = 1,
    upsample: int = 1,
    epilogue: bool = True,
) -> Network:
    out = [(n * upsample + 2 * pad - kernel) // stride + 1 for n in (height, width)]
    conv = Conv(
        x="x",
        w="w",
        bias="bias",
        strides=(stride, stride),
        pads=(pad, pad, pad, pad),
        upsample=upsample,
    )
    x = height, width, channels_in
    return _convolution(conv, x, (kernel, kernel), (*out, channels_out), epilogue=epilogue)


def transposed_conv_case(
    height: int = 12,
    width: int = 10,
    channels_in: int = 24,
    channels_out: int = 64,
    *,
    kernel: tuple[int, int] = (4, 4),
    strides: tuple[int, int] = (2, 2),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    output_padding: tuple[int, int] = (0, 0),
    epilogue: bool = True,
) -> Network:
    conv = TransposedConv(
        x="x", w="w", bias="bias", strides=strides, pads=pads, output_padding=output_padding
    )
    shapes = {"x": (1, height, width, channels_in), "w": (channels_out, channels_in, *kernel)}
    out = (*conv.window_shape(shapes), channels_out)
    return _convolution(conv, (height, width, channels_in), kernel, out, epilogue=epilogue)


def _convolution(
    kind: Conv | TransposedConv,
    x: tuple[int, int, int],
    kernel: tuple[int, int],
    out: tuple[int, ...],
    *,
    epilogue: bool,
) -> Network:
    *size, channels_out = out
    b = NetworkBuilder()
    b.add("x", 1, *x, role=Role.INPUT)
    b.weight("w", channels_out, x[2], *kernel)
    b.add("bias", channels_out, dtype=DType.INT64, role=Role.WEIGHT)
    steps: tuple[Epilogue, ...] = ()
    if epilogue:
        b.add("time", 1, 1, 1, channels_out, role=Role.INPUT)
        b.add("residual", 1, *size, channels_out, role=Role.INPUT)
        b.add("stats", 2, channels_out, dtype=DType.INT64)
        steps = (
            Epilogue("add", "time"),
            Epilogue("silu"),
            Epilogue("add", "residual"),
            Epilogue("stats", "stats"),
        )
    b.add("y", 1, *size, channels_out, role=Role.OUTPUT)
    b.op("conv", kind, "y", steps)
    return b.build()


def matmul_case(m: int = 200, k: int = 64, n: int = 192) -> Network:
    b = NetworkBuilder()
    b.add("x", 1, m, k, role=Role.INPUT)
    b.weight("w", k, n)
    b.add("bias", n, dtype=DType.INT64, role=Role.WEIGHT)
    b.add("residual", 1, m, n, role=Role.INPUT)
    b.add("y", 1, m, n, role=Role.OUTPUT)
    b.op("linear", MatMul(x="x", w="w", bias="bias"), "y", (Epilogue("add", "residual"),))
    return b.build()


def attention_case(
    queries: int = 300,
    keys: int = 77,
    heads: int = 4,
    depth: int = 24,
    *,
    key_heads: int = 0,
    mask: bool = False,
    key_mask: bool = False,
) -> Network:
    """``mask`` is one for all heads; ``key_mask`` one of each head, the same for all queries.
    ``key_heads`` of k and v, each for as many of q; 0 for one each."""
    shared = (key_heads or heads) * depth
    b = NetworkBuilder()
    b.add("q", 1, queries, heads * depth, role=Role.INPUT)
    b.add("k", 1, keys, shared, role=Role.INPUT)
    b.add("v", 1, keys, shared, role=Role.INPUT)
    if mask:
        b.add("mask", 1, 1, queries, keys, role=Role.WEIGHT)
    elif key_mask:
        b.add("mask", 1, heads, 1, keys, role=Role.WEIGHT)
    b.add("y", 1, queries, heads * depth, role=Role.OUTPUT)
    masked = "mask" if mask or key_mask else ""
    kind = Attention(q="q", k="k", v="v", mask=masked, heads=heads, scale=depth**-0.5)
    b.op("attention", kind, "y")
    return b.build()


def group_norm_case(
    height: int = 16, width: int = 16, channels: int = 64, groups: int = 8, *, given: bool = False
) -> Network:
    b = NetworkBuilder()
    b.add("x", 1, height, width, channels, role=Role.INPUT)
    for name in ("gamma", "beta"):
        b.add(name, channels, dtype=DType.FP32, role=Role.WEIGHT)
    if given:
        b.add("stats", 2, channels, dtype=DType.INT64, role=Role.INPUT)
    b.add("y", 1, height, width, channels, role=Role.OUTPUT)
    kind = GroupNorm(
        x="x",
        gamma="gamma",
        beta="beta",
        stats=("stats",) if given else (),
        groups=groups,
        epsilon=1e-5,
        function="silu",
    )
    b.op("norm", kind, "y")
    return b.build()


@dataclass(frozen=True)
class SimpleCase:
    """A kind on ``x``, the shape of its result, and what else it reads."""

    kind: Kind
    shape: tuple[int, ...] = (1, 30, 20, 64)
    other: tuple[int, ...] = ()
    other_role: Role = Role.INPUT
    x: tuple[int, ...] = (1, 30, 20, 64)


SIMPLE: Mapping[str, SimpleCase] = {
    case.kind.name: case
    for case in (
        SimpleCase(LayerNorm(x="x", gamma="gamma", beta="beta", epsilon=1e-5)),
        SimpleCase(RmsNorm(x="x", gamma="gamma", epsilon=1e-5)),
        SimpleCase(Softmax(x="x")),
        SimpleCase(Unary(x="x", function="silu")),
        SimpleCase(Binary(a="x", b="other", function="add"), other=(64,), other_role=Role.WEIGHT),
        SimpleCase(Glu(x="x", function="gelu"), (1, 30, 20, 32)),
        SimpleCase(Concat(parts=("x", "other"), axis=3), (1, 30, 20, 96), (1, 30, 20, 32)),
        SimpleCase(Slice(x="x", starts=(0, 0, 0, 32), steps=(1, 2, 1, 1)), (1, 15, 20, 32)),
        SimpleCase(Transpose(x="x", perm=(0, 3, 1, 2)), (1, 64, 30, 20)),
        SimpleCase(Resize(x="x", scale=2), (1, 60, 40, 64)),
        SimpleCase(
            Pool(x="x", function="max", kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
            (1, 15, 10, 64),
        ),
        SimpleCase(Reduce(x="x", function="mean", axes=(1, 2)), (1, 1, 1, 64)),
        SimpleCase(BatchMatMul(a="x", b="other"), (1, 30, 20, 48), (1, 30, 64, 48)),
        SimpleCase(Host(operands=("x",), reason="test")),
    )
}


def simple_case(kind: str) -> Network:
    """A network of one op of any other kind, called as its kind."""
    return simple_network(SIMPLE[kind])


def simple_network(case: SimpleCase) -> Network:
    """A network of ``case`` alone; the op is called as its kind."""
    b = NetworkBuilder()
    b.add("x", *case.x, role=Role.INPUT)
    for name in case.kind.operands_for(Use.NORM):
        b.add(name, case.x[-1], dtype=DType.FP32, role=Role.WEIGHT)
    if case.other:
        b.add("other", *case.other, role=case.other_role)
    b.add("y", *case.shape, role=Role.OUTPUT)
    b.op(case.kind.name, case.kind, "y")
    return b.build()


def function_case(kind: str, function: str) -> Network:
    """``function`` in an op of its own, in the epilogue of a matmul, or in a gated unit."""
    if kind == "matmul":
        case = matmul_case()
        (op,) = case.ops
        return replace(case, ops=(replace(op, epilogue=(*op.epilogue, Epilogue(function))),))
    case = simple_case(kind)
    (op,) = case.ops
    what = {"unary": Unary, "glu": Glu}[kind](x="x", function=function)
    return replace(case, ops=(replace(op, kind=what),))


def all_cases() -> dict[str, Network]:
    """One or more networks for every lowering rule, ragged tails and halos included."""
    return {
        "conv": conv_case(),
        "conv_plain": conv_case(epilogue=False),
        "conv_stride": conv_case(stride=2),
        "conv_upsample": conv_case(upsample=2),
        "conv_1x1": conv_case(kernel=1, pad=0),
        "concat_rows": simple_network(
            SimpleCase(
                Concat(parts=("x", "other"), axis=1),
                (1, 700, 96),
                (1, 50, 96),
                x=(1, 650, 96),
            )
        ),
        "conv_1x1_stride": conv_case(kernel=1, pad=0, stride=2, epilogue=False),
        "conv_7x7": conv_case(channels_in=8, kernel=7, pad=3, stride=2),
        "transposed_conv": transposed_conv_case(),
        "transposed_conv_odd": transposed_conv_case(
            7,
            9,
            kernel=(3, 5),
            strides=(2, 3),
            pads=(1, 0, 1, 2),
            output_padding=(1, 2),
            epilogue=False,
        ),
        "matmul": matmul_case(),
        "attention": attention_case(),
        "attention_mask": attention_case(77, 77, mask=True),
        "attention_key_mask": attention_case(150, 77, key_mask=True),
        "attention_grouped": attention_case(150, 77, heads=6, key_heads=2),
        "attention_of_one_key": attention_case(150, 77, key_heads=1, key_mask=True),
        "attention_wide": attention_case(128, 512, heads=1, depth=40),
        "group_norm": group_norm_case(),
        "group_norm_given": group_norm_case(given=True),
        **{kind: simple_case(kind) for kind in SIMPLE},
    }
