from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgevit.errors import InputError
from edgevit.report.data import UNTRAINED, ReportData, encode_report, read_report, summarize_plan
from edgevit.types import LayerPlan, QuantPlan, SkippedLayer


def test_json_reloads_to_the_same_value(data: ReportData, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(encode_report(data))
    assert read_report(path) == data
    assert encode_report(read_report(path)) == path.read_bytes()


def test_an_untrained_report_drops_accuracy_from_the_value_itself(data: ReportData, untrained: ReportData) -> None:
    assert untrained.parity is not None and data.parity is not None
    assert not untrained.parity.trained
    for rung, original in zip(untrained.parity.rungs, data.parity.rungs, strict=True):
        assert (rung.task, rung.agreement, rung.flips, rung.worst) == (None, None, None, ())
        assert rung.verdict == original.verdict
        if rung.closeness is not None and original.closeness is not None:
            assert rung.closeness.kl_mean is None
            assert rung.closeness.sqnr_db == original.closeness.sqnr_db
    text = encode_report(untrained).decode()
    assert "top-1" not in text and "97.2" not in text and "accuracy -0.14" not in text
    assert UNTRAINED in text
    assert data.parity.rungs[0].task is not None


def test_an_untrained_comparison_keeps_its_own_reasons(untrained: ReportData) -> None:
    assert untrained.parity is not None
    rung = msgspec.structs.replace(untrained.parity.rungs[0], reason="SQNR 124.0 dB is above the floor of 60.0 dB")
    parity = msgspec.structs.replace(untrained.parity, rungs=(rung,))
    kept = msgspec.structs.replace(untrained, parity=parity).parity
    assert kept is not None and kept.rungs[0].reason == rung.reason


def test_an_untrained_report_keeps_why_a_build_was_not_executed(untrained: ReportData) -> None:
    assert untrained.builds[-1].reason == "no NVIDIA driver on this machine"
    assert untrained.builds[0].reason == UNTRAINED


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model": 1}', b"\xff\xfe"])
def test_what_is_no_report_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"expected a report\.json") as caught:
        read_report(path)
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_later_report_are_refused(data: ReportData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a report"):
        read_report(tmp_path / "absent.json")
    path = tmp_path / "report.json"
    path.write_bytes(encode_report(msgspec.structs.replace(data, schema=2)))
    with pytest.raises(InputError, match="schema 2"):
        read_report(path)


def test_a_plan_is_counted_by_kind_and_method() -> None:
    def layer(name: str, kind: str, method: str, equalization: tuple[float, ...] = ()) -> LayerPlan:
        return LayerPlan(
            name=name,
            kind=kind,
            input_scale=0.1,
            weight_scale=(0.1,),
            input_method=method,
            weight_method="mse",
            equalization=equalization,
        )

    plan = QuantPlan(
        model="m",
        model_digest="d",
        safe_without_vnni=True,
        layers=(layer("a", "linear", "mse"), layer("b", "linear", "entropy", (1.0,)), layer("c", "conv", "entropy")),
        skipped=(SkippedLayer(name="head", reason="sensitive"),),
    )
    summary = summarize_plan(plan)
    assert summary.kinds == {"linear": 2, "conv": 1}
    assert list(summary.input_methods.items()) == [("entropy", 2), ("mse", 1)]
    assert summary.weight_methods == {"mse": 3}
    assert (summary.quantized, summary.equalized, summary.bias_corrected) == (3, 1, 0)
    assert summary.skipped == plan.skipped
    assert summary.safe_without_vnni
