"""network-from-graph: every node kind, precision by op, host groups, and whole small models."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgefusion.compiler.frontend.from_graph import network_from_graph
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.lowering.bounds import op_bound
from edgefusion.compiler.lowering.lower import context_of
from edgefusion.compiler.network.network import Epilogue, NetOp, Network, operands, results
from edgefusion.compiler.ops.elementwise import Unary
from edgefusion.compiler.ops.kinds import KINDS
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.passes.assign_precision import AssignPrecision
from edgefusion.passes.fuse_norm_stats import FuseNormStats
from edgefusion.passes.partition_host import PartitionHost
from edgefusion.passes.pass_base import Pass
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.passes.quantize_w8a16 import QuantizeW8A16
from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.functions import UNARY
from edgefusion.runtime.isa import DType, Role
from edgefusion.runtime.target import load_target
from tests.function_reference import SCALARS, source
from tests.graph_cases import CONTEXT, Weights, assert_same, execute, parse, random_feeds


def passes(precision: str, rules: tuple[tuple[str, str], ...] = ()) -> list[Pass]:
    """All passes, with statistics fused however small the tensor."""
    return [
        FuseNormStats(0) if isinstance(each, FuseNormStats) else each
        for each in default_passes(precision, rules)
    ]


def network(
    text: str, weights: Weights | None = None, precision: str = "fp16", **rules: str
) -> Network:
    graph = Graph.from_model(parse(text, weights))
    PassManager(passes(precision, tuple(rules.items()))).run(graph, CONTEXT)
    made = network_from_graph(graph, "model")
    check(made)
    return made


def check(net: Network) -> None:
    """What every network promises: known kinds, tensors, order, constants, ranks."""
    known = set(net.inputs)
    for op in net.ops:
        assert type(op.kind) in KINDS
        for name in operands(op):
            tensor = net.tensor(name)
            assert tensor.role in (Role.WEIGHT, Role.TABLE) or name in known, (op.name, name)
            assert bool(tensor.constant) == (tensor.role in (Role.WEIGHT, Role.TABLE))
        assert not known.intersection(results(op))
        known.update(results(op))
        assert all(len(net.tensor(name).shape) <= 4 for name in (*operands(op), *results(op)))
    assert known.issuperset(net.outputs)
    assert all(net.tensor(name).role == Role.INPUT for name in net.inputs)
    assert all(net.tensor(name).role == Role.OUTPUT for name in net.outputs)
    assert len({op.name for op in net.ops}) == len(net.ops)


MACHINE = load_target("exynos2400").machine


def find(net: Network, kind: str) -> NetOp:
    (op,) = [op for op in net.ops if op.kind.name == kind]
    return op


def dtypes(net: Network, op: NetOp) -> list[DType]:
    return [net.tensor(name).dtype for name in (*operands(op), *results(op))]


CONV = "g (float[1, 8, 6, 4] x) => (float[1, 8, 3, 2] y) "


@pytest.mark.parametrize(
    ("precision", "wanted"),
    [
        ("fp16", [DType.FP16] * 4),
        ("w8a16", [DType.INT16, DType.INT8, DType.INT64, DType.INT16]),
    ],
)
def test_conv_with_epilogue(precision: str, wanted: list[DType]) -> None:
    net = network(
        f"{CONV} {{ c = Conv<pads = [1, 0, 1, 0], strides = [2, 2], group = 2>(x, w, b) "
        "y = Relu(c) }",
        {"w": (8, 4, 3, 2), "b": (8,)},
        precision,
    )
    op = find(net, "conv")
    assert op.kind.attributes == {
        "strides": (2, 2), "pads": (1, 0, 1, 0), "dilations": (1, 1), "groups": 2, "upsample": 1
    }  # fmt: skip
    assert op.epilogue == (Epilogue("relu"),)
    assert dtypes(net, op) == wanted
    weight = net.tensor(op.inputs[1])
    assert weight.constant == ("w_int8" if precision == "w8a16" else "w_fp16")
    if precision == "w8a16":
        assert net.tensor(weight.scale_tensor).shape == (8,)
    assert op.origin == ("Conv_c", "Relu_y")
    context = context_of(net, op, MACHINE, schedule_named("mlt"))
    assert op_bound(context).macs == 6 * 8 * 4 * 6


def test_group_norm_takes_statistics_of_the_conv() -> None:
    net = network(
        "g (float[1, 8, 6, 4] x) => (float[1, 8, 6, 4] y) <int64[3] grouped = {1, 2, 96}, "
        "int64[4] image = {1, 8, 6, 4}, float[2] one = {1, 1}, float[2] nil = {0, 0}> "
        "{ c = Conv(x, w, b) i = Reshape(c, grouped) "
        "n = InstanceNormalization<epsilon = 0.00001>(i, one, nil) r = Reshape(n, image) "
        "m = Mul(r, gamma) f = Add(m, beta) s = Sigmoid(f) y = Mul(f, s) }",
        {"w": (8, 8, 1, 1), "b": (8,), "gamma": (8, 1, 1), "beta": (8, 1, 1)},
        "w8a16",
    )
    conv, norm = find(net, "conv"), find(net, "group_norm")
    assert conv.epilogue[-1].function == "stats"
    assert norm.inputs[3] == conv.epilogue[-1].operand
    assert net.tensor(norm.inputs[3]).dtype == DType.INT64
    assert norm.kind.attributes["groups"] == 2
    assert norm.kind.attributes["function"] == "silu"
    assert [net.tensor(name).dtype for name in norm.inputs[1:3]] == [DType.FP32] * 2


def test_precisions_meet_in_a_conversion() -> None:
    net = network(
        "g (float[2, 8] x) => (float[2, 4] y) { h = MatMul(x, w) y = MatMul(h, v) }",
        {"w": (8, 8), "v": (8, 4)},
        "fp16",
        MatMul_y="w8a16",
    )
    assert [op.kind.name for op in net.ops] == ["matmul", "transpose", "matmul"]
    convert = net.ops[1]
    assert convert.kind.attributes == {"perm": (0, 1)}
    assert dtypes(net, convert) == [DType.FP16, DType.INT16]
    assert net.tensor("x").dtype == DType.FP16
    assert net.tensor("y").dtype == DType.INT16


@pytest.mark.parametrize(
    ("text", "kind", "attrs"),
    [
        ("(float[1, 6, 8] x) => (float[1, 6, 8] y) { y = Softmax(x) }", "softmax", {}),
        (
            "(float[1, 6, 8] x, float[1, 6, 8] z) => (float[1, 6, 8] y) { y = Sub(x, z) }",
            "binary",
            {"function": "sub"},
        ),
        (
            "(float[1, 6, 8] x) => (float[1, 6, 8] y) { y = LayerNormalization(x, g, g) }",
            "layer_norm",
            {"epsilon": pytest.approx(1e-5)},
        ),
        (
            "(float[3, 6, 8] x, float[3, 8, 5] z) => (float[3, 6, 5] y) { y = MatMul(x, z) }",
            "batch_matmul",
            {},
        ),
        (
            "(float[1, 6, 8] x) => (float[1, 6, 16] y) { y = Concat<axis = -1>(x, x) }",
            "concat",
            {"axis": 2},
        ),
        (
            "(float[1, 1, 1, 6, 8] x) => (float[1, 1, 1, 12, 8] y) { y = Concat<axis = 3>(x, x) }",
            "concat",
            {"axis": 2},
        ),
        (
            (
                "(float[1, 6, 8] x) => (float[1, 2, 8] y) <int64[1] f = {-4}, int64[1] t = {9}, "
                "int64[1] a = {1}, int64[1] s = {2}> { y = Slice(x, f, t, a, s) }"
            ),
            "slice",
            {"starts": (0, 2, 0), "steps": (1, 2, 1)},
        ),
        (
            "(float[1, 6, 8] x) => (float[6, 8, 1] y) { y = Transpose<perm = [1, 2, 0]>(x) }",
            "transpose",
            {"perm": (1, 2, 0)},
        ),
        (
            (
                "(float[1, 1, 6, 4, 8] x) => (float[1, 1, 8, 6, 4] y) "
                "{ y = Transpose<perm = [0, 1, 4, 2, 3]>(x) }"
            ),
            "transpose",
            {"perm": (0, 3, 1, 2)},
        ),
        (
            "(float[2, 6, 8] x) => (float[2, 6, 1] y) <int64[1] a = {-1}> { y = ReduceMean(x, a) }",
            "reduce",
            {"function": "mean", "axes": (2,), "keepdims": True},
        ),
        (
            (
                "(float[1, 6, 8] x) => (float[48] y) <int64[1] s = {48}> "
                "{ r = Softmax(x) y = Reshape(r, s) }"
            ),
            "view",
            {},
        ),
    ],
)
def test_single_ops(text: str, kind: str, attrs: dict[str, object]) -> None:
    graph = Graph.from_model(parse(f"g {text}", {"g": (8,)}))
    PassManager([AssignPrecision(), QuantizeW8A16(), PartitionHost()]).run(graph, CONTEXT)
    net = network_from_graph(graph, "model")
    check(net)
    assert find(net, kind).kind.attributes == attrs


@pytest.mark.parametrize("name", UNARY)
def test_functions_are_ops_of_their_own_gates_and_epilogues(name: str) -> None:
    alone = network(f"g (float[1, 6, 8] m) => (float[1, 6, 8] y) <{SCALARS}> {{ {source(name)} }}")
    assert [op.kind for op in alone.ops] == [Unary(x="m", function=name)]
    body = f"m = MatMul(x, w) {source(name)}"
    text = f"g (float[1, 6, 8] x) => (float[1, 6, 8] y) <{SCALARS}> {{ {body} }}"
    assert find(network(text, {"w": (8, 8)}, "w8a16"), "matmul").epilogue == (Epilogue(name),)
    body = f"v, m = Split<axis = -1, num_outputs = 2>(x) {source(name)} z = Mul(v, y)"
    text = f"g (float[1, 6, 8] x) => (float[1, 6, 4] z) <{SCALARS}> {{ {body} }}"
    kinds = {o.kind.name: o.kind.attributes.get("function") for o in network(text).ops}
    if UNARY[name].steep:
        assert (kinds["unary"], kinds["binary"]) == (name, "mul")
    else:
        assert kinds == {"glu": name}


def test_split_is_a_slice_for_each_result_that_is_read() -> None:
    net = network(
        "g (float[1, 6, 8] x) => (float[1, 6, 2] y) "
        "{ a, b, c = Split<axis = 2>(x, parts) s = Relu(c) y = Mul(s, a) }",
        {"parts": np.asarray([2, 4, 2])},
    )
    starts = [op.kind.attributes["starts"] for op in net.ops if op.kind.name == "slice"]
    assert starts == [(0, 0, 0), (0, 0, 6)]


def test_host_groups_are_ops_with_reasons() -> None:
    net = network(
        "g (int64[1, 700] i) => (float[1, 700, 8] y) { e = Gather(t, i) y = MatMul(e, w) }",
        {"t": (8, 8), "w": (8, 8)},
    )
    host = find(net, "host")
    assert host.inputs == ("i",)
    assert host.outputs == ("e",)
    assert host.kind.attributes == {
        "reason": "the NPU has no Gather",
        "nodes": ("Gather_e",),
        "operations": 700 * 8,
        "constant_bytes": 0,
    }
    assert net.tensor("i").dtype == DType.INT64
    assert net.tensor("e").dtype == DType.FP16


def test_unpartitioned_host_op_is_an_error() -> None:
    graph = Graph.from_model(parse("g (float[2, 8] x) => (float[2, 8] y) { y = Sin(x) }"))
    with pytest.raises(UnsupportedOpError, match="run the pass partition-host"):
        network_from_graph(graph, "model")


def test_unquantized_w8a16_weight_is_an_error() -> None:
    text = "g (float[2, 8] x) => (float[2, 8] y) { y = MatMul(x, w) }"
    graph = Graph.from_model(parse(text, {"w": (8, 8)}))
    with pytest.raises(UnsupportedOpError, match="was not quantized"):
        network_from_graph(graph, "model", "w8a16")


class Residual(torch.nn.Module):
    """A ResNet in small: stem, one plain and one strided block, classifier."""

    def __init__(self) -> None:
        super().__init__()
        conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
        self.stem = torch.nn.Sequential(conv(3, 8, 7, 2, 3, bias=False), norm(8))
        self.pool = torch.nn.MaxPool2d(3, 2, 1)
        self.a1, self.n1 = conv(8, 16, 3, 2, 1, bias=False), norm(16)
        self.a2, self.n2 = conv(16, 16, 3, 1, 1, bias=False), norm(16)
        self.short = torch.nn.Sequential(conv(8, 16, 1, 2, bias=False), norm(16))
        self.head = torch.nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.stem(x)))
        y = torch.relu(self.n1(self.a1(x)))
        x = torch.relu(self.n2(self.a2(y)) + self.short(x))
        result: torch.Tensor = self.head(x.mean((2, 3)))
        return result


class Block(torch.nn.Module):
    """A transformer block with separate projections, as most checkpoints have it."""

    def __init__(self, norm: type[torch.nn.LayerNorm | torch.nn.RMSNorm]) -> None:
        super().__init__()
        linear = torch.nn.Linear
        self.n1, self.n2 = norm(32), norm(32)
        self.q, self.k, self.v, self.o = (linear(32, 32) for _ in range(4))
        self.up, self.down = linear(32, 64), linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.n1(x)
        q, k, v = (p(h).view(1, 12, 4, 8).transpose(1, 2) for p in (self.q, self.k, self.v))
        a = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.o(a.transpose(1, 2).reshape(1, 12, 32))
        result: torch.Tensor = x + self.down(torch.nn.functional.gelu(self.up(self.n2(x))))
        return result


def exported(module: torch.nn.Module, example: torch.Tensor, path: Path) -> onnx.ModelProto:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    program = torch.onnx.export(
        module.eval(), (example,), dynamo=True, opset_version=20, verbose=False
    )
    assert program is not None
    program.save(path)
    return onnx.load(path)


def through(model: onnx.ModelProto, precision: str, tolerance: float) -> Network:
    """All passes over ``model``; values compared before precision is assigned, and after."""
    feeds = random_feeds(model)
    wanted = execute(model, feeds)
    graph = Graph.from_model(model)

    def compare(name: str, now: Graph) -> None:
        exact = name not in ("assign-precision", "quantize-w8a16", "partition-host")
        assert_same(execute(now.to_model(), feeds), wanted, 2e-5 if exact else tolerance)

    PassManager(passes(precision), observe=compare).run(graph, CONTEXT)
    net = network_from_graph(graph, "model")
    check(net)
    return net


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 2e-3), ("w8a16", 3e-2)])
def test_resnet(precision: str, tolerance: float, tmp_path: Path) -> None:
    model = exported(Residual(), torch.randn(1, 3, 32, 32), tmp_path / "resnet.onnx")
    net = through(model, precision, tolerance)
    kinds = Counter(op.kind.name for op in net.ops)
    assert kinds == {"transpose": 1, "conv": 4, "pool": 1, "reduce": 1, "matmul": 1}
    functions = [tuple(e.function for e in op.epilogue) for op in net.ops if op.kind.name == "conv"]
    assert sorted(functions) == [(), ("add", "relu"), ("relu",), ("relu",)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 2e-3), ("w8a16", 5e-2)])
@pytest.mark.parametrize(
    ("norm", "kind"), [(torch.nn.LayerNorm, "layer_norm"), (torch.nn.RMSNorm, "rms_norm")]
)
def test_transformer_block(
    norm: type[torch.nn.LayerNorm | torch.nn.RMSNorm],
    kind: str,
    precision: str,
    tolerance: float,
    tmp_path: Path,
) -> None:
    model = exported(Block(norm), torch.randn(1, 12, 32), tmp_path / "block.onnx")
    net = through(model, precision, tolerance)
    assert Counter(op.kind.name for op in net.ops) == {kind: 2, "matmul": 6, "attention": 1}
    types = [DType.FP16] * 2 if precision == "fp16" else [DType.INT16, DType.FP32]
    for op in net.ops:
        if op.kind.name == kind:
            assert dtypes(net, op)[:2] == types


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_packed_attention_of_torch_is_one_op(tmp_path: Path) -> None:
    # torch.nn.MultiheadAttention unpacks q, k, v over a fifth axis.
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
    net = through(exported(layer, torch.randn(1, 12, 32), tmp_path / "layer.onnx"), "fp16", 2e-3)
    kinds = Counter(op.kind.name for op in net.ops)
    assert (kinds["attention"], kinds["host"]) == (1, 0)


@pytest.mark.parametrize("component", ["text_encoder", "unet", "vae_decoder"])
def test_components_of_the_family(tiny_exports: Path, component: str) -> None:
    path = tiny_exports / f"{component}.onnx"
    model = onnx.load(path)
    feeds = random_feeds(model)
    wanted = execute(model, feeds)
    graph = Graph.load(path)

    def compare(name: str, now: Graph) -> None:
        exact = name not in ("assign-precision", "quantize-w8a16", "partition-host")
        assert_same(execute(now.to_model(), feeds), wanted, 1e-4 if exact else 0.1)

    PassManager(passes(""), observe=compare).run(graph, replace(CONTEXT, component=component))
    net = network_from_graph(graph, component)
    check(net)
    kinds = Counter(op.kind.name for op in net.ops)
    assert kinds["transpose"] == (0 if component == "text_encoder" else 2)
    assert kinds["host"] == (0 if component == "vae_decoder" else 1)
    assert kinds["unary"] == 0
