"""A bundle opened for an application: arrays in and out, or files in and the task's own result out."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgevit.bundle import open_bundle
from edgevit.errors import InputError
from edgevit.files import inside
from edgevit.runtime.classify import Classification, classify
from edgevit.runtime.inputs import InputCheck
from edgevit.runtime.selection import best, open_session
from edgevit.targets.base import OpenOptions
from edgevit.types import ImagePreprocess, TextPreprocess

if TYPE_CHECKING:
    from types import TracebackType

    from edgevit.bundle import Bundle
    from edgevit.preprocess import Tokenizer
    from edgevit.targets.base import EngineSession
    from edgevit.types import Arrays, Build, Signature


LARGEST_BATCH = 32
"""Images that `predict` prepares and runs at a time where the batch is dynamic, so that no list fills the memory."""


def load(
    path: str | Path,
    target: str | None = None,
    *,
    threads: int | None = None,
    streams: int = 1,
    cache_dir: str | Path | None = None,
) -> Model:
    """Opens the best build of the bundle at `path` that runs here, or the best of `target` (`openvino`,
    `openvino:int8`).

    `threads`: compute threads, by default the engine's choice. `streams`: how many calls may run at the same time.
    `cache_dir`: where the engine may keep compiled models. Raises BundleError (damaged), UnavailableError (no engine
    here), InputError (no such target).
    """
    bundle = open_bundle(path, check="sizes")
    build = best(bundle, target)
    options = OpenOptions(threads=threads, streams=streams, cache_dir=Path(cache_dir) if cache_dir else None)
    return Model(bundle, build, open_session(bundle, build, options))


class Model:
    """An opened build. Thread-safe; a context manager; `close` may be called more than once."""

    def __init__(self, bundle: Bundle, build: Build, session: EngineSession) -> None:
        self._bundle = bundle
        self._session = session
        self._check = InputCheck(build.signature)
        self._closing = threading.Lock()
        self.build = build

    @property
    def labels(self) -> tuple[str, ...]:
        return self._bundle.manifest.labels

    @property
    def signature(self) -> Signature:
        return self.build.signature

    @property
    def session(self) -> EngineSession:
        """The engine's session under this model, for what only the engine can say (`execution()`)."""
        return self._session

    def run(self, inputs: Arrays) -> Arrays:
        """Named arrays in, named arrays out, as the signature has them; a dynamic batch takes any size.

        Raises InputError for a missing or unknown input, a wrong dtype or a wrong shape.
        """
        self._check(inputs)
        return self._session.run(inputs)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """What a model of texts reads them with. Raises PreprocessError where the file is not the model's."""
        from edgevit.preprocess import open_tokenizer

        spec = self._texts()
        return open_tokenizer(inside(self._bundle.root, spec.tokenizer), sha256=spec.tokenizer_sha256)

    def predict(self, item: Any, *, top: int = 5) -> Any:
        """The task's own result; a list gives a list.

        Models of images take a file, bytes, a PIL image or a uint8 array (H, W[, C]): classification gives a
        `Classification`, features a float32 vector. Models of texts take a str or UTF-8 bytes: classification gives a
        `Classification`, token classification a `Tagging`. Raises PreprocessError for what is no image or no text.
        """
        many = isinstance(item, list | tuple)
        items = list(item) if many else [item]
        limit = self._check.fixed_batch
        if limit and len(items) % limit:
            raise InputError(
                f"expected a multiple of {limit} inputs for this build of fixed batch {limit}, found {len(items)}"
            )
        if isinstance(self._bundle.manifest.preprocess, ImagePreprocess):
            results = self._images(items, self._bundle.manifest.preprocess, top)
        else:
            results = self._label_texts(items, top)
        return results if many else results[0]

    def _images(self, items: list[Any], spec: ImagePreprocess, top: int) -> list[Any]:
        from edgevit.preprocess import images_batch

        manifest = self._bundle.manifest
        step = self._check.fixed_batch or LARGEST_BATCH
        results: list[Any] = []
        for start in range(0, len(items), step):
            outputs = self._session.run({spec.input: images_batch(items[start : start + step], spec)})
            first = outputs[self.signature.outputs[0].name]
            if manifest.task == "image-classification":
                results.extend(classify(row, manifest.labels, top) for row in first)
            else:
                results.extend(first)
        return results

    def _label_texts(self, items: list[Any], top: int) -> list[Any]:
        from edgevit.runtime.texts import tagging, text_batches, text_class

        labels = self._bundle.manifest.labels
        results: list[Any] = [None] * len(items)
        for places, rows, batch in text_batches(items, self._texts(), self.tokenizer, self._check.fixed_batch):
            self._check(batch)  # a build of fixed lengths says which it takes
            logits = self._session.run(batch)[self.signature.outputs[0].name]
            for place, row, values in zip(places, rows, logits, strict=True):
                tags = self._bundle.manifest.task == "token-classification"
                results[place] = tagging(values, row, labels) if tags else text_class(values, row, labels, top)
        return results

    def _texts(self) -> TextPreprocess:
        spec = self._bundle.manifest.preprocess
        if not isinstance(spec, TextPreprocess):
            raise InputError(f"expected a model of texts, found one for {self._bundle.manifest.task}")
        return spec

    def close(self) -> None:
        with self._closing:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["Classification", "Model", "load"]
