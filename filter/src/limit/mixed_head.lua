-- Decides requests, one after the other, whose limits are of any algorithms: looks into every bucket of a request, then
-- spends from all or from none.
--
-- KEYS: a bucket each.
-- ARGV: seven for each bucket: its algorithm's letter, its group (0: the enforced limits; each shadow limit is one of its
--       own), cost, limit, and two more of the algorithm's own: numbers, or a string; and at the last bucket of a request
--       the request's owner, else nothing.
-- Returns for each request now in µs, negative where denied; then three for each of its buckets: what is used of its
-- limit, and two more. In place of these an error where it failed; a request that is alone fails as a whole.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- In whose name slots are taken.
local owner
-- By letter: (key, cost, limit, two more) -> used, how to spend, two more to return, whether to spend even no cost.
local look = {}
