-- Gives a holder's places back. KEYS: places. ARGV: the holder. Returns how many it had.
local released = 0
for _, key in ipairs(KEYS) do released = released + redis.call('ZREM', key, ARGV[1]) end
return released
