// The model in this folder, opened in ONNX Runtime Web: tensors in and out, or an image file in and its labels out.

import * as ort from "./ort.wasm.min.mjs";
import { decode, imageTensor } from "./preprocess.mjs";

/** Opens the model. More than one thread needs a page that is cross-origin isolated (headers COOP and COEP). */
export async function openModel(threads = 1) {
  ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? threads : 1;
  const [model, description] = await Promise.all([fetch("./model.onnx"), fetch("./model.json")]);
  if (!model.ok || !description.ok) throw new Error("model.onnx and model.json must lie beside this page");
  const session = await ort.InferenceSession.create(new Uint8Array(await model.arrayBuffer()), {
    executionProviders: ["wasm"],
  });
  return { session, description: await description.json() };
}

/** Float32 values of the model's one input with their shape; gives the first output as {data, dims}. */
export async function run({ session, description }, values, dims) {
  const outputs = await session.run({ [description.input]: new ort.Tensor("float32", values, dims) });
  const found = outputs[description.output];
  return { data: found.data, dims: found.dims };
}

/** The tensor that an image file becomes. */
export async function prepare({ description }, blob) {
  const spec = description.preprocess;
  return { data: imageTensor(await decode(blob), spec), dims: [1, spec.mode.length, ...spec.size] };
}

/** The `top` best labels of an image file with their softmax scores, best first. */
export async function classify(model, blob, top = 5) {
  const { data, dims } = await prepare(model, blob);
  const scores = [...(await run(model, data, dims)).data];
  const largest = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - largest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights
    .map((weight, index) => ({ label: model.description.labels[index] ?? String(index), score: weight / total }))
    .sort((one, other) => other.score - one.score)
    .slice(0, top);
}
