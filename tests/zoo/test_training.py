"""The training scripts of the sequence models, on tiny ones: they learn, and the same seed gives the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PREPARE = """
import hashlib, json, sys
import torch
import sequences as s
phrases = s.read_split("calibration")[:256]
settings = s.Settings(epochs=6, batch_size=32, learning_rate=1e-2, warmup_steps=4, seed=3)

def trained(make, task_of):
    model = make()
    task = task_of(model)
    first = list(range(64))
    before = task.loss(first).item()
    s.train(model, task, settings)
    after = task.loss(first).item()
    state = b"".join(value.numpy().tobytes() for _, value in sorted(model.state_dict().items()))
    return before, after, hashlib.sha256(state).hexdigest(), model.training
"""

TAGS = """
from tags_recurrent import TAGS, tag_task
from edgevit.zoo.recurrent import TaggerConfig, initialize_tagger
config = TaggerConfig(cell="rnn", vocabulary=700, tags=len(TAGS), dim=16, hidden=16)
task = lambda: trained(lambda: initialize_tagger(config), lambda model: tag_task(model, phrases))
print(json.dumps([task(), task()]))
"""

KINDS = """
from kinds_transformer import LABELS, kind_task
from edgevit.zoo.transformer import ClassifierConfig, initialize_classifier
config = ClassifierConfig(vocabulary=700, classes=len(LABELS), dim=16, heads=2, encoder_layers=1, hidden=16)
task = lambda: trained(lambda: initialize_classifier(config), lambda model: kind_task(model, phrases))
print(json.dumps([task(), task()]))
"""

TRANSLATION = """
from translation import translation_task
from edgevit.zoo.recurrent import RecurrentConfig, initialize_recurrent
sizes = dict(source_vocabulary=700, target_vocabulary=700, dim=16, encoder_hidden=16, decoder_hidden=16)
config = RecurrentConfig(cell="gru", **sizes)
task = lambda: trained(lambda: initialize_recurrent(config), lambda model: translation_task(model, phrases, 0.1))
print(json.dumps([task(), task()]))
"""


def in_the_scripts(repository: Path, code: str) -> Any:
    """What `code` prints last, as JSON, run beside the training scripts."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository / "export" / "train", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("code", [TAGS, KINDS, TRANSLATION], ids=["tags", "kinds", "translation"])
def test_training_learns_and_is_the_seeds(repository: Path, code: str) -> None:
    one, again = in_the_scripts(repository, PREPARE + code)
    before, after, digest, training = one
    assert after < 0.85 * before
    assert digest == again[2]
    assert not training, "it is left in evaluation mode"


def test_an_epoch_has_every_phrase_once_among_others_of_its_length(repository: Path) -> None:
    code = (
        "import json, torch, sequences as s\n"
        "lengths = [index * 7919 % 50 for index in range(1000)]\n"
        "batches = list(s.by_length(lengths, 10, torch.Generator().manual_seed(0)))\n"
        "wide = max(max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches)\n"
        "print(json.dumps([sorted(i for b in batches for i in b) == list(range(1000)), wide, len(batches)]))"
    )
    whole, spread, batches = in_the_scripts(repository, code)
    assert whole
    assert batches == 100
    assert spread <= 5


def test_scores_are_by_ranges_of_lengths(repository: Path) -> None:
    code = (
        "import json, msgspec, sequences as s\n"
        "found = s.scores_by_length([1, 8, 9, 40, 48, 96], [True, False, True, True, True, False])\n"
        "print(json.dumps([[part.tokens, part.samples, part.score] for part in found]))"
    )
    assert in_the_scripts(repository, code) == [[8, 2, 50.0], [16, 1, 100.0], [48, 2, 100.0], [96, 1, 0.0]]


def test_the_learning_rate_warms_up_and_ends_at_nothing(repository: Path) -> None:
    code = (
        "import json, sequences as s\n"
        "print(json.dumps([s.learning_rate_factor(step, 1000, 100) for step in (0, 49, 99, 100, 550, 999)]))"
    )
    first, half, full, top, middle, last = in_the_scripts(repository, code)
    assert (first, half, full, top) == (0.01, 0.5, 1.0, 1.0)
    assert middle == pytest.approx(0.5)
    assert last < 1e-4


def test_another_train_split_is_refused(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(
        '{"text": "am Montag", "target": "on Monday", "kind": "weekday", "tags": []}\n'
    )
    code = (
        "import json, pathlib, sys, sequences as s\n"
        f"s.TRAIN = pathlib.Path({str(tmp_path / 'train.jsonl')!r})\n"
        "try:\n    s.read_split('train')\nexcept SystemExit as end:\n    print(json.dumps(str(end)))"
    )
    assert "run export/train/make_phrases.py" in in_the_scripts(repository, code)
