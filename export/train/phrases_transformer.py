"""Trains `zoo:phrases-transformer` on the German and English phrases, and writes the checkpoint edgevit publishes.

    python export/train/make_phrases.py            the train split
    python export/train/phrases_transformer.py     trains, scores the held-out phrases once, writes the checkpoint

About twenty minutes of one core. The same machine, package versions and number of threads give the same weights.
"""

from __future__ import annotations

from sequences import Settings, vocabulary
from translation import run

from edgevit.zoo.sequence_config import TransformerConfig
from edgevit.zoo.transformer import initialize_transformer

CONFIG = TransformerConfig(
    source_vocabulary=vocabulary("source").get_vocab_size(),
    target_vocabulary=vocabulary("target").get_vocab_size(),
    dim=128,
    heads=4,
    encoder_layers=3,
    decoder_layers=3,
    hidden=384,
    max_length=128,
)
SETTINGS = Settings(epochs=2, batch_size=64, learning_rate=1e-3, label_smoothing=0.1)


def main() -> None:
    run(
        "phrases-transformer",
        CONFIG,
        lambda: initialize_transformer(CONFIG, SETTINGS.seed),
        SETTINGS,
        "export/train/phrases_transformer.py",
    )


if __name__ == "__main__":
    main()
