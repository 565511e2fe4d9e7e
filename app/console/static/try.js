// Rate a few items and see how the list changes. The ratings are sent with each request, folded in, and not stored.
import { findItems, useAnswer, useRequests } from "./api.js";
import { html, label, scaleOf, useEffect, useId, useRef, useState } from "./lib.js";
import { Card, Failure, found, List, Search, useControls } from "./parts.js";
import { Requests } from "./requests.js";

const LENGTH = 12;
const SUGGESTED = 8;
const MOST_BUTTONS = 11; // from 0 to 10
const MOST_BESIDE = 6; // buttons beside a title

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
  const scale = scaleOf(model);
  const [items, setItems] = useState([]);
  const [given, setGiven] = useState({});
  const popular = useAnswer(ask, "suggestions", { path: ["items"], query: { n: SUGGESTED } }, []);
  useEffect(() => {
    if (popular.content) setItems((chosen) => [...chosen, ...popular.content.items]);
  }, [popular.content]);
  const add = (item) => setItems((chosen) => [item, ...chosen.filter((other) => other.item !== item.item)]);
  const rate = (id, rating) => setGiven((known) => ({ ...known, [id]: rating }));
  const ratings = items.filter(({ item }) => given[item] != null).map(({ item }) => ({ item, rating: given[item] }));
  return html`
    <div class="pair">
      <${Card} title="Your ratings">
        <${Search} name="Find an item" hint="words of its title" search=${findItems(ask)} choose=${add} show=${found} />
        <${Failure} problem=${popular.problem} />
        <ul class="to-rate">
          ${items.map((item) => html`<${Rate} key=${item.item} item=${item} scale=${scale} value=${given[item.item]} rate=${(rating) => rate(item.item, rating)} />`)}
        </ul>
        ${ratings.length > 0 && html`<button type="button" onClick=${() => setGiven({})}>Clear all ratings</button>`}
      <//>
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
      <fieldset class="marks ${marks.length > MOST_BESIDE ? "many" : ""}">
        <legend>${label(item)} ${item.year && html`<span class="muted">${item.year}</span>`}</legend>
        ${marks.length > 0 &&
        html`<div class="levels">
          ${marks.map(
            (mark) => html`<label key=${mark}><input type="radio" name=${name} value=${mark} checked=${mark === value} onChange=${() => rate(mark)} /><span>${mark}</span></label>`,
          )}
        </div>`}
        ${!marks.length &&
        html`<input type="range" aria-label="Rating of ${label(item)}" min=${scale[0]} max=${scale[1]} step="any" value=${value ?? (scale[0] + scale[1]) / 2} onChange=${(event) => rate(Number(event.target.value))} />`}
        <button type="button" class="quiet" hidden=${value == null} aria-label="Delete your rating of ${label(item)}" onClick=${() => rate(null)}>×</button>
      </fieldset>
    </li>
  `;
}

function YourList({ model, scale, ratings, ask }) {
  const { order, filters, controls } = useControls(ask, model.shape);
  const body = { ratings, n: LENGTH, rank_by: order, intervals: true, ...written(filters) };
  const { content, problem } = useAnswer(ask, "recommend", { method: "POST", path: ["recommend"], body }, [JSON.stringify(body)]);
  const list = content?.lists[0];
  const moves = useMoves(list, ratings);
  return html`
    <${Card} title=${list?.source === "fold_in" ? "For you" : "Popular items"}>
      ${controls}
      <${Failure} problem=${problem} />
      <p class="muted" role="status">
        ${list && (list.source === "fold_in" ? `Based on ${content.ratings_used} of your ratings.` : "Rate an item to see a list for you.")}
      </p>
      ${list && html`<${List} name="Your list" items=${list.items} scale=${scale} more=${({ item }) => html`<${Move} move=${moves.get(item)} />`} />`}
    <//>
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
