// The graphs of this folder, opened in ONNX Runtime Web.

import * as ort from "./ort.wasm.min.mjs";

const ARRAYS = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array };

/**
 * {description, sessions}: model.json, and a session for each of its graphs by name; the only graph of a model has the
 * name "". More than one thread needs a page that is cross-origin isolated (headers COOP and COEP).
 */
export async function openEngine(threads = 1) {
  ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? threads : 1;
  const description = JSON.parse(new TextDecoder().decode(await fetched("model.json")));
  const sessions = {};
  for (const { name, file } of description.graphs) {
    sessions[name] = await ort.InferenceSession.create(await fetched(file), { executionProviders: ["wasm"] });
  }
  return { description, sessions };
}

/** The bytes of a file of this folder. */
export async function fetched(name) {
  const answer = await fetch(`./${name}`);
  if (!answer.ok) throw new Error(`${name} must lie beside this page`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** A tensor of a type as NumPy calls it; `values` is its typed array, or numbers to make one of. */
export function tensor(type, values, dims) {
  const array = ArrayBuffer.isView(values) ? values : ARRAYS[type].from(values, type === "int64" ? BigInt : Number);
  return new ort.Tensor(type, array, dims);
}

/** The tensor whose bytes these are, little-endian and without gaps. */
export function tensorOfBytes(type, bytes, dims) {
  return tensor(type, new ARRAYS[type](bytes.slice().buffer), dims);
}

/** The rows `rows` of a tensor, in that order; its first axis is the rows'. */
export function rowsOf(whole, rows) {
  const size = whole.dims.slice(1).reduce((product, dim) => product * dim, 1);
  const values = new whole.data.constructor(rows.length * size);
  rows.forEach((row, place) => values.set(whole.data.subarray(row * size, (row + 1) * size), place * size));
  return new ort.Tensor(whole.type, values, [rows.length, ...whole.dims.slice(1)]);
}

/** The graph of that name in model.json. */
export function graphOf(description, name) {
  return description.graphs.find((graph) => graph.name === name);
}

/** Softmax scores of logits with their labels, the `top` best first. */
export function ranked(logits, labels, top) {
  const largest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const weights = Array.from(logits, (value) => Math.exp(value - largest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights
    .map((weight, index) => ({ label: labels[index] ?? String(index), score: weight / total }))
    .sort((one, other) => other.score - one.score)
    .slice(0, top);
}
