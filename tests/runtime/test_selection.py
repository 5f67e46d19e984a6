"""Which build runs here, and which of them is taken."""

from __future__ import annotations

import pytest

from edgevit.errors import BundleError, InputError, UnavailableError
from edgevit.runtime import selection
from edgevit.runtime.selection import best, open_build, runnable
from edgevit.targets.base import Availability, ClosedSession


def names(builds):
    return [build.name for build in builds]


def test_the_verdict_comes_before_the_latency(paper_bundle, make_build):
    bundle = paper_bundle(
        make_build("openvino", "int8", verdict="failed", latency_ms=1.0),
        make_build("openvino", "float16", verdict="not executed", latency_ms=2.0),
        make_build("onnxruntime", "int8", verdict="inconclusive", latency_ms=3.0),
        make_build("openvino", "float32", verdict="passed", latency_ms=9.0),
        make_build("onnxruntime", "float32", verdict="passed", latency_ms=8.0),
    )
    expected = [
        "onnxruntime-float32",
        "openvino-float32",
        "onnxruntime-int8",
        "openvino-float16",
        "openvino-int8",
    ]
    assert names(runnable(bundle)) == expected
    assert best(bundle).name == "onnxruntime-float32"


def test_an_unmeasured_build_comes_after_the_measured(paper_bundle, make_build):
    slow, unknown = make_build("openvino", "float32", latency_ms=1e6), make_build("openvino", "int8")
    assert names(runnable(paper_bundle(unknown, slow))) == ["openvino-float32", "openvino-int8"]


def test_a_failed_build_is_never_taken_unasked(paper_bundle, make_build):
    bundle = paper_bundle(
        make_build("openvino", "int8", verdict="failed", latency_ms=1.0),
        make_build("openvino", "float32", verdict="failed", latency_ms=2.0),
    )
    with pytest.raises(BundleError, match=r"only failed ones \(openvino-int8, openvino-float32\)"):
        best(bundle)
    assert best(bundle, "openvino").name == "openvino-int8"
    assert best(bundle, "openvino:float32").name == "openvino-float32"


def test_asking_by_target_still_prefers_what_passed(paper_bundle, make_build):
    bundle = paper_bundle(
        make_build("openvino", "int8", verdict="failed", latency_ms=1.0),
        make_build("openvino", "float32", latency_ms=2.0),
        make_build("onnxruntime", "int8", latency_ms=0.1),
    )
    assert best(bundle, "openvino").name == "openvino-float32"


def test_an_unknown_target_lists_the_choices(paper_bundle, make_build):
    with pytest.raises(InputError, match=r"no build 'tflite'.*one of: openvino:int8"):
        best(paper_bundle(make_build("openvino", "int8")), "tflite")


NEEDS = ("avx_vnni", "avx512_vnni")


@pytest.mark.parametrize(
    ("machine", "present", "runs"),
    [
        ("x86_64", ("avx2",), False),
        ("AMD64", (), False),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni"), True),
        ("aarch64", ("asimd",), True),
    ],
)
def test_kernels_that_would_overflow_are_kept_off_the_processor(
    machine, present, runs, paper_bundle, make_build, monkeypatch
):
    monkeypatch.setattr(selection, "instruction_sets", lambda: present)
    monkeypatch.setattr(selection.platform, "machine", lambda: machine)
    bundle = paper_bundle(
        make_build("openvino", "int8", requires_any=NEEDS, latency_ms=1.0),
        make_build("openvino", "float32", latency_ms=2.0),
    )
    assert best(bundle).name == ("openvino-int8" if runs else "openvino-float32")
    if not runs:
        with pytest.raises(UnavailableError, match=r"openvino-int8: its int8 kernels overflow.*--cpu any") as caught:
            best(bundle, "openvino:int8")
        assert caught.value.exit_status == 3


def test_an_engine_that_is_missing_is_passed_over(paper_bundle, make_build, monkeypatch):
    absent = Availability(build=False, run=False, run_fix="pip install 'edgevit[openvino]'")
    monkeypatch.setattr("edgevit.targets.openvino.availability", lambda: absent)
    fast, slow = make_build("openvino", "int8", latency_ms=1.0), make_build("onnxruntime", "int8", latency_ms=2.0)
    assert best(paper_bundle(fast, slow)).name == "onnxruntime-int8"
    unknown = make_build("some-other-engine", "int8")
    with pytest.raises(UnavailableError) as caught:
        best(paper_bundle(fast, unknown))
    message = str(caught.value)
    assert "openvino-int8: openvino is not installed here; run: pip install 'edgevit[openvino]'" in message
    assert "some-other-engine-int8: expected a target" in message
    assert "\n" not in message


def test_a_raw_session_is_the_engines_own(bundle, tiny):
    session = open_build(bundle, "onnxruntime-int8")
    assert session.engine.name == "onnxruntime"
    assert session.run(tiny.batches[0])["logits"].shape == (4, 10)
    session.close()
    with pytest.raises(ClosedSession):
        session.run(tiny.batches[0])


def test_opening_without_the_engine_names_the_command(bundle, monkeypatch):
    absent = Availability(build=False, run=False, run_fix="pip install 'edgevit[openvino]'")
    monkeypatch.setattr("edgevit.targets.openvino.availability", lambda: absent)
    with pytest.raises(UnavailableError, match=r"openvino-int8.*edgevit\[openvino\]"):
        open_build(bundle, "openvino:int8")
