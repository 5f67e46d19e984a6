"""How close a stage or a build is to the float reference."""

from __future__ import annotations

from edgevit.types.signature import Value, Verdict


class Interval(Value, frozen=True, kw_only=True):
    low: float
    high: float
    level: float
    """Confidence level, for example 0.95."""


class TaskComparison(Value, frozen=True, kw_only=True):
    """The task's metric on the same samples, build against reference; all in percentage points."""

    metric: str
    reference: float
    build: float
    difference: float
    """build - reference."""
    interval: Interval
    """Paired confidence interval of the difference."""


class Flips(Value, frozen=True, kw_only=True):
    """Samples on which the two disagree about the label."""

    lost: int
    """Reference right, build wrong."""
    gained: int
    """Reference wrong, build right."""
    changed: int
    """Both wrong, with different answers."""
    mcnemar_p: float
    """Exact two-sided McNemar test of lost against gained."""


class Closeness(Value, frozen=True, kw_only=True):
    """How close the build's outputs are to the reference's."""

    sqnr_db: float
    cosine_mean: float
    cosine_min: float
    kl_mean: float | None = None
    """KL(reference ‖ build) of the softmax of the outputs, nats; None where outputs are no class scores."""
    kl_max: float | None = None
    max_abs_error: float


class CorpusScore(Value, frozen=True, kw_only=True):
    """A score of all translations together (BLEU, chrF), 0 to 100, against the set's own."""

    metric: str
    reference: float
    build: float
    difference: float
    """build - reference."""
    interval: Interval
    """Of the difference, by a paired bootstrap over texts."""


class TokenAgreement(Value, frozen=True, kw_only=True):
    """Both given the same tokens so far, the reference's own: how often the build goes on as it does."""

    tokens: int
    agreement: float
    """Percent of the tokens, the end of each text included."""


class LengthBin(Value, frozen=True, kw_only=True):
    """The answers to texts of `low` to `high` tokens, percent right."""

    low: int
    high: int
    answers: int
    """Texts; of tags words."""
    reference: float | None
    """None without labels."""
    build: float | None
    agreement: float


class WorstSample(Value, frozen=True, kw_only=True):
    name: str
    score: float
    """KL divergence in nats (cosine distance where there are no class scores)."""
    reference: str
    """The reference's label or text, or empty."""
    build: str
    truth: str = ""


class LayerParity(Value, frozen=True, kw_only=True):
    """SQNR of one layer's output, reference against the simulated quantized graph, in dB."""

    name: str
    sqnr_db: float
    own_sqnr_db: float | None = None
    """The same with this layer alone quantized: its own damage, without what it inherits."""
    quantized: bool = True
    reason: str = ""


class PixelDifference(Value, frozen=True, kw_only=True):
    """How far a build's own preprocessing is from `edgevit.preprocess`, in levels of eight bits."""

    images: int
    largest: float
    mean: float


class Rung(Value, frozen=True, kw_only=True):
    """One comparison of the ladder: a stage or a build against the float reference."""

    name: str
    target: str = ""
    precision: str = ""
    samples: int
    labelled: bool
    task: TaskComparison | None = None
    agreement: float | None = None
    """Share of samples with the reference's label, percent."""
    flips: Flips | None = None
    closeness: Closeness | None = None
    worst: tuple[WorstSample, ...] = ()
    scores: tuple[CorpusScore, ...] = ()
    """Of translations with a truth."""
    tokens: TokenAgreement | None = None
    """Of translations: under teacher forcing, as `closeness` is."""
    lengths: tuple[LengthBin, ...] = ()
    """Of texts: by the length of what was read."""
    preprocessing: PixelDifference | None = None
    """Of builds with the preprocessing inside, which are compared on raw images."""
    verdict: Verdict
    reason: str
    """Why this verdict, in one sentence; for `inconclusive` it says how many samples would do."""
    samples_needed: int | None = None


class ParityReport(Value, frozen=True, kw_only=True):
    schema: int = 1
    model: str
    model_digest: str
    reference: str = "PyTorch"
    """What computed the float32 reference; ONNX Runtime for a model that came as ONNX."""
    set: str
    set_digest: str
    budget_points: float
    trained: bool = True
    rungs: tuple[Rung, ...]
    layers: tuple[LayerParity, ...] = ()
    first_divergent_layer: str | None = None
