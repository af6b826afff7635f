
-- From here on nothing is written. Who looks may have other limits in mind than the proxies have, and what is set
-- right for those would be wrong for these. Only a log's entries that a clock which was set back has left in the future
-- are moved, as they would be for everybody.
local server = redis
local redis = {call = function(command, ...)
  if command == 'SET' or command == 'ZADD' or command == 'PEXPIRE' then return end
  -- Of slots, none is to be set right.
  if command == 'ZREVRANGE' then return {} end
  return server.call(command, ...)
end}
