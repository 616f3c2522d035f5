"""Specifications of opcodes: complete, true of the kernels, enforced where programs are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import VECTOR_FUNCTIONS, DType, EngineKind, Opcode, Space
from edgefusion.runtime.kernels.contract import Array, Operands
from edgefusion.runtime.kernels.table import KERNELS
from edgefusion.runtime.opcode_manual import opcode_manual
from edgefusion.runtime.opcodes import SPECIFICATIONS, check_attributes
from edgefusion.runtime.program import Operand
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.specification import Attribute, Family, Kind
from edgefusion.runtime.tensor_numbers import steps_of

STEPS = steps_of(0.5)
BIAS = (("bias", 1),)
GROUPS = (("epsilon", 1e-5), ("function", "silu"), ("groups", 2), ("rows", 6))
POOLING = (("kernel", (2, 2)), ("pads", (0, 0, 0, 0)), ("strides", (2, 2)))


def test_every_opcode_has_one_and_every_cost_class_is_known() -> None:
    assert list(SPECIFICATIONS) == list(Opcode)
    for opcode, s in SPECIFICATIONS.items():
        classes = {s.cost_class_of(f) for f in ("", "silu", "add", "erf")} - {""}
        assert classes <= set(VECTOR_FUNCTIONS)
        assert bool(classes) == (s.engine is EngineKind.VECTOR)
        assert len({a.name for a in s.attributes}) == len(s.attributes)
        for a in s.attributes:
            assert a.is_required or a.accepts(a.default), (opcode, a)
        flags = {a.name for a in s.attributes if a.kind is Kind.FLAG}
        for form in (*s.outputs, *s.inputs):
            assert {form.when, form.read_when, form.read_unless} <= {"", *flags}


def test_kernels_cover_the_families_that_are_declared() -> None:
    declared = {(opcode, family) for opcode, s in SPECIFICATIONS.items() for family in s.families}
    assert set(KERNELS) == declared


class Recorder(Mapping[str, Any]):
    """Attributes that remember which were asked for."""

    def __init__(self, attrs: Mapping[str, Any]) -> None:
        self._attrs, self.asked = attrs, set[str]()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return self._attrs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._attrs)

    def __len__(self) -> int:
        return len(self._attrs)


def half(*shape: int) -> Array:
    return np.ones(shape, np.float16)


def int16(*shape: int) -> Array:
    return np.ones(shape, np.int16)


def single(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def calls(family: Family) -> list[tuple[Opcode, Array, list[Array], Any]]:
    """Small instructions for every kernel of ``family``, so that each reads all that it may."""
    if family is Family.FLOAT_TO_INT:
        return [(Opcode.COPY, int16(6, 4), [half(6, 4)], ())]
    integer = family is Family.INT
    x, wide = (int16, np.int64) if integer else (half, np.float32)
    w = half(4, 2, 1, 1).astype(np.int8 if integer else np.float16)
    bias = half(4).astype(np.int64 if integer else np.float16)
    scales = [single(4)] if integer else []
    sums, whole = 7 * np.ones((2, 4), wide), np.ones((4, 4), wide)
    moments, vectors = (("epsilon", 1e-5), ("beta", 1)), [single(4), single(4)]
    reduction = (("axis", 1), ("count", 4))
    return [
        (Opcode.CONV2D, x(3, 3, 4), [x(3, 3, 2), w, bias, *scales], BIAS),
        (Opcode.MATMUL, x(6, 4), [x(6, 2), w.reshape(4, 2).T, bias, *scales], BIAS),
        (Opcode.MATMUL, whole, [x(4, 2), x(2, 4)], (("accumulate", 1),)),
        (Opcode.MATMUL, x(4, 4), [x(4, 2), x(2, 4)], (("scale", 0.5),)),
        (Opcode.MATMUL, x(4, 4), [x(4, 2), x(2, 4), whole], (("sums", 1),)),
        (Opcode.CONV2D, x(3, 3, 4), [x(3, 3, 2), x(4, 2, 1, 1)], ()),
        (Opcode.UNARY, x(6, 4), [x(6, 4)], (("function", "silu"),)),
        (Opcode.BINARY, x(6, 4), [x(6, 4), x(6, 4)], (("function", "add"),)),
        (Opcode.GLU, x(6, 4), [x(6, 4), x(6, 4)], (("function", "gelu"),)),
        (Opcode.SOFTMAX, x(6, 4), [x(6, 4)], ()),
        (Opcode.CHANNEL_STATS, sums, [x(6, 4)], (("first", 0),)),
        (Opcode.GROUP_NORM, x(6, 4), [x(6, 4), sums, *vectors], GROUPS),
        (Opcode.LAYER_NORM, x(6, 4), [x(6, 4), *vectors], moments),
        (Opcode.RMS_NORM, x(6, 4), [x(6, 4), single(4)], (("epsilon", 1e-5),)),
        (Opcode.RESIZE, x(6, 6, 4), [x(3, 3, 4)], (("scale", 2),)),
        (Opcode.POOL, x(3, 3, 4), [x(6, 6, 4)], (*POOLING, ("function", "average"))),
        (Opcode.POOL, x(3, 3, 4), [x(6, 6, 4)], (*POOLING, ("function", "max"))),
        (Opcode.REDUCE, x(6, 1), [x(6, 4)], (*reduction, ("function", "mean"))),
        (Opcode.REDUCE, x(6, 1), [x(6, 4)], (*reduction, ("function", "max"))),
        (Opcode.COPY, x(4, 4), [whole], (("count", 3),)),
    ]


def asked(opcode: Opcode, family: Family) -> set[str]:
    """The attributes that the kernel reads."""
    found = set()
    for _, y, inputs, attrs in (call for call in calls(family) if call[0] is opcode):
        check_attributes(opcode, attrs)
        recorder = Recorder(SPECIFICATIONS[opcode].complete(attrs))
        ops = Operands((y,), tuple(inputs), (STEPS,), (STEPS,) * len(inputs))
        KERNELS[opcode, family](ops, recorder)
        found |= recorder.asked
    return found


@pytest.mark.parametrize("opcode", [o for o, s in SPECIFICATIONS.items() if s.families])
def test_kernels_read_what_is_specified_and_what_is_specified_is_read(opcode: Opcode) -> None:
    specification = SPECIFICATIONS[opcode]
    by_family = {family: asked(opcode, family) for family in specification.families}
    known = {a.name for a in specification.attributes}
    for family, names in by_family.items():
        assert names <= known, family
    assert set().union(*by_family.values()) == known


def emitted(opcode: Opcode, *attrs: tuple[str, Any]) -> None:
    builder = ProgramBuilder("unet", "exynos2400", "serial")
    view = Operand(0, Space.SRAM, 0, DType.INT16, (4, 4), (8, 2))
    builder.emit(EngineKind.TENSOR, 0, opcode, [view], [view, view], 0, attrs=attrs)


@pytest.mark.parametrize(
    ("opcode", "attrs", "message"),
    [
        (
            Opcode.MATMUL,
            (("bais", 1),),
            r"MATMUL: there is no attribute 'bais' \(did you mean 'bias'\?\); expected bias, scale",
        ),
        (Opcode.SOFTMAX, (("axis", 1),), "SOFTMAX: .* 'axis'; this opcode has none"),
        (Opcode.MATMUL, (("bias", 2),), "attribute 'bias' to be 0 or 1, found 2"),
        (Opcode.MATMUL, (("bias", 1.0),), "'bias' to be 0 or 1, found 1.0"),
        (Opcode.MATMUL, (("scale", "1"),), "'scale' to be a number, found '1'"),
        (Opcode.CONV2D, (("groups", 0),), "'groups' to be an integer of at least 1, found 0"),
        (Opcode.CONV2D, (("pads", (1, 1)),), r"'pads' to be four integers, found \(1, 1\)"),
        (Opcode.CONV2D, (("upsample_phase", (0, -1)),), "two integers of at least 0"),
        (Opcode.REDUCE, (("axis", 1), ("count", 4), ("function", "min")), "one of mean, sum, max"),
        (Opcode.UNARY, (), "UNARY: the attribute 'function' is missing; expected one of relu, "),
    ],
)
def test_wrong_attributes_are_refused(opcode: Opcode, attrs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        emitted(opcode, *attrs)


def test_attributes_are_checked_for_each_opcode_that_has_them() -> None:
    builder = ProgramBuilder("unet", "exynos2400", "serial")
    view = Operand(0, Space.SRAM, 0, DType.INT16, (4, 4), (8, 2))
    builder.emit(EngineKind.TENSOR, 0, Opcode.MATMUL, [view], [view, view], 0, attrs=BIAS)
    with pytest.raises(InputError, match="COPY: there is no attribute 'bias'"):
        builder.emit(EngineKind.VECTOR, 0, Opcode.COPY, [view], [view], 0, attrs=BIAS)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (Kind.FLAG, [0, 1, True, False], [2, -1, 1.0, "1", None]),
        (Kind.NATURAL, [0, 7], [-1, True, 1.0]),
        (Kind.COUNT, [1, 7], [0, True, 2.0]),
        (Kind.REAL, [0, -1.5, 3], [True, "1"]),
        (Kind.NAME, ["", "x"], [1, None]),
        (Kind.NATURAL_PAIR, [(0, 1)], [(0,), (0, 1, 2), (0, -1), [0, 1], 0]),
        (Kind.COUNT_PAIR, [(1, 1)], [(0, 1), (1, 1.0)]),
        (Kind.INTEGERS_4, [(0, -1, 2, 3)], [(0, 1), (0, 1, 2, 3.0)]),
    ],
)
def test_kinds(kind: Kind, right: list[Any], wrong: list[Any]) -> None:
    attribute = Attribute("a", kind, "")
    assert all(attribute.accepts(value) for value in right)
    assert not any(attribute.accepts(value) for value in wrong)


def test_defaults_are_filled_in_and_do_not_replace_what_is_given() -> None:
    completed = SPECIFICATIONS[Opcode.MATMUL].complete((("scale", 0.5),))
    assert completed == {"accumulate": 0, "bias": 0, "scale": 0.5, "sums": 0}


def test_results_that_accumulate() -> None:
    def accumulates(opcode: Opcode, **attrs: Any) -> bool:
        s = SPECIFICATIONS[opcode]
        return s.accumulates(s.complete(tuple(attrs.items())))

    assert accumulates(Opcode.MATMUL, accumulate=1)
    assert accumulates(Opcode.CONV2D, accumulate=1)
    assert not accumulates(Opcode.MATMUL, sums=1)
    assert not accumulates(Opcode.MATMUL)
    assert accumulates(Opcode.CHANNEL_STATS, first=0)
    assert not accumulates(Opcode.CHANNEL_STATS, first=1)
    assert accumulates(Opcode.REDUCE, first=0)
    assert not accumulates(Opcode.REDUCE)
    assert not accumulates(Opcode.COPY)


def test_the_manual_is_up_to_date(repository_root: Path) -> None:
    path = repository_root / "docs" / "instructions.md"
    assert path.read_text() == opcode_manual(), (
        "write it anew: python -m edgefusion.runtime.opcode_manual > docs/instructions.md"
    )
