"""The order of the passes, the one place that has it.

Reading order is running order. Each pass leaves a valid graph that computes the same values, so a
prefix of the list is a valid pipeline too (``edgefusion compile --dump-ir`` shows every step).
"""

from __future__ import annotations

from collections.abc import Sequence

from edgefusion.passes.assign_precision import AssignPrecision
from edgefusion.passes.channels_last import ChannelsLast
from edgefusion.passes.fold_attention_batch import FoldAttentionBatch
from edgefusion.passes.fold_batch_norm import FoldBatchNorm
from edgefusion.passes.fold_broadcast import FoldBroadcast
from edgefusion.passes.fold_constants import FoldConstants
from edgefusion.passes.fold_resize import FoldResize
from edgefusion.passes.fuse_attention import FuseAttention
from edgefusion.passes.fuse_epilogue import FuseEpilogue
from edgefusion.passes.fuse_geglu import FuseGeglu
from edgefusion.passes.fuse_gelu import FuseGelu
from edgefusion.passes.fuse_group_norm import FuseGroupNorm
from edgefusion.passes.fuse_layer_norm import FuseLayerNorm
from edgefusion.passes.fuse_norm_stats import FuseNormStats
from edgefusion.passes.fuse_rms_norm import FuseRmsNorm
from edgefusion.passes.fuse_silu import FuseSilu
from edgefusion.passes.normalize_gemm import NormalizeGemm
from edgefusion.passes.partition_host import PartitionHost
from edgefusion.passes.pass_base import Pass
from edgefusion.passes.quantize_w8a16 import QuantizeW8A16
from edgefusion.passes.remove_identities import RemoveIdentities
from edgefusion.passes.remove_qdq import RemoveQdq
from edgefusion.passes.rewrite_ops import RewriteOps
from edgefusion.passes.split_batch import SplitBatch
from edgefusion.passes.split_transpose import SplitTranspose
from edgefusion.passes.tabulate_timestep import TabulateTimestep
from edgefusion.passes.transpose_upsampled_conv import TransposeUpsampledConv


def recognition_passes(timesteps: Sequence[float] = ()) -> tuple[Pass, ...]:
    """From what exporters write to ops that mean something. Layout stays as it is.

    What depends on the timestep alone is tabulated for ``timesteps``; without any, it is computed.
    """
    return (
        FoldConstants(),  # shapes, masks and tables become constants that patterns can read
        RemoveQdq(),  # after weights, which are in QDQ form too, are constants
        TabulateTimestep(tuple(timesteps)),
        RemoveIdentities(),
        NormalizeGemm(),
        FoldBatchNorm(),
        FuseGroupNorm(),
        FuseLayerNorm(),
        FuseRmsNorm(),  # after LayerNorm, which divides centred values in the same way
        FuseSilu(),
        FuseGelu(),
        FuseGeglu(),  # after GELU: it looks for the fused op
        FuseAttention(),
        FoldAttentionBatch(),
        RewriteOps(),  # after all patterns, which look for what exporters write
        RemoveIdentities(merge_views=True),
        SplitBatch(),
    )


def deployment_passes(
    precision: str = "", rules: Sequence[tuple[str, str]] = (), *, transposing: bool = True
) -> tuple[Pass, ...]:
    """From recognised ops to what the NPU runs: layout, epilogues, precision, host groups.

    ``precision`` of ops that no (pattern, precision) rule matches; '' takes the component's own.
    ``transposing`` says whether convolutions of doubled images become transposed ones.
    """
    transposed = (TransposeUpsampledConv(precision, tuple(rules)),) if transposing else ()
    return (
        ChannelsLast(),
        SplitTranspose(),
        FoldResize(),  # before epilogues: doubling is a convolution's first step
        *transposed,
        FuseEpilogue(),
        FuseNormStats(),  # after epilogues: statistics are of the finished result
        FoldBroadcast(),  # what no epilogue has taken
        AssignPrecision(precision, tuple(rules)),
        QuantizeW8A16(),
        PartitionHost(),
    )


def default_passes(
    precision: str = "",
    rules: Sequence[tuple[str, str]] = (),
    timesteps: Sequence[float] = (),
    *,
    transposing: bool = True,
) -> tuple[Pass, ...]:
    """Everything that ``edgefusion compile`` runs."""
    return (
        *recognition_passes(timesteps),
        *deployment_passes(precision, rules, transposing=transposing),
    )
