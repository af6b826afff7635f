-- Slots of a concurrency limit: a slot's name is its owner's 16 bytes, then its lease in µs.
--
-- Returns the name of the slot whose lease ends last, and that end in µs.
local function last_slot(key)
  local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  return last[1], tonumber(last[2])
end

-- Lets the set expire when its last lease ends.
local function keep_slots(key, now)
  local _, ends = last_slot(key)
  redis.call('PEXPIRE', key, math.ceil((ends - now) / 1000))
end
