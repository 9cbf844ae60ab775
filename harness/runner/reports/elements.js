// Making elements. Text is only ever set as text: nothing that a test said can become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function grouped(number, digits = 0) {
  return number.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function inMs(ms) {
  if (ms === null) return "?";
  return `${grouped(ms, ms < 10 ? 3 : ms < 1000 ? 1 : 0)} ms`;
}

function inSeconds(seconds) {
  return seconds === null ? "?" : `${grouped(seconds, seconds < 10 ? 3 : 1)} s`;
}

// What a terminal would have coloured is coloured; other control characters are shown for what
// they are.
const COLOURS = /\x1b\[([\d;]*)m/;
const CONTROLS = /([\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+)/u;
const MANY = 5000; // elements for more pieces of a text than that would make a page slow

function printed(text) {
  const pre = html("pre", { tabindex: "0" });
  let classes = new Set();
  let parts = text.replace(/\r+\n/g, "\n").split(COLOURS);
  if (parts.length > MANY) parts = [parts.filter((_, index) => index % 2 === 0).join("")];
  parts.forEach((part, index) => {
    if (index % 2) classes = coloured(classes, part);
    else if (part) pre.append(...inClasses(classes, withMarkedControls(part)));
  });
  return pre;
}

function coloured(classes, codes) {
  const next = new Set(classes);
  for (const code of codes.split(";").map(Number)) {
    if (code === 0) next.clear();
    else if (code === 1) next.add("bold");
    else if (code === 22) next.delete("bold");
    else if ((code >= 30 && code <= 37) || code === 39 || (code >= 90 && code <= 97)) {
      for (const name of next) if (name !== "bold") next.delete(name);
      if (code !== 39) next.add(`c${code % 10}`);
    }
  }
  return next;
}

function inClasses(classes, nodes) {
  return classes.size ? [html("span", { class: [...classes].join(" ") }, ...nodes)] : nodes;
}

function withMarkedControls(text) {
  const parts = text.split(CONTROLS);
  if (parts.length > MANY) return [plain(text)];
  return parts.map((part, index) => (index % 2 ? html("span", { class: "control" }, plain(part)) : part));
}

// The text with a sign for each character that cannot be seen.
function plain(text) {
  return text.replace(new RegExp(CONTROLS, "gu"), (run) => Array.from(run, signFor).join(""));
}

function signFor(character) {
  const code = character.charCodeAt(0);
  return code < 0x20 ? String.fromCharCode(0x2400 + code) : `\\u${code.toString(16).padStart(4, "0")}`;
}
