// The model being served: its age, its metrics, the published versions, and a dialog to activate one of them.
import { key, saveFile, useAnswer, useRequests } from "./api.js";
import { Chart } from "./chart.js";
import { AdminDialog } from "./dialog.js";
import { ago, count, date, duration, fixed, html, percent, span, useMemo, useState } from "./lib.js";
import { Calibration, Card, Failure, Table, Tile } from "./parts.js";
import { Requests } from "./requests.js";

const VERDICTS = { passed: "good", refused: "bad", "not measured": "plain" };

export function Model({ refresh }) {
  const [requests, ask] = useRequests();
  const [turn, setTurn] = useState(0);
  const current = useAnswer(ask, "current model", { path: ["models", "current"] }, [turn]);
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
      <${Card} title="Data and training">
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
      <//>
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
    <${Card} title="Learning curve">
      ${problem && html`<p class="muted">${problem.message}</p>`}
      ${passes.length > 0 &&
      html`<${Chart} name="RMSE by pass" said=${said} series=${["training", "test"]} data=${data} form=${(mark) => mark.toFixed(2)} height=${240} />
        <details>
          <summary>Show as a table</summary>
          <${Table} name="Learning curve as a table" low names=${["Pass", "#Training", "#Test"]}
            rows=${(measured.length ? measured : passes).map((pass) => [pass.number, fixed(Math.sqrt(pass.figures.loss), 4), fixed(pass.test_rmse, 4)])} />
        </details>`}
    <//>
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
      saveFile(await ask("report", request), "text/html", `${version}.html`);
    } catch (failure) {
      setProblem(failure);
    }
  };
  const href = `models/${encodeURIComponent(version)}/report`;
  return html`<a href=${href} target="_blank" rel="noopener" title="Training report" onClick=${save}>${text}</a><${Failure} problem=${problem} />`;
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
        ${previous && html`<button type="button" onClick=${() => setChosen({ ...models.find(({ version }) => version === previous), version: previous, concern: null, back: true })}>Roll back one version</button>`}
      </div>
      <p role="status" class="said">${said}</p>
      <${Table} name="Published versions" kind="version" names=${["Version", html`<span class="hidden">Activate</span>`, "#RMSE, by its baseline", "Quality gate", "Published"]}
        rows=${[...models].reverse().map((model) => [
          model.report ? html`<${Report} version=${model.version} ask=${ask} text=${model.version} />` : model.version,
          html`${model.serving ? html`<span class="badge good">serving</span>` : html`<button type="button" aria-label="Activate ${model.version}" onClick=${() => setChosen(model)}>Activate</button>`}${split?.version === model.version && html` <span class="badge plain">${percent(split.share)} of the users</span>`}`,
          gain(model.metrics),
          html`<${Verdict} gate=${model.gate} concern=${model.concern} />`,
          date(model.created_at),
        ])} />
      ${chosen && html`<${Activate} chosen=${chosen} serving=${models.find(({ serving }) => serving)} ask=${ask} finish=${finish} />`}
    </section>
  `;
}

// Activates a version, or goes back to the one that was served before. It says what that changes.
function Activate({ chosen: { version, concern, back, created_at: created }, serving, ask, finish }) {
  const activate = async () => {
    const path = back ? ["models", "rollback"] : ["models", version, "activate"];
    const query = concern ? { force: true } : {};
    return (await ask("activate", { method: "POST", path, query, admin: true })).model_version;
  };
  const older = serving && created && (new Date(serving.created_at) - new Date(created)) / 1e3;
  return html`
    <${AdminDialog} title=${back ? "Roll back to this version?" : "Activate this version?"} action=${back ? "Roll back" : "Activate"} working="Verifying…" submit=${activate} finish=${finish}>
      <p>The service verifies <strong class="version">${version}</strong> before it switches. Until then it continues to serve the current version.</p>
      ${back && html`<p>It is the version that was served before the current one.</p>`}
      ${older > 0 && html`<p class="warning">It is ${span(older)} older than the version being served: it does not know the users and items that have come since.</p>`}
      ${serving && html`<${Compared} version=${version} against=${serving.version} ask=${ask} />`}
      ${concern && html`<p class="warning">This version is ${concern}.</p><p><label><input type="checkbox" required /> Serve it anyway</label></p>`}
    <//>
  `;
}

// Whether a version predicts better than the one being served, on the same ratings, where they have such ratings.
function Compared({ version, against, ask }) {
  const { content, problem } = useAnswer(ask, "compare", { path: ["models", "compare"], query: { version, against } }, [version, against]);
  const said = { better: "predicts better than", worse: "predicts worse than", "no difference": "predicts as well as" };
  return html`<p role="status" class=${content?.verdict === "worse" ? "warning" : "muted"}>
    ${content
      ? `It ${said[content.verdict]} the version being served: RMSE ${fixed(content.rmse, 4)} and ${fixed(content.rmse_against, 4)} on the same ${count(content.ratings)} ratings.`
      : problem
        ? "There are not enough ratings to compare it with the version being served."
        : "Comparing it with the version being served…"}
  </p>`;
}
