"""``edgefusion verify``: a bundle's values against ONNX Runtime in FP32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.options import (
    BundleArgument,
    ControlsOption,
    ImagesOption,
    LoraOption,
    MasksOption,
    count_or_prompts,
    picture_sets,
    split_names,
)
from edgefusion.cli.output import JsonOption, emit, progress, write_text
from edgefusion.cli.paths import Reads, Writes
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.pipeline_roles import denoiser_of
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.gates import (
    AGAINST,
    MIN_MODEL_DB,
    MIN_PSNR_DB,
    MIN_SQNR_DB,
    Gates,
)
from edgefusion.toolchain.accuracy.report import db, layer_ops, verification_json
from edgefusion.toolchain.reporting.number_forms import decibels, milliseconds, percent

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.toolchain.accuracy.verification import Verification

app = typer.Typer(add_completion=False)


def _figure(value: float | str | None) -> str:
    return value if isinstance(value, str) else decibels(value)


_VALUES = (
    Column("prompt", "prompt", detail=True),
    Column("component", "component"),
    Column("value", "value"),
    Column("timestep", "timestep", lambda v: "" if v is None else str(v)),
    Column("bundle_db", "arithmetic", _figure),
    Column("gate_db", "gate", _figure),
    Column("source_db", "model", _figure),
    Column("model_gate_db", "gate", _figure),
    Column("weights_db", "weights alone", _figure, detail=True),
    Column("passed", "passed"),
    Column("remark", "remark", detail=True),
)
_LAYERS = (
    Column("component", "component", detail=True),
    Column("op", "op"),
    Column("kind", "kind"),
    Column("timestep", "timestep", lambda v: "" if v is None else str(v)),
    Column("isolated_sqnr_db", "alone dB", decibels),
    Column("avoidable_sqnr_db", "less weights", decibels),
    Column("accumulated_sqnr_db", "accumulated", decibels),
    Column("weights_sqnr_db", "weights", decibels),
    Column("inputs_sqnr_db", "inputs", decibels),
    Column("output_sqnr_db", "output", decibels),
    Column("clipping_sqnr_db", "clipping", decibels),
    Column("requantization_sqnr_db", "requant.", decibels),
    Column("tables_sqnr_db", "tables", decibels),
    Column("clipped_percent", "clipped %", percent, detail=True),
    Column("scope", "module", detail=True),
)
_SUGGESTIONS = (
    Column("component", "component"),
    Column("op", "op"),
    Column("output_sqnr_db", "output dB", decibels),
    Column("int16_ms", "INT16 ms", milliseconds),
    Column("fp16_ms", "FP16 ms", milliseconds),
    Column("extra_ms", "more ms", milliseconds),
)
_VALUES_NOTE = (
    "SQNR in dB, of images PSNR. arithmetic: against the bundle's own graph and weights; model: "
    "against the source. Values without a gate are on the way to others: shown, not judged."
)
_BY = {"avoidable_sqnr_db": "error less that of weights", "isolated_sqnr_db": "their own error"}
_NOTE = (
    "All columns are SQNR in dB: of the op alone, the same less the rounding of its weights, "
    "accumulated up to it, and of each cause alone; "
    "empty: no error. inputs: rounding of what it reads; output: rounding to the result's scale, "
    "clipping included; requant.: roundings inside the op; tables: activation functions, softmax."
)


@app.command()
def verify(
    bundle: BundleArgument,
    prompts: Annotated[
        str,
        typer.Option(
            metavar="N|FILE",
            help="Held-out prompts: N of the built-in ones, or a file, one a line.",
        ),
        Reads(),
    ] = "1",
    image: ImagesOption = None,
    mask: MasksOption = None,
    control: ControlsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 1000,
    layers: Annotated[
        str,
        typer.Option(metavar="A,B|none", help="Components whose every layer is measured."),
    ] = "unet",
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="What the bundle was compiled from, where it is a folder or file.",
        ),
        Reads(),
    ] = None,
    lora: LoraOption = None,
    against: Annotated[
        str,
        typer.Option(
            metavar="bundle|source|both",
            help="Gate the arithmetic (against the bundle's rounded weights), the model (against "
            "the source's own graph), or both.",
        ),
    ] = "both",
    min_sqnr_db: Annotated[
        float,
        typer.Option(metavar="X", help="Arithmetic gate of latents (every step) and outputs."),
    ] = MIN_SQNR_DB,
    min_model_db: Annotated[
        float, typer.Option(metavar="X", help="Model gate of latents and outputs.")
    ] = MIN_MODEL_DB,
    min_psnr_db: Annotated[
        float, typer.Option(metavar="X", help="Gate for the image, against both.")
    ] = MIN_PSNR_DB,
    suggest: Annotated[
        bool,
        typer.Option(
            "--suggest",
            help="Rank ops to run in FP16 by error and latency. Like --recipe-out it runs the FP32 "
            "network once for each op and step: most of an hour for BK-SDM-Tiny.",
        ),
    ] = False,
    recipe_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml", help="Write a recipe that aims at --min-sqnr-db; see below."
        ),
        Writes(Kind.TOML),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="How many of the worst layers to show.")] = 15,
    host: Annotated[str, typer.Option(metavar="tvm|ort", help="What runs host functions.")] = "tvm",
    json_to: JsonOption = None,
) -> None:
    """Compare a bundle's values with ONNX Runtime in FP32: every layer, every step, the image.

    A value passes where it keeps two gates: of the arithmetic, against the bundle's own graph and
    weights, and of the model, against the source as it was before anything was done to it. Where
    the source is not found by its name, name it with `--source`, or the bundle's record of it is
    used.

    Examples: `edgefusion verify tiny.npub`; `edgefusion verify my.npub --source ./my-pipeline
    --prompts 4 --json accuracy.json`; `edgefusion verify tiny.npub --suggest`;
    `edgefusion verify tiny.npub --recipe-out fp16.toml`, then compile again with `--recipe
    fp16.toml` and verify: the recipe keeps those ops in FP16 whose roundings reach the output.

    Exit code 6 means that a value misses a gate; the report is written all the same. A bundle that
    is no whole pipeline runs on random inputs. With exit code 0 and "not checked" the arithmetic
    holds, and nothing is known of the model.
    """
    from edgefusion.api import open_bundle
    from edgefusion.toolchain.accuracy.fp16_candidates import suggestions
    from edgefusion.toolchain.accuracy.held_out import PROMPTS
    from edgefusion.toolchain.accuracy.verification import Request, verify_bundle
    from edgefusion.toolchain.running.execution import require_calibrated

    compared = next((each for each in AGAINST if each == against), None)
    if compared is None:
        raise UsageError(f"--against {against}: expected one of {', '.join(AGAINST)}.")
    gates = Gates(min_sqnr_db, min_psnr_db, compared, min_model_db)
    chosen = count_or_prompts(prompts, PROMPTS)
    sets = picture_sets(image, mask, control)
    with progress() as say:
        say(f"checking {bundle}")
        opened = open_bundle(bundle)
        require_calibrated(opened, *opened.components)
        request = Request(
            chosen,
            seed,
            _layers(layers, opened.components),
            source,
            host,
            tuple(lora or ()),
            contributions=suggest or recipe_out is not None,
            pictures=sets,
        )
        found = verify_bundle(opened, request, say)
        document = verification_json(found, gates, layer_ops(opened, found))
        if suggest:
            ranked = suggestions(opened, found.contributions, say)
            document["suggestions"] = [candidate.to_json() for candidate in ranked]
        if recipe_out is not None:
            document["recipe"] = _write_recipe(recipe_out, opened, found, min_sqnr_db, say)
    lines = [f"{document['gates']['verdict']}; {document['gates']['summary']}"]
    lines += [_recipe_line(document["recipe"])] if recipe_out is not None else []
    document["warnings"] = say.warnings
    emit(
        _tables(document, bundle, top),
        lambda: document,
        json_to=json_to,
        lines=lines,
        warnings=say.warnings,
    )
    gates.check(found)


def _write_recipe(
    path: Path, bundle: Bundle, found: Verification, gate_db: float, say: Say
) -> dict[str, Any]:
    """Write the recipe of the component whose layers were measured; its row in the JSON."""
    from edgefusion.toolchain.accuracy.fp16_candidates import extra_ms
    from edgefusion.toolchain.accuracy.recipe_search import propose

    components = sorted({component for component, _, _ in found.contributions})
    if len(components) != 1:
        raise UsageError("--recipe-out needs --layers with one component that is in the bundle.")
    (component,) = components
    network = bundle.network(component)
    shares = {(op, at): share for (_, op, at), share in found.contributions.items()}
    proposal = propose(network, shares, gate_db)
    say(f"{component}: timing {len(proposal.added)} ops in FP16")
    row = {
        "file": str(path),
        "component": component,
        "added_ops": list(proposal.added),
        "ops": len(proposal.already) + len(proposal.added),
        "predicted_sqnr_db": db(proposal.predicted_db),
        "predicted_to_pass": proposal.reached,
        "extra_ms_an_evaluation_at_most": extra_ms(bundle, network, proposal.added),
    }
    text = proposal.to_toml([_recipe_line(row), f"from {bundle.path.name}"])
    write_text(str(path), text, Kind.TOML)
    return row


def _recipe_line(row: dict[str, Any]) -> str:
    predicted = row["predicted_sqnr_db"]
    level = "no INT16 error" if predicted is None else f"{predicted:.1f} dB"
    return (
        f"{row['file']}: {row['ops']} ops of {row['component']} in FP16, predicted {level} at its "
        f"output{'' if row['predicted_to_pass'] else ', which misses the gate'}; "
        f"at most {row['extra_ms_an_evaluation_at_most']:.3f} ms more an evaluation"
    )


def _layers(text: str, components: tuple[str, ...]) -> tuple[str, ...]:
    """The components named; those of another bundle than a pipeline are all meant by default."""
    if text == "none":
        return ()
    names = split_names(text) or ()
    if names == ("unet",) and "unet" not in components:
        denoiser = denoiser_of(components)
        return (denoiser,) if denoiser else components
    unknown = [name for name in names if name not in components]
    if unknown:
        raise UsageError(
            f"--layers {text}: the bundle has no {', '.join(unknown)}; it holds "
            f"{', '.join(components)}."
        )
    return names


def values_table(document: dict[str, Any], title: str) -> Table:
    """The values, from what ``verification_json`` gives."""
    rows = [{**row, **_figures(row), "passed": _outcome(row)} for row in document["values"]]
    return Table(title, _VALUES, rows, _VALUES_NOTE)


def _figures(row: dict[str, Any]) -> dict[str, str]:
    """What stands in a row in place of decibels."""
    shares = {
        f"{name}_db": f"{percent(100 * row[f'{name}_equal'])} % equal"
        for name in ("bundle", "source", "weights")
        if row[f"{name}_equal"] is not None
    }
    if not row["gated"]:
        shares |= dict.fromkeys(("gate_db", "model_gate_db"), "none")
    return shares if row["model_checked"] else shares | {"source_db": "not checked"}


def _outcome(row: dict[str, Any]) -> str:
    if row["passed"] is not None:
        return "yes" if row["passed"] else "NO"
    parts = {"arithmetic only": row["arithmetic_passed"], "model only": row["model_passed"]}
    nothing = "not checked" if row["gated"] else "not gated"
    return next((text for text, held in parts.items() if held), nothing)


def _tables(document: dict[str, Any], bundle: Path, top: int) -> list[Table]:
    tables = [values_table(document, f"{bundle.name} against ONNX Runtime FP32")]
    if document["layers"] and top:
        tables.append(layers_table(document, top))
    if document.get("suggestions"):
        note = "In FP16 with conversions around it; best first. Recipe: [[rule]] match = the op."
        tables.append(Table("Ops to run in FP16", _SUGGESTIONS, document["suggestions"], note))
    return tables


def layers_table(document: dict[str, Any], top: int) -> Table:
    """The worst ``top`` layers; an error that a gate raises names the first one."""
    by, weights = document["layers_by"], document["reference_weights"]
    worst = sorted(document["layers"], key=lambda row: _least_first(row[by]))[:top]
    title = f"The {len(worst)} worst layers by {_BY[by]}, against the {weights}'s weights"
    return Table(title, _LAYERS, worst, _NOTE)


def _least_first(level_db: float | None) -> float:
    return float("inf") if level_db is None else float(level_db)
