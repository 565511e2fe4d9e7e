// The parts that several views share.
import { allRequests, events, useFacets } from "./api.js";
import { count, fixed, html, label, useEffect, useId, useRef, useState } from "./lib.js";

const SLOW = 700; // milliseconds until a view says that it waits

const words = (problem) => html`<strong>${problem.title}</strong>${" "}${problem.message !== problem.title && problem.message}`;

// Why a request was refused, where it was asked for. `Health` shows the failures of the service.
export const Failure = ({ problem }) => problem && !problem.ofService && problem.status !== 401 && html`<div class="failure" role="alert">${words(problem)}</div>`;

// The same of what only an admin may read.
export const AdminFailure = ({ problem, what = "the ratings of all users" }) =>
  problem?.status === 401 || problem?.status === 403
    ? html`<p class="muted">Only an admin key may read ${what}. Type one under Keys.</p>`
    : html`<${Failure} problem=${problem} />`;

// All that a form or a dialog failed by.
export const AnyFailure = ({ problem }) => problem && html`<div class="failure" role="alert">${words(problem)}</div>`;

// Whether the service fails or is slow, from the requests of all that is shown.
export function Health() {
  const [requests, setRequests] = useState([]);
  useEffect(() => {
    const look = () => setRequests(allRequests());
    events.addEventListener("requests", look);
    look();
    return () => events.removeEventListener("requests", look);
  }, []);
  const problem = requests.find(({ problem, request }) => problem?.ofService || (problem?.status === 401 && !request.admin))?.problem;
  const waiting = requests.some(({ status }) => status === null);
  const [slow, setSlow] = useState(false);
  useEffect(() => {
    setSlow(false);
    if (!waiting) return undefined;
    const timer = setTimeout(() => setSlow(true), SLOW);
    return () => clearTimeout(timer);
  }, [waiting]);
  return html`
    <div class="health">
      ${problem &&
      html`<div class="failure" role="alert">
        <span>${words(problem)}</span>
        ${problem.ofService
          ? html`<button type="button" onClick=${() => events.dispatchEvent(new Event("again"))}>Try again</button>`
          : html`<button type="button" onClick=${() => events.dispatchEvent(new CustomEvent("key-needed", { detail: false }))}>Enter a key</button>`}
      </div>`}
      <p class="slow" role="status">${slow && !problem ? "Waiting for the service…" : ""}</p>
    </div>
  `;
}

// A region that is scrolled sideways when it is too narrow for its table, and then says so.
function Scroll({ name, low, children }) {
  const region = useRef(null);
  const [cut, setCut] = useState(false);
  const look = () => {
    if (!region.current) return; // the view was left
    const { scrollWidth, clientWidth, scrollLeft } = region.current;
    setCut(scrollWidth - clientWidth - scrollLeft > 1);
  };
  useEffect(() => {
    const sizes = new ResizeObserver(look);
    sizes.observe(region.current);
    sizes.observe(region.current.firstElementChild);
    return () => sizes.disconnect();
  }, []);
  return html`
    <div class="frame ${cut ? "cut" : ""}">
      <p class="muted cue" hidden=${!cut}>There are more columns: scroll to the right.</p>
      <div ref=${region} class="scroll ${low ? "low" : ""}" tabindex="0" role="region" aria-label=${name} onScroll=${look}>${children}</div>
    </div>
  `;
}

export const Card = ({ title, kind = "", children }) => html`<section class="card ${kind}"><h2>${title}</h2>${children}</section>`;

export const Tile = ({ name, value, children }) =>
  html`<div class="tile"><dt>${name}</dt><dd><span class="figure">${value}</span>${children}</dd></div>`;

// The share on a scale from 80 to 100 %. The mark in the middle is the ideal, 90 %.
export const Calibration = ({ share }) => {
  const at = Math.min(Math.max((share - 0.8) / 0.2, 0.02), 0.98);
  return html`<svg class="bar" width="100%" height="18" aria-hidden="true">
    <line class="track" x1="0" x2="100%" y1="9" y2="9" />
    <line class="aim" x1="50%" x2="50%" y1="1" y2="17" />
    <circle class="dot" cx="${100 * at}%" cy="9" r="5" />
  </svg>`;
};

// A table of rows of cells; the first of a row is its head, of the class `kind`. The names of columns of numbers begin with "#".
export function Table({ name, low, kind, names, rows }) {
  const number = (at) => (names[at][0] === "#" ? "number" : undefined);
  return html`<${Scroll} name=${name} low=${low}>
    <table>
      <thead><tr>${names.map((text, at) => html`<th scope="col" class=${number(at)}>${number(at) ? text.slice(1) : text}</th>`)}</tr></thead>
      <tbody>
        ${rows.map((cells, row) => html`<tr key=${row}>${cells.map((cell, at) => (at ? html`<td class=${number(at)}>${cell}</td>` : html`<th scope="row" class=${kind}>${cell}</th>`))}</tr>`)}
      </tbody>
    </table>
  <//>`;
}

// A list of lines, each [what, value].
export const Lines = ({ rows }) => html`<ul class="list plain">${rows.map(([what, value], at) => html`<li key=${at}><div class="line"><span class="title">${what}</span>${value}</div></li>`)}</ul>`;

// A choice between a few options, as radio buttons. An option is a text or [value, text].
export function Choice({ legend, options, value, choose }) {
  const name = useId();
  return html`
    <fieldset class="choice">
      <legend>${legend}</legend>
      ${options.map((option) => {
        const [own, text] = Array.isArray(option) ? option : [option, option];
        return html`<label key=${own}
          ><input type="radio" name=${name} value=${own} checked=${own === value} onChange=${() => choose(own)} /><span
            >${text}</span
          ></label
        >`;
      })}
    </fieldset>
  `;
}

// A text field that offers the results of a search. `search(text)` returns a promise of options; `show(option)` renders
// one. If `free` is given, Enter also accepts the text itself.
export function Search({ name, hint, search, show, choose, free }) {
  const [text, setText] = useState("");
  const [options, setOptions] = useState(null);
  const [problem, setProblem] = useState(null);
  const [active, setActive] = useState(-1);
  const id = useId();
  const latest = useRef(0);
  useEffect(() => {
    setProblem(null);
    if (!text.trim()) {
      setOptions(null);
      return undefined;
    }
    const find = async () => {
      const number = ++latest.current;
      try {
        const found = await search(text.trim());
        if (number !== latest.current) return;
        setProblem(null);
        setOptions(found);
        setActive(found.length && !free ? 0 : -1);
      } catch (failure) {
        if (number !== latest.current) return;
        setProblem(failure);
        setOptions(null);
      }
    };
    const timer = setTimeout(find, 100);
    events.addEventListener("again", find);
    return () => {
      clearTimeout(timer);
      latest.current += 1;
      events.removeEventListener("again", find);
    };
  }, [text]);
  const close = () => {
    latest.current += 1;
    setOptions(null);
  };
  const take = (option) => {
    setText("");
    close();
    choose(option);
  };
  const keys = {
    ArrowDown: () => options?.length && setActive((active + 1) % options.length),
    ArrowUp: () => options?.length && setActive((active <= 0 ? options.length : active) - 1),
    Escape: close,
    Enter: () => {
      if (options?.[active]) take(options[active]);
      else if (free && text.trim()) take(free(text.trim()));
    },
  };
  const press = (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  };
  const open = options !== null;
  return html`
    <div class="search">
      <label for=${id}>${name}</label>
      <input id=${id} type="search" role="combobox" autocomplete="off" spellcheck=${false} placeholder=${hint}
        aria-autocomplete="list" aria-expanded=${open ? "true" : "false"} aria-controls="${id}-list"
        aria-activedescendant=${open && active >= 0 ? `${id}-${active}` : undefined}
        value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${press} onBlur=${close} />
      <ul id="${id}-list" role="listbox" aria-label="${name}: results" hidden=${!open || !options.length}>
        ${(options ?? []).map(
          (option, at) => html`<li key=${at} id="${id}-${at}" role="option" aria-selected=${at === active ? "true" : "false"}
            onMouseDown=${(event) => event.preventDefault()} onClick=${() => take(option)}>${show(option)}</li>`,
        )}
      </ul>
      <p class="muted found" role="status">${problem ? `The search failed. ${problem.title}.` : open && !options.length ? "No results." : ""}</p>
    </div>
  `;
}

const position = (value, [low, high]) => (100 * (Math.min(Math.max(value, low), high) - low)) / (high - low || 1);

// A rating on the scale. With an interval it is a prediction: nine of ten such ratings are inside.
export function Rating({ rating, low, high, scale }) {
  const known = low != null && high != null;
  const said = `${fixed(rating, 1)} of ${scale[1]}` + (known ? `, 90 % interval of the rating from ${fixed(low, 1)} to ${fixed(high, 1)}` : "");
  return html`
    <span class="rating">
      <svg class="bar" role="img" aria-label=${said} width="100%" height="20">
        <line class="track" x1="0" x2="100%" y1="10" y2="10" />
        ${known && html`<rect class="band" x="${position(low, scale)}%" width="${Math.max(1, position(high, scale) - position(low, scale))}%" y="5" height="10" rx="5" />`}
        <circle class="dot" cx="${position(rating, scale)}%" cy="10" r="5" />
      </svg>
      <span class="number" aria-hidden="true">${fixed(rating, 1)}</span>
    </span>
  `;
}

// The contributions to a prediction, each a bar to the left or the right of 0.
export function Reasons({ because, scale }) {
  const largest = Math.max(...because.reasons.map(({ contribution }) => Math.abs(contribution)), 1e-9);
  const clipped = Math.abs(because.score - because.rating) > 0.005;
  const row = (name, note, part, bar = true) => html`
    <tr>
      <th scope="row">${name} <span class="muted">${note}</span></th>
      <td class="number">${part > 0 ? "+" : part < 0 ? "−" : ""}${Math.abs(part).toFixed(2)}</td>
      <td class="wide" aria-hidden="true">
        ${bar && html`<svg class="part" width="100%" height="12">
          <line x1="50%" x2="50%" y1="0" y2="12" />
          <rect class=${part < 0 ? "minus" : "plus"} x="${part < 0 ? 50 - (50 * -part) / largest : 50}%" width="${(50 * Math.abs(part)) / largest}%" y="2" height="8" rx="2" />
        </svg>`}
      </td>
    </tr>
  `;
  return html`
    <table class="reasons">
      <caption>
        ${because.rank_by === "relevance"
          ? html`The parts of the user's ratings add up to the score that orders this list, ${fixed(because.score, 3)}.`
          : html`The average prediction for this item is ${fixed(because.baseline, 2)}. With the parts below it is ${fixed(because.score, 2)}${clipped && `, which the scale ends at ${fixed(because.rating, 0)}`}.`}
      </caption>
      <tbody>
        ${because.reasons.map((reason) => row(label(reason), `rated ${fixed(reason.rating, 1)}`, reason.contribution))}
        ${Math.abs(because.others) > 0.005 && row("All other ratings", "", because.others, false)}
        ${Math.abs(because.fitted) > 0.005 && row("Learned in the fit, together with all other users", "", because.fitted, false)}
      </tbody>
    </table>
  `;
}

// A numbered list of items. `more(item)` is shown at the end of a row, `below(item)` under it.
export const List = ({ items, scale, more, below, name }) => html`
  <ol class="list" aria-label=${name}>
    ${items.map(
      (item, at) => html`
        <li key=${item.item}>
          <div class="line">
            <span class="rank" aria-hidden="true">${at + 1}</span>
            <span class="title">${label(item)} ${item.year && html`<span class="muted">${item.year}</span>`}</span>
            <${Rating} ...${item} scale=${scale} />
            ${more && html`<span class="more">${more(item)}</span>`}
          </div>
          ${below && below(item)}
        </li>
      `,
    )}
  </ol>
`;

// An item that a search has found.
export const found = (item) => html`<span>${label(item)} <span class="muted">${item.year}</span></span><span class="muted">${count(item.ratings)} ratings</span>`;

// The orders that the model supports, from its shape.
function orders({ relevance_factors: head, uncertainty }) {
  const known = [["rating", "Rating"]];
  if (head != null) known.unshift(["relevance", "Relevance"]);
  if (uncertainty) known.push(["lower_bound", "Lower bound"]);
  return known;
}

// How a list is ordered and filtered, with the `controls` that change it.
export function useControls(ask, shape) {
  const known = orders(shape);
  const [order, setOrder] = useState(known[0][0]);
  const [filters, setFilters] = useState(ANY);
  const controls = html`<div class="row controls">
    <${Choice} legend="Order by" options=${known} value=${order} choose=${setOrder} />
    <${Filters} ask=${ask} filters=${filters} change=${setFilters} />
  </div>`;
  return { order, filters, controls };
}

export const ANY = { genre: "", year_min: "", year_max: "" };

// Genre and years, as far as the items have them. `filters` is {genre, year_min, year_max}, each "" for any.
export function Filters({ ask, filters, change }) {
  const { genres, years } = useFacets(ask);
  const id = useId();
  const set = (name) => (event) => change({ ...filters, [name]: event.target.value });
  const year = (name, text) => html`
    <div class="field">
      <label for="${id}-${name}">${text}</label>
      <input id="${id}-${name}" type="number" min="0" max="9999" inputmode="numeric" class="year" placeholder="any"
        value=${filters[name]} onInput=${set(name)} />
    </div>
  `;
  return html`
    ${genres?.length > 0 &&
    html`<div class="field">
      <label for="${id}-genre">Genre</label>
      <select id="${id}-genre" value=${filters.genre} onChange=${set("genre")}>
        <option value="">any</option>
        ${genres.map(({ name, items }) => html`<option key=${name} value=${name}>${name} (${items})</option>`)}
      </select>
    </div>`}
    ${years && html`${year("year_min", "From year")} ${year("year_max", "To year")}`}
  `;
}
