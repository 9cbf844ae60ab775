// The picture of a test: a lane for each rank, with its phases, its collectives and its end.

const PHASES = { start: "starting", "set-up": "set-up", body: "body", "tear-down": "tear-down", exit: "exiting" };
const GOOD = ["passed"];
const NEUTRAL = ["skipped", "ended", ""];
const PHASE_HEIGHT = 14;
const COLLECTIVE_HEIGHT = 9;
const MOST_ROWS = 3;
const MOST_TABLE_ROWS = 300;

function kindOf(outcome) {
  return GOOD.includes(outcome) ? "good" : NEUTRAL.includes(outcome) ? "neutral" : "bad";
}

function signOf(outcome) {
  return { good: "✓", neutral: "–", bad: "✗" }[kindOf(outcome)];
}

function ranksPicture(ranks) {
  const to = Math.max(...ranks.flatMap((rank) => [rank.ended ?? 0, ...rank.collectives.map(endOf(rank))]), 0);
  const lanes = ranks.map(laneOf);
  return picture({ label: `what ${ranks.length} ranks did over time`, lanes, to, about: legend(ranks), zooms: zoomToCollectives(ranks, to) });
}

const endOf = (rank) => ([, , , , began, ended, pending]) => ended ?? (pending ? Math.max(rank.ended ?? began, began) : began);

function laneOf(rank) {
  const phases = rank.phases.map(([name, from, to]) => ({
    from, to, kind: PHASES[name] ? name : "body",
    tip: [`${PHASES[name] ?? name}`, `${inMs(to - from)}, from ${inMs(from)} to ${inMs(to)}`],
  }));
  return {
    label: `rank ${rank.rank}`,
    note: rank.pid === null ? "thread" : `pid ${rank.pid}`,
    rows: [{ height: PHASE_HEIGHT, marks: phases }, ...collectiveRows(rank)],
    ending: { at: rank.ended, kind: kindOf(rank.outcome), sign: signOf(rank.outcome), text: rank.outcome || "ended", reason: rank.reason },
  };
}

// Collectives that run at the same time are drawn under each other, as far as there is room.
function collectiveRows(rank) {
  const rows = [];
  for (const mark of rank.collectives.map(collectiveMark(rank))) {
    let row = rows.find((one) => one.until <= mark.from);
    if (!row && rows.length < MOST_ROWS) rows.push((row = { height: COLLECTIVE_HEIGHT, marks: [], until: 0 }));
    row ??= rows[MOST_ROWS - 1];
    row.marks.push(mark);
    row.until = Math.max(row.until, mark.to);
  }
  return rows.length ? rows : [{ height: COLLECTIVE_HEIGHT, marks: [] }];
}

const collectiveMark = (rank) => (span) => {
  const [op, group, seq, shapes, began, ended, pending] = span;
  const to = endOf(rank)(span);
  const took = pending ? `not done after ${inMs(to - began)}` : ended === null ? "when it was done is not known" : `took ${inMs(ended - began)}`;
  const lines = [`${op}  #${seq}`, shapes, `group ${group}`, `issued at ${inMs(began)}, ${took}`];
  return { from: began, to, kind: pending ? "pending" : "collective", open: pending, tip: lines.filter(Boolean) };
};

function legend(ranks) {
  const swatch = (kind, text) => html("span", {}, svg("svg", { viewBox: "0 0 14 12", "aria-hidden": "true" }, svg("rect", { class: kind, width: 14, height: 12, rx: 2 })), text);
  const phases = Object.entries(PHASES).filter(([name]) => ranks.some((rank) => rank.phases.some((phase) => phase[0] === name)));
  const spans = ranks.flatMap((rank) => rank.collectives);
  const some = [spans.some((span) => !span[6]) && swatch("collective", "collective"), spans.some((span) => span[6]) && swatch("pending", "collective that never ended")];
  return html("div", { class: "legend picture" }, ...phases.map(([name, text]) => swatch(name, text)), ...some.filter(Boolean));
}

// A test that hung spent most of its time on nothing: what came before is worth a look from near.
function zoomToCollectives(ranks, to) {
  const spans = ranks.flatMap((rank) => rank.collectives.map((span) => [span[4], span[6] ? span[4] : endOf(rank)(span)]));
  if (!spans.length) return [];
  const from = Math.min(...spans.map(([began]) => began));
  const until = Math.max(...spans.map(([, ended]) => ended));
  const room = Math.max((until - from) * 0.05, to / 1000);
  return [{ text: "collectives", title: "zoom to the collectives", from: from - room, to: until + room }];
}

// Side by side, by group and number: where ranks part, a row is marked.
function collectivesTable(ranks) {
  const rows = new Map();
  ranks.forEach((rank, column) => {
    for (const span of rank.collectives) {
      const key = JSON.stringify([span[1], span[2]]);
      if (!rows.has(key)) rows.set(key, { group: span[1], seq: span[2], cells: ranks.map(() => []) });
      rows.get(key).cells[column].push(span);
    }
  });
  const all = [...rows.values()].sort((a, b) => (a.group < b.group ? -1 : a.group > b.group ? 1 : a.seq - b.seq));
  const shown = all.slice(-MOST_TABLE_ROWS);
  const head = html("tr", {}, ...["group", "#", ...ranks.map((rank) => `rank ${rank.rank}`)].map((text) => html("th", { scope: "col" }, text)));
  const table = html("table", { class: "collectives" }, html("thead", {}, head), html("tbody", {}, ...shown.map(tableRow)));
  const note = all.length > shown.length ? html("p", { class: "dim" }, `the last ${grouped(shown.length)} of ${grouped(all.length)}`) : null;
  return html("div", {}, note ?? "", html("div", { class: "scrolls", tabindex: "0" }, table));
}

function tableRow({ group, seq, cells }) {
  const told = new Set(cells.flat().map((span) => `${span[0]} ${span[3]}`));
  const row = html("tr", { class: told.size > 1 ? "differs" : null }, html("td", {}, plain(group)), html("td", {}, String(seq)));
  for (const spans of cells) {
    const pending = spans.some((span) => span[6]);
    const text = spans.map((span) => plain(`${span[0]} ${span[3]}${span[6] ? " …" : ""}`)).join(", ");
    row.append(html("td", { class: pending ? "is-pending" : text ? null : "missing" }, text || "–"));
  }
  return row;
}
