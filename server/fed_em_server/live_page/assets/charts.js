// Charts as inline SVG, drawn anew in the pixels that there are, so that their text stays legible on a telephone.

import * as words from "./words.js";

const NS = "http://www.w3.org/2000/svg";
// From so many points on, single ones are no longer marked.
const MANY = 160;
const COLOURS = 10;
const LOW = 84;
// Where a pointer rests while charts are drawn anew beneath it, by container.
const POINTERS = new WeakMap();

export function svg(tag, attributes = {}, text = "") {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

/** A drawing area within margins, in a container that is emptied. `inspect(x, y)` says what a pointer is at: [text, x of a guide]. */
class Canvas {
  constructor(container, height, label, { top = 8, right = 12, bottom = 24, left = 52 } = {}) {
    this.container = container;
    this.width = Math.max(container.clientWidth, 160);
    this.height = height;
    this.box = { left, top, right: this.width - right, bottom: height - bottom };
    this.root = svg("svg", { viewBox: `0 0 ${this.width} ${height}`, height, role: "img", "aria-label": label });
  }

  add(tag, attributes, text) { return this.root.appendChild(svg(tag, attributes, text)); }

  text(x, y, said, anchor = "middle", kind = "") {
    return this.add("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor, class: kind }, said);
  }

  show(inspect = null) {
    this.container.querySelector("svg")?.remove();
    this.container.append(this.root);
    let readout = this.container.querySelector(".readout");
    if (!readout) {
      readout = document.createElement("div");
      readout.className = "readout";
      readout.hidden = true;
      readout.setAttribute("aria-hidden", "true");
      this.container.prepend(readout);
    }
    if (!inspect) { readout.hidden = true; return; }
    const guide = this.add("line", { class: "guide", y1: this.box.top, y2: this.box.bottom, visibility: "hidden" });
    const hide = () => { readout.hidden = true; guide.setAttribute("visibility", "hidden"); };
    const point = ({ clientX, clientY }) => {
      POINTERS.set(this.container, { clientX, clientY });
      const drawn = this.root.getBoundingClientRect();
      const found = inspect(clientX - drawn.left, clientY - drawn.top);
      if (!found) return hide();
      readout.textContent = found[0];
      readout.hidden = false;
      for (const end of ["x1", "x2"]) guide.setAttribute(end, found[1].toFixed(1));
      guide.setAttribute("visibility", "visible");
    };
    this.root.addEventListener("pointermove", point);
    this.root.addEventListener("pointerleave", () => { POINTERS.delete(this.container); hide(); });
    if (POINTERS.has(this.container)) point(POINTERS.get(this.container));
  }

  /** A low quiet field in place of a chart that has nothing to show yet. */
  nothing(said) {
    this.root.setAttribute("viewBox", `0 0 ${this.width} ${LOW}`);
    this.root.setAttribute("height", LOW);
    this.add("rect", { class: "field", width: this.width, height: LOW, rx: 6 });
    this.text(this.width / 2, LOW / 2 + 4, said, "middle", "none");
    this.show();
  }
}

function linear([low, high], [from, to]) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function ticks(low, high, most) {
  const span = high - low || Math.abs(high) || 1, raw = span / Math.max(most, 1), scale = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * scale).find((candidate) => candidate >= raw * 0.999999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) found.push(k * step);
  return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function wholeTicks(low, high, most) {
  return ticks(low, high, most).found.filter(Number.isInteger);
}

function drawX(canvas, x, low, high, named) {
  const { left, right, bottom, top } = canvas.box;
  for (const tick of wholeTicks(low, high, (right - left) / 80)) {
    canvas.add("path", { class: "grid", d: `M${x(tick).toFixed(1)} ${top}V${bottom}` });
    canvas.text(x(tick), bottom + 17, String(tick));
  }
  if (named) canvas.text(right, bottom + 17, named, "end");
}

function drawY(canvas, y, found, said) {
  const { left, right } = canvas.box;
  for (const tick of found) {
    canvas.add("path", { class: "grid", d: `M${left} ${y(tick).toFixed(1)}H${right}` });
    canvas.text(left - 8, y(tick) + 4, said(tick), "end");
  }
}

function nearest(points, at, x) {
  return points.reduce((best, point) => (Math.abs(x(point.x) - at) < Math.abs(x(best.x) - at) ? point : best), points[0]);
}

function line(points, x, y) {
  return points.map((p, k) => `${k ? "L" : "M"}${x(p.x).toFixed(1)} ${y(p.y).toFixed(1)}`).join("");
}

/** Points {x, y, whole}: log-likelihood over iterations. */
export function drawFit(container, points) {
  const canvas = new Canvas(container, 260, points.length
    ? `Log-likelihood: ${words.decimal(points[0].y)} at iteration ${points[0].x}, ${words.decimal(points.at(-1).y)} at iteration ${points.at(-1).x}`
    : "Log-likelihood: none yet");
  if (!points.length) return canvas.nothing("comes with the first iteration");
  const { left, right, top, bottom } = canvas.box;
  const lows = points.map((p) => p.y), spread = Math.max(...lows) - Math.min(...lows) || 1e-3;
  const low = Math.min(...lows) - 0.06 * spread, high = Math.max(...lows) + 0.06 * spread;
  const last = Math.max(points.at(-1).x, points[0].x + 4);
  const x = linear([points[0].x, last], [left + 6, right - 6]), y = linear([low, high], [bottom, top]);
  const { found, digits } = ticks(low, high, 5);
  drawY(canvas, y, found, (tick) => words.decimal(tick, digits));
  drawX(canvas, x, points[0].x, last);
  canvas.add("path", { class: "line", d: line(points, x, y) });
  if (points.length <= MANY) {
    for (const p of points) canvas.add("circle", { class: p.whole ? "whole" : "partial", cx: x(p.x).toFixed(1), cy: y(p.y).toFixed(1), r: 2.7 });
  }
  return canvas.show((at) => {
    const p = nearest(points, at, x);
    return [`iteration ${p.x}: ${words.decimal(p.y, 6)} nats a row${p.whole ? "" : ", not everybody fresh in the sum"}`, x(p.x)];
  });
}

/** Points {x, y}: gain of the objective, on a logarithmic scale of its size, against the tolerance. */
export function drawGain(container, points, tolerance) {
  const seen = points.filter((p) => p.y !== 0);
  const canvas = new Canvas(container, 260, seen.length
    ? `Gain of the objective: ${words.power(seen.at(-1).y)} in iteration ${seen.at(-1).x}${tolerance ? `; converged below ${words.power(tolerance)}` : ""}`
    : "Gain of the objective: none yet");
  if (!seen.length) return canvas.nothing("comes with the second iteration");
  const { left, right, top, bottom } = canvas.box;
  const sizes = seen.map((p) => Math.log10(Math.abs(p.y)));
  if (tolerance) sizes.push(Math.log10(tolerance));
  const low = Math.floor(Math.min(...sizes)), high = Math.max(Math.ceil(Math.max(...sizes)), low + 1);
  const last = Math.max(seen.at(-1).x, seen[0].x + 4);
  const x = linear([seen[0].x, last], [left + 6, right - 6]), y = linear([low, high], [bottom, top]);
  const every = Math.ceil((high - low) / 7);
  drawY(canvas, y, Array.from({ length: Math.floor((high - low) / every) + 1 }, (_, k) => low + every * k), (tick) => `10${words.superscript(tick)}`);
  drawX(canvas, x, seen[0].x, last);
  if (tolerance) canvas.add("path", { class: "limit", d: `M${left} ${y(Math.log10(tolerance)).toFixed(1)}H${right}` });
  const drawn = seen.map((p) => ({ ...p, y: Math.log10(Math.abs(p.y)), gain: p.y }));
  canvas.add("path", { class: "line", d: line(drawn, x, y) });
  for (const p of drawn) {
    const [px, py] = [x(p.x), y(p.y)];
    if (p.gain < 0) canvas.add("path", { class: "loss", d: `M${(px - 3).toFixed(1)} ${(py - 3).toFixed(1)}l6 6m0 -6l-6 6` });
    else if (points.length <= MANY) canvas.add("circle", { class: "whole", cx: px.toFixed(1), cy: py.toFixed(1), r: 2.2 });
  }
  return canvas.show((at) => {
    const p = nearest(drawn, at, x);
    return [`iteration ${p.x}: ${words.power(p.gain)} nats a row`, x(p.x)];
  });
}

/** Points {x, weights}: stacked areas. */
export function drawWeights(container, points) {
  const last = points.at(-1), names = last.weights.map((_, k) => `c${k}`);
  const canvas = new Canvas(container, 260, `Mixing weights after iteration ${last.x}: ${last.weights.map((w, k) => `${names[k]} ${words.share(w)}`).join(", ")}`, { right: 34 });
  const { left, right, top, bottom } = canvas.box;
  const shown = points.length > 1 ? points : [points[0], { ...points[0], x: points[0].x + 1 }];
  const x = linear([shown[0].x, shown.at(-1).x], [left, right]), y = linear([0, 1], [bottom, top]);
  const stacked = shown.map((p) => p.weights.reduce((edges, w) => [...edges, edges.at(-1) + w], [0]));
  names.forEach((name, k) => {
    const upper = shown.map((p, i) => `${x(p.x).toFixed(1)} ${y(stacked[i][k + 1]).toFixed(1)}`);
    const lower = shown.map((p, i) => `${x(p.x).toFixed(1)} ${y(stacked[i][k]).toFixed(1)}`).reverse();
    canvas.add("path", { class: `area component-${k % COLOURS}`, d: `M${[...upper, ...lower].join("L")}Z` });
    const ends = stacked.at(-1);
    if (y(ends[k]) - y(ends[k + 1]) >= 10) canvas.text(right + 8, (y(ends[k]) + y(ends[k + 1])) / 2 + 4, name, "start");
  });
  for (const part of [0, 0.5, 1]) canvas.text(left - 8, y(part) + 4, `${100 * part} %`, "end");
  for (const tick of wholeTicks(shown[0].x, shown.at(-1).x, (right - left) / 80)) canvas.text(x(tick), bottom + 17, String(tick));
  return canvas.show((at, height) => {
    const p = nearest(points, at, x), edges = stacked[points.indexOf(p)];
    const k = names.findIndex((_, i) => y(edges[i + 1]) <= height && height <= y(edges[i]));
    return k < 0 ? null : [`iteration ${p.x}: ${names[k]} holds ${words.share(p.weights[k])}`, x(p.x)];
  });
}

/** Series {name, dashed, points: {x, y}}: steps on a logarithmic scale, named by `said`. */
export function drawSteps(container, series, said, label) {
  const all = series.flatMap((s) => s.points.map((p) => p.y)).filter((v) => v > 0);
  const canvas = new Canvas(container, 200, all.length ? label : `${label}: none yet`, { left: 58 });
  if (!all.length) return canvas.nothing("comes with the first round");
  const { left, right, top, bottom } = canvas.box;
  const first = series[0].points[0].x, last = Math.max(series[0].points.at(-1).x, first + 4);
  const low = Math.log10(Math.min(...all)) - 0.12, high = Math.max(Math.log10(Math.max(...all)) + 0.12, low + 0.6);
  const x = linear([first - 0.5, last + 0.5], [left, right]), y = linear([low, high], [bottom, top]);
  const factors = high - low > 2.5 ? [1] : high - low > 1.2 ? [1, 3] : [1, 2, 5];
  const found = [];
  for (let e = Math.floor(low); e <= high; e += 1) for (const f of factors) found.push(f * 10 ** e);
  drawY(canvas, (tick) => y(Math.log10(tick)), found.filter((t) => Math.log10(t) >= low && Math.log10(t) <= high), said);
  drawX(canvas, x, first, last);
  for (const s of series) {
    const d = s.points.filter((p) => p.y > 0).map((p, k) => {
      const height = y(Math.log10(p.y)).toFixed(1);
      return `${k ? "L" : "M"}${x(p.x - 0.5).toFixed(1)} ${height}H${x(p.x + 0.5).toFixed(1)}`;
    });
    canvas.add("path", { class: s.dashed ? "line dashed" : "line", d: d.join("") });
  }
  return canvas.show((at) => {
    const p = nearest(series[0].points, at, x), k = series[0].points.indexOf(p);
    const told = series.map((s) => (s.name ? `${said(s.points[k].y)} ${s.name}` : said(s.points[k].y)));
    return [`round ${p.x}: ${told.join(", ")}`, x(p.x)];
  });
}

// Where in a line a part is drawn, from the middle: readable without its colour.
const HEIGHTS = [[-0.4, 0.4], [-0.4, 0.4], [-0.17, 0.17], [0.08, 0.4], [-0.03, 0.03]];
const PARTS = ["in the sum", "in the sum, recovered", "its block was not whole", "late", "away"];

/** Rounds with `parts`, one digit a tenant: a line for each tenant, block by block. Runs of equal cells are one rectangle. */
export function drawParticipation(container, session, rounds) {
  const blocks = session.blocks.length ? session.blocks : [session.tenants.map((_, index) => index)];
  const n = session.tenants.length, row = n > 60 ? 14 : 20, gap = blocks.length > 1 ? row / 2 : 0;
  const height = n * row + (blocks.length - 1) * gap + 34;
  const longest = Math.min(Math.max(...session.tenants.map((name) => name.length)), 16);
  const label = `Grid of ${n} tenants and ${rounds.length} rounds; the table below gives the same in numbers`;
  const canvas = new Canvas(container, height, label, { left: 14 + 7.3 * longest, right: blocks.length > 1 ? 62 : 12, top: 4, bottom: 26 });
  if (!rounds.length) return canvas.nothing("comes with the first round");
  const { left, right, top, bottom } = canvas.box;
  const first = rounds[0].first, last = Math.max(rounds.at(-1).round, first + 23);
  const x = linear([first - 0.5, last + 0.5], [left, right]), cell = x(1) - x(0), air = cell > 5 ? 1 : 0;
  const middle = new Map(), drawn = PARTS.map(() => []), diamonds = [];
  let at = top + row / 2;
  blocks.forEach((block, number) => {
    for (const index of block) { middle.set(index, at); at += row; }
    if (blocks.length > 1) canvas.text(right + 8, at - (block.length * row) / 2 - row / 2 + 4, `block ${number + 1}`, "start");
    at += gap;
  });
  for (let index = 0; index < n; index += 1) {
    const y = middle.get(index);
    if (row >= 11) canvas.text(left - 8, y + 4, shortened(session.tenants[index], longest), "end", "name");
    for (let k = 0; k < rounds.length;) {
      const part = rounds[k].parts[index];
      let end = k;
      if (!air) while (end + 1 < rounds.length && rounds[end + 1].parts[index] === part && rounds[end + 1].first === rounds[end].round + 1) end += 1;
      const [low, high] = HEIGHTS[part], from = x(rounds[k].first - 0.5) + air / 2, width = x(rounds[end].round + 0.5) - x(rounds[k].first - 0.5) - air;
      drawn[part].push(`M${from.toFixed(1)} ${(y + low * row).toFixed(1)}h${width.toFixed(1)}v${((high - low) * row).toFixed(1)}h${(-width).toFixed(1)}z`);
      if (part === "1" && air) diamonds.push(`M${(from + width / 2).toFixed(1)} ${(y - 3).toFixed(1)}l3 3l-3 3l-3 -3z`);
      k = end + 1;
    }
  }
  drawn.forEach((d, part) => d.length && canvas.add("path", { class: `part-${part}`, d: d.join("") }));
  if (diamonds.length) canvas.add("path", { class: "diamond", d: diamonds.join("") });
  for (const tick of wholeTicks(first, last, (right - left) / 80)) canvas.text(x(tick), bottom + 19, String(tick));
  return canvas.show((px, py) => {
    const number = Math.round(first - 0.5 + (px - left) / cell), round = rounds.find((r) => r.first <= number && number <= r.round);
    const index = [...middle].find(([, y]) => Math.abs(y - py) <= row / 2)?.[0];
    return round && index !== undefined ? [`round ${round.round}, ${session.tenants[index]}: ${PARTS[round.parts[index]]}`, px] : null;
  });
}

function shortened(name, longest) {
  return name.length > longest ? `${name.slice(0, longest - 1)}…` : name;
}
