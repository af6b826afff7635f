-- Renews the leases of open reservations. Returns their number.
-- KEYS: the budget of each reservation. ARGV: three for each: its owner, its lease in µs, and the ms to keep the budget.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local renewed = 0
for i, key in ipairs(KEYS) do
  local owner, lease, millis = unpack(ARGV, 3 * i - 2, 3 * i)
  local own, n = unpack(redis.call('HMGET', key, owner, 'n'))
  local kept = string.match(own or '', '^O%d+ %d+ %d+ ')
  if kept then
    local ends = now + lease
    redis.call('HSET', key, owner, string.format('%s%.0f ', kept, ends), 'n', string.format('%.0f ', math.min(n, ends)))
    if redis.call('PTTL', key) < tonumber(millis) then redis.call('PEXPIRE', key, millis) end
    renewed = renewed + 1
  end
end
return renewed
