"""A ViT in Hugging Face layout made int8 by other exporters; run by their own Pythons, one way in one process.

Their dependencies do not fit beside edgevit's, so each lives in a virtual environment of its own:

    python -m venv OPTIMUM && OPTIMUM/bin/pip install optimum-intel[openvino] torch
    python -m venv OLIVE && OLIVE/bin/pip install olive-ai optimum-onnx onnxruntime torch
    python benchmarks/run.py checkpoints --optimum OPTIMUM/bin/python --olive OLIVE/bin/python

Where a command line of theirs does the work, that is what runs. `optimum-cli export openvino --quant-mode int8` wants a
data set of its hub and knows none for pictures, so static int8 goes through the Python interface behind it; so does
ONNX Runtime's, whose command line quantizes dynamically only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

CALIBRATION = "calibration.npy"
"""Prepared pictures, (samples, 3, height, width), float32: every way calibrates on the same numbers."""


def main(way: str, source: Path, images: Path, out: Path) -> None:
    """Writes model.xml and .bin, or model.onnx, to `out`/files, and the versions that made them to `out`."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything is here, and none of them needs to ask
    files = out / "files"
    files.mkdir(parents=True)
    packages = WAYS[way](source, images, out / "work", files)
    shutil.rmtree(out / "work", ignore_errors=True)
    (out / "versions.json").write_text(json.dumps({name: version(name) for name in packages}))


def optimum_openvino_weights(source: Path, images: Path, work: Path, files: Path) -> tuple[str, ...]:
    _command("optimum-cli", "export", "openvino", "-m", source, *_TASK, "--weight-format", "int8", work)
    return _take_openvino(work, files)


def optimum_openvino_static(source: Path, images: Path, work: Path, files: Path) -> tuple[str, ...]:
    import nncf
    from optimum.intel import OVModelForImageClassification, OVQuantizationConfig, OVQuantizer

    model = OVModelForImageClassification.from_pretrained(source, export=True, compile=False)
    samples = nncf.Dataset([{"pixel_values": image[None]} for image in np.load(images / CALIBRATION)])
    quantizer = OVQuantizer.from_pretrained(model)
    config = OVQuantizationConfig(bits=8, num_samples=samples.get_length())
    quantizer.quantize(calibration_dataset=samples, save_directory=work, ov_config=_quantized(config))
    return _take_openvino(work, files)


def _quantized(config: Any) -> Any:
    from optimum.intel import OVConfig

    return OVConfig(quantization_config=config)


def optimum_onnx_dynamic(source: Path, images: Path, work: Path, files: Path) -> tuple[str, ...]:
    _command("optimum-cli", "export", "onnx", "-m", source, *_TASK, work / "float")
    _command("optimum-cli", "onnxruntime", "quantize", "--onnx_model", work / "float", _VNNI, "-o", work / "int8")
    shutil.copyfile(work / "int8" / "model_quantized.onnx", files / "model.onnx")
    return _ONNX_PACKAGES


def optimum_onnx_static(source: Path, images: Path, work: Path, files: Path) -> tuple[str, ...]:
    """The recipe of optimum's documentation: min-max ranges, Q/DQ, a scale per channel of the weights."""
    from onnxruntime.quantization import CalibrationDataReader
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoCalibrationConfig, AutoQuantizationConfig

    _command("optimum-cli", "export", "onnx", "-m", source, *_TASK, work / "float")
    config = AutoQuantizationConfig.avx512_vnni(is_static=True, per_channel=True)
    quantizer = ORTQuantizer.from_pretrained(work / "float")
    pictures = np.load(images / CALIBRATION)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(pictures)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._images, None)
            return None if image is None else {"pixel_values": image[None]}

    ranges = _ranges(quantizer, config, AutoCalibrationConfig, Reader(), work)
    quantizer.quantize(config, work / "int8", calibration_tensors_range=ranges)
    shutil.copyfile(work / "int8" / "model_quantized.onnx", files / "model.onnx")
    return _ONNX_PACKAGES


def _ranges(quantizer: Any, config: Any, calibrations: Any, reader: Any, work: Path) -> Any:
    """What `ORTQuantizer.fit` computes, whose own reader takes data sets of the hub only."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    calibrator = create_calibrator(
        str(quantizer.onnx_model_path),
        config.operators_to_quantize,
        str(work / "augmented.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.collect_data(reader)
    return calibrator.compute_data()


def olive_static(source: Path, images: Path, work: Path, files: Path) -> tuple[str, ...]:
    """Olive's own sequence for a ViT on a CPU: conversion, the Transformer optimizer, static quantization."""
    from olive.data.registry import Registry
    from olive.workflows import run

    pictures = np.load(images / CALIBRATION)

    class Pictures:
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
            return {"pixel_values": pictures[index]}, 0

    @Registry.register_dataset()  # type: ignore[untyped-decorator]
    def prepared_pictures(**_: Any) -> Pictures:
        return Pictures()

    side = pictures.shape[-1]
    run(
        {
            "input_model": {
                "type": "HfModel",
                "model_path": str(source),
                "task": "image-classification",
                "io_config": {
                    "input_names": ["pixel_values"],
                    "input_shapes": [[1, 3, side, side]],
                    "output_names": ["logits"],
                    "dynamic_axes": {"pixel_values": {"0": "batch"}, "logits": {"0": "batch"}},
                },
            },
            "systems": {
                "here": {
                    "type": "LocalSystem",
                    "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
                }
            },
            "data_configs": [
                {
                    "name": "pictures",
                    "load_dataset_config": {"type": "prepared_pictures"},
                    "pre_process_data_config": {"type": "skip_pre_process"},
                    "post_process_data_config": {"type": "skip_post_process"},
                    "dataloader_config": {"batch_size": 1},
                }
            ],
            "passes": {
                "conversion": {"type": "OnnxConversion"},
                "transformer": {"type": "OrtTransformersOptimization", "model_type": "vit"},
                "quantization": {"type": "OnnxStaticQuantization", "data_config": "pictures"},
            },
            "host": "here",
            "target": "here",
            "cache_dir": str(work / "cache"),
            "output_dir": str(work / "out"),
            "evaluate_input_model": False,
        }
    )
    (model,) = (work / "out").rglob("*.onnx")
    for path in model.parent.glob(f"{model.name}*"):
        shutil.copyfile(path, files / path.name.replace(model.name, "model.onnx"))
    return ("olive-ai", "onnxruntime", "torch", "transformers")


WAYS = {
    "optimum_openvino_weights": optimum_openvino_weights,
    "optimum_openvino_static": optimum_openvino_static,
    "optimum_onnx_dynamic": optimum_onnx_dynamic,
    "optimum_onnx_static": optimum_onnx_static,
    "olive_static": olive_static,
}
_TASK = ("--task", "image-classification")
_VNNI = "--avx512_vnni"
_ONNX_PACKAGES = ("optimum-onnx", "onnxruntime", "torch", "transformers")


def _command(name: str, *arguments: object) -> None:
    """A command of this Python's environment."""
    subprocess.run([str(Path(sys.executable).with_name(name)), *map(str, arguments)], check=True)


def _take_openvino(work: Path, files: Path) -> tuple[str, ...]:
    for suffix in ("xml", "bin"):
        shutil.copyfile(work / f"openvino_model.{suffix}", files / f"model.{suffix}")
    return ("optimum-intel", "openvino", "nncf", "torch", "transformers")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
