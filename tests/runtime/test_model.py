"""A bundle in an application: arrays in and out, pictures in and labels out."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from edgevit.bundle import read_golden
from edgevit.errors import BundleError, InputError, PreprocessError
from edgevit.graph import storage
from edgevit.parity.metrics import sqnr_db
from edgevit.preprocess import image_tensor
from edgevit.runtime import Model, load, model
from edgevit.targets.base import ClosedSession


@pytest.fixture(scope="module")
def loaded(bundle):
    with load(bundle, threads=1) as opened:
        yield opened


# ----------------------------------------------------------------------------------------- opening and closing


def test_the_best_build_is_opened(loaded, tiny):
    assert isinstance(loaded, Model)
    assert loaded.build.name == "openvino-int8"
    assert loaded.labels == tiny.model.labels
    assert loaded.signature == tiny.onnx.signature
    assert loaded.session.execution().quantized_executed == 10


@pytest.mark.parametrize(
    ("wanted", "name"), [("onnxruntime", "onnxruntime-int8"), ("openvino:float32", "openvino-float32")]
)
def test_another_one_can_be_asked_for(wanted, name, bundle, tiny):
    with load(str(bundle), wanted) as opened:
        assert opened.build.name == name
        assert opened.run(tiny.batches[0])["logits"].shape == (4, 10)


def test_options_reach_the_engine(bundle, tmp_path, tiny):
    for _ in range(2):
        with load(bundle, "openvino:int8", threads=2, streams=2, cache_dir=tmp_path / "cache") as opened:
            cached = opened.session.loaded_from_cache()
    assert cached
    with load(bundle, "onnxruntime", threads=1) as opened:
        assert opened.run(tiny.batches[0])["logits"].shape == (4, 10)


def test_leaving_the_block_closes_it_whatever_happened(bundle, tiny):
    with pytest.raises(RuntimeError, match="mine"), load(bundle) as opened:
        raise RuntimeError("mine")
    with pytest.raises(ClosedSession, match="openvino-int8 already closed"):
        opened.run(tiny.batches[0])
    opened.close()
    with pytest.raises(ClosedSession):
        opened.predict(np.zeros((8, 8, 3), np.uint8))


def test_a_damaged_bundle_is_not_opened(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "openvino-int8" / "model.bin").write_bytes(b"short")
    with pytest.raises(BundleError, match=r"openvino-int8/model\.bin.*wrong size"):
        load(copy)
    with pytest.raises(InputError, match="no bundle at"):
        load(tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------------------ running


def test_arrays_in_and_out(loaded, bundle, tiny):
    inputs, outputs = read_golden(bundle / "golden.npz")
    found = loaded.run(inputs)
    assert found.keys() == outputs.keys()
    assert 15 < sqnr_db(outputs["logits"], found["logits"]) < 60
    assert loaded.run(tiny.images)["logits"].shape == (12, 10)


def test_what_does_not_fit_never_reaches_the_engine(loaded, monkeypatch):
    monkeypatch.setattr(loaded.session, "run", None)
    with pytest.raises(InputError, match=r"pixel_values of shape \(batch, 3, 32, 32\)"):
        loaded.run({"pixel_values": np.zeros((1, 3, 16, 16), np.float32)})
    with pytest.raises(InputError, match="of float32, found uint8"):
        loaded.run({"pixel_values": np.zeros((1, 3, 32, 32), np.uint8)})


# --------------------------------------------------------------------------------------------------- predicting


def test_every_way_to_hand_in_a_picture_gives_the_same(loaded, photo, tiny):
    image = Image.open(photo)
    expected = loaded.predict(photo)
    for source in (str(photo), photo.read_bytes(), image, np.asarray(image)):
        assert loaded.predict(source) == expected
    # And it is what preparing and running by hand gives.
    logits = loaded.run({"pixel_values": image_tensor(photo, tiny.model.preprocess)[None]})["logits"][0]
    assert expected.label == f"class {logits.argmax()}"
    assert expected.score == pytest.approx(np.exp(logits.max()) / np.exp(logits).sum(), rel=1e-5)
    assert len(expected.top) == 5
    assert len(loaded.predict(photo, top=2).top) == 2


def test_a_list_gives_a_list(bundle, photo):
    with load(bundle, "openvino:float32") as opened:
        mirrored = np.asarray(Image.open(photo))[:, ::-1]
        one, two = opened.predict(photo), opened.predict(mirrored)
        assert one.top != two.top
        several = opened.predict([photo, mirrored])
        assert [result.label for result in several] == [one.label, two.label]
        assert [result.score for result in several] == pytest.approx([one.score, two.score], rel=1e-4)
        assert opened.predict((photo,)) == [one]
        assert opened.predict([]) == []


def test_long_lists_run_in_parts(loaded, photo, monkeypatch):
    sizes = []
    run = loaded.session.run

    def counted(inputs):
        sizes.append(len(inputs["pixel_values"]))
        return run(inputs)

    monkeypatch.setattr(loaded.session, "run", counted)
    monkeypatch.setattr(model, "LARGEST_BATCH", 3)
    results = loaded.predict([photo] * 7)
    assert sizes == [3, 3, 1]
    assert len(results) == 7
    assert {result.label for result in results} == {loaded.predict(photo).label}


def test_what_is_no_picture_is_named(loaded, photo, tmp_path):
    (wrong := tmp_path / "wrong.jpg").write_bytes(b"not a picture")
    for source in (wrong, tmp_path / "nowhere.png", [photo, wrong]):
        with pytest.raises(PreprocessError, match=r"wrong\.jpg|nowhere\.png") as caught:
            loaded.predict(source)
        assert "\n" not in str(caught.value)


def test_features_are_vectors(write_bundle, tmp_path, photo):
    root = write_bundle(tmp_path / "features", (("openvino", "float32", 1.0),), task="image-features")
    with load(root) as opened:
        vector = opened.predict(photo)
        assert vector.shape == (10,)
        assert vector.dtype == np.float32
        assert len(opened.predict([photo, photo])) == 2


def test_a_fixed_batch_takes_whole_batches(write_bundle, tmp_path, tiny, photo):
    graph = storage.load(tiny.onnx.path)
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        value.shape = ir.Shape((2, *value.shape[1:]))
    storage.save(graph, tmp_path / "fixed.onnx")
    fixed = storage.describe(graph, tmp_path / "fixed.onnx")
    root = write_bundle(tmp_path / "fixed", (("openvino", "float32", 1.0),), fixed, signature=fixed.signature)
    with load(root) as opened:
        assert len(opened.predict([photo] * 4)) == 4
        with pytest.raises(InputError, match="multiple of 2 inputs for this build of fixed batch 2, found 3"):
            opened.predict([photo] * 3)
        with pytest.raises(InputError, match=r"\(2, 3, 32, 32\)"):
            opened.run(tiny.batches[0])


def test_many_threads_share_one_model(bundle, photo, tiny):
    with load(bundle, threads=2, streams=2) as opened:
        expected, logits = opened.predict(photo), opened.run(tiny.batches[0])["logits"]

        def work(index):
            if index % 2:
                return opened.predict(photo) == expected
            return np.array_equal(opened.run(tiny.batches[0])["logits"], logits)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(80)))
