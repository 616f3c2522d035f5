"""Plain ONNX networks that users bring: a residual CNN and a transformer block."""

from __future__ import annotations

from pathlib import Path

import onnx

from tests.graph_cases import Weights, parse

CNN = """
cnn (float[1,3,32,32] image) => (float[1,10] logits) {
  c1 = Conv<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(image, w1)
  n1 = BatchNormalization(c1, gamma, beta, mean, var)
  r1 = Relu(n1)
  p1 = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(r1)
  c2 = Conv<kernel_shape = [3,3], pads = [1,1,1,1]>(p1, w2, b2)
  r2 = Relu(c2)
  c3 = Conv<kernel_shape = [3,3], pads = [1,1,1,1]>(r2, w3, b3)
  s3 = Add(c3, p1)
  r3 = Relu(s3)
  g = GlobalAveragePool(r3)
  f = Flatten(g)
  logits = Gemm<transB = 1>(f, w4, b4)
}
"""

CNN_WEIGHTS: Weights = {
    "w1": [16, 3, 3, 3],
    "gamma": [16],
    "beta": [16],
    "mean": [16],
    "var": [16],
    "w2": [16, 16, 3, 3],
    "b2": [16],
    "w3": [16, 16, 3, 3],
    "b3": [16],
    "w4": [10, 16],
    "b4": [10],
}

TRANSFORMER = """
block (float[1,64,128] x) => (float[1,64,128] y) {
  n = LayerNormalization<axis = -1>(x, gamma, beta)
  q = MatMul(n, wq)
  k = MatMul(n, wk)
  v = MatMul(n, wv)
  heads = Constant<value_ints = [1,64,4,32]>()
  q4 = Reshape(q, heads)
  k4 = Reshape(k, heads)
  v4 = Reshape(v, heads)
  qh = Transpose<perm = [0,2,1,3]>(q4)
  kh = Transpose<perm = [0,2,3,1]>(k4)
  vh = Transpose<perm = [0,2,1,3]>(v4)
  s = MatMul(qh, kh)
  c = Constant<value_float = 0.17677669>()
  t = Mul(s, c)
  p = Softmax<axis = -1>(t)
  o = MatMul(p, vh)
  ot = Transpose<perm = [0,2,1,3]>(o)
  tokens = Constant<value_ints = [1,64,128]>()
  o3 = Reshape(ot, tokens)
  a = MatMul(o3, wo)
  r = Add(a, x)
  n2 = LayerNormalization<axis = -1>(r, gamma2, beta2)
  h = MatMul(n2, w1)
  hb = Add(h, b1)
  g = Gelu(hb)
  m = MatMul(g, w2)
  mb = Add(m, b2)
  y = Add(mb, r)
}
"""

TRANSFORMER_WEIGHTS: Weights = {
    "gamma": [128],
    "beta": [128],
    "wq": [128, 128],
    "wk": [128, 128],
    "wv": [128, 128],
    "wo": [128, 128],
    "gamma2": [128],
    "beta2": [128],
    "w1": [128, 512],
    "b1": [512],
    "w2": [512, 128],
    "b2": [128],
}


def save(folder: Path, name: str, *, external: bool = False) -> Path:
    """``cnn`` or ``transformer`` as ``folder``/``name``.onnx."""
    text, weights = {
        "cnn": (CNN, CNN_WEIGHTS),
        "transformer": (TRANSFORMER, TRANSFORMER_WEIGHTS),
    }[name]
    path = folder / f"{name}.onnx"
    onnx.save(
        parse(text, positive_variances(weights)),
        path,
        save_as_external_data=external,
        location=f"{name}.data",
    )
    return path


def positive_variances(weights: Weights) -> Weights:
    """The same with variances of one: a random draw would hold negative ones."""
    import numpy as np

    return {
        name: np.ones(value, np.float32) if name == "var" else value
        for name, value in weights.items()
    }
