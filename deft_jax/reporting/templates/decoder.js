"use strict";
/* A decoder on plain arrays. makeDecoder(model, layers) returns code -> pixels, rows x columns x channels, in [0, 1]. */

function halfToNumber(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}

function unpackNumbers(packed, precision) {
  const text = atob(packed.data), bytes = new DataView(new ArrayBuffer(text.length));
  for (let i = 0; i < text.length; i++) bytes.setUint8(i, text.charCodeAt(i));
  const size = precision === "half" ? 2 : 4, numbers = new Float64Array(text.length / size);
  for (let i = 0; i < numbers.length; i++)
    numbers[i] = packed.scale * (size === 2 ? halfToNumber(bytes.getUint16(2 * i, true)) : bytes.getFloat32(4 * i, true));
  return numbers;
}

/* y = kernel^T x + bias; kernel [inputs, outputs]. */
function denseLayer({ kernel, bias, relu }) {
  const y = new Float64Array(bias.length);
  return (x) => {
    y.set(bias);
    for (let i = 0, k = 0; i < x.length; i++) {
      const value = x[i];
      if (value === 0) k += y.length;
      else for (let o = 0; o < y.length; o++) y[o] += value * kernel[k++];
    }
    if (relu) for (let o = 0; o < y.length; o++) if (y[o] < 0) y[o] = 0;
    return y;
  };
}

/* Transposed 4x4 convolution of stride 2, padding 1: pixel (i, j) reaches (2i + k - 1, 2j + l - 1) by tap (k, l).
   x [channels, rows, columns], kernel [4, 4, outputs, channels]. An output row 2r + a takes from two rows of x, which
   with one row of zeros around x are r + a by tap 3 - a, and r + a + 1 by tap 1 - a; columns likewise. */
function convUpLayer({ kernel, bias, relu, input }) {
  const [channels, rows, columns] = input, outputs = bias.length, width = columns + 2;
  const padded = new Float64Array(channels * (rows + 2) * width), y = new Float64Array(outputs * rows * columns * 4);
  const pad = (x) => {
    for (let c = 0, i = 0; c < channels; c++)
      for (let r = 1; r <= rows; r++)
        for (let start = (c * (rows + 2) + r) * width + 1, j = start; j < start + columns; j++) padded[j] = x[i++];
  };
  // Adds channel c to the output rows of parity a of output o.
  const add = (o, c, a) => {
    const tap = (k, l) => kernel[((4 * k + l) * outputs + o) * channels + c];
    const even00 = tap(3 - a, 3), even01 = tap(3 - a, 1), even10 = tap(1 - a, 3), even11 = tap(1 - a, 1);
    const odd00 = tap(3 - a, 2), odd01 = tap(3 - a, 0), odd10 = tap(1 - a, 2), odd11 = tap(1 - a, 0);
    for (let r = 0; r < rows; r++) {
      let above = (c * (rows + 2) + r + a) * width, below = above + width;
      let out = (o * rows * 2 + 2 * r + a) * columns * 2;
      let x00 = padded[above], x01 = padded[++above], x10 = padded[below], x11 = padded[++below];
      for (let s = 0; s < columns; s++) {
        const x02 = padded[++above], x12 = padded[++below];
        y[out] += x00 * even00 + x01 * even01 + x10 * even10 + x11 * even11;
        y[out + 1] += x01 * odd00 + x02 * odd01 + x11 * odd10 + x12 * odd11;
        out += 2;
        x00 = x01; x01 = x02; x10 = x11; x11 = x12;
      }
    }
  };
  return (x) => {
    pad(x);
    for (let o = 0; o < outputs; o++) {
      y.fill(bias[o], o * rows * columns * 4, (o + 1) * rows * columns * 4);
      for (let c = 0; c < channels; c++) { add(o, c, 0); add(o, c, 1); }
    }
    if (relu) for (let i = 0; i < y.length; i++) if (y[i] < 0) y[i] = 0;
    return y;
  };
}

function makeDecoder({ shape, likelihood, precision }, layers) {
  const kinds = { dense: denseLayer, conv_up: convUpLayer };
  const steps = layers.map((layer) => kinds[layer.kind]({
    ...layer, kernel: unpackNumbers(layer.kernel, precision), bias: unpackNumbers(layer.bias, precision),
  }));
  const [rows, columns, channels] = shape, pixels = new Float64Array(rows * columns * channels);
  /* Outputs of a convolution may be larger than the image, which is their middle. */
  const last = layers[layers.length - 1], [, height, width] = last.kind === "dense" ? [0, rows, columns]
    : [0, 2 * last.input[1], 2 * last.input[2]];
  const top = Math.floor((height - rows) / 2), left = Math.floor((width - columns) / 2);
  return (code) => {
    const outputs = steps.reduce((x, step) => step(x), code);
    for (let c = 0; c < channels; c++)
      for (let r = 0; r < rows; r++)
        for (let s = 0; s < columns; s++) {
          const value = outputs[(c * height + top + r) * width + left + s];
          pixels[(r * columns + s) * channels + c] = likelihood === "bernoulli"
            ? 1 / (1 + Math.exp(-value)) : Math.min(1, Math.max(0, value));
        }
    return pixels;
  };
}

/* Pixels on a canvas of as many pixels: 1 channel is grey, 2 red and green, 4 colour with an opacity over white. */
function paintPixels(canvas, [rows, columns, channels], pixels) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let i = 0, p = 0; i < rows * columns; i++, p += channels) {
    const opacity = channels === 4 ? pixels[p + 3] : 1;
    for (let c = 0; c < 3; c++) {
      const value = channels === 1 ? pixels[p] : channels === 2 && c === 2 ? 0 : pixels[p + c];
      image.data[4 * i + c] = Math.round(255 * (value * opacity + 1 - opacity));
    }
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
