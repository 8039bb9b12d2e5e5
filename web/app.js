// The status page: asks /api/v1/status once a second and draws it. Texts from outside only ever become text nodes, elements are kept and
// updated in place, and rates come from comparing documents, so that the node counts and the page divides.
"use strict";

const POLL_MS = 1000;
const HISTORY = 90; // documents kept: a minute and a half
const RATE_MS = 30000; // samples come in bursts, one a scrape: two scrapes of the usual 15 s
const SILENT_MS = 60000;
const TOKEN = "sluice-token"; // in the session's storage: the token of this tab

const byId = (id) => document.getElementById(id);
const history = [];
let senders = new Map();
let lastAnswer = 0;

// ---- elements ------------------------------------------------------------------------------------------------------------------------

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const child of children) element.append(child);
  return element;
}

function text(element, value) {
  const shown = String(value);
  if (element.textContent !== shown) element.textContent = shown;
}

function show(element, wanted) {
  element.hidden = !wanted;
}

// One child per item, made once, moved only when the order changes. Items of the same key are told apart by their order.
function keyed(parent, items, keyOf, create, update) {
  const old = parent.kept || new Map();
  const kept = new Map();
  let before = parent.firstChild;
  for (const item of items) {
    let key = keyOf(item);
    while (kept.has(key)) key += "+";
    const view = old.get(key) || create(item);
    old.delete(key);
    kept.set(key, view);
    if (view.root === before) before = before.nextSibling;
    else parent.insertBefore(view.root, before);
    update(view, item);
  }
  for (const view of old.values()) view.root.remove();
  parent.kept = kept;
}

// ---- numbers -------------------------------------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en-US");

function count(value) {
  if (value < 100000) return whole.format(Math.round(value));
  const units = ["", "k", "M", "G", "T"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return value.toFixed(value < 100 ? 1 : 0) + "\u202f" + units[unit];
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return (unit === 0 ? value : value.toFixed(value < 100 ? 1 : 0)) + "\u202f" + units[unit];
}

function span(ms) {
  if (ms < 1000) return Math.max(0, Math.round(ms)) + "\u202fms";
  if (ms < 120000) return (ms / 1000).toFixed(ms < 10000 ? 1 : 0) + "\u202fs";
  if (ms < 7200000) return Math.round(ms / 60000) + "\u202fmin";
  if (ms < 172800000) return (ms / 3600000).toFixed(1) + "\u202fh";
  return Math.round(ms / 86400000) + "\u202fdays";
}

// How fast a sum grows, per second; null while there is nothing to compare with. A sum that shrank belongs to a process that began anew.
function rate(read) {
  const newest = history[history.length - 1];
  const now = read(newest);
  let first = null;
  for (let i = history.length - 2; i >= 0 && newest.now - history[i].now <= RATE_MS; i -= 1) {
    const value = read(history[i]);
    if (value === null || value === undefined || value > now) break;
    first = { value, at: history[i].now };
  }
  if (first === null || now === null || now === undefined || newest.now === first.at) return null;
  return (now - first.value) * 1000 / (newest.now - first.at);
}

const perSecond = (value) => (value === null ? "–" : value < 10 && value > 0 ? value.toFixed(1) : count(value));
const sum = (items, read) => items.reduce((total, item) => total + read(item), 0);
const find = (items, key, value) => items.find((item) => item[key] === value);

// ---- names ---------------------------------------------------------------------------------------------------------------------------

const replicaName = (name) => (name === "" ? "(no replica label)" : name);
const groupName = (name) => (name === "-" ? "(no group labels)" : name);

// ---- parts of the page ---------------------------------------------------------------------------------------------------------------

// Whether anybody has: the node's own metrics do not count.
function written(status) {
  return status.groups.some((group) => group.name !== "sluice");
}

function drawTop(status) {
  text(byId("node"), status.name === "sluice" ? status.listen : status.name + " · " + status.listen);
  text(byId("version"), "sluice " + status.version + ", up for " + span(status.uptime_seconds * 1000));
  const pill = byId("pill");
  const errors = status.problems.filter((problem) => problem.severity === "error").length;
  const warnings = status.problems.filter((problem) => problem.severity === "warning").length;
  let [kind, words] = ["well", "all is well"];
  if (!status.ready) [kind, words] = ["error", "not ready"];
  else if (errors) [kind, words] = ["error", errors === 1 ? "1 problem" : errors + " problems"];
  else if (warnings) [kind, words] = ["warning", warnings === 1 ? "1 warning" : warnings + " warnings"];
  else if (!written(status)) [kind, words] = ["", "waiting for a Prometheus"];
  pill.className = "pill " + kind;
  text(pill, words);
  document.title = (errors || !status.ready ? "! " : "") + "sluice · " + status.name;
}

function drawProblems(status) {
  const unready = status.not_ready.map((reason) => ({
    severity: "error", code: "not_ready", about: "not ready", text: reason, remedy: "senders are told to try again; nothing that was acknowledged is lost",
  }));
  const all = unready.concat(status.problems);
  const box = byId("problems");
  show(box, all.length > 0);
  keyed(box, all, (problem) => problem.code + " " + problem.about + " " + (problem.code === "not_ready" ? problem.text : ""), () => {
    const view = { word: make("span", "word"), about: make("span", "about"), text: make("span"), remedy: make("p", "remedy") };
    view.root = make("div", "problem", make("p", "", view.word, " ", view.about, ": ", view.text), view.remedy);
    return view;
  }, (view, problem) => {
    view.root.className = "problem " + problem.severity;
    text(view.word, { error: "Error", warning: "Warning", note: "Note" }[problem.severity] || problem.severity);
    text(view.about, problem.about);
    text(view.text, problem.text);
    text(view.remedy, problem.remedy);
  });
}

const series = { received: [], emitted: [], pending: [], delivered: [] };

function spark(name, value) {
  const points = series[name];
  if (value !== null) points.push(value);
  if (points.length > HISTORY) points.shift();
  const top = Math.max(...points, 1);
  const path = points.map((point, i) => (i ? "L" : "M") + (120 - (points.length - 1 - i) * 120 / (HISTORY - 1)).toFixed(1) + " " + (26 - point / top * 24).toFixed(1));
  const id = "s-" + name;
  byId(id).firstElementChild.setAttribute("d", points.length > 1 ? path.join("") : "");
}

function drawPath(status) {
  const counts = (key) => (document) => sum(document.groups, (group) => group.counts[key]);
  const ofSinks = (key) => (document) => sum(document.sinks, (sink) => sink[key]);
  const received = rate(counts("received"));
  const emitted = rate(counts("emitted"));
  const delivered = rate(ofSinks("delivered"));
  const pending = ofSinks("pending")(status);
  const copies = rate((document) => counts("covered")(document) + counts("repeated")(document));
  text(byId("k-received"), perSecond(received));
  text(byId("k-emitted"), perSecond(emitted));
  text(byId("k-pending"), count(pending));
  text(byId("k-delivered"), perSecond(delivered));
  const replicas = sum(status.groups, (group) => group.replicas.filter((replica) => status.now - replica.last_seen < SILENT_MS).length);
  text(byId("n-received"), replicas === 0 ? "no replica writes" : "from " + replicas + (replicas === 1 ? " replica in " : " replicas in ") + status.groups.length + (status.groups.length === 1 ? " group" : " groups"));
  text(byId("n-emitted"), perSecond(copies) + "/s copies dropped, " + count(counts("waiting")(status)) + " waiting");
  text(byId("n-pending"), bytes(ofSinks("pending_bytes")(status)) + " not delivered yet");
  text(byId("n-delivered"), status.sinks.length === 1 ? "to " + status.sinks[0].name : "to " + status.sinks.length + " sinks together");
  spark("received", received);
  spark("emitted", emitted);
  spark("pending", pending);
  spark("delivered", delivered);
}

function pair(label) {
  const value = make("b");
  return { root: make("span", "", label + " ", value), value };
}

function makeGroup() {
  const view = {
    name: make("h3"), facts: make("span", "quiet"), lanes: make("div", "lanes"), out: make("div", "out"), rate: make("b"), hints: make("div"),
    through: pair("let through"), covered: pair("copies dropped"), waiting: pair("waiting"), filled: pair("holes filled"), late: pair("late"), refused: pair("refused"),
  };
  view.out.append(make("div", "pipe"), make("div", "out-rate", view.rate, make("span", "", "one copy")));
  const counts = make("div", "counts", view.through.root, view.covered.root, view.waiting.root, view.filled.root, view.late.root, view.refused.root);
  view.root = make("article", "panel group", make("div", "group-head", view.name, view.facts), make("div", "gate", view.lanes, make("div", "bar"), view.out), counts, view.hints);
  return view;
}

function makeLane() {
  const view = { name: make("b"), badge: make("span", "badge"), facts: make("div", "lane-facts"), button: make("button") };
  view.button.type = "button";
  view.button.hidden = true;
  view.root = make("div", "lane", make("div", "lane-text", make("div", "lane-name", view.badge, view.name, view.button), view.facts), make("div", "pipe"));
  view.button.addEventListener("click", () => setSender(view));
  return view;
}

function drawLane(view, group, replica, status) {
  const own = (document) => {
    const found = find(document.groups, "name", group.name);
    const mine = found && find(found.replicas, "name", replica.name);
    return mine ? mine.samples : null;
  };
  const speed = rate(own);
  const age = status.now - replica.last_seen;
  const silent = age > Math.max(SILENT_MS, 4 * group.interval_ms);
  const sender = senders.get(group.name + "\n" + replica.name);
  // A stopped sender shows at once; for a real one the silence has to be longer than its usual pause.
  const quiet = silent || (sender && !sender.running);
  view.root.className = "lane" + (quiet ? " silent" : "") + (replica.leader ? " leader" : "") + (!quiet && speed > 0 ? " flows" : "");
  text(view.name, replicaName(replica.name));
  view.name.title = replicaName(replica.name);
  text(view.badge, quiet ? (replica.leader ? "silent leader" : "silent") : replica.leader ? (group.pinned ? "leader, pinned" : "leader") : "standby");
  text(view.facts, quiet ? "last heard of " + span(age) + " ago" : perSecond(speed) + "/s, lag " + span(replica.lag_ms));
  show(view.button, Boolean(sender));
  if (sender) {
    view.sender = sender;
    text(view.button, sender.running ? "Stop" : "Start");
    view.button.setAttribute("aria-label", (sender.running ? "Stop" : "Start") + " the synthetic sender " + sender.name);
  }
}

function drawGroups(status) {
  const filter = byId("filter");
  show(filter, status.groups.length > 8);
  const wanted = filter.hidden ? "" : filter.value.trim().toLowerCase();
  const groups = status.groups.filter((group) => group.name.toLowerCase().includes(wanted));
  show(byId("start"), !written(status));
  show(byId("groups-section"), status.groups.length > 0);
  show(byId("switches-section"), status.groups.length > 0);
  // Who has nothing yet needs the lines first; later they stand at the end.
  const home = byId(written(status) ? "second-column" : "first-column");
  if (byId("connect").parentElement !== home) home.append(byId("connect"));
  keyed(byId("groups"), groups, (group) => group.name, makeGroup, (view, group) => {
    const ofGroup = (key) => rate((document) => {
      const found = find(document.groups, "name", group.name);
      return found ? found.counts[key] : null;
    });
    const through = ofGroup("emitted");
    text(view.name, groupName(group.name));
    text(view.facts, count(group.series) + " series · shard " + group.shard);
    keyed(view.lanes, group.replicas, (replica) => replica.name, makeLane, (lane, replica) => drawLane(lane, group, replica, status));
    view.out.className = "out" + (through > 0 ? " flows" : "");
    text(view.rate, perSecond(through) + "/s");
    text(view.through.value, count(group.counts.emitted));
    text(view.covered.value, count(group.counts.covered + group.counts.repeated));
    for (const key of ["waiting", "filled", "late", "refused"]) text(view[key].value, count(group.counts[key]));
    keyed(view.hints, group.hints, (hint) => hint.code, () => {
      const hint = { text: make("b"), remedy: make("p", "remedy") };
      hint.root = make("div", "hint", hint.text, hint.remedy);
      return hint;
    }, (hintView, hint) => {
      text(hintView.text, hint.text);
      text(hintView.remedy, hint.remedy);
    });
  });
}

function fact(label) {
  const value = make("dd");
  return { root: make("div", "", make("dt", "", label), value), value };
}

function makeSink() {
  const view = {
    name: make("h3"), state: make("span", "badge"), target: make("p", "quiet target"), meter: make("div", "meter", make("i")), meterText: make("p", "meter-text"),
    troubles: make("div"), rate: fact("Delivered"), lag: fact("Lag"), pending: fact("Pending"), total: fact("In all"), dead: fact("Dead letters"), dropped: fact("Dropped"),
  };
  const facts = make("dl", "facts", view.rate.root, view.lag.root, view.pending.root, view.total.root, view.dead.root, view.dropped.root);
  view.root = make("article", "panel sink", make("div", "sink-head", view.name, view.state), view.target, facts, view.meter, view.meterText, view.troubles);
  return view;
}

function drawSinks(status) {
  show(byId("no-sinks"), status.sinks.length === 0);
  keyed(byId("sinks"), status.sinks, (sink) => sink.name, makeSink, (view, sink) => {
    text(view.name, sink.name);
    view.state.className = "badge " + sink.state;
    text(view.state, sink.state);
    text(view.target, sink.kind + " · " + sink.target + " · " + sink.format + ", " + sink.delivery.replaceAll("_", " "));
    const speed = rate((document) => (find(document.sinks, "name", sink.name) || { delivered: null }).delivered);
    text(view.rate.value, perSecond(speed) + "/s");
    text(view.lag.value, span(sink.lag_ms));
    text(view.pending.value, count(sink.pending));
    text(view.total.value, count(sink.delivered));
    for (const key of ["dead", "dropped"]) {
      text(view[key].value, count(sink[key]));
      view[key].value.className = sink[key] > 0 ? "bad" : "";
    }
    // Each shard has its own budget: the fullest one overflows first.
    const used = Math.max(0, ...sink.shards.map((shard) => (shard.budget_bytes > 0 ? shard.pending_bytes / shard.budget_bytes : 0)));
    view.meter.className = "meter" + (used >= 0.8 ? " error" : used >= 0.5 ? " warning" : "");
    view.meter.firstElementChild.style.width = Math.min(100, used * 100).toFixed(1) + "%";
    const left = sink.seconds_left === null || sink.seconds_left > 30 * 86400 ? "" : ", full in " + span(sink.seconds_left * 1000) + " at this rate";
    text(view.meterText, (used > 0 && used < 0.001 ? "less than 0.1" : (used * 100).toFixed(used > 0 && used < 0.1 ? 1 : 0)) + " % of the budget used" + left);
    const told = sink.troubles.map((trouble) => ({ ...trouble, kind: "trouble" })).concat(sink.notes.map((note) => ({ ...note, kind: "trouble note" })));
    keyed(view.troubles, told, (trouble) => trouble.kind + trouble.code, () => {
      const trouble = { text: make("b"), since: make("span", "quiet"), remedy: make("p", "remedy") };
      trouble.root = make("div", "", make("p", "", trouble.text, " ", trouble.since), trouble.remedy);
      return trouble;
    }, (troubleView, trouble) => {
      troubleView.root.className = trouble.kind;
      text(troubleView.text, trouble.text);
      text(troubleView.since, "for " + span(status.now - trouble.since));
      text(troubleView.remedy, trouble.remedy);
    });
  });
}

// Those that wrote within the last hour; who was refused before it was known whose samples they were stands there by address.
function drawSenders(all, now) {
  const recent = all.filter((sender) => now - sender.last_seen < 3_600_000);
  show(byId("senders-section"), recent.length > 0);
  keyed(byId("senders"), recent, (sender) => sender.group + "\n" + sender.replica + "\n" + sender.address, () => {
    const view = { name: make("b"), facts: make("span", "quiet"), told: make("p", "quiet") };
    view.root = make("li", "", make("p", "", view.name, " ", view.facts), view.told);
    return view;
  }, (view, sender) => {
    text(view.name, sender.group === "" ? sender.address : sender.group + (sender.replica === "" ? "" : " " + sender.replica));
    const facts = [perSecond(sender.samples_per_second) + "/s", sender.agent, sender.address];
    if (sender.lag_ms !== null) facts.splice(1, 0, span(sender.lag_ms) + " late");
    if (sender.repeated > 0) facts.push(count(sender.repeated) + " repeated");
    text(view.facts, facts.filter((fact) => fact !== "").join(" · "));
    const told = sender.last_refusal;
    show(view.told, told !== null);
    if (told !== null) text(view.told, "told " + told.status + " " + span(now - told.at) + " ago: " + told.text);
  });
}

function drawShards(status) {
  const data = status.shards.filter((shard) => !shard.control);
  keyed(byId("shards"), data, (shard) => shard.shard, () => {
    const view = { name: make("b"), rate: make("p"), state: make("p") };
    view.root = make("div", "shard", view.name, view.rate, view.state);
    return view;
  }, (view, shard) => {
    text(view.name, "Shard " + shard.shard);
    text(view.rate, perSecond(rate((document) => (find(document.shards, "shard", shard.shard) || { samples: null }).samples)) + "/s");
    text(view.state, !shard.leads ? "led elsewhere" : shard.queued_offers > 0 ? shard.queued_offers + " queued" : count(shard.series) + " series");
  });
  const disk = status.disk;
  const facts = [
    ["Used", bytes(disk.used_bytes)], ["Free", bytes(disk.free_bytes)], ["Waiting", bytes(sum(status.shards, (shard) => shard.waiting_bytes))],
    ["Last sync", (disk.last_sync_micros / 1000).toFixed(1) + "\u202fms"],
  ];
  keyed(byId("disk"), facts, (entry) => entry[0], (entry) => fact(entry[0]), (view, entry) => text(view.value, entry[1]));
}

function drawSwitches(status) {
  show(byId("no-switches"), status.switches.length === 0);
  keyed(byId("switches"), status.switches, (change) => change.group + " " + change.at + " " + change.to, () => {
    const view = { title: make("b"), when: make("span", "quiet"), reason: make("span", "reason"), evidence: make("span", "evidence"), cost: make("p", "quiet") };
    view.root = make("li", "", make("div", "switch-head", view.title, view.when), make("p", "", view.reason, ": ", view.evidence), view.cost);
    return view;
  }, (view, change) => {
    text(view.title, groupName(change.group) + ": " + (change.from === "" ? "" : replicaName(change.from) + " → ") + replicaName(change.to));
    text(view.when, span(status.now - change.at) + " ago");
    view.when.title = change.at_text;
    text(view.reason, change.reason.replaceAll("_", " "));
    text(view.evidence, change.evidence);
    text(view.cost, "gap " + span(change.gap_ms) + ", overlap " + count(change.overlap) + ", filled " + count(change.filled) + ", late " + count(change.late));
  });
}

function drawSnippet() {
  text(byId("snippet"), [
    "global:",
    "  external_labels:",
    "    cluster: my-cluster      # the same on both",
    "    __replica__: replica-1   # replica-2 on the other",
    "remote_write:",
    "  - url: " + location.protocol + "//" + location.host + "/api/v1/write",
    ...(sessionStorage.getItem(TOKEN) ? ["    authorization: { credentials_file: /etc/prometheus/sluice.token }"] : []),
    "",
  ].join("\n"));
}

// ---- the door ------------------------------------------------------------------------------------------------------------------------

// A link may bring a token behind its #, which browsers send to nobody; it leaves the address at once.
function takeTokenFromAddress() {
  const rest = new URLSearchParams(location.hash.slice(1));
  const given = rest.get("token");
  if (given === null) return;
  sessionStorage.setItem(TOKEN, given);
  rest.delete("token");
  window.history.replaceState(null, "", location.pathname + (rest.size ? "#" + rest : ""));
}

function call(path, options) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token ? { Authorization: "Bearer " + token } : {}) };
  return fetch(path, { ...options, headers });
}

function shut(why) {
  document.body.classList.add("loading"); // what was drawn is no longer to be seen
  show(byId("door"), true);
  text(byId("door-why"), sessionStorage.getItem(TOKEN) ? why : "");
  const pill = byId("pill");
  pill.className = "pill warning";
  text(pill, "a token is wanted");
}

function knock(event) {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("door-token").value.trim());
  byId("door-token").value = "";
  text(byId("door-why"), "asking …");
  drawSnippet();
}

// ---- life ----------------------------------------------------------------------------------------------------------------------------

function draw(status) {
  history.push(status);
  if (history.length > HISTORY) history.shift();
  senders = new Map(status.senders.map((sender) => [sender.group + "\n" + sender.replica, sender]));
  drawTop(status);
  drawProblems(status);
  drawPath(status);
  drawGroups(status);
  drawSinks(status);
  drawShards(status);
  drawSwitches(status);
  document.body.classList.remove("loading", "stale");
}

function lost() {
  const pill = byId("pill");
  pill.className = "pill error";
  text(pill, lastAnswer ? "no answer for " + span(Date.now() - lastAnswer) : "no answer from this node");
  document.body.classList.toggle("stale", true);
}

// The document; null: the door is shut.
async function ask() {
  const answer = await call("/api/v1/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (answer.status === 401) {
    shut((await answer.json()).error);
    return null;
  }
  if (!answer.ok) throw new Error("status " + answer.status);
  show(byId("door"), false);
  return answer.json();
}

async function poll() {
  if (!document.hidden) {
    try {
      const status = await ask();
      lastAnswer = Date.now();
      if (status !== null) {
        draw(status);
        const answer = await call("/api/v1/senders?node=this", { cache: "no-store", signal: AbortSignal.timeout(5000) });
        if (answer.ok) drawSenders((await answer.json()).senders, status.now);
      }
    } catch (error) {
      console.warn(error);
      lost();
    }
  }
  setTimeout(poll, POLL_MS);
}

async function setSender(view) {
  view.button.disabled = true;
  try {
    const body = JSON.stringify({ name: view.sender.name, running: !view.sender.running });
    const answer = await call("/api/v1/dev/senders", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (answer.ok) {
      for (const sender of (await answer.json()).senders) senders.set(sender.group + "\n" + sender.replica, sender);
    } else {
      text(view.facts, (await answer.json()).error);
    }
  } catch (error) {
    console.warn(error);
  }
  view.button.disabled = false;
}

async function copy() {
  const button = byId("copy");
  let done = false;
  try {
    await navigator.clipboard.writeText(byId("snippet").textContent);
    done = true;
  } catch {
    // Without TLS browsers give pages no clipboard: select the text instead, so that one key copies it.
    getSelection().selectAllChildren(byId("snippet"));
    done = document.execCommand("copy");
  }
  text(button, done ? "Copied" : "Press Ctrl+C");
  setTimeout(() => text(button, "Copy"), 2000);
}

takeTokenFromAddress();
drawSnippet();
byId("door-form").addEventListener("submit", knock);
byId("copy").addEventListener("click", copy);
byId("filter").addEventListener("input", () => { if (history.length) drawGroups(history[history.length - 1]); });
poll();
