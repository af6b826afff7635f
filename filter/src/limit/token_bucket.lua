-- Spends from every bucket in KEYS, or from none.
--
-- KEYS: a bucket each, holding its theoretical arrival time (TAT) in µs of this Redis' clock.
-- ARGV: three for each bucket: the time in µs that it takes to fill when empty, and the longest delay; what the
--       request costs in µs; and 1 where the limit is enforced (0: shadow mode, which is decided but denies nothing).
-- Returns now in µs, negative where denied; then how many µs each bucket lacked of being full before the request.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reply = {now}
local fits = {}

for i, key in ipairs(KEYS) do
  local fill, price = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
  local lack = math.max((tonumber(redis.call('GET', key)) or now) - now, 0)
  if lack > fill then
    -- Its limit was larger, or the clock was set back: it is empty, and fills from now on.
    lack = fill
    redis.call('SET', key, now + lack, 'PX', math.ceil(lack / 1000))
  end
  reply[i + 1] = lack
  fits[i] = lack + price <= fill
  if not fits[i] and ARGV[3 * i] == '1' then reply[1] = -now end
end

if reply[1] > 0 then
  for i, key in ipairs(KEYS) do
    local price = tonumber(ARGV[3 * i - 1])
    if fits[i] and price > 0 then
      local lack = reply[i + 1] + price
      redis.call('SET', key, now + lack, 'PX', math.ceil(lack / 1000))
    end
  end
end

return reply
