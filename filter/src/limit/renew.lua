-- Renews a holder's leases, of those places that it still has. Returns how many.
-- KEYS: places. ARGV: the holder, then each place's lease in µs.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local renewed = 0
for i, key in ipairs(KEYS) do
  local lease = ARGV[i + 1]
  local place = ARGV[1] .. lease
  if (tonumber(redis.call('ZSCORE', key, place)) or 0) > now then
    redis.call('ZADD', key, now + lease, place)
    keep_places(key, now)
    renewed = renewed + 1
  end
end
return renewed
