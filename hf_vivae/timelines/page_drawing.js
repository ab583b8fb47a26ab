"use strict";

// The strips of the page, drawn from the state in page.js: overview, ruler, labels, spectrogram and probabilities.

const RULER = 22, LABELS = 56, SPECTROGRAM = 160, GAP = 8, PROBABILITIES = 88; // heights in CSS pixels
const PICTURES = 12; // of the spectrogram, kept in memory
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]; // seconds from one tick to the next
const DARK = matchMedia("(prefers-color-scheme: dark)");
// colours of quiet, middling and loud parts of the spectrogram
const SHADES = {
  light: [[248, 250, 252], [128, 154, 180], [12, 28, 46]],
  dark: [[17, 22, 28], [62, 100, 136], [240, 247, 255]],
};
const pictures = new Map(); // of the spectrogram in the colours of the theme, by address, the last used last
let theme = {}, drawing = 0;

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "soft", "paper", "shade"]) theme[name] = style.getPropertyValue(`--${name}`);
  pictures.clear();
  requestDrawing();
}

function requestDrawing() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    drawView();
    drawOverview();
    placeCursors();
  });
}

function clock(seconds, digits = 2) {
  const scale = 10 ** digits, ticks = Math.round(seconds * scale), minutes = Math.floor(ticks / scale / 60);
  const remainder = (ticks / scale - 60 * minutes).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  if (minutes < 60) return `${minutes}:${remainder}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${remainder}`;
}

// Black or white, the one with more contrast (relative luminance of WCAG 2).
function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}

function clearStrip(strip) {
  const width = strip.clientWidth, height = strip.clientHeight, ratio = devicePixelRatio;
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (strip.width !== size[0] || strip.height !== size[1]) [strip.width, strip.height] = size;
  const context = strip.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.textBaseline = "middle";
  return { context, width, height };
}

function setFont(context, size) {
  context.font = `${size}px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
}

function drawView() {
  const { context, width } = clearStrip(canvas), spectrogram = RULER + LABELS + GAP;
  drawRuler(context, width);
  context.fillStyle = theme.shade;
  context.fillRect(0, RULER, width, LABELS);
  for (const [index, segment] of segments.entries())
    if (segment.end > start && segment.start < start + span) drawSegment(context, width, segment, index === selected);
  drawSpectrogram(context, width, spectrogram);
  drawProbabilities(context, width, spectrogram + SPECTROGRAM + GAP);
  if (selected < 0) return;
  context.fillStyle = theme.ink;
  for (const seconds of [segments[selected].start, segments[selected].end])
    context.fillRect(pixelOf(seconds) - 0.5, RULER + LABELS, 1, SPECTROGRAM + PROBABILITIES + 2 * GAP);
}

function drawRuler(context, width) {
  const step = STEPS.find((seconds) => seconds / span * width >= 64) ?? STEPS.at(-1);
  setFont(context, 12);
  context.fillStyle = theme.soft;
  for (let tick = Math.ceil(start / step); tick * step <= start + span; tick++) {
    const at = pixelOf(tick * step), text = clock(tick * step, step < 1 ? 1 : 0);
    const room = context.measureText(text).width;
    context.fillRect(at, RULER - 6, 1, 6);
    context.fillText(text, clamp(at - room / 2, 3, width - room - 3), RULER / 2 - 2);
  }
}

function drawSegment(context, width, segment, chosen) {
  const left = pixelOf(segment.start), right = Math.max(pixelOf(segment.end), left + 1.5);
  const inset = right - left > 4 ? 0.5 : 0; // so that there is a gap between neighbours
  const colour = colourOf(segment.label), score = scoreOf(segment);
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(left + inset, RULER + 4, right - left - 2 * inset, LABELS - 8, Math.min(4, (right - left) / 4));
  context.fill();
  if (chosen) {
    context.lineWidth = 3;
    context.strokeStyle = theme.ink;
    context.stroke();
  }
  const from = Math.max(left, 0) + 5, room = Math.min(right, width) - 4 - from, middle = RULER + LABELS / 2;
  if (room < 12) return;
  context.fillStyle = inkOn(colour);
  setFont(context, 13);
  context.fillText(shorten(context, segment.label, room), from, middle - 9);
  setFont(context, 12);
  const below = score === null ? "edited" : `${Math.round(100 * score)} %`;
  if (context.measureText(below).width <= room) context.fillText(below, from, middle + 10);
}

function shorten(context, text, room) {
  const letters = Array.from(text);
  while (letters.length && context.measureText(text).width > room) {
    letters.pop();
    text = `${letters.join("")}…`;
  }
  return letters.length ? text : "";
}

function drawSpectrogram(context, width, top) {
  const { overview: whole, pages, page_seconds: length } = data.spectrogram;
  const place = (address, from, to) => {
    const picture = pictureAt(address);
    if (picture) context.drawImage(picture, pixelOf(from), top, pixelOf(to) - pixelOf(from), SPECTROGRAM);
  };
  const first = Math.floor(start / length), last = Math.min(Math.floor((start + span) / length), pages.length - 1);
  context.save();
  context.beginPath();
  context.rect(0, top, width, SPECTROGRAM);
  context.clip();
  place(whole, 0, data.seconds);
  if (last - first < PICTURES - 2)
    for (let page = first; page <= last; page++)
      place(pages[page], page * length, Math.min((page + 1) * length, data.seconds));
  context.restore();
  note(context, "8 kHz", top + 10);
  note(context, "0", top + SPECTROGRAM - 9);
}

// Return a picture of the spectrogram, or null while the browser decodes it.
function pictureAt(address) {
  const known = pictures.get(address);
  pictures.delete(address);
  pictures.set(address, known ?? null);
  if (known !== undefined) return known;
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
  const coloured = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
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

function drawProbabilities(context, width, top) {
  context.fillStyle = theme.shade;
  context.fillRect(0, top, width, PROBABILITIES);
  // a column is a step of the timeline, or a pixel with the mean of its steps where these are smaller
  const length = Math.max(data.step, span / width);
  const origin = length > data.step ? start : Math.floor(start / length) * length;
  for (let column = 0; origin + column * length < start + span; column++) {
    const from = origin + column * length, to = Math.min(from + length, data.seconds);
    const first = Math.round(from / data.step), last = Math.max(first + 1, Math.round(to / data.step));
    const rows = data.probabilities.slice(first, last).filter(Boolean); // null: silence
    const left = pixelOf(from), room = pixelOf(to) - left + 0.3; // without seams between columns
    let bottom = top + PROBABILITIES;
    for (const [index, [, colour]] of rows.length ? data.series.entries() : []) {
      const height = rows.reduce((sum, row) => sum + row[index], 0) / rows.length / 1000 * PROBABILITIES;
      context.fillStyle = colour;
      context.fillRect(left, bottom - height, room, height);
      bottom -= height;
    }
  }
  note(context, "probability 1", top + 10);
  note(context, "0", top + PROBABILITIES - 9);
}

// Write the value of an axis over a picture.
function note(context, text, middle) {
  setFont(context, 11);
  context.fillStyle = theme.paper;
  context.globalAlpha = 0.8;
  context.fillRect(2, middle - 7, context.measureText(text).width + 6, 14);
  context.globalAlpha = 1;
  context.fillStyle = theme.ink;
  context.fillText(text, 5, middle);
}

function drawOverview() {
  const { context, width, height } = clearStrip(overview), scale = width / data.seconds;
  context.fillStyle = theme.shade;
  context.fillRect(0, 0, width, height);
  for (const segment of segments) {
    context.fillStyle = colourOf(segment.label);
    context.fillRect(segment.start * scale, 6, Math.max(1, (segment.end - segment.start) * scale), height - 12);
  }
  if (span >= data.seconds) return;
  const left = start * scale, room = Math.max(4, span * scale);
  context.fillStyle = theme.paper;
  context.globalAlpha = 0.6;
  context.fillRect(0, 0, left, height);
  context.fillRect(left + room, 0, width, height);
  context.globalAlpha = 1;
  context.lineWidth = 2;
  context.strokeStyle = theme.ink;
  context.strokeRect(left + 1, 1, room - 2, height - 2);
}
