"use strict";
// Keeps the page current: fetches the part that changes and brings the page to it node by node, so that scroll
// position, focus, selection and opened details stay. When the watchdog stops answering the page says so: a page that
// looks green because nobody answers would be the worst lie of all.
(() => {
  const EVERY_MS = 3000;
  const GIVE_UP_MS = 5000;
  const lost = document.getElementById("lost");
  let lastAnswer = new Date();

  const sameKind = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");

  function bring(now, next) {
    if (now.nodeType === Node.TEXT_NODE) {
      if (now.data !== next.data) now.data = next.data;
      return;
    }
    if (now.nodeType !== Node.ELEMENT_NODE || now.getAttribute("aria-busy") === "true") return;
    for (const { name, value } of next.attributes) {
      if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    }
    for (const { name } of [...now.attributes]) {
      const opened = now.nodeName === "DETAILS" && name === "open"; // the reader's choice, not the server's
      if (!opened && !next.hasAttribute(name)) now.removeAttribute(name);
    }
    const children = [...now.childNodes];
    const wanted = [...next.childNodes];
    wanted.forEach((child, i) => {
      if (i >= children.length) now.appendChild(child);
      else if (sameKind(children[i], child)) bring(children[i], child);
      else now.replaceChild(child, children[i]);
    });
    children.slice(wanted.length).forEach((child) => child.remove());
  }

  function show(html) {
    const next = new DOMParser().parseFromString(html, "text/html").getElementById("live");
    if (!next) throw new Error("not the status fragment");
    bring(document.getElementById("live"), document.adoptNode(next));
    document.title = next.dataset.title || document.title;
    lastAnswer = new Date();
    lost.hidden = true;
    document.body.classList.remove("old");
  }

  function admit() {
    const time = lost.querySelector("time");
    time.dateTime = lastAnswer.toISOString();
    time.textContent = lastAnswer.toISOString().slice(0, 19).replace("T", " ") + " UTC";
    lost.hidden = false;
    document.body.classList.add("old");
    document.title = "No answer · kms-watchdog";
  }

  async function refresh() {
    try {
      const answer = await fetch("/fragment", { cache: "no-store", signal: AbortSignal.timeout(GIVE_UP_MS) });
      if (!answer.ok) throw new Error(String(answer.status));
      show(await answer.text());
    } catch {
      admit();
    }
  }

  async function look() {
    await refresh();
    setTimeout(whenSeen, EVERY_MS);
  }

  // A canary that a person lets look now: the button waits, the answer is said aloud, and the place is kept.
  async function run(form) {
    const button = form.querySelector("button");
    form.setAttribute("aria-busy", "true");
    button.setAttribute("aria-disabled", "true"); // not `disabled`: that would take the focus away
    try {
      const answer = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" } });
      say(told(await answer.json(), answer.status));
    } catch {
      say("No answer from the watchdog.");
    }
    form.removeAttribute("aria-busy");
    button.removeAttribute("aria-disabled");
    refresh();
  }

  function told(result, status) {
    if (status === 401) return "You are signed out. Sign in again.";
    if (!result.outcome) return result.message || `Refused (${status}).`;
    const where = [result.canary.replaceAll("_", " "), result.region, result.key].filter(Boolean).join(" ");
    const why = result.reason ? ` (${result.reason.replaceAll("_", " ")})` : "";
    return `${where}: ${result.outcome}${why} in ${Math.round(result.duration_seconds * 1000)} ms`;
  }

  function say(text) {
    const said = document.getElementById("said");
    said.textContent = text;
    clearTimeout(say.timer);
    say.timer = setTimeout(() => (said.textContent = ""), 15000);
  }

  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form.run");
    if (!form) return;
    event.preventDefault();
    if (form.getAttribute("aria-busy") !== "true") run(form);
  });

  function whenSeen() {
    if (!document.hidden) look();
    else document.addEventListener("visibilitychange", whenSeen, { once: true });
  }

  setTimeout(whenSeen, EVERY_MS);
})();
