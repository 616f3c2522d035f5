"""How the body of a fused op is written: lines of ONNX text around one running result."""

from __future__ import annotations

from edgefusion.runtime.functions import UNARY_BY_TOKEN


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
    if token not in UNARY_BY_TOKEN:
        raise ValueError(f"{kind} does not take the token '{token}' here")
    return UNARY_BY_TOKEN[token].operator.body
