"""A target that starts from torch is handed the way to the float model: nobody else needs its weights in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgevit.errors import StaleError
from edgevit.pipeline import export
from edgevit.recipe import read_recipe
from edgevit.targets import onnxruntime


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that a target loads while it builds."""
    models: list[Any] = []
    build = onnxruntime.build

    def asking(source: Any, *rest: Any) -> dict[str, str]:
        models.append(source.float_model())
        return build(source, *rest)

    monkeypatch.setattr(onnxruntime, "build", asking)
    return models


def test_a_target_may_load_it_in_its_own_stage(digits: Any, tmp_path: Path, asked: list[Any]) -> None:
    recipe = msgspec.structs.replace(read_recipe(digits.recipe), targets=("onnxruntime:float32",), when_available=())
    out = digits.resumed_at(tmp_path / "out", "build-onnxruntime-float32")
    result = export(recipe, out)
    (model,) = asked
    assert model.digest == result.manifest.source_digest
    assert sum(parameter.numel() for parameter in model.module.parameters()) > 500_000


def test_a_source_that_changed_meanwhile_is_not_built(
    digits: Any, tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgevit.pipeline.exporting as exporting

    load = exporting._model
    loads: list[str] = []

    def changed(recipe: Any) -> Any:
        model = load(recipe)
        loads.append(model.digest)
        return model if len(loads) == 1 else msgspec.structs.replace(model, digest="another")

    monkeypatch.setattr(exporting, "_model", changed)
    recipe = msgspec.structs.replace(read_recipe(digits.recipe), targets=("onnxruntime:float32",), when_available=())
    out = digits.resumed_at(tmp_path / "out", "build-onnxruntime-float32")
    with pytest.raises(StaleError, match="zoo:digits-vit as it was when the export began, found it changed"):
        export(recipe, out)
    assert asked == [] and not out.exists()
