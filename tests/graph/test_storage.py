"""ONNX files with and without external data: read, written, copied, and told apart by their digests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.graph import storage
from edgevit.graph.execute import Executor


@pytest.fixture
def big(tiny, tmp_path, monkeypatch):
    """The tiny model as if it were over two gigabytes."""
    monkeypatch.setattr(storage, "INLINE_LIMIT", 1000)
    graph = storage.load(tiny.onnx.path)
    path = tmp_path / "big" / "model.onnx"
    path.parent.mkdir()
    storage.save(graph, path)
    return storage.describe(graph, path)


def logits(path, tiny):
    with Executor(path, exact=True) as executor:
        return executor.run(tiny.images)["logits"]


def test_small_models_are_one_file(tiny, tmp_path):
    path = tmp_path / "model.onnx"
    graph = storage.load(tiny.onnx.path)
    storage.save(graph, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]
    described = storage.describe(graph, path)
    assert described.signature == tiny.onnx.signature
    assert described.digest == storage.digest_onnx(path)


def test_large_models_keep_their_weights_beside_them(big, tiny):
    data = storage.data_path(big.path)
    assert data.name == "model.onnx.data"
    assert data.stat().st_size > 50_000
    assert big.path.stat().st_size < 50_000
    np.testing.assert_array_equal(logits(big.path, tiny), logits(tiny.onnx.path, tiny))
    assert big.digest != tiny.onnx.digest


def test_weights_move_with_the_model(big, tiny, tmp_path):
    moved = tmp_path / "elsewhere" / "model.onnx"
    moved.parent.mkdir()
    storage.copy_onnx(big.path, moved)
    assert storage.digest_onnx(moved) == big.digest
    big.path.unlink()
    storage.data_path(big.path).unlink()
    np.testing.assert_array_equal(logits(moved, tiny), logits(tiny.onnx.path, tiny))


def test_another_name_would_lose_the_weights(big, tmp_path, tiny):
    with pytest.raises(InputError, match=r"external data that is found by name.*model\.onnx"):
        storage.copy_onnx(big.path, tmp_path / "renamed.onnx")
    assert not (tmp_path / "renamed.onnx").exists()
    storage.copy_onnx(tiny.onnx.path, tmp_path / "renamed.onnx")
    assert storage.digest_onnx(tmp_path / "renamed.onnx") == tiny.onnx.digest


def test_the_digest_covers_the_weights_beside_it(big):
    data = storage.data_path(big.path)
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    assert storage.digest_onnx(big.path) != big.digest


def test_saving_again_leaves_no_old_weights(big, tiny, monkeypatch):
    """A graph that is small again must not find the weights of the large one."""
    graph = storage.load(tiny.onnx.path)
    monkeypatch.setattr(storage, "INLINE_LIMIT", 1 << 30)
    storage.save(graph, big.path)
    assert not storage.data_path(big.path).exists()
    assert storage.digest_onnx(big.path) == tiny.onnx.digest


def test_what_was_read_is_mapped_no_longer_than_it_is_used(big):
    """Or the pages of all weights stay with a process that looked at each of them once."""
    graph = storage.load(big.path)
    data = str(storage.data_path(big.path))

    def mapped() -> bool:
        return data in Path("/proc/self/maps").read_text()

    weight = max((value.const_value for value in graph.graph.initializers.values()), key=lambda tensor: tensor.nbytes)
    array = weight.numpy()
    assert mapped()
    copy = array.copy()
    del array
    assert not mapped()
    np.testing.assert_array_equal(weight.numpy(), copy)


def test_large_weights_begin_on_a_page(tmp_path, big):
    import onnx

    proto = onnx.load(big.path, load_external_data=False)
    entries = [{entry.key: entry.value for entry in tensor.external_data} for tensor in proto.graph.initializer]
    large = [entry for entry in entries if entry and int(entry["length"]) > storage.PAGE]
    assert len(large) > 4
    assert all(int(entry["offset"]) % storage.PAGE == 0 for entry in large)
