// The requests of a view, ready to copy. A key is never shown: the commands read it from RATECAST_KEY.
import { address, key } from "./api.js";
import { html, useId, useState } from "./lib.js";
import { Choice } from "./parts.js";

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const secret = (request) => Boolean(key("api") || key("admin") || request.admin);

function curl(request) {
  const method = request.method ?? "GET";
  const parts = [`curl -s ${method === "GET" ? "" : `-X ${method} `}${quoted(address(request).href)}`];
  if (secret(request)) parts.push(`-H "Authorization: Bearer $RATECAST_KEY"`);
  if (request.body) parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(request.body))}`);
  return parts.join(" \\\n  ");
}

function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${members(value).join(", ")}}`;
}

const members = (value) => Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${literal(part)}`);
const block = (value) => `{\n        ${members(value).join(",\n        ")},\n    }`;

function python(request) {
  const url = address(request);
  const query = Object.fromEntries(url.searchParams);
  const parts = [JSON.stringify(url.origin + url.pathname)];
  if (Object.keys(query).length) parts.push(`params=${block(query)}`);
  if (request.body) parts.push(`json=${block(request.body)}`);
  if (secret(request)) parts.push(`headers={"Authorization": f"Bearer {os.environ['RATECAST_KEY']}"}`);
  const call = `httpx.${(request.method ?? "GET").toLowerCase()}(\n    ${parts.join(",\n    ")},\n)`;
  const imports = secret(request) ? "import os\n\nimport httpx" : "import httpx";
  return `${imports}\n\nanswer = ${call}\nprint(answer.raise_for_status().${request.text ? "text" : "json()"})`;
}

function http(request) {
  const url = address(request);
  const lines = [`${request.method ?? "GET"} ${url.pathname}${url.search} HTTP/1.1`, `Host: ${url.host}`];
  if (secret(request)) lines.push("Authorization: Bearer KEY");
  if (!request.body) return `${lines.join("\n")}\n`;
  const body = JSON.stringify(request.body);
  lines.push("Content-Type: application/json", `Content-Length: ${new TextEncoder().encode(body).length}`);
  return `${lines.join("\n")}\n\n${body}`;
}

const outcome = ({ status, ms }) => (status === null ? "in progress" : `${status || "no answer"} in ${Math.max(1, Math.round(ms))} ms`);

export const FORMS = { curl, Python: python, HTTP: http };

export function Requests({ requests }) {
  const [form, setForm] = useState("curl");
  const [name, setName] = useState(null);
  const [copied, setCopied] = useState(false);
  const field = useId();
  if (!requests.length) return null;
  const latest = requests.reduce((one, other) => (other.began > one.began ? other : one));
  const shown = requests.find((entry) => entry.name === name) ?? latest;
  const text = FORMS[form](shown.request);
  const copy = async () => {
    await navigator.clipboard?.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return html`
    <details class="card requests">
      <summary>Requests of this view</summary>
      <div class="row">
        <label for=${field}>Request</label>
        <select id=${field} value=${shown.name} onChange=${(event) => setName(event.target.value)}>
          ${requests.map((entry) => html`<option key=${entry.name} value=${entry.name}>${entry.name}</option>`)}
        </select>
        <${Choice} legend="As" options=${Object.keys(FORMS)} value=${form} choose=${setForm} />
        <span class="muted">${outcome(shown)}</span>
      </div>
      <pre tabindex="0" role="region" aria-label="The request as ${form}"><code>${text}</code></pre>
      <button type="button" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>
    </details>
  `;
}
