-- Decides requests for limits of any algorithms, one after the other: looks into every bucket of a request, then spends
-- from all or from none.
--
-- KEYS: the buckets.
-- ARGV: seven for each bucket: its algorithm's letter; its group (0: the enforced limits; each shadow limit is a group
--       of its own); the cost; the limit; two arguments of the algorithm: numbers, or a string; and at the last bucket
--       of a request the owner of the request's slots, elsewhere an empty string.
-- Returns for each request now in µs, negative where denied; then three numbers for each of its buckets: the used part
-- of its limit, and two results of the algorithm. A request that fails has an error in place of these; if it is the
-- only request, the whole script fails.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- Owner of the slots that the current request takes.
local owner
-- Functions by algorithm letter: (key, cost, limit, two arguments) -> used, a function that spends, two results,
-- whether to spend even if the cost is 0.
local look = {}
