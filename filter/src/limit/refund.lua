-- Gives a request's tokens back, to those buckets that nobody spent from since. Returns to how many.
-- KEYS: token buckets. ARGV: five for each: when the request spent, in how many µs after that the bucket would be full,
-- the units that it spent, the units of a token, and those that flow in per µs.
local refunded = 0
for i, key in ipairs(KEYS) do
  local when, full_in, price, unit, speed = unpack(ARGV, 5 * i - 4, 5 * i)
  local state = redis.call('GET', key) or ''
  -- What other configurations or leases have a part in is left to fill by itself.
  if #state == 32 then
    local at, spent, was, by = struct.unpack('>i8i8i8i8', state)
    if at == when + 0 and math.ceil(spent / by) == full_in + 0 and was == unit + 0 and by == speed + 0 then
      redis.call('SET', key, struct.pack('>i8i8i8i8', at, spent - price, was, by), 'KEEPTTL')
      refunded = refunded + 1
    end
  end
end
return refunded
