-- Overrides page script: reads one page of the overrides hash, at most about 16 KiB. Read-only.
--
-- KEYS: the hash of overrides.
-- ARGV: HSCAN's cursor; the last field already read of that cursor's result ('': none); a serial number.
-- Returns the serial number, this Redis' clock in µs since 1970, the number of fields in the hash, the next page's
-- cursor and last field ('0' and '' after the last page), then fields and values in turn. Fields and values above the
-- maximal length are cut to one byte more than the maximum: the reader rejects them.
local MAX_FIELD, MAX_VALUE, MAX_PAGE, COUNT = 256, 1024, 16384, 100
-- Bytes of RESP framing for two strings.
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
  -- HSCAN returns all of a small hash at once. Sorting keeps the paging stable: a field that is added or removed
  -- between two pages hides no other field.
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
