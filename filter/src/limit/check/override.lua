-- Override of bucket i's key: a string beside the buckets of its limit, named as the first of them and `#override`.
-- The caller applies overrides. A script compares their texts with those that the caller has applied, and decides no
-- request whose caller has applied others. Of several buckets of one key, the first reads.
local key = KEYS[i]
local name, suffixes = string.gsub(key, '#%l[^#:]*$', '#override')
if suffixes == 0 then name = key .. '#override' end
if name ~= of then
  local text, applied = redis.pcall('GET', name) or '', ARGV[width * #KEYS + i] or ''
  of, has_override = name, text ~= ''
  if has_override then
    if type(text) == 'table' then
      if string.find(text.err, 'non local key', 1, true) then
        -- The hash slot is moving to another node of a cluster, and the override may be there: the caller's is believed.
        text = applied
      elseif string.find(text.err, 'WRONGTYPE', 1, true) then
        -- A value of another type is malformed, as is a text that is too long.
        text = 'not a string'
      else
        -- Any other error is raised here.
        redis.call('GET', name)
      end
    end
    text = string.sub(text, 1, 1025)
  end
  differs = text ~= applied
  if differs then
    texts = texts or {}
    texts[i - first + 1] = text
  end
end
