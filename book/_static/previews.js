/* Shows what a link leads to (equation, source, term, theorem) when a pointer rests on it or it has
 * the focus. Escape closes it, and a finger follows the link as before.
 *
 * It rests on Bootstrap's popover, which the theme brings, on MathJax, and on previews-data.js.
 */
"use strict";

(function () {
  const PAUSE = 250; // milliseconds that a pointer must rest

  /** The key of a link's target in the data, or null. */
  function key(link) {
    const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
    const target = new URL(link.getAttribute("href"), location.href);
    if (!target.hash || !target.href.startsWith(root.href)) return null;
    const path = decodeURIComponent(target.pathname.slice(root.pathname.length));
    const name = path + decodeURIComponent(target.hash);
    return Object.hasOwn(NGS_PREVIEWS, name) ? name : null;
  }

  function attach(link, name) {
    let popover = null;
    let waiting = 0;
    const close = () => {
      clearTimeout(waiting);
      if (popover) popover.dispose();
      popover = null;
    };
    const open = () => {
      if (popover || !link.isConnected) return;
      const box = document.createElement("div");
      box.className = "preview";
      box.innerHTML = NGS_PREVIEWS[name];
      for (const inner of box.querySelectorAll("a")) inner.replaceWith(...inner.childNodes);
      popover = new bootstrap.Popover(link, {
        content: box, html: true, sanitize: false, trigger: "manual", placement: "top",
        container: "body", animation: false, customClass: "preview-box", title: "",
      });
      popover.show();
      if (box.querySelector(".math") && window.MathJax && MathJax.typesetPromise) {
        MathJax.typesetPromise([box]).then(() => popover && popover.update());
      }
    };
    const soon = () => {
      clearTimeout(waiting);
      waiting = setTimeout(open, PAUSE);
    };
    link.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && soon());
    link.addEventListener("pointerleave", close);
    link.addEventListener("focus", () => link.matches(":focus-visible") && open());
    link.addEventListener("blur", close);
    link.addEventListener("click", close);
    link.addEventListener("keydown", (event) => event.key === "Escape" && close());
    link.removeAttribute("title"); // or the browser's own tip would cover it
  }

  function wake() {
    for (const link of document.querySelectorAll("article a.reference[href*='#']")) {
      const name = key(link);
      if (name) attach(link, name);
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", wake);
  else wake();
})();
