return {"ok", redis.call("HGET", at .. "documents", ARGV[6])}
