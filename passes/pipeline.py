"""The order of the passes, the one place that has it.

Reading order is running order. Each pass leaves a valid graph that computes the same values, so a
prefix of the list is a valid pipeline too (``edgefusion compile --dump-ir`` shows every step).
"""

from __future__ import annotations

from edgefusion.compiler.pass_base import Pass
from edgefusion.passes.fold_batch_norm import FoldBatchNorm
from edgefusion.passes.fold_constants import FoldConstants
from edgefusion.passes.fuse_attention import FuseAttention
from edgefusion.passes.fuse_geglu import FuseGeglu
from edgefusion.passes.fuse_gelu import FuseGelu
from edgefusion.passes.fuse_group_norm import FuseGroupNorm
from edgefusion.passes.fuse_layer_norm import FuseLayerNorm
from edgefusion.passes.fuse_silu import FuseSilu
from edgefusion.passes.normalize_gemm import NormalizeGemm
from edgefusion.passes.remove_identities import RemoveIdentities


def recognition_passes() -> tuple[Pass, ...]:
    """From what exporters write to ops that mean something. Layout stays as it is."""
    return (
        FoldConstants(),  # shapes, masks and tables become constants that patterns can read
        RemoveIdentities(),
        NormalizeGemm(),
        FoldBatchNorm(),
        FuseGroupNorm(),
        FuseLayerNorm(),
        FuseSilu(),
        FuseGelu(),
        FuseGeglu(),  # after GELU: it looks for the fused op
        FuseAttention(),
        RemoveIdentities(merge_views=True),
    )
