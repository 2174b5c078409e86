"use strict";
for (const part of document.querySelectorAll(".matrix")) {
  const { labels, nmi } = JSON.parse(part.dataset.frames);
  const slider = part.querySelector("input"), button = part.querySelector("button");
  const rows = [...part.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")]);
  const show = () => {
    nmi[slider.value].forEach((values, latent) => values.forEach((value, factor) => {
      const cell = rows[latent][factor];
      cell.textContent = value.toFixed(2);
      cell.style.setProperty("--value", value);
      cell.classList.toggle("dark", value > 0.55);
    }));
    part.querySelector("output").value = labels[slider.value];
    slider.setAttribute("aria-valuetext", labels[slider.value]);
  };
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
  slider.addEventListener("input", () => { stop(); show(); });
  button.addEventListener("click", () => {
    if (timer !== null) { stop(); return; }
    if (Number(slider.value) >= labels.length - 1) slider.value = 0;
    button.textContent = "Pause";
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (Number(slider.value) >= labels.length - 1) stop();
    }, Math.max(60, Math.min(400, 8000 / labels.length)));
    show();
  });
  show();
}
