-- Override of bucket i's key: a string beside the buckets of its limit, named as the first of them and `#override`.
-- The caller applies overrides. A script compares their texts with those that the caller has applied, and decides no
-- request whose caller has applied others. Of several buckets of one key, the first reads.
local key = KEYS[i]
local name, suffixes = string.gsub(key, '#%l[^#:]*$', '#override')
if suffixes == 0 then name = key .. '#override' end
if name ~= of then
  local text = redis.pcall('GET', name) or ''
  if text ~= '' then
    if type(text) == 'table' then
      -- A value of another type is malformed, as is a text that is too long. Any other error is raised here.
      if not string.find(text.err, 'WRONGTYPE', 1, true) then redis.call('GET', name) end
      text = 'not a string'
    end
    text = string.sub(text, 1, 1025)
  end
  of, has_override, differs = name, text ~= '', text ~= (ARGV[width * #KEYS + i] or '')
  if differs then
    texts = texts or {}
    texts[i - first + 1] = text
  end
end
