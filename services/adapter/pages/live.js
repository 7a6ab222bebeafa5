// Loads this page again and again, and puts its living parts in place of the old ones. The page is whole without it.
(() => {
  "use strict";
  const offline = document.getElementById("offline");
  const address = new URL(location.href);
  let timer;
  let looking = false;

  function keep(now, next) {
    for (const old of now.querySelectorAll("details[id]")) {
      const fresh = next.querySelector("#" + CSS.escape(old.id));
      if (fresh) fresh.open = old.open;
    }
  }

  // The part itself stays, or a screen reader would not say what is new in it.
  function put(now, next) {
    const active = now.contains(document.activeElement) ? document.activeElement : null;
    const places = [...now.querySelectorAll("[id]")].map((one) => [one.id, one.scrollTop, one.scrollLeft]);
    const name = active && (active.id ? "#" + CSS.escape(active.id) : `[href="${CSS.escape(active.getAttribute("href") || "")}"]`);
    now.replaceChildren(...next.childNodes);
    for (const [id, top, left] of places) {
      const one = document.getElementById(id);
      if (one && (top || left)) one.scrollTo(left, top);
    }
    if (name) now.querySelector(name)?.focus({preventScroll: true});
  }

  function show(fresh) {
    const chosen = getSelection();
    let before = null;
    for (const next of fresh.querySelectorAll("[data-live]")) {
      const now = document.getElementById(next.id);
      if (!now) before?.after(next); // a first version, a first run
      before = now || next;
      if (!now || (!chosen.isCollapsed && chosen.containsNode(now, true))) continue;
      keep(now, next);
      if (!next.isEqualNode(now)) put(now, next);
    }
    document.body.dataset.pace = fresh.body.dataset.pace || document.body.dataset.pace;
  }

  async function load() {
    looking = true;
    try {
      const answer = await fetch(address, {headers: {Accept: "text/html"}, cache: "no-store", signal: AbortSignal.timeout(20000)});
      if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      offline.hidden = answer.ok;
    } catch {
      offline.hidden = false;
    }
    looking = false;
  }

  async function look() {
    if (!document.hidden && !looking) await load();
    clearTimeout(timer);
    timer = setTimeout(look, 1000 * Number(document.body.dataset.pace));
  }

  // What was asked for is told once, and followed closely for a minute.
  if (address.searchParams.has("asked")) {
    history.replaceState(null, "", location.pathname);
    setTimeout(() => address.searchParams.delete("asked"), 60000);
  }
  document.addEventListener("visibilitychange", look);
  timer = setTimeout(look, 1000 * Number(document.body.dataset.pace));
})();
