"""A program as text that a person can read, and back: ``parse(to_text(p)) == p``.

One line a record. Values that are the common case are left out: strides of a contiguous operand,
plain numbers, cause none, empty attributes. Names are bare words, or JSON strings where they hold
other characters; attribute values are JSON. A program whose beginning runs once a prompt says so
in a third line: ``once 90 instructions 18 ops 18 groups fused dma 800 ps chain 300 ps``.
``#`` begins a comment line.

    program unet for exynos2400 schedule pipelined version 3
    sram 1088 dram 65536 fused dma 800 vector 600 ps

    tensors
    t0 x i16 8x64 input @0x0 1024 bytes scale 0.5
    t1 y i16 8x64 activation @0x400 1024 bytes uncalibrated

    ops
    op0 silu1 Silu from /act/Sigmoid, /act/Mul bound dma 900 vector 600 ps 2048 bytes

    groups
    g0 stripe 4 sweeps 2 rolls t1 shares t0 apart 4096 bytes border "longest group"

    residents
    t1 g0..g0 1024 bytes alone over t0

    buffers
    sram 0x40 1024 bytes %0..%1 x.tile

    instructions
    %0 dma0 load sram[0x40] i16 8x64 t0 <- dram[0x0] i16 8x64 t0; op0 cause input
    %1 vector0 unary sram[0x40] i16 8x64 t1 <- sram[0x40] i16 8x64 t0; op0 after %0 function="silu"
"""

from __future__ import annotations

from edgefusion.runtime.program_parser import parse
from edgefusion.runtime.program_printer import instruction_text, operand_text, to_text, write_text

__all__ = ["instruction_text", "operand_text", "parse", "to_text", "write_text"]
