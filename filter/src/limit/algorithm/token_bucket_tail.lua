        -- Rest of token_bucket_mid.lua, after token_state.lua. `lacks[-i]` is the function that spends from bucket i.
        lack, lacks[-i] = open(KEYS[i], state or '', room, unit, speed, has_override)
      end
    end
    lacks[i] = lack
    if lack + price <= room then
      after[i] = lack + price
    elseif flags % 2 == 1 then
      verdict = -now
    end
  end

  if texts then
    for i = 1, last - first + 1 do texts[i] = texts[i] or false end
    return texts
  end
  if verdict > 0 then
    for i = first, last do
      local lack, spent = lacks[i], after[i]
      if spent and spent > lack then
        if lacks[-i] then
          lacks[-i](spent - lack)
        else
          local flags = ARGV[4 * i] + 0
          local speed = (flags - flags % 4) / 4
          local state = struct.pack('>i8i8i8i8', now, spent, ARGV[4 * i - 1], per_key and -speed or speed)
          redis.call('SET', KEYS[i], state, 'PX', math.ceil(spent / speed / 1000))
        end
      end
    end
  end

  local n = #reply
  reply[n + 1] = verdict
  for i = first, last do reply[n + 2 + i - first] = lacks[i] end
end

-- Most calls have one bucket. They need nothing of requests.lua, which would add 5 % to their cost.
if #KEYS == 1 then
  return decide(1, 1) or struct.pack('>i8i8', reply[1], reply[2])
end
