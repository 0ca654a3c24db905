"use strict";
// One run while it runs: asks for what is new since a cursor that only the board understands.
(() => {
  const MANY = 4000;
  const id = decodeURIComponent(location.pathname.split("/").pop());
  const log = document.querySelector("[data-log]");
  const run = { name: id, label: "", series: {} };
  let cursor = "", state = "", short = "", wait = 2;

  // The points from a step on replace those that are here: the last ones may have been incomplete.
  function merge(series, from) {
    for (const [name, [steps, values]] of Object.entries(series)) {
      const [x, y] = from === null ? [[], []] : run.series[name] || [[], []];
      let keep = x.length;
      while (keep && x[keep - 1] >= from) keep--;
      run.series[name] = [x.slice(0, keep).concat(steps), y.slice(0, keep).concat(values)];
    }
    // Enough was added to be thinned again.
    if (Object.values(run.series).some(([x]) => x.length > MANY)) cursor = "";
  }

  function show(answer) {
    if (state === "open" && answer.state !== "open") location.reload(); // how it ended is all over the page
    state = answer.state;
    short = answer.short;
    wait = answer.wait; // longer where it takes the board long to tell
    document.querySelector("[data-state] .state").textContent = answer.mark;
    document.querySelector("[data-said]").textContent = answer.said;
    for (const tile of answer.tiles) {
      const place = document.querySelector(`[data-tile="${tile.key}"]`);
      if (!place) continue;
      place.querySelector(".value").textContent = tile.value;
      place.querySelector(".more").textContent = tile.more;
      const bar = place.querySelector("[data-bar]");
      if (bar && tile.bar !== null) bar.style.width = `${tile.bar}%`;
    }
    if (answer.log !== null && log.textContent !== answer.log) {
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
      log.textContent = answer.log;
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
    if (answer.series) {
      if (answer.from === null) run.series = {};
      merge(answer.series, answer.from);
      window.launchCharts?.show([run]);
    }
  }

  async function look() {
    try {
      const answer = await fetch(`/api/run/${encodeURIComponent(id)}?cursor=${encodeURIComponent(cursor)}`);
      if (!answer.ok) throw new Error(await answer.text());
      const found = await answer.json();
      cursor = found.cursor;
      if (!found.same) show(found);
      document.title = document.title.replace(/^(\([^)]*\) )?/, state === "open" && short ? `(${short}) ` : "");
    } catch (error) {
      document.querySelector("[data-said]").textContent = `Nothing new: ${error.message || "the board has ended"}`;
    }
    setTimeout(look, 1000 * (state === "open" || !state ? wait : 5 * wait));
  }
  look();
})();
