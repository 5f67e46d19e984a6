#!/usr/bin/env python3
"""Classifies the pictures of a folder, or the frames of a camera, with several calls under way at the same time.

    python export/apps/python/classify.py BUNDLE photos/
    python export/apps/python/classify.py BUNDLE camera:0 --workers 2 --limit 100

Needs edgevit with one engine; a camera also needs `pip install opencv-python-headless`. Prints one JSON object a
line, in the order in which the pictures came.

Back-pressure: at most `--waiting` pictures are held. A folder waits until there is room; a camera does not wait, so
the oldest frame is dropped and counted, and what is classified is never older than the queue is long.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgevit

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif"}


@dataclass(frozen=True)
class Frame:
    """One picture on its way: a file's path, or uint8 pixels of shape (height, width, 3), RGB."""

    name: str
    picture: Any


@dataclass(frozen=True)
class Outcome:
    name: str
    result: Any
    """A `Classification`, or None where the picture could not be read."""
    error: str = ""


class Feed:
    """A queue between whoever delivers pictures and whoever classifies them, never longer than `waiting`."""

    def __init__(self, frames: Iterable[Frame], waiting: int, *, drops: bool) -> None:
        self.dropped = 0
        self.error: Exception | None = None
        self._frames, self._drops = frames, drops
        self._queue: queue.Queue[Frame | None] = queue.Queue(waiting)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._deliver, daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        self._thread.start()
        try:
            while (frame := self._queue.get()) is not None:
                yield frame
        finally:
            self._stopped.set()
        if self.error is not None:
            raise self.error

    def _deliver(self) -> None:
        try:
            for frame in self._frames:
                if not self._put(frame):
                    return
        except Exception as error:  # raised again where the pictures are taken out
            self.error = error
        self._put(None, drops=False)

    def _put(self, frame: Frame | None, drops: bool | None = None) -> bool:
        """False when nobody takes any more."""
        while not self._stopped.is_set():
            try:
                self._queue.put(frame, timeout=0.0 if self._drops else 0.1)
                return True
            except queue.Full:
                if self._drops if drops is None else drops:
                    self._drop_oldest()
        return False

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
        except queue.Empty:
            return  # it was taken meanwhile, and there is room
        self.dropped += 1


def classified(frames: Iterable[Frame], predict: Callable[[Any], Any], workers: int) -> Iterator[Outcome]:
    """The outcomes in the order of `frames`. At most `workers` calls and as many finished outcomes are under way."""

    def one(frame: Frame) -> Outcome:
        try:
            return Outcome(frame.name, predict(frame.picture))
        except edgevit.EdgevitError as error:
            return Outcome(frame.name, None, str(error))

    with ThreadPoolExecutor(workers) as pool:
        under_way: list[Future[Outcome]] = []
        for frame in frames:
            under_way.append(pool.submit(one, frame))
            if len(under_way) >= 2 * workers:
                yield under_way.pop(0).result()
        for future in under_way:
            yield future.result()


def folder_frames(folder: Path) -> Iterator[Frame]:
    """The pictures below a folder, sorted by name."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURES and path.is_file():
            yield Frame(str(path.relative_to(folder)), path)


def camera_frames(number: int) -> Iterator[Frame]:
    """What the camera sees, as uint8 RGB."""
    try:
        import cv2
    except ModuleNotFoundError:
        sys.exit("classify: a camera needs OpenCV; run: pip install opencv-python-headless")
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        sys.exit(f"classify: expected a camera number {number}, found none; v4l2-ctl --list-devices lists them")
    try:
        count = 0
        while True:
            taken, pixels = camera.read()
            if not taken:
                return
            yield Frame(f"frame {count}", pixels[:, :, ::-1].copy())
            count += 1
    finally:
        camera.release()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Classify the pictures of a folder or the frames of a camera.")
    parser.add_argument("bundle")
    parser.add_argument("source", help="a folder, or camera:NUMBER")
    parser.add_argument("--target", help="openvino:int8, …; the best build without it")
    parser.add_argument("--workers", type=int, default=2, help="calls at the same time")
    parser.add_argument("--waiting", type=int, default=4, help="pictures held at most before they are classified")
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--limit", type=int, help="stop after so many")
    given = parser.parse_args(arguments)
    if min(given.workers, given.waiting, given.top, given.limit or 1) < 1:
        parser.error("expected numbers of at least 1")
    is_camera = given.source.startswith("camera:") and given.source[7:].isdecimal()
    if not is_camera and not Path(given.source).is_dir():
        print(f"classify: expected a folder or camera:NUMBER, found {given.source!r}", file=sys.stderr)
        return 2
    frames = camera_frames(int(given.source[7:])) if is_camera else folder_frames(Path(given.source))
    feed = Feed(frames, given.waiting, drops=is_camera)
    failed = 0
    try:
        with edgevit.load(given.bundle, given.target, streams=given.workers) as model:
            outcomes = classified(feed, lambda picture: model.predict(picture, top=given.top), given.workers)
            for done, outcome in enumerate(outcomes, 1):
                failed += bool(outcome.error)
                top = [] if outcome.result is None else outcome.result.top
                print(json.dumps({"name": outcome.name, "top": top, "error": outcome.error}), flush=True)
                if done == given.limit:
                    break
    except edgevit.EdgevitError as error:
        print(f"classify: {error}", file=sys.stderr)
        return error.exit_status
    if feed.dropped:
        print(f"classify: {feed.dropped} frames came faster than they could be classified", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
