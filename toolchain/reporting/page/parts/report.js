"use strict";
/* Draws the charts of the page when they come into view, the timeline as finely as its width can
   show it, and sorts and filters the tables. Plotly's library and the data are in the page. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colours = data.colours.engines;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };
  const drawn = new Map();
  document.documentElement.classList.add("js");

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const bundleOf = (element) => data.bundles[Number(element.closest("[data-bundle]").dataset.bundle)];

  /* ---- charts ---- */

  function themed(layout, narrow) {
    const line = { gridcolor: css("--grid"), zerolinecolor: css("--grid"), linecolor: css("--line") };
    const copy = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12.5, color: css("--text") },
      hoverlabel: { ...layout.hoverlabel, bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--text") } },
    };
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      copy[key] = { ...line, ...layout[key] };
      if (copy[key].title) copy[key].title = { ...copy[key].title, font: { size: narrow ? 11 : 12.5, color: css("--soft") } };
    }
    return copy;
  }

  /* Long names of bars are cut at their front, after their rank; the hover has them whole. */
  function cut(name, longest) {
    if (name.length <= longest) return name;
    const rank = (/^\d+\. /.exec(name) || [""])[0];
    return `${rank}…${name.slice(1 + rank.length - longest)}`;
  }

  function fitted(figure, width) {
    const layout = { ...figure.layout };
    if (layout.yaxis && layout.yaxis.type === "category") {
      const longest = Math.max(8, Math.floor((width * 0.42) / 6.6));
      const names = figure.data.length ? figure.data[0].y : [];
      const shown = names.map((name) => cut(name, longest));
      layout.yaxis = { ...layout.yaxis, tickmode: "array", tickvals: names, ticktext: shown };
    }
    return layout;
  }

  /* The legend stands above the plot, as high as its rows need. */
  function withLegend(layout, figure, width) {
    const shown = figure.data.filter((trace) => trace.name && trace.showlegend !== false);
    const widest = Math.max(0, ...shown.map((trace) => trace.name.length));
    const perRow = Math.max(1, Math.floor((width - 20) / (widest * 7.2 + 50)));
    const rows = Math.ceil(shown.length / perRow);
    const top = 12 + 21 * rows;
    return {
      ...layout,
      height: layout.height + top - 36,
      margin: { ...layout.margin, t: top },
      legend: { ...layout.legend, entrywidth: widest * 7.2 + 8, entrywidthmode: "pixels" },
    };
  }

  function draw(element) {
    const bundle = bundleOf(element), name = element.dataset.chart;
    const figure = name === "layers" ? layersOf(bundle.document) : bundle.charts[name];
    if (!figure || !element.clientWidth) return;
    const width = element.clientWidth;
    const layout = themed(withLegend(fitted(figure, width), figure, width), width < 520);
    Plotly.react(element, figure.data, layout, CONFIG);
    drawn.set(element, () => draw(element));
  }

  function layersOf(report) {
    const layers = report.verification.layers;
    const trace = (key, name, colour) => ({
      type: "scatter", mode: "markers", name, marker: { color: colour, size: 5, opacity: 0.8 },
      x: layers.map((_, place) => place + 1), y: layers.map((row) => row[key]),
      text: layers.map((row) => escaped(`${row.component}.${row.scope || row.op}` + (row.timestep === null ? "" : `, timestep ${row.timestep}`))),
      hovertemplate: `%{text}<br>${name}: %{y:.1f} dB<extra></extra>`,
    });
    return {
      data: [trace("isolated_sqnr_db", "alone", "#5b7fb5"), trace("accumulated_sqnr_db", "accumulated", "#e2992b")],
      layout: {
        height: 360, margin: { l: 10, r: 16, t: 36, b: 44 }, hovermode: "closest",
        legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, xanchor: "left" },
        xaxis: { title: { text: "layer" }, automargin: true }, yaxis: { title: { text: "SQNR, dB" }, automargin: true },
      },
    };
  }

  /* ---- the timeline ---- */

  /* Runs by engine, and SRAM in use, of one component or of all evaluations one after another. */
  function tracks(report, choice) {
    const parts = report.timeline.components.map((part, index) => ({ part, sram: report.sram[index] }));
    const chosen = choice === "all"
      ? parts.flatMap((each) => Array(each.part.evaluations).fill(each))
      : [parts[Number(choice)]];
    const engines = new Map(), sram = { at: [], bytes: [] }, borders = [];
    let offset = 0;
    for (const { part, sram: held } of chosen) {
      const runs = part.runs;
      for (let i = 0; i < runs.engine.length; i++) {
        const name = part.engines[runs.engine[i]];
        if (!engines.has(name)) engines.set(name, { kind: part.kinds[runs.engine[i]], runs: [] });
        engines.get(name).runs.push({
          start: offset + runs.start_us[i], end: offset + runs.end_us[i], part, op: runs.op[i],
          count: runs.instructions[i], bytes: runs.bytes[i], causes: runs.causes[i],
        });
      }
      held.at_us.forEach((at, i) => { sram.at.push(offset + at); sram.bytes.push(held.in_use_bytes[i]); });
      borders.push({ at: offset, name: part.name });
      offset += part.total_us;
    }
    return { engines, sram, borders, total: offset, limit: parts[0].sram.limit_bytes };
  }

  /* The first run that ends after `time`: runs of an engine are in order, and do not overlap. */
  function firstAfter(runs, time) {
    let low = 0, high = runs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (runs[middle].end <= time) low = middle + 1; else high = middle;
    }
    return low;
  }

  /* Runs between two times; those narrower than `least` are joined until they are as wide. */
  function visible(runs, from, to, least) {
    const found = [];
    let group = null;
    for (let i = firstAfter(runs, from); i < runs.length && runs[i].start < to; i++) {
      const run = runs[i], width = run.end - run.start;
      if (group && run.end - group.start <= least * 2 && run.start - group.end <= least) {
        group.end = run.end; group.busy += width; group.runs.push(run);
      } else {
        group = { start: run.start, end: run.end, busy: width, runs: [run] };
        found.push(group);
        if (width >= least) group = null;
      }
    }
    return found;
  }

  const time = (us) => us >= 1000 ? `${(us / 1000).toLocaleString("en", { maximumFractionDigits: 3 })} ms` : `${us.toLocaleString("en", { maximumFractionDigits: 3 })} µs`;

  function told(group, engine, names) {
    const run = group.runs[0];
    if (group.runs.length > 1) {
      const ops = new Set(group.runs.map((each) => each.part.name + each.op)).size;
      return `${engine}: ${group.runs.length} runs of ${ops} op${ops === 1 ? "" : "s"} within ${time(group.end - group.start)}, `
        + `busy ${Math.round(100 * group.busy / (group.end - group.start))} %<br>zoom in to see them`;
    }
    const [module, op, kind, tile] = run.part.ops[run.op];
    const causes = names.filter((_, bit) => bit && run.causes & (1 << bit));
    return [
      `<b>${escaped(run.part.name)}.${escaped(module)}</b>`, `${escaped(op)} (${escaped(kind)}) on ${engine}`,
      `${time(run.end - run.start)} from ${time(run.start)}, ${run.count} instruction${run.count === 1 ? "" : "s"}`,
      run.bytes ? `${(run.bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 3 })} MB: ${causes.join(" + ")}` : "",
      tile ? `tile ${escaped(tile)}` : "",
    ].filter(Boolean).join("<br>");
  }

  function shade(colour, light) {
    if (!light) return colour;
    const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return `rgb(${parts.map((value) => Math.round(value + (255 - value) * 0.34)).join(",")})`;
  }

  function steps(sram, from, to, width) {
    const bucket = (to - from) / width, x = [], y = [];
    let held = 0, i = 0;
    while (i < sram.at.length && sram.at[i] <= from) held = sram.bytes[i++];
    x.push(from); y.push(held / 1e6);
    while (i < sram.at.length && sram.at[i] < to) {
      const until = sram.at[i] + bucket, at = sram.at[i];
      let most = 0;
      while (i < sram.at.length && sram.at[i] < until && sram.at[i] < to) { held = sram.bytes[i++]; most = Math.max(most, held); }
      x.push(at); y.push(most / 1e6);
      if (most !== held) { x.push(Math.min(until, to)); y.push(held / 1e6); }
    }
    x.push(to); y.push(held / 1e6);
    return { x: x.map((us) => us / 1000), y };
  }

  function timeline(element) {
    const section = element.closest("section"), report = bundleOf(element).document;
    const pick = section.querySelector(".pick"), state = section.querySelector(".state");
    let shown, range, own = false;

    const clamp = ([from, to]) => {
      const width = Math.min(Math.max(to - from, 0.01), shown.total);
      const start = Math.min(Math.max(from, 0), shown.total - width);
      return [start, start + width];
    };

    function choose() {
      shown = tracks(report, pick.value);
      range = [0, shown.total];
      show();
    }

    function show() {
      const width = Math.max(element.clientWidth - 90, 200), least = (range[1] - range[0]) / width;
      const names = [...shown.engines.keys()], traces = [];
      let bars = 0, runs = 0;
      for (const [name, { kind, runs: all }] of shown.engines) {
        const groups = visible(all, range[0], range[1], least);
        bars += groups.length;
        runs += groups.reduce((sum, group) => sum + group.runs.length, 0);
        const label = (group) => {
          const px = (Math.min(group.end, range[1]) - Math.max(group.start, range[0])) / least;
          const module = group.runs.length === 1 ? group.runs[0].part.ops[group.runs[0].op][0] : "";
          const room = Math.floor(px / 7) - 1;
          const last = module.split(".").slice(-2).join(".");
          return room < 5 || last.length > room ? "" : escaped(module.length <= room ? module : last);
        };
        traces.push({
          type: "bar", orientation: "h", name, showlegend: false, xaxis: "x", yaxis: "y", width: 0.78,
          y: groups.map(() => name), base: groups.map((group) => group.start / 1000),
          x: groups.map((group) => (group.end - group.start) / 1000),
          marker: {
            line: { width: 0 },
            color: groups.map((group) => shade(colours[kind], group.runs[0].op % 2)),
            opacity: groups.map((group) => Math.max(0.4, group.busy / (group.end - group.start || 1))),
          },
          text: groups.map(label), textposition: "inside", insidetextanchor: "middle", textangle: 0,
          constraintext: "none", cliponaxis: true, insidetextfont: { color: "#10161f", size: 11 },
          hovertext: groups.map((group) => told(group, name, report.timeline.causes)),
          hovertemplate: "%{hovertext}<extra></extra>",
        });
      }
      const held = steps(shown.sram, range[0], range[1], width);
      traces.push({
        type: "scatter", mode: "lines", line: { shape: "hv", width: 1.2, color: "#7d6fe0" }, fill: "tozeroy",
        fillcolor: "rgba(125,111,224,.22)", x: held.x, y: held.y, xaxis: "x", yaxis: "y2", showlegend: false,
        name: "SRAM", hovertemplate: "SRAM in use: %{y:,.3f} MB<extra></extra>",
      });
      const inside = shown.borders.filter((each) => each.at > range[0] && each.at < range[1]);
      const limit = shown.limit / 1e6, narrow = element.clientWidth < 520;
      const layout = themed({
        height: 150 + 46 * names.length + 130, margin: { l: 62, r: 14, t: 12, b: 44 }, barmode: "overlay", bargap: 0.2,
        hovermode: "closest", dragmode: "zoom", showlegend: false, hoverlabel: { align: "left" },
        xaxis: { range: range.map((us) => us / 1000), title: { text: "ms" }, anchor: "y2", tickformat: ",~f", nticks: narrow ? 5 : 10 },
        yaxis: { domain: [0.38, 1], fixedrange: true, categoryorder: "array", categoryarray: [...names].reverse(), type: "category", range: [-0.5, names.length - 0.5] },
        yaxis2: { domain: [0, 0.3], fixedrange: true, range: [0, limit * 1.14], title: { text: "SRAM MB", standoff: 6 }, nticks: 4 },
        shapes: [
          { type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: limit, y1: limit, line: { color: css("--warn"), width: 1.5, dash: "dash" } },
          ...inside.map((each) => ({ type: "line", x0: each.at / 1000, x1: each.at / 1000, yref: "paper", y0: 0, y1: 1, line: { color: css("--soft"), width: 1, dash: "dot" } })),
        ],
        annotations: [
          { xref: "paper", x: 1, xanchor: "right", yref: "y2", y: limit, yanchor: "bottom", showarrow: false, text: `limit ${limit.toFixed(2)} MB`, font: { size: 11, color: css("--warn") } },
        ],
      }, narrow);
      own = true;
      Plotly.react(element, traces, layout, CONFIG).then(() => { own = false; });
      state.textContent = `${time(range[1] - range[0])} of ${time(shown.total)}: ${runs.toLocaleString("en")} runs` + (bars < runs ? ` drawn as ${bars.toLocaleString("en")} bars` : "");
      element.dataset.bars = bars;
      element.dataset.from = range[0];
      element.dataset.to = range[1];
    }

    function move(next) { range = clamp(next); show(); }

    pick.addEventListener("change", choose);
    for (const button of section.querySelectorAll("[data-zoom], [data-move]")) {
      button.addEventListener("click", () => {
        const width = range[1] - range[0], middle = (range[0] + range[1]) / 2;
        if (button.dataset.move) { const by = width * Number(button.dataset.move); move([range[0] + by, range[1] + by]); return; }
        const factor = Number(button.dataset.zoom);
        move(factor ? [middle - (width * factor) / 2, middle + (width * factor) / 2] : [0, shown.total]);
      });
    }
    element.addEventListener("keydown", (event) => {
      const width = range[1] - range[0], by = { ArrowLeft: -0.2, ArrowRight: 0.2 }[event.key];
      const factor = { "+": 0.25, "-": -0.5 }[event.key];
      if (by) move([range[0] + by * width, range[1] + by * width]);
      else if (factor) move([range[0] + factor * width, range[1] - factor * width]);
      else return;
      event.preventDefault();
    });
    choose();
    element.on("plotly_relayout", (change) => {
      if (own) return;
      if (change["xaxis.autorange"]) move([0, shown.total]);
      else if (change["xaxis.range[0]"] !== undefined) move([change["xaxis.range[0]"] * 1000, change["xaxis.range[1]"] * 1000]);
    });
    drawn.set(element, show);
  }

  /* ---- when to draw ---- */

  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      watcher.unobserve(entry.target);
      ready(entry.target);
    }
  }, { rootMargin: "400px" });

  function ready(element) {
    if (drawn.has(element)) return;
    if (element.classList.contains("timeline")) timeline(element); else draw(element);
  }

  const everything = () => document.querySelectorAll(".chart, .timeline");
  everything().forEach((element) => watcher.observe(element));
  document.querySelectorAll("details").forEach((each) => each.addEventListener("toggle", () => {
    each.querySelectorAll(".chart").forEach(ready);
  }));
  window.addEventListener("beforeprint", () => everything().forEach(ready));
  dark.addEventListener("change", () => drawn.forEach((again) => again()));
  let waiting, lastWidth = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === lastWidth) return;
    lastWidth = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => drawn.forEach((again) => again()), 150);
  });

  /* ---- bundles side by side ---- */

  const bundles = [...document.querySelectorAll(".bundle")];
  function open(place) {
    bundles.forEach((each, index) => each.classList.toggle("open", index === place));
    document.querySelectorAll(".tabs button").forEach((tab) => tab.setAttribute("aria-selected", String(Number(tab.dataset.open) === place)));
  }
  document.querySelectorAll("[data-open]").forEach((each) => each.addEventListener("click", () => open(Number(each.dataset.open))));
  const asked = /^#b(\d+)/.exec(location.hash);
  open(asked && Number(asked[1]) < bundles.length ? Number(asked[1]) : 0);

  /* ---- tables ---- */

  const cellValue = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return "";
    if (cell.dataset.v === undefined) return cell.textContent.trim().toLowerCase();
    return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  };

  function sortBy(table, column, descending) {
    const body = table.tBodies[0], sign = descending ? -1 : 1;
    const keyed = [...body.rows].map((row, place) => ({ row, place, key: cellValue(row, column) }));
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
      return (a.key < b.key ? -sign : a.key > b.key ? sign : 0) || a.place - b.place;
    });
    body.append(...keyed.map((each) => each.row));
  }

  for (const table of document.querySelectorAll("table.grid")) {
    const heads = table.tHead ? [...table.tHead.rows[0].cells] : [];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const descending = before ? before === "ascending" : head.classList.contains("num");
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, column, descending);
      table.dispatchEvent(new Event("sorted"));
    }));
  }

  const FIRST = 20;
  for (const table of document.querySelectorAll("table.ops")) {
    const section = table.closest("section");
    const [text, component, engine, more, count] = [".filter", ".by-component", ".by-engine", ".more", ".count"].map((name) => section.querySelector(name));
    let all = false;
    const update = () => {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let matching = 0;
      for (const row of table.tBodies[0].rows) {
        const content = row.textContent.toLowerCase();
        const fits = words.every((word) => content.includes(word))
          && (!component.value || row.dataset.component === component.value)
          && (!engine.value || row.dataset.engine === engine.value);
        matching += fits;
        row.hidden = !fits || (!all && matching > FIRST);
      }
      const rows = table.tBodies[0].rows.length;
      count.textContent = matching === rows ? `${rows} ops` : `${matching} of ${rows} ops`;
      more.hidden = all || matching <= FIRST;
      more.textContent = `Show all ${matching} ops`;
    };
    [text, component, engine].forEach((each) => each.addEventListener("input", update));
    table.addEventListener("sorted", update);
    more.addEventListener("click", () => { all = true; update(); });
    update();
  }
})();
