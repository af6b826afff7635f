-- Token bucket state: big-endian integers of 8 bytes each: the time of the last write, in µs of this Redis' clock; the
-- units that were spent then and had not flowed back; the writer's units of a token, negated where it delays requests;
-- and the writer's units that flow in per µs, negated where the writer has read that the key has no override. Only then
-- is a request decided without reading the override.
-- Pairs may follow: a smaller bucket's room, negated, and the units spent of that bucket; and the ends of leases, in
-- order, each with the units that are leased until then. Pairs that begin with 0 are reserved for later versions.
-- An earlier version wrote the time at which the bucket would be full: a decimal number of µs.
--
-- Reads a state as that of a bucket of `room` units, `q` of which are a token, and `p` of which flow in per µs.
-- `has_override` says whether the key has an override. `settled` lists leases to settle: the end of each in µs, its
-- used tokens and its unused tokens.
-- Returns the units that the bucket lacks of being full; a function that spends units, and leases more until a given
-- time; and the number of leases. Units that a denied request finds spent beyond the room stay spent, for larger
-- buckets.
local max, min, ceil, floor, most = math.max, math.min, math.ceil, math.floor, 2 ^ 52

local function open(key, state, room, q, p, has_override, settled)
  local at, spent, was, speed, changed = now, 0, q, p, false
  local leases, out, unit, delays, narrow, view = {}, 0, q, false
  q = math.abs(q)
  -- Converts the writer's units to units of this rate: a token that is spent stays a token.
  local function units(of, round)
    if was == q then return of end
    local tokens = floor(of / was)
    return min(tokens * q + round((of - tokens * was) * q / was), most)
  end

  if #state < 32 or string.byte(state) > 0 then
    spent = min(max((tonumber(state) or now) - now, 0) * p, most)
    changed, was = spent > room, q
  else
    at, spent, was, speed = struct.unpack('>i8i8i8i8', state)
    if was < 0 then was, delays = -was, true end
    if speed < 0 then speed = -speed end
    -- The clock was set back: the state counts as written now, and leases end as much sooner.
    local ahead = max(at - now, 0)
    at, spent, changed = at - ahead, units(spent, ceil), ahead > 0
    for i = 33, #state - 15, 16 do
      local first, second = struct.unpack('>i8i8', state, i)
      if first < 0 then
        narrow, view = units(-first, floor), units(second, ceil)
      elseif first > 0 then
        leases[#leases + 1] = {first - ahead, units(second, ceil)}
        out = out + leases[#leases][2]
      end
    end
  end

  -- A bucket that holds less counts as empty at the last write, not as overdrawn. Tokens for which held requests wait
  -- stay reserved.
  local lack = spent
  if not delays then
    lack = min(lack, max(room - out, 0))
    if narrow then lack = min(lack, view + max(room - narrow, 0)) end
  end
  -- A lease ends as if its tokens were used at its end.
  local function age(lack, room)
    local since = at
    for i = 1, #leases do
      local lease = leases[i]
      if lease[1] <= now then
        lack = min(max(lack - max(lease[1] - since, 0) * p, 0) + lease[2], room)
        since = max(since, lease[1])
      end
    end
    return max(lack - (now - since) * p, 0)
  end
  spent, lack, view = age(spent, most), age(lack, delays and most or room), narrow and age(view, narrow)
  while leases[1] and leases[1][1] <= now do out = out - table.remove(leases, 1)[2] end
  -- A full bucket is as one whose key has expired.
  if spent == 0 and out == 0 then narrow, view, delays = nil, nil, false end
  if not delays then lack = min(lack, max(room - out, 0)) end

  local function spend(units)
    spent, lack, view = min(spent + units, most), lack + units, narrow and min(view + units, narrow)
  end
  local function millis()
    local full = spent / p
    if out > 0 then full = max(full, leases[#leases][1] - now) + out / p end
    return max(ceil(full / 1000), 1)
  end
  local function keep(price, granted, ends, heals)
    spend(price)
    if granted then
      local i = 1
      while leases[i] and leases[i][1] < ends do i = i + 1 end
      if not leases[i] or leases[i][1] > ends then table.insert(leases, i, {ends, 0}) end
      leases[i][2], out = leases[i][2] + granted, out + granted
    end
    if lack < spent then narrow, view = room, lack end
    delays = delays and (heals or spent + out > room)
    local state = struct.pack('>i8i8i8i8', now, spent, delays and -q or unit, per_key and not has_override and -p or p)
    if narrow and view < spent then
      state = state .. struct.pack('>i8i8', -narrow, view)
    else
      narrow = nil
    end
    for _, lease in ipairs(leases) do state = state .. struct.pack('>i8i8', lease[1], lease[2]) end
    redis.call('SET', key, state, 'PX', millis())
  end

  if settled and settled ~= '' then
    for ends, used, unused in string.gmatch(settled, '(%d+) (%d+) (%d+)') do
      for i, lease in ipairs(leases) do
        if lease[1] == ends + 0 then
          used = min(used * q, lease[2])
          unused = min(unused * q, lease[2] - used)
          lease[2], out, changed = lease[2] - used - unused, out - used - unused, true
          if lease[2] == 0 then table.remove(leases, i) end
          spend(used)
          break
        end
      end
    end
  end
  if changed then
    keep(0, nil, nil, true)
  elseif speed * q > p * was and redis.call('PTTL', key) < millis() then
    -- The writer's rate is faster: the key would expire before the bucket is full at this rate.
    redis.call('PEXPIRE', key, millis())
  end
  return min(lack + out, room), keep, #leases
end
