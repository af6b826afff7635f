
-- A slot's name is its owner's, of 16 bytes, and then its lease in µs. Returns that of the slot whose lease ends last,
-- and when it ends.
local function last_slot(key)
  local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  return last[1], tonumber(last[2])
end

-- Keeps the set until the last lease ends, whoever's that is.
local function keep_slots(key, now)
  local _, ends = last_slot(key)
  redis.call('PEXPIRE', key, math.ceil((ends - now) / 1000))
end
