-- Fixed window: a string of the window's start in µs and the tokens spent in it.
local function count(key, cost, start, finish)
  local since, used = string.match(redis.call('GET', key) or '', '(%S+) (%S+)')
  local kept = tonumber(since)
  used = tonumber(used) or 0
  if kept ~= start then since = nil end
  -- Spends the cost, or keeps the tokens spent so far if they are given.
  local function spend(spent)
    spent = spent or used + cost
    -- A state of this window expires as this window ends. To format its start and expiry costs a tenth of a call.
    if since then return redis.call('SET', key, since .. ' ' .. spent, 'KEEPTTL') end
    redis.call('SET', key, string.format('%.0f %.0f', start, spent), 'PX', math.ceil((finish - now) / 1000))
  end
  if kept and kept < start then
    used = 0
  elseif kept and kept > start then
    -- The clock was set back: tokens spent in a later window count in this window.
    spend(used)
  end
  return used, spend
end

look.f = function(key, cost, limit, window, phase)
  local start = now - (now + phase) % window
  return count(key, cost, start, start + window)
end
