(() => {
  "use strict";
  const EVERY = 2000;
  const stale = document.getElementById("stale");
  let seen = new Date();

  // Changes what has changed and nothing else, so that a selection, the focus and a scrolled page stay as they are.
  function renew(old, now) {
    if (old.isEqualNode(now)) return;
    if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) return old.replaceWith(now);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = now.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const children = [...now.childNodes];
    while (old.childNodes.length > children.length) old.lastChild.remove();
    children.forEach((child, place) => {
      const before = old.childNodes[place];
      if (before) renew(before, child);
      else old.append(child);
    });
  }

  async function refresh() {
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      renew(document.querySelector("main"), document.adoptNode(page.querySelector("main")));
      seen = new Date();
      stale.hidden = true;
    } catch {
      stale.querySelector("b").textContent = seen.toLocaleTimeString();
      stale.hidden = false;
    }
  }

  async function follow() {
    for (;;) {
      await new Promise((wake) => setTimeout(wake, EVERY));
      // A page that nobody looks at asks for nothing.
      if (document.hidden) await new Promise((wake) => document.addEventListener("visibilitychange", wake, { once: true }));
      await refresh();
    }
  }

  follow();
})();
