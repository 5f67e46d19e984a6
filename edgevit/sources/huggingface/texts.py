"""Models of texts in Hugging Face layout: token ids and their mask in, class scores, tags or one vector out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import CheckpointError, InputError
from edgevit.graph.quiet import quiet_torch
from edgevit.sources.checkpoint import load_state_dict
from edgevit.sources.digest import module_digest
from edgevit.sources.huggingface.loading import Loading, architecture, load_model, named_labels
from edgevit.sources.huggingface.sentences import Sentences
from edgevit.sources.huggingface.tokenizer import TOKENIZER, text_preprocess, tokenizer_beside
from edgevit.types import FloatModel, Signature, TensorSpec

if TYPE_CHECKING:
    from torch import nn

    from edgevit.sources.huggingface.directory import Directory
    from edgevit.sources.huggingface.sentences import Dense
    from edgevit.sources.options import SourceOptions
    from edgevit.types import Task, TextPreprocess

TOWERS = {
    "clip": "CLIPTextModelWithProjection",
    "metaclip_2": "MetaClip2TextModelWithProjection",
}
"""Models of an image and a text tower, to the class of the text tower, whose projection is the feature."""
PLAIN = {
    "bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet", "albert", "clip_text_model",
}  # fmt: skip
"""Model types with one attention per hidden layer and no other."""
CUT = {"text-classification", "text-features"}
"""Tasks whose texts are cut to the longest the model reads, as their model cards do it; tags would lose a word."""
PROBE = (2, 8)


def load_texts(found: Directory, task: Task, options: SourceOptions, sentences: Sentences | None) -> FloatModel:
    """The model of texts in a directory that `save_pretrained` wrote, as float32, in evaluation mode.

    Inputs `input_ids` and `attention_mask` int64 (batch, source_length). Output: `logits` float32 (batch, classes) or,
    for token-classification, (batch, source_length, tags), with the labels of `id2label`; for text-features `features`
    (batch, features), pooled as `sentences` says. Raises CheckpointError for what is missing, damaged or does not fit,
    InputError for options of images.
    """
    if options.preprocess is not None or options.image_size is not None:
        raise InputError(
            f"expected no image preprocessing and no image size for {found.path}, which reads texts; leave them out"
        )
    tokenizer = tokenizer_beside(found.path)
    optional = ("pooler.",) if task == "text-features" else ()
    kind = _class_for(found, task)
    model, notes = load_model(Loading(found=found, task=task, kind=kind, optional=optional))
    preprocess = text_preprocess(
        found.path, model, sentences.max_length if sentences else None, tokenizer=tokenizer, truncate=task in CUT
    )
    module, more = _as_text_model(model, task, sentences)
    signature = _signature(module, task, preprocess, found)
    facts = {"preprocess": msgspec.to_builtins(preprocess), "pooling": _described(sentences)}
    return FloatModel(
        name=_name(found, sentences),
        module=module.eval().requires_grad_(False),
        signature=signature,
        task=task,
        preprocess=preprocess,
        labels=_labels(found, signature, task, options),
        trained=True,
        depth=_depth(model),
        digest=module_digest(module, architecture(found, task, facts)),
        notes=(*notes, *more),
        files={TOKENIZER: tokenizer},
    )


def _class_for(found: Directory, task: Task) -> Any:
    import transformers

    if task == "text-classification":
        return transformers.AutoModelForSequenceClassification
    if task == "token-classification":
        return transformers.AutoModelForTokenClassification
    tower = TOWERS.get(found.config["model_type"]) or _own_tower(found)
    return transformers.AutoModel if tower is None else getattr(transformers, tower)


def _own_tower(found: Directory) -> str | None:
    """A text tower that was saved alone: AutoModel would leave out its projection."""
    names = found.config.get("architectures") or []
    return next((name for name in TOWERS.values() if name in names), None)


def _as_text_model(model: Any, task: Task, sentences: Sentences | None) -> tuple[nn.Module, list[str]]:
    from edgevit.sources.huggingface.text_modules import TextFeatures, TextLabels

    if task != "text-features":
        return TextLabels(model), []
    projected = hasattr(model, "text_projection")
    how = sentences or Sentences()
    pooling = () if projected and sentences is None else how.pooling
    notes = []
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
        notes.append("left out the pooler, which the features do not use")
    what = " and ".join(pooling) if pooling else "text_embeds"
    notes.append(f"features are {what} of {type(model).__name__}" + (", of length one" if how.normalize else ""))
    if sentences is None and pooling:
        notes[-1] += ", because no modules.json says how tokens become one vector"
    dense = [(_linear(layer), layer.activation) for layer in how.dense]
    return TextFeatures(model, pooling, dense, normalize=how.normalize), notes


def _linear(dense: Dense) -> nn.Linear:
    from torch import nn

    state = load_state_dict(dense.weights).state
    names = {"linear.weight", "linear.bias"} if dense.bias else {"linear.weight"}
    if set(state) != names or state["linear.weight"].ndim != 2:
        raise CheckpointError(
            f"expected {' and '.join(sorted(names))} of a dense layer at {dense.weights}, found "
            f"{', '.join(sorted(state)) or 'nothing'}; copy the checkpoint again"
        )
    out, width = state["linear.weight"].shape
    layer = nn.Linear(width, out, bias=dense.bias)
    layer.load_state_dict({name.removeprefix("linear."): value for name, value in state.items()})
    return layer


def _signature(module: nn.Module, task: Task, preprocess: TextPreprocess, found: Directory) -> Signature:
    import torch

    ids = torch.zeros(PROBE, dtype=torch.int64)
    try:
        with torch.no_grad(), quiet_torch():
            out = module(ids, torch.ones_like(ids))
    except Exception as error:  # the model's own code may raise anything where it needs more than ids and a mask
        raise InputError(
            f"expected {task} from token ids and a mask at {found.path}, found {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}; give another --task, or write a factory (package.module:factory)"
        ) from error
    tags = task == "token-classification"
    shape = ("batch", "source_length") if tags else ("batch",)
    read = tuple(
        TensorSpec(name=name, dtype="int64", shape=("batch", "source_length"))
        for name in (preprocess.input, preprocess.mask)
    )
    name = "features" if task == "text-features" else "logits"
    return Signature(inputs=read, outputs=(TensorSpec(name=name, dtype="float32", shape=(*shape, out.shape[-1])),))


def _labels(found: Directory, signature: Signature, task: Task, options: SourceOptions) -> tuple[str, ...]:
    if task == "text-features":
        return ()
    classes = signature.outputs[0].shape[-1]
    assert isinstance(classes, int)
    if classes < 2:
        raise InputError(
            f"expected at least two classes at {found.path}, found a single score, which names no class; hand in a "
            "classifier, or write a factory (package.module:factory)"
        )
    if found.config.get("problem_type") == "multi_label_classification":
        raise InputError(
            f"expected classes that exclude each other at {found.path}, found problem_type "
            "multi_label_classification, whose scores are judged one by one; write a factory (package.module:factory)"
        )
    return named_labels(found, classes, options)


def _depth(model: Any) -> int | None:
    return int(model.config.num_hidden_layers) if model.config.model_type in PLAIN else None


def _name(found: Directory, sentences: Sentences | None) -> str:
    """The directory's, also where the transformer lies in one of its own below it."""
    path = found.path.absolute()
    return (path.parent if sentences is not None and sentences.transformer else path).name


def _described(sentences: Sentences | None) -> object:
    if sentences is None:
        return None
    return [sentences.pooling, sentences.normalize, [dense.activation for dense in sentences.dense]]
