// The keyboard of the console. Every page does without it; nothing here knows what a page is about.
"use strict";
(() => {
  const off = "console-raccourcis-non";
  const typing = (place) => place.closest("textarea, select, input[type=text]");
  const announce = (text) => { document.getElementById("annonce").textContent = text; };
  let shortcuts = localStorage.getItem(off) === null;

  const toggle = document.getElementById("raccourcis");
  const show = () => toggle.setAttribute("aria-pressed", String(shortcuts));
  toggle.hidden = false;
  show();
  toggle.addEventListener("click", () => {
    shortcuts = !shortcuts;
    if (shortcuts) localStorage.removeItem(off); else localStorage.setItem(off, "1");
    show();
  });

  const lines = [...document.querySelectorAll("[data-line]")];
  const move = (by) => {
    const at = lines.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : lines.length - 1) : at + by;
    if (lines[next]) lines[next].focus();
  };

  const close = () => document.querySelectorAll("details[open][data-key]").forEach((one) => {
    one.open = false;
    one.querySelector("summary").focus();
  });
  document.querySelectorAll("[data-close]").forEach((one) => { one.hidden = false; one.addEventListener("click", close); });
  document.querySelectorAll("details[data-key]").forEach((one) => one.addEventListener("toggle", () => {
    if (!one.open) return;
    const first = one.querySelector("input[type=radio]:checked, input[type=checkbox], .go");
    if (first) first.focus();
  }));

  const choose = (number) => {
    const radios = document.querySelectorAll(`input[data-candidate="${number}"]`);
    if (!radios.length) return;
    radios.forEach((one) => { one.checked = true; });
    const open = document.querySelector("details[open] input[data-candidate]:checked");
    if (open) open.focus();
    document.querySelectorAll("[data-column]").forEach((one) => one.classList.toggle("chosen", one.dataset.column === number));
    announce(`Candidat ${number} choisi`);
  };

  document.querySelectorAll("[data-zoom]").forEach((one) => {
    one.hidden = false;
    one.addEventListener("click", () => {
      const large = document.querySelector(".sheet").classList.toggle("large");
      one.setAttribute("aria-pressed", String(large));
    });
  });

  document.querySelectorAll("form[data-once]").forEach((one) => one.addEventListener("submit", (event) => {
    if (one.dataset.sent) event.preventDefault();
    one.dataset.sent = "1";
  }));
  window.addEventListener("pageshow", () => document.querySelectorAll("form[data-once]").forEach((one) => { delete one.dataset.sent; }));

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { close(); return; }
    if (!shortcuts || event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    if (lines.length && (event.key === "j" || event.key === "k")) { event.preventDefault(); move(event.key === "j" ? 1 : -1); return; }
    if (/^[1-9]$/.test(event.key)) { choose(event.key); return; }
    const target = /^[a-z]$/.test(event.key) && document.querySelector(`[data-key="${event.key}"]`);
    if (!target) return;
    event.preventDefault();
    if (target.tagName === "DETAILS") { target.open = true; target.querySelector("input[type=radio]:checked, input[type=checkbox], .go")?.focus(); }
    else target.click();
  });
})();
