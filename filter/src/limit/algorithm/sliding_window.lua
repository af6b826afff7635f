-- Sliding window, approximate: a string of the window's start in µs, the tokens spent in it, and the tokens spent in
-- the window before. Both counts may exceed this limit, where another proxy has a larger limit: the estimate clamps
-- them, and the state keeps them.
look.s = function(key, cost, limit, window, tick)
  local start = now - now % window
  local since, current, before = string.match(redis.call('GET', key) or '', '(%S+) (%S+) (%S+)')
  local kept = tonumber(since)
  current, before = tonumber(current) or 0, tonumber(before) or 0
  if kept ~= start then since = nil end
  -- Spends the cost, or keeps the tokens spent so far if they are given.
  local function spend(spent)
    spent = spent or current + cost
    -- A state of this window expires as the next window ends.
    if since then return redis.call('SET', key, since .. ' ' .. spent .. ' ' .. before, 'KEEPTTL') end
    local state = string.format('%.0f %.0f %.0f', start, spent, before)
    redis.call('SET', key, state, 'PX', math.ceil((start + 2 * window - now) / 1000))
  end
  if kept and kept < start then
    current, before = 0, kept + window == start and current or 0
  elseif kept and kept > start then
    -- The clock was set back: tokens spent in a later window count in this window.
    spend(current)
  end
  local ticks = math.floor(window / tick)
  local weight = math.min(math.ceil((start + window - now) / tick), ticks)
  local used = math.min(current, limit) + math.ceil(math.min(before, limit) * weight / ticks)
  return used, spend, current, before
end
