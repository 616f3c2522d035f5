"""Kernels: what each opcode computes, bit for bit. ``docs/arithmetic.md`` is the specification."""
