-- Renews the leases of slots that are still held. Returns the number of leases renewed.
-- KEYS: the bucket of each slot. ARGV: two for each slot: its owner, and its lease in µs.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local renewed = 0
for i, key in ipairs(KEYS) do
  local lease = ARGV[2 * i]
  local slot = ARGV[2 * i - 1] .. lease
  if (tonumber(redis.call('ZSCORE', key, slot)) or 0) > now then
    redis.call('ZADD', key, now + lease, slot)
    keep_slots(key, now)
    renewed = renewed + 1
  end
end
return renewed
