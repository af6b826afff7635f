-- State of a budget: a hash. `w`: the start of its window in µs, what is settled and what is reserved in it, and its
-- number, by which reservations name it; `p`: the window before, alike. Of a token bucket, `w` is the time of the last
-- write, the units spent, the tokens reserved, 0, the units of a token, and the units that flow in per µs.
-- Beside them, by the 16 bytes of its owner, each reservation: `O` for an open one, `L` for a lost one, whose lease has
-- ended, or `D` for one that was settled before it was made; then the amount reserved, the charge if it is lost, the
-- number of its window, and its end in µs. `n`: none ends earlier. `c`: the cursor of a sweep, and the earliest end seen.
-- `l`: the length of the ledger, and the key of its stream, as the last settlement had them.
local most, hour, max, min, ceil, floor = 2 ^ 53 - 1, 3600000000, math.max, math.min, math.ceil, math.floor

-- The ledger of a settlement.
local ledger

local function join(numbers)
  return string.format(string.rep('%.0f ', #numbers), unpack(numbers))
end

local function split(text)
  local numbers = {}
  for n in string.gmatch(text or '', '%d+') do numbers[#numbers + 1] = n + 0 end
  return numbers
end

-- Reads a budget, and sweeps reservations whose leases have ended. Returns its window and the window before, as above;
-- the current owner's reservation; a function that charges an amount, and ends the reservation of another, in the window
-- of a given number, and returns the start of that window and the change in it as the ledger has them; and a function
-- that writes the state, with a reservation of the current owner if it is given.
local function open_budget(key, kind, x, y)
  local read = redis.call('HMGET', key, 'w', 'p', 'n', 'c', 'l', owner or '')
  local w, p, n, c = split(read[1]), split(read[2]), tonumber(read[3]) or most, split(read[4])
  local start, over, stream = now, now, ledger or read[5] or ''
  if kind == 'q' then
    start, over = look.q(nil, 0, 0, x, y)
  elseif kind ~= 't' then
    start = now - (now + (kind == 's' and 0 or y)) % x
    over = start + 2 * x
  end
  local ahead = (w[1] or 0) - start
  if kind == 't' then
    local spent, unit = w[2] or 0, w[5] or x
    if unit ~= x then
      local tokens = floor(spent / unit)
      spent = min(tokens * x + ceil((spent - tokens * unit) * x / unit), most)
    end
    w = {now, max(spent - max(now - (w[1] or now), 0) * y, 0), w[3] or 0, 0, x, y}
  elseif not w[1] then
    w = {start, 0, 0, 0}
  elseif ahead > 0 then
    -- The clock was set back: what a later window has counts in this one.
    w[1] = start
    if p[1] then p[1] = max(p[1] - ahead, 0) end
  elseif ahead < 0 then
    p, w = w, {start, 0, 0, w[4] + 1}
  end

  local function charge(number, reserved, amount)
    local of = number == w[4] and w or number == w[4] - 1 and p
    local since = 0
    if of then
      local before = of[2]
      of[2], of[3] = max(min(before + amount * (w[5] or 1), most), 0), max(of[3] - reserved, 0)
      -- What a token bucket has drains, and is of no window.
      if kind ~= 't' then since, amount = of[1], of[2] - before end
    end
    return string.format('%.0f:%.0f', since, amount)
  end

  local function save(state, reservation)
    local ends, own = now, {}
    if reservation then
      ends, own = reservation[4], {owner, state .. join(reservation)}
      n = min(n, ends)
      if c[1] then c[2] = min(c[2], ends) end
    end
    redis.call('HSET', key, 'w', join(w), 'p', join(p), 'n', join({n}), 'c', join(c), 'l', stream, unpack(own))
    ends = ends + hour
    if kind == 't' then ends = ends + ceil((w[2] + w[3] * x) / y) end
    local millis = ceil((max(ends, over) - now) / 1000)
    if redis.call('PTTL', key) < millis then redis.call('PEXPIRE', key, millis) end
  end

  if n <= now then
    -- Large hashes are swept in steps. The owner's own reservation is left to its settlement.
    local cursor, all = unpack(redis.call('HSCAN', key, c[1] or 0, 'COUNT', 100))
    local soonest = c[2] or most
    for i = 1, #all, 2 do
      if #all[i] == 16 then
        local of = split(all[i + 1])
        if of[4] <= now and all[i] ~= owner then
          if string.sub(all[i + 1], 1, 1) == 'O' then
            local charged = charge(of[3], of[1], of[2])
            of[4] = now + hour
            local length, name = string.match(stream, '(%d+) (.+)')
            if name then
              local id = string.gsub(all[i], '.', function(c) return string.format('%02x', string.byte(c)) end)
              redis.pcall('XADD', name, 'MAXLEN', '~', length, '*', 'id', id, 'source', 'lost', 'key', key,
                'reserved', join({of[1]}), 'amounts', join({of[2]}), 'charged', charged)
            end
            redis.call('HSET', key, all[i], 'L' .. join(of))
          else
            redis.call('HDEL', key, all[i])
            of[4] = most
          end
        end
        soonest = min(soonest, of[4])
      end
    end
    n, c = now, {cursor + 0, soonest}
    if cursor == '0' then n, c = soonest, {} end
    save()
  elseif ahead > 0 then
    save()
  end
  return w, p, read[6], charge, save
end
