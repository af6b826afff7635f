-- Decides requests, one after the other: spends from every bucket of a request, or from none.
--
-- KEYS: a bucket each, holding its theoretical arrival time (TAT) in µs of this Redis' clock.
-- ARGV: three for each bucket: the time in µs that it takes to fill when empty, and the longest delay; what the
--       request costs in µs; and the sum of 1 where the limit is enforced (else it is in shadow mode: decided, but
--       denies nothing) and of 2 at the last bucket of a request.
-- Returns for each request now in µs, negative where denied; then how many µs each of its buckets lacked of being full
-- before it. In place of these an error where it failed; a request that is alone fails as a whole.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reply = {}

local function is_last(i) return ARGV[3 * i] + 0 > 1 end

local function decide(first, last)
  local verdict, lacks = now, {}

  for i = first, last do
    local fill = ARGV[3 * i - 2] + 0
    local lack = (tonumber(redis.call('GET', KEYS[i])) or now) - now
    if lack < 0 then lack = 0 end
    if lack > fill then
      -- Its limit was larger, or the clock was set back: it is empty, and fills from now on.
      lack = fill
      redis.call('SET', KEYS[i], now + lack, 'PX', math.ceil(lack / 1000))
    end
    lacks[i] = lack
    if lack + ARGV[3 * i - 1] > fill and ARGV[3 * i] % 2 == 1 then verdict = -now end
  end

  for i = first, last do
    local spent = lacks[i] + ARGV[3 * i - 1]
    if verdict > 0 and spent > lacks[i] and spent <= ARGV[3 * i - 2] + 0 then
      redis.call('SET', KEYS[i], now + spent, 'PX', math.ceil(spent / 1000))
    end
  end

  local n = #reply
  reply[n + 1] = verdict
  for i = first, last do reply[n + 2 + i - first] = lacks[i] end
end
