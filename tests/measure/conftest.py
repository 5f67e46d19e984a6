from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgevit.measure.cell import Subject
from edgevit.measure.protocol import Opening

FAKE_OPENER = "measured_fakes:open_build"


@pytest.fixture(scope="session", autouse=True)
def fake_opener() -> Iterator[str]:
    # Measuring processes get this process's import path, and with it the fakes.
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(Path(__file__).parent))
    yield FAKE_OPENER
    patch.undo()


@pytest.fixture(scope="session")
def make_subject() -> Callable[..., Subject]:
    """(directory, build name, behaviour of `measured_fakes`) -> Subject; writes `<name>.json` into the directory."""

    def make(bundle: Path, name: str, **behaviour: object) -> Subject:
        target, _, precision = name.partition("-")
        (bundle / f"{name}.json").write_text(json.dumps(behaviour))
        return Subject(target=target, precision=precision, bundle=str(bundle), size_bytes=123, opener=FAKE_OPENER)

    return make


@pytest.fixture
def make_opening(tmp_path: Path, make_subject: Callable[..., Subject]) -> Callable[..., Opening]:
    def make(name: str = "fake-float32", **behaviour: object) -> Opening:
        make_subject(tmp_path, name, **behaviour)
        return Opening(opener=FAKE_OPENER, bundle=str(tmp_path), build=name)

    return make
