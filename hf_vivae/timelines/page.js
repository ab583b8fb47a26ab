"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const audio = element("audio");
const canvas = element("view").querySelector("canvas"), overview = element("overview").querySelector("canvas");
const RULER = 22, LABELS = 56, SPECTROGRAM = 160, GAP = 8, PROBABILITIES = 88; // heights in CSS pixels
const SHORTEST = 0.01; // seconds of a segment
const NEAREST = Math.min(2, data.seconds); // seconds of the view at the highest zoom
const MOVED = 3; // pixels from which a press is a drag
const PICTURES = 12; // of the spectrogram, kept in memory
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]; // seconds from one tick to the next
const DARK = matchMedia("(prefers-color-scheme: dark)");
// colours of quiet, middling and loud parts of the spectrogram
const SHADES = { light: [[248, 250, 252], [128, 154, 180], [12, 28, 46]], dark: [[17, 22, 28], [62, 100, 136], [240, 247, 255]] };

const keyOf = (segment) => `${segment.start} ${segment.end} ${segment.label}`;
const scores = new Map(data.segments.map((segment) => [keyOf(segment), segment.score]));
const scoreOf = (segment) => scores.get(keyOf(segment)) ?? null; // only of segments that nobody has changed
const colours = new Map(data.series);
const colourOf = (label) => colours.get(label) ?? data.grey;
const clamp = (value, low, high) => Math.max(low, Math.min(value, high));
const toMilliseconds = (seconds) => Math.round(seconds * 1000) / 1000;

// An edit replaces the list and never changes a segment in place, so that `history` needs no copies.
let segments = data.segments, selected = -1, saved = segments, history = [];
let start = 0, span = data.seconds; // seconds that the view shows
let stopAt = Infinity; // end of a segment that is played alone
let drag = null, lastLabel = data.labels[0];

function clock(seconds, digits = 2) {
  const scale = 10 ** digits, ticks = Math.round(seconds * scale), minutes = Math.floor(ticks / scale / 60);
  const remainder = (ticks / scale - 60 * minutes).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  if (minutes < 60) return `${minutes}:${remainder}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${remainder}`;
}

function announce(text) {
  element("status").textContent = text;
}

// ---- edits ----

function edit(next, index, text) {
  history.push({ segments, selected });
  segments = next;
  announce(text);
  choose(index);
  renderTable();
}

function undo() {
  if (!history.length) return;
  const last = history.pop();
  segments = last.segments;
  announce("Undone.");
  choose(last.selected);
  renderTable();
}

// Move one end of a segment. A neighbour that it touches, or that it would overlap, moves its end with it.
function moveEnd(list, index, side, seconds) {
  const segment = list[index], other = side === "start" ? "end" : "start";
  const at = index + (side === "start" ? -1 : 1), neighbour = list[at];
  const low = side === "end" ? segment.start + SHORTEST : neighbour ? neighbour.start + SHORTEST : 0;
  const high = side === "start" ? segment.end - SHORTEST : neighbour ? neighbour.end - SHORTEST : data.seconds;
  if (low > high) return list;
  const time = clamp(toMilliseconds(seconds), low, high), next = [...list];
  next[index] = { ...segment, [side]: time };
  if (neighbour && (neighbour[other] === segment[side] || (side === "start" ? neighbour.end > time : neighbour.start < time)))
    next[at] = { ...neighbour, [other]: time };
  return next;
}

// Return the free time around a moment, or null within a segment.
function gapAt(seconds) {
  const after = segments.findIndex((segment) => segment.end > seconds);
  if (after < 0) return { index: segments.length, low: segments.at(-1)?.end ?? 0, high: data.seconds };
  if (segments[after].start <= seconds) return null;
  return { index: after, low: segments[after - 1]?.end ?? 0, high: segments[after].start };
}

function add(gap, from, to) {
  const segment = { start: clamp(toMilliseconds(from), gap.low, gap.high), end: clamp(toMilliseconds(to), gap.low, gap.high), label: lastLabel };
  if (segment.end - segment.start < SHORTEST) return announce("There is no room for a segment here.");
  edit(segments.toSpliced(gap.index, 0, segment), gap.index, `Added ${segment.label} at ${clock(segment.start)}.`);
  element("label").focus({ preventScroll: true });
  element("label").select();
}

function addAtPosition() {
  const time = audio.currentTime, gap = gapAt(time);
  if (!gap) return announce("The position is within a segment; move it to a free place first.");
  add(gap, time, time + 1);
}

function remove() {
  if (selected < 0) return;
  const { label, start: from } = segments[selected];
  edit(segments.toSpliced(selected, 1), -1, `Deleted ${label} at ${clock(from)}.`);
}

function rename(label) {
  if (selected < 0 || label === segments[selected].label) return;
  if (!label.trim()) {
    announce("A segment has a label; use Delete to remove it.");
    return choose(selected);
  }
  lastLabel = label;
  edit(segments.with(selected, { ...segments[selected], label }), selected, `Changed the label to ${label}.`);
}

function setEnd(side, seconds) {
  if (selected < 0) return;
  const next = Number.isFinite(seconds) ? moveEnd(segments, selected, side, seconds) : segments;
  if (next === segments) return choose(selected);
  edit(next, selected, `Moved the ${side} to ${clock(next[selected][side], 3)}.`);
}

// ---- position and view ----

function seek(seconds) {
  stopAt = Infinity;
  audio.currentTime = clamp(seconds, 0, data.seconds);
  show(audio.currentTime);
  placeCursors();
}

function show(seconds) {
  if (seconds < start || seconds > start + span) moveView(seconds - span / 10);
}

function moveView(from, seconds = span) {
  span = clamp(seconds, NEAREST, data.seconds);
  start = clamp(from, 0, data.seconds - span);
  element("zoom").value = data.seconds > NEAREST ? 100 * Math.log(data.seconds / span) / Math.log(data.seconds / NEAREST) : 0;
  element("zoom").setAttribute("aria-valuetext", `${clock(span, 0)} of ${clock(data.seconds, 0)} in view`);
  requestDrawing();
}

function zoom(seconds, around) {
  const share = clamp((around - start) / span, 0, 1);
  moveView(around - share * clamp(seconds, NEAREST, data.seconds), seconds);
}

// The position while it is in view, else the middle.
function zoomCentre() {
  const time = audio.currentTime;
  return time >= start && time <= start + span ? time : start + span / 2;
}

function choose(index) {
  selected = index < segments.length ? index : -1;
  const segment = segments[selected];
  for (const id of ["label", "start", "end", "replay", "delete"]) element(id).disabled = !segment;
  for (const id of ["label", "start", "end"]) element(id).value = !segment ? "" : id === "label" ? segment.label : toMilliseconds(segment[id]);
  element("undo").disabled = !history.length;
  for (const [number, row] of [...element("rows").querySelector("tbody").rows].entries()) markRow(row, number === selected);
  requestDrawing();
}

function markRow(row, chosen) {
  row.classList.toggle("selected", chosen);
  row.querySelector("button").toggleAttribute("aria-current", chosen);
}

function select(index) {
  choose(index);
  seek(segments[index].start);
  if (segments[index].end > start + span) moveView(segments[index].start - span / 10);
}

function toggle() {
  stopAt = Infinity;
  if (audio.paused) audio.play();
  else audio.pause();
}

function replay() {
  if (selected < 0) return;
  seek(segments[selected].start);
  stopAt = segments[selected].end;
  audio.play();
}

let rowNow = null;

function placeCursors() {
  const time = audio.currentTime;
  const share = (time - start) / span, whole = time / data.seconds;
  const [small, large] = [overview, canvas].map((strip) => strip.nextElementSibling);
  large.hidden = share < 0 || share > 1;
  large.style.transform = `translateX(${share * canvas.clientWidth}px)`;
  small.style.transform = `translateX(${whole * overview.clientWidth}px)`;
  element("clock").textContent = clock(time);
  canvas.setAttribute("aria-valuenow", time.toFixed(2));
  const index = segments.findIndex((segment) => segment.start <= time && time < segment.end);
  canvas.setAttribute("aria-valuetext", `${clock(time)}, ${segments[index]?.label ?? "no label"}`);
  const rows = element("rows"), row = rows.querySelector("tbody").rows[index];
  if (row === rowNow) return;
  rowNow?.classList.remove("now");
  row?.classList.add("now");
  rowNow = row;
  if (row && !audio.paused) {
    const head = rows.querySelector("thead").offsetHeight;
    if (row.offsetTop - head < rows.scrollTop || row.offsetTop + row.offsetHeight > rows.scrollTop + rows.clientHeight)
      rows.scrollTop = row.offsetTop - head;
  }
}

function followSound() {
  if (audio.paused) return;
  if (audio.currentTime >= stopAt) audio.pause();
  // turns the page at its end, unless another place is in view
  const ahead = (audio.currentTime - start) / span;
  if (ahead > 0.95 && ahead < 1.05 && !drag) moveView(audio.currentTime - span / 20);
  placeCursors();
  requestAnimationFrame(followSound);
}

// ---- drawing ----

let drawing = 0, theme = {};

function requestDrawing() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw();
    drawOverview();
    placeCursors();
  });
}

function prepare(strip) {
  const width = strip.clientWidth, height = strip.clientHeight, ratio = devicePixelRatio;
  if (strip.width !== Math.round(width * ratio) || strip.height !== Math.round(height * ratio)) {
    strip.width = Math.round(width * ratio);
    strip.height = Math.round(height * ratio);
  }
  const context = strip.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "13px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  context.textBaseline = "middle";
  return { context, width, height };
}

// Black or white, the one with more contrast (relative luminance as in WCAG 2).
function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}

function draw() {
  const { context, width } = prepare(canvas), pixel = (seconds) => (seconds - start) / span * width;
  drawRuler(context, width, pixel);
  context.fillStyle = theme.shade;
  context.fillRect(0, RULER, width, LABELS);
  for (const [index, segment] of segments.entries())
    if (segment.end > start && segment.start < start + span) drawSegment(context, width, pixel, segment, index === selected);
  const top = RULER + LABELS + GAP;
  drawSpectrogram(context, width, pixel, top);
  drawProbabilities(context, width, top + SPECTROGRAM + GAP);
  if (selected >= 0) {
    context.fillStyle = theme.ink;
    for (const side of ["start", "end"])
      context.fillRect(Math.round(pixel(segments[selected][side])) - 0.5, RULER + LABELS, 1, SPECTROGRAM + PROBABILITIES + 2 * GAP);
  }
}

function drawRuler(context, width, pixel) {
  const step = STEPS.find((seconds) => seconds / span * width >= 64) ?? STEPS.at(-1);
  context.fillStyle = theme.soft;
  for (let tick = Math.ceil(start / step); tick * step <= start + span; tick++) {
    const at = pixel(tick * step), text = clock(tick * step, step < 1 ? 1 : 0);
    context.fillRect(at, RULER - 6, 1, 6);
    const room = context.measureText(text).width;
    context.fillText(text, clamp(at - room / 2, 2, width - room - 2), RULER / 2 - 2);
  }
}

function drawSegment(context, width, pixel, segment, chosen) {
  const left = pixel(segment.start), right = Math.max(pixel(segment.end), left + 1.5), colour = colourOf(segment.label);
  const inset = right - left > 4 ? 0.5 : 0; // a gap between neighbours
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(left + inset, RULER + 4, right - left - 2 * inset, LABELS - 8, Math.min(4, (right - left) / 4));
  context.fill();
  if (chosen) {
    context.lineWidth = 3;
    context.strokeStyle = theme.ink;
    context.stroke();
  }
  const from = Math.max(left, 0) + 6, room = Math.min(right, width) - 5 - from;
  if (room < 14) return;
  const shorten = (text) => {
    const letters = Array.from(text);
    while (letters.length && context.measureText(text).width > room) text = `${(letters.pop(), letters.join(""))}…`;
    return letters.length ? text : "";
  };
  const score = scoreOf(segment);
  context.fillStyle = inkOn(colour);
  context.fillText(shorten(segment.label), from, RULER + LABELS / 2 - 9);
  context.fillText(shorten(score === null ? "edited" : `${Math.round(100 * score)} %`), from, RULER + LABELS / 2 + 10);
}

const pictures = new Map(); // as canvases in the colours of the theme, the last used last

function pictureAt(address) {
  const known = pictures.get(address);
  if (known !== undefined) {
    pictures.delete(address);
    pictures.set(address, known);
    return known;
  }
  pictures.set(address, null);
  if (pictures.size > PICTURES) pictures.delete(pictures.keys().next().value);
  const image = new Image();
  image.onload = () => {
    if (!pictures.has(address)) return;
    pictures.set(address, colourPicture(image));
    requestDrawing();
  };
  image.src = address;
  return null;
}

function colourPicture(image) {
  const coloured = document.createElement("canvas");
  coloured.width = image.width;
  coloured.height = image.height;
  const context = coloured.getContext("2d"), stops = SHADES[DARK.matches ? "dark" : "light"];
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height);
  const table = Array.from({ length: 256 }, (_, grey) => {
    const place = grey / 127.5, index = Math.min(1, Math.floor(place));
    return stops[index].map((part, channel) => part + (stops[index + 1][channel] - part) * (place - index));
  });
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set(table[pixels.data[at]], at);
  context.putImageData(pixels, 0, 0);
  return coloured;
}

function drawSpectrogram(context, width, pixel, top) {
  const { overview: whole, pages, page_seconds: length } = data.spectrogram;
  const place = (picture, from, to) => picture && context.drawImage(picture, pixel(from), top, pixel(to) - pixel(from), SPECTROGRAM);
  context.save();
  context.beginPath();
  context.rect(0, top, width, SPECTROGRAM);
  context.clip();
  place(pictureAt(whole), 0, data.seconds);
  const first = Math.floor(start / length), last = Math.min(Math.floor((start + span) / length), pages.length - 1);
  if (last - first < PICTURES - 2)
    for (let page = first; page <= last; page++) place(pictureAt(pages[page]), page * length, Math.min((page + 1) * length, data.seconds));
  context.restore();
  note(context, "8 kHz", top + 10);
  note(context, "0", top + SPECTROGRAM - 9);
}

function note(context, text, middle) {
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = theme.paper;
  context.globalAlpha = 0.75;
  context.fillRect(2, middle - 7, context.measureText(text).width + 6, 14);
  context.globalAlpha = 1;
  context.fillStyle = theme.ink;
  context.fillText(text, 5, middle);
}

function drawProbabilities(context, width, top) {
  context.fillStyle = theme.shade;
  context.fillRect(0, top, width, PROBABILITIES);
  const columns = Math.min(width, Math.ceil(span / data.step) + 1), steps = data.probabilities.length;
  const length = columns < width ? data.step : span / width; // seconds of a column, a step of the timeline or a pixel
  const origin = columns < width ? Math.floor(start / data.step) * data.step : start;
  for (let column = 0; column < columns; column++) {
    const from = origin + column * length, to = Math.min(from + length, data.seconds), first = Math.round(from / data.step);
    const last = Math.max(first + 1, Math.round(to / data.step));
    const rows = data.probabilities.slice(first, Math.min(last, steps)).filter(Boolean);
    if (!rows.length) continue;
    const left = (from - start) / span * width, right = (to - start) / span * width;
    let bottom = top + PROBABILITIES;
    for (const [index, [, colour]] of data.series.entries()) {
      const height = rows.reduce((sum, row) => sum + row[index], 0) / rows.length / 1000 * PROBABILITIES;
      context.fillStyle = colour;
      context.fillRect(left, bottom - height, right - left + 0.3, height); // no seams between columns
      bottom -= height;
    }
  }
  note(context, "probability 1", top + 10);
  note(context, "0", top + PROBABILITIES - 9);
}

function drawOverview() {
  const { context, width, height } = prepare(overview);
  context.fillStyle = theme.shade;
  context.fillRect(0, 0, width, height);
  for (const segment of segments) {
    const left = segment.start / data.seconds * width;
    context.fillStyle = colourOf(segment.label);
    context.fillRect(left, 6, Math.max(1, (segment.end - segment.start) / data.seconds * width), height - 12);
  }
  if (span >= data.seconds) return;
  const left = start / data.seconds * width, room = Math.max(4, span / data.seconds * width);
  context.fillStyle = theme.paper;
  context.globalAlpha = 0.6;
  context.fillRect(0, 0, left, height);
  context.fillRect(left + room, 0, width, height);
  context.globalAlpha = 1;
  context.lineWidth = 2;
  context.strokeStyle = theme.ink;
  context.strokeRect(left + 1, 1, Math.max(2, room - 2), height - 2);
}

function renderTable() {
  element("count").textContent = segments.length;
  element("rows").querySelector("tbody").replaceChildren(...segments.map((segment, index) => {
    const row = document.createElement("tr"), jump = document.createElement("button"), chip = document.createElement("span");
    jump.type = "button";
    jump.textContent = clock(segment.start);
    jump.setAttribute("aria-label", `${segment.label} at ${clock(segment.start)}, go there`);
    chip.className = "chip";
    chip.style.background = colourOf(segment.label);
    row.insertCell().append(jump);
    row.insertCell().append(clock(segment.end));
    const label = row.insertCell(), name = document.createElement("bdi");
    name.textContent = segment.label;
    label.append(chip, name);
    row.insertCell().append(scoreOf(segment)?.toFixed(2) ?? "edited");
    row.addEventListener("click", (event) => {
      select(index);
      if (event.detail) canvas.focus({ preventScroll: true }); // of a pointer, so that Space plays
    });
    markRow(row, index === selected);
    return row;
  }));
  const names = new Set([...data.labels, ...segments.map((segment) => segment.label)]);
  element("labels").replaceChildren(...[...names].map((name) => new Option(name, name)));
  requestDrawing();
}

// ---- downloads ----

// A TextGrid in its long form with the tiers `labels` and `scores`; Praat has no gaps but intervals without text.
function textGrid() {
  const intervals = [];
  let time = 0;
  for (const segment of segments) {
    if (segment.start > time) intervals.push([time, segment.start, "", ""]);
    intervals.push([segment.start, segment.end, segment.label, scoreOf(segment)?.toFixed(4) ?? ""]);
    time = segment.end;
  }
  if (time < data.seconds) intervals.push([time, data.seconds, "", ""]);
  const tier = (number, name, column) => [
    `    item [${number}]:`, "        class = \"IntervalTier\"", `        name = "${name}"`, "        xmin = 0",
    `        xmax = ${data.seconds}`, `        intervals: size = ${intervals.length}`,
    ...intervals.flatMap((interval, index) => [
      `        intervals [${index + 1}]:`, `            xmin = ${interval[0]}`, `            xmax = ${interval[1]}`,
      `            text = "${interval[column].replaceAll('"', '""')}"`,
    ]),
  ];
  return [
    "File type = \"ooTextFile\"", "Object class = \"TextGrid\"", "", "xmin = 0", `xmax = ${data.seconds}`, "tiers? <exists>",
    "size = 2", "item []:", ...tier(1, "labels", 2), ...tier(2, "scores", 3), "",
  ].join("\n");
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
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // not while the browser still reads it
  saved = segments;
  announce(`Saved ${link.download} with ${segments.length} segments.`);
}

// ---- events ----

// The end of a segment that a pointer can grab, else the segment, else neither.
function grab(x, reach) {
  const pixel = (seconds) => (seconds - start) / span * canvas.clientWidth;
  let best = { distance: reach };
  for (const [index, segment] of segments.entries()) {
    const left = pixel(segment.start), right = pixel(segment.end);
    for (const [side, distance] of [["start", left - x], ["end", x - right]]) {
      // inside of a short segment, the middle third is not an end
      const near = distance > 0 ? distance : -distance < (right - left) / 3 ? -distance : Infinity;
      if (near < best.distance || (near === best.distance && index === selected)) best = { distance: near, index, side };
    }
  }
  if (best.side) return best;
  return { index: segments.findIndex((segment) => pixel(segment.start) <= x && x < pixel(segment.end)) };
}

const timeAt = (event) => start + (event.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth * span;
const inLabels = (event) => {
  const y = event.clientY - canvas.getBoundingClientRect().top;
  return y >= RULER && y < RULER + LABELS;
};
const reachOf = (event) => (event.pointerType === "touch" ? 16 : 7);
const xOf = (event) => event.clientX - canvas.getBoundingClientRect().left;

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  drag = { x: event.clientX, from: timeAt(event), start, before: segments, moved: false };
  if (inLabels(event)) {
    Object.assign(drag, { labels: true }, grab(xOf(event), reachOf(event)));
    if (!drag.side && drag.index < 0) drag.gap = gapAt(drag.from);
  }
});

canvas.addEventListener("pointermove", (event) => {
  if (!drag) {
    const target = inLabels(event) ? grab(xOf(event), reachOf(event)) : {};
    canvas.style.cursor = target.side ? "ew-resize" : target.index >= 0 ? "pointer" : inLabels(event) ? "crosshair" : "default";
    return;
  }
  drag.moved ||= Math.abs(event.clientX - drag.x) > MOVED;
  if (!drag.moved) return;
  if (drag.side) {
    segments = moveEnd(drag.before, drag.index, drag.side, timeAt(event));
    choose(drag.index);
  } else if (drag.gap) {
    const [from, to] = [drag.from, timeAt(event)].sort((a, b) => a - b).map((time) => clamp(time, drag.gap.low, drag.gap.high));
    segments = drag.before.toSpliced(drag.gap.index, 0, { start: from, end: to, label: lastLabel });
    choose(drag.gap.index);
  } else if (!drag.labels) moveView(drag.start - (event.clientX - drag.x) / canvas.clientWidth * span);
});

canvas.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { moved, side, index, gap, before, from } = drag, after = segments;
  drag = null;
  segments = before;
  if (moved && side && after !== before) edit(after, index, `Moved the ${side} to ${clock(after[index][side], 3)}.`);
  else if (moved && gap) add(gap, after[gap.index].start, after[gap.index].end);
  else if (!moved && index >= 0) select(index);
  else if (!moved) seek(from);
  else requestDrawing();
});

canvas.addEventListener("pointercancel", () => {
  if (drag) segments = drag.before;
  drag = null;
  choose(selected);
});

canvas.addEventListener("wheel", (event) => {
  if (event.ctrlKey) zoom(span * Math.exp(event.deltaY / 300), timeAt(event));
  else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) moveView(start + (event.deltaX || event.deltaY) / canvas.clientWidth * span);
  else return; // the page scrolls
  event.preventDefault();
}, { passive: false });

const moveWindow = (event) => {
  if (event.buttons) moveView((event.clientX - overview.getBoundingClientRect().left) / overview.clientWidth * data.seconds - span / 2);
};
overview.addEventListener("pointerdown", (event) => {
  overview.setPointerCapture(event.pointerId);
  if (span >= data.seconds) seek((event.clientX - overview.getBoundingClientRect().left) / overview.clientWidth * data.seconds);
  else moveWindow(event);
});
overview.addEventListener("pointermove", moveWindow);

const KEYS = {
  " ": toggle,
  ArrowLeft: (event) => seek(audio.currentTime - (event.shiftKey ? 0.1 : 1)),
  ArrowRight: (event) => seek(audio.currentTime + (event.shiftKey ? 0.1 : 1)),
  ArrowUp: () => selected > 0 && select(selected - 1),
  ArrowDown: () => selected + 1 < segments.length && select(selected + 1),
  "[": () => setEnd("start", audio.currentTime),
  "]": () => setEnd("end", audio.currentTime),
  Delete: remove,
  Backspace: remove,
  "+": () => zoom(span / 1.5, zoomCentre()),
  "-": () => zoom(span * 1.5, zoomCentre()),
};

document.addEventListener("keydown", (event) => {
  const inField = event.target.closest("input");
  if (event.key === "z" && (event.ctrlKey || event.metaKey) && !inField) {
    event.preventDefault();
    return undo();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || inField) return;
  if (event.key === " " && event.target.closest("button, summary")) return;
  if (event.key.startsWith("Arrow") && event.key !== "ArrowLeft" && event.key !== "ArrowRight" && event.target.id === "rows") return;
  if (!KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key](event);
});

element("form").addEventListener("submit", (event) => event.preventDefault());
element("label").addEventListener("change", (event) => rename(event.target.value));
for (const side of ["start", "end"]) element(side).addEventListener("change", (event) => setEnd(side, event.target.valueAsNumber));
element("zoom").addEventListener("input", (event) => zoom(data.seconds * (NEAREST / data.seconds) ** (event.target.value / 100), zoomCentre()));
for (const [id, action] of Object.entries({
  play: toggle, replay, delete: remove, add: addAtPosition, undo,
  whole: () => moveView(0, data.seconds),
  textgrid: () => download(".TextGrid", textGrid()),
  csv: () => download(".csv", csv()),
})) element(id).addEventListener("click", action);

for (const name of ["play", "pause", "ended"]) {
  audio.addEventListener(name, () => {
    element("play").toggleAttribute("data-playing", !audio.paused);
    element("play").querySelector("span").textContent = audio.paused ? "Play" : "Pause";
    if (name === "play") requestAnimationFrame(followSound);
    else placeCursors();
  });
}
audio.addEventListener("seeked", placeCursors);
audio.addEventListener("error", () => announce("This browser cannot play the MP3 of this page."));
addEventListener("beforeunload", (event) => {
  if (segments !== saved) event.preventDefault();
});
addEventListener("resize", requestDrawing);
DARK.addEventListener("change", readTheme);

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  theme = Object.fromEntries(["ink", "soft", "paper", "shade"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
  pictures.clear();
  requestDrawing();
}

// A blob, since browsers limit the length of data: addresses.
function loadSound() {
  const encoded = element("sound").textContent, pieces = [], length = 2 ** 20; // a multiple of 4
  for (let at = 0; at < encoded.length; at += length) pieces.push(Uint8Array.from(atob(encoded.slice(at, at + length)), (letter) => letter.charCodeAt(0)));
  element("sound").remove();
  audio.src = URL.createObjectURL(new Blob(pieces, { type: "audio/mpeg" }));
}

element("length").textContent = clock(data.seconds);
canvas.setAttribute("aria-valuemax", data.seconds.toFixed(2));
element("legend").replaceChildren(...data.series.map(([label, colour]) => {
  const item = document.createElement("li"), chip = document.createElement("span");
  chip.className = "chip";
  chip.style.background = colour;
  item.append(chip, label);
  return item;
}));
loadSound();
readTheme();
renderTable();
choose(-1);
moveView(0, Math.min(data.seconds, 60));
