-- A token bucket (GCRA): KEYS[1] holds the time, in microseconds, at which the bucket is full again.
-- ARGV: microseconds per token, microseconds to fill the bucket. Returns 1 if a token was taken, otherwise 0.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1])) or now, now) + ARGV[1]
if full - now > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], full, 'PX', math.ceil((full - now) / 1000))
return 1
