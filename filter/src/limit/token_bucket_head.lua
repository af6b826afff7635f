-- Decides requests, one after the other: spends from every bucket of a request, or from none.
--
-- KEYS: a bucket each; token_state.lua tells what it holds.
-- ARGV: four for each bucket: its room in units, which is its capacity and what flows in within the longest delay; what
--       the request costs, in units; the units of a token; and the sum of 1 where the limit is enforced (else it is in
--       shadow mode: decided, but denies nothing), of 2 at the last bucket of a request, and of 4 times the units that
--       flow in per µs.
-- Returns for each request now in µs, negative where denied; then how many units each of its buckets lacked of being
-- full before it. In place of these an error where it failed; a request that is alone fails as a whole.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reply = {}

local function is_last(i) return ARGV[4 * i] % 4 > 1 end

local function decide(first, last)
  local verdict, lacks = now, {}

  for i = first, last do
    local room, unit, flags, lack = ARGV[4 * i - 3] + 0, ARGV[4 * i - 1] + 0, ARGV[4 * i] + 0, 0
    local state = redis.call('GET', KEYS[i])
    if state then
      local at, spent, was, speed
      if #state == 32 then at, spent, was, speed = struct.unpack('>i8i8i8i8', state) end
      if was == unit and speed == (flags - flags % 4) / 4 and at <= now and spent <= room then
        lack = spent - (now - at) * speed
        if lack < 0 then lack = 0 end
      else
