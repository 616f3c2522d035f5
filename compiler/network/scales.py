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
from dataclasses import dataclass, replace

from edgefusion.compiler.lowering.attention import score_tensor
from edgefusion.compiler.network.network import NetOp, Network, operands, results, stage_names
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import DType
from edgefusion.runtime.program import Program
from edgefusion.runtime.tensor_numbers import ROW_NORMALISED, steps_of

LEVELS = 32767
"""Steps from zero to the largest value of an INT16 activation."""

PROBABILITY = 1.0
"""Largest value that a softmax of its own makes, whatever was measured. Scores behind the softmax
of an attention op have no scale at all: lowering leaves them exponentials."""

SMALLEST_SCALE = 2.0**-100
"""Scale of a tensor that is always zero: scales are positive."""

MASK_MARGIN = 24.0
"""exp(-24) is below half a step of a probability, even times 4096: a masked score this far below
the lowest score is as good as minus infinity, and a wider range would only cost resolution."""

_MOVES = frozenset({"view", "concat", "slice", "transpose", "resize"})


@dataclass(frozen=True, slots=True)
class Range:
    """The lowest and the highest value that a tensor takes."""

    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high)


Ranges = Mapping[str, Range]


def masked_tensor(op_name: str) -> str:
    """Name of an attention op's scores behind the mask, which the network has no tensor for."""
    return f"{op_name}:scores_masked"


def is_move(op: NetOp) -> bool:
    """Whether the results of ``op`` hold nothing but values of its inputs."""
    maximum = op.kind == "pool" and op.attrs["function"] == "max"
    return not op.epilogue and (op.kind in _MOVES or maximum)


def scale_groups(network: Network) -> dict[str, str]:
    """For every INT16 tensor of the network, the representative of those with the same scale."""
    names = (*network.inputs, *network.outputs, *(n for op in network.ops for n in _named(op)))
    parent = {name: name for name in names if _is_int16(network, name)}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for op in network.ops:
        if is_move(op) and op.kind != "concat" and op.outputs[0] in parent:
            for name in op.inputs:
                if name in parent:
                    parent[find(name)] = find(op.outputs[0])
    return {name: find(name) for name in parent}


def measured_tensors(network: Network) -> tuple[str, ...]:
    """Names of the values whose ranges ``assign_scales`` wants, constants by their stored name.

    All are names of the graph's tensors or of ``expand_functions``. What a move makes from INT16
    is left out: its source says the same.
    """
    names: dict[str, None] = {}
    made = {name: op for op in network.ops for name in op.outputs}
    for name in scale_groups(network):
        op = made.get(name)
        if op is None or not _is_known(network, op):
            names[_measured_as(network, name, op)] = None
    for op in network.ops:
        names.update(dict.fromkeys(_hidden(network, op)))
    return tuple(names)


def assign_scales(network: Network, ranges: Ranges) -> dict[str, float]:
    """The scale of every INT16 tensor of the network and of its hidden ones, by name, but for the
    exponentials of attention, which have none.

    Raises:
        InputError: ``ranges`` lack a tensor: they were measured on another model.
    """
    groups = scale_groups(network)
    made = {name: op for op in network.ops for name in op.outputs}
    largest: dict[str, float] = {}
    for name, group in groups.items():
        op = made.get(name)
        if op is None or not _is_known(network, op):
            value = _range(ranges, _measured_as(network, name, op)).largest
        elif op.kind == "softmax":
            value = PROBABILITY
        else:
            continue
        largest[group] = max(largest.get(group, 0.0), value)
    for op in network.ops:  # in order: an input may itself be a concatenation
        if op.kind == "concat" and _is_known(network, op):
            largest[groups[op.outputs[0]]] = max(largest[groups[name]] for name in op.inputs)
    _bound_masks(network, ranges, groups, largest)
    scales = {name: _scale(largest[group]) for name, group in groups.items()}
    for op in network.ops:
        if not _is_int16(network, op.outputs[0]):
            continue
        for name in stage_names(op)[:-1]:
            scales[name] = _scale(_range(ranges, name).largest)
        if op.kind == "attention":
            scales[score_tensor(op.name, "in")] = _scale(_score_range(op, ranges))
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
    moved = is_move(op) and all(_is_int16(network, name) for name in op.inputs if name)
    return moved or op.kind == "softmax"


def _measured_as(network: Network, name: str, maker: NetOp | None) -> str:
    """What tensor ``name`` is called where values are measured: a constant by its stored name,
    what was converted to INT16 by what it was converted from."""
    if maker is not None and is_move(maker):
        return maker.inputs[0]
    return network.tensor(name).constant or name


def _hidden(network: Network, op: NetOp) -> tuple[str, ...]:
    """Values inside ``op`` whose range decides a scale."""
    if not _is_int16(network, op.outputs[0]):
        return ()
    if op.kind != "attention":
        return stage_names(op)[:-1]
    scores = score_tensor(op.name, "in")
    return (scores, masked_tensor(op.name)) if _mask(op) else (scores,)


def _mask(op: NetOp) -> str:
    """Name of an attention op's mask, '' if it has none."""
    return op.inputs[3] if op.kind == "attention" and len(op.inputs) > 3 else ""


def _score_range(op: NetOp, ranges: Ranges) -> float:
    """Largest score that must be told apart, before the mask and behind it."""
    plain = _range(ranges, score_tensor(op.name, "in")).largest
    if not _mask(op):
        return plain
    masked = _range(ranges, masked_tensor(op.name)).largest
    return max(plain, min(masked, plain + MASK_MARGIN))


def _bound_masks(
    network: Network, ranges: Ranges, groups: Mapping[str, str], largest: dict[str, float]
) -> None:
    """Minus infinity in a mask needs a number that puts every score out of reach, no more."""
    enough: dict[str, float] = {}
    for op in network.ops:
        if _mask(op) in groups:
            plain = _range(ranges, score_tensor(op.name, "in")).largest
            group = groups[_mask(op)]
            enough[group] = max(enough.get(group, 0.0), 2 * plain + MASK_MARGIN)
    for group, limit in enough.items():
        largest[group] = min(largest[group], limit)


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
