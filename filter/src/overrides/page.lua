-- Reads one page of the overrides, however large the hash is, and changes nothing.
--
-- KEYS: the hash of overrides.
-- ARGV: HSCAN's cursor; the field after which to go on within what HSCAN gives there ('': from its start); and a
--       number that tells this call from others.
-- Returns that number, the µs of this Redis' clock, how many overrides there are, the next call's first two
-- arguments ('0' and '': there is no next page), then fields and values. What is longer than an override can be is
-- cut to one byte more than that.
local MAX_FIELD, MAX_VALUE, MAX_PAGE, COUNT = 256, 256, 16384, 100
-- Redis' own framing of two strings.
local OVERHEAD = 32

local time = redis.call('TIME')
local scanned = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', COUNT)
local entries, size = {}, 0
for i = 1, #scanned[2], 2 do
  local field = string.sub(scanned[2][i], 1, MAX_FIELD + 1)
  local value = string.sub(scanned[2][i + 1], 1, MAX_VALUE + 1)
  if ARGV[2] == '' or field > ARGV[2] then
    entries[#entries + 1] = {field, value}
    size = size + #field + #value + OVERHEAD
  end
end
if size > MAX_PAGE then
  -- Of a small hash, HSCAN gives everything at once. Sorted, so that no change in between can hide a field that stays.
  table.sort(entries, function(a, b) return a[1] < b[1] end)
end

local reply = {tonumber(ARGV[3]), time[1] * 1000000 + time[2], redis.call('HLEN', KEYS[1]), scanned[1], ''}
size = 0
for i, entry in ipairs(entries) do
  size = size + #entry[1] + #entry[2] + OVERHEAD
  if size > MAX_PAGE then
    reply[4], reply[5] = ARGV[1], entries[i - 1][1]
    break
  end
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = entry[2]
end
return reply
