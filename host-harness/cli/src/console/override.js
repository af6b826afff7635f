// Dialogue that sets or removes an override: first what, then a confirmation of what changes, then the result.
const WAYS = [
  ["blocked", "Block", "denies every request", []],
  ["unlimited", "Unlimited", "no check, no tokens", []],
  ["shadow", "Shadow mode", "checked and counted, never denied", []],
  ["max", "Number", "of a limit of one window", [["max", "100"]]],
  ["times", "Times", "factor of all numbers", [["times", "2"]]],
  [
    "rate",
    "Rate",
    "of the token bucket, and its burst",
    [
      ["rate", "100/60s"],
      ["burst", "burst"],
    ],
  ],
  ["quota", "Quota", "requests per calendar unit", [["quota", "500/day"]]],
];
const SPANS = [
  ["10m", "10 minutes"],
  ["1h", "1 hour"],
  ["4h", "4 hours"],
  ["24h", "1 day"],
  ["7d", "7 days"],
  ["", "until removed"],
];

function openDialog(title, ...body) {
  setText($("dialog-title"), title);
  $("dialog-body").replaceChildren(...body);
  if (!$("dialog").open) $("dialog").showModal();
}
const closeDialog = () => $("dialog").close();

function askOverride(target) {
  const inputs = {},
    error = el("p", { class: "error", role: "alert" });
  const choice = ([name, label, hint, fields], index) =>
    el(
      "div",
      { class: "choice" },
      el("label", {}, el("input", { type: "radio", name: "way", value: name, checked: index === 0 }), " " + label),
      el("small", {}, hint),
      ...fields.map(
        ([field, example]) =>
          (inputs[field] = el("input", {
            type: "text",
            placeholder: example,
            "aria-label": label + ": " + field,
            autocomplete: "off",
            on: {
              input: event => (event.target.closest(".choice").querySelector("input[type=radio]").checked = true),
            },
          })),
      ),
    );
  const lasting = el(
    "select",
    { id: "lasting" },
    ...SPANS.map(([value, label]) => el("option", { value, selected: value === "1h" }, label)),
  );
  const reason = el("input", { id: "reason", autocomplete: "off", maxlength: "200" });
  const by = el("input", { id: "by", autocomplete: "off", maxlength: "80" });
  by.value = remembered("by");
  const form = el(
    "form",
    {},
    el("p", { class: "key" }, target.limit + " · " + shownKey(target.key)),
    el("fieldset", {}, ...WAYS.map(choice)),
    el("div", { class: "line" }, el("label", { for: "lasting" }, "For"), lasting),
    el("div", { class: "line" }, el("label", { for: "reason" }, "Reason"), reason),
    el("div", { class: "line" }, el("label", { for: "by" }, "By"), by),
    error,
    el(
      "div",
      { class: "fields" },
      el("button", { type: "button", on: { click: closeDialog } }, "Cancel"),
      el("button", { class: "primary" }, "Continue"),
    ),
  );
  form.addEventListener("submit", event => {
    event.preventDefault();
    const way = form.querySelector("input[name=way]:checked").value;
    const change = { action: "set", key_prefix: target.key_prefix, limit: target.limit, key: target.key };
    const fields = WAYS.find(([name]) => name === way)[3];
    if (!fields.length) change.word = way;
    for (const [field] of fields) if (inputs[field].value.trim()) change[field] = inputs[field].value.trim();
    if (fields.length && !change[fields[0][0]]) return setText(error, "expected a value for " + fields[0][0]);
    for (const [name, input] of [
      ["lasting", lasting],
      ["reason", reason],
      ["by", by],
    ])
      if (input.value.trim()) change[name] = input.value.trim();
    remember("by", by.value.trim());
    confirmChange(change, error, () => openDialog("Set an override", form));
  });
  openDialog("Set an override", form);
}

const askRemoval = target =>
  confirmChange({ action: "unset", key_prefix: target.key_prefix, limit: target.limit, key: target.key });

async function confirmChange(change, error, back) {
  let preview;
  try {
    preview = await post("/api/preview", change);
  } catch (failure) {
    if (error) return setText(error, failure.message);
    return openDialog("Remove an override", el("p", { class: "error" }, failure.message), closing());
  }
  const isSet = change.action === "set",
    failed = el("p", { class: "error", role: "alert" });
  const confirm = el(
    "button",
    { class: "danger", id: "confirm", type: "button" },
    isSet ? "Set override" : "Remove override",
  );
  confirm.addEventListener("click", async () => {
    confirm.disabled = true;
    try {
      const { done, notes } = await post("/api/change", change);
      openDialog(
        "Done",
        el("p", { id: "done" }, done.trim()),
        ...notes
          .trim()
          .split("\n")
          .map(note => el("p", { class: "dim" }, note)),
        closing(),
      );
      refresh();
    } catch (failure) {
      setText(failed, failure.message);
      confirm.disabled = false;
    }
  });
  const after = isSet ? preview.text : preview.now ? "no override: as configured" : "no override";
  openDialog(
    isSet ? "Set this override?" : "Remove this override?",
    el(
      "div",
      { class: "change" },
      el("span", { class: "key" }, preview.target),
      el("strong", {}, after),
      el("span", { class: "dim" }, "now: " + (preview.now || "no override")),
    ),
    ...preview.notes.map(note => el("p", { class: "dim" }, note)),
    failed,
    el(
      "div",
      { class: "fields" },
      el("button", { type: "button", on: { click: back || closeDialog } }, back ? "Back" : "Cancel"),
      confirm,
    ),
  );
}

const closing = () =>
  el(
    "div",
    { class: "fields" },
    el("button", { class: "primary", type: "button", on: { click: closeDialog } }, "Close"),
  );

// The operator's name stays in this browser.
function remembered(name) {
  try {
    return localStorage.getItem("weir-console-" + name) || "";
  } catch {
    return "";
  }
}
function remember(name, value) {
  try {
    localStorage.setItem("weir-console-" + name, value);
  } catch {
    /* not allowed: typed again */
  }
}
