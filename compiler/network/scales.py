"""Scales of INT16 activations: from measured ranges to one number for each tensor of a program.

A scale is the real value of one step: symmetric, ``max|range| / 32767``. Tensors between which data
is moved and not computed (views, slices, transposes, copies) share one, for nothing on the way
would gain by another; ``scale_groups`` finds them. The inputs of a concatenation keep their own: it
rescales them to the widest among them. ``measured_tensors`` says what has to be measured,
``assign_scales`` makes the scales, ``with_scales`` puts them into a program, whose instructions do
not depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from edgefusion.compiler.network.kind import Scaling, constant_or_name
from edgefusion.compiler.network.network import NetOp, Network, operands, results, stage_names
from edgefusion.compiler.network.ranges import LEVELS, Range, Ranges
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import DType
from edgefusion.runtime.program import Program
from edgefusion.runtime.tensor_numbers import ROW_NORMALISED, steps_of

UNIT = 1.0
"""Largest value of a result that is at most 1, whatever was measured."""

SMALLEST_SCALE = 2.0**-100
"""Scale of a tensor that is always zero: scales are positive."""


def scale_groups(network: Network) -> dict[str, str]:
    """For every INT16 tensor of the network, the representative of those with the same scale."""
    named = (*network.inputs, *network.outputs, *(n for op in network.ops for n in _named(op)))
    parent = {name: name for name in named if _is_int16(network, name)}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for op in network.ops:
        shares = op.is_move and op.kind.scaling is Scaling.MOVED
        if shares and op.outputs[0] in parent:
            for name in op.inputs:
                if name in parent:
                    parent[find(name)] = find(op.outputs[0])
    return {name: find(name) for name in parent}


def measured_tensors(network: Network) -> tuple[str, ...]:
    """Names of the values whose ranges ``assign_scales`` wants, constants by their stored name.

    All are names of the graph's tensors or of ``expand_functions``. What a move makes from INT16
    is left out: its source says the same.
    """
    found: dict[str, None] = {}
    made = {name: op for op in network.ops for name in op.outputs}
    for name in scale_groups(network):
        op = made.get(name)
        if op is None or not _is_known(network, op):
            found[_measured_as(network, name, op)] = None
    for op in network.ops:
        if _is_int16(network, op.outputs[0]):
            inside = (*op.kind.measured_inside(op.name), *stage_names(op)[:-1])
            found.update(dict.fromkeys(inside))
    return tuple(found)


def assign_scales(network: Network, ranges: Ranges) -> dict[str, float]:
    """The scale of every INT16 tensor of the network and of its hidden ones, by name, but for the
    exponentials of attention, which have none.

    Raises:
        InputError: ``ranges`` lack a tensor: they were measured on another model.
    """
    groups = scale_groups(network)
    made = {name: op for op in network.ops for name in op.outputs}

    def measured(name: str) -> float:
        return _range(ranges, name).largest

    largest: dict[str, float] = {}
    for name, group in groups.items():
        op = made.get(name)
        if op is None or not _is_known(network, op):
            value = measured(_measured_as(network, name, op))
        elif op.kind.scaling is Scaling.UNIT:
            value = UNIT
        else:
            continue
        largest[group] = max(largest.get(group, 0.0), value)
    for op in network.ops:  # in order: an input may itself be a concatenation
        if op.kind.scaling is Scaling.WIDEST and _is_known(network, op):
            largest[groups[op.outputs[0]]] = max(largest[groups[name]] for name in op.inputs)
    enough: dict[str, float] = {}
    for op in network.ops:
        if not _is_int16(network, op.outputs[0]):
            continue
        for name, limit in op.kind.range_limits(op.name, measured).items():
            if name in groups:
                enough[groups[name]] = max(enough.get(groups[name], 0.0), limit)
    for group, limit in enough.items():
        largest[group] = min(largest[group], limit)
    scales = {name: _scale(largest[group]) for name, group in groups.items()}
    for op in network.ops:
        if not _is_int16(network, op.outputs[0]):
            continue
        for name in stage_names(op)[:-1]:
            scales[name] = _scale(measured(name))
        for name, value in op.kind.inner_ranges(op.name, measured).items():
            scales[name] = _scale(value)
    return scales


def with_scales(program: Program, scales: Mapping[str, float]) -> Program:
    """``program`` with the scales of its INT16 tensors filled in, but for exponentials.

    Raises:
        InputError: ``scales`` lack one of them, or one is not positive and finite.
    """
    records = []
    for record in program.tensors:
        if record.dtype != DType.INT16 or record.numbers == ROW_NORMALISED:
            records.append(record)
            continue
        scale = scales.get(record.name)
        if scale is None:
            raise _unknown(record.name)
        records.append(replace(record, numbers=steps_of(scale)))
    return replace(program, tensors=tuple(records))


def _named(op: NetOp) -> Iterator[str]:
    yield from operands(op)
    yield from (name for name in results(op) if name)


def _is_int16(network: Network, name: str) -> bool:
    return network.tensor(name).dtype == DType.INT16


def _is_known(network: Network, op: NetOp) -> bool:
    """Whether the scale of the op's result follows without measuring the result."""
    moved = op.is_move and all(_is_int16(network, name) for name in op.inputs if name)
    return moved or op.kind.scaling is Scaling.UNIT


def _measured_as(network: Network, name: str, maker: NetOp | None) -> str:
    """What tensor ``name`` is called where values are measured: a constant by its stored name,
    what was converted to INT16 by what it was converted from."""
    if maker is not None and maker.is_move:
        return maker.inputs[0]
    return constant_or_name(network.tensor(name))


def _scale(largest: float) -> float:
    return max(largest / LEVELS, SMALLEST_SCALE)


def _range(ranges: Ranges, name: str) -> Range:
    found = ranges.get(name)
    if found is None:
        raise _unknown(name)
    return found


def _unknown(name: str) -> InputError:
    return InputError(
        f"the calibration has no range for the tensor '{name}'; expected one for every INT16 "
        "tensor. It was made for another model or recipe: calibrate again."
    )
