"""What a bundle computes: a component on arrays, images of prompts, and how near they come.

Host functions of a bundle are native code: ``host="ort"`` for bundles that you do not trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.api import AnyBundle, opened
from edgefusion.runtime.arguments import brief, names_of, path_of, whole_number
from edgefusion.runtime.errors import InputError, UsageError, in_brief
from edgefusion.runtime.pipeline_roles import denoiser_of
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.accuracy.gates import (
    AGAINST,
    MIN_MODEL_DB,
    MIN_PSNR_DB,
    MIN_SQNR_DB,
    Against,
    Gates,
)

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from edgefusion.models.pictures import Files
    from edgefusion.toolchain.accuracy.verification import Verification

__all__ = ["VerificationResult", "draw", "run", "verify"]

Array = npt.NDArray[Any]


def run(
    bundle: AnyBundle,
    component: str,
    inputs: Mapping[str, npt.ArrayLike],
    *,
    reference: bool = False,
    host: str = "tvm",
    progress: Say | None = None,
) -> dict[str, Array]:
    """Run a component on arrays by name: on the simulated NPU, instruction by instruction, or in
    ONNX Runtime (FP32) as a ``reference``. ``host`` functions run by ``tvm`` or ``ort``.

    Raises InputError for arrays that are missing or do not fit, and for a bundle without
    calibration.
    """
    from edgefusion.toolchain.running.execution import npu_network, reference_network
    from edgefusion.toolchain.running.ports import checked_inputs

    found = opened(bundle)
    found.manifest.component(component)
    if not isinstance(inputs, Mapping):
        raise UsageError(f"inputs is {brief(inputs)}; expected arrays by name.")
    try:
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
    except ValueError as error:
        raise InputError(f"an input is no array of numbers: {in_brief(error)}.") from error
    given = checked_inputs(found, component, arrays)
    if reference:
        network = reference_network(found, component)
    else:
        network = npu_network(found, component, say=progress, host=host)
    return dict(network(given))


def draw(
    bundle: AnyBundle,
    prompts: str | Sequence[str],
    *,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    image: Path | str | Image | None = None,
    mask: Path | str | Image | None = None,
    strength: float | None = None,
    control: Path | str | Image | None = None,
    control_scale: float | None = None,
    reference: bool = False,
    host: str = "tvm",
    progress: Say | None = None,
) -> list[Image]:
    """An image of each prompt, all from the noise of ``seed``, in ``steps`` and with ``guidance``
    (the bundle's own when left out), away from the ``negative_prompt``: on the simulated NPU, or in
    ONNX Runtime as a ``reference``.

    ``image`` is the picture to start from, of a bundle that does, ``strength`` how far to go from
    it (above 0, up to 1), ``mask`` white where it is to be painted anew, ``control`` the picture
    that a ControlNet follows, ``control_scale`` how much: files, or PIL's images.

    Raises InputError for a bundle that lacks one of the three networks, or calibration, UsageError
    for steps and guidance that it was not compiled for.
    """
    from edgefusion.toolchain.running.bundle_generator import bundle_generator
    from edgefusion.toolchain.running.drawing import Wishes

    texts = names_of(prompts, "prompts", "text")
    seed = whole_number(seed, "seed", least=0)
    found = opened(bundle)
    count = found.manifest.steps if steps is None else whole_number(steps, "steps", least=1)
    pictures = {
        name: path_of(given, name) if isinstance(given, str | Path) else given
        for name, given in (("image", image), ("mask", mask), ("control", control))
    }
    wishes = Wishes(count, guidance, negative_prompt, pictures, strength, control_scale)
    generator = bundle_generator(
        found, wishes, reference=reference, host=host, say=progress or silent
    )
    return list(generator(texts, [seed] * len(texts)))


@dataclass(frozen=True, slots=True, eq=False)
class VerificationResult:
    """What was measured, and ``gates`` that it has to keep; ``document`` is the JSON of both."""

    verification: Verification
    gates: Gates
    document: Mapping[str, Any]

    @property
    def passed(self) -> bool | None:
        """Whether all values keep all gates; None where there was no source to compare with."""
        return self.gates.all_passed(self.verification)

    @property
    def summary(self) -> str:
        """What was checked, in a line."""
        return self.gates.summary(self.verification)

    def check(self) -> None:
        """Raises NumericGateError, naming values and layers, where a gate is missed."""
        self.gates.check(self.verification)

    def values_frame(self) -> pd.DataFrame:
        """A row for each value and prompt; decibels against bundle and source, and the gates."""
        return self._frame("values")

    def layers_frame(self) -> pd.DataFrame:
        """A row for each op of the components whose layers were measured; decibels by cause."""
        return self._frame("layers")

    def _frame(self, rows: str) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self.document[rows])

    def __repr__(self) -> str:
        told = {True: "passed", False: "FAILED", None: "passed as far as checked"}[self.passed]
        return f"<VerificationResult of {self.verification.bundle.name}: {told}>"


def verify(
    bundle: AnyBundle,
    *,
    prompts: int | str | Sequence[str] = 1,
    seed: int = 1000,
    layers: str | Sequence[str] | None = None,
    source: str | Path | None = None,
    against: Against = "both",
    min_sqnr_db: float = MIN_SQNR_DB,
    min_model_db: float = MIN_MODEL_DB,
    min_psnr_db: float = MIN_PSNR_DB,
    host: str = "tvm",
    loras: str | Sequence[str] = (),
    pictures: Sequence[Files] = (),
    progress: Say | None = None,
) -> VerificationResult:
    """Compare a bundle's values with ONNX Runtime in FP32: against its own graph (arithmetic), and
    against the source (model). A missed gate does not raise; ``check()`` of the result does.

    ``prompts`` are texts, or so many of the built-in held-out ones; ``layers`` the components whose
    every layer is measured (the U-Net when left out; all of a bundle without one). ``loras`` are
    the files that were fused into the source, FILE or FILE:SCALE each. ``pictures`` are files or
    PIL's images by name (image, mask, control), one mapping a prompt and over again; drawn where
    there are none.
    """
    from edgefusion.toolchain.accuracy.held_out import PROMPTS
    from edgefusion.toolchain.accuracy.report import layer_ops, verification_json
    from edgefusion.toolchain.accuracy.verification import Request, verify_bundle
    from edgefusion.toolchain.running.execution import require_calibrated

    if against not in AGAINST:
        raise UsageError(f"against is {brief(against)}; expected one of {', '.join(AGAINST)}.")
    if isinstance(prompts, int):
        count = whole_number(prompts, "prompts", least=1)
        if count > len(PROMPTS):
            raise UsageError(f"prompts is {count}; there are {len(PROMPTS)} built in.")
        texts = PROMPTS[:count]
    else:
        texts = names_of(prompts, "prompts", "text")
    seed = whole_number(seed, "seed", least=0)
    found = opened(bundle)
    if layers is None:
        denoiser = denoiser_of(found.components)
        measured = (denoiser,) if denoiser else found.components
    else:
        measured = names_of(layers, "layers")
    for name in measured:
        found.manifest.component(name)
    require_calibrated(found, *found.components)
    limits: dict[str, object] = {
        "min_sqnr_db": min_sqnr_db,
        "min_model_db": min_model_db,
        "min_psnr_db": min_psnr_db,
    }
    for what, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or isnan(value):
            raise UsageError(f"{what} is {brief(value)}; expected a number of decibels.")
    gates = Gates(min_sqnr_db, min_psnr_db, against, min_model_db)
    named = None if source is None else str(path_of(source, "source"))
    fused = names_of(loras, "loras", "text")
    request = Request(texts, seed, measured, named, host, fused, pictures=tuple(pictures))
    verification = verify_bundle(found, request, progress or silent)
    document = verification_json(verification, gates, layer_ops(found, verification))
    return VerificationResult(verification, gates, document)
