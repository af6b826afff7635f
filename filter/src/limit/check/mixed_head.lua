-- Decides requests for limits of any algorithms, one after the other: looks into every bucket of a request, then spends
-- from all or from none.
--
-- KEYS: the buckets.
-- ARGV: seven for each bucket: its algorithm's letter; its group (0: the enforced limits; each shadow limit is a group
--       of its own); the cost; the limit; two arguments of the algorithm: numbers, or a string; and at the last bucket
--       of a request the owner of the request's slots, elsewhere an empty string. In a call of one request may follow,
--       for each bucket, the text of its key's override that the caller has applied, empty for none.
-- Returns for each request now in µs, negative where denied; then three numbers for each of its buckets: the used part
-- of its limit, and two results of the algorithm. A request that fails has an error in place of these; if it is the
-- only request, the whole script fails. A request whose caller has applied other overrides has an array in their place:
-- for each bucket the text of its key's override, empty for none, or nil where the caller has applied it or another
-- bucket of the key has the text.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local width = 7
-- Owner of the slots that the current request takes, and whether the current bucket's key has an override.
local owner, has_override
-- Functions by algorithm letter: (key, cost, limit, two arguments) -> used, a function that spends, two results,
-- whether to spend even if the cost is 0. The table has room for all from the start: each growth costs 1 % of a call.
local look = {t = 0, b = 0, f = 0, q = 0, s = 0, l = 0, c = 0}
-- Marks the algorithms of the call's buckets. Functions of the others are not made.
for i = 1, #KEYS do look[ARGV[7 * i - 6]] = 1 end
