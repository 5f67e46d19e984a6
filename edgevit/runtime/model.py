"""A bundle opened for an application: arrays in and out, or files and texts in and the task's own result out."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgevit.bundle import open_bundle
from edgevit.errors import BundleError, InputError
from edgevit.files import inside
from edgevit.runtime.classify import Classification, classify
from edgevit.runtime.inputs import InputCheck, TextCheck
from edgevit.runtime.parts import PartsSession
from edgevit.runtime.pixels import as_pixels, check_pixels, run_images
from edgevit.runtime.selection import best, open_session
from edgevit.runtime.texts import Tagging, tagging, text_batches, text_class
from edgevit.runtime.translate import Changes, Translation, as_arrays, generated, settings_for, stream, translation
from edgevit.targets.base import OpenOptions
from edgevit.types import PIXELS, TextPreprocess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from edgevit.bundle import Bundle
    from edgevit.preprocess import Tokenizer
    from edgevit.targets.base import EngineSession
    from edgevit.types import Arrays, Build, Generation, ImagePreprocess, Signature


LARGEST_BATCH = 32
"""Images that `predict` prepares and runs at a time where the batch is dynamic, so that no list fills the memory."""


def load(
    path: str | Path,
    target: str | None = None,
    *,
    threads: int | None = None,
    streams: int = 1,
    cache_dir: str | Path | None = None,
    rebuild: bool = False,
) -> Model:
    """Opens the best build of the bundle at `path` that runs here, or the best of `target` (`openvino`,
    `openvino:int8`).

    `threads`: compute threads, by default the engine's choice. `streams`: how many calls may run at the same time.
    `cache_dir`: where the engine may keep compiled models. `rebuild`: compile a build of another card or version again,
    from the ONNX it holds. Raises BundleError (damaged), UnavailableError (no engine
    here), InputError (no such target).
    """
    bundle = open_bundle(path, check="sizes")
    build = best(bundle, target)
    cache = Path(cache_dir) if cache_dir else None
    options = OpenOptions(threads=threads, streams=streams, cache_dir=cache, rebuild=rebuild)
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

    @property
    def generation(self) -> Generation | None:
        """How this model writes text when nothing else is asked for; None for one that writes none."""
        return self._bundle.manifest.generation

    # ----------------------------------------------------------------------------------------------- arrays

    def run(self, inputs: Arrays) -> Arrays:
        """Named arrays in, named arrays out, as the signature has them; a dynamic batch takes any size.

        Raises InputError for a missing or unknown input, a wrong dtype or a wrong shape; for models of texts also for
        ids and lengths that the model does not have and a mask that no padding makes; for builds that hold the
        preprocessing for images that cannot be resized.
        """
        self._check(inputs)
        spec = self._bundle.manifest.preprocess
        if isinstance(spec, TextPreprocess):
            self._check_text(inputs)
        elif self.build.takes_pixels:
            check_pixels(inputs[PIXELS], spec)
        return self._session.run(inputs)

    def generate(
        self,
        inputs: Arrays,
        *,
        beams: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
    ) -> Arrays:
        """Sources, `input_ids` and `attention_mask` int64 (batch, source_length), to what is written for each.

        Gives `sequences` int64 (batch, longest) without the start token, padded on the right; `lengths` int64 (batch,),
        the end token counted; `scores` float32 (batch,). What is not given is as the bundle has it. Raises InputError
        as `run` does, and for beams or a length that the model cannot have.
        """
        session, settings = self._writing(Changes(beams=beams, max_length=max_length, length_penalty=length_penalty))
        self._check_sources(inputs)
        self._check_text(inputs)
        return as_arrays(generated(session, inputs, self._texts, settings), settings)

    # ------------------------------------------------------------------------------------- the task's results

    def predict(
        self,
        item: Any,
        *,
        top: int = 5,
        beams: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
    ) -> Any:
        """The task's own result; a list gives a list.

        Models of images take a file, bytes, a PIL image or a uint8 array (H, W[, C]): classification gives a
        `Classification`, features a float32 vector. Models of texts take a str or UTF-8 bytes: classification gives a
        `Classification`, token classification a `Tagging`, features a float32 vector, translation a `Translation`;
        `beams`, `max_length` and `length_penalty` are for translation alone. Raises PreprocessError for what is no
        image or no text.
        """
        many = isinstance(item, list | tuple)
        items = list(item) if many else [item]
        changes = Changes(beams=beams, max_length=max_length, length_penalty=length_penalty)
        limit = self._check.fixed_batch
        if limit and len(items) % limit and not self.build.takes_pixels:
            raise InputError(
                f"expected a multiple of {limit} inputs for this build of fixed batch {limit}, found {len(items)}"
            )
        if self.generation is not None:
            results = self._translate(items, changes)
        elif changes != Changes():
            settings_for(None, changes, self._bundle.manifest.task)
        elif isinstance(self._bundle.manifest.preprocess, TextPreprocess):
            results = self._label(items, top)
        else:
            results = self._see(items, self._bundle.manifest.preprocess, top)
        return results if many else results[0]

    def stream(self, text: str | bytes, *, max_length: int | None = None) -> Iterator[str]:
        """The text that greedy search writes for `text`, piece by piece; together it is `predict(…, beams=1).text`.

        Everything is checked, and the source read, before the first piece is asked for.
        """
        session, settings = self._writing(Changes(beams=1, max_length=max_length))
        ((_, _, batch),) = text_batches([text], self._texts, self.tokenizer)
        return stream(session, batch, self._texts, self._target_tokenizer, settings)

    def _see(self, items: list[Any], spec: ImagePreprocess, top: int) -> list[Any]:
        from edgevit.preprocess import images_batch

        manifest, batch = self._bundle.manifest, self._check.fixed_batch
        step = batch or LARGEST_BATCH
        results: list[Any] = []
        for start in range(0, len(items), step):
            some = items[start : start + step]
            if self.build.takes_pixels:
                outputs = run_images(self._session.run, [as_pixels(item) for item in some], spec, batch)
            else:
                outputs = self._session.run({spec.input: images_batch(some, spec)})
            first = outputs[self.signature.outputs[0].name]
            if manifest.task == "image-classification":
                results.extend(classify(row, manifest.labels, top) for row in first)
            else:
                results.extend(first)
        return results

    def _label(self, items: list[Any], top: int) -> list[Any]:
        task = self._bundle.manifest.task
        results: list[Any] = [None] * len(items)
        for places, rows, batch in text_batches(items, self._texts, self.tokenizer, self._check.fixed_batch):
            self._check(batch)  # a build of fixed lengths says which it takes
            outputs = self._session.run(batch)[self.signature.outputs[0].name]
            for place, row, values in zip(places, rows, outputs, strict=True):
                if task == "token-classification":
                    results[place] = tagging(values, row, self.labels)
                else:
                    features = task == "text-features"
                    results[place] = values if features else text_class(values, row, self.labels, top)
        return results

    def _translate(self, items: list[Any], changes: Changes) -> list[Any]:
        session, settings = self._writing(changes)
        results: list[Any] = [None] * len(items)
        for places, rows, batch in text_batches(items, self._texts, self.tokenizer):
            found = generated(session, batch, self._texts, settings)
            for place, row, one in zip(places, rows, found, strict=True):
                results[place] = translation(one, row, self._target_tokenizer, settings)
        return results

    # ----------------------------------------------------------------------------------------------- of texts

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """What a model of texts reads them with. Raises PreprocessError where the file is not the model's."""
        from edgevit.preprocess import open_tokenizer

        spec = self._texts
        own = self.generation is not None and self.generation.tokenizer == spec.tokenizer
        path = inside(self._bundle.root, spec.tokenizer)
        return open_tokenizer(path, sha256=spec.tokenizer_sha256, vocabulary=self._target_vocabulary if own else None)

    @functools.cached_property
    def _target_tokenizer(self) -> Tokenizer:
        from edgevit.preprocess import open_tokenizer

        assert self.generation is not None
        if self.generation.tokenizer == self._texts.tokenizer:
            return self.tokenizer
        return open_tokenizer(inside(self._bundle.root, self.generation.tokenizer), vocabulary=self._target_vocabulary)

    @property
    def _target_vocabulary(self) -> int | None:
        """How many different tokens the decoder can write."""
        last = self.signature.outputs[0].shape[-1]
        return last if isinstance(last, int) else None

    @property
    def _texts(self) -> TextPreprocess:
        spec = self._bundle.manifest.preprocess
        if not isinstance(spec, TextPreprocess):
            raise InputError(f"expected a model of texts, found one for {self._bundle.manifest.task}")
        return spec

    @functools.cached_property
    def _check_text(self) -> TextCheck:
        from edgevit.preprocess import vocabulary_size

        spec, generation = self._texts, self.generation
        source = vocabulary_size(inside(self._bundle.root, spec.tokenizer))
        if generation is None:
            return TextCheck(spec, source)
        target = self._target_vocabulary or vocabulary_size(inside(self._bundle.root, generation.tokenizer))
        return TextCheck(spec, source, (target, generation.max_length))

    @functools.cached_property
    def _check_sources(self) -> InputCheck:
        """`InputCheck` of what `generate` takes: the signature without the target."""
        names = (self._texts.input, self._texts.mask)
        return InputCheck(self.signature, names)

    def _writing(self, changes: Changes) -> tuple[PartsSession, Generation]:
        settings = settings_for(self.generation, changes, self._bundle.manifest.task)
        if not isinstance(self._session, PartsSession):
            raise BundleError(
                f"expected the build {self.build.name} to have an encoder and a decoder, found one graph; "
                "export the bundle again"
            )
        return self._session, settings

    # ------------------------------------------------------------------------------------------------ closing

    def close(self) -> None:
        with self._closing:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["Classification", "Model", "Tagging", "Translation", "load"]
