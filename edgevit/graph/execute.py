"""Runs a graph through ONNX Runtime for its outputs and any inner tensors: calibration, simulation and layer checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from edgevit.errors import missing_package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from edgevit.types import Arrays


class Executor:
    """An ONNX file opened for reading tensors.

    `taps` are inner tensors that are wanted besides the outputs. Of those in `ranges` only the smallest and the
    largest element are: the graph finds them itself and holds on to nothing (`range_of` reads them).
    `exact=True` turns every optimization off: Q/DQ pairs then run as written, in float32, which is the simulation that
    the engines' int8 kernels are compared with.
    """

    def __init__(
        self,
        path: Path,
        taps: Sequence[str] = (),
        *,
        ranges: Sequence[str] = (),
        exact: bool = False,
        threads: int = 0,
    ) -> None:
        try:
            import onnxruntime as ort
        except ModuleNotFoundError as error:
            raise missing_package("onnxruntime", "export", "running an ONNX graph") from error
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        # The arena keeps the largest batch ever seen; calibration must not grow with what it has read.
        options.enable_cpu_mem_arena = False
        # A pattern is one block for all tensors of a run, which is kept until the next.
        options.enable_mem_pattern = False
        if exact:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            # By default what needs no input comes first: the weights of all layers would be dequantized before the
            # first of them is used (a ViT-L with its layers tapped: 2.3 GB against 0.8).
            options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        source = path
        self._tapped: Path | None = None
        if taps or ranges:
            source = self._tapped = _with_taps(path, taps, ranges)
        try:
            self._session: Any = ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        finally:
            if self._tapped is not None:
                self._tapped.unlink(missing_ok=True)
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """Every output and tap by name, and the ends of the ranges."""
        values = self._session.run(self._outputs, inputs)
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def range_of(name: str, values: Arrays) -> tuple[float, float]:
    """The smallest and the largest element of one of an executor's `ranges`, out of what it returned."""
    return float(values[f"{name}.low"]), float(values[f"{name}.high"])


def _with_taps(path: Path, taps: Sequence[str], ranges: Sequence[str]) -> Path:
    """A copy of the graph beside the original with inner tensors as further outputs; weights are not copied.

    The copy keeps its weights as external data in the original's data file where there is one, else inline.
    """
    import os
    import tempfile

    import onnx

    model = onnx.load(str(path), load_external_data=False)
    present = {output.name for output in model.graph.output}
    for name in dict.fromkeys(taps):
        if name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    for name in dict.fromkeys(ranges):
        for operator, end in (("ReduceMin", "low"), ("ReduceMax", "high")):
            model.graph.node.append(onnx.helper.make_node(operator, [name], [f"{name}.{end}"], keepdims=0))
            model.graph.output.append(onnx.ValueInfoProto(name=f"{name}.{end}"))
    handle, name = tempfile.mkstemp(prefix=".tapped-", suffix=".onnx", dir=path.parent)
    os.close(handle)
    tapped = path.with_name(name.rpartition("/")[2])
    onnx.save(model, str(tapped))
    return tapped
