// Polls this page and replaces its parts marked data-live. The page works without it.
(() => {
  "use strict";
  const offline = document.getElementById("offline");
  const address = new URL(location.href);
  let timer;
  let loading = false;

  function keepOpen(now, next) {
    for (const old of now.querySelectorAll("details[id]")) {
      const fresh = next.querySelector("#" + CSS.escape(old.id));
      if (fresh) fresh.open = old.open;
    }
  }

  // Replace the children only: a screen reader announces changes inside an element that stays.
  function update(now, next) {
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
      keepOpen(now, next);
      if (!next.isEqualNode(now)) update(now, next);
    }
    document.body.dataset.pace = fresh.body.dataset.pace || document.body.dataset.pace;
  }

  async function load() {
    loading = true;
    try {
      const response = await fetch(address, {headers: {Accept: "text/html"}, cache: "no-store", signal: AbortSignal.timeout(20000)});
      if (response.ok) show(new DOMParser().parseFromString(await response.text(), "text/html"));
      offline.hidden = response.ok;
    } catch {
      offline.hidden = false;
    }
    loading = false;
  }

  async function poll() {
    if (!document.hidden && !loading) await load();
    clearTimeout(timer);
    timer = setTimeout(poll, 1000 * Number(document.body.dataset.pace));
  }

  // Show the confirmation of a command once, and poll quickly for a minute.
  if (address.searchParams.has("asked")) {
    history.replaceState(null, "", location.pathname);
    setTimeout(() => address.searchParams.delete("asked"), 60000);
  }
  document.addEventListener("visibilitychange", poll);
  timer = setTimeout(poll, 1000 * Number(document.body.dataset.pace));
})();
