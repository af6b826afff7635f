-- Reads budgets for an operator, and changes nothing: see peek_head.lua. KEYS and ARGV: as in mixed_head.lua.
-- Returns now in µs, and for each budget its window and the window before, as its state has them, when reservations
-- whose leases have ended are charged.
local reply = {now}
for i, key in ipairs(KEYS) do
  local a = 7 * i - 6
  local kind, y = string.match(ARGV[a + 5], '(%l) (%d+)')
  local w, p = open_budget(key, kind, ARGV[a + 4] + 0, y + 0)
  reply[2 * i], reply[2 * i + 1] = join(w), join(p)
end
return reply
