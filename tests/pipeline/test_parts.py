"""One plan for all parts of a model: put together, taken apart, and the same as before for a model of one graph."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from edgevit.errors import PlanError
from edgevit.pipeline.parts import graphs_digest, layer_names, merged, part_models, patterns_of, split
from edgevit.types import FloatModel, FloatPart, OnnxModel, QuantPlan, SkippedLayer


@pytest.fixture(scope="module")
def graphs(
    make_vit: Callable[..., FloatModel], lower_model: Callable[..., OnnxModel], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, OnnxModel]:
    """Two graphs that share no layer name: the second one's are renamed."""
    import onnx

    folder = tmp_path_factory.mktemp("parts")
    encoder = lower_model(make_vit(), folder / "encoder.onnx")
    model = onnx.load(str(encoder.path))
    for value in model.graph.initializer:
        value.name = f"decoder.{value.name}"
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if f"decoder.{name}" in {value.name for value in model.graph.initializer}:
                node.input[place] = f"decoder.{name}"
    onnx.save(model, str(folder / "decoder.onnx"))
    from edgevit.graph import storage

    path = folder / "decoder.onnx"
    return {"encoder": encoder, "decoder": storage.describe(storage.load(path), path)}


@pytest.fixture(scope="module")
def plans(graphs: dict[str, OnnxModel], min_max_plan: Callable[..., QuantPlan]) -> dict[str, QuantPlan]:
    import numpy as np

    batches = ({"pixel_values": np.ones((2, 3, 32, 32), np.float32)},)
    made = {part: min_max_plan(graph, batches) for part, graph in graphs.items()}
    last = made["decoder"].layers[-1]
    left_out = msgspec.structs.replace(
        made["decoder"], layers=made["decoder"].layers[:-1], skipped=(SkippedLayer(name=last.name, reason="asked"),)
    )
    return {**made, "decoder": left_out}


def test_plans_of_parts_become_one_and_come_apart_again(
    graphs: dict[str, OnnxModel], plans: dict[str, QuantPlan]
) -> None:
    plan = merged(plans, graphs)
    assert [layer.name for layer in plan.layers] == [layer.name for one in plans.values() for layer in one.layers]
    assert plan.model_digest == graphs_digest(graphs) not in [graph.digest for graph in graphs.values()]
    back = split(plan, graphs)
    for part, own in plans.items():
        assert back[part].layers == own.layers
        assert back[part].skipped == own.skipped
        assert back[part].model_digest == graphs[part].digest


def test_the_only_graph_of_a_model_keeps_its_digest_and_its_plan(
    graphs: dict[str, OnnxModel], plans: dict[str, QuantPlan]
) -> None:
    one = {"": graphs["encoder"]}
    assert graphs_digest(one) == graphs["encoder"].digest
    plan = plans["encoder"]
    assert merged({"": plan}, one) is plan
    assert split(plan, one) == {"": plan}


def test_a_layer_in_two_parts_is_refused(graphs: dict[str, OnnxModel], plans: dict[str, QuantPlan]) -> None:
    with pytest.raises(PlanError, match="in one part of the model, found .* in two"):
        merged({"encoder": plans["encoder"], "decoder": plans["encoder"]}, graphs)


def test_a_pattern_goes_to_the_parts_it_matches(graphs: dict[str, OnnxModel]) -> None:
    names = {part: layer_names(graph) for part, graph in graphs.items()}
    assert patterns_of(("decoder.*", "*fc1.weight"), names) == {
        "encoder": ("*fc1.weight",),
        "decoder": ("decoder.*", "*fc1.weight"),
    }
    with pytest.raises(PlanError, match=r"expected --skip 'no\.such' to match a layer, found none; layers are called"):
        patterns_of(("no.such",), names)


def test_parts_are_traced_as_models_of_their_own(make_vit: Callable[..., FloatModel]) -> None:
    model = make_vit()
    assert part_models(model) == {"": model}
    parts = tuple(FloatPart(name=name, module=model.module, signature=model.signature) for name in ("a", "b"))
    found = part_models(msgspec.structs.replace(model, parts=parts))
    assert list(found) == ["a", "b"]
    assert found["b"].name == f"{model.name}, b"
    assert found["b"].parts == ()
