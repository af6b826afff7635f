// Budgets: the keys of each limit with a charge that have spent most in the present window.
const shortDate = { dateStyle: "medium", timeStyle: "short" };
const budgetOf = row => JSON.stringify([idOf(row), row.window]);

function showBudgets({ rows, total }) {
  const isCharged = state.limits.some(limit => limit.has_charge),
    body = rowsOf("budgets");
  $("budgets-section").hidden = !isCharged;
  sync(body, steady(body, rows, budgetOf), budgetOf, makeBudget, showBudget);
  $("budgets").hidden = !rows.length;
  setText(
    $("budgets-note"),
    total > rows.length ? `${rows.length} of ${count(total)}, the most spent of each limit` : "",
  );
  $("budgets-none").hidden = rows.length > 0;
  const isKnown = state.scan && state.scan.completed;
  setText($("budgets-none"), isKnown ? "Nothing is spent." : "Not known yet: " + scanText());
}

function makeBudget(row) {
  const open = el("button", { class: "link", on: { click: () => openBucket(row, true) } }, shownKey(row.key));
  return el(
    "div",
    { class: "row" },
    el("div", {}, open, el("span", { class: "sub" }, row.window)),
    el("div", { class: "n", "data-unit": " used" }, el("span"), " ", el("small")),
    el("div", { class: "n", "data-unit": " held" }),
    el("div", { class: "n", "data-unit": " in all" }),
    el("div", { class: "named", "data-label": "resets at" }, el("span"), el("span", { class: "sub" })),
    el("div", { class: "named", "data-label": "soft limit" }),
  );
}

function showBudget(child, row) {
  const [, used, held, most, resets, soft] = child.children;
  setText(used.firstChild, row.used);
  setText(used.lastChild, row.share);
  setText(held, row.held);
  setText(most, row.max);
  const at = row.resets_at;
  setText(resets.firstChild, at === null ? "–" : new Date(at).toLocaleString([], shortDate));
  setText(resets.lastChild, at === null ? "flows back" : "in " + span(at - (state.now || state.console.time)));
  setText(soft, row.soft_limit_passed === null ? "–" : row.soft_limit_passed ? "passed" : "not passed");
  soft.classList.toggle("hot", row.soft_limit_passed === true);
}
