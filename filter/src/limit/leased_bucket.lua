
-- Leased token bucket: as a token bucket, and a worker may take tokens ahead. `asks` is how many units flow in per µs;
-- how long an epoch is; how many tokens are wanted; and of each lease to settle when it ends, and how many of its
-- tokens were used and were not. A lease is granted until the end of the next epoch.
look.b = function(key, price, room, unit, asks)
  local speed, length, want, settled = string.match(asks, '(%d+) (%d+) (%d+)(.*)')
  local lack, keep, leases = open(key, redis.call('GET', key) or '', room, unit, speed + 0, settled)
  local ends = (math.floor(now / length) + 2) * length
  local grant = math.max(math.min(want + 0, math.floor((room - lack - price) / (2 * unit))), 0)
  -- More of them are of lengths that many configurations have; they end soon.
  if leases > 7 then grant = 0 end
  return lack, function() keep(price, grant > 0 and grant * unit, ends) end, grant, ends, grant > 0
end
