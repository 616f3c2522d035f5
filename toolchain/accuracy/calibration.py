"""Measures the range of every INT16 tensor of a component, in FP32, on the inputs it will see.

The optimised graph, weights already rounded to INT8, is expanded to standard ops and run a block at
a time; each value that decides a scale passes by once (``running.segments``), so memory
stays near the model's size. With a folder, every evaluation leaves a checkpoint behind, and a
finished calibration is found again by its identity.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.graph.expand_functions import expand_functions
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.scales import measured_tensors
from edgefusion.models.text_to_image import Network as Run
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.files import write_whole
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.accuracy.calibration_file import (
    FORMAT_VERSION,
    Calibration,
    Identity,
    Measured,
    load_calibration,
)
from edgefusion.toolchain.accuracy.calibration_statistics import BINS, Statistics
from edgefusion.toolchain.running.attention_parts import attention_in_parts
from edgefusion.toolchain.running.segments import DEFAULT_BUDGET_BYTES, SegmentedModel

Array = npt.NDArray[Any]
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class Workload:
    """Inputs to calibrate with: ``drive`` evaluates the component by calling what it is given,
    ``evaluations`` times, and may let later inputs depend on earlier outputs."""

    evaluations: int
    drive: Callable[[Run], None]


def calibrate(
    graph_path: Path,
    network: Network,
    identity: Identity,
    workload: Workload,
    *,
    folder: Path | None = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    progress: Say | None = None,
) -> Calibration:
    """Measure the component whose optimised graph lies at ``graph_path``, weights beside it.

    ``folder`` keeps checkpoints and the result. ``budget_bytes`` bounds the shown values that are
    in memory at a time. Raises InputError, naming the tensor, for values that are not finite.
    """
    say = progress or silent
    store = _Store.open(folder, identity)
    found = store.finished()
    if found is not None:
        say(f"{identity.component}: reusing the calibration {store.path}")
        return found
    model = onnx.load(graph_path, load_external_data=False)
    names = measured_tensors(network)
    constants = _constants(model, graph_path.parent, names)
    shown = [name for name in names if name not in constants]
    parted, whole = attention_in_parts(model, budget_bytes)
    whole = {part: name for part, name in whole.items() if name in shown}
    names_of_all = [*(set(shown) - set(whole.values())), *whole]
    runner = SegmentedModel(expand_functions(parted), graph_path.parent, names_of_all, budget_bytes)
    statistics, outputs = store.resume(shown)
    done, asked = len(outputs), 0

    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        nonlocal asked
        asked += 1
        if asked <= done:
            return outputs[asked - 1]
        where = f"{identity.component}: calibrating, evaluation {asked} of {workload.evaluations}"

        def report(block: int, count: int) -> None:
            say(f"{where}, block {block + 1} of {count}")

        result = runner.run(
            feeds, lambda name, x: _observe(statistics, whole.get(name, name), x), report
        )
        _check_finite(statistics, where)
        outputs.append(result)
        store.checkpoint(statistics, outputs)
        return result

    workload.drive(run)
    statistics |= constants
    calibration = Calibration(
        identity, len(outputs), {name: Measured.of(statistics[name]) for name in names}
    )
    store.finish(calibration)
    return calibration


def graph_digest(path: Path) -> str:
    """sha256 of a graph file, whose weights the source's digest stands for."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _observe(statistics: dict[str, Statistics], name: str, values: Array) -> None:
    """Masks may hold minus infinity: as far as a softmax can tell it is the lowest number."""
    masked = name.endswith(":scores_masked")
    statistics[name].add(np.maximum(values, np.float32(_LOWEST)) if masked else values)


def _check_finite(statistics: Mapping[str, Statistics], where: str) -> None:
    for name, seen in statistics.items():
        if seen.not_finite:
            raise InputError(
                f"{where}: the tensor '{name}' holds {seen.not_finite} NaN or infinite values of "
                f"{seen.count}; expected finite ones. Check the checkpoint: its training may have "
                "diverged, or it needs another precision than FP32."
            )


def _constants(
    model: onnx.ModelProto, folder: Path, names: tuple[str, ...]
) -> dict[str, Statistics]:
    """Statistics of those measured tensors that are constants."""
    measured = {}
    for tensor in model.graph.initializer:
        if tensor.name in names:
            values = onnx.numpy_helper.to_array(tensor, str(folder)).astype(np.float32)
            measured[tensor.name] = Statistics()
            measured[tensor.name].add(np.clip(values, _LOWEST, -_LOWEST))
    _check_finite(measured, "constants")
    return measured


@dataclass(frozen=True, slots=True)
class _Store:
    """Where a calibration is kept, None for nowhere; ``partial`` holds its checkpoint."""

    path: Path | None
    identity: Identity

    @classmethod
    def open(cls, folder: Path | None, identity: Identity) -> _Store:
        if folder is None:
            return cls(None, identity)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps([FORMAT_VERSION, identity.to_json()], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cls(folder / f"{identity.component}-{key}.json", identity)

    @property
    def partial(self) -> Path | None:
        return self.path.with_suffix(".partial.npz") if self.path else None

    def finished(self) -> Calibration | None:
        return load_calibration(self.path) if self.path and self.path.is_file() else None

    def resume(self, names: list[str]) -> tuple[dict[str, Statistics], list[Mapping[str, Array]]]:
        """Statistics and outputs so far; empty ones without a checkpoint that fits."""
        fresh = {name: Statistics() for name in names}
        if self.partial is None or not self.partial.is_file():
            return fresh, []
        try:
            with self.partial.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                if saved["names"].tolist() != names or saved["histograms"].shape[1:] != (BINS,):
                    return fresh, []
                columns = [saved[k].tolist() for k in ("low", "high", "count")]
                rows = zip(*columns, saved["histograms"], strict=True)
                statistics = {
                    name: Statistics(low, high, count, 0, histogram)
                    for name, (low, high, count, histogram) in zip(names, rows, strict=True)
                }
                outputs: list[Mapping[str, Array]] = [{} for _ in range(int(saved["evaluations"]))]
                for key in saved.files:
                    kind, _, rest = key.partition(":")
                    if kind == "output":
                        index, _, name = rest.partition(":")
                        outputs[int(index)] = {**outputs[int(index)], name: saved[key]}
            return statistics, outputs
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return fresh, []  # a checkpoint is a convenience: start over

    def checkpoint(
        self, statistics: Mapping[str, Statistics], outputs: list[Mapping[str, Array]]
    ) -> None:
        if self.partial is None:
            return
        seen = list(statistics.values())
        results = {
            f"output:{index}:{name}": value
            for index, each in enumerate(outputs)
            for name, value in each.items()
        }
        file = io.BytesIO()
        np.savez_compressed(
            file,
            names=np.array(list(statistics)),
            low=np.array([s.low for s in seen]),
            high=np.array([s.high for s in seen]),
            count=np.array([s.count for s in seen]),
            histograms=np.stack([s.histogram for s in seen]),
            evaluations=np.array(len(outputs)),
            **results,  # type: ignore[arg-type]  # numpy types keywords as its one option
        )
        write_whole(self.partial, file.getvalue())

    def finish(self, calibration: Calibration) -> None:
        if self.path is not None and self.partial is not None:
            calibration.save(self.path)
            self.partial.unlink(missing_ok=True)
