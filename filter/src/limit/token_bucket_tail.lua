        -- Rest of token_bucket_head.lua, after token_state.lua. `lacks[-i]` is the function that spends from bucket i.
        lack, lacks[-i] = open(KEYS[i], state, room, unit, speed)
      end
    end
    lacks[i] = lack
    if lack + price <= room then
      after[i] = lack + price
    elseif flags % 2 == 1 then
      verdict = -now
    end
  end

  for i = first, last do
    local lack, spent = lacks[i], after[i]
    if verdict > 0 and spent and spent > lack then
      if lacks[-i] then
        lacks[-i](spent - lack)
      else
        local speed = (ARGV[4 * i] - ARGV[4 * i] % 4) / 4
        local state = struct.pack('>i8i8i8i8', now, spent, ARGV[4 * i - 1], speed)
        redis.call('SET', KEYS[i], state, 'PX', math.ceil(spent / speed / 1000))
      end
    end
  end

  local n = #reply
  reply[n + 1] = verdict
  for i = first, last do reply[n + 2 + i - first] = lacks[i] end
end
