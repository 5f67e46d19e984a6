"""preprocessor_config.json: followed exactly, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.preprocess import geometry, image_tensor
from edgevit.sources.preprocessing import preprocess_from_config, read_preprocess

MEAN, STD = [0.48, 0.45, 0.4], [0.22, 0.21, 0.23]
PUBLISHED: dict[str, dict[str, Any]] = {
    # As google/vit, facebook/deit, microsoft/beit, facebook/dinov2, openai/clip, apple/mobilevit publish theirs: the
    # older ones name a feature extractor and leave keys out.
    "vit": {"feature_extractor_type": "ViTFeatureExtractor", "size": 48, "image_mean": MEAN, "image_std": STD},
    "vit 2": {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 48, "width": 40},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    },
    "deit": {
        "feature_extractor_type": "DeiTFeatureExtractor",
        "size": 64,
        "crop_size": 56,
        "resample": 3,
        "image_mean": MEAN,
        "image_std": STD,
    },
    "beit": {
        "feature_extractor_type": "BeitFeatureExtractor",
        "do_center_crop": False,
        "crop_size": 48,
        "size": 48,
        "resample": 2,
        "image_mean": MEAN,
        "image_std": STD,
    },
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 64},
        "crop_size": {"height": 56, "width": 56},
        "do_center_crop": True,
        "image_mean": MEAN,
        "image_std": STD,
    },
    "clip": {
        "image_processor_type": "CLIPImageProcessorFast",
        "size": {"shortest_edge": 56},
        "crop_size": 56,
        "image_mean": MEAN,
        "image_std": STD,
    },
    "siglip": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 48, "width": 48},
               "image_mean": MEAN, "image_std": STD},
    "mobilevit": {"feature_extractor_type": "MobileViTFeatureExtractor", "size": 72, "crop_size": 64, "resample": 2,
                  "do_flip_channel_order": True},
    "convnext": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 56},
                 "crop_pct": 0.875, "image_mean": MEAN, "image_std": STD},
}  # fmt: skip


def photo(height: int, width: int) -> np.ndarray:
    """Smooth, with different channels and no symmetry."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + k) * np.cos(y / (7 + k)) for k in range(3)]
    return ((np.stack(waves, axis=-1) + 1) * 127).astype(np.uint8)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_tensor_is_the_processors_own(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers' own image processors")
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = PUBLISHED[name]
    type_name = str(config.get("image_processor_type") or config["feature_extractor_type"])
    family = type_name.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    processor = getattr(transformers, f"{family}Pil").from_dict(dict(config))
    # Even differences to the crop: at odd ones torchvision and NumPy differ by a pixel, and edgevit is torchvision's.
    image = photo(90, 126)
    expected = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    spec = preprocess_from_config(dict(config), Path("preprocessor_config.json"))
    found = image_tensor(image, spec)
    assert found.shape == expected.shape
    # Pillow rounds to bytes after resizing in both; float32 rounding remains.
    assert np.abs(found - expected).max() < 1e-4


def test_what_a_file_leaves_out_is_its_processors_default() -> None:
    spec = preprocess_from_config(dict(PUBLISHED["vit"]), Path("p.json"))
    assert (spec.size, spec.resize, spec.interpolation, spec.crop_fraction) == ((48, 48), "exact", "bilinear", 1.0)
    spec = preprocess_from_config(dict(PUBLISHED["dinov2"]), Path("p.json"))
    assert (spec.size, spec.resize, spec.interpolation) == ((56, 56), "shortest", "bicubic")
    assert geometry(64, 128, spec)[:2] == (64, 128)
    spec = preprocess_from_config(dict(PUBLISHED["mobilevit"]), Path("p.json"))
    assert (spec.mode, spec.mean, spec.std) == ("BGR", (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("edge", range(225, 300))
def test_every_edge_above_the_crop_is_met_exactly(edge: int) -> None:
    config = {**PUBLISHED["clip"], "size": {"shortest_edge": edge}, "crop_size": 224}
    assert geometry(500, 700, preprocess_from_config(config, Path("p.json"))).height == edge


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rescale_factor": 1 / 127.5}, r"rescale_factor = 0.0078\d+, where only 1/255"),
        ({"do_rescale": False}, "do_rescale = False"),
        ({"do_resize": False}, "do_resize = False"),
        ({"do_pad": True}, "do_pad = True"),
        ({"resample": 4}, r"resample = 4, where 0 \(nearest\)"),
        ({"image_mean": None}, "image_mean = None, where three numbers"),
        ({"image_std": [0.5]}, r"image_std = \[0.5\]"),
        ({"size": {"longest_edge": 48}}, r"size = \{'longest_edge': 48\}"),
        ({"size": {"shortest_edge": 48}}, "a shortest edge without a centre crop"),
        ({"do_center_crop": True, "crop_size": 64}, r"a crop of \(64, 64\) from \(48, 48\)"),
        ({"do_center_crop": True, "crop_size": {"height": 24, "width": 40}}, "which no single fraction describes"),
        ({"image_processor_type": "EfficientNetImageProcessor"}, "the processor EfficientNetImageProcessor"),
        ({"auto_map": {"AutoImageProcessor": "code.Mine"}}, "an auto_map to Python code of its own"),
        ({"image_processor_type": None}, "neither image_processor_type nor feature_extractor_type"),
    ],
)
def test_what_cannot_be_followed_is_refused(change: dict[str, Any], words: str) -> None:
    config = {"image_processor_type": "ViTImageProcessor", "size": 48, "image_mean": MEAN, "image_std": STD, **change}
    with pytest.raises(InputError, match=words) as caught:
        preprocess_from_config(config, Path("p.json"))
    assert "\n" not in str(caught.value)
    assert "--preprocess FILE" in str(caught.value)


def test_a_toml_says_it_in_our_own_words(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("size = [32, 24]\nresize = 'exact'\nmean = [0.5]\nstd = [0.25]\nmode = 'L'\n")
    spec = read_preprocess(tmp_path / "p.toml")
    assert (spec.size, spec.mode, spec.mean, spec.std) == ((32, 24), "L", (0.5,), (0.25,))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.toml", "sizes = 3", "unknown field"),
        ("p.toml", "size = [", "found"),
        ("p.json", "{", "found"),
        ("p.json", "[]", "expected one JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_says_how_to_give_one(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        read_preprocess(tmp_path / name)
    assert "--preprocess FILE" in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_preprocess(tmp_path / "gone.json")


def test_json_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PUBLISHED["vit"]))
    assert read_preprocess(tmp_path / "preprocessor_config.json").size == (48, 48)


def test_a_bgr_model_gets_its_channels_in_that_order() -> None:
    image = photo(64, 64)
    config = {**PUBLISHED["mobilevit"], "size": 64}
    flipped = image_tensor(image, preprocess_from_config(config, Path("p.json")))
    plain = image_tensor(image, preprocess_from_config({**config, "do_flip_channel_order": False}, Path("p.json")))
    assert np.array_equal(flipped, plain[::-1])
    assert not np.array_equal(flipped, plain)
