-- Gives back what a request spent that other buckets denied. No bucket becomes fuller than it would be without the
-- request. Returns the number of buckets that were given back to.
-- KEYS: the buckets. ARGV: six for each: its algorithm's letter; the time of the spend in µs; the cost; for a token
-- bucket the time in µs at which it would have been full without the request, and the units of a token, negated if it
-- delays requests, and the units that flow in per µs; for a sliding window a number and its length in µs.
local time = redis.call('TIME')
local now, given, max = time[1] * 1000000 + time[2], 0, math.max
for i, key in ipairs(KEYS) do
  local letter, when, cost, full, x, y = unpack(ARGV, 6 * i - 5, 6 * i)
  local state, new = letter ~= 'l' and redis.call('GET', key) or ''
  if letter == 'l' then
    local own
    for j = 1, 128 do
      local entry = redis.call('LINDEX', key, -j) or ''
      if string.match(entry, '^(%d+) %d+ ' .. cost .. '$') == when then own = j break end
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
      given = given + 1
    end
  elseif letter == 't' or letter == 'b' then
    local at, spent, was, by = -1
    if #state >= 32 then at, spent, was, by = struct.unpack('>i8i8i8i8', state) end
    -- A pair that begins with a negative number is the level of a smaller bucket.
    for j = 33, #state, 16 do
      if string.byte(state, j) > 127 then at = -1 end
    end
    -- Tokens that have flowed in since the bucket would have been full are there only because of the request.
    cost = cost - max(now - full, 0) * y
    -- Requests may wait for tokens behind those of a request that was delayed.
    if was == x + 0 and math.abs(by) == y + 0 and at >= when + 0 and (was > 0 or at == when + 0) and cost > 0 then
      new = struct.pack('>i8i8i8i8', at, max(spent - cost, 0), was, by) .. string.sub(state, 33)
    end
  else
    local since, used, before = string.match(state, '^(%S+) (%S+) ?(%S*)$')
    -- Without a state, no window begins early enough.
    local start = tonumber(since) or 2 ^ 53
    if start <= when + 0 then
      new = string.format('%s %.0f %s', since, max(used - cost, 0), before)
    elseif letter == 's' and start - x <= when + 0 then
      new = string.format('%s %s %.0f', since, used, max(before - cost, 0))
    end
  end
  if new then
    redis.call('SET', key, new, 'KEEPTTL')
    given = given + 1
  end
end
return given
