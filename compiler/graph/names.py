"""Names that more than one stage must agree on: annotations of nodes, and values inside ops.

A value inside an op has no tensor of its own in the graph, but ranges are measured of it, it has a
scale, and reports name it. All such names are made here.
"""

from __future__ import annotations

PRECISION = "precision"
"""Annotation of a node: ``fp16`` or ``w8a16``."""

HOST_GROUP = "host_partition"
HOST_REASON = "host_reason"
"""Annotations of a node on the host: the name of its group, and why it is there."""


def stage(op_name: str, index: int) -> str:
    """The result of an op before its epilogue (0) and after each step but the last."""
    return f"{op_name}:stage{index}"


def scores_in(op_name: str) -> str:
    """Attention scores, scaled, before the mask; the program adds the mask to them in place."""
    return f"{op_name}:scores_in"


def scores_masked(op_name: str) -> str:
    """Attention scores behind the mask: a value that is measured, not a tensor of the program."""
    return f"{op_name}:scores_masked"


def scores_out(op_name: str) -> str:
    """Attention scores behind the softmax."""
    return f"{op_name}:scores_out"


def converted(tensor: str, dtype_name: str) -> str:
    """``tensor`` in another element type, where two precisions meet (``int16``, ``fp16``)."""
    return f"{tensor}:{dtype_name.lower()}"


def own(tensor: str, op: str) -> str:
    """The constant ``tensor`` as ``op`` alone stores it."""
    return f"{tensor}:{op}"


def conversion(tensor: str) -> str:
    """The op that makes the tensor ``tensor`` called by ``converted``."""
    return f"{tensor}:convert"


def is_conversion(op_name: str) -> bool:
    """Whether ``conversion`` made this name."""
    return op_name.endswith(":convert")
