-- Refunds a request's tokens to each bucket from which no other request has spent since. Returns the number of buckets
-- refunded.
-- KEYS: token buckets. ARGV: five for each: the time of the spend in µs; the µs from then until the bucket would be
-- full; the units spent; the units of a token; and the units that flow in per µs.
local refunded = 0
for i, key in ipairs(KEYS) do
  local when, full_in, price, unit, speed = unpack(ARGV, 5 * i - 4, 5 * i)
  local state = redis.call('GET', key) or ''
  -- A longer state has parts of other configurations or of leases: its bucket is not refunded, and fills by itself.
  if #state == 32 then
    local at, spent, was, by = struct.unpack('>i8i8i8i8', state)
    if at == when + 0 and math.ceil(spent / speed) == full_in + 0 and was == unit + 0 and math.abs(by) == speed + 0 then
      redis.call('SET', key, struct.pack('>i8i8i8i8', at, spent - price, was, by), 'KEEPTTL')
      refunded = refunded + 1
    end
  end
end
return refunded
