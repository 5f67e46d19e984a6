// The normalizers of a tokenizer.json: text to text, as the library tokenizers does it.

const WHITE = "\\p{White_Space}"; // what Rust calls white space; JavaScript's own \s differs in two characters

/** A pattern of the file, {String} or {Regex}, that finds every match. */
export function expression(pattern) {
  if (pattern.String !== undefined) return new RegExp(pattern.String.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "gu");
  return new RegExp(pattern.Regex.replaceAll("\\s", WHITE).replaceAll("\\S", WHITE.replace("p", "P")), "gu");
}

/** What `spec`, the file's `normalizer`, does: a function of one text. */
export function normalizer(spec) {
  if (spec === null || spec === undefined) return (text) => text;
  const make = NORMALIZERS[spec.type];
  if (make === undefined) throw new Error(`tokenizer.json has a normalizer ${spec.type}, which this page does not know`);
  return make(spec);
}

const NORMALIZERS = {
  Sequence: ({ normalizers }) => {
    const steps = normalizers.map(normalizer);
    return (text) => steps.reduce((found, step) => step(found), text);
  },
  NFC: () => (text) => text.normalize("NFC"),
  NFD: () => (text) => text.normalize("NFD"),
  NFKC: () => (text) => text.normalize("NFKC"),
  NFKD: () => (text) => text.normalize("NFKD"),
  Lowercase: () => lowered,
  StripAccents: () => (text) => text.replace(/\p{M}/gu, ""),
  Strip: (spec) => (text) => stripped(text, spec.strip_left, spec.strip_right),
  Prepend: (spec) => (text) => (text === "" ? text : spec.prepend + text),
  Replace: (spec) => {
    const found = expression(spec.pattern);
    return (text) => text.replace(found, () => spec.content);
  },
  BertNormalizer: (spec) => (text) => bert(text, spec),
  Precompiled: (spec) => charsmap(spec.precompiled_charsmap),
};

/** Letter by letter, as Rust does it: a final sigma is a sigma. */
function lowered(text) {
  return Array.from(text, (letter) => letter.toLowerCase()).join("");
}

function stripped(text, left, right) {
  const begun = left ? text.replace(/^\p{White_Space}+/u, "") : text;
  return right ? begun.replace(/\p{White_Space}+$/u, "") : begun;
}

function bert(text, spec) {
  let found = text;
  if (spec.clean_text) {
    found = found.replace(/[\0\uFFFD]|(?![\t\n\r])\p{C}/gu, "").replace(/\p{White_Space}/gu, " ");
  }
  if (spec.handle_chinese_chars) found = found.replace(CHINESE, " $& ");
  if (spec.strip_accents ?? spec.lowercase) found = found.normalize("NFD").replace(/\p{Mn}/gu, "");
  return spec.lowercase ? lowered(found) : found;
}

const CHINESE =
  /[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]/gu;

/**
 * SentencePiece's own rules: a double array (Darts) from UTF-8 to places in a text of replacements that end with a zero.
 * Graphemes of less than six bytes are looked up whole, then letter by letter.
 */
function charsmap(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = view.getUint32(0, true);
  const units = Uint32Array.from({ length: size / 4 }, (_, place) => view.getUint32(4 + 4 * place, true));
  const texts = bytes.subarray(4 + size);
  const [written, read] = [new TextEncoder(), new TextDecoder()];
  const segments = new Intl.Segmenter("en", { granularity: "grapheme" });
  const replaced = (text) => {
    const begin = firstPrefix(units, written.encode(text));
    return begin === undefined ? undefined : read.decode(texts.subarray(begin, texts.indexOf(0, begin)));
  };
  const grapheme = (text) => {
    const whole = written.encode(text).length < 6 ? replaced(text) : undefined;
    return whole ?? Array.from(text, (letter) => replaced(letter) ?? letter).join("");
  };
  return (text) => Array.from(segments.segment(text), ({ segment }) => grapheme(segment)).join("");
}

/** The value of the shortest key that `key` begins with. */
function firstPrefix(units, key) {
  const offset = (unit) => (unit >>> 10) << ((unit & 0x200) >>> 6);
  let place = offset(units[0]);
  for (const byte of key) {
    if (byte === 0) return undefined;
    place ^= byte;
    const unit = units[place];
    if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return undefined;
    place ^= offset(unit);
    if ((unit >>> 8) & 1) return units[place] & 0x7fffffff;
  }
  return undefined;
}
