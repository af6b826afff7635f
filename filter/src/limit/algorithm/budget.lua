-- Budget: a fixed window (`f`), a calendar period (`d` of a fixed length, else `q`), an approximate sliding window (`s`)
-- or a token bucket (`t`) whose requests reserve an estimate, and settle what they have cost. `more` lists the kind, its
-- second number, the lease in µs, the estimate, and the charge if the reservation is lost.
look.r = function(key, cost, limit, x, more)
  local kind, y, lease, estimate, lost = string.match(more, '(%l) (%d+) (%d+) (%d+) (%d+)')
  y = y + 0
  local w, p, own, _, save = open_budget(key, kind, x, y)
  local unit, before = w[5] or 1, 0
  local spent = w[2]
  local used = min(spent + w[3] * unit, most)
  if kind == 's' and p[1] and p[1] + x == w[1] then
    local ticks = floor(x / y)
    local weight = min(ceil((w[1] + x - now) / y), ticks)
    local function part(n)
      n = min(n, limit)
      local whole = floor(n / ticks)
      return whole * weight + ceil((n - whole * ticks) * weight / ticks)
    end
    before = min(p[2] + p[3], limit)
    spent, used = min(spent, limit) + part(p[2]), min(used, limit) + part(before)
  end
  return used, function()
    -- A settlement has overtaken its request.
    if own then return end
    local amount = min(estimate + 0, floor((limit - used) / unit))
    w[3] = w[3] + amount
    save('O', {amount, min(lost + 0, amount), w[4], now + lease})
  end, min(spent, limit), before, true
end
