// The decoders of a tokenizer.json: the spellings of tokens to text.

import { expression } from "./normalize.mjs";
import { LETTER_OF_BYTE } from "./split.mjs";

/** What `spec`, the file's `decoder`, does: a function of a list of spellings. */
export function speller(spec) {
  if (spec === null || spec === undefined) return (tokens) => tokens.join(" ");
  const decode = decoder(spec);
  return (tokens) => decode(tokens).join("");
}

function decoder(spec) {
  const make = DECODERS[spec.type];
  if (make === undefined) throw new Error(`tokenizer.json has a decoder ${spec.type}, which this page does not know`);
  return make(spec);
}

const DECODERS = {
  Sequence: ({ decoders }) => {
    const steps = decoders.map(decoder);
    return (tokens) => steps.reduce((found, step) => step(found), tokens);
  },
  Metaspace: (spec) => (tokens) =>
    tokens.map((token, place) =>
      token.replaceAll(spec.replacement, place === 0 && spec.prepend_scheme !== "never" ? "" : " "),
    ),
  WordPiece: (spec) => (tokens) =>
    tokens.map((token, place) => {
      const continued = token.startsWith(spec.prefix) ? token.slice(spec.prefix.length) : ` ${token}`;
      const text = place === 0 ? token : continued;
      return spec.cleanup ? cleaned(text) : text;
    }),
  BPEDecoder: (spec) => (tokens) =>
    tokens.map((token, place) => token.replaceAll(spec.suffix, place === tokens.length - 1 ? "" : " ")),
  ByteLevel: () => byteLevel,
  ByteFallback: () => byteFallback,
  Fuse: () => (tokens) => [tokens.join("")],
  Replace: (spec) => {
    const found = expression(spec.pattern);
    return (tokens) => tokens.map((token) => token.replace(found, () => spec.content));
  },
  Strip: (spec) => (tokens) =>
    tokens.map((token) => {
      const letters = Array.from(token);
      let [begin, end] = [0, letters.length];
      while (begin < Math.min(spec.start, letters.length) && letters[begin] === spec.content) begin++;
      while (letters.length - end < spec.stop && end > begin && letters[end - 1] === spec.content) end--;
      return letters.slice(begin, end).join("");
    }),
};

const CLEANED = [
  [" .", "."], [" ?", "?"], [" !", "!"], [" ,", ","], [" ' ", "'"], [" n't", "n't"], [" 'm", "'m"],
  [" do not", " don't"], [" 's", "'s"], [" 've", "'ve"], [" 're", "'re"],
];

function cleaned(text) {
  return CLEANED.reduce((found, [from, to]) => found.replaceAll(from, to), text);
}

const BYTE_OF_LETTER = new Map(LETTER_OF_BYTE.map((letter, byte) => [letter, byte]));

function utf8(bytes) {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

/** A token with a letter that is no byte's is taken as it is spelled. */
function byteLevel(tokens) {
  const bytes = tokens.flatMap((token) => {
    const found = Array.from(token, (letter) => BYTE_OF_LETTER.get(letter));
    return found.includes(undefined) ? [...new TextEncoder().encode(token)] : found;
  });
  return [utf8(bytes)];
}

/** `<0xC3>` `<0xA9>` become é; bytes that are no UTF-8 become one U+FFFD each. */
function byteFallback(tokens) {
  const given = [];
  let bytes = [];
  const flush = () => {
    if (bytes.length === 0) return;
    const text = utf8(bytes);
    const broken = text.includes("\uFFFD");
    given.push(...(broken ? bytes.map(() => "\uFFFD") : [text]));
    bytes = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    if (byte !== null) {
      bytes.push(parseInt(byte[1], 16));
      continue;
    }
    flush();
    given.push(token);
  }
  flush();
  return given;
}
