// The page asks the server as any program would: the bytes of a picture's file to `:predict`. What it shows beside the
// answer comes from addresses below page/.

const TOP = 5;
const SHOWN = 12; // examples, before one asks for all
const SIDE = 128; // the most pixels of a network's input that are shown as squares
const at = (id) => document.getElementById(id);
const say = (place, text) => { at(place).textContent = text; };
// A header is bytes, and `fetch` takes a letter for each.
const bytesOf = (text) => String.fromCharCode(...new TextEncoder().encode(text));
const show = (place, whether = true) => { at(place).hidden = !whether; };

let token = ""; // in the memory of this page alone
let served = [], largest = Infinity, chosen = null;
let turn = 0; // of the picture that is looked at; what comes late of one before it is dropped
let urls = []; // of its images

class Refused extends Error {
  constructor(sentence, status) { super(sentence); this.status = status; }
}

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${bytesOf(token)}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers, ...options.headers } });
  } catch {
    throw new Refused(`There is no answer from ${location.origin}: is the server still running?`, 0);
  }
  if (response.ok) return response;
  let sentence = "";
  try { sentence = (await response.json()).error; } catch { /* not of this server's own */ }
  throw new Refused(sentence || `The server answers with ${response.status} ${response.statusText}.`, response.status);
}

// ---- the networks

async function begin() {
  try {
    const found = await (await ask("page/models")).json();
    ({ versions: served, largest } = found);
  } catch (error) {
    if (error.status === 401) wantToken(); else refuse(error);
    return;
  }
  show("token-form", false);
  show("main");
  show("error", false);
  show("waiting");
  const newest = new Set();
  at("which").replaceChildren(...served.map((one, place) => {
    Object.setPrototypeOf(one.names, null); // a label may be `constructor`
    const first = !newest.has(one.name);
    newest.add(one.name);
    one.path = `v1/models/${encodeURIComponent(one.name)}${first ? "" : `/versions/${one.version}`}`;
    one.page = `page/models/${encodeURIComponent(one.name)}/versions/${one.version}`;
    return new Option(`${one.name}, version ${one.version}`, place);
  }));
  show("choosing", served.length > 1);
  if (served.length) choose(0);
  else refuse(new Refused("No network is ready; try again."));
}

function wantToken() {
  show("token-error", Boolean(token));
  show("token-form");
  at("token").focus();
}

function choose(place) {
  chosen = served[place];
  say("name", chosen.name);
  document.title = `Try ${chosen.name}`;
  say("sees", `Version ${chosen.version}${chosen.sees ? `. It sees ${chosen.sees}.` : ""}`);
  show("served");
  say("address", new URL(`${chosen.path}:predict`, location.href).href);
  forget();
  show("waiting");
  list(chosen, SHOWN);
}

const named = (label) => chosen.names[label] && chosen.names[label] !== label ? `${chosen.names[label]} (${label})` : label;

async function list(version, count) {
  const labels = version.examples.slice(0, count);
  show("examples-part", labels.length > 0);
  show("more", version.examples.length > count);
  say("more", `Show all ${version.examples.length} of them`);
  at("more").onclick = () => {
    list(version, Infinity);
    at("examples").querySelectorAll("button")[count].focus();
  };
  const buttons = labels.map((label) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const image = document.createElement("img");
    image.alt = "";
    button.append(image, label === null ? "unnamed" : version.names[label] || label);
    return button;
  });
  at("examples").replaceChildren(...buttons.map((button) => {
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  buttons.forEach((button, place) => { 
    button.title = button.textContent;
    button.setAttribute("aria-label", `Example ${place + 1}: ${button.textContent}`);
  });
  for (const [place, button] of buttons.entries()) {
    if (version !== chosen || !button.isConnected) return;
    let blob;
    try {
      blob = await (await ask(`${version.page}/examples/${place}`)).blob();
    } catch (error) {
      button.disabled = true;
      continue;
    }
    const image = button.firstChild;
    image.src = URL.createObjectURL(blob);
    image.onload = () => URL.revokeObjectURL(image.src);
    const ending = blob.type.replace("image/", "");
    button.onclick = () => look(new File([blob], `example-${place + 1}.${ending}`, { type: blob.type }), true, button);
  }
}

// ---- a picture

function forget() {
  turn += 1;
  for (const url of urls) URL.revokeObjectURL(url);
  urls = [];
  for (const place of ["waiting", "error", "answer", "like", "given-part", "seen-part", "heat-part", "shell"]) show(place, false);
  for (const button of at("examples").querySelectorAll("button")) button.setAttribute("aria-pressed", "false");
}

function refuse(error) {
  say("status", "");
  show("waiting", false);
  show("error");
  say("error", error.message);
  show("main");
}

function picture(place, blob, alt) {
  const url = URL.createObjectURL(blob);
  urls.push(url);
  const image = at(place);
  image.alt = alt;
  const mine = turn;
  image.onload = () => show(`${place}-part`, mine === turn);
  image.onerror = () => show(`${place}-part`, false); // of a kind that browsers do not show
  image.src = url;
}

async function base64(file) {
  const reader = new FileReader();
  const read = new Promise((resolve, reject) => { reader.onload = resolve; reader.onerror = reject; });
  reader.readAsDataURL(file);
  try { await read; } catch { throw new Refused(`${file.name} cannot be read: is it a folder, or gone?`); }
  return reader.result.slice(reader.result.indexOf(",") + 1);
}

async function look(file, unsaved, button = null) {
  forget();
  const mine = turn, version = chosen;
  const late = () => mine !== turn;
  if (button) button.setAttribute("aria-pressed", "true");
  say("status", `Asking about ${file.name}`);
  show("waiting");
  say("waiting", `Asking about ${file.name} …`);
  const below = at("said").getBoundingClientRect().top > 0.7 * innerHeight; // as on a telephone
  if (below) at("said").scrollIntoView();
  try {
    if (file.size > largest) {
      throw new Refused(`${file.name} has ${file.size.toLocaleString("en")} bytes; at most ${largest.toLocaleString("en")} are decoded.`);
    }
    const content = file.size ? await base64(file) : "";
    if (late()) return;
    const body = JSON.stringify({ instances: [{ b64: content }] });
    const started = performance.now();
    const response = await ask(`${version.path}:predict`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
    const answer = (await response.json()).predictions[0];
    const took = performance.now() - started;
    if (late()) return;
    bars(answer, took);
    // Only now: what the server refuses for its size would cost the browser seconds.
    picture("given", file, `The picture ${file.name}`);
    say("given-name", file.name);
    shell(file, unsaved, version);
    if (below) at("said").scrollIntoView(); // once more: now there is enough below it
  } catch (error) {
    if (!late()) {
      if (error.status === 401) wantToken();
      if (error.status === 404) error.message = gone(version);
      if (error.status === 400) error.message = `${file.name}: ${error.message}`;
      refuse(error instanceof Refused ? error : new Refused("The server's answer is none of a network for pictures."));
    }
    return;
  }
  try {
    if (version.sees) await seen(file, version, late);
    if (version.inside) await inside(file, version, late);
  } catch (error) {
    if (error.status === 404) error.message = gone(version);
    if (!late()) refuse(error);
  }
}

const gone = ({ name, version }) => `Version ${version} of ${name} is not served any more; load this page again.`;

function bars(answer, took) {
  const best = answer.classes.slice(0, TOP).map((label, place) => ({ label, score: answer.scores[place] }));
  const shares = best.map(({ score }) => (score > 0 && score < 0.0005 ? "< 0.1" : (score * 100).toFixed(1)));
  at("bars").replaceChildren(...best.map(({ label, score }, place) => {
    const item = document.createElement("li");
    item.dataset.label = label;
    item.dataset.score = score;
    const [name, share, bar, inner] = ["span", "span", "div", "span"].map((kind) => document.createElement(kind));
    name.className = "label";
    name.textContent = named(label);
    share.className = "score";
    share.textContent = `${shares[place]} %`;
    bar.className = "bar";
    bar.setAttribute("aria-hidden", "true");
    inner.style.width = `${Math.min(100, 100 * score)}%`;
    bar.append(inner);
    item.append(name, share, bar);
    return item;
  }));
  say("took", `Answered in ${took.toFixed(took < 10 ? 1 : 0)} ms, there and back.`);
  show("waiting", false);
  show("answer");
  say("status", `${best.map(({ label }, place) => `${named(label)}, ${shares[place]} percent`).join("; ")}. ${at("took").textContent}`);
}

async function seen(file, version, late) {
  const blob = await (await ask(`${version.page}/seen`, { method: "POST", body: file })).blob();
  if (late()) return;
  picture("seen", blob, "The picture as the network sees it");
  await at("seen").decode();
  at("seen").classList.toggle("pixels", at("seen").naturalWidth <= SIDE);
  say("seen-name", `As the network sees it: ${at("seen").naturalWidth}\u00a0×\u00a0${at("seen").naturalHeight}`);
}

async function inside(file, version, late) {
  const told = await (await ask(`${version.page}/inside`, { method: "POST", body: file })).json();
  if (late()) return;
  const bytes = Uint8Array.from(atob(told.heat), (letter) => letter.charCodeAt(0));
  picture("heat", new Blob([bytes], { type: "image/png" }), `A heat map over the picture: what speaks for ${named(told.label)}`);
  say("heat-name", `Grad-CAM: what speaks for ${named(told.label)}, bright where the most does`);
  if (!told.like) return;
  at("like").classList.toggle("unlike", !told.is_like);
  say("like", told.like);
  show("like");
  if (!told.is_like) say("status", `${at("status").textContent} ${told.like}`);
}

function shell(file, unsaved, version) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const url = new URL(`${version.path}:predict`, location.href).href;
  const header = token ? ' -H "Authorization: Bearer $SERVE_TOKEN"' : "";
  say("curl", `printf '{"instances": [{"b64": "%s"}]}' "$(base64 < ${quoted(file.name)} | tr -d '\\n')" | curl -sS${header} -d @- ${quoted(url)}`);
  show("save-part", unsaved);
  if (unsaved) {
    const link = at("save");
    link.href = URL.createObjectURL(file);
    urls.push(link.href);
    link.download = file.name;
    link.textContent = `Save ${file.name}`;
  }
  show("shell");
}

// ---- how a picture comes

function given(files, unsaved) {
  if (!chosen) return;
  if (files.length) look(files[0], unsaved);
  else { forget(); refuse(new Refused("That is no file; save the picture first, and give the file.")); }
}

at("choose").onclick = () => at("file").click();
at("file").onchange = () => {
  if (at("file").files.length) given(at("file").files, false);
  at("file").value = ""; // so that the same file can be chosen again
};
at("which").onchange = () => choose(at("which").value);

addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  given(event.dataTransfer.files, false);
});
addEventListener("paste", (event) => {
  if (event.target.matches("input")) return;
  given(event.clipboardData.files, true);
});

at("token-form").onsubmit = async (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  await begin();
  if (at("token-form").hidden) at("choose").focus();
};

if (navigator.clipboard) {
  show("copy");
  at("copy").onclick = async () => {
    try {
      await navigator.clipboard.writeText(at("curl").textContent);
      say("status", "The line is copied.");
      say("copy", "Copied");
      setTimeout(() => say("copy", "Copy"), 2000);
    } catch {
      getSelection().selectAllChildren(at("curl"));
      say("status", "The browser does not copy; the line is marked.");
    }
  };
}

// ---- the camera, only where a browser lets pages use one

if (isSecureContext && navigator.mediaDevices) {
  let stream = null, opening = false;
  show("camera");
  at("camera").onclick = async () => {
    if (opening) return; // the first would never be closed
    opening = true;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      const why = { NotAllowedError: "The browser was told not to let this page use the camera.", NotFoundError: "There is no camera." };
      forget();
      refuse(new Refused(why[error.name] || `The camera cannot be used: ${error.message}`));
      return;
    } finally {
      opening = false;
    }
    at("video").srcObject = stream;
    at("camera-dialog").showModal();
    at("video").play().catch(() => {}); // closed before it began
  };
  at("camera-dialog").onclose = () => {
    for (const track of stream.getTracks()) track.stop();
    at("video").srcObject = null;
  };
  at("close").onclick = () => at("camera-dialog").close();
  at("shoot").onclick = () => {
    if (!at("video").videoWidth) return; // no picture has come yet
    const canvas = document.createElement("canvas");
    canvas.width = at("video").videoWidth;
    canvas.height = at("video").videoHeight;
    canvas.getContext("2d").drawImage(at("video"), 0, 0);
    at("camera-dialog").close();
    canvas.toBlob((blob) => look(new File([blob], "camera.png", { type: "image/png" }), true), "image/png");
  };
}

begin();
