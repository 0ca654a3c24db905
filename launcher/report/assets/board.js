"use strict";
// The list of runs, looked at again and again; a row is changed in place, so that nothing jumps.
(() => {
  const EVERY = 2000;
  const body = document.getElementById("runs");
  const trouble = document.getElementById("trouble");
  const rows = new Map();

  function cell(row, text, name) {
    const made = row.insertCell();
    if (name) made.className = name;
    made.append(text);
    return made;
  }

  function row(run) {
    const made = document.createElement("tr");
    made.dataset.run = run.id;
    const title = document.createElement("th");
    title.scope = "row";
    const link = document.createElement("a");
    link.href = `/run/${encodeURIComponent(run.id)}`;
    link.textContent = run.recipe;
    const id = document.createElement("div");
    id.className = "mono";
    id.textContent = run.id;
    title.append(link, id);
    made.append(title);
    const state = document.createElement("span");
    const known = { made, state, shown: "" };
    cell(made, state);
    const bar = document.createElement("div");
    bar.className = "bar";
    known.bar = document.createElement("i");
    bar.append(known.bar);
    known.steps = document.createElement("span");
    cell(made, known.steps, "progress").append(bar);
    known.loss = cell(made, "", "num");
    cell(made, run.started, "num when");
    known.took = cell(made, "", "num when");
    rows.set(run.id, known);
    return known;
  }

  function show(run) {
    const known = rows.get(run.id) || row(run);
    const text = JSON.stringify(run);
    if (known.shown === text) return known.made;
    known.shown = text;
    known.state.className = `state ${run.state}`;
    known.state.textContent = run.mark;
    known.state.title = run.said;
    known.steps.textContent = run.progress;
    known.bar.style.width = `${run.share}%`;
    known.bar.parentElement.classList.toggle("hidden", run.share === null);
    known.loss.textContent = run.loss;
    known.took.textContent = run.took;
    return known.made;
  }

  async function look() {
    try {
      const answer = await fetch("/api/runs");
      if (!answer.ok) throw new Error(await answer.text());
      const { runs } = await answer.json();
      const made = runs.map(show);
      // Only what is not in its place is moved.
      made.forEach((each, at) => { if (body.children[at] !== each) body.insertBefore(each, body.children[at] || null); });
      while (body.children.length > made.length) { rows.delete(body.lastChild.dataset.run); body.lastChild.remove(); }
      document.getElementById("count").textContent = runs.length ? `${runs.length}` : "";
      document.querySelector(".board").classList.toggle("hidden", !runs.length);
      document.getElementById("none").classList.toggle("hidden", runs.length > 0);
      trouble.classList.add("hidden");
    } catch (error) {
      trouble.textContent = `Nothing new: ${error.message || "the board has ended"}`;
      trouble.classList.remove("hidden");
    }
    setTimeout(look, EVERY);
  }
  look();
})();
