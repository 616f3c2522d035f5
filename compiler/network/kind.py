"""What an op is: one frozen dataclass for each kind, which answers every question asked about it.

A kind's fields are its operands, by the tensors' names, and its attributes, typed. What it computes
stands in the first lines of its docstring. Tiling, DRAM plan, scales, remarks, host placement and
reports ask here and nowhere branch on a kind; how a kind becomes instructions it says as a
``lowering.rule.LoweredKind``. All kinds are in ``compiler.ops``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from functools import cache
from typing import Any, ClassVar

from edgefusion.compiler.network.ranges import Ranges, ScaleRemark
from edgefusion.compiler.network.tensor import NetTensor, Tensors
from edgefusion.compiler.network.window import Span

Shape = tuple[int, ...]


class Use(Enum):
    """What an operand is to its op. With the op's precision it decides the element type."""

    ACTIVATION = auto()
    WEIGHT = auto()
    BIAS = auto()
    NORM = auto()
    """Scale or shift of a normalisation."""
    STATISTICS = auto()
    """Sums that another op has made of an activation."""


class Scaling(Enum):
    """Where the scale of a kind's INT16 result comes from."""

    MEASURED = auto()
    """Values are computed; their range is measured."""
    MOVED = auto()
    """The result holds nothing but values of the inputs, in their steps."""
    WIDEST = auto()
    """Values are moved, and rescaled to the widest input's steps."""
    UNIT = auto()
    """Values are at most 1, whatever was measured."""


@dataclass(frozen=True, slots=True)
class Inner:
    """A value inside an op. Schedules that keep it in SRAM give it a name and a scale, no bytes;
    one that spills it gives it ``shape`` in DRAM. Integers that are ``row_normalised`` are divided
    by the sums of their rows, and have no scale."""

    name: str
    shape: Shape
    row_normalised: bool = False


@dataclass(frozen=True, slots=True)
class Accumulation:
    """``depth`` products of an INT16 activation with up to ``levels`` are summed unrounded."""

    depth: int
    levels: int


def operand(use: Use = Use.ACTIVATION, *, optional: bool = False) -> Any:
    """A field that names a tensor; '' where an optional one is absent."""
    metadata = {"use": use, "many": False}
    return field(default="", metadata=metadata) if optional else field(metadata=metadata)


def operand_list(use: Use = Use.ACTIVATION, *, optional: bool = False) -> Any:
    """A field that names any number of tensors; none where optional ones are absent."""
    metadata = {"use": use, "many": True}
    return field(default=(), metadata=metadata) if optional else field(metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The base of all kinds: the answers that most of them give."""

    name: ClassVar[str]
    """As programs, reports and SUPPORTED_OPS.md call it."""
    has_epilogue: ClassVar[bool] = False
    """Whether steps may be applied to its result tiles before they leave SRAM."""
    is_view: ClassVar[bool] = False
    """Whether the result is the operand's memory under another shape."""
    on_npu: ClassVar[bool] = True
    is_element_work: ClassVar[bool] = False
    """Whether on few elements it is not worth a trip between host and NPU."""

    @classmethod
    @cache
    def operand_fields(cls) -> Mapping[str, tuple[Use, bool]]:
        """The fields that name tensors: what each is used for, and whether it is a list."""
        named = (f for f in fields(cls) if "use" in f.metadata)
        return {f.name: (f.metadata["use"], f.metadata["many"]) for f in named}

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the operands in order, '' for an absent optional one."""
        return tuple(name for key in self.operand_fields() for name in self._named(key))

    def _named(self, key: str) -> tuple[str, ...]:
        """The tensors that a field of operands names."""
        _, many = self.operand_fields()[key]
        return tuple(getattr(self, key)) if many else (getattr(self, key),)

    @classmethod
    def summary(cls) -> str:
        """Operands, results and attributes on one line: what the class says of itself."""
        assert cls.__doc__, "a kind's docstring is what users read"
        return " ".join(cls.__doc__.split())

    def operands_for(self, use: Use) -> tuple[str, ...]:
        """Names of the operands that are present and used as ``use``."""
        keys = (key for key, (own, _) in self.operand_fields().items() if own is use)
        return tuple(name for key in keys for name in self._named(key) if name)

    @property
    def attributes(self) -> dict[str, Any]:
        """The fields that are no operands."""
        named = self.operand_fields()
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in named}

    @property
    def scaling(self) -> Scaling:
        """Where the scale of its result comes from."""
        return Scaling.MEASURED

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape | None:
        """The result's shape from those of the operands by name; None where the operands leave it
        open (views, host functions)."""
        raise NotImplementedError

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Axes of the result along which stripes can be computed by themselves, each with the
        multiple at which stripes begin. Every axis, unless a kind says otherwise."""
        return dict.fromkeys(range(len(result)), 1)

    def needs(
        self,
        shapes: Mapping[str, Shape],
        result: Shape,
        axis: int,
        span: Span,
    ) -> Mapping[str, tuple[int, Span]]:
        """What the stripe ``span`` of the result along ``axis``, one of ``cuts``, reads: by field
        of the operand, along which of its axes and from where to where. Operands that are left out
        are needed whole."""
        raise NotImplementedError

    def touched(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[str, int]:
        """Elements that the whole result reads, by field, of operands not read whole."""
        return {}

    def least_bytes(self, macs: int, sram_bytes: int) -> int:
        """Bytes that must cross the bus whatever fits, by a bound that the size of SRAM sets."""
        return 0

    def inner(self, op_name: str, tensors: Tensors) -> tuple[Inner, ...]:
        """Values inside the op that the program names, epilogue stages aside."""
        return ()

    def measured_inside(self, op_name: str) -> tuple[str, ...]:
        """Values inside the op whose ranges decide a scale."""
        return ()

    def inner_ranges(self, op_name: str, largest: Callable[[str], float]) -> Mapping[str, float]:
        """The largest magnitude that each inner value has to hold, from those measured."""
        return {}

    def range_limits(self, op_name: str, largest: Callable[[str], float]) -> Mapping[str, float]:
        """By operand, a magnitude beyond which values need not be told apart."""
        return {}

    def accumulation(self, tensors: Tensors) -> Accumulation | None:
        """The sums of products that must fit the accumulator whatever the values are."""
        return None

    def collects_statistics(self, tensors: Tensors) -> bool:
        """Whether sums of its result's channels can be collected with its tiles."""
        return self.has_epilogue

    @property
    def summed(self) -> str:
        """The operand of which it makes sums that another op could hand it; '' for none."""
        return ""

    def with_statistics(self, *names: str) -> Kind:
        """The kind that reads the sums of ``summed`` from the tensors ``names``, channels side by
        side."""
        raise NotImplementedError

    def side_by_side(self, tensors: Tensors) -> tuple[str, ...]:
        """The operands that the result's channels are those of, one after the other; none where
        channels are computed."""
        return ()

    def joined(self, maker: Kind) -> Kind | None:
        """The kind that computes what ``maker`` makes, and this of it; None if there is none."""
        return None

    def tabulated(self) -> tuple[tuple[str, str], ...]:
        """Operands that go through a table, each with the function's name."""
        return ()

    def remarks(self, op_name: str, tensors: Tensors, ranges: Ranges) -> Iterator[ScaleRemark]:
        """What of these ranges makes INT16 arithmetic in this op unsafe or coarse."""
        return iter(())


def shapes_of(kind: Kind, tensors: Tensors) -> dict[str, Shape]:
    """Shapes by field of the operands that are present; lists by ``field[0]``, ``field[1]``, ..."""
    shapes: dict[str, Shape] = {}
    for key, (_, many) in kind.operand_fields().items():
        value = getattr(kind, key)
        if many:
            shapes |= {f"{key}[{i}]": tensors[name].shape for i, name in enumerate(value)}
        elif value:
            shapes[key] = tensors[value].shape
    return shapes


def operand_name(kind: Kind, key: str) -> str:
    """The tensor that ``key`` of ``shapes_of`` stands for."""
    label, bracket, rest = key.partition("[")
    value = getattr(kind, label)
    name: str = value[int(rest[:-1])] if bracket else value
    return name


def parts_of(shapes: Mapping[str, Shape], axis: int, span: Span) -> dict[str, tuple[int, Span]]:
    """What of operands that lie one after the other along ``axis`` is in the ``span`` of all."""
    found, begin = {}, 0
    for key, shape in shapes.items():
        start, stop = (min(max(at - begin, 0), shape[axis]) for at in (span.start, span.stop))
        found[key] = axis, Span(start, stop - start)
        begin += shape[axis]
    return found


def along(shape: Shape, result: Shape, axis: int, span: Span) -> tuple[int, Span] | None:
    """Where an operand that broadcasts to the result, axes counted from the last, has the stripe
    ``span`` of ``axis``; None if it repeats along that axis, and so is needed whole."""
    own = axis - len(result) + len(shape)
    return (own, span) if own >= 0 and shape[own] == result[axis] else None


def constant_or_name(tensor: NetTensor) -> str:
    """What a tensor is called where values are measured: a constant by its stored name."""
    return tensor.constant or tensor.name
