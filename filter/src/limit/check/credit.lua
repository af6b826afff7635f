-- Gives back what was spent of a key's budgets, for an operator. It may be sent again: for a day it leaves a mark in each
-- budget, by its owner, with the amount that was given back.
-- KEYS and ARGV: as in mixed_head.lua, with the amount in place of the cost, or -1 for all that was spent; and in place
-- of the group the start of the window in µs, or 0 for the present one. For a ledger, the key of its stream, its length
-- and the fields of an entry follow.
-- Returns for each budget the amount that was given back: no more than was spent. Reservations stay as they are.
owner = ARGV[7 * #KEYS]
local given, amounts, changes, saves, first = {}, '', '', {}, 7 * #KEYS + 1
ledger = ARGV[first] and ARGV[first + 1] .. ' ' .. ARGV[first]
for i, key in ipairs(KEYS) do
  local a = 7 * i - 6
  local since, amount, x = ARGV[a + 1] + 0, ARGV[a + 2] + 0, ARGV[a + 4] + 0
  local kind, y = string.match(ARGV[a + 5], '(%l) (%d+)')
  local w, p, own, charge, save = open_budget(key, kind, x, y + 0)
  local total, charged = own and split(own)[1] or 0, {}
  local function give_back(of, number)
    local spent = (of[2] or 0) / (w[5] or 1)
    local back = amount < 0 and ceil(spent) or min(floor(spent), amount)
    if back > 0 then
      charged[#charged + 1], total = charge(number, 0, -back), total + back
    end
  end
  if not own then
    if since == 0 or since == w[1] then give_back(w, w[4]) end
    -- All that an approximate sliding window counts.
    if since > 0 and since == p[1] or amount < 0 and kind == 's' and p[1] and p[1] + x == w[1] then
      give_back(p, w[4] - 1)
    end
    if total > 0 then saves[#saves + 1] = function() save('D', {total, 0, 0, now + 24 * hour}) end end
  end
  given[i], amounts = string.format('%.0f', total), amounts .. string.format('%.0f ', -total)
  changes = changes .. table.concat(charged, ',') .. ' '
end
if saves[1] and ARGV[first] then
  -- A ledger that refuses the entry keeps the amounts as they are.
  redis.call('XADD', ARGV[first], 'MAXLEN', '~', ARGV[first + 1], '*', 'amounts', amounts, 'charged', changes,
    unpack(ARGV, first + 2))
end
for _, save in ipairs(saves) do save() end
return given
