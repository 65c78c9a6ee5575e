// Keeps the page current. The server renders; this fetches the page again each second, swaps the parts that changed,
// shows times in the reader's zone, and draws the two curves.
"use strict";

const POLL_MS = 1000;
const WAIT_MS = 4000;
const LOST_MS = 3000;
const WINDOW_S = 900;
const CURVE_PX = 218;

let touched = Date.now();
let curves = [];

async function get(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(WAIT_MS) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
}

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    const clock = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
    const today = at.toDateString() === new Date().toDateString();
    time.textContent = today ? clock : `${at.toLocaleDateString([], { month: "short", day: "numeric" })} ${clock}`;
    time.title = at.toLocaleString();
  }
}

// What a reader has done inside a part: where they scrolled, what they opened, where the focus is. Elements are found again by
// their label, id or text, else by their place among their kind.
function keep(part) {
  const names = (e) => e.getAttribute("aria-label") ?? (e.id || e.querySelector("summary")?.textContent || null);
  const all = (root, which) => [...root.querySelectorAll(which)];
  const notes = (which, state) => all(part, which).map((e) => ({ name: names(e), state: state(e) }));
  const scrolled = notes(".scroll, .events", (e) => [e.scrollLeft, e.scrollTop]);
  const opened = notes("details", (e) => e.open);
  const focusable = "a, button, input, select, summary, [tabindex]";
  const focus = all(part, focusable).indexOf(document.activeElement);
  const label = focus < 0 ? null : names(document.activeElement);
  const again = (root, which, list, apply) => all(root, which).forEach((e, i) => {
    const note = list.find((n) => n.name !== null && n.name === names(e)) ?? (names(e) === null ? list[i] : undefined);
    if (note) apply(e, note.state);
  });
  return (root) => {
    again(root, "details", opened, (e, open) => { e.open = open; });
    again(root, ".scroll, .events", scrolled, (e, [left, top]) => { e.scrollLeft = left; e.scrollTop = top; });
    if (focus < 0) return;
    const places = all(root, focusable);
    const place = label === null ? places[focus] : places.find((e) => names(e) === label);
    place?.focus({ preventScroll: true });
  };
}

function swap(page) {
  for (const fresh of page.querySelectorAll("[data-live]")) {
    const shown = document.getElementById(fresh.id);
    if (!shown) continue;
    localTimes(fresh);
    if (shown.innerHTML === fresh.innerHTML) continue;
    const kept = keep(shown);
    shown.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
    kept(shown);
  }
  document.title = page.title;
}

function lostTouch(since) {
  const banner = document.getElementById("lost-touch");
  const lost = since > LOST_MS;
  document.body.classList.toggle("old", lost);
  banner.hidden = !lost;
  const text = `✕ This node's console has not answered for ${Math.round(since / 1000)} s. What is below is old; look at another node's page.`;
  if (lost && banner.textContent !== text) banner.textContent = text;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const size = (n) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) { n /= 1000; unit += 1; }
  return `${unit && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
};
const number = (n) => (n >= 10 || n === 0 ? Math.round(n).toLocaleString("en") : n.toFixed(1));

function axis(show, side, scale) {
  return {
    scale, side, size: 62, stroke: colour("--muted"), font: "12px system-ui, sans-serif",
    grid: { show: side === 3, stroke: colour("--line"), width: 1 }, ticks: { show: false },
    values: (_, all) => all.map((n) => (n === null ? "" : show(n))),
  };
}

const seconds = {
  stroke: () => colour("--muted"), font: "12px system-ui, sans-serif", grid: { show: false }, ticks: { show: false }, space: 70, size: 30,
  values: (_, all) => all.map((s) => new Date(s * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" })),
};

function curve(id, series, axes, scales) {
  const place = document.getElementById(id);
  if (!place || typeof uPlot === "undefined") return null;
  place.replaceChildren();
  if (!series.length) {
    const none = document.createElement("p");
    none.className = "note none";
    none.textContent = "No replica has received anything in this time.";
    place.append(none);
    return null;
  }
  const options = {
    width: place.clientWidth, height: CURVE_PX, series: [{ label: "time", value: (_, s) => (s === null ? "–" : new Date(s * 1000).toLocaleTimeString()) }, ...series],
    axes: [seconds, ...axes], scales: { x: { time: true, range: (_, __, max) => [max - WINDOW_S, max] }, ...scales },
    cursor: { drag: { x: false, y: false }, y: false }, legend: { live: true },
  };
  return new uPlot(options, [[0], ...series.map(() => [null])], place);
}

const line = (label, stroke, scale, show, extra = {}) =>
  ({ label, scale, stroke: colour(stroke), width: 1.6, points: { show: false }, value: (_, n) => (n === null || n === undefined ? "–" : show(n)), ...extra });
const fromZero = (least) => ({ range: (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.15)] });

function draw(table) {
  const lags = Object.keys(table.series).filter((name) => name.startsWith("lag_bytes/"));
  const theme = matchMedia("(prefers-color-scheme: dark)").matches;
  const shape = JSON.stringify([lags, theme]);
  if (curves.shape !== shape) {
    curves.forEach((c) => c.plot?.destroy());
    const strokes = ["--replication", "--reads", "--busy", "--writes"];
    const dashes = [undefined, [6, 4], [2, 3], [10, 4]];
    curves = [
      {
        names: ["requests_per_s", "errors_per_s"],
        plot: curve("requests-curve", [
          line("requests/s", "--requests", "y", number), line("errors/s", "--bad", "e", number, { dash: [5, 3] }),
        ], [axis(number, 3, "y"), axis(number, 1, "e")], { y: fromZero(10), e: fromZero(5) }),
      },
      {
        names: lags,
        plot: curve("lag-curve", lags.map((name, i) =>
          line(name.slice("lag_bytes/".length), strokes[i % 4], "y", size, { dash: dashes[i % 4] })),
        [axis(size, 3, "y")], { y: fromZero(1000) }),
      },
    ];
    curves.shape = shape;
  }
  const none = table.seconds.map(() => null);
  for (const { names, plot } of curves) {
    if (!plot) continue;
    plot.setData([table.seconds, ...names.map((name) => table.series[name] ?? none)]);
    // Without a pointer over the curve, the legend tells the newest values.
    if (plot.cursor.idx == null) plot.setLegend({ idx: table.seconds.length - 1 });
  }
}

function resize() {
  for (const { plot } of curves) {
    const width = plot?.root.parentElement.clientWidth;
    if (width && width !== plot.width) plot.setSize({ width, height: CURVE_PX });
  }
}

async function poll() {
  const started = Date.now();
  if (!document.hidden) {
    try {
      const [page, table] = await Promise.all([get("/").then((a) => a.text()), get("/series.json").then((a) => a.json())]);
      touched = Date.now();
      swap(new DOMParser().parseFromString(page, "text/html"));
      if (table.seconds.length) draw(table);
    } catch (error) {
      console.warn("The console does not answer:", error.message);
    }
    lostTouch(Date.now() - touched);
  }
  setTimeout(poll, Math.max(100, POLL_MS - (Date.now() - started)));
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) touched = Date.now(); });
addEventListener("resize", resize);
localTimes(document);
poll();
