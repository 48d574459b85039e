-- The end of a migration. ARGV[1] and [2]: what the schema key holds before and after it.
if redis.call("GET", KEYS[1]) == ARGV[1] then
  redis.call("SET", KEYS[1], ARGV[2])
end
return {"ok", redis.call("GET", KEYS[1])}
