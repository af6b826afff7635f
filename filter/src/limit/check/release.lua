-- Releases slots. Returns the number of slots that were held.
-- KEYS: the bucket of each slot. ARGV: the name of each slot: its owner, then its lease in µs.
local released = 0
for i, key in ipairs(KEYS) do released = released + redis.call('ZREM', key, ARGV[i]) end
return released
