// Which tokens a decoder writes for one source, as edgevit/runtime/search.py decides it: the likeliest one at each step,
// or the best of several sequences.

import { tensor } from "./engine.mjs";

/** {ids, ended} of the sequence for one source; `settings` is the manifest's `generation`. */
export async function write(loop, settings) {
  const ids = settings.beams > 1 ? await bestOfBeams(loop, settings) : await greedy(loop, settings);
  const ended = ids[ids.length - 1] === settings.end_token_id;
  return { ids: ended ? ids.slice(0, -1) : ids, ended };
}

/** The logits after the newest token of each row: a typed array for each. */
async function step(loop, tokens) {
  const { logits } = await loop.step({ input_ids: tensor("int64", tokens, [tokens.length, 1]) });
  const size = logits.dims[2];
  return tokens.map((_, row) => logits.data.subarray(row * size, (row + 1) * size));
}

async function greedy(loop, settings) {
  const ids = [];
  let token = settings.start_token_id;
  while (ids.length < settings.max_length) {
    const [logits] = await step(loop, [token]);
    token = logits.reduce((best, value, id) => (value > logits[best] ? id : best), 0);
    ids.push(token);
    if (token === settings.end_token_id) break;
  }
  return ids;
}

/** Hugging Face's search: of the 2 * beams best continuations those that end are kept, and the first others go on. */
async function bestOfBeams(loop, settings) {
  const worth = (row) => row.sum / row.ids.length ** settings.length_penalty;
  const better = (one, other) => worth(other) - worth(one);
  let running = [{ ids: [], sum: 0 }];
  let ended = [];
  let tokens = [settings.start_token_id];
  for (let length = 1; length <= settings.max_length; length++) {
    const logits = await step(loop, tokens);
    const found = running.flatMap((row, parent) =>
      continuations(logits[parent], 2 * settings.beams).map(({ id, value }) => ({
        parent, token: id, ids: [...row.ids, id], sum: row.sum + value,
      })),
    );
    found.sort((one, other) => other.sum - one.sum || one.parent - other.parent || one.token - other.token);
    const best = found.slice(0, 2 * settings.beams);
    ended.push(...best.slice(0, settings.beams).filter(({ token }) => token === settings.end_token_id));
    ended = ended.sort(better).slice(0, settings.beams);
    running = best.filter(({ token }) => token !== settings.end_token_id).slice(0, settings.beams);
    if (running.length === 0) break;
    const full = ended.length === settings.beams;
    if (full && (settings.early_stopping || worth(ended[ended.length - 1]) >= worth(running[0]))) {
      running = [];
      break;
    }
    loop.select(running.map(({ parent }) => parent), running.length !== tokens.length);
    tokens = running.map(({ token }) => token);
  }
  return [...ended, ...running].sort(better)[0].ids;
}

/** The `count` likeliest tokens of a row with their log-probabilities, the lower id first among equals. */
function continuations(logits, count) {
  const largest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const sum = logits.reduce((total, value) => total + Math.exp(value - largest), 0);
  const best = [];
  logits.forEach((value, id) => {
    if (best.length === count && value <= best[count - 1].logit) return;
    const place = best.findIndex(({ logit }) => value > logit);
    best.splice(place === -1 ? best.length : place, 0, { id, logit: value });
    best.length = Math.min(best.length, count);
  });
  return best.map(({ id, logit }) => ({ id, value: logit - largest - Math.log(sum) }));
}
