// A tokenizer.json of the library tokenizers: texts to token ids and back, as edgevit/preprocess/tokenizer.py does it.
// The spelling of a special token inside a text is text; truncation and padding that the file asks for are not done.

import { expression, normalizer } from "./normalize.mjs";
import { pieceModel } from "./pieces.mjs";
import { speller } from "./spell.mjs";
import { splitter } from "./split.mjs";

/** {encode(text, limit), decode(ids), unknown} of the parsed file. Throws for parts that are not known here. */
export function openTokenizer(file) {
  const normalize = normalizer(file.normalizer);
  const split = splitter(file.pre_tokenizer);
  const model = pieceModel(file.model);
  const surround = postProcessor(file.post_processor);
  const spell = speller(file.decoder);
  const added = file.added_tokens ?? [];
  const own = new Map(added.map((token) => [token.id, token]));
  const unnormalized = finder(added.filter((token) => !token.special && !token.normalized), (text) => text);
  const normalized = finder(added.filter((token) => !token.special && token.normalized), normalize);

  /** The text's own ids, without special tokens. */
  const content = (text) =>
    unnormalized(text).flatMap((outer, place) => {
      if (outer.id !== undefined) return [outer.id];
      return normalized(normalize(outer.text)).flatMap((inner, nth) => {
        if (inner.id !== undefined) return [inner.id];
        return split([inner.text], place === 0 && nth === 0).flatMap((piece) => (piece ? model.encode(piece) : []));
      });
    });

  return {
    unknown: model.unknown,
    /** The ids with special tokens around them, and the text's own; with `limit` the last of these are cut off. */
    encode(text, limit) {
      const ids = content(text);
      const kept = limit === undefined ? ids : ids.slice(0, Math.max(0, limit - surround([]).length));
      return { ids: surround(kept), own: kept };
    },
    decode(ids) {
      const spellings = ids.map((id) => own.get(id)?.content ?? model.spelling(id));
      return spell(spellings.filter((token, place) => token !== undefined && !own.get(ids[place])?.special));
    },
  };
}

/** What the file's `post_processor` does: a function of a text's ids. */
function postProcessor(spec) {
  if (spec === null || spec === undefined || spec.type === "ByteLevel") return (ids) => ids;
  if (spec.type === "Sequence") {
    const steps = spec.processors.map(postProcessor);
    return (ids) => steps.reduce((found, step) => step(found), ids);
  }
  if (spec.type === "BertProcessing" || spec.type === "RobertaProcessing") {
    return (ids) => [spec.cls[1], ...ids, spec.sep[1]];
  }
  if (spec.type !== "TemplateProcessing") {
    throw new Error(`tokenizer.json has a post_processor ${spec.type}, which this page does not know`);
  }
  return (ids) =>
    spec.single.flatMap((part) => (part.Sequence ? ids : spec.special_tokens[part.SpecialToken.id].ids));
}

/** Cuts a text where one of `tokens` is spelled: a list of {text} and {id}. The longest spelling counts. */
function finder(tokens, normalize) {
  const spelled = new Map(tokens.map((token) => [normalize(token.content), token]));
  spelled.delete("");
  if (spelled.size === 0) return (text) => [{ text }];
  const patterns = [...spelled.keys()].sort((one, other) => other.length - one.length);
  const found = new RegExp(patterns.map((one) => expression({ String: one }).source).join("|"), "gu");
  return (text) => {
    const given = [];
    let place = 0;
    for (const match of text.matchAll(found)) {
      const token = spelled.get(match[0]);
      let [begin, end] = [match.index, match.index + match[0].length];
      if (begin < place || (token.single_word && !standsAlone(text, begin, end))) continue;
      if (token.lstrip) begin = Math.max(place, text.slice(0, begin).replace(/\p{White_Space}+$/u, "").length);
      if (token.rstrip) end = text.length - text.slice(end).replace(/^\p{White_Space}+/u, "").length;
      if (begin > place) given.push({ text: text.slice(place, begin) });
      given.push({ id: token.id });
      place = end;
    }
    if (place < text.length || given.length === 0) given.push({ text: text.slice(place) });
    return given;
  };
}

function standsAlone(text, begin, end) {
  const word = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
  const [before, after] = [new RegExp(`${word}$`, "u"), new RegExp(`^${word}`, "u")];
  return !before.test(text.slice(0, begin)) && !after.test(text.slice(end));
}
