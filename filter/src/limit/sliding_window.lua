
-- Sliding window, approximate: a string of the window's start, what was spent in it, and in the one before.
look.s = function(key, cost, limit, window, tick)
  local start = now - now % window
  local kept, current, before = string.match(redis.call('GET', key) or '', '(%S+) (%S+) (%S+)')
  kept = tonumber(kept) or start
  current, before = math.min(tonumber(current) or 0, limit), math.min(tonumber(before) or 0, limit)
  local function keep(current)
    local state = string.format('%.0f %.0f %.0f', start, current, before)
    redis.call('SET', key, state, 'PX', math.ceil((start + 2 * window - now) / 1000))
  end
  if kept < start then
    current, before = 0, kept + window == start and current or 0
  elseif kept > start then
    -- The clock was set back: what was spent later was spent now.
    keep(current)
  end
  local ticks = math.floor(window / tick)
  local weight = math.min(math.ceil((start + window - now) / tick), ticks)
  return current + math.ceil(before * weight / ticks), function() keep(current + cost) end, current, before
end
