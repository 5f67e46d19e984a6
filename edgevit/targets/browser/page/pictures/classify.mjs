// The model in this folder, opened in ONNX Runtime Web: tensors in and out, or an image file in and its labels out.

import { openEngine, ranked, tensor } from "./engine.mjs";
import { decode, imageTensor } from "./preprocess.mjs";

/** Opens the model. More than one thread needs a page that is cross-origin isolated (headers COOP and COEP). */
export async function openModel(threads = 1) {
  return openEngine(threads);
}

/** The tensor that an image file becomes. */
export async function prepare({ description }, blob) {
  const spec = description.preprocess;
  return tensor("float32", imageTensor(await decode(blob), spec), [1, spec.mode.length, ...spec.size]);
}

/** The `top` best labels of an image file with their softmax scores, best first. */
export async function classify(model, blob, top = 5) {
  const [{ inputs, outputs }] = model.description.graphs;
  const found = await model.sessions[""].run({ [inputs[0].name]: await prepare(model, blob) });
  return ranked(found[outputs[0].name].data, model.description.labels, top);
}
