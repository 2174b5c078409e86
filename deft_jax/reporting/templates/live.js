"use strict";
/* Live decoders of a page: sliders, a plane of two latents, images to start from, another model beside, and stages. */

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000"];

const signed = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");

/* One model of the page. decoder(snapshot) is made at its first use. */
function readModel(part) {
  const data = JSON.parse(part.querySelector("script").textContent), decoders = [];
  const latents = data.snapshots[0].codes[0].length, cloud = unpackNumbers(data.cloud, "half");
  return {
    ...data, part, title: part.dataset.title, latents,
    means: Array.from({ length: latents }, (_, d) => Float64Array.from({ length: data.cloud.count }, (_, n) => cloud[n * latents + d])),
    kl: data.evaluations[data.evaluations.length - 1].kl,
    last: data.snapshots.length - 1,
    decoder: (snapshot) => decoders[snapshot] ??= makeDecoder(data, data.snapshots[snapshot].layers),
  };
}

function correlation(x, y) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const mx = mean(x), my = mean(y);
  let xy = 0, xx = 0, yy = 0;
  for (let n = 0; n < x.length; n++) {
    xy += (x[n] - mx) * (y[n] - my); xx += (x[n] - mx) ** 2; yy += (y[n] - my) ** 2;
  }
  return xx > 0 && yy > 0 ? xy / Math.sqrt(xx * yy) : 0;
}

const LEAST = 0.3;  // correlation of a pair

/* Pairs of latents [mine, other, correlation] of two models that encode the same images: the largest first, each once. */
function pairLatents(mine, other) {
  const used = (model) => [...model.kl.keys()].filter((d) => model.kl[d] >= model.off);
  const all = used(mine).flatMap((a) => used(other).map((b) => [a, b, correlation(mine.means[a], other.means[b])]));
  const pairs = [];
  for (const pair of all.sort((p, q) => Math.abs(q[2]) - Math.abs(p[2])))
    if (Math.abs(pair[2]) >= LEAST && !pairs.some(([a, b]) => a === pair[0] || b === pair[1])) pairs.push(pair);
  return pairs.sort((p, q) => p[0] - q[0]);
}

/* An SVG of the KL of each latent at the evaluations; returns a function that moves its line to one of them. */
function drawFreezing(box, { evaluations, off }) {
  const width = box.clientWidth || 600, height = 180, left = 36, right = 22, top = 8, bottom = 22;
  const most = Math.max(0.1, ...evaluations.flatMap(({ kl }) => kl)), count = evaluations.length;
  const x = (e) => left + (width - left - right) * e / (count - 1);
  const y = (kl) => height - bottom - (height - top - bottom) * kl / most;
  const line = (points, style) => `<polyline points="${points.map((p) => p.map((v) => v.toFixed(1)).join(",")).join(" ")}" fill="none" style="${style}"/>`;
  const text = (at, words, anchor = "middle") => `<text x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" text-anchor="${anchor}">${words}</text>`;
  let content = "";
  for (const value of [0, most / 2, most])
    content += line([[left, y(value)], [width - right, y(value)]], "stroke: var(--line)") + text([left - 6, y(value) + 4], value.toFixed(1), "end");
  for (let e = 1; e < count; e++)
    if (evaluations[e].stage !== evaluations[e - 1].stage)
      content += line([[(x(e) + x(e - 1)) / 2, top], [(x(e) + x(e - 1)) / 2, y(0)]], "stroke: var(--faint); stroke-dasharray: 3 3");
  const every = Math.ceil(count * 52 / (width - left - right));
  for (let e = count - 1; e >= 0; e -= every) content += text([x(e), height - bottom + 15], evaluations[e].beta);
  const labels = [];
  for (let d = 0; d < evaluations[0].kl.length; d++) {
    const points = evaluations.map(({ kl }, e) => [x(e), y(kl[d])]);
    if (!evaluations.some(({ kl }) => kl[d] >= off)) continue;
    content += line(points, `stroke: ${COLOURS[d % COLOURS.length]}; stroke-width: 2`);
    labels.push([points[count - 1][1] + 4, d]);
  }
  labels.sort((a, b) => a[0] - b[0]);  // at least a line apart, and none below the axis
  for (let n = 1; n < labels.length; n++) labels[n][0] = Math.max(labels[n][0], labels[n - 1][0] + 11);
  for (let n = labels.length - 1, below = y(0) + 15; n >= 0; n--) below = labels[n][0] = Math.min(labels[n][0], below - 11);
  for (const [at, d] of labels) content += text([width - right + 3, at], `z${d}`, "start");
  box.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="KL of each latent in nats over beta">${content}` +
    `<line class="now" y1="${top}" y2="${y(0)}" style="stroke: var(--ink); stroke-width: 1.5"/></svg>`;
  return (e) => { for (const name of ["x1", "x2"]) box.querySelector(".now").setAttribute(name, x(e)); };
}

function startLive(model, models) {
  const { part, evaluations, snapshots } = model, find = (selector) => part.querySelector(selector);
  const rows = [...part.querySelectorAll(".live-latent")].sort((a, b) => a.dataset.live - b.dataset.live);
  const sliders = rows.map((row) => row.querySelector("input")), limit = Number(sliders[0].max);
  const strip = [...part.querySelectorAll(".strip button")], plane = find(".live-plane");
  const choice = find(".live-choice select"), across = find(".live-across"), up = find(".live-up");
  const code = new Float64Array(model.latents), times = [];
  let image = 0, snapshot = model.last, evaluation = evaluations.length - 1, moveLine = null, waiting = false;
  let beside = null, pairs = [];
  const start = () => snapshots[snapshot].codes[image];

  const drawPictures = () => {
    waiting = false;
    const began = performance.now();
    const pixels = model.decoder(snapshot)(code);
    times.push(performance.now() - began);
    paintPixels(find(".live-decoded"), model.shape, pixels);
    if (times.length > 15) times.shift();
    const median = [...times].sort((a, b) => a - b)[times.length >> 1];
    find(".live-rate").textContent = times.length > 4 ? ` An image takes ${median.toFixed(1)} ms here.` : "";
    if (beside === null) return;
    const other = Float64Array.from(beside.snapshots[beside.last].codes[image]);
    for (const [a, b, r] of pairs) other[b] += Math.sign(r) * (code[a] - start()[a]);
    paintPixels(find(".live-beside"), beside.shape, beside.decoder(beside.last)(other));
  };
  const draw = () => {
    for (const [d, slider] of sliders.entries()) {
      slider.value = code[d];
      rows[d].querySelector(".live-value").textContent = signed(code[d]);
      slider.setAttribute("aria-valuetext", signed(code[d]));
    }
    const [a, b] = axes(), point = find(".point");
    point.style.left = `${50 + 50 * code[a] / limit}%`;
    point.style.top = `${50 - 50 * (a === b ? 0 : code[b] / limit)}%`;
    const place = `z${a} ${signed(code[a])}, z${b} ${signed(code[b])}`;
    find(".live-place").textContent = place;
    plane.setAttribute("aria-label", `point at ${place}; arrow keys move it`);
    if (!waiting) { waiting = true; requestAnimationFrame(drawPictures); }
  };
  const axes = () => [Number(across.value), Number(up.value)];
  const set = (d, value) => { code[d] = Math.max(-limit, Math.min(limit, value)); };
  const reset = (latents) => { for (const d of latents) set(d, start()[d]); draw(); };
  const resetAll = () => reset(code.keys());

  const drawPlane = () => {
    const canvas = plane.querySelector("canvas"), size = canvas.width = canvas.height = 2 * (plane.clientWidth || 340);
    const context = canvas.getContext("2d"), [a, b] = axes();
    const at = (value) => size / 2 * (1 + value / limit);
    const dot = (i, j, radius) => { context.beginPath(); context.arc(at(i), size - at(j), radius, 0, 7); };
    context.strokeStyle = "#d8dee4";
    for (let value = Math.ceil(-limit); value <= limit; value++) {
      context.lineWidth = value === 0 ? 3 : 1;
      for (const [x0, y0, x1, y1] of [[at(value), 0, at(value), size], [0, at(value), size, at(value)]]) {
        context.beginPath(); context.moveTo(x0, y0); context.lineTo(x1, y1); context.stroke();
      }
    }
    if (snapshot === model.last) {
      context.fillStyle = "rgb(101 109 118 / 50%)";
      for (let n = 0; n < model.cloud.count; n++) { dot(model.means[a][n], model.means[b][n], 4); context.fill(); }
    }
    context.strokeStyle = "#1f2328"; context.lineWidth = 3;
    dot(start()[a], start()[b], 9); context.stroke();
  };
  const showImage = () => {
    for (const [n, button] of strip.entries()) {
      button.setAttribute("aria-checked", n === image);
      button.tabIndex = n === image ? 0 : -1;
    }
    find(".live-original").src = strip[image].querySelector("img").src;
    for (const [d, row] of rows.entries())
      row.style.setProperty("--at", (Math.max(-limit, Math.min(limit, start()[d])) + limit) / (2 * limit));
    drawPlane();
    resetAll();
  };
  const showEvaluation = () => {
    const { step, stage, beta, kl, best, nmi } = evaluations[evaluation];
    const most = Math.max(0.1, ...evaluations.flatMap((entry) => entry.kl));
    for (const [d, row] of rows.entries()) {
      row.style.setProperty("--share", kl[d] / most);
      const factor = kl[d] >= model.off && best.length ? `, ${model.names[best[d]]} ${nmi[d].toFixed(2)}` : "";
      const pair = beside && pairs.find(([a]) => a === d);
      const partner = pair ? ` ↔ ${pair[2] < 0 ? "−" : ""}z${pair[1]}` : "";
      row.querySelector(".live-nats").textContent = `KL ${kl[d].toFixed(2)}${factor}${partner}`;
      row.classList.toggle("off", !(kl[d] >= model.off));
      sliders[d].setAttribute("aria-label", `z${d}, ${row.querySelector("small").textContent.trim()}`);
    }
    const exact = snapshots.findIndex((entry) => entry.step === step);
    const ofStage = snapshots.findIndex((entry) => entry.stage === stage);
    const before = snapshot;
    snapshot = exact >= 0 ? exact : ofStage >= 0 ? ofStage : model.last;
    const used = snapshots[snapshot], name = `step ${used.step.toLocaleString("en")}`;
    find(".live-of").textContent = snapshot === model.last ? "decoded" : `decoded, ${name}`;
    const missing = used.stage === stage ? "" : `; the page has no decoder of stage ${stage}`;
    find(".live-evaluation").textContent = `β ${beta}, step ${step.toLocaleString("en")}, stage ${stage}: the bars beside ` +
      `the sliders show the KL at this evaluation. Images are decoded by the weights of ${name}, stage ${used.stage}${missing}.`;
    find(".live-stages input").setAttribute("aria-valuetext", `beta ${beta}, step ${step}, stage ${stage}`);
    if (moveLine) moveLine(evaluation);
    if (snapshot !== before) showImage();
  };

  for (const [d, row] of rows.entries()) {
    row.style.setProperty("--colour", COLOURS[d % COLOURS.length]);
    row.querySelector(".chip").style.background = "var(--colour)";
    sliders[d].addEventListener("input", () => { set(d, Number(sliders[d].value)); draw(); });
    sliders[d].addEventListener("dblclick", () => reset([d]));
    for (const select of [across, up]) select.add(new Option(`z${d}`, d));
  }
  const byKl = [...model.kl.keys()].sort((a, b) => model.kl[b] - model.kl[a]);
  const [first, second] = byKl.slice(0, 2).sort((a, b) => a - b);
  across.value = first;
  up.value = second ?? first;
  for (const select of [across, up]) select.addEventListener("change", () => { drawPlane(); draw(); });

  for (const [n, button] of strip.entries()) button.addEventListener("click", () => { image = n; showImage(); });
  find(".strip").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    image = (image + step + strip.length) % strip.length;
    showImage();
    strip[image].focus();
  });
  const drag = (event) => {
    const box = plane.getBoundingClientRect(), [a, b] = axes();
    set(a, limit * (2 * (event.clientX - box.left) / box.width - 1));
    if (a !== b) set(b, limit * (1 - 2 * (event.clientY - box.top) / box.height));
    draw();
  };
  plane.addEventListener("pointerdown", (event) => { plane.setPointerCapture(event.pointerId); drag(event); });
  plane.addEventListener("pointermove", (event) => { if (plane.hasPointerCapture(event.pointerId)) drag(event); });
  plane.addEventListener("dblclick", () => reset(axes()));
  plane.addEventListener("keydown", (event) => {
    const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 1], ArrowDown: [1, -1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const d = axes()[move[0]];
    set(d, code[d] + move[1] * (event.shiftKey ? 0.5 : 0.1));
    draw();
  });
  part.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "r" || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const d = sliders.indexOf(event.target);
    if (event.shiftKey) resetAll();
    else if (d >= 0) reset([d]);
    else if (event.target === plane) reset(axes());
  });
  find(".live-reset").addEventListener("click", resetAll);

  const others = models.filter((other) => other !== model && other.key === model.key);
  if (others.length) {
    choice.add(new Option("none", ""));
    for (const other of others) choice.add(new Option(other.title, other.part.id));
    if (models.length === 2) choice.value = others[0].part.id;
    find(".live-choice").hidden = false;
  }
  const showBeside = () => {
    beside = others.find((other) => other.part.id === choice.value) ?? null;
    pairs = beside ? pairLatents(model, beside) : [];
    find(".live-other").hidden = find(".live-paired").hidden = !beside;
    if (beside) {
      find(".live-other figcaption").textContent = find(".live-other figcaption").title = beside.title;
      const list = pairs.map(([a, b, r]) => `z${a} with z${b} (${signed(r)})`).join(", ");
      find(".live-paired").textContent = `${beside.title} starts at its own posterior mean of the image. A slider moves it by as much, ` +
        `in the latent whose means correlate most with those here over ${model.cloud.count} images, by at least ${LEAST}: ${list || "there is none"}.`;
    }
    showEvaluation();
    draw();
  };
  choice.addEventListener("change", showBeside);

  const stages = find(".live-stages"), stageSlider = stages.querySelector("input");
  if (evaluations.length > 1) {
    stages.hidden = false;
    stageSlider.max = evaluation;
    stageSlider.value = evaluation;
    stageSlider.addEventListener("input", () => { evaluation = Number(stageSlider.value); showEvaluation(); });
  }
  const layOut = () => {
    if (evaluations.length > 1) { moveLine = drawFreezing(stages.querySelector(".live-chart"), model); moveLine(evaluation); }
    drawPlane();
  };
  window.addEventListener("resize", layOut);
  showImage();
  showBeside();
  layOut();
}

const liveModels = [...document.querySelectorAll(".live")].map(readModel);
for (const model of liveModels) startLive(model, liveModels);
