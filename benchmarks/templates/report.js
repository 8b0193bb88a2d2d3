(() => {
"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const { board } = page;
const $ = (query, within = document) => within.querySelector(query);
const $$ = (query, within = document) => [...within.querySelectorAll(query)];

/** An element with attributes and children; texts are texts, never markup. */
function el(name, attributes = {}, ...children) {
  const svg = ["svg", "line", "circle", "text"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const fixed = (value, digits) => (known(value) ? value.toFixed(digits) : "");
function brief(value) {
  if (!known(value)) return "";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size >= 1000 ? Math.round(value).toLocaleString("en") : size >= 1 ? value.toFixed(2) : size >= 0.001 ? value.toFixed(3) : value.toExponential(1);
}
const threeDigits = (value) => (known(value) ? Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 }) : "");

/* ---- the definition of a mean skill: leaderboard.shared, .sample and intervals.estimates in Python ---- */

const scale = 10 ** -board.decimals;
const skill = board.skill.map((column) => Float64Array.from(column, (v) => (v === null ? NaN : v * scale)));
const cells = board.cells;
const family = board.names.metric.map((pair) => pair[1]);

function shared(keep) {
  const counts = skill.map((own) => keep.reduce((n, cell) => n + !Number.isNaN(own[cell]), 0));
  const enough = Math.max(1, board.share * Math.max(0, ...counts));
  const order = counts.map((_, m) => m).sort((a, b) => counts[b] - counts[a] || a - b);
  let common = keep;
  const ranked = [];
  for (const m of order) {
    const left = common.filter((cell) => !Number.isNaN(skill[m][cell]));
    if (left.length >= enough) { common = left; ranked.push(m); }
  }
  return { common, ranked, counts };
}

/** Which draw, condition and problem each cell is of, and how much each draw weighs. */
function sample(common) {
  const number = () => { const seen = new Map(); return [(key) => { if (!seen.has(key)) seen.set(key, seen.size); return seen.get(key); }, seen]; };
  const [drawOf, drawn] = number(), [conditionOf, conditions] = number(), [problemOf, problems] = number(), [seedOf] = number();
  const draw = [], condition = [], problem = [], seed = [], size = [], bySeed = [], seeds = [];
  common.forEach((cell, i) => {
    const p = cells.problem[cell], n = cells.noise[cell], s = cells.seed[cell];
    const d = drawOf(`${p},${n},${s}`);
    draw[i] = d;
    condition[d] = conditionOf(`${p},${n}`); problem[d] = problemOf(p); seed[d] = seedOf(`${p},${s}`);
    size[d] = (size[d] || 0) + 1;
    bySeed[seed[d]] = (bySeed[seed[d]] || 0) + 1;
    (seeds[problem[d]] ||= new Set()).add(seed[d]);
  });
  const weight = size.map((n, d) => n / bySeed[seed[d]] / seeds[problem[d]].size / problems.size);
  return { draw, condition, problem, size, weight, draws: drawn.size, conditions: conditions.size, problems: problems.size };
}

/** Student's quantile of a two-sided 95% interval: Clenshaw's sum of a polynomial in 1/freedom. */
function quantile(freedom) {
  const x = 2 / freedom - 1, c = board.student;
  let one = 0, two = 0;
  for (let k = c.length - 1; k > 0; k--) [one, two] = [2 * x * one - two + c[k], one];
  return x * one - two + c[0];
}

/** Of every draw's residual the factor that makes the squares add up to the variance of the mean. */
function noiseOf(drawn) {
  const counts = new Float64Array(drawn.conditions), power = new Float64Array(drawn.conditions);
  for (let d = 0; d < drawn.draws; d++) { counts[drawn.condition[d]]++; power[drawn.condition[d]] += drawn.weight[d] ** 2; }
  const total = power.reduce((a, b) => a + b, 0), often = power.reduce((a, b, c) => a + (counts[c] > 1 ? b : 0), 0);
  const borrowed = often > 0 ? total / often : 1;
  return { counts, scale: power.map((b, c) => Math.sqrt(borrowed * b / Math.max(counts[c] - 1, 1))) };
}

function here(values, drawn, noise) {
  const { counts } = noise, centre = new Float64Array(counts.length), variance = new Float64Array(counts.length);
  for (let d = 0; d < drawn.draws; d++) centre[drawn.condition[d]] += values[d] / counts[drawn.condition[d]];
  for (let d = 0; d < drawn.draws; d++) { const c = drawn.condition[d]; variance[c] += (noise.scale[c] * (values[d] - centre[c])) ** 2; }
  let total = 0, spread = 0, all = 0, least = Infinity;
  counts.forEach((n, c) => {
    if (n < 2) return;
    total += variance[c]; spread += variance[c] ** 2 / n; all += n - 1; least = Math.min(least, n - 1);
  });
  if (!all) return NaN;
  const freedom = spread > 0 ? total ** 2 / spread : all;
  return quantile(Math.min(Math.max(freedom, least), all)) * Math.sqrt(total);
}

function like(values, drawn) {
  const count = drawn.problems;
  if (count < 3) return NaN;
  const means = new Float64Array(count);
  values.forEach((v, d) => { means[drawn.problem[d]] += count * drawn.weight[d] * v; });
  const mean = means.reduce((a, b) => a + b, 0) / count;
  const variance = means.reduce((a, b) => a + (b - mean) ** 2, 0) / (count - 1);
  return quantile(count - 1) * Math.sqrt(variance / count);
}

function summary(keep) {
  const { common, ranked, counts } = shared(keep);
  const drawn = sample(common), noise = noiseOf(drawn);
  const found = counts.map((n) => ({ cells: n, skill: NaN, low: NaN, high: NaN, low_here: NaN, high_here: NaN, rank: NaN }));
  if (common.length) for (const m of ranked) {
    const values = new Float64Array(drawn.draws);
    common.forEach((cell, i) => { values[drawn.draw[i]] += skill[m][cell]; });
    drawn.size.forEach((n, d) => { values[d] /= n; });
    const mean = values.reduce((sum, v, d) => sum + drawn.weight[d] * v, 0);
    const near = here(values, drawn, noise), far = like(values, drawn);
    Object.assign(found[m], { skill: mean, low: mean - far, high: mean + far, low_here: mean - near, high_here: mean + near });
  }
  const sorted = ranked.map((m) => found[m].skill).filter((v) => !Number.isNaN(v)).sort((a, b) => b - a);
  for (const m of ranked) if (!Number.isNaN(found[m].skill)) {  // ties share the better rank
    let low = 0, high = sorted.length;
    while (low < high) { const middle = (low + high) >> 1; if (sorted[middle] > found[m].skill + board.same) low = middle + 1; else high = middle; }
    found[m].rank = 1 + low;
  }
  return { found, common, ranked, drawn };
}

/* ---- what the reader selected, kept in the address ---- */

const EMPTY = { problem: "", noise: "", model: "", metric: "", interval: "", q: "", sort: "", panel: "", highlight: "", at: "" };
const state = { ...EMPTY };
const filters = $("#filters");
const label = ([dataset, parameters]) => (parameters ? `${dataset}[${parameters}]` : dataset);
const FAMILY = "family:";
const choices = {
  problem: (value) => (code) => label(board.names.problem[code]) === value || board.names.problem[code][0] === value,
  noise: (value) => (code) => board.names.noise[code] === value,
  model: (value) => (code) => board.names.model[code] === value,
  metric: (value) => (code) => (value ? board.names.metric[code][0] === value || FAMILY + family[code] === value : family[code] === board.judge),
};

function codes(name, value) {
  const fits = value || name === "metric" ? choices[name](value) : () => true;
  return Uint8Array.from(board.names[name], (_, code) => fits(code));
}
/** The cells that the filters leave; `instead` puts other values in the place of some. */
function selected(instead = {}) {
  const wanted = { ...state, ...instead };
  const fits = Object.keys(choices).map((name) => [cells[name], codes(name, wanted[name])]);
  const kept = [];
  for (let cell = 0; cell < cells.seed.length; cell++) if (fits.every(([column, good]) => good[column[cell]])) kept.push(cell);
  return kept;
}

function readAddress() {
  const given = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  for (const key of Object.keys(EMPTY)) state[key] = given.get(key) ?? "";
  for (const key of Object.keys(choices)) {  // of another page: there is no such thing here
    if (state[key] && !codes(key, state[key]).some(Boolean)) state[key] = "";
  }
}
function writeAddress() {
  const told = new URLSearchParams(Object.entries(state).filter(([, value]) => value));
  history.replaceState(null, "", `${location.pathname}${location.search}${String(told) ? `#${told}` : ""}`);
}

function fillFilters() {
  const option = (value, text) => el("option", { value }, text);
  const datasets = new Map();
  for (const pair of board.names.problem) datasets.set(pair[0], [...(datasets.get(pair[0]) || []), pair]);
  const problems = [option("", "all")];
  for (const [dataset, own] of datasets) {
    if (own.length === 1) problems.push(option(dataset, dataset));
    else problems.push(el("optgroup", { label: dataset }, option(dataset, `${dataset}, all`), ...own.map((p) => option(label(p), p[1]))));
  }
  filters.elements.problem.append(...problems);
  for (const name of ["noise", "model"]) filters.elements[name].append(option("", "all"), ...board.names[name].filter(Boolean).map((v) => option(v, v)));
  const metrics = [];
  for (const one of [...new Set(family)]) {
    const own = board.names.metric.filter((pair) => pair[1] === one);
    const all = one === board.judge ? option("", "all") : option(FAMILY + one, `${one}, all`);
    metrics.push(el("optgroup", { label: one }, all, ...own.map((pair) => option(pair[0], pair[0]))));
  }
  filters.elements.metric.append(...metrics);
}
/** Values that would leave no cell beside the other filters cannot be chosen. */
function disableEmpty() {
  for (const name of Object.keys(choices)) {
    const left = new Uint8Array(board.names[name].length);
    for (const cell of selected(name === "metric" ? {} : { [name]: "" })) left[cells[name][cell]] = 1;
    if (name === "metric") for (const one of new Set(family)) for (const cell of selected({ metric: FAMILY + one })) left[cells.metric[cell]] = 1;
    for (const choice of $$("option", filters.elements[name])) {
      choice.disabled = choice.value !== "" && !codes(name, choice.value).some((good, code) => good && left[code]);
    }
    filters.elements[name].value = state[name];
  }
  filters.elements.interval.value = state.interval;
  filters.elements.q.value = state.q;
}

/* ---- the leaderboard ---- */

const fixedFacts = board.static;
const COLUMNS = [
  { key: "rank", title: "Rank", number: true, up: true },
  { key: "method", title: "Method", up: true },
  { key: "skill", title: "Skill", number: true },
  { key: "mark", title: null },
  { key: "width", title: "95% interval", number: true, up: true },
  { key: "cells", title: "Cells", number: true },
  { key: "faithfulness", title: "Faithfulness", number: true },
  { key: "agreement", title: "Agreement", number: true },
  { key: "ms", title: "ms/row", number: true, up: true },
  { key: "failed", title: "Failed", number: true },
];
let rows = [], domain = [-0.1, 1.05], whole = [];

function compute() {
  const keep = selected();
  const { found, common, ranked, drawn } = summary(keep);
  const faithful = family.includes("faithfulness") ? summary(selected({ metric: `${FAMILY}faithfulness` })).found : null;
  whole = Object.keys(choices).every((key) => !state[key]);
  rows = found.map((one, m) => ({
    ...one, method: board.methods[m], control: fixedFacts.control?.[m] ?? false,
    faithfulness: faithful ? faithful[m].skill : NaN, agreement: fixedFacts.agreement?.[m] ?? NaN,
    ms: known(fixedFacts.seconds_per_row?.[m]) ? 1000 * fixedFacts.seconds_per_row[m] : NaN,
    failed: fixedFacts.failed?.[m] ?? NaN, note: fixedFacts.note?.[m] ?? "",
    rank_low: whole ? fixedFacts.rank_low?.[m] : null, rank_high: whole ? fixedFacts.rank_high?.[m] : null,
  }));
  for (const row of rows) {
    [row.from, row.to] = state.interval === "like" ? [row.low, row.high] : [row.low_here, row.high_here];
    row.width = row.to - row.from;
  }
  const ends = rows.flatMap((row) => [row.skill, row.low_here, row.high_here]).filter(known);
  domain = [Math.max(-1, Math.min(-0.1, ...ends)), Math.min(1.5, Math.max(1.05, ...ends))];
  const names = ranked.length === rows.length ? "all" : `${ranked.length} of ${rows.length}`;
  $("#told").textContent = common.length
    ? `Ranked on the ${common.length.toLocaleString("en")} of ${keep.length.toLocaleString("en")} cells that the ranked methods share; ${names} methods are ranked, on ${drawn.problems} problem${drawn.problems === 1 ? "" : "s"} and ${drawn.draws} draws.`
    : "No method has a score in this selection.";
}

function ordered() {
  const [key, way] = (state.sort || "skill.desc").split(".");
  const sign = way === "asc" ? 1 : -1, text = key === "method";
  const wanted = state.q.toLowerCase();
  return rows.filter((row) => row.method.toLowerCase().includes(wanted)).sort((a, b) => {
    if (text) return sign * (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0);
    const lacks = !known(a[key]) - !known(b[key]);  // what is not known is last either way
    return lacks || (known(a[key]) ? sign * (a[key] - b[key]) : 0) || (a.method < b.method ? -1 : 1);
  });
}

/** A name that can go on after an underline, a bracket or a comma. */
const breakable = (name) => name.split(/(?<=[_[,=])/).flatMap((part) => [part, el("wbr")]);

const WIDE = 176, TALL = 18;
const across = (value) => 4 + (WIDE - 8) * (Math.min(Math.max(value, domain[0]), domain[1]) - domain[0]) / (domain[1] - domain[0]);
function line(kind, from, to, y = [TALL / 2, TALL / 2]) { return el("line", { class: kind, x1: across(from), x2: across(to), y1: y[0], y2: y[1] }); }
function drawMark(row) {
  const said = `${fixed(row.skill, 3)}` + (known(row.low_here) ? `, ${fixed(row.low_here, 3)} to ${fixed(row.high_here, 3)}` : "");
  const mark = el("svg", { class: "mark", viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", role: "img", "aria-label": said });
  mark.append(line("axis chance", 0, 0, [0, TALL]), line("axis", 1, 1, [0, TALL]));
  if (!known(row.skill)) return mark;
  if (known(row.low)) mark.append(line("thin", row.low, row.high));
  if (known(row.low_here)) mark.append(line("thick", row.low_here, row.high_here));
  mark.append(el("circle", { class: "dot", cx: across(row.skill), cy: TALL / 2, r: 2.2 }));
  return mark;
}
function scaleMark() {
  const mark = el("svg", { class: "mark", viewBox: `0 0 ${WIDE} 16`, role: "img", "aria-label": "0 is chance, 1 is exact" });
  mark.append(el("text", { x: across(0), y: 12, "text-anchor": across(0) < 24 ? "start" : "middle" }, "0 chance"), el("text", { x: across(1), y: 12, "text-anchor": "end" }, "1 exact"));
  return mark;
}

function head() {
  const shownColumns = visible();
  const [sorted, way] = (state.sort || "skill.desc").split(".");
  return el("tr", {}, ...shownColumns.map((column) => {
    const kind = [column.number ? "number" : "", column.key === "method" ? "method" : ""].join(" ").trim();
    if (!column.title) return el("th", { scope: "col", class: kind }, scaleMark());
    const sort = sorted === column.key ? (way === "asc" ? "ascending" : "descending") : "none";
    const button = el("button", { type: "button", "data-sort": column.key }, column.title);
    return el("th", { scope: "col", class: kind, "aria-sort": sort, "data-key": column.key }, button);
  }));
}
const visible = () => COLUMNS.filter(({ key }) => {
  return !["faithfulness", "agreement", "failed"].includes(key) || rows.some((row) => known(row[key]) && (key !== "failed" || row.failed > 0));
});

function bodyRow(row) {
  const own = (key, text, kind = "number", value = row[key]) => el("td", { class: kind, "data-key": key, "data-value": known(value) ? value : null }, text);
  const rank = known(row.rank) ? `${row.rank}` : "–";
  const range = known(row.rank_low) && row.rank_low !== row.rank_high ? ` (${Math.round(row.rank_low)}–${Math.round(row.rank_high)})` : "";
  const name = el("th", { scope: "row", class: "method" }, ...breakable(row.method));
  if (row.note) name.append(el("sup", {}, el("a", { href: "#notes", "aria-label": "note", title: row.note }, "†")));
  if (row.control) name.append(el("span", { class: "tag" }, "control"));
  const made = {
    rank: () => { const td = own("rank", rank); if (range) td.append(el("span", { class: "quiet" }, range)); return td; },
    method: () => name,
    skill: () => own("skill", fixed(row.skill, 3) || "not ranked", known(row.skill) ? "number skill" : "number"),
    mark: () => el("td", {}, drawMark(row)),
    width: () => el("td", { class: "number quiet", "data-key": "width", "data-low": row.from, "data-high": row.to }, known(row.from) ? `${fixed(row.from, 3)} to ${fixed(row.to, 3)}` : ""),
    cells: () => own("cells", row.cells.toLocaleString("en")),
    faithfulness: () => own("faithfulness", fixed(row.faithfulness, 2)),
    agreement: () => own("agreement", fixed(row.agreement, 2)),
    ms: () => own("ms", threeDigits(row.ms)),
    failed: () => own("failed", brief(row.failed)),
  };
  return el("tr", { class: known(row.skill) ? null : "unranked", "data-method": row.method }, ...visibleKeys.map((key) => made[key]()));
}
let visibleKeys = [];

function show() {
  const focused = document.activeElement?.dataset?.sort;
  visibleKeys = visible().map(({ key }) => key);
  $("#board thead").replaceChildren(head());
  const body = document.createDocumentFragment();
  for (const row of ordered()) body.append(bodyRow(row));
  $("#board tbody").replaceChildren(body);
  const noted = rows.filter((row) => row.note);
  $("#notes").hidden = !noted.length;
  $("#notes dl").replaceChildren(...noted.flatMap((row) => [el("dt", {}, row.method), el("dd", {}, row.note)]));
  if (focused) $(`#board [data-sort="${focused}"]`)?.focus();
}
function update(recompute = true) {
  if (recompute) { compute(); disableEmpty(); }
  show();
  writeAddress();
}

$("#board thead").addEventListener("click", (event) => {
  const key = event.target.closest("[data-sort]")?.dataset.sort;
  if (!key) return;
  const [old, way] = (state.sort || "skill.desc").split(".");
  const first = COLUMNS.find((column) => column.key === key).up ? "asc" : "desc";
  state.sort = `${key}.${old === key ? (way === "asc" ? "desc" : "asc") : first}`;
  update(false);
});
$("#board tbody").addEventListener("click", (event) => {  // else the notes would take the place of the selection in the address
  if (!event.target.closest("a[href='#notes']")) return;
  event.preventDefault();
  $("#notes").open = true;
  $("#notes").scrollIntoView({ block: "nearest" });
});
filters.addEventListener("change", (event) => { if (event.target.name !== "q") { state[event.target.name] = event.target.value; update(); } });
filters.elements.q.addEventListener("input", (event) => { state.q = event.target.value; update(false); });
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const name of [...Object.keys(choices), "interval", "q", "sort"]) state[name] = "";
  update();
});

/* ---- other tables ---- */

const LONG = 500;
/** A table of named columns, sortable; long ones in parts. */
function makeTable(columns) {
  const names = Object.keys(columns), count = names.length ? columns[names[0]].length : 0;
  const numeric = (name) => columns[name].every((v) => v === null || typeof v === "number") && columns[name].some((v) => v !== null);
  const isNumber = Object.fromEntries(names.map((name) => [name, numeric(name)]));
  const order = Array.from({ length: count }, (_, i) => i);
  const table = el("table"), thead = el("thead"), body = el("tbody");
  let sorted = null, up = true, most = LONG;
  const text = (name, i) => { const v = columns[name][i]; return v === null ? "" : isNumber[name] ? brief(v) : v === true ? "yes" : v === false ? "no" : String(v); };
  const part = Number.parseFloat;
  const compare = (name) => (a, b) => {
    const [x, y] = [columns[name][a], columns[name][b]];
    if (x === null || y === null || x === "" || y === "") return (x === null || x === "") - (y === null || y === "");
    const both = isNumber[name] ? [x, y] : [part(x), part(y)], lacks = Number.isNaN(both[0]) - Number.isNaN(both[1]);
    if (lacks) return lacks;  // a word among numbers is last either way
    const by = Number.isNaN(both[0]) ? (x < y ? -1 : x > y ? 1 : 0) : both[0] - both[1];
    return up ? by : -by;
  };
  function fill() {
    thead.replaceChildren(el("tr", {}, ...names.map((name) => {
      const button = el("button", { type: "button" }, name.replaceAll("_", " "));
      button.addEventListener("click", () => {
        up = sorted === name ? !up : !isNumber[name];
        sorted = name;
        order.sort(compare(name));
        fill();
        $$("button", thead)[names.indexOf(name)].focus();
      });
      const sort = sorted === name ? (up ? "ascending" : "descending") : "none";
      return el("th", { scope: "col", class: isNumber[name] ? "number" : "", "aria-sort": sort }, button);
    })));
    body.replaceChildren(...order.slice(0, most).map((i) => el("tr", {}, ...names.map((name, c) => (c ? el("td", { class: isNumber[name] ? "number" : text(name, i).length < 32 ? "short" : "" }, text(name, i)) : el("th", { scope: "row" }, text(name, i)))))));
    if (count > most) {
      const button = el("button", { type: "button" }, `Show all ${count.toLocaleString("en")} rows`);
      button.addEventListener("click", () => { most = count; fill(); });
      body.append(el("tr", {}, el("td", { colspan: names.length }, button)));
    }
  }
  fill();
  table.append(thead, body);
  return table;
}
/** The breakdown points of the problem and noise that the reader chose. */
function showBreakdowns() {
  const place = $("[data-table='breakdowns']"), chart = page.charts.curves;
  if (!place) return;
  const { where, ...rest } = page.tables.breakdowns;
  const wanted = chart ? chart.panels[chosenPanel("curves")][0] : null;
  const kept = where.map((text, i) => (text === wanted ? i : -1)).filter((i) => i >= 0);
  const columns = chart ? Object.fromEntries(Object.entries(rest).map(([key, values]) => [key, kept.map((i) => values[i])])) : page.tables.breakdowns;
  place.replaceChildren(makeTable(columns));
}
function makeTables(within) {
  for (const place of $$("[data-table]", within)) if (!place.firstChild) place.append(makeTable(page.tables[place.dataset.table]));
}
for (const details of $$("details[data-later]")) details.addEventListener("toggle", () => { if (details.open) makeTables(details); });

function panelRows(name) {
  const { rows: columns, panels } = page.charts[name];
  const { panel, ...rest } = columns;
  if (!panel || !panels.length) return rest;
  const kept = panel.map((p, i) => (p === chosenPanel(name) ? i : -1)).filter((i) => i >= 0);
  return Object.fromEntries(Object.entries(rest).map(([key, values]) => [key, kept.map((i) => values[i])]));
}
const chosenPanel = (name) => Math.max(0, page.charts[name].panels.findIndex(([text]) => text === state.panel));

/* ---- cells without a score ---- */

function showReasons() {
  const place = $("#reason-groups");
  if (!place) return;
  const { status, reason, method, cells: count, models } = page.tables.reasons, only = $("#reason-method").value;
  const groups = new Map();
  status.forEach((end, i) => {
    if (only && method[i] !== only) return;
    const key = JSON.stringify([end, reason[i]]);
    if (!groups.has(key)) groups.set(key, { status: end, reason: reason[i], cells: 0, rows: [] });
    groups.get(key).cells += count[i];
    groups.get(key).rows.push(i);
  });
  place.replaceChildren(...[...groups.values()].map((group) => {
    const summary = el("summary", {}, el("span", { class: "count" }, group.cells.toLocaleString("en")), el("span", { class: "status" }, group.status), el("span", { class: "why" }, group.reason || "no reason recorded"));
    const details = el("details", { class: "reason" }, summary);
    details.addEventListener("toggle", () => {
      if (!details.open || details.children.length > 1) return;
      const take = (column) => group.rows.map((i) => column[i]);
      details.append(el("div", { class: "scroll tall", tabindex: 0 }, makeTable({ method: take(method), cells: take(count), models: take(models) })));
    });
    return details;
  }));
}
function fillReasons() {
  const select = $("#reason-method");
  if (!select) return;
  const names = [...new Set(page.tables.reasons.method)];
  select.append(el("option", { value: "" }, "all"), ...names.map((name) => el("option", { value: name }, name)));
  select.addEventListener("change", showReasons);
  showReasons();
}

/* ---- charts ---- */

const drawn = new Map();
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
function filled(value, tokens) {
  if (typeof value === "string") return Object.hasOwn(tokens, value) ? tokens[value] : value;
  if (Array.isArray(value)) return value.map((v) => filled(v, tokens));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, filled(v, tokens)]));
  return value;
}
function look() {
  const [ink, soft, line] = [colour("ink"), colour("soft"), colour("line")];
  const font = getComputedStyle(document.body).fontFamily;
  const axis = { labelColor: soft, titleColor: soft, gridColor: line, domainColor: colour("faint"), tickColor: colour("faint"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 9 };
  return { background: null, font, axis, axisX: { grid: false }, axisQuantitative: { tickCount: 6 }, legend: { labelColor: ink, titleColor: soft, labelFontSize: 12, titleFontWeight: "normal" }, view: { stroke: null }, text: { font } };
}
/** On a phone: legends in fewer columns, shorter labels. */
function tighten(value) {
  if (!value || typeof value !== "object") return;
  if (value.legend?.columns) value.legend = { ...value.legend, columns: Math.min(2, value.legend.columns), labelLimit: value.legend.columns > 1 ? 115 : 240 };
  if (value.axis?.labelLimit) value.axis = { ...value.axis, labelLimit: 110 };
  Object.entries(value).forEach(([key, inner]) => { if (key !== "datasets") tighten(inner); });
}
function wake() {
  if (window.vegaEmbed) return;
  const script = el("script");
  script.textContent = $("#vega").textContent;
  document.head.append(script);
}
async function draw(figure) {
  wake();
  const name = figure.dataset.chart, chart = page.charts[name], place = $(".plot", figure);
  const axis = chart.panels.length ? chart.panels[chosenPanel(name)][1] : "";
  const tokens = { $ink: colour("ink"), $faint: colour("faint"), $accent: colour("accent"), $axis: axis };
  const columns = panelRows(name), keys = Object.keys(columns);
  const values = keys.length ? columns[keys[0]].map((_, i) => Object.fromEntries(keys.map((key) => [key, columns[key][i]]))) : [];
  const spec = { ...filled(chart.spec, tokens), datasets: { rows: values }, config: look() };
  if (spec.width?.step) place.classList.add("fixed");
  const narrow = place.parentElement.clientWidth < 500;
  if (narrow) tighten(spec);
  const dark = document.documentElement.dataset.theme === "dark";
  const actions = { export: true, source: false, compiled: false, editor: false };
  const turn = (drawn.get(name)?.turn ?? 0) + 1;
  drawn.get(name)?.view?.finalize();
  drawn.set(name, { turn });
  const made = await window.vegaEmbed(place, spec, { mode: "vega-lite", renderer: "svg", ast: true, actions, logLevel: 1, tooltip: { theme: dark ? "dark" : "light" }, downloadFileName: `assay-${name}` });
  if (drawn.get(name).turn !== turn) return;
  drawn.set(name, { turn, view: made });
  if (name === "curves" || name === "profiles") made.view.signal("chosen", state.highlight).runAsync();
  place.dataset.drawn = document.documentElement.dataset.theme;
}
const redraw = (names) => { for (const figure of $$("[data-chart]")) if (drawn.has(figure.dataset.chart) && (!names || names.includes(figure.dataset.chart))) draw(figure); };

function prepareCharts() {
  for (const select of $$("[data-panel]")) {
    const name = select.dataset.panel;
    select.append(...page.charts[name].panels.map(([text]) => el("option", { value: text }, text)));
    select.value = page.charts[name].panels[chosenPanel(name)][0];
    select.addEventListener("change", () => { state.panel = select.value; writeAddress(); redraw([name]); refreshNumbers(name); showBreakdowns(); });
  }
  for (const select of $$("[data-chosen]")) {
    const names = [...new Set(page.charts[select.dataset.chosen].rows.method)];
    select.append(el("option", { value: "" }, "none"), ...names.map((name) => el("option", { value: name }, name)));
    select.value = names.includes(state.highlight) ? state.highlight : "";
    select.addEventListener("change", () => {
      state.highlight = select.value;
      writeAddress();
      for (const other of $$("[data-chosen]")) if (other !== select) other.value = select.value;
      for (const name of ["curves", "profiles"]) drawn.get(name)?.view?.view.signal("chosen", state.highlight).runAsync();
    });
  }
  for (const details of $$("[data-rows]")) details.addEventListener("toggle", () => refreshNumbers(details.dataset.rows));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "400px" });
  for (const figure of $$("[data-chart]")) seen.observe(figure);
}
function refreshNumbers(name) {
  const details = $(`[data-rows="${name}"]`);
  $(".scroll", details)?.remove();
  if (details.open) details.append(el("div", { class: "scroll tall", tabindex: 0 }, makeTable(panelRows(name))));
}

/* ---- the page ---- */

function contents() {
  for (const section of $$("main > section")) {
    const link = el("a", { href: `#${section.id}` }, $("h2", section).textContent);
    link.addEventListener("click", (event) => { event.preventDefault(); state.at = section.id; writeAddress(); section.scrollIntoView(); section.tabIndex = -1; section.focus({ preventScroll: true }); });
    $("#contents").append(el("li", {}, link));
  }
}
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const button = $("#theme");
  button.textContent = theme === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-label", theme === "dark" ? "Use light colours" : "Use dark colours");
  redraw();
}
$("#theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  setTheme(theme);
  try { localStorage.setItem("assay-theme", theme); } catch { /* a page from disk may have no storage */ }
});
for (const button of $$("[data-copy]")) button.addEventListener("click", async () => {
  const source = document.getElementById(button.dataset.copy), before = button.textContent;
  try { await navigator.clipboard.writeText(source.textContent); button.textContent = "Copied"; } catch {  // not allowed: mark it for the reader's own keys
    getSelection().selectAllChildren(source);
    button.textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => { button.textContent = before; }, 2500);
});

readAddress();
setTheme(document.documentElement.dataset.theme || "light");
fillFilters();
contents();
update();
fillReasons();
for (const place of $$("[data-table]")) if (!place.closest("details[data-later]") && place.dataset.table !== "breakdowns") place.append(makeTable(page.tables[place.dataset.table]));
prepareCharts();
showBreakdowns();
if (state.at) document.getElementById(state.at)?.scrollIntoView();
window.addEventListener("hashchange", () => { if (location.hash.includes("=")) { readAddress(); update(); redraw(["curves"]); } });
document.documentElement.dataset.ready = "yes";
})();
