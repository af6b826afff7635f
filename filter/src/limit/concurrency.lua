
-- Concurrency: a sorted set of places, by when their leases end.
look.c = function(key, cost, limit, lease)
  local held = redis.call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf')
  if held + cost > limit then
    local place, ends = last_place(key)
    while place do
      -- Places of before they had their leases in their names have the longest.
      local latest = now + (tonumber(string.sub(place, 17)) or 86400000000)
      if ends <= latest then break end
      -- The clock was set back: a place that ends later than if it were taken now is taken now.
      redis.call('ZADD', key, latest, place)
      place, ends = last_place(key)
    end
  end
  return held, function()
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    redis.call('ZADD', key, now + lease, holder .. lease)
    keep_places(key, now)
  end
end
