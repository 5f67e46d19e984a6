from __future__ import annotations

import msgspec
import pytest

from edgevit.errors import InputError
from edgevit.report.data import ReportData
from edgevit.report.samples import picture, score_name, worst_samples
from edgevit.types import WorstSample


def test_each_sample_comes_once_with_every_opinion(data: ReportData) -> None:
    samples = worst_samples(data)
    assert [sample.name for sample in samples] == ["digit-0812", "digit-1203", "digit-0077"]
    first = samples[0]
    assert (first.reference, first.truth) == ("3", "3")
    assert {opinion.build: (opinion.label, opinion.differs) for opinion in first.opinions} == {
        "Q/DQ simulated": ("3", False),
        "openvino-bfloat16": ("3", False),
        "openvino-int8": ("3", False),
        "onnxruntime-int8": ("8", True),
        "onnxruntime-int8w": ("8", True),
    }
    assert score_name(data) == "KL divergence from the reference, nats"


def test_the_number_of_samples_is_bounded(data: ReportData) -> None:
    assert data.parity is not None
    many = tuple(WorstSample(name=f"s{i}", score=i / 100, reference="1", build="1") for i in range(60))
    rung = msgspec.structs.replace(data.parity.rungs[0], worst=many)
    crowded = msgspec.structs.replace(data, parity=msgspec.structs.replace(data.parity, rungs=(rung,)))
    assert [sample.key for sample in worst_samples(crowded)] == [f"s{i}" for i in range(59, 35, -1)]


def test_a_sample_without_finite_output_is_not_given_a_number(data: ReportData) -> None:
    assert data.parity is not None
    broken = WorstSample(name="s", score=1e9, reference="1", build="not finite")
    rung = msgspec.structs.replace(data.parity.rungs[0], worst=(broken,))
    samples = worst_samples(msgspec.structs.replace(data, parity=msgspec.structs.replace(data.parity, rungs=(rung,))))
    assert samples[0].opinions[0].score == "∞"


def test_untrained_models_and_missing_comparisons_have_none(data: ReportData, untrained: ReportData) -> None:
    assert worst_samples(untrained) == ()
    assert worst_samples(msgspec.structs.replace(data, parity=None)) == ()


def test_a_picture_knows_its_size(pictures: dict[str, bytes]) -> None:
    found = picture("digit-0812", pictures["digit-0812"])
    assert (found.width, found.height, found.small) == (48, 48, True)
    assert found.address.startswith("data:image/png;base64,iVBOR")


@pytest.mark.parametrize("content", [b"", b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_png_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="expected PNG bytes"):
        picture("digit", content)
