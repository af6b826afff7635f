-- Heals buckets: of a state that a worker remembers and the state in Redis, the larger stays. Returns a digit for each
-- bucket: 0 where Redis' state is as large, 1 where it was healed, and 2 where the remembered state is void: the bucket
-- was reset or given back to since, its window is over, or other configurations or leases have parts in Redis' state.
-- KEYS: the buckets. ARGV: seven for each: its algorithm's letter; the time of the remembered state in µs; the used part
-- of the limit then; the limit; two arguments as in mixed_head.lua; and of a sliding window the tokens spent in the
-- window before, of others the time in µs at which nothing is left of the state.
-- Beside a bucket are `#reset`, the time in µs of an operator's reset, and `#given`: see give_back.lua.
local reply, max, call = '', math.max, redis.call
for i, key in ipairs(KEYS) do
  local letter, when, had, limit, x, y, z = unpack(ARGV, 7 * i - 6, 7 * i)
  when, had, limit, x, y, z = when + 0, had + 0, limit + 0, x + 0, y + 0, z + 0
  -- While its hash slot moves, a key beside the bucket may be on another node, which is an error.
  local function beside(suffix)
    local text = redis.pcall('GET', key .. suffix)
    return type(text) == 'string' and text or ''
  end
  local status, log, given = 2, beside('#given'), 0
  if (tonumber(beside('#reset')) or 0) < when then
    for j = 1, #log, 16 do
      local its, amount = struct.unpack('>i8i8', log, j)
      if its > when then given = given + amount end
    end
    had = max(had - given, 0)
    if letter == 's' then
      local start, its = now - now % x, when - when % x
      if its < start then had, z = 0, its + x == start and had or 0 end
      local _, _, current, before = look.s(key, 0, limit, x, y)
      if had > current or z > before then
        -- The larger of both counts stays.
        local state = string.format('%.0f %.0f %.0f', start, max(had, current), max(z, before))
        call('SET', key, state, 'PX', math.ceil((start + 2 * x - now) / 1000))
        status = 1
      elseif had + z > 0 then
        status = 0
      end
    elseif letter ~= 't' or #(call('GET', key) or '') <= 32 then
      if letter == 't' then
        had = math.min(had, limit) - max(now - when, 0) * y
      elseif now >= z then
        had = 0
      end
      if had > 0 then
        local used, own, at, j = look[letter](key, 0, limit, x, y), math.min(when, now), 0, 0
        if letter == 'l' then
          -- Nothing is lost if the log has an entry of that time: the worker's own. Entries leave it at any time.
          repeat
            j, at = j + 1, tonumber(string.match(call('LINDEX', key, -1 - j) or '', '%d+')) or 0
          until at <= own or j == 128
          if at >= own then used = had end
        end
        status = 0
        if had > used then
          local _, pay = look[letter](key, had - used, limit, x, y)
          pay()
          status = 1
        end
      end
    end
    if given > 0 and status == 0 then status = 2 end
  end
  reply = reply .. status
end
return reply
