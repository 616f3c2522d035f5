"""Host functions from a library that Apache TVM compiled (``compiler.host.library``).

Only TVM's runtime is loaded, not its compiler: a few megabytes instead of 260.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.host_signature import (
    HostFunction,
    HostSignature,
    arguments,
    constant_arguments,
)
from edgefusion.runtime.partials import partial_folder

Array = npt.NDArray[Any]

ALIGNMENT = 64
"""What compiled code may assume of an operand's address, in bytes."""

_CPU = (1, 0)  # DLPack's device type and index
_NAIVE_ALLOCATOR = 1  # frees at once; a pool would keep the largest result
_LIBRARIES = (("tvm_runtime", "RTLD_GLOBAL"), ("tvm_runtime_extra", "RTLD_LOCAL"))


def tvm_functions(
    signatures: Sequence[HostSignature], library: bytes, constants: Mapping[str, Array]
) -> dict[str, HostFunction]:
    """The functions of ``library`` by name. Raises InputError if it cannot be loaded; they, for
    values that the compiled code refuses."""
    machine = _loaded(library)
    return {s.name: _function(s, machine[s.name], constants) for s in signatures}


def _loaded(library: bytes) -> Any:
    """TVM's virtual machine with ``library`` in it."""
    with _without_torch():
        import tvm_ffi
        from tvm_ffi.libinfo import load_lib_ctypes

    package = importlib.util.find_spec("tvm")
    if package is None or package.origin is None:
        raise InputError("the package apache-tvm is not installed; pip install apache-tvm")
    folder = Path(package.origin).parent / "lib"
    for name, mode in _LIBRARIES:
        load_lib_ctypes("tvm", name, mode, extra_lib_paths=[folder])
    with partial_folder() as place:
        path = place / "host.so"
        path.write_bytes(library)
        try:
            module = tvm_ffi.load_module(str(path))
            machine = module["vm_load_executable"]()
            machine["vm_initialization"](*_CPU, _NAIVE_ALLOCATOR)
        except Exception as error:  # TVM raises all kinds
            raise InputError(
                f"TVM cannot load host.so: {first_line(error)}; run with --host ort, or compile "
                "again"
            ) from error
    return machine


@contextmanager
def _without_torch() -> Iterator[None]:
    """Keeps tvm_ffi from importing torch, which it does where it finds it, and does not need."""
    os.environ.setdefault("TVM_FFI_DISABLE_TORCH_C_DLPACK", "1")  # would build an extension of it
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # makes the import fail
    try:
        yield
    finally:
        del sys.modules["torch"]


def _function(
    signature: HostSignature, compiled: Any, constants: Mapping[str, Array]
) -> HostFunction:
    import tvm_ffi

    fixed = [tvm_ffi.from_dlpack(_aligned(v)) for v in constant_arguments(signature, constants)]

    def call(values: Sequence[Array]) -> Sequence[Array]:
        inputs = [tvm_ffi.from_dlpack(_aligned(v)) for v in arguments(signature, values)]
        try:
            made = compiled(*inputs, *fixed)
            results = [made] if len(signature.outputs) == 1 else list(made)
            return [np.from_dlpack(result).copy() for result in results]
        except Exception as error:  # TVM raises all kinds
            raise InputError(
                f"TVM cannot compute the host function {signature.name} from these values: "
                f"{first_line(error)}; run with --host ort"
            ) from error

    return call


def _aligned(array: Array) -> Array:
    """``array`` as compiled code takes it: at a multiple of ``ALIGNMENT``, and writeable, which
    DLPack demands of everything."""
    if array.ctypes.data % ALIGNMENT == 0 and array.flags.writeable:
        return array
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def first_line(error: BaseException) -> str:
    """What TVM says in ``error``, without the stack of C++ calls below it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
