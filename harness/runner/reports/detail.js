// All that is known of one test, made when it is opened.

function detail(attempts) {
  const [last, ...earlier] = attempts;
  const node = html("div", {}, ...sections(last));
  earlier.forEach((attempt, index) => {
    const number = earlier.length - index;
    const why = attempt.troubles[0]?.[2].split("\n").filter(Boolean).pop() ?? "";
    node.append(folded([`attempt ${number}: ${attempt.status} after ${inSeconds(attempt.seconds)} `, html("span", { class: "dim" }, plain(why))], () => html("div", { class: "attempt" }, ...sections(attempt))));
  });
  return node;
}

function sections(attempt) {
  const parts = [];
  if (attempt.reason) parts.push(html("p", {}, `${attempt.status}: ${plain(attempt.reason)}`));
  for (const [kind, text] of attempt.notes) parts.push(html("p", { class: "dim" }, plain(`${kind}: ${text}`)));
  if (attempt.ranks.length) parts.push(heading("Ranks over time"), ranksPicture(attempt.ranks), ...collectives(attempt.ranks));
  for (const [label, title, text] of attempt.troubles) parts.push(heading(plain(`${label}: ${title}`)), printed(text));
  parts.push(...output(attempt));
  parts.push(...attempt.ranks.flatMap(rankSection));
  return parts.length ? parts : [html("p", { class: "dim" }, "It printed nothing and had no ranks.")];
}

function heading(text) {
  return html("h3", {}, text);
}

function collectives(ranks) {
  const count = ranks.reduce((sum, rank) => sum + rank.collectives.length, 0);
  return count ? [folded([`${grouped(count)} collectives side by side`], () => collectivesTable(ranks))] : [];
}

function output(attempt) {
  const found = [["stdout", attempt.stdout], ["stderr", attempt.stderr]].filter(([, text]) => text);
  return found.flatMap(([name, text]) => [heading(attempt.ranks.length ? `${name} of the test's own process` : name), printed(text)]);
}

// Open for a rank that went wrong: that is what the reader came for.
function rankSection(rank) {
  const texts = [["stacks", rank.stacks], ["stdout", rank.stdout], ["stderr", rank.stderr]].filter(([, text]) => text);
  const bad = kindOf(rank.outcome) === "bad";
  const name = html("b", {}, `rank ${rank.rank} `);
  const ending = html("span", { class: `ending ${kindOf(rank.outcome)}` }, `${signOf(rank.outcome)} ${rank.outcome || "ended"} `);
  const told = html("span", { class: "dim" }, plain(rank.reason || (texts.length ? "" : "printed nothing")));
  if (!texts.length) return bad || rank.reason ? [html("p", {}, name, ending, told)] : [];
  return [folded([name, ending, told], () => html("div", { class: "attempt" }, ...texts.flatMap(([what, text]) => [html("p", { class: "dim" }, what), printed(text)])), bad)];
}

// A part that is made when it is unfolded.
function folded(title, make, open = false) {
  const node = html("details", {}, html("summary", {}, ...title));
  const unfold = () => {
    if (node.open && node.children.length === 1) node.append(make());
  };
  node.addEventListener("toggle", unfold);
  if (open) {
    node.open = true;
    unfold();
  }
  return node;
}
