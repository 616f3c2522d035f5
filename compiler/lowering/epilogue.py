"""Epilogues: what happens to a result tile in SRAM before it is stored.

Steps run on the vector engine, in place, in the order the network gives: additions of a residual or
of one value a channel, an activation, and channel statistics for a GroupNorm that follows. Where it
normalises a concatenation, they are of a copy of the tile, in the steps of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile
from edgefusion.compiler.lowering.rule import OpContext, columns, matrix
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.network import NetOp, stage_names
from edgefusion.runtime.isa import DType, EngineKind, Opcode, Role


@dataclass(slots=True)
class EpilogueBuffers:
    """SRAM that an op's epilogue needs: for each step a buffer of its operand, or of the running
    statistics; for each step that needs one, a ``copy`` of a tile.

    ``stages`` are the tensors that a result tile holds in turn: before the epilogue, and after each
    step. Statistics add up rows in order, which tiles narrower than a line of the image are not in:
    with these, finished rows are read once more at the end, through ``late``.
    """

    context: OpContext
    operands: list[Buffer | None]
    copies: list[Buffer | None]
    stages: list[int]
    in_order: bool
    late: Buffer | None

    @staticmethod
    def changes(op: NetOp) -> bool:
        """Whether the finished result is another tile than the one that is computed first."""
        return any(not step.is_statistics for step in op.epilogue)

    @classmethod
    def reserve(
        cls,
        e: Emitter,
        context: OpContext,
        tile_elements: int,
        tile_columns: int,
        *,
        in_order: bool = True,
    ) -> EpilogueBuffers:
        """Reserve for result tiles of ``tile_elements`` in all and ``tile_columns`` channels, which
        come in the order of their rows or not."""
        made: list[Buffer | None] = []
        copies: list[Buffer | None] = []
        dtype = context.output().operand.dtype
        for i, step in enumerate(context.op.epilogue):
            buffer = copy = None
            if step.is_statistics:
                sums = context.view(step.operand).operand
                label = f"like{i}.stats" if step.like else "stats"
                buffer = e.buffer(label, sums.elements, sums.dtype, streamed=False)
                if step.like and dtype is DType.INT16:  # others have no steps of their own
                    # One is enough for one engine, which reads it before it makes the next.
                    several = e.machine.engines[EngineKind.VECTOR] > 1
                    copy = e.buffer(f"like{i}", tile_elements, dtype, streamed=several)
            elif step.operand:
                source = context.view(step.operand)
                full = not _is_channel_vector(source)
                elements = tile_elements if full else tile_columns
                whole = elements == source.operand.elements
                buffer = e.input_buffer(f"epilogue{i}", elements, source, streamed=not whole)
            made.append(buffer)
            copies.append(copy)
        stages = [context.view(name).operand.tensor for name in stage_names(context.op)]
        late = None
        if not in_order and any(step.is_statistics for step in context.op.epilogue):
            late = e.input_buffer("late", matrix(context.output()).shape[1], context.output())
        return cls(context, made, copies, stages, in_order, late)

    def load_vectors(self, e: Emitter, channels: Tile, *, again: bool) -> None:
        """Load operands that hold one value a channel, for the channels of a tile."""
        for step, buffer in zip(self.context.op.epilogue, self.operands, strict=True):
            if step.is_statistics:
                continue
            if buffer is not None and _is_channel_vector(self.context.view(step.operand)):
                source = _channels(self.context.view(step.operand), channels)
                e.bring(buffer, source, again=again)

    def apply(
        self,
        e: Emitter,
        tile: View,
        starts: Sequence[int],
        channels: Tile,
        target: View,
        *,
        first: bool,
    ) -> View:
        """Run the epilogue on ``tile``, which holds the first of ``stages``, begins at ``starts``
        of the whole result, and will be ``target``. Returns the tile as the finished result, in
        its place if that is in SRAM.

        ``first`` says that no statistics of these channels have been collected yet.
        """
        stages = self.stages[1:]
        for i, step in enumerate(self.context.op.epilogue):
            buffer = self.operands[i]
            if step.is_statistics:
                if self.in_order:
                    self._collect(e, i, tile, channels, first=first)
                continue
            stage, stages = stages[0], stages[1:]
            place = target if target.in_sram and not stages else tile
            result = place.as_tensor(stage)
            if step.operand:
                source = self.context.view(step.operand)
                if _is_channel_vector(source):
                    vector = _channels(source, channels)
                    if buffer is not None:
                        vector = buffer.view(source.operand.tensor, (channels.size,))
                    itemsize = source.operand.dtype.nbytes
                    zeros = (0,) * (len(tile.shape) - 1)
                    other = vector.strided(tile.shape, (*zeros, itemsize))
                else:
                    whole = source.reshape(*self._result_shape(tile))
                    other = e.bring(buffer, whole.box(starts, tile.shape))
                attrs = (("function", step.function),)
                e.vector(Opcode.BINARY, result, [tile, other], attrs)
            else:
                e.vector(Opcode.UNARY, result, [tile], (("function", step.function),))
            tile = result
        return tile

    def finish(self, e: Emitter) -> None:
        """Store the statistics, once all tiles are done."""
        if not self.in_order:
            self._collect_late(e)
        for i, step in enumerate(self.context.op.epilogue):
            if step.is_statistics:
                e.store(self.context.view(step.operand), self._sums(i))

    def _collect_late(self, e: Emitter) -> None:
        y = matrix(self.context.output())
        rows = y.shape[0] if self.late is None else 1
        self.in_order = True
        for r in e.tiles(y.shape[0], rows):
            part = y.box((r.start, 0), (r.size, y.shape[1]))
            tile = e.bring(self.late, part, again=True)
            self.collect_all(e, tile, Tile(0, 0, y.shape[1]), first=r.start == 0)

    def collect_all(self, e: Emitter, tile: View, channels: Tile, *, first: bool) -> None:
        """Add a finished tile to all statistics that are wanted."""
        for i, step in enumerate(self.context.op.epilogue):
            if step.is_statistics:
                self._collect(e, i, tile, channels, first=first)

    def _collect(self, e: Emitter, i: int, tile: View, channels: Tile, *, first: bool) -> None:
        """Add a finished tile to the statistics of one step."""
        copy = self.copies[i]
        if copy is not None:
            like = self.context.view(self.context.op.epilogue[i].like).operand.tensor
            copy.next()
            place = copy.view(like, tile.shape)
            e.vector(Opcode.COPY, place, [tile])
            tile = place
        part = columns(self._sums(i), channels.start, channels.size)
        e.vector(Opcode.CHANNEL_STATS, part, [matrix(tile)], (("first", int(first)),))

    def _sums(self, i: int) -> View:
        """The running statistics of one step."""
        buffer, target = self.operands[i], self.context.view(self.context.op.epilogue[i].operand)
        assert buffer is not None, "steps that collect have one"
        return buffer.view(target.operand.tensor, target.shape)

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
