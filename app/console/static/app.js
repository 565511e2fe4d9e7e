// The console: the current view, the model that all views show, and the keys.
import { events, keep, useAnswer, useRequests } from "./api.js";
import { html, render, useEffect, useRef, useState } from "./lib.js";
import { Compare } from "./compare.js";
import { Dialog, KeyField } from "./dialog.js";
import { Items } from "./items.js";
import { Live } from "./live.js";
import { Model } from "./model.js";
import { Health } from "./parts.js";
import { Quality } from "./quality.js";
import { Settings } from "./settings.js";
import { Try } from "./try.js";
import { Users } from "./users.js";

const REFUSED = "The service did not accept this key. Check it, and save it again.";
const MISSING = "The service needs an API key. Type one.";
const VIEWS = { model: ["Model", Model], users: ["Users", Users], items: ["Items", Items], try: ["Try it", Try], quality: ["Quality", Quality], compare: ["Compare", Compare], live: ["Live", Live], settings: ["Settings", Settings] };

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
  const [turn, setTurn] = useState(0);
  const [asking, setAsking] = useState(null); // why keys are asked for
  const [keys, setKeys] = useState(0);
  const [, ask] = useRequests();
  const { content: model } = useAnswer(ask, "current model", { path: ["models", "current"] }, [keys, turn]);
  const main = useRef(null);
  const [name, View] = VIEWS[view];
  const refresh = () => setTurn((known) => known + 1);
  useEffect(() => {
    const move = () => setLocation(readLocation());
    const askForKey = ({ detail: sent }) => setAsking(sent ? REFUSED : MISSING);
    addEventListener("hashchange", move);
    events.addEventListener("key-needed", askForKey);
    return () => {
      removeEventListener("hashchange", move);
      events.removeEventListener("key-needed", askForKey);
    };
  }, []);
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
        <button type="button" class="quiet" onClick=${() => setAsking("")}>Keys</button>
      </div>
    </header>
    <main ref=${main} id="main" tabindex="-1"><${Health} /><${View} key=${`${view} ${keys}`} model=${model} argument=${argument} go=${go} refresh=${refresh} /></main>
    ${asking !== null && html`<${Keys} why=${asking} done=${() => setAsking(null)} changed=${() => setKeys(keys + 1)} />`}
  `;
}

function Keys({ why, done, changed }) {
  const take = (given) => {
    for (const kind of ["api", "admin"]) keep(kind, given.get(kind));
    changed();
  };
  return html`
    <${Dialog} title="Keys" action="Save" submit=${take} finish=${done}>
      ${why && html`<p class="failure" role="alert">${why}</p>`}
      <p>The console sends these keys with its requests. Leave them empty if the service needs none.</p>
      <${KeyField} kind="api" text="API key" />
      <${KeyField} kind="admin" text="Admin key, needed to change anything" />
    <//>
  `;
}

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${Console} />`, root);
