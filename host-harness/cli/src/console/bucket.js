// The state of one bucket: found by the values of its key, or opened from a table.
function showFind() {
  const select = $("find-limit"),
    before = select.value;
  sync(
    select,
    state.limits,
    idOf,
    limit => el("option", { value: idOf(limit) }, limit.limit),
    () => {},
  );
  if (select.value !== before || !$("find-values").children.length) showValues();
}
$("find-limit").addEventListener("change", showValues);

function showValues() {
  const limit = state.limits.find(it => idOf(it) === $("find-limit").value);
  const hashed = limit ? limit.hashed_values || [] : [];
  $("find-values").replaceChildren(
    ...hashed.map((isHashed, index) =>
      el("input", {
        required: false,
        autocomplete: "off",
        placeholder: (hashed.length > 1 ? `value ${index + 1}` : "key") + (isHashed ? ", hashed here" : ""),
        "aria-label": `value ${index + 1}`,
      }),
    ),
  );
}

$("find").addEventListener("submit", async event => {
  event.preventDefault();
  const limit = state.limits.find(it => idOf(it) === $("find-limit").value);
  try {
    openBucket(
      await post("/api/find", {
        limit: limit.limit,
        values: [...$("find-values").children].map(input => input.value),
      }),
    );
    setText($("find-note"), "");
  } catch (failure) {
    setText($("find-note"), failure.message);
  }
});

function openBucket({ key_prefix, limit, key }, scrolls) {
  opened = { key_prefix, limit, key };
  bucketState = null;
  $("bucket-state").hidden = false;
  setText($("bucket-name"), `${limit} · ${shownKey(key)}`);
  list($("bucket-facts"), [["State", "…"]]);
  $("bucket-charts").replaceChildren();
  const isOnly =
    (state.limits.find(it => it.key_prefix === key_prefix && it.limit === limit)?.hashed_values || [0]).length === 0;
  const target = isOnly ? { ...opened, key: null } : opened;
  $("bucket-actions").replaceChildren(
    ...(state.console.allows_changes
      ? [
          el("button", { id: "set", on: { click: () => askOverride(target) } }, "Set override…"),
          el("button", { id: "unset", on: { click: () => askRemoval(target) } }, "Remove override…"),
        ]
      : [
          el(
            "span",
            { class: "dim" },
            "read-only: overrides are changed with weir limits, or after a start with --allow-changes",
          ),
        ]),
  );
  if (scrolls) $("bucket").scrollIntoView({ block: "start" });
  showBucket();
}

async function showBucket() {
  if (!opened) return;
  const asked = opened;
  const text = Object.entries(asked)
    .map(([name, value]) => name + "=" + encodeURIComponent(value))
    .join("&");
  let answer;
  try {
    answer = await ask("/api/bucket?" + text);
  } catch (failure) {
    return list($("bucket-facts"), [["State", failure.message]]);
  }
  if (asked !== opened || !answer.bucket) return;
  bucketState = answer.bucket;
  drawBucket();
}
addEventListener("resize", () => bucketState && drawBucket());

function drawBucket() {
  const { peek, episode, samples, denials, now } = bucketState;
  if (!peek) return list($("bucket-facts"), [["State", "no bucket of this limit under its key"]]);
  const left = window =>
    `${count(window.remaining)} of ${count(window.capacity)}` +
    (window.full_in_us ? `, full in ${span(window.full_in_us / 1000)}` : "");
  const remove = $("unset");
  if (remove) remove.hidden = !peek.override;
  list($("bucket-facts"), [
    ...peek.windows.map(window => [peek.windows.length > 1 ? window.algorithm : "Left", left(window)]),
    ["Next request", peek.answer],
    [
      "Limited",
      episode
        ? `since ${clock(episode.since)}${episode.is_open ? " or earlier" : ""}, ${span(now - episode.since)}`
        : "no",
    ],
    ["Override", peek.override ? peek.override.text : "none"],
    ["Configured", peek.configured],
  ]);
  const charts = $("bucket-charts");
  sync(
    charts,
    peek.windows.map((window, index) => [window, index]),
    ([, index]) => "chart" + index,
    () => el("div", {}, el("p", { class: "dim" }), el("div")),
    (child, [window, index]) => {
      const since = samples.at.length ? `; read each second since ${clock(samples.at[0])}` : "";
      setText(child.firstChild, `Left: ${window.algorithm}${index ? "" : since}`);
      levels(child.lastChild, samples, index, index ? null : denials, now);
    },
  );
}
