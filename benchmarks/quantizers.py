"""Steps from the same float ONNX and the same calibration images to an int8 build: edgevit's and its peers'.

Each is one function, so that it can be run and measured in a process of its own. A peer gets what is best for it: the
graph that edgevit itself would hand to that engine, fused attention included, and the images already prepared.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from bundles import UNSEARCHED
from models import Lowered, build_place, describe_build, empty_files, read_lowered

from edgevit.targets.processor import instruction_sets, multiplies_int8_exactly

if TYPE_CHECKING:
    from edgevit.sets import SampleSet
    from edgevit.types import Arrays

PREPARED = "onnxruntime-float32-as-written"
"""The float build for ONNX Runtime before its optimizer: opset 21 with its own fused attention."""


def calibration_set(lowered: Lowered, samples: int) -> SampleSet:
    from edgevit.sets import open_set, take

    chosen = open_set(lowered.calibration)
    return take(chosen, min(samples, len(chosen)), 0)


def calibration_images(lowered: Lowered, samples: int) -> Iterator[Arrays]:
    """One image at a time, which is what the peers' own examples do."""
    from edgevit.sets import batches

    return (batch.inputs for batch in batches(calibration_set(lowered, samples), lowered.model.preprocess, 1))


def float_layers_here() -> str:
    """What OpenVINO by itself executes float layers in on this processor, and edgevit's int8 builds too."""
    from edgevit.targets import openvino

    return "f32" if openvino.why_not("bfloat16") else "bf16"


def edgevit_openvino(folder: str, name: str, samples: int, work: str, searched: bool) -> list[dict[str, Any]]:
    """Calibrates, plans, writes Q/DQ and builds for OpenVINO, as an export does; returns what each stage cost.

    `searched=False` leaves out the searches of the plan, which a smoke run has no time for.
    """
    from edgevit.pipeline.stages import built, calibrated, planned, quantized
    from edgevit.pipeline.workbench import Workbench
    from edgevit.progress import Silent
    from edgevit.recipe import PlanSettings, Recipe
    from edgevit.targets.base import BuildSource

    lowered = read_lowered(folder)
    settings = PlanSettings() if searched else UNSEARCHED
    recipe, silent = Recipe(model=lowered.model.name, plan=settings), Silent()
    graphs = {"": lowered.onnx}
    images = calibration_set(lowered, samples)
    with Workbench(Path(work) / name, silent) as bench:
        calibration = calibrated(bench, lowered.model, graphs, images, recipe, silent)
        plan = planned(bench, lowered.model, graphs, calibration, recipe, silent)
        written = quantized(bench, graphs, plan, silent)[""]
        source = BuildSource(float_model=None, onnx=lowered.onnx, quantized=written, plan=plan)
        made = built(bench, "openvino:int8", lowered.model, {"": source}, recipe, silent)
        shutil.copytree(made / "files", empty_files(folder, name), dirs_exist_ok=True)
        used = msgspec.json.decode((made / "options.json").read_bytes())
    describe_build(folder, name, "openvino", "int8", used)
    (build_place(folder, name) / "plan.json").write_bytes(msgspec.json.encode(plan))
    return [msgspec.to_builtins(cost) for cost in bench.costs]


def edgevit_onnxruntime(folder: str, name: str, planned_by: str) -> None:
    """Builds for ONNX Runtime from the plan that `edgevit_openvino` made: one plan serves every engine."""
    from edgevit.targets import onnxruntime
    from edgevit.targets.base import BuildSource
    from edgevit.types import QuantPlan

    lowered = read_lowered(folder)
    plan = msgspec.json.decode((build_place(folder, planned_by) / "plan.json").read_bytes(), type=QuantPlan)
    files = empty_files(folder, name)
    onnxruntime.build(BuildSource(float_model=None, onnx=lowered.onnx, plan=plan), "int8", {}, files)
    describe_build(folder, name, "onnxruntime", "int8")


def nncf_openvino(folder: str, name: str, samples: int) -> None:
    """`nncf.quantize` with the preset for Transformers and its defaults otherwise."""
    import nncf
    import openvino

    lowered = read_lowered(folder)
    model = openvino.Core().read_model(str(lowered.onnx.path))
    images = nncf.Dataset(list(calibration_images(lowered, samples)))
    quantized = nncf.quantize(model, images, model_type=nncf.ModelType.TRANSFORMER)
    files = empty_files(folder, name)
    # edgevit's int8 IR keeps its float constants in float32; so does this one, to be equal in size and arithmetic.
    openvino.save_model(quantized, str(files / "model.xml"), compress_to_fp16=False)
    describe_build(folder, name, "openvino", "int8", {"float_layers": float_layers_here()})


def static_defaults(folder: str, name: str, samples: int) -> None:
    """`quantize_static` as it comes: Q/DQ, min-max, every operator it knows, one scale per weight."""
    _quantize_static(folder, name, samples, {})


def static_best(folder: str, name: str, samples: int) -> None:
    """The settings that fit a Transformer: linear layers only, a scale per channel, symmetric signed activations.

    `reduce_range` keeps weights to seven bits where the processor's int8 products would overflow with eight, as ONNX
    Runtime's documentation advises.
    """
    from onnxruntime.quantization import QuantType

    options = {
        "per_channel": True,
        "reduce_range": not multiplies_int8_exactly(instruction_sets()),
        "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8,
        "op_types_to_quantize": ["MatMul", "Gemm"],
        "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True},
    }
    _quantize_static(folder, name, samples, options)


def dynamic(folder: str, name: str) -> None:
    """`quantize_dynamic` as it comes: weights in int8, the range of every activation found at run time."""
    from onnxruntime.quantization import quantize_dynamic

    files = empty_files(folder, name)
    quantize_dynamic(str(_preprocessed(folder, name)), str(files / "model.onnx"))
    describe_build(folder, name, "onnxruntime", "int8")


def _quantize_static(folder: str, name: str, samples: int, options: dict[str, Any]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    images = calibration_images(read_lowered(folder), samples)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Arrays | None:
            return next(images, None)

    files = empty_files(folder, name)
    quantize_static(str(_preprocessed(folder, name)), str(files / "model.onnx"), Reader(), **options)
    describe_build(folder, name, "onnxruntime", "int8")


def _preprocessed(folder: str, name: str) -> Path:
    """The step that ONNX Runtime asks for before quantizing.

    It fails on external data and on stale shapes; the float build as edgevit writes it has neither below 1.8 GB.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = build_place(folder, name) / "preprocessed.onnx"
    quant_pre_process(str(build_place(folder, PREPARED) / "files" / "model.onnx"), str(prepared))
    return prepared
