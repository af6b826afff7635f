-- Heartbeat of a worker: grants it a share of each of its limits. The shares of all workers are at most 1 together: a
-- share that shrinks is reserved until its worker says that it holds less, and only then may others grow.
-- KEYS: for each limit the registry of its workers, a string: the time at which it was made, in ms of this Redis' clock;
--       then for each worker its id of 8 bytes, the time at which it was last seen, its load and its reserved share. All
--       numbers are big-endian and have 8 bytes.
-- ARGV: the worker's id; the ms after which a worker that is not seen is forgotten; then three for each limit: the
--       worker's load, which is the tokens per 1,000 s that its requests ask for; the parts of the limit that it holds;
--       and the limit's number of parts.
-- Returns the largest number of workers of a limit, then the parts of each limit that the worker may hold from now on.
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local time = redis.call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local id, ttl = ARGV[1], ARGV[2] + 0
local reply = {0}

for i, key in ipairs(KEYS) do
  local load, held, parts = ARGV[3 * i] + 0, ARGV[3 * i + 1] + 0, ARGV[3 * i + 2] + 0
  local state, made, newest, workers = redis.call('GET', key) or '', now, 0, {}
  if #state >= 8 then made = min(struct.unpack('>i8', state), now) end
  for at = 9, #state - 31, 32 do
    local seen, its, share = struct.unpack('>i8dd', state, at + 8)
    workers[#workers + 1] = {string.sub(state, at, at + 7), seen, its, share}
    newest = max(newest, seen)
    if string.sub(state, at, at + 7) == id then load = (load + its) / 2 end
  end
  -- Time without Redis does not count: nobody could be seen. Neither does a step of the clock.
  local away = now - newest
  if away <= ttl / 2 and away >= 0 then away = 0 end

  local all, number, others = load, 1, {}
  for _, worker in ipairs(workers) do
    worker[2] = worker[2] + away
    if worker[1] ~= id and now - worker[2] <= ttl then
      others[#others + 1] = worker
      all, number = all + worker[3], number + 1
    end
  end
  -- A tenth of the limit is spread evenly, so that a worker whose traffic begins has something.
  local function wanted(load)
    return parts * (0.1 / number + 0.9 * (all > 0 and load / all or 1 / number)) + 1e-9
  end
  -- What others have reserved; and the same, with the whole parts that they want as well.
  local reserved, claimed = 0, 0
  for _, worker in ipairs(others) do
    reserved = reserved + worker[4]
    claimed = claimed + max(worker[4], floor(wanted(worker[3])) / parts)
  end
  local free, unclaimed = floor((1 - reserved) * parts + 1e-6), floor((1 - claimed) * parts + 1e-6)
  local want = wanted(load)
  local granted = max(min(floor(want), free), 0)
  if ceil(want - 2e-9) <= min(free, unclaimed) then granted = max(granted, ceil(want - 2e-9)) end
  -- Workers that a new registry does not know yet hold their shares: none grows until all had time to say so.
  if now - made < ttl then granted = min(granted, held) end

  local texts = {struct.pack('>i8', made), id .. struct.pack('>i8dd', now, load, max(granted, held) / parts)}
  for _, worker in ipairs(others) do
    texts[#texts + 1] = worker[1] .. struct.pack('>i8dd', worker[2], worker[3], worker[4])
  end
  redis.call('SET', key, table.concat(texts), 'PX', 10 * ttl)
  reply[1], reply[i + 1] = max(reply[1], number), granted
end
return reply
