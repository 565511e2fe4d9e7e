// Rate a few items and see how the list changes. The ratings are sent with each request, folded in, and not stored.
import { useAnswer, useRequests } from "./api.js";
import { count, html, label, useEffect, useId, useRef, useState } from "./lib.js";
import { Choice, Failure, Filters, List, orders, Search } from "./parts.js";
import { Requests } from "./requests.js";

const LENGTH = 12;
const SUGGESTED = 8;
const MOST_BUTTONS = 10;
const ANY = { genre: "", year_min: "", year_max: "" };

export function Try({ model }) {
  const [requests, ask] = useRequests();
  return html`
    <h1 tabindex="-1">Try it</h1>
    <p class="lead">Rate a few items that you know. Each rating updates the list. Nothing is stored.</p>
    ${model && html`<${YourRatings} model=${model} ask=${ask} />`}
    <${Requests} requests=${requests} />
  `;
}

function YourRatings({ model, ask }) {
  const scale = [model.shape.rating_min, model.shape.rating_max];
  const [items, setItems] = useState([]);
  const [given, setGiven] = useState({});
  const popular = useAnswer(ask, "suggestions", { path: ["items"], query: { n: SUGGESTED } }, []);
  useEffect(() => {
    if (popular.content) setItems((chosen) => [...chosen, ...popular.content.items]);
  }, [popular.content]);
  const find = async (query) => (await ask("item search", { path: ["items"], query: { query, n: 8 } })).items;
  const add = (item) => setItems((chosen) => [item, ...chosen.filter(({ id }) => id !== item.id)]);
  const rate = (id, rating) => setGiven((known) => ({ ...known, [id]: rating }));
  const ratings = items.filter(({ id }) => given[id] != null).map(({ id }) => ({ item: id, rating: given[id] }));
  return html`
    <div class="pair">
      <section class="card">
        <h2>Your ratings</h2>
        <${Search} name="Find an item" hint="words of its title" search=${find} choose=${add}
          show=${(item) => html`<span>${label(item)} <span class="muted">${item.year}</span></span><span class="muted">${count(item.ratings)} ratings</span>`} />
        <${Failure} problem=${popular.problem} />
        <ul class="to-rate">
          ${items.map((item) => html`<${Rate} key=${item.id} item=${item} scale=${scale} value=${given[item.id]} rate=${(rating) => rate(item.id, rating)} />`)}
        </ul>
        ${ratings.length > 0 && html`<button type="button" onClick=${() => setGiven({})}>Clear all ratings</button>`}
      </section>
      <${YourList} model=${model} scale=${scale} ratings=${ratings} ask=${ask} />
    </div>
  `;
}

// The levels of a scale that are shown as buttons: whole or half steps. Empty if there would be too many.
function levels([low, high]) {
  const step = Number.isInteger(low) ? 1 : 0.5;
  const number = Math.round((high - low) / step) + 1;
  return number > MOST_BUTTONS ? [] : Array.from({ length: number }, (_, at) => low + at * step);
}

function Rate({ item, scale, value, rate }) {
  const name = useId();
  const marks = levels(scale);
  return html`
    <li class=${value == null ? "" : "rated"}>
      <fieldset class="marks">
        <legend>${label(item)} ${item.year && html`<span class="muted">${item.year}</span>`}</legend>
        ${marks.map(
          (mark) => html`<label key=${mark}><input type="radio" name=${name} value=${mark} checked=${mark === value} onChange=${() => rate(mark)} /><span>${mark}</span></label>`,
        )}
        ${!marks.length &&
        html`<input type="range" aria-label="Rating of ${label(item)}" min=${scale[0]} max=${scale[1]} step="any" value=${value ?? (scale[0] + scale[1]) / 2} onChange=${(event) => rate(Number(event.target.value))} />`}
        <button type="button" class="quiet" hidden=${value == null} aria-label="Delete your rating of ${label(item)}" onClick=${() => rate(null)}>×</button>
      </fieldset>
    </li>
  `;
}

function YourList({ model, scale, ratings, ask }) {
  const known = orders(model.shape);
  const [order, setOrder] = useState(known[0][0]);
  const [filters, setFilters] = useState(ANY);
  const genres = useAnswer(ask, "genres", { path: ["genres"] }, []);
  const body = { ratings, n: LENGTH, rank_by: order, intervals: true, ...written(filters) };
  const { content, problem } = useAnswer(ask, "recommend", { method: "POST", path: ["recommend"], body }, [JSON.stringify(body)]);
  const list = content?.lists[0];
  const moves = useMoves(list, ratings);
  return html`
    <section class="card">
      <h2>${list?.source === "fold_in" ? "For you" : "Popular items"}</h2>
      <div class="row controls">
        <${Choice} legend="Order by" options=${known} value=${order} choose=${setOrder} />
        <${Filters} genres=${genres.content?.genres} filters=${filters} change=${setFilters} />
      </div>
      <${Failure} problem=${problem} />
      <p class="muted" role="status">
        ${list && (list.source === "fold_in" ? `Based on ${content.ratings_used} of your ratings.` : "Rate an item to see a list for you.")}
      </p>
      ${list && html`<${List} name="Your list" items=${list.items} scale=${scale} more=${({ item }) => html`<${Move} move=${moves.get(item)} />`} />`}
    </section>
  `;
}

// The filters as members of a JSON body: years as numbers, empty filters left out.
function written({ genre, year_min: from, year_max: to }) {
  const members = {};
  if (genre) members.genre = [genre];
  if (from !== "") members.year_min = Number(from);
  if (to !== "") members.year_max = Number(to);
  return members;
}

// The number of positions by which each item has risen since the previous list, not counting items that are rated now.
// It is Infinity for an item that was not in that list.
function useMoves(list, ratings) {
  const previous = useRef({ list: null, moves: new Map() });
  if (list && previous.current.list !== list) {
    const rated = new Set(ratings.map(({ item }) => item));
    const before = previous.current.list?.items.filter(({ item }) => !rated.has(item)).map(({ item }) => item);
    const moves = new Map();
    list.items.forEach(({ item }, at) => {
      const was = before ? before.indexOf(item) : at;
      moves.set(item, was < 0 ? Infinity : was - at);
    });
    previous.current = { list, moves };
  }
  return previous.current.moves;
}

function Move({ move }) {
  if (!move) return html`<span class="move" aria-hidden="true"></span>`;
  if (move === Infinity) return html`<span class="move new">new</span>`;
  const said = `${move > 0 ? "up" : "down"} ${Math.abs(move)}`;
  return html`<span class="move ${move > 0 ? "up" : "down"}"><span aria-hidden="true">${move > 0 ? "▲" : "▼"} ${Math.abs(move)}</span><span class="hidden">${said}</span></span>`;
}
