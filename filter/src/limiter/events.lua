-- Events: appends decisions to the stream KEYS[1]. ARGV: its approximate maximum length, then five for each decision.
for i = 2, #ARGV, 5 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'limit', ARGV[i], 'key', ARGV[i + 1],
    'decision', ARGV[i + 2], 'remaining', ARGV[i + 3], 'retry_after_us', ARGV[i + 4])
end
return 1
