-- Settles a request's reservations by what it has cost. It may be sent again: a settled reservation is no more there.
-- KEYS and ARGV: as in mixed_head.lua, with what the request has cost in place of the cost, in place of the group 1
-- where it is unknown whether the request has reserved anything, and in place of the limit the least settled amount of a
-- window that has an event, or 0. The key of the stream of events and its length may follow, and for a ledger the fields
-- of an entry.
-- Returns a letter for each budget: `O` where the request has cost no more than it had reserved, `V` where it has cost
-- more, `L` where its lease had ended, `D` where it had reserved nothing, and `-` where nothing was to be settled; then
-- `!` where the stream has refused an entry. Beside the state of a budget, `s` is the number of the last window that has
-- an event.
owner = ARGV[7 * #KEYS]
local results, reserved, changes, first, refused = '', '', '', 7 * #KEYS + 1, ''
ledger = ARGV[first + 2] and ARGV[first + 1] .. ' ' .. ARGV[first]

local function add(...)
  local added = redis.pcall('XADD', ARGV[first], 'MAXLEN', '~', ARGV[first + 1], '*', ...)
  if type(added) == 'table' then refused = '!' end
  return type(added) ~= 'table'
end

for i, key in ipairs(KEYS) do
  local a, result, charged = 7 * i - 6, '-', ''
  local cost, kind, y = ARGV[a + 2] + 0, string.match(ARGV[a + 5], '(%l) (%d+)')
  local w, p, own, charge, save = open_budget(key, kind, ARGV[a + 4] + 0, y + 0)
  local amount, lost, number = unpack(split(own))
  local letter, is_unknown = own and string.sub(own, 1, 1), ARGV[a + 1] == '1'
  if letter == 'O' or letter == 'L' then
    result, reserved = letter, reserved .. string.format('%.0f ', amount)
    local open, due, excess = amount, cost, max(cost - amount, 0)
    if letter == 'L' then
      open, due = 0, cost - lost
    elseif excess > 0 then
      result = 'V'
    end
    if kind == 't' then
      -- What has drained since cannot be given back.
      due = max(due, 0)
    elseif kind == 'f' or kind == 's' then
      -- In the window of its request, it may no longer hold anything back.
      charged, due = charge(w[4], 0, excess) .. ',', due - excess
    end
    charged = charged .. charge(number, open, due)
    save()
    redis.call('HDEL', key, owner)
  elseif not own and is_unknown then
    result, reserved = 'D', reserved .. '0 '
    charged = charge(w[4], 0, cost)
  end
  -- Without a mark, the settlement would find nothing when it is sent again, and charge in full.
  if is_unknown and result ~= '-' then save('D', {0, 0, 0, now + 2 * hour}) end
  results, changes = results .. result, changes .. charged .. ' '
  local soft = ARGV[a + 3] + 0
  if soft > 0 and result ~= '-' then
    for _, of in ipairs({p, w}) do
      if of[1] and of[2] >= soft and of[4] > (tonumber(redis.call('HMGET', key, 's')[1] or '') or -1) then
        if add('source', 'soft_limit', 'key', key, 'settled', string.format('%.0f', of[2]), 'soft_limit', ARGV[a + 3]) then
          redis.call('HSET', key, 's', of[4])
        end
      end
    end
  end
end
if ledger and string.find(results, '%u') then
  add('reserved', reserved, 'outcome', results, 'charged', changes, unpack(ARGV, first + 2))
end
return results .. refused
