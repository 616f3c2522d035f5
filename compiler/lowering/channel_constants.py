"""Constants with one value an output channel, loaded with each tile of channels."""

from __future__ import annotations

from dataclasses import dataclass

from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile
from edgefusion.compiler.lowering.rule import OpContext
from edgefusion.compiler.lowering.view import View


@dataclass(slots=True)
class ChannelConstant:
    """A bias, or the scales of INT8 weights."""

    buffer: Buffer
    source: View
    whole: bool

    def current(self, c: Tile) -> View:
        """The channels ``c`` in SRAM."""
        if self.whole:
            there = self.buffer.view(self.source.operand.tensor, self.source.shape)
            return there.box((c.start,), (c.size,))
        return self.buffer.view(self.source.operand.tensor, (c.size,))


def reserve_constants(
    e: Emitter,
    context: OpContext,
    weights: str,
    bias: str,
    size: int,
    *,
    streamed: bool,
    of: str = "",
) -> list[ChannelConstant]:
    """Buffers for the bias ('' for none) and the scales of ``weights``, ``size`` channels each (all
    of them, if that is how many there are); ``of`` tells those of one part of the weights from
    others."""
    scale = context.tensors[weights].scale_tensor
    made = []
    for label, name in (("bias", bias), ("scale", scale)):
        if name:
            source = context.view(name)
            flat = source.reshape(source.operand.elements)
            buffer = e.buffer(of + label, size, flat.operand.dtype, streamed=streamed)
            made.append(ChannelConstant(buffer, flat, size == flat.shape[0]))
    return made


def load_constants(e: Emitter, constants: list[ChannelConstant], c: Tile, *, again: bool) -> None:
    """Load the constants of channel tile ``c``."""
    for constant in constants:
        constant.buffer.next()
        e.load(constant.current(c), constant.source.box((c.start,), (c.size,)), again=again)
