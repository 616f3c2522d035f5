"""Pipelines of ONNX graphs, as optimum exports them, against the torch weights that they are of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgefusion.models.export import export_component
from edgefusion.models.image_size import chosen_latent
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.progress import silent
from edgefusion.toolchain.running.float_network import float_network
from tests.graph_pipeline import graph_pipeline
from tests.model_folders import pipeline_folder, xl_pipeline_folder
from tests.torch_pipeline import torch_network

Array = np.ndarray[Any, Any]
MAKERS: dict[str, Callable[[Path], Path]] = {"sd": pipeline_folder, "xl": xl_pipeline_folder}


@pytest.fixture(scope="module", params=MAKERS)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Torch weights, and graphs of them; those of XL with the index that optimum's classes save."""
    place = tmp_path_factory.mktemp(request.param)
    weights = MAKERS[request.param](place)
    return [weights, graph_pipeline(weights, place / "graphs", saved=request.param == "xl")]


@pytest.fixture
def graphs(folders: list[Path], tmp_path: Path) -> Path:
    """To be written over."""
    return Path(shutil.copytree(folders[1], tmp_path / "copy"))


def checked(folder: Path) -> Source:
    return checked_source(resolve_source(str(folder)), None, silent)


def drawn(component: str, model: onnx.ModelProto) -> dict[str, Array]:
    """Inputs of the export; whole numbers are few enough to be tokens."""
    rng = np.random.default_rng(len(component))
    found: dict[str, Array] = {}
    for value in model.graph.input:
        shape = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            found[value.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            found[value.name] = rng.integers(0, 4, shape).astype(dtype)
    return found


def test_graphs_compute_what_their_weights_do(folders: list[Path], tmp_path: Path) -> None:
    weights, graphs = (checked(folder) for folder in folders)
    assert graphs.components == weights.components
    assert graphs.family is weights.family
    for component in weights.components:
        path = export_component(graphs, component, tmp_path)
        feeds = drawn(component, onnx.load(path, load_external_data=False))
        found = float_network(path, None, component)(feeds)
        module: Any = weights.load(component)
        ports = weights.signature(component, module.config)
        given = {p.name: feeds[p.name].astype(p.dtype).reshape(p.shape) for p in ports.inputs}
        wanted = torch_network(weights, component)(given)
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5 * abs(value).max())


def test_sizes_of_the_pipeline_are_those_of_its_graphs(folders: list[Path], tmp_path: Path) -> None:
    """Open sizes follow --height and --width."""
    source = checked(folders[1])
    latent = chosen_latent(source, 48, 32)
    sized = replace(source, deployment=replace(source.deployment, latent=latent))
    exported = export_component(sized, "unet", tmp_path)
    (made,) = onnx.load(exported, load_external_data=False).graph.output
    assert tuple(d.dim_value for d in made.type.tensor_type.shape.dim)[-2:] == latent


def without_input(graph: onnx.GraphProto) -> None:
    del graph.input[2]


def with_other_result(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        node.output[:] = ["other" if name == "out_sample" else name for name in node.output]
    graph.output[0].name = "other"


def of_other_size(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_input, r"has the inputs .*; expected encoder_hidden_states, sample, "),
        (with_other_result, r"makes other, and not out_sample, which the pipeline needs"),
        (of_other_size, r"was exported for sample of \?x\?x64x\?; expected 1x4x"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused_before_any_work(
    graphs: Path, change: Callable[[onnx.GraphProto], None], message: str
) -> None:
    path = graphs / "unet" / "model.onnx"
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    with pytest.raises(InputError, match=message):
        checked(graphs)


def test_a_graph_wants_its_configuration(graphs: Path) -> None:
    (graphs / "unet" / "config.json").unlink()
    with pytest.raises(InputError, match=r"unet/config.json is missing or empty"):
        checked(graphs)


def test_fractions_of_timesteps_want_a_graph_that_takes_them(graphs: Path) -> None:
    path = graphs / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text()) | {"_class_name": "EulerDiscreteScheduler"}
    path.write_text(json.dumps(config))
    index = json.loads((graphs / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "EulerDiscreteScheduler"]
    (graphs / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="takes timesteps that are whole numbers"):
        checked(graphs)


def test_graphs_have_no_modules_to_train(folders: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"holds a graph \(model.onnx\), and no weights by module"):
        checked(folders[1]).load("unet")


def test_weights_go_before_graphs(folders: list[Path], tmp_path: Path) -> None:
    both = Path(shutil.copytree(folders[0], tmp_path / "both"))
    shutil.copytree(folders[1] / "unet", both / "unet", dirs_exist_ok=True)
    assert checked(both).given_graph("unet") is None
