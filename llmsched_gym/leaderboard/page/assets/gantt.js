"use strict";
// A Gantt chart that can be zoomed in time: by buttons, by the keyboard, by dragging.
(() => {
  const NARROWEST = 500; // times the whole episode is wider than what can be shown at least
  const STEP = 0.25;

  const make = (frame) => {
    const time = frame.querySelector(".time");
    const ticks = [...frame.querySelectorAll(".abscissa .tick")];
    const output = frame.querySelector("output");
    const end = Number(time.dataset.end);
    const height = time.viewBox.baseVal.height;
    let first = 0;
    let width = end;

    const show = (from, wide) => {
      width = Math.min(Math.max(wide, end / NARROWEST), end);
      first = Math.min(Math.max(from, 0), end - width);
      time.setAttribute("viewBox", `${first} 0 ${width} ${height}`);
      const digits = Math.max(1, Math.ceil(1 - Math.log10(width / ticks.length)));
      ticks.forEach((tick, place) => { tick.textContent = (first + (width * place) / (ticks.length - 1)).toFixed(digits); });
      output.textContent = `${first.toFixed(digits)} to ${(first + width).toFixed(digits)} s of ${end.toFixed(1)} s`;
    };
    const zoom = (factor, around = 0.5) => {
      const wide = Math.min(Math.max(width * factor, end / NARROWEST), end);
      show(first + (width - wide) * around, wide);
    };
    const move = (share) => show(first + share * width, width);
    const does = {
      in: () => zoom(0.5), out: () => zoom(2), left: () => move(-STEP), right: () => move(STEP), whole: () => show(0, end),
    };
    const keys = {
      "+": does.in, "=": does.in, "-": does.out, ArrowLeft: does.left, ArrowRight: does.right, 0: does.whole, Home: does.whole,
    };

    frame.querySelector(".controls").hidden = false;
    for (const button of frame.querySelectorAll("[data-does]")) button.addEventListener("click", does[button.dataset.does]);
    frame.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
      keys[event.key]();
      event.preventDefault();
    });
    let held = null;
    time.addEventListener("pointerdown", (event) => {
      held = event.clientX;
      time.setPointerCapture(event.pointerId);
    });
    time.addEventListener("pointermove", (event) => {
      if (held === null) return;
      move((held - event.clientX) / time.getBoundingClientRect().width);
      held = event.clientX;
    });
    for (const name of ["pointerup", "pointercancel"]) time.addEventListener(name, () => { held = null; });
    time.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // without, the page is scrolled
      const box = time.getBoundingClientRect();
      zoom(event.deltaY < 0 ? 0.8 : 1.25, (event.clientX - box.left) / box.width);
      event.preventDefault();
    }, { passive: false });
    show(0, end);
  };

  addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".gantt").forEach(make);
    for (const note of document.querySelectorAll("#gantt-keys")) note.hidden = false;
  });
})();
