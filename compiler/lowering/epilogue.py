"""Epilogues: what happens to a result tile in SRAM before it is stored.

Steps run on the vector engine, in place, in the order the network gives: additions of a residual or
of one value a channel, an activation, and channel statistics for a following GroupNorm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile, View
from edgefusion.compiler.lowering.rule import OpContext, columns, matrix
from edgefusion.compiler.network.network import stage_names
from edgefusion.runtime.isa import Opcode, Role


@dataclass(slots=True)
class EpilogueBuffers:
    """SRAM that an op's epilogue needs: a buffer per operand, and the running statistics.

    ``stages`` are the tensors that a result tile holds in turn: before the epilogue, and after each
    step.
    """

    context: OpContext
    operands: list[Buffer | None]
    statistics: Buffer | None
    stages: list[int]

    @classmethod
    def reserve(
        cls, e: Emitter, context: OpContext, tile_elements: int, tile_columns: int
    ) -> EpilogueBuffers:
        """Reserve for result tiles of ``tile_elements`` in all and ``tile_columns`` channels."""
        made: list[Buffer | None] = []
        statistics = None
        for i, step in enumerate(context.op.epilogue):
            if step.is_statistics:
                view = context.view(step.operand)
                statistics = e.buffer(
                    "stats", view.operand.elements, view.operand.dtype, streamed=False
                )
                made.append(None)
            elif step.operand:
                source = context.view(step.operand)
                full = not _is_channel_vector(source)
                elements = tile_elements if full else tile_columns
                made.append(e.buffer(f"epilogue{i}", elements, source.operand.dtype, streamed=full))
            else:
                made.append(None)
        stages = [context.view(name).operand.tensor for name in stage_names(context.op)]
        return cls(context, made, statistics, stages)

    def load_vectors(self, e: Emitter, channels: Tile, *, again: bool) -> None:
        """Load operands that hold one value a channel, for the channels of a tile."""
        for step, buffer in zip(self.context.op.epilogue, self.operands, strict=True):
            if buffer is not None and _is_channel_vector(self.context.view(step.operand)):
                source = _channels(self.context.view(step.operand), channels)
                buffer.next()
                e.load(buffer.view(source.operand.tensor, source.shape), source, again=again)

    def apply(
        self,
        e: Emitter,
        tile: View,
        starts: Sequence[int],
        channels: Tile,
        *,
        first: bool,
    ) -> View:
        """Run the epilogue on ``tile``, which holds the first of ``stages`` and begins at
        ``starts`` of the whole result. Returns the tile as the finished result.

        ``first`` says that no statistics of these channels have been collected yet.
        """
        stages = self.stages[1:]
        for step, buffer in zip(self.context.op.epilogue, self.operands, strict=True):
            if step.is_statistics:
                self._collect(e, tile, channels, first=first)
                continue
            result, stages = tile.as_tensor(stages[0]), stages[1:]
            if step.operand and buffer is not None:
                source = self.context.view(step.operand)
                if _is_channel_vector(source):
                    vector = buffer.view(source.operand.tensor, (channels.size,))
                    itemsize = source.operand.dtype.nbytes
                    zeros = (0,) * (len(tile.shape) - 1)
                    other = vector.strided(tile.shape, (*zeros, itemsize))
                else:
                    whole = source.reshape(*self._result_shape(tile))
                    part = whole.box(starts, tile.shape)
                    buffer.next()
                    other = buffer.view(source.operand.tensor, tile.shape)
                    e.load(other, part)
                attrs = (("function", step.function),)
                e.vector(Opcode.BINARY, result, [tile, other], attrs)
            else:
                e.vector(Opcode.UNARY, result, [tile], (("function", step.function),))
            tile = result
        return tile

    def finish(self, e: Emitter) -> None:
        """Store the statistics, once all tiles are done."""
        for step in self.context.op.epilogue:
            if step.is_statistics and self.statistics is not None:
                target = self.context.view(step.operand)
                e.store(target, self.statistics.view(target.operand.tensor, target.shape))

    def _collect(self, e: Emitter, tile: View, channels: Tile, *, first: bool) -> None:
        if self.statistics is None:
            raise ValueError("statistics were not reserved")
        step = next(s for s in self.context.op.epilogue if s.is_statistics)
        target = self.context.view(step.operand)
        sums = self.statistics.view(target.operand.tensor, target.shape)
        part = columns(sums, channels.start, channels.size)
        e.vector(Opcode.CHANNEL_STATS, part, [matrix(tile)], (("first", int(first)),))

    def _result_shape(self, tile: View) -> tuple[int, ...]:
        """The result's shape folded to the rank of its tiles."""
        shape = self.context.output().shape
        rank = len(tile.shape)
        if rank == 2:
            return matrix(self.context.output()).shape
        return shape[len(shape) - rank :]


def _is_channel_vector(view: View) -> bool:
    """Whether an operand holds one value a channel: all but the last axis have size 1."""
    return view.operand.elements == view.shape[-1] and view.role is not Role.SPILL


def _channels(view: View, channels: Tile) -> View:
    flat = view.reshape(view.operand.elements)
    return flat.box((channels.start,), (channels.size,))
