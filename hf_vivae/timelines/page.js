"use strict";

// State, edits, position, table, downloads and events of the page; page_drawing.js draws it.

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const audio = element("audio"), table = element("rows").querySelector("tbody");
const canvas = element("view").querySelector("canvas"), overview = element("overview").querySelector("canvas");
const SHORTEST = 0.01; // seconds of a segment
const NEAREST = Math.min(2, data.seconds); // seconds in view at the highest zoom
const MOVED = 3; // pixels from which a press is a drag

const keyOf = (segment) => `${segment.start} ${segment.end} ${segment.label}`;
const scores = new Map(data.segments.map((segment) => [keyOf(segment), segment.score]));
const scoreOf = (segment) => scores.get(keyOf(segment)) ?? null; // null once a segment differs from the model's
const colours = new Map(data.series);
const colourOf = (label) => colours.get(label) ?? data.grey;
const clamp = (value, low, high) => Math.max(low, Math.min(value, high));
const toMilliseconds = (seconds) => Math.round(seconds * 1000) / 1000;

// An edit replaces the list and never changes a segment in place, so that `earlier` needs no copies.
let segments = data.segments, selected = -1, saved = segments, earlier = [];
let start = 0, span = data.seconds; // seconds in view
let stopAt = Infinity; // end of a segment that is played alone
let drag = null, lastLabel = data.labels[0];

const pixelOf = (seconds) => (seconds - start) / span * canvas.clientWidth;

function announce(text) {
  element("status").textContent = text;
}

// ---- edits ----

function edit(next, index, text) {
  earlier.push({ segments, selected });
  showSegments(next, index, text);
}

function undo() {
  const last = earlier.pop();
  if (last) showSegments(last.segments, last.selected, "Undone.");
}

function showSegments(list, index, text) {
  segments = list;
  renderTable();
  choose(index);
  announce(text);
}

// Return the segments with one end moved. A neighbour that it touches, or that it would overlap, moves with it.
function moveEnd(list, index, side, seconds) {
  const segment = list[index], atStart = side === "start", other = atStart ? "end" : "start";
  const place = index + (atStart ? -1 : 1), neighbour = list[place];
  const low = !atStart ? segment.start + SHORTEST : neighbour ? neighbour.start + SHORTEST : 0;
  const high = atStart ? segment.end - SHORTEST : neighbour ? neighbour.end - SHORTEST : data.seconds;
  if (low > high) return list;
  const time = clamp(toMilliseconds(seconds), low, high), next = list.with(index, { ...segment, [side]: time });
  const touches = neighbour?.[other] === segment[side];
  const overlaps = atStart ? neighbour?.end > time : neighbour?.start < time;
  if (touches || overlaps) next[place] = { ...neighbour, [other]: time };
  return next;
}

// Return the free time around a moment and the index of a segment there, or null within a segment.
function gapAt(seconds) {
  const after = segments.findIndex((segment) => segment.end > seconds);
  const index = after < 0 ? segments.length : after;
  if (segments[index]?.start <= seconds) return null;
  return { index, low: segments[index - 1]?.end ?? 0, high: segments[index]?.start ?? data.seconds };
}

function add(gap, from, to) {
  const [low, high] = [from, to].map((time) => clamp(toMilliseconds(time), gap.low, gap.high));
  if (high - low < SHORTEST) return announce("There is no room for a segment here.");
  const segment = { start: low, end: high, label: lastLabel };
  edit(segments.toSpliced(gap.index, 0, segment), gap.index, `Added ${lastLabel} at ${clock(low)}.`);
  element("label").focus({ preventScroll: true });
}

function addAtPosition() {
  const time = audio.currentTime, gap = gapAt(time);
  if (gap) add(gap, time, time + 1);
  else announce("The position is within a segment; move it to a free place first.");
}

function remove() {
  if (selected < 0) return;
  const { label, start: from } = segments[selected];
  edit(segments.toSpliced(selected, 1), -1, `Deleted ${label} at ${clock(from)}.`);
}

function rename(label) {
  if (selected < 0) return;
  if (!label) {
    announce("A segment needs a label; Delete removes it.");
    return choose(selected);
  }
  lastLabel = label;
  edit(segments.with(selected, { ...segments[selected], label }), selected, `Changed the label to ${label}.`);
}

function setEnd(side, seconds) {
  if (selected < 0) return;
  const next = Number.isFinite(seconds) ? moveEnd(segments, selected, side, seconds) : segments;
  if (next === segments) return choose(selected); // shows the value before
  edit(next, selected, `Moved the ${side} to ${clock(next[selected][side], 3)}.`);
}

// ---- position and view ----

function seek(seconds) {
  stopAt = Infinity;
  audio.currentTime = clamp(seconds, 0, data.seconds);
  if (audio.currentTime < start || audio.currentTime > start + span) moveView(audio.currentTime - span / 10);
  placeCursors();
}

function moveView(from, seconds = span) {
  span = clamp(seconds, NEAREST, data.seconds);
  start = clamp(from, 0, data.seconds - span);
  const nearness = data.seconds > NEAREST ? Math.log(data.seconds / span) / Math.log(data.seconds / NEAREST) : 0;
  element("zoom").value = 100 * nearness;
  element("zoom").setAttribute("aria-valuetext", `${clock(span, 0)} of ${clock(data.seconds, 0)} in view`);
  requestDrawing();
}

// Show so many seconds; a moment in view, by default the position, else the middle, stays at its place.
function zoom(seconds, around = audio.currentTime) {
  const share = (around - start) / span, fixed = share >= 0 && share <= 1 ? share : 0.5;
  moveView(start + fixed * (span - clamp(seconds, NEAREST, data.seconds)), seconds);
}

function choose(index) {
  selected = index;
  const segment = segments[index];
  for (const id of ["label", "start", "end", "replay", "delete"]) element(id).disabled = !segment;
  element("label").value = segment?.label ?? "";
  for (const side of ["start", "end"]) element(side).value = segment ? toMilliseconds(segment[side]) : "";
  element("undo").disabled = !earlier.length;
  for (const [row, chosen] of [[table.querySelector(".selected"), false], [table.rows[index], true]]) {
    row?.classList.toggle("selected", chosen);
    row?.querySelector("button").setAttribute("aria-current", chosen);
  }
  requestDrawing();
}

function select(index) {
  const segment = segments[index];
  choose(index);
  scrollTableTo(table.rows[index]);
  seek(segment.start);
  if (segment.end > start + span) moveView(segment.start - span / 10);
}

function toggle() {
  stopAt = Infinity;
  if (audio.paused) audio.play();
  else audio.pause();
}

function replay() {
  seek(segments[selected].start);
  stopAt = segments[selected].end;
  audio.play();
}

function placeCursors() {
  const time = audio.currentTime, place = pixelOf(time);
  overview.nextElementSibling.style.transform = `translateX(${time / data.seconds * overview.clientWidth}px)`;
  canvas.nextElementSibling.style.transform = `translateX(${place}px)`;
  canvas.nextElementSibling.hidden = place < 0 || place > canvas.clientWidth;
  element("clock").textContent = clock(time);
  // browsers round positions, so that the start of a segment may become slightly earlier
  const index = segments.findIndex((segment) => segment.start - 0.001 <= time && time < segment.end - 0.001);
  canvas.setAttribute("aria-valuenow", time.toFixed(2));
  canvas.setAttribute("aria-valuetext", `${clock(time)}, ${segments[index]?.label ?? "no label"}`);
  const row = table.rows[index], before = table.querySelector(".now");
  if (row === before) return;
  before?.classList.remove("now");
  row?.classList.add("now");
  if (row && !audio.paused) scrollTableTo(row);
}

// Scroll the table alone; `scrollIntoView` would move the page as well.
function scrollTableTo(row) {
  const rows = element("rows"), top = row.offsetTop - rows.querySelector("thead").offsetHeight;
  const bottom = row.offsetTop + row.offsetHeight;
  if (top < rows.scrollTop || bottom > rows.scrollTop + rows.clientHeight) rows.scrollTop = top;
}

function followSound() {
  if (audio.paused) return;
  if (audio.currentTime >= stopAt) audio.pause();
  const share = (audio.currentTime - start) / span;
  // turns the page at its end, but leaves another part of the recording in view
  if (share > 0.95 && share < 1.05 && start + span < data.seconds && !drag) moveView(audio.currentTime - span / 20);
  placeCursors();
  requestAnimationFrame(followSound);
}

// Rows are kept and filled again: a press on one may end an edit first, and a row that is replaced gets no click.
function renderTable() {
  element("count").textContent = segments.length;
  while (table.rows.length > segments.length) table.deleteRow(-1);
  for (const [index, segment] of segments.entries()) {
    const row = table.rows[index] ?? table.appendChild(element("row").content.firstElementChild.cloneNode(true));
    const [jump, end, chip, label, score] = row.querySelectorAll("button, .end, .chip, bdi, .score");
    jump.textContent = clock(segment.start);
    jump.setAttribute("aria-label", `Go to ${segment.label} at ${clock(segment.start)}`);
    end.textContent = clock(segment.end);
    chip.style.background = colourOf(segment.label);
    label.textContent = segment.label;
    score.textContent = scoreOf(segment)?.toFixed(2) ?? "edited";
  }
  const names = new Set([...data.labels, ...segments.map((segment) => segment.label)]);
  element("labels").replaceChildren(...[...names].map((name) => new Option(name, name)));
}

// ---- downloads ----

// Return a TextGrid in its long form, with the tiers that `hf-vivae timeline` writes.
function textGrid() {
  const scored = segments.filter((segment) => scoreOf(segment) !== null);
  const tiers = [["labels", segments.map((segment) => [segment.start, segment.end, segment.label])]];
  if (scored.length)
    tiers.push(["scores", scored.map((segment) => [segment.start, segment.end, scoreOf(segment).toFixed(4)])]);
  const lines = tiers.flatMap(([name, entries], number) => {
    const intervals = withBlanks(entries);
    return [
      `    item [${number + 1}]:`, `        class = "IntervalTier"`, `        name = "${name}"`, `        xmin = 0`,
      `        xmax = ${data.seconds}`, `        intervals: size = ${intervals.length}`,
      ...intervals.flatMap(([from, to, text], index) => [
        `        intervals [${index + 1}]:`, `            xmin = ${from}`, `            xmax = ${to}`,
        `            text = "${text.replaceAll('"', '""')}"`,
      ]),
    ];
  });
  return [
    `File type = "ooTextFile"`, `Object class = "TextGrid"`, "", `xmin = 0`, `xmax = ${data.seconds}`,
    "tiers? <exists>", `size = ${tiers.length}`, "item []:", ...lines, "",
  ].join("\n");
}

// Praat's tiers have no gaps, but intervals without text.
function withBlanks(entries) {
  const intervals = [];
  let time = 0;
  for (const entry of [...entries, [data.seconds]]) {
    if (entry[0] > time) intervals.push([time, entry[0], ""]);
    if (entry.length > 1) intervals.push(entry);
    time = entry[1];
  }
  return intervals;
}

function csv() {
  const cell = (text) => {
    const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; // no formula of a spreadsheet
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const rows = segments.map((segment) => [
    segment.start.toFixed(3), segment.end.toFixed(3), cell(segment.label), scoreOf(segment)?.toFixed(4) ?? "",
  ]);
  return [["start", "end", "label", "score"], ...rows].map((row) => `${row.join(",")}\n`).join("");
}

function download(suffix, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  link.download = data.stem + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // not while the browser reads it
  saved = segments;
  announce(`Saved ${link.download}.`);
}

// ---- events ----

const xOf = (event) => event.clientX - canvas.getBoundingClientRect().left;
const timeAt = (event) => start + xOf(event) / canvas.clientWidth * span;

// Return what a pointer points at: the nearest end of a segment within reach, else a segment, else index -1.
function targetOf(event) {
  const x = xOf(event), y = event.clientY - canvas.getBoundingClientRect().top;
  if (y < RULER || y >= RULER + LABELS) return { index: -1 };
  const index = segments.findIndex((segment) => pixelOf(segment.start) <= x && x < pixelOf(segment.end));
  const target = { labels: true, index };
  let reach = event.pointerType === "touch" ? 16 : 7; // pixels
  for (const [place, segment] of segments.entries()) {
    const left = pixelOf(segment.start), right = pixelOf(segment.end);
    for (const [side, inside] of [["start", x - left], ["end", right - x]]) {
      // the middle third of a short segment is no end, so that it can be pressed
      const distance = inside > (right - left) / 3 ? Infinity : Math.abs(inside);
      if (distance < reach) [reach, target.handle] = [distance, { index: place, side }];
    }
  }
  return target;
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.focus({ preventScroll: true }); // ends an edit of a field, which would else come in the middle of this drag
  canvas.setPointerCapture(event.pointerId);
  const target = targetOf(event);
  const gap = target.labels && target.index < 0 && !target.handle ? gapAt(timeAt(event)) : null;
  drag = { ...target, gap, x: event.clientX, from: timeAt(event), start, before: segments, selected, moved: false };
});

canvas.addEventListener("pointermove", (event) => {
  if (!drag) return describeTarget(targetOf(event));
  drag.moved ||= Math.abs(event.clientX - drag.x) > MOVED;
  if (!drag.moved) return;
  const { handle, gap, before } = drag;
  if (handle) {
    segments = moveEnd(before, handle.index, handle.side, timeAt(event));
    choose(handle.index);
  } else if (gap) {
    const [from, to] = [drag.from, timeAt(event)].map((time) => clamp(time, gap.low, gap.high)).sort((a, b) => a - b);
    drag.added = [from, to];
    segments = before.toSpliced(gap.index, 0, { start: from, end: to, label: lastLabel });
    selected = gap.index;
    requestDrawing();
  } else if (!drag.labels) moveView(drag.start - (event.clientX - drag.x) / canvas.clientWidth * span);
});

function describeTarget({ labels, index, handle }) {
  const segment = segments[index];
  canvas.style.cursor = handle ? "ew-resize" : segment ? "pointer" : labels ? "crosshair" : "default";
  canvas.title = segment ? `${segment.label}, ${clock(segment.start)} to ${clock(segment.end)}` : "";
}

canvas.addEventListener("pointerup", () => {
  if (!drag) return;
  const { moved, index, handle, gap, added, from, before } = drag, after = segments;
  [segments, selected, drag] = [before, drag.selected, null];
  if (moved && handle && after !== before) {
    const { index: place, side } = handle;
    edit(after, place, `Moved the ${side} to ${clock(after[place][side], 3)}.`);
  } else if (moved && added) add(gap, ...added);
  else if (!moved && index >= 0) select(index);
  else if (!moved) seek(from);
  else requestDrawing();
});

canvas.addEventListener("pointercancel", () => {
  if (!drag) return;
  segments = drag.before;
  choose(drag.selected);
  drag = null;
});

canvas.addEventListener("wheel", (event) => {
  const sideways = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
  if (event.ctrlKey) zoom(span * Math.exp(event.deltaY / 300), timeAt(event));
  else if (Math.abs(sideways) >= Math.abs(event.deltaY)) moveView(start + sideways / canvas.clientWidth * span);
  else return; // the page scrolls
  event.preventDefault();
}, { passive: false });

function moveByOverview(event) {
  if (!event.buttons) return;
  const time = (event.clientX - overview.getBoundingClientRect().left) / overview.clientWidth * data.seconds;
  if (span < data.seconds) moveView(time - span / 2);
  else seek(time);
}
overview.addEventListener("pointerdown", (event) => overview.setPointerCapture(event.pointerId));
for (const name of ["pointerdown", "pointermove"]) overview.addEventListener(name, moveByOverview);

const KEYS = {
  " ": toggle,
  ArrowLeft: (event) => seek(audio.currentTime - (event.shiftKey ? 0.1 : 1)),
  ArrowRight: (event) => seek(audio.currentTime + (event.shiftKey ? 0.1 : 1)),
  "[": () => setEnd("start", audio.currentTime),
  "]": () => setEnd("end", audio.currentTime),
  Delete: remove,
  Backspace: remove,
  "+": () => zoom(span / 1.5),
  "-": () => zoom(span * 1.5),
};
const KEYS_OF_TIMELINE = { // elsewhere they scroll
  ArrowUp: () => selected > 0 && select(selected - 1),
  ArrowDown: () => selected + 1 < segments.length && select(selected + 1),
  Home: () => seek(0),
  End: () => seek(data.seconds),
};

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input")) {
    if (event.key === "Enter") canvas.focus({ preventScroll: true }); // ends the edit, so that Space plays
    return;
  }
  const undoes = event.key === "z" && (event.ctrlKey || event.metaKey);
  if (!undoes && (event.ctrlKey || event.metaKey || event.altKey)) return;
  if (event.key === " " && event.target.closest("button, summary")) return;
  const action = undoes ? undo : KEYS[event.key] ?? (event.target === canvas && KEYS_OF_TIMELINE[event.key]);
  if (!action) return;
  event.preventDefault();
  action(event);
});

table.addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row) select(row.sectionRowIndex);
  if (event.detail) canvas.focus({ preventScroll: true }); // a pointer's, so that Space plays and does not press again
});
element("form").addEventListener("submit", (event) => event.preventDefault());
// browsers suggest only labels that contain the text of the field, so that typing replaces it
element("label").addEventListener("focus", (event) => event.target.select());
element("label").addEventListener("change", (event) => rename(event.target.value.trim()));
for (const side of ["start", "end"])
  element(side).addEventListener("change", (event) => setEnd(side, event.target.valueAsNumber));
element("zoom").addEventListener("input", (event) => {
  zoom(data.seconds * (NEAREST / data.seconds) ** (event.target.value / 100));
});
const BUTTONS = {
  play: toggle, replay, delete: remove, add: addAtPosition, undo,
  whole: () => moveView(0, data.seconds),
  textgrid: () => download(".TextGrid", textGrid()),
  csv: () => download(".csv", csv()),
};
for (const [id, action] of Object.entries(BUTTONS)) element(id).addEventListener("click", action);

for (const name of ["play", "pause"]) { // also at the end
  audio.addEventListener(name, () => {
    element("play").toggleAttribute("data-playing", !audio.paused);
    element("play").querySelector("span").textContent = audio.paused ? "Play" : "Pause";
    followSound();
  });
}
audio.addEventListener("seeked", placeCursors);
audio.addEventListener("error", () => announce("This browser cannot play the MP3 of this page."));
addEventListener("beforeunload", (event) => {
  if (segments !== saved) event.preventDefault();
});
addEventListener("resize", requestDrawing);
DARK.addEventListener("change", readTheme);

// A blob, since browsers limit the length of data: addresses.
function loadSound() {
  const encoded = element("sound").textContent, pieces = [], length = 2 ** 20; // a multiple of 4
  for (let at = 0; at < encoded.length; at += length) {
    const bytes = atob(encoded.slice(at, at + length));
    pieces.push(Uint8Array.from(bytes, (letter) => letter.charCodeAt(0)));
  }
  element("sound").remove();
  audio.src = URL.createObjectURL(new Blob(pieces, { type: "audio/mpeg" }));
}

element("length").textContent = clock(data.seconds);
canvas.setAttribute("aria-valuemax", data.seconds.toFixed(2));
for (const [label, colour] of data.series) {
  const item = element("legend").appendChild(element("colour").content.firstElementChild.cloneNode(true));
  item.querySelector(".chip").style.background = colour;
  item.querySelector("bdi").textContent = label;
}
loadSound();
readTheme();
showSegments(segments, -1, "");
moveView(0, Math.max(NEAREST, canvas.clientWidth / 20)); // seconds that leave room for the words of labels
