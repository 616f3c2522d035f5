"""What lowering makes of a small network of each kind, and how the verifier's errors read.

Every program is verified, executed with INT16 values and compared with float64 before its text is
compared: a golden never holds a program that computes something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.lowering.rule import LoweredKind
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.scales import with_scales
from edgefusion.compiler.ops.elementwise import Binary, Glu, Softmax, Unary
from edgefusion.compiler.ops.kinds import KINDS
from edgefusion.compiler.ops.matmul import BatchMatMul
from edgefusion.compiler.ops.movement import Concat, Host, Resize, Slice, Transpose
from edgefusion.compiler.ops.norm import LayerNorm, RmsNorm
from edgefusion.compiler.ops.pooling import Pool, Reduce
from edgefusion.compiler.schedule.schedule import SCHEDULES, schedule_named
from edgefusion.runtime.accuracy import sqnr_db
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.isa import Role
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.program_text import parse, to_text
from edgefusion.runtime.target import load_target
from edgefusion.runtime.verifier import verify_program
from tests.fp16_reference import evaluate
from tests.int_reference import draw_scaled, named_constants, real_values
from tests.lowering_cases import (
    SimpleCase,
    attention_case,
    conv_case,
    group_norm_case,
    matmul_case,
    simple_network,
    transposed_conv_case,
)

Golden = Callable[[str, str], None]

FOLDER = Path(__file__).parent / "programs"
LARGEST_BYTES = 3500
"""Of a golden that a reviewer still reads."""
SQNR_DB = 54.0
"""The reference rounds to the 11 bits of FP16 at every step."""


@dataclass(frozen=True)
class ProgramCase:
    """A network of one op, a schedule, and SRAM that most ops fit in tiles only."""

    network: Network
    sram_bytes: int
    schedule: str = "mlt"

    @property
    def machine(self) -> Machine:
        """Its tensor engine is as small as its SRAM, or no tile would be smaller than the op."""
        return load_target("exynos2400").machine.with_values(
            sram_bytes=self.sram_bytes, tensor_granularity_m=4, tensor_granularity_n=4
        )

    @property
    def program(self) -> Program:
        """Without scales, as lowering leaves it."""
        return lower(self.network, self.machine, schedule_named(self.schedule)).program


def of(network: Network, sram_bytes: int, schedule: str = "mlt") -> ProgramCase:
    """``network`` with its constants named, so that it can be executed."""
    return ProgramCase(named_constants(network), sram_bytes, schedule)


def simple(case: SimpleCase, sram_bytes: int) -> ProgramCase:
    """A network of the one op that ``case`` tells, under ``mlt``."""
    return of(simple_network(case), sram_bytes)


X = (1, 4, 4, 8)
TALL = (1, 8, 4, 8)

CASES: Mapping[str, ProgramCase] = {
    "conv": of(conv_case(8, 4, 8, 4, epilogue=False), 960),
    "conv-epilogue": of(conv_case(4, 4, 8, 8), 2048),
    "transposed_conv": of(transposed_conv_case(4, 3, 8, 4, epilogue=False), 1200),
    "matmul": of(matmul_case(16, 8, 16), 1024),
    "matmul-columns": of(matmul_case(4, 32, 20), 1280),
    "batch_matmul": simple(
        SimpleCase(BatchMatMul(a="x", b="other"), (1, 2, 8, 8), (1, 2, 8, 8), x=(1, 2, 8, 8)), 256
    ),
    **{
        f"attention-{schedule.name}": of(attention_case(8, 16, 2, 4), 2048, schedule.name)
        for schedule in SCHEDULES
    },
    "attention-mask-tiles": of(attention_case(7, 16, 1, 4, mask=True), 640),
    "attention-streamed": of(attention_case(8, 24, 1, 4), 640),
    "group_norm": of(group_norm_case(4, 4, 8, 2), 448),
    "group_norm-two-passes": of(group_norm_case(4, 4, 8, 2), 384),
    "layer_norm": simple(
        SimpleCase(LayerNorm(x="x", gamma="gamma", beta="beta", epsilon=1e-5), X, x=X),
        512,
    ),
    "rms_norm": simple(SimpleCase(RmsNorm(x="x", gamma="gamma", epsilon=1e-5), X, x=X), 512),
    "softmax": simple(SimpleCase(Softmax(x="x"), X, x=X), 256),
    "unary": simple(SimpleCase(Unary(x="x", function="silu"), X, x=X), 256),
    "binary": simple(
        SimpleCase(Binary(a="x", b="other", function="add"), X, (8,), other_role=Role.WEIGHT, x=X),
        256,
    ),
    "glu": simple(SimpleCase(Glu(x="x", function="gelu"), (1, 4, 4, 4), x=X), 256),
    "concat": simple(
        SimpleCase(Concat(parts=("x", "other"), axis=3), (1, 4, 4, 12), (1, 4, 4, 4), x=X), 128
    ),
    "slice": simple(
        SimpleCase(Slice(x="x", starts=(0, 0, 0, 4), steps=(1, 2, 1, 1)), (1, 4, 4, 4), x=TALL), 64
    ),
    "transpose": simple(SimpleCase(Transpose(x="x", perm=(0, 3, 1, 2)), (1, 8, 4, 4), x=X), 256),
    "resize": simple(SimpleCase(Resize(x="x", scale=2), (1, 8, 8, 8), x=X), 512),
    "pool": simple(
        SimpleCase(
            Pool(x="x", function="max", kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
            (1, 4, 2, 8),
            x=TALL,
        ),
        320,
    ),
    "reduce": simple(
        SimpleCase(Reduce(x="x", function="mean", axes=(1, 2)), (1, 1, 1, 8), x=X), 256
    ),
    "host": simple(SimpleCase(Host(operands=("x",), reason="test"), X, x=X), 256),
}


def assert_right(case: ProgramCase) -> None:
    """Execute the program, with scales, and compare its result with float64."""
    scales, inputs, constants = draw_scaled(case.network)
    program = with_scales(case.program, scales)
    assert parse(to_text(program)) == program
    hosts = {"host": lambda real: [2.0 * real[0]]}
    found = Executor(program, case.machine, constants, hosts=hosts).run(inputs).outputs["y"]
    expected, _ = evaluate(case.network, real_values(case.network, inputs | constants))
    assert sqnr_db(expected, found) >= SQNR_DB


@pytest.mark.parametrize("name", CASES)
def test_program(name: str, golden: Golden) -> None:
    case = CASES[name]
    program = case.program
    verify_program(program, case.machine)
    assert_right(case)
    text = to_text(program)
    assert parse(text) == program
    assert len(text) <= LARGEST_BYTES
    golden(f"programs/{name}", text)


def test_every_lowered_kind_has_a_golden() -> None:
    found = {type(op.kind) for case in CASES.values() for op in case.network.ops}
    assert found == {kind for kind in KINDS if issubclass(kind, LoweredKind)}


def test_no_golden_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.txt" for name in CASES}


def test_the_verifier_explains(golden: Golden) -> None:
    """A product that does not wait for the softmax, and K behind the last byte of SRAM."""
    case = CASES["attention-mlt"]
    text = to_text(case.program)
    with pytest.raises(InputError) as unordered:
        verify_program(parse(_replaced(text, "after %4 ", "")), case.machine)
    with pytest.raises(InputError) as misplaced:
        verify_program(parse(_replaced(text, "sram[0x0]", "sram[0x800]")), case.machine)
    golden("verifier_errors", f"{unordered.value}\n\n{misplaced.value}\n")


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)
