"""Through the pipeline: what cannot be executed here is said so, and its numerics are judged all the same."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgevit.errors import UnavailableError
from edgevit.graph import storage
from edgevit.parity.ladder import out_of_budget
from edgevit.pipeline.compiled import compiled_execution, simulated_rungs
from edgevit.pipeline.evaluation import Evaluation
from edgevit.pipeline.proof import comparison
from edgevit.progress import Silent
from edgevit.runtime import selection
from edgevit.targets import on_cpu, tensorrt_rtx
from edgevit.targets.base import Availability, BuildSource
from edgevit.targets.nvidia.files import LAYERS, ONNX
from edgevit.targets.nvidia.prepare import prepare
from edgevit.types import Execution, ParityReport


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Availability(
        build=True, run=False, version="1.7.1.116", run_reason="no NVIDIA driver", run_fix="add a card"
    )
    monkeypatch.setattr(tensorrt_rtx, "availability", lambda: state)


@pytest.mark.usefixtures("no_gpu")
def test_a_build_without_its_card_says_why_and_how(build) -> None:
    assert selection.why_not_here(build) == "no NVIDIA driver; add a card"


@pytest.mark.usefixtures("no_gpu")
def test_opening_it_exits_with_3(build, tmp_path: Path) -> None:
    class Bundle:
        def directory(self, build: object) -> Path:
            return tmp_path

    with pytest.raises(
        UnavailableError, match="tensorrt-rtx-int8 to run on this machine: no NVIDIA driver; add a card"
    ):
        selection.open_session(Bundle(), build, selection.OpenOptions())  # type: ignore[arg-type]


def test_a_graphics_card_needs_nothing_of_the_processor() -> None:
    assert on_cpu("openvino")
    assert not on_cpu("tensorrt-rtx")


def test_the_compilers_word_is_taken_where_nothing_runs(build, tmp_path: Path) -> None:
    said = Execution(precision="int8 (compiled)", provider="x: compiled, not executed", instruction_set="")
    (tmp_path / LAYERS).write_bytes(msgspec.json.encode(said))
    assert compiled_execution(build, tmp_path) == said
    assert compiled_execution(msgspec.structs.replace(build, target="openvino"), tmp_path) is None


@pytest.fixture
def evaluation(tiny) -> Evaluation:
    from edgevit.graph.execute import Executor

    class Samples:
        labelled = False

        def __len__(self) -> int:
            return 12

    class Batch(msgspec.Struct, frozen=True):
        inputs: dict[str, np.ndarray]
        names: list[str]
        labels: None = None
        words: None = None
        lengths: None = None

        def __len__(self) -> int:
            return len(self.names)

    class Fixed(Evaluation, frozen=True):
        def batches(self):
            for index, batch in enumerate(tiny.batches):
                yield Batch(batch, [f"{index}-{row}" for row in range(4)])

    with Executor(tiny.onnx.path) as executor:
        reference = executor.run(tiny.images)
    return Fixed(
        samples=Samples(),  # type: ignore[arg-type]
        preprocess=tiny.model.preprocess,
        labels=tiny.model.labels,
        batch=4,
        reference=reference,
    )


def rungs(place: Path, evaluation: Evaluation, tiny):
    options = comparison("image-classification", False, 0.5, tiny.model.labels, "logits")
    built = {"tensorrt-rtx:float16": place, "openvino:float32": place}
    return simulated_rungs(built, evaluation, options, Silent())


def test_float16_is_judged_without_a_gpu(tiny, evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    source = BuildSource(float_model=None, onnx=tiny.onnx)
    prepare(source, "float16", "float16", tmp_path / "files" / ONNX)
    (rung,) = rungs(tmp_path, evaluation, tiny)
    assert (rung.name, rung.target, rung.verdict) == ("simulated tensorrt-rtx-float16", "", "passed")
    assert 45 < rung.closeness.sqnr_db < 90


def test_a_collapse_in_float16_is_out_of_budget(tiny, evaluation: Evaluation, tmp_path: Path) -> None:
    """Patches scaled up to 1e6 and down again: nothing in float32, infinite in float16."""
    import onnx_ir as ir

    graph = storage.load(tiny.onnx.path)
    for name, factor in (("patch_embed.proj.weight", 3e4), ("patch_embed.proj.bias", 3e4)):
        value = graph.graph.initializers[name]
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(factor), name=name)
    convolution = next(node for node in graph.graph if node.op_type == "Conv")
    small = ir.tensor(np.float32(1 / 3e4), name="small")
    graph.graph.initializers["small"] = ir.Value(
        name="small", const_value=small, type=ir.TensorType(small.dtype), shape=ir.Shape([])
    )
    output = convolution.outputs[0]
    back = ir.node("Mul", [output, graph.graph.initializers["small"]], name="back")
    back.outputs[0].name, back.outputs[0].type, back.outputs[0].shape = "back", output.type, output.shape
    ir.convenience.replace_all_uses_with(output, back.outputs[0])
    back.replace_input_with(0, output)
    graph.graph.insert_after(convolution, back)
    storage.save(graph, tmp_path / "big.onnx")
    source = BuildSource(float_model=None, onnx=storage.describe(graph, tmp_path / "big.onnx"))
    (tmp_path / "files").mkdir()
    prepare(source, "float16", "float16", tmp_path / "files" / ONNX)
    (rung,) = rungs(tmp_path, evaluation, tiny)
    assert rung.verdict == "failed"
    report = ParityReport(model="m", model_digest="", set="s", set_digest="", budget_points=0.5, rungs=(rung,))
    assert out_of_budget(report) == ("simulated tensorrt-rtx-float16",)
