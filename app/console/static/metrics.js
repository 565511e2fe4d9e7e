// Reads the text format of Prometheus and computes rates and quantiles between two readings. It knows no page.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

// Samples by the name of their metric, each [labels, value].
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    if (!samples.has(found[1])) samples.set(found[1], []);
    samples.get(found[1]).push([labels, Number(found[3].replace("Inf", "Infinity"))]);
  }
  return samples;
}

const every = () => true;

export function sum(samples, name, which = every) {
  return (samples.get(name) ?? []).reduce((total, [labels, value]) => (which(labels) ? total + value : total), 0);
}

// How many observations were at or below each bound, [[bound, number], …] in rising order.
function buckets(samples, name, which) {
  const counts = new Map();
  for (const [labels, value] of samples.get(`${name}_bucket`) ?? []) {
    const bound = Number(labels.le.replace("Inf", "Infinity"));
    if (which(labels)) counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

// A quantile of a histogram's observations between two readings, interpolated linearly within a bucket.
// It is null if there were no observations.
export function quantile(before, after, name, share, which = every) {
  const earlier = new Map(buckets(before, name, which));
  const grown = buckets(after, name, which).map(([bound, number]) => [bound, number - (earlier.get(bound) ?? 0)]);
  const total = grown.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  const target = share * total;
  const at = grown.findIndex(([, number]) => number >= target);
  const [low, below] = at > 0 ? grown[at - 1] : [0, 0];
  const [high, upTo] = grown[at];
  if (high === Infinity) return low;
  return low + ((high - low) * (target - below)) / (upTo - below || 1);
}

const answered = ({ route }) => route !== "/metrics" && !route?.startsWith("/health") && !route?.startsWith("/console") && route !== "/";
const PERSONAL = new Set(["model", "fold_in"]);
const fellBack = ({ source }) => !PERSONAL.has(source);

// Rates and quantiles of the `seconds` between two readings, without the console's own requests.
export function between(before, after, seconds) {
  const grown = (name, which) => Math.max(0, sum(after, name, which) - sum(before, name, which));
  const requests = grown("ratecast_requests_total", answered);
  const errors = grown("ratecast_requests_total", (labels) => answered(labels) && labels.status >= "400");
  const made = grown("ratecast_predictions_total") + grown("ratecast_lists_total");
  const fallbacks = grown("ratecast_predictions_total", fellBack) + grown("ratecast_lists_total", fellBack);
  const latency = (share) => quantile(before, after, "ratecast_request_seconds", share, answered);
  return {
    rate: requests / seconds,
    errors: errors / seconds,
    p50: latency(0.5),
    p95: latency(0.95),
    p99: latency(0.99),
    waiting: sum(after, "ratecast_waiting_rows"),
    underWay: Math.max(0, sum(after, "ratecast_requests_under_way") - 1),
    fallbacks: made ? fallbacks / made : null,
  };
}

// Requests and latencies of each route since the service started, the busiest first.
export function routes(samples) {
  const found = new Map();
  for (const [{ route, method }, value] of samples.get("ratecast_requests_total") ?? []) {
    if (!answered({ route })) continue;
    const known = found.get(route) ?? { route, methods: new Set(), requests: 0 };
    known.methods.add(method);
    known.requests += value;
    found.set(route, known);
  }
  const nothing = new Map();
  return [...found.values()]
    .sort((a, b) => b.requests - a.requests)
    .map((entry) => {
      const own = ({ route }) => route === entry.route;
      const latency = (share) => quantile(nothing, samples, "ratecast_request_seconds", share, own);
      return { ...entry, route: entry.route.replace(/:\w+\}/g, "}"), methods: [...entry.methods].sort().join(" "), p50: latency(0.5), p99: latency(0.99) };
    });
}
