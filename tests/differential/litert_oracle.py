"""LiteRT's CONV_2D 16x8 as an outside oracle: a one-op model, built and run.

Needs ``ai-edge-litert``. The reference kernel is chosen, which is what its authors specify the
others by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def conv2d(
    x: Array, w: Array, bias: Array, x_scale: float, w_scales: Array, y_scale: float, stride: int
) -> Array:
    """y [h', w', co] INT16 of ``x`` [h, w, ci] INT16 and ``w`` [co, kh, kw, ci] INT8, unpadded.

    ``bias`` int64 [co]; scales are rounded to float32, as the file format holds them.
    """
    from ai_edge_litert import interpreter as litert

    extents = [(x.shape[i] - w.shape[1 + i]) // stride + 1 for i in (0, 1)]
    model = _model(x.shape, w, bias, x_scale, w_scales, y_scale, stride, extents)
    runner = litert.Interpreter(
        model_content=model,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
    )
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], x[None])
    runner.invoke()
    result: Array = runner.get_tensor(runner.get_output_details()[0]["index"])[0]
    return result


def _model(
    x_shape: tuple[int, ...],
    w: Array,
    bias: Array,
    x_scale: float,
    w_scales: Array,
    y_scale: float,
    stride: int,
    extents: list[int],
) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]

    def tensor(name: str, kind: str, shape: Any, scales: Any, values: Array | None = None) -> Any:
        made = schema.TensorT()
        made.name, made.shape = name, list(shape)
        made.type = getattr(schema.TensorType, kind)
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = np.asarray(scales, np.float32).reshape(-1)
        made.quantization.zeroPoint = np.zeros(made.quantization.scale.size, np.int64)
        made.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            made.buffer = len(model.buffers)
            model.buffers.append(buffer)
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 4
    model.operatorCodes = [code]
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH = options.strideW = stride
    options.dilationHFactor = options.dilationWFactor = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    operator.builtinOptions = options
    graph = schema.SubGraphT()
    product = np.float32(x_scale) * np.asarray(w_scales, np.float32)
    graph.tensors = [
        tensor("x", "INT16", (1, *x_shape), x_scale),
        tensor("w", "INT8", w.shape, w_scales, w),
        tensor("bias", "INT64", bias.shape, product, bias.astype(np.int64)),
        tensor("y", "INT16", (1, *extents, len(bias)), y_scale),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
