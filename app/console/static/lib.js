// The libraries that the console uses, and the formats of numbers and times.
import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { render } from "./vendor/preact.js";
export { useCallback, useEffect, useId, useMemo, useRef, useState } from "./vendor/hooks.js";
export const html = htm.bind(h);

const whole = new Intl.NumberFormat("en");
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

export const count = (number) => whole.format(number);
export const fixed = (number, digits) => (number == null ? "–" : number.toFixed(digits));
export const percent = (share, digits = 1) => (share == null ? "–" : `${(100 * share).toFixed(digits)} %`);

const inUnits = (seconds) => UNITS.find(([, size]) => seconds >= size) ?? UNITS.at(-1);

export function ago(seconds) {
  const [unit, size] = inUnits(seconds);
  return relative.format(-Math.round(seconds / size), unit);
}

export function span(seconds) {
  const [unit, size] = inUnits(seconds);
  return new Intl.NumberFormat("en", { style: "unit", unit, unitDisplay: "long" }).format(Math.round(seconds / size));
}

export function duration(seconds) {
  if (seconds == null || Number.isNaN(seconds)) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${(seconds * 1e3).toPrecision(3).replace(/\.?0+$/, "")} ms` : `${seconds.toFixed(2)} s`;
}

export const date = (text) => new Date(text).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
export const label = ({ title, item }) => title ?? item;
export const scaleOf = ({ shape }) => [shape.rating_min, shape.rating_max];
export const linkTo = (view, id) => `#${view}/${encodeURIComponent(id)}`;
