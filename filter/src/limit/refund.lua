-- Gives a request's tokens back, to those buckets that nobody spent from since. Returns to how many.
-- KEYS: buckets. ARGV: two for each: the theoretical arrival time that the request left, and the one to go back to.
local refunded = 0
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[2 * i - 1] then
    redis.call('SET', key, ARGV[2 * i], 'KEEPTTL')
    refunded = refunded + 1
  end
end
return refunded
