-- Deletes a bucket for an operator, and leaves the time: workers do not heal what they remember from before.
-- KEYS: the bucket, and its name with `#reset`. ARGV: the ms for which workers may remember a state of it.
local time, ttl = redis.call('TIME'), redis.call('PTTL', KEYS[1])
local deleted = redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], string.format('%.0f', time[1] * 1000000 + time[2]), 'PX', math.max(ttl, ARGV[1] + 0) + 1000)
return deleted
