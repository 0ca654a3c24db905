"use strict";
// Light, dark, or what the system says; runs before anything is drawn, so that nothing flashes.
(() => {
  const names = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  let chosen = "auto";
  // A page opened as a file may have no storage.
  try { chosen = localStorage.getItem("launch-theme") || "auto"; } catch { /* the system decides */ }
  if (!(chosen in names)) chosen = "auto";

  function apply(forced) {
    const dark = forced ? forced === "dark" : chosen === "dark" || (chosen === "auto" && system.matches);
    root.toggleAttribute("data-dark", dark);
    const button = document.querySelector("button.theme");
    if (button) button.textContent = names[chosen];
    dispatchEvent(new Event("themechange"));
  }
  system.addEventListener("change", () => apply());
  addEventListener("DOMContentLoaded", () => {
    apply();
    document.querySelector("button.theme")?.addEventListener("click", () => {
      const order = Object.keys(names);
      chosen = order[(order.indexOf(chosen) + 1) % order.length];
      try { localStorage.setItem("launch-theme", chosen); } catch { /* kept for this page only */ }
      apply();
    });
  });
  // On paper everything is open, and dark on white.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
    root.setAttribute("data-print", "");
    apply("light");
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
    root.removeAttribute("data-print");
    apply();
  });
  apply();
})();
