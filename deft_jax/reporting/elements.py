"""Pieces of a page: images, tables, sections, the page itself; values in, HTML out. Text from files is escaped."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from deft_jax import __version__


def thinned(entries: Sequence, most: int) -> list:
    """At most `most` of the entries, evenly spread, the first and the last among them."""
    if len(entries) <= most:
        return list(entries)
    return [entries[index] for index in np.linspace(0, len(entries) - 1, most).round().astype(int)]


def png(pixels: np.ndarray) -> str:
    """Pixels [H, W, C] in [0, 1] as a data URI; for C see plots.as_rgb."""
    from matplotlib import image

    from deft_jax.evaluation.plots import as_rgb

    buffer = io.BytesIO()
    image.imsave(buffer, np.round(255 * as_rgb(pixels)).astype(np.uint8), format="png", pil_kwargs={"optimize": True})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def figure(made, alt: str, caption: str = "", kind: str = "svg") -> str:
    """A matplotlib figure with what it shows in words. kind: svg, or png where it has many marks or images."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "deft_jax"}):
        made.savefig(
            buffer, format=kind, dpi=192, facecolor="white",
            metadata={"Date": None, "Creator": None} if kind == "svg" else {"Software": None},
        )
    content = base64.b64encode(buffer.getvalue()).decode()
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    width = round(96 * made.get_figwidth())
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img src="data:{mime};base64,{content}" width="{width}" alt="{escape(alt)}">{told}</figure>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence], caption: str = "") -> str:
    """A table; the first cell of a row is its heading, floats show three digits and keep all of them in the page."""
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{_cell(row[0])}</th>' + "".join(f"<td>{_cell(value)}</td>" for value in row[1:]) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table>{told}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f'<data value="{value!r}">{value:.3g}</data>' if abs(value) >= 1 else (
            f'<data value="{value!r}">{value:.3f}</data>'
        )
    return escape(str(value))


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and what they are."""
    entries = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{_cell(value)}</dd></div>" for name, value in pairs.items()
    )
    return f'<dl class="facts">{entries}</dl>'


def section(anchor: str, heading: str, *parts: str) -> str:
    """A part of a run under its heading."""
    return f'<section id="{anchor}"><h3>{escape(heading)}</h3>{"".join(parts)}</section>'


def note(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def side_by_side(*parts: str) -> str:
    """Figures in two columns where there is room."""
    return f'<div class="pair">{"".join(parts)}</div>'


def plainly(value) -> str:
    """A value of a configuration as one would write it: no brackets or quotes around it."""
    return " ".join(map(plainly, value)) if isinstance(value, list) else str(value)


_STYLE = """
:root { --ink: #1f2328; --faint: #656d76; --line: #d8dee4; --accent: #0072b2; --tile: 128px }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1120px; padding: 1.5rem 2rem 4rem; background: #fff; color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .3rem }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-bottom: .3rem; border-bottom: 2px solid var(--ink);
  overflow-wrap: anywhere }
h2 small { font-weight: 400; font-size: .85rem; color: var(--faint) }
h3 { font-size: 1.05rem; margin: 2rem 0 .6rem }
p { max-width: 75ch; margin: .5rem 0 }
a { color: var(--accent) }
nav { margin: .8rem 0; padding: .7rem 1rem; background: #f6f8fa; border-radius: 6px; font-size: .9rem }
nav ul { list-style: none; margin: 0; padding: 0 }
nav li { margin: .15rem 0 }
nav li span a { margin-left: .7em; white-space: nowrap }
figure { margin: .6rem 0 1.2rem }
figure img { display: block; max-width: 100%; height: auto }
figcaption, caption { color: var(--faint); font-size: .85rem; text-align: left }
caption { padding-bottom: .3rem; white-space: nowrap }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 0 1rem;
  align-items: start }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: .5rem 1.5rem;
  margin: .8rem 0 }
.facts dt { color: var(--faint); font-size: .8rem }
.facts dd { margin: 0; overflow-wrap: anywhere }
details { margin: .8rem 0 } summary { cursor: pointer; color: var(--accent) }
pre { background: #f6f8fa; border-radius: 6px; padding: .8rem; font-size: .8rem; overflow: auto; max-height: 30rem }
.wide { overflow-x: auto; margin: .8rem 0 1.2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid var(--line) }
thead th { font-weight: 600; vertical-align: bottom }
th:first-child { text-align: left } tbody th { font-weight: 500 }
.control { display: flex; align-items: center; gap: .8rem; margin: .5rem 0; max-width: 760px }
.control input { flex: 1 } .control output { min-width: 17em; font-variant-numeric: tabular-nums }
button { font: inherit; padding: .15rem .8rem; border: 1px solid var(--line); border-radius: 6px; background: #f6f8fa;
  cursor: pointer; min-width: 5em }
input { accent-color: var(--accent) }
.heat td, .heat th { border: 0; padding: .2rem .5rem; font-size: .85rem }
.heat tbody td { min-width: 5.5em; text-align: center; background: rgb(8 69 148 / var(--value)) }
.heat thead th { text-align: center } .heat td.dark { color: #fff }
.heat tr.first > * { border-top: 2px solid var(--ink) }
small { color: var(--faint) }
fieldset { border: 1px solid var(--line); border-radius: 6px; display: flex; flex-wrap: wrap; gap: .6rem 1.4rem;
  margin: .8rem 0 1.2rem; padding: .4rem .9rem .7rem }
legend { font-size: .85rem; color: var(--faint); padding: 0 .3rem }
fieldset label { display: flex; align-items: center; gap: .5rem; font-size: .8rem; color: var(--faint);
  cursor: pointer }
fieldset span { max-width: 9.5em; line-height: 1.35 }
.base { width: 64px; image-rendering: pixelated; border: 1px solid var(--line) }
.latents { display: grid; grid-template-columns: repeat(auto-fill, minmax(calc(var(--tile) + 2px), 1fr));
  gap: 1.2rem 1.6rem }
.window { width: calc(var(--tile) + 2px); height: calc(var(--tile) * var(--aspect) + 2px); overflow: hidden;
  border: 1px solid var(--line) }
.sprite { display: block; max-width: none; image-rendering: pixelated; width: calc(var(--tile) * var(--columns));
  height: calc(var(--tile) * var(--aspect) * var(--rows));
  transform: translate(calc(var(--column) * var(--tile) * -1), calc(var(--row) * var(--tile) * var(--aspect) * -1)) }
.latent input { width: calc(var(--tile) + 2px); margin: .4rem 0 0; display: block }
.latent p { margin: 0; line-height: 1.35; font-variant-numeric: tabular-nums }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
@media print { .control, nav { display: none } section { break-inside: avoid-page } }
"""
_SCRIPT = """
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
"""


def contents(entries: Sequence[tuple[str, str, Sequence[str]]]) -> str:
    """The table of contents. entries: (anchor, title, headings) of each part of the page."""
    lines = []
    for anchor, title, headings in entries:
        links = "".join(
            f'<a href="#{anchor}-{index}">{escape(heading)}</a>' for index, heading in enumerate(headings)
        )
        lines.append(f'<li><a href="#{anchor}"><strong>{escape(title)}</strong></a> <span>{links}</span></li>')
    return f'<nav aria-label="contents"><ul>{"".join(lines)}</ul></nav>'


def page(title: str, menu: str, parts: Sequence[str]) -> str:
    """The whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head>\n'
        f"<body><header><h1>{escape(title)}</h1><small>deft_jax {escape(__version__)}</small></header>\n{menu}\n"
        f"<main>{''.join(parts)}</main>\n"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )
