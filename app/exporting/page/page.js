// The page itself: the network, its check, and what a user shows it. `resized` and `decoded` stand before it.
import { loadLiteRt, supportsFeature, Tensor } from "@litertjs/core";

removeEventListener("error", tooOld);
tell("begun");

const BUILDS = { relaxed: "the fast build", compat: "the build for older browsers" };
const BEST = 5;
const element = (id) => document.getElementById(id);
const facts = JSON.parse(element("facts").textContent);
const how = facts.preprocessing;

// What lies in the page as gzip in base64, Uint8Array; it is there no longer then.
async function unpacked(id) {
  const packed = await fetch(`data:application/octet-stream;base64,${element(id).textContent.trim()}`);
  element(id).remove();
  const stream = packed.body.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const blobOf = async (base64) => (await fetch(`data:application/octet-stream;base64,${base64}`)).blob();

// One after the other: the network computes one picture at a time.
let last = Promise.resolve();
function inTurn(work) {
  const mine = last.then(work);
  last = mine.catch(() => {});
  return mine;
}

async function network() {
  // The runtime would wake a graphics card up, where there is one, which is not used: it computes otherwise.
  Object.defineProperty(navigator, "gpu", { value: undefined });
  const build = (await supportsFeature("relaxedSimd")) ? "relaxed" : "compat";
  element(build === "relaxed" ? "compat-wasm" : "relaxed-wasm").remove();
  self.Module = { wasmBinary: await unpacked(`${build}-wasm`) };
  const script = new Blob([await unpacked(`${build}-js`)], { type: "text/javascript" });
  // Its name has to end so.
  const runtime = await loadLiteRt(`${URL.createObjectURL(script)}#x.js`);
  const model = await runtime.loadAndCompile(await unpacked("network"), { accelerator: "wasm" });
  const answer = async (small) => {
    const image = new Tensor(small, [1, how.height, how.width, 3]);
    try {
      const [probabilities] = await model.run(image);
      const scores = Array.from(probabilities.toTypedArray());
      probabilities.delete();
      return scores;
    } finally {
      image.delete();
    }
  };
  return { answer, build };
}

const started = performance.now();
const ready = inTurn(network);

// A picture file -> what the network sees of it, what it says, and how long each took.
async function ask(blob) {
  const { answer } = await ready;
  const times = [performance.now()];
  const { data, width, height } = await decoded(blob, facts.limits);
  times.push(performance.now());
  const small = resized(data, height, width, how);
  times.push(performance.now());
  const scores = await answer(small);
  times.push(performance.now());
  return { small, scores, milliseconds: times.slice(1).map((time, place) => time - times[place]) };
}

// ---- The check

const pause = () => new Promise((go) => setTimeout(go));
const best = (scores) => scores.indexOf(Math.max(...scores));
const few = (number) => (number < 1e-3 ? number.toExponential(1) : number.toFixed(3));

// Of two answers: whether the first one's best class is the other's, or as probable, and the largest difference.
function compared(scores, right) {
  const difference = Math.max(...scores.map((score, place) => Math.abs(score - right[place])));
  return {
    same: right[best(scores)] >= Math.max(...right) - facts.margin,
    difference: Number.isNaN(difference) ? Infinity : difference,
  };
}

async function check() {
  const { build } = await ready;
  const seconds = (performance.now() - started) / 1000;
  const say = element("check"), count = facts.golden.length;
  const asked = [], own = [];
  for (const image of facts.golden) {
    // Not where it would be read aloud.
    element("own").textContent = `${asked.length} of ${count} golden pictures were asked about.`;
    await pause();
    const found = await inTurn(async () => ask(await blobOf(image.pixels)));
    const apart = compared(found.scores, image.probabilities);
    asked.push({ file: image.file, scores: found.scores, milliseconds: found.milliseconds[2], ...apart });
    // The file as it came, which the browser decodes in its own way.
    try {
      const { scores } = await inTurn(async () => ask(await blobOf(image.original)));
      own.push({ file: image.file, ...compared(scores, found.scores) });
    } catch (error) {
      own.push({ file: image.file, refused: error.message });
    }
  }
  const others = asked.filter((one) => !one.same);
  const largest = Math.max(...asked.map((one) => one.difference));
  const allowed = facts.tolerance ?? 1; // of integers the best class counts alone
  const agreed = asked.filter((one) => one.same && one.difference <= allowed).length;
  const ok = others.length <= facts.may_differ && largest <= allowed;
  say.className = ok ? "" : "bad";
  const what = facts.tolerance === null ? "with the trained network's best class" : "as by the trained network";
  const said = `${agreed} of ${count} golden pictures are answered ${what}`;
  const apart = `largest difference of a score ${few(largest)}`;
  say.textContent = ok
    ? `Checked: ${said}; ${apart}.`
    : `NOT as certified: only ${said}; ${apart}. Do not trust this page in this browser.`;
  element("own").textContent = ownDecoding(own);
  element("runtime").textContent =
    `Ready after ${seconds.toFixed(1)} s, by LiteRT.js ${facts.runtime}, ${BUILDS[build]}.`;
  const milliseconds = asked.map((one) => one.milliseconds).sort((a, b) => a - b)[Math.floor(count / 2)];
  return { files: asked.map((one) => one.file), answers: asked.map((one) => one.scores), milliseconds };
}

function ownDecoding(own) {
  const read = own.filter((one) => !one.refused);
  if (!read.length) return "";
  const worst = read.reduce((a, b) => (b.difference > a.difference ? b : a));
  const others = read.filter((one) => !one.same).map((one) => one.file);
  if (!worst.difference) return "Decoded by this browser, the golden pictures' files give the same scores.";
  return (
    `Decoded by this browser, the golden pictures' files change a score by at most ${few(worst.difference)} (${worst.file}), ` +
    (others.length ? `and the best class of ${others.join(", ")}.` : "and no best class.")
  );
}

// For a program that opened the page: see in_browser.py.
function tell(what) {
  if (location.hash === "#told") console.log(what);
}

const leave = (found) => tell(`found ${JSON.stringify(found)}`);

check().then(leave, (error) => {
  const message = error?.message ?? String(error);
  element("check").className = "bad";
  element("own").textContent = "";
  element("check").textContent = `The network does not run in this browser: ${message}`;
  leave({ error: message });
});

// ---- What a user shows it

let shown = null; // the address of the picture on the page

async function show(blob, name) {
  const status = element("status");
  status.classList.remove("bad");
  status.textContent = `Looking at ${name}…`;
  try {
    const { small, scores, milliseconds } = await inTurn(() => ask(blob));
    if (shown) URL.revokeObjectURL(shown);
    shown = URL.createObjectURL(blob);
    element("picture").src = shown;
    element("picture").alt = name;
    paint(small);
    list(scores);
    element("answer").hidden = false;
    const [decoding, resizing, answering] = milliseconds.map((time) => time.toFixed(time < 10 ? 1 : 0));
    status.textContent = `${name}: ${facts.names[best(scores)]}, ${percent(Math.max(...scores))}.`;
    element("times").textContent =
      `Decoded in ${decoding} ms, resized in ${resizing} ms, answered in ${answering} ms.`;
  } catch (error) {
    element("answer").hidden = true;
    status.classList.add("bad");
    status.textContent = `${name}: ${error?.message ?? String(error)}`;
  }
}

const percent = (score) => `${(100 * score).toFixed(1)} %`;

function paint(small) {
  const canvas = element("seen");
  [canvas.width, canvas.height] = [how.width, how.height];
  const image = new ImageData(how.width, how.height);
  for (let from = 0, to = 0; from < small.length; from += 3, to += 4) {
    const rgb = small.subarray(from, from + 3), grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    image.data.set(how.colour === "grey" ? [grey, grey, grey] : rgb, to);
    image.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function list(scores) {
  const order = scores.map((_, place) => place).sort((a, b) => scores[b] - scores[a]);
  element("scores").replaceChildren(
    ...order.slice(0, BEST).map((place) => {
      const item = document.createElement("li"), label = document.createElement("span"), score = document.createElement("span");
      const bar = document.createElement("div");
      label.textContent = facts.names[place];
      score.textContent = percent(scores[place]);
      bar.className = "bar";
      bar.setAttribute("aria-hidden", "true");
      bar.style.width = `${100 * scores[place]}%`;
      item.append(label, " ", score, bar);
      return item;
    }),
  );
}

function take(files) {
  const file = [...(files ?? [])][0];
  if (file) show(file, file.name || "the pasted picture");
}

element("file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = ""; // the same file again is a change, too
});
element("choose").addEventListener("click", () => element("file").click());
const dragging = (on) => document.body.classList.toggle("dragging", on);
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    dragging(true);
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget === null && dragging(false));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dragging(false);
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));

// ---- The camera, where there is one and the browser lets a page have it

let stream = null, opening = false;

async function hasCamera() {
  if (!navigator.mediaDevices?.enumerateDevices) return false;
  const devices = await navigator.mediaDevices.enumerateDevices();
  const permission = await navigator.permissions?.query({ name: "camera" }).catch(() => null);
  return devices.some(({ kind }) => kind === "videoinput") && permission?.state !== "denied";
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  element("live").hidden = true;
  element("camera").hidden = false;
  element("camera").focus(); // what had it is hidden
}

element("camera").addEventListener("click", async () => {
  if (opening) return; // the first would never be closed
  opening = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    element("status").classList.add("bad");
    element("status").textContent = `The camera cannot be used: ${error.message}.`;
    element("camera").hidden = true;
    element("choose").focus();
    return;
  } finally {
    opening = false;
  }
  element("video").srcObject = stream;
  element("live").hidden = false;
  element("camera").hidden = true;
  element("take").focus();
});
element("take").addEventListener("click", async () => {
  const { videoWidth, videoHeight } = element("video");
  if (!videoWidth) return; // no picture has come yet
  const canvas = new OffscreenCanvas(videoWidth, videoHeight);
  canvas.getContext("2d").drawImage(element("video"), 0, 0);
  stop();
  show(await canvas.convertToBlob({ type: "image/png" }), "the camera's picture");
});
element("stop").addEventListener("click", stop);
hasCamera().then((there) => (element("camera").hidden = !there), () => {});
