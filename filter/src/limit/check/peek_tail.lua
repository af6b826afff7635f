-- Peeks into all buckets, with the keys and arguments of mixed_head.lua. Returns now in µs; then three numbers for each
-- bucket: the used part of its limit, and two results of the algorithm.
local reply = {now}

for i, key in ipairs(KEYS) do
  local a = 7 * i - 6
  local cost, limit = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local used, _, x, y = look[ARGV[a]](key, cost, limit, tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]) or ARGV[a + 5])
  reply[3 * i - 1], reply[3 * i], reply[3 * i + 1] = math.min(used, limit), x or 0, y or 0
end

return reply
