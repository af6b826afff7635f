-- Token bucket, as in token_bucket_head.lua. `price` and `room` are in units, of which `unit` are a token (negated if
-- the bucket delays requests) and `speed` flow in per µs.
look.t = function(key, price, room, unit, speed)
  local state = redis.call('GET', key) or ''
  local lack, keep, at, spent, was, by = 0
  if #state == 32 then at, spent, was, by = struct.unpack('>i8i8i8i8', state) end
  if was == unit and (by == -speed or by == speed) and at <= now and spent <= room and not has_override then
    lack = math.max(spent - (now - at) * speed, 0)
  elseif state ~= '' or has_override then
    lack, keep = open(key, state, room, unit, speed, has_override)
  end
  return lack, function()
    if keep then return keep(price) end
    spent = lack + price
    state = struct.pack('>i8i8i8i8', now, spent, unit, per_key and -speed or speed)
    redis.call('SET', key, state, 'PX', math.ceil(spent / speed / 1000))
  end
end
