// What the admin page does: asks the HTTP API once a second, and shows what it says. Names of topics and clients come from anybody:
// they become text nodes, never markup.

const $ = (id) => document.getElementById(id);

const INTERVAL_MS = 1000;
const PATIENCE_MS = 10_000; // for an answer
const POINTS = 300; // of a chart: five minutes
const ROWS = 50;
const SURE_MS = 3000; // in which a connection's button is pressed again
const KEY = "uproar-admin-key"; // in the tab's own storage
const SENT_AWAY = { code: 4000, reason: "disconnected by an operator" };

const grouped = new Intl.NumberFormat("en");

// ---- Formats ----------------------------------------------------------------------------------

/** 1234567 → ["1.23", "MB"]: three digits and an SI unit. */
function scaled(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (bytes >= 999.5 && step < units.length - 1) { bytes /= 1000; step += 1; }
  return [step === 0 ? String(Math.round(bytes)) : bytes.toPrecision(3), units[step]];
}
const size = (bytes) => scaled(bytes).join(" ");

/** A count: exact up to a million, then 1.23M. */
function count(value) {
  if (value < 1e6) return grouped.format(Math.round(value));
  return value < 1e9 ? `${(value / 1e6).toPrecision(3)}M` : `${(value / 1e9).toPrecision(3)}G`;
}
const rate = (value) => (value > 0 && value < 9.95 ? value.toFixed(1) : count(value));

/** 4200 → "4.2 s": the two largest units. */
function time(ms) {
  const s = Math.floor(ms / 1000);
  if (ms === 0) return "–";
  if (s < 1) return `${Math.round(ms)} ms`;
  if (s < 60) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, "0")}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${String(Math.floor(s / 60) % 60).padStart(2, "0")}m`;
  return `${Math.floor(s / 86_400)}d ${String(Math.floor(s / 3600) % 24).padStart(2, "0")}h`;
}

/** Control characters as their pictures (U+2400…), and others that are not seen as their numbers. */
const visible = (text) => String(text)
  .replace(/[\x00-\x1f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0))).replaceAll("\x7f", "\u2421")
  .replace(/[\x80-\x9f]|\p{Cf}|[\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A large number with its unit beside it. */
function quantity(id, value, unit) {
  const node = $(id);
  const small = document.createElement("span");
  small.className = "unit";
  small.textContent = unit;
  node.replaceChildren(value, small);
}

// ---- The server -------------------------------------------------------------------------------

/** An answer that is no 200: what the server says of it. */
class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

async function ask(path, body) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const options = { headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PATIENCE_MS) };
  if (body !== undefined) Object.assign(options, { method: "POST", body, headers: { ...headers, "Content-Type": "application/json" } });
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Refused(response.status, answer.code, answer.message);
  return answer;
}

// ---- What is known ----------------------------------------------------------------------------

const charts = Object.fromEntries(["delivered", "latency", "connections", "memory", "dropped"].map((name) => [name, []]));
let last = null; // the overview before, which rates are counted from
let paused = false;

const sum = (overview, field) => overview.shards.reduce((total, shard) => total + shard[field], 0);

/** What happened a second between two overviews, by shard; null if they are not of one process. */
function rates(before, after) {
  const seconds = before && (after.timestamp - before.timestamp) / 1000;
  if (!seconds || seconds <= 0 || after.uptime < before.uptime || after.shards.length !== before.shards.length) return null;
  const fields = ["received", "delivered", "sentBytes", "dropped", "accepted"];
  return after.shards.map((shard, i) => Object.fromEntries(fields.map((f) => [f, (shard[f] - before.shards[i][f]) / seconds])));
}

/** What was counted of times between two overviews, of all shards together. */
function timesSince(before, after, field) {
  return after.shards[0][field].map((_, at) => after.shards.reduce((total, shard, i) => total + shard[field][at] - before.shards[i][field][at], 0));
}

/** The microseconds that a share of what was counted is within; in a bucket, times are taken to be spread evenly. */
function quantile(bounds, counts, share) {
  const rank = share * counts.reduce((total, n) => total + n, 0);
  let below = 0;
  for (const [at, upper] of bounds.entries()) {
    const lower = at ? bounds[at - 1] : 0;
    if (counts[at] > 0 && below + counts[at] >= rank) return 1e6 * (lower + ((upper - lower) * (rank - below)) / counts[at]);
    below += counts[at];
  }
  return rank > 0 ? 1e6 * bounds.at(-1) : null;
}

function point(name, value) {
  charts[name].push(value);
  charts[name].splice(0, charts[name].length - POINTS);
}

// ---- Charts -----------------------------------------------------------------------------------

/** The smallest of 1, 2, 5 × 10ⁿ, and at least `least`, that holds a value. */
function ceilingOf(value, least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, least)));
  return [1, 2, 5, 10].map((m) => m * power).find((c) => c >= value && c >= least);
}

/** A canvas's pen, with the density of the screen taken care of; the canvas is empty. */
function penOf(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const density = devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const pen = canvas.getContext("2d");
  pen.scale(density, density);
  return { pen, width, height };
}

function drawAxes(pen, style, faint, { right, top, base }, labels) {
  pen.strokeStyle = pen.fillStyle = faint;
  pen.globalAlpha = 0.28;
  pen.beginPath();
  for (const y of [top, Math.round((top + base) / 2) + 0.5, base]) { pen.moveTo(0, y); pen.lineTo(right, y); }
  for (let minute = 0; minute <= 5; minute += 1) {
    const x = Math.round((minute * right) / 5) + (minute ? -0.5 : 0.5);
    pen.moveTo(x, base);
    pen.lineTo(x, base + 4);
  }
  pen.stroke();
  pen.globalAlpha = 1;
  pen.font = style.font;
  pen.textBaseline = "middle";
  labels.forEach((label, i) => pen.fillText(label, right + 6, i ? base : top));
}

/** The values that are there, from right to left in time; where one is missing, the line has a gap. */
function drawLine(pen, values, { right, top, base }, ceiling) {
  const step = right / (POINTS - 1);
  const runs = [];
  values.forEach((value, i) => {
    if (value === null) return;
    if (!runs.length || values[i - 1] === null) runs.push([]);
    runs.at(-1).push([right - (values.length - 1 - i) * step, base - (Math.min(value, ceiling) * (base - top)) / ceiling]);
  });
  for (const run of runs) {
    const line = new Path2D();
    run.forEach(([x, y], i) => (i ? line.lineTo(x, y) : line.moveTo(x, y)));
    const area = new Path2D(line);
    area.lineTo(run.at(-1)[0], base);
    area.lineTo(run[0][0], base);
    pen.globalAlpha = 0.14;
    pen.fill(area);
    pen.globalAlpha = 1;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.stroke(line);
  }
}

function draw(name, label, least) {
  const canvas = $(`chart-${name}`);
  if (!canvas.clientWidth) return;
  const { pen, width, height } = penOf(canvas);
  const style = getComputedStyle(canvas);
  const known = charts[name].filter((value) => value !== null);
  const ceiling = ceilingOf(Math.max(0, ...known), least);
  const frame = { right: width - 44, top: 5.5, base: height - 5.5 };
  drawAxes(pen, style, getComputedStyle(canvas.parentElement.firstElementChild).color, frame, [label(ceiling), "0"]);
  pen.fillStyle = pen.strokeStyle = style.color;
  drawLine(pen, charts[name], frame, ceiling);
  canvas.dataset.points = String(known.length);
}

const short = (value) => (value < 1e3 ? String(value) : value < 1e6 ? `${value / 1e3}k` : `${value / 1e6}M`);
const shortSize = (bytes) => { const [value, unit] = scaled(bytes); return `${Number(value)} ${unit}`; };

function drawAll() {
  draw("delivered", short, 10);
  draw("connections", short, 10);
  draw("memory", shortSize, 1e7);
  draw("dropped", short, 10);
  draw("latency", (us) => (us < 1000 ? `${us} µs` : `${us / 1000} ms`), 100);
}

// ---- Tables -----------------------------------------------------------------------------------

/** Cells of a row that is there already, or of a new one; what has not changed is not touched, so that focus and selection stay. */
function fill(row, cells) {
  cells.forEach(({ text, kind = "", title = "" }, i) => {
    const cell = row.cells[i] ?? row.insertCell();
    put(cell, text);
    if (cell.className !== kind) cell.className = kind;
    if (cell.title !== title) cell.title = title;
  });
}

/** Makes a table's body of items: the row of the same key stays the same row, wherever it is now. */
function fillTable(id, items, keyOf, fillRow) {
  const body = $(id);
  const known = new Map(Array.from(body.rows, (row) => [row.dataset.key, row]));
  const rows = items.map((item) => {
    const key = keyOf(item);
    const row = known.get(key) ?? document.createElement("tr");
    row.dataset.key = key;
    fillRow(row, item);
    return row;
  });
  const focus = document.activeElement;
  const isSame = rows.length === body.rows.length && rows.every((row, i) => row === body.rows[i]);
  if (!isSame) body.replaceChildren(...rows);
  if (body.contains(focus) && document.activeElement !== focus) focus.focus({ preventScroll: true });
  const blank = $(`${id}-blank`);
  if (blank) blank.hidden = rows.length > 0;
}

const name = (text, kind) => ({ text: visible(text), kind, title: visible(text) });
const number = (text) => ({ text, kind: "number" });
const rateOf = (value) => number(value === undefined ? "–" : rate(value));

function showTopics(topics) {
  fillTable("topics", topics, (topic) => topic.topic, (row, { topic, subscribers, rate: perSecond }) => {
    fill(row, [name(topic, "name"), number(count(subscribers)), rateOf(perSecond)]);
  });
}

function showConnections(connections, now) {
  fillTable("connections", connections, (one) => one.connection, (row, one) => {
    row.className = one.behind > 0 ? "slow" : "";
    fill(row, [
      name(one.connection), name(one.kind), name(one.peer), name(one.user ?? one.clientId ?? "", "who"), number(count(one.topics)),
      number(size(one.backlog)), number(time(one.behind)), rateOf(one.receivedRate), rateOf(one.deliveredRate),
      number(time(Math.max(0, now - one.since))),
    ]);
    if (row.cells.length === 10) row.insertCell().append(disconnectButton(one.connection));
  });
}

/** A button that sends a connection away when it is pressed twice. */
function disconnectButton(connection) {
  const button = document.createElement("button");
  let timer = 0;
  const rest = (text = "Disconnect") => { clearTimeout(timer); button.className = ""; put(button, text); };
  button.type = "button";
  button.setAttribute("aria-label", `Disconnect ${connection}`);
  button.onclick = async () => {
    if (button.className !== "sure") {
      button.className = "sure";
      put(button, "Really?");
      timer = setTimeout(rest, SURE_MS);
      return;
    }
    rest("…");
    try {
      await ask("/disconnect", JSON.stringify({ connection, ...SENT_AWAY }));
      rest("Sent away");
    } catch (error) {
      rest(error.status === 404 ? "Gone" : "Failed");
      button.title = visible(error.message);
    }
  };
  rest();
  return button;
}

function showShards(overview, perShard) {
  const items = overview.shards.map((shard, i) => ({ ...shard, i, perSecond: perShard?.[i] }));
  fillTable("shards", items, (shard) => String(shard.i), (row, shard) => {
    fill(row, [
      { text: String(shard.i) }, number(count(shard.connections)), rateOf(shard.perSecond?.delivered), number(size(shard.backlog)),
      number(count(shard.backlogged)),
    ]);
  });
}

function showLosses(overview) {
  const kinds = { dropped: overview.drops, refused: overview.refused, closed: overview.closed };
  const all = Object.entries(kinds).flatMap(([kind, reasons]) => Object.entries(reasons).map(([reason, n]) => ({ what: `${kind}: ${reason.replaceAll("_", " ")}`, n })));
  fillTable("losses", all.filter(({ n }) => n > 0), ({ what }) => what, (row, { what, n }) => fill(row, [name(what), number(count(n))]));
}

// ---- All of it --------------------------------------------------------------------------------

/** How long deliveries took that were made since the overview before. */
function showLatency(overview, before) {
  const counts = before && timesSince(before, overview, "latency");
  const [most, half] = [0.99, 0.5].map((share) => (counts ? quantile(overview.bounds, counts, share) : null));
  const micros = (us) => (us < 1000 ? [String(Math.round(us)), "µs"] : [(us / 1000).toPrecision(3), "ms"]);
  point("latency", most);
  if (most === null) return;
  quantity("latency", ...micros(most));
  put($("latency-more"), `half of them within ${micros(half).join(" ")}`);
}

function showNumbers(overview, perShard) {
  const total = (field) => perShard?.reduce((all, shard) => all + shard[field], 0) ?? null;
  const connections = sum(overview, "connections");
  const { memory } = overview;
  for (const [id, value] of [["delivered", total("delivered")], ["dropped", total("dropped")]]) {
    point(id, value);
    put($(id), value === null ? "–" : rate(value));
  }
  point("connections", connections);
  point("memory", memory.resident);
  put($("connections-count"), count(connections));
  quantity("memory", ...scaled(memory.resident));
  put($("delivered-more"), perShard ? `${size(total("sentBytes"))}/s out, ${rate(total("received"))} messages/s in` : "");
  const slow = sum(overview, "backlogged");
  put($("connections-more"), `${perShard ? rate(total("accepted")) : "–"} new/s, ${count(slow)} slow, ${count(overview.maxConnections)} at most`);
  put($("memory-more"), `${memory.limit ? `of ${size(memory.limit)}, ` : ""}${size(memory.parts.history)} history, ${size(memory.parts.frames)} to be sent`);
  put($("dropped-more"), `${count(sum(overview, "dropped"))} in all`);
}

function show({ overview, topics, connections }) {
  const before = last;
  const perShard = rates(before, overview);
  last = overview;
  stand(overview.standing, "");
  put($("about"), visible(`${overview.version}, up ${time(overview.uptime * 1000)}`));
  showLatency(overview, perShard && before);
  showNumbers(overview, perShard);
  showShards(overview, perShard);
  showLosses(overview);
  showTopics(topics.topics);
  showConnections(connections.connections, overview.timestamp);
  drawAll();
}

function stand(state, why) {
  const words = { serving: "Serving", draining: "Draining", stopping: "Stopping", locked: "Locked", gone: "No answer" };
  $("status").dataset.state = state;
  put($("state"), words[state] ?? visible(state));
  put($("why"), visible(why));
}

const chosen = (group) => document.querySelector(`input[name="${group}"]:checked`).value;

async function look() {
  const [topics, connections, overview] = await Promise.all([
    ask(`/topics?sort=${chosen("topics")}&limit=${ROWS}`), ask(`/connections?sort=${chosen("connections")}&limit=${ROWS}`), ask("/overview"),
  ]);
  $("forget").hidden = sessionStorage.getItem(KEY) === null;
  if (!paused) show({ overview, topics, connections });
}

/** The server did not answer as it should: it says why, asks for the key if that would help, and leaves a gap. */
function fail(error) {
  const isLocked = error.status === 401 || error.status === 421;
  stand(isLocked ? "locked" : "gone", isLocked ? "" : error.message);
  for (const name of Object.keys(charts)) point(name, null);
  last = null;
  drawAll();
  if (isLocked) knock(error);
}

function knock(error) {
  if ($("door").open) return;
  sessionStorage.removeItem(KEY);
  const why = error.status === 421
    ? "By this name, the server opens only to those who have its key; on its own machine, come by http://localhost or by address instead."
    : "Requests from where you are need it: what the server was given as admin_key.";
  put($("door-why"), why);
  $("key").value = "";
  $("door").showModal();
}

let timer = 0;
let round = 0; // of looks: one that began before a newer one is not followed by another
async function watch() {
  clearTimeout(timer);
  round += 1;
  const mine = round;
  const begun = performance.now();
  try {
    await look();
  } catch (error) {
    fail(error);
  }
  if (mine === round && !$("door").open) timer = setTimeout(watch, Math.max(0, INTERVAL_MS - (performance.now() - begun)));
}

// ---- What people do ---------------------------------------------------------------------------

/** The request's body. What is JSON goes out as it is spelled. */
function publication(topic, data, encoding) {
  if (encoding === "text") return JSON.stringify({ topic, data, encoding });
  JSON.parse(data);
  return `{"topic":${JSON.stringify(topic)},"data":${data}}`;
}

async function publish(event) {
  event.preventDefault();
  const status = $("published");
  const say = (text, bad) => { status.classList.toggle("bad", bad); put(status, visible(text)); };
  try {
    const place = await ask("/publish", publication($("topic").value, $("data").value, chosen("encoding")));
    say(`Published: message ${count(place.offset)} of ${place.topic}.`, false);
  } catch (error) {
    say(error instanceof SyntaxError ? `This is no JSON: ${error.message}` : error.message, true);
  }
}

function pause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  put($("pause"), paused ? "Go on" : "Pause");
}

$("publish").onsubmit = publish;
$("data").onkeydown = (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("publish").requestSubmit(); };
$("pause").onclick = pause;
$("forget").onclick = () => { sessionStorage.removeItem(KEY); $("forget").hidden = true; watch(); };
$("topics-order").onchange = watch;
$("connections-order").onchange = watch;
$("unlock").onsubmit = () => sessionStorage.setItem(KEY, $("key").value.trim());
$("door").onclose = watch;
addEventListener("resize", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
watch();
