-- End of a script for a front end that cannot pass nested arrays on: its reply as RESP in one string, behind the last
-- argument, by which the reply is recognised.
local id, line = table.remove(ARGV), string.char(13, 10)
local function resp(value)
  local kind = type(value)
  if kind == 'number' then return ':' .. string.format('%d', value) .. line end
  if kind == 'string' then return '$' .. #value .. line .. value .. line end
  if kind ~= 'table' then return '$-1' .. line end
  if value.ok then return '+' .. value.ok .. line end
  if value.err then return '-' .. string.gsub(value.err, '%c', ' ') .. line end
  local all = '*' .. #value .. line
  for i = 1, #value do all = all .. resp(value[i]) end
  return all
end
return ':' .. id .. line .. resp(run())
