// The load of the service, from /metrics, read every two seconds while this view is shown and not paused.
import { useRequests } from "./api.js";
import { Chart } from "./chart.js";
import { count, duration, fixed, html, percent, useEffect, useRef, useState } from "./lib.js";
import { between, parse, routes, sum } from "./metrics.js";
import { Card, Failure, Table, Tile } from "./parts.js";
import { Requests } from "./requests.js";

const SECONDS = 2;
const KEPT = 150; // readings: five minutes
const METRICS = { path: ["metrics"], text: true };

const milliseconds = (seconds) => (seconds == null ? null : 1e3 * seconds);
// What is not known while the service does not answer.
const UNKNOWN = { rate: null, errors: null, p50: null, p95: null, p99: null, waiting: null, underWay: null, fallbacks: null };
const requestsOf = (samples) => sum(samples, "ratecast_requests_total");
// A chart joins what is undefined, as a latency without requests, and has a gap where a value is null: no answer.
const column = (readings, take) => [
  readings.map(({ at }) => at),
  ...take.map((one) => readings.map((reading) => one(reading) ?? (reading.rate == null ? null : undefined))),
];

// All readings so far. While `running`, a reading is added every two seconds, of nothing where there is no answer.
function useReadings(ask, running) {
  const [readings, setReadings] = useState([]);
  const [table, setTable] = useState([]);
  const [problem, setProblem] = useState(null);
  const last = useRef(null);
  useEffect(() => {
    if (!running) return undefined;
    const read = async () => {
      try {
        const samples = parse(await ask("metrics", METRICS));
        const now = performance.now();
        const known = last.current;
        last.current = { samples, now };
        setTable(routes(samples));
        setProblem(null);
        if (!known || requestsOf(samples) < requestsOf(known.samples)) return; // the service has started anew
        const reading = { at: Date.now() / 1e3, ...between(known.samples, samples, (now - known.now) / 1e3) };
        setReadings((list) => [...list, reading].slice(-KEPT));
      } catch (failure) {
        setProblem(failure);
        last.current = null;
        setTable([]);
        setReadings((list) => [...list, { at: Date.now() / 1e3, ...UNKNOWN }].slice(-KEPT));
        if (failure.status === 401) clearInterval(timer);
      }
    };
    const timer = setInterval(read, 1e3 * SECONDS);
    read();
    return () => {
      clearInterval(timer);
      last.current = null; // the change during a pause is not a rate over two seconds
    };
  }, [running]);
  return { readings, table, problem };
}

export function Live() {
  const [requests, ask] = useRequests();
  const [running, setRunning] = useState(true);
  const { readings, table, problem } = useReadings(ask, running);
  const latest = readings.at(-1);
  const now = latest?.rate == null ? null : latest;
  const lately = now && readings.slice(readings.findLastIndex(({ rate }) => rate == null) + 1).findLast(({ p50 }) => p50 != null);
  const nothing = problem ? "no answer from the service" : "measuring…";
  return html`
    <div class="heading">
      <h1 tabindex="-1">Live</h1>
      <button type="button" onClick=${() => setRunning(!running)}>${running ? "Pause" : "Resume"}</button>
    </div>
    <p class="lead">All workers together, updated every two seconds. The console's own requests for pages and metrics are not counted.</p>
    <${Failure} problem=${problem} />
    <dl class="tiles">
      <${Tile} name="Requests per second" value=${now ? fixed(now.rate, 1) : "–"}
        ><span class="muted">${now ? `${fixed(now.errors, 1)} per second with an error` : nothing}</span><//
      >
      <${Tile} name="Median latency" value=${duration(lately?.p50)}
        ><span class="muted">p95: ${duration(lately?.p95)} · p99: ${duration(lately?.p99)}</span><//
      >
      <${Tile} name="Rows waiting" value=${now ? count(now.waiting) : "–"}
        ><span class="muted">${now ? `${count(now.underWay)} requests in progress` : nothing}</span><//
      >
      <${Tile} name="Fallbacks" value=${percent(now?.fallbacks)}
        ><span class="muted">predictions and lists for an unknown user or item</span><//
      >
    </dl>
    <div class="charts">
      <div class="card">
        <${Chart} name="Requests per second" said=${now ? `Now ${fixed(now.rate, 1)}.` : ""} time series=${["all", "errors"]}
          data=${column(readings, [({ rate }) => rate, ({ errors }) => errors])} form=${(mark) => mark} />
      </div>
      <div class="card">
        <${Chart} name="Latency, ms" said=${lately ? `Median ${duration(lately.p50)}.` : ""} time series=${["median", "p95", "p99"]}
          data=${column(readings, [({ p50 }) => milliseconds(p50), ({ p95 }) => milliseconds(p95), ({ p99 }) => milliseconds(p99)])}
          form=${(mark) => mark} />
      </div>
      <div class="card">
        <${Chart} name="Queue" said=${now ? `${now.waiting} rows are waiting.` : ""} time series=${["rows waiting", "requests in progress"]}
          data=${column(readings, [({ waiting }) => waiting, ({ underWay }) => underWay])} form=${(mark) => mark} />
      </div>
      <div class="card">
        <${Chart} name="Fallbacks, % of answers" said=${now ? `Now ${percent(now.fallbacks)}.` : ""} time series=${["fallbacks"]}
          data=${column(readings, [({ fallbacks }) => (fallbacks == null ? null : 100 * fallbacks)])} form=${(mark) => mark} />
      </div>
    </div>
    ${table.length > 0 && html`<${Routes} table=${table} />`}
    <${Requests} requests=${requests} />
  `;
}

const Routes = ({ table }) => html`
  <${Card} title="Since the service started">
    <${Table} name="Requests by route" names=${["Route", "Methods", "#Requests", "#Median", "#p99"]}
      rows=${table.map((row) => [html`<code>${row.route}</code>`, row.methods, count(row.requests), duration(row.p50), duration(row.p99)])} />
  <//>
`;
