
-- From here on nothing is written. Who looks may have other limits in mind than the proxies have, and what is set
-- right for those would be wrong for these. Entries that a list would be rid of are passed over; only those that a
-- clock which was set back has left in the future are moved, as they would be for everybody.
local server, cut = redis, {}
local redis = {call = function(command, ...)
  local key, index = ...
  if command == 'SET' or command == 'ZADD' or command == 'PEXPIRE' then
    return
  elseif command == 'LTRIM' then
    cut[key] = index
  elseif command == 'LLEN' then
    return server.call(command, key) - (cut[key] or 0)
  elseif command == 'LINDEX' and index >= 0 then
    return server.call(command, key, index + (cut[key] or 0))
  else
    return server.call(command, ...)
  end
end}
