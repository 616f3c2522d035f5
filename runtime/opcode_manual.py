"""``docs/instructions.md``, generated from the specifications so that the two cannot differ."""

from __future__ import annotations

import json
from collections.abc import Iterator

from edgefusion.runtime.isa import EngineKind, Opcode, Space
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.specification import Attribute, OperandForm, Specification

_HEAD = """\
# Instructions

Generated from `runtime/opcodes.py`; do not edit, but run
`python -m edgefusion.runtime.opcode_manual > docs/instructions.md`.

Shapes are channels-last; dimensions of leading ones may be left out. Outputs come first. What the
kernels compute, bit for bit, is in [arithmetic.md](arithmetic.md) and
[arithmetic_fp16.md](arithmetic_fp16.md); what it costs, in `runtime/cost.py`.
"""


def opcode_manual() -> str:
    """The whole file."""
    lines = [_HEAD]
    for kind in EngineKind:
        lines += [f"## {_ENGINES[kind]}", ""]
        for opcode, specification in SPECIFICATIONS.items():
            if specification.engine is kind:
                lines += _section(opcode, specification)
    return "\n".join(lines)


_ENGINES = {
    EngineKind.DMA: "DMA",
    EngineKind.TENSOR: "Tensor engine",
    EngineKind.VECTOR: "Vector engine",
    EngineKind.HOST: "Host",
}


def _section(opcode: Opcode, s: Specification) -> Iterator[str]:
    yield f"### {opcode.name}"
    yield ""
    yield f"{s.summary[0].upper()}{s.summary[1:]}."
    yield ""
    outputs, inputs = _operands(s.outputs, s.output_space), _operands(s.inputs, s.input_space)
    yield f"- operands: {outputs} <- {inputs}"
    if s.families:
        yield f"- kernels: {', '.join(s.families)}"
    if s.engine is EngineKind.VECTOR:
        by = "that of attribute function" if callable(s.cost_class) else f"`{s.cost_class}`"
        yield f"- cost class: {by}, for the {s.counted.value}"
    yield ""
    if s.attributes:
        yield "| Attribute | Values | Default | Meaning |"
        yield "| --- | --- | --- | --- |"
        yield from (_row(attribute) for attribute in sorted(s.attributes, key=lambda a: a.name))
        yield ""


def _operands(forms: tuple[OperandForm, ...], space: Space) -> str:
    where = " in DRAM" if space is Space.DRAM else ""
    return ", ".join(map(_operand, forms)) + where


def _operand(form: OperandForm) -> str:
    text = f"`{form.name}`"
    if form.shape != "any":
        text += f" {form.shape}"
    if form.when:
        return f"{text} (if {form.when})"
    if form.optional:
        return f"{text} (optional)"
    if form.repeated:
        return f"{text} (any number)"
    if form.read_when:
        return f"{text} (also read if {form.read_when})"
    return f"{text} (also read unless {form.read_unless})" if form.read_unless else text


def _row(attribute: Attribute) -> str:
    default = attribute.default
    shown = "required" if attribute.is_required else f"`{json.dumps(default)}`"
    return f"| `{attribute.name}` | {attribute.expected} | {shown} | {attribute.meaning} |"


if __name__ == "__main__":
    print(opcode_manual(), end="")  # noqa: T201
