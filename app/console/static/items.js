// The items: found, browsed, edited and hidden. Of one: its ratings, the items like it, and who would like it.
import { findItems, useAnswer, useRequests } from "./api.js";
import { AdminDialog } from "./dialog.js";
import { count, date, fixed, html, label, linkTo, scaleOf, useEffect, useId, useRef, useState } from "./lib.js";
import { AdminFailure, ANY, Card, Choice, Failure, Filters, found, Lines, Rating, Search, Table } from "./parts.js";
import { Requests } from "./requests.js";

const PAGE = 20;
const SHOWN = 8; // ratings, similar items and users of one item

export function Items({ model, argument, go }) {
  const [requests, ask] = useRequests();
  const [changes, setChanges] = useState(0);
  return html`
    <h1 tabindex="-1">Items</h1>
    <div class="card finder">
      <${Search} name="Find an item" hint="words of its title, or an id" search=${findItems(ask)} choose=${(item) => go("items", item.item)} free=${(item) => ({ item })} show=${found} />
    </div>
    ${argument && html`<${Item} key=${argument} item=${argument} model=${model} ask=${ask} changed=${() => setChanges(changes + 1)} />`}
    <${Browse} chosen=${argument} changes=${changes} ask=${ask} />
    <${Requests} requests=${requests} />
  `;
}

function Browse({ chosen, changes, ask }) {
  const [filters, setFilters] = useState(ANY);
  const [which, setWhich] = useState("shown");
  const [offset, setOffset] = useState(0);
  const hidden = which === "hidden";
  const query = { n: PAGE, offset, ...filters, ...(hidden && { hidden }) };
  const { content, problem } = useAnswer(ask, "items", { path: ["items"], query }, [JSON.stringify(query), changes]);
  const items = content?.items ?? [];
  const from = (change) => (value) => {
    setOffset(0);
    change(value);
  };
  return html`
    <${Card} title="All items">
      <div class="row controls">
        <${Choice} legend="Items" options=${[["shown", "In lists"], ["hidden", "Hidden"]]} value=${which} choose=${from(setWhich)} />
        <${Filters} ask=${ask} filters=${filters} change=${from(setFilters)} />
      </div>
      <${Failure} problem=${problem} />
      ${content && !items.length && html`<p class="muted">${hidden && !offset ? "No item is hidden." : "There are no items. Try other filters."}</p>`}
      ${items.length > 0 &&
      html`<${Table} name="All items" kind="item" names=${["Item", "#Ratings", "#Average", "Year", "Genres"]}
        rows=${items.map((item) => [
          html`<a href=${linkTo("items", item.item)} aria-current=${item.item === chosen ? "true" : undefined}>${label(item)}</a>`,
          count(item.ratings),
          fixed(item.mean_rating, 2),
          item.year ?? "–",
          item.genres?.join(", ") || "–",
        ])} />`}
      ${content &&
      html`<div class="row">
        <button type="button" disabled=${!offset} onClick=${() => setOffset(Math.max(0, offset - PAGE))}>Previous page</button>
        <button type="button" disabled=${items.length < PAGE} onClick=${() => setOffset(offset + PAGE)}>Next page</button>
        <span class="muted" role="status">${items.length > 0 && `Items ${count(offset + 1)} to ${count(offset + items.length)}, the most rated first.`}</span>
      </div>`}
    <//>
  `;
}

function Item({ item, model, ask, changed }) {
  const [turn, setTurn] = useState(0);
  const [said, setSaid] = useState("");
  const [editing, setEditing] = useState(false);
  const { content, problem } = useAnswer(ask, "item", { path: ["items", item] }, [item, turn]);
  const title = useRef(null);
  useEffect(() => title.current?.focus(), []);
  const finish = (words) => {
    setEditing(false);
    if (!words) return;
    setSaid(words);
    setTurn(turn + 1);
    changed();
  };
  return html`
    <section class="card" aria-label="The item">
      <div class="heading">
        <h2 ref=${title} tabindex="-1">${content ? label(content) : item}</h2>
        <button type="button" onClick=${() => setEditing(true)}>${content ? "Edit" : "Add"}</button>
      </div>
      <p role="status" class="said">${said}</p>
      ${problem?.status === 404 ? html`<p class="muted">No item has this id.</p>` : html`<${Failure} problem=${problem} />`}
      ${content && html`<${Facts} item=${content} />`}
      ${editing && html`<${Edit} id=${item} item=${content} ask=${ask} finish=${finish} />`}
    </section>
    ${content?.known_to_model &&
    model &&
    html`<div class="charts three">
      <${Ratings} item=${item} model=${model} turn=${turn} ask=${ask} />
      <${Likely} item=${item} model=${model} ask=${ask} />
      <${Similar} item=${item} turn=${turn} ask=${ask} />
    </div>`}
  `;
}

const time = (seconds) => date(1e3 * seconds);

function Facts({ item }) {
  const { year, genres, labels, ratings, mean_rating: mean, available_from: from, available_until: until } = item;
  return html`
    ${item.hidden && html`<p><span class="badge bad">hidden</span> No list and no search shows this item.</p>`}
    ${!item.known_to_model && html`<p><span class="badge plain">new</span> The model does not know this item. After a fit with ratings of it, lists can show it.</p>`}
    <dl class="facts">
      <dt>Id</dt><dd>${item.item}</dd>
      <dt>Year</dt><dd>${year ?? "–"}</dd>
      <dt>Genres</dt><dd>${genres?.join(", ") || "–"}</dd>
      <dt>Labels</dt><dd>${labels?.join(", ") || "–"}</dd>
      ${from != null && html`<dt>Available from</dt><dd>${time(from)}</dd>`}
      ${until != null && html`<dt>Available until</dt><dd>${time(until)}</dd>`}
      <dt>Training ratings</dt><dd>${count(ratings)}${mean != null && `, average ${fixed(mean, 2)}`}</dd>
    </dl>
  `;
}

// "a, b" as ["a", "b"]; nothing at all is unknown.
const names = (text) => (text.trim() ? text.split(",").map((name) => name.trim()).filter(Boolean) : null);
const local = (seconds) => (seconds == null ? "" : new Date(1e3 * seconds - 6e4 * new Date(1e3 * seconds).getTimezoneOffset()).toISOString().slice(0, 16));
const seconds = (text) => (text ? Math.floor(new Date(text) / 1e3) : null);

function Edit({ id, item, ask, finish }) {
  const field = useId();
  const save = async (form) => {
    const body = {
      title: form.get("title").trim() || null,
      year: form.get("year") ? Number(form.get("year")) : null,
      genres: names(form.get("genres")),
      labels: names(form.get("labels")),
      hidden: form.has("hidden"),
      available_from: seconds(form.get("from")),
      available_until: seconds(form.get("until")),
    };
    await ask("store item", { method: "PUT", path: ["items", id], body, admin: true });
    return "Saved. Other workers show the change within a second.";
  };
  const input = (name, text, value, more) => html`
    <div class="field">
      <label for="${field}-${name}">${text}</label>
      <input id="${field}-${name}" name=${name} defaultValue=${value ?? ""} autocomplete="off" ...${more} />
    </div>
  `;
  return html`
    <${AdminDialog} title=${`${item ? "Edit" : "Add"} the item ${id}`} action="Save" working="Saving…" submit=${save} finish=${finish}>
      ${input("title", "Title", item?.title, { maxlength: 256 })}
      ${input("year", "Year", item?.year, { type: "number", min: 0, max: 9999 })}
      ${input("genres", "Genres, separated by commas", item?.genres?.join(", "))}
      ${input("labels", "Labels, separated by commas", item?.labels?.join(", "))}
      <p><label><input type="checkbox" name="hidden" defaultChecked=${item?.hidden} /> Hide it: no list and no search shows it</label></p>
      ${input("from", "Available from", local(item?.available_from), { type: "datetime-local" })}
      ${input("until", "Available until", local(item?.available_until), { type: "datetime-local" })}
    <//>
  `;
}

// All ratings of an item need an admin key where there are keys: without one only the numbers of the fit are shown.
function Ratings({ item, model, turn, ask }) {
  const request = { path: ["items", item, "ratings"], query: { n: SHOWN }, admin: true };
  const { content, problem } = useAnswer(ask, "ratings of the item", request, [item, turn]);
  const most = Math.max(...(content?.levels ?? []).map(({ ratings }) => ratings), 1);
  const scale = scaleOf(model);
  return html`
    <${Card} title="Ratings">
      <${AdminFailure} problem=${problem} />
      ${content &&
      html`<p class="muted">${count(content.ratings)} ratings, average ${fixed(content.mean_rating, 2)}, those since the fit included.</p>
        <table aria-label="Ratings by level">
          <tbody>
            ${[...content.levels].reverse().map(
              ({ rating, ratings }) => html`<tr key=${rating}>
                <th scope="row" class="number">${Number(rating.toFixed(2))}</th>
                <td class="number">${count(ratings)}</td>
                <td class="wide" aria-hidden="true"><svg width="100%" height="12" class="part"><rect class="ours" width="${(100 * ratings) / most}%" y="2" height="8" rx="2" /></svg></td>
              </tr>`,
            )}
          </tbody>
        </table>
        <h3>Latest</h3>
        <${Lines} rows=${content.latest.map(({ user, rating, timestamp }) => [
          html`<a href=${linkTo("users", user)}>${user}</a> <span class="muted">${timestamp ? time(timestamp) : "in the training data"}</span>`,
          html`<${Rating} rating=${rating} scale=${scale} />`,
        ])} />`}
    <//>
  `;
}

function Likely({ item, model, ask }) {
  const { content, problem } = useAnswer(ask, "users who would like it", { path: ["items", item, "users"], query: { n: SHOWN } }, [item]);
  const scale = scaleOf(model);
  return html`
    <${Card} title="Who would like it">
      <${Failure} problem=${problem} />
      ${content &&
      html`<p class="muted">The users who have not rated it and have the highest predicted rating.</p>
        <${Lines} rows=${content.users.map(({ user, rating }) => [html`<a href=${linkTo("users", user)}>${user}</a>`, html`<${Rating} rating=${rating} scale=${scale} />`])} />`}
    <//>
  `;
}

function Similar({ item, turn, ask }) {
  const { content, problem } = useAnswer(ask, "similar items", { path: ["items", item, "similar"], query: { n: SHOWN } }, [item, turn]);
  return html`
    <${Card} title="Similar items">
      <${Failure} problem=${problem} />
      ${content &&
      html`<p class="muted">By the cosine of their factors, at most 1.</p>
        <${Lines} rows=${content.items.map((one) => [
          html`<a href=${linkTo("items", one.item)}>${label(one)}</a> <span class="muted">${one.year}</span>`,
          html`<span class="number">${fixed(one.similarity, 2)}</span>`,
        ])} />`}
    <//>
  `;
}
