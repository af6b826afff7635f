-- Sliding window, approximate: a string of the window's start in µs, the tokens spent in it, and the tokens spent in
-- the window before. Both counts may exceed this limit, where another proxy has a larger limit: the estimate clamps
-- them, and the state keeps them.
look.s = function(key, cost, limit, window, tick)
  local start = now - now % window
  local kept, current, before = string.match(redis.call('GET', key) or '', '(%S+) (%S+) (%S+)')
  kept, current, before = tonumber(kept) or start, tonumber(current) or 0, tonumber(before) or 0
  local function keep(current)
    local state = string.format('%.0f %.0f %.0f', start, current, before)
    redis.call('SET', key, state, 'PX', math.ceil((start + 2 * window - now) / 1000))
  end
  if kept < start then
    current, before = 0, kept + window == start and current or 0
  elseif kept > start then
    -- The clock was set back: tokens spent in a later window count in this window.
    keep(current)
  end
  local ticks = math.floor(window / tick)
  local weight = math.min(math.ceil((start + window - now) / tick), ticks)
  local used = math.min(current, limit) + math.ceil(math.min(before, limit) * weight / ticks)
  return used, function() keep(current + cost) end, current, before
end
