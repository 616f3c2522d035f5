"""A recipe that should pass a gate: the least set of tensors to keep in FP16, by measured effect.

What an op's rounding does to the network's output (``sensitivity``) adds up over ops, as
far as errors of different ops are uncorrelated. So the ops are taken worst first until what INT16
leaves is below the gate. A tensor escapes INT16 only if all that read it do: an op goes to FP16
together with its readers, through views, transposes and concatenations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from edgefusion.compiler.graph.names import is_conversion
from edgefusion.compiler.network.network import NetOp, Network, operands
from edgefusion.runtime.accuracy import decibels
from edgefusion.runtime.isa import DType
from edgefusion.toolchain.accuracy.sensitivity import Contribution

MARGIN_DB = 3.0
"""Between what INT16 may leave and the gate: errors are not quite uncorrelated, FP16 rounds too."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Ops of a component to run in FP16: those that do ``already`` and ``added`` ones, worst first.

    ``predicted_db`` is the least SQNR of the output over all timesteps, rounding to FP16 included;
    ``reached`` whether it meets the gate.
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
    network: Network, contributions: Mapping[tuple[str, float | None], Contribution], gate_db: float
) -> Proposal:
    """The recipe for ``network``; ``contributions`` to the noise of its output by op and timestep.

    Tensors leave INT16 worst first until its noise is below the gate by the margin. What FP16 makes
    of them then is in the prediction: where that alone exceeds the gate, no recipe reaches it.
    """
    limit = 10 ** (-(gate_db + MARGIN_DB) / 10)
    integer = {op.name for op in network.ops if _is_int16(network, op.outputs[0])}
    groups = {op.name: _with_readers(network, op) & integer for op in network.ops}
    shares: dict[str, float] = {}
    for (op, _), share in contributions.items():
        if op in integer:
            shares[op] = shares.get(op, 0.0) + share.as_is
    int16 = {key: Contribution(s.as_is) for key, s in contributions.items() if key[0] in integer}
    added: dict[str, None] = {}
    for op in sorted(shares, key=lambda name: shares[name], reverse=True):
        if _noise(int16, groups, integer, added.keys()) <= limit:
            break
        added.update(dict.fromkeys(o.name for o in network.ops if o.name in groups[op]))
    left = _noise(contributions, groups, integer, added.keys())
    already = tuple(op.name for op in network.ops if _is_half(network, op))
    return Proposal(
        network.name, already, tuple(added), decibels(1.0, left), left <= 10 ** (-gate_db / 10)
    )


def _noise(
    contributions: Mapping[tuple[str, float | None], Contribution],
    groups: Mapping[str, set[str]],
    integer: set[str],
    chosen: Set[str],
) -> float:
    """The worst timestep's noise if the ``chosen`` ones of the ``integer`` ops run in FP16."""
    by_timestep: dict[float | None, float] = {}
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
            if reader.is_move:
                open_ops.append(reader)
    return {name for name in found if not is_conversion(name)}


def _is_half(network: Network, op: NetOp) -> bool:
    """Whether ``op`` computes in FP16 by a rule of its own."""
    half = network.tensor(op.outputs[0]).dtype is DType.FP16
    return half and op.kind.on_npu and not is_conversion(op.name)


def _is_int16(network: Network, tensor: str) -> bool:
    return network.tensor(tensor).dtype is DType.INT16
