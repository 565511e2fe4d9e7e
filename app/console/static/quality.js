// How good the model is on the ratings that come in, how the data have changed, and what the next fit will find.
import { useAnswer, useRequests } from "./api.js";
import { count, date, fixed, html, percent, useState } from "./lib.js";
import { AdminFailure, Calibration, Card, Choice, Failure, Table, Tile } from "./parts.js";
import { Requests } from "./requests.js";

const DAYS = [[7, "7 days"], [30, "30 days"], [90, "90 days"]];
const SOURCES = { model: "model", fold_in: "folded in", unknown: "unknown user or item", all: "all" };

export function Quality({ model }) {
  const [requests, ask] = useRequests();
  const [days, setDays] = useState(30);
  const live = useAnswer(ask, "live error", { path: ["quality"], query: { days } }, [days]);
  const stored = useAnswer(ask, "stored ratings", { path: ["ratings"], query: { days }, admin: true }, [days]);
  return html`
    <div class="heading"><h1 tabindex="-1">Quality</h1><${Choice} legend="Show the last" options=${DAYS} value=${days} choose=${setDays} /></div>
    <${Failure} problem=${live.problem} />
    ${live.content && html`<${Live} quality=${live.content} model=${model} />`}
    ${stored.problem?.status !== live.problem?.status && html`<${AdminFailure} problem=${stored.problem} />`}
    ${stored.content && html`<${Stored} summary=${stored.content} days=${days} />`}
    ${model && html`<${Drift} data=${model.data} />`}
    <${Requests} requests=${requests} />
  `;
}

// Errors of predictions for the new ratings, each compared with what was predicted before it.
function Live({ quality: { figures, waiting }, model }) {
  const now = figures.find(({ version, source }) => source === "all" && version === model?.version);
  const measured = model?.metrics ?? {};
  return html`
    <dl class="tiles">
      <${Tile} name="Live RMSE" value=${fixed(now?.rmse, 4)}>
        <span class="muted">${now ? `of ${count(now.ratings)} new ratings; the biases alone: ${fixed(now.bias_rmse, 4)}` : "no new rating was compared with this version yet"}</span>
        <span class="muted">test ratings of the fit: ${fixed(measured.rmse, 4)}</span>
      <//>
      <${Tile} name="Live calibration" value=${percent(now?.coverage90)}>
        ${now?.coverage90 != null && html`<${Calibration} share=${now.coverage90} />`}
        <span class="muted">of the new ratings are inside their 90 % interval; test ratings of the fit: ${percent(measured.coverage90)}</span>
      <//>
    </dl>
    <${Card} title="Live error by version">
      <p class="muted">Each new rating is compared with what was predicted before it; ${count(waiting)} are still to be compared.</p>
      ${!figures.length ? html`<p>No new ratings in this time.</p>` : html`<${Table} name="Live error" kind="version" names=${["Version", "Predicted from", "#Ratings", "#RMSE", "#RMSE of biases", "#MAE", "#In 90 % intervals"]}
        rows=${figures.map((row) => [row.version, SOURCES[row.source], count(row.ratings), fixed(row.rmse, 4), fixed(row.bias_rmse, 4), fixed(row.mae, 4), percent(row.coverage90)])} />`}
    <//>
  `;
}

function Stored({ summary, days }) {
  const { since_fit: fresh, first, last } = summary;
  return html`
    <dl class="tiles">
      <${Tile} name="Fresh since the fit" value=${count(fresh.ratings)}><span class="muted">ratings, and ${count(fresh.users)} users whose ratings have changed</span><//>
      <${Tile} name="Stored ratings" value=${count(summary.ratings)}><span class="muted">of ${count(summary.items)} items by ${count(summary.users)} users</span><//>
    </dl>
    <${Card} title="Ratings over time">
      <p class="muted">${last ? `Stored ratings are from ${date(first)} to ${date(last)}.` : "No rating is stored."}</p>
      ${last && html`<${Days} counts=${summary.days} days=${days} />`}
    <//>
  `;
}

// A bar for each day until today, in UTC.
function Days({ counts, days }) {
  const known = new Map(counts.map(({ day, ratings }) => [day, ratings]));
  const all = Array.from({ length: days }, (_, at) => new Date(Date.now() - 864e5 * (days - 1 - at)).toISOString().slice(0, 10));
  const most = Math.max(...known.values(), 1);
  const total = all.reduce((sum, day) => sum + (known.get(day) ?? 0), 0);
  return html`
    <svg class="days" role="img" width="100%" height="120" aria-label="${count(total)} ratings in the last ${days} days, at most ${count(most)} a day">
      ${all.map((day, at) => {
        const number = known.get(day) ?? 0;
        const height = (120 * number) / most;
        return html`<rect key=${day} class="ours" x="${(100 * at) / days}%" width="${80 / days}%" y=${120 - height} height=${height}><title>${day}: ${count(number)}</title></rect>`;
      })}
    </svg>
    <p class="ends muted"><span>${all[0]}</span><span>at most ${count(most)} a day</span><span>${all.at(-1)}</span></p>
  `;
}

function Drift({ data: { drift, rating_mean: mean, rating_deviation: deviation } }) {
  return html`
    <${Card} title="Drift of the training ratings">
      ${!drift ? html`<p>This version was the first, so there is nothing to compare its ratings with.</p>` : html`<p class="muted">Compared with those of <span class="version">${drift.against}</span>, which was served before.</p>
        <dl class="facts">
          <dt>Average rating</dt><dd>${fixed(mean, 3)}, before ${fixed(drift.rating_mean, 3)}</dd>
          <dt>Standard deviation</dt><dd>${fixed(deviation, 3)}, before ${fixed(drift.rating_deviation, 3)}</dd>
          <dt>Ratings by users it knew</dt><dd>${percent(drift.known_users)}</dd>
          <dt>Ratings of items it knew</dt><dd>${percent(drift.known_items)}</dd>
          <dt>Both</dt><dd>${percent(drift.coverage)}</dd>
        </dl>`}
    <//>
  `;
}
