// Requests to the service: keys, errors, and a record of the requests of a view. This module knows no view.
import { useCallback, useEffect, useRef, useState } from "./lib.js";

const BASE = new URL(".", document.baseURI);
const STORED = { api: "ratecast.key", admin: "ratecast.admin-key" };
// "key-needed": a request was answered with 401; its detail is whether it had sent a key. "again": repeat what failed. "requests": those under way or failed are others.
export const events = new EventTarget();

// Keys are stored in this tab only. The browser deletes them when the tab is closed.
export const key = (kind) => sessionStorage.getItem(STORED[kind]) ?? "";
export function keep(kind, value) {
  if (value) sessionStorage.setItem(STORED[kind], value);
  else sessionStorage.removeItem(STORED[kind]);
}

export class Problem extends Error {
  constructor(status, { title = "The service did not answer", detail = "", type = "" } = {}) {
    super(detail || title);
    Object.assign(this, { status, title, kind: type.split(":").at(-1) });
  }

  // Whether it is the service that fails, and not this request alone. 501: the service lacks a part, for good.
  get ofService() {
    return this.status === 0 || this.status === 429 || (this.status >= 500 && this.status !== 501);
  }
}

// What `fetch` says of a connection that fails, as a problem.
function lost(error) {
  if (error.name === "AbortError") throw error;
  throw new Problem(0, { title: "The service cannot be reached", detail: "Check that it is running, and try again." });
}

// A request is {method, path: [segments], query, body, admin, text}; the segments are not yet encoded.
// A browser cannot request a segment "." or "..", even when it is encoded.
export function address({ path, query = {} }) {
  const url = new URL(path.map(encodeURIComponent).join("/"), BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value != null && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

const keyFor = ({ admin }) => (admin ? key("admin") || key("api") : key("api") || key("admin"));

export async function send(request, signal) {
  const headers = {};
  const shown = keyFor(request);
  if (shown) headers.Authorization = `Bearer ${shown}`;
  if (request.body) headers["Content-Type"] = "application/json";
  const body = request.body && JSON.stringify(request.body);
  const method = request.method ?? "GET";
  const answer = await fetch(address(request), { method, headers, body, signal }).catch(lost);
  if (answer.ok) return { status: answer.status, content: await (request.text ? answer.text() : answer.json()).catch(lost) };
  const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
  // A dialog shows a 401 of an admin request itself. One of an earlier key does not matter.
  if (answer.status === 401 && !request.admin && shown === keyFor(request)) events.dispatchEvent(new CustomEvent("key-needed", { detail: Boolean(shown) }));
  throw problem;
}

// The requests of all that is shown: lists by their owner.
const owners = new Map();
export const allRequests = () => [...owners.values()].flat();
function tell(owner, requests) {
  if (requests) owners.set(owner, requests);
  else owners.delete(owner);
  events.dispatchEvent(new Event("requests"));
}

// The latest request of a view under each name, and `ask`. A new call under a name cancels the earlier one.
// Its `status` is null until it is answered; `problem` says why it failed.
export function useRequests() {
  const [requests, setRequests] = useState([]);
  const running = useRef(new Map());
  const ask = useCallback(async (name, request) => {
    running.current.get(name)?.abort();
    const control = new AbortController();
    running.current.set(name, control);
    const began = performance.now();
    const note = (status, problem = null) => {
      const entry = { name, request, status, problem, ms: performance.now() - began, began };
      setRequests((list) =>
        list.some((known) => known.name === name)
          ? list.map((known) => (known.name === name ? entry : known))
          : [...list, entry],
      );
    };
    note(null);
    try {
      const { status, content } = await send(request, control.signal);
      note(status);
      return content;
    } catch (error) {
      if (error.name === "AbortError") return new Promise(() => {});
      note(error.status, error);
      throw error;
    }
  }, []);
  useEffect(() => tell(running, requests), [requests]);
  useEffect(() => {
    const forget = () => setRequests((list) => list.map((entry) => ({ ...entry, problem: null })));
    events.addEventListener("again", forget);
    return () => {
      events.removeEventListener("again", forget);
      tell(running, null);
      running.current.forEach((control) => control.abort());
    };
  }, []);
  return [requests, ask];
}

// The content of an answer. It is requested again whenever one of `inputs` changes, and after a failure when the user
// asks for that. If `request` is null, nothing is requested.
export function useAnswer(ask, name, request, inputs) {
  const [answer, setAnswer] = useState({ content: null, problem: null, waiting: true });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (!answer.problem) return undefined;
    const again = () => setTurn((known) => known + 1);
    events.addEventListener("again", again);
    return () => events.removeEventListener("again", again);
  }, [answer.problem]);
  useEffect(() => {
    if (!request) {
      setAnswer({ content: null, problem: null, waiting: false });
      return;
    }
    let current = true;
    setAnswer((known) => ({ ...known, waiting: true }));
    ask(name, request).then(
      (content) => current && setAnswer({ content, problem: null, waiting: false }),
      (problem) => current && setAnswer({ content: null, problem, waiting: false }),
    );
    return () => {
      current = false;
    };
  }, [...inputs, turn]);
  return answer;
}

// What items can be filtered by: {genres, years}, where `years` is whether any item has one.
export function useFacets(ask) {
  const genres = useAnswer(ask, "genres", { path: ["genres"] }, []);
  const dated = useAnswer(ask, "an item with a year", { path: ["items"], query: { n: 1, year_min: 0 } }, []);
  return { genres: genres.content?.genres, years: dated.content?.items.length > 0 };
}

export const findItems = (ask) => async (query) => (await ask("item search", { path: ["items"], query: { query, n: 8 } })).items;

export function saveFile(text, type, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}
