"""A float model with everything that must travel with it, and the ONNX graph it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgevit.types.preprocessing import Generation, Preprocess
from edgevit.types.signature import Signature, Task, Value


class FloatPart(msgspec.Struct, frozen=True, kw_only=True):
    """One graph of a model that is run as several: an encoder, a decoder that is called once a token."""

    name: str
    module: Any
    """`torch.nn.Module`; its parameters have the names they have in the whole model."""
    signature: Signature
    depth: int | None = None
    """The number of attention blocks this part's graph must show."""


class FloatModel(msgspec.Struct, frozen=True, kw_only=True):
    """A float32 PyTorch model in evaluation mode and everything that must travel with it."""

    name: str
    module: Any
    """`torch.nn.Module`, float32, eval; takes the signature's inputs positionally, in order. None: see `onnx`."""
    signature: Signature
    task: Task
    preprocess: Preprocess
    labels: tuple[str, ...]
    trained: bool
    """False for zoo sizes that exist for speed only: no accuracy is ever printed for them."""
    depth: int | None = None
    """The number of attention blocks the graph must show, where the architecture tells it."""
    calibration: str | None = None
    """SET the model was published with, or None."""
    evaluation: str | None = None
    digest: str = ""
    """SHA-256 over architecture and parameters."""
    notes: tuple[str, ...] = ()
    """What loading did to the checkpoint (wrappers and prefixes taken off, positions interpolated), for people."""
    onnx: Path | None = None
    """The file of a model that came as ONNX; it is its own float reference."""
    reference: str = "PyTorch"
    """What computes the float32 reference."""
    quantized: bool = False
    """An ONNX file with quantization of its own in it; it is built as it is, and never planned."""
    parts: tuple[FloatPart, ...] = ()
    """The graphs of an encoder-decoder; `module` is then the teacher-forced whole. Empty: `module` is the only one."""
    generation: Generation | None = None
    files: dict[str, Path] = {}
    """What must travel with the model, by its name in the bundle: tokenizers."""


class OnnxModel(Value, frozen=True, kw_only=True):
    """An ONNX file on disk; its external data, if any, lies beside it in `<stem>.onnx.data`."""

    path: Path
    signature: Signature
    opset: int
    digest: str
    """SHA-256 over graph and weights."""
