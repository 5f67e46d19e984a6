// Executes what edgevit's session hands out, over the server that serves this page; never part of a build.

const shapeOf = (text) => text.split(",").map(Number);

async function answer(path, body, shape = []) {
  await fetch(path, { method: "POST", body, headers: { "X-Shape": shape.join(",") } });
}

async function work(job, module, model) {
  if (job.headers.get("X-Kind") === "image") return module.prepare(model, await job.blob());
  const values = new Float32Array(await job.arrayBuffer());
  return module.run(model, values, shapeOf(job.headers.get("X-Shape")));
}

try {
  const module = await import("/classify.mjs");
  const model = await module.openModel(Number(new URLSearchParams(location.search).get("threads") ?? 1));
  await answer("/ready", navigator.userAgent);
  for (;;) {
    const job = await fetch("/job");
    if (job.status !== 200) continue;
    try {
      const { data, dims } = await work(job, module, model);
      await answer("/result", data, dims);
    } catch (error) {
      await answer("/error", String(error.message ?? error));
    }
  }
} catch (error) {
  await answer("/error", String(error.message ?? error));
}
