// The parts that several views share. They send no requests themselves.
import { fixed, html, label, useEffect, useId, useRef, useState } from "./lib.js";

export const Failure = ({ problem }) =>
  problem &&
  html`<div class="failure" role="alert"><strong>${problem.title}</strong>${" "}${problem.message !== problem.title && problem.message}</div>`;

export const Tile = ({ name, value, children }) =>
  html`<div class="tile"><dt>${name}</dt><dd><span class="figure">${value}</span>${children}</dd></div>`;

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
  const [active, setActive] = useState(-1);
  const id = useId();
  const latest = useRef(0);
  useEffect(() => {
    if (!text.trim()) {
      setOptions(null);
      return;
    }
    const number = ++latest.current;
    const timer = setTimeout(async () => {
      const found = await search(text.trim()).catch(() => []);
      if (number !== latest.current) return;
      setOptions(found);
      setActive(found.length && !free ? 0 : -1);
    }, 100);
    return () => clearTimeout(timer);
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
      <p class="muted found" role="status">${open && !options.length ? "No results." : ""}</p>
    </div>
  `;
}

const position = (value, [low, high]) => (100 * (Math.min(Math.max(value, low), high) - low)) / (high - low || 1);

// A rating on the scale, with the 90 % interval of the prediction.
export function Rating({ rating, low, high, scale }) {
  const known = low != null && high != null;
  const said = `${fixed(rating, 1)} of ${scale[1]}` + (known ? `, 90 % interval from ${fixed(low, 1)} to ${fixed(high, 1)}` : "");
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
          : html`The average prediction for this item is ${fixed(because.baseline, 2)}. The parts below add up to ${fixed(because.score, 2)}, shown as ${fixed(because.rating, 2)} of ${scale[1]}.`}
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

// The orders that the model supports, from its shape.
export function orders({ relevance_factors: head, uncertainty }) {
  const known = [["rating", "Rating"]];
  if (head != null) known.unshift(["relevance", "Relevance"]);
  if (uncertainty) known.push(["lower_bound", "Lower bound"]);
  return known;
}

// Genre and years. `filters` is {genre, year_min, year_max}, each "" for any.
export function Filters({ genres, filters, change }) {
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
    ${year("year_min", "From year")} ${year("year_max", "To year")}
  `;
}
