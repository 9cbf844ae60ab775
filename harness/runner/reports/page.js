// The list: what is shown, in which order, and which test is open. The address says it too:
// ?status=failed&text=ddp&sort=-seconds#the.name.of.a.test

const rows = Array.from(document.querySelectorAll("tr.test"));
const body = rows[0]?.parentNode;
const byKey = new Map(rows.map((row) => [row.dataset.key, row]));
const searched = rows.map((row) => row.querySelector(".name").textContent.toLowerCase());
rows.forEach((row, index) => (row.searched = `${searched[index]} ${row.dataset.key.toLowerCase()}`));
const filters = document.getElementById("filters");
const statuses = Array.from(filters.querySelectorAll("button[data-status]"));
const heads = Array.from(document.querySelectorAll("th[data-sort]"));
const input = document.getElementById("text");
const none = document.getElementById("none");
const MANY_MS = 20000;
const wanted = { status: "", text: "", sort: "" };
let details = null; // a line of JSON for each test; parsed when it is opened

function detailsOf(row) {
  details ??= document.getElementById("details-data").textContent.split("\n");
  return JSON.parse(details[rows.indexOf(row)]);
}

function isWanted(row) {
  const { status, text } = wanted;
  if (status === "flaky" ? !("flaky" in row.dataset) : status && row.dataset.status !== status) return false;
  return text.toLowerCase().split(/\s+/).every((word) => row.searched.includes(word));
}

function filter() {
  let shown = 0;
  for (const row of rows) {
    row.hidden = !isWanted(row);
    shown += !row.hidden;
    if (row.opened) row.opened.hidden = row.hidden;
  }
  for (const button of statuses) button.setAttribute("aria-pressed", String(button.dataset.status === wanted.status));
  document.getElementById("shown").textContent = shown === rows.length ? `${grouped(shown)} tests` : `${grouped(shown)} of ${grouped(rows.length)} tests`;
  if (none) none.hidden = shown > 0;
}

const VALUES = {
  status: (row) => ["failed", "unfinished", "flaky", "skipped", "passed"].indexOf("flaky" in row.dataset ? "flaky" : row.dataset.status),
  name: (row) => row.dataset.key,
  seconds: (row) => Number(row.dataset.seconds),
  ranks: (row) => Number(row.dataset.ranks),
  worker: (row) => Number(row.dataset.worker),
};

function sort() {
  const down = wanted.sort.startsWith("-");
  const column = wanted.sort.replace("-", "");
  const value = Object.hasOwn(VALUES, column) ? VALUES[column] : null;
  const order = value ? rows.map((row) => [value(row), row]) : [];
  order.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
  const sorted = value ? order.map(([, row]) => row) : rows;
  body?.append(...sorted.flatMap((row) => (row.opened ? [row, row.opened] : [row])));
  for (const head of heads) {
    if (head.dataset.sort !== column) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }
}

// First by what is likely looked for, then the other way round, then as the tests were planned.
function sortBy(column) {
  const first = ["seconds", "ranks"].includes(column) ? `-${column}` : column;
  const second = first.startsWith("-") ? column : `-${column}`;
  wanted.sort = wanted.sort === first ? second : wanted.sort === second ? "" : first;
  sort();
  remember();
}

function open(row, scroll) {
  if (!row.opened) {
    row.opened = html("tr", { class: "detail" }, html("td", { colspan: heads.length }, detail(detailsOf(row))));
    row.after(row.opened);
    row.classList.add("open");
    row.querySelector("a").setAttribute("aria-expanded", "true");
  }
  row.hidden = row.opened.hidden = false;
  if (scroll) row.scrollIntoView({ block: "start" });
}

function close(row) {
  row.opened.remove();
  row.opened = null;
  row.classList.remove("open");
  row.querySelector("a").setAttribute("aria-expanded", "false");
  hideTip();
}

function toggle(row) {
  if (row.opened) close(row);
  else open(row, false);
  remember(row.opened ? row : null);
}

function remember(row) {
  const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value)).toString();
  const hash = row === undefined ? location.hash : row ? hashOf(row) : "";
  try {
    history.replaceState(null, "", `${location.pathname}${query ? `?${query}` : ""}${hash}`);
  } catch {
    // Some places (a sandboxed frame) do not let a page change its address; it works all the same.
  }
}

function hashOf(row) {
  return row.querySelector("a").getAttribute("href");
}

function fromAddress() {
  const query = new URLSearchParams(location.search);
  for (const name of Object.keys(wanted)) wanted[name] = query.get(name) ?? "";
  input.value = wanted.text;
  filter();
  if (wanted.sort) sort();
  openFromHash();
}

function openFromHash() {
  let key = location.hash.slice(1);
  try {
    key = decodeURIComponent(key);
  } catch {
    return; // not an address that this page has given
  }
  const row = byKey.get(key);
  if (row) open(row, true);
}

function choose(status, text = wanted.text) {
  Object.assign(wanted, { status, text });
  input.value = text;
  filter();
  remember();
}

function overview() {
  const { ms, bars } = JSON.parse(document.getElementById("overview-data").textContent);
  if (bars.length < 2) return;
  const workers = [...new Set(bars.map((bar) => bar[1]))].sort((a, b) => a - b);
  const lanes = workers.map((worker) => ({
    label: worker ? `worker ${worker}` : "runner",
    rows: [{ height: 18, marks: bars.filter((bar) => bar[1] === worker).map(barMark).sort(failedLast) }],
  }));
  const to = Math.max(ms ?? 0, ...bars.map((bar) => bar[3] ?? 0));
  const section = document.getElementById("overview");
  const unit = to > MANY_MS ? SECONDS : MILLISECONDS;
  section.append(picture({ label: "the tests of each worker over time", lanes, to, unit, about: html("span", {}, "a bar is a test; click to open it, drag to zoom") }));
  section.hidden = false;
}

function barMark([index, , from, to, status]) {
  const row = rows[index];
  const tip = [row.querySelector(".own").textContent, row.querySelector(".owner").textContent, `${status} after ${inMs(to - from)}`];
  const run = () => {
    open(row, true);
    remember(row);
    row.querySelector("a").focus({ preventScroll: true });
  };
  return { from, to, kind: status, tip, run };
}

function failedLast(a, b) {
  return (a.kind === "failed") - (b.kind === "failed") || a.from - b.from;
}

for (const button of statuses) button.addEventListener("click", () => choose(button.dataset.status));
for (const head of heads) {
  const button = head.querySelector("button");
  button.disabled = false;
  button.addEventListener("click", () => sortBy(head.dataset.sort));
}
none?.querySelector("button").addEventListener("click", () => choose("", ""));
input.addEventListener("input", () => choose(wanted.status, input.value));
filters.addEventListener("submit", (event) => event.preventDefault());
body?.addEventListener("click", (event) => {
  const row = event.target.closest("tr.test");
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey || String(getSelection())) return;
  event.preventDefault();
  toggle(row);
});
addEventListener("hashchange", openFromHash);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target === input || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  input.focus();
});
for (const row of rows) row.querySelector("a").setAttribute("aria-expanded", "false");
filters.hidden = !rows.length;
overview();
fromAddress();
