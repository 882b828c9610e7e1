/* The page's own script: it draws the charts, fills the table of items, and opens the item that the address names.
   All data come as text and are shown as text: nothing here makes markup of them. */
"use strict";
(() => {
const byId = (id) => document.getElementById(id);
const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
};

/* Charts. Each is drawn when it comes near the window, and all before printing. */
const gallery = JSON.parse(byId("charts").textContent);
const tip = document.body.appendChild(element("div", { id: "tip", hidden: true }));
const showTip = (handler, event, item, value) => {
  tip.hidden = value === null || value === undefined || value === "";
  if (tip.hidden) return;
  tip.textContent = String(value);
  const right = event.clientX + 14 + tip.offsetWidth > innerWidth;
  tip.style.left = `${right ? Math.max(4, event.clientX - 14 - tip.offsetWidth) : event.clientX + 14}px`;
  tip.style.top = `${event.clientY + 14}px`;
};
const draw = (figure) => {
  if (figure.dataset.drawn) return;
  figure.dataset.drawn = "yes";
  const place = figure.querySelector(".plot");
  place.textContent = "";
  const spec = vegaLite.compile(gallery.charts[Number(figure.dataset.chart)], { config: gallery.config }).spec;
  new vega.View(vega.parse(spec, null, { ast: true }), {
    expr: vega.expressionInterpreter, renderer: "svg", container: place, hover: true, tooltip: showTip,
    loader: { load: () => Promise.reject(new Error("a chart loads nothing")), sanitize: () => Promise.reject(new Error("a chart links to nothing")) },
  }).run();
};
const figures = [...document.querySelectorAll("figure[data-chart]")];
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
}, { rootMargin: "400px" });
figures.forEach((figure) => watcher.observe(figure));
document.addEventListener("toggle", (event) => event.target.querySelectorAll("figure[data-chart]").forEach(draw), true);
addEventListener("beforeprint", () => figures.forEach(draw));

/* A table that is wider than its place is scrolled, by the keyboard too. */
const reach = () => document.querySelectorAll(".wide").forEach((wide) => { if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0; });
reach();
addEventListener("resize", reach);

/* Items. */
if (!byId("items-table")) return;
const WORDS = { answer: ["lost", "won", "failed by both", "passed by both"], loss: ["higher loss", "lower loss", "same loss", "same loss"] };
const blocks = [...document.querySelectorAll("script.texts")].map((script) => script.textContent);
const unpacked = new Map();
const textsOf = async (at) => {
  const number = Math.floor(at / table.block);
  if (number >= blocks.length) return null;
  if (!unpacked.has(number)) unpacked.set(number, unpack(blocks[number]));
  return (await unpacked.get(number))[at % table.block];
};
const NEVER = "not measured";
let table, grid, rows, order, current = null;

const number = (value, kind) => value === null ? "–" : kind === "loss" ? value.toFixed(3) : kind === "score" ? `${(100 * value).toFixed(1)} %` : String(value);
const signed = (value, kind) => value === null ? "–" : `${value > 0 ? "+" : value < 0 ? "−" : ""}${number(Math.abs(value), kind)}`;
const resultOf = (before, after, kind) => {
  if (before === null || after === null) return NEVER;
  const [worse, better, low, high] = WORDS[kind] ?? ["lower score", "higher score", "same score", "same score"];
  const gain = kind === "loss" ? before - after : after - before;
  return gain < 0 ? worse : gain > 0 ? better : after === 1 ? high : low;
};
const rowsFor = (model) => table.item.map((subject, at) => {
  const measure = table.words[table.measure[at]], kind = table.kinds[measure];
  const before = table.values[0][at], after = table.values[model][at];
  const change = before === null || after === null ? null : after - before;
  return {
    at, item: table.items[subject], measure, kind, before, after, change, gain: change === null ? null : kind === "loss" ? -change : change,
    source: table.sources[subject], domain: table.words[table.domain[at]], tier: table.words[table.tier[at]],
    result: resultOf(before, after, kind),
    first: table.words[table.outcomes[0][at]], why: table.words[table.outcomes[model][at]],
  };
});
const linkOf = (row) => `#item=${encodeURIComponent(`${row.measure}/${row.item}`)}`;
const shown = (row, side) => {
  const outcome = side ? row.why : row.first, value = side ? row.after : row.before;
  return row.kind === "answer" ? outcome || number(value, row.kind) : number(value, row.kind);
};
const badge = (row) => element("span", { className: `badge ${row.gain > 0 ? "good" : row.gain < 0 ? "bad" : "open"}`, textContent: row.result });

const choices = (select, values, all) => {
  const chosen = select.value;
  select.replaceChildren(element("option", { value: "", textContent: all }),
    ...[...new Set(values)].filter(Boolean).sort().map((value) => element("option", { value, textContent: value })));
  select.value = chosen;
};
const control = (id) => byId(`items-${id}`);
const refill = () => {
  rows = rowsFor(Number(control("model").value));
  choices(control("result"), rows.map((row) => row.result), "every result");
  choices(control("measure"), rows.map((row) => row.measure), "every measure");
  choices(control("why"), rows.map((row) => row.why), "every outcome");
  choices(control("domain"), rows.map((row) => row.domain), "every domain");
};
const SORTS = {
  "": null, worst: (a, b) => (a.gain ?? 0) - (b.gain ?? 0), best: (a, b) => (b.gain ?? 0) - (a.gain ?? 0),
  random: "random", source: (a, b) => a.source.localeCompare(b.source),
};
const matchesText = async (words) => {
  const texts = (await Promise.all(blocks.map((block, at) => textsOf(at * table.block).then(() => unpacked.get(at))))).flat();
  return (row) => {
    const held = texts[row.at];
    const all = [row.item, row.source, row.measure, row.domain, row.first, row.why, held ? JSON.stringify(Object.values(held)) : ""].join(" ").toLowerCase();
    return words.every((word) => all.includes(word));
  };
};
let request = 0;
const update = async () => {
  const mine = ++request;
  const wanted = Object.fromEntries(["result", "measure", "why", "domain"].map((id) => [id, control(id).value]).filter(([, value]) => value));
  const words = control("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = words.length ? await matchesText(words) : () => true;
  if (mine !== request) return;
  let chosen = rows.filter((row) => Object.entries(wanted).every(([field, value]) => row[field] === value) && matches(row));
  const sort = SORTS[control("sort").value];
  if (sort === "random") {
    chosen = [...chosen];
    for (let last = chosen.length - 1; last > 0; last--) {
      const other = Math.floor(Math.random() * (last + 1));
      [chosen[last], chosen[other]] = [chosen[other], chosen[last]];
    }
  } else if (sort) chosen = [...chosen].sort(sort);
  order = chosen;
  grid.clearSort();
  await grid.replaceData(chosen);
  byId("items-count").textContent = `${chosen.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} items`;
};

/* One item, its answers side by side. Lines that the other answer lacks are marked. */
const lines = (text, other) => {
  const others = new Set(other.split("\n"));
  return text.split("\n").flatMap((line, at, all) => [
    other && line.trim() && !others.has(line) ? element("mark", { textContent: line }) : line, at + 1 < all.length ? "\n" : "",
  ]);
};
const block = (title, ...content) => {
  const body = element("pre", { tabIndex: 0 }, ...content);
  return element("div", {}, element("h4", {}, ...[title].flat()), body);
};
const EMPTY = "(nothing: the model ended its answer at once)";
const answerBlock = (model, answers, outcome, value, kind) => {
  const answer = answers[model];
  const text = answer ? answer.output || EMPTY : outcome === NEVER ? NEVER : number(value, kind);
  const other = answers.find((one, at) => one && at !== model)?.output ?? "";
  const made = block([`${table.models[model]} `, element("span", { className: `badge ${value === 1 ? "good" : kind === "answer" ? "bad" : "open"}`, textContent: outcome || number(value, kind) })],
    ...(answer?.output ? lines(text, other) : [text]));
  if (answer?.expected) made.firstChild.after(element("p", { className: "muted", textContent: `taken for the answer: ${answer.parsed || "nothing"} · expected: ${answer.expected}` }));
  if (answer?.inside) made.firstChild.after(element("p", { className: "muted", textContent: "Its tests were compared inside its own process, which it could have spoilt." }));
  return made;
};
const open = async (row) => {
  current = row.at;
  const held = await textsOf(row.at), place = byId("item");
  const answers = held?.answers ?? table.models.map(() => null);
  const at = order.findIndex((other) => other.at === row.at);
  const step = (by, words) => element("button", { type: "button", textContent: words, disabled: !order[at + by] || at < 0, onclick: () => { location.hash = linkOf(order[at + by]); } });
  place.replaceChildren(
    element("header", {}, badge(row), " ", element("strong", { textContent: row.source }), " ",
      element("span", { className: "muted", textContent: [row.measure, row.domain, row.tier, `id ${row.item}`].filter(Boolean).join(" · ") }), " ",
      element("a", { href: linkOf(row), textContent: "link to this item" }), " ", step(-1, "previous"), " ", step(1, "next")),
    element("div", { className: "sides" }, ...table.models.map((_, model) =>
      answerBlock(model, answers, table.words[table.outcomes[model][row.at]], table.values[model][row.at], row.kind))),
    ...(held?.task === undefined ? [] : [element("div", { className: "sides" }, block("task", held.task), block("reference", held.reference))]),
    ...(held ? [] : [element("p", { className: "muted", textContent: "The texts of this item are not on this page, which has a limited size. They are in data/results/ and data/ingested/test.parquet." })]),
  );
  place.hidden = false;
  place.scrollIntoView({ block: "nearest" });
  place.focus({ preventScroll: true });
};
const openLinked = () => {
  const [, name] = location.hash.match(/^#item=(.*)$/) ?? [];
  if (name === undefined) return;
  let wanted;
  try { wanted = decodeURIComponent(name); } catch { wanted = name; }
  const row = rows.find((one) => `${one.measure}/${one.item}` === wanted);
  if (row) return open(row);
  const place = byId("item");
  place.hidden = false;
  place.replaceChildren(element("p", { textContent: `This report has no item ${wanted}.` }));
  place.scrollIntoView({ block: "nearest" });
};
const cell = (make) => (shownCell) => make(shownCell.getRow().getData());
const build = async () => {
  table = await unpack(byId("items-data").textContent);
  refill();
  order = rows;
  grid = new Tabulator("#items-table", {
    data: rows, index: "at", layout: "fitColumns", responsiveLayout: "hide", pagination: true, paginationSize: 25,
    paginationSizeSelector: [10, 25, 100], paginationElement: byId("items-pages"), placeholder: "No item is like this.", height: false,
    columnDefaults: { headerTooltip: true, resizable: false, headerSortTristate: true },
    columns: [
      { title: "result", field: "result", width: 130, responsive: 0, formatter: cell(badge) },
      { title: "item", field: "source", minWidth: 150, widthGrow: 3, responsive: 0, formatter: cell((row) => element("a", { href: linkOf(row), textContent: row.source || row.item })) },
      { title: "measure", field: "measure", minWidth: 110, widthGrow: 1, responsive: 3 },
      { title: "domain", field: "domain", minWidth: 90, widthGrow: 1, responsive: 5 },
      { title: "before", field: "before", minWidth: 100, responsive: 2, formatter: cell((row) => shown(row, 0)) },
      { title: "after", field: "after", minWidth: 100, responsive: 1, formatter: cell((row) => shown(row, 1)) },
      { title: "change", field: "change", minWidth: 90, hozAlign: "right", responsive: 4, formatter: cell((row) => signed(row.change, row.kind)) },
    ],
  });
  await new Promise((done) => grid.on("tableBuilt", done));
  document.querySelector(".tabulator-tableholder").removeAttribute("tabindex"); // a grid may hold rows alone; their links are reached
  grid.on("dataSorted", (sorters, sorted) => { if (sorters.length) order = sorted.map((one) => one.getData()); });
  byId("items-count").textContent = `${rows.length.toLocaleString("en")} items`;
  for (const id of ["result", "measure", "why", "domain", "sort"]) control(id).addEventListener("change", update);
  control("model").addEventListener("change", () => { refill(); update(); });
  let wait;
  control("search").addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(update, 200); });
  byId("items-table").dataset.ready = "yes";
  addEventListener("hashchange", openLinked);
  openLinked();
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "/") { event.preventDefault(); control("search").focus(); return; }
  const by = { j: 1, k: -1 }[event.key];
  if (!by || !order?.length) return;
  const next = order[current === null ? 0 : order.findIndex((row) => row.at === current) + by];
  if (next) location.hash = linkOf(next);
});
if (location.hash.startsWith("#item=")) build();
else (window.requestIdleCallback ?? setTimeout)(build);
})();
