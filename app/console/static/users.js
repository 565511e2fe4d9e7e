// A user: their ratings, their list in every order, and the reasons for each item.
import { saveFile, useAnswer, useRequests } from "./api.js";
import { AdminDialog } from "./dialog.js";
import { count, fixed, html, label, linkTo, scaleOf, useEffect, useState } from "./lib.js";
import { Card, Failure, Lines, List, Rating, Reasons, Search, useControls } from "./parts.js";
import { Requests } from "./requests.js";

const SHOWN = 12; // ratings shown at first
const LENGTH = 20;

export function Users({ model, argument, go }) {
  const [requests, ask] = useRequests();
  const some = useAnswer(ask, "users", { path: ["users"], query: { n: 6 } }, []);
  const find = async (text) => (await ask("user search", { path: ["users"], query: { query: text, n: 8 } })).users;
  const user = argument;
  return html`
    <h1 tabindex="-1">Users</h1>
    <div class="card finder">
      <${Search} name="Find a user" hint="first characters of an id" search=${find} choose=${(found) => go("users", found.user)} free=${(user) => ({ user })}
        show=${({ user, ratings }) => html`<span>${user}</span><span class="muted">${count(ratings)} ratings</span>`} />
      ${some.content &&
      html`<p class="chips">
        <span class="muted">Users with the most ratings:</span>
        ${some.content.users.map((found) => html`<a key=${found.user} href=${linkTo("users", found.user)} aria-current=${found.user === user ? "true" : undefined}>${found.user}</a>`)}
      </p>`}
    </div>
    <${Failure} problem=${some.problem} />
    ${user && model && html`<${User} key=${user} user=${user} model=${model} ask=${ask} />`}
    ${!user && html`<p class="empty">Choose a user to see their ratings, their list, and the reasons for each item.</p>`}
    <${Requests} requests=${requests} />
  `;
}

function User({ user, model, ask }) {
  const scale = scaleOf(model);
  const { order, filters, controls } = useControls(ask, model.shape);
  const [turn, setTurn] = useState(0);
  const rated = useAnswer(ask, "ratings", { path: ["users", user, "ratings"] }, [user, turn]);
  const query = { n: LENGTH, rank_by: order, intervals: true, ...filters };
  const listed = useAnswer(ask, "list", { path: ["users", user, "top"], query }, [user, JSON.stringify(query), turn]);
  const list = listed.content;
  return html`
    <div class="pair unequal">
      <${Card} title="List for ${user}">
        ${controls}
        <${Failure} problem=${listed.problem} />
        <p class="muted" role="status">${list && describe(list, model.shape.uncertainty)}</p>
        ${list && html`<${Explained} user=${user} items=${list.items} source=${list.source} order=${list.rank_by} scale=${scale} ask=${ask} />`}
      <//>
      <${Card} title="Ratings of ${user}">
        <${Failure} problem=${rated.problem} />
        ${rated.content && html`<${Rated} ratings=${rated.content.ratings} scale=${scale} />`}
        <${Data} user=${user} ask=${ask} changed=${() => setTurn(turn + 1)} />
      <//>
    </div>
  `;
}

// What is kept about the user: saved as a file, or deleted.
function Data({ user, ask, changed }) {
  const [problem, setProblem] = useState(null);
  const [deleting, setDeleting] = useState(false);
  const [said, setSaid] = useState("");
  const save = async () => {
    setProblem(null);
    try {
      saveFile(JSON.stringify(await ask("export", { path: ["users", user, "export"] }), null, 2), "application/json", `user-${user}.json`);
    } catch (failure) {
      setProblem(failure);
    }
  };
  const remove = () => ask("delete user", { method: "DELETE", path: ["users", user], admin: true });
  const finish = (done) => {
    setDeleting(false);
    if (!done) return;
    setSaid(`All ratings of ${user} are deleted.`);
    changed();
  };
  return html`
    <div class="row">
      <button type="button" onClick=${save}>Export</button>
      <button type="button" onClick=${() => setDeleting(true)}>Delete user</button>
    </div>
    <p role="status" class="said">${said}</p>
    <${Failure} problem=${problem} />
    ${deleting &&
    html`<${AdminDialog} title=${`Delete the user ${user}?`} action="Delete" working="Deleting…" submit=${remove} finish=${finish}>
      <p class="warning">All ratings of ${user} are deleted at once and cannot be restored. The next fit does not know the user.</p>
      <p><label><input type="checkbox" required /> Delete all ratings of ${user}</label></p>
    <//>`}
  `;
}

function describe({ items, source }, uncertainty) {
  if (!items.length) return "There are no items to list. Try other filters.";
  const sources = {
    model: "From the model.",
    fold_in: "Folded in: the user has ratings that are newer than the model.",
    popular: "The user is unknown: these are the items with the most ratings.",
  };
  return `${sources[source]}${uncertainty ? " Bars show the 90 % interval of each rating: nine of ten ratings are inside theirs." : ""}`;
}

// A list whose rows can be opened to show the reasons.
function Explained({ user, items, source, order, scale, ask }) {
  const [open, setOpen] = useState(null);
  useEffect(() => setOpen(null), [items]);
  const toggle = (item) => setOpen(open === item.item ? null : item.item);
  const more = (item) => html`<button type="button" class="quiet" aria-expanded=${open === item.item ? "true" : "false"}
    aria-label="Why ${label(item)}?" onClick=${() => toggle(item)}>Why?</button>`;
  const below = (item) => open === item.item && html`<${Why} user=${user} item=${item.item} order=${order} scale=${scale} ask=${ask} />`;
  return html`<${List} name="List for ${user}" items=${items} scale=${scale} more=${source === "popular" ? null : more} below=${below} />`;
}

// What ordered the list is explained. A lower bound is a rating less its uncertainty: there it is the rating.
function Why({ user, item, order, scale, ask }) {
  const rank_by = order === "relevance" ? "relevance" : "rating";
  const request = { path: ["users", user, "because", item], query: { n: 5, rank_by } };
  const { content, problem } = useAnswer(ask, "because", request, [user, item, rank_by]);
  return html`<div class="why"><${Failure} problem=${problem} />${content && html`<${Reasons} because=${content} scale=${scale} />`}</div>`;
}

function Rated({ ratings, scale }) {
  const [all, setAll] = useState(false);
  if (!ratings.length) return html`<p class="muted">No ratings yet.</p>`;
  const ordered = [...ratings].sort((a, b) => b.rating - a.rating);
  const mean = ratings.reduce((total, { rating }) => total + rating, 0) / ratings.length;
  return html`
    <p class="muted">${count(ratings.length)} ratings, average ${fixed(mean, 2)}.</p>
    <${Lines} rows=${ordered.slice(0, all ? undefined : SHOWN).map((item) => [label(item), html`<${Rating} rating=${item.rating} scale=${scale} />`])} />
    ${ratings.length > SHOWN && html`<button type="button" onClick=${() => setAll(!all)}>${all ? "Show fewer" : `Show all ${count(ratings.length)}`}</button>`}
  `;
}
