-- Limiter of `nginx-lua`: each request takes a token from its user's bucket in Redis, over a keep-alive connection.
local script = [==[@script@]==]
local body = '@body@'
local sha

local function line(socket)
  local text, why = socket:receive('*l')
  if not text then error(why) end
  return text
end

local function learn(socket)
  socket:send({'*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$', #script, '\r\n', script, '\r\n'})
  line(socket)
  sha = line(socket)
end

function limit()
  local socket = ngx.socket.tcp()
  local connected, why = socket:connect('@redis-ip@', @redis-port@)
  if not connected then error(why) end
  if not sha then learn(socket) end
  local key = 'nginx-lua:' .. ngx.var.http_x_user_id
  socket:send({'*6\r\n$7\r\nEVALSHA\r\n$40\r\n', sha, '\r\n$1\r\n1\r\n$', #key, '\r\n', key,
    '\r\n$4\r\n3600\r\n$12\r\n360000000000\r\n'})
  local reply = line(socket)
  socket:setkeepalive(3600000, 1024)
  if reply == ':0' then return ngx.exit(429) end
  if reply ~= ':1' then error(reply) end
  ngx.header.content_length = #body
  ngx.print(body)
  return ngx.exit(200)
end
