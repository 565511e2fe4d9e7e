// The model being served: its age, its metrics, the published versions, and a dialog to activate one of them.
import { keep, key, useAnswer, useRequests } from "./api.js";
import { Chart } from "./chart.js";
import { ago, count, date, duration, fixed, html, percent, useEffect, useId, useMemo, useRef, useState } from "./lib.js";
import { Failure, Tile } from "./parts.js";
import { Requests } from "./requests.js";

const VERDICTS = { passed: "good", refused: "bad", "not measured": "plain" };

export function Model({ refresh }) {
  const [requests, ask] = useRequests();
  const [turn, setTurn] = useState(0);
  const current = useAnswer(ask, "current model", { path: ["models", "current"] }, [turn]);
  const live = useAnswer(ask, "live error", { path: ["quality"] }, [turn]);
  const all = useAnswer(ask, "versions", { path: ["models"] }, [turn]);
  const model = current.content;
  const again = () => {
    setTurn(turn + 1);
    refresh();
  };
  return html`
    <div class="heading"><h1 tabindex="-1">Model</h1>${model && html`<${Verdict} gate=${model.gate} />`}</div>
    <${Failure} problem=${current.problem} />
    ${model && html`<${Facts} model=${model} ask=${ask} />`}
    ${live.content?.figures.length > 0 && html`<${Live} quality=${live.content} />`}
    ${all.content && html`<${Versions} models=${all.content.models} previous=${all.content.previous} split=${all.content.split} ask=${ask} done=${again} />`}
    <${Requests} requests=${requests} />
  `;
}

function Facts({ model, ask }) {
  const { metrics, data, trainer, shape, gate } = model;
  const better = metrics.bias_rmse ? 1 - metrics.rmse / metrics.bias_rmse : null;
  return html`
    <p class="lead">
      <strong class="version">${model.version}</strong>, published <time datetime=${model.created_at} title=${date(model.created_at)}>${ago(model.age_seconds)}</time>,
      running on ${model.device}.
    </p>
    <dl class="tiles">
      <${Tile} name="Test RMSE" value=${fixed(metrics.rmse, 4)}>
        ${better != null &&
        html`<${Baseline} rmse=${metrics.rmse} bias=${metrics.bias_rmse} />
          <span class="muted">${percent(Math.abs(better))} ${better >= 0 ? "below" : "above"} the baseline of biases, ${fixed(metrics.bias_rmse, 4)}</span>`}
      <//>
      <${Tile} name="Calibration" value=${percent(metrics.coverage90)}>
        ${metrics.coverage90 != null
          ? html`<${Calibration} share=${metrics.coverage90} /><span class="muted">of the test ratings are inside their 90 % interval</span>`
          : html`<span class="muted">this model has no intervals</span>`}
      <//>
      <${Tile} name="NDCG@10" value=${fixed(metrics.ndcg10, 3)}>
        <span class="muted">in the default order; ${fixed(metrics.ndcg10_rating, 3)} when ordered by rating</span>
      <//>
      <${Tile} name="Training ratings" value=${count(data.train_ratings)}>
        <span class="muted">of ${count(shape.items)} items by ${count(shape.users)} users</span>
      <//>
    </dl>
    <div class="pair">
      <${Curve} version=${model.version} ask=${ask} />
      <section class="card">
        <h2>Data and training</h2>
        <dl class="facts">
          <dt>Data</dt><dd>${data.name}, split ${data.split}</dd>
          <dt>Test ratings</dt><dd>${count(data.test_ratings)}</dd>
          <dt>Rating scale</dt><dd>${shape.rating_min} to ${shape.rating_max}, average ${fixed(data.rating_mean, 2)}</dd>
          <dt>Preset</dt><dd>${trainer.preset}</dd>
          <dt>Trainer</dt><dd>${trainer.name}, ${shape.factors} factors, seed ${trainer.seed}</dd>
          <dt>Fitting time</dt><dd>${duration(trainer.fit_seconds)} on ${trainer.device}</dd>
          <dt>Quality gate</dt><dd>${gate.verdict}${gate.forced ? ", published anyway" : ""}${gate.reasons.length ? `: ${gate.reasons.join("; ")}` : ""}</dd>
        </dl>
        ${model.report && html`<p><${Report} version=${model.version} ask=${ask} text="Training report" /></p>`}
      </section>
    </div>
  `;
}

// Red is what is served only by force.
const Verdict = ({ gate, concern }) => html`<span class="badge ${gate.forced || concern ? "bad" : VERDICTS[gate.verdict]}" title=${concern}><span class="hidden">quality gate: </span>${concern?.startsWith("behind") ? "behind its baseline" : gate.verdict}</span>`;

// The model's error beside that of the biases, as bars from 0.
const Baseline = ({ rmse, bias }) => {
  const most = Math.max(rmse, bias);
  return html`<svg class="beside" width="100%" height="18" aria-hidden="true">
    <rect class="theirs" width="${(100 * bias) / most}%" y="11" height="5" rx="2" />
    <rect class="ours" width="${(100 * rmse) / most}%" y="2" height="5" rx="2" />
  </svg>`;
};

// The share on a scale from 80 to 100 %. The mark in the middle is the ideal, 90 %.
const Calibration = ({ share }) => {
  const at = Math.min(Math.max((share - 0.8) / 0.2, 0.02), 0.98);
  return html`<svg class="bar" width="100%" height="18" aria-hidden="true">
    <line class="track" x1="0" x2="100%" y1="9" y2="9" />
    <line class="aim" x1="50%" x2="50%" y1="1" y2="17" />
    <circle class="dot" cx="${100 * at}%" cy="9" r="5" />
  </svg>`;
};

function Curve({ version, ask }) {
  const { content, problem } = useAnswer(ask, "learning curve", { path: ["models", version, "history"] }, [version]);
  const passes = content?.passes ?? [];
  const data = useMemo(
    () => [
      passes.map(({ number }) => number),
      passes.map(({ figures }) => (figures.loss > 0 ? Math.sqrt(figures.loss) : null)),
      passes.map((pass) => pass.test_rmse),
    ],
    [content],
  );
  const measured = passes.filter(({ test_rmse: error }) => error != null);
  const last = measured.at(-1);
  const said = last ? `The test RMSE after ${last.number} passes is ${fixed(last.test_rmse, 4)}.` : "";
  return html`
    <section class="card">
      <h2>Learning curve</h2>
      ${problem && html`<p class="muted">${problem.message}</p>`}
      ${passes.length > 0 &&
      html`<${Chart} name="RMSE by pass" said=${said} series=${["training", "test"]} data=${data} form=${(mark) => mark.toFixed(2)} height=${240} />
        <details>
          <summary>Show as a table</summary>
          <div class="scroll low" tabindex="0" role="region" aria-label="Learning curve as a table">
            <table>
              <thead><tr><th scope="col">Pass</th><th scope="col" class="number">Training</th><th scope="col" class="number">Test</th></tr></thead>
              <tbody>
                ${(measured.length ? measured : passes).map(
                  (pass) => html`<tr key=${pass.number}><th scope="row">${pass.number}</th><td class="number">${fixed(Math.sqrt(pass.figures.loss), 4)}</td><td class="number">${fixed(pass.test_rmse, 4)}</td></tr>`,
                )}
              </tbody>
            </table>
          </div>
        </details>`}
    </section>
  `;
}

// A link cannot send a key. If there is a key, the page is fetched with it and saved as a file.
function Report({ version, ask, text }) {
  const [problem, setProblem] = useState(null);
  const request = { path: ["models", version, "report"], text: true };
  const save = async (event) => {
    if (!key("api") && !key("admin")) return;
    event.preventDefault();
    try {
      const page = new Blob([await ask("report", request)], { type: "text/html" });
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(page), download: `${version}.html` });
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (failure) {
      setProblem(failure);
    }
  };
  const href = `models/${encodeURIComponent(version)}/report`;
  return html`<a href=${href} target="_blank" rel="noopener" title="Training report" onClick=${save}>${text}</a><${Failure} problem=${problem} />`;
}

// How far off predictions were for the ratings that came in. A service without a store has none.
function Live({ quality: { days, figures } }) {
  const names = { model: "model", fold_in: "folded in", unknown: "unknown user or item", all: "all" };
  return html`
    <section class="card">
      <h2>Live error</h2>
      <p class="muted">New ratings of the last ${days} days, each compared with what was predicted before it.</p>
      <div class="scroll" tabindex="0" role="region" aria-label="Live error">
        <table>
          <thead>
            <tr><th scope="col">Version</th><th scope="col">Predicted from</th><th scope="col" class="number">Ratings</th><th scope="col" class="number">RMSE</th><th scope="col" class="number">RMSE of biases</th><th scope="col" class="number">MAE</th><th scope="col" class="number">In 90 % intervals</th></tr>
          </thead>
          <tbody>
            ${figures.map(
              (row) => html`<tr key=${row.version + row.source}>
                <th scope="row" class="version">${row.version}</th>
                <td>${names[row.source]}</td>
                <td class="number">${count(row.ratings)}</td>
                <td class="number">${fixed(row.rmse, 4)}</td>
                <td class="number">${fixed(row.bias_rmse, 4)}</td>
                <td class="number">${fixed(row.mae, 4)}</td>
                <td class="number">${percent(row.coverage90)}</td>
              </tr>`,
            )}
          </tbody>
        </table>
      </div>
    </section>
  `;
}

// How far a version's error is below that of the biases on its own test ratings. Errors on other ratings do not compare.
function gain({ rmse, bias_rmse: bias }) {
  return rmse != null && bias ? `${percent(Math.abs(1 - rmse / bias))} ${rmse < bias ? "below" : "above"}` : "–";
}

function Versions({ models, previous, split, ask, done }) {
  const [chosen, setChosen] = useState(null);
  const [said, setSaid] = useState("");
  const finish = (version) => {
    setChosen(null);
    if (!version) return;
    setSaid(`The service now serves ${version}.`);
    done();
  };
  return html`
    <section class="card">
      <div class="heading">
        <h2>Published versions</h2>
        ${previous && html`<button type="button" onClick=${() => setChosen({ version: previous, concern: null, back: true })}>Roll back one version</button>`}
      </div>
      <p role="status" class="said">${said}</p>
      <div class="scroll" tabindex="0" role="region" aria-label="Published versions">
        <table>
          <thead>
            <tr><th scope="col">Version</th><th scope="col"><span class="hidden">Activate</span></th><th scope="col" class="number">RMSE, by its baseline</th><th scope="col">Quality gate</th><th scope="col">Published</th></tr>
          </thead>
          <tbody>
            ${[...models].reverse().map(
              (model) => html`<tr key=${model.version} class=${model.serving ? "serving" : ""}>
                <th scope="row" class="version">${model.report ? html`<${Report} version=${model.version} ask=${ask} text=${model.version} />` : model.version}</th>
                <td>${model.serving ? html`<span class="badge good">serving</span>` : html`<button type="button" aria-label="Activate ${model.version}" onClick=${() => setChosen(model)}>Activate</button>`}${split?.version === model.version && html` <span class="badge plain">${percent(split.share)} of the users</span>`}</td>
                <td class="number">${gain(model.metrics)}</td>
                <td><${Verdict} gate=${model.gate} concern=${model.concern} /></td>
                <td>${date(model.created_at)}</td>
              </tr>`,
            )}
          </tbody>
        </table>
      </div>
      ${chosen && html`<${Activate} chosen=${chosen} ask=${ask} finish=${finish} />`}
    </section>
  `;
}

function Activate({ chosen: { version, concern, back }, ask, finish }) {
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => dialog.current.showModal(), []);
  const activate = async (event) => {
    event.preventDefault();
    keep("admin", new FormData(event.target).get("key"));
    setBusy(true);
    setProblem(null);
    try {
      const path = back ? ["models", "rollback"] : ["models", version, "activate"];
      const query = concern ? { force: true } : {};
      const { model_version: served } = await ask("activate", { method: "POST", path, query, admin: true });
      dialog.current.close();
      finish(served);
    } catch (failure) {
      setProblem(failure);
      setBusy(false);
    }
  };
  return html`
    <dialog ref=${dialog} aria-labelledby="${id}-title" onClose=${() => finish(null)}>
      <form onSubmit=${activate}>
        <h2 id="${id}-title">Activate this version?</h2>
        <p>The service verifies <strong class="version">${version}</strong> before it switches. Until then it continues to serve the current version.</p>
        ${back && html`<p>It is the version that was served before the current one.</p>`}
        ${concern && html`<p class="warning">This version is ${concern}.</p><p><label><input type="checkbox" required /> Serve it anyway</label></p>`}
        <label for=${id}>Admin key, if the service needs one</label>
        <input id=${id} name="key" type="password" autocomplete="off" value=${key("admin")} />
        <p class="muted">The key is stored in this tab only and deleted when you close it.</p>
        <${Failure} problem=${problem} />
        <div class="row end">
          <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
          <button type="submit" class="main" disabled=${busy}>${busy ? "Verifying…" : "Activate"}</button>
        </div>
      </form>
    </dialog>
  `;
}
