// The model in this folder and its tokenizers: a text in, its translation or its labels out.

import { fetched, openEngine, ranked, tensor } from "./engine.mjs";
import { decoding } from "./loop.mjs";
import { write } from "./search.mjs";
import { openTokenizer } from "./tokenizer.mjs";

/** Opens the model. More than one thread needs a page that is cross-origin isolated (headers COOP and COEP). */
export async function openModel(threads = 1) {
  const engine = await openEngine(threads);
  const { preprocess, generation } = engine.description;
  const source = await tokenizerOf(preprocess.tokenizer);
  const same = generation === null || generation.tokenizer === preprocess.tokenizer;
  return { ...engine, source, target: same ? source : await tokenizerOf(generation.tokenizer) };
}

async function tokenizerOf(name) {
  return openTokenizer(JSON.parse(new TextDecoder().decode(await fetched(name))));
}

/** {ids, notes} of a text; a note says what of it the model does not get to see. Throws for what no model can read. */
export function tokens({ description, source }, text) {
  const { max_length: longest, truncate } = description.preprocess;
  if (!/\P{White_Space}/u.test(text)) throw new Error("there is no word in it");
  if (/\p{Surrogate}/u.test(text)) throw new Error("it holds half of a character");
  const notes = [];
  let { ids, own } = source.encode(text);
  if (own.length === 0) throw new Error("none of its characters has a token");
  if (ids.length > longest) {
    if (!truncate) throw new Error(`it has ${ids.length} tokens, and the model reads ${longest} at most; shorten it`);
    notes.push(`cut from ${ids.length} to ${longest} tokens`);
    ({ ids, own } = source.encode(text, longest));
  }
  const unknown = own.filter((id) => id === source.unknown).length;
  if (unknown > 0) notes.push(`${unknown} of ${own.length} tokens unknown to the vocabulary`);
  return { ids, notes };
}

/** {text, notes}: what the model writes for a text. */
export async function translate(model, text) {
  const { ids, notes } = tokens(model, text);
  const written = await write(await decoding(model, ids), model.description.generation);
  if (!written.ended) notes.push(`no end within ${written.ids.length} tokens`);
  return { text: model.target.decode(written.ids), notes };
}

/** {labels, notes}: the `top` best labels of a text with their softmax scores, best first. */
export async function classify(model, text, top = 5) {
  const { ids, notes } = tokens(model, text);
  const { input, mask } = model.description.preprocess;
  const [{ outputs }] = model.description.graphs;
  const dims = [1, ids.length];
  const given = { [input]: tensor("int64", ids, dims), [mask]: tensor("int64", ids.map(() => 1), dims) };
  const found = await model.sessions[""].run(given);
  return { labels: ranked(found[outputs[0].name].data, model.description.labels, top), notes };
}
