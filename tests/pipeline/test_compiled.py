"""What a build that does not run here is said to hold, where it is several graphs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgevit.errors import BundleError
from edgevit.pipeline.compiled import compiled_execution
from edgevit.targets import coreml
from edgevit.types import Build, BuildPart, Engine, ExecutedLayer, Execution, Machine, Signature

MACHINE = Machine(
    cpu="this one", architecture="x86_64", cores=2, memory_bytes=1, instruction_sets=(), os="linux", python="3.11"
)


def test_the_layers_of_all_parts_are_one_execution(tmp_path: Any) -> None:
    empty = Signature(inputs=(), outputs=())
    build = Build(
        target="coreml",
        precision="int8",
        files=(),
        signature=empty,
        engine=Engine(name="coreml", version="9"),
        machine=MACHINE,
        parts=(BuildPart(name="encoder", signature=empty), BuildPart(name="decoder", signature=empty)),
    )
    for part, layers in (("encoder", ("embed", "fc1")), ("decoder", ("fc1", "head"))):
        found = tuple(ExecutedLayer(name=name, requested="int8", executed="int8") for name in layers)
        said = Execution(precision="int8", provider="Core ML", instruction_set="", quantized_executed=2, layers=found)
        (tmp_path / part).mkdir()
        (tmp_path / part / coreml.LAYERS).write_bytes(msgspec.json.encode(said))
    execution = compiled_execution(build, tmp_path)
    assert execution is not None and execution.quantized_executed == 4
    assert [layer.name for layer in execution.layers] == ["embed", "encoder.fc1", "decoder.fc1", "head"]
    (tmp_path / "decoder" / coreml.LAYERS).unlink()
    with pytest.raises(BundleError, match="expected the layers of coreml at .*decoder"):
        compiled_execution(build, tmp_path)
