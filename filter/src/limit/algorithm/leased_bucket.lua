-- Leased token bucket: a token bucket of which a worker may lease tokens ahead. `asks` lists the units that flow in per
-- µs; the length of an epoch in µs; the tokens wanted; and for each lease to settle its end in µs, its used tokens and
-- its unused tokens. A lease is granted until the end of the next epoch.
look.b = function(key, price, room, unit, asks)
  local speed, length, want, settled = string.match(asks, '(%d+) (%d+) (%d+)(.*)')
  local lack, keep, leases = open(key, redis.call('GET', key) or '', room, unit, speed + 0, has_override, settled)
  local ends = (math.floor(now / length) + 2) * length
  local grant = math.max(math.min(want + 0, math.floor((room - lack - price) / (2 * unit))), 0)
  -- More than two leases come from configurations with different lengths of an epoch; they end within 2 min.
  if leases > 7 then grant = 0 end
  return lack, function() keep(price, grant > 0 and grant * unit, ends) end, grant, ends, grant > 0
end
