"use strict";
// Draws the curves of runs: {runs: [{name, label, series: {NAME: [[step], [value]]}}]}, into #charts.
(() => {
  const GIB = 2 ** 30;
  // One chart each; what a chart holds several of is told apart by the line's dash.
  const CHARTS = [
    { key: "loss", title: "Loss", wide: true, series: { loss: "loss" }, smooth: "loss_smooth",
      about: "thin as logged, thick smoothed" },
    { key: "kl", title: "KL divergence from the start", series: { kl: "KL" }, zero: true },
    { key: "answers", title: "Length of answers", unit: "tokens", series: { "completions/mean_length": "mean length" },
      zero: true },
    { key: "clipped", title: "Share of answers cut off", series: { "completions/clipped_ratio": "cut off" }, zero: true },
    { key: "learning_rate", title: "Learning rate", series: { learning_rate: "learning rate" }, zero: true },
    { key: "grad_norm", title: "Gradient norm", series: { grad_norm: "gradient norm" } },
    { key: "speed", title: "Time per step", unit: "s", series: { seconds_per_step: "s per step" }, zero: true },
    { key: "tokens", title: "Tokens per second", series: { tokens_per_second: "tokens/s" }, zero: true,
      ticks: "SI" },
    { key: "memory", title: "Memory", unit: "GiB", scale: 1 / GIB, zero: true,
      series: { device: "device", ram: "RAM" } },
  ];
  const DASHES = ["solid", "dot", "dash"];
  const place = document.getElementById("charts");
  const drawn = new Map();
  let runs = [];

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const number = (value) => {
    if (value === null || value === undefined) return "no number";
    return Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(2) : String(+value.toPrecision(4));
  };
  // A finger that moves over a chart scrolls the page.
  const coarse = () => matchMedia("(pointer: coarse)").matches;
  const narrow = () => matchMedia("(max-width: 520px)").matches;

  function charts() {
    const extra = new Set(runs.flatMap((run) => Object.keys(run.series).filter((key) => key.startsWith("eval_"))));
    const evaluations = [...extra].sort().map((key) => {
      const name = key.replace(/^eval_/, "Evaluation: ").replaceAll("_", " ");
      return { key, title: name, series: { [key]: name }, markers: true };
    });
    return [CHARTS[0], rewards(), ...CHARTS.slice(1), ...evaluations].filter((chart) =>
      runs.some((run) => Object.keys(chart.series).some((key) => run.series[key]?.[0].length)));
  }

  // The sum, and beside it what each function gives when there are several.
  function rewards() {
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.series)))].filter((key) => key.startsWith("rewards/"));
    const each = names.length > 1 ? names.sort().map((key) => [key, key.split("/")[1]]) : [];
    return { key: "reward", title: "Reward", series: { reward: "reward", ...Object.fromEntries(each) } };
  }

  function lines(chart) {
    const several = runs.length > 1;
    const found = [];
    const names = Object.keys(chart.series).filter((key) => runs.some((run) => run.series[key]));
    runs.forEach((run, at) => names.forEach((key, kind) => {
      const points = run.series[key];
      if (!points) return;
      const color = css(`--run-${several ? at % 8 : kind}`);
      const name = [several ? run.label : "", names.length > 1 || !several ? chart.series[key] : ""];
      const smooth = chart.smooth && points[0].length > 30 ? run.series[chart.smooth] : null;
      const values = chart.scale ? points[1].map((y) => y === null ? null : y * chart.scale) : points[1];
      const dash = several ? (names.length > 1 ? DASHES[kind % 3] : DASHES[Math.floor(at / 8) % 3]) : "solid";
      found.push({
        x: points[0], y: values, name: name.filter(Boolean).join(" "), type: "scatter",
        mode: chart.markers || points[0].length < 3 ? "lines+markers" : "lines",
        line: { color, width: smooth ? 1 : 1.8, dash }, opacity: smooth ? 0.38 : 1,
        hovertemplate: "%{y:.4~g}", showlegend: !smooth && (several || names.length > 1),
      });
      if (smooth) found.push({
        x: smooth[0], y: smooth[1], name: several ? run.label : "smoothed", type: "scatter",
        mode: "lines", line: { color, width: 2.2, dash }, hovertemplate: several ? "%{y:.4~g} (smoothed)" : "%{y:.4~g}", showlegend: several,
      });
    }));
    return found;
  }

  function layout(chart, traces) {
    const ink = css("--dim"), grid = css("--line"), card = css("--card");
    const axis = { gridcolor: grid, zeroline: false, linecolor: grid, tickcolor: grid, automargin: true };
    const legend = traces.some((trace) => trace.showlegend);
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
      margin: { l: 48, r: 10, t: legend || !coarse() ? 28 : 8, b: 36 }, // room for legend and buttons
      xaxis: { ...axis, title: { text: "step", standoff: 6 }, rangemode: "tozero", hoverformat: "d" },
      // Small numbers in powers of ten: "10μ" is no learning rate.
      yaxis: { ...axis, exponentformat: chart.ticks || "power", rangemode: chart.zero ? "tozero" : "normal", nticks: 6 },
      hovermode: "x unified", dragmode: coarse() ? false : "zoom",
      hoverlabel: { bgcolor: card, bordercolor: grid, font: { color: css("--ink"), size: 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: ink, activecolor: css("--ink") },
      showlegend: legend,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      uirevision: "kept", // what a reader has zoomed into stays, whatever arrives
    };
  }

  function told(chart, key, run) {
    const [steps, raw] = run.series[key];
    const values = raw.map((y) => (y === null ? null : y * (chart.scale || 1)));
    const known = values.filter((y) => y !== null);
    const unit = chart.unit ? ` ${chart.unit}` : "";
    if (!known.length) return `${run.label}: no numbers`;
    const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
    return `${run.label || chart.series[key]}: from ${number(values[0])}${unit} at step ${steps[0]} to ` +
      `${number(values.at(-1))}${unit} at step ${steps.at(-1)}, lowest ${number(low)}, highest ${number(high)}`;
  }

  // The curve for those who cannot see it, and for those who want numbers.
  function table(chart) {
    const made = document.createElement("table");
    const head = made.createTHead().insertRow();
    for (const text of ["series", "step", chart.unit ? `value, ${chart.unit}` : "value"]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = text;
      if (text !== "series") cell.className = "num";
      head.append(cell);
    }
    const body = made.createTBody();
    for (const run of runs) for (const key of Object.keys(chart.series)) {
      const [steps, values] = run.series[key] || [[], []];
      const count = Math.min(10, steps.length);
      for (let at = 0; at < count; at++) {
        const index = count === 1 ? 0 : Math.round((at * (steps.length - 1)) / (count - 1));
        const value = values[index] === null ? null : values[index] * (chart.scale || 1);
        const row = body.insertRow();
        row.insertCell().textContent = [run.label, chart.series[key]].filter(Boolean).join(" ");
        for (const text of [steps[index], number(value)]) {
          const cell = row.insertCell();
          cell.textContent = text;
          cell.className = "num";
        }
      }
    }
    return made;
  }

  function figure(chart) {
    const made = document.createElement("figure");
    made.className = chart.wide ? "chart wide" : "chart";
    made.dataset.chart = chart.key;
    const title = document.createElement("h3");
    title.textContent = chart.title;
    if (chart.unit || chart.about) {
      const unit = document.createElement("span");
      unit.className = "unit";
      unit.textContent = `, ${chart.unit || chart.about}`;
      title.append(unit);
    }
    const plot = document.createElement("div");
    plot.className = "plot";
    plot.setAttribute("role", "img");
    const fold = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "Values";
    fold.append(summary);
    fold.addEventListener("toggle", () => { if (fold.open) fill(chart, fold); });
    made.append(title, plot, fold);
    return { made, plot, fold };
  }

  function fill(chart, fold) {
    fold.querySelector("table")?.remove();
    fold.append(table(chart));
  }

  function draw() {
    const wanted = charts();
    document.getElementById("no-curves")?.classList.toggle("hidden", wanted.length > 0);
    wanted.forEach((chart, at) => {
      let known = drawn.get(chart.key);
      if (!known) {
        known = figure(chart);
        drawn.set(chart.key, known);
        place.insertBefore(known.made, place.children[at] || null);
      }
      const traces = lines(chart);
      const said = runs.flatMap((run) => Object.keys(chart.series).filter((key) => run.series[key]?.[0].length)
        .map((key) => told(chart, key, run)));
      known.plot.setAttribute("aria-label", `${chart.title}. ${said.join("; ")}`);
      const options = { displaylogo: false, responsive: true, displayModeBar: coarse() || narrow() ? false : "hover",
        modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
      Plotly.react(known.plot, traces, layout(chart, traces), options);
      if (known.fold.open) fill(chart, known.fold);
    });
  }

  window.launchCharts = { show(given) { runs = given; draw(); } };
  addEventListener("themechange", () => { if (runs.length) draw(); });
  for (const when of ["beforeprint", "afterprint"]) {
    addEventListener(when, () => { for (const { plot } of drawn.values()) Plotly.Plots.resize(plot); });
  }
  const data = document.getElementById("data");
  if (data) launchCharts.show(JSON.parse(data.textContent).runs);
})();
