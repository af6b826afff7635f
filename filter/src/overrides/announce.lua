-- Announcement script: keeps a change of the override of a key for the workers that decide without Redis.
--
-- KEYS: the hash of overrides.
-- ARGV: the mark, the limit and the key; the override, '' if it was removed; the number of fields beyond which no
-- change is added.
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) and not redis.call('HGET', KEYS[1], ARGV[1]) then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', time[1] * 1000000 + time[2]) .. ':' .. ARGV[2])
return 1
