-- Decides one request at a time: keys and arguments as in mixed_head.lua.
local reply = {}

local function is_last(i) return ARGV[7 * i] ~= '' end

local function decide(first, last)
  local seen, spend, full, texts, of, differs = {0, 0, 0}, {false}, {}
  owner, has_override = ARGV[7 * last], nil

  for i = first, last do
    if per_key then
