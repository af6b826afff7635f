
-- Token bucket: as token_bucket.lua. Cost and limit are in µs.
look.t = function(key, price, fill)
  local lack = math.max((tonumber(redis.call('GET', key)) or now) - now, 0)
  local function keep(lack)
    redis.call('SET', key, now + lack, 'PX', math.ceil(lack / 1000))
  end
  if lack > fill then
    lack = fill
    keep(lack)
  end
  return lack, function() keep(lack + price) end
end
