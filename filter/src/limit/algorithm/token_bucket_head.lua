-- Decides requests for token buckets, one after the other: spends from every bucket of a request, or from none.
--
-- KEYS: the buckets; token_state.lua describes their states.
-- ARGV: four for each bucket: its capacity, followed by a space and the longest delay in µs if it delays requests; the
--       request's cost, at most one more than the capacity; the units of a token, negated if it delays requests; and
--       the sum of 1 where the limit is enforced (a limit in shadow mode is decided, but denies nothing), of 2 at the
--       last bucket of a request, and of 4 times the units that flow in per µs. In a call of one request may follow, for
--       each bucket, the text of its key's override that the caller has applied, empty for none.
-- Returns for each request now in µs, negative where denied; then the units that each of its buckets lacked of being
-- full before the request. A request that fails has an error in place of these; if it is the only request, the whole
-- script fails. A request whose caller has applied other overrides has an array in their place: for each bucket the
-- text of its key's override, empty for none, or nil where the caller has applied it or another bucket of the key has
-- the text.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local width, reply = 4, {}
-- Whether the caller has applied no override.
local is_plain_call = #ARGV == 4 * #KEYS

local function is_last(i) return ARGV[4 * i] % 4 > 1 end

local function decide(first, last)
  local verdict, lacks, after, texts, of, has_override, differs = now, {}, {}

  for i = first, last do
    local unit, flags, lack, room, price = ARGV[4 * i - 1] + 0, ARGV[4 * i] + 0, 0
    local speed = (flags - flags % 4) / 4
    if unit > 0 then
      room, price = ARGV[4 * i - 3] * unit, ARGV[4 * i - 2] * unit
    else
      local capacity, delay = string.match(ARGV[4 * i - 3], '(%d+) (%d+)')
      room, price = delay * speed - capacity * unit, ARGV[4 * i - 2] * -unit
      if price > capacity * -unit then price = room + 1 end
    end
    local state = redis.call('GET', KEYS[i])
    local at, spent, was, by
    if state and is_plain_call and #state == 32 then at, spent, was, by = struct.unpack('>i8i8i8i8', state) end
    -- A negated speed says that there is no override.
    if was == unit and (by == -speed or by == speed and not per_key) and at <= now and spent <= room then
      lack = spent - (now - at) * speed
      if lack < 0 then lack = 0 end
    else
      if per_key then
