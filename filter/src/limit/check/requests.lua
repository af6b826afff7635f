-- Decides the requests one after the other. A request that fails among several has its error in its place in the reply,
-- and one whose overrides the caller has not applied has their texts; the others are decided.
local first, is_plain, told = 1, true, 0
for i = 1, #KEYS do
  if is_last(i) then
    if i - first + 1 == #KEYS then
      local texts = decide(first, i)
      if texts then return texts end
    else
      local is_done, problem = pcall(decide, first, i)
      if is_done and problem then
        for _, text in ipairs(problem) do told = told + (text and #text or 0) end
        -- Beyond 8 KiB of texts the callers are told none: a reply is bounded. They ask again, each in a call of its own.
        if told > 8192 then
          for i = 1, #problem do problem[i] = false end
        end
        reply[#reply + 1], is_plain = problem, false
      elseif not is_done then
        -- Most servers raise strings. Redis before 7.0 may begin with a position, but an error's first word is its
        -- code.
        problem = problem.err or problem
        local place = string.find(problem, '^@') and 'ERR Error running script: ' or ''
        reply[#reply + 1], is_plain = {err = place .. problem}, false
      end
    end
    first = i + 1
  end
end

-- Numbers are packed into one string, eight bytes each: Redis would put an array in a separate buffer, and write that
-- separately.
return is_plain and struct.pack('>' .. string.rep('i8', #reply), unpack(reply)) or reply
