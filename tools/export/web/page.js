// The exported net in this browser: a picture's code, and the pictures nearest to it by popcount.
// Everything comes from the folder of this page.
"use strict";

const TOP = 10;
const POPCOUNT = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);
const find = (id) => document.getElementById(id);

async function get(name, type) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is missing beside this page: export it again`);
  if (!name.endsWith(".gz")) return response.arrayBuffer();
  const plain = response.body.pipeThrough(new DecompressionStream("gzip"));
  return type ? new Response(plain, { headers: { "Content-Type": type } }).blob() : new Response(plain).json();
}

// Browsers compute digests where the page comes by https or from this machine.
async function unchanged(files, expected) {
  if (!crypto.subtle) return;
  for (const [name, content] of Object.entries(files)) {
    const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    const digest = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (digest !== expected[name]) throw new Error(`${name} was changed after the export: export it again`);
  }
}

async function open() {
  const [script, wasm, model, codes, facts] = await Promise.all([
    get("ort.wasm.min.js.gz", "text/javascript"),
    get("ort-wasm.wasm.gz", "application/wasm"),
    get("model.onnx"),
    get("codes.bin"),
    get("rows.json.gz"),
  ]);
  await unchanged({ "model.onnx": model, "codes.bin": codes }, facts.sha256);
  await new Promise((resolve, reject) => {
    const element = document.createElement("script");
    Object.assign(element, { src: URL.createObjectURL(script), onload: resolve, onerror: reject });
    document.head.append(element);
  });
  Object.assign(ort.env.wasm, {
    numThreads: 1,
    simd: false, // the smaller of its two files
    wasmPaths: { "ort-wasm.wasm": URL.createObjectURL(wasm) },
  });
  const net = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  return { net, codes: new Uint8Array(codes), ...facts };
}

// What cv2.resize makes of a picture, in its own whole numbers: planes of `channels` values a pixel.
function resize(pixels, width, height, side, channels) {
  if (width === side && height === side) return pixels;
  const out = new Uint8Array(side * side * channels);
  if (width === 2 * side && height === 2 * side) {
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++)
        for (let c = 0; c < channels; c++) {
          const at = (2 * y * width + 2 * x) * channels + c, below = at + width * channels;
          const sum = pixels[at] + pixels[at + channels] + pixels[below] + pixels[below + channels];
          out[(y * side + x) * channels + c] = (sum + 2) >> 2;
        }
    return out;
  }
  const even = (value) => { // rounds halves to even numbers
    const near = Math.round(value);
    return Math.abs(value % 1) === 0.5 && near % 2 ? near - 1 : near;
  };
  const places = (length) => Array.from({ length: side }, (_, at) => {
    const place = Math.fround((at + 0.5) * (length / side) - 0.5), first = Math.floor(place);
    const share = Math.fround(place - first);
    return [first, even(Math.fround(Math.fround(1 - share) * 2048)), even(Math.fround(share * 2048))];
  });
  const row = (number) => {
    const y = Math.min(Math.max(number, 0), height - 1), line = new Int32Array(side * channels);
    columns.forEach(([first, left, right], x) => {
      const outside = first < 0 || first >= width - 1;
      const from = Math.min(Math.max(first, 0), width - 1);
      for (let c = 0; c < channels; c++) {
        const at = (y * width + from) * channels + c;
        line[x * channels + c] = outside ? pixels[at] * 2048 : pixels[at] * left + pixels[at + channels] * right;
      }
    });
    return line;
  };
  const columns = places(width);
  places(height).forEach(([first, upper, lower], y) => {
    const above = row(first), below = row(first + 1);
    for (let at = 0; at < above.length; at++) {
      const sum = ((upper * (above[at] >> 4)) >> 16) + ((lower * (below[at] >> 4)) >> 16);
      out[y * side * channels + at] = Math.min(255, (sum + 2) >> 2);
    }
  });
  return out;
}

// A picture file as the net gets it: side x side, grey or BGR. Transparency lies on white.
async function read(file, side, channels) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const pixels = new Uint8Array(width * height * channels), png = file.type === "image/png";
  for (let at = 0; at < width * height; at++) {
    const [r, g, b] = [rgba[4 * at], rgba[4 * at + 1], rgba[4 * at + 2]];
    if (channels === 3) pixels.set([b, g, r], 3 * at);
    else pixels[at] = png ? (9797 * r + 19234 * g + 3737 * b) >> 15 : (4899 * r + 9617 * g + 1868 * b + 8192) >> 14;
  }
  return resize(pixels, width, height, side, channels);
}

// The rows nearest to a code, ties in the order of the rows, without those that were removed.
function nearest({ codes, bytes, removed }, code, top) {
  const rows = codes.length / bytes, found = Array.from({ length: 8 * bytes + 1 }, () => []);
  const gone = new Set(removed);
  for (let row = 0, at = 0; row < rows; row++) {
    let distance = 0;
    for (let byte = 0; byte < bytes; byte++) distance += POPCOUNT[codes[at++] ^ code[byte]];
    if (found[distance].length < top && !gone.has(row)) found[distance].push({ row, distance });
  }
  return found.flat().slice(0, top);
}

function show(page, pixels, outputs, began) {
  const { side, channels, classes, bits, labels, keys } = page;
  const canvas = Object.assign(find("seen"), { width: side, height: side });
  const image = new ImageData(side, side);
  for (let at = 0; at < side * side; at++)
    for (let c = 0; c < 3; c++) image.data[4 * at + c] = pixels[channels === 3 ? 3 * at + 2 - c : at];
  for (let at = 3; at < image.data.length; at += 4) image.data[at] = 255;
  canvas.getContext("2d").putImageData(image, 0, 0);
  const probabilities = Array.from(outputs.probabilities?.data || []), code = outputs.code.data; // a net may have no classifier
  const best = probabilities.map((_, label) => label).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const entry = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
  const percent = (label) => `${(100 * probabilities[label]).toFixed(1)}%`;
  find("classes").replaceChildren(...best.slice(0, 3).map((label) => entry("li", `${classes[label]} ${percent(label)}`)));
  find("classes").previousElementSibling.hidden = !best.length;
  find("code").textContent = Array.from(code, (byte) => byte.toString(2).padStart(8, "0")).join("").slice(0, bits);
  find("neighbours").replaceChildren(...nearest(page, code, TOP).map(({ row, distance }, place) => {
    const line = document.createElement("tr");
    const carried = [labels[row]].flat().filter((label) => label >= 0);  // one number, or a list
    const label = carried.map((each) => classes[each]).join(", ") || "–";
    line.append(...[place + 1, distance, label, keys[row]].map((text) => entry("td", text)));
    return line;
  }));
  find("time").textContent = `${Math.round(performance.now() - began)} ms for the net and ${keys.length.toLocaleString("en")} codes`;
  find("answer").hidden = false;
}

function fail(error) {
  Object.assign(find("about"), { className: "error", textContent: error.message || String(error) });
}

open().then((page) => {
  const { side, channels, bits, keys, removed, title } = page;
  const about = `${title}: ${(keys.length - removed.length).toLocaleString("en")} pictures, codes of ${bits} bits. ` +
    "The net runs in this browser, and no picture leaves it.";
  const ready = () => Object.assign(find("about"), { className: "", textContent: about });
  ready();
  find("picture").disabled = false;
  find("picture").onchange = async ({ target }) => {
    if (!target.files.length) return;
    find("answer").hidden = true;
    try {
      const pixels = await read(target.files[0], side, channels).catch(() => {
        throw new Error("This file is no picture that the browser can read: choose another one.");
      });
      const began = performance.now();
      const picture = new ort.Tensor("uint8", pixels, [1, side, side, channels]);
      show(page, pixels, await page.net.run({ picture }), began);
      ready();
    } catch (error) {
      fail(error);
    }
  };
}).catch(fail);
