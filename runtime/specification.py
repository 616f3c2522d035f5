"""What a specification of an opcode says: its operands, attributes, engine, cost and kernels.

The specifications themselves are in ``runtime.opcodes``. An attribute that an instruction leaves
out has its default; ``Specification.complete`` fills it in, so that no reader has one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, StrEnum
from typing import Any

from edgefusion.runtime.isa import EngineKind, Space

Attrs = tuple[tuple[str, Any], ...]
"""The attributes of an instruction by name, in the order in which they were given."""


class Kind(Enum):
    """What values an attribute takes; the value says it in words."""

    FLAG = "0 or 1"
    NATURAL = "an integer of at least 0"
    COUNT = "an integer of at least 1"
    REAL = "a number"
    NAME = "a name"
    NATURAL_PAIR = "two integers of at least 0"
    COUNT_PAIR = "two integers of at least 1"
    INTEGERS_4 = "four integers"

    def accepts(self, value: object) -> bool:
        """Whether ``value`` is one of them."""
        match self:
            case Kind.FLAG:
                return isinstance(value, int) and value in (0, 1)
            case Kind.NATURAL:
                return _is_integer(value, 0)
            case Kind.COUNT:
                return _is_integer(value, 1)
            case Kind.REAL:
                return isinstance(value, int | float) and not isinstance(value, bool)
            case Kind.NAME:
                return isinstance(value, str)
            case Kind.NATURAL_PAIR:
                return _are_integers(value, 2, 0)
            case Kind.COUNT_PAIR:
                return _are_integers(value, 2, 1)
            case Kind.INTEGERS_4:
                return _are_integers(value, 4, None)


def _is_integer(value: object, least: int | None) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return least is None or value >= least


def _are_integers(value: object, count: int, least: int | None) -> bool:
    if not isinstance(value, tuple) or len(value) != count:
        return False
    return all(_is_integer(each, least) for each in value)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of an opcode; ``default`` None means that every instruction must give it.

    ``choices`` are all values that it takes, where there are few.
    """

    name: str
    kind: Kind
    meaning: str
    default: Any = None
    choices: tuple[str, ...] = ()

    @property
    def is_required(self) -> bool:
        """Whether an instruction without it is wrong."""
        return self.default is None

    @property
    def expected(self) -> str:
        """The values that it takes, in words."""
        return f"one of {', '.join(self.choices)}" if self.choices else self.kind.value

    def accepts(self, value: object) -> bool:
        """Whether ``value`` is one of them."""
        return self.kind.accepts(value) and (not self.choices or value in self.choices)


@dataclass(frozen=True, slots=True)
class OperandForm:
    """An operand of an opcode and its shape, in the letters of the opcode's summary.

    It may be there ``when`` a flag says so, be ``optional`` (its neighbours tell), or be
    ``repeated`` any number of times. A result that is also read, ``read_when`` a flag says so or
    ``read_unless`` one does, accumulates over instructions.
    """

    name: str
    shape: str = ""
    when: str = ""
    optional: bool = False
    repeated: bool = False
    read_when: str = ""
    read_unless: str = ""

    def counts(self, attrs: Mapping[str, Any]) -> tuple[int, int | None]:
        """How often it occurs under complete ``attrs``: at least, at most (None: no limit)."""
        if self.repeated:
            return 0, None
        if self.when:
            return (1, 1) if attrs[self.when] else (0, 0)
        return (0, 1) if self.optional else (1, 1)

    def is_read(self, attrs: Mapping[str, Any]) -> bool:
        """Whether this result carries a value into an instruction with complete ``attrs``."""
        if self.read_when:
            return bool(attrs[self.read_when])
        return bool(self.read_unless) and not attrs[self.read_unless]


class Counted(Enum):
    """The elements that a vector instruction pays for; the value says it in words."""

    OUTPUT = "elements of the result"
    INPUT = "elements of the first input"
    WINDOWS = "elements of the result times the area of attribute kernel"


class Family(StrEnum):
    """The kernels of an opcode, one for the types of the first input and the first output."""

    INT = "int"
    FP16 = "fp16"
    FLOAT_TO_INT = "float to int"


CostClass = Callable[[str], str]
"""From the attribute ``function`` to one of ``isa.VECTOR_FUNCTIONS``."""


@dataclass(frozen=True, slots=True)
class Specification:
    """All that is known of an opcode but what its kernels compute.

    ``cost_class`` is one of ``isa.VECTOR_FUNCTIONS``, or picks one by the attribute ``function``;
    only the vector engine has them, and only its elements are ``counted``. An opcode without
    ``families`` is the executor's own business. Integers of one that is ``tabulated`` go through a
    table. Operands lie in the spaces given.
    """

    summary: str
    engine: EngineKind
    outputs: tuple[OperandForm, ...]
    inputs: tuple[OperandForm, ...]
    attributes: tuple[Attribute, ...] = ()
    cost_class: str | CostClass = ""
    counted: Counted = Counted.OUTPUT
    families: tuple[Family, ...] = ()
    tabulated: bool = False
    output_space: Space = Space.SRAM
    input_space: Space = Space.SRAM

    def fault(self, attrs: Attrs) -> str:
        """What is wrong with ``attrs`` in words, '' if nothing is."""
        known = {attribute.name: attribute for attribute in self.attributes}
        seen: set[str] = set()
        for name, value in attrs:
            if name not in known:
                return f"there is no attribute {name!r}{self._hint(name)}"
            if name in seen:
                return f"attribute {name!r} is given twice"
            seen.add(name)
            if not known[name].accepts(value):
                return f"expected attribute {name!r} to be {known[name].expected}, found {value!r}"
        for name, attribute in known.items():
            if attribute.is_required and name not in seen:
                return f"the attribute {name!r} is missing; expected {attribute.expected}"
        return ""

    def complete(self, attrs: Attrs) -> dict[str, Any]:
        """``attrs`` by name, with the defaults of those that are left out."""
        made = {a.name: a.default for a in self.attributes if not a.is_required}
        made.update(attrs)
        return made

    def output_counts(self, attrs: Mapping[str, Any]) -> tuple[int, int | None]:
        """How many outputs an instruction with complete ``attrs`` has: at least, at most."""
        return _total(form.counts(attrs) for form in self.outputs)

    def input_counts(self, attrs: Mapping[str, Any]) -> tuple[int, int | None]:
        """How many inputs an instruction with complete ``attrs`` has: at least, at most."""
        return _total(form.counts(attrs) for form in self.inputs)

    def accumulates(self, attrs: Mapping[str, Any]) -> bool:
        """Whether an instruction with complete ``attrs`` reads its first output."""
        return any(form.is_read(attrs) for form in self.outputs)

    def cost_class_of(self, function: str) -> str:
        """The cost class of an instruction whose attribute ``function`` is this ('' for none)."""
        return self.cost_class if isinstance(self.cost_class, str) else self.cost_class(function)

    def _hint(self, name: str) -> str:
        """What could be meant by an attribute ``name`` that does not exist."""
        names = [attribute.name for attribute in self.attributes]
        if not names:
            return "; this opcode has none"
        close = get_close_matches(name, names, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{meant}; expected {', '.join(names)}"


def _total(counts: Iterator[tuple[int, int | None]]) -> tuple[int, int | None]:
    least, most = 0, 0
    limited = True
    for low, high in counts:
        least += low
        most += high or 0
        limited = limited and high is not None
    return least, most if limited else None
