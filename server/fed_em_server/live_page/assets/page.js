// Keeps the state that the server tells, and draws it. All text goes in as text: nothing of a session is ever read as HTML.

import { drawFit, drawGain, drawParticipation, drawSteps, drawWeights } from "./charts.js";
import * as words from "./words.js";

const STANDINGS = {
  expected: ["○", "not here yet", "quietly"], waiting: ["◔", "waits for next window", "other"], in: ["●", "in", "good"],
  blocked: ["◒", "waits for its block", "good"], late: ["◐", "late", "bad"], recovered: ["◆", "recovered", "other"],
  away: ["○", "away", "quietly"], refused: ["✕", "refused", "bad"],
};
const TENANTS_AT_FIRST = 24, ROUNDS_IN_NUMBERS = 500;
// A round's picture is drawn at most so often, in milliseconds.
const BETWEEN_FRAMES = 300;

const state = { session: null, now: null, rounds: [], told: 0, everybody: false };
const $ = (id) => document.getElementById(id);

function element(tag, text = "", kind = "") {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function say(id, text) {
  const place = $(id);
  if (place.textContent !== text) place.textContent = text;
}

// ---- what is told

function take(told) {
  state.session = told.session;
  state.now = told.now;
  state.rounds = [...state.rounds.slice(0, told.first), ...told.rounds];
  state.told = performance.now();
  draw();
}

function listen() {
  const source = new EventSource("events");
  source.onmessage = (event) => {
    $("lost").hidden = true;
    take(JSON.parse(event.data));
    if (state.now?.ending.length) source.close();
  };
  source.onerror = () => {
    const lost = $("lost");
    const gone = source.readyState === EventSource.CLOSED;
    lost.querySelector("span").textContent = `The server does not answer. What is shown is of ${new Date().toLocaleTimeString()}; ` +
      (gone ? "if it runs again, it has a new address." : "this page goes on asking.");
    if (lost.hidden) lost.hidden = false;
    $("stage").classList.remove("busy");
  };
}

// ---- drawing

let drawing = 0;

function draw() {
  if (drawing || document.hidden) return;
  drawing = window.setTimeout(() => { drawing = 0; }, BETWEEN_FRAMES);
  window.setTimeout(() => { if (state.drawn !== state.told) draw(); }, BETWEEN_FRAMES + 10);
  state.drawn = state.told;
  if (!state.session) return;
  drawHead();
  drawFigures();
  drawCharts();
  drawTenants();
  drawNumbers();
  drawHappenings();
}

function seconds() {
  const { now } = state;
  return now.ending.length ? now.second : now.second + (performance.now() - state.told) / 1000;
}

function drawHead() {
  const { session, now } = state;
  document.title = `${now.ending.length ? "" : `${now.round ? `${now.round} · ` : ""}`}${session.title}: a session of fed-em`;
  say("over", `Live session of ${session.federation}`);
  say("title", session.title);
  say("lead", `A ${session.model}, fitted to ${session.columns.length} ${session.columns.length === 1 ? "column" : "columns"} of rows that ${session.tenants.length} tenants keep to themselves.`);
  banners();
  facts();
}

function drawStage() {
  const { session, now } = state;
  if (!session) return;
  const since = seconds() - now.since, over = now.ending.length > 0, stage = $("stage");
  // Whoever listens hears of what lasts, and not of every step of every round.
  say("announced", over ? now.ending.join(" ") : now.stage === "paused" ? "Paused." : now.stage === "gathering" ? "Gathering tenants." : "Rounds go on.");
  stage.className = `stage ${over ? (now.failed ? "failed" : "done") : now.stage === "paused" ? "paused" : $("lost").hidden ? "busy" : ""}`;
  if (over) {
    say("doing", now.ending[0]);
    say("waiting", now.ending.slice(1).join(" "));
    say("elapsed", `ended after ${words.seconds(now.second)}`);
    return;
  }
  say("doing", now.round && now.stage !== "gathering" && now.stage !== "paused" ? `Round ${now.round}: ${now.doing}` : capital(now.doing));
  const whom = words.names(now.waiting), is = now.waiting.length === 1 ? "is" : "are";
  let waiting = "";
  if (now.stage === "paused") waiting = `until ${now.waiting.length ? `${whom} ${is} back` : "tenants are back"}; the session ends after ${words.seconds(session.pause)}.`;
  else if (now.stage === "gathering") waiting = `${now.here} of ${session.tenants.length} are here, at least ${session.minimum} are needed${now.waiting.length ? `; waiting for ${whom}` : ""}.`;
  else if (now.waiting.length && since > 0.4) waiting = `waiting for ${whom}.`;
  else if (now.lacking) waiting = `in the last sum ${now.lacking}.`;
  say("waiting", waiting);
  say("elapsed", `${since >= 1 ? `for ${words.clock(since)}, ` : ""}session ${words.clock(seconds())}`);
}

function capital(text) { return text.charAt(0).toUpperCase() + text.slice(1); }

function banners() {
  const { session } = state;
  const lines = [[session.trust, session.banner, session.certified]];
  if (session.private) lines.push(["private", `${session.private}.`, true]);
  for (const doubt of session.doubts) lines.push(["noisy", doubt, false]);
  for (const warning of session.warnings) lines.push(["exposed", warning, false]);
  const wanted = JSON.stringify(lines);
  if (state.bannersOf === wanted) return;
  state.bannersOf = wanted;
  $("banners").replaceChildren(...lines.map(([badge, text, calm]) => {
    const line = element("p", "", calm ? "trust calm" : "trust");
    line.append(element("strong", badge), " ", element("span", text));
    return line;
  }));
}

function facts() {
  const { session } = state;
  const wanted = JSON.stringify([session.session, session.model]);
  if (state.factsOf === wanted) return;
  state.factsOf = wanted;
  const pairs = { session: session.session, started: session.started, transport: session.transport, model: session.model,
    tenants: `${session.tenants.length}, ${session.arranged}`, columns: session.columns.join(", ") };
  $("facts").replaceChildren(...Object.entries(pairs).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function curve() {
  return state.rounds.filter((r) => r.onward && r.fit !== null && r.iteration > 0);
}

function gains() {
  const seen = state.rounds.filter((r) => r.onward && r.objective !== null && r.iteration > 0);
  return seen.slice(1).map((r, k) => ({ x: r.iteration, y: r.objective - seen[k].objective, round: r.round }));
}

function drawFigures() {
  const { session, now, rounds } = state;
  const fits = curve(), last = fits.at(-1), before = fits.at(-2), gained = gains().at(-1);
  const complete = rounds.filter((r) => r.complete).length, times = rounds.map((r) => r.seconds).sort((a, b) => a - b);
  const troubled = Object.values(now.troubles).reduce((sum, count) => sum + count, 0);
  const gain = ["gain of the objective", gained ? words.power(gained.y) : "none yet",
    session.tolerance ? `converged below ${words.power(session.tolerance)}` : "goes on to its last round"];
  const figures = [
    ["log-likelihood", last ? words.decimal(last.fit) : "none yet",
      last && before ? [`${words.decimal(last.fit - before.fit, 5, true)} nats a row`, last.fit >= before.fit ? "rise" : "fall"] : "nats a row, standardised"],
    now.privacy ? privacySpent(now.privacy) : gain,
    ["round", now.round ? String(now.round) : "none yet", now.serves],
    ["sums opened", String(rounds.length), `${complete} with every tenant`],
    ["tenants here", `${now.here} of ${session.tenants.length}`, session.arranged],
    ["bytes", `↑ ${words.bytes(now.bytes[0])}  ↓ ${words.bytes(now.bytes[1])}`, "to and from the server", "small"],
    ["a round takes", times.length ? words.seconds(times[times.length >> 1]) : "none yet", times.length ? `half of them; the last ${words.seconds(rounds.at(-1).seconds)}` : ""],
    ["out of the ordinary", troubled ? String(troubled) : "nothing", troubled ? "see what happened, below" : "no refusal, fault, failure, pause"],
  ];
  $("figures").replaceChildren(...figures.map(([name, value, note, size]) => {
    const box = element("div");
    const [text, kind] = Array.isArray(note) ? note : [note, ""];
    box.append(element("dt", name), element("dd", value, `value ${size ?? ""}`), element("dd", text, `about ${kind}`));
    return box;
  }));
}

function privacySpent(privacy) {
  const spent = privacy.spent === null ? "unknown here" : privacy.spent ? `ε ≤ ${Number(privacy.spent.toPrecision(3))}` : "nothing yet";
  return ["privacy spent", spent, `of ε = ${privacy.epsilon}, δ = ${words.power(privacy.delta)}; ${privacy.started} of ${privacy.sums} sums`];
}

function drawCharts() {
  const { session, rounds } = state;
  drawFit($("fit"), curve().map((r) => ({ x: r.iteration, y: r.fit, whole: r.complete })));
  drawGain($("gain"), gains(), session.tolerance);
  $("tolerance-key").hidden = !session.tolerance;
  drawParticipation($("participation"), session, rounds);
  const weighted = rounds.filter((r) => r.weights.length);
  const steady = weighted.filter((r) => r.weights.length === weighted.at(-1).weights.length);
  $("weights-section").hidden = !steady.length;
  if (steady.length) drawWeights($("weights"), steady.map((r) => ({ x: r.iteration, weights: r.weights })));
  const over = (value) => rounds.map((r) => ({ x: r.round, y: value(r) }));
  drawSteps($("bytes"), [{ name: "from the server", points: over((r) => r.bytes[1]) }, { name: "to it", dashed: true, points: over((r) => r.bytes[0]) }],
    (value) => words.bytes(Math.round(value)), "Bytes of every round, on a logarithmic scale");
  drawSteps($("seconds"), [{ points: over((r) => r.seconds) }], words.seconds, "Time of every round, on a logarithmic scale");
  say("convergence-note", session.tolerance
    ? "The fit climbs its objective. It has converged when the gain between two sums of the same terms is below the tolerance."
    : "Noise, or a new batch of rows, is in every sum: the fit does not wait for it to stand still, and goes on to its last round.");
  say("participation-note", session.blocks.length > 1
    ? `One cell for each tenant and round. A sum holds each of the ${session.blocks.length} blocks whole or not at all.`
    : session.blocks.length ? "One cell for each tenant and round. A sum holds all tenants or is not taken." : "One cell for each tenant and round.");
}

function drawTenants() {
  const { session, now, rounds } = state;
  const counts = session.tenants.map(() => [0, 0, 0, 0, 0]);
  for (const round of rounds) for (let index = 0; index < counts.length; index += 1) counts[index][round.parts[index]] += 1;
  const order = session.tenants.map((_, index) => index), few = order.length > TENANTS_AT_FIRST && !state.everybody;
  const calm = (index) => Number(now.standings[index] === "in");
  if (few) order.sort((a, b) => calm(a) - calm(b) || a - b).splice(TENANTS_AT_FIRST);
  $("tenants").tBodies[0].replaceChildren(...order.map((index) => {
    const [glyph, text, kind] = STANDINGS[now.standings[index]], line = element("tr");
    const standing = element("td", "", `standing ${kind}`), mark = element("i", glyph, kind);
    mark.setAttribute("aria-hidden", "true");
    standing.append(mark, text);
    const name = element("th", session.tenants[index], "tenant");
    name.scope = "row";
    line.append(name, standing, ...counts[index].map((count) => element("td", String(count), "number")));
    return line;
  }));
  const more = $("more");
  more.hidden = session.tenants.length <= TENANTS_AT_FIRST;
  say("more", few ? `Show all ${session.tenants.length} tenants; these are those that need a look, and some others` : "Show fewer");
}

function drawNumbers() {
  if (!$("numbers").open) return;
  const gained = new Map(gains().map((g) => [g.round, g.y]));
  const lines = state.rounds.slice(-ROUNDS_IN_NUMBERS).reverse().map((r) => {
    const line = element("tr"), here = [...r.parts].filter((part) => part === "0" || part === "1").length;
    const cells = [r.round, r.start ? `start ${r.start}` : r.iteration ? `iteration ${r.iteration}` : "moments",
      r.fit === null ? "" : words.decimal(r.fit, 6), gained.has(r.round) ? words.power(gained.get(r.round)) : "",
      here, r.stale, words.bytes(r.bytes[0]), words.bytes(r.bytes[1]), words.seconds(r.seconds)];
    line.append(...cells.map((text, k) => element("td", String(text), k === 1 ? "" : "number")));
    return line;
  });
  $("numbers").querySelector("tbody").replaceChildren(...lines);
}

function drawHappenings() {
  const { now } = state;
  $("troubles").replaceChildren(...Object.entries(now.troubles).map(([name, count]) => {
    const box = element("div", "", count ? "some" : "");
    box.append(element("dt", count === 1 ? name.replace(/s$/, "") : name), element("dd", String(count)));
    return box;
  }));
  $("happenings").tBodies[0].replaceChildren(...now.happenings.map(([second, text]) => {
    const line = element("tr");
    line.append(element("td", words.clock(second), "number"), element("td", `${text}.`.replace("..", ".")));
    return line;
  }));
}

// ---- what the reader does

$("more").addEventListener("click", () => { state.everybody = !state.everybody; drawTenants(); });
$("numbers").addEventListener("toggle", () => { if (state.session) drawNumbers(); });
document.addEventListener("visibilitychange", draw);
let width = document.body.clientWidth;
new ResizeObserver(() => {
  if (document.body.clientWidth === width || !state.session) return;
  width = document.body.clientWidth;
  drawCharts();
}).observe(document.body);
window.setInterval(drawStage, 200);
listen();
