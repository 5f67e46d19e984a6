// What index.html does: one picture in, its labels and the time it took.

import { classify, openModel } from "./classify.mjs";

const element = (id) => document.getElementById(id);

async function show(model, file) {
  const picture = element("picture");
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(file);
  picture.hidden = false;
  const begun = performance.now();
  const labels = await classify(model, file);
  element("state").textContent = `${(performance.now() - begun).toFixed(0)} ms, decoding included`;
  const rows = labels.map(({ label, score }) => {
    const row = document.createElement("tr");
    for (const text of [label, `${(100 * score).toFixed(1)} %`]) {
      row.appendChild(document.createElement("td")).textContent = text;
    }
    return row;
  });
  element("labels").replaceChildren(...rows);
}

try {
  const model = await openModel();
  element("title").textContent = model.description.name;
  element("state").textContent = "Choose a picture.";
  element("file").disabled = false;
  element("file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    try {
      await show(model, file);
    } catch (error) {
      element("state").textContent = `This picture cannot be read: ${error.message}`;
    }
  });
} catch (error) {
  element("state").textContent = `The model cannot be opened: ${error.message}. Serve this folder over HTTP, for example
    with python -m http.server.`;
}
