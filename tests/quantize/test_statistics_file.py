"""Statistics on disk: an exact round trip, and refusal of what is stale, damaged or foreign."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgevit.errors import InputError, StaleError
from edgevit.quantize.observers import InputObserver
from edgevit.quantize.statistics_file import load_statistics, save_statistics, statistics_digest
from edgevit.types import CalibrationStats, ChannelStats


def observed(seed, channels=5):
    observer = InputObserver("l", bins=32, rows=8, seed=1)
    observer.update(np.random.default_rng(seed).standard_normal((50, channels)).astype(np.float32))
    return observer.result()


@pytest.fixture
def stats():
    shared = observed(1)
    return CalibrationStats(
        model_digest="a" * 64,
        set_digest="b" * 64,
        set_name="digits/calibration",
        samples=50,
        seed=7,
        inputs={"q.weight": shared, "fc2.weight": observed(2, channels=3), "k.weight": shared},
        outputs={"q.weight": (-1.5, 2.25), "fc2.weight": (0.0, 1e-3), "k.weight": (-3.0, 0.1)},
    )


def assert_same_tensor(one, two):
    for name in ChannelStats.__struct_fields__:
        left, right = getattr(one, name), getattr(two, name)
        assert np.asarray(left).dtype == np.asarray(right).dtype, name
        np.testing.assert_array_equal(left, right, err_msg=name)


def test_statistics_survive_their_file(stats, tmp_path):
    path = tmp_path / "stats.npz"
    saved = save_statistics(stats, path)
    back = load_statistics(path, "a" * 64, "b" * 64)
    assert saved.digest == back.digest == statistics_digest(stats)
    assert len(back.digest) == 64
    assert list(back.inputs) == list(stats.inputs)
    for name, tensor in stats.inputs.items():
        assert_same_tensor(back.inputs[name], tensor)
    for name in ("model_digest", "set_digest", "set_name", "samples", "seed", "outputs"):
        assert getattr(back, name) == getattr(stats, name)
    assert [item.name for item in tmp_path.iterdir()] == ["stats.npz"]


def test_layers_that_share_a_tensor_share_it_in_the_file_and_after(stats, tmp_path):
    save_statistics(stats, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as archive:
        assert sum(name.endswith(".rows") for name in archive) == 2
    back = load_statistics(tmp_path / "s.npz")
    assert back.inputs["q.weight"] is back.inputs["k.weight"]
    assert back.inputs["q.weight"] is not back.inputs["fc2.weight"]


def test_the_file_is_the_same_bytes_every_time(stats, tmp_path):
    for name in ("one", "two"):
        save_statistics(stats, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_digest_is_over_content_alone(stats):
    digest = statistics_digest(stats)
    copies = {name: observed(2, channels=3) if name == "fc2.weight" else observed(1) for name in sorted(stats.inputs)}
    assert statistics_digest(msgspec.structs.replace(stats, inputs=copies, digest="old")) == digest
    seen = {digest}
    for change in ({"seed": 8}, {"samples": 51}, {"set_name": "x"}, {"model_digest": "c"}, {"set_digest": "c"}):
        seen.add(statistics_digest(msgspec.structs.replace(stats, **change)))
    outputs = dict(reversed(stats.outputs.items()))
    assert statistics_digest(msgspec.structs.replace(stats, outputs=outputs)) == digest
    seen.add(statistics_digest(msgspec.structs.replace(stats, outputs=outputs | {"k.weight": (-3.0, 0.2)})))
    for field in ChannelStats.__struct_fields__:
        value = getattr(copies["fc2.weight"], field)
        other = value + 1 if np.isscalar(value) else value * 2
        changed = msgspec.structs.replace(copies["fc2.weight"], **{field: other})
        seen.add(statistics_digest(msgspec.structs.replace(stats, inputs=copies | {"fc2.weight": changed})))
    assert len(seen) == 1 + 6 + len(ChannelStats.__struct_fields__)


def test_stale_statistics_are_refused_with_the_reason(stats, tmp_path):
    path = tmp_path / "stats.npz"
    save_statistics(stats, path)
    with pytest.raises(StaleError, match=r"stats\.npz: .*model with digest 0123.*another model \(aaaa.*calibrate"):
        load_statistics(path, "0123456789abcdef", "b" * 64)
    with pytest.raises(StaleError, match=r"set with digest 012345.*'digits/calibration' \(bbbb.*calibrate again"):
        load_statistics(path, "a" * 64, "0123456789abcdef")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.npz.*no file: run the calibration"):
        load_statistics(tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04N.", b"PK\x03\x04 and nothing more"])
def test_something_else_is_refused(content, tmp_path):
    path = tmp_path / "stats.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"stats\.npz.*damaged or something else.*calibrate again"):
        load_statistics(path)


def test_foreign_arrays_are_refused(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", header=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", header=np.array([{}], dtype=object))
    for path in tmp_path.iterdir():
        with pytest.raises(InputError, match="damaged or something else"):
            load_statistics(path)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_truncated_file_is_refused(stats, tmp_path, share):
    path = tmp_path / "stats.npz"
    save_statistics(stats, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match="damaged"):
        load_statistics(path)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_a_flipped_byte_is_noticed(stats, tmp_path, share):
    path = tmp_path / "stats.npz"
    save_statistics(stats, path)
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="stats.npz"):
        load_statistics(path)


def rewrite(path, change):
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    header = msgspec.json.decode(arrays["header"].tobytes())
    change(header, arrays)
    arrays["header"] = np.frombuffer(msgspec.json.encode(header), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda header, arrays: header.update(seed=8), "digest that it states"),
        (lambda header, arrays: header["tensors"][0].update(limit=1.5), "digest that it states"),
        (lambda header, arrays: arrays.update({"0.rows": arrays["0.rows"] * 2}), "digest that it states"),
        (lambda header, arrays: arrays.update({"0.rows": arrays["0.rows"][:, :2]}), "array '0.rows'"),
        (lambda header, arrays: arrays.update({"0.histogram": arrays["0.histogram"] * 1.0}), "array '0.histogram'"),
        (lambda header, arrays: arrays.pop("1.channel_mean"), "1.channel_mean"),
        (lambda header, arrays: header["layers"].update({"q.weight": 9}), "index"),
        (lambda header, arrays: header.pop("samples"), "samples"),
        (lambda header, arrays: header["outputs"].update({"q.weight": [0, 1]}), "digest that it states"),
        (lambda header, arrays: header.update(schema=2), "schema 1, got 2: calibrate again"),
    ],
)
def test_an_altered_file_is_refused(stats, tmp_path, change, expected):
    path = tmp_path / "stats.npz"
    save_statistics(stats, path)
    rewrite(path, change)
    with pytest.raises(InputError, match=expected):
        load_statistics(path)
