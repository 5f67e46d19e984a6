// What index.html does: a text in; its translation, or its labels, and the time it took.

import { classify, openModel, translate } from "./texts.mjs";

const element = (id) => document.getElementById(id);

const WORDS = {
  translation: ["Translate", "Translation"],
  summarization: ["Summarize", "Summary"],
  "text-classification": ["Classify", "Labels"],
};

function showLabels(labels) {
  const rows = labels.map(({ label, score }) => {
    const row = document.createElement("tr");
    for (const text of [label, `${(100 * score).toFixed(1)} %`]) {
      row.appendChild(document.createElement("td")).textContent = text;
    }
    return row;
  });
  element("labels").replaceChildren(...rows);
  element("labels").parentElement.hidden = rows.length === 0;
}

async function show(model, text) {
  const begun = performance.now();
  const writes = model.description.generation !== null;
  const found = writes ? await translate(model, text) : await classify(model, text);
  element("result").textContent = writes ? found.text : found.labels[0].label;
  showLabels(writes ? [] : found.labels);
  const took = `${(performance.now() - begun).toFixed(0)} ms`;
  element("state").textContent = [took, ...found.notes].join("; ");
}

function clear(message) {
  element("result").textContent = "";
  showLabels([]);
  element("state").textContent = message;
}

try {
  const model = await openModel();
  const [action, heading] = WORDS[model.description.task];
  document.title = `${action} a text: ${model.description.name}`;
  element("title").textContent = model.description.name;
  element("go").textContent = action;
  element("heading").textContent = heading;
  element("state").textContent = "Ready. Ctrl+Enter does it too.";
  for (const id of ["text", "go"]) element(id).disabled = false;
  element("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (element("go").disabled) return;
    element("go").disabled = true;
    element("state").textContent = "Working …";
    try {
      await show(model, element("text").value);
    } catch (error) {
      clear(`This text cannot be read: ${error.message}`);
    } finally {
      element("go").disabled = false;
    }
  });
  element("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("form").requestSubmit();
  });
} catch (error) {
  clear(`The model cannot be opened: ${error.message}. Serve this folder over HTTP, for example with
    python -m http.server.`);
}
