
-- Concurrency: a sorted set of holders, by when their leases end.
look.c = function(key, cost, limit, lease)
  local held = redis.call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf')
  if held + cost > limit then
    -- The clock was set back, or leases were longer: from now on, none lasts longer than one that starts now.
    local longer = redis.call('ZRANGEBYSCORE', key, '(' .. string.format('%.0f', now + lease), '+inf')
    for _, other in ipairs(longer) do redis.call('ZADD', key, now + lease, other) end
  end
  return held, function()
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    redis.call('ZADD', key, now + lease, holder)
    redis.call('PEXPIRE', key, math.ceil(lease / 1000))
  end
end
