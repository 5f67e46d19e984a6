// Executes what edgevit's session hands out, over the server that serves this page; never part of a build. A message is
// the length of its header (4 bytes), the header as JSON, and the bytes of the tensors that the header lists.

import { openEngine, tensorOfBytes } from "/engine.mjs";
import { Loop } from "/loop.mjs";

function read(buffer) {
  const begin = 4 + new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, begin - 4)));
  const tensors = {};
  let place = begin;
  for (const { name, dtype, shape, size } of header.tensors ?? []) {
    tensors[name] = tensorOfBytes(dtype, new Uint8Array(buffer, place, size), shape);
    place += size;
  }
  return { ...header, tensors, rest: buffer.slice(place) };
}

async function answer(header, outputs = {}) {
  const named = Object.entries(outputs);
  const tensors = named.map(([name, { type, dims, data }]) => {
    return { name, dtype: type, shape: dims, size: data.byteLength };
  });
  const text = new TextEncoder().encode(JSON.stringify({ ...header, tensors }));
  const length = new Uint8Array(Uint32Array.of(text.length).buffer);
  await fetch("/answer", { method: "POST", body: new Blob([length, text, ...named.map(([, { data }]) => data)]) });
}

async function work(engine, loops, job) {
  if (job.kind === "run") return engine.sessions[job.graph ?? ""].run(job.tensors);
  if (job.kind === "image") {
    const { prepare } = await import("/classify.mjs");
    return { image: await prepare(engine, new Blob([job.rest])) };
  }
  const loop = loops.get(job.loop);
  if (job.kind === "step") return loop.step(job.tensors);
  if (job.kind === "loop") loops.set(job.loop, new Loop(engine.sessions[job.graph ?? ""], job.fed ?? {}, job.tensors));
  if (job.kind === "select") loop.select(job.rows, job.constant ?? false);
  if (job.kind === "free") loops.delete(job.loop);
  return {};
}

const failed = (error) => answer({ kind: "error", text: String(error.message ?? error) });

try {
  const engine = await openEngine(Number(new URLSearchParams(location.search).get("threads") ?? 1));
  const loops = new Map();
  await answer({ kind: "ready", text: navigator.userAgent });
  for (;;) {
    const given = await fetch("/job");
    if (given.status !== 200) continue;
    try {
      await answer({ kind: "result" }, await work(engine, loops, read(await given.arrayBuffer())));
    } catch (error) {
      await failed(error);
    }
  }
} catch (error) {
  await failed(error);
}
