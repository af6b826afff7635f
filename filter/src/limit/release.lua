-- Gives a holder's places back. Returns how many it had.
-- KEYS: places. ARGV: the holder, then each place's lease in µs.
local released = 0
for i, key in ipairs(KEYS) do released = released + redis.call('ZREM', key, ARGV[1] .. ARGV[i + 1]) end
return released
