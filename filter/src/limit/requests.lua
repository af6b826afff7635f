
-- One request after the other. What one of several fails for is told in its place, so that the others are decided.
local first = 1
for i in ipairs(KEYS) do
  if is_last(i) then
    if i - first + 1 == #KEYS then
      decide(first, i)
    else
      local is_done, problem = pcall(decide, first, i)
      if not is_done then
        -- Most servers raise strings. Redis before 7.0 may put the place first, and an error's first word says what it is.
        problem = problem.err or problem
        local place = string.find(problem, '^@') and 'ERR Error running script: ' or ''
        reply[#reply + 1] = {err = place .. problem}
      end
    end
    first = i + 1
  end
end

return reply
