-- Fixed window: a string of the window's start in µs and the tokens spent in it.
local function count(key, cost, start, finish)
  local kept, used = string.match(redis.call('GET', key) or '', '(%S+) (%S+)')
  kept, used = tonumber(kept) or start, tonumber(used) or 0
  local function keep(used)
    redis.call('SET', key, string.format('%.0f %.0f', start, used), 'PX', math.ceil((finish - now) / 1000))
  end
  if kept < start then
    used = 0
  elseif kept > start then
    -- The clock was set back: tokens spent in a later window count in this window.
    keep(used)
  end
  return used, function() keep(used + cost) end
end

look.f = function(key, cost, limit, window, phase)
  local start = now - (now + phase) % window
  return count(key, cost, start, start + window)
end
