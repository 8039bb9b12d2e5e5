// The targets of probe jobs, from /api/v1/probes every few seconds: those that are down, or all, by a part of their names. Behind the page's # may stand what is shown:
// #targets=all&match=shop. Uses what app.js defines.
"use strict";

const PROBES_MS = 5000;
const MOST_TARGETS = 200; // rows; a filter finds the others

function takeProbesFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.get("targets") === "all") byId("probes-all").checked = true;
  byId("probes-match").value = given.get("match") || "";
}

const TARGET_WORDS = { down: "down", failing: "failing", up: "up", unknown: "not looked at here" };

// Down is what all nodes say together, failing what this one saw last.
function targetState(target) {
  if (target.verdict !== "up") return "down";
  if (target.success === null) return "unknown";
  return target.success ? "up" : "failing";
}

function phaseWords(phase) {
  return phase.name + " " + span(phase.took_ms) + (phase.done ? "" : " (cut off)");
}

function makeTarget() {
  const view = {
    state: make("span", "badge"), job: make("td"), instance: make("td", "instance"), cause: make("td"), took: make("td", "number"),
    bar: make("div", "phases"), words: make("span", "quiet"), looked: make("td", "quiet"),
  };
  view.root = make("tr", "", make("td", "", view.state), view.job, view.instance, view.cause, view.took, make("td", "", view.bar, view.words), view.looked);
  return view;
}

function updateTarget(view, target, now) {
  const state = targetState(target);
  view.root.className = "target-" + state;
  text(view.state, TARGET_WORDS[state]);
  view.state.title = target.down_since === null ? "" : "for " + span(now - target.down_since) + ", from " + target.down_from.join(", ");
  text(view.job, target.job);
  text(view.instance, target.instance);
  text(view.cause, state === "up" ? "" : target.cause || "");
  text(view.took, target.took_ms === null ? "–" : span(target.took_ms));
  const whole = Math.max(sum(target.phases, (phase) => phase.took_ms), 0.001);
  let number = 0;
  keyed(view.bar, target.phases, () => String(number++), () => ({ root: make("i") }), (part, phase) => {
    part.root.className = phase.done ? "" : "cut";
    part.root.style.width = (phase.took_ms / whole * 100).toFixed(1) + "%";
    part.root.title = phaseWords(phase);
  });
  text(view.words, target.phases.map(phaseWords).join(" · "));
  text(view.looked, target.looked === null ? "" : span(now - target.looked) + " ago");
}

function drawProbes(probes) {
  const counts = probes.counts;
  show(byId("probes-section"), counts.targets > 0);
  text(byId("probes-count"), count(counts.down) + " of " + count(counts.targets) + " down");
  byId("probes-count").className = counts.down > 0 ? "bad" : "quiet";
  keyed(byId("probes"), probes.targets, (target) => target.job + "\n" + target.instance, makeTarget, (view, target) => updateTarget(view, target, probes.now));
  show(byId("probes-table"), probes.targets.length > 0);
  const left = counts.matched - probes.targets.length;
  const none = byId("probes-all").checked || byId("probes-match").value !== "" ? "No target like that." : "None is down or failing.";
  text(byId("probes-note"), left > 0 ? "and " + count(left) + " more: filter by name" : counts.matched === 0 ? none : "");
}

let probesAsked = 0;

async function askForProbes() {
  const mine = ++probesAsked;
  const query = new URLSearchParams({ limit: MOST_TARGETS });
  if (!byId("probes-all").checked) query.set("down", "true");
  const match = byId("probes-match").value;
  if (match !== "") query.set("match", match);
  const answer = await call("/api/v1/probes?" + query, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!answer.ok) return;
  const probes = await answer.json();
  // Who types asks again before the answer is there.
  if (mine === probesAsked) drawProbes(probes);
}

let probesTimer = null;

// Without an answer the old one stays: app.js says that the node is silent, or wants a token.
async function pollProbes() {
  clearTimeout(probesTimer);
  if (!document.hidden) await askForProbes().catch((error) => console.warn(error));
  clearTimeout(probesTimer);
  probesTimer = setTimeout(pollProbes, PROBES_MS);
}

takeProbesFromAddress();
byId("probes-all").addEventListener("change", pollProbes);
byId("probes-match").addEventListener("input", pollProbes);
pollProbes();
