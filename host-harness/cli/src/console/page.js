// The page: asks for the state each second while it is visible, and shows it.
let state = null,
  opened = null,
  bucketState = null,
  timer = null,
  asking = false;

async function ask(path, options) {
  const response = await fetch(path, { credentials: "same-origin", signal: AbortSignal.timeout(30000), ...options });
  const body = await response.json().catch(() => ({ error: "status " + response.status }));
  if (!response.ok) throw Object.assign(new Error(body.error), { status: response.status });
  return body;
}
const post = (path, body, headers) =>
  ask(path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "content-type": "application/json", "x-weir-console": "1", ...headers },
  });

async function login(token) {
  await post("/api/login", {}, { authorization: "Bearer " + token });
  $("login").hidden = true;
}

$("login").addEventListener("submit", async event => {
  event.preventDefault();
  try {
    await login($("token").value.trim());
    $("token").value = "";
    refresh();
  } catch (failure) {
    alerts([["bad", failure.message]]);
  }
});

async function refresh() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    state = await ask("/api/state");
    $("login").hidden = true;
    $("main").hidden = false;
    show();
    await showBucket();
    $("main").classList.toggle("stale", !isFresh());
  } catch (failure) {
    $("main").classList.add("stale");
    if (failure.status === 401) {
      $("login").hidden = false;
      $("main").hidden = true;
      alerts([]);
    } else {
      const why = failure.status ? failure.message : "is `weir console` still running?";
      alerts([["bad", "The console does not answer: " + why]]);
      $("redis").className = "status down";
    }
  } finally {
    asking = false;
    if (!document.hidden) timer = setTimeout(refresh, 1000);
  }
}
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));

const isFresh = () => Boolean(state.redis && state.redis.is_connected);
const alerts = rows =>
  sync(
    $("alerts"),
    rows,
    ([kind, text]) => kind + text,
    ([kind]) => el("p", { class: kind }),
    (child, [, text]) => setText(child, text),
  );

function show() {
  const { redis, console: own } = state,
    now = state.now || own.time;
  setText($("redis"), !redis ? "connecting to Redis" : redis.is_connected ? redis.place : "Redis does not answer");
  $("redis").className = "status" + (!redis ? "" : redis.is_connected ? " up" : " down");
  $("mode").hidden = false;
  setText($("mode"), own.allows_changes ? "changes allowed" : "read-only");
  $("mode").className = own.allows_changes ? "badge on" : "badge";
  setText($("clock"), state.now ? (isFresh() ? "" : "as of ") + clock(state.now) + " by Redis' clock" : "");
  const limited = state.limited || { rows: [], total: 0 };
  document.title = (limited.total ? `(${limited.total}) ` : "") + "Weir console";
  alerts(troubles(now));
  sync(rowsOf("limits"), state.limits, idOf, makeLimit, showLimit);
  showRequests();
  showLimited(limited, now);
  showBudgets(state.budgets || { rows: [], total: 0 });
  const overrides = state.overrides || { rows: [], total: 0 };
  sync(rowsOf("overrides"), overrides.rows, idOf, makeOverride, showOverride);
  $("overrides").hidden = !overrides.rows.length;
  $("overrides-none").hidden = Boolean(overrides.rows.length) || !state.overrides;
  setText(
    $("overrides-note"),
    overrides.total > overrides.rows.length ? `${overrides.rows.length} of ${count(overrides.total)}` : "",
  );
  showFind();
  list($("sources"), sources());
}

const rowsOf = id => $(id).querySelector(".body");

function troubles(now) {
  const rows = [],
    { redis, metrics = [], events = [], requests } = state;
  if (redis && !redis.is_connected) {
    const as_of = state.now ? ` What follows is of ${clock(state.now)}.` : "";
    rows.push(["bad", `No answer of Redis since ${clock(redis.since)}: ${redis.error}.${as_of}`]);
  }
  for (const { url, error } of metrics) if (error) rows.push(["", `${url}: ${error}`]);
  for (const { stream, error, passed_over } of events) {
    if (error) rows.push(["", `events in ${stream}: ${error}`]);
    if (passed_over) rows.push(["", `events in ${stream} are more than this page reads: their figures are too low`]);
  }
  if (requests && requests.rates.failed > 0)
    rows.push([
      "bad",
      `${rate(requests.rates.failed)} requests per second fail: the failure mode decides them, not Redis`,
    ]);
  return rows;
}

function makeLimit(limit) {
  const sub = () => el("span", { class: "sub" });
  const target = { key_prefix: limit.key_prefix, limit: limit.limit, key: null };
  const row = el(
    "div",
    { class: "row" },
    el("div", {}, el("strong", { class: "key" }, limit.limit), sub(), sub()),
    el("div", { class: "n", "data-unit": " admitted/s" }),
    el("div", { class: "n", "data-unit": " denied/s" }),
    el("div"),
    el("div", {}, el("span", { class: "over" }), " "),
  );
  if (state.console.allows_changes && limit.has_overrides)
    row.lastChild.append(
      el("button", { class: "small", on: { click: () => askOverride(target) } }, "Set…"),
      " ",
      el("button", { class: "small remove", on: { click: () => askRemoval(target) } }, "Remove…"),
    );
  return row;
}

function showLimit(row, limit) {
  const figures = limit.figures,
    rates = figures ? figures.rates : {};
  const [name, admitted, denied, chart, over] = row.children;
  setText(name.children[1], limit.text);
  const others = [
    ["failed", "failed"],
    ["shadow_denied", "denied in shadow mode"],
    ["marked", "marked"],
    ["near", "near the limit"],
  ];
  setText(
    name.children[2],
    others
      .filter(([kind]) => rates[kind] > 0)
      .map(([kind, text]) => `${text} ${rate(rates[kind])}/s`)
      .join(" · "),
  );
  setText(admitted, rate(rates.admitted));
  setText(denied, rate(rates.denied));
  denied.classList.toggle("hot", rates.denied > 0);
  if (figures && figures.totals) {
    admitted.title = count(figures.totals.admitted) + " since the proxies started";
    denied.title = count(figures.totals.denied) + " since the proxies started";
  }
  spark(chart, figures, figures && figures.source === "events" ? state.now : state.console.time);
  setText(over.firstChild, limit.override ? limit.override.text : "");
  const remove = over.querySelector(".remove");
  if (remove) remove.hidden = !limit.override;
}

function showRequests() {
  const { requests, limits } = state;
  const has = source => limits.some(limit => limit.figures && limit.figures.source === source);
  let note = "";
  if (requests) {
    const { admitted, denied } = requests.rates;
    note = `all requests: ${rate(admitted)} admitted/s, ${rate(denied)} denied/s`;
    note += `; workers connected to Redis: ${count(requests.connected)}`;
  } else if (has("events")) note = "by events";
  else
    note = (state.metrics || []).length ? "no rates yet" : "no rates: start with --metrics URL, or configure events";
  setText($("limits-note"), note);
}

function showLimited({ rows, total }, now) {
  const body = rowsOf("limited");
  sync(
    body,
    steady(body, rows, idOf),
    idOf,
    row => {
      const open = el("button", { class: "link", on: { click: () => openBucket(row, true) } }, shownKey(row.key));
      return el(
        "div",
        { class: "row" },
        el("div", {}, open, el("span", { class: "sub" }, row.limit)),
        el("div", { class: "named", "data-label": "since" }, el("span"), el("span", { class: "sub" })),
        el("div", { class: "n", "data-unit": " denied, last minute" }),
        el("div", { class: "named", "data-label": "left" }),
        el("div", { class: "named", "data-label": "next request" }),
      );
    },
    (child, row) => {
      const [, since, denied, left, next] = child.children,
        { episode, peek } = row;
      setText(since.firstChild, clock(episode.since) + (episode.is_open ? " or earlier" : ""));
      setText(
        since.lastChild,
        (episode.is_open ? "at least " : "for ") +
          span(now - episode.since) +
          (now - episode.last > 3000 ? `, last ${span(now - episode.last)} ago` : ""),
      );
      setText(denied, row.denied_last_minute === null ? "–" : count(row.denied_last_minute));
      denied.classList.toggle("hot", row.denied_last_minute > 0);
      setText(
        left,
        peek ? peek.windows.map(window => `${count(window.remaining)} of ${count(window.capacity)}`).join(", ") : "–",
      );
      setText(next, peek ? peek.answer : "–");
    },
  );
  $("limited").hidden = !rows.length;
  setText($("limited-note"), total > rows.length ? `${rows.length} of ${count(total)}` : "");
  const isKnown = state.scan && (state.scan.completed || (state.events || []).some(({ error }) => !error));
  $("limited-none").hidden = rows.length > 0;
  setText($("limited-none"), isKnown ? "Nobody." : "Not known yet: " + scanText());
}

function makeOverride(row) {
  const target = { key_prefix: row.key_prefix, limit: row.limit, key: row.key };
  const open =
    row.exists && row.key !== null
      ? el("button", { class: "link", on: { click: () => openBucket(row, true) } }, shownKey(row.key))
      : el("span", { class: "key" }, shownKey(row.key));
  const child = el(
    "div",
    { class: "row" },
    el("div", {}, open, el("span", { class: "sub" }, row.limit + (row.exists ? "" : ": no such limit"))),
    el("div", { class: "over" }),
    el("div"),
  );
  if (state.console.allows_changes)
    child.lastChild.append(el("button", { class: "small", on: { click: () => askRemoval(target) } }, "Remove…"));
  return child;
}
const showOverride = (child, row) => setText(child.children[1], row.override.text);

function scanText() {
  const { scan } = state;
  if (!scan) return "Redis has not answered yet";
  if (scan.is_running) return `${count(scan.looked)} of ${count(scan.keys)} keys scanned`;
  return scan.completed
    ? `${count(scan.keys)} keys scanned at ${clock(scan.completed)}, in ${span(scan.took)}`
    : "the scan begins";
}

function sources() {
  const { metrics = [], events = [], console: own } = state;
  const counters = metrics.length
    ? metrics.map(({ url, error }) => `${url}${error ? " (no figures)" : ""}`).join(", ") +
      ", of all their workers; rates over 10 s"
    : "";
  const streams = events
    .filter(({ error }) => !error)
    .map(
      ({ stream, has_admitted, is_sample }) =>
        `stream ${stream} (${has_admitted ? "all decisions" : "denials only"}${is_sample ? ", a sample" : ""})`,
    )
    .join(", ");
  return [
    ["Limits", `${own.config}, read at the start`],
    ["Admitted, denied", counters || streams || "not available: no --metrics, and no events in the configuration"],
    [
      "Limited now",
      (streams ? streams + "; and " : "") +
        "a scan of the keys, then each of these buckets each second. " +
        scanText(),
    ],
    ["Denied, last minute", streams || "not available without events"],
    ["Last minutes of a bucket", "read by this console each second, while a page shows the bucket or it is limited"],
    ["Budgets", "the same scan, then each of these budgets each second: `weir budgets list` has all of them"],
    ["Overrides", "read in Redis: of limits each second, of keys by the scan"],
    ["Version", "weir " + own.version],
  ];
}

(async () => {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname);
    await login(token).catch(failure => alerts([["bad", failure.message]]));
  }
  refresh();
})();
