"""What every test shares: few threads, reproducible examples, where the repository is, and one tiny model."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from edgevit.types import FloatModel, ImagePreprocess, LayerPlan, OnnxModel, QuantPlan

if TYPE_CHECKING:
    from edgevit.types import Arrays

# Before NumPy or any engine is imported, which is why the fixtures below import it: two test processes share two
# cores, and one thread adds up in one order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.text_models", "tests.huggingface_models", "tests.raw_images", "tests.dask_cluster"]

# A slow machine is no failure, and a failure is the same one everywhere.
settings.register_profile("edgevit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("edgevit")


@dataclass(frozen=True)
class Tiny:
    """A Vision Transformer of two blocks: lowered once per session; its file is not to be changed."""

    model: FloatModel
    onnx: OnnxModel
    batches: tuple[Arrays, ...]
    """Three batches of four images."""
    plan: QuantPlan
    """Every layer in int8, min-max ranges, safe without VNNI."""

    @property
    def images(self) -> Arrays:
        import numpy as np

        return {"pixel_values": np.concatenate([batch["pixel_values"] for batch in self.batches])}


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def make_vit() -> Callable[..., FloatModel]:
    """(untrained=False, changes of the configuration) -> two blocks of width 32 on 32 x 32 images.

    Untrained, all norms are equal and all biases zero; otherwise every parameter differs.
    """

    def make(*, untrained: bool = False, **changes: Any) -> FloatModel:
        import torch

        from edgevit.sources.vit import vit_signature
        from edgevit.zoo import ViTConfig
        from edgevit.zoo.vit import initialize_vit

        small = {"image_size": (32, 32), "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 2.0}
        config = ViTConfig(**{**small, "classes": 10, **changes})
        module = initialize_vit(config, std=0.2).requires_grad_(False)
        generator = torch.Generator().manual_seed(1)
        for _, parameter in [] if untrained else sorted(module.named_parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        return FloatModel(
            name="tiny",
            module=module,
            signature=vit_signature(config),
            task="image-classification",
            preprocess=ImagePreprocess(size=config.image_size, mean=(0.5,) * 3, std=(0.5,) * 3),
            labels=tuple(f"class {index}" for index in range(config.classes)),
            trained=False,
            depth=config.depth,
        )

    return make


@pytest.fixture(scope="session")
def lower_model() -> Callable[..., OnnxModel]:
    """(model, path, batch=None) -> its float ONNX."""

    def lower_to(model: FloatModel, path: Path, batch: int | None = None) -> OnnxModel:
        from edgevit.graph.capture import CaptureOptions, capture
        from edgevit.graph.lower import lower

        return lower(capture(model, CaptureOptions(batch=batch)), model, path)

    return lower_to


@pytest.fixture(scope="session")
def min_max_plan() -> Callable[[OnnxModel, Sequence[Arrays]], QuantPlan]:
    """(model, batches) -> every layer in int8 with the ranges seen, and weights that overflow on no processor."""

    def make(model: OnnxModel, batches: Sequence[Arrays]) -> QuantPlan:
        import numpy as np

        from edgevit.graph import storage
        from edgevit.graph.execute import Executor
        from edgevit.graph.layers import CALIBRATED, calibrated_layers, layer_weight, quantizable_layers
        from edgevit.quantize.saturation import pair_safe_scales, seven_bit_scales

        graph = storage.load(model.path)
        layers = quantizable_layers(graph)
        largest = {layer.input: 0.0 for layer in calibrated_layers(graph)}
        with Executor(model.path, [name for name in largest if name not in batches[0]]) as executor:
            for batch in batches:
                values = {**executor.run(batch), **batch}
                largest = {name: max(seen, float(np.abs(values[name]).max())) for name, seen in largest.items()}
        entries = []
        for layer in layers:
            weight = layer_weight(graph, layer)
            if layer.kind not in CALIBRATED:
                scales = np.abs(weight).max(axis=1) / np.float32(127)
                steps = tuple(float(scale) for scale in scales)
                entries.append(LayerPlan(name=layer.name, kind=layer.kind, weight_scale=steps))
                continue
            safe = pair_safe_scales if layer.kind == "linear" else seven_bit_scales
            scales = safe(weight, np.abs(weight).max(axis=1) / np.float32(127))
            input_scale = float(np.float32(largest[layer.input] / 127))
            entries.append(
                LayerPlan(
                    name=layer.name,
                    kind=layer.kind,
                    input_scale=input_scale,
                    weight_scale=tuple(float(scale) for scale in scales),
                )
            )
        return QuantPlan(model="tiny", model_digest=model.digest, safe_without_vnni=True, layers=tuple(entries))

    return make


@pytest.fixture(scope="session")
def tiny(
    make_vit: Callable[..., FloatModel],
    lower_model: Callable[..., OnnxModel],
    min_max_plan: Callable[..., QuantPlan],
    tmp_path_factory: pytest.TempPathFactory,
) -> Tiny:
    import numpy as np

    model = make_vit()
    onnx = lower_model(model, tmp_path_factory.mktemp("tiny") / "tiny.onnx")
    rng = np.random.default_rng(0)
    batches = tuple({"pixel_values": rng.normal(size=(4, 3, 32, 32)).astype(np.float32)} for _ in range(3))
    return Tiny(model, onnx, batches, min_max_plan(onnx, batches))


# ------------------------------------------------------------------------------------------------- texts

WORDS = ("[PAD]", "</s>", "[UNK]", "<s>", "am", "dien", "##stag", "##s", "der", "um", "drei", "uhr", ",", "on", "tues")
PIECES = (*WORDS, "##day", "at", "three", "o", "'", "clock", "und", "a", "##b", "b", "é", "1", "##2")


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tokenizer.json` of word pieces, 28 tokens: padding 0, end 1, unknown 2, start 3. Not to be changed."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = {piece: index for index, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["[PAD]", "</s>", "[UNK]", "<s>"])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Small models of sequences, part by part; see `sequences.Sequences`."""
    from sequences import Sequences

    return Sequences(tmp_path_factory.mktemp("sequences"))


# ------------------------------------------------------------------------------------------- command line


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on standard error that is not progress."""
        (line,) = (line for line in self.err.splitlines() if line.startswith("edgevit"))
        assert "Traceback" not in self.err
        return line


@pytest.fixture(scope="session")
def start(repository: Path) -> Callable[..., subprocess.Popen[str]]:
    """(arguments …) -> the command `edgevit` as a process of its own, in the repository or in `cwd`.

    `without`: packages that are not installed for it. `stop`: (signal, "enter" or "leave", task) with which it ends
    itself there. `prelude`: Python that runs before it. Everything else goes to Popen.
    """
    stand_in = repository / "tests" / "cli" / "stand_in"
    code = "import sys; sys.argv[0] = 'edgevit'; from edgevit.cli import main; main()"

    def begin(
        *arguments: object, without: Sequence[str] = (), stop: Sequence[str] = (), prelude: str = "", **how: Any
    ) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(stand_in), str(repository))),
            "COLUMNS": "80",
            "EDGEVIT_TEST_WITHOUT": " ".join(without),
            "EDGEVIT_TEST_STOP": "\n".join(stop),
        }
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-c", f"{prelude}\n{code}", *map(str, arguments)]
        return subprocess.Popen(command, **{"cwd": repository, "env": environment, "encoding": "utf-8", **pipes, **how})

    return begin


@pytest.fixture
def inside(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """(arguments …) -> the command, run in this process: what it costs to import torch is paid once."""

    def run(*arguments: object) -> Finished:
        from edgevit.cli import main

        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["edgevit", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        return Finished(ended.value.code, *capfd.readouterr())  # type: ignore[arg-type]

    return run


@pytest.fixture(scope="session")
def edgevit(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Finished]:
    """(arguments …) -> the command, ended; the same options as `start`."""

    def run(*arguments: object, **how: Any) -> Finished:
        with start(*arguments, **how) as process:
            out, err = process.communicate(timeout=540)
        return Finished(process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """(name, make) -> a directory that `make` fills once for all test processes; it is not to be changed."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def directory(name: str, make: Callable[[Path], None]) -> Path:
        final = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.exists():
                making = shared / f"{name}.making"
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir()
                make(making)
                making.rename(final)
        return final

    return directory


DIGITS = """
model = "zoo:digits-vit"
targets = ["openvino:float32", "openvino:int8", "onnxruntime:float32", "onnxruntime:int8"]
when_available = ["openvino:bfloat16"]
calibration.samples = 48
evaluation.samples = 600
parity.layers = 4
bench.enabled = false
"""


@dataclass(frozen=True)
class Exported:
    """`zoo:digits-vit` exported once by the command line. Nothing of it is to be changed: take copies."""

    recipe: Path
    bundle: Path
    stages: Path
    """The workbench of its finished stages, kept for tests that resume."""
    finished: Finished

    def resumed_at(self, out: Path, *without: str) -> Path:
        """`out`, with the finished stages beside it but those whose names begin so."""
        bench = out.parent / f".{out.name}.edgevit-stages"
        shutil.copytree(self.stages, bench)
        for stage in [path for path in bench.iterdir() if path.name.startswith(without)] if without else []:
            shutil.rmtree(stage)
        return out

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.bundle, to)
        return to


@pytest.fixture(scope="session")
def digits(once: Callable[..., Path], edgevit: Callable[..., Finished]) -> Exported:
    keep_stages = "from edgevit.pipeline.workbench import Workbench; Workbench.clear = lambda self: None"

    def make(place: Path) -> None:
        (place / "recipe.toml").write_text(DIGITS)
        arguments = ["zoo:digits-vit", place / "out", "--recipe", place / "recipe.toml"]
        finished = edgevit("export", *arguments, prelude=keep_stages)
        assert finished.status == 0, finished.err
        (place / "streams.json").write_text(json.dumps([finished.out, finished.err]))
        (place / ".out.edgevit-stages").rename(place / "stages")

    place = once("digits", make)
    out, err = json.loads((place / "streams.json").read_text())
    return Exported(place / "recipe.toml", place / "out", place / "stages", Finished(0, out, err))
