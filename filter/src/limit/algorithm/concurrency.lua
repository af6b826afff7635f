-- Concurrency limit: a sorted set of slots, scored by the ends of their leases in µs.
look.c = function(key, cost, limit, lease)
  local held = redis.call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf')
  if held + cost > limit then
    local slot, ends = last_slot(key)
    while slot do
      -- A slot without a lease in its name was taken by an older version: it has the longest lease, 1 day.
      local latest = now + (tonumber(string.sub(slot, 17)) or 86400000000)
      if ends <= latest then break end
      -- The clock was set back: a slot that ends later than its own lease from now counts as taken now.
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
