
const SHOWN_AT_ONCE = 24, LISTED = 5;
const thumbnails = JSON.parse(document.getElementById("thumbnails")?.textContent ?? "[]");

function make(tag, properties = {}, ...children) {       // text is only ever given as text
  const node = document.createElement(tag);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

function draw(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function upTo(scores, threshold) {                       // how many of descending scores are at least the threshold
  let low = 0, high = scores.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle] >= threshold) low = middle + 1; else high = middle;
  }
  return low;
}

function counted(curve, threshold) {                     // [true, false] detections of this score or more
  const point = upTo(curve.scores, threshold) - 1;
  return point < 0 ? [0, 0] : [curve.true[point], curve.false[point]];
}

function rates(right, wrong, objects) {
  return {
    true: right, false: wrong, missed: objects - right,
    precision: right / (right + wrong), recall: right / objects, f1: 2 * right / (right + wrong + objects),
  };
}

function numbersAt(data, threshold) {                    // {"all/true": ..., "class/0/precision": ..., "kind/background": ...}
  const numbers = {};
  let right = 0, wrong = 0, objects = 0;
  const add = (prefix, values) => { for (const [name, value] of Object.entries(values)) numbers[`${prefix}/${name}`] = value; };
  data.curves.forEach((curve, label) => {
    const [yes, no] = counted(curve, threshold);
    add(`class/${label}`, rates(yes, no, data.objects[label]));
    right += yes; wrong += no; objects += data.objects[label];
  });
  add("all", rates(right, wrong, objects));
  data.kinds.forEach((kind, index) => { 
    const point = upTo(data.of_kind[index].scores, threshold) - 1;
    numbers[`kind/${kind}`] = point < 0 ? 0 : data.of_kind[index].count[point];
  });
  numbers["kind/missed"] = objects - right;
  return numbers;
}

function told(value, format) {
  if (!Number.isFinite(value)) return "-";
  return format === "," ? value.toLocaleString("en-US") : value.toFixed(3);
}

function mistakesIn(data, picture, threshold) {          // wrong detections, best first, then objects that nothing found
  const found = [], taken = new Set();
  for (const one of picture.found) {
    if (one.score < threshold) break;
    if (one.state < 0) continue;
    const kind = data.kinds[one.state];
    const about = one.score >= data.best ? one.confused : kind === "classification" ? one.about : -1;
    if (about >= 0) taken.add(about);
    found.push({ kind, predicted: one.label, labelled: about < 0 ? -1 : picture.objects[about].label, one, score: one.score, size: 0 });
  }
  picture.objects.forEach((object, index) => {
    if (object.crowd || taken.has(index) || (object.finder !== null && object.finder >= threshold)) return;
    found.push({ kind: "missed", predicted: -1, labelled: object.label, object, score: 0, size: object.box[2] * object.box[3] });
  });
  return found;
}

function sentence(data, picture, mistake) {
  const name = (label) => data.names[label];
  if (mistake.object) {
    const below = mistake.object.finder;
    return `${name(mistake.labelled)} missed` + (below === null ? "" : `: its detection has a score of ${below.toFixed(3)} only`);
  }
  const { one, kind } = mistake, object = picture.objects[one.about];
  const what = `${name(one.label)} ${one.score.toFixed(2)}`;
  if (kind === "background") return `${what}: nothing is labelled there`;
  if (kind === "duplicate") return `${what}: a second time`;
  if (kind === "localisation") return `${what}: localisation (overlap ${one.iou.toFixed(2)})`;
  return `${what}: ${kind}` + (object ? ` (${kind === "both" ? "near what is labelled" : "labelled"} ${name(object.label)})` : "");
}

function outline(shape, style, title) {                  // a box, or a mask's outline
  const group = draw("g", {}), [x, y, width, height] = shape.box;
  for (const layer of ["under", style]) {
    const attributes = { class: layer, "vector-effect": "non-scaling-stroke" };
    group.append(shape.path ? draw("path", { ...attributes, d: shape.path }) : draw("rect", { ...attributes, x, y, width, height }));
  }
  group.append(draw("title", {}, title));
  return group;
}

function drawing(data, picture, mistakes, threshold, right, letters) {
  const [height, width] = picture.size, side = letters ? Math.max(width, height) / letters : 0;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  if (right) {
    for (const one of picture.found) {
      if (one.state === -1 && one.score >= threshold) svg.append(outline(one, "right", `${data.names[one.label]} ${one.score.toFixed(2)}`));
    }
  }
  const about = new Set(mistakes.filter((mistake) => mistake.one && mistake.one.about >= 0).map((mistake) => mistake.one.about));
  for (const index of about) svg.append(outline(picture.objects[index], "other", `labelled ${data.names[picture.objects[index].label]}`));
  mistakes.forEach((mistake, index) => {
    const shape = mistake.object ?? mistake.one;
    svg.append(outline(shape, mistake.object ? "other" : "own", sentence(data, picture, mistake)));
    if (!letters) return;
    const x = Math.min(Math.max(shape.box[0], 0), width - side), y = Math.max(shape.box[1] - side * .15, side * .9);
    svg.append(draw("text", { x, y, "font-size": side }, String(index + 1)));
  });
  return svg;
}

function summary(data, picture, mistakes) {              // equal ones together
  const counts = new Map();
  for (const mistake of mistakes) {
    const words = sentence(data, picture, mistake);
    counts.set(words, (counts.get(words) ?? 0) + 1);
  }
  const lines = [...counts].map(([words, count]) => (count > 1 ? `${words}, ${count} times` : words));
  if (lines.length > LISTED) lines.splice(LISTED, Infinity, `and ${lines.length - LISTED} more`);
  return make("ul", {}, ...lines.map((line) => make("li", {}, line)));
}

function gallery(root, data, state) {                    // pictures with mistakes, filtered and ordered
  const place = root.querySelector("[data-gallery]"), more = root.querySelector("[data-more]"), dialog = root.querySelector("dialog");
  const filters = Object.fromEntries([...root.querySelectorAll("[data-filter]")].map((input) => [input.dataset.filter, input]));
  const order = root.querySelector("[data-order]"), right = root.querySelector("[data-right]");
  const cards = new Map();
  let shown = [], room = SHOWN_AT_ONCE, open = 0;

  const fits = (mistake) => ["kind", "labelled", "predicted"].every((key) => !filters[key].value || filters[key].value === String(mistake[key]));
  const weights = {
    many: (entry) => entry.mistakes.length,
    sure: (entry) => Math.max(...entry.mistakes.map((mistake) => mistake.score)),
    large: (entry) => Math.max(...entry.mistakes.map((mistake) => mistake.size)),
  };

  function stage(tag, picture) {
    const node = make(tag, { className: "stage" });
    node.style.setProperty("--ratio", `${picture.size[1]} / ${picture.size[0]}`);
    if (picture.thumbnail >= 0) node.append(make("img", { src: thumbnails[picture.thumbnail], alt: "" }));
    return node;
  }

  function card(entry, index) {
    const { picture, mistakes } = entry;
    if (!cards.has(picture)) {                           // the picture is decoded once, whatever the slider does
      const figure = make("figure"), button = stage("button", picture);
      button.type = "button";
      button.addEventListener("click", () => enlarge(Number(figure.dataset.index)));
      figure.append(button, make("figcaption"));
      cards.set(picture, figure);
    }
    const figure = cards.get(picture), button = figure.firstChild, caption = figure.lastChild;
    figure.dataset.index = index;
    button.setAttribute("aria-label", `Enlarge ${picture.name}, ${mistakes.length} mistakes`);
    button.querySelector("svg")?.remove();
    button.append(drawing(data, picture, mistakes, state.threshold, right.checked, 0));
    caption.replaceChildren(make("strong", {}, picture.name), summary(data, picture, mistakes));
    return figure;
  }

  function enlarge(index) {
    open = (index + shown.length) % shown.length;
    const { picture, mistakes } = shown[open], large = stage("div", picture);
    large.append(drawing(data, picture, mistakes, state.threshold, right.checked, mistakes.length > 15 ? 70 : 45));
    dialog.querySelector("[data-name]").textContent = `${picture.name} (${open + 1} of ${shown.length})`;
    dialog.querySelector("[data-large]").replaceChildren(large, make("ol", {}, ...mistakes.map((mistake) => make("li", {}, sentence(data, picture, mistake)))));
    if (!dialog.open) dialog.showModal();
  }

  function show() {
    const words = filters.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = [];
    for (const picture of data.pictures) {
      if (!words.every((word) => picture.name.toLowerCase().includes(word))) continue;
      const mistakes = mistakesIn(data, picture, state.threshold).filter(fits);
      if (mistakes.length) shown.push({ picture, mistakes });
    }
    const weight = weights[order.value];
    shown.sort((one, two) => (weight ? weight(two) - weight(one) : 0) || one.picture.name.localeCompare(two.picture.name, undefined, { numeric: true }));
    place.replaceChildren(...shown.slice(0, room).map(card));
    more.hidden = shown.length <= room;
    const total = shown.reduce((sum, entry) => sum + entry.mistakes.length, 0);
    const left = data.left_out ? ` Of ${data.left_out} more pictures nothing is shown here; analysis.json lists their mistakes.` : "";
    root.querySelector("[data-count]").textContent =
      `${total.toLocaleString("en-US")} mistakes in ${shown.length} pictures at a score of at least ${state.threshold.toFixed(3)}.${left}`;
  }

  const anew = () => { room = SHOWN_AT_ONCE; show(); };
  for (const input of [...Object.values(filters), order, right]) input.addEventListener("input", anew);
  more.addEventListener("click", () => { room += SHOWN_AT_ONCE; show(); });
  root.querySelector("[data-reset]").addEventListener("click", () => {
    for (const filter of Object.values(filters)) filter.value = "";
    anew();
  });
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  for (const button of dialog.querySelectorAll("[data-step]")) button.addEventListener("click", () => enlarge(open + Number(button.dataset.step)));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") enlarge(open - 1);
    if (event.key === "ArrowRight") enlarge(open + 1);
  });
  return { show, filters, anew };
}

function named(picture) {                                // the lists of the data with names for their columns
  picture.objects = picture.objects.map(([box, label, crowd, finder, path]) => ({ box, label, crowd, finder, path }));
  picture.found = picture.found.map(([box, label, score, state, iou, about, confused, path]) => (
    { box, label, score, state, iou, about, confused, path }));
}

function report(group, data) {
  data.pictures.forEach(named);
  const sections = [...document.querySelectorAll(`section[data-group="${group}"]`)];
  const all = (selector) => sections.flatMap((section) => [...section.querySelectorAll(selector)]);
  const [slider] = all("[data-slider]"), [number] = all("[data-number]"), [mistakes] = all("[data-mistakes]");
  const state = { threshold: data.best };
  const pictures = gallery(mistakes, data, state);
  let asked = 0;

  function show() {
    const numbers = numbersAt(data, state.threshold);
    for (const node of all("[data-live]")) {
      const value = numbers[node.dataset.live];
      node.textContent = told(value, node.dataset.format);
      if (node.dataset.value !== undefined) node.dataset.value = value;
    }
    for (const svg of all("svg[data-follows]")) {
      const [low, high, left, right] = svg.dataset.follows.split(" ").map(Number);
      const x = left + (Math.min(Math.max(state.threshold, low), high) - low) / (high - low) * (right - left);
      for (const line of svg.querySelectorAll(".marker")) { line.setAttribute("x1", x); line.setAttribute("x2", x); }
    }
    slider.setAttribute("aria-valuetext", state.threshold.toFixed(3));
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(pictures.show);
  }

  function choose(threshold, from) {
    if (!Number.isFinite(threshold)) return;
    state.threshold = threshold;
    if (from !== slider) slider.value = threshold;
    if (from !== number) number.value = threshold.toFixed(3);
    show();
  }

  slider.addEventListener("input", () => choose(Number(slider.value), slider));
  number.addEventListener("input", () => choose(number.valueAsNumber, number));
  for (const button of all("[data-best]")) button.addEventListener("click", () => choose(data.best));
  for (const button of all("button[data-labelled]")) {   // a cell of the matrix, which is of the best F1
    button.addEventListener("click", () => {
      for (const key of ["labelled", "predicted"]) pictures.filters[key].value = button.dataset[key];
      pictures.filters.kind.value = pictures.filters.words.value = "";
      choose(data.best);
      pictures.anew();
      mistakes.scrollIntoView({ block: "start" });
      pictures.filters.kind.focus({ preventScroll: true });
    });
  }
  for (const button of all("button[data-kind]")) {
    button.addEventListener("click", () => {
      for (const filter of Object.values(pictures.filters)) filter.value = "";
      pictures.filters.kind.value = button.dataset.kind;
      pictures.anew();
      mistakes.scrollIntoView({ block: "start" });
      pictures.filters.kind.focus({ preventScroll: true });
    });
  }
  show();
}

for (const controls of document.querySelectorAll("[data-matrix-controls]")) {
  controls.addEventListener("change", () => {
    const as = controls.querySelector("input:checked").value;
    for (const node of document.querySelectorAll(`#${controls.dataset.matrixControls} [data-count]`)) node.textContent = node.dataset[as];
  });
}
for (const script of document.querySelectorAll("script[id^='report-']")) report(script.id.slice("report-".length), JSON.parse(script.textContent));
