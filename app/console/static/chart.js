// Charts by uPlot, which is loaded when the first chart is drawn. Charts use the page's colours, light or dark.
import { html, useEffect, useRef } from "./lib.js";

let library = null;
const dark = matchMedia("(prefers-color-scheme: dark)");
const LEAST_SECONDS = 60; // shortest time axis
const clock = (seconds) => new Date(1e3 * seconds).toLocaleTimeString("en", { hourCycle: "h23" });
const COLOURS = ["--series-1", "--series-2", "--series-3"];

function load() {
  library ??= new Promise((done, failed) => {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "console/vendor/uplot.css" });
    const script = Object.assign(document.createElement("script"), { src: "console/vendor/uplot.js", onerror: failed });
    script.onload = () => done(window.uPlot);
    document.head.append(style, script);
  });
  return library;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function options(series, { time, form, width, height }) {
  const axis = { stroke: colour("--muted"), font: "12px system-ui, sans-serif", ticks: { show: false }, size: 28 };
  const grid = { stroke: colour("--line"), width: 1 };
  return {
    width,
    height,
    padding: [8, time ? 32 : 12, 0, 0],
    scales: {
      x: { time, range: (_, first, last) => (time ? lately(first, last) : [first ?? 0, last ?? 1]) },
      y: { range: (_, low, high) => span(low, high, time) },
    },
    cursor: { drag: { x: false, y: false }, points: { size: 7 } },
    legend: { show: false },
    axes: [
      { ...axis, grid: { show: false }, ...(time && { space: 90, values: (_, marks) => marks.map(clock) }) },
      { ...axis, grid, size: 56, values: (_, marks) => marks.map(form) },
    ],
    series: [
      {},
      ...series.map((name, at) => ({
        label: name,
        stroke: colour(COLOURS[at]),
        width: 2,
        dash: at === 2 ? [6, 4] : undefined,
        spanGaps: !time, // over time a gap is a time without an answer
        points: { show: false },
      })),
    ],
  };
}

function lately(first, last) {
  const now = last ?? Date.now() / 1e3;
  return [Math.min(first ?? now, now - LEAST_SECONDS), now];
}

// The axis of a chart over time begins at 0. The axis of a learning curve begins near its lowest value.
function span(low, high, time) {
  if (low == null || high == null) return [0, 1];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return time ? [0, high + margin] : [low - margin, high + margin];
}

// `data` is [xs, ys, …] with a name in `series` for each ys. `said` describes the chart for screen readers.
export function Chart({ name, said, series, data, form, time = false, height = 200 }) {
  const container = useRef(null);
  const plot = useRef(null);
  const latest = useRef(data);
  latest.current = data;
  const empty = data[0].length === 0;
  useEffect(() => {
    if (empty) return undefined;
    const node = container.current;
    let ended = false;
    const draw = (uPlot) => {
      if (ended) return;
      plot.current?.destroy();
      plot.current = new uPlot(options(series, { time, form, width: node.clientWidth, height }), latest.current, node);
    };
    const redraw = () => load().then(draw);
    redraw();
    const sizes = new ResizeObserver(() => plot.current?.setSize({ width: node.clientWidth, height }));
    sizes.observe(node);
    dark.addEventListener("change", redraw);
    return () => {
      ended = true;
      sizes.disconnect();
      dark.removeEventListener("change", redraw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [series.join(), empty]);
  useEffect(() => plot.current?.setData(data), [data]);
  return html`
    <figure class="chart">
      <figcaption>
        <span class="name">${name}</span>
        ${series.length > 1 &&
        html`<span class="keys">${series.map((text, at) => html`<span key=${text} class="key key-${at + 1}">${text}</span>`)}</span>`}
      </figcaption>
      ${empty
        ? html`<p class="muted nothing">Measuring…</p>`
        : html`<div ref=${container} class="plot" role="img" aria-label="${name}. ${said}"></div>`}
    </figure>
  `;
}
