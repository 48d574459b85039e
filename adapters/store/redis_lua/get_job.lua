return {"ok", redis.call("HGET", at .. "jobs", ARGV[6])}
