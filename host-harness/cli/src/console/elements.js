// Elements of the page. Every text is set as text: nothing is parsed as markup.
const $ = id => document.getElementById(id);

function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "on")
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

function setText(element, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

// Makes the children of an element those of the items: each keeps its element, so that focus and selection stay.
function sync(parent, items, keyOf, make, update) {
  const old = new Map([...parent.children].map(child => [child.dataset.key, child]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = old.get(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    old.delete(key);
    update(child, item);
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  for (const child of old.values()) child.remove();
}

// Keeps the order of rows while somebody points at them.
function steady(body, items, keyOf) {
  if (!body.matches(":hover") && !body.contains(document.activeElement)) return items;
  const places = new Map([...body.children].map((child, place) => [child.dataset.key, place]));
  const place = item => (places.has(keyOf(item)) ? places.get(keyOf(item)) : Infinity);
  return items
    .map((item, index) => [place(item), index, item])
    .sort((one, other) => one[0] - other[0] || one[1] - other[1])
    .map(entry => entry[2]);
}

const list = (element, pairs) =>
  sync(
    element,
    pairs.flatMap(([name, text], row) => [
      ["dt", name, row],
      ["dd", text, row],
    ]),
    ([kind, , row]) => kind + row,
    ([kind]) => el(kind),
    (child, [, text]) => setText(child, text),
  );

function rate(number) {
  if (number === null || number === undefined) return "–";
  if (number === 0) return "0";
  if (number < 0.1) return "< 0.1";
  return number < 10 ? number.toFixed(1) : Math.round(number).toLocaleString("en-US");
}

const count = number => Number(number).toLocaleString("en-US");

function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const pair = (unit, name, less, other) => {
    const rest = Math.floor((seconds % unit) / less);
    return Math.floor(seconds / unit) + " " + name + (rest ? " " + rest + " " + other : "");
  };
  if (seconds < 60) return seconds + " s";
  if (seconds < 3600) return pair(60, "min", 1, "s");
  if (seconds < 86400) return pair(3600, "h", 60, "min");
  return pair(86400, "d", 3600, "h");
}

const two = number => String(number).padStart(2, "0");
function clock(milliseconds) {
  const at = new Date(milliseconds);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
}

const shownKey = key => (key === null ? "every key" : key === "" ? "(all)" : key);
const idOf = row => JSON.stringify([row.key_prefix, row.limit, row.key]);
