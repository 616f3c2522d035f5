"""FP16 in memory, FP32 in registers: the conversions that every FP16 kernel is built on.

Numba knows no half-precision numbers, so loops hold them as uint16 bit patterns and convert with
two intrinsics that become one instruction each (F16C, NEON). Both follow IEEE 754: widening is
exact, narrowing rounds to nearest even, overflow gives infinity, subnormals are kept, NaN stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.kernels.contract import Array

F32 = npt.NDArray[np.float32]
U16 = npt.NDArray[np.uint16]
Loop = TypeVar("Loop", bound=Callable[..., object])

_inlined: Callable[[Callable[..., Any]], Any] = intrinsic  # numba types it as taking a context

_CHUNK = 1 << 15  # elements a thread converts at a time
_MANY = 1 << 18  # elements whose conversion takes longer than to wake another core


def ieee(*, threads: bool) -> Callable[[Loop], Loop]:
    """Compile a loop to machine code without reordering any arithmetic; x / 0 is infinite."""

    def compile_loop(loop: Loop) -> Loop:
        options: dict[str, Any] = {"nogil": True, "parallel": threads, "error_model": "numpy"}
        try:
            return cast(Loop, numba.njit(cache=True, **options)(loop))
        except RuntimeError:  # no folder to cache in
            return cast(Loop, numba.njit(**options)(loop))

    return compile_loop


@_inlined
def widen(typingctx: Any, bits: Any) -> Any:  # noqa: ARG001
    """float32 of the half-precision number with these uint16 ``bits``."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), build


@_inlined
def narrow(typingctx: Any, value: Any) -> Any:  # noqa: ARG001
    """uint16 bits of a float32 ``value`` rounded to half precision, ties to even."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), build


@_inlined
def from_bits(typingctx: Any, bits: Any) -> Any:  # noqa: ARG001
    """float32 with these int32 ``bits``."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), build


@ieee(threads=False)
def _widen_range(source: U16, target: F32, begin: int, end: int) -> None:
    for i in range(begin, end):
        target[i] = widen(source[i])


@ieee(threads=False)
def _narrow_range(source: F32, target: U16, begin: int, end: int) -> None:
    for i in range(begin, end):
        target[i] = narrow(source[i])


@ieee(threads=True)
def _widen_many(source: U16, target: F32) -> None:
    for chunk in prange((source.size + _CHUNK - 1) // _CHUNK):
        _widen_range(source, target, chunk * _CHUNK, min(source.size, (chunk + 1) * _CHUNK))


@ieee(threads=True)
def _narrow_many(source: F32, target: U16) -> None:
    for chunk in prange((source.size + _CHUNK - 1) // _CHUNK):
        _narrow_range(source, target, chunk * _CHUNK, min(source.size, (chunk + 1) * _CHUNK))


def _widen_all(source: U16, target: F32) -> None:
    if source.size < _MANY:
        _widen_range(source, target, 0, source.size)
    else:
        _widen_many(source, target)


def _narrow_all(source: F32, target: U16) -> None:
    if source.size < _MANY:
        _narrow_range(source, target, 0, source.size)
    else:
        _narrow_many(source, target)


def bits(array: Array) -> U16:
    """The bit patterns of an FP16 ``array``, dense; shares memory where it is dense already."""
    if array.dtype != np.float16:
        raise InputError(f"expected FP16 values, found {array.dtype}")
    return np.ascontiguousarray(array).view(np.uint16)


def single(array: Array) -> F32:
    """``array`` (FP16 or FP32, any strides) as FP32, in the same order of axes in memory.

    Axes that repeat (stride 0) are converted once and repeat again in the result.
    """
    if array.dtype not in (np.float16, np.float32):
        raise InputError(f"expected FP16 or FP32 values, found {array.dtype}")
    repeats = tuple(slice(0, 1) if s == 0 else slice(None) for s in array.strides)
    once = array[repeats]
    order = np.argsort([-s for s in once.strides], kind="stable")
    dense = np.ascontiguousarray(once.transpose(order))
    wide: F32 = np.empty(dense.shape, np.float32)
    if array.dtype == np.float16:
        _widen_all(dense.reshape(-1).view(np.uint16), wide.reshape(-1))
    else:
        wide[...] = dense
    return np.broadcast_to(wide.transpose(np.argsort(order)), array.shape)


@ieee(threads=True)
def _widen_rows(source: U16, target: F32, top: int, left: int) -> None:
    for row in prange(len(source)):
        out = target[top + row]
        for i in range(source.shape[1]):
            out[left + i] = widen(source[row, i])


def put(target: Array, values: Array) -> None:
    """Round FP32 ``values`` once into ``target``, FP16 (or FP32, kept) of any strides."""
    if target.dtype == np.float32:
        np.copyto(target, values)
        return
    if target.dtype != np.float16:
        raise InputError(f"expected an FP16 or FP32 result, found {target.dtype}")
    dense = np.ascontiguousarray(values)
    rounded = target if target.flags.c_contiguous else np.empty(target.shape, np.float16)
    _narrow_all(dense.reshape(-1), rounded.reshape(-1).view(np.uint16))
    if rounded is not target:
        np.copyto(target, rounded)


def padded(array: Array, shape: tuple[int, int], top: int, left: int) -> F32:
    """FP16 [h, w, c] as FP32 [*shape, c]: zeros, with ``array`` (what fits) at (top, left); where
    these are negative, rows and columns of ``array`` are cut off."""
    array = array[max(-top, 0) : max(shape[0] - top, 0), max(-left, 0) : max(shape[1] - left, 0)]
    top, left = max(top, 0), max(left, 0)
    rows, columns, channels = array.shape
    made = np.zeros((*shape, channels), np.float32)
    source = bits(array).reshape(rows, columns * channels)
    _widen_rows(source, made.reshape(shape[0], -1), top, left * channels)
    return made


def put_bits(target: Array, values: U16) -> None:
    """Store bit patterns of FP16 ``values`` into ``target`` of any strides."""
    np.copyto(target.view(np.uint16), values)
