"use strict";
for (const part of document.querySelectorAll(".traversals")) {
  const values = JSON.parse(part.dataset.values);
  const panels = [...part.querySelectorAll(".latent")];
  const show = (panel) => {
    const slider = panel.querySelector("input");
    panel.style.setProperty("--column", slider.value);
    panel.querySelector("output").value = values[slider.value];
    slider.setAttribute("aria-valuetext", values[slider.value]);
  };
  const start = (base) => {
    for (const panel of panels) {
      panel.style.setProperty("--row", base);
      panel.querySelector("input").value = JSON.parse(panel.dataset.starts)[base];
      show(panel);
    }
  };
  for (const panel of panels) panel.querySelector("input").addEventListener("input", () => show(panel));
  for (const radio of part.querySelectorAll("input[type=radio]"))
    radio.addEventListener("change", () => start(Number(radio.value)));
  start(Number(part.querySelector("input[type=radio]:checked").value));
}
