"""What the training scripts of the sequence models share: batches, the schedule, the loop, the checkpoint."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from edgevit.types import Generation, TextPreprocess
from edgevit.zoo.cards import LengthScore, SequenceCard
from edgevit.zoo.catalog import CARD_FILE, CHECKPOINTS, VOCABULARIES, WEIGHTS_FILE, phrases_generation, phrases_text

ROOT = Path(__file__).resolve().parent.parent.parent
PUBLISHED = ROOT / "edgevit" / "sets" / "phrases"
TRAIN = ROOT / "out" / "phrases" / "train.jsonl"
CALIBRATION, EVALUATION = "zoo:phrases:calibration", "zoo:phrases:evaluation"
SPLIT = (
    "export/train/make_phrases.py: place = the first four bytes of the text's SHA-256 as a share of 2**32; "
    "evaluation: place < 0.04; calibration: place < 0.06; train: the others"
)
LENGTHS = (8, 16, 24, 32, 48, 96)
"""Upper ends of the source lengths, in tokens, that scores are given for."""
IGNORED = -100


class Phrase(msgspec.Struct, frozen=True):
    """A line of a split."""

    text: str
    target: str
    kind: str
    tags: list[str]


def read_split(name: str) -> list[Phrase]:
    """`train`, whose digest must be the published one, `calibration` or `evaluation`. Raises SystemExit otherwise."""
    path = TRAIN if name == "train" else PUBLISHED / f"{name}.jsonl"
    if not path.exists():
        raise SystemExit(f"expected the {name} split, found nothing at {path}; run export/train/make_phrases.py")
    data = path.read_bytes()
    expected = msgspec.json.decode((PUBLISHED / "train.json").read_bytes())["sha256"]
    if name == "train" and hashlib.sha256(data).hexdigest() != expected:
        raise SystemExit(f"expected {path} with the digest in train.json; run export/train/make_phrases.py")
    return [msgspec.json.decode(line, type=Phrase) for line in data.splitlines()]


def text_preprocess() -> TextPreprocess:
    return phrases_text(96)


def generation() -> Generation:
    return phrases_generation(96)


def vocabulary(name: str) -> Tokenizer:
    """`source` or `target`."""
    return Tokenizer.from_file(str(VOCABULARIES / f"{name}.json"))


# ------------------------------------------------------------------------------------------------- batches


def padded(rows: list[list[int]], fill: int = 0) -> Tensor:
    """int64 (rows, longest), `fill` on the right."""
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])


def sources(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """`input_ids` and `attention_mask`."""
    return padded(rows), padded([[1] * len(row) for row in rows])


def by_length(lengths: list[int], size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """One epoch: all indices in random batches of `size`, each of about equal lengths so that little is padding."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pool = 50 * size
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        chosen = sorted(order[start : start + pool], key=lengths.__getitem__)
        batches += [chosen[first : first + size] for first in range(0, len(chosen), size)]
    for place in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[place]


# ------------------------------------------------------------------------------------------------ training


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is trained; recorded in its `config.json`."""

    seed: int = 0
    threads: int = 1
    epochs: int
    batch_size: int = 128
    learning_rate: float
    warmup_steps: int = 800
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    gradient_norm: float = 1.0
    bfloat16: bool = False
    """Products in bfloat16, parameters and sums in float32; only where that is faster."""


class Task(NamedTuple):
    """What a script trains: the loss of the phrases at these places, and how long each phrase is."""

    loss: Callable[[list[int]], Tensor]
    lengths: list[int]


def learning_rate_factor(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(model: nn.Module, task: Task, settings: Settings) -> None:
    """A fixed schedule to its end; no phrase is used to stop early. Leaves the model in evaluation mode."""
    torch.set_num_threads(settings.threads)
    generator = torch.Generator().manual_seed(settings.seed)
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and not name.endswith("embed.weight")]
    others = [p for name, p in model.named_parameters() if p.ndim <= 1 or name.endswith("embed.weight")]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
    steps = settings.epochs * -(-len(task.lengths) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps, settings.warmup_steps)
    )
    model.train()
    step, start, total = 0, time.monotonic(), 0.0
    for _ in range(settings.epochs):
        for chosen in by_length(task.lengths, settings.batch_size, generator):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.bfloat16):
                loss = task.loss(chosen)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_norm)
            optimizer.step()
            schedule.step()
            step, total = step + 1, total + loss.item()
            if step % 200 == 0:
                print(f"step {step} of {steps}: loss {total / 200:.4f}, {time.monotonic() - start:.0f} s", flush=True)
                total = 0.0
    model.eval()


# -------------------------------------------------------------------------------------------------- scores


def scores_by_length(lengths: list[int], right: list[bool]) -> tuple[LengthScore, ...]:
    """Percent right among the sources of each range of lengths in `LENGTHS`."""
    found = []
    for low, high in zip((0, *LENGTHS), LENGTHS, strict=False):
        hits = [hit for length, hit in zip(lengths, right, strict=True) if low < length <= high]
        if hits:
            found.append(LengthScore(tokens=high, samples=len(hits), score=round(100 * sum(hits) / len(hits), 2)))
    return tuple(found)


def publish(name: str, model: nn.Module, card: SequenceCard) -> None:
    """Writes weights and card to the folder of that name."""
    out = CHECKPOINTS / name
    out.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    save_file(state, out / WEIGHTS_FILE, metadata={"format": "pt"})
    (out / WEIGHTS_FILE).chmod(0o644)  # safetensors leaves 0600, which a wheel would carry to every user
    (out / CARD_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    print(f"{name}: {card.scores} of {card.samples} held-out phrases; written to {out}")
