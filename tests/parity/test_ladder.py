from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from edgevit.errors import BuildError, InputError, SetError, UnavailableError
from edgevit.parity.compare import ComparisonOptions, Outputs, compare
from edgevit.parity.ladder import Stage, climb, out_of_budget, summary
from edgevit.types import ParityReport, Rung

Arrays = dict[str, np.ndarray]

WEIGHT = np.random.default_rng(0).normal(size=(6, 4))


class Batch(msgspec.Struct, frozen=True):
    names: list[str]
    inputs: Arrays
    labels: np.ndarray | tuple[int | None, ...] | None = None
    words: np.ndarray | None = None
    lengths: tuple[int, ...] | None = None


class Linear:
    """A stand-in for an engine: the reference's own product, with an error added and calls counted."""

    def __init__(self, error: float = 0.0, output: str = "logits") -> None:
        self.error, self.output, self.calls = error, output, 0

    def run(self, inputs: Arrays) -> Arrays:
        self.calls += 1
        return {self.output: inputs["x"] @ WEIGHT + self.error * np.arange(4)}


class Raising(Linear):
    """Works for one batch, then raises."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure

    def run(self, inputs: Arrays) -> Arrays:
        if self.calls == 1:
            raise self.failure
        return super().run(inputs)


def evaluation(count: int = 10, size: int = 60, *, labelled: bool = True) -> Iterator[Batch]:
    for index in range(count):
        x = np.random.default_rng(index + 1).normal(size=(size, 6))
        labels = np.argmax(x @ WEIGHT, axis=1) if labelled else None
        yield Batch(names=[f"{index}-{row}" for row in range(size)], inputs={"x": x}, labels=labels)


def reference(inputs: Arrays) -> Arrays:
    return {"logits": inputs["x"] @ WEIGHT, "features": inputs["x"]}


def report_of(rungs: tuple[Rung, ...]) -> ParityReport:
    return ParityReport(model="m", model_digest="", set="s", set_digest="", budget_points=0.5, rungs=rungs)


def test_every_rung_is_what_a_comparison_alone_would_give() -> None:
    good, bad = Linear(), Linear(error=0.8)
    rungs = climb(
        evaluation(),
        reference,
        [Stage(name="onnx", session=good), Stage(name="int8", session=bad, target="openvino", precision="int8")],
    )
    assert [rung.verdict for rung in rungs] == ["passed", "failed"]
    assert (rungs[1].target, rungs[1].precision, rungs[1].samples) == ("openvino", "int8", 600)
    expected = compare(
        (Outputs(names=b.names, values=reference(b.inputs)["logits"], labels=b.labels) for b in evaluation()),
        (Outputs(names=b.names, values=Linear(0.8).run(b.inputs)["logits"]) for b in evaluation()),
        name="int8",
        target="openvino",
        precision="int8",
    )
    assert rungs[1] == expected


def test_the_samples_are_read_once_and_the_reference_runs_once_per_batch() -> None:
    calls = []

    def counting(inputs: Arrays) -> Arrays:
        calls.append(len(inputs["x"]))
        return reference(inputs)

    sessions = [Linear(), Linear(), Linear()]
    progress: list[int] = []
    climb(
        evaluation(count=4),
        counting,
        [Stage(name=str(index), session=session) for index, session in enumerate(sessions)],
        progress=progress.append,
    )
    assert calls == [60] * 4
    assert [session.calls for session in sessions] == [4, 4, 4]
    assert progress == [60, 120, 180, 240]


def test_a_stage_that_raises_fails_alone() -> None:
    raising, other = Raising(BuildError("expected a finite scale, found 0")), Linear()
    rungs = climb(evaluation(), reference, [Stage(name="a", session=raising), Stage(name="b", session=other)])
    assert rungs[0].verdict == "failed"
    assert rungs[0].reason == "stopped after 60 samples: expected a finite scale, found 0"
    assert (rungs[0].samples, rungs[0].task, rungs[0].closeness) == (60, None, None)
    assert rungs[1].verdict == "passed"
    assert (raising.calls, other.calls) == (1, 10)


def test_an_engine_that_goes_away_is_not_executed_rather_than_failed() -> None:
    stage = Stage(name="gpu", session=Raising(UnavailableError("the driver is not there")))
    (rung,) = climb(evaluation(), reference, [stage])
    assert (rung.verdict, rung.reason) == ("not executed", "the driver is not there")


def test_a_defect_propagates() -> None:
    with pytest.raises(ZeroDivisionError):
        climb(evaluation(), reference, [Stage(name="a", session=Raising(ZeroDivisionError()))])


def test_stages_without_a_session_are_listed_in_place_with_their_reason() -> None:
    stages = [
        Stage(name="tensorrt", target="tensorrt", precision="int8", reason="built here, no NVIDIA driver to run it"),
        Stage(name="onnx", session=Linear()),
        Stage(name="coreml"),
    ]
    rungs = climb(evaluation(), reference, stages)
    assert [rung.name for rung in rungs] == ["tensorrt", "onnx", "coreml"]
    assert [rung.verdict for rung in rungs] == ["not executed", "passed", "not executed"]
    assert rungs[0].reason == "built here, no NVIDIA driver to run it"
    assert rungs[2].reason == "no session was opened for it on this machine"
    assert rungs[0].samples == 0


def test_outputs_are_matched_by_name() -> None:
    (rung,) = climb(evaluation(), reference, [Stage(name="a", session=Linear(output="scores"))])
    assert rung.verdict == "failed"
    assert "expected an output 'logits' of 'a', found scores" in rung.reason
    with pytest.raises(InputError, match="output 'tokens' of the float reference, found logits, features"):
        climb(evaluation(), reference, [], ComparisonOptions(output="tokens"))


def test_another_output_can_be_compared() -> None:
    class Features:
        def run(self, inputs: Arrays) -> Arrays:
            return {"features": inputs["x"] + 0.01, "logits": np.full((60, 4), np.nan)}

    options = ComparisonOptions(task="image-features", output="features")
    (rung,) = climb(evaluation(), reference, [Stage(name="a", session=Features())], options)
    assert rung.verdict == "passed"


def test_a_broken_reference_stops_the_ladder() -> None:
    def broken(inputs: Arrays) -> Arrays:
        return {"logits": np.full((60, 4), np.nan)}

    with pytest.raises(InputError, match="finite outputs of the float reference, found NaN or infinity for 0-0"):
        climb(evaluation(), broken, [Stage(name="a", session=Linear())])


def test_labels_of_another_model_stop_the_ladder_and_fail_no_stage() -> None:
    batch = Batch(names=["a"], inputs={"x": np.ones((1, 6))}, labels=[9])
    with pytest.raises(SetError, match=r"labels in \[0, 4\)"):
        climb([batch], reference, [Stage(name="a", session=Linear())])


def test_a_label_of_none_for_every_sample_means_an_unlabelled_set() -> None:
    batch = Batch(names=["a", "b"], inputs={"x": np.ones((2, 6))}, labels=(None, None))
    (rung,) = climb([batch], reference, [Stage(name="a", session=Linear())])
    assert not rung.labelled
    assert "no labels" in rung.reason
    half = Batch(names=["a", "b"], inputs={"x": np.ones((2, 6))}, labels=(None, 1))
    with pytest.raises(SetError, match="found 1 of 2 without one"):
        climb([half], reference, [Stage(name="a", session=Linear())])


def test_an_empty_set_is_an_error() -> None:
    with pytest.raises(SetError, match="found an empty set"):
        climb([], reference, [Stage(name="a", session=Linear())])


def test_untrained_models_climb_without_accuracy() -> None:
    (rung,) = climb(
        evaluation(count=1),
        reference,
        [Stage(name="a", session=Linear(error=1e-9), precision="float32")],
        ComparisonOptions(trained=False),
    )
    assert (rung.verdict, rung.task, rung.labelled) == ("passed", None, False)


def test_only_failed_rungs_are_out_of_budget() -> None:
    rungs = climb(
        evaluation(count=1),
        reference,
        [
            Stage(name="few", session=Linear()),
            Stage(name="simulated", session=Linear(error=0.9)),
            Stage(name="openvino-int8", session=Linear(error=0.9), target="openvino"),
            Stage(name="coreml-int8", target="coreml"),
        ],
    )
    report = report_of(rungs)
    assert [rung.verdict for rung in rungs] == ["inconclusive", "failed", "failed", "not executed"]
    assert out_of_budget(report) == ("simulated", "openvino-int8")
    assert summary(report) == (
        "2 failed (simulated, openvino-int8); 1 inconclusive (few); 1 not executed (coreml-int8)"
    )
    assert summary(report_of(())) == "nothing was compared"
