"""A program that torch.export saved: `model.pt2`. Its parts are looked at first, because loading one can run code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import CheckpointError, InputError
from edgevit.graph.quiet import quiet_torch
from edgevit.sources.beside import labels_beside, preprocess_beside
from edgevit.sources.digest import module_digest
from edgevit.sources.options import SourceOptions
from edgevit.sources.pt2_check import check_pt2
from edgevit.sources.requirements import require
from edgevit.types import FloatModel, Signature, TensorSpec

if TYPE_CHECKING:
    import torch


def load_pt2(path: Path, weights: Path | None = None, options: SourceOptions | None = None) -> FloatModel:
    """The program in a torch.export archive, as a float32 module; its batch is as dynamic as it was exported.

    It takes one float32 image tensor and returns one tensor. The archive names no task: `options.task` must. Labels and
    preprocessing come from `options`, or from a config.json and a preprocessor_config.json beside the file.
    Raises CheckpointError for a file that is damaged or could run code, InputError for what cannot be told,
    UnavailableError without torch.
    """
    require("torch", f"loading {path}")
    options = options or SourceOptions()
    if weights is not None:
        raise InputError(f"expected the weights inside {path}, found --weights {weights} as well; leave one out")
    check_pt2(path)
    program = _load(path)
    inputs = [_spec(program, name, path) for name in program.graph_signature.user_inputs]
    outputs = [_spec(program, name, path) for name in program.graph_signature.user_outputs]
    if len(outputs) != 1:
        raise InputError(
            f"expected one output of {path}, found {len(outputs)}; export a module that returns one tensor"
        )
    task = options.task
    if task is None:
        raise InputError(
            f"expected to know what {path} computes, which a torch.export archive does not say; give --task "
            "image-classification or --task image-features"
        )
    preprocess = preprocess_beside(path, inputs, options)
    # Guards are Python code in the archive, and the hooks only check the range of the batch.
    module = program.module(check_guards=False)
    module._forward_pre_hooks.clear()
    module.requires_grad_(False)
    return FloatModel(
        name=path.stem,
        module=module,
        signature=Signature(
            inputs=(_renamed(inputs[0], preprocess.input),), outputs=(_renamed(outputs[0], _NAMES[task]),)
        ),
        task=task,
        preprocess=preprocess,
        labels=labels_beside(path, task, outputs, options),
        trained=True,
        digest=module_digest(module, str(program.graph).encode()),
    )


_NAMES = {"image-classification": "logits", "image-features": "features"}


def _load(path: Path) -> torch.export.ExportedProgram:
    import torch

    try:
        with quiet_torch():
            program = torch.export.load(path)
    except Exception as error:  # the deserializer raises whatever a damaged archive leads it to
        raise CheckpointError(
            f"expected a torch.export archive at {path}, found {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}; save it again with torch.export.save of torch {torch.__version__}"
        ) from error
    half = [
        name for name, value in program.state_dict.items() if value.is_floating_point() and value.dtype != torch.float32
    ]
    if half:
        raise CheckpointError(
            f"expected float32 parameters in {path}, found {len(half)} others ({half[0]}, …); "
            "export the model in float32"
        )
    return program


def _spec(program: torch.export.ExportedProgram, name: Any, path: Path) -> TensorSpec:
    import torch

    node = next((node for node in program.graph.nodes if node.name == name), None)
    value = None if node is None else node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise InputError(
            f"expected only tensors into and out of {path}, found {name!r}; export a module that has no others"
        )
    dims = tuple(
        dim if isinstance(dim, int) else ("batch" if axis == 0 else str(dim)) for axis, dim in enumerate(value.shape)
    )
    return TensorSpec(name=str(name), dtype=str(value.dtype).removeprefix("torch."), shape=dims)


def _renamed(spec: TensorSpec, name: str) -> TensorSpec:
    return TensorSpec(name=name, dtype=spec.dtype, shape=spec.shape)
