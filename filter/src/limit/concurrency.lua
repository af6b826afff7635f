
-- Concurrency: a sorted set of slots, by when their leases end.
look.c = function(key, cost, limit, lease)
  local held = redis.call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf')
  if held + cost > limit then
    local slot, ends = last_slot(key)
    while slot do
      -- Slots of before they had their leases in their names have the longest.
      local latest = now + (tonumber(string.sub(slot, 17)) or 86400000000)
      if ends <= latest then break end
      -- The clock was set back: a slot that ends later than if it were taken now is taken now.
      redis.call('ZADD', key, latest, slot)
      slot, ends = last_slot(key)
    end
  end
  return held, function()
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    redis.call('ZADD', key, now + lease, owner .. lease)
    keep_slots(key, now)
  end
end
