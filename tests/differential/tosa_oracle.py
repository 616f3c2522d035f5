"""The TOSA reference model as an outside oracle: CONV2D int16 x int8 -> int48, RESCALE to int16.

Runs only in an environment of its own with ``tosa-tools`` (its pin of ml_dtypes excludes onnx).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def conv2d_rescaled(x: Array, w: Array, bias: Array, factors: Array, shifts: Array) -> Array:
    """y [h', w', co] INT16 of ``x`` [h, w, ci] INT16 and ``w`` [co, kh, kw, ci] INT8, unpadded.

    ``bias`` has int48; the multiplier of a channel is factors * 2^-shifts.
    """
    import tosa_reference_model as reference
    from serializer import tosa_serializer as ts
    from tosa import RoundingMode

    made = ts.TosaSerializer("")
    channels = len(bias)
    extents = [x.shape[i] - w.shape[1 + i] + 1 for i in (0, 1)]
    types = ts.DType

    def constant(shape: tuple[int, ...], kind: Any, values: Array) -> Any:
        return made.addConst(list(shape), kind, values)

    def names(*tensors: Any) -> list[str]:
        return [tensor.name for tensor in tensors]

    source = made.addPlaceholder([1, *x.shape], types.INT16, None)
    weights = constant(w.shape, types.INT8, w)
    offset = constant((channels,), types.INT48, bias)
    zeros = [constant((1,), kind, np.zeros(1)) for kind in (types.INT16, types.INT8, types.INT48)]
    acc = made.addIntermediate([1, *extents, channels], types.INT48)
    attribute = ts.TosaSerializerAttribute()
    attribute.Conv2dAttribute([0, 0, 0, 0], [1, 1], [1, 1], False, types.INT48)
    made.addOperator(
        ts.TosaOp.Op().CONV2D, names(source, weights, offset, *zeros[:2]), names(acc), attribute
    )
    multiplier = constant((channels,), types.INT16, factors)
    shift = constant((channels,), types.INT8, shifts)
    output = made.addOutput([1, *extents, channels], types.INT16)
    attribute = ts.TosaSerializerAttribute()
    attribute.RescaleAttribute(False, RoundingMode.RoundingMode.SINGLE_ROUND, True, False, False)
    made.addOperator(
        ts.TosaOp.Op().RESCALE,
        names(acc, multiplier, shift, zeros[2], zeros[0]),
        names(output),
        attribute,
    )
    results, status = reference.run(bytes(made.serialize()), [x[None]])
    if status != reference.GraphStatus.TOSA_VALID:
        raise RuntimeError(f"the reference model refused the graph: {status}")
    y: Array = np.frombuffer(results[0].tobytes(), np.int16).reshape(*extents, channels)
    return y
