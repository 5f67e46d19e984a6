// The pre-tokenizers of a tokenizer.json: a normalized text to the pieces that are tokenized one by one.

import { expression } from "./normalize.mjs";

const WORD = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
const PUNCTUATION = /[!-/:-@[-`{-~]|\p{P}/gu;
const GPT2 = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** What `spec`, the file's `pre_tokenizer`, does: a function (pieces, first) of a list; `first`: the text begins here. */
export function splitter(spec) {
  if (spec === null || spec === undefined) return (pieces) => pieces;
  const make = SPLITTERS[spec.type];
  if (make === undefined) {
    throw new Error(`tokenizer.json has a pre_tokenizer ${spec.type}, which this page does not know`);
  }
  return make(spec);
}

const SPLITTERS = {
  Sequence: ({ pretokenizers }) => {
    const steps = pretokenizers.map(splitter);
    return (pieces, first) => steps.reduce((found, step) => step(found, first), pieces);
  },
  Metaspace: (spec) => (pieces, first) =>
    pieces.flatMap((piece, place) => (piece === "" ? [] : metaspace(piece, spec, first && place === 0))),
  ByteLevel: (spec) => (pieces) => pieces.flatMap((piece) => (piece === "" ? [] : byteLevel(piece, spec))),
  BertPreTokenizer: () => by(/\p{White_Space}/gu, "Removed", by(PUNCTUATION, "Isolated")),
  Whitespace: () => by(new RegExp(`${WORD}+|(?:(?!${WORD})\\P{White_Space})+`, "gu"), "Removed", null, true),
  WhitespaceSplit: () => by(/\p{White_Space}/gu, "Removed"),
  Punctuation: (spec) => by(PUNCTUATION, spec.behavior),
  Digits: (spec) => by(/\p{N}/gu, spec.individual_digits ? "Isolated" : "Contiguous"),
  Split: (spec) => by(expression(spec.pattern), spec.behavior, null, spec.invert),
};

function by(found, behavior, then = null, invert = false) {
  const split = (pieces) => pieces.flatMap((piece) => parts(piece, found, behavior, invert));
  return then === null ? split : (pieces) => then(split(pieces));
}

function metaspace(piece, spec, first) {
  const sign = spec.replacement;
  const text = piece.replaceAll(" ", sign);
  const wanted = spec.prepend_scheme === "always" || (spec.prepend_scheme === "first" && first);
  const whole = wanted && !text.startsWith(sign) ? sign + text : text;
  return spec.split === false ? [whole] : parts(whole, expression({ String: sign }), "MergedWithNext", false);
}

function byteLevel(piece, spec) {
  const text = spec.add_prefix_space && !piece.startsWith(" ") ? ` ${piece}` : piece;
  const found = spec.use_regex === false ? [text] : parts(text, GPT2, "Isolated", false);
  return found.map((one) => Array.from(new TextEncoder().encode(one), (byte) => LETTER_OF_BYTE[byte]).join(""));
}

/** `text` cut at the matches of `found`; `behavior` says what becomes of a match. Nothing empty is given. */
function parts(text, found, behavior, invert) {
  const cuts = [];
  let place = 0;
  for (const match of text.matchAll(found)) {
    cuts.push([text.slice(place, match.index), invert], [match[0], !invert]);
    place = match.index + match[0].length;
  }
  cuts.push([text.slice(place), invert]);
  const whole = cuts.filter(([part]) => part !== "");
  if (behavior === "Removed") return whole.filter(([, matched]) => !matched).map(([part]) => part);
  if (behavior === "MergedWithNext") return merged(whole.reverse(), (part, other) => part + other).reverse();
  if (behavior === "MergedWithPrevious") return merged(whole, (part, other) => other + part);
  if (behavior === "Contiguous") return contiguous(whole);
  if (behavior !== "Isolated") throw new Error(`tokenizer.json cuts with ${behavior}, which this page does not know`);
  return whole.map(([part]) => part);
}

/** A match goes to the part that was given before it, unless that was a match too. */
function merged(cuts, join) {
  const given = [];
  let before = false;
  for (const [part, matched] of cuts) {
    if (matched && !before && given.length > 0) given[given.length - 1] = join(part, given[given.length - 1]);
    else given.push(part);
    before = matched;
  }
  return given;
}

function contiguous(cuts) {
  const given = [];
  let before = null;
  for (const [part, matched] of cuts) {
    if (matched === before) given[given.length - 1] += part;
    else given.push(part);
    before = matched;
  }
  return given;
}

/** GPT-2's letters: printable bytes are themselves, the others follow from U+0100 on. */
export const LETTER_OF_BYTE = (() => {
  const own = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(own(byte) ? byte : next++));
})();
