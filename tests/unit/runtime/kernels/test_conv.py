import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.compiler.network.window import Span, Window
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.requantize import multipliers, requantize_array
from edgefusion.runtime.tensor_numbers import PLAIN
from tests.kernel_cases import call


def reference(
    x: Array, w: Array, stride: int, pad: int, dilation: int, groups: int, upsample: int
) -> Array:
    """int64 accumulators of a whole convolution."""
    x = x.repeat(upsample, 0).repeat(upsample, 1).astype(np.int64)
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    reach = (w.shape[2] - 1) * dilation
    height, width = ((n - reach - 1) // stride + 1 for n in x.shape[:2])
    out = np.zeros((height, width, w.shape[0]), np.int64)
    per_in, per_out = x.shape[2] // groups, w.shape[0] // groups
    for g in range(groups):
        part, weights = x[..., g * per_in : (g + 1) * per_in], w[g * per_out : (g + 1) * per_out]
        for i in range(w.shape[2]):
            for j in range(w.shape[3]):
                rows = slice(i * dilation, i * dilation + stride * (height - 1) + 1, stride)
                columns = slice(j * dilation, j * dilation + stride * (width - 1) + 1, stride)
                out[..., g * per_out : (g + 1) * per_out] += part[rows, columns] @ weights[
                    :, :, i, j
                ].T.astype(np.int64)
    return out


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    channels=st.sampled_from([1, 3, 4, 6, 64, 67]),
    kernel=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    upsample=st.integers(1, 2),
    rows=st.integers(1, 5),
    columns=st.integers(1, 7),
)
def test_tiles_give_what_the_whole_convolution_gives(
    seed: int,
    channels: int,
    kernel: int,
    stride: int,
    dilation: int,
    upsample: int,
    rows: int,
    columns: int,
) -> None:
    """Tiles as ``compiler.ops.conv`` cuts them: halo, padding and phase of each."""
    rng = np.random.default_rng(seed)
    height, width, out = 7, 6, 18
    groups = 3 if channels in (3, 6) else 1
    x = rng.integers(-32768, 32768, (height, width, channels)).astype(np.int16)
    w = rng.integers(-127, 128, (out, channels // groups, kernel, kernel)).astype(np.int8)
    scales = rng.uniform(1e-3, 1e-2, out).astype(np.float32)
    pad = kernel // 2 * dilation
    acc = reference(x, w, stride, pad, dilation, groups, upsample)
    expected = requantize_array(acc, multipliers(1e-3 * scales.astype(float) / 0.05))
    windows = [
        Window(n * upsample, kernel, stride, pad, dilation, upsample) for n in (height, width)
    ]
    result = np.empty(expected.shape, np.int16)
    for top in range(0, result.shape[0], rows):
        for left in range(0, result.shape[1], columns):
            r = Span(top, min(rows, result.shape[0] - top))
            q = Span(left, min(columns, result.shape[1] - left))
            down, across = windows[0].source(r), windows[1].source(q)
            tile = x[down.span.start : down.span.stop, across.span.start : across.span.stop]
            y = np.empty((r.size, q.size, out), np.int16)
            call(
                Opcode.CONV2D,
                y,
                0.05,
                [(tile, 1e-3), (w, PLAIN), (scales, PLAIN)],
                bias=0,
                dilations=(dilation, dilation),
                groups=groups,
                pads=(down.pad_before, across.pad_before, down.pad_after, across.pad_after),
                strides=(stride, stride),
                upsample=upsample,
                upsample_phase=(down.phase, across.phase),
            )
            result[top : top + r.size, left : left + q.size] = y
    np.testing.assert_array_equal(result, expected)
