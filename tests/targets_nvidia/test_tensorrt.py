"""The full TensorRT: a kit where it is not, an engine where it is; NVIDIA's module is played by a recorder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError
from edgevit.quantize.write_onnx import write_quantized
from edgevit.runtime.selection import why_not_here
from edgevit.targets import get_target, tensorrt
from edgevit.targets.base import BuildSource, OpenOptions
from edgevit.targets.nvidia import opening
from edgevit.targets.nvidia.device import DeviceState
from edgevit.targets.nvidia.files import ENGINE, KIT, LAYERS, ONNX, TIMINGS
from edgevit.targets.nvidia.kit import COMMAND, is_unfinished, read_kit
from edgevit.types import BuildFile, Engine

LOG = (Path(__file__).parent / "recorded" / "int8.log").read_text()
JETSON = DeviceState(name="Orin", architecture="sm87", driver="12.6")


class Recorder:
    """A module with the parts of NVIDIA's API that building takes; it remembers what it was told."""

    __version__ = "10.13.0.35"

    def __init__(self, *, parses: bool = True, compiles: bool = True) -> None:
        self.told: dict[str, Any] = {}
        self.ILogger = type("ILogger", (), {})
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        self.BuilderFlag = SimpleNamespace(TF32="tf32")
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        outer = self

        class Cache:
            def __init__(self, content: bytes) -> None:
                self.content = content

            def serialize(self) -> bytes:
                return self.content + b"+timings"

        class Config:
            num_compute_capabilities = None

            def clear_flag(self, flag: str) -> None:
                outer.told["cleared"] = flag

            def create_timing_cache(self, content: bytes) -> Cache:
                return Cache(content)

            def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> None:
                outer.told["ignore_mismatch"] = ignore_mismatch

            def add_optimization_profile(self, profile: Any) -> None:
                outer.told["profile"] = profile.shapes

        class Profile:
            def __init__(self) -> None:
                self.shapes: dict[str, Any] = {}

            def set_shape(self, name: str, *shapes: Any) -> None:
                self.shapes[name] = shapes

        class Builder:
            def __init__(self, log: Any) -> None:
                self.log = log

            def create_network(self, flags: int) -> str:
                outer.told["flags"] = flags
                return "network"

            def create_builder_config(self) -> Config:
                outer.told["config"] = Config()
                return outer.told["config"]

            def create_optimization_profile(self) -> Profile:
                return Profile()

            def build_serialized_network(self, network: str, config: Config) -> bytes | None:
                severity = "VERBOSE" if compiles else "ERROR"
                self.log.log(SimpleNamespace(name=severity), LOG if compiles else "no kernel\nfor this card")
                return b"an engine" if compiles else None

        class OnnxParser:
            num_errors = 1

            def __init__(self, network: str, log: Any) -> None:
                pass

            def parse_from_file(self, path: str) -> bool:
                outer.told["onnx"] = Path(path).name
                return parses

            def get_error(self, index: int) -> Any:
                return SimpleNamespace(
                    desc=lambda: "no importer\nfor it", node_name=lambda: "odd_1", node_operator=lambda: "Odd"
                )

        self.Builder, self.OnnxParser = Builder, OnnxParser


@pytest.fixture(scope="module")
def source(tiny, tmp_path_factory) -> BuildSource:
    quantized = write_quantized(tiny.onnx, tiny.plan, tmp_path_factory.mktemp("quantized") / "model.onnx")
    return BuildSource(float_model=None, onnx=tiny.onnx, quantized=quantized, plan=tiny.plan)


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "installed_version", lambda *names: "1.1" if names == ("onnx-ir",) else None)


@pytest.fixture
def on_a_jetson(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(
        tensorrt, "installed_version", lambda *names: "1.1" if names == ("onnx-ir",) else recorder.__version__
    )
    monkeypatch.setattr(tensorrt, "_bindings", lambda: recorder)
    monkeypatch.setattr(tensorrt, "probe", lambda: JETSON)
    monkeypatch.setattr(opening, "probe", lambda: JETSON)
    return recorder


@pytest.fixture
def kit(source: BuildSource, nothing_here: None, tmp_path: Path) -> Path:
    tensorrt.build(source, "int8", {"profile": "batch:1:2:16"}, tmp_path)
    return tmp_path


def with_files(build: Any, *names: str, **changes: Any) -> Any:
    files = tuple(BuildFile(path=f"tensorrt-int8/{name}", size=1, sha256="") for name in names)
    return msgspec.structs.replace(build, target="tensorrt", files=files, **changes)


def test_it_is_found_by_its_name() -> None:
    assert get_target("tensorrt") is tensorrt


@pytest.mark.usefixtures("nothing_here")
def test_without_tensorrt_it_builds_a_kit_and_runs_nothing() -> None:
    state = tensorrt.availability()
    assert (state.build, state.run) == (True, False)
    assert "not installed" in state.run_reason and "pip install tensorrt" in state.run_fix


def test_with_tensorrt_and_no_card_the_card_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "installed_version", lambda *names: "10.13")
    monkeypatch.setattr(tensorrt, "probe", lambda: DeviceState(reason="the NVIDIA driver shows no GPU", fix="add one"))
    state = tensorrt.availability()
    assert (state.run, state.run_reason, state.run_fix) == (False, "the NVIDIA driver shows no GPU", "add one")


def test_a_kit_holds_what_finishes_it(kit: Path, source: BuildSource) -> None:
    assert sorted(path.name for path in kit.iterdir()) == [KIT, ONNX]
    found = read_kit(kit)
    assert (found.precision, found.finish, found.options["profile"]) == ("int8", COMMAND, "batch:1:2:16")
    assert [wanted for _, wanted in found.layers] == ["int8"] * 10
    assert tensorrt.compiled(kit) is None


def test_a_kit_is_called_a_kit_also_where_tensorrt_is_missing(build, nothing_here) -> None:
    assert why_not_here(with_files(build, KIT, ONNX)) == f"it is a build kit, finish it on the device: {COMMAND}"
    assert "TensorRT is not installed here" in why_not_here(with_files(build, KIT, ONNX, ENGINE))


def test_a_kit_is_not_opened_and_says_how_to_finish_it(kit: Path, build, on_a_jetson) -> None:
    unfinished = with_files(build, KIT, ONNX)
    assert is_unfinished(unfinished)
    assert COMMAND in why_not_here(unfinished)
    with pytest.raises(UnavailableError, match=COMMAND) as error:
        tensorrt.open(kit, unfinished, OpenOptions())
    assert error.value.exit_status == 3
    assert why_not_here(with_files(build, KIT, ONNX, ENGINE)) == ""


@pytest.mark.usefixtures("nothing_here")
def test_opening_and_finishing_without_tensorrt_exit_with_3(build, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="TensorRT is not installed here"):
        tensorrt.open(tmp_path, with_files(build, ENGINE), OpenOptions())
    with pytest.raises(UnavailableError, match="TensorRT is not installed here"):
        tensorrt.finish(tmp_path, build.signature)


def test_a_kit_is_finished_on_the_device(kit: Path, source: BuildSource, on_a_jetson: Recorder) -> None:
    used = tensorrt.finish(kit, source.onnx.signature)
    assert (kit / ENGINE).read_bytes() == b"an engine"
    assert (kit / TIMINGS).read_bytes() == b"+timings"
    assert used["gpu"] == "sm87" and used["profile"] == "batch:1:2:16"
    assert used["int8_layers"] == "6 of 10", "the recorded log lists six of these names"
    assert "10.13.0.35 for sm87" in tensorrt.compiled(kit).provider
    told = on_a_jetson.told
    assert told["onnx"] == ONNX and told["flags"] == 2 and told["cleared"] == "tf32"
    assert told["profile"] == {"pixel_values": ((1, 3, 32, 32), (2, 3, 32, 32), (16, 3, 32, 32))}
    assert told["config"].num_compute_capabilities is None, "only TensorRT-RTX knows it"


def test_timings_of_the_last_build_are_used_again(kit: Path, source: BuildSource, on_a_jetson) -> None:
    for _ in range(2):
        tensorrt.finish(kit, source.onnx.signature)
    assert (kit / TIMINGS).read_bytes() == b"+timings+timings"


def test_where_everything_is_the_engine_is_built_at_once(source: BuildSource, on_a_jetson, tmp_path: Path) -> None:
    used = tensorrt.build(source, "float16", {}, tmp_path)
    assert (tmp_path / ENGINE).exists() and (tmp_path / LAYERS).exists()
    assert "finish" not in used


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"parses": False}, "parser refused model.onnx at Odd odd_1: no importer for it"),
        ({"compiles": False}, "could not compile model.onnx: no kernel for this card"),
    ],
)
def test_what_nvidia_refuses_is_one_line(kit: Path, source, on_a_jetson, monkeypatch, broken, message) -> None:
    monkeypatch.setattr(tensorrt, "_bindings", lambda: Recorder(**broken))
    with pytest.raises(BuildError, match=message) as error:
        tensorrt.finish(kit, source.onnx.signature)
    assert "\n" not in str(error.value)
    assert not (kit / ENGINE).exists()


@pytest.mark.parametrize("text", ["", "{}", '{"precision": "int8", "options": {}, "layers": [], "extra": 1}'])
def test_a_damaged_kit_is_said(kit: Path, source, on_a_jetson, text: str) -> None:
    (kit / KIT).write_text(text)
    with pytest.raises(BundleError, match="expected a build kit"):
        tensorrt.finish(kit, source.onnx.signature)
    (kit / KIT).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        tensorrt.finish(kit, source.onnx.signature)


def test_bad_options(source: BuildSource, nothing_here, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found gpu=sm87"):
        tensorrt.build(source, "int8", {"gpu": "sm87"}, tmp_path)


@pytest.mark.parametrize(
    ("version", "gpu", "opens"),
    [("10.13.0.35", "sm87", True), ("10.12.0.1", "sm87", False), ("10.13.0.35", "sm86", False)],
)
def test_an_engine_is_for_one_version_and_card(
    build, on_a_jetson, monkeypatch, tmp_path: Path, version, gpu, opens
) -> None:
    monkeypatch.setattr(opening, "open_engine", lambda runtime, engine, *rest: engine)
    monkeypatch.setattr(opening, "rebuilt", lambda *arguments: b"compiled again")
    (tmp_path / ENGINE).write_bytes(b"an engine")
    engine = Engine(name="tensorrt", version=version)
    made = with_files(build, KIT, ENGINE, engine=engine, options={"gpu": gpu, "profile": "batch:1:1:4"})
    if opens:
        assert tensorrt.open(tmp_path, made, OpenOptions()) == b"an engine"
        return
    with pytest.raises(UnavailableError, match=r"found 10\.13\.0\.35 on sm87; run: edgevit build BUNDLE --again"):
        tensorrt.open(tmp_path, made, OpenOptions())
    assert tensorrt.open(tmp_path, made, OpenOptions(rebuild=True)) == b"compiled again"
