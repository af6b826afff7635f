-- Override script: sets or removes the override of one key, so that every worker notices at once.
--
-- KEYS: the key's bucket; the key's override, a string; the hash of overrides, but in a Redis Cluster, where it is in
-- another hash slot: there, the caller removes the field.
-- ARGV: the override, '' to remove it; its end in ms since 1970, '0' if it has none; the field: limit and key, without
-- the prefix; optionally the value of this field in the hash, to move it: a string that is there already stays.
-- Returns 1 if there was an override, otherwise 0; -1 if the hash has another value of the field, and nothing is moved.
local bucket, override, hash = KEYS[1], KEYS[2], KEYS[3]
local value, ends_at, field, moved = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if hash and moved and redis.call('HGET', hash, field) ~= moved then return -1 end
local had = redis.call('EXISTS', override)
if value == '' then
  redis.call('DEL', override)
elseif not moved or had == 0 then
  redis.call('SET', override, value)
  if ends_at ~= '0' then redis.call('PEXPIREAT', override, ends_at) end
end
-- A field of the hash, as earlier versions wrote it: the string goes before it.
if hash then had = math.max(had, redis.call('HDEL', hash, field)) end

-- Makes the speed in the state of a token bucket positive, so that its next request reads the override.
local function forget(key)
  if redis.call('TYPE', key).ok ~= 'string' then return end
  local state = redis.call('GET', key)
  if #state < 32 or string.byte(state) ~= 0 then return end
  local speed = struct.unpack('>i8', state, 25)
  if speed < 0 then redis.call('SETRANGE', key, 24, struct.pack('>i8', -speed)) end
end

forget(bucket)
-- A limit of several windows has at most eight.
forget(bucket .. '#token')
for nth = 2, 8 do forget(bucket .. '#token' .. nth) end

return had
