// Two versions: their errors on the same ratings, and a user's lists by both.
import { useAnswer, useRequests } from "./api.js";
import { count, fixed, html, scaleOf, useId, useState } from "./lib.js";
import { Card, Failure, List, Tile } from "./parts.js";
import { Requests } from "./requests.js";

const VERDICTS = { better: "The first predicts better.", worse: "The second predicts better.", "no difference": "No difference is certain." };

export function Compare({ model }) {
  const [requests, ask] = useRequests();
  const { content, problem } = useAnswer(ask, "versions", { path: ["models"] }, []);
  return html`
    <h1 tabindex="-1">Compare</h1>
    <${Failure} problem=${problem} />
    ${content?.models.length === 1 && html`<p class="empty">There is one version. Compare two after the next fit.</p>`}
    ${content?.models.length > 1 && model && html`<${Versions} published=${content} model=${model} ask=${ask} />`}
    <${Requests} requests=${requests} />
  `;
}

function Versions({ published: { models, previous, split }, model, ask }) {
  const names = models.map(({ version }) => version).reverse();
  const other = split?.version ?? previous ?? names.find((name) => name !== model.version);
  const [pair, setPair] = useState([model.version, other]);
  const [user, setUser] = useState("");
  const id = useId();
  const choose = (at, text) => html`
    <div class="field">
      <label for="${id}-${at}">${text}</label>
      <select id="${id}-${at}" value=${pair[at]} onChange=${({ target }) => setPair(pair.map((name, own) => (own === at ? target.value : name)))}>
        ${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select>
    </div>
  `;
  const take = (event) => {
    event.preventDefault();
    setUser(new FormData(event.target).get("user").trim());
  };
  return html`
    <div class="card row versions">${choose(0, "Version")} ${choose(1, "Another version")}</div>
    ${pair[0] === pair[1] ? html`<p class="empty">Choose two different versions.</p>` : html`<${Errors} key=${pair.join()} pair=${pair} ask=${ask} />`}
    <form class="card row" onSubmit=${take}>
      <div class="field"><label for="${id}-user">Lists of the user</label><input id="${id}-user" name="user" required autocomplete="off" /></div>
      <button type="submit" class="main">Show</button>
    </form>
    ${user && html`<div class="pair">${pair.map((version, at) => html`<${UserList} key=${at + version + user} version=${version} loaded=${[model.version, split?.version].includes(version)} user=${user} model=${model} ask=${ask} at=${at + 1} />`)}</div>`}
  `;
}

function Errors({ pair: [version, against], ask }) {
  const { content, problem, waiting } = useAnswer(ask, "compare", { path: ["models", "compare"], query: { version, against } }, []);
  return html`
    <${Failure} problem=${problem} />
    ${waiting && html`<p class="muted" role="status">The service reads and verifies both versions…</p>`}
    ${content &&
    html`<dl class="tiles">
      <${Tile} name="RMSE of the first" value=${fixed(content.rmse, 4)}><span class="muted">on ${count(content.ratings)} ratings by ${count(content.users)} users, known to neither fit</span><//>
      <${Tile} name="RMSE of the second" value=${fixed(content.rmse_against, 4)}><span class="muted">on the same ratings</span><//>
      <${Tile} name="Difference" value=${fixed(content.difference, 4)}><span class="muted">between ${fixed(content.low, 4)} and ${fixed(content.high, 4)} with 95 % confidence</span><strong>${VERDICTS[content.verdict]}</strong><//>
    </dl>`}
  `;
}

// Only the versions that answer now can make lists: the current one, and that of a split.
function UserList({ version, loaded, user, model, ask, at }) {
  const request = { path: ["users", user, "top"], query: { n: 10, model_version: version } };
  const { content, problem } = useAnswer(ask, `list ${at}`, loaded ? request : null, []);
  return html`
    <${Card} title="List ${at} for ${user}">
      <p class="muted version">${version}</p>
      ${!loaded ? html`<p>This version does not answer now. Give it a share of the users (PUT /models/split) to see its lists.</p>` : html`<${Failure} problem=${problem} />`}
      ${content && html`<p class="muted">${content.source === "popular" ? "The user is unknown: these are the items with the most ratings." : `Ordered by ${content.rank_by.replace("_", " ")}.`}</p><${List} name="List ${at}" items=${content.items} scale=${scaleOf(model)} />`}
    <//>
  `;
}
