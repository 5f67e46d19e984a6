"""`edgevit bench --ssh`, over a real sshd: the report comes back, nothing else stays there, every failure is a line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from edgevit import load
from edgevit.bundle import GOLDEN, describe_file, open_bundle, read_golden, write_golden, write_manifest
from edgevit.types import BenchReport, Engine

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def measured(edgevit: Command, digits: Any, sshd: Any, quick: list[Any]) -> Any:
    """The first measurement there, of ONNX Runtime's builds, which had to make the environment."""
    return edgevit("bench", digits.bundle, *sshd.arguments, *quick, "--target", "onnxruntime", "--json")


# --------------------------------------------------------------------------------------------- the report


def test_the_report_comes_back(measured: Any, sshd: Any) -> None:
    assert measured.status == 0, measured.err
    report = msgspec.json.decode(measured.out, type=BenchReport)
    assert [entry.name for entry in report.entries] == ["onnxruntime-float32", "onnxruntime-int8"]
    assert report.device == sshd.host and report.rounds == 2
    assert report.entries[1].ratio is not None and report.entries[1].ratio.baseline == "onnxruntime-float32"
    assert report.machine.packages["onnxruntime"] and "not_executed" in json.loads(measured.out)


def test_it_was_measured_with_one_wheel_beside_edgevit(measured: Any, sshd: Any) -> None:
    packages = msgspec.json.decode(measured.out, type=BenchReport).machine.packages
    assert packages.keys() == {"edgevit", "numpy", "onnxruntime"}
    (site,) = sshd.cache.glob("venvs/*/lib/python3*/site-packages")
    installed = {path.name.partition("-")[0].lower() for path in site.glob("*.dist-info")}
    assert {"edgevit", "onnxruntime", "numpy", "msgspec"} <= installed
    assert not installed & {"torch", "onnx", "openvino", "executorch", "tokenizers", "ai_edge_litert", "matplotlib"}


def test_nothing_stays_there_but_the_environment_which_is_used_again(
    measured: Any, edgevit: Command, digits: Any, sshd: Any, quick: list[Any], repository: Path
) -> None:
    assert measured.status == 0
    assert f"installing on {sshd.host}" in measured.err and sshd.workplaces == []
    # What somebody else's crash left is removed on the way.
    (sshd.cache / "work-left").mkdir()
    old = json.loads(measured.out)
    saved = sshd.place / "old.json"
    saved.write_text(json.dumps(old))
    again = edgevit("bench", digits.bundle, *sshd.arguments, *quick, "-t", "onnxruntime", "--compare", saved)
    assert again.status == 0, again.err
    assert "installing" not in again.err and "copying the bundle" in again.err
    assert sorted(path.name for path in sshd.cache.iterdir()) == ["lock", "venvs"]
    assert len(list((sshd.cache / "venvs").iterdir())) == 1
    assert f"measured on {sshd.host}" in " ".join(again.out.split())
    assert "onnxruntime-int8, batch 1, threads 1:" in again.out


def test_builds_that_no_wheel_runs_are_named_and_the_rest_is_measured(
    measured: Any, edgevit: Command, digits: Any, sshd: Any, quick: list[Any], tmp_path: Path
) -> None:
    assert measured.status == 0
    bundle = digits.copy(tmp_path / "bundle")
    manifest = open_bundle(bundle).manifest
    (float32,) = (build for build in manifest.builds if build.name == "onnxruntime-float32")
    (bundle / "web-float32").mkdir()
    (bundle / "web-float32" / "index.html").write_text("<!doctype html>")
    page = describe_file(bundle, bundle / "web-float32" / "index.html")
    web = msgspec.structs.replace(float32, target="web", files=(page,))
    write_manifest(bundle, msgspec.structs.replace(manifest, builds=(float32, web)))
    result = edgevit("bench", bundle, *sshd.arguments, *quick, "--json")
    assert result.status == 0, result.err
    report = msgspec.json.decode(result.out, type=BenchReport)
    assert report.not_executed == {"web-float32": "a browser runs it: open the folder there"}
    alone = edgevit("bench", bundle, *sshd.arguments, *quick, "--target", "web")
    assert alone.status == 3 and "expected a build that" in alone.complaint and "a browser runs it" in alone.complaint


def test_a_translator_is_measured_with_its_tokenizers(
    measured: Any, edgevit: Command, sshd: Any, quick: list[Any], text_bundle: Command, tmp_path: Path
) -> None:
    """Of a model in parts; what it read and wrote there is checked, and every token was timed."""
    assert measured.status == 0
    version = msgspec.json.decode(measured.out, type=BenchReport).machine.packages["onnxruntime"]
    bundle = Path(shutil.copytree(text_bundle("transformer"), tmp_path / "bundle"))
    names = ("input_ids", "attention_mask", "decoder_input_ids")
    with load(bundle, "onnxruntime") as model:
        inputs = {name: np.ones((1, 6), dtype=np.int64) for name in names}
        write_golden(bundle / GOLDEN, inputs, model.run(inputs))
        build = msgspec.structs.replace(model.build, engine=Engine(name="onnxruntime", version=version))
    manifest = open_bundle(bundle).manifest
    files = (*manifest.files, describe_file(bundle, bundle / GOLDEN))
    write_manifest(bundle, msgspec.structs.replace(manifest, files=files, builds=(build,)))
    options = ["--tokens", 5, "--beams", 2, "--source-length", 6, "--json"]
    result = edgevit("bench", bundle, *sshd.arguments, *quick, *options)
    assert result.status == 0, result.err
    (entry,) = msgspec.json.decode(result.out, type=BenchReport).entries
    assert entry.generation is not None and entry.generation.tokens == 5 and len(entry.generation.by_place) == 5
    assert [rate.beams for rate in entry.generation.rates] == [1, 2]
    warnings = msgspec.json.decode(result.out, type=BenchReport).warnings
    assert not any("wrong" in warning for warning in warnings), warnings
    assert sshd.workplaces == []


def test_outputs_that_are_wrong_there_are_said(
    measured: Any, edgevit: Command, digits: Any, sshd: Any, quick: list[Any], tmp_path: Path
) -> None:
    assert measured.status == 0
    bundle = digits.copy(tmp_path / "bundle")
    inputs, outputs = read_golden(bundle / GOLDEN)
    write_golden(bundle / GOLDEN, inputs, {name: -array for name, array in outputs.items()})
    manifest = open_bundle(bundle, check="manifest").manifest
    others = tuple(file for file in manifest.files if file.path != GOLDEN)
    files = (*others, describe_file(bundle, bundle / GOLDEN))
    write_manifest(bundle, msgspec.structs.replace(manifest, files=files))
    result = edgevit("bench", bundle, *sshd.arguments, *quick, "--target", "onnxruntime:int8", "--json")
    assert result.status == 0, result.err
    warnings = msgspec.json.decode(result.out, type=BenchReport).warnings
    assert any(f"onnxruntime-int8: its outputs are wrong on {sshd.host}" in warning for warning in warnings)


def test_errors_of_the_measurement_keep_their_status(
    measured: Any, edgevit: Command, digits: Any, sshd: Any, quick: list[Any]
) -> None:
    assert measured.status == 0
    arguments = ["bench", digits.bundle, *sshd.arguments, *quick]
    nowhere = edgevit(*arguments, "--target", "openvino:int4")
    assert nowhere.status == 2 and "expected a target of the bundle" in nowhere.complaint
    writes = edgevit(*arguments, "--target", "onnxruntime", "--tokens", 4)
    assert writes.status == 2
    assert writes.complaint.startswith(f"edgevit: on {sshd.host}: expected a model that writes text")
    assert sshd.workplaces == []


# --------------------------------------------------------------------------------- without a package index


def test_a_device_without_an_index_gets_its_wheels_from_here(
    edgevit: Command, digits: Any, start_sshd: Command, quick: list[Any], tmp_path: Path
) -> None:
    """Of an engine whose version is nowhere to be had: another one is measured, and the report says so."""
    bundle = digits.copy(tmp_path / "bundle")
    manifest = open_bundle(bundle).manifest
    older = tuple(
        msgspec.structs.replace(build, engine=msgspec.structs.replace(build.engine, version="0.0.7"))
        for build in manifest.builds
    )
    write_manifest(bundle, msgspec.structs.replace(manifest, builds=older))
    base = Path(sys.executable).resolve().parent
    nothing = ("PIP_INDEX_URL=http://127.0.0.1:9/simple", "PIP_RETRIES=1")
    alone = start_sshd(path=f"{base}:{os.environ['PATH']}", pip=nothing)
    arguments = ["bench", bundle, *alone.arguments, *quick, "--target", "onnxruntime:int8", "--json"]
    result = edgevit(*arguments)
    assert result.status == 3
    assert "no package index can be reached" in result.complaint and "--wheels DIR" in result.complaint
    assert alone.workplaces == [] and not (alone.cache / "venvs").exists()

    wheels = tmp_path / "wheels"
    result = edgevit(*arguments, "--wheels", wheels)
    assert result.status == 0, result.err
    report = msgspec.json.decode(result.out, type=BenchReport)
    assert [entry.name for entry in report.entries] == ["onnxruntime-int8"]
    found = report.machine.packages["onnxruntime"]
    assert any(f"onnxruntime {found} was measured; 0.0.7" in warning for warning in report.warnings)
    kept = sorted(path.name for path in wheels.iterdir())
    assert any(name.startswith("onnxruntime-") for name in kept) and not any("edgevit" in name for name in kept)


# ------------------------------------------------------------------------------------------- bad devices


def refused(edgevit: Command, digits: Any, *arguments: object, status: int = 3) -> str:
    result = edgevit("bench", digits.bundle, *arguments)
    assert (result.status, result.out) == (status, ""), result.err
    line: str = result.complaint
    return line


def with_options(sshd: Any, *options: str) -> list[str]:
    """ssh takes the first value it is given."""
    return [*(part for option in options for part in ("--ssh-option", option)), *sshd.arguments]


def test_a_host_that_is_not_there(edgevit: Command, digits: Any, sshd: Any) -> None:
    assert "nothing that listens on that port; check the port" in refused(
        edgevit, digits, *with_options(sshd, "Port=9")
    )
    assert "its name is not known" in refused(edgevit, digits, "--ssh", "root@nowhere.invalid")


def test_a_host_key_that_is_not_known(edgevit: Command, digits: Any, sshd: Any, tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    empty = with_options(sshd, f"UserKnownHostsFile={tmp_path / 'none'}", "StrictHostKeyChecking=yes")
    assert "a host key that is not known here; connect once with ssh" in refused(edgevit, digits, *empty)


def test_a_host_key_that_is_another_one(edgevit: Command, digits: Any, sshd: Any, tmp_path: Path) -> None:
    stranger = (sshd.place / "stranger.pub").read_text()
    (tmp_path / "other").write_text(f"[127.0.0.1]:{sshd.port} {stranger}")
    other = with_options(sshd, f"UserKnownHostsFile={tmp_path / 'other'}")
    assert "another host key than the known one" in refused(edgevit, digits, *other)


def test_a_key_that_is_refused(edgevit: Command, digits: Any, sshd: Any) -> None:
    # Of several IdentityFiles ssh offers each: this login must have the stranger's alone.
    arguments = [part.replace(str(sshd.place / "client"), str(sshd.place / "stranger")) for part in sshd.arguments]
    assert "found the login refused; check the user" in refused(edgevit, digits, *arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ssh", "-oProxyCommand=touch /tmp/owned"], "expected USER@HOST, found '-oProxyCommand"),
        (["--ssh", ""], "expected USER@HOST, found ''"),
        (["--ssh", "root@127.0.0.1", "--ssh-option", "Port 9"], "expected NAME=VALUE"),
        (["--ssh-option", "Port=9"], "expected --ssh USER@HOST beside --ssh-option"),
        (["--wheels", "wheels"], "expected --ssh USER@HOST or --adb beside --wheels"),
        (["--python", "python3.12"], "expected --ssh USER@HOST or --adb beside --python"),
        (["--ssh", "pi@one", "--ssh", "pi@two"], "found --ssh pi@one, --ssh pi@two; run the command once for each"),
        (["--ssh", "pi@one,pi@two"], "expected one device to measure on, found --ssh pi@one,pi@two; run the command"),
    ],
)
def test_what_is_no_destination(edgevit: Command, digits: Any, arguments: list[str], expected: str) -> None:
    assert expected in refused(edgevit, digits, *arguments, status=2)


def test_an_option_that_ssh_does_not_know(edgevit: Command, digits: Any, sshd: Any) -> None:
    assert "an option that ssh does not know" in refused(edgevit, digits, *with_options(sshd, "Prot=22"))


def test_without_ssh(edgevit: Command, digits: Any, sshd: Any) -> None:
    environment = {**os.environ, "PATH": "/nowhere", "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "80"}
    result = edgevit("bench", digits.bundle, *sshd.arguments, env=environment)
    assert result.status == 3 and "apt-get install openssh-client" in result.complaint


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        (None, "expected Python 3.11 or newer on {host}, found none; install one there"),
        ("#!/bin/sh\n[ $1 = -V ] && echo Python 3.9.2\nexit 1\n", "newer on {host}, found Python 3.9.2; install one"),
        (
            "#!/bin/sh\n[ $1 = -c ] && exec {python} -c \"import sys; sys.executable = '$0'; $2\"\n"
            "echo ensurepip is not available; exit 1\n",
            "expected Python's venv module on {host}, found: ensurepip is not available",
        ),
    ],
)
def test_a_device_without_a_good_python(
    edgevit: Command, digits: Any, start_sshd: Command, device_python: Command, python: str | None, expected: str
) -> None:
    real = str(Path(sys.executable).resolve())
    stand_in = {} if python is None else {"python3": python.replace("{python}", real)}
    device = start_sshd(path=device_python(**stand_in))
    line = refused(edgevit, digits, *device.arguments, "--target", "onnxruntime")
    assert expected.replace("{host}", device.host) in line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """(megabytes) -> a file system of its own of that size."""
    mounted: list[Path] = []

    def make(megabytes: int) -> Path:
        place = tmp_path / f"disk{megabytes}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here, so no disk became full; run the tests as root")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("megabytes", "expected"),
    [(1, "MB free on {host} for the bundle, found"), (12, "the disk of {host} became full while")],
)
def test_a_disk_that_is_full(
    edgevit: Command, digits: Any, start_sshd: Command, small_disk: Command, megabytes: int, expected: str
) -> None:
    base = Path(sys.executable).resolve().parent
    disk = small_disk(megabytes)
    device = start_sshd(path=f"{base}:{os.environ['PATH']}", cache=disk)
    line = refused(edgevit, digits, *device.arguments, "--target", "onnxruntime", status=2)
    assert expected.replace("{host}", device.host) in line
    assert [path.name for path in (disk / "edgevit").glob("*")] in ([], ["lock"])


# ------------------------------------------------------------------------------------------- interrupted


def there(sshd: Any) -> list[psutil.Process]:
    """Programs of the device that run from its environments."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(sshd.cache) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_measurement_leaves_nothing_there(
    measured: Any, start: Command, digits: Any, sshd: Any, number: signal.Signals
) -> None:
    assert measured.status == 0
    arguments = ["bench", digits.bundle, *sshd.arguments, "--seconds", 100, "--target", "onnxruntime"]
    process = start(*arguments, start_new_session=True)
    for line in process.stderr:
        if line.startswith("copying the bundle"):
            break
    while len(there(sshd)) < 2:  # the measurement, and a measuring process of its
        time.sleep(0.02)
    # Ctrl-C at a terminal reaches the whole group; kill -9 the command alone.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
    out, error = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (process.returncode, out) == (130, "")
        assert error == f"edgevit: interrupted; nothing is left on {sshd.host} but its virtual environments\n"
    for _ in range(400):
        if not there(sshd) and sshd.workplaces == []:
            break
        time.sleep(0.05)
    assert (there(sshd), sshd.workplaces) == ([], [])
