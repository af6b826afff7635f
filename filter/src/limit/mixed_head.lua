-- Decides a request's limits, of any algorithms: looks into every bucket, then spends from all or from none.
--
-- KEYS: a bucket each.
-- ARGV: the request's holder; then six for each bucket: its algorithm's letter, its group (0: the enforced limits;
--       each shadow limit is one of its own), cost, limit, and two more of the algorithm's own: numbers, or a string.
-- Returns now in µs, negative where denied; then three for each bucket: what is used of its limit, and two more.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- By letter: (key, cost, limit, two more) -> used, how to spend, two more to return, whether to spend even no cost.
local look = {}
