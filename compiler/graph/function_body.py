"""How the body of a fused op is written: lines of ONNX text around one running result."""

from __future__ import annotations

UNARY: dict[str, str] = {
    "relu": "{y} = Relu({x})",
    "relu6": (
        "{y}_l = Constant<value_float = 0.0>()\n{y}_h = Constant<value_float = 6.0>()\n"
        "{y}_lc = CastLike({y}_l, {x})\n{y}_hc = CastLike({y}_h, {x})\n"
        "{y} = Clip({x}, {y}_lc, {y}_hc)"
    ),
    "sigmoid": "{y} = Sigmoid({x})",
    "tanh": "{y} = Tanh({x})",
    "gelu": "{y} = Gelu({x})",
    "gelutanh": '{y} = Gelu<approximate = "tanh">({x})',
    "silu": "{y}_s = Sigmoid({x})\n{y} = Mul({x}, {y}_s)",
    "quickgelu": (
        "{y}_f = Constant<value_float = 1.702>()\n{y}_c = CastLike({y}_f, {x})\n"
        "{y}_m = Mul({x}, {y}_c)\n{y}_s = Sigmoid({y}_m)\n{y} = Mul({x}, {y}_s)"
    ),
    "exp": "{y} = Exp({x})",
    "softplus": "{y} = Softplus({x})",
    "hardswish": "{y} = HardSwish({x})",
    "hardsigmoid": "{y} = HardSigmoid<alpha = 0.16666667, beta = 0.5>({x})",
}
"""Unary tokens, each with its body from ``{x}`` to ``{y}``."""


class Body:
    """Lines of a function's body. ``value`` is the name of the running result."""

    def __init__(self) -> None:
        self.inputs: list[str] = []
        self.outputs = ["y"]
        self.text = ""
        self.value = ""
        self._steps = 0

    def read(self, *names: str) -> None:
        """Declare inputs."""
        self.inputs += names

    def lines(self, text: str) -> None:
        """Append lines that do not touch the running result."""
        self.text += text.strip() + "\n"

    def step(self, template: str) -> None:
        """Append lines from ``{x}``, the running result, to ``{y}``, the next one."""
        self._steps += 1
        result = f"t{self._steps}"
        self.lines(template.replace("{x}", self.value).replace("{y}", result))
        self.value = result

    def finish(self) -> None:
        """Name the running result ``y``."""
        self.lines(f"y = Identity({self.value})")


def unary(token: str, kind: str) -> str:
    """The body of a unary token; ValueError if ``kind`` takes no ``token`` where it stands."""
    if token not in UNARY:
        raise ValueError(f"{kind} does not take the token '{token}' here")
    return UNARY[token]
