"""A recipe that should pass a gate: the least set of tensors to keep in FP16, by measured effect.

What an op's rounding does to the network's output (``models.sensitivity``) adds up over ops, as far
as errors of different ops are uncorrelated. So the ops are taken worst first until what is left,
the rounding to FP16 included, is below the gate. A tensor escapes INT16 only if all that read it
do: an op goes to FP16 together with its readers, through views, transposes and concatenations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgefusion.compiler.network import NetOp, Network, operands
from edgefusion.compiler.scales import is_move
from edgefusion.models.sensitivity import Contribution
from edgefusion.runtime.accuracy import decibels
from edgefusion.runtime.isa import DType

MARGIN_DB = 3.0
"""Between the prediction and the gate: errors are not quite uncorrelated, prompts differ."""

TOLERANCE_DB = 1.0
"""Where the gate is out of reach, ops that gain less than this together stay in INT16."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Ops of a component to run in FP16: those that do ``already`` and ``added`` ones, worst first.

    ``predicted_db`` is the least SQNR of the output over all timesteps that remains; ``reached``
    whether it meets the gate with its margin.
    """

    component: str
    already: tuple[str, ...]
    added: tuple[str, ...]
    predicted_db: float
    reached: bool

    def to_toml(self, comment: Iterable[str] = ()) -> str:
        """A recipe file."""
        lines = [f"# {line}" for line in comment]
        for op in (*self.already, *self.added):
            lines += ["", "[[rule]]", f'match = "{op}"', 'precision = "fp16"']
        return "\n".join(lines) + "\n"


def propose(
    network: Network, contributions: Mapping[tuple[str, int | None], Contribution], gate_db: float
) -> Proposal:
    """The recipe for ``network``; ``contributions`` to the noise of its output by op and timestep.

    Greedy: the tensor whose FP16 takes most noise away comes first; one that would add noise (its
    INT16 values are finer than FP16) is left alone.
    """
    limit = 10 ** (-(gate_db + MARGIN_DB) / 10)
    integer = {op.name for op in network.ops if _is_int16(network, op.outputs[0])}
    groups = {op.name: _with_readers(network, op) & integer for op in network.ops}
    gains: dict[str, float] = {}
    for (op, _), share in contributions.items():
        if op in integer:
            gains[op] = gains.get(op, 0.0) + share.as_is - share.in_fp16
    chosen: set[str] = set()
    added: list[str] = []
    path = [(_left(contributions, groups, integer, chosen), 0)]
    for op in sorted(gains, key=lambda name: gains[name], reverse=True):
        after = _left(contributions, groups, integer, chosen | groups[op])
        if path[-1][0] > limit and after < path[-1][0]:
            added += [o.name for o in network.ops if o.name in groups[op] - chosen]
            chosen |= groups[op]
            path.append((after, len(added)))
    enough = max(limit, path[-1][0] * 10 ** (TOLERANCE_DB / 10))
    left, count = next(step for step in path if step[0] <= enough)
    already = tuple(op.name for op in network.ops if _is_half(network, op))
    return Proposal(network.name, already, tuple(added[:count]), decibels(1.0, left), left <= limit)


def _left(
    contributions: Mapping[tuple[str, int | None], Contribution],
    groups: Mapping[str, set[str]],
    integer: set[str],
    chosen: set[str],
) -> float:
    """The worst timestep's noise if the ``chosen`` ones of the ``integer`` ops run in FP16."""
    by_timestep: dict[int | None, float] = {}
    for (op, timestep), share in contributions.items():
        noise = share.as_is
        if op in integer and op in chosen:
            stays = 0.0 if groups[op] <= chosen else share.as_is  # a reader converts it to INT16
            noise = share.in_fp16 + stays
        by_timestep[timestep] = by_timestep.get(timestep, 0.0) + noise
    return max(by_timestep.values(), default=0.0)


def _with_readers(network: Network, op: NetOp) -> set[str]:
    """``op`` and all that read what it makes, wherever that is moved; conversions left out."""
    found, open_ops = {op.name}, [op]
    while open_ops:
        current = open_ops.pop()
        for reader in network.ops:
            if reader.name in found or not set(current.outputs) & set(operands(reader)):
                continue
            found.add(reader.name)
            if is_move(reader):
                open_ops.append(reader)
    return {name for name in found if not name.endswith(":convert")}


def _is_half(network: Network, op: NetOp) -> bool:
    """Whether ``op`` computes in FP16 by a rule of its own."""
    half = network.tensor(op.outputs[0]).dtype is DType.FP16
    return half and op.kind != "host" and not op.name.endswith(":convert")


def _is_int16(network: Network, tensor: str) -> bool:
    return network.tensor(tensor).dtype is DType.INT16
