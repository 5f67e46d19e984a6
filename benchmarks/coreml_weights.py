"""Step: coremltools' own weight quantization of the float16 package, and what the weights of each package have lost.

Core ML executes nothing here, so what can be compared is what a package stores: its size, and its weights against the
float32 ones they were made of, layer by layer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.types import FloatModel

    FloatArray = NDArray[np.float32]

PEER = "coremltools-int8w"
OURS = ("coreml-float16", "coreml-int8", "coreml-int8w", "coreml-int4w")


def linear_quantized(bundle: str, out: str) -> None:
    """Step: `linear_quantize_weights` as coremltools' documentation has it: every weight, symmetric, per channel."""
    from coremltools.models import MLModel
    from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig, linear_quantize_weights

    from edgevit.graph.quiet import quiet_torch
    from edgevit.targets.coreml import PACKAGE

    files = Path(out) / PEER / "files"
    files.mkdir(parents=True)
    with quiet_torch():
        package = MLModel(str(Path(bundle) / "coreml-float16" / PACKAGE), skip_model_load=True)
        how = OptimizationConfig(global_config=OpLinearQuantizerConfig(mode="linear_symmetric"))
        linear_quantize_weights(package, how).save(str(files / PACKAGE))


def weight_losses(model: str, bundle: str, packages: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Step: by build the SQNR of each layer's weight in dB, and how many are narrower than float16.

    A layer's float weight is found by its numbers, under the plan's adjustments or without them: nothing else comes
    near it.
    """
    from edgevit.sources import SourceOptions, open_source

    floats = _candidates(open_source(f"zoo:{model}", None, SourceOptions()), Path(bundle))
    found = {}
    for name, path in packages.items():
        layers = _stored(Path(path))
        losses = [max(_sqnr(given, kept) for given in floats if given.size == kept.size) for kept, _ in layers]
        narrow = sum(stored != "float16" for _, stored in layers)
        found[name] = {"sqnr_db": losses, "narrow": narrow, "layers": len(layers)}
    return found


def _candidates(model: FloatModel, bundle: Path) -> list[FloatArray]:
    """The matrices of the model, and the same under the adjustments of the bundle's plan."""
    from edgevit.graph.capture import capture
    from edgevit.graph.lower import lower
    from edgevit.quantize.plan_file import read_plan
    from edgevit.quantize.write_torch import adjusted_parameters

    with tempfile.TemporaryDirectory(prefix="edgevit-lower-") as folder:
        onnx = lower(capture(model), model, Path(folder) / "model.onnx")
        adjusted = adjusted_parameters(onnx, read_plan(bundle / "plan.toml"))
    plain = [value.detach().numpy() for _, value in model.module.named_parameters()]
    return [np.array(value, np.float32).reshape(-1) for value in (*plain, *adjusted.values()) if value.ndim > 1]


def _stored(path: Path) -> list[tuple[FloatArray, str]]:
    """Every layer's weight as numbers, in PyTorch's layout, and how it is kept."""
    from edgevit.graph.quiet import quiet_torch
    from edgevit.targets.apple.check import read_program, stored_layers
    from edgevit.targets.apple.convert import import_coremltools

    ct = import_coremltools()
    with quiet_torch():
        program = read_program(path, ct.utils.load_spec(str(path)))
        layers = list(stored_layers(program.functions["main"].operations))
        return [(np.array(_numbers(one.weight), np.float32).reshape(-1), one.stored) for one in layers]


def _numbers(maker: Any) -> Any:
    return maker.val.val if maker.op_type == "const" else maker.materialized_val_inference()


def _sqnr(given: FloatArray, kept: FloatArray) -> float:
    from edgevit.parity.metrics import sqnr_db

    return sqnr_db(given, kept)
