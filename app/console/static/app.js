// The console: the current view, the model that all views show, and the keys.
import { events, keep, key, send } from "./api.js";
import { html, render, useEffect, useId, useRef, useState } from "./lib.js";
import { Live } from "./live.js";
import { Model } from "./model.js";
import { Try } from "./try.js";
import { Users } from "./users.js";

const VIEWS = { model: ["Model", Model], users: ["Users", Users], try: ["Try it", Try], live: ["Live", Live] };

// `#users/196` is the view `users` with the argument 196.
function readLocation() {
  const [view, ...rest] = location.hash.slice(1).split("/");
  let argument = null;
  try {
    argument = rest.length ? decodeURIComponent(rest.join("/")) : null;
  } catch {
    // the address was not written by the console
  }
  return VIEWS[view] ? { view, argument } : { view: "model", argument: null };
}

const go = (view, argument) => {
  location.hash = `${view}/${encodeURIComponent(argument)}`;
};

function Console() {
  const [{ view, argument }, setLocation] = useState(readLocation());
  const [model, setModel] = useState(null);
  const [asking, setAsking] = useState(false);
  const [keys, setKeys] = useState(0);
  const main = useRef(null);
  const [name, View] = VIEWS[view];
  const refresh = () => send({ path: ["models", "current"] }).then(({ content }) => setModel(content), () => {});
  useEffect(() => {
    const move = () => setLocation(readLocation());
    const askForKey = () => setAsking(true);
    addEventListener("hashchange", move);
    events.addEventListener("key-needed", askForKey);
    return () => {
      removeEventListener("hashchange", move);
      events.removeEventListener("key-needed", askForKey);
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
        <p>The console sends these keys with its requests. Leave them empty if the service needs none.</p>
        <label for="${id}-api">API key</label>
        <input id="${id}-api" name="api" type="password" autocomplete="off" value=${key("api")} />
        <label for="${id}-admin">Admin key, needed to activate a version</label>
        <input id="${id}-admin" name="admin" type="password" autocomplete="off" value=${key("admin")} />
        <p class="muted">The keys are stored in this tab only and deleted when you close it.</p>
        <div class="row end">
          <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
          <button type="submit" class="main">Save</button>
        </div>
      </form>
    </dialog>
  `;
}

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${Console} />`, root);
