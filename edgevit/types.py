"""The values that pass between stages. All are frozen; those with a file form are msgspec structs.

Nothing of edgevit is imported here, and no heavy package: a value that carries an array or a torch module holds it
as an attribute without importing its library.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]
    FloatArray = NDArray[np.float32]


Precision = Literal["float32", "float16", "bfloat16", "int8", "int8d", "int8w", "int4w"]
"""`int8`: weights and activations with the plan's scales. `int8d`: int8 weights, activations scaled as they come.
`int8w`, `int4w`: narrow weights, arithmetic in float."""
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "int8", "int8d", "int8w", "int4w")
Task = Literal["image-classification", "image-features", "text-classification", "token-classification", "translation"]
Verdict = Literal["passed", "failed", "inconclusive", "not executed"]
UNTAGGED = -100
"""The tag of a token that is not the first of its word: it is in no metric."""


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen value with a file form (JSON or TOML); an unknown field is an error, never ignored."""


# ---------------------------------------------------------------------------------------------- signatures


class TensorSpec(Value, frozen=True, kw_only=True):
    """One input or output. `dtype` is NumPy's name; a dimension is a size, or a name when it is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Signature(Value, frozen=True, kw_only=True):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


# ------------------------------------------------------------------------------------------- preprocessing


class ImagePreprocess(Value, frozen=True, kw_only=True, tag="image", tag_field="kind"):
    """How an image becomes one row of the model's input, shape (channels, height, width), float32.

    The steps, in this order: EXIF orientation; conversion to `mode`; resize (see `resize`); centre crop to `size`;
    x / 255; (x - mean) / std. `edgevit.preprocess` is the one implementation.
    """

    input: str = "pixel_values"
    mode: Literal["RGB", "BGR", "L"] = "RGB"
    """The tensor's channels, in order; `mean` and `std` are in the same order."""
    size: tuple[int, int]
    """(height, width) of the tensor, pixels."""
    resize: Literal["shortest", "exact"] = "shortest"
    """`shortest`: the shorter side becomes size / crop_fraction, aspect kept; `exact`: both sides, aspect ignored."""
    crop_fraction: float = 1.0
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, ...]
    std: tuple[float, ...]


class TextPreprocess(Value, frozen=True, kw_only=True, tag="text", tag_field="kind"):
    """How texts become a batch: int64 token ids and their mask, both (texts, longest), padded on the right.

    The tokenizer's own post-processor adds the special tokens (the end token). The mask is 1 for tokens, 0 for padding.
    """

    input: str = "input_ids"
    mask: str = "attention_mask"
    tokenizer: str = "tokenizer.json"
    """A file of the `tokenizers` library: beside a checkpoint's weights, at the root of a bundle."""
    tokenizer_sha256: str = ""
    """So that statistics and references made with another vocabulary are not taken for this one's."""
    max_length: int
    """Tokens of one text at most, special tokens included."""
    truncate: bool = False
    """Cut longer texts to `max_length`; otherwise they are an error that says how long they are."""
    pad_token_id: int = 0


Preprocess = ImagePreprocess | TextPreprocess


class Generation(Value, frozen=True, kw_only=True):
    """How a decoder is run in a loop, and how its tokens become text."""

    start_token_id: int
    end_token_id: int
    pad_token_id: int
    max_length: int
    """Tokens generated for one source at most, the end token included."""
    beams: int = 1
    """1 for greedy search."""
    length_penalty: float = 1.0
    """A finished hypothesis scores its sum of log-probabilities / length ** length_penalty, as in Hugging Face."""
    early_stopping: bool = True
    """A source is done when as many hypotheses as beams have ended, not when no other could score better."""
    tokenizer: str = "tokenizer.json"
    """The target's vocabulary; may be the source's own file."""


# ------------------------------------------------------------------------------------------------- models


class FloatPart(msgspec.Struct, frozen=True, kw_only=True):
    """One graph of a model that is run as several: an encoder, a decoder that is called once a token."""

    name: str
    module: Any
    """`torch.nn.Module`; its parameters have the names they have in the whole model."""
    signature: Signature
    depth: int | None = None
    """The number of attention blocks this part's graph must show."""


class FloatModel(msgspec.Struct, frozen=True, kw_only=True):
    """A float32 PyTorch model in evaluation mode and everything that must travel with it."""

    name: str
    module: Any
    """`torch.nn.Module`, float32, eval; takes the signature's inputs positionally, in order. None: see `onnx`."""
    signature: Signature
    task: Task
    preprocess: Preprocess
    labels: tuple[str, ...]
    trained: bool
    """False for zoo sizes that exist for speed only: no accuracy is ever printed for them."""
    depth: int | None = None
    """The number of attention blocks the graph must show, where the architecture tells it."""
    calibration: str | None = None
    """SET the model was published with, or None."""
    evaluation: str | None = None
    digest: str = ""
    """SHA-256 over architecture and parameters."""
    notes: tuple[str, ...] = ()
    """What loading did to the checkpoint (wrappers and prefixes taken off, positions interpolated), for people."""
    onnx: Path | None = None
    """The file of a model that came as ONNX; it is its own float reference."""
    reference: str = "PyTorch"
    """What computes the float32 reference."""
    quantized: bool = False
    """An ONNX file with quantization of its own in it; it is built as it is, and never planned."""
    parts: tuple[FloatPart, ...] = ()
    """The graphs of an encoder-decoder; `module` is then the teacher-forced whole. Empty: `module` is the only one."""
    generation: Generation | None = None
    files: dict[str, Path] = {}
    """What must travel with the model, by its name in the bundle: tokenizers."""


class OnnxModel(Value, frozen=True, kw_only=True):
    """An ONNX file on disk; its external data, if any, lies beside it in `<stem>.onnx.data`."""

    path: Path
    signature: Signature
    opset: int
    digest: str
    """SHA-256 over graph and weights."""


class Engine(Value, frozen=True, kw_only=True):
    """What executes a build, as it said itself."""

    name: str
    version: str
    device: str = "CPU"


class Machine(Value, frozen=True, kw_only=True):
    """The machine a build was made or measured on."""

    cpu: str
    architecture: str
    cores: int
    memory_bytes: int
    instruction_sets: tuple[str, ...]
    """Those that change numerics or speed here: avx2, avx512f, avx512_vnni, avx_vnni, avx512_bf16, amx_int8, …"""
    os: str
    python: str
    packages: dict[str, str] = {}
    gpu: str | None = None


class BuildPart(Value, frozen=True, kw_only=True):
    """One graph of a build, in the sub-directory of its name."""

    name: str
    signature: Signature


class BuildFile(Value, frozen=True, kw_only=True):
    path: str
    """Relative to the bundle, with forward slashes."""
    size: int
    sha256: str


class ExecutedLayer(Value, frozen=True, kw_only=True):
    """One layer of a compiled model: the precision asked for and the one the engine runs it in."""

    name: str
    requested: str
    executed: str
    kernel: str = ""


class Execution(Value, frozen=True, kw_only=True):
    """What an engine really does with a build."""

    precision: str
    """The precision most of the compute runs in, as the engine reports it."""
    provider: str
    instruction_set: str
    quantized_requested: int = 0
    quantized_executed: int = 0
    layers: tuple[ExecutedLayer, ...] = ()
    warnings: tuple[str, ...] = ()


class Build(Value, frozen=True, kw_only=True):
    """One build of a bundle: an engine's own files and what is known of them."""

    target: str
    precision: Precision
    files: tuple[BuildFile, ...]
    signature: Signature
    engine: Engine
    machine: Machine
    parts: tuple[BuildPart, ...] = ()
    """Empty for a build of one graph."""
    options: dict[str, str] = {}
    requires_any: tuple[str, ...] = ()
    """Instruction sets of which an x86-64 processor needs one for right results; empty when every one will do."""
    execution: Execution | None = None
    verdict: Verdict = "not executed"
    reason: str = ""
    golden_sqnr_db: float | None = None
    """SQNR of its outputs on the golden inputs where it was built; a device with the same kernels gives the same."""
    latency_ms: float | None = None
    """Median latency at batch 1 on the machine that built it, when it was measured."""
    worth: str = ""

    @property
    def name(self) -> str:
        return f"{self.target}-{self.precision}"


# ------------------------------------------------------------------------------------------------- parity


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


# ------------------------------------------------------------------------------------------------ measure


class Latency(Value, frozen=True, kw_only=True):
    """Milliseconds per call; raw samples are kept, in the order they were taken."""

    p50: float
    p90: float
    p99: float
    mean: float
    samples: tuple[float, ...]
    calls: int = 0
    """How many calls the figures above come from; `samples` is evenly thinned when it holds fewer."""
    round_sizes: tuple[int, ...] = ()
    """How many of `samples` each round gave, in order; empty when rounds are unknown."""


class ColdStart(Value, frozen=True, kw_only=True):
    """Process start to first result, milliseconds: median over repeats, with the raw samples."""

    first_ms: float
    cached_ms: float | None = None
    """The same with the engine's compile cache warm; None where the engine has none."""
    samples_ms: tuple[float, ...] = ()
    cached_samples_ms: tuple[float, ...] = ()


class Ratio(Value, frozen=True, kw_only=True):
    """A ratio of medians with its bootstrap confidence interval; below 1 is better than the baseline."""

    value: float
    interval: Interval
    baseline: str


class BeamRate(Value, frozen=True, kw_only=True):
    """How fast one number of beams writes; all sources of the batch together."""

    beams: int
    tokens_per_second: float
    """Of the results, not of the beams."""


class MemoryAt(Value, frozen=True, kw_only=True):
    """The process's resident memory when so many tokens had been written."""

    tokens: int
    resident_bytes: int


class GenerationTimes(Value, frozen=True, kw_only=True):
    """How a decoder writes `tokens` tokens for each source of the batch; the end token is not listened to."""

    source_length: int
    tokens: int
    first_token: Latency
    """From the source's ids to the first token: the encoder and one step."""
    next_token: Latency
    """One further token of each source, greedy search."""
    by_place: tuple[float, ...]
    """Median milliseconds of the first, second, … token."""
    rates: tuple[BeamRate, ...]
    memory: tuple[MemoryAt, ...]
    without_cache: float | None = None
    """Tokens per second of one beam whose decoder reads all tokens again for each; None: not measured."""


class BenchEntry(Value, frozen=True, kw_only=True):
    """One build under one setting."""

    target: str
    precision: str
    batch_size: int
    threads: int
    latency: Latency
    throughput: float
    """Items per second, streams and batch as set below."""
    streams: int
    cold_start: ColdStart | None = None
    peak_memory_bytes: int
    size_bytes: int
    executed_precision: str
    ratio: Ratio | None = None
    """Latency against the same target's float32 build at the same batch and threads (or the first float32 build)."""
    verdict: str = ""
    """`worth it`, `not worth it` (no faster than float32) or empty for the baseline."""
    drift: float | None = None
    """Last third of the rounds against the first, ratio of median latencies minus 1; None for a single round."""
    generation: GenerationTimes | None = None
    """For builds that write: their decoding loop. `latency` is then one call of encoder and decoder, teacher-forced."""

    @property
    def name(self) -> str:
        return f"{self.target}-{self.precision}"


class BenchReport(Value, frozen=True, kw_only=True):
    schema: int = 1
    model: str
    machine: Machine
    seconds: float
    rounds: int
    entries: tuple[BenchEntry, ...]
    not_executed: dict[str, str] = {}
    """Build name to the reason it was not measured here."""
    started: str = ""
    """UTC, ISO 8601."""
    warnings: tuple[str, ...] = ()
    """What makes a figure less trustworthy: a busy machine, latency that drifted across rounds, a failed cold start."""


# ----------------------------------------------------------------------------------------------- quantize


class ChannelStats(msgspec.Struct, frozen=True, kw_only=True):
    """What calibration saw at the input of one or more layers that read the same tensor.

    `low`/`high` are the smallest and largest value; `histogram` counts |x| in `bins` equal bins over [0, limit];
    `channel_max`, `channel_mean`, `channel_power` are max |x|, E[x] and E[x²] per channel (last axis for linear,
    axis 1 for convolution); `rows` is a seeded sample of rows, shape (≤ n, channels), float32; `count` is how many
    rows were seen, so that `histogram` sums to count · channels.
    """

    low: float
    high: float
    limit: float
    histogram: Any
    channel_max: Any
    channel_mean: Any
    channel_power: Any
    rows: Any
    count: int


class CalibrationStats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of every quantizable layer's input, keyed by parameter name, with the digests they belong to."""

    model_digest: str
    set_digest: str
    set_name: str
    samples: int
    seed: int
    inputs: dict[str, ChannelStats]
    outputs: dict[str, tuple[float, float]] = {}
    """Smallest and largest value of each layer's output, for the engines that need an output scale."""
    digest: str = ""


class LayerPlan(Value, frozen=True, kw_only=True):
    """One quantized layer, named by its parameter (`blocks.0.attn.qkv.weight`).

    Everything is in the units of the *adjusted* model: with equalization s, column c of the weight is multiplied by
    s[c] and the producer of channel c divided by it, before `weight_scale` and `input_scale` apply. int8, symmetric,
    zero point 0: q = clip(round_half_even(x / scale), -127 or -128, 127).
    """

    name: str
    kind: Literal["linear", "conv", "embedding", "recurrent"]
    """Of an `embedding` (one that is an output projection as well is `linear`) and of a `recurrent` weight only the
    weight is quantized: their numbers are brought back to float before anything is computed with them."""
    input_scale: float = 1.0
    """1 where the input is not quantized."""
    weight_scale: tuple[float, ...]
    """One per output channel (axis 0 of the PyTorch parameter; of an embedding, one per row)."""
    output_scale: float | None = None
    """For the engines that need one (ExecuTorch); the ONNX writer never uses it."""
    input_method: str = "min-max"
    weight_method: str = "min-max"
    equalization: tuple[float, ...] = ()
    """Per input channel; empty when the layer is not equalized."""
    equalization_into: str = ""
    """The parameters that absorb 1 / equalization: a norm (`blocks.0.norm1`) or a linear's output rows."""
    bias_correction: tuple[float, ...] = ()
    """Added to the layer's bias, per output channel; empty for none."""


class SkippedLayer(Value, frozen=True, kw_only=True):
    name: str
    reason: str


class QuantPlan(Value, frozen=True, kw_only=True):
    """Which layers run in int8 with which scales, and why the others do not. One plan serves every target."""

    schema: int = 1
    model: str
    model_digest: str
    statistics_digest: str = ""
    samples: int = 0
    seed: int = 0
    safe_without_vnni: bool = False
    """Weight codes kept so small in pairs that no int16 accumulator overflows on x86-64 processors without VNNI."""
    layers: tuple[LayerPlan, ...]
    skipped: tuple[SkippedLayer, ...] = ()
