// A decoder called once a token: what it gave at one step is what it reads at the next. The names say what becomes of
// what (they are those of Hugging Face's exporters): `past_key_values.X` is the newest `present.X`.

import { graphOf, rowsOf, tensor } from "./engine.mjs";

const [PAST, PRESENT] = ["past_key_values.", "present."];

/** A session that is run again and again; `fed` names the input that each of some outputs becomes. */
export class Loop {
  #session;
  #fed;
  #inputs;

  constructor(session, fed, inputs) {
    this.#session = session;
    this.#fed = fed;
    this.#inputs = { ...inputs };
  }

  /** Runs with the inputs that are new at every step; gives the outputs that are not fed back. */
  async step(inputs) {
    const outputs = await this.#session.run({ ...this.#inputs, ...inputs });
    for (const [output, name] of Object.entries(this.#fed)) {
      this.#inputs[name] = outputs[output];
      delete outputs[output];
    }
    return outputs;
  }

  /** Goes on with these rows of what is fed back, and with `constant` of the other inputs too. */
  select(rows, constant) {
    const carried = new Set(Object.values(this.#fed));
    for (const [name, whole] of Object.entries(this.#inputs)) {
      if (constant || carried.has(name)) this.#inputs[name] = rowsOf(whole, rows);
    }
  }
}

/** The decoder's loop over one source, from the encoder's ids. */
export async function decoding({ description, sessions }, ids) {
  const source = { input_ids: tensor("int64", ids, [1, ids.length]) };
  const mask = tensor("int64", ids.map(() => 1), [1, ids.length]);
  const encoded = await sessions.encoder.run({ ...source, attention_mask: mask });
  const { inputs, outputs } = graphOf(description, "decoder");
  const names = new Set(inputs.map(({ name }) => name));
  const carried = outputs.map(({ name }) => [name, name.replace(PRESENT, PAST)]);
  const fed = carried.filter(([output, name]) => output.startsWith(PRESENT) && names.has(name));
  const given = { ...encoded, encoder_attention_mask: mask };
  return new Loop(sessions.decoder, Object.fromEntries(fed), firstInputs(inputs, given));
}

/** All that the decoder reads but its tokens: what the encoder gave, and empty tensors for what is yet to be written. */
function firstInputs(specs, given) {
  const inputs = {};
  for (const { name, dtype, shape } of specs) {
    if (name === "input_ids") continue;
    const source = name.replace(PAST, PRESENT);
    if (given[source] !== undefined) inputs[name] = given[source];
    else if (name.startsWith(PAST)) inputs[name] = empty(dtype, shape);
    else throw new Error(`the decoder reads ${name}, which nothing gives; export the bundle again`);
  }
  return inputs;
}

function empty(dtype, shape) {
  const dims = [1, ...shape.slice(1).map((size) => (typeof size === "number" ? size : 0))];
  return tensor(dtype, new Array(dims.reduce((product, dim) => product * dim, 1)).fill(0), dims);
}
