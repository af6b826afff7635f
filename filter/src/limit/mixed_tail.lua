local reply, spend, full = {now}, {}, {}

for i, key in ipairs(KEYS) do
  local a = 6 * i - 4
  local cost, limit = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local used, pay, x, y, takes = look[ARGV[a]](key, cost, limit, tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]) or ARGV[a + 5])
  -- A limit that was larger leaves its bucket used up and no worse.
  used = math.min(used, limit)
  reply[3 * i - 1], reply[3 * i], reply[3 * i + 1] = used, x or 0, y or 0
  if used + cost > limit then full[ARGV[a + 1]] = true end
  spend[i] = (cost > 0 or takes) and pay
end

if full['0'] then
  reply[1] = -now
else
  for i in ipairs(KEYS) do
    if spend[i] and not full[ARGV[6 * i - 3]] then spend[i]() end
  end
end

return reply
