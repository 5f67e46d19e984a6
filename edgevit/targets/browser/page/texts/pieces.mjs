// The models of a tokenizer.json: one piece of text to the ids of its tokens.

/** {encode(piece) -> ids, spelling(id), unknown} of `spec`, the file's `model`. */
export function pieceModel(spec) {
  const type = spec.type ?? (Array.isArray(spec.vocab) ? "Unigram" : spec.merges === undefined ? "WordPiece" : "BPE");
  const make = MODELS[type];
  if (make === undefined) throw new Error(`tokenizer.json has a model ${type}, which this page does not know`);
  return make(spec);
}

const MODELS = { BPE: bytePairs, WordPiece: wordPieces, Unigram: unigram };

function vocabulary(pairs) {
  const ids = new Map(pairs);
  return { ids, spellings: new Map(pairs.map(([piece, id]) => [id, piece])) };
}

/** `<0xC3>`, `<0xA9>`: what a piece that has no token falls back to; undefined where one is missing. */
function byteTokens(ids, text) {
  const found = Array.from(new TextEncoder().encode(text), (byte) =>
    ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
  );
  return found.includes(undefined) ? undefined : found;
}

function bytePairs(spec) {
  const { ids, spellings } = vocabulary(Object.entries(spec.vocab));
  const [prefix, suffix] = [spec.continuing_subword_prefix ?? "", spec.end_of_word_suffix ?? ""];
  const unknown = spec.unk_token ? ids.get(spec.unk_token) : undefined;
  const key = (left, right) => left * 2 ** 26 + right;
  const merges = new Map();
  spec.merges.forEach((merge, rank) => {
    const [left, right] = Array.isArray(merge) ? merge : merge.split(" ");
    merges.set(key(ids.get(left), ids.get(right)), { rank, id: ids.get(left + right.slice(prefix.length)) });
  });

  const letters = (piece) => {
    const given = [];
    let fusing = false; // of the last letter, unknown too
    const every = Array.from(piece);
    every.forEach((letter, place) => {
      const text = (place > 0 ? prefix : "") + letter + (place === every.length - 1 ? suffix : "");
      const id = ids.get(text);
      const bytes = id === undefined && spec.byte_fallback ? byteTokens(ids, text) : undefined;
      if (id !== undefined) given.push(id);
      else if (bytes !== undefined) given.push(...bytes);
      else if (unknown !== undefined && !(spec.fuse_unk && fusing)) given.push(unknown);
      fusing = id === undefined && bytes === undefined;
    });
    return given;
  };

  const encode = (piece) => {
    if (spec.ignore_merges && ids.has(piece)) return [ids.get(piece)];
    const word = letters(piece);
    for (;;) {
      let best = null;
      for (let place = 0; place + 1 < word.length; place++) {
        const merge = merges.get(key(word[place], word[place + 1]));
        if (merge !== undefined && (best === null || merge.rank < best.rank)) best = { ...merge, place };
      }
      if (best === null) return word;
      word.splice(best.place, 2, best.id);
    }
  };
  return { encode, spelling: (id) => spellings.get(id), unknown };
}

function wordPieces(spec) {
  const { ids, spellings } = vocabulary(Object.entries(spec.vocab));
  const unknown = ids.get(spec.unk_token);
  const encode = (piece) => {
    const letters = Array.from(piece);
    if (letters.length > spec.max_input_chars_per_word) return [unknown];
    const given = [];
    for (let begin = 0; begin < letters.length; ) {
      let end = letters.length;
      let id;
      for (; end > begin && id === undefined; end--) {
        id = ids.get((begin > 0 ? spec.continuing_subword_prefix : "") + letters.slice(begin, end).join(""));
      }
      if (id === undefined) return [unknown];
      given.push(id);
      begin = end + 1;
    }
    return given;
  };
  return { encode, spelling: (id) => spellings.get(id), unknown };
}

const UNKNOWN_PENALTY = 10; // below the worst piece's score, as in SentencePiece

function unigram(spec) {
  const { ids, spellings } = vocabulary(spec.vocab.map(([piece], id) => [piece, id]));
  const unknown = spec.unk_id ?? undefined;
  const scores = spec.vocab.map(([, score]) => score);
  const worst = scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
  const longest = spec.vocab.reduce((most, [piece]) => Math.max(most, piece.length), 0);

  /** The pieces of the best path, those without a token in a row as one. */
  const path = (text) => {
    const ends = Array.from({ length: text.length + 1 }, () => ({ begin: -1, id: unknown, score: 0 }));
    const reach = (end, begin, id, score) => {
      if (ends[end].begin === -1 || score > ends[end].score) ends[end] = { begin, id, score };
    };
    for (let begin = 0, width; begin < text.length; begin += width) {
      width = String.fromCodePoint(text.codePointAt(begin)).length;
      let alone = false;
      for (let end = begin + width; end <= text.length && end - begin <= longest; end++) {
        const id = ids.get(text.slice(begin, end));
        if (id === undefined) continue;
        reach(end, begin, id, ends[begin].score + scores[id]);
        alone ||= end === begin + width;
      }
      if (!alone) reach(begin + width, begin, unknown, ends[begin].score + worst);
    }
    const given = [];
    for (let end = text.length; end > 0; end = ends[end].begin) {
      const { begin, id } = ends[end];
      const fused = id === unknown && given.length > 0 && given[0].id === unknown;
      if (fused) given[0].text = text.slice(begin, end) + given[0].text;
      else given.unshift({ id, text: text.slice(begin, end) });
    }
    return given;
  };

  const encode = (piece) =>
    path(piece).flatMap(({ text }) => {
      const id = ids.get(text);
      if (id !== undefined) return [id];
      const bytes = spec.byte_fallback ? byteTokens(ids, text) : undefined;
      if (bytes === undefined && unknown === undefined) throw new Error(`no token for ${text}, and none for the unknown`);
      return bytes ?? [unknown];
    });
  return { encode, spelling: (id) => spellings.get(id), unknown };
}
