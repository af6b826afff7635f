-- Renews a holder's leases, of those places that it still has. Returns how many.
-- KEYS: places. ARGV: the holder, then each place's lease in µs.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local renewed = 0
for i, key in ipairs(KEYS) do
  if (tonumber(redis.call('ZSCORE', key, ARGV[1])) or 0) > now then
    redis.call('ZADD', key, now + ARGV[i + 1], ARGV[1])
    redis.call('PEXPIRE', key, math.ceil(ARGV[i + 1] / 1000))
    renewed = renewed + 1
  end
end
return renewed
