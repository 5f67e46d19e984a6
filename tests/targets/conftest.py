"""The tiny model built once per target and precision, and any other small graph built on the spot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgevit.targets import get_target
from edgevit.targets.base import BuildSource, OpenOptions
from edgevit.targets.processor import instruction_sets
from edgevit.types import Build, Engine, Machine, OnnxModel, QuantPlan

MACHINE = Machine(
    cpu="this one", architecture="x86_64", cores=2, memory_bytes=1, instruction_sets=(), os="linux", python="3.11"
)


class Built:
    """An engine's files in a directory, and the manifest's value for them."""

    def __init__(self, directory: Path, build: Build) -> None:
        self.directory, self.build = directory, build

    def open(self, **options: Any) -> Any:
        target = get_target(self.build.target)
        return target.open(self.directory, self.build, OpenOptions(**{"threads": 1, **options}))


@pytest.fixture(scope="session")
def build_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """(model, "target:precision", plan=None, options={}) -> what the target makes of it."""

    def make(model: OnnxModel, wanted: str, plan: QuantPlan | None = None, **options: str) -> Built:
        from edgevit.quantize.write_onnx import write_quantized

        name, _, precision = wanted.partition(":")
        directory = tmp_path_factory.mktemp(wanted.replace(":", "-"))
        quantized = None
        if plan is not None:
            quantized = write_quantized(model, plan, tmp_path_factory.mktemp("quantized") / model.path.name)
        source = BuildSource(float_model=None, onnx=model, quantized=quantized, plan=plan)
        used = get_target(name).build(source, precision, options, directory)  # type: ignore[arg-type]
        build = Build(
            target=name,
            precision=precision,  # type: ignore[arg-type]
            files=(),
            signature=model.signature,
            engine=Engine(name=name, version=get_target(name).availability().version),
            machine=MACHINE,
            options=used,
        )
        return Built(directory, build)

    return make


@pytest.fixture(scope="session")
def built(tiny: Any, build_with: Callable[..., Built]) -> Callable[[str], Built]:
    """("target:precision") -> the tiny model's build; not to be changed."""
    done: dict[str, Built] = {}

    def get(wanted: str) -> Built:
        if wanted not in done:
            # Float layers in float32 everywhere: what the engines make of int8 is then seen without bfloat16's noise.
            options = {"float_layers": "f32"} if wanted == "openvino:int8" else {}
            done[wanted] = build_with(tiny.onnx, wanted, tiny.plan if wanted.endswith("int8") else None, **options)
        return done[wanted]

    return get


def with_output_scales(plan: QuantPlan, onnx: OnnxModel, batches: Sequence[Any]) -> QuantPlan:
    """The plan with the output scales that integer kernels of some engines need."""
    from edgevit.graph import storage
    from edgevit.graph.execute import Executor
    from edgevit.graph.layers import quantizable_layers

    outputs = {layer.name: layer.output for layer in quantizable_layers(storage.load(onnx.path))}
    results = {spec.name for spec in onnx.signature.outputs}
    largest = dict.fromkeys(outputs, 0.0)
    with Executor(onnx.path, [output for output in outputs.values() if output not in results]) as executor:
        for batch in batches:
            values = executor.run(batch)
            largest = {name: max(seen, float(np.abs(values[outputs[name]]).max())) for name, seen in largest.items()}
    layers = [msgspec.structs.replace(one, output_scale=largest[one.name] / 127) for one in plan.layers]
    return msgspec.structs.replace(plan, layers=tuple(layers))


@pytest.fixture(scope="session")
def whole_plan(tiny: Any) -> QuantPlan:
    """The tiny model's plan with output scales."""
    return with_output_scales(tiny.plan, tiny.onnx, [tiny.images])


@pytest.fixture(scope="session")
def planned(sequences: Any, min_max_plan: Any) -> Callable[[str], tuple[QuantPlan, list[Any]]]:
    """(name of a model of texts) -> a plan of every layer with output scales, and inputs of that graph."""
    from sequences import decoder_batches, texts

    def make(name: str) -> tuple[QuantPlan, list[Any]]:
        kind, _, part = name.partition(".")
        batches = decoder_batches(sequences, kind) if part == "decoder" else [texts(4, 9, 2, seed) for seed in range(3)]
        onnx = sequences.onnx(name)
        return with_output_scales(min_max_plan(onnx, batches), onnx, batches), batches

    return make


@pytest.fixture(scope="session")
def lowered(tiny: Any, whole_plan: QuantPlan, once: Callable[..., Path]) -> Callable[[str], Built]:
    """("float32", "int8", "int8d", "int4d") -> the tiny model's ExecuTorch build; made once for all test processes."""

    def get(precision: str) -> Built:
        target = get_target("executorch")

        def make(place: Path) -> None:
            (place / "files").mkdir()
            plan = whole_plan if precision in ("int8", "int4d") else None
            source = BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx, plan=plan)
            used = target.build(source, precision, {}, place / "files")  # type: ignore[arg-type]
            (place / "options.json").write_bytes(msgspec.json.encode(used))

        return lowered_build(once(f"executorch-{precision}", make), precision, tiny.onnx)

    return get


def lowered_build(place: Path, precision: str, onnx: OnnxModel) -> Built:
    """What was built for ExecuTorch into `files/` of `place`, `options.json` beside it."""
    build = Build(
        target="executorch",
        precision=precision,  # type: ignore[arg-type]
        files=(),
        signature=onnx.signature,
        engine=Engine(name="executorch", version=get_target("executorch").availability().version),
        machine=MACHINE,
        options=msgspec.json.decode((place / "options.json").read_bytes()),
    )
    return Built(place / "files", build)


@pytest.fixture(scope="session")
def lowered_texts(sequences: Any, planned: Any, once: Callable[..., Path]) -> Callable[..., Built]:
    """(name of a model of texts, precision) -> its ExecuTorch build; made once for all test processes."""
    from sequences import text_model

    def get(name: str, precision: str) -> Built:
        onnx, target = sequences.onnx(name), get_target("executorch")

        def make(place: Path) -> None:
            (place / "files").mkdir()
            plan = planned(name)[0] if precision in ("int8", "int4d") else None
            source = BuildSource(float_model=lambda: text_model(sequences, name), onnx=onnx, plan=plan)
            used = target.build(source, precision, {}, place / "files")  # type: ignore[arg-type]
            (place / "options.json").write_bytes(msgspec.json.encode(used))

        place = once(f"executorch-{name}-{precision}", make)
        return lowered_build(place, precision, onnx)

    return get


@pytest.fixture(scope="session")
def vnni() -> bool:
    from edgevit.targets.processor import multiplies_int8_exactly

    return multiplies_int8_exactly(instruction_sets())


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """(name) -> importing that package fails, and its metadata is gone, as where it is not installed."""
    from edgevit.targets.installed import installed_version

    blocked: set[str] = set()

    class Blocker:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] in blocked:
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    def missing(*names: str) -> str | None:
        return installed_version(*(name for name in names if name.partition("-gpu")[0] not in blocked))

    def block(name: str) -> None:
        blocked.add(name)
        for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
        for module in ("edgevit.targets.openvino", "edgevit.targets.onnxruntime"):
            monkeypatch.setattr(f"{module}.installed_version", missing)

    monkeypatch.setattr(sys, "meta_path", [Blocker(), *sys.meta_path])
    return block


@pytest.fixture
def sessions() -> Iterator[list[Any]]:
    """What a test opens and puts here is closed after it."""
    opened: list[Any] = []
    yield opened
    for session in opened:
        session.close()


@pytest.fixture(scope="session")
def reference(tiny: Any) -> np.ndarray:
    """The logits of the tiny model in float, operator by operator."""
    from edgevit.graph.execute import Executor

    with Executor(tiny.onnx.path, exact=True) as executor:
        return executor.run(tiny.images)["logits"]
