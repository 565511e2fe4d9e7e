// A user: their ratings, their list in every order, and the reasons for each item.
import { useAnswer, useRequests } from "./api.js";
import { count, fixed, html, label, useEffect, useState } from "./lib.js";
import { Choice, Failure, Filters, List, orders, Rating, Reasons, Search } from "./parts.js";
import { Requests } from "./requests.js";

const SHOWN = 12; // ratings shown at first
const LENGTH = 20;
const ANY = { genre: "", year_min: "", year_max: "" };

export function Users({ model, argument, go }) {
  const [requests, ask] = useRequests();
  const some = useAnswer(ask, "users", { path: ["users"], query: { n: 6 } }, []);
  const find = async (text) => (await ask("user search", { path: ["users"], query: { query: text, n: 8 } })).users;
  const user = argument;
  return html`
    <h1 tabindex="-1">Users</h1>
    <div class="card finder">
      <${Search} name="Find a user" hint="first characters of an id" search=${find} choose=${({ id }) => go("users", id)} free=${(id) => ({ id })}
        show=${({ id, ratings }) => html`<span>${id}</span><span class="muted">${count(ratings)} ratings</span>`} />
      ${some.content &&
      html`<p class="chips">
        <span class="muted">Users with the most ratings:</span>
        ${some.content.users.map(({ id }) => html`<a key=${id} href="#users/${encodeURIComponent(id)}" aria-current=${id === user ? "true" : undefined}>${id}</a>`)}
      </p>`}
    </div>
    <${Failure} problem=${some.problem} />
    ${user && model && html`<${User} key=${user} user=${user} model=${model} ask=${ask} />`}
    ${!user && html`<p class="empty">Choose a user to see their ratings, their list, and the reasons for each item.</p>`}
    <${Requests} requests=${requests} />
  `;
}

function User({ user, model, ask }) {
  const scale = [model.shape.rating_min, model.shape.rating_max];
  const known = orders(model.shape);
  const [order, setOrder] = useState(known[0][0]);
  const [filters, setFilters] = useState(ANY);
  const genres = useAnswer(ask, "genres", { path: ["genres"] }, []);
  const rated = useAnswer(ask, "ratings", { path: ["users", user, "ratings"] }, [user]);
  const query = { n: LENGTH, rank_by: order, intervals: true, ...filters };
  const listed = useAnswer(ask, "list", { path: ["users", user, "top"], query }, [user, JSON.stringify(query)]);
  const list = listed.content;
  return html`
    <div class="pair unequal">
      <section class="card">
        <h2>List for ${user}</h2>
        <div class="row controls">
          <${Choice} legend="Order by" options=${known} value=${order} choose=${setOrder} />
          <${Filters} genres=${genres.content?.genres} filters=${filters} change=${setFilters} />
        </div>
        <${Failure} problem=${listed.problem} />
        <p class="muted" role="status">${list && describe(list, model.shape.uncertainty)}</p>
        ${list && html`<${Explained} user=${user} items=${list.items} source=${list.source} order=${list.rank_by} scale=${scale} ask=${ask} />`}
      </section>
      <section class="card">
        <h2>Ratings of ${user}</h2>
        <${Failure} problem=${rated.problem} />
        ${rated.content && html`<${Rated} ratings=${rated.content.ratings} scale=${scale} />`}
      </section>
    </div>
  `;
}

function describe({ items, source }, uncertainty) {
  if (!items.length) return "There are no items to list. Try other filters.";
  const sources = {
    model: "From the model.",
    fold_in: "Folded in: the user has ratings that are newer than the model.",
    popular: "The user is unknown: these are the items with the most ratings.",
  };
  return `${sources[source]}${uncertainty ? " Bars show the 90 % interval of each prediction." : ""}`;
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
    <ul class="list plain">
      ${ordered.slice(0, all ? undefined : SHOWN).map(
        (item) => html`<li key=${item.item}><div class="line"><span class="title">${label(item)}</span><${Rating} rating=${item.rating} scale=${scale} /></div></li>`,
      )}
    </ul>
    ${ratings.length > SHOWN && html`<button type="button" onClick=${() => setAll(!all)}>${all ? "Show fewer" : `Show all ${count(ratings.length)}`}</button>`}
  `;
}
