"""`edgevit parity --jobs` and `--cluster`: the report of one process, to the last byte."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgevit.bundle import open_bundle, read_manifest, write_manifest
from edgevit.errors import BundleError, SetError
from edgevit.pipeline import shares
from edgevit.pipeline.proof import comparison
from edgevit.pipeline.stand_in import bundle_samples
from edgevit.progress import Silent

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def alone(digits: Any, edgevit: Command) -> Any:
    """Both reports of one process: of the bundle's own set, whose reference it carries, and of another."""
    own = edgevit("parity", digits.bundle, "--json")
    other = edgevit("parity", digits.bundle, "--evaluation", "zoo:digits-vit:calibration", "--json")
    assert own.status == other.status == 0, own.err + other.err
    assert own.out.count('"openvino-int8"') and own.out != other.out
    return own.out, other.out


def test_processes_give_the_same_report(
    digits: Any, alone: Any, inside: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "FEWEST", 100)
    result = inside("parity", digits.bundle, "--jobs", 2, "--json")
    assert (result.status, result.out) == (0, alone[0])
    assert "parity of 4 builds in 4 shares: " in result.err or "parity of 5 builds in 4 shares: " in result.err


def test_a_cluster_that_loses_a_worker_gives_the_same_report(
    digits: Any, alone: Any, dask_cluster: Any, inside: Command
) -> None:
    """Its other directory, too: the set is sent as a path from the root."""
    killed: list[int] = []

    def kill() -> None:
        _, process = next(dask_cluster.busy_workers())
        time.sleep(0.3)
        os.kill(process, signal.SIGKILL)
        killed.append(process)

    thread = threading.Thread(target=kill)
    thread.start()
    other = ("--evaluation", "zoo:digits-vit:calibration")
    result = inside("parity", digits.bundle, *other, "--cluster", dask_cluster.address, "--json")
    thread.join()
    assert killed
    assert (result.status, result.out) == (0, alone[1]), result.err


def test_other_files_on_a_worker_are_noticed(digits: Any, tmp_path: Path, repository: Path) -> None:
    bundle = digits.copy(tmp_path / "bundle")
    pictures = tmp_path / "pictures"
    shutil.copytree(repository / "calibration" / "samples", pictures)
    opened = open_bundle(bundle)
    samples = bundle_samples(opened, str(pictures))
    options = comparison(opened.manifest.task, True, 0.5, opened.manifest.labels, "")
    shared = shares.Shared(samples, str(pictures), opened.builds("onnxruntime:float32"), options)
    (share,) = shares.cut(opened, shared, 1, Silent())
    (part,) = shares.judged(share, 1)
    assert not part.verdict and sum(step.counts.samples for step in part.steps) == len(samples)
    first = next(pictures.glob("*.png"))
    first.write_bytes(max(pictures.glob("*.png"), key=lambda path: path.name).read_bytes())
    with pytest.raises(SetError, match=r"as they were sent, found others there .* the same files under the same path"):
        shares.judged(share, 1)
    manifest = read_manifest(bundle / "manifest.json")
    write_manifest(bundle, msgspec.structs.replace(manifest, model="another"))
    with pytest.raises(BundleError, match="as it was sent, found another one there"):
        shares.judged(share, 1)


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--jobs", 0), 2, "expected --jobs of at least 1, found 0"),
        (("--cluster", "tcp://h:8786"), 2, "expected --cluster as dask://HOST:PORT"),
    ],
)
def test_bad_options_are_one_line(digits: Any, inside: Command, options: Any, status: int, words: str) -> None:
    result = inside("parity", digits.bundle, *options)
    assert result.status == status
    assert words in result.complaint


@pytest.mark.parametrize(
    ("package", "option"), [("joblib", ("--jobs", 2)), ("distributed", ("--cluster", "dask://127.0.0.1:9"))]
)
def test_a_missing_package_names_the_extra(digits: Any, edgevit: Command, package: str, option: Any) -> None:
    result = edgevit("parity", digits.bundle, *option, without=[package])
    assert result.status == 3
    assert f"the package '{package}'" in result.complaint and "pip install 'edgevit[cluster]'" in result.complaint
