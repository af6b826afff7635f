
-- One request after the other. What one of several fails for is told in its place, so that the others are decided.
local first, is_plain = 1, true
for i = 1, #KEYS do
  if is_last(i) then
    if i - first + 1 == #KEYS then
      decide(first, i)
    else
      local is_done, problem = pcall(decide, first, i)
      if not is_done then
        -- Most servers raise strings. Redis before 7.0 may put the place first, and an error's first word says what it is.
        problem = problem.err or problem
        local place = string.find(problem, '^@') and 'ERR Error running script: ' or ''
        reply[#reply + 1], is_plain = {err = place .. problem}, false
      end
    end
    first = i + 1
  end
end

-- Numbers go as one string, eight bytes each: Redis puts an array in a buffer of its own, and writes that by itself.
return is_plain and struct.pack('>' .. string.rep('i8', #reply), unpack(reply)) or reply
