// How the last fit ended, and what the service runs with. Both are for admins, and nothing is changed here.
import { useAnswer, useRequests } from "./api.js";
import { ago, date, html, span } from "./lib.js";
import { AdminFailure, Card, Lines } from "./parts.js";
import { Requests } from "./requests.js";

export function Settings() {
  const [requests, ask] = useRequests();
  const used = useAnswer(ask, "settings", { path: ["settings"], admin: true }, []);
  const last = useAnswer(ask, "last fit", { path: ["models", "last-fit"], admin: true }, []);
  return html`
    <h1 tabindex="-1">Settings</h1>
    <${AdminFailure} problem=${used.problem} what="the settings and how the last fit ended" />
    ${last.content && html`<${LastFit} fit=${last.content.fit} />`}
    ${used.content &&
    html`<${Card} title="Settings of the service" kind="settings">
      <p class="muted">The service reads these variables when it starts. Keys are counted, and URLs are without user, password and query.</p>
      <${Lines} rows=${used.content.settings.map(({ name, value, given, meaning }) => [
        html`<code>${name}</code><br /><span class="muted">${meaning.split("`").map((part, at) => (at % 2 ? html`<code>${part}</code>` : part))}</span>`,
        html`<span class="version">${given ? html`<strong>${value}</strong>` : html`${value ?? "–"} <span class="muted">by default</span>`}</span>`,
      ])} />
    <//>`}
    <${Requests} requests=${requests} />
  `;
}

function LastFit({ fit }) {
  const seconds = (from, to) => (new Date(to) - new Date(from)) / 1e3;
  const late = fit?.next_at && seconds(fit.next_at, Date.now());
  return html`
    <section class="card">
      <div class="heading"><h2>Last fit</h2>${fit && html`<span class="badge ${fit.version ? "good" : "bad"}">${fit.outcome}</span>`}</div>
      ${!fit
        ? html`<p>No fit has been noted yet.</p>`
        : html`<dl class="facts">
            <dt>Ended</dt><dd>${date(fit.ended_at)}, after ${span(seconds(fit.began_at, fit.ended_at))}</dd>
            <dt>${fit.version ? "Version" : "Why"}</dt><dd>${fit.version ?? fit.reason}</dd>
            <dt>Next</dt><dd>${late == null ? "None is planned: fit --every repeats the fit." : late > 0 ? `It was due ${ago(late)}: it is running, or the job has ended.` : date(fit.next_at)}</dd>
          </dl>`}
    </section>
  `;
}
