-- Gives slots back. KEYS: slots. ARGV: the name of each: its owner, and then its lease in µs. Returns how many were held.
local released = 0
for i, key in ipairs(KEYS) do released = released + redis.call('ZREM', key, ARGV[i]) end
return released
