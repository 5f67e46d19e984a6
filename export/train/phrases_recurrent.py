"""Trains `zoo:phrases-lstm` and `zoo:phrases-gru` on the German and English phrases, and writes their checkpoints.

    python export/train/make_phrases.py                     the train split
    python export/train/phrases_recurrent.py lstm           or gru: trains, scores once, writes the checkpoint

About ten minutes of one core each, with products in bfloat16; a processor that has none takes longer. The same machine,
package versions and number of threads give the same weights. Their exact match on long phrases is far below the
Transformer's, at about the same number of parameters: all of a source goes through one vector.
"""

from __future__ import annotations

import argparse

from sequences import Settings, vocabulary
from translation import run

from edgevit.zoo.recurrent import initialize_recurrent
from edgevit.zoo.sequence_config import RecurrentConfig

HIDDEN = {"lstm": (192, 288), "gru": (224, 336)}
"""Of the encoder in each direction, and of the decoder: about as many parameters as the Transformer has."""
SETTINGS = Settings(epochs=2, batch_size=64, learning_rate=2e-3, label_smoothing=0.1, bfloat16=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", choices=sorted(HIDDEN))
    cell = parser.parse_args().cell
    config = RecurrentConfig(
        cell=cell,
        source_vocabulary=vocabulary("source").get_vocab_size(),
        target_vocabulary=vocabulary("target").get_vocab_size(),
        dim=128,
        encoder_hidden=HIDDEN[cell][0],
        decoder_hidden=HIDDEN[cell][1],
    )
    run(
        f"phrases-{cell}",
        config,
        lambda: initialize_recurrent(config, SETTINGS.seed),
        SETTINGS,
        f"export/train/phrases_recurrent.py {cell}",
    )


if __name__ == "__main__":
    main()
