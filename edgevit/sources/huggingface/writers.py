"""Encoder-decoders in Hugging Face layout: translation and summarization, as an encoder's and a decoder's graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import InputError
from edgevit.graph.quiet import quiet_torch
from edgevit.sources.digest import module_digest
from edgevit.sources.huggingface.loading import Loading, architecture, load_model
from edgevit.sources.huggingface.tokenizer import TOKENIZER, longest_text, text_preprocess, tokenizer_beside
from edgevit.types import FloatModel, FloatPart, Generation, Signature, TensorSpec
from edgevit.zoo.signatures import MASK, TARGET_TOKENS, TOKENS, target_logits

if TYPE_CHECKING:
    from edgevit.sources.huggingface.directory import Directory
    from edgevit.sources.huggingface.writer_modules import Heads
    from edgevit.sources.options import SourceOptions
    from edgevit.types import Task

PLAIN = {"bart", "marian", "mbart", "pegasus", "m2m_100", "t5", "mt5"}
"""Model types with one attention per encoder layer, and two per decoder layer."""
NOT_FOLLOWED = {
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
    "repetition_penalty": 1.0,
    "num_beam_groups": 1,
    "do_sample": False,
    "prefix_allowed_tokens_fn": None,
}
"""Settings of a generation_config.json that change what is written and do not exist here, to what changes nothing."""


def load_writers(found: Directory, task: Task, options: SourceOptions) -> FloatModel:
    """The encoder-decoder in a directory that `save_pretrained` wrote, as float32, in evaluation mode.

    Inputs `input_ids` and `attention_mask` int64 (batch, source_length) and `decoder_input_ids` int64 (batch,
    target_length), output `logits` float32 (batch, target_length, vocabulary); its parts `encoder` and `decoder` are
    run in a loop as `generation` says. Raises CheckpointError for what is missing, damaged or does not fit, InputError
    for a decoder whose attention to the source cannot be told, or options of images.
    """
    import transformers

    from edgevit.sources.huggingface.writer_modules import Writer, cross_heads

    if options.preprocess is not None or options.image_size is not None:
        raise InputError(
            f"expected no image preprocessing and no image size for {found.path}, which reads texts; leave them out"
        )
    tokenizer = tokenizer_beside(found.path)
    kind = transformers.AutoModelForSeq2SeqLM
    loaded, notes = load_model(Loading(found=found, task=task, kind=kind))
    model: Any = loaded
    heads = cross_heads(model.get_decoder())
    if not heads:
        raise InputError(
            f"expected an encoder-decoder whose decoder attends to the source as BART's or T5's does at {found.path}, "
            f"found {type(model).__name__}; write a factory (package.module:factory)"
        )
    preprocess = text_preprocess(found.path, model, None, tokenizer=tokenizer, truncate=task == "summarization")
    generation = _generation(found, model)
    first = model.generation_config.forced_bos_token_id
    module = Writer(model, _suppressed(model), first).eval().requires_grad_(False)
    facts = [msgspec.to_builtins(value) for value in (preprocess, generation)]
    rules = {"texts": facts, "suppressed": module.suppressed} | ({} if first is None else {"first": first})
    return FloatModel(
        name=found.path.absolute().name,
        module=module,
        signature=Signature(inputs=(TOKENS, MASK, TARGET_TOKENS), outputs=(target_logits(_vocabulary(module)),)),
        task=task,
        preprocess=preprocess,
        labels=(),
        trained=True,
        digest=module_digest(module, architecture(found, task, rules)),
        notes=(*notes, *_generation_notes(model)),
        parts=_parts(module, heads),
        generation=generation,
        files={TOKENIZER: tokenizer},
    )


def _parts(module: Any, heads: list[Heads]) -> tuple[FloatPart, ...]:
    config = module.model.config
    source, past = (_cache(heads, "past_key_values", of, length) for of, length in
                    (("encoder", "source_length"), ("decoder", "past_length")))  # fmt: skip
    states = TensorSpec(
        name="encoder_hidden_states", dtype="float32", shape=("batch", "source_length", heads[0].key.in_features)
    )
    encoder = Signature(inputs=(TOKENS, MASK), outputs=(states, *_cache(heads, "present", "encoder", "source_length")))
    ids = msgspec.structs.replace(TOKENS, shape=("batch", "target_length"))
    mask = msgspec.structs.replace(MASK, name="encoder_attention_mask")
    present = _cache(heads, "present", "decoder", "past_length + target_length")
    decoder = Signature(inputs=(ids, mask, *source, *past), outputs=(target_logits(_vocabulary(module)), *present))
    depths = {"encoder": getattr(config, "encoder_layers", None) or config.num_hidden_layers, "decoder": 2 * len(heads)}
    signatures = {"encoder": encoder, "decoder": decoder}
    known = config.model_type in PLAIN
    return tuple(
        FloatPart(name=name, module=part.eval(), signature=signatures[name], depth=depths[name] if known else None)
        for name, part in module.parts().items()
    )


def _cache(heads: list[Heads], prefix: str, of: str, length: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=f"{prefix}.{layer}.{of}.{kind}", dtype="float32", shape=("batch", one.heads, length, one.size))
        for layer, one in enumerate(heads)
        for kind in ("key", "value")
    )


def _vocabulary(module: Any) -> int:
    """How many tokens the output projection tells apart, which may be more than the tokenizer has."""
    import torch

    ids = torch.zeros((1, 1), dtype=torch.int64)
    with torch.no_grad(), quiet_torch():
        return int(module(ids, torch.ones_like(ids), ids).shape[-1])


def _generation(found: Directory, model: Any) -> Generation:
    """generation_config.json as transformers reads it (config.json stands in for a missing one).

    What is written is at most as long as the settings say, or as the decoder has positions for. Raises InputError for
    a start, end or padding that nothing names.
    """
    settings = model.generation_config
    ends = settings.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    start = settings.decoder_start_token_id
    ids = {"decoder_start_token_id": start, "eos_token_id": ends[0], "pad_token_id": settings.pad_token_id}
    unknown = [name for name, value in ids.items() if not isinstance(value, int)]
    if unknown or len(ends) > 1:
        what = f"no {', '.join(unknown)}" if unknown else f"{len(ends)} end tokens"
        raise InputError(
            f"expected one token each to start, to end and to pad with in {found.path / 'generation_config.json'}, "
            f"found {what}; correct it"
        )
    # transformers counts the start token, we do not.
    said = settings.max_new_tokens or (settings.max_length or 0) - 1
    longest = longest_text(found.path, model, None)
    return Generation(
        start_token_id=start,
        end_token_id=ends[0],
        pad_token_id=settings.pad_token_id,
        max_length=min(said, longest) if said > 0 else longest,
        beams=settings.num_beams or 1,
        length_penalty=1.0 if settings.length_penalty is None else float(settings.length_penalty),
        early_stopping=settings.early_stopping is True,
        tokenizer=TOKENIZER,
    )


def _suppressed(model: Any) -> tuple[int, ...]:
    """Single tokens that are never written: Marian's padding, for one."""
    settings = model.generation_config
    single = [words[0] for words in settings.bad_words_ids or () if len(words) == 1]
    return tuple(sorted({*single, *(settings.suppress_tokens or ())}))


def _generation_notes(model: Any) -> list[str]:
    settings = model.generation_config
    left = {name: getattr(settings, name, usual) for name, usual in NOT_FOLLOWED.items()}
    said = [f"{name} {left[name]}" for name, usual in NOT_FOLLOWED.items() if left[name] not in (usual, None)]
    said += ["bad_words_ids of several tokens"] * any(len(words) > 1 for words in settings.bad_words_ids or ())
    notes = [f"does not follow the generation settings {', '.join(said)}"] if said else []
    if settings.forced_bos_token_id is not None:
        notes.append(f"every text begins with token {settings.forced_bos_token_id}, as forced_bos_token_id says")
    special = getattr(model.config, "task_specific_params", None) or {}
    prefixes = sorted({str(one["prefix"]) for one in special.values() if isinstance(one, dict) and one.get("prefix")})
    if prefixes:
        notes.append(f"was trained on texts that begin with {' or '.join(map(repr, prefixes))}: put that before yours")
    return notes
