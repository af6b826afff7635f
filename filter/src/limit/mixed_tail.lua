-- Decides one request at a time: keys and arguments as in mixed_head.lua.
local reply = {}

local function is_last(i) return ARGV[7 * i] ~= '' end

local function decide(first, last)
  local seen, spend, full = {}, {}, {}
  owner = ARGV[7 * last]

  for i = first, last do
    local a = 7 * i - 6
    local cost, limit = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
    local used, pay, x, y, takes = look[ARGV[a]](KEYS[i], cost, limit, tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]) or ARGV[a + 5])
    -- A bucket that a larger limit left overdrawn counts as used up.
    used = math.min(used, limit)
    local n = 3 * (i - first)
    seen[n + 1], seen[n + 2], seen[n + 3] = used, x or 0, y or 0
    if used + cost > limit then full[ARGV[a + 1]] = true end
    spend[i] = (cost > 0 or takes) and pay
  end

  for i = first, last do
    if spend[i] and not full['0'] and not full[ARGV[7 * i - 5]] then spend[i]() end
  end

  reply[#reply + 1] = full['0'] and -now or now
  for _, number in ipairs(seen) do reply[#reply + 1] = number end
end
