// Requests to the service: keys, errors, and a record of the requests of a view. This module knows no view.
import { useCallback, useEffect, useRef, useState } from "./lib.js";

const BASE = new URL(".", document.baseURI);
const STORED = { api: "ratecast.key", admin: "ratecast.admin-key" };
export const events = new EventTarget(); // "key-needed": a request was answered with 401

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

export async function send(request, signal) {
  const headers = {};
  const shown = request.admin ? key("admin") || key("api") : key("api") || key("admin");
  if (shown) headers.Authorization = `Bearer ${shown}`;
  if (request.body) headers["Content-Type"] = "application/json";
  const body = request.body && JSON.stringify(request.body);
  const answer = await fetch(address(request), { method: request.method ?? "GET", headers, body, signal });
  if (answer.ok) return { status: answer.status, content: await (request.text ? answer.text() : answer.json()) };
  const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
  if (answer.status === 401 && !request.admin) events.dispatchEvent(new Event("key-needed")); // a dialog shows a 401 of an admin request itself
  throw problem;
}

// The latest request of a view under each name, and `ask`. A new call under a name cancels the earlier one.
export function useRequests() {
  const [requests, setRequests] = useState([]);
  const running = useRef(new Map());
  const ask = useCallback(async (name, request) => {
    running.current.get(name)?.abort();
    const control = new AbortController();
    running.current.set(name, control);
    const began = performance.now();
    const note = (status) => {
      const entry = { name, request, status, ms: performance.now() - began, began };
      setRequests((list) =>
        list.some((known) => known.name === name)
          ? list.map((known) => (known.name === name ? entry : known))
          : [...list, entry],
      );
    };
    try {
      const { status, content } = await send(request, control.signal);
      note(status);
      return content;
    } catch (error) {
      if (error.name === "AbortError") return new Promise(() => {});
      if (error instanceof Problem) {
        note(error.status);
        throw error;
      }
      throw new Problem(0, { detail: "The service cannot be reached. Check that it is running." });
    }
  }, []);
  useEffect(() => () => running.current.forEach((control) => control.abort()), []);
  return [requests, ask];
}

// The content of an answer. It is requested again whenever one of `inputs` changes. If `request` is null, nothing is.
export function useAnswer(ask, name, request, inputs) {
  const [answer, setAnswer] = useState({ content: null, problem: null, waiting: true });
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
  }, inputs);
  return answer;
}
