"""The elementwise functions of the vector engine: two tables, and all that the toolchain knows.

``UNARY`` and ``BINARY`` are keyed by the network's name, which is also the attribute ``function``
of an instruction. A new function is one row: passes recognise its ONNX operator, epilogues and
gated units take its token, kernels tabulate its real function, the cost model knows its class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, inf

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

OTHER_UNARY = "other_unary"
OTHER_BINARY = "other_binary"
"""Cost classes of functions that a machine does not name."""

TABLE_RANGE = 64.0
"""A table of 513 entries over [-64, 64] has steps of a quarter; wider ones miss the curve."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An operator's attribute, the value it must have, and the standard's default."""

    name: str
    value: float | str
    default: float | str


@dataclass(frozen=True, slots=True)
class Operator:
    """The ONNX operator that is a function of its first operand.

    It is this function only with these ``attributes`` and with these scalars (name, value) as its
    further operands. One with a ``definition``, which is ONNX text from ``{x}`` to ``{y}``, is not
    standard but a function of the domain ``edgefusion``.
    """

    op_type: str
    attributes: tuple[Attribute, ...] = ()
    constants: tuple[tuple[str, float], ...] = ()
    definition: str = ""

    @property
    def body(self) -> str:
        """Standard ONNX text from ``{x}`` to ``{y}``; attributes at their defaults are left out."""
        if self.definition:
            return self.definition
        lines, operands = "", "{x}"
        for name, value in self.constants:
            lines += f"{{y}}_{name}_f = Constant<value_float = {value!r}>()\n"
            lines += f"{{y}}_{name} = CastLike({{y}}_{name}_f, {{x}})\n"
            operands += f", {{y}}_{name}"
        given = ", ".join(
            f"{each.name} = "
            + (f'"{each.value}"' if isinstance(each.value, str) else f"{each.value!r}")
            for each in self.attributes
            if each.value != each.default
        )
        return f"{lines}{{y}} = {self.op_type}{f'<{given}>' if given else ''}({operands})"


@dataclass(frozen=True, slots=True)
class Unary:
    """A function of one variable.

    ``real`` is the function on float64, of any shape, from which the tables of INT16 and of FP16
    are made. It does not warn, and may give NaN at minus infinity (0 x infinity) where its limit is
    minus zero.
    """

    name: str
    operator: Operator
    real: Callable[[F64], F64]
    cost_class: str = OTHER_UNARY
    ceiling: float | None = None
    """Of max(0, min(x, ceiling)), which UNARY requantizes; None for what INT16 tabulates."""
    table_range: float = TABLE_RANGE
    """Largest |x| up to which the INT16 table is fine; infinite for what is straight out there."""
    bends_at_zero: bool = False
    """Whether it bends the more the nearer to zero, so that its INT16 tables are nested as far as
    there are steps."""
    steep: bool = False
    """Whether it outgrows its argument: then no one scale serves all gates of a gated unit."""

    @property
    def token(self) -> str:
        """The name inside those of fused ops, whose parts underscores separate."""
        return self.name.replace("_", "")


@dataclass(frozen=True, slots=True)
class Binary:
    """A function of two variables. ``code`` selects it in compiled kernels: never renumber."""

    name: str
    op_type: str
    code: int
    cost_class: str = OTHER_BINARY


_ERF = np.frompyfunc(erf, 1, 1)
_SQRT_HALF = 0.7071067811865476
_SQRT_2_OVER_PI = 0.7978845608028654


def _sigmoid(x: F64) -> F64:
    with np.errstate(over="ignore"):  # 1 / infinity is the 0 that is wanted
        return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _gelu(x: F64) -> F64:
    return np.asarray(0.5 * x * (1.0 + np.asarray(_ERF(x * _SQRT_HALF), dtype=np.float64)))


def _gelu_tanh(x: F64) -> F64:
    """Hendrycks and Gimpel, "Gaussian Error Linear Units", section 2."""
    return np.asarray(0.5 * x * (1.0 + np.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x**3))))


def _exp(x: F64) -> F64:
    """Limited where no type of the machine holds the result, so that float64 does."""
    return np.asarray(np.exp(np.minimum(x, 700.0)))


def _hard_sigmoid(x: F64) -> F64:
    return np.clip(x / 6.0 + 0.5, 0.0, 1.0)


_SILU = "{y}_s = Sigmoid({x})\n{y} = Mul({x}, {y}_s)"
_QUICK_GELU = (
    "{y}_f = Constant<value_float = 1.702>()\n{y}_c = CastLike({y}_f, {x})\n"
    "{y}_m = Mul({x}, {y}_c)\n{y}_s = Sigmoid({y}_m)\n{y} = Mul({x}, {y}_s)"
)


def _gelu_operator(approximate: str) -> Operator:
    return Operator("Gelu", (Attribute("approximate", approximate, default="none"),))


UNARY: Mapping[str, Unary] = {
    row.name: row
    for row in (
        Unary(
            "relu",
            Operator("Relu"),
            lambda x: np.maximum(x, 0.0),
            "relu",
            ceiling=inf,
            table_range=inf,
        ),
        Unary("silu", Operator("SiLU", definition=_SILU), lambda x: x * _sigmoid(x), "silu"),
        Unary("gelu", _gelu_operator("none"), _gelu, "gelu"),
        Unary("gelu_tanh", _gelu_operator("tanh"), _gelu_tanh, "gelu_tanh"),
        Unary(
            "quick_gelu",
            Operator("QuickGELU", definition=_QUICK_GELU),
            lambda x: x * _sigmoid(1.702 * x),
            "quick_gelu",
        ),
        Unary("sigmoid", Operator("Sigmoid"), _sigmoid, "sigmoid"),
        Unary("tanh", Operator("Tanh"), np.tanh, "tanh"),
        Unary("exp", Operator("Exp"), _exp, "exp", steep=True),
        Unary(
            "relu6",
            Operator("Clip", constants=(("min", 0.0), ("max", 6.0))),
            lambda x: np.clip(x, 0.0, 6.0),
            ceiling=6.0,
            table_range=inf,
        ),
        Unary(
            "sqrt",
            Operator("Sqrt"),
            lambda x: np.sqrt(np.maximum(x, 0.0)),
            table_range=inf,
            bends_at_zero=True,
        ),
        Unary("softplus", Operator("Softplus"), lambda x: np.logaddexp(0.0, x)),
        Unary("mish", Operator("Mish"), lambda x: x * np.tanh(np.logaddexp(0.0, x))),
        Unary("hard_swish", Operator("HardSwish"), lambda x: x * _hard_sigmoid(x), table_range=inf),
        Unary(
            "hard_sigmoid",
            Operator(
                "HardSigmoid",
                (Attribute("alpha", 1 / 6, default=0.2), Attribute("beta", 0.5, default=0.5)),
            ),
            _hard_sigmoid,
        ),
    )
}
"""By the network's name."""

BINARY: Mapping[str, Binary] = {
    row.name: row
    for row in (
        Binary("add", "Add", 0, "add"),
        Binary("mul", "Mul", 2, "mul"),
        Binary("sub", "Sub", 1),
        Binary("div", "Div", 3),
        Binary("max", "Max", 4),
        Binary("min", "Min", 5),
    )
}
"""By the network's name."""

UNARY_BY_TOKEN: Mapping[str, Unary] = {row.token: row for row in UNARY.values()}
UNARY_BY_OP: Mapping[str, tuple[Unary, ...]] = {
    op: tuple(row for row in UNARY.values() if row.operator.op_type == op)
    for op in dict.fromkeys(row.operator.op_type for row in UNARY.values())
}
"""By the type of the ONNX operator, whose settings decide which of these it is, if any."""
BINARY_BY_OP: Mapping[str, Binary] = {row.op_type: row for row in BINARY.values()}

UNARY_CLASSES = tuple(dict.fromkeys((*(row.cost_class for row in UNARY.values()), OTHER_UNARY)))
BINARY_CLASSES = tuple(dict.fromkeys((*(row.cost_class for row in BINARY.values()), OTHER_BINARY)))
"""Cost classes that functions have, each once."""


def unary_class(name: str) -> str:
    """The cost class of ``name``; a function that no table has costs as others do."""
    return UNARY[name].cost_class if name in UNARY else OTHER_UNARY


def binary_class(name: str) -> str:
    """The cost class of ``name``; a function that no table has costs as others do."""
    return BINARY[name].cost_class if name in BINARY else OTHER_BINARY
