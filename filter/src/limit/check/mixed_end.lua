      -- Rest of mixed_tail.lua, after override.lua.
    end
    if not differs then
      local a = 7 * i - 6
      local cost, limit, more = ARGV[a + 2] + 0, ARGV[a + 3] + 0, ARGV[a + 5]
      local used, pay, x, y, takes = look[ARGV[a]](KEYS[i], cost, limit, ARGV[a + 4] + 0, tonumber(more) or more)
      -- A bucket that a larger limit left overdrawn counts as used up.
      if used > limit then used = limit end
      local n = 3 * (i - first)
      seen[n + 1], seen[n + 2], seen[n + 3] = used, x or 0, y or 0
      if used + cost > limit then full[ARGV[a + 1]] = true end
      spend[i - first + 1] = (cost > 0 or takes) and pay
    end
  end

  if texts then
    for i = 1, last - first + 1 do texts[i] = texts[i] or false end
    return texts
  end
  for i = first, last do
    local pay = spend[i - first + 1]
    if pay and not full['0'] and not full[ARGV[7 * i - 5]] then pay() end
  end

  local n = #reply + 1
  reply[n] = full['0'] and -now or now
  for i = 1, #seen do reply[n + i] = seen[i] end
end

-- Most calls have one bucket. They need nothing of requests.lua.
if #KEYS == 1 then
  return decide(1, 1) or struct.pack('>i8i8i8i8', unpack(reply))
end
