// The console: which view is shown, the model that all of them are about, and the keys.
import { keep, key, send, wishes } from "./api.js";
import { html, render, useEffect, useId, useRef, useState } from "./lib.js";
import { Live } from "./live.js";
import { Model } from "./model.js";
import { People } from "./people.js";
import { Try } from "./try.js";

const VIEWS = { model: ["Model", Model], people: ["People", People], try: ["Try it", Try], live: ["Live", Live] };

// `#people/196` is the view people with the argument 196.
function place() {
  const [view, ...rest] = location.hash.slice(1).split("/");
  let argument = null;
  try {
    argument = rest.length ? decodeURIComponent(rest.join("/")) : null;
  } catch {
    // not the console's own spelling
  }
  return VIEWS[view] ? { view, argument } : { view: "model", argument: null };
}

const go = (view, argument) => {
  location.hash = `${view}/${encodeURIComponent(argument)}`;
};

function Console() {
  const [{ view, argument }, setPlace] = useState(place());
  const [model, setModel] = useState(null);
  const [asking, setAsking] = useState(false);
  const [keys, setKeys] = useState(0);
  const main = useRef(null);
  const [name, View] = VIEWS[view];
  const refresh = () => send({ path: ["models", "current"] }).then(({ content }) => setModel(content), () => {});
  useEffect(() => {
    const move = () => setPlace(place());
    const wish = () => setAsking(true);
    addEventListener("hashchange", move);
    wishes.addEventListener("key", wish);
    return () => {
      removeEventListener("hashchange", move);
      wishes.removeEventListener("key", wish);
    };
  }, []);
  useEffect(() => {
    refresh();
  }, [keys]);
  const first = useRef(true);
  useEffect(() => {
    document.title = `${name} · Ratecast`;
    if (!first.current) main.current.querySelector("h1")?.focus();
    first.current = false;
  }, [view]);
  const skip = (event) => {
    event.preventDefault();
    main.current.querySelector("h1")?.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <a class="brand" href="#model"><img src="console/icon.svg" alt="" width="28" height="28" />Ratecast</a>
      <nav aria-label="Views">
        ${Object.entries(VIEWS).map(([id, [text]]) => html`<a key=${id} href="#${id}" aria-current=${id === view ? "page" : undefined}>${text}</a>`)}
      </nav>
      <div class="aside">
        <a href="docs">API</a>
        <button type="button" class="quiet" onClick=${() => setAsking(true)}>Keys</button>
      </div>
    </header>
    <main ref=${main} id="main" tabindex="-1"><${View} key=${`${view} ${keys}`} model=${model} argument=${argument} go=${go} refresh=${refresh} /></main>
    ${asking && html`<${Keys} done=${() => setAsking(false)} changed=${() => setKeys(keys + 1)} />`}
  `;
}

function Keys({ done, changed }) {
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => dialog.current.showModal(), []);
  const take = (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    keep("api", given.get("api"));
    keep("admin", given.get("admin"));
    dialog.current.close();
    changed();
  };
  return html`
    <dialog ref=${dialog} aria-labelledby="${id}-title" onClose=${done}>
      <form onSubmit=${take}>
        <h2 id="${id}-title">Keys</h2>
        <p>Where the service asks for keys, the console sends yours with its requests.</p>
        <label for="${id}-api">API key</label>
        <input id="${id}-api" name="api" type="password" autocomplete="off" value=${key("api")} />
        <label for="${id}-admin">Admin key, to change which version is served</label>
        <input id="${id}-admin" name="admin" type="password" autocomplete="off" value=${key("admin")} />
        <p class="muted">They stay in this tab and are gone when it is closed.</p>
        <div class="row end">
          <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
          <button type="submit" class="main">Use them</button>
        </div>
      </form>
    </dialog>
  `;
}

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${Console} />`, root);
