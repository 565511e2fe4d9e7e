// Dialogs with a form. `submit(form)` does what it is for; what it returns is handed to `finish`, and null if the dialog
// is closed without a change.
import { keep, key } from "./api.js";
import { html, useEffect, useId, useRef, useState } from "./lib.js";
import { AnyFailure } from "./parts.js";

export function Dialog({ title, action, working, submit, finish, children }) {
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => dialog.current.showModal(), []);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      const done = await submit(new FormData(event.target));
      dialog.current.close();
      finish(done);
    } catch (failure) {
      setProblem(failure);
      setBusy(false);
    }
  };
  return html`
    <dialog ref=${dialog} aria-labelledby=${id} onClose=${() => finish(null)}>
      <form onSubmit=${send}>
        <h2 id=${id}>${title}</h2>
        ${children}
        <p class="muted">The browser keeps keys until you close this tab.</p>
        <${AnyFailure} problem=${problem} />
        <div class="row end">
          <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
          <button type="submit" class="main" disabled=${busy}>${busy ? working : action}</button>
        </div>
      </form>
    </dialog>
  `;
}

export function KeyField({ kind, text }) {
  const id = useId();
  return html`<div class="field"><label for=${id}>${text}</label><input id=${id} name=${kind} type="password" autocomplete="off" defaultValue=${key(kind)} /></div>`;
}

// A dialog that changes something with an admin key.
export function AdminDialog({ submit, children, ...rest }) {
  const send = (form) => {
    keep("admin", form.get("admin"));
    return submit(form);
  };
  return html`<${Dialog} submit=${send} ...${rest}>${children}<${KeyField} kind="admin" text="Admin key, if the service needs one" /><//>`;
}
