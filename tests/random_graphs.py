"""Random small ONNX graphs over all ops that the NPU supports, and their neighbours that it must
refuse: odd shapes, broadcasting, shared tensors, views at the borders, several outputs.

A graph grows an op at a time. Each op is executed by ONNX Runtime at once, and thrown away where
that refuses it or gives values too large, too small or not finite: what is left is valid, and
precise enough to compare. ``EDGEFUSION_RANDOM_GRAPHS`` says how many the property test draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

SHAPES: Sequence[tuple[int, ...]] = (
    *((6,), (1,), (3, 8), (5, 1), (1, 7), (1, 6, 8), (2, 3, 8), (1, 1, 5), (4, 1, 6)),
    *((1, 4, 6, 6), (1, 8, 5, 3), (2, 4, 6, 5), (1, 1, 4, 4), (1, 6, 1, 1), (1, 3, 7, 7)),
    *((1, 1, 2, 3, 4), (1, 2, 3, 4, 2), (2, 2, 3, 2, 2), ()),
)
LARGEST, SMALLEST, MOST_ELEMENTS = 60.0, 1e-2, 4000

UNARY = (
    *("Relu", "Sigmoid", "Tanh", "Softplus", "Mish", "HardSwish", "HardSigmoid", "Gelu", "Erf"),
    *("Neg", "Abs", "Sin", "LeakyRelu", "Elu", "Softsign", "Exp", "Floor", "Identity", "Dropout"),
)


@dataclass(frozen=True)
class Drawn:
    """A model, and the inputs that it was drawn with."""

    model: onnx.ModelProto
    feeds: Mapping[str, Array]


def drawn_graph(seed: int) -> Drawn:
    """The graph of ``seed``."""
    return _Drawing(np.random.default_rng(seed)).draw()


@dataclass
class _Drawing:
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)

    def draw(self) -> Drawn:
        for _ in range(self.rng.integers(1, 4)):
            self.input(self.normal(self.pick(SHAPES)))
        if self.chance(0.25):
            integers = self.rng.integers(0, 9, self.pick(SHAPES))
            self.input(integers.astype(self.pick(_INTEGERS)))
        if self.chance(0.15):
            half = self.normal(self.pick(SHAPES)).astype(self.pick((np.float16, np.float64)))
            self.input(half)
        wanted = len(self.nodes) + int(self.rng.integers(2, 9))
        for _ in range(40):
            if len(self.nodes) >= wanted:
                break
            self.grow()
        return Drawn(self.model(), {name: self.values[name] for name in self.inputs})

    # Small draws

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def normal(self, shape: Sequence[int]) -> Array:
        return self.rng.standard_normal(tuple(shape)).astype(np.float32)

    def input(self, values: Array) -> str:
        name = f"in{len(self.inputs)}"
        self.inputs.append(name)
        self.values[name] = values
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype)
        return name

    def weights(self, *shape: int) -> str:
        return self.constant(self.normal(shape) / np.sqrt(max(1, int(np.prod(shape[1:])))))

    def indices(self, *values: int) -> str:
        return self.constant(list(values), np.int64)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.values[name].shape if name in self.values else self.constants[name].shape

    def floats(self, *ranks: int) -> list[str]:
        return [
            name
            for name, value in self.values.items()
            if value.dtype == np.float32 and value.size and (not ranks or value.ndim in ranks)
        ]

    def some(self, *ranks: int) -> str:
        """An activation, rather a late one; raises _UnfitError where there is none of the ranks."""
        names = self.floats(*ranks)
        if not names:
            raise _UnfitError
        return names[-1 - min(int(self.rng.geometric(0.45)) - 1, len(names) - 1)]

    def broadcast(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to ``shape``, sometimes one to which that broadcasts."""
        made = [1 if self.chance(0.4) else size for size in shape]
        if self.chance(0.1):
            made = [self.pick((2, 3)) if size == 1 and self.chance(0.5) else size for size in made]
        return tuple(made[int(self.rng.integers(0, len(made) + 1)) if self.chance(0.6) else 0 :])

    # Growing

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Execute the op now, and keep it with its results; raises _UnfitError."""
        names = [f"t{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        node = helper.make_node(op, list(inputs), names, name=f"n{len(self.nodes)}", **attributes)
        for name, value in zip(names, self.executed(node), strict=True):
            self.values[name] = value
        self.nodes.append(node)
        return names[0]

    def executed(self, node: onnx.NodeProto) -> list[Array]:
        known = {n: self.values.get(n, self.constants.get(n)) for n in node.input if n}
        model = _model(
            [node],
            {n: v for n, v in known.items() if v is not None and n in self.values},
            [helper.make_value_info(name, onnx.TypeProto()) for name in node.output],
            {n: v for n, v in known.items() if v is not None and n in self.constants},
        )
        try:
            found = execute(model, {n: v for n, v in self.values.items() if n in known})
        except Exception as error:  # its own exceptions have no common base
            raise _UnfitError from error
        for value in found:
            if value.size > MOST_ELEMENTS or not value.size:
                raise _UnfitError
            if value.dtype.kind == "f":
                largest = float(np.abs(value).max())
                if not (np.isfinite(value).all() and SMALLEST < largest < LARGEST):
                    raise _UnfitError
        return found

    def grow(self) -> None:
        """One more op, or a pattern of several."""
        size = len(self.nodes), dict(self.values)
        try:
            self.pick(_GROWTHS)(self)
        except (_UnfitError, IndexError, ValueError):
            del self.nodes[size[0] :]
            self.values = size[1]

    def model(self) -> onnx.ModelProto:
        """With outputs: what nobody reads, and some inner tensors, inputs, views and constants."""
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output]
        outputs = [name for name in made if name not in read]
        others = [name for name in (*self.values, *self.constants) if name not in outputs]
        outputs += [name for name in others if self.chance(0.08)]
        outputs = outputs or [self.inputs[0]]
        for name in list(outputs):
            if self.chance(0.08):
                node = helper.make_node("Identity", [name], [f"{name}_again"])
                self.nodes.append(node)
                self.values[f"{name}_again"] = self.values.get(name, self.constants.get(name))
                outputs.append(f"{name}_again")
        known = {**self.values, **self.constants}
        infos = [_info(name, known[name]) for name in dict.fromkeys(outputs)]
        fed = {name: self.values[name] for name in self.inputs}
        used = {name for node in self.nodes for name in node.input} | set(outputs)
        constants = {name: value for name, value in self.constants.items() if name in used}
        return _model(self.nodes, fed, infos, constants)


class _UnfitError(Exception):
    """What was drawn is no valid op, or its values cannot be compared."""


_INTEGERS: Sequence[Any] = (
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.bool_),
)


def _info(name: str, value: Array) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, dtype, value.shape)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, Array],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "random",
        [_info(name, value) for name, value in inputs.items()],
        list(outputs),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def execute(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """All outputs by ONNX Runtime, without its own rewriting of the graph."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


# What a graph may grow by. Each function adds ops, or raises.


def _unary(d: _Drawing) -> None:
    op = d.pick(UNARY)
    attributes: dict[str, Any] = {}
    if op in ("LeakyRelu", "Elu") and d.chance(0.5):
        attributes["alpha"] = float(d.pick((0.2, 0.01, 1.0)))
    if op == "HardSigmoid" and d.chance(0.7):
        attributes |= {"alpha": d.pick((1 / 6, 0.2)), "beta": d.pick((0.5, 0.4))}
    if op == "Gelu":
        attributes["approximate"] = d.pick(("none", "tanh"))
    d.add(op, d.some(), **attributes)


def _clip(d: _Drawing) -> None:
    low, high = d.pick(((0.0, 6.0), (-1.0, 1.0), (0.0, None), (None, 6.0)))
    limits = ["" if limit is None else d.constant(limit) for limit in (low, high)]
    d.add("Clip", d.some(), *limits)


def _binary(d: _Drawing) -> None:
    op = d.pick(("Add", "Sub", "Mul", "Max", "Min", "Add", "Mul"))
    x = d.some()
    other = d.constant(d.normal(d.broadcast(d.shape(x))))
    same = [n for n in d.floats() if _fits(d.shape(n), d.shape(x))]
    if same and d.chance(0.6):
        other = d.pick(same)
    d.add(op, *((x, other) if d.chance(0.7) else (other, x)))


def _fits(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return len(np.broadcast_shapes(a, b)) <= 5
    except ValueError:
        return False


def _several(d: _Drawing) -> None:
    x = d.some()
    others = [d.constant(d.normal(d.broadcast(d.shape(x)))) for _ in range(d.pick((0, 1, 2)))]
    d.add(d.pick(("Max", "Min", "Sum", "Mean")), x, *others)


def _divide(d: _Drawing) -> None:
    x = d.some()
    divisor = np.abs(d.normal(d.broadcast(d.shape(x)))) + 0.5
    d.add("Div", x, d.constant(divisor))


def _odd_elementwise(d: _Drawing) -> None:
    x = d.some()
    if d.chance(0.3):
        d.add("PRelu", x, d.constant(np.abs(d.normal(d.shape(x)[-1:])) * 0.3))
    elif d.chance(0.4):
        d.add("Pow", x, d.constant(d.pick((2.0, 3.0, 1.0))))
    elif d.chance(0.5):
        d.add("Sqrt", d.add("Abs", x))
    else:
        mask = d.constant(d.rng.random(d.broadcast(d.shape(x))) < 0.5, np.bool_)
        d.add("Where", mask, x, d.constant(d.normal(())))


def _factors(d: _Drawing, count: int) -> list[int]:
    """``count`` as a product of up to five numbers."""
    made: list[int] = []
    while count > 1 and len(made) < 4 and d.chance(0.75):
        made.append(d.pick([n for n in range(1, count + 1) if count % n == 0]))
        count //= made[-1]
    made.append(count)
    d.rng.shuffle(made)
    return made


def _view(d: _Drawing) -> None:
    x = d.some()
    shape = d.shape(x)
    way = d.pick(("Reshape", "Reshape", "Flatten", "Unsqueeze", "Squeeze", "Cast"))
    if way == "Reshape":
        sizes = _factors(d, int(np.prod(shape)))
        if d.chance(0.2):
            sizes[d.pick(range(len(sizes)))] = -1
        d.add("Reshape", x, d.indices(*sizes))
    elif way == "Flatten":
        d.add("Flatten", x, axis=d.pick(range(-len(shape), len(shape) + 1)))
    elif way == "Unsqueeze":
        d.add("Unsqueeze", x, d.indices(d.pick(range(-len(shape) - 1, len(shape) + 1))))
    elif way == "Squeeze":
        ones = [axis for axis, size in enumerate(shape) if size == 1]
        d.add("Squeeze", x, d.indices(d.pick(ones)))
    else:
        half = d.add("Cast", x, to=d.pick((TensorProto.FLOAT16, TensorProto.DOUBLE)))
        if d.chance(0.6):
            d.add("Cast", half, to=TensorProto.FLOAT)


def _transpose(d: _Drawing) -> None:
    x = d.some()
    d.add("Transpose", x, perm=d.rng.permutation(len(d.shape(x))).tolist())


def _matmul(d: _Drawing) -> None:
    x = d.some()
    shape = d.shape(x)
    n = d.pick((1, 4, 7))
    way = d.pick(("weights", "weights", "several", "vector", "left", "pair"))
    if way == "weights":
        y = d.add("MatMul", x, d.weights(shape[-1], n))
        if d.chance(0.5):
            y = d.add("Add", y, d.constant(d.normal(d.pick(((n,), (1,), (), d.shape(y))))))
        if d.chance(0.4):
            d.add(d.pick(("Relu", "Gelu", "Sigmoid")), y)
    elif way == "several":
        lead = [1 if d.chance(0.3) else size for size in shape[:-2]]
        d.add("MatMul", x, d.weights(*lead, shape[-1], n))
    elif way == "vector":
        d.add("MatMul", x, d.weights(shape[-1]))
    elif way == "left":
        d.add("MatMul", d.weights(n, shape[-2]), x)
    else:
        perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        d.add("MatMul", x, d.add("Transpose", x, perm=perm))


def _gemm(d: _Drawing) -> None:
    x = d.some(2)
    flip, turned = int(d.chance(0.3)), int(d.chance(0.5))
    rows, depth = d.shape(x)[::-1] if flip else d.shape(x)
    n = d.pick((1, 5))
    w = d.weights(*((n, depth) if turned else (depth, n)))
    operands = [x, w]
    if d.chance(0.7):
        operands.append(
            d.constant(d.normal(d.pick(((n,), (1, n), (rows, n), (rows, 1), (), (1,)))))
        )
    factor = (lambda: float(d.pick((1.0, 0.5, -2.0)))) if d.chance(0.5) else (lambda: 1.0)
    d.add("Gemm", *operands, transA=flip, transB=turned, alpha=factor(), beta=factor())


def _window(d: _Drawing, sizes: Sequence[int]) -> dict[str, Any]:
    """Kernel, strides, padding and dilations of a convolution or pool."""
    kernel = [min(d.pick((1, 2, 3)), size) for size in sizes]
    made: dict[str, Any] = {"kernel_shape": kernel}
    if d.chance(0.5):
        made["strides"] = [d.pick((1, 2, 3)) for _ in sizes]
    way = d.pick(("pads", "none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"))
    if way == "pads":
        made["pads"] = [d.pick(range(k)) for k in kernel * 2]
    elif way != "none":
        made["auto_pad"] = way
    if d.chance(0.2):
        made["dilations"] = [d.pick((1, 2)) for _ in sizes]
    return made


def _conv(d: _Drawing) -> None:
    x = d.some(3, 4, 4, 5)
    channels, *sizes = d.shape(x)[1:]
    group = d.pick([g for g in range(1, channels + 1) if channels % g == 0])
    made = group * d.pick((1, 2, 3))
    window = _window(d, sizes)
    w = d.weights(made, channels // group, *window["kernel_shape"])
    bias = [d.constant(d.normal((made,)))] if d.chance(0.5) else []
    y = d.add("Conv", x, w, *bias, group=group, **window)
    if d.chance(0.25):
        rows = [d.constant(d.normal((made,))) for _ in range(3)]
        y = d.add("BatchNormalization", y, *rows, d.constant(np.abs(d.normal((made,))) + 0.5))
    if d.chance(0.4):
        shape = d.pick((d.shape(y), (1, made, *(1 for _ in sizes)), (made, *(1 for _ in sizes))))
        y = d.add("Add", y, d.constant(d.normal(shape)))
    if d.chance(0.4):
        d.add(d.pick(("Relu", "HardSwish", "Tanh")), y)


def _pool(d: _Drawing) -> None:
    x = d.some(3, 4, 4, 5)
    if d.chance(0.25):
        d.add(d.pick(("GlobalAveragePool", "GlobalMaxPool")), x)
        return
    window = _window(d, d.shape(x)[2:])
    window["ceil_mode"] = int(d.chance(0.3))
    if d.chance(0.5):
        d.add("MaxPool", x, outputs=2 if d.chance(0.2) else 1, **window)
    else:
        window["count_include_pad"] = int(d.chance(0.5))
        d.add("AveragePool", x, **window)


def _layer_norm(d: _Drawing) -> None:
    x = d.some()
    shape = d.shape(x)
    axis = -1 if d.chance(0.7) else d.pick(range(-len(shape), len(shape)))
    scale = d.pick(
        (shape[axis:], shape[axis:], d.broadcast(shape), (1,) * len(shape[1:]) + shape[-1:])
    )
    operands = [x, d.constant(d.normal(scale))]
    if d.chance(0.5):
        operands.append(d.constant(d.normal(d.pick((scale, shape[axis:])))))
    d.add("LayerNormalization", *operands, axis=axis, outputs=d.pick((1, 1, 1, 2, 3)))


def _written_norm(d: _Drawing) -> None:
    """LayerNorm or RMSNorm out of means."""
    x = d.some(2, 3, 4)
    axis = d.indices(-1 if d.chance(0.8) else 0)
    if d.chance(0.5):
        x = d.add("Sub", x, d.add("ReduceMean", x, axis))
    mean = d.add("ReduceMean", d.add("Mul", x, x), axis)
    root = d.add("Sqrt", d.add("Add", mean, d.constant(d.pick((1e-5, 1e-2)))))
    y = d.add("Div", x, root)
    if d.chance(0.7):
        y = d.add("Mul", y, d.constant(d.normal(d.broadcast(d.shape(y)))))
    if d.chance(0.5):
        d.add("Add", y, d.constant(d.normal(d.broadcast(d.shape(y)))))


def _group_norm(d: _Drawing) -> None:
    x = d.some(3, 4)
    n, channels, *sizes = d.shape(x)
    groups = d.pick([g for g in range(1, channels + 1) if channels % g == 0])
    if d.chance(0.4):
        rows = [d.constant(d.normal((groups,))) for _ in range(2)]
        d.add("GroupNormalization", x, *rows, num_groups=groups)
        return
    split = d.add("Reshape", x, d.indices(n, groups, -1))
    one, nil = d.constant(np.ones(groups)), d.constant(np.zeros(groups))
    merged = d.add("InstanceNormalization", split, one, nil)
    y = d.add("Reshape", merged, d.indices(n, channels, *sizes))
    ones = [1] * len(sizes)
    y = d.add("Mul", y, d.constant(d.normal(d.pick(((channels, *ones), d.broadcast(d.shape(y)))))))
    d.add("Add", y, d.constant(d.normal((1, channels, *ones))))


def _softmax(d: _Drawing) -> None:
    x = d.some()
    rank = len(d.shape(x))
    axis = -1 if d.chance(0.6) else d.pick(range(-rank, rank))
    d.add(d.pick(("Softmax", "Softmax", "LogSoftmax")), x, axis=axis)


def _reduce(d: _Drawing) -> None:
    x = d.some()
    rank = len(d.shape(x))
    op = d.pick(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"))
    chosen = d.pick(((-1,), tuple(range(1, rank - 1)), tuple(range(2, rank)), (0,), ()))
    operands = [x] if d.chance(0.15) else [x, d.indices(*chosen)]
    noop = int(d.chance(0.5)) if not chosen else None
    d.add(op, *operands, keepdims=int(d.chance(0.6)), noop_with_empty_axes=noop)


def _slice(d: _Drawing) -> None:
    x = d.some()
    shape = d.shape(x)
    axis = d.pick(range(len(shape)))
    size = shape[axis]
    start = d.pick((0, 1, -1, -size, -size - 7, size // 2))
    stop = d.pick((size, -1, 2**31, size // 2 + 1))
    step = d.pick((1, 1, 1, 2, 3, -1))
    rest = [] if axis == 0 and step == 1 else [d.indices(d.pick((axis, axis - len(shape))))]
    rest += [d.indices(step)] if step != 1 else []
    d.add("Slice", x, d.indices(start), d.indices(stop), *rest)


def _split(d: _Drawing) -> None:
    x = d.some()
    shape = d.shape(x)
    axis = d.pick([a for a, size in enumerate(shape) if size > 1])
    if d.chance(0.5):
        d.add("Split", x, axis=axis, outputs=2, num_outputs=2)
    else:
        first = int(d.rng.integers(1, shape[axis]))
        parts = d.indices(first, shape[axis] - first)
        d.add("Split", x, parts, axis=axis - len(shape), outputs=2)


def _concat(d: _Drawing) -> None:
    x = d.some()
    shape = d.shape(x)
    axis = d.pick(range(len(shape)))

    def fits(name: str) -> bool:
        other = d.shape(name)
        return len(other) == len(shape) and all(
            a == b for i, (a, b) in enumerate(zip(other, shape, strict=True)) if i != axis
        )

    parts = [x, d.pick([name for name in d.floats() if fits(name)])]
    if d.chance(0.3):
        parts.append(d.constant(d.normal(shape)))
    if d.chance(0.1):
        parts.append(d.constant(np.zeros([0 if i == axis else n for i, n in enumerate(shape)])))
    d.add("Concat", *parts, axis=axis - (len(shape) if d.chance(0.5) else 0))


def _movement(d: _Drawing) -> None:
    x = d.some()
    shape = d.shape(x)
    way = d.pick(("Pad", "Expand", "Tile", "Gather"))
    if way == "Pad":
        pads = d.indices(*(d.pick((0, 0, 1)) for _ in range(2 * len(shape))))
        d.add("Pad", x, pads, mode=d.pick(("constant", "edge")))
    elif way == "Expand":
        d.add("Expand", x, d.indices(*(d.pick((n, n, 2)) for n in shape)))
    elif way == "Tile":
        d.add("Tile", x, d.indices(*(d.pick((1, 1, 2)) for _ in shape)))
    else:
        d.add("Gather", x, d.indices(0, shape[0] - 1))


def _resize(d: _Drawing) -> None:
    x = d.some(4)
    _, _, height, width = d.shape(x)
    where = d.pick(("half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners"))
    factor = d.pick((2.0, 2.0, 3.0, 1.5, 2.1, 2.19))
    target: list[str]
    if d.chance(0.4):
        sizes = [*d.shape(x)[:2], height * 2, width * d.pick((2, 2, 3))]
        target = ["", "", d.indices(*sizes)]
    else:
        target = ["", d.constant([1, d.pick((1, 1, 1, 1.05)), factor, factor])]
    d.add(
        "Resize",
        x,
        *target,
        mode=d.pick(("nearest", "nearest", "nearest", "linear")),
        coordinate_transformation_mode=where,
        nearest_mode=d.pick(("floor", "round_prefer_floor", "ceil", "round_prefer_ceil")),
    )
    if d.chance(0.3):
        _conv(d)


def _gated(d: _Drawing) -> None:
    """SiLU, QuickGELU, and gated linear units, with their near-matches."""
    x = d.some()
    if d.chance(0.5):
        factor = d.pick((None, 1.702, 1.5))
        scaled = x if factor is None else d.add("Mul", x, d.constant(factor))
        gate = d.add("Sigmoid", scaled)
        d.add("Mul", *((x, gate) if d.chance(0.5) else (gate, x)))
        return
    axis = d.pick((-1, -1, 0))
    value = d.add("Split", x, axis=axis, outputs=2, num_outputs=2)
    gate = d.add(d.pick(("Gelu", "Sigmoid", "Relu")), f"{value}_1")
    d.add("Mul", *((value, gate) if d.chance(0.5) else (gate, value)))


def _written_gelu(d: _Drawing) -> None:
    x = d.some()
    one = d.constant(d.normal(()) * 0 + 1) if d.chance(0.7) else d.constant(np.ones((1, 1, 1)))
    erf = d.add("Erf", d.add("Div", x, d.constant(2**0.5)))
    d.add("Mul", d.add("Mul", x, d.add("Add", erf, one)), d.constant(d.pick((0.5, 0.6))))


def _attention(d: _Drawing) -> None:
    x = d.some(3)
    n, length, width = d.shape(x)
    heads = d.pick([h for h in (1, 2, 4) if width % h == 0])
    depth = width // heads
    split = d.indices(n, length, heads, depth)
    q = d.add("Reshape", d.add("MatMul", x, d.weights(width, width)), split)
    group = d.pick([g for g in (1, 1, 2, 4) if heads % g == 0])
    k, v = (_repeated_heads(d, x, heads, group) for _ in "kv")
    q, v = (d.add("Transpose", each, perm=[0, 2, 1, 3]) for each in (q, v))
    scores = d.add("MatMul", q, d.add("Transpose", k, perm=[0, 2, 3, 1]))
    scores = d.add("Mul", scores, d.constant(depth**-0.5))
    if d.chance(0.5):
        full = (n, heads, length, length)
        scores = d.add("Add", scores, d.constant(d.normal(d.broadcast(full))))
    weights = d.add("Softmax", scores, axis=d.pick((-1, -1, -1, 2)))
    merged = d.add("Transpose", d.add("MatMul", weights, v), perm=[0, 2, 1, 3])
    d.add("Reshape", merged, d.indices(n, length, width))


def _repeated_heads(d: _Drawing, x: str, heads: int, group: int) -> str:
    """[n, l, heads, depth], each of fewer heads ``group`` times."""
    n, length, width = d.shape(x)
    count, depth = heads // group, width // heads
    tokens = d.add("MatMul", x, d.weights(width, count * depth))
    if group == 1:
        return d.add("Reshape", tokens, d.indices(n, length, heads, depth))
    once = d.add("Reshape", tokens, d.indices(n, length, count, 1, depth))
    every = d.add("Expand", once, d.indices(n, length, count, group, depth))
    return d.add("Reshape", every, d.indices(n, length, heads, depth))


def _other_types(d: _Drawing) -> None:
    """Casts and comparisons from and to what is not float32, and arithmetic on integers."""
    x = d.pick([n for n, v in d.values.items() if v.dtype != np.float32])
    value = d.values[x]
    way = d.pick(("Cast", "Cast", "Cast", "Add", "Equal", "Where", "Reshape"))
    if way == "Cast":
        d.add("Cast", x, to=d.pick((*(TensorProto.FLOAT,) * 4, *_TARGETS)))
    elif way == "Add":
        d.add(d.pick(("Add", "Mul")), x, d.constant(value.ravel()[:1], value.dtype))
    elif way == "Equal":
        d.add("Equal", x, d.constant(value.ravel()[:1], value.dtype))
    elif way == "Where":
        d.add("Where", x, d.constant(d.normal(())), d.constant(d.normal((1,))))
    else:
        d.add("Reshape", x, d.indices(-1))


_TARGETS = (TensorProto.INT16, TensorProto.UINT16, TensorProto.DOUBLE, TensorProto.BOOL)


def _conv_transpose(d: _Drawing) -> None:
    x = d.some(3, 4, 4)
    channels, *sizes = d.shape(x)[1:]
    group = d.pick([g for g in range(1, channels + 1) if channels % g == 0]) if d.chance(0.2) else 1
    kernel = [d.pick((1, 2, 3, 4)) for _ in sizes]
    strides = [d.pick((1, 2, 2, 3)) for _ in sizes]
    settings: dict[str, Any] = {"strides": strides, "group": group}
    way = d.pick(("pads", "pads", "none", "VALID", "output_shape"))
    if way == "pads":
        settings["pads"] = [d.pick(range(k)) for k in kernel * 2]
        settings["output_padding"] = [d.pick(range(stride)) for stride in strides]
    elif way == "output_shape":
        settings["output_shape"] = [n * s for n, s in zip(sizes, strides, strict=True)]
    elif way != "none":
        settings["auto_pad"] = way
    made = d.pick((1, 2, 3))
    bias = [d.constant(d.normal((made * group,)))] if d.chance(0.5) else []
    y = d.add("ConvTranspose", x, d.weights(channels, made, *kernel), *bias, **settings)
    if d.chance(0.4):
        d.add(d.pick(("Relu", "HardSwish", "Tanh")), y)


_GROWTHS: Sequence[Callable[[_Drawing], None]] = (
    *(_unary, _unary, _clip, _binary, _binary, _several, _divide, _odd_elementwise, _view, _view),
    *(
        _transpose,
        _matmul,
        _matmul,
        _gemm,
        _conv,
        _conv,
        _conv_transpose,
        _pool,
        _layer_norm,
        _written_norm,
    ),
    *(_group_norm, _softmax, _reduce, _slice, _split, _concat, _movement, _resize, _gated),
    *(_written_gelu, _attention, _other_types, _other_types),
)
