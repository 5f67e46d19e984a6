"""A build for browsers as a session: its graphs are executed by a page of headless Chromium."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import InputError
from edgevit.targets.base import ClosedSession
from edgevit.targets.browser.wire import Header
from edgevit.types import Engine, Execution

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.targets.browser.chromium import Page
    from edgevit.types import Arrays, Build


class BrowserSession:
    """The graph `graph` of an opened page, which goes with it. `build`: as of this graph alone."""

    def __init__(self, page: Page, build: Build, graph: str = "") -> None:
        self.signature = build.signature
        self.engine = Engine(name=build.engine.name, version=build.engine.version, device="browser")
        self.page = page
        self._build, self._graph = build, graph
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in build.signature.inputs}
        self._loops = itertools.count(1)

    def run(self, inputs: Arrays) -> Arrays:
        """Thread-safe; one call at a time."""
        return self.page.call(Header(kind="run", graph=self._graph), self._typed(inputs))

    def loop(self, fed: dict[str, str], inputs: Arrays) -> BrowserLoop:
        """A `Loop` whose outputs that are fed back stay in the page."""
        return BrowserLoop(self.page, Header(kind="loop", graph=self._graph, loop=next(self._loops), fed=fed), inputs)

    def prepare(self, image: bytes) -> NDArray[np.float32]:
        """What the page's own preprocessing makes of an image file: float32 (1, channels, height, width)."""
        tensor: NDArray[np.float32] = self.page.call(Header(kind="image"), rest=image)["image"]
        return tensor

    def execution(self) -> Execution:
        agent = self.page.agent
        return Execution(
            precision=self._build.precision,
            provider=f"WebAssembly in {agent.rpartition(' ')[0].rpartition(' ')[2] or agent}",
            instruction_set="wasm simd128",
        )

    def close(self) -> None:
        self.page.close()

    def _typed(self, inputs: Arrays) -> Arrays:
        return {name: inputs[name].astype(dtype, copy=False) for name, dtype in self._dtypes.items()}


class BrowserLoop:
    """A session that is run again and again in the page; of each step only what is new travels."""

    def __init__(self, page: Page, begin: Header, inputs: Arrays) -> None:
        self._page, self._number = page, begin.loop
        page.call(begin, inputs)

    def step(self, inputs: Arrays) -> Arrays:
        return self._page.call(Header(kind="step", loop=self._number), inputs)

    def select(self, rows: NDArray[np.int64], *, constant: bool) -> None:
        chosen = tuple(rows.tolist())
        self._page.call(Header(kind="select", loop=self._number, rows=chosen, constant=constant))

    def close(self) -> None:
        with suppress(ClosedSession, InputError):  # with the page its loops are gone
            self._page.call(Header(kind="free", loop=self._number))
