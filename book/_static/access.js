// What makes the pages usable by keyboard and with a screen reader and depends on the window or on
// what other scripts have made: boxes that scroll, the sidebar, the buttons of solutions.
"use strict";

(() => {
  // The theme gives `pre` and the boxes of tables their tab stop, and no name.
  const SCROLLERS = [
    ["pre", "Code or output"],
    [".pst-scrollable-table-container", "Table"],
    ["div.math > mjx-container, span.math.longer-than-line", "Formula"],
  ];

  const markLongFormulas = () => {
    const formulas = [...document.querySelectorAll("main span.math")];
    const longer = formulas.map((formula) => {
      const drawn = formula.querySelector("mjx-container")?.offsetWidth ?? 0;
      return drawn > formula.parentElement.clientWidth && formula.parentElement.clientWidth > 0;
    });
    formulas.forEach((formula, i) => formula.classList.toggle("longer-than-line", longer[i]));
  };

  const nameScrollers = () => {
    markLongFormulas();
    for (const [selector, name] of SCROLLERS) {
      for (const box of document.querySelectorAll(`main :is(${selector})`)) {
        if (box.scrollWidth > box.clientWidth) {
          box.tabIndex = 0;
          box.setAttribute("role", "group");
          box.setAttribute("aria-label", `${name}, scrolls sideways`);
        } else if (box.getAttribute("role") === "group") {
          box.tabIndex = -1;
          box.removeAttribute("role");
          box.removeAttribute("aria-label");
        }
      }
    }
  };

  // The title and the search button of the sidebar stand outside of its list of pages.
  const nameSidebar = () => {
    const sidebar = document.getElementById("pst-primary-sidebar");
    sidebar?.setAttribute("role", "complementary");
    sidebar?.setAttribute("aria-label", "The book");
  };

  // Who closes a sidebar that covers the page is to be where it was opened.
  const comeBack = () => {
    for (const side of ["primary", "secondary"]) {
      const button = document.querySelector(`button.${side}-toggle`);
      document
        .getElementById(`pst-${side}-sidebar-modal`)
        ?.addEventListener("close", () => setTimeout(() => button?.focus()));
    }
  };

  // Chapters with pages below them fold in the list: the button is an arrow and nothing else.
  const nameArrows = () => {
    for (const arrow of document.querySelectorAll(".bd-links summary")) {
      const page = arrow.closest("li")?.querySelector("a")?.textContent.trim();
      if (page) arrow.setAttribute("aria-label", `Pages of: ${page}`);
    }
  };

  // "Toggle hidden content", eight times on a page, does not say which.
  const nameToggles = () => {
    for (const button of document.querySelectorAll("button.toggle-button")) {
      const title = button.closest(".admonition-title")?.textContent.trim();
      if (title) button.setAttribute("aria-label", `${title}: show or hide`);
    }
  };

  const start = () => {
    nameSidebar();
    nameArrows();
    comeBack();
    nameToggles();
    nameScrollers();
    let waiting = 0;
    const later = () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(nameScrollers);
    };
    new ResizeObserver(later).observe(document.querySelector(".bd-article") ?? document.body);
    window.MathJax?.startup?.promise?.then(later);
  };

  if (document.readyState === "complete") start();
  else window.addEventListener("load", start);
})();
