"""Whether builds give the same labels on ARM: executed by QEMU's user emulation, with Debian's Python for arm64.

Every time that an emulated program takes says something about the emulator, so none is kept. Asked for by name alone
(`python benchmarks/run.py arm`), because it downloads a second Python and 90 MB of wheels; wants Debian with
qemu-user-static.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import ROOT
from processes import StepError
from record import Figure, Findings, Options, Quantity, Table, Target, figure

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = "digits-vit"
BUILDS = tuple(
    f"{name}:{precision}" for name in ("onnxruntime", "ort-mobile", "litert") for precision in ("float32", "int8")
)
SAMPLES = 300
LABELS = Quantity(unit="labels", digits=0)
DEBIAN = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "zlib1g", "libexpat1", "libssl3"),
    *("libffi8", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "libcrypt1"),
    *("libc6", "libgcc-s1", "libstdc++6", "libgomp1"),
)
"""Python for arm64 and the libraries that it and the wheels load."""
PYTHON = "usr/bin/python3.11"
PROCESSOR = "neoverse-n1"
"""As QEMU calls it: an int8 dot product (asimddp) and no SVE."""
CPUINFO = """processor\t: {number}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""
"""What Linux says on that processor: QEMU 7 shows that of the machine it runs on, and onnxruntime falls over it."""
GLIBC = 36
"""Debian 12's minor version: the newest wheels that its C library takes."""
WHEELS = ("numpy", "msgspec", "pillow", "psutil", "onnxruntime", "ai-edge-litert")
"""In the versions of constraints.txt."""

PREDICT = """
import json, platform, sys
import edgevit
from edgevit.pipeline import verify
from edgevit.sets.opening import open_set

bundle, count = sys.argv[1], int(sys.argv[2])
images = [sample.image() for sample in open_set("zoo:digits-vit:evaluation").samples[:count]]
found = {}
for check in verify(bundle).builds:
    build = {"verdict": check.verdict, "reason": check.reason, "sqnr_db": check.sqnr_db}
    if check.verdict != "not executed":
        with edgevit.load(bundle, check.build) as model:
            results = [one for at in range(0, count, 8) for one in model.predict(images[at : at + 8], top=1)]
        build |= {"labels": [one.label for one in results], "scores": [one.score for one in results]}
    found[check.build] = build
print(json.dumps({"machine": platform.machine(), "python": platform.python_version(), "builds": found}))
"""
"""Run on both sides: the golden inputs, then labels, from pictures that each side decodes and prepares itself."""


def main(options: Options) -> Findings:
    """Exports, predicts here and on ARM, and compares."""
    samples = 40 if options.smoke else SAMPLES
    bundle = options.work / "bundle"
    arguments = [part for build in BUILDS for part in ("--target", build)]
    options.say(f"exporting {', '.join(BUILDS)}")
    edgevit = [sys.executable, "-m", "edgevit", "export", f"zoo:{MODEL}", str(bundle), "--no-bench", "--cpu", "any"]
    _run([*edgevit, *arguments])
    here = json.loads(_run([sys.executable, "-c", PREDICT, str(bundle), str(samples)]))
    place = options.bundles or options.work
    root, site = place / "arm64-root", place / "arm64-wheels"
    if not site.exists():
        options.say("fetching Python and wheels for arm64")
        unpack_debian(root, place / "arm64-apt")
        install_wheels(site)
    options.say("predicting on ARM, emulated")
    emulated = ["qemu-aarch64-static", "-cpu", PROCESSOR, "-L", str(root)]
    emulated += ["-E", f"PYTHONPATH={ROOT}:{site}", "-E", "OMP_NUM_THREADS=1"]
    there = json.loads(_run([*emulated, str(root / PYTHON), "-c", PREDICT, str(bundle), str(samples)]))
    return compared(here, there, samples)


def compared(here: dict[str, Any], there: dict[str, Any], samples: int) -> Findings:
    """A figure and a row for every build that was executed there."""
    figures: list[Figure] = []
    rows = []
    for name, build in there["builds"].items():
        if "labels" not in build:
            rows.append((name, "not executed", "", "", build["reason"]))
            continue
        own = here["builds"][name]
        different = sum(one != other for one, other in zip(build["labels"], own["labels"], strict=True))
        furthest = max(abs(one - other) for one, other in zip(build["scores"], own["scores"], strict=True))
        title = f"labels of {name} that differ on ARM, of {samples}"
        figures.append(figure(title, different, Target(limit=0, quantity=LABELS)))
        rows.append((name, build["verdict"], f"{samples - different} of {samples}", f"{furthest:.1e}", ""))
    columns = ("build", "golden inputs there", "same label", "furthest score", "why not")
    note = f"Executed as {there['machine']} by QEMU's user emulation, Python {there['python']}; no time is kept."
    tables = (Table(title="The same labels on ARM", columns=columns, rows=tuple(rows), note=note),)
    return Findings(figures=tuple(figures), tables=tables, raw={"samples": samples, "here": here, "there": there})


def unpack_debian(root: Path, apt: Path) -> None:
    """Debian's packages for arm64 in `root`, fetched by apt with a state of its own and never installed."""
    for folder in ("state/lists/partial", "cache/archives/partial", "packages"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "root",
    }
    get = ["apt-get", "-qq", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]
    _run([*get, "update"])
    _run([*get, "download", *DEBIAN], cwd=apt / "packages")
    root.mkdir(parents=True, exist_ok=True)
    for package in sorted((apt / "packages").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)])
    (root / "proc").mkdir(exist_ok=True)
    texts = [CPUINFO.format(number=number) for number in range(os.cpu_count() or 1)]
    (root / "proc" / "cpuinfo").write_text("".join(texts))


def install_wheels(site: Path) -> None:
    """Wheels for aarch64 in `site`, in the versions that are tested here."""
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.partition("==")[0] in WHEELS]
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(GLIBC, 16, -1)] + ["manylinux2014_aarch64"]
    tags = [part for name in platforms for part in ("--platform", name)]
    tags += ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    making = site.with_name(f"{site.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--target", str(making)]
    _run([*pip, *tags, *pins])
    making.rename(site)


def _run(command: Sequence[str], cwd: Path = ROOT) -> str:
    """What a program prints; StepError with the end of what it complains of where it fails or is not there."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise StepError(
            f"expected the command {command[0]}, found none; sudo apt-get install qemu-user-static (Debian)"
        ) from error
    if done.returncode:
        raise StepError(f"{Path(command[0]).name} ended with status {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout
