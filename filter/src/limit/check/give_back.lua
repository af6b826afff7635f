-- Gives back what a request spent that other buckets denied. No bucket becomes fuller than it would be without the
-- request. Returns the number of buckets that were given back to.
-- KEYS: the buckets. ARGV: six for each: its algorithm's letter; the time of the spend in µs; the cost; the µs from the
-- spend until the bucket would be full; and two numbers of its algorithm: of a token bucket the units of a token,
-- negated if it delays requests, and the units that flow in per µs; of a sliding window its length in µs.
-- Beside a bucket is a log, `#given`: pairs of a time in µs and the units or tokens that were given back then, the last
-- 64.
local time = redis.call('TIME')
local now, given, max = time[1] * 1000000 + time[2], 0, math.max
for i, key in ipairs(KEYS) do
  local letter, when, cost, reset, x, y = unpack(ARGV, 6 * i - 5, 6 * i)
  local state, new, amount = letter ~= 'l' and redis.call('GET', key) or ''
  local name = key .. '#given'
  -- While its hash slot moves, the log may be on another node, which is an error.
  local log = redis.pcall('GET', name) or ''
  when = when + 0
  if letter == 'l' then
    local own
    for j = 1, 128 do
      local entry = redis.call('LINDEX', key, -j) or ''
      if tonumber(string.match(entry, '^(%d+) %d+ ' .. cost .. '$')) == when then own = j break end
    end
    if own then
      -- Entries behind the request's own have sums that include its cost.
      local behind, ttl = {}, redis.call('PTTL', key)
      for j = 1, own do behind[j] = redis.call('RPOP', key) end
      for j = own - 1, 1, -1 do
        local at, sum, its = string.match(behind[j], '(%d+) (%d+) (%d+)')
        redis.call('RPUSH', key, string.format('%s %.0f %s', at, sum - cost, its))
      end
      redis.call('PEXPIRE', key, max(ttl, 1))
      given, amount = given + 1, cost
    end
  elseif letter == 't' or letter == 'b' then
    local at, spent, was, by = -1
    if #state >= 32 then at, spent, was, by = struct.unpack('>i8i8i8i8', state) end
    -- A pair that begins with a negative number is the level of a smaller bucket.
    for j = 33, #state, 16 do
      if string.byte(state, j) > 127 then at = -1 end
    end
    local back = 0
    -- Requests may wait for tokens behind those of a request that was delayed.
    if type(log) == 'string' and was == x + 0 and math.abs(by) == y + 0 and at >= when
      and (was > 0 or at == when) then
      -- Tokens that have flowed in while the bucket would have been full are there only because of the request. It would
      -- have been full no sooner than it was to be without the cost, less what others have given back since. Where that
      -- is not known, as for leases, it may have been full all the time.
      local full = letter == 't' and when + reset - math.ceil(cost / y) - 1 or when
      for j = 1, #log, 16 do
        local its, units = struct.unpack('>i8i8', log, j)
        if its >= when then
          back = back + units
          if j == 1 and #log == 1024 then full = when end
        end
      end
      cost = cost - math.min((at - when) * y, max((at - full) * y + back, 0))
      if cost > 0 then
        new, amount = struct.pack('>i8i8i8i8', at, max(spent - cost, 0), was, by) .. string.sub(state, 33), cost
      end
    end
  else
    local since, used, before = string.match(state, '^(%S+) (%S+) ?(%S*)$')
    -- Without a state, no window begins early enough.
    local start = tonumber(since) or 2 ^ 53
    if start <= when then
      new, amount = string.format('%s %.0f %s', since, max(used - cost, 0), before), cost
    elseif letter == 's' and start - x <= when then
      new, amount = string.format('%s %s %.0f', since, used, max(before - cost, 0)), cost
    end
  end
  if new then
    redis.call('SET', key, new, 'KEEPTTL')
    given = given + 1
  end
  if amount and type(log) == 'string' then
    redis.call('SET', name, string.sub(log, -1008) .. struct.pack('>i8i8', now, amount), 'PX', 20000)
  end
end
return given
