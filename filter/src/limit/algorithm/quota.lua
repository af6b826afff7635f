-- Quota of calendar months. `month` counts from January of the year 0; the calculations within count from its March.
-- Without a key it returns the start of the period and the end of the next.
look.q = function(key, cost, limit, offset, months)
  local floor, day = math.floor, 86400000000
  local function first_of(month)
    month = month - 2
    local y = floor(month / 12)
    local days = 365 * y + floor(y / 4) - floor(y / 100) + floor(y / 400) + floor((153 * (month % 12) + 2) / 5)
    return (days - 719468) * day - offset
  end
  local days = floor((now + offset) / day) + 719468
  local d = days % 146097
  local y = floor((d - floor(d / 1460) + floor(d / 36524) - floor(d / 146096)) / 365)
  d = d - 365 * y - floor(y / 4) + floor(y / 100)
  local month = (floor(days / 146097) * 400 + y) * 12 + floor((5 * d + 2) / 153) + 2
  local first = month - month % months
  if not key then return first_of(first), first_of(first + 2 * months) end
  return count(key, cost, first_of(first), first_of(first + months))
end
