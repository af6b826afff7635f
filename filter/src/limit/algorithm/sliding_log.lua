-- Sliding log (exact sliding window): a list of entries, the oldest first: the time in µs, the sum of all costs so far,
-- and the entry's own cost.
look.l = function(key, cost, limit, window)
  local function at(index)
    local time, sum, own = string.match(redis.call('LINDEX', key, index) or '', '(%d+) (%d+) (%d+)')
    return tonumber(time), tonumber(sum), tonumber(own)
  end
  local function push(sum, own)
    redis.call('RPUSH', key, string.format('%.0f %.0f %.0f', now, sum, own))
    redis.call('PEXPIRE', key, math.ceil(window / 1000))
  end
  -- Bisects for the first index from `low` to below `high` for whose entry `is` holds, else `high`. `is` holds for all
  -- entries after that.
  local function first(low, high, is)
    while low < high do
      local middle = math.floor((low + high) / 2)
      if is(at(middle)) then high = middle else low = middle + 1 end
    end
    return low
  end

  local newest, total, own = at(-1)
  local _
  if not newest then return 0, function() push(cost, cost) end end
  if newest > now then
    -- The clock was set back: costs of a later time count as spent now.
    local moved = 0
    while newest and newest > now do
      moved = moved + own
      redis.call('RPOP', key)
      newest, _, own = at(-1)
    end
    push(total, moved)
    newest = now
  end
  -- Number of entries that have left the window. Only a request that spends removes them.
  local gone = 0
  local function alive(time) return time > now - window end
  if not alive(at(0)) then gone = first(1, redis.call('LLEN', key), alive) end
  local function spend(sum)
    if gone > 0 then redis.call('LTRIM', key, gone, -1) end
    push(sum, cost)
  end
  local oldest, sum, own = at(gone)
  if not oldest then return 0, function() spend(cost) end end

  local base = sum - own
  local used, wait = total - base, 0
  if used + cost > limit and cost <= limit then
    local excess = used + cost - limit
    local last = gone + math.min(redis.call('LLEN', key) - gone, excess) - 1
    wait = at(first(gone, last, function(_, sum) return sum - base >= excess end)) + window - now
  end
  return used, function() spend(total + cost) end, wait, newest + window - now
end
