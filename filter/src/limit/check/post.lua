-- Spends what workers have admitted by themselves while they could not ask, whatever becomes of the other buckets: of a
-- token bucket as much of its cost as is left, of a window all of it. Returns the number of buckets.
-- KEYS and ARGV: as in mixed_head.lua.
for i, key in ipairs(KEYS) do
  local a = 7 * i - 6
  local cost, limit, x, y = ARGV[a + 2] + 0, ARGV[a + 3] + 0, ARGV[a + 4] + 0, tonumber(ARGV[a + 5])
  if ARGV[a] == 't' then cost = math.min(cost, limit - look.t(key, 0, limit, x, y)) end
  if cost > 0 then
    local _, pay = look[ARGV[a]](key, cost, limit, x, y)
    pay()
  end
end
return #KEYS
