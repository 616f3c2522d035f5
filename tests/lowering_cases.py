"""Small networks of one op each, one for every lowering rule, for tests of tiling and lowering."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from edgefusion.compiler.network.network import Epilogue, NetOp, NetTensor, Network
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
        kind: str,
        inputs: tuple[str, ...],
        output: str,
        epilogue: tuple[Epilogue, ...] = (),
        **attrs: Any,
    ) -> None:
        self.ops.append(NetOp(name, kind, inputs, (output,), attrs, epilogue, (f"onnx_{name}",)))

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
    b = NetworkBuilder()
    out = [(n * upsample + 2 * pad - kernel) // stride + 1 for n in (height, width)]
    b.add("x", 1, height, width, channels_in, role=Role.INPUT)
    b.weight("w", channels_out, channels_in, kernel, kernel)
    b.add("bias", channels_out, dtype=DType.INT64, role=Role.WEIGHT)
    steps: tuple[Epilogue, ...] = ()
    if epilogue:
        b.add("time", 1, 1, 1, channels_out, role=Role.INPUT)
        b.add("residual", 1, *out, channels_out, role=Role.INPUT)
        b.add("stats", 2, channels_out, dtype=DType.INT64)
        steps = (
            Epilogue("add", "time"),
            Epilogue("silu"),
            Epilogue("add", "residual"),
            Epilogue("stats", "stats"),
        )
    b.add("y", 1, *out, channels_out, role=Role.OUTPUT)
    b.op(
        "conv",
        "conv",
        ("x", "w", "bias"),
        "y",
        steps,
        strides=(stride, stride),
        pads=(pad,) * 4,
        upsample=upsample,
    )
    return b.build()


def matmul_case(m: int = 200, k: int = 64, n: int = 192) -> Network:
    b = NetworkBuilder()
    b.add("x", 1, m, k, role=Role.INPUT)
    b.weight("w", k, n)
    b.add("bias", n, dtype=DType.INT64, role=Role.WEIGHT)
    b.add("residual", 1, m, n, role=Role.INPUT)
    b.add("y", 1, m, n, role=Role.OUTPUT)
    b.op("linear", "matmul", ("x", "w", "bias"), "y", (Epilogue("add", "residual"),))
    return b.build()


def attention_case(
    queries: int = 300, keys: int = 77, heads: int = 4, depth: int = 24, *, mask: bool = False
) -> Network:
    b = NetworkBuilder()
    b.add("q", 1, queries, heads * depth, role=Role.INPUT)
    b.add("k", 1, keys, heads * depth, role=Role.INPUT)
    b.add("v", 1, keys, heads * depth, role=Role.INPUT)
    inputs: tuple[str, ...] = ("q", "k", "v")
    if mask:
        b.add("mask", 1, 1, queries, keys, role=Role.WEIGHT)
        inputs += ("mask",)
    b.add("y", 1, queries, heads * depth, role=Role.OUTPUT)
    b.op("attention", "attention", inputs, "y", heads=heads, scale=depth**-0.5)
    return b.build()


def group_norm_case(
    height: int = 16, width: int = 16, channels: int = 64, groups: int = 8, *, given: bool = False
) -> Network:
    b = NetworkBuilder()
    b.add("x", 1, height, width, channels, role=Role.INPUT)
    for name in ("gamma", "beta"):
        b.add(name, channels, dtype=DType.FP32, role=Role.WEIGHT)
    inputs: tuple[str, ...] = ("x", "gamma", "beta")
    if given:
        b.add("stats", 2, channels, dtype=DType.INT64, role=Role.INPUT)
        inputs += ("stats",)
    b.add("y", 1, height, width, channels, role=Role.OUTPUT)
    b.op("norm", "group_norm", inputs, "y", groups=groups, epsilon=1e-5, function="silu")
    return b.build()


def simple_case(kind: str) -> Network:
    """A network of one op of any other kind."""
    b = NetworkBuilder()
    b.add("x", 1, 30, 20, 64, role=Role.INPUT)
    shape, inputs, attrs = (1, 30, 20, 64), ("x",), {}
    if kind == "layer_norm":
        for name in ("gamma", "beta"):
            b.add(name, 64, dtype=DType.FP32, role=Role.WEIGHT)
        inputs, attrs = ("x", "gamma", "beta"), {"epsilon": 1e-5}
    elif kind == "unary":
        attrs = {"function": "silu"}
    elif kind == "binary":
        b.add("other", 64, role=Role.WEIGHT)
        inputs, attrs = ("x", "other"), {"function": "add"}
    elif kind == "glu":
        shape, attrs = (1, 30, 20, 32), {"function": "gelu"}
    elif kind == "concat":
        b.add("other", 1, 30, 20, 32, role=Role.INPUT)
        shape, inputs, attrs = (1, 30, 20, 96), ("x", "other"), {"axis": 3}
    elif kind == "slice":
        shape, attrs = (1, 15, 20, 32), {"starts": (0, 0, 0, 32), "steps": (1, 2, 1, 1)}
    elif kind == "transpose":
        shape, attrs = (1, 64, 30, 20), {"perm": (0, 3, 1, 2)}
    elif kind == "resize":
        shape, attrs = (1, 60, 40, 64), {"scale": 2}
    elif kind == "pool":
        shape = (1, 15, 10, 64)
        attrs = {"function": "max", "kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    elif kind == "reduce":
        shape, attrs = (1, 1, 1, 64), {"function": "mean", "axes": (1, 2)}
    elif kind == "batch_matmul":
        b.add("other", 1, 30, 64, 48, role=Role.INPUT)
        shape, inputs = (1, 30, 20, 48), ("x", "other")
    elif kind == "host":
        attrs = {"reason": "test"}
    b.add("y", *shape, role=Role.OUTPUT)
    b.op(kind, kind, inputs, "y", **attrs)
    return b.build()


def function_case(kind: str, function: str) -> Network:
    """``function`` in an op of its own, in the epilogue of a matmul, or in a gated unit."""
    if kind == "matmul":
        case = matmul_case()
        (op,) = case.ops
        return replace(case, ops=(replace(op, epilogue=(*op.epilogue, Epilogue(function))),))
    case = simple_case(kind)
    (op,) = case.ops
    return replace(case, ops=(replace(op, attrs={"function": function}),))


SIMPLE_KINDS = (
    "layer_norm",
    "softmax",
    "unary",
    "binary",
    "glu",
    "concat",
    "slice",
    "transpose",
    "resize",
    "pool",
    "reduce",
    "batch_matmul",
    "host",
)


def all_cases() -> dict[str, Network]:
    """One or more networks for every lowering rule, ragged tails and halos included."""
    return {
        "conv": conv_case(),
        "conv_plain": conv_case(epilogue=False),
        "conv_stride": conv_case(stride=2),
        "conv_upsample": conv_case(upsample=2),
        "conv_1x1": conv_case(kernel=1, pad=0),
        "conv_1x1_stride": conv_case(kernel=1, pad=0, stride=2, epilogue=False),
        "conv_7x7": conv_case(channels_in=8, kernel=7, pad=3, stride=2),
        "matmul": matmul_case(),
        "attention": attention_case(),
        "attention_mask": attention_case(77, 77, mask=True),
        "attention_wide": attention_case(128, 512, heads=1, depth=40),
        "group_norm": group_norm_case(),
        "group_norm_given": group_norm_case(given=True),
        **{kind: simple_case(kind) for kind in SIMPLE_KINDS},
    }
