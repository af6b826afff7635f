
-- Leased token bucket: a string of when it would be full if whatever is leased came back; an epoch; and how much was
-- leased in that epoch, and in the one before, and is not settled. Cost and limit are in µs. `asks` is how long an
-- epoch is, how many tokens are wanted, and of each epoch to settle its number, and how many were used and were not.
look.b = function(key, price, fill, emission, asks)
  local max, min, floor = math.max, math.min, math.floor
  local length, want, settled = string.match(asks, '(%d+) (%d+)(.*)')
  length = tonumber(length)
  local this = floor(now / length)
  local full_at, epoch, current, before = string.match(redis.call('GET', key) or '', '(%d+) (%d+) (%d+) (%d+)')
  full_at, epoch = tonumber(full_at) or now, tonumber(epoch) or this
  local leased = {tonumber(current) or 0, tonumber(before) or 0}
  local function out() return leased[1] + leased[2] end
  local function keep()
    local full = out() > 0 and max(full_at, (this + 2) * length) + out() or full_at
    local state = string.format('%.0f %.0f %.0f %.0f', full_at, this, leased[1], leased[2])
    redis.call('SET', key, state, 'PX', max(math.ceil((full - now) / 1000), 1))
  end

  while epoch < this and out() > 0 do
    epoch = epoch + 1
    -- Leases of the epoch before end here, as if used up just now.
    full_at = max(full_at, epoch * length) + leased[2]
    leased[1], leased[2] = 0, leased[1]
  end
  -- Where the clock was set back, that counts from now on.
  local changed = epoch > this
  for of, used, unused in string.gmatch(settled, '(%d+) (%d+) (%d+)') do
    local i = this - of + 1
    if (leased[i] or 0) > 0 then
      used = min(used * emission, leased[i])
      leased[i] = leased[i] - used - min(unused * emission, leased[i] - used)
      full_at, changed = max(full_at, now) + used, true
    end
  end
  -- Its limit was larger, or the clock was set back: it is empty, and fills from now on.
  local latest = now + max(fill - out(), 0)
  if full_at > latest then full_at, changed = latest, true end
  if changed then keep() end

  local lack = max(full_at - now, 0) + out()
  local grant = max(min(tonumber(want), floor((fill - lack - price) / (2 * emission))), 0)
  return lack, function()
    full_at, leased[1] = max(full_at, now) + price, leased[1] + grant * emission
    keep()
  end, grant, this, grant > 0
end
